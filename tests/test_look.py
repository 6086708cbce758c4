"""What `look` says of a folder, on folders whose faults are known, and of guarantees, against what they are made from."""

import json
import re
import shutil
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
import pytest
from conftest import ROOT, Project, Workspace, parse
from PIL import Image, ImageDraw

from ood.config import Params, recipes
from ood.config.data import Chain
from ood.config.look import Asked
from ood.config.whole import check
from ood.data.reading import UnreadableError
from ood.data.sets import load
from ood.errors import InputError
from ood.look import files, folds, guide
from ood.look.findings import Findings, told
from ood.look.folder import Files, list_files, read
from ood.look.labels import Doubts, doubts
from ood.look.shortcut import shortcut
from stages import look

CLASSES = ("disc", "square", "stripes")


def drawn(kind: str, rng: np.random.Generator, size: int = 96) -> Image.Image:
    """A shape of a class's kind in a colour and place of its own, on noise."""
    picture = Image.fromarray(rng.integers(90, 150, (size, size, 3)).astype(np.uint8))
    pen, colour = ImageDraw.Draw(picture), tuple(int(v) for v in rng.integers(0, 256, 3))
    x, y, half = (int(v) for v in (*rng.integers(30, 66, 2), rng.integers(16, 28)))
    box = (x - half, y - half, x + half, y + half)
    if kind == "disc":
        pen.ellipse(box, fill=colour)
    elif kind == "square":
        pen.rectangle(box, fill=colour)
    else:
        for place in range(0, size, 12):
            pen.line((0, place + y % 12, size, place + x % 12), fill=colour, width=5)
    return picture


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """Three classes, twelve pictures each."""
    root, rng = tmp_path_factory.mktemp("shapes"), np.random.default_rng(0)
    for kind in CLASSES:
        (root / kind).mkdir()
        for i in range(12):
            drawn(kind, rng).save(root / kind / f"{i:02d}.png")
    return root


@pytest.fixture
def spoilt(shapes, tmp_path):
    """The same with one fault of every kind."""
    root = tmp_path / "spoilt"
    shutil.copytree(shapes, root)
    (root / "stripes/05.png").rename(root / "disc/wrong.png")  # a wrong label
    shutil.copy(root / "square/00.png", root / "disc/twice.png")  # the same under two classes
    shutil.copy(root / "square/01.png", root / "square/copy.png")
    (root / "square/broken.png").write_bytes((root / "square/02.png").read_bytes()[:300])
    (root / "square/notes.txt").write_text("no picture")
    Image.new("RGB", (12, 12), "red").save(root / "stripes/dot.png")
    return root


def looked(path, folder, check=True):
    """Exit status, what was printed, and the metrics of `look`."""
    path.mkdir(exist_ok=True)
    run = Workspace(path).stage(f"look {folder}", check=check)
    table = path / f"metrics/look/{folder.name}.json"
    return run, json.loads(table.read_text()) if table.is_file() else None


@pytest.mark.slow
def test_every_planted_fault_is_found(spoilt, tmp_path):
    run, found = looked(tmp_path / "work", spoilt)
    listed = found["listed"]
    assert listed["doubtful_labels"][0].keys() == {"name", "labelled", "looks_like", "believed"}
    assert {"disc/wrong.png": "stripes", "disc/twice.png": "square"}.items() <= {
        row["name"]: row["looks_like"] for row in listed["doubtful_labels"]
    }.items()
    assert listed["alike_under_two_classes"] == [["disc/twice.png", "square/00.png"]]
    assert sorted(map(sorted, listed["identical"])) == [["disc/twice.png", "square/00.png"], ["square/01.png", "square/copy.png"]]
    assert listed["tiny"] == ["stripes/dot.png"]
    assert len(listed["unreadable"]) == 1
    assert "square/broken.png" in listed["unreadable"][0]
    assert found["skipped"] == {"of a kind that is not read (.txt)": 1}
    assert (found["images"], found["classes"], found["unreadable"]) == (39, 3, 1)
    for words in ("disc/wrong.png: labelled disc, looks like stripes", "broken.png", "1 of a kind that is not read (.txt)", "it takes 299"):
        assert words in run.stdout
    with Image.open(tmp_path / "work/metrics/pictures/look-spoilt.png") as sheet:
        assert sheet.width > 500


