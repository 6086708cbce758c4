"""Files between stages, damaged in every way: named, or harmless. Never another result without a word.

Here each is read as the next stage reads it, inside this process; tests/test_handover.py sends some through real stages.
"""

import hashlib
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Workspace
from fuzzing import CASES, damaged, outcome

from ood.config import Params
from ood.config.training import Seeds
from ood.data import packed, sets
from ood.dream import alignment, dreamed, embeddings
from ood.evaluation import features
from ood.files import SUMS
from ood.handover import listed
from ood.nets import store
from ood.progress import Silent
from ood.tables import HISTORIES, last_mean
from ood.unmask.levels import estimate

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(trained: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace after a stage of every kind that hands files on; don't write into it."""
    workspace = trained.copy(tmp_path_factory.mktemp("whole"))
    for command in ("diffusion", "align", "embed outliers", "synthesize outliers", "judge outliers", "features ce"):
        workspace.stage(command)
    return workspace.path


def prepared() -> Iterator[object]:
    yield packed.info()
    yield {name: entry["count"] for name, entry in packed.manifest().items()}
    for role in ("auxiliary", "validation", "near", "far", "world"):
        yield packed.names(role)
    for name in packed.manifest():
        yield from (*packed.arrays(name), packed.item_names(name))
        yield sets.load(name).labels
        if name.startswith("world/"):
            yield packed.words(name)


def model(name: str) -> Iterator[object]:
    for seed in (0, 1):
        folder = store.MODELS / name / str(seed)
        for weights in ("model", *(f"epochs/{path.stem}" for path in listed(folder / "epochs", None))):
            net, spec = store.load(folder, weights)
            yield from (spec, *net.state_dict().values())


def aligned() -> Iterator[object]:
    yield from alignment.load()
    yield from alignment.load_model(torch.device("cpu")).state_dict().values()


def judged() -> Iterator[object]:
    found = dreamed.load("outliers")
    yield from (found.images, found.labels, found.confidence, found.own, found.mode, found.classes)


def cached() -> Iterator[object]:
    for seed in (0, 1):
        found = features.load("ce", seed)
        yield from (tensor for kinds in found.sets.values() for tensor in kinds.values())
        yield from (found.head.weight, found.head.bias, found.head.normalize)


def painted() -> Iterator[object]:
    images, rows, info = dreamed.painted("outliers")
    yield from (np.asarray(images), rows, info)


def drawn() -> Iterator[object]:
    found = embeddings.load("outliers")
    yield from (np.asarray(found.vectors), found.mode, found.disturbed)


READERS: dict[str, Callable[[], Iterator[object]]] = {
    "data/prepared": prepared,
    "data/models/ce": lambda: model("ce"),
    "data/models/um": lambda: model("um"),
    "data/mask/um": lambda: iter([estimate("um", seed, Silent()) for seed in Params()[Seeds].root]),
    "data/align": aligned,
    "data/embeddings/outliers": drawn,
    "data/painted/outliers": painted,
    "data/dreamed/outliers": judged,
    "data/features/ce": cached,
}


def digest(found: Iterator[object]) -> str:
    """A hash of all that a reader gives."""
    total = hashlib.sha256()
    for value in found:
        value = value.numpy() if isinstance(value, torch.Tensor) else value
        total.update(f"{value.dtype}{value.shape}".encode() + value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
    return total.hexdigest()


def test_sealed_files(whole: Path, monkeypatch):
    """A result, if there is one, is the right one."""
    monkeypatch.chdir(whole)
    right = {folder: digest(read()) for folder, read in READERS.items()}
    files = {folder: sorted(path for path in Path(folder).rglob("*") if path.is_file()) for folder in READERS}
    named = 0
    for number in range(CASES):
        rng = random.Random(number)
        folder = rng.choice(list(READERS))
        path = rng.choice(files[folder])
        before = path.read_bytes()
        after = damaged(before, rng)
        path.write_bytes(after)
        if rng.random() < 0.05:
            path.unlink()
        found, said = outcome(f"case {number}: {path}", lambda folder=folder: digest(READERS[folder]()))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(before)
        if said:
            named += 1
            assert path.name in said or str(path.parent) in said or path.name == SUMS, f"case {number}: {path} damaged, but it says {said}"
            assert len(said.splitlines()) == 1, f"case {number}: {said}"
        else:  # without its list of hashes a folder counts as somebody's own; the manifest has none, and is for the report
            assert found == right[folder] or path.name in (SUMS, "manifest.json"), f"case {number}: {path} read otherwise, without a word"
    assert named > CASES / 2


def test_figures(whole: Path, tmp_path, monkeypatch):
    """Tables and figures are git's and have no hashes: a whole one is taken as it is, everything else is named."""
    shutil.copytree(whole / "metrics", tmp_path / "metrics")
    monkeypatch.chdir(tmp_path)
    named = 0
    tables = sorted(Path(HISTORIES).glob("*.csv"))
    for number in range(CASES):
        rng = random.Random(number)
        path = rng.choice(tables)
        before = path.read_bytes()
        path.write_bytes(damaged(before, rng))
        value, said = outcome(f"case {number}: {path}", lambda path=path: last_mean(path.stem, "pretrain", "ce"))
        path.write_bytes(before)
        assert value is None or np.isfinite(value)
        if said:
            named += 1
            assert path.name in said, f"case {number}: {said}"
            assert len(said.splitlines()) == 1, f"case {number}: {said}"
    assert named > CASES / 10
