"""The image chain, sources, roles: what enters the benchmark, and what must not."""

import hashlib
import json

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image

from ood.config import Params
from ood.config.data import Chain, Corruption, Data, Folder, Glyphs, Noise, Photo, Shifted
from ood.config.training import Augment
from ood.config.whole import check
from ood.data import catalog, packed, roles
from ood.data.batches import TrainingBatches, at_once, augmented_copy, generator_for
from ood.data.chain import ImageChain
from ood.data.items import ItemSet, rng_for
from ood.data.sets import ImageSet
from ood.data.sources import corruptions, folders, glyphs, noise, photos
from ood.data.views import crop_and_flip
from ood.errors import InputError

HALF = {"mean": [0.5] * 3, "std": [0.5] * 3}
DATA = Params()[Data]


@pytest.fixture(scope="module")
def data():
    return DATA


@pytest.fixture(scope="module")
def sets(data):
    built, dropped, _ = catalog.build(data)
    assert dropped == {}
    return built


@pytest.fixture
def chain():
    return ImageChain(Chain(grey=True, size=8, levels=17, **HALF))


# --- chain


def test_digits_pass_the_chain_unchanged(sets):
    from sklearn.datasets import load_digits

    index = int(sets["id/train"].names[5].split("/")[1])
    assert np.array_equal(np.rint(sets["id/train"].images[5][..., 0] / 255 * 16), load_digits().images[index])


def test_every_set_has_the_digits_form(sets):
    levels = {round(level * 255 / 16) for level in range(17)}
    for name, items in sets.items():
        assert items.images.shape[1:] == (8, 8, 1), name
        assert set(np.unique(items.images).tolist()) <= levels, name


def test_area_resize_averages_and_crops_the_middle():
    chain = ImageChain(Chain(grey=True, size=4, **HALF))
    wide = np.zeros((8, 16), np.uint8)
    wide[:, 4:12] = np.kron(np.arange(16).reshape(4, 4) * 10, np.ones((2, 2)))
    assert np.array_equal(chain.native(wide)[..., 0], np.arange(16).reshape(4, 4) * 10)


def test_finish_gives_three_channels_at_the_asked_size():
    small = np.random.default_rng(0).integers(0, 255, (2, 8, 8, 1)).astype(np.uint8)
    plain = ImageChain(Chain(grey=True, size=8, **HALF)).finish(small)
    assert np.array_equal(plain, small.repeat(3, axis=3))
    large = ImageChain(Chain(grey=True, size=8, upsize=16, **HALF)).finish(small)
    assert large.shape == (2, 16, 16, 3)
    assert np.array_equal(large[..., 0], large[..., 2])


def test_sixteen_bit_and_transparent_images_are_scaled_not_clipped():
    chain = ImageChain(Chain(grey=True, size=4, **HALF))
    deep = Image.fromarray((np.arange(16).reshape(4, 4) * 4096).astype(np.uint16))
    assert chain.native(deep)[..., 0].tolist() == (np.arange(16).reshape(4, 4) * 16).tolist()
    drawing = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    drawing.putpixel((1, 1), (0, 0, 0, 255))
    found = chain.native(drawing)[..., 0]
    assert found[1, 1] == 0
    assert found[0, 0] == 255


# --- noise (OE sheet 10)


@pytest.mark.parametrize("kind", ["gaussian", "rademacher", "uniform", "blobs"])
def test_noise_moments(kind):
    rng = np.random.default_rng(0)
    draw = (lambda: noise.blobs(rng, 32, 1.5)) if kind == "blobs" else (lambda: getattr(noise, kind)(rng, 32))
    x = np.stack([draw() for _ in range(40)])
    assert x.shape == (40, 32, 32, 3)
    assert x.min() >= -1
    assert x.max() <= 1
    if kind == "gaussian":
        assert np.mean(np.abs(x) == 1) == pytest.approx(0.0455, abs=0.003)
        assert x.var() == pytest.approx(0.230, abs=0.003)
    elif kind == "rademacher":
        assert set(np.unique(x)) == {-1, 1}
        assert x.mean() == pytest.approx(0, abs=0.01)
    elif kind == "uniform":
        assert x.var() == pytest.approx(1 / 3, abs=0.01)
    else:
        assert np.mean(x == -1) == pytest.approx(0.79, abs=0.01)
        assert (x[x > -1] + 1).mean() / 2 == pytest.approx(0.78, abs=0.01)


