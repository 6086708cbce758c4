"""The data section: which images, or texts, play which role, and the one chain that every one of them goes through."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from ood.config import Place, Section, distinct
from ood.config.bounds import Below, Count, Limit, Seed, Share, Side, Unit
from ood.config.text import TEXT_SOURCES, Documents, Lines, TextChain, Tsv
from ood.config.training import Name


class Chain(Section):
    """What happens to every image of every set, so that no renderer or resize tells ID from OOD.

    Colour to grey (if `grey`), short side resized to `short` (null: to `size`), its middle of `size` pixels, quantised to `levels`
    (null: 256), enlarged to `upsize` (null: not), three channels, uint8. `mean` and `std` are in [0, 1] units and applied inside the
    network. white: the value that is white in pictures of more than eight bits (null: 65535 of 16 bits; others are refused).
    """

    grey: bool = False
    size: Side
    short: Side | None = None
    resize: Literal["area", "bilinear", "bicubic"] = "area"
    levels: int | None = Field(None, ge=2, le=256)
    upsize: Side | None = None
    white: float | None = Field(None, ge=1e-6, le=2**32)
    mean: Annotated[list[Unit], Field(min_length=3, max_length=3)]
    std: Annotated[list[Annotated[float, Field(ge=1e-3, le=1)]], Field(min_length=3, max_length=3)]

    @model_validator(mode="after")
    def _crop_fits(self) -> "Chain":
        if self.short is not None and self.short < self.size:
            raise ValueError(f"short ({self.short}) must be at least size ({self.size}): the crop is taken from it")
        return self

    @property
    def side(self) -> int:
        """Pixels along a side of what the network sees."""
        return self.upsize or self.size


class Digits(Section):
    """scikit-learn's handwritten digits (1,797 images of 8x8, 17 grey levels)."""

    source: Literal["digits"]
    classes: Annotated[list[Annotated[int, Field(ge=0, le=9)]], Field(min_length=1), AfterValidator(distinct)]


class Glyphs(Section):
    """Characters rendered from fonts that matplotlib ships, slightly rotated; `count` in all."""

    source: Literal["glyphs"]
    characters: str = Field(min_length=1, max_length=10_000)
    fonts: list[str] = Field(min_length=1)
    count: Count
    rotation: float = Field(10.0, ge=0, le=45)


class Photo(Section):
    """Square patches of one of scikit-learn's sample photos; `crop`: smallest and largest side in photo pixels.

    Patches whose grey values vary less than `contrast` (standard deviation, [0, 1] units) after the chain are skipped: plain sky
    is the same image in every photo.
    """

    source: Literal["photo"]
    image: Literal["china.jpg", "flower.jpg"]
    count: Count
    crop: Annotated[list[int], Field(min_length=2, max_length=2)] = Field([24, 96])
    contrast: float = Field(0.05, ge=0, lt=0.5)

    @model_validator(mode="after")
    def _order(self) -> "Photo":
        if not 4 <= self.crop[0] <= self.crop[1] <= 427:
            raise ValueError(f"crop {self.crop} must be two sides in rising order between 4 and 427 pixels")
        return self


class Noise(Section):
    """The OE paper's noise, defined in [-1, 1].

    blur: the blobs' Gaussian standard deviation in pixels. spread: standard deviation of kind gaussian; null: 0.5. space: what [-1, 1] is:
    pixels (black to white), or input: what the network sees behind the normalisation, where OE puts it on colour images.
    """

    source: Literal["noise"]
    kind: Literal["gaussian", "rademacher", "uniform", "blobs"]
    count: Count
    blur: float | None = Field(None, ge=1e-2, le=1e3)
    spread: float | None = Field(None, ge=1e-3, le=1e3)
    space: Literal["pixels", "input"] = "pixels"

    @model_validator(mode="after")
    def _each_key_its_kind(self) -> "Noise":
        if (self.kind == "blobs") != (self.blur is not None):
            raise ValueError(f"blur belongs to kind 'blobs' and only there; kind is {self.kind!r}, blur {self.blur}")
        if self.spread is not None and self.kind != "gaussian":
            raise ValueError(f"spread belongs to kind 'gaussian' and only there; kind is {self.kind!r}. Remove it")
        return self


