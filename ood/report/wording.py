"""A report on texts: its sentences are those on images, with the other word."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from ood.report.blocks import Block, Fold, Gallery, Section, Table, Text
from ood.wording import of_texts


def block_of_texts(block: Block, names: Collection[str]) -> Block:
    """The same block about texts. Cells, and what people have named, stay as they are."""
    match block:
        case Text():
            return replace(block, said=of_texts(block.said, names))
        case Table():
            return replace(block, header=[of_texts(cell, names) for cell in block.header])
        case Gallery():
            return replace(block, title=of_texts(block.title, names))
        case Fold():
            return replace(block, title=of_texts(block.title, names), blocks=[block_of_texts(one, names) for one in block.blocks])
        case _:
            return block


def sections_of_texts(sections: Sequence[Section], names: Collection[str]) -> list[Section]:
    """The same for all of a page."""
    return [replace(section, blocks=[block_of_texts(block, names) for block in section.blocks]) for section in sections]
