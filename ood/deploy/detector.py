"""A detector in use: loaded from its folder, pictures in, verdicts out.

It needs neither DVC, nor the data that it was made from, nor diffusers, nor a network; and it answers as the stage did that calibrated it,
bit for bit on the same kind of processor.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from ood.config.detector import Rejected
from ood.data.chain import ImageChain
from ood.data.reading import UnreadableError
from ood.deploy import bundle as folders
from ood.deploy.answers import Answers, Ensemble, Member
from ood.deploy.bundle import Bundle
from ood.deploy.pictures import Picture, Pictures, Reader
from ood.deploy.predictor import Predictor
from ood.deploy.sentences import Sentences
from ood.deploy.verdicts import Verdict, verdicts_of
from ood.detection import detectors
from ood.detection.from_images import FROM_IMAGES, from_images
from ood.detection.guarantee import KINDS, Guarantee
from ood.detection.rule import Rule
from ood.detection.scores import Head
from ood.errors import InputError
from ood.nets import Classifier, store
from ood.wording import of_texts


class Detector(Predictor):
    """See the module. Made by `load`.

    classes: names of what it knows. rule: when it flags. reader: takes pictures, or texts. thumbnails: some training images (see
    ood.deploy.bundle), None where none came along.
    """

    def __init__(
        self,
        bundle: Bundle,
        ensemble: Ensemble,
        rule: Rule,
        reader: Reader,
        workers: int | None,
        thumbnails: dict[str, Tensor] | None = None,
    ):
        super().__init__(bundle.classes, ensemble.batch, reader, workers)
        self.bundle, self.ensemble, self.rule, self.thumbnails = bundle, ensemble, rule, thumbnails

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike,
        *,
        reject: float | None = None,
        guarantee: Guarantee | None = None,
        device: str = "cpu",
        workers: int | None = None,
    ) -> "Detector":
        """From the folder that `export` wrote.

        Args:
            reject: the share of ID that may be flagged; None: as exported. guarantee: what is promised of it (ood.detection.guarantee).
            device: 'cpu' or 'cuda'; the last bits of answers are those of the stage only on the device that it ran on.
            workers: threads that read and compute; None: as many as there are cores. No answer depends on it.

        Raises:
            InputError: no detector there; of another version; a file that is missing, damaged or changed; a rate that its calibration
                images can't promise.
        """
        place, at = Path(folder), _device(device)
        bundle = folders.read(place)
        members = tuple(_member(place, bundle, number, at) for number in range(len(bundle.networks)))
        known = folders.tensors(place, bundle, folders.CALIBRATION)
        rule = _rule(place, bundle, known)
        if reject is not None or guarantee is not None:
            rule = _asked(rule, reject, guarantee)
            rule.must_hold("Ask for a larger rate, or for another guarantee: marginal takes the fewest.")
        bank = _thumbnails(place, bundle, members[0].net.fc.in_features) if bundle.thumbnails else None
        detector = cls(bundle, Ensemble(members, bundle.batch), rule, _reader(place, bundle), workers, bank)
        detector.notes = _tried(place, detector, known["probe"])
        return detector

    @property
    def promise(self) -> str:
        """What its threshold promises, in a line."""
        rule = self.rule
        said = f"at most {rule.reject:.1%} of known pictures flagged, {rule.said}, on {len(rule.calibration)} calibration images"
        return of_texts(said) if self.bundle.is_text else said

    @property
    def what(self) -> str:
        return "text" if self.bundle.is_text else "picture"

    @property
    def images(self) -> int:
        """How many calibration images a threshold rests on; of several thresholds, the fewest."""
        return self.rule.images

    def judge(self, batch: list[Picture]) -> list[Verdict]:
        looks = [self.looked_at(picture) for picture in batch]
        images, names = [image for image, _ in looks if image is not None], [v.name for image, v in looks if image is not None]
        found = iter(self.read(self.ensemble.answer(torch.stack(images)), names) if images else [])
        return [wrong if image is None else next(found) for image, wrong in looks]

    def looked_at(self, picture: Picture) -> tuple[Tensor | None, Verdict]:
        """What the networks look at, and a verdict without an answer; of what can't be read None, and why."""
        try:
            return self.reader.look(picture), Verdict(picture.name)
        except UnreadableError as error:
            return None, Verdict(picture.name, error=str(error))
        except (Exception, MemoryError) as error:  # one picture's trouble is no other's
            return None, Verdict(picture.name, error=f"can't be looked at ({error or type(error).__name__}).")

    def read(self, answers: Answers, names: Iterable[str]) -> list[Verdict]:
        """Answers as verdicts."""
        predicted = answers.predicted
        p_values, flags = self.rule.p_values(answers.scores, predicted), self.rule.flags(answers.scores, predicted)
        return verdicts_of(names, self.classes, answers.probabilities, answers.scores, p_values, flags)


