"""Outlier Exposure against the worst weights nearby (DOE, Wang et al., ICLR 2023).

Moving the weights changes what the network sees in an outlier as if the outlier itself were another one. So the outlier term is computed at
weights that are moved where that term could be bettered most, and its gradient is applied where the network stands; a second step then
learns ID. The authors' code differs in three ways beside the sign (config.methods.Perturb): it looks for the direction without dropout,
its weight decay acts on the moved weights, and it leaves out the last epoch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ood.config.methods import Perturb
from ood.data.batches import draws
from ood.distributed import all_reduce_sum, global_mean, world_size

SIZES = 7  # see data.batches.draws: how far each step moves


def regret(logits: Tensor) -> Tensor:
    """Slope of the outlier term in a scale of the logits, d/ds mean(logsumexp(s z) - mean(s z)) at s = 1: mean(softmax(z) . z - mean(z)).

    DOE bounds how much better the term could be by the square of this slope (its worst OOD regret); the slope is never negative, so that
    both rise in the same directions.
    """
    return global_mean((logits.softmax(1) * logits).sum(1) - logits.mean(1))


class Perturbation:
    """Where the weights are moved to, from step to step: a moving average of directions, each as long as the weights of its layer.

    average: name of a weight of a layer -> direction, empty before the first step.
    """

    def __init__(self, setting: Perturb):
        self.setting = setting
        self.average: dict[str, Tensor] = {}

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know."""
        return {"average": self.average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.average = state["average"]

    def begins(self, epochs: int) -> int:
        """The first epoch, from 0, in which weights are moved; before it OE warms up."""
        return int(self.setting.warmup * epochs)

    def sizes(self, seed: int, epoch: int, turn: int, steps: int) -> list[float]:
        """How far each step of an epoch moves, in lengths of a layer's weights."""
        which = torch.randint(len(self.setting.sizes), (steps,), generator=draws(seed, epoch, turn, SIZES))
        return [self.setting.sizes[i] for i in which]

    def turn(self, net: nn.Module, outlier_logits: Tensor, scale: float = 1.0) -> None:
        """Move the average towards where the regret rises.

        Args:
            outlier_logits: of this step, with their graph.
            scale: of the slope, in half precision, which would lose its small gradients; a direction has no length of its own.
        """
        layers = {name: weight for name, weight in net.named_parameters() if weight.requires_grad and weight.dim() > 1}
        slope = scale * regret(outlier_logits)
        slope = slope if self.setting.towards == "worst" else -slope
        gradients: tuple[Tensor | None, ...] = torch.autograd.grad(slope, list(layers.values()), allow_unused=True)
        for (name, weight), found in zip(layers.items(), gradients, strict=True):
            if found is None:
                continue
            gradient = all_reduce_sum(found.detach()) / world_size()
            if not bool(gradient.isfinite().all()):  # an overflow in half precision: the direction stays
                continue
            direction = gradient * (weight.detach().norm() / (gradient.norm() + 1e-20))
            before = self.average.get(name)
            beta = self.setting.momentum
            self.average[name] = direction if before is None else beta * before.to(direction) + (1 - beta) * direction

    @contextmanager
    def moved(self, net: nn.Module, size: float) -> Iterator[None]:
        """Within: the network's weights are moved by size times the average. Afterwards they are what they were, to the bit."""
        layers = {name: weight for name, weight in net.named_parameters() if name in self.average}
        kept = {name: weight.detach().clone() for name, weight in layers.items()}
        with torch.no_grad():
            for name, weight in layers.items():
                weight.add_(self.average[name].to(weight), alpha=size)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, weight in layers.items():
                    weight.copy_(kept[name])
