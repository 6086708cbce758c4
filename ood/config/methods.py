"""Sections of Unleashing Mask and of the runs with auxiliary outliers."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from ood.config import Section
from ood.config.bounds import Batch, Below, Count, Energy, Nats, Share, Unit, Weight
from ood.config.bounds import Epochs as EpochCount
from ood.config.training import NAME, Name, Overrides, Training

NO_CONSTRAINT = "none"


class Masking(Section):
    """How weights are masked at random.

    keep: share of every layer's weights that a mask keeps. augment: the images of the estimate. layers: all, or the head alone, as fits a
    network whose backbone is frozen. epochs: look at the training images with every n-th kept epoch, too (see ood.unmask.epochs); null: no.
    """

    keep: Share
    masks: Annotated[int, Field(ge=1, le=10**4)]
    augment: bool = True
    layers: Literal["all", "head"] = "all"
    epochs: Annotated[EpochCount, Field(ge=1)] | None = None


class MaskRun(Section):
    """Masks on one model, a loss constraint by the run's name. init: whose weights; the rest: its own values, null: the section's."""

    init: Name
    keep: Share | None = None
    masks: Annotated[int, Field(ge=1, le=10**4)] | None = None
    augment: bool | None = None
    layers: Literal["all", "head"] | None = None
    epochs: Annotated[EpochCount, Field(ge=1)] | None = None


class Mask(Masking, key="mask"):
    """Random masks on trained nets: the loss constraint and the atypical samples (UM, ICML 2023)."""

    memorised: Annotated[Nats, Field(gt=0)] = 0.05
    pictured: int = Field(24, ge=1, le=200)
    runs: dict[Name, MaskRun]

    def masking(self, run: MaskRun) -> Masking:
        """A run's own values over the section's."""
        own = run.model_dump(exclude_none=True, exclude={"init"})
        return Masking(**{name: getattr(self, name) for name in Masking.model_fields} | own)


class FineTune(Overrides):
    """A training that goes on from another run's weights.

    init: that run. constraint: the mask run whose loss constraint b holds the loss on ID, or none: plain cross-entropy. threshold: b in
    nats for this run alone; null: its stage's threshold, and where that is null, too, what the mask stage estimated.
    """

    init: Name
    constraint: Name
    threshold: Nats | None = None

    @property
    def constrained(self) -> bool:
        """Whether a loss constraint holds."""
        return self.constraint != NO_CONSTRAINT

    def given(self, threshold: float | None) -> float | None:
        """The level that was set by hand, its own or `threshold`, its stage's; None: what the mask stage estimated holds."""
        return threshold if self.threshold is None else self.threshold

    @model_validator(mode="after")
    def _a_threshold_for_something(self) -> "FineTune":
        if self.threshold is not None and not self.constrained:
            raise ValueError("threshold is the level of a constraint, and constraint is none. Name a run of mask.runs, or remove threshold")
        return self


OVER_EPOCHS = ("early_doubt", "aum", "forgetting", "loss_over_epochs", "masked_loss_over_epochs")


class Forget(Section):
    """Selective unmasking: forget the atypical images alone, where the paper's constraint holds the mean loss of a batch.

    by: the ranking of the run's `constraint` (see ood.unmask.atypical, ood.unmask.epochs), or random: a control. share: of the training
    images; null: as many as have a label that the first epochs contradict, none where they contradict none. how: drop, they are left out;
    flood, each of them has the loss |ce - b| + b, the others plain cross-entropy.
    """

    by: Literal[
        "masked_loss", "loss", "flip_rate", "early_doubt", "aum", "forgetting", "loss_over_epochs", "masked_loss_over_epochs", "random"
    ]
    share: Below | None = None
    how: Literal["drop", "flood"] = "drop"

    @property
    def ranked(self) -> bool:
        """Whether it reads what a mask run found."""
        return self.by != "random" or self.share is None

    @property
    def over_epochs(self) -> bool:
        """Whether it reads what a mask run found in the kept epochs."""
        return self.by in OVER_EPOCHS or self.share is None


