"""The dream stages as a user runs them: kills, several processes, manifests, errors, anyone's pipeline."""

import csv
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import Workspace
from safetensors.torch import load_file

pytestmark = pytest.mark.slow
LAUNCH = [str(Path(sys.executable).parent / "torchrun"), "--standalone", "--nproc_per_node", "2", "-m", "stages"]

# Kills itself in the n-th write of a checkpoint or shard, with half of the file on disk.
DIE_WRITING = """
import importlib, os, signal, sys, typer
import numpy, torch
left = int(os.environ["DIE_AT"])
def dying(function, place):
    def call(*arguments, **keywords):
        global left
        left -= 1
        function(*arguments, **keywords)
        if left == 0:
            target = arguments[place]
            if hasattr(target, "flush"):
                target.flush()
                target = target.name
            os.truncate(target, os.path.getsize(target) // 2)
            os.kill(os.getpid(), signal.SIGKILL)
    return call
torch.save, numpy.save = dying(torch.save, 1), dying(numpy.save, 0)
sys.argv = os.environ["STAGE"].split()
typer.run(importlib.import_module("stages." + sys.argv[0]).main)
"""


@pytest.fixture(scope="session")
def dreaming(trained: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace after all dream stages; don't write into it, copy it."""
    workspace = trained.copy(tmp_path_factory.mktemp("dreaming"))
    for command in (
        "pretrain scratch",
        "diffusion",
        "align",
        "embed outliers",
        "embed inliers",
        "synthesize outliers",
        "synthesize inliers",
    ):
        workspace.stage(command)
    return workspace


def outputs(workspace: Workspace) -> dict[str, str]:
    folders = ("data/diffusion", "data/round-trip", "data/align", "data/embeddings", "data/dreamed", "metrics/dream", "metrics/pictures")
    return {name: digest for folder in folders for name, digest in workspace.hashes(folder).items()}


def test_exactly_n_pictures_per_class_with_their_manifest(dreaming: Workspace):
    for run, count in (("outliers", 6), ("inliers", 5)):
        folder = dreaming.path / "data/dreamed" / run
        images = np.load(folder / "images.npy")
        with (folder / "manifest.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert images.shape == (8 * count, 8, 8, 3)
        assert len(rows) == 8 * count
        assert all(sum(row["class"] == str(label) for row in rows) == count for label in range(8))
        assert len({row["seed"] for row in rows}) == len(rows)
        for row in rows:
            assert 0 <= float(row["own"]) <= float(row["confidence"]) <= 1
            assert row["word"] in row["prompt"]
            assert row["nearest"].startswith("digits/")
            assert (row["sampler"], row["steps"], row["guidance"]) == ("dpm", "2", "2")
        assert (images.reshape(len(images), -1).max(1) > 0).all(), "no picture is black"
    assert json.loads((dreaming.path / "data/dreamed/inliers/info.json").read_text())["mode"] == "inlier"


def test_the_same_command_gives_the_same_bytes(dreaming: Workspace, tmp_path):
    twin = dreaming.copy(tmp_path)
    for folder in ("data/diffusion", "data/align", "data/embeddings", "data/dreamed", "data/round-trip", "metrics"):
        shutil.rmtree(twin.path / folder)
    for command in ("diffusion", "align", "embed outliers", "embed inliers", "synthesize outliers", "synthesize inliers"):
        twin.stage(command)
    pictures = {name: digest for name, digest in outputs(dreaming).items() if "pictures" not in name}
    assert {name: digest for name, digest in outputs(twin).items() if "pictures" not in name} == pictures
    for name in ("prompts", "embeddings-outliers", "dreamed-outliers"):
        assert (twin.path / f"metrics/pictures/{name}.png").read_bytes() == (dreaming.path / f"metrics/pictures/{name}.png").read_bytes()


@pytest.mark.parametrize("command", ["diffusion", "align", "synthesize outliers"])
def test_kills_cost_no_bit(dreaming: Workspace, tmp_path, command):
    """SIGKILL with a checkpoint or shard half on disk, twice, then at arbitrary moments; the end equals an uninterrupted run's."""
    killed = dreaming.copy(tmp_path)
    expected, out = outputs(dreaming), {"diffusion": "diffusion", "align": "align", "synthesize outliers": "dreamed/outliers"}[command]
    shutil.rmtree(killed.path / "data" / out)
    for die_at in ("2", "1"):
        died = killed.run(sys.executable, "-c", DIE_WRITING, check=False, DIE_AT=die_at, STAGE=command)
        assert died.returncode == -signal.SIGKILL, died.stderr
        assert not (killed.path / "data" / out).exists()
        assert list((killed.path / ".scratch").rglob(".*.tmp")), "the kill must have hit an unfinished write"
    chance = random.Random(command)
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-m", "stages", *command.split()], cwd=killed.path, env=killed.environment, stdout=subprocess.DEVNULL
        )
        time.sleep(chance.uniform(3, 6))
        process.kill()
        process.wait()
    killed.stage(command)
    assert outputs(killed) == expected
    assert not list((killed.path / ".scratch").rglob("*.tmp"))


def test_two_processes_paint_what_one_does_and_finish_what_one_began(dreaming: Workspace, tmp_path):
    shared = dreaming.copy(tmp_path)
    shutil.rmtree(shared.path / "data/dreamed/outliers")
    died = shared.run(sys.executable, "-c", DIE_WRITING, check=False, DIE_AT="3", STAGE="synthesize outliers")
    assert died.returncode == -signal.SIGKILL
    shards = sorted(p.name for p in (shared.path / ".scratch").rglob("0*.npy"))
    assert shards == ["000000.npy", "000001.npy"]
    result = shared.run(*LAUNCH, "synthesize", "outliers")
    assert "images 48" in result.stdout
    assert shared.hashes("data/dreamed/outliers") == dreaming.hashes("data/dreamed/outliers")


def test_two_processes_train_the_diffusion_model_that_one_does(dreaming: Workspace, tmp_path):
    shared = dreaming.copy(tmp_path)
    shutil.rmtree(shared.path / "data/diffusion")
    shared.run(*LAUNCH, "diffusion")
    for part in ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"):
        one, two = (load_file(w.path / f"data/diffusion/pipeline/{part}.safetensors") for w in (dreaming, shared))
        assert one.keys() == two.keys()
        assert max(float((one[key] - two[key]).abs().max()) for key in one) < 1e-3  # six steps of AdamW, whose first steps are signs
        assert sum(float((one[key] - two[key]).square().sum()) for key in one) < 1e-4


def test_anyones_pipeline_paints(dreaming: Workspace, tmp_path):
    """A folder in diffusers' format; nothing is trained, and a change of the folder is seen."""
    workspace = dreaming.copy(tmp_path)
    shutil.copytree(workspace.path / "data/diffusion/pipeline", workspace.path / "theirs")
    workspace.set({"diffusion.model": "./theirs"})
    result = workspace.stage("diffusion")
    assert "denoiser" not in result.stdout
    assert json.loads((workspace.path / "data/diffusion/source.json").read_text())["model"] == "./theirs"
    assert not (workspace.path / "data/diffusion/pipeline").exists()
    workspace.stage("align")
    workspace.stage("embed others")
    assert workspace.hashes("data/align") == dreaming.hashes("data/align")
    (workspace.path / "theirs/unet/config.json").write_text("{}")
    message = workspace.stage("diffusion", check=False)
    assert message.returncode == 1
    assert "diffusion.model: './theirs' can't be loaded" in message.stderr


def test_dreams_are_trained_against_and_the_filter_says_what_it_keeps(dreaming: Workspace, tmp_path):
    workspace = dreaming.copy(tmp_path)
    result = workspace.stage("oe dream")
    assert "100.0% of the dreamed images pass the cut 1; trains with 48" in result.stdout
    workspace.stage("oe dream-id")
    with (workspace.path / "metrics/training/dream-id.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert float(rows[1]["inliers"]) < float(rows[0]["inliers"])
    workspace.set({"oe.runs.dream.cut": 0.0})
    message = workspace.stage("oe dream", check=False)
    assert message.returncode == 1
    assert "oe.runs.dream: of 6 images dreamed for class '0' 0 pass the cut 0, 1 are asked for" in message.stderr
    workspace.set({"oe.runs.dream.cut": 1.0, "oe.runs.dream.per_class": 4})
    assert "trains with 32" in workspace.stage("oe dream").stdout


@pytest.mark.parametrize(
    ("changes", "command", "words"),
    [
        ({"prompts.words": {"3": "chimpanzee"}}, "align", "'chimpanzee' isn't in the prompt"),
        (
            {"prompts.pieces": "refuse", "prompts.words": {"3": "of the three"}},
            "align",
            "'of the three' is split into of</w> + the</w> + three</w>",
        ),
        ({"data.chain.levels": 9}, "synthesize nowhere", "synthesize.runs: no run 'nowhere'. Give one of: outliers, inliers"),
    ],
)
def test_bad_input_names_the_key(dreaming: Workspace, tmp_path, changes, command, words):
    workspace = dreaming.copy(tmp_path)
    workspace.set(changes)
    before = outputs(workspace)
    result = workspace.stage(command, check=False)
    assert result.returncode == 1
    assert words in result.stderr
    assert outputs(workspace) == before
