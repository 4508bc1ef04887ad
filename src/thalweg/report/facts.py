"""The facts of a run, read once for every form of the report."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import isfinite, nan

from thalweg.diagnosis import Diagnosis
from thalweg.record import Event, History, Picture, PredictionRow, RunReader
from thalweg.record.quantities import LOSS, quantity_called
from thalweg.record.schema import JSON
from thalweg.report import older_runs

METRICS = {
    "accuracy": "accuracy",
    "top5_accuracy": "top-5 accuracy",
    "mean_average_precision": "mean average precision",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "exact_match": "exact match",
    "mae": "mean absolute error",
    "r2": "R²",
    "loss": "loss",
    "bits_per_byte": "bits per byte",
    "perplexity": "perplexity",
    "token_accuracy": "token accuracy",
    "bleu": "BLEU",
    "mase": "MASE",
    "rmse": "root mean squared error",
    "smape": "sMAPE",
    "band_coverage": "share in the band, as trained",
}
SPLITS = {"train": "training", "val": "validation", "test": "test"}
NO_UPDATES = "updates: the head was fitted to frozen features, there were none"
_SHARES = (
    *("accuracy", "top5_accuracy", "token_accuracy", "bleu"),
    *("mean_average_precision", "macro_f1", "micro_f1", "exact_match"),
    *("smape", "band_coverage"),
)


@dataclass(frozen=True)
class Facts:
    """All that a report of a run shows."""

    name: str
    state: str
    meta: Mapping[str, JSON]
    history: History
    diagnosis: Diagnosis
    events: list[Event]
    every_prediction: list[PredictionRow]
    quarantined: list[tuple[str, str]]
    recipe: str
    spectrum: Picture | None = None
    landscape: Picture | None = None

    @property
    def answers(self) -> str:
        """The kind of the task's answers: classes, labels, values, tokens, sequences, steps, …"""
        return str(self.meta.get("answers") or older_runs.answers(self.meta))

    @property
    def inputs(self) -> Mapping[str, JSON]:
        """The noun for one sample, its size, and lines that describe the inputs."""
        return self.meta.get("inputs") or older_runs.inputs(self.meta)

    @property
    def classes(self) -> list[str]:
        return [str(name) for name in self.meta.get("class_names") or ()]

    @cached_property
    def split(self) -> str:
        """The split of the details: test where it was scored, else validation."""
        splits = {row.split for row in self.every_prediction}
        return next((split for split in ("test", "val") if split in splits), "")

    @cached_property
    def predictions(self) -> list[PredictionRow]:
        return [row for row in self.every_prediction if row.split == self.split]

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Final figures by name; of an unfinished run, the latest."""
        final = self.meta.get("metrics") or {}
        if final:
            return {name: nan if value is None else value for name, value in final.items()}
        names = [f"val_{metric}" for metric in METRICS]
        present = [name for name in names if quantity_called(name) in self.history]
        return {name: self.history.last(quantity_called(name)) for name in present}

    @cached_property
    def headline_metric(self) -> str:
        """Name of the figure to show large: the test split's where there is one; "" for none."""
        metric = str(self.meta.get("headline_metric") or "")
        guesses = [metric, "val_accuracy", "val_r2", "val_loss"]
        tested = [name.replace("val_", "test_") for name in guesses]
        return next((name for name in tested + guesses if name in self.metrics), "")

    @property
    def validation_metric(self) -> str:
        """Name of the metric that chose the weights; "" where the run did not record it."""
        return str(self.meta.get("headline_metric") or "")

    @property
    def test_uses(self) -> int:
        """Models that the test split had scored by this one's test; 0 for an untested model."""
        uses = [event.detail.get("uses") for event in self.events if event.kind == "final"]
        return int(uses[-1] or 0) if uses else 0

    @cached_property
    def steps_done(self) -> int:
        """The number of updates. The step whose loss ended the run made none."""
        losses = self.history.series(LOSS)
        if not losses:
            return 0
        last = max(losses)
        return last if self.state == "failed" and not isfinite(losses[last]) else last + 1

    @property
    def has_no_updates(self) -> bool:
        """Return whether the model was fitted in closed form: no rule on updates applies."""
        return self.meta.get("steps") == 0

    @property
    def epoch_steps(self) -> int:
        """Steps in an epoch; 0 where unknown."""
        return int(self.meta.get("steps_per_epoch") or 0)

    @property
    def is_script(self) -> bool:
        """Return whether somebody's script was watched: it has no recipe, and cannot be resumed."""
        return bool(self.meta.get("script"))

    @property
    def seconds(self) -> Mapping[str, float]:
        """Phase → time spent."""
        spent = self.meta.get("time_spent") or {}
        return {str(phase): float(s) for phase, s in spent.items() if s and isfinite(s)}


def read_facts(run: RunReader, diagnosis: Diagnosis) -> Facts:
    """Read the whole run from its file."""
    return Facts(
        name=run.path.absolute().name,
        state=run.state,
        meta=run.meta,
        history=run.history,
        diagnosis=diagnosis,
        events=run.events,
        every_prediction=run.predictions,
        quarantined=run.quarantined,
        recipe=run.recipe_toml,
        spectrum=run.picture("spectrum"),
        landscape=run.picture("landscape"),
    )


def is_share(metric: str) -> bool:
    """Return whether the metric is shown as a percentage."""
    return metric.partition("_")[2] in _SHARES or metric in _SHARES


def metric_name(metric: str) -> str:
    """val_accuracy → "validation accuracy"; a name of the user's own stays as it is."""
    split, _, name = metric.partition("_")
    if split in SPLITS and name in METRICS:
        return f"{SPLITS[split]} {METRICS[name]}"
    return METRICS.get(metric, metric)
