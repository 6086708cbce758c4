"""Section of the detector: which model and score become one, at which false-alarm rate, under which guarantee."""

from typing import Annotated, Literal

from pydantic import Field

from ood.config import Section
from ood.config.bounds import Unit, Weight
from ood.config.evaluation import ScoreName
from ood.config.training import Name

AUTO = "auto"
Rejected = Annotated[float, Field(ge=1e-5, le=0.5)]  # share of ID that may be flagged; who rejects more than half classifies nothing
Sureness = Annotated[float, Field(ge=0.5, le=0.9999)]  # of a guarantee or an interval


class Detector(Section, key="detector"):
    """What calibrate makes of a model, and export writes down.

    model: one of `models`; auto: the one that is best on validation OOD, of those that are right on ID validation at most `accuracy` less
    often than the best; null: no detector is made. score: by name; auto: the one that validation picks. ensemble: all seeds together, by
    their mean probability and mean score; false: the first. reject: the share of ID that may be flagged. guarantee: what is promised of
    that share (ood.detection.guarantee). per_class: a threshold for each predicted class. price: what an accepted OOD image costs, in
    accepted wrong classes. thumbnails: how many training images go along, for explanations.
    """

    model: Name | None = AUTO
    score: ScoreName | Literal["auto"] = "auto"
    accuracy: Unit = 0.01
    ensemble: bool = False
    reject: Rejected = 0.05
    guarantee: Literal["marginal", "conditional", "simultaneous"] = "conditional"
    confidence: Sureness = 0.95
    per_class: bool = False
    price: Weight = 1.0
    thumbnails: int = Field(200, ge=0, le=10_000)
