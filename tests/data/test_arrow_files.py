"""Parquet and Arrow files are read as the CSV of the same table, for training and prediction."""

import builtins
import csv
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import pytest
from data import corpus

from thalweg.api import load, train
from thalweg.data import load_dataset
from thalweg.data.sources import arrow_file, samples_at
from thalweg.data.sources.table_file import table_file
from thalweg.errors import DataError, ThalwegError

ROWS = 60
TABLE = {
    "rooms": [i % 7 if i % 11 else None for i in range(ROWS)],
    "area": [i * 1.5 + 0.1 if i % 13 else float("nan") for i in range(ROWS)],
    "kind": ["flat" if i % 3 else "house" if i % 4 else None for i in range(ROWS)],
    "garden": [bool(i % 2) for i in range(ROWS)],
    "built": [date(1990 + i % 30, 1 + i % 12, 1 + i % 28) for i in range(ROWS)],
    "split": ["val" if i % 5 == 0 else "train" for i in range(ROWS)],
    "price": [100.0 + 3 * i for i in range(ROWS)],
}


def parquet(path, table, **options):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(table if isinstance(table, pa.Table) else pa.table(table), path, **options)
    return path


def feather(path, table):
    from pyarrow import feather
    from pyarrow import table as table_of

    feather.write_feather(table_of(table), str(path))
    return path


def arrow_stream(path, table):
    import pyarrow as pa

    data = pa.table(table)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, data.schema) as writer:
        writer.write_table(data)
    return path


def csv_of(path, table):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        cells = [["" if v is None else str(v) for v in column] for column in table.values()]
        writer.writerows(zip(*cells, strict=True))
    return path


WRITERS = {"t.parquet": parquet, "t.feather": feather, "t.arrow": arrow_stream}


@pytest.mark.parametrize("name", WRITERS)
def test_it_reads_as_the_csv_of_the_same_table(tmp_path, name):
    pytest.importorskip("pyarrow")
    binary = load_dataset(WRITERS[name](tmp_path / name, TABLE))
    plain = load_dataset(csv_of(tmp_path / "t.csv", TABLE))
    np.testing.assert_array_equal(binary.inputs, plain.inputs)
    np.testing.assert_array_equal(binary.targets, plain.targets)
    assert binary.facts == plain.facts
    assert binary.fingerprint == plain.fingerprint
    assert binary.notes == plain.notes


def test_a_model_predicts_rows_of_either_format(tmp_path):
    path = parquet(tmp_path / "t.parquet", TABLE)
    run = train(path, epochs=1, out=tmp_path / "runs")
    model = load(run.path)
    rows = [row.raw for row in model.read_source(path)]
    same = [row.raw for row in model.read_source(csv_of(tmp_path / "t.csv", TABLE))]
    assert len(rows) == ROWS
    np.testing.assert_array_equal(rows, same)
    with pytest.raises(DataError, match="lacks 3 of the model's"):
        list(model.read_source(parquet(tmp_path / "u.parquet", {"rooms": [1], "area": [2.0]})))


def test_every_type_has_cells(tmp_path):
    pa = pytest.importorskip("pyarrow")
    when = datetime(2020, 3, 4, 5, 6, 7, tzinfo=UTC)
    table = pa.table(
        {
            "half": pa.array([0.5, None], pa.float16()),
            "exact": [Decimal("1.50"), Decimal("2.25")],
            "big": pa.array([2**53 + 1, 2**63 - 1], pa.int64()),
            "unsigned": pa.array([2**64 - 1, 0], pa.uint64()),
            "word": pa.array(["a", "b"]).dictionary_encode(),
            "number": pa.array([7, 8]).dictionary_encode(),
            "large": pa.array(["x,y", 'q"r'], pa.large_string()),
            "moment": pa.array([when, None], pa.timestamp("ns", "UTC")),
            "local": pa.array([when, when], pa.timestamp("us", "Europe/Berlin")),
            "day": [when.date(), None],
            "clock": [when.time(), None],
            "lasting": pa.array([5, 6], pa.duration("s")),
            "nothing": pa.nulls(2),
            "flag": [True, None],
        }
    )
    file = table_file(parquet(tmp_path / "t.parquet", table))
    header, first, second = (row.cells for row in file.rows())
    cells = dict(zip(header, first, strict=True))
    assert cells["half"] == "0.5"
    assert (cells["exact"], cells["big"]) == ("1.50", "9007199254740993")
    assert (cells["unsigned"], cells["word"], cells["number"]) == ("18446744073709551615", "a", "7")
    assert (cells["large"], cells["flag"], cells["day"]) == ("x,y", "true", "2020-03-04")
    assert cells["moment"].startswith("2020-03-04 05:06:07")
    assert cells["local"].startswith("2020-03-04 06:06:07")
    assert (cells["lasting"], cells["nothing"]) == ("5", "")
    assert dict(zip(header, second, strict=True))["moment"] == ""


