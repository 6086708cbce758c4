"""Sets of images: small ones live in memory as uint8, on the device where there is one; larger ones are decoded by workers as needed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ood.config.data import Chain
from ood.data import packed
from ood.data.chain import ImageChain
from ood.data.fractals import fractals
from ood.data.streamed import FileImages
from ood.data.views import Views, crop_box, resized_crops
from ood.errors import InputError
from ood.files import sha256

CPU = torch.device("cpu")


@dataclass(frozen=True)
class ImageSet:
    """Images in memory. images: uint8 (N, 3, H, W), or of texts numbers of words int32 (N, L); labels: int64 (N,), -1 outside ID."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    @property
    def side(self) -> int:
        """Pixels along a side; words of a text."""
        return self.images.shape[-1]

    def to(self, device: torch.device) -> "ImageSet":
        """The set on a device."""
        return ImageSet(self.images.to(device), self.labels.to(device))

    def some(self, index: Tensor) -> Tensor:
        """The images at `index`: uint8 (n, 3, H, W)."""
        return rows_at(self.images, index)

    def batches(self, plan: Sequence[Views]) -> Iterator[Tensor]:
        """One batch of augmented images, uint8 (n, 3, H, W), for each Views."""
        for views in plan:
            images = self.some(views.index)
            if views.crops is not None and views.augment.crop is not None:
                images = resized_crops(images, views.crops, views.augment.crop)
            yield views.applied(images)

    def take(self, index: Tensor) -> "ImageSet":
        """A set of some of the images."""
        return ImageSet(self.some(index), rows_at(self.labels, index))

    def seen(self, views: Views) -> "ImageSet":
        """The images of `views`, augmented once and kept so."""
        return ImageSet(next(self.batches([views])), rows_at(self.labels, views.index))

    @classmethod
    def joined(cls, sets: "list[ImageSet]") -> "ImageSet":
        """Several sets as one."""
        return cls(torch.cat([s.images for s in sets]), torch.cat([s.labels for s in sets]))


@dataclass(frozen=True)
class FileSet:
    """The same interface for images that stay in their files; `workers` processes decode ahead (0: this one does).

    fixed: how its images are looked at whenever no Views says otherwise.
    """

    files: FileImages
    labels: Tensor
    device: torch.device = CPU
    workers: int = 0
    fixed: Views | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def side(self) -> int:
        """Pixels along a side."""
        return self.files.chain.config.side

    def to(self, device: torch.device) -> "FileSet":
        """The set, its batches on a device."""
        return replace(self, labels=self.labels.to(device), device=torch.device(device))

    def some(self, index: Tensor) -> Tensor:
        """The images at `index`: uint8 (n, 3, H, W)."""
        return next(self.batches([Views.plain(index.cpu())]))

    def batches(self, plan: Sequence[Views]) -> Iterator[Tensor]:
        """One batch of augmented images, uint8 (n, 3, H, W), for each Views; decoded ahead, in order."""
        views = [self.fixed.take(v.index) if self.fixed else v for v in plan]
        if views and views[0].strong.pixmix is not None and views[0].strong.pixmix.pictures:
            fractals(views[0].strong.pixmix.pictures, self.side)  # here once, and not in every worker of every epoch
        workers, ahead = (self.workers, 2) if self.workers and len(plan) > 1 else (0, None)
        decoded, pin = _Decoded(self.files, views), self.device.type == "cuda"
        loader: DataLoader[Tensor | InputError] = DataLoader(
            decoded, batch_size=None, num_workers=workers, prefetch_factor=ahead, pin_memory=pin
        )
        for v, images in zip(views, loader, strict=True):
            if isinstance(images, InputError):
                raise images
            images = images.to(self.device, non_blocking=True)
            yield v.applied(images) if v.seeds is None else images

    def take(self, index: Tensor) -> "FileSet":
        """A set of some of the images."""
        whole = replace(self, files=self.files.take(index.cpu().numpy()), labels=rows_at(self.labels, index))
        return whole if self.fixed is None else replace(whole, fixed=self.fixed.take(index, index=torch.arange(len(index))))

    def seen(self, views: Views) -> "FileSet":
        """The images of `views`, always augmented in the same way; still in their files."""
        whole = replace(self, files=self.files.take(views.index.numpy()), labels=rows_at(self.labels, views.index))
        return replace(whole, fixed=views.take(torch.arange(len(views.index)), index=torch.arange(len(views.index))))

    @classmethod
    def joined(cls, sets: "list[FileSet]") -> "FileSet":
        """Several sets as one."""
        hashes = [known for s in sets for known in s.files.hashes]
        files = FileImages([entry for s in sets for entry in s.files.entries], sets[0].files.chain, hashes)
        return replace(sets[0], files=files, labels=torch.cat([s.labels for s in sets]))


