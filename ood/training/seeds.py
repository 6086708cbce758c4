"""Seeds that are trained once: when the list of seeds changes, those that the last run of that name has trained are taken as they are.

DVC knows a run as a whole, and would train every seed again for one more. So what a run publishes is kept below the scratch folder as well,
as links to the same files, under a key of all that each seed depends on, until the next run of that name is done. It is never needed, and
may be removed at any time. The very same run again, seeds and all, trains: who asks for that wants to see it.
"""

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from ood.errors import InputError
from ood.files import SUMS, read_sealed, remove, scratch_root, write_text
from ood.handover import checked_folder
from ood.progress import Progress

FINISHED, MODEL = "finished.json", "model"  # of a seed: its history, written when its model is; the model
KEPT = "seeds"  # below the scratch folder: <run>/<mark of the whole run>/<key of a seed>
NEW = ".new"  # in the place of a run: not whole yet
MACHINE = "machine"  # of a seed: a hash of what it was trained on
PATIENCE = 30.0  # seconds that a run waits for another of its name to link its seeds


def check(folder: Path) -> None:
    """See that a finished seed's model is, file by file, what was written.

    Raises:
        InputError: it isn't, or a file is missing.
    """
    for name in (SUMS, "model.safetensors", "model.json"):
        if not (folder / MODEL / name).is_file():
            raise InputError(f"{folder / MODEL / name}: not there.")
    checked_folder(folder / MODEL, None)


def begins_on(machine: str, folder: Path) -> None:
    """Note that a seed is trained on this machine (see `trained_on`), from its first epoch or from here."""
    note = folder / MACHINE
    if not note.is_file():
        write_text(note, machine)
    elif note.read_text(encoding="utf-8") != machine:
        write_text(note, "several")


def trained_on(machine: str, folder: Path) -> bool:
    """Whether all of a seed was trained on this machine."""
    note = folder / MACHINE
    return note.is_file() and note.read_text(encoding="utf-8") == machine


def keep(run: str, mark: str, folders: Mapping[str, Path]) -> None:
    """Keep a run's finished seeds (key -> folder), in place of those of the run before.

    No result depends on it, so where that can't be done without copies, or another process holds them for long, nothing is kept.
    """
    place = scratch_root() / KEPT / run
    with suppress(OSError), _alone(place):
        fresh = place / NEW
        try:
            for key, folder in folders.items():
                _link(folder, fresh / key)
            for old in place.iterdir():  # one of which a kill leaves a part isn't whole, and its sums say so
                if old.name != NEW:
                    remove(old)
            fresh.rename(place / mark)
        finally:
            remove(fresh)


def take(run: str, mark: str, key: str, target: Path, progress: Progress) -> bool:
    """Put what another run has kept of a seed into `target`, unless something is there, or it isn't whole; returns whether it did."""
    place = scratch_root() / KEPT / run
    if target.exists() or not place.is_dir():
        return False
    damaged = None
    with suppress(OSError), _alone(place):
        for folder in sorted(place.glob(f"[!.]*/{key}")):
            if folder.parent.name == mark:
                continue
            if not _is_whole(folder):
                damaged = folder
                continue
            try:
                _link(folder, place / NEW)
                (place / NEW).rename(target)
                return True
            finally:
                remove(place / NEW)
    if damaged is not None:
        progress.note(f"{damaged}: kept, but not whole any more; that seed is trained again")
    return False


def _is_whole(folder: Path) -> bool:
    try:
        check(folder)
    except InputError:
        return False
    return read_sealed(folder / FINISHED) is not None


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Within: no other process is at work on what a run has kept; what a killed one has left half made is gone.

    Raises:
        OSError: another process is, for longer than PATIENCE; no lock can be had there.
    """
    place.mkdir(parents=True, exist_ok=True)
    with place.with_name(f"{place.name}.lock").open("a") as lock:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        remove(place / NEW)
        yield


def _link(source: Path, target: Path) -> None:
    """A seed's folder without what only its training needs; hard links, so that it costs nothing."""
    for path in [source / FINISHED, source / MACHINE, *(source / MODEL).rglob("*")]:
        if not path.is_dir():
            link = target / path.relative_to(source)
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, link)
