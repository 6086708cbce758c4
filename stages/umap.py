"""UM Adopts Pruning (UMAP, not the embedding method): learn a mask on frozen weights with the loss constraint."""

from ood.config import Params
from ood.config.methods import UMAP
from ood.unmask.finetune import forget, level
from stages.console import Console


def main() -> None:
    """Learn a mask that keeps umap.keep of every layer's weights under |CE - b| + b; the weights stay bit for bit."""
    params = Params()
    umap = params[UMAP]
    forget("stages/umap.py", "umap", params, umap.training, level(umap.threshold), Console("umap"), umap.keep)
