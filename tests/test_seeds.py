"""Another list of seeds: the new ones are trained, the others taken as they are, unless anything that they depend on has changed."""

import fcntl
import json
import os
import shutil
import time
from pathlib import Path

import pytest
from conftest import Workspace, dying_at
from test_handover import flip

from ood.config.nets import Net
from ood.files import SUMS, seal, write_sealed
from ood.progress import Silent
from ood.training.seeds import begins_on, keep, take, trained_on

pytestmark = pytest.mark.slow
TAKEN = "as the last run trained it"
RUNS = ["um um", "um selective", "umap umap", "oe oe", "oe poem"]


def taken(workspace: Workspace, command: str, **environment: str) -> list[str]:
    """The seeds that a stage says it takes as they are."""
    said = workspace.stage(command, **environment).stdout
    return [line.split("seed ")[1].split(":")[0] for line in said.splitlines() if TAKEN in line]


@pytest.fixture(scope="module")
def one(prepared: Workspace, tmp_path_factory) -> Workspace:
    """Seed 0 alone, pretrained and fine-tuned in every way; don't write into it."""
    workspace = prepared.copy(tmp_path_factory.mktemp("one"))
    workspace.set({"seeds": [0]})
    for command in ("pretrain ce", "mask um", *RUNS):
        workspace.stage(command)
    return workspace


def again(workspace: Workspace, path, changes: dict) -> Workspace:
    """A copy, with the seeds that it keeps, and other parameters; as DVC would, without a run's outputs."""
    twin = workspace.copy(path)
    shutil.copytree(workspace.path / ".scratch/seeds", path / ".scratch/seeds")
    twin.set(changes)
    shutil.rmtree(path / "data/models")
    return twin


def test_one_seed_more_trains_that_one_alone_and_ends_as_if_all_had_been_trained(one: Workspace, prepared: Workspace, tmp_path):
    more = again(one, tmp_path / "more", {"seeds": [1, 0]})
    whole = one.copy(tmp_path / "whole")
    whole.set({"seeds": [1, 0]})
    for command in ("pretrain ce", "mask um", *RUNS):
        assert taken(whole, command) == []
        assert taken(more, command) == ([] if command == "mask um" else ["0"]), command
    for folder in ("data/models", "metrics/training"):
        assert more.hashes(folder) == whole.hashes(folder)


def test_the_same_run_again_trains(one: Workspace, tmp_path):
    """`dvc repro --force` is asked by those who want to see the same bytes come again."""
    twin = again(one, tmp_path, {})
    assert taken(twin, "pretrain ce") == []
    assert twin.hashes("data/models/ce") == one.hashes("data/models/ce")


@pytest.mark.parametrize(
    ("changes", "command"),
    [
        ({"pretrain.training.lr": 0.05}, "pretrain ce"),
        ({"pretrain.keep_epochs": 0}, "pretrain ce"),
        ({"net.dropout": 0.1}, "pretrain ce"),
        ({"runtime.precision": "fp64"}, "pretrain ce"),
        ({"augment": {"pad": 1}}, "pretrain ce"),
        ({"um.threshold": 0.5}, "um um"),
        ({"umap.keep": 0.8}, "umap umap"),
        ({"oe.outlier_batch": 48}, "oe oe"),
    ],
)
def test_what_was_trained_otherwise_is_trained_again(one: Workspace, tmp_path, changes, command):
    twin = again(one, tmp_path, changes | {"seeds": [0, 1]})
    shutil.copytree(one.path / "data/models", tmp_path / "data/models")
    if command != "pretrain ce":
        assert taken(twin, "pretrain ce") == ["0"]
        twin.stage("mask um")
    assert taken(twin, command) == []
    twin.set({"seeds": [0]})
    assert taken(twin, command) == ["0"], "the same settings again, in the same folder"


def test_other_data_or_another_start_is_another_training(one: Workspace, tmp_path):
    data = again(one, tmp_path / "data", {"seeds": [0, 1], "data.seed": 1})
    data.stage("prepare")
    assert taken(data, "pretrain ce") == []
    start = again(one, tmp_path / "start", {"seeds": [0, 1], "pretrain.training.lr": 0.05})
    start.stage("pretrain ce")
    assert taken(start, "oe oe") == []


@pytest.mark.parametrize("damage", ["flipped", "sums", "epoch", "model", "finished"])
def test_a_kept_seed_that_is_not_whole_is_trained_again(one: Workspace, tmp_path, damage):
    """One without its sums counted as somebody's own, and was published with what was left of it."""
    twin = again(one, tmp_path, {"seeds": [0, 1]})
    (folder,) = (tmp_path / ".scratch/seeds/pretrain-ce").glob("*/*")
    match damage:
        case "flipped":
            flip(folder / "model/model.safetensors")
        case "sums":
            (folder / "model/sums.json").unlink()
            (folder / "model/epochs/001.safetensors").unlink()
        case "epoch":
            (folder / "model/epochs/001.safetensors").unlink()
        case "model":
            shutil.rmtree(folder / "model")
        case "finished":
            (folder / "finished.json").write_text("[")
    said = twin.stage("pretrain ce").stdout
    assert "trained again" in said
    assert TAKEN not in said
    names = [name for name in one.hashes("data/models/ce") if "/0/" in name]
    assert names
    assert {name: twin.hashes("data/models/ce")[name] for name in names} == {name: one.hashes("data/models/ce")[name] for name in names}


