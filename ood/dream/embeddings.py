"""Phase 2 on disk: data/embeddings/<run>/ holds vectors.npy (C, count, d) and info.json: mode, the feature that each
vector was drawn around (-1: none), the boundary points, as places among the class's features, and how far the prompt is disturbed."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import TypedDict

from ood.config.dream import EmbedRun
from ood.dream import crossing, sampling
from ood.dream.sampling import Drawn
from ood.files import write_rows, write_sealed
from ood.handover import read_array, read_json
from ood.progress import Progress
from ood.training.checkpoint import unfinished

EMBEDDINGS = Path("data/embeddings")


@dataclass(frozen=True)
class Space:
    """Where embeddings are drawn: features (n, d), labels (n,), anchors (C, d), class names.

    temperature: that the encoder's cosines are divided by. names: token embeddings (m, d) of a run's own names.
    """

    features: NDArray
    labels: NDArray
    anchors: NDArray
    classes: list[str]
    temperature: float
    names: Tensor | None = None

    def draw(self, label: int, run: EmbedRun, seed: int, device: torch.device) -> Drawn:
        """The vectors of one class."""
        key, table = (seed, label, 40), torch.from_numpy(self.anchors)
        own, name = torch.from_numpy(self.features[self.labels == label]), self.classes[label]
        if run.method == "knn":
            return sampling.draw(own.to(device), table[label].to(device), run, key, name)
        if run.method == "crossing":
            return crossing.cross(own.to(device), table.to(device), label, self.temperature, run, key, name)
        if run.method == "noise":
            vectors = sampling.noisy_anchor(table[label], run, key)
        elif run.method == "encoder_noise":  # the prompt is painted as it is; the noise comes after the text encoder
            vectors = table[label].expand(run.count, -1)
        elif run.method == "interpolation":
            vectors = sampling.interpolated(table, label, run, key)
        else:
            assert self.names is not None  # a run of method names has them
            vectors = sampling.named(self.names, run, key)
        nothing = torch.full((run.count,), -1)
        return Drawn(vectors, nothing, nothing.float(), nothing[:0])


def draw_all(space: Space, run: EmbedRun, seed: int, device: torch.device, folder: Path, progress: Progress) -> list[Drawn]:
    """Vectors for every class, a file per class below `folder`: what a killed process had drawn isn't drawn again."""
    progress.begin(len(space.classes), "class")
    drawn = []
    for label, name in enumerate(space.classes):
        progress.step()
        path = folder / f"{label:04d}.npz"
        content = unfinished(path, progress)
        if content is None:
            content = space.draw(label, run, seed, device).packed()
            write_sealed(path, content)
        drawn.append(Drawn.unpacked(content))
        progress.advance(name)
    return drawn


def figures(drawn: list[Drawn], features: NDArray, labels: NDArray, anchors: NDArray) -> dict[str, float]:
    """Where the vectors lie, means over classes.

    cosine_to_seed: to the feature they were drawn around. cosine_to_class: to the class's anchor; features_to_class: the same for its
    features. cosine_to_other: the largest to another class's anchor. norm_error: largest relative difference from the anchor's norm.
    """
    table = F.normalize(torch.from_numpy(anchors), dim=1)
    rows: dict[str, list[float]] = {"cosine_to_class": [], "features_to_class": [], "cosine_to_other": [], "nearest_is_own": []}
    for label, one in enumerate(drawn):
        unit, own = F.normalize(one.vectors, dim=1), F.normalize(torch.from_numpy(features[labels == label]), dim=1)
        cosines = unit @ table.T
        rows["cosine_to_class"].append(float(cosines[:, label].mean()))
        rows["features_to_class"].append(float((own @ table[label]).mean()))
        rows["nearest_is_own"].append(float((cosines.argmax(1) == label).float().mean()))
        cosines[:, label] = -1
        rows["cosine_to_other"].append(float(cosines.amax(1).mean()))
        if len(one.boundary):
            rows.setdefault("cosine_to_seed", []).append(float((unit * own[one.seeds]).sum(1).mean()))
    return {key: float(np.mean(values)) for key, values in rows.items()}


class Info(TypedDict):
    """info.json."""

    mode: Literal["outlier", "inlier"]
    seeds: list[list[int]]
    boundary: list[list[int]]
    disturbed: float | None


class Embedded(NamedTuple):
    """What is painted: vectors (C, count, d), read from disk as they are needed, and their mode.

    disturbed: None, or the plain prompt is painted, and this is the expected cosine of what the text encoder says of it to what is painted.
    """

    vectors: NDArray
    mode: str
    disturbed: float | None


def save(folder: Path, drawn: list[Drawn], run: EmbedRun) -> None:
    """Write what synthesize reads, one class after the other: at the paper's size the vectors are 3 GB."""
    write_rows(folder / "vectors.npy", (one.vectors.numpy() for one in drawn), (len(drawn), *drawn[0].vectors.shape), np.float32)
    disturbed = run.cosine if run.method == "encoder_noise" else None
    info = {
        "mode": run.mode,
        "disturbed": disturbed,
        "seeds": [d.seeds.tolist() for d in drawn],
        "boundary": [d.boundary.tolist() for d in drawn],
    }
    (folder / "info.json").write_text(json.dumps(info) + "\n", encoding="utf-8")


def load(run: str) -> Embedded:
    """What `embed` wrote.

    Raises:
        InputError: not there yet.
    """
    folder, stage = EMBEDDINGS / run, f"embed {run}"
    info = read_json(folder / "info.json", stage, Info)
    return Embedded(read_array(folder / "vectors.npy", stage, mmap_mode="r"), info["mode"], info["disturbed"])
