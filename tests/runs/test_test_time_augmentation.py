"""Test-time augmentation is the same in validation, in the saved model and in predictions."""

from typing import Any

import numpy as np
import pytest
import torch

from thalweg.api import load, plan, train
from thalweg.data.images.test_time_augmentation import AugmentedViews
from thalweg.record.quantities import LOSS, VAL_LOSS
from thalweg.training import evaluate


def test_training_saving_and_predicting_average_the_same_views(scans, tmp_path):
    edits = {"evaluation.test_time_augmentation": "shift", "model.name": "convnet"}
    wishes: dict[str, Any] = {"epochs": 2, "batch_size": 32, "edits": edits}
    run, ready = train(scans, out=tmp_path, **wishes), plan(scans, **wishes)
    saved = load(run.path)
    assert saved.spec.views == AugmentedViews(views="shift")
    rows = ready.dataset.indices["val"]
    raw = [torch.from_numpy(ready.dataset.inputs[row]) for row in rows]
    recorded = [row for row in run.reader.predictions if row.split == "val"]
    for prediction, row in zip(saved.predict_raw(raw), recorded, strict=True):
        assert prediction.label == row.predicted
        assert prediction.probability == pytest.approx(row.probability, abs=1e-4)
    single = evaluate(saved.module, ready.evaluation_batches("val"), saved.spec.build_task())
    alone = single.logits.softmax(1).amax(1).tolist()
    assert alone != pytest.approx([row.probability for row in recorded], abs=1e-4)


def test_validations_may_be_rarer_than_epochs_and_the_last_one_is_made(scans, tmp_path):
    edits = {"evaluation.interval": 2, "model.name": "convnet"}
    run = train(scans, out=tmp_path, epochs=5, batch_size=64, edits=edits)
    steps = len(run.history.series(LOSS)) // 5
    validated = [step + 1 for step in run.history.series(VAL_LOSS)]
    assert validated == [2 * steps, 4 * steps, 5 * steps]


def test_what_is_switched_off_takes_its_settings_with_it(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (12_000, 24, 24, 3), dtype=np.uint8)
    np.savez(tmp_path / "many.npz", x=images, y=np.arange(12_000) % 3)
    usual = plan(tmp_path / "many.npz").recipe
    assert (usual.augment.alternating_flip, usual.evaluation.confidence_threshold < 1) == (
        True,
        True,
    )
    edits = {"augment.flip": False, "evaluation.test_time_augmentation": "none"}
    recipe = plan(tmp_path / "many.npz", edits=edits).recipe
    assert (recipe.augment.alternating_flip, recipe.evaluation.confidence_threshold) == (False, 1.0)
    assert recipe.model.name == "airbench"
