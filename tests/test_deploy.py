"""A detector in its folder: the same answer in any company, to whatever is handed to it, and an error when a byte is wrong."""

import io
import itertools
import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ood import Detector
from ood.config.data import Chain
from ood.config.evaluation import Odin, Scores
from ood.config.nets import Net
from ood.deploy import bundle, told
from ood.deploy.answers import Ensemble, Member
from ood.deploy.calibrated import save_tensors
from ood.deploy.verdicts import Verdict
from ood.detection import detectors
from ood.detection.detectors import Outputs
from ood.detection.scores import Head
from ood.errors import InputError
from ood.nets import store

CLASSES = ["cat", "dog", "größe"]
SOME = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)


def made(folder: Path, score="knn", net="wrn_10_1", seeds=(0,), size=8, calibration=100, **changes) -> Path:
    """A detector of untrained networks, calibrated on noise, written as `export` writes it."""
    chain = Chain(size=size, mean=[0.5] * 3, std=[0.5] * 3)
    scores, odin, members, networks = Scores(knn_k=5), Odin(), [], []
    folder.mkdir(parents=True, exist_ok=True)
    images = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (calibration, 3, size, size), dtype=np.uint8))
    for number, seed in enumerate(seeds):
        torch.manual_seed(seed)
        spec = store.Spec(Net(name=net).model_dump(), CLASSES, size, chain.mean, chain.std)
        model = spec.build().eval()
        with torch.no_grad():
            raw = model.features(images.float() / 255)
            head = Head(model.fc.weight.detach(), model.fc.bias.detach())
            outputs = Outputs.of(head, model.head(raw), raw)
        labels = torch.arange(calibration) % len(CLASSES)
        fitted = odin
        if score not in detectors.FROM_IMAGES:
            fitted = detectors.fit([score], head, outputs, labels, outputs.logits, scores)[score]
        store.save_weights(folder / bundle.weights(number), model.state_dict())
        save_tensors(folder / bundle.fitted(number), getattr(fitted, "state", {}))
        members.append(Member(model, fitted, 1.5))
        networks.append({"net": spec.net, "normalize": False, "temperature": 1.5})
    ensemble = Ensemble(tuple(members), 1).steady()
    answers = [ensemble.answer(part) for part in images.split(ensemble.batch)]
    said = {kind: torch.from_numpy(np.concatenate([getattr(found, kind) for found in answers])) for kind in ("scores", "predicted")}
    save_tensors(folder / bundle.CALIBRATION, said)
    (folder / bundle.CARD).write_text("a card")
    rule = {"reject": 0.05, "guarantee": "conditional", "confidence": 0.95, "per_class": False, "images": calibration, "thresholds": {}}
    facts = {
        "made_with": {"torch": torch.__version__},
        "model": "ce",
        "seeds": list(seeds),
        "classes": CLASSES,
        "chain": chain.model_dump(mode="json"),
        "max_pixels": 1000,
        "networks": networks,
        "batch": ensemble.batch,
        "channels_last": False,
        "score": score,
        "scores": scores.model_dump(mode="json"),
        "odin": odin.model_dump(mode="json"),
        "rule": rule,
        "thumbnails": False,
    }
    bundle.write(folder, facts | changes)
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


# --- one answer, whatever the company


@pytest.mark.parametrize("score", detectors.NAMES)
def test_an_image_gets_the_same_answer_alone_and_among_others(score, tmp_path):
    detector = Detector.load(made(tmp_path, score))
    together = nameless(detector.predict(SOME))
    assert together == nameless(detector.predict(image) for image in SOME)
    assert together[::-1] == nameless(detector.predict(SOME[::-1]))
    assert len({verdict.score for verdict in together}) > 20
    assert together == nameless(Detector.load(tmp_path, workers=5).predict(list(SOME)))


@pytest.mark.parametrize("net", ["densenet_bc_22_12", "resnet18", "cct_7_3x1"])
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
    with pytest.raises(InputError, match=r"0\.01, conditional with confidence 0\.95, takes 299 calibration images; there are 100"):
        Detector.load(folder, reject=0.01)


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
    assert nameless(detector.predict(f"{tmp_path}/**/*.png")) == nameless(three)[:1] + nameless(three)[2:]
    for several in (SOME[:3], torch.from_numpy(SOME[:3]).permute(0, 3, 1, 2)):
        assert nameless(detector.predict(several)) == nameless(three)
    assert [v.name for v in detector.predict([SOME[0], SOME[1:3]])] == ["0", "1/0", "1/1"]
    assert detector.predict([]) == []
    odd = tmp_path / "what[1]?.png"
    Image.fromarray(SOME[0]).save(odd)
    assert detector.predict(odd).name == str(odd), "a file that is called like a pattern"