@pytest.mark.slow
def test_one_class_and_a_class_of_one(shapes, tmp_path):
    run, found = looked(tmp_path / "work", shapes / "disc")
    assert "one class: nothing to tell apart" in run.stdout
    assert found["accuracy_of_heads"] is None
    (tmp_path / "few").mkdir()
    for kind, count in {"disc": 6, "square": 6, "stripes": 1}.items():
        (tmp_path / "few" / kind).mkdir()
        for i in range(count):
            shutil.copy(shapes / kind / f"{i:02d}.png", tmp_path / "few" / kind)
    run, found = looked(tmp_path / "work", tmp_path / "few")
    assert "1 picture not judged" in run.stdout
    assert "(by guessing: 46%)" in run.stdout
    assert found["accuracy_of_heads"] is not None


@pytest.mark.slow
def test_dvc_looks_again_when_a_picture_changes(shapes, tmp_path):
    project = Project(tmp_path, {"look.runs": {"shapes": {"path": "images/shapes"}}})
    shutil.copytree(shapes, project.path / "images/shapes", dirs_exist_ok=True)
    assert "look@shapes" in project.repro("look@shapes")[0]
    assert project.repro("look@shapes")[0] == set()
    before = json.loads((project.path / "metrics/look/shapes.json").read_text())
    (project.path / "images/shapes/disc/00.png").unlink()
    assert project.repro("look@shapes")[0] == {"check", "look@shapes"}
    after = json.loads((project.path / "metrics/look/shapes.json").read_text())
    assert (before["images"], after["images"]) == (36, 35)
    assert (project.path / "metrics/pictures/look-shapes.png").is_file()


def test_a_folder_that_is_no_folder(workspace):
    run = workspace.stage("look nowhere", check=False)
    assert run.returncode == 1
    assert "nowhere: no such folder" in run.stderr
    workspace.set({"look.net": {"name": "wrn_10_1"}})
    run = workspace.stage("look nowhere", check=False)
    assert "look.net" in run.stderr
    assert "take one of timm's" in run.stderr


def test_what_a_file_says(tmp_path):
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 255, (40, 60, 3)).astype(np.uint8))
    exif = Image.Exif()
    exif[files.MAKE], exif[files.MODEL], exif[files.ORIENTATION] = "Acme", "One\0", 6
    picture.save(tmp_path / "a.jpg", quality=90, exif=exif)
    picture.save(tmp_path / "b.jpg", quality=30)
    picture.convert("L").save(tmp_path / "c.png")
    first, second, third = (files.read(tmp_path / name) for name in ("a.jpg", "b.jpg", "c.png"))
    assert (first.width, first.height, first.short, first.camera) == (40, 60, 40, "Acme One")
    assert (second.width, second.height, second.camera) == (60, 40, "none named")
    assert 0 < first.quality < second.quality
    assert (third.kind, third.mode, third.quality) == ("PNG", "L", 0.0)
    columns = files.columns([first, second, third])
    assert columns["camera Acme One"].tolist() == [1, 0, 0]
    assert "aspect" in columns
    assert not files.columns([first, first]), "what does not differ tells nothing"


def test_a_file_that_is_no_picture_is_named(tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"\xff\xd8 no picture")
    with pytest.raises(UnreadableError, match=r"x\.jpg: what the file says of itself"):
        files.read(tmp_path / "x.jpg")


def clouds(rng, per_class=30, classes=4, apart=6.0):
    """Features of classes that lie apart, their labels, and each image as a unit of its own."""
    labels = np.repeat(np.arange(classes), per_class)
    centres = apart * np.eye(classes, 16)
    return centres[labels] + rng.normal(size=(len(labels), 16)), labels, np.arange(len(labels))


