"""Folders as they really are: what is no picture, how pictures are kept, damaged files, names, lists."""

import io
import os
import struct

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image, ImageCms

from ood import drawing
from ood.config import Params
from ood.config.data import Chain, Data, Folder, Shifted
from ood.data import catalog, reading, roles
from ood.data.chain import ImageChain
from ood.data.reading import UnreadableError, eight_bit, read_image, shown
from ood.data.sources import folders
from ood.errors import InputError

HALF = {"mean": [0.5] * 3, "std": [0.5] * 3}
COLOUR, GREY = (ImageChain(Chain(size=8, grey=grey, **HALF)) for grey in (False, True))
RNG = np.random.default_rng
DATA = Params(ROOT / "params.yaml")[Data]


def picture(seed=0, size=(12, 10)):
    return Image.fromarray(RNG(seed).integers(0, 255, (size[1], size[0], 3)).astype(np.uint8))


@pytest.fixture
def tree(tmp_path):
    """Two classes of four pictures each."""
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(4):
            picture(4 * ord(name[0]) + i).save(tmp_path / name / f"{i}.png")
    return tmp_path


def load(path, chain=COLOUR, **data):
    source = Folder(source="folder", path=path, listing=data.pop("listing", None))
    return folders.load(source, DATA.model_copy(update=data), chain, RNG(0), lambda: None)


# --- what is no picture


def test_what_is_hidden_is_no_picture_at_any_depth(tree):
    """Thumbnails of test images must not land in training."""
    for place in (".thumbnails", ".ipynb_checkpoints", "@eaDir", "__MACOSX", "deep/.thumbnails/deeper"):
        (tree / "cat" / place).mkdir(parents=True)
        picture(99).save(tree / "cat" / place / "x.png")
    (tree / ".cache").mkdir()
    picture(99).save(tree / ".cache" / "x.png")
    picture(99).save(tree / "cat" / "._0.png")
    (tree / "dog" / ".DS_Store").write_bytes(b"x")
    found = folders.list_images(Folder(source="folder", path=tree))
    assert {name: [file.name for file in files] for name, files in found.classes.items()} == {
        name: ["0.png", "1.png", "2.png", "3.png"] for name in ("cat", "dog")
    }
    assert found.skipped == {"hidden": 8}


def test_nothing_is_left_out_without_a_word(tree):
    picture().save(tree / "loose.png")
    (tree / "cat" / "notes.txt").write_text("x")
    (tree / "cat" / "phone.heic").write_bytes(b"x")
    (tree / "cat" / "README").write_text("x")
    (tree / "dog" / "gone.png").symlink_to(tree / "nowhere.png")
    (tree / "dog" / "more").symlink_to(tree / "cat")
    os.mkfifo(tree / "dog" / "pipe.png")
    found = load(tree)
    assert len(found) == 8
    assert found.skipped == {
        "beside the class folders": 1,
        "of a kind that is not read (.txt)": 1,
        "of a kind that is not read (.heic)": 1,
        "of a kind that is not read (no suffix)": 1,
        "links into nowhere": 1,
        "linked folders inside a class": 1,
        "no files": 1,
    }


def test_a_folder_of_what_cannot_be_read_says_so(tree):
    for file in (tree / "cat").iterdir():
        file.rename(file.with_suffix(".heic"))
    with pytest.raises(InputError, match=r"cat: no images in it.*Left out: 4 of a kind that is not read \(\.heic\)"):
        folders.list_images(Folder(source="folder", path=tree))


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".jp2", ".ppm", ".avif", ".mpo"])
def test_what_pillow_reads_is_read(tmp_path, suffix):
    if suffix == ".avif" and suffix not in reading.suffixes():
        pytest.skip("this Pillow reads no AVIF")
    (tmp_path / "a").mkdir()
    kind = {".JPEG": "JPEG", ".jfif": "JPEG"}.get(suffix)
    Image.new("RGB", (16, 16), (200, 40, 90)).save(tmp_path / "a" / f"x{suffix}", kind)
    found = load(tmp_path)
    assert np.abs(found.images[0].astype(int) - (200, 40, 90)).max() <= 12


def test_other_formats_are_not_opened_under_a_pictures_name(tmp_path):
    """Pillow would call Ghostscript for one of these."""
    Image.new("RGB", (8, 8)).save(tmp_path / "x.eps")
    (tmp_path / "x.eps").rename(tmp_path / "x.png")
    with pytest.raises(UnreadableError, match=r"x\.png: cannot be read as an image"):
        read_image(tmp_path / "x.png")


