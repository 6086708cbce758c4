"""Outliers near the boundary, chosen anew for every epoch by posterior sampling (POEM, Ming, Fan and Li, ICML 2022).

A linear regression on the features tells ID (-target) from the outliers chosen of late (+target). Weights are drawn from its Bayesian
posterior, and of the outliers those are trained with whose value by that draw is nearest 0: sure ones teach little, and where the
posterior is wide draws differ and other outliers get their turn (Thompson sampling). As in POEM the regression has no intercept.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ood.config.methods import Mine
from ood.data.batches import PlainBatches, TrainingBatches, at_once, draws
from ood.data.sets import FeatureSet, Images
from ood.distributed import all_reduce_sum, rows_of
from ood.nets import Classifier
from ood.progress import Progress

MINING = 6  # see data.batches.draws: which ID images are looked at, which outliers, and the posterior's draw


def posterior(features: Tensor, targets: Tensor, weights: Tensor, sigma: float, noise: float) -> tuple[Tensor, Tensor]:
    """Of y = w . z + e, w ~ N(0, sigma I), e ~ N(0, noise), each observation counted `weights` times: mean (D,) and precision (D, D).

    precision = Z' W Z / noise + I / sigma, mean = precision^-1 Z' W y / noise; its covariance is precision^-1 (POEM, Eq. 5 and 6, as the
    textbook's: the authors' code multiplies that by sigma).

    Args:
        features: Z, (N, D). targets, weights: (N,).
    """
    z, w = features.double(), weights.double()
    precision = z.T @ (z * w[:, None]) / noise + torch.eye(z.shape[1], dtype=z.dtype, device=z.device) / sigma
    mean = torch.linalg.solve(precision, z.T @ (w * targets.double()) / noise)
    return mean, precision


def draw(mean: Tensor, precision: Tensor, spread: float, generator: torch.Generator) -> Tensor:
    """Weights (D,) from N(mean, spread x precision^-1)."""
    normal = torch.randn(len(mean), generator=generator, dtype=torch.float64).to(mean.device)
    factor = torch.linalg.cholesky(precision)  # L L' = precision, so that L'^-1 times a standard normal has its inverse as covariance
    return mean + spread**0.5 * torch.linalg.solve_triangular(factor.T, normal[:, None], upper=True)[:, 0]


@dataclass
class Miner:
    """Chooses an epoch's outliers. chosen: indices of those of the last `setting.epochs` epochs, the latest last."""

    setting: Mine
    progress: Progress
    chosen: deque[Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.chosen = deque(maxlen=self.setting.epochs)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know."""
        return {"chosen": list(self.chosen)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.chosen.clear()
        self.chosen.extend(state["chosen"])

    @torch.no_grad()
    def batches(self, net: Classifier, batches: TrainingBatches, seed: int, epoch: int, turn: int) -> TrainingBatches:
        """The batches of an epoch: ID's, and of the outliers those near the boundary as `net` sees it now."""
        outliers, generator = batches.outliers, draws(seed, epoch, turn, MINING)
        assert outliers is not None
        available = len(outliers)
        pool = torch.randperm(available, generator=generator)[: self.setting.pool or available].sort().values
        net.eval()
        weights = self._weights(net, batches, generator)
        values = self._seen(net, outliers.take(pool), lambda features: features @ weights[:, None])[:, 0].abs()
        count = max(1, round(self.setting.share * len(pool)))
        self.chosen.append(pool[values.argsort(stable=True)[:count].cpu()].sort().values)
        return batches.but(outliers=outliers.take(self.chosen[-1]))

    def _weights(self, net: Classifier, batches: TrainingBatches, generator: torch.Generator) -> Tensor:
        """Weights drawn from the posterior; before anything was chosen, from the prior."""
        assert batches.outliers is not None
        setting, device, width = self.setting, net.fc.weight.device, net.fc.in_features
        if not self.chosen:
            prior = torch.eye(width, dtype=torch.float64, device=device) / setting.sigma
            return draw(torch.zeros(width, dtype=torch.float64, device=device), prior, 1.0, generator)
        # Of each side some stand for all: so many draw the same boundary, and looking at all would cost more than looking at the pool.
        held = torch.cat(list(self.chosen))
        some = held[torch.randperm(len(held), generator=generator)[: setting.known]]
        seen, times = torch.unique(some, return_counts=True)
        known = torch.randperm(len(batches.inliers), generator=generator)[: len(some)]
        inside, outside = (self._seen(net, images.take(index)) for images, index in ((batches.inliers, known), (batches.outliers, seen)))
        targets = torch.cat([inside.new_full((len(inside),), -setting.target), outside.new_full((len(outside),), setting.target)])
        each = len(held) / len(some)  # so the posterior is as wide as if all had been looked at
        counted = torch.cat([inside.new_full((len(inside),), len(held) / len(inside)), each * times.to(outside)])
        mean, precision = posterior(torch.cat([inside, outside]), targets, counted, setting.sigma, setting.noise)
        return draw(mean, precision, setting.spread, generator)

    def _seen(self, net: Classifier, images: Images | FeatureSet, of: Callable[[Tensor], Tensor] = lambda features: features) -> Tensor:
        """Of the raw features of un-augmented images, float64 (N, D): themselves, or something. Every process looks at its part of them."""
        assert not isinstance(images, FeatureSet)  # with a backbone that learns
        exact, device = net.fc.weight.dtype, net.fc.weight.device
        rows, parts = rows_of(len(images)), [of(torch.zeros(0, net.fc.in_features, dtype=torch.float64, device=device))]
        for batch, _ in PlainBatches(images.take(rows), at_once(device, images.side)):
            self.progress.step()
            parts.append(of(net.features(batch.to(exact) if batch.is_floating_point() else batch).double()))
        own = torch.cat(parts)
        found = own.new_zeros(len(images), own.shape[1])
        found[rows.to(device)] = own
        return all_reduce_sum(found)