def test_a_header_of_numbers_is_a_header(tmp_path):
    table = {"0": [float(i) for i in range(30)], "1": [i % 2 for i in range(30)]}
    found = load_dataset(parquet(tmp_path / "t.parquet", table), target="column 1")
    assert len(found.names) == 30
    assert found.facts.task == "classification"


def test_columns_of_bytes_and_lists_are_left_out_and_said(tmp_path):
    pytest.importorskip("pyarrow")
    table = {"raw": [b"\xff\x00"] * ROWS, "list": [[1, 2]] * ROWS, **TABLE}
    notes = samples_at(parquet(tmp_path / "t.parquet", table)).notes
    assert any("columns of bytes, lists or records: 'raw', 'list' (left out)" in n for n in notes)
    images = {"image": [{"bytes": b"x", "path": "a"}] * 4, "label": [0, 1, 0, 1]}
    with pytest.raises(DataError, match="holds no table of numbers and words"):
        samples_at(parquet(tmp_path / "images.parquet", images))


def test_a_list_of_images_with_splits(tmp_path):
    corpus.class_folders(tmp_path / "images", {"cat": 6, "dog": 6})
    paths = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.png"))
    table = {
        "file": paths,
        "label": [p.split("/")[1] for p in paths],
        "split": ["val" if p.endswith("5.png") else "train" for p in paths],
    }
    found = load_dataset(parquet(tmp_path / "list.parquet", table))
    assert found.facts.counts == {"train": 10, "val": 2, "test": 0}


def test_without_pyarrow_the_command_is_named(tmp_path, monkeypatch):
    (tmp_path / "t.parquet").write_bytes(b"PAR1" + bytes(40) + b"PAR1")
    real = builtins.__import__

    def refuse(name, *rest, **options):
        if name.startswith("pyarrow"):
            raise ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(DataError, match="needs pyarrow") as caught:
        samples_at(tmp_path / "t.parquet")
    assert 'pip install "thalweg[data]"' in caught.value.fix


@pytest.mark.parametrize("name", WRITERS)
def test_a_damaged_file_is_one_error_or_the_table(tmp_path, name):
    pytest.importorskip("pyarrow")
    path = WRITERS[name](tmp_path / name, TABLE)
    data = path.read_bytes()
    generator = np.random.default_rng(0)
    for case in range(60):
        damaged = bytearray(data)
        if case % 3 == 0:
            damaged = damaged[: generator.integers(len(data))]
        else:
            for place in generator.integers(0, len(data), 1 + case % 5):
                damaged[place] = generator.integers(256)
        path.write_bytes(bytes(damaged))
        with suppress(ThalwegError):
            samples_at(path)


def test_a_small_file_of_endless_rows_is_refused(tmp_path, monkeypatch):
    pa = pytest.importorskip("pyarrow")
    rows = 20_000_000
    path = tmp_path / "t.arrow"
    schema = pa.schema([("a", pa.null()), ("b", pa.null()), ("c", pa.null())])
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        writer.write_batch(pa.record_batch([pa.nulls(rows)] * 3, schema=schema))
    with pytest.raises(DataError, match="unpacks into far more"):
        samples_at(path)
    monkeypatch.setattr(arrow_file, "MOST_CELLS", 1000)
    monkeypatch.setattr(arrow_file, "CELLS_PER_BYTE", 1)
    many = parquet(tmp_path / "t.parquet", {"a": [1] * 5000, "y": [2] * 5000})
    with pytest.raises(DataError, match="unpacks into far more"):
        samples_at(many)


def test_two_columns_of_one_name(tmp_path):
    pa = pytest.importorskip("pyarrow")
    table = pa.table([[1, 2], [3, 4], [5, 6]], names=["a", "a", "y"])
    with pytest.raises(DataError, match="have the same name"):
        samples_at(parquet(tmp_path / "t.parquet", table))
