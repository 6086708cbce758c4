"""Texts from files: lines with a label and without, or a file for each."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ood.config.text import Documents, Lines, TextChain, TextSource, Tsv
from ood.data.items import ItemSet
from ood.data.reading import shown
from ood.data.sources.folders import LISTED, evenly
from ood.data.texts import Texts
from ood.errors import InputError

BOM = "\ufeff"


def load(source: TextSource, chain: TextChain, rng: np.random.Generator, *, skip: bool = False) -> ItemSet:
    """All texts, or a random `limit` of them spread evenly over the labels; labels in the order of the sorted names, -1 of texts without.

    Args:
        skip: leave files out that aren't in UTF-8.

    Raises:
        InputError: no such file, not UTF-8, a line without a label, a wanted class that isn't there, nothing in it.
    """
    found, skipped = rows(source, skip=skip)
    classes = sorted({label for label, _, _ in found if label is not None})
    numbers = {name: i for i, name in enumerate(classes)}
    labels = np.array([-1 if label is None else numbers[label] for label, _, _ in found], np.int64)
    chosen = np.arange(len(found))
    if source.limit is not None and source.limit < len(found):
        chosen = evenly(labels, source.limit, rng)
    names = [found[i][1] for i in chosen]
    place = source.path.resolve()
    return ItemSet(
        Texts([found[i][2] for i in chosen], chain), labels[chosen], names, [(f"text:{place}/{name}",) for name in names], classes,
        skipped=skipped,
    )  # fmt: skip


def listed(source: TextSource) -> dict[str, list[str]]:
    """Label -> the names of its texts, sorted; one label, '', where there are none.

    Raises:
        InputError: as `load`.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for label, name, _ in rows(source, skip=True)[0]:
        found[label or ""].append(name)
    return dict(sorted(found.items()))


Row = tuple[str | None, str, str]  # label, name, text


def rows(source: TextSource, *, skip: bool = False) -> tuple[list[Row], dict[str, int]]:
    """Every text of a source, and why -> how many were left out."""
    skipped: dict[str, int] = defaultdict(int)
    match source:
        case Tsv():
            found = list(_labelled(source, skipped))
        case Lines():
            found = list(_plain(source))
        case Documents():
            found = list(_files(source, skipped, skip=skip))
    wanted = getattr(source, "classes", None)
    if wanted is not None:
        there = {label for label, _, _ in found}
        for name in wanted:
            if name not in there:
                raise InputError(f"{source.path}: no text of class {name!r}. It has: {', '.join(sorted(filter(None, there)))[:500]}.")
        if others := sum(label not in wanted for label, _, _ in found):
            skipped["of other classes"] += others
        found = [row for row in found if row[0] in wanted]
    if not found:
        raise InputError(f"{source.path}: no text in it. Correct the path, or take the set out.")
    return found, dict(skipped)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file that aren't empty, by number from 1; only a line feed ends one, with or without a carriage return."""
    for number, line in enumerate(_content(path).split("\n"), start=1):
        text = line.removesuffix("\r")
        if text.strip():
            yield number, text


def _content(path: Path) -> str:
    if not path.is_file():
        raise InputError(f"{path}: no such file. Put the texts there, or correct the path.")
    try:
        return path.read_bytes().decode("utf-8").removeprefix(BOM)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not in UTF-8 ({error.reason} at byte {error.start}). Save it so.") from None


def _labelled(source: Tsv, skipped: dict[str, int]) -> Iterator[Row]:
    for number, line in _lines(source.path):
        label, tab, text = line.partition("\t")
        if not tab or not label.strip():
            raise InputError(f"{source.path}, line {number}: no label before a tab. Wanted is: label, tab, text; for texts without: lines.")
        if text.strip():
            yield shown(label.strip()), f"{source.path.name}:{number}", text.strip()
        else:
            skipped["without text"] += 1


def _plain(source: Lines) -> Iterator[Row]:
    for number, line in _lines(source.path):
        yield None, f"{source.path.name}:{number}", line.strip()


def _files(source: Documents, skipped: dict[str, int], *, skip: bool) -> Iterator[Row]:
    if not source.path.is_dir():
        raise InputError(f"{source.path}: no such folder. Put the texts there as {source.path}/<class>/<name>.txt, or correct the path.")
    entries = sorted(entry for entry in source.path.iterdir() if not entry.name.startswith("."))
    folders = [entry for entry in entries if entry.is_dir()]
    if folders and (loose := len(entries) - len(folders)):
        skipped["beside the class folders"] += loose
    labels, wrong = [shown((folder if folders else folder.resolve()).name) for folder in folders or [source.path]], []
    if len(set(labels)) < len(labels):
        raise InputError(f"{source.path}: two folders' names are shown alike. Rename one of them.")
    for label, folder in zip(labels, folders or [source.path], strict=True):
        empty = True
        for path in sorted(path for path in folder.rglob("*") if not path.is_dir()):
            if any(part.startswith(".") for part in path.relative_to(folder).parts):
                skipped["hidden"] += 1
                continue
            if path.suffix.lower() != ".txt":
                skipped["not .txt"] += 1
                continue
            try:
                text = " ".join(_content(path).split())
            except InputError as error:
                wrong.append(str(error))
                continue
            if text:
                empty = False
                yield label, shown(path.relative_to(source.path).as_posix()), text
            else:
                skipped["without text"] += 1
        if empty and not wrong:
            raise InputError(f"{folder}: no text in it. Add some, or remove the folder.")
    if wrong and not skip:
        more = f"\n... and {len(wrong) - LISTED} more" if len(wrong) > LISTED else ""
        raise InputError("\n".join(wrong[:LISTED]) + more + "\nTo leave such files out and count them: data.unreadable: skip.")
    if wrong:
        skipped["unreadable"] += len(wrong)
