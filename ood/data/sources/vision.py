"""Data sets of torchvision and of pytorch-ood by name, from disk or downloaded by these libraries, which check most of what they fetch."""

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from ood.config.data import PytorchOOD, Torchvision
from ood.data.chain import ImageChain
from ood.data.items import ItemSet, outliers
from ood.errors import InputError

# What each data set calls its parts; those that aren't listed take train=True or False.
PARTS: dict[str, dict[str, list[dict[str, Any]]]] = {
    "SVHN": {"train": [{"split": "train"}], "test": [{"split": "test"}]},
    "GTSRB": {"train": [{"split": "train"}], "test": [{"split": "test"}]},
    "DTD": {"train": [{"split": "train"}, {"split": "val"}], "test": [{"split": "test"}]},
    "Places365": {"train": [{"split": "train-standard", "small": True}], "test": [{"split": "val", "small": True}]},
    "Omniglot": {"train": [{"background": True}], "test": [{"background": False}]},
}
PLAIN = {"train": [{"train": True}], "test": [{"train": False}]}


def load(source: Torchvision, chain: ImageChain, rng: np.random.Generator, tick: Callable[[], None]) -> ItemSet:
    """The images of a split, of the listed classes, at most `limit` of them (drawn at random).

    Raises:
        InputError: the files are neither on disk nor to be had.
    """
    from torchvision import (
        datasets,  # a second of import that the embedded data doesn't need
    )

    parts = PARTS.get(source.name, PLAIN)
    wanted = [(split, part) for split in ("train", "test") if source.split in (split, "all") for part in parts[split]]
    opened = [_open(getattr(datasets, source.name), source, **part) for _, part in wanted]
    labels = np.concatenate([_labels(part) for part in opened])
    classes = list(getattr(opened[0], "classes", map(str, range(int(labels.max()) + 1))))
    keep = np.arange(len(labels))
    if source.classes is not None:
        unknown = [c for c in source.classes if not 0 <= c < len(classes)]
        if unknown:
            raise InputError(f"{source.name} has no class {unknown[0]}; it has 0 to {len(classes) - 1}.")
        keep = keep[np.isin(labels, source.classes)]
        position = {c: i for i, c in enumerate(source.classes)}
        labels = np.array([position.get(int(label), -1) for label in labels], np.int64)
        classes = [classes[c] for c in source.classes]
    keep = _some(keep, source.limit, rng)
    starts = np.cumsum([0, *map(len, opened)])
    images, names = [], []
    for i in keep:
        part = int(np.searchsorted(starts, i, side="right")) - 1
        row = int(i - starts[part])
        picture = _picture(opened[part], row)
        images.append(chain.native(ImageOps.invert(_as_image(picture)) if source.invert else picture))
        names.append("/".join([source.name, *map(str, dict.fromkeys([wanted[part][0], *_called(wanted[part][1])])), str(row)]))
        tick()
    return ItemSet(np.stack(images), labels[keep], names, [(name,) for name in names], classes)


def load_outliers(source: PytorchOOD, chain: ImageChain, rng: np.random.Generator, tick: Callable[[], None]) -> ItemSet:
    """The images of a set of pytorch-ood, at most `limit` of them (drawn at random).

    Raises:
        InputError: the files are neither on disk nor to be had.
    """
    from pytorch_ood.dataset import img

    dataset = _open(getattr(img, source.name), source)
    keep = _some(np.arange(len(dataset)), source.limit, rng)
    images = []
    for i in keep:
        images.append(chain.native(dataset[int(i)][0]))
        tick()
    names = [f"{source.name}/{i}" for i in keep]
    return outliers(images, names, [(name,) for name in names])


def _open(kind: Callable[..., Any], source: Torchvision | PytorchOOD, **part: Any) -> Any:
    try:
        return kind(str(source.root), download=source.download, **part)
    except (RuntimeError, OSError) as error:
        what = f"{source.name}, {source.split}," if hasattr(source, "split") else source.name
        tried = "could not be downloaded" if source.download else "is not to be downloaded (download: false)"
        raise InputError(
            f"{what} is not in {source.root} and {tried}: {error}. Put the files there under the names that {source.source} gives them "
            f"(docs/data.md), or choose another source."
        ) from None


def _called(part: dict[str, Any]) -> list[str]:
    """What a data set itself calls a part, where it has a word for it."""
    return [value for value in part.values() if isinstance(value, str)]


def _labels(dataset: Any) -> np.ndarray:
    for name in ("targets", "labels", "_labels"):
        if hasattr(dataset, name):
            return np.asarray(getattr(dataset, name), np.int64)
    return np.array([dataset[i][1] for i in range(len(dataset))], np.int64)


def _picture(dataset: Any, row: int) -> Any:
    """An array where the data set is one, else what the data set makes of it."""
    if not hasattr(dataset, "data"):
        return dataset[row][0]
    image = np.asarray(dataset.data[row])
    return image.transpose(1, 2, 0) if type(dataset).__name__ == "SVHN" else image


def _as_image(picture: Any) -> Image.Image:
    """Grey or RGB: what can be inverted."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _some(indices: np.ndarray, limit: int | None, rng: np.random.Generator) -> np.ndarray:
    return indices if limit is None or limit >= len(indices) else np.sort(rng.choice(indices, limit, replace=False))
