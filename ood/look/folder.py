"""A folder's pictures, each read once: what can be read, what its file says, what it looks like."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ood.config.data import Chain, Folder
from ood.data import alike
from ood.data.chain import ImageChain
from ood.data.reading import shown
from ood.data.sources.folders import list_images
from ood.data.streamed import FileImages
from ood.errors import InputError
from ood.look import files
from ood.look.files import File


@dataclass(frozen=True)
class Seen:
    """What can be read of a folder, N pictures in the order of classes and names.

    folder: as it was given; names: relative to it; digests: equal for pictures with the same pixels; unreadable: a line for each file that
    isn't here; skipped: why -> how many files were no candidates at all.
    """

    folder: str
    images: FileImages
    labels: NDArray
    classes: list[str]
    names: list[str]
    files: list[File]
    digests: list[str]
    looks: alike.Looks
    unreadable: list[str]
    skipped: dict[str, int]

    @cached_property
    def pairs(self) -> NDArray:
        """Every two that look the same, int64 (P, 2)."""
        return alike.pairs(self.looks)

    @cached_property
    def units(self) -> NDArray:
        """What is held out together, int64 (N,): pictures that look the same, under whatever class."""
        return alike.groups(len(self.labels), self.pairs)

    @property
    def groups(self) -> list[NDArray]:
        """Indices of pictures that look the same, group by group."""
        found, counts = np.unique(self.units, return_counts=True)
        return [np.flatnonzero(self.units == one) for one in found[counts > 1]]

    @property
    def crossing(self) -> NDArray:
        """The pairs that stand under two classes."""
        return self.pairs[self.labels[self.pairs[:, 0]] != self.labels[self.pairs[:, 1]]]


class Files(NamedTuple):
    """The candidates in a folder: files, their labels, int64 (N,), the classes, and why -> how many others were skipped."""

    paths: list[Path]
    labels: NDArray
    classes: list[str]
    skipped: dict[str, int]


def list_files(path: Path) -> Files:
    """A folder's candidates, in the order of classes and names.

    Raises:
        InputError: as `ood.data.sources.folders.list_images`.
    """
    listing = list_images(Folder(source="folder", path=path))
    found = [(file, label) for label, name in enumerate(listing.classes) for file in listing.classes[name]]
    labels = np.array([label for _, label in found], np.int64)
    return Files([file for file, _ in found], labels, list(listing.classes), dict(listing.skipped))


def read(path: Path, found: Files, chain: Chain, most: int, tick: Callable[[], None]) -> Seen:
    """Read all of it.

    Args:
        found: what list_files says of the folder. chain: how the network is to see the pictures. most: pixels above which none is
            decoded. tick: called for each file.

    Raises:
        InputError: no picture at all can be read.
    """
    paths, labels, classes, skipped = found
    lazy = FileImages([file.as_posix() for file in paths], ImageChain(chain))
    seen: dict[int, bytes] = {}
    wrong = lazy.look(most, tick, lambda index, native: seen.__setitem__(index, alike.look(native)))
    fine = np.array([i for i in range(len(paths)) if i not in wrong], np.int64)
    if not len(fine):
        raise InputError(f"{path}: none of its {len(paths)} files can be read as a picture (first: {next(iter(wrong.values()))})")
    images = lazy.take(fine)
    return Seen(
        folder=path.as_posix(),
        images=images,
        labels=labels[fine],
        classes=classes,
        names=[shown(paths[i].relative_to(path).as_posix()) for i in fine],
        files=[files.read(paths[i]) for i in fine],
        digests=images.digests(),
        looks=alike.looks([seen[i] for i in fine]),
        unreadable=[wrong[i] for i in sorted(wrong)],
        skipped=skipped,
    )