def test_wrong_labels_are_found_and_right_ones_left_alone():
    rng = np.random.default_rng(0)
    features, labels, units = clouds(rng)
    assert not len(doubts(features, labels, units, 4, lambda: None).doubtful)
    wrong = rng.choice(len(labels), 8, replace=False)
    given_labels = labels.copy()
    given_labels[wrong] = (labels[wrong] + 1) % 4
    found = doubts(features, given_labels, units, 4, lambda: None)
    believed = found.believed(given_labels)
    assert set(np.argsort(believed)[:8]) == set(wrong), "they are the least believed"
    assert set(found.doubtful) <= set(wrong)
    assert len(found.doubtful) >= 7, "how many are wrong is itself an estimate"
    assert (found.seen_as[wrong] == labels[wrong]).all()
    assert found.accuracy(labels) > 0.95
    assert (np.diff(believed[found.doubtful]) >= 0).all(), "the most doubtful first"


def test_pictures_that_look_the_same_do_not_vouch_for_each_other():
    rng = np.random.default_rng(1)
    features, labels, units = clouds(rng, apart=3.0)
    burst = np.arange(6)  # one scene, shot six times, all under the wrong class
    features[burst] = features[0] + 0.01 * rng.normal(size=(6, 16))
    labels[burst] = 1
    apart = doubts(features, labels, units, 4, lambda: None)
    units[burst] = 0
    together = doubts(features, labels, units, 4, lambda: None)
    assert set(burst) <= set(together.doubtful)
    assert together.believed(labels)[burst].max() < apart.believed(labels)[burst].min()
    for fit, judge in folds.split(labels, units):
        assert not set(units[fit]) & set(units[judge])


def test_heads_that_know_nothing_doubt_nothing():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 60)
    found = doubts(rng.normal(size=(180, 8)), labels, np.arange(180), 3, lambda: None)
    assert len(found.doubtful) > 20, "confident learning alone would have them looked at"
    assert not found.trusted(labels)
    features, labels, units = clouds(rng)
    assert doubts(features, labels, units, 4, lambda: None).trusted(labels)


SMALL = Chain(grey=False, size=64, short=None, resize="area", levels=None, mean=[0.5] * 3, std=[0.5] * 3)


def test_look_alikes_are_held_out_together_under_whatever_class_and_promise_once(spoilt):
    for name in ("one", "two", "three"):
        shutil.copy(spoilt / "stripes/07.png", spoilt / f"stripes/{name}.png")
    seen = read(spoilt, list_files(spoilt), SMALL, 10**8, lambda: None)
    place = {name: i for i, name in enumerate(seen.names)}
    assert seen.units[place["disc/twice.png"]] == seen.units[place["square/00.png"]]
    assert seen.units[place["square/01.png"]] == seen.units[place["square/copy.png"]]
    assert len(np.unique(seen.units)) == len(seen.labels) - 5 == 37
    assert Findings.of(seen, 64, None).promises()[0]["images"] == 7, "a fifth of 37 that look different, not of 42"


def test_what_heads_do_not_know_is_not_listed(spoilt):
    seen = read(spoilt, list_files(spoilt), SMALL, 10**8, lambda: None)
    sure = np.full((len(seen.labels), 3), 0.05)
    sure[np.arange(len(seen.labels)), seen.labels] = 0.9
    sure[0] = [0.05, 0.9, 0.05]
    assert [row["looks_like"] for row in Findings.of(seen, 64, Doubts(sure, np.array([0]))).doubtful()] == ["square"]
    guessing = Findings.of(seen, 64, Doubts(np.roll(sure, 1, axis=1), np.arange(10)))
    assert guessing.doubtful() == []
    assert "that is too little to doubt labels by; none is listed" in told(guessing, "x")


def test_what_is_small_in_bytes_is_no_shortcut(tmp_path):
    """Skies and meadows from one camera: a blurred picture takes fewer bytes, and that is what it shows."""
    rng, found = np.random.default_rng(0), []
    for i in range(20):
        for name, side in (("sky", 4), ("grass", 96)):
            picture = Image.fromarray(rng.integers(0, 255, (side, side, 3)).astype(np.uint8)).resize((96, 96))
            picture.save(tmp_path / f"{name}-{i}.jpg", quality=90)
            found.append(files.read(tmp_path / f"{name}-{i}.jpg"))
    assert found[0].size < found[1].size
    assert files.columns(found) == {}


