"""What a detector's networks say of images: class probabilities and the score, the same for an image in whatever company it comes.

How many images go through a network at once changes the last bits of what comes out, and so does the number of threads. A threshold would
then mean one thing for an image alone and another for it among others. So a batch has always the same size, filled up where images are
fewer, and is computed by one thread; several batches may be, by a thread each.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ood.data.sets import Images, to_float
from ood.data.views import Views
from ood.detection.detectors import Detector, Outputs
from ood.detection.from_images import ImageScore
from ood.detection.scores import Head
from ood.machine import cores
from ood.nets import Classifier

BATCHES = {16: 64, 64: 16, 4096: 4}  # pixels up to which a batch is so large: few large images fill a core's cache (docs/performance.md)


class Answers(NamedTuple):
    """Of n images: probabilities (n, C), at the fitted temperature, and scores (n,), larger = more OOD, both float64; features (n, D), raw,
    of the first network.
    """

    probabilities: NDArray[np.float64]
    scores: NDArray[np.float64]
    features: NDArray[np.float32]

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The likeliest class of each, (n,)."""
        return self.probabilities.argmax(1)

    @classmethod
    def joined(cls, parts: "list[Answers]") -> "Answers":
        """Those of several batches as one."""
        return cls(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


@dataclass(frozen=True)
class Member:
    """A network with its score, fitted, or one that needs the images themselves. temperature: that its logits are divided by."""

    net: Classifier
    score: Detector | ImageScore
    temperature: float

    def answer(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Probabilities (B, C), scores (B,) and raw features (B, D) of float images (B, 3, side, side) in [0, 1], or of texts."""
        with torch.inference_mode():
            raw = self.net.features(images)
            logits = self.net.head(raw)
            probabilities = (logits.double() / self.temperature).softmax(1)
            if isinstance(self.score, Detector):
                head = Head(self.net.fc.weight, self.net.fc.bias, self.net.normalize)
                return probabilities, self.score(Outputs.of(head, logits, raw)).double(), raw
        with torch.inference_mode(False):
            found = self.score(self.net, images.clone())
        return probabilities, found.double(), raw


@dataclass(frozen=True)
class Ensemble:
    """Members that answer together, by mean probability and mean score; one alone answers for itself. batch: images at a time."""

    members: tuple[Member, ...]
    batch: int

    @property
    def side(self) -> int:
        """Pixels along a side of what it looks at; words of a text."""
        return self.members[0].net.size

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one thing that it looks at."""
        return (self.side,) if self.members[0].net.vocabulary else (3, self.side, self.side)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.members[0].net.fc.weight.device

    def answer(self, images: Tensor) -> Answers:
        """What it says of at most `batch` images, uint8 (n, 3, side, side), or texts, int32 (n, side)."""
        given = to_float(images)
        filled = given.new_zeros(self.batch, *self.shape)
        filled[: len(images)] = given
        with one_thread(), exact(self.device):
            each = [member.answer(filled.to(self.device)) for member in self.members]
        probabilities, scores = (torch.stack([found[part] for found in each]).mean(0)[: len(images)].cpu().numpy() for part in (0, 1))
        return Answers(probabilities, scores, each[0][2][: len(images)].float().cpu().numpy())

    def over(self, images: Images, tick: Callable[[], None]) -> Answers:
        """What it says of a prepared set, by as many threads as there are cores."""
        plan = [Views.plain(part) for part in torch.arange(len(images)).split(self.batch)]
        threads, found = cores(), []
        waiting: deque[Future[Answers]] = deque()
        with ThreadPoolExecutor(threads) as pool:
            for rows in images.batches(plan):
                tick()
                waiting.append(pool.submit(self.answer, rows.cpu()))
                if len(waiting) > 2 * threads:
                    found.append(waiting.popleft().result())
            return Answers.joined([*found, *(one.result() for one in waiting)])

    def noise(self) -> Tensor:
        """A batch of random pixels, or of random words, always the same."""
        vocabulary, generator = self.members[0].net.vocabulary, torch.Generator().manual_seed(0)
        if vocabulary is not None:
            words = torch.randint(1, vocabulary, (self.batch, *self.shape), generator=generator).int()
            lengths = torch.randint(1, self.side + 1, (self.batch, 1), generator=generator)
            return words.masked_fill(torch.arange(self.side) >= lengths, 0)
        return torch.randint(256, (self.batch, *self.shape), generator=generator).to(torch.uint8)

    def probe(self) -> NDArray[np.float64]:
        """The scores of `noise`, by which another machine can tell whether it computes as this one."""
        return self.answer(self.noise()).scores

    def steady(self) -> "Ensemble":
        """The same with the largest batch in which a place doesn't matter: 1 where convolutions add up differently at its edges."""
        largest = next(batch for side, batch in BATCHES.items() if self.side <= side)
        for batch in (largest, 1):
            ensemble = replace(self, batch=batch)
            images = ensemble.noise()
            one, other = ensemble.answer(images), ensemble.answer(images.roll(1, 0))
            if all(np.array_equal(getattr(one, kind), np.roll(getattr(other, kind), -1, axis=0)) for kind in Answers._fields):
                return ensemble
        return ensemble


_GPU = threading.Lock()  # what cuDNN is told holds for all threads


@contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """Within: a GPU computes in full single precision and adds up in one order; one thread at a time."""
    if device.type != "cuda":
        yield
        return
    with _GPU, torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Within: this thread computes alone. (In torch the number belongs to the thread that sets it.)"""
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
