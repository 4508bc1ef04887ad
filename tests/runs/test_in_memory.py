"""Data in memory: trained on, and predicted, as their files are."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

import thalweg
from thalweg.data.in_memory import save_in_memory
from thalweg.data.sources import samples_at
from thalweg.errors import DataError, UsageError


class Frame:
    """A data frame, as far as pandas and polars agree."""

    def __init__(self, **columns):
        self.columns, self._values = list(columns), columns

    def __getitem__(self, name):
        return self._values[name]


def frame(rows: int = 80) -> Frame:
    return Frame(
        size=[None if row % 9 == 0 else row / 8 for row in range(rows)],
        city=[("Rome", "Oslo")[row % 2] for row in range(rows)],
        price=[row + 40 * (row % 2) for row in range(rows)],
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return thalweg.train(frame(), target="price", epochs=60, out=tmp_path_factory.mktemp("runs"))


def test_a_data_frame_is_trained_on_and_its_run_can_be_resumed(run):
    assert run.metrics["val_r2"] > 0.5
    assert thalweg.resume(run.path).metrics == run.metrics


def test_frames_arrays_dictionaries_and_files_get_the_same_prediction(run, tmp_path):
    (tmp_path / "new.csv").write_text("city,size\nOslo,5\nRome,\n")
    values = [prediction.value for prediction in thalweg.predict(run.path, tmp_path / "new.csv")]
    assert len(values) == 2
    forms = [
        Frame(city=["Oslo", "Rome"], size=[5, float("nan")]),
        [{"city": "Oslo", "size": 5}, {"city": "Rome"}],
        np.array([[5, "Oslo"], [None, "Rome"]], dtype=object),
        [[5, "Oslo"], [None, "Rome"]],
        [str(tmp_path / "new.csv")],
    ]
    for form in forms:
        assert [p.value for p in thalweg.predict(run.path, form)] == values
    one = thalweg.predict(run.path, {"city": "Oslo", "size": 5})
    assert [p.value for p in one] == pytest.approx(values[:1])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Frame(size=[1]), "lack 1 of the model's 2 columns"),
        (np.zeros((2, 3)), "has not the columns"),
        (object(), "are no array"),
    ],
)
def test_a_value_that_is_no_row_of_the_table_is_refused(run, value, message):
    with pytest.raises((DataError, UsageError), match=message):
        thalweg.predict(run.path, value)


@pytest.mark.parametrize("kind", ["array", "tensor", "lists"])
def test_inputs_and_targets(tmp_path, kind):
    inputs = np.arange(60, dtype=np.float32).reshape(20, 3)
    targets = np.array(["ab"[row % 2] for row in range(20)])
    as_kind = {"array": inputs, "tensor": torch.tensor(inputs), "lists": inputs.tolist()}[kind]
    path, column = save_in_memory(as_kind, targets.tolist(), tmp_path)
    assert save_in_memory(as_kind, targets, tmp_path)[0] == path  # equal data, one file
    samples = samples_at(path, target=column)
    np.testing.assert_array_equal(samples.inputs, inputs)
    assert [samples.labels.texts[code] for code in samples.labels.codes] == targets.tolist()


def test_a_frame_with_targets_beside_it(tmp_path):
    path, column = save_in_memory(Frame(a=[1, 2], b=["x, y", None]), np.array([0.5, 1.5]), tmp_path)
    with path.open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["a", "b", "target"],
            ["1", "x, y", "0.5"],
            ["2", "", "1.5"],
        ]
    assert column == "target"


@pytest.mark.parametrize(
    ("data", "targets", "message"),
    [
        (np.zeros((4, 2)), None, "inputs without targets"),
        (Frame(a=[1, 2]), [1, 2, 3], "differ in length"),
        (Frame(target=[1, 2]), [1, 2], "also a column of the inputs"),
        (3, [1], "are no array"),
        (np.zeros((4, 2)), Frame(a=[1], b=[2]), "one target a sample"),
    ],
)
def test_data_that_cannot_be_meant_are_refused(tmp_path, data, targets, message):
    with pytest.raises(UsageError, match=message):
        save_in_memory(data, targets, tmp_path)


def test_images_in_memory_are_predicted_as_their_files_are(tmp_path):
    for name, level in (("dark", 40), ("light", 200)):
        for index in range(6):
            pixels = np.full((8, 8, 3), level + index, np.uint8)
            (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{index}.png")
    run = thalweg.train(tmp_path / "data", model="mlp", epochs=1, out=tmp_path / "runs")
    picture = Image.fromarray(pixels)
    answers = thalweg.predict(run.path, tmp_path / "data" / "light" / "5.png")
    for form in (picture, [picture], pixels, pixels[None], torch.tensor(pixels).movedim(2, 0)):
        assert thalweg.predict(run.path, form) == answers
