"""What a trained classifier makes of the dreamed images, and the manifest that says it."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ood.data.batches import ImageSet, load, plain_batches
from ood.data.packed import item_names
from ood.dream.studio import Studio
from ood.dream.synthesis import Order, nearest
from ood.nets import store


@torch.inference_mode()
def judge(models: list[Path], images: NDArray, device: torch.device, batch_size: int = 500) -> NDArray:
    """Mean softmax of several trained models, (N, C), for uint8 images (N, H, W, 3)."""
    pictures = ImageSet(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.zeros(len(images), dtype=torch.int64))
    total = 0.0
    for folder in models:
        net, _ = store.load(folder)
        net.to(device)
        total = total + torch.cat([net(batch.to(device)).double().softmax(1).cpu() for batch, _ in plain_batches(pictures, batch_size)])
    return (total / len(models)).numpy()


def manifest(wanted: Order, images: NDArray, probabilities: NDArray, studio: Studio, classes: list[str]) -> list[dict]:
    """A row per image: where it comes from, what the judge says, which ID training image it resembles most."""
    train = load("id/train").images.permute(0, 2, 3, 1).numpy()
    names = item_names("id/train")
    index, distance = nearest(images, train)
    return [
        {
            "class": classes[label],
            "prompt": studio.prompts.prompt(classes[label]),
            "word": studio.prompts.word(classes[label]),
            "embedding": int(wanted.chosen[n]),
            "seed": wanted.seeds[n],
            "sampler": studio.painting.sampler,
            "steps": studio.painting.steps,
            "guidance": studio.painting.guidance,
            "predicted": classes[int(probabilities[n].argmax())],
            "confidence": float(probabilities[n].max()),
            "own": float(probabilities[n, label]),
            "nearest": names[int(index[n])],
            "distance": float(distance[n]),
        }
        for n, label in enumerate(wanted.labels)
    ]


def summary(rows: list[dict], mode: str) -> dict[str, float]:
    """How ID the dreamed images look to the judge: means and shares over all of them."""
    confidence, own = (np.array([row[key] for row in rows]) for key in ("confidence", "own"))
    agreed = np.array([row["predicted"] == row["class"] for row in rows])
    return {
        "images": len(rows),
        "predicted_as_own_class": float(agreed.mean()),
        "mean_confidence": float(confidence.mean()),
        "share_above_0.9": float(((own if mode == "inlier" else confidence) > 0.9).mean()),
        "mean_distance_to_training": float(np.mean([row["distance"] for row in rows])),
    }
