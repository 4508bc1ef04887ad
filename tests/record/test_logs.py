"""Logs of other trainers are read; files that are none get a clear error."""

import json
import math
import struct
import warnings
from contextlib import suppress
from math import isinf, isnan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.errors import DataError, RunError, ThalwegWarning, UnknownNameError, UsageError
from thalweg.record.logs import read_log
from thalweg.record.logs.event_file import event_scalars, masked_crc
from thalweg.record.metric_names import meaning_of
from thalweg.record.quantities import (
    ACCURACY,
    CHANCE_LOSS,
    GRADIENT_NORM,
    LEARNING_RATE,
    LOSS,
    NUM_CLASSES,
    VAL_ACCURACY,
    VAL_LOSS,
)

LIGHTNING = """\
epoch,lr-Adam,step,train_loss_epoch,train_loss_step,val_acc,val_loss
,0.001,0,,,,
0,,1,,2.1,,
0,,3,,1.7,,
0,,3,,,0.5,1.6
0,,3,1.9,,,
,0.0005,4,,,,
1,,5,,1.2,,
1,,7,,,0.8,1.1
1,,7,1.15,,,
"""
KERAS = """\
epoch,accuracy,learning_rate,loss,val_accuracy,val_loss
0,0.31,0.001,2.1,0.5,1.9
1,0.62,0.001,1.4,0.7,1.2
2,0.75,0.001,0.9,0.8,0.8
"""
FASTAI = "epoch,train_loss,valid_loss,accuracy,time\n0,2.0,1.9,0.4,00:01\n1,1.0,0.9,0.7,00:01\n"
ULTRALYTICS = """\
  epoch,  train/loss,  metrics/accuracy_top1,  metrics/accuracy_top5,  val/loss,  lr/pg0,  lr/pg1
      1,      2.1,      0.5,      0.9,      1.9,      0.001,      0.0
      2,      1.1,      0.7,      1.0,      0.9,      0.002,      0.0
"""
SEMICOLONS = "iteration;Train Loss;Val Loss\r\n10;2.5;2.6\r\n20;1.5;1.7\r\n"
STATE = {
    "global_step": 20,
    "log_history": [
        {"epoch": 0.5, "grad_norm": 2.0, "learning_rate": 5e-5, "loss": 0.7, "step": 10},
        {"epoch": 1.0, "eval_accuracy": 0.8, "eval_loss": 0.6, "eval_runtime": 1.0, "step": 10},
        {"epoch": 1.0, "grad_norm": 1.0, "learning_rate": 1e-5, "loss": 0.5, "step": 20},
        {"epoch": 1.0, "train_loss": 0.6, "train_runtime": 9.0, "step": 20},
    ],
}


@pytest.fixture
def file(tmp_path):
    """Write a file of that name and return its path."""

    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def series(log, quantity, place=""):
    return log.history.series(quantity, place)


def test_lightnings_table_has_blanks_and_a_loss_by_step(file):
    log = read_log(file("metrics.csv", LIGHTNING))
    assert series(log, LOSS) == {1: 2.1, 3: 1.7, 5: 1.2}
    assert series(log, VAL_LOSS) == {3: 1.6, 7: 1.1}
    assert series(log, VAL_ACCURACY) == {3: 0.5, 7: 0.8}
    assert series(log, LEARNING_RATE, "adam") == {0: 0.001, 4: 0.0005}
    assert log.unread == ("train_loss_epoch",)
    assert not log.by_epoch


def test_keras_writes_its_training_scores_without_a_prefix(file):
    log = read_log(file("log.csv", KERAS))
    assert series(log, LOSS) == {0: 2.1, 1: 1.4, 2: 0.9}
    assert series(log, ACCURACY) == {0: 0.31, 1: 0.62, 2: 0.75}
    assert series(log, VAL_ACCURACY) == {0: 0.5, 1: 0.7, 2: 0.8}
    assert log.by_epoch


def test_fastai_writes_its_validation_scores_without_a_prefix(file):
    log = read_log(file("history.csv", FASTAI))
    assert series(log, VAL_ACCURACY) == {0: 0.4, 1: 0.7}
    assert ACCURACY not in log.history


