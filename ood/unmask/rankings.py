"""Rankings of training images by how atypical they are, and how well each finds those whose labels are wrong on purpose."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ood.config.methods import Forget
from ood.data.batches import generator_for
from ood.errors import InputError
from ood.unmask.kept import ranking

TYPICAL_IS_LARGE = ("aum",)  # of every other ranking the most atypical have the largest values


def atypicality(name: str, values: Tensor) -> NDArray:
    """A ranking's values, turned so that larger is more atypical."""
    return (-values if name in TYPICAL_IS_LARGE else values).double().numpy()


def found(rankings: dict[str, Tensor], wrong: NDArray) -> dict[str, dict[str, float]]:
    """How well each finds the images that are `wrong`, bool (N,): AUROC, and precision among the first, as many as there are wrong ones."""
    from sklearn.metrics import roc_auc_score

    if not 0 < wrong.sum() < len(wrong):
        return {}
    answers = {}
    for name, values in rankings.items():
        atypical = atypicality(name, values)
        first = np.argsort(-atypical, kind="stable")[: wrong.sum()]
        answers[name] = {"auroc": float(roc_auc_score(wrong, atypical)), "precision": float(wrong[first].mean())}
    return answers


def chosen(forget: Forget, share: float, run: str, seed: int, names: list[str]) -> Tensor:
    """The images to be forgotten, by their numbers, sorted: the most atypical by a mask run's ranking, or as many at random.

    Args:
        names: of the training images.

    Raises:
        InputError: the ranking isn't there, lacks the column, or is of other images; nothing would be left.
    """
    count = round(share * len(names))
    if count == len(names):
        raise InputError(
            f"data/mask/{run}: every training image would be forgotten (share {share:.3g}). Set forget.share, or train longer."
        )
    if forget.by == "random":
        return torch.randperm(len(names), generator=generator_for(seed, 0, 5))[:count].sort().values
    rows = {row["image"]: row for row in ranking(run, seed)}
    if rows.keys() != set(names):
        raise InputError(f"data/mask/{run}: ranks other images than data/prepared holds. Run `python -m stages mask {run}` again.")
    if forget.by not in next(iter(rows.values())):
        raise InputError(f"data/mask/{run}: has no ranking {forget.by!r}. Set mask.runs.{run}.epochs, and run mask again.")

    values = atypicality(forget.by, torch.tensor([float(rows[name][forget.by]) for name in names], dtype=torch.float64))
    return torch.from_numpy(np.sort(np.argsort(-values, kind="stable")[:count]))
