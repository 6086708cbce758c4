"""What a detector's threshold does to images that it has never seen: false alarms, what is caught, what errors are left, what it costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from ood.deploy.answers import Answers
from ood.detection import guarantee
from ood.detection.rule import Rule
from ood.drawing import COLOURS, plt, save
from ood.evaluation.groups import group_of, members_in

RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
STYLES: dict[guarantee.Guarantee, str] = {"marginal": "-", "conditional": "--", "simultaneous": ":"}
Row = dict[str, Any]


@dataclass(frozen=True)
class Tested:
    """What a detector says of the test images. inside: of ID, whose labels are known; outside: of every near and far set, by its name."""

    inside: Answers
    labels: NDArray[np.int64]
    outside: dict[str, Answers]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which ID images are recognised, flagged or not."""
        return self.inside.predicted == self.labels


def figures(rule: Rule, tested: Tested, price: float) -> dict[str, Any]:
    """At the detector's own rate. Shares have exact intervals at the rule's confidence.

    Returns:
        id: flagged, its interval low and high, accuracy, selective_accuracy (of what isn't flagged), images; near, far: set -> caught, low,
        high, images; cost: of one ID and one OOD image, see `cost`; cost_without: the same with no threshold.
    """
    flagged, right = rule.flags(tested.inside.scores, tested.inside.predicted), tested.right
    found: dict[str, Any] = {
        "id": {
            **_share(flagged, rule.confidence, "flagged"),
            "accuracy": float(right.mean()),
            "selective_accuracy": float(right[~flagged].mean()) if (~flagged).any() else None,
        }
    }
    caught = {name: rule.flags(answers.scores, answers.predicted) for name, answers in tested.outside.items()}
    for group in ("near", "far"):
        found[group] = {name: _share(caught[name], rule.confidence, "caught") for name in caught if group_of(name) == group}
    found["cost"] = cost(flagged, right, list(caught.values()), price)
    found["cost_without"] = cost(np.zeros_like(flagged), right, [np.zeros_like(one) for one in caught.values()], price)
    return found


def _share(found: NDArray[np.bool_], confidence: float, name: str) -> dict[str, float]:
    low, high = guarantee.interval(int(found.sum()), len(found), confidence)
    return {name: float(found.mean()), "low": low, "high": high, "images": len(found)}


def cost(flagged: NDArray[np.bool_], right: NDArray[np.bool_], caught: Sequence[NDArray[np.bool_]], price: float) -> float:
    """What one ID image and one OOD image cost together, in accepted wrong classes (the risk of SCOD, Xia and Bouganis 2022).

    An ID image that is accepted under a wrong class costs 1, an OOD image that is accepted `price`; what is flagged costs nothing, which is
    why the rate has a limit. OOD: the unweighted mean over sets.
    """
    accepted = np.mean([(~one).mean() for one in caught]) if caught else 0.0
    return float((~flagged & ~right).mean() + price * accepted)


def headline(figures: dict[str, Any]) -> dict[str, Any]:
    """What metrics/detector.json holds: shares of ID flagged and right, of each OOD set caught, the cost."""
    shares = {f"{group}_caught": {name.split("/")[1]: one["caught"] for name, one in figures[group].items()} for group in ("near", "far")}
    return (
        {"id_flagged": figures["id"]["flagged"]}
        | {key: figures["id"][key] for key in ("accuracy", "selective_accuracy")}
        | shares
        | {"cost": figures["cost"], "cost_without": figures["cost_without"]}
    )


def told(rule: Rule, figures: dict[str, Any] | None) -> list[str]:
    """The operating point in a few lines."""
    lines = [f"on {len(rule.calibration)} calibration images: at most {rule.reject:.1%} of ID flagged, {rule.said}"]
    if figures is None:
        return lines
    inside = figures["id"]
    left = "" if inside["selective_accuracy"] is None else f", of what isn't {inside['selective_accuracy']:.1%} right"
    lines.append(
        f"ID test: {inside['accuracy']:.1%} right; {inside['flagged']:.1%} flagged ({inside['low']:.1%} to {inside['high']:.1%}){left}"
    )
    lines += [
        f"{name}: {one['caught']:.1%} caught ({one['low']:.1%} to {one['high']:.1%})"
        for g in ("near", "far")
        for name, one in figures[g].items()
    ]
    return [
        *lines,
        f"an ID and an OOD image cost {figures['cost_without']:.2f} wrong classes without a threshold, {figures['cost']:.2f} with it",
    ]


