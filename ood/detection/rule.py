"""When an image is flagged: a threshold on its score, set on calibration scores, under a named guarantee (ood.detection.guarantee)."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ood.config.detector import Detector
from ood.detection import guarantee
from ood.detection.guarantee import Guarantee
from ood.errors import InputError


@dataclass(frozen=True)
class Rule:
    """Flags images whose score lies above a threshold; larger scores are stranger.

    calibration: scores of ID images that nothing else was chosen on, (n,). predicted: which class each was taken for, (n,). classes: their
    names. reject: the share of ID that may be flagged. promise, confidence: what is promised of it. per_class: of every predicted class
    by itself.
    """

    calibration: NDArray[np.float64]
    predicted: NDArray[np.int64]
    classes: list[str]
    reject: float
    promise: Guarantee
    confidence: float
    per_class: bool = False

    @classmethod
    def of(cls, setting: Detector, calibration: NDArray, predicted: NDArray, classes: list[str]) -> "Rule":
        """By the section `detector`.

        Raises:
            InputError: too few calibration images for what is to be promised.
        """
        rule = cls(calibration, predicted, classes, setting.reject, setting.guarantee, setting.confidence, setting.per_class)
        rule.must_hold()
        return rule

    def under(self, **changes: object) -> "Rule":
        """The same images under another rate or promise."""
        return replace(self, **changes)  # type: ignore[arg-type]  # checked by who reads them in

    def must_hold(self) -> None:
        """Raises InputError: a promise that so few images can't keep, with how many it takes."""
        short = [(name, len(part)) for name, part in zip(self.named, self.parts, strict=True) if not self._rank(len(part))]
        if not short:
            return
        needed = guarantee.fewest(self.promise, self.reject, self.confidence)
        if not self.per_class:
            raise InputError(f"{too_few(self.reject, self.promise, self.confidence, short[0][1])} {remedies(needed)}")
        listed = ", ".join(f"{name} ({count})" for name, count in short[:5]) + (f" and {len(short) - 5} more" if len(short) > 5 else "")
        raise InputError(
            f"detector.per_class: a {self.promise} rate of {self.reject:g} takes {needed} calibration images that are taken for a class, "
            f"and too few are for {listed}. {remedies(needed * len(self.classes))}"
        )

    @property
    def said(self) -> str:
        """The promise, its name and what it means, in a few words."""
        return "marginal: on average" if self.promise == "marginal" else f"{self.promise}: with confidence {self.confidence:g}"

    @property
    def named(self) -> list[str]:
        """What each of `parts` is called."""
        return self.classes if self.per_class else ["all"]

    @cached_property
    def parts(self) -> list[NDArray[np.float64]]:
        """The calibration scores that a threshold rests on: all of them, or those of each predicted class."""
        return [self.calibration[self.predicted == label] for label in range(len(self.classes))] if self.per_class else [self.calibration]

    @cached_property
    def thresholds(self) -> NDArray[np.float64]:
        """One for all, or one for each class; infinite where none can be promised."""
        return np.array([guarantee.threshold(part, self._rank(len(part))) for part in self.parts])

    @property
    def ranks(self) -> list[int]:
        """How many calibration images lie above each threshold or equal it, where no scores are equal."""
        return [self._rank(len(part)) for part in self.parts]

    def flags(self, scores: NDArray, predicted: NDArray) -> NDArray[np.bool_]:
        """Which images are flagged, (N,).

        Args:
            scores, predicted: of each image, (N,).
        """
        return scores > (self.thresholds[predicted] if self.per_class else self.thresholds[0])

    def p_values(self, scores: NDArray, predicted: NDArray) -> NDArray[np.float64]:
        """Each image's conformal p-value, (N,): among the calibration images, or among those of its predicted class."""
        if not self.per_class:
            return guarantee.p_values(self.calibration, scores)
        found = np.ones(len(scores))
        for label, part in enumerate(self.parts):
            own = predicted == label
            found[own] = guarantee.p_values(part, scores[own])
        return found

    def _rank(self, count: int) -> int:
        return guarantee.rank(self.promise, count, self.reject, self.confidence)


def check(setting: Detector, count: int | None) -> None:
    """Whether so many calibration images can promise what the section `detector` asks for; None: how many there are isn't known yet.

    Raises:
        InputError: they can't; it says how many it takes.
    """
    if setting.model is None or count is None:
        return
    if not guarantee.rank(setting.guarantee, count, setting.reject, setting.confidence):
        needed = guarantee.fewest(setting.guarantee, setting.reject, setting.confidence)
        raise InputError(f"params.yaml: {too_few(setting.reject, setting.guarantee, setting.confidence, count)} {remedies(needed)}")


def too_few(reject: float, promise: Guarantee, confidence: float, count: int) -> str:
    """What is missing, in a sentence."""
    sure = "" if promise == "marginal" else f" with confidence {confidence:g}"
    needed = guarantee.fewest(promise, reject, confidence)
    return f"detector.reject: {reject:g}, {promise}{sure}, takes {needed} calibration images; there are {count}."


def remedies(needed: int) -> str:
    """What can be done about too few."""
    return (
        f"Give data.id.split.calibration a larger share (of {needed} images), raise detector.reject, or take another detector.guarantee: "
        "marginal takes the fewest."
    )
