"""A detector in use: loaded from its folder, pictures in, verdicts out.

It needs neither DVC, nor the data that it was made from, nor diffusers, nor a network; and it answers as the stage did that calibrated it,
bit for bit on the same kind of processor.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from ood.data.chain import ImageChain
from ood.data.reading import UnreadableError
from ood.deploy import bundle as folders
from ood.deploy.answers import Answers, Ensemble, Member
from ood.deploy.bundle import Bundle
from ood.deploy.pictures import Picture, each, is_lazy, is_one, opened
from ood.deploy.verdicts import Verdict
from ood.detection import detectors
from ood.detection.guarantee import Guarantee
from ood.detection.rule import Rule
from ood.detection.scores import Head
from ood.errors import InputError
from ood.nets import Classifier, store

AHEAD = 2  # batches that each worker may be ahead of what was asked for


class Detector:
    """See the module. Made by `load`.

    classes: names of what it knows. rule: when it flags. chain: what every picture goes through. thumbnails: some training images (see
    ood.deploy.bundle), None where none came along.
    """

    def __init__(self, bundle: Bundle, ensemble: Ensemble, rule: Rule, workers: int, thumbnails: dict[str, Tensor] | None = None):
        self.bundle, self.ensemble, self.rule, self.workers, self.thumbnails = bundle, ensemble, rule, workers, thumbnails
        self.classes, self.chain = bundle.classes, ImageChain(bundle.chain)

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
        place = Path(folder)
        bundle = folders.read(place)
        members = tuple(_member(place, bundle, number, torch.device(device)) for number in range(len(bundle.networks)))
        known = folders.tensors(place, bundle, folders.CALIBRATION)
        rule = _rule(bundle, known)
        if reject is not None or guarantee is not None:
            rule = rule.under(reject=reject or rule.reject, promise=guarantee or rule.promise)
        rule.must_hold()
        bank = _thumbnails(place, bundle) if bundle.thumbnails else None
        return cls(bundle, Ensemble(members, bundle.batch), rule, workers or len(os.sched_getaffinity(0)), bank)

    @property
    def promise(self) -> str:
        """What its threshold promises, in a line."""
        rule = self.rule
        return f"at most {rule.reject:.1%} of known pictures flagged, {rule.said}, on {len(rule.calibration)} calibration images"

    @overload
    def predict(self, given: Iterator[Any]) -> Iterator[Verdict]: ...
    @overload
    def predict(self, given: Any) -> Any: ...
    def predict(self, given: Any) -> Any:
        """What it says of pictures: a Verdict of one; of several a list; of a generator a generator, which never holds more than a few.

        Args:
            given: a path, a folder, a pattern ('photos/*.jpg'), an open file or bytes, a PIL image, an array (H, W), (H, W, 3 or 4) or
                (N, H, W, C), a tensor (C, H, W) or (N, C, H, W), uint8 or floats in [0, 1]; or a list or generator of any of these.

        Raises:
            InputError: something else than pictures; a folder or pattern without any. A picture that can't be read, or one among several
                that is none, is a Verdict with an error.
        """
        verdicts = self.stream(given)
        if is_one(given):
            return next(verdicts)
        return verdicts if is_lazy(given) else list(verdicts)

    def stream(self, given: Any) -> Iterator[Verdict]:
        """As `predict`, always one by one, in order."""
        return self._in_order(each(given))

    def _in_order(self, pictures: Iterator[Picture]) -> Iterator[Verdict]:
        """Verdicts in order, a few batches ahead of who takes them."""
        with ThreadPoolExecutor(self.workers) as pool:
            waiting: deque[Future[list[Verdict]]] = deque()
            for batch in iter(lambda: list(islice(pictures, self.ensemble.batch)), []):
                waiting.append(pool.submit(self._judge, batch))
                if len(waiting) > AHEAD * self.workers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()

    def _judge(self, batch: list[Picture]) -> list[Verdict]:
        """Of at most a batch."""
        looks = [self.looked_at(picture) for picture in batch]
        images, names = [image for image, _ in looks if image is not None], [v.name for image, v in looks if image is not None]
        found = iter(self.read(self.ensemble.answer(torch.stack(images)), names) if images else [])
        return [wrong if image is None else next(found) for image, wrong in looks]

    def looked_at(self, picture: Picture) -> tuple[Tensor | None, Verdict]:
        """What the networks look at, uint8 (3, side, side), and a verdict without an answer; of what can't be read None, and why."""
        try:
            native = self.chain.native(opened(picture, self.bundle.max_pixels, self.bundle.chain.white))
        except UnreadableError as error:
            return None, Verdict(picture.name, error=str(error))
        except (InputError, OSError, ValueError, MemoryError) as error:
            return None, Verdict(picture.name, error=f"{picture.name}: {error}")
        return torch.from_numpy(self.chain.finish(native[None])[0].copy()).permute(2, 0, 1), Verdict(picture.name)

    def read(self, answers: Answers, names: Iterable[str]) -> list[Verdict]:
        """Answers as verdicts."""
        predicted, rows = answers.predicted, np.arange(len(answers.scores))
        second = np.argsort(-answers.probabilities, axis=1, kind="stable")[:, 1]
        columns = (
            predicted,
            answers.probabilities[rows, predicted],
            second,
            answers.probabilities[rows, second],
            answers.scores,
            self.rule.p_values(answers.scores, predicted),
            self.rule.flags(answers.scores, predicted),
        )
        of = self.classes
        return [
            Verdict(name, of[label], probability, of[runner_up], next_probability, score, p_value, is_ood)
            for name, label, probability, runner_up, next_probability, score, p_value, is_ood in zip(
                names, *(column.tolist() for column in columns), strict=True
            )
        ]


