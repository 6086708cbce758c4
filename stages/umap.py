"""UM Adopts Pruning (UMAP, not the embedding method): learn a mask on frozen weights with the loss constraint, one named run each."""

from typing import Annotated

import typer

from ood.config import Params
from ood.config.methods import UMAP
from ood.config.training import Common
from ood.tables import pick
from ood.unmask.finetune import forget
from ood.unmask.levels import levels
from stages.console import Console


def main(run: Annotated[str, typer.Argument(help="one of umap.runs")]) -> None:
    """Learn a mask under |CE - b| + b, or under plain cross-entropy as control; the weights stay bit for bit."""
    params = Params()
    umap, common = params[UMAP], Common.read(params)
    setting = pick(umap.runs, run, "umap.runs")
    console = Console(f"umap {run}")
    b = levels(setting, umap.threshold, common.seeds, console)
    forget("stages/umap.py", run, setting, setting.over(umap.training), b, common, console, umap.kept(setting))
