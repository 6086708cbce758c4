"""A detector in its folder: the same answer in any company, to whatever is handed to it, and an error when a byte is wrong."""

import io
import itertools
import json
import os
import pickle
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from fuzzing import CASES
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageSequence
from safetensors.torch import load_file

from ood import Detector
from ood.config.data import Chain
from ood.config.evaluation import Odin, Scores
from ood.config.nets import Net
from ood.data.sets import ImageSet
from ood.deploy import bundle, calibrated, export, told
from ood.deploy.answers import Ensemble, Member
from ood.deploy.verdicts import Verdict
from ood.detection import detectors
from ood.detection.detectors import Outputs
from ood.detection.from_images import FROM_IMAGES, from_images
from ood.detection.rule import Rule
from ood.detection.scores import Head
from ood.errors import InputError
from ood.nets import store

CLASSES = ["cat", "dog", "größe"]
SOME = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)


def made(folder, score="knn", net="wrn_10_1", seeds=(0,), size=8, calibration=100, rule=None, projection=None) -> Path:
    """A detector of untrained networks, calibrated on noise, written as `export` writes it."""
    chain = Chain(size=size, mean=[0.5] * 3, std=[0.5] * 3)
    scores, odin, members, networks = Scores(knn_k=5), Odin(), [], []
    folder.mkdir(parents=True, exist_ok=True)
    images = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (calibration, 3, size, size), dtype=np.uint8))
    for number, seed in enumerate(seeds):
        torch.manual_seed(seed)
        turns = 1.0 if score == "rotation" else None
        spec = store.Spec(Net(name=net).model_dump(), CLASSES, size, chain.mean, chain.std, projection=projection, rotation=turns)
        model = spec.build().eval()
        with torch.no_grad():
            raw = model.features(images.float() / 255)
            model.fc.bias -= model.head(raw).mean(0)  # so that each class is somebody's
            branch = (torch.randn(1, model.fc.in_features) / 10, torch.zeros(1))
            head = Head(model.fc.weight.detach(), model.fc.bias.detach(), confidence=branch, negatives=torch.randn(9, len(branch[0][0])))
            outputs = Outputs.of(head, model.head(raw), raw)
        labels = torch.arange(calibration) % len(CLASSES)
        if score in FROM_IMAGES:
            fitted = from_images(odin, turns=turns is not None)[score]
        else:
            fitted = detectors.fit([score], head, outputs, labels, outputs.logits, scores)[score]
        store.save_weights(folder / bundle.weights(number), model.state_dict())
        store.save_weights(folder / bundle.fitted(number), getattr(fitted, "state", {}))
        members.append(Member(model, fitted, 1.5))
        networks.append({"net": spec.net, "normalize": False, "temperature": 1.5} | ({"projection": projection} if projection else {}))
    ensemble = Ensemble(tuple(members), 1).steady()
    answers = [ensemble.answer(part) for part in images.split(ensemble.batch)]
    said = {kind: torch.from_numpy(np.concatenate([getattr(found, kind) for found in answers])) for kind in ("scores", "predicted")}
    store.save_weights(folder / bundle.CALIBRATION, said | {"probe": torch.from_numpy(ensemble.probe())})
    (folder / bundle.CARD).write_text("a card")
    rule = {"reject": 0.05, "guarantee": "conditional", "confidence": 0.95, "per_class": False} | (rule or {})
    known = Rule(said["scores"].numpy(), said["predicted"].numpy(), CLASSES, *(rule[key] for key in rule))
    rule |= {"images": calibration, "thresholds": known.all_thresholds}
    facts = {
        "made_with": {"torch": torch.__version__},
        "model": "ce",
        "seeds": list(seeds),
        "classes": CLASSES,
        "chain": chain.model_dump(mode="json"),
        "max_pixels": 100_000,
        "networks": networks,
        "batch": ensemble.batch,
        "channels_last": False,
        "score": score,
        "scores": scores.model_dump(mode="json"),
        "odin": odin.model_dump(mode="json"),
        "rule": rule,
        "thumbnails": False,
    }
    bundle.write(folder, facts)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Don't write into it, copy it."""
    return made(tmp_path_factory.mktemp("detector"))


