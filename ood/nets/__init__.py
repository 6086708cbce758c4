"""Classifiers: a backbone that gives features, and a head that turns features into logits.

build(name, num_classes=..., size=...) -> Classifier. Names: wrn_<depth>_<width>, densenet_bc_<depth>_<growth>.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn

from ood.config.training import NET, Net
from ood.errors import InputError

CIFAR_MEAN = (125.3 / 255, 123.0 / 255, 113.9 / 255)  # the OE and UM papers' normalisation
CIFAR_STD = (63.0 / 255, 62.1 / 255, 66.7 / 255)


class Classifier(nn.Module):
    """A backbone and a linear head, with the input normalisation inside.

    Args:
        backbone: (N, 3, H, W), normalised -> features (N, width), pooled, raw.
        size: the H = W that it is built for.
        normalize: L2-normalise the features in front of the head, in training and testing (the L2 paper, Algorithm 1).
        mean, std: input normalisation in [0, 1] units.
    """

    def __init__(
        self,
        backbone: nn.Module,
        width: int,
        num_classes: int,
        *,
        size: int,
        normalize: bool = False,
        mean: tuple[float, ...] | list[float] = CIFAR_MEAN,
        std: tuple[float, ...] | list[float] = CIFAR_STD,
    ):
        super().__init__()
        self.backbone = backbone
        self.fc = nn.Linear(width, num_classes)
        nn.init.zeros_(self.fc.bias)
        self.size, self.normalize = size, normalize
        # Not persistent: they are data facts, kept in model.json, and not learned.
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def features(self, x: Tensor) -> Tensor:
        """Images in [0, 1], (N, 3, size, size) -> raw features (N, D): penultimate, pooled, before any normalisation.

        Raises:
            ValueError: images of another size.
        """
        if x.shape[1:] != (3, self.size, self.size):
            raise ValueError(f"this net takes (N, 3, {self.size}, {self.size}), it was given {tuple(x.shape)}")
        return self.backbone((x - self.mean) / self.std)

    def head(self, features: Tensor) -> Tensor:
        """Raw features (N, D) -> logits (N, C)."""
        return self.fc(F.normalize(features, dim=1) if self.normalize else features)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def build(
    name: str,
    *,
    num_classes: int,
    size: int = 32,
    dropout: float = 0.0,
    affine: bool = True,
    normalize: bool = False,
    mean: tuple[float, ...] | list[float] = CIFAR_MEAN,
    std: tuple[float, ...] | list[float] = CIFAR_STD,
) -> Classifier:
    """A freshly initialised network by name.

    Args:
        name: 'wrn_40_2' (depth, widening) or 'densenet_bc_100_12' (depth, growth).
        dropout: inside the blocks, where the papers put it.
        affine: whether batch normalisation learns scale and shift (False in the UM reference).
        normalize: L2-normalise features in front of the head.

    Raises:
        InputError: no such name, an impossible depth, an input too small.
    """
    make, first, second = parse(name)
    backbone, width = make(first, second, size=size, dropout=dropout, affine=affine)
    return Classifier(backbone, width, num_classes, size=size, normalize=normalize, mean=mean, std=std)


def parse(name: str) -> tuple[Callable, int, int]:
    """The backbone's constructor and its two numbers.

    Raises:
        InputError: the name is of no known family, or its numbers make no network.
    """
    try:
        checked = Net(name=name).name
    except ValidationError as error:
        raise InputError(f"net.name {name!r}: {error.errors()[0]['msg'].removeprefix('Value error, ')}.") from None
    family, first, second = NET.fullmatch(checked).groups()
    from ood.nets import densenet, wrn

    return {"wrn": wrn.backbone, "densenet_bc": densenet.backbone}[family], int(first), int(second)