def _reader(folder: Path, bundle: Bundle) -> Reader:
    """What takes pictures, or texts."""
    if bundle.text is not None:
        return Sentences(folders.words(folder, bundle))
    assert bundle.chain is not None  # a bundle has one of the two
    return Pictures(bundle.max_pixels, ImageChain(bundle.chain))


def _device(name: str) -> torch.device:
    """Raises InputError: there is no such device here."""
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        raise InputError(f"device {name!r}: this machine has none ({str(error).splitlines()[0][:100]}). Take cpu.") from None
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"device {name!r}: scores need double precision. Take cpu or cuda.")
    return device


def _asked(rule: Rule, reject: float | None, guarantee: Guarantee | None) -> Rule:
    """The rule at another rate, under another promise.

    Raises:
        InputError: there is no such promise, or rate.
    """
    if guarantee is not None and guarantee not in KINDS:
        raise InputError(f"guarantee {guarantee!r}: there is none. Take {', '.join(KINDS[:-1])} or {KINDS[-1]}.")
    try:
        rate = rule.reject if reject is None else TypeAdapter(Rejected).validate_python(reject)
    except ValidationError:
        raise InputError(f"reject {reject!r}: the share of known pictures that may be flagged lies between 0.00001 and 0.5.") from None
    return rule.under(reject=rate, promise=guarantee or rule.promise)


def _rule(folder: Path, bundle: Bundle, known: dict[str, Tensor]) -> Rule:
    """The rule, from what the calibration images got."""
    path, count = folder / folders.CALIBRATION, bundle.rule.images
    scores, predicted, probe = (known.get(name) for name in ("scores", "predicted", "probe"))
    if scores is None or predicted is None or scores.shape != (count,) or predicted.shape != (count,) or not scores.isfinite().all():
        raise InputError(f"{path}: doesn't hold the scores of {count} calibration images. Run `export` again.")
    if probe is None or probe.shape != (bundle.batch,) or {scores.dtype, probe.dtype} != {torch.float64}:
        raise InputError(f"{path}: doesn't hold the scores of the trial. Run `export` again.")
    if predicted.dtype != torch.int64 or not 0 <= int(predicted.min()) <= int(predicted.max()) < len(bundle.classes):
        raise InputError(f"{path}: names classes that there aren't. Run `export` again.")
    own = bundle.rule
    rule = Rule(scores.numpy(), predicted.numpy(), bundle.classes, own.reject, own.guarantee, own.confidence, own.per_class)
    rule.must_hold("Run `export` again.")
    if rule.all_thresholds != own.thresholds:
        raise InputError(f"{folder / folders.CONFIG}: its thresholds aren't those of its calibration scores. Run `export` again.")
    return rule


