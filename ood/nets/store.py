"""Classifiers on disk: model.safetensors (what the network computes with) and model.json (what to build).

Other files of weights for the same architecture may stand beside them: epochs/<n>.safetensors, and dense.safetensors, the net under a mask
(UMAP; mask.safetensors says which weights the mask keeps). No timestamps and no paths: equal training gives equal bytes.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ood import nets
from ood.config.nets import LITE0, PUBLISHED, Net
from ood.data.packed import Info
from ood.errors import InputError
from ood.files import link_or_copy
from ood.handover import checked, listed, read_json, read_tensors
from ood.nets.named import library

MODELS = Path("data/models")


@dataclass(frozen=True)
class Spec:
    """Everything needed to rebuild a network, and what it was trained for.

    constraint: the level b of the loss constraint it was trained with. mask_keep: share of weights its mask keeps (None: no mask).
    trainings: how many it has been through; each has draws of its own. frozen: whether in the last of them its head learned alone. unseen:
    whether its backbone was trained neither in one of them nor, as far as can be known, before on these classes. confidence: the budget of
    its confidence branch, rotation: the weight of its rotation branch in training (None: it has none). vocabulary: of one that reads texts,
    how many numbers words have. projection: of one with a linear layer in front of its head, to how many features. negatives: of one whose
    head is made of words, how many it has that are no class. config: of an encoder of
    transformers, or a CLIP, what it is.
    """

    net: dict
    classes: list[str]
    size: int
    mean: list[float]
    std: list[float]
    normalize: bool = False
    constraint: float | None = None
    mask_keep: float | None = None
    trainings: int = 0
    frozen: bool = False
    unseen: bool = False
    confidence: float | None = None
    rotation: float | None = None
    vocabulary: int | None = None
    projection: int | None = None
    negatives: int = 0
    config: dict | None = None
    history: dict = field(default_factory=dict)

    def after(self, history: dict, *, alone: bool) -> "Spec":
        """That of the network after one more training, which ended so, of its head alone or of all of it."""
        return replace(self, history=history, trainings=self.trainings + 1, frozen=alone, unseen=self.unseen and alone)

    def build(self, *, blank: bool = False) -> nets.Classifier:
        """The network, freshly initialised; blank: but for an encoder's first weights, which take seconds and will be replaced."""
        return nets.build(
            Net(**self.net),
            num_classes=len(self.classes),
            size=self.size,
            normalize=self.normalize,
            mean=self.mean,
            std=self.std,
            confident=self.confidence is not None,
            turns=self.rotation is not None,
            vocabulary=self.vocabulary,
            projection=self.projection,
            negatives=self.negatives,
            config=self.config,
            blank=blank,
        )


def spec_for(
    net: Net,
    info: Info,
    normalize: bool,
    *,
    whole: bool = False,
    confidence: float | None = None,
    rotation: float | None = None,
    negatives: int = 0,
) -> Spec:
    """The Spec of a new network for a data set; where its weights came from is no part of it.

    Args:
        negatives: how many words that are no class its head of words has.
        whole: whether it is someone's finished classifier for this data. What a backbone out of a file has learned, nobody knows either.
    """
    plain = net.model_copy(update={"weights": None}).model_dump()
    theirs = library(net)
    config = theirs.described(net.given or "") if theirs else None
    if config is not None:
        plain["name"] = f"{net.family}/{config['model_type']}"  # no path: the rest is in config
    unseen = not whole and (net.weights in (None, LITE0) or (net.weights == PUBLISHED and net.place is None))
    return Spec(
        plain,
        info.classes,
        info.side,
        info.mean,
        info.std,
        normalize,
        unseen=unseen,
        confidence=confidence,
        rotation=rotation,
        vocabulary=info.vocabulary,
        config=config,
        negatives=negatives,
    )


States = dict[str, dict[str, Tensor]]  # file name without ending -> its tensors; 'model' is the network's own


def save(folder: Path, states: States, spec: Spec) -> None:
    """Write a model folder; tensors are copied to the CPU."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, state in states.items():
        save_weights(folder / f"{name}.safetensors", state)
    _write_spec(folder, spec)


def _write_spec(folder: Path, spec: Spec) -> None:
    (folder / "model.json").write_text(json.dumps(asdict(spec), indent=1) + "\n", encoding="utf-8")


def save_weights(path: Path, state: dict[str, Tensor]) -> None:
    """One safetensors file, contiguous CPU tensors in name order."""
    save_file({name: state[name].detach().cpu().contiguous() for name in sorted(state)}, path)


def load_spec(folder: Path) -> Spec:
    """A model folder's Spec.

    Raises:
        InputError: no model there.
    """
    path = folder / "model.json"
    if not path.is_file():
        raise InputError(f"{folder}: no model there. Train it first (`dvc repro`, or `python -m stages` with its stage).")
    return read_json(path, None, Spec)


def load(folder: Path, weights: str = "model") -> tuple[nets.Classifier, Spec]:
    """A trained network in eval mode and its Spec.

    Args:
        weights: which of the folder's files it computes with: 'model', 'epochs/012', 'dense'.

    Raises:
        InputError: no model there, or weights of another architecture.
    """
    spec = load_spec(folder)
    net = spec.build(blank=True)
    load_weights(net, folder / f"{weights}.safetensors")
    return net.eval(), spec


def kept_epochs(folder: Path) -> list[Path]:
    """The files of a model's kept epochs, from the first to the last.

    Raises:
        InputError: one of them is missing.
    """
    return sorted(listed(folder / "epochs", None), key=lambda path: int(path.stem))


def keep_epoch(folder: Path, epoch: int, target: Path) -> None:
    """Write a kept epoch of the model in `folder` as a model of its own.

    Raises:
        InputError: no model there, or that epoch wasn't kept.
    """
    spec, weights = load_spec(folder), folder / "epochs" / f"{epoch:03d}.safetensors"
    if not weights.is_file():
        raise InputError(f"{weights}: not there. Set pretrain.keep_epochs so that epoch {epoch} is kept, and train the run again.")
    target.mkdir(parents=True)
    link_or_copy(checked(weights, None), target / "model.safetensors")
    _write_spec(target, replace(spec, history={"epoch": float(epoch)}))


def load_weights(net: torch.nn.Module, path: Path) -> None:
    """Fill a network from a file, every tensor or nothing.

    Raises:
        InputError: the file is missing, damaged, or of another architecture.
    """
    if not path.is_file():
        raise InputError(f"{path}: no weights there. Train the model first (`dvc repro`).")
    state = read_tensors(path, None)
    own = net.state_dict()
    wrong = sorted(own.keys() ^ state.keys()) or sorted(k for k in own if own[k].shape != state[k].shape)
    if wrong:
        raise InputError(
            f"{path}: a checkpoint of another architecture than params.yaml asks for ({len(wrong)} tensors differ, first: "
            f"{wrong[0]}). Use the net it was trained with, or train again."
        )
    net.load_state_dict(state)
