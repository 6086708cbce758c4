"""The tables of figures: methods, controls beside their methods, every OOD set by itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ood.config.text import TEXT_SOURCES
from ood.evaluation.calibration import COOLEST, HOTTEST
from ood.evaluation.groups import GROUPS, group_means, group_of
from ood.evaluation.protocols import PROTOCOLS
from ood.report.blocks import Table

PERCENT = 100.0
RESOLUTION = 0.5  # points of AUROC, below which nothing is called better or worse in words, whatever the seeds' signs
PARTS = {"train", "training", "val", "validation", "test", "testing", "aux", "auxiliary", "extra", "all"}  # parts of a data set
Results = dict[str, dict[str, Any]]


def groups_in(results: Results) -> list[str]:
    """The groups that the table shows: near and far, or validation OOD where no test figure was asked for."""
    first = next(iter(results.values()))
    present = group_means(next(iter(first["seeds"].values()))["grid"][first["own"]])
    return [g for g in ("near", "far") if g in present] or ["validation"]


def values(summary: dict, score: str, group: str, key: str) -> np.ndarray:
    """A group mean of a score, one value per seed, in percent."""
    return PERCENT * np.array([group_means(seed["grid"][score])[group][key] for seed in summary["seeds"].values()])


def id_values(summary: dict, key: str, role: str) -> np.ndarray:
    """An ID figure, one value per seed, in percent."""
    return PERCENT * np.array([seed["id"][role].get(key, np.nan) for seed in summary["seeds"].values()])


def spread(numbers: np.ndarray, signed: bool = False) -> str:
    """Mean and standard deviation (n - 1) over seeds."""
    text = f"{numbers.mean():+.1f}" if signed else f"{numbers.mean():.1f}"
    return f"{text} ± {numbers.std(ddof=1):.1f}" if len(numbers) > 1 else text


def main_table(results: Results, withheld: list[str]) -> Table:
    """Methods; each with its paper's own score and with the score that validation OOD picks.

    withheld: models whose figures mean nothing, because the painter of what they trained with has not learned the ID classes.
    """
    groups = groups_in(results)
    header = ["model", "ID accuracy", "own score"]
    header += [f"{g} {m}" for g in groups for m in ("AUROC", "FPR95")]
    header += ["picked score", *[f"picked: {g} AUROC" for g in groups]]
    rows = []
    for model, summary in results.items():
        role = GROUPS[groups[0]]
        own, picked = summary["own"], summary["picked"]
        row = [model, spread(id_values(summary, "accuracy", role)), own]
        for group in groups:
            row += [spread(values(summary, own, group, key)) for key in ("auroc", "fpr_ood_at_tpr95_id")]
        rows.append([*row, picked, *[spread(values(summary, picked, group, "auroc")) for group in groups]])
    rows += [[f"{model} (its painter hasn't learned the ID classes)", *["-"] * (len(header) - 1)] for model in withheld]
    return Table(header, rows)


def held_out_table(results: Results) -> Table | None:
    """What the picked score was picked by, of models on backbones that were never trained on the classes; None where there is none."""
    rows = []
    for model, summary in results.items():
        seeds = list(summary["seeds"].values())
        if not seeds[0].get("held_out"):
            continue
        picked = summary["picked"]
        held = PERCENT * np.array([np.mean(list(seed["held_out"][picked].values())) for seed in seeds])
        rows.append([model, picked, spread(values(summary, picked, "validation", "auroc")), spread(held)])
    return Table(["model", "picked score", "validation OOD", "held-out classes"], rows) if rows else None


def interval_table(results: Results) -> Table:
    """Bootstrap intervals of the own score's group means."""
    groups = groups_in(results)
    header = ["model", "own score", *[f"{g} {m}" for g in groups for m in ("AUROC", "FPR95")]]
    rows = []
    for model, summary in results.items():
        spans = summary["intervals"][summary["own"]]
        row = [model, summary["own"]]
        for group in groups:
            for key in ("auroc", "fpr_ood_at_tpr95_id"):
                row.append(" to ".join(f"{PERCENT * v:.1f}" for v in spans[group][key]) if spans else "-")
        rows.append(row)
    return Table(header, rows)


def over_sets(summary: dict, score: str, names: list[str], key: str) -> np.ndarray:
    """Mean of a score's figure over some sets, one value per seed, in percent."""
    return PERCENT * np.array([np.mean([seed["grid"][score][name][key] for name in names]) for seed in summary["seeds"].values()])