def test_classes_that_are_not_wanted_are_counted(tree):
    found = folders.list_images(Folder(source="folder", path=tree, classes=["cat"]))
    assert found.skipped == {"of other classes": 4}
    known = folders.known(Shifted(source="folder", path=tree), ["dog", "cow"])
    assert list(known.classes) == ["dog"]
    assert known.skipped == {"of no ID class": 4}


def test_prepare_ends_with_a_line_for_every_set(workspace, tmp_path):
    mine = tmp_path / "mine"
    for name in ("a", "b"):
        (mine / name).mkdir(parents=True)
        for i in range(6):
            picture(4 * ord(name[0]) + i).save(mine / name / f"{i}.png")
    (mine / "a" / "clip.mov").write_bytes(b"x")
    (mine / "a" / "5.png").write_bytes(b"no picture")
    workspace.set({"data.far.mine": {"source": "folder", "path": str(mine)}, "data.unreadable": "skip"})
    said = workspace.stage("prepare").stdout.splitlines()
    assert "prepare: far/mine: 11; left out: 1 of a kind that is not read (.mov), 1 unreadable" in said
    assert any(line.startswith("prepare: id/train: ") for line in said)


# --- how pictures are kept


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_picture_is_upright_however_its_camera_was_held(tmp_path, turn):
    """EXIF orientation, wherever a file is read; and to the role check two ways of storing one picture are one picture."""
    upright = picture(1)
    back = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[turn]
    stored = upright.transpose(back) if back is not None else upright
    exif = Image.Exif()
    exif[0x0112] = turn
    for folder, image, options in (("a", upright, {}), ("b", stored, {"exif": exif})):
        (tmp_path / folder).mkdir()
        image.save(tmp_path / folder / "x.png", **options)
    assert np.array_equal(np.asarray(read_image(tmp_path / "b/x.png")), np.asarray(upright))
    plain, turned = (load(tmp_path / folder) for folder in ("a", "b"))
    assert plain.hashes() == turned.hashes()
    with pytest.raises(InputError, match="has the same image"):
        roles.separate({"auxiliary/x": plain, "near/x": turned}, "error")
    streamed = load(tmp_path / "b", stream=True)
    assert np.array_equal(streamed.images[0], plain.images[0])


def grey(values, dtype):
    return Image.fromarray(np.asarray(values, dtype).reshape(2, 2).repeat(4, 0).repeat(4, 1))


@pytest.mark.parametrize(
    ("values", "dtype", "white", "expected"),
    [
        ([0, 256, 32768, 65535], np.uint16, None, [0, 1, 128, 255]),
        ([0, 1000, 2048, 4095], np.uint16, 4095, [0, 62, 128, 255]),
        ([0, 0.25, 0.5, 1], np.float32, 1.0, [0, 64, 128, 255]),
        ([0, 100_000, 50_000, 200_000], np.int32, 200_000, [0, 128, 64, 255]),
    ],
)
def test_more_than_eight_bits_are_scaled_by_what_is_white(tmp_path, values, dtype, white, expected):
    grey(values, dtype).save(tmp_path / "x.tif")
    found = np.asarray(read_image(tmp_path / "x.tif", white=white))
    assert found[::4, ::4].ravel().tolist() == expected


@pytest.mark.parametrize(
    ("values", "dtype", "white", "said"),
    [
        ([0, 1000, 2048, 4095], np.uint16, None, r"uses 12 or fewer \(up to 4095\)\. Set data\.chain\.white"),
        ([0, 0.25, 0.5, 1], np.float32, None, "floating-point values, here from 0 to 1"),
        ([0, 9, 70_000, 5], np.int32, None, "32 bits, here from 0 to 70000"),
        ([-1, 0, 0, 1], np.float32, 1.0, "from -1 to 1; data.chain.white says 0 to 1"),
        ([0, 0, 0, np.nan], np.float32, 1.0, "data.chain.white says 0 to 1"),
        ([0, 5000, 0, 0], np.uint16, 4095, "from 0 to 5000; data.chain.white says 0 to 4095"),
    ],
)
def test_what_is_white_must_be_known(tmp_path, values, dtype, white, said):
    """Silently they were black, or wrapped."""
    grey(values, dtype).save(tmp_path / "x.tif")
    with pytest.raises(UnreadableError, match=rf"x\.tif: .*{said}"):
        read_image(tmp_path / "x.tif", white=white)


