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
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch.func import functional_call
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast, ViTConfig

from ood import Detector
from ood.config import Params, basis
from ood.config.nets import Net
from ood.config.text import TextChain
from ood.data import packed
from ood.data.sets import ImageSet
from ood.data.texts import Words
from ood.deploy import bundle
from ood.errors import InputError
from ood.nets import build, store, transformer, weights
from ood.training.frozen import _key
from ood.unmask import masks

PANIC = r"(x|x)*[^x!]"  # on which the library gives up, and panics
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


def test_training_reads_no_more_than_a_batch_has_and_draws_nothing(folder):
    net, _ = filled(folder)
    numbers = torch.from_numpy(words(folder).numbers(SOME))
    seen: list[int] = []
    net.backbone.net.register_forward_pre_hook(lambda _m, _a, given: seen.append(given["input_ids"].shape[1]), with_kwargs=True)
    with torch.no_grad():
        assert torch.allclose(net.features(numbers), net.train().features(numbers), atol=1e-5)
    assert seen == [20, int((numbers != 0).sum(1).max())]
    assert json.loads((folder / "config.json").read_text())["hidden_dropout_prob"] == 0.1, "which its authors trained with"


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
    assert str(tmp_path) not in (tmp_path / "model/model.json").read_text(), "no paths in a model"
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in read.build().state_dict().items()}
    assert shapes == {name: value.shape for name, value in net.state_dict().items()}


def test_weights_that_others_replace_are_not_drawn(folder):
    _, spec = filled(folder)
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    transformer.backbone("bert", size=20, vocabulary=spec.vocabulary, pooling="mean", dropout=0.0, config=spec.config, blank=True)
    assert torch.equal(torch.random.get_rng_state(), before)
    first, second = (spec.build().state_dict() for _ in range(2))
    name = "backbone.net.encoder.layer.0.output.dense.weight"
    assert not torch.equal(first[name], second[name])
    assert first[name].std() == pytest.approx(0.3, rel=0.2), "its library's own first weights"


