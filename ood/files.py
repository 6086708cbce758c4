"""Files and folders that appear whole: readers see the old content or the new, never half of it, and can tell whether it was written so.

Several processes may write the same target at once: temporary names are each process's own, and the last whole one stays.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SUMS = "sums.json"  # in a sealed folder: path of every other file in it -> sha256


def atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place: readers see the old file or the new, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
def in_place_of(target: Path, *, sealed: bool = True) -> Iterator[Path]:
    """Within: an empty folder beside `target` to fill; then, sealed, it takes target's place. On an error target stays as it was."""
    fresh = _beside(target, "new")
    fresh.mkdir(parents=True)
    try:
        yield fresh
        if sealed:
            seal(fresh)
        _swap(fresh, target)
    finally:
        remove(fresh)


def replace_with(source: Path, target: Path) -> None:
    """Put a file, or a folder (sealed then), in the place of `target`, which is never half there. `source` stays."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = _beside(target, "new")
    try:
        if source.is_dir():
            shutil.copytree(source, fresh, copy_function=link_or_copy)
            seal(fresh)
        else:
            link_or_copy(source, fresh)
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
        except OSError as error:  # another process put its own there between the two
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR, errno.ENOTDIR):
                raise
            remove(old)
    remove(old)


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """A hard link where the file system allows it, else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


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
