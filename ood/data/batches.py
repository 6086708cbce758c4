"""Batches: what a step of training sees, or a pass over a set.

Every random choice comes from a generator of (seed, epoch), drawn for the global batch and sliced by rank: any epoch can be repeated
on its own (exact resume), and two processes see what one would.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ood.config.training import Augment, Strong
from ood.data.sets import FeatureSet, Images, rows_at, to_float
from ood.data.strong import Mix
from ood.data.views import PLAIN, Views
from ood.distributed import rows_of


@dataclass(frozen=True)
class Batch:
    """This process's rows of a global batch: float images in [0, 1], ID rows first, then outliers (or dreamed inliers).

    labels: of the ID rows; extra_labels: of the others (-1: none). total: rows of the global batch; rows: which of them are here.
    mixed_in: labels of the images that the ID rows are mixed with, None where they aren't; share: of their own labels then. marked: which
    of the ID rows are, bool, None where a training marks none.
    """

    images: Tensor
    labels: Tensor
    extra_labels: Tensor
    total: int
    rows: Tensor
    global_inliers: int
    mixed_in: Tensor | None = None
    share: Tensor | float = 1.0
    marked: Tensor | None = None


def at_once(device: torch.device, side: int) -> int:
    """Images of `side` pixels at a time where nothing is learned.

    A CPU whose cache they leave takes three to four times as long (docs/performance.md); a GPU wants many, as far as its memory goes.
    """
    share = 32**2 / max(side, 32) ** 2
    return max(1, int(2000 * share)) if device.type == "cuda" else max(4, int(200 * share))


@dataclass(frozen=True)
class PlainBatches:
    """Un-augmented batches in order, as often as they are asked for: float images in [0, 1] and labels."""

    images: Images | FeatureSet
    size: int

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        parts = torch.arange(len(self.images)).split(self.size)
        for index, images in zip(parts, self.images.batches([Views.plain(part) for part in parts]), strict=True):
            yield to_float(images), rows_at(self.images.labels, index)


def augmented_copy(images: Images, augment: Augment, generator: torch.Generator) -> Images:
    """The whole set, augmented once, in its order; itself where nothing is augmented."""
    return images if augment == Augment() else images.seen(Views.drawn(torch.arange(len(images)), augment, generator))


class TrainingBatches:
    """The batches of a training: a permutation of the ID images per epoch, and a stream of outliers beside it.

    Args:
        batch_size: ID images per global batch; the last one of an epoch may be smaller, or have one more: batch normalisation knows no
            batch of one.
        outliers: auxiliary (or dreamed) outliers; each epoch reads a fresh permutation of them, again from the start when exhausted.
        outlier_batch: outliers per global batch.
        strong: RandAugment and erasing of both, MixUp and CutMix of ID images.
        marks: bool, per ID image: those that an objective treats otherwise; None: none.
    """

    def __init__(
        self,
        inliers: Images | FeatureSet,
        batch_size: int,
        augment: Augment,
        outliers: Images | FeatureSet | None = None,
        outlier_batch: int = 0,
        strong: Strong = PLAIN,
        marks: Tensor | None = None,
    ):
        self.inliers, self.outliers, self.augment, self.strong, self.marks = inliers, outliers, augment, strong, marks
        self.batch_size, self.outlier_batch = batch_size, outlier_batch
        self.steps = max(1, -(-(len(inliers) - 1) // batch_size)) if batch_size > 1 else len(inliers)

    def to(self, device: torch.device) -> "TrainingBatches":
        """The same batches from images that live on a device."""
        outliers = None if self.outliers is None else self.outliers.to(device)
        return self.but(inliers=self.inliers.to(device), outliers=outliers)

    def but(self, **changes: Any) -> "TrainingBatches":
        """The same batches with other values of what they are made of (see the arguments)."""
        own = ("inliers", "batch_size", "augment", "outliers", "outlier_batch", "strong", "marks")
        return TrainingBatches(**{name: getattr(self, name) for name in own} | changes)

    def without(self, index: Tensor) -> "TrainingBatches":
        """Batches that leave out the ID images at `index`."""
        kept = torch.ones(len(self.inliers), dtype=torch.bool).index_fill_(0, index, False)
        marks = None if self.marks is None else self.marks[kept]
        return self.but(inliers=self.inliers.take(kept.nonzero().squeeze(1)), marks=marks)

    def marking(self, index: Tensor) -> "TrainingBatches":
        """The same batches, the ID images at `index` marked."""
        return self.but(marks=torch.zeros(len(self.inliers), dtype=torch.bool).index_fill_(0, index, True))

    def epoch(self, seed: int, epoch: int, turn: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, the same whenever it is asked for.

        Args:
            turn: which training of the network's this is, from 0.
        """
        plan = self._plan(draws(seed, epoch, turn, ORDER), epoch)
        inliers = self.inliers.batches([step.here.inliers for step in plan])
        beside = [step.here.outliers for step in plan if step.here.outliers is not None]
        outliers = self.outliers.batches(beside) if self.outliers is not None else iter(())
        for step in plan:
            here, images = step.here, to_float(next(inliers))
            labels = rows_at(self.inliers.labels, here.inliers.index)
            mixed_in: Tensor | None = None
            share: Tensor | float = 1.0
            if step.mix is not None:
                images, kept = step.mix.of(rows_at(images, here.own), rows_at(images, here.neighbours))
                mixed_in = rows_at(labels, here.neighbours)
                share = torch.tensor(kept, dtype=torch.float64)  # a number would be compiled in, anew for every batch
            marked = None if self.marks is None else self.marks[here.inliers.index[here.own]].to(labels.device)
            labels = rows_at(labels, here.own)
            extra_labels, total, rows = labels[:0], len(step.inliers), rows_of(len(step.inliers))
            if self.outliers is not None and here.outliers is not None and step.outliers is not None:
                images, outlier_rows = torch.cat([images, to_float(next(outliers))]), rows_of(len(step.outliers))
                extra_labels = rows_at(self.outliers.labels, here.outliers.index).to(labels.device)
                rows = torch.cat([rows, total + outlier_rows])
                total += len(step.outliers)
            yield Batch(images, labels, extra_labels, total, rows, len(step.inliers), mixed_in, share, marked)

    def _plan(self, generator: torch.Generator, epoch: int) -> list["_Step"]:
        """Which images each step sees and how, for the global batch."""
        order = torch.randperm(len(self.inliers), generator=generator)
        stream = self._outlier_stream(len(self.outliers), generator) if self.outliers is not None else None
        mixes, plan = self.strong.mixes(epoch), []
        for step in range(self.steps):
            stop = len(order) if step == self.steps - 1 else (step + 1) * self.batch_size
            inliers = self._views(order[step * self.batch_size : stop], generator)
            outliers = None
            if stream is not None:
                outliers = self._views(stream[step * self.outlier_batch : (step + 1) * self.outlier_batch], generator)
            plan.append(_Step(inliers, outliers, Mix.drawn(self.strong, generator) if mixes else None))
        return plan

    def _views(self, index: Tensor, generator: torch.Generator) -> Views:
        return Views.drawn(index, self.augment, generator, self.strong)

    def _outlier_stream(self, available: int, generator: torch.Generator) -> Tensor:
        needed = self.steps * self.outlier_batch
        rounds = -(-needed // available)
        return torch.cat([torch.randperm(available, generator=generator) for _ in range(rounds)])[:needed]


@dataclass(frozen=True)
class _Here:
    """A step's views that this process looks at. own, neighbours: positions in them of its ID rows, and of what each is mixed with."""

    inliers: Views
    outliers: Views | None
    own: Tensor
    neighbours: Tensor


@dataclass(frozen=True)
class _Step:
    """What a step sees, for the global batch."""

    inliers: Views
    outliers: Views | None
    mix: Mix | None

    @cached_property
    def here(self) -> _Here:
        """This process's share; of mixed images also the neighbours, once where they are its own as well."""
        count = len(self.inliers)
        rows = rows_of(count)
        neighbours = (rows - 1) % count if self.mix is not None else rows
        needed, place = torch.unique(torch.cat([rows, neighbours]), return_inverse=True)
        outliers = None if self.outliers is None else self.outliers.take(rows_of(len(self.outliers)))
        return _Here(self.inliers.take(needed), outliers, place[: len(rows)], place[len(rows) :])


ORDER, DROPOUT = 0, 1  # what is drawn for an epoch: its images and how they are looked at; what dropout leaves out


def draws(seed: int, epoch: int, turn: int, kind: int) -> torch.Generator:
    """The random numbers of an epoch.

    A network's n-th training has other ones than those before: a fine-tune doesn't replay pretraining's permutations. A method and its
    control have been through as many trainings, so they see the same.
    """
    return generator_for(seed, epoch, kind) if turn == 0 else generator_for(seed, epoch, kind, turn)


def generator_for(*key: int) -> torch.Generator:
    """A CPU generator that depends on all numbers of `key`."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1))
