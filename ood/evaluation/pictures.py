"""A picture of a training: OOD detection over its epochs, above its loss."""

from pathlib import Path

from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ood.drawing import BESIDE, COLOURS, plt, save


def trace_curves(
    path: Path,
    title: str,
    epochs: list[int],
    curves: dict[str, NDArray],
    losses: NDArray,
    collapsing: dict[str, NDArray],
    picked: int,
    oracle: int | None,
) -> None:
    """AUROC of every group over epochs (mean and range over seeds) above the training loss and, where measured, neural collapse.

    Args:
        curves: group -> AUROC, shape (seeds, epochs). losses: (seeds, epochs). collapsing: raw or unit -> NC1, (seeds, epochs), or empty.
        picked, oracle: two of `epochs`.
    """
    heights = [3, 1, 1] if collapsing else [3, 1]
    figure, (upper, lower, *third) = plt.subplots(
        len(heights), 1, figsize=(9, 3.1 + 0.75 * len(heights)), sharex=True, height_ratios=heights
    )
    for group, values in curves.items():
        label = "validation OOD" if group == "validation" else f"{group}-OOD (test)"
        upper.plot(epochs, values.mean(0), color=COLOURS[group], label=label)
        upper.fill_between(epochs, values.min(0), values.max(0), color=COLOURS[group], alpha=0.15, lw=0)
    upper.axvline(picked, color="black", lw=1, label=f"epoch {picked}: picked on validation OOD")
    if oracle is not None:
        upper.axvline(oracle, color="black", lw=1, ls=":", label=f"epoch {oracle}: oracle, the test optimum")
    upper.set_ylabel("AUROC")
    upper.set_title(title)
    upper.legend(fontsize=8, **BESIDE)
    lower.plot(epochs, losses.mean(0), color=COLOURS["id"])
    lower.set_yscale("log")
    lower.set_ylabel("training loss")
    for axis in third:
        for (kind, values), style in zip(collapsing.items(), ("-", "--"), strict=False):
            axis.plot(epochs, values.mean(0), color=COLOURS["id"], ls=style, label="raw features" if kind == "raw" else "their directions")
        if any((values > 0).any() for values in collapsing.values()):  # one image a class has no spread at all
            axis.set_yscale("log")
        axis.set_ylabel("NC1 (training)")
        axis.legend(fontsize=8, **BESIDE)
    last = third[0] if third else lower
    last.set_xlabel("epoch")
    last.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.tight_layout()
    save(figure, path)
