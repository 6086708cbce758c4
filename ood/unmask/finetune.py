"""Forgetting what was memorised: UM trains weights under the loss constraint, UMAP a mask on frozen ones; controls have no constraint."""

from dataclasses import replace

from ood.config.methods import FineTune
from ood.config.training import Common, Training
from ood.data.batches import TrainingBatches, generator_for, load
from ood.nets import Classifier
from ood.nets.store import Spec
from ood.progress import Progress
from ood.training.finetune import fine_tune
from ood.training.frozen import Head
from ood.training.objectives import Objective
from ood.training.runs import Start
from ood.unmask.levels import Levels
from ood.unmask.masks import learn_masks, learned_states


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

    def start(seed: int, net: Classifier, spec: Spec) -> Start:
        begin = Start(net, replace(spec, constraint=b[seed], mask_keep=keep), Objective(b[seed]))
        if keep is not None:
            dense = {key: tensor.clone() for key, tensor in net.state_dict().items()}
            learn_masks(Head(net) if recipe.frozen else net, keep, generator_for(seed, 0, 3))
            begin.states = lambda trained: learned_states(trained, dense)
        return begin

    batches = TrainingBatches(load("id/train", workers=common.runtime.workers), recipe.batch_size, common.augment, strong=recipe.strong)
    fine_tune(entry, name, run.init, start, batches, common, recipe, progress, settings=[b, keep])
