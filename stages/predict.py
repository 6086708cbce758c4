"""Predict: what a detector says of pictures; a table, JSON lines or CSV. Exit status 0: all known, 1: something unknown, 2: an error."""

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console as Terminal
from rich.table import Table

from ood.deploy import explain, stream, told
from ood.deploy.detector import Detector
from ood.deploy.verdicts import Verdict
from ood.detection.guarantee import Guarantee
from ood.errors import InputError

ERROR = 2  # exit status; 1 says that something is unknown
STYLES = {told.UNKNOWN: "bold red", told.UNREADABLE: "yellow"}


def main(
    pictures: Annotated[list[str], typer.Argument(help="files, folders, patterns; - reads names from standard input, one a line")],
    detector: Annotated[Path, typer.Option(help="the folder that export wrote")] = Path("data/detector"),
    json_: Annotated[bool, typer.Option("--json", help="an object a line, as they come")] = False,
    csv_: Annotated[bool, typer.Option("--csv", help="a line each, as they come, below a header")] = False,
    explain_: Annotated[Path | None, typer.Option("--explain", help="a folder for a picture of each: why it is judged so")] = None,
    reject: Annotated[float | None, typer.Option(help="share of known pictures that may be flagged; else as exported")] = None,
    guarantee: Annotated[Guarantee | None, typer.Option(help="of that rate; else as exported")] = None,
    fdr: Annotated[float | None, typer.Option(min=1e-4, max=0.5, help="flag as a batch: the share of false alarms among alarms")] = None,
    watch: Annotated[Path | None, typer.Option(help="a file to go on from: are there more alarms than calibration allows?")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
) -> None:
    """Say of every picture which class it is, or that it is none that is known."""
    if json_ and csv_:
        raise InputError("--json and --csv: one of the two.")
    judge, notes = Detector.load(detector, reject=reject, guarantee=guarantee, device=device), []
    state = stream.begin(watch, judge) if watch else None
    verdicts = pictured(judge, named(pictures), explain_) if explain_ else judge.stream(named(pictures))
    verdicts = stream.watched(verdicts, state) if state else verdicts
    if fdr is not None:
        batch = stream.together(list(verdicts), fdr)
        notes.append(stream.told_of(batch, fdr, len(judge.rule.calibration)))
        verdicts = iter(batch)
    counts = as_lines(verdicts, csv_=csv_) if json_ or csv_ else as_table(verdicts)
    if state and watch:
        stream.keep(watch, state, judge)
        notes.append(state.told())
    for note in [f"{told.summed_up(counts)}; {judge.promise}", *notes]:
        typer.echo(note, err=json_ or csv_)
    raise typer.Exit(ERROR if counts[told.UNREADABLE] else int(counts[told.UNKNOWN] > 0))


def named(given: list[str]) -> Iterator[str]:
    """The names, those on standard input in the place of a -."""
    for name in given:
        yield from (line.rstrip("\r\n") for line in sys.stdin if line.strip()) if name == "-" else (name,)


def pictured(judge: Detector, names: Iterator[str], folder: Path) -> Iterator[Verdict]:
    """Verdicts, each with a picture that explains it: <folder>/<number>-<name>.png."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (verdict, found) in enumerate(explain.explained(judge, names)):
        if found is not None:
            explain.draw(folder / f"{number:04d}-{Path(verdict.name).stem[:60]}.png", found, judge)
        yield verdict


def as_lines(verdicts: Iterator[Verdict], *, csv_: bool) -> Counter[str]:
    """For programs, as they come."""
    counts: Counter[str] = Counter()
    if csv_:
        typer.echo(told.csv_line(told.COLUMNS))
    for verdict in verdicts:
        counts[told.word(verdict)] += 1
        typer.echo(told.csv_line(astuple(verdict)) if csv_ else told.json_line(verdict))
    return counts


def as_table(verdicts: Iterator[Verdict]) -> Counter[str]:
    """For people, all at the end."""
    counts: Counter[str] = Counter()
    table = Table(*told.HEADER, box=None, pad_edge=False)
    with Terminal(stderr=True).status("") as status:
        for number, verdict in enumerate(verdicts, start=1):
            counts[told.word(verdict)] += 1
            status.update(f"{number} pictures")
            table.add_row(*told.row(verdict), style=STYLES.get(told.word(verdict), ""))
    wide = None if sys.stdout.isatty() else 10_000  # a file has no edge
    Terminal(markup=False, highlight=False, width=wide).print(table)
    typer.echo()
    return counts
