"""The end of a run: its best weights evaluated, saved and reported, or its failure explained."""

from contextlib import closing
from time import monotonic
from typing import Any

from torch import Tensor

from thalweg.data.images.test_time_augmentation import ONE_VIEW
from thalweg.data.load import wait_for_decoding
from thalweg.errors import TrainingError, shell_word
from thalweg.inference.saved_model import save_model
from thalweg.runs.classical_rival import ClassicalRival, compare_with
from thalweg.runs.forecast_outcome import forecast_outcome
from thalweg.runs.partial_answers import compare_with_a_part, scores_by_kind
from thalweg.runs.recorder import RunRecorder
from thalweg.runs.results import model_card, predicted_numbers, prediction_rows, split_scores
from thalweg.runs.run import FailedRunError, Run
from thalweg.runs.telling_ngrams import telling_ngrams
from thalweg.runs.text_baseline import LINEAR
from thalweg.runs.tree_baseline import TREES
from thalweg.runs.written_split import (
    FEW_WRITTEN,
    MOST_WRITTEN,
    WrittenSplit,
    record_written,
    write_split,
)
from thalweg.training.evaluate import Evaluation, evaluate
from thalweg.training.nonfinite import (
    NonFiniteLossError,
    NonFiniteWeightsError,
    first_nonfinite,
)


def finish(recorder: RunRecorder, state: str) -> Run:
    """Evaluate, save and report the best weights."""
    session, plan, best = recorder.session, recorder.plan, recorder.best
    whole = wait_for_decoding(plan.dataset)
    if late_notes := whole.notes[len(plan.dataset.notes) :]:
        recorder.add_notes(late_notes)
    if plan.dataset.near_copied is None:
        recorder.record_near_copies(whole)
    recorder.enter("saving")
    is_last = not best.is_scored or best.step == recorder.progress.step
    if not (is_last or recorder.checkpoints.restore_best(session, best.step)):
        recorder.use_last_weights()
    if session.average is not None:
        session.model.load_state_dict(session.average.average)
    evaluation = _evaluate(recorder)
    metrics = split_scores("val", evaluation)
    recorder.writer.set("selection", _selection(recorder))
    if written := _write(recorder):
        metrics |= written.metrics
        record_written(recorder.writer, written)
    else:
        recorder.writer.predictions(prediction_rows(plan, "val", evaluation))
    recorder.writer.set("metrics", metrics)
    _record_comparisons(recorder, evaluation)
    card = model_card(plan, metrics)
    _save_model(recorder, card)
    return _close(recorder, state, val_predictions=predicted_numbers(plan.task, evaluation.logits))


def _write(recorder: RunRecorder) -> WrittenSplit | None:
    """The sequences that the network writes for validation samples, if it writes any."""
    recorder.clock.start("writing")
    most = FEW_WRITTEN if recorder.signal else MOST_WRITTEN
    written = write_split(recorder.plan, recorder.session.model, "val", most=most)
    recorder.clock.start("saving")
    return written


def _record_comparisons(recorder: RunRecorder, evaluation: Evaluation) -> None:
    """Record the scores of other models on the same samples, and the words that tell a class."""
    plan = recorder.plan
    if simple := compare_with_a_part(plan, evaluation):
        recorder.writer.set("partial", simple)
    if kinds := scores_by_kind(plan, evaluation):
        recorder.writer.set("kinds", kinds)
    if outcome := _compare_forecasts(recorder, evaluation):
        recorder.writer.set("forecast", outcome)
    for name, rival in (("trees", TREES), ("linear", LINEAR)):
        if comparison := _compare(recorder, evaluation, rival):
            recorder.writer.set(name, comparison)
    if telling := telling_ngrams(plan, recorder.session.model):
        recorder.writer.set("telling", telling)


def _compare(
    recorder: RunRecorder, evaluation: Evaluation, rival: ClassicalRival
) -> dict[str, object] | None:
    """A classical model beside a network of tables or texts; who interrupts does not wait."""
    if recorder.signal:
        return None
    recorder.clock.start("trees")
    left = recorder.deadline - monotonic()
    comparison = compare_with(rival, recorder.plan, evaluation, seconds=left)
    recorder.clock.start("saving")
    return comparison


