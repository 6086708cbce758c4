"""Predict: what a detector says of pictures; a table, JSON lines or CSV. Exit status 0: all known, 1: something unknown, 2: an error."""

import sys
from collections.abc import Iterator
from dataclasses import astuple
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console as Terminal
from rich.table import Table

from ood.deploy import explain, loading, told
from ood.deploy.predictor import Predictor
from ood.deploy.stream import Watched, together, told_of
from ood.deploy.verdicts import Verdict
from ood.detection.guarantee import Guarantee
from ood.errors import InputError
from ood.refusals import must_take

ERROR = 2  # exit status, also of what nobody foresaw: 1 says that something is unknown
STYLES = {told.UNKNOWN: "bold red", told.UNREADABLE: "yellow"}


def main(
    pictures: Annotated[list[str], typer.Argument(help="files, folders, patterns (or texts); -: from standard input, one a line")],
    detector: Annotated[Path, typer.Option(help="the folder that export wrote, or its .onnx")] = Path("data/detector"),
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
    judge = loading.load(detector, reject=reject, guarantee=guarantee, device=device)
    state = Watched.begin(watch, loading.whole(judge, "--watch")) if watch else None
    given = named(pictures, blank=judge.what == "text")
    verdicts = pictured(judge, given, explain_) if explain_ else judge.stream(given)
    verdicts = state.over(verdicts, note) if state else verdicts
    batch = list(verdicts) if fdr is not None else []
    verdicts = iter(together(batch, fdr)) if fdr is not None else verdicts
    found = as_lines(verdicts, csv_=csv_) if json_ or csv_ else as_table(verdicts, judge.what)
    if not found.verdicts:
        raise InputError(f"no {judge.what} was named.")
    said = told_of(together(batch, fdr), fdr, judge.images) if fdr is not None else judge.promise
    for line in [*judge.notes, f"{found.told()}; {said}", *([state.watch.told()] if state else [])]:
        (note if json_ or csv_ else typer.echo)(line)
    raise typer.Exit(found.status)


def note(line: str) -> None:
    """Aside, on standard error."""
    typer.echo(line, err=True)


def named(given: list[str], *, blank: bool) -> Iterator[str]:
    """The names, those on standard input in the place of a -; blank: blank lines too, so that a text's verdict has its line's number."""
    for name in given:
        yield from (line.rstrip("\r\n") for line in sys.stdin if blank or line.strip()) if name == "-" else (name,)


def pictured(judge: Predictor, names: Iterator[str], folder: Path) -> Iterator[Verdict]:
    """Verdicts, each with a picture that explains it: <folder>/<number>-<name>.png."""
    detector = loading.whole(judge, "--explain")
    must_take([folder / "any"])
    for number, (verdict, found) in enumerate(explain.explained(detector, names)):
        if found is not None:
            explain.draw(folder / explain.file_name(number, verdict), found, detector)
        yield verdict


def as_lines(verdicts: Iterator[Verdict], *, csv_: bool) -> told.Count:
    """For programs, as they come."""
    count = told.Count()
    lines = (told.csv_line(astuple(v)) if csv_ else told.json_line(v) for v in count.over(verdicts))
    told.write(sys.stdout, chain([told.csv_line(told.COLUMNS)] if csv_ else [], lines))
    return count


def as_table(verdicts: Iterator[Verdict], what: str) -> told.Count:
    """For people, all at the end."""
    count, table = told.Count(), Table(what, *told.HEADER, box=None, pad_edge=False)
    with Terminal(stderr=True).status("") as status:
        for number, verdict in enumerate(count.over(verdicts), start=1):
            status.update(f"{number} {what}s")
            table.add_row(*told.row(verdict), style=STYLES.get(told.word(verdict), ""))
    wide = None if sys.stdout.isatty() else 10_000  # a file has no edge
    Terminal(markup=False, highlight=False, emoji=False, width=wide).print(table)
    typer.echo()
    return count
