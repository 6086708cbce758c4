"""What POEM's choice of outliers costs beside the epoch that it is for.

    python benchmarks/mining.py [--net airbench_32_128_256] [--outliers 50000] [--batch 128] [--steps 40] [--known N] [--bf16]

An epoch is timed on some of its steps, of as many outliers as twice the ID images (as OE trains), and reckoned up to 50,000 ID images;
the choice is timed whole, with a buffer that is full: all outliers are looked at, and as many ID images as the buffer holds outliers,
or `known` of both. --channels-last: as runtime.channels_last.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
import workspaces  # noqa: F401  # puts the repository on the path

from ood import nets
from ood.config.methods import Mine
from ood.config.training import Augment, Runtime, Training
from ood.data.batches import TrainingBatches
from ood.data.sets import ImageSet
from ood.progress import Silent
from ood.training.devices import accelerator_for
from ood.training.loop import Trainer
from ood.training.mining import Miner
from ood.training.objectives import EnergyMargin

INLIERS, CLASSES = 50_000, 10


def noise(count: int, size: int) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8)
    return ImageSet(images, torch.arange(count) % CLASSES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", default="airbench_32_128_256")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--outliers", type=int, default=50_000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--known", type=int, help="of the buffer, and of ID, how many the regression sees; left out: all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--channels-last", action="store_true")
    given = parser.parse_args()
    runtime = Runtime(precision="bf16" if given.bf16 else "fp32", threads=given.threads, channels_last=given.channels_last)
    accelerator, objective = accelerator_for(runtime), EnergyMargin(0.1, -25.0, -7.0)
    device = accelerator.device
    inliers, outliers = noise(INLIERS, given.size), noise(given.outliers, given.size)
    some = TrainingBatches(
        inliers.take(torch.arange(given.batch * given.steps)), given.batch, Augment(pad=4, flip=True), outliers, 2 * given.batch
    )
    net = nets.build(given.net, num_classes=CLASSES, size=given.size)
    if net.sees:
        net.see(inliers.images[:1000] / 255.0)
    with tempfile.TemporaryDirectory() as folder:
        times = []
        for epochs in (1, 3):  # the difference is two epochs without what comes before and after
            recipe = Training(epochs=epochs, batch_size=given.batch, lr=0.01)
            start = time.perf_counter()
            Trainer(accelerator, runtime, recipe, Path(folder) / str(epochs), Silent()).fit(net, objective, some, 0)
            times.append(time.perf_counter() - start)
    epoch = (times[1] - times[0]) / 2 * INLIERS / (given.batch * given.steps)
    setting = Mine(known=given.known)
    miner, whole = Miner(setting, Silent()), TrainingBatches(inliers, given.batch, Augment(), outliers, 2 * given.batch).to(device)
    count = round(setting.share * given.outliers)
    for _ in range(setting.epochs):
        miner.chosen.append(torch.randperm(given.outliers)[:count].sort().values)
    start = time.perf_counter()
    with accelerator.autocast():
        miner.batches(net, whole, 0, setting.epochs, 0)
    chosen = time.perf_counter() - start
    print(f"{given.net}: an epoch {epoch:.1f} s, choosing {count:,} of {given.outliers:,} outliers {chosen:.1f} s: {chosen / epoch:.1%}")


if __name__ == "__main__":
    main()
