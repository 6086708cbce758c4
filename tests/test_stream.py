"""Batches and streams: the share of false alarms among alarms, a watch that may be looked at at any time; what the command says of them."""

import csv
import io
import json
import re

import numpy as np
import pytest
import torch
from conftest import ROOT, Workspace
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import beta
from test_deploy import CLASSES, SOME, made

from ood import Detector
from ood.deploy import bundle, explain, stream
from ood.deploy.verdicts import Verdict
from ood.detection import drift, guarantee
from ood.detection.drift import Watch
from ood.detection.rule import Rule
from ood.errors import InputError
from ood.nets import store

# --- flagged as a batch


def test_of_a_batchs_alarms_no_more_are_known_than_was_asked_for():
    """Over draws of calibration and batch; with the threshold for each image by itself it is several times that."""
    rng, shares, alone = np.random.default_rng(0), [], []
    for _ in range(1500):
        calibration, known, strange = rng.normal(size=400), rng.normal(size=180), rng.normal(3.5, 1, size=20)
        p = guarantee.p_values(calibration, np.r_[known, strange])
        for found, flags in ((shares, guarantee.discoveries(p, 0.2)), (alone, p <= 0.2)):
            found.append(flags[:180].sum() / max(1, flags.sum()))
    assert np.mean(shares) <= 0.2
    assert np.mean(shares) > 0.1, "it flags as many as it may"
    assert np.mean(alone) > 0.5


@given(st.lists(st.floats(0.001, 1), max_size=40), st.floats(0.01, 0.5))
def test_it_is_the_step_up_of_benjamini_and_hochberg(p_values, rate):
    ordered = sorted(p_values)
    passing = [i for i, p in enumerate(ordered, start=1) if p <= rate * i / len(ordered) * (1 + 1e-9)]
    cut = ordered[passing[-1] - 1] if passing else -1
    assert guarantee.discoveries(np.array(p_values), rate).tolist() == [p <= cut for p in p_values]


def test_a_batch_of_verdicts_is_flagged_together():
    verdicts = [Verdict(str(i), "a", 0.9, "b", 0.1, 0.0, p, True) for i, p in enumerate((0.01, 0.9, 0.03, 0.5))]
    verdicts.insert(1, Verdict("broken", error="no picture"))
    found = stream.together(verdicts, 0.1)
    assert [verdict.is_ood for verdict in found] == [True, None, False, True, False]
    assert [verdict.name for verdict in found] == [verdict.name for verdict in verdicts]
    told = stream.told_of(found, 0.1, 99)
    assert told.startswith("flagged as a batch: of these 2 at most the share 0.1 is known, on average")
    assert "must be that strange" not in told
    many = [*found, *(Verdict(str(i), "a", 1.0, "b", 0.0, 0.0, 0.5, False) for i in range(96))]
    assert "p is at least 0.01 with 99 calibration images, so 10 of 100 must be that strange" in stream.told_of(many, 0.1, 99)
    assert "so none of 100 can be flagged" in stream.told_of(many, 0.001, 99)


# --- the watch


def test_without_a_change_it_rarely_reports_one():
    """Looked at after every image of a long stream, at the largest rate that is allowed."""
    rng, reported = np.random.default_rng(0), 0
    for _ in range(150):
        watch = Watch(0.05, 0.05)
        updated(watch, rng.random(450) < 0.05)
        reported += watch.since is not None
    assert reported / 150 <= 0.05


@pytest.mark.parametrize(("rate", "soon"), [(0.2, 150), (0.9, 25)])
def test_a_change_is_reported_and_placed(rate, soon):
    rng = np.random.default_rng(1)
    delays, places = [], []
    for _ in range(20):
        watch = Watch(0.05, 0.05)
        updated(watch, np.r_[rng.random(1240) < 0.03, rng.random(400) < rate])
        assert watch.since is not None
        delays.append(watch.at - 1240)
        places.append(watch.since - 1241)
    assert 0 < np.median(delays) < soon
    assert abs(np.median(places)) < 15


def updated(watch, flags):
    for flag in flags:
        watch.update(bool(flag))
    return watch


def test_what_cannot_be_read_counts_neither_way(shop):
    detector = Detector.load(shop.path / "detector")
    watched = stream.Watched(shop.path / "unread.json", detector, Watch(0.05, 0.05))
    verdicts = [Verdict("a", error="broken"), Verdict("b", "x", 1.0, "y", 0.0, 0.0, 0.5, False), Verdict("c", error="broken")]
    assert list(watched.over(iter(verdicts), print)) == verdicts
    assert (watched.watch.seen, watched.watch.alarms) == (1, 0)
    assert json.loads((shop.path / "unread.json").read_text())["seen"] == 1, "kept at the end"


def test_it_counts_and_forgets_what_tells_nothing():
    watch = updated(Watch(0.05, 0.05), np.random.default_rng(2).random(1000) < 0.04)
    assert len(watch.starts) <= drift.STARTS
    assert watch.told() == f"no drift: {watch.alarms} of 1,000 flagged, at most 5.0% are allowed"
    assert updated(watch, [True] * 20).told().startswith("drift since image 1,00")


