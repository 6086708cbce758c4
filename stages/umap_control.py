"""UMAP's control: the same mask learning with plain cross-entropy."""

from ood.config import Params
from ood.config.methods import KeepRate
from ood.config.training import Training
from ood.unmask.finetune import fine_tune
from stages.console import Console


def main() -> None:
    """Learn a mask by umap.training and umap.keep without the constraint: what pruning does on its own."""
    params = Params()
    recipe = params.section("umap.training", Training)
    keep = params.section("umap.keep", KeepRate)
    fine_tune("stages/umap_control.py", "umap-control", params, recipe, lambda _seed: None, Console("umap-control"), keep)
