"""Splits: properties that hold for any data, and what is said about copies and rare classes."""

import numpy as np
import pytest
from data import corpus
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.data import load_dataset
from thalweg.data.samples import SPLITS, UNSPLIT
from thalweg.data.split import TEST, TRAIN, VAL, Holdout, fold_of, hold_out, split_rows
from thalweg.errors import DataError, UsageError


def digests_of(contents):
    """A digest for each content number, as spread as a hash's."""
    rows = [np.random.default_rng(content).bytes(16) for content in contents]
    return np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(-1, 16)


contents = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 3)), min_size=1, max_size=80)


class TestHoldOut:
    @settings(max_examples=80, deadline=None)
    @given(contents, st.integers(-5, 5), st.sampled_from([0.1, 0.2, 0.5]))
    def test_equal_contents_stay_together(self, samples, seed, fraction):
        numbers, classes = map(np.array, zip(*samples, strict=True))
        codes = hold_out(digests_of(numbers), classes, fraction=fraction, seed=seed)
        for number in set(numbers):
            assert len(set(codes[numbers == number])) == 1

    @settings(max_examples=80, deadline=None)
    @given(
        st.lists(st.integers(0, 10**6), min_size=8, max_size=80, unique=True),
        st.sampled_from([0.1, 0.2, 0.5]),
        st.integers(0, 3),
    )
    def test_every_class_gives_its_share(self, numbers, fraction, seed):
        classes = np.arange(len(numbers)) % 3
        codes = hold_out(digests_of(numbers), classes, fraction=fraction, seed=seed)
        for index in range(3):
            size = int((classes == index).sum())
            held = int((codes[classes == index] == VAL).sum())
            assert abs(held - fraction * size) <= 1
            assert 1 <= held < size or size == 1

    @settings(max_examples=80, deadline=None)
    @given(
        st.lists(st.integers(0, 10**6), min_size=3, max_size=60, unique=True),
        st.integers(1, 5),
        st.randoms(use_true_random=False),
    )
    def test_adding_samples_moves_at_most_as_many_others(self, numbers, added, random):
        classes = np.arange(len(numbers)) % 2
        before = hold_out(digests_of(numbers), classes, fraction=0.2, seed=0)
        more = [*numbers, *range(2_000_000, 2_000_000 + added)]
        order = list(range(len(more)))
        random.shuffle(order)
        new_classes = np.concatenate([classes, np.ones(added, dtype=np.int64)])
        after = hold_out(digests_of(more)[order], new_classes[order], fraction=0.2, seed=0)[
            np.argsort(order)
        ][: len(numbers)]
        moved = before != after
        assert moved.sum() <= added
        assert not moved[classes == 0].any(), "a class that nothing was added to is untouched"

    def test_the_seed_matters(self):
        digests, classes = digests_of(range(100)), np.zeros(100, dtype=np.int64)
        first, second = (hold_out(digests, classes, fraction=0.2, seed=s) for s in (0, 1))
        assert (first != second).any()

    @pytest.mark.slow
    def test_a_hundred_thousand_classes(self):
        digests = np.random.default_rng(0).integers(0, 256, (200_000, 16), dtype=np.uint8)
        codes = hold_out(digests, np.arange(200_000) // 2, fraction=0.2, seed=0)
        assert (codes.reshape(-1, 2).sum(axis=1) == VAL).all()


class TestGiven:
    def split(self, given, classes=None):
        given = np.array(given, dtype=np.int8)
        classes = np.zeros(len(given), dtype=np.int64) if classes is None else classes
        return split_rows(
            digests_of(range(len(given))), classes, given_splits=given, held=Holdout()
        )

    def test_given_splits_are_kept(self):
        found, notes = self.split([TRAIN, VAL, TEST, TRAIN])
        assert {name: rows.tolist() for name, rows in found.items()} == {
            "train": [0, 3],
            "val": [1],
            "test": [2],
        }
        assert notes == ["split: 2 train, 1 val, 1 test, as given"]

    def test_without_val_a_part_of_train_is_held_out_and_test_left_alone(self):
        found, notes = self.split([TRAIN] * 10 + [TEST] * 5)
        assert [len(found[name]) for name in SPLITS] == [8, 2, 5]
        assert "20% of train held out" in notes[0]

    def test_samples_without_a_split_train(self):
        found, notes = self.split([TRAIN, VAL, UNSPLIT])
        assert found["train"].tolist() == [0, 2]
        assert "1 sample names no split" in notes[0]

    @pytest.mark.parametrize("given", [[VAL, VAL], [TEST, VAL], [UNSPLIT], [TRAIN]])
    def test_train_and_val_are_needed(self, given):
        with pytest.raises(DataError, match="no sample is left for"):
            self.split(given)


class TestNotes:
    def test_copies_stay_on_one_side(self, tmp_path):
        root = corpus.class_folders(tmp_path, {"a": 10, "b": 10})
        for index in range(10):
            corpus.write(root / "a" / f"copy{index}.png", 1003)
        found = load_dataset(root)
        copies = {i for i, name in enumerate(found.names) if "copy" in name}
        copies.add(found.names.index("a/0003.png"))
        sides = [name for name in SPLITS if copies & set(found.indices[name].tolist())]
        assert len(sides) == 1
        assert any("10 samples are exact copies" in note for note in found.notes)

    def test_copies_across_given_splits_are_named(self, tmp_path):
        for split, first in (("train", 0), ("val", 8)):
            for index in range(10):
                corpus.write(tmp_path / split / "ab"[index % 2] / f"{index}.png", first + index)
        found = load_dataset(tmp_path)
        assert found.facts.counts == {"train": 10, "val": 10, "test": 0}
        note = next(note for note in found.notes if "more than one split" in note)
        assert note.startswith("2 contents")
        assert "train: train/a/8.png = val: val/a/0.png" in note

    def test_copies_with_two_labels_are_named(self, tmp_path):
        root = corpus.class_folders(tmp_path, {"a": 6, "b": 6})
        corpus.write(root / "b" / "also.png", 1000)
        notes = load_dataset(root).notes
        assert any(
            "1 content bears more than one label: a/0000.png = b/also.png" in n for n in notes
        )

    def test_one_sample_of_a_class_trains_and_is_said(self, tmp_path):
        found = load_dataset(corpus.class_folders(tmp_path, {"a": 10, "b": 10, "rare": 1}))
        assert found.names.index("rare/0000.png") in found.indices["train"]
        assert "1 class has no sample in val: rare" in found.notes

    def test_one_sample_of_every_class_is_refused_with_advice(self, tmp_path):
        with pytest.raises(DataError, match="no sample is left for val") as caught:
            load_dataset(corpus.class_folders(tmp_path, {"a": 1, "b": 1, "c": 1}))
        assert "at least two samples" in caught.value.fix

    def test_a_class_that_is_only_in_val_is_said(self, tmp_path):
        corpus.class_folders(tmp_path / "train", {"a": 4, "b": 4})
        corpus.class_folders(tmp_path / "val", {"a": 2, "new": 2})
        found = load_dataset(tmp_path)
        assert found.class_names == ("a", "b", "new")
        assert "1 class has no sample in train: new" in found.notes

    def test_heavy_imbalance_is_said(self, tmp_path):
        found = load_dataset(corpus.class_folders(tmp_path, {"many": 60, "few": 5}))
        assert "imbalanced: 48 samples of many to 4 of few in train" in found.notes


class TestFingerprint:
    def test_it_follows_contents_labels_split_and_size(self, tmp_path):
        root = corpus.class_folders(tmp_path / "one", {"a": 10, "b": 10})
        first = load_dataset(root).fingerprint
        assert load_dataset(root).fingerprint == first
        copy = corpus.class_folders(tmp_path / "two", {"a": 10, "b": 10})
        assert load_dataset(copy).fingerprint == first
        others = {
            load_dataset(root, seed=1).fingerprint,
            load_dataset(root, image_size=12).fingerprint,
            load_dataset(root, val_fraction=0.3).fingerprint,
        }
        (root / "a" / "0000.png").rename(root / "b" / "moved.png")
        others.add(load_dataset(root).fingerprint)
        corpus.write(root / "b" / "moved.png", 99)
        others.add(load_dataset(root).fingerprint)
        assert len(others | {first}) == 6


class TestFolds:
    @settings(max_examples=60, deadline=None)
    @given(contents, st.integers(-5, 5), st.integers(2, 6))
    def test_every_sample_validates_once_and_copies_together(self, samples, seed, folds):
        numbers, classes = map(np.array, zip(*samples, strict=True))
        if len(set(numbers)) < folds:
            return
        digests = digests_of(numbers)
        parts = [
            fold_of(digests, classes, held=Holdout(folds=folds, fold=fold, seed=seed)) == VAL
            for fold in range(1, folds + 1)
        ]
        assert (np.sum(parts, axis=0) == 1).all()
        for number in set(numbers):
            assert all(len(set(part[numbers == number])) == 1 for part in parts)

    def test_each_fold_has_its_share_of_each_class(self):
        classes = np.repeat([0, 1, 2], [50, 25, 7])
        for fold in range(1, 6):
            held = Holdout(folds=5, fold=fold)
            codes = fold_of(digests_of(range(82)), classes, held=held)
            counts = np.bincount(classes[codes == VAL], minlength=3)
            assert (np.abs(counts - np.array([10, 5, 1.4])) < 1).all()

    def test_test_samples_are_in_no_fold(self, tmp_path):
        path = tmp_path / "numbers.csv"
        words = ["train"] * 40 + ["val"] * 10 + ["test"] * 10
        rows = [f"{i},{i % 2},{word}" for i, word in enumerate(words)]
        path.write_text("a,target,split\n" + "\n".join(rows))
        found = [load_dataset(path, folds=5, fold=fold) for fold in range(1, 6)]
        assert all(set(data.indices["test"]) == set(range(50, 60)) for data in found)
        assert sorted(np.concatenate([data.indices["val"] for data in found])) == list(range(50))

    @pytest.mark.parametrize(
        ("held", "text"),
        [
            pytest.param({"folds": 1}, "no such fold", id="one fold"),
            pytest.param({"folds": 3, "fold": 4}, "fold 4 of 3", id="fold beyond"),
            pytest.param({"folds": -2}, "no such fold", id="negative"),
            pytest.param({"test_fraction": 1.0}, "test_fraction", id="all is test"),
            pytest.param({"val_fraction": float("nan")}, "val_fraction", id="not a number"),
        ],
    )
    def test_what_cannot_be_meant_is_refused(self, held, text):
        with pytest.raises(UsageError, match=text):
            Holdout(**held).check()

    def test_more_folds_than_samples_are_refused(self):
        with pytest.raises(DataError, match="too few samples for 9 folds"):
            fold_of(digests_of(range(8)), np.zeros(8, np.int64), held=Holdout(folds=9))


class TestHeldBack:
    def test_test_split_is_the_same_for_every_seed(self, tmp_path):
        path = tmp_path / "numbers.csv"
        path.write_text("a,target\n" + "\n".join(f"{i},{'xy'[i % 2]}" for i in range(100)))
        found = [load_dataset(path, test_fraction=0.2, seed=seed) for seed in (0, 1)]
        first, second = (set(data.indices["test"].tolist()) for data in found)
        assert first == second
        assert len(first) == 20
        assert set(found[0].indices["val"]) != set(found[1].indices["val"])
        assert all(not first & {*data.indices["train"], *data.indices["val"]} for data in found)

    def test_given_test_split_is_kept(self):
        codes = np.array([TRAIN, TRAIN, VAL, TEST], dtype=np.int8)
        found, notes = split_rows(
            digests_of(range(4)),
            np.zeros(4, np.int64),
            given_splits=codes,
            held=Holdout(test_fraction=0.5),
        )
        assert found["test"].tolist() == [3]
        assert "test_fraction is not used: the data bring a test split" in notes
