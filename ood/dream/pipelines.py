"""The pipeline that paints: trained here, or anyone's in Stable Diffusion v1's format; data/diffusion says which.

data/diffusion/source.json   model (null: the folder `pipeline` beside it), revision, and for a local folder the hash of its weights
data/diffusion/pipeline/     what StableDiffusionPipeline.from_pretrained reads, where it was trained here
"""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from typing_extensions import TypedDict

from ood.config.training import Runtime
from ood.errors import InputError
from ood.files import write_text
from ood.handover import checked_folder, read_json

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

DIFFUSION = Path("data/diffusion")


class Source(TypedDict):
    """source.json."""

    model: str | None
    revision: str | None
    weights: str | None


def describe(folder: Path, model: str | None, revision: str | None) -> None:
    """Write source.json."""
    local = Path(model) if model and Path(model).is_dir() else None
    weights = _hash(local) if local else None
    write_text(folder / "source.json", json.dumps({"model": model, "revision": revision, "weights": weights}, indent=1) + "\n")


def load(device: torch.device, runtime: Runtime, root: Path = DIFFUSION) -> "StableDiffusionPipeline":
    """The pipeline, frozen and in eval mode: a named one in bf16 on a GPU (but its decoder in float32, against banding), else float32.

    Args:
        runtime: precision fp64, which is for checks, keeps float32 on a GPU too; channels_last and compile are the denoiser's.

    Raises:
        InputError: nothing there yet, no pipeline of this format, or a local folder that was changed since `diffusion` looked at it.
    """
    source = read_json(root / "source.json", "diffusion", Source)
    checked_folder(root, "diffusion")
    model = source["model"]
    if model and source["weights"] and _hash(Path(model)) != source["weights"]:
        raise InputError(f"params.yaml: diffusion.model: {model} has changed since `diffusion` saw it. Run `dvc repro -f diffusion`.")
    half = device.type == "cuda" and model is not None and runtime.precision != "fp64"
    pipeline = open_pipeline(model or str(root / "pipeline"), source["revision"], device, torch.bfloat16 if half else torch.float32)
    if runtime.channels_last:
        pipeline.unet.to(memory_format=torch.channels_last)
    if runtime.compile:
        pipeline.unet.compile_repeated_blocks(fullgraph=True)
    return pipeline


def open_pipeline(model: str, revision: str | None, device: torch.device, dtype: torch.dtype) -> "StableDiffusionPipeline":
    """A StableDiffusionPipeline by hub id or folder, without its safety checker.

    Raises:
        InputError: there is none, or its parts don't fit Stable Diffusion v1.
    """
    from diffusers import StableDiffusionPipeline

    quiet()
    try:
        pipeline = StableDiffusionPipeline.from_pretrained(
            model, revision=revision, dtype=dtype, safety_checker=None, requires_safety_checker=False
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"params.yaml: diffusion.model: {model!r} can't be loaded as a Stable Diffusion v1 pipeline ({reason}). Give a hub id that "
            "this machine can reach, or a folder that StableDiffusionPipeline.save_pretrained wrote."
        ) from None
    width, needed = pipeline.text_encoder.config.hidden_size, pipeline.unet.config.cross_attention_dim
    if width != needed:
        raise InputError(
            f"params.yaml: diffusion.model: {model!r}: its text encoder gives {width} numbers a token, its UNet takes {needed}."
        )
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        part.requires_grad_(False).eval()
    pipeline.vae.to(torch.float32)
    return pipeline.to(device)


def quiet() -> None:
    """No bars and no chatter from the libraries: a stage has its own progress."""
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
        library.utils.logging.set_verbosity_error()


def _hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(p for p in folder.rglob("*") if p.suffix in (".json", ".safetensors", ".bin", ".txt")):
        digest.update(file.relative_to(folder).as_posix().encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