def test_padded_names_and_rates_of_several_groups(file):
    log = read_log(file("results.csv", ULTRALYTICS))
    assert series(log, LOSS) == {1: 2.1, 2: 1.1}
    assert series(log, VAL_LOSS) == {1: 1.9, 2: 0.9}
    assert series(log, VAL_ACCURACY) == {1: 0.5, 2: 0.7}
    assert set(log.history.by_place(LEARNING_RATE)) == {"pg0", "pg1"}


def test_semicolons_and_names_with_spaces(file):
    log = read_log(file("log.csv", SEMICOLONS))
    assert series(log, LOSS) == {10: 2.5, 20: 1.5}


def test_a_trainers_state_without_its_summary(file):
    for name in ("trainer_state.json", "checkpoint-20/trainer_state.json"):
        path = file(name, json.dumps(STATE))
        for source in {path, path if path.parent.name != "checkpoint-20" else path.parent}:
            log = read_log(source)
            assert series(log, LOSS) == {10: 0.7, 20: 0.5}
            assert series(log, VAL_LOSS) == {10: 0.6}
            assert series(log, VAL_ACCURACY) == {10: 0.8}
            assert series(log, GRADIENT_NORM, "all") == {10: 2.0, 20: 1.0}
            assert series(log, LEARNING_RATE, "0") == {10: 5e-5, 20: 1e-5}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("history.json", json.dumps({"loss": [2.0, 1.0], "val_loss": [2.5, 1.5]})),
        ("history.json", json.dumps({"history": {"loss": [2.0, 1.0], "val_loss": [2.5, 1.5]}})),
        ("rows.json", json.dumps([{"loss": 2, "val_loss": 2.5}, {"loss": 1, "val_loss": 1.5}])),
        ("log.jsonl", '{"loss": 2, "val_loss": 2.5}\n\n{"loss": 1, "val_loss": 1.5}\n'),
    ],
)
def test_histories_in_json(file, name, content):
    log = read_log(file(name, content))
    assert series(log, LOSS) == {0: 2.0, 1: 1.0}
    assert series(log, VAL_LOSS) == {0: 2.5, 1: 1.5}


def test_accuracy_in_percent_and_error_rates_are_shares(file):
    rows = "epoch,train_loss,val_acc,val_top5_accuracy\n0,2,40.5,0.9\n1,1,81,0.95\n"
    assert series(read_log(file("a.csv", rows)), VAL_ACCURACY) == {0: 0.405, 1: 0.81}
    rows = "epoch,train_loss,val_error_rate\n0,2,0.75\n1,1,0.25\n"
    assert series(read_log(file("b.csv", rows)), VAL_ACCURACY) == {0: 0.25, 1: 0.75}


def test_a_loss_that_became_nan_stays_and_a_nan_for_a_blank_goes(file):
    dead = "step,loss\n0,2\n1,inf\n2,nan\n3,NaN\n"
    losses = series(read_log(file("dead.csv", dead)), LOSS)
    assert isinf(losses[1])
    assert isnan(losses[2])
    assert isnan(losses[3])
    gaps = "step,loss,val_loss\n0,2,nan\n1,nan,1.9\n2,1,nan\n3,nan,1\n"
    log = read_log(file("gaps.csv", gaps))
    assert series(log, LOSS) == {0: 2.0, 2: 1.0}
    assert series(log, VAL_LOSS) == {1: 1.9, 3: 1.0}


def test_unfamiliar_names_are_listed_and_can_be_mapped(file):
    path = file("log.csv", "step,ce,validation/ce,gpu\n0,2,2.5,70\n1,1,1.5,71\n")
    assert read_log(path).unread == ("ce", "validation/ce", "gpu")
    columns = {"train_loss": "ce", "val_loss": "validation/ce"}
    log = read_log(path, columns=columns, num_classes=10)
    assert series(log, LOSS) == {0: 2.0, 1: 1.0}
    assert series(log, VAL_LOSS) == {0: 2.5, 1: 1.5}
    assert series(log, NUM_CLASSES) == {0: 10.0}
    assert series(log, CHANCE_LOSS) == {0: math.log(10)}
    assert log.unread == ("gpu",)
    assert log.columns == {"ce": "loss", "validation/ce": "val_loss"}


