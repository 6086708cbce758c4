"""Post-hoc detectors outside the four papers, on features as the head sees them; larger = more OOD.

Each by its paper's formula, and where pytorch-ood's result on pooled features is that, equal to it (tests/test_posthoc.py). Kept here,
because a detector that is handed on must be tensors and formulas: no library's object can be written into safetensors or an ONNX graph.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ood.detection.scores import Fitted, Head, energy, in_chunks

FITTED_ON_VALIDATION = {"klm"}
CHUNK = 1024  # images at a time, at most, where each is compared with every training image


def plain(values: Tensor) -> Tensor:
    """A sample without any activation has no shape to speak of (0 / 0): it counts as unremarkable, 0."""
    return torch.nan_to_num(values.double(), nan=0.0, posinf=1e30, neginf=-1e30)


class _Shaped(Fitted):
    """What ASH-S and SCALE share: the largest activations, and the factor exp(sum of all / sum of those)."""

    def __init__(self, head: Head, percentile: float):
        self.head, self.percentile = head, percentile

    def _largest(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The largest activations' values and places, (N, k)."""
        width = x.shape[1]
        values, places = x.topk(width - round(width * self.percentile), dim=1)
        return values, places

    def _energy(self, x: Tensor, factor: Tensor) -> Tensor:
        weight, bias = self.head.weight.double(), self.head.bias.double()
        return plain(energy((x * factor.exp()[:, None]) @ weight.T + bias))


class ASH(_Shaped):
    """ASH-S: all but the largest activations are set to 0, the rest is scaled; then energy (Djurisic et al. 2023)."""

    def score(self, features: Tensor) -> Tensor:
        x = features.double()
        values, places = self._largest(x)
        return self._energy(torch.zeros_like(x).scatter(1, places, values), x.sum(1) / values.sum(1))


class SCALE(_Shaped):
    """The same factor without the pruning (Xu et al. 2024)."""

    def score(self, features: Tensor) -> Tensor:
        x = features.double()
        return self._energy(x, x.sum(1) / self._largest(x)[0].sum(1))


class DICE(Fitted):
    """Energy from the weights alone that contribute most to a logit over ID training images (Sun and Li 2022)."""

    kept: ClassVar = ("weight",)

    def __init__(self, head: Head, sparsity: float):
        self.head, self.sparsity = head, sparsity

    def fit(self, features: Tensor) -> "DICE":
        """From ID training features (N, D)."""
        contributions = features.float().mean(0) * self.head.weight
        ordered = contributions.flatten().sort().values  # torch.quantile refuses more than 2^24 values
        place = self.sparsity * (len(ordered) - 1)
        low, high = ordered[int(place)], ordered[min(int(place) + 1, len(ordered) - 1)]
        threshold = torch.lerp(low, high, place - int(place))
        self.weight = torch.where(contributions > threshold, self.head.weight, 0.0)
        return self

    def score(self, features: Tensor) -> Tensor:
        return plain(energy(features.double() @ self.weight.double().T + self.head.bias.double()))


class KLMatching(Fitted):
    """Smallest KL divergence of the softmax from a predicted class's mean softmax (Hendrycks et al. 2022)."""

    kept: ClassVar = ("log_typical",)

    def fit(self, logits: Tensor) -> "KLMatching":
        """From logits (N, C) of ID validation images."""
        posteriors = logits.double().softmax(1)
        predicted = posteriors.argmax(1)
        typical = torch.stack([posteriors[predicted == c].mean(0) for c in predicted.unique()])
        self.log_typical = typical.log().nan_to_num(neginf=torch.finfo(torch.float64).min)
        return self

    def score(self, logits: Tensor) -> Tensor:
        """From logits (N, C)."""
        p = logits.double().softmax(1)
        entropy = torch.where(p > 0, p * p.log(), 0.0).sum(1, keepdim=True)
        return (entropy - p @ self.log_typical.T).amin(1)


class NNGuide(Fitted):
    """Energy times the mean cosine to the nearest ID training features, each weighted with its own energy (Park et al. 2023)."""

    kept: ClassVar = ("bank",)

    def __init__(self, head: Head, k: int):
        self.head, self.k = head, k

    def fit(self, features: Tensor) -> "NNGuide":
        """Keeps the ID training features (N, D), N >= k."""
        if len(features) < self.k:
            raise ValueError(f"k = {self.k} neighbours, but only {len(features)} training features")
        self.bank = F.normalize(features.float(), dim=1) * self.head.logits(features.float()).logsumexp(1)[:, None]
        return self

    def score(self, features: Tensor) -> Tensor:
        return in_chunks(self._score, features.float(), self.bank, CHUNK)

    def _score(self, x: Tensor) -> Tensor:
        guidance = (F.normalize(x, dim=1) @ self.bank.T).topk(self.k, dim=1).values.mean(1)
        return plain(-(guidance * self.head.logits(x).logsumexp(1)))


class FDBD(Fitted):
    """Minus the mean distance to the other classes' boundaries over that to the training mean (fDBD, Liu and Qin 2024)."""

    kept: ClassVar = ("mean", "between")

    def __init__(self, head: Head):
        self.head = head

    def fit(self, features: Tensor) -> "FDBD":
        """From ID training features (N, D)."""
        self.mean = features.float().mean(0)
        weight = self.head.weight.float()
        between = torch.cdist(weight, weight, compute_mode="donot_use_mm_for_euclid_dist")
        self.between = between + torch.eye(len(weight))  # no class is its own neighbour: 0 / 1
        return self

    def score(self, features: Tensor) -> Tensor:
        x = features.float()
        logits = self.head.logits(x)
        largest, predicted = logits.max(1)
        boundaries = ((largest[:, None] - logits) / self.between[predicted]).sum(1)
        return plain(-boundaries / ((logits.shape[1] - 1) * (x - self.mean).norm(dim=1).clamp(min=1e-8)))


class NCI(Fitted):
    """Minus w_y (h - mu) / |h - mu|, less alpha |h|_1; y: the predicted class (Liu and Qin 2025)."""

    kept: ClassVar = ("mean",)

    def __init__(self, head: Head, alpha: float):
        self.head, self.alpha = head, alpha

    def fit(self, features: Tensor) -> "NCI":
        """From ID training features (N, D)."""
        self.mean = features.float().mean(0)
        return self

    def score(self, features: Tensor) -> Tensor:
        x = features.float()
        centred, own = x - self.mean, self.head.weight.float()[self.head.logits(x).argmax(1)]
        return plain(-(centred * own).sum(1) / centred.norm(dim=1) - self.alpha * x.abs().sum(1))
