"""Pictures that look the same: found as by comparing each with each, and never on two sides of the split."""

import io
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from ood.config import Params
from ood.config.data import Chain, Data, Folder, InDistribution, Split
from ood.data import alike, catalog, near
from ood.data.chain import ImageChain

RNG = np.random.default_rng
CHAIN = Chain(size=64, mean=[0.5] * 3, std=[0.5] * 3)
DATA = Params(ROOT / "params.yaml")[Data]
SPLIT = Split(train=0.6, val=0.2, test=0.2)


def scene(seed: int) -> Image.Image:
    """A picture with shapes at all scales, as photographs have."""
    rng = RNG(seed)
    layers = [
        Image.fromarray(rng.integers(0, 255, (side, side, 3)).astype(np.uint8)).resize((128, 96), Image.Resampling.BICUBIC)
        for side in (3, 6, 12, 24)
    ]
    mixed = np.average([np.asarray(layer, float) for layer in layers], axis=0, weights=(4, 3, 2, 1))
    return Image.fromarray(((mixed - mixed.min()) / np.ptp(mixed) * 255).astype(np.uint8))


def again(picture: Image.Image, kind: str) -> Image.Image:
    """The same picture, as it comes back from elsewhere."""
    match kind:
        case "encoded":
            stream = io.BytesIO()
            picture.save(stream, "JPEG", quality=30)
            return Image.open(stream)
        case "smaller":
            return picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BICUBIC)
        case "burst":  # a pixel further, a little darker, a little blurred
            moved = picture.crop((1, 1, picture.width, picture.height)).filter(ImageFilter.GaussianBlur(0.7))
            return Image.fromarray((np.asarray(moved) * 0.96).astype(np.uint8))
        case _:
            return picture.convert("RGBA")


def looks(pictures: list[Image.Image]) -> alike.Looks:
    chain = ImageChain(CHAIN)
    return alike.looks([alike.look(chain.native(picture)) for picture in pictures])


@pytest.mark.parametrize("kind", ["encoded", "smaller", "burst", "mode"])
def test_the_same_picture_is_alike_however_it_comes_back(kind):
    pictures = [scene(i) for i in range(12)]
    found = alike.pairs(looks([*pictures, *(again(picture, kind) for picture in pictures)]))
    assert found.tolist() == [[i, i + 12] for i in range(12)]


