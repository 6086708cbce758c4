"""What a report is made of, whoever renders it: sections of paragraphs, tables, figures and pictures.

A block's `str` is what a terminal shows of it, in Markdown; ood.report.page makes HTML of it.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ood.drawing import short

SHARP = 48  # pixels up to which a picture is kept as it is, and enlarged without smoothing
QUOTED = 280  # characters that are shown of a text
LARGEST = 128  # pixels that a picture has at most: twice what is shown, for fine screens


@dataclass(frozen=True)
class Text:
    """A paragraph. said: in Markdown, of which `code` and **bold** are used. warning: whether it speaks against figures on the page."""

    said: str
    warning: bool = False

    def __str__(self) -> str:
        return self.said


@dataclass(frozen=True)
class Table:
    """Cells of plain text, names in the first column."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        """A Markdown table whose columns also line up as plain text."""
        table = [list(self.header), *[list(row) for row in self.rows]]
        widths = [max(len(row[i]) for row in table) for i in range(len(self.header))]
        rule = ["-" * width for width in widths]
        lines = [table[0], rule, *table[1:]]
        return "\n".join("| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines)


@dataclass(frozen=True)
class Figure:
    """A drawing. svg: an element to stand in a page (ood.drawing.svg). alt: what it shows, for who can't see it. caption: below it."""

    svg: str
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """A small image. data: as the address that holds it. lines: below it."""

    data: str
    alt: str
    lines: tuple[str, ...] = ()
    sharp: bool = False

    @classmethod
    def of(cls, image: NDArray[np.uint8], alt: str, *lines: str) -> "Picture":
        """Of an image uint8 (H, W, 3): a small one as it is (PNG), a larger one reduced (JPEG)."""
        drawn, stream = Image.fromarray(image), io.BytesIO()
        sharp = max(drawn.size) <= SHARP
        if sharp:
            grey = (image == image[..., :1]).all()
            (drawn.convert("L") if grey else drawn).save(stream, "PNG")
        else:
            drawn.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
            drawn.save(stream, "JPEG", quality=80)
        kind = "png" if sharp else "jpeg"
        return cls(f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}", alt, lines, sharp)


@dataclass(frozen=True)
class Quote:
    """A text in a picture's place. lines: below it."""

    text: str
    lines: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: str, *lines: str) -> "Quote":
        """Of any text: its beginning."""
        return cls(short(" ".join(text.split()), QUOTED), lines)


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side, or texts, under a title."""

    title: str
    pictures: Sequence[Picture | Quote]


@dataclass(frozen=True)
class Row:
    """Figures beside each other where there is room."""

    figures: Sequence[Figure]


@dataclass(frozen=True)
class Listing:
    """Text as it is in a file."""

    text: str


@dataclass(frozen=True)
class Fold:
    """Blocks that show when their title is asked for; open: from the beginning."""

    title: str
    blocks: "Sequence[Block]"
    open: bool = False


Block = Text | Table | Figure | Gallery | Row | Listing | Fold


@dataclass(frozen=True)
class Section:
    """A part of the page. key: what its address ends in. Without blocks it isn't shown."""

    key: str
    title: str
    blocks: Sequence[Block] = field(default_factory=tuple)


def given(text: str, table: Table | None) -> list[Block]:
    """A table under a paragraph; nothing where there is no table."""
    return [] if table is None else [Text(text), table]
