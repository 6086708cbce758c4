"""What `dvc plots` draws of every model's own score: ROC curves and histograms."""

import numpy as np
from numpy.typing import NDArray

from ood.evaluation import metrics
from ood.evaluation.groups import GROUPS, members_in


def roc_rows(model: str, own_scores: list[dict[str, NDArray]], points: int = 51) -> list[dict]:
    """ROC of the own score (OOD positive), averaged at equal false-positive rates over a group's sets and over seeds."""
    rows = []
    for group, members in members_in(own_scores[0]).items():
        curves = [metrics.roc_curve(s[f"id/{GROUPS[group]}"], s[name], points) for s in own_scores for name in members]
        rates, caught = curves[0][0], np.mean([curve[1] for curve in curves], axis=0)
        rows += [
            {"model": model, "group": group, "false positive rate": float(x), "true positive rate": float(y)}
            for x, y in zip(rates, caught, strict=True)
        ]
    return rows


def histogram_rows(model: str, own_scores: list[dict[str, NDArray]], bins: int = 40) -> list[dict]:
    """Histograms of the own score, seeds together, for ID and every group: share of images per bin."""
    pooled = {}
    for group, members in members_in(own_scores[0]).items():
        role = GROUPS[group]
        pooled[f"ID {role}"] = np.concatenate([s[f"id/{role}"] for s in own_scores])
        pooled[group] = np.concatenate([s[name] for s in own_scores for name in members])
    everything = np.concatenate(list(pooled.values()))
    low, high = np.quantile(everything, [0.005, 0.995])
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    rows = []
    for group, values in pooled.items():
        counts, _ = np.histogram(values.clip(edges[0], edges[-1]), edges)
        rows += [
            {"model": model, "group": group, "score": float(x), "share": float(y)}
            for x, y in zip((edges[:-1] + edges[1:]) / 2, counts / len(values), strict=True)
        ]
    return rows
