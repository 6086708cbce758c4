"""The aligned encoder as a classifier: class words are its head, and its maximum softmax is MCM's score."""

from ood.config import Params
from ood.config.dream import Diffusion
from ood.config.training import Seeds
from ood.data import packed
from ood.dream import absent, alignment
from ood.files import empty, in_place_of, seal
from ood.nets import store
from stages.console import Console


def main() -> None:
    """Write data/models/aligned/<seed>, for every seed the same: `align` trains one encoder."""
    params, console = Params(), Console("aligned")
    place = store.MODELS / alignment.MODEL
    if not params[Diffusion].enabled:
        empty(place)
        return console.note(absent.NOTICE)
    states, spec = alignment.as_classifier(packed.info().classes)
    with in_place_of(place, sealed=False) as folder:
        for seed in params[Seeds].root:
            store.save(folder / str(seed), states, spec)
            seal(folder / str(seed))
    return console.note(f"cosines with {len(spec.classes)} class words in {spec.projection} dimensions")
