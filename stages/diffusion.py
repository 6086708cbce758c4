"""Make the Stable Diffusion v1-format pipeline that paints: train a small one, or check the one that was named."""

import json
from pathlib import Path

import numpy as np
import torch

from ood.checkpoint import Scratch, fingerprint
from ood.compute import accelerator_for
from ood.config import Params
from ood.config.data import Chain
from ood.config.dream import Diffusion, Naming
from ood.config.training import Runtime
from ood.data import packed
from ood.data.batches import load
from ood.data.chain import ImageChain
from ood.data.packing import save_images
from ood.dream import painting, pipelines, small, world
from ood.files import remove, write_text
from stages.console import Console

FIGURES = Path("metrics/dream/diffusion.json")


def main() -> None:
    """Write data/diffusion (the pipeline) and data/round-trip (ID test images through its autoencoder, the control)."""
    params = Params()
    setting, prompts = params.section("diffusion", Diffusion), Naming.read(params)
    runtime, chain = params.section("runtime", Runtime), ImageChain(params.section("data.chain", Chain))
    console = Console("diffusion")
    accelerator = accelerator_for(runtime)
    device = accelerator.device
    settings = [setting.model_dump(mode="json"), prompts.template, prompts.names, runtime.model_dump(), chain.config.model_dump()]
    mark = fingerprint("stages/diffusion.py", settings, [packed.PREPARED / "id", packed.PREPARED / "world"], device.type)
    with Scratch("diffusion", mark, owner=accelerator.is_main_process) as scratch:
        figures: dict[str, float] = {}
        made = scratch.path / "made"
        if setting.model is None:
            data = world.captioned(prompts)
            figures = small.train(data, setting.small, setting.seed, accelerator, scratch.path, console)
        if accelerator.is_main_process:
            remove(made)
            made.mkdir()
            if setting.model is None:
                (scratch.path / "pipeline").rename(made / "pipeline")
            pipelines.describe(made, setting.model, setting.revision)
            pipeline = pipelines.load(device, runtime.precision, made)
            figures["round_trip_rmse"] = _round_trip(pipeline, chain, setting.round_trip, scratch.path / "round-trip")
            write_text(scratch.path / "figures.json", json.dumps(figures, indent=1) + "\n")
            outputs = {made: pipelines.DIFFUSION, scratch.path / "round-trip": packed.ROUND_TRIP, scratch.path / "figures.json": FIGURES}
            scratch.publish(outputs)
            console.note(", ".join(f"{key} {value:.4g}" for key, value in figures.items()))
    accelerator.end_training()


def _round_trip(pipeline: object, chain: ImageChain, most: int, folder: Path) -> float:
    """ID test images through autoencoder and image chain; returns their root mean squared change in [0, 1] units."""
    test = load("id/test")
    chosen = torch.from_numpy(np.linspace(0, len(test) - 1, min(most, len(test))).astype(np.int64))
    size = painting.image_size(pipeline)
    decoded = [
        painting.round_trip(pipeline.vae, small.enlarge(batch, size)) for batch in test.images[chosen].split(16 if size > 64 else 256)
    ]
    back = chain.finish(np.stack([chain.native(image) for image in np.concatenate(decoded)]))
    remove(folder)
    save_images(folder, "decoder/id-test", back, test.labels[chosen].numpy())
    before = test.images[chosen].permute(0, 2, 3, 1).numpy()
    return float(np.sqrt(np.mean((back / 255.0 - before / 255.0) ** 2)))
