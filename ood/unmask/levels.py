"""The level b at which a run's loss on ID is held: set by hand, or what the mask stage estimated, and what that is worth."""

from torch import Tensor
from typing_extensions import TypedDict

from ood.config.methods import FineTune
from ood.errors import InputError
from ood.handover import read_json
from ood.progress import Progress
from ood.unmask.constraint import Constraint, guessing
from ood.unmask.kept import ESTIMATES


class Estimate(TypedDict):
    """What the mask stage writes of a seed: the constraint, the loss of guessing, that without a mask, and whether it is small enough."""

    constraint: Constraint
    guessing: float
    dense_loss: float
    memorised: bool


Levels = dict[int, float | None]  # seed -> b, None for plain cross-entropy
Figures = dict[str, float | None]  # over seeds; None: of none


def estimated(constraint: Constraint, dense_loss: float, labels: Tensor, memorised: float) -> Estimate:
    """What is written of a seed. labels: of training images; memorised: the loss without a mask from which on there is little to forget."""
    return {"constraint": constraint, "guessing": guessing(labels), "dense_loss": dense_loss, "memorised": dense_loss < memorised}


def figures_of(found: Estimate) -> Figures:
    """A seed's estimate in numbers, as they are averaged over seeds."""
    b, std, _ = found["constraint"]
    figures: Figures = {"constraint": b, "constraint_std_over_masks": std, "guessing": found["guessing"]}
    destroyed = float(b >= found["guessing"])
    return figures | {"destroyed": destroyed, "dense_loss": found["dense_loss"], "memorised": float(found["memorised"])}


def told(total: Figures, init: str, memorised: float) -> list[str]:
    """The estimate on the run `init` in words, and what speaks against it."""
    lines = [f"loss constraint {total['constraint']:.4f} +- {total['constraint_std_over_masks']:.4f}, dense {total['dense_loss']:.4f}"]
    if total["destroyed"]:
        lines.append(
            f"in {total['destroyed']:.0%} of the seeds no better than guessing ({total['guessing']:.4f}): the masks have destroyed {init}, "
            "not shown what it has memorised. Raise keep, or mask the head alone (layers: head)."
        )
    if total["memorised"] != 1:
        lines.append(
            f"the base model has not memorised its training set: loss {total['dense_loss']:.4f} is not below mask.memorised = {memorised}. "
            f"UM has little to forget; the constraint means little. Train {init} longer."
        )
    return lines


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


def estimate(constraint: str, seed: int, progress: Progress) -> float:
    """What the mask stage estimated.

    Raises:
        InputError: it hasn't run.
    """
    path = ESTIMATES / constraint / f"{seed}.json"
    if not path.is_file():
        raise InputError(f"{path}: no estimate there. Run `python -m stages mask {constraint}` first, or set a threshold in params.yaml.")
    found = read_json(path, f"mask {constraint}", Estimate)
    b = found["constraint"].mean
    if b >= found["guessing"]:
        progress.note(
            f"seed {seed} is held at {b:.2f} nats, no better than guessing ({found['guessing']:.2f}): the masks have destroyed the "
            "network, not shown what it has memorised, and this run will forget everything. Mask fewer weights "
            f"(mask.runs.{constraint}.keep nearer to 1) or the head alone (layers: head), or set the run's threshold by hand."
        )
    return b
