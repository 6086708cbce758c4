"""Networks: parameter counts, contracts, the L2 paper's testable statements, masks."""

import pytest
import torch

from ood import nets
from ood.errors import InputError
from ood.nets import masked
from ood.nets.layers import BatchNorm2d, Dropout

COUNTS = [
    ("wrn_40_2", 10, True, 2_243_546),
    ("wrn_40_2", 100, True, 2_255_156),
    ("wrn_16_4", 10, True, 2_748_890),
    ("densenet_bc_100_12", 10, False, 745_174),
    ("densenet_bc_100_12", 100, False, 776_044),
    ("densenet_bc_100_12", 10, True, 769_162),
]


@pytest.mark.parametrize(("name", "classes", "affine", "count"), COUNTS)
def test_parameter_counts(name, classes, affine, count):
    net = nets.build(name, num_classes=classes, affine=affine)
    assert sum(p.numel() for p in net.parameters()) == count


def test_densenet_has_342_features_and_100_masked_tensors():
    net = nets.build("densenet_bc_100_12", num_classes=10, affine=False)
    assert net.fc.in_features == 342
    assert len(list(masked.maskable(net))) == 100


@pytest.mark.parametrize(("keep", "zeroed"), [(0.965, 26_034), (0.97, 22_304), (0.8, 148_962)])
def test_zeroed_weights_of_the_papers_densenet(keep, zeroed):
    net = nets.build("densenet_bc_100_12", num_classes=10, affine=False)
    masks = masked.random_masks(net, keep, torch.Generator().manual_seed(0))
    assert sum(int((~mask).sum()) for mask in masks.values()) == zeroed
    if keep == 0.965:
        assert int((~masks["backbone.stem.weight"]).sum()) == 22
        assert int((~masks["fc.weight"]).sum()) == 119


@pytest.mark.parametrize("name", ["wrn_10_1", "densenet_bc_10_4"])
@pytest.mark.parametrize("normalize", [False, True])
def test_forward_is_head_of_features(name, normalize):
    net = nets.build(name, num_classes=7, size=8, normalize=normalize).eval()
    images = torch.rand(3, 3, 8, 8)
    features = net.features(images)
    assert features.shape == (3, net.fc.in_features)
    assert torch.equal(net(images), net.head(features))


@pytest.mark.parametrize("size", [(7, 8), (16, 16)])
def test_images_of_another_size_are_refused(size):
    net = nets.build("wrn_10_1", num_classes=3, size=8)
    with pytest.raises(ValueError, match="takes"):
        net(torch.rand(2, 3, *size))


@pytest.mark.parametrize("name", ["resnet", "wrn_11_2", "wrn_40_0", "densenet_bc_100"])
def test_unknown_and_impossible_names(name):
    with pytest.raises(InputError, match=r"net\.name"):
        nets.build(name, num_classes=3)


def test_normalised_head_ignores_length_and_has_the_same_state():
    """L2 sheet 2, 4, 5: scale invariance, finite at zero, same parameters and keys as the plain net."""
    net = nets.build("wrn_10_1", num_classes=5, size=8, normalize=True)
    features = torch.randn(4, net.fc.in_features)
    assert torch.allclose(net.head(features), net.head(features * 9), atol=1e-6)
    assert torch.equal(net.head(torch.zeros(1, net.fc.in_features))[0], net.fc.bias)
    assert net.state_dict().keys() == nets.build("wrn_10_1", num_classes=5, size=8).state_dict().keys()


def test_gradient_on_features_is_orthogonal_and_shrinks_with_length():
    """L2 sheet 3: the loss never pushes on the norm."""
    net = nets.build("wrn_10_1", num_classes=5, size=8, normalize=True)
    z = torch.randn(6, net.fc.in_features, dtype=torch.float64)
    net.double()
    gradients = []
    for scale in (1.0, 2.0):
        leaf = (z * scale).requires_grad_()
        (gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(net.head(leaf), torch.arange(6) % 5), leaf)
        gradients.append(gradient)
    assert torch.cosine_similarity(gradients[0], z).abs().max() < 1e-4
    assert torch.allclose(gradients[0], 2 * gradients[1])


