"""How many false alarms a threshold set on calibration images can promise: split-conformal ranks (Vovk, Gammerman and Shafer 2005).

A threshold is the r-th largest score of n ID images that nothing else was chosen on (larger: stranger); what reaches it is flagged. Then
the rate at which new ID images are flagged is, over draws of the calibration images, distributed as Beta(r, n + 1 - r). Two promises:
*marginal*, its mean r / (n + 1) is at most alpha; *calibration-conditional*, with so much confidence it is at most alpha for the very
threshold that was found (Vovk 2012). Both need images that are exchangeable with those to come.
"""

import math

from scipy.stats import beta


def marginal_rank(count: int, alpha: float) -> int:
    """The largest r of which `count` calibration images promise a mean false-alarm rate of at most alpha; 0: they can't."""
    return math.floor(alpha * (count + 1) + 1e-9)


def conditional_rank(count: int, alpha: float, confidence: float) -> int:
    """The largest r of which they promise, with `confidence`, a false-alarm rate of at most alpha; 0: they can't."""
    low, high = 0, marginal_rank(count, alpha) + 1  # the distribution's mean lies below alpha where nearly all of it does
    high = min(max(high, 1), count)
    while low < high:
        rank = (low + high + 1) // 2
        low, high = (rank, high) if beta.cdf(alpha, rank, count + 1 - rank) >= confidence else (low, rank - 1)
    return low


def fewest(alpha: float, confidence: float | None = None) -> int:
    """Calibration images without which nothing can be promised at alpha: with `confidence` for the threshold found, else on average."""
    if confidence is None:
        return math.ceil(1 / alpha - 1 - 1e-9)
    return math.ceil(math.log(1 - confidence) / math.log1p(-alpha) - 1e-9)


def smallest_rate(count: int, confidence: float | None = None) -> float:
    """The smallest false-alarm rate that `count` images can promise."""
    return 1 / (count + 1) if confidence is None else 1 - (1 - confidence) ** (1 / count)
