"""A CLIP tokenizer of one's own: byte-pair encoding learned from captions, in the format that Stable Diffusion's has."""

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

SPECIAL = ("<|startoftext|>", "<|endoftext|>")


def learn(captions: list[str], length: int | None = None, merges: int = 4000) -> "CLIPTokenizer":
    """A transformers CLIPTokenizer whose vocabulary is CLIP's scheme: 256 bytes, the same ending a word, merges, two marks.

    Args:
        captions: what to learn merges from; words that occur end up as one token unless `merges` runs out.
        length: tokens that a prompt is padded or cut to; None: what the longest caption needs and a little room, at most
            Stable Diffusion's 77. Short prompts train faster.
    """
    from tokenizers import pre_tokenizers
    from transformers import CLIPTokenizer

    rules = CLIPTokenizer().backend_tokenizer  # its normaliser and its way to split words
    words: Counter[tuple[str, ...]] = Counter()
    for caption in captions:
        for word, _ in rules.pre_tokenizer.pre_tokenize_str(rules.normalizer.normalize_str(caption)):
            words[(*word[:-1], f"{word[-1]}</w>")] += 1
    pairs = _merges(words, merges)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(f"{letter}</w>" for letter in alphabet), *("".join(pair) for pair in pairs), *SPECIAL]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    made = CLIPTokenizer(vocab=vocabulary, merges=pairs, model_max_length=77)
    longest = max(len(ids) for ids in made(captions)["input_ids"])
    made.model_max_length = length or min(77, -(-(longest + 2) // 8) * 8)
    return made


def _merges(words: Counter[tuple[str, ...]], most: int) -> list[tuple[str, str]]:
    """Byte-pair encoding (Sennrich et al., 2016): again and again the most frequent pair of neighbours becomes one.

    The tokenizers library learns the same, but breaks ties by hashes that differ from process to process; here the first in the alphabet
    wins, so that equal captions give equal bytes.
    """
    found: list[tuple[str, str]] = []
    while len(found) < most:
        counts: Counter[tuple[str, str]] = Counter()
        for word, count in words.items():
            for pair in pairwise(word):
                counts[pair] += count
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        found.append(best)
        merged: Counter[tuple[str, ...]] = Counter()
        for word, count in words.items():
            merged[_merge(word, best)] += count
        words = merged
    return found


def _merge(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    parts, i = [], 0
    while i < len(word):
        if word[i : i + 2] == pair:
            parts.append(word[i] + word[i + 1])
            i += 2
        else:
            parts.append(word[i])
            i += 1
    return tuple(parts)


def save(tokenizer: "CLIPTokenizer", folder: Path) -> None:
    """Write it as today's transformers does, and as vocab.json and merges.txt, which everything else reads."""
    tokenizer.save_pretrained(folder)
    tokenizer.backend_tokenizer.model.save(str(folder))
