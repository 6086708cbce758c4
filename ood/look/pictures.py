"""The contact sheet: some pictures of every class, then those whose labels look wrong, then those that stand under two classes."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from numpy.typing import NDArray
from PIL import Image

from ood.drawing import COLOURS, plt, save, short
from ood.look.findings import Findings

COLUMNS, ROWS, DOUBTFUL = 10, 20, 30
DRAWN = 128  # pixels of a picture on the sheet, at most
SIDE, TITLE, CAPTION = 0.95, 0.35, 0.35  # inches


def contact_sheet(path: Path, found: Findings, title: str) -> None:
    """Draw it."""
    seen = found.seen
    classes = [label for label in range(len(seen.classes)) if (seen.labels == label).any()]
    per_class = [_spread(np.flatnonzero(seen.labels == label), COLUMNS) for label in classes[:ROWS]]
    place = {name: i for i, name in enumerate(seen.names)}
    doubtful = [place[row["name"]] for row in found.doubtful()[:DOUBTFUL]]
    crossing = [int(i) for pair in seen.crossing[: DOUBTFUL // 2] for i in pair]
    parts = [(len(per_class), 0.0), *((-(-len(some) // COLUMNS), CAPTION) for some in (doubtful, crossing) if some)]
    heights = [TITLE + rows * (SIDE + caption) for rows, caption in parts]
    figure = plt.figure(figsize=(COLUMNS * SIDE + 1.6, sum(heights)))
    panels = list(np.asarray(figure.subfigures(len(parts), 1, height_ratios=heights)).reshape(-1))
    more = f", {ROWS} of {len(classes)} classes" if len(classes) > ROWS else ""
    _classes(panels.pop(0), found, per_class, [seen.classes[label] for label in classes], f"{title}{more}")
    if doubtful:
        assert found.doubts is not None
        names = [(seen.classes[seen.labels[i]], seen.classes[found.doubts.seen_as[i]]) for i in doubtful]
        captions = [f"{short(one, 15)}\nor {short(other, 12)}?" for one, other in names]
        _row(panels.pop(0), found, doubtful, captions, "Labels that look wrong, the most doubtful first")
    if crossing:
        captions = [short(seen.classes[seen.labels[i]], 15) for i in crossing]
        _row(panels.pop(0), found, crossing, captions, "Pairs that look the same, under two classes")
    save(figure, path)


def _spread(members: NDArray, count: int) -> NDArray:
    """At most `count` of them, evenly from first to last: files of one burst have neighbouring names."""
    return members[np.unique(np.linspace(0, len(members) - 1, min(count, len(members))).round().astype(int))]


def _show(axis: Axes, found: Findings, index: int) -> None:
    picture = Image.fromarray(found.seen.images.finished(index))
    picture.thumbnail((DRAWN, DRAWN), Image.Resampling.BOX)
    axis.imshow(np.asarray(picture))


def _classes(panel: SubFigure, found: Findings, rows: list[NDArray], names: list[str], title: str) -> None:
    panel.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    axes = np.asarray(panel.subplots(len(rows), COLUMNS)).reshape(len(rows), COLUMNS)
    height = len(rows) * SIDE + TITLE
    panel.subplots_adjust(left=1.55 / (COLUMNS * SIDE + 1.6), right=0.995, top=1 - TITLE / height, bottom=0.005, wspace=0.04, hspace=0.04)
    for axis in axes.flat:
        axis.set_axis_off()
    for line, members, name in zip(axes, rows, names, strict=False):
        count = int((found.seen.labels == found.seen.labels[members[0]]).sum())
        line[0].text(-0.08, 0.5, f"{short(name, 18)}\n{count:,}", transform=line[0].transAxes, ha="right", va="center", fontsize=9)
        for axis, index in zip(line, members, strict=False):
            _show(axis, found, int(index))


def _row(panel: SubFigure, found: Findings, chosen: list[int], captions: list[str], title: str) -> None:
    rows = -(-len(chosen) // COLUMNS)
    panel.suptitle(title, x=0.01, y=1 - 0.04 / rows, ha="left", fontsize=10, fontweight="bold", color=COLOURS["near"])
    axes = np.asarray(panel.subplots(rows, COLUMNS)).reshape(rows, COLUMNS)
    height = TITLE + rows * (SIDE + CAPTION)
    panel.subplots_adjust(left=0.01, right=0.995, top=1 - (TITLE + CAPTION) / height, bottom=0.01, wspace=0.06, hspace=CAPTION / SIDE)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, index, caption in zip(axes.flat, chosen, captions, strict=False):
        _show(axis, found, index)
        axis.set_title(caption, loc="center", fontsize=7, fontweight="normal", pad=2)
