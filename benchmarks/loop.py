"""The training loop against the network's own arithmetic, and against the usual loop: images per second.

    python benchmarks/loop.py [--net wrn_40_2] [--batch 128] [--steps 20] [--bf16] [--channels-last]

bare: forward, backward and optimiser step on one batch that stays where it is; what no loop can beat.
ours: ood.training.loop.Trainer on uint8 images in memory, random crop and flip as batched tensor operations, loss and accuracy recorded.
usual: torchvision transforms on PIL images (RandomCrop, flip, ToTensor, Normalize) in a DataLoader, the same network.
Evaluation: ood.evaluation.features.extract against the bare forward pass in inference mode.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ood import nets
from ood.config.training import Augment, Runtime, Strong, Training
from ood.data.batches import TrainingBatches, at_once
from ood.data.sets import ImageSet
from ood.evaluation.features import extract
from ood.progress import Silent
from ood.training.devices import accelerator_for, placed
from ood.training.loop import Trainer, optimizer_for
from ood.training.objectives import Objective


def clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


class Pictures(torch.utils.data.Dataset):
    """What torchvision's CIFAR10 is: an array whose rows become PIL images and go through transforms one by one."""

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        from torchvision import transforms

        steps = [transforms.RandomCrop(images.shape[1], padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
        self.transform = transforms.Compose([*steps, transforms.Normalize(nets.CIFAR_MEAN, nets.CIFAR_STD)])
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.transform(Image.fromarray(self.images[i])), int(self.labels[i])


def shares(work: Callable[[], object], title: str) -> None:
    """Print the operators that `work` spends most of its own time in."""
    from torch.profiler import ProfilerActivity, profile

    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    with profile(activities=kinds) as found:
        work()
    rows = [(e.self_device_time_total if torch.cuda.is_available() else e.self_cpu_time_total, e.key) for e in found.key_averages()]
    total = sum(time for time, _ in rows)
    for time_spent, name in sorted(rows, reverse=True)[:12]:
        print(f"{title}: {time_spent / total:6.1%} {name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", default="wrn_40_2")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--strong", action="store_true", help="ours with label smoothing, MixUp, CutMix and RandAugment, as for CCT")
    parser.add_argument("--profile", action="store_true", help="also print what a training epoch and an evaluation spend their time on")
    given = parser.parse_args()
    runtime = Runtime(
        precision="bf16" if given.bf16 else "fp32", threads=given.threads, channels_last=given.channels_last, compile=given.compile
    )
    accelerator = accelerator_for(runtime)
    device, count = accelerator.device, given.batch * given.steps
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (count, given.size, given.size, 3)).astype(np.uint8)
    labels = rng.integers(0, 10, count)
    images = ImageSet(torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels))
    strong = Strong(label_smoothing=0.1, mixup=0.8, cutmix=1.0, randaugment=9.0) if given.strong else Strong()
    recipe = Training(epochs=2, batch_size=given.batch, lr=0.01, strong=strong)

    def network() -> nets.Classifier:
        torch.manual_seed(0)
        return placed(nets.build(given.net, num_classes=10, size=given.size), device, runtime)

    def autocast():
        return torch.autocast(device.type, torch.bfloat16) if given.bf16 else nullcontext()

    def step(net, optimizer, x, y):
        with autocast():
            logits = net(x)
        F.cross_entropy(logits.float(), y).backward()
        optimizer.step()
        optimizer.zero_grad()

    found = {}
    net = network()
    run, optimizer = torch.compile(net) if given.compile else net, optimizer_for(list(net.parameters()), recipe, False)
    x, y = images.images[: given.batch].to(device).float() / 255, images.labels[: given.batch].to(device)
    for _ in range(2):
        start = clock(device)
        for _ in range(given.steps):
            step(run, optimizer, x, y)
        found["training, bare"] = count / (clock(device) - start)

    with tempfile.TemporaryDirectory() as folder:
        ticks: list[float] = []

        class Clock(Silent):
            def advance(self, message: str = "") -> None:
                ticks.append(clock(device))

        batches = TrainingBatches(images, given.batch, Augment(pad=4, flip=True), strong=strong)
        Trainer(accelerator, runtime, recipe, Path(folder), Clock()).fit(network(), Objective(), batches, 0)
        found["training, ours"] = count / (ticks[1] - ticks[0])  # the second epoch, its checkpoint included

    net = network()
    optimizer = optimizer_for(list(net.parameters()), recipe, False)
    loader = torch.utils.data.DataLoader(
        Pictures(pictures, labels), given.batch, shuffle=True, num_workers=given.workers, persistent_workers=given.workers > 0
    )
    for _ in range(2):
        start = clock(device)
        for x, y in loader:
            step(net, optimizer, x.to(device), y.to(device))
        found["training, usual"] = count / (clock(device) - start)

    net = network().eval()
    on_device = images.to(device)
    x = on_device.images.float() / 255
    found |= {"evaluation, bare": 0.0, "evaluation, ours": 0.0}
    for _ in range(4):  # in turn, the best of each: a shared machine's pace changes by a fifth within seconds
        start = clock(device)
        with torch.inference_mode():
            for part in x.split(at_once(device, given.size)):
                net(part)
        found["evaluation, bare"] = max(found["evaluation, bare"], count / (clock(device) - start))
        start = clock(device)
        extract(net, on_device, at_once(device, given.size), lambda: None)
        found["evaluation, ours"] = max(found["evaluation, ours"], count / (clock(device) - start))

    if given.profile:
        shares(lambda: extract(net, on_device, at_once(device, given.size), lambda: None), "evaluation")
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(accelerator, runtime, recipe.model_copy(update={"epochs": 1}), Path(folder), Silent())
            shares(lambda: trainer.fit(network(), Objective(), batches, 0), "training")
    print(f"{given.net}, {given.size} pixels, batch {given.batch}, {runtime.precision}{', channels_last' * given.channels_last}, {device}")
    for name, rate in found.items():
        kind = name.split(",")[0]
        print(f"{name:<18} {rate:8.0f} images/s   {rate / found[f'{kind}, bare']:.2f} of bare")


if __name__ == "__main__":
    main()
