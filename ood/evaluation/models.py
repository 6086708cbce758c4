"""The figures of one model over its seeds: the score that validation picks, intervals, the papers' protocols, summaries of all models."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ood.config.evaluation import Evaluate, Scores
from ood.detection import posthoc
from ood.evaluation import metrics, protocols
from ood.evaluation.features import LABELLED, load
from ood.evaluation.figures import SeedResult, evaluate_seed
from ood.evaluation.groups import OOD_GROUPS, group_means, members_in
from ood.evaluation.held_out import HeldOut
from ood.evaluation.scoring import Table, score_all


@dataclass
class ModelResult:
    """summary: what report reads (json). own_scores: per seed, set -> the method's own score, for the plots."""

    summary: dict[str, Any]
    own_scores: list[dict[str, NDArray]]


def evaluate_model(
    model: str,
    models: Mapping[str, str],
    seeds: list[int],
    scores: Scores,
    setting: Evaluate,
    held_out: HeldOut,
    step: Callable[[], None] = lambda: None,
) -> ModelResult:
    """Everything about one of `models` (name -> own score).

    Args:
        held_out: the same for all models. step: called before every seed; what it raises ends the work.

    Returns:
        summary with keys own, picked (names of scores), seeds (seed -> SeedResult), intervals (score -> group -> metric
        -> [low, high], for the own and the picked score, over resampled images, averaged over seeds) and protocols (name -> group ->
        metric -> one value per seed, own score; empty where no test figure is asked for).
    """
    results, tables, own = {}, {}, models[model]
    for seed in seeds:
        step()
        cached = load(model, seed)
        tables[seed] = score_all(cached, scores, models.values())
        results[seed] = evaluate_seed(cached, tables[seed], setting.roles, setting.fpr_rule)
        results[seed].held_out = held_out.of(cached)
        del cached  # before the next is read: models are scored side by side
    picked = picked_score(list(results.values()))
    summary = {
        "own": own,
        "picked": picked,
        "seeds": {str(seed): asdict(result) for seed, result in results.items()},
        "intervals": {score: intervals(tables, score, setting) for score in {own: 0, picked: 0}},
        "protocols": {name: as_measured(name, tables, own) for name in setting.protocols if "test" in setting.roles},
    }
    wanted = {f"id/{role}" for role in setting.roles} | set(results[seeds[0]].grid[own])
    return ModelResult(summary, [{k: v for k, v in tables[seed][own].items() if k in wanted} for seed in seeds])


def picked_score(results: list[SeedResult]) -> str:
    """The score with the highest AUROC on validation OOD, averaged over sets and seeds. Test data plays no part.

    Where classes were held out, the worse of the two counts, their mean or that of the sets: neither kind makes up for the other; and what
    can't be had of them doesn't take part. Nor do scores that were fitted on the ID validation images which validation OOD is
    told from: theirs would be flattered.
    """
    held = results[0].held_out
    fair = [score for score in results[0].grid if score not in posthoc.FITTED_ON_VALIDATION and (not held or score in held)]
    return max(fair, key=lambda score: validated(results, score))


def validated(results: list[SeedResult], score: str) -> float:
    """What a score is picked by: AUROC on validation OOD, or on held-out classes where that is less, each a mean over seeds too."""
    sets = [group_means(result.grid[score])["validation"]["auroc"] for result in results]
    held = [list(result.held_out[score].values()) for result in results if result.held_out]
    return float(min(np.mean(kind) for kind in (sets, held) if kind))


def intervals(tables: dict[int, Table], score: str, setting: Evaluate) -> dict[str, dict[str, list[float]]]:
    """Bootstrap intervals of group means (group -> metric -> [low, high]): test OOD where it is asked for, else validation OOD.

    Empty when evaluate.bootstrap is 0.
    """
    if setting.bootstrap == 0:
        return {}
    tail = (1 - setting.confidence) / 2
    spans: dict[str, dict[str, list[float]]] = {}
    shown = "test" if "test" in setting.roles else "val"
    for group in (g for g, role in OOD_GROUPS.items() if role == shown):
        draws = []
        for table in tables.values():
            by_set = table[score]
            members = [by_set[name] for name in members_in(by_set)[group]]
            draws.append(metrics.bootstrap(by_set[f"id/{shown}"], members, setting.bootstrap, 0, setting.fpr_rule))
        averaged = {key: np.mean([d[key] for d in draws], axis=0) for key in draws[0]}
        spans[group] = {key: [float(np.quantile(v, q)) for q in (tail, 1 - tail)] for key, v in averaged.items()}
    return spans


def as_measured(protocol: str, tables: dict[int, Table], score: str) -> dict[str, dict[str, list[float]]]:
    """A paper's figures of a score: group -> metric -> one value per seed."""
    each = [protocols.measure(protocol, table[score]) for table in tables.values()]
    return {group: {key: [one[group][key] for one in each] for key in each[0][group]} for group in each[0]}


def headline(summary: dict[str, Any]) -> dict[str, Any]:
    """What metrics/<model>.json holds, means over seeds: ID figures, and group means of the own score, MSP and Energy."""
    seeds = list(summary["seeds"].values())
    figures: dict[str, Any] = {"id": mean_over_seeds([seed["id"] for seed in seeds])}
    for role in LABELLED:
        if seeds[0][role]:
            figures[role] = mean_over_seeds([seed[role] for seed in seeds])
    for label, score in (("own", summary["own"]), ("msp", "msp"), ("energy", "energy")):
        means = mean_over_seeds([group_means(seed["grid"][score]) for seed in seeds])
        figures[label] = {g: {k: values[k] for k in ("auroc", "fpr_ood_at_tpr95_id")} for g, values in means.items()}
    return figures


def overall_rows(results: dict[str, dict]) -> list[dict]:
    """The full grid, model x score x OOD set, each metric as mean and standard deviation (n - 1) over seeds."""
    rows = []
    for model, summary in results.items():
        grids = [seed["grid"] for seed in summary["seeds"].values()]
        for score, by_set in grids[0].items():
            for name in by_set:
                row: dict[str, Any] = {"model": model, "score": score, "set": name}
                for key in metrics.KEYS:
                    values = np.array([grid[score][name][key] for grid in grids])
                    row[key] = float(values.mean())
                    row[f"{key}_std"] = float(values.std(ddof=1)) if len(values) > 1 else 0.0
                rows.append(row)
    return rows


def mean_over_seeds(values: list[dict[str, Any]]) -> dict[str, Any]:
    """Element-wise mean of nested dictionaries of numbers with equal keys."""
    return {
        key: mean_over_seeds([v[key] for v in values]) if isinstance(values[0][key], dict) else float(np.mean([v[key] for v in values]))
        for key in values[0]
    }
