"""The picture of all methods side by side."""

from pathlib import Path

import numpy as np

from ood.drawing import COLOURS, plt, save


def methods_overview(path: Path, rows: list[tuple[str, dict[str, tuple[float, float, float]]]], groups: list[str]) -> None:
    """One line per method: mean AUROC of each group with its bootstrap interval.

    Args:
        rows: (label, group -> (mean, low, high)).
    """
    figure, axes = plt.subplots(1, len(groups), figsize=(9.5, 0.32 * len(rows) + 1.0), sharey=True)
    places = np.arange(len(rows))[::-1]
    for axis, group in zip(np.atleast_1d(axes), groups, strict=True):
        for place, (_, values) in zip(places, rows, strict=True):
            mean, low, high = values[group]
            axis.plot([low, high], [place, place], color=COLOURS[group], lw=2, alpha=0.45, solid_capstyle="butt")
            axis.plot(mean, place, "o", color=COLOURS[group], ms=5)
        axis.set_title("validation OOD" if group == "validation" else f"{group}-OOD")
        axis.set_xlabel("AUROC")
        axis.grid(axis="x", alpha=0.25)
        axis.set_yticks(places, [label for label, _ in rows])
    figure.tight_layout()
    save(figure, path)
