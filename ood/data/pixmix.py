"""PixMix (Hendrycks et al., CVPR 2022): an image mixed, a few times over, with a fractal or with itself augmented.

Unlike its authors' code, pictures to mix with are drawn (ood.data.fractals), and not cropped at random.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ood.config.training import PixMix
from ood.data.fractals import fractals

EVEN = 0.5
Operation = Callable[[Tensor, float], Tensor]


def mixed(image: Tensor, setting: PixMix) -> Tensor:
    """A uint8 image (3, H, W), mixed; every choice is of torch's default generator.

    It starts as the image or an augmented one, and up to `rounds` times is added to, or multiplied with, another augmented one or a
    fractal, each with even chances; after each the values are cut to [0, 1].
    """
    picture = _picture(image, setting.pictures) if setting.pictures else None
    found = (augmented(image, setting) if torch.rand(()) < EVEN else image) / 255.0
    for _ in range(int(torch.randint(setting.rounds + 1, ()))):
        other = augmented(image, setting) / 255.0 if picture is None or torch.rand(()) < EVEN else picture
        found = MIXINGS[int(torch.randint(len(MIXINGS), ()))](found, other, *weights(setting.beta)).clamp(0, 1)
    return (255 * found).round().to(torch.uint8)


def _picture(image: Tensor, count: int) -> Tensor:
    """One of so many fractals, (3, H, W) in [0, 1], as large as the image; without colours beside an image that has none."""
    bank = fractals(count, image.shape[-1])
    picture = bank[int(torch.randint(count, ()))].to(image.device) / 255.0
    if picture.shape != image.shape:
        picture = F.interpolate(picture[None], image.shape[-2:], mode="bilinear")[0]
    return picture.mean(0, keepdim=True).expand_as(picture) if bool((image == image[:1]).all()) else picture


def augmented(image: Tensor, setting: PixMix) -> Tensor:
    """A uint8 image after one operation, its level uniform in [0.1, severity] of 10."""
    choice = OPERATIONS | (OVERLAPPING if setting.overlapping else {})
    operation = [*choice.values()][int(torch.randint(len(choice), ()))]
    return operation(image, 0.1 + (setting.severity - 0.1) * float(torch.rand(())))


def _signed(value: float) -> float:
    return value if torch.rand(()) < EVEN else -value


def _affine(image: Tensor, turn: float = 0.0, shift: tuple[int, int] = (0, 0), shear: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    """Bilinear, black where nothing was; shear: of x per y, and of y per x."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional as v2

    degrees = [float(torch.tensor(one).atan().rad2deg()) for one in shear]
    return v2.affine(image, turn, list(shift), 1.0, degrees, interpolation=InterpolationMode.BILINEAR)


def _functional(name: str, *given: object) -> Tensor:
    from torchvision.transforms.v2 import functional as v2

    return getattr(v2, name)(*given)


def _shift(image: Tensor, level: float) -> int:
    return round(_signed(int(level / 10 * image.shape[-1] / 3)))


OPERATIONS: dict[str, Operation] = {
    "autocontrast": lambda image, _: _functional("autocontrast", image),
    "equalize": lambda image, _: _functional("equalize", image),
    "posterize": lambda image, level: _functional("posterize", image, 4 - int(0.4 * level)),
    "rotate": lambda image, level: _affine(image, turn=_signed(int(3 * level))),
    "solarize": lambda image, level: _functional("solarize", image, 256 - int(25.6 * level)),
    "shear-x": lambda image, level: _affine(image, shear=(_signed(0.03 * level), 0.0)),
    "shear-y": lambda image, level: _affine(image, shear=(0.0, _signed(0.03 * level))),
    "translate-x": lambda image, level: _affine(image, shift=(_shift(image, level), 0)),
    "translate-y": lambda image, level: _affine(image, shift=(0, _shift(image, level))),
}
OVERLAPPING: dict[str, Operation] = {  # with the corruptions of ImageNet-C
    name: lambda image, level, name=name: _functional(f"adjust_{name}", image, 0.18 * level + 0.1)  # type: ignore[misc]  # bound early
    for name in ("saturation", "contrast", "brightness", "sharpness")
}


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
