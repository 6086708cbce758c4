"""Stopping where validation says so: the epoch of each seed is that of the trace, and no test image is looked at."""

import csv
import json

import pytest
from conftest import Workspace
from safetensors.torch import load_file

from ood.nets.store import kept_epochs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def traced(prepared: Workspace, tmp_path_factory) -> Workspace:
    """Twelve epochs of two seeds, in which validation prefers another than the last; don't write into it, copy it."""
    workspace = prepared.copy(tmp_path_factory.mktemp("traced"))
    workspace.set({"pretrain.training.epochs": 12, "pretrain.training.lr": 0.3, "pretrain.training.schedule": "constant"})
    workspace.set({"epochs": {by: {"run": "ce", "by": by} for by in ("energy", "accuracy")} | {"third": {"run": "ce", "epoch": 3}}})
    workspace.stage("pretrain ce")
    for command in ("trace ce", "epoch energy", "epoch accuracy", "epoch third"):
        workspace.stage(command)
    return workspace


def validation(workspace: Workspace, seed: str) -> dict[int, float]:
    """Epoch -> the trace's AUROC on validation OOD, as it is written."""
    with (workspace.path / "metrics/trace/ce.csv").open(newline="") as stream:
        return {int(row["epoch"]): float(row["validation_auroc"]) for row in csv.DictReader(stream) if row["seed"] == seed}


def test_each_seed_stops_where_its_own_trace_is_highest(traced: Workspace):
    found = json.loads((traced.path / "metrics/epoch/energy.json").read_text())["epoch"]
    assert found.keys() == {"0", "1"}
    for seed, epoch in found.items():
        of = validation(traced, seed)
        assert of[int(epoch)] == max(of.values())
    assert set(found.values()) != {12}, "a training in which the last epoch is the best shows nothing"
    for seed, epoch in found.items():
        one = load_file(traced.path / f"data/models/energy/{seed}/model.safetensors")
        kept = load_file(traced.path / f"data/models/ce/{seed}/epochs/{int(epoch):03d}.safetensors")
        assert all(bool((one[name] == kept[name]).all()) for name in kept)


def test_accuracy_is_that_of_id_validation(traced: Workspace):
    """Checked from outside: the accuracy of every epoch's network, as `features` and `evaluate` would give it."""
    found = json.loads((traced.path / "metrics/epoch/accuracy.json").read_text())["epoch"]
    probe = (
        "import sys, torch; from ood.data.sets import load; from ood.data.batches import PlainBatches; from ood.nets import store\n"
        "from pathlib import Path\n"
        "images = load('id/val')\n"
        "for n in range(1, 13):\n"
        "    net, _ = store.load(Path('data/models/ce') / sys.argv[1], f'epochs/{n:03d}')\n"
        "    with torch.inference_mode():\n"
        "        right = sum(int((net(batch).argmax(1) == labels).sum()) for batch, labels in PlainBatches(images, 50))\n"
        "    print(right)\n"
    )
    for seed, epoch in found.items():
        right = [int(line) for line in traced.run("python", "-c", probe, seed).stdout.split()]
        assert right.index(max(right)) + 1 == epoch, "the first of the best"
        assert len(set(right)) > 1


def test_a_given_epoch_says_which_it_is(traced: Workspace):
    assert json.loads((traced.path / "metrics/epoch/third.json").read_text()) == {"epoch": {"0": 3.0, "1": 3.0}}


def test_no_test_image_is_looked_at(traced: Workspace, tmp_path):
    blind = traced.copy(tmp_path)
    blind.run("rm", "-rf", "data/prepared/test", "data/models/energy")
    assert "of ce: seed 0 epoch" in blind.stage("epoch energy").stdout
    assert blind.hashes("data/models/energy") == traced.hashes("data/models/energy")


def test_kept_epochs_come_in_their_order_beyond_a_thousand(tmp_path):
    (tmp_path / "epochs").mkdir()
    for number in (999, 1000, 101, 1):
        (tmp_path / f"epochs/{number:03d}.safetensors").touch()
    assert [path.stem for path in kept_epochs(tmp_path)] == ["001", "101", "999", "1000"]
