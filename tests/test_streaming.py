"""Pictures that stay in their files: the same pictures, the same batches, whoever decodes them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Workspace
from PIL import Image

from ood.config.data import Chain
from ood.config.methods import OERun
from ood.config.training import Augment, PixMix, Strong
from ood.data.batches import PlainBatches, TrainingBatches, augmented_copy, generator_for
from ood.data.chain import ImageChain
from ood.data.sets import FileSet, ImageSet, load, load_all, rows_in_file
from ood.data.streamed import FileImages, hash_of
from ood.data.views import Views, crop_box, resized_crops
from ood.dream.dreamed import Dreamed, filtered
from ood.errors import InputError
from ood.nets import build
from ood.training import frozen
from stages.console import Console
from stages.oe import outliers_for

AUGMENT = Augment(pad=2, flip=True)
CHAIN = ImageChain(Chain(size=16, mean=[0.5] * 3, std=[0.5] * 3))


def write(folder, count=13, size=(23, 17), seed=0):
    """`count` pictures that differ everywhere; their paths."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3)).astype(np.uint8)).save(folder / f"{i:02}.png")
    return [path.as_posix() for path in sorted(folder.iterdir())]


@pytest.fixture
def both(tmp_path):
    """The same set in files and in memory."""
    files = FileImages(write(tmp_path / "a"), CHAIN)
    labels = torch.arange(13) % 3
    memory = torch.from_numpy(np.stack([files.finished(i) for i in range(13)])).permute(0, 3, 1, 2).contiguous()
    return FileSet(files, labels), ImageSet(memory, labels)


@pytest.mark.parametrize(
    "strong", [Strong(), Strong(pixmix=PixMix(pictures=5)), Strong(mixup=0.8, cutmix=1.0, randaugment=9.0, random_erasing=0.5)]
)
@pytest.mark.parametrize("workers", [0, 2])
def test_training_batches_are_those_of_a_set_in_memory(both, workers, strong):
    streamed, memory = both
    for a, b in zip(
        TrainingBatches(FileSet(streamed.files, streamed.labels, workers=workers), 5, AUGMENT, streamed, 4, strong).epoch(3, 1),
        TrainingBatches(memory, 5, AUGMENT, memory, 4, strong).epoch(3, 1),
        strict=True,
    ):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)
        assert torch.equal(a.extra_labels, b.extra_labels)
        assert a.images.dtype == torch.float32


def test_plain_and_augmented_copies_are_those_of_a_set_in_memory(both):
    streamed, memory = both
    for a, b in zip(PlainBatches(streamed, 4), PlainBatches(memory, 4), strict=True):
        assert torch.equal(a[0], b[0])
        assert torch.equal(a[1], b[1])
    copies = [augmented_copy(images, AUGMENT, generator_for(1)) for images in both]
    for _ in range(2):  # an augmented copy looks the same whenever it is read
        for a, b in zip(*(PlainBatches(copy, 6) for copy in copies), strict=True):
            assert torch.equal(a[0], b[0])
    assert torch.equal(copies[0].some(torch.tensor([2, 11])), copies[1].some(torch.tensor([2, 11])))


def test_random_resized_crops_do_not_depend_on_workers(both):
    augment = Augment(flip=True, crop=[0.3, 1.0])
    epochs = [
        [b.images for b in TrainingBatches(FileSet(both[0].files, both[0].labels, workers=w), 4, augment).epoch(0, 0)] for w in (0, 1, 2)
    ]
    for other in epochs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(epochs[0], other, strict=True))
    plain = [b.images for b in TrainingBatches(both[0], 4, Augment()).epoch(0, 0)]
    assert not torch.equal(epochs[0][0], plain[0])


def test_crop_boxes_have_the_wanted_area_and_shape():
    draws = torch.rand((400, 10, 4), generator=torch.Generator().manual_seed(0))
    boxes = [crop_box(120, 80, d, [0.2, 0.6]) for d in draws]
    areas = np.array([w * h / (120 * 80) for _, _, w, h in boxes])
    assert areas.min() > 0.18
    assert areas.max() < 0.62
    assert areas.std() > 0.08
    for left, top, wide, tall in boxes:
        assert left >= 0
        assert top >= 0
        assert left + wide <= 120
        assert top + tall <= 80
        assert 0.72 < wide / tall < 1.38
    assert len({box[:2] for box in boxes}) > 300
    assert crop_box(1000, 10, draws[0] * 0 + 0.99, [0.9, 1.0]) == (493, 0, 13, 10), "nothing fits: the middle, as far as the shape may go"


def test_crops_of_images_in_memory():
    images = torch.randint(0, 255, (3, 3, 16, 16), dtype=torch.uint8)
    whole = torch.full((3, 10, 4), 0.5)
    whole[..., 0] = 1.0  # the largest area, square
    assert torch.equal(resized_crops(images, whole, [0.5, 1.0]), images)
    views = Views.drawn(torch.arange(3), Augment(crop=[0.1, 0.4]), generator_for(0))
    crops = next(ImageSet(images, torch.zeros(3)).batches([views]))
    assert crops.shape == images.shape
    assert not torch.equal(crops, images)


