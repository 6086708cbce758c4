"""Augmentation: random choices drawn for a global batch, and what they do to images."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ood.config.training import Augment, Strong
from ood.data.strong import transformed

PLAIN = Strong()
TRIES = 10  # of RandomResizedCrop, before it takes the middle
RATIO = (3 / 4, 4 / 3)  # width to height


@dataclass(frozen=True)
class Views:
    """Which images a batch sees, and how.

    index: int64 (n,); offsets: of the crop after padding, (n, 2); flips: bool (n,); crops: numbers in [0, 1) that RandomResizedCrop
    makes its boxes of, (n, TRIES, 4), None without it. seeds: int64 (n,), of what `strong` does to each image, None where it does nothing.
    """

    index: Tensor
    augment: Augment
    offsets: Tensor
    flips: Tensor
    crops: Tensor | None = None
    strong: Strong = PLAIN
    seeds: Tensor | None = None

    @classmethod
    def drawn(cls, index: Tensor, augment: Augment, generator: torch.Generator, strong: Strong = PLAIN) -> "Views":
        """Random choices for the images at `index`."""
        offsets = torch.randint(0, 2 * augment.pad + 1, (len(index), 2), generator=generator)
        flips = torch.rand(len(index), generator=generator) < 0.5
        crops = torch.rand((len(index), TRIES, 4), generator=generator) if augment.crop else None
        seeds = torch.randint(2**62, (len(index),), generator=generator) if strong.alone else None
        return cls(index, augment, offsets, flips, crops, strong, seeds)

    @classmethod
    def plain(cls, index: Tensor) -> "Views":
        """The images at `index` as they are."""
        return cls(index, Augment(), torch.zeros(len(index), 2, dtype=torch.int64), torch.zeros(len(index), dtype=torch.bool))

    def __len__(self) -> int:
        return len(self.index)

    def take(self, rows: Tensor, index: Tensor | None = None) -> "Views":
        """Some of them; `index`: under other numbers."""
        crops, seeds = (None if drawn is None else drawn[rows] for drawn in (self.crops, self.seeds))
        index = self.index[rows] if index is None else index
        return Views(index, self.augment, self.offsets[rows], self.flips[rows], crops, self.strong, seeds)

    def applied(self, images: Tensor) -> Tensor:
        """Crop, mirror and, where it is strong, transform images uint8 (n, 3, H, W) that were decoded (and resized) for these views."""
        images = crop_and_flip(images, self.augment, self.offsets, self.flips)
        return images if self.seeds is None else transformed(images, self.seeds, self.strong)


def crop_and_flip(images: Tensor, augment: Augment, offsets: Tensor, flips: Tensor) -> Tensor:
    """Crop images (N, 3, H, W) after zero padding at `offsets` (N, 2), mirror those with `flips` (N,)."""
    if augment.pad:
        height, width = images.shape[2:]
        padded = F.pad(images, [augment.pad] * 4)
        offsets = offsets.to(images.device, non_blocking=True)
        rows = offsets[:, :1] + torch.arange(height, device=images.device)
        columns = offsets[:, 1:] + torch.arange(width, device=images.device)
        sample = torch.arange(len(images), device=images.device)[:, None, None]
        # Indexing with the channel axis in between moves it last; permute brings it back.
        images = padded[sample, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    if augment.flip:
        images = torch.where(flips.to(images.device, non_blocking=True)[:, None, None, None], images.flip(3), images)
    return images.contiguous()


def crop_box(width: int, height: int, draws: Tensor, area: tuple[float, float] | list[float]) -> tuple[int, int, int, int]:
    """RandomResizedCrop's box (left, top, width, height) in whole pixels, from its draws (TRIES, 4).

    Its area is a share between area[0] and area[1] of the image's, its ratio log-uniform in RATIO (torchvision's rule).
    """
    low, high = math.log(RATIO[0]), math.log(RATIO[1])
    for share, shape, across, down in draws.tolist():
        size = width * height * (area[0] + (area[1] - area[0]) * share)
        ratio = math.exp(low + (high - low) * shape)
        wide, tall = round(math.sqrt(size * ratio)), round(math.sqrt(size / ratio))
        if 0 < wide <= width and 0 < tall <= height:
            return int(across * (width - wide + 1)), int(down * (height - tall + 1)), wide, tall
    wide, tall = min(width, round(height * RATIO[1])), min(height, round(width / RATIO[0]))
    return (width - wide) // 2, (height - tall) // 2, wide, tall


def resized_crops(images: Tensor, draws: Tensor, area: tuple[float, float] | list[float]) -> Tensor:
    """RandomResizedCrop of images in memory, uint8 (N, 3, H, W): each box enlarged (bilinear) to the whole."""
    height, width = images.shape[2:]
    rows = []
    for image, drawn in zip(images, draws, strict=True):
        left, top, wide, tall = crop_box(width, height, drawn, area)
        part = image[None, :, top : top + tall, left : left + wide].float()
        rows.append(F.interpolate(part, (height, width), mode="bilinear", antialias=True))
    return torch.cat(rows).round().clamp(0, 255).to(torch.uint8) if rows else images
