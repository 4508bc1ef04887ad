"""A training uses the measured numerics, records them, and resumes in them."""

from typing import Any

import pytest
import torch
from runs.test_train import interrupted_at, weights_of

from thalweg.api import Progress, plan, resume, train
from thalweg.planning.numerics import measure_numerics, with_measured_numerics
from thalweg.recipes.recipe import recorded_recipe
from thalweg.record.quantities import LOSS

pytestmark = pytest.mark.measures

EVERYTHING = {
    "precision.dtype": "bfloat16",
    "precision.channels_last": False,
    "precision.matmul": "medium",
    "precision.threads": 1,
    "precision.compile": False,
}


def test_a_short_training_says_that_nothing_was_measured(scans, tmp_path):
    run = train(scans, out=tmp_path, model="mlp", epochs=1)
    assert any("precision not measured" in note for note in run.reader.meta["notes"])
    assert recorded_recipe(run.path).precision.dtype == "float32"


def test_what_was_measured_becomes_the_recipe_and_wishes_win(scans):
    ready = plan(scans, model="convnet", edits={"precision.dtype": "float32"})
    measured = measure_numerics(ready, always=True)
    settled = with_measured_numerics(ready, Progress())
    assert measured.chosen.dtype == "float32"
    assert {row.numerics.dtype for row in measured.rows} == {"float32"}
    assert len(measured.rows) > 1
    assert settled.recipe.precision.dtype == "float32"
    assert settled.notes == (*ready.notes, measured.note)


def test_a_recipe_that_says_everything_is_not_measured(scans):
    ready = plan(scans, edits=EVERYTHING)
    assert with_measured_numerics(ready, Progress()) == ready


@pytest.mark.slow
def test_resumed_in_the_recorded_precision_equals_uninterrupted(scans, tmp_path):
    options: dict[str, Any] = {
        "model": "convnet",
        "epochs": 2,
        "batch_size": 32,
        "edits": EVERYTHING,
    }
    whole = train(scans, out=tmp_path, **options)
    plain = train(scans, out=tmp_path, model="convnet", epochs=2, batch_size=32)
    process = torch.get_num_threads(), torch.get_float32_matmul_precision()
    resumed = resume(interrupted_at(7, scans, out=tmp_path, **options).path)
    assert weights_of(resumed) == weights_of(whole) != weights_of(plain)
    assert resumed.history.series(LOSS) == whole.history.series(LOSS)
    assert whole.metrics["val_accuracy"] == pytest.approx(plain.metrics["val_accuracy"], abs=0.15)
    assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == process
