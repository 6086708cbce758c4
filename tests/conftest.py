"""Workspaces: a folder with the miniature parameters, in which stages run as a user would run them."""

import atexit
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
import warm
from ruamel.yaml import YAML

from ood.progress import Silent

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
DVC = str(Path(PYTHON).parent / "dvc")
LAUNCH = [str(Path(PYTHON).parent / "torchrun"), "--standalone", "--nproc_per_node", "2", "-m", "stages"]
CODE = (
    "ood",
    "stages",
    "recipes",
    "dvc.yaml",
    "requirements.lock",
    ".dvcignore",
    "images",
    ".gitignore",
)

PLAIN = {"init": "ce", "constraint": "none"}

# The whole pipeline in small: two seeds, two epochs, a handful of outliers, every stage and every kind of run.
MINIATURE = {
    "seeds": [0, 1],
    "runtime.threads": 1,
    "data.auxiliary.china.count": 60,
    "data.auxiliary.letters-stix.count": 63,
    "data.near.letters.count": 48,
    "data.far.flower.count": 40,
    "data.far.gaussian.count": 40,
    "data.far.rademacher.count": 40,
    "data.far.blobs.count": 40,
    "data.world.letters-world.count": 80,
    "data.world.symbols.count": 92,
    "net.name": "wrn_10_1",
    "diffusion.small.autoencoder": {"channels": [8, 16], "training": {"steps": 6, "batch_size": 8, "lr": 1e-3}},
    "diffusion.small.text": {"width": 32, "layers": 1, "heads": 4},
    "diffusion.small.unet": {"channels": [16, 32], "training": {"steps": 6, "batch_size": 8, "lr": 1e-3}},
    "diffusion.small.save_every": 2,
    "align.training.epochs": 2,
    "proofs.samples": 2,
    "embed.runs": {
        "outliers": {"count": 6, "cosine": 0.46, "candidates": 20},
        "inliers": {"mode": "inlier", "count": 6, "cosine": 0.96, "candidates": 20, "keep": 1},
        "others": {"method": "names", "count": 4, "names": ["sigma", "infinity"]},
    },
    "painting": {"sampler": "dpm", "steps": 2, "guidance": 2.0, "batch_size": 8},
    "synthesize.runs": {"outliers": {"embed": "outliers", "count": 6}, "inliers": {"embed": "inliers", "count": 5}},
    "pretrain.training.epochs": 3,
    "pretrain.runs.pixmix.strong": {"pixmix": {"pictures": 10}},
    "epochs": {"ce-2": {"run": "ce", "epoch": 2}},
    "trace.every": 1,
    "trace.runs": {"ce": "energy", "l2": "feature_norm"},
    "mask.masks": 2,
    "mask.runs": {"um": {"init": "ce", "epochs": 1}, "um-l2": {"init": "l2", "masks": 1}},
    "um.runs": {
        "um": {"init": "ce", "constraint": "um"},
        "control": PLAIN,
        "um-l2": {"init": "l2", "constraint": "um-l2", "epochs": 1},
        "selective": {"init": "ce", "constraint": "um", "forget": {"by": "early_doubt", "share": 0.1}, "epochs": 1},
        "middle": {"init": "ce-2", "constraint": "none", "epochs": 1},
    },
    "um.training.epochs": 2,
    "umap.training.epochs": 2,
    "oe.training.epochs": 2,
    "oe.runs": {
        "oe": PLAIN | {"outliers": "prepared/auxiliary", "objective": "uniform"},
        "oe-um": {"init": "ce", "constraint": "um", "outliers": "prepared/auxiliary", "objective": "uniform"},
        "oe-from-um": {"init": "um", "constraint": "um", "outliers": "prepared/auxiliary", "objective": "uniform", "epochs": 1},
        "energy": PLAIN | {"outliers": "prepared/auxiliary", "objective": "energy", "m_in": -9.0, "m_out": -4.0},
        "poem": PLAIN | {"outliers": "prepared/auxiliary", "objective": "energy", "m_in": -9.0, "m_out": -4.0, "mine": {"share": 0.5}},
        "doe": PLAIN | {"outliers": "prepared/auxiliary", "objective": "uniform", "perturb": {}},
        "oe-scratch": PLAIN | {"init": "scratch", "outliers": "prepared/auxiliary", "objective": "uniform", "epochs": 2},
        "no-outliers": PLAIN | {"outliers": "prepared/auxiliary", "objective": "none", "epochs": 1},
        "dream": PLAIN
        | {
            "outliers": "dreamed/outliers",
            "objective": "dream",
            "phi": "affine",
            "cut": 1.0,
            "epochs": 1,
            "outlier_batch": 64,
        },
        "dream-id": PLAIN | {"init": "scratch", "outliers": "dreamed/inliers", "objective": "label", "cut": 0.0, "outlier_batch": 16},
    },
    "models": dict.fromkeys(("um", "control", "umap", "dream", "ce-2"), "energy")
    | dict.fromkeys(("ce", "resnet", "oe-um", "dream-id", "aligned"), "msp")
    | {"l2": "feature_norm", "um-l2": "feature_norm"},
    "evaluate.bootstrap": 20,
    "report.pairs": {"l2": "resnet", "um": "control"},
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first, so that no worker has it left when the other is done."""
    order = ("test_pipeline", "runs_through_dvc[cifar10]", "imagenet100", "runs_through_dvc", "test_dream_stages", "test_training")
    items.sort(key=lambda item: next((i for i, name in enumerate(order) if name in item.nodeid), len(order)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """With several workers: the tests of a file stay on one, for they share what it costs minutes to make; recipes share nothing.

    xdist's own loadgroup doesn't see its groups under pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return nodeid if "runs_through_dvc" in nodeid else nodeid.split("::")[0]

    return ByFile(config, log)


@cache
def parse(text: str) -> dict:
    """YAML text as plain dictionaries."""
    return YAML(typ="safe").load(text)


@cache
def warm_python() -> Path:
    """A folder whose `python` runs stages in forks of a warm process (tests/warm.py), one for all tests of this worker."""
    folder = Path(tempfile.mkdtemp(prefix="warm-"))
    address = str(folder / "socket")
    server = subprocess.Popen([PYTHON, str(ROOT / "tests/warm.py"), address], stdout=subprocess.PIPE, text=True)
    atexit.register(lambda: (server.terminate(), shutil.rmtree(folder, ignore_errors=True)))
    assert server.stdout.readline() == "ready\n"
    return warm.install(folder / "bin", address)


class Stop(Exception):
    pass


class StopAfter(Silent):
    """Raises after so many steps: what a kill between two steps leaves behind."""

    def __init__(self, steps: int):
        self.left = steps

    def step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Stop


class Workspace:
    """A folder with params.yaml; `stage` runs a stage in it as a plain command."""

    def __init__(self, path: Path, changes: dict | None = None):
        self.path = path
        (path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
        self.set(MINIATURE | (changes or {}))
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("DVC", "OOD_"))}
        self.environment |= {"PYTHONPATH": str(ROOT), "PATH": f"{warm_python()}:{Path(PYTHON).parent}:{os.environ['PATH']}"}
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)

    @property
    def cold(self) -> dict[str, str]:
        """Its environment with the real interpreter on the PATH."""
        return self.environment | {"PATH": f"{Path(PYTHON).parent}:{os.environ['PATH']}"}

    def set(self, changes: dict) -> None:
        """Change params.yaml: dotted key -> value."""
        params = deepcopy(parse((self.path / "params.yaml").read_text()))
        for key, value in changes.items():
            *parents, last = key.split(".")
            section = params
            for parent in parents:
                section = section[parent]
            section[last] = value
        text = json.dumps(params, indent=1).replace("Infinity", ".inf")  # JSON is YAML, and quick to write
        (self.path / "params.yaml").write_text(text)

    def run(self, *command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess:
        """Run a command in the workspace; its output is in .stdout and .stderr."""
        result = subprocess.run(
            command, cwd=self.path, env=self.environment | environment, capture_output=True, text=True, check=False, timeout=1500
        )
        if check and result.returncode:
            raise AssertionError(f"{command} failed with {result.returncode}:\n{result.stdout}\n{result.stderr}")
        return result

    def stage(self, command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess:
        """`python -m stages COMMAND`."""
        return self.run("python", "-m", "stages", *command.split(), check=check, **environment)

    def start(self, command: str, output: int = subprocess.DEVNULL, **environment: str) -> warm.Forked:
        """A stage that is at work when this returns, to be killed or waited for."""
        with open(os.devnull, "r+b") as null:
            streams = [null.fileno()] + [null.fileno() if output == subprocess.DEVNULL else output] * 2
            arguments = ["-m", "stages", *command.split()]
            return warm.Forked(str(warm_python().parent / "socket"), arguments, str(self.path), self.environment | environment, streams)

    def together(self, command: str, processes: int = 2) -> str:
        """A stage in several processes, as torchrun starts them: each is told its rank. What they said."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
        with tempfile.TemporaryFile("w+") as said:
            ranks = [
                self.start(command, said.fileno(), RANK=str(rank), LOCAL_RANK=str(rank), OMP_NUM_THREADS="1", **shared)
                for rank in range(processes)
            ]
            codes = [rank.wait() for rank in ranks]
            said.seek(0)
            text = said.read()
        assert codes == [0] * processes, text
        return text

    def hashes(self, folder: str) -> dict[str, str]:
        """Content hash of every file below a folder."""
        files = sorted(p for p in (self.path / folder).rglob("*") if p.is_file())
        return {p.relative_to(self.path).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}

    def copy(self, path: Path) -> "Workspace":
        """The same workspace with everything in it, elsewhere, but for seeds that a run keeps: a test trains what it says it trains."""
        shutil.copytree(self.path, path, dirs_exist_ok=True, symlinks=True)
        shutil.rmtree(path / ".scratch/seeds", ignore_errors=True)
        twin = object.__new__(Workspace)
        twin.path, twin.environment = path, self.environment
        return twin


def refusal(path: Path, settings: dict, changes: dict) -> str:
    """What `check` says of settings with changes that it has to refuse."""
    workspace = Workspace(path, settings)
    workspace.set(changes)
    result = workspace.stage("check", check=False)
    assert result.returncode == 1, result.stdout
    assert "Traceback" not in result.stderr
    return result.stderr


def dying_at(call: int, work: Callable[[], object]) -> int:
    """Work in a forked process that vanishes at its n-th call that changes the disk (0: at none). Returns the exit status."""
    pid = os.fork()
    if pid == 0:
        left = call

        def dying(function: Callable) -> Callable:
            def one(*arguments: object, **keywords: object) -> object:
                nonlocal left
                left -= 1
                if left == 0:
                    os._exit(9)
                return function(*arguments, **keywords)

            return one

        for name in ("rename", "replace", "link", "unlink", "rmdir", "mkdir"):
            setattr(os, name, dying(getattr(os, name)))
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Project(Workspace):
    """A workspace that is a git and DVC repository with a copy of the code, as a clone would be."""

    def __init__(self, path: Path, changes: dict | None = None):
        super().__init__(path, changes)
        self.environment["PYTHONPATH"] = "."
        for name in CODE:
            self.run("cp", "-r", str(ROOT / name), name)
        self.run("bash", "-c", "find . -name __pycache__ -prune -exec rm -rf {} +")
        (path / "data").mkdir()
        for folder in ("metrics/mask", "metrics/trace", "metrics/epoch", "data/dreamed", "data/embeddings"):
            (path / folder).mkdir(parents=True, exist_ok=True)
            self.run("cp", str(ROOT / folder / ".gitkeep"), f"{folder}/.gitkeep")
        self.run("cp", str(ROOT / "data/.gitignore"), "data/.gitignore")
        self.run("git", "init", "-q", ".")
        self.run("git", "config", "user.email", "test@example.org")
        self.run("git", "config", "user.name", "Test")
        self.run(DVC, "init", "-q")
        self.run("cp", "-r", str(ROOT / ".dvc/plots"), str(ROOT / ".dvc/config"), ".dvc")  # else every DVC command starts daemons

    def repro(self, *arguments: str, check: bool = True) -> tuple[set[str], subprocess.CompletedProcess]:
        """`dvc repro`; returns the stages that really ran."""
        result = self.run(DVC, "repro", *arguments, check=check)
        ran = {line.split("'")[1] for line in result.stdout.splitlines() if line.startswith("Running stage")}
        return ran, result

    def commit(self) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", "state")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace after `prepare`; don't write into it, copy it."""
    workspace = Workspace(tmp_path_factory.mktemp("prepared"))
    workspace.stage("prepare")
    return workspace


@pytest.fixture(scope="session")
def trained(prepared: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace after prepare, pretrain ce, mask and um; don't write into it, copy it."""
    workspace = prepared.copy(tmp_path_factory.mktemp("trained"))
    for command in ("pretrain ce", "mask um", "um um"):
        workspace.stage(command)
    return workspace
