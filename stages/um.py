"""Unleash the mask (UM): fine-tune with the loss constraint until atypical samples are forgotten."""

from ood.config import Params
from ood.config.methods import UM
from ood.unmask.finetune import forget, level
from stages.console import Console


def main() -> None:
    """Fine-tune `mask.run` with |CE - b| + b; b is um.threshold, or the mask stage's estimate where that is null."""
    params = Params()
    um = params[UM]
    forget("stages/um.py", "um", params, um.training, level(um.threshold), Console("um"))
