"""The test split, opened once training is over: by name, with a count of how often."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from time import time

from thalweg.data import Dataset
from thalweg.errors import DataError, RunError
from thalweg.inference.saved_model import load_model
from thalweg.planning.plan import Plan
from thalweg.planning.progress import Progress
from thalweg.record import Event, PredictionRow, RunReader, RunWriter
from thalweg.record.schema import DATABASE
from thalweg.runs.results import model_card, prediction_rows, split_scores
from thalweg.runs.run import Run, replace_text
from thalweg.runs.start import recorded_plan
from thalweg.training.evaluate import evaluate
from thalweg.wording import times

FINAL = "final"  # the kind of the event that a look at the test split leaves


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalScore:
    """What a run scores on the test split, and how far that can still be believed."""

    run: Path
    metrics: Mapping[str, float]  # test_loss, test_accuracy, …
    samples: int
    uses: int  # how many different models, of all the runs beside this one, were tested on it
    time: float  # seconds since 1970, UTC
    repeated: bool  # these weights had been tested before: the figures are those of then


def final(run: str | Path, *, progress: Progress | None = None) -> FinalScore:
    """Score the run's model on the test split, which until now nothing of the run has shown.

    Each look is recorded in the run, with its date and how often the test split has been used by
    the runs of the same folder. A test split that choices are made by is a validation split, and
    its figures are too good.
    Raises: DataError where the data have no test split; RunError without a finished model.
    """
    folder = Path(run)
    reader = RunReader(folder)
    if reader.state == "running":
        raise RunError(f"{folder} is still being trained", fix="wait for its end")
    ready = recorded_plan(folder, reader.meta, progress or Progress())
    _need_test(ready.dataset, folder)
    device = ready.recipe.device
    model = load_model(folder / "model", device=device)
    test, weights = _digest_of_test(ready.dataset), _digest_of(folder / "model")
    looks = looks_at(folder.absolute().parent, test)
    uses = len({*(seen for _, seen in looks), (folder.name, weights)})
    if (folder.name, weights) in [seen for _, seen in looks]:
        return _known(folder, looks, weights=weights, uses=uses)
    batches = ready.evaluation_batches("test")
    found = evaluate(model.module, batches, ready.task, dtype=ready.dtype, views=model.spec.views)
    made = FinalScore(
        run=folder,
        metrics=split_scores("test", found),
        samples=len(found.targets),
        uses=uses,
        time=time(),
        repeated=False,
    )
    rows = prediction_rows(ready, "test", found)
    _record(ready, made, rows, looked=(test, weights))
    return made


Look = tuple[Event, tuple[str, str]]  # an event, and (run, digest of its weights)


def looks_at(parent: Path, test: str) -> list[Look]:
    """Every look that a run in this folder has taken at that test split."""
    found: list[Look] = []
    for folder in sorted(path for path in parent.iterdir() if (path / DATABASE).is_file()):
        try:
            events = RunReader(folder).events
        except RunError:  # a damaged neighbour tells nothing
            continue
        found += [
            (event, (folder.name, str(event.detail.get("weights"))))
            for event in events
            if event.kind == FINAL and event.detail.get("test") == test
        ]
    return found


def _need_test(dataset: Dataset, folder: Path) -> None:
    if not dataset.facts.counts.get("test"):
        raise DataError(
            f"the data of {folder} have no test split",
            seen=", ".join(f"{n:,} {split}" for split, n in dataset.facts.counts.items()),
            fix="a folder test/ beside train/, or data.test_fraction = 0.2 before training",
        )


def _known(folder: Path, looks: list[Look], *, weights: str, uses: int) -> FinalScore:
    event = next(event for event, seen in looks if seen == (folder.name, weights))
    return FinalScore(
        run=folder,
        metrics=event.detail["metrics"],
        samples=event.detail["samples"],
        uses=uses,
        time=event.time,
        repeated=True,
    )


def _record(
    ready: Plan, made: FinalScore, rows: Iterable[PredictionRow], *, looked: tuple[str, str]
) -> None:
    """Into the run: the figures, what was said of each sample, the look itself; a new report."""
    metrics = {**RunReader(made.run).meta.get("metrics", {}), **made.metrics}
    with RunWriter(made.run) as writer:
        writer.set("metrics", metrics)
        writer.predictions(rows)
        writer.event(
            FINAL,
            f"the test split was opened; it has now been used {times(made.uses)}",
            test=looked[0],
            weights=looked[1],
            uses=made.uses,
            samples=made.samples,
            metrics=dict(made.metrics),
        )
    replace_text(made.run / "model" / "README.md", model_card(ready, metrics))
    Run(made.run).report()


def _digest_of_test(dataset: Dataset) -> str:
    """The same for the same test samples, whatever size the images are brought to."""
    rows = dataset.indices["test"]
    hashed = sha256(repr(dataset.class_names).encode() + dataset.targets[rows].tobytes())
    for row in rows.tolist():
        hashed.update(dataset.names[row].encode(errors="surrogatepass") + b"\0")
    return hashed.hexdigest()


def _digest_of(model: Path) -> str:
    return sha256((model / "weights.safetensors").read_bytes()).hexdigest()
