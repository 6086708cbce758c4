"""Painting a whole set: shards of whole batches, any of which a killed or another process may do, and each is done once."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ood.data.batches import generator_for
from ood.distributed import rank, world_size
from ood.dream.embeddings import Embedded
from ood.dream.studio import Studio, seed_of
from ood.errors import InputError
from ood.files import read_sealed, write_rows, write_sealed
from ood.progress import Progress
from ood.training.checkpoint import unfinished


@dataclass(frozen=True)
class Order:
    """What to paint: picture n is of class labels[n], from vector chosen[n] of that class, with seeds[n]. All (N,)."""

    labels: NDArray
    chosen: NDArray
    seeds: list[int]

    def __len__(self) -> int:
        return len(self.labels)


def order(classes: int, count: int, available: int, seed: int) -> Order:
    """`count` pictures of every class; vectors in a drawn order, from the start again when there are fewer of them.

    The released code draws vectors with replacement and classes at random; here no vector is used twice before all were, and every class
    gets exactly as many.
    """
    labels = np.repeat(np.arange(classes), count)
    chosen = [
        torch.randperm(available, generator=generator_for(seed, label, 50)).numpy()[np.arange(count) % available]
        for label in range(classes)
    ]
    return Order(labels, np.concatenate(chosen), [seed_of(seed, int(label), i % count) for i, label in enumerate(labels)])


def paint_shards(
    studio: Studio, wanted: Order, embedded: Embedded, classes: list[str], batch: int, folder: Path, progress: Progress
) -> None:
    """Paint what is missing below `folder`, a file per batch; of several processes each does its own batches.

    The batches are the same whoever paints them, so the pictures are too, bit for bit.
    """
    starts = range(0, len(wanted), batch)
    own = [number for number in range(len(starts)) if number % world_size() == rank()]
    progress.begin(len(own), "batch")
    for number in own:
        progress.step()
        path = folder / f"{number:06d}.npy"
        if unfinished(path, progress) is None:
            rows = range(starts[number], min(starts[number] + batch, len(wanted)))
            names, seeds = [classes[wanted.labels[n]] for n in rows], [wanted.seeds[n] for n in rows]
            if embedded.disturbed is None:
                picked = torch.from_numpy(np.stack([embedded.vectors[wanted.labels[n], wanted.chosen[n]] for n in rows]))
                images = studio.paint(names, picked, seeds)
            else:
                images = studio.paint(names, None, seeds, embedded.disturbed)
            stream = io.BytesIO()
            np.save(stream, images)
            write_sealed(path, stream.getvalue())
        progress.advance(f"picture {min((number + 1) * batch, len(wanted))} of {len(wanted)}")


def collect(folder: Path, wanted: Order, batch: int, target: Path) -> None:
    """All pictures in order, written to `target`: uint8 (N, side, side, 3).

    Raises:
        InputError: a shard is missing or of the wrong length, which only another process's failure can cause.
    """
    starts = range(0, len(wanted), batch)
    first = _shard(folder, 0, min(batch, len(wanted)))
    shards = (_shard(folder, number, min(batch, len(wanted) - start)) for number, start in enumerate(starts))
    write_rows(target, shards, (len(wanted), *first.shape[1:]), np.uint8)


def _shard(folder: Path, number: int, length: int) -> NDArray:
    path = folder / f"{number:06d}.npy"
    content = read_sealed(path)
    images = np.empty(0) if content is None else np.load(io.BytesIO(content))
    if len(images) != length:
        raise InputError(f"{path}: this batch of pictures is not whole. Run the stage again: it paints what is missing.")
    return images


def provenance(wanted: Order, studio: Studio, classes: list[str], disturbed: float | None = None) -> list[dict]:
    """A row per picture: class, prompt and word, which of the class's embeddings, or how far the prompt is disturbed, seed and sampler."""
    names = [classes[label] for label in wanted.labels]
    return [
        {
            "class": name,
            "prompt": studio.prompts.prompt(name),
            "word": studio.prompts.word(name),
            "embedding": int(wanted.chosen[n]),
            "disturbed": "" if disturbed is None else disturbed,
            "seed": wanted.seeds[n],
            "sampler": studio.painting.sampler,
            "steps": studio.painting.steps,
            "guidance": studio.painting.guidance,
        }
        for n, name in enumerate(names)
    ]
