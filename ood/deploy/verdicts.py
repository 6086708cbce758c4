"""What a detector says of a picture."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Verdict:
    """Of one picture. Where it couldn't be read, `error` says why and the others are None.

    name: its file, or how many-eth it was. label: the likeliest class, and probability: how likely, at the fitted temperature, of the known
    classes. runner_up: the next one. score: larger is stranger; p_value: the share of calibration images at least as strange, (1 + k) /
    (n + 1). is_ood: the score lies above the detector's threshold, so that the label isn't to be believed.
    """

    name: str
    label: str | None = None
    probability: float | None = None
    runner_up: str | None = None
    runner_up_probability: float | None = None
    score: float | None = None
    p_value: float | None = None
    is_ood: bool | None = None
    error: str | None = None


def verdicts_of(
    names: Iterable[str], classes: list[str], probabilities: NDArray, scores: NDArray, p_values: NDArray, flags: NDArray
) -> list[Verdict]:
    """Verdicts from columns: probabilities (n, C), the others (n,)."""
    label, rows = probabilities.argmax(1), np.arange(len(scores))
    second = np.argsort(-probabilities, axis=1, kind="stable")[:, 1]
    finite = np.isfinite(scores) & np.isfinite(probabilities).all(1)
    columns = (finite, label, probabilities[rows, label], second, probabilities[rows, second], scores, p_values, flags)
    return [
        Verdict(name, classes[first], probability, classes[runner_up], next_probability, score, p_value, is_ood)
        if sound
        else Verdict(name, error="the networks find no number for it.")
        for name, sound, first, probability, runner_up, next_probability, score, p_value, is_ood in zip(
            names, *(column.tolist() for column in columns), strict=True
        )
    ]
