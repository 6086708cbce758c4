"""Files and folders that appear whole: readers see the old content or the new, never half of it, and can tell whether it was written so.

Several processes may write the same target at once: temporary names are each process's own, and the last whole one stays. What is renamed
into its place is on the disk by then, so that a power cut takes no finished work. What can't be written is one line (ood.refusals).
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ood.refusals import must_take, writing

if TYPE_CHECKING:
    import numpy as np

SUMS = "sums.json"  # in a sealed folder: path of every other file in it -> sha256


def scratch_root() -> Path:
    """Where unfinished work lives, and what may be used again; in a DVC experiment's temporary copy still the main repository's folder."""
    return Path(os.environ.get("OOD_SCRATCH") or Path(os.environ.get("DVC_ROOT", ".")) / ".scratch")


def _sync(path: Path) -> None:
    """A file's content, or the names in a folder, are on the disk when this returns."""
    stream = os.open(path, os.O_RDONLY)
    try:
        os.fsync(stream)
    finally:
        os.close(stream)


def _to_disk(path: Path) -> None:
    """A file, or a folder with all that is in it, is on the disk when this returns."""
    for file in [*path.rglob("*"), path] if path.is_dir() else [path]:
        _sync(file)


def atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place: readers see the old file or the new, never half.

    Raises:
        InputError: it can't be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(temporary)
            _sync(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync(path.parent)


def write_rows(path: Path, rows: Iterable["np.ndarray"], shape: tuple[int, ...], dtype: "np.dtype | type") -> None:
    """A NumPy file of `shape`, written piece by piece: what needn't be in memory at once. (In a memory map a full disk is a crash.)"""
    import numpy as np

    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(
            stream, {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
        )
        for row in rows:
            stream.write(np.ascontiguousarray(row, dtype).data)


def write_text(path: Path, text: str) -> None:
    """Write a small text file atomically."""
    atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_sealed(path: Path, content: bytes) -> None:
    """Write a file of unfinished work, atomically, so that `read_sealed` can tell whether it is whole."""
    digest = hashlib.sha256(content).hexdigest().encode()
    atomically(path, lambda temporary: temporary.write_bytes(digest + b"\n" + content))


def read_sealed(path: Path) -> bytes | None:
    """What `write_sealed` wrote; None where that isn't there any more: the file is damaged, cut off, another's, or gone."""
    try:
        digest, _, content = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    return content if hashlib.sha256(content).hexdigest().encode() == digest else None


def set_aside(path: Path) -> Path:
    """Rename a file that can't be used, so that it is in nobody's way and still there to be looked at; returns its new name.

    Of several processes that find the same, each may.
    """
    aside = path.with_name(f"{path.name}.damaged")
    with suppress(FileNotFoundError):
        os.replace(path, aside)
    return aside


def sha256(path: Path) -> str:
    """A hash of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def seal(folder: Path) -> None:
    """Write down the hash of every file in a folder and below it (see ood.handover, which compares)."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / SUMS)
    sums = {path.relative_to(folder).as_posix(): sha256(path) for path in files}
    write_text(folder / SUMS, json.dumps(sums, indent=0) + "\n")


@contextmanager
def published(*files: Path, folder: Path | None = None, sealed: bool = True) -> Iterator[tuple[Path, ...]]:
    """Within: an empty folder, where one is wanted, and names to write files under; then all take their places together.

    The folder is sealed first. On an error everything stays as it was.

    Raises:
        InputError: something can't be written; where a folder takes no files, before anything is done.
    """
    targets = (*([folder] if folder else []), *files)
    must_take(targets)
    with writing(targets[0]):
        fresh = [_beside(target, "new") for target in targets]
        if folder:
            fresh[0].mkdir()
        try:
            yield tuple(fresh)
            if folder and sealed:
                seal(fresh[0])
            for path in fresh:
                _to_disk(path)
            for path, target in zip(fresh, targets, strict=True):
                _swap(path, target)
        finally:
            for path in fresh:
                remove(path)


@contextmanager
def in_place_of(target: Path, *, sealed: bool = True) -> Iterator[Path]:
    """As `published`, of a folder alone."""
    with published(folder=target, sealed=sealed) as (fresh,):
        yield fresh


def replace_with(source: Path, target: Path) -> None:
    """Put a file, or a folder (sealed then), in the place of `target`, which is never half there. `source` stays.

    Raises:
        InputError: it can't be written.
    """
    must_take([target])
    with writing(target):
        fresh = _beside(target, "new")
        try:
            if source.is_dir():
                copy_folder(source, fresh)
                seal(fresh)
            else:
                link_or_copy(source, fresh)
            _to_disk(fresh)
            _swap(fresh, target)
        finally:
            remove(fresh)


def _beside(target: Path, ending: str) -> Path:
    """A name beside `target` that is this process's own and free; what processes that are no more left under such names is removed."""
    if target.parent.is_dir():
        for left in target.parent.glob(f".{_literal(target.name)}.*.{ending}"):
            pid = left.name.removesuffix(f".{ending}").rpartition(".")[2]
            if pid == str(os.getpid()) or not (pid.isdecimal() and _alive(int(pid))):
                remove(left)
    return target.with_name(f".{target.name}.{os.getpid()}.{ending}")


def _literal(name: str) -> str:
    """A name as a pattern that means just it."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _swap(fresh: Path, target: Path) -> None:
    """Two renames: at any moment there is either the whole old content, or nothing (for an instant), or the whole new one."""
    old = _beside(target, "old")
    while True:
        with suppress(FileNotFoundError):
            os.replace(target, old)
        try:
            os.replace(fresh, target)
            break
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR, errno.ENOTDIR):
                with suppress(OSError):
                    os.replace(old, target)
                raise
            remove(old)  # another process put its own there between the two
    _sync(target.parent)
    remove(old)


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """A hard link where the file system allows it, else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def copy_folder(source: Path, target: Path) -> None:
    """A folder with all that is in it; files are linked where that goes, for none is ever written to again.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    if not source.is_dir():
        raise FileNotFoundError(source)
    target.mkdir()
    for path in sorted(source.rglob("*")):
        if path.is_dir():
            (target / path.relative_to(source)).mkdir()
        else:
            link_or_copy(path, target / path.relative_to(source))


def empty(folder: Path) -> None:
    """An empty folder in the place of whatever is there."""
    with in_place_of(folder):
        pass


def remove(path: Path) -> None:
    """Delete a file or folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
