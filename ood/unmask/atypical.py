"""The atypical samples: training images that a trained classifier gets wrong, or loses, as soon as some of its weights are masked."""

from contextlib import nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ood.training.devices import Precision
from ood.unmask.constraint import Batches, drawn_masks, masked_logits
from ood.unmask.epochs import OverEpochs
from ood.unmask.margins import margin


class Atypical(NamedTuple):
    """Per training sample, shape (N,): dense loss and margin, mean loss under masks, share of masks that misclassify it, the class that is
    most probable over masks.
    """

    loss: Tensor
    margin: Tensor
    masked_loss: Tensor
    flip_rate: Tensor
    likely: Tensor

    def order(self) -> Tensor:
        """Indices from the most to the least atypical: by flip rate, then by masked loss."""
        by_loss = self.masked_loss.argsort(descending=True, stable=True)
        return by_loss[self.flip_rate[by_loss].argsort(descending=True, stable=True)]

    def rankings(self, epochs: OverEpochs | None) -> dict[str, Tensor]:
        """Everything that ranks the images, by its name."""
        ours = {"loss": self.loss, "masked_loss": self.masked_loss, "flip_rate": self.flip_rate}
        return ours | ({} if epochs is None else epochs.columns())

    def table(self, items: list[str], labels: Tensor, epochs: OverEpochs | None = None) -> list[dict]:
        """The ranking as rows, most atypical first; items: image ids; epochs: what the training's epochs tell beside the masks."""
        likely = self.likely if epochs is None else epochs.likely
        columns = {"margin": self.margin, **self.rankings(epochs)}
        return [
            {"rank": rank, "image": items[i], "label": int(labels[i]), "likely": int(likely[i])}
            | {name: float(values[i]) for name, values in columns.items()}
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
    losses, flips, believed = [], [], torch.zeros(logits.shape, dtype=torch.float64)
    for mask in drawn_masks(net, keep, n_masks, seed):
        masked, _ = masked_logits(net, batches, mask, precision)
        losses.append(F.cross_entropy(masked, labels, reduction="none"))
        flips.append((masked.argmax(1) != labels).float())
        believed += masked.double().softmax(1)
    return Atypical(
        loss=F.cross_entropy(logits, labels, reduction="none"),
        margin=margin(logits, labels),
        masked_loss=torch.stack(losses).mean(0),
        flip_rate=torch.stack(flips).mean(0),
        likely=believed.argmax(1),
    )
