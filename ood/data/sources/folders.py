"""Image folders in the layout of torchvision.datasets.ImageFolder: <path>/<class>/<image>; outliers also as <path>/<image>."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ood.config.data import Folder
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
    listing = list_images(source)
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
        raise InputError(f"{path}: no such folder. Put the images there as {path}/<class>/<image>, or correct the path.")
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
    found: dict[str, list[Path]] = {}
    for line in listing.read_text(encoding="utf-8").splitlines():
        if line.strip():
            name = Path(line.split()[0])
            if not (path / name).is_file():
                raise InputError(f"{listing}: {name} is not in {path}. Correct the list or the path.")
            found.setdefault(name.parts[0] if len(name.parts) > 1 else path.name, []).append(path / name)
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
