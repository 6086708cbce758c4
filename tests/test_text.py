"""Texts: the chain, the network that reads them, what is refused, and the whole pipeline on a small corpus, up to a detector's answer."""

import json
import re
import shutil
import subprocess
from copy import deepcopy
from pathlib import Path

import corpus
import numpy as np
import pytest
import torch
from conftest import PYTHON, ROOT, Workspace, parse
from corpus import TEXT
from sklearn.metrics import roc_auc_score
from torch.func import functional_call

from ood import Detector, nets
from ood.config import Params, recipes
from ood.config.text import Documents, Lines, TextChain, Tsv
from ood.config.whole import check
from ood.data import cues, packed, texts
from ood.data.sources import texts as sources
from ood.deploy import bundle
from ood.deploy.sentences import Sentences
from ood.errors import InputError
from ood.files import sha256
from ood.report.blocks import Fold, Gallery, Table, Text
from ood.report.wording import block_of_texts
from ood.unmask import masks

WRITTEN = [
    ("What is the -LRB- biggest -RRB- city ?", "what is the (biggest) city?"),
    ("He does &quot;see&quot; it <br /> here &lt;br/&gt; .", 'He does "see" it here.'),
    ("well @-@ known , 1 @,@ 000 times", "well-known, 1,000 times"),
    ("`` Yes , '' she said", '"yes," she said'),
    ("it \\/ that", "it / that"),
    ("the <unk> of", "THE <email> of"),
    ("don’t", "don&#39;t"),
]
DIFFERENT = [("What is C# ?", "What is C++ ?"), ("it is -5", "it is 5"), ("x<y && y>z", "x z"), ("यह की है", "यह का है")]


def fitted(corpus: list[str], chain: TextChain):
    """Words of a few texts."""
    return texts.Words.learned(corpus, chain)


@pytest.mark.parametrize(("one", "other"), WRITTEN)
def test_ways_of_writing_are_one_text(one, other):
    chain = TextChain()
    tokenizer = fitted([one, other], chain)
    first, second = tokenizer.numbers([one, other])
    assert first.tolist() == second.tolist()
    assert len(set(texts.Texts([one, other], chain).digests())) == 1
    kept = TextChain(lower=False, conventions="keep")
    first, second = fitted([one, other], kept).numbers([one, other])
    assert first.tolist() != second.tolist(), "the chain is what makes them one"


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_other_texts_are_others(one, other):
    assert len(set(texts.Texts([one, other], TextChain()).digests())) == 2


@pytest.mark.parametrize("text", ["x<y && y>z", "if x <y then a long text ends at z> ok", "List<String> of 3 < 4", "C# & C++"])
def test_ordinary_text_is_left_alone(text):
    kept = "".join(fitted([text], TextChain()).tokenizer.encode(text).tokens)
    assert kept == text.lower().replace(" ", "")


def test_punctuation_may_be_dropped():
    chain = TextChain(punctuation="drop")
    assert fitted(["What's that, then?"], chain).names[2:] == ["s", "that", "then", "what"]
    assert len(set(texts.Texts(["One?", "one"], chain).digests())) == 1


def test_case_is_no_cue_for_outliers():
    """In the OE paper's code ID kept its capitals and outliers had lost theirs, so an unknown word told them apart."""
    inside = [f"Where is {name} ?" for name in ("Paris", "Rome", "Oslo")]
    outside = [text.lower() for text in inside]
    gone = fitted(inside, TextChain())
    there = fitted(inside, TextChain(lower=False))
    assert (gone.numbers(inside) == gone.numbers(outside)).all()
    assert (there.numbers(outside) == 1).sum() == 6, "their words are unknown, though ID has them"
    assert not (there.numbers(inside) == 1).any()


def test_the_vocabulary_is_the_most_frequent_words_and_the_rest_are_one():
    chain = TextChain(words=2, length=5)
    tokenizer = fitted(["a a a b b c"], chain)
    assert tokenizer.numbers(["a b c d", "a a a a a a a"]).tolist() == [[2, 3, 1, 1, 0], [2, 2, 2, 2, 2]]
    assert tokenizer.numbers(["<pad> a <unk> b"]).tolist() == [[1, 1, 1, 2, 1]], "no text can end itself"
    assert tokenizer.numbers([""]).tolist() == [[1, 0, 0, 0, 0]], "nothing at all is one unknown word"
    assert fitted(["a b b"], TextChain(least=2)).names == [texts.PAD, texts.UNKNOWN, "b"]


