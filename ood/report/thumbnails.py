"""Small pictures of prepared images."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ood.data import packed
from ood.data.batches import load
from ood.report.blocks import Gallery, Picture

SAMPLES = 12  # pictures in a gallery


def images(name: str, index: Sequence[int] | NDArray) -> NDArray[np.uint8]:
    """Some images of a prepared set, uint8 (n, H, W, 3)."""
    chosen = torch.as_tensor(np.asarray(index, np.int64))
    return load(name).some(chosen).permute(0, 2, 3, 1).contiguous().numpy()


def spaced(count: int, shown: int = SAMPLES) -> NDArray[np.int64]:
    """Places spread evenly over so many."""
    return np.linspace(0, count - 1, min(shown, count)).astype(np.int64)


def samples(name: str, title: str) -> Gallery:
    """Images spread evenly through a prepared set; of ID by class."""
    labels = packed.labels(name)
    index = np.argsort(labels, kind="stable")[spaced(len(labels))] if name.startswith("id/") else spaced(len(labels))
    classes = packed.info().classes if name.startswith(("id/", "corrupted/", "shifted/")) else None
    lines = [(classes[labels[i]],) if classes else () for i in index]
    shown = zip(images(name, index), lines, strict=True)
    return Gallery(title, [Picture.of(image, f"{name}{''.join(f', {text}' for text in line)}", *line) for image, line in shown])