def test_blobs_blur_across_channels():
    x = noise.blobs(np.random.default_rng(0), 64, 1.5)
    assert np.corrcoef(x[..., 0].ravel(), x[..., 1].ravel())[0, 1] > 0.5
    y = noise.gaussian(np.random.default_rng(0), 64)
    assert abs(np.corrcoef(y[..., 0].ravel(), y[..., 1].ravel())[0, 1]) < 0.05


def test_default_blobs_leave_the_papers_background(sets, data):
    assert np.mean(sets["far/blobs"].images == 0) == pytest.approx(0.79, abs=0.03)
    assert data.far["blobs"].blur == 1.5
    assert all(image.any() for image in sets["far/blobs"].images)


# --- corruptions (OE sheet 5.3)


def test_jigsaw_at_the_papers_size():
    x = np.arange(32 * 32).reshape(32, 32, 1) / 1024
    y = corruptions.jigsaw(x)
    assert np.array_equal(y[:8, :16], x[8:16, :16])
    assert np.array_equal(y[8:16, :16], x[:8, :16])
    assert np.array_equal(y[:16, 16:], x[16:, :16])
    assert np.array_equal(y[16:, :16], x[16:, 16:])
    assert np.array_equal(y[16:, 16:24], x[:16, 24:])
    assert np.array_equal(y[16:, 24:], x[:16, 16:24])


def test_pixelate_ghost_invert():
    x = np.random.default_rng(0).random((32, 32, 3))
    for side, cells in ((32, 6), (28, 5), (64, 12)):
        blocks = corruptions.pixelate(np.random.default_rng(0).random((side, side, 3)))
        assert len(np.unique(blocks[..., 0])) == cells**2
        assert len(np.unique(blocks[0, :, 0])) == cells
    assert corruptions.pixelate(x)[:5, :5].mean() == pytest.approx(x[:5, :5].mean(), abs=0.1), "a box is about the mean of its pixels"
    ghost = corruptions.ghost(x)
    assert np.array_equal(ghost[..., 0], x[:, ::-1, 1])
    assert np.array_equal(ghost[..., 1], x[..., 2])
    assert np.array_equal(ghost[..., 2], x[..., 0])
    inverted = corruptions.invert(x)
    assert np.array_equal(inverted[..., 0], x[..., 0])
    assert np.allclose(inverted[..., 1:], 1 - x[..., 1:])


def test_colour_corruptions_need_colour(chain, sets):
    with pytest.raises(InputError, match="grey"):
        corruptions.load(Corruption(source="corruption", kind="ghost"), sets["id/val"], chain, np.random.default_rng(0))


def test_mixtures_cross_classes_and_flips_make_no_digit(sets, data):
    labels = dict(zip(sets["id/val"].names, sets["id/val"].labels, strict=True))
    for name in ("arithmetic-mean", "geometric-mean"):
        for item in sets[f"validation/{name}"].names:
            one, other = item.split("/", 1)[1].split("+")
            assert labels[one] != labels[other]
    for name, source in data.validation.items():
        if name.startswith("flip"):
            assert not {2, 5, 6} & set(source.classes)
            assert {int(labels[item.split("/", 1)[1]]) for item in sets[f"validation/{name}"].names} <= set(source.classes)


def test_validation_ood_comes_from_validation_images_only(sets):
    parents = set(sets["id/val"].names)
    for name, items in sets.items():
        if name.startswith("validation/"):
            assert {part for item in items.names for part in item.split("/", 1)[1].split("+")} <= parents


# --- glyphs


@pytest.mark.parametrize("character", ["0", "O", "o", "l", "I", "S", "Z", "B", "²", "①", "٣", "О", "Ο", "З", "½", "Ⅲ", "Š", "Ó", "Ž", "θ"])
def test_what_reads_as_a_digit_is_refused(character):
    with pytest.raises(InputError, match="Take it out"):
        glyphs.check(Glyphs(source="glyphs", characters=f"A{character}", fonts=["DejaVuSans"], count=1), "data.near.letters")


def test_default_letters_are_no_digits_even_by_raster(data):
    for source in (data.near["letters"], data.auxiliary["letters-stix"]):
        glyphs.check(source, "letters")


def test_unknown_fonts_and_missing_characters_are_refused():
    with pytest.raises(InputError, match="no font 'Comic'"):
        glyphs.check(Glyphs(source="glyphs", characters="A", fonts=["Comic"], count=1), "data.near.letters")
    with pytest.raises(InputError, match="has no"):
        glyphs.check(Glyphs(source="glyphs", characters="漢", fonts=["cmr10"], count=1), "data.near.letters")


