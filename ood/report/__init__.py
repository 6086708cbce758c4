"""The page that a person reads: tables, what they mean, and the settings that they were made with."""

from dataclasses import dataclass

from ood.config.dream import Embed, EmbedRun, Painting, Synthesize
from ood.config.evaluation import Evaluate
from ood.config.methods import OE, UM, UMAP, Mask, OERun
from ood.config.training import Pretrain, Training
from ood.evaluation.protocols import PROTOCOLS
from ood.report.dream import Dreams, accuracy_table
from ood.report.tables import (
    PERCENT,
    Results,
    calibration_table,
    collapse_table,
    constraint_table,
    control_table,
    error_table,
    groups_in,
    interval_table,
    main_table,
    markdown_table,
    mask_accuracy_table,
    norm_table,
    oe_calibration_table,
    protocol_table,
    set_table,
    siblings_of,
    trace_table,
    values,
    without,
)

SIBLINGS = (
    "† has a sibling of the same kind among the auxiliary outliers (easier for every run that saw those) or in the world that the small "
    "diffusion model learned (easier for every run that saw its dreams)."
)
WITHOUT = (
    "The columns *without †* are the same means over those test sets that have no sibling (†, see below) among what any run was trained "
    "with."
)
DRAWS = (
    "In brackets: the standard deviation over the draws, which this paper's tables have behind ± for every set by itself; here its mean "
    "over sets. ± is over seeds, as everywhere."
)
OE_CALIBRATION = (
    "As Outlier Exposure measures it: confidence at the temperature that fits ID validation best; RMS and MAD calibration error (smaller "
    "is better) and soft F1 of finding errors (larger is better), on ID test alone and mixed with outliers, one to five, on which every "
    "prediction is wrong (means over ten draws and all OOD sets)."
)
ERRORS = (
    "How well the own score finds the ID test images that the model gets wrong; FPR95 is the share of right ones flagged when 95 % of the "
    "wrong ones are caught."
)
COLLAPSE = (
    "Neural collapse of the training set at the last epoch, 0 at full collapse: NC1 spread within classes against between them; NC2 how "
    "unequal class means are in length and angle, and weight rows in length; NC3 last layer against class means; NC4 share of images whose "
    "nearest class mean is another class."
)


@dataclass(frozen=True)
class Settings:
    """The sections whose values the last table lists."""

    pretrain: Pretrain
    mask: Mask
    um: UM
    umap: UMAP
    oe: OE
    painting: Painting
    embed: Embed
    synthesize: Synthesize

    def table(self, constraint: float) -> str:
        """What was set, and where the value comes from."""
        um, umap, oe = self.um, self.umap, self.oe
        rows = [[name, recipe(run.over(self.pretrain.training))] for name, run in self.pretrain.runs.items()]
        rows.append(["mask", f"keep {self.mask.keep:g}, {self.mask.masks} masks"])
        rows.append(["um, control", f"b = {level(um.threshold, constraint)} (control: none); {recipe(um.training)}"])
        rows.append(
            ["umap, umap-control", f"b = {level(umap.threshold, constraint)} (control: none), keep {umap.keep:g}; {recipe(umap.training)}"]
        )
        p = self.painting
        for name, run in self.synthesize.runs.items():
            rows.append(
                [f"synthesize {name}", f"{drawing(self.embed.runs[run.embed])}; {p.sampler}, {p.steps} steps, guidance {p.guidance:g}"]
            )
        for name, run in oe.runs.items():
            rows.append([name, f"from {run.init}; {lesson(run)}; {recipe(run.over(oe.training))}"])
        return markdown_table(["run", "settings"], rows)


def lesson(run: OERun) -> str:
    """What a run's outliers teach, in a few words."""
    text = {
        "uniform": f"uniform loss x {run.outlier_weight:g}",
        "energy": f"energy margins {run.m_in}, {run.m_out} x {run.outlier_weight:g}",
        "dream": f"energy regulariser ({run.phi}) x {run.outlier_weight:g}",
        "label": "cross-entropy",
        "none": "no outliers",
    }[run.objective]
    text += f" on {run.outliers}, cut {run.cut:g}" if run.dreamed and run.objective != "none" else ""
    return text + (", um's b on ID" if run.constraint == "um" else "")


def drawing(run: EmbedRun) -> str:
    """How an embed run draws, in a few words."""
    spread = f", cosine {run.cosine:g}" if run.cosine else ""
    edge = f" and boundary {run.boundary}" if run.mode == "outlier" else ""
    ranks = f", k {run.k}{edge} of {run.features_per_class}, {run.selection}" if run.method == "knn" else ""
    return f"{run.mode}s, {run.method}{spread}{ranks}"


def recipe(training: Training) -> str:
    """A training's numbers in a few words."""
    rate = f"lr {training.lr:g} {training.schedule}"
    strong = training.strong.model_dump(exclude_defaults=True)
    extra = "".join(f", {key.replace('_', ' ')} {value:g}" for key, value in strong.items())
    return f"{training.epochs} epochs, {rate}, batch {training.batch_size}, weight decay {training.weight_decay:g}{extra}"


def level(threshold: float | None, estimate: float) -> str:
    """The loss constraint and whether it was set or estimated."""
    return f"{estimate:.3g} (estimated by mask, mean over seeds)" if threshold is None else f"{threshold:g} (set)"


