"""The given network through which `look` sees pictures, as it has learned to; and how long that takes here."""

import time

import torch

from ood.config.data import Chain
from ood.config.nets import Net
from ood.config.training import Runtime
from ood.data.batches import FileSet, PlainBatches, at_once
from ood.data.chain import ImageChain
from ood.data.streamed import FileImages
from ood.errors import InputError
from ood.look.folder import Files
from ood.nets import Classifier, build, given, weights
from ood.training.devices import accelerator_for, placed

TRIED = 12  # pictures that tell how long one takes


def network(net: Net, classes: list[str], *, white: float | None = None) -> tuple[Classifier, Chain]:
    """The backbone with its weights, and how it has learned to see pictures.

    Args:
        white: of pictures of more than eight bits, as data.chain.white.

    Raises:
        InputError: no such net, or its weights can't be had.
    """
    known = given.proposed(net.timm or "")
    learned = {"size": known.side, "short": known.short, "resize": known.resize, "mean": known.mean, "std": known.std}
    chain = Chain(**learned, grey=False, levels=None, white=white)
    return _filled(net, chain, classes), chain


def _filled(net: Net, chain: Chain, classes: list[str]) -> Classifier:
    classifier = build(net, num_classes=max(2, len(classes)), size=chain.side, mean=chain.mean, std=chain.std)
    if net.weights:
        weights.fill(classifier, net, net.weights, whole=False, classes=classes)
    return classifier


def pace(files: Files, net: Net, chain: Chain, runtime: Runtime) -> tuple[float | None, str]:
    """Seconds that a picture takes to be read and looked at here, measured on some; and the device.

    Returns:
        None for the seconds where one of the pictures can't be read: `look` and `prepare` tell of it.
    """
    paths, labels, classes, _ = files
    classifier = _filled(net, chain, classes)
    device = accelerator_for(runtime).device
    placed(classifier, device, runtime).eval()
    chosen = sorted({round(i * (len(paths) - 1) / (TRIED - 1)) for i in range(TRIED)})
    some = FileSet(FileImages([paths[i].as_posix() for i in chosen], ImageChain(chain)), torch.from_numpy(labels[chosen]), device)
    where = f"{device.type}, {runtime.threads} thread" if device.type == "cpu" else device.type
    took = 0.0
    try:
        with torch.inference_mode():
            for _ in range(2):  # the first pass warms up
                begin = time.perf_counter()
                for batch, _labels in PlainBatches(some, at_once(device, chain.side)):
                    classifier.features(batch)
                took = time.perf_counter() - begin
    except InputError:
        return None, where
    return took / len(chosen), where
