"""Phase 2 on disk: data/embeddings/<run>/ holds vectors.npy (C, count, d), seeds.npy and distance.npy (C, count), info.json."""

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ood.config.dream import EmbedRun
from ood.dream import sampling
from ood.dream.sampling import Drawn
from ood.errors import InputError
from ood.progress import Progress

EMBEDDINGS = Path("data/embeddings")


def draw_all(
    features: NDArray,
    labels: NDArray,
    anchors: NDArray,
    classes: list[str],
    run: EmbedRun,
    seed: int,
    names: Tensor | None,
    progress: Progress,
) -> list[Drawn]:
    """Vectors for every class.

    Args:
        names: token embeddings of run.names, (m, d), for method 'names'.
    """
    drawn = []
    table = torch.from_numpy(anchors)
    progress.begin(len(classes), "class")
    for label, name in enumerate(classes):
        key = (seed, label, 40)
        if run.method == "knn":
            own = torch.from_numpy(features[labels == label])
            drawn.append(sampling.draw(own, table[label], run, key, name))
        else:
            if run.method == "noise":
                vectors = sampling.noisy_anchor(table[label], run, key)
            elif run.method == "interpolation":
                vectors = sampling.interpolated(table, label, run, key)
            else:
                vectors = sampling.named(names, run, key)
            nothing = torch.full((run.count,), -1)
            drawn.append(Drawn(vectors, nothing, nothing.float(), nothing[:0]))
        progress.advance(name)
    return drawn


def figures(drawn: list[Drawn], features: NDArray, labels: NDArray, anchors: NDArray) -> dict[str, float]:
    """Where the vectors lie, means over classes.

    cosine_to_seed: to the feature they were drawn around. cosine_to_class: to the class's anchor; features_to_class: the same for its
    features. cosine_to_other: the largest to another class's anchor. norm_error: largest relative difference from the anchor's norm.
    """
    table = F.normalize(torch.from_numpy(anchors), dim=1)
    rows: dict[str, list[float]] = {"cosine_to_class": [], "features_to_class": [], "cosine_to_other": [], "norm_error": []}
    for label, one in enumerate(drawn):
        unit, own = F.normalize(one.vectors, dim=1), F.normalize(torch.from_numpy(features[labels == label]), dim=1)
        cosines = unit @ table.T
        rows["cosine_to_class"].append(float(cosines[:, label].mean()))
        rows["features_to_class"].append(float((own @ table[label]).mean()))
        cosines[:, label] = -1
        rows["cosine_to_other"].append(float(cosines.amax(1).mean()))
        rows["norm_error"].append(float((one.vectors.norm(dim=1) / np.linalg.norm(anchors[label]) - 1).abs().max()))
        if len(one.boundary):
            rows.setdefault("cosine_to_seed", []).append(float((unit * own[one.seeds]).sum(1).mean()))
    return {key: float(np.max(values) if key == "norm_error" else np.mean(values)) for key, values in rows.items()}


def save(folder: Path, drawn: list[Drawn], mode: str) -> None:
    """Write what synthesize reads."""
    np.save(folder / "vectors.npy", torch.stack([d.vectors for d in drawn]).numpy())
    np.save(folder / "seeds.npy", torch.stack([d.seeds for d in drawn]).numpy())
    np.save(folder / "distance.npy", torch.stack([d.distance for d in drawn]).numpy())
    info = {"mode": mode, "boundary": [d.boundary.tolist() for d in drawn]}
    (folder / "info.json").write_text(json.dumps(info) + "\n", encoding="utf-8")


def load(run: str) -> tuple[NDArray, str]:
    """Vectors (C, count, d), read from disk as they are needed, and their mode.

    Raises:
        InputError: not there yet.
    """
    path = EMBEDDINGS / run / "vectors.npy"
    if not path.is_file():
        raise InputError(f"{path}: not there. Run `python -m stages embed {run}` first (or `dvc repro`).")
    info = json.loads((path.parent / "info.json").read_text(encoding="utf-8"))
    return np.load(path, mmap_mode="r"), info["mode"]
