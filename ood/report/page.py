"""The page: tables, what they mean, and the settings that they were made with."""

from ood.config import Params
from ood.config.evaluation import Evaluate, Report
from ood.config.methods import Mask, MaskRun
from ood.config.training import Pretrain, Seeds
from ood.evaluation.groups import group_of
from ood.evaluation.protocols import PROTOCOLS
from ood.report.dream import accuracy_table
from ood.report.measured import Measured
from ood.report.settings import settings_table
from ood.report.tables import (
    PERCENT,
    Results,
    calibration_table,
    collapse_table,
    constraint_table,
    control_table,
    error_table,
    groups_in,
    held_out_table,
    interval_table,
    main_table,
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
PICKED = "The *own score* is the one of the method's paper; the *picked score* is the best on validation OOD, chosen there alone"
HELD_OUT = (
    "By the worse of two AUROCs: on validation OOD, and on ID classes that were held out, one at a time (`evaluate.held_out`), of heads "
    "that learn the others on the same features by plain cross-entropy. The latter says which score sees what these features were never "
    "trained on, not what a method did: it is the same for all models of a kind of head."
)
COLLAPSE = (
    "Neural collapse of the training set at the last epoch, 0 at full collapse: NC1 spread within classes against between them; NC2 how "
    "unequal class means are in length and angle, and weight rows in length; NC3 last layer against class means; NC4 share of images whose "
    "nearest class mean is another class."
)


def page(measured: Measured, params: Params) -> str:
    """The whole report as Markdown."""
    results, withheld, manifest, dreams = measured.shown, measured.withheld, measured.manifest, measured.dreams
    pairs = {method: control for method, control in params[Report].pairs.items() if not {method, control} & set(withheld)}
    evaluate = params[Evaluate]
    groups = groups_in(results)
    siblings = siblings_of(manifest)
    norms = norm_table(results, list(params[Pretrain].runs))
    tempered, errors, held = oe_calibration_table(results), error_table(results), held_out_table(results)
    protocols = list(next(iter(results.values()))["protocols"])
    classes = manifest["id/train"]["classes"]
    counts = ", ".join(f"{name} {entry['count']}" for name, entry in manifest.items() if group_of(name) in groups)
    parts = ["# Who knows what it doesn't know?"]
    if groups == ["validation"]:
        parts.append("**Validation figures only** (`evaluate.roles: [val]`): no figure on test images was computed.")
    parts += [
        f"ID: {len(classes)} classes ({', '.join(classes)}), {manifest['id/train']['count']} images to train, "
        f"{manifest['id/val']['count']} to validate, {manifest['id/test']['count']} to test. OOD: {counts}. "
        f"Seeds: {', '.join(map(str, params[Seeds].root))}; figures are percent, mean ± standard deviation over seeds.",
        "FPR95 is the share of OOD images let through when 95 % of ID is kept (`fpr_ood_at_tpr95_id`, rule "
        f"`{evaluate.fpr_rule}`); the other FPR95 (ID flagged when 95 % of OOD is caught) is in `metrics/scores.csv`. "
        f"{PICKED}{', and on classes held out where the backbone was never trained on them (see below).' if held else '.'}",
        main_table(results, withheld),
        "## Against their controls",
        "Method minus control (same start, same steps, without the method's idea), paired by seed, on the same score; where their own "
        "scores differ, also each on its own. *By seed* counts seeds by the mean AUROC over groups; how far it moves, the row says."
        + (f" {WITHOUT}" if without(siblings, results) else ""),
        control_table(results, pairs, siblings),
        *measured.detector,
        *(["## What the scores were picked by", HELD_OUT, held] if held else []),
        *(["## Norm, MSP and Energy: training against score", norms] if norms else []),
        "## Every OOD set by itself (own score)",
        *([SIBLINGS] if siblings else []),
        "AUROC:",
        set_table(results, "auroc", siblings),
        "FPR95:",
        set_table(results, "fpr_ood_at_tpr95_id", siblings),
        *[text for name in protocols for text in _as_measured(results, name)],
        f"## How sure: {evaluate.confidence:.0%} bootstrap intervals over test images (own score)",
        interval_table(results),
        "## ID calibration",
        calibration_table(results),
        *([OE_CALIBRATION, tempered] if tempered else []),
        *(["## Errors on ID", ERRORS, errors] if errors else []),
        *(["## What the masks saw"] if measured.masks else []),
        *[mask_text(found, params[Mask], params[Mask].runs[run]) for run, found in measured.masks.items()],
        *([constraint_table(measured.levels)] if measured.levels else []),
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
    parts += ["## Which epoch?", trace_table(measured.traces)] if measured.traces else []
    collapsed = collapse_table(measured.traces)
    parts += [COLLAPSE, collapsed] if collapsed else []
    parts += [
        "## Settings",
        "Chosen on validation data only: `docs/tuning.md` tells how, `docs/tuning.csv` has every setting tried.",
        settings_table(params, measured.masks),
    ]
    return "\n\n".join(parts) + "\n"


def _as_measured(results: Results, name: str) -> list[str]:
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


def mask_text(masks: dict[str, float | None], mask: Mask, run: MaskRun) -> str:
    """A loss constraint in words, and whether it means anything."""
    spread_, masking = masks["constraint_std_over_masks"], mask.masking(run)
    whose = "the head" if masking.layers == "head" else "every layer"
    text = (
        f"Masking a random {1 - masking.keep:.1%} of {whose}'s weights lifts the training loss of `{run.init}` from "
        f"{masks['dense_loss']:.4f} to {masks['constraint']:.4f} ± {spread_:.4f} (over masks): the loss constraint. "
        f"{masks['share_flipped_by_any_mask']:.1%} of the training images are misclassified under at least one mask"
    )
    if masks["median_margin_flipped"] is not None:
        flipped, rest = masks["median_margin_flipped"], masks["median_margin_rest"]
        text += f"; their median margin in the unmasked net is {flipped:.1f} (logits)"
        text += "" if rest is None else f", the others' {rest:.1f}"
    text += "."
    if masks["destroyed"]:
        text += (
            f" **In {masks['destroyed']:.0%} of the seeds that is no better than guessing ({masks['guessing']:.2f}): the masks have "
            "destroyed the network, and a run held at that loss forgets everything. Raise `mask.keep`, or mask the head alone.**"
        )
    if masks["memorised"] != 1:
        text += " **The base model has not memorised its training set, so the constraint means little: train it longer.**"
    return text
