"""How far confidence can be believed: expected, RMS and MAD calibration error, soft F1, and the temperature that mends most of it."""

import numpy as np
from numpy.typing import NDArray

from ood.evaluation.metrics import negative_log_likelihood
from ood.evaluation.protocols import draws_of

COOLEST, HOTTEST, PRECISION = 0.2, 5.0, 1e-4


def fit_temperature(logits: NDArray, labels: NDArray) -> float:
    """The T in [0.2, 5] at which softmax(z / T) has the least NLL, to 1e-4 (OE, appendix; Guo et al. 2017).

    Bisection on the sign of the derivative, then the best of the bracket's ends and middle. Fit it on ID validation images.

    Args:
        logits: (N, C), finite. labels: (N,).
    """
    z = logits.astype(np.float64)
    true = z[np.arange(len(labels)), labels]

    def rising(t: float) -> bool:
        # d NLL / dT = (mean true logit - mean expected logit) / T^2
        return bool(true.mean() > (softmax(z / t) * z).sum(1).mean())

    low, high = COOLEST, HOTTEST
    while high - low >= PRECISION:
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) else (middle, high)
    return min((low, (low + high) / 2, high), key=lambda t: negative_log_likelihood(z / t, labels))


def softmax(logits: NDArray) -> NDArray[np.float64]:
    """Row-wise, (N, C)."""
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


def expected_error(confidence: NDArray, correct: NDArray, bins: int = 15) -> float:
    """Expected calibration error over `bins` equal-width bins of confidence."""
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = [np.bincount(index, values.astype(np.float64), minlength=bins) for values in (confidence, correct)]
    return float(np.abs(gaps[0] - gaps[1]).sum() / len(confidence))


def rms_error(confidence: NDArray, correct: NDArray, bin_size: int = 100, quirk: bool = False) -> float:
    """Root mean square calibration error over bins of `bin_size` samples of like confidence (OE, appendix).

    The last bin takes the remainder.

    Args:
        quirk: leave the most confident bin out and still count its samples, as the reference does.
    """
    shares, gaps = _bins(confidence, correct, bin_size, quirk)
    return float(np.sqrt((shares * gaps**2).sum()))


def mad_error(confidence: NDArray, correct: NDArray, bin_size: int = 100, quirk: bool = False) -> float:
    """Mean absolute calibration error over the same bins as `rms_error` (OE, appendix)."""
    shares, gaps = _bins(confidence, correct, bin_size, quirk)
    return float((shares * np.abs(gaps)).sum())


def soft_f1(confidence: NDArray, correct: NDArray) -> float:
    """2 TP / (2 TP + FP + FN) with errors as positives and 1 - confidence as their soft detection (OE, appendix)."""
    doubt, wrong = 1 - confidence, 1 - correct.astype(np.float64)
    return float(2 * (doubt * wrong).sum() / (doubt + wrong).sum()) if (doubt + wrong).any() else 0.0


def _bins(confidence: NDArray, correct: NDArray, bin_size: int, quirk: bool) -> tuple[NDArray, NDArray]:
    """Share of samples, and mean confidence minus accuracy, of every bin; equal confidences in random order, the same every time."""
    order = np.lexsort([np.random.default_rng(0).permutation(len(confidence)), confidence])
    starts = np.arange(max(1, len(order) // bin_size)) * bin_size
    sizes = np.diff(starts, append=len(order))
    surplus = np.add.reduceat((confidence - correct)[order], starts)
    used = slice(-1) if quirk else slice(None)
    return (sizes / len(order))[used], (surplus / sizes)[used]


FIGURES = {"rms": rms_error, "mad": mad_error, "soft_f1": soft_f1}


def as_oe_measures(
    validation: tuple[NDArray, NDArray], inside: tuple[NDArray, NDArray], outside: dict[str, NDArray], seed: int = 0
) -> dict[str, float]:
    """Calibration at the temperature that ID validation asks for, on ID and on ID with outliers, whose predictions are all wrong (OE).

    Args:
        validation, inside: logits (N, C) and labels (N,) of ID validation and ID test. outside: logits of every OOD test set.
        seed: of the draws: one outlier to five ID images, ten times.

    Returns:
        temperature; id_rms, id_mad, id_soft_f1; and mixed_rms, mixed_mad, mixed_soft_f1: means over draws and sets.
    """
    t = fit_temperature(*validation)
    confidence, correct = _believed(inside[0], t), (inside[0].argmax(1) == inside[1]).astype(np.float64)
    figures = {f"id_{name}": measure(confidence, correct) for name, measure in FIGURES.items()}
    mixed: dict[str, list[float]] = {name: [] for name in FIGURES}
    for index, name in enumerate(sorted(outside)):
        for drawn in draws_of("oe", _believed(outside[name], t), len(confidence), (seed, index)):
            both, truth = np.r_[confidence, drawn], np.r_[correct, np.zeros(len(drawn))]
            for key, measure in FIGURES.items():
                mixed[key].append(measure(both, truth))
    return {"temperature": t} | figures | {f"mixed_{name}": float(np.mean(values)) for name, values in mixed.items()}


def _believed(logits: NDArray, temperature: float) -> NDArray[np.float64]:
    return softmax(logits.astype(np.float64) / temperature).max(1)
