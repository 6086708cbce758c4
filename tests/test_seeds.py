"""Another list of seeds: the new ones are trained, the others taken as they are, unless anything that they depend on has changed."""

import os
import shutil

import pytest
from conftest import Workspace
from test_handover import flip

from ood.training.seeds import keep, take

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


def test_other_data_or_another_start_is_another_training(one: Workspace, tmp_path):
    data = again(one, tmp_path / "data", {"seeds": [0, 1], "data.seed": 1})
    data.stage("prepare")
    assert taken(data, "pretrain ce") == []
    start = again(one, tmp_path / "start", {"seeds": [0, 1], "pretrain.training.lr": 0.05})
    start.stage("pretrain ce")
    assert taken(start, "oe oe") == []


def test_a_kept_seed_that_was_damaged_is_trained_again(one: Workspace, tmp_path):
    twin = again(one, tmp_path, {"seeds": [0, 1]})
    (weights,) = (tmp_path / ".scratch/seeds/pretrain-ce").glob("*/*/model/model.safetensors")
    flip(weights)
    said = twin.stage("pretrain ce").stdout
    assert "made again" in said
    assert twin.hashes("data/models/ce/0") == one.hashes("data/models/ce/0")


def test_a_run_keeps_its_last_seeds_and_nothing_else(one: Workspace, tmp_path):
    twin = again(one, tmp_path, {"seeds": [0, 1]})
    place = tmp_path / ".scratch/seeds/pretrain-ce"
    (place / ".half.123").mkdir()  # of a process that was killed
    twin.stage("pretrain ce")
    (run,) = place.iterdir()
    assert len(list(run.iterdir())) == 2
    assert {path.name for path in run.glob("*/*")} == {"model", "finished.json"}
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


def test_what_cannot_be_kept_is_not(tmp_path, monkeypatch):
    monkeypatch.setenv("OOD_SCRATCH", str(tmp_path / "scratch"))
    done = tmp_path / "done"
    (done / "model").mkdir(parents=True)
    (done / "finished.json").write_text("x")
    (tmp_path / "scratch").write_text("a file where the folder should be")
    keep("a", "whole", {"mark": done}, ("model", "finished.json"))
    os.remove(tmp_path / "scratch")
    assert not take("a", "other", "mark", tmp_path / "target")
    keep("a", "whole", {"mark": done}, ("model", "finished.json"))
    assert not take("a", "whole", "mark", tmp_path / "target"), "the very same run"
    assert take("a", "other", "mark", tmp_path / "target")
    assert (tmp_path / "target/finished.json").read_text() == "x"
    assert not take("a", "other", "mark", tmp_path / "target"), "there is something already"
