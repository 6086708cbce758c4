"""A kept epoch of a pretraining run as a model of its own: a given one, or that at which validation would have stopped."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ood.config import Params
from ood.config.training import Epochs, Runtime, Seeds
from ood.data import packed
from ood.data.batches import at_once
from ood.data.sets import load
from ood.evaluation import tracing
from ood.files import published, write_text
from ood.nets import store
from ood.refusals import must_take
from ood.tables import pick
from ood.training.devices import accelerator_for, placed
from stages.console import Console

FOLDER = Path("metrics/epoch")


def main(name: Annotated[str, typer.Argument(help="one of epochs")]) -> None:
    """Write data/models/<name>: every seed's network as that epoch left it, and metrics/epoch/<name>.json, which epoch it is."""
    params, console = Params(), Console(f"epoch {name}")
    chosen, seeds = pick(params[Epochs].root, name, "epochs"), params[Seeds].root
    must_take([FOLDER / f"{name}.json", store.MODELS / name])
    found = {seed: float(chosen.epoch) for seed in seeds} if chosen.epoch else stopped(params, chosen.run, chosen.by or "", console)
    with published(FOLDER / f"{name}.json", folder=store.MODELS / name) as (folder, figures):
        for seed, epoch in found.items():
            store.keep_epoch(store.MODELS / chosen.run / str(seed), int(epoch), folder / str(seed))
        write_text(figures, json.dumps({"epoch": {str(seed): epoch for seed, epoch in found.items()}}) + "\n")
    console.note(f"of {chosen.run}: " + ", ".join(f"seed {seed} epoch {epoch:.0f}" for seed, epoch in found.items()))


def stopped(params: Params, run: str, by: str, console: Console) -> dict[int, float]:
    """Seed -> the first kept epoch of those that are best on validation data; no test image is looked at."""
    runtime, seeds = params[Runtime], params[Seeds].root
    accelerator = accelerator_for(runtime)
    device, precision = accelerator.device, accelerator.autocast
    known = load("id/val", workers=runtime.workers).to(device)
    names = [] if by == "accuracy" else packed.names("validation")
    unknown = [load(name, workers=runtime.workers).to(device) for name in names]
    size, found = at_once(device, known.side), dict[int, float]()
    for seed in seeds:
        folder = store.MODELS / run / str(seed)
        files = store.kept_epochs(folder)
        if not found:
            console.begin(len(seeds) * len(files), "epoch")
        net, _ = store.load(folder)
        placed(net, device, runtime)
        of: dict[int, float] = {}
        for file in files:
            store.load_weights(net, file)
            of[int(file.stem)] = tracing.worth(net, by, known, unknown, size, console.step, precision)
            console.advance(f"seed {seed} epoch {int(file.stem)} validation {by} {of[int(file.stem)]:.4f}")
        found[seed] = float(max(of, key=of.__getitem__))
    return found
