"""What people hand to a detector, one picture at a time: paths, folders, patterns, open files, PIL images, arrays, tensors, and any of
these in lists or generators.
"""

import glob
import os
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from ood.data.reading import UnreadableError, read_image, shown, suffixes
from ood.errors import InputError


class Picture(NamedTuple):
    """One thing to look at. name: of a file, or how many-eth it is; source: what it is read from."""

    name: str
    source: Any


def is_one(given: Any) -> bool:
    """Whether it is a single picture, to which a single verdict is the answer."""
    if isinstance(given, str | os.PathLike):
        return not (os.path.isdir(given) or (_is_pattern(given) and not os.path.exists(given)))
    if isinstance(given, np.ndarray | torch.Tensor):
        return given.ndim < 4
    return isinstance(given, Image.Image | bytes) or hasattr(given, "read")


def is_lazy(given: Any) -> bool:
    """Whether it can't be known how much there is of it: a generator, which is answered by one."""
    return not is_one(given) and isinstance(given, Iterator)


def each(given: Any) -> Iterator[Picture]:
    """The pictures in it, in order; of folders those that are called like pictures, below it too, sorted.

    Raises:
        InputError: something else than pictures; a folder or pattern without any. Within a list or generator that is a Picture whose source
            is the error: the rest goes on.
    """
    for picture in _each(given, ""):
        if isinstance(picture.source, InputError) and not _many(given):
            raise picture.source
        yield picture


def _many(given: Any) -> bool:
    """Whether it is several things, of which one may be wrong."""
    return isinstance(given, Iterable) and not isinstance(given, str | os.PathLike | dict) and not is_one(given)


def _each(given: Any, place: str) -> Iterator[Picture]:
    if isinstance(given, str | os.PathLike):
        yield from _of_path(given)
    elif is_one(given):
        yield Picture(place or "0", given)
    elif _many(given):
        for i, part in enumerate(given):
            yield from _each(part, f"{place}/{i}" if place else str(i))
    else:
        kind = type(given).__name__
        wrong = f"{kind}: no picture. Give a path, folder, pattern, PIL image, array, tensor or open file, or several of these."
        yield Picture(place or kind, InputError(wrong))


def _is_pattern(path: str | os.PathLike) -> bool:
    return glob.has_magic(os.fsdecode(os.fspath(path)))


def _of_path(path: str | os.PathLike) -> Iterator[Picture]:
    name = os.fsdecode(os.fspath(path))
    if is_one(path):
        yield Picture(shown(name), Path(name))
        return
    folder = os.path.isdir(name)
    found = _below(name) if folder else iter(sorted(glob.iglob(name, recursive=True)))
    first = next(found, None)
    if first is None:
        what = "folder" if folder else "pattern"
        yield Picture(shown(name), InputError(f"{shown(name)}: no picture there. Give another {what}."))
        return
    yield from (Picture(shown(file), Path(file)) for file in chain((first,), found))


def _below(folder: str) -> Iterator[str]:
    """Files that are called like pictures, in a folder and below it, sorted."""
    for top, folders, files in os.walk(folder):
        folders.sort()
        yield from (os.path.join(top, file) for file in sorted(files) if os.path.splitext(file)[1].lower() in suffixes())


def opened(picture: Picture, most: int, white: float | None) -> Image.Image | np.ndarray:
    """A picture as a PIL image or a uint8 array (H, W) or (H, W, 3).

    Args:
        most: pixels above which it isn't decoded. white: see ood.data.reading.eight_bit.

    Raises:
        UnreadableError: it can't be read as one.
    """
    name, source = picture
    if isinstance(source, InputError):
        raise UnreadableError(str(source))
    if isinstance(source, Path):
        return read_image(source, most, white)
    if isinstance(source, bytes) or hasattr(source, "read"):
        content = source if isinstance(source, bytes) else source.read()
        if not isinstance(content, bytes):
            raise UnreadableError(f"{name}: an open file that gives text. Open it with 'rb'.")
        return read_image(Path(name), most, white, content)
    if isinstance(source, Image.Image):
        return source
    return _array(name, source)


def _array(name: str, source: np.ndarray | torch.Tensor) -> Image.Image | np.ndarray:
    """Arrays have their channels last, tensors first; uint8, or floats in [0, 1]."""
    if isinstance(source, torch.Tensor):
        tensor = source.detach().cpu()
        tensor = tensor.double() if tensor.is_floating_point() else tensor  # NumPy has no bfloat16
        source = (tensor.permute(1, 2, 0) if tensor.ndim == 3 else tensor).numpy()
    if source.dtype == bool:
        source = source.astype(np.uint8) * np.uint8(255)
    if np.issubdtype(source.dtype, np.floating):
        if not source.size or not np.isfinite(source).all() or source.min() < 0 or source.max() > 1:
            raise UnreadableError(f"{name}: floats must lie in [0, 1]. Scale them, or give uint8.")
        source = np.rint(source.astype(np.float64) * 255).astype(np.uint8)
    if source.dtype != np.uint8:
        raise UnreadableError(f"{name}: values of {source.dtype}. Give uint8, or floats in [0, 1].")
    if source.ndim == 3 and source.shape[2] == 1:
        source = source[:, :, 0]
    if not (source.ndim == 2 or (source.ndim == 3 and source.shape[2] in (3, 4))) or not source.size:
        shape = tuple(source.shape)
        raise UnreadableError(f"{name}: of shape {shape}. Arrays are (H, W), (H, W, 3) or (H, W, 4), tensors (3, H, W).")
    return Image.fromarray(source)
