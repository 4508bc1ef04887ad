"""What every modality can do, whatever its inputs: a row of this table for each."""

import json

import numpy as np
import pytest
import torch
from data import corpus

from thalweg.data import Batches, load_dataset
from thalweg.data.batch import forward, row_count, tensors_of
from thalweg.data.modalities import MODALITIES, modality_of
from thalweg.errors import DataError
from thalweg.models.build import build_model
from thalweg.planning.checks import check_recipe
from thalweg.planning.make_plan import recipe_for


def images(folder):
    root = corpus.class_folders(folder, {"a": 20, "b": 20})
    return root, min((root / "a").iterdir())


def table(folder):
    rng = np.random.default_rng(0)
    rows = "".join(f"{a:.3f},{b:.3f},{'xy'[int(a > 0)]}\n" for a, b in rng.normal(size=(40, 2)))
    (folder / "table.csv").write_text("a,b,target\n" + rows)
    return folder / "table.csv", folder / "table.csv"


def text(folder):
    path = folder / "river.txt"
    path.write_text("".join(np.random.default_rng(0).choice(list("river of stones\n"), 3_000)))
    return path, path


def pairs(folder):
    path = folder / "pairs.txt"
    verbs, times = ("jump", "run", "walk"), ("once", "twice", "thrice")
    lines = [
        f"IN: {verb} {time} OUT: {' '.join([verb.upper()] * number)}"
        for verb in verbs
        for number, time in enumerate(times, 1)
    ]
    path.write_text("\n".join(lines))
    return path, path


def json_lines(folder, suffix):
    path = folder / f"samples{suffix}"
    lines = [{"values": [i / 7, -1.5], "target": "xy"[i // 20]} for i in range(40)]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path, path


def questions(folder):
    root = corpus.class_folders(folder, {"a": 20, "b": 20})
    names = [(path, path.parent.name) for path in sorted(root.rglob("*.png"))]
    asked = [
        {"image": str(path.relative_to(root)), "question": text, "answer": answer}
        for path, name in names
        for text, answer in (("which?", name), ("is it an a?", "yes" if name == "a" else "no"))
    ]
    (root / "questions.json").write_text(json.dumps(asked))
    return root / "questions.json", root / "questions.json"


def series(folder):
    """Sixty months, and a file that ends where a validation window of the first begins."""
    months = np.datetime64("2015-01") + np.arange(60)
    values = np.random.default_rng(0).normal(size=60) + np.arange(60) % 12
    rows = [f"{month},{value:.6f}" for month, value in zip(months, values, strict=True)]
    (folder / "all.csv").write_text("\n".join(["month,sales", *rows]))
    (folder / "begun.csv").write_text("\n".join(["month,sales", *rows[:50]]))
    return folder / "all.csv", folder / "begun.csv"


def documents(folder):
    path = folder / "reviews.csv"
    words = ["fine film", "dull film", "a fine and moving film", "a dull and empty one"]
    rows = [f"{words[i % 4]} number {i} of the year,{i % 9},{'xy'[i % 2]}" for i in range(60)]
    path.write_text("\n".join(["review,stars,target", *rows]))
    return path, path


ROWS = {
    "document": documents,
    "image": images,
    "vector": table,
    "text": text,
    "pairs": pairs,
    "question": questions,
    "series": series,
}


@pytest.fixture(scope="module", params=ROWS)
def case(request, tmp_path_factory):
    """The data set of a modality, and a file for its trained model to predict."""
    path, source = ROWS[request.param](tmp_path_factory.mktemp(request.param))
    return load_dataset(path), source


def test_every_modality_has_its_row():
    assert set(ROWS) == set(MODALITIES)


def test_its_preprocessing_survives_json(case):
    dataset, _ = case
    values = json.loads(json.dumps(dataset.preprocessing.to_dict()))
    assert values["kind"] == dataset.modality.name == dataset.preprocessing.modality
    assert dataset.modality.restore(values) == dataset.preprocessing


def test_its_recipe_names_a_model_that_takes_its_example_and_its_batches(case):
    dataset, _ = case
    recipe, facts = recipe_for(dataset.facts), dataset.facts
    check_recipe(recipe, facts)
    changes = recipe.model.changes
    size = 3 if facts.task == "classification" else facts.vocabulary or 3
    shape = facts.input_shape
    model = build_model(recipe.model.name, size, input_shape=shape, changes=changes)
    batch = next(Batches(dataset, "train", batch_size=8, augment=recipe.augment).stream())
    for inputs in (dataset.modality.example(facts, 5), batch.inputs):
        rows, *_, outputs = forward(model.eval(), inputs).shape  # tokens of a text may be between
        assert (rows, outputs) == (row_count(inputs), size)


def test_its_batches_begin_anywhere_and_leave_the_random_state_alone(case):
    dataset, _ = case
    augment = recipe_for(dataset.facts).augment
    state = torch.get_rng_state()
    first, second = (
        Batches(dataset, "train", batch_size=7, shuffle=True, augment=augment) for _ in range(2)
    )
    stream = first.stream()
    batches = [next(stream) for _ in range(9)]
    again = next(second.stream(8))
    pairs = zip(tensors_of(batches[8].inputs), tensors_of(again.inputs), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert torch.equal(state, torch.get_rng_state())


def test_a_file_is_decoded_for_prediction_as_it_was_for_training(case):
    dataset, source = case
    (row, *_) = dataset.modality.read_source(dataset.preprocessing, source)
    inputs = dataset.preprocessing.to_inputs(dataset.modality.collate([row.raw]))
    assert row_count(inputs) == 1
    name = row.name.split(", ")[-1]  # "row 2" of a table, the path of a file, or a question
    place = next(i for i, one in enumerate(dataset.names) if name.endswith(one.split(", ")[-1]))
    trained = dataset.modality.collate([dataset.inputs[place]])
    trained = dataset.preprocessing.to_inputs(trained)
    if isinstance(trained, dict):  # a sequence that is still to be written is not in the file
        inputs, trained = (
            {k: v for k, v in one.items() if "source" in k} for one in (inputs, trained)
        )
    for first, second in zip(tensors_of(inputs), tensors_of(trained), strict=True):
        assert torch.equal(first, second)


def test_it_is_described_in_words(case):
    dataset, _ = case
    facts = dataset.facts
    assert dataset.modality.noun
    assert all(text for text in dataset.modality.describe(facts).values())
    assert isinstance(dataset.modality.size(facts), str)


def test_inputs_of_no_modality_are_refused():
    with pytest.raises(DataError, match="of no modality"):
        modality_of(object())
