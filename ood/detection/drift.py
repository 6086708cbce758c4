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
    """The rate of alarms that the rule's very threshold has at most, with its confidence (of several thresholds: the largest)."""
    from scipy.special import betaincinv

    sizes = [(rank, len(part)) for rank, part in zip(rule.ranks, rule.parts, strict=True)]
    return max(float(betaincinv(rank, count + 1 - rank, rule.confidence)) for rank, count in sizes)


@dataclass
class Watch:
    """alpha: allowed rate of alarms; delta: chance of a false report, ever. seen, alarms: so far. starts, logs: of every start that is
    remembered its number (from 1) and the logarithms of its products, (starts, rates). since: the likeliest start of a change, once it is
    reported; at: when it was.
    """

    alpha: float
    delta: float
    seen: int = 0
    alarms: int = 0
    starts: list[int] = field(default_factory=list)
    logs: list[list[float]] = field(default_factory=list)
    since: int | None = None
    at: int | None = None

    @property
    def rates(self) -> NDArray[np.float64]:
        """The rates that are betted on."""
        wanted = [*(factor * self.alpha for factor in RATES), *HIGH]
        return np.array(sorted({rate for rate in wanted if self.alpha < rate < 1} or {(1 + self.alpha) / 2}))

    def update(self, flags: NDArray[np.bool_]) -> None:
        """Images that came, in their order."""
        rates = self.rates
        hit, miss = np.log(rates / self.alpha), np.log1p(-rates) - math.log1p(-self.alpha)
        starts, logs = np.array(self.starts, np.int64), np.array(self.logs, np.float64).reshape(-1, len(rates))
        for flag in np.asarray(flags, bool):
            self.seen += 1
            self.alarms += int(flag)
            starts, logs = np.r_[starts, self.seen], np.vstack([logs, np.zeros(len(rates))]) + (hit if flag else miss)
            weighted = np.logaddexp.reduce(logs, axis=1) - math.log(len(rates)) - np.log(starts) - np.log1p(starts)
            if self.since is None and np.logaddexp.reduce(weighted) >= -math.log(self.delta):
                self.since, self.at = int(starts[weighted.argmax()]), self.seen
            if len(starts) > STARTS:
                kept = np.sort(np.argsort(-weighted, kind="stable")[:STARTS])
                starts, logs = starts[kept], logs[kept]
        self.starts, self.logs = starts.tolist(), logs.tolist()

    def told(self) -> str:
        """What it has found, in a line."""
        counted = f"{self.alarms:,} of {self.seen:,} flagged, at most {self.alpha:.1%} are allowed"
        if self.since is None:
            return f"no drift: {counted}"
        return f"drift since image {self.since:,}, noticed at {self.at:,}: {counted}"
