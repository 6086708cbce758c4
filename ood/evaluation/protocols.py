"""How the papers measure: the same scores, read as Outlier Exposure, Unleashing Mask, DREAM-OOD and OpenOOD v1.5 read them.

Their figures can't be compared with each other, and ours with theirs only under the same protocol.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ood.evaluation import metrics
from ood.evaluation.groups import group_of


class Protocol(NamedTuple):
    """positive: which side counts as found, for FPR and AUPR. rule: which cut has the recall, 95 % (see ood.evaluation.metrics).

    base_rate: OOD images per ID image, at least one, drawn anew `draws` times; None: whole sets. together: one mean over all test sets, or
    near- and far-OOD by themselves. trapezoid: area under the precision-recall curve by straight lines instead of average precision.
    """

    title: str
    positive: str
    rule: metrics.Rule
    base_rate: float | None = None
    draws: int = 1
    together: bool = True
    trapezoid: bool = False
    recall: float = metrics.RECALL


PROTOCOLS = {
    "oe": Protocol("Outlier Exposure: one outlier to five ID images, ten draws; OOD is positive", "ood", "closest", 1 / 5, 10),
    "oe-text": Protocol(
        "Outlier Exposure with texts: one outlier to five ID texts, ten draws; OOD is positive; 90 % recall",
        "ood",
        "closest",
        1 / 5,
        10,
        recall=0.9,
    ),
    "um": Protocol("Unleashing Mask: whole sets; ID is positive", "id", "closest"),
    # OE's test script with its other side as positive. On ImageNet-100 it stops at whole batches: 960 of the 1,000 outliers meant.
    "dream": Protocol("DREAM-OOD: one outlier to five ID images, one draw; ID is positive", "id", "closest", 1 / 5),
    "openood": Protocol("OpenOOD v1.5: whole sets; OOD is positive", "ood", "at_least", together=False, trapezoid=True),
}


FIGURES = ("fpr", "auroc", "aupr")


def measure(name: str, by_set: dict[str, NDArray], seed: int = 0) -> dict[str, dict[str, float]]:
    """A protocol's figures: group ('all', or 'near' and 'far') -> auroc, fpr, aupr, unweighted means over the group's sets.

    A protocol that draws more than once has auroc_draws, fpr_draws and aupr_draws too: the standard deviation over its draws
    (population, as OE's code has it) of each set, and of these the mean.

    Args:
        by_set: scores of id/test and of every near and far set, larger = more OOD.
        seed: of the draws.
    """
    protocol, inside = PROTOCOLS[name], by_set["id/test"]
    groups: dict[str, list[list[dict[str, float]]]] = {}
    for index, other in enumerate(sorted(key for key in by_set if group_of(key) in ("near", "far"))):
        draws = [_figures(protocol, inside, drawn) for drawn in draws_of(name, by_set[other], len(inside), (seed, index))]
        groups.setdefault("all" if protocol.together else group_of(other), []).append(draws)
    found = {}
    for group, members in groups.items():
        each = {key: np.array([[draw[key] for draw in draws] for draws in members]) for key in FIGURES}  # (sets, draws)
        found[group] = {key: float(values.mean()) for key, values in each.items()}
        if protocol.draws > 1:
            found[group] |= {f"{key}_draws": float(values.std(axis=1).mean()) for key, values in each.items()}
    return found


def draws_of(name: str, values: NDArray, inside: int, seed: tuple[int, int]) -> Iterator[NDArray]:
    """A protocol's draws from an OOD set: as many as the base rate asks for beside `inside` ID images, or all where there are fewer."""
    protocol, rng = PROTOCOLS[name], np.random.default_rng(seed)
    wanted = len(values) if protocol.base_rate is None else max(1, int(inside * protocol.base_rate))
    for _ in range(protocol.draws):
        yield values if wanted >= len(values) else rng.choice(values, wanted, replace=False)


def _figures(protocol: Protocol, inside: NDArray, outside: NDArray) -> dict[str, float]:
    found = metrics.detection_metrics(inside, outside, protocol.rule, protocol.recall)
    ood = protocol.positive == "ood"
    aupr = found["aupr_out" if ood else "aupr_in"]
    if protocol.trapezoid:
        aupr = metrics.aupr_trapezoid(outside, inside) if ood else metrics.aupr_trapezoid(-inside, -outside)
    return {"auroc": found["auroc"], "fpr": found["fpr_id_at_tpr95_ood" if ood else "fpr_ood_at_tpr95_id"], "aupr": aupr}
