"""Small pictures of prepared images; of texts their beginnings."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ood.data import packed
from ood.data.sets import load
from ood.report.blocks import Gallery, Picture, Quote

SAMPLES = 12  # pictures in a gallery


def pictures(name: str, index: Sequence[int] | NDArray, lines: Sequence[tuple[str, ...]], said: str = "") -> list[Picture | Quote]:
    """Some images, or texts, of a prepared set.

    Args:
        lines: what stands below each. said: what a picture shows, for who can't see it, before these lines; the set's name by default.
    """
    chosen = np.asarray(index, np.int64)
    if (texts := packed.texts(name)) is not None:
        return [Quote.of(texts[i], *own) for i, own in zip(chosen, lines, strict=True)]
    drawn = load(name).some(torch.as_tensor(chosen)).permute(0, 2, 3, 1).contiguous().numpy()
    return [Picture.of(image, ", ".join((said or name, *own)), *own) for image, own in zip(drawn, lines, strict=True)]


def spaced(count: int, shown: int = SAMPLES) -> NDArray[np.int64]:
    """Places spread evenly over so many."""
    return np.linspace(0, count - 1, min(shown, count)).astype(np.int64)


def by_class(labels: NDArray[np.int64], shown: int = SAMPLES) -> NDArray[np.int64]:
    """Places of images of as many classes as there is room for, spread evenly over them; each has as many as the others, or one more."""
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    chosen = [members[i] for i in spaced(len(members), shown)]
    each = [shown // len(chosen) + (i < shown % len(chosen)) for i in range(len(chosen))]
    return np.concatenate([places[spaced(len(places), count)] for places, count in zip(chosen, each, strict=True)])


def samples(name: str, title: str) -> Gallery:
    """Images spread evenly through a prepared set; of ID as many of each class as there is room for, class by class."""
    labels = packed.labels(name)
    index = by_class(labels) if name.startswith("id/") else spaced(len(labels))
    classes = packed.info().classes if name.startswith(("id/", "corrupted/", "shifted/")) else None
    return Gallery(title, pictures(name, index, [(classes[labels[i]],) if classes else () for i in index]))
