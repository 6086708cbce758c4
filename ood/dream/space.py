"""Phase 2: where embeddings are drawn, class by class, and where they end up."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ood.config.dream import EmbedRun
from ood.dream import crossing, sampling
from ood.dream.sampling import Drawn
from ood.files import write_sealed
from ood.progress import Progress
from ood.training.checkpoint import unfinished


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
        elif run.method == "encoder_noise":  # the prompt is painted as it is, its noise comes later: one vector stands for all
            vectors = table[label][None]
        elif run.method == "interpolation":
            vectors = sampling.interpolated(table, label, run, key)
        else:
            assert self.names is not None  # a run of method names has them
            vectors = sampling.named(self.names, run, key)
        nothing = torch.full((len(vectors),), -1)
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


def figures(drawn: list[Drawn], space: Space, run: EmbedRun) -> dict[str, float]:
    """Where the vectors lie, means over classes; nothing of encoder_noise, whose vectors aren't what is painted.

    cosine_to_seed: to the feature they were drawn around. cosine_to_class: to the class's anchor; features_to_class: the same for its
    features. cosine_to_other: the largest to another class's anchor. Of crossing: distinct, how many vectors of a class differ; steps that
    they took to the boundary; shares of the features that are misclassified, or don't cross, and so take no part.
    """
    if run.method == "encoder_noise":
        return {}
    table = F.normalize(torch.from_numpy(space.anchors), dim=1)
    rows: dict[str, list[float]] = {"cosine_to_class": [], "features_to_class": [], "cosine_to_other": [], "nearest_is_own": []}
    for label, one in enumerate(drawn):
        unit, own = F.normalize(one.vectors, dim=1), F.normalize(torch.from_numpy(space.features[space.labels == label]), dim=1)
        cosines = unit @ table.T
        rows["cosine_to_class"].append(float(cosines[:, label].mean()))
        rows["features_to_class"].append(float((own @ table[label]).mean()))
        rows["nearest_is_own"].append(float((cosines.argmax(1) == label).float().mean()))
        cosines[:, label] = -1
        rows["cosine_to_other"].append(float(cosines.amax(1).mean()))
        if len(one.boundary):
            rows.setdefault("cosine_to_seed", []).append(float((unit * own[one.seeds]).sum(1).mean()))
        if len(one.walks):
            rows.setdefault("distinct", []).append(len(one.boundary))
            rows.setdefault("steps", []).append(float(one.distance.mean()))
            rows.setdefault("misclassified", []).append(float((one.walks == 0).float().mean()))
            rows.setdefault("not_crossing", []).append(float((one.walks < 0).float().mean()))
    return {key: float(np.mean(values)) for key, values in rows.items()}
