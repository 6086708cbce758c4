"""What a detector says of a picture."""

from dataclasses import dataclass


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
