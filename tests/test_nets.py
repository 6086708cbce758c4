"""Networks: parameter counts, contracts, the L2 paper's testable statements, masks."""

import pytest
import torch

from ood import nets
from ood.errors import InputError
from ood.nets.layers import BatchNorm2d, Dropout, DropPath, SpectralConv2d
from ood.nets.residual import AverageShortcut
from ood.unmask import masks

COUNTS = [
    ("wrn_40_2", 10, True, 2_243_546),
    ("wrn_40_2", 100, True, 2_255_156),
    ("wrn_16_4", 10, True, 2_748_890),
    ("densenet_bc_100_12", 10, False, 745_174),
    ("densenet_bc_100_12", 100, False, 776_044),
    ("densenet_bc_100_12", 10, True, 769_162),
    ("wrn_40_4", 10, True, 8_949_210),
    ("allconv", 10, True, 1_409_674),
    ("allconv", 100, True, 1_427_044),
    ("resnet18", 10, True, 11_173_962),
    ("resnet34", 10, True, 21_282_122),
    ("resnet50", 10, True, 23_520_842),
    ("resnet_20_1", 10, True, 272_474),
    ("vgg16", 10, True, 14_728_266),
    ("cct_7_3x1", 10, True, 3_760_139),
    ("convnext_tiny", 10, True, 27_827_818),
    ("airbench_64_256_256", 10, True, 1_972_514),
]


@pytest.mark.parametrize(("name", "classes", "affine", "count"), COUNTS)
def test_parameter_counts(name, classes, affine, count):
    net = nets.build(name, num_classes=classes, affine=affine)
    assert sum(p.numel() for p in net.parameters()) == count


@pytest.mark.parametrize(
    ("name", "classes", "size", "options", "count"),
    [
        ("resnet18", 1000, 224, {"stem": "imagenet"}, 11_689_512),
        ("resnet34", 1000, 224, {"stem": "imagenet"}, 21_797_672),
        ("resnet50", 1000, 224, {"stem": "imagenet"}, 25_557_032),
        ("convnext_tiny", 1000, 224, {}, 28_589_128),
        ("allconv", 200, 64, {}, 1_446_344),
        ("wrn_40_2", 200, 64, {}, 2_268_056),
        ("mnist_convnet", 10, 28, {}, 21_840),
    ],
)
def test_parameter_counts_at_other_sizes(name, classes, size, options, count):
    net = nets.build(name, num_classes=classes, size=size, **options)
    assert sum(p.numel() for p in net.parameters()) == count


@pytest.mark.parametrize(("depth", "millions", "count"), [(20, 0.27, 269_722), (56, 0.85, 853_018), (110, 1.7, 1_727_962)])
def test_parameter_counts_of_he_et_al(depth, millions, count):
    """Table 6 of the paper, whose shortcuts have no weights."""
    net = nets.build(f"resnet_{depth}_1", num_classes=10, shortcut="average")
    assert sum(p.numel() for p in net.parameters()) == count
    assert float(f"{count / 1e6:.2g}") == millions


EVERY = [  # name, its smallest convenient size, features
    ("wrn_10_1", 8, 64), ("densenet_bc_10_4", 8, 9), ("allconv", 32, 192), ("resnet18", 16, 512), ("resnet34", 16, 512),
    ("resnet50", 16, 2048), ("resnet_8_1", 8, 64), ("resnet_14_2", 12, 128), ("vgg16", 32, 512), ("cct_7_3x1", 8, 256),
    ("convnext_tiny", 32, 768), ("mnist_convnet", 28, 50), ("airbench_8_12_16", 16, 16),
]  # fmt: skip


@pytest.mark.parametrize(("name", "size", "width"), EVERY)
def test_every_network_keeps_the_contract(name, size, width):
    """Features of its width, logits of the classes, gradients everywhere, samples that don't see each other in eval mode."""
    torch.manual_seed(0)
    net = nets.build(name, num_classes=7, size=size)
    images = torch.rand(3, 3, size, size)
    net.train()(images).square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
    net.eval()
    features = net.features(images)
    assert features.shape == (3, width)
    assert torch.equal(net(images), net.head(features))
    assert torch.allclose(net.features(images[1:2])[0], features[1], atol=1e-4)
    with pytest.raises(ValueError, match="takes"):
        net(torch.rand(2, 3, size + 4, size + 4))