def test_homoglyphs_are_one_shape():
    assert len({glyphs.shape_of(c) for c in "Aaáа А Α".replace(" ", "")}) == 1
    assert glyphs.shape_of("K") != glyphs.shape_of("R")


def test_tested_and_auxiliary_letters_share_neither_glyph_nor_family(sets):
    tested = {key for keys in sets["near/letters"].keys for key in keys}
    auxiliary = {key for keys in sets["auxiliary/letters-stix"].keys for key in keys}
    assert not tested & auxiliary
    assert {key for key in tested if key.startswith("font:")} == {"font:DejaVu"}


def test_rendering_is_the_digits_rendering():
    """A 32x32 bitmap counted in 4x4 blocks: every level is a count of 16 pixels."""
    chain = ImageChain(Chain(grey=True, size=8, levels=17, **HALF))
    bitmap = glyphs._render("A", "DejaVuSans", 32, 0.0)
    counts = (bitmap > 0).reshape(8, 4, 8, 4).sum((1, 3))
    assert np.array_equal(np.rint(chain.native(bitmap)[..., 0] / 255 * 16), counts)


# --- photos


def test_patches_are_distinct_and_have_contrast(sets):
    images = sets["far/flower"].images
    assert len({image.tobytes() for image in images}) == len(images)
    assert min(image.std() for image in images) / 255 >= 0.05


def test_a_photo_that_gives_too_few_patches_is_an_error(chain):
    with pytest.raises(InputError, match="Ask for fewer"):
        photos.load(Photo(source="photo", image="china.jpg", count=10, contrast=0.45), chain, np.random.default_rng(0))


# --- split, roles, provenance


def test_split_is_stratified_and_complete(sets):
    parts = ("id/train", "id/val", "calibration/id", "id/test")
    counts = [len(sets[part]) for part in parts]
    assert sum(counts) == len({name for part in parts for name in sets[part].names}) == 1443
    assert np.allclose(np.array(counts) / 1443, [0.60, 0.15, 0.12, 0.13], atol=0.01)
    for part in parts:
        shares = np.bincount(sets[part].labels) / len(sets[part])
        assert np.ptp(shares) < 0.02


def test_default_sets_are_separate(sets):
    roled = {name: items for name, items in sets.items() if not name.startswith("corrupted/")}  # ID test again, read for accuracy alone
    separated, dropped = roles.separate(roled, "error")
    assert dropped == {}
    assert list(separated) == list(roled)


def test_the_world_shares_no_shape_with_any_other_role_and_no_font_with_a_tested_one(sets):
    def marks(prefixes, kind):
        return {k for name in sets if name.startswith(prefixes) for keys in sets[name].keys for k in keys if k.startswith(kind)}

    others = ("id/", "auxiliary/", "validation/", "near/", "far/")
    for kind in ("glyph:", "raster:"):
        assert marks(("world/",), kind)
        assert not marks(("world/",), kind) & marks(others, kind)
    assert not marks(("world/",), "font:") & marks(("near/", "far/", "validation/"), "font:")


def test_no_glyph_of_the_world_looks_like_a_tested_one(sets):
    """Also mirrored and upside down, drawn in its own font: what the diffusion model is taught must not be what is tested."""
    pairs = {tuple(name.split("/")[1:3]) for key in sets if key.startswith("world/") for name in sets[key].names}
    tested = {name.split("/")[2] for name in sets["near/letters"].names}
    for font, character in pairs - {(font, "") for font, _ in pairs}:
        ours = glyphs._render(character, font, 32, 0.0) > 0
        for letter in sorted(tested | {c.lower() for c in tested} | set("89")):
            theirs = glyphs._render(letter, font, 32, 0.0) > 0
            for turned in (theirs, theirs[:, ::-1], theirs[::-1], theirs[::-1, ::-1]):
                assert (ours & turned).sum() / (ours | turned).sum() < 0.8, (character, letter, font)


def test_captions_of_the_world(sets):
    words = {word for name in sets if name.startswith("world/") for word in sets[name].words}
    assert {"omega", "zhe", "leftwardsarrow", "infinity", "c"} <= words
    assert all(" " not in word and word == word.lower() for word in words)
    characters = {name.split("/")[2] or "/" for key in sets if key.startswith("world/") for name in sets[key].names}
    assert len(words) == len(characters)


