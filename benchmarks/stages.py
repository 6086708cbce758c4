"""Where the seconds of a `dvc repro` go, stage by stage: starting the process, its work, and DVC itself.

    python benchmarks/stages.py            # in a fresh clone; alone on the machine

Runs `dvc repro` with a `python` in front of the real one that writes down when each command began and ended. Start-up is measured
apart: the median of three imports of the stage's module. DVC's share is what lies between the end of one command and the beginning of
the next: hashing outputs, putting them into its cache, writing dvc.lock. Ends with a run that has nothing to do, beside one of as many
trivial stages: DVC's own floor. With --idle only that.
"""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
SHIM = """#!/bin/bash
begin=$(date +%s.%N)
{python} "$@"
code=$?
echo "$begin $(date +%s.%N) ${{@:3}}" >> {log}
exit $code
"""


def main() -> None:
    bin_ = Path(sys.executable).parent
    if "--idle" not in sys.argv:
        whole_run(bin_)
    count = len(subprocess.run([bin_ / "dvc", "stage", "list", "--name-only"], cwd=ROOT, check=True, capture_output=True).stdout.split())
    print(f"\n`dvc repro` with nothing to do: {idle(bin_, ROOT):.2f} s; of {count} trivial stages: {floor(bin_, count):.2f} s")


def idle(bin_: Path, folder: Path) -> float:
    """Seconds of a `dvc repro` that has nothing to do, median of five."""
    seconds = []
    for _ in range(5):
        begin = time.time()
        subprocess.run([bin_ / "dvc", "repro", "-q"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.time() - begin)
    return median(seconds)


def floor(bin_: Path, count: int) -> float:
    """The same of a chain of stages that write a file each."""
    with tempfile.TemporaryDirectory() as folder:
        for command in (["git", "init", "-q"], [bin_ / "dvc", "init", "-q"]):
            subprocess.run(command, cwd=folder, check=True)
        chain = [f"  s{i}: {{cmd: echo {i} > f{i}, deps: [{f'f{i - 1}' if i else 'seed'}], outs: [f{i}]}}" for i in range(count)]
        (Path(folder) / "seed").touch()
        (Path(folder) / "dvc.yaml").write_text("\n".join(["stages:", *chain, ""]))
        subprocess.run([bin_ / "dvc", "repro", "-q"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        return idle(bin_, Path(folder))


def whole_run(bin_: Path) -> None:
    """The table."""
    with tempfile.TemporaryDirectory() as folder:
        log, shim = Path(folder) / "log", Path(folder) / "python"
        shim.write_text(SHIM.format(python=sys.executable, log=log))
        shim.chmod(shim.stat().st_mode | stat.S_IXUSR)
        environment = os.environ | {"PATH": f"{folder}:{bin_}:{os.environ['PATH']}"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        begin = time.time()
        subprocess.run([shutil.which("dvc", path=str(bin_)), "repro"], cwd=ROOT, env=environment, check=True, stdout=sys.stderr)
        whole = time.time() - begin
        rows = [line.split() for line in log.read_text().splitlines()]
    end, found = begin, {}
    for first, last, stage, *_run in rows:
        total = found.setdefault(stage, [0, 0.0, 0.0])
        total[0] += 1
        total[1] += float(last) - float(first)
        total[2] += float(first) - end
        end = float(last)
    starts = {stage: start_up(stage) for stage in found}
    print("| stage | runs | start-up, each | start-up | work | DVC |\n|---|---|---|---|---|---|")
    sums = [0.0, 0.0, 0.0]
    for stage, (count, wall, dvc) in found.items():
        started = min(starts[stage] * count, wall)
        print(f"| {stage} | {count} | {starts[stage]:.1f} | {started:.0f} | {wall - started:.0f} | {dvc:.0f} |")
        sums = [a + b for a, b in zip(sums, (started, wall - started, dvc), strict=True)]
    print(f"| all | {len(rows)} | | {sums[0]:.0f} | {sums[1]:.0f} | {sums[2]:.0f} |")
    print(f"\n`dvc repro`: {whole:.0f} s")


def start_up(stage: str) -> float:
    """Seconds to an imported stage, median of three."""
    seconds = []
    for _ in range(3):
        begin = time.time()
        subprocess.run([sys.executable, "-c", f"import stages.{stage.replace('-', '_')}"], cwd=ROOT, check=True)
        seconds.append(time.time() - begin)
    return median(seconds)


if __name__ == "__main__":
    main()
