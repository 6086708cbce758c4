"""Wrong labels on purpose: in training alone, as many as asked for, the true ones beside them for figures and nothing else."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Workspace

from ood.config import Params
from ood.config.data import Data, LabelNoise
from ood.data import catalog, label_noise, packed
from ood.data.items import ItemSet
from ood.errors import InputError
from ood.files import seal

DATA = Params()[Data]


def training(count: int = 40, classes: int = 4) -> ItemSet:
    """Images as bright as their class."""
    labels = np.arange(count) % classes
    images = np.broadcast_to((labels * 20).astype(np.uint8)[:, None, None, None], (count, 8, 8, 1)).copy()
    names = [f"digits/{i}" for i in range(count)]
    return ItemSet(images, labels, names, [(name,) for name in names], [f"c{i}" for i in range(classes)])


def spoilt(noise: LabelNoise, seed: int = 0, items: ItemSet | None = None) -> ItemSet:
    return label_noise.spoil(items or training(), noise, np.random.default_rng(seed))


def with_noise(**values) -> Data:
    return DATA.model_copy(update={"id": DATA.id.model_copy(update={"label_noise": LabelNoise(**values)})})


def test_no_noise_changes_nothing():
    items = training()
    assert spoilt(LabelNoise(), items=items) is items


def test_symmetric_noise_takes_the_share_of_every_class_and_spreads_it_over_all_others():
    found = spoilt(LabelNoise(share=0.3), items=training(4000))
    wrong = found.labels != found.true_labels
    for label in range(4):
        of_class = found.true_labels == label
        assert wrong[of_class].sum() == 300
        counts = np.bincount(found.labels[of_class & wrong], minlength=4)
        assert counts[label] == 0
        assert np.all(np.delete(counts, label) > 70), "a third each, by chance between 70 and 130"
    assert np.array_equal(spoilt(LabelNoise(share=0.3), items=training(4000)).labels, found.labels)
    assert not np.array_equal(spoilt(LabelNoise(share=0.3), 1, training(4000)).labels, found.labels)


def test_confusable_noise_goes_where_it_is_told_or_to_the_nearest_class():
    told = spoilt(LabelNoise(share=0.5, kind="confusable", pairs={"c0": "c3", "c3": "c1"}))
    for label, other in ((0, 3), (3, 1)):
        given = told.labels[told.true_labels == label]
        assert sorted(np.bincount(given, minlength=4)[[label, other]]) == [5, 5]
    assert np.array_equal(told.labels[np.isin(told.true_labels, (1, 2))], told.true_labels[np.isin(told.true_labels, (1, 2))])
    assert np.array_equal(spoilt(LabelNoise(share=0.5, kind="confusable", pairs={})).labels, training().labels), "no pair, no change"
    brightness = np.array([0, 10, 100, 110], np.uint8)
    items = training()
    items.images[:] = brightness[items.labels][:, None, None, None]
    assert label_noise.nearest(items) == {0: 1, 1: 0, 2: 3, 3: 2}
    found = spoilt(LabelNoise(share=0.2, kind="confusable"), items=items)
    wrong = found.labels != found.true_labels
    assert wrong.sum() == 8
    assert np.array_equal(found.labels[wrong], np.array([1, 0, 3, 2])[found.true_labels[wrong]])


def test_labels_from_a_table(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("image,label\ndigits/5,c0\ndigits/6,c2\nelsewhere/1,c1\n")
    found = spoilt(LabelNoise(kind="file", path=path))
    assert np.flatnonzero(found.labels != found.true_labels).tolist() == [5]
    assert found.labels[5] == 0
    path.write_text("image,label\ndigits/5,cat\n")
    with pytest.raises(InputError, match=r"no class 'cat'. Known: c0, c1"):
        spoilt(LabelNoise(kind="file", path=path))
    path.write_text("image,label\nother/5,c1\n")
    with pytest.raises(InputError, match=r"names no training image \(first: other/5; they are called as digits/0\)"):
        spoilt(LabelNoise(kind="file", path=path))


def test_only_training_labels_are_spoilt_and_outliers_made_of_training_images_know_the_given_ones():
    clean, _, _ = catalog.build(DATA)
    found, _, notices = catalog.build(with_noise(share=0.2))
    wrong = found["id/train"].labels != found["id/train"].true_labels
    assert wrong.mean() == pytest.approx(0.2, abs=0.01)
    assert np.array_equal(found["id/train"].true_labels, clean["id/train"].labels)
    for name in (name for name in clean if name.startswith(("id/val", "id/test", "calibration/", "validation/", "near/", "corrupted/"))):
        assert np.array_equal(found[name].images, clean[name].images), name
        assert np.array_equal(found[name].labels, clean[name].labels), name
        assert found[name].true_labels is None
    assert any(f"{wrong.sum()} of {len(wrong)} training images are wrong on purpose" in notice for notice in notices)


def test_prepared_labels_are_the_given_ones_and_the_manifest_says_so(tmp_path):
    workspace = Workspace(tmp_path, {"data.id.label_noise": {"share": 0.1, "kind": "symmetric"}})
    said = workspace.stage("prepare").stdout
    root = tmp_path / packed.PREPARED
    given, true = packed.labels("id/train", root), packed.true_labels("id/train", root)
    count = int((given != true).sum())
    assert packed.manifest(root)["id/train"]["mislabelled"] == count == sum(round(0.1 * n) for n in np.bincount(true))
    assert packed.manifest(root)["id/val"]["mislabelled"] == 0
    assert f"the labels of {count} of {len(given)} training images are wrong on purpose" in said
    assert packed.true_labels("id/val", root) is None


def test_masks_say_how_well_they_find_them_and_training_never_sees_the_true_labels(tmp_path):
    """The same given labels with other true ones train the same network, to the bit."""
    networks = []
    for name, change in (("one", 0), ("other", 1)):
        (tmp_path / name).mkdir()
        workspace = Workspace(tmp_path / name, {"seeds": [0], "data.id.label_noise": {"share": 0.2, "kind": "symmetric"}})
        workspace.stage("prepare")
        folder = workspace.path / "data/prepared/id"
        if change:
            np.save(folder / "train.true.npy", np.roll(np.load(folder / "train.true.npy"), 1))
            seal(folder)
        for command in ("pretrain ce", "mask um", "um selective"):
            workspace.stage(command)
        networks.append(workspace.hashes("data/models"))
    assert networks[0] == networks[1]
    figures = json.loads((tmp_path / "one/metrics/mask/um.json").read_text())
    assert figures["mislabelled"] == pytest.approx(0.2, abs=0.01)
    assert 0 <= figures["precision_masked_loss"] <= 1
    assert figures["auroc_early_doubt"] > 0.6, "after three epochs nothing is memorised, but something is known"
    with (tmp_path / "one/data/mask/um/atypical-0.csv").open() as stream:
        row = next(csv.DictReader(stream))
    assert set(row) >= {"image", "label", "likely", "early_doubt", "aum", "forgetting", "loss_over_epochs", "masked_loss_over_epochs"}
    assert Path(tmp_path / "one/metrics/pictures/atypical-um.png").stat().st_size > 1000


def test_a_table_of_labels_outside_what_dvc_watches_is_told_of():
    """Its content is no dependency of `prepare` there: corrected labels would be overlooked."""
    outside = with_noise(kind="file", path="/somewhere/labels.csv")
    (line,) = [line for line in catalog.unwatched(outside, {}, {}) if "label_noise" in line]
    assert "lies outside images/" in line
    assert not [line for line in catalog.unwatched(with_noise(kind="file", path="images/labels.csv"), {}, {}) if "label_noise" in line]
