"""Post-hoc detectors outside the four papers, from pytorch-ood, on cached tensors; larger = more OOD.

Only those whose result on pooled features equals their paper's are taken from there (tests/test_posthoc.py); SHE, RMD, GEN, VRA:
ood.detection.scores.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ood.config.evaluation import Scores
from ood.detection.scores import Head

NAMES = ("ash", "scale", "dice", "klm", "nnguide", "fdbd", "nci")
FITTED_ON_VALIDATION = {"klm"}
CHUNK = 1024  # images at a time: DICE and NNGuide build tables of images x weights or x training images (fDBD: one of classes x weights)
Score = Callable[[Tensor, Tensor], Tensor]  # features as the head sees them (N, D), logits (N, C) -> (N,)


def fit(wanted: set[str], head: Head, features: Tensor, labels: Tensor, validation_logits: Tensor, setting: Scores) -> dict[str, Score]:
    """Every wanted detector of NAMES, fitted.

    Args:
        features, labels: ID training, features as the head sees them. validation_logits: ID validation, for KL matching.
    """
    if not wanted & set(NAMES):
        return {}
    from pytorch_ood import detector  # two seconds of import that only evaluation needs

    weight, bias = head.weight.double(), head.bias.double()

    def logits_of(maps: Tensor) -> Tensor:
        return maps.flatten(1) @ weight.T + bias

    def ash() -> Score:
        found = detector.ASH(None, logits_of, variant="ash-s", percentile=setting.ash_percentile)
        return lambda f, _: _in_chunks(lambda x: found.predict_feature_maps(x.double()[:, :, None, None]), f)

    def scale() -> Score:
        found = detector.SCALE(None, logits_of, percentile=setting.scale_percentile)
        return lambda f, _: _in_chunks(lambda x: found.predict_feature_maps(x.double()[:, :, None, None]), f)

    def dice() -> Score:
        found = detector.DICE(None, head.weight, head.bias, setting.dice_sparsity).fit_features(features, labels)
        return lambda f, _: _in_chunks(found.predict_features, f)

    def klm() -> Score:
        found = detector.KLMatching(None).fit_logits(validation_logits.double())
        return lambda _, z: found.predict_logits(z.double())

    def nnguide() -> Score:
        found = detector.NNGuide(None, head.logits, k=setting.nnguide_k).fit_features(features, labels)
        return lambda f, _: _in_chunks(found.predict_features, f)

    def fdbd() -> Score:  # minus the mean distance to the other classes' boundaries over that to the training mean (Liu and Qin 2024)
        found = detector.fDBD(None, _linear(head)).fit_features(features)
        return lambda f, _: _in_chunks(found.predict_features, f)

    def nci() -> Score:  # minus w_y (h - mu) / |h - mu|, less alpha |h|_1; y: the predicted class (Liu and Qin 2025)
        found = detector.NCI(None, _linear(head), alpha=setting.nci_alpha).fit_features(features)
        return lambda f, _: _in_chunks(found.predict_features, f)

    makers = dict(zip(NAMES, (ash, scale, dice, klm, nnguide, fdbd, nci), strict=True))
    return {name: make() for name, make in makers.items() if name in wanted}


def _linear(head: Head) -> torch.nn.Linear:
    """The head as a layer; nothing is drawn at random for it."""
    layer = torch.nn.utils.skip_init(torch.nn.Linear, *reversed(head.weight.shape))
    layer.weight, layer.bias = torch.nn.Parameter(head.weight.float()), torch.nn.Parameter(head.bias.float())
    return layer


@torch.no_grad()
def _in_chunks(score: Callable[[Tensor], Tensor], features: Tensor) -> Tensor:
    """Scores of a set. A sample without any activation has no shape to speak of (0 / 0): it counts as unremarkable, 0."""
    found = torch.cat([score(part).double() for part in features.split(CHUNK)])
    return torch.nan_to_num(found, nan=0.0, posinf=1e30, neginf=-1e30)