def control_table(results: Results, pairs: dict[str, str], siblings: set[str]) -> Table:
    """Every method against its control, paired by seed: on each of the two own scores, and each on its own.

    siblings: sets (see siblings_of) without which the last columns are computed, where some have one and some haven't.
    """
    groups = groups_in(results)
    role = GROUPS[groups[0]]
    header = ["method", "control", "score", "ID accuracy", *[f"{g} {m}" for g in groups for m in ("AUROC", "FPR95")], "by seed"]
    unrelated = without(siblings, results)
    header += ["AUROC without †", "FPR95 without †", "by seed without †"] if unrelated else []
    rows = []
    for method, control in pairs.items():
        one, other = results[method], results[control]
        comparisons = {(s, s): s for s in (one["own"], other["own"]) if _has(one, s) and _has(other, s)}
        if one["own"] != other["own"]:
            comparisons[one["own"], other["own"]] = f"{one['own']} vs {other['own']}"
        for (score, control_score), label in comparisons.items():
            row = [method, control, label]
            row.append(spread(id_values(one, "accuracy", role) - id_values(other, "accuracy", role), signed=True))
            gains = []
            for group in groups:
                for key in ("auroc", "fpr_ood_at_tpr95_id"):
                    change = values(one, score, group, key) - values(other, control_score, group, key)
                    row.append(spread(change, signed=True))
                    if key == "auroc":
                        gains.append(change)
            row.append(verdict(np.mean(gains, axis=0)))
            if unrelated:
                auroc, fpr = (
                    np.mean([over_sets(one, score, s, key) - over_sets(other, control_score, s, key) for s in unrelated.values()], axis=0)
                    for key in ("auroc", "fpr_ood_at_tpr95_id")
                )
                row += [spread(auroc, signed=True), spread(fpr, signed=True), verdict(auroc)]
            rows.append(row)
    return Table(header, rows)


def _has(summary: Mapping[str, Any], score: str) -> bool:
    """Whether a model has a score: that of a confidence branch only those have that have the branch."""
    return score in next(iter(summary["seeds"].values()))["grid"]


@dataclass(frozen=True)
class Change:
    """What a method does to AUROC against its control, each on its own score: points, mean over groups, for each seed.

    unrelated: the same over the sets that have no sibling among what was trained with; None where that leaves all, or none.
    """

    method: str
    control: str
    everywhere: NDArray
    unrelated: NDArray | None

    @property
    def points(self) -> NDArray:
        """What to judge by: without siblings where there are some."""
        return self.everywhere if self.unrelated is None else self.unrelated

    @property
    def verdict(self) -> str:
        """See `verdict`; what is less than RESOLUTION isn't called a difference."""
        return verdict(self.points) if abs(self.points.mean()) >= RESOLUTION else "seeds differ"


def changes(results: Results, pairs: dict[str, str], siblings: set[str]) -> list[Change]:
    """Every method against its control."""
    groups, unrelated = groups_in(results), without(siblings, results)
    found = []
    for method, control in pairs.items():
        one, other = results[method], results[control]
        own, its = one["own"], other["own"]
        everywhere = np.mean([values(one, own, group, "auroc") - values(other, its, group, "auroc") for group in groups], axis=0)
        left = [over_sets(one, own, sets, "auroc") - over_sets(other, its, sets, "auroc") for sets in unrelated.values()]
        found.append(Change(method, control, everywhere, np.mean(left, axis=0) if left else None))
    return found


def without(siblings: set[str], results: Results) -> dict[str, list[str]]:
    """Group -> its sets that have no sibling; nothing where that leaves all, or none."""
    names = tested(results)
    left = [name for name in names if name not in siblings]
    if len(left) in (0, len(names)):
        return {}
    return {group: sets for group in groups_in(results) if (sets := [name for name in left if group_of(name) == group])}


def tested(results: Results) -> list[str]:
    """The OOD sets that the tables show, group by group."""
    first = next(iter(results.values()))
    grid = next(iter(first["seeds"].values()))["grid"][first["own"]]
    return [name for group in groups_in(results) for name in sorted(grid) if group_of(name) == group]


def verdict(gains: np.ndarray) -> str:
    """Whether the mean AUROC over groups moves the same way for every seed; how far, the row says."""
    if len(gains) < 2:
        return "one seed"
    return "every seed better" if (gains > 0).all() else "every seed worse" if (gains < 0).all() else "seeds differ"


def set_table(results: Results, key: str, siblings: set[str]) -> Table:
    """The own score on every OOD set by itself; a set with a sibling among what was trained with is marked."""
    names = tested(results)
    rows = [[model, *[spread(over_sets(summary, summary["own"], [name], key)) for name in names]] for model, summary in results.items()]
    return Table(["model", *[f"{n}{' †' if n in siblings else ''}" for n in names]], rows)


