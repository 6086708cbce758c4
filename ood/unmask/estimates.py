"""What the mask stage finds out of a seed's network, as it is written, averaged and told."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ood.unmask.atypical import Atypical
from ood.unmask.constraint import Constraint, guessing
from ood.unmask.epochs import OverEpochs
from ood.unmask.levels import Estimate
from ood.unmask.rankings import found

FOUND = ("auroc_", "precision_")  # how the figures begin that say how well a ranking, whose name follows, finds wrong labels
Figures = dict[str, float | None]  # over seeds; None: of none


def estimated(
    constraint: Constraint, atypical: Atypical, epochs: OverEpochs | None, labels: Tensor, true: NDArray | None, memorised: float
) -> Estimate:
    """What is written of a seed.

    Args:
        labels: of training images; true: what they should be, where they are wrong on purpose.
        memorised: the loss without a mask from which on there is little to forget.
    """
    dense_loss = float(atypical.loss.mean())
    wrong = None if true is None else labels.numpy() != true
    return {
        "constraint": constraint,
        "guessing": guessing(labels),
        "dense_loss": dense_loss,
        "memorised": dense_loss < memorised,
        "contradicted": None if epochs is None else epochs.contradicted(labels),
        "first": None if epochs is None else epochs.first,
        "mislabelled": None if wrong is None else float(wrong.mean()),
        "found": {} if wrong is None else found(atypical.rankings(epochs), wrong),
    }


def figures_of(seen: Estimate) -> Figures:
    """A seed's estimate in numbers, as they are averaged over seeds."""
    b, std, _ = seen["constraint"]
    figures: Figures = {"constraint": b, "constraint_std_over_masks": std, "guessing": seen["guessing"]}
    destroyed = float(b >= seen["guessing"])
    figures |= {"destroyed": destroyed, "dense_loss": seen["dense_loss"], "memorised": float(seen["memorised"])}
    if seen["contradicted"] is not None:
        figures |= {"contradicted": seen["contradicted"], "first_looks": seen["first"]}
    if seen["mislabelled"] is not None:
        figures |= {"mislabelled": seen["mislabelled"]}
    return figures | {f"{key}_{name}": value for name, two in seen["found"].items() for key, value in two.items()}


def spreads(seen: list[Figures]) -> Figures:
    """Over seeds, the standard deviation (n - 1) of how well each ranking finds wrong labels; nothing where that isn't known, or of one."""
    names = [name for name in seen[0] if name.startswith(FOUND)] if len(seen) > 1 else []
    return {f"{name}_std": float(np.std(np.array([figures[name] for figures in seen], float), ddof=1)) for name in names}


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
    if total.get("contradicted") is not None:
        known = "" if total.get("mislabelled") is None else f" ({total['mislabelled']:.1%} are wrong on purpose)"
        lines.append(f"the first epochs contradict {total['contradicted']:.1%} of the training labels{known}")
    return lines
