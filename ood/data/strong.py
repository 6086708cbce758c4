"""Strong augmentation: RandAugment, PixMix and random erasing of an image, MixUp and CutMix of two.

Every random choice comes from a number that was drawn for the global batch, so neither resuming nor the number of processes changes it.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from ood.config.training import Strong
from ood.data.pixmix import mixed

OPERATIONS = 2  # of RandAugment, each applied with this probability and magnitudes that vary by this much; the public CCT code's (timm)
PROBABILITY, SPREAD = 0.5, 0.5
BINS = 30  # torchvision's steps of a magnitude, which is 0 to 10 here as in the papers
GREY = 128  # what turning and shearing uncovers
AREA, RATIO = (0.02, 1 / 3), (0.3, 3.3)  # of what is erased: share of the image, height to width


def transformed(images: Tensor, seeds: Tensor, strong: Strong) -> Tensor:
    """RandAugment (Cubuk et al. 2020), PixMix, then random erasing (Zhong et al. 2020), of uint8 images (N, 3, H, W), by a seed for each.

    RandAugment's operations are torchvision's. What is erased becomes noise around grey (0.5 ± 0.25 in [0, 1] units; of one channel where
    the image has no colours).

    Always on the CPU: a GPU, asked for a hundred small things an image, is several times slower (docs/performance.md).
    """
    if not len(images):  # a process without rows of this batch
        return images
    with torch.random.fork_rng(devices=[]):
        here = [_one(image, seed, strong) for image, seed in zip(images.cpu(), seeds.tolist(), strict=True)]
        return torch.stack(here).to(images.device)


def _one(image: Tensor, seed: int, strong: Strong) -> Tensor:
    torch.default_generator.manual_seed(seed)  # and no device's: dropout draws there, for all processes alike
    if strong.randaugment:
        for _ in range(OPERATIONS):
            applied, magnitude = torch.rand(()) < PROBABILITY, strong.randaugment + SPREAD * torch.randn(())
            if applied:
                image = _operation(round(float(magnitude.clamp(0, 10)) / 10 * BINS))(image)
    if strong.pixmix is not None:
        image = mixed(image, strong.pixmix)
    if strong.random_erasing and torch.rand(()) < strong.random_erasing:
        from torchvision.transforms import RandomErasing

        top, left, height, width, noise = RandomErasing.get_params(image, AREA, RATIO, None)
        if noise is not image:  # which is what it gives where no box fitted
            colourless = bool((image == image[:1]).all())
            pixels = (0.5 + 0.25 * (noise[:1] if colourless else noise)).clamp(0, 1) * 255
            image = image.clone()
            image[:, top : top + height, left : left + width] = pixels.round().to(image)
    return image


@cache
def _operation(magnitude: int) -> nn.Module:
    from torchvision.transforms import v2

    return v2.RandAugment(1, magnitude, BINS + 1, fill=GREY)


@dataclass(frozen=True)
class Mix:
    """How a batch's images are mixed, each with its neighbour in the global batch.

    share: of an image's own label (and of its pixels, without a box). box: (top, bottom, left, right) that comes from the neighbour, in
    shares of the side; None: the two are blended.
    """

    share: float
    box: tuple[float, float, float, float] | None = None

    @classmethod
    def drawn(cls, strong: Strong, generator: torch.Generator) -> "Mix":
        """MixUp (Zhang et al. 2018) or CutMix (Yun et al. 2019), whichever is on; of both, one at random."""
        rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
        cut = strong.cutmix and (not strong.mixup or rng.random() < 0.5)
        alpha = strong.cutmix if cut else strong.mixup
        share = float(rng.beta(alpha, alpha))
        if not cut:
            return cls(share)
        half = np.sqrt(1 - share) / 2
        down, across = rng.random(2)
        top, bottom, left, right = (float(edge) for c in (down, across) for edge in np.clip([c - half, c + half], 0, 1))
        return cls(share, (top, bottom, left, right))

    def of(self, images: Tensor, others: Tensor) -> tuple[Tensor, float]:
        """Images (N, 3, H, W) mixed with `others`, and the share of their own labels: exact to the pixel where a box was cut."""
        if self.box is None:
            return self.share * images + (1 - self.share) * others, self.share
        height, width = images.shape[2:]
        (top, bottom), (left, right) = ((round(a * n), round(b * n)) for a, b, n in ((*self.box[:2], height), (*self.box[2:], width)))
        mixed = images.clone()
        mixed[:, :, top:bottom, left:right] = others[:, :, top:bottom, left:right]
        return mixed, 1 - (bottom - top) * (right - left) / (height * width)
