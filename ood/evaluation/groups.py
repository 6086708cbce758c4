"""Which sets are shown together: validation OOD, near-OOD, far-OOD, and ID as a painter renders it."""

from collections.abc import Iterable

import numpy as np

from ood.evaluation import metrics

OOD_GROUPS = {"validation": "val", "near": "test", "far": "test"}  # group of OOD sets -> the role it is read in
# painted: ID as the diffusion model renders it (stages/proofs.py), the control of dreamed outliers; a detector that flags it more than its
# control does has learned the painter's traces.
GROUPS = OOD_GROUPS | {"painted": "test"}


def group_of(name: str) -> str:
    """The group of a set by its name, 'near' of 'near/letters'."""
    return name.split("/")[0]


def members_in(names: Iterable[str]) -> dict[str, list[str]]:
    """Group -> its sets among `names`, sorted; groups without any are left out."""
    found = {group: sorted(name for name in names if group_of(name) == group) for group in GROUPS}
    return {group: members for group, members in found.items() if members}


def group_means(by_set: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Unweighted means over the sets of each group: group -> metric -> value."""
    return {
        group: {key: float(np.mean([by_set[name][key] for name in members])) for key in metrics.KEYS}
        for group, members in members_in(by_set).items()
    }
