"""Text encoders of the library transformers: `transformers/<folder>`, or `transformers/<name on the hub>`.

What to build stands in such a net's config.json. A model keeps that in its own model.json, so that it can be built where neither folder nor
hub is.
"""

import re
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from ood.distributed import longest
from ood.errors import InputError
from ood.nets import hub
from ood.nets.layers import Dropout, replace

PREFIX = "net."  # of the names of its tensors in a Transformer backbone
POOLING = "1_Pooling/config.json"  # where sentence-transformers has written the folder
Pooling = Literal["mean", "first"]


def described(name: str) -> dict[str, Any]:
    """An encoder's config.json.

    Raises:
        InputError: there is none, or none that transformers knows; the hub can't be reached.
    """
    return hub.kept(hub.had("net.name", name, AutoConfig.from_pretrained))


def published(name: str) -> dict[str, Tensor]:
    """The weights beside config.json.

    Raises:
        InputError: there are none, or not all of them; the hub can't be reached.
    """
    return hub.whole(name, AutoModel, lambda key: not key.startswith("pooler."))[1]


def pooling(name: str) -> Pooling | None:
    """How a folder says that the states of its words become a text's; None where it doesn't, or otherwise than we can."""
    path = Path(name) / POOLING
    said = path.read_text(encoding="utf-8") if path.is_file() else ""
    if re.search(r'"pooling_mode_cls_token":\s*true', said):
        return "first"
    return "mean" if re.search(r'"pooling_mode_mean_tokens":\s*true', said) else None


class Transformer(nn.Module):
    """Numbers of words int (N, L), as ood.data.texts has them -> (N, width): the mean of the last layer's states over a text's words, or
    that of its first word, which of encoders like BERT is the mark of a text's beginning. Nobody looks at what stands behind the end.
    """

    def __init__(self, net: nn.Module, pooling: Pooling, dropout: float, pad: int):
        super().__init__()
        self.net, self.pooling, self.pad, self.dropout = net, pooling, pad, Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            x = x[:, : longest((x != 0).sum(1))]  # quicker; else never, so that a text's features don't depend on its company
        seen = x != 0
        states = self.net(input_ids=torch.where(seen, x - 1, self.pad).long(), attention_mask=seen.long()).last_hidden_state
        if self.pooling == "first":
            return self.dropout(states[:, 0])
        counted = seen[:, :, None].to(states.dtype)
        return self.dropout((states * counted).sum(1) / counted.sum(1))


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

    Its layers' own dropout is drawn as ours is; in the attention, whose weights we can't reach, there is none.

    Args:
        size: words that it reads of a text. vocabulary: how many numbers words have, that behind an end among them.
        config: its config.json; None: that which its name leads to. blank: leave out its first weights, others will take their place.

    Raises:
        InputError: no such encoder, or one that can't be built, or not for such texts.
    """
    given = described(name) if config is None else config
    without = {key: 0.0 for key in given if re.search(r"att.*drop", key)}
    try:
        known = AutoConfig.for_model(**given | without)
        if (count := known.vocab_size) < vocabulary - 1:
            wrong = f"has {vocabulary - 1:,} words, transformers/{name} {count:,}"
            raise InputError(f"data.text.tokenizer: {wrong}. Give the one that belongs to it.")
        with hub.drawing(first=not blank):
            net = AutoModel.from_config(known, dtype=torch.float32, trust_remote_code=False)
        net.pooler = None  # what some have for tasks of their own
        replace(net, nn.Dropout, lambda layer: Dropout(layer.p))
        made = Transformer(net, pooling, dropout, known.pad_token_id or 0)
        if not blank and not torch.empty(0).is_meta:
            with torch.no_grad():
                made.eval()(torch.ones(1, size, dtype=torch.int32))
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"net.name: transformers/{name}: can't be built for texts of {size} words ({hub.said(error)}). Lower data.text.length, or "
            "take an encoder such as BERT."
        ) from None
    return made.train(), known.hidden_size
