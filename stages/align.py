"""DREAM-OOD, phase 1: align image features with the token embeddings of the class words."""

import json
from dataclasses import replace
from pathlib import Path

import torch

from ood.config import Params
from ood.config.dream import Align, Diffusion, Prompts
from ood.config.nets import Net
from ood.config.training import Augment, Runtime
from ood.data import packed
from ood.data.batches import TrainingBatches, augmented_copy, generator_for
from ood.data.sets import load, some
from ood.dream import absent, alignment, pipelines
from ood.files import write_text
from ood.nets import store, weights
from ood.training.checkpoint import Scratch, fingerprint
from ood.training.devices import accelerator_for
from ood.training.loop import Trainer
from ood.training.objectives import Objective
from stages.console import Console

FIGURES = Path("metrics/dream/align.json")


def main() -> None:
    """Write data/align: the encoder, features of all training images, the anchors, and how each class word was tokenised."""
    params = Params()
    setting, prompts, console = params[Align], params[Prompts], Console("align")
    if not params[Diffusion].enabled:
        return absent.leave(alignment.ALIGNED, FIGURES, console)
    runtime, augment = params[Runtime], params[Augment]
    net, info = setting.net or params[Net], packed.info()
    accelerator = accelerator_for(runtime)
    device = accelerator.device
    pipeline = pipelines.load(torch.device("cpu"), runtime)
    anchors, report = alignment.anchors_from_names(pipeline.text_encoder, pipeline.tokenizer, prompts, info.classes, setting.anchors)
    del pipeline
    settings, inputs = [setting, prompts, runtime, augment, net], [packed.PREPARED / "id", pipelines.DIFFUSION]
    inputs += [setting.anchors] if setting.anchors else []
    inputs += net.files
    mark = fingerprint("stages/align.py", settings, inputs, device.type)
    with Scratch("align", mark, [alignment.ALIGNED, FIGURES], owner=accelerator.is_main_process) as scratch:
        accelerator.wait_for_everyone()
        torch.manual_seed(generator_for(setting.seed, 0, 20).initial_seed())
        spec = replace(store.spec_for(net, info, normalize=False), classes=[str(i) for i in range(anchors.shape[1])])
        train, recipe = load("id/train", workers=runtime.workers), setting.training
        encoder = spec.build()
        if encoder.sees:
            encoder.see(some(train))
        if net.weights:
            weights.fill(encoder, net, net.weights, whole=False, classes=info.classes)
        model = alignment.AlignedEncoder(encoder, anchors, setting.temperature)
        console.begin(recipe.epochs, "epoch")
        trainer = Trainer(accelerator, runtime, recipe, scratch.path / "training", console)
        history = trainer.fit(model, Objective(), TrainingBatches(train, recipe.batch_size, augment, strong=recipe.strong), setting.seed)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            model.float().eval()
            views = augmented_copy(train, augment, generator_for(setting.seed, 0, 21))
            figures = {
                "validation_accuracy": float(alignment.agreement(model, load("id/val", workers=runtime.workers), device).mean()),
                "training_loss": history[-1]["loss"] if history else None,
            }
            made, table = scratch.fresh("made"), scratch.path / "figures.json"
            alignment.save(made, model, spec, alignment.run(model.features, views, device), train.labels, anchors, report)
            write_text(table, json.dumps(figures, indent=1) + "\n")
            scratch.publish({made: alignment.ALIGNED, table: FIGURES})
            console.note(f"the encoder is right on {figures['validation_accuracy']:.1%} of ID validation")
    accelerator.end_training()
