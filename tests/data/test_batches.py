"""Batches: every sample once an epoch, an order that depends on nothing else, exact resumption."""

import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pytest
import torch
from data import corpus
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.data import Augment, Batches, load_dataset
from thalweg.data.batch import tensors_of
from thalweg.data.batches import room_on
from thalweg.data.images.preprocessing import ImagePreprocessing
from thalweg.data.images.progressive_resizing import ProgressiveResizing
from thalweg.errors import DataError, UsageError

AUGMENT_BY_TURNS = Augment(flip=True, alternating_flip=True, crop_padding=2, cutout=0.3)
AUGMENT = Augment(flip=True, crop_padding=2, brightness=0.2, cutout=0.3)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("batches")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THALWEG_CACHE", str(root / "cache"))
        return load_dataset(corpus.class_folders(root / "photos", {"a": 20, "b": 17}))


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    path = tmp_path_factory.mktemp("vectors") / "data.npz"
    rng = np.random.default_rng(0)
    np.savez(path, x=rng.normal(3, 7, size=(50, 4)), y=rng.normal(size=50))
    return load_dataset(path)


def take(batches, count, *, start=0):
    return list(islice(batches.stream(start), count))


def same(first, second):
    return all(
        torch.equal(a.inputs, b.inputs) and torch.equal(a.targets, b.targets)
        for a, b in zip(first, second, strict=True)
    )


class TestOnADevice:
    """What an accelerator's memory holds is the same as what is sent to it batch by batch."""

    def test_a_split_that_is_held_gives_the_same_batches(self, photos, monkeypatch):
        options: dict[str, Any] = {"batch_size": 7, "shuffle": True, "augment": AUGMENT}
        sent = take(Batches(photos, "train", **options), 9)
        monkeypatch.setattr("thalweg.data.batches.room_on", lambda device: float("inf"))
        held = Batches(photos, "train", **options)
        assert held._raw is not None
        assert same(take(held, 9), sent)

    def test_on_the_cpu_files_stay_mapped(self):
        assert room_on(torch.device("cpu")) == 0

    @pytest.mark.gpu
    def test_a_split_of_a_quarter_of_the_free_memory_is_held(self, photos):
        free, _ = torch.cuda.mem_get_info()
        assert room_on(torch.device("cuda")) == pytest.approx(free / 4, rel=0.1)
        batches = Batches(photos, "train", batch_size=7, augment=AUGMENT, device="cuda")
        assert batches._raw.is_cuda
        assert next(batches.stream()).inputs.is_cuda

    @pytest.mark.gpu
    @pytest.mark.parametrize("held", [True, False])
    def test_no_batch_waits_for_the_gpu(self, photos, held, monkeypatch):
        if not held:
            monkeypatch.setattr("thalweg.data.batches.room_on", lambda device: 0)
        batches = Batches(
            photos, "train", batch_size=7, shuffle=True, augment=AUGMENT, device="cuda"
        )
        stream = batches.stream()
        for _ in range(2 * len(batches)):  # the orders of two epochs are sent, and constants
            next(stream)
        stream = batches.stream()
        torch.cuda.set_sync_debug_mode("error")
        try:
            assert all(next(stream).inputs.is_cuda for _ in range(len(batches)))
        finally:
            torch.cuda.set_sync_debug_mode("default")


