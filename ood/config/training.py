"""Sections that every trainer shares: seeds, runtime, network, augmentation, and how long and how fast to learn."""

import re
from typing import Annotated, Any, Literal, Optional

from pydantic import AfterValidator, Field, RootModel, create_model, model_validator

from ood.config import STRICT, Keyed, Params, Section, distinct, place
from ood.config.bounds import Batch, Below, Cores, Nats, Rate, Seed, Share, Temperature, Unit
from ood.config.bounds import Epochs as EpochCount
from ood.config.naming import Naming, OtherNames, Template
from ood.config.nets import Net

NAME = r"[a-z0-9][a-z0-9-]{0,59}"  # longer ones, with what stages put around them, no file could be called


def _a_name(name: str) -> str:
    if not re.fullmatch(NAME, name):
        raise ValueError("a name is made of lower-case letters, digits and hyphens, begins with no hyphen, and has at most 60. Rename it")
    return name


Name = Annotated[str, AfterValidator(_a_name)]
LogitScore = Literal["msp", "max_logit", "energy", "feature_norm", "xent"]  # what needs neither fitting nor images
Numbers = Annotated[list[Seed], Field(min_length=1, max_length=1000), AfterValidator(distinct)]


class Seeds(RootModel[Numbers], Keyed, key="seeds"):
    """Every classifier is trained once per seed."""

    model_config = STRICT


class Runtime(Section, key="runtime"):
    """Where and how tensors are computed. fp32 with a fixed number of CPU threads is the bit-exact reference; fp64 is for checks.

    precision auto: bf16 where the device has instructions for it, else fp32. workers: processes that decode pictures ahead where
    data.stream leaves them in their files, and models that are scored at a time; no result depends on it.
    """

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16", "fp64"] = "fp32"
    threads: Annotated[Cores, Field(ge=1)] = 1
    channels_last: bool = False
    compile: bool = False
    fused: bool = False
    workers: Cores = 2

    @property
    def counted(self) -> dict[str, Any]:
        """All that a result depends on."""
        return self.model_dump(mode="json", exclude={"workers"})


def _rising(shares: list[float]) -> list[float]:
    if shares[0] > shares[1]:
        raise ValueError(f"the smallest share ({shares[0]}) comes first, then the largest ({shares[1]}); swap them")
    return shares


class Augment(Section, key="augment"):
    """Training-time augmentation: random crop after zero padding, horizontal flip; for large pictures RandomResizedCrop.

    crop: smallest and largest share of the picture's area that a crop takes ([0.08, 1.0] for ImageNet); null: no such crop.
    """

    pad: int = Field(0, ge=0, lt=4096)
    flip: bool = False
    crop: Annotated[list[Share], Field(min_length=2, max_length=2), AfterValidator(_rising)] | None = None


class Common(Section):
    """What every trainer reads beside its own section."""

    seeds: list[int]
    runtime: Runtime
    augment: Augment

    @classmethod
    def read(cls, params: Params) -> "Common":
        """From the top-level sections of the same names."""
        return cls(seeds=params[Seeds].root, runtime=params[Runtime], augment=params[Augment])

    @property
    def shared(self) -> list[Any]:
        """What every seed depends on."""
        return [self.runtime.counted, self.augment]


class PixMix(Section):
    """Mixing with fractals (ood.data.pixmix). rounds: at most, of mixing. severity: of augmentations, 0 to 10. beta: larger mixes in less.

    pictures: how many fractals there are (its authors have collected some 14,000); 0, the control: mixed with themselves alone.
    overlapping: augment colour, contrast, brightness and sharpness, too, as the authors do on CIFAR; then ImageNet-C's corruptions of these
    are no news.
    """

    rounds: int = Field(4, ge=1, le=20)
    severity: float = Field(3.0, ge=0.1, le=10)
    beta: float = Field(3.0, ge=0.1, le=100)
    pictures: int = Field(500, ge=0, le=20_000)
    overlapping: bool = False


