"""Backbones from timm, by name: `timm/<name>`; features as the net's own head sees them. Their weights: ood.nets.weights.

Over several processes their batch normalisation sees each process's own images: what must not depend on the number of processes takes one
of our own networks, or a frozen backbone.
"""

import difflib
from typing import Any

import timm
import torch
from timm.layers.drop import DropPath as TimmDropPath
from torch import Tensor, nn

from ood.config.nets import LITE0, PUBLISHED, Proposed
from ood.errors import InputError
from ood.nets.layers import Dropout, DropPath, replace

PREFIX = "net."  # of the names of timm's tensors in a Timm backbone


def described(name: str) -> None:  # as every family's module has it
    """Nothing: timm knows what to build by the name."""


def published(name: str) -> dict[str, Tensor]:
    """The weights of timm's hub.

    Raises:
        InputError: it can't be reached, or has none.
    """
    try:
        return timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # what a hub without a network raises is its libraries'
        said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"net.weights: {PUBLISHED} weights of timm/{name} can't be had ({said[:200]}). Is the hub reachable from here? Give a file, or "
            f"timm/tf_efficientnet_lite0 with weights: {LITE0}, which needs no network."
        ) from None


def head(name: str) -> str:
    """What its linear layer is called among its weights."""
    return proposed(name).head


def proposed(name: str) -> Proposed:
    """timm's configuration of a net.

    Raises:
        InputError: no such net.
    """
    config = timm.get_pretrained_cfg(known(name))
    assert config is not None  # of every net that timm lists
    side = config.input_size[-1]
    resize = config.interpolation if config.interpolation in ("bilinear", "bicubic") else "bicubic"
    return Proposed(
        list(config.mean),
        list(config.std),
        side,
        round(side / config.crop_pct),
        resize,
        bool(config.fixed_input_size),
        str(config.classifier),
    )


def known(name: str) -> str:
    """The name, if timm has it, with its tag or without.

    Raises:
        InputError: it hasn't; the nearest names.
    """
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)
        raise InputError(
            f"net.name: timm has no {name!r}. " + (f"Did you mean {', '.join(close)}?" if close else "See timm.list_models().")
        )
    return name


class Timm(nn.Module):
    """One of timm's nets without its head: (N, 3, H, W) -> (N, width). Dropout is ours, on what the head sees."""

    def __init__(self, net: nn.Module, dropout: float):
        super().__init__()
        self.net, self.dropout = net, Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.net(x))


def backbone(name: str, *, size: int, dropout: float, drop_path: float) -> tuple[nn.Module, int]:
    """The net without its head, freshly initialised, and its number of features.

    Raises:
        InputError: no such net, or one that can't be built for images of so many pixels, or has no stochastic depth.
    """
    config = proposed(name)
    options: dict[str, Any] = {"drop_path_rate": drop_path} if drop_path else {}
    if config.fixed and size != config.side:
        options["img_size"] = size
    try:
        net = timm.create_model(name, pretrained=False, num_classes=0, **options)
        net.eval()
        with torch.no_grad():
            width = net(torch.zeros(1, 3, size, size)).shape[1]
    except (TypeError, AssertionError, RuntimeError, ValueError) as error:
        said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"net.name: timm/{name} can't be built with {options} for images of {size} pixels ({said}). Change one of them."
        ) from None
    replace(net, TimmDropPath, lambda path: DropPath(path.drop_prob))
    return Timm(net.train(), dropout), width