def test_a_lab_picture_is_refused_and_cmyk_is_converted(tmp_path):
    lab = ImageCms.profileToProfile(picture(), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB")
    lab.save(tmp_path / "lab.tif")
    for chain in (COLOUR, GREY):  # a grey chain took its lightness for the picture
        with pytest.raises(UnreadableError, match="kept in LAB"):
            chain.native(read_image(tmp_path / "lab.tif"))
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "red.tif")
    assert read_image(tmp_path / "red.tif").getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA", "1", "L", "RGB", "YCbCr", "CMYK"])
def test_every_mode_becomes_eight_bits_without_transparency(mode):
    image = Image.new("RGBA", (4, 4), (255, 255, 255, 0)).convert(mode) if mode != "YCbCr" else Image.new(mode, (4, 4), (255, 128, 128))
    if mode == "P":
        image.info["transparency"] = 0
    for chain in (COLOUR, GREY):
        native = chain.native(eight_bit(image).resize((8, 8)))
        assert (native == 255).all()


def test_of_an_animation_the_first_picture_is_taken(tmp_path):
    first, second = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    for suffix in ("gif", "webp", "png", "tif"):
        first.save(tmp_path / f"x.{suffix}", save_all=True, append_images=[second], **({"lossless": True} if suffix == "webp" else {}))
        assert read_image(tmp_path / f"x.{suffix}").getpixel((0, 0)) == (255, 0, 0), suffix


# --- damaged files


def bomb() -> bytes:
    """A small PNG that says it has 100,000 x 100,000 pixels."""
    stream = io.BytesIO()
    picture().save(stream, "PNG")
    data = bytearray(stream.getvalue())
    data[16:24] = struct.pack(">II", 100_000, 100_000)
    return bytes(data)


def test_all_bad_files_are_listed_at_once(tree):
    whole = (tree / "cat" / "0.png").read_bytes()
    bad = {"empty": b"", "text": b"no picture", "cut": whole[:60], "bomb": bomb(), "zeros": bytes(500)}
    for name, content in bad.items():
        (tree / "cat" / f"{name}.png").write_bytes(content)
    for stream in (False, True):
        with pytest.raises(InputError) as caught:
            load(tree, stream=stream)
        lines = str(caught.value).splitlines()
        assert len(lines) == len(bad) + 1
        assert all(any(f"cat/{name}.png: " in line for line in lines) for name in bad)
        assert "data.unreadable: skip" in lines[-1]
        fine = load(tree, stream=stream, unreadable="skip")
        assert fine.skipped == {"unreadable": len(bad)}
        assert len(fine) == 8


def test_of_many_bad_files_twenty_are_named_and_the_rest_counted(tree):
    for i in range(50):
        (tree / "dog" / f"bad{i}.png").write_bytes(b"x")
    with pytest.raises(InputError) as caught:
        load(tree)
    lines = str(caught.value).splitlines()
    assert len(lines) == 22
    assert lines[20] == "... and 30 more"


def test_a_class_of_which_nothing_can_be_read_is_an_error(tree):
    for file in (tree / "dog").iterdir():
        file.write_bytes(b"x")
    with pytest.raises(InputError, match="no image of class 'dog' can be read"):
        load(tree, unreadable="skip")


@pytest.mark.parametrize(
    "error", [ValueError, SyntaxError, EOFError, struct.error, MemoryError, KeyError, RecursionError, Image.DecompressionBombError]
)
def test_whatever_pillow_raises_names_the_file(tmp_path, monkeypatch, error):
    picture().save(tmp_path / "x.png")

    def fail(*_, **__):
        raise error("of its own")

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(UnreadableError, match=r"x\.png: cannot be read as an image"):
        read_image(tmp_path / "x.png")


def test_the_limit_of_pixels_can_be_set(tree):
    with pytest.raises(InputError, match=r"has 12 x 10 pixels, and data\.max_pixels allows 100"):
        load(tree, max_pixels=100)
    assert len(load(tree, max_pixels=120)) == 8


# --- one picture, two classes


