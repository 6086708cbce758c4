"""What every post-hoc score costs on large data: seconds to fit and to score, and the memory that it takes beside the features themselves.

Features are drawn (a class mean and noise, cut at 0 as behind a ReLU): costs depend on sizes, not on what they say. Every score has a
process of its own, so that its largest memory is its own.

    python benchmarks/large.py --images 121000 --features 512 --classes 100     # ImageNet-100 with a ResNet-34
"""

import argparse
import multiprocessing
import resource
import time

import torch

from ood.config.evaluation import Scores
from ood.detection import detectors
from ood.detection.detectors import Outputs
from ood.detection.scores import Head

QUERIES = 2000


def outputs(head: Head, means: torch.Tensor, count: int, seed: int) -> tuple[Outputs, torch.Tensor]:
    """Outputs of `count` drawn images and their labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % len(means)
    features = torch.empty(count, means.shape[1])
    for rows in torch.arange(count).split(2**14):
        features[rows] = (means[labels[rows]] + torch.randn(len(rows), means.shape[1], generator=generator)).relu()
    return Outputs.of(head, torch.cat([head.logits(part) for part in features.split(2**14)]), features), labels


def memory() -> float:
    """The largest memory of this process so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(name: str, images: int, width: int, classes: int, threads: int) -> None:
    """Print a score's row."""
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(classes, width, generator=generator)
    head = Head(means / width**0.5, torch.zeros(classes))
    train, labels = outputs(head, means, images, 1)
    queries, _ = outputs(head, means, QUERIES, 2)
    before, begin = memory(), time.perf_counter()
    fitted = detectors.fit([name], head, train, labels, queries.logits, Scores())[name]
    middle = time.perf_counter()
    fitted(queries)
    end = time.perf_counter()
    print(f"| {name} | {middle - begin:.1f} | {(end - middle) * 10_000 / QUERIES:.1f} | {memory() - before:.2f} |", flush=True)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=121_000)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--scores", nargs="*", default=[name for name in detectors.NAMES if name not in detectors.FROM_IMAGES])
    asked = parser.parse_args()
    size = asked.images * asked.features * 4 / 2**30
    print(
        f"{asked.images:,} training images, {asked.features} features ({size:.2f} GiB), {asked.classes} classes, {asked.threads} threads\n"
    )
    print("| score | s to fit | s for 10,000 images | GiB beside the features |\n|---|---|---|---|", flush=True)
    spawn = multiprocessing.get_context("spawn")
    for name in asked.scores:
        process = spawn.Process(target=measure, args=(name, asked.images, asked.features, asked.classes, asked.threads))
        process.start()
        process.join()
        if process.exitcode:
            print(f"| {name} | died ({process.exitcode}) | | |", flush=True)


if __name__ == "__main__":
    main()
