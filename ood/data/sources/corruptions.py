"""Validation OOD by the Outlier Exposure paper: ID validation images, spoilt. Training images, spoilt, may be auxiliary outliers.

All functions take and return float arrays in [0, 1]. Sizes that the paper gives for 32 pixels scale with the image.
"""

import numpy as np
from PIL import Image

from ood.config.data import Corruption
from ood.data.chain import ImageChain
from ood.data.items import ItemSet, outliers
from ood.errors import InputError


def load(source: Corruption, parents: ItemSet, chain: ImageChain, rng: np.random.Generator) -> ItemSet:
    """One spoilt image per parent image (of the listed classes).

    Args:
        parents: native ID images.
    """
    chosen = chosen_parents(source, parents)
    images, names, keys = [], [], []
    for i in chosen:
        image = parents.pictures[i] / 255.0
        if source.kind in ("arithmetic_mean", "geometric_mean"):
            # A mixture within a class may be a plain member of it, so the partner is of another class.
            j = int(rng.choice(np.flatnonzero(parents.labels != parents.labels[i])))
            spoilt = MIXTURES[source.kind](image, parents.pictures[j] / 255.0)
            name = f"{source.kind}/{parents.names[i]}+{parents.names[j]}"
        else:
            spoilt = CORRUPTIONS[source.kind](image, rng)
            name = f"{source.kind}/{parents.names[i]}"
        images.append(chain.quantise(spoilt))
        names.append(name)
        keys.append((name,))
    return outliers(images, names, keys)


def load_labelled(source: Corruption, parents: ItemSet, chain: ImageChain, rng: np.random.Generator) -> ItemSet:
    """As load, with the labels and keys of the parents: the same things, harder to see."""
    spoilt = load(source, parents, chain, rng)
    taken = parents.take(chosen_parents(source, parents))
    return ItemSet(spoilt.images, taken.labels, spoilt.names, taken.keys, parents.classes)


def chosen_parents(source: Corruption, parents: ItemSet) -> np.ndarray:
    """Which of the parents are spoilt: those of the listed classes, at most `limit`, evenly spaced."""
    chosen = np.arange(len(parents))
    if source.classes is not None:
        chosen = chosen[np.isin(parents.labels, list(labels_of(source, parents.classes)))]
    if source.limit is not None and source.limit < len(chosen):
        chosen = chosen[np.linspace(0, len(chosen) - 1, source.limit).astype(np.int64)]
    return chosen


def labels_of(source: Corruption, classes: list[str]) -> set[int]:
    """The labels that source.classes means, given the ID classes' names.

    Raises:
        InputError: a name or label that isn't an ID class; it lists those there are.
    """
    by_name = {name: label for label, name in enumerate(classes)}
    labels = {c: by_name.get(c, -1) if isinstance(c, str) else c for c in source.classes or ()}
    unknown = [c for c, label in labels.items() if not 0 <= label < len(classes)]
    if unknown:
        known = ", ".join(f"{label}: {name}" for name, label in by_name.items())
        raise InputError(f"{source.kind}: {unknown[0]!r} is no ID class. By label and name they are {known}. Correct or remove it.")
    return set(labels.values())


def jigsaw(image: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
    """Quadrants rearranged: [top-left, its rows swapped | bottom-left] over [bottom-right | top-right, its columns swapped].

    Halves are swapped in their middle, at 28 pixels too, where OE's code swaps 6 rows with 8.
    """
    half, quarter = image.shape[0] // 2, image.shape[0] // 4
    top_left, top_right = image[:half, :half], image[:half, half:]
    bottom_left, bottom_right = image[half:, :half], image[half:, half:]
    top_left = np.concatenate([top_left[quarter:], top_left[:quarter]], axis=0)
    top_right = np.concatenate([top_right[:, quarter:], top_right[:, :quarter]], axis=1)
    upper = np.concatenate([top_left, bottom_left], axis=1)
    lower = np.concatenate([bottom_right, top_right], axis=1)
    return np.concatenate([upper, lower], axis=0)


def speckle(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """x + x * N(0, 1), clipped."""
    return np.clip(image + image * rng.normal(size=image.shape), 0, 1)


def pixelate(image: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
    """Box-resized to a fifth of the side, rounded down (6 of 32 pixels, 5 of 28; at least 2), and back."""
    side = image.shape[0]
    small = max(2, int(side * 0.2))
    channels = []
    for channel in np.moveaxis(image.astype(np.float32), -1, 0):
        reduced = Image.fromarray(channel).resize((small, small), Image.Resampling.BOX)
        channels.append(np.asarray(reduced.resize((side, side), Image.Resampling.BOX)))
    return np.stack(channels, axis=-1)


def ghost(image: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
    """Channels rolled: green mirrored, then blue, then red."""
    _needs_colour(image, "ghost")
    return np.stack([image[:, ::-1, 1], image[..., 2], image[..., 0]], axis=-1)


def invert(image: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
    """Channels 2 and 3 inverted."""
    _needs_colour(image, "invert")
    return np.concatenate([image[..., :1], 1 - image[..., 1:]], axis=-1)


def flip_vertical(image: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
    """Upside down."""
    return image[::-1]


def flip_horizontal(image: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
    """Mirrored."""
    return image[:, ::-1]


CORRUPTIONS = {f.__name__: f for f in (jigsaw, speckle, pixelate, ghost, invert, flip_vertical, flip_horizontal)}
MIXTURES = {
    "arithmetic_mean": lambda one, other: (one + other) / 2,
    "geometric_mean": lambda one, other: np.sqrt(one * other),
}


def _needs_colour(image: np.ndarray, name: str) -> None:
    if image.shape[-1] != 3:
        raise InputError(f"corruption {name} rolls colour channels; this data set's chain is grey. Take it out.")
