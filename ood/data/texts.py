"""Texts and the one chain that every text goes through: from characters to the numbers of words.

The chain is a tokenizer of the library `tokenizers`, kept as data/prepared/id/tokenizer.json: who has that file makes the same of a text.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from ood.config.text import TextChain
from ood.errors import InputError
from ood.handover import checked

PAD, UNKNOWN = "<pad>", "<unk>"  # behind a text that is shorter than others; for every word that isn't in the vocabulary
TOKENIZER = "tokenizer.json"
# What corpora do to characters: it says where a text was published, not what it says.
CONVENTIONS = (
    (r"<[A-Za-z/][^<>]*>", " "),  # tags, and <unk>, <email>, <number>
    *(
        (f"&{name};", character)
        for name, character in (("quot", '"'), ("apos", "'"), ("lt", "<"), ("gt", ">"), ("nbsp", " "), ("amp", "&"))
    ),
    (r"&#\d+;", " "),
    (r"(?i)-l[rcs]b-", "("),  # Penn Treebank's brackets
    (r"(?i)-r[rcs]b-", ")"),
    (r" @([-,.])@ ", "$1"),  # WikiText's hyphens and commas inside words
    (r"``|''|“|”", '"'),
    (r"[‘’`]", "'"),
    (r"\\([/*])", "$1"),
)


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
        """A hash of every text's letters and digits, whatever its case, blanks and punctuation."""
        normal = _normalizer(self.chain.conventions == "undo", lower=True)
        plain = ("".join(c for c in normal.normalize_str(text) if c.isalnum()) or text for text in self.texts)
        return [hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32] for text in plain]


@cache
def _normalizer(undo: bool, lower: bool) -> normalizers.Normalizer:
    steps: list[normalizers.Normalizer] = [normalizers.NFC()]
    if undo:
        for pattern, plain in CONVENTIONS:
            steps += _replaced(pattern, plain)
    return normalizers.Sequence([*steps, *([normalizers.Lowercase()] if lower else [])])


def _replaced(pattern: str, plain: str) -> list[normalizers.Normalizer]:
    """The library puts characters, not groups, in a pattern's place: a group becomes one step for each character that it may be."""
    if "$1" not in plain:
        return [normalizers.Replace(Regex(pattern), plain)]
    start, inside, end = pattern.partition("(")[0], pattern[pattern.index("[") + 1 : pattern.index("]")], pattern.partition(")")[2]
    return [normalizers.Replace(Regex(f"{start}\\{character}{end}"), character) for character in inside]


def fitted(texts: Iterable[str], chain: TextChain) -> Tokenizer:
    """The chain as a tokenizer, its vocabulary from these texts (those of ID training): number 0 pads, 1 is every other word."""
    trainer = trainers.WordLevelTrainer(
        vocab_size=chain.words + 2, min_frequency=chain.least, special_tokens=[PAD, UNKNOWN], show_progress=False
    )
    learner = _splitting(models.WordLevel(unk_token=UNKNOWN), chain)
    learner.train_from_iterator(texts, trainer)
    # Another with these words, none of them special: special ones are found in a text before anything else, and a <pad> would end it.
    tokenizer = _splitting(models.WordLevel(learner.get_vocab(), unk_token=UNKNOWN), chain)
    tokenizer.enable_truncation(chain.length)
    tokenizer.enable_padding(pad_id=0, pad_token=PAD, length=chain.length)
    return tokenizer


def _splitting(model: models.Model, chain: TextChain) -> Tokenizer:
    """A tokenizer that splits at blanks and around every mark of punctuation."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = _normalizer(chain.conventions == "undo", chain.lower)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("isolated")])
    return tokenizer


def tokens(tokenizer: Tokenizer, texts: Iterable[str]) -> NDArray[np.int32]:
    """Numbers of words int32 (N, length), 0 behind a text's end; a text without any word is one unknown word."""
    rows = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    found = np.array([row.ids for row in rows], np.int32).reshape(len(rows), -1)
    found[found[:, 0] == 0, 0] = 1
    return found


def read(path: Path, stage: str | None) -> Tokenizer:
    """A tokenizer that `fitted` made.

    Raises:
        InputError: it isn't there, or is damaged.
    """
    content = checked(path, stage).read_text(encoding="utf-8")
    try:
        return Tokenizer.from_str(content)
    except Exception as error:  # the library's own, a plain Exception
        raise InputError(f"{path}: can't be read as a tokenizer ({error}).") from None
