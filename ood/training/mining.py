"""Outliers near the boundary, chosen anew for every epoch by posterior sampling (POEM, Ming, Fan and Li, ICML 2022).

A linear regression on the features tells ID (-target) from the outliers chosen of late (+target). Weights are drawn from its Bayesian
posterior, and of the outliers those are trained with whose value by that draw is nearest 0: sure ones teach little, and where the
posterior is wide draws differ and other outliers get their turn (Thompson sampling). As in POEM the regression has no intercept.

The features of the outliers that are looked at are in memory at once, in single precision.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ood.config.methods import Mine
from ood.data.batches import PlainBatches, TrainingBatches, at_once, draws
from ood.data.sets import FeatureSet, Images
from ood.distributed import all_reduce_sum, rows_of
from ood.errors import InputError
from ood.nets import Classifier
from ood.progress import Progress

BLOCK = 65_536  # features at a time in double precision
MINING = 6  # see data.batches.draws: which ID images are looked at, which outliers, and the posterior's draw


def posterior(features: Tensor, targets: Tensor, weights: Tensor, sigma: float, noise: float) -> tuple[Tensor, Tensor]:
    """Of y = w . z + e, w ~ N(0, sigma I), e ~ N(0, noise), each observation counted `weights` times: mean (D,), and L (D, D).

    L L' = Z' W Z / noise + I / sigma, the precision; mean = precision^-1 Z' W y / noise; the covariance is precision^-1 (the textbook's;
    the authors' code multiplies that by sigma).

    Args:
        features: Z, (N, D). targets, weights: (N,).

    Raises:
        InputError: features are not finite, or sigma and noise so far apart that the precision can't be factored.
    """
    z, w = features.double(), weights.double()
    if not bool(z.isfinite().all()):
        raise InputError("the features of some images are not finite: training went astray. Lower this run's learning rate in params.yaml.")
    precision = z.T @ (z * w[:, None]) / noise + torch.eye(z.shape[1], dtype=z.dtype, device=z.device) / sigma
    factor, failed = torch.linalg.cholesky_ex(precision)
    if int(failed):
        raise InputError(
            f"oe.runs: mine: sigma {sigma:g} and noise {noise:g} are too far apart for these features. Lower sigma, or raise noise."
        )
    mean = torch.cholesky_solve((z.T @ (w * targets.double()) / noise)[:, None], factor)[:, 0]
    return mean, factor


def draw(mean: Tensor, factor: Tensor, spread: float, generator: torch.Generator) -> Tensor:
    """Weights (D,) from N(mean, spread x (L L')^-1), L being `factor`."""
    normal = torch.randn(len(mean), generator=generator, dtype=torch.float64).to(mean.device)
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
        features = self._seen(net, outliers, pool)
        weights = self._weights(net, batches, pool, features, generator)
        values = torch.cat([part.double() @ weights for part in features.split(BLOCK)]).abs()
        count = max(1, round(self.setting.share * len(pool)))
        self.chosen.append(pool[values.argsort(stable=True)[:count].cpu()].sort().values)
        return batches.but(outliers=outliers.take(self.chosen[-1]))

    def _weights(self, net: Classifier, batches: TrainingBatches, pool: Tensor, features: Tensor, generator: torch.Generator) -> Tensor:
        """Weights drawn from the posterior; before anything was chosen, from the prior.

        Args:
            features: of the outliers at `pool`.
        """
        assert batches.outliers is not None
        setting, width = self.setting, features.shape[1]
        if not self.chosen:
            prior = torch.eye(width, dtype=torch.float64, device=features.device) / setting.sigma**0.5
            return draw(prior.new_zeros(width), prior, 1.0, generator)
        held = torch.cat(list(self.chosen))
        held = held[torch.randperm(len(held), generator=generator)[: setting.known or len(held)]]
        seen, times = torch.unique(held, return_counts=True)
        place = torch.searchsorted(pool, seen).clamp(max=len(pool) - 1)
        there = pool[place] == seen
        outside = features.new_zeros(len(seen), width)
        outside[there] = features[place[there].to(features.device)]
        outside[~there] = self._seen(net, batches.outliers, seen[~there])
        inside = self._seen(net, batches.inliers, torch.randperm(len(batches.inliers), generator=generator)[: len(held)])
        targets = torch.cat([inside.new_full((len(inside),), -setting.target), outside.new_full((len(outside),), setting.target)])
        even = inside.new_full((len(inside),), len(held) / len(inside))  # both sides count alike
        mean, factor = posterior(torch.cat([inside, outside]), targets, torch.cat([even, times.to(outside)]), setting.sigma, setting.noise)
        return draw(mean, factor, setting.spread, generator)

    def _seen(self, net: Classifier, images: Images | FeatureSet, index: Tensor) -> Tensor:
        """Raw features (N, D) of the images at `index`, un-augmented, in single precision; every process looks at its part of them."""
        assert not isinstance(images, FeatureSet)  # with a backbone that learns
        exact, device = net.fc.weight.dtype, net.fc.weight.device
        found = torch.zeros(len(index), net.fc.in_features, dtype=exact, device=device)
        rows, place = rows_of(len(index)), 0
        for batch, _ in PlainBatches(images.take(index[rows]), at_once(device, images.side)):
            self.progress.step()
            own = rows[place : place + len(batch)].to(device)
            found[own] = net.features(batch.to(exact) if batch.is_floating_point() else batch).to(found)
            place += len(batch)
        return all_reduce_sum(found)