class TestOrder:
    @pytest.mark.parametrize("shuffle", [False, True])
    @pytest.mark.parametrize("drop_last", [False, True])
    @pytest.mark.parametrize("size", [1, 7, 10, 30, 1000])
    def test_an_epoch_holds_every_sample_once(self, photos, shuffle, drop_last, size):
        batches = Batches(photos, "train", batch_size=size, shuffle=shuffle, drop_last=drop_last)
        count = len(photos.indices["train"])
        for epoch in range(2):
            first = epoch * len(batches)
            rows = np.concatenate([batches.rows(first + i) for i in range(len(batches))])
            whole = count if not drop_last else count - count % min(size, count)
            assert len(rows) == len(set(rows.tolist())) == whole
            assert set(rows) <= set(photos.indices["train"])

    def test_rows_name_what_is_in_the_batch(self, photos):
        batches = Batches(photos, "train", batch_size=8, shuffle=True)
        for number, batch in enumerate(take(batches, 9)):
            rows = batches.rows(number)
            raw = torch.from_numpy(np.array(photos.inputs[rows]))
            assert torch.equal(batch.inputs, photos.preprocessing.to_inputs(raw))
            assert batch.targets.tolist() == photos.targets[rows].tolist()

    def test_epochs_and_seeds_differ(self, photos):
        def order(seed, epoch):
            batches = Batches(photos, "train", batch_size=1000, shuffle=True, seed=seed)
            return batches.rows(epoch).tolist()

        assert order(0, 0) == order(0, 0)
        assert len({str(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9

    def test_without_shuffling_it_is_the_order_of_the_split(self, photos):
        batches = Batches(photos, "val", batch_size=3)
        rows = np.concatenate([batches.rows(i) for i in range(len(batches))])
        assert (rows == photos.indices["val"]).all()

    def test_iterating_is_the_first_epoch(self, photos):
        batches = Batches(photos, "train", batch_size=8, shuffle=True)
        assert same(list(batches), take(batches, len(batches)))


class TestResumption:
    @pytest.mark.parametrize("augment", [None, AUGMENT, Augment(crop_scale=0.5)])
    def test_a_stream_begun_in_the_middle_is_the_tail_bit_for_bit(self, photos, augment):
        def made():
            return Batches(photos, "train", batch_size=7, shuffle=True, seed=3, augment=augment)

        whole = take(made(), 17)
        for start in (1, 4, 5, 6, 16):
            torch.manual_seed(start)
            assert same(take(made(), 17 - start, start=start), whole[start:])

    @settings(max_examples=20, deadline=None)
    @given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(0, 2**40))
    def test_a_batch_does_not_depend_on_what_was_asked_before(self, photos, numbers, seed):
        kept = Batches(photos, "train", batch_size=5, shuffle=True, seed=seed, augment=AUGMENT)
        for number in numbers:
            fresh = Batches(photos, "train", batch_size=5, shuffle=True, seed=seed, augment=AUGMENT)
            assert same(take(kept, 1, start=number), take(fresh, 1, start=number))

    @pytest.mark.parametrize("augment", [AUGMENT, Augment(crop_scale=0.5, saturation=0.3)])
    def test_threads_make_the_same_batches(self, photos, augment, monkeypatch):
        monkeypatch.setattr("thalweg.data.batches.threads_to_spare", lambda _: 2)
        batches = Batches(photos, "train", batch_size=7, shuffle=True, augment=augment)
        alone = take(batches, 30, start=2)
        with closing(batches.stream(2, prefetch=True)) as stream:
            assert same(islice(stream, 30), alone)

    def test_the_users_random_numbers_are_left_alone(self, photos):
        state = torch.get_rng_state()
        take(Batches(photos, "train", batch_size=5, shuffle=True, augment=AUGMENT), 9)
        assert torch.equal(state, torch.get_rng_state())

    def test_chance_differs_from_batch_to_batch_and_epoch_to_epoch(self, tmp_path, cache_dir):
        root = corpus.class_folders(tmp_path, {"a": 2, "b": 2})
        batches = Batches(load_dataset(root), "val", batch_size=9, augment=Augment(cutout=0.3))
        seen = {batch.inputs.numpy().tobytes() for batch in take(batches, 8)}
        assert len(seen) > 4


class TestParts:
    """A rank makes its rows of the inputs, and they are those of the whole batch bit for bit."""

    WISHES = (
        None,
        AUGMENT_BY_TURNS,
        Augment(crop_scale=0.4, saturation=0.3, contrast=0.2),
        Augment(flip=True, random_ops=2, random_magnitude=1.0),
    )

    @pytest.mark.parametrize("augment", WISHES, ids=["none", "shifts", "boxes", "random"])
    @pytest.mark.parametrize("held", [True, False])
    @pytest.mark.parametrize("count", [2, 3, 6])
    def test_of_all_ranks_they_are_the_batch(self, photos, augment, held, count, monkeypatch):
        """Equal parts, unequal ones, and in an epoch's last batch empty ones."""
        monkeypatch.setattr("thalweg.data.batches.READY_BYTES", held * 10**9)
        monkeypatch.setattr("thalweg.data.batches.room_on", lambda device: held * 10**9)
        options = {"batch_size": 7, "shuffle": True, "augment": augment}
        batches, shrink = Batches(photos, "train", **options), ProgressiveResizing(((12, 3),))
        whole = list(islice(batches.stream(resize=shrink), 9))
        assert {len(batch.targets) for batch in whole} == {7, 2}
        parts = [batches.stream(resize=shrink, rank=rank, count=count) for rank in range(count)]
        for batch, *made in zip(whole, *parts, strict=False):
            assert torch.equal(torch.cat([part.inputs for part in made]), batch.inputs)
            assert all(torch.equal(part.targets, batch.targets) for part in made)

    def test_the_others_rows_are_not_made(self, photos, monkeypatch):
        made, whole = [], ImagePreprocessing.to_inputs

        def counted(self, raw):
            made.append(len(raw))
            return whole(self, raw)

        monkeypatch.setattr(ImagePreprocessing, "to_inputs", counted)
        batches = Batches(photos, "train", batch_size=10, augment=AUGMENT)
        assert len(next(batches.stream(rank=1, count=4)).inputs) == 3
        assert made == [3]


class TestHeld:
    def test_what_is_held_ready_equals_what_is_gathered(self, photos, vectors, monkeypatch):
        ready = [take(Batches(d, "train", batch_size=6), 4) for d in (photos, vectors)]
        monkeypatch.setattr("thalweg.data.batches.READY_BYTES", 0)
        monkeypatch.setattr("thalweg.data.batches.READY_FLOAT_BYTES", 0)
        monkeypatch.setattr("thalweg.data.batches.RELEASE_BYTES", 0)
        gathered = [take(Batches(d, "train", batch_size=6), 4) for d in (photos, vectors)]
        for first, second in zip(ready, gathered, strict=True):
            assert same(first, second)

    def test_images_come_channels_last(self, photos, monkeypatch):
        for limit in (0, 1 << 30):
            monkeypatch.setattr("thalweg.data.batches.READY_BYTES", limit)
            (batch,) = take(Batches(photos, "train", batch_size=6), 1)
            assert batch.inputs.shape == (6, 3, 16, 16)
            assert batch.inputs.dtype == torch.float32
            assert batch.inputs.is_contiguous(memory_format=torch.channels_last)
            assert batch.targets.dtype == torch.int64

    def test_batches_may_be_written_to(self, photos, vectors):
        for dataset in (photos, vectors):
            batches = Batches(dataset, "train", batch_size=6)
            first = take(batches, 1)[0].inputs
            expected = first.clone()
            first.zero_()
            assert torch.equal(take(batches, 1)[0].inputs, expected)

    def test_an_empty_split(self, photos):
        batches = Batches(photos, "test", batch_size=6)
        assert len(batches) == 0
        assert list(batches) == []
        with pytest.raises(DataError, match="split 'test' is empty"):
            next(batches.stream())
        assert isinstance(batches.stream(), Iterator)


class TestPreprocessing:
    def test_train_is_centred_and_has_unit_deviation(self, photos, vectors):
        for dataset in (photos, vectors):
            (batch,) = take(Batches(dataset, "train", batch_size=1000), 1)
            over = (0, 2, 3) if batch.inputs.ndim == 4 else (0,)
            assert batch.inputs.mean(over).abs().max() < 1e-5
            assert (batch.inputs.std(over, correction=0) - 1).abs().max() < 1e-5

    def test_statistics_are_of_train_alone(self, photos):
        train = np.asarray(photos.inputs)[photos.indices["train"]].astype(np.float64) / 255
        np.testing.assert_allclose(photos.preprocessing.mean, train.mean((0, 1, 2)), rtol=1e-9)
        np.testing.assert_allclose(photos.preprocessing.std, train.std((0, 1, 2)), rtol=1e-6)

    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
    def test_images_against_the_formula(self, channels, dtype):
        made = ImagePreprocessing(
            image_size=5,
            channels=channels,
            mean=(0.2, 0.4, 0.6)[:channels],
            std=(0.1, 0.2, 0.3)[:channels],
        )
        raw = torch.randint(0, 256, (4, 5, 5, channels), dtype=torch.uint8)
        mean, std = torch.tensor(made.mean).double(), torch.tensor(made.std).double()
        expected = ((raw.double() / 255 - mean) / std).permute(0, 3, 1, 2)
        found = made.to_inputs(raw.to(dtype))
        torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)

    def test_it_survives_json(self, photos, vectors):
        import json

        for dataset in (photos, vectors):
            values = json.loads(json.dumps(dataset.preprocessing.to_dict()))
            assert dataset.modality.restore(values) == dataset.preprocessing

    def test_another_policy_is_refused(self, photos):
        values = photos.preprocessing.to_dict() | {"policy_version": 0}
        with pytest.raises(DataError, match="another decode policy"):
            ImagePreprocessing.from_dict(values)

    def test_one_file_is_decoded_as_training_saw_it(self, tmp_path):
        root = corpus.class_folders(tmp_path / "set", {"a": 5, "b": 5}, size=40)
        dataset = load_dataset(root, image_size=24)
        for row, name in enumerate(dataset.names):
            for source in (root / name, (root / name).read_bytes()):
                found = dataset.preprocessing.decode(source)
                assert (found == dataset.inputs[row]).all()

    def test_colour_and_grey_are_brought_to_what_the_model_takes(self, photos, tmp_path):
        grey = corpus.encoded(corpus.picture(3).convert("L"))
        assert photos.preprocessing.decode(grey).shape == (16, 16, 3)
        root = corpus.class_folders(tmp_path / "grey", {"a": 4, "b": 4}, mode="L")
        made = load_dataset(root).preprocessing
        assert made.decode(corpus.encoded(corpus.picture(3))).shape == (16, 16, 1)

    def test_what_cannot_be_decoded_is_an_error_with_its_name(self, photos, vectors, tmp_path):
        with pytest.raises(DataError, match=r"gone\.png cannot be decoded") as caught:
            photos.preprocessing.decode(tmp_path / "gone.png")
        assert "No such file" in caught.value.seen
        with pytest.raises(DataError, match="the image cannot be decoded"):
            photos.preprocessing.decode(b"")
        with pytest.raises(UsageError, match="takes tables"):
            list(vectors.modality.read_source(vectors.preprocessing, b""))

    def test_it_may_be_used_under_inference_mode_and_then_in_training(self, photos):
        raw = torch.from_numpy(np.array(photos.inputs[:2]))
        with torch.inference_mode():
            photos.preprocessing.to_inputs(raw)
        inputs = photos.preprocessing.to_inputs(raw)
        weight = torch.ones_like(inputs, requires_grad=True)
        (inputs * weight).sum().backward()
        assert torch.equal(weight.grad, inputs)


def test_nothing_heavy_is_loaded_before_it_is_needed():
    import subprocess

    code = (
        "import sys, thalweg.data.images.cache; print('torch' in sys.modules, 'PIL' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]


class TestTurns:
    """Each image is flipped in every other epoch; the first time by chance."""

    TURNS = Augment(flip=True, alternating_flip=True)

    def seen(self, photos, epochs, **wishes):
        """For each epoch, the samples as they came, in the order of the data."""
        batches = Batches(photos, "train", batch_size=7, shuffle=True, **wishes)
        stream = batches.stream()
        for epoch in range(epochs):
            rows = [batches.rows(epoch * len(batches) + i) for i in range(len(batches))]
            images = torch.cat([one for _ in rows for one in tensors_of(next(stream).inputs)])
            yield images[torch.from_numpy(np.concatenate(rows)).argsort()]

    def test_every_sample_is_seen_both_ways_in_any_two_epochs(self, photos):
        (plain,) = self.seen(photos, 1)
        mirrored = []
        for images in self.seen(photos, 4, augment=self.TURNS):
            mirrored.append((images == plain.flip(3)).flatten(1).all(1))
            as_is = (images == plain).flatten(1).all(1)
            assert torch.equal(mirrored[-1], ~as_is)  # one or the other, nothing else
        assert 0 < mirrored[0].sum() < len(plain)
        assert all(torch.equal(later, ~earlier) for earlier, later in pairwise(mirrored))

    def test_the_turns_follow_from_the_seed(self, photos):
        (a,), (b,), (c,) = (self.seen(photos, 1, augment=self.TURNS, seed=s) for s in (1, 1, 2))
        assert torch.equal(a, b)
        assert not torch.equal(a, c)

    def test_turns_and_small_images_go_on_in_the_middle_of_an_epoch(self, photos):
        wishes: dict[str, Any] = {"batch_size": 7, "shuffle": True, "augment": AUGMENT_BY_TURNS}
        shrink = ProgressiveResizing(((20, 7),))
        whole = list(islice(Batches(photos, "train", **wishes).stream(resize=shrink), 10))
        again = list(islice(Batches(photos, "train", **wishes).stream(6, resize=shrink), 4))
        assert same(whole[6:], again)
        assert [batch.inputs.shape[2] for batch in again] == [20] + 3 * [photos.inputs.shape[1]]
