"""Whatever was exported, ready to predict: a detector's folder, or its ONNX graph."""

from pathlib import Path

from ood.deploy.detector import Detector
from ood.deploy.predictor import Predictor
from ood.detection.guarantee import Guarantee
from ood.errors import InputError


def load(path: Path, *, reject: float | None = None, guarantee: Guarantee | None = None, device: str = "cpu") -> Predictor:
    """A Predictor.

    Raises:
        InputError: as `Detector.load`; a graph that isn't one, or is asked for another rate than it has.
    """
    if path.suffix.lower() != ".onnx":
        return Detector.load(path, reject=reject, guarantee=guarantee, device=device)
    if reject is not None or guarantee is not None or device != "cpu":
        raise InputError(f"{path}: a graph has one threshold and runs on the CPU. Write another, or give the detector's folder.")
    from ood.deploy.onnx import GraphDetector

    return GraphDetector(path)


def whole(predictor: Predictor, what: str) -> Detector:
    """The detector, where it came in its folder.

    Raises:
        InputError: it is a graph, which doesn't hold what is needed.
    """
    if not isinstance(predictor, Detector):
        raise InputError(f"{what}: a graph doesn't hold what that takes. Give the detector's folder.")
    return predictor
