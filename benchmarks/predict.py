"""What a detector in use costs: many files beside decoding plus the bare forward pass, its memory, the time to a first answer.

    python benchmarks/predict.py [data/detector] [--pictures 10000] [--kind jpg] [--pixels 64] [--onnx detector.onnx]

Pictures are noise of `pixels` a side, written for the occasion. The bare way decodes all of them through the detector's own chain, on as
many threads, then sends them through the network in batches of 64 with all cores; it has neither scores, p-values nor verdicts, nor does
an image's answer there stay the same in other company.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image

from ood import Detector
from ood.deploy import loading
from ood.deploy.pictures import Picture
from ood.deploy.predictor import Predictor

BATCH = 64


def written(folder: Path, count: int, pixels: int, kind: str) -> list[Path]:
    rng = np.random.default_rng(0)
    some = [Image.fromarray(rng.integers(0, 256, (pixels // 4, pixels // 4, 3), np.uint8)).resize((pixels, pixels)) for _ in range(200)]
    paths = [folder / f"{i:06d}.{kind}" for i in range(count)]
    for i, path in enumerate(paths):
        some[i % len(some)].save(path)
    return paths


def bare(detector: Detector, paths: list[Path]) -> tuple[float, float]:
    """Seconds of decoding, and of the forward pass."""
    begun = time.perf_counter()
    with ThreadPoolExecutor(detector.workers) as pool:
        images = list(pool.map(lambda path: detector.looked_at(Picture(str(path), path))[0], paths))
    decoded = time.perf_counter() - begun
    begun = time.perf_counter()
    torch.set_num_threads(detector.workers)
    with torch.inference_mode():
        for start in range(0, len(images), BATCH):
            batch = torch.stack(images[start : start + BATCH]).float() / 255
            for member in detector.ensemble.members:
                member.net(batch)
    return decoded, time.perf_counter() - begun


def predicted(detector: Predictor, paths: list[Path]) -> tuple[float, list[float]]:
    """Seconds of `predict` from a generator, and MiB in use along the way."""
    process, used = psutil.Process(), []
    begun = time.perf_counter()
    for number, _ in enumerate(detector.predict(path for path in paths)):
        if number % (len(paths) // 5) == 0:
            used.append(process.memory_info().rss / 2**20)
    return time.perf_counter() - begun, used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector", nargs="?", default="data/detector")
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--pixels", type=int, default=64)
    parser.add_argument("--onnx", type=Path)
    parser.add_argument("--kind", default="jpg", choices=["jpg", "png"])
    arguments = parser.parse_args()
    detector = Detector.load(arguments.detector)
    with tempfile.TemporaryDirectory() as folder:
        paths = written(Path(folder), arguments.pictures, arguments.pixels, arguments.kind)
        detector.predict(paths[:200])  # warm
        for _ in range(2):
            took, used = predicted(detector, paths)
            decoding, forward = bare(detector, paths)
            print(
                f"{len(paths):,} pictures: predict {took:.2f} s, {len(paths) / took:,.0f} a second; decoding {decoding:.2f} s and forward "
                f"{forward:.2f} s: {took / (decoding + forward):.2f} times that; MiB along the way: {', '.join(f'{u:.0f}' for u in used)}"
            )
        if arguments.onnx:
            took, _ = predicted(loading.load(arguments.onnx), paths)
            print(f"the graph, by onnxruntime: {took:.2f} s, {len(paths) / took:,.0f} a second")
        command = [sys.executable, "-m", "stages", "predict", str(paths[0]), "--detector", arguments.detector]
        for _ in range(3):
            begun = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=False, env=os.environ)
            print(f"from the command to its answer: {time.perf_counter() - begun:.2f} s")


if __name__ == "__main__":
    main()
