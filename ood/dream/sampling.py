"""Phase 2 of DREAM-OOD: embeddings at the edge of a class (outliers), or in its midst (inliers), by nearest-neighbour distances.

Per class, on unit features Z (n, d):
 1. every feature's distance to its k-th nearest neighbour in its class, itself counted as the first (k-NN score);
 2. the boundary points: the features with the largest scores (inliers: all features);
 3. candidates normalise(z + sigma e), e ~ N(0, I), around boundary points; of each point's candidates those with the largest score stay
    (inliers: the smallest). `selection: reference` does instead what the released code does: see _kept;
 4. times the norm of the class's token embedding, whose place they take.
"""

import io
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ood.config.dream import EmbedRun
from ood.data.batches import generator_for
from ood.dream.turning import spread_for, turned
from ood.errors import InputError


@dataclass(frozen=True)
class Drawn:
    """Vectors of one class: (count, d), at the norm of the class's anchor (but for crossing's reference). seeds: the feature each was drawn
    around (-1: none). distance: of knn to the k-th neighbour among the class's features, of crossing in steps. boundary: indices of the
    boundary points. walks: of crossing, the steps that each feature of the class takes to its boundary, -1 where it doesn't get there."""

    vectors: Tensor
    seeds: Tensor
    distance: Tensor
    boundary: Tensor
    walks: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))

    def packed(self) -> bytes:
        """As the content of a file."""
        stream = io.BytesIO()
        np.savez(stream, **{name: tensor.numpy() for name, tensor in vars(self).items()})
        return stream.getvalue()

    @classmethod
    def unpacked(cls, content: bytes) -> "Drawn":
        """What `packed` gave."""
        with np.load(io.BytesIO(content)) as arrays:
            return cls(**{name: torch.from_numpy(arrays[name]) for name in arrays.files})


def knn_distance(queries: Tensor, features: Tensor, k: int) -> Tensor:
    """Distance of unit vectors (..., d) to their k-th nearest among unit features (n, d), shape (...).

    Of a feature itself, its own zero distance counts as the first. On unit vectors the order of distances is that of cosines, so the k-th
    largest cosine is all that is needed.
    """
    return _distance(_kth(queries @ features.T, k))


def around(unit: Tensor, chosen: Tensor, sigma: float, noise: Tensor, k: int) -> Tensor:
    """k-NN distances of all candidates normalise(unit[chosen] + sigma noise), shape (seeds, candidates), without making one of them.

    A candidate's inner products with the features are sums of two that are known: (z + sigma e) f = z f + sigma e f. That takes
    seeds + candidates products with the features instead of seeds x candidates, and no memory for the candidates.
    """
    inner = (unit[chosen] @ unit.T)[:, None] + sigma * (noise @ unit.T)[None]
    squared = 1 + 2 * sigma * (unit[chosen] @ noise.T) + sigma**2 * noise.square().sum(1)[None]
    return _distance(_kth(inner, k) / squared.clamp_min(1e-12).sqrt())


def _kth(inner: Tensor, k: int) -> Tensor:
    return inner.topk(k, dim=-1, sorted=False).values.amin(-1)


def _distance(cosine: Tensor) -> Tensor:
    return (2 - 2 * cosine).clamp_min(0).sqrt()


def scaled(number: int, run: EmbedRun, available: int) -> int:
    """A count that was given for `features_per_class`, for a class with `available` features."""
    return min(available, max(1, round(number * available / run.features_per_class)))


def directions(features: Tensor, name: str) -> Tensor:
    """Unit features of a class.

    Raises:
        InputError: too few features, or features without a direction.
    """
    if len(features) < 2:
        raise InputError(f"class {name!r} has {len(features)} training images; embeddings need at least 2.")
    if not bool((features.norm(dim=1) > 0).all()) or not bool(features.isfinite().all()):
        raise InputError(f"class {name!r}: a feature is zero or not finite, so it has no direction. Train `align` again, with a lower lr.")
    return F.normalize(features, dim=1)


