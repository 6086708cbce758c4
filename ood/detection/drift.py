"""A watch over a stream: do alarms exceed what calibration allows? An anytime-valid test, which may be looked at after every image.

While every image is flagged with probability at most alpha, whatever came before, each factor (q / alpha)^X ((1 - q) / (1 - alpha))^(1 - X)
with q > alpha has a mean of at most 1 (X: flagged or not), so products of them from any start on, and weighted means of such products, are
test supermartingales: the chance that one ever reaches 1 / delta is at most delta (Ville 1939; Ramdas et al. 2023).
The mean here is over starts j, weighted 1 / (j (j + 1)), so that a change is seen whenever it comes, and over a few rates q. To forget
starts that tell nothing makes it smaller, which keeps it valid.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ood.detection.rule import Rule

RATES = (2.0, 4.0)  # times alpha
HIGH = (0.25, 0.5, 0.9)  # and these, where they are more
STARTS = 400  # that are remembered


def allowed(rule: Rule) -> float:
    """The rate of alarms that the rule's very threshold has at most, with its confidence; of several, each has at most that."""
    from scipy.special import betaincinv

    sure = 1 - (1 - rule.confidence) / len(rule.parts)
    return max(float(betaincinv(rank, len(part) + 1 - rank, sure)) for rank, part in zip(rule.ranks, rule.parts, strict=True))


@dataclass
class Watch:
    """alpha: allowed rate of alarms; delta: chance of a false report, ever, if no more than that is so.

    seen, alarms: so far. starts, logs: of every start that is remembered its number (from 1), (s,), and the logarithms of its products, (s,
    rates). since: the likeliest start of a change, once it is reported; at: when it was.
    """

    alpha: float
    delta: float
    seen: int = 0
    alarms: int = 0
    starts: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    logs: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    since: int | None = None
    at: int | None = None

    def __post_init__(self) -> None:
        wanted = [*(factor * self.alpha for factor in RATES), *HIGH]
        rates = np.array(sorted({rate for rate in wanted if self.alpha < rate < 1} or {(1 + self.alpha) / 2}))
        self._hit, self._miss = np.log(rates / self.alpha), np.log1p(-rates) - math.log1p(-self.alpha)
        self.logs = self.logs.reshape(len(self.starts), len(rates))

    def update(self, flag: bool) -> None:
        """One more image has come."""
        self.seen += 1
        self.alarms += int(flag)
        self.starts = np.append(self.starts, self.seen)
        self.logs = np.vstack([self.logs, np.zeros(len(self._hit))]) + (self._hit if flag else self._miss)
        weighted = np.logaddexp.reduce(self.logs, axis=1) - math.log(len(self._hit)) - np.log(self.starts) - np.log1p(self.starts)
        if self.since is None and np.logaddexp.reduce(weighted) >= -math.log(self.delta):
            self.since, self.at = int(self.starts[weighted.argmax()]), self.seen
        if len(self.starts) > STARTS:
            kept = np.sort(np.argsort(-weighted, kind="stable")[: STARTS // 2])
            self.starts, self.logs = self.starts[kept], self.logs[kept]

    def told(self) -> str:
        """What it has found, in a line."""
        counted = f"{self.alarms:,} of {self.seen:,} flagged, at most {self.alpha:.1%} are allowed"
        if self.since is None:
            return f"no drift: {counted}"
        return f"drift since image {self.since:,}, noticed at {self.at:,}: {counted}"
