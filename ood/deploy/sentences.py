"""What people hand to a detector of texts: a string, or several, in lists and generators; a string is a text, never a file's name."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ood.data.reading import UnreadableError
from ood.data.texts import Words
from ood.deploy.pictures import Picture
from ood.errors import InputError

LONGEST = 10**6  # characters of a text; of a longer one nobody can have meant the first few words


class Sentences:
    """Reads texts. words: of the data that the detector was made from."""

    def __init__(self, words: Words):
        self.words = words

    def is_one(self, given: Any) -> bool:
        """Whether it is a single text, to which a single verdict is the answer."""
        return isinstance(given, str)

    def each(self, given: Any) -> Iterator[Picture]:
        """The texts in it, in order, each named by itself; what is no text by its place.

        Raises:
            InputError: something else than texts. Within a list or generator that is a source: the rest goes on.
        """
        if self.is_one(given):
            yield Picture(given, given)
        elif isinstance(given, Iterable) and not isinstance(given, bytes | bytearray | dict | os.PathLike):
            for place, text in enumerate(given):
                yield Picture(text, text) if isinstance(text, str) else Picture(str(place), InputError(_wrong(text)))
        else:
            raise InputError(_wrong(given))

    def look(self, text: Picture) -> Tensor:
        """What the networks look at: numbers of words, int32 (length,).

        Raises:
            UnreadableError: it is no text.
        """
        source = text.source
        if not isinstance(source, str):
            raise UnreadableError(str(source))
        if not source.strip():
            raise UnreadableError("an empty text.")
        if len(source) > LONGEST:
            raise UnreadableError(f"has {len(source):,} characters, and {LONGEST:,} are allowed.")
        readable = source.encode("utf-8", "replace").decode()
        if not self.words.has_any(readable):
            raise UnreadableError("no word in it.")
        return torch.from_numpy(self.words.numbers([readable])[0])


def _wrong(given: Any) -> str:
    what = "a path" if isinstance(given, Path | os.PathLike) else type(given).__name__
    return f"{what}: no text. Give a string, or several; of a file what is in it."
