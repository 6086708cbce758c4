"""A Python that is warm already: stages run in forks of a process that has imported torch once.

Starting an interpreter and importing torch takes three seconds, and a DAG starts fifty: most of what tests of whole pipelines would wait
for. `python -m stages ...` in a folder whose PATH begins with `bin(...)` is a client that hands its arguments, folder, environment and
streams to this server; everything below, stages and library included, is imported anew in the fork, from that folder. Tests of kills, of
start-up and of several processes use the real interpreter.
"""

import array
import contextlib
import importlib
import json
import os
import signal
import socket
import stat
import sys
from pathlib import Path

LIBRARIES = (
    *("torch", "accelerate", "safetensors.torch", "matplotlib.pyplot", "pydantic", "ruamel.yaml", "typer", "psutil"),
    *("pytorch_ood.detector", "sklearn.metrics", "scipy.optimize", "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion"),
)

CLIENT = """#!{python} -SE
import json, os, socket, sys
if sys.argv[1:3] != ["-m", "stages"]:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
line = socket.socket(socket.AF_UNIX)
line.connect({address!r})
socket.send_fds(line, [b"!"], [0, 1, 2])
line.sendall(json.dumps([sys.argv[3:], os.getcwd(), dict(os.environ)]).encode() + b"\\n")
answer = line.recv(1)
sys.exit(answer[0] if answer else 137)
"""


def install(folder: Path, address: str) -> Path:
    """A folder with a `python` that asks the server at `address`; to be put first on the PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    client = folder / "python"
    client.write_text(CLIENT.format(python=sys.executable, address=address))
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
    sys.argv = ["stages", *arguments]
    if "WATCH_OPENED" in environment:  # <part of a path>:<log>: write down which stage opens such a file
        part, _, log = environment["WATCH_OPENED"].partition(":")
        sys.addaudithook(lambda event, given: _opened(event, given, part, log, arguments))
    code = 1
    try:
        import runpy

        runpy.run_module("stages", run_name="__main__", alter_sys=True)
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
