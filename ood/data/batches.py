"""Batches from packed arrays: small data sets live in memory as uint8, on the device where there is one.

Every random choice comes from a generator of (seed, epoch), drawn for the global batch and sliced by rank: any epoch can be repeated
on its own (exact resume), and two processes see what one would.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ood.config.training import Augment
from ood.data import packed
from ood.distributed import rows_of


@dataclass(frozen=True)
class ImageSet:
    """images: uint8 (N, 3, H, W); labels: int64 (N,), -1 outside ID."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device) -> "ImageSet":
        """The set on a device."""
        return ImageSet(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Batch:
    """This process's rows of a global batch: float images in [0, 1], ID rows first, then outliers (or dreamed inliers).

    labels: of the ID rows; extra_labels: of the others (-1: none). total: rows of the global batch; rows: which of them are here.
    """

    images: Tensor
    labels: Tensor
    extra_labels: Tensor
    total: int
    rows: Tensor
    global_inliers: int


def load(name: str, root: Path = packed.PREPARED) -> ImageSet:
    """A prepared set, e.g. 'id/train' or 'near/letters'."""
    images, labels = packed.arrays(name, root)
    return ImageSet(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels))


def load_all(names: list[str], root: Path = packed.PREPARED) -> ImageSet:
    """Several prepared sets as one."""
    sets = [load(name, root) for name in names]
    return ImageSet(torch.cat([s.images for s in sets]), torch.cat([s.labels for s in sets]))


def to_float(images: Tensor) -> Tensor:
    """uint8 -> float32 in [0, 1]."""
    return images.float() / 255


def plain_batches(images: ImageSet, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Un-augmented batches in order: float images in [0, 1] and labels."""
    for start in range(0, len(images), size):
        yield to_float(images.images[start : start + size]), images.labels[start : start + size]


def augmented_copy(images: ImageSet, augment: Augment, generator: torch.Generator) -> ImageSet:
    """The whole set, augmented once, in its order."""
    offsets = torch.randint(0, 2 * augment.pad + 1, (len(images), 2), generator=generator)
    flips = torch.rand(len(images), generator=generator) < 0.5
    return ImageSet(crop_and_flip(images.images, augment, offsets, flips), images.labels)


class TrainingBatches:
    """The batches of a training: a permutation of the ID images per epoch, and a stream of outliers beside it.

    Args:
        batch_size: ID images per global batch; the last one of an epoch may be smaller.
        outliers: auxiliary (or dreamed) outliers; each epoch reads a fresh permutation of them, again from the start when exhausted.
        outlier_batch: outliers per global batch.
    """

    def __init__(
        self,
        inliers: ImageSet,
        batch_size: int,
        augment: Augment,
        outliers: ImageSet | None = None,
        outlier_batch: int = 0,
    ):
        self.inliers, self.outliers, self.augment = inliers, outliers, augment
        self.batch_size, self.outlier_batch = batch_size, outlier_batch
        self.steps = -(-len(inliers) // batch_size)

    def to(self, device: torch.device) -> "TrainingBatches":
        """The same batches from images that live on a device."""
        outliers = None if self.outliers is None else self.outliers.to(device)
        return TrainingBatches(self.inliers.to(device), self.batch_size, self.augment, outliers, self.outlier_batch)

    def epoch(self, seed: int, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch, the same whenever it is asked for."""
        generator = generator_for(seed, epoch)
        order = torch.randperm(len(self.inliers), generator=generator)
        stream = self._outlier_stream(generator) if self.outliers is not None else None
        for step in range(self.steps):
            index = order[step * self.batch_size : (step + 1) * self.batch_size]
            rows = rows_of(len(index))
            images = self._draw(self.inliers, index, rows, generator)
            labels = self.inliers.labels[index[rows].to(self.inliers.labels.device)]
            extra_labels = labels[:0]
            total = inlier_count = len(index)
            if stream is not None:
                outlier_index = stream[step * self.outlier_batch : (step + 1) * self.outlier_batch]
                outlier_rows = rows_of(len(outlier_index))
                images = torch.cat([images, self._draw(self.outliers, outlier_index, outlier_rows, generator)])
                extra_labels = self.outliers.labels[outlier_index[outlier_rows].to(labels.device)]
                rows = torch.cat([rows, total + outlier_rows])
                total += len(outlier_index)
            yield Batch(to_float(images), labels, extra_labels, total, rows, inlier_count)

    def _outlier_stream(self, generator: torch.Generator) -> Tensor:
        needed, available = self.steps * self.outlier_batch, len(self.outliers)
        rounds = -(-needed // available)
        return torch.cat([torch.randperm(available, generator=generator) for _ in range(rounds)])[:needed]

    def _draw(self, images: ImageSet, index: Tensor, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Augmented images at index[rows]; the random choices are drawn for all of `index`."""
        offsets = torch.randint(0, 2 * self.augment.pad + 1, (len(index), 2), generator=generator)
        flips = torch.rand(len(index), generator=generator) < 0.5
        chosen = images.images[index[rows].to(images.images.device)]
        return crop_and_flip(chosen, self.augment, offsets[rows], flips[rows])


def crop_and_flip(images: Tensor, augment: Augment, offsets: Tensor, flips: Tensor) -> Tensor:
    """Crop images (N, 3, H, W) after zero padding at `offsets` (N, 2), mirror those with `flips` (N,)."""
    if augment.pad:
        height, width = images.shape[2:]
        padded = F.pad(images, [augment.pad] * 4)
        offsets = offsets.to(images.device)
        rows = offsets[:, :1] + torch.arange(height, device=images.device)
        columns = offsets[:, 1:] + torch.arange(width, device=images.device)
        sample = torch.arange(len(images), device=images.device)[:, None, None]
        # Indexing with the channel axis in between moves it last; permute brings it back.
        images = padded[sample, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    if augment.flip:
        images = torch.where(flips.to(images.device)[:, None, None, None], images.flip(3), images)
    return images.contiguous()


def generator_for(*key: int) -> torch.Generator:
    """A CPU generator that depends on all numbers of `key`."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1))
