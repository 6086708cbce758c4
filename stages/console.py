"""Progress for people: a bar on a terminal, plain lines elsewhere; and the watch over the parent process."""

import atexit
import os
import sys
import time
from typing import TYPE_CHECKING

import psutil

from ood.errors import InputError

if TYPE_CHECKING:
    from rich.progress import Progress

QUIET = 10.0  # seconds between plain lines
LOOK_EVERY = 0.2  # seconds between two looks after the parent


class Console:
    """Tells how far a stage is. Implements ood.progress.Progress.

    Under DVC a stage outlives a killed `dvc`; `step` notices that and stops, so that no orphan goes on writing beside a new run.
    """

    def __init__(self, title: str):
        self.title = title
        self.main = os.environ.get("RANK", "0") == "0"
        self._driver = _driver() if os.environ.get("DVC_STAGE") else None
        if self._driver and self._driver[0] == 1 and not _is_dvc(psutil.Process(1)):
            raise InputError(f"{title}: dvc went away before the stage began; nothing was done.")
        self._bar: Progress | None = None
        self._looked = 0.0
        self._done = self._total = 0
        self._said = time.monotonic()

    def begin(self, total: int, unit: str) -> None:
        """`total` units of work follow."""
        self._done, self._total, self._unit = 0, total, unit
        if self.main and total and sys.stdout.isatty():
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )

            self.close()
            columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
            self._bar = Progress(*columns, TextColumn("{task.fields[message]}"))
            self._task = self._bar.add_task(self.title, total=total, message="")
            self._bar.start()
            atexit.register(self.close)  # an error or Ctrl-C must not leave the terminal without its cursor

    def step(self) -> None:
        """Raises InputError when the DVC process that started this stage is gone."""
        if self._driver is None or time.monotonic() - self._looked < LOOK_EVERY:
            return
        self._looked = time.monotonic()
        if not _alive(*self._driver):
            raise InputError(f"{self.title}: dvc (process {self._driver[0]}) went away; stopped at the last saved state.")

    def advance(self, message: str = "") -> None:
        """One unit is done."""
        self.step()
        self._done += 1
        if self._bar:
            self._bar.update(self._task, completed=self._done, message=message)
            if self._done == self._total:
                self.close()
        elif self.main and message and (self._done == self._total or time.monotonic() - self._said > QUIET):
            self._said = time.monotonic()
            print(f"{self.title}: {self._unit} {self._done}/{self._total} {message}", flush=True)

    def note(self, message: str) -> None:
        """A line of its own."""
        if self.main:
            (self._bar.console.print if self._bar else print)(f"{self.title}: {message}")

    def close(self) -> None:
        """Take the bar off the screen."""
        if self._bar:
            self._bar.stop()
            self._bar = None


def _driver() -> tuple[int, float]:
    """Pid and start time of the nearest ancestor that is dvc (or, failing that, of the parent)."""
    ancestors = psutil.Process().parents()
    process = next((p for p in ancestors if _is_dvc(p)), ancestors[0] if ancestors else psutil.Process(1))
    return process.pid, process.create_time()


def _is_dvc(process: psutil.Process) -> bool:
    try:
        return any(os.path.basename(part).startswith("dvc") for part in process.cmdline()[:3])
    except psutil.Error:
        return False


def _alive(pid: int, started: float) -> bool:
    try:
        process = psutil.Process(pid)
        return process.create_time() == started and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