def _compare_forecasts(recorder: RunRecorder, evaluation: Evaluation) -> dict[str, Any] | None:
    """Simple forecasts beside a network of series, whose bands become as wide as they must."""
    left = 0.0 if recorder.signal else recorder.deadline - monotonic()
    recorder.clock.start("rivals")
    outcome = forecast_outcome(recorder.plan, recorder.session.model, evaluation, seconds=left)
    recorder.clock.start("saving")
    return outcome


def _selection(recorder: RunRecorder) -> dict[str, object]:
    """The update whose weights are saved, and whether a validation chose them."""
    best = recorder.best
    return {
        "step": best.step if best.is_scored else recorder.progress.step,
        "by_score": best.is_scored,
    }


def _save_model(recorder: RunRecorder, card: str) -> None:
    """Save the best weights. Raises: TrainingError where the disk takes them no more."""
    folder, plan = recorder.folder / "model", recorder.plan
    try:
        try:
            save_model(folder, recorder.session.model, spec=plan.spec, card=card)
        except OSError:
            recorder.checkpoints.make_room(recorder.best.step)
            save_model(folder, recorder.session.model, spec=plan.spec, card=card)
    except OSError as error:
        raise TrainingError(
            f"the trained model could not be written to {folder}",
            seen=f"{error.strerror or error}; the last checkpoint is intact",
            fix=f"free some space, then: thalweg train --resume {shell_word(folder.parent)}",
        ) from error


def _evaluate(recorder: RunRecorder) -> Evaluation:
    """Evaluate the best weights on the validation split; the test split waits for `final`.

    Their evaluation as they were new is used again, except after a resumption, which has none, and
    with test-time augmentation, which epochs do without.
    """
    session, plan, best = recorder.session, recorder.plan, recorder.best
    if best.evaluation is not None and plan.spec.views == ONE_VIEW:
        return best.evaluation
    is_untrained = best.is_scored and best.step == 0 and session.average is None
    if recorder.backbone is not None and is_untrained:
        return recorder.backbone.evaluate("val")
    return evaluate(
        session.model,
        session.val,
        plan.task,
        dtype=plan.dtype,
        views=plan.spec.views,
        first=None if best.evaluation is None else best.evaluation.logits,
    )


def _close(recorder: RunRecorder, state: str, *, val_predictions: Tensor | None = None) -> Run:
    """Diagnose the run, complete its record and write the report."""
    diagnosis = recorder.watcher.diagnose()
    recorder.writer.findings(diagnosis.to_json())
    recorder.writer.set("state", state)
    recorder.clock.start("")
    recorder.writer.set("time_spent", recorder.clock.seconds)
    recorder.writer.flush()
    run = Run.of_this_process(recorder.folder, diagnosis, val_predictions)
    if note := run.report_or_note():
        recorder.progress.messages.append(note)
    return run


def report_failure(
    recorder: RunRecorder, error: NonFiniteLossError | NonFiniteWeightsError
) -> FailedRunError:
    """Record and diagnose a loss or weight that is not finite; return the error to raise."""
    if isinstance(error, NonFiniteLossError) and recorder.progress.step <= error.step:
        recorder.watcher.step(error.loss)  # it belongs to the history that is diagnosed
    recorder.watcher.close()  # it would take the search for the place for a validation
    place, samples = _nonfinite_place(recorder, error)
    recorder.writer.event("not-finite", error.problem, step=error.step, seen=place, samples=samples)
    headline = _close(recorder, "failed").diagnosis.headline
    fix = headline.prescriptions[0].change if headline and headline.prescriptions else error.fix
    folder = recorder.folder
    failure = FailedRunError(error.problem, seen=place, fix=f"{fix}; the run is in {folder}")
    failure.path = folder
    return failure


def _nonfinite_place(
    recorder: RunRecorder, error: NonFiniteLossError | NonFiniteWeightsError
) -> tuple[str, list[str]]:
    """The first value that is not finite, in words, and the names of the samples of its batch."""
    if isinstance(error, NonFiniteWeightsError):
        return f"weight {error.weight}", []
    session, plan = recorder.session, recorder.plan
    number = error.step * plan.recipe.batch.accumulate + error.micro_batch
    names = [plan.dataset.names[row] for row in session.train.rows(number).tolist()]
    with closing(plan.training_stream(session.train, start=number)) as stream:
        batch = next(stream)  # whole: with several ranks the error's holds only a part
    place = first_nonfinite(session.model, batch, plan.task.loss_fn) or "the loss alone"
    return f"{place}; a batch of {len(names)}: {', '.join(names[:3])}, …", names
