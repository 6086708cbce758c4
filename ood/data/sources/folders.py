"""Image folders in the layout of torchvision.datasets.ImageFolder: <path>/<class>/<image>; outliers also as <path>/<image>."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from ood.config.data import Folder, Shifted
from ood.data.chain import ImageChain
from ood.data.items import ItemSet
from ood.data.streamed import FileImages
from ood.errors import InputError

SUFFIXES = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}


def load(source: Folder, chain: ImageChain, rng: np.random.Generator, tick: Callable[[], None], stream: bool = False) -> ItemSet:
    """All images, or a random `limit` of them spread evenly over the classes; labels in the order of the sorted class names.

    Args:
        stream: leave the pictures in their files.
    """
    return _read(source, list_images(source), chain, rng, tick, stream)


def load_known(
    source: Shifted, classes: list[str], chain: ImageChain, rng: np.random.Generator, tick: Callable[[], None], stream: bool = False
) -> ItemSet:
    """As load, but of the ID classes alone, with their labels."""
    listing = known(source, classes)
    found = _read(source, listing, chain, rng, tick, stream)
    return replace(found, labels=np.array([classes.index(name) for name in listing], np.int64)[found.labels], classes=classes)


def known(source: Shifted, classes: list[str]) -> dict[str, list[Path]]:
    """Those of the folder's classes that are ID classes, by name (or by number, see Shifted): name -> files.

    Raises:
        InputError: as list_images; none of them is an ID class; a number that counts nothing.
    """
    listing = list_images(source)
    if source.numbered is not None:
        counted = sorted(path.name for path in source.numbered.iterdir() if path.is_dir() and not path.name.startswith("."))
        odd = next((name for name in listing if not (name.isdecimal() and int(name) < len(counted))), None)
        if odd is not None:
            raise InputError(
                f"{source.path}: {odd} is no number below {len(counted)}, the classes in {source.numbered}. Correct one of the two."
            )
        if len({int(name) for name in listing}) < len(listing):
            raise InputError(f"{source.path}: a number stands twice there, with zeros in front. Leave one folder for each class.")
        listing = {counted[int(name)]: files for name, files in listing.items()}
    found = {name: files for name, files in listing.items() if name in classes}
    if not found:
        raise InputError(f"{source.path}: none of its folders is called as an ID class ({', '.join(classes[:5])}, ...). Rename them.")
    return found


def _read(
    source: Folder, listing: dict[str, list[Path]], chain: ImageChain, rng: np.random.Generator, tick: Callable[[], None], stream: bool
) -> ItemSet:
    classes = list(listing)
    files = [(path, label) for label, name in enumerate(classes) for path in listing[name]]
    if source.limit is not None and source.limit < len(files):
        files = [files[i] for i in _even(np.array([label for _, label in files]), source.limit, rng)]
    lazy = FileImages([path.as_posix() for path, _ in files], chain, [path.stat().st_size for path, _ in files])
    images: np.ndarray | FileImages = lazy
    if not stream:
        rows = []
        for i in range(len(lazy)):
            rows.append(lazy[i])
            tick()
        images = np.stack(rows)
    names = [path.relative_to(source.path).as_posix() for path, _ in files]
    keys = [(f"file:{path.resolve()}",) for path, _ in files]
    return ItemSet(images, np.array([label for _, label in files], np.int64), names, keys, classes)


def list_images(source: Folder) -> dict[str, list[Path]]:
    """Class name -> its files, both sorted; the folder's own name where the images lie in it directly.

    Raises:
        InputError: no such folder, no images, an empty class, a wanted class or a listed file that isn't there.
    """
    path = source.path
    if not path.is_dir():
        layout = f"as {source.listing} lists them" if source.listing else f"as {path}/<class>/<image>"
        raise InputError(f"{path}: no such folder. Put the images there {layout}, or correct the path.")
    found = _listed(path, source.listing) if source.listing else _grouped(path)
    if not found:
        raise InputError(f"{path}: no class folders in it, and no images. They must lie as {path}/<class>/<image>.")
    for name in source.classes or ():
        if name not in found:
            raise InputError(f"{path}: no class folder {name!r}. It has: {', '.join(found)}.")
    found = {name: files for name, files in found.items() if source.classes is None or name in source.classes}
    for name, files in found.items():
        if not files:
            raise InputError(f"{path / name}: no images in it. Add some, or remove the folder.")
    return found


def _grouped(path: Path) -> dict[str, list[Path]]:
    folders = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    if folders:
        return {folder.name: sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES) for folder in folders}
    images = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
    return {path.name: images} if images else {}


def _listed(path: Path, listing: Path) -> dict[str, list[Path]]:
    if not listing.is_file():
        raise InputError(f"{listing}: no such list. Give a text file with one image a line, relative to {path}.")
    try:
        lines = listing.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{listing}: not a text file in UTF-8 ({error}). Give one image a line, relative to {path}.") from None
    found: dict[str, list[Path]] = {}
    for line in lines:
        if line.strip():
            name = Path(line.split()[0])
            if not (path / name).is_file():
                raise InputError(f"{listing}: {name} is not in {path}. Correct the list or the path.")
            # An image's own folder is its class: OpenOOD's lines read cifar10/test/airplane/0001.png.
            found.setdefault((path / name).parent.name, []).append(path / name)
    return {name: sorted(found[name]) for name in sorted(found)}


def _even(labels: np.ndarray, limit: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of `limit` items, drawn class by class in turn; sorted."""
    queues = [list(rng.permutation(np.flatnonzero(labels == label))) for label in np.unique(labels)]
    chosen: list[int] = []
    while len(chosen) < limit:
        for queue in queues:
            if queue and len(chosen) < limit:
                chosen.append(int(queue.pop()))
    return np.sort(np.array(chosen))
