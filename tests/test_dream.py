"""DREAM-OOD against its fact sheet: anchors and loss, sampling, token injection, painting, the filter."""

import math
import subprocess
import sys
from copy import copy, deepcopy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from conftest import ROOT, Stop, StopAfter

from ood import nets
from ood.config.data import Chain
from ood.config.dream import EmbedRun, Optimiser, Painting, Prompts, Small
from ood.config.training import Augment, Runtime, Training
from ood.data.batches import TrainingBatches
from ood.data.chain import ImageChain
from ood.data.sets import ImageSet
from ood.dream import alignment, embeddings, judging, painting, sampling, small, synthesis, tokenizer
from ood.dream.dreamed import Dreamed, filtered
from ood.dream.embeddings import Embedded
from ood.dream.loop import Loop, one_cycle
from ood.dream.painting import paint, round_trip
from ood.dream.pixels import enlarge, to_signed
from ood.dream.space import Space
from ood.dream.studio import Studio, seed_of
from ood.dream.tokens import anchor, encode, injected, piece_ids, place
from ood.dream.turning import spread_for
from ood.errors import InputError
from ood.progress import Silent
from ood.training.loop import Trainer
from ood.training.objectives import EnergyRegularizer, LabelledInliers, Objective, energy_regularizer

TEMPLATE = "A high-quality image of the {name}"
SMALL = {
    "size": 16,
    "autoencoder": {"channels": [8, 16], "training": {"steps": 4, "batch_size": 8, "lr": 1e-3}},
    "text": {"width": 32, "layers": 2, "heads": 4},
    "unet": {"channels": [16, 32], "training": {"steps": 4, "batch_size": 8, "lr": 1e-3}},
    "save_every": 2,
}
NAMES = ["zero", "one", "golden retriever", "sigma"]


