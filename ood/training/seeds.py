"""Seeds that are trained once: when the list of seeds changes, those that the last run of that name has trained are taken as they are.

DVC knows a run as a whole, and would train every seed again for one more. So what a run publishes is kept below the scratch folder as well,
as links to the same files, under a key of all that each seed depends on, until the next run of that name is done. It is never needed, and
may be removed at any time. The very same run again, seeds and all, trains: who asks for that wants to see it.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from ood.errors import InputError
from ood.files import SUMS, read_sealed, remove, scratch_root
from ood.handover import checked_folder
from ood.progress import Progress

FINISHED, MODEL = "finished.json", "model"  # of a seed: its history, written when its model is; the model
KEPT = "seeds"  # below the scratch folder: <run>/<mark of the whole run>/<key of a seed>
NEW = ".new"  # in the place of a run: not whole yet


def check(folder: Path) -> None:
    """See that a finished seed's model is, file by file, what was written.

    Raises:
        InputError: it isn't, or a file is missing.
    """
    if not (folder / MODEL / SUMS).is_file():
        raise InputError(f"{folder / MODEL}: not whole.")
    checked_folder(folder / MODEL, None)


def keep(run: str, mark: str, folders: Mapping[str, Path]) -> None:
    """Keep a run's finished seeds (key -> folder), in place of those of the run before.

    No result depends on it, so where that can't be done without copies, nothing is kept.
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
    with suppress(OSError), _alone(place):
        for folder in sorted(place.glob(f"[!.]*/{key}")):
            if folder.parent.name == mark:
                continue
            try:
                if read_sealed(folder / FINISHED) is None:
                    raise InputError(f"{folder / FINISHED}: damaged, or not there.")
                check(folder)
            except InputError as error:
                progress.note(f"{error} That seed is trained again.")
                continue
            try:
                _link(folder, place / NEW)
                (place / NEW).rename(target)
                return True
            finally:
                remove(place / NEW)
    return False


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Within: no other process is at work on what a run has kept; what a killed one has left half made is gone."""
    place.mkdir(parents=True, exist_ok=True)
    with place.with_name(f"{place.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        remove(place / NEW)
        yield


def _link(source: Path, target: Path) -> None:
    """A seed's folder without what only its training needs; hard links, so that it costs nothing."""
    for path in [source / FINISHED, *(source / MODEL).rglob("*")]:
        if not path.is_dir():
            link = target / path.relative_to(source)
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, link)