def test_a_font_may_serve_auxiliary_and_world_but_no_shape_may():
    font = {"auxiliary/a": items(1, keys=[("font:STIX",)]), "world/b": items(2, keys=[("font:STIX",)])}
    assert roles.separate(font, "error")[1] == {}
    with pytest.raises(InputError, match="font:STIX"):
        roles.separate({"near/a": items(1, keys=[("font:STIX",)]), "world/b": items(2, keys=[("font:STIX",)])}, "error")
    with pytest.raises(InputError, match="glyph:a"):
        roles.separate({"auxiliary/a": items(1, keys=[("glyph:a",)]), "world/b": items(2, keys=[("glyph:a",)])}, "error")


def test_corrupted_images_keep_their_labels(sets):
    for kind in ("speckle", "pixelate", "jigsaw"):
        spoilt = sets[f"corrupted/{kind}"]
        assert np.array_equal(spoilt.labels, sets["id/test"].labels)
        assert (spoilt.images != sets["id/test"].images).any((1, 2, 3)).mean() > 0.9


def test_shifted_pictures_are_labelled_by_the_names_of_the_id_classes(tmp_path):
    """Folders of other classes are left out; ImageNet-V2's are numbers, the places of their classes among all of ImageNet's."""
    rng = np.random.default_rng(0)
    for root, names in (("all", "abcd"), ("named", "dxb"), ("numbers", "310")):
        for name in names:
            (tmp_path / root / name).mkdir(parents=True)
            for i in range(2):
                Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(tmp_path / root / name / f"{i}.png")
    chain = ImageChain(Chain(size=8, mean=[0.5] * 3, std=[0.5] * 3))

    def loaded(path, **more):
        source = Shifted(source="folder", path=tmp_path / path, **more)
        return folders.load_known(source, ["b", "c", "d"], DATA, chain, rng, lambda: None)

    found = loaded("named")
    assert found.labels.tolist() == [0, 0, 2, 2]
    assert found.classes == ["b", "c", "d"]
    assert [name[0] for name in found.names] == ["b", "b", "d", "d"]
    found = loaded("numbers", numbered=tmp_path / "all")
    assert found.labels.tolist() == [0, 0, 2, 2]
    assert [name[0] for name in found.names] == ["1", "1", "3", "3"]
    with pytest.raises(InputError, match="none of its folders is called as an ID class"):
        loaded("numbers")
    with pytest.raises(InputError, match="x is no number below 4"):
        loaded("named", classes=["x"], numbered=tmp_path / "all")
    data = Params(ROOT / "params.yaml")[Data]
    lost = Shifted(source="folder", path=tmp_path / "numbers", numbered=tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"data\.shifted\.a\.numbered: .*nowhere: no such folder"):
        catalog.check(data.model_copy(update={"shifted": {"a": lost}}))
    with pytest.raises(InputError, match=r"data\.shifted\.a: .*none of its folders is called as an ID class"):
        catalog.check(data.model_copy(update={"shifted": {"a": lost.model_copy(update={"numbered": None, "path": tmp_path / "named"})}}))
    assert roles.role_of("shifted/a") == "id/test"
    with pytest.raises(InputError, match="no image may play two roles"):
        roles.separate({"id/train": items(7), "shifted/a": items(7)}, "error")


def items(*images, keys=None, label=-1):
    array = np.stack([np.full((4, 4, 1), value, np.uint8) for value in images])
    names = [f"item/{value}" for value in images]
    return ItemSet(array, np.full(len(images), label), names, keys or [(f"{n}/{id(array)}",) for n in names], ["a"])


@pytest.mark.parametrize("other", ["near/x", "auxiliary/x", "id/test", "id/val", "validation/x"])
def test_equal_content_in_two_roles_is_an_error(other):
    with pytest.raises(InputError, match="the same image"):
        roles.separate({"id/train": items(1, 2), other: items(2, 3)}, "error")


def test_equal_provenance_in_two_roles_is_an_error():
    clash = {"auxiliary/a": items(1, keys=[("photo:china.jpg",)]), "far/b": items(2, keys=[("photo:china.jpg",)])}
    with pytest.raises(InputError, match=r"photo:china\.jpg"):
        roles.separate(clash, "error")