def siblings_of(manifest: Mapping[str, Any]) -> set[str]:
    """Test sets that come from the same kind of source as an auxiliary set, or as a set of the world that the painter learned.

    One kind: rendered alike, patches of photos, one library's data set, or parts of one folder (tin32/aux and tin32/test).
    """

    def kind(source: dict) -> tuple[str, str | None]:
        if source["source"] not in ("folder", *TEXT_SOURCES):
            return source["source"], source.get("name")
        path = PurePosixPath(source.get("listing") or source["path"])
        return "folder", str(path.parent if path.stem in PARTS else path)

    learned = {kind(entry["source"]) for name, entry in manifest.items() if name.startswith(("auxiliary/", "world/"))}
    return {name for name, entry in manifest.items() if group_of(name) in ("near", "far") and kind(entry["source"]) in learned}


def norm_table(results: Results, runs: list[str]) -> Table | None:
    """What is the method and what the score: norm, MSP and Energy of every pretrained model, on each group; None where there is but one."""
    groups, shown = groups_in(results), {"feature norm": "feature_norm", "MSP": "msp", "Energy": "energy"}
    header = ["model", *[f"{group} AUROC, {title}" for group in groups for title in shown]]
    rows = [
        [run, *[spread(values(results[run], score, group, "auroc")) for group in groups for score in shown.values()]]
        for run in runs
        if run in results
    ]
    return Table(header, rows) if len(rows) > 1 else None


def protocol_table(results: Results, name: str) -> Table:
    """The own score's figures as a paper measures them; in brackets their standard deviation over the draws, where it draws."""
    keys = {f"FPR{round(PERCENT * PROTOCOLS[name].recall)}": "fpr", "AUROC": "auroc", "AUPR": "aupr"}
    groups = list(next(iter(results.values()))["protocols"][name])
    header = ["model", "own score", *[f"{'' if g == 'all' else f'{g} '}{title}" for g in groups for title in keys]]
    rows = []
    for model, summary in results.items():
        found = summary["protocols"][name]
        rows.append([model, summary["own"], *[_measured(found[g], key) for g in groups for key in keys.values()]])
    return Table(header, rows)


def _measured(figures: dict[str, list[float]], key: str) -> str:
    text = spread(PERCENT * np.array(figures[key]))
    return f"{text} ({PERCENT * np.mean(figures[f'{key}_draws']):.1f})" if f"{key}_draws" in figures else text


def mask_accuracy_table(results: Results) -> Table | None:
    """ID accuracy of nets with a mask, with it and without."""
    role = GROUPS[groups_in(results)[0]]
    rows = [
        [model, spread(id_values(summary, "accuracy", role)), spread(id_values(summary, "accuracy_unmasked", role))]
        for model, summary in results.items()
        if "accuracy_unmasked" in next(iter(summary["seeds"].values()))["id"][role]
    ]
    return Table(["model", "ID accuracy with the mask", "without it"], rows) if rows else None


def calibration_table(results: Results) -> Table:
    """ID figures beyond accuracy."""
    role = GROUPS[groups_in(results)[0]]
    keys = {"NLL (nats)": "nll", "ECE": "ece", "RMS calibration error": "rms_calibration_error"}
    rows = []
    for model, summary in results.items():
        nll = id_values(summary, "nll", role) / PERCENT
        cells = [f"{nll.mean():.3f}", *[spread(id_values(summary, key, role)) for key in list(keys.values())[1:]]]
        rows.append([model, *cells])
    return Table(["model", *keys], rows)


def oe_calibration_table(results: Results) -> Table | None:
    """Calibration at the fitted temperature, on ID and on ID mixed with outliers; None where no test figure was asked for."""
    titles = {"rms": "RMS", "mad": "MAD", "soft_f1": "soft F1"}
    header = ["model", "temperature", *[f"{kind} {title}" for kind in ("ID", "mixed") for title in titles.values()]]
    rows = []
    for model, summary in results.items():
        found = [seed["calibration"] for seed in summary["seeds"].values()]
        if not all(found):
            return None
        figures = [spread(PERCENT * np.array([f[f"{kind}_{key}"] for f in found])) for kind in ("id", "mixed") for key in titles]
        edge = any(f["temperature"] < COOLEST + 0.01 or f["temperature"] > HOTTEST - 0.01 for f in found)
        rows.append([model, f"{np.mean([f['temperature'] for f in found]):.2f}{' (edge of the search)' if edge else ''}", *figures])
    return Table(header, rows)


