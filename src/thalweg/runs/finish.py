"""How a run ends: with its best weights, judged, saved and reported, or with what went wrong."""

from contextlib import closing

from thalweg.data.images.test_time_augmentation import ONE_VIEW
from thalweg.data.load import finished
from thalweg.inference.saved_model import save_model
from thalweg.runs.results import model_card, prediction_rows
from thalweg.runs.run import FailedRunError, Run
from thalweg.runs.session import Best, Parts, scores
from thalweg.training.checkpoint import latest_checkpoint
from thalweg.training.evaluate import Evaluation, evaluate
from thalweg.training.nonfinite import (
    NonFiniteLossError,
    NonFiniteWeightsError,
    first_nonfinite,
)


def finish(parts: Parts, best: Best, state: str) -> None:
    """Take the best weights; judge, save and report them."""
    if late := finished(parts.plan.dataset):
        parts.progress.messages.extend(late)
        parts.writer.set("notes", [*parts.plan.notes, *late])
    parts.progress.phase = "saving"
    parts.clock.start("saving")
    if best.is_known and best.step != parts.progress.step:
        kept = latest_checkpoint(parts.folder / "checkpoints", step=best.step)
        if kept is not None:
            kept.restore(parts.model, parts.optimizer, parts.average)
    if parts.average is not None:
        parts.model.load_state_dict(parts.average.average)
    # What was found when the best weights were new; after a resumption it is found again, and where
    # several views are averaged, which epochs do without. A test split waits for `final`.
    found = (None if parts.plan.spec.views != ONE_VIEW else best.found) or _final(parts, best)
    metrics = scores("val", found)
    parts.writer.set("metrics", metrics)
    parts.writer.predictions(prediction_rows(parts.plan, "val", found))
    card = model_card(parts.plan, metrics)
    save_model(parts.folder / "model", parts.model, spec=parts.plan.spec, card=card)
    _close(parts, state)


def _final(parts: Parts, best: Best) -> Evaluation:
    """How the weights that are kept do on the validation split."""
    is_untrained = best.is_known and best.step == 0 and parts.average is None
    if parts.backbone is not None and is_untrained:
        return parts.backbone.evaluate("val")
    dtype, views = parts.plan.dtype, parts.plan.spec.views
    first = None if best.found is None else best.found.logits  # one view was seen when it was new
    return evaluate(parts.model, parts.val, parts.plan.task, dtype=dtype, views=views, first=first)


def _close(parts: Parts, state: str) -> None:
    """Diagnose, and leave a report that matches what is in the file."""
    found = parts.watcher.diagnose()
    parts.writer.findings(found.to_json())
    parts.writer.set("state", state)
    parts.clock.start("")
    parts.writer.set("time_spent", parts.clock.seconds)
    parts.writer.flush()
    Run(parts.folder).report()


def failed(parts: Parts, error: NonFiniteLossError | NonFiniteWeightsError) -> FailedRunError:
    """The error for a training that left the numbers: where it shows, and what to change."""
    if isinstance(error, NonFiniteLossError) and parts.progress.step <= error.step:
        parts.watcher.step(error.loss)  # it belongs to the history that is diagnosed
    seen, names = _bad_place(parts, error)
    parts.writer.event("not-finite", error.problem, step=error.step, seen=seen, samples=names)
    _close(parts, "failed")
    headline = Run(parts.folder).diagnosis.headline
    cure = headline.prescriptions[0].change if headline and headline.prescriptions else error.fix
    failure = FailedRunError(error.problem, seen=seen, fix=f"{cure}; the run is in {parts.folder}")
    failure.path = parts.folder
    return failure


def _bad_place(
    parts: Parts, error: NonFiniteLossError | NonFiniteWeightsError
) -> tuple[str, list[str]]:
    """What is not finite, in words, and the names of the batch's samples where it was a batch."""
    if isinstance(error, NonFiniteWeightsError):
        return f"weight {error.weight}", []
    number = error.step * parts.plan.recipe.batch.accumulate + error.micro_batch
    names = [parts.plan.dataset.names[row] for row in parts.train.rows(number).tolist()]
    with closing(parts.plan.training_stream(parts.train, start=number)) as again:
        batch = next(again)  # all of it: where ranks divided it, the error's holds only a part
    place = first_nonfinite(parts.model, batch, parts.plan.task.loss_fn) or "the loss alone"
    return f"{place}; a batch of {len(names)}: {', '.join(names[:3])}, …", names
