"""The DAG of one or more folders as plain commands, several at a time, on a machine that has no DVC.

    python benchmarks/plain.py FOLDER... [--jobs 3] [--limit 500] [--threads 1] [--but diffusion align ...]

A folder holds params.yaml, dvc.yaml and what they name. What is done is noted in its done.txt, with its seconds, so the same command goes on
where it was stopped, or where --limit seconds ended it: stages save their state as they go. Nothing looks whether anything has changed,
which is what DVC is for. A stage that fails takes along what needs it, nothing else. First comes what most waits for. `evaluate` may take
--threads cores, all by itself.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from workspaces import ROOT


@dataclass
class Dag:
    """A folder's stages. needs: stage -> those that it waits for; left: not begun yet; running: with when they began."""

    folder: Path
    commands: dict[str, list[str]]
    needs: dict[str, set[str]]
    left: set[str]
    running: dict[str, tuple[subprocess.Popen, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path, but: list[str]) -> "Dag":
        """From dvc.yaml and params.yaml; `but`: stages that are left out, with all their runs."""
        yaml = YAML(typ="safe")
        params = yaml.load((folder / "params.yaml").read_text(encoding="utf-8"))
        commands, made, read = {}, {}, {}
        for stage, body in yaml.load((folder / "dvc.yaml").read_text(encoding="utf-8"))["stages"].items():
            runs = _value(params, body["foreach"].strip("${}")) if "foreach" in body else {None: None}
            for key, item in (runs or {}).items() if stage not in but else ():
                filled = [_filled(part, params | {"key": key, "item": item}) for part in _texts(body.get("do", body))]
                name = stage if key is None else f"{stage}@{key}"
                commands[name], made[name], read[name] = filled[0].split()[3:], filled[1], filled[2]
        needs = {
            name: {other for other in commands if other != name and any(_meet(a, b) for a in read[name] for b in made[other])}
            for name in commands
        }
        done = folder / "done.txt"
        finished = {line.split()[0] for line in done.read_text().splitlines()} if done.is_file() else set()
        return cls(folder, commands, needs, set(commands) - finished)

    def ready(self) -> list[str]:
        """What waits for nothing, first what most waits for."""
        waiting = self.left | self.running.keys()
        found = [name for name in self.left if not self.needs[name] & waiting]
        return sorted(found, key=lambda name: (-len(self.downstream(name)), name))

    def downstream(self, name: str) -> set[str]:
        """A stage and all that need it."""
        found = {name}
        while more := {other for other in self.left if self.needs[other] & found} - found:
            found |= more
        return found

    def start(self, name: str, threads: int) -> None:
        """Run a stage; what it prints goes to logs/."""
        log = self.folder / "logs" / f"{name}.txt"
        log.parent.mkdir(exist_ok=True)
        # evaluate scores models side by side, as many as there are cores for it.
        command = ["taskset", "-c", f"0-{threads - 1}"] if name == "evaluate" and threads < (os.cpu_count() or 1) else []
        with log.open("a") as stream:
            process = subprocess.Popen(
                [*command, sys.executable, "-m", "stages", *self.commands[name]], cwd=self.folder, stdout=stream, stderr=stream,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))},
            )  # fmt: skip
        self.left.remove(name)
        self.running[name] = (process, time.monotonic())

    def collect(self) -> bool:
        """Note what has come to its end; whether anything failed."""
        failed = False
        for name, (process, began) in [*self.running.items()]:
            if process.poll() is None:
                continue
            del self.running[name]
            seconds = time.monotonic() - began
            if process.returncode:
                failed, lost = True, self.downstream(name)
                self.left -= lost
                print(f"{self.folder.name}: {name} failed (left out with it: {', '.join(sorted(lost - {name})) or 'nothing'}):")
                print((self.folder / "logs" / f"{name}.txt").read_text()[-1500:], flush=True)
                continue
            with (self.folder / "done.txt").open("a") as stream:
                stream.write(f"{name} {seconds:.1f}\n")
            print(f"{self.folder.name}: {name}, {seconds:.0f} s", flush=True)
        return failed


def _value(params: Any, path: str) -> Any:
    for part in path.split("."):
        params = params[part]
    return params


def _filled(text: Any, scope: dict) -> Any:
    if isinstance(text, list):
        return [_filled(part, scope) for part in text]
    return re.sub(r"\$\{([^}]+)\}", lambda found: str(_value(scope, found[1])), text)


def _texts(body: dict) -> tuple[str, list[str], list[str]]:
    """A stage's command, what it makes and what it reads."""
    outs = [entry for kind in ("outs", "metrics", "plots") for entry in body.get(kind, [])]
    return body["cmd"], [next(iter(entry)) if isinstance(entry, dict) else entry for entry in outs], body.get("deps", [])


def _meet(first: str, second: str) -> bool:
    """Whether one path is the other, or below it."""
    a, b = Path(first), Path(second)
    return a == b or a in b.parents or b in a.parents


def work(dags: list[Dag], jobs: int, limit: float, threads: int) -> int:
    """Run what is left of all, `jobs` commands at a time; returns 1 if any failed."""
    deadline, failed = time.monotonic() + limit, False
    while any(dag.left or dag.running for dag in dags) and time.monotonic() < deadline:
        for dag in dags:
            failed |= dag.collect()
        waiting = [(-len(dag.downstream(name)), number, name) for number, dag in enumerate(dags) for name in dag.ready()]
        free = jobs - sum(len(dag.running) for dag in dags)
        for _, number, name in sorted(waiting)[: max(0, free)]:
            dags[number].start(name, threads)
        time.sleep(0.1)
    for dag in dags:
        for name, (process, _) in dag.running.items():
            process.kill()  # nothing is lost but what isn't saved yet
            process.wait()
            dag.left.add(name)
            print(f"{dag.folder.name}: {name} cut off")
    left = sum(len(dag.left) for dag in dags)
    print(f"{left} commands left" if left else "all done")
    return int(failed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--jobs", type=int, default=3)
    parser.add_argument("--limit", type=float, default=float("inf"), help="seconds")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="cores for evaluate")
    parser.add_argument("--but", nargs="*", default=[], help="stages to leave out")
    given = parser.parse_args()
    raise SystemExit(work([Dag.of(folder, given.but) for folder in given.folders], given.jobs, given.limit, given.threads))


if __name__ == "__main__":
    main()
