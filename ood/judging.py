"""What a trained classifier makes of the dreamed images."""

import numpy as np
import torch
from numpy.typing import NDArray

from ood.nets import Classifier


@torch.inference_mode()
def judge(nets: list[Classifier], images: NDArray, device: torch.device, batch_size: int = 500) -> NDArray:
    """Mean softmax of several networks, (N, C), for uint8 images (N, H, W, 3)."""
    rows = []
    for start in range(0, len(images), batch_size):
        batch = torch.from_numpy(np.array(images[start : start + batch_size])).permute(0, 3, 1, 2).to(device).float() / 255
        rows.append(torch.stack([net(batch).double().softmax(1) for net in nets]).mean(0).cpu())
    return torch.cat(rows).numpy()


def nearest(images: NDArray, others: NDArray, block: int = 256) -> tuple[NDArray, NDArray]:
    """Per image the index of the nearest of `others` and the root mean squared difference to it, in [0, 1] units.

    Block by block, so that neither set is ever in memory as floating-point numbers.
    """
    best = [_nearest_in_blocks(_flat(images[i : i + block]), others, 4 * block) for i in range(0, len(images), block)]
    return torch.cat([index for index, _ in best]).numpy(), torch.cat([distance for _, distance in best]).numpy()


def _nearest_in_blocks(queries: torch.Tensor, others: NDArray, block: int) -> tuple[torch.Tensor, torch.Tensor]:
    distance, index = torch.full((len(queries),), float("inf")), torch.zeros(len(queries), dtype=torch.int64)
    for start in range(0, len(others), block):
        found = torch.cdist(queries, _flat(others[start : start + block])).min(1)
        closer = found.values < distance
        distance, index = torch.where(closer, found.values, distance), torch.where(closer, found.indices + start, index)
    return index, distance / queries.shape[1] ** 0.5


def _flat(images: NDArray) -> torch.Tensor:
    return torch.from_numpy(np.array(images)).flatten(1).float() / 255


def opinion(rows: list[dict], images: NDArray, probabilities: NDArray, classes: list[str], train: NDArray, names: list[str]) -> list[dict]:
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