def test_a_generator_is_answered_by_one_that_holds_few(folder):
    detector, taken = Detector.load(folder, workers=2), []

    def endless():
        for i in itertools.count():
            taken.append(i)
            yield SOME[i % len(SOME)]

    verdicts = detector.predict(endless())
    first = list(itertools.islice(verdicts, 100))
    assert [verdict.name for verdict in first] == [str(i) for i in range(100)]
    assert len(taken) <= 100 + 6 * detector.ensemble.batch
    verdicts.close()


def test_what_cannot_be_read_is_told_in_its_place_and_the_rest_goes_on(detector, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "large.png")
    odd = [
        tmp_path / "broken.png", "none.png", tmp_path / "large.png", None, 7, np.zeros((8, 8, 5), np.uint8), np.full((8, 8), 2.0),
        np.zeros((8, 8), np.int32), np.zeros((0, 8), np.uint8), io.StringIO("text"), {"a": 1}, b"", torch.full((3, 8, 8), float("nan")),
        str(tmp_path / "*.jpg"), Image.new("LAB", (8, 8)), "a\0b",
    ]  # fmt: skip
    given = [part for wrong in odd for part in (SOME[0], wrong)]
    verdicts = detector.predict(given)
    assert len(verdicts) == len(given)
    assert len({*nameless(verdicts[::2])}) == 1
    for wrong, verdict in zip(odd, verdicts[1::2], strict=True):
        assert verdict.error, wrong
        assert verdict.label is verdict.score is verdict.is_ood is None
    assert "1,600" in verdicts[5].error or "data.max_pixels" in verdicts[5].error
    for wrong in (None, 7, {"a": 1}, str(tmp_path / "*.jpg")):
        with pytest.raises(InputError, match="picture"):
            detector.predict(wrong)
    assert detector.predict("none.png").error


PICTURES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([SOME[0], SOME[0][:3, :5], SOME[0] / 255, None, 3, "nowhere.png", Image.new("1", (3, 4)), Image.new("CMYK", (9, 2))]),
    st.tuples(st.integers(0, 9), st.integers(0, 9), st.sampled_from([1, 2, 3, 4])).map(lambda shape: np.zeros(shape, np.uint8)),
    st.tuples(st.integers(0, 4), st.integers(0, 9), st.integers(0, 9)).map(lambda shape: torch.rand(shape)),
    st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=4, max_size=4).map(lambda values: np.array(values).reshape(2, 2)),
)


@settings(max_examples=int(os.environ.get("OOD_EXAMPLES", "150")), deadline=None)
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


@settings(max_examples=int(os.environ.get("OOD_EXAMPLES", "150")), deadline=None)
@given(st.data())
def test_a_changed_byte_is_an_error_that_names_the_file(folder, tmp_path_factory, data):
    twin = copied(folder, tmp_path_factory.mktemp("mutant") / "d")
    path = twin / data.draw(st.sampled_from(FILES))
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "insert", "append"]))
    if kind == "flip":
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "cut":
        del content[place:]
    else:
        content[place if kind == "insert" else len(content) : place if kind == "insert" else len(content)] = data.draw(
            st.binary(min_size=1, max_size=4)
        )
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match=path.name.replace(".", r"\.")):
        Detector.load(twin)


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
    "a pickle": (pickled, "holds no tensors"),
    "a header that promises terabytes": (header_of_nothing, "holds no tensors"),
    "other tensors": (lambda _, twin: save_tensors(twin / "network-0.safetensors", {"a": torch.zeros(3)}), "weights of another network"),
    "scores that are none": (
        lambda _, twin: save_tensors(
            twin / "calibration.safetensors", {"scores": torch.full((100,), torch.nan), "predicted": torch.zeros(100, dtype=torch.int64)}
        ),
        "doesn't hold the scores",
    ),
    "classes that there aren't": (
        lambda _, twin: save_tensors(
            twin / "calibration.safetensors",
            {"scores": torch.rand(100, dtype=torch.float64), "predicted": torch.full((100,), 99, dtype=torch.int64)},
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
    broken = Verdict("c.png", error="c.png: cannot be read as an image (empty). Replace or remove the file.")
    assert told.row(known) == ("a.png", "cat", "90.0%", "0.5", "-3.25", "")
    assert told.row(odd) == ("b.png", "unknown", "60.0%", "0.01", "7", "nearest class: dog")
    assert told.row(broken)[1:] == ("unreadable", "", "", "", "cannot be read as an image (empty). Replace or remove the file.")
    assert told.summed_up({"dog": 1, "unreadable": 2, "cat": 3, "unknown": 4}) == "cat: 3, dog: 1, unknown: 4, unreadable: 2"
    assert json.loads(told.json_line(odd))["runner_up_probability"] == 0.4
    assert told.csv_line(["a,b", None, 0.1, False]) == '"a,b",,0.1,False'
