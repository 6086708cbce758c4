"""Recipes: overlays on params.yaml. Only the values that a recipe names change; every other line, comments too, stays as it is.

A recipe is a YAML file below recipes/ with the layout of params.yaml. It begins with a comment: what it reproduces in one line, then
expected time and figures and where those come from. A mapping whose keys are free names (runs, sets of a role, models) is replaced as
a whole, as is a source of images; sections are merged key by key.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, get_args

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from ood.closure import ROOT
from ood.config import Section
from ood.config.whole import SECTIONS
from ood.errors import InputError

RECIPES = ROOT / "recipes"
PRESETS = RECIPES / "presets"  # smaller overlays, on top of a recipe: the test sets of a paper
FOR = "For: "  # a preset's line that names the recipes it goes with
AS = "As: "  # a recipe's line that names the recipe whose values it has but for its own
REMARK = r" +# .*$"
MARK = "# Recipe: "  # how a params.yaml that holds a recipe begins


def available(folder: Path = RECIPES) -> dict[str, str]:
    """Name -> what it reproduces, one line each."""
    return {path.stem: header(path.read_text(encoding="utf-8"))[0] for path in sorted(folder.glob("*.yaml"))}


def header(text: str) -> list[str]:
    """The comment lines that a recipe begins with, without their marks."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").removeprefix(" "))
    return lines


def overlay(name: str, folder: Path = RECIPES) -> str:
    """A recipe's text; of one that is another on other data (its line 'As:') with that one's below it.

    Raises:
        InputError: no such recipe.
    """
    own = _text(name, folder)
    base = next((line.removeprefix(AS) for line in header(own) if line.startswith(AS)), None)
    if base is None:
        return own
    below = _text(base, folder)
    values = "\n".join(re.sub(REMARK, "", line) for line in below.splitlines()[len(header(below)) :])  # they are about other data
    return "\n".join([*(f"# {line}".rstrip() for line in header(own)), *_changed(values, own)]) + "\n"


def _text(name: str, folder: Path) -> str:
    path = folder / f"{name}.yaml"
    if not path.is_file():
        what = "recipe" if folder == RECIPES else "preset"
        raise InputError(f"no {what} {name!r}. There are: {', '.join(available(folder))} (`python -m stages recipe --list`).")
    return path.read_text(encoding="utf-8")


def apply(params: str, recipe: str, name: str) -> str:
    """The text of params.yaml with a recipe in it.

    Raises:
        InputError: params.yaml holds a recipe already.
    """
    if params.startswith(MARK):
        other = params.splitlines()[0].removeprefix(MARK)
        raise InputError(
            f"params.yaml holds the recipe {other!r} already. Bring the shipped one back first: git checkout params.yaml dvc.yaml"
        )
    top = [f"{MARK}{name}", *(f"# {line}".rstrip() for line in header(recipe)), "#"]
    return "\n".join([*top, *_changed(params, recipe)]) + "\n"


def add(params: str, preset: str, name: str) -> str:
    """The text of a recipe's params.yaml with a preset on top.

    Raises:
        InputError: the preset is for other ID classes (its line 'For:'): test sets that are OOD for one are ID for another.
    """
    recipe = params.splitlines()[0].removeprefix(MARK).split(" with ")[0]
    fit = next((line for line in header(preset) if line.startswith(FOR)), FOR).removeprefix(FOR).split(", ")
    if recipe not in fit:
        named = " and ".join(fit) or "no recipe (its line 'For:' is missing)"
        raise InputError(f"the preset {name!r} is for {named}, not for {recipe}. Name its test sets in params.yaml by hand.")
    first, *rest = _changed(params, preset)
    top = [f"{first} with {name}", *(f"# {line}".rstrip() for line in header(preset)), "#"]
    return "\n".join([*top, *rest]) + "\n"


def _changed(params: str, recipe: str) -> list[str]:
    ours, theirs = _Text(params), _Text(recipe)
    # From the end, and what replaces lines before what is put in front of them: else the one would overwrite the other.
    edits = sorted(_edits(ours, theirs, ours.data, theirs.data, SECTIONS, ()), key=lambda edit: (edit.start, edit.end), reverse=True)
    lines = params.splitlines()
    for edit in edits:
        lines[edit.start : edit.end] = edit.lines
    return lines


