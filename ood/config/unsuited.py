"""What is made for images and makes no sense for texts, or was never tried with them."""

from collections.abc import Iterator

from ood.config.data import Data
from ood.config.detector import Detector
from ood.config.dream import Diffusion
from ood.config.evaluation import Features
from ood.config.look import Look
from ood.config.methods import OE, UM, UMAP
from ood.config.nets import PUBLISHED, Net
from ood.config.training import Augment, Pretrain, Runtime


def unsuited(
    *,
    data: Data,
    net: Net,
    augment: Augment,
    pretrain: Pretrain,
    um: UM,
    umap: UMAP,
    oe: OE,
    diffusion: Diffusion,
    features: Features,
    detector: Detector,
    look: Look,
    runtime: Runtime,
    **_: object,
) -> Iterator[str]:
    """Where data.kind is text: every key that asks for such a thing, with the remedy."""
    if not data.is_text:
        return
    own = {"augment": augment} | {f"pretrain.runs.{name}.augment": run.augment for name, run in pretrain.runs.items() if run.augment}
    yield from (
        f"{key}: texts are neither cropped nor mirrored (data.kind). Set pad to 0, flip to false, crop to null."
        for key, one in own.items()
        if one != Augment()
    )
    stages: dict[str, Pretrain | UM | UMAP | OE] = {"pretrain": pretrain, "um": um, "umap": umap, "oe": oe}
    strong = {f"{key}.training": stage.training.strong for key, stage in stages.items()}
    strong |= {f"{key}.runs.{name}": run.strong for key, stage in stages.items() for name, run in stage.runs.items() if run.strong}
    for key, one in strong.items():
        if one.alone or one.softens_by_mixing:
            yield f"{key}.strong: texts are neither mixed, turned nor erased (data.kind). Keep label_smoothing alone."
    turned = [name for name, run in pretrain.runs.items() if run.rotation is not None]
    yield from (f"pretrain.runs.{name}.rotation: texts are not turned (data.kind). Take it out." for name in turned)
    if diffusion.enabled:
        yield "diffusion.enabled: DREAM-OOD paints images, and data.kind is text. Set it to false."
    if features.odin is not None:
        yield "features.odin: ODIN moves every pixel a little, and words can't be moved (data.kind). Set it to null."
    if detector.thumbnails:
        yield "detector.thumbnails: there are none of texts (data.kind). Set it to 0."
    if look.runs:
        yield "look.runs: `look` looks at folders of pictures (data.kind). Set it to {}."
    if runtime.precision not in ("fp32", "fp64"):
        yield f"runtime.precision: {runtime.precision} was never tried with texts (data.kind). Set it to fp32."
    if runtime.compile:
        yield "runtime.compile: every batch of texts has another length and would be compiled anew (data.kind). Set it to false."
    for name, run in pretrain.runs.items():
        if run.weights:
            yield f"pretrain.runs.{name}.weights: finished classifiers of texts aren't taken (data.kind). Set it to null."
    nets = {f"pretrain.runs.{name}.net": run.net for name, run in pretrain.runs.items() if run.net}
    nets |= {"net": net} if len(nets) < len(pretrain.runs) else {}
    for key, used in nets.items():
        if used.transformers and data.text.tokenizer is None:
            yield f"{key}.name: {used.name} knows its own tokenizer's words. Set data.text.tokenizer to {used.transformers}."
        if used.weights not in (None, *([PUBLISHED] if used.transformers else [])):
            wanted = "null, or published" if used.transformers else "null"
            yield f"{key}.weights: {used.name} can't begin with a file of weights (data.kind). Set it to {wanted}."
