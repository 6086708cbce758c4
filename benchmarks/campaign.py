"""Stages that are killed, run out of disk, or may not write: does anything get lost, and do they end in the same bytes?

    python benchmarks/campaign.py                          # 100 cases of each fault, over every stage
    python benchmarks/campaign.py kill=100 limit=50 full=50 readonly=25    # about an hour on two cores

Runs the miniature DAG of the tests once, then takes a copy of it for every case, removes the outputs of one stage (or leaves the old ones
where they are) and runs the stage under a fault:

    kill      SIGKILL at a random moment, up to three times
    limit     no file may grow beyond a random size (as a quota)
    full      a disk of its own that a random number of bytes fits on (needs root: it mounts a tmpfs)
    readonly  that disk, mounted for reading (needs root)

A stage under a fault must end well, or with one line and no traceback, old outputs as they were and nothing left beside them; and without
the fault it must then end in the bytes of the run that nobody disturbed. What breaks a rule is printed, and counted at the end.
"""

import argparse
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from conftest import Project, Workspace  # noqa: E402  # tests/ must be on the path first
from ruamel.yaml import YAML  # noqa: E402

FAULTS = ("kill", "limit", "full", "readonly")
LEFT = (".new", ".old", ".tmp")  # how temporary names end


class Case:
    """A copy of the miniature, in which one stage runs under one fault."""

    def __init__(self, whole: Workspace, folder: Path, stage: str, outs: list[str]):
        self.whole, self.command, self.outs = whole, stage.replace("@", " "), outs
        self.workspace = whole.copy(folder)
        self.workspace.environment = whole.cold | {"PYTHONPATH": ".", "OMP_NUM_THREADS": "1"}

    def hashes(self, of: Workspace | None = None) -> dict[str, str]:
        """Content of the stage's outputs."""
        workspace, found = of or self.workspace, {}
        for out in self.outs:
            path = workspace.path / out
            found |= workspace.hashes(out) if path.is_dir() else {out: path.read_bytes().hex()} if path.is_file() else {}
        return found

    def forget(self) -> None:
        """As DVC does before it runs a stage."""
        for out in self.outs:
            path = self.workspace.path / out
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def start(self, before: Callable[[], None] | None = None) -> subprocess.Popen:
        """The stage as a process."""
        return subprocess.Popen(
            [sys.executable, "-m", "stages", *self.command.split()],
            cwd=self.workspace.path,
            env=self.workspace.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=before,
        )

    def wrongs(self, old: dict[str, str], code: int, said: str) -> list[str]:
        """Rules that a failure broke."""
        wrong = []
        if code not in (0, 1):
            wrong.append(f"ended with {code}")
        if "Traceback" in said:
            wrong.append(f"a traceback: {said.strip().splitlines()[-1]}")
        if code == 1 and sum(line.startswith("error: ") for line in said.splitlines()) != 1:
            wrong.append(f"not one line: {said.strip()[-300:]}")
        if code == 1 and self.hashes() != old:
            wrong.append("the old outputs changed")
        beside = [p for p in self.workspace.path.rglob(".*") if p.name.endswith(LEFT) and ".scratch" not in p.parts]
        if beside:
            wrong.append(f"left {beside[0].name}")
        return wrong

    def finish(self) -> list[str]:
        """Without the fault: rules that the end broke."""
        process = self.start()
        said = process.communicate()[1]
        if process.returncode:
            return [f"did not go on afterwards: {said.strip()[-300:]}"]
        return [] if self.hashes() == self.hashes(self.whole) else ["ended in other bytes"]


def killed(case: Case, rng: random.Random, seconds: float) -> tuple[list[str], bool]:
    """Rules broken, and whether the fault struck."""
    struck = False
    for _ in range(rng.randint(1, 3)):
        process = case.start()
        time.sleep(rng.uniform(0.2, 1.0) * seconds)
        struck |= process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
    return case.finish(), struck