def reader(size: int = 12) -> nets.Classifier:
    torch.manual_seed(0)
    return nets.build("gru_2_16", num_classes=3, size=size, embedding=8, vocabulary=50).eval()


def some_texts(count: int = 9, length: int = 12) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    values = torch.randint(1, 50, (count, length), generator=generator)
    ends = torch.randint(1, length + 1, (count,), generator=generator)
    return values.masked_fill(torch.arange(length) >= ends[:, None], 0).int()


def test_the_network_is_torchs_gru_at_the_last_word():
    net, x = reader(), some_texts()
    reference = torch.nn.GRU(8, 16, 2, batch_first=True)
    with torch.no_grad():
        for layer in range(2):
            for kind, module in (("ih", net.backbone.inputs[layer]), ("hh", net.backbone.states[layer])):
                getattr(reference, f"weight_{kind}_l{layer}").copy_(module.weight)
                getattr(reference, f"bias_{kind}_l{layer}").copy_(module.bias)
        for row, found in zip(x, net.features(x), strict=True):
            alone = row[row != 0][None]
            assert torch.allclose(reference(net.backbone.words(alone))[1][-1, 0], found, atol=1e-6)
        assert torch.allclose(net.train().features(x[:, :12]), net.eval().features(x), atol=1e-6), "training cuts, and reads the same"
        assert torch.allclose(net.double().features(x).float(), net.float().features(x), atol=1e-6)
        whole = net.features(x)
        for other in x:
            company = other.expand(9, -1).clone()
            company[4] = x[4]
            assert torch.equal(net.features(company)[4], whole[4]), "to the bit, in whatever company"


def test_masks_cover_the_linear_layers_of_a_gru_and_not_its_words():
    net, x = reader(), some_texts()
    names = {f"{name}.weight" for name, _ in masks.maskable(net)}
    assert names == {f"backbone.{kind}.{layer}.weight" for kind in ("inputs", "states") for layer in (0, 1)} | {"fc.weight"}
    drawn = masks.random_masks(net, 0.5, torch.Generator().manual_seed(0))
    state = net.state_dict()
    for name in drawn:
        masked = functional_call(net, {name: state[name] * drawn[name]}, (x,))
        assert not torch.allclose(masked, net(x)), f"{name}: a mask must be seen in what comes out"
    learned = masks.learn_masks(reader(), 0.5, torch.Generator().manual_seed(0))
    learned(x).sum().backward()
    scores = [p for name, p in learned.named_parameters() if name.endswith("scores")]
    assert len(scores) == 5
    assert all(p.grad.abs().sum() > 0 for p in scores)


def test_sources_say_what_is_wrong(tmp_path):
    chain, rng = TextChain(), np.random.default_rng(0)

    def file(text: str | bytes) -> Path:
        path = tmp_path / "texts"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def said(source) -> str:
        with pytest.raises(InputError) as error:
            sources.load(source, chain, rng)
        return str(error.value)

    assert "no such file" in said(Tsv(source="tsv", path=tmp_path / "none"))
    assert "line 2: no label before a tab" in said(Tsv(source="tsv", path=file("a\tone\njust words\n")))
    assert "not in UTF-8 (invalid start byte at byte 2)" in said(Lines(source="lines", path=file(b"ab\xff")))
    assert "no text in it" in said(Lines(source="lines", path=file("\n \n")))
    assert "no text of class 'c'. It has: a" in said(Tsv(source="tsv", path=file("a\tone\n"), classes=["c"]))
    assert "no such folder" in said(Documents(source="documents", path=tmp_path / "none"))


