"""CLIP: `clip/<folder>`, or `clip/<name on the hub>`; images through its one tower, the words of a head through the other.

A model keeps what its image tower is in its own model.json, so that it can be built where neither folder nor hub is.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoTokenizer,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from ood.config.nets import Proposed
from ood.errors import InputError
from ood.nets import hub

PREFIX = "net."  # of the names of its tensors in a Clip backbone
TOWER = ("vision_model.", "visual_projection.")


class Sayings(NamedTuple):
    """What the text tower makes of sentences, (n, d), and the temperature that CLIP was trained to divide cosines by."""

    embeddings: Tensor
    temperature: float


def described(name: str) -> dict[str, Any]:
    """What its image tower is.

    Raises:
        InputError: no CLIP there; the hub can't be reached.
    """
    whole = hub.had("net.name", name, AutoConfig.from_pretrained)
    if not isinstance(whole, CLIPConfig):
        raise InputError(f"net.name: clip/{name} is no CLIP but of the kind {whole.model_type}. Give another folder or name.")
    return hub.kept(whole.vision_config) | {"projection_dim": whole.projection_dim}


def proposed(name: str) -> Proposed | None:
    """What its weights were trained with; None where its folder doesn't say.

    Raises:
        InputError: the hub can't be reached.
    """
    if Path(name).is_dir() and not (Path(name) / "preprocessor_config.json").is_file():
        return None
    known = hub.had("net.name", name, CLIPImageProcessor.from_pretrained)
    size, cut = dict(known.size or {}), dict(known.crop_size or {})
    short = size.get("shortest_edge") or size.get("height")
    side = cut.get("height") or short
    return Proposed(list(known.image_mean), list(known.image_std), int(side), int(short), "bicubic", True, "") if side and short else None


def head(name: str) -> None:  # as every family's module has it
    """None: classes are words."""


@lru_cache(1)
def published(name: str) -> dict[str, Tensor]:
    """The weights of its image tower.

    Raises:
        InputError: there are none, or not all of them; the hub can't be reached.
    """
    return hub.whole(name, CLIPModel, lambda key: key.startswith(TOWER))[1]


@torch.no_grad()
def sayings(name: str, sentences: list[str]) -> Sayings:
    """What its text tower makes of sentences, cut where it reads no further.

    Raises:
        InputError: as `published`; no tokenizer there.
    """
    whole: Any = hub.whole(name, CLIPModel, lambda key: True)[0]
    tokenizer = hub.had("net.weights", name, AutoTokenizer.from_pretrained)
    length = whole.config.text_config.max_position_embeddings
    rows = []
    for sentence in sentences:  # one by one: what is made of a sentence doesn't depend on its company
        given = tokenizer(sentence, truncation=True, max_length=length, return_tensors="pt")
        rows.append(whole.text_projection(whole.text_model(**given).pooler_output)[0])
    return Sayings(torch.stack(rows), float(1 / whole.logit_scale.exp()))


class Clip(nn.Module):
    """Normalised images (N, 3, H, W) -> their embeddings (N, d), of whatever length."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(pixel_values=x).image_embeds


def backbone(name: str, *, size: int, config: dict[str, Any] | None = None, blank: bool = False) -> tuple[nn.Module, int]:
    """Its image tower, and how many numbers an embedding has.

    Args:
        size: pixels along a side. config: what it is; None: that which its name leads to. blank: leave out its first weights.

    Raises:
        InputError: no such CLIP, or one for images of another size.
    """
    given = described(name) if config is None else config
    try:
        if given.get("model_type") != CLIPVisionConfig.model_type:
            raise ValueError(f"of the kind {given.get('model_type')}")
        known = CLIPVisionConfig(**hub.bounded(given))
        if known.image_size != size:
            raise InputError(f"net.name: clip/{name} takes images of {known.image_size} pixels; these have {size}. Change data.chain.size.")
        with hub.drawing(first=not blank):
            made = Clip(CLIPVisionModelWithProjection._from_config(known, attn_implementation=hub.ATTENTION))
        if not blank and not torch.empty(0).is_meta:
            with torch.no_grad():
                made.eval()(torch.zeros(1, 3, size, size))
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"net.name: clip/{name}: can't be built ({hub.said(error)}). Give another.") from None
    return made.train(), known.projection_dim
