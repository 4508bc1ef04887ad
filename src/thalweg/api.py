"""Every public function of thalweg, typed and documented; the bodies call the folders below.

Importing this file loads no torch: each function imports what it calls.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from thalweg.planning.progress import Progress as Progress
from thalweg.recipes.recipe import short_edits
from thalweg.runs.run import FailedRunError as FailedRunError
from thalweg.runs.run import InterruptedLadderError as InterruptedLadderError
from thalweg.runs.run import InterruptedRunError as InterruptedRunError
from thalweg.runs.run import Run as Run

if TYPE_CHECKING:
    import torch
    from torch import nn

    from thalweg.diagnosis import Diagnosis
    from thalweg.inference.saved_model import Prediction, SavedModel
    from thalweg.observe import Watcher
    from thalweg.planning.estimate import Estimate
    from thalweg.planning.plan import Plan
    from thalweg.record import History
    from thalweg.record.ladder import Ladder
    from thalweg.runs.cross_validation import CrossValidation
    from thalweg.runs.final_score import FinalScore
    from thalweg.training.lr_range import LrRange

Transfer = Literal["none", "probe", "last", "all"]


def train(
    path: str | Path = "",
    *,
    model: str | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    batch_size: int | None = None,
    image_size: int | None = None,
    target: str | None = None,
    seed: int | None = None,
    device: str | None = None,
    devices: int | None = None,
    transfer: Transfer | None = None,
    edits: Mapping[str, object] | None = None,
    out: str | Path = "runs",
    progress: Progress | None = None,
) -> Run:
    """Train on the data at `path` and return the finished run, a new folder in `out`.

    What is left at None is chosen from the data and measured on this machine. `edits` sets any
    recipe key by its dotted name, such as {"optimizer.weight_decay": 0.1}.

    Args:
        path: a folder with a folder of images per class, a CSV file, a .npz file, or "digits".
        model: name of an architecture, as in docs/reference/models.md.
        epochs: passes over the training split.
        lr: peak learning rate.
        batch_size: samples per backward pass.
        image_size: side of the square that images are resized to, in pixels.
        target: column of a table to predict.
        seed: seed of the split, the weights, the order of samples and the augmentation.
        device: such as "cpu" or "cuda".
        devices: processes that train together, each on a device of its own.
        transfer: layers of a pretrained network to train.

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
        seed=seed,
        device=device,
        devices=devices,
        transfer=transfer,
    )
    return start.train(path, {**(edits or {}), **options}, out=out, progress=progress)


def plan(
    path: str | Path = "",
    *,
    model: str | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    batch_size: int | None = None,
    image_size: int | None = None,
    target: str | None = None,
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
        seed=seed,
        device=device,
        devices=devices,
        transfer=transfer,
    )
    return make_plan(path, {**(edits or {}), **options}, progress=progress)


def estimate(plan: "Plan") -> "Estimate":
    """Estimate the seconds and the bytes of memory that a plan takes, from a few of its steps."""
    from thalweg.planning.estimate import estimate_plan

    return estimate_plan(plan)


def find_lr(
    path: str | Path = "",
    *,
    steps: int = 100,
    model: str | None = None,
    batch_size: int | None = None,
    image_size: int | None = None,
    target: str | None = None,
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
        seed=seed,
        device=device,
    )
    return find_lr.find_lr(path, {**(edits or {}), **options}, steps=steps)


def resume(run: str | Path, *, devices: int | None = None, progress: Progress | None = None) -> Run:
    """Resume a stopped run from its newest whole checkpoint and train it to the same end.

    `devices` changes the number of processes; the results do not depend on it.
    Raises: RunError where the data have changed, FailedRunError, InterruptedRunError.
    """
    from thalweg.runs import start

    return start.resume(run, devices=devices, progress=progress)


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
        seed=seed,
        device=device,
        devices=devices,
        transfer=transfer,
    )
    return cross_validation.cross_validate(
        path,
        {**(edits or {}), **options},
        folds=folds,
        repeats=repeats,
        out=out,
        progress=progress,
    )


