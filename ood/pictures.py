"""Pictures: samples of every set, atypical beside typical images, curves over epochs, methods side by side."""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ood.data.items import ItemSet
from ood.files import atomically

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # the backend must be chosen first

COLOURS = {"validation": "#7a7a7a", "near": "#c1440e", "far": "#1f5fa8", "id": "#2f7d4f"}
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


def sheet_of_sets(path: Path, sets: dict[str, ItemSet], columns: int = 24) -> None:
    """A row of samples, evenly spaced through the set, for every set."""
    figure, axes = plt.subplots(len(sets), 1, figsize=(9.5, 0.42 * len(sets) + 0.3))
    for axis, (name, items) in zip(np.atleast_1d(axes), sets.items(), strict=True):
        chosen = np.linspace(0, len(items) - 1, min(columns, len(items))).astype(int)
        axis.imshow(_row(items.images[chosen], columns))
        axis.set_axis_off()
        axis.text(-0.01, 0.5, f"{name}  {len(items)}", transform=axis.transAxes, ha="right", va="center")
    figure.subplots_adjust(left=0.24, right=0.995, top=0.99, bottom=0.01, hspace=0.08)
    _save(figure, path)


def sheet_of_atypical(path: Path, images: NDArray, captions: list[str], order: NDArray, count: int) -> None:
    """The `count` most atypical training images above the `count` most typical, each under its caption.

    Args:
        images: uint8 (N, 3, H, W). captions: per image. order: most atypical first.
    """
    count = min(count, len(order) // 2)
    columns = min(count, 12)
    rows = -(-count // columns)
    figure = plt.figure(figsize=(0.8 * columns + 0.2, 2.1 * rows + 0.8))
    halves = figure.subfigures(2, 1)
    groups = (("Most atypical training images", order[:count]), ("Most typical", order[::-1][:count]))
    for half, (title, chosen) in zip(halves, groups, strict=True):
        half.suptitle(f"{title}  (label; loss under masks; share of masks that flip it)", x=0.01, ha="left", fontsize=10, fontweight="bold")
        axes = np.asarray(half.subplots(rows, columns)).reshape(rows, columns)
        for axis in axes.flat:
            axis.set_axis_off()
        for axis, index in zip(axes.flat, chosen, strict=False):
            axis.imshow(images[index].transpose(1, 2, 0))
            axis.set_title(captions[index], loc="center", fontsize=7, fontweight="normal", pad=2)
        half.subplots_adjust(left=0.01, right=0.99, top=0.78, bottom=0.02, wspace=0.08, hspace=0.3)
    _save(figure, path)


def trace_curves(
    path: Path,
    title: str,
    epochs: list[int],
    curves: dict[str, NDArray],
    losses: NDArray,
    picked: int,
    oracle: int | None,
) -> None:
    """AUROC of every group over epochs (mean and range over seeds) above the training loss.

    Args:
        curves: group -> AUROC, shape (seeds, epochs). losses: (seeds, epochs). picked, oracle: two of `epochs`.
    """
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(7, 4.6), sharex=True, height_ratios=[3, 1])
    for group, values in curves.items():
        label = "validation OOD" if group == "validation" else f"{group}-OOD (test)"
        upper.plot(epochs, values.mean(0), color=COLOURS[group], label=label)
        upper.fill_between(epochs, values.min(0), values.max(0), color=COLOURS[group], alpha=0.15, lw=0)
    upper.axvline(picked, color="black", lw=1, label=f"epoch {picked}: picked on validation OOD")
    if oracle is not None:
        upper.axvline(oracle, color="black", lw=1, ls=":", label=f"epoch {oracle}: oracle, the test optimum")
    upper.set_ylabel("AUROC")
    upper.set_title(title)
    upper.legend(fontsize=8, loc="best")
    lower.plot(epochs, losses.mean(0), color=COLOURS["id"])
    lower.set_yscale("log")
    lower.set_ylabel("training loss")
    lower.set_xlabel("epoch")
    lower.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.tight_layout()
    _save(figure, path)


def methods_overview(path: Path, rows: list[tuple[str, dict[str, tuple[float, float]]]], groups: list[str]) -> None:
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
    _save(figure, path)


def _row(images: NDArray, columns: int) -> NDArray:
    """Images (n, H, W, C) side by side with a white gap, enlarged fourfold without smoothing; padded to `columns`."""
    height, width = images.shape[1:3]
    gap = max(1, width // 8)
    row = np.full((height, columns * (width + gap) - gap, 3), 255, np.uint8)
    for i, image in enumerate(images):
        row[:, i * (width + gap) : i * (width + gap) + width] = image
    return row.repeat(4, axis=0).repeat(4, axis=1)


def _save(figure: Figure, path: Path) -> None:
    # Without the version of matplotlib in the file, equal pictures are equal bytes.
    atomically(path, lambda target: figure.savefig(target, dpi=110, format="png", metadata={"Software": None}))
    plt.close(figure)
