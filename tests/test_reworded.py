"""Texts that say almost the same: found as by comparing each with each, and never on two sides of the split."""

import random
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from ood.config import Params
from ood.config.data import Data, InDistribution, Split
from ood.config.text import TextChain, Tsv
from ood.data import alike, catalog, reworded
from ood.data.chain import ImageChain
from ood.data.texts import Texts
from ood.errors import InputError

DATA = Params(ROOT / "params.yaml")[Data].model_copy(update={"kind": "text", "min_per_class": 2})
SPLIT = Split(train=0.5, val=0.2, calibration=0.1, test=0.2)
WORDS = [f"word{i}" for i in range(500)]


def texts(*some: str) -> Texts:
    return Texts(some, TextChain())


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=7).map(" ".join), max_size=30))
@settings(max_examples=200, deadline=None)
def test_as_by_comparing_each_with_each(some):
    sets = [set(text.split()) or {text} for text in some]
    expected = [
        [i, j]
        for i in range(len(some))
        for j in range(i + 1, len(some))
        if 5 * len(sets[i] & sets[j]) >= 4 * len(sets[i] | sets[j])  # of whole numbers: a float's 0.8 is more than four fifths
    ]
    assert reworded.pairs(texts(*some)).tolist() == expected


def test_in_blocks_as_at_once(monkeypatch):
    rng = random.Random(0)
    some = [" ".join(rng.choices(WORDS[:40], k=rng.randint(1, 6))) for _ in range(300)]
    whole = reworded.pairs(texts(*some))
    assert len(whole) > 20
    monkeypatch.setattr(reworded, "BLOCK", 50)
    assert reworded.pairs(texts(*some)).tolist() == whole.tolist()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Please book me a table for two at noon", "book me a table for two at noon", True),
        ("What IS the state nickname of Mississippi ?", "what is the nickname of the state mississippi", True),
        ("how do i say hello in french", "how do i say hello in german", False),  # 6 of 8
        ("what is c# ?", "what is c++ ?", False),
        ("?!", "?!", True),
        ("?!", "...", False),
        ("&quot;a&quot; b", '" a " b', True),
    ],
)
def test_what_is_alike(one, other, same):
    assert reworded.pairs(texts("something else", one, other)).tolist() == ([[1, 2]] if same else [])


def test_texts_after_one_pattern_are_refused_before_memory_is_gone(monkeypatch):
    lines = [f"user {i} logged in from the office at noon on monday" for i in range(100)]
    assert len(reworded.pairs(texts(*lines))) == 100 * 99 / 2
    monkeypatch.setattr(reworded, "MOST", 10_000)
    with pytest.raises(InputError, match=r"100 ID texts .* 20,100 comparisons, .* data.near_duplicates to apart"):
        reworded.pairs(texts(*lines))


def rewritten(text: str) -> str:
    """One more word, and the others in another order."""
    return " ".join([*reversed(text.split()), "please"])


def table(path: Path, *, seed: int = 1, each: int = 30, again: int = 8) -> Path:
    """Classes of texts of ten words, some of them once more."""
    rng, rows = random.Random(seed), []
    for label in range(3):
        some = [" ".join(rng.sample(WORDS, 10)) for _ in range(each)]
        rows += [f"class-{label}\t{text}" for text in (*some, *map(rewritten, some[:again]))]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def built(path: Path, **changes: object) -> tuple[dict, list[str]]:
    own = {key: changes.pop(key) for key in ("split", "test", "calibration") if key in changes}
    own = InDistribution(images=Tsv(source="tsv", path=path), **({"split": SPLIT} | own))
    data, notices = DATA.model_copy(update={"id": own, **changes}), []
    return catalog._in_distribution(data, ImageChain(data.chain), lambda: None, notices), notices


def crossing(sets: dict) -> int:
    """Pairs that are alike, in two parts of the split."""
    part = np.repeat(np.arange(len(sets)), [len(items) for items in sets.values()])
    found = reworded.pairs(texts(*(text for items in sets.values() for text in items.images)))
    return int((part[found[:, 0]] != part[found[:, 1]]).sum())


