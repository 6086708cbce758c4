"""A detector as one ONNX graph: decoded pictures in, class, probability, score, p-value and flag out; thresholds and classes as metadata.

Input 'pictures': uint8 (N, H, W, 3), RGB, N of one size, any size. Outputs: 'label' int64 (N,), 'probability' float64 (N,), of it, 'score'
float64 (N,), 'p_value' float64 (N,), 'is_ood' bool (N,), 'probabilities' float64 (N, C). Not for ODIN and rotation, which need
more of the network than one pass.
"""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn
from typing_extensions import TypedDict

from ood.data.reading import UnreadableError
from ood.deploy.answers import Ensemble
from ood.deploy.detector import Detector
from ood.deploy.pictures import Picture, Pictures, opened_rgb
from ood.deploy.predictor import Predictor
from ood.deploy.resizing import Preprocess
from ood.deploy.verdicts import Verdict, verdicts_of
from ood.detection import detectors
from ood.detection.detectors import Outputs
from ood.detection.from_images import FROM_IMAGES
from ood.detection.rule import Rule
from ood.detection.scores import Head
from ood.errors import InputError
from ood.files import atomically

OUTPUTS = ("label", "probability", "score", "p_value", "is_ood", "probabilities")
FORMAT = "1"
OPSET = 20


TOLERANCE = 1e-4  # of scores (of larger ones, their share) and probabilities, between the graph and the detector


class Graph(nn.Module):
    """All of a detector as one module."""

    thresholds: Tensor
    known: Tensor
    counts: Tensor

    def __init__(self, preprocess: Preprocess, ensemble: Ensemble, rule: Rule):
        super().__init__()
        self.preprocess, self.members = preprocess, ensemble.members
        self.nets = nn.ModuleList(member.net for member in ensemble.members)
        self.per_class = rule.per_class
        self.register_buffer("thresholds", torch.from_numpy(rule.thresholds))
        width = max(len(part) for part in rule.parts)
        # Scores of calibration images, a row for all or for each class; the rows of smaller classes end in -inf, which nothing lies below.
        known = torch.full((len(rule.parts), width), -torch.inf, dtype=torch.float64)
        for row, part in zip(known, rule.parts, strict=True):
            row[: len(part)] = torch.from_numpy(part)
        self.register_buffer("known", known)
        self.register_buffer("counts", torch.tensor([len(part) for part in rule.parts], dtype=torch.float64))

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        images = self.preprocess(pictures)
        probabilities, scores = [], []
        for member in self.members:
            net = member.net
            raw = net.features(images)
            logits = net.head(raw)
            probabilities.append((logits.double() / member.temperature).softmax(1))
            head = Head(net.fc.weight, net.fc.bias, net.normalize)
            assert isinstance(member.score, detectors.Detector)
            scores.append(member.score(Outputs.of(head, logits, raw)).double())
        mean, score = torch.stack(probabilities).mean(0), torch.stack(scores).mean(0)
        probability, label = mean.max(1)
        which = label if self.per_class else torch.zeros_like(label)
        reaching = (self.known[which] >= score[:, None]).double().sum(1)
        p_value = (1 + reaching) / (self.counts[which] + 1)
        return label, probability, score, p_value, score > self.thresholds[which], mean


def write(detector: Detector, path: Path) -> float:
    """Write the graph, one file, if it answers as the detector; the largest difference between the two (see `difference`).

    Raises:
        InputError: a score that needs more than one pass; a library that isn't installed; as `difference`.
    """
    chain = detector.bundle.chain
    if chain is None:
        raise InputError("ONNX graphs take pictures, and this detector reads texts. Use its folder.")
    if detector.bundle.score in FROM_IMAGES:
        raise InputError(
            f"{detector.bundle.score} needs more of the network than one pass, which a graph doesn't hold. Export it with another "
            "detector.score."
        )
    try:
        import onnx
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError:
        raise InputError("ONNX needs the packages onnx and onnxscript. Install atypical[onnx] (pip, uv).") from None
    graph = Graph(Preprocess(chain), detector.ensemble, detector.rule).eval()
    batch, height, width = torch.export.Dim("batch"), torch.export.Dim("height"), torch.export.Dim("width")
    example = torch.randint(256, (2, 37, 41, 3), dtype=torch.uint8)
    with torch.no_grad():
        program = torch.onnx.export(
            graph, (example,), input_names=["pictures"], output_names=list(OUTPUTS), dynamo=True, opset_version=OPSET, verbose=False,
            dynamic_shapes={"pictures": {0: batch, 1: height, 2: width}},
        )  # fmt: skip
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(model, {name: json.dumps(value, ensure_ascii=False) for name, value in facts(detector).items()})
    content = model.SerializeToString()
    worst = difference(detector, content)
    atomically(path, lambda temporary: temporary.write_bytes(content))
    return worst