def list_metrics(dvc: str, models: list[str]) -> str:
    """The text of dvc.yaml whose top-level `metrics` lists these models' files.

    Raises:
        InputError: there is no such list.
    """
    lines = dvc.splitlines()
    if "metrics:" not in lines:
        raise InputError("dvc.yaml: no top-level list `metrics:`. Bring the shipped one back: git checkout dvc.yaml")
    start = lines.index("metrics:") + 1
    end = next((i for i in range(start, len(lines)) if not lines[i].startswith("  - ")), len(lines))
    lines[start:end] = [f"  - metrics/{model}.json" for model in models]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class _Edit:
    """Lines start to end (exclusive) become `lines`."""

    start: int
    end: int
    lines: list[str]


class _Text:
    """YAML text, its content, and where in it every key's block of lines is."""

    def __init__(self, text: str):
        self.lines = text.splitlines()
        self.data: CommentedMap = YAML().load(text)
        self.blocks: dict[tuple[str, ...], tuple[int, int]] = {}
        self._place(self.data, (), len(self.lines))

    def _place(self, node: CommentedMap, path: tuple[str, ...], end: int) -> None:
        starts = [node.lc.key(key)[0] for key in node]
        for key, start, following in zip(node, starts, [*starts[1:], end], strict=True):
            last = following
            # Blank lines and comments at the end of a block introduce what comes next.
            while last > start + 1 and self.lines[last - 1].strip()[:1] in ("", "#"):
                last -= 1
            self.blocks[*path, key] = (start, last)
            if _is_block(node[key]):
                self._place(node[key], (*path, key), last)

    def block(self, path: tuple[str, ...]) -> list[str]:
        """The lines of a key and its value."""
        start, end = self.blocks[path]
        return self.lines[start:end]


def _edits(ours: _Text, theirs: _Text, old: CommentedMap, new: CommentedMap, kinds: Any, path: tuple[str, ...]) -> Iterator[_Edit]:
    """What to change in `ours` so that it holds `theirs`; kinds: key -> type of what is below it."""
    for key, value in new.items():
        here, kind = (*path, key), _section(kinds.get(key))
        both = isinstance(value, CommentedMap) and isinstance(old.get(key), CommentedMap)
        if kind and both and _is_block(old[key]) and _is_block(value):
            fields = {name: field.annotation for name, field in kind.model_fields.items()}
            yield from _edits(ours, theirs, old[key], value, fields, here)
        elif key in old:
            start, end = ours.blocks[here]
            merged = _flow({**old[key], **value}) if kind and both else None
            yield _Edit(start, end, _with_comment(theirs.block(here), ours.lines[start:end], merged))
        else:
            end = ours.blocks[path][1] if path else len(ours.lines)
            yield _Edit(end, end, theirs.block(here))


def _is_block(value: Any) -> bool:
    """Whether a value is a mapping with a line for each key."""
    return isinstance(value, CommentedMap) and len(value) > 0 and not value.fa.flow_style()


def _section(kind: Any) -> type[Section] | None:
    """The one Section that a type stands for, if it does: X, or X | None; not a choice between several, not a mapping."""
    options = [option for option in get_args(kind) if option is not type(None)] if get_args(kind) else [kind]
    found = options[0] if len(options) == 1 else None
    return found if isinstance(found, type) and issubclass(found, Section) else None


def _flow(value: dict) -> str:
    stream = StringIO()
    yaml = YAML()
    yaml.default_flow_style, yaml.width = True, 10_000
    yaml.dump(value, stream)
    return stream.getvalue().strip()


def _with_comment(new: list[str], old: list[str], merged: str | None) -> list[str]:
    """A recipe's lines for a key; a value on one line keeps the comment that explains the key, after the recipe's own."""
    if merged is not None:
        new = [f"{new[0][: new[0].index(':')]}: {merged}"]
    if len(new) > 1 or len(old) > 1:
        return new
    value, own = _split(new[0])
    _, explained = _split(old[0])
    comment = "; ".join(part for part in (own, explained) if part)
    return [f"{value:<27} # {comment}" if comment else value]


def _split(line: str) -> tuple[str, str]:
    """A line's value and its comment; no value of params.yaml holds ' #'."""
    value, _, comment = line.partition(" #")
    return value.rstrip(), comment.strip()
