"""Whether classes can be told apart without a look at the pictures: a network may learn that instead of what they show."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.tree import DecisionTreeClassifier

from ood.look import folds

SHUFFLES = 99  # of the labels; the smallest p-value is a hundredth
LEAVES = 16
WORTH = 0.1  # balanced accuracy above chance from which a shortcut is worth a warning


@dataclass(frozen=True)
class Shortcut:
    """How well a small decision tree tells classes by facts of files, cross-validated.

    accuracy: balanced; chance: 1 / classes; p: share of shuffled labels that are told as well. facts: the two that it goes by most. best:
    the class it is most often right on, and how often.
    """

    accuracy: float
    chance: float
    p: float
    facts: list[str]
    best: tuple[int, float]

    @property
    def warns(self) -> bool:
        """Whether it beats chance by more than accident and more than a trifle."""
        return self.p <= 0.01 and self.accuracy >= self.chance + WORTH


def shortcut(facts: dict[str, NDArray], labels: NDArray, units: NDArray) -> Shortcut | None:
    """Try it; None where files do not differ or classes are too small.

    Args:
        facts: per fact a number for each image, (N,) (ood.look.files.columns); units: as in `doubts`.
    """
    usable = np.flatnonzero(folds.judged(labels, units))
    own, known = folds.relabelled(labels[usable])
    if not facts or len(known) < 2:
        return None
    table = np.stack([values[usable] for values in facts.values()], axis=1)
    parts = folds.split(own, units[usable])
    recalls = _recalls(table, own, parts)
    rng = np.random.default_rng(0)
    shuffled = [_recalls(table, _shuffled(own, units[usable], rng), parts).mean() for _ in range(SHUFFLES)]
    p = (1 + sum(value >= recalls.mean() for value in shuffled)) / (1 + SHUFFLES)
    weight = _tree().fit(table, own).feature_importances_
    names = [list(facts)[i] for i in np.argsort(-weight, kind="stable")[:2] if weight[i] > 0]
    best = int(recalls.argmax())
    return Shortcut(float(recalls.mean()), 1 / len(known), float(p), names, (int(known[best]), float(recalls[best])))


def _shuffled(labels: NDArray, units: NDArray, rng: np.random.Generator) -> NDArray:
    """Labels dealt out anew among units of one size, so that what stays together still is of one class."""
    shuffled = labels.copy()
    _, place, sizes = np.unique(units, return_inverse=True, return_counts=True)
    for size in np.unique(sizes):
        members = [np.flatnonzero(place == unit) for unit in np.flatnonzero(sizes == size)]
        for one, other in zip(members, rng.permutation(len(members)), strict=True):
            shuffled[one] = labels[members[other]]
    return shuffled


def _tree() -> DecisionTreeClassifier:
    return DecisionTreeClassifier(max_leaf_nodes=LEAVES, min_samples_leaf=3, class_weight="balanced", random_state=0)


def _recalls(table: NDArray, labels: NDArray, parts: list[tuple[NDArray, NDArray]]) -> NDArray:
    """Per class the share of its images that are told, (C,)."""
    told = np.full(len(labels), -1)
    for fit, judge in parts:
        told[judge] = _tree().fit(table[fit], labels[fit]).predict(table[judge])
    return np.array([(told[labels == label] == label).mean() for label in np.unique(labels)])
