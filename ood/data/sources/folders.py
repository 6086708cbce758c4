"""Image folders in the layout of torchvision.datasets.ImageFolder: <path>/<class>/<image>; outliers also as <path>/<image>."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ood.config.data import Data, Folder, Shifted
from ood.data import alike
from ood.data.chain import ImageChain
from ood.data.items import ItemSet
from ood.data.reading import UnreadableError, read_image, shown, suffixes
from ood.data.streamed import FileImages
from ood.errors import InputError

LISTED = 20  # bad files that an error names
HIDDEN = ("@eaDir", "__MACOSX", "$RECYCLE.BIN", "lost+found")  # what systems put beside pictures, thumbnails of them among it; and .names


@dataclass
class Listing:
    """What is in a folder. classes: name -> its files. skipped: why -> how many files were left out."""

    classes: dict[str, list[Path]] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=lambda: defaultdict(int))


def load(
    source: Folder, data: Data, chain: ImageChain, rng: np.random.Generator, tick: Callable[[], None], *, looks: bool = False
) -> ItemSet:
    """All images, or a random `limit` of them spread evenly over the classes; labels in the order of the sorted class names.

    Args:
        looks: write down what they look like, where they are large enough to tell.

    Raises:
        InputError: as list_images; files that can't be read, all of them listed, unless data.unreadable says to skip them.
    """
    return _read(source, list_images(source), data, chain, rng, tick, looks=looks and chain.config.size >= alike.LEAST)


def load_known(
    source: Shifted, classes: list[str], data: Data, chain: ImageChain, rng: np.random.Generator, tick: Callable[[], None]
) -> ItemSet:
    """As load, but of the ID classes alone, with their labels."""
    listing = known(source, classes)
    found = _read(source, listing, data, chain, rng, tick)
    return replace(found, labels=np.array([classes.index(name) for name in listing.classes], np.int64)[found.labels], classes=classes)


def known(source: Shifted, classes: list[str]) -> Listing:
    """As list_images, of those of the folder's classes that are ID classes, by name (or by number, see Shifted).

    Raises:
        InputError: as list_images; none of them is an ID class; a number that counts nothing.
    """
    listing = list_images(source)
    found = listing.classes
    if source.numbered is not None:
        counted = [folder.name for folder in _folders(source.numbered)]
        odd = next((name for name in found if not (name.isdecimal() and int(name) < len(counted))), None)
        if odd is not None:
            raise InputError(
                f"{source.path}: {odd} is no number below {len(counted)}, the classes in {source.numbered}. Correct one of the two."
            )
        if len({int(name) for name in found}) < len(found):
            raise InputError(f"{source.path}: a number stands twice there, with zeros in front. Leave one folder for each class.")
        found = {shown(counted[int(name)]): files for name, files in found.items()}
    others = {name: files for name, files in found.items() if name not in classes}
    if len(others) == len(found):
        raise InputError(f"{source.path}: none of its folders is called as an ID class ({', '.join(classes[:5])}, ...). Rename them.")
    if others:
        listing.skipped["of no ID class"] += sum(map(len, others.values()))
    return Listing({name: files for name, files in found.items() if name in classes}, listing.skipped)


def _read(
    source: Folder,
    listing: Listing,
    data: Data,
    chain: ImageChain,
    rng: np.random.Generator,
    tick: Callable[[], None],
    *,
    looks: bool = False,
) -> ItemSet:
    classes, skipped = list(listing.classes), dict(listing.skipped)
    files = [(path, label) for label, name in enumerate(classes) for path in listing.classes[name]]
    if source.limit is not None and source.limit < len(files):
        files = [files[i] for i in evenly(np.array([label for _, label in files]), source.limit, rng)]
    lazy = FileImages([path.as_posix() for path, _ in files], chain)
    rows: dict[int, np.ndarray] = {}
    seen: dict[int, bytes] = {}

    def note(index: int, native: np.ndarray) -> None:
        if looks:
            seen[index] = alike.look(native)
        if not data.stream:
            rows[index] = native

    wrong = lazy.look(data.max_pixels, tick, note) if data.stream else _decode([path for path, _ in files], data, chain, note, tick)
    if wrong:
        _complain(list(wrong.values()), skip=data.unreadable == "skip")
        skipped["unreadable"] = len(wrong)
        fine = np.array([i for i in range(len(files)) if i not in wrong], np.int64)
        lazy, files = lazy.take(fine), [files[i] for i in fine]
        if left_out := set(range(len(classes))) - {label for _, label in files}:
            raise InputError(f"{source.path}: no image of class {classes[min(left_out)]!r} can be read. Replace them, or remove the class.")
    images = lazy if data.stream else np.stack([rows[i] for i in sorted(rows)])
    names = [_name(path, source.path) for path, _ in files]
    keys = [(f"file:{path.resolve()}",) for path, _ in files]
    labels = np.array([label for _, label in files], np.int64)
    found = alike.looks([seen[i] for i in sorted(seen)]) if looks else None
    return ItemSet(images, labels, names, keys, classes, skipped=skipped, looks=found)


def _decode(
    paths: list[Path], data: Data, chain: ImageChain, note: Callable[[int, np.ndarray], None], tick: Callable[[], None]
) -> dict[int, str]:
    """Hand each native image to `note`; index -> what is wrong with a file."""
    wrong = {}
    for i, path in enumerate(paths):
        try:
            note(i, chain.native(read_image(path, data.max_pixels, chain.config.white)))
        except UnreadableError as error:
            wrong[i] = str(error)
        tick()
    return wrong


def _complain(wrong: list[str], skip: bool) -> None:
    if not skip:
        more = f"\n... and {len(wrong) - LISTED} more" if len(wrong) > LISTED else ""
        raise InputError("\n".join(wrong[:LISTED]) + more + "\nTo leave such files out and count them: data.unreadable: skip.")


def _name(path: Path, folder: Path) -> str:
    """A picture's name: where it lies in the folder, or, listed from elsewhere, at all."""
    return shown(path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix())