@pytest.mark.parametrize(
    ("name", "size", "options"),
    [
        ("vgg16", 16, {}),
        ("mnist_convnet", 32, {}),
        ("allconv", 96, {}),
        ("resnet18", 48, {"stem": "imagenet"}),
        ("wrn_40_2", 30, {}),
        ("resnet_8_1", 10, {}),
    ],
)
def test_a_size_that_a_net_cannot_take_is_an_error_with_a_remedy(name, size, options):
    with pytest.raises(InputError, match=rf"{name} takes images of .*{size}.*data\.chain\.size"):
        nets.build(name, num_classes=3, size=size, **options)


def test_an_option_that_a_net_does_not_know_is_refused():
    with pytest.raises(InputError, match="wrn_10_1 has no option spectral; it knows affine, dropout"):
        nets.build("wrn_10_1", num_classes=3, spectral=3.0)


def test_airbench_begins_with_patches_that_are_white():
    """On the images it has seen, the first layer's outputs have variance one and nothing in common; the other half is their negative."""
    generator = torch.Generator().manual_seed(0)
    images = torch.nn.functional.avg_pool2d(torch.rand(200, 3, 34, 34, generator=generator), 3, 1)  # neighbours are alike, as in pictures
    net = nets.build("airbench_8_12_16", num_classes=3)
    net.see(images)
    whitening = net.backbone.whitening
    seen = whitening((images - net.mean) / net.std).detach()
    half = seen[:, :12].transpose(0, 1).flatten(1)
    second_moments = half @ half.T / half.shape[1]
    smallest = torch.linalg.eigvalsh(second_moments)[0]
    assert torch.allclose(second_moments - torch.diag(second_moments.diag()), torch.zeros(12, 12), atol=0.02)
    assert 0.5 < smallest < second_moments.diag().max() < 1.01, "those of little variance are held down"
    assert torch.equal(seen[:, 12:], -seen[:, :12])
    again = nets.build("airbench_8_12_16", num_classes=3)
    again.load_state_dict(net.state_dict())
    assert torch.equal(again.backbone.whitening.weight, whitening.weight), "it is part of what is stored"
    assert "backbone.whitening" not in dict(masks.maskable(net)), "nothing was memorised there"
    with pytest.raises(InputError, match="widths from 1 to 2048"):
        nets.build("airbench_0_8_8", num_classes=3)


def spectral_net(**options) -> nets.Classifier:
    torch.manual_seed(0)
    return nets.build("resnet18", num_classes=3, size=16, spectral=0.5, slope=0.01, shortcut="average", **options)


def test_spectral_norms_are_held_and_found_as_numpy_finds_them():
    """L2 sheet 8: after some training passes no convolution stretches anything by more than the bound."""
    net = spectral_net().train()
    images = torch.rand(4, 3, 16, 16)
    for _ in range(30):
        net(images)
    layers = [module for module in net.modules() if isinstance(module, SpectralConv2d)]
    assert len(layers) == 17, "all of them: the average shortcut has none of its own"
    layer = layers[-1]
    size = layer.direction.shape[1:]
    units = torch.eye(size.numel()).view(-1, *size)
    with torch.no_grad():
        matrix = layer.eval()(units).flatten(1)  # it has no bias
    largest = float(torch.linalg.matrix_norm(matrix, 2))
    assert largest <= 0.5 * 1.05
    assert largest == pytest.approx(0.5, rel=0.05), "the layers start well above the bound, so it must bind"


def test_evaluation_leaves_the_power_iteration_alone_and_training_moves_it():
    net = spectral_net()
    before = {k: v.clone() for k, v in net.state_dict().items() if k.endswith("direction")}
    assert before
    net.eval()(torch.rand(2, 3, 16, 16))
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in before.items())
    net.train()(torch.rand(2, 3, 16, 16))
    assert any(not torch.equal(v, net.state_dict()[k]) for k, v in before.items())


