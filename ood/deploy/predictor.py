"""Pictures in, verdicts out: one, several, or a stream of them, whatever judges them."""

import queue
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, overload

from ood.deploy.pictures import Picture, Reader
from ood.deploy.verdicts import Verdict
from ood.machine import cores

AHEAD = 2  # batches that each worker may be ahead of what was asked for
PAUSE = 0.01  # seconds that a batch waits for more pictures before it goes as it is


class Predictor(ABC):
    """What predicts: one picture, several, or a stream of them, in order.

    classes: names of what it knows. together: pictures that are judged at once. reader: takes what it is handed.
    notes: what is to be said of its use on this machine.
    """

    def __init__(self, classes: list[str], together: int, reader: Reader, workers: int | None):
        self.classes, self.together, self.reader, self.workers = classes, together, reader, workers or cores()
        self.notes: list[str] = []

    @property
    @abstractmethod
    def promise(self) -> str:
        """What its threshold promises, in a line."""

    @property
    @abstractmethod
    def images(self) -> int:
        """How many calibration images a threshold rests on (of several thresholds, the fewest)."""

    @property
    def what(self) -> str:
        """What it looks at, in a word."""
        return "picture"

    @abstractmethod
    def judge(self, batch: list[Picture]) -> list[Verdict]:
        """Verdicts of at most `together` pictures; called by several threads."""

    @overload
    def predict(self, given: Iterator[Any]) -> Iterator[Verdict]: ...
    @overload
    def predict(self, given: Any) -> Any: ...
    def predict(self, given: Any) -> Any:
        """What it says of pictures: a Verdict of one; of several a list; of a generator a generator, which never holds more than a few.

        Args:
            given: a path, a folder, a pattern ('photos/*.jpg'), an open file or bytes, a PIL image, an array (H, W), (H, W, 3 or 4) or
                (N, H, W, C), a tensor (C, H, W) or (N, C, H, W), uint8 or floats in [0, 1]; or a list or generator of any of these. A
                generator is read ahead, by a thread of its own. Of texts: strings, a list or generator of them.

        Raises:
            InputError: something else than pictures; a folder or pattern without any. A picture that can't be read, or one among several
                that is none, is a Verdict with an error. What a generator raises comes after the verdicts of what it gave before.
        """
        if self.reader.is_one(given):
            (verdict,) = self.judge(list(self.reader.each(given)))
            return verdict
        verdicts = self.stream(given)
        return verdicts if isinstance(given, Iterator) else list(verdicts)

    def stream(self, given: Any) -> Iterator[Verdict]:
        """As `predict`, always one by one, in order, as soon as they are known."""
        waiting: deque[Future[list[Verdict]]] = deque()
        with _Source(self.reader.each(given), AHEAD * self.workers * self.together) as source, ThreadPoolExecutor(self.workers) as pool:
            while True:
                batch = source.take(self.together, wait=not waiting) if len(waiting) <= AHEAD * self.workers else []
                if batch:
                    waiting.append(pool.submit(self.judge, batch))
                elif not waiting:
                    break
                if waiting and (waiting[0].done() or not batch):
                    yield from waiting.popleft().result()
        source.end()


class _Source:
    """Pictures, pulled by a thread of its own, so that who waits for verdicts needn't wait for the next picture."""

    def __init__(self, pictures: Iterator[Picture], room: int):
        self.queue: queue.Queue[Picture | None] = queue.Queue(room)
        self.error: BaseException | None = None
        self.stopped = self.ended = False
        self.thread = threading.Thread(target=self._pull, args=(pictures,), daemon=True)

    def __enter__(self) -> "_Source":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped = True

    def _pull(self, pictures: Iterator[Picture]) -> None:
        try:
            for picture in pictures:
                if not self._put(picture):
                    return
        except BaseException as error:  # whatever a generator raises is for who reads the verdicts
            self.error = error
        self._put(None)

    def _put(self, picture: Picture | None) -> bool:
        while not self.stopped:
            try:
                self.queue.put(picture, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def take(self, most: int, *, wait: bool) -> list[Picture]:
        """At most so many that are there, or come within a moment; none at the end, or if none is there and nobody should wait."""
        batch: list[Picture] = []
        while len(batch) < most and not self.ended:
            try:
                picture = self.queue.get(timeout=None if wait and not batch else PAUSE)
            except queue.Empty:
                break
            if picture is None:
                self.ended = True
            else:
                batch.append(picture)
        return batch

    def end(self) -> None:
        """Raise what the pictures' source raised."""
        if self.error is not None:
            raise self.error
