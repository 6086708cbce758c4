"""Encoders of transformers: what they see is their library's own, they need their folder only once, and every stage runs on one."""

import json
import shutil
from pathlib import Path

import corpus
import huggingface_hub
import numpy as np
import pytest
import torch
from conftest import Workspace
from safetensors.torch import load_file, save_file
from torch.func import functional_call
from transformers import AutoConfig, AutoModel, DistilBertConfig, PreTrainedTokenizerFast, RobertaConfig, ViTConfig

from ood import Detector
from ood.config import Params, basis
from ood.config.nets import Net
from ood.config.text import TextChain
from ood.data import packed
from ood.data.texts import Words
from ood.errors import InputError
from ood.nets import build, store, transformer, weights
from ood.nets.layers import Dropout
from ood.unmask import masks

SOME = ["What is the length of a line?", "Draw a circle, then another one.", "assert nothing", "It's a [SEP] mark"]
CLASSES = ["a", "b", "c"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """An encoder's; don't write into it."""
    return corpus.encoder(tmp_path_factory.mktemp("encoder") / "bert", SOME * 3)


def words(folder: Path, **chain: object) -> Words:
    return Words.given(TextChain(tokenizer=str(folder), length=20, **chain))


def net_of(folder: Path, **options: object) -> Net:
    return Net(name=f"transformers/{folder}", weights="published", **options)


def filled(folder: Path, **options: object):
    """The encoder under a fresh head, in eval mode, and its Spec."""
    net = net_of(folder, **options)
    spec = store.spec_for(net, packed.Info(CLASSES, 20, [], [], words(folder).count), False)
    torch.manual_seed(1)
    classifier = spec.build()
    weights.fill(classifier, net, "published", whole=False, classes=CLASSES)
    return classifier.eval(), spec


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_features_are_the_librarys_states_pooled(folder, pooling):
    net, _ = filled(folder, pooling=pooling)
    theirs = AutoModel.from_pretrained(folder).eval()
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    numbers = torch.from_numpy(words(folder, lower=False, conventions="keep").numbers(SOME[:3]))
    with torch.no_grad():
        found = net.features(numbers)
        for text, features in zip(SOME, found, strict=False):
            ids = torch.tensor([tokenizer.encode(text)])  # alone, without a word behind its end
            states = theirs(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
            assert torch.allclose(features, states.mean(0) if pooling == "mean" else states[0], atol=1e-5)
        assert not torch.allclose(found[0], found[1], atol=1e-2)


def test_training_reads_no_more_than_a_batch_has(folder):
    """And its dropout is ours, which draws for the global batch."""
    net, spec = filled(folder)
    numbers = torch.from_numpy(words(folder).numbers(SOME))
    seen: list[int] = []
    net.backbone.net.register_forward_pre_hook(lambda _m, _a, given: seen.append(given["input_ids"].shape[1]), with_kwargs=True)
    net.features(numbers)
    net.train().features(numbers)
    assert seen == [20, int((numbers != 0).sum(1).max())]
    assert 0.1 in {layer.p for layer in net.modules() if isinstance(layer, Dropout)}
    assert not any(isinstance(layer, torch.nn.Dropout) for layer in net.modules())
    still = store.Spec(**{**spec.__dict__, "config": spec.config | {"hidden_dropout_prob": 0.0}}).build()
    still.load_state_dict(net.state_dict())
    with torch.no_grad():
        assert torch.allclose(still.train().features(numbers), net.eval().features(numbers), atol=1e-5), "attention has none either"


def test_words_are_the_tokenizers_own_but_for_marks_inside_a_text(folder):
    own = words(folder)
    marks = [own.names.index(mark) for mark in ("[CLS]", "[SEP]")]
    first, _, _, tricky = own.numbers(SOME)
    assert (first[0], first[first != 0][-1]) == tuple(marks)
    assert (tricky == marks[1]).sum() == 1, "what looks like a mark is only text"
    assert own.numbers(["x " * 50])[0, -1] == marks[1], "cut texts end with their mark, too"
    assert own.numbers([""])[0].tolist()[:3] == [*marks, 0]
    assert not own.has_any(" ")
    assert own.has_any("x")
    assert own.unknown == own.names.index("[UNK]")
    assert own.count == len(own.names) == int(max(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"].values())) + 2


def test_the_chain_comes_before_the_tokenizer(folder):
    plain, undone = words(folder).numbers(["A line -LRB- drawn -RRB-", "a line (drawn)"])
    assert plain.tolist() == undone.tolist()
    kept = words(folder, conventions="keep").numbers(["A line -LRB- drawn -RRB-", "a line (drawn)"])
    assert kept[0].tolist() != kept[1].tolist()
    marked, bare = words(folder, punctuation="drop").numbers(["Draw, then: a line?!", "draw then a line"])
    assert marked.tolist() == bare.tolist()


def test_a_model_needs_its_encoders_folder_no_more(folder, tmp_path):
    moved = shutil.copytree(folder, tmp_path / "bert")
    net, spec = filled(moved)
    numbers = torch.from_numpy(words(moved).numbers(SOME))
    store.save(tmp_path / "model", {"model": net.state_dict()}, spec)
    shutil.rmtree(moved)
    again, read = store.load(tmp_path / "model")
    with torch.no_grad():
        assert torch.equal(again.features(numbers), net.features(numbers))
    assert read.config == spec.config
    assert not any(str(tmp_path) in str(value) for value in spec.config.values()), "no paths in a model"
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in read.build().state_dict().items()}
    assert shapes == {name: value.shape for name, value in net.state_dict().items()}


def test_weights_that_others_replace_are_not_drawn(folder):
    _, spec = filled(folder)
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    transformer.backbone(
        spec.net["name"].partition("/")[2], size=20, vocabulary=spec.vocabulary, pooling="mean", dropout=0.0, config=spec.config, blank=True
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    first, second = (spec.build().state_dict() for _ in range(2))
    name = "backbone.net.encoder.layer.0.output.dense.weight"
    assert not torch.equal(first[name], second[name])
    assert first[name].std() == pytest.approx(0.3, rel=0.2), "its library's own first weights"


@pytest.mark.parametrize("kind", [DistilBertConfig, RobertaConfig])
def test_other_encoders_are_read_as_well(kind, tmp_path):
    """RoBERTa counts places from its number for padding."""
    torch.manual_seed(0)
    sizes = {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32} if kind is DistilBertConfig else {
        "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
    }  # fmt: skip
    theirs = AutoModel.from_config(kind(vocab_size=60, max_position_embeddings=40, **sizes)).eval()
    theirs.save_pretrained(tmp_path / "net")
    net = net_of(tmp_path / "net")
    classifier = build(net, num_classes=3, size=20, vocabulary=61)
    weights.fill(classifier, net, "published", whole=False, classes=CLASSES)
    ids = torch.tensor([[4, 9, 11, 5]])
    with torch.no_grad():
        found = classifier.eval().features(torch.nn.functional.pad(ids + 1, (0, 16)).int())
        assert torch.allclose(found[0], theirs(input_ids=ids).last_hidden_state[0].mean(0), atol=1e-5)


def test_masks_cover_its_linear_layers_and_not_its_words(folder):
    net, _ = filled(folder)
    names = [f"{name}.weight" for name, _ in masks.maskable(net)]
    assert len(names) == 2 * 6 + 1, "query, key, value, output and two more in each layer, and the head"
    assert not any("embeddings" in name for name in names)
    numbers, state = torch.from_numpy(words(folder).numbers(SOME)), net.state_dict()
    drawn = masks.random_masks(net, 0.5, torch.Generator().manual_seed(0))
    for name in names:
        masked = functional_call(net, {name: state[name] * drawn[name]}, (numbers,))
        assert not torch.allclose(masked, net(numbers), atol=1e-7), f"{name}: a mask must be seen in what comes out"


def test_what_is_given_must_fit(folder, tmp_path, monkeypatch):
    def refused(said: str, name: object = folder, **changes: object) -> None:
        with pytest.raises(InputError, match=said):
            build(net_of(Path(str(name))), num_classes=3, **{"size": 20, "vocabulary": words(folder).count} | changes)

    refused("can't be built for texts of 50 words", size=50)
    refused(r"has 9,999 words, transformers/.* Give the one that belongs to it", vocabulary=10_000)
    refused("has no config.json", tmp_path)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/config.json").write_text("{")
    refused("can't be had", tmp_path / "broken")
    (tmp_path / "broken/config.json").write_text('{"model_type": "nobody"}')
    refused("can't be had", tmp_path / "broken")
    seeing = tmp_path / "seeing"
    ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1).save_pretrained(seeing)
    refused("can't be built", seeing)
    code = json.loads((folder / "config.json").read_text()) | {"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}
    (tmp_path / "broken/config.json").write_text(json.dumps(code))
    (tmp_path / "broken/own.py").write_text("raise SystemExit('its code ran')")
    refused("can't be had", tmp_path / "broken")

    partial = shutil.copytree(folder, tmp_path / "partial")
    state = load_file(partial / "model.safetensors")
    save_file({k: v for k, v in state.items() if "layer.1" not in k}, partial / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="are nowhere"):
        transformer.published(str(partial))
    (partial / "model.safetensors").unlink()
    with pytest.raises(InputError, match="can't be had"):
        transformer.published(str(partial))

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(AutoConfig, "from_pretrained", unreachable)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    with pytest.raises(InputError, match=r"data.text.tokenizer: some/one: can't be read \(no route to host\)"):
        words(Path("some/one"))
    refused(r"some/one: can't be had \(no route to host\)", "some/one")


def test_another_tokenizer_or_other_weights_are_another_start(folder, tmp_path):
    own = shutil.copytree(folder, tmp_path / "bert")
    workspace = Workspace(tmp_path, settings(own))
    before = basis.bases(Params(workspace.path / "params.yaml"))

    def changed() -> set[str]:
        nonlocal before
        after = basis.bases(Params(workspace.path / "params.yaml"))
        found = {stage for stage in after if after[stage] != before[stage]}
        before = after
        return found

    (own / "model.safetensors").write_bytes((own / "model.safetensors").read_bytes() + b" ")
    assert changed() == {"pretrain@ce", "pretrain@tuned", "align"}
    (own / "tokenizer.json").write_text((own / "tokenizer.json").read_text() + " ")
    assert "prepare" in changed()


def settings(folder: Path) -> dict:
    """The small corpus on an encoder: a head alone, all of it tuned, and what starts from the head."""
    frozen = {"epochs": 20, "batch_size": 16, "lr": 0.1, "freeze": "backbone"}
    return corpus.TEXT | {
        "data.text": {"length": 24, "tokenizer": str(folder)},
        "net": {"name": f"transformers/{folder}", "weights": "published"},
        "pretrain.training": frozen,
        "pretrain.runs": {"ce": {}, "tuned": {"freeze": "none", "epochs": 1, "lr": 0.001, "optimizer": "adamw", "weight_decay": 0.0}},
        "trace.runs": {},
        "mask.layers": "head",
        "um.training": frozen,
        "umap.training": frozen,
        "oe.training": frozen,
        "models": {"ce": "knn", "tuned": "msp", "um": "energy", "control": "energy", "umap": "energy", "oe": "msp", "no-outliers": "msp"},
    }


@pytest.mark.slow
def test_every_stage_runs_on_an_encoder_and_its_detector_needs_none(tmp_path):
    corpus.write(tmp_path / "corpus")
    own = corpus.encoder(tmp_path / "bert", [row.partition("\t")[2] for row in (tmp_path / "corpus/id.tsv").read_text().splitlines()])
    workspace = Workspace(tmp_path, settings(Path("bert")))
    for command in (
        *(
            "check",
            "prepare",
            "pretrain ce",
            "pretrain tuned",
            "mask um",
            "um um",
            "um control",
            "umap umap",
            "diffusion",
            "align",
            "proofs",
        ),
        *("oe oe", "oe no-outliers"),
        *(f"features {model}" for model in settings(own)["models"]),
        *("evaluate", "calibrate", "export", "report"),
    ):
        workspace.stage(command)
    for model in ("ce", "tuned", "oe"):
        assert np.isfinite(json.loads((tmp_path / f"metrics/{model}.json").read_text())["own"]["near"]["auroc"])
    start = load_file(own / "model.safetensors")["encoder.layer.0.output.dense.weight"]
    head, tuned = (
        load_file(tmp_path / f"data/models/{run}/0/model.safetensors")["backbone.net.encoder.layer.0.output.dense.weight"]
        for run in ("ce", "tuned")
    )
    assert torch.equal(head, start)
    assert (tuned - start).abs().max() > 1e-4
    shutil.rmtree(own)
    detector = Detector.load(tmp_path / "data/detector")
    texts = json.loads((tmp_path / "data/prepared/id/test.texts.json").read_text())
    verdicts = detector.predict(texts)
    assert [verdict.error for verdict in verdicts] == [None] * len(texts)
    assert detector.predict(texts[3]).score == verdicts[3].score, "the same in whatever company, to the bit"
    assert detector.predict(texts[3].upper()).score == verdicts[3].score
    assert [verdict.error is None for verdict in detector.predict(["fine", "  ", "<br />"])] == [True, False, False]
    config = json.loads((tmp_path / "data/detector/config.json").read_text())
    assert config["networks"][0]["config"]["model_type"] == "bert"
    assert "transformers" in config["made_with"]


REFUSED = [
    ({"data.text": {"length": 24}}, "knows its own tokenizer's words. Set data.text.tokenizer to bert"),
    ({"data.text": {"length": 24, "tokenizer": "bert", "words": 5}}, "words: a given tokenizer has a vocabulary of its own"),
    ({"data.text": {"length": 24, "tokenizer": "corpus/none.json"}}, "data.text.tokenizer: corpus/none.json: no such file"),
    ({"data.text": {"length": 24, "tokenizer": "corpus/id.tsv"}}, "data.text.tokenizer: corpus/id.tsv: can't be read"),
    ({"data.text": {"length": 24, "tokenizer": "corpus"}}, "data.text.tokenizer: corpus has no tokenizer.json"),
    ({"data.text": {"length": 2, "tokenizer": "bert"}}, "data.text.length: 2 marks at a text's ends leave no room"),
    ({"data.text": {"length": 41, "tokenizer": "bert"}}, "can't be built for texts of 41 words"),
    ({"net": {"name": "transformers/bert", "weights": "bert/model.safetensors"}}, "Set it to null, or published"),
    ({"net": {"name": "transformers/corpus", "weights": "published"}}, "corpus has no config.json"),
    ({"net": {"name": "transformers/bert", "embedding": 9}}, "has no option embedding"),
    ({"pretrain.runs": {"ce": {"weights": "bert/model.safetensors"}, "tuned": {}}}, "finished classifiers of texts aren't taken"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("refused")
    corpus.write(path / "corpus")
    corpus.encoder(path / "bert", SOME)
    return path


@pytest.mark.parametrize(("changes", "said"), REFUSED)
def test_what_does_not_fit_is_refused_before_anything_is_touched(place, changes, said):
    result = Workspace(place, settings(Path("bert")) | changes).stage("check", check=False)
    assert result.returncode
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert not (place / "data/prepared").exists()


def test_another_pooling_than_it_has_learned_with_is_said(place):
    result = Workspace(place, settings(Path("bert")) | {"net.pooling": "first"}).stage("check")
    assert "transformers/bert has learned with pooling: mean (net)" in result.stderr + result.stdout


def test_an_encoder_is_refused_for_images(workspace):
    workspace.set({"net.name": "transformers/bert"})
    assert "transformers/bert takes texts, and data.kind is images" in workspace.stage("check", check=False).stderr


@pytest.mark.slow
@pytest.mark.parametrize("reads", ["gru", "encoder"])
def test_two_processes_equal_one_on_texts(tmp_path, reads):
    """Each has a longest text of its own, an encoder draws dropout, and a last batch of one text leaves the second process without any."""
    one = Workspace(tmp_path, corpus.TEXT | {"seeds": [0], "runtime.precision": "fp64"})
    corpus.write(tmp_path / "corpus")
    if reads == "encoder":
        rows = [row.partition("\t")[2] for row in (tmp_path / "corpus/id.tsv").read_text().splitlines()]
        corpus.encoder(tmp_path / "bert", rows, hidden_dropout_prob=0.2, max_position_embeddings=99)
        one.set({"data.text": {"length": 99, "tokenizer": "bert"}, "net": {"name": "transformers/bert", "weights": "published"}})
    one.stage("prepare")
    read = np.load(tmp_path / "data/prepared/id/train.npy")
    count = len(read)
    assert reads == "gru" or read[:, -1].max() == 0, "no text may reach the end, where all would be as long"
    size = next(size for size in range(30, count) if count % size == 1)
    one.set({"pretrain.training": {"epochs": 2, "batch_size": size, "lr": 0.05, "weight_decay": 0.0}})
    two = one.copy(tmp_path / "two")
    one.stage("pretrain ce")
    two.together("pretrain ce")
    first, second = (load_file(w.path / "data/models/ce/0/model.safetensors") for w in (one, two))
    moved = max(float((first[key] - load_file(tmp_path / "bert/model.safetensors")[key.removeprefix("backbone.net.")]).abs().max())
                for key in first if "dense.weight" in key) if reads == "encoder" else 1.0  # fmt: skip
    assert moved > 1e-3, "training must have moved the weights far more than the tolerance"
    for key in first:
        assert torch.allclose(first[key].double(), second[key].double(), rtol=1e-7, atol=1e-9), key
