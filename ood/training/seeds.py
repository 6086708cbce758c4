"""Seeds that are trained once: when the list of seeds changes, those that were in the last run of that name are taken as they are.

DVC knows a run as a whole, and would train every seed again for one more. So what a run has published is linked below the scratch folder,
under a mark of all that each seed depends on, and stays until the next run of that name is done. It is never needed, and may be removed at
any time. The very same run again, seeds and all, trains: who asks for that wants to see it.
"""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from ood.files import copy_folder, link_or_copy, remove, scratch_root

KEPT = "seeds"  # below the scratch folder: <run>/<mark of the whole run>/<mark of a seed>; what begins with a dot isn't whole


def keep(name: str, whole: str, folders: Mapping[str, Path], parts: Iterable[str]) -> None:
    """Keep these parts of a run's finished seeds (mark -> folder), in place of those of the run before.

    No result depends on it, so where nothing can be written, nothing is kept.
    """
    place = scratch_root() / KEPT / name
    fresh = _own(place, whole)
    with suppress(OSError):
        fresh.mkdir(parents=True)
        for mark, folder in folders.items():
            _link(folder, fresh / mark, parts)
        remove(place / whole)
        fresh.rename(place / whole)
        for other in place.iterdir():
            if other.name != whole:
                remove(other)
    with suppress(OSError):
        remove(fresh)


def take(name: str, whole: str, mark: str, target: Path) -> bool:
    """Put what another run has kept of this seed into `target`, unless something is there; returns whether it did."""
    place = scratch_root() / KEPT / name
    for folder in () if target.exists() else place.glob(f"[!.]*/{mark}"):
        if folder.parent.name == whole:
            continue
        fresh = _own(place, mark)
        with suppress(OSError):  # another process removes it at this moment, or the disk is full: it is trained
            _link(folder, fresh, [path.name for path in folder.iterdir()])
            fresh.rename(target)
            return True
        with suppress(OSError):
            remove(fresh)
    return False


def _own(place: Path, name: str) -> Path:
    """A name that is this process's own, and free."""
    path = place / f".{name}.{os.getpid()}"
    with suppress(OSError):
        remove(path)
    return path


def _link(source: Path, target: Path, parts: Iterable[str]) -> None:
    target.mkdir()
    for part in parts:
        (copy_folder if (source / part).is_dir() else link_or_copy)(source / part, target / part)
