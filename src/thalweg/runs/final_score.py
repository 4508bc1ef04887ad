"""Score a finished run on the test split, and count how often the split has been used."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from time import time
from typing import NamedTuple

from thalweg.data import Dataset
from thalweg.errors import DataError, RunError
from thalweg.files import replace_file
from thalweg.inference.saved_model import load_model
from thalweg.planning.plan import Plan
from thalweg.planning.progress import Progress
from thalweg.record import Event, PredictionRow, RunReader, RunWriter
from thalweg.record.schema import DATABASE
from thalweg.runs.results import model_card, prediction_rows, split_scores
from thalweg.runs.run import Run
from thalweg.runs.start import recorded_plan
from thalweg.runs.written_split import MOST_WRITTEN, write_split
from thalweg.training.evaluate import evaluate
from thalweg.wording import times

FINAL = "final"  # the kind of the event that a use of the test split leaves


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalScore:
    """The scores of a run on the test split, and how far they can be trusted."""

    run: Path
    metrics: Mapping[str, float]  # test_loss, test_accuracy, …
    samples: int
    uses: int  # how many different models, of all the runs beside this one, were tested on it
    time: float  # seconds since 1970, UTC
    repeated: bool  # these weights had been tested before: the scores are the earlier ones


class SplitUse(NamedTuple):
    """One use of a test split, as a run has recorded it."""

    model: tuple[str, str]  # name of the run, digest of its weights
    event: Event


def final(run: str | Path, *, progress: Progress | None = None) -> FinalScore:
    """Score the run's model on the test split, which nothing of the run has shown until now.

    The run records each use, with its date and how often the runs of the same folder have used the
    test split. A test split that choices are made by is a validation split: its scores are too
    good.
    Raises: DataError where the data have no test split; RunError without a finished model.
    """
    folder = Path(run)
    reader = RunReader(folder)
    if reader.state == "running":
        raise RunError(f"{folder} is still being trained", fix="wait for its end")
    plan = recorded_plan(folder, reader.meta, progress or Progress())
    _require_test_split(plan.dataset, folder)
    saved = load_model(folder / "model", device=plan.recipe.device)
    split = _digest_of_test_split(plan.dataset)
    model = folder.name, sha256((folder / "model" / "weights.safetensors").read_bytes()).hexdigest()
    earlier = recorded_uses(folder.absolute().parent, split)
    uses = len({model, *(use.model for use in earlier)})
    for use in earlier:
        if use.model == model:
            return _recorded_score(folder, use.event, uses=uses)
    batches, views = plan.evaluation_batches("test"), saved.spec.views
    evaluation = evaluate(saved.module, batches, plan.task, dtype=plan.dtype, views=views)
    written = write_split(plan, saved.module, "test", most=MOST_WRITTEN)
    score = FinalScore(
        run=folder,
        metrics=split_scores("test", evaluation) | dict(written.metrics if written else {}),
        samples=len(evaluation.targets),
        uses=uses,
        time=time(),
        repeated=False,
    )
    rows = written.rows if written else prediction_rows(plan, "test", evaluation)
    answers = written.answers if written else {}
    _record(plan, score, rows, facts={"test": split, "weights": model[1]}, answers=answers)
    return score


def recorded_uses(parent: Path, split: str) -> list[SplitUse]:
    """Every use of the test split with that digest by the runs of a folder."""
    uses: list[SplitUse] = []
    for folder in sorted(path for path in parent.iterdir() if (path / DATABASE).is_file()):
        try:
            events = RunReader(folder).events
        except RunError:  # a damaged run tells nothing
            continue
        uses += [
            SplitUse((folder.name, str(event.detail.get("weights"))), event)
            for event in events
            if event.kind == FINAL and event.detail.get("test") == split
        ]
    return uses


def _require_test_split(dataset: Dataset, folder: Path) -> None:
    if not dataset.facts.counts.get("test"):
        raise DataError(
            f"the data of {folder} have no test split",
            seen=", ".join(f"{n:,} {split}" for split, n in dataset.facts.counts.items()),
            fix="a folder test/ beside train/, or data.test_fraction = 0.2 before training",
        )


def _recorded_score(folder: Path, event: Event, *, uses: int) -> FinalScore:
    return FinalScore(
        run=folder,
        metrics=event.detail["metrics"],
        samples=event.detail["samples"],
        uses=uses,
        time=event.time,
        repeated=True,
    )


def _record(
    plan: Plan,
    score: FinalScore,
    rows: Iterable[PredictionRow],
    *,
    facts: Mapping[str, str],  # the digests of the test split and of the weights
    answers: Mapping[str, Mapping[str, float]],  # scores of simple answers, where there are any
) -> None:
    """Record the scores, the predictions and the use of the test split; renew card and report."""
    metrics = {**RunReader(score.run).meta.get("metrics", {}), **score.metrics}
    with RunWriter(score.run) as writer:
        writer.set("metrics", metrics)
        writer.predictions(rows)
        if answers:
            writer.set("simple_answers", answers)
        writer.event(
            FINAL,
            f"the test split was opened; it has now been used {times(score.uses)}",
            test=facts["test"],
            weights=facts["weights"],
            uses=score.uses,
            samples=score.samples,
            metrics=dict(score.metrics),
        )
    replace_file(score.run / "model" / "README.md", model_card(plan, metrics))
    Run(score.run).report()


def _digest_of_test_split(dataset: Dataset) -> str:
    """A hash of the test samples, the same whatever size their images are brought to."""
    rows = dataset.indices["test"]
    hashed = sha256(repr(dataset.class_names).encode() + dataset.targets[rows].tobytes())
    for row in rows.tolist():
        hashed.update(dataset.names[row].encode(errors="surrogatepass") + b"\0")
    return hashed.hexdigest()
