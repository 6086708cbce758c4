"""Texts: where they come from, and the one chain that every text goes through (data.kind: text)."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from ood.config import Place, Section, distinct, place
from ood.config.bounds import Count, Limit

Length = Annotated[int, Field(ge=1, le=4096)]  # tokens of a text; transformers' encoders read 512, the longest published ones 4096


class TextChain(Section):
    """What happens to every text of every set, so that no corpus's way of writing tells ID from OOD.

    lower: to lower case; false only where all sets are written alike: in the OE paper's code ID kept its capitals and outliers had lost
    theirs. conventions: what is done about marks of a corpus that say where a text comes from, not what it says (tags and entities of HTML,
    -LRB-, @-@): undo, or keep; <unk> and the like become an unknown word. punctuation: keep, or drop: a mark at the end, or quotes that one
    corpus has lost, tell it from the others. length: words that the network sees of a text, from its beginning. words: the vocabulary is
    the most frequent so many words of the ID training texts, of those that stand in them `least` times; every other word is one and the
    same. tokenizer: instead of such a vocabulary that of a given network: its tokenizer.json (of the library tokenizers), the folder where
    that lies, or a name on the hub; what else stands here is done to a text before.
    """

    lower: bool = True
    conventions: Literal["undo", "keep"] = "undo"
    punctuation: Literal["keep", "drop"] = "keep"
    length: Length = 64
    words: Count = 10_000
    least: Count = 1
    tokenizer: Annotated[str, AfterValidator(place)] | None = None

    @model_validator(mode="after")
    def _one_vocabulary(self) -> "TextChain":
        own = {"words": 10_000, "least": 1}
        if self.tokenizer is not None and (wrong := [name for name, plain in own.items() if getattr(self, name) != plain]):
            raise ValueError(f"{wrong[0]}: a given tokenizer has a vocabulary of its own. Set it to {own[wrong[0]]:_}")
        return self


class Tsv(Section):
    """A file of labelled texts, one a line: label, tab, text; no header, no quotes.

    classes: only these labels. limit: at most so many, spread evenly over the labels.
    """

    source: Literal["tsv"]
    path: Place
    classes: Annotated[list[str], Field(min_length=1), AfterValidator(distinct)] | None = None
    limit: Limit | None = None


class Lines(Section):
    """A file of texts without labels, one a line; `limit` of them at random."""

    source: Literal["lines"]
    path: Place
    limit: Limit | None = None


class Documents(Section):
    """A folder of text files, one text each: <path>/<class>/<name>.txt; outliers may also lie as <path>/<name>.txt.

    classes: only these folders. limit: at most so many, spread evenly over the classes.
    """

    source: Literal["documents"]
    path: Place
    classes: Annotated[list[str], Field(min_length=1), AfterValidator(distinct)] | None = None
    limit: Limit | None = None


TextSource = Tsv | Lines | Documents
TEXT_SOURCES = ("tsv", "lines", "documents")
