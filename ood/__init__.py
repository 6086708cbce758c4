"""Atypical's library: four methods for out-of-distribution detection as small modules.

Imports point one way: stages -> ood. Nothing in here parses arguments, prints, or knows of DVC.

    from ood import Detector
    Detector.load("data/detector").predict("photo.jpg")
"""

import importlib
from typing import Any

__all__ = ["Detector"]


def __getattr__(name: str) -> Any:
    """`Detector` when it is asked for: it loads torch, which the rest shouldn't wait for, and no stage depends on it (ood.closure)."""
    if name == "Detector":
        return importlib.import_module("ood.deploy.detector").Detector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
