"""Texts and the one chain that every text goes through: from characters to the numbers of words.

The chain is a tokenizer of the library `tokenizers`, with words that are learned here or given, kept as data/prepared/id/tokenizer.json.
Whoever has that makes the same of a text.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from ood.config.text import TextChain
from ood.errors import InputError

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else it takes every core
PAD, UNKNOWN = "<pad>", "<unk>"  # behind a text that is shorter than others; for every word that isn't in the vocabulary
TOKENIZER = "tokenizer.json"  # by the library's convention
MOST = 10**7  # words
REMEDY = f"Give a {TOKENIZER}, a folder that has one, or a name on the hub."
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
def _normalizer(undo: bool, lower: bool, drop: bool = False) -> normalizers.Normalizer:
    """drop: blanks in the place of marks of punctuation."""
    steps: list[normalizers.Normalizer] = [normalizers.NFC()]
    if undo:
        steps += [normalizers.Replace(Regex(pattern), plain) for pattern, plain in CONVENTIONS]
    if drop:
        steps.append(normalizers.Replace(Regex(r"[\p{P}$+<=>^`|~]"), " "))  # as the library's Punctuation has them
    return normalizers.Sequence([*steps, *([normalizers.Lowercase()] if lower else [])])


class Words:
    """From texts to the numbers of their words: int32, 0 behind a text's end, a word's number one more than the tokenizer's.

    Args:
        tokenizer: splits a text and knows the words, marks of its own at a text's ends among them. length: words that are read of a text.

    Raises:
        ValueError: those marks leave no room for a word, or aren't known themselves; it can't read.
    """

    def __init__(self, tokenizer: Tokenizer, length: int):
        self.tokenizer, self.length = tokenizer, length
        if (marks := tokenizer.num_special_tokens_to_add(False)) >= length:
            raise ValueError(f"its {marks} marks at a text's ends leave no room for a word within data.text.length ({length})")
        if self.count > MOST:
            raise ValueError(f"numbers up to {self.count:,}, and {MOST:,} are allowed")
        tokenizer.encode_special_tokens = True  # what looks like such a mark inside a text is only text
        if getattr(tokenizer.model, "dropout", None):
            tokenizer.model.dropout = None  # one text, one answer
        tokenizer.no_padding()
        tokenizer.enable_truncation(length)
        if int(self.numbers(["a 一"]).max()) >= self.count:
            raise ValueError("its marks at a text's ends are none of its words")

    @classmethod
    def learned(cls, texts: Iterable[str], chain: TextChain) -> "Words":
        """Those of these texts (of ID training): one that stands for all others, then the most frequent."""
        learner = _splitting(models.WordLevel(unk_token=UNKNOWN), chain)
        size, least = chain.words + 1, chain.least
        learner.train_from_iterator(
            texts, trainers.WordLevelTrainer(vocab_size=size, min_frequency=least, special_tokens=[UNKNOWN], show_progress=False)
        )
        return cls(_splitting(models.WordLevel(learner.get_vocab(), unk_token=UNKNOWN), chain), chain.length)  # now none of them is special

    @classmethod
    def given(cls, chain: TextChain) -> "Words":
        """Those of `chain.tokenizer`.

        Raises:
            InputError: there is none, it can't be read, or isn't for texts of this length.
        """
        assert chain.tokenizer is not None  # who asks has looked
        try:
            tokenizer = _read(Tokenizer.from_file, os.fspath(_file(chain.tokenizer)))
        except InputError:
            raise
        except Exception as error:  # of the hub's library and of Rust, each with errors of its own
            said = " ".join(str(error).split())[:200]
            raise InputError(f"data.text.tokenizer: {chain.tokenizer}: can't be read ({said}). {REMEDY}") from None
        ours = _normalizer(chain.conventions == "undo", chain.lower, chain.punctuation == "drop")
        tokenizer.normalizer = ours if tokenizer.normalizer is None else normalizers.Sequence([ours, tokenizer.normalizer])
        try:
            return cls(tokenizer, chain.length)
        except ValueError as error:
            raise InputError(f"data.text.tokenizer: {chain.tokenizer}: {error}. Take another, or change what it names.") from None

    @classmethod
    def read(cls, content: bytes, length: int) -> "Words":
        """What `write` wrote.

        Raises:
            ValueError: it is no tokenizer, or none for texts of this length.
        """
        return cls(_read(Tokenizer.from_str, content.decode()), length)

    def write(self, path: Path) -> None:
        """All of it but the length."""
        path.write_text(self.tokenizer.to_str(), encoding="utf-8")

    @property
    def count(self) -> int:
        """How many numbers there are, that behind an end among them."""
        return 2 + max(self.tokenizer.get_vocab().values(), default=-1)

    @property
    def names(self) -> list[str]:
        """The words by their numbers; that of a number without one is empty."""
        words = {number: word for word, number in self.tokenizer.get_vocab().items()}
        return [PAD, *(words.get(number, "") for number in range(self.count - 1))]

    @cached_property
    def unknown(self) -> int | None:
        """The number of what stands for words that aren't known; None of a tokenizer that knows all, for it reads bytes."""
        model = json.loads(self.tokenizer.to_str())["model"]  # of Unigram there is no other way to ask
        mark = model.get("unk_token")
        found = model.get("unk_id") if mark is None else self.tokenizer.token_to_id(mark)
        return None if found is None else 1 + found

    @property
    def knows_capitals(self) -> bool:
        """Whether it has words with some."""
        return any(word != word.lower() for word in self.tokenizer.get_vocab() if word.isalpha())

    def numbers(self, texts: Iterable[str]) -> NDArray[np.int32]:
        """Numbers of words int32 (N, length); a text without any is one unknown word, or the first that there is.

        Raises:
            ValueError: a text can't be read.
        """
        rows = _read(self.tokenizer.encode_batch, list(texts))
        found = np.zeros((len(rows), self.length), np.int32)
        for target, row in zip(found, rows, strict=True):
            target[: len(row.ids)] = np.array(row.ids, np.int32) + 1
        found[found[:, 0] == 0, 0] = self.unknown or 1
        return found

    def has_any(self, text: str) -> bool:
        """Whether there is a word in it: more than blanks, once it has gone through the chain.

        Raises:
            ValueError: it can't be read.
        """
        left = text if self.tokenizer.normalizer is None else _read(self.tokenizer.normalizer.normalize_str, text)
        return bool(left.replace("▁", " ").strip()) and bool(_read(self.tokenizer.encode, text, add_special_tokens=False).ids)


