"""A small Stable Diffusion v1-format pipeline, trained here: AutoencoderKL, CLIPTextModel, UNet2DConditionModel, CLIP tokenizer.

A diffusion model that has seen only ID classes can paint only those: an embedding between two classes gives a clean picture of one of
them. So it also learns a captioned world beyond the ID classes (params.yaml: data.world), as Stable Diffusion has.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ood.config.dream import Small
from ood.data.batches import generator_for
from ood.dream import tokenizer as bpe
from ood.dream.loop import Loop
from ood.dream.pipelines import quiet
from ood.dream.pixels import enlarge, to_signed
from ood.progress import Progress

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}  # Stable Diffusion v1
GROUPS = 8  # of group normalisation


@dataclass(frozen=True)
class Captioned:
    """What the pipeline learns from.

    images: uint8 (N, 3, side, side). captions: (N,), an index into prompts. inliers: how many of the first are ID.
    """

    images: Tensor
    captions: Tensor
    prompts: list[str]
    inliers: int


def train(
    data: Captioned,
    setting: Small,
    seed: int,
    accelerator: Accelerator,
    folder: Path,
    progress: Progress,
    layout: torch.memory_format = torch.contiguous_format,
) -> dict[str, float]:
    """Train both parts below `folder` (resuming there), save the pipeline to folder/pipeline; returns what was measured.

    Args:
        layout: memory layout of the weights while they are trained.

    Returns:
        autoencoder_rmse (of ID and world images, [0, 1] units, at the size it draws), denoiser_loss (last interval).
    """
    images = enlarge(data.images, setting.size)
    torch.manual_seed(generator_for(seed, 0, 10).initial_seed())
    autoencoder = _autoencoder(setting)
    tokenizer = bpe.learn(data.prompts)
    text = _text_encoder(setting, tokenizer)
    unet = _unet(setting)
    make = {"accelerator": accelerator, "save_every": setting.save_every, "progress": progress, "layout": layout}
    first = Loop(path=folder / "autoencoder.pt", recipe=setting.autoencoder.training, label="autoencoder", **make)
    second = Loop(path=folder / "denoiser.pt", recipe=setting.unet.training, label="denoiser", decay=setting.unet.ema, **make)
    progress.begin(first.rounds() + second.rounds(), "save")

    def pictures(step: int, rows: Tensor) -> tuple[Tensor, Tensor]:
        generator = generator_for(seed, step, 11)
        chosen = torch.randint(len(images), (first.recipe.batch_size,), generator=generator)
        noise = torch.randn(first.recipe.batch_size, setting.autoencoder.latents, *_latent_sides(setting), generator=generator)
        return to_signed(images[chosen[rows]]), noise[rows]

    first.fit(_Reconstruction(autoencoder, setting.autoencoder.kl), pictures)
    means, spreads, error = _encode(autoencoder.eval(), images, accelerator.device)
    scale = 1 / float(means.std())
    autoencoder.register_to_config(scaling_factor=scale)

    ids = tokenizer(["", *data.prompts], padding="max_length", truncation=True, max_length=tokenizer.model_max_length, return_tensors="pt")
    ids, captions = ids["input_ids"], data.captions + 1  # 0: no caption
    share = torch.where(torch.arange(len(means)) < data.inliers, setting.unet.id_share / data.inliers, 0.0)
    if data.inliers < len(means):
        share[data.inliers :] = (1 - setting.unet.id_share) / (len(means) - data.inliers)
    schedule = _scheduler().alphas_cumprod

    def latents(step: int, rows: Tensor) -> tuple[Tensor, ...]:
        size, generator = second.recipe.batch_size, generator_for(seed, step, 12)
        chosen = torch.multinomial(share, size, replacement=True, generator=generator)
        clean = torch.randn(size, *means.shape[1:], generator=generator).mul_(spreads[chosen]).add_(means[chosen]) * scale
        noise = torch.randn(clean.shape, generator=generator)
        times = torch.randint(len(schedule), (size,), generator=generator)
        said = captions[chosen] * (torch.rand(size, generator=generator) >= setting.unet.empty)
        kept = schedule[times].view(-1, 1, 1, 1)
        noisy = kept.sqrt() * clean + (1 - kept).sqrt() * noise
        return noisy[rows], times[rows], ids[said[rows]], noise[rows]

    history = second.fit(_Denoising(unet, text), latents)
    if accelerator.is_main_process:
        _save(folder / "pipeline", autoencoder, text, tokenizer, unet)
    return {"autoencoder_rmse": error, "denoiser_loss": history[-1], "latent_scale": scale}


class _Reconstruction(nn.Module):
    """Squared error plus kl x the latents' divergence from N(0, 1), per image."""

    def __init__(self, autoencoder: "AutoencoderKL", kl: float):
        super().__init__()
        self.autoencoder, self.kl = autoencoder, kl

    def forward(self, images: Tensor, noise: Tensor) -> Tensor:
        latent = self.autoencoder.encode(images).latent_dist
        decoded = self.autoencoder.decode(latent.mean + latent.std * noise).sample
        return (decoded - images).square().mean((1, 2, 3)) + self.kl * latent.kl() / noise[0].numel()


