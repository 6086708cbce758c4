"""Verdicts of a batch or a stream taken together: false alarms among alarms, and whether there are more alarms than there should be."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from ood.deploy.detector import Detector
from ood.deploy.verdicts import Verdict
from ood.detection import drift, guarantee
from ood.detection.drift import Watch
from ood.errors import InputError
from ood.files import write_text
from ood.refusals import must_take

EVERY = 200  # pictures after which a watch is written down


def together(verdicts: list[Verdict], rate: float) -> list[Verdict]:
    """The same, flagged as a batch: of the flagged at most the share `rate` is known, on average (see guarantee.discoveries)."""
    read = [place for place, verdict in enumerate(verdicts) if verdict.p_value is not None]
    flags = guarantee.discoveries(np.array([verdicts[place].p_value for place in read], float), rate)
    flagged = dict(zip(read, flags.tolist(), strict=True))
    return [replace(verdict, is_ood=flagged[place]) if place in flagged else verdict for place, verdict in enumerate(verdicts)]


def told_of(verdicts: list[Verdict], rate: float, images: int) -> str:
    """What was done to the batch, and how strange it must be for anything to be flagged.

    Args:
        images: calibration images, of which the smallest p-value is made.
    """
    count, alarms = sum(verdict.p_value is not None for verdict in verdicts), sum(bool(verdict.is_ood) for verdict in verdicts)
    least = 1 / (images + 1)
    needed = int(np.ceil(least * count / rate - guarantee.SLACK))
    line = f"flagged as a batch: of these {alarms} at most the share {rate:g} is known, on average (Benjamini-Hochberg on p-values)"
    if needed > 1:
        must = f"{needed} of {count} must be that strange for any alarm" if needed <= count else f"none of {count} can be flagged"
        line += f"; p is at least {least:.2g} with {images} calibration images, so {must}"
    return line


class _State(TypedDict):
    """A watch in its file. detector: the hash of what it watches."""

    detector: str
    alpha: Annotated[float, Field(gt=0, lt=1)]
    delta: Annotated[float, Field(gt=0, lt=1)]
    seen: Annotated[int, Field(ge=0)]
    alarms: Annotated[int, Field(ge=0)]
    starts: list[Annotated[int, Field(ge=1)]]
    logs: list[list[Annotated[float, Field(allow_inf_nan=False)]]]
    since: int | None
    at: int | None


@dataclass
class Watched:
    """A watch over a detector's verdicts, in a file that it goes on from."""

    path: Path
    detector: Detector
    watch: Watch

    @classmethod
    def begin(cls, path: Path, detector: Detector) -> "Watched":
        """That of the file, or a new one.

        Raises:
            InputError: a file that can't be written; the state of another detector, rate or promise, or none.
        """
        must_take([path])
        alpha, delta = drift.allowed(detector.rule), 1 - detector.rule.confidence
        if not path.exists():
            return cls(path, detector, Watch(alpha, delta))
        anew = "Give another file, or remove this one to begin anew."
        try:
            state = TypeAdapter(_State).validate_json(path.read_bytes(), strict=True)
            starts, logs = np.array(state["starts"], np.int64), np.array(state["logs"], np.float64)
            watch = Watch(alpha, delta, state["seen"], state["alarms"], starts, logs, state["since"], state["at"])
            if (watch.since is None) != (watch.at is None) or watch.alarms > watch.seen:
                raise ValueError("its numbers contradict each other")
        except (OSError, ValueError) as error:  # pydantic's, too
            raise InputError(f"{path}: is no state of a watch ({' '.join(str(error).split())[:150]}). {anew}") from None
        if state["detector"] != detector.bundle.sha256:
            raise InputError(f"{path}: watches another detector. {anew}")
        if abs(state["alpha"] - alpha) > guarantee.SLACK or abs(state["delta"] - delta) > guarantee.SLACK:
            raise InputError(f"{path}: watches this detector at another rate or promise. {anew}")
        return cls(path, detector, watch)

    def over(self, verdicts: Iterator[Verdict], say: Callable[[str], object]) -> Iterator[Verdict]:
        """The same verdicts, each counted as it goes by; a change is said when it is noticed, and what was seen is kept, come what may.

        Images are counted by the rate for each; whether a batch is flagged together (`together`) doesn't matter to it.
        """
        try:
            for number, verdict in enumerate(verdicts, start=1):
                if verdict.p_value is not None:
                    before = self.watch.since
                    self.watch.update(bool(verdict.is_ood))
                    if before is None and self.watch.since is not None:
                        say(self.watch.told())
                if number % EVERY == 0:
                    self.keep()
                yield verdict
        finally:
            self.keep()

    def keep(self) -> None:
        """Write the state, to go on from."""
        watch = self.watch
        numbers = {name: getattr(watch, name) for name in ("alpha", "delta", "seen", "alarms", "since", "at")}
        arrays = {"starts": watch.starts.tolist(), "logs": watch.logs.tolist()}
        write_text(self.path, json.dumps({"detector": self.detector.bundle.sha256, **numbers, **arrays}) + "\n")