def streaming_workspace(tmp_path, stream: bool) -> Workspace:
    for name, classes in (("id", 3), ("others", 2), ("unseen", 1)):
        for c in range(classes):
            write(tmp_path / "pictures" / name / f"c{c}", count=20, seed=10 * ord(name[0]) + c)
    folder = {"source": "folder"}
    return Workspace(
        tmp_path,
        {
            "data.stream": stream,
            "data.chain": {"size": 8, "mean": [0.5] * 3, "std": [0.5] * 3},
            "data.id": {"images": folder | {"path": "pictures/id"}, "split": {"train": 0.5, "val": 0.2, "calibration": 0.1, "test": 0.2}},
            "detector.reject": 0.5,
            "detector.guarantee": "marginal",
            "data.auxiliary": {
                "others": folder | {"path": "pictures/others"},
                "noise": {"source": "noise", "kind": "gaussian", "count": 9},
            },
            "data.validation": {"jigsaw": {"source": "corruption", "kind": "jigsaw", "limit": 5}},
            "data.near": {"unseen": folder | {"path": "pictures/unseen"}},
            "data.far": {"noise": {"source": "noise", "kind": "rademacher", "count": 9}},
            "data.min_per_class": 1,
            "data.world": {},
            "prompts": {"template": "a {name}", "names": {}},
            "diffusion.enabled": False,
            "embed.runs": {},
            "synthesize.runs": {},
            "oe.runs": {"oe": {"init": "ce", "constraint": "none", "outliers": "prepared/auxiliary", "objective": "uniform"}},
            "models": {"ce": "msp", "oe": "msp"},
            "report.pairs": {},
        },
    )


@pytest.mark.slow
def test_every_stage_gives_the_same_figures_from_files_and_from_memory(tmp_path):
    """Prepared, trained, masked, fine-tuned with outliers of both kinds, evaluated: byte for byte."""
    weights, ranking = [], []
    for stream in (True, False):
        workspace = streaming_workspace(tmp_path / str(stream), stream)
        for command in (
            "check",
            "prepare",
            "pretrain ce",
            "mask um",
            "um um",
            "oe oe",
            "trace ce",
            "features ce",
            "features oe",
            "evaluate",
        ):
            workspace.stage(command)
        root = workspace.path / "data/prepared"
        assert (root / "id/train.files.json").is_file() is stream
        assert (root / "id/train.npy").is_file() is not stream
        weights.append({k: v for run in ("ce", "um", "oe") for k, v in workspace.hashes(f"data/models/{run}").items()})
        ranking.append([workspace.hashes("metrics"), workspace.hashes("data/mask")])
    assert weights[0] == weights[1]
    for of_files, of_memory in zip(*ranking, strict=True):
        assert of_files == of_memory


def test_a_changed_file_and_a_broken_one_are_named(tmp_path):
    paths = write(tmp_path / "a", count=3)
    files = FileImages(paths, CHAIN)
    assert files.look(1000, lambda: None, lambda *_: None) == {}
    assert files[1].shape == (16, 16, 3)
    content = bytearray(Path(paths[1]).read_bytes())
    content[-20] ^= 1  # of equal size
    Path(paths[1]).write_bytes(content)
    with pytest.raises(InputError, match=r"01\.png: was changed since `prepare` looked at it"):
        files[1]
    (tmp_path / "a" / "02.png").write_bytes(b"x")
    with pytest.raises(InputError, match=r"02\.png: cannot be read"):
        FileImages(paths, CHAIN)[2]
    assert list(files.look(1000, lambda: None, lambda *_: None)) == [1, 2]


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_wrong_with_a_file_arrives_as_one_line_from_a_worker_too(tmp_path, workers):
    paths = write(tmp_path / "a")
    Path(paths[7]).write_bytes(b"x")
    images = FileSet(FileImages(paths, CHAIN), torch.arange(13) % 3, workers=workers)
    with pytest.raises(
        InputError, match=r"^\S+07\.png: cannot be read as an image \(cannot identify image file\)\. Replace or remove the file\.$"
    ):
        list(PlainBatches(images, 4))