def limited(case: Case, rng: random.Random, _: float) -> tuple[list[str], bool]:
    """As `killed`."""
    old, size = case.hashes(), int(10 ** rng.uniform(1.5, 6))
    process = case.start(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)))
    said = process.communicate()[1]
    return case.wrongs(old, process.returncode, said) + case.finish(), process.returncode != 0


def mounted(case: Case, rng: random.Random, _: float, *, reading: bool) -> tuple[list[str], bool]:
    """As `killed`; the case lies on a disk of its own."""
    disk, old = case.workspace.path.parent, case.hashes()
    if reading:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    else:
        used = shutil.disk_usage(disk).used
        subprocess.run(["mount", "-o", f"remount,size={used + int(10 ** rng.uniform(3, 6.3))}", disk], check=True)
    process = case.start()
    said = process.communicate()[1]
    wrong = case.wrongs(old, process.returncode, said)
    subprocess.run(["mount", "-o", "remount,rw,size=2g", disk], check=True)
    return wrong + case.finish(), process.returncode != 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="FAULT=CASES", default=[f"{fault}=100" for fault in FAULTS])
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    wanted = {fault: int(cases) for fault, _, cases in (pair.partition("=") for pair in asked.cases)}
    if unknown := set(wanted) - set(FAULTS):
        parser.error(f"no fault {unknown.pop()!r}; there are {', '.join(FAULTS)}")
    with tempfile.TemporaryDirectory(prefix="campaign-") as place:
        folder = Path(place)
        (folder / "whole").mkdir()
        whole = Project(folder / "whole")
        whole.stage("repro --jobs 2")
        lock = YAML(typ="safe").load((whole.path / "dvc.lock").read_text())["stages"]
        stages = {name: [out["path"] for out in entry.get("outs", [])] for name, entry in lock.items() if name != "check"}
        whole.run("rm", "-rf", ".dvc", ".git", ".scratch")
        print(f"the miniature: {len(stages)} stages", flush=True)
        seconds = {name: duration(whole, folder / "timed", name, outs) for name, outs in stages.items()}
        count: Counter[str] = Counter()
        for fault, cases in wanted.items():
            for number in range(cases):
                name = list(stages)[number % len(stages)]
                one(
                    whole, folder / "case", fault, name, stages[name], seconds[name], random.Random(f"{asked.seed} {fault} {number}"), count
                )
            told = ", ".join(f"{count[f'{fault} {what}']} {what}" for what in ("cases", "struck", "wrong"))
            print(f"{fault}: {told}", flush=True)
    raise SystemExit(any(count[f"{fault} wrong"] for fault in wanted))


def duration(whole: Workspace, folder: Path, name: str, outs: list[str]) -> float:
    """Seconds that a stage takes, undisturbed; it must give the bytes that DVC's run gave."""
    case = Case(whole, folder, name, outs)
    case.forget()
    begin = time.monotonic()
    wrong = case.finish()
    shutil.rmtree(folder)
    if wrong:
        raise SystemExit(f"{name}, undisturbed: {wrong[0]}")
    return time.monotonic() - begin


def one(
    whole: Workspace, folder: Path, fault: str, name: str, outs: list[str], seconds: float, rng: random.Random, count: Counter[str]
) -> None:
    """One case: its copy made, its fault, its end, counted."""
    folder.mkdir()
    disk = fault in ("full", "readonly")
    if disk:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2g", "tmpfs", folder], check=True)
    try:
        case = Case(whole, folder / "copy", name, outs)
        if rng.random() < 0.5:
            case.forget()
        if fault == "kill":
            wrong, struck = killed(case, rng, seconds)
        elif fault == "limit":
            wrong, struck = limited(case, rng, seconds)
        else:
            wrong, struck = mounted(case, rng, seconds, reading=fault == "readonly")
    finally:
        if disk:
            subprocess.run(["umount", folder], check=True)
        shutil.rmtree(folder)
    count.update([f"{fault} cases", *([f"{fault} struck"] if struck else []), *([f"{fault} wrong"] if wrong else [])])
    for line in wrong:
        print(f"  {fault} {name}: {line}", flush=True)


if __name__ == "__main__":
    main()
