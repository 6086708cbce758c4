"""Writing the prepared data (see ood.data.packed for the layout)."""

import hashlib
import json
from pathlib import Path

import numpy as np

from ood.config.data import Data
from ood.data.chain import ImageChain
from ood.data.items import Sets
from ood.data.packed import path_of


def save(sets: Sets, data: Data, dropped: dict[str, int], root: Path) -> dict:
    """Enlarge, write every set and the manifest below `root`; returns the manifest."""
    chain = ImageChain(data.chain)
    manifest = {}
    for name, items in sets.items():
        target = root / path_of(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        images = chain.finish(items.images)
        np.save(target.with_name(f"{target.name}.npy"), images)
        np.save(target.with_name(f"{target.name}.labels.npy"), items.labels)
        target.with_name(f"{target.name}.items.json").write_text(json.dumps(items.names), encoding="utf-8")
        role, _, key = name.partition("/")
        source = data.id.images if role == "id" else getattr(data, role)[key]
        if name == "id/test" and data.id.test is not None:
            source = data.id.test
        manifest[name] = {
            "source": source.model_dump(mode="json"),
            "count": len(items),
            "dropped": dropped.get(name, 0),
            "classes": {c: int((items.labels == i).sum()) for i, c in enumerate(items.classes)} if role == "id" else {},
            "sha256": hashlib.sha256(images.tobytes() + items.labels.tobytes()).hexdigest(),
        }
    info = {
        "classes": sets["id/train"].classes,
        "side": data.chain.side,
        "mean": data.chain.mean,
        "std": data.chain.std,
    }
    (root / "id" / "info.json").write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
    (root / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return manifest