def _read(reads: Callable[..., Any], *given: Any, **options: Any) -> Any:
    """What the library makes of a text. Its panics are no Exceptions, and would end whoever reads the next one, too."""
    try:
        return reads(*given, **options)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise ValueError(" ".join(str(error).split())[:200]) from None


def _file(source: str) -> Path:
    """Where a tokenizer is, brought from the hub if need be."""
    place = Path(source)
    if place.is_dir() and not (place / TOKENIZER).is_file():
        raise InputError(f"data.text.tokenizer: {place} has no {TOKENIZER}. {REMEDY}")
    if place.exists():
        return place / TOKENIZER if place.is_dir() else place
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?(@[\w.-]+)?", source) or place.suffix == ".json":
        raise InputError(f"data.text.tokenizer: {place}: no such file. {REMEDY}")
    from huggingface_hub import hf_hub_download

    name, _, revision = source.partition("@")
    return Path(hf_hub_download(name, TOKENIZER, revision=revision or None))


def _splitting(model: models.Model, chain: TextChain) -> Tokenizer:
    """A tokenizer that splits at blanks and around every mark of punctuation."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = _normalizer(chain.conventions == "undo", chain.lower)
    marks = pre_tokenizers.Punctuation("isolated" if chain.punctuation == "keep" else "removed")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), marks])
    return tokenizer
