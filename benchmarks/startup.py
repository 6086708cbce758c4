"""How long every stage takes to start, beside the bare import of torch and torchvision.

    python benchmarks/startup.py        # medians of three; promised: at most 1.5 times the bare import

Run it with bytecode compiled (as `make repro` installs it) and PYTHONDONTWRITEBYTECODE unset.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STAGES = sorted(p.stem for p in (ROOT / "stages").glob("*.py") if p.stem not in ("__init__", "__main__", "console"))


def seconds(code: str) -> float:
    """Median wall time of three fresh interpreters."""
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def main() -> None:
    bare = seconds("import torch, torchvision")
    print(f"{'import torch, torchvision':<28} {bare:5.2f} s")
    for stage in STAGES:
        own = seconds(f"import stages.{stage}")
        print(f"{stage.replace('_', '-'):<28} {own:5.2f} s  {own / bare:.2f} x")


if __name__ == "__main__":
    main()