class Corruption(Section):
    """ID images, spoilt by one of the OE paper's corruptions: validation images as validation OOD, training images as auxiliary outliers.

    classes: only images of these, by name or by label (their place among the ID classes, from 0); null: all. limit: at most so many,
    evenly spaced through the set.
    """

    source: Literal["corruption"]
    kind: Literal[
        "arithmetic_mean", "geometric_mean", "jigsaw", "speckle", "pixelate", "ghost", "invert", "flip_vertical",
        "flip_horizontal",
    ]  # fmt: skip
    classes: Annotated[list[int | str], Field(min_length=1)] | None = None
    limit: Limit | None = None


class Corrupted(Corruption):
    """ID test images, spoilt but still of their class: how well a classifier holds up."""

    kind: Literal["jigsaw", "speckle", "pixelate", "ghost", "invert"]


class Folder(Section):
    """An image folder in the layout of torchvision.datasets.ImageFolder: <path>/<class>/<image>; outliers may also lie as <path>/<image>.

    classes: only these folders. listing: a text file that names the images to take, one a line, relative to `path` (the format of OpenOOD's
    lists; what follows a blank is ignored). limit: at most so many, spread evenly over the classes.
    """

    source: Literal["folder"]
    path: Place
    classes: Annotated[list[str], Field(min_length=1), AfterValidator(distinct)] | None = None
    listing: Place | None = None
    limit: Limit | None = None


class Shifted(Folder):
    """Other pictures of ID classes, taken elsewhere (ImageNet-V2, ImageNet-A): folders by the ID classes' names; others are left out.

    numbered: a folder whose sorted class folders the numbers here count (ImageNet-V2: those of ImageNet), where these are numbers.
    """

    numbered: Place | None = None


class Array(Section):
    """Images in one NumPy file, uint8 (N, H, W, 3) or (N, H, W), as OE's 300,000 random images are published; `limit` of them at random."""

    source: Literal["array"]
    path: Place
    limit: Limit | None = None


class Torchvision(Section):
    """A data set of torchvision by name; `split`: train, test, or all of it; `classes` keeps only some, by number; `invert`: negatives."""

    source: Literal["torchvision"]
    name: Literal["CIFAR10", "CIFAR100", "SVHN", "MNIST", "FashionMNIST", "KMNIST", "Omniglot", "DTD", "GTSRB", "Places365"]
    split: Literal["train", "test", "all"] = "test"
    root: Place = Path("downloads")
    download: bool = True
    classes: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1), AfterValidator(distinct)] | None = None
    limit: Limit | None = None
    invert: bool = False

    @model_validator(mode="after")
    def _range(self) -> "Torchvision":
        count = {"CIFAR100": 100, "Omniglot": 1623, "DTD": 47, "GTSRB": 43, "Places365": 365}.get(self.name, 10)
        if self.classes and max(self.classes) >= count:
            raise ValueError(f"{self.name} has no class {max(self.classes)}; it has 0 to {count - 1}")
        return self


class PytorchOOD(Section):
    """A data set of outliers by its name in pytorch-ood, which downloads it where it isn't in `root`.

    It checks what it fetches, but for the sets that OpenOOD keeps on a drive (Places365, iNaturalist, SSBHard, OpenImagesO).
    """

    source: Literal["pytorch-ood"]
    name: Literal[
        "LSUNCrop", "LSUNResize", "TinyImageNetCrop", "TinyImageNetResize", "TinyImages300k", "Textures", "Places365", "iNaturalist",
        "SSBHard", "NINCO", "OpenImagesO", "ImageNetO", "Chars74k", "FoolingImages",
    ]  # fmt: skip
    root: Place = Path("downloads")
    download: bool = True
    limit: Limit | None = None


Labelled = Annotated[Digits | Folder | Torchvision | Tsv | Documents, Field(discriminator="source")]
Source = Annotated[
    Digits | Glyphs | Photo | Noise | Corruption | Folder | Array | Torchvision | PytorchOOD | Tsv | Lines | Documents,
    Field(discriminator="source"),
]
Sources = dict[Name, Source]