@pytest.fixture(scope="module")
def detector(folder) -> Detector:
    return Detector.load(folder)


def nameless(verdicts):
    return [replace(verdict, name="") for verdict in verdicts]


def test_a_network_may_have_a_linear_layer_before_its_head(tmp_path):
    """As DREAM-OOD's encoder has; and a file that says nothing of one, as they were before, is read as it was."""
    found = Detector.load(made(tmp_path / "d", projection=7))
    assert found.ensemble.members[0].net.fc.in_features == 7
    config = json.loads((tmp_path / "d/config.json").read_text())
    del config["networks"][0]["projection"], config["sha256"]
    bundle.write(
        copied(tmp_path / "d", tmp_path / "other"), {key: value for key, value in config.items() if key not in ("format", "files")}
    )
    with pytest.raises(InputError, match="weights of another network"):
        Detector.load(tmp_path / "other")


# --- one answer, whatever the company


@pytest.mark.parametrize("score", detectors.NAMES)
def test_an_image_gets_the_same_answer_alone_and_among_others(score, tmp_path):
    detector = Detector.load(made(tmp_path, score))
    together = nameless(detector.predict(SOME))
    assert together == nameless(detector.predict(image) for image in SOME)
    assert together[::-1] == nameless(detector.predict(SOME[::-1]))
    assert len({verdict.score for verdict in together}) > 20
    assert together == nameless(Detector.load(tmp_path, workers=5).predict(list(SOME)))


@pytest.mark.parametrize("net", ["densenet_bc_22_12", "resnet_8_2"])
def test_so_it_is_for_networks_whose_convolutions_know_their_place(net, tmp_path):
    """A DenseNet's 12 channels add up differently at a batch's edges (then the batch is 1); answers don't."""
    detector = Detector.load(made(tmp_path, "msp", net, size=16, calibration=60))
    assert nameless(detector.predict(SOME[:9])) == nameless(detector.predict(image) for image in SOME[:9])


def test_threads_change_nothing_and_stay_as_they_were(detector):
    before = torch.get_num_threads()
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(detector.predict(SOME))
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    assert found[0] == found[1] == found[2]


def test_each_batch_is_computed_by_one_thread(folder):
    """Some networks' convolutions add up differently with two (EfficientNet-Lite0's do, in small batches)."""
    detector, seen = Detector.load(folder), []
    hook = detector.ensemble.members[0].net.backbone.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    detector.predict(SOME)
    detector.ensemble.answer(torch.from_numpy(SOME[:3]).permute(0, 3, 1, 2))
    torch.set_num_threads(before)
    hook.remove()
    assert set(seen) == {1}


def test_an_ensemble_answers_by_means(tmp_path):
    alone = [Detector.load(made(tmp_path / str(seed), seeds=(seed,))).predict(SOME) for seed in (0, 1)]
    both = Detector.load(made(tmp_path / "both", seeds=(0, 1)))
    for one, other, verdict in zip(*alone, both.predict(SOME), strict=True):
        assert verdict.score == pytest.approx((one.score + other.score) / 2)
        if one.label == other.label:
            assert verdict.label == one.label
            assert verdict.probability == pytest.approx((one.probability + other.probability) / 2)
    assert both.bundle.seeds == [0, 1]


def test_what_a_verdict_holds(detector, folder):
    known = bundle.tensors(folder, bundle.read(folder), bundle.CALIBRATION)["scores"].numpy()
    verdicts = detector.predict(SOME)
    for verdict in verdicts:
        assert verdict.label in CLASSES
        assert verdict.label != verdict.runner_up
        assert verdict.probability >= verdict.runner_up_probability
        assert verdict.p_value == (1 + (known >= verdict.score).sum()) / (len(known) + 1)
        assert verdict.is_ood == (verdict.score > detector.rule.thresholds[0])
    assert detector.rule.thresholds[0] == np.sort(known)[-2], "with 100 images two may be flagged"
    strict, loose = Detector.load(folder, reject=0.03), Detector.load(folder, reject=0.5, guarantee="marginal")
    assert strict.rule.thresholds[0] >= detector.rule.thresholds[0] > loose.rule.thresholds[0]
    assert Detector.load(folder, guarantee="marginal").rule.thresholds[0] < detector.rule.thresholds[0]
    with pytest.raises(InputError, match=r"0\.01, conditional with confidence 0\.95, takes 299 .* there are 100\. Ask for a larger rate"):
        Detector.load(folder, reject=0.01)


