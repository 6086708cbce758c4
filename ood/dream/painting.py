"""Painting with any Stable Diffusion v1-format pipeline: batches of different prompts, vectors and seeds."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from numpy.typing import NDArray
from torch import Tensor

from ood.data.batches import generator_for
from ood.dream.parts import Autoencoder, Pipeline
from ood.dream.pixels import to_signed
from ood.dream.tokens import Placed, encode, place
from ood.dream.turning import turned
from ood.errors import InputError

PIXELS = 2**21  # decoded at once: 8 pictures of 512 x 512
NOISE = 31  # of a picture's seed: the draw that disturbs its prompt, another than that of its latents


def paint(
    pipeline: Pipeline,
    prompts: Sequence[str],
    class_words: Sequence[str],
    embeddings: Tensor | None,
    seeds: Sequence[int],
    *,
    sampler: str = "dpm",
    steps: int = 20,
    guidance: float = 7.5,
    pieces: str = "whole",
    disturbed: float | None = None,
) -> NDArray:
    """One picture per prompt, painted as one batch.

    Args:
        pipeline: a diffusers StableDiffusionPipeline. Its weights, scheduler and safety checker stay as they are; the checker isn't
            asked, because it would put black images in the place of those it objects to.
        class_words: what each embedding takes the place of, a part of its prompt.
        embeddings: (N, d) token embeddings, or None to paint the prompts as they are.
        seeds: one per picture; the same seed gives the same picture in any batch, up to rounding.
        sampler: 'dpm' (DPM-Solver++, 2nd order) or 'plms' (the paper's; 50 steps make 51 calls of the denoiser).
        pieces: what to do with words of several tokens, see config.dream.Prompts.
        disturbed: expected cosine to which noise turns every vector that the text encoder gives, an ablation of the paper; None: as it
            says. (The released code's `gaussian_scale` adds noise of one size and lets the norms grow.)

    Returns:
        uint8 (N, H, W, 3), at the size that the pipeline draws.

    Raises:
        InputError: a class word isn't in its prompt, a picture isn't finite.
    """
    tokenizer, text = pipeline.tokenizer, pipeline.text_encoder
    # A vector takes the place of a whole word; where there is none, every piece of the word stays.
    pieces = "first" if embeddings is None else pieces
    placed = [place(tokenizer, prompt, word, pieces) for prompt, word in zip(prompts, class_words, strict=True)]
    said = encode(text, placed, embeddings)
    if disturbed is not None:
        own = [torch.randn(said.shape[1:], generator=generator_for(seed, NOISE)) for seed in seeds]
        said = turned(said.float(), torch.stack(own).to(said.device), disturbed).to(said)
    empty = tokenizer("", padding="max_length", max_length=tokenizer.model_max_length, truncation=True)["input_ids"]
    unsaid = encode(text, [Placed(empty, [])], None).expand_as(said)
    channels, side = pipeline.unet.config.in_channels, pipeline.unet.config.sample_size
    # Drawn on the CPU, one generator per picture: equal on every device, whatever the batch.
    noise = torch.stack([torch.randn(channels, side, side, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    with _sampler(pipeline, sampler), _silent(pipeline), torch.no_grad():
        latents = pipeline(
            prompt_embeds=said,
            negative_prompt_embeds=unsaid,
            latents=noise.to(said),
            num_inference_steps=steps,
            guidance_scale=guidance,
            output_type="latent",
        ).images
        return decode(pipeline.vae, latents)


@torch.no_grad()
def decode(autoencoder: Autoencoder, latents: Tensor) -> NDArray:
    """Scaled latents (N, c, h, w) -> uint8 (N, H, W, 3), rounded."""
    scaled = latents.to(autoencoder.dtype) / autoencoder.config.scaling_factor
    factor = 2 ** (len(autoencoder.config.block_out_channels) - 1)
    at_once = max(1, PIXELS // (factor**2 * latents[0, 0].numel()))  # decoding takes far more memory a picture than denoising
    images = torch.cat([autoencoder.decode(part).sample.float() for part in scaled.split(at_once)])
    if not bool(images.isfinite().all()):
        raise InputError("a painted picture isn't finite: the pipeline's weights are damaged, or too large for half precision.")
    images = (images / 2 + 0.5).clamp(0, 1) * 255
    return images.round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


@torch.no_grad()
def round_trip(autoencoder: Autoencoder, images: Tensor) -> NDArray:
    """uint8 (N, 3, H, W) through encoder (its mean) and decoder -> uint8 (N, H, W, 3): what the decoder alone does to a picture."""
    signed = to_signed(images).to(autoencoder.device, autoencoder.dtype)
    return decode(autoencoder, autoencoder.encode(signed).latent_dist.mean * autoencoder.config.scaling_factor)


def image_size(pipeline: Pipeline) -> int:
    """Pixels along a side of what the pipeline draws."""
    return pipeline.unet.config.sample_size * pipeline.vae_scale_factor


@contextmanager
def _sampler(pipeline: Pipeline, name: str) -> Iterator[None]:
    """Within: the pipeline samples so; afterwards as before. Time steps as each sampler was published with, whatever the folder says."""
    from diffusers import DPMSolverMultistepScheduler, PNDMScheduler

    before = pipeline.scheduler
    if name == "plms":
        pipeline.scheduler = PNDMScheduler.from_config(before.config, skip_prk_steps=True, timestep_spacing="leading", steps_offset=1)
    else:
        pipeline.scheduler = DPMSolverMultistepScheduler.from_config(
            before.config, algorithm_type="dpmsolver++", solver_order=2, timestep_spacing="linspace"
        )
    try:
        yield
    finally:
        pipeline.scheduler = before


@contextmanager
def _silent(pipeline: Pipeline) -> Iterator[None]:
    """Within: no progress bar of diffusers' own."""
    before = getattr(pipeline, "_progress_bar_config", {})
    pipeline.set_progress_bar_config(disable=True)
    try:
        yield
    finally:
        pipeline.set_progress_bar_config(**before)
