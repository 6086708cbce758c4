"""PixMix (Hendrycks et al., CVPR 2022): an image mixed, a few times over, with a fractal or with itself augmented."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from ood.config.training import PixMix
from ood.data.fractals import fractals

EVEN = 0.5
BINS = 30  # torchvision's steps of an operation's magnitude, which is 0 to 10 here as in the paper


def mixed(image: Tensor, setting: PixMix) -> Tensor:
    """A uint8 image (3, H, W), mixed; every choice is of torch's default generator.

    It starts as the image or an augmented one, and up to `rounds` times is added to, or multiplied with, another augmented one or a
    fractal, each with even chances; after each the values are cut to [0, 1].
    """
    picture = _picture(image, setting.pictures) if setting.pictures else None
    found = (augmented(image, setting.severity) if torch.rand(()) < EVEN else image) / 255.0
    for _ in range(int(torch.randint(setting.rounds + 1, ()))):
        other = augmented(image, setting.severity) / 255.0 if picture is None or torch.rand(()) < EVEN else picture
        found = MIXINGS[int(torch.randint(len(MIXINGS), ()))](found, other, *weights(setting.beta)).clamp(0, 1)
    return (255 * found).round().to(torch.uint8)


def _picture(image: Tensor, count: int) -> Tensor:
    """One of so many fractals, (3, H, W) in [0, 1]; without colours beside an image that has none."""
    picture = fractals(count, image.shape[-1])[int(torch.randint(count, ()))] / 255.0
    return picture.mean(0, keepdim=True).expand_as(picture) if bool((image == image[:1]).all()) else picture


def augmented(image: Tensor, severity: float) -> Tensor:
    """One of RandAugment's operations on a uint8 image, its magnitude uniform in [0.1, severity] of 10."""
    magnitude = 0.1 + (severity - 0.1) * float(torch.rand(()))
    return _operation(round(magnitude / 10 * BINS))(image)


@cache
def _operation(magnitude: int) -> nn.Module:
    from torchvision.transforms import v2

    return v2.RandAugment(1, magnitude, BINS + 1)


def weights(beta: float) -> tuple[float, float]:
    """a of the image, b of the other: Beta(beta, 1) and Beta(1, beta), or 1 + Beta(1, beta) and -Beta(1, beta), with even chances."""
    coin, one, two = torch.rand(3, dtype=torch.float64).tolist()
    small = 1 - (1 - two) ** (1 / beta)  # Beta(1, beta), by its inverse distribution function
    if coin < EVEN:
        return one ** (1 / beta), small
    return 2 - (1 - one) ** (1 / beta), -small


def add(one: Tensor, other: Tensor, a: float, b: float) -> Tensor:
    """a x + b y of images as values around 0."""
    return (a * (2 * one - 1) + b * (2 * other - 1) + 1) / 2


def multiply(one: Tensor, other: Tensor, a: float, b: float) -> Tensor:
    """x^a y^b of images as values around 1."""
    return (2 * one) ** a * (2 * other).clamp(min=1e-37) ** b / 2


MIXINGS: tuple[Callable[[Tensor, Tensor, float, float], Tensor], ...] = (add, multiply)