def test_a_samples_features_do_not_depend_on_its_batch():
    net = nets.build("wrn_10_1", num_classes=5, size=8).eval()
    images = torch.rand(5, 3, 8, 8)
    assert torch.allclose(net.features(images)[2], net.features(images[2:3])[0], atol=1e-6)


def test_one_process_batch_norm_is_torchs():
    ours, theirs = BatchNorm2d(4), torch.nn.BatchNorm2d(4)
    x = torch.randn(6, 4, 3, 3)
    assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.running_var, theirs.running_var)


def test_dropout_keeps_the_mean_and_is_off_in_eval():
    layer, x = Dropout(0.3), torch.ones(20_000)
    y = layer(x)
    assert y.mean().item() == pytest.approx(1, abs=0.02)
    assert (y == 0).float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert torch.equal(layer.eval()(x), x)


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.965, 1.0])
def test_binary_mask_zeroes_the_smallest_scores(keep):
    scores = torch.randn(37, 11)
    mask = masked.binary_mask(scores, keep)
    assert int((~mask).sum()) == int((1 - keep) * scores.numel())
    if 0 < keep < 1:
        assert scores.abs()[~mask].max() <= scores.abs()[mask].min()


def test_binary_mask_with_equal_scores_zeroes_the_exact_number():
    assert int((~masked.binary_mask(torch.ones(100), 0.7)).sum()) == int((1 - 0.7) * 100)


def test_initial_scores_have_the_papers_range():
    weight = torch.empty(64, 16, 3, 3)
    scores = masked.initial_scores(weight, torch.Generator().manual_seed(0))
    bound = 1 / (16 * 9) ** 0.5
    assert scores.abs().max() <= bound
    assert scores.abs().max() > 0.99 * bound


def test_mask_gradient_is_straight_through_and_weights_are_frozen():
    """UM sheet 2: d loss / d score = d loss / d effective weight * w * sign(score), also where the mask is 0."""
    torch.manual_seed(0)
    net = nets.build("wrn_10_1", num_classes=3, size=8).eval()
    dense = {name: module.weight.detach().clone() for name, module in masked.maskable(net)}
    masked.learn_masks(net, 0.6, torch.Generator().manual_seed(1))
    images, labels = torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 0])
    torch.nn.functional.cross_entropy(net(images), labels).backward()
    layer = net.fc
    scores = layer.parametrizations.weight[0].scores
    effective = (dense["fc"] * masked.binary_mask(scores, 0.6)).requires_grad_()
    logits = net.features(images).detach() @ effective.T + layer.bias.detach()
    (gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, labels), effective)
    assert torch.allclose(scores.grad, gradient * dense["fc"] * scores.sign(), atol=1e-6)
    assert torch.count_nonzero(scores.grad[~masked.binary_mask(scores, 0.6)]) > 0
    learning = {name for name, p in net.named_parameters() if p.requires_grad}
    assert learning == {f"{name}.parametrizations.weight.0.scores" for name in dense}
    assert all(p.grad is None for p in net.parameters() if not p.requires_grad)


def test_mask_state_turns_the_dense_net_into_the_masked_one():
    torch.manual_seed(0)
    net = nets.build("wrn_10_1", num_classes=3, size=8)
    dense = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    masked.learn_masks(net, 0.7, torch.Generator().manual_seed(1))
    net.train()(torch.rand(8, 3, 8, 8))  # moves the running statistics of the masked path
    again = nets.build("wrn_10_1", num_classes=3, size=8)
    again.load_state_dict(dense)
    masked.apply_mask_state(again, masked.mask_state(net), 0.7)
    images = torch.rand(5, 3, 8, 8)
    assert torch.allclose(net.eval()(images), again.eval()(images), atol=1e-6)
