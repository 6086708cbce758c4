"""The whole DAG in miniature, through DVC itself: reruns, staleness, bad input, kills."""

import csv
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import DVC, PLAIN, Project
from pages import checked, words
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_sample_image

from ood import Detector

pytestmark = pytest.mark.slow
MODELS = ("ce", "resnet", "l2", "um", "control", "umap", "oe-um", "dream", "dream-id", "aligned", "um-l2", "ce-2")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The whole miniature pipeline, run once, two stages at a time; tests that use it put back what they change."""
    project = Project(tmp_path_factory.mktemp("project"))
    project.readers = tmp_path_factory.mktemp("readers") / "calibration.txt"
    said = project.stage("repro --jobs 2", WATCH_OPENED=f"prepared/calibration/id:{project.readers}").stdout
    project.first_run = re.findall(r"^\[\d+/\d+\] (\S+): \d+ s$", said, re.MULTILINE)
    project.commit()
    return project


@pytest.fixture
def fresh(tmp_path: Path) -> Project:
    runs = {"oe": PLAIN | {"outliers": "prepared/auxiliary"}}
    return Project(tmp_path, {"seeds": [0], "oe.runs": runs, "models": {"ce": "msp"}, "report.pairs": {}})


def test_everything_runs(project: Project):
    runs = {
        "pretrain@ce",
        "pretrain@resnet",
        "pretrain@l2",
        "pretrain@logitnorm",
        "pretrain@pixmix",
        "pretrain@pixmix-plain",
        "pretrain@branch",
        "pretrain@rotation",
        "pretrain@scratch",
        "trace@ce",
        "trace@l2",
        "epoch@ce-2",
        "mask@um",
        "mask@um-l2",
        "um@um",
        "um@control",
        "um@um-l2",
        "um@selective",
        "um@middle",
        "umap@umap",
        "umap@umap-control",
    }
    runs |= {
        f"oe@{name}" for name in ("oe", "oe-um", "oe-from-um", "energy", "poem", "doe", "oe-scratch", "no-outliers", "dream", "dream-id")
    }
    runs |= {f"features@{name}" for name in MODELS}
    runs |= {"diffusion", "align", "embed@outliers", "embed@inliers", "embed@others", "synthesize@outliers", "synthesize@inliers"}
    runs |= {"aligned", "proofs", "judge@outliers", "judge@inliers"}
    assert sorted(project.first_run) == sorted(runs | {"prepare", "evaluate", "calibrate", "export", "report"})
    report = (project.path / "metrics/report.md").read_text()
    for word in ("| ce ", "| oe-um ", "| um-l2 ", "| dream-id ", "Against their controls", "The detector", "metrics/report.html"):
        assert word in report, word
    assert len(report.splitlines()) < 110, "what belongs on a terminal"
    assert max(len(line) for line in report.splitlines() if not line.startswith("|")) <= 140
    for model in MODELS:
        figures = json.loads((project.path / f"metrics/{model}.json").read_text())
        assert set(figures) == {"id", "corrupted", "own", "msp", "energy"}
        assert set(figures["corrupted"]) == {"speckle", "pixelate", "jigsaw"}
        assert set(figures["own"]) == {"validation", "near", "far", "painted"}
        assert 0 <= figures["own"]["near"]["auroc"] <= 1
    with (project.path / "metrics/scores.csv").open(newline="") as stream:
        scored = {(row["model"], row["score"]) for row in csv.DictReader(stream)}
    assert {model for model, score in scored if score == "neglabel"} == {"aligned"}
    assert "accuracy_unmasked" in json.loads((project.path / "metrics/umap.json").read_text())["id"]["test"]
    epochs = sorted(p.name for p in (project.path / "data/models/ce/0/epochs").iterdir())
    assert epochs == ["001.safetensors", "002.safetensors", "003.safetensors"]


def test_the_page_of_everything_is_valid_and_says_what_was_measured(project: Project):
    text = (project.path / "metrics/report.html").read_text()
    tree = checked(text)
    sections = {section.get("id"): section for section in tree.iter("section")}
    assert list(sections) == [
        *("summary", "data", "comparison", "controls", "detector", "sets", "corrupted", "masks", "epochs", "dreams", "measures", "models"),
        *("limits", "made"),
    ]
    tables = {key: words(section) for key, section in sections.items()}
    assert re.search(r"near/letters † \d+ glyphs, [A-Z]+ 0", tables["data"])
    assert "far/gaussian" in tables["sets"]
    assert "oracle" in tables["epochs"]
    assert "Neural collapse of the training set" in tables["epochs"]
    assert "As measured by OpenOOD v1.5" in tables["measures"]
    assert "Norm, MSP and Energy" in tables["comparison"]
    assert "has learned the painter, not the dream" in tables["dreams"]
    assert "epoch 2 of ce" in tables["made"]
    rows = [words(cell) for cell in sections["comparison"].iter("th") if cell.get("scope") == "row"]
    withheld = [row for row in rows if "painter hasn't learned" in row]  # three epochs are too few for it
    assert {row.split(" (")[0] for row in rows} >= set(MODELS)
    shown = len(MODELS) - len(withheld)
    assert len(list(sections["models"].iter("details"))) == shown
    assert sum(element.get("role") == "img" for element in sections["models"].iter("div")) == 2 * shown
    assert "mathdefault" not in text


def test_the_page_shows_the_images_that_the_detector_gets_wrong(project: Project):
    """As many as `calibrate` counted, and pictures of them."""
    section = next(s for s in checked((project.path / "metrics/report.html").read_text()).iter("section") if s.get("id") == "detector")
    figures = json.loads((project.path / "data/calibrated/figures.json").read_text())
    accepted = {group: sum(round(one["images"] * (1 - one["caught"])) for one in figures[group].values()) for group in ("near", "far")}
    flagged = round(figures["id"]["images"] * figures["id"]["flagged"])
    titles = [words(title) for title in section.iter("h3")]
    assert [title.split(" images")[0] for title in titles] == [
        f"ID test: {flagged} of {figures['id']['images']}",
        *(f"{g}-OOD: {accepted[g]} of {sum(one['images'] for one in figures[g].values())}" for g in ("near", "far")),
    ]
    assert len(list(section.iter("img"))) == sum(min(12, count) for count in (flagged, *accepted.values()))


def test_the_page_says_how_it_was_made(project: Project):
    made = next(s for s in checked((project.path / "metrics/report.html").read_text()).iter("section") if s.get("id") == "made")
    ran = {*project.first_run, "check"} - {"report"}
    seconds = {words(row[0]): words(row[1]) for row in made.iter("tr") if len(row) == 2}
    assert {stage for stage, said in seconds.items() if said.replace(".", "").isdigit()} >= ran, "seconds of every stage"
    assert (project.path / "params.yaml").read_text() in [element.text for element in made.iter("pre")]
    assert "torch" in seconds
    said = project.run("git", "status", "--porcelain").stdout
    assert "report.html" not in said, "which no two runs share: git knows nothing of it"


def test_nothing_but_the_detector_reads_calibration_images(project: Project):
    """`calibrate` sets thresholds on them, `export` asks the finished detector about them again. (`prepare` writes them elsewhere.)"""
    assert set(project.readers.read_text().splitlines()) == {"calibrate", "export"}


def test_the_detector_that_the_pipeline_ends_in(project: Project, tmp_path):
    """Exported, it answers for the prepared images as `calibrate` wrote down; `predict` knows it from anywhere."""
    found = json.loads((project.path / "data/calibrated/detector.json").read_text())
    detail = json.loads((project.path / "data/evaluation/detail.json").read_text())
    means = {}
    for model, summary in detail.items():
        grids = [seed["grid"][summary["picked"]] for seed in summary["seeds"].values()]
        means[model] = np.mean([grid[name]["auroc"] for grid in grids for name in grid if name.startswith("validation/")])
    best = max(means, key=lambda model: means[model])
    assert (found["model"], found["score"], found["seeds"]) == (best, detail[best]["picked"], [0])
    assert found["by"] == pytest.approx(means[best])
    detector = Detector.load(project.path / "data/detector")
    answers = load_file(project.path / "data/calibrated/answers.safetensors")
    for name, file in (("calibration/id", "calibration/id"), ("id/test", "id/test"), ("near/letters", "test/near/letters")):
        verdicts = detector.predict(np.load(project.path / f"data/prepared/{file}.npy"))
        assert [verdict.score for verdict in verdicts] == answers[f"{name}:scores"].tolist()
    figures = json.loads((project.path / "metrics/detector.json").read_text())
    flagged = (answers["id/test:scores"] > detector.rule.thresholds[0]).double().mean()
    assert figures["id_flagged"] == pytest.approx(float(flagged))
    with (project.path / "metrics/plots/detector.csv").open(newline="") as stream:
        rows = {(row["guarantee"], float(row["reject"])): row for row in csv.DictReader(stream)}
    assert float(rows["conditional", 0.05]["id_flagged"]) == pytest.approx(float(flagged), abs=1e-6)
    assert rows["conditional", 0.01]["threshold"] == rows["conditional", 0.01]["cost"] == "", "172 images can't promise that"
    assert "## The detector" in (project.path / "metrics/report.md").read_text()
    card = (project.path / "data/detector/README.md").read_text()
    assert f"Model `{best}`" in card
    assert "172 images that nothing else was chosen or fitted on" in card
    picture = tmp_path / "flower.png"
    Image.fromarray(load_sample_image("flower.jpg")).save(picture)
    said = project.stage(f"predict {picture} --detector {project.path / 'data/detector'} --csv", check=False)
    assert said.stdout.splitlines()[1].startswith(f"{picture},{detector.predict(picture).label},")


def test_pictures_are_pictures(project: Project):
    dreams = ("prompts", "embeddings-outliers", "embeddings-inliers", "embeddings-others", "dreamed-outliers", "dreamed-inliers")
    for name in ("sets", "detector", "atypical-um", "atypical-um-l2", "trace-ce", "trace-l2", "overview", *dreams):
        with Image.open(project.path / f"metrics/pictures/{name}.png") as picture:
            assert min(picture.size) > 200
            assert len(picture.convert("L").getcolors()) > 20


def test_a_second_run_does_nothing(project: Project):
    ran, result = project.repro()
    assert ran == set()
    assert "up to date" in result.stdout


def test_umap_leaves_the_weights_bit_for_bit(project: Project):
    for seed in ("0", "1"):
        files = ("ce/{}/model", "umap/{}/dense", "umap-control/{}/dense")
        weights = [(project.path / "data/models" / f"{file.format(seed)}.safetensors").read_bytes() for file in files]
        assert weights[0] == weights[1] == weights[2]
    masks = project.hashes("data/models/umap")
    assert any(name.endswith("0/mask.safetensors") for name in masks)


def test_a_run_counts_its_trainings_and_a_fine_tune_draws_its_own(project: Project):
    """The n-th training of a net has other permutations than those before; a method and its control have been through as many."""
    specs = {p.parent.parent.name: json.loads(p.read_text()) for p in (project.path / "data/models").glob("*/0/model.json")}
    found = {
        name: specs[name]["trainings"] for name in ("scratch", "ce", "ce-2", "oe-scratch", "um", "control", "umap", "oe-um", "oe-from-um")
    }
    assert found == {"scratch": 0, "ce": 1, "ce-2": 1, "oe-scratch": 1, "um": 2, "control": 2, "umap": 2, "oe-um": 2, "oe-from-um": 3}


def test_um_on_any_run_and_any_kept_epoch(project: Project):
    l2, of_l2 = (json.loads((project.path / f"data/models/{run}/0/model.json").read_text()) for run in ("l2", "um-l2"))
    assert of_l2["normalize"] is l2["normalize"] is True
    estimate = json.loads((project.path / "data/mask/um-l2/0.json").read_text())["constraint"]
    assert of_l2["constraint"] == estimate["mean"]
    assert len(estimate["values"]) == 1, "its own number of masks"
    middle, kept = (project.path / f"data/models/{name}.safetensors" for name in ("ce-2/0/model", "ce/0/epochs/002"))
    assert middle.read_bytes() == kept.read_bytes()


def test_metrics_and_plots_through_dvc(project: Project):
    shown = json.loads(project.run(DVC, "metrics", "show", "--json").stdout)
    files = next(iter(shown.values()))["data"]
    assert "metrics/ce.json" in files
    assert "metrics/mask/um.json" in files
    project.run(DVC, "plots", "show", "--out", "plots-page")
    page = (project.path / "plots-page/index.html").read_text()
    assert "true positive rate" in page
    assert "umap" in page
    project.run("rm", "-rf", "plots-page")


def test_threshold_reruns_exactly_what_depends_on_it(project: Project):
    result = project.run(DVC, "exp", "run", "-S", "um.threshold=0.3")
    ran = {line.split("'")[1] for line in result.stdout.splitlines() if line.startswith("Running stage")}
    assert ran == {
        "check",
        "um@um",
        "um@um-l2",
        "oe@oe-um",
        "oe@oe-from-um",
        *(f"features@{m}" for m in ("um", "um-l2", "oe-um")),
        "evaluate",
        "calibrate",
        "report",
    }
    spec = json.loads((project.path / "data/models/oe-um/0/model.json").read_text())
    assert spec["constraint"] == 0.3
    difference = project.run(DVC, "metrics", "diff").stdout
    assert "metrics/um.json" in difference
    assert "metrics/l2.json" not in difference
    project.run("git", "checkout", "-q", ".")
    ran, _ = project.repro()  # back to the old value: from the run cache where there is one, and with the old figures
    assert "pretrain@ce" not in ran
    assert project.run("git", "status", "--porcelain", "metrics").stdout == ""


@pytest.mark.parametrize(
    ("module", "stale"),
    [
        ("ood/report/dream.py", {"report"}),
        ("ood/dream/alignment.py", {"align", "aligned", "proofs", "embed@outliers", "embed@inliers", "embed@others", "report"}),
        ("ood/dream/small.py", {"diffusion"}),
        ("ood/config/whole.py", set()),
        ("ood/config/recipes.py", set()),
        (
            "ood/detection/scores.py",
            {
                "trace@ce",
                "trace@l2",
                "epoch@ce-2",
                *(f"features@{name}" for name in MODELS),
                "evaluate",
                "calibrate",
                "export",
                "report",
            },
        ),
        ("ood/data/sources/noise.py", {"prepare"}),
    ],
)
def test_editing_a_module_makes_its_users_stale_and_only_those(project: Project, module, stale):
    path = project.path / module
    text = path.read_text()
    path.write_text(text + "\n# edited\n")
    try:
        ran, _ = project.repro("check")
        status = json.loads(project.run(DVC, "status", "--json").stdout)
    finally:
        path.write_text(text)
        project.repro("check")
    assert ran == {"check"}
    assert set(status) == stale


def test_the_runtime_makes_stale_what_computes_but_the_workers_nothing(project: Project, tmp_path):
    twin = project.copy(tmp_path)
    twin.__class__ = Project
    twin.set({"runtime.workers": 0})
    assert twin.repro("evaluate")[0] == {"check"}
    twin.set({"runtime.channels_last": False})
    twin.repro("check")
    stale = set(json.loads(twin.run(DVC, "status", "--json").stdout))
    assert {"pretrain@ce", "um@um", "features@ce", "align", "synthesize@outliers"} < stale
    assert not stale & {"check", "prepare", "report"}


def test_validation_alone_computes_no_test_figure(project: Project, tmp_path):
    twin = project.copy(tmp_path)
    twin.__class__ = Project
    twin.set({"evaluate.roles": ["val"]})
    ran, _ = twin.repro()
    assert ran == {"check", "trace@ce", "trace@l2", "evaluate", "calibrate", "export", "report"}
    assert json.loads((twin.path / "metrics/detector.json").read_text()) == {}
    assert not any(name in key for key in load_file(twin.path / "data/calibrated/answers.safetensors") for name in ("test", "near", "far"))
    assert "no test figure was asked for" in (twin.path / "data/detector/README.md").read_text()
    for model in MODELS:
        figures = json.loads((twin.path / f"metrics/{model}.json").read_text())
        assert set(figures["id"]) == {"val"}
        assert "corrupted" not in figures
        assert set(figures["own"]) == {"validation"}
    texts = [(twin.path / name).read_text() for name in ("metrics/scores.csv", "metrics/trace/ce.csv", "metrics/plots/roc.csv")]
    texts += [(twin.path / name).read_text() for name in ("data/evaluation/detail.json", "metrics/plots/detector.csv")]
    assert not any(word in text for text in texts for word in ("near", "far", "painted"))
    report = (twin.path / "metrics/report.md").read_text()
    assert "Validation figures only" in report
    assert "near" not in report.split("## ")[1]
    tree = checked((twin.path / "metrics/report.html").read_text())
    told = {section.get("id"): words(section) for section in tree.iter("section")}
    assert "No test figure was asked for" in told["detector"]
    assert not any(
        word in told[key] for key in ("comparison", "controls", "sets", "models", "epochs") for word in ("near-OOD", "near AUROC", "far/")
    )


def test_the_filters_cut_repaints_nothing(project: Project, tmp_path):
    twin = project.copy(tmp_path)
    twin.__class__ = Project
    with (twin.path / "data/dreamed/outliers/manifest.csv").open(newline="") as stream:
        surest = max(float(row["confidence"]) for row in csv.DictReader(stream))
    twin.set({"oe.runs.dream.cut": surest - 1e-4})  # one image less
    ran, _ = twin.repro()
    assert ran == {"check", "oe@dream", "features@dream", "evaluate", "calibrate", "report"}
    twin.set({"embed.runs.outliers.cosine": 0.6, "judge.run": "l2"})
    ran, _ = twin.repro("judge@outliers", "judge@inliers")
    assert ran == {"check", "embed@outliers", "synthesize@outliers", "judge@outliers", "judge@inliers"}, "a new judge repaints nothing"
    twin.set({"painting.guidance": 4.0, "proofs.round_trip": 50})
    ran, _ = twin.repro("proofs")
    assert ran == {"check", "proofs"}, "neither trains a model again"


# --- bad input: the message, and nothing lost


def corrupt_image(project: Project) -> None:
    folder = project.path / "images" / "mine"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for i in range(30):
            Image.new("RGB", (12, 12), (i * 8, 40 if name == "a" else 200, 90)).save(folder / name / f"{i}.png")
    (folder / "a" / "5.png").write_bytes(b"no image")
    project.set({"data.far.mine": {"source": "folder", "path": "images/mine"}})


BAD = {
    "unknown key": (lambda p: p.set({"um.treshold": 0.3}), "um um", ["um.treshold", "Did you mean 'threshold'"]),
    "wrong type": (lambda p: p.set({"pretrain.training.epochs": "many"}), "pretrain ce", ["pretrain.training.epochs", "'many'"]),
    "out of range": (lambda p: p.set({"mask.keep": 1.7}), "mask um", ["mask.keep", "at most 1"]),
    "missing folder": (
        lambda p: p.set({"data.near.mine": {"source": "folder", "path": "images/none"}}), "prepare", ["images/none", "no such folder"],
    ),
    "corrupt image": (corrupt_image, "prepare", ["5.png", "cannot be read as an image"]),
    "too few images": (lambda p: p.set({"data.min_per_class": 60}), "check", ["data.min_per_class", "has"]),
    "another architecture": (None, "um um", ["another architecture", "model.safetensors"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input(project: Project, tmp_path, case):
    """As a plain command and under dvc: the message names key or file and remedy, and the outputs are still there (or come back)."""
    spoil, command, words = BAD[case]
    twin = project.copy(tmp_path)
    twin.__class__ = Project
    outputs = [twin.hashes(f) for f in ("data/models", "data/prepared", "data/mask", "metrics")]
    if spoil:
        spoil(twin)
    else:  # weights that somebody trained with another net
        for seed in ("0", "1"):
            spec_path = twin.path / f"data/models/ce/{seed}/model.json"
            spec = json.loads(spec_path.read_text())
            spec["net"]["name"] = "wrn_16_1"
            spec_path.unlink()
            spec_path.write_text(json.dumps(spec))
        for sums in (twin.path / "data/models/ce").rglob("sums.json"):
            sums.unlink()  # meant so: without hashes a folder is taken as it is
        outputs[0] = twin.hashes("data/models")
    plain = twin.stage(command, check=False)
    assert plain.returncode == 1
    assert "Traceback" not in plain.stderr
    for word in words:
        assert word in plain.stderr, plain.stderr
    assert [twin.hashes(f) for f in ("data/models", "data/prepared", "data/mask", "metrics")] == outputs
    if spoil is None:
        return  # under DVC the damaged output of pretrain would be noticed and made again
    ran, result = twin.repro(check=False)
    assert result.returncode != 0
    for word in words:
        assert word in result.stdout + result.stderr
    if case in ("unknown key", "wrong type", "out of range", "missing folder", "too few images"):
        assert ran == {"check"}
        assert [twin.hashes(f) for f in ("data/models", "data/prepared", "data/mask", "metrics")] == outputs
    else:  # only prepare can find it; it names the way back
        assert "dvc checkout" in result.stderr
        twin.run("git", "checkout", "-q", ".")
        twin.run(DVC, "checkout")
        assert [twin.hashes(f) for f in ("data/models", "data/prepared", "data/mask", "metrics")] == outputs


def test_one_seed_more_trains_that_one_alone(fresh: Project):
    """DVC deletes a run's outputs before it runs it again, so what is kept must not lie in them; `--force` trains all the same."""
    assert "as the last run trained it" not in fresh.repro("um@control")[1].stdout
    before = fresh.hashes("data/models")
    fresh.commit()
    said = fresh.run(DVC, "exp", "run", "-S", "seeds=[0,1]", "um@control").stdout
    assert said.count("seed 0: as the last run trained it") == 2  # pretrain and control
    after = fresh.hashes("data/models")
    assert {name: after[name] for name in before if "/0/" in name} == {name: before[name] for name in before if "/0/" in name}
    _, result = fresh.repro("--force", "--single-item", "pretrain@ce")
    assert "as the last run trained it" not in result.stdout
    assert before["data/models/ce/0/model.safetensors"] == fresh.hashes("data/models")["data/models/ce/0/model.safetensors"]