@pytest.fixture(scope="module")
def pipeline():
    """A pipeline with random weights, as the small one is built."""
    from diffusers import StableDiffusionPipeline

    torch.manual_seed(0)
    setting = Small(**SMALL)
    words = tokenizer.learn([TEMPLATE.format(name=name) for name in NAMES], 16)
    made = StableDiffusionPipeline(
        vae=small._autoencoder(setting),
        text_encoder=small._text_encoder(setting, words),
        tokenizer=words,
        unet=small._unet(setting),
        scheduler=small._scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    for part in (made.vae, made.text_encoder, made.unet):
        part.eval()
    return made


def prompt(name: str) -> str:
    return TEMPLATE.format(name=name)


# --- tokenizer


def test_tokenizer_is_clips_scheme_and_repeats_itself():
    captions = [prompt(name) for name in NAMES]
    one, again = tokenizer.learn(captions, 16), tokenizer.learn(captions, 16)
    assert one.get_vocab() == again.get_vocab()
    ids = one(captions[0])["input_ids"]
    tokens = one.convert_ids_to_tokens(ids)
    assert (tokens[0], tokens[-1]) == ("<|startoftext|>", "<|endoftext|>")
    assert tokens[-2] == "zero</w>", "a word that occurs is one token"
    assert max(one.get_vocab().values()) == ids[-1] == len(one) - 1, "as in CLIP the end has the largest id"
    assert len([t for t in one.get_vocab() if len(t.removesuffix("</w>")) == 1]) == 512
    assert one.decode(one("an unseen Word!")["input_ids"], skip_special_tokens=True).strip() == "an unseen word !"


def test_tokenizer_is_the_same_in_every_process():
    """The tokenizers library's own learning isn't: it breaks ties by hashes that change from process to process."""
    code = "from ood.dream.tokenizer import learn; print(sorted(learn(['a cat', 'a dog', 'the owl', 'one gnu']).get_vocab().items()))"
    texts = {subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout for _ in range(3)}
    assert len(texts) == 1


def test_tokenizer_on_disk_reads_back(tmp_path, pipeline):
    from transformers import CLIPTokenizer

    tokenizer.save(pipeline.tokenizer, tmp_path)
    assert {"tokenizer.json", "vocab.json", "merges.txt"} <= {p.name for p in tmp_path.iterdir()}
    again = CLIPTokenizer.from_pretrained(tmp_path)
    assert again(prompt("zero"))["input_ids"] == pipeline.tokenizer(prompt("zero"))["input_ids"]
    assert again.model_max_length == 16


# --- places and injection


def test_a_word_is_found_token_by_token(pipeline):
    words = pipeline.tokenizer
    placed = place(words, prompt("one"), "one")
    assert len(placed.ids) == 16
    assert [words.convert_ids_to_tokens(placed.ids)[p] for p in placed.positions] == ["one</w>"]
    assert place(words, "one and one", "one").positions == [1, words("one and one")["input_ids"].index(words("one")["input_ids"][1], 2)]
    with pytest.raises(InputError, match="isn't in the prompt"):
        place(words, prompt("zero"), "one")
    with pytest.raises(InputError, match="isn't in the prompt"):  # 'nail' is no part of 'snail'
        place(words, "the snail", "nail")
    with pytest.raises(InputError, match="beyond the 16 tokens"):
        place(words, "image " * 20 + "one", "one")


def test_words_of_several_pieces_follow_the_policy(pipeline):
    words, text = pipeline.tokenizer, pipeline.text_encoder
    name, said = "golden retriever", prompt("golden retriever")
    pieces = piece_ids(words, name)
    assert len(pieces) == 2
    whole, first = place(words, said, name, "whole"), place(words, said, name, "first")
    assert len(whole.positions) == len(first.positions) == 1
    at = first.positions[0]
    assert first.ids[at : at + 2] == pieces
    assert whole.ids[at] == pieces[0]
    assert whole.ids[at + 1] == words.eos_token_id, "the whole name is one place"
    with pytest.raises(InputError, match=r"is split into golden</w> \+ retriever</w>"):
        place(words, said, name, "refuse")
    table = text.get_input_embeddings().weight
    assert torch.equal(anchor(text, words, name, "first"), table[pieces[0]])
    both = anchor(text, words, name, "whole")
    assert F.cosine_similarity(both, table[pieces].mean(0), dim=0).item() == pytest.approx(1, abs=1e-5)
    assert both.norm().item() == pytest.approx(table[pieces].norm(dim=1).mean().item(), abs=1e-5)


@torch.no_grad()
def overwritten(text, placed, token: int, vector: torch.Tensor) -> torch.Tensor:
    """The released code's way: overwrite the row of the table, encode, restore."""
    table = text.get_input_embeddings().weight
    before = table[token].clone()
    table[token] = vector
    try:
        return text(input_ids=torch.tensor([placed.ids])).last_hidden_state
    finally:
        table[token] = before


def test_injection_equals_a_table_overwrite_and_leaves_earlier_positions(pipeline):
    words, text = pipeline.tokenizer, pipeline.text_encoder
    placed = place(words, prompt("one"), "one")
    vector = torch.randn(32, generator=torch.Generator().manual_seed(1))
    ours = encode(text, [placed], vector[None])
    theirs = overwritten(text, placed, placed.ids[placed.positions[0]], vector)
    assert (ours - theirs).abs().max() < 1e-5
    plain = encode(text, [placed], None)
    at = placed.positions[0]
    assert torch.equal(ours[:, :at], plain[:, :at])
    assert (ours[:, at:] - plain[:, at:]).abs().max() > 0.01


def test_a_batch_of_vectors_equals_single_calls(pipeline):
    words, text = pipeline.tokenizer, pipeline.text_encoder
    placed = [place(words, prompt(name), name) for name in NAMES]
    vectors = torch.randn(4, 32, generator=torch.Generator().manual_seed(2))
    together = encode(text, placed, vectors)
    for i in range(4):
        assert (together[i] - encode(text, [placed[i]], vectors[i : i + 1])[0]).abs().max() < 1e-5


def test_weights_and_hooks_are_as_before_even_after_an_exception(pipeline):
    text = pipeline.text_encoder
    before = {key: value.clone() for key, value in text.state_dict().items()}
    placed = place(pipeline.tokenizer, prompt("one"), "one")
    plain = encode(text, [placed], None)
    with pytest.raises(IndexError), injected(text, [placed.positions], torch.ones(1, 32)):
        text(input_ids=torch.tensor([[10**6]]))  # no such token: the encoder fails while the hook is on
    assert all(torch.equal(before[key], value) for key, value in text.state_dict().items())
    assert torch.equal(encode(text, [placed], None), plain)


# --- phase 1


def test_alignment_is_cross_entropy_over_cosines_and_blind_to_norms():
    generator = torch.Generator().manual_seed(0)
    z, anchors = torch.randn(6, 8, generator=generator), torch.randn(4, 8, generator=generator)
    logits = alignment.cosine_logits(z, anchors, 0.1)
    expected = torch.stack([F.cosine_similarity(z, row, dim=1) for row in anchors], dim=1) / 0.1
    assert torch.allclose(logits, expected, atol=1e-5)
    assert torch.allclose(alignment.cosine_logits(5 * z, anchors * torch.tensor([[1.0], [2], [3], [4]]), 0.1), logits, atol=1e-4)


def test_probability_at_the_anchor():
    """Sheet, 9.2: orthogonal anchors, 100 classes: e^10 / (e^10 + 99)."""
    anchors = torch.eye(100, 128)
    probability = alignment.cosine_logits(anchors[:1], anchors, 0.1).softmax(1)[0, 0].item()
    assert probability == pytest.approx(math.exp(10) / (math.exp(10) + 99), abs=1e-6)
    assert probability == pytest.approx(0.9955, abs=5e-5)


def test_anchors_stay_frozen_while_the_encoder_learns(tmp_path):
    torch.manual_seed(0)
    anchors = torch.randn(3, 8)
    model = alignment.AlignedEncoder(nets.build("wrn_10_1", num_classes=8, size=8), anchors, 0.1)
    labels = torch.arange(24) % 3
    images = ImageSet((torch.rand(24, 3, 8, 8) * 60 + 90 * labels[:, None, None, None]).to(torch.uint8), labels)
    recipe = Training(epochs=8, batch_size=8, lr=0.1)
    trainer = Trainer(Accelerator(cpu=True), Runtime(device="cpu", threads=1), recipe, tmp_path, Silent())
    history = trainer.fit(model, Objective(), TrainingBatches(images, 8, Augment()), 0)
    assert torch.equal(model.anchors, anchors)
    assert history[-1]["ce"] < 0.5 * history[0]["ce"]
    assert model.features(torch.rand(2, 3, 8, 8)).shape == (2, 8)


def test_anchors_from_names_tell_how_words_were_tokenised(pipeline):
    prompts = Prompts(template=TEMPLATE, names={"dog": "golden retriever"})
    anchors, report = alignment.anchors_from_names(pipeline.text_encoder, pipeline.tokenizer, prompts, ["zero", "dog"])
    assert anchors.shape == (2, 32)
    assert report[1]["tokens"] == ["golden</w>", "retriever</w>"]
    assert report[0]["norm"] == pytest.approx(anchors[0].norm().item())
    twins = Prompts(template=TEMPLATE, names={"a": "golden retriever", "b": "golden zero"}, pieces="first")
    with pytest.raises(InputError, match="have the same embedding"):
        alignment.anchors_from_names(pipeline.text_encoder, pipeline.tokenizer, twins, ["a", "b"])


# --- phase 2


def features(n=60, width=768, spread=0.02, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centre = F.normalize(torch.randn(width, generator=generator), dim=0)
    return 3 * F.normalize(centre + spread * torch.randn(n, width, generator=generator), dim=1)


def run(**changes) -> EmbedRun:
    small_run = {"count": 40, "cosine": 0.77, "k": 10, "boundary": 12, "features_per_class": 60, "seeds_per_round": 6, "candidates": 300}
    return EmbedRun(**(small_run | changes))


def test_knn_distance_counts_the_query_itself_and_orders_like_cosines():
    unit = F.normalize(features().double(), dim=1)
    distances = torch.cdist(unit, unit, compute_mode="donot_use_mm_for_euclid_dist").sort(dim=1).values
    for k in (1, 2, 10):
        assert torch.allclose(sampling.knn_distance(unit, unit, k), distances[:, k - 1], atol=1e-6)


def test_distances_of_candidates_need_no_candidates():
    unit = F.normalize(features(width=64), dim=1).double()
    noise, chosen = torch.randn(50, 64, dtype=torch.float64), torch.tensor([3, 1, 7])
    made = F.normalize(unit[chosen, None] + 0.1 * noise[None], dim=2)
    assert torch.allclose(sampling.around(unit, chosen, 0.1, noise, 10), sampling.knn_distance(made, unit, 10), atol=1e-9)


@pytest.mark.parametrize(("sigma", "cosine"), [(0.03, 0.769), (0.07, 0.458), (0.01, 0.964)])
def test_published_spreads_as_cosines(sigma, cosine):
    """Sheet, 3.1 and 9.9: the expected cosine to the seed in 768 dimensions; sigma is a standard deviation."""
    assert spread_for(cosine, 768) == pytest.approx(sigma, rel=0.01)
    unit = F.normalize(torch.randn(1, 768, generator=torch.Generator().manual_seed(0)), dim=1)
    candidates = F.normalize(unit + sigma * torch.randn(2000, 768, generator=torch.Generator().manual_seed(1)), dim=1)
    assert (candidates @ unit.T).mean().item() == pytest.approx(cosine, abs=0.01)


def test_outliers_have_the_anchors_norm_and_come_from_boundary_points():
    anchor_ = torch.randn(768, generator=torch.Generator().manual_seed(5))
    z = features()
    drawn = sampling.draw(z, anchor_, run(), (0, 1))
    assert drawn.vectors.shape == (40, 768)
    assert torch.allclose(drawn.vectors.norm(dim=1), anchor_.norm().expand(40), rtol=1e-5)
    score = sampling.knn_distance(F.normalize(z, dim=1), F.normalize(z, dim=1), 10)
    assert set(drawn.boundary.tolist()) == set(score.topk(12).indices.tolist())
    assert set(drawn.seeds.tolist()) <= set(drawn.boundary.tolist())
    cosine = (F.normalize(drawn.vectors, dim=1) * F.normalize(z[drawn.seeds], dim=1)).sum(1)
    assert cosine.mean().item() == pytest.approx(0.77, abs=0.08)


def test_draws_repeat_and_depend_on_the_key():
    one, again, other = (sampling.draw(features(), torch.ones(768), run(), key).vectors for key in ((0, 1), (0, 1), (0, 2)))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(("selection", "low", "high"), [("described", 0.0, 0.01), ("reference", 0.35, 0.65)])
def test_described_and_reference_differ_by_rank(selection, low, high):
    """Sheet, 3.1: mean rank percentile of what is kept: 0.0003 as described, 0.494 (a random pick) by the released code's indexing."""
    unit = F.normalize(features(), dim=1)
    noise = torch.randn(1500, 768, generator=torch.Generator().manual_seed(3))
    distance = sampling.around(unit, torch.arange(50), 0.03, noise, 10)
    rows, kept = sampling._kept(distance, run(selection=selection, candidates=1500), inlier=False)
    assert torch.equal(rows, torch.arange(50)[:, None].expand(50, 2))
    ranks = distance.argsort(dim=1, descending=True).argsort(dim=1).gather(1, kept).float() / 1500
    assert low <= ranks.mean().item() <= high


def released(distance, keep, largest):
    """Seed point and candidate of what the released code keeps (sheet, 3.1), in its order, entry by entry.

    Candidates lie seed by seed in one list, which is read in rows as long as there are seeds: column s holds every seeds-th entry from s.
    """
    seeds, candidates = distance.shape
    entries = distance.flatten().tolist()
    columns = [[entries[row * seeds + s] for row in range(candidates)] for s in range(seeds)]
    best = [sorted(range(candidates), key=column.__getitem__, reverse=largest)[:keep] for column in columns]
    # Its loop over seeds adds `candidates` for every seed before; a single kept row is flattened into the first turn of that loop.
    places = [row for rows in best for row in rows] if keep == 1 else [s * candidates + row for s, rows in enumerate(best) for row in rows]
    return [divmod(place, candidates) for place in places]


@pytest.mark.parametrize(("mode", "keep"), [("outlier", 2), ("inlier", 1), ("outlier", 1), ("inlier", 3)])
def test_reference_keeps_what_the_released_code_keeps(mode, keep):
    unit = F.normalize(features(), dim=1)
    noise = torch.randn(1500, 768, generator=torch.Generator().manual_seed(3))
    distance = sampling.around(unit, torch.randperm(60, generator=torch.Generator().manual_seed(4)), 0.01, noise, 10)
    rows, kept = sampling._kept(distance, run(selection="reference", candidates=1500, keep=keep, mode=mode), inlier=mode == "inlier")
    assert rows.shape == kept.shape == (60, keep)
    assert list(zip(rows.flatten().tolist(), kept.flatten().tolist(), strict=True)) == released(distance, keep, mode == "outlier")


def test_inliers_of_the_released_code_come_from_one_seed_point_a_round():
    """Sheet, 3.1: all 100 kept points of a round come from one seed, some of them twice."""
    z = features(120)
    setting = run(mode="inlier", cosine=0.964, keep=1, seeds_per_round=100, candidates=1500, count=300, selection="reference")
    drawn = sampling.draw(z, torch.ones(768), setting, (0, 1))
    assert drawn.vectors.shape == (300, 768)
    assert len(drawn.seeds.unique()) == 3, "three rounds of 100"
    assert (drawn.seeds.unique(return_counts=True)[1] == 100).all()
    assert len(drawn.vectors.unique(dim=0)) < 300
    cosine = (F.normalize(drawn.vectors, dim=1) * F.normalize(z[drawn.seeds], dim=1)).sum(1)
    assert cosine.mean().item() == pytest.approx(0.964, abs=0.01)
    unit = F.normalize(drawn.vectors, dim=1)
    assert torch.allclose(drawn.distance, sampling.knn_distance(unit, F.normalize(z, dim=1), 20), atol=1e-5)


def test_inliers_keep_the_nearest_and_cover_all_seed_points():
    z = features()
    setting = run(mode="inlier", cosine=0.964, keep=1, seeds_per_round=60, count=60)
    drawn = sampling.draw(z, torch.ones(768), setting, (0, 1))
    assert len(set(drawn.seeds.tolist())) == 60
    unit = F.normalize(z, dim=1)
    noise = torch.randn(300, 768, generator=torch.Generator().manual_seed(0))
    typical = sampling.around(unit, torch.arange(60), spread_for(0.964, 768), noise, 10)
    assert drawn.distance.mean() < typical.quantile(0.02, dim=1).mean()


@pytest.mark.parametrize(("width", "given", "kept"), [(768, 0.77, 0.74), (768, 0.46, 0.39), (64, 0.46, 0.15), (64, 0.7, 0.5)])
def test_what_is_kept_lies_farther_out_the_more_so_in_few_dimensions(width, given, kept):
    """params.yaml says so at embed.runs: the given cosine is that of a candidate, and two of 1500 candidates are kept."""
    z = features(107, width, spread=0.5 / width**0.5)
    drawn = sampling.draw(z, torch.ones(width), run(cosine=given, candidates=1500, k=32, boundary=21, features_per_class=107), (0,))
    cosine = (F.normalize(drawn.vectors, dim=1) * F.normalize(z[drawn.seeds], dim=1)).sum(1).mean().item()
    assert cosine == pytest.approx(kept, abs=0.06)
    assert cosine < given


def test_drawn_vectors_read_back():
    drawn = sampling.draw(features(), torch.ones(768), run(), (0,))
    again = sampling.Drawn.unpacked(drawn.packed())
    assert all(torch.equal(one, other) for one, other in zip(vars(drawn).values(), vars(again).values(), strict=True))


def test_degenerate_features_are_errors_not_nans():
    broken = features()
    broken[3] = 0
    with pytest.raises(InputError, match="class 'cat': a feature is zero or not finite"):
        sampling.draw(broken, torch.ones(768), run(), (0,), "cat")
    with pytest.raises(InputError, match="class 'cat' has 1 training images"):
        sampling.draw(features(1), torch.ones(768), run(), (0,), "cat")


def test_small_classes_scale_k_and_boundary():
    drawn = sampling.draw(features(30), torch.ones(768), run(k=20, boundary=20, features_per_class=60), (0,))
    assert len(drawn.boundary) == 10
    assert torch.isfinite(drawn.vectors).all()


def test_ablations():
    anchors = torch.randn(3, 768, generator=torch.Generator().manual_seed(0))
    noisy = sampling.noisy_anchor(anchors[0], EmbedRun(method="noise", cosine=0.46, count=500), (0,))
    assert F.cosine_similarity(noisy, anchors[:1]).mean().item() == pytest.approx(0.46, abs=0.01)
    between = sampling.interpolated(anchors, 1, EmbedRun(method="interpolation", count=50), (0,))
    cosines = F.normalize(between, dim=1) @ F.normalize(anchors, dim=1).T
    others = cosines[:, [0, 2]].amax(1)
    assert torch.allclose(cosines[:, 1], others, atol=0.05), "half way between its own class and another"
    named = sampling.named(anchors, EmbedRun(method="names", names=["a", "b", "c"], count=7), (0,))
    assert {tuple(v.tolist()) for v in named} == {tuple(a.tolist()) for a in anchors}
    for vectors in (noisy, between):
        assert vectors.norm(dim=1).std() < 1e-4


# --- painting


def test_one_seed_one_picture_whatever_the_batch(pipeline):
    words = ["zero", "one", "one", "sigma"]
    vectors = torch.randn(4, 32, generator=torch.Generator().manual_seed(2))
    settings = {"steps": 4, "guidance": 3.0}
    together = paint(pipeline, [prompt(w) for w in words], words, vectors, [5, 6, 7, 8], **settings)
    assert together.shape == (4, 16, 16, 3)
    assert together.dtype == np.uint8
    for i, word in enumerate(words):
        alone = paint(pipeline, [prompt(word)], [word], vectors[i : i + 1], [5 + i], **settings)
        assert np.abs(alone[0].astype(int) - together[i].astype(int)).max() <= 1
    again = paint(pipeline, [prompt(w) for w in words], words, vectors, [5, 6, 7, 8], **settings)
    assert np.array_equal(together, again)
    assert not np.array_equal(together[1], paint(pipeline, [prompt("one")], ["one"], vectors[1:2], [9], **settings)[0])


def test_anchors_from_the_authors_file(pipeline, tmp_path):
    """DREAM sheet 3: float vectors, one a class, in the classes' order, in the place of the token table's."""
    path, labels = tmp_path / "token_embed.npy", ["zero", "one"]
    theirs = np.random.default_rng(0).normal(size=(2, 32)).astype(np.float32)
    np.save(path, theirs)
    prompts = Prompts(template="A high-quality image of the {name}", names={}, words={})
    anchors, report = alignment.anchors_from_names(pipeline.text_encoder, pipeline.tokenizer, prompts, labels, path)
    assert np.array_equal(anchors.numpy(), theirs)
    assert [row["norm"] for row in report] == pytest.approx(np.linalg.norm(theirs, axis=1).tolist())
    for wrong, words in ((theirs[:1], r"shape \(1, 32\).*\(2, 32\)"), (theirs * np.nan, "isn't finite"), (theirs * 0, "no length")):
        np.save(path, wrong)
        with pytest.raises(InputError, match=f"align.anchors.*{words}"):
            alignment.anchors_from_names(pipeline.text_encoder, pipeline.tokenizer, prompts, labels, path)
    path.write_text("no array")
    with pytest.raises(InputError, match="not a NumPy array"):
        alignment.anchors_from_names(pipeline.text_encoder, pipeline.tokenizer, prompts, labels, path)


def test_the_vector_changes_the_picture(pipeline):
    plain = paint(pipeline, [prompt("one")], ["one"], None, [5], steps=4)
    row = anchor(pipeline.text_encoder, pipeline.tokenizer, "one")
    assert np.array_equal(plain, paint(pipeline, [prompt("one")], ["one"], row[None], [5], steps=4)), "its own row changes nothing"
    assert not np.array_equal(plain, paint(pipeline, [prompt("one")], ["one"], -row[None], [5], steps=4))


def test_plain_prompts_say_every_piece_of_a_word(pipeline):
    """A vector takes one place for a whole word, but where there is none the prompt is painted as it is written."""
    tokenizer, text = pipeline.tokenizer, pipeline.text_encoder
    word = next(w for w in ("zeroone", "onezero", "sigmaone") if len(piece_ids(tokenizer, w)) > 1)
    first = tokenizer.decode(piece_ids(tokenizer, word)[:1])
    assert first != word
    whole = tokenizer(prompt(word), padding="max_length", max_length=tokenizer.model_max_length)["input_ids"]
    seen = []
    handle = text.register_forward_pre_hook(lambda _m, _args, kwargs: seen.append(kwargs["input_ids"][0].tolist()), with_kwargs=True)
    try:
        plain = paint(pipeline, [prompt(word)], [word], None, [5], steps=2)
        moved = paint(pipeline, [prompt(word)], [word], torch.zeros(1, 32), [5], steps=2)
    finally:
        handle.remove()
    assert seen[0] == whole
    assert seen[2] != whole, "with a vector the word is one place"
    assert not np.array_equal(plain, moved)


def test_noise_on_what_the_text_encoder_says(pipeline, tmp_path, monkeypatch):
    """Every token's vector turned to the wanted cosine at its own norm, by the picture's own seed; the prompt of its control as it is."""
    words, seen = ["zero", "one"], []
    unet = pipeline.unet.register_forward_pre_hook(lambda _m, _args, kwargs: seen.append(kwargs["encoder_hidden_states"]), with_kwargs=True)
    try:
        plain = paint(pipeline, [prompt(w) for w in words], words, None, [5, 6], steps=1)
        moved = paint(pipeline, [prompt(w) for w in words], words, None, [5, 6], steps=1, disturbed=0.5)
        alone = paint(pipeline, [prompt("one")], ["one"], None, [6], steps=1, disturbed=0.5)
    finally:
        unet.remove()
    (unsaid, said), (still, disturbed), (_, one) = (states.chunk(2) for states in seen)
    assert torch.equal(unsaid, still)
    assert F.cosine_similarity(said, disturbed, dim=2).mean().item() == pytest.approx(0.5, abs=0.03)
    assert torch.allclose(said.norm(dim=2), disturbed.norm(dim=2), rtol=1e-4)
    assert torch.allclose(disturbed[1], one[0], atol=1e-5)
    assert not np.array_equal(plain, moved)
    assert np.abs(moved[1].astype(int) - alone[0]).max() <= 1, "its own seed alone, whatever the batch"

    run = EmbedRun(method="encoder_noise", cosine=0.5, count=6)
    space = Space(np.zeros((0, 32), np.float32), np.zeros(0, int), torch.randn(2, 32).numpy(), words, 0.1)
    monkeypatch.setattr(embeddings, "EMBEDDINGS", tmp_path)
    (tmp_path / "late").mkdir()
    embeddings.save(tmp_path / "late", [space.draw(label, run, 0, torch.device("cpu")) for label in (0, 1)], run)
    embedded = embeddings.load("late")
    assert embedded.disturbed == 0.5
    chain = ImageChain(Chain(size=8, mean=[0.5] * 3, std=[0.5] * 3))
    studio = Studio(pipeline, Prompts(template=TEMPLATE, names={}), Painting(steps=1, batch_size=2), chain)
    wanted = synthesis.order(2, 1, 6, 0)
    synthesis.paint_shards(studio, wanted, embedded, words, 2, tmp_path / "shards", Silent())
    synthesis.collect(tmp_path / "shards", wanted, 2, tmp_path / "painted.npy")
    assert np.array_equal(np.load(tmp_path / "painted.npy"), studio.paint(words, None, wanted.seeds, 0.5))
    assert [row["disturbed"] for row in synthesis.provenance(wanted, studio, words, 0.5)] == [0.5, 0.5]
    assert synthesis.provenance(wanted, studio, words)[0]["disturbed"] == ""


@pytest.mark.parametrize(("sampler", "steps", "calls"), [("plms", 50, 51), ("dpm", 20, 20)])
def test_samplers_make_the_calls_the_sheet_counts(pipeline, sampler, steps, calls):
    seen, scheduler = [], pipeline.scheduler
    handle = pipeline.unet.register_forward_pre_hook(lambda _m, inputs: seen.append(int(inputs[1])))
    try:
        paint(pipeline, [prompt("one")], ["one"], None, [0], sampler=sampler, steps=steps)
    finally:
        handle.remove()
    assert len(seen) == calls
    if sampler == "plms":
        assert seen[:4] == [981, 961, 961, 941]
        assert seen[-1] == 1
    assert pipeline.scheduler is scheduler


def test_half_precision_paints_nearly_the_same(pipeline):
    """As a named pipeline is on a GPU: denoiser and text encoder in bf16, decoder in float32."""
    half = copy(pipeline)
    half.unet, half.text_encoder = (deepcopy(part).to(torch.bfloat16) for part in (pipeline.unet, pipeline.text_encoder))
    vectors = torch.randn(2, 32, generator=torch.Generator().manual_seed(2))
    one, other = (paint(p, [prompt("one")] * 2, ["one"] * 2, vectors, [3, 4], steps=4).astype(int) for p in (pipeline, half))
    assert np.abs(one - other).mean() < 6
    assert np.abs(one[0] - one[1]).mean() > 12


def test_large_pictures_are_decoded_in_parts(pipeline, monkeypatch):
    words = ["zero", "one", "sigma"]
    whole = paint(pipeline, [prompt(w) for w in words], words, None, [0, 1, 2], steps=2)
    monkeypatch.setattr(painting, "PIXELS", 2 * 16 * 16)
    parts = paint(pipeline, [prompt(w) for w in words], words, None, [0, 1, 2], steps=2)
    assert np.abs(whole.astype(int) - parts.astype(int)).max() <= 1


def test_time_steps_do_not_depend_on_who_wrote_the_folder(pipeline):
    """A saved scheduler says 'leading', one in memory nothing: DPM-Solver++ must begin at the noisiest step with either."""
    from diffusers import PNDMScheduler

    begin, before = [], pipeline.scheduler
    handle = pipeline.unet.register_forward_pre_hook(lambda _m, inputs: begin.append(int(inputs[1])))
    try:
        for spacing in ("leading", "linspace", "trailing"):
            pipeline.scheduler = PNDMScheduler.from_config(before.config, timestep_spacing=spacing)
            paint(pipeline, [prompt("one")], ["one"], None, [0], steps=3)
    finally:
        handle.remove()
        pipeline.scheduler = before
    assert begin[:3] == begin[3:6] == begin[6:]
    assert begin[0] == 999


def test_damaged_weights_paint_no_black_pictures(pipeline):
    broken = copy(pipeline)
    broken.vae = deepcopy(pipeline.vae)
    with torch.no_grad():
        next(broken.vae.decoder.parameters()).fill_(float("nan"))
    with pytest.raises(InputError, match="isn't finite"):
        paint(broken, [prompt("one")], ["one"], None, [0], steps=2)


def test_a_safety_checker_can_not_black_pictures_out(pipeline):
    before = pipeline.safety_checker
    pipeline.safety_checker = lambda images, **_: (np.zeros_like(images), [True] * len(images))
    try:
        assert paint(pipeline, [prompt("one")], ["one"], None, [0], steps=2).max() > 0
    finally:
        pipeline.safety_checker = before


def test_pictures_go_through_the_image_chain(pipeline):
    """Sheet, 9.17: what training sees is the resized picture, never a crop of a larger one."""
    chain = ImageChain(Chain(grey=True, size=8, levels=17, mean=[0.5] * 3, std=[0.5] * 3))
    studio = Studio(pipeline, Prompts(template=TEMPLATE, names={}), Painting(steps=3, batch_size=4), chain)
    images = studio.paint(["zero", "one"], None, [1, 2])
    large = paint(pipeline, [prompt("zero"), prompt("one")], ["zero", "one"], None, [1, 2], steps=3)
    grey = (large @ np.array([0.299, 0.587, 0.114])).reshape(2, 8, 2, 8, 2).mean((2, 4))
    assert images.shape == (2, 8, 8, 3)
    assert np.abs(images[..., 0] - grey).max() < 255 / 16
    assert set(np.unique(images)) <= set(np.rint(np.rint(np.arange(17)) * 255 / 16).astype(np.uint8))


def test_enlarging_by_whole_factors_is_undone_by_the_chain():
    chain = ImageChain(Chain(grey=True, size=8, levels=17, mean=[0.5] * 3, std=[0.5] * 3))
    native = chain.quantise(np.random.default_rng(0).random((5, 8, 8, 1)))
    finished = chain.finish(native)
    large = enlarge(torch.from_numpy(finished).permute(0, 3, 1, 2), 16)
    back = chain.finish(np.stack([chain.native(image) for image in large.permute(0, 2, 3, 1).numpy()]))
    assert np.array_equal(back, finished)
    assert enlarge(torch.zeros(1, 3, 10, 10, dtype=torch.uint8), 16).shape == (1, 3, 16, 16)


def test_round_trip_is_the_decoder_of_the_encoder(pipeline):
    images = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)
    back = round_trip(pipeline.vae, images)
    with torch.no_grad():
        signed = images.float() / 127.5 - 1
        expected = pipeline.vae.decode(pipeline.vae.encode(signed).latent_dist.mean).sample
    expected = ((expected / 2 + 0.5).clamp(0, 1) * 255).round().permute(0, 2, 3, 1).numpy()
    assert np.abs(back - expected).max() <= 1


# --- the set: order, shards, filter


def test_order_is_exact_and_seeds_are_all_different():
    wanted = synthesis.order(3, 5, available=4, seed=0)
    assert np.bincount(wanted.labels).tolist() == [5, 5, 5]
    assert len(set(wanted.seeds)) == 15
    for label in range(3):
        chosen = wanted.chosen[wanted.labels == label]
        assert sorted(chosen[:4].tolist()) == [0, 1, 2, 3], "no vector twice before all were used"
    assert wanted.seeds[7] == seed_of(0, 1, 2)


def test_shards_are_painted_once_by_whoever_comes(pipeline, tmp_path, monkeypatch):
    chain = ImageChain(Chain(size=8, mean=[0.5] * 3, std=[0.5] * 3))
    studio = Studio(pipeline, Prompts(template=TEMPLATE, names={}), Painting(steps=2, batch_size=3), chain)
    wanted, vectors = synthesis.order(2, 5, 6, 0), torch.randn(2, 6, 32, generator=torch.Generator().manual_seed(0)).numpy()
    arguments = (studio, wanted, Embedded(vectors, "outlier", None), ["zero", "one"], 3)
    synthesis.paint_shards(*arguments, tmp_path / "one", Silent())
    synthesis.collect(tmp_path / "one", wanted, 3, tmp_path / "one.npy")
    assert np.load(tmp_path / "one.npy").shape == (10, 8, 8, 3)
    monkeypatch.setattr(synthesis, "world_size", lambda: 2)
    for process in (0, 1):
        monkeypatch.setattr(synthesis, "rank", lambda process=process: process)
        synthesis.paint_shards(*arguments, tmp_path / "two", Silent())
        if process == 0:
            assert sorted(p.name for p in (tmp_path / "two").iterdir()) == ["000000.npy", "000002.npy"]
            with pytest.raises(InputError, match="not whole"):
                synthesis.collect(tmp_path / "two", wanted, 3, tmp_path / "two.npy")
    synthesis.collect(tmp_path / "two", wanted, 3, tmp_path / "two.npy")
    assert (tmp_path / "two.npy").read_bytes() == (tmp_path / "one.npy").read_bytes()


def dreamed(mode="outlier"):
    confidence = np.array([0.2, 0.95, 0.6, 0.3, 0.9, 0.99])
    images = np.arange(6)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    return Dreamed(images.astype(np.uint8), np.array([0, 0, 0, 1, 1, 1]), confidence, confidence, mode, ["cat", "dog"])


def test_the_filter_keeps_unsure_outliers_and_sure_inliers():
    images, share = filtered(dreamed(), 0.9, None, "oe.runs.dream")
    assert images.images[:, 0, 0, 0].tolist() == [0, 2, 3, 4]
    assert images.labels.tolist() == [0, 0, 1, 1]
    assert share == pytest.approx(4 / 6)
    inliers, _ = filtered(dreamed("inlier"), 0.9, None, "oe.runs.dream-id")
    assert inliers.images[:, 0, 0, 0].tolist() == [1, 4, 5]
    exact, share = filtered(dreamed(), 0.9, 1, "oe.runs.dream")
    assert exact.images[:, 0, 0, 0].tolist() == [0, 3]
    assert share == pytest.approx(4 / 6), "the share that passes, whatever is used of it"


@pytest.mark.parametrize(
    ("cut", "per_class", "words"), [(0.9, 3, "of 3 images dreamed for class 'cat' 2 pass the cut 0.9, 3 are"), (0.1, None, "0 pass")]
)
def test_too_few_survivors_are_an_error(cut, per_class, words):
    with pytest.raises(InputError, match=words):
        filtered(dreamed(), cut, per_class, "oe.runs.dream")


def test_nearest_training_image():
    others = np.zeros((9, 4, 4, 3), np.uint8)
    others[1], others[7] = 100, 200
    queries = np.stack([np.full((4, 4, 3), value, np.uint8) for value in (110, 190, 3)])
    for block in (1, 2, 256):
        index, distance = judging.nearest(queries, ImageSet(torch.from_numpy(others).permute(0, 3, 1, 2), torch.zeros(9)), block)
        assert index.tolist()[:2] == [1, 7]
        assert distance == pytest.approx([10 / 255, 10 / 255, 3 / 255], rel=1e-3)


# --- phase 3


def test_energy_regulariser_is_binary_cross_entropy_for_an_affine_head():
    generator = torch.Generator().manual_seed(0)
    logits, outliers = torch.randn(5, 4, generator=generator) * 3, torch.randn(7, 4, generator=generator)
    phi = torch.nn.Linear(1, 2)
    energies = torch.cat([logits, outliers]).logsumexp(1)
    slope, offset = phi.weight[1] - phi.weight[0], phi.bias[1] - phi.bias[0]
    targets = torch.cat([torch.ones(5), torch.zeros(7)])
    expected = F.binary_cross_entropy_with_logits(slope * energies + offset, targets)
    assert torch.allclose(energy_regularizer(logits, outliers, phi), expected, atol=1e-6)


@pytest.mark.parametrize("phi", ["affine", "mlp"])
@pytest.mark.parametrize("seed", range(4))
def test_phi_begins_by_calling_high_logsumexp_id(phi, seed):
    torch.manual_seed(seed)
    head = EnergyRegularizer(1.0, phi).phi
    low, high = head(torch.tensor([[0.0], [20.0]]))
    assert (high[1] - high[0]) >= (low[1] - low[0])


def test_beta_zero_leaves_the_net_alone():
    logits, outliers = torch.randn(5, 4, requires_grad=True), torch.randn(7, 4, requires_grad=True)
    loss, terms = EnergyRegularizer(0.0)(logits, torch.tensor([0, 1, 2, 3, 0]), outliers)
    loss.backward()
    assert outliers.grad.abs().max() == 0
    assert terms["outlier"] > 0


@pytest.mark.parametrize("phi", ["affine", "mlp"])
def test_phi_learns_along_with_the_net(tmp_path, phi):
    torch.manual_seed(0)
    labels = torch.arange(24) % 3
    inliers = ImageSet((torch.rand(24, 3, 8, 8) * 60 + 90 * labels[:, None, None, None]).to(torch.uint8), labels)
    outliers = ImageSet((torch.rand(24, 3, 8, 8) * 255).to(torch.uint8), torch.full((24,), -1))
    objective = EnergyRegularizer(1.0, phi)
    before = [p.clone() for p in objective.parameters()]
    recipe = Training(epochs=10, batch_size=8, lr=0.02)
    trainer = Trainer(Accelerator(cpu=True), Runtime(device="cpu", threads=1), recipe, tmp_path, Silent())
    net = nets.build("wrn_10_1", num_classes=3, size=8)
    history = trainer.fit(net, objective, TrainingBatches(inliers, 8, Augment(), outliers, 8), 0)
    assert all(not torch.equal(one, other) for one, other in zip(before, objective.parameters(), strict=True))
    assert history[-1]["outlier"] < history[0]["outlier"]
    assert not any("phi" in key for key in net.state_dict())


def test_dreamed_inliers_are_trained_under_their_labels():
    logits, inliers = torch.randn(3, 4), torch.randn(5, 4)
    labels, theirs = torch.tensor([0, 1, 2]), torch.tensor([3, 3, 0, 1, 2])
    loss, terms = LabelledInliers()(logits, labels, inliers, theirs)
    assert torch.allclose(loss, F.cross_entropy(torch.cat([logits, inliers]), torch.cat([labels, theirs])))
    assert torch.allclose(terms["ce"], F.cross_entropy(logits, labels))


def test_labels_of_dreamed_images_reach_the_objective():
    inliers = ImageSet(torch.zeros(6, 3, 8, 8, dtype=torch.uint8), torch.arange(6) % 3)
    extra = ImageSet((torch.arange(5)[:, None, None, None] * torch.ones(1, 3, 8, 8)).to(torch.uint8), torch.tensor([2, 0, 1, 1, 2]))
    seen = 0
    for batch in TrainingBatches(inliers, 4, Augment(), extra, 3).epoch(0, 0):
        values = (batch.images[len(batch.labels) :, 0, 0, 0] * 255).round().long()
        assert torch.equal(batch.extra_labels, extra.labels[values])
        seen += len(values)
    assert seen == 6


# --- the small pipeline's training


def test_one_cycle_rises_and_ends_near_zero():
    values = [one_cycle(step, 100) for step in range(100)]
    assert values[0] == pytest.approx(1 / 25)
    assert max(values) == pytest.approx(1)
    assert values.index(max(values)) == 30
    assert values[-1] < 0.002


def small_data(count=24) -> small.Captioned:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, 8, 8), generator=generator, dtype=torch.uint8)
    return small.Captioned(images, torch.arange(count) % 4, [prompt(name) for name in NAMES], inliers=count // 2)


def state(folder):
    from safetensors.torch import load_file

    return {(p.parent.name, key): tensor for p in sorted(folder.rglob("*.safetensors")) for key, tensor in load_file(p).items()}


@pytest.mark.parametrize("stop", [1, 3, 5, 7])
def test_small_training_resumes_to_equal_bits(tmp_path, stop):
    torch.set_num_threads(1)
    accelerator, setting = Accelerator(cpu=True), Small(**SMALL)
    whole = small.train(small_data(), setting, 0, accelerator, tmp_path / "whole", Silent())
    with pytest.raises(Stop):
        small.train(small_data(), setting, 0, accelerator, tmp_path / "cut", StopAfter(stop))
    assert small.train(small_data(), setting, 0, accelerator, tmp_path / "cut", Silent()) == whole
    one, other = state(tmp_path / "whole" / "pipeline"), state(tmp_path / "cut" / "pipeline")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_what_is_saved_is_a_stable_diffusion_pipeline(tmp_path):
    from diffusers import StableDiffusionPipeline

    from ood.dream.pipelines import open_pipeline

    small.train(small_data(), Small(**SMALL), 0, Accelerator(cpu=True), tmp_path, Silent())
    loaded = StableDiffusionPipeline.from_pretrained(tmp_path / "pipeline", safety_checker=None)
    images = loaded(prompt("one"), num_inference_steps=2, output_type="np", generator=torch.Generator().manual_seed(0)).images
    assert images.shape == (1, 16, 16, 3)
    latents_std = loaded.vae.config.scaling_factor
    assert latents_std != 0.18215
    ours = open_pipeline(str(tmp_path / "pipeline"), None, torch.device("cpu"), torch.float32)
    assert paint(ours, [prompt("one")], ["one"], None, [0], steps=2).shape == (1, 16, 16, 3)
    for path in (tmp_path / "pipeline").rglob("*.json"):
        assert str(tmp_path) not in path.read_text()


def test_latents_have_unit_variance(tmp_path):
    setting = Small(**(SMALL | {"autoencoder": {"channels": [8, 16], "training": {"steps": 60, "batch_size": 8, "lr": 3e-3}}}))
    figures = small.train(small_data(), setting, 0, Accelerator(cpu=True), tmp_path, Silent())
    from diffusers import AutoencoderKL

    autoencoder = AutoencoderKL.from_pretrained(tmp_path / "pipeline" / "vae")
    with torch.no_grad():
        latents = autoencoder.encode(to_signed(enlarge(small_data().images, 16))).latent_dist.mean
    assert (latents * autoencoder.config.scaling_factor).std().item() == pytest.approx(1, abs=0.01)
    assert figures["latent_scale"] == pytest.approx(autoencoder.config.scaling_factor)


def test_a_missing_model_is_an_error_with_a_remedy(tmp_path):
    from ood.dream.pipelines import open_pipeline

    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"diffusion\.model: .*can't be loaded as a Stable Diffusion v1 pipeline"):
        open_pipeline(str(tmp_path / "empty"), None, torch.device("cpu"), torch.float32)


def test_loop_stops_at_a_loss_that_is_no_number(tmp_path):
    module = torch.nn.Linear(1, 1)
    loop = Loop(Accelerator(cpu=True), tmp_path / "x.pt", Optimiser(steps=4, batch_size=2, lr=0.1), 2, Silent(), "part")
    with pytest.raises(InputError, match="loss of the part became nan"):
        loop.fit(module, lambda step, rows: (torch.full((len(rows), 1), float("nan")),))