def test_each_product_is_a_fair_bet_at_the_allowed_rate():
    """Its mean over a flag is 1 at alpha, and less below: what makes it valid at any time."""
    missed, hit = (np.exp(updated(Watch(0.05, 0.05), [flag]).logs[0]) for flag in (False, True))
    assert 0.05 * hit + 0.95 * missed == pytest.approx(np.ones(len(hit)))
    assert (0.02 * hit + 0.98 * missed < 1).all()


def test_what_is_allowed_is_what_the_very_threshold_has_with_confidence():
    scores = np.arange(1000.0)
    rule = Rule(scores, np.zeros(1000, int), ["a", "b"], 0.05, "conditional", 0.95)
    assert 0.048 < drift.allowed(rule) <= 0.05
    assert drift.allowed(rule.under(promise="marginal")) > 0.05, "50 of 1,000: on average 5 %, but this one may have more"
    halves = Rule(scores, np.repeat([0, 1], [300, 700]), ["a", "b"], 0.05, "conditional", 0.95, per_class=True)
    bounds = [beta.ppf(0.975, rank, count + 1 - rank) for rank, count in zip(halves.ranks, (300, 700), strict=True)]
    assert drift.allowed(halves) == pytest.approx(max(bounds))
    assert max(bounds) > 0.05, "that all classes keep it at once is not what each promises"


