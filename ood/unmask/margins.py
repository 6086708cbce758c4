"""How sure a classifier is of what it was told."""

import torch
from torch import Tensor


@torch.no_grad()
def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Logit of the true class minus the largest other logit, shape (N,); negative = misclassified."""
    true = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], float("-inf"))
    return true.squeeze(1) - others.amax(1)