@pytest.mark.parametrize("kind", transformer.ENCODERS)
def test_every_kind_is_read_as_its_library_reads_a_text_alone(kind, tmp_path):
    """RoBERTa, for one, counts places from its number for padding. And no tensor of theirs stands for two."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 40}
    sizes |= {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32} if kind == "distilbert" else {}
    sizes |= {"embedding_size": 16} if kind in ("albert", "electra") else {}
    marks = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2, "mask_token_id": 3}
    sizes |= marks if kind in ("modernbert", "eurobert") else {}
    torch.manual_seed(0)
    theirs = AutoModel.from_config(AutoConfig.for_model(kind, vocab_size=60, **sizes)).eval()
    theirs.save_pretrained(tmp_path / "net")
    net = net_of(tmp_path / "net")
    spec = store.spec_for(net, packed.Info(CLASSES, 20, [], [], 61), False)
    classifier = spec.build()
    weights.fill(classifier, net, "published", whole=False, classes=CLASSES)
    ids = torch.tensor([[4, 9, 11, 5]])
    padded = torch.nn.functional.pad(ids + 1, (0, 16)).int()
    with torch.no_grad():
        found = classifier.eval().features(padded)
        assert torch.allclose(found[0], theirs(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0].mean(0), atol=1e-5)
        assert torch.allclose(classifier.train().features(padded), found, atol=1e-5)
    store.save(tmp_path / "model", {"model": classifier.state_dict()}, spec)
    shutil.rmtree(tmp_path / "net")
    with torch.no_grad():
        assert torch.equal(store.load(tmp_path / "model")[0].features(padded), found)
    assert len(list(masks.maskable(classifier))) > 7


def bytewise() -> Tokenizer:
    found = Tokenizer(models.BPE())
    found.pre_tokenizer = pre_tokenizers.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    found.train_from_iterator(SOME * 3, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False))
    return found


def unigram() -> Tokenizer:
    found = Tokenizer(models.Unigram())
    found.normalizer = normalizers.Replace(" ", "▁")  # as SentencePiece writes blanks
    marks = ["<s>", "<unk>"]
    found.train_from_iterator(
        SOME * 3, trainers.UnigramTrainer(vocab_size=60, special_tokens=marks, unk_token="<unk>", show_progress=False)
    )
    return found


@pytest.mark.parametrize(("made", "unknown"), [(bytewise, None), (unigram, "<unk>")])
def test_other_tokenizers_know_what_they_do_not_know(made, unknown, tmp_path):
    made().save(str(tmp_path / "tokenizer.json"))
    own = words(tmp_path, lower=False)
    assert own.unknown == (None if unknown is None else own.names.index(unknown))
    assert own.has_any("Draw")
    assert not any(own.has_any(text) for text in ("", "  ", "<br />", "&nbsp;"))
    assert own.numbers(["Draw a line"]).max() < own.count
    assert own.numbers([""]).tolist() == [[own.unknown or 1] + [0] * 19]
    assert own.knows_capitals


def test_a_tokenizer_that_draws_or_cannot_read_is_none(tmp_path):
    written = json.loads(bytewise().to_str())
    (tmp_path / "tokenizer.json").write_text(json.dumps(written | {"model": written["model"] | {"dropout": 0.9}}))
    assert len({words(tmp_path).numbers(["what is the length of a line"]).tobytes() for _ in range(9)}) == 1
    lacking = json.loads(unigram().to_str())
    (tmp_path / "tokenizer.json").write_text(json.dumps(lacking | {"model": lacking["model"] | {"unk_id": None}}))
    with pytest.raises(InputError, match="Take another"):
        words(tmp_path)
    beyond = {"single": [{"SpecialToken": {"id": "[X]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": []}
    marks = {"type": "TemplateProcessing", **beyond, "special_tokens": {"[X]": {"id": "[X]", "ids": [5000], "tokens": ["[X]"]}}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(written | {"post_processor": marks}))
    with pytest.raises(InputError, match="none of its words"):
        words(tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps(written | {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}}))
    with pytest.raises(InputError, match="can't be read"):
        words(tmp_path)
    huge = {"type": "WordLevel", "vocab": {"a": 3 * 10**9, "[UNK]": 0}, "unk_token": "[UNK]"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(written | {"model": huge}))
    with pytest.raises(InputError, match="10,000,000 are allowed"):
        words(tmp_path)
    (tmp_path / "tokenizer.json").write_text(
        json.dumps(written | {"normalizer": {"type": "Replace", "pattern": {"Regex": PANIC}, "content": ""}})
    )
    with pytest.raises(ValueError, match="limit"):
        words(tmp_path).has_any("x" * 60 + "!")


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


def test_a_classifier_of_others_on_it_is_no_encoder(folder, tmp_path):
    """Its head isn't quietly left out: weights from a file must be the encoder's and nothing else."""
    classifier, path = filled(folder)[0], tmp_path / "classifier.safetensors"
    save_file(transformer.published(str(folder)) | {"classifier.weight": torch.zeros(3, 8)}, path)
    fresh = build(net_of(folder), num_classes=len(CLASSES), size=20, vocabulary=words(folder).count)
    with pytest.raises(InputError, match="weights of another network"):
        weights.fill(fresh, net_of(folder), str(path), whole=False, classes=CLASSES)
    save_file(transformer.published(str(folder)), path)
    weights.fill(fresh, net_of(folder), str(path), whole=False, classes=CLASSES)
    assert all(torch.equal(a, b) for a, b in zip(fresh.backbone.parameters(), classifier.backbone.parameters(), strict=True))


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
    refused("is of the kind vit. Known as encoders: albert", seeing)
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
    tuned = {"freeze": "none", "epochs": 1, "lr": 0.001, "optimizer": "adamw", "weight_decay": 0.0}
    return corpus.TEXT | {
        "data.text": {"length": 24, "tokenizer": str(folder)},
        "net": {"name": f"transformers/{folder}", "weights": "published"},
        "pretrain.training": frozen,
        "pretrain.runs": {"ce": {}, "tuned": tuned},
        "trace.runs": {},
        "mask.layers": "head",
        "mask.runs": {"um": {"init": "ce", "epochs": 1}, "um-all": {"init": "tuned", "layers": "all"}},
        "um.training": frozen,
        "um.runs": corpus.TEXT["um.runs"] | {"um-tuned": {"init": "tuned", "constraint": "um-all"} | tuned},
        "umap.training": frozen,
        "umap.runs": corpus.TEXT["umap.runs"] | {"umap-tuned": {"init": "tuned", "constraint": "um-all"} | tuned},
        "oe.training": frozen,
        "oe.runs": corpus.TEXT["oe.runs"] | {"oe-tuned": corpus.TEXT["oe.runs"]["oe"] | {"init": "tuned"} | tuned},
        "models": {
            "ce": "knn",
            "tuned": "msp",
            "um": "energy",
            "control": "energy",
            "umap": "energy",
            "umap-tuned": "energy",
            "oe-tuned": "msp",
            "oe": "msp",
            "no-outliers": "msp",
        },
    }


@pytest.mark.slow
def test_every_stage_runs_on_an_encoder_and_its_detector_needs_none(tmp_path):
    corpus.write(tmp_path / "corpus")
    own = corpus.encoder(tmp_path / "bert", [row.partition("\t")[2] for row in (tmp_path / "corpus/id.tsv").read_text().splitlines()])
    workspace = Workspace(tmp_path, settings(Path("bert")))
    own_runs = settings(own)
    for command in (
        *("check", "prepare"),
        *(f"{stage} {run}" for stage in ("pretrain", "mask", "um", "umap", "oe") for run in own_runs[f"{stage}.runs"]),
        *("epoch stopped", "diffusion", "align", "proofs"),
        *(f"features {model}" for model in own_runs["models"]),
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
    (
        {"data.text": {"length": 2, "tokenizer": "bert"}},
        "its 2 marks at a text's ends leave no room for a word within data.text.length (2)",
    ),
    ({"data.text": {"length": 41, "tokenizer": "bert"}}, "can't be built for texts of 41 words"),
    ({"net": {"name": "transformers/bert", "weights": "bert/model.safetensors"}}, "Set it to null, or published"),
    ({"net": {"name": "transformers/corpus", "weights": "published"}}, "corpus has no config.json"),
    ({"pretrain.runs": {"ce": {}, "tuned": {"net": {"name": "transformers/other", "weights": "published"}}}}, "knows other words than"),
    ({"net": {"name": "transformers/bert", "embedding": 9}}, "has no option embedding"),
    ({"pretrain.runs": {"ce": {"weights": "bert/model.safetensors"}, "tuned": {}}}, "finished classifiers of texts aren't taken"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("refused")
    corpus.write(path / "corpus")
    corpus.encoder(path / "bert", SOME)
    corpus.encoder(
        path / "other", ["Zebras quiver when jackdaws love my big sphinx of black quartz; pack 5 dozen jugs, waltz vexed nymphs"] * 3
    )
    return path


@pytest.mark.parametrize(("changes", "said"), REFUSED)
def test_what_does_not_fit_is_refused_before_anything_is_touched(place, changes, said):
    result = Workspace(place, settings(Path("bert")) | changes).stage("check", check=False)
    assert result.returncode
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert not (place / "data/prepared").exists()


def test_what_may_be_lost_is_said(place):
    first = {"name": "transformers/bert", "weights": "published", "pooling": "first"}
    result = Workspace(place, settings(Path("bert")) | {"pretrain.runs": {"ce": {}, "tuned": {"net": first}}}).stage("check")
    said = result.stderr + result.stdout
    assert "transformers/bert has learned with pooling: mean (net)" in said
    assert "net: bert lies outside images/, which DVC watches. After a change there run `dvc repro -f check`" in said
    assert "data.text.tokenizer: bert lies outside images/" in said
    assert "knows capitals" not in said
    bytewise().save(str(place / "bytes.json"))
    cased = {"data.text": {"length": 24, "tokenizer": "bytes.json"}, "net": {"name": "gru_2_16"}, "pretrain.runs": {"ce": {}, "tuned": {}}}
    cased |= {f"{stage}.runs": {} for stage in ("mask", "um", "umap", "oe")} | {
        "models": {"ce": "msp"},
        "report.pairs": {},
        "detector.model": "ce",
    }
    result = Workspace(place, settings(Path("bert")) | cased).stage("check")
    assert "the tokenizer knows capitals, and data.text.lower takes them away" in result.stderr + result.stdout


def test_two_ways_to_read_one_encoder_have_features_of_their_own(folder):
    """Frozen features are kept by what they depend on, and weights alone don't say that."""
    images = ImageSet(torch.from_numpy(words(folder).numbers(SOME)), torch.zeros(len(SOME), dtype=torch.int64))
    found = {_key(filled(folder, pooling=pooling)[0], images, torch.device("cpu")) for pooling in ("mean", "first")}
    assert len(found) == 2
    net, spec = filled(folder)
    heads = store.Spec(**{**spec.__dict__, "config": spec.config | {"num_attention_heads": 4}}).build()
    heads.load_state_dict(net.state_dict())
    assert _key(heads, images, torch.device("cpu")) not in found
    assert _key(filled(folder)[0], images, torch.device("cpu")) in found


