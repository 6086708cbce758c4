"""Paint: the pipeline draws every embedding in the place of its class word, one named run each."""

import json
from typing import Annotated

import typer

from ood.config import Params
from ood.config.data import Data
from ood.config.dream import Painting, Prompts, Synthesize
from ood.config.training import Runtime
from ood.data import packed
from ood.data.chain import ImageChain
from ood.dream import embeddings, pipelines, synthesis
from ood.dream.dreamed import PAINTED
from ood.dream.studio import Studio
from ood.files import write_text
from ood.tables import pick, to_csv
from ood.training.checkpoint import Scratch, fingerprint
from ood.training.devices import accelerator_for
from stages.console import Console


def main(run: Annotated[str, typer.Argument(help="one of synthesize.runs")]) -> None:
    """Write data/painted/<run>: exactly `count` pictures per class, and where each comes from."""
    params = Params()
    synthesize, painting = params[Synthesize], params[Painting]
    setting, prompts = pick(synthesize.runs, run, "synthesize.runs"), params[Prompts]
    runtime, chain = params[Runtime], ImageChain(params[Data].chain)
    classes, console = packed.info().classes, Console(f"synthesize {run}")
    accelerator = accelerator_for(runtime)
    embedded = embeddings.load(setting.embed)
    settings = [setting, synthesize.seed, painting, prompts, runtime, chain.config]
    inputs = [pipelines.DIFFUSION, embeddings.EMBEDDINGS / setting.embed]
    mark = fingerprint("stages/synthesize.py", settings, inputs, accelerator.device.type, processes=False)
    with Scratch(f"synthesize-{run}", mark, [PAINTED / run], owner=accelerator.is_main_process) as scratch:
        accelerator.wait_for_everyone()
        studio = Studio(pipelines.load(accelerator.device, runtime), prompts, painting, chain)
        wanted = synthesis.order(len(classes), setting.count, embedded.vectors.shape[1], synthesize.seed)
        shards = scratch.path / "shards"
        synthesis.paint_shards(studio, wanted, embedded, classes, painting.batch_size, shards, console)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            made = scratch.fresh("made")
            synthesis.collect(shards, wanted, painting.batch_size, made / "images.npy")
            write_text(made / "pictures.csv", to_csv(synthesis.provenance(wanted, studio, classes, embedded.disturbed)))
            write_text(made / "info.json", json.dumps({"mode": embedded.mode, "classes": classes}, indent=1) + "\n")
            scratch.publish({made: PAINTED / run})
            console.note(f"{len(wanted)} pictures, {setting.count} of each class")
    accelerator.end_training()
