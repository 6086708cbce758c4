"""Labels that look wrong: confident learning (Northcutt, Jiang and Chuang 2021, through cleanlab) on what unconcerned heads say.

Heads are logistic regressions on a given backbone's features, cross-validated, so an image is judged by others alone.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ood.look import folds

STEPS = 300  # of a head's training, at most
STRENGTH = 10.0  # scikit-learn's C on features of norm 1: chosen by accuracy on photographs, by no doubt about labels


@dataclass(frozen=True)
class Doubts:
    """What heads think of labels.

    probabilities: float64 (N, C), NaN where none could judge. doubtful: indices of images whose label looks wrong, the most doubtful first.
    """

    probabilities: NDArray
    doubtful: NDArray

    def believed(self, labels: NDArray) -> NDArray:
        """The probability of each image's own label, (N,)."""
        return self.probabilities[np.arange(len(labels)), labels]

    @property
    def seen_as(self) -> NDArray:
        """The class that heads give each image, int64 (N,); -1 where none could judge."""
        known = ~np.isnan(self.probabilities[:, 0])
        return np.where(known, np.nan_to_num(self.probabilities).argmax(1), -1)

    @staticmethod
    def guess(labels: NDArray) -> float:
        """The share that is right when all are called as the largest class."""
        return float(np.bincount(labels).max() / len(labels))

    def trusted(self, labels: NDArray) -> bool:
        """Whether heads know enough to doubt a label: they are nearer to always right than to guessing."""
        accuracy = self.accuracy(labels)
        return accuracy is not None and accuracy >= (1 + self.guess(labels)) / 2

    def accuracy(self, labels: NDArray) -> float | None:
        """The share of judged images that heads are right on; None: nothing could be judged."""
        known = self.seen_as >= 0
        return float((self.seen_as[known] == labels[known]).mean()) if known.any() else None


def doubts(features: NDArray, labels: NDArray, units: NDArray, classes: int, tick: Callable[[], None]) -> Doubts:
    """Judge every label.

    Args:
        features: float (N, D) of the images; units: equal for images that look the same.
    """
    from cleanlab.filter import find_label_issues
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    found = np.full((len(labels), classes), np.nan)
    usable = np.flatnonzero(folds.judged(labels, units))
    own, known = folds.relabelled(labels[usable])
    if len(known) < 2:
        return Doubts(found, np.empty(0, np.int64))
    scaled = features[usable] / np.maximum(np.linalg.norm(features[usable], axis=1, keepdims=True), 1e-12)
    probabilities = np.zeros((len(usable), len(known)))
    for fit, judge in folds.split(own, units[usable]):
        with warnings.catch_warnings():  # what has not settled by then judges well enough
            warnings.simplefilter("ignore", ConvergenceWarning)
            head = LogisticRegression(C=STRENGTH, max_iter=STEPS).fit(scaled[fit], own[fit])
        probabilities[np.ix_(judge, head.classes_)] = head.predict_proba(scaled[judge])
        tick()
    found[np.ix_(usable, known)] = probabilities
    found[np.ix_(usable, np.setdiff1d(np.arange(classes), known))] = 0.0
    wrong = find_label_issues(own, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1)
    return Doubts(found, usable[np.asarray(wrong, np.int64)])