class UMRun(FineTune):
    """forget: which images are forgotten; null: the paper's form, on the mean loss of a batch, where constraint isn't none."""

    forget: Forget | None = None

    @property
    def constrained(self) -> bool:
        """Whether a loss constraint holds, be it for some images: nothing is held of those that are left out."""
        return super().constrained and (self.forget is None or self.forget.how == "flood")

    @model_validator(mode="after")
    def _forgets_what_was_found(self) -> "UMRun":
        if self.forget is None:
            return self
        if not super().constrained and (self.forget.ranked or self.forget.how == "flood"):
            raise ValueError("forget: the images, their share or their level are those of a run of mask.runs. Name it as constraint")
        return self


class UM(Section, key="um"):
    """Fine-tuning with the loss constraint, and without it as control; threshold null = the level that the mask stage estimated."""

    threshold: Nats | None = None
    training: Training
    runs: dict[Name, UMRun]


class UMAPRun(FineTune):
    """keep: its own share of weights that the learned mask keeps; null: the section's."""

    keep: Share | None = None


class UMAP(Section, key="umap"):
    """UM Adopts Pruning: the same objective, learned by a mask on frozen weights."""

    threshold: Nats | None = None
    keep: Share
    training: Training
    runs: dict[Name, UMAPRun]

    def kept(self, run: UMAPRun) -> float:
        """The share of weights that a run's mask keeps."""
        return self.keep if run.keep is None else run.keep


# lambda of the OE paper; of Liu et al. 2020; beta of DREAM-OOD on ImageNet-100 (2.5 on CIFAR-100)
OUTLIER_WEIGHTS = {"uniform": 0.5, "energy": 0.1, "dream": 1.0, "label": 1.0, "confidence": 0.5, "none": 0.0}
DREAMED = "dreamed/"  # folder below data/ that holds the dreamed sets


def _a_place(outliers: str) -> str:
    if not re.fullmatch(rf"prepared/auxiliary|{DREAMED}{NAME}", outliers):
        raise ValueError(f"outliers are prepared/auxiliary, or {DREAMED}<a run of synthesize.runs>. Give one of them")
    return outliers


class Mine(Section):
    """POEM: each epoch's outliers are those near the boundary, by a draw from a Bayesian regression on the features (ood.training.mining).

    share: of the outliers looked at, how many are trained with. pool: how many are looked at, drawn anew each epoch; null: all. epochs: how
    long those that were trained with count as known to be outliers. known: of these and of ID, how many the regression sees; null: all.
    sigma: prior variance of a weight. noise: variance of a target. target: of outliers, and minus it of ID. spread: factor of the
    posterior's covariance; the authors' code: as sigma.
    """

    share: Share = 0.125
    pool: Count | None = None
    epochs: Annotated[EpochCount, Field(ge=1)] = 4
    known: Count | None = None
    sigma: Annotated[float, Field(ge=1e-6, le=1e6)] = 20.0
    noise: Annotated[float, Field(ge=1e-6, le=1e6)] = 0.5
    target: Annotated[float, Field(ge=1e-3, le=1e3)] = 3.9
    spread: Annotated[float, Field(ge=0, le=1e6)] = 1.0


class Perturb(Section):
    """DOE: the outlier term is computed at weights that are moved for the worse (ood.training.perturbation).

    warmup: share of the epochs that train as OE before. momentum: of the direction's moving average. sizes: of which each step draws how
    far weights move, in lengths of their layer's; [0.0], the control: the same steps at weights that stay. clip: norm above which a
    gradient is scaled down to it. towards: worst, where the squared slope of the outlier term in a scale of the logits rises, as the
    paper's maximum asks; reference, where it falls, as its code steps.
    """

    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.5
    momentum: Below = 0.6
    sizes: list[Annotated[float, Field(ge=0, le=10)]] = Field([1e-1, 1e-2, 1e-3, 1e-4], min_length=1)
    clip: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    towards: Literal["worst", "reference"] = "worst"


