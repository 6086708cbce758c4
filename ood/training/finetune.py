"""Fine-tuning: a run that goes on from another run's weights. What a method is, its `start` says: objective, what learns, what is kept."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ood.config.training import Common, Training
from ood.data import packed
from ood.data.batches import TrainingBatches
from ood.nets import Classifier, store
from ood.nets.store import Spec
from ood.progress import Progress
from ood.training.runs import Needs, Run, Start

StartFrom = Callable[[int, Classifier, Spec], Start]


def fine_tune(
    entry: str,
    name: str,
    init: str,
    start: StartFrom,
    batches: TrainingBatches,
    common: Common,
    recipe: Training,
    progress: Progress,
    *,
    settings: Iterable[Any] = (),
    inputs: Iterable[Path] = (),
    needs: Callable[[int], Needs] = lambda seed: Needs(),
) -> None:
    """Train every seed's network of the run `init` further and write data/models/<name>.

    Args:
        entry: the stage's file, for the fingerprint.
        start: seed, the network and its Spec as `init` left them -> where this training begins.
        settings, inputs: what the result depends on beside common, recipe, ID data and init's weights.
        needs: seed -> the same, of that seed alone.
    """
    folder = store.MODELS / init

    def begin(seed: int) -> Start:
        return start(seed, *store.load(folder / str(seed)))

    def of_seed(seed: int) -> Needs:
        own = needs(seed)
        return Needs(own.settings, [*(folder / str(seed) / file for file in ("model.safetensors", "model.json")), *own.inputs])

    Run(
        entry=entry,
        name=name,
        seeds=common.seeds,
        recipe=recipe,
        runtime=common.runtime,
        settings=[common.shared, recipe, *settings],
        inputs=[packed.PREPARED / "id", *inputs],
        needs=of_seed,
    ).train(begin, batches, progress)