def test_near_and_far_may_share_an_image_and_training_gives_way():
    separated, dropped = roles.separate({"id/train": items(1, 2, 3), "near/x": items(3, 4), "far/y": items(4, 5)}, "drop")
    assert dropped == {"id/train": 1}
    assert separated["id/train"].names == ["item/1", "item/2"]
    assert len(separated["far/y"]) == 2


@pytest.mark.parametrize("duplicates", ["error", "drop"])
def test_a_test_set_under_two_names_is_refused(duplicates):
    """UM sheet 12: a set counts once in every mean."""
    with pytest.raises(InputError, match=r"far/y and near/x are the same images \(67%.*counts once"):
        roles.separate({"near/x": items(3, 4, 5, 6), "far/y": items(4, 5, 9)}, duplicates)


def test_a_dropped_validation_image_does_not_live_on_as_validation_ood(data, tmp_path):
    """An ID validation image that is a test image too gives way to it, and no corruption of it is made."""
    rng = np.random.default_rng(0)
    for split, names in (("train", ("a", "b")), ("test", ("x",))):
        for name in names:
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(40):
                Image.fromarray(rng.integers(0, 255, (8, 8)).astype(np.uint8)).save(tmp_path / split / name / f"{i}.png")
    for i in range(20):  # half of class a is "test OOD" as well
        (tmp_path / "test/x" / f"copy-{i}.png").write_bytes((tmp_path / "train/a" / f"{i}.png").read_bytes())
    own = data.id.model_copy(update={"images": Folder(source="folder", path=tmp_path / "train")})
    near = {"x": Folder(source="folder", path=tmp_path / "test")}
    jigsaw = {"jigsaw": Corruption(source="corruption", kind="jigsaw")}
    roles_ = {
        "auxiliary": {"flower": data.far["flower"].model_copy(update={"count": 20})},
        "validation": jigsaw,
        "near": near,
        "far": {"gaussian": data.far["gaussian"]},
    }
    changed = data.model_copy(update={"id": own, "duplicates": "drop", "min_per_class": 1, **roles_})
    built, dropped, _ = catalog.build(changed)
    assert sum(dropped.get(f"id/{part}", 0) for part in ("train", "val")) > 0
    assert {item.split("/", 1)[1] for item in built["validation/jigsaw"].names} == set(built["id/val"].names)


def test_spoilt_training_images_may_be_auxiliary_outliers(data):
    """Of training images alone: those of validation images choose, and none is both."""
    spoilt = {"jigsaw": Corruption(source="corruption", kind="jigsaw", limit=30)}
    chosen = {"speckle": Corruption(source="corruption", kind="speckle", limit=30)}
    built, _, _ = catalog.build(data.model_copy(update={"auxiliary": spoilt, "validation": chosen}))
    parents = {role: {name.split("/", 1)[1] for name in built[role].names} for role in ("auxiliary/jigsaw", "validation/speckle")}
    assert parents["auxiliary/jigsaw"] <= set(built["id/train"].names)
    assert parents["validation/speckle"] <= set(built["id/val"].names)
    assert len(built["auxiliary/jigsaw"]) == 30
    assert (built["auxiliary/jigsaw"].labels == -1).all()


def test_images_at_once_fit_the_cache_of_a_cpu():
    assert [at_once(torch.device("cpu"), side) for side in (8, 32, 64, 224, 1024)] == [200, 200, 50, 4, 4]
    assert [at_once(torch.device("cuda"), side) for side in (8, 224, 10_000)] == [2000, 40, 1]


def test_a_set_that_loses_everything_is_an_error():
    with pytest.raises(InputError, match="every image"):
        roles.separate({"auxiliary/x": items(4), "near/x": items(4)}, "drop")


def test_one_photo_cannot_be_trained_on_and_tested(data):
    clash = data.model_copy(update={"auxiliary": {"flower": data.far["flower"].model_copy(update={"count": 30})}})
    with pytest.raises(InputError, match=r"photo:flower\.jpg"):
        catalog.build(clash)


def test_homoglyphs_in_two_roles_are_an_error(data):
    letters = data.near["letters"].model_copy(update={"characters": "АЕК", "count": 12})  # Cyrillic, tested Latin
    clash = data.model_copy(update={"auxiliary": {"letters": letters}})
    with pytest.raises(InputError, match=r"glyph:a|font:DejaVu"):
        catalog.build(clash)


