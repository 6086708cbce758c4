"""What fuzz tests share: how many cases, damage to bytes, and an alarm for what hangs."""

import os
import random
import signal
from collections.abc import Callable
from typing import TypeVar

from ood.errors import InputError

T = TypeVar("T")
CASES = int(os.environ.get("FUZZ", "300"))
SECONDS = 20  # that one case may take


class TooSlowError(Exception):
    """A case hangs."""


def outcome(case: str, work: Callable[[], T], seconds: int = SECONDS) -> tuple[T | None, str]:
    """What some work gives, or the line of its InputError; any other end fails the test."""

    def stop(*_: object) -> None:
        raise TooSlowError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        return work(), ""
    except InputError as error:
        return None, str(error)
    except BaseException as error:
        raise AssertionError(f"{case}: {type(error).__name__}: {error}") from error
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Some of its bytes changed, lost, doubled, or lied about."""
    data = bytearray(content)
    for _ in range(rng.choice([0, 0, 1, 1, 1, 2, 5, 30])):
        if not data:
            break
        at = min(int(len(data) * rng.random() ** 3), len(data) - 1)  # headers more often than the rest
        match rng.randrange(7):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at] = rng.choice([0, 255, 127, 128])
            case 2:
                del data[at:]
            case 3:
                del data[at : at + rng.randint(1, 50)]
            case 4:
                data[at:at] = rng.randbytes(rng.randint(1, 50))
            case 5:
                data[at : at + 4] = rng.choice([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\xff\xff"])
            case _:
                data[at:] = bytes(len(data) - at)
    return bytes(data)