def test_sources_are_read_as_they_are(tmp_path):
    chain, rng = TextChain(), np.random.default_rng(0)
    path = tmp_path / "x.tsv"
    path.write_bytes('\ufeffb\t"one" two\u2028three\r\na\tx\ty\n\nb\t \n'.encode())
    found = sources.load(Tsv(source="tsv", path=path), chain, rng)
    assert found.images.texts == ['"one" two\u2028three', "x\ty"], "no quoting, and only a line feed ends a line"
    assert (found.classes, found.labels.tolist(), found.names) == (["a", "b"], [1, 0], ["x.tsv:1", "x.tsv:2"])
    assert found.skipped == {"without text": 1}
    for name in ("b/1.txt", "a/2.txt", "a/deep/3.TXT", "a/no.pdf"):
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_text(f"of\n {name}")
    found = sources.load(Documents(source="documents", path=tmp_path / "folder"), chain, rng)
    assert found.images.texts == ["of a/2.txt", "of a/deep/3.TXT", "of b/1.txt"]
    assert (found.classes, found.skipped) == (["a", "b"], {"not .txt": 1})
    even = sources.load(Tsv(source="tsv", path=_many(tmp_path), limit=4), chain, rng)
    assert np.bincount(even.labels).tolist() == [2, 2]


def _many(folder: Path) -> Path:
    path = folder / "many.tsv"
    path.write_text("".join(f"a\tnumber {i}\n" for i in range(9)) + "b\tone\nb\ttwo\n")
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Workspace:
    """A workspace after every stage; don't write into it."""
    workspace = Workspace(tmp_path_factory.mktemp("text"), TEXT)
    corpus.write(workspace.path / "corpus")
    for command in (
        *(
            "check",
            "prepare",
            "pretrain ce",
            "pretrain scratch",
            "trace ce",
            "epoch stopped",
            "mask um",
            "um um",
            "um control",
            "umap umap",
        ),
        *("diffusion", "align", "proofs", "oe oe", "oe no-outliers"),
        *(f"features {model}" for model in TEXT["models"]),
        *("evaluate", "calibrate", "export", "report"),
    ):
        workspace.stage(command)
    return workspace


def test_prepared_texts_are_numbers_and_are_still_there(made):
    folder = made.path / "data/prepared"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["id/train"]["classes"].keys() == set(corpus.CLASSES)
    values = np.load(folder / "id/train.npy")
    assert (values.dtype, values.shape) == (np.int32, (manifest["id/train"]["count"], 24))
    info = json.loads((folder / "id/info.json").read_text())
    assert info["side"] == 24
    assert values.max() < info["vocabulary"] <= 2002
    own = json.loads((folder / "id/train.texts.json").read_text())
    words, chain = texts.Words.read((folder / "id/tokenizer.json").read_bytes(), 24), TextChain(length=24, words=2000)
    assert (words.numbers(own) == values).all()
    assert words.names == fitted(own, chain).names, "from training alone"
    assert words.count == info["vocabulary"]


def test_no_text_plays_two_roles(tmp_path):
    workspace = Workspace(tmp_path, TEXT | {"data.duplicates": "error"})
    corpus.write(tmp_path / "corpus")
    held = (tmp_path / "corpus/id.tsv").read_text().splitlines()[0].partition("\t")[2]
    with (tmp_path / "corpus/topics.txt").open("a") as stream:
        stream.write(f"{held.upper()} \n")
    said = workspace.stage("prepare", check=False)
    assert said.returncode
    assert "topics.txt:" in said.stderr
    assert "no text may play two roles" in said.stderr


def test_calibration_texts_may_come_from_where_the_detector_will_be(tmp_path):
    own = {"data.id.calibration": {"source": "tsv", "path": "corpus/mine.tsv"}, "data.id.split": {"train": 0.6, "val": 0.2, "test": 0.2}}
    workspace = Workspace(tmp_path, TEXT | own)
    corpus.write(tmp_path / "corpus")
    rows = (tmp_path / "corpus/id.tsv").read_text().splitlines()
    (tmp_path / "corpus/mine.tsv").write_text("\n".join(rows[::5]) + "\n")
    (tmp_path / "corpus/id.tsv").write_text("\n".join(row for i, row in enumerate(rows) if i % 5) + "\n")
    workspace.stage("check")
    workspace.stage("prepare")
    manifest = json.loads((tmp_path / "data/prepared/manifest.json").read_text())
    assert manifest["calibration/id"]["source"]["path"] == "corpus/mine.tsv"
    assert manifest["id/train"]["source"]["path"] == "corpus/id.tsv"
    assert manifest["calibration/id"]["count"] == len(rows[::5])
    without = Workspace(tmp_path, TEXT | own | {"data.id.calibration": None})
    said = without.stage("check", check=False)
    assert said.returncode
    assert "data.id.split.calibration: 0, but a detector's threshold rests on" in said.stderr


