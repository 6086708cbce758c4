"""Detection metrics, accuracy, NLL. Scores are larger for OOD everywhere; fractions lie in [0, 1].

"FPR95" means two different things in the four papers, so both are here under names that say which:
fpr_ood_at_tpr95_id (UM, DREAM-OOD, energy): share of OOD let through when 95 % of ID is kept;
fpr_id_at_tpr95_ood (OE, OpenOOD): share of ID flagged when 95 % of OOD is caught.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

RECALL = 0.95
Rule = Literal["closest", "at_least"]
KEYS = ("auroc", "aupr_in", "aupr_out", "fpr_ood_at_tpr95_id", "fpr_id_at_tpr95_ood")


def detection_metrics(id_scores: ArrayLike, ood_scores: ArrayLike, rule: Rule = "closest", recall: float = RECALL) -> dict[str, float]:
    """How well scores tell OOD from ID.

    Args:
        id_scores, ood_scores: 1-D, larger = more OOD.
        rule: which cut has "95 %" recall. 'closest': the cut whose recall is nearest 0.95 on either side, as in the code of OE, energy
            and UM; 'at_least': the first cut with recall >= 0.95, as in OpenOOD.
        recall: another one than 0.95, of the two rates whatever their names say; the OE paper has 0.9 for texts.

    Returns:
        auroc; aupr_in (average precision, ID positive); aupr_out (OOD positive); fpr_ood_at_tpr95_id; fpr_id_at_tpr95_ood.

    Raises:
        ValueError: empty, not 1-D, or not finite scores.
    """
    inside, outside = _scores(id_scores, "id_scores"), _scores(ood_scores, "ood_scores")
    # One sort serves all: at every distinct score, how many of each kind lie at or above it (as OOD) ...
    cuts, counts = np.unique(np.concatenate([inside, outside]), return_inverse=True)
    per_id = np.bincount(counts[: len(inside)], minlength=len(cuts))
    per_ood = np.bincount(counts[len(inside) :], minlength=len(cuts))
    # ... and at or below it (as ID).
    id_up, ood_up = np.cumsum(per_id[::-1]), np.cumsum(per_ood[::-1])
    id_down, ood_down = np.cumsum(per_id), np.cumsum(per_ood)
    pairs = float(len(inside)) * len(outside)
    auroc = ((np.concatenate([[0], id_down[:-1]]) + per_id / 2) * per_ood).sum() / pairs
    return {
        "auroc": float(auroc),
        "aupr_in": _average_precision(id_down, ood_down),
        "aupr_out": _average_precision(ood_up, id_up),
        "fpr_ood_at_tpr95_id": _false_positive_rate(id_down, ood_down, rule, recall),
        "fpr_id_at_tpr95_ood": _false_positive_rate(ood_up, id_up, rule, recall),
    }


def _average_precision(true: NDArray, false: NDArray) -> float:
    """Average precision (step-wise, not trapezoid) from cumulative counts of true and false positives at falling cuts."""
    gained = np.diff(true, prepend=0)
    precision = true / (true + false)
    return float((gained * precision).sum() / true[-1])


def aupr_trapezoid(positive: ArrayLike, negative: ArrayLike) -> float:
    """Area under the precision-recall curve by straight lines between cuts, as OpenOOD computes it (the papers: average precision).

    Args:
        positive, negative: scores, larger = more positive.
    """
    found, false = _scores(positive, "positive"), _scores(negative, "negative")
    cuts, where = np.unique(np.concatenate([found, false]), return_inverse=True)
    true = np.cumsum(np.bincount(where[: len(found)], minlength=len(cuts))[::-1])
    wrong = np.cumsum(np.bincount(where[len(found) :], minlength=len(cuts))[::-1])
    recall, precision = np.concatenate([[0], true / len(found)]), np.concatenate([[1], true / (true + wrong)])
    return float(np.trapezoid(precision, recall))


def _false_positive_rate(true: NDArray, false: NDArray, rule: Rule, recall: float) -> float:
    return float(_false_positive_rates(true[None], false[None], rule, recall)[0])


def _false_positive_rates(true: NDArray, false: NDArray, rule: Rule, wanted: float = RECALL) -> NDArray[np.float64]:
    """False-positive rate at the wanted recall for rows of cumulative counts at falling cuts, each (n, cuts)."""
    total = true[:, -1:]
    recall = true / total
    if rule == "at_least":
        chosen = np.argmax(recall >= wanted, axis=1)
    elif rule == "closest":
        # Cuts after the first with full recall don't count. From there downwards: among equally near cuts the larger recall, and
        # at equal recall the larger false-positive rate, comes first.
        beyond = np.cumsum(true == total, axis=1) > 1
        distance = np.where(beyond, np.inf, np.abs(recall - wanted))
        chosen = true.shape[1] - 1 - np.argmin(distance[:, ::-1], axis=1)
    else:
        raise ValueError(f"rule must be 'closest' or 'at_least', not {rule!r}")
    return np.take_along_axis(false, chosen[:, None], axis=1)[:, 0] / false[:, -1]


def _scores(values: ArrayLike, name: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} must be 1-D and not empty, its shape is {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds {int((~np.isfinite(array)).sum())} values that are not finite")
    return array


def bootstrap(
    id_scores: ArrayLike, ood_sets: Sequence[ArrayLike], draws: int, seed: int, rule: Rule = "closest"
) -> dict[str, NDArray[np.float64]]:
    """Bootstrap draws of the mean over OOD sets of AUROC and fpr_ood_at_tpr95_id, shape (draws,) each.

    Images are resampled within every set; equal seeds resample alike, so that draws of several models can be averaged or compared.
    """
    rng = np.random.default_rng(seed)
    inside = _scores(id_scores, "id_scores")
    id_weights = rng.multinomial(len(inside), np.full(len(inside), 1 / len(inside)), size=draws)
    aurocs, rates = np.zeros(draws), np.zeros(draws)
    for scores in ood_sets:
        outside = _scores(scores, "ood_scores")
        weights = rng.multinomial(len(outside), np.full(len(outside), 1 / len(outside)), size=draws)
        cuts, where = np.unique(np.concatenate([inside, outside]), return_inverse=True)
        per_id = _by_cut(id_weights, where[: len(inside)], len(cuts))
        per_ood = _by_cut(weights, where[len(inside) :], len(cuts))
        id_down, ood_down = per_id.cumsum(1), per_ood.cumsum(1)
        aurocs += ((id_down - per_id / 2) * per_ood).sum(1) / (len(inside) * len(outside))
        rates += _false_positive_rates(id_down, ood_down, rule)
    return {"auroc": aurocs / len(ood_sets), "fpr_ood_at_tpr95_id": rates / len(ood_sets)}


def _by_cut(weights: NDArray, where: NDArray, cuts: int) -> NDArray[np.float64]:
    """Sum weights (draws, n) of samples that share a cut: (draws, cuts)."""
    order = np.argsort(where, kind="stable")
    starts = np.flatnonzero(np.diff(where[order], prepend=-1))
    table = np.zeros((len(weights), cuts))
    table[:, where[order][starts]] = np.add.reduceat(weights[:, order], starts, axis=1)
    return table


def roc_curve(id_scores: ArrayLike, ood_scores: ArrayLike, points: int = 101) -> tuple[NDArray, NDArray]:
    """(false-positive rate, true-positive rate), OOD positive, at `points` evenly spaced false-positive rates.

    Between the cuts the curve is the straight line that ties mean.
    """
    inside, outside = _scores(id_scores, "id_scores"), _scores(ood_scores, "ood_scores")
    cuts, where = np.unique(np.concatenate([inside, outside]), return_inverse=True)
    flagged, caught = (
        np.r_[0, np.bincount(part, minlength=len(cuts))[::-1].cumsum()] / len(part) for part in np.split(where, [len(inside)])
    )
    rates = np.linspace(0, 1, points)
    # At a rate where the curve rises straight up, its top counts.
    top = np.r_[np.diff(flagged) > 0, True]
    return rates, np.interp(rates, flagged[top], caught[top])


def accuracy(logits: NDArray, labels: NDArray) -> float:
    """Share of right predictions."""
    return float((logits.argmax(1) == labels).mean())


def negative_log_likelihood(logits: NDArray, labels: NDArray) -> float:
    """Mean cross-entropy in nats."""
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    return float((np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(labels)), labels]).mean())
