"""Inputs that nobody would think of: a right answer or one clear error, never a traceback, a hang, or a crash.

Each case is made of its number, so a failure's number makes it again. FUZZ=10000 runs as many of each kind (docs/reliability.md).
"""

import contextlib
import copy
import io
import json
import random
import warnings

import numpy as np
from conftest import ROOT, Workspace, parse
from fuzzing import CASES, damaged, outcome
from PIL import Image, ImageCms

from ood.config import Params, basis
from ood.config.data import Chain, Data, Folder
from ood.config.whole import check, check_against
from ood.data import catalog
from ood.data.chain import ImageChain
from ood.data.items import rng_for
from ood.data.reading import read_image, suffixes
from ood.data.sources import folders

NASTY = [
    *(None, True, False, "", " ", "x", "none", "../..", "/", "a" * 300, "é", "\0", "\ud800", "\n", "{name}", "{", "%", "$\\frac$", "👍"),
    *(-1, 0, 1, 2, 3, 7, 255, 2**31, 2**63, 10**30, -(10**30), 10**400),
    *(0.0, -0.0, 0.5, 1.0, 1e-320, 1e-12, 1e308, 1e40, float("inf"), float("-inf"), float("nan")),
    *([], {}, [[]], [None], ["x"], [1, 1], {"a": 1}, {"source": "folder", "path": "\0"}, {"source": "digits"}, {1: 2}, {None: None}),
    *({"source": "folder", "path": "x" * 5000}, {"source": "array", "path": "params.yaml"}, {"source": "torchvision", "name": "CIFAR10"}),
]
JARGON = ("Input should", "ruamel", "pydantic", "Traceback", "[type=")
RAW = ["2001-02-30", "!!int x", "!!bool x", "%YAML 1.3", "9" * 5000, '"\\UFFFFFFFF"', "[" * 500, "&a *a", "<<: *b", "? ", "- ", "\t", "'"]


def places(node: object) -> list[tuple[object, object]]:
    """Every (container, key) of a tree."""
    entries = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [place for key, value in entries for place in ((node, key), *places(value))]


def mutated(tree: dict, text: str, rng: random.Random) -> str:
    """The parameters with one to three things wrong, in values, keys, structure or characters."""
    if rng.random() < 0.25:
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(text))
            match rng.randrange(4):
                case 0:
                    text = text[:at] + text[at + rng.randint(1, 20) :]
                case 1:
                    text = text[:at] + rng.choice(RAW) + text[at:]
                case 2:
                    text = text[:at] + chr(rng.choice([0, 9, 10, 34, 39, 45, 58, 91, 123, 133, 160, 0x2028, 0xFEFF, 0x1F44D])) + text[at:]
                case _:
                    other = rng.randrange(len(text))
                    text = text[:at] + text[other : other + 40] + text[at:]
        return text
    tree = copy.deepcopy(tree)
    for _ in range(rng.randint(1, 3)):
        container, key = rng.choice(places(tree))
        if (isinstance(container, dict) and key not in container) or (isinstance(container, list) and key >= len(container)):
            continue
        match rng.randrange(6):
            case 0:
                del container[key]
            case 1 if isinstance(container, dict):
                container[rng.choice(["", "x", "ce", "a" * 300, "CE", 0, None, True, "0"])] = container[key]
            case 2:
                container[key] = copy.deepcopy(rng.choice(places(tree))[0])
            case _:
                container[key] = copy.deepcopy(rng.choice(NASTY))
    return json.dumps(tree, ensure_ascii=rng.random() < 0.5).replace("Infinity", ".inf").replace("NaN", ".nan")


def asked(path: object) -> None:
    """What `check` does, less what it writes."""
    params = Params(path)
    check(params)
    facts = catalog.check(params[Data])
    check_against(params, facts.classes, facts.training)
    list(catalog.unwatched(params[Data], {}, {}))
    basis.bases(params)


