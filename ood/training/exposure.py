"""Training with outliers: from a run's section to what it is taught."""

from ood.config.methods import OERun
from ood.training.objectives import Confidence, EnergyMargin, EnergyRegularizer, LabelledInliers, Objective, OutlierExposure


def objective_for(setting: OERun, b: float | None, budget: float | None = None) -> Objective:
    """The objective of a run, with the loss constraint b on its ID term.

    Args:
        budget: of the network's confidence branch, where it has one.
    """
    if budget is not None:
        return Confidence(budget, setting.outlier_weight)
    match setting.objective:
        case "uniform":
            return OutlierExposure(setting.outlier_weight, b)
        case "energy":
            assert setting.m_in is not None  # OERun's validators see to these
            assert setting.m_out is not None
            return EnergyMargin(setting.outlier_weight, setting.m_in, setting.m_out, b)
        case "dream":
            assert setting.phi is not None
            return EnergyRegularizer(setting.outlier_weight, setting.phi, b)
        case "label":
            return LabelledInliers()
        case _:
            return Objective(b)