def list_images(source: Folder) -> Listing:
    """Class name -> its files, both sorted, by the name as it is shown; the folder's own where the images lie in it directly.

    Raises:
        InputError: no such folder, no images, an empty class, a wanted class or a listed file that isn't there, two classes of one name.
    """
    path = source.path
    if not path.is_dir():
        layout = f"as {source.listing} lists them" if source.listing else f"as {path}/<class>/<image>"
        elsewhere = (
            " An experiment in a copy of the workspace takes them along with --copy-paths." if ".dvc/tmp/exps" in os.getcwd() else ""
        )
        raise InputError(f"{path}: no such folder. Put the images there {layout}, or correct the path.{elsewhere}")
    found = _listed(path, source.listing) if source.listing else _grouped(path)
    if not found.classes:
        raise InputError(f"{path}: no class folders in it, and no images. They must lie as {path}/<class>/<image>.{_why(found)}")
    for name in source.classes or ():
        if name not in found.classes:
            raise InputError(f"{path}: no class folder {name!r}. It has: {', '.join(found.classes)}.")
    if source.classes is not None:
        others = [files for name, files in found.classes.items() if name not in source.classes]
        if others:
            found.skipped["of other classes"] += sum(map(len, others))
        found.classes = {name: files for name, files in found.classes.items() if name in source.classes}
    for name, files in found.classes.items():
        if not files:
            raise InputError(f"{path / name}: no images in it. Add some, or remove the folder.{_why(found)}")
    return found


def _why(found: Listing) -> str:
    """What was left out, where nothing else is there."""
    return f" Left out: {told(found.skipped)}." if found.skipped else ""


def told(skipped: dict[str, int]) -> str:
    """What was skipped and why, in a line."""
    return ", ".join(f"{count} {reason}" for reason, count in skipped.items() if count)


