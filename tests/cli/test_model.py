"""`thalweg model`."""

import json

import pytest
import torch

from thalweg.cli.model import model
from thalweg.errors import UnknownNameError, UsageError
from thalweg.models import MODELS


def test_a_network_is_shown_as_a_table(capsys):
    model("resnet20", image_size=32)
    out = capsys.readouterr().out
    assert "269,722 weights (1.0 MiB)" in out
    assert "layer3.2.conv2" in out


def test_json_has_the_same_numbers_and_the_effective_field(capsys):
    model("convnet", image_size=32, num_classes=3, effective=True, json=True)
    summary = json.loads(capsys.readouterr().out)
    assert summary["layers"][-1]["output_shape"] == [3]
    theoretical = max(layer["receptive_field"] for layer in summary["layers"][:-1])
    assert 3 < summary["effective_field"] < theoretical


def test_without_a_name_all_are_listed(capsys):
    model()
    assert capsys.readouterr().out.split() == list(MODELS)


def test_an_unknown_network_gets_the_nearest_name():
    with pytest.raises(UnknownNameError, match="resnet18"):
        model("resnet-18")


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"depth": 12}, "steady"),
        ({"depth": 12, "activation": "sigmoid", "init": "xavier"}, "steady"),
        ({"depth": 12, "init": "lecun"}, "vanishing"),
        ({"depth": 12, "init": "lsuv"}, "steady"),
    ],
)
def test_an_initialisation_is_judged_before_training(capsys, changes, verdict):
    """Rectifiers halve the variance a layer where weights have std √(1/n)."""
    torch.manual_seed(0)
    model("mlp", features=100, changes=changes, init=True, json=True)
    summary = json.loads(capsys.readouterr().out)
    assert summary["verdict"] == verdict
    assert len(summary["layers"]) == 13
    if changes.get("init") == "lsuv":
        assert all(abs(layer["std"] - 1) < 0.06 for layer in summary["layers"][:-1])


def test_an_initialisation_is_shown_as_a_table(capsys):
    model("convnet", image_size=16, init=True)
    out = capsys.readouterr().out
    assert "stages.2.1.0" in out
    assert "signals are steady" in out


def test_a_change_that_cannot_be_is_refused():
    with pytest.raises(UsageError, match="cannot be built"):
        model("mlp", features=4, changes={"depht": 3})


def test_a_language_model_is_shown_for_texts(capsys):
    model("transformer_lm", num_classes=65, context=64, json=True)
    anatomy = json.loads(capsys.readouterr().out)
    assert anatomy["layers"][-1]["output_shape"] == [64, 65]
    assert anatomy["weights"] == 2 * 65 * 128 + 4 * 12 * 128**2
    with pytest.raises(UsageError, match="reads texts"):
        model("lstm_lm", init=True)


def test_a_network_for_questions_is_shown_for_an_image_and_words(capsys):
    model("film_answerer", num_classes=13, image_size=64, json=True)
    assert json.loads(capsys.readouterr().out)["layers"][-1]["output_shape"] == [13]
