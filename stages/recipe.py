"""Recipe: turn params.yaml into that of a published benchmark; `recipe --list` shows which there are."""

import time
from pathlib import Path
from typing import Annotated

import typer

from ood.config import Params, recipes
from ood.config.data import Data
from ood.config.whole import check, check_against
from ood.data import catalog
from ood.data.chain import ImageChain
from ood.errors import InputError
from ood.files import write_text

TRIED = 12  # pictures that tell how long one takes
PARAMS, DVC = Path("params.yaml"), Path("dvc.yaml")


def main(
    name: Annotated[str | None, typer.Argument(help="one of `recipe --list`")] = None,
    with_: Annotated[list[str] | None, typer.Option("--with", help="presets on top: other test or validation sets (see --list)")] = None,
    list_: Annotated[bool, typer.Option("--list", help="show what there is, one line each")] = False,
    id_: Annotated[Path | None, typer.Option("--id", help="of folder: your classes, <path>/<class>/<image>; chooses what fits")] = None,
    outliers: Annotated[Path | None, typer.Option(help="with --id: pictures of other things, which training may see")] = None,
    unknown: Annotated[Path | None, typer.Option(help="with --id: pictures of other things, which only the test sees")] = None,
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
    recipe = recipes.overlay(name)
    if id_ is not None or outliers or unknown or size:
        if id_ is None or name != "folder":
            raise InputError("--id, --outliers, --unknown and --size belong to `recipe folder --id PATH`.")
        recipe = guided(recipe, id_, outliers, unknown, size)
    text = recipes.apply(Params(PARAMS).path.read_text(encoding="utf-8"), recipe, name)
    for preset in with_ or ():
        text = recipes.add(text, recipes.overlay(preset, recipes.PRESETS), preset)
    trial = PARAMS.with_name(f".{PARAMS.name}.tmp")
    write_text(trial, text)
    try:
        params = Params(trial)
        check(params)
    finally:
        trial.unlink()
    dvc = recipes.list_metrics(DVC.read_text(encoding="utf-8"), list(params.raw["models"])) if DVC.is_file() else None
    write_text(PARAMS, text)
    if dvc is not None:
        write_text(DVC, dvc)
    typer.echo("\n".join([f"params.yaml is now the recipe {' with '.join([name, *(with_ or ())])}:", *recipes.header(recipe)]))
    try:
        facts = catalog.check(params[Data])
        check_against(params, facts.classes, facts.training)
    except InputError as error:
        typer.echo(f"\nstill to do before `dvc repro`: {error}")


def guided(recipe: str, images: Path, outliers: Path | None, unknown: Path | None, size: int | None) -> str:
    """The recipe folder, made to fit a folder and this machine; prints nothing: what it chose stands in its first lines."""
    from ood.look.guide import Asked, propose, survey  # what is heavy only this way needs

    asked = Asked(images, outliers, unknown, size)
    known = survey(asked)
    seconds, where = pace(images, size)
    return propose(recipe, asked, known, seconds, where)


def pace(images: Path, size: int | None) -> tuple[float | None, str]:
    """Seconds that a picture takes to be read and looked at here with so many pixels, measured on some; and the device."""
    import torch

    from ood.config.look import Look
    from ood.config.training import Runtime
    from ood.data.batches import FileSet, PlainBatches, at_once
    from ood.data.streamed import FileImages
    from ood.look.folder import list_files
    from ood.training.devices import accelerator_for, placed
    from stages.look import network

    params = Params(PARAMS)
    runtime = params[Runtime]
    paths, labels, classes, _ = list_files(images)
    net, chain = network(params[Look].net, classes, size=size)
    device = accelerator_for(runtime).device
    placed(net, device, runtime).eval()
    chosen = sorted({round(i * (len(paths) - 1) / (TRIED - 1)) for i in range(TRIED)})
    some = FileSet(FileImages([paths[i].as_posix() for i in chosen], ImageChain(chain)), torch.from_numpy(labels[chosen]), device)
    try:
        with torch.inference_mode():
            for _ in range(2):  # the first pass warms up
                begin = time.perf_counter()
                for batch, _labels in PlainBatches(some, at_once(device, chain.side)):
                    net.features(batch)
                took = time.perf_counter() - begin
    except InputError:  # one that can't be read; `prepare` will tell
        return None, device.type
    return took / len(chosen), f"{device.type}{f', {runtime.threads} thread' if device.type == 'cpu' else ''}"