def test_a_mapped_column_wins_over_a_guessed_one(file):
    path = file("log.csv", "step,loss,ema\n0,2,3\n1,1,2\n")
    assert series(read_log(path, columns={"loss": "ema"}), LOSS) == {0: 3.0, 1: 2.0}


def test_a_typing_error_gets_the_nearest_name(file):
    path = file("log.csv", KERAS)
    with pytest.raises(UsageError, match="did you mean val_loss"):
        read_log(path, columns={"val_loss": "val_los"})
    with pytest.raises(UnknownNameError, match="did you mean val_accuracy"):
        read_log(path, columns={"val_acuracy": "accuracy"})


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", "step,train_loss\n", "has no column of numbers"),
        ("a.csv", "name,colour\na,red\n", "has no column of numbers"),
        ("a.csv", "1,2\n3,4\n", "has no column names"),
        ("a.csv", b"\x89PNG\r\n\x1a\n\0\0", "is not a text file"),
        ("a.csv", b"a,b\n1,\0\n", "is not a text file"),
        ("a.json", "{", "is not JSON"),
        ("a.json", '{"a": 1}', "holds no curves"),
        ("a.json", "[" * 100_000, "is not JSON"),
        ("events.out.tfevents.1", b"no event file at all", "is no event file"),
    ],
)
def test_a_bad_file_gets_one_clear_error(file, name, content, problem):
    with pytest.raises(DataError, match=problem) as caught:
        read_log(file(name, content))
    assert caught.value.exit_code == 3
    assert caught.value.fix


def test_a_missing_path_is_no_run(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(RunError, match="is no run"):
            read_log(path)


def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def event(step, tag, value, kind="simple"):
    """An Event with one scalar, in one of the encodings that writers have used."""
    held = {
        "simple": lambda: b"\x15" + struct.pack("<f", value),
        "content": lambda: field(8, b"\x08\x01" + field(4, struct.pack("<f", value))),
        "float": lambda: field(8, b"\x08\x01" + field(5, struct.pack("<f", value))),
        "double": lambda: field(8, b"\x08\x02" + field(6, struct.pack("<d", value))),
        "int64": lambda: field(8, b"\x08\x09" + field(10, varint(int(value)))),
        "vector": lambda: field(8, b"\x08\x01" + field(5, struct.pack("<2f", value, value))),
        "histogram": lambda: field(5, b"\x09" + struct.pack("<d", value)),
    }[kind]()
    summary = field(5, field(1, field(1, tag.encode()) + held))
    return b"\x09" + struct.pack("<d", 1.7e9) + b"\x10" + varint(step) + summary


def record(data):
    length = struct.pack("<Q", len(data))
    sums = [struct.pack("<I", masked_crc(part)) for part in (length, data)]
    return length + sums[0] + data + sums[1]


def events(*rows):
    return b"".join(map(record, [field(3, b"brain.Event:2"), *(event(*row) for row in rows)]))


LOG = events((0, "Loss/train", 2.0), (0, "Loss/val", 2.5), (300, "Loss/train", 1.5))


def test_an_event_file_in_every_encoding(file):
    kinds = ("simple", "content", "float", "double", "int64")
    rows = [(step, "Loss/train", 4.0 - step, kind) for step, kind in enumerate(kinds)]
    rows += [(9, "Loss/train", 1.0, "vector"), (9, "h", 1.0, "histogram")]
    path = file("events.out.tfevents.1.host", events(*rows))
    assert series(read_log(path), LOSS) == {0: 4.0, 1: 3.0, 2: 2.0, 3: 1.0, 4: 0.0}


def test_a_truncated_event_file_is_read_as_far_as_it_goes(file):
    path = file("events.out.tfevents.1", LOG[:-7])
    with pytest.warns(ThalwegWarning, match="breaks off within a record"):
        assert event_scalars(path) == {"Loss/train": {0: 2.0}, "Loss/val": {0: 2.5}}


def test_a_damaged_event_file_is_read_up_to_the_damage(file):
    broken = bytearray(LOG)
    broken[-20] ^= 1
    path = file("events.out.tfevents.1", bytes(broken))
    with pytest.warns(ThalwegWarning, match="is damaged"):
        assert set(event_scalars(path)) == {"Loss/train", "Loss/val"}


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(0, 60))
def test_any_bytes_are_read_or_raise_a_data_error(tmp_path_factory, data, at):
    path = tmp_path_factory.mktemp("events") / "events.out.tfevents"
    for content in (data, LOG[:at] + data, events((0, "a", 1.0)) + record(data)):
        path.write_bytes(content)
        with warnings.catch_warnings(), suppress(DataError):
            warnings.simplefilter("ignore", ThalwegWarning)
            event_scalars(path)


