"""Models on disk: what is written can be read, and what can't be read says why."""

import json
from dataclasses import replace

import pytest
import torch

from ood.errors import InputError
from ood.nets import store
from ood.nets.store import Spec
from ood.unmask import masks


@pytest.fixture
def spec():
    return Spec({"name": "wrn_10_1", "dropout": 0.0, "affine": True}, ["a", "b", "c"], 8, [0.5] * 3, [0.5] * 3)


def test_round_trip_keeps_function_and_flags(tmp_path, spec):
    """The L2 flag changes no key, so it must travel in model.json."""
    normalising = replace(spec, normalize=True, constraint=0.25)
    net = normalising.build().eval()
    store.save(tmp_path, {"model": net.state_dict()}, normalising)
    again, read = store.load(tmp_path)
    images = torch.rand(4, 3, 8, 8)
    assert torch.equal(net(images), again(images))
    assert again.normalize
    assert not again.training
    assert read == normalising


def test_equal_models_are_equal_bytes(tmp_path, spec):
    net = spec.build()
    for name in ("one", "two"):
        store.save(tmp_path / name, {"model": net.state_dict()}, spec)
    assert (tmp_path / "one/model.safetensors").read_bytes() == (tmp_path / "two/model.safetensors").read_bytes()
    assert str(tmp_path) not in (tmp_path / "one/model.json").read_text()


def test_a_masked_model_can_be_unmasked(tmp_path, spec):
    net = spec.build()
    dense = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    masks.learn_masks(net, 0.5, torch.Generator().manual_seed(0))
    store.save(tmp_path, masks.learned_states(net, dense), replace(spec, mask_keep=0.5))
    with_mask, without = store.load(tmp_path)[0], store.load(tmp_path, "dense")[0]
    assert (with_mask.fc.weight == 0).float().mean() == pytest.approx(0.5, abs=0.01)
    assert torch.equal(without.fc.weight, dense["fc.weight"])


def test_a_kept_epoch_is_a_model_of_its_own(tmp_path, spec):
    net, earlier = spec.build(), spec.build()
    states = {"model": net.state_dict(), "epochs/003": earlier.state_dict()}
    (tmp_path / "run/epochs").mkdir(parents=True)
    store.save(tmp_path / "run", states, replace(spec, trainings=1))
    store.keep_epoch(tmp_path / "run", 3, tmp_path / "run-3/0")
    again, read = store.load(tmp_path / "run-3/0")
    assert torch.equal(again.fc.weight, earlier.fc.weight)
    assert read.trainings == 1
    with pytest.raises(InputError, match=r"002\.safetensors: not there\. Set pretrain\.keep_epochs"):
        store.keep_epoch(tmp_path / "run", 2, tmp_path / "run-2/0")


def test_missing_damaged_and_foreign_weights(tmp_path, spec):
    with pytest.raises(InputError, match="no model there"):
        store.load(tmp_path / "nowhere")
    store.save(tmp_path, {"model": spec.build().state_dict()}, spec)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="damaged"):
        store.load(tmp_path)
    weights.write_bytes(whole)
    other = json.loads((tmp_path / "model.json").read_text())
    other["net"]["name"] = "wrn_10_2"
    (tmp_path / "model.json").write_text(json.dumps(other))
    with pytest.raises(InputError, match="another architecture"):
        store.load(tmp_path)
    weights.unlink()
    with pytest.raises(InputError, match="no weights there"):
        store.load(tmp_path)
