"""Training objectives: what a classifier is taught, as formulas.

Every mean is over the global batch, each over its own half: ID terms over ID samples, outlier terms over outliers.
Shapes: logits (N, C), labels (N,), outlier_logits (M, C).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ood.distributed import global_mean

Terms = dict[str, Tensor]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of ID samples."""
    return global_mean(F.cross_entropy(logits, labels, reduction="none"))


def loss_constraint(cross_entropy: Tensor, b: float) -> Tensor:
    """|ce - b| + b on the batch mean: descent above the level b, ascent below (Unleashing Mask, ICML 2023; flooding, 2020)."""
    return (cross_entropy - b).abs() + b


def outlier_exposure(logits: Tensor) -> Tensor:
    """Mean of logsumexp(z) - mean(z): cross-entropy from the uniform distribution to the softmax (OE, ICLR 2019).

    At least log C, which equal logits reach; its gradient for one outlier is softmax(z) - 1/C.
    """
    return global_mean(logits.logsumexp(1) - logits.mean(1))


def energy_margin(logits: Tensor, outlier_logits: Tensor, m_in: float, m_out: float) -> Tensor:
    """Squared hinges on the energy E = -logsumexp(z): mean relu(E - m_in)^2 on ID + mean relu(m_out - E)^2 on outliers.

    Liu et al. 2020, "Energy-based Out-of-distribution Detection".
    """
    inside = F.relu(-logits.logsumexp(1) - m_in).square()
    outside = F.relu(m_out + outlier_logits.logsumexp(1)).square()
    return global_mean(inside) + global_mean(outside)


class Objective(nn.Module):
    """ID term plus weighted outlier term.

    forward(logits, labels, outlier_logits or None) -> (loss, its terms). A module, so that an objective may have parameters of its
    own, which are then trained along with the network.

    Args:
        b: the loss constraint on the ID term, None for plain cross-entropy.
    """

    def __init__(self, b: float | None = None):
        super().__init__()
        self.b = b

    def forward(self, logits: Tensor, labels: Tensor, outlier_logits: Tensor | None) -> tuple[Tensor, Terms]:
        ce = cross_entropy(logits, labels)
        loss = ce if self.b is None else loss_constraint(ce, self.b)
        terms = {"ce": ce.detach()}
        if outlier_logits is not None:
            weight, term = self.outlier_term(logits, outlier_logits)
            loss = loss + weight * term
            terms["outlier"] = term.detach()
        return loss, {"loss": loss.detach(), **terms}

    def outlier_term(self, logits: Tensor, outlier_logits: Tensor) -> tuple[float, Tensor]:
        """Weight and value of the outlier term."""
        raise TypeError(f"{type(self).__name__} takes no outliers")


class OutlierExposure(Objective):
    """Cross-entropy (or its constrained form) + weight x outlier_exposure."""

    def __init__(self, weight: float, b: float | None = None):
        super().__init__(b)
        self.weight = weight

    def outlier_term(self, logits: Tensor, outlier_logits: Tensor) -> tuple[float, Tensor]:
        return self.weight, outlier_exposure(outlier_logits)


class EnergyMargin(Objective):
    """Cross-entropy (or its constrained form) + weight x energy_margin."""

    def __init__(self, weight: float, m_in: float, m_out: float, b: float | None = None):
        super().__init__(b)
        self.weight, self.m_in, self.m_out = weight, m_in, m_out

    def outlier_term(self, logits: Tensor, outlier_logits: Tensor) -> tuple[float, Tensor]:
        return self.weight, energy_margin(logits, outlier_logits, self.m_in, self.m_out)


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Share of the global batch that is classified right."""
    return global_mean((logits.argmax(1) == labels).float())


@torch.no_grad()
def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Logit of the true class minus the largest other logit, shape (N,); negative = misclassified."""
    true = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], float("-inf"))
    return true.squeeze(1) - others.amax(1)
