"""The aligned encoder as a classifier: class words are its head. Its maximum softmax is MCM's score; NegLabel's takes other words too."""

import torch

from ood.config import Params
from ood.config.dream import Align, Aligned, Diffusion, Prompts
from ood.config.training import Runtime, Seeds
from ood.data import packed
from ood.dream import absent, alignment, pipelines
from ood.dream.tokens import anchors
from ood.dream.words import other_words
from ood.files import empty, in_place_of, seal
from ood.nets import store, worded
from stages.console import Console


def main() -> None:
    """Write data/models/aligned/<seed>, for every seed the same: `align` trains one encoder."""
    params, console = Params(), Console("aligned")
    place = store.MODELS / alignment.MODEL
    if not params[Diffusion].enabled:
        empty(place)
        return console.note(absent.NOTICE)
    states, spec = alignment.as_classifier(packed.info().classes, negatives(params))
    with in_place_of(place, sealed=False) as folder:
        for seed in params[Seeds].root:
            store.save(folder / str(seed), states, spec)
            seal(folder / str(seed))
    return console.note(f"cosines with {len(spec.classes)} class words and {spec.negatives} others in {spec.projection} dimensions")


def negatives(params: Params) -> torch.Tensor | None:
    """Embeddings of words that are no class, as the text encoder has them, (M, d); None: the class words come from elsewhere."""
    setting, prompts = params[Aligned], params[Prompts]
    words = other_words(prompts) if setting.negatives == "world" else setting.negatives
    if not words or params[Align].anchors is not None:
        return None
    pipeline = pipelines.load(torch.device("cpu"), Runtime())  # of which its text encoder knows nothing
    found = anchors(pipeline.text_encoder, pipeline.tokenizer, words)  # of pieces, whatever prompts say of class words: nothing is painted
    return worded.least_alike(found, torch.from_numpy(alignment.load()[2]), setting.share)
