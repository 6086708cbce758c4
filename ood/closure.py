"""Which files of this repository a module uses: the import closure, read from the source without running it.

One answer for two questions: whose change makes a stage stale (stages/check.py), and whose makes a checkpoint useless.
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from ood.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("ood", "stages")
LOCK = "requirements.lock"
BESIDE = {".css", ".jinja", ".js"}  # what a module reads of its own folder


def closure(entry: str) -> list[str]:
    """Files that `entry` (a path like 'stages/um.py') imports, itself included, function-level imports too; sorted paths.

    And the templates that lie beside them.

    Raises:
        InputError: one of them isn't valid Python.
    """
    seen: set[str] = set()
    waiting = [entry, *(f"{p}/__init__.py" for p in map(str, Path(entry).parents) if (ROOT / p / "__init__.py").is_file())]
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            waiting.extend(_imports(path))
    templates = {path for folder in {Path(path).parent for path in seen} for path in (ROOT / folder).glob("*.*") if path.suffix in BESIDE}
    return sorted(seen | {path.relative_to(ROOT).as_posix() for path in templates})


def hashes(entry: str) -> dict[str, str]:
    """What `entry` is made of, its closure and the libraries' lock: path -> sha256."""
    files = [LOCK, *closure(entry)] if (ROOT / LOCK).is_file() else closure(entry)
    return {path: _sha256(path) for path in files}


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """A tree's nodes without what only type checkers read."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING"):
            yield child
            yield from _running(child)


@cache
def _sha256(path: str) -> str:
    return hashlib.sha256((ROOT / path).read_bytes()).hexdigest()


@cache
def _imports(path: str) -> frozenset[str]:
    try:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise InputError(f"{path}, line {error.lineno}: {error.msg}. Correct it: nothing can tell what it imports.") from None
    names: set[str] = set()
    for node in _running(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    files: set[str] = set()
    for name in names:
        parts = name.split(".")
        if parts[0] in PACKAGES:
            # Importing a.b.c runs a/__init__.py and a/b/__init__.py as well.
            for depth in range(1, len(parts) + 1):
                stem = "/".join(parts[:depth])
                files.update(f for f in (f"{stem}.py", f"{stem}/__init__.py") if (ROOT / f).is_file())
    return frozenset(files)
