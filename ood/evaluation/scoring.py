"""From cached tensors to scores: every wanted score of every set."""

from collections.abc import Iterable

from numpy.typing import NDArray

from ood.config.evaluation import Scores
from ood.detection import detectors
from ood.detection.detectors import Outputs
from ood.detection.from_images import FROM_IMAGES
from ood.errors import InputError
from ood.evaluation.features import Cached, scored

Table = dict[str, dict[str, NDArray]]  # score -> set -> (N,)


def score_all(cached: Cached, setting: Scores, own: Iterable[str] = ()) -> Table:
    """Every wanted score of every set but the training one; those that need the images only where they were extracted.

    Args:
        own: every model's own score: computed whatever setting.used says, for methods are compared on both their own scores.

    Raises:
        InputError: a setting that these features can't serve.
    """
    head, train, validation = cached.head, cached.sets["id/train"], cached.sets["id/val"]
    asked = detectors.wanted(setting, own, head=head)
    names = [name for name in asked if name not in FROM_IMAGES or name in validation]
    cheap = [name for name in names if name not in FROM_IMAGES]
    seen = Outputs.of(head, train["logits"], train["features"])
    try:
        fitted = detectors.fit(cheap, head, seen, train["labels"], validation["logits"], setting)
    except ValueError as error:
        raise InputError(f"params.yaml: scores: {error}. Lower the value.") from None
    table: Table = {name: {} for name in names}
    for name, tensors in cached.sets.items():
        if scored(name):
            outputs = Outputs.of(head, tensors["logits"], tensors["features"])
            for score in names:
                values = fitted[score](outputs) if score in fitted else tensors[score]
                table[score][name] = values.double().numpy()
    return table
