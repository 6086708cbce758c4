"""BOOD's way to outliers (Liao et al., ICML 2025): features near the boundary of their class, pushed across it. Sources: docs/bood.md.

Per class, on unit features z of the aligned encoder, whose logits are f_j(z) = cos(z, T_j) / t:
 1. steps of one size, z <- z + a sign(grad CE(f(z), y)), until the class is no longer y: how many that takes is the distance;
 2. the features with the smallest distance; of those that are equally far, the ones whose exact distance is smaller;
 3. each `beyond` steps farther than the first on the other side;
 4. normalised, times the norm of the class's token embedding, whose place it takes.

Nothing is drawn: a class has as many vectors as features near its boundary, which take turns until there are `count`.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ood.config.dream import EmbedRun
from ood.data.batches import generator_for
from ood.dream.sampling import Drawn, directions, scaled
from ood.errors import InputError


def ascent(z: Tensor, anchors: Tensor, label: int, temperature: float) -> Tensor:
    """Gradient of CE(cos(z, T) / t, label) with respect to z: (1 / (t |z|)) (I - zz) (sum_j p_j T_j - T_label), z and T unit there.

    Args:
        z: (n, d), of any norm. anchors: (C, d), unit.
    """
    unit = F.normalize(z, dim=1)
    # The differences first: where one class is all but sure, p T less its own T would be a difference of equals.
    pull = (unit @ anchors.T / temperature).softmax(1) @ (anchors - anchors[label])
    return (pull - (pull * unit).sum(1, keepdim=True) * unit) / (temperature * z.norm(dim=1, keepdim=True))


def distance(unit: Tensor, anchors: Tensor, label: int) -> Tensor:
    """How far some coordinate moves, at least, on the way to another class: min over j of z (T_y - T_j) / |T_y - T_j|_1; (n,), unit."""
    between = anchors[label] - anchors
    between = between[torch.arange(len(anchors)) != label]
    return (unit @ between.T / between.abs().sum(1)).amin(1)


def walked(unit: Tensor, anchors: Tensor, label: int, temperature: float, run: EmbedRun) -> tuple[Tensor, Tensor, Tensor]:
    """Walk from unit features (n, d) across the boundary.

    Returns:
        how many steps it took to another class (n,), 0 where the start is one; places reached `run.beyond` steps on the other side (n, d);
        whether there are such (n,). Where run.selection is reference, how many of `run.steps` places, the start among them, are inside:
        more than the first, if the walk comes back.
    """
    assert run.step is not None  # as every run of method crossing has
    size = run.step / math.sqrt(unit.shape[1])
    place, reached = unit.clone(), unit.clone()
    inside, outside = (torch.zeros(len(unit), dtype=torch.int64, device=unit.device) for _ in range(2))
    done = torch.zeros(len(unit), dtype=torch.bool, device=unit.device)
    for step in range(run.steps + 1):
        own = (place @ anchors.T).argmax(1) == label
        counted = own & (step < run.steps) if run.selection == "reference" else own & (outside == 0)
        inside, outside = inside + counted, outside + ~own
        arrived = ~own & ~done & (outside == run.beyond + 1)
        reached[arrived] = place[arrived]
        done |= arrived
        if bool(done.all()) and run.selection != "reference":
            break
        place = place + size * ascent(place, anchors, label, temperature).sign()
    return inside, reached, done


def cross(features: Tensor, anchors: Tensor, label: int, temperature: float, run: EmbedRun, key: tuple[int, ...], name: str = "") -> Drawn:
    """`run.count` vectors of one class.

    Args:
        features: (n, d), of any norm; computed on their device. anchors: (C, d), of any norm, on that device. key: what random numbers
            depend on (selection random alone has any). name: of the class, for errors.

    Raises:
        InputError: too few features, some without a direction, none that crosses.
    """
    unit, table = directions(features, name), F.normalize(anchors, dim=1)
    steps, reached, crossed = walked(unit, table, label, temperature, run)
    walks = torch.where(crossed, steps, -1).cpu()
    chosen = _chosen(steps, crossed, distance(unit, table, label), run, key)
    if not len(chosen):
        raise InputError(
            f"class {name!r}: none of its {len(unit)} features crosses the boundary within {run.steps} steps of {run.step:g}. Raise "
            "embed.runs' steps or step; where the encoder is right on few images of the class, train `align` longer."
        )
    chosen = chosen[torch.arange(run.count) % len(chosen)]
    length = reached[chosen].norm(dim=1, keepdim=True) if run.selection == "reference" else 1.0
    vectors = F.normalize(reached[chosen], dim=1) * length * anchors[label].norm()
    return Drawn(vectors.cpu(), chosen.cpu(), steps[chosen].float().cpu(), chosen.unique().cpu(), walks)


def _chosen(steps: Tensor, crossed: Tensor, exact: Tensor, run: EmbedRun, key: tuple[int, ...]) -> Tensor:
    """Places of the features that are pushed across, those with the smallest distance first."""
    wanted = scaled(run.boundary, run, len(steps))
    if run.selection == "reference":
        # The code that we know of takes features that are misclassified to begin with for the nearest, and drops what doesn't cross.
        nearest = steps.argsort(stable=True)[:wanted]
        return nearest[crossed[nearest]]
    able = torch.nonzero(crossed & (steps > 0)).squeeze(1)  # a misclassified feature has no boundary to cross
    if run.selection == "random":
        return able[torch.randperm(len(able), generator=generator_for(*key)).to(able.device)[:wanted]]
    able = able[exact[able].argsort(stable=True)]
    return able[steps[able].argsort(stable=True)][:wanted]
