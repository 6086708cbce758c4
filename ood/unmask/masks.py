"""Masks over weights: how many are zeroed, random ones, and ones that learn (UMAP: UM Adopts Pruning, not the embedding method).

A mask belongs to one convolution or linear weight and is ranked within that layer. `keep` is the share of weights that stay
(the UM reference calls it prune_rate): of n weights the int((1 - keep) n) with the smallest |score| become zero.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

Masks = dict[str, Tensor]


def maskable(net: nn.Module) -> Iterator[tuple[str, nn.Conv2d | nn.Linear]]:
    """Name and module of every layer whose weight a mask covers: convolutions and linear layers, the head included."""
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            yield name, module


def initial_scores(weight: Tensor, generator: torch.Generator) -> Tensor:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)), the shape of `weight` (the UM reference's Kaiming-uniform with a = sqrt(5))."""
    bound = 1 / math.sqrt(weight[0].numel())
    return (torch.rand(weight.shape, generator=generator) * 2 - 1) * bound


def binary_mask(scores: Tensor, keep: float) -> Tensor:
    """Bool tensor, False for the int((1 - keep) n) entries of smallest |score|, True for the rest."""
    magnitude = scores.detach().abs().flatten()
    zeroed = int((1 - keep) * magnitude.numel())
    if zeroed == 0:
        return torch.ones_like(scores, dtype=torch.bool)
    if magnitude.is_cuda:  # sorting is quick there, and asking how many scores are equal would wait for the device at every layer
        return _by_sorting(magnitude, zeroed).view(scores.shape)
    # The k-th value is found in linear time; only equal scores at the cut need the full order.
    mask = magnitude > magnitude.kthvalue(zeroed).values
    if int(mask.sum()) != magnitude.numel() - zeroed:
        mask = _by_sorting(magnitude, zeroed)
    return mask.view(scores.shape)


def _by_sorting(magnitude: Tensor, zeroed: int) -> Tensor:
    """False for the `zeroed` smallest, the first of equal ones first; (n,)."""
    return torch.ones_like(magnitude, dtype=torch.bool).index_fill_(0, magnitude.argsort(stable=True)[:zeroed], False)


def random_masks(net: nn.Module, keep: float, generator: torch.Generator) -> Masks:
    """One random mask per maskable layer: parameter name -> bool tensor on the CPU."""
    return {f"{name}.weight": binary_mask(initial_scores(module.weight, generator), keep) for name, module in maskable(net)}


class _StraightThrough(torch.autograd.Function):
    """Binary mask forward; backward passes the gradient to |score| unchanged."""

    @staticmethod
    def forward(_ctx: object, magnitude: Tensor, keep: float) -> Tensor:
        return binary_mask(magnitude, keep).to(magnitude.dtype)

    @staticmethod
    def backward(_ctx: object, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class LearnedMask(nn.Module):
    """Parametrization of a weight: weight x mask(|scores|), with scores that learn through the straight-through estimator."""

    def __init__(self, scores: Tensor, keep: float):
        super().__init__()
        self.scores = nn.Parameter(scores)
        self.keep = keep

    def forward(self, weight: Tensor) -> Tensor:
        return weight * _StraightThrough.apply(self.scores.abs(), self.keep)


def learn_masks(net: nn.Module, keep: float, generator: torch.Generator) -> nn.Module:
    """Freeze every parameter of `net` and put a learnable mask, randomly initialised, on every maskable weight; in place."""
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    for _, module in list(maskable(net)):
        mask = LearnedMask(initial_scores(module.weight, generator).to(module.weight), keep)
        parametrize.register_parametrization(module, "weight", mask)
    return net


@torch.no_grad()
def learned_states(net: nn.Module, dense: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """What to keep of a net whose masks were learned.

    Args:
        dense: the state that the net had before: its frozen weights, and buffers (running statistics, directions of held spectral norms)
            that have moved since.

    Returns:
        'model', the masked path as a plain net's state: zeros where the masks say so, buffers as they moved; 'dense', bit for bit; and
        'mask', parameter name -> bool.
    """
    now, masks = net.state_dict(), {}
    for name, module in net.named_modules():
        if parametrize.is_parametrized(module, "weight"):
            now[f"{name}.weight"] = module.weight
            mask = module.parametrizations.weight[0]
            masks[f"{name}.weight"] = binary_mask(mask.scores, mask.keep)
    return {"model": {name: now[name] for name in dense}, "dense": dense, "mask": masks}