def test_the_l2_papers_resnet_is_leaky_and_has_no_shortcut_weights():
    net = spectral_net()
    kinds = {type(module).__name__ for module in net.modules()}
    assert "LeakyReLU" in kinds
    assert "ReLU" not in kinds
    shortcuts = [module for module in net.modules() if isinstance(module, AverageShortcut)]
    assert len(shortcuts) == 3
    x = torch.rand(2, 4, 6, 6)
    y = AverageShortcut(4, 10, 2)(x)
    assert torch.equal(y[:, :4], torch.nn.functional.avg_pool2d(x, 2))
    assert (y[:, 4:] == 0).all()


def test_blocks_of_the_cifar_resnets_add_to_their_shortcut():
    """With branches that give nothing the features are the stem's, averaged, and zeros; the last layer is no batch normalisation."""
    torch.manual_seed(0)
    net = nets.build("resnet_14_1", num_classes=3, size=8, slope=0.01, shortcut="average").eval()
    kinds = [type(module).__name__ for module in net.modules()]
    assert kinds.count("AverageShortcut") == 2
    assert kinds.count("BasicBlock") == 6
    assert "ReLU" not in kinds
    for block in net.backbone.blocks:
        torch.nn.init.zeros_(block.bn2.weight)
    images = torch.rand(4, 3, 8, 8)
    stem = torch.nn.Sequential(net.backbone.conv1, net.backbone.bn1, torch.nn.ReLU())
    net.backbone.relu = stem[2]  # what is never negative passes every later activation as it is
    features = net.features(images)
    assert torch.allclose(features[:, :16], stem((images - net.mean) / net.std).mean((2, 3)), atol=1e-6)
    assert (features[:, 16:] == 0).all()


def test_spectral_norms_of_the_cifar_resnets_are_held():
    net = nets.build("resnet_8_1", num_classes=3, size=8, spectral=0.5)
    layers = [module for module in net.modules() if isinstance(module, SpectralConv2d)]
    assert len(layers) == 9, "seven, and the two convolutions of shortcuts"
    assert sorted({tuple(layer.direction.shape[2:]) for layer in layers}) == [(1, 1), (2, 2), (4, 4), (8, 8)]


def test_masks_cover_spectral_convolutions():
    net = spectral_net().eval()
    drawn = masks.random_masks(net, 0.9, torch.Generator().manual_seed(0))
    assert drawn.keys() == {f"{name}.weight" for name, _ in masks.maskable(net)}
    assert len(drawn) == 18
    masks.learn_masks(net, 0.9, torch.Generator().manual_seed(0))
    net.train()(torch.rand(2, 3, 16, 16)).sum().backward()
    assert all(module.parametrizations.weight[0].scores.grad is not None for _, module in masks.maskable(net))


def test_stochastic_depth_keeps_the_mean_and_drops_whole_samples():
    layer, x = DropPath(0.4), torch.ones(5000, 3, 2)
    y = layer(x)
    assert sorted(set(y.flatten().tolist())) == pytest.approx([0, 1 / 0.6])
    assert (y.flatten(1).std(1) == 0).all()
    assert y.mean().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(layer.eval()(x), x)


def test_densenet_has_342_features_and_100_masked_tensors():
    net = nets.build("densenet_bc_100_12", num_classes=10, affine=False)
    assert net.fc.in_features == 342
    assert len(list(masks.maskable(net))) == 100


@pytest.mark.parametrize(("keep", "zeroed"), [(0.965, 26_034), (0.97, 22_304), (0.8, 148_962)])
def test_zeroed_weights_of_the_papers_densenet(keep, zeroed):
    net = nets.build("densenet_bc_100_12", num_classes=10, affine=False)
    drawn = masks.random_masks(net, keep, torch.Generator().manual_seed(0))
    assert sum(int((~mask).sum()) for mask in drawn.values()) == zeroed
    if keep == 0.965:
        assert int((~drawn["backbone.stem.weight"]).sum()) == 22
        assert int((~drawn["fc.weight"]).sum()) == 119


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


