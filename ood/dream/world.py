"""What the small diffusion model learns from: ID training images by class name, and the captioned world beyond them."""

from pathlib import Path

import torch
from torch import Tensor

from ood.config import Params
from ood.config.dream import Prompts
from ood.config.naming import Naming
from ood.data import packed
from ood.data.sets import Images, load
from ood.dream.small import Captioned
from ood.errors import InputError


def naming(params: Params) -> Naming:
    """What captions need of the prompts section, and no more: a change of its other keys trains no diffusion model again."""
    return Naming(template=params[Prompts].template, names=params[Prompts].names)


def captioned(prompts: Naming, root: Path = packed.PREPARED) -> Captioned:
    """ID training images and every set of the world.

    Raises:
        InputError: the world has a thing by the name of an ID class, two classes have one name, prompts.names lists no class.
    """
    labels = packed.info(root).classes
    known_labels(prompts, labels)
    names = [prompts.name(label) for label in labels]
    inliers = load("id/train", root)
    images, captions = [everything(inliers)], [inliers.labels]
    said = {name.lower(): index for index, name in enumerate(names)}
    if len(said) < len(names):
        raise InputError("params.yaml: prompts.names: two ID classes have the same name in prompts. Give each its own.")
    for name in packed.names("world", root):
        words = packed.words(name, root)
        clash = {word.lower() for word in words} & {name.lower() for name in [*labels, *map(prompts.name, labels)]}
        if clash:
            raise InputError(f"params.yaml: data.{name.replace('/', '.')}: {sorted(clash)[0]!r} is the name of an ID class. Take it out.")
        for word in words:
            if word.lower() not in said:
                said[word.lower()] = len(names)
                names.append(word)
        images.append(everything(load(name, root)))
        captions.append(torch.tensor([said[word.lower()] for word in words]))
    return Captioned(torch.cat(images), torch.cat(captions), [prompts.template.format(name=name) for name in names], inliers=len(inliers))


def everything(images: Images) -> Tensor:
    """All images of a set, uint8 (N, 3, side, side): the pipeline that is trained here is small, and so are they."""
    return images.some(torch.arange(len(images)))


def known_labels(prompts: Naming, labels: list[str]) -> None:
    """Refuse names of classes that don't exist.

    Raises:
        InputError: naming the key and the classes there are.
    """
    unknown = [label for label in prompts.names if label not in labels]
    if unknown:
        raise InputError(f"params.yaml: prompts.names: {unknown[0]!r} is no ID class. They are: {', '.join(labels)}.")
