"""Unleashing Mask (ICML 2023): what a trained classifier has memorised, seen through random masks on its weights."""

from collections.abc import Callable, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from ood.training.objectives import margin
from ood.unmask.masks import Masks, random_masks

__all__ = ["Atypical", "Constraint", "atypical_samples", "estimate_constraint", "random_masks"]

ESTIMATES = Path("data/mask")  # <seed>.json: the estimate; atypical-<seed>.csv: the ranking
Batches = Iterable[tuple[Tensor, Tensor]]


class Constraint(NamedTuple):
    """The estimated loss constraint: mean and standard deviation (n - 1) over masks, and each mask's value."""

    mean: float
    std: float
    values: list[float]


class Atypical(NamedTuple):
    """Per training sample, shape (N,): dense loss and margin, mean loss under masks, share of masks that misclassify it."""

    loss: Tensor
    margin: Tensor
    masked_loss: Tensor
    flip_rate: Tensor

    def order(self) -> Tensor:
        """Indices from the most to the least atypical: by flip rate, then by masked loss."""
        by_loss = self.masked_loss.argsort(descending=True, stable=True)
        return by_loss[self.flip_rate[by_loss].argsort(descending=True, stable=True)]

    def table(self, items: list[str], labels: Tensor) -> list[dict]:
        """The ranking as rows, most atypical first; items: image ids."""
        return [
            {
                "rank": rank,
                "image": items[i],
                "label": int(labels[i]),
                "margin": float(self.margin[i]),
                "loss": float(self.loss[i]),
                "masked_loss": float(self.masked_loss[i]),
                "flip_rate": float(self.flip_rate[i]),
            }
            for rank, i in enumerate(self.order().tolist(), start=1)
        ]

    def figures(self) -> dict[str, float | None]:
        """Whether flips mean atypical: dense margins of samples that some mask flips against the rest (None where there is none)."""
        flipped = self.flip_rate > 0
        medians = {"median_margin_flipped": self.margin[flipped], "median_margin_rest": self.margin[~flipped]}
        return {"share_flipped_by_any_mask": float(flipped.float().mean())} | {
            name: float(margins.median()) if len(margins) else None for name, margins in medians.items()
        }


def estimate_constraint(
    net: nn.Module,
    batches: Batches,
    keep: float,
    n_masks: int,
    seed: int,
    tick: Callable[[], None] = lambda: None,
) -> Constraint:
    """Mean cross-entropy over the training set of the trained net under random masks, in eval mode (Algorithm 1).

    Args:
        net: the trained net; its weights, BN statistics and mode are left as they are.
        batches: (images in [0, 1], labels), iterated once per mask; the result doesn't depend on how they are cut.
        keep: share of every layer's weights that stay; 1 gives the dense loss.
        tick: called after every mask.
    """
    values = []
    for mask in _masks(net, keep, n_masks, seed):
        logits, labels = _masked_logits(net, batches, mask)
        values.append(float(F.cross_entropy(logits.double(), labels)))
        tick()
    tensor = torch.tensor(values, dtype=torch.float64)
    return Constraint(float(tensor.mean()), float(tensor.std()) if n_masks > 1 else 0.0, values)


def atypical_samples(net: nn.Module, batches: Batches, keep: float, n_masks: int, seed: int) -> Atypical:
    """How every training sample (un-augmented, in the order of `batches`) fares under the masks of `estimate_constraint`."""
    logits, labels = _masked_logits(net, batches, {})
    losses, flips = [], []
    for mask in _masks(net, keep, n_masks, seed):
        masked, _ = _masked_logits(net, batches, mask)
        losses.append(F.cross_entropy(masked, labels, reduction="none"))
        flips.append((masked.argmax(1) != labels).float())
    return Atypical(
        loss=F.cross_entropy(logits, labels, reduction="none"),
        margin=margin(logits, labels),
        masked_loss=torch.stack(losses).mean(0),
        flip_rate=torch.stack(flips).mean(0),
    )


def _masks(net: nn.Module, keep: float, n_masks: int, seed: int) -> Iterable[Masks]:
    generator = torch.Generator().manual_seed(seed)
    return (random_masks(net, keep, generator) for _ in range(n_masks))


@torch.no_grad()
def _masked_logits(net: nn.Module, batches: Batches, masks: Masks) -> tuple[Tensor, Tensor]:
    """Logits (N, C) and labels (N,) on the CPU; masked weights are passed beside the net, which stays untouched."""
    parameters = dict(net.named_parameters())
    weights = {name: parameters[name] * mask.to(parameters[name]) for name, mask in masks.items()}
    with _eval_mode(net):
        pairs = [(functional_call(net, weights, (images,)).cpu(), labels.cpu()) for images, labels in batches]
    return torch.cat([logits for logits, _ in pairs]), torch.cat([labels for _, labels in pairs])


@contextmanager
def _eval_mode(net: nn.Module):
    modes = {module: module.training for module in net.modules()}
    net.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