def test_how_many_workers_decode_is_no_part_of_it(one: Workspace, tmp_path):
    twin = again(one, tmp_path, {"seeds": [0, 1], "runtime.workers": 0})
    assert taken(twin, "pretrain ce") == ["0"]


def test_only_the_seed_whose_own_level_or_images_changed_is_trained_again(one: Workspace, tmp_path):
    """b is estimated for each seed, and so is what is forgotten."""
    two = again(one, tmp_path, {"seeds": [0, 1]})
    for command in ("pretrain ce", "mask um", "um um", "um selective"):
        two.stage(command)
    masks = tmp_path / "data/mask/um"
    (masks / "sums.json").unlink()  # so that what is changed by hand counts as somebody's own
    estimate = json.loads((masks / "1.json").read_text())
    estimate["constraint"]["mean"] += 0.1
    (masks / "1.json").write_text(json.dumps(estimate))
    head, *rows = (masks / "atypical-1.csv").read_text().splitlines()
    place = head.split(",").index("early_doubt")
    cells = [row.split(",") for row in rows]
    turned = [[*row[:place], str(1 - float(row[place])), *row[place + 1 :]] for row in cells]
    (masks / "atypical-1.csv").write_text("\n".join([head, *map(",".join, turned)]) + "\n")
    two.set({"seeds": [1, 0, 2]})
    for folder, name in ((tmp_path / "data/models/ce", "{}"), (masks, "{}.json"), (masks, "atypical-{}.csv")):
        (shutil.copytree if name == "{}" else shutil.copy)(folder / name.format(1), folder / name.format(2))
    (tmp_path / "data/models/ce/sums.json").unlink()
    assert taken(two, "um um") == ["0"]
    assert taken(two, "um selective") == ["0"]


def test_a_run_keeps_its_last_seeds_and_nothing_else(one: Workspace, tmp_path):
    twin = again(one, tmp_path, {"seeds": [0, 1]})
    place = tmp_path / ".scratch/seeds/pretrain-ce"
    (place / ".new/half").mkdir(parents=True)  # of a process that was killed
    twin.stage("pretrain ce")
    (run,) = place.iterdir()
    assert len(list(run.iterdir())) == 2
    assert {path.name for path in run.glob("*/*")} == {"model", "finished.json", "machine"}
    first = next(run.glob("*/model/model.safetensors"))
    assert first.stat().st_nlink > 1, "kept without a copy"
    assert taken(twin, "pretrain ce") == []  # the very same run
    twin.set({"seeds": [1]})
    assert taken(twin, "pretrain ce") == ["1"]


def test_several_processes_take_what_several_have_trained(one: Workspace, tmp_path):
    twin = again(one, tmp_path, {"seeds": [0]})
    twin.together("pretrain ce")
    twin.set({"seeds": [0, 1]})
    assert TAKEN not in twin.stage("pretrain ce").stdout, "one process trains in another order of sums"
    twin.set({"seeds": [0]})
    twin.together("pretrain ce")
    twin.set({"seeds": [0, 1]})
    assert TAKEN in twin.together("pretrain ce")


# --- what a death, or another process, leaves


def finished(folder: Path, content: str) -> Path:
    """A seed as a run leaves it: three files, sealed, and where it was trained."""
    (folder / "model/epochs").mkdir(parents=True)
    for name in FILES:
        (folder / "model" / name).write_text(content)
    seal(folder / "model")
    write_sealed(folder / "finished.json", b"[]")
    begins_on("here", folder)
    return folder


FILES = ("model.safetensors", "model.json", "epochs/001.safetensors")


def is_whole(folder: Path, content: str) -> bool:
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    expected = {"finished.json", "machine", *(f"model/{name}" for name in (*FILES, SUMS))}
    return names == expected and all((folder / "model" / name).read_text() == content for name in FILES)


