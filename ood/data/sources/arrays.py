"""Images in one NumPy file, as OE's 300,000 random images are published."""

from pathlib import Path

import numpy as np

from ood.config.data import Array
from ood.data.chain import ImageChain
from ood.data.items import ItemSet, outliers
from ood.errors import InputError


def load(source: Array, chain: ImageChain, rng: np.random.Generator) -> ItemSet:
    """All of them, or `limit` at random.

    Raises:
        InputError: no such file, or not pictures.
    """
    images = check(source.path)
    chosen = np.arange(len(images))
    if source.limit is not None and source.limit < len(images):
        chosen = np.sort(rng.choice(chosen, source.limit, replace=False))
    names = [f"{source.path.name}/{i}" for i in chosen]
    keys = [(f"file:{source.path.resolve()}#{i}",) for i in chosen]
    return outliers([chain.native(images[i]) for i in chosen], names, keys)


def check(path: Path) -> np.ndarray:
    """The file's array, not yet read.

    Raises:
        InputError: no such file, or not pictures.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file. Put the array there, or correct the path.")
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a damaged header makes NumPy raise whatever its parser does
        raise InputError(f"{path}: not a NumPy file ({str(error) or type(error).__name__}). Save it with numpy.save.") from None
    if not isinstance(images, np.ndarray):
        raise InputError(f"{path}: an archive of arrays ({', '.join(images.files)}). Save one of them with numpy.save.")
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3) or not len(images):
        raise InputError(f"{path}: holds {images.dtype} of shape {images.shape}; wanted is uint8 (N, H, W, 3) or (N, H, W).")
    return images
