"""Writing a detector's folder (see ood.deploy.bundle), and the proof that what was written answers as what was calibrated."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ood.config.data import Chain
from ood.config.evaluation import Odin, Scores
from ood.config.text import TextChain
from ood.data.packed import Info
from ood.data.sets import Images
from ood.deploy import bundle, calibrated
from ood.deploy.answers import Answers, Ensemble
from ood.deploy.calibrated import Calibrated
from ood.deploy.detector import Detector
from ood.errors import InputError
from ood.handover import checked, read_tensors
from ood.nets import store

THUMBNAIL = 64  # pixels along a side, at most


def networks(folder: Path, found: Calibrated) -> list[dict]:
    """Copy weights and fitted scores into the folder; what config.json says of each network."""
    entries = []
    for number, (seed, temperature) in enumerate(zip(found.seeds, found.temperatures, strict=True)):
        source = calibrated.CALIBRATED / str(seed)
        spec = store.load_spec(source)
        state = read_tensors(source / "model.safetensors", "calibrate")
        # What stands beside the head is no part of the classifier: a score that needs it has its own copy, but for rotation's.
        left = ("confidence.", "negatives") if found.score == "rotation" else ("confidence.", "negatives", "rotation.")
        kept = {name: value for name, value in state.items() if not name.startswith(left)}
        store.save_weights(folder / bundle.weights(number), kept)
        shutil.copyfile(checked(source / "score.safetensors", "calibrate"), folder / bundle.fitted(number))
        more = {key: value for key, value in (("projection", spec.projection), ("config", spec.config)) if value is not None}
        entries.append({"net": spec.net, "normalize": spec.normalize, "temperature": temperature} | more)
    return entries


def calibration(folder: Path) -> None:
    """What the calibration images got."""
    said = calibrated.load_answers()
    kept = {kind: said[f"{calibrated.CALIBRATION}:{kind}"] for kind in ("scores", "predicted")}
    kept["probe"] = said["probe:scores"]
    store.save_weights(folder / bundle.CALIBRATION, kept)


def facts(
    found: Calibrated,
    info: Info,
    chain: Chain | TextChain,
    most: int,
    entries: list[dict],
    scores: Scores,
    odin: Odin | None,
    channels_last: bool,
) -> dict:
    """What config.json holds."""
    rule = {key: getattr(found, key) for key in ("reject", "guarantee", "confidence", "per_class", "images", "thresholds")}
    return {
        "made_with": bundle.made_with(),
        "model": found.model,
        "seeds": found.seeds,
        "classes": info.classes,
        "chain": chain.model_dump(mode="json") if isinstance(chain, Chain) else None,
        "text": chain.model_dump(mode="json", exclude={"tokenizer"}) if isinstance(chain, TextChain) else None,  # which comes along
        "vocabulary": info.vocabulary,
        "max_pixels": most,
        "networks": entries,
        "batch": found.batch,
        "channels_last": channels_last,
        "score": found.score,
        "scores": scores.model_dump(mode="json"),
        "odin": odin and odin.model_dump(mode="json"),
        "rule": rule,
    }


def thumbnails(folder: Path, images: Images, count: int, ensemble: Ensemble) -> None:
    """Some training images, evenly through the classes, small, with what the first network makes of them."""
    labels = images.labels.cpu()
    order = torch.argsort(labels, stable=True)
    chosen = order[torch.linspace(0, len(order) - 1, min(count, len(order))).round().long()]
    pictures = images.some(chosen).cpu()
    features = Answers.joined([ensemble.answer(part) for part in pictures.split(ensemble.batch)]).features
    if pictures.shape[-1] > THUMBNAIL:
        pictures = F.interpolate(pictures.float(), size=(THUMBNAIL, THUMBNAIL), mode="area").round().to(torch.uint8)
    kept = {"images": pictures.permute(0, 2, 3, 1), "features": torch.from_numpy(features), "labels": labels[chosen]}
    store.save_weights(folder / bundle.THUMBNAILS, kept)


def prove(detector: Detector, images: Images, tick: Callable[[], None]) -> None:
    """Ask a detector that was loaded from its folder about the calibration images.

    Raises:
        InputError: it says something else than what was calibrated, if only in the last bit.
    """
    said = calibrated.load_answers()
    answers = detector.ensemble.over(images, tick)
    for kind in ("scores", "predicted"):
        if not np.array_equal(getattr(answers, kind), said[f"{calibrated.CALIBRATION}:{kind}"].numpy()):
            raise InputError(
                f"the detector that was written answers differently from the one that was calibrated ({kind}), so its threshold would mean "
                "something else. Was it calibrated on another machine? Run `calibrate` again here."
            )
