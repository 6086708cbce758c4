"""Verdicts of a batch or a stream taken together: false alarms among alarms, and whether there are more alarms than there should be."""

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from ood.deploy.detector import Detector
from ood.deploy.verdicts import Verdict
from ood.detection import drift, guarantee
from ood.detection.drift import Watch
from ood.errors import InputError
from ood.files import write_text
from ood.handover import read_json


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
    count = sum(verdict.p_value is not None for verdict in verdicts)
    least = 1 / (images + 1)
    needed = int(np.ceil(least * count / rate - guarantee.SLACK))
    alarms = sum(bool(verdict.is_ood) for verdict in verdicts)
    line = f"flagged as a batch: of these {alarms} at most {rate:.0%} are known, on average (Benjamini-Hochberg on p-values)"
    if needed > 1:
        line += f"; p is at least {least:.2g} with {images} calibration images, so {needed} of {count} must be that strange for any alarm"
    return line


def begin(path: Path, detector: Detector) -> Watch:
    """The watch in a state file, or a new one.

    Raises:
        InputError: the state of another detector, or none.
    """
    alpha = drift.allowed(detector.rule)
    if not path.exists():
        return Watch(alpha, 1 - detector.rule.confidence)
    state = read_json(path, "predict", dict)
    if state.pop("detector", None) != detector.bundle.sha256:
        raise InputError(f"{path}: watches another detector. Give another file, or remove this one to begin anew.")
    try:
        watch = Watch(**state)
        fits = abs(watch.alpha - alpha) < guarantee.SLACK and np.array(watch.logs, float).shape == (len(watch.starts), len(watch.rates))
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise InputError(f"{path}: isn't this detector's at this rate and promise. Give another file, or remove this one to begin anew.")
    return watch


def watched(verdicts: Iterator[Verdict], watch: Watch) -> Iterator[Verdict]:
    """The same verdicts, each counted as it goes by."""
    for verdict in verdicts:
        if verdict.is_ood is not None:
            watch.update(np.array([verdict.is_ood]))
        yield verdict


def keep(path: Path, watch: Watch, detector: Detector) -> None:
    """Write the state, to go on from."""
    write_text(path, json.dumps({"detector": detector.bundle.sha256, **asdict(watch)}) + "\n")
