"""A frozen backbone: only the head learns, on features that are computed once, and it learns what it would have from images."""

import json

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from conftest import PLAIN, Stop, StopAfter, Workspace
from safetensors.torch import load_file
from torch import Tensor, nn

from ood import nets
from ood.config.training import Augment, Runtime, Strong, Training
from ood.data.batches import TrainingBatches
from ood.data.sets import ImageSet
from ood.evaluation.features import extract
from ood.nets import store
from ood.progress import Silent
from ood.training import frozen
from ood.training.loop import Trainer
from ood.training.objectives import Objective, OutlierExposure
from ood.unmask.masks import learn_masks, learned_states

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def scratch(monkeypatch, tmp_path):
    monkeypatch.setenv("OOD_SCRATCH", str(tmp_path / "scratch"))
    torch.set_num_threads(1)


def images(count: int = 40, seed: int = 0) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    return ImageSet(
        torch.randint(0, 256, (count, 3, 8, 8), generator=generator, dtype=torch.uint8), torch.randint(0, 4, (count,), generator=generator)
    )


def net(**options: object) -> nets.Classifier:
    torch.manual_seed(0)
    return nets.build("wrn_10_1", num_classes=4, size=8, **options)


def recipe(**changes: object) -> Training:
    return Training(**{"epochs": 3, "batch_size": 16, "lr": 0.1, "freeze": "backbone"} | changes)


def trained(tmp_path, classifier, batches: TrainingBatches, objective: Objective | None = None, progress=None, **changes: object) -> list:
    trainer = Trainer(Accelerator(cpu=True), Runtime(device="cpu"), recipe(**changes), tmp_path, progress or Silent(), lambda _: True)
    return trainer.fit(classifier, objective or Objective(), batches, 0)


class ByHand(nn.Module):
    """The same, from images in every step: backbone in eval mode, no gradient through it."""

    def __init__(self, classifier: nets.Classifier):
        super().__init__()
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        self.classifier.eval()
        with torch.no_grad():
            features = self.classifier.features(x)
        return self.classifier.head(features)


@pytest.mark.parametrize("normalize", [False, True])
def test_the_head_learns_what_it_would_from_images(tmp_path, normalize):
    ours, theirs = net(normalize=normalize), net(normalize=normalize)
    start = {name: value.clone() for name, value in ours.state_dict().items()}
    batches = TrainingBatches(images(), 16, Augment(), images(24, 1), 8)
    history = trained(tmp_path / "one", ours, batches, OutlierExposure(0.5))
    for parameter in theirs.backbone.parameters():
        parameter.requires_grad_(False)
    expected = trained(tmp_path / "two", ByHand(theirs), batches, OutlierExposure(0.5), freeze="none")
    assert [row["loss"] for row in history] == pytest.approx([row["loss"] for row in expected], rel=1e-5)
    assert torch.allclose(ours.fc.weight, theirs.fc.weight, atol=1e-6)
    for name, value in ours.state_dict().items():
        assert torch.equal(value, start[name]) is not name.startswith("fc."), name


def test_features_are_computed_once_for_all_trainings(tmp_path, monkeypatch):
    calls = []
    whole = nets.Classifier.features
    monkeypatch.setattr(nets.Classifier, "features", lambda self, x: (calls.append(len(x)), whole(self, x))[1])
    with_outliers = TrainingBatches(images(), 16, Augment(), images(24, 1), 8)
    for run in range(3):
        trained(tmp_path / str(run), net(), with_outliers, OutlierExposure(0.5), epochs=1 + run)
    assert sum(calls) == 40 + 24, "once, whatever is trained on them"
    other = net()
    with torch.no_grad():
        next(other.backbone.parameters()).add_(1e-3)
    trained(tmp_path / "other", other, TrainingBatches(images(), 16, Augment()))
    assert sum(calls) == 40 + 24 + 40, "another backbone has others"
    for kept in (tmp_path / "scratch/features").iterdir():
        kept.write_bytes(kept.read_bytes()[:-1])
    for run in ("again", "once-more"):
        trained(tmp_path / run, net(), with_outliers, OutlierExposure(0.5))
    assert sum(calls) == 40 + 24 + 40 + 40 + 24, "damaged ones are computed again, and once"


def test_with_augmentation_epochs_take_the_views_in_turn(tmp_path):
    batches = TrainingBatches(images(), 16, Augment(pad=1, flip=True), strong=Strong(random_erasing=0.5))
    made = frozen.frozen(net(), batches, 3, CPU, Silent())
    assert len(made.copies) == 3
    values = [copy.inliers.values for copy in made.copies]
    assert not torch.equal(values[0], values[1])
    assert torch.equal(frozen.frozen(net(), batches, 3, CPU, Silent()).copies[1].inliers.values, values[1])
    for epoch in range(5):
        ours, theirs = next(iter(made.epoch(0, epoch))), next(iter(made.copies[epoch % 3].epoch(0, epoch)))
        assert torch.equal(ours.images, theirs.images)
    assert len(frozen.frozen(net(), TrainingBatches(images(), 16, Augment()), 3, CPU, Silent()).copies) == 1


def test_kept_epochs_are_whole_networks_and_a_resumed_run_ends_alike(tmp_path):
    batches = TrainingBatches(images(), 16, Augment(flip=True))
    whole, stopped, resumed = net(), net(), net()
    trained(tmp_path / "whole", whole, batches, epochs=5)
    kept = load_file(tmp_path / "whole/epochs/002.safetensors")
    assert kept.keys() == whole.state_dict().keys()
    with pytest.raises(Stop):
        trained(tmp_path / "stopped", stopped, batches, epochs=5, progress=StopAfter(8))
    assert len(trained(tmp_path / "stopped", resumed, batches, epochs=5)) == 5
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in whole.state_dict().items())


