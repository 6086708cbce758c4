"""Two machines, as far as one can play them: network namespaces of their own, joined by a cable, with a file system that both see.

    sudo python benchmarks/two_machines.py       Linux, root, iproute2; about five minutes on two cores

Plain stages on the embedded digits in miniature, in double precision: `pretrain`, `oe` and `synthesize` by one process; by torchrun on both
machines, with a rendezvous between them; and `pretrain` with one machine killed (SIGKILL to everything on it) and both started again.
It says whether the results are the same: up to rounding against one process, to the bit against the two machines that nobody killed.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from ruamel.yaml import YAML
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
CABLE = {"one": ("cable-one", "10.77.0.1"), "two": ("cable-two", "10.77.0.2")}
COMMANDS = ("pretrain ce", "oe oe", "synthesize outliers")
BEFORE = ("check", "prepare", "diffusion", "align", "embed outliers")


def sh(command: str) -> None:
    subprocess.run(command.split(), check=True)


def plug_in() -> None:
    """Two namespaces and a pair of interfaces between them."""
    (one, one_ip), (two, two_ip) = CABLE["one"], CABLE["two"]
    sh(f"ip link add {one} type veth peer name {two}")
    for name, interface, ip in (("one", one, one_ip), ("two", two, two_ip)):
        sh(f"ip netns add {name}")
        sh(f"ip link set {interface} netns {name}")
        sh(f"ip -n {name} addr add {ip}/24 dev {interface}")
        sh(f"ip -n {name} link set {interface} up")
        sh(f"ip -n {name} link set lo up")


def unplug() -> None:
    for name in CABLE:
        subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)


def environment(**more: str) -> dict[str, str]:
    known = {key: value for key, value in os.environ.items() if not key.startswith(("DVC", "OOD_", "RANK", "WORLD", "MASTER"))}
    return known | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": f"{BIN}:{os.environ['PATH']}"} | more


def start(machine: str, workspace: Path, command: str, port: int) -> subprocess.Popen:
    """Torchrun on a machine: one process there, two in all. Gloo must be told which interface leads to the others."""
    interface, _ = CABLE[machine]
    launch = f"ip netns exec {machine} torchrun --nnodes 2 --nproc_per_node 1 --node_rank {list(CABLE).index(machine)}"
    launch += f" --master_addr {CABLE['one'][1]} --master_port {port} -m stages {command}"
    said = (workspace / f"{machine}.log").open("a")
    return subprocess.Popen(
        launch.split(), cwd=workspace, env=environment(GLOO_SOCKET_IFNAME=interface), stdout=said, stderr=said, start_new_session=True
    )


def together(workspace: Path, command: str, port: int) -> None:
    machines = [start(machine, workspace, command, port) for machine in CABLE]
    codes = [machine.wait() for machine in machines]
    if any(codes):
        raise SystemExit(f"{command}: {codes}\n" + "\n".join((workspace / f"{machine}.log").read_text()[-3000:] for machine in CABLE))


def alone(workspace: Path, command: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "stages", *command.split()], cwd=workspace, env=environment(), check=True, stdout=subprocess.DEVNULL
    )


def parameters() -> dict:
    """The shipped ones: few steps, double precision, everything that draws at random on."""
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["seeds"], params["runtime"] = [0], params["runtime"] | {"precision": "fp64", "device": "cpu", "threads": 1}
    params["net"]["dropout"], params["augment"]["pad"] = 0.1, 1
    params["pretrain"]["training"]["epochs"] = 6
    params["oe"]["training"]["epochs"] = params["align"]["training"]["epochs"] = 2
    for part in ("autoencoder", "unet"):
        params["diffusion"]["small"][part]["training"] |= {"steps": 20, "batch_size": 16}
    params["embed"]["runs"] = {"outliers": params["embed"]["runs"]["outliers"] | {"count": 10, "candidates": 20}}
    params["synthesize"]["runs"], params["painting"]["batch_size"], params["painting"]["steps"] = (
        {"outliers": {"embed": "outliers", "count": 5}},
        8,
        2,
    )
    params["oe"]["runs"] = {"oe": params["oe"]["runs"]["oe"]}
    params["models"], params["report"]["pairs"], params["detector"]["model"] = {"ce": "msp", "oe": "msp"}, {}, None
    return params


def apart(one: Path, other: Path, run: str) -> float:
    """The largest difference between two networks' weights."""
    first, second = (load_file(folder / f"data/models/{run}/0/model.safetensors") for folder in (one, other))
    return max(float((first[name].double() - second[name].double()).abs().max()) for name in first)


def painted(workspace: Path) -> dict[str, bytes]:
    folder = workspace / "data/painted/outliers"
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def kill_one_and_go_on(workspace: Path, port: int) -> tuple[int, float]:
    """Kill machine two in the middle of `pretrain`, see what one says, start both again; what one ended with, and how long that took."""
    machines = {machine: start(machine, workspace, "pretrain ce", port) for machine in CABLE}
    while not list(workspace.glob(".scratch/pretrain-ce/*/0/checkpoint.pt")):
        time.sleep(0.05)
    begun = time.monotonic()
    subprocess.run("ip netns pids two | xargs kill -9", shell=True, check=True)
    code = machines["one"].wait(timeout=120)
    took = time.monotonic() - begun
    machines["two"].wait()
    epochs = len(list(workspace.glob(".scratch/pretrain-ce/*/0/epochs/*.safetensors")))
    print(f"machine two was killed after {epochs} of 6 epochs; machine one ended with {code} after {took:.0f} s", flush=True)
    together(workspace, "pretrain ce", port + 1)
    return code, took


def main() -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory() as where:
        one, two, killed = (Path(where) / name for name in ("one", "two", "killed"))
        one.mkdir()
        (one / "images").mkdir()
        (one / "params.yaml").write_text(json.dumps(parameters()), encoding="utf-8")
        for command in BEFORE:
            alone(one, command)
        shutil.copytree(one, two)
        shutil.copytree(one, killed)
        for command in COMMANDS:
            alone(one, command)
        unplug()
        try:
            plug_in()
            for number, command in enumerate(COMMANDS):
                together(two, command, 29610 + number)
            print(f"pretrain on two machines against one process: weights differ by at most {apart(one, two, 'ce'):.1e}")
            print(f"oe on two machines against one process: weights differ by at most {apart(one, two, 'oe'):.1e}")
            print(f"synthesize: {len(painted(one))} files, {'the same bytes' if painted(one) == painted(two) else 'DIFFERENT'}", flush=True)
            kill_one_and_go_on(killed, 29620)
            same = all(
                path.read_bytes() == (killed / path.relative_to(two)).read_bytes() for path in two.glob("data/models/ce/**/*.safetensors")
            )
            print(f"killed and started again against never killed: {'the same bits' if same else 'DIFFERENT'}")
        finally:
            unplug()


if __name__ == "__main__":
    main()