class _Denoising(nn.Module):
    """Squared error of the predicted noise, per image; the text encoder learns along."""

    def __init__(self, unet: "UNet2DConditionModel", text: "CLIPTextModel"):
        super().__init__()
        self.unet, self.text = unet, text

    def forward(self, noisy: Tensor, times: Tensor, ids: Tensor, noise: Tensor) -> Tensor:
        said = self.text(input_ids=ids).last_hidden_state
        return (self.unet(noisy, times, encoder_hidden_states=said).sample - noise).square().mean((1, 2, 3))


@torch.no_grad()
def _encode(autoencoder: "AutoencoderKL", images: Tensor, device: torch.device) -> tuple[Tensor, Tensor, float]:
    """Means and spreads of all latents, and the root mean squared error of decoding the means, in [0, 1] units."""
    means, spreads, error = [], [], 0.0
    for batch in images.split(256):
        signed = to_signed(batch).to(device)
        latent = autoencoder.encode(signed).latent_dist
        means.append(latent.mean.float().cpu())
        spreads.append(latent.std.float().cpu())
        error += float((autoencoder.decode(latent.mean).sample.clamp(-1, 1) - signed).square().mean((1, 2, 3)).sum())
    return torch.cat(means), torch.cat(spreads), (error / len(images)) ** 0.5 / 2


def _latent_sides(setting: Small) -> tuple[int, int]:
    side = setting.size >> (len(setting.autoencoder.channels) - 1)
    return side, side


def _autoencoder(setting: Small) -> "AutoencoderKL":
    from diffusers import AutoencoderKL

    channels = setting.autoencoder.channels
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        sample_size=setting.size,
        latent_channels=setting.autoencoder.latents,
        block_out_channels=channels,
        layers_per_block=1,
        down_block_types=["DownEncoderBlock2D"] * len(channels),
        up_block_types=["UpDecoderBlock2D"] * len(channels),
        norm_num_groups=GROUPS,
        mid_block_add_attention=False,
    )


def _text_encoder(setting: Small, tokenizer: "CLIPTokenizer") -> "CLIPTextModel":
    from transformers import CLIPTextConfig, CLIPTextModel

    start, end = (tokenizer.convert_tokens_to_ids(token) for token in bpe.SPECIAL)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=setting.text.width,
        intermediate_size=4 * setting.text.width,
        projection_dim=setting.text.width,
        num_hidden_layers=setting.text.layers,
        num_attention_heads=setting.text.heads,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=start,
        eos_token_id=end,
        pad_token_id=end,
    )
    text = CLIPTextModel(config)
    # transformers starts the table at 0.02, which hardly conditions a denoiser that learns for minutes.
    nn.init.normal_(text.get_input_embeddings().weight, std=setting.text.spread)
    return text


def _unet(setting: Small) -> "UNet2DConditionModel":
    from diffusers import UNet2DConditionModel

    channels = setting.unet.channels
    inner = len(channels) - 1
    return UNet2DConditionModel(
        sample_size=_latent_sides(setting)[0],
        in_channels=setting.autoencoder.latents,
        out_channels=setting.autoencoder.latents,
        layers_per_block=1,
        block_out_channels=channels,
        down_block_types=["DownBlock2D", *["CrossAttnDownBlock2D"] * inner],
        up_block_types=[*["CrossAttnUpBlock2D"] * inner, "UpBlock2D"],
        cross_attention_dim=setting.text.width,
        attention_head_dim=4,
        norm_num_groups=GROUPS,
    )


def _scheduler() -> "PNDMScheduler":
    """Stable Diffusion v1's own: PLMS."""
    from diffusers import PNDMScheduler

    return PNDMScheduler(**BETAS, skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False)


def _save(
    folder: Path, autoencoder: "AutoencoderKL", text: "CLIPTextModel", tokenizer: "CLIPTokenizer", unet: "UNet2DConditionModel"
) -> None:
    """As StableDiffusionPipeline.save_pretrained does, and StableDiffusionPipeline.from_pretrained reads."""
    from diffusers import StableDiffusionPipeline

    quiet()
    pipeline = StableDiffusionPipeline(
        vae=autoencoder.to("cpu", memory_format=torch.contiguous_format),
        text_encoder=text.cpu(),
        tokenizer=tokenizer,
        unet=unet.to("cpu", memory_format=torch.contiguous_format),
        scheduler=_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    bpe.save(tokenizer, folder / "tokenizer")
    for path in folder.rglob("*.json"):  # no path of this machine in an output
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and content.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
