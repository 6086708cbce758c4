"""The dream stages as a user runs them: kills, several processes, manifests, errors, anyone's pipeline."""

import contextlib
import csv
import json
import shutil
import signal
import time

import numpy as np
import pytest
from conftest import LAUNCH, Workspace
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.slow

# Kills itself in the n-th write of a checkpoint or shard, with half of the file on disk.
DIE_WRITING = """
import importlib, io, os, pathlib, signal, sys, typer
import numpy
left = int(os.environ["DIE_AT"])
def dying(function, place):
    def call(*arguments, **keywords):
        global left
        left -= not isinstance(arguments[place], io.BytesIO)
        function(*arguments, **keywords)
        if left == 0:
            target = arguments[place]
            if hasattr(target, "flush"):
                target.flush()
                target = target.name
            os.truncate(target, os.path.getsize(target) // 2)
            os.kill(os.getpid(), signal.SIGKILL)
    return call
pathlib.Path.write_bytes, numpy.save = dying(pathlib.Path.write_bytes, 0), dying(numpy.save, 0)
sys.argv = os.environ["STAGE"].split()
typer.run(importlib.import_module("stages." + sys.argv[0]).main)
"""


DREAM = ("diffusion", "align", "proofs", "embed outliers", "embed inliers", "synthesize outliers", "synthesize inliers")
DREAM += ("judge outliers", "judge inliers")
FOLDERS = ("diffusion", "align", "proofs", "embeddings", "painted", "dreamed")


@pytest.fixture(scope="session")
def dreaming(trained: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace after all dream stages; don't write into it, copy it."""
    workspace = trained.copy(tmp_path_factory.mktemp("dreaming"))
    for command in ("pretrain scratch", *DREAM):
        workspace.stage(command)
    return workspace


def outputs(workspace: Workspace) -> dict[str, str]:
    folders = (*(f"data/{name}" for name in FOLDERS), "metrics/dream", "metrics/pictures")
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
    for folder in (*FOLDERS, "../metrics/dream"):
        shutil.rmtree(twin.path / "data" / folder)
    for command in DREAM:
        twin.stage(command)
    assert outputs(twin) == outputs(dreaming)


@pytest.mark.parametrize(
    ("command", "out"),
    [
        ("diffusion", "diffusion"),
        ("align", "align"),
        ("embed outliers", "embeddings/outliers"),
        ("synthesize outliers", "painted/outliers"),
    ],
)
def test_kills_cost_no_bit(dreaming: Workspace, tmp_path, command, out):
    """SIGKILL twice with a file half on disk, then at an arbitrary moment of its work; the end equals an uninterrupted run's."""
    killed, expected = dreaming.copy(tmp_path), outputs(dreaming)
    shutil.rmtree(killed.path / "data" / out)
    for die_at in ("2", "1"):
        died = killed.run("python", "-c", DIE_WRITING, check=False, DIE_AT=die_at, STAGE=command)
        assert died.returncode == -signal.SIGKILL, died.stderr
        assert not (killed.path / "data" / out).exists()
        assert saved(killed), "nothing that was done is done again"
    before = saved(killed)
    process = killed.start(command)
    while process.poll() is None and saved(killed) == before:
        time.sleep(0.002)
    assert process.poll() is None, "it was still at work"
    process.kill()
    process.wait()
    assert not (killed.path / "data" / out).exists()
    killed.stage(command)
    assert outputs(killed) == expected
    assert not list((killed.path / ".scratch").rglob("*.tmp"))


def saved(workspace: Workspace) -> list[tuple[str, float]]:
    """Checkpoints, shards and drawn classes in the scratch folder, with their times."""
    found = []
    for kind in ("*.pt", "0*.np[yz]"):
        for path in (workspace.path / ".scratch").rglob(kind):
            with contextlib.suppress(FileNotFoundError):
                found += [] if path.name.startswith(".") else [(path.name, path.stat().st_mtime)]
    return sorted(found)


def test_two_processes_paint_what_one_does_and_finish_what_one_began(dreaming: Workspace, tmp_path):
    shared = dreaming.copy(tmp_path)
    shutil.rmtree(shared.path / "data/painted/outliers")
    died = shared.run("python", "-c", DIE_WRITING, check=False, DIE_AT="3", STAGE="synthesize outliers")
    assert died.returncode == -signal.SIGKILL
    shards = sorted(p.name for p in (shared.path / ".scratch").rglob("0*.npy"))
    assert shards == ["000000.npy", "000001.npy"]
    result = shared.run(*LAUNCH, "synthesize", "outliers")
    assert "48 pictures, 6 of each class" in result.stdout
    assert shared.hashes("data/painted/outliers") == dreaming.hashes("data/painted/outliers")


def test_two_processes_train_the_diffusion_model_that_one_does(dreaming: Workspace, tmp_path):
    """Without averaged weights, which would hide a difference; another seed shows how far apart different draws end."""
    changes = {"diffusion.small.unet.ema": 0.0, "diffusion.small.autoencoder.training.batch_size": 7}
    one, two, other = (dreaming.copy(tmp_path / name) for name in ("one", "two", "other"))
    for workspace, seed in ((one, 0), (two, 0), (other, 1)):
        workspace.set(changes | {"diffusion.seed": seed})
    one.stage("diffusion")
    two.together("diffusion")
    other.stage("diffusion")
    for part in ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"):
        first, second, third = (load_file(w.path / f"data/diffusion/pipeline/{part}.safetensors") for w in (one, two, other))
        assert first.keys() == second.keys()
        apart, baseline = (sum(float((first[key] - w[key]).abs().sum()) for key in first) for w in (second, third))
        assert apart < 0.01 * baseline, part


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
    workspace.stage("embed outliers")
    weights = workspace.path / "theirs/unet/diffusion_pytorch_model.safetensors"
    save_file({key: tensor * 0 for key, tensor in load_file(weights).items()}, weights)
    message = workspace.stage("synthesize outliers", check=False)
    assert message.returncode == 1
    assert "./theirs has changed since `diffusion` saw it" in message.stderr
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
        ({"judge.run": "nobody"}, "judge outliers", "data/models/nobody/0: no model there"),
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
