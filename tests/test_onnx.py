"""The ONNX graph: its image chain is ours pixel by pixel, every score comes out of it, and predict runs it as it runs the folder."""

import itertools
import json
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from test_deploy import CLASSES, SOME, made

from ood import Detector
from ood.config.data import Chain
from ood.config.evaluation import Scores
from ood.config.nets import Net
from ood.data.chain import ImageChain
from ood.deploy import loading
from ood.deploy import onnx as graphs
from ood.deploy.resizing import Preprocess
from ood.detection import detectors
from ood.detection.detectors import Outputs
from ood.detection.from_images import FROM_IMAGES
from ood.detection.scores import Head
from ood.errors import InputError
from ood.nets import store

RULE = {"reject": 0.3, "guarantee": "marginal", "confidence": 0.95, "per_class": True}
SHAPES = [(8, 8), (13, 40), (300, 200), (64, 64), (256, 341), (5, 3), (210, 200), (200, 240)]


@pytest.mark.parametrize("grey", [True, False])
@pytest.mark.parametrize("kind", ["area", "bilinear", "bicubic"])
def test_the_chain_in_the_graph_is_the_chain_pixel_by_pixel(grey, kind):
    rng = np.random.default_rng(0)
    for size, wider, levels, larger in itertools.product((8, 32, 224), (False, True), (None, 17), (False, True)):
        chain = Chain(
            grey=grey, size=size, short=round(size * 256 / 224) if wider else None, resize=kind, levels=levels,
            upsize=2 * size if larger else None, mean=[0.5] * 3, std=[0.5] * 3,
        )  # fmt: skip
        ours, graph = ImageChain(chain), Preprocess(chain)
        for height, width in SHAPES[: None if size < 100 else 4]:
            picture = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            expected = ours.finish(ours.native(picture)[None])[0]
            found = graph(torch.from_numpy(picture)[None])[0].double() * 255
            assert np.array_equal(found.round().permute(1, 2, 0).numpy(), expected), (chain, height, width)


class EveryScore(torch.nn.Module):
    """All scores of one network at once: an export takes seconds, and there are twenty."""

    def __init__(self, net, scores):
        super().__init__()
        self.net, self.scores = net, scores

    def forward(self, images):
        raw = self.net.features(images)
        head = Head(self.net.fc.weight, self.net.fc.bias, self.net.normalize)
        outputs = Outputs.of(head, self.net.head(raw), raw)
        return tuple(score(outputs).double() for score in self.scores.values())


