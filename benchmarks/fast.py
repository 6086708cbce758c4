"""What makes training on a CPU fast, one thing after the other: images per second of a training step, each variant in a process of its own.

    python benchmarks/fast.py [--net airbench_32_128_256] [--steps 20] [--repeats 3]

A step is forward, backward, SGD and, where it is asked for, the moving average of weights, on images of 32 pixels that are there. Variants
run in turn, `repeats` times, and the median counts: a shared machine's pace changes. Compiled, the first step is told apart. Run it alone.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ood import nets
from ood.config.training import Training
from ood.training.devices import keep_memory
from ood.training.loop import optimizer_for

BASE = {"batch": 256, "threads": 1, "processes": 1, "kept": False, "last": False, "half": False, "compiled": False, "ema": False}
BEST = BASE | {"kept": True, "last": True, "half": True}
VARIANTS = {
    "fp32, one thread": BASE,
    "+ freed memory stays": BASE | {"kept": True},
    "+ channels_last": BASE | {"kept": True, "last": True},
    "+ bf16": BEST,
    "the same, batch 64": BEST | {"batch": 64},
    "the same, batch 128": BEST | {"batch": 128},
    "the same, batch 512": BEST | {"batch": 512},
    "the same, with a moving average of weights": BEST | {"ema": True},
    "the same, without freed memory staying": BEST | {"kept": False},
    "the same, compiled": BEST | {"compiled": True},
    "the same, two threads": BEST | {"threads": 2},
    "the same, two processes of one thread": BEST | {"processes": 2},
}


def measured(net_name: str, steps: int, variant: dict) -> dict[str, float]:
    """Images a second, and the seconds of the first step, in this process."""
    torch.set_num_threads(variant["threads"])
    if variant["kept"]:
        keep_memory()
    torch.manual_seed(0)
    layout = torch.channels_last if variant["last"] else torch.contiguous_format
    net = nets.build(net_name, num_classes=10, size=32).to(memory_format=layout)
    images = torch.rand(variant["batch"], 3, 32, 32).to(memory_format=layout)
    labels = torch.arange(variant["batch"]) % 10
    if net.sees:
        net.see(torch.rand(500, 3, 32, 32))
    optimizer = optimizer_for([p for p in net.parameters() if p.requires_grad], Training(epochs=1, batch_size=256, lr=0.01), fused=False)
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.99), use_buffers=True) if variant["ema"] else None
    run = torch.compile(net, dynamic=False) if variant["compiled"] else net

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16) if variant["half"] else nullcontext():
            logits = run(images)
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        if average is not None:
            average.update_parameters(net)

    start = time.perf_counter()
    step()
    first = time.perf_counter() - start
    step()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return {"rate": variant["batch"] * steps / (time.perf_counter() - start), "first": first}


def together(net_name: str, steps: int, variant: dict) -> dict[str, float]:
    """The same of as many processes as the variant has, their rates added up."""
    command = [sys.executable, __file__, "--net", net_name, "--steps", str(steps), "--one", json.dumps(variant)]
    environment = os.environ | {"OMP_NUM_THREADS": str(variant["threads"])}
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(variant["processes"])]
    found = [json.loads(process.communicate()[0]) for process in running]
    return {"rate": sum(one["rate"] for one in found), "first": max(one["first"] for one in found)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", default="airbench_32_128_256")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measured(given.net, given.steps, given.one)))
        return
    found: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
    for _ in range(given.repeats):
        for name, variant in VARIANTS.items():
            found[name].append(together(given.net, given.steps, variant))
    print(f"| {given.net} | images per second | first step, s |\n|---|---|---|")
    for name, each in found.items():
        print(f"| {name} | {statistics.median(one['rate'] for one in each):.0f} | {statistics.median(one['first'] for one in each):.1f} |")


if __name__ == "__main__":
    main()
