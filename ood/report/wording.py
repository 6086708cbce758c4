"""A report on texts: its sentences are those on images, with the other word."""

import re
from collections.abc import Sequence
from dataclasses import replace

from ood.report.blocks import Block, Fold, Gallery, Section, Table, Text

IMAGE = re.compile(r"`[^`]*`|\b(an )?([Ii])mage(s?)\b")  # what stands in backquotes is a name


def of_texts(block: Block) -> Block:
    """The same block about texts. Cells and what people have named stay as they are."""
    match block:
        case Text():
            return replace(block, said=_said(block.said))
        case Table():
            return replace(block, header=[_said(cell) for cell in block.header])
        case Gallery():
            return replace(block, title=_said(block.title))
        case Fold():
            return replace(block, title=_said(block.title), blocks=[of_texts(one) for one in block.blocks])
        case _:
            return block


def sections_of_texts(sections: Sequence[Section]) -> list[Section]:
    """The same for all of a page."""
    return [replace(section, blocks=[of_texts(block) for block in section.blocks]) for section in sections]


def _said(text: str) -> str:
    def other(found: re.Match[str]) -> str:
        if not found[2]:
            return found[0]
        return f"{'a ' if found[1] else ''}{'T' if found[2] == 'I' else 't'}ext{found[3]}"

    return IMAGE.sub(other, text)
