"""The suite for one GPU, every piece of it on a CPU in miniature, and its table."""

import re
import sys
from argparse import Namespace

import numpy as np
import pytest
import torch
from conftest import ROOT, warm_python
from PIL import Image
from safetensors.torch import save_file

from ood import nets
from ood.config.nets import Net

sys.path.insert(0, str(ROOT / "benchmarks"))
import gpu_plan
import gpu_suite
import gpu_table
import gpu_work

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
FOLDERS = {
    "cifar10/train": CLASSES,
    "cifar10/test": CLASSES,
    "cifar10-original/train": CLASSES,
    "cifar10-original/test": CLASSES,
    "tin32/aux": ["n1", "n2"],
    "tin32/val": ["n3"],
    "tin32/test": ["n4"],
    "dtd32": ["dotted"],
    "mnist32": ["0", "1"],
}


def theirs(name):
    """What the UM authors call a tensor of our DenseNet."""
    if found := re.fullmatch(r"backbone\.blocks\.(\d+)\.(.+)", name):
        block, place = divmod(int(found[1]), 17)
        part = found[2].replace("bn.", "bn1.").replace("conv.", "conv1.") if place == 16 else f"layer.{place}.{found[2]}"
        return f"trans{block + 1}.{part}" if place == 16 else f"block{block + 1}.{part}"
    return name.replace("backbone.stem", "conv1").replace("backbone.bn", "bn1")


def archives(root):
    """Folders by the names and in the layout of the packed images, and a network like the UM authors'."""
    net = nets.build(Net(name="densenet_bc_100_12", affine=False), num_classes=10, size=32)
    save_file({theirs(name): value for name, value in net.state_dict().items() if "num_batches" not in name}, root / gpu_plan.GIVEN)
    rng = np.random.default_rng(0)
    for folder, classes in FOLDERS.items():
        for name in classes:
            (root / folder / name).mkdir(parents=True)
            for i in range(5):
                Image.fromarray(rng.integers(0, 255, (32, 32, 3)).astype(np.uint8)).save(root / folder / name / f"{i}.png")
    return root


@pytest.mark.slow
def test_every_piece_runs_in_miniature_and_none_twice(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(warm_python() / "python"))
    (tmp_path / "images").mkdir()
    data = str(archives(tmp_path / "images"))

    def suite(*arguments):
        monkeypatch.setattr(sys, "argv", ["gpu_suite.py", *arguments])
        with pytest.raises(SystemExit) as stopped:
            gpu_suite.main()
        said = capsys.readouterr().out
        assert stopped.value.code == 0, said
        return said

    miniature = ["run", "--miniature", "--device", "cpu", "--data", data, "--seeds"]
    assert "commands left" in suite(*miniature, "0", "1", "--limit", "0")
    assert "all done" in suite(*miniature, "0", "1", "--only", "prepare", "wrn", "um")
    assert "all done" in suite(*miniature, "0", "--only", "given", "given-um")
    scratch = list(gpu_plan.SUITES["seed"])
    first = suite(*miniature, "0", "--only", *scratch)
    assert "all done" in first
    assert "pretrain wrn" not in first, "that was done before"
    assert suite(*miniature, "0", "--only", *scratch) == "all done\n"
    monkeypatch.setattr(sys, "argv", ["gpu_suite.py", "run", "--device", "cpu", "--data", data, "--seeds", "0"])
    with pytest.raises(SystemExit, match="holds a run with other settings"):
        gpu_suite.main()
    suite("pack", "packed")  # to another machine and on from there
    packed = {path.name for path in (tmp_path / "packed").iterdir()}
    assert {"seed-0.figures.tar.gz", "seed-1.figures.tar.gz", "seed-1.wrn.tar.gz"} <= packed
    assert "seed-1.um.tar.gz" not in packed, "nothing starts from it"
    assert "seed-0.wrn.tar.gz" not in packed, "nothing of it is left to do"
    (tmp_path / "suite").rename(tmp_path / "old")
    suite("unpack", "packed")
    second = suite(*miniature, "1", "--only", "prepare", "oe")
    assert "all done" in second
    assert "pretrain" not in second, "the model came along"
    rows = {tuple(row.split(" ")[1:4:2]): row for row in suite("table").splitlines() if row.startswith("| ")}
    assert {(name, model) for name, models in gpu_plan.MODELS.items() for model in models} <= rows.keys()
    assert "| 2 |" in rows["seed", "um"]
    assert "| 2 |" in rows["seed", "oe"]
    assert "| 1 |" in rows["seed", "dream"]
    assert "not run" not in rows["seed", "densenet"]
    assert "not run" not in rows["given", "um"]
    assert "not run" in rows["given", "umap"]
    assert "33.29 | 93.73" in rows["given", "um"]


