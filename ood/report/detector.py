"""What the report says of the detector: what it is, what its threshold does, what other rates would, where it errs."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ood.config import Params
from ood.config.detector import Detector
from ood.config.training import Seeds
from ood.data import packed
from ood.deploy import calibrated
from ood.deploy.calibrated import CALIBRATION, Calibrated
from ood.detection import guarantee
from ood.detection.rule import Rule
from ood.evaluation.groups import group_of
from ood.report import charts
from ood.report.blocks import Block, Figure, Fold, Gallery, Row, Table, Text
from ood.report.measured import Measured
from ood.report.measured import Row as Cells
from ood.report.tables import PERCENT
from ood.report.thumbnails import SAMPLES, pictures

DRAWN = 0.2  # largest rate in the figures: who rejects more classifies little
SHOWN = (0.01, 0.02, 0.05, 0.1, 0.2)  # rates in the table, and the detector's own; metrics/plots/detector.csv has more


def what_it_is(found: Calibrated, trained: int) -> Text:
    """The detector in a paragraph."""
    each = ", a threshold for each predicted class" if found.per_class else ""
    meaning = guarantee.meaning(found.guarantee, found.confidence)
    chosen = f"{found.by:.1%} on validation OOD" + ("" if found.held_out is None else f", {found.held_out:.1%} on held-out classes")
    chosen += ", mean over seeds" if trained > 1 else ""
    seeds = f"seeds {', '.join(map(str, found.seeds))} together" if len(found.seeds) > 1 else f"seed {found.seeds[0]}"
    return Text(
        f"`{found.model}` with `{found.score}` ({seeds}; AUROC {chosen}). At most {100 * found.reject:g}% of ID may be flagged, {meaning} "
        f"({found.guarantee}), on {found.images} calibration images{each}. It is the folder `data/detector`: "
        "`atypical predict` asks it."
    )


def price(params: Params) -> str:
    """What the column of costs is."""
    return (
        "Cost: of one ID and one OOD image, in accepted wrong classes: a wrong class that isn't flagged costs 1, an OOD image that isn't "
        f"flagged {params[Detector].price:g} (`detector.price`)."
    )


def missing(found: Calibrated) -> str:
    """How many calibration images the strictest of the shown rates would take."""
    needed = guarantee.fewest(found.guarantee, SHOWN[0], found.confidence)
    each = " taken for each class" if found.per_class else ""
    return f"A dash: too few calibration images to promise so little; {100 * SHOWN[0]:g} % takes {needed}{each}."


def tested(found: Calibrated, figures: dict) -> Table:
    """What the threshold does to ID test and every OOD set."""
    inside = figures["id"]
    rows = [["ID test", str(inside["images"]), _span(inside, "flagged")]]
    rows += [[name, str(one["images"]), _span(one, "caught")] for group in ("near", "far") for name, one in figures[group].items()]
    return Table(["set", "images", f"flagged ({found.confidence:.0%} interval)"], rows)


def _span(one: dict[str, float], key: str) -> str:
    return f"{PERCENT * one[key]:.1f} ({PERCENT * one['low']:.1f} to {PERCENT * one['high']:.1f})"


def at_rates(found: Calibrated, rows: Sequence[Cells], kinds: Sequence[str] = guarantee.KINDS) -> Table:
    """Under each promise what a rate costs and catches."""
    header = ["guarantee", "may be flagged", "ID test flagged", "right of the others", "near caught", "far caught", "cost"]
    keys = ("id_flagged", "selective_accuracy", "near_caught", "far_caught")
    wanted, table = {*SHOWN, found.reject}, []
    for kind in kinds:
        for row in rows:
            if row["guarantee"] == kind and float(row["reject"]) in wanted:
                cells = [f"{PERCENT * float(row[key]):.1f}" if row[key] else "-" for key in keys]
                table.append([kind, f"{PERCENT * float(row['reject']):g}", *cells, f"{float(row['cost']):.2f}" if row["cost"] else "-"])
    return Table(header, table)


def blocks(measured: Measured, params: Params) -> list[Block]:
    """All of it."""
    found, figures = measured.detector, measured.operating
    if found is None:
        return [Text("No detector was made (`detector.model: null`).")]
    if figures is None:
        return [what_it_is(found, len(params[Seeds].root)), Text("No test figure was asked for (`evaluate.roles`).")]
    return [
        what_it_is(found, len(params[Seeds].root)),
        tested(found, figures),
        Text(f"What other rates would do, under the same guarantee. {missing(found)} {price(params)}"),
        at_rates(found, measured.rates, [found.guarantee]),
        Row(_curves(found, measured.rates)),
        Fold("Under each of the three guarantees", [at_rates(found, measured.rates)]),
        *hardest(found),
    ]


def _curves(found: Calibrated, rows: Sequence[Cells]) -> list[Figure]:
    seen = []
    for kind in guarantee.KINDS:
        held = _columns(rows, kind, "id_flagged")
        if len(held[0]):
            seen.append((kind, *held))
    if not seen:
        return []
    low, high = min(x.min() for _, x, _ in seen), max(x.max() for _, x, _ in seen)
    line, colours = np.geomspace(low, high, 20), [*["id"] * len(seen), "ink"]
    names = ("share of ID that may be flagged", "share of ID test that is")
    figures = [
        charts.rates(
            "promised", "False alarms: promised and seen", names, [*seen, ("as many as allowed", line, line)], colours, found.reject
        )
    ]
    caught = [
        (f"{group}-OOD", *column) for group in ("near", "far") if len((column := _columns(rows, found.guarantee, f"{group}_caught"))[0])
    ]
    if caught:
        names = ("share of ID that may be flagged", "share of OOD that is caught")
        groups = [name.removesuffix("-OOD") for name, *_ in caught]
        figures.append(charts.rates("caught", f"What is caught ({found.guarantee})", names, caught, groups, found.reject))
    return figures


def _columns(rows: Sequence[Cells], kind: str, key: str) -> tuple[NDArray, NDArray]:
    found = [(rate, float(row[key])) for row in rows if row["guarantee"] == kind and row[key] and (rate := float(row["reject"])) <= DRAWN]
    x, y = zip(*found, strict=True) if found else ((), ())
    return np.array(x), np.array(y)


def hardest(found: Calibrated) -> list[Gallery]:
    """ID test images that are flagged, most surely first, and OOD images that are not, those taken for known most surely first."""
    answers = {key: value.numpy() for key, value in calibrated.load_answers().items()}
    classes = packed.info().classes
    rule = Rule(
        answers[f"{CALIBRATION}:scores"],
        answers[f"{CALIBRATION}:predicted"],
        classes,
        found.reject,
        found.guarantee,
        found.confidence,
        found.per_class,
    )
    names = [key.removesuffix(":scores") for key in answers if key.endswith(":scores")]
    sets = {"ID test": ["id/test"], **{f"{g}-OOD": [name for name in names if group_of(name) == g] for g in ("near", "far")}}
    return [_errors(title, members, answers, rule) for title, members in sets.items() if members]


def _errors(title: str, members: list[str], answers: dict[str, NDArray], rule: Rule) -> Gallery:
    """Images of some sets on the wrong side of the threshold, those that are farthest from it first."""
    scores, predicted = (np.concatenate([answers[f"{name}:{key}"] for name in members]) for key in ("scores", "predicted"))
    places = [(name, place) for name in members for place in range(len(answers[f"{name}:scores"]))]
    known = title == "ID test"
    flagged, p_values = rule.flags(scores, predicted), rule.p_values(scores, predicted)
    excess = scores - (rule.thresholds[predicted] if rule.per_class else rule.thresholds[0])
    wrong = np.flatnonzero(flagged == known)
    order = wrong[np.argsort(-excess[wrong] if known else excess[wrong], kind="stable")]
    chosen = order[:SAMPLES]
    what = "flagged, though known" if known else "accepted, though unknown"
    what += f", the {'strangest' if known else 'most ordinary'} first" if len(wrong) > 1 else ""
    shown = []
    for index in chosen:
        name, place = places[index]
        seen, line = rule.classes[predicted[index]], f"p {p_values[index]:.2g}"
        if known:
            label = rule.classes[packed.labels(name)[place]]
            lines: tuple[str, ...] = (label if label == seen else f"{label}, taken for {seen}", line)
        else:
            lines = (name.split("/")[1], f"taken for {seen}", line)
        shown += pictures(name, [place], [lines])
    return Gallery(f"{title}: {len(wrong)} of {len(scores)} images {what}", shown)