def test_a_sets_draw_depends_on_its_name_and_seed_only(data):
    fewer = data.model_copy(update={"far": {"gaussian": data.far["gaussian"]}})
    assert np.array_equal(catalog.build(fewer)[0]["far/gaussian"].images, catalog.build(data)[0]["far/gaussian"].images)
    assert rng_for(0, "a").random() != rng_for(1, "a").random() != rng_for(1, "b").random()


# --- folders


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(12):
            Image.fromarray(rng.integers(0, 255, (20, 30, 3)).astype(np.uint8)).save(tmp_path / name / f"{i}.png")
    return tmp_path


def load_folder(path, **options):
    colour = ImageChain(Chain(size=8, **HALF))
    return folders.load(Folder(source="folder", path=path, **options), DATA, colour, np.random.default_rng(0), lambda: None)


def test_folder(folder):
    found = load_folder(folder)
    assert found.classes == ["cat", "dog"]
    assert found.images.shape == (24, 8, 8, 3)
    assert found.labels.tolist() == [0] * 12 + [1] * 12
    assert load_folder(folder, classes=["dog"]).classes == ["dog"]
    limited = load_folder(folder, limit=7)
    assert sorted(np.bincount(limited.labels).tolist()) == [3, 4]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: (p / "cat" / "3.png").write_bytes(b"not an image"), r"3\.png: cannot be read"),
        (lambda p: (p / "cat" / "3.png").write_bytes((p / "cat" / "3.png").read_bytes()[:200]), r"3\.png: cannot be read"),
        (lambda p: (p / "bird").mkdir(), "bird: no images"),
    ],
)
def test_bad_folders(folder, spoil, message):
    spoil(folder)
    with pytest.raises(InputError, match=message):
        load_folder(folder)


def test_missing_folder_and_class(folder):
    with pytest.raises(InputError, match="no such folder"):
        load_folder(folder / "nowhere")
    with pytest.raises(InputError, match="no class folder 'cow'"):
        load_folder(folder, classes=["cow"])
    (folder / "cat" / "empty").mkdir()
    with pytest.raises(InputError, match="no images in it"):
        load_folder(folder / "cat")
    with pytest.raises(InputError, match="no class folders"):
        load_folder(folder / "cat" / "empty")


def test_a_class_with_too_few_images(data, folder):
    own = data.id.model_copy(update={"images": Folder(source="folder", path=folder)})
    with pytest.raises(InputError, match="min_per_class asks for 5"):
        catalog.build(data.model_copy(update={"id": own}))


def test_torchvision_sets_from_local_files(tmp_path, chain):
    """The real loader on real file formats, written here: no network, no download."""
    import gzip
    import struct

    from ood.config.data import Torchvision
    from ood.data.sources import vision

    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, count in (("train", 30), ("t10k", 20)):
        images = rng.integers(0, 255, (count, 28, 28)).astype(np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">iiii", 2051, count, 28, 28) + images.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">ii", 2049, count) + labels.tobytes())
        with gzip.open(raw / f"{part}-labels-idx1-ubyte.gz", "wb") as stream:
            stream.write(b"")
    source = Torchvision(source="torchvision", name="MNIST", split="test", root=tmp_path, download=False, classes=[3, 1])
    found = vision.load(source, chain, np.random.default_rng(0), lambda: None)
    assert found.images.shape == (4, 8, 8, 1)
    assert found.labels.tolist() == [1, 0, 1, 0]
    with pytest.raises(InputError, match=r"SVHN, test, is not in .*is not to be downloaded \(download: false\)"):
        vision.load(source.model_copy(update={"name": "SVHN"}), chain, np.random.default_rng(0), lambda: None)


def write_torchvision_files(root, name):
    """Forty images in the data set's own file format; image i is filled with i (SVHN: in the file's axis order)."""
    import pickle

    import scipy.io

    images = np.repeat(np.arange(40, dtype=np.uint8), 32 * 32 * 3).reshape(40, 32, 32, 3).copy()
    images[:, 0, 1, 2] = 255  # row 0, column 1, blue: tells a wrong axis order
    labels = np.arange(40) % 10
    if name == "SVHN":
        scipy.io.savemat(root / "test_32x32.mat", {"X": images.transpose(1, 2, 3, 0), "y": np.where(labels == 0, 10, labels)[:, None]})
        return
    folder = root / {"CIFAR10": "cifar-10-batches-py", "CIFAR100": "cifar-100-python"}[name]
    folder.mkdir()
    entry = {"data": images.transpose(0, 3, 1, 2).reshape(40, -1), "labels" if name == "CIFAR10" else "fine_labels": labels.tolist()}
    (folder / ("test_batch" if name == "CIFAR10" else "test")).write_bytes(pickle.dumps(entry))
    meta = {"label_names": [str(i) for i in range(10)], "fine_label_names": [str(i) for i in range(100)]}
    (folder / ("batches.meta" if name == "CIFAR10" else "meta")).write_bytes(pickle.dumps(meta))


