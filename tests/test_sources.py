"""Sources of pictures beside the embedded ones: arrays, lists, libraries' data sets (their own readers are theirs to test)."""

from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from ood.config import Params
from ood.config.data import Array, Chain, Corruption, Data, Folder, PytorchOOD, Torchvision
from ood.data import catalog
from ood.data.chain import ImageChain
from ood.data.items import ItemSet
from ood.data.sources import arrays, corruptions, folders, vision
from ood.errors import InputError

HALF = {"mean": [0.5] * 3, "std": [0.5] * 3}
DATA = Params()[Data]
COLOUR = ImageChain(Chain(size=8, **HALF))
RNG = np.random.default_rng


def tick() -> None: ...


class StandIn:
    """A data set as torchvision and pytorch-ood make them: pairs of a PIL image and a label."""

    opened: ClassVar[list] = []

    def __init__(self, root, download=False, **part):
        if part.get("split") == "val":
            self.colours = [200, 210]
        else:
            self.colours = [10, 20, 30]
        self._labels = [i % 2 for i in range(len(self.colours))]
        self.classes = ["even", "odd"]
        type(self).opened.append((root, download, part))

    def __len__(self):
        return len(self.colours)

    def __getitem__(self, i):
        return Image.new("RGB", (12, 9), (self.colours[i],) * 3), self._labels[i]


@pytest.fixture
def stand_in(monkeypatch):
    from pytorch_ood.dataset import img
    from torchvision import datasets

    StandIn.opened = []
    monkeypatch.setattr(datasets, "DTD", StandIn)
    monkeypatch.setattr(img, "LSUNCrop", StandIn)
    return StandIn


def test_a_torchvision_set_of_several_parts(stand_in, tmp_path):
    whole = vision.load(Torchvision(source="torchvision", name="DTD", split="all", root=tmp_path, download=False), COLOUR, RNG(0), tick)
    assert [part for _, _, part in stand_in.opened] == [{"split": "train"}, {"split": "val"}, {"split": "test"}]
    assert whole.images[:, 0, 0, 0].tolist() == [10, 20, 30, 200, 210, 10, 20, 30]
    assert whole.labels.tolist() == [0, 1, 0, 0, 1, 0, 1, 0]
    assert len(set(whole.names)) == 8
    assert whole.names[0] == "DTD/train/0"
    assert whole.names[3] == "DTD/train/val/0"
    odd = vision.load(Torchvision(source="torchvision", name="DTD", split="train", root=tmp_path, classes=[1]), COLOUR, RNG(0), tick)
    assert odd.images[:, 0, 0, 0].tolist() == [20, 210]
    assert odd.classes == ["odd"]
    negative = vision.load(Torchvision(source="torchvision", name="DTD", split="train", root=tmp_path, invert=True), COLOUR, RNG(0), tick)
    assert negative.images[:, 0, 0, 0].tolist() == [245, 235, 225, 55, 45]


def test_a_pytorch_ood_set(stand_in, tmp_path):
    found = vision.load_outliers(PytorchOOD(source="pytorch-ood", name="LSUNCrop", root=tmp_path, limit=2), COLOUR, RNG(0), tick)
    assert len(found) == 2
    assert (found.labels == -1).all()
    assert stand_in.opened == [(str(tmp_path), True, {})]


@pytest.mark.parametrize("kind", ["torchvision", "pytorch-ood"])
def test_a_download_that_fails_says_what_to_do(monkeypatch, tmp_path, kind):
    from pytorch_ood.dataset import img
    from torchvision import datasets

    def refuse(*_, **__):
        raise RuntimeError("File not found or corrupted")

    monkeypatch.setattr(datasets, "SVHN", refuse)
    monkeypatch.setattr(img, "NINCO", refuse)
    ask = {
        "torchvision": lambda: vision.load(Torchvision(source="torchvision", name="SVHN", root=tmp_path), COLOUR, RNG(0), tick),
        "pytorch-ood": lambda: vision.load_outliers(PytorchOOD(source="pytorch-ood", name="NINCO", root=tmp_path), COLOUR, RNG(0), tick),
    }
    with pytest.raises(InputError, match=rf"(SVHN|NINCO).*{tmp_path}.*could not be downloaded.*under the names that {kind} gives"):
        ask[kind]()


def test_every_named_set_exists_in_its_library():
    from pytorch_ood.dataset import img
    from torchvision import datasets

    for kind, library in ((Torchvision, datasets), (PytorchOOD, img)):
        for name in kind.model_fields["name"].annotation.__args__:
            assert hasattr(library, name), name


def test_arrays(tmp_path):
    images = RNG(0).integers(0, 255, (9, 8, 8, 3)).astype(np.uint8)
    np.save(tmp_path / "random.npy", images)
    found = arrays.load(Array(source="array", path=tmp_path / "random.npy"), COLOUR, RNG(0))
    assert np.array_equal(found.images, images)
    assert found.names[4] == "random.npy/4"
    assert len(arrays.load(Array(source="array", path=tmp_path / "random.npy", limit=4), COLOUR, RNG(0))) == 4
    grey = ImageChain(Chain(size=8, grey=True, **HALF))
    np.save(tmp_path / "grey.npy", images[..., 0])
    assert np.array_equal(arrays.load(Array(source="array", path=tmp_path / "grey.npy"), grey, RNG(0)).images[..., 0], images[..., 0])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        (b"not an array", "not a NumPy file"),
        (np.zeros((3, 8, 8, 3)), "holds float64"),
        (np.zeros((8, 8), np.uint8), r"of shape \(8, 8\)"),
        (np.zeros((0, 8, 8, 3), np.uint8), r"of shape \(0,"),
    ],
)
def test_bad_arrays(tmp_path, content, words):
    path = tmp_path / "a.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    with pytest.raises(InputError, match=words):
        arrays.load(Array(source="array", path=path), COLOUR, RNG(0))


