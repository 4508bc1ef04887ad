"""model.json as anybody may have written it: one clear error, before anything is computed."""

import json
import shutil

import numpy as np
import pytest

from thalweg.api import load, train
from thalweg.errors import DataError, RunError


@pytest.fixture(scope="module")
def run(scans, tmp_path_factory):
    return train(scans, out=tmp_path_factory.mktemp("runs"), model="mlp", epochs=1).path


@pytest.fixture(scope="module")
def table_run(diabetes, tmp_path_factory):
    return train(diabetes, out=tmp_path_factory.mktemp("runs"), model="mlp", epochs=1).path


def with_values(run, folder, **values):
    """A copy of the run with these values in model.json, in `preprocessing` where it has them."""
    copy = folder / run.name
    shutil.copytree(run, copy)
    path = copy / "model" / "model.json"
    manifest = json.loads(path.read_text())
    for name, value in values.items():
        place = manifest["preprocessing"] if name in manifest["preprocessing"] else manifest
        assert name in place
        place[name] = value
    path.write_text(json.dumps(manifest))
    return copy


@pytest.mark.parametrize(
    "values",
    [
        {"mean": [float("nan")]},
        {"std": [0.0]},
        {"std": [-1.0]},
        {"mean": [0.1, 0.2]},
        {"mean": ["a"]},
        {"image_size": 10**12},
        {"image_size": -4},
        {"channels": 7},
        {"class_names": ["a"]},
    ],
    ids=str,
)
def test_odd_values_of_an_image_model(run, tmp_path, values):
    with pytest.raises(RunError, match=r"model\.json"):
        load(with_values(run, tmp_path, **values))


def test_odd_values_of_a_table_model(table_run, tmp_path):
    with pytest.raises(RunError, match=r"model\.json"):
        load(with_values(table_run, tmp_path, std=[0.0] * 10))


def test_images_of_no_numbers_are_no_black_images(run):
    with pytest.raises(DataError, match="no numbers"):
        load(run).predict(np.full((2, 8, 8), np.nan, dtype=np.float32))