def test_its_probabilities_are_at_the_fitted_temperature(folder):
    detector = Detector.load(folder)
    (member,) = detector.ensemble.members
    with torch.inference_mode():
        logits = member.net(torch.from_numpy(SOME).permute(0, 3, 1, 2).float() / 255)
    expected = (logits.double() / 1.5).softmax(1).amax(1)
    assert [verdict.probability for verdict in detector.predict(SOME)] == pytest.approx(expected.tolist(), abs=1e-6)


def test_what_is_asked_for_must_be_there(folder):
    wrong = [
        ({"reject": 0.0}, "lies between"),
        ({"reject": 0.9}, "lies between"),
        ({"reject": float("nan")}, "lies between"),
        ({"guarantee": "Marginal"}, "there is none"),
        ({"device": "banana"}, "this machine has none"),
        ({"device": "meta"}, "double precision"),
    ]
    for options, words in wrong:
        with pytest.raises(InputError, match=words):
            Detector.load(folder, **options)
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="this machine has none"):
            Detector.load(folder, device="cuda")


# --- whatever is handed to it


def test_it_takes_pictures_in_every_form(detector, tmp_path):
    image = SOME[0]
    file = tmp_path / "ein Bild.png"
    Image.fromarray(image).save(file)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    forms = [
        str(file), file, file.read_bytes(), io.BytesIO(file.read_bytes()), file.open("rb"), Image.open(file), image, image / 255.0,
        (image / 255.0).astype(np.float32), tensor, tensor / 255, tensor.double() / 255, Image.fromarray(image).convert("RGBA"),
        np.dstack([image, np.full((8, 8), 255, np.uint8)]),
    ]  # fmt: skip
    (expected,) = nameless([detector.predict(image)])
    assert nameless([detector.predict(form) for form in forms]) == [expected] * len(forms)
    assert all(isinstance(detector.predict(form), Verdict) for form in (str(file), image))
    grey = image[:, :, 0]
    greys = (grey, grey[:, :, None], torch.from_numpy(grey), np.dstack([grey] * 3))
    assert len({*nameless([detector.predict(form) for form in greys])}) == 1


def test_it_takes_many_at_once(detector, tmp_path):
    (tmp_path / "b" / "deep").mkdir(parents=True)
    for i, name in enumerate(("a.png", "b/c.PNG", "b/deep/d.png", "e.txt")):
        Image.fromarray(SOME[i]).save(tmp_path / name, format="png")
    three = detector.predict(list(SOME[:3]))
    assert nameless(detector.predict(tmp_path)) == nameless(three), "below it too, what isn't called like a picture left out"
    assert [verdict.name for verdict in detector.predict(tmp_path)] == [str(tmp_path / n) for n in ("a.png", "b/c.PNG", "b/deep/d.png")]
    assert nameless(detector.predict(f"{tmp_path}/*")) == nameless([*three, detector.predict(tmp_path / "e.txt")]), "folders in a pattern"
    assert nameless(detector.predict(np.array([str(tmp_path / "a.png")]))) == nameless(three)[:1]
    assert nameless(detector.predict(f"{tmp_path}/**/*.png")) == nameless(three)[:1] + nameless(three)[2:]
    for several in (SOME[:3], torch.from_numpy(SOME[:3]).permute(0, 3, 1, 2)):
        assert nameless(detector.predict(several)) == nameless(three)
    assert [v.name for v in detector.predict([SOME[0], SOME[1:3]])] == ["0", "1/0", "1/1"]
    assert detector.predict([]) == []
    odd = tmp_path / "what[1]?.png"
    Image.fromarray(SOME[0]).save(odd)
    assert detector.predict(odd).name == str(odd), "a file that is called like a pattern"