def test_parameters(tmp_path, monkeypatch):
    """Each refusal is of lines that name the file, without the parser's own words."""
    shipped = (ROOT / "params.yaml").read_text()
    trees = [(parse(shipped), shipped)]
    for name in ("folder", "cifar10-cpu"):
        text = (ROOT / "recipes" / f"{name}.yaml").read_text()
        trees.append((parse(shipped) | parse(text), text))
    workspace = Workspace(tmp_path)
    trees.append((parse((tmp_path / "params.yaml").read_text()), (tmp_path / "params.yaml").read_text()))
    monkeypatch.chdir(ROOT)
    refused = 0
    for number in range(CASES):
        rng = random.Random(number)
        text = mutated(*rng.choice(trees), rng)
        (workspace.path / "params.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
        _, said = outcome(f"case {number}", lambda: asked(workspace.path / "params.yaml"))
        refused += bool(said)
        for line in said.splitlines():
            assert "params.yaml" in line, f"case {number}: {line}"
            assert not any(word in line for word in JARGON), f"case {number}: {line}"
            assert len(line) < 2000, f"case {number}: {line[:300]}"
    assert refused > CASES / 2, "else these are no bad inputs"


MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16", "F")
ENCODERS = {
    "JPEG": [{}, {"quality": 20}, {"progressive": True}, {"subsampling": 2}, {"comment": "x" * 300}],
    "PNG": [{}, {"interlace": 1}, {"compress_level": 0}, {"bits": 2}],
    "TIFF": [
        {},
        {"compression": "tiff_lzw"},
        {"compression": "tiff_deflate"},
        {"compression": "jpeg"},
        {"compression": "group4"},
        {"big_tiff": True},
    ],
    "GIF": [{}, {"interlace": 0}],
    "WEBP": [{}, {"lossless": True}, {"quality": 10}],
    "AVIF": [{"speed": 10}],
    "JPEG2000": [{}, {"irreversible": True}],
    **{kind: [{}] for kind in ("BMP", "DIB", "PPM", "MPO", "TGA", "ICO", "PCX", "SGI", "DDS", "EPS", "PDF", "QOI")},
}
SIZES = ((1, 1), (3, 5), (24, 16), (1, 400), (400, 1), (65, 63))


def picture(rng: random.Random) -> bytes:
    """An image file of any mode, encoder and metadata; empty where the encoder can't."""
    mode, size = rng.choice(MODES), rng.choice(SIZES)
    noise = Image.frombytes("RGBA", size, rng.randbytes(4 * size[0] * size[1]))
    with contextlib.suppress(ValueError):
        noise = noise.convert(mode)
    kind = rng.choice(list(ENCODERS))
    options = dict(rng.choice(ENCODERS[kind]))
    if rng.random() < 0.4:
        exif = Image.Exif()
        exif[0x0112] = rng.choice([1, 2, 3, 4, 5, 6, 7, 8, 0, 9, 300])
        exif[0x010E] = "é" * rng.choice([1, 1000])
        options["exif"] = exif
    if rng.random() < 0.2:
        options["icc_profile"] = rng.choice([b"", b"x" * 200, ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()])
    if rng.random() < 0.2:
        options |= {"save_all": True, "append_images": [noise.rotate(90)], "duration": 1}
    if rng.random() < 0.2:
        options |= {"transparency": 0, "dpi": (rng.choice([0, 1e-9, 72, 1e9]),) * 2}
    if kind == "AVIF":  # whose encoder (this Pillow's) crashes on a profile that is none
        options = {"speed": 10}
    stream = io.BytesIO()
    with contextlib.suppress(Exception), warnings.catch_warnings():  # not every encoder takes every mode and option
        warnings.simplefilter("ignore")
        noise.save(stream, kind, **options)
    return stream.getvalue()


def test_images(tmp_path):
    """A folder of them is read alike whether it is packed or left in its files; every file is a picture, or has its line."""
    folder = tmp_path / "images" / "one"
    folder.mkdir(parents=True)
    endings = sorted(suffixes())
    for number in range(CASES):
        rng = random.Random(number)
        content = b""
        while not content:
            content = picture(rng)
        (folder / f"{number:06d}{rng.choice(endings)}").write_bytes(damaged(content, rng))
    fine = 0
    chain = ImageChain(Chain(size=8, mean=[0.5] * 3, std=[0.5] * 3))
    for path in sorted(folder.iterdir()):
        image, said = outcome(path.name, lambda path=path: chain.native(read_image(path, 10**7)))
        if said:
            assert said.startswith(str(path)), said
            assert len(said.splitlines()) == 1, repr(said)
            assert len(said) < 1000, repr(said)
        else:
            fine += 1
            assert image.shape == (8, 8, 3), path
            assert image.dtype == np.uint8, path
    assert CASES / 5 < fine < CASES * 0.9, "else these are not both kinds"
    data = {**parse((ROOT / "params.yaml").read_text())["data"]}
    data |= {"unreadable": "skip", "max_pixels": 10**7, "chain": chain.config.model_dump()}
    sets = [
        folders.load(
            Folder(source="folder", path=tmp_path / "images"), Data.model_validate(data | {"stream": stream}), chain, rng_for(0, "x"), int
        )
        for stream in (False, True)
    ]
    assert [len(items) for items in sets] == [fine, fine]
    assert sets[0].hashes() == sets[1].hashes()
