"""How long stages took: notes beside the unfinished work, for they differ from run to run and so are in no output."""

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ood.files import scratch_root, write_text


def folder() -> Path:
    """Where the notes lie, a file a stage."""
    return scratch_root() / "seconds"


def note(stage: str, seconds: float) -> None:
    """Write down how long a stage's process took. What can't be written, isn't: no stage fails of it."""
    with suppress(Exception):
        write_text(folder() / f"{stage}.json", json.dumps({"seconds": round(seconds, 1)}) + "\n")


def noted(stages: Iterable[str]) -> dict[str, float]:
    """Seconds of the last run of each of these that has a note. (Of one that was killed and went on: of its last part.)"""
    found = {}
    for stage in stages:
        with suppress(OSError, ValueError, KeyError, TypeError):
            found[stage] = float(json.loads((folder() / f"{stage}.json").read_text(encoding="utf-8"))["seconds"])
    return found
