"""A picture of the prepared data: samples of every set."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ood.data.items import ItemSet
from ood.data.texts import Texts
from ood.drawing import plt, save, short

LINES, LINE, CHARACTERS = 3, 0.17, 105  # of texts: how many of a set are shown, inches from one to the next, characters of each
DRAWN = 64  # pixels that an image of the sheet has at most; it is drawn with fewer


def sheet_of_sets(path: Path, sets: dict[str, ItemSet], columns: int = 24) -> None:
    """A row of samples, evenly spaced through the set, for every set; of texts some under each other."""
    if isinstance(next(iter(sets.values())).images, Texts):
        return _sheet_of_texts(path, sets)
    figure, axes = plt.subplots(len(sets), 1, figsize=(9.5, 0.42 * len(sets) + 0.3))
    for axis, (name, items) in zip(np.atleast_1d(axes), sets.items(), strict=True):
        chosen = np.linspace(0, len(items) - 1, min(columns, len(items))).astype(int)
        axis.imshow(_row(items.pictures[chosen], columns))
        axis.set_axis_off()
        axis.text(-0.01, 0.5, f"{name}  {len(items)}", transform=axis.transAxes, ha="right", va="center")
    figure.subplots_adjust(left=0.24, right=0.995, top=0.99, bottom=0.01, hspace=0.08)
    save(figure, path)


def _sheet_of_texts(path: Path, sets: dict[str, ItemSet]) -> None:
    height = len(sets) * (LINES + 1) * LINE
    figure = plt.figure(figsize=(9.5, height + 0.2))
    for place, (name, items) in enumerate(sets.items()):
        assert isinstance(items.images, Texts)
        top = 1 - (place * (LINES + 1) * LINE + 0.1) / (height + 0.2)
        figure.text(0.23, top, f"{name}  {len(items)}", ha="right", va="top")
        for line, index in enumerate(np.linspace(0, len(items) - 1, min(LINES, len(items))).astype(int)):
            label = f"{short(items.classes[items.labels[index]], 16)}: " if items.labels[index] >= 0 else ""
            text = short(label + " ".join(items.images.texts[index].split()), CHARACTERS)
            figure.text(0.245, top - line * LINE / (height + 0.2), text, va="top")
    save(figure, path)


def _row(images: NDArray, columns: int) -> NDArray:
    """Images (n, H, W, C) side by side with a white gap, padded to `columns`; small ones enlarged without smoothing, large ones reduced."""
    height, width = images.shape[1:3]
    if width > DRAWN:
        size = (DRAWN, round(height * DRAWN / width))
        images = np.stack([np.asarray(Image.fromarray(_three(image)).resize(size, Image.Resampling.BOX)) for image in images])
        height, width = images.shape[1:3]
    times = max(1, DRAWN // 2 // width)
    gap = max(1, width // 8)
    row = np.full((height, columns * (width + gap) - gap, 3), 255, np.uint8)
    for i, image in enumerate(images):
        row[:, i * (width + gap) : i * (width + gap) + width] = image
    return row.repeat(times, axis=0).repeat(times, axis=1)


def _three(image: NDArray) -> NDArray:
    """Three channels, also of a grey image."""
    return image if image.shape[2] == 3 else image.repeat(3, axis=2)
