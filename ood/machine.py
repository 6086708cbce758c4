"""What this machine has, and how work is dealt out to it."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Stopped(Exception):  # nothing went wrong here, but beside
    """Raised in what still runs when other work beside it has failed, or was interrupted."""


@contextmanager
def at_once(most: int, look: Callable[[], None]) -> Iterator[tuple[Callable[..., Iterator[Any]], Callable[[], None]]]:
    """`map` over at most so many threads, and a step that what runs there calls now and then: after an error nothing else begins, and what
    has begun ends at its next step.

    Args:
        look: what a step does beside; what it raises is an error like others.
    """
    over = threading.Event()

    def step() -> None:
        if over.is_set():
            raise Stopped
        look()

    pool = ThreadPoolExecutor(most)
    try:
        yield pool.map, step
    except BaseException:
        over.set()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
