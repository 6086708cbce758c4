"""Many processes, one result: two real gloo processes against one, on the default net with its batch normalisation."""

import sys
from pathlib import Path

import pytest
import torch
from conftest import LAUNCH, Workspace
from safetensors.torch import load_file

from ood import distributed

BIN = Path(sys.executable).parent


@pytest.mark.slow
def test_a_launch_that_starts_one_process_only_is_an_error(prepared: Workspace, tmp_path):
    workspace = prepared.copy(tmp_path)
    launch = [str(BIN / "accelerate"), "launch", "--cpu", "--num_processes", "2", "-m", "stages"]
    result = workspace.run(*launch, "pretrain", "ce", check=False)
    assert result.returncode != 0
    assert "torchrun" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "processes"),
    [
        ("pretrain ce", 3),
        *((run, 2) for run in ("pretrain branch", "pretrain rotation", "um um", "oe oe", "oe poem", "oe doe", "umap umap")),
    ],
)
def test_several_processes_equal_one(trained: Workspace, tmp_path, command, processes):
    """Dropout, augmentation, mixed images and a last batch of two images (which leaves a third process without any) included.

    In float64: in float32 the sums' order differs by 1e-7, a ReLU that flips turns that into 1e-2 of a gradient, and training amplifies it.
    """
    one, two = trained.copy(tmp_path / "one"), trained.copy(tmp_path / "two")
    for workspace in (one, two):
        workspace.set(
            {"seeds": [0], "runtime.precision": "fp64", "net.dropout": 0.2, "augment": {"pad": 1, "flip": True, "crop": [0.6, 1.0]}}
        )
        workspace.set({f"{section}.training.batch_size": 216 for section in ("pretrain", "um", "umap", "oe")})  # 866 = 4 x 216 + 2
        strong = {"label_smoothing": 0.1, "mixup": 0.8, "cutmix": 1.0, "randaugment": 5.0, "random_erasing": 0.25}
        workspace.set({f"{section}.training.strong": strong for section in ("pretrain", "oe")})
    one.stage(command)
    if processes == 3:  # torchrun itself once; it does no more than `together`, and takes ten seconds
        two.run(*(str(processes) if word == "2" else word for word in LAUNCH), *command.split())
    else:
        two.together(command, processes)
    run = command.split()[-1]
    name = "mask" if command == "umap" else "model"
    first, second = (load_file(w.path / f"data/models/{run}/0/{name}.safetensors") for w in (one, two))
    assert first.keys() == second.keys()
    for key in first:
        assert torch.allclose(first[key], second[key], rtol=1e-7, atol=1e-9), key
    if command != "umap":
        start = load_file(trained.path / "data/models/ce/0/model.safetensors")
        moved = max(float((first[k] - start[k]).abs().max()) for k in start if start[k].is_floating_point())
        assert moved > 0.01, "training must have moved the weights far more than the tolerance"


def test_a_process_beyond_the_rows_has_none(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    for total in (0, 1, 2, 7):
        parts = []
        for rank in range(3):
            monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
            parts += distributed.rows_of(total).tolist()
        assert sorted(parts) == list(range(total))
