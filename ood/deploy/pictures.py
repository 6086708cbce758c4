"""What people hand to a detector, one picture at a time: paths, folders, patterns, open files, PIL images, arrays, tensors, and any of
these in lists or generators.

Whatever may change or go away after it was handed over (a buffer that a camera fills again, the next frame of a GIF, a file that its `with`
closes) is copied as it is taken; only files that are named are read later, by the threads that look at them.
"""

import glob
import mimetypes
import os
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ood.data.chain import ImageChain
from ood.data.reading import UnreadableError, eight_bit, read_image, shown, suffixes
from ood.errors import InputError

BYTES = (bytes, bytearray, memoryview)


class Picture(NamedTuple):
    """One thing to look at. name: its file's, or how many-eth it is; source: a path, bytes, a PIL image, an array, or what is wrong.

    (To a detector of texts, str: a text.)
    """

    name: str
    source: Path | bytes | Image.Image | np.ndarray | InputError | str


class Reader(Protocol):
    """How a predictor takes what it is handed."""

    def is_one(self, given: Any) -> bool:
        """Whether a single verdict is the answer."""

    def each(self, given: Any) -> Iterator[Picture]:
        """What there is in it to look at, one by one."""

    def look(self, picture: Picture) -> Tensor:
        """What networks look at; an UnreadableError where it can't be read."""


class Pictures:
    """Takes pictures, and sends them through the chain.

    most: pixels above which one isn't decoded. chain: None where whoever judges looks for himself.
    """

    def __init__(self, most: int, chain: ImageChain | None = None):
        self.most, self.chain = most, chain

    def is_one(self, given: Any) -> bool:
        """Whether it is a single picture."""
        return is_one(given)

    def each(self, given: Any) -> Iterator[Picture]:
        """See `each`."""
        return each(given, self.most)

    def look(self, picture: Picture) -> Tensor:
        """What networks look at, uint8 (3, side, side).

        Raises:
            UnreadableError: as `opened`.
        """
        assert self.chain is not None
        return self.finished(opened(picture, self.most, self.chain.config.white))

    def finished(self, picture: Image.Image | np.ndarray) -> Tensor:
        """An open picture, through the chain."""
        assert self.chain is not None
        return torch.from_numpy(self.chain.finish(self.chain.native(picture)[None])[0].copy()).permute(2, 0, 1)


def is_one(given: Any) -> bool:
    """Whether it is a single picture, to which a single verdict is the answer."""
    if isinstance(given, str | os.PathLike):
        return not (os.path.isdir(given) or (_is_pattern(given) and not os.path.exists(given)))
    if isinstance(given, np.ndarray | torch.Tensor):
        return given.ndim < 4 and not _names(given)
    return isinstance(given, (Image.Image, *BYTES)) or hasattr(given, "read")


def each(given: Any, most: int) -> Iterator[Picture]:
    """The pictures in it, in order; of folders those that are called like pictures, below it too, sorted.

    Args:
        most: pixels above which an open picture isn't decoded.

    Raises:
        InputError: something else than pictures; a folder or pattern without any. Within a list or generator that is a Picture whose source
            is the error: the rest goes on.
    """
    given = os.fsdecode(os.fspath(given)) if isinstance(given, str | os.PathLike) else given
    for picture in _each(given, "", most):
        alone = not (is_one(given) or _many(given))
        if alone and isinstance(picture.source, InputError) and (picture.name == given or not isinstance(given, str | os.PathLike)):
            raise picture.source
        yield picture


def _names(given: Any) -> bool:
    """Whether it is an array of file names."""
    return isinstance(given, np.ndarray) and given.dtype.kind in "USO"


def _many(given: Any) -> bool:
    """Whether it is several things, of which one may be wrong."""
    return isinstance(given, Iterable) and not isinstance(given, str | os.PathLike | dict) and not is_one(given)


def _each(given: Any, place: str, most: int) -> Iterator[Picture]:
    if isinstance(given, str | os.PathLike):
        yield from _of_path(given)
    elif is_one(given):
        yield Picture(place or "0", _kept(given, most))
    elif _many(given):
        for i, part in enumerate(given.tolist() if _names(given) else given):
            yield from _each(part, f"{place}/{i}" if place else str(i), most)
    else:
        kind = type(given).__name__
        wrong = f"{kind}: no picture. Give a path, folder, pattern, PIL image, array, tensor or open file, or several of these."
        yield Picture(place or kind, InputError(wrong))


def _kept(given: Any, most: int) -> bytes | Image.Image | np.ndarray | InputError:
    """A copy of an open picture, or what is wrong with it."""
    try:
        if isinstance(given, BYTES):
            return bytes(given)
        if isinstance(given, Image.Image):
            _not_too_large(given, most)
            return given.copy()
        if isinstance(given, torch.Tensor):
            tensor = given.detach().cpu()
            tensor = tensor.double() if tensor.is_floating_point() else tensor  # NumPy has no bfloat16
            return np.array(tensor.permute(1, 2, 0) if tensor.ndim == 3 else tensor)
        if isinstance(given, np.ndarray):
            return given.copy()
        content = given.read()
        return content if isinstance(content, bytes) else InputError("an open file that gives text. Open it with 'rb'.")
    except (Exception, MemoryError) as error:  # of whatever it is that was handed over
        return error if isinstance(error, InputError) else InputError(_reason(error))


