"""Files and folders that appear whole: readers see the old content or the new, never half of it."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place: readers see the old file or the new, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a small text file atomically."""
    atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


@contextmanager
def in_place_of(target: Path) -> Iterator[Path]:
    """Within: an empty folder beside `target` to fill; afterwards it takes target's place. On an error target stays as it was."""
    fresh = target.with_name(f".{target.name}.new")
    remove(fresh)
    fresh.mkdir(parents=True)
    try:
        yield fresh
        _swap(fresh, target)
    finally:
        remove(fresh)


def replace_with(source: Path, target: Path) -> None:
    """Put a file or folder in the place of `target`, which is never half there; `source` stays (hard links where possible)."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.new")
    remove(fresh)
    if source.is_dir():
        shutil.copytree(source, fresh, copy_function=link_or_copy)
    else:
        link_or_copy(source, fresh)
    _swap(fresh, target)


def _swap(fresh: Path, target: Path) -> None:
    """Two renames: at any moment there is either the whole old content, or nothing (for an instant), or the whole new one."""
    old = target.with_name(f".{target.name}.old")
    remove(old)
    if target.exists():
        os.replace(target, old)
    os.replace(fresh, target)
    remove(old)


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """A hard link where the file system allows it, else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def empty(folder: Path) -> None:
    """An empty folder in the place of whatever is there."""
    with in_place_of(folder):
        pass


def remove(path: Path) -> None:
    """Delete a file or folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
