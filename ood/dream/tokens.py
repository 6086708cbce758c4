"""From class words to places in a prompt, and vectors put there before the text transformer (the paper's token injection)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ood.dream.parts import TextEncoder, Tokenizer
from ood.errors import InputError


@dataclass(frozen=True)
class Placed:
    """A prompt as padded token ids, shape (length,), and the positions that a vector takes."""

    ids: list[int]
    positions: list[int]


def place(tokenizer: Tokenizer, prompt: str, word: str, pieces: str = "whole") -> Placed:
    """Find a word in a prompt, token by token, at every place where it stands.

    Args:
        word: one word or several ("golden retriever"). pieces: see config.dream.Prompts; with 'whole' a word of several tokens becomes
            one place.

    Raises:
        InputError: the word isn't in the prompt, or lies beyond the tokens that the encoder reads, or is split and must not be.
    """
    length, end = tokenizer.model_max_length, tokenizer.eos_token_id
    ids, wanted = tokenizer(prompt)["input_ids"], piece_ids(tokenizer, word, pieces)
    ends = [token.endswith("</w>") or token == tokenizer.bos_token for token in tokenizer.convert_ids_to_tokens(ids)]
    found: list[int] = []
    positions, i = [], 0
    while i < len(ids):
        if ids[i : i + len(wanted)] == wanted and i and ends[i - 1]:  # 'nail' is no part of 'snail'
            positions.append(len(found))
            found += wanted if pieces == "first" else wanted[:1]
            i += len(wanted)
        else:
            found.append(ids[i])
            i += 1
    if not positions:
        raise InputError(f"params.yaml: prompts: the word {word!r} isn't in the prompt {prompt!r}. Correct prompts.words or prompts.names.")
    if positions[-1] >= length - 1:
        raise InputError(
            f"params.yaml: prompts: {word!r} stands beyond the {length} tokens that the text encoder reads. Shorten the prompt."
        )
    found = [*found[: length - 1], end] if len(found) > length else found
    return Placed(found + [tokenizer.pad_token_id] * (length - len(found)), positions)


def piece_ids(tokenizer: Tokenizer, word: str, pieces: str = "whole") -> list[int]:
    """The token ids of a word, without the marks of begin and end.

    Raises:
        InputError: it is split although pieces is 'refuse', or empty.
    """
    ids = tokenizer(word, add_special_tokens=False)["input_ids"]
    if not ids or tokenizer.unk_token_id in ids:
        raise InputError(f"params.yaml: prompts: the tokenizer has no tokens for {word!r}. Choose another word.")
    if pieces == "refuse" and len(ids) > 1:
        split = " + ".join(tokenizer.convert_ids_to_tokens(ids))
        raise InputError(
            f"params.yaml: prompts.words: {word!r} is split into {split}. Choose another word, or set prompts.pieces to whole."
        )
    return ids


@torch.no_grad()
def anchor(text_encoder: TextEncoder, tokenizer: Tokenizer, word: str, pieces: str = "whole") -> Tensor:
    """The frozen vector of a class: its row of the token table, before positions and transformer; shape (d,), float32 on the CPU.

    A word of several pieces: the first one's row ('first'), else the mean direction of all, at their mean norm.
    """
    ids = piece_ids(tokenizer, word, pieces)
    rows = text_encoder.get_input_embeddings().weight[ids].float().cpu()
    if pieces == "first" or len(ids) == 1:
        return rows[0].clone()
    return nn.functional.normalize(rows.mean(0), dim=0) * rows.norm(dim=1).mean()


def anchors(text_encoder: TextEncoder, tokenizer: Tokenizer, words: Sequence[str], pieces: str = "whole") -> Tensor:
    """Those of several words, (len(words), d)."""
    return torch.stack([anchor(text_encoder, tokenizer, word, pieces) for word in words])


@contextmanager
def injected(text_encoder: TextEncoder, positions: list[list[int]], vectors: Tensor) -> Iterator[None]:
    """Within: sample b of a batch has vectors[b] as token embedding at positions[b]. A hook; no weight is touched.

    Args:
        vectors: (B, d).
    """
    rows = [b for b, places in enumerate(positions) for _ in places]
    columns = [place for places in positions for place in places]

    def put(_module: nn.Module, _inputs: tuple, output: Tensor) -> Tensor:
        output = output.clone()
        output[rows, columns] = vectors[rows].to(output)
        return output

    handle = text_encoder.get_input_embeddings().register_forward_hook(put)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def encode(text_encoder: TextEncoder, placed: list[Placed], vectors: Tensor | None) -> Tensor:
    """The text encoder's last hidden state, (B, length, d), with the vectors in their places (None: the prompts as they are)."""
    ids = torch.tensor([p.ids for p in placed], device=text_encoder.device)
    if vectors is None:
        return text_encoder(input_ids=ids).last_hidden_state
    with injected(text_encoder, [p.positions for p in placed], vectors.to(text_encoder.device)):
        return text_encoder(input_ids=ids).last_hidden_state
