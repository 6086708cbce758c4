"""How fast DREAM-OOD's two hot loops are, against the usual way of writing them.

    python benchmarks/dream.py painting   pictures per second: batches against one by one, DPM-Solver++ against PLMS
    python benchmarks/dream.py sampling   outlier embeddings for 100 classes x 500 features x 768, 10,000 each, against the textbook loop

Painting uses data/diffusion (`dvc repro diffusion` first). Sampling measures a few rounds of one class with either code and says what
the whole takes at that pace.
"""

import sys
import time

import torch
import torch.nn.functional as F

from ood.config import Params
from ood.config.dream import EmbedRun, Prompts
from ood.config.training import Runtime
from ood.dream import pipelines, sampling
from ood.dream.painting import paint
from ood.dream.turning import spread_for

THREADS = 2
PAPER = EmbedRun(count=10_000, cosine=0.46, k=300, boundary=50, features_per_class=500, seeds_per_round=50, candidates=1500, keep=2)
CLASSES, FEATURES, WIDTH = 100, 500, 768


def painting() -> None:
    pipeline = pipelines.load(torch.device("cpu"), Params()[Runtime])
    prompts = Params()[Prompts]
    label = next(iter(prompts.names), "0")
    said, word = prompts.prompt(label), prompts.word(label)
    for sampler, steps in (("dpm", 20), ("plms", 50)):
        for batch in (1, 4, 64):
            count = max(batch, 8)
            paint(pipeline, [said] * batch, [word] * batch, None, list(range(batch)), sampler=sampler, steps=2)
            begin = time.perf_counter()
            for start in range(0, count, batch):
                paint(pipeline, [said] * batch, [word] * batch, None, list(range(start, start + batch)), sampler=sampler, steps=steps)
            print(f"{sampler} {steps} steps, batch {batch:3}: {count / (time.perf_counter() - begin):7.2f} pictures per second", flush=True)


def textbook_round(unit: torch.Tensor, boundary: torch.Tensor, sigma: float) -> torch.Tensor:
    """One round as it is usually written: make every candidate, search its neighbours one seed point at a time."""
    chosen = boundary[torch.randperm(len(boundary))[: PAPER.seeds_per_round]]
    noise = torch.randn(PAPER.candidates, unit.shape[1])
    kept = []
    for seed in chosen:
        candidates = F.normalize(unit[seed] + sigma * noise, dim=1)
        distance = torch.cdist(candidates, unit).topk(PAPER.k, dim=1, largest=False).values[:, -1]
        kept.append(candidates[distance.topk(PAPER.keep).indices])
    return torch.cat(kept)


def quick_round(unit: torch.Tensor, boundary: torch.Tensor, sigma: float) -> torch.Tensor:
    """One round as ood.dream.sampling.draw does it."""
    chosen = boundary[torch.randperm(len(boundary))[: PAPER.seeds_per_round]]
    noise = torch.randn(PAPER.candidates, unit.shape[1])
    rows, kept = sampling._kept(sampling.around(unit, chosen, sigma, noise, PAPER.k), PAPER, inlier=False)
    return F.normalize(unit[chosen[rows]] + sigma * noise[kept], dim=2).flatten(0, 1)


def sample() -> None:
    torch.manual_seed(0)
    unit = F.normalize(torch.randn(WIDTH) + 0.7 * torch.randn(FEATURES, WIDTH), dim=1)
    boundary = sampling.knn_distance(unit, unit, PAPER.k).topk(PAPER.boundary).indices
    sigma = spread_for(PAPER.cosine, WIDTH)
    rounds = PAPER.count // (PAPER.seeds_per_round * PAPER.keep)
    for name, function in (("textbook loop", textbook_round), ("ood.dream.sampling", quick_round)):
        torch.manual_seed(1)
        kept = [function(unit, boundary, sigma)]
        begin = time.perf_counter()
        kept += [function(unit, boundary, sigma) for _ in range(5)]
        seconds = (time.perf_counter() - begin) / 5
        cosine = sampling.knn_distance(torch.cat(kept), unit, PAPER.k).mean()
        print(
            f"{name:20}: {seconds:6.3f} s a round; {CLASSES} classes x {rounds} rounds: {seconds * rounds * CLASSES / 60:5.0f} min; "
            f"mean distance of what is kept {cosine:.4f}",
            flush=True,
        )


if __name__ == "__main__":
    torch.set_num_threads(THREADS)
    tasks = {"painting": painting, "sampling": sample}
    if len(sys.argv) != 2 or sys.argv[1] not in tasks:
        raise SystemExit(__doc__)
    tasks[sys.argv[1]]()
