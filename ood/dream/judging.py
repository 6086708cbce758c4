"""What a trained classifier makes of the dreamed images."""

from contextlib import nullcontext

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ood.data.batches import at_once
from ood.data.sets import Images, to_float
from ood.nets import Classifier
from ood.training.devices import Precision

THUMBNAIL = 32  # pixels along a side


@torch.inference_mode()
def judge(nets: list[Classifier], images: NDArray, device: torch.device, precision: Precision = nullcontext) -> NDArray:
    """Mean softmax of several networks, (N, C), for uint8 images (N, H, W, 3)."""
    rows, batch_size = [], at_once(device, images.shape[1])
    for start in range(0, len(images), batch_size):
        batch = to_float(torch.from_numpy(np.array(images[start : start + batch_size])).permute(0, 3, 1, 2).to(device))
        with precision():
            logits = [net(batch) for net in nets]
        rows.append(torch.stack([one.double().softmax(1) for one in logits]).mean(0).cpu())
    return torch.cat(rows).numpy()


def nearest(images: NDArray, others: Images, block: int = 256) -> tuple[NDArray, NDArray]:
    """Per image the index of the nearest of `others` and the root mean squared difference to it, in [0, 1] units.

    Compared at THUMBNAIL pixels where they are larger, block by block, so that each image is read once; only `images` are in memory so
    small (12 KiB each).
    """
    queries = torch.cat(
        [_flat(torch.from_numpy(np.array(images[at : at + block])).permute(0, 3, 1, 2)) for at in range(0, len(images), block)]
    )
    best, index = torch.full((len(images),), float("inf")), torch.zeros(len(images), dtype=torch.int64)
    for others_here in torch.arange(len(others)).split(4 * block):
        known = _flat(others.some(others_here))
        for here in torch.arange(len(images)).split(block):
            found = torch.cdist(queries[here], known).min(1)
            closer = found.values < best[here]
            best[here] = torch.where(closer, found.values, best[here])
            index[here] = torch.where(closer, others_here[found.indices], index[here])
    return index.numpy(), (best / known.shape[1] ** 0.5).numpy()


def _flat(images: torch.Tensor) -> torch.Tensor:
    small = to_float(images)
    return (F.adaptive_avg_pool2d(small, THUMBNAIL) if small.shape[-1] > THUMBNAIL else small).flatten(1)


def opinion(rows: list[dict], images: NDArray, probabilities: NDArray, classes: list[str], train: Images, names: list[str]) -> list[dict]:
    """The painter's rows, each with what the judge says and which ID training image it resembles most."""
    index, distance = nearest(images, train)
    place = {name: label for label, name in enumerate(classes)}
    return [
        row
        | {
            "predicted": classes[int(probabilities[n].argmax())],
            "confidence": float(probabilities[n].max()),
            "own": float(probabilities[n, place[row["class"]]]),
            "nearest": names[int(index[n])],
            "distance": float(distance[n]),
        }
        for n, row in enumerate(rows)
    ]


def summary(rows: list[dict]) -> dict[str, float]:
    """How ID the dreamed images look to the judge: means and shares over all of them."""
    confidence, own = (np.array([row[key] for row in rows]) for key in ("confidence", "own"))
    agreed = np.array([row["predicted"] == row["class"] for row in rows])
    return {
        "images": len(rows),
        "predicted_as_own_class": float(agreed.mean()),
        "mean_confidence": float(confidence.mean()),
        "any_class_above_0.9": float((confidence > 0.9).mean()),
        "own_class_above_0.9": float((own > 0.9).mean()),
        "mean_distance_to_training": float(np.mean([row["distance"] for row in rows])),
    }
