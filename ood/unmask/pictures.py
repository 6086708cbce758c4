"""A picture of what masks show: the most atypical training images above the most typical."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ood.drawing import plt, save, short


def sheet_of_atypical(path: Path, images: NDArray, captions: list[tuple[str, str]]) -> None:
    """The most atypical training images above the most typical, each under its caption.

    Args:
        images: uint8 (2 n, 3, H, W), the n atypical ones first. captions: per image two lines, its class and its figures.
    """
    count = len(images) // 2
    columns = min(count, 12)
    rows = -(-count // columns)
    figure = plt.figure(figsize=(0.8 * columns + 0.2, 2.3 * rows + 0.8))
    halves = np.asarray(figure.subfigures(2, 1))
    groups = (("Most atypical training images", range(count)), ("Most typical", range(count, 2 * count)))
    for half, (title, chosen) in zip(halves, groups, strict=True):
        half.suptitle(f"{title}  (class; loss under masks; share of masks that flip it)", x=0.01, ha="left", fontsize=10, fontweight="bold")
        axes = np.asarray(half.subplots(rows, columns)).reshape(rows, columns)
        for axis in axes.flat:
            axis.set_axis_off()
        for axis, index in zip(axes.flat, chosen, strict=False):
            axis.imshow(images[index].transpose(1, 2, 0))
            name, figures = captions[index]
            axis.set_title(f"{short(name, 14)}\n{figures}", loc="center", fontsize=7, fontweight="normal", pad=2)
        half.subplots_adjust(left=0.01, right=0.99, top=0.8 - 0.08 / rows, bottom=0.02, wspace=0.08, hspace=0.4)
    save(figure, path)
