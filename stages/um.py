"""Unleash the mask (UM): fine-tune with the loss constraint until atypical samples are forgotten, one named run each."""

from typing import Annotated

import typer

from ood.config import Params
from ood.config.methods import UM
from ood.config.training import Common
from ood.tables import pick
from ood.unmask.finetune import forget
from ood.unmask.levels import levels
from stages.console import Console


def main(run: Annotated[str, typer.Argument(help="one of um.runs")]) -> None:
    """Fine-tune the run's `init` with |CE - b| + b, or with plain cross-entropy where it has no constraint: the control."""
    params = Params()
    um, common = params[UM], Common.read(params)
    setting = pick(um.runs, run, "um.runs")
    console = Console(f"um {run}")
    b = levels(setting, um.threshold, common.seeds, console)
    forget("stages/um.py", run, setting, setting.over(um.training), b, common, console)