@pytest.fixture
def tree(tmp_path):
    for name in ("a/x", "a/y", "b"):
        (tmp_path / name).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (10, 10), (i * 20, 0, 0)).save(tmp_path / name / f"{i}.png")
    return tmp_path


def test_a_listing_names_the_images(tree):
    """OpenOOD's format: a path and, behind a blank, a label that isn't ours."""
    (tree / "list.txt").write_text("a/x/2.png -1\na/y/0.png -1\n\nb/1.png -1\na/x/0.png 5\n")
    source = Folder(source="folder", path=tree, listing=tree / "list.txt")
    assert {name: [f.relative_to(tree).as_posix() for f in files] for name, files in folders.list_images(source).classes.items()} == {
        "b": ["b/1.png"],
        "x": ["a/x/0.png", "a/x/2.png"],  # the class is the image's own folder: cifar10/test/airplane/0298.png is an airplane
        "y": ["a/y/0.png"],
    }
    (tree / "list.txt").write_text("a/x/9.png -1\n")
    with pytest.raises(InputError, match=r"list\.txt: a/x/9\.png -1 is not in"):
        folders.list_images(source)
    (tree / "list.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="UTF-8"):
        folders.list_images(source)
    with pytest.raises(InputError, match="no such list"):
        folders.list_images(Folder(source="folder", path=tree, listing=tree / "none.txt"))


def test_outliers_may_lie_in_one_folder(tree):
    found = folders.load(Folder(source="folder", path=tree / "b"), DATA, COLOUR, RNG(0), tick)
    assert found.classes == ["b"]
    assert len(found) == 3


def test_short_side_first_then_the_middle():
    """ImageNet's way: 256 then 224 of it; here 16 then 8: half of the picture's short side."""
    chain = ImageChain(Chain(size=8, short=16, **HALF))
    picture = np.zeros((32, 48, 3), np.uint8)
    picture[8:24, 16:32] = 255  # exactly the middle half
    assert (chain.native(picture) == 255).all()
    assert not (ImageChain(Chain(size=8, **HALF)).native(picture) == 255).all()
    with pytest.raises(ValueError, match="must be at least size"):
        Chain(size=8, short=7, **HALF)


def test_a_limit_of_corruptions_is_spread_over_the_set():
    parents = ItemSet(
        RNG(0).integers(0, 255, (20, 8, 8, 3)).astype(np.uint8),
        np.arange(20) % 2,
        [str(i) for i in range(20)],
        [(str(i),) for i in range(20)],
        ["a", "b"],
    )
    source = Corruption(source="corruption", kind="jigsaw", limit=5)
    assert corruptions.chosen_parents(source, parents).tolist() == [0, 4, 9, 14, 19]
    assert len(corruptions.load(source, parents, COLOUR, RNG(0))) == 5
    only = Corruption(source="corruption", kind="jigsaw", limit=3, classes=["b"])
    assert (parents.labels[corruptions.chosen_parents(only, parents)] == 1).all()


def test_check_finds_a_missing_array_and_folder(tmp_path):
    folder = {"source": "folder", "path": tmp_path}
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    for name in "ab":
        Image.new("RGB", (8, 8)).save(tmp_path / name / "0.png")
    data = Data(
        chain=Chain(size=8, **HALF),
        id={"images": folder, "split": {"train": 0.6, "val": 0.2, "test": 0.2}},
        auxiliary={"random": {"source": "array", "path": tmp_path / "none.npy"}},
        validation={"v": {"source": "noise", "kind": "uniform", "count": 1}},
        near={"n": {"source": "noise", "kind": "uniform", "count": 1}},
        far={"f": {"source": "noise", "kind": "gaussian", "count": 1}},
    )
    with pytest.raises(InputError, match=r"data\.auxiliary\.random\.path: .*none\.npy: no such file"):
        catalog.check(data)
    # Every problem at once, each with its key; and how few images a class has, before anything is read.
    data = data.model_copy(update={"near": {"n": Folder(source="folder", path=tmp_path / "lost")}})
    with pytest.raises(InputError, match=r"none\.npy") as found:
        catalog.check(data)
    lines = str(found.value).splitlines()
    assert [line.split(": ")[1] for line in lines] == ["data.auxiliary.random.path", "data.near.n.path", "data.id.images"]
    assert "class 'a' has 1 images, of which 1 are for train" in lines[2]


def test_check_compares_the_classes_of_test_and_training_folders(tmp_path):
    for name in ("train/a", "train/b", "test/a", "test/c"):
        (tmp_path / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name / "0.png")
    data = Data(
        chain=Chain(size=8, **HALF),
        min_per_class=1,
        id={
            "images": {"source": "folder", "path": tmp_path / "train"},
            "test": {"source": "folder", "path": tmp_path / "test"},
            "split": {"train": 0.5, "val": 0.5, "test": 0.0},
        },
        auxiliary={"a": {"source": "noise", "kind": "uniform", "count": 1}},
        validation={"v": {"source": "noise", "kind": "uniform", "count": 1}},
        near={"n": {"source": "noise", "kind": "uniform", "count": 1}},
        far={"f": {"source": "noise", "kind": "gaussian", "count": 1}},
    )
    with pytest.raises(InputError, match=r"data\.id\.test: its classes differ .*first: c"):
        catalog.check(data)
