"""What is evaluated and compared: models, the detector, every method's control."""

from collections.abc import Iterator

from ood.config.data import Data
from ood.config.detector import AUTO, Detector
from ood.config.dream import Align, Aligned
from ood.config.evaluation import Features, Models, Report
from ood.config.lineage import BRANCHES, Lineage, known
from ood.config.methods import OE, UM, UMAP
from ood.config.nets import Net
from ood.config.training import Epochs, Pretrain

ALIGNED = "aligned"  # the encoder of DREAM-OOD as a classifier, which is no run
NEGLABEL = "neglabel"  # the score that needs words that are no class, which that encoder has, and a CLIP may have


def comparisons(
    *,
    net: Net,
    pretrain: Pretrain,
    epochs: Epochs,
    um: UM,
    umap: UMAP,
    oe: OE,
    models: Models,
    align: Align,
    aligned: Aligned,
    features: Features,
    detector: Detector,
    data: Data,
    report: Report,
    **_: object,
) -> Iterator[str]:
    """Models are runs, a detector is made of one of them, and a method's control trains as the method does."""
    runs = Lineage(pretrain, epochs, um, umap, oe)
    words = align.anchors is None and bool(data.world if aligned.negatives == "world" else aligned.negatives)
    lacking = dict.fromkeys(BRANCHES, "no such branch (pretrain.runs)") | {
        NEGLABEL: "no words that are no class (aligned.negatives, or a run's words.negatives)"
    }

    def has(name: str, score: str) -> bool:
        """Whether a model's network has what a score needs beside its head."""
        if score in BRANCHES:
            return name != ALIGNED and (not runs.complete(name) or runs.branch(name) == score)
        return score != NEGLABEL or (words if name == ALIGNED else not runs.complete(name) or name in runs.worded)

    for name, score in models.root.items():
        if name not in runs and name != ALIGNED:
            yield f"models.{name}: no such run. Known: {known(runs.nodes)}."
        elif score == "odin" and features.odin is None:
            yield f"models.{name}: its own score is odin, which features.odin: null leaves out. Change one of the two."
        elif not has(name, score):
            yield f"models.{name}: its own score is {score}, but its network has {lacking[score]}. Give it another."
    asked = list(models.root) if detector.model == AUTO else [detector.model] if detector.model in models.root else []
    if detector.model not in (None, AUTO, *models.root):
        yield f"detector.model: no model {detector.model!r}. Known: {AUTO}, {known(models.root)}; null: no detector."
    elif asked and not any(has(str(name), detector.score) for name in asked):
        who = "every model" if detector.model == AUTO else repr(detector.model)
        yield f"detector.score: {detector.score}, but {who} has {lacking[detector.score]}. Give another score."
    if detector.score == "odin" and features.odin is None:
        yield "detector.score: odin, which features.odin: null leaves out. Change one of the two."
    if detector.ensemble and detector.model in (ALIGNED, *runs.zero_shot):
        yield f"detector.ensemble: {detector.model!r} is one network, under every seed. Set it to false."
    for name, node in runs.nodes.items():
        if node.init in runs.worded:
            yield f"{node.key}.{name}.init: {node.init} has words that are no class, and training leaves them behind. Start from another."
    if detector.model is not None and data.id.split.calibration == 0 and data.id.calibration is None:
        yield (
            "data.id.split.calibration: 0, but a detector's threshold rests on images that nothing else was chosen on. Give it a share, "
            "or set detector.model to null."
        )
    for method, control in report.pairs.items():
        if method == control:
            yield f"report.pairs.{method}: a method can't be its own control. Name another model, or remove the pair."
        missing = [name for name in (method, control) if name not in models.root]
        if ALIGNED in (method, control):
            yield f"report.pairs.{method}: {ALIGNED!r} is trained as no run is, so it has no control and is none. Remove the pair."
        elif missing:
            yield f"report.pairs.{method}: {missing[0]!r} is not evaluated. Add it to models, or remove the pair."
        elif runs.complete(method) and runs.complete(control):
            one, other = runs.nodes[method].recipe, runs.nodes[control].recipe
            mixes, mixed = one.strong.pixmix, other.strong.pixmix
            if mixes and runs.nodes[method].init is None and mixed in (None, mixes.model_copy(update={"pictures": 0})):  # its idea
                other = other.model_copy(update={"strong": other.strong.model_copy(update={"pixmix": mixes})})
            unequal = [f"{key} {mine} against {theirs}" for (key, mine), (_, theirs) in zip(one, other, strict=True) if mine != theirs]
            if runs.net(method, net) != runs.net(control, net):
                unequal.append("on another net")
            if runs.trainings(method) != runs.trainings(control):
                unequal.append("after fewer trainings or more, so with other draws")
            if unequal:
                yield f"report.pairs.{method}: {control} is no control, it trains differently ({', '.join(unequal)}). Make them equal."
