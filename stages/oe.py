"""Outlier Exposure (OE) and its relatives: train with auxiliary or dreamed outliers, one named run each."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from ood.config import Params
from ood.config.methods import OE, OERun
from ood.config.training import Common
from ood.data import packed
from ood.data.batches import Images, TrainingBatches, generator_for, load, load_all
from ood.dream import dreamed
from ood.errors import InputError
from ood.nets import store
from ood.tables import pick
from ood.training.objectives import EnergyMargin, EnergyRegularizer, LabelledInliers, Objective, OutlierExposure
from ood.training.runs import Run, Start
from stages.console import Console


def main(run: Annotated[str, typer.Argument(help="one of oe.runs")]) -> None:
    """Train every seed from the run's `init` with its objective on the outliers."""
    params = Params()
    common, oe = Common.read(params), params[OE]
    setting = pick(oe.runs, run, "oe.runs")
    recipe, outlier_batch = setting.over(oe.training), setting.outlier_batch or oe.outlier_batch
    folder, console = store.MODELS / setting.init, Console(f"oe {run}")

    def start(seed: int) -> Start:
        net, spec = store.load(folder / str(seed))
        b = spec.constraint if setting.constraint == "um" else None
        if setting.constraint == "um" and b is None:
            raise InputError(f"params.yaml: oe.runs.{run}.constraint: {setting.init} was trained without one. Start from um.")
        torch.manual_seed(generator_for(seed, 0, 4).initial_seed())  # phi's first weights
        return Start(net, replace(spec, constraint=b), objective_for(setting, b))

    outliers = outliers_for(setting, f"oe.runs.{run}", common.runtime.workers, console)
    inliers = load("id/train", workers=common.runtime.workers)
    Run(
        entry="stages/oe.py",
        name=run,
        seeds=common.seeds,
        recipe=recipe,
        runtime=common.runtime,
        settings=[common, setting, recipe, outlier_batch],
        inputs=[
            packed.PREPARED / "id",
            Path("data") / setting.outliers,
            *(folder / str(seed) / name for seed in common.seeds for name in ("model.safetensors", "model.json")),
        ],
    ).train(start, TrainingBatches(inliers, recipe.batch_size, common.augment, outliers, outlier_batch, recipe.strong), console)


def outliers_for(setting: OERun, key: str, workers: int, console: Console) -> Images | None:
    """What a run trains with beside ID: auxiliary outliers, dreamed images that pass its cut, or nothing."""
    if setting.objective == "none":
        return None
    if setting.dreamed is None:
        return load_all(packed.names("auxiliary"), workers=workers)
    images, share = dreamed.filtered(dreamed.load(setting.dreamed), setting.cut, setting.per_class, key)
    console.note(f"{share:.1%} of the dreamed images pass the cut {setting.cut:g}; trains with {len(images)}")
    return images


def objective_for(setting: OERun, b: float | None) -> Objective:
    """The objective of a run, with the loss constraint b on its ID term."""
    match setting.objective:
        case "uniform":
            return OutlierExposure(setting.outlier_weight, b)
        case "energy":
            return EnergyMargin(setting.outlier_weight, setting.m_in, setting.m_out, b)
        case "dream":
            return EnergyRegularizer(setting.outlier_weight, setting.phi, b)
        case "label":
            return LabelledInliers()
        case _:
            return Objective(b)