def error_table(results: Results) -> Table | None:
    """How well the own score finds misclassified ID test images; None where no test figure was asked for."""
    keys = {"AUROC": "auroc", "AUPR": "aupr_out", "FPR95": "fpr_id_at_tpr95_ood"}
    rows = []
    for model, summary in results.items():
        own, seeds = summary["own"], list(summary["seeds"].values())
        if not all(seed["calibration"] for seed in seeds):
            return None
        found = [seed["errors"][own] for seed in seeds if seed["errors"]]
        count = sum(f["count"] for f in found) / len(seeds)
        cells = [spread(PERCENT * np.array([f[key] for f in found])) if found else "-" for key in keys.values()]
        rows.append([model, own, f"{count:.0f}", *cells])
    return Table(["model", "own score", "errors a seed", *keys], rows)


def trace_table(traces: dict[str, dict[str, float]]) -> Table:
    """Per traced run: the epoch that validation OOD picks, the last one, and the labelled oracle."""
    groups = ["validation", *(g for g in ("near", "far") if any(f"last_{g}_auroc" in t for t in traces.values()))]
    kinds = {"picked": "picked on validation OOD", "last": "last", "oracle": "oracle: test optimum"}
    rows = []
    for run, trace in traces.items():
        for kind, label in kinds.items():
            if f"{kind}_epoch" in trace:
                figures = [trace.get(f"{kind}_{group}_auroc") for group in groups]
                cells = ["-" if figure is None else f"{PERCENT * figure:.1f}" for figure in figures]
                rows.append([run, label, f"{trace[f'{kind}_epoch']:.0f}", *cells])
    return Table(["run", "which epoch", "epoch", *[f"{group} AUROC" for group in groups]], rows)


def collapse_table(traces: dict[str, dict[str, float]]) -> Table | None:
    """Neural collapse of every traced run's last epoch, on raw features and on their directions; None where it wasn't measured."""
    titles = {
        "nc1": "NC1",
        "nc2_norms": "NC2 norms",
        "nc2_angles": "NC2 angles",
        "nc2_cosines": "NC2 cosines",
        "nc2_weight_norms": "NC2 weight norms",
        "nc3": "NC3",
    }
    rows = []
    for run, trace in traces.items():
        for kind, label in (("raw", "raw"), ("unit", "directions")):
            if f"last_nc1_{kind}" in trace:
                cells = [f"{trace[f'last_{key}_{kind}']:.3g}" for key in titles]
                rows.append([run, label, *cells, f"{trace[f'last_nc4_{kind}']:.2%}"])
    return Table(["run", "features", *titles.values(), "NC4"], rows) if rows else None


FINDERS = {
    "early_doubt": "doubt of the first epochs",
    "loss_over_epochs": "loss over all epochs",
    "masked_loss_over_epochs": "loss under a mask, over all epochs",
    "aum": "margin over all epochs (AUM)",
    "forgetting": "how often it was forgotten over epochs",
    "masked_loss": "loss under masks, at the end",
    "flip_rate": "share of masks that flip it",
    "loss": "loss, at the end",
}


def finders_table(masks: dict[str, float | None]) -> Table | None:
    """How well each ranking of a mask run finds labels that are wrong on purpose, best first; None where none are."""
    known = [name for name in FINDERS if f"auroc_{name}" in masks]
    known.sort(key=lambda name: -(masks[f"auroc_{name}"] or 0))
    rows = [[FINDERS[name], *(_over_seeds(masks, f"{figure}_{name}") for figure in ("auroc", "precision"))] for name in known]
    return Table(["ranking", "AUROC", "precision among the first, as many as are wrong"], rows) if rows else None


def _over_seeds(masks: dict[str, float | None], name: str) -> str:
    """A mean in percent, with its spread where there are several seeds."""
    mean, spread = masks[name], masks.get(f"{name}_std")
    return f"{100 * (mean or 0):.1f}" + ("" if spread is None else f" ± {100 * spread:.1f}")


def constraint_table(levels: dict[str, tuple[float | None, float | None]]) -> Table:
    """Where each run was told to hold its loss, and where it ended: a constraint that isn't reached has unmasked nothing."""
    rows = [
        [run, "none" if b is None else f"{b:.4f}", "not trained" if reached is None else f"{reached:.4f}"]
        for run, (b, reached) in levels.items()
    ]
    return Table(["run", "loss constraint b (nats)", "training loss in the last epoch"], rows)
