"""One forward pass per model over everything that scores and figures need; cached tensors from there on.

data/features/<model>/<seed>.safetensors holds, per set: '<set>:logits' (N, C), '<set>:features' (N, D, raw), '<set>:labels' (N,), for
all that are scored '<set>:odin' (N,) unless it is left out, and '<set>:rotation' (N,) of a net with that branch; and 'head:weight',
'head:bias', 'head:normalize', 'head:unseen' (whether the backbone has never been trained on this data), with 'head:confidence_weight' and
'_bias' where there is such a branch, 'head:negatives' where there are such words. A net with a mask adds '<set>:unmasked_logits' for ID,
from the dense net underneath.
"""

import itertools
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from safetensors.torch import save_file
from torch import Tensor

from ood.data.batches import PlainBatches, generator_for
from ood.data.sets import FeatureSet, Images
from ood.detection.from_images import ImageScore
from ood.detection.scores import Head
from ood.errors import InputError
from ood.evaluation.groups import group_of
from ood.handover import read_tensors
from ood.nets import Classifier
from ood.training.devices import Precision

FEATURES = Path("data/features")
SCORING = 8  # times what is cached: that in memory, an L2 net's directions beside it, what all scores keep, and copies on the way there
BESIDE = 2**30  # bytes for tables of neighbours and resampled images, whatever is cached
LABELLED = ("corrupted", "shifted")  # roles of ID that is harder to see or taken elsewhere: read for accuracy alone


def scored(name: str) -> bool:
    """Whether the images of a set have scores: all but the training images, and those that are there for accuracy alone."""
    return name != "id/train" and group_of(name) not in LABELLED


def training_part(images: Images, most: int | None) -> Images:
    """The ID training images that scores are fitted on: `most` of them, as many of each class as can be; the same for every model.

    Raises:
        InputError: there are more classes than that.
    """
    if most is None or most >= len(images):
        return images
    order = torch.randperm(len(images), generator=generator_for(0, 60))
    labels = images.labels.cpu()[order]
    if most < (classes := len(labels.unique())):
        raise InputError(
            f"params.yaml: features.train: {most} images of {classes} classes: every class needs one. Raise it, or null for all."
        )
    place = torch.empty_like(order)  # of an image among those of its class
    for label in labels.unique():
        members = labels == label
        place[members] = torch.arange(int(members.sum()))
    return images.take(order[place.argsort(stable=True)[:most]].sort().values)


@torch.inference_mode()
def extract(
    net: Classifier, images: Images, batch_size: int, tick: Callable[[], None], precision: Precision = nullcontext
) -> dict[str, Tensor]:
    """Logits, raw features and labels of a set, un-augmented, on the CPU in float32.

    Args:
        precision: what the backbone computes in; the head is always exact.
    """
    device = net.fc.weight.device
    logits, features = [], []
    with precision():
        for batch, _ in PlainBatches(images, batch_size):
            tick()
            raw = net.features(batch.to(device))
            features.append(raw.float().cpu())
            logits.append(net.head(raw).float().cpu())
    return {"logits": torch.cat(logits), "features": torch.cat(features), "labels": images.labels.cpu()}


def extract_score(
    net: Classifier, images: Images, batch_size: int, score: ImageScore, tick: Callable[[], None], precision: Precision = nullcontext
) -> Tensor:
    """A score of a set that can't be had from cached tensors (from_images.FROM_IMAGES), (N,)."""
    device = net.fc.weight.device
    scores = []
    with precision():
        for batch, _ in PlainBatches(images, batch_size):
            tick()
            scores.append(score(net, batch.to(device)).float().cpu())
    return torch.cat(scores)


@torch.no_grad()
def through_head(net: Classifier, seen: FeatureSet) -> dict[str, Tensor]:
    """As `extract`, from features that are known."""
    device = next(net.parameters()).device
    return {"logits": net.head(seen.values.to(device)).float().cpu(), "features": seen.values.float(), "labels": seen.labels}


def save(path: Path, tensors: dict[str, dict[str, Tensor]], net: Classifier, *, unseen: bool) -> None:
    """Write one seed's tensors (set -> kind -> tensor) and the head; unseen: whether the backbone has never been trained on this data."""
    flat = {f"{name}:{kind}": tensor.contiguous() for name, kinds in tensors.items() for kind, tensor in kinds.items()}
    flat["head:weight"] = net.fc.weight.detach().cpu().clone()
    flat["head:bias"] = net.fc.bias.detach().cpu().clone()
    if net.confidence is not None:
        flat |= {"head:confidence_weight": net.confidence.weight.detach().cpu().clone()}
        flat |= {"head:confidence_bias": net.confidence.bias.detach().cpu().clone()}
    if net.negatives is not None:
        flat["head:negatives"] = net.negatives.cpu().clone()
    flat["head:normalize"], flat["head:unseen"] = torch.tensor(net.normalize), torch.tensor(unseen)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: flat[key] for key in sorted(flat)}, path)


@dataclass(frozen=True)
class Cached:
    """One seed's cached tensors: sets[name][kind], the head, and whether the backbone has never been trained on this data."""

    sets: dict[str, dict[str, Tensor]]
    head: Head
    unseen: bool = False

    def names(self, role: str) -> list[str]:
        """Sets of a role, e.g. 'near', sorted."""
        return sorted(name for name in self.sets if group_of(name) == role)


def side_by_side(models: Iterable[str], seeds: Iterable[int], workers: int) -> int:
    """How many models to score at once: `workers`, where there is memory for so many and for one more, so that none finds too little."""
    most = max(_needed(FEATURES / model / f"{seed}.safetensors") for model, seed in itertools.product(models, seeds))
    return max(1, min(workers, psutil.virtual_memory().available // (most + BESIDE) - 1))


def _needed(path: Path) -> int:
    """Bytes of memory that it takes to score one seed's features; 0 where there are none."""
    return SCORING * (path.stat().st_size if path.is_file() else 0)


def load(model: str, seed: int) -> Cached:
    """The cached tensors of a model.

    Raises:
        InputError: not extracted yet; more than this machine's memory can hold and score.
    """
    path = FEATURES / model / f"{seed}.safetensors"
    needed, free = _needed(path), psutil.virtual_memory().available
    if needed > free:
        raise InputError(
            f"{path}: to score these features takes up to {needed / 2**30:,.0f} GiB of memory, and {free / 2**30:,.0f} are free. Fit "
            "scores on fewer training images (features.train)."
        )
    sets: dict[str, dict[str, Tensor]] = {}
    for key, tensor in read_tensors(path, f"features {model}").items():
        name, kind = key.rsplit(":", 1)
        sets.setdefault(name, {})[kind] = tensor
    head = sets.pop("head")
    branch = (head["confidence_weight"], head["confidence_bias"]) if "confidence_weight" in head else None
    found = Head(head["weight"], head["bias"], bool(head["normalize"]), branch, head.get("negatives"))
    return Cached(sets, found, bool(head.get("unseen", False)))
