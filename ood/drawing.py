"""What all pictures share: matplotlib's backend and looks, colours of the groups, equal bytes for equal pictures."""

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from ood.files import atomically

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # the backend must be chosen first

__all__ = ["BESIDE", "COLOURS", "notice", "plt", "save", "short"]

COLOURS = {"validation": "#7a7a7a", "near": "#c1440e", "far": "#1f5fa8", "id": "#2f7d4f"}
BESIDE = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "borderaxespad": 0.0}  # a legend that covers no curve
plt.rcParams.update(
    {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlelocation": "left",
        "axes.titleweight": "bold",
        "axes.titlesize": 10,
        "legend.frameon": False,
    }
)


def notice(path: Path, text: str) -> None:
    """A line of words where a picture would be."""
    figure = plt.figure(figsize=(6, 0.5))
    figure.text(0.02, 0.4, text)
    save(figure, path)


def short(name: str, length: int) -> str:
    """A name in at most so many characters."""
    return name if len(name) <= length else name[: length - 1].rstrip() + "…"


def save(figure: Figure, path: Path) -> None:
    """Write a figure and close it."""
    # Without the version of matplotlib in the file, equal pictures are equal bytes.
    atomically(path, lambda target: figure.savefig(target, dpi=110, format="png", metadata={"Software": None}))
    plt.close(figure)
