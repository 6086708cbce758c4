"""Every score under one interface: fitted once on ID, then logits and features in, (N,) out; larger = more OOD.

Scores that look at features see what the head sees (normalised on an L2 net); only the feature norm takes the raw ones.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple, get_args

from torch import Tensor

from ood.config.evaluation import ScoreName, Scores
from ood.detection import posthoc, scores
from ood.detection.scores import Head

NAMES: tuple[str, ...] = get_args(ScoreName)
ALWAYS = {"msp", "energy", "feature_norm"}  # what the tables lay beside every own score
# Needs input gradients, so it is computed where the images are.
FROM_IMAGES = {"odin"}


class Outputs(NamedTuple):
    """What a network gives for some images: logits (N, C), raw features (N, D), and features as its head sees them."""

    logits: Tensor
    raw: Tensor
    seen: Tensor

    @classmethod
    def of(cls, head: Head, logits: Tensor, raw: Tensor) -> "Outputs":
        """From what is cached of a network."""
        return cls(logits, raw, head.input(raw))


Detector = Callable[[Outputs], Tensor]


def wanted(setting: Scores, own: Iterable[str] = ()) -> list[str]:
    """The scores to compute, in the order of NAMES: those in use, and those that tables need whatever is used.

    Args:
        own: every model's own score: methods are compared on both their own scores.
    """
    chosen = set(NAMES) if setting.used is None else {*setting.used, *ALWAYS, *own}
    return [name for name in NAMES if name in chosen]


def fit(
    names: Iterable[str], head: Head, train: Outputs, labels: Tensor, validation_logits: Tensor, setting: Scores
) -> dict[str, Detector]:
    """The named detectors (none of FROM_IMAGES).

    Args:
        train, labels: of ID training images. validation_logits: of ID validation images, for KL matching.

    Raises:
        ValueError: a setting that these features can't serve.
    """
    makers: dict[str, Callable[[], Detector]] = {
        "msp": lambda: lambda x: scores.msp(x.logits.double()),
        "max_logit": lambda: lambda x: scores.max_logit(x.logits),
        "energy": lambda: lambda x: scores.energy(x.logits.double(), setting.energy_temperature),
        "xent": lambda: lambda x: scores.xent(x.logits.double()),
        "gen": lambda: lambda x: scores.gen(x.logits, setting.gen_gamma, setting.gen_top),
        "feature_norm": lambda: lambda x: scores.feature_norm(x.raw),
        "mahalanobis": lambda: _on_seen(scores.Mahalanobis().fit(train.seen, labels).score),
        "knn": lambda: _on_seen(scores.KNN(setting.knn_k).fit(train.seen).score),
        "vim": lambda: _on_seen(scores.ViM(head, setting.vim_dim).fit(train.seen).score),
        "react": lambda: _on_seen(scores.ReAct(head, setting.react_quantile).fit(train.seen).score),
        "vra": lambda: _on_seen(scores.VRA(head, setting.vra_low, setting.vra_high).fit(train.seen).score),
        "she": lambda: _on_seen(scores.SHE(head).fit(train.seen, labels).score),
        "rmd": lambda: _on_seen(scores.RMD().fit(train.seen, labels).score),
    }
    names = list(names)
    fitted = {name: makers[name]() for name in names if name in makers}
    for name, score in posthoc.fit(set(names), head, train.seen, labels, validation_logits, setting).items():
        fitted[name] = _on_both(score)
    return {name: fitted[name] for name in names}


def _on_both(score: posthoc.Score) -> Detector:
    return lambda x: score(x.seen, x.logits)


def _on_seen(score: Callable[[Tensor], Tensor]) -> Detector:
    return lambda x: score(x.seen)
