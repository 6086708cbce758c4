"""Heads made of words: a class's weights are the direction of its name, so that logits are cosines over a temperature."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ood.config import training as config
from ood.config.nets import Net
from ood.errors import InputError
from ood.nets import Classifier


def least_alike(words: Tensor, anchors: Tensor, share: float) -> Tensor:
    """Of embeddings (M, d) the share that is least like the anchors (C, d), by the cosine that a twentieth of those exceeds: NegLabel's
    choice of words. In their order.
    """
    alike = (F.normalize(words, dim=1) @ F.normalize(anchors, dim=1).T).quantile(0.95, dim=1)
    count = max(1, round(share * len(words)))
    return words[alike.argsort(stable=True)[:count].sort().values]


def over(words: Tensor, temperature: float) -> Tensor:
    """Embeddings (M, d) as rows of a head on L2-normalised features."""
    return F.normalize(words, dim=1) / temperature


class Words(NamedTuple):
    """Embeddings of the classes (C, d) and of words that are no class (M, d), and what their cosines are divided by."""

    anchors: Tensor
    negatives: Tensor | None
    temperature: float


def read(net: Net, own: "config.Words", classes: list[str]) -> Words:
    """What a CLIP's own text tower makes of class names and of words that are no class.

    Raises:
        InputError: it can't be had; it tells two of them apart by nothing.
    """
    from ood.nets import clip  # and with it transformers, which only such nets need

    assert net.clip is not None  # config.whole has looked
    asked = [*map(own.prompt, classes), *(own.template.format(name=word) for word in own.negatives or [])]
    found = clip.sayings(net.clip, asked)
    alike = F.normalize(found.embeddings, dim=1) @ F.normalize(found.embeddings, dim=1).T
    alike.fill_diagonal_(0)
    if alike.max() > 1 - 1e-6:
        one, other = divmod(int(alike.argmax()), len(asked))
        raise InputError(
            f"words: {net.name} makes the same of {asked[one]!r} and {asked[other]!r}. Give other names or a shorter template; is its "
            "tokenizer there?"
        )
    anchors, rest = found.embeddings[: len(classes)], found.embeddings[len(classes) :]
    negatives = least_alike(rest, anchors, own.share) if len(rest) else None
    return Words(anchors, negatives, own.temperature or found.temperature)


@torch.no_grad()
def put(classifier: Classifier, anchors: Tensor, negatives: Tensor | None, temperature: float) -> None:
    """Give a network that normalises its features the head that `Words` are."""
    classifier.fc.weight.copy_(over(anchors, temperature))
    classifier.fc.bias.zero_()
    if negatives is not None and classifier.negatives is not None:
        classifier.negatives.copy_(over(negatives, temperature))