def test_sets_in_files_and_in_memory_can_be_joined(tmp_path):
    root = tmp_path / "prepared"
    (root / "auxiliary").mkdir(parents=True)
    packed = np.random.default_rng(0).integers(0, 255, (4, 16, 16, 3)).astype(np.uint8)
    np.save(root / "auxiliary/memory.npy", packed)
    np.save(root / "auxiliary/memory.labels.npy", np.full(4, -1))
    files = write(tmp_path / "a", count=3)
    content = {"chain": CHAIN.config.model_dump(), "files": files, "sha256": [hash_of(Path(file).read_bytes()) for file in files]}
    (root / "auxiliary/files.files.json").write_text(json.dumps(content))
    np.save(root / "auxiliary/files.labels.npy", np.full(3, -1))
    joined = load_all(["auxiliary/files", "auxiliary/memory"], root)
    assert isinstance(joined, FileSet)
    assert len(joined) == 7
    assert torch.equal(joined.some(torch.arange(3, 7)), torch.from_numpy(packed).permute(0, 3, 1, 2))
    assert torch.equal(joined.some(torch.arange(3)), load("auxiliary/files", root).some(torch.arange(3)))


def test_dreamed_pictures_left_in_their_file_are_those_in_memory(tmp_path):
    """100,000 of 224 pixels are 15 GB, once per process: they stay where they are when ID's pictures do."""
    packed = np.random.default_rng(0).integers(0, 255, (6, 16, 16, 3)).astype(np.uint8)
    np.save(tmp_path / "images.npy", packed)
    sure = np.array([0.2, 0.95, 0.6, 0.3, 0.9, 0.99])
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    dreamed = Dreamed(mapped, np.array([0, 0, 0, 1, 1, 1]), sure, sure, "outlier", ["cat", "dog"], tmp_path / "images.npy")
    memory, share = filtered(dreamed, 0.9, None, "oe.runs.dream")
    chain = ImageChain(Chain(size=16, resize="bilinear", mean=[0.5] * 3, std=[0.5] * 3))
    beside = FileSet(FileImages([], chain), torch.zeros(0), workers=2)
    left, same = filtered(dreamed, 0.9, None, "oe.runs.dream", beside)
    assert isinstance(memory, ImageSet)
    assert isinstance(left, FileSet)
    assert share == same
    assert torch.equal(left.labels, memory.labels)
    assert torch.equal(left.some(torch.arange(4)), torch.from_numpy(packed[[0, 2, 3, 4]]).permute(0, 3, 1, 2))
    inliers = ImageSet(memory.images, memory.labels.clamp(min=0))
    for augment, most in ((AUGMENT, 0.0), (Augment(crop=[0.2, 1.0], flip=True), 0.05)):  # resized by Pillow and by torch
        both = (TrainingBatches(inliers, 2, augment, outliers, 3).epoch(3, 1) for outliers in (left, memory))
        for a, b in zip(*both, strict=True):
            assert (a.images - b.images).abs().mean() <= most


def test_oe_leaves_dreams_where_they_are_when_the_pictures_of_id_stay_in_theirs(tmp_path, monkeypatch):
    np.save(tmp_path / "images.npy", np.zeros((2, 16, 16, 3), np.uint8))
    sure = np.array([0.2, 0.3])
    dreams = Dreamed(np.load(tmp_path / "images.npy"), np.array([0, 1]), sure, sure, "outlier", ["a", "b"], tmp_path / "images.npy")
    monkeypatch.setattr("ood.dream.dreamed.load", lambda run: dreams)
    run = OERun(init="ce", constraint="none", outliers="dreamed/x", objective="dream", phi="affine", cut=1.0)
    labels = torch.arange(2)
    for inliers in (FileSet(FileImages([], CHAIN), labels[:0]), ImageSet(torch.zeros(2, 3, 16, 16, dtype=torch.uint8), labels)):
        assert type(outliers_for(run, "oe.runs.x", inliers, 0, Console("oe x"))) is type(inliers)


def test_rows_of_a_file_that_was_replaced_are_others(tmp_path):
    """What is kept of a backbone's features must not be taken for those of other pictures at the same place."""
    net, marks = build("wrn_10_1", num_classes=2, size=16), []
    for level in (0, 1, 1):
        np.save(tmp_path / "images.npy", np.full((3, 16, 16, 3), level, np.uint8))
        marks.append(frozen._key(net, rows_in_file(tmp_path / "images.npy", torch.zeros(3), CHAIN), torch.device("cpu")))
    assert marks[0] != marks[1] == marks[2]


def test_a_crop_is_the_part_of_the_file_that_its_box_names(tmp_path):
    """Left half black, right half white, a grey corner: the box counts from the left and top, in width and height."""
    picture = np.zeros((20, 40, 3), np.uint8)
    picture[:, 20:] = 255
    picture[15:, 30:] = 100
    Image.fromarray(picture).save(tmp_path / "a.png")
    chain = ImageChain(Chain(grey=False, size=5, levels=None, mean=[0.5] * 3, std=[0.5] * 3))
    files = FileImages([(tmp_path / "a.png").as_posix()], chain)
    asked = []
    found = files.cropped(0, lambda width, height: asked.append((width, height)) or (30, 15, 5, 5))
    assert asked == [(40, 20)]
    assert (found == 100).all()
    assert (files.cropped(0, lambda width, height: (20, 0, 10, 10)) == 255).all()
