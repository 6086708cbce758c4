"""Texts and the one chain that every text goes through: from characters to the numbers of words.

The chain is a tokenizer of the library `tokenizers`; of it only the vocabulary is kept, as data/prepared/id/vocabulary.json, the rest is
data.text. Whoever has these two makes the same of a text.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from ood.config.text import TextChain

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else it takes every core
PAD, UNKNOWN = "<pad>", "<unk>"  # behind a text that is shorter than others; for every word that isn't in the vocabulary
VOCABULARY = "vocabulary.json"  # the words by their numbers
MISSING = "\ue000"  # of private use: what stands for a word that a corpus has taken out
TAGS = "a|b|i|u|p|br|hr|em|strong|div|span|font|img|ul|ol|li|h[1-6]|table|tr|td|th|blockquote|pre|code"
# What corpora do to characters: it says where a text was published, not what it says.
CONVENTIONS = (
    *((f"&{name};", character) for name, character in (("quot", '"'), ("apos", "'"), ("lt", "<"), ("gt", ">"), ("nbsp", " "))),
    (r"&#0*39;|&#[xX]27;", "'"),
    (r"&#0*34;|&#[xX]22;", '"'),
    ("&amp;", "&"),
    (rf"(?i)</?(?:{TAGS})(?:\s[^<>]*)?/?>", " "),
    (r"(?i)<(?:unk|email|number|url|user)>", MISSING),
    (r"(?i)-l[rcs]b-", "("),  # Penn Treebank's brackets
    (r"(?i)-r[rcs]b-", ")"),
    (r" @-@ ", "-"),  # WikiText's hyphens, points and commas inside words
    (r" @\.@ ", "."),
    (r" @,@ ", ","),
    (r"``|''|“|”", '"'),
    (r"[‘’`]", "'"),
    (r"\\/", "/"),
    (r"\\\*", "*"),
)
MARKS = frozenset(".,;:!?\"'()")  # without which two texts are still the same


class Texts:
    """Looks like an array of native images: texts, as they came.

    Args:
        chain: two texts that it makes the same characters of are one text.
    """

    def __init__(self, texts: Sequence[str], chain: TextChain):
        self.texts, self.chain = list(texts), chain

    def __len__(self) -> int:
        return len(self.texts)

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts)

    def take(self, index: NDArray[np.int64], axis: int = 0) -> "Texts":
        """The texts at `index`."""
        assert axis == 0
        return Texts([self.texts[i] for i in index], self.chain)

    def digests(self) -> list[str]:
        """A hash of every text, whatever its case, blanks and marks of punctuation, as MARKS has them."""
        found = ("".join(c for c in one if not c.isspace() and c not in MARKS) or text for one, text in zip(plain(self), self, strict=True))
        return [hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32] for text in found]


def plain(texts: Texts) -> Iterator[str]:
    """Texts without capitals and, where they are undone, without their corpora's conventions."""
    normal = _normalizer(texts.chain.conventions == "undo", lower=True)
    return (normal.normalize_str(text) for text in texts)


@cache
def _normalizer(undo: bool, lower: bool) -> normalizers.Normalizer:
    steps: list[normalizers.Normalizer] = [normalizers.NFC()]
    if undo:
        steps += [normalizers.Replace(Regex(pattern), plain) for pattern, plain in CONVENTIONS]
    return normalizers.Sequence([*steps, *([normalizers.Lowercase()] if lower else [])])


def learned(texts: Iterable[str], chain: TextChain) -> list[str]:
    """The words of these texts (of ID training), by their numbers: what stands behind an end, what stands for others, the most frequent."""
    learner = _splitting(models.WordLevel(unk_token=UNKNOWN), chain)
    learner.train_from_iterator(
        texts,
        trainers.WordLevelTrainer(
            vocab_size=chain.words + 2, min_frequency=chain.least, special_tokens=[PAD, UNKNOWN], show_progress=False
        ),
    )
    words = learner.get_vocab()
    return sorted(words, key=lambda word: words[word])


def tokenizer_of(vocabulary: Sequence[str], chain: TextChain) -> Tokenizer:
    """The chain as a tokenizer.

    None of its words is special: special ones are found in a text before anything else, and a <pad> would end it.
    """
    tokenizer = _splitting(models.WordLevel({word: number for number, word in enumerate(vocabulary)}, unk_token=UNKNOWN), chain)
    tokenizer.enable_truncation(chain.length)
    tokenizer.enable_padding(pad_id=0, pad_token=PAD, length=chain.length)
    return tokenizer


def _splitting(model: models.Model, chain: TextChain) -> Tokenizer:
    """A tokenizer that splits at blanks and around every mark of punctuation."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = _normalizer(chain.conventions == "undo", chain.lower)
    marks = pre_tokenizers.Punctuation("isolated" if chain.punctuation == "keep" else "removed")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), marks])
    return tokenizer


def tokens(tokenizer: Tokenizer, texts: Iterable[str]) -> NDArray[np.int32]:
    """Numbers of words int32 (N, length), 0 behind a text's end; a text without any word is one unknown word."""
    rows = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    found = np.array([row.ids for row in rows], np.int32).reshape(len(rows), -1)
    found[found[:, 0] == 0, 0] = 1
    return found
