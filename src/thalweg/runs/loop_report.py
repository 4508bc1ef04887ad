"""The HTML page of a loop of one's own: the same as a run's, from the watcher's history."""

from pathlib import Path
from tempfile import TemporaryDirectory

from thalweg.diagnosis import Diagnosis
from thalweg.record import History, RunReader, RunWriter
from thalweg.record.environment import environment
from thalweg.record.run_folder import run_id
from thalweg.report import render_html


def render_loop(history: History, diagnosis: Diagnosis, *, model: str) -> str:
    """The page with verdict, curves and checks of a watched loop, as HTML.

    The history passes through a run's file in a temporary folder, as that of any run.
    """
    with TemporaryDirectory(prefix="thalweg-") as parent:
        folder = Path(parent) / run_id(model)
        with RunWriter(folder) as writer:
            for quantity in history:
                for place, series in history.by_place(quantity).items():
                    for step, value in series.items():
                        writer.add(quantity, step, {place: value})
            facts = {"state": "finished", "model": model, "script": True}
            for key, fact in (facts | {"environment": environment()}).items():
                writer.set(key, fact)
            writer.findings(diagnosis.to_json())
        return render_html(RunReader(folder), diagnosis)
