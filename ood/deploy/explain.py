"""Why a detector says what it says of a picture: what speaks for the class, the training images most like it, where its score lies."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ood.data.reading import shown
from ood.deploy.answers import one_thread
from ood.deploy.detector import Detector
from ood.deploy.told import word
from ood.deploy.verdicts import Verdict
from ood.errors import InputError
from ood.nets import Classifier

NEIGHBOURS = 5
STEPS = 32  # of integrated gradients, where a network has no maps


@dataclass(frozen=True)
class Explanation:
    """Of one picture.

    image: as the networks look at it, uint8 (side, side, 3). heat: (side, side) in [0, 1], what speaks for the likeliest class, by
    `method`. neighbours: training images that lie nearest in the first network's features, nearest first, uint8 (k, s, s, 3); their labels
    and their cosine similarity.
    """

    verdict: Verdict
    image: NDArray[np.uint8]
    heat: NDArray[np.float64]
    method: str
    neighbours: NDArray[np.uint8]
    labels: list[str]
    similarity: list[float]


def explained(detector: Detector, given: Any) -> Iterator[tuple[Verdict, Explanation | None]]:
    """Verdicts as of `Detector.stream`, each with its explanation; None of what can't be read.

    Raises:
        InputError: the detector was exported without thumbnails.
    """
    bank = detector.thumbnails
    if detector.bundle.is_text:
        raise InputError("--explain: draws what speaks for a class in a picture, and this detector reads texts.")
    if bank is None:
        raise InputError("this detector has no training images to compare with. Export it with detector.thumbnails above 0.")
    for picture in detector.reader.each(given):
        image, wrong = detector.looked_at(picture)
        if image is None:
            yield wrong, None
            continue
        answers = detector.ensemble.answer(image[None])
        (verdict,) = detector.read(answers, [picture.name])
        if verdict.error is not None:
            yield verdict, None
            continue
        networks = len(detector.ensemble.members)
        heat, method = what_speaks_for(detector.ensemble.members[0].net, image, int(answers.predicted[0]))
        likeness = F.cosine_similarity(torch.from_numpy(answers.features), bank["features"])
        nearest = likeness.argsort(descending=True, stable=True)[:NEIGHBOURS]
        yield (
            verdict,
            Explanation(
                verdict,
                image.permute(1, 2, 0).numpy(),
                heat,
                method if networks == 1 else f"{method}, the first of {networks} networks",
                bank["images"][nearest].numpy(),
                [detector.classes[label] for label in bank["labels"][nearest].tolist()],
                likeness[nearest].tolist(),
            ),
        )


def what_speaks_for(net: Classifier, image: Tensor, label: int) -> tuple[NDArray[np.float64], str]:
    """A heat map (side, side) in [0, 1]: Grad-CAM on the last maps of a network (Selvaraju et al. 2017), or integrated gradients where it
    has none (Sundararajan et al. 2017), by captum.

    Args:
        image: uint8 (3, side, side).
    """
    from captum.attr import IntegratedGradients, LayerAttribution, LayerGradCam

    pixels = (image[None].float() / 255).to(net.fc.weight.device)
    layer = last_maps(net, pixels)
    with one_thread(), torch.enable_grad():
        if layer is not None:
            found = LayerGradCam(net, layer).attribute(pixels, target=label, relu_attributions=True)
            heat, method = LayerAttribution.interpolate(found, pixels.shape[2:], "bilinear")[0, 0], "Grad-CAM"
        else:
            found = IntegratedGradients(net).attribute(pixels, target=label, n_steps=STEPS)
            heat, method = found[0].sum(0).clamp(min=0), "integrated gradients"
    heat = heat.detach().double().cpu()
    return (heat / heat.max() if heat.max() > 0 else heat).numpy(), method


def last_maps(net: Classifier, pixels: Tensor) -> nn.Module | None:
    """The last part of the backbone that gives maps of more than one pixel; None where there is none, as in a transformer, or where words
    of an image come after it.
    """
    found: list[nn.Module] = []

    def look(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1:
            found.append(module)
        elif isinstance(output, Tensor) and output.ndim == 3 and output.shape[1] > 1 and isinstance(module, nn.LayerNorm):
            found.clear()

    hooks = [module.register_forward_hook(look) for module in net.backbone.modules()]
    try:
        with torch.no_grad():
            net.features(pixels)
    finally:
        for hook in hooks:
            hook.remove()
    return found[-1] if found else None


def file_name(number: int, verdict: Verdict) -> str:
    """What the picture of a verdict is called; no longer than a name may be."""
    stem = Path(shown(verdict.name)).stem.encode()[:120].decode(errors="ignore")
    return f"{number:04d}-{stem}.png"


def draw(path: Path, found: Explanation, detector: Detector) -> None:
    """One picture: what was seen, what speaks for the class, the score among those of calibration images, the nearest training images."""
    from ood.drawing import COLOURS, plt, save, short

    verdict = found.verdict
    figure = plt.figure(figsize=(9.5, 4.4))
    grid = figure.add_gridspec(2, 10, height_ratios=[2, 1.1])
    seen, heat, scores = (figure.add_subplot(grid[0, part]) for part in (slice(0, 3), slice(3, 6), slice(6, 10)))
    seen.imshow(found.image, interpolation="nearest")
    seen.set_title("what it looks at", fontsize=8)
    heat.imshow(found.image.mean(2), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    heat.imshow(found.heat, cmap="inferno", alpha=0.55, vmin=0, vmax=1)
    heat.set_title(f"what speaks for {short(str(verdict.label), 24)}\n({found.method})", fontsize=8)
    rule = detector.rule
    scores.hist(rule.calibration, bins=30, color=COLOURS["id"], alpha=0.6, label=f"{len(rule.calibration)} calibration images")
    cut = rule.thresholds[detector.classes.index(str(verdict.label)) if rule.per_class else 0]
    scores.axvline(cut, color="black", lw=1, ls=":", label="threshold")
    scores.axvline(verdict.score or 0.0, color=COLOURS["near"], lw=2, label="this one")
    scores.set_title(f"score {verdict.score:.4g}, p-value {verdict.p_value:.3g}", fontsize=8)
    scores.set_yticks([])
    scores.legend(fontsize=7)
    for place, (image, label, likeness) in enumerate(zip(found.neighbours, found.labels, found.similarity, strict=True)):
        axis = figure.add_subplot(grid[1, 2 * place : 2 * place + 2])
        axis.imshow(image, interpolation="nearest")
        axis.set_title(f"{short(label, 20)}, {likeness:.2f}", fontsize=8)
        axis.axis("off")
    for axis in (seen, heat):
        axis.axis("off")
    second = f"next {short(str(verdict.runner_up), 24)} {verdict.runner_up_probability:.0%}"
    sure = f"{'were it known: ' if verdict.is_ood else ''}{short(str(verdict.label), 24)} {verdict.probability:.0%}, {second}"
    figure.suptitle(f"{short(shown(verdict.name), 60)}: {short(word(verdict), 24)} ({sure})", fontsize=10)
    below = "Lower row: the training images most like it, of those that came along, with the cosine of their features."
    figure.text(0.01, 0.02, below, fontsize=7)
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    save(figure, path)
