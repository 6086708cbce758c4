"""Scores that no cached tensor gives: ODIN needs input gradients, rotation the images turned. They are computed where the images are."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ood.config.evaluation import Odin
from ood.detection.rotation import rotation
from ood.detection.scores import odin

FROM_IMAGES = {"odin", "rotation"}
ImageScore = Callable[[Any, Tensor], Tensor]  # a network, images (N, 3, H, W) in [0, 1] -> (N,)


def from_images(setting: Odin | None, *, turns: bool) -> dict[str, ImageScore]:
    """The scores of FROM_IMAGES that a network can have.

    Args:
        setting: ODIN's; None: no ODIN. turns: whether the network has a rotation branch.
    """
    found: dict[str, ImageScore] = {}
    if setting is not None:
        found["odin"] = partial(odin, temperature=setting.temperature, epsilon=setting.epsilon)
    if turns:
        found["rotation"] = _rotation
    return found


def _rotation(net: Any, images: Tensor) -> Tensor:
    with torch.no_grad():
        logits, turned = net.with_turns(images)
    return rotation(logits.double(), turned.double())
