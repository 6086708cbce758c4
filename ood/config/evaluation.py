"""Sections of trace, features, evaluate and report."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, RootModel, model_validator

from ood.config import STRICT, Keyed, Section, distinct
from ood.config.bounds import Batch, Below, Epochs, Limit, Share, Temperature
from ood.config.training import LogitScore, Name

ScoreName = Literal[
    "msp", "max_logit", "energy", "odin", "mahalanobis", "knn", "vim", "react", "feature_norm", "she", "rmd", "ash", "scale", "dice", "gen",
    "klm", "nnguide", "xent", "fdbd", "nci", "vra", "confidence", "rotation", "neglabel",
]  # fmt: skip


class Models(RootModel[Annotated[dict[Name, ScoreName], Field(min_length=1)]], Keyed, key="models"):
    """What is evaluated: a run's name -> the score of its paper."""

    model_config = STRICT


class Trace(Section, key="trace"):
    """Which pretraining runs are traced over their kept epochs, with which score.

    every: n-th kept epoch, counted back from the last. collapse: measure neural collapse on the training set too.
    """

    every: Annotated[Epochs, Field(ge=1)] = 1
    collapse: bool = True
    runs: dict[Name, LogitScore]


class Odin(Section):
    """ODIN's temperature and the size of its input step in [0, 1] pixel units."""

    temperature: Temperature = 1000.0
    epsilon: float = Field(0.0014, ge=0, le=1)


class Features(Section, key="features"):
    """The forward pass: images per batch, and ODIN, which needs its own with gradients, two thirds of all; null leaves it out.

    train: so many ID training images, as many of each class as can be, are what scores are fitted on; null: all.
    """

    batch_size: Batch = 500
    train: Limit | None = None
    odin: Odin | None = Odin()


class Scores(Section, key="scores"):
    """Which post-hoc scores are computed from cached tensors, and their constants.

    used: null for all; a list for these, MSP, energy, feature norm and all models' own scores. Those that compare with every training
    image (knn, nnguide) take the longest on large sets.
    """

    used: Annotated[list[ScoreName], AfterValidator(distinct)] | None = None
    energy_temperature: Temperature = 1.0
    knn_k: Limit = 50
    vim_dim: Limit | None = None
    react_quantile: Share = 0.9
    ash_percentile: Below = 0.65
    scale_percentile: Below = 0.65
    dice_sparsity: Below = 0.9
    gen_gamma: float = Field(0.1, ge=1e-3, le=1e3)
    gen_top: Limit = 100
    nnguide_k: Limit = 10
    nci_alpha: float = Field(0.0001, ge=0, le=1e3)
    vra_low: Below = 0.6
    vra_high: Share = 0.9

    @model_validator(mode="after")
    def _low_below_high(self) -> "Scores":
        if self.vra_low >= self.vra_high:
            raise ValueError(f"vra_low ({self.vra_low}) must be below vra_high ({self.vra_high})")
        return self


class Evaluate(Section, key="evaluate"):
    """What is evaluated and how: roles [val] alone computes no test figure. protocols: read the figures as these papers do, too.

    held_out: how many ID classes, one at a time, stand for validation OOD that is near, where a model's backbone is frozen.
    """

    roles: Annotated[list[Literal["val", "test"]], AfterValidator(distinct)] = Field(min_length=1)
    fpr_rule: Literal["closest", "at_least"] = "closest"
    bootstrap: int = Field(1000, ge=0, le=10**5)
    confidence: float = Field(0.95, ge=0.5, le=0.9999)
    held_out: int = Field(6, ge=0, le=1000)
    protocols: Annotated[list[Literal["oe", "oe-text", "um", "dream", "openood"]], AfterValidator(distinct)] = Field(default_factory=list)

    @model_validator(mode="after")
    def _val_is_needed(self) -> "Evaluate":
        if "val" not in self.roles:
            raise ValueError("'val' must be among the roles: the score that validation picks is chosen there")
        return self


class Report(Section, key="report"):
    """Which model is each method's control: `pairs` maps method to control."""

    pairs: dict[Name, Name]