def test_a_folder_passes_over_nothing_without_a_word(detector, tmp_path):
    """Linked folders are walked, once; kinds that aren't read and folders that can't be are told of; hidden ones are left out."""
    (tmp_path / "in" / "b").mkdir(parents=True)
    (tmp_path / "in" / ".thumbs").mkdir()
    (tmp_path / "elsewhere").mkdir()
    for name in ("in/a.png", "in/.thumbs/t.png", "elsewhere/c.png"):
        Image.fromarray(SOME[0]).save(tmp_path / name)
    (tmp_path / "in/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in/back").symlink_to(tmp_path / "in")
    (tmp_path / "in/x.heic").write_bytes(b"?")
    (tmp_path / "in/notes.txt").write_text("no picture")
    found = {Path(verdict.name).relative_to(tmp_path).as_posix(): verdict for verdict in detector.predict(tmp_path / "in")}
    assert set(found) == {"in/a.png", "in/linked/c.png", "in/x.heic"}
    assert "aren't read here" in found["in/x.heic"].error


def test_a_generator_is_answered_by_one_that_holds_few(folder):
    detector, taken = Detector.load(folder, workers=2), []

    def endless():
        for i in itertools.count():
            taken.append(i)
            yield SOME[i % len(SOME)]

    verdicts = detector.predict(endless())
    first = list(itertools.islice(verdicts, 100))
    assert [verdict.name for verdict in first] == [str(i) for i in range(100)]
    assert len(taken) <= 100 + 12 * detector.ensemble.batch
    verdicts.close()


def test_what_changes_after_it_was_handed_over_is_judged_as_it_was(detector, tmp_path):
    """A camera's buffer that is filled again, the frames of a GIF, a file that its `with` closes."""
    expected = nameless(detector.predict(SOME[:30]))

    def camera():
        buffer = np.empty((8, 8, 3), np.uint8)
        for image in SOME[:30]:
            buffer[:] = image
            yield buffer

    def opened():
        for i, image in enumerate(SOME[:30]):
            Image.fromarray(image).save(tmp_path / f"{i}.png")
            with (tmp_path / f"{i}.png").open("rb") as stream:
                yield stream

    def pictures():
        for i in range(30):
            with Image.open(tmp_path / f"{i}.png") as picture:
                yield picture

    for source in (camera, opened, pictures):
        assert nameless(detector.predict(source())) == expected, source.__name__
    frames = [Image.fromarray(image[:, :, 0]) for image in SOME[:5]]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / "film.gif") as film:
        seen = nameless(detector.predict(ImageSequence.Iterator(film)))
    assert len({verdict.score for verdict in seen}) == 5
    with Image.open(tmp_path / "0.png") as lazy:
        assert nameless(detector.predict([lazy] * 100)) == expected[:1] * 100


def test_verdicts_come_while_the_next_picture_is_waited_for(detector):
    more = threading.Event()

    def slow():
        yield SOME[0]
        assert more.wait(20), "the first verdict must not wait for the second picture"
        yield SOME[1]

    verdicts = detector.predict(slow())
    assert next(verdicts).name == "0"
    more.set()
    assert [verdict.name for verdict in verdicts] == ["1"]


def test_what_a_generator_raises_comes_after_the_verdicts_of_what_it_gave(detector):
    def breaking():
        yield from SOME[:3]
        raise KeyError("camera")

    verdicts = detector.predict(breaking())
    assert nameless(itertools.islice(verdicts, 3)) == nameless(detector.predict(SOME[:3]))
    with pytest.raises(KeyError, match="camera"):
        next(verdicts)


