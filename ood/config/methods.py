"""Sections of Unleashing Mask and of the runs with auxiliary outliers."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ood.config import Section
from ood.config.training import Name, Overrides, Training

KeepRate = Annotated[float, Field(gt=0, le=1)]


class Mask(Section):
    """Random masks on a trained net: the loss constraint and the atypical samples (UM, ICML 2023)."""

    run: Name
    keep: KeepRate
    masks: int = Field(ge=1)
    augment: bool = True
    memorised: float = Field(0.05, gt=0)
    pictured: int = Field(24, ge=1)


class UM(Section):
    """Fine-tuning with the loss constraint; threshold null = the level that the mask stage estimated."""

    threshold: float | None = Field(None, ge=0)
    training: Training


class UMAP(Section):
    """UM Adopts Pruning: the same objective, learned by a mask on frozen weights."""

    threshold: float | None = Field(None, ge=0)
    keep: KeepRate
    training: Training


class OERun(Overrides):
    """One named training with outliers.

    init: the run whose weights it starts from. objective: what the outliers teach. constraint: on the ID loss, `um` takes
    the level that the starting model was fine-tuned with.
    """

    init: Name
    objective: Literal["uniform", "energy", "none"] = "uniform"
    constraint: Literal["none", "um"] = "none"
    weight: float | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _weight_needs_outliers(self) -> "OERun":
        if self.objective == "none" and self.weight is not None:
            raise ValueError("weight has no meaning with objective 'none'; remove one of the two")
        return self


class EnergyMargins(Section):
    """Margins on the energy -logsumexp: ID below m_in, outliers above m_out (Liu et al. 2020)."""

    m_in: float
    m_out: float

    @model_validator(mode="after")
    def _order(self) -> "EnergyMargins":
        if self.m_in >= self.m_out:
            raise ValueError(f"m_in ({self.m_in}) must lie below m_out ({self.m_out}): ID has the lower energy")
        return self


class OE(Section):
    """Outlier Exposure (ICLR 2019) and its relatives."""

    outlier_batch: int = Field(ge=1)
    uniform_weight: float = Field(0.5, ge=0)
    energy_weight: float = Field(0.1, ge=0)
    energy: EnergyMargins
    training: Training
    runs: dict[Name, OERun] = Field(min_length=1)
