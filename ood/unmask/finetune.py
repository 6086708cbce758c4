"""Forgetting what was memorised: UM trains weights under the loss constraint, UMAP a mask on frozen ones; controls have no constraint.

The paper holds the mean loss of a batch. Selective unmasking (config.methods.Forget) forgets the atypical images alone.
"""

from dataclasses import replace
from functools import partial

from torch import Tensor

from ood.config.methods import FineTune, Forget, UMRun
from ood.config.training import Common, Training
from ood.data import packed
from ood.data.batches import TrainingBatches, generator_for
from ood.data.sets import load
from ood.nets import Classifier
from ood.nets.store import Spec
from ood.progress import Progress
from ood.training.finetune import fine_tune
from ood.training.frozen import Head
from ood.training.objectives import Objective, SelectiveConstraint
from ood.training.runs import Needs, Start
from ood.unmask.levels import Levels, share
from ood.unmask.masks import learn_masks, learned_states
from ood.unmask.rankings import chosen


def forget(
    entry: str,
    name: str,
    run: FineTune,
    recipe: Training,
    b: Levels,
    common: Common,
    progress: Progress,
    keep: float | None = None,
) -> None:
    """Train every seed of the run's init further on ID data alone and write data/models/<name>.

    Args:
        keep: None trains the weights (UM); a share freezes them and trains a mask that keeps this share (UMAP).
    """
    selective = run.forget if isinstance(run, UMRun) else None
    atypical = {} if selective is None else {seed: _atypical(selective, run.constraint, seed, progress) for seed in common.seeds}

    def start(seed: int, net: Classifier, spec: Spec) -> Start:
        begin = Start(net, replace(spec, constraint=b[seed], mask_keep=keep), Objective(b[seed]))
        if selective is not None and selective.how == "drop":
            begin.sees = partial(TrainingBatches.without, index=atypical[seed])
        elif selective is not None:
            begin.objective, begin.sees = SelectiveConstraint(b[seed]), partial(TrainingBatches.marking, index=atypical[seed])
        if keep is not None:
            dense = {key: tensor.clone() for key, tensor in net.state_dict().items()}
            learn_masks(Head(net) if recipe.frozen else net, keep, generator_for(seed, 0, 3))
            begin.states = lambda trained: learned_states(trained, dense)
        return begin

    batches = TrainingBatches(load("id/train", workers=common.runtime.workers), recipe.batch_size, common.augment, strong=recipe.strong)
    fine_tune(
        entry,
        name,
        run.init,
        start,
        batches,
        common,
        recipe,
        progress,
        settings=[keep, selective],
        needs=lambda seed: Needs([b[seed], atypical[seed].tolist() if atypical else None]),
    )


def _atypical(forget: Forget, constraint: str, seed: int, progress: Progress) -> Tensor:
    """The images that are forgotten in a seed."""
    names = packed.item_names("id/train")
    found = chosen(forget, share(forget, constraint, seed), constraint, seed, names)
    what = "left out" if forget.how == "drop" else "held at b"
    progress.note(f"seed {seed}: {len(found)} of {len(names)} training images are {what} (by {forget.by.replace('_', ' ')})")
    return found
