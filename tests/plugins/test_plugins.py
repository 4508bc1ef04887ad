"""A modality and a task from another package do all that ours do, through the public functions.

The package is installed as any other: a module, and a dist-info folder with entry points.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs.test_train import interrupted_at, weights_of

import thalweg
from thalweg.cli.predict import predict as predict_command
from thalweg.data import Batches
from thalweg.errors import UnknownNameError, UsageError
from thalweg.record.quantities import INSTRUMENT_FAILED, LOSS, VAL_LOSS
from thalweg.report import render_text

ENTRY_POINTS = """
[thalweg.modalities]
point-set = point_sets:POINT_SET
[thalweg.tasks]
interval = point_sets:INTERVAL
[thalweg.sources]
point_lines = point_sets:point_lines
[thalweg.models]
deep_sets = point_sets:deep_sets
"""


@pytest.fixture(scope="module", autouse=True)
def package(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site-packages")
    shutil.copy(Path(__file__).with_name("point_sets.py"), folder)
    about = folder / "point_sets-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: point-sets\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(ENTRY_POINTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder
    sys.modules.pop("point_sets", None)


def write(path, target):
    """Rings and discs of 3 to 20 points, of various radius."""
    rng = np.random.default_rng(0)
    lines = []
    for _ in range(120):
        radius, is_ring = rng.uniform(1, 4), bool(rng.integers(2))
        angle, count = rng.uniform(0, 7), int(rng.integers(3, 21))
        angles = angle + np.arange(count)
        far = radius * (np.ones(count) if is_ring else rng.uniform(0, 1, count))
        points = np.stack([far * np.cos(angles), far * np.sin(angles)], axis=1).round(3)
        lines.append(json.dumps({"points": points.tolist(), "target": target(radius, is_ring)}))
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def radii(tmp_path_factory):
    return write(tmp_path_factory.mktemp("data") / "radii.points", lambda r, _: round(r, 3))


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "shapes.points"
    return write(path, lambda _, is_ring: "ring" if is_ring else "disc")


INTERVAL: dict[str, Any] = {"edits": {"task.name": "interval"}}


@pytest.fixture(scope="module")
def run(radii, tmp_path_factory):
    return thalweg.train(radii, out=tmp_path_factory.mktemp("runs"), epochs=12, **INTERVAL)


def test_it_is_trained(run):
    losses = run.history.series(LOSS)
    assert losses[max(losses)] < 0.6 * losses[0]
    assert run.metrics["val_coverage"] > 0.5
    assert run.reader.meta["headline_metric"] == "val_coverage"


@pytest.mark.parametrize("step", [3, 17])
def test_it_is_resumed_to_the_same_bit(run, radii, tmp_path, step):
    stopped = interrupted_at(step, radii, out=tmp_path, epochs=12, **INTERVAL)
    resumed = thalweg.resume(stopped.path)
    assert weights_of(resumed) == weights_of(run)
    assert resumed.history.series(LOSS) == run.history.series(LOSS)
    assert resumed.history.series(VAL_LOSS) == run.history.series(VAL_LOSS)


def test_it_is_diagnosed_and_nothing_that_cannot_be_measured_passes(run):
    assert not run.history.by_place(INSTRUMENT_FAILED)
    diagnosis = run.diagnosis
    assert not [finding for finding in diagnosis.findings if finding.severity == "error"]
    assert {"inputs-not-finite", "train-val-leakage", "label-noise"} <= set(diagnosis.not_checked)
    assert {"gradient-never-arrives", "learning-rate-too-high"} <= set(diagnosis.passed)


def test_it_is_reported(run):
    page = run.report().read_text()
    assert "120 point sets" in page
    assert "2 for each point" in page
    (row, *_) = run.reader.predictions
    assert re.fullmatch(r"-?[\d.]+ to -?[\d.]+", row.predicted)
    assert f'<td class="words">{row.predicted}</td>' in page
    assert "val_coverage" in render_text(run.reader, run.diagnosis)


def test_it_predicts(run, radii, capsys):
    predictions = thalweg.predict(run.path, [radii])
    recorded = {row.name: row.predicted for row in run.reader.predictions}
    for name, predicted in recorded.items():
        assert predictions[int(name.split()[-1]) - 1].label == predicted
    assert predict_command(run.path, radii, json=True) == 0
    first = json.loads(capsys.readouterr().out)["predictions"][0]
    assert first == {"point set": f"{radii}, line 1", "label": predictions[0].label}
    assert (
        predict_command(run.path, radii, Path("gone.points"), csv=True) == 3
    )  # the rest is answered
    assert "gone.points cannot be read" in capsys.readouterr().err


def test_the_command_finds_it_in_a_process_of_its_own(package, radii, tmp_path):
    paths = os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "thalweg", "train", radii, "--task.name", "interval"]
    done = subprocess.run(
        [*command, "--epochs", "1", "--out", tmp_path],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "val_coverage" in done.stdout


def test_without_the_package_the_model_names_what_is_missing(run, package, monkeypatch):
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(package)])
    with pytest.raises(UnknownNameError, match="no modality is called 'point-set'"):
        thalweg.load(run.path)
    assert thalweg.Run(run.path).report().exists()


def test_our_tasks_take_its_modality(shapes, radii, tmp_path):
    classes = thalweg.train(shapes, out=tmp_path, epochs=12)
    assert classes.reader.meta["class_names"] == ["disc", "ring"]
    assert classes.metrics["val_accuracy"] > 0.7
    assert not classes.history.by_place(INSTRUMENT_FAILED)
    assert thalweg.predict(classes.path, [shapes])[0].label in ("disc", "ring")
    assert thalweg.plan(radii).recipe.task.name == "regression"


def test_its_task_takes_our_modalities(diabetes, tmp_path):
    table = thalweg.train(diabetes, out=tmp_path, epochs=2, **INTERVAL)
    assert 0 <= table.metrics["val_coverage"] <= 1
    assert " to " in thalweg.predict(table.path, [diabetes])[0].label


def test_batches_of_all_ranks_are_the_batch(shapes):
    dataset = thalweg.plan(shapes).dataset
    batches = Batches(dataset, "train", batch_size=7, shuffle=True, seed=3)
    whole: Any = next(batches.stream(2))
    assert {len(tensor) for tensor in whole.inputs.values()} == {7}
    assert whole.inputs["mask"].sum(1).min() >= 3
    parts: list[Any] = [next(batches.stream(2, rank=rank, count=3)) for rank in range(3)]
    for name, tensor in whole.inputs.items():
        rows = [row for part in parts for row in part.inputs[name].unbind()]
        assert all((a == b).all() for a, b in zip(rows, tensor, strict=True))


def test_its_plan_is_estimated(shapes):
    assert thalweg.api.estimate(thalweg.plan(shapes)).seconds > 0


def test_a_ladder_leaves_out_the_rungs_that_do_not_fit(shapes, tmp_path):
    ladder = thalweg.ladder(shapes, out=tmp_path)
    assert [rung.name for rung in ladder.rungs] == ["chance"]
    assert ladder.left_out["knn"] == "needs samples of one length"
    assert ladder.left_out["convnet"] == "needs images"


def test_what_it_cannot_have_is_refused(radii):
    with pytest.raises(UsageError, match="point sets cannot be augmented"):
        thalweg.plan(radii, edits={"augment.flip": True})
    with pytest.raises(UsageError, match="the samples are point sets"):
        thalweg.plan(radii, edits={"evaluation.test_time_augmentation": "flip"})
    with pytest.raises(UsageError, match="transfer is for images"):
        thalweg.plan(radii, transfer="probe")
