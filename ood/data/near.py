"""Near-duplicates (ood.data.alike of pictures, ood.data.reworded of texts) and the split: what is alike stays on one side of it."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ood.data import alike, reworded
from ood.data.items import ItemSet, Sets
from ood.data.texts import Texts

NONE = np.empty((0, 2), np.int64)
MOST = 0.5  # share of a class in one unit, from which likeness is the class's nature: one object before one camera


def pairs(*sets: ItemSet) -> NDArray:
    """Every two that are alike, of the sets one behind the other: int64 (P, 2); none where pictures weren't looked at."""
    texts = [one.images for one in sets if isinstance(one.images, Texts)]
    if texts:
        return reworded.pairs(Texts([text for some in texts for text in some], texts[0].chain))
    looks = [one.looks for one in sets if one.looks is not None]
    if len(looks) < len(sets):
        return NONE
    return alike.pairs(alike.Looks(np.concatenate([one.hashes for one in looks]), np.concatenate([one.thumbnails for one in looks])))


def units(pairs: NDArray, labels: NDArray) -> NDArray:
    """What is split as one: a number per image, int64 (N,), equal for images of one class that are joined by likeness.

    A class of which most is one such unit is split image by image.
    """
    found = groups(pairs, labels)
    for label in np.unique(labels[pairs.ravel()]):
        members = np.flatnonzero(labels == label)
        if np.unique(found[members], return_counts=True)[1].max() > MOST * len(members):
            found[members] = len(labels) + members
    return found


def groups(pairs: NDArray, labels: NDArray) -> NDArray:
    """A number per image, int64 (N,), equal for images of one class that are joined by likeness."""
    within = pairs[labels[pairs[:, 0]] == labels[pairs[:, 1]]]
    return alike.groups(len(labels), within) if len(within) else np.arange(len(labels))


def one_of_each(images: ItemSet, units: NDArray) -> ItemSet:
    """To calibrate on, of a burst one: what a threshold promises rests on pictures that are draws of their own.

    Args:
        units: a number per image, equal where they are alike.
    """
    alone = np.sort(np.unique(units, return_index=True)[1])
    more = len(images) - len(alone)
    return replace(images.take(alone), skipped={**images.skipped, **({"that look like another": more} if more else {})})


def together(order: NDArray, units: NDArray, cuts: list[int]) -> tuple[NDArray, list[int]]:
    """An order of images in which those of a unit follow each other, where the first of them stands; cuts moved to a unit's nearer end."""
    first: dict[int, int] = {}
    for place, image in enumerate(order):
        first.setdefault(int(units[image]), place)
    places = np.array([first[int(units[image])] for image in order])
    sorted_ = np.argsort(places, kind="stable")
    order, places = order[sorted_], places[sorted_]
    ends = [i for i in range(len(order) + 1) if i in (0, len(order)) or places[i] != places[i - 1]]
    return order, [min(ends, key=lambda end: abs(end - cut)) for cut in cuts]


def told(images: ItemSet, pairs: NDArray, units: NDArray) -> list[str]:
    """What is to be said of pictures that look the same."""
    lines = []
    _, sizes = np.unique(units, return_counts=True)
    if (joined := sizes[sizes > 1]).size:
        lines.append(
            f"{joined.sum()} ID pictures look like another of their class, {len(joined)} groups; each stays on one side of the split"
        )
    apart = [pair for pair in pairs if images.labels[pair[0]] == images.labels[pair[1]] and units[pair[0]] != units[pair[1]]]
    for label in sorted({int(images.labels[one]) for one, _ in apart}):
        lines.append(f"most pictures of class {images.classes[label]!r} look alike; they are split one by one")
    crossing = [pair for pair in pairs if images.labels[pair[0]] != images.labels[pair[1]]]
    if crossing:
        first, other = (images.names[image] for image in crossing[0])
        some = f"{len(crossing)} pairs of ID pictures look the same but are of two classes"
        lines.append(f"{some} (first: {first}, {other}); have a look at their labels")
    return lines


def told_across(sets: Sets, name: str) -> list[str]:
    """What is to be said of pictures to test or to calibrate on, from a source of their own, that look like one with another purpose."""
    images = sets[name]
    others = {"id/train": "training", "id/val": "validation", "calibration/id": "calibration"}
    others |= {"id/test": "testing"} if name == "calibration/id" else {}
    others = {other: what for other, what in others.items() if other in sets and other != name}
    known = [sets[other] for other in others]
    alike_ = pairs(*known, images)
    start = sum(map(len, known))
    found = np.unique(alike_[(alike_[:, 0] < start) & (alike_[:, 1] >= start), 1]) - start
    if not len(found):
        return []
    what = {"id/test": "ID test", "calibration/id": "calibration"}[name]
    *first, last = others.values()
    return [
        f"{len(found)} of {len(images)} {what} pictures look like one for {', '.join(first)} or {last} (first: {images.names[found[0]]})"
    ]