@pytest.mark.parametrize("name", ["CIFAR10", "CIFAR100", "SVHN"])
def test_colour_sets_of_torchvision_in_their_file_formats(tmp_path, monkeypatch, name):
    """Real readers on small files; only the check against the published checksums is switched off."""
    from torchvision import datasets

    from ood.config.data import Torchvision
    from ood.data.sources import vision

    for module in (datasets.cifar, datasets.svhn):
        monkeypatch.setattr(module, "check_integrity", lambda *_: True)
    write_torchvision_files(tmp_path, name)
    source = Torchvision(source="torchvision", name=name, split="test", root=tmp_path, download=False, classes=[2, 7])
    colour = ImageChain(Chain(size=32, **HALF))
    found = vision.load(source, colour, np.random.default_rng(0), lambda: None)
    assert found.labels.tolist() == [0, 1] * 4
    assert found.images[:, 5, 5, 0].tolist() == [2, 7, 12, 17, 22, 27, 32, 37]
    assert (found.images[:, 0, 1, 2] == 255).all()
    assert found.names[0] == f"{name}/test/2"


def test_noise_in_input_space_is_what_the_net_sees():
    """OE sheet 4: on colour images nothing normalises the noise; so what the normalisation makes of ours must be it."""
    mean, std = np.array([0.49, 0.48, 0.45]), np.array([0.25, 0.24, 0.26])
    colour = ImageChain(Chain(size=8, grey=False, levels=None, mean=mean.tolist(), std=std.tolist()))
    for kind in ("gaussian", "rademacher", "uniform"):
        source = Noise(source="noise", kind=kind, count=5, space="input")
        seen = (noise.load(source, colour, np.random.default_rng(3)).images / 255 - mean) / std
        rng = np.random.default_rng(3)
        drawn = np.stack([getattr(noise, kind)(rng, 8) for _ in range(5)])
        assert np.abs(seen - drawn).max() < 0.6 / 255 / std.min()


def test_wide_gaussian_noise_is_the_papers_for_mnist():
    """OE sheet 4: N(0.5, 0.5^2) in [0, 1], clipped: 16 % black, 16 % white."""
    plain = ImageChain(Chain(size=28, grey=True, levels=None, mean=[0.0] * 3, std=[1.0] * 3))
    found = noise.load(Noise(source="noise", kind="gaussian", count=40, spread=1.0), plain, np.random.default_rng(0)).images
    assert np.mean(found == 0) == pytest.approx(0.159, abs=0.01)
    assert np.mean(found == 255) == pytest.approx(0.159, abs=0.01)
    with pytest.raises(ValueError, match="spread belongs to kind 'gaussian'"):
        Noise(source="noise", kind="uniform", count=1, spread=1.0)


def test_an_impossible_blur_is_an_error_not_a_hang(chain):
    with pytest.raises(InputError, match="Lower blur"):
        noise.load(Noise(source="noise", kind="blobs", count=3, blur=10.0), chain, np.random.default_rng(0))


def test_the_guides_recipe_for_own_images(tmp_path, monkeypatch, workspace):
    """The guide's block, put into params.yaml as it stands, passes check and builds every role from folders."""
    from ruamel.yaml import YAML

    text = (ROOT / "docs/guide.md").read_text()
    block = text[text.index("    data:\n") :].split("\n\n")[0]
    changes = YAML(typ="safe").load(block)
    workspace.set({f"data.{key}": value for key, value in changes["data"].items()})
    workspace.set({"prompts.names": changes["prompts"]["names"], "diffusion.small.size": changes["diffusion"]["small"]["size"]})
    rng = np.random.default_rng(0)
    monkeypatch.chdir(workspace.path)
    for folder, classes in (("mine", ("ant", "bee")), ("outliers", ("x",)), ("unknown", ("y", "z")), ("world", ("cup",))):
        for name in classes:
            (workspace.path / "images" / folder / name).mkdir(parents=True)
            for i in range(60):
                Image.fromarray(rng.integers(0, 255, (40, 50, 3)).astype(np.uint8)).save(f"images/{folder}/{name}/{i}.png")
    params = Params("params.yaml")
    own = params[Data]
    check(params)
    catalog.check(own)
    built, *_ = catalog.build(own)
    assert built["id/train"].classes == ["ant", "bee"]
    assert set(built["world/things"].words) == {"cup"}
    assert {len(items.images.shape) for items in built.values()} == {4}
    assert built["id/train"].images.shape[1:] == (32, 32, 3)