def over_rates(rule: Rule, tested: Tested | None, price: float) -> list[Row]:
    """A row for every rate and promise: the threshold, and what it does; without test figures where none are asked for.

    Where a promise can't be kept its threshold is empty, and nothing is flagged.
    """
    rows: list[Row] = []
    for kind in guarantee.KINDS:
        for rate in sorted({*RATES, rule.reject}):
            here = rule.under(reject=rate, promise=kind)
            held = all(here.ranks)
            one = held and not rule.per_class
            row: Row = {
                "guarantee": kind,
                "reject": rate,
                "rank": here.ranks[0] if one else "",
                "threshold": float(here.thresholds[0]) if one else "",
            }
            if tested is not None:
                found = figures(here, tested, price) if held else None
                row |= {
                    "id_flagged": found["id"]["flagged"] if found else "",
                    "low": found["id"]["low"] if found else "",
                    "high": found["id"]["high"] if found else "",
                    "selective_accuracy": found["id"]["selective_accuracy"] if found else "",
                    "near_caught": _mean(found, "near"),
                    "far_caught": _mean(found, "far"),
                    "cost": found["cost"] if found else "",
                }
            rows.append(row)
    return rows


def _mean(found: dict[str, Any] | None, group: str) -> float | str:
    return float(np.mean([one["caught"] for one in found[group].values()])) if found and found[group] else ""


def draw(path: Path, title: str, rule: Rule, tested: Tested) -> None:
    """Promised against seen false alarms; what is caught at them; accuracy of what is left, against how much that is."""
    figure, (promised, caught, left) = plt.subplots(1, 3, figsize=(13, 3.6))
    rates = np.geomspace(0.002, 0.5, 60)
    for kind, style in STYLES.items():
        rules = [(rate, rule.under(reject=float(rate), promise=kind)) for rate in rates]
        seen = [(rate, one.flags(tested.inside.scores, tested.inside.predicted).mean()) for rate, one in rules if all(one.ranks)]
        if seen:
            promised.plot(*zip(*seen, strict=True), style, color=COLOURS["id"], label=kind)
    promised.plot([rates[0], rates[-1]], [rates[0], rates[-1]], color="black", lw=0.8, label="as many as allowed")
    promised.axvline(rule.reject, color="black", lw=0.6, ls=":")
    promised.set(xlabel="share of ID that may be flagged", ylabel="share of ID test that is", title="False alarms")
    promised.legend(fontsize=8)
    cuts = np.unique(np.concatenate([tested.inside.scores, [np.inf, -np.inf]]))[::-1]
    alarms = np.array([(tested.inside.scores > cut).mean() for cut in cuts])
    shown = alarms <= 0.5
    for group, names in members_in(tested.outside).items():
        found = np.mean([[(tested.outside[name].scores > cut).mean() for cut in cuts] for name in names], axis=0)
        caught.plot(alarms[shown], found[shown], color=COLOURS[group], label=f"{group}-OOD")
    caught.axvline(rule.reject, color="black", lw=0.6, ls=":")
    caught.set(xlabel="share of ID test that is flagged", ylabel="share of OOD that is caught", title="What it catches", ylim=(0, 1.02))
    caught.legend(fontsize=8, loc="lower right")
    order = np.argsort(tested.inside.scores, kind="stable")
    kept = np.arange(1, len(order) + 1)
    left.plot(kept / len(order), np.cumsum(tested.right[order]) / kept, color=COLOURS["id"], label="by the score")
    best = np.sort(~tested.right, kind="stable")
    left.plot(kept / len(order), np.cumsum(~best) / kept, color="black", lw=0.8, label="errors last: the best there is")
    left.set_ylim(top=1 + 0.05 * max(0.02, 1 - left.get_ylim()[0]))
    left.set(xlabel="share of ID test that is answered", ylabel="of those, right", title="Answers by sureness", xlim=(0.3, 1.01))
    left.legend(fontsize=8, loc="lower left")
    for axis in (promised, caught, left):
        axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=1 if axis is left else 0))
        axis.grid(alpha=0.25)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    save(figure, path)
