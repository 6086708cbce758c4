"""Phase 1 of DREAM-OOD: an image encoder whose features point at the frozen token embeddings of the class names.

    p(y | x) = softmax_j( cos(z, T_j) / t )_y,   z = h(x),   loss = -log p(y | x)

data/align/ holds encoder.safetensors with encoder.json (how to build it), features.npy (n, d) with labels.npy (n,), anchors.npy (C, d),
tokens.json (how each class word was tokenised).
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ood.config.dream import Prompts
from ood.data.batches import PlainBatches, at_once
from ood.data.sets import Images
from ood.dream.parts import TextEncoder, Tokenizer
from ood.dream.tokens import anchor, piece_ids, place
from ood.errors import InputError
from ood.handover import read_array, read_json
from ood.nets import Classifier, store, worded

ALIGNED = Path("data/align")
MODEL = "aligned"  # below data/models


class AlignedEncoder(nn.Module):
    """h(x) and the cosine head: features(x) -> (N, d), forward(x) -> cos(z, T) / t, shape (N, C).

    Args:
        encoder: a Classifier whose `classes` are the d dimensions of the embedding space.
        anchors: (C, d), frozen; only their directions matter.
    """

    anchors: Tensor

    def __init__(self, encoder: Classifier, anchors: Tensor, temperature: float):
        super().__init__()
        self.encoder, self.temperature = encoder, temperature
        self.register_buffer("anchors", anchors.clone(), persistent=False)

    def features(self, x: Tensor) -> Tensor:
        return self.encoder(x)

    def forward(self, x: Tensor) -> Tensor:
        return cosine_logits(self.encoder(x), self.anchors, self.temperature)


def cosine_logits(features: Tensor, anchors: Tensor, temperature: float) -> Tensor:
    """Cosines of features (N, d) with anchors (C, d), divided by the temperature: (N, C)."""
    exact = features if features.dtype == torch.float64 else features.float()
    with torch.autocast(features.device.type, enabled=False):  # a cosine over 0.1 in half precision is off by a hundredth
        return F.normalize(exact, dim=1) @ F.normalize(anchors.to(exact), dim=1).T / temperature


@torch.inference_mode()
def run(function: Callable[[Tensor], Tensor], images: Images, device: torch.device) -> Tensor:
    """What `function` gives for every image of a set, in order, on the CPU."""
    return torch.cat([function(batch.to(device)).float().cpu() for batch, _ in PlainBatches(images, at_once(device, images.side))])


def agreement(model: nn.Module, images: Images, device: torch.device) -> NDArray:
    """Per image: whether the model's class is the label, (N,) bool."""
    return (run(model, images, device).argmax(1) == images.labels.cpu()).numpy()


def anchors_from_names(
    text_encoder: TextEncoder, tokenizer: Tokenizer, prompts: Prompts, labels: list[str], given: Path | None = None
) -> tuple[Tensor, list[dict]]:
    """The class anchors, (C, d), and how each class word was tokenised.

    Args:
        given: a file of anchors that take the place of the token table's (see config.dream.Align).

    Raises:
        InputError: a word isn't in its prompt, has no tokens, or two classes share an anchor; a file that doesn't hold such anchors.
    """
    rows, report = [], []
    others = None if given is None else anchors_from_file(given, len(labels), text_encoder.get_input_embeddings().weight.shape[1])
    for index, label in enumerate(labels):
        word, prompt = prompts.word(label), prompts.prompt(label)
        placed = place(tokenizer, prompt, word, prompts.pieces)
        rows.append(anchor(text_encoder, tokenizer, word, prompts.pieces) if others is None else others[index])
        ids = piece_ids(tokenizer, word, prompts.pieces)
        report.append(
            {
                "class": label,
                "prompt": prompt,
                "word": word,
                "tokens": tokenizer.convert_ids_to_tokens(ids),
                "places": placed.positions,
                "norm": float(rows[-1].norm()),
            }
        )
    anchors = torch.stack(rows)
    same = (torch.cdist(anchors, anchors) + torch.eye(len(anchors)) < 1e-6).nonzero()
    if len(same):
        one, other = (labels[int(i)] for i in same[0])
        raise InputError(
            f"params.yaml: prompts: the classes {one!r} and {other!r} have the same embedding (prompts.pieces: {prompts.pieces}). Choose "
            "other words, or set prompts.pieces to whole."
        )
    return anchors, report