class Split(Section):
    """Shares of the ID images, stratified by class; `test` is 0 when it has a source of its own, and so is `calibration`.

    calibration: on these images nothing is chosen or fitted but a detector's threshold; without any there is no detector (detector.model:
    null).
    """

    train: Share
    val: float = Field(gt=0, lt=1)
    calibration: Below = 0.0
    test: Below

    @property
    def shares(self) -> list[float]:
        """In the order in which a class is cut."""
        return [self.train, self.val, self.calibration, self.test]

    @model_validator(mode="after")
    def _sum(self) -> "Split":
        if abs(sum(self.shares) - 1) > 1e-9:
            raise ValueError(f"train + val + calibration + test must be 1, they are {sum(self.shares):g}")
        return self


class LabelNoise(Section):
    """Wrong labels on purpose, for training images alone: the dose of what Unleashing Mask calls atypical, with a known answer.

    share: of every class's training images. kind: symmetric, any other class; confusable, the class that pairs name for it (of those that
    aren't listed none is changed), or, where pairs is null, the one whose mean image is nearest; file: labels as a table says, with columns
    image (as data/prepared/id/train.items.json calls it) and label (the class's name), for as many images as it lists; share is 0 then.
    """

    share: Below = 0.0
    kind: Literal["symmetric", "confusable", "file"] = "symmetric"
    pairs: dict[str, str] | None = None
    path: Place | None = None

    @property
    def on(self) -> bool:
        """Whether any label is changed."""
        return self.share > 0 or self.kind == "file"

    @model_validator(mode="after")
    def _consistent(self) -> "LabelNoise":
        if (self.path is not None) != (self.kind == "file"):
            raise ValueError("path belongs to kind 'file' and only there: give both or neither")
        if self.kind == "file" and self.share:
            raise ValueError("share says how many labels to change at random; with kind 'file' the table says it. Set it to 0.0")
        if self.pairs is not None and self.kind != "confusable":
            raise ValueError("pairs belong to kind 'confusable' and only there")
        same = next((name for name, other in (self.pairs or {}).items() if name == other), None)
        if same is not None:
            raise ValueError(f"pairs: {same!r} can't be confused with itself. Name another class")
        return self


class InDistribution(Section):
    """The labelled images, where those to test and to calibrate on come from, how the rest is split, which training labels are made wrong.

    test, calibration: sources of their own, or None: shares of the images. Calibration images should come as those come that a detector
    will judge.
    """

    images: Labelled
    test: Labelled | None = None
    calibration: Labelled | None = None
    split: Split
    label_noise: LabelNoise = LabelNoise()

    @model_validator(mode="after")
    def _one_source_each(self) -> "InDistribution":
        for source in (self.images, self.test, self.calibration):
            classes = getattr(source, "classes", None)
            if classes is not None and len(classes) < 2:
                raise ValueError("a classifier needs at least two ID classes")
        if (self.test is None) == (self.split.test == 0):
            raise ValueError("give either a share split.test > 0 or a separate test source, and not both")
        if self.calibration is not None and self.split.calibration:
            raise ValueError("calibration has a source of its own, and split.calibration keeps a share as well: set that to 0.0")
        return self


