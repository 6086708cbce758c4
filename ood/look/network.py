"""The given network through which `look` sees pictures, as it has learned to; and how long that takes here."""

import time
from pathlib import Path

import torch

from ood.config.data import Chain
from ood.config.nets import Net
from ood.config.training import Runtime
from ood.data.batches import PlainBatches, at_once
from ood.data.chain import ImageChain
from ood.data.reading import UnreadableError, read_image
from ood.data.sets import FileSet
from ood.data.streamed import FileImages
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
    """Seconds that a picture takes to be read and looked at here, measured on some that can be read; and the device.

    Returns:
        None for the seconds where none can be read.
    """
    paths, labels, classes, _ = files
    classifier = _filled(net, chain, classes)
    device = accelerator_for(runtime).device
    where = f"{device.type}, {runtime.threads} thread" if device.type == "cpu" else device.type
    placed(classifier, device, runtime).eval()
    tried = sorted({round(i * (len(paths) - 1) / (TRIED - 1)) for i in range(TRIED)})
    chosen = [i for i in tried if _readable(paths[i])]
    if not chosen:
        return None, where
    some = FileSet(FileImages([paths[i].as_posix() for i in chosen], ImageChain(chain)), torch.from_numpy(labels[chosen]), device)
    took = 0.0
    with torch.inference_mode():
        for _ in range(2):  # the first pass warms up
            begin = time.perf_counter()
            for batch, _labels in PlainBatches(some, at_once(device, chain.side)):
                classifier.features(batch)
            took = time.perf_counter() - begin
    return took / len(chosen), where


def _readable(path: Path) -> bool:
    try:
        read_image(path)
    except UnreadableError:  # `look` and `prepare` tell of it
        return False
    return True
