"""A pipeline with its prompts, its sampler and the benchmark's image chain: class and vector in, finished image out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ood.config.dream import Painting, Prompts
from ood.data.batches import generator_for
from ood.data.chain import ImageChain
from ood.dream.painting import paint


@dataclass(frozen=True)
class Studio:
    """Paints, and sends every picture through the image chain (antialiased resize, levels) that every other image went through."""

    pipeline: object
    prompts: Prompts
    painting: Painting
    chain: ImageChain

    def paint(self, classes: Sequence[str], vectors: Tensor | None, seeds: Sequence[int]) -> NDArray:
        """One batch: uint8 (N, side, side, 3).

        Args:
            classes: ID class names. vectors: (N, d) embeddings in the place of the class words, or None for plain prompts.
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
        )
        return self.chain.finish(np.stack([self.chain.native(picture) for picture in pictures]))


def seed_of(seed: int, label: int, index: int) -> int:
    """The seed of one picture: depends on class and index alone, so that no batch and no process changes it."""
    return generator_for(seed, label, index, 30).initial_seed()
