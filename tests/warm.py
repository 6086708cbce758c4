"""A Python that is warm already: stages run in forks of a process that has imported torch once.

Starting an interpreter and importing torch takes three seconds, and a DAG starts fifty: most of what tests of whole pipelines would wait
for. `python -m stages ...` and `python -c ...` in a folder whose PATH begins with `bin(...)` is a client that hands its arguments, folder,
environment and streams to this server; everything below, stages and library included, is imported anew in the fork, from that folder. A
fork is a process of its own: SIGKILL ends it as it would one that was started cold. Tests of start-up, of DVC's own processes and of
torchrun's use the real interpreter.
"""

import array
import contextlib
import importlib
import json
import os
import resource
import select
import signal
import socket
import stat
import sys
import time
from pathlib import Path

LIBRARIES = (
    *("torch", "accelerate", "safetensors.torch", "matplotlib.pyplot", "pydantic", "ruamel.yaml", "typer", "psutil"),
    *("pytorch_ood.detector", "sklearn.metrics", "scipy.optimize", "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion"),
)

CLIENT = """#!{python} -SE
import os, sys
if sys.argv[1:3] != ["-m", "stages"] and sys.argv[1:2] != ["-c"]:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
sys.path.insert(0, {here!r})
from warm import Forked
code = Forked({address!r}, sys.argv[1:], os.getcwd(), dict(os.environ), [0, 1, 2]).wait()
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


class Forked:
    """`python ARGUMENTS` in a fork of the server's; is waited for and killed like a Popen, and like there `pid` is what really works."""

    def __init__(self, address: str, arguments: list[str], folder: str, environment: dict[str, str], streams: list[int]):
        self.line, self.returncode = socket.socket(socket.AF_UNIX), None
        self.line.connect(address)
        socket.send_fds(self.line, [b"!"], streams)
        self.line.sendall(json.dumps([arguments, folder, environment]).encode() + b"\n")
        self.pid = int.from_bytes(self.line.recv(4, socket.MSG_WAITALL), "big")

    def poll(self) -> int | None:
        """Its exit status; None while it is at work."""
        if self.returncode is None and select.select([self.line], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self) -> int:
        """Its exit status, when nothing of it is left; without an answer it was killed."""
        if self.returncode is None:
            answer = self.line.recv(1)
            self.line.close()
            with contextlib.suppress(ProcessLookupError):
                while True:  # the server reaps it
                    os.kill(self.pid, 0)
                    time.sleep(0.001)
            self.returncode = answer[0] if answer else -signal.SIGKILL
        return self.returncode

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def install(folder: Path, address: str) -> Path:
    """A folder with a `python` that asks the server at `address`; to be put first on the PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    client = folder / "python"
    client.write_text(CLIENT.format(python=sys.executable, here=str(Path(__file__).parent), address=address))
    client.chmod(client.stat().st_mode | stat.S_IXUSR)
    return folder


def serve(address: str) -> None:
    """Import what all stages import, then fork for every caller."""
    for name in LIBRARIES:
        importlib.import_module(name)
    server = socket.socket(socket.AF_UNIX)
    server.bind(address)
    server.listen()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    while True:
        line, _ = server.accept()
        if os.fork() == 0:
            server.close()
            _run(line)
        line.close()


def _opened(event: str, given: tuple, part: str, log: str, arguments: list[str]) -> None:
    if event == "open" and part in str(given[0]) and log not in str(given[0]):
        with open(log, "a") as stream:
            stream.write(f"{' '.join(arguments)}\n")


def _run(line: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, streams, _, _ = socket.recv_fds(line, 1, 3)
    text = b""
    while not text.endswith(b"\n"):
        text += line.recv(65536)
    line.sendall(os.getpid().to_bytes(4, "big"))
    arguments, folder, environment = json.loads(text)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    places = [str(Path(folder, p).resolve()) for p in environment.get("PYTHONPATH", "").split(":") if p]
    sys.path[:] = [folder, *places, *(p for p in sys.path if p not in (str(Path(__file__).parent), folder, *places))]
    module, what, *arguments = arguments
    sys.argv = ["stages" if module == "-m" else "-c", *arguments]
    if "LIMIT" in environment:  # no file of it grows beyond so many bytes; a cut module would stay where others read it
        sys.dont_write_bytecode = True
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(environment["LIMIT"]),) * 2)
    if "WATCH_OPENED" in environment:  # <part of a path>:<log>: write down which stage opens such a file
        part, _, log = environment["WATCH_OPENED"].partition(":")
        sys.addaudithook(lambda event, given: _opened(event, given, part, log, arguments))
    code = 1
    try:
        import runpy

        if module == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        line.sendall(array.array("B", [code & 255]).tobytes())
        os._exit(code & 255)


if __name__ == "__main__":
    serve(sys.argv[1])
