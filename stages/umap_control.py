"""UMAP's control: the same mask learning with plain cross-entropy."""

from ood.config import Params
from ood.config.methods import UMAP
from ood.unmask.finetune import forget
from stages.console import Console


def main() -> None:
    """Learn a mask by umap.training and umap.keep without the constraint: what pruning does on its own."""
    params = Params()
    recipe = params[UMAP].training
    keep = params[UMAP].keep
    forget("stages/umap_control.py", "umap-control", params, recipe, lambda _seed: None, Console("umap-control"), keep)
