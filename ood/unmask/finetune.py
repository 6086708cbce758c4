"""Forgetting what was memorised: UM trains weights under the loss constraint, UMAP a mask on frozen ones; controls have no constraint."""

import json
from collections.abc import Callable
from dataclasses import replace

from ood.config import Params
from ood.config.methods import Mask
from ood.config.training import Common, Training
from ood.data.batches import TrainingBatches, generator_for, load
from ood.errors import InputError
from ood.nets import Classifier
from ood.nets.store import Spec
from ood.progress import Progress
from ood.training.finetune import fine_tune
from ood.training.objectives import Objective
from ood.training.runs import Start
from ood.unmask.constraint import ESTIMATES
from ood.unmask.masks import learn_masks, learned_states

Level = Callable[[int], float | None]


def estimated_constraint(seed: int) -> float:
    """The loss constraint that the mask stage estimated for a seed's model.

    Raises:
        InputError: the mask stage hasn't run.
    """
    path = ESTIMATES / f"{seed}.json"
    if not path.is_file():
        raise InputError(f"{path}: no estimate there. Run `python -m stages mask` first, or set the threshold in params.yaml.")
    return json.loads(path.read_text(encoding="utf-8"))["constraint"]["mean"]


def level(threshold: float | None) -> Level:
    """seed -> b: the given threshold, or the estimate where it is null."""
    return estimated_constraint if threshold is None else lambda _seed: threshold


def forget(entry: str, name: str, params: Params, recipe: Training, b: Level, progress: Progress, keep: float | None = None) -> None:
    """Train every seed of the run in `mask.run` further and write data/models/<name>.

    Args:
        b: seed -> loss constraint, None for plain cross-entropy (the controls).
        keep: None trains the weights (UM); a share freezes them and trains a mask that keeps this share (UMAP).
    """
    common = Common.read(params)
    levels = {seed: b(seed) for seed in common.seeds}

    def start(seed: int, net: Classifier, spec: Spec) -> Start:
        begin = Start(net, replace(spec, constraint=levels[seed], mask_keep=keep), Objective(levels[seed]))
        if keep is not None:
            dense = {key: tensor.clone() for key, tensor in net.state_dict().items()}
            learn_masks(net, keep, generator_for(seed, 0, 3))
            begin.states = lambda trained: learned_states(trained, dense)
        return begin

    batches = TrainingBatches(load("id/train", workers=common.runtime.workers), recipe.batch_size, common.augment, strong=recipe.strong)
    fine_tune(entry, name, params[Mask].run, start, batches, common, recipe, progress, settings=[levels, keep])
