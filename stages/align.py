"""DREAM-OOD, phase 1: align image features with the class words' embeddings; paint every class and see who agrees."""

import json
from dataclasses import replace
from pathlib import Path

import torch

from ood.checkpoint import Scratch, fingerprint
from ood.compute import accelerator_for
from ood.config import Params
from ood.config.data import Chain
from ood.config.dream import Align, Painting, Prompts
from ood.config.training import Augment, Net, Runtime
from ood.data import packed
from ood.data.batches import ImageSet, TrainingBatches, augmented_copy, generator_for, load
from ood.data.chain import ImageChain
from ood.dream import alignment, pipelines
from ood.dream.studio import Studio, seed_of
from ood.files import remove, write_text
from ood.nets import store
from ood.objectives import Objective
from ood.pictures import sheet_of_prompts
from ood.training import Trainer
from stages.console import Console

FIGURES, PICTURE = Path("metrics/dream/align.json"), Path("metrics/pictures/prompts.png")


def main() -> None:
    """Write data/align (encoder, features, anchors), the share of plain prompts that the encoder agrees with, and their picture."""
    params = Params()
    setting, prompts, painting = params.section("align", Align), params.section("prompts", Prompts), params.section("painting", Painting)
    runtime, augment, net = params.section("runtime", Runtime), params.section("augment", Augment), params.section("net", Net)
    chain, info, console = ImageChain(params.section("data.chain", Chain)), packed.info(), Console("align")
    accelerator = accelerator_for(runtime)
    pipeline = pipelines.load(accelerator.device, runtime.precision)
    anchors, report = alignment.anchors_from_names(pipeline.text_encoder, pipeline.tokenizer, prompts, info.classes)
    mark = fingerprint(
        "stages/align.py",
        [setting, prompts, painting, runtime, augment, net, chain.config],
        [packed.PREPARED / "id", pipelines.DIFFUSION],
        accelerator.device.type,
    )
    with Scratch("align", mark, owner=accelerator.is_main_process) as scratch:
        torch.manual_seed(generator_for(setting.seed, 0, 20).initial_seed())
        spec = replace(store.spec_for(net, info, normalize=False), classes=[str(i) for i in range(anchors.shape[1])])
        model = alignment.AlignedEncoder(spec.build(), anchors, setting.temperature)
        train, recipe = load("id/train"), setting.training
        console.begin(recipe.epochs, "epoch")
        trainer = Trainer(accelerator, runtime, recipe, scratch.path / "training", console)
        trainer.fit(model, Objective(), TrainingBatches(train, recipe.batch_size, augment), setting.seed)
        if accelerator.is_main_process:
            model.float().eval()
            views = augmented_copy(train, augment, generator_for(setting.seed, 0, 21))
            painted = _plain(Studio(pipeline, prompts, painting, chain), info.classes, setting)
            agreed = alignment.agreement(model, painted, accelerator.device)
            figures = {
                "validation_accuracy": float(alignment.agreement(model, load("id/val"), accelerator.device).mean()),
                "prompts_agreed": float(agreed.mean()),
                "prompts_agreed_by_class": {
                    name: float(agreed[(painted.labels == i).numpy()].mean()) for i, name in enumerate(info.classes)
                },
            }
            remove(scratch.path / "made")
            (scratch.path / "made").mkdir()
            store.save_weights(scratch.path / "made/encoder.safetensors", model.encoder.state_dict())
            features = alignment.forward(model.features, views, accelerator.device)
            alignment.save(scratch.path / "made", features, train.labels, anchors, report)
            write_text(scratch.path / "figures.json", json.dumps(figures, indent=1) + "\n")
            sheet_of_prompts(scratch.path / "prompts.png", painted.images.numpy(), agreed, [row["word"] for row in report])
            made = {"made": alignment.ALIGNED, "figures.json": FIGURES, "prompts.png": PICTURE}
            scratch.publish({scratch.path / name: target for name, target in made.items()})
            console.note(
                "right on {validation_accuracy:.1%} of ID validation, agrees with {prompts_agreed:.1%} of the prompts".format(**figures)
            )
    accelerator.end_training()


def _plain(studio: Studio, classes: list[str], setting: Align) -> ImageSet:
    """`samples` pictures of every class from its plain prompt."""
    count = setting.samples
    images = [studio.paint([name] * count, None, [seed_of(setting.seed, k, i) for i in range(count)]) for k, name in enumerate(classes)]
    return ImageSet(
        torch.cat([torch.from_numpy(i) for i in images]).permute(0, 3, 1, 2), torch.arange(len(classes)).repeat_interleave(count)
    )
