"""Unleashing Mask (ICML 2023): masks over weights, the loss constraint, atypical samples, and forgetting them (UM, UMAP)."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ood.unmask.atypical import atypical_samples
    from ood.unmask.constraint import estimate_constraint
    from ood.unmask.masks import random_masks

__all__ = ["atypical_samples", "estimate_constraint", "random_masks"]
_HOMES = {"atypical_samples": "atypical", "estimate_constraint": "constraint", "random_masks": "masks"}


def __getattr__(name: str) -> Any:
    # Not imported outright: a stage would depend on every module of the package that it takes one from.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
