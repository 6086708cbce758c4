"""Neural collapse (Papyan, Han and Donoho 2020): how far features and last layer have come to the simplex that training heads for."""

import torch
from torch import Tensor

KEYS = ("nc1", "nc2_norms", "nc2_angles", "nc2_cosines", "nc2_weight_norms", "nc3", "nc4")


def neural_collapse(features: Tensor, labels: Tensor, weight: Tensor, decided: Tensor) -> dict[str, float]:
    """NC1 to NC4 on a labelled set, each 0 at full collapse.

    Args:
        features: (N, D), as the last layer sees them, or raw. labels: (N,), every class among them. weight: the last layer's, (C, D).
        decided: the class that the network decides for, (N,).

    Returns:
        nc1: trace(S_W pinv(S_B)) / C, the spread within classes against that between them. nc2_norms, nc2_weight_norms: coefficient of
        variation of the centred class means' and of the weight rows' lengths. nc2_angles: mean of |cos + 1 / (C - 1)| over pairs of
        class means; nc2_cosines: standard deviation of these cosines. nc3: || W / ||W|| - M / ||M|| ||^2, last layer against class means.
        nc4: share of samples whose nearest class mean is another class than the network's.
    """
    x, w = features.double(), weight.double()
    classes = len(w)
    means = torch.stack([x[labels == c].mean(0) for c in range(classes)])
    centred = means - x.mean(0)
    within = x - means[labels]
    # trace(S_W pinv(S_B)) without a D x D matrix: S_B lives in the span of the class means.
    _, spread, directions = torch.linalg.svd(centred / classes**0.5, full_matrices=False)
    kept = spread > spread.max() * 1e-9
    whitened = within @ directions[kept].T / spread[kept]
    lengths, rows = centred.norm(dim=1), w.norm(dim=1)
    units = centred / lengths[:, None].clamp(min=1e-12)
    cosines = (units @ units.T)[~torch.eye(classes, dtype=torch.bool)]
    nearest = torch.cat([torch.cdist(part, means).argmin(1) for part in x.split(4096)])
    return {
        "nc1": float(whitened.square().sum() / len(x) / classes),
        "nc2_norms": float(lengths.std(correction=0) / lengths.mean()),
        "nc2_angles": float((cosines + 1 / (classes - 1)).abs().mean()),
        "nc2_cosines": float(cosines.std(correction=0)),
        "nc2_weight_norms": float(rows.std(correction=0) / rows.mean()),
        "nc3": float((w / w.norm() - centred / centred.norm()).square().sum()),
        "nc4": float((decided != nearest).double().mean()),
    }
