"""The report of a run without updates: a head that was fitted in closed form."""

from thalweg.diagnosis import diagnose
from thalweg.record import RunReader, RunWriter
from thalweg.record.quantities import LOSS, VAL_ACCURACY
from thalweg.report import render_html


def test_a_fitted_head_has_no_curves_and_no_step(tmp_path):
    pages = {}
    for name, steps in (("fitted", 0), ("trained", 1)):
        with RunWriter(tmp_path / name) as writer:
            writer.set("state", "finished")
            writer.set("steps", steps)
            writer.set("metrics", {"val_accuracy": 0.9})
            writer.add(LOSS, 0, {"": 0.1})
            writer.add(VAL_ACCURACY, 0, {"": 0.9})
        run = RunReader(tmp_path / name)
        pages[name] = render_html(run, diagnose(run.history))
    assert "a head fitted to frozen features" in pages["fitted"]
    assert "How it learned" not in pages["fitted"]
    assert "How it learned" in pages["trained"]
    assert "1 step" in pages["trained"]
