"""Fine-tuning a pretrained run on ID data: UM, UMAP and their controls, which differ in the level b and in what learns."""

import json
from collections.abc import Callable
from dataclasses import replace

from ood.config import Params
from ood.config.training import Common, Name, Training
from ood.data import packed
from ood.data.batches import TrainingBatches, generator_for, load
from ood.errors import InputError
from ood.nets import store
from ood.progress import Progress
from ood.training.objectives import Objective
from ood.training.runs import Run, Start
from ood.unmask.constraint import ESTIMATES
from ood.unmask.masks import learn_masks

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


def fine_tune(
    entry: str, name: str, params: Params, recipe: Training, b: Level, progress: Progress, mask_keep: float | None = None
) -> None:
    """Train every seed of the run in `mask.run` further and write data/models/<name>.

    Args:
        b: seed -> loss constraint, None for plain cross-entropy (the controls).
        mask_keep: None trains the weights (UM); a share freezes them and trains a mask that keeps this share (UMAP).
    """
    common, run = Common.read(params), params.section("mask.run", Name)
    folder, levels = store.MODELS / run, {seed: b(seed) for seed in common.seeds}

    def start(seed: int) -> Start:
        net, spec = store.load(folder / str(seed))
        spec = replace(spec, constraint=levels[seed], mask_keep=mask_keep)
        dense = None
        if mask_keep is not None:
            dense = {key: tensor.clone() for key, tensor in net.state_dict().items()}
            learn_masks(net, mask_keep, generator_for(seed, 0, 3))
        return Start(net, spec, Objective(levels[seed]), dense)

    train = load("id/train", workers=common.runtime.workers)
    Run(
        entry=entry,
        name=name,
        seeds=common.seeds,
        recipe=recipe,
        runtime=common.runtime,
        settings=[common, recipe, levels, mask_keep],
        inputs=[
            packed.PREPARED / "id",
            *(folder / str(seed) / name for seed in common.seeds for name in ("model.safetensors", "model.json")),
        ],
    ).train(start, TrainingBatches(train, recipe.batch_size, common.augment, strong=recipe.strong), progress)
