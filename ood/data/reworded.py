"""Texts that say almost the same: the same words in another order, one more or one less, in longer texts another.

Two texts are alike when of the words that either has four in five are in both (Jaccard similarity of the sets of words), whatever case
and punctuation. What isn't found: the same thing said in other words.
"""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ood.data.texts import MARKS, Texts, plain
from ood.errors import InputError

SHARED = (4, 5)  # of the words that either has, the share that both have, as a fraction: exact
BLOCK = 10_000_000  # comparisons at a time
MOST = 200_000_000  # comparisons: half a minute; lines of a log, all after one pattern, would take as many as they have pairs
SPACES = str.maketrans(dict.fromkeys(MARKS, " "))


def pairs(texts: Texts) -> NDArray:
    """Every two that are alike: int64 (P, 2), the smaller index first, sorted.

    Two sets that share so many words have one of their rarest words in common (prefix filtering, Chaudhuri et al. 2006), so that only
    texts with such a word in common are compared.

    Raises:
        InputError: too many texts are written after one pattern.
    """
    from scipy.sparse import csr_array  # which `check` need not load

    rows = [sorted(found) for found in _rarest_first(texts)]
    sizes = np.array([len(row) for row in rows], np.int64)
    shared, of = SHARED
    prefixes = [row[: len(row) - -(-len(row) * shared // of) + 1] for row in rows]
    width = 1 + max((row[-1] for row in rows if row), default=0)

    def matrix(some: list[list[int]]) -> csr_array:
        ends = np.cumsum([0, *map(len, some)])
        return csr_array(
            (np.ones(ends[-1], np.int32), np.fromiter((w for row in some for w in row), np.int64), ends), shape=(len(some), width)
        )

    words, rare = matrix(rows), matrix(prefixes)
    columns, found = rare.T.tocsr(), []
    for start, end in _blocks(rare @ columns.sum(1)):
        candidates = (rare[start:end] @ columns).tocoo()
        one, other = candidates.row.astype(np.int64) + start, candidates.col.astype(np.int64)
        fair = (one < other) & (of * np.minimum(sizes[one], sizes[other]) >= shared * np.maximum(sizes[one], sizes[other]))
        one, other = one[fair], other[fair]
        for part in np.array_split(np.arange(len(one)), 1 + len(one) // 100_000):
            both = words[one[part]].multiply(words[other[part]]).sum(1)
            alike = of * both >= shared * (sizes[one[part]] + sizes[other[part]] - both)
            found.append(np.stack([one[part][alike], other[part][alike]], axis=1))
    all_ = np.concatenate(found or [np.empty((0, 2), np.int64)])
    return all_[np.lexsort((all_[:, 1], all_[:, 0]))]


def _blocks(comparisons: NDArray) -> list[tuple[int, int]]:
    """Texts from where to where are compared at a time, of as many comparisons as each has."""
    before = np.cumsum(comparisons.astype(np.int64))
    if len(before) and before[-1] > MOST:
        raise InputError(
            f"{len(before):,} ID texts are too much alike to be compared with each other: it would take {before[-1]:,} comparisons, at "
            f"most {MOST:,} are made. Set data.near_duplicates to apart."
        )
    ends = [0, *(1 + np.flatnonzero(np.diff(before // BLOCK))).tolist(), len(before)]
    return [(start, end) for start, end in pairwise(ends) if start < end]


def _rarest_first(texts: Texts) -> Iterable[set[int]]:
    """The words of each text, numbered from the rarest; a text without any has itself as its only one."""
    sets = [set(line.translate(SPACES).split()) or {line} for line in plain(texts)]
    seen: dict[str, int] = {}
    for words in sets:
        for word in words:
            seen[word] = seen.get(word, 0) + 1
    numbers = {word: number for number, word in enumerate(sorted(seen, key=lambda word: (seen[word], word)))}
    return ({numbers[word] for word in words} for words in sets)
