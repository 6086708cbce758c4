"""Writing the prepared data (see ood.data.packed for the layout)."""

import hashlib
import json
from pathlib import Path
from typing import Any, cast

import numpy as np

from ood.config.data import Data
from ood.data.chain import ImageChain
from ood.data.items import Sets
from ood.data.packed import Entry, Origin, path_of
from ood.data.streamed import FileImages
from ood.data.texts import TOKENIZER, Texts, Words
from ood.files import seal


def save(sets: Sets, data: Data, dropped: dict[str, int], root: Path) -> dict[str, Entry]:
    """Enlarge (or give words their numbers), write every set and the manifest below `root`; returns the manifest."""
    chain = ImageChain(data.chain)
    training = sets["id/train"].images
    words = None
    if isinstance(training, Texts):
        words = Words.learned(training, data.text) if data.text.tokenizer is None else Words.given(data.text)
    for role in ("test/corrupted", "world", "calibration"):  # folders that other stages depend on, also when no set is in them
        (root / role).mkdir(parents=True, exist_ok=True)
    manifest: dict[str, Entry] = {}
    for name, items in sets.items():
        if isinstance(items.images, FileImages):
            target, content = save_files(root, name, items.images, items.labels), "".join(items.hashes()).encode()
        elif isinstance(items.images, Texts):
            assert words is not None  # all sets are of one kind
            numbers = words.numbers(items.images)
            target, content = save_images(root, name, numbers, items.labels), numbers.tobytes()
            target.with_name(f"{target.name}.texts.json").write_text(json.dumps(items.images.texts), encoding="utf-8")
        else:
            images = chain.finish(items.images)
            target, content = save_images(root, name, images, items.labels), images.tobytes()
        target.with_name(f"{target.name}.items.json").write_text(json.dumps(items.names), encoding="utf-8")
        if items.true_labels is not None:
            np.save(target.with_name(f"{target.name}.true.npy"), items.true_labels)
        role, _, key = name.partition("/")
        if role == "world":
            target.with_name(f"{target.name}.words.json").write_text(json.dumps(items.words), encoding="utf-8")
        of_id = role in ("id", "calibration")
        own = {"id/test": data.id.test, "calibration/id": data.id.calibration}.get(name)
        source = (own or data.id.images) if of_id else getattr(data, role)[key]
        manifest[name] = {
            "source": cast(Origin, source.model_dump(mode="json")),
            "count": len(items),
            "dropped": dropped.get(name, 0),
            "skipped": items.skipped,
            "classes": {c: int((items.labels == i).sum()) for i, c in enumerate(items.classes)} if of_id else {},
            "mislabelled": 0 if items.true_labels is None else int((items.labels != items.true_labels).sum()),
            "sha256": hashlib.sha256(content + items.labels.tobytes()).hexdigest(),
        }
    info: dict[str, Any] = {"classes": sets["id/train"].classes, "side": data.side, "mean": data.chain.mean, "std": data.chain.std}
    if words is not None:
        words.write(root / "id" / TOKENIZER)
        info |= {"mean": [], "std": [], "vocabulary": words.count}
    (root / "id" / "info.json").write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
    (root / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    for folder in (path for path in root.iterdir() if path.is_dir()):  # each is an output by itself, which DVC restores without the others
        seal(folder)
    return manifest


def save_files(root: Path, name: str, images: FileImages, labels: np.ndarray) -> Path:
    """Write where the pictures of a streamed set are, what they go through, and their labels; returns the set's path without ending."""
    target = root / path_of(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    content = {"chain": images.chain.config.model_dump(), "files": images.entries, "sha256": images.hashes}
    target.with_name(f"{target.name}.files.json").write_text(json.dumps(content), encoding="utf-8")
    np.save(target.with_name(f"{target.name}.labels.npy"), labels)
    return target


def save_images(root: Path, name: str, images: np.ndarray, labels: np.ndarray) -> Path:
    """Write finished images (N, side, side, 3), or numbers of words (N, side), and their labels; returns the path without ending."""
    target = root / path_of(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    np.save(target.with_name(f"{target.name}.npy"), images)
    np.save(target.with_name(f"{target.name}.labels.npy"), labels)
    return target
