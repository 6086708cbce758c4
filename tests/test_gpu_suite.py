"""Stages without DVC, and the suite for one GPU in miniature on a CPU."""

import json
import re
import signal
import subprocess
import sys
import tarfile
import time
from functools import cache

import numpy as np
import pytest
from conftest import ROOT, warm_python
from PIL import Image
from safetensors.torch import save_file

from ood import nets
from ood.config.nets import Net
from stages import repro

sys.path.insert(0, str(ROOT / "benchmarks"))
import gpu_suite
import plain
import workspaces

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
FOLDERS = {
    "cifar10-original/train": (CLASSES, 40),
    "cifar10-original/test": (CLASSES, 5),
    "cifar10/train": (CLASSES, 2),
    "cifar10/test": (CLASSES, 2),
    "tin32/aux": (["n1", "n2"], 5),
    "tin32/val": (["n3"], 5),
    "tin32/test": (["n4"], 5),
    "dtd32": (["dotted"], 5),
    "mnist32": (["0", "1"], 5),
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
    save_file({theirs(name): part for name, part in net.state_dict().items() if "num_batches" not in name}, root / gpu_suite.GIVEN)
    rng = np.random.default_rng(0)
    for folder, (classes, count) in FOLDERS.items():
        for name in classes:
            (root / folder / name).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 255, (32, 32, 3)).astype(np.uint8)).save(root / folder / name / f"{i}.png")
    return root


def suite(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["gpu_suite.py", *map(str, arguments)])
    gpu_suite.main()


def folder_of(root, name, stages):
    """A folder whose stages are commands of the shell's kind: {name: (cmd, deps, outs)}."""
    folder = root / name
    folder.mkdir()
    listed = {stage: {"cmd": cmd, "deps": deps, "outs": outs} for stage, (cmd, deps, outs) in stages.items()}
    (folder / "dvc.yaml").write_text(json.dumps({"stages": listed}))
    (folder / "params.yaml").write_text("{}")
    return folder


def done(folder):
    return [line.split()[0] for line in (folder / "done.txt").read_text().splitlines()]


@pytest.mark.slow
def test_the_graph_is_dvcs(monkeypatch):
    """Of the pipeline as shipped: every stage, what it waits for directly or by others, and its command."""

    def whole(needs):
        @cache
        def all_of(name):
            return set().union(*({other} | all_of(other) for other in needs[name]))

        return {name: all_of(name) for name in needs}

    monkeypatch.chdir(ROOT)
    dag = plain.Dag.of(ROOT)
    assert whole(dag.needs) == whole(repro.graph())
    assert dag.commands["um@control"] == "python -m stages um control"


def test_what_is_stopped_goes_on_and_what_fails_takes_along_what_needs_it(tmp_path, capsys):
    stages = {
        "first": ("touch a", [], ["a"]),
        "fails": ("ls nowhere", ["a"], ["b"]),
        "lost": ("touch c", ["b"], ["c"]),
        "other": ("touch d/e", ["a"], ["d/e"]),
        "last": ("touch f", ["d"], ["f"]),
    }
    folder = folder_of(tmp_path, "one", stages)
    (folder / "d").mkdir()
    assert plain.work([plain.Dag.of(folder)], jobs=2, limit=0) == 0
    assert "5 commands left" in capsys.readouterr().out
    assert plain.work([plain.Dag.of(folder)], jobs=2) == 1
    said = capsys.readouterr().out
    assert "fails failed (left out with it: lost)" in said
    assert "nowhere" in said, "what it printed"
    assert done(folder) == ["first", "other", "last"], "a folder that is read waits for a file in it"
    assert plain.Dag.of(folder).left == {"fails", "lost"}
    (folder / "nowhere").touch()
    assert plain.work([plain.Dag.of(folder)], jobs=2) == 0
    assert done(folder) == ["first", "other", "last", "fails", "lost"]


def test_what_runs_when_time_is_over_is_killed_and_left(tmp_path):
    folder = folder_of(tmp_path, "slow", {"sleeps": ("sleep 60", [], ["a"]), "waits": ("touch b", ["a"], ["b"])})
    dag, begin = plain.Dag.of(folder), time.monotonic()
    assert plain.work([dag], jobs=1, limit=0.3) == 0
    assert time.monotonic() - begin < 20
    assert dag.left == {"sleeps", "waits"}
    assert not (folder / "done.txt").exists()


def test_what_has_ended_when_time_is_over_is_done(tmp_path):
    folder = folder_of(tmp_path, "quick", {"ends": ("true", [], ["a"])})
    dag = plain.Dag.of(folder)
    assert plain.work([dag], jobs=1, limit=0.05) == 0, "it begins, ends within a tenth of a second, and time is over"
    assert dag.left == set()
    assert done(folder) == ["ends"]


