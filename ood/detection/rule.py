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
            InputError: too few calibration images for what is to be promised; scores that are no numbers.
        """
        if not np.isfinite(calibration).all():
            wrong = int((~np.isfinite(calibration)).sum())
            raise InputError(f"{wrong} of {len(calibration)} calibration images have no finite score. Look at how the model was trained.")
        rule = cls(calibration, predicted, classes, setting.reject, setting.guarantee, setting.confidence, setting.per_class)
        rule.must_hold(REMEDIES)
        return rule

    def under(self, **changes: object) -> "Rule":
        """The same images under another rate or promise."""
        return replace(self, **changes)  # type: ignore[arg-type]  # checked by who reads them in

    def must_hold(self, remedies: str) -> None:
        """Raises InputError: a promise that so few images can't keep, with how many it takes and what can be done."""
        short = [(name, len(part)) for name, part in zip(self.named, self.parts, strict=True) if not self._rank(len(part))]
        if not short:
            return
        needed = guarantee.fewest(self.promise, self.reject, self.confidence)
        if not self.per_class:
            raise InputError(f"{too_few(self.reject, self.promise, self.confidence, short[0][1])} {remedies}")
        listed = ", ".join(f"{name} ({count})" for name, count in short[:5]) + (f" and {len(short) - 5} more" if len(short) > 5 else "")
        raise InputError(
            f"detector.per_class: a {self.promise} rate of {self.reject:g} takes {needed} calibration images that are taken for a class, "
            f"and too few are for {listed}. {remedies}"
        )

    @property
    def said(self) -> str:
        """The promise, its name and what it means, in a few words."""
        sure = "marginal: on average" if self.promise == "marginal" else f"{self.promise}: with confidence {self.confidence:g}"
        return f"{sure}, of what is taken for each class by itself" if self.per_class else sure

    @property
    def named(self) -> list[str]:
        """What each of `parts` is called."""
        return self.classes if self.per_class else ["all"]

    @cached_property
    def parts(self) -> list[NDArray[np.float64]]:
        """The calibration scores that a threshold rests on, sorted: all of them, or those of each predicted class."""
        chosen = [self.predicted == label for label in range(len(self.classes))] if self.per_class else [slice(None)]
        return [np.sort(self.calibration[which]) for which in chosen]

    @cached_property
    def thresholds(self) -> NDArray[np.float64]:
        """One for all, or one for each class; infinite where none can be promised."""
        return np.array([guarantee.threshold(part, self._rank(len(part))) for part in self.parts])

    @property
    def all_thresholds(self) -> dict[str, list[float]]:
        """Guarantee -> its thresholds at this rate, of those that can be given."""
        found = {kind: self.under(promise=kind) for kind in guarantee.KINDS}
        return {kind: one.thresholds.tolist() for kind, one in found.items() if all(one.ranks)}

    @property
    def images(self) -> int:
        """How many calibration images a threshold rests on; of several, the fewest."""
        return min(len(part) for part in self.parts)

    @property
    def ranks(self) -> list[int]:
        """How many calibration images lie above each threshold or equal it, where no scores are equal."""
        return [self._rank(len(part)) for part in self.parts]

    def flags(self, scores: NDArray, predicted: NDArray) -> NDArray[np.bool_]:
        """Which images are flagged, (N,).

        Args:
            scores, predicted: of each image, (N,).
        """
        return ~(scores <= (self.thresholds[predicted] if self.per_class else self.thresholds[0]))  # so what is no number is flagged

    def p_values(self, scores: NDArray, predicted: NDArray) -> NDArray[np.float64]:
        """Each image's conformal p-value, (N,): among the calibration images, or among those of its predicted class."""
        if not self.per_class:
            return guarantee.p_values(self.parts[0], scores)
        found = np.ones(len(scores))
        for label, part in enumerate(self.parts):
            own = predicted == label
            found[own] = guarantee.p_values(part, scores[own])
        return found

    def _rank(self, count: int) -> int:
        return guarantee.rank(self.promise, count, self.reject, self.confidence)


REMEDIES = (
    "Keep more for calibration (data.id.split.calibration, or data.id.calibration), raise detector.reject, or take another "
    "detector.guarantee: marginal takes the fewest."
)


def check(setting: Detector, count: int | None, classes: int) -> None:
    """Whether so many calibration images can promise what the section `detector` asks for; None: how many there are isn't known yet.

    Of a threshold for each class only what can be known before: even if as many images were taken for each.

    Raises:
        InputError: they can't; it says how many it takes.
    """
    if setting.model is None or count is None:
        return
    each = count // classes if setting.per_class else count
    if not guarantee.rank(setting.guarantee, each, setting.reject, setting.confidence):
        which = f"detector.per_class, {classes} classes: " if setting.per_class else ""
        raise InputError(f"params.yaml: {which}{too_few(setting.reject, setting.guarantee, setting.confidence, each)} {REMEDIES}")


def too_few(reject: float, promise: Guarantee, confidence: float, count: int) -> str:
    """What is missing, in a sentence."""
    sure = "" if promise == "marginal" else f" with confidence {confidence:g}"
    needed = guarantee.fewest(promise, reject, confidence)
    return f"detector.reject: {reject:g}, {promise}{sure}, takes {needed} calibration images; there are {count}."