@pytest.mark.parametrize("what", ["keep", "take"])
def test_a_death_at_any_call_leaves_a_whole_seed_or_none(tmp_path, monkeypatch, what):
    taken_after = 0
    for call in range(1, 200):
        place = tmp_path / str(call)
        monkeypatch.setenv("OOD_SCRATCH", str(place / "scratch"))
        first, second = (finished(place / name, name) for name in ("first", "second"))
        keep("ce", "one", {"a": first, "b": second})
        target = place / "scratch/target"
        if what == "keep":
            died = dying_at(call, lambda second=second: keep("ce", "two", {"b": second}))
        else:
            died = dying_at(call, lambda target=target: take("ce", "other", "a", target, Silent()))
            assert not target.exists() or is_whole(target, "first")
        assert died in (0, 9)
        taken_after += take("ce", "other", "b", place / "last", Silent())
        assert not (place / "last").exists() or is_whole(place / "last", "second")
        keep("ce", "three", {"a": first})
        assert [path.name for path in (place / "scratch/seeds/ce").iterdir()] == ["three"]
        if died == 0:
            assert call > 8, "the deaths must have covered many calls"
            assert taken_after > 5
            return
    raise AssertionError("it never got through")


def test_two_processes_at_once_take_whole_seeds(tmp_path, monkeypatch):
    """One that removed what the other was about to take gave it half."""
    monkeypatch.setenv("OOD_SCRATCH", str(tmp_path / "scratch"))
    seeds = [finished(tmp_path / f"seed-{n}", str(n)) for n in range(2)]
    keep("ce", "0", {"key": seeds[0]})
    pid = os.fork()
    if pid == 0:
        for turn in range(400):
            keep("ce", str(turn % 2), {"key": seeds[turn % 2]})
            time.sleep(0.005)
        os._exit(0)
    took, running = 0, True
    while running:
        running = os.waitpid(pid, os.WNOHANG)[0] == 0
        target = tmp_path / f"target-{took}"
        if take("ce", "mine", "key", target, Silent()):
            took += 1
            assert is_whole(target, "0") or is_whole(target, "1")
    assert took > 2


def test_what_cannot_be_kept_without_a_copy_is_not(tmp_path, monkeypatch):
    monkeypatch.setenv("OOD_SCRATCH", str(tmp_path / "scratch"))
    done = finished(tmp_path / "done", "x")
    (tmp_path / "scratch").write_text("a file where the folder should be")
    keep("a", "run", {"key": done})
    assert (tmp_path / "scratch").read_text() == "a file where the folder should be"
    os.remove(tmp_path / "scratch")

    def refused(*_: object) -> None:
        raise PermissionError

    with monkeypatch.context() as patched:
        patched.setattr(os, "link", refused)
        keep("a", "run", {"key": done})
    assert not any(path.is_file() for path in (tmp_path / "scratch/seeds/a").rglob("*"))
    keep("a", "run", {"key": done})
    assert not take("a", "run", "key", tmp_path / "target", Silent()), "the very same run"
    assert take("a", "other", "key", tmp_path / "target", Silent())
    assert is_whole(tmp_path / "target", "x")
    assert not take("a", "other", "key", tmp_path / "target", Silent()), "there is something already"


def test_who_holds_the_lock_for_long_stops_nobody(tmp_path, monkeypatch):
    monkeypatch.setenv("OOD_SCRATCH", str(tmp_path))
    monkeypatch.setattr("ood.training.seeds.PATIENCE", 0.1)
    done = finished(tmp_path / "done", "x")
    keep("a", "run", {"key": done})
    with (tmp_path / "seeds/a.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        keep("a", "new", {"key": done})
        assert not take("a", "other", "key", tmp_path / "target", Silent())
    assert [path.name for path in (tmp_path / "seeds/a").iterdir()] == ["run"]
    assert take("a", "other", "key", tmp_path / "target", Silent())


def test_a_seed_that_two_machines_have_trained_is_nobodys(tmp_path):
    begins_on("one", tmp_path)
    assert trained_on("one", tmp_path)
    begins_on("other", tmp_path)
    begins_on("one", tmp_path)
    assert not trained_on("one", tmp_path)
    assert not trained_on("other", tmp_path)


def test_another_machine_trains_for_itself(one: Workspace, tmp_path):
    """Here one that is told to use fewer of its instructions."""
    twin = again(one, tmp_path, {"seeds": [0, 1]})
    assert taken(twin, "pretrain ce", ONEDNN_MAX_CPU_ISA="AVX2") == []


def test_nothing_is_kept_where_a_hub_says_what_is_trained(tmp_path):
    assert Net(name="timm/resnet10t", weights="published").elsewhere
    assert Net(name="clip/openai/clip-vit-base-patch32", weights="published").elsewhere
    (tmp_path / "weights.safetensors").touch()
    assert Net(name="transformers/bert-base-uncased", weights=str(tmp_path / "weights.safetensors")).elsewhere, "its config is the hub's"
    assert not Net(name=f"transformers/{tmp_path}", weights="published").elsewhere
    assert not Net(name="timm/resnet10t").elsewhere
    assert not Net(name="timm/tf_efficientnet_lite0", weights="lite0").elsewhere
    assert not Net(name="wrn_10_1").elsewhere
