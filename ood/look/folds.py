"""Cross-validation in which pictures that look the same are held out together: else each would vouch for the other."""

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

FOLDS, LEAST = 5, 3


def split(labels: NDArray, units: NDArray) -> list[tuple[NDArray, NDArray]]:
    """Pairs of indices, to fit on and to judge; every image is judged once.

    Args:
        units: int64 (N,), equal for images that stay together. Every class has at least LEAST.
    """
    fewest = min(len(np.unique(units[labels == label])) for label in np.unique(labels))
    folds = StratifiedGroupKFold(min(FOLDS, fewest), shuffle=True, random_state=0)
    return [(fit, judge) for fit, judge in folds.split(np.zeros(len(labels)), labels, units) if len(judge)]


def judged(labels: NDArray, units: NDArray) -> NDArray:
    """Which images are of a class with at least LEAST units, bool (N,): of the others too little would be left to learn from."""
    enough = [label for label in np.unique(labels) if len(np.unique(units[labels == label])) >= LEAST]
    return np.isin(labels, enough)


def relabelled(labels: NDArray) -> tuple[NDArray, NDArray]:
    """Labels as 0, 1, ..., and what each of these was."""
    known, found = np.unique(labels, return_inverse=True)
    return found, known
