"""Every score under one interface: fitted once on ID, then logits and features in, (N,) out; larger = more OOD.

Scores that look at features see what the head sees (normalised on an L2 net); only the feature norm takes the raw ones.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, get_args

from torch import Tensor

from ood.config.evaluation import ScoreName, Scores
from ood.detection import posthoc, scores
from ood.detection.scores import Fitted, Head

NAMES: tuple[str, ...] = get_args(ScoreName)
ALWAYS = {"msp", "energy", "feature_norm"}  # what the tables lay beside every own score
OF_A_BRANCH = {"confidence": "confidence", "neglabel": "negatives"}  # those that a head must have something beside it for


class Outputs(NamedTuple):
    """What a network gives for some images: logits (N, C), raw features (N, D), and features as its head sees them."""

    logits: Tensor
    raw: Tensor
    seen: Tensor

    @classmethod
    def of(cls, head: Head, logits: Tensor, raw: Tensor) -> "Outputs":
        """From what is cached of a network."""
        return cls(logits, raw, head.input(raw))


@dataclass(frozen=True)
class Detector:
    """A score, ready: called with Outputs, it gives (N,). state: all that was fitted, so that `restored` makes the same one of it."""

    call: Callable[[Outputs], Tensor]
    state: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self, outputs: Outputs) -> Tensor:
        return self.call(outputs)


class Inside(NamedTuple):
    """What scores are fitted on: ID training outputs and labels, and logits of ID validation images (KL matching)."""

    train: Outputs
    labels: Tensor
    validation_logits: Tensor


def wanted(setting: Scores, own: Iterable[str] = (), *, head: Head | None = None) -> list[str]:
    """The scores to compute, in the order of NAMES: those in use, and those that tables need whatever is used.

    Args:
        head: the network's; None: one with nothing beside it.
        own: every model's own score: methods are compared on both their own scores.
    """
    chosen = set(NAMES) if setting.used is None else {*setting.used, *ALWAYS, *own}
    missing = {name for name, part in OF_A_BRANCH.items() if getattr(head, part, None) is None}
    return [name for name in NAMES if name in chosen and name not in missing]


def fit(
    names: Iterable[str], head: Head, train: Outputs, labels: Tensor, validation_logits: Tensor, setting: Scores
) -> dict[str, Detector]:
    """The named detectors (none of from_images.FROM_IMAGES).

    Args:
        train, labels: of ID training images. validation_logits: of ID validation images, for KL matching.

    Raises:
        ValueError: a setting that these features can't serve.
    """
    kinds, inside = _kinds(head, setting), Inside(train, labels, validation_logits)
    return {name: _fitted(kinds[name], inside) for name in names}


def restored(name: str, head: Head, setting: Scores, state: dict[str, Tensor]) -> Detector:
    """The detector whose `state` it is; of copies, for a file's tensors lie in memory as they come, and products of matrices that aren't
    aligned differ in their last bits.

    Raises:
        ValueError: it is another's.
    """
    kind = _kinds(head, setting)[name]
    if isinstance(kind, Detector):
        if state:
            raise ValueError(f"{name} has nothing fitted, but there is {min(state)}")
        return kind
    kind.maker.take({key: value.clone() for key, value in state.items()})
    return Detector(kind.score, state)


class _Kind(NamedTuple):
    """A score that is fitted: an unfitted one, how it is fitted, and how it scores."""

    maker: Fitted
    fit: Callable[[Inside], object]
    score: Callable[[Outputs], Tensor]


def _fitted(kind: "_Kind | Detector", inside: Inside) -> Detector:
    if isinstance(kind, Detector):
        return kind
    kind.fit(inside)
    return Detector(kind.score, kind.maker.state())


def _kinds(head: Head, setting: Scores) -> dict[str, _Kind | Detector]:
    """Every score by its name, none fitted yet; those without anything to fit as they are."""
    mahalanobis, rmd, she, klm = scores.Mahalanobis(), scores.RMD(), scores.SHE(head), posthoc.KLMatching()
    confidence, neglabel = scores.Confidence(), scores.NegLabel(head)
    labelled = {"mahalanobis": mahalanobis, "rmd": rmd, "she": she}
    alone = {
        "knn": scores.KNN(setting.knn_k),
        "vim": scores.ViM(head, setting.vim_dim),
        "react": scores.ReAct(head, setting.react_quantile),
        "vra": scores.VRA(head, setting.vra_low, setting.vra_high),
        "dice": posthoc.DICE(head, setting.dice_sparsity),
        "nnguide": posthoc.NNGuide(head, setting.nnguide_k),
        "fdbd": posthoc.FDBD(head),
        "nci": posthoc.NCI(head, setting.nci_alpha),
    }
    ash, scale = posthoc.ASH(head, setting.ash_percentile), posthoc.SCALE(head, setting.scale_percentile)
    return {
        "msp": Detector(lambda x: scores.msp(x.logits.double())),
        "max_logit": Detector(lambda x: scores.max_logit(x.logits)),
        "energy": Detector(lambda x: scores.energy(x.logits.double(), setting.energy_temperature)),
        "xent": Detector(lambda x: scores.xent(x.logits.double())),
        "gen": Detector(lambda x: scores.gen(x.logits, setting.gen_gamma, setting.gen_top)),
        "feature_norm": Detector(lambda x: scores.feature_norm(x.raw)),
        "ash": Detector(lambda x: ash.score(x.seen)),
        "scale": Detector(lambda x: scale.score(x.seen)),
        "klm": _Kind(klm, lambda inside: klm.fit(inside.validation_logits), lambda x: klm.score(x.logits)),
        "confidence": _Kind(confidence, lambda _: confidence.fit(head), lambda x: confidence.score(x.seen)),
        "neglabel": _Kind(neglabel, lambda _: neglabel.fit(head), lambda x: neglabel.score(x.seen)),
        **{name: _on_features(found, labels=True) for name, found in labelled.items()},
        **{name: _on_features(found, labels=False) for name, found in alone.items()},
    }


def _on_features(found: Fitted, *, labels: bool) -> _Kind:
    def fit(inside: Inside) -> object:
        return found.fit(inside.train.seen, inside.labels) if labels else found.fit(inside.train.seen)

    return _Kind(found, fit, lambda x: found.score(x.seen))
