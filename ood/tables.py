"""Small tables and lists: CSV text, means with gaps, picking a run by name."""

import csv
import io
from pathlib import Path
from typing import TypeVar

from ood.errors import InputError
from ood.handover import read_numbers

T = TypeVar("T")
HISTORIES = Path("metrics/training")  # <run>.csv: one row per seed and epoch


def to_csv(rows: list[dict]) -> str:
    """Rows with the same keys as CSV text; numbers are rounded to 6 significant digits so that diffs stay readable."""
    if not rows:
        return "seed,epoch\n"
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    return text.getvalue()


def pick(runs: dict[str, T], name: str, key: str) -> T:
    """The run called `name`.

    Raises:
        InputError: no such run; it lists those there are.
    """
    if name not in runs:
        raise InputError(f"params.yaml: {key}: no run {name!r}. Give one of: {', '.join(runs)}.")
    return runs[name]


def mean_where_known(rows: list[dict[str, float | None]]) -> dict[str, float | None]:
    """The mean of every column over the rows that have a value; None where no row has one."""
    means: dict[str, float | None] = {}
    for key in rows[0]:
        known = [value for row in rows if (value := row[key]) is not None]
        means[key] = sum(known) / len(known) if known else None
    return means


def last_mean(run: str, stage: str, column: str) -> float | None:
    """The mean over seeds of a column in the last epoch of a run's training; None where nothing was trained.

    Raises:
        InputError: it hasn't been trained, or the table is damaged; it names the stage that writes it.
    """
    rows = read_numbers(HISTORIES / f"{run}.csv", f"{stage} {run}", ("seed", column))
    last = {row["seed"]: row[column] for row in rows}
    return sum(last.values()) / len(last) if last else None