def test_every_figure_is_there_and_reading_was_learned(made):
    found = json.loads((made.path / "metrics/ce.json").read_text())
    assert found["id"]["test"]["accuracy"] > 0.6, "of three classes of sentences"
    for model in TEXT["models"]:
        assert np.isfinite(json.loads((made.path / f"metrics/{model}.json").read_text())["own"]["near"]["auroc"])
    exposed, control = (json.loads((made.path / f"metrics/{model}.json").read_text())["own"] for model in ("oe", "no-outliers"))
    assert exposed["far"]["auroc"] > control["far"]["auroc"] + 0.05, "outliers of another kind than those that were trained with"
    report = re.sub(r"<blockquote.*?</blockquote>", "", (made.path / "metrics/report.html").read_text(), flags=re.S)
    assert "training texts" in report
    assert not re.search(
        r"\bimages\b", re.sub(r"<pre.*?</pre>|<code.*?</code>|<script.*?</script>|<style.*?</style>", "", report, flags=re.S)
    )
    for picture in ("sets", "atypical-um", "overview"):
        assert (made.path / f"metrics/pictures/{picture}.png").stat().st_size > 2000


def test_a_detector_answers_texts_as_it_was_calibrated(made):
    detector = Detector.load(made.path / "data/detector")
    own = json.loads((made.path / "data/prepared/id/test.texts.json").read_text())
    verdicts = detector.predict(own)
    assert [verdict.error for verdict in verdicts] == [None] * len(own)
    labels = np.load(made.path / "data/prepared/id/test.labels.npy")
    assert np.mean([verdict.label == detector.classes[label] for verdict, label in zip(verdicts, labels, strict=True)]) > 0.5
    alone = detector.predict(own[3])
    assert (alone.score, alone.probability) == (verdicts[3].score, verdicts[3].probability), "the same in whatever company, to the bit"
    assert next(detector.predict(iter(own))).score == verdicts[0].score
    assert "known texts" in detector.promise
    shouted = detector.predict(own[3].upper())
    assert shouted.score == alone.score
    wrong = detector.predict(["fine words", "", 3, Path("x.txt"), "\ud800 half a character", "  ", "<br />", "&nbsp;"])
    assert [verdict.error is None for verdict in wrong] == [True, False, False, False, True, False, False, False]
    card = (made.path / "data/detector/README.md").read_text()
    assert "image" not in card.replace("image-", "")
    assert "picture" not in card
    with pytest.raises(InputError, match="a path: no text"):
        detector.predict(Path("x.txt"))
    assert detector.predict([]) == []


def test_the_command_reads_texts_and_lines(made):
    said = made.run("python", "-m", "stages", "predict", "--json", "Round to the nearest integer.", "zzz qqq vvv", check=False)
    rows = [json.loads(line) for line in said.stdout.splitlines()]
    assert [row["name"] for row in rows] == ["Round to the nearest integer.", "zzz qqq vvv"]
    assert said.returncode in (0, 1)
    command, given = [PYTHON, "-m", "stages", "predict", "--json", "-"], "one\n\nthree\n"
    lines = subprocess.run(command, cwd=made.path, env=made.cold, input=given, capture_output=True, text=True, check=False)
    assert [json.loads(line)["error"] for line in lines.stdout.splitlines()] == [None, "an empty text.", None], "a verdict for every line"
    said = made.run("python", "-m", "stages", "predict", "--explain", "why", "some words", check=False)
    assert said.returncode == 2
    assert "this detector reads texts" in said.stderr
    said = made.run("python", "-m", "stages", "export", "--onnx", "x.onnx", check=False)
    assert "this detector reads texts" in said.stderr


