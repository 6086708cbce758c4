"""From photographs to trained heads on a frozen backbone: where the time goes.

    python benchmarks/photos.py [--count 1000] [--width 1600] [parts | heads]

parts: pictures a second of decoding, of resizing and cutting, and of EfficientNet-Lite0 by threads, batch and precision; then all of it by
worker processes and threads, which share two cores. heads: the recipe `folder` on so many made-up photographs, from `prepare` to the last
trained head, stage by stage in plain commands, two at a time.

The photographs are parts of scikit-learn's two, enlarged, mirrored, in other tones: what they show doesn't matter here, their bytes do.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from ood.config.look import Look
from ood.config.training import Runtime
from ood.data.batches import PlainBatches
from ood.data.chain import ImageChain
from ood.data.reading import read_image
from ood.data.sets import FileSet
from ood.data.streamed import FileImages
from ood.look.network import network
from ood.training.devices import placed, set_up_cpu

ROOT = Path(__file__).resolve().parent.parent
CLASSES = 10


def photographs(folder: Path, count: int, width: int, seed: int = 0, classes: int = CLASSES) -> Path:
    rng, sources = np.random.default_rng(seed), [Image.fromarray(image) for image in load_sample_images().images]
    for i in range(count):
        source = sources[i % len(sources)]
        side = int(rng.integers(120, 400))
        left, top = int(rng.integers(0, source.width - side)), int(rng.integers(0, source.height - side))
        part = source.crop((left, top, left + side, top + side)).resize((width, width * 3 // 4), Image.Resampling.BICUBIC)
        toned = np.asarray(part) * rng.uniform(0.6, 1.0, 3)
        path = folder / f"class-{i % classes:02d}" / f"{i:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(toned.astype(np.uint8)).save(path, quality=90)
    return folder


def rate(count: int, work: object) -> float:
    begin = time.perf_counter()
    for _ in work:
        pass
    return count / (time.perf_counter() - begin)


def parts(folder: Path) -> None:
    paths = sorted(folder.rglob("*.jpg"))[:200]
    net, config = network(Look().net, ["a", "b"])
    chain = ImageChain(config)
    print(f"decode             {rate(len(paths), (read_image(path) for path in paths)):7.1f} pictures/s, one core")
    with ThreadPoolExecutor(2) as pool:
        print(f"decode, 2 threads  {rate(len(paths), pool.map(read_image, paths)):7.1f}")
    decoded = [read_image(path) for path in paths]
    print(f"resize and cut     {rate(len(paths), (chain.finish(chain.native(image)[None]) for image in decoded)):7.1f}, one core")
    images = torch.rand(64, 3, chain.config.side, chain.config.side)
    for threads in (1, 2):
        runtime = Runtime(threads=threads, channels_last=True)
        set_up_cpu(runtime)
        placed(net, torch.device("cpu"), runtime).eval()
        for batch in (4, 16, 200):
            looked = images.repeat(4, 1, 1, 1)[: max(batch, 64)]
            with torch.inference_mode():
                rate(1, map(net.features, looked[: 2 * batch].split(batch)))
                found = rate(len(looked), map(net.features, looked.split(batch)))
                print(f"network            {found:7.1f}, {threads} threads, batches of {batch}")
    for workers in (0, 1, 2):
        for threads in (1, 2):
            set_up_cpu(Runtime(threads=threads))
            some = FileSet(
                FileImages([path.as_posix() for path in paths], chain), torch.zeros(len(paths), dtype=torch.int64), workers=workers
            )
            with torch.inference_mode():
                found = rate(len(paths), (net.features(batch) for batch, _ in PlainBatches(some, 4)))
            print(f"all of it          {found:7.1f}, {workers} workers, {threads} threads")


def stages() -> Iterator[list[list[str]]]:
    """Groups of commands; those of a group don't wait for each other."""
    yield [["check"]]
    yield [["prepare"]]
    yield [["pretrain", "ce"]]
    yield [["pretrain", "l2"], ["mask", "um"]]
    yield [["um", "um"], ["um", "control"], ["umap", "umap"], ["umap", "umap-control"]]
    yield [["oe", "oe"]]
    yield [["oe", "energy"], ["oe", "no-outliers"]]


def heads(count: int, width: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        where = Path(name)
        for file in ("params.yaml", "dvc.yaml"):
            shutil.copy(ROOT / file, where)
        photographs(where / "images/mine", count, width)
        photographs(where / "images/other", count // 4, width, seed=1, classes=1)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}

        def run(command: list[str]) -> float:
            begin = time.perf_counter()
            subprocess.run([sys.executable, "-m", "stages", *command], cwd=where, env=environment, check=True, stdout=subprocess.DEVNULL)
            return time.perf_counter() - begin

        run(["recipe", "folder", "--id", "images/mine", "--outliers", "images/other"])
        begin, spent = time.perf_counter(), {}
        with ThreadPoolExecutor(2) as pool:
            for group in stages():
                for command, seconds in zip(group, pool.map(run, group), strict=True):
                    spent[" ".join(command)] = seconds
        total = time.perf_counter() - begin
        for command, seconds in spent.items():
            print(f"{command:<20} {seconds:6.1f} s")
        print(f"{count} photographs, prepared, ten heads of three seeds trained: {total:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["parts", "heads", "both"], default="both")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--width", type=int, default=1600, help="of a photograph; its height is three quarters of that")
    given = parser.parse_args()
    if given.what != "heads":
        with tempfile.TemporaryDirectory() as name:
            parts(photographs(Path(name), 200, given.width))
    if given.what != "parts":
        heads(given.count, given.width)


if __name__ == "__main__":
    main()