def test_an_experiment_elsewhere_takes_the_images_along(fresh: Project):
    """A queued or temporary experiment runs in a copy of what git knows; one's own pictures go there by --copy-paths, a set at a time."""
    (fresh.path / "images/mine/a").mkdir(parents=True)
    for i in range(6):
        Image.effect_noise((20, 20), 80).save(fresh.path / f"images/mine/a/{i}.png")
    fresh.set({"data.far.mine": {"source": "folder", "path": "images/mine"}})
    fresh.repro("prepare")
    fresh.commit()
    without = fresh.run(DVC, "exp", "run", "--temp", "-S", "data.seed=1", "prepare", check=False)
    assert without.returncode != 0
    assert re.search("images/mine: no such folder.*takes them along with --copy-paths", without.stdout + without.stderr)
    fresh.run(DVC, "exp", "run", "--temp", "--copy-paths", "images/mine", "-S", "data.seed=1", "-n", "moved", "prepare")
    assert "moved" in fresh.run(DVC, "exp", "list", "--name-only").stdout


# --- kills under DVC


def start(project: Project, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [DVC, "repro", *arguments],
        cwd=project.path,
        env=project.cold,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def wait_for(condition, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def trainers(project: Project) -> list[psutil.Process]:
    """Processes that run a stage in this project."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        command = process.info["cmdline"] or []
        if process.info["cwd"] == str(project.path) and "stages" in command:
            found.append(process)
    return found


def test_killed_dvc_leaves_no_orphan_and_the_next_run_goes_on(fresh: Project, tmp_path_factory):
    """SIGKILL to dvc alone: the trainer notices and stops; SIGKILL to both: the next dvc repro resumes. Bits as if undisturbed."""
    fresh.set({"pretrain.training.epochs": 60})
    whole = fresh.copy(tmp_path_factory.mktemp("whole"))
    whole.__class__ = Project
    whole.repro("pretrain@ce")

    dvc = start(fresh, "pretrain@ce")
    wait_for(lambda: list((fresh.path / ".scratch").rglob("checkpoint.pt")))
    dvc.kill()
    dvc.wait()
    wait_for(lambda: not trainers(fresh), 15)
    assert not (fresh.path / "data/models/ce").exists(), "it must have stopped, not finished"

    dvc = start(fresh, "pretrain@ce")
    wait_for(lambda: len(list((fresh.path / ".scratch").rglob("*.safetensors"))) > 20)
    os.killpg(dvc.pid, signal.SIGKILL)
    dvc.wait()
    wait_for(lambda: not trainers(fresh), 15)

    fresh.repro("pretrain@ce")
    assert fresh.hashes("data/models/ce") == whole.hashes("data/models/ce")
    assert fresh.hashes("metrics/training") == whole.hashes("metrics/training")
