"""DREAM-OOD, phase 2: draw embeddings at the edge of every class (outliers) or in its midst (inliers), one named run each."""

import json
from pathlib import Path
from typing import Annotated

import torch
import typer

from ood.config import Params
from ood.config.dream import Embed, Prompts
from ood.config.training import Runtime
from ood.dream import alignment, embeddings, pipelines, space
from ood.dream.pictures import map_of_embeddings
from ood.dream.tokens import anchors
from ood.files import write_text
from ood.tables import pick
from ood.training.checkpoint import Scratch, fingerprint
from ood.training.devices import accelerator_for
from stages.console import Console


def main(run: Annotated[str, typer.Argument(help="one of embed.runs")]) -> None:
    """Write data/embeddings/<run>, its figures, and a two-dimensional picture."""
    params = Params()
    embed, prompts, runtime = params[Embed], params[Prompts], params[Runtime]
    setting, console = pick(embed.runs, run, "embed.runs"), Console(f"embed {run}")
    accelerator = accelerator_for(runtime)
    settings, inputs = [setting, embed.seed, runtime, prompts], [alignment.ALIGNED, pipelines.DIFFUSION]
    mark = fingerprint("stages/embed.py", settings, inputs, accelerator.device.type, processes=False)
    if accelerator.is_main_process:  # of several processes only one draws: it takes seconds a class
        names = None
        if setting.names:  # as the text encoder that will paint has them
            pipeline = pipelines.load(torch.device("cpu"), runtime)
            names = anchors(pipeline.text_encoder, pipeline.tokenizer, setting.names, prompts.pieces)
        where = space.Space(*alignment.load(), alignment.temperature(), names)
        outputs = [embeddings.EMBEDDINGS / run, Path(f"metrics/dream/embed-{run}.json"), Path(f"metrics/pictures/embeddings-{run}.png")]
        with Scratch(f"embed-{run}", mark, outputs) as scratch:
            drawn = space.draw_all(where, setting, embed.seed, accelerator.device, scratch.path / "classes", console)
            figures = space.figures(drawn, where, setting)
            made, table, picture = scratch.fresh("made"), scratch.path / "figures.json", scratch.path / "map.png"
            embeddings.save(made, drawn, setting)
            write_text(table, json.dumps(figures, indent=1) + "\n")
            map_of_embeddings(picture, where.features, where.labels, where.anchors, drawn, where.classes, setting.mode)
            scratch.publish(dict(zip((made, table, picture), outputs, strict=True)))
        console.note(", ".join(f"{key} {value:.3f}" for key, value in figures.items()))
    accelerator.end_training()