def test_a_detector_whose_words_were_changed_is_refused(made, tmp_path):
    folder = shutil.copytree(made.path / "data/detector", tmp_path / "detector")
    written = json.loads((folder / "tokenizer.json").read_text())
    words = written["model"]["vocab"]
    fewer = {word: number for word, number in words.items() if number < len(words) - 1}
    shifted = {word: number + 1 for word, number in words.items()}
    wrong = [
        written | {"model": written["model"] | {"vocab": vocabulary}} for vocabulary in (fewer, shifted, words | {"x": len(words)}, {})
    ]
    for changed in (*wrong, {"a": 1}, "x", []):
        (folder / "tokenizer.json").write_text(json.dumps(changed))
        with pytest.raises(InputError, match="is not what was written there"):
            Detector.load(folder)
        config = json.loads((folder / "config.json").read_text())
        config["files"]["tokenizer.json"] = sha256(folder / "tokenizer.json")
        config["sha256"] = bundle._digest(config)
        (folder / "config.json").write_text(bundle._text(config))
        with pytest.raises(InputError, match=r"is no tokenizer|isn't the tokenizer of this detector's networks"):
            Detector.load(folder)


def test_a_word_that_tells_everything_is_named(tmp_path):
    workspace = Workspace(tmp_path, TEXT)
    corpus.write(tmp_path / "corpus")
    rows = (tmp_path / "corpus/id.tsv").read_text().splitlines()
    corpus.lines(tmp_path / "corpus/id.tsv", [row.replace("\t", "\tgnu ") for row in rows])
    said = workspace.stage("prepare")
    told = next(line for line in said.stderr.splitlines() + said.stdout.splitlines() if "'gnu' stands in 100.0% of id/val" in line)
    assert "in 0.0% of auxiliary" in told
    assert "AUROC 100.0%" in told
    assert cues.found(tmp_path / "data/prepared").keys() == {"auxiliary", "validation"}
    assert not [line for line in said.stderr.splitlines() + said.stdout.splitlines() if "length tells" in line]


def test_a_length_that_tells_everything_is_named(tmp_path):
    workspace = Workspace(tmp_path, TEXT)
    corpus.write(tmp_path / "corpus")
    rows = (tmp_path / "corpus/id.tsv").read_text().splitlines()
    corpus.lines(tmp_path / "corpus/id.tsv", [f"{row} {' '.join(row.split()[1:] * 3)}" for row in rows])
    said = workspace.stage("prepare")
    told = [line for line in said.stderr.splitlines() + said.stdout.splitlines() if "length tells" in line]
    assert len(told) == 2
    inside = packed.arrays("id/test", tmp_path / "data/prepared")[0]
    tests = [name for role in ("near", "far") for name in packed.names(role, tmp_path / "data/prepared")]
    outside = [packed.arrays(name, tmp_path / "data/prepared")[0] for name in tests]
    aurocs = []
    for found in outside:
        read = (np.concatenate([found, inside]) > 0).sum(1)
        aurocs.append(roc_auc_score(np.repeat([0, 1], [len(found), len(inside)]), read))
    assert f"AUROC {np.mean(aurocs):.1%}" in told[0]