def test_a_log_in_folders_named_for_splits(file):
    file("logs/train/events.out.tfevents.1", events((0, "epoch_loss", 2.0), (1, "epoch_loss", 1.0)))
    folder = file(
        "logs/validation/events.out.tfevents.1",
        events((0, "epoch_loss", 2.5), (1, "epoch_accuracy", 0.5, "content")),
    ).parent.parent
    log = read_log(folder)
    assert series(log, LOSS) == {0: 2.0, 1: 1.0}
    assert series(log, VAL_LOSS) == {0: 2.5}
    assert series(log, VAL_ACCURACY) == {1: 0.5}


def test_a_resumed_log_is_one_and_two_runs_are_two(file):
    folder = file("a/events.out.tfevents.1", LOG).parent
    file("a/events.out.tfevents.2", events((600, "Loss/train", 1.0)))
    assert series(read_log(folder), LOSS) == {0: 2.0, 300: 1.5, 600: 1.0}
    file("b/events.out.tfevents.1", LOG)
    with pytest.raises(UsageError, match=r"several logs(.|\n)*a, b"):
        read_log(folder.parent)


def test_a_folder_with_one_table_and_one_with_two(file):
    folder = file("version_0/metrics.csv", LIGHTNING).parent
    file("version_0/hparams.yaml", "lr: 1")
    assert LOSS in read_log(folder).history
    file("version_0/other.csv", KERAS)
    with pytest.raises(UsageError, match=r"metrics.csv, other.csv"):
        read_log(folder)


@pytest.mark.parametrize(
    ("name", "quantity"),
    [
        ("loss", "loss"),
        ("Loss/train", "loss"),
        ("train_loss_step", "loss"),
        ("valLoss", "val_loss"),
        ("eval_loss", "val_loss"),
        ("validation/loss", "val_loss"),
        ("val_sparse_categorical_accuracy", "val_accuracy"),
        ("val_top5_accuracy", "val_top5_accuracy"),
        ("train/learning_rate", "learning_rate"),
        ("lr-SGD/pg1", "learning_rate"),
        ("train/box_loss", None),
        ("test_loss", None),
        ("eval_runtime", None),
        ("eval_f1", None),
    ],
)
def test_meaning_of_a_name(name, quantity):
    meaning = meaning_of(name)
    assert (meaning and meaning.quantity.name) == quantity


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("long.csv", f"step,loss\n1,{'x' * 200_000}\n"),
        ("digits.json", f'{{"log_history": [{{"step": 1, "loss": {"9" * 5000}}}]}}'),
        ("digits.jsonl", f'{{"step": {"9" * 5000}}}\n'),
        ("deep.json", "[" * 100_000),
    ],
)
def test_a_log_that_no_parser_takes_is_one_error(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError):
        read_log(tmp_path / name)


@pytest.mark.parametrize("name", ["a.csv", "a.json", "events.out.tfevents.1"])
def test_a_log_without_end_is_not_read(tmp_path, name):
    with (tmp_path / name).open("wb") as file:
        file.truncate(1 << 33)  # sparse: no disk is used
    with pytest.raises(DataError, match=name):
        read_log(tmp_path / name)
