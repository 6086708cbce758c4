"""What a person at a terminal sees: a bar, and the cursor back afterwards, also when a stage ends in an error."""

import errno
import os
import pty
import sys

import pytest
from conftest import Workspace

import stages.__main__ as stages_main

HIDE, SHOW = b"\x1b[?25l", b"\x1b[?25h"


def on_a_terminal(workspace: Workspace, command: str) -> tuple[int, bytes]:
    """Exit status and everything that a stage wrote to a real pseudo-terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(workspace.path)
        os.execve(sys.executable, [sys.executable, "-m", "stages", *command.split()], workspace.environment | {"TERM": "xterm"})
    written = b""
    while True:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:  # Linux says so when the other end is closed
            break
        if not chunk:
            break
        written += chunk
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), written


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "status", "words"), [(0.1, 0, [b"6/6"]), (1e3, 1, [b"Lower the learning rate"])])
def test_the_cursor_comes_back(prepared: Workspace, tmp_path, rate, status, words):
    workspace = prepared.copy(tmp_path)
    workspace.set({"pretrain.training.lr": rate})
    found, written = on_a_terminal(workspace, "pretrain ce")
    assert found == status
    assert written.count(HIDE) == written.count(SHOW) == 1
    assert all(word in written for word in words)
    assert b"Traceback" not in written


def test_an_end_of_a_file_is_not_taken_for_the_end_of_input(monkeypatch, tmp_path):
    """click says "Aborted." of an EOFError, and nothing else."""
    monkeypatch.setattr("stages.check.main", lambda: (_ for _ in ()).throw(EOFError))
    monkeypatch.setattr(sys, "argv", ["stages", "check"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(RuntimeError, match="a file ends too early"):
        stages_main.main()


def test_what_the_machine_refuses_is_one_line(monkeypatch, capsys):
    for error, words in (
        (MemoryError(), "error: not enough memory (no more is free). Lower batch_size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes."), "can't allocate memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "CUDA out of memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "can't be written (No space left on device)"),
        (PermissionError(errno.EACCES, "Permission denied", "metrics/x.json"), "metrics/x.json: can't be written (Permission denied)"),
    ):

        def fail(error: Exception = error) -> None:
            raise error

        monkeypatch.setattr("stages.check.main", fail)
        monkeypatch.setattr(sys, "argv", ["stages", "check"])
        with pytest.raises(SystemExit):
            stages_main.main()
        said = capsys.readouterr().err
        assert words in said, said
        assert len(said.strip().splitlines()) == 1
    monkeypatch.setattr("stages.check.main", lambda: (_ for _ in ()).throw(RuntimeError("shapes differ")))
    monkeypatch.setattr(sys, "argv", ["stages", "check"])
    with pytest.raises(RuntimeError, match="shapes differ"):
        stages_main.main()