@pytest.mark.parametrize("stream", [False, True])
def test_one_picture_under_two_classes_is_an_error_or_goes_from_both(tree, stream):
    (tree / "dog" / "copy.png").write_bytes((tree / "cat" / "2.png").read_bytes())
    found = load(tree, stream=stream)
    with pytest.raises(InputError, match=r"dog/copy\.png is the same image as cat/2\.png, but another class \('dog', 'cat'\)"):
        roles.one_class_each(found, "error")
    kept = roles.one_class_each(found, "drop")
    assert sorted(set(found.names) - set(kept.names)) == ["cat/2.png", "dog/copy.png"]
    assert kept.skipped == {"under two classes": 2}
    assert roles.one_class_each(kept, "error") is kept


def test_the_catalogue_asks_for_it(tree):
    for name in ("cat", "dog"):
        for i in range(4, 40):
            picture(400 + 40 * (name == "dog") + i).save(tree / name / f"{i}.png")
    (tree / "dog" / "copy.png").write_bytes((tree / "cat" / "2.png").read_bytes())
    own = DATA.id.model_copy(update={"images": Folder(source="folder", path=tree)})
    colour = DATA.chain.model_copy(update={"grey": False, "levels": None})
    with pytest.raises(InputError, match="is the same image as"):
        catalog.build(DATA.model_copy(update={"id": own, "chain": colour}))


# --- names


NAMES = ["a#b", "50%", "$x$", "two words", "a,b", 'it\'s "so"', "line\nbreak", "\N{CAT FACE}", "\u732b", "x" * 200, b"caf\xe9"]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_folder_may_have_any_name(tmp_path, name):
    """What it is called in tables is valid text on one line; the file is found by what it is really called."""
    for folder in (name, "other"):
        path = os.path.join(os.fsencode(tmp_path), os.fsencode(folder))
        os.mkdir(path)
        for i in range(3):
            with open(os.path.join(path, os.fsencode(f"{os.fsdecode(os.fsencode(name))[:100]}{i}.png")), "wb") as file:
                picture(i + 10 * (folder == "other")).save(file, "PNG")
    for stream in (False, True):
        found = load(tmp_path, stream=stream)
        assert len(found) == 6
        for text in (*found.classes, *found.names):
            assert text.isprintable()
            text.encode("utf-8")
    assert shown(os.fsdecode(os.fsencode(name))) in found.classes


def test_names_that_are_shown_alike_are_refused(tmp_path):
    for folder in (b"caf\xe9", rb"caf\xe9"):
        os.mkdir(os.path.join(os.fsencode(tmp_path), folder))
    with pytest.raises(InputError, match="two folders' names are shown as"):
        folders.list_images(Folder(source="folder", path=tmp_path))


# --- lists