class Strong(Section):
    """What transformers are trained with beside `augment`, and PixMix; all of it off by default.

    label_smoothing: share of a label that is spread over all classes. mixup, cutmix: alpha of the Beta distribution that an image's share
    is drawn from, 0: off; of both, one at random per batch, in the epochs before mix_until (null: always). randaugment: magnitude, 0 to
    10. random_erasing: probability that a part of an image becomes noise. pixmix: mix with fractals, {}: as its authors do; null: no.
    Outliers are changed as ID images are, but never mixed with one another. A run's section takes the place of its stage's whole; {}
    switches it off.
    """

    label_smoothing: Below = 0.0
    mixup: float = Field(0.0, ge=0, le=1e3)
    cutmix: float = Field(0.0, ge=0, le=1e3)
    mix_until: Annotated[EpochCount, Field(ge=1)] | None = None
    randaugment: float = Field(0.0, ge=0, le=10)
    random_erasing: Unit = 0.0
    pixmix: PixMix | None = None

    @model_validator(mode="after")
    def _something_to_end(self) -> "Strong":
        if self.mix_until is not None and not self.softens_by_mixing:
            raise ValueError("mix_until says when mixup or cutmix ends, and neither is on; give one, or remove it")
        return self

    @property
    def softens_by_mixing(self) -> bool:
        """Whether images, and with them labels, are mixed in any epoch."""
        return bool(self.mixup or self.cutmix)

    @property
    def alone(self) -> bool:
        """Whether an image is changed by itself."""
        return bool(self.randaugment or self.random_erasing or self.pixmix)

    def mixes(self, epoch: int) -> bool:
        """Whether images are mixed in an epoch, counted from 0."""
        return self.softens_by_mixing and (self.mix_until is None or epoch < self.mix_until)


class Training(Section):
    """One optimisation: what learns how fast, and for how long.

    optimizer: sgd (with momentum, as all four papers' convolutional nets), or adamw (CCT, ConvNeXt).
    schedule: how the learning rate falls from `lr`: cosine-step, every step down to `lr_end` (OE); cosine-epoch, the same once per epoch
    (UM); linear, every step, in a straight line; steps, times `factor` after each epoch of `milestones` (L2); constant. Before that it
    rises over `warmup` epochs, step by step from `lr_end`; at the end it stays at `lr_end` for `cooldown` epochs. ema: what is kept of the
    network is the moving average of its weights, with this decay per step; 0: the last ones. strong: label smoothing and strong
    augmentation (CCT).
    freeze: backbone: only the head learns, on features that are computed once, where images are augmented of so many `views` of each; none:
    everything learns.
    """

    epochs: EpochCount
    batch_size: Batch
    lr: Rate
    lr_end: Annotated[float, Field(ge=0, le=1e3)] = 1e-6
    schedule: Literal["cosine-step", "cosine-epoch", "linear", "steps", "constant"] = "cosine-step"
    milestones: list[Annotated[EpochCount, Field(ge=1)]] = Field(default_factory=list)
    factor: float = Field(0.1, ge=1e-6, lt=1)
    warmup: EpochCount = 0
    cooldown: EpochCount = 0
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: Below = 0.9
    nesterov: bool = True
    weight_decay: float = Field(5e-4, ge=0, le=10)
    ema: Below = 0.0
    strong: Strong = Strong()
    freeze: Literal["backbone", "none"] = "none"
    views: int = Field(4, ge=1, le=100)

    @property
    def frozen(self) -> bool:
        """Whether the head learns alone."""
        return self.freeze == "backbone"

    @model_validator(mode="after")
    def _features_are_not_mixed(self) -> "Training":
        if self.frozen and self.strong.softens_by_mixing:
            raise ValueError("freeze: backbone trains on features, and mixup and cutmix mix images. Take one of the two out")
        return self

    @model_validator(mode="after")
    def _steps_have_milestones(self) -> "Training":
        if (self.schedule == "steps") != bool(self.milestones):
            raise ValueError(f"milestones belong to schedule 'steps' and only there; schedule is {self.schedule!r}. Give both or neither")
        if self.epochs and (self.milestones != sorted(set(self.milestones)) or (self.milestones and self.milestones[-1] >= self.epochs)):
            raise ValueError(f"milestones {self.milestones} must rise and lie below epochs ({self.epochs})")
        if self.epochs and self.warmup + self.cooldown >= self.epochs:
            raise ValueError(f"warmup ({self.warmup}) and cooldown ({self.cooldown}) leave nothing of {self.epochs} epochs")
        return self


_OPTIONAL = {
    name: (Optional[Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation], None)  # noqa: UP045
    for name, field in Training.model_fields.items()
}