@pytest.mark.parametrize(
    "name", ["resnet", "wrn_11_2", "wrn_40_0", "densenet_bc_100", "resnet_10_1", "resnet_2_1", "resnet_8_0", "resnet_8"]
)
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
    mask = masks.binary_mask(scores, keep)
    assert int((~mask).sum()) == int((1 - keep) * scores.numel())
    if 0 < keep < 1:
        assert scores.abs()[~mask].max() <= scores.abs()[mask].min()


def test_binary_mask_with_equal_scores_zeroes_the_exact_number():
    assert int((~masks.binary_mask(torch.ones(100), 0.7)).sum()) == int((1 - 0.7) * 100)


def test_initial_scores_have_the_papers_range():
    weight = torch.empty(64, 16, 3, 3)
    scores = masks.initial_scores(weight, torch.Generator().manual_seed(0))
    bound = 1 / (16 * 9) ** 0.5
    assert scores.abs().max() <= bound
    assert scores.abs().max() > 0.99 * bound


def test_mask_gradient_is_straight_through_and_weights_are_frozen():
    """UM sheet 2: d loss / d score = d loss / d effective weight * w * sign(score), also where the mask is 0."""
    torch.manual_seed(0)
    net = nets.build("wrn_10_1", num_classes=3, size=8).eval()
    dense = {name: module.weight.detach().clone() for name, module in masks.maskable(net)}
    masks.learn_masks(net, 0.6, torch.Generator().manual_seed(1))
    images, labels = torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 0])
    torch.nn.functional.cross_entropy(net(images), labels).backward()
    layer = net.fc
    scores = layer.parametrizations.weight[0].scores
    effective = (dense["fc"] * masks.binary_mask(scores, 0.6)).requires_grad_()
    logits = net.features(images).detach() @ effective.T + layer.bias.detach()
    (gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, labels), effective)
    assert torch.allclose(scores.grad, gradient * dense["fc"] * scores.sign(), atol=1e-6)
    assert torch.count_nonzero(scores.grad[~masks.binary_mask(scores, 0.6)]) > 0
    learning = {name for name, p in net.named_parameters() if p.requires_grad}
    assert learning == {f"{name}.parametrizations.weight.0.scores" for name in dense}
    assert all(p.grad is None for p in net.parameters() if not p.requires_grad)


@pytest.mark.parametrize("make", [lambda: nets.build("wrn_10_1", num_classes=3, size=16), spectral_net])
def test_what_is_kept_of_a_masked_net_is_its_masked_path_and_the_dense_net_bit_for_bit(make):
    torch.manual_seed(0)
    net = make()
    dense = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    masks.learn_masks(net, 0.7, torch.Generator().manual_seed(1))
    for _ in range(5):
        net.train()(torch.rand(8, 3, 16, 16))  # moves the buffers of the masked path
    again = make()
    again.load_state_dict(dense)
    images = torch.rand(5, 3, 16, 16)
    assert not torch.allclose(net.eval()(images), again.eval()(images), atol=1e-2)
    states = masks.learned_states(net, dense)
    assert all(torch.equal(states["dense"][key], again.state_dict()[key]) for key in dense)
    assert states["mask"].keys() == {f"{name}.weight" for name, _ in masks.maskable(again)}
    again.load_state_dict(states["model"])
    for name, mask in states["mask"].items():
        assert (again.get_parameter(name)[~mask] == 0).all()
    assert torch.allclose(net.eval()(images), again.eval()(images), atol=1e-5)


@pytest.mark.parametrize("scores", [torch.rand(200), torch.randint(0, 4, (200,)).float()])
def test_sorting_masks_as_searching_does(scores):
    """The way of GPUs and that of CPUs zero the same weights, ties too."""
    for keep in (0.1, 0.5, 0.965):
        zeroed = int((1 - keep) * 200)
        assert torch.equal(masks.binary_mask(scores, keep), masks._by_sorting(scores.abs(), zeroed))
        assert int((~masks._by_sorting(scores.abs(), zeroed)).sum()) == zeroed
