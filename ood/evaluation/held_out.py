"""Classes held out in turn, as validation OOD that lies near ID: a head learns the others on frozen features, scores must tell its images.

Spoilt ID images say nothing of things that look like ID, and with a frozen backbone what is fitted on features is fooled by those: one
fruit lies near another there whatever a head has learned. It takes a backbone that wasn't trained on these classes (what it was
published with may have held some, as ImageNet holds some fruit), and no picture. Heads are of plain cross-entropy, whatever trained the
model.
"""

import hashlib
import threading
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ood.config.evaluation import Scores
from ood.detection import detectors
from ood.detection.detectors import Outputs
from ood.detection.from_images import FROM_IMAGES
from ood.detection.scores import Head
from ood.evaluation.features import Cached
from ood.evaluation.metrics import detection_metrics

DECAY = 5e-4  # of a head's weights, as in the recipes' trainings
STEPS, TOLERANCE = 1000, 1e-6  # of a head's fit: at most so many; the largest gradient at which it has settled
LEAST = 3  # classes: of two, one is left, and a head has nothing to tell apart

Found = dict[str, dict[str, float]]  # score -> held-out class, its number -> AUROC of its images against the others' validation images


@dataclass
class HeldOut:
    """Holds out `count` classes, spread evenly (0: none), once for all models that share backbone and kind of head."""

    count: int
    scores: Scores
    own: list[str]
    known: dict[str, Found] = field(default_factory=dict)
    locks: dict[str, threading.Lock] = field(default_factory=dict)  # models are evaluated side by side

    def of(self, cached: Cached) -> Found:
        """How well every score that features give tells classes that were held out; empty where the backbone may have learned them."""
        classes = cached.head.weight.shape[0]
        if not cached.unseen or not self.count or classes < LEAST:
            return {}
        key = _key(cached)
        with self.locks.setdefault(key, threading.Lock()):
            return self._known(cached, key, classes)

    def _known(self, cached: Cached, key: str, classes: int) -> Found:
        if key not in self.known:
            chosen = np.unique(np.linspace(0, classes - 1, min(self.count, classes)).round().astype(int)).tolist()
            each = {str(label): self._without(cached, label) for label in chosen}
            self.known[key] = {score: {label: found[score] for label, found in each.items()} for score in next(iter(each.values()))}
        return self.known[key]

    def _without(self, cached: Cached, label: int) -> dict[str, float]:
        """Score -> AUROC, for a class that a head hasn't learned: all its images against the others' validation images."""
        train, validation = cached.sets["id/train"], cached.sets["id/val"]
        labels = train["labels"]
        kept, unseen = labels != label, validation["labels"] == label
        _, relabelled = torch.unique(labels[kept], return_inverse=True)
        features = train["features"][kept]
        head = trained_head(features, relabelled, normalize=cached.head.normalize)

        def seen(features: Tensor) -> Outputs:
            return Outputs.of(head, head.logits(head.input(features)), features)

        inside = seen(validation["features"][~unseen])
        outside = seen(torch.cat([train["features"][~kept], validation["features"][unseen]]))
        names = [name for name in detectors.wanted(self.scores, self.own) if name not in FROM_IMAGES]
        most = {key: min(getattr(self.scores, key), len(features)) for key in ("knn_k", "nnguide_k")}  # there are fewer neighbours here
        fitted = detectors.fit(names, head, seen(features), relabelled, inside.logits, self.scores.model_copy(update=most))
        scored = {name: tuple(fitted[name](part).double().numpy() for part in (inside, outside)) for name in names}
        return {name: detection_metrics(known, unknown)["auroc"] for name, (known, unknown) in scored.items()}


def trained_head(features: Tensor, labels: Tensor, *, normalize: bool) -> Head:
    """The head of least cross-entropy + DECAY / 2 |weights|^2 on features (N, D) and labels 0 to C - 1, each of which occurs."""
    seen = Head(torch.empty(0), torch.empty(0), normalize).input(features).double()
    count = int(labels.max()) + 1
    weight = torch.zeros(count, seen.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(count, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=STEPS, tolerance_grad=TOLERANCE, tolerance_change=0, history_size=20, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(seen @ weight.T + bias, labels) + DECAY / 2 * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return Head(weight.detach().float(), bias.detach().float(), normalize)


def _key(cached: Cached) -> str:
    """What held-out heads depend on: features and labels, and whether a head normalises them."""
    digest = hashlib.sha256(str(cached.head.normalize).encode())
    for name in ("id/train", "id/val"):
        for kind in ("features", "labels"):
            digest.update(cached.sets[name][kind].contiguous().numpy().tobytes())
    return digest.hexdigest()
