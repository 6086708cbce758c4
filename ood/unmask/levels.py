"""What a run takes from the mask stage: the level b at which its loss on ID is held, or how many images it forgets, if not set by hand."""

from typing_extensions import TypedDict

from ood.config.methods import FineTune, Forget
from ood.errors import InputError
from ood.handover import read_json
from ood.progress import Progress
from ood.unmask.constraint import Constraint
from ood.unmask.kept import ESTIMATES


class Estimate(TypedDict):
    """What the mask stage writes of a seed: the constraint, the loss of guessing, that without a mask, and whether it is small enough.

    contradicted: the share of training labels that the first epochs contradict; first: how many looks these are; None where no epoch was
    looked at. mislabelled: the share that is wrong on purpose, as far as that is known; found: how well each ranking finds these.
    """

    constraint: Constraint
    guessing: float
    dense_loss: float
    memorised: bool
    contradicted: float | None
    first: int | None
    mislabelled: float | None
    found: dict[str, dict[str, float]]


Levels = dict[int, float | None]  # seed -> b, None for plain cross-entropy


def levels(run: FineTune, threshold: float | None, seeds: list[int], progress: Progress) -> Levels:
    """Every seed's b in nats: the run's own threshold, else its stage's, else the estimate on the same seed's network.

    Args:
        progress: hears of an estimate under which a network forgets everything.

    Raises:
        InputError: an estimate is needed, and the mask stage hasn't run.
    """
    if not run.constrained:
        return dict.fromkeys(seeds)
    given = run.given(threshold)
    return {seed: estimate(run.constraint, seed, progress) if given is None else given for seed in seeds}


def share(forget: Forget, constraint: str, seed: int) -> float:
    """The share of training images to be forgotten: as it is set, or as many as the first epochs contradict.

    Raises:
        InputError: the mask stage hasn't run, or has looked at no epochs.
    """
    if forget.share is not None:
        return forget.share
    contradicted = read_estimate(constraint, seed)["contradicted"]
    if contradicted is None:
        raise InputError(f"data/mask/{constraint}: looked at no epochs. Set mask.runs.{constraint}.epochs, and run mask again.")
    return contradicted


def read_estimate(constraint: str, seed: int) -> Estimate:
    """What the mask stage wrote of a seed.

    Raises:
        InputError: it hasn't run.
    """
    path = ESTIMATES / constraint / f"{seed}.json"
    if not path.is_file():
        raise InputError(f"{path}: no estimate there. Run `python -m stages mask {constraint}` first, or set a threshold in params.yaml.")
    return read_json(path, f"mask {constraint}", Estimate)


def estimate(constraint: str, seed: int, progress: Progress) -> float:
    """What the mask stage estimated.

    Raises:
        InputError: it hasn't run.
    """
    seen = read_estimate(constraint, seed)
    b = seen["constraint"].mean
    if b >= seen["guessing"]:
        progress.note(
            f"seed {seed} is held at {b:.2f} nats, no better than guessing ({seen['guessing']:.2f}): the masks have destroyed the "
            "network, not shown what it has memorised, and this run will forget everything. Mask fewer weights "
            f"(mask.runs.{constraint}.keep nearer to 1) or the head alone (layers: head), or set the run's threshold by hand."
        )
    return b
