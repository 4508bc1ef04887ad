"""Several labels a sample, as tables and arrays hold them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thalweg.data import load_dataset
from thalweg.data.sources import samples_at
from thalweg.errors import DataError, UnknownNameError

ROWS = ("1,0,0", "0,1,1", "1,1,0", "0,0,0", "1,0,1", "0,1,0", "0,0,1", "1,1,1")
BITS = np.array([[int(bit) for bit in row.split(",")] for row in ROWS], dtype=np.uint8)
NUMBERS = np.random.default_rng(0).normal(size=(len(ROWS), 2)).round(4)


def manifest(folder: Path, header: str, rows) -> Path:
    (folder / "img").mkdir()
    for index in range(len(rows)):
        pixels = np.full((8, 8, 3), 20 * index, np.uint8)
        Image.fromarray(pixels).save(folder / "img" / f"{index}.png")
    lines = [header, *(f"img/{index}.png,{row}" for index, row in enumerate(rows))]
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return folder / "table.csv"


def table(folder: Path, header: str) -> Path:
    lines = [f"{a},{b},{row}" for (a, b), row in zip(NUMBERS, ROWS, strict=True)]
    (folder / "numbers.csv").write_text("\n".join([header, *lines]) + "\n")
    return folder / "numbers.csv"


def bits(samples) -> list[list[int]]:
    return [
        [int(name in m) for name in "abc"]
        for m in (samples.labels.members[code] for code in samples.labels.codes)
    ]


@pytest.mark.parametrize(
    ("no", "yes"), [("0", "1"), ("0.0", "1.0"), ("False", "True"), ("no", "yes"), ("-1", "1")]
)
def test_a_column_of_zero_and_one_for_each_label_of_an_image(tmp_path, no, yes):
    rows = [row.replace("0", "n").replace("1", yes).replace("n", no) for row in ROWS]
    samples = samples_at(manifest(tmp_path, "image,a,b,c", rows))
    assert bits(samples) == BITS.tolist()
    assert samples.label_place == "the columns 'a' to 'c'"


def test_columns_that_say_more_than_yes_and_no_are_not_used_and_named(tmp_path):
    rows = [f"{row},{number}" for number, row in enumerate(ROWS)]
    samples = samples_at(manifest(tmp_path, "image,a,b,c,width", rows))
    assert bits(samples) == BITS.tolist()
    assert "columns that are not used: 'width'" in samples.notes


def test_one_label_in_every_row_is_its_class(tmp_path):
    rows = ["1,0,0", "0,1,0", "0,0,1", "1,0,0"]
    samples = samples_at(manifest(tmp_path, "image,a,b,c", rows))
    assert [samples.labels.texts[code] for code in samples.labels.codes] == list("abca")
    assert not samples.labels.members


def test_a_row_that_says_neither_is_left_out_and_named(tmp_path):
    samples = samples_at(manifest(tmp_path, "image,a,b,c", [*ROWS, "1,,0"]))
    assert [item.reason for item in samples.quarantined] == ["neither 0 nor 1 in the column 'b'"]


def test_minus_one_beside_zero_is_not_taken_for_no(tmp_path):
    with pytest.raises(DataError, match="no column of labels"):
        samples_at(manifest(tmp_path, "image,a,b", ["1,-1", "0,1", "-1,0", "1,1"]))


@pytest.mark.parametrize(
    ("header", "target"),
    [("x,z,a,b,c", "a,b,c"), ("x,z,a,b,c", "a, b, c"), ("x,z,label_a,label_b,label_c", "")],
)
def test_columns_of_labels_in_a_table_of_numbers(tmp_path, header, target):
    samples = samples_at(table(tmp_path, header), target=target)
    assert samples.features == ("x", "z")
    found = [samples.labels.members[code] for code in samples.labels.codes]
    assert [[int(any(n.endswith(x) for n in m)) for x in "abc"] for m in found] == BITS.tolist()


def test_a_target_that_names_no_columns_is_refused(tmp_path):
    with pytest.raises(UnknownNameError, match="no column"):
        samples_at(table(tmp_path, "x,z,a,b,c"), target="a,b,d")


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, bool])
def test_arrays_of_zeros_and_ones(tmp_path, dtype):
    np.savez(tmp_path / "a.npz", x=np.repeat(NUMBERS, 4, 0), y=np.repeat(BITS, 4, 0).astype(dtype))
    dataset = load_dataset(tmp_path / "a.npz")
    assert dataset.class_names == ("0", "1", "2")
    assert dataset.targets.tolist() == np.repeat(BITS, 4, 0).tolist()
    assert (dataset.facts.task, dataset.facts.num_classes) == ("multi-label", 3)
    rates = dataset.targets[dataset.indices["train"]].mean(0)
    assert dataset.facts.label_rates == pytest.approx(rates)


def test_one_hot_arrays_are_classes_also_where_the_splits_are_arrays_of_their_own(tmp_path):
    hot = np.eye(3, dtype=np.uint8)[np.arange(30) % 3]
    inputs = np.random.default_rng(0).normal(size=(30, 2))
    np.savez(
        tmp_path / "a.npz", x_train=inputs[:20], y_train=hot[:20], x_val=inputs[20:], y_val=hot[20:]
    )
    assert load_dataset(tmp_path / "a.npz").facts.task == "classification"


def test_splits_of_different_labels_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=NUMBERS, y_train=BITS, x_val=NUMBERS, y_val=BITS[:, :2])
    with pytest.raises(DataError, match="differ in shape"):
        samples_at(tmp_path / "a.npz")


def test_a_split_by_labels_keeps_the_rarest_on_both_sides(tmp_path):
    rng = np.random.default_rng(1)
    targets = (rng.random((400, 3)) < [0.6, 0.3, 0.03]).astype(np.uint8)
    np.savez(tmp_path / "a.npz", x=rng.normal(size=(400, 2)), y=targets)
    dataset = load_dataset(tmp_path / "a.npz")
    rare = dataset.targets[:, 2]
    share = rare[dataset.indices["val"]].sum() / rare.sum()
    assert 0.1 <= share <= 0.3


def test_cells_of_few_numbers_are_no_names_of_images(tmp_path):
    """label_a holds 0 and 1, and beside the table lie 0.png and 1.png."""
    manifest(tmp_path, "image,a,b,c", ROWS)
    samples = samples_at(table(tmp_path, "x,z,label_a,label_b,label_c"))
    assert samples.features == ("x", "z")
