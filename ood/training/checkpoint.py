"""Exact resume: a scratch folder per stage and fingerprint, atomic files, a lock, and outputs that appear at once.

DVC deletes a stage's outputs before it runs the stage, so unfinished work lives elsewhere: below $OOD_SCRATCH, or .scratch in the
repository's root ($DVC_ROOT). The folder's name hashes everything that the result depends on, so work under other settings can
neither be picked up by mistake nor be lost.
"""

import fcntl
import hashlib
import io
import json
import os
import platform
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

import torch

from ood.closure import hashes
from ood.distributed import world_size
from ood.errors import InputError
from ood.files import read_sealed, remove, replace_with, scratch_root, set_aside, sha256, write_sealed
from ood.progress import Progress
from ood.refusals import must_take, refusal, writing

LOCK_PATIENCE = 60.0  # seconds that a new run waits for one that is about to stop


def fingerprint(entry: str, settings: Any, inputs: Iterable[Path], device: str, *, processes: bool = True) -> str:
    """A hash of all that a stage's result depends on: settings, input files, code, versions, device, processes.

    Args:
        entry: the stage's file, e.g. 'stages/um.py'; its import closure is hashed.
        settings: what json can write.
        inputs: files, or folders with all files in them.
        processes: whether their number matters to the result.
    """
    digest = hashlib.sha256()
    versions = [torch.__version__, platform.python_version(), device, world_size() if processes else None]
    digest.update(json.dumps([settings, versions], sort_keys=True, default=str).encode())
    digest.update(json.dumps(hashes(entry)).encode())
    for path in sorted(inputs):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                digest.update(file.as_posix().encode())
                digest.update(sha256(file).encode())
    return digest.hexdigest()[:20]


def unfinished(path: Path, progress: Progress) -> bytes | None:
    """What a stopped process left in a sealed file; None where there is nothing, or nothing that can be trusted.

    A damaged file is set aside, and a line says so: it must not be in the way of every later run.
    """
    if not path.is_file():
        return None
    content = read_sealed(path)
    if content is None:
        progress.note(f"{path} is damaged, or not whole; set aside as {set_aside(path).name}. Its work is done again.")
    return content


def state_from(path: Path, progress: Progress) -> dict[str, Any] | None:
    """The state in a checkpoint, on the CPU; None as `unfinished`."""
    content = unfinished(path, progress)
    return None if content is None else torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def state_to(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint, atomically and sealed."""
    stream = io.BytesIO()
    torch.save(state, stream)
    write_sealed(path, stream.getvalue())


class Scratch:
    """The scratch folder of one stage run, locked while open.

    with Scratch("pretrain-ce", fingerprint) as scratch: write below scratch.path, then scratch.publish({...}).

    Two locks: one on the scratch folder (the same work in two places), one on the workspace's outputs (two works in one place).
    Parallel experiments with other settings in other workspaces don't wait for each other.

    Args:
        name: stage and run.
        outputs: what will be published: a folder that takes no files is found out before the work, not after it.
        owner: False on all but the main process of several: they read along, and neither lock nor publish.
    """

    def __init__(self, name: str, fingerprint: str, outputs: Iterable[Path] = (), *, owner: bool = True, patience: float = LOCK_PATIENCE):
        self.name, self.outputs, self.owner, self.patience = name, list(outputs), owner, patience
        folder = scratch_root() / name
        self.path, self._trash = folder / fingerprint, folder / f"{fingerprint}.trash"
        self._locks = [folder / f"{fingerprint}.lock", Path(".scratch") / "outputs" / f"{name}.lock"]
        self._streams: list[TextIO] = []

    def __enter__(self) -> "Scratch":
        with writing(self.path):
            if self.owner:
                self._own()
            self.path.mkdir(parents=True, exist_ok=True)
        return self

    def _own(self) -> None:
        """Take the locks, and remove what a killed process left half written."""
        must_take([*self.outputs, self.path])
        try:
            for lock in self._locks:
                self._streams.append(self._acquire(lock))
        except BaseException:
            self.__exit__()
            raise
        shutil.rmtree(self._trash, ignore_errors=True)
        for leftover in self.path.rglob(".*.tmp"):
            leftover.unlink(missing_ok=True)

    def __exit__(self, _kind: type[BaseException] | None = None, error: BaseException | None = None, _trace: object = None) -> None:
        for stream in self._streams:
            stream.close()  # closing releases the lock, as does any death of this process
        self._streams.clear()
        if error is not None and (refused := refusal(error, self.path)):
            raise refused from error

    def _acquire(self, lock: Path) -> TextIO:
        lock.parent.mkdir(parents=True, exist_ok=True)
        stream = lock.open("a+", encoding="utf-8")
        deadline = time.monotonic() + self.patience
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() >= deadline:
                    stream.seek(0)
                    holder = stream.read().strip() or "unknown"
                    stream.close()
                    raise InputError(
                        f"{self.name} is already running as process {holder} and holds {lock}. Wait for it, or stop it "
                        f"(kill {holder}) and start again: it goes on where it was."
                    ) from None
                time.sleep(0.2)
        stream.truncate(0)
        stream.write(f"{os.getpid()}\n")
        stream.flush()
        return stream

    def fresh(self, name: str) -> Path:
        """An empty folder in the scratch folder, whatever an earlier process left there."""
        folder = self.path / name
        remove(folder)
        folder.mkdir()
        return folder

    def publish(self, outputs: dict[Path, Path]) -> None:
        """Put finished files or folders of the scratch folder in their places (source -> target), then drop the scratch folder.

        Sources stay until all targets stand, and go all at once (a rename), so a kill never leaves half of them to be trusted.
        """
        for source, target in outputs.items():
            replace_with(source, target)
        os.replace(self.path, self._trash)
        shutil.rmtree(self._trash, ignore_errors=True)
