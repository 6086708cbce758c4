"""What a person at a terminal sees: a bar, and the cursor back afterwards, also when a stage ends in an error."""

import os
import pty
import sys

import pytest
from conftest import Workspace

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
@pytest.mark.parametrize(("rate", "status", "words"), [(0.1, 0, [b"6/6"]), (1e12, 1, [b"Lower the learning rate"])])
def test_the_cursor_comes_back(prepared: Workspace, tmp_path, rate, status, words):
    workspace = prepared.copy(tmp_path)
    workspace.set({"pretrain.training.lr": rate})
    found, written = on_a_terminal(workspace, "pretrain ce")
    assert found == status
    assert written.count(HIDE) == written.count(SHOW) == 1
    assert all(word in written for word in words)
    assert b"Traceback" not in written