def _not_too_large(image: Image.Image, most: int) -> None:
    if image.width * image.height > most:
        raise InputError(f"has {image.width} x {image.height} pixels, and {most:,} are allowed.")


def _reason(error: BaseException) -> str:
    said = " ".join(str(error).split())[:200]
    return f"cannot be read as an image ({said or type(error).__name__})."


def _is_pattern(path: str | os.PathLike) -> bool:
    return glob.has_magic(os.fsdecode(os.fspath(path)))


def _of_path(path: str | os.PathLike) -> Iterator[Picture]:
    name = os.fsdecode(os.fspath(path))
    if is_one(path):
        yield Picture(name, Path(name))
        return
    folder = os.path.isdir(name)
    matches = [name] if folder else sorted(glob.iglob(name, recursive=True))
    found = chain.from_iterable(_below(match) if os.path.isdir(match) else (Picture(match, Path(match)),) for match in matches)
    seen: set[str] = set()  # a pattern may find a folder and what is in it
    empty = True
    for picture in found:
        empty = False
        if picture.name not in seen:
            seen.add(picture.name)
            yield picture
    if empty:
        what = "folder" if folder else "pattern"
        yield Picture(name, InputError(f"{shown(name)}: no picture there. Give another {what}."))


def _below(folder: str) -> Iterator[Picture]:
    """Files that are called like pictures, in a folder and below it, sorted; linked folders too, hidden ones not.

    A folder that can't be read, and a picture of a kind that isn't read here, stand among them: nothing is passed over without a word.
    """
    wrong: list[OSError] = []
    walked: set[str] = set()
    for top, folders, files in os.walk(folder, onerror=wrong.append, followlinks=True):
        real = os.path.realpath(top)
        if real in walked:  # a link back
            folders.clear()
            continue
        walked.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for file in sorted(name for name in files if not name.startswith(".")):
            path, suffix = os.path.join(top, file), os.path.splitext(file)[1].lower()
            if suffix in suffixes():
                yield Picture(path, Path(path))
            elif (mimetypes.guess_type(file)[0] or "").startswith("image/") or suffix in (".heic", ".heif", ".dng", ".cr2", ".nef"):
                yield Picture(path, InputError(f"pictures of the kind {suffix} aren't read here. Save it as JPEG or PNG."))
        yield from (Picture(str(error.filename), InputError(f"{error.strerror}.")) for error in wrong)
        wrong.clear()
    yield from (Picture(str(error.filename), InputError(f"{error.strerror}.")) for error in wrong)


def opened(picture: Picture, most: int, white: float | None) -> Image.Image:
    """A picture, upright, mode L or RGB.

    Args:
        most: pixels above which it isn't decoded. white: see ood.data.reading.eight_bit.

    Raises:
        UnreadableError: it can't be read as one; its message has no name.
    """
    source = picture.source
    try:
        if isinstance(source, InputError):
            raise source
        if isinstance(source, Path):
            return read_image(source, most, white)
        if isinstance(source, bytes):
            return read_image(Path("picture"), most, white, source)
        assert not isinstance(source, str)  # a text's, which no picture has
        image = source if isinstance(source, Image.Image) else _array(source)
        _not_too_large(image, most)
        return eight_bit(ImageOps.exif_transpose(image), white)
    except InputError as error:
        named = [f"{shown(str(source))}: "] if isinstance(source, Path) else ["picture: "]
        said = str(error)
        raise UnreadableError(next((said.removeprefix(name) for name in named if said.startswith(name)), said)) from None
    except (Exception, MemoryError) as error:  # damaged things make their libraries raise anything
        raise UnreadableError(_reason(error)) from None


def opened_rgb(picture: Picture, most: int, white: float | None) -> np.ndarray:
    """A picture as it is decoded, before any chain: uint8 (H, W, 3).

    Raises:
        UnreadableError: as `opened`.
    """
    return np.asarray(opened(picture, most, white).convert("RGB"))


def _array(source: np.ndarray) -> Image.Image:
    """An array with its channels last, uint8, or floats in [0, 1]."""
    if source.dtype == bool:
        source = source.astype(np.uint8) * np.uint8(255)
    if np.issubdtype(source.dtype, np.floating):
        if not source.size or not np.isfinite(source).all() or source.min() < 0 or source.max() > 1:
            raise InputError("floats must lie in [0, 1]. Scale them, or give uint8.")
        source = np.rint(source.astype(np.float64) * 255).astype(np.uint8)
    if source.dtype != np.uint8:
        raise InputError(f"values of {source.dtype}. Give uint8, or floats in [0, 1].")
    if source.ndim == 3 and source.shape[2] == 1:
        source = source[:, :, 0]
    if not (source.ndim == 2 or (source.ndim == 3 and source.shape[2] in (3, 4))) or not source.size:
        raise InputError(f"of shape {tuple(source.shape)}. Arrays are (H, W), (H, W, 3) or (H, W, 4), tensors (3, H, W).")
    return Image.fromarray(source)
