"""The level b at which a run's loss on ID is held: set by hand, or what the mask stage estimated."""

from typing_extensions import TypedDict

from ood.config.methods import FineTune
from ood.errors import InputError
from ood.handover import read_json
from ood.unmask.constraint import ESTIMATES, Constraint


class Estimate(TypedDict):
    """What the mask stage writes of a seed: the constraint, the loss without a mask, and whether that is small enough."""

    constraint: Constraint
    dense_loss: float
    memorised: bool


Levels = dict[int, float | None]  # seed -> b, None for plain cross-entropy


def levels(run: FineTune, threshold: float | None, seeds: list[int]) -> Levels:
    """Every seed's b in nats: the run's own threshold, else its stage's, else the estimate on the same seed's network.

    Raises:
        InputError: an estimate is needed, and the mask stage hasn't run.
    """
    if not run.constrained:
        return dict.fromkeys(seeds)
    given = run.given(threshold)
    return {seed: estimate(run.constraint, seed) if given is None else given for seed in seeds}


def estimate(constraint: str, seed: int) -> float:
    """What the mask stage estimated.

    Raises:
        InputError: it hasn't run.
    """
    path = ESTIMATES / constraint / f"{seed}.json"
    if not path.is_file():
        raise InputError(f"{path}: no estimate there. Run `python -m stages mask {constraint}` first, or set a threshold in params.yaml.")
    return read_json(path, f"mask {constraint}", Estimate)["constraint"].mean
