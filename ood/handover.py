"""What one stage hands to the next: every file is read through here, and is what was written, or an error that names it and its stage.

Folders that stages write are sealed (ood.files.seal). A file whose hash differs from the one written down was damaged on the disk, or
changed by hand; a folder without hashes is somebody's own and taken as it is.
"""

import csv
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from ood.errors import InputError
from ood.files import SUMS, sha256

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


def checked(path: Path, stage: str | None) -> Path:
    """The path of a file that is there and is what was written.

    Args:
        stage: that writes it, as it is typed ('mask um'); None: the training that a model's name says.

    Raises:
        InputError: it isn't.
    """
    if not path.is_file():
        raise InputError(f"{path}: not there. {_run(stage)} first (or `dvc repro`).")
    for folder in path.parents[:4]:
        if (folder / SUMS).is_file():
            name = path.relative_to(folder).as_posix()
            if _sums(folder, stage).get(name) != sha256(path):
                raise InputError(f"{path}: is not what was written there: damaged, or changed by hand. {_again(stage)}")
            break
    return path


def checked_folder(folder: Path, stage: str | None) -> Path:
    """A folder of which every file is what was written.

    Raises:
        InputError: one isn't, or is missing.
    """
    if (folder / SUMS).is_file():
        for name in _sums(folder, stage):
            checked(folder / name, stage)
    return folder


T = TypeVar("T")
Figures = dict[str, float | dict[str, float] | None]


def listed(folder: Path, stage: str | None) -> list[Path]:
    """The files that were written in a folder and below it, sorted; of somebody's own, which isn't sealed, those that are there.

    Raises:
        InputError: one of them is missing.
    """
    top = next((above for above in (folder, *folder.parents[:3]) if (above / SUMS).is_file()), None)
    found = folder.rglob("*") if top is None else (top / name for name in _sums(top, stage))
    files = [path for path in found if path.is_relative_to(folder) and not path.is_dir()]
    for path in files:
        if not path.is_file():
            raise InputError(f"{path}: not there, but it was written. {_again(stage)}")
    return sorted(files)


def read_json(path: Path, stage: str | None, kind: type[T]) -> T:
    """A JSON file's content.

    Args:
        kind: what it must be: a data class, list[str], ...

    Raises:
        InputError: as `checked`; it isn't JSON, or something else than `kind`.
    """
    content = checked(path, stage).read_bytes()
    try:
        return TypeAdapter(kind).validate_json(content, strict=True)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, wrong["loc"]))
        raise InputError(f"{path}: can't be read ({where + ': ' if where else ''}{wrong['msg']}). {_again(stage)}") from None


def read_figures(path: Path, stage: str | None, needed: tuple[str, ...] = (), nullable: tuple[str, ...] = ()) -> dict[str, Any]:
    """A JSON file of figures by name.

    Args:
        needed: names that must be among them, each of a number. nullable: the same, or null.

    Raises:
        InputError: as `read_json`; one is missing.
    """
    found = read_json(path, stage, Figures)
    for name in (*needed, *nullable):
        if name not in found or isinstance(found[name], dict) or (found[name] is None and name in needed):
            raise InputError(f"{path}: {name} is missing in it. {_again(stage)}")
    return found


def read_table(path: Path, stage: str | None, columns: tuple[str, ...] = ()) -> list[dict[str, str]]:
    """The rows of a CSV file.

    Args:
        columns: that it must have; of one without rows only the first.

    Raises:
        InputError: as `checked`; it isn't such a table.
    """
    try:
        with checked(path, stage).open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            header, rows = reader.fieldnames or (), list(reader)
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path}: can't be read ({error}). {_again(stage)}") from None
    if not header or any(None in row or None in row.values() for row in rows):
        raise InputError(f"{path}: is not a whole table. {_again(stage)}")
    if missing := [name for name in (columns if rows else columns[:1]) if name not in header]:
        raise InputError(f"{path}: has no column {missing[0]!r}. {_again(stage)}")
    return rows


def read_numbers(path: Path, stage: str | None, columns: tuple[str, ...]) -> list[dict[str, float]]:
    """Some columns of a CSV file, whose values are finite numbers.

    Raises:
        InputError: as `read_table`; one isn't.
    """
    try:
        rows = [{name: float(row[name]) for name in columns} for row in read_table(path, stage, columns)]
        if not all(math.isfinite(value) for row in rows for value in row.values()):
            raise ValueError("a value is not finite")
    except ValueError as error:
        raise InputError(f"{path}: can't be read ({error}). {_again(stage)}") from None
    return rows


def read_array(path: Path, stage: str | None, mmap_mode: Literal["r"] | None = None) -> "NDArray":
    """A NumPy file's array.

    Raises:
        InputError: as `checked`; it isn't one.
    """
    import numpy as np

    try:
        return np.load(checked(path, stage), mmap_mode=mmap_mode, allow_pickle=False)
    except InputError:
        raise
    except Exception as error:  # what a damaged header makes NumPy raise is its parsers'
        raise InputError(f"{path}: can't be read ({error}). {_again(stage)}") from None


def read_tensors(path: Path, stage: str | None) -> "dict[str, Tensor]":
    """A safetensors file's tensors.

    Raises:
        InputError: as `checked`; it isn't one.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(checked(path, stage))
    except (SafetensorError, ValueError) as error:
        raise InputError(f"{path}: can't be read ({error}). {_again(stage)}") from None


def _sums(folder: Path, stage: str | None) -> dict[str, str]:
    try:
        sums = json.loads((folder / SUMS).read_text(encoding="utf-8"))
    except ValueError:
        sums = None
    if not isinstance(sums, dict):
        raise InputError(f"{folder / SUMS}: damaged. {_again(stage)}")
    return sums


def _run(stage: str | None) -> str:
    return f"Run `python -m stages {stage}`" if stage else "Train it"


def _again(stage: str | None) -> str:
    how = f"run `python -m stages {stage}` again" if stage else "train it again"
    return f"`dvc checkout --force` brings back what DVC keeps; or {how}."