def _grouped(path: Path) -> Listing:
    found = Listing()
    folders = _folders(path)
    loose = list(_pictures(path, found.skipped, deep=False))
    if not folders:
        return Listing({shown(path.resolve().name): loose}, found.skipped) if loose else found
    if loose:
        found.skipped["beside the class folders"] += len(loose)
    for folder in folders:
        name = shown(folder.name)
        if name in found.classes:
            raise InputError(f"{path}: two folders' names are shown as {name!r}. Rename one of them.")
        found.classes[name] = list(_pictures(folder, found.skipped))
    return found


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in HIDDEN


def _folders(path: Path) -> list[Path]:
    """The folders of classes, sorted; a link to a folder is one."""
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not _hidden(entry.name))


def _pictures(path: Path, skipped: dict[str, int], deep: bool = True) -> Iterator[Path]:
    """Picture files in a folder and, if `deep`, below it, sorted; what else is there is counted in `skipped`."""
    with os.scandir(path) as found:  # which knows what is what without asking for each of a million files
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        suffix = os.path.splitext(entry.name)[1].lower()
        if _hidden(entry.name):
            skipped["hidden"] += sum(len(files) for _, _, files in os.walk(entry)) if entry.is_dir(follow_symlinks=False) else 1
        elif entry.is_dir():
            if deep and entry.is_symlink():
                skipped["linked folders inside a class"] += 1
            elif deep:
                yield from _pictures(path / entry.name, skipped)
        elif not entry.is_file():
            skipped["links into nowhere" if entry.is_symlink() and not os.path.exists(entry) else "no files"] += 1
        elif suffix not in suffixes():
            skipped[f"of a kind that is not read ({shown(suffix) or 'no suffix'})"] += 1
        else:
            yield path / entry.name


def _listed(path: Path, listing: Path) -> Listing:
    if not listing.is_file():
        raise InputError(f"{listing}: no such list. Give a text file with one image a line, relative to {path}.")
    content = listing.read_bytes()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in content:
        raise InputError(f"{listing}: not a text file in UTF-8. Give one image a line, relative to {path}.")
    lines = os.fsdecode(content.removeprefix(b"\xef\xbb\xbf")).splitlines()
    found, seen = Listing(), set()
    for line in filter(None, map(str.strip, lines)):
        # A label may follow the name, as in OpenOOD's lists; a name may hold blanks.
        file = next((path / name for name in (line, line.rsplit(maxsplit=1)[0]) if _exists(path / name)), None)
        if file is None:
            raise InputError(f"{listing}: {shown(line)} is not in {path}. Correct the list or the path.")
        if file in seen:
            found.skipped["listed twice"] += 1
            continue
        seen.add(file)
        # An image's own folder is its class: OpenOOD's lines read cifar10/test/airplane/0001.png.
        found.classes.setdefault(shown(file.parent.name), []).append(file)
    found.classes = {name: sorted(found.classes[name]) for name in sorted(found.classes)}
    return found


def _exists(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # longer than a name may be, or with a zero in it
        return False


def even(counts: list[int], limit: int | None) -> list[int]:
    """How many of each class's items are taken when `limit` of all are, class by class in turn."""
    if limit is None or limit >= sum(counts):
        return counts
    low, high = 0, max(counts)  # the largest number of rounds that all of the limit's are in
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if sum(min(count, middle) for count in counts) <= limit else (low, middle - 1)
    taken = [min(count, low) for count in counts]
    for i in [i for i, count in enumerate(counts) if count > low][: limit - sum(taken)]:
        taken[i] += 1
    return taken


def evenly(labels: np.ndarray, limit: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of `limit` items, drawn evenly from the classes; sorted."""
    found = np.unique(labels)
    members = [rng.permutation(np.flatnonzero(labels == label)) for label in found]
    taken = even([len(some) for some in members], limit)
    return np.sort(np.concatenate([some[len(some) - count :] for some, count in zip(members, taken, strict=True)]))