def test_what_fails_takes_along_what_starts_from_it_and_nothing_else():
    pieces = gpu_plan.SUITES["seed"]
    everything = [command for commands in pieces.values() for command in commands]

    def left_out(command):
        queue = [other for other in everything if other != command]
        before = [*queue]
        gone = gpu_work.drop(command, queue, "seed")
        assert queue == [c for c in before if c not in gone]
        return [command, *gone]

    assert left_out("prepare") == everything
    assert left_out("trace wrn") == ["trace wrn"]
    assert left_out("features wrn") == ["features wrn", "evaluate wrn"]
    assert left_out("um um") == ["um um", "features um", "evaluate um"]
    assert left_out("mask um")[:2] == ["mask um", "um um"]
    assert {"umap umap", "oe oe-um"} < set(left_out("mask um"))
    assert not any(word in " ".join(left_out("mask um")) for word in ("oe oe ", "control", "dream"))
    assert left_out("align")[-3:] == ["oe dream", "features dream", "evaluate dream"]
    base = set(left_out("pretrain wrn"))
    assert set(everything) - base == {
        "prepare",
        *pieces["l2"],
        *pieces["densenet"],
        "diffusion",
        "align",
        "proofs",
        "embed outliers",
        "synthesize outliers",
    }


def test_pieces_under_way_are_done_again_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "suite/seed-0"
    (folder / "data/models/wrn/0").mkdir(parents=True)
    (folder / "data/models/wrn/0/model.safetensors").write_text("weights")
    (folder / "data/models/wrn/0/epochs").mkdir()
    (folder / "data/models/wrn/0/epochs/10.safetensors").write_text("not needed")
    done = ["prepare", *gpu_plan.PIECES["wrn"], *gpu_plan.PIECES["dream"][:3], "um um", "features um"]
    (folder / "done.txt").write_text("\n".join(done))
    gpu_suite.pack(Namespace(folder="packed"))
    (tmp_path / "suite").rename(tmp_path / "old")
    gpu_suite.unpack_suite(Namespace(folder="packed"))
    assert gpu_work.pending("seed", folder, list(gpu_plan.PIECES)) == [
        command for piece, commands in gpu_plan.SUITES["seed"].items() if piece != "wrn" for command in commands
    ]
    assert (folder / "data/models/wrn/0/model.safetensors").read_text() == "weights"
    assert not (folder / "data/models/wrn/0/epochs").exists()


def test_the_authors_names_are_ours():
    ours = nets.build(Net(name="densenet_bc_100_12", affine=False), num_classes=10, size=32).state_dict()
    assert [gpu_plan.our_name(theirs(name)) for name in ours] == list(ours)
    assert gpu_plan.our_name("block3.layer.15.conv2.weight") == "backbone.blocks.49.conv2.weight"
    assert gpu_plan.our_name("trans1.conv1.weight") == "backbone.blocks.16.conv.weight"


def test_made_up_pictures_are_never_taken_for_real_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gpu_plan.made_up(tmp_path / "suite/made-up")
    with pytest.raises(FileNotFoundError, match=r"cifar10\.tar\.xz"):
        gpu_plan.unpack(tmp_path)


def test_seeds_after_the_first_link_to_what_it_prepared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("seed-0", "seed-1"):
        (tmp_path / name).mkdir()
    first = gpu_work.Workspace("seed", tmp_path / "seed-0", {}, ["prepare", "pretrain wrn"])
    second = gpu_work.Workspace("seed", tmp_path / "seed-1", {}, ["prepare", "pretrain wrn", "features wrn"])
    assert first.ready(first) == ["prepare"]
    assert second.ready(first) == []
    (tmp_path / "seed-0/data/prepared").mkdir(parents=True)
    first.queue.remove("prepare")
    assert first.ready(first) == ["pretrain wrn"]
    assert second.ready(first) == ["pretrain wrn"]
    assert (tmp_path / "seed-1/data/prepared").resolve() == tmp_path / "seed-0/data/prepared"


def test_sets_that_copies_of_id_leave_behind_have_a_high_auroc(tmp_path, monkeypatch, capsys):
    """The copies stand for ID: larger logits there, smaller ones on the other sets."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "suite/given-0/data/features/um"
    folder.mkdir(parents=True)
    rng = torch.Generator().manual_seed(0)
    sizes = {"near/cifar10-as-jpeg": 9.0, "near/tin-test": 1.0, "far/mnist": 9.0, "far/textures": 20.0}
    save_file({f"{name}:logits": size * torch.rand(200, 10, generator=rng) for name, size in sizes.items()}, folder / "0.safetensors")
    gpu_table.against_copies()
    fpr, auroc = (line for line in capsys.readouterr().out.splitlines() if line.startswith("| given um"))
    far_mnist, far_textures, near = (float(cell) for cell in auroc.split("|")[2:5])
    assert far_textures < 5
    assert 40 < far_mnist < 60
    assert near > 95
    assert float(fpr.split("|")[4]) < 5
