"""DREAM-OOD, phase 2: draw embeddings at the edge of every class (outliers) or in its midst (inliers), one named run each."""

import json
from pathlib import Path
from typing import Annotated

import torch
import typer

from ood.config import Params
from ood.config.dream import Embed, EmbedRun, Prompts
from ood.config.training import Runtime
from ood.dream import alignment, embeddings, pipelines
from ood.dream.tokens import anchor
from ood.files import in_place_of, write_text
from ood.pictures import map_of_embeddings
from ood.tables import pick
from stages.console import Console


def main(run: Annotated[str, typer.Argument(help="one of embed.runs")]) -> None:
    """Write data/embeddings/<run>, its figures, and a two-dimensional picture."""
    params = Params()
    embed = params.section("embed", Embed)
    setting = pick(embed.runs, run, "embed.runs")
    features, labels, anchors, classes = alignment.load()
    torch.set_num_threads(params.section("runtime", Runtime).threads)
    names = _rows(setting, params.section("prompts", Prompts)) if setting.names else None
    console = Console(f"embed {run}")
    drawn = embeddings.draw_all(features, labels, anchors, classes, setting, embed.seed, names, console)
    figures = embeddings.figures(drawn, features, labels, anchors)
    with in_place_of(embeddings.EMBEDDINGS / run) as folder:
        embeddings.save(folder, drawn, setting.mode)
    write_text(Path(f"metrics/dream/embed-{run}.json"), json.dumps(figures, indent=1) + "\n")
    map_of_embeddings(Path(f"metrics/pictures/embeddings-{run}.png"), features, labels, anchors, drawn, classes, setting.mode)
    console.note(", ".join(f"{key} {value:.3f}" for key, value in figures.items()))


def _rows(setting: EmbedRun, prompts: Prompts) -> torch.Tensor:
    """Token embeddings of the run's own names, read from the text encoder that will paint."""
    pipeline = pipelines.load(torch.device("cpu"))
    return torch.stack([anchor(pipeline.text_encoder, pipeline.tokenizer, name, prompts.pieces) for name in setting.names])
