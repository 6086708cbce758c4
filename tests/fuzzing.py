"""What fuzz tests share: how many cases, damage to bytes, and an alarm for what hangs."""

import os
import random
import signal

CASES = int(os.environ.get("FUZZ", "300"))
SECONDS = 20  # that one case may take


class TooSlowError(Exception):
    """A case hangs."""


def in_time(seconds: int = SECONDS) -> None:
    """From now on, so many seconds; 0: as long as it takes."""

    def stop(*_: object) -> None:
        raise TooSlowError

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)


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
