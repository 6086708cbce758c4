"""Vectors turned by Gaussian noise to an expected cosine, whatever their width."""

import numpy as np
import torch.nn.functional as F
from torch import Tensor


def spread_for(cosine: float, width: int) -> float:
    """The standard deviation sigma at which normalise(z + sigma e) has this expected cosine to z in `width` dimensions.

    cos = 1 / sqrt(1 + d sigma^2); the paper's 0.03 and 0.07 at d = 768 are cosines of 0.77 and 0.46.
    """
    return float(np.sqrt((1 / cosine**2 - 1) / width))


def turned(vectors: Tensor, noise: Tensor, cosine: float) -> Tensor:
    """Vectors (..., d) turned by Gaussian noise (..., d) to this expected cosine, at their own norms."""
    unit = F.normalize(vectors, dim=-1) + spread_for(cosine, vectors.shape[-1]) * noise
    return F.normalize(unit, dim=-1) * vectors.norm(dim=-1, keepdim=True)
