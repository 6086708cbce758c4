"""How well a network tells which quarter turn an image is seen in (RotPred, Hendrycks et al. 2019): what training lowers, and a score."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def turn_error(turned: Tensor) -> Tensor:
    """Cross-entropy of an image's right quarter turn, the mean over its four.

    Args:
        turned: logits of the turn (4 N, 4), of all images as they are, then of all turned once, twice, three times. Returns (N,).
    """
    turn = torch.arange(4, device=turned.device).repeat_interleave(len(turned) // 4)
    return F.cross_entropy(turned, turn, reduction="none").view(4, -1).mean(0)


def rotation(logits: Tensor, turned: Tensor) -> Tensor:
    """Mean error in telling an image's quarter turns, less KL(uniform || softmax), as OpenOOD has it; (N,), larger = more OOD.

    Args:
        logits: (N, C). turned: see `turn_error`.
    """
    return turn_error(turned) + logits.log_softmax(1).mean(1) + math.log(logits.shape[1])
