"""Pretrain a classifier on ID data, from scratch or from given weights: cross-entropy, plain or on L2-normalised features."""

from pathlib import Path
from typing import Annotated

import torch
import typer

from ood.config import Params
from ood.config.nets import Net
from ood.config.training import Common, Pretrain, PretrainRun
from ood.data import packed
from ood.data.batches import TrainingBatches, generator_for
from ood.data.sets import load, some
from ood.nets import weights, worded
from ood.nets.store import spec_for
from ood.tables import pick
from ood.training.devices import set_up_cpu
from ood.training.objectives import Confidence, LogitNorm, Objective, RotationPrediction
from ood.training.runs import Run, Start
from stages.console import Console


def objective_for(setting: PretrainRun) -> Objective:
    """What a run is taught."""
    if setting.confidence is not None:
        return Confidence(setting.confidence)
    if setting.rotation is not None:
        return RotationPrediction(setting.rotation)
    return Objective() if setting.tau is None else LogitNorm(setting.tau)


def main(run: Annotated[str, typer.Argument(help="one of pretrain.runs")]) -> None:
    """Train every seed of a run; keeps the weights of its epochs."""
    params = Params()
    common, pretrain = Common.read(params), params[Pretrain]
    setting = pick(pretrain.runs, run, "pretrain.runs")
    net, recipe = setting.net or params[Net], setting.over(pretrain.training)
    info, source = packed.info(), setting.weights or net.weights
    whole = setting.weights is not None
    set_up_cpu(common.runtime)  # of which the words' last bits depend
    said = None if setting.words is None else worded.read(net, setting.words, info.classes)
    count = 0 if said is None or said.negatives is None else len(said.negatives)
    normal = setting.normalize or said is not None
    spec = spec_for(net, info, normal, whole=whole, confidence=setting.confidence, rotation=setting.rotation, negatives=count)

    def start(seed: int) -> Start:
        torch.manual_seed(generator_for(seed, 0, 2).initial_seed())
        classifier = spec.build(blank=source is not None)
        if classifier.sees:
            classifier.see(some(train))
        if source is not None:
            weights.fill(classifier, net, source, whole=whole, classes=info.classes)
        if said is not None:
            worded.put(classifier, *said)
        return Start(classifier, spec, objective_for(setting))

    train = load("id/train", workers=common.runtime.workers)
    Run(
        entry="stages/pretrain.py",
        name=run,
        seeds=common.seeds,
        recipe=recipe,
        runtime=common.runtime,
        settings=[common.shared, net, setting, recipe, pretrain.keep_epochs, spec.config],
        inputs=[packed.PREPARED / "id", *net.files, *(path for path in [Path(setting.weights or "")] if path.is_file())],
        lasting=not net.elsewhere,
        keep=lambda epoch: pretrain.keeps(epoch, recipe.epochs),
    ).train(
        start,
        TrainingBatches(train, recipe.batch_size, setting.augment or common.augment, strong=recipe.strong),
        Console(f"pretrain {run}"),
    )
