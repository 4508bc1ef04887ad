import numpy as np
import pytest
import torch

from thalweg.data import Batches, load_dataset
from thalweg.data.text.divide_text import TextOptions
from thalweg.errors import DataError, UsageError
from thalweg.planning.make_plan import recipe_for


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """20,000 characters of words in random order."""
    rng = np.random.default_rng(0)
    words = ["river", "valley", "stone", "water", "falls", "slope", "down", "the", "a", "of"]
    path = tmp_path_factory.mktemp("text") / "river.txt"
    path.write_text(" ".join(rng.choice(words, 4_000))[:20_000])
    return path


def test_the_last_tenth_validates(text):
    dataset = load_dataset(text)
    (_, train), (begin, end), _ = dataset.inputs.borders
    assert (train, begin, end) == (18_000, 18_000, 20_000)
    assert dataset.inputs.vocabulary.decode(dataset.inputs.tokens.tolist()) == text.read_text()
    rows = dataset.indices["val"]
    assert (dataset.inputs.starts[rows] >= 18_000).all()
    assert any("the last 10% of the text validates, 2,000 characters" in n for n in dataset.notes)


@pytest.mark.parametrize(("val", "test"), [(0.25, 0.0), (0.1, 0.2)])
def test_the_shares_can_be_chosen_and_the_test_split_comes_last(text, val, test):
    dataset = load_dataset(text, val_fraction=val, test_fraction=test)
    ends = [end for _, end in dataset.inputs.borders]
    assert ends == [round(20_000 * (1 - test) * (1 - val)), round(20_000 * (1 - test)), 20_000]
    assert (dataset.facts.counts["test"] > 0) == (test > 0)


def test_the_context_follows_from_the_length_or_is_given(text):
    assert load_dataset(text).facts.input_shape == (16,)
    assert load_dataset(text, text=TextOptions(context=100)).facts.input_shape == (100,)


@pytest.mark.parametrize(
    ("options", "error", "problem"),
    [
        ({"text": TextOptions(context=1)}, UsageError, "no window can have 1"),
        ({"text": TextOptions(context=4_000)}, DataError, "too short for windows of 4,000"),
        ({"text": TextOptions(pieces=3)}, UsageError, "cannot have 3 pieces"),
        ({"folds": 5}, UsageError, "cannot be divided into folds"),
        ({"task": "classification"}, None, ""),  # the targets say what it is; the plan refuses
    ],
    ids=["context", "long", "pieces", "folds", "task"],
)
def test_what_cannot_be_is_refused(text, options, error, problem):
    if error is None:
        assert load_dataset(text, **options).facts.task == "next-token"
        return
    with pytest.raises(error, match=problem):
        load_dataset(text, **options)


def training(dataset, **options):
    augment = recipe_for(dataset.facts).augment
    return Batches(dataset, "train", batch_size=16, shuffle=True, augment=augment, **options)


def test_targets_follow_the_inputs_in_every_batch(text):
    dataset = load_dataset(text)
    tokens = dataset.inputs.tokens
    for batches in (training(dataset), Batches(dataset, "val", batch_size=16)):
        for inputs, targets in batches:
            assert isinstance(inputs, torch.Tensor)
            assert torch.equal(inputs[:, 1:], targets[:, :-1])
            assert inputs.dtype == targets.dtype == torch.int64
    ((first, _), *_) = Batches(dataset, "val", batch_size=16)
    assert isinstance(first, torch.Tensor)
    assert first[0].tolist() == tokens[18_000:18_016].tolist()


def test_each_epoch_begins_at_another_place_and_a_resumed_one_at_its_own(text):
    dataset = load_dataset(text)
    batches = training(dataset, seed=3)
    offsets = []
    for epoch in range(4):
        stream = batches.stream(epoch * len(batches))
        rows = torch.cat([next(stream).inputs for _ in range(len(batches))])
        seen = {tuple(row.tolist()) for row in rows}
        own = [
            offset
            for offset in range(16)
            if tuple(dataset.inputs.tokens[offset : offset + 16].tolist()) in seen
        ]
        offsets.append(own)
    assert len({tuple(own) for own in offsets}) > 1
    again = next(training(dataset, seed=3).stream(37))
    stream = training(dataset, seed=3).stream(30)
    for _ in range(7):
        next(stream)
    assert torch.equal(next(stream).inputs, again.inputs)


def test_ranks_share_a_batch(text):
    dataset = load_dataset(text)
    one = next(training(dataset).stream(5))
    parts = [next(training(dataset).stream(5, rank=rank, count=3)) for rank in range(3)]
    assert torch.equal(torch.cat([part.inputs for part in parts]), one.inputs)
    assert all(torch.equal(part.targets, one.targets) for part in parts)


def test_a_text_that_repeats_itself_is_a_caveat(tmp_path):
    path = tmp_path / "song.txt"
    rng = np.random.default_rng(1)
    verse = "".join(rng.choice(list("abcdefgh \n"), 900))
    path.write_text(verse * 12)
    caveats = [note for note in load_dataset(path).notes if hasattr(note, "headline")]
    assert [caveat.headline for caveat in caveats] == ["Validation text is in the training text"]


def test_characters_of_the_validation_part_alone_are_named(tmp_path):
    path = tmp_path / "late.txt"
    path.write_text("ab cd\n" * 1_000 + "ab é cd\n" * 20)
    (note,) = [note for note in load_dataset(path).notes if "validation part alone" in note]
    assert "'é'" in note


def test_pieces_are_learned_from_the_training_part_alone(tmp_path):
    pytest.importorskip("tokenizers")
    path = tmp_path / "words.txt"
    path.write_text("river valley\n" * 1_800 + "zzyzx qwerty\n" * 200)
    dataset = load_dataset(path, text=TextOptions(tokenizer="bpe", pieces=300))
    pieces = dataset.inputs.vocabulary.token_bytes
    assert any(b"river" in piece for piece in pieces)
    assert not any(b"zz" in piece for piece in pieces)
    assert dataset.facts.token_noun == "token"
