"""Classes held out in turn, as validation OOD that lies near ID: a head learns the others on frozen features, scores must tell its images.

Spoilt ID images say nothing of things that look like ID, and with a frozen backbone what is fitted on features is fooled by those: one
fruit lies near another there whatever a head has learned. It takes a backbone that wasn't trained on the class; no picture is needed.
"""

import hashlib
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ood.config.evaluation import Scores
from ood.detection import detectors
from ood.detection.detectors import Outputs
from ood.detection.scores import Head
from ood.errors import InputError
from ood.evaluation.features import Cached
from ood.evaluation.metrics import detection_metrics

DECAY, STEPS = 5e-4, 300  # of a head: weight decay of our frozen trainings, by which scikit-learn's is set; at most so many steps
LEAST = 3  # classes: of two, one is left, and a head has nothing to tell apart

Found = dict[str, dict[str, float]]  # score -> held-out class, its number -> AUROC of its images against the others' validation images


@dataclass
class HeldOut:
    """Holds out `count` classes, spread evenly (0: none), once for all models that share backbone and kind of head."""

    count: int
    scores: Scores
    own: list[str]
    known: dict[str, Found] = field(default_factory=dict)

    def of(self, cached: Cached) -> Found:
        """How well every score that features give tells classes that were held out; empty where the backbone was trained on them.

        Raises:
            InputError: a setting that the features of the other classes can't serve.
        """
        classes = cached.head.weight.shape[0]
        if not cached.unseen or not self.count or classes < LEAST:
            return {}
        key = _key(cached)
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
        known = torch.unique(labels[kept])
        head = trained_head(train["features"][kept], torch.searchsorted(known, labels[kept]), normalize=cached.head.normalize)

        def seen(features: Tensor) -> Outputs:
            return Outputs.of(head, head.logits(head.input(features)), features)

        inside = seen(validation["features"][~unseen])
        outside = seen(torch.cat([train["features"][~kept], validation["features"][unseen]]))
        names = [name for name in detectors.wanted(self.scores, self.own) if name not in detectors.FROM_IMAGES]
        relabelled = torch.searchsorted(known, labels[kept])
        try:
            fitted = detectors.fit(names, head, seen(train["features"][kept]), relabelled, inside.logits, self.scores)
        except ValueError as error:
            raise InputError(f"params.yaml: scores: {error} (a class held out). Lower the value, or set evaluate.held_out: 0.") from None
        scored = {name: tuple(fitted[name](part).double().numpy() for part in (inside, outside)) for name in names}
        return {name: detection_metrics(known, unknown)["auroc"] for name, (known, unknown) in scored.items()}


def trained_head(features: Tensor, labels: Tensor, *, normalize: bool) -> Head:
    """The head of least cross-entropy on features (N, D) and labels 0 to C - 1, each of which occurs."""
    from sklearn.linear_model import LogisticRegression

    bare = Head(torch.empty(0), torch.empty(0), normalize)
    seen = bare.input(features).numpy()
    found = LogisticRegression(C=1 / (len(seen) * DECAY), max_iter=STEPS).fit(seen, labels.numpy())
    weight, bias = torch.from_numpy(found.coef_).float(), torch.from_numpy(found.intercept_).float()
    if len(weight) == 1:  # of two classes scikit-learn gives the second's logit alone
        weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    return Head(weight, bias, normalize)


def _key(cached: Cached) -> str:
    """What held-out heads depend on: features and labels, and whether a head normalises them."""
    digest = hashlib.sha256(str(cached.head.normalize).encode())
    for name in ("id/train", "id/val"):
        for kind in ("features", "labels"):
            digest.update(cached.sets[name][kind].contiguous().numpy().tobytes())
    return digest.hexdigest()
