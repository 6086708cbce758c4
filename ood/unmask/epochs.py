"""What the kept epochs of a training tell of every training image: who was learned late, and what the network believed before that.

A network learns what images have in common before it learns single images by heart; what the first epochs say of an image whose label is
wrong, or odd, is therefore mostly right. AUM: Pleiss et al. 2020; forgetting: Toneva et al. 2019. Which epochs are the first is chosen on
ID validation images.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ood.nets.store import load_weights
from ood.training.devices import Precision
from ood.unmask.constraint import Batches, drawn_masks, masked_logits
from ood.unmask.margins import margin


class OverEpochs(NamedTuple):
    """Per training image, shape (N,).

    early_doubt: 1 - mean probability of its label over the first epochs. aum: mean margin over all. forgetting: how often it was right and
    was not at the next look (of images that were never right: the number of looks). loss_over_epochs: mean loss; masked_loss_over_epochs:
    under one mask an epoch. likely: the most probable class over the first epochs. first: how many looks these are.
    """

    early_doubt: Tensor
    aum: Tensor
    forgetting: Tensor
    loss_over_epochs: Tensor
    masked_loss_over_epochs: Tensor
    likely: Tensor
    first: int

    def columns(self) -> dict[str, Tensor]:
        """The rankings by their names."""
        return {name: value for name, value in self._asdict().items() if isinstance(value, Tensor) and name != "likely"}

    def contradicted(self, labels: Tensor) -> float:
        """The share of images to which the first epochs give another label: an estimate of how many labels are wrong."""
        return float((self.likely != labels).double().mean())


def over_epochs(
    nets: Iterable[nn.Module],
    batches: Batches,
    validation: Batches,
    keep: float,
    seed: int,
    tick: Callable[[], None] = lambda: None,
    precision: Precision = nullcontext,
) -> OverEpochs:
    """Look at the training images (un-augmented, in the order of `batches`) with the network of one epoch after the other.

    The first epochs are as many as, with their probabilities averaged, make fewest errors on `validation`, and no more than needed.

    Args:
        keep: share of every layer's weights that the masks keep, one mask an epoch.
    """
    looks, fewest, first = 0, float("inf"), 0
    believed = validated = margins = losses = masked_losses = forgotten = torch.zeros(())
    was_right = ever_right = torch.zeros((), dtype=torch.bool)
    early = torch.zeros(())
    for looks, net in enumerate(nets, start=1):  # how many there were is asked below
        logits, labels = masked_logits(net, batches, {}, precision)
        held_out, wanted = masked_logits(net, validation, {}, precision)
        (mask,) = drawn_masks(net, keep, 1, seed)
        masked, _ = masked_logits(net, batches, mask, precision)
        believed, validated = believed + logits.double().softmax(1), validated + held_out.double().softmax(1)
        margins, losses = margins + margin(logits, labels), losses + F.cross_entropy(logits, labels, reduction="none")
        masked_losses = masked_losses + F.cross_entropy(masked, labels, reduction="none")
        right = logits.argmax(1) == labels
        forgotten, ever_right, was_right = forgotten + (was_right & ~right), ever_right | right, right
        errors = float((validated.argmax(1) != wanted).double().mean())
        if errors < fewest:
            fewest, first, early = errors, looks, believed / looks
        tick()
    return OverEpochs(
        early_doubt=1 - early.gather(1, labels[:, None]).squeeze(1),
        aum=margins / looks,
        forgetting=torch.where(ever_right, forgotten.double(), float(looks)),
        loss_over_epochs=losses / looks,
        masked_loss_over_epochs=masked_losses / looks,
        likely=early.argmax(1),
        first=first,
    )


def at_epochs(net: nn.Module, seen: nn.Module, files: Iterable[Path]) -> Iterator[nn.Module]:
    """What is seen of a network (all of it, or its head) while it takes the weights of one kept epoch after the other."""
    for file in files:
        load_weights(net, file)
        yield seen