def test_an_encoder_is_refused_for_images(workspace):
    workspace.set({"net.name": "transformers/bert"})
    assert "transformers/bert takes texts, and data.kind is images" in workspace.stage("check", check=False).stderr


@pytest.mark.slow
@pytest.mark.parametrize("reads", ["gru", "encoder"])
def test_two_processes_equal_one_on_texts(tmp_path, reads):
    """Each has a longest text of its own, an encoder has dropout behind it; a last batch of one text leaves the second none."""
    one = Workspace(tmp_path, corpus.TEXT | {"seeds": [0], "runtime.precision": "fp64"})
    corpus.write(tmp_path / "corpus")
    if reads == "encoder":
        rows = [row.partition("\t")[2] for row in (tmp_path / "corpus/id.tsv").read_text().splitlines()]
        corpus.encoder(tmp_path / "bert", rows, max_position_embeddings=99)
        one.set(
            {"data.text": {"length": 99, "tokenizer": "bert"}, "net": {"name": "transformers/bert", "weights": "published", "dropout": 0.2}}
        )
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


def test_a_detectors_folder_asks_nobody_and_builds_nothing_huge(folder, tmp_path):
    """It may come from anybody."""
    _, spec = filled(folder)
    sizes = {"size": 20, "vocabulary": spec.vocabulary, "pooling": "mean", "dropout": 0.0}
    for changes, said in (
        ({"num_hidden_layers": 10**8}, "more than any network has"),
        ({"hidden_size": 10**9}, "more than any network has"),
        ({"model_type": "timm_backbone", "backbone": "hf-hub:no/body"}, "is of the kind timm_backbone"),
        ({"model_type": None}, "is of the kind None"),
    ):
        with pytest.raises(InputError, match=said):
            transformer.backbone("bert", config=spec.config | changes, **sizes)
    made, _ = transformer.backbone("bert", config=spec.config | {"attn_implementation": "kernels-community/flash-attn"}, **sizes)
    assert made.net.config._attn_implementation == "eager", "no library of kernels is asked"
    net = {"name": "transformers/bert", "weights": None}
    with pytest.raises(ValidationError, match="a network of transformers has it, and no other"):
        bundle.Network.model_validate({"net": net, "normalize": False, "temperature": 1.0})
    with pytest.raises(ValidationError, match="a network of transformers has it, and no other"):
        bundle.Network.model_validate({"net": {"name": "wrn_10_1"}, "normalize": False, "temperature": 1.0, "config": spec.config})
