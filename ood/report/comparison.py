"""What the report says of the models: side by side, against their controls, on every set, as each paper measures."""

from ood.config import Params
from ood.config.evaluation import Evaluate, Report
from ood.config.training import Pretrain, Seeds
from ood.evaluation.protocols import PROTOCOLS
from ood.report import charts
from ood.report.blocks import Block, Fold, Row, Text, given
from ood.report.data import SIBLING
from ood.report.measured import Measured
from ood.report.tables import (
    PERCENT,
    Results,
    calibration_table,
    control_table,
    error_table,
    groups_in,
    held_out_table,
    interval_table,
    main_table,
    norm_table,
    oe_calibration_table,
    protocol_table,
    set_table,
    siblings_of,
    values,
    without,
)

PICKED = "The *own score* is the one of the method's paper; the *picked score* is the best on validation OOD, chosen there alone"
CONTROLS = (
    "Method minus control (same start, same steps, without the method's idea), paired by seed, on the same score; where their own "
    "scores differ, also each on its own. *By seed* counts seeds by the mean AUROC over groups; how far it moves, the row says."
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
HELD_OUT = (
    "By the worse of two AUROCs: on validation OOD, and on ID classes that were held out, one at a time (`evaluate.held_out`), of heads "
    "that learn the others on the same features by plain cross-entropy. The latter says which score sees what these features were never "
    "trained on, not what a method did: it is the same for all models of a kind of head."
)


def how_to_read(measured: Measured, params: Params) -> Text:
    """What the columns of the main table are."""
    held = held_out_table(measured.shown)
    return Text(
        f"Figures are percent, mean ± standard deviation over seeds ({', '.join(map(str, params[Seeds].root))}). "
        "FPR95 is the share of OOD images let through when 95 % of ID is kept (`fpr_ood_at_tpr95_id`, rule "
        f"`{params[Evaluate].fpr_rule}`); the other FPR95 (ID flagged when 95 % of OOD is caught) is in `metrics/scores.csv`. "
        f"{PICKED}{', and on classes held out where the backbone was never trained on them (see below).' if held else '.'}"
    )


def pairs_of(measured: Measured, params: Params) -> dict[str, str]:
    """Method -> control, of those whose figures mean something."""
    return {method: control for method, control in params[Report].pairs.items() if not {method, control} & set(measured.withheld)}


def controls(measured: Measured, params: Params) -> list[Block]:
    """Every method against its control."""
    siblings, pairs = siblings_of(measured.manifest), pairs_of(measured, params)
    if not pairs:
        return [Text("No model that is shown has a control that is (`report.pairs`).")]
    related = ""
    if without(siblings, measured.shown):
        related = (
            f" The columns *without †* are the same means without {', '.join(sorted(siblings))}, which have a sibling among what runs "
            "were trained with."
        )
    return [
        Text(CONTROLS + related),
        control_table(measured.shown, pairs, siblings),
    ]


def side_by_side(measured: Measured, params: Params) -> list[Block]:
    """All models, first as a picture."""
    results, confidence = measured.shown, params[Evaluate].confidence
    groups, rows = groups_in(results), overview(results)
    drawn = f"{confidence:.0%} bootstrap interval" if params[Evaluate].bootstrap else ""
    figures = [charts.spans(f"all-{group}", group, [(name, spans[group]) for name, spans in rows], "AUROC", drawn) for group in groups]
    images = "validation" if groups == ["validation"] else "test"
    norms, held = norm_table(results, list(params[Pretrain].runs)), held_out_table(results)
    return [
        how_to_read(measured, params),
        main_table(results, measured.withheld),
        Row(figures),
        *([Fold("What the scores were picked by", [Text(HELD_OUT), held])] if held else []),
        *([Fold("Norm, MSP and Energy: training against score", [norms])] if norms else []),
        *([Fold(f"How sure: {drawn}s over {images} images (own score)", [interval_table(results)])] if drawn else []),
    ]


def every_set(measured: Measured) -> list[Block]:
    """The own score on each OOD set by itself."""
    results, siblings = measured.shown, siblings_of(measured.manifest)
    return [
        *([Text(SIBLING)] if siblings else []),
        Text("AUROC of the own score:"),
        set_table(results, "auroc", siblings),
        Text("FPR95 of the own score:"),
        set_table(results, "fpr_ood_at_tpr95_id", siblings),
    ]


def otherwise(measured: Measured) -> list[Block]:
    """As the papers measure; confidence; errors on ID."""
    results = measured.shown
    protocols = next(iter(results.values()))["protocols"]
    errors = error_table(results)
    folds: list[Block] = [
        Fold(
            f"As measured by {PROTOCOLS[name].title}",
            [*([Text(DRAWS)] if PROTOCOLS[name].draws > 1 else []), protocol_table(results, name)],
        )
        for name in protocols
    ]
    folds.append(Fold("ID calibration", [calibration_table(results), *given(OE_CALIBRATION, oe_calibration_table(results))]))
    return [*folds, *([Fold("Errors on ID", [Text(ERRORS), errors])] if errors else [])]


def each_model(measured: Measured) -> list[Block]:
    """ROC and histograms of every model's own score."""
    folds: list[Block] = []
    for number, (model, summary) in enumerate(measured.shown.items()):
        roc, histograms = ([row for row in rows if row["model"] == model] for rows in (measured.roc, measured.histograms))
        own = summary["own"]
        means = ", ".join(f"{group} {values(summary, own, group, 'auroc').mean():.1f}" for group in groups_in(measured.shown))
        figures = [
            charts.roc(f"roc-{number}", f"{model}, AUROC {means}", roc),
            charts.histogram(f"histogram-{number}", model, own, histograms),
        ]
        folds.append(Fold(f"{model} ({own}): AUROC {means}", [Row(figures)]))
    return folds


def overview(results: Results) -> list[tuple[str, dict[str, tuple[float, float, float]]]]:
    """Rows of the picture of all methods: label, group -> AUROC of the own score with its interval, as fractions."""
    rows = []
    for model, summary in results.items():
        own, spans = summary["own"], summary["intervals"][summary["own"]]
        means = {g: float(values(summary, own, g, "auroc").mean() / PERCENT) for g in groups_in(results)}
        low_high = {g: spans[g]["auroc"] if spans else (mean, mean) for g, mean in means.items()}
        rows.append((f"{model} ({own})", {g: (mean, *low_high[g]) for g, mean in means.items()}))
    return rows
