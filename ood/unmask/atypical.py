"""The atypical samples: training images that a trained classifier gets wrong, or loses, as soon as some of its weights are masked."""

from contextlib import nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ood.training.devices import Precision
from ood.unmask.constraint import Batches, drawn_masks, masked_logits


class Atypical(NamedTuple):
    """Per training sample, shape (N,): dense loss and margin, mean loss under masks, share of masks that misclassify it."""

    loss: Tensor
    margin: Tensor
    masked_loss: Tensor
    flip_rate: Tensor

    def order(self) -> Tensor:
        """Indices from the most to the least atypical: by flip rate, then by masked loss."""
        by_loss = self.masked_loss.argsort(descending=True, stable=True)
        return by_loss[self.flip_rate[by_loss].argsort(descending=True, stable=True)]

    def table(self, items: list[str], labels: Tensor) -> list[dict]:
        """The ranking as rows, most atypical first; items: image ids."""
        return [
            {
                "rank": rank,
                "image": items[i],
                "label": int(labels[i]),
                "margin": float(self.margin[i]),
                "loss": float(self.loss[i]),
                "masked_loss": float(self.masked_loss[i]),
                "flip_rate": float(self.flip_rate[i]),
            }
            for rank, i in enumerate(self.order().tolist(), start=1)
        ]

    def figures(self) -> dict[str, float | None]:
        """Whether flips mean atypical: dense margins of samples that some mask flips against the rest (None where there is none)."""
        flipped = self.flip_rate > 0
        medians = {"median_margin_flipped": self.margin[flipped], "median_margin_rest": self.margin[~flipped]}
        return {"share_flipped_by_any_mask": float(flipped.float().mean())} | {
            name: float(margins.median()) if len(margins) else None for name, margins in medians.items()
        }


def atypical_samples(
    net: nn.Module, batches: Batches, keep: float, n_masks: int, seed: int, precision: Precision = nullcontext
) -> Atypical:
    """How every training sample (un-augmented, in the order of `batches`) fares under the masks of `estimate_constraint`."""
    logits, labels = masked_logits(net, batches, {}, precision)
    losses, flips = [], []
    for mask in drawn_masks(net, keep, n_masks, seed):
        masked, _ = masked_logits(net, batches, mask, precision)
        losses.append(F.cross_entropy(masked, labels, reduction="none"))
        flips.append((masked.argmax(1) != labels).float())
    return Atypical(
        loss=F.cross_entropy(logits, labels, reduction="none"),
        margin=margin(logits, labels),
        masked_loss=torch.stack(losses).mean(0),
        flip_rate=torch.stack(flips).mean(0),
    )


@torch.no_grad()
def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Logit of the true class minus the largest other logit, shape (N,); negative = misclassified."""
    true = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], float("-inf"))
    return true.squeeze(1) - others.amax(1)
