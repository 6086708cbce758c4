"""Text encoders of the library transformers: `transformers/<folder>`, or `transformers/<name on the hub>`.

What to build stands in such a net's config.json. A model keeps that in its own model.json, so that it can be built where neither folder nor
hub is.
"""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from ood.distributed import longest
from ood.errors import InputError
from ood.nets import hub
from ood.nets.layers import Dropout

PREFIX = "net."  # of the names of its tensors in a Transformer backbone
POOLING = "1_Pooling/config.json"  # where sentence-transformers has written the folder
Pooling = Literal["mean", "first"]
# Kinds that give a state of every word, which sees all others, under one interface.
ENCODERS = (
    *("albert", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "ernie", "eurobert", "modernbert", "mpnet"),
    *("nomic_bert", "roberta", "roformer", "xlm-roberta"),
)


def described(name: str) -> dict[str, Any]:
    """An encoder's config.json.

    Raises:
        InputError: there is none, or none that transformers knows; the hub can't be reached.
    """
    return hub.kept(hub.had("net.name", name, AutoConfig.from_pretrained))


@lru_cache(1)  # every seed begins with them
def published(name: str) -> dict[str, Tensor]:
    """The weights beside config.json.

    Raises:
        InputError: there are none, or not all of them; the hub can't be reached.
    """
    return hub.whole(name, AutoModel, lambda key: not key.startswith("pooler."))[1]


def proposed(name: str) -> None:  # as every family's module has it
    """Nothing of images: it reads texts."""


def head(name: str) -> None:
    """None that classifies."""


def pooling(name: str) -> str | None:
    """How a folder says that the states of its words become a text's: mean, first, or in its own word; None where it doesn't."""
    path = Path(name) / POOLING
    try:
        said = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError:
        said = {}
    modes = [key.removeprefix("pooling_mode_") for key, value in said.items() if key.startswith("pooling_mode_") and value is True]
    return {"cls_token": "first", "mean_tokens": "mean"}.get(modes[0], modes[0]) if modes else None


class Transformer(nn.Module):
    """Numbers of words int (N, L), as ood.data.texts has them -> (N, width): the mean of the last layer's states over a text's words, or
    that of its first word, which of encoders like BERT is the mark of a text's beginning. Nobody looks at what stands behind the end.
    """

    def __init__(self, net: nn.Module, pooling: Pooling, dropout: float):
        super().__init__()
        self.net, self.pooling, self.dropout = net, pooling, Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            x = x[:, : longest((x != 0).sum(1))]  # quicker; else never, so that a text's features don't depend on its company
        seen = x != 0
        states = self.net(input_ids=(x - 1).clamp(min=0).long(), attention_mask=seen.long()).last_hidden_state
        if self.pooling == "first":
            return self.dropout(states[:, 0])
        counted = seen[:, :, None].to(states.dtype)
        return self.dropout((states * counted).sum(1) / counted.sum(1).clamp(min=1))


def backbone(
    name: str,
    *,
    size: int,
    vocabulary: int,
    pooling: Pooling,
    dropout: float,
    config: dict[str, Any] | None = None,
    blank: bool = False,
) -> tuple[nn.Module, int]:
    """The encoder without whatever it has on top, and its number of features.

    It has no dropout of its own (see hub.kept).

    Args:
        size: words that it reads of a text. vocabulary: how many numbers words have, that behind an end among them.
        config: its config.json; None: that which its name leads to. blank: leave out its first weights, others will take their place.

    Raises:
        InputError: no such encoder, or one that can't be built, or not for such texts.
    """
    given = described(name) if config is None else config
    if given.get("model_type") not in ENCODERS:
        known_ones = ", ".join(ENCODERS)
        raise InputError(f"net.name: transformers/{name} is of the kind {given.get('model_type')}. Known as encoders: {known_ones}.")
    try:
        known = AutoConfig.for_model(**hub.bounded(given))
        if (count := known.vocab_size) < vocabulary - 1:
            wrong = f"has {vocabulary - 1:,} words, transformers/{name} {count:,}"
            raise InputError(f"data.text.tokenizer: {wrong}. Give the one that belongs to it.")
        with hub.drawing(first=not blank):
            net = AutoModel.from_config(known, dtype=torch.float32, trust_remote_code=False, attn_implementation=hub.ATTENTION)
        net.pooler = None  # what some have for tasks of their own
        made = Transformer(net, pooling, dropout)
        if not blank and not torch.empty(0).is_meta:
            with torch.no_grad():
                made.eval()(torch.ones(1, size, dtype=torch.int32))
    except InputError:
        raise
    except Exception as error:
        why = f"can't be built for texts of {size} words ({hub.said(error)})"
        raise InputError(f"net.name: transformers/{name}: {why}. Lower data.text.length, or take another encoder.") from None
    return made.train(), known.hidden_size
