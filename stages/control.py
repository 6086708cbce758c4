"""UM's control: the same fine-tune with plain cross-entropy."""

from ood.config import Params
from ood.config.methods import UM
from ood.unmask.finetune import forget
from stages.console import Console


def main() -> None:
    """Fine-tune `mask.run` by um.training without the constraint: what UM's restart does on its own."""
    params = Params()
    recipe = params[UM].training
    forget("stages/control.py", "control", params, recipe, lambda _seed: None, Console("control"))