class _Decoded(Dataset["Tensor | InputError"]):
    """One item per batch: a worker decodes (and, where augmentation says so, crops) all of it, and transforms it if that is strong.

    What is wrong with a file is an item, too: raised in a worker it would arrive wrapped into a traceback.
    """

    def __init__(self, files: FileImages, plan: Sequence[Views]):
        self.files, self.plan = files, plan

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, step: int) -> Tensor | InputError:
        try:
            return self._batch(step)
        except InputError as error:
            return error

    def _batch(self, step: int) -> Tensor:
        views, rows = self.plan[step], []
        for n, i in enumerate(views.index.tolist()):
            if views.crops is None or views.augment.crop is None:
                rows.append(self.files.finished(i))
            else:
                rows.append(self.files.cropped(i, partial(crop_box, draws=views.crops[n], area=views.augment.crop)))
        side = self.files.chain.config.side
        decoded = np.stack(rows) if rows else np.zeros((0, side, side, 3), np.uint8)
        images = torch.from_numpy(decoded).permute(0, 3, 1, 2).contiguous()
        return images if views.seeds is None else views.applied(images)


@dataclass(frozen=True)
class FeatureSet:
    """What a backbone makes of a set of images, in their place. values: float (N, D); labels: int64 (N,)."""

    values: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.values)

    def to(self, device: torch.device) -> "FeatureSet":
        """The set on a device."""
        return FeatureSet(self.values.to(device), self.labels.to(device))

    def take(self, index: Tensor) -> "FeatureSet":
        """A set of some of the images."""
        return FeatureSet(rows_at(self.values, index), rows_at(self.labels, index))

    def batches(self, plan: Sequence[Views]) -> Iterator[Tensor]:
        """The features of the images at each Views' index."""
        return (rows_at(self.values, views.index) for views in plan)


Images = ImageSet | FileSet


def load(name: str, root: Path = packed.PREPARED, workers: int = 0) -> Images:
    """A prepared set, e.g. 'id/train' or 'near/letters'; `workers` decode it where it was left in its files."""
    listing = packed.files(name, root)
    if listing is not None:
        files = FileImages(listing["files"], ImageChain(Chain(**listing["chain"])), listing["sha256"])
        return FileSet(files, torch.from_numpy(packed.labels(name, root)), workers=workers)
    images, labels = packed.arrays(name, root)
    values = torch.from_numpy(images)
    return ImageSet(values.permute(0, 3, 1, 2).contiguous() if values.ndim == 4 else values, torch.from_numpy(labels))


def load_all(names: list[str], root: Path = packed.PREPARED, workers: int = 0) -> Images:
    """Several prepared sets as one; in files if one of them is."""
    sets = [load(name, root, workers) for name in names]
    in_memory = [s for s in sets if isinstance(s, ImageSet)]
    if len(in_memory) == len(sets):
        return ImageSet.joined(in_memory)
    chain = next(s.files.chain for s in sets if isinstance(s, FileSet))
    return FileSet.joined([s if isinstance(s, FileSet) else _in_file(name, s, chain, root) for name, s in zip(names, sets, strict=True)])


def _in_file(name: str, images: ImageSet, chain: ImageChain, root: Path) -> FileSet:
    return rows_in_file(root / f"{packed.path_of(name)}.npy", images.labels, chain)


def rows_in_file(path: Path, labels: Tensor, chain: ImageChain, workers: int = 0) -> FileSet:
    """A packed array's images, which stay there; `workers` read ahead. What tells them from an older array's is its file's hash."""
    entries, known = [f"{path.as_posix()}#{row}" for row in range(len(labels))], sha256(path)
    return FileSet(FileImages(entries, chain, [known] * len(entries)), labels, workers=workers)


def rows_at(values: Tensor, index: Tensor) -> Tensor:
    """values[index] where the values are; the index comes from the CPU and needn't wait for what the device is still at."""
    return values[index.to(values.device, non_blocking=True)]


def to_float(images: Tensor) -> Tensor:
    """uint8 -> float32 in [0, 1]; features, which are numbers already, and words, which are none, as they are."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


def some(images: Images, count: int = 5000) -> Tensor:
    """So many of a set's images (all, where there are fewer), evenly spaced, as floats in [0, 1]: enough to know its statistics."""
    return to_float(images.some(torch.linspace(0, len(images) - 1, min(count, len(images))).round().long()))
