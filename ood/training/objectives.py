"""Training objectives: what a classifier is taught, as formulas.

Every mean is over the global batch: ID terms over ID samples, outlier terms over outliers; where two kinds share one mean, it says so.
Shapes: logits (N, C), labels (N,) or, soft, (N, C), outlier_logits (M, C).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ood.detection.rotation import turn_error
from ood.distributed import global_mean, global_rand

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


def energy_regularizer(logits: Tensor, outlier_logits: Tensor, phi: nn.Module) -> Tensor:
    """Two-class cross-entropy on phi(logsumexp(z)), ID = 1, outliers = 0, one mean over both (DREAM-OOD, 2023).

    With an affine phi this is binary cross-entropy on an affine function of the energy.
    """
    energies = torch.cat([logits, outlier_logits]).logsumexp(1, keepdim=True)
    sides = (torch.arange(len(energies), device=energies.device) < len(logits)).long()
    with torch.autocast(energies.device.type, enabled=False):  # in half precision energies of 20 would be off by a hundredth
        return global_mean(F.cross_entropy(phi(energies), sides, reduction="none"))


class Objective(nn.Module):
    """ID term plus weighted outlier term.

    forward(logits, labels, outlier_logits or None, labels of these or None) -> (loss, its terms). A module, so that an objective may
    have parameters of its own, which are then trained along with the network.

    Args:
        b: the loss constraint on the ID term, None for plain cross-entropy.
    """

    asks_confidence = False  # whether it wants what the network's confidence branch says, too
    asks_turns = False  # whether it wants images seen in four turns, and what the network says of those

    def __init__(self, b: float | None = None):
        super().__init__()
        self.b = b

    def forward(
        self, logits: Tensor, labels: Tensor, outlier_logits: Tensor | None, outlier_labels: Tensor | None = None
    ) -> tuple[Tensor, Terms]:
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


class SelectiveConstraint(Objective):
    """Mean of |ce_i - b| + b over the marked samples and of ce_i over the others: only the marked are held at b, each by itself.

    Where Unleashing Mask (ICML 2023) holds the mean of a batch, everybody's loss rises until it is b; here that of the atypical alone does.
    """

    def forward(
        self,
        logits: Tensor,
        labels: Tensor,
        outlier_logits: Tensor | None,
        outlier_labels: Tensor | None = None,
        marked: Tensor | None = None,
    ) -> tuple[Tensor, Terms]:
        assert self.b is not None  # who makes such an objective gives both
        assert marked is not None
        each = F.cross_entropy(logits, labels, reduction="none")
        loss = global_mean(torch.where(marked, loss_constraint(each, self.b), each))
        return loss, {"loss": loss.detach(), "ce": global_mean(each).detach()}


class LogitNorm(Objective):
    """Cross-entropy of normalised logits, z / ((||z|| + 1e-7) tau) (LogitNorm, Wei et al. 2022).

    For unit logits it can't fall below log(1 + (C - 1) exp(-sqrt(C / (C - 1)) / tau)). At test time the raw logits count.
    """

    def __init__(self, tau: float):
        super().__init__()
        self.tau = tau

    def forward(
        self, logits: Tensor, labels: Tensor, outlier_logits: Tensor | None, outlier_labels: Tensor | None = None
    ) -> tuple[Tensor, Terms]:
        unit = logits / (logits.norm(dim=1, keepdim=True) + 1e-7)
        return super().forward(unit / self.tau, labels, outlier_logits)


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


class EnergyRegularizer(Objective):
    """Cross-entropy (or its constrained form) + beta x energy_regularizer, with the head phi that learns along (DREAM-OOD, 2023).

    Args:
        weight: beta; the paper's 1.0 (ImageNet-100), 2.5 (CIFAR-100).
        phi: 'affine', Linear(1, 2), or 'mlp', Linear(1, 512)-ReLU-Linear(512, 2); the paper's for CIFAR-100 and ImageNet-100. It
            isn't needed for testing: the score is the energy itself.
    """

    def __init__(self, weight: float, phi: str = "mlp", b: float | None = None):
        super().__init__(b)
        self.weight = weight
        self.phi = nn.Linear(1, 2) if phi == "affine" else nn.Sequential(nn.Linear(1, 512), nn.ReLU(), nn.Linear(512, 2))
        _orient(self.phi)

    def outlier_term(self, logits: Tensor, outlier_logits: Tensor) -> tuple[float, Tensor]:
        return self.weight, energy_regularizer(logits, outlier_logits, self.phi)


@torch.no_grad()
def _orient(phi: nn.Module, low: float = 0.0, high: float = 20.0) -> None:
    """Swap phi's two outputs where the draw would call a high logsumexp an outlier's.

    The released code leaves this sign to chance. The regulariser doesn't mind, the score does: it says that ID has the higher one, and a
    net that was pushed the other way is a detector turned upside down.
    """
    last = phi[-1] if isinstance(phi, nn.Sequential) else phi
    assert isinstance(last, nn.Linear)
    outputs = phi(torch.tensor([[low], [high]], dtype=last.weight.dtype))
    votes = outputs[:, 1] - outputs[:, 0]
    if votes[1] < votes[0]:
        last.weight.copy_(last.weight.flip(0))
        last.bias.copy_(last.bias.flip(0))


class Confidence(Objective):
    """Cross-entropy of hinted predictions + lambda x the price of hints, for a network that says how sure it is (DeVries and Taylor 2018).

    c in (0, 1) is the branch's word. Half of ID (drawn anew for every batch) is predicted as c p + (1 - c) y: who is unsure may ask for the
    answer, at -log c. lambda begins at 0.1 and moves so that the mean price stays near `budget`, divided by 1.01 where it is below, by 0.99
    where it is above. Formula and constants are those of the authors' code. Outliers add weight x mean log c, Outlier Exposure's variant
    (as we remember that paper: its code lacks it); from c = 10^-4 on they count no more, for the term has no lower bound.

    Args:
        budget: of hints, in nats; the paper's 0.3.
        weight: of the outlier term.
    """

    price: Tensor
    asks_confidence = True
    LEAST, HINTED = 1e-4, 0.5

    def __init__(self, budget: float, weight: float = 0.0):
        super().__init__()
        self.budget, self.weight = budget, weight
        self.register_buffer("price", torch.tensor(0.1))

    def forward(
        self,
        logits: Tensor,
        labels: Tensor,
        outlier_logits: Tensor | None,
        outlier_labels: Tensor | None = None,
        sure: Tensor | None = None,
    ) -> tuple[Tensor, Terms]:
        """sure: logits of confidence of ID and then of outliers, (N + M,)."""
        assert sure is not None  # the training loop gives it
        count, log_c, price = len(logits), F.logsigmoid(sure), self.price.clone()
        hinted = global_rand(sure.shape, sure.device)[:count] < self.HINTED
        # log((1 - c) + c p_y), which is log(c p_y + (1 - c) y) at y; of those without a hint log p_y
        log_p = -F.cross_entropy(logits, labels, reduction="none")
        answered = torch.logaddexp(log_p + log_c[:count], F.logsigmoid(-sure[:count]))
        task, asked = global_mean(-torch.where(hinted, answered, log_p)), global_mean(-log_c[:count])
        loss = task + price * asked
        terms = {"ce": global_mean(-log_p).detach(), "hints": asked.detach(), "price": price}
        if outlier_logits is not None:
            term = global_mean(log_c[count:].clamp(min=math.log(self.LEAST)))
            loss = loss + self.weight * term
            terms["outlier"] = term.detach()
        with torch.no_grad():
            self.price.copy_(torch.where(asked < self.budget, price / 1.01, price / 0.99))
        return loss, {"loss": loss.detach(), **terms}


class RotationPrediction(Objective):
    """Cross-entropy + weight x that of which quarter turn an image is seen in, by a branch beside the head (Hendrycks et al. 2019).

    Every image is seen in all four turns; its class is asked of the first alone. OpenOOD's recipe has weight 1.
    """

    asks_turns = True

    def __init__(self, weight: float):
        super().__init__()
        self.weight = weight

    def forward(
        self,
        logits: Tensor,
        labels: Tensor,
        outlier_logits: Tensor | None,
        outlier_labels: Tensor | None = None,
        turned: Tensor | None = None,
    ) -> tuple[Tensor, Terms]:
        """turned: logits of the turn (4 N, 4), turn by turn."""
        assert turned is not None  # the training loop gives it
        loss, terms = super().forward(logits, labels, outlier_logits)
        rotation = global_mean(turn_error(turned))
        loss = loss + self.weight * rotation
        return loss, terms | {"loss": loss.detach(), "rotation": rotation.detach()}


class LabelledInliers(Objective):
    """Plain cross-entropy on ID images and dreamed inliers together, one mean over both (DREAM-ID)."""

    def forward(
        self, logits: Tensor, labels: Tensor, outlier_logits: Tensor | None, outlier_labels: Tensor | None = None
    ) -> tuple[Tensor, Terms]:
        assert outlier_logits is not None  # a run without dreamed inliers has no such objective
        assert outlier_labels is not None
        pairs = ((logits, labels), (outlier_logits, outlier_labels))
        each = torch.cat([F.cross_entropy(one, truth, reduction="none") for one, truth in pairs])
        ce, dreamed = (global_mean(part.detach()) for part in (each[: len(labels)], each[len(labels) :]))
        loss = global_mean(each)
        return loss, {"loss": loss.detach(), "ce": ce, "inliers": dreamed}


def soft_labels(labels: Tensor, classes: int, smoothing: float, mixed_in: Tensor | None = None, share: Tensor | float = 1.0) -> Tensor:
    """Distributions over the classes, (N, C): the labels, mixed with others (1 - share of those), then smoothed towards uniform.

    Cross-entropy is linear in them: MixUp's and CutMix's share-weighted sum of two losses, and label smoothing's mixture.
    """
    soft = F.one_hot(labels, classes).float()
    if mixed_in is not None:
        soft = share * soft + (1 - share) * F.one_hot(mixed_in, classes)
    return (1 - smoothing) * soft + smoothing / classes


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Share of the global batch that is classified right."""
    return global_mean((logits.argmax(1) == labels).float())