def test_results_of_two_folders_have_two_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "metrics/look").mkdir(parents=True)
    assert look.named(Path("a/train"), {}) == "train"
    (tmp_path / "metrics/look/train.json").write_text(json.dumps({"folder": "a/train"}))
    assert look.named(Path("a/train"), {}) == "train", "again"
    assert re.fullmatch("train-[0-9a-f]{6}", look.named(Path("b/train"), {}))
    assert re.fullmatch("fruit-[0-9a-f]{6}", look.named(Path("fruit"), {"fruit"}))
    lossy = {look.named(Path(name), {}) for name in ("雪", "犬", "A b", "a-b")}
    assert len(lossy) == 4


def test_a_shortcut_is_told_from_an_accident():
    rng = np.random.default_rng(0)
    labels, units = np.repeat(np.arange(4), 30), np.arange(120)
    sizes = rng.choice([640, 800, 1024], 120).astype(float)
    by_chance = shortcut({"width": sizes}, labels, units)
    assert not by_chance.warns
    sizes[labels == 2] = 333.0
    found = shortcut({"width": sizes, "height": rng.normal(size=120)}, labels, units)
    assert found.warns
    assert found.best == (2, 1.0)
    assert found.facts[0] == "width"
    assert found.chance == 0.25
    assert shortcut({}, labels, units) is None


def test_a_burst_in_one_size_is_no_shortcut():
    """Each class is a few bursts, each burst of a size of its own: held out together, sizes tell nothing."""
    rng = np.random.default_rng(0)
    labels, units = np.repeat(np.arange(3), 40), np.arange(120) // 10
    sizes = rng.permutation(12)[units].astype(float)
    assert shortcut({"width": sizes}, labels, np.arange(120)).warns
    assert not shortcut({"width": sizes}, labels, units).warns


# --- the guided recipe


def folder_of(root, counts, size=240, start=0):
    """Class folders of pictures, each its own."""
    for label, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for i in range(count):
            rng = np.random.default_rng([start, label, i])
            Image.fromarray(rng.integers(0, 255, (12, 12, 3)).astype(np.uint8)).resize((size, size)).save(root / name / f"{i:03d}.png")
    return root


def proposed(asked, known, seconds=0.02, name="folder"):
    """The lines of a proposal and its values."""
    proposal = guide.propose(name, asked, known)
    if seconds != 0:
        text = recipes.apply((ROOT / "params.yaml").read_text(), proposal.text(), name)
        with NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(text)
            file.flush()
            params = Params(file.name)
        check(params)
        guide.tell_time(proposal, params, known, seconds, "cpu")
    return recipes.header(proposal.text()), parse(proposal.text())


def known(counts, **others):
    return guide.Known(Files([], np.empty(0, np.int64), list(counts), {}), counts, **({"short": 300} | others))


def test_the_choice_fits_the_folder():
    asked = Asked(Path("images/mine"), Path("images/other"), Path("images/strange"), Path("images/boxes"))
    lines, found = proposed(asked, known({"a": 400, "b": 90}, outliers=50, unknown=60, far=70))
    assert found["data"]["id"] == {
        "images": {"source": "folder", "path": "images/mine"}, "test": None,
        "split": {"train": 0.64, "val": 0.12, "calibration": 0.12, "test": 0.12},
    }  # fmt: skip
    assert "detector: at most 5% false alarms, on average (marginal), on 52 calibration pictures" in lines
    assert found["detector"] == {"reject": 0.05, "guarantee": "marginal"}
    assert found["data"]["min_per_class"] == 5
    assert found["data"]["auxiliary"] == {"others": {"source": "folder", "path": "images/other"}}
    assert found["data"]["near"] == {"unknown": {"source": "folder", "path": "images/strange"}}
    assert found["data"]["far"]["unlike"] == {"source": "folder", "path": "images/boxes"}
    assert "far things to test with: 70 pictures in images/boxes, and noise" in lines
    assert found["look"] == {"runs": {"id": {"path": "images/mine"}}}
    assert (found["data"]["chain"]["size"], found["data"]["chain"]["short"]) == (224, 256)
    assert found["pretrain"]["training"]["epochs"] == 60
    assert any("490 pictures, 2 classes" in line for line in lines)
    assert any(line.startswith("time: about") and "0.020 s" in line for line in lines)


