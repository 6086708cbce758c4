"""How the suite works: a workspace for each suite and seed, its commands side by side, each as soon as what it starts from is there."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from gpu_plan import BASE, MODELS, NEEDS, ROOT, SUITE, SUITES, TRAININGS


@dataclass
class Workspace:
    """One suite and seed: its folder, what is left to do, in order, and what is running."""

    suite: str
    folder: Path
    params: dict
    queue: list[str] = field(default_factory=list)
    running: dict[str, tuple[subprocess.Popen, float]] = field(default_factory=dict)

    def ready(self, first: "Workspace") -> list[str]:
        """Commands whose results to start from are there. Data don't depend on seeds: the first workspace prepares, the others link."""
        waiting = {*self.queue, *self.running}
        found = [command for command in self.queue if not needs(command, self.suite) & waiting]
        if "prepare" not in found or self is first:
            return found
        if "prepare" in {*first.queue, *first.running}:
            return []
        made, ours = first.folder / "data/prepared", self.folder / "data/prepared"
        if not made.exists():
            self.queue.clear()  # it failed there
            return []
        ours.parent.mkdir(exist_ok=True)
        if not ours.exists():
            ours.symlink_to(made.resolve())
        self.queue.remove("prepare")
        finish(self.folder, "prepare", 0.0)
        return self.ready(first)


def pending(suite: str, folder: Path, only: list[str]) -> list[str]:
    """The commands that a workspace has not done yet; done.txt has a line for each that is."""
    done = (folder / "done.txt").read_text().splitlines() if (folder / "done.txt").is_file() else []
    return [command for piece, commands in SUITES[suite].items() if piece in only for command in commands if command not in done]


def workspace(name: str, suite: str, settings: dict, only: list[str], pictures: Path) -> Workspace:
    """A folder with its params.yaml, as it was left, whose downloads are `pictures`.

    Raises:
        SystemExit: it holds a run with other settings.
    """
    folder = SUITE / name
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "downloads").exists():
        (folder / "downloads").symlink_to(pictures.resolve())
    text, path = json.dumps(settings, indent=1), folder / "params.yaml"
    if path.is_file() and path.read_text() != text:
        raise SystemExit(f"{folder} holds a run with other settings. Move it away, or remove it, and call again.")
    path.write_text(text)
    return Workspace(suite, folder, settings, pending(suite, folder, only))


def work(spaces: list[Workspace], deadline: float, jobs: int) -> int:
    """Run what is left of all workspaces, `jobs` commands at a time; those that came first, first."""
    failed = False
    while any(space.queue or space.running for space in spaces) and time.monotonic() < deadline:
        for space in spaces:
            for command, (process, began) in [*space.running.items()]:
                if process.poll() is None:
                    continue
                del space.running[command]
                if not process.returncode:
                    finish(space.folder, command, time.monotonic() - began)
                    continue
                failed = True
                left_out = drop(command, space.queue, space.suite)
                print(f"{space.folder.name}: {command} failed (left out with it: {', '.join(left_out) or 'nothing'}):")
                print(log_of(space.folder, command).read_text()[-2000:], flush=True)
            first = next(other for other in spaces if other.suite == space.suite and other.params["data"] == space.params["data"])
            for command in space.ready(first):
                if sum(len(other.running) for other in spaces) < jobs:
                    space.queue.remove(command)
                    space.running[command] = (start(space, command), time.monotonic())
        time.sleep(0.1)
    for space in spaces:
        for command, (process, began) in space.running.items():
            if process.poll() == 0:
                finish(space.folder, command, time.monotonic() - began)
                continue
            process.kill()  # stages go on exactly where they were: nothing is lost but what isn't saved yet
            process.wait()
            space.queue.append(command)
            note(space.folder, f"{command} (cut off)", time.monotonic() - began)
    left = sum(len(space.queue) for space in spaces)
    print(f"{left} commands left" if left else "all done")
    return int(failed)


def drop(failed: str, queue: list[str], suite: str) -> list[str]:
    """Take off a queue what starts from the results of a command that failed; returns what was taken."""
    gone = [failed]
    for command in [*queue]:
        if needs(command, suite) & set(gone):
            gone.append(command)
            queue.remove(command)
    return gone[1:]


def needs(command: str, suite: str) -> set[str]:
    """The commands whose results a command starts from."""
    stage, _, model = command.partition(" ")
    if stage == "evaluate":
        return {f"features {model}"}
    if stage in ("features", "trace"):
        trainings = {f"{kind} {model}" for kind in TRAININGS}
        return {"prepare", next(c for commands in SUITES[suite].values() for c in commands if c in trainings)}
    return {"prepare", *(needed.format(base=BASE[suite]) for needed in NEEDS.get(command, []))} - {command}


def log_of(folder: Path, command: str) -> Path:
    """What a command printed, of all its calls."""
    return folder / "logs" / f"{command.replace(' ', '-')}.txt"


def start(space: Workspace, command: str) -> subprocess.Popen:
    folder = where = space.folder
    print(f"{folder.name}: {command}", flush=True)
    log = log_of(folder, command)
    if command.startswith("evaluate "):  # one model by itself, in a folder of its own: others may not have features yet
        model = command.split()[1]
        where, command = folder / "evaluation" / model, "evaluate"
        where.mkdir(parents=True, exist_ok=True)
        settings = json.loads((folder / "params.yaml").read_text())
        (where / "params.yaml").write_text(json.dumps(settings | {"models": {model: MODELS[space.suite][model]}}))
        (where / "data").mkdir(exist_ok=True)
        if not (where / "data/features").is_symlink():
            (where / "data/features").symlink_to((folder / "data/features").resolve())
    log.parent.mkdir(exist_ok=True)
    with log.open("a") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "stages", *command.split()],
            cwd=where,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))},
            stdout=stream,
            stderr=stream,
        )


def finish(folder: Path, command: str, seconds: float) -> None:
    with (folder / "done.txt").open("a") as stream:
        stream.write(f"{command}\n")
    note(folder, command, seconds)
    print(f"{folder.name}: {command} done, {seconds:.0f} s", flush=True)


def note(folder: Path, command: str, seconds: float) -> None:
    """How long a command ran; one that was cut off and went on has several rows."""
    with (folder / "times.csv").open("a") as stream:
        stream.write(f"{command},{seconds:.1f}\n")
