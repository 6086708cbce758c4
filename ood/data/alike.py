"""Pictures that look the same: re-encoded, resized, shot twice in a row. In training and testing at once they flatter every figure.

Two pictures are alike when their perceptual hashes (pHash: signs of 64 low frequencies) and their 8 x 8 thumbnails both are, beside the
pictures' own contrast: two birds far away in a blue sky are not. Looked at on photographs of a shop and on CIFAR-10, where of the training
images' 1.25 billion pairs these bounds take 628, all of one class; JPEG of quality 30 and half the size stay within them. What they don't
find: the same scene from another place.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LEAST = 32  # pixels along a side, below which pictures are too small to tell likeness from chance
BITS = 12  # of 64 that may differ
LEVELS = 18.0  # root mean square difference of thumbnails, of 255
CONTRAST = 0.6  # that difference, at most, of the fainter thumbnail's own standard deviation
NOISE = 2.0  # a difference that an encoder makes in a picture without any contrast
BLOCK = 1024


@dataclass(frozen=True)
class Looks:
    """What pictures look like. hashes: uint64 (N,); thumbnails: uint8 (N, 192)."""

    hashes: NDArray
    thumbnails: NDArray

    def take(self, index: NDArray) -> "Looks":
        """Those at `index`."""
        return Looks(self.hashes[index], self.thumbnails[index])


def look(image: NDArray) -> bytes:
    """What a native image, uint8 (size, size, channels), looks like: its hash and thumbnail."""
    import imagehash  # and with it SciPy, which `check` need not load

    picture = Image.fromarray(image.squeeze(-1) if image.shape[2] == 1 else image).convert("RGB")
    bits = np.packbits(imagehash.phash(picture).hash.flatten())
    return bits.tobytes() + picture.resize((8, 8), Image.Resampling.BOX).tobytes()


def looks(found: list[bytes]) -> Looks:
    """From what `look` gave."""
    rows = np.frombuffer(b"".join(found), np.uint8).reshape(len(found), 200)
    return Looks(np.ascontiguousarray(rows[:, :8]).view(np.uint64)[:, 0], rows[:, 8:])


def pairs(all_: Looks) -> NDArray:
    """Every two that are alike: int64 (P, 2), the smaller index first, sorted."""
    # Thumbnails that are alike have like means, so that in the order of means only neighbours need be compared.
    means = all_.thumbnails.mean(1)
    order = np.argsort(means, kind="stable")
    means, hashes = means[order], all_.hashes[order]
    ends = np.searchsorted(means, means + LEVELS, side="right")
    found = []
    for start in range(0, len(order), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(order)))
        for first in range(start, int(ends[rows[-1]]), 8 * BLOCK):
            columns = np.arange(first, min(first + 8 * BLOCK, int(ends[rows[-1]])))
            near = np.bitwise_count(hashes[rows, None] ^ hashes[None, columns]) <= BITS
            i, j = np.nonzero(near)
            i, j = rows[i], columns[j]
            ahead = j > i
            found.append(np.stack([order[i[ahead]], order[j[ahead]]], axis=1))
    near = np.sort(np.concatenate(found or [np.empty((0, 2), np.int64)]), axis=1)
    near = near[np.concatenate([_alike(all_.thumbnails, part) for part in np.array_split(near, 1 + len(near) // 100_000)])]
    return near[np.lexsort((near[:, 1], near[:, 0]))]


def _alike(thumbnails: NDArray, two: NDArray) -> NDArray:
    """Whether the thumbnails of each pair (P, 2) are."""
    one, other = (thumbnails[two[:, side]].astype(np.float32).reshape(-1, 64, 3) for side in (0, 1))
    difference = np.sqrt(np.square(one - other).mean((1, 2)))
    contrast = np.minimum(one.std(1).mean(1), other.std(1).mean(1))
    return (difference <= LEVELS) & (difference <= np.maximum(NOISE, CONTRAST * contrast))


def groups(count: int, alike: NDArray) -> NDArray:
    """A number for each of `count` pictures, the same for all that are joined by a chain of likeness: int64 (count,)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(alike)), (alike[:, 0], alike[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)
