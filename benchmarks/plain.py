"""The DAG of one or more folders as plain commands, several at a time, on a machine that has no DVC.

    python benchmarks/plain.py FOLDER... [--jobs 3] [--limit 500]

A folder holds params.yaml, dvc.yaml and what they name. What is done is noted in its done.txt, with its seconds, so the same command goes
on where it was stopped, or where --limit seconds ended it: stages save their state as they go. Nothing looks whether anything has changed,
which is what DVC is for. A stage that fails takes along what needs it, nothing else. First comes what most waits for.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from workspaces import environment


@dataclass
class Dag:
    """A folder's stages. needs: stage -> those that it waits for; left: not begun yet; running: with when they began."""

    folder: Path
    commands: dict[str, str]
    needs: dict[str, set[str]]
    left: set[str]
    running: dict[str, tuple[subprocess.Popen, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path) -> "Dag":
        """From dvc.yaml and params.yaml, as DVC fills one with the other; what done.txt names isn't left."""
        yaml = YAML(typ="safe")
        params = yaml.load((folder / "params.yaml").read_text(encoding="utf-8"))
        commands, made, read = {}, {}, {}
        for stage, body in yaml.load((folder / "dvc.yaml").read_text(encoding="utf-8"))["stages"].items():
            runs = value(params, body["foreach"].strip("${}")) if "foreach" in body else {"": None}
            for key, item in runs.items():
                name = f"{stage}@{key}" if key else stage
                filled = filled_in(body.get("do", body), params | {"key": key, "item": item})
                commands[name], read[name] = filled["cmd"], filled.get("deps", [])
                outs = [out for kind in ("outs", "metrics", "plots") for out in filled.get(kind, [])]
                made[name] = [next(iter(out)) if isinstance(out, dict) else out for out in outs]
        needs = {name: {other for other in commands if other != name and meet(read[name], made[other])} for name in commands}
        done = folder / "done.txt"
        finished = {line.split()[0] for line in done.read_text().splitlines() if line} if done.is_file() else set()
        return cls(folder, commands, needs, set(commands) - finished)

    def ready(self) -> list[str]:
        """What waits for nothing."""
        waiting = self.left | self.running.keys()
        return sorted(name for name in self.left if not self.needs[name] & waiting)

    def downstream(self, name: str) -> set[str]:
        """A stage and all that need it."""
        found = {name}
        while more := {other for other in self.left if self.needs[other] & found} - found:
            found |= more
        return found

    def log(self, name: str) -> Path:
        """What a stage printed, in all its calls."""
        return self.folder / "logs" / f"{name}.txt"

    def start(self, name: str) -> None:
        """Begin a stage."""
        self.log(name).parent.mkdir(exist_ok=True)
        command = [sys.executable if word == "python" else word for word in self.commands[name].split()]
        with self.log(name).open("a") as stream:
            process = subprocess.Popen(command, cwd=self.folder, env=environment(), stdout=stream, stderr=stream, start_new_session=True)
        self.left.remove(name)
        self.running[name] = (process, time.monotonic())

    def collect(self) -> bool:
        """Note what has come to its end; returns whether anything failed."""
        failed = False
        for name, (process, began) in [*self.running.items()]:
            if process.poll() is None:
                continue
            del self.running[name]
            seconds = time.monotonic() - began
            if process.returncode:
                lost, failed = self.downstream(name), True
                self.left -= lost
                print(f"{self.folder.name}: {name} failed (left out with it: {', '.join(sorted(lost - {name})) or 'nothing'}):")
                print(self.log(name).read_text()[-1500:], flush=True)
            else:
                with (self.folder / "done.txt").open("a") as stream:
                    stream.write(f"{name} {seconds:.1f}\n")
                print(f"{self.folder.name}: {name}, {seconds:.0f} s", flush=True)
        return failed

    def stop(self) -> None:
        """Kill what runs, with its own children: nothing is lost but what isn't saved yet."""
        for name, (process, _) in self.running.items():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            self.left.add(name)
            print(f"{self.folder.name}: {name} cut off")
        self.running.clear()


def value(params: Any, path: str) -> Any:
    """What stands in params under keys joined by dots."""
    for part in path.split("."):
        params = params[part]
    return params


def filled_in(part: Any, scope: dict) -> Any:
    """A part of dvc.yaml with every ${path} replaced by what stands there."""
    if isinstance(part, dict):
        return {filled_in(key, scope): filled_in(inner, scope) for key, inner in part.items()}
    if isinstance(part, list):
        return [filled_in(inner, scope) for inner in part]
    return re.sub(r"\$\{([^}]+)\}", lambda found: str(value(scope, found[1])), part) if isinstance(part, str) else part


def meet(read: list[str], made: list[str]) -> bool:
    """Whether any path of one list is one of the other, or below it, or above."""
    pairs = [(Path(a), Path(b)) for a in read for b in made]
    return any(a == b or a in b.parents or b in a.parents for a, b in pairs)


def work(dags: list[Dag], jobs: int, limit: float = float("inf")) -> int:
    """Run what is left of all, `jobs` commands at a time, for `limit` seconds at most; returns 1 if any failed."""
    deadline, failed = time.monotonic() + limit, False
    try:
        while any(dag.left or dag.running for dag in dags) and time.monotonic() < deadline:
            waiting = [(-len(dag.downstream(name)), number, name) for number, dag in enumerate(dags) for name in dag.ready()]
            free = max(0, jobs - sum(len(dag.running) for dag in dags))
            for _, number, name in sorted(waiting)[:free]:
                dags[number].start(name)
            time.sleep(0.1)
            for dag in dags:
                failed |= dag.collect()
    finally:
        for dag in dags:
            dag.stop()
    left = sum(len(dag.left) for dag in dags)
    print(f"{left} commands left" if left else "nothing left")
    return int(failed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--jobs", type=int, default=3, help="commands at a time")
    parser.add_argument("--limit", type=float, default=float("inf"), help="seconds")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that it stops what it began
    raise SystemExit(work([Dag.of(folder) for folder in given.folders], given.jobs, given.limit))


if __name__ == "__main__":
    main()
