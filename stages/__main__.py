"""python -m stages NAME [RUN]: runs one stage; loads only that stage's module."""

import ast
import importlib
import os
import sys
import time
import traceback
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import typer

from ood import seconds
from ood.refusals import plainly

BEGUN = time.monotonic()
HELPERS = {"__init__", "__main__", "console"}
ASIDE = {"look", "predict", "recipe", "repro"}  # also called where no pipeline is, and leave no note of their time there


def stage_names() -> dict[str, str]:
    """Command -> the first line of its module's docstring, without importing any."""
    names = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem not in HELPERS:
            doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            names[path.stem.replace("_", "-")] = doc.split("\n")[0]
    return names


def _called() -> str:
    """How it is typed: as the installed command, or as a module."""
    return "atypical" if Path(sys.argv[0]).stem == "atypical" else "python -m stages"


def _heard(name: str, stage: Callable[..., None]) -> Callable[..., None]:
    """The stage, whose EOFError is an error: click takes one for Ctrl-D, and would say "Aborted." alone. And its time is noted."""

    @wraps(stage)
    def run(*arguments: Any, **options: Any) -> None:
        try:
            stage(*arguments, **options)
        except EOFError as error:
            raise RuntimeError("a file ends too early") from error
        asked = os.environ.get("DVC_STAGE") or (None if name in ASIDE else "@".join([name, *filter(None, [options.get("run")])]))
        if asked and os.environ.get("RANK", "0") == "0":
            seconds.note(asked, time.monotonic() - BEGUN)

    return run


def main() -> None:
    """Run the stage that the first argument names; errors that the user can mend come without a traceback."""
    names = stage_names()
    if len(sys.argv) < 2 or sys.argv[1] not in names:
        asked = sys.argv[1] if len(sys.argv) > 1 else "--help"
        width = max(map(len, names))
        lines = [f"{_called()} NAME [RUN]   (every name takes --help)", ""]
        lines += [f"  {name:<{width}}  {text}" for name, text in names.items()]
        if asked not in ("--help", "-h"):
            print(f"no stage {asked!r}", file=sys.stderr)
        print("\n".join(lines), file=sys.stdout if asked in ("--help", "-h") else sys.stderr)
        raise SystemExit(0 if asked in ("--help", "-h") else 2)
    name = sys.argv.pop(1)
    module = importlib.import_module(f"stages.{name.replace('-', '_')}")
    status = getattr(module, "ERROR", 1)
    command = typer.Typer(add_completion=False)
    command.command()(_heard(name, module.main))
    try:
        command(prog_name=f"{_called()} {name}")
    except Exception as raised:
        error = plainly(raised)
        if error is None:
            if status == 1:
                raise
            traceback.print_exc()
            raise SystemExit(status) from None
        print(f"\nerror: {error}", file=sys.stderr)
        if os.environ.get("DVC_STAGE") and name != "check":
            print(
                "DVC took this stage's outputs away before it started: `dvc checkout` brings back data/, `git checkout metrics` figures.",
                file=sys.stderr,
            )
        raise SystemExit(status) from None


if __name__ == "__main__":
    main()
