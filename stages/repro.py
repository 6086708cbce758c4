"""Repro: what `dvc repro` does, several stages at a time: those that don't wait for each other."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Annotated

import typer

from ood.errors import InputError

DVC = [sys.executable, "-m", "dvc"]


def main(
    jobs: Annotated[int, typer.Option(min=1, help="stages at a time, each with runtime.threads CPU threads")] = 2,
    devices: Annotated[str, typer.Option(help="GPUs by number, as 0,1,2: one job on each, in place of --jobs")] = "",
) -> None:
    """Run what is stale, each stage by `dvc repro --single-item` as soon as what it needs is there; then `dvc repro` looks over all of it.

    One that fails lets those that run come to their end and starts no other. Same results as `dvc repro`, same cache and dvc.lock.
    """
    free = [{"CUDA_VISIBLE_DEVICES": device} for device in devices.split(",")] if devices else [{} for _ in range(jobs)]
    stale, needs = status(), graph()
    if "check" in stale:
        call("repro", "-q", "check")
        stale = status()
    left = downstream(stale, needs)
    rank = {name: len(downstream([name], needs)) for name in left}
    total, failed = len(left), ""
    running: dict[Future[int], tuple[str, dict[str, str], float]] = {}
    with ThreadPoolExecutor(len(free)) as pool:
        while running or (left and not failed):
            waiting = left | {name for name, *_ in running.values()}
            ready = [name for name in left if not needs[name] & waiting and not failed]
            for name in sorted(ready, key=lambda name: (-rank[name], name))[: len(free)]:  # first what most waits for
                left.remove(name)
                slot = free.pop()
                running[pool.submit(run, name, slot)] = (name, slot, time.monotonic())
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                name, slot, begun = running.pop(done)
                free.append(slot)
                failed = failed or (name if done.result() else "")
                print(f"[{total - len(left) - len(running)}/{total}] {name}: {time.monotonic() - begun:.0f} s", flush=True)
    if failed:
        raise InputError(f"{failed} failed, see above. What was done is kept; mend it and run the same again.")
    print(call("repro").splitlines()[-1] if total else "Data and pipelines are up to date.")


def call(*arguments: str) -> str:
    """Run DVC and return what it printed; what is wrong goes to the screen."""
    result = subprocess.run([*DVC, "--wait-for-lock", *arguments], stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode:
        print(result.stdout)
        raise InputError(f"dvc {' '.join(arguments)} failed, see above.")
    return result.stdout


def run(name: str, environment: dict[str, str]) -> int:
    """One stage; its lines go to the screen as they come, so that no bar of one writes over another's."""
    command = [*DVC, "--wait-for-lock", "repro", "-q", "--single-item", name]
    with subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
    return process.returncode


def status() -> list[str]:
    """The stages that DVC finds changed, or never run."""
    return list(json.loads(call("status", "--json")))


def graph() -> dict[str, set[str]]:
    """Stage -> the stages that it needs, as DVC knows them."""
    text = call("dag", "--dot")
    needs: dict[str, set[str]] = {name: set() for name in re.findall(r'"([^"]+)"', text)}
    for first, then in re.findall(r'"([^"]+)" -> "([^"]+)"', text):
        needs[then].add(first)
    return needs


def downstream(names: Iterable[str], needs: dict[str, set[str]]) -> set[str]:
    """These stages and all that need them."""
    found = set(names) & needs.keys()
    while more := {name for name in needs if needs[name] & found} - found:
        found |= more
    return found
