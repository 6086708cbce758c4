"""The loss constraint: the training loss of a trained classifier under random masks (Unleashing Mask, ICML 2023, Algorithm 1)."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from ood.training.devices import Precision
from ood.unmask.masks import Masks, random_masks

Batches = Iterable[tuple[Tensor, Tensor]]


class Constraint(NamedTuple):
    """The estimated loss constraint: mean and standard deviation (n - 1) over masks, and each mask's value."""

    mean: float
    std: float
    values: list[float]


def guessing(labels: Tensor) -> float:
    """The loss, in nats, of knowing the classes' shares and no image: a constraint at or above it asks for a network that sees nothing."""
    shares = labels.unique(return_counts=True)[1].double() / len(labels)
    return float(-(shares * shares.log()).sum())


def estimate_constraint(
    net: nn.Module,
    batches: Batches,
    keep: float,
    n_masks: int,
    seed: int,
    tick: Callable[[], None] = lambda: None,
    precision: Precision = nullcontext,
) -> Constraint:
    """Mean cross-entropy over the training set of the trained net under random masks, in eval mode (Algorithm 1).

    Args:
        net: the trained net; its weights, BN statistics and mode are left as they are.
        batches: (images in [0, 1], labels), iterated once per mask; the result doesn't depend on how they are cut.
        keep: share of every layer's weights that stay; 1 gives the dense loss.
        tick: called after every mask.
    """
    values = []
    for mask in drawn_masks(net, keep, n_masks, seed):
        logits, labels = masked_logits(net, batches, mask, precision)
        values.append(float(F.cross_entropy(logits.double(), labels)))
        tick()
    tensor = torch.tensor(values, dtype=torch.float64)
    return Constraint(float(tensor.mean()), float(tensor.std()) if n_masks > 1 else 0.0, values)


def drawn_masks(net: nn.Module, keep: float, n_masks: int, seed: int) -> Iterable[Masks]:
    """The masks of a seed, one after the other."""
    generator = torch.Generator().manual_seed(seed)
    return (random_masks(net, keep, generator) for _ in range(n_masks))


@torch.no_grad()
def masked_logits(net: nn.Module, batches: Batches, masks: Masks, precision: Precision) -> tuple[Tensor, Tensor]:
    """Logits (N, C) and labels (N,) on the CPU; masked weights are passed beside the net, which stays untouched."""
    parameters = dict(net.named_parameters())
    weights = {name: parameters[name] * mask.to(parameters[name]) for name, mask in masks.items()}
    with _eval_mode(net), precision():
        pairs = [(functional_call(net, weights, (images,)).float().cpu(), labels.cpu()) for images, labels in batches]
    return torch.cat([logits for logits, _ in pairs]), torch.cat([labels for _, labels in pairs])


@contextmanager
def _eval_mode(net: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in net.modules()}
    net.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
