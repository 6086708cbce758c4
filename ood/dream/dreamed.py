"""Dreamed sets on disk, and the filter that training puts on them. Reading them needs neither diffusers nor a pipeline.

data/painted/<run>/   images.npy, uint8 (N, side, side, 3); pictures.csv, a row per image: class, prompt, word, embedding, seed, sampler,
                      steps, guidance; info.json: mode (outlier or inlier), classes
data/dreamed/<run>/   the same images; manifest.csv, those rows and what the judge (a trained classifier, mean softmax over its seeds)
                      makes of each: predicted, confidence, own (the probability of the class it was painted for); nearest (ID training
                      image), distance to it; info.json, with the judge
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NotRequired

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import TypedDict

from ood.config.data import Chain
from ood.data.chain import ImageChain
from ood.data.sets import FileSet, Images, ImageSet, rows_in_file
from ood.errors import InputError
from ood.handover import read_array, read_json, read_numbers, read_table

PAINTED, DREAMED = Path("data/painted"), Path("data/dreamed")


class Painted(TypedDict):
    """info.json of a set: outliers or inliers, the ID classes, and who judged it."""

    mode: Literal["outlier", "inlier"]
    classes: list[str]
    judge: NotRequired[str]


@dataclass(frozen=True)
class Dreamed:
    """A dreamed set. images: uint8 (N, H, W, 3), of `path`; labels: class painted for; confidence, own: the judge's, (N,)."""

    images: NDArray
    labels: NDArray
    confidence: NDArray
    own: NDArray
    mode: str
    classes: list[str]
    path: Path = Path()

    def kept(self, cut: float) -> NDArray:
        """Which images training uses, (N,) bool.

        Outliers: those in which the judge is at most `cut` sure of any ID class, for what it takes for confident ID is no outlier.
        Inliers: those in which it is at least `cut` sure of the class that they were painted for.
        """
        return self.own >= cut if self.mode == "inlier" else self.confidence <= cut


def painted(run: str, root: Path = PAINTED) -> tuple[NDArray, list[dict], Painted]:
    """Images (read as needed), their rows and info, as they were painted.

    Raises:
        InputError: not there yet.
    """
    folder, stage = root / run, f"synthesize {run}"
    info = read_json(folder / "info.json", stage, Painted)
    return read_array(folder / "images.npy", stage, mmap_mode="r"), read_table(folder / "pictures.csv", stage, ("class",)), info


def load(run: str, root: Path = DREAMED) -> Dreamed:
    """A dreamed set, its images read as needed.

    Raises:
        InputError: not there yet.
    """
    folder, stage = root / run, f"judge {run}"
    info = read_json(folder / "info.json", stage, Painted)
    rows = read_table(folder / "manifest.csv", stage, ("class",))
    opinions = read_numbers(folder / "manifest.csv", stage, ("confidence", "own"))
    position = {name: i for i, name in enumerate(info["classes"])}
    return Dreamed(
        read_array(folder / "images.npy", stage, mmap_mode="r"),
        np.array([position[row["class"]] for row in rows], np.int64),
        np.array([row["confidence"] for row in opinions]),
        np.array([row["own"] for row in opinions]),
        info["mode"],
        info["classes"],
        folder / "images.npy",
    )


def filtered(dreamed: Dreamed, cut: float, per_class: int | None, key: str, beside: Images | None = None) -> tuple[Images, float]:
    """The images that pass the cut, and the share of all that did.

    Args:
        per_class: use exactly so many of each class, the first ones; None: all.
        key: of the run in params.yaml, for errors.
        beside: the ID images that they are trained beside: where these stay in their files, dreams do, and are cut with the same filter.

    Raises:
        InputError: a class has fewer than asked for, or none at all.
    """
    kept = dreamed.kept(cut)
    chosen = []
    for label, name in enumerate(dreamed.classes):
        members = np.flatnonzero(kept & (dreamed.labels == label))
        if len(members) < (per_class or 1):
            total = int((dreamed.labels == label).sum())
            raise InputError(
                f"params.yaml: {key}: of {total} images dreamed for class {name!r} {len(members)} pass the cut {cut:g}, "
                f"{per_class or 1} are asked for. Change cut, lower per_class, or paint more (synthesize.runs)."
            )
        chosen.append(members[:per_class])
    index, share = np.sort(np.concatenate(chosen)), float(kept.mean())
    labels = torch.from_numpy(dreamed.labels)
    if isinstance(beside, FileSet):
        chain = Chain(size=dreamed.images.shape[1], resize=beside.files.chain.config.resize, mean=[0, 0, 0], std=[1, 1, 1])
        return rows_in_file(dreamed.path, labels, ImageChain(chain), beside.workers).take(torch.from_numpy(index)), share
    images = torch.from_numpy(dreamed.images[index]).permute(0, 3, 1, 2).contiguous()
    return ImageSet(images, labels[index]), share