# --- the command


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A folder with a detector and pictures, two of them unknown, one broken."""
    path = tmp_path_factory.mktemp("shop")
    folder = made(path / "detector")
    images = {"images": SOME, "features": np.zeros((40, 64), np.float32), "labels": np.arange(40) % 3}
    answers = [Detector.load(folder).ensemble.answer(torch.from_numpy(part).permute(0, 3, 1, 2)) for part in np.split(SOME, [16, 32])]
    images["features"] = np.concatenate([found.features for found in answers])
    store.save_weights(folder / bundle.THUMBNAILS, {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in images.items()})
    facts = json.loads((folder / bundle.CONFIG).read_text())
    bundle.write(folder, {key: value for key, value in facts.items() if key not in ("format", "files", "sha256")} | {"thumbnails": True})
    (path / "pictures").mkdir()
    verdicts = Detector.load(folder).predict(SOME)
    known = [i for i, verdict in enumerate(verdicts) if not verdict.is_ood][:3]
    for place, i in enumerate(known):
        Image.fromarray(SOME[i]).save(path / f"pictures/{place}.png")
    strange = np.zeros((8, 8, 3), np.uint8)
    assert Detector.load(folder).predict(strange).is_ood
    Image.fromarray(strange).save(path / "pictures/größe.png")
    (path / "pictures/z.png").write_bytes(b"broken")
    workspace = Workspace(path)
    return workspace


def said(shop, arguments, **options):
    return shop.stage(f"predict --detector detector {arguments}", check=False, **options)


def test_a_table_and_an_exit_status(shop):
    whole = said(shop, "pictures")
    assert whole.returncode == 2
    assert "Traceback" not in whole.stderr
    lines = whole.stdout.splitlines()
    assert lines[0].split() == ["picture", "verdict", "probability", "p-value", "score"]
    assert re.match(r"pictures/größe\.png +unknown +\d+\.\d% +0\.\d+ .*nearest class: ", lines[4])
    assert re.match(r"pictures/z\.png +unreadable +cannot be read as an image", lines[5])
    assert "unknown: 1, unreadable: 1; at most 5.0% of known pictures flagged, conditional: with confidence 0.95, on 100" in whole.stdout
    assert said(shop, "pictures/0.png pictures/1.png").returncode == 0
    assert said(shop, "pictures/0.png pictures/größe.png").returncode == 1
    bad = {"nowhere/": "cannot be read", "pictures/0.png --json --csv": "one of the two", "x --reject 0.001": "takes 2995"}
    for wrong, words in bad.items():
        found = said(shop, wrong)
        assert found.returncode == 2
        assert words in found.stdout + found.stderr
    assert shop.stage("predict pictures/0.png --detector nowhere", check=False).returncode == 2
    assert said(shop, "pictures/0.png --watch /proc/no/state.json").returncode == 2
    assert (
        "no picture was named" in shop.run("bash", "-c", "python -m stages predict --detector detector - < /dev/null", check=False).stderr
    )


def test_lines_for_programs(shop):
    names = "\n".join(f"pictures/{i}.png" for i in range(3))
    command = f"printf '{names}\\n' | python -m stages predict --detector detector - --csv"
    rows = list(csv.DictReader(io.StringIO(shop.run("bash", "-c", command).stdout)))
    assert [row["name"] for row in rows] == names.split("\n")
    verdicts = [json.loads(line) for line in said(shop, "pictures --json").stdout.splitlines()]
    assert [verdict["label"] for verdict in verdicts[:3]] == [row["label"] for row in rows]
    assert all(float(row["score"]) == verdict["score"] for row, verdict in zip(rows, verdicts, strict=False))
    assert verdicts[-1]["error"]
    long = shop.path / f"{'🐶' * 62}.png"
    long.write_bytes((shop.path / "pictures/0.png").read_bytes())
    assert said(shop, f"{long} --explain long").returncode == 0
    assert verdicts[-1]["label"] is None


def test_a_picture_for_each_says_why(shop):
    assert said(shop, "pictures/0.png pictures/größe.png pictures/z.png --explain why").returncode == 2
    found = sorted(path.name for path in (shop.path / "why").iterdir())
    assert found == ["0000-0.png", "0001-größe.png"]
    for name in found:
        with Image.open(shop.path / "why" / name) as picture:
            assert len(picture.convert("RGB").getcolors(10**6)) > 50


def test_explanations_find_the_image_itself_nearest(shop):
    detector = Detector.load(shop.path / "detector")
    for (verdict, found), image in zip(explain.explained(detector, list(SOME[:5])), SOME, strict=False):
        assert np.array_equal(found.neighbours[0], image)
        assert found.similarity[0] == pytest.approx(1, abs=1e-5)
        assert found.similarity == sorted(found.similarity, reverse=True)
        assert verdict.label in CLASSES
        assert found.heat.shape == (8, 8)
        assert 0 <= found.heat.min() <= found.heat.max() <= 1
        assert found.method == "Grad-CAM"


def test_a_heat_map_lies_where_the_class_is_seen():
    """A network whose one filter looks for red: what speaks for it is where it is red; integrated gradients where there are no maps."""
    from ood.nets import Classifier

    backbone = torch.nn.Sequential(torch.nn.Conv2d(3, 1, 1, bias=False), torch.nn.ReLU(), torch.nn.Identity(), Pooled())
    with torch.no_grad():
        backbone[0].weight.copy_(torch.tensor([1.0, -1, -1]).view(1, 3, 1, 1))
    net = Classifier(backbone, 1, 2, size=16, mean=[0.0] * 3, std=[1.0] * 3).eval()
    with torch.no_grad():
        net.fc.weight.copy_(torch.tensor([[1.0], [-1.0]]))
    image = torch.zeros(3, 16, 16, dtype=torch.uint8)
    image[0, 2:6, 9:13] = 255
    image[2, 10:14, 2:6] = 255
    heat, method = explain.what_speaks_for(net, image, 0)
    assert method == "Grad-CAM"
    assert heat[2:6, 9:13].mean() > 10 * heat[10:14, 2:6].mean()
    whole = Classifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 1)), 1, 2, size=16, mean=[0.0] * 3, std=[1.0] * 3)
    assert explain.what_speaks_for(whole, image, 0)[1] == "integrated gradients"


class Pooled(torch.nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


def test_without_training_images_there_is_no_explanation(tmp_path):
    with pytest.raises(InputError, match=r"detector\.thumbnails"):
        next(explain.explained(Detector.load(made(tmp_path)), SOME[0]))


def test_a_batch_and_a_stream_through_the_command(shop):
    batch = said(shop, "pictures --fdr 0.1").stdout
    assert "flagged as a batch: of these" in batch
    assert "of known pictures flagged" not in batch, "another promise"
    first = said(shop, "pictures/0.png pictures/1.png --watch state.json")
    assert "no drift: 0 of 2 flagged, at most " in first.stdout
    stream_of_odd = " ".join(["pictures/größe.png"] * 8)
    again = said(shop, f"{stream_of_odd} --watch state.json")
    assert re.search(r"drift since image 3, noticed at \d+: 8 of 10 flagged", again.stdout)
    assert re.search(r"drift since image 3, noticed at (\d+): \d of \1 flagged", again.stderr), "when it is noticed"
    assert said(shop, "pictures/0.png --watch state.json").stdout.count("drift since image 3") == 1
    state = json.loads((shop.path / "state.json").read_text())
    assert state["seen"] == 11
    spoilt = {
        "watches another detector": {"detector": "0" * 64},
        "at another rate or promise": {"alpha": 0.2},
        "is no state of a watch": {"logs": [[1.0]]},
        " is no state of a watch": {"seen": "x"},
        "  is no state of a watch": {"starts": ["a"]},
        "   is no state of a watch": {"since": None},
        "delta": {"delta": 2},
    }
    for words, spoil in spoilt.items():
        (shop.path / "spoilt.json").write_text(json.dumps(state | spoil))
        found = said(shop, "pictures/0.png --watch spoilt.json")
        assert found.returncode == 2
        assert words.strip() in found.stderr
    (shop.path / "spoilt.json").write_text("{")
    assert "is no state of a watch" in said(shop, "pictures/0.png --watch spoilt.json").stderr
    assert said(shop, "pictures/0.png --watch state.json --reject 0.2").returncode == 2


def test_readmes_three_lines_run(shop, monkeypatch):
    """As they stand there, on this detector."""
    text = (ROOT / "README.md").read_text()
    code = re.search(r"```python\n(from ood import Detector.*?)```", text, re.DOTALL)[1]
    assert len([line for line in code.splitlines() if line.strip()]) == 3
    monkeypatch.chdir(shop.path)
    names = {}
    exec(code.replace("data/detector", "detector").replace("photo.jpg", "pictures/0.png"), names)
    assert names["verdict"].label in CLASSES
