"""Outlier Exposure (OE) and its relatives: train with auxiliary or dreamed outliers, one named run each."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from ood.config import Params
from ood.config.methods import OE, UM, OERun
from ood.config.training import Common
from ood.data import packed
from ood.data.batches import TrainingBatches, generator_for
from ood.data.sets import Images, load, load_all
from ood.dream import dreamed
from ood.nets import Classifier
from ood.nets.store import Spec
from ood.tables import pick
from ood.training.exposure import objective_for
from ood.training.finetune import fine_tune
from ood.training.mining import Miner
from ood.training.perturbation import Perturbation
from ood.training.runs import Needs, Start
from ood.unmask.levels import levels
from stages.console import Console


def main(run: Annotated[str, typer.Argument(help="one of oe.runs")]) -> None:
    """Train every seed from the run's `init` with its objective on the outliers."""
    params = Params()
    common, oe = Common.read(params), params[OE]
    setting, console = pick(oe.runs, run, "oe.runs"), Console(f"oe {run}")
    recipe, outlier_batch = setting.over(oe.training), setting.outlier_batch or oe.outlier_batch
    b = levels(setting, params[UM].threshold, common.seeds, console)

    def start(seed: int, net: Classifier, spec: Spec) -> Start:
        torch.manual_seed(generator_for(seed, 0, 4).initial_seed())  # phi's first weights
        objective, spec = objective_for(setting, b[seed], spec.confidence), replace(spec, constraint=b[seed], mask_keep=None)
        miner = Miner(setting.mine, console) if setting.mine else None
        return Start(net, spec, objective, miner=miner, perturbation=Perturbation(setting.perturb) if setting.perturb else None)

    inliers = load("id/train", workers=common.runtime.workers)
    outliers = outliers_for(setting, f"oe.runs.{run}", inliers, common.runtime.workers, console)
    batches = TrainingBatches(inliers, recipe.batch_size, common.augment, outliers, outlier_batch, recipe.strong)
    fine_tune(
        "stages/oe.py",
        run,
        setting.init,
        start,
        batches,
        common,
        recipe,
        console,
        settings=[setting, outlier_batch],
        inputs=[Path("data") / setting.outliers],
        needs=lambda seed: Needs([b[seed]]),
    )


def outliers_for(setting: OERun, key: str, inliers: Images, workers: int, console: Console) -> Images | None:
    """What a run trains with beside ID: auxiliary outliers, dreamed images that pass its cut (in files, if ID's are), or nothing."""
    if setting.objective == "none":
        return None
    if setting.dreamed is None or setting.cut is None:
        return load_all(packed.names("auxiliary"), workers=workers)
    images, share = dreamed.filtered(dreamed.load(setting.dreamed), setting.cut, setting.per_class, key, inliers)
    console.note(f"{share:.1%} of the dreamed images pass the cut {setting.cut:g}; trains with {len(images)}")
    return images
