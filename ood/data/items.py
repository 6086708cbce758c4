"""A set of images that knows where each of them comes from."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ood.data.alike import Looks
from ood.data.streamed import FileImages, digest
from ood.data.texts import Texts


@dataclass(frozen=True)
class ItemSet:
    """Images (or texts) of one set.

    images: uint8 (N, H, W, C), or FileImages, which look like it, or Texts; labels: int64 (N,), -1 outside ID; names: one each, unique
    within a source ("digits/17"); keys: per image, what no other role may share (its photo, its glyph's shape, the image itself).
    words: per image, what a caption calls it; empty where no one asked. skipped: why -> how many files of its source were left out.
    looks: what they look like, where near-duplicates are looked for. true_labels: where `labels` are wrong on purpose.
    """

    images: np.ndarray | FileImages | Texts
    labels: np.ndarray
    names: list[str]
    keys: Sequence[tuple[str, ...]]
    classes: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    looks: Looks | None = None
    true_labels: np.ndarray | None = None

    def __post_init__(self) -> None:
        counts = {len(self.images), len(self.labels), len(self.names), len(self.keys)}
        if len(counts) != 1:
            raise ValueError(f"images, labels, names and keys differ in length: {sorted(counts)}")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def pictures(self) -> np.ndarray | FileImages:
        """Its images, where it is of images."""
        assert not isinstance(self.images, Texts)
        return self.images

    def take(self, index: np.ndarray) -> "ItemSet":
        """The images at `index`, in that order."""
        return replace(
            self,
            images=self.images.take(index, axis=0),
            labels=self.labels[index],
            names=[self.names[i] for i in index],
            keys=[self.keys[i] for i in index],
            words=[self.words[i] for i in index] if self.words else [],
            looks=self.looks and self.looks.take(index),
            true_labels=None if self.true_labels is None else self.true_labels[index],
        )

    def hashes(self) -> list[str]:
        """A content hash per image."""
        return self.images.digests() if isinstance(self.images, FileImages | Texts) else [digest(image) for image in self.images]


def outliers(images: list[np.ndarray], names: list[str], keys: Sequence[tuple[str, ...]]) -> ItemSet:
    """An ItemSet of images that belong to no ID class."""
    return ItemSet(np.stack(images), np.full(len(images), -1, np.int64), names, keys)


def rng_for(seed: int, name: str) -> np.random.Generator:
    """A generator that depends on the data seed and the set's name only, so that adding a set changes no other."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


Sets = dict[str, ItemSet]
