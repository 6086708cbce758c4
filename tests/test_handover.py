"""What passes between stages, and between a stopped process and the next: whole and as it was written, or named."""

import io
import json
import multiprocessing
import os
import pickle
import subprocess
import time

import numpy as np
import pytest
import torch
from conftest import PYTHON, Workspace

from ood import handover
from ood.data.sources import arrays
from ood.errors import InputError
from ood.files import SUMS, in_place_of, read_sealed, replace_with, seal, set_aside, write_sealed
from ood.progress import Silent
from ood.training.checkpoint import state_from


def flip(path, place=0.5):
    """Change one bit of a file, not of another name of its."""
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    path.unlink()
    path.write_bytes(content)


# --- sealed folders and files


def test_a_sealed_folder_tells_of_every_changed_bit(tmp_path):
    with in_place_of(tmp_path / "out") as folder:
        (folder / "deep").mkdir()
        np.save(folder / "deep/x.npy", np.arange(500))
        (folder / "y.json").write_text('{"a": 1}')
    array, figures = tmp_path / "out/deep/x.npy", tmp_path / "out/y.json"
    assert handover.read_array(array, "mask um").sum() == 124750
    assert handover.read_figures(figures, "mask um", ("a",)) == {"a": 1}
    for path, read in ((array, handover.read_array), (figures, handover.read_figures)):
        whole = path.read_bytes()
        for place in (0, 0.5, 1):
            flip(path, place)
            with pytest.raises(InputError, match=rf"{path.name}: is not what was written there.*python -m stages mask um"):
                read(path, "mask um")
            path.write_bytes(whole)
        read(path, "mask um")
        path.write_bytes(whole[:-3])
        with pytest.raises(InputError, match="is not what was written"):
            read(path, "mask um")
        path.write_bytes(whole)
    (tmp_path / "out" / SUMS).write_text("{")
    with pytest.raises(InputError, match=rf"{SUMS}: damaged"):
        handover.read_figures(figures, "mask um")
    with pytest.raises(InputError, match=r"z\.json: not there\. Run `python -m stages mask um` first"):
        handover.read_figures(tmp_path / "out/z.json", "mask um")


def test_a_folder_without_hashes_is_somebodys_own(tmp_path):
    (tmp_path / "x.json").write_text("[1]")
    assert handover.read_json(tmp_path / "x.json", None, list[int]) == [1]


