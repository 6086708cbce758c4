"""A backbone that stays as it is: its features are computed once, kept on the disk, and every training on them moves the head alone."""

import hashlib
from collections.abc import Iterator

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from ood.closure import hashes
from ood.config.training import Augment, Strong
from ood.data.batches import Batch, PlainBatches, TrainingBatches, at_once, generator_for
from ood.data.sets import FeatureSet, FileSet, Images, ImageSet
from ood.data.views import PLAIN, Views
from ood.files import scratch_root, write_sealed
from ood.nets import Classifier
from ood.progress import Progress
from ood.training.checkpoint import unfinished
from ood.training.devices import hardware

KEPT = "features"  # below the scratch folder: a sealed file for each backbone and set of images; may be removed at any time


class Head(nn.Module):
    """The head of a classifier as a network of its own: features (N, D) -> logits (N, C)."""

    def __init__(self, classifier: Classifier):
        super().__init__()
        self.fc, self.confidence = classifier.fc, classifier.confidence
        self._head, self._both_heads = classifier.head, classifier.head_with_confidence

    def forward(self, features: Tensor) -> Tensor:
        return self._head(features)

    def with_confidence(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and those of confidence."""
        return self._both_heads(features)


class FrozenBatches:
    """A training's batches, of features in the images' place. copies: one for each view of the images; epochs take them in turn."""

    def __init__(self, copies: list[TrainingBatches]):
        self.copies, self.steps = copies, copies[0].steps

    @property
    def outliers(self) -> FeatureSet | Images | None:
        """What is trained with beside ID."""
        return self.copies[0].outliers

    def to(self, device: torch.device) -> "FrozenBatches":
        """The same on a device."""
        return FrozenBatches([batches.to(device) for batches in self.copies])

    def epoch(self, seed: int, epoch: int, turn: int = 0) -> Iterator[Batch]:
        """As TrainingBatches.epoch."""
        return self.copies[epoch % len(self.copies)].epoch(seed, epoch, turn)


def frozen(net: Classifier, batches: TrainingBatches, views: int, device: torch.device, progress: Progress) -> FrozenBatches:
    """The batches of features that stand for batches of images.

    Args:
        views: how many augmented views of every image there are; without augmentation one is enough.
    """
    strong = batches.strong
    augmented = batches.augment != Augment() or strong.alone
    copies = []
    for view in range(views if augmented else 1):
        assert not isinstance(batches.inliers, FeatureSet)
        assert not isinstance(batches.outliers, FeatureSet)
        seen = [
            None if images is None else _seen(images, batches.augment, strong, view) if augmented else images
            for images in (batches.inliers, batches.outliers)
        ]
        inliers, outliers = (None if images is None else features(net, images, device, progress) for images in seen)
        assert inliers is not None
        copies.append(batches.but(inliers=inliers, outliers=outliers, augment=Augment(), strong=PLAIN))
    return FrozenBatches(copies)


def _seen(images: Images, augment: Augment, strong: Strong, view: int) -> Images:
    """A set, augmented once; the same for every training, so that its features are computed once."""
    return images.seen(Views.drawn(torch.arange(len(images)), augment, generator_for(view, len(images), 30), strong))


@torch.no_grad()
def features(net: Classifier, images: Images, device: torch.device, progress: Progress) -> FeatureSet:
    """What the backbone, in eval mode and its own precision, makes of a set; from the disk where it was computed before."""
    path = scratch_root() / KEPT / _key(net, images, device)
    content = unfinished(path, progress)
    if content is not None:
        return FeatureSet(load(content)["values"], images.labels.cpu())
    net = net.to(device).eval()
    exact, found = net.fc.weight.dtype, []
    for batch, _ in PlainBatches(images.to(device), at_once(device, images.side)):
        progress.step()
        found.append(net.features(batch.to(exact) if batch.is_floating_point() else batch).cpu())
    values = torch.cat(found)
    write_sealed(path, save({"values": values}))
    return FeatureSet(values, images.labels.cpu())


def _key(net: Classifier, images: Images, device: torch.device) -> str:
    """A hash of all that features depend on."""
    strides = next((value.stride() for value in net.backbone.parameters() if value.dim() == 4), ())  # channels_last, or not
    where = [*hardware(device), torch.get_num_threads(), strides, torch.__version__, hashes("ood/training/frozen.py")]
    digest = hashlib.sha256(f"{device.type} {where} {net.size} {net.mean.tolist()} {net.std.tolist()} {net.made}".encode())
    for name, value in net.backbone.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    if isinstance(images, ImageSet):
        digest.update(images.images.cpu().numpy().tobytes())
    else:
        digest.update(_files(images))
    return digest.hexdigest()[:32]


def _files(images: FileSet) -> bytes:
    """What tells one set of files, and how it is looked at, from another."""
    drawn: list[object] = []
    fixed = images.fixed
    if fixed is not None:
        numbers = (fixed.offsets, fixed.flips, fixed.crops, fixed.seeds)
        drawn = [fixed.augment, fixed.strong, *(None if part is None else part.tolist() for part in numbers)]
    return repr([images.files.entries, images.files.hashes, images.files.chain.config, drawn]).encode()
