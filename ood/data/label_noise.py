"""Wrong labels on purpose, for training images alone: a dose of atypical samples whose answer is known.

What a network is trained and chosen with sees the given labels; the true ones are kept beside them, for evaluation.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ood.config.data import LabelNoise
from ood.data.items import ItemSet
from ood.errors import InputError
from ood.handover import read_table

KEY = "data.id.label_noise"


def spoil(training: ItemSet, noise: LabelNoise, rng: np.random.Generator) -> ItemSet:
    """The training images with some labels changed, and their true ones; themselves where the noise is off.

    Raises:
        InputError: classes that there aren't, or a file that says nothing of these images.
    """
    if not noise.on:
        return training
    if noise.kind == "file":
        return replace(training, labels=_listed(training, noise), true_labels=training.labels)
    given, count = training.labels.copy(), len(training.classes)
    if noise.kind == "confusable":
        takes = {label: [other] for label, other in _confusables(training, noise).items()}
    else:
        takes = {label: [other for other in range(count) if other != label] for label in range(count)}
    for label, others in sorted(takes.items()):
        members = np.flatnonzero(training.labels == label)
        chosen = rng.permutation(members)[: round(noise.share * len(members))]
        given[chosen] = rng.choice(others, len(chosen))
    return replace(training, labels=given, true_labels=training.labels)


def _confusables(training: ItemSet, noise: LabelNoise) -> dict[int, int]:
    """Class -> the one that it is taken for."""
    classes = training.classes
    if noise.pairs is None:
        return nearest(training)
    unknown = [name for name in [*noise.pairs, *noise.pairs.values()] if name not in classes]
    if unknown:
        raise InputError(f"params.yaml: {KEY}.pairs: no class {unknown[0]!r}. Known: {', '.join(classes)}.")
    return {classes.index(one): classes.index(other) for one, other in noise.pairs.items()}


def nearest(training: ItemSet) -> dict[int, int]:
    """Every class -> the other one whose mean image is nearest."""
    labels, pixels = range(len(training.classes)), _pixels(training)
    means = np.stack([pixels[training.labels == label].mean(0) for label in labels])
    distances = np.linalg.norm(means[:, None] - means[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    return dict(enumerate(distances.argmin(1).tolist()))


def _pixels(training: ItemSet) -> NDArray:
    """Images as rows of numbers."""
    if not isinstance(training.images, np.ndarray):
        raise InputError(
            f"params.yaml: {KEY}.pairs: null compares mean images, and data.stream leaves these in their files. Give pairs, or set "
            "data.stream to false."
        )
    return training.images.reshape(len(training), -1).astype(np.float32)


def _listed(training: ItemSet, noise: LabelNoise) -> NDArray:
    """Given labels by a table of image and label."""
    assert noise.path is not None  # LabelNoise sees to it
    rows = read_table(noise.path, None, ("image", "label"))
    place = {name: index for index, name in enumerate(training.names)}
    number = {name: label for label, name in enumerate(training.classes)}
    unknown = next((row["label"] for row in rows if row["label"] not in number), None)
    if unknown is not None:
        raise InputError(f"{noise.path}: no class {unknown!r}. Known: {', '.join(number)}.")
    given, found = training.labels.copy(), 0
    for row in rows:
        if row["image"] in place:
            given[place[row["image"]]] = number[row["label"]]
            found += 1
    if not found:
        named = rows[0]["image"] if rows else "no image at all"
        raise InputError(f"{noise.path}: names no training image (first: {named}; they are called as {training.names[0]}). Correct it.")
    return given


def told(training: ItemSet) -> str:
    """What was done, in words."""
    assert training.true_labels is not None
    changed = int((training.labels != training.true_labels).sum())
    return f"the labels of {changed} of {len(training)} training images are wrong on purpose ({KEY}); the true ones stay beside them"
