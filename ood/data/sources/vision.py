"""Data sets of torchvision by name, from disk or downloaded."""

from collections.abc import Callable

import numpy as np

from ood.config.data import Torchvision
from ood.data.chain import ImageChain
from ood.data.items import ItemSet
from ood.errors import InputError


def load(source: Torchvision, chain: ImageChain, rng: np.random.Generator, tick: Callable[[], None]) -> ItemSet:
    """The images of a split, of the listed classes, at most `limit` of them (drawn at random).

    Raises:
        InputError: the files are neither on disk nor to be had.
    """
    from torchvision import (
        datasets,  # a second of import that the embedded data doesn't need
    )

    split = {"split": source.split} if source.name == "SVHN" else {"train": source.split == "train"}
    try:
        dataset = getattr(datasets, source.name)(str(source.root), download=source.download, **split)
    except (RuntimeError, OSError) as error:
        raise InputError(
            f"{source.name} ({source.split}) is not in {source.root} and could not be downloaded ({error}). Put torchvision's "
            f"files for it into {source.root}, or choose another source."
        ) from None
    data = np.asarray(dataset.data)
    if source.name == "SVHN":
        data = data.transpose(0, 2, 3, 1)
    labels = np.asarray(getattr(dataset, "labels", None) if source.name == "SVHN" else dataset.targets, np.int64)
    classes = list(getattr(dataset, "classes", map(str, range(10))))
    keep = np.arange(len(data))
    if source.classes is not None:
        unknown = [c for c in source.classes if not 0 <= c < len(classes)]
        if unknown:
            raise InputError(f"{source.name} has no class {unknown[0]}; it has 0 to {len(classes) - 1}.")
        keep = keep[np.isin(labels, source.classes)]
        position = {c: i for i, c in enumerate(source.classes)}
        labels = np.array([position.get(int(label), -1) for label in labels], np.int64)
        classes = [classes[c] for c in source.classes]
    if source.limit is not None and source.limit < len(keep):
        keep = np.sort(rng.choice(keep, source.limit, replace=False))
    images = []
    for i in keep:
        images.append(chain.native(data[i]))
        tick()
    names = [f"{source.name}/{source.split}/{i}" for i in keep]
    return ItemSet(np.stack(images), labels[keep], names, [(name,) for name in names], classes)
