"""A kept epoch of a pretraining run as a model of its own, to start from, to mask, to evaluate."""

from typing import Annotated

import typer

from ood.config import Params
from ood.config.training import Epochs, Seeds
from ood.files import in_place_of
from ood.nets import store
from ood.tables import pick
from stages.console import Console


def main(name: Annotated[str, typer.Argument(help="one of epochs")]) -> None:
    """Write data/models/<name>: every seed's network as that epoch left it."""
    params = Params()
    chosen = pick(params[Epochs].root, name, "epochs")
    with in_place_of(store.MODELS / name) as folder:
        for seed in params[Seeds].root:
            store.keep_epoch(store.MODELS / chosen.run / str(seed), chosen.epoch, folder / str(seed))
    Console(f"epoch {name}").note(f"epoch {chosen.epoch} of {chosen.run}")
