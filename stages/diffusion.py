"""Make the Stable Diffusion v1-format pipeline that paints: train a small one, or check the one that was named."""

import json
from pathlib import Path

from ood.config import Params
from ood.config.dream import Diffusion
from ood.config.training import Runtime
from ood.data import packed
from ood.dream import absent, pipelines, small, world
from ood.files import write_text
from ood.training.checkpoint import Scratch, fingerprint
from ood.training.devices import accelerator_for, layout
from stages.console import Console

FIGURES = Path("metrics/dream/diffusion.json")


def main() -> None:
    """Write data/diffusion, and load it once as every later stage will."""
    params = Params()
    setting, runtime, naming = params[Diffusion], params[Runtime], world.naming(params)
    console = Console("diffusion")
    if not setting.enabled:
        return absent.leave(pipelines.DIFFUSION, FIGURES, console)
    accelerator = accelerator_for(runtime)
    settings = [setting.model_dump(mode="json"), naming.model_dump(), runtime.model_dump()]
    inputs = [packed.PREPARED / "id", packed.PREPARED / "world"]
    mark = fingerprint("stages/diffusion.py", settings, inputs, accelerator.device.type)
    with Scratch("diffusion", mark, [pipelines.DIFFUSION, FIGURES], owner=accelerator.is_main_process) as scratch:
        accelerator.wait_for_everyone()
        figures: dict[str, float] = {}
        if setting.model is None:
            data = world.captioned(naming)
            figures = small.train(data, setting.small, setting.seed, accelerator, scratch.path, console, layout(runtime))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            made, table = scratch.fresh("made"), scratch.path / "figures.json"
            if setting.model is None:
                (scratch.path / "pipeline").rename(made / "pipeline")
            pipelines.describe(made, setting.model, setting.revision)
            pipelines.load(accelerator.device, runtime, made)
            write_text(table, json.dumps(figures, indent=1) + "\n")
            scratch.publish({made: pipelines.DIFFUSION, table: FIGURES})
            console.note(", ".join(f"{key} {value:.4g}" for key, value in figures.items()) or f"{setting.model} loads")
    accelerator.end_training()
