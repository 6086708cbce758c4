"""The report's section on the detector: what it is, what its threshold does, and what other rates would."""

from collections.abc import Sequence
from typing import Any

from ood.deploy.calibrated import Calibrated
from ood.detection import guarantee
from ood.report.tables import PERCENT, markdown_table

SHOWN = (0.01, 0.02, 0.05, 0.1, 0.2)  # rates in the table, and the detector's own; metrics/plots/detector.csv has more


def detector_section(found: Calibrated | None, figures: dict[str, Any] | None, rows: Sequence[dict[str, str]]) -> list[str]:
    """Paragraphs and tables; none where no detector was made.

    Args:
        figures: what its threshold does on test images; None: none was computed. rows: of metrics/plots/detector.csv.
    """
    if found is None:
        return []
    each = ", a threshold for each predicted class" if found.per_class else ""
    meaning = guarantee.meaning(found.guarantee, found.confidence)
    chosen = f"{found.by:.1%} on validation OOD" + ("" if found.held_out is None else f", {found.held_out:.1%} on held-out classes")
    seeds = f"seeds {', '.join(map(str, found.seeds))} together" if len(found.seeds) > 1 else f"seed {found.seeds[0]}"
    text = (
        f"`{found.model}` with `{found.score}` ({seeds}; AUROC {chosen}). At most {found.reject:.1%} of ID may be flagged, {meaning} "
        f"({found.guarantee}), on {found.images} calibration images{each}. `data/detector` is ready for use; figures of "
        "`metrics/plots/detector.csv`, drawn in `metrics/pictures/detector.png`."
    )
    parts = ["## The detector", text]
    return [*parts, *(_tested(found, figures), _rates(found, rows))] if figures else parts


def _tested(found: Calibrated, figures: dict[str, Any]) -> str:
    """What the threshold does to ID test and every OOD set."""
    inside = figures["id"]
    table = [["ID test", str(inside["images"]), _span(inside, "flagged")]]
    table += [[name, str(one["images"]), _span(one, "caught")] for group in ("near", "far") for name, one in figures[group].items()]
    return markdown_table(["set", "images", f"flagged ({found.confidence:.0%} interval)"], table)


def _span(one: dict[str, float], key: str) -> str:
    return f"{PERCENT * one[key]:.1f} ({PERCENT * one['low']:.1f} to {PERCENT * one['high']:.1f})"


def _rates(found: Calibrated, rows: Sequence[dict[str, str]]) -> str:
    """Under each promise what a rate costs and catches."""
    header = ["guarantee", "may be flagged", "ID test flagged", "right of the others", "near caught", "far caught", "cost"]
    keys = ("id_flagged", "selective_accuracy", "near_caught", "far_caught")
    wanted, table = {*SHOWN, found.reject}, []
    for kind in guarantee.KINDS:
        for row in rows:
            if row["guarantee"] == kind and float(row["reject"]) in wanted:
                cells = [f"{PERCENT * float(row[key]):.1f}" if row[key] else "-" for key in keys]
                table.append([kind, f"{PERCENT * float(row['reject']):g}", *cells, f"{float(row['cost']):.2f}" if row["cost"] else "-"])
    return markdown_table(header, table)
