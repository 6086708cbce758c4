"""Phase 2 on disk: data/embeddings/<run>/ holds vectors.npy (C, count, d) and info.json: mode, the feature that each
vector was drawn around (-1: none), the boundary points, as places among the class's features, and how far the prompt is disturbed."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from typing_extensions import TypedDict

from ood.config.dream import EmbedRun
from ood.files import write_rows
from ood.handover import read_array, read_json

if TYPE_CHECKING:  # whoever paints or reports reads what is here, and no more: another way to draw changes none of their code
    from ood.dream.sampling import Drawn

EMBEDDINGS = Path("data/embeddings")


class Info(TypedDict):
    """info.json."""

    mode: Literal["outlier", "inlier"]
    seeds: list[list[int]]
    boundary: list[list[int]]
    disturbed: float | None


class Embedded(NamedTuple):
    """What is painted: vectors (C, count, d), read from disk as they are needed, and their mode.

    disturbed: None, or the plain prompt is painted, and this is the expected cosine of what the text encoder says of it to what is painted.
    """

    vectors: NDArray
    mode: str
    disturbed: float | None


def save(folder: Path, drawn: "list[Drawn]", run: EmbedRun) -> None:
    """Write what synthesize reads, one class after the other: at the paper's size the vectors are 3 GB."""
    write_rows(folder / "vectors.npy", (one.vectors.numpy() for one in drawn), (len(drawn), *drawn[0].vectors.shape), np.float32)
    disturbed = run.cosine if run.method == "encoder_noise" else None
    info = {
        "mode": run.mode,
        "disturbed": disturbed,
        "seeds": [d.seeds.tolist() for d in drawn],
        "boundary": [d.boundary.tolist() for d in drawn],
    }
    (folder / "info.json").write_text(json.dumps(info) + "\n", encoding="utf-8")


def load(run: str) -> Embedded:
    """What `embed` wrote.

    Raises:
        InputError: not there yet.
    """
    folder, stage = EMBEDDINGS / run, f"embed {run}"
    info = read_json(folder / "info.json", stage, Info)
    return Embedded(read_array(folder / "vectors.npy", stage, mmap_mode="r"), info["mode"], info["disturbed"])