def test_a_mask_on_a_frozen_net_covers_the_head_alone(tmp_path):
    classifier = net()
    dense = {name: value.clone() for name, value in classifier.state_dict().items()}
    learn_masks(frozen.Head(classifier), 0.8, torch.Generator().manual_seed(0))
    trained(tmp_path, classifier, TrainingBatches(images(), 16, Augment()), epochs=2)
    states = learned_states(classifier, dense)
    assert states["mask"].keys() == {"fc.weight"}
    assert int((~states["mask"]["fc.weight"]).sum()) == int(0.2 * classifier.fc.weight.numel() + 1e-9)
    for name, value in states["model"].items():
        assert torch.equal(value, dense[name]) is (name != "fc.weight"), name


@pytest.mark.slow
def test_every_method_trains_on_frozen_features(trained: Workspace, tmp_path):
    workspace = trained.copy(tmp_path)
    workspace.set({f"{key}.training.freeze": "backbone" for key in ("pretrain", "um", "umap", "oe")})
    workspace.set({"seeds": [0], "mask.layers": "head", "um.training.epochs": 1, "umap.training.epochs": 1, "oe.training.epochs": 1})
    workspace.set({"oe.runs.poem.mine": None, "oe.runs.doe.perturb": None, "pretrain.runs.rotation.freeze": "none"})  # they change
    workspace.set({"pretrain.runs.given": {"net": {"name": "wrn_10_1", "weights": "data/models/ce/0/model.safetensors"}, "epochs": 2}})
    workspace.set({"mask.runs.head": {"init": "given"}, "um.runs.forgets": {"init": "given", "constraint": "head"}})
    workspace.set({"umap.runs.pruned": {"init": "given", "constraint": "head"}})
    workspace.set({"oe.runs.exposed": PLAIN | {"init": "given", "outliers": "prepared/auxiliary", "objective": "uniform"}})
    mine = {"net": {"name": "wrn_10_1"}, "weights": "data/models/ce/0/model.safetensors", "epochs": 0}
    workspace.set({"pretrain.runs.mine": mine, "pretrain.runs.blank": {"net": {"name": "wrn_10_1"}, "epochs": 2}})
    workspace.set({"oe.runs.late": PLAIN | {"init": "blank", "outliers": "prepared/auxiliary", "objective": "uniform"}})
    commands = ("check", "pretrain given", "mask head", "um forgets", "um control", "umap pruned", "oe exposed")
    for command in (*commands, "pretrain mine", "pretrain blank", "oe late"):
        workspace.stage(command)
    seen = ("given", "forgets", "exposed", "control", "mine")
    specs = {name: store.load_spec(workspace.path / f"data/models/{name}/0") for name in (*seen, "blank", "late")}
    assert {name for name, spec in specs.items() if spec.unseen} == {"blank", "late"}, (
        "control's backbone was trained on this data before it was frozen, a finished classifier's, too, and a file's, as far as is known"
    )
    names = ("ce", "given", "forgets", "pruned", "exposed")
    models = {name: load_file(workspace.path / f"data/models/{name}/0/model.safetensors") for name in names}
    for name, state in models.items():
        for key, value in state.items():
            if key.startswith("backbone."):
                assert torch.equal(value, models["ce"][key]), f"{name}: {key}"
    heads = {name: state["fc.weight"] for name, state in models.items()}
    assert len({value.numpy().tobytes() for value in heads.values()}) == len(heads), "each head its own"
    assert set(load_file(workspace.path / "data/models/pruned/0/mask.safetensors")) == {"fc.weight"}
    assert len(list((workspace.path / ".scratch/features").iterdir())) <= 2 * 2 * 4
    workspace.set({"models": {"exposed": "msp", "late": "msp"}, "evaluate.held_out": 3, "evaluate.bootstrap": 0, "scores.knn_k": 3})
    for command in ("features exposed", "features late", "evaluate"):
        workspace.stage(command)
    detail = json.loads((workspace.path / "data/evaluation/detail.json").read_text())
    held = {model: detail[model]["seeds"]["0"]["held_out"] for model in detail}
    assert held["exposed"] == {}
    assert held["late"]["msp"].keys() == {"0", "4", "7"}
    cached = load_file(workspace.path / "data/features/exposed/0.safetensors")
    shown, labels = (np.load(workspace.path / f"data/prepared/test/near/letters{end}") for end in (".npy", ".labels.npy"))
    exposed, spec = store.load(workspace.path / "data/models/exposed/0")
    assert spec.frozen
    there = ImageSet(torch.from_numpy(shown).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels))
    for name, value in extract(exposed, there, 100, lambda: None).items():
        assert torch.allclose(cached[f"near/letters:{name}"].float(), value.float(), atol=1e-4), name
    two = workspace.copy(tmp_path / "two")
    two.run("rm", "-rf", ".scratch", "data/models/exposed")
    two.together("oe exposed")
    head = load_file(two.path / "data/models/exposed/0/model.safetensors")["fc.weight"]
    assert torch.allclose(head, heads["exposed"], atol=1e-4), "two processes find what one does"
    workspace.set({"align.training.freeze": "backbone"})
    assert "align: training.freeze" in workspace.stage("check", check=False).stderr


def test_texts_go_through_a_frozen_backbone_as_numbers():
    torch.manual_seed(0)
    reader = nets.build("gru_2_16", num_classes=3, size=12, embedding=8, vocabulary=50).eval()
    texts = ImageSet(torch.randint(1, 50, (9, 12)).int(), torch.zeros(9, dtype=torch.int64))
    assert torch.equal(frozen.features(reader, texts, CPU, Silent()).values, reader.features(texts.images).detach())