def test_an_open_picture_is_read_as_its_file_is(detector, tmp_path):
    """Upright by its EXIF, transparency on white, and no larger than is allowed."""
    wide = Image.fromarray(np.random.default_rng(3).integers(0, 256, (8, 12, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    wide.save(tmp_path / "turned.png", exif=exif)
    wide.quantize(4).save(tmp_path / "palette.png", transparency=0)
    for name in ("turned.png", "palette.png"):
        assert nameless([detector.predict(Image.open(tmp_path / name))]) == nameless([detector.predict(tmp_path / name)])
    assert "100,000 are allowed" in detector.predict(Image.new("RGB", (400, 400))).error


def test_what_cannot_be_read_is_told_in_its_place_and_the_rest_goes_on(detector, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    Image.fromarray(np.zeros((400, 400, 3), np.uint8)).save(tmp_path / "large.png")
    odd = [
        tmp_path / "broken.png", "none.png", tmp_path / "large.png", None, 7, np.zeros((8, 8, 5), np.uint8), np.full((8, 8), 2.0),
        np.zeros((8, 8), np.int32), np.zeros((0, 8), np.uint8), io.StringIO("text"), {"a": 1}, b"", torch.full((3, 8, 8), float("nan")),
        str(tmp_path / "*.jpg"), Image.new("LAB", (8, 8)), "a\0b", Breaking(), torch.zeros(3, 8, 8).to_sparse(),
        torch.zeros(3, 8, 8, device="meta"), bytearray(b"no"), memoryview(b"no"), np.zeros((8, 8), complex), "\ud800.png",
    ]  # fmt: skip
    given = [part for wrong in odd for part in (SOME[0], wrong)]
    verdicts = detector.predict(given)
    assert len(verdicts) == len(given)
    assert len({*nameless(verdicts[::2])}) == 1
    for wrong, verdict in zip(odd, verdicts[1::2], strict=True):
        assert verdict.error, wrong
        assert verdict.label is verdict.score is verdict.is_ood is None
    assert "100,000" in verdicts[5].error
    for wrong in (None, 7, {"a": 1}, str(tmp_path / "*.jpg")):
        with pytest.raises(InputError, match="picture"):
            detector.predict(wrong)
    assert detector.predict("none.png").error


class Breaking:
    def read(self):
        raise KeyError("no disk")


PICTURES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([SOME[0], SOME[0][:3, :5], SOME[0] / 255, None, 3, "nowhere.png", Image.new("1", (3, 4)), Image.new("CMYK", (9, 2))]),
    st.tuples(st.integers(0, 9), st.integers(0, 9), st.sampled_from([1, 2, 3, 4])).map(lambda shape: np.zeros(shape, np.uint8)),
    st.tuples(st.integers(0, 4), st.integers(0, 9), st.integers(0, 9)).map(lambda shape: torch.rand(shape)),
    st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=4, max_size=4).map(lambda values: np.array(values).reshape(2, 2)),
)


@settings(max_examples=max(1000, CASES), deadline=None)
@given(st.lists(PICTURES, max_size=5))
def test_whatever_is_given_each_gets_a_verdict_and_none_changes_anothers(detector, several):
    verdicts = detector.predict([*several, SOME[1]])
    assert len(verdicts) >= len(several), "empty tensors of four dimensions hold nothing"
    assert replace(verdicts[-1], name="") == replace(detector.predict(SOME[1]), name="")
    for verdict in verdicts:
        assert (verdict.error is None) != (verdict.label is None)


# --- the folder


def copied(folder: Path, target: Path) -> Path:
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


FILES = ("config.json", "network-0.safetensors", "score-0.safetensors", "calibration.safetensors", "README.md")


@pytest.fixture(scope="module")
def mutant(folder, tmp_path_factory) -> Path:
    """A copy, one file of which is damaged at a time."""
    return copied(folder, tmp_path_factory.mktemp("mutant") / "d")


@settings(max_examples=max(1000, CASES), deadline=None)
@given(st.data())
def test_a_changed_byte_is_an_error_that_names_the_file(mutant, data):
    path = mutant / data.draw(st.sampled_from(FILES))
    whole = path.read_bytes()
    place, kind = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.sampled_from(["flip", "cut", "insert", "append"]))
    if kind == "flip":
        content = whole[:place] + bytes([whole[place] ^ (1 << data.draw(st.integers(0, 7)))]) + whole[place + 1 :]
    elif kind == "cut":
        content = whole[:place]
    else:
        more = data.draw(st.binary(min_size=1, max_size=4))
        content = whole[:place] + more + whole[place:] if kind == "insert" else whole + more
    path.write_bytes(content)
    try:
        with pytest.raises(InputError, match=path.name.replace(".", r"\.")):
            Detector.load(mutant)
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder, tmp_path, name):
    twin = copied(folder, tmp_path / "d")
    (twin / name).unlink()
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        Detector.load(twin)


