"""Outlier Exposure (OE) and its relatives: train with auxiliary outliers, one named run each."""

from dataclasses import replace
from typing import Annotated

import typer

from ood.config import Params
from ood.config.methods import OE, OERun
from ood.config.training import Common
from ood.data import packed
from ood.data.batches import TrainingBatches, load, load_all
from ood.errors import InputError
from ood.nets import store
from ood.objectives import EnergyMargin, Objective, OutlierExposure
from ood.runs import Run, Start
from ood.tables import pick
from stages.console import Console


def main(run: Annotated[str, typer.Argument(help="one of oe.runs")]) -> None:
    """Train every seed from the run's `init` with its objective on the outliers."""
    params = Params()
    common, oe = Common.read(params), params.section("oe", OE)
    setting = pick(oe.runs, run, "oe.runs")
    recipe = setting.over(oe.training)
    folder = store.MODELS / setting.init

    def start(seed: int) -> Start:
        net, spec = store.load(folder / str(seed))
        b = spec.constraint if setting.constraint == "um" else None
        if setting.constraint == "um" and b is None:
            raise InputError(f"params.yaml: oe.runs.{run}.constraint: {setting.init} was trained without one. Start from um.")
        return Start(net, replace(spec, constraint=b), objective_for(setting, b))

    outliers = None if setting.objective == "none" else load_all(packed.names("auxiliary"))
    batches = TrainingBatches(load("id/train"), recipe.batch_size, common.augment, outliers, oe.outlier_batch)
    Run(
        entry="stages/oe.py",
        name=run,
        seeds=common.seeds,
        recipe=recipe,
        runtime=common.runtime,
        settings=[common, setting, recipe, oe.outlier_batch],
        inputs=[
            packed.PREPARED / "id",
            packed.PREPARED / "auxiliary",
            *(folder / str(seed) / name for seed in common.seeds for name in ("model.safetensors", "model.json")),
        ],
    ).train(start, batches, Console(f"oe {run}"))


def objective_for(setting: OERun, b: float | None) -> Objective:
    """The objective of a run, with the loss constraint b on its ID term."""
    if setting.objective == "uniform":
        return OutlierExposure(setting.outlier_weight, b)
    if setting.objective == "energy":
        return EnergyMargin(setting.outlier_weight, setting.m_in, setting.m_out, b)
    return Objective(b)