@pytest.mark.parametrize(
    "content",
    ["", "{", "[1]", "null", '{"b": 1}', '{"a": "1"}', '{"a": {}}', '{"a": null}', '{"a": [1]}', "\x00\x01", "9" * 5000, "[" * 100_000],
)
def test_figures_that_are_none_are_named(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(InputError, match=r"x\.json: .*run `python -m stages trace ce` again"):
        handover.read_figures(tmp_path / "x.json", "trace ce", ("a",))


@pytest.mark.parametrize(
    "content", ["", "seed,ce\n0,x\n", "seed,ce\n0,nan\n", "seed,epoch\n0\n", "seed,epoch\n0,1,2\n", "other\n1\n", "\x00", 'seed,ce\n"0,1\n']
)
def test_tables_that_are_none_are_named(tmp_path, content):
    (tmp_path / "x.csv").write_text(content)
    with pytest.raises(InputError, match=r"x\.csv: .*run `python -m stages um um` again"):
        handover.read_numbers(tmp_path / "x.csv", "um um", ("seed", "ce"))


@pytest.mark.parametrize("content", [b"", b"x", b"\x93NUMPY", b"PK\x03\x04"])
def test_arrays_and_tensors_that_are_none_are_named(tmp_path, content):
    for name, read in (("x.npy", handover.read_array), ("x.safetensors", handover.read_tensors)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=rf"{name}: can't be read"):
            read(tmp_path / name, "features ce")


def test_a_sealed_file_is_whole_or_nothing(tmp_path):
    path = tmp_path / "checkpoint.pt"
    write_sealed(path, bytes(range(256)))
    assert read_sealed(path) == bytes(range(256))
    whole = path.read_bytes()
    for damaged in (b"", whole[:-1], whole[:70], whole[:40], whole + b"x", b"another file"):
        path.write_bytes(damaged)
        assert read_sealed(path) is None
    assert set_aside(path).name == "checkpoint.pt.damaged"
    assert not path.exists()


# --- several at once


def publish(folder, number, times):
    for _ in range(times):
        with in_place_of(folder / "out") as fresh:
            for i in range(5):
                (fresh / f"{i}.txt").write_text(str(number))
        (folder / f"file-{number}").write_text(str(number))
        replace_with(folder / f"file-{number}", folder / "file")


def test_of_several_writers_of_one_folder_the_last_whole_one_stays(tmp_path):
    """Two copies of a stage took each other's files away, and both said that all was well."""
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=publish, args=(tmp_path, number, 60)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 4
    content = {(tmp_path / "out" / f"{i}.txt").read_text() for i in range(5)}
    assert len(content) == 1
    assert handover.checked_folder(tmp_path / "out", None)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_what_a_killed_writer_left_is_taken_away(tmp_path):
    gone = subprocess.Popen([PYTHON, "-c", ""])
    gone.wait()
    for left in (f".out.{gone.pid}.new", f".out.{gone.pid}.old"):
        (tmp_path / left).mkdir()
    (tmp_path / f".out.{os.getppid()}.new").mkdir()  # of one that lives
    with in_place_of(tmp_path / "out"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"out", f".out.{os.getppid()}.new"}


@pytest.mark.slow
def test_two_copies_of_a_stage_leave_whole_outputs(trained: Workspace, tmp_path):
    workspace = trained.copy(tmp_path)
    command = ["python", "-m", "stages", "mask", "um"]
    copies = [subprocess.Popen(command, cwd=tmp_path, env=workspace.environment, stdout=subprocess.DEVNULL) for _ in range(3)]
    assert [copy.wait() for copy in copies] == [0] * 3
    assert workspace.hashes("data/mask/um") == trained.hashes("data/mask/um")
    assert handover.checked_folder(tmp_path / "data/mask/um", None)


# --- damage that a stage finds


DAMAGED = [
    ("mask um", "data/models/ce/0/model.safetensors"),
    ("mask um", "data/models/ce/1/model.json"),
    ("mask um", "data/prepared/id/train.npy"),
    ("um um", "data/mask/um/1.json"),
    ("um um", "data/prepared/id/train.labels.npy"),
    ("trace ce", "data/models/ce/0/epochs/002.safetensors"),
    ("trace ce", "data/prepared/test/far/blobs.npy"),
    ("epoch ce-2", "data/models/ce/1/epochs/002.safetensors"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("command", "file"), DAMAGED)
def test_a_flipped_bit_between_stages_is_found(trained: Workspace, tmp_path, command, file):
    workspace = trained.copy(tmp_path)
    flip(workspace.path / file)
    before = workspace.hashes("data")
    result = workspace.stage(command, check=False)
    assert result.returncode == 1
    assert f"{file}: is not what was written there" in result.stderr
    assert "Traceback" not in result.stderr
    assert workspace.hashes("data") == before


# --- damage that the next process finds


def stopped(workspace: Workspace, command: str, condition) -> None:
    """Start a stage and kill it as soon as the condition holds."""
    process = workspace.start(command)
    deadline = time.monotonic() + 60
    while not condition() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def halfway(prepared: Workspace, tmp_path_factory) -> tuple[Workspace, Workspace]:
    """A training that was killed in its second seed, and the same one undisturbed; don't write into them, copy them."""
    workspace = prepared.copy(tmp_path_factory.mktemp("halfway"))
    workspace.set({"pretrain.training.epochs": 12})
    whole = workspace.copy(tmp_path_factory.mktemp("whole"))
    whole.stage("pretrain ce")
    scratch = workspace.path / ".scratch"
    stopped(workspace, "pretrain ce", lambda: list(scratch.rglob("finished.json")))
    stopped(workspace, "pretrain ce", lambda: list(scratch.rglob("1/epochs/003.safetensors")))
    assert not (workspace.path / "data/models/ce").exists()
    return workspace, whole


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["empty", "cut", "foreign", "flipped", "epoch", "finished"])
def test_a_damaged_resume_file_is_set_aside_and_training_ends_as_if_undisturbed(halfway, tmp_path, damage):
    """It blocked every rerun, or ended in other bytes without a word."""
    workspace, whole = halfway[0].copy(tmp_path / "one"), halfway[1]
    scratch = workspace.path / ".scratch"
    (checkpoint,) = scratch.rglob("1/checkpoint.pt")
    match damage:
        case "empty":
            checkpoint.write_bytes(b"")
        case "cut":
            checkpoint.write_bytes(checkpoint.read_bytes()[:-50])
        case "foreign":
            checkpoint.write_bytes(b"PK\x03\x04 something else")
        case "flipped":
            flip(checkpoint)
        case "epoch":
            flip(next(scratch.rglob("1/epochs/001.safetensors")))
        case "finished":
            next(scratch.rglob("0/finished.json")).write_text("[")
    said = workspace.stage("pretrain ce").stdout
    assert "damaged" in said
    assert "set aside as" in said
    assert workspace.hashes("data/models/ce") == whole.hashes("data/models/ce")
    assert workspace.hashes("metrics/training") == whole.hashes("metrics/training")


def test_seal_lists_every_file_but_itself(tmp_path):
    (tmp_path / "a").write_text("x")
    seal(tmp_path)
    seal(tmp_path)
    assert list(json.loads((tmp_path / SUMS).read_text())) == ["a"]


class Planted:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (str(self.mark),))


def test_a_planted_pickle_never_runs(tmp_path):
    mark = tmp_path / "ran"
    stream = io.BytesIO()
    torch.save({"module": Planted(mark)}, stream)
    write_sealed(tmp_path / "checkpoint.pt", stream.getvalue())
    with pytest.raises(pickle.UnpicklingError):
        state_from(tmp_path / "checkpoint.pt", Silent())
    np.save(tmp_path / "x.npy", np.array([Planted(mark)], object), allow_pickle=True)
    (tmp_path / "x.safetensors").write_bytes(pickle.dumps(Planted(mark)))
    for name, read in (("x.npy", handover.read_array), ("x.safetensors", handover.read_tensors)):
        with pytest.raises(InputError, match=f"{name}: can't be read"):
            read(tmp_path / name, None)
    with pytest.raises(InputError, match=r"x\.npy: not a NumPy file"):
        arrays.check(tmp_path / "x.npy")
    assert not mark.exists()
    pickle.loads(pickle.dumps(Planted(mark)))
    assert mark.exists(), "else the test shows nothing"
