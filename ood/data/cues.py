"""What one word tells, or how many there are: a text benchmark may be solved by a mark that stands in every ID text and in few others."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ood.data import packed
from ood.data.texts import TOKENIZER, Words

TELLING = 0.75  # AUROC from which a word alone is worth a line


class Cue(NamedTuple):
    """A word, None: any that isn't in the vocabulary. inside, outside: shares of ID validation texts and of outliers that have it; tests:
    test set -> AUROC of its presence."""

    word: str | None
    inside: float
    outside: float
    tests: dict[str, float]

    def told(self, role: str) -> str:
        """In a line."""
        mean = float(np.mean(list(self.tests.values())))
        word = "any word that isn't in the vocabulary" if self.word is None else repr(self.word)
        remedy = (
            "" if self.word is None or any(c.isalnum() for c in self.word) else ". data.text.punctuation: drop takes marks out of all sets"
        )
        return (
            f"one word tells: {word} stands in {self.inside:.1%} of id/val and in {self.outside:.1%} of {role}; whether it is there "
            f"tells the OOD test sets from ID with AUROC {mean:.1%}{remedy}"
        )


def found(root: Path) -> dict[str, Cue]:
    """Role -> the word whose presence tells ID best from that role's, where it tells much.

    Of ID the validation texts: in those for training there is no word that isn't in the vocabulary, unless data.text cuts it.
    """
    words = Words.read((root / "id" / TOKENIZER).read_bytes(), packed.info(root).side)
    names = words.names
    inside, cues = _shares(root, ["id/val"], len(names)), {}
    for role in ("auxiliary", "validation"):
        outside = _shares(root, packed.names(role, root), len(names))
        best = int(np.abs(inside - outside)[1:].argmax()) + 1  # what stands behind an end is no word
        if 0.5 + abs(inside[best] - outside[best]) / 2 >= TELLING:
            sign = np.sign(inside[best] - outside[best])
            known = _shares(root, ["id/test"], len(names))[best]
            tested = [name for group in ("near", "far") for name in packed.names(group, root)]
            tests = {name: float(0.5 + sign * (known - _shares(root, [name], len(names))[best]) / 2) for name in tested}
            word = None if best == words.unknown else names[best]
            cues[role] = Cue(word, float(inside[best]), float(outside[best]), tests)
    return cues


def lengths(root: Path) -> list[str]:
    """A line for each role whose outliers how many words a text has tells from ID validation texts, as far as they are read."""
    inside, known = (_lengths(root, [f"id/{part}"]) for part in ("val", "test"))
    said = []
    for role in ("auxiliary", "validation"):
        longer = _longer(_lengths(root, packed.names(role, root)), inside)
        if max(longer, 1 - longer) >= TELLING:
            tests = [_longer(_lengths(root, [name]), known) for group in ("near", "far") for name in packed.names(group, root)]
            mean = float(np.mean(tests if longer > 0.5 else [1 - test for test in tests]))
            said.append(
                f"length tells: {np.median(inside):.0f} words in id/val and {np.median(_lengths(root, packed.names(role, root))):.0f} in "
                f"{role} (medians, of at most data.text.length); that alone tells the OOD test sets from ID with AUROC {mean:.1%}"
            )
    return said


def _lengths(root: Path, names: list[str]) -> NDArray[np.int64]:
    """How many words of each text are read."""
    return np.concatenate([(packed.arrays(name, root)[0] > 0).sum(1) for name in names])


def _longer(outside: NDArray[np.int64], inside: NDArray[np.int64]) -> float:
    """The share of pairs in which the outlier is the longer one, equals half: AUROC of length."""
    below = np.searchsorted(np.sort(inside), outside, side="left") + np.searchsorted(np.sort(inside), outside, side="right")
    return float(below.mean() / 2 / len(inside))


def _shares(root: Path, names: list[str], count: int) -> NDArray[np.float64]:
    """Of every word the share of texts that have it, (count,)."""
    total, seen = 0, np.zeros(count)
    for name in names:
        values = packed.arrays(name, root)[0]
        total += len(values)
        for row in values:
            seen[np.unique(row)] += 1
    return seen / max(total, 1)
