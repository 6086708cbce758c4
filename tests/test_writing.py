"""Disks that take no more, folders that take nothing: one line that names the path, and nothing lost."""

import errno
import os
import resource
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Workspace
from safetensors.torch import save_file

from ood import files
from ood.errors import InputError
from ood.files import atomically, published, replace_with, write_rows, write_sealed, write_text
from ood.refusals import must_take


@pytest.fixture
def limit():
    """Files of this process can't grow beyond a size within the test."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


WRITERS = {
    "bytes": lambda path: path.write_bytes(bytes(100_000)),
    "numpy": lambda path: np.save(path.open("wb"), np.zeros(100_000)),
    "torch": lambda path: torch.save(torch.zeros(100_000), path),
    "safetensors": lambda path: save_file({"a": torch.zeros(100_000)}, path),
    "rows": lambda path: write_rows(path, iter(np.zeros((10, 10_000))), (10, 10_000), np.float64),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_whoever_writes_too_much_is_one_line(tmp_path, limit, writer):
    """NumPy, torch and safetensors each have their own words for a disk that takes no more."""
    path = tmp_path / "out"
    path.write_text("old")
    limit(10_000)
    with pytest.raises(InputError, match=rf"^{path}: can't be written .* stays\. .*; then the same command goes on\.$"):
        atomically(path, WRITERS[writer])
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["out"]


def test_what_belongs_together_is_published_together(tmp_path, limit):
    folder, table = tmp_path / "data/out", tmp_path / "metrics/out.json"
    for content in ("old", "new"):
        with published(table, folder=folder) as (fresh, figures):
            write_text(fresh / "a", content)
            write_text(figures, content)
    assert [(folder / "a").read_text(), table.read_text()] == ["new", "new"]
    limit(10_000)
    with pytest.raises(InputError, match="can't be written"), published(table, folder=folder) as fresh:
        write_text(fresh[1], "x" * 100_000)
    assert [(folder / "a").read_text(), table.read_text()] == ["new", "new"]
    assert [*os.listdir(tmp_path / "data"), *os.listdir(tmp_path / "metrics")] == ["out", "out.json"]


def test_a_failed_publication_leaves_nothing_beside(tmp_path, monkeypatch):
    source = tmp_path / "made"
    source.mkdir()
    (source / "a").write_text("new")
    target = tmp_path / "out"
    target.mkdir()
    (target / "a").write_text("old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for broken in ("seal", "_to_disk", "link_or_copy"):
        with monkeypatch.context() as patch:
            patch.setattr(files, broken, full)
            with pytest.raises(InputError, match=r"out: can't be written \(No space left on device\)\..*Make room"):
                replace_with(source, target)
        assert sorted(os.listdir(tmp_path)) == ["made", "out"]
        assert (target / "a").read_text() == "old"


def test_where_the_second_rename_fails_the_old_folder_comes_back(tmp_path, monkeypatch):
    target = tmp_path / "out"
    with published(folder=target) as (fresh,):
        write_text(fresh / "a", "old")
    whole = os.replace

    def failing(source: Path, to: Path) -> None:
        if str(source).endswith(".new"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        whole(source, to)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(InputError, match="Have a look at the disk"), published(folder=target) as (fresh,):
        (fresh / "a").write_text("new")
    assert (target / "a").read_text() == "old"
    assert os.listdir(tmp_path) == ["out"]


def test_an_error_of_something_else_stays_what_it_is(tmp_path):
    with pytest.raises(FileNotFoundError), published(folder=tmp_path / "out"):
        (tmp_path / "nothing").read_text()
    with pytest.raises(PermissionError), published(folder=tmp_path / "out"):
        raise PermissionError(errno.EACCES, "Permission denied", "/elsewhere/input")
    with pytest.raises(RuntimeError, match="shapes"), published(folder=tmp_path / "out"):
        raise RuntimeError("shapes differ")
    assert os.listdir(tmp_path) == []


def test_a_folder_that_takes_no_files_is_found_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # as on a disk that is mounted for reading, or another's folder
    with pytest.raises(InputError, match=r"out: can't be written \(Permission denied\).*Make the folder writable"):
        must_take([tmp_path / "out"])
    done = []
    with pytest.raises(InputError, match="can't be written"), published(folder=tmp_path / "out"):
        done.append("work")
    assert done == []


def test_rows_make_the_file_that_numpy_would(tmp_path):
    for array in (np.arange(24, dtype=np.uint8).reshape(4, 3, 2), np.linspace(0, 1, 12, dtype=np.float32).reshape(6, 2)):
        np.save(tmp_path / "whole.npy", array)
        write_rows(tmp_path / "rows.npy", (array[i : i + 2] for i in range(0, len(array), 2)), array.shape, array.dtype)
        assert (tmp_path / "rows.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_what_is_renamed_into_its_place_is_on_the_disk(tmp_path, monkeypatch):
    """After a power cut a name without content would stand where the finished work was."""
    events = []
    whole, sync = os.replace, os.fsync
    monkeypatch.setattr(os, "replace", lambda source, to: (events.append(f"rename {Path(to).name}"), whole(source, to)))
    monkeypatch.setattr(
        os, "fsync", lambda stream: (events.append(f"sync {Path(os.readlink(f'/proc/self/fd/{stream}')).name}"), sync(stream))
    )
    write_sealed(tmp_path / "checkpoint.pt", b"x")
    assert [event for event in events if "checkpoint" in event] == [f"sync .checkpoint.pt.{os.getpid()}.tmp", "rename checkpoint.pt"]
    assert events[-1] == f"sync {tmp_path.name}", "the new name itself"
    (tmp_path / "made").mkdir()
    (tmp_path / "made/a").write_text("x")
    events.clear()
    replace_with(tmp_path / "made", tmp_path / "out")
    assert events.index("sync a") < events.index("rename out") < len(events) - 1
    assert events[-1] == f"sync {tmp_path.name}"


# --- stages


def failing(workspace: Workspace, command: str, size: int) -> subprocess.CompletedProcess:
    """A stage whose files can't grow beyond `size` bytes."""
    return workspace.stage(command, check=False, LIMIT=str(size))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "size", "outputs"),
    [
        ("prepare", 20_000, ("data/prepared", "metrics")),
        ("pretrain ce", 100_000, ("data/models/ce", "metrics/training")),
        ("pretrain ce", 1_000, ("data/models/ce", "metrics/training")),
        ("mask um", 500, ("data/mask/um", "metrics/mask")),
        ("mask um", 30_000, ("data/mask/um", "metrics")),
        ("um um", 100_000, ("data/models/um", "metrics/training")),
    ],
)
def test_a_stage_that_can_t_write_says_so_in_a_line_and_goes_on_afterwards(trained: Workspace, tmp_path, command, size, outputs):
    workspace = trained.copy(tmp_path)
    before = {name: workspace.hashes(name) for name in outputs}
    result = failing(workspace, command, size)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "can't be written (File too large)" in lines[0] or "can't be written (the disk didn't take all of it)" in lines[0], lines
    assert {name: workspace.hashes(name) for name in outputs} == before
    assert not [path for path in (tmp_path / "data").rglob(".*") if path.name.endswith((".new", ".old", ".tmp"))]
    workspace.stage(command)
    assert {name: workspace.hashes(name) for name in outputs} == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "place"),
    [
        ("pretrain ce", "metrics/training"),
        ("mask um", "metrics/pictures"),
        ("trace ce", "metrics/trace"),
        ("epoch best", "metrics/epoch"),
        ("features ce", "data/features"),
    ],
)
def test_a_place_that_can_hold_no_files_is_found_before_the_work(trained: Workspace, tmp_path, command, place):
    workspace = trained.copy(tmp_path)
    workspace.run("rm", "-rf", place)
    workspace.set({"epochs.best": {"run": "ce", "by": "energy"}})
    (workspace.path / place).write_text("in the way")
    result = workspace.stage(command, check=False)
    assert result.returncode == 1
    assert result.stderr.strip().startswith(f"error: {place}/"), result.stderr
    assert "can't be written" in result.stderr
    assert "epoch 1" not in result.stdout
    assert not list((workspace.path / ".scratch").rglob("checkpoint.pt"))