@pytest.mark.parametrize("normalize", [False, True])
def test_every_score_comes_out_of_a_graph(normalize, tmp_path):
    """All but ODIN's, at batches of 1, 2 and 7."""
    torch.manual_seed(0)
    spec = store.Spec(Net(name="resnet_8_1").model_dump(), CLASSES, 8, [0.5] * 3, [0.5] * 3, normalize)
    net, images, labels = spec.build().eval(), torch.rand(60, 3, 8, 8), torch.arange(60) % 3
    names = [name for name in detectors.NAMES if name not in FROM_IMAGES]
    with torch.no_grad():
        raw = net.features(images)
        branch = (torch.randn(1, net.fc.in_features), torch.zeros(1))
        words = torch.randn(9, net.fc.in_features, generator=torch.Generator().manual_seed(1))
        head = Head(net.fc.weight.detach(), net.fc.bias.detach(), normalize, branch, words)
        outputs = Outputs.of(head, net.head(raw), raw)
    fitted = detectors.fit(names, head, outputs, labels, outputs.logits, Scores(knn_k=5))
    module, batch = EveryScore(net, fitted).eval(), torch.export.Dim("batch")
    with torch.no_grad():
        program = torch.onnx.export(
            module, (images[:2],), input_names=["images"], output_names=names, dynamo=True, verbose=False,
            dynamic_shapes={"images": {0: batch}},
        )  # fmt: skip
    onnx.save(program.model_proto, tmp_path / "all.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "all.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 2, 7):
        some = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(count))
        with torch.no_grad():
            expected = module(some)
        for name, found, wanted in zip(names, session.run(names, {"images": some.numpy()}), expected, strict=True):
            assert np.allclose(found, wanted.numpy(), rtol=1e-4, atol=1e-4), name


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A detector of two networks with a threshold for each class, and its graph."""
    path = tmp_path_factory.mktemp("graph")
    detector = Detector.load(made(path / "detector", "vim", "resnet_8_1", seeds=(0, 1), rule=RULE))
    graphs.write(detector, path / "d.onnx")
    return detector, path / "d.onnx"


def test_a_graph_answers_as_its_detector(both):
    detector, path = both
    assert graphs.difference(detector, path.read_bytes()) < graphs.TOLERANCE
    graph = loading.load(path)
    assert (graph.classes, graph.images, graph.promise) == (CLASSES, detector.images, detector.promise)
    rng = np.random.default_rng(1)
    pictures = [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in SHAPES] + list(SOME)
    for one, other in zip(graph.predict(pictures), detector.predict(pictures), strict=True):
        assert (one.name, one.label, one.runner_up, one.is_ood) == (other.name, other.label, other.runner_up, other.is_ood)
        assert one.score == pytest.approx(other.score, abs=1e-4)
        assert one.probability == pytest.approx(other.probability, abs=1e-4)
        assert one.p_value == pytest.approx(other.p_value)


def test_it_takes_what_the_folder_takes(both, tmp_path):
    _, path = both
    graph = loading.load(path)
    Image.fromarray(SOME[0]).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"broken")
    one, broken = graph.predict(tmp_path)
    assert broken.error
    assert replace(one, name="") == replace(graph.predict(SOME[0]), name="") == replace(graph.predict(Image.fromarray(SOME[0])), name="")


def test_its_metadata_says_what_it_promises(both):
    said = {entry.key: json.loads(entry.value) for entry in onnx.load(both[1]).metadata_props}
    assert said["classes"] == CLASSES
    assert said["thresholds"] == both[0].rule.thresholds.tolist()
    assert (said["guarantee"], said["reject"], said["per_class"]) == ("marginal", 0.3, True)


def test_what_a_graph_cannot_do_is_told(both, tmp_path):
    detector, path = both
    for options in ({"reject": 0.1}, {"guarantee": "conditional"}, {"device": "cuda"}):
        with pytest.raises(InputError, match="one threshold"):
            loading.load(path, **options)
    with pytest.raises(InputError, match="Give the detector's folder"):
        loading.whole(loading.load(path), "--explain")
    assert loading.whole(detector, "--explain") is detector
    with pytest.raises(InputError, match="odin needs more of the network than one pass"):
        graphs.write(Detector.load(made(tmp_path / "odin", "odin")), tmp_path / "odin.onnx")
    for name, content in (("none", None), ("text", b"no graph"), ("cut", path.read_bytes()[:900])):
        file = tmp_path / f"{name}.onnx"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(InputError, match=file.name):
            loading.load(file)
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "mute.onnx")
    with pytest.raises(InputError, match="no detector's graph"):
        loading.load(tmp_path / "mute.onnx")


def test_a_graph_that_differs_is_not_given_out(both, tmp_path):
    _, path = both
    other = Detector.load(made(tmp_path / "other", "vim", "resnet_8_1", seeds=(2, 1), rule=RULE))
    with pytest.raises(InputError, match="answers differently"):
        graphs.difference(other, path.read_bytes())


def test_nor_is_it_written(both, tmp_path, monkeypatch):
    (tmp_path / "d.onnx").write_bytes(b"the one before")
    monkeypatch.setattr(graphs, "TOLERANCE", -1.0)
    with pytest.raises(InputError, match="answers differently"):
        graphs.write(both[0], tmp_path / "d.onnx")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"the one before"]