class Data(Section, key="data"):
    """Every role and its sets.

    kind: what they are of; chain is that of images, text that of texts. unreadable: what to do about files in a folder that can't be read
    as pictures: an error that lists them, or skip and count them.
    max_pixels: pictures of more aren't decoded. stream: folders of images are left where they are and decoded when they are needed,
    instead of being packed into memory. near_duplicates: of ID pictures in folders that look the same (re-encoded, resized, shot twice in a
    row), and of ID texts with nearly the same words, keep all on one side of the split: together; or split one by one: apart.
    corrupted: ID test images under a corruption, labels kept. shifted: other pictures of ID classes, for accuracy alone. world: captioned
    images that the small diffusion model learns beside ID; a caption is a glyph's name, a folder's or data set's class, else the set's own
    name.
    """

    kind: Literal["images", "text"] = "images"
    seed: Seed = 0
    duplicates: Literal["error", "drop"] = "error"
    unreadable: Literal["error", "skip"] = "error"
    near_duplicates: Literal["together", "apart"] = "together"
    max_pixels: int = Field(200_000_000, ge=1, le=10**11)
    min_per_class: int = Field(5, ge=0, le=10**9)
    stream: bool = False
    chain: Chain
    text: TextChain = TextChain()
    id: InDistribution
    auxiliary: Sources = Field(min_length=1)
    validation: Sources = Field(min_length=1)
    near: Sources = Field(min_length=1)
    far: Sources = Field(min_length=1)
    corrupted: dict[Name, Corrupted] = Field(default_factory=dict)
    shifted: dict[Name, Shifted] = Field(default_factory=dict)
    world: Sources = Field(default_factory=dict)

    @model_validator(mode="after")
    def _of_one_kind(self) -> "Data":
        for key, source in self.sources().items():
            if (source.source in TEXT_SOURCES) != self.is_text:
                known = ", ".join(TEXT_SOURCES) if self.is_text else "folder, torchvision and others"
                raise ValueError(f"{key.removeprefix('data.')}: source {source.source}, but data.kind is {self.kind}, read from {known}")
        if self.is_text:
            for name in ("corrupted", "shifted", "world"):
                if getattr(self, name):
                    raise ValueError(f"{name}: there are no such sets of texts (data.kind). Set it to {{}}")
            if self.stream:
                raise ValueError("stream: texts are small, they are always packed (data.kind). Set it to false")
            if self.id.label_noise.kind == "confusable" and self.id.label_noise.pairs is None:
                raise ValueError("id.label_noise: which classes of texts are confusable, pairs must say. Give them")
        return self

    @model_validator(mode="after")
    def _names_and_roles(self) -> "Data":
        for role in ("near", "far", "world"):
            for name, source in getattr(self, role).items():
                if source.source == "corruption":
                    raise ValueError(f"{role}.{name}: spoilt ID images can only be validation OOD or auxiliary outliers")
        # Both means mix two images: for what chooses, one is as good as the other.
        spoilt = {source.kind.split("_")[-1]: name for name, source in self.validation.items() if source.source == "corruption"}
        for name, source in self.auxiliary.items():
            if source.source == "corruption" and source.kind.split("_")[-1] in spoilt:
                other = spoilt[source.kind.split("_")[-1]]
                raise ValueError(
                    f"auxiliary.{name} and validation.{other}: both spoil images in the same way; what was trained on must not choose. "
                    "Take another kind for one of the two"
                )
        for role in ("auxiliary", "validation", "corrupted"):
            for name, source in getattr(self, role).items():
                if source.source == "corruption" and self.chain.grey and source.kind in ("ghost", "invert"):
                    raise ValueError(f"{role}.{name}: {source.kind} rolls colour channels, but data.chain is grey; take it out")
        if isinstance(self.id.images, Digits):
            for role in ("auxiliary", "validation", "near", "far", "world"):
                for name, source in getattr(self, role).items():
                    same = set(source.classes) & set(self.id.images.classes) if isinstance(source, Digits) else None
                    if same:
                        raise ValueError(f"{role}.{name}: the digit {min(same)} is ID; it can't be OOD as well")
        roles = {"auxiliary": "auxiliary", "validation": "validation", "near": "test", "far": "test", "world": "world"}
        owner: dict[str, tuple[str, str]] = {}
        for section, role in roles.items():
            for name, source in getattr(self, section).items():
                marks = [f"photo {source.image}"] if isinstance(source, Photo) else []
                marks += [f"digit {c}" for c in source.classes] if isinstance(source, Digits) else []
                for mark in marks:
                    first, where = owner.setdefault(mark, (role, f"{section}.{name}"))
                    if first != role:
                        raise ValueError(f"the {mark} stands under {where} and under {section}.{name}; no image may play two roles")
        shared = set(self.near) & set(self.far)
        if shared:
            raise ValueError(f"the name {sorted(shared)[0]!r} stands under near and under far; a test set counts once")
        return self

    @property
    def is_text(self) -> bool:
        """Whether the sets are of texts."""
        return self.kind == "text"

    @property
    def side(self) -> int:
        """Pixels along a side of what a network sees; of texts tokens."""
        return self.text.length if self.is_text else self.chain.side

    def sources(self) -> dict[str, Source]:
        """Key -> source of every set."""
        sources = {"data.id.images": self.id.images, "data.id.test": self.id.test, "data.id.calibration": self.id.calibration}
        for role in ("auxiliary", "validation", "near", "far", "world", "shifted"):
            sources |= {f"data.{role}.{name}": source for name, source in getattr(self, role).items()}
        return {key: source for key, source in sources.items() if source is not None}

    def id_classes(self) -> list[str] | None:
        """Names of the ID classes where the parameters tell them (the digits), else None."""
        return [str(c) for c in self.id.images.classes] if isinstance(self.id.images, Digits) else None