def test_few_pictures_small_ones_and_many():
    asked = Asked(Path("images/mine"), size=96)
    lines, found = proposed(asked, known({"a": 12, "b": 40}, short=64), seconds=0)
    assert found["data"]["id"]["split"] == {"train": 0.5, "val": 0.2, "calibration": 0.1, "test": 0.2}
    assert found["detector"] == {"reject": 0.2, "guarantee": "marginal"}
    assert found["data"]["min_per_class"] == 2
    assert (found["data"]["chain"]["size"], found["data"]["chain"]["short"]) == (96, 110)
    assert not any(line.startswith("time") for line in lines)
    text = " ".join(lines)
    for words in ("smallest class has 12", "yours have 64, so they are enlarged", "mixtures and jigsaws", "its figures promise nothing"):
        assert words in text
    spoilt = {role: {source["kind"] for source in found["data"][role].values()} for role in ("auxiliary", "validation")}
    assert spoilt["auxiliary"] == {"arithmetic_mean", "jigsaw"}
    assert not spoilt["auxiliary"] & spoilt["validation"]
    _, found = proposed(Asked(Path("images/mine")), known({"a": 30_000, "b": 30_000}))
    assert found["pretrain"]["training"]["epochs"] == 10


@pytest.mark.parametrize("name", [*guide.NETS])
def test_every_recipe_for_folders_fits_itself_to_one(name):
    """What trains the whole network takes as long as its epochs, and begins with one seed where three take hours."""
    assert name in recipes.available()
    lines, found = proposed(Asked(Path("images/mine"), size=160), known({"a": 400, "b": 90}), name=name)
    assert found["data"]["id"]["images"] == {"source": "folder", "path": "images/mine"}
    assert (found["data"]["chain"]["size"], found["data"]["corrupted"]) == (160, {})
    text = "\n".join(lines)
    assert f"net: {guide.NETS[name]}" in text
    assert ("the network has learned with 224" in text) == (name != "folder-scratch")
    minutes = float(re.search(r"time: about (\d+(?:\.\d)?) (?:minutes|hours)", text)[1])
    if name == "folder":
        assert found["seeds"] == [0, 1, 2]
        assert minutes < 6
        return
    # Written for 650 training images; these are 313: 2.07 times the epochs. An image is 3 looks of 0.02 s; mask's and features' beside.
    trained = [found["pretrain"]["training"]["epochs"], *(found[key]["training"]["epochs"] for key in ("um", "umap", "oe"))]
    assert trained == ([21, 21, 21, 11] if name == "folder-tuned" else [124, 42, 42, 21])
    epochs = 6 * 21 + 2 * 2 * 11 + 11 if name == "folder-tuned" else 2 * 124 + 4 * 42 + 2 * 21 + 21
    looks = 3 * epochs * 313 + 2 * 10 * 313 + (len(found["models"]) + 2) * (490 + 100 + 4 * 150 + 300 + 600)
    assert found["seeds"] == [0]
    assert "seeds: one to begin with; 3 take " in text
    minutes *= 60 if "hours" in text.split("time: about")[1] else 1
    assert minutes == pytest.approx(looks * 0.02 / 60, rel=0.1)


def test_a_time_that_cannot_be_told_is_said():
    lines, found = proposed(Asked(Path("images/mine")), known({"a": 400, "b": 90}), seconds=None, name="folder-tuned")
    assert any(line.startswith("time: not measured") for line in lines)
    assert found["seeds"] == [0, 1, 2]