def test_what_says_the_same_stays_on_one_side_and_calibrates_once(tmp_path):
    path = table(tmp_path / "id.tsv")
    sets, notices = built(path)
    assert crossing(sets) == 0
    assert notices == ["48 ID pictures look like another of their class, 24 groups; each stays on one side of the split"]
    held = sets["calibration/id"]
    assert len(alike.groups(len(held), reworded.pairs(held.images))) == len(held)
    assert not len(reworded.pairs(held.images)), "of a group one: what a threshold promises rests on draws of their own"
    apart, silent = built(path, near_duplicates="apart")
    assert crossing(apart) > 0, "else nothing is shown"
    assert silent == []


def test_test_texts_of_another_source_that_say_what_training_does_are_counted(tmp_path):
    path, other = table(tmp_path / "id.tsv", again=0), tmp_path / "test.tsv"
    first = path.read_text().splitlines()[0].split("\t")[1]
    rows = table(tmp_path / "more.tsv", seed=2, again=0).read_text().splitlines()
    other.write_text("\n".join([*rows, f"class-0\t{rewritten(first)}"]) + "\n")
    test = Tsv(source="tsv", path=other)
    _, notices = built(path, split=Split(train=0.8, val=0.2, test=0.0), test=test)
    name = f"test.tsv:{len(rows) + 1}"
    assert notices == [f"1 of {len(rows) + 1} ID test pictures look like one for training or validation (first: {name})"]
    assert built(path, split=Split(train=0.8, val=0.2, test=0.0), test=test, near_duplicates="apart")[1] == []


def test_calibration_may_have_a_source_of_its_own(tmp_path):
    path, other = table(tmp_path / "id.tsv", again=0), table(tmp_path / "mine.tsv", seed=2, each=10, again=4)
    first = path.read_text().splitlines()[0].split("\t")[1]
    other.write_text(f"{other.read_text()}class-0\t{rewritten(first)}\n")
    split = Split(train=0.6, val=0.2, test=0.2)
    sets, notices = built(path, split=split, calibration=Tsv(source="tsv", path=other))
    held = sets["calibration/id"]
    assert len(held) == 3 * 10 + 1, "of those that say the same one each"
    assert held.skipped == {"that look like another": 12}
    assert not len(reworded.pairs(held.images))
    rows = dict(row.split("\t")[::-1] for row in other.read_text().splitlines())
    assert [rows[text] for text in held.images] == [held.classes[label] for label in held.labels]
    assert notices == ["1 of 31 calibration pictures look like one for training, validation or testing (first: mine.tsv:43)"]
    without, _ = built(path, split=split)
    assert {name: items.names for name, items in without.items()} == {n: i.names for n, i in sets.items() if n != "calibration/id"}


def test_of_a_class_that_is_mostly_one_text_one_calibrates(tmp_path):
    """Where it would be split it is split one by one; a source of its own isn't split."""
    path, other = table(tmp_path / "id.tsv", again=0), tmp_path / "mine.tsv"
    words = random.Random(3).sample(WORDS, 12)
    rows = [f"class-{label}\t{' '.join(words)} {label} {i}" for label in range(3) for i in range(9)]
    other.write_text(
        "\n".join([*rows, *(row for row in table(tmp_path / "more.tsv", seed=2, each=3, again=0).read_text().splitlines())]) + "\n"
    )
    sets, _ = built(path, split=Split(train=0.6, val=0.2, test=0.2), calibration=Tsv(source="tsv", path=other))
    held = sets["calibration/id"]
    assert held.skipped == {"that look like another": 27 - 3}, "one of each class, though they say the same"
    assert len(held) == 3 + 9


def test_what_is_wrong_with_calibrations_source_is_said(tmp_path):
    path, other = table(tmp_path / "id.tsv"), tmp_path / "mine.tsv"
    other.write_text("class-0\tone\nanother\ttwo\n")
    calibration = Tsv(source="tsv", path=other)
    with pytest.raises(ValueError, match=r"split.calibration keeps a share as well: set that to 0\.0"):
        built(path, calibration=calibration)
    split = Split(train=0.6, val=0.2, test=0.2)
    with pytest.raises(InputError, match=r"data.id.calibration: its classes differ"):
        built(path, split=split, calibration=calibration)
    own = InDistribution(images=Tsv(source="tsv", path=path), split=split, calibration=calibration)
    with pytest.raises(InputError, match=r"data.id.calibration: its classes differ .* \(first: another\)"):
        catalog.check(DATA.model_copy(update={"id": own}))