def test_lists_may_have_absolute_paths_blanks_labels_a_mark_and_repetitions(tree, tmp_path_factory):
    picture(50).save(tree / "cat" / "my cat 7.png")
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "dog"
    elsewhere.mkdir()
    picture(51).save(elsewhere / "9.png")
    lines = ["cat/0.png", "cat/my cat 7.png", "cat/1.png 3", "", f"{elsewhere}/9.png", "cat/0.png", "dog/2.png 1"]
    (tree / "list.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    found = load(tree, listing=tree / "list.txt")
    assert found.names == ["cat/0.png", "cat/1.png", "cat/my cat 7.png", f"{elsewhere}/9.png", "dog/2.png"]
    assert found.skipped == {"listed twice": 1}
    (tree / "list.txt").write_text("cat/0.png\n" + "x" * 5000 + "\n")
    with pytest.raises(InputError, match=r"list\.txt: x+ is not in"):
        folders.list_images(Folder(source="folder", path=tree, listing=tree / "list.txt"))


def test_check_and_prepare_count_alike(tree):
    """What `check` takes for enough images is what `prepare` reads: hidden ones count for neither."""
    (tree / "cat" / ".thumbnails").mkdir()
    for i in range(60):
        picture(i).save(tree / "cat" / ".thumbnails" / f"{i}.png")
    own = DATA.id.model_copy(update={"images": Folder(source="folder", path=tree)})
    with pytest.raises(InputError, match=r"class 'cat' has 4 images"):
        catalog.check(DATA.model_copy(update={"id": own}))


def test_pictures_draw_any_name(tmp_path, recwarn):
    """No markup is read into it, and a character that no font here has is written as its number."""
    figure, axis = drawing.plt.subplots()
    said = ["$\\frac$", "\u732b", "\U0001f63a", "a_b^c", "caf\\xe9", "\U000e0041"]
    texts = [axis.text(0, i, text) for i, text in enumerate(said)]
    axis.set_yscale("log")
    drawing.save(figure, tmp_path / "x.png")
    numbers = [label for label in axis.yaxis.get_majorticklabels() if label.get_text()]
    assert numbers
    assert all(label.get_parse_math() for label in numbers), "an axis writes 10 to a power as markup"
    assert not any(text.get_parse_math() for text in texts)
    assert [text.get_text() for text in texts if text.get_text() not in said] in (["U+732B", "U+E0041"], ["U+E0041"])
    assert not recwarn.list


def test_check_says_what_dvc_does_not_watch(tmp_path, monkeypatch):
    """Tried with DVC 3.67: it sees changes behind `images` itself being a link, not behind a folder linked into it."""
    monkeypatch.chdir(tmp_path)
    for name in ("images/mine/a", "downloads/x/a", "elsewhere/a"):
        (tmp_path / name).mkdir(parents=True)

    def said(path):
        return list(catalog.unwatched(DATA.model_copy(update={"far": {"mine": Folder(source="folder", path=path)}}), {}, {}))

    assert said("images/mine") == said("downloads/x") == []
    assert said("elsewhere")[0].startswith("data.far.mine.path: elsewhere lies outside images/")
    assert len(said(tmp_path / "elsewhere")) == 1
    (tmp_path / "images/mine/b").symlink_to(tmp_path / "elsewhere/a")
    assert said("images/mine")[0].startswith("data.far.mine.path: images/mine/b is a link to a folder")


# --- too few, or too many


def folder_of(tmp_path, *counts):
    for label, count in enumerate(counts):
        (tmp_path / f"{label:04d}").mkdir()
        for i in range(count):
            (tmp_path / f"{label:04d}/{i}.png").touch()  # `check` reads none of them
    return tmp_path


def checked(path, limit=None, **changes):
    split = changes.pop("split", None) or DATA.id.split
    own = DATA.id.model_copy(update={"images": Folder(source="folder", path=path, limit=limit), "split": split})
    return catalog.check(DATA.model_copy(update={"id": own, "validation": {}, **changes}))


@pytest.mark.parametrize(
    ("counts", "limit", "least", "said"),
    [
        ((100, 3), None, 1, "class '0001' has 3 images, of which 0 are for val"),
        ([2] * 1000, None, 1, r"class '0000' has 2 images, of which 0 are for test; .* \(and 999 more classes\)"),
        ((40, 40), 20, 3, "class '0000' has 10 images, of which 2 are for val"),
        ((100, 30), None, 5, "class '0001' has 30 images, of which 4 are for val"),
        ((100,), None, 5, "holds one class"),
    ],
)
def test_check_counts_what_the_split_will_give(tmp_path, counts, limit, least, said):
    with pytest.raises(InputError, match=said):
        checked(folder_of(tmp_path, *counts), limit, min_per_class=least)


def test_check_knows_how_many_images_will_train(tmp_path):
    facts = checked(folder_of(tmp_path, 100, 37), min_per_class=5)
    assert facts.classes == ["0000", "0001"]
    assert facts.training == 60 + 22
    assert checked(tmp_path, limit=60, min_per_class=4).training == 18 + 18


@pytest.mark.parametrize("counts", [[5, 1, 3], [1] * 7, [10, 0, 2, 9], [4, 4]])
def test_a_limit_takes_class_by_class_in_turn(counts):
    for limit in range(sum(counts) + 1):
        left, taken = list(counts), [0] * len(counts)
        while sum(taken) < limit:
            for i in range(len(counts)):
                if left[i] and sum(taken) < limit:
                    left[i], taken[i] = left[i] - 1, taken[i] + 1
        assert folders.even(list(counts), limit) == taken
    assert folders.even(list(counts), None) == counts


def test_sets_that_no_memory_holds_are_found_before_they_are_read(tmp_path):
    chain = DATA.chain.model_copy(update={"size": 4096, "upsize": None, "levels": None, "grey": False})
    noise = {"noise": DATA.far["gaussian"].model_copy(update={"count": 10**6})}
    with pytest.raises(InputError, match=r"data\.far\.noise: 1,000,000 images; all sets together need .* GiB .* data\.stream"):
        checked(folder_of(tmp_path, 100, 100), chain=chain, far=noise)
