"""What keeps a file from being written - a full disk, a quota, a folder of somebody else's - as one line with the path and the remedy."""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ood.errors import InputError

REMEDIES = {
    errno.ENOSPC: "Make room on the disk",
    errno.EDQUOT: "Make room, or have the quota raised",
    errno.EFBIG: "Allow larger files (ulimit -f)",
    errno.EROFS: "Have the disk mounted for writing",
    errno.EACCES: "Make the folder writable",
    errno.EPERM: "Make the folder writable",
    errno.EIO: "Have a look at the disk",
    errno.ENOTDIR: "Remove the file that is where a folder must be",
    errno.EEXIST: "Remove the file that is where a folder must be",
    errno.EISDIR: "Remove the folder that is where a file must be",
    errno.ENAMETOOLONG: "Choose a shorter name",
}
# What libraries say when the disk took less than they gave: NumPy, torch, safetensors.
TAKEN_SHORT = ("requested and", "unexpected pos", "PytorchStreamWriter", "I/O error", "Error while serializing")


class RefusedError(InputError):
    """A file or folder can't be written."""

    def __init__(self, target: Path, reason: str, remedy: str):
        stays = "What was there, and all that is done so far, stays"
        super().__init__(f"{target}: can't be written ({reason}). {stays}. {remedy}; then the same command goes on.")
        self.target, self.reason, self.remedy = target, reason, remedy


def refusal(error: BaseException, target: Path) -> "RefusedError | None":
    """The line for what kept `target` from being written; None of an error that says something else."""
    if isinstance(error, RefusedError) and f".{os.getpid()}.new" in str(error.target):
        reason, remedy = error.reason, error.remedy  # of a part of it
    elif isinstance(error, InputError):
        return None
    elif isinstance(error, OSError) and error.errno in REMEDIES:
        if error.filename is not None and not _on_the_way(Path(os.fsdecode(error.filename)).absolute(), target.absolute()):
            return None  # something else couldn't be read
        reason, remedy = str(error.strerror), REMEDIES[error.errno]
    elif any(words in str(error) for words in TAKEN_SHORT):
        reason, remedy = "the disk didn't take all of it", REMEDIES[errno.ENOSPC]
    else:
        return None
    return RefusedError(target, reason, remedy)


def plainly(error: Exception) -> InputError | None:
    """What the machine refused, in a line; None of an error that a person can't mend."""
    if isinstance(error, InputError):
        return error
    if isinstance(error, OSError):
        return refusal(error, Path(os.fsdecode(error.filename)) if error.filename else Path.cwd())
    if isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error):
        said = str(error).strip().split("\n")[0] or "no more is free"
        return InputError(f"not enough memory ({said}). Lower batch_size where this stage has one, or take a machine with more.")
    return None


def _on_the_way(path: Path, target: Path) -> bool:
    """Whether `path` is where the target will be, beside it, or above it."""
    return path.is_relative_to(target.parent) or target.is_relative_to(path)


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Within, `target` is written: what keeps it from that becomes an InputError."""
    try:
        yield
    except Exception as error:
        refused = refusal(error, target)
        if refused is None:
            raise
        raise refused from error


def must_take(targets: Iterable[Path]) -> None:
    """Make the folders that files or folders will be written in.

    Raises:
        InputError: one can't be made, or takes no files.
    """
    for target in targets:
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            if not os.access(target.parent, os.W_OK | os.X_OK):
                number = errno.EROFS if os.statvfs(target.parent).f_flag & os.ST_RDONLY else errno.EACCES
                raise OSError(number, os.strerror(number), str(target.parent))