def resume_cross_validation(
    folder: str | Path, *, progress: Progress | None = None
) -> "CrossValidation":
    """Train the runs of a cross-validation that are not finished; the finished ones stay."""
    from thalweg.runs import cross_validation

    return cross_validation.resume_cross_validation(folder, progress=progress)


def ladder_steps(
    path: str | Path,
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

    options = short_edits(
        epochs=epochs,
        lr=lr,
        batch_size=batch_size,
        image_size=image_size,
        target=target,
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


def ladder(
    path: str | Path,
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
    seed: int = 0,
    device: str | None = None,
    devices: int | None = None,
    out: str | Path = "runs",
    progress: Progress | None = None,
) -> "Ladder":
    """Train from the simplest model to the strongest on the data at `path`; compare their scores.

    The folder of the returned ladder holds the picture, the table as JSON, a page, and a run for
    each network.

    Args:
        path: what `train` takes.
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
    *_, last = ladder_steps(
        path,
        minutes=minutes,
        rungs=rungs,
        k=k,
        penalty=penalty,
        epochs=epochs,
        lr=lr,
        batch_size=batch_size,
        image_size=image_size,
        target=target,
        seed=seed,
        device=device,
        devices=devices,
        out=out,
        progress=progress,
    )
    return last


def final(run: str | Path, *, progress: Progress | None = None) -> "FinalScore":
    """Score the run's model on the test split, which nothing of the run has shown until now.

    Each use of the test split is recorded in the run. Raises: DataError where the data have no test
    split; RunError without a finished model.
    """
    from thalweg.runs import final_score

    return final_score.final(run, progress=progress)


def load(run: str | Path, *, device: str = "cpu") -> "SavedModel":
    """Load the trained model of a run, with its preprocessing and class names."""
    from thalweg.inference.saved_model import load_model

    return load_model(Path(run) / "model", device=device)


def predict(run: str | Path, sources: Iterable[str | Path]) -> "list[Prediction]":
    """Predict each image file by the model of that run."""
    return load(run).predict(sources)


def watch(
    model: "nn.Module",
    optimizer: "torch.optim.Optimizer | list[torch.optim.Optimizer]",
    *,
    loss_fn: Callable[..., Any] | None = None,
    task: str | None = None,
    num_classes: int | None = None,
    train: Iterable[Any] | None = None,
    val: Iterable[Any] | None = None,
    scheduler: Any = None,
    sharpness: bool = False,
) -> "Watcher":
    """Measure anybody's training loop; call `step(loss)` on the watcher after each update.

    The weights come out bit for bit as without it. The keywords are optional facts that only the
    caller knows; without them more is reported as not checked.

    Args:
        loss_fn: the loss, (outputs, targets) -> scalar.
        task: name of the task, such as classification or regression.
        num_classes: number of classes.
        train, val: iterables of (inputs, targets) that can be iterated again.
        scheduler: the learning-rate scheduler.
        sharpness: also measure the largest curvature; needs `train` and `loss_fn`, and costs some
            dozens of gradients a reading.
    """
    from thalweg import diagnosis, observe

    optimizers = optimizer if isinstance(optimizer, list) else [optimizer]
    return observe.watch(
        model,
        [observe.unwrapped_optimizer(one) for one in optimizers],
        loss_fn=loss_fn,
        task=task,
        num_classes=num_classes,
        train=train,
        val=val,
        scheduler=scheduler,
        sharpness=sharpness,
        diagnose=diagnosis.diagnose,
    )


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
    if not isinstance(source, str | Path):
        return source.diagnose()
    if is_run(Path(source)):
        return diagnosis.diagnose(RunReader(Path(source)).history)
    recording = read_log(Path(source), columns=columns, num_classes=num_classes)
    return diagnosis.diagnose_log(recording.history, by_epoch=recording.by_epoch)


def is_silent() -> bool:
    """Return whether this process is a rank whose first rank prints for it."""
    from thalweg.distributed import ranks

    return ranks.is_silent()
