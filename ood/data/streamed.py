"""Pictures that stay in their files: what doesn't fit into memory is decoded when it is asked for.

An entry is the path of an image file, or 'array.npy#row' for a picture of a packed set.
"""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ood.data.chain import ImageChain
from ood.errors import InputError


class FileImages:
    """Looks like a uint8 array (N, size, size, channels) of native images; `finished` gives what the network sees.

    Args:
        entries: where each picture is.
        sizes: bytes of each file when it was prepared, to notice one that was changed since; 0, or none given: not known.
    """

    def __init__(self, entries: Sequence[str], chain: ImageChain, sizes: Sequence[int] = ()):
        self.entries, self.chain, self.sizes = list(entries), chain, list(sizes)
        self._digests: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int | slice | np.ndarray) -> np.ndarray:
        if isinstance(index, int | np.integer):
            return self.chain.native(self.open(int(index)))
        return np.stack([self[int(i)] for i in np.arange(len(self))[index]])

    def take(self, index: np.ndarray, axis: int = 0) -> "FileImages":
        """The pictures at `index`, still in their files."""
        assert axis == 0
        chosen = FileImages([self.entries[i] for i in index], self.chain, [self.sizes[i] for i in index] if self.sizes else ())
        chosen._digests = self._digests
        return chosen

    def open(self, index: int) -> Image.Image:
        """A picture as it lies in its file.

        Raises:
            InputError: it can't be read, or it was changed since it was prepared.
        """
        entry = self.entries[index]
        if "#" in entry:
            array, _, row = entry.rpartition("#")
            return Image.fromarray(_array(array)[int(row)])
        known = self.sizes[index] if self.sizes else 0
        if known and Path(entry).exists() and Path(entry).stat().st_size != known:
            raise InputError(f"{entry}: was changed since `prepare` looked at it. Run `dvc repro -f prepare`.")
        return read_image(Path(entry))

    def finished(self, index: int) -> np.ndarray:
        """What the network sees of a picture: uint8 (side, side, 3)."""
        return self.chain.finish(self[index][None])[0]

    def cropped(self, index: int, box_for: Callable[[int, int], tuple[int, int, int, int]]) -> np.ndarray:
        """As `finished`, of a part of the picture.

        Args:
            box_for: width and height in the file -> left, top, width, height of the part.
        """
        picture = self.open(index)
        left, top, wide, tall = box_for(*picture.size)
        return self.chain.finish(self.chain.native(picture, (left, top, left + wide, top + tall))[None])[0]

    def digests(self) -> list[str]:
        """A hash of every picture's native content; each file is decoded once, several at a time."""
        missing = [i for i, entry in enumerate(self.entries) if entry not in self._digests]
        with ThreadPoolExecutor() as pool:
            self._digests.update(pool.map(lambda i: (self.entries[i], digest(self[i])), missing))
        return [self._digests[entry] for entry in self.entries]


def digest(image: np.ndarray) -> str:
    """A hash of a native image's content."""
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()[:32]


def read_image(path: Path) -> Image.Image:
    """A picture, decoded.

    Raises:
        InputError: it isn't there, or isn't a picture.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise InputError(f"{path}: cannot be read as an image ({error}). Replace or remove the file.") from None


@cache
def _array(path: str) -> np.ndarray:
    return np.load(path, mmap_mode="r")
