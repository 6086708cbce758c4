"""Judge: what a trained classifier makes of every dreamed picture; the manifest that training filters by."""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from ood.config import Params
from ood.config.dream import Judge
from ood.config.training import Runtime, Seeds
from ood.data.packed import item_names
from ood.data.sets import load
from ood.dream import dreamed, judging
from ood.dream.pictures import sheet_of_dreams
from ood.files import link_or_copy, published, write_text
from ood.nets import store
from ood.refusals import must_take
from ood.tables import to_csv
from ood.training.devices import accelerator_for
from stages.console import Console


def main(run: Annotated[str, typer.Argument(help="one of synthesize.runs")]) -> None:
    """Write data/dreamed/<run>: the pictures with their manifest; figures and a picture of them."""
    params = Params()
    judge, seeds = params[Judge].run, params[Seeds].root
    files = [Path(f"metrics/dream/{run}.json"), Path(f"metrics/pictures/dreamed-{run}.png")]
    must_take([dreamed.DREAMED / run, *files])
    accelerator, console = accelerator_for(params[Runtime]), Console(f"judge {run}")
    device = accelerator.device
    images, rows, info = dreamed.painted(run)
    nets = [store.load(store.MODELS / judge / str(seed))[0].to(device) for seed in seeds]
    probabilities = judging.judge(nets, images, device, accelerator.autocast)
    rows = judging.opinion(rows, images, probabilities, info["classes"], load("id/train"), item_names("id/train"))
    figures = judging.summary(rows)
    with published(*files, folder=dreamed.DREAMED / run) as (folder, table, picture):
        link_or_copy(dreamed.PAINTED / run / "images.npy", folder / "images.npy")
        write_text(folder / "manifest.csv", to_csv(rows))
        write_text(folder / "info.json", json.dumps({**info, "judge": judge}, indent=1) + "\n")
        write_text(table, json.dumps(figures, indent=1) + "\n")
        sheet_of_dreams(picture, np.asarray(images), rows, info["classes"])
    console.note(", ".join(f"{key} {value:.3g}" for key, value in figures.items()))