def test_it_takes_both_the_hash_and_the_thumbnail():
    """White on black has the hash of a fainter one, and other pictures have the same mean colours."""
    picture = scene(0)
    faint = Image.fromarray((np.asarray(picture) // 4 + 90).astype(np.uint8))
    one = looks([picture, faint])
    assert np.bitwise_count(one.hashes[0] ^ one.hashes[1]) <= alike.BITS
    assert len(alike.pairs(one)) == 0


def test_small_things_in_a_blue_sky_are_not_alike():
    """Their hashes may agree by chance, and their thumbnails are of one colour."""
    rng, skies = RNG(0), []
    for _ in range(2):
        sky = np.full((64, 64, 3), (90, 130, 180), np.uint8)
        x, y = rng.integers(16, 40, 2)
        sky[y : y + 6, x : x + 8] = rng.integers(0, 90, 3)
        skies.append(Image.fromarray(sky))
    thumbnails = looks(skies).thumbnails
    assert np.sqrt(np.mean((thumbnails[0].astype(float) - thumbnails[1]) ** 2)) < alike.LEVELS
    assert not alike._alike(thumbnails, np.array([[0, 1]]))[0]
    again_ = looks([skies[0], again(skies[0], "encoded"), Image.new("RGB", (64, 64), "white"), Image.new("RGB", (80, 80), "white")])
    assert alike.pairs(again_).tolist() == [[0, 1], [2, 3]]


@given(st.integers(0, 300), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_pairs_are_those_of_comparing_each_with_each(count, seed):
    rng = RNG(seed)
    centres = rng.integers(0, 2**63, 6, dtype=np.uint64)[rng.integers(0, 6, count)]
    flips = (rng.random((count, 64)) < 0.08) @ (np.uint64(1) << np.arange(64, dtype=np.uint64))
    thumbnails = np.clip(rng.integers(60, 200, (6, 192))[rng.integers(0, 6, count)] + rng.integers(-30, 30, (count, 192)), 0, 255)
    all_ = alike.Looks(centres ^ flips.astype(np.uint64), thumbnails.astype(np.uint8))
    expected = [
        [i, j]
        for i in range(count)
        for j in range(i + 1, count)
        if int(all_.hashes[i] ^ all_.hashes[j]).bit_count() <= alike.BITS and alike._alike(all_.thumbnails, np.array([[i, j]]))[0]
    ]
    found = alike.pairs(all_).tolist()
    assert found == expected


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.integers(0, 99), st.lists(st.floats(0, 1), min_size=1, max_size=2))
@settings(max_examples=100, deadline=None)
def test_units_follow_each_other_and_are_never_cut(units, seed, shares):
    units, cuts = np.array(units), sorted(int(share * len(units)) for share in shares)
    order, moved = near.together(RNG(seed).permutation(len(units)), units, cuts)
    assert sorted(order) == list(range(len(units)))
    assert moved == sorted(moved)
    sides = [set(units[part]) for part in np.split(order, moved)]
    assert sum(map(len, sides)) == len(set(units)), "each on one side"
    if len(set(units)) == len(units):
        assert moved == cuts
        assert order.tolist() == RNG(seed).permutation(len(units)).tolist()


def folder(path: Path, classes: int = 3, scenes: int = 14, doubled: int = 6) -> Path:
    """Classes of scenes, some of them once more."""
    for label in range(classes):
        (path / f"class-{label}").mkdir(parents=True)
        for i in range(scenes):
            picture = scene(100 * label + i)
            picture.save(path / f"class-{label}/{i:02d}.png")
            if i < doubled:
                for kind in ("encoded", "burst"):
                    again(picture, kind).save(path / f"class-{label}/{i:02d}-{kind}.png")
    return path


def built(path: Path, **changes: object) -> tuple[dict, list[str]]:
    own = InDistribution(images=Folder(source="folder", path=path), split=changes.pop("split", SPLIT), test=changes.pop("test", None))
    data = DATA.model_copy(update={"id": own, "chain": CHAIN, "min_per_class": 2, **changes})
    notices: list[str] = []
    return catalog._in_distribution(data, ImageChain(data.chain), lambda: None, notices), notices


def sides(sets: dict) -> dict[str, set[str]]:
    """Class and number of a scene -> the parts of the split that it is in."""
    found: dict[str, set[str]] = {}
    for name, items in sets.items():
        for item in items.names:
            found.setdefault(item.split(".")[0].split("-e")[0].split("-b")[0], set()).add(name)
    return found


@pytest.mark.parametrize("stream", [False, True])
def test_what_looks_the_same_stays_on_one_side(tmp_path, stream):
    path = folder(tmp_path / "images")
    sets, notices = built(path, stream=stream)
    assert max(len(parts) for parts in sides(sets).values()) == 1
    assert notices == ["54 ID pictures look like another of their class, 18 groups; each stays on one side of the split"]
    counts = [len(sets[name]) for name in ("id/train", "id/val", "id/test")]
    assert sum(counts) == 78
    assert np.abs(np.subtract(counts, [48, 15, 15])).max() <= 6, "near the shares"
    apart, silent = built(path, stream=stream, near_duplicates="apart")
    assert max(len(parts) for parts in sides(apart).values()) > 1, "else nothing is shown"
    assert silent == []


def test_without_near_duplicates_the_split_is_what_it_was(tmp_path):
    path = folder(tmp_path / "images", doubled=0)
    (one, notices), (other, _) = built(path), built(path, near_duplicates="apart")
    assert notices == []
    assert {name: items.names for name, items in one.items()} == {name: items.names for name, items in other.items()}


def test_small_pictures_are_not_compared(tmp_path):
    """At eight pixels every digit looks like another."""
    path = folder(tmp_path / "images")
    _, notices = built(path, chain=CHAIN.model_copy(update={"size": 16}))
    assert notices == []


def test_a_class_that_looks_alike_by_nature_is_split_one_by_one(tmp_path):
    path = folder(tmp_path / "images", doubled=0)
    (path / "class-3").mkdir()
    for i in range(12):
        noisy = np.asarray(scene(999)) + RNG(i).integers(-5, 6, (96, 128, 3))
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(path / f"class-3/{i}.png")
    sets, notices = built(path)
    assert notices == ["most pictures of class 'class-3' look alike; they are split one by one"]
    assert [int((items.labels == 3).sum()) for items in sets.values()] == [7, 3, 2]


def test_nearly_one_picture_under_two_classes_is_said(tmp_path):
    path = folder(tmp_path / "images", doubled=0)
    again(scene(5), "encoded").save(path / "class-1/other.png")
    _, notices = built(path)
    said = "1 pairs of ID pictures look the same but are of two classes (first: class-0/05.png, class-1/other.png)"
    assert notices == [f"{said}; have a look at their labels"]


def test_test_pictures_of_another_source_that_look_like_training_ones_are_counted(tmp_path):
    path, other = folder(tmp_path / "images", doubled=0), tmp_path / "test"
    for label in range(3):
        (other / f"class-{label}").mkdir(parents=True)
        for i in range(6):
            scene(50_000 + 100 * label + i).save(other / f"class-{label}/{i}.png")
    again(scene(7), "smaller").save(other / "class-0/seen.png")
    _, notices = built(path, split=Split(train=0.8, val=0.2, test=0.0), test=Folder(source="folder", path=other))
    assert notices == ["1 of 19 ID test pictures look like one for training or validation (first: class-0/seen.png)"]


def test_groups_are_joined_by_chains():
    assert alike.groups(6, np.array([[0, 1], [1, 4], [2, 3]])).tolist() == [0, 0, 1, 1, 0, 2]