def anchors_from_file(path: Path, classes: int, width: int) -> Tensor:
    """Anchors (classes, width) in float32 from a NumPy file, as the authors publish theirs: (100, 768), in the classes' order.

    Raises:
        InputError: no such file, another shape, not finite, or a vector without length.
    """
    if not path.is_file():
        raise InputError(f"params.yaml: align.anchors: {path}: no such file. Correct the path, or set it to null.")
    try:
        anchors = np.asarray(np.load(path)).astype(np.float32)
    except (ValueError, TypeError, OSError, EOFError) as error:
        raise InputError(f"params.yaml: align.anchors: {path}: not a NumPy array of numbers ({error}). Save it with numpy.save.") from None
    if anchors.shape != (classes, width):
        raise InputError(
            f"params.yaml: align.anchors: {path} has the shape {anchors.shape}; {classes} classes and this text encoder need "
            f"({classes}, {width})."
        )
    if not (np.isfinite(anchors).all() and np.abs(anchors).sum(1).all()):
        raise InputError(f"params.yaml: align.anchors: {path}: a vector isn't finite, or has no length. Save it again.")
    return torch.from_numpy(anchors)


@dataclass(frozen=True)
class Kept:
    """encoder.json: how to build the encoder, and what cosines are divided by."""

    spec: store.Spec
    temperature: float


def save(
    folder: Path, model: AlignedEncoder, spec: store.Spec, features: Tensor, labels: Tensor, anchors: Tensor, report: list[dict]
) -> None:
    """Write the encoder and what phase 2 reads."""
    store.save_weights(folder / "encoder.safetensors", model.encoder.state_dict())
    kept = Kept(spec, model.temperature)
    (folder / "encoder.json").write_text(json.dumps(asdict(kept), indent=1) + "\n", encoding="utf-8")
    np.save(folder / "features.npy", features.float().cpu().numpy())
    np.save(folder / "labels.npy", labels.cpu().numpy())
    np.save(folder / "anchors.npy", anchors.float().cpu().numpy())
    (folder / "tokens.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def load_model(device: torch.device, folder: Path = ALIGNED) -> AlignedEncoder:
    """The trained encoder with its cosine head, in eval mode.

    Raises:
        InputError: not there yet.
    """
    kept = read_json(folder / "encoder.json", "align", Kept)
    encoder = kept.spec.build()
    store.load_weights(encoder, folder / "encoder.safetensors")
    anchors = torch.from_numpy(read_array(folder / "anchors.npy", "align"))
    return AlignedEncoder(encoder, anchors, kept.temperature).to(device).eval()


def as_classifier(classes: list[str], negatives: Tensor | None = None, folder: Path = ALIGNED) -> tuple[store.States, store.Spec]:
    """The trained encoder as any other classifier: its features go through L2 normalisation into a head of unit anchors over t.

    Its logits are the cosines over t, so minus its maximum softmax is the score of MCM (Ming et al. 2022), at the temperature that it was
    trained with.

    Args:
        classes: the data's, in the anchors' order. negatives: embeddings of other words (M, d), M >= 1.

    Raises:
        InputError: not there yet.
    """
    model, kept = load_model(torch.device("cpu"), folder), read_json(folder / "encoder.json", "align", Kept)
    encoder = model.encoder
    state = {f"backbone.0.{name}": value for name, value in encoder.backbone.state_dict().items()}
    state |= {f"backbone.1.{name}": value for name, value in encoder.fc.state_dict().items()}
    state |= {"fc.weight": worded.over(model.anchors, model.temperature), "fc.bias": torch.zeros(len(classes))}
    if negatives is not None:
        state["negatives"] = worded.over(negatives, model.temperature)
    spec = replace(kept.spec, classes=classes, normalize=True, projection=model.anchors.shape[1], trainings=1, unseen=False)
    return {"model": state}, replace(spec, negatives=0 if negatives is None else len(negatives))


def temperature(folder: Path = ALIGNED) -> float:
    """What the encoder's cosines are divided by.

    Raises:
        InputError: not there yet.
    """
    return read_json(folder / "encoder.json", "align", Kept).temperature


def load(folder: Path = ALIGNED) -> tuple[NDArray, NDArray, NDArray, list[str]]:
    """Features (n, d), labels (n,), anchors (C, d), class names.

    Raises:
        InputError: not there yet.
    """
    report = read_json(folder / "tokens.json", "align", list[dict[str, Any]])
    features, labels, anchors = (read_array(folder / f"{name}.npy", "align") for name in ("features", "labels", "anchors"))
    return features, labels, anchors, [row["class"] for row in report]