def test_who_stops_it_stops_its_stages(tmp_path):
    folder = folder_of(tmp_path, "stopped", {"sleeps": ("sleep 61.5", [], ["a"])})
    command = [sys.executable, str(ROOT / "benchmarks/plain.py"), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while not (folder / "logs/sleeps.txt").exists():
            time.sleep(0.05)
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 143
    assert "sleep 61.5" not in subprocess.run(["ps", "-eo", "args"], stdout=subprocess.PIPE, text=True, check=True).stdout


def test_a_folder_that_was_begun_keeps_its_settings(tmp_path):
    made = workspaces.make(tmp_path / "one", {"seeds": [0]}, tmp_path)
    assert workspaces.make(made, {"seeds": [1]}, tmp_path) == made, "nothing was done yet"
    (made / "done.txt").write_text("check 1.0\n")
    workspaces.make(made, {"seeds": [1]}, tmp_path)
    with pytest.raises(SystemExit, match="holds a run with other settings"):
        workspaces.make(made, {"seeds": [0]}, tmp_path)
    assert json.loads((made / "params.yaml").read_text()) == {"seeds": [1]}


def test_first_comes_what_most_waits_for(tmp_path):
    one = folder_of(tmp_path, "one", {"short": ("touch a", [], ["a"])})
    two = folder_of(tmp_path, "two", {"lone": ("touch a", [], ["a"]), "long": ("touch b", [], ["b"]), "then": ("touch c", ["b"], ["c"])})
    order = []
    dags = [plain.Dag.of(one), plain.Dag.of(two)]
    for dag in dags:
        dag.start = lambda name, dag=dag, start=dag.start: (order.append(name), start(name))
    assert plain.work(dags, jobs=1) == 0
    assert order == ["long", "short", "lone", "then"]


@pytest.mark.slow
def test_a_network_that_is_given_goes_through_its_suite(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(warm_python() / "python"))
    (tmp_path / "data").mkdir()
    data = archives(tmp_path / "data")
    suite(monkeypatch, "make", "work", "--only", "given", "--data", data, "--seeds", 0, "--device", "cpu", "--miniature")
    folder = tmp_path / "work/given"
    part = plain.Dag.of(folder)
    part.left &= {"check", "prepare", "diffusion", "align", "proofs", "pretrain@base", "features@base"}
    assert plain.work([part], jobs=2) == 0
    before = (folder / "params.yaml").read_text()
    suite(monkeypatch, "gather", "work", "out")
    assert (folder / "params.yaml").read_text() == before
    with tarfile.open(tmp_path / "out/given.tar.gz") as archive:
        names = archive.getnames()
    assert "given/part/metrics/base.json" in names, "what came that far is evaluated"
    assert "given/part/metrics/control.json" not in names
    assert "given/logs/features@base.txt" in names


@pytest.mark.slow
def test_every_folder_passes_the_check(tmp_path, monkeypatch):
    """The settings of all suites hold together: nothing on a lent machine should fail of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(warm_python() / "python"))
    (tmp_path / "data").mkdir()
    data = archives(tmp_path / "data")
    for name in CLASSES:
        for i in range(2, 300):  # as many as calibration needs; their pixels aren't looked at
            (data / "cifar10/train" / name / f"{i}.png").write_bytes((data / "cifar10/train" / name / "0.png").read_bytes())
    own = ["--only", "doses", "small", "wrn", "--data", data, "--device", "cpu"]
    suite(monkeypatch, "make", "work", *own)
    suite(monkeypatch, "make", "few", *own, "--miniature")
    dags = [plain.Dag.of(path.parent) for path in sorted(tmp_path.glob("*/*/params.yaml"))]
    names = ["noisy-0", "noisy-10", "noisy-20", "noisy-confusable-20", "small", "wrn"]
    assert [dag.folder.name for dag in dags] == [*names, *names]
    for dag in dags:
        dag.left = {"check"}
    assert plain.work(dags, jobs=2) == 0


def test_the_authors_names_are_ours():
    ours = nets.build(Net(name="densenet_bc_100_12", affine=False), num_classes=10, size=32).state_dict()
    assert [gpu_suite.our_name(theirs(name)) for name in ours] == list(ours)
    assert gpu_suite.our_name("block3.layer.15.conv2.weight") == "backbone.blocks.49.conv2.weight"
    assert gpu_suite.our_name("trans1.conv1.weight") == "backbone.blocks.16.conv.weight"