def difference(detector: Detector, graph: bytes) -> float:
    """The largest difference between a graph and its detector, on noise: batches of 1, 2 and 7, three sizes.

    Raises:
        InputError: it is more than TOLERANCE, or a flag or class differs.
    """
    session, worst, side, reader = _session(graph), 0.0, detector.ensemble.side, detector.reader
    assert isinstance(reader, Pictures)
    for batch in (1, 2, 7):
        for height, width in ((side, side), (61, 43), (120, 200)):
            pictures = np.random.default_rng(batch).integers(0, 256, (batch, height, width, 3), dtype=np.uint8)
            found = dict(zip(OUTPUTS, session.run(list(OUTPUTS), {"pictures": pictures}), strict=True))
            parts = torch.stack([reader.finished(one) for one in pictures]).split(detector.ensemble.batch)
            expected = [verdict for part in parts for verdict in detector.read(detector.ensemble.answer(part), [""] * len(part))]
            for name in ("score", "probability", "p_value"):
                wanted = np.array([getattr(verdict, name) for verdict in expected])
                worst = max(worst, float((np.abs(found[name] - wanted) / np.maximum(1, np.abs(wanted))).max()))
            same = [detector.classes[label] for label in found["label"]] == [verdict.label for verdict in expected]
            if not same or found["is_ood"].tolist() != [verdict.is_ood for verdict in expected] or worst > TOLERANCE:
                raise InputError(f"the graph answers differently from its detector (by {worst:.2g}), so it isn't written. Tell us.")
    return worst


def facts(detector: Detector) -> dict[str, Any]:
    """The graph's metadata, JSON by name."""
    bundle, rule = detector.bundle, detector.rule
    return {
        "atypical": FORMAT,
        "classes": bundle.classes,
        "model": bundle.model,
        "score": bundle.score,
        "promise": detector.promise,
        "images": detector.images,
        "reject": rule.reject,
        "guarantee": rule.promise,
        "confidence": rule.confidence,
        "per_class": rule.per_class,
        "thresholds": rule.thresholds.tolist(),
        "max_pixels": bundle.max_pixels,
        "white": bundle.chain and bundle.chain.white,
        "made_with": bundle.made_with,
    }


class _Facts(TypedDict):
    """What a graph's metadata must say for `predict` to run it."""

    atypical: Literal["1"]
    classes: list[str]
    promise: str
    images: int
    max_pixels: int
    white: float | None


class GraphDetector(Predictor):
    """A graph in use, by onnxruntime: the same predict as a Detector's."""

    def __init__(self, path: Path, workers: int | None = None):
        """Raises InputError: no such graph, or one that says nothing of a detector."""
        if not path.is_file():
            raise InputError(f"{path}: no such file. Give one that `export --onnx` wrote.")
        try:
            self.session = _session(path.read_bytes())
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        said = self.session.get_modelmeta().custom_metadata_map
        try:
            known = {name: json.loads(value) for name, value in said.items()}
            self.facts = TypeAdapter(_Facts).validate_python(known, strict=True)
        except (ValueError, ValidationError) as error:
            line = " ".join(str(error).split())[:200]
            raise InputError(f"{path}: no detector's graph ({line}). Write one with `export --onnx`.") from None
        super().__init__(self.facts["classes"], 1, Pictures(self.facts["max_pixels"]), workers)

    @property
    def promise(self) -> str:
        """What its threshold promises, in a line."""
        return self.facts["promise"]

    @property
    def images(self) -> int:
        """How many calibration images that rests on."""
        return self.facts["images"]

    def judge(self, batch: list[Picture]) -> list[Verdict]:
        return [self._judged(picture) for picture in batch]

    def _judged(self, picture: Picture) -> Verdict:
        try:
            pixels = opened_rgb(picture, self.facts["max_pixels"], self.facts["white"])
        except UnreadableError as error:
            return Verdict(picture.name, error=str(error))
        wanted = ["probabilities", "score", "p_value", "is_ood"]
        (verdict,) = verdicts_of([picture.name], self.classes, *self.session.run(wanted, {"pictures": pixels[None]}))
        return verdict


def _session(graph: bytes) -> Any:
    """A graph, ready to run; a thread for each run."""
    try:
        import onnxruntime
    except ImportError:
        raise InputError("ONNX needs the package onnxruntime. Install atypical[onnx] (pip, uv).") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own, of what isn't a graph
        raise InputError(f"can't be read as an ONNX graph ({' '.join(str(error).split())[:200]}). Write it again.") from None
