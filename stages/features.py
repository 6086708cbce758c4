"""Extract logits, features and scores that need the images of one model: the only forward pass that evaluation needs."""

from typing import Annotated

import typer
from torch import Tensor

from ood.config import Params
from ood.config.evaluation import Features
from ood.config.training import Runtime, Seeds
from ood.data import packed
from ood.data.sets import Images, load
from ood.detection.from_images import from_images
from ood.evaluation.features import FEATURES, LABELLED, extract, extract_score, save, scored, through_head, training_part
from ood.files import in_place_of
from ood.nets import Classifier, store
from ood.training.devices import accelerator_for, placed
from ood.training.frozen import features as features_of
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
    sets = {name: load(name, workers=runtime.workers) for name in names}
    sets["id/train"] = training_part(sets["id/train"], setting.train)
    sets = {name: images.to(device) for name, images in sets.items()}
    sets |= {name: load(name, packed.PROOFS).to(device) for name in packed.names("painted", packed.PROOFS)}
    console = Console(f"features {model}")
    console.begin(len(seeds), "seed")

    def through(net: Classifier, images: Images, *, frozen: bool) -> dict[str, Tensor]:
        """A set's outputs; other models have the same backbone where it is frozen, so its part is there already."""
        if frozen:
            return through_head(net, features_of(net, images, device, console))
        return extract(net, images, setting.batch_size, console.step, precision)

    with in_place_of(FEATURES / model) as folder:
        for seed in seeds:
            net, spec = store.load(store.MODELS / model / str(seed))
            placed(net, device, runtime)
            tensors, asked = {}, from_images(setting.odin, turns=net.rotation is not None)
            for name, images in sets.items():
                tensors[name] = through(net, images, frozen=spec.frozen)
                for key, score in (asked if scored(name) else {}).items():
                    tensors[name][key] = extract_score(net, images, setting.batch_size, score, console.step, precision)
            if spec.mask_keep is not None:
                dense = store.load(store.MODELS / model / str(seed), "dense")[0].to(device)
                for name in ("id/val", "id/test"):
                    tensors[name]["unmasked_logits"] = through(dense, sets[name], frozen=spec.frozen)["logits"]
            save(folder / f"{seed}.safetensors", tensors, net, unseen=spec.frozen and spec.unseen)
            console.advance(f"seed {seed}")
