"""Words of the captioned world that are no ID class."""

from pathlib import Path

from ood.config.dream import Prompts
from ood.data import packed


def other_words(prompts: Prompts, root: Path = packed.PREPARED) -> list[str]:
    """What captions of the world name, each once, without the ID classes."""
    known = {name.lower() for label in packed.info(root).classes for name in (label, prompts.name(label), prompts.word(label))}
    found = {word.lower(): word for name in packed.names("world", root) for word in packed.words(name, root)}
    return [word for key, word in found.items() if key not in known]