class OERun(FineTune):
    """One named training with outliers.

    outliers: the folder below data/ that they are in, prepared/auxiliary or dreamed/<synthesize run>. objective: what they teach: uniform
    softmax (OE); energy margins m_in and m_out on -logsumexp (Liu et al. 2020); dream, two-class cross-entropy on phi of the energy
    (DREAM-OOD); label, their own class (DREAM-ID, dreamed inliers); confidence, little of it, where the network has that branch
    (a variant of OE's whose code its authors have not published); or none.
    weight: of that term; null: its paper's. constraint, threshold: on the ID loss, as in UM's reference; the stage's threshold is um's.
    cut: filter of dreamed images (see ood.dream.dreamed.Dreamed.kept). per_class: how many of each class to use; null: all that pass.
    outlier_batch: this run's own, null: the stage's. mine: choose each epoch's outliers (POEM); perturb: teach them at moved weights (DOE).
    """

    outliers: Annotated[str, AfterValidator(_a_place)]
    objective: Literal["uniform", "energy", "dream", "label", "confidence", "none"] = "uniform"
    weight: Weight | None = None
    m_in: Energy | None = None
    m_out: Energy | None = None
    phi: Literal["affine", "mlp"] | None = None
    cut: Unit | None = None
    per_class: Count | None = None
    outlier_batch: Batch | None = None
    mine: Mine | None = None
    perturb: Perturb | None = None

    @property
    def dreamed(self) -> str | None:
        """The synthesize run whose images it trains with, if any."""
        return self.outliers.removeprefix(DREAMED) if self.outliers.startswith(DREAMED) else None

    @property
    def outlier_weight(self) -> float:
        """The weight of the outlier term."""
        return OUTLIER_WEIGHTS[self.objective] if self.weight is None else self.weight

    @model_validator(mode="after")
    def _consistent(self) -> "OERun":
        if self.objective in ("none", "label") and self.weight is not None:
            raise ValueError(f"weight has no meaning with objective {self.objective!r}; remove one of the two")
        if (self.objective == "dream") != (self.phi is not None):
            raise ValueError("phi (affine or mlp) belongs to objective 'dream' and only there")
        if self.dreamed is None and (self.cut is not None or self.per_class is not None):
            raise ValueError("cut and per_class filter dreamed images; these outliers are not dreamed. Remove them")
        if self.objective == "none" and (self.cut is not None or self.per_class is not None):
            raise ValueError("cut and per_class have no meaning with objective 'none'; remove them")
        if self.dreamed is not None and self.objective != "none" and self.cut is None:
            raise ValueError("dreamed images need a cut: how sure of an ID class the judge may be of an outlier (1: keep all)")
        if self.objective == "label" and (self.dreamed is None or self.constrained):
            raise ValueError("objective 'label' trains on dreamed inliers under their classes, without a constraint")
        margins = [margin for margin in (self.m_in, self.m_out) if margin is not None]
        if len(margins) != (2 if self.objective == "energy" else 0):
            raise ValueError("m_in and m_out belong to objective 'energy', both of them and only there")
        if margins and margins[0] >= margins[1]:
            raise ValueError(f"m_in ({self.m_in}) must lie below m_out ({self.m_out}): ID has the lower energy")
        return self

    @model_validator(mode="after")
    def _outliers_are_chosen_or_moved_where_there_are_any(self) -> "OERun":
        if self.mine is not None and self.objective in ("none", "label"):
            raise ValueError(f"mine chooses outliers, and objective {self.objective!r} trains with none. Take one of the two out")
        if self.perturb is not None and self.objective != "uniform":
            raise ValueError(f"perturb (DOE) teaches outliers a uniform softmax; objective is {self.objective!r}. Set it to uniform")
        return self


class OE(Section, key="oe"):
    """Outlier Exposure (ICLR 2019) and its relatives."""

    outlier_batch: Batch
    training: Training
    runs: dict[Name, OERun]