def page(
    results: Results,
    *,
    manifest: dict[str, dict],
    masks: dict[str, float],
    levels: dict[str, tuple[float | None, float | None]],
    traces: dict[str, dict[str, float]],
    dreams: Dreams | None,
    pairs: dict[str, str],
    seeds: list[int],
    evaluate: Evaluate,
    settings: Settings,
) -> str:
    """The whole report as Markdown."""
    withheld = [model for model in results if dreams is not None and model in dreams.meaningless]
    results = {model: summary for model, summary in results.items() if model not in withheld}
    pairs = {method: control for method, control in pairs.items() if not {method, control} & set(withheld)}
    groups = groups_in(results)
    siblings = siblings_of(manifest)
    norms = norm_table(results, list(settings.pretrain.runs))
    tempered, errors = oe_calibration_table(results), error_table(results)
    measured = list(next(iter(results.values()))["protocols"])
    classes = manifest["id/train"]["classes"]
    counts = ", ".join(f"{name} {entry['count']}" for name, entry in manifest.items() if name.split("/")[0] in groups)
    parts = ["# Who knows what it doesn't know?"]
    if groups == ["validation"]:
        parts.append("**Validation figures only** (`evaluate.roles: [val]`): no figure on test images was computed.")
    parts += [
        f"ID: {len(classes)} classes ({', '.join(classes)}), {manifest['id/train']['count']} images to train, "
        f"{manifest['id/val']['count']} to validate, {manifest['id/test']['count']} to test. OOD: {counts}. "
        f"Seeds: {', '.join(map(str, seeds))}; figures are percent, mean ± standard deviation over seeds.",
        "FPR95 is the share of OOD images let through when 95 % of ID is kept (`fpr_ood_at_tpr95_id`, rule "
        f"`{evaluate.fpr_rule}`); the other FPR95 (ID flagged when 95 % of OOD is caught) is in `metrics/scores.csv`. "
        "The *own score* is the one of the method's paper; the *picked score* is the best on validation OOD, chosen there alone.",
        main_table(results, withheld),
        "## Against their controls",
        "Method minus control (same start, same steps, without the method's idea), paired by seed, on the same score; where their own "
        "scores differ, also each on its own. *By seed* counts seeds by the mean AUROC over groups; how far it moves, the row says."
        + (f" {WITHOUT}" if without(siblings, results) else ""),
        control_table(results, pairs, siblings),
        *(["## Norm, MSP and Energy: training against score", norms] if norms else []),
        "## Every OOD set by itself (own score)",
        *([SIBLINGS] if siblings else []),
        "AUROC:",
        set_table(results, "auroc", siblings),
        "FPR95:",
        set_table(results, "fpr_ood_at_tpr95_id", siblings),
        *[text for name in measured for text in _measured(results, name)],
        f"## How sure: {evaluate.confidence:.0%} bootstrap intervals over test images (own score)",
        interval_table(results),
        "## ID calibration",
        calibration_table(results),
        *([OE_CALIBRATION, tempered] if tempered else []),
        *(["## Errors on ID", ERRORS, errors] if errors else []),
        "## What the mask saw",
        mask_text(masks, settings.mask),
        constraint_table(levels),
    ]
    masked = mask_accuracy_table(results)
    parts += [masked] if masked else []
    if dreams is not None:
        parts += ["## What was dreamed", dreams.text(), *dreams.tables()]
        traces_of_paint = dreams.traces(results, pairs)
        parts += ["## The painter's traces", *traces_of_paint] if traces_of_paint else []
    for role, title in (("corrupted", "ID accuracy under corruption"), ("shifted", "ID accuracy under natural shift")):
        table = accuracy_table(results, role)
        parts += [f"## {title}", table] if table else []
    parts += ["## Which epoch?", trace_table(traces)] if traces else []
    collapsed = collapse_table(traces)
    parts += [COLLAPSE, collapsed] if collapsed else []
    parts += [
        "## Settings",
        "Chosen on validation data only: `docs/tuning.md` tells how, `docs/tuning.csv` has every setting tried.",
        settings.table(masks["constraint"]),
    ]
    return "\n\n".join(parts) + "\n"


def _measured(results: Results, name: str) -> list[str]:
    """A protocol's heading and table, and what its brackets are."""
    protocol = PROTOCOLS[name]
    return [f"## As measured by {protocol.title}", *([DRAWS] if protocol.draws > 1 else []), protocol_table(results, name)]


def overview(results: Results) -> list[tuple[str, dict[str, tuple[float, float, float]]]]:
    """Rows of the picture of all methods: label, group -> AUROC of the own score with its interval, as fractions."""
    rows = []
    for model, summary in results.items():
        own, spans = summary["own"], summary["intervals"][summary["own"]]
        means = {g: float(values(summary, own, g, "auroc").mean() / PERCENT) for g in groups_in(results)}
        low_high = {g: spans[g]["auroc"] if spans else (mean, mean) for g, mean in means.items()}
        rows.append((f"{model} ({own})", {g: (mean, *low_high[g]) for g, mean in means.items()}))
    return rows


def mask_text(masks: dict[str, float], mask: Mask) -> str:
    """The loss constraint in words, and whether it means anything."""
    level, spread_ = masks["constraint"], masks["constraint_std_over_masks"]
    text = (
        f"Masking a random {1 - mask.keep:.1%} of every layer's weights lifts the training loss of `{mask.run}` from "
        f"{masks['dense_loss']:.4f} to {level:.4f} ± {spread_:.4f} (over masks): the loss constraint. "
        f"{masks['share_flipped_by_any_mask']:.1%} of the training images are misclassified under at least one mask"
    )
    if masks["median_margin_flipped"] is not None:
        flipped, rest = masks["median_margin_flipped"], masks["median_margin_rest"]
        text += f"; their median margin in the unmasked net is {flipped:.1f} (logits), the others' {rest:.1f}"
    text += "."
    if masks["memorised"] < 1:
        text += " **The base model has not memorised its training set, so the constraint means little: train it longer.**"
    return text