def _tried(folder: Path, detector: "Detector", probe: Tensor) -> list[str]:
    """Whether all of it fits together and computes here as where it was calibrated; what is to be said of that.

    Raises:
        InputError: it can't compute, or comes to something else.
    """
    try:
        answers = detector.ensemble.answer(detector.ensemble.noise())
        found, sound = torch.from_numpy(answers.scores), bool(np.isfinite(answers.probabilities).all())
    except (RuntimeError, ValueError, IndexError, TypeError, MemoryError) as error:
        said = " ".join(str(error).split())[:200]
        raise InputError(f"{folder}: its parts don't fit together ({said}). Run `export` again.") from None
    if sound and torch.equal(found, probe):
        return []
    if not sound or not torch.allclose(found, probe, rtol=1e-3, atol=1e-3):
        raise InputError(f"{folder}: computes something else here than where it was calibrated. Calibrate and export it here.")
    here = folders.made_with()
    others = [f"{name} {made}, here {here.get(name)}" for name, made in detector.bundle.made_with.items() if made != here.get(name)]
    why = f"it was made with {'; '.join(others)}" if others else "another kind of processor"
    return [f"answers differ here in their last bits from those of its calibration ({why})"]


def _thumbnails(folder: Path, bundle: Bundle, width: int) -> dict[str, Tensor]:
    """The training images that came along; width: of features."""
    bank = folders.tensors(folder, bundle, folders.THUMBNAILS)
    images, features, labels = (bank.get(name) for name in ("images", "features", "labels"))
    if images is not None and features is not None and labels is not None and images.ndim == 4 and images.shape[3] == 3:
        kinds = (images.dtype, features.dtype, labels.dtype) == (torch.uint8, torch.float32, torch.int64)
        alike = features.shape == (len(images), width) and labels.shape == (len(images),) and images.numel() > 0
        if kinds and alike and 0 <= int(labels.min()) <= int(labels.max()) < len(bundle.classes):
            return bank
    raise InputError(f"{folder / folders.THUMBNAILS}: doesn't hold images, features and labels. Run `export` again.")


def _member(folder: Path, bundle: Bundle, number: int, device: torch.device) -> Member:
    """A network with its score."""
    network = bundle.networks[number]
    state = folders.tensors(folder, bundle, folders.weights(number))
    net = _filled(network, bundle, state, folder / folders.weights(number))
    memory = torch.channels_last if bundle.channels_last else torch.contiguous_format
    net = net.to(device, memory_format=memory).eval()  # type: ignore[call-overload]  # torch's stubs lack the pair
    found = folders.tensors(folder, bundle, folders.fitted(number))
    if bundle.score in FROM_IMAGES:
        return Member(net, from_images(bundle.odin, turns=net.rotation is not None)[bundle.score], network.temperature)
    head = Head(net.fc.weight.detach(), net.fc.bias.detach(), net.normalize)
    try:
        fitted = detectors.restored(bundle.score, head, bundle.scores, {name: value.to(device) for name, value in found.items()})
    except ValueError as error:
        raise InputError(f"{folder / folders.fitted(number)}: {error}. Run `export` again.") from None
    return Member(net, fitted, network.temperature)


def _filled(network: folders.Network, bundle: Bundle, state: dict[str, Tensor], path: Path) -> Classifier:
    """The network, built only when the file is known to hold its tensors: a name alone could ask for more memory than there is."""
    mean, std = (bundle.chain.mean, bundle.chain.std) if bundle.chain else ([], [])
    spec = store.Spec(
        network.net.model_dump(), bundle.classes, bundle.side, mean, std, network.normalize, vocabulary=bundle.vocabulary,
        projection=network.projection, config=network.config, rotation=1.0 if bundle.score == "rotation" else None,
    )  # fmt: skip
    with torch.device("meta"):
        wanted = {name: (value.shape, value.dtype) for name, value in spec.build().state_dict().items()}
    if wanted != {name: (value.shape, value.dtype) for name, value in state.items()}:
        raise InputError(f"{path}: weights of another network than {network.net.name}. Run `export` again.")
    net = spec.build(blank=True)
    net.load_state_dict(state)
    return net