def _rule(bundle: Bundle, known: dict[str, Tensor]) -> Rule:
    """The rule, from what the calibration images got."""
    scores, predicted = known.get("scores"), known.get("predicted")
    count = bundle.rule.images
    if scores is None or predicted is None or scores.shape != (count,) or predicted.shape != (count,) or not scores.isfinite().all():
        raise InputError(f"{folders.CALIBRATION}: doesn't hold the scores of {count} calibration images. Run `export` again.")
    if not (int(predicted.min()) >= 0 and int(predicted.max()) < len(bundle.classes)):
        raise InputError(f"{folders.CALIBRATION}: names classes that there aren't. Run `export` again.")
    own = bundle.rule
    return Rule(scores.double().numpy(), predicted.numpy(), bundle.classes, own.reject, own.guarantee, own.confidence, own.per_class)


def _thumbnails(folder: Path, bundle: Bundle) -> dict[str, Tensor]:
    """The training images that came along."""
    bank = folders.tensors(folder, bundle, folders.THUMBNAILS)
    images, features, labels = (bank.get(name) for name in ("images", "features", "labels"))
    if images is not None and features is not None and labels is not None and images.ndim == 4 and images.shape[3] == 3:
        alike = features.ndim == 2 and len(images) == len(features) == len(labels) > 0
        if alike and 0 <= int(labels.min()) <= int(labels.max()) < len(bundle.classes):
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
    if bundle.odin is not None and bundle.score in detectors.FROM_IMAGES:
        return Member(net, bundle.odin, network.temperature)
    head = Head(net.fc.weight.detach(), net.fc.bias.detach(), net.normalize)
    try:
        fitted = detectors.restored(bundle.score, head, bundle.scores, {name: value.to(device) for name, value in found.items()})
    except ValueError as error:
        raise InputError(f"{folder / folders.fitted(number)}: {error}. Run `export` again.") from None
    return Member(net, fitted, network.temperature)


def _filled(network: folders.Network, bundle: Bundle, state: dict[str, Tensor], path: Path) -> Classifier:
    """The network, built only when the file is known to hold its tensors: a name alone could ask for more memory than there is."""
    chain = bundle.chain
    spec = store.Spec(network.net.model_dump(), bundle.classes, chain.side, chain.mean, chain.std, network.normalize)
    with torch.device("meta"):
        wanted = {name: value.shape for name, value in spec.build().state_dict().items()}
    if wanted != {name: value.shape for name, value in state.items()}:
        raise InputError(f"{path}: weights of another network than {network.net.name}. Run `export` again.")
    net = spec.build()
    net.load_state_dict(state)
    return net
