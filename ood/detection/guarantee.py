"""How many false alarms a threshold set on calibration images can promise (split conformal prediction, Vovk, Gammerman and Shafer 2005).

A threshold is the r-th largest score of n ID images that nothing else was chosen on (larger: stranger); what lies above it is flagged, what
equals it is not, so that scores with ties keep every promise (they flag fewer). The rate at which new ID images are flagged is then,
over draws of the calibration images, distributed as Beta(r, n + 1 - r) or less. Three promises, all for images that are exchangeable with
those of calibration:

- *marginal*: over draws, the rate is at most alpha on average, r / (n + 1) <= alpha;
- *calibration-conditional*: with so much confidence, it is at most alpha for the very threshold that was found (Vovk 2012);
- *simultaneous*: with so much confidence, the rates of all thresholds at once are at most what they promise, so that alpha may be chosen
  while looking: the generalised Simes band (Sarkar 2008; Bates, Candès, Lei, Romano and Sesia 2023) with k = n / 2.
"""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc

Guarantee = Literal["marginal", "conditional", "simultaneous"]
KINDS: tuple[Guarantee, ...] = ("marginal", "conditional", "simultaneous")
SLACK = 1e-9  # against the rounding of a product that should be a whole number


def meaning(guarantee: Guarantee, confidence: float) -> str:
    """What a promise of this name means, in a few words."""
    return {
        "marginal": "on average over draws of the calibration images",
        "conditional": f"with confidence {confidence:g}, by this very threshold",
        "simultaneous": f"with confidence {confidence:g}, by all thresholds at once, so that the rate may be changed afterwards",
    }[guarantee]


def rank(guarantee: Guarantee, count: int, alpha: float, confidence: float) -> int:
    """The largest r of which `count` calibration images keep this promise at alpha; 0: they can't."""
    if guarantee == "marginal":
        return marginal_rank(count, alpha)
    return {"conditional": conditional_rank, "simultaneous": simultaneous_rank}[guarantee](count, alpha, confidence)


def marginal_rank(count: int, alpha: float) -> int:
    """The largest r of which `count` calibration images promise a mean false-alarm rate of at most alpha; 0: they can't."""
    return min(count, math.floor(alpha * (count + 1) + SLACK))


def conditional_rank(count: int, alpha: float, confidence: float) -> int:
    """The largest r of which they promise, with `confidence`, a false-alarm rate of at most alpha; 0: they can't."""
    low, high = 0, marginal_rank(count, alpha) + 1  # the distribution's mean lies below alpha where nearly all of it does
    high = min(max(high, 1), count)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if betainc(middle, count + 1 - middle, alpha) >= confidence else (low, middle - 1)
    return low


def simultaneous_rank(count: int, alpha: float, confidence: float) -> int:
    """The largest r whose bound in the Simes band is at most alpha; 0: none is."""
    return int(np.searchsorted(simes_band(count, confidence), alpha * (1 + SLACK), side="right"))


def simes_band(count: int, confidence: float) -> NDArray[np.float64]:
    """Upper bounds of the false-alarm rates at the ranks 1 to `count`, (count,): with `confidence` all hold at once.

    1 - delta^(1/k) (i (i-1) ... (i-k+1) / (n (n-1) ... (n-k+1)))^(1/k) at rank r = n + 1 - i, delta = 1 - confidence, k = n // 2 (Bates et
    al. 2023, section 3.2.1). The ranks above n - k + 1 have the bound 1.
    """
    if not count:
        return np.empty(0)
    k = max(1, count // 2)
    # The product falls by the factor (i - k) / i from i to i - 1; from rank 1, where it is 1, on.
    i = count - np.arange(count - 1, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.log(np.maximum(i - k, 0) / i)
    logs = np.concatenate([[0.0], np.cumsum(np.where(i > k, steps, -np.inf))])
    return -np.expm1((math.log1p(-confidence) + logs) / k)


def fewest(guarantee: Guarantee, alpha: float, confidence: float) -> int:
    """Calibration images without which this promise can't be kept at alpha."""
    if guarantee == "marginal":
        return math.ceil(1 / alpha - 1 - SLACK)
    needed = math.log1p(-confidence) / math.log1p(-alpha)  # 1 - alpha to this power is 1 - confidence
    return math.ceil(needed - SLACK) * (1 if guarantee == "conditional" else 2)


def smallest_rate(count: int, confidence: float | None = None) -> float:
    """The smallest false-alarm rate that `count` images can promise: on average, or with `confidence` for the threshold found."""
    return 1 / (count + 1) if confidence is None else 1 - (1 - confidence) ** (1 / count)


def threshold(calibration: NDArray, rank: int) -> float:
    """The r-th largest calibration score, above which images are flagged; infinite at r = 0: nothing is."""
    return math.inf if rank == 0 else float(np.sort(calibration)[len(calibration) - rank])


def p_values(calibration: NDArray, scores: NDArray) -> NDArray[np.float64]:
    """Of each score, (1 + how many of n calibration scores reach it) / (n + 1), (N,).

    That of an ID image is at most alpha with probability at most alpha, whatever alpha is (marginally); ties count as reached.
    """
    ordered = np.sort(calibration, kind="stable")  # at once where they are sorted already
    reaching = len(ordered) - np.searchsorted(ordered, scores, side="left")
    return (1 + reaching) / (len(ordered) + 1)


def discoveries(p_values: NDArray, rate: float) -> NDArray[np.bool_]:
    """Which of a batch are flagged so that of those at most the share `rate` is known, on average: Benjamini and Hochberg 1995.

    It holds for conformal p-values that rest on the same calibration images (Bates et al. 2023).
    """
    from scipy.stats import false_discovery_control

    return false_discovery_control(p_values) <= rate * (1 + SLACK) if len(p_values) else np.zeros(0, bool)


def interval(flagged: int, count: int, confidence: float) -> tuple[float, float]:
    """The exact two-sided interval of a rate of which `flagged` of `count` images were seen (Clopper and Pearson 1934)."""
    from scipy.special import betaincinv

    tail = (1 - confidence) / 2
    low = float(betaincinv(flagged, count - flagged + 1, tail)) if flagged else 0.0
    return low, float(betaincinv(flagged + 1, count - flagged, 1 - tail)) if flagged < count else 1.0
