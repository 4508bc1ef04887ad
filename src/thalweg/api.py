"""Every public function of thalweg, typed and documented; the bodies call the folders below.

Importing this file loads no torch: each function imports what it calls.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from thalweg.arguments import check_arguments, check_num_classes
from thalweg.paths import as_path, check_path
from thalweg.planning.progress import Progress as Progress
from thalweg.recipes.recipe import short_edits
from thalweg.runs.progress_line import progress_by_default
from thalweg.runs.run import FailedRunError as FailedRunError
from thalweg.runs.run import InterruptedLadderError as InterruptedLadderError
from thalweg.runs.run import InterruptedRunError as InterruptedRunError
from thalweg.runs.run import Run as Run

if TYPE_CHECKING:
    from torch import nn

    from thalweg.diagnosis import Diagnosis
    from thalweg.inference.forecast import Forecast
    from thalweg.inference.saved_model import Predictions, SavedModel
    from thalweg.observe import Watcher
    from thalweg.planning.estimate import Estimate
    from thalweg.planning.plan import Plan
    from thalweg.record import History
    from thalweg.record.ladder import Ladder
    from thalweg.runs.cross_validation import CrossValidation
    from thalweg.runs.final_score import FinalScore
    from thalweg.training.lr_range import LrRange

Transfer = Literal["none", "probe", "last", "all"]


@check_arguments
def train(
    path: Any = "",
    targets: Any = None,
    *,
    model: str | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    batch_size: int | None = None,
    image_size: int | None = None,
    target: str | None = None,
    source: str | None = None,
    split: Literal["random", "length"] | None = None,
    task: str | None = None,
    seed: int | None = None,
    device: str | None = None,
    devices: int | None = None,
    transfer: Transfer | None = None,
    edits: Mapping[str, object] | None = None,
    out: str | Path = "runs",
    progress: Progress | None = None,
) -> Run:
    """Train on data and return the finished run, a new folder in `out`.

    Data in memory are saved in `out`/data first, so that the run can be resumed and scored. What is
    left at None is chosen from the data and measured on this machine. `edits` sets any recipe key
    by its dotted name, such as {"optimizer.weight_decay": 0.1}.

    Args:
        path: a folder with a folder of images or texts per class, a CSV, .npz or .txt file, or
            "digits"; or data in memory: a data frame, an array, a tensor, a list of texts.
        targets: of data in memory, one for each sample; not for a data frame with `target`.
        model: name of an architecture, as in docs/reference/models.md.
        epochs: passes over the training split.
        lr: peak learning rate.
        batch_size: samples per backward pass.
        image_size: side of the square that images are resized to, in pixels.
        target: column of a table to predict; of several labels, columns: "ant,bee,cat".
        source: column of a table that sequences are written from.
        split: "length": of pairs of sequences, those with the longest targets validate.
        task: such as classification, regression or multi-label.
        seed: seed of the split, the weights, the order of samples and the augmentation.
        device: such as "cpu" or "cuda".
        devices: processes that train together, each on a device of its own.
        transfer: layers of a pretrained network to train.
        progress: counters of your own; without them a terminal and a notebook show a line.

    Raises: DataError, UsageError, FailedRunError, InterruptedRunError.

    >>> import thalweg
    >>> run = thalweg.train("digits", epochs=2)  # doctest: +SKIP
    >>> run.metrics["val_accuracy"] > 0.9  # doctest: +SKIP
    True
    """
    from thalweg.runs import start

    options = short_edits(
        model=model,
        epochs=epochs,
        lr=lr,
        batch_size=batch_size,
        image_size=image_size,
        target=target,
        source=source,
        split=split,
        task=task,
        seed=seed,
        device=device,
        devices=devices,
        transfer=transfer,
    )
    path, column = _path_of_data(path, targets, Path(out))
    options |= short_edits(target=target or column or None)
    with progress_by_default(progress) as counters:
        return start.train(path, {**(edits or {}), **options}, out=out, progress=counters)


def _path_of_data(data: Any, targets: Any, out: Path) -> tuple[str | Path, str]:
    """The path of data, saved beside the runs if they are in memory, and their target column."""
    if targets is None and isinstance(data, str | Path):
        if data:
            check_path(str(data), role="the path of the data")
        return data, ""
    from thalweg.data.in_memory import save_in_memory

    return save_in_memory(data, targets, out)


@check_arguments
def plan(
    path: str | Path = "",
    *,
    model: str | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    batch_size: int | None = None,
    image_size: int | None = None,
    target: str | None = None,
    source: str | None = None,
    split: Literal["random", "length"] | None = None,
    task: str | None = None,
    seed: int | None = None,
    device: str | None = None,
    devices: int | None = None,
    transfer: Transfer | None = None,
    edits: Mapping[str, object] | None = None,
    progress: Progress | None = None,
) -> "Plan":
    """Read the data and choose the recipe, without training. Takes the arguments of `train`.

    Raises: DataError, UsageError.
    """
    from thalweg.planning.make_plan import make_plan

    options = short_edits(
        model=model,
        epochs=epochs,
        lr=lr,
        batch_size=batch_size,
        image_size=image_size,
        target=target,
        source=source,
        split=split,
        task=task,
        seed=seed,
        device=device,
        devices=devices,
        transfer=transfer,
    )
    with progress_by_default(progress) as counters:
        return make_plan(path, {**(edits or {}), **options}, progress=counters)


def estimate(plan: "Plan") -> "Estimate":
    """Estimate the seconds and the bytes of memory that a plan takes, from a few of its steps."""
    from thalweg.planning.estimate import estimate_plan

    return estimate_plan(plan)


@check_arguments
def find_lr(
    path: str | Path = "",
    *,
    steps: int = 100,
    model: str | None = None,
    batch_size: int | None = None,
    image_size: int | None = None,
    target: str | None = None,
    source: str | None = None,
    split: Literal["random", "length"] | None = None,
    task: str | None = None,
    seed: int | None = None,
    device: str | None = None,
    edits: Mapping[str, object] | None = None,
) -> "LrRange":
    """Run a learning-rate range test of `steps` updates; return its curve and its suggestion.

    Takes the arguments of `train`; writes no run.
    """
    from thalweg.planning import find_lr

    options = short_edits(
        model=model,
        batch_size=batch_size,
        image_size=image_size,
        target=target,
        source=source,
        split=split,
        task=task,
        seed=seed,
        device=device,
    )
    return find_lr.find_lr(path, {**(edits or {}), **options}, steps=steps)


@check_arguments
def resume(run: str | Path, *, devices: int | None = None, progress: Progress | None = None) -> Run:
    """Resume a stopped run from its newest whole checkpoint and train it to the same end.

    `devices` changes the number of processes; the results do not depend on it.
    Raises: RunError where the data have changed, FailedRunError, InterruptedRunError.
    """
    from thalweg.runs import start

    with progress_by_default(progress) as counters:
        return start.resume(run, devices=devices, progress=counters)


@check_arguments
def cross_validate(
    path: str | Path = "",
    *,
    folds: int = 5,
    repeats: int = 1,
    model: str | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    batch_size: int | None = None,
    image_size: int | None = None,
    target: str | None = None,
    source: str | None = None,
    split: Literal["random", "length"] | None = None,
    task: str | None = None,
    seed: int | None = None,
    device: str | None = None,
    devices: int | None = None,
    transfer: Transfer | None = None,
    edits: Mapping[str, object] | None = None,
    out: str | Path = "runs",
    progress: Progress | None = None,
) -> "CrossValidation":
    """Train once for each stratified fold, `repeats` times with other folds and weights.

    A test split stays out of all folds. `folds=0` with `repeats` draws independent random splits.
    The other arguments are those of `train`.
    Raises: as `train`; UsageError where no two runs would differ.

    >>> import thalweg
    >>> thalweg.cross_validate("digits", folds=5).score.mean > 0.9  # doctest: +SKIP
    True
    """
    from thalweg.runs import cross_validation

    options = short_edits(
        model=model,
        epochs=epochs,
        lr=lr,
        batch_size=batch_size,
        image_size=image_size,
        target=target,
        source=source,
        split=split,
        task=task,
        seed=seed,
        device=device,
        devices=devices,
        transfer=transfer,
    )
    with progress_by_default(progress) as counters:
        return cross_validation.cross_validate(
            path,
            {**(edits or {}), **options},
            folds=folds,
            repeats=repeats,
            out=out,
            progress=counters,
        )


@check_arguments
def resume_cross_validation(
    folder: str | Path, *, progress: Progress | None = None
) -> "CrossValidation":
    """Train the runs of a cross-validation that are not finished; the finished ones stay."""
    from thalweg.runs import cross_validation

    with progress_by_default(progress) as counters:
        return cross_validation.resume_cross_validation(folder, progress=counters)


@check_arguments
def ladder_steps(
    path: Any,
    targets: Any = None,
    *,
    minutes: float = 1.0,
    rungs: Sequence[str] = (),
    k: int | None = None,
    penalty: float | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    batch_size: int | None = None,
    image_size: int | None = None,
    target: str | None = None,
    task: str | None = None,
    seed: int = 0,
    device: str | None = None,
    devices: int | None = None,
    out: str | Path = "runs",
    progress: Progress | None = None,
) -> "Iterator[Ladder]":
    """Yield the ladder after each rung, the last time with its advice.

    Takes the arguments of `ladder`.
    """
    from thalweg.ladders.ladder import run_ladder

    path, column = _path_of_data(path, targets, Path(out))
    options = short_edits(
        epochs=epochs,
        lr=lr,
        batch_size=batch_size,
        image_size=image_size,
        target=target or column or None,
        task=task,
        device=device,
        devices=devices,
    )
    return run_ladder(
        path,
        options,
        minutes=minutes,
        rungs=rungs,
        k=k,
        penalty=penalty,
        seed=seed,
        out=out,
        progress=progress,
    )


@check_arguments
def ladder(
    path: Any,
    targets: Any = None,
    *,
    minutes: float = 1.0,
    rungs: Sequence[str] = (),
    k: int | None = None,
    penalty: float | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    batch_size: int | None = None,
    image_size: int | None = None,
    target: str | None = None,
    task: str | None = None,
    seed: int = 0,
    device: str | None = None,
    devices: int | None = None,
    out: str | Path = "runs",
    progress: Progress | None = None,
) -> "Ladder":
    """Train from the simplest model to the strongest on one data set; compare their scores.

    The folder of the returned ladder holds the picture, the table as JSON, a page, and a run for
    each network.

    Args:
        path, targets: what `train` takes, data in memory too.
        minutes: budget. A rung that takes longer than what is left is skipped, with a reason.
        rungs: names of the rungs to run; by default all that fit the data.
        k: number of neighbours; by default chosen inside the training split.
        penalty: λ on the mean loss of ridge and the linear classifiers; by default chosen likewise.
        epochs, lr, batch_size, image_size, target, device, devices: as in `train`.

    Raises: UsageError (unknown rung, k < 1 or > samples, λ < 0), DataError; InterruptedLadderError
    after Ctrl-C, with the finished rungs on disk.

    >>> import thalweg
    >>> thalweg.ladder("digits").stop_at  # doctest: +SKIP
    'knn'
    """
    with progress_by_default(progress) as counters:
        *_, last = ladder_steps(
            path,
            targets,
            minutes=minutes,
            rungs=rungs,
            k=k,
            penalty=penalty,
            epochs=epochs,
            lr=lr,
            batch_size=batch_size,
            image_size=image_size,
            target=target,
            task=task,
            seed=seed,
            device=device,
            devices=devices,
            out=out,
            progress=counters,
        )
    return last


@check_arguments
def final(run: str | Path, *, progress: Progress | None = None) -> "FinalScore":
    """Score the run's model on the test split, which nothing of the run has shown until now.

    Each use of the test split is recorded in the run. Raises: DataError where the data have no test
    split; RunError without a finished model.
    """
    from thalweg.runs import final_score

    with progress_by_default(progress) as counters:
        return final_score.final(run, progress=counters)


@check_arguments
def load(run: str | Path, *, device: str = "cpu") -> "SavedModel":
    """Load the trained model of a run, with its preprocessing and class names."""
    from thalweg.inference.saved_model import load_model
    from thalweg.planning.checks import check_device

    check_device(device)
    return load_model(Path(run) / "model", device=device)


@check_arguments
def predict(run: str | Path, sources: Any) -> "Predictions":
    """Predict images, texts or rows of a table by the model of that run.

    `sources` is a path, an array or tensor, an image of Pillow, a data frame, or a list of these;
    for a model of texts also a list of strings.
    """
    return load(run).predict(sources)


@check_arguments
def forecast(
    run: str | Path, file: str | Path | None = None, *, device: str = "cpu"
) -> "list[Forecast]":
    """Forecast the steps after the end of each series with a run that was trained on series.

    `file` has the same columns, and what follows it is forecast; without one, what follows the
    training file. Each Forecast has the fields series, times, low, median and high: the band from
    low to high is to hold 80 % of the values.
    Raises: UsageError for a run of another kind, DataError for a file that cannot be read.
    """
    from thalweg.inference.forecast import forecast_series

    return forecast_series(load(run, device=device), None if file is None else Path(file))


@check_arguments
def generate(
    run: str | Path,
    prompt: str = "",
    *,
    length: int = 500,
    temperature: float = 0.8,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    greedy: bool = False,
    beams: int = 1,
) -> str:
    """Write text after the prompt with a run that was trained on a text; return what follows it.

    Args:
        prompt: the text to go on with; without it, the beginning of a line.
        length: tokens to write: characters, or pieces of words.
        temperature: below 1 likely tokens become likelier, above 1 less so; 0 takes the likeliest.
        top_k: choose among this many of the likeliest tokens; 0: among all.
        top_p: choose among the likeliest tokens that together have this probability.
        seed: another seed writes another text.
        greedy: take the likeliest token at each place.
        beams: more than 1 searches for a likely text with so many candidates at each place.

    Raises: DataError for a prompt with unknown characters; UsageError for a run of another kind.
    """
    from thalweg.inference.write_text import Writing, write_text

    writing = Writing(
        length=length,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
        greedy=greedy,
        beams=beams,
    )
    return "".join(write_text(load(run), prompt, writing))


@check_arguments
def watch(
    model: "nn.Module",
    optimizer: Any,
    *,
    loss_fn: Callable[..., Any] | None = None,
    task: str | None = None,
    num_classes: int | None = None,
    train: Iterable[Any] | None = None,
    val: Iterable[Any] | None = None,
    scheduler: Any = None,
    sharpness: bool = False,
    live: bool = False,
) -> "Watcher":
    """Measure anybody's training loop; call `step(loss)` on the watcher after each update.

    The weights come out bit for bit as without it. The keywords are optional facts that only the
    caller knows; without them more is reported as not checked.

    Args:
        optimizer: torch's, or a wrapper with the same interface; several in a list or a dict.
        loss_fn: the loss, (outputs, targets) -> scalar.
        task: name of the task, such as classification or regression.
        num_classes: number of classes.
        train, val: iterables of (inputs, targets) that can be iterated again.
        scheduler: the learning-rate scheduler.
        sharpness: also measure the largest curvature; needs `train` and `loss_fn`, and costs some
            dozens of gradients a reading.
        live: write a line to stderr, once, as soon as the diagnosis has an error that stands.
    """
    from thalweg import diagnosis, observe
    from thalweg.diagnosis.live_verdict import LiveVerdict
    from thalweg.runs.loop_report import render_loop

    check_num_classes(num_classes)
    return observe.watch(
        model,
        optimizer,
        loss_fn=loss_fn,
        task=task,
        num_classes=num_classes,
        train=train,
        val=val,
        scheduler=scheduler,
        sharpness=sharpness,
        diagnose=diagnosis.diagnose,
        render=render_loop,
        check=LiveVerdict(write_to_stderr).check if live and not is_silent() else None,
    )


def write_to_stderr(line: str) -> None:
    """Write a line to stderr, if there is one."""
    if sys.stderr is not None:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


@check_arguments
def diagnose(
    source: "str | Path | History | Watcher",
    *,
    columns: Mapping[str, str] | None = None,
    num_classes: int | None = None,
) -> "Diagnosis":
    """Diagnose a run folder, a history, a watched loop, or logged curves.

    Curves are a CSV file, a trainer_state.json or a TensorBoard log; `columns` names the quantity
    of a column whose name does not tell it, as {"val_loss": "validation/ce"}.
    """
    from thalweg import diagnosis
    from thalweg.record import History, RunReader
    from thalweg.record.logs import read_log
    from thalweg.record.run_folder import is_run

    if isinstance(source, History):
        return diagnosis.diagnose(source)
    if (watcher := sys.modules.get("thalweg.observe")) and isinstance(source, watcher.Watcher):
        return source.diagnose()
    path = as_path(source, role="a run or a log")
    if is_run(path):
        return diagnosis.diagnose(RunReader(path).history)
    recording = read_log(path, columns=columns, num_classes=num_classes)
    recording.check_columns()
    return diagnosis.diagnose_log(recording.history, by_epoch=recording.by_epoch)


def is_silent() -> bool:
    """Return whether this process is a rank whose first rank prints for it."""
    from thalweg.distributed import ranks

    return ranks.is_silent()
