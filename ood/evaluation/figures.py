"""From cached tensors to figures: every score on every set, ID figures, near and far means, the score that validation picks."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from ood.config.evaluation import Evaluate, ScoreName, Scores
from ood.detection import posthoc, scores
from ood.errors import InputError
from ood.evaluation import calibration, metrics, protocols
from ood.evaluation.features import LABELLED, Cached, load, scored

OOD_GROUPS = {"validation": "val", "near": "test", "far": "test"}  # group of OOD sets -> the role it is read in
# painted: ID as the diffusion model renders it (stages/proofs.py), the control of dreamed outliers; a detector that flags it more than its
# control does has learned the painter's traces.
GROUPS = OOD_GROUPS | {"painted": "test"}
SCORES = get_args(ScoreName)
Grid = dict[str, dict[str, dict[str, float]]]  # score -> OOD set -> metric


ALWAYS = {"msp", "energy", "feature_norm"}  # what the tables lay beside every own score


def score_all(cached: Cached, setting: Scores, own: Iterable[str] = ()) -> dict[str, dict[str, NDArray]]:
    """Every wanted score of every set but the training one: score -> set -> (N,); ODIN only where it was extracted.

    Scores that look at features see what the head sees (normalised on an L2 net); only the feature norm takes the raw ones.

    Args:
        own: every model's own score: computed whatever setting.used says, for methods are compared on both their own scores.

    Raises:
        InputError: a setting that these features can't serve.
    """
    head, train = cached.head, cached.sets["id/train"]
    seen = head.input(train["features"])
    wanted = set(SCORES) if setting.used is None else {*setting.used, *ALWAYS, *own}
    wanted -= set() if "odin" in cached.sets["id/val"] else {"odin"}
    fits = {
        "mahalanobis": lambda: scores.Mahalanobis().fit(seen, train["labels"]),
        "knn": lambda: scores.KNN(setting.knn_k).fit(seen),
        "vim": lambda: scores.ViM(head, setting.vim_dim).fit(seen),
        "react": lambda: scores.ReAct(head, setting.react_quantile).fit(seen),
        "she": lambda: scores.SHE(head).fit(seen, train["labels"]),
        "rmd": lambda: scores.RMD().fit(seen, train["labels"]),
    }
    try:
        fitted = {name: fit() for name, fit in fits.items() if name in wanted}
        posthoc_ = posthoc.fit(wanted, head, seen, train["labels"], cached.sets["id/val"]["logits"], setting)
    except ValueError as error:
        raise InputError(f"params.yaml: scores: {error}. Lower the value.") from None
    table: dict[str, dict[str, NDArray]] = {name: {} for name in SCORES if name in wanted}
    for name, tensors in cached.sets.items():
        if not scored(name):
            continue
        logits, raw = tensors["logits"], tensors["features"]
        values = {
            "msp": scores.msp(logits.double()),
            "max_logit": scores.max_logit(logits),
            "energy": scores.energy(logits.double(), setting.energy_temperature),
            "odin": tensors.get("odin"),
            "gen": scores.gen(logits, setting.gen_gamma, setting.gen_top),
            "feature_norm": scores.feature_norm(raw),
        } | {score: method.score(head.input(raw)) for score, method in fitted.items()}
        values |= {score: method(head.input(raw), logits) for score, method in posthoc_.items()}
        for score in table:
            table[score][name] = values[score].double().numpy()
    return table


def id_figures(tensors: dict[str, torch.Tensor]) -> dict[str, float]:
    """Accuracy, NLL (nats), ECE (15 bins) and RMS calibration error of an ID set; masked nets also with the mask taken off."""
    logits, labels = tensors["logits"].double().numpy(), tensors["labels"].numpy()
    confidence = -scores.msp(tensors["logits"].double()).numpy()
    correct = (logits.argmax(1) == labels).astype(np.float64)
    figures = {
        "accuracy": float(correct.mean()),
        "nll": metrics.negative_log_likelihood(logits, labels),
        "ece": calibration.expected_error(confidence, correct),
        "rms_calibration_error": calibration.rms_error(confidence, correct),
    }
    if "unmasked_logits" in tensors:
        figures["accuracy_unmasked"] = metrics.accuracy(tensors["unmasked_logits"].numpy(), labels)
    return figures


@dataclass
class SeedResult:
    """Figures of one model and seed. grid: score -> OOD set -> metric; id: role -> figure; corrupted, shifted: set -> accuracy.

    errors: score -> detection metrics with misclassified ID test images in the place of OOD, and how many there are ('count'); empty
    where none is wrong, or none right. calibration: see calibration.as_oe_measures.
    """

    grid: Grid = field(default_factory=dict)
    id: dict[str, dict[str, float]] = field(default_factory=dict)
    errors: dict[str, dict[str, float]] = field(default_factory=dict)
    calibration: dict[str, float] = field(default_factory=dict)
    corrupted: dict[str, float] = field(default_factory=dict)
    shifted: dict[str, float] = field(default_factory=dict)


def evaluate_seed(cached: Cached, table: dict[str, dict[str, NDArray]], roles: list[str], rule: metrics.Rule) -> SeedResult:
    """Validation OOD against ID validation, test OOD against ID test; a role that isn't asked for isn't computed."""
    result = SeedResult()
    for role in roles:
        result.id[role] = id_figures(cached.sets[f"id/{role}"])
    if "test" in roles:
        result.errors = errors_found(cached.sets["id/test"], table, rule)
        result.calibration = calibration.as_oe_measures(
            *(_labelled(cached.sets[name]) for name in ("id/val", "id/test")),
            {name: _labelled(cached.sets[name])[0] for group in ("near", "far") for name in cached.names(group)},
        )
        for role in LABELLED:
            for name in cached.names(role):
                tensors = cached.sets[name]
                accuracy = metrics.accuracy(tensors["logits"].numpy(), tensors["labels"].numpy())
                getattr(result, role)[name.removeprefix(f"{role}/")] = accuracy
    for score, by_set in table.items():
        result.grid[score] = {
            name: metrics.detection_metrics(by_set[f"id/{GROUPS[group]}"], by_set[name], rule)
            for group in GROUPS
            if GROUPS[group] in roles
            for name in cached.names(group)
        }
    return result


def errors_found(tensors: dict[str, torch.Tensor], table: dict[str, dict[str, NDArray]], rule: metrics.Rule) -> dict[str, dict[str, float]]:
    """How well every score tells misclassified ID test images from the others (error detection, as in OE's code)."""
    logits, labels = _labelled(tensors)
    wrong = logits.argmax(1) != labels
    if not 0 < wrong.sum() < len(wrong):
        return {}
    count = {"count": float(wrong.sum())}
    found = {score: by_set["id/test"] for score, by_set in table.items()}
    return {score: metrics.detection_metrics(values[~wrong], values[wrong], rule) | count for score, values in found.items()}


def _labelled(tensors: dict[str, torch.Tensor]) -> tuple[NDArray, NDArray]:
    return tensors["logits"].double().numpy(), tensors["labels"].numpy()


def group_means(by_set: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Unweighted means over the sets of each group: group -> metric -> value."""
    means = {}
    for group in GROUPS:
        members = [values for name, values in by_set.items() if name.split("/")[0] == group]
        if members:
            means[group] = {key: float(np.mean([m[key] for m in members])) for key in metrics.KEYS}
    return means


def picked_score(results: list[SeedResult]) -> str:
    """The score with the highest AUROC on validation OOD, averaged over sets and seeds. Test data plays no part.

    Nor do scores that were fitted on the ID validation images which validation OOD is told from: theirs would be flattered.
    """
    fair = [score for score in results[0].grid if score not in posthoc.FITTED_ON_VALIDATION]
    quality = {score: np.mean([group_means(result.grid[score])["validation"]["auroc"] for result in results]) for score in fair}
    return max(quality, key=lambda score: quality[score])


@dataclass
class ModelResult:
    """summary: what report reads (json). own_scores: per seed, set -> the method's own score, for the plots."""

    summary: dict[str, Any]
    own_scores: list[dict[str, NDArray]]


def evaluate_model(model: str, models: dict[str, str], seeds: list[int], scores: Scores, setting: Evaluate) -> ModelResult:
    """Everything about one of `models` (name -> own score).

    Returns:
        summary with keys own, picked (names of scores), seeds (seed -> SeedResult), intervals (score -> group -> metric
        -> [low, high], for the own and the picked score, over resampled images, averaged over seeds) and protocols (name -> group ->
        metric -> one value per seed, own score; empty where no test figure is asked for).
    """
    results, tables, own = {}, {}, models[model]
    for seed in seeds:
        cached = load(model, seed)
        tables[seed] = score_all(cached, scores, models.values())
        results[seed] = evaluate_seed(cached, tables[seed], setting.roles, setting.fpr_rule)
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


def intervals(tables: dict[int, dict], score: str, setting: Evaluate) -> dict[str, dict[str, list[float]]]:
    """Bootstrap intervals of group means (group -> metric -> [low, high]): test OOD where it is asked for, else validation OOD.

    Empty when evaluate.bootstrap is 0.
    """
    if setting.bootstrap == 0:
        return {}
    tail = (1 - setting.confidence) / 2
    spans: dict[str, dict[str, list[float]]] = {}
    shown = "test" if "test" in setting.roles else "val"
    for group in (g for g, role in GROUPS.items() if role == shown and g in OOD_GROUPS):
        draws = []
        for table in tables.values():
            by_set = table[score]
            members = [by_set[name] for name in sorted(by_set) if name.split("/")[0] == group]
            draws.append(metrics.bootstrap(by_set[f"id/{shown}"], members, setting.bootstrap, 0, setting.fpr_rule))
        averaged = {key: np.mean([d[key] for d in draws], axis=0) for key in draws[0]}
        spans[group] = {key: [float(np.quantile(v, q)) for q in (tail, 1 - tail)] for key, v in averaged.items()}
    return spans


def as_measured(protocol: str, tables: dict[int, dict], score: str) -> dict[str, dict[str, list[float]]]:
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


def roc_rows(model: str, own_scores: list[dict[str, NDArray]], points: int = 51) -> list[dict]:
    """ROC of the own score (OOD positive), averaged at equal false-positive rates over a group's sets and over seeds."""
    rows = []
    for group, role, members in _groups(own_scores[0]):
        curves = [metrics.roc_curve(s[f"id/{role}"], s[name], points) for s in own_scores for name in members]
        rates, caught = curves[0][0], np.mean([curve[1] for curve in curves], axis=0)
        rows += [
            {"model": model, "group": group, "false positive rate": float(x), "true positive rate": float(y)}
            for x, y in zip(rates, caught, strict=True)
        ]
    return rows


def histogram_rows(model: str, own_scores: list[dict[str, NDArray]], bins: int = 40) -> list[dict]:
    """Histograms of the own score, seeds together, for ID and every group: share of images per bin."""
    pooled = {}
    for group, role, members in _groups(own_scores[0]):
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


def _groups(by_set: dict[str, NDArray]) -> Iterator[tuple[str, str, list[str]]]:
    """(group, ID role, sets) of every group that is there."""
    for group, role in GROUPS.items():
        members = sorted(name for name in by_set if name.split("/")[0] == group)
        if members:
            yield group, role, members


def mean_over_seeds(values: list[dict[str, Any]]) -> dict[str, Any]:
    """Element-wise mean of nested dictionaries of numbers with equal keys."""
    return {
        key: mean_over_seeds([v[key] for v in values]) if isinstance(values[0][key], dict) else float(np.mean([v[key] for v in values]))
        for key in values[0]
    }
