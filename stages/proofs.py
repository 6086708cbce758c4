"""Proofs: ID as the pipeline renders it - test images through its autoencoder, classes from their plain prompts - as controls."""

import json
from pathlib import Path

import numpy as np
import torch

from ood.config import Params
from ood.config.data import Data
from ood.config.dream import Diffusion, Painting, Prompts, Proofs
from ood.config.training import Runtime
from ood.data import packed
from ood.data.chain import ImageChain
from ood.data.packing import save_images
from ood.data.sets import load
from ood.drawing import notice
from ood.dream import absent, alignment, pipelines
from ood.dream.pictures import sheet_of_prompts
from ood.dream.studio import Studio
from ood.files import published, write_text
from ood.refusals import must_take
from ood.training.devices import accelerator_for
from stages.console import Console

FIGURES, PICTURE = Path("metrics/dream/proofs.json"), Path("metrics/pictures/prompts.png")


def main() -> None:
    """Write data/proofs: painted/round-trip, and painted/plain-prompts where the aligned encoder agrees; the share that it agrees with."""
    params = Params()
    setting, runtime, console = params[Proofs], params[Runtime], Console("proofs")
    if not params[Diffusion].enabled:
        notice(PICTURE, absent.NOTICE)
        return absent.leave(packed.PROOFS, FIGURES, console)
    must_take([packed.PROOFS, FIGURES, PICTURE])
    chain, classes = ImageChain(params[Data].chain), packed.info().classes
    device = accelerator_for(runtime).device
    studio = Studio(pipelines.load(device, runtime), params[Prompts], params[Painting], chain)
    console.begin(1 + len(classes), "set")
    test = load("id/test", workers=runtime.workers)
    chosen = torch.from_numpy(np.linspace(0, len(test) - 1, min(setting.round_trip, len(test))).astype(np.int64))
    originals = test.some(chosen)
    back = studio.round_trip(originals, console)
    change = np.abs(back.astype(int) - originals.permute(0, 2, 3, 1).numpy())
    console.advance("round trip")
    plain = studio.plain(classes, setting.samples, setting.seed, console)
    agreed = alignment.agreement(alignment.load_model(device), plain, device)
    figures = {
        "round_trip_rmse": float(np.sqrt(np.mean((change / 255) ** 2))),
        "round_trip_pixels_changed": float((change > 0).mean()),
        "prompts_agreed": float(agreed.mean()),
        "prompts_agreed_by_class": {name: float(agreed[(plain.labels == i).numpy()].mean()) for i, name in enumerate(classes)},
    }
    with published(FIGURES, PICTURE, folder=packed.PROOFS) as (folder, table, picture):
        save_images(folder, "painted/round-trip", back, test.labels[chosen].numpy())
        kept = plain.images[agreed].permute(0, 2, 3, 1).numpy()
        if len(kept):
            save_images(folder, "painted/plain-prompts", kept, plain.labels[agreed].numpy())
        write_text(table, json.dumps(figures, indent=1) + "\n")
        sheet_of_prompts(picture, plain.images.numpy(), agreed, [studio.prompts.word(name) for name in classes])
    console.note(f"the aligned encoder agrees with {agreed.mean():.1%} of the plain prompts' pictures")