@pytest.mark.parametrize(
    ("counts", "given_", "words"),
    [
        ({"a": 19}, {}, "holds one class"),
        ({"a": 19, "b": 9, "c": 3}, {}, "class 'c' has 3 pictures (and 1 more classes)"),
        ({"a": 10, "b": 10}, {"outliers": "mine/a"}, "lies within --id"),
        ({"a": 10, "b": 10}, {"unknown": "mine/a"}, "lies within --id"),
        ({"a": 10, "b": 10}, {"far": "mine/a"}, "lies within --id"),
        ({"a": 10, "b": 10}, {"unknown": "nowhere"}, "nowhere: no such folder"),
    ],
)
def test_what_can_not_be_trained_on_is_said_at_once(tmp_path, monkeypatch, counts, given_, words):
    monkeypatch.chdir(tmp_path)
    folder_of(tmp_path / "mine", counts, size=32)
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        guide.survey(Asked(Path("mine"), **{name: Path(path) for name, path in given_.items()}))
    assert "within" not in words or str(caught.value).startswith(f"--{next(iter(given_))} ")


def test_a_folder_is_surveyed(tmp_path):
    folder_of(tmp_path / "mine", {"a": 10, "b": 11}, size=100)
    folder_of(tmp_path / "more", {"x": 3}, size=50)
    (tmp_path / "mine/a/000.png").write_bytes(b"no picture")
    folder_of(tmp_path / "boxes", {"y": 4}, size=50)
    found = guide.survey(Asked(tmp_path / "mine", unknown=tmp_path / "more", far=tmp_path / "boxes"))
    assert (found.counts, found.short, found.outliers, found.unknown, found.far) == ({"a": 10, "b": 11}, 100, 0, 3, 4)
    assert len(found.listed.paths) == found.total == 21


@pytest.mark.slow
def test_a_recipe_for_a_folder_needs_no_hand(workspace):
    """Without outliers and unknown things: params.yaml passes check, and its data are prepared as it says."""
    folder_of(workspace.path / "images/mine", {"a # b": 10, "yes: {c}": 10}, size=64)
    (workspace.path / "images/mine/a # b/000.png").rename(workspace.path / "images/mine/a # b/IMG #0.png")
    (workspace.path / "images/mine/a # b/broken.png").write_bytes(b"no picture")
    (workspace.path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    shutil.copy(ROOT / "dvc.yaml", workspace.path)
    wrong = workspace.stage("recipe cifar10 --id images/mine", check=False)
    assert "belong to `recipe folder --id PATH`" in wrong.stderr
    said = workspace.stage("recipe folder --id images/mine --size 64").stdout
    assert "21 pictures, 2 classes" in said
    assert "still to do" not in said
    for stage in ("check", "prepare", "look id"):
        workspace.stage(stage)
    sizes = {
        name: len(load(name, workspace.path / "data/prepared"))
        for name in ("auxiliary/jigsaw", "validation/speckle", "near/coloured-noise")
    }
    assert sizes == {"auxiliary/jigsaw": 10, "validation/speckle": 4, "near/coloured-noise": 100}, (
        "of ten of a class five train, two validate"
    )
    assert json.loads((workspace.path / "metrics/look/id.json").read_text())["images"] == 20


def test_labels_that_are_changed_on_purpose_are_known(tmp_path, monkeypatch):
    """What benchmarks/mislabelled.py measures against: every picture once, so many of them elsewhere, and these by name."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from mislabelled import spoil

    source = folder_of(tmp_path / "mine", {"a": 10, "b": 15, "a-b": 15}, size=16)
    changed = spoil(source, tmp_path / "spoilt", 0.2, 0)
    found = {path.relative_to(tmp_path / "spoilt").as_posix(): path.read_bytes() for path in (tmp_path / "spoilt").rglob("*.png")}
    assert len(changed) == 8
    assert changed <= found.keys()
    own = {path.read_bytes(): path.parent.name for path in source.rglob("*.png")}
    assert sorted(found.values()) == sorted(own)
    assert {name for name, content in found.items() if own[content] != name.split("/")[0]} == changed
    assert spoil(source, tmp_path / "again", 0.2, 0) == changed
    assert spoil(source, tmp_path / "other", 0.2, 1) != changed
