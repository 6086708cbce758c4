"""The prepared data on disk: one uint8 array per set, grouped by role so that a stage can depend on its roles only.

data/prepared/id/{train,val,test}.npy        uint8 (N, H, W, 3), with .labels.npy (int64) and .items.json (image ids)
data/prepared/id/train.true.npy              int64 (N,): true labels, where some are wrong on purpose (data.id.label_noise); for evaluation
data/prepared/id/train.files.json            in place of the array where data.stream left the pictures in their files: paths, chain, hashes
data/prepared/id/info.json                   classes, side, mean, std; of texts how many words the vocabulary has
data/prepared/id/tokenizer.json              of texts, whose arrays are int32 (N, side): numbers of words, 0 behind the end; the texts
                                             themselves are in <set>.texts.json
data/prepared/calibration/id.npy             ID images on which nothing is chosen or fitted but thresholds; a folder of its own, for only
                                             `features` depends on it
data/prepared/auxiliary/<name>.npy           and validation/<name>.npy, test/near/<name>.npy, test/{far,corrupted,shifted}/<name>.npy
data/prepared/world/<name>.npy               with .words.json (what a caption calls each image)
data/prepared/manifest.json                  source, count and sha256 of every set
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired

import numpy as np
from typing_extensions import TypedDict

from ood.errors import InputError
from ood.handover import listed, read_array, read_json

PREPARED = Path("data/prepared")
PROOFS = Path("data/proofs")  # painted/*: ID as the diffusion model renders it, in the same layout


@dataclass(frozen=True)
class Info:
    """What a network must know of the data: class names, pixels along a side, normalisation in [0, 1] units.

    vocabulary: of texts how many numbers words have, and side how many words a text has; None of images.
    """

    classes: list[str]
    side: int
    mean: list[float]
    std: list[float]
    vocabulary: int | None = None


class Origin(TypedDict):
    """A set's source, as params.yaml had it."""

    source: str
    name: NotRequired[str | None]
    path: NotRequired[str | None]
    listing: NotRequired[str | None]
    kind: NotRequired[str | None]
    image: NotRequired[str | None]
    characters: NotRequired[str | None]
    classes: NotRequired[list[str | int] | None]


class Entry(TypedDict):
    """What the manifest says of a set. dropped: how many images gave way to another role; skipped: why -> how many files were left out;
    classes: of ID, name -> how many; mislabelled: how many of the labels are wrong on purpose; sha256: of images and labels.
    """

    source: Origin
    count: int
    dropped: int
    skipped: dict[str, int]
    classes: dict[str, int]
    mislabelled: int
    sha256: str


class Listing(TypedDict):
    """Where the pictures of a streamed set are (see packing.save_files)."""

    chain: dict[str, Any]
    files: list[str]
    sha256: list[str]


def path_of(name: str) -> str:
    """Where a set lies below the prepared folder: near, far, corrupted and shifted are test sets."""
    return f"test/{name}" if name.split("/")[0] in ("near", "far", "corrupted", "shifted") else name


def info(root: Path = PREPARED) -> Info:
    """The ID data's facts.

    Raises:
        InputError: nothing prepared here.
    """
    return read_json(root / "id" / "info.json", _stage(root), Info)


def manifest(root: Path = PREPARED) -> dict[str, Entry]:
    """What was prepared, set by set.

    Raises:
        InputError: nothing, or not all of ID.
    """
    path = root / "manifest.json"
    found = read_json(path, _stage(root), dict[str, Entry])
    if missing := {"id/train", "id/val", "id/test"} - found.keys():
        raise InputError(f"{path}: {min(missing)} is missing in it. Run `python -m stages {_stage(root)}` again.")
    return found


def names(role: str, root: Path = PREPARED) -> list[str]:
    """The sets of a role ('auxiliary', 'validation', 'near', 'far'), sorted."""
    folder = (root / path_of(f"{role}/any")).parent
    files = [path.name for path in listed(folder, _stage(root)) if path.parent == folder]
    return sorted(f"{role}/{name.removesuffix('.labels.npy')}" for name in files if name.endswith(".labels.npy"))


def arrays(name: str, root: Path = PREPARED) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, H, W, 3), or numbers of words int32 (N, side), and labels int64 (N,) of a set, e.g. 'near/letters'."""
    base = root / path_of(name)
    return read_array(base.with_name(f"{base.name}.npy"), _stage(root)), labels(name, root)


def texts(name: str, root: Path = PREPARED) -> list[str] | None:
    """The texts of a set as they came; None where it is of images."""
    base = root / path_of(name)
    path = base.with_name(f"{base.name}.texts.json")
    return read_json(path, _stage(root), list[str]) if path.is_file() else None


def labels(name: str, root: Path = PREPARED) -> np.ndarray:
    """Labels int64 (N,) of a set."""
    base = root / path_of(name)
    return read_array(base.with_name(f"{base.name}.labels.npy"), _stage(root))


def true_labels(name: str, root: Path = PREPARED) -> np.ndarray | None:
    """True labels int64 (N,) of a set whose labels are wrong on purpose, for evaluation alone; None where they aren't."""
    base = root / path_of(name)
    path = base.with_name(f"{base.name}.true.npy")
    return read_array(path, _stage(root)) if path.is_file() else None


def files(name: str, root: Path = PREPARED) -> Listing | None:
    """Where the pictures of a streamed set are; None for a set that is packed."""
    base = root / path_of(name)
    path = base.with_name(f"{base.name}.files.json")
    return read_json(path, _stage(root), Listing) if path.is_file() else None


def item_names(name: str, root: Path = PREPARED) -> list[str]:
    """The image ids of a set."""
    base = root / path_of(name)
    return read_json(base.with_name(f"{base.name}.items.json"), _stage(root), list[str])


def words(name: str, root: Path = PREPARED) -> list[str]:
    """What a caption calls each image of a set of the world."""
    base = root / path_of(name)
    return read_json(base.with_name(f"{base.name}.words.json"), _stage(root), list[str])


def _stage(root: Path) -> str:
    """Which stage writes such a folder."""
    return "proofs" if root.name == PROOFS.name else "prepare"
