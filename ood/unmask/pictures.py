"""A picture of what masks show: the most atypical training images above the most typical."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ood.drawing import plt, save, short
from ood.unmask.atypical import Atypical
from ood.unmask.epochs import OverEpochs


class Shown(NamedTuple):
    """Images to be shown, the n most atypical first, then the n most typical: numbers, two lines each, what the second figure is."""

    images: Tensor
    captions: list[tuple[str, str]]
    second: str


def shown_of(found: Atypical, epochs: OverEpochs | None, labels: Tensor, classes: list[str], count: int) -> Shown:
    """The most and the least atypical images, as many of each, and what is known of them: by the first epochs where there are such."""
    count = min(count, len(labels) // 2)
    likely = found.likely if epochs is None else epochs.likely
    order = found.order() if epochs is None else epochs.early_doubt.argsort(descending=True, stable=True)
    chosen = torch.cat([order[:count], order.flip(0)[:count]])
    losses, second = found.masked_loss.tolist(), (found.flip_rate if epochs is None else epochs.early_doubt).tolist()
    captions = []
    for i in chosen.tolist():
        given, other = classes[int(labels[i])], classes[int(likely[i])]
        captions.append((given if given == other else f"{given} → {other}?", f"{losses[i]:.3f}  {second[i]:.0%}"))
    return Shown(chosen, captions, "share of masks that flip it" if epochs is None else "doubt of the first epochs")


def sheet_of_atypical(path: Path, shown: Shown, images: NDArray | list[str]) -> None:
    """The most atypical training images (or texts) above the most typical, each under its caption.

    Args:
        images: uint8 (2 n, 3, H, W), those of `shown`; or texts, as many.
    """
    if isinstance(images, list):
        return _sheet_of_texts(path, shown, images)
    captions = shown.captions
    count = len(images) // 2
    columns = min(count, 12)
    rows = -(-count // columns)
    figure = plt.figure(figsize=(0.8 * columns + 0.2, 2.3 * rows + 0.8))
    halves = np.asarray(figure.subfigures(2, 1))
    groups = (("Most atypical training images", range(count)), ("Most typical", range(count, 2 * count)))
    for half, (title, chosen) in zip(halves, groups, strict=True):
        half.suptitle(
            f"{title}  (label → likely label; loss under masks; {shown.second})", x=0.01, ha="left", fontsize=10, fontweight="bold"
        )
        axes = np.asarray(half.subplots(rows, columns)).reshape(rows, columns)
        for axis in axes.flat:
            axis.set_axis_off()
        for axis, index in zip(axes.flat, chosen, strict=False):
            axis.imshow(images[index].transpose(1, 2, 0))
            name, figures = captions[index]
            axis.set_title(f"{short(name, 14)}\n{figures}", loc="center", fontsize=7, fontweight="normal", pad=2)
        half.subplots_adjust(left=0.01, right=0.99, top=0.8 - 0.08 / rows, bottom=0.02, wspace=0.08, hspace=0.4)
    save(figure, path)


def _sheet_of_texts(path: Path, shown: Shown, texts: list[str]) -> None:
    half, line = len(texts) // 2, 0.19
    height = (len(texts) + 3) * line
    figure = plt.figure(figsize=(10.5, height))
    rows: list[tuple[str, str, str] | str] = [f"Most atypical training texts  (label → likely label; loss under masks; {shown.second})"]
    entries = [(name, figures, text) for (name, figures), text in zip(shown.captions, texts, strict=True)]
    rows += [*entries[:half], "", "Most typical", *entries[half:]]
    for place, row in enumerate(rows):
        at = 1 - (place + 0.5) * line / height
        if isinstance(row, str):
            figure.text(0.01, at, row, va="center", fontweight="bold", fontsize=10)
            continue
        name, figures, text = row
        figure.text(0.01, at, short(name, 34), va="center")
        figure.text(0.33, at, figures, va="center", ha="right")
        figure.text(0.345, at, short(" ".join(text.split()), 92), va="center")
    save(figure, path)