class Overrides(create_model("Optional", __base__=Section, **_OPTIONAL)):  # type: ignore[misc]  # its fields are Training's
    """A run's own values where they differ from its stage's `training`: every key of Training, none of them needed."""

    def over(self, training: Training) -> Training:
        """`training` with this run's values in place of its own.

        Raises:
            ValueError: values that don't go together.
        """
        own = self.model_dump(exclude_none=True, include=set(Training.model_fields))
        if own.get("schedule", "steps") != "steps":
            own = {"milestones": []} | own  # another schedule has none, whatever the stage's has
        return Training(**training.model_dump() | own)


class Words(Naming):
    """A head made of words, as CLIP's text tower reads them, instead of a learned one: zero-shot.

    temperature: that cosines are divided by; null: the network's own (CLIP's is 0.01; MCM's authors take 1). negatives: words that mean
    something else, for the score neglabel, in the same template; share: of them those that stay, the ones least like a class.
    """

    template: Template = "a photo of a {name}"
    names: dict[str, Annotated[str, Field(min_length=1)]] = Field(default_factory=dict)
    temperature: Temperature | None = None
    negatives: Annotated[OtherNames, Field(min_length=1)] | None = None
    share: Share = 1.0


class PretrainRun(Overrides):
    """net, augment: its own; null: the sections of that name. normalize: L2-normalise the features before the last layer (L2 paper).

    tau: LogitNorm instead (Wei et al. 2022): cross-entropy of normalised logits, divided by tau. confidence: a branch beside the last layer
    that says how sure the network is (DeVries and Taylor 2018), with this budget, in nats, of hints that it may ask for. rotation: a branch
    that says which quarter turn an image is seen in (RotPred, Hendrycks et al. 2019), with this weight beside cross-entropy. weights: of a
    whole classifier for the data's classes, its head too: a file, as net.weights; with epochs 0 it is taken as it is. words: of a CLIP: its
    head is the class names; with epochs 0 it learns nothing from the images.
    """

    net: Net | None = None
    augment: Augment | None = None
    normalize: bool = False
    tau: Temperature | None = None
    confidence: Nats | None = None
    rotation: Annotated[float, Field(gt=0, le=1000)] | None = None
    weights: Annotated[str, AfterValidator(place)] | None = None
    words: Words | None = None

    @model_validator(mode="after")
    def _one_norm(self) -> "PretrainRun":
        if self.normalize and self.tau is not None:
            raise ValueError("normalize (features) and tau (LogitNorm) are two methods; give one of them")
        if self.confidence is not None and (self.tau is not None or self.weights is not None):
            raise ValueError("confidence has an objective of its own and a branch that no given weights have; take out tau and weights")
        if self.rotation is not None and (self.tau is not None or self.weights is not None or self.confidence is not None):
            raise ValueError("rotation has an objective and a branch of its own; take out tau, confidence and weights")
        if self.words is not None and (self.normalize or {self.tau, self.weights, self.confidence, self.rotation} != {None}):
            raise ValueError(
                "words is a head of its own, on normalised features; take out normalize, tau, weights, confidence and rotation"
            )
        if self.words is not None and self.words.negatives is not None and self.epochs != 0:
            raise ValueError(
                "words.negatives stay where they are, and training moves classes away from them; set epochs: 0, or remove them"
            )
        return self


class Pretrain(Section, key="pretrain"):
    """Training from scratch: one recipe, several runs; the weights of every keep_epochs-th epoch and the last are kept (0: the last)."""

    keep_epochs: EpochCount = 1
    training: Training
    runs: dict[Name, PretrainRun] = Field(min_length=1)

    def keeps(self, epoch: int, last: int) -> bool:
        """Whether the weights after an epoch, 1 to last, are outputs."""
        return epoch == last or (self.keep_epochs > 0 and epoch % self.keep_epochs == 0)


class Epoch(Section):
    """A kept epoch of a pretraining run, as a model of its own: `epoch`, or that at which validation would have stopped, for each seed.

    by: a score, whose AUROC on validation OOD is largest then, or accuracy, of ID validation; of several such epochs the first.
    """

    run: Name
    epoch: Annotated[EpochCount, Field(ge=1)] | None = None
    by: Literal[LogitScore, "accuracy"] | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> "Epoch":
        if (self.epoch is None) == (self.by is None):
            raise ValueError("give epoch, a number, or by, what validation chooses it by; one of the two")
        return self


class Epochs(RootModel[dict[Name, Epoch]], Keyed, key="epochs"):
    """Kept epochs that other stages may start from, mask and evaluate, by the names they get."""

    model_config = STRICT