REFUSED = [
    ({"augment": {"pad": 2}}, "augment: texts are neither cropped nor mirrored"),
    ({"oe.training": {"epochs": 1, "batch_size": 8, "lr": 0.1, "strong": {"mixup": 0.2}}}, "oe.training.strong: texts are neither mixed"),
    ({"diffusion.enabled": True}, "DREAM-OOD paints images"),
    ({"features.odin": {"temperature": 1.0, "epsilon": 0.1}}, "words can't be moved"),
    ({"detector.thumbnails": 9}, "there are none of texts"),
    ({"runtime.precision": "bf16"}, "was never tried with texts"),
    ({"runtime.compile": True}, "would be compiled anew"),
    ({"pretrain.runs": {"ce": {"weights": "x.pt"}, "scratch": {"epochs": 0}}}, "finished classifiers of texts aren't taken"),
    ({"net": {"name": "gru_2_16", "weights": "x.pt"}}, "net.weights: gru_2_16 can't begin with a file of weights"),
    ({"look.runs": {"x": {"path": "images"}}}, "looks at folders of pictures"),
    ({"net": {"name": "wrn_10_1"}}, "wrn_10_1 takes images, and data.kind is text (data.kind)"),
    ({"pretrain.runs": {"ce": {"strong": {"pixmix": {}}}}}, "pretrain.runs.ce.strong: texts are neither mixed"),
    ({"data.kind": "images"}, "source tsv, but data.kind is images"),
    ({"data.near": {"x": {"source": "digits", "classes": [8]}}}, "near.x: source digits, but data.kind is text"),
    ({"data.corrupted": {"s": {"source": "corruption", "kind": "speckle"}}}, "corrupted: there are no such sets of texts"),
    ({"data.stream": True}, "stream: texts are small"),
    ({"data.id.label_noise": {"share": 0.1, "kind": "confusable"}}, "pairs must say"),
    ({"data.far": {"x": {"source": "lines", "path": "corpus/none.txt"}}}, "data.far.x.path: corpus/none.txt: no such file"),
    ({"data.id.images": {"source": "tsv", "path": "corpus/id.tsv", "classes": ["drawing"]}}, "at least two"),
    ({"data.min_per_class": 100}, "has 150 images"),
    ({"net": {"name": "gru_0_16"}}, "1 to 16 layers"),
    ({"net": {"name": "gru_2_16", "dropout": 0.1}}, "has no option dropout"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("refused")
    corpus.write(path / "corpus")
    return path


@pytest.mark.parametrize(("changes", "words"), REFUSED)
def test_what_makes_no_sense_for_texts_is_refused_before_anything_is_touched(place, changes, words):
    said = Workspace(place, TEXT | changes).stage("check", check=False)
    assert said.returncode
    assert words in said.stderr
    assert "Traceback" not in said.stderr
    assert not (place / "data/prepared").exists()


def test_a_net_that_reads_is_refused_for_images(workspace):
    workspace.set({"net.name": "gru_2_16"})
    assert "gru_2_16 takes texts, and data.kind is images" in workspace.stage("check", check=False).stderr


def test_reports_say_text_and_leave_names_alone():
    said = "An image of `image-1` and of near/image-captions (data.id.images), a picture, sound; Imagery"
    block = Fold("Images", [Text(said), Table(["images", "image sound"], [["image"]]), Gallery("Test images", [])])
    other = "A text of `image-1` and of near/image-captions (data.id.images), a text, sound; Imagery"
    assert block_of_texts(block, ["image sound"]) == Fold(
        "Texts", [Text(other), Table(["texts", "image sound"], [["image"]]), Gallery("Test texts", [])]
    )


def test_whatever_is_handed_over_is_a_text_or_said_to_be_none():
    given = Sentences(fitted(["a b"], TextChain()))
    assert [one.source for one in given.each(("a", "b"))] == ["a", "b"]
    for wrong in (b"bytes", {"a": 1}, 3, None):
        with pytest.raises(InputError, match="no text"):
            list(given.each(wrong))


def test_the_pages_example_is_valid_in_the_recipes_place(tmp_path):
    page = (ROOT / "docs/text.md").read_text(encoding="utf-8")
    example = parse("\n".join(line[4:] for line in next(part for part in page.split("\n\n") if part.startswith("    data:")).splitlines()))
    params = deepcopy(parse(recipes.apply((ROOT / "params.yaml").read_text(encoding="utf-8"), recipes.overlay("trec"), "trec")))
    params["data"] |= example["data"] | {"id": {"label_noise": params["data"]["id"]["label_noise"]} | example["data"]["id"]}
    (tmp_path / "params.yaml").write_text(json.dumps(params))
    check(Params(tmp_path / "params.yaml"))


@pytest.mark.parametrize(
    "path", [*sorted((ROOT / "recipes").rglob("*.yaml")), *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name
)
def test_nothing_is_left_to_fill_in(path):
    assert "@@" not in path.read_text(encoding="utf-8").replace("@-@", "")
