"""Classifiers: a backbone that gives features, and a head that turns features into logits.

build(name, num_classes=..., size=...) -> Classifier. Names: see ood.config.nets.FAMILIES.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn

from ood.config.nets import FAMILIES, Net
from ood.distributed import repeated
from ood.errors import InputError

CIFAR_MEAN = (125.3 / 255, 123.0 / 255, 113.9 / 255)  # the OE and UM papers' normalisation
CIFAR_STD = (63.0 / 255, 62.1 / 255, 66.7 / 255)


class Classifier(nn.Module):
    """A backbone and a linear head, with the input normalisation inside.

    Args:
        backbone: (N, 3, H, W), normalised -> features (N, width), pooled, raw.
        size: the H = W that it is built for.
        normalize: L2-normalise the features in front of the head, in training and testing (the L2 paper, Algorithm 1).
        mean, std: input normalisation in [0, 1] units.
        confident: with a branch beside the head that says how sure the network is (DeVries and Taylor 2018). turns: with one that says
            which quarter turn an image is seen in (Hendrycks et al. 2019).
        negatives: of one whose head is made of words, how many it has that are no class (see scores.NegLabel).
        vocabulary: of one that reads texts, how many numbers words have: it takes int32 (N, size), 0 behind the end, in the images' place.

    `made` says what it was built as, in words; two that differ there compute differently with the same weights.
    """

    made: str
    mean: Tensor
    std: Tensor
    negatives: Tensor | None

    def __init__(
        self,
        backbone: nn.Module,
        width: int,
        num_classes: int,
        *,
        size: int,
        normalize: bool = False,
        mean: tuple[float, ...] | list[float] = CIFAR_MEAN,
        std: tuple[float, ...] | list[float] = CIFAR_STD,
        confident: bool = False,
        turns: bool = False,
        negatives: int = 0,
        vocabulary: int | None = None,
    ):
        super().__init__()
        self.backbone = backbone
        self.fc = nn.Linear(width, num_classes)
        nn.init.zeros_(self.fc.bias)
        self.confidence = nn.Linear(width, 1) if confident else None
        self.rotation = nn.Linear(width, 4) if turns else None
        self.register_buffer("negatives", torch.zeros(negatives, width) if negatives else None)
        self.size, self.normalize, self.vocabulary, self.made = size, normalize, vocabulary, ""
        # Not persistent: they are data facts, kept in model.json, and not learned.
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    @property
    def sees(self) -> bool:
        """Whether the backbone begins with something that it takes from images before it learns (airbench's whitening)."""
        return hasattr(self.backbone, "see")

    def see(self, images: Tensor) -> None:
        """Let it take that from training images in [0, 1], (N, 3, size, size); nothing where it takes none."""
        see = getattr(self.backbone, "see", None)
        if see is not None:
            see((images - self.mean) / self.std)

    def features(self, x: Tensor) -> Tensor:
        """Images in [0, 1], (N, 3, size, size), or texts -> raw features (N, D): penultimate, pooled, before any normalisation.

        Raises:
            ValueError: images of another size.
        """
        if self.vocabulary is not None:
            return self.backbone(x)
        if x.shape[1:] != (3, self.size, self.size):
            raise ValueError(f"this net takes (N, 3, {self.size}, {self.size}), it was given {tuple(x.shape)}")
        return self.backbone((x - self.mean) / self.std)

    def head(self, features: Tensor) -> Tensor:
        """Raw features (N, D) -> logits (N, C), in single precision whatever the backbone computes in: scores live on small differences."""
        with torch.autocast(features.device.type, enabled=False):
            return self.fc(self._seen(features))

    def head_with_confidence(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Raw features (N, D) -> logits (N, C) and those of confidence (N,), of a network with that branch."""
        assert self.confidence is not None  # who asks has given it one
        with torch.autocast(features.device.type, enabled=False):
            return self.head(features), self.confidence(self._seen(features)).squeeze(1)

    def with_turns(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images (N, 3, size, size) -> their logits (N, C), and those of the turn that each is seen in, turn by turn (4 N, 4)."""
        assert self.rotation is not None  # who asks has given it one
        with repeated(4):
            raw = self.features(torch.cat([torch.rot90(x, turn, (2, 3)) for turn in range(4)]))
        with torch.autocast(raw.device.type, enabled=False):
            return self.head(raw[: len(x)]), self.rotation(self._seen(raw))

    def _seen(self, features: Tensor) -> Tensor:
        exact = features if features.dtype == torch.float64 else features.float()
        return F.normalize(exact, dim=1) if self.normalize else exact

    def with_confidence(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images -> logits, and those of confidence (see `head_with_confidence`)."""
        return self.head_with_confidence(self.features(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class Exact(nn.Linear):
    """A linear layer in single precision, whatever what is in front of it computes in."""

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.to(self.weight.dtype))


def build(
    net: Net | str,
    *,
    num_classes: int,
    size: int = 32,
    normalize: bool = False,
    mean: tuple[float, ...] | list[float] = CIFAR_MEAN,
    std: tuple[float, ...] | list[float] = CIFAR_STD,
    confident: bool = False,
    turns: bool = False,
    negatives: int = 0,
    vocabulary: int | None = None,
    projection: int | None = None,
    config: dict[str, Any] | None = None,
    blank: bool = False,
    **options: Any,
) -> Classifier:
    """A freshly initialised network.

    Args:
        net: its section, or its name ('wrn_40_2') with `options` (dropout, affine, stem, ...; see config.nets.Net).
        normalize: L2-normalise features in front of the head. confident, turns, negatives: see `Classifier`. vocabulary: of a network that
            reads texts, how many numbers words have; size is then how many words a text has. projection: a linear layer between the named
            network and the head, to so many features. config: what an encoder or a CLIP is (its module's `described`); None: its name
            leads there. blank: leave out the first weights of such a one.

    Raises:
        InputError: no such name, an impossible depth, an option that it doesn't know, an image size that it can't take.
    """
    try:
        spec = Net(name=net, **options) if isinstance(net, str) else net
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(["net", *map(str, problem["loc"])])
        raise InputError(f"{where} {net!r}: {problem['msg'].removeprefix('Value error, ')}.") from None
    if reason := spec.misfit(size, text=vocabulary is not None):
        raise InputError(f"net.name: {reason}. Change data.chain.size (or upsize), or the net.")
    given = {name: getattr(spec, name) for name in FAMILIES[spec.family].options}
    if vocabulary is not None:
        given["vocabulary"] = vocabulary
    if spec.transformers or spec.clip:
        given |= {"config": config, "blank": blank}
    backbone, width = constructor(spec.family)(*spec.arguments, size=size, **given)
    if projection is not None:
        backbone, width = nn.Sequential(backbone, Exact(width, projection)), projection
    made = Classifier(
        backbone,
        width,
        num_classes,
        size=size,
        normalize=normalize,
        mean=mean,
        std=std,
        confident=confident,
        turns=turns,
        negatives=negatives,
        vocabulary=vocabulary,
    )
    made.made = f"{spec.model_dump(exclude={'name', 'weights'})} {config}" if config else str(spec.model_dump(exclude={"weights"}))
    return made


def constructor(family: str) -> Callable[..., tuple[nn.Module, int]]:
    """numbers of its name, size, options -> (backbone, number of features); loads only that family's module."""
    match family:
        case "wrn":
            from ood.nets import wrn

            return wrn.backbone
        case "densenet_bc":
            from ood.nets import densenet

            return densenet.backbone
        case "airbench":
            from ood.nets import airbench

            return airbench.backbone
        case "allconv":
            from ood.nets import allconv

            return allconv.backbone
        case "resnet":
            from ood.nets import resnet

            return resnet.backbone
        case "cifar_resnet":
            from ood.nets import cifar_resnet

            return cifar_resnet.backbone
        case "vgg":
            from ood.nets import vgg

            return vgg.backbone
        case "cct":
            from ood.nets import cct

            return cct.backbone
        case "convnext":
            from ood.nets import convnext

            return convnext.backbone
        case "gru":
            from ood.nets import gru

            return gru.backbone
        case "transformers":
            from ood.nets import transformer

            return transformer.backbone
        case "clip":
            from ood.nets import clip

            return clip.backbone
        case "timm":
            from ood.nets import given

            return given.backbone
        case _:
            from ood.nets import mnist

            return mnist.backbone
