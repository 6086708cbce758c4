"""DREAM-OOD (NeurIPS 2023): features aligned with a diffusion model's word embeddings, outliers drawn there and painted.

The only place that imports diffusers and transformers, and only when it runs.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ood.dream.painting import paint

__all__ = ["paint"]


def __getattr__(name: str) -> Any:
    # Not imported outright: a stage would depend on every module of the package that it takes one from.
    if name != "paint":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.painting").paint