def draw(features: Tensor, anchor: Tensor, run: EmbedRun, key: tuple[int, ...], name: str = "") -> Drawn:
    """`run.count` vectors of one class by the paper's method.

    Args:
        features: (n, d), of any norm; computed on their device. anchor: (d,). key: what the random numbers depend on. name: of the
            class, for errors.

    Raises:
        InputError: too few features, or features without a direction.
    """
    unit = directions(features, name)
    k = max(2, scaled(run.k, run, len(unit)))
    generator = generator_for(*key)
    score = knn_distance(unit, unit, k)
    inlier = run.mode == "inlier"
    boundary = torch.arange(len(unit)) if inlier else score.topk(scaled(run.boundary, run, len(unit))).indices.cpu()
    assert run.cosine is not None  # as every run of method knn has
    sigma = spread_for(run.cosine, unit.shape[1])
    per_round = min(run.seeds_per_round, len(boundary))
    vectors, seeds, distances, have = [], [], [], 0
    while have < run.count:
        chosen = boundary[torch.randperm(len(boundary), generator=generator)[:per_round]]
        noise = torch.randn(run.candidates, unit.shape[1], generator=generator).to(unit)
        distance = around(unit, chosen.to(unit.device), sigma, noise, k)
        rows, kept = _kept(distance, run, inlier)
        centres = chosen[rows.cpu()]
        vectors.append(F.normalize(unit[centres.to(unit.device)] + sigma * noise[kept], dim=2).flatten(0, 1).cpu())
        distances.append(distance[rows, kept].flatten().cpu())
        seeds.append(centres.flatten())
        have += len(vectors[-1])
    # The last round gives more than is asked for: leave out at random, not the last seed points.
    kept = torch.randperm(have, generator=generator)[: run.count]
    norm = anchor.norm().cpu()
    return Drawn(torch.cat(vectors)[kept] * norm, torch.cat(seeds)[kept], torch.cat(distances)[kept], boundary)


def _kept(distance: Tensor, run: EmbedRun, inlier: bool) -> tuple[Tensor, Tensor]:
    """What stays of the candidates: rows and columns of their distances (seeds, candidates), (seeds, keep) each."""
    rows = torch.arange(len(distance), device=distance.device)[:, None].expand(-1, run.keep)
    if run.selection == "described":
        return rows, distance.topk(run.keep, dim=1, largest=not inlier).indices
    # The released code reads a table of seeds x candidates as one of candidates x seeds: what it keeps has nothing to do with the
    # distances that won, and amounts to a random pick.
    misread = distance.flatten().view(distance.shape[1], distance.shape[0])
    picked = misread.topk(run.keep, dim=0, largest=not inlier).indices.T
    # Where one is kept of each, as for inliers, it drops the axis of length one and then takes the axis of seeds for it: all picks become
    # candidates of the round's first seed point, some of them more than once.
    return (torch.zeros_like(rows) if run.keep == 1 else rows), picked


def noisy_anchor(anchor: Tensor, run: EmbedRun, key: tuple[int, ...]) -> Tensor:
    """Ablation: Gaussian noise on the class's own token embedding, at the same expected cosine; (count, d)."""
    assert run.cosine is not None  # as every run of method noise has
    return turned(anchor, torch.randn(run.count, len(anchor), generator=generator_for(*key)), run.cosine)


def interpolated(anchors: Tensor, label: int, run: EmbedRun, key: tuple[int, ...]) -> Tensor:
    """Ablation: half way between the class's embedding and that of another, drawn class; (count, d)."""
    generator = generator_for(*key)
    others = torch.tensor([i for i in range(len(anchors)) if i != label])
    partner = anchors[others[torch.randint(len(others), (run.count,), generator=generator)]]
    own = F.normalize(anchors[label], dim=0)
    return F.normalize(own + F.normalize(partner, dim=1), dim=1) * anchors[label].norm()


def named(rows: Tensor, run: EmbedRun, key: tuple[int, ...]) -> Tensor:
    """Ablation: the embeddings (m, d) of other names, in turn from a drawn beginning, at their own norms; (count, d)."""
    start = int(torch.randint(len(rows), (1,), generator=generator_for(*key)))
    return rows[(start + torch.arange(run.count)) % len(rows)]
