"""What we use of a Stable Diffusion v1-format pipeline and its parts: mypy sees no types in diffusers and transformers."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Tokenizer(Protocol):
    """A CLIPTokenizer."""

    model_max_length: int
    bos_token: str
    eos_token_id: int
    pad_token_id: int
    unk_token_id: int

    def __call__(self, text: str, **options: Any) -> Mapping[str, list[int]]: ...

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]: ...


class _Hidden(Protocol):
    last_hidden_state: Tensor


class TextEncoder(Protocol):
    """A CLIPTextModel."""

    device: torch.device

    def __call__(self, *, input_ids: Tensor) -> _Hidden: ...

    def get_input_embeddings(self) -> nn.Embedding: ...


class _Scaled(Protocol):
    scaling_factor: float
    block_out_channels: Sequence[int]


class Autoencoder(Protocol):
    """An AutoencoderKL; what it gives holds the tensors in latent_dist.mean and in sample."""

    config: _Scaled
    device: torch.device
    dtype: torch.dtype

    def encode(self, images: Tensor) -> Any: ...

    def decode(self, latents: Tensor) -> Any: ...


class Pipeline(Protocol):
    """A StableDiffusionPipeline. Of its UNet we read the config alone, and its scheduler is only exchanged for another."""

    tokenizer: Tokenizer
    text_encoder: TextEncoder
    vae: Autoencoder
    unet: Any
    scheduler: Any
    vae_scale_factor: int

    def __call__(self, **options: Any) -> Any: ...

    def set_progress_bar_config(self, **options: Any) -> None: ...
