"""Pictures that stay in their files: what doesn't fit into memory is decoded when it is asked for.

An entry is the path of an image file, or 'array.npy#row' for a picture of a packed set.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from ood.data.chain import ImageChain
from ood.data.reading import UnreadableError, read_bytes, read_image, shown
from ood.errors import InputError

PACKED = re.compile(r"(.+\.npy)#(\d+)", re.DOTALL)  # a picture of a packed set; a file's own name may hold any character


class FileImages:
    """Looks like a uint8 array (N, size, size, channels) of native images; `finished` gives what the network sees.

    Args:
        entries: where each picture is.
        hashes: of each file's content (hash_of) when it was prepared, to notice one that was changed since; "", or none given: not known.
    """

    def __init__(self, entries: Sequence[str], chain: ImageChain, hashes: Sequence[str] = ()):
        self.entries, self.chain, self.hashes = list(entries), chain, list(hashes) or [""] * len(entries)
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
        chosen = FileImages([self.entries[i] for i in index], self.chain, [self.hashes[i] for i in index])
        chosen._digests = self._digests
        return chosen

    def open(self, index: int) -> Image.Image:
        """A picture as it lies in its file.

        Raises:
            InputError: it can't be read, or it was changed since it was prepared.
        """
        entry = self.entries[index]
        if packed := PACKED.fullmatch(entry):
            return Image.fromarray(_array(packed[1])[int(packed[2])])
        content = read_bytes(Path(entry))
        if self.hashes[index] and hash_of(content) != self.hashes[index]:
            raise InputError(f"{shown(entry)}: was changed since `prepare` looked at it. Run `dvc repro -f prepare`.")
        return read_image(Path(entry), white=self.chain.config.white, content=content)

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

    def look(self, most: int, tick: Callable[[], None], seen: Callable[[int, np.ndarray], None]) -> dict[int, str]:
        """Decode every picture once, several at a time: index -> what is wrong with it. The others' hashes and digests are known then.

        Args:
            most: pixels above which a picture isn't decoded. seen: is given each native image with its index, from several threads.
        """
        wrong: dict[int, str] = {}

        def one(index: int) -> tuple[str, str] | UnreadableError:
            path = Path(self.entries[index])
            try:
                content = read_bytes(path)
                native = self.chain.native(read_image(path, most, self.chain.config.white, content))
                seen(index, native)
                return hash_of(content), digest(native)
            except UnreadableError as error:
                return error

        with ThreadPoolExecutor() as pool:
            for index, found in enumerate(pool.map(one, range(len(self)))):
                if isinstance(found, UnreadableError):
                    wrong[index] = str(found)
                else:
                    self.hashes[index], self._digests[self.entries[index]] = found
                tick()
        return wrong

    def digests(self) -> list[str]:
        """A hash of every picture's native content; each file is decoded once, several at a time."""
        missing = [i for i, entry in enumerate(self.entries) if entry not in self._digests]
        with ThreadPoolExecutor() as pool:
            self._digests.update(pool.map(lambda i: (self.entries[i], digest(self[i])), missing))
        return [self._digests[entry] for entry in self.entries]


def digest(image: np.ndarray) -> str:
    """A hash of a native image's content."""
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()[:32]


def hash_of(content: bytes) -> str:
    """A hash of a file's content."""
    return hashlib.sha256(content).hexdigest()[:32]


@cache
def _array(path: str) -> np.ndarray:
    return np.load(path, mmap_mode="r")
