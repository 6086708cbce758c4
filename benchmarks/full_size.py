"""A pipeline folder of Stable Diffusion v1.4's full size, with random weights: it loads and paints as any other.

    python benchmarks/full_size.py FOLDER [--speed]

Writes 4 GB to FOLDER (once), opens it as `diffusion.model: FOLDER` would, injects a vector, paints one 512-pixel picture in two steps.
--speed: pictures per second of the usual setting (fp32, batches of 4, PLMS with 50 steps) against bf16, channels_last, larger batches,
torch.compile and DPM-Solver++ with 20 steps. That is for a GPU; on a CPU it takes hours.
"""

import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from ood.dream import small, tokenizer
from ood.dream.painting import paint
from ood.dream.pipelines import open_pipeline, quiet
from ood.dream.tokens import anchor

SAID, WORD = "A high-quality image of the otter", "otter"


def build(folder: Path) -> None:
    """Stable Diffusion v1.4's architecture: UNet of 860 M parameters, autoencoder with three halvings, CLIP ViT-L/14's text encoder."""
    from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    words = tokenizer.learn([SAID], 77)
    end = words.eos_token_id
    StableDiffusionPipeline(
        vae=AutoencoderKL(
            block_out_channels=[128, 256, 512, 512],
            down_block_types=["DownEncoderBlock2D"] * 4,
            up_block_types=["UpDecoderBlock2D"] * 4,
            layers_per_block=2,
            sample_size=512,
        ),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, eos_token_id=end, pad_token_id=end
            )
        ),
        tokenizer=words,
        unet=UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8),
        scheduler=small._scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def pictures_per_second(pipeline: object, batch: int, sampler: str, steps: int) -> float:
    """Of the second of two batches: the first compiles."""
    for _ in range(2):
        begin = time.perf_counter()
        paint(pipeline, [SAID] * batch, [WORD] * batch, None, list(range(batch)), sampler=sampler, steps=steps)
    return batch / (time.perf_counter() - begin)


def speed(folder: str, device: torch.device) -> None:
    cases = [(torch.float32, False, False, 4, "plms", 50), (torch.float32, False, False, 4, "dpm", 20)]
    cases += [(torch.bfloat16, True, compiled, batch, "dpm", 20) for compiled in (False, True) for batch in (4, 16, 64)]
    for dtype, channels_last, compiled, batch, sampler, steps in cases:
        pipeline = open_pipeline(folder, None, device, dtype)
        if channels_last:
            pipeline.unet.to(memory_format=torch.channels_last)
        if compiled:
            pipeline.unet.compile_repeated_blocks(fullgraph=True)
        text = f"{dtype} channels_last {channels_last} compile {compiled} batch {batch} {sampler} {steps}"
        print(f"{text}: {pictures_per_second(pipeline, batch, sampler, steps):.3f} pictures per second", flush=True)


def main() -> None:
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    folder = Path(sys.argv[1])
    quiet()
    if not (folder / "model_index.json").is_file():
        build(folder)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if "--speed" in sys.argv:
        return speed(str(folder), device)
    begin = time.perf_counter()
    pipeline = open_pipeline(str(folder), None, device, torch.float32)
    print(
        f"UNet {sum(p.numel() for p in pipeline.unet.parameters()) / 1e6:.1f} M parameters, loaded in {time.perf_counter() - begin:.0f} s"
    )
    vector = torch.nn.functional.normalize(torch.randn(1, 768, generator=torch.Generator().manual_seed(0)), dim=1)
    vector = vector * anchor(pipeline.text_encoder, pipeline.tokenizer, WORD).norm()
    begin = time.perf_counter()
    image = paint(pipeline, [SAID], [WORD], vector, [0], steps=2)
    print(f"painted {image.shape} {image.dtype}, values {image.min()} to {image.max()}, in {time.perf_counter() - begin:.0f} s")
    print(f"largest memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GB")


if __name__ == "__main__":
    main()
