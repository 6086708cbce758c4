"""Image folders in the layout of torchvision.datasets.ImageFolder: <path>/<class>/<image>."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ood.config.data import Folder
from ood.data.chain import ImageChain
from ood.data.items import ItemSet
from ood.errors import InputError

SUFFIXES = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}


def load(source: Folder, chain: ImageChain, rng: np.random.Generator, tick: Callable[[], None]) -> ItemSet:
    """All images, or a random `limit` of them spread evenly over the classes; labels in the order of the sorted class names."""
    listing = list_images(source.path, source.classes)
    classes = list(listing)
    files = [(path, label) for label, name in enumerate(classes) for path in listing[name]]
    if source.limit is not None and source.limit < len(files):
        files = [files[i] for i in _even(np.array([label for _, label in files]), source.limit, rng)]
    images = []
    for path, _ in files:
        images.append(_read(path, chain))
        tick()
    names = [path.relative_to(source.path).as_posix() for path, _ in files]
    keys = [(f"file:{path.resolve()}",) for path, _ in files]
    return ItemSet(np.stack(images), np.array([label for _, label in files], np.int64), names, keys, classes)


def list_images(path: Path, classes: list[str] | None = None) -> dict[str, list[Path]]:
    """Class name -> its files, both sorted.

    Raises:
        InputError: no such folder, no class folders, an empty class, a wanted class that isn't there.
    """
    if not path.is_dir():
        raise InputError(f"{path}: no such folder. Put the images there as {path}/<class>/<image>, or correct the path.")
    found = {}
    for folder in sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")):
        found[folder.name] = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not found:
        raise InputError(f"{path}: no class folders in it. Images must lie as {path}/<class>/<image>.")
    for name in classes or ():
        if name not in found:
            raise InputError(f"{path}: no class folder {name!r}. It has: {', '.join(found)}.")
    found = {name: files for name, files in found.items() if classes is None or name in classes}
    for name, files in found.items():
        if not files:
            raise InputError(f"{path / name}: no images in it. Add some, or remove the folder.")
    return found


def _read(path: Path, chain: ImageChain) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return chain.native(image)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise InputError(f"{path}: cannot be read as an image ({error}). Replace or remove the file.") from None


def _even(labels: np.ndarray, limit: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of `limit` items, drawn class by class in turn; sorted."""
    queues = [list(rng.permutation(np.flatnonzero(labels == label))) for label in np.unique(labels)]
    chosen: list[int] = []
    while len(chosen) < limit:
        for queue in queues:
            if queue and len(chosen) < limit:
                chosen.append(int(queue.pop()))
    return np.sort(np.array(chosen))
