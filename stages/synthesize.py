"""Paint: the pipeline draws every embedding in the place of its class word; a trained classifier judges every picture."""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from ood.checkpoint import Scratch, fingerprint
from ood.compute import accelerator_for
from ood.config import Params
from ood.config.data import Chain
from ood.config.dream import Painting, Prompts, Synthesize
from ood.config.training import Runtime, Seeds
from ood.data import packed
from ood.data.chain import ImageChain
from ood.dream import embeddings, pipelines, synthesis
from ood.dream.judging import judge, manifest, summary
from ood.dream.studio import Studio
from ood.dreamed import DREAMED
from ood.files import remove, write_text
from ood.nets.store import MODELS
from ood.pictures import sheet_of_dreams
from ood.tables import pick, to_csv
from stages.console import Console


def main(run: Annotated[str, typer.Argument(help="one of synthesize.runs")]) -> None:
    """Write data/dreamed/<run>: exactly `count` pictures per class with their manifest; figures and a picture of them."""
    params = Params()
    synthesize, painting = params.section("synthesize", Synthesize), params.section("painting", Painting)
    setting, prompts = pick(synthesize.runs, run, "synthesize.runs"), params.section("prompts", Prompts)
    runtime, chain = params.section("runtime", Runtime), ImageChain(params.section("data.chain", Chain))
    seeds, classes, console = params.section("seeds", Seeds), packed.info().classes, Console(f"synthesize {run}")
    accelerator = accelerator_for(runtime)
    vectors, mode = embeddings.load(setting.embed)
    judges = [MODELS / synthesize.judge / str(seed) for seed in seeds]
    mark = fingerprint(
        "stages/synthesize.py",
        [setting, synthesize.seed, painting, prompts, runtime, chain.config],
        [pipelines.DIFFUSION, embeddings.EMBEDDINGS / setting.embed],
        accelerator.device.type,
        processes=False,
    )
    with Scratch(f"synthesize-{run}", mark, owner=accelerator.is_main_process) as scratch:
        studio = Studio(pipelines.load(accelerator.device, runtime.precision), prompts, painting, chain)
        wanted = synthesis.order(len(classes), setting.count, vectors.shape[1], synthesize.seed)
        synthesis.paint_shards(studio, wanted, vectors, classes, painting.batch_size, scratch.path / "shards", console)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            images = synthesis.collect(scratch.path / "shards", wanted, painting.batch_size)
            probabilities = judge(judges, images, accelerator.device)
            rows = manifest(wanted, images, probabilities, studio, classes)
            made = scratch.path / "made"
            remove(made)
            made.mkdir()
            with (made / "images.npy").open("wb") as stream:
                np.save(stream, images)
            write_text(made / "manifest.csv", to_csv(rows))
            write_text(made / "info.json", json.dumps({"mode": mode, "classes": classes, "judge": synthesize.judge}, indent=1) + "\n")
            figures = summary(rows, mode)
            write_text(scratch.path / "figures.json", json.dumps(figures, indent=1) + "\n")
            sheet_of_dreams(scratch.path / "sheet.png", images, rows, classes)
            pictures = {scratch.path / "sheet.png": Path(f"metrics/pictures/dreamed-{run}.png")}
            scratch.publish({made: DREAMED / run, scratch.path / "figures.json": Path(f"metrics/dream/{run}.json"), **pictures})
            console.note(", ".join(f"{key} {value:.3g}" for key, value in figures.items()))
    accelerator.end_training()