def rewritten(folder: Path, target: Path, change) -> Path:
    """A folder whose config.json says something else, with hashes that fit: made by somebody who knows how."""
    twin = copied(folder, target)
    content = json.loads((twin / "config.json").read_text())
    change(content, twin)
    content["files"] = {name: bundle.sha256(twin / name) for name in content["files"] if (twin / name).is_file()}
    content["sha256"] = bundle._digest(content)
    (twin / "config.json").write_text(bundle._text(content))
    return twin


def put(key, value):
    def change(content, _):
        *parents, last = key.split(".")
        for parent in parents:
            content = content[int(parent) if parent.isdigit() else parent]
        content[last] = value

    return change


def pickled(_, twin):
    (twin / "network-0.safetensors").write_bytes(pickle.dumps({"a": Exploding()}))


class Exploding:
    def __reduce__(self):
        return (os.system, ("touch /tmp/exploded",))


def header_of_nothing(_, twin):
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    (twin / "network-0.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)


def nothing(_, twin):
    state = load_file(twin / "network-0.safetensors")
    store.save_weights(twin / "network-0.safetensors", state | {"fc.weight": torch.full_like(state["fc.weight"], torch.nan)})


def halved(_, twin):
    store.save_weights(
        twin / "network-0.safetensors", {name: value.half() for name, value in load_file(twin / "network-0.safetensors").items()}
    )


HOSTILE = {
    "another format": (put("format", 2), "format '2', and this version reads 1"),
    "no format": (lambda content, _: content.pop("format"), "reads 1"),
    "an unknown key": (put("run", "rm -rf /"), "run"),
    "a network from a hub": (put("networks.0.net.name", "timm/hf-hub:evil/net"), "no such network"),
    "a network too large for any memory": (put("networks.0.net.name", "resnet_1298_64"), "weights of another network"),
    "a file elsewhere": (put("files", {"../../etc/passwd": "0" * 64}), "files"),
    "fewer classes": (put("classes", ["cat", "dog"]), "weights of another network"),
    "another score": (put("score", "vim"), "fitted"),
    "a score that nobody knows": (put("score", "exec"), "score"),
    "more calibration images": (put("rule.images", 10**6), "calibration images"),
    "a rate that isn't one": (put("rule.reject", float("inf")), "reject"),
    "batches that no memory holds": (put("batch", 2**17), "batch"),
    "two classes of one name": (put("classes", ["cat", "cat", "dog"]), "twice"),
    "no name": (put("classes", ["cat", "", "dog"]), "classes"),
    "other thresholds": (put("rule.thresholds.conditional", [99.0]), "thresholds aren't those"),
    "pictures without end": (put("max_pixels", 10**30), "max_pixels"),
    "weights that are no numbers": (nothing, "computes something else here"),
    "weights of another kind": (halved, "weights of another network"),
    "a bank of another width": (
        lambda _, twin: store.save_weights(twin / "score-0.safetensors", {"bank": torch.rand(100, 3, dtype=torch.float64)}),
        "don't fit together",
    ),
    "another bank": (
        lambda _, twin: store.save_weights(twin / "score-0.safetensors", {"bank": torch.rand(100, 64, dtype=torch.float64)}),
        "computes something else here",
    ),
    "a pickle": (pickled, "holds no tensors"),
    "a header that promises terabytes": (header_of_nothing, "holds no tensors"),
    "other tensors": (
        lambda _, twin: store.save_weights(twin / "network-0.safetensors", {"a": torch.zeros(3)}),
        "weights of another network",
    ),
    "scores that are none": (
        lambda _, twin: store.save_weights(
            twin / "calibration.safetensors",
            {"scores": torch.full((100,), torch.nan, dtype=torch.float64), "predicted": torch.zeros(100, dtype=torch.int64)},
        ),
        "doesn't hold the scores",
    ),
    "classes that there aren't": (
        lambda _, twin: store.save_weights(
            twin / "calibration.safetensors",
            load_file(twin / "calibration.safetensors") | {"predicted": torch.full((100,), 99, dtype=torch.int64)},
        ),
        "classes that there aren't",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_folder_is_refused_and_nothing_of_it_runs(folder, tmp_path, case):
    change, said = HOSTILE[case]
    twin = rewritten(folder, tmp_path / "d", change)
    with pytest.raises(InputError, match=said):
        Detector.load(twin)
    assert not Path("/tmp/exploded").exists()


def test_a_file_that_changes_while_it_is_loaded_is_noticed(folder, tmp_path):
    twin = copied(folder, tmp_path / "d")
    found = bundle.read(twin)
    store.save_weights(twin / "score-0.safetensors", {"bank": torch.rand(100, 64, dtype=torch.float64)})
    with pytest.raises(InputError, match="was changed while it was read"):
        bundle.tensors(twin, found, "score-0.safetensors")


def test_a_detector_that_answers_otherwise_than_it_was_calibrated_is_not_exported(folder, monkeypatch):
    """In the last bit, or another class."""
    detector, images = Detector.load(folder), ImageSet(torch.from_numpy(SOME).permute(0, 3, 1, 2), torch.zeros(40, dtype=torch.int64))
    answers = detector.ensemble.over(images, lambda: None)
    said = {f"calibration/id:{kind}": torch.from_numpy(getattr(answers, kind).copy()) for kind in ("scores", "predicted")}
    monkeypatch.setattr(calibrated, "load_answers", lambda: said)
    export.prove(detector, images, lambda: None)
    scores = said["calibration/id:scores"]
    said["calibration/id:scores"] = torch.nextafter(scores, torch.full_like(scores, torch.inf))
    with pytest.raises(InputError, match=r"answers differently .*scores"):
        export.prove(detector, images, lambda: None)
    said |= {"calibration/id:scores": scores, "calibration/id:predicted": (said["calibration/id:predicted"] + 1) % 3}
    with pytest.raises(InputError, match=r"answers differently .*predicted"):
        export.prove(detector, images, lambda: None)


def test_a_folder_that_says_the_same_again_loads(folder, tmp_path):
    twin = rewritten(folder, tmp_path / "d", lambda *_: None)
    assert (twin / "config.json").read_bytes() == (folder / "config.json").read_bytes()
    assert Detector.load(twin).predict(SOME) == Detector.load(folder).predict(SOME)


def test_it_loads_neither_dvc_nor_the_pipelines_libraries(folder, tmp_path):
    """From another folder, without params.yaml or data; and quick to start, for it leaves out what it doesn't need."""
    code = (
        "import sys; from ood import Detector; import numpy\n"
        f"print(Detector.load({str(folder)!r}).predict(numpy.zeros((8, 8, 3), 'uint8')).label)\n"
        "heavy = {'dvc', 'diffusers', 'transformers', 'accelerate', 'matplotlib', 'sklearn', 'pytorch_ood', 'timm', 'torchvision'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})


# --- what is said of them


def test_rows_for_people_and_programs():
    known, odd = Verdict("a.png", "cat", 0.9, "dog", 0.1, -3.25, 0.5, False), Verdict("b.png", "dog", 0.6, "cat", 0.4, 7.0, 0.01, True)
    broken = Verdict("c.png", error="cannot be read as an image (empty). Replace or remove the file.")
    assert told.row(known) == ("a.png", "cat", "90.0%", "0.5", "-3.25", "")
    assert told.row(odd) == ("b.png", "unknown", "60.0%", "0.01", "7", "nearest class: dog")
    assert told.row(broken)[1:] == ("unreadable", "", "", "", "cannot be read as an image (empty). Replace or remove the file.")
    count = told.Count()
    assert len(list(count.over([known, odd, broken, known]))) == 4
    assert (count.told(), count.status, count.verdicts) == ("cat: 2, unknown: 1, unreadable: 1", 2, 4)
    sly = told.Count()  # classes may be called so
    names = [replace(known, label=label) for label in ("unknown", "unreadable")]
    assert [told.word(verdict) for verdict in sly.over(names)] == ["class unknown", "class unreadable"]
    assert sly.status == 0
    assert json.loads(told.json_line(replace(known, name="a\udcff.png")))["name"] == "a\udcff.png"
    assert json.loads(told.json_line(odd))["runner_up_probability"] == 0.4
    assert told.csv_line(["a,b", None, 0.1, False]) == '"a,b",,0.1,False'
