"""Recipe: turn params.yaml into that of a published benchmark; `recipe --list` shows which there are."""

from pathlib import Path
from typing import Annotated

import typer

from ood.config import Params, recipes
from ood.config.data import Data
from ood.config.detector import Detector
from ood.config.look import Asked
from ood.config.nets import Net
from ood.config.training import Runtime
from ood.config.whole import check, check_against
from ood.data import catalog
from ood.detection import rule
from ood.errors import InputError
from ood.files import write_text

PARAMS, DVC = Path("params.yaml"), Path("dvc.yaml")


def main(
    name: Annotated[str | None, typer.Argument(help="one of `recipe --list`")] = None,
    with_: Annotated[list[str] | None, typer.Option("--with", help="presets on top: other test or validation sets (see --list)")] = None,
    list_: Annotated[bool, typer.Option("--list", help="show what there is, one line each")] = False,
    id_: Annotated[Path | None, typer.Option("--id", help="of folder: your classes, <path>/<class>/<image>; chooses what fits")] = None,
    outliers: Annotated[Path | None, typer.Option(help="with --id: pictures of other things, which training may see")] = None,
    unknown: Annotated[Path | None, typer.Option(help="with --id: pictures of unknown things, which only the test sees")] = None,
    far: Annotated[Path | None, typer.Option(help="with --id: the same, of things that nobody would take for one of yours")] = None,
    size: Annotated[int | None, typer.Option(min=32, max=1024, help="with --id: pixels that the network looks at")] = None,
) -> None:
    """Write a recipe's values into params.yaml (its comments stay) and its models into dvc.yaml's list of metrics."""
    if list_ or name is None:
        known, presets = recipes.available(), recipes.available(recipes.PRESETS)
        width = max(map(len, [*known, *presets]))
        typer.echo("\n".join(f"{key:<{width}}  {text}" for key, text in known.items()))
        typer.echo("\n--with, on top of one of them, once or several times:")
        typer.echo("\n".join(f"{key:<{width}}  {text}" for key, text in presets.items()))
        return
    shipped = Params(PARAMS).path.read_text(encoding="utf-8")
    if id_ is not None or outliers or unknown or far or size:
        if id_ is None or not name.startswith("folder"):
            raise InputError(
                "--id, --outliers, --unknown, --far and --size belong to `recipe folder --id PATH` (folder-tuned, folder-scratch)."
            )
        recipe = guided(shipped, name, Asked(id_, outliers, unknown, far, size))
    else:
        recipe = recipes.overlay(name)
    text = recipes.apply(shipped, recipe, name)
    for preset in with_ or ():
        text = recipes.add(text, recipes.overlay(preset, recipes.PRESETS), preset)
    params = checked(text)
    dvc = recipes.list_metrics(DVC.read_text(encoding="utf-8"), list(params.raw["models"])) if DVC.is_file() else None
    write_text(PARAMS, text)
    if dvc is not None:
        write_text(DVC, dvc)
    typer.echo("\n".join([f"params.yaml is now the recipe {' with '.join([name, *(with_ or ())])}:", *recipes.header(recipe)]))
    try:
        facts = catalog.check(params[Data])
        check_against(params, facts.classes, facts.training)
        rule.check(params[Detector], facts.calibration, len(facts.classes or []) or 1)
    except InputError as error:
        typer.echo(f"\nstill to do before `dvc repro`: {error}")


def checked(text: str) -> Params:
    """The text as parameters, if they hold; params.yaml is left as it is."""
    trial = PARAMS.with_name(f".{PARAMS.name}.tmp")
    write_text(trial, text)
    try:
        params = Params(trial)
        check(params)
    finally:
        trial.unlink()
    return params


def guided(shipped: str, name: str, asked: Asked) -> str:
    """A recipe for folders, made to fit this one and this machine; what it chose stands in its first lines."""
    from ood.look.guide import propose, survey, tell_time  # with torch, which only this way needs
    from ood.look.network import pace

    recipes.overlay(name)
    known = survey(asked)
    proposal = propose(name, asked, known)
    params = checked(recipes.apply(shipped, proposal.text(), name))
    seconds, where = pace(known.listed, params[Net], params[Data].chain, params[Runtime])
    tell_time(proposal, params, known, seconds, where)
    return proposal.text()