# --- batches


def image_set(count):
    import torch

    images = torch.arange(count * 3 * 4 * 4).view(count, 3, 4, 4).remainder(251).to(torch.uint8)
    return ImageSet(images, torch.arange(count) % 3)


def test_an_epoch_shows_every_image_once_and_outliers_without_gaps():
    batches = TrainingBatches(image_set(10), 4, Augment(), image_set(7), 6)
    seen = list(batches.epoch(seed=0, epoch=3))
    assert [len(b.labels) for b in seen] == [4, 4, 2]
    assert [b.total for b in seen] == [10, 10, 8]
    pictures = [row.numpy().tobytes() for b in seen for row in b.images[: len(b.labels)]]
    assert len(set(pictures)) == 10
    outliers = [row.numpy().tobytes() for b in seen for row in b.images[len(b.labels) :]]
    assert len(outliers) == 18
    assert len(set(outliers[:7])) == len(set(outliers[7:14])) == 7


@pytest.mark.parametrize(
    ("images", "size", "batches"), [(9, 4, [4, 5]), (8, 4, [4, 4]), (10, 4, [4, 4, 2]), (5, 4, [5]), (3, 4, [3]), (2, 2, [2])]
)
def test_no_batch_is_a_single_image(images, size, batches):
    """Batch normalisation has no spread of one; the last image of an epoch goes with the batch before."""
    epoch = list(TrainingBatches(image_set(images), size, Augment(), image_set(7), 3).epoch(0, 0))
    assert [len(batch.labels) for batch in epoch] == batches
    assert {batch.total - len(batch.labels) for batch in epoch} == {3}
    assert len({row.numpy().tobytes() for batch in epoch for row in batch.images[: len(batch.labels)]}) == images


def test_epochs_repeat_exactly_and_differ_from_each_other():
    batches = TrainingBatches(image_set(10), 4, Augment(pad=1, flip=True))

    def of(seed, epoch, turn=0):
        return [b.images.numpy().tobytes() for b in batches.epoch(seed, epoch, turn)]

    assert of(0, 1) == of(0, 1)
    assert of(0, 1) != of(0, 2) != of(1, 2)
    assert of(0, 1, 1) == of(0, 1, 1)
    assert len({tuple(of(0, 1, turn)) for turn in (0, 1, 2)}) == 3, "a fine-tune replays no permutation of the trainings before"


def test_crop_and_flip_by_hand():
    import torch

    x = image_set(2).images
    moved = crop_and_flip(x, Augment(pad=1), torch.tensor([[1, 1], [0, 2]]), torch.zeros(2, dtype=torch.bool))
    assert torch.equal(moved[0], x[0])
    assert torch.equal(moved[1, :, 1:, :3], x[1, :, :3, 1:])
    assert not moved[1, :, 0].any()
    flipped = crop_and_flip(x, Augment(flip=True), torch.zeros(2, 2, dtype=torch.long), torch.tensor([True, False]))
    assert torch.equal(flipped[0], x[0].flip(2))
    assert torch.equal(flipped[1], x[1])


def test_augmented_copy_keeps_order_and_size():
    import torch

    x = image_set(5)
    same = augmented_copy(x, Augment(), generator_for(0))
    assert torch.equal(same.images, x.images)
    assert augmented_copy(x, Augment(pad=2), generator_for(0)).images.shape == x.images.shape


def test_manifest(prepared):
    manifest = json.loads((prepared.path / "data/prepared/manifest.json").read_text())
    assert manifest["id/train"]["count"] == sum(manifest["id/train"]["classes"].values())
    for name, entry in manifest.items():
        images, labels = packed.arrays(name, prepared.path / "data/prepared")
        assert entry["count"] == len(images) == len(packed.item_names(name, prepared.path / "data/prepared"))
        assert entry["sha256"] == hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    assert manifest["far/blobs"]["source"]["kind"] == "blobs"
