"""Every option, key and device is validated before any file is read."""

import pytest

import thalweg
from thalweg.errors import DataError, ThalwegError, UsageError
from thalweg.planning import make_plan as planning

WRONG = [
    ({"model.name": "resnet81"}, "resnet18"),
    ({"model.name": "mlp", "model.changes": {"widht": 3}}, "did you mean width"),
    ({"optimizer.name": "adamm"}, "did you mean adam"),
    ({"optimizer.name": "sgd", "optimizer.changes": {"beta9": 3.0}}, "beta9"),
    ({"optimizer.lr": -1.0}, "optimizer.lr is out of range"),
    ({"schedule.name": "cosin"}, "cosine"),
    ({"task.name": "segmentation"}, "no task is called"),
    ({"task.loss": "cross_entrpy"}, "cross_entropy"),
    ({"task.name": "regression", "task.loss": "focal"}, "no loss of the task regression"),
    ({"task.penalty": "l7"}, "no penalty is called"),
    ({"batch.size": 0}, "batch.size is out of range"),
    ({"budget.epochs": 0}, "budget.epochs is out of range"),
    ({"data.val_fraction": 1.0}, "data.val_fraction is out of range"),
    ({"data.folds": 1}, "no such fold"),
    ({"data.image_size": 3}, "no image can be 3 px"),
    ({"device": "abacus"}, "no device 'abacus' here"),
    ({"devices": 0}, "devices is out of range"),
    ({"transfer.weights": "nowhere.pt"}, "pretrained weights 'nowhere.pt' do not exist"),
]


@pytest.fixture
def unreadable(monkeypatch, tmp_path):
    """Data whose files nobody may touch."""

    def read(*arguments, **named):
        pytest.fail("a file was read")

    monkeypatch.setattr(planning, "samples_at", read)
    monkeypatch.setattr(planning, "load_dataset", read)
    return tmp_path / "photos"


@pytest.mark.parametrize(("edits", "text"), WRONG, ids=lambda value: str(value)[:60])
def test_a_wrong_value_is_refused_before_a_file_is_read(unreadable, edits, text):
    with pytest.raises(ThalwegError, match=text):
        planning.make_plan(unreadable, edits)


@pytest.mark.parametrize(
    "call", [thalweg.train, thalweg.cross_validate, thalweg.ladder], ids=lambda call: call.__name__
)
def test_a_place_that_takes_no_runs_is_refused_first(unreadable, tmp_path, call):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="no run can be made in"):
        call(unreadable, out=tmp_path / "file" / "runs")


def test_a_ladder_is_checked_before_it_reads(unreadable):
    with pytest.raises(UsageError, match="did you mean ridge"):
        thalweg.ladder(unreadable, rungs=["ridgee"])
    with pytest.raises(UsageError, match="abacus"):
        thalweg.ladder(unreadable, device="abacus")


def test_a_device_for_predictions_is_checked_before_the_model(tmp_path):
    with pytest.raises(UsageError, match="abacus"):
        thalweg.load(tmp_path, device="abacus")


def test_a_range_test_takes_several_rates(tmp_path):
    with pytest.raises(UsageError, match="several rates"):
        thalweg.find_lr(tmp_path, steps=1)


def test_right_values_go_on_to_the_data(tmp_path):
    edits = {"model.name": "mlp", "device": "cpu", "task.loss": "focal", "data.folds": 5}
    with pytest.raises(DataError, match="nowhere"):
        planning.make_plan(tmp_path / "nowhere", edits)
