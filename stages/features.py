"""Extract logits, features and ODIN scores of one model: the only forward pass that evaluation needs."""

from typing import Annotated

import typer

from ood.config import Params
from ood.config.evaluation import Features
from ood.config.training import Runtime, Seeds
from ood.data import packed
from ood.data.batches import load
from ood.evaluation.features import FEATURES, LABELLED, extract, extract_odin, save, scored
from ood.files import in_place_of
from ood.nets import store
from ood.training.devices import accelerator_for, placed
from stages.console import Console


def main(model: Annotated[str, typer.Argument(help="one of models")]) -> None:
    """Forward every prepared set but those that training saw, and ID as the diffusion model renders it, through every seed of a model."""
    params = Params()
    seeds, setting = params[Seeds].root, params[Features]
    runtime = params[Runtime]
    accelerator = accelerator_for(runtime)
    device, precision = accelerator.device, accelerator.autocast
    names = [f"id/{part}" for part in ("train", "val", "test")]
    names += [name for role in ("validation", "near", "far", *LABELLED) for name in packed.names(role)]
    sets = {name: load(name, workers=runtime.workers).to(device) for name in names}
    sets |= {name: load(name, packed.PROOFS).to(device) for name in packed.names("painted", packed.PROOFS)}
    console = Console(f"features {model}")
    console.begin(len(seeds), "seed")
    with in_place_of(FEATURES / model) as folder:
        for seed in seeds:
            net, spec = store.load(store.MODELS / model / str(seed))
            placed(net, device, runtime)
            tensors = {}
            for name, images in sets.items():
                tensors[name] = extract(net, images, setting.batch_size, console.step, precision)
                if setting.odin and scored(name):
                    tensors[name]["odin"] = extract_odin(net, images, setting.batch_size, setting.odin, console.step, precision)
            if spec.mask_keep is not None:
                dense = store.load(store.MODELS / model / str(seed), "dense")[0].to(device)
                for name in ("id/val", "id/test"):
                    plain = extract(dense, sets[name], setting.batch_size, console.step, precision)
                    tensors[name]["unmasked_logits"] = plain["logits"]
            save(folder / f"{seed}.safetensors", tensors, net)
            console.advance(f"seed {seed}")
