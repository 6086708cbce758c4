"""What the report says of Unleashing Mask: the constraint, the atypical samples, and how detection goes over a training."""

from pathlib import Path

import numpy as np

from ood.config import Params
from ood.config.methods import Mask, MaskRun
from ood.config.training import Seeds
from ood.data import packed
from ood.handover import read_numbers, read_table
from ood.report import charts
from ood.report.blocks import Block, Figure, Gallery, Row, Text, given
from ood.report.measured import Measured
from ood.report.tables import collapse_table, constraint_table, finders_table, mask_accuracy_table, trace_table
from ood.report.thumbnails import SAMPLES, pictures
from ood.tables import HISTORIES
from ood.unmask.kept import ranking

TRACES = Path("metrics/trace")
GROUPS = ("validation", "near", "far")
COLLAPSE = (
    "Neural collapse of the training set at the last epoch, 0 at full collapse: NC1 spread within classes against between them; NC2 how "
    "unequal class means are in length and angle, and weight rows in length; NC3 last layer against class means; NC4 share of images whose "
    "nearest class mean is another class."
)


def mask_text(masks: dict[str, float | None], mask: Mask, run: MaskRun) -> str:
    """A loss constraint in words, and whether it means anything."""
    spread_, masking = masks["constraint_std_over_masks"], mask.masking(run)
    whose = "the head" if masking.layers == "head" else "every layer"
    text = (
        f"Masking a random {1 - masking.keep:.1%} of {whose}'s weights lifts the training loss of `{run.init}` from "
        f"{masks['dense_loss']:.4f} to {masks['constraint']:.4f} ± {spread_:.4f} (over masks): the loss constraint. "
        f"{_share(masks['share_flipped_by_any_mask'])} of the training images are misclassified under at least one mask"
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
    if (contradicted := masks.get("contradicted")) is not None:
        text += f" The first epochs ({masks['first_looks']:.0f} looks, chosen on ID validation) contradict {contradicted:.1%} of the labels"
        text += "." if masks.get("mislabelled") is None else f"; {masks['mislabelled']:.1%} are wrong on purpose."
    if masks["memorised"] != 1:
        text += " **The base model has not memorised its training set, so the constraint means little: train it longer.**"
    return text


def _share(value: float | None) -> str:
    """A share in percent, small ones too."""
    return f"{100 * (value or 0):.2g}%"


def texts(measured: Measured, params: Params) -> list[Text]:
    """Every mask run in words."""
    return [Text(mask_text(found, params[Mask], params[Mask].runs[run])) for run, found in measured.masks.items()]


def blocks(measured: Measured, params: Params) -> list[Block]:
    """Constraints, atypical samples, what runs did with them."""
    parts: list[Block] = []
    for run, text in zip(measured.masks, texts(measured, params), strict=True):
        found = finders_table(measured.masks[run])
        parts += [text, *given("Who finds the images whose labels are wrong:", found), *atypical(run, params[Seeds].root[0])]
    levels = {run: level for run, level in measured.levels.items() if run not in measured.withheld}
    loose = [run for run, (b, reached) in levels.items() if b is not None and reached is not None and reached < b / 2]
    parts += [constraint_table(levels)] if levels else []
    if loose:
        parts.append(Text(f"Not held by the constraint, their loss having ended far below it: {', '.join(f'`{run}`' for run in loose)}."))
    return [*parts, *given("Pruned nets with their mask and without it:", mask_accuracy_table(measured.shown))]


def atypical(run: str, seed: int) -> list[Gallery]:
    """The most and the least atypical training images of one seed's network, by the first epochs if they were looked at."""
    rows = ranking(run, seed)
    by_epochs = "early_doubt" in rows[0] if rows else False
    rows = sorted(rows, key=lambda row: -float(row["early_doubt"])) if by_epochs else rows
    place = {name: index for index, name in enumerate(packed.item_names("id/train"))}
    classes, shown = packed.info().classes, min(SAMPLES, len(rows) // 2)
    halves = {"The most atypical training images": rows[:shown], "The most typical": rows[: -shown - 1 : -1]}
    column, said = ("early_doubt", "doubt of the first epochs") if by_epochs else ("flip_rate", "share of masks that flip it")
    return [
        Gallery(
            f"{title} by mask run {run}, seed {seed}: label → likely label, loss under masks, {said}",
            pictures("id/train", index, [_lines(row, classes, column) for row in half], "training image"),
        )
        for title, half in halves.items()
        if (index := [place[row["image"]] for row in half])
    ]


def _lines(row: dict[str, str], classes: list[str], column: str) -> tuple[str, str, str]:
    """What stands below a training image: its label, and the likely one where it is another, and two figures."""
    label, likely = classes[int(row["label"])], classes[int(row["likely"])]
    shown = label if label == likely else f"{label} → {likely}?"
    return shown, f"{float(row['masked_loss']):.2g}", f"{float(row[column]):.0%}"


def over_epochs(measured: Measured) -> list[Block]:
    """OOD detection, loss and collapse over the epochs of each traced run."""
    parts: list[Block] = [trace_table(measured.traces)] if measured.traces else []
    parts += [Row(_traced(run, found)) for run, found in measured.traces.items()]
    return [*parts, *given(COLLAPSE, collapse_table(measured.traces))]


def _traced(run: str, found: dict[str, float]) -> list[Figure]:
    """AUROC, training loss and NC1 over epochs."""
    rows = read_table(TRACES / f"{run}.csv", f"trace {run}", ("seed", "epoch"))
    groups = {group: f"{group}_auroc" for group in GROUPS if f"{group}_auroc" in rows[0]}
    lines = {"picked on validation OOD": found["picked_epoch"]}
    lines |= {"test oracle": found["oracle_epoch"]} if "oracle_epoch" in found else {}
    looked = read_numbers(TRACES / f"{run}.csv", f"trace {run}", ("seed", "epoch", *groups.values()))
    epochs, curves = _by_seed(looked, groups)
    figures = [charts.epochs(f"trace-{run}", f"{run}: detection over its training", curves, epochs, lines, "AUROC", percent=True)]
    trained = read_numbers(HISTORIES / f"{run}.csv", f"pretrain {run}", ("seed", "epoch", "loss"))
    epochs, curves = _by_seed(trained, {"training loss": "loss"})
    figures.append(charts.epochs(f"loss-{run}", f"{run}: training loss", curves, epochs, {}, "training loss (nats)"))
    kinds = {"raw features": "nc1_raw", "their directions": "nc1_unit"}
    if all(key in rows[0] for key in kinds.values()):
        measured = read_numbers(TRACES / f"{run}.csv", f"trace {run}", ("seed", "epoch", *kinds.values()))
        epochs, curves = _by_seed(measured, kinds)
        figures.append(charts.epochs(f"collapse-{run}", f"{run}: neural collapse", curves, epochs, {}, "NC1"))
    return figures


def _by_seed(rows: list[dict[str, float]], columns: dict[str, str]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Epochs, and of each column an array (seeds, epochs)."""
    seeds = list(dict.fromkeys(row["seed"] for row in rows))
    epochs = sorted({row["epoch"] for row in rows})
    table = {(row["seed"], row["epoch"]): row for row in rows}
    found = {label: np.array([[table[seed, epoch][column] for epoch in epochs] for seed in seeds]) for label, column in columns.items()}
    return np.array(epochs), found
