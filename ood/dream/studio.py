"""A pipeline with its prompts, its sampler and the benchmark's image chain: class and vector in, finished image out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ood.config.dream import Painting, Prompts
from ood.data.batches import generator_for
from ood.data.chain import ImageChain
from ood.data.sets import ImageSet
from ood.dream.painting import image_size, paint, round_trip
from ood.dream.parts import Pipeline
from ood.dream.pixels import enlarge
from ood.progress import Progress


@dataclass(frozen=True)
class Studio:
    """Paints, and sends every picture through the image chain (antialiased resize, levels) that every other image went through."""

    pipeline: Pipeline
    prompts: Prompts
    painting: Painting
    chain: ImageChain

    def paint(self, classes: Sequence[str], vectors: Tensor | None, seeds: Sequence[int], disturbed: float | None = None) -> NDArray:
        """One batch: uint8 (N, side, side, 3).

        Args:
            classes: ID class names. vectors: (N, d) embeddings in the place of the class words, or None for plain prompts. disturbed: see
                painting.paint.
        """
        pictures = paint(
            self.pipeline,
            [self.prompts.prompt(label) for label in classes],
            [self.prompts.word(label) for label in classes],
            vectors,
            seeds,
            sampler=self.painting.sampler,
            steps=self.painting.steps,
            guidance=self.painting.guidance,
            pieces=self.prompts.pieces,
            disturbed=disturbed,
        )
        return self.chain.finish(np.stack([self.chain.native(picture) for picture in pictures]))

    def plain(self, classes: Sequence[str], count: int, seed: int, progress: Progress) -> ImageSet:
        """`count` pictures of every class from its plain prompt, with their labels."""
        images = []
        for label, name in enumerate(classes):
            seeds = [seed_of(seed, label, i) for i in range(count)]
            for start in range(0, count, self.painting.batch_size):
                progress.step()
                batch = seeds[start : start + self.painting.batch_size]
                images.append(self.paint([name] * len(batch), None, batch))
            progress.advance(name)
        pictures = torch.from_numpy(np.concatenate(images)).permute(0, 3, 1, 2).contiguous()
        return ImageSet(pictures, torch.arange(len(classes)).repeat_interleave(count))

    def round_trip(self, images: Tensor, progress: Progress) -> NDArray:
        """uint8 (N, 3, side, side) enlarged, through the autoencoder, and back through the image chain: uint8 (N, side, side, 3)."""
        size, back = image_size(self.pipeline), []
        for batch in images.split(256 if size <= 64 else 16):
            progress.step()
            decoded = round_trip(self.pipeline.vae, enlarge(batch, size))
            back.append(np.stack([self.chain.native(picture) for picture in decoded]))
        return self.chain.finish(np.concatenate(back))


def seed_of(seed: int, label: int, index: int) -> int:
    """The seed of one picture: depends on class and index alone, so that no batch and no process changes it."""
    return generator_for(seed, label, index, 30).initial_seed()
