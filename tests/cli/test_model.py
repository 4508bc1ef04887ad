"""`thalweg model`. checklist: H15 I18"""

import json

import pytest

from thalweg.cli.model import model
from thalweg.errors import UnknownNameError
from thalweg.models import MODELS


def test_a_network_is_shown_as_a_table(capsys):
    model("resnet20", image_size=32)
    out = capsys.readouterr().out
    assert "269,722 weights (1.0 MiB)" in out
    assert "layer3.2.conv2" in out


def test_json_has_the_same_numbers_and_the_effective_field(capsys):
    model("convnet", image_size=32, num_classes=3, effective=True, json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["layers"][-1]["output_shape"] == [3]
    theoretical = max(layer["receptive_field"] for layer in found["layers"][:-1])
    assert 3 < found["effective_field"] < theoretical


def test_without_a_name_all_are_listed(capsys):
    model()
    assert capsys.readouterr().out.split() == list(MODELS)


def test_an_unknown_network_gets_the_nearest_name():
    with pytest.raises(UnknownNameError, match="resnet18"):
        model("resnet-18")
