"""OOD scores from logits and features; larger = more OOD. Tensors in, scores of shape (N,) out.

Six need nothing but the tensor; the others are fitted on ID training features first. All are post-hoc: none touches training.
On a net that normalises its features, the caller hands over what its head sees: `Head.input`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 2**16  # training images at a time where all of them would have to be copied in double precision
CELLS = 2**26  # numbers in a table of images by training images, half a gigabyte of doubles


def msp(logits: Tensor) -> Tensor:
    """Minus the largest softmax (Hendrycks and Gimpel 2017): in [-1, -1/C]."""
    return -logits.softmax(1).amax(1)


def max_logit(logits: Tensor) -> Tensor:
    """Minus the largest logit (Hendrycks et al. 2022)."""
    return -logits.amax(1)


def energy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """-T logsumexp(z / T) (Liu et al. 2020)."""
    return -temperature * (logits / temperature).logsumexp(1)


def xent(logits: Tensor) -> Tensor:
    """mean(z) - logsumexp(z): minus the cross-entropy from the uniform distribution to the softmax; at most -log C, at equal logits.

    What OE trains outliers for, as a score (its code's `--use_xent`; Hendrycks et al. 2019): a sure softmax is far from uniform.
    """
    return logits.mean(1) - logits.logsumexp(1)


def gen(logits: Tensor, gamma: float = 0.1, top: int = 100) -> Tensor:
    """Sum of (p (1 - p))^gamma over the `top` largest softmax values (GEN, Liu et al. 2023); no value is clamped, however small."""
    log_p = logits.double().log_softmax(1).topk(min(top, logits.shape[1]), dim=1).values
    log_rest = (-torch.expm1(log_p)).clamp(min=torch.finfo(torch.float64).tiny).log()
    return (gamma * (log_p + log_rest)).exp().sum(1)


def feature_norm(features: Tensor) -> Tensor:
    """Minus the L2 norm of the raw features, per sample (L2 paper, TMLR 2024): familiar images have long features."""
    return -features.norm(dim=1)


def odin(net: torch.nn.Module, images: Tensor, temperature: float, epsilon: float) -> Tensor:
    """Minus the largest softmax of f(x') / T, with x' = x - eps sign(grad CE(f(x) / T, argmax)) (ODIN, Liang et al. 2018).

    Args:
        images: (N, 3, H, W) in [0, 1]; epsilon in the same units, unclamped; sign(0) counts as +1 (UM's reference).
    """
    images = images.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        logits = net(images).float() / temperature
        loss = F.cross_entropy(logits, logits.argmax(1), reduction="sum")
        (gradient,) = torch.autograd.grad(loss, images)
    step = torch.where(gradient < 0, -1.0, 1.0)
    with torch.no_grad():
        return msp(net(images - epsilon * step).float() / temperature)


@dataclass(frozen=True)
class Head:
    """The last layer, logits = W g(features) + b; `normalize`: g is division by the L2 norm.

    confidence: weight (1, D) and bias (1,) of the branch beside it that says how sure the network is, where it has one. negatives: (M, D),
    rows for words that are no class, of a head that is made of words.
    """

    weight: Tensor
    bias: Tensor
    normalize: bool = False
    confidence: tuple[Tensor, Tensor] | None = None
    negatives: Tensor | None = None

    def input(self, features: Tensor) -> Tensor:
        """What the linear layer sees."""
        return F.normalize(features, dim=1) if self.normalize else features

    def logits(self, inputs: Tensor) -> Tensor:
        """Logits from what the linear layer sees."""
        return inputs @ self.weight.T + self.bias


def in_chunks(score: Callable[[Tensor], Tensor], rows: Tensor, bank: Tensor, most: int) -> Tensor:
    """The scores of a set, for which each image is compared with the whole bank: at most `most` images, or CELLS numbers, at a time.

    In a graph, whose batch is of any size, all at once.
    """
    if torch.compiler.is_exporting():
        return score(rows)
    return torch.cat([score(part) for part in rows.split(min(most, max(1, CELLS // len(bank))))])


def blocks(features: Tensor) -> list[slice]:
    """All rows, BLOCK at a time."""
    return [slice(start, start + BLOCK) for start in range(0, len(features), BLOCK)]


class Fitted:
    """A score that learns something of ID first: `fit`, then `score`. kept: the names of the tensors that `score` needs of that.

    What it needs beside them, the head and numbers, its constructor takes; so `take` makes a fitted one of a new one.
    """

    kept: ClassVar[tuple[str, ...]] = ()

    def fit(self, *known: Any) -> Any:
        """Learn from what is known of ID; returns itself."""
        raise NotImplementedError

    def score(self, seen: Tensor) -> Tensor:
        """(N, D) -> (N,), larger = more OOD."""
        raise NotImplementedError

    def state(self) -> dict[str, Tensor]:
        """What was fitted."""
        return {name: getattr(self, name) for name in self.kept}

    def take(self, state: dict[str, Tensor]) -> Self:
        """Be what another was when that was its `state`.

        Raises:
            ValueError: its tensors have other names.
        """
        if state.keys() != set(self.kept):
            raise ValueError(f"fitted tensors are {', '.join(sorted(state)) or 'missing'}, not {', '.join(sorted(self.kept))}")
        for name, value in state.items():
            setattr(self, name, value)
        return self


def _mean(features: Tensor, chosen: Tensor) -> Tensor:
    """The mean of the chosen rows, (D,) in double precision."""
    parts = [features[here][chosen[here]].double().sum(0) for here in blocks(features)]
    return torch.stack(parts).sum(0) / chosen.sum()


def _second_moment(features: Tensor, origin: Callable[[slice], Tensor]) -> Tensor:
    """Mean outer product of features less their origins, (D, D) in double precision; origin: rows -> where they are seen from."""
    total = torch.zeros(())
    for here in blocks(features):
        centred = features[here].double() - origin(here)
        total = total + centred.T @ centred
    return total / len(features)


class Mahalanobis(Fitted):
    """Smallest squared Mahalanobis distance to a class mean, one covariance for all classes (Lee et al. 2018, penultimate layer)."""

    kept: ClassVar = ("whitening", "centres")

    def fit(self, features: Tensor, labels: Tensor) -> "Mahalanobis":
        """From ID training features (N, D) and labels."""
        classes = labels.unique()
        means = torch.stack([_mean(features, labels == c) for c in classes])
        own = torch.searchsorted(classes, labels)
        spread, axes = torch.linalg.eigh(_second_moment(features, lambda here: means[own[here]]))
        # Dead features make the covariance singular: directions without variance are left out, as a pseudo-inverse leaves them out.
        there = spread > torch.finfo(spread.dtype).eps * len(spread) * spread.max()
        self.whitening = axes[:, there] / spread[there].sqrt()
        self.centres = means @ self.whitening
        return self

    def score(self, features: Tensor) -> Tensor:
        # Whitened once, whatever the number of classes; then class by class, so that memory stays at one (N, D) block.
        white = features.double() @ self.whitening
        return torch.stack([(white - centre).square().sum(1) for centre in self.centres], dim=1).amin(1)


class RMD(Fitted):
    """Relative Mahalanobis: the distance to the nearest class less that to all training features as one (Ren et al. 2021)."""

    def fit(self, features: Tensor, labels: Tensor) -> "RMD":
        """From ID training features (N, D) and labels."""
        self.near, self.all = Mahalanobis().fit(features, labels), Mahalanobis().fit(features, torch.zeros_like(labels))
        return self

    def state(self) -> dict[str, Tensor]:
        return {f"{part}_{name}": value for part in ("near", "all") for name, value in getattr(self, part).state().items()}

    def take(self, state: dict[str, Tensor]) -> "RMD":
        parts = {part: {k.removeprefix(f"{part}_"): v for k, v in state.items() if k.startswith(f"{part}_")} for part in ("near", "all")}
        self.near, self.all = (Mahalanobis().take(found) for found in parts.values())
        if other := state.keys() - self.state().keys():
            raise ValueError(f"{min(other)} is no fitted tensor of RMD")
        return self

    def score(self, features: Tensor) -> Tensor:
        return self.near.score(features) - self.all.score(features)


class SHE(Fitted):
    """Minus the inner product with the predicted class's stored pattern (Zhang et al. 2023).

    A pattern is the mean of the class's correctly classified training features; of all of them where none is.
    """

    kept: ClassVar = ("patterns",)

    def __init__(self, head: Head):
        self.head = head

    def fit(self, features: Tensor, labels: Tensor) -> "SHE":
        """From ID training features (N, D) as the head sees them, and labels."""
        right = self.head.logits(features).argmax(1) == labels
        members = [(labels == c) & right if ((labels == c) & right).any() else labels == c for c in range(len(self.head.weight))]
        self.patterns = torch.stack([features[chosen].double().mean(0) for chosen in members])
        return self

    def score(self, features: Tensor) -> Tensor:
        return -(features.double() * self.patterns[self.head.logits(features).argmax(1)]).sum(1)


class Confidence(Fitted):
    """Minus the confidence that a branch beside the head gives (DeVries and Taylor 2018), in [-1, 0]; what is fitted is that branch."""

    kept: ClassVar = ("weight", "bias")

    def fit(self, head: Head) -> "Confidence":
        """From the head of a network with that branch.

        Raises:
            ValueError: it has none.
        """
        if head.confidence is None:
            raise ValueError("confidence is a branch that this network doesn't have")
        self.weight, self.bias = (value.double() for value in head.confidence)
        return self

    def score(self, features: Tensor) -> Tensor:
        return -torch.sigmoid(features.double() @ self.weight.T + self.bias).squeeze(1)


class NegLabel(Fitted):
    """Log-odds of all words that are no class against all class words, under one softmax (NegLabel, Jiang et al. 2024).

    The paper's score is S = sum_i exp(l_i) / (sum_i exp(l_i) + sum_j exp(n_j)); this is log((1 - S) / S), which ranks as 1 - S, also where
    S rounds to 1. Its groups of negative words, for thousands of them, are left out. What is fitted is those words.
    """

    kept: ClassVar = ("words",)

    def __init__(self, head: Head):
        self.head = head

    def fit(self, head: Head) -> "NegLabel":
        """From a head with such words.

        Raises:
            ValueError: it has none.
        """
        if head.negatives is None:
            raise ValueError("neglabel needs words that are no class, and this network has none")
        self.words = head.negatives.double()
        return self

    def score(self, features: Tensor) -> Tensor:
        return (features.double() @ self.words.T).logsumexp(1) - self.head.logits(features).double().logsumexp(1)


class KNN(Fitted):
    """Distance to the k-th nearest ID training feature, all L2-normalised (Sun et al. 2022)."""

    kept: ClassVar = ("bank",)

    def __init__(self, k: int):
        self.k = k

    def fit(self, features: Tensor) -> "KNN":
        """Keeps the ID training features (N, D), N >= k."""
        if len(features) < self.k:
            raise ValueError(f"k = {self.k} neighbours, but only {len(features)} training features")
        self.bank = F.normalize(features.double(), dim=1)
        return self

    def score(self, features: Tensor) -> Tensor:
        return in_chunks(self._score, F.normalize(features.double(), dim=1), self.bank, most=4096)

    def _score(self, rows: Tensor) -> Tensor:
        # |x - y|^2 = 2 - 2 x.y here: half the time of distances, of which those of the k nearest alone are wanted.
        nearness = (rows @ self.bank.T).topk(self.k, dim=1).values[:, -1]
        return (2 - 2 * nearness).clamp(min=0).sqrt()


class ViM(Fitted):
    """Virtual-logit matching (Wang et al. 2022): energy against the feature's residual outside the principal space.

    Args:
        dim: dimension of the principal space; None: the paper's choice by width (1000 at 2048 features or more, 512 at 768 or more,
            else half the width).
    """

    kept: ClassVar = ("origin", "residual_space", "alpha")

    def __init__(self, head: Head, dim: int | None = None):
        self.head, self.dim = head, dim

    def fit(self, features: Tensor) -> "ViM":
        """From ID training features (N, D) as the head sees them.

        Raises:
            ValueError: a principal space that leaves no residual.
        """
        width = features.shape[1]
        dim = self.dim or (1000 if width >= 2048 else 512 if width >= 768 else width // 2)
        if dim >= width:
            raise ValueError(f"ViM's principal space of {dim} dimensions leaves no residual of {width} features")
        self.origin = -torch.linalg.pinv(self.head.weight.double()) @ self.head.bias.double()
        _, vectors = torch.linalg.eigh(_second_moment(features, lambda _: self.origin))
        self.residual_space = vectors[:, : width - dim].contiguous()  # eigenvalues rise, so the first columns carry the least variance
        residuals = torch.cat([self._residual(features[here].double()) for here in blocks(features)])
        self.alpha = self.head.logits(features.float()).amax(1).double().mean() / residuals.mean()
        return self

    def score(self, features: Tensor) -> Tensor:
        logits = self.head.logits(features.float()).double()
        return self.alpha * self._residual(features.double()) - logits.logsumexp(1)

    def _residual(self, features: Tensor) -> Tensor:
        return ((features - self.origin) @ self.residual_space).norm(dim=1)


class ReAct(Fitted):
    """Energy after clipping features at a quantile of the ID training features (Sun et al. 2021)."""

    kept: ClassVar = ("threshold",)

    def __init__(self, head: Head, quantile: float):
        self.head, self.quantile = head, quantile

    def fit(self, features: Tensor) -> "ReAct":
        """From ID training features (N, D) as the head sees them."""
        # NumPy's: torch.quantile refuses more than 2^24 values, and torch.sort gives eight bytes of places beside each
        place = min(int(self.quantile * features.numel()), features.numel() - 1)
        self.threshold = torch.tensor(np.partition(features.cpu().numpy(), place, axis=None)[place]).to(features)
        return self

    def score(self, features: Tensor) -> Tensor:
        return energy(self.head.logits(features.minimum(self.threshold)))


class VRA(Fitted):
    """Energy after each feature is set to 0 below its quantile `low` and clipped at its quantile `high` (Xu et al. 2023).

    g(z) = 0 if z < a, z if a <= z <= b, b if z > b; a and b are every feature's own quantiles over ID training images, as in the authors'
    code for CIFAR. (Their VRA+ and VRA++ add constants to this; pytorch-ood's raises low features to a.)
    """

    kept: ClassVar = ("least", "most")

    def __init__(self, head: Head, low: float, high: float):
        self.head, self.low, self.high = head, low, high

    def fit(self, features: Tensor) -> "VRA":
        """From ID training features (N, D) as the head sees them."""
        # NumPy's, because torch.quantile refuses more than 2^24 values.
        self.least, self.most = torch.from_numpy(np.quantile(features.cpu().numpy(), [self.low, self.high], axis=0)).to(features)
        return self

    def score(self, features: Tensor) -> Tensor:
        return energy(self.head.logits(torch.where(features < self.least, 0.0, features.minimum(self.most))))
