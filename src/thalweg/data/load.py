"""A path → a data set that is ready to be trained on."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from itertools import chain
from pathlib import Path

import numpy as np

from thalweg.data.dataset import Dataset
from thalweg.data.images.decode import POLICY_VERSION
from thalweg.data.images.load_pixels import remarks_of
from thalweg.data.images.survey_process import take_survey
from thalweg.data.modalities import modality_of
from thalweg.data.modalities.image import remark_notes
from thalweg.data.modality import Modality, Prepared, Preprocessing, ReadOptions, StoredInputs
from thalweg.data.samples import SPLITS, Quarantined, Samples
from thalweg.data.sources import samples_at
from thalweg.data.split import Holdout, class_notes, duplicate_notes, split_rows
from thalweg.errors import DataError, UsageError
from thalweg.recipes.facts import DataFacts
from thalweg.tasks import TASKS
from thalweg.tasks.task import Targets
from thalweg.wording import some

MOST_QUARANTINED = 0.2  # a larger share is no accident: the run ends
LEAST_SIZE, MOST_SIZE = 4, 2048  # pixels
LABELS = "a class or a number for each sample"


def load_dataset(
    path: str | Path,
    *,
    image_size: int = 0,
    val_fraction: float = 0.2,
    test_fraction: float = 0.0,
    folds: int = 0,
    fold: int = 1,
    seed: int = 0,
    target: str = "",
    task: str = "",
    progress: Callable[[int, int], None] | None = None,
    overlap: bool = False,
    list_samples: Callable[[], Samples] | None = None,
) -> Dataset:
    """The samples at `path`, decoded, split and measured, with notes on what was noticed.

    `image_size` is the side of the square in pixels; 0 chooses it from the images. `folds` divides
    the samples for training and validation anew, and `fold` (from 1) validates. `target` is a
    table's column to predict. `task` is preferred where the labels suit several tasks. `progress`
    is called with (done, all) while images are decoded. `list_samples` returns what `samples_at`
    does, for a caller that has listed them already.
    Raises DataError for data that cannot be used, UsageError for an impossible option.
    """
    _check_size(image_size)
    holdout = Holdout(
        val_fraction=val_fraction, test_fraction=test_fraction, folds=folds, fold=fold, seed=seed
    )
    holdout.check()
    surveyed = take_survey(str(path), target=target, size=image_size)
    list_samples = list_samples or partial(samples_at, Path(path), target=target)
    samples, survey = surveyed or (list_samples(), None)
    targets = _targets(samples, task)
    modality = modality_of(samples.inputs)
    stored = modality.read(samples, ReadOptions(image_size, progress, overlap, survey))
    quarantined = samples.quarantined + stored.quarantined
    _check_quarantined(quarantined, targets, stored.good)
    indices, notes = _split(stored, targets, samples, holdout=holdout)
    prepared = modality.prepare(stored, indices["train"], samples.features)
    notes += duplicate_notes(stored.digests, targets.values, indices=indices, names=samples.names)
    notes += class_notes(targets.values, targets.class_names, indices)
    return Dataset(
        inputs=prepared.rows,
        targets=targets.values,
        names=samples.names,
        indices=indices,
        class_names=targets.class_names,
        preprocessing=prepared.preprocessing,
        facts=_facts(
            modality, prepared, targets, indices=indices, original_size=stored.original_size
        ),
        quarantined=quarantined,
        notes=(*targets.notes, *stored.notes, *samples.notes, *notes, *prepared.notes),
        decoding=stored.decoding,
        fingerprint=_fingerprint(
            stored, targets, indices=indices, preprocessing=prepared.preprocessing
        ),
    )


def _check_size(image_size: int) -> None:
    if image_size and not LEAST_SIZE <= image_size <= MOST_SIZE:
        raise UsageError(
            f"no image can be {image_size} px here", fix=f"{LEAST_SIZE} to {MOST_SIZE}, or 0"
        )


def wait_for_decoding(dataset: Dataset) -> tuple[str, ...]:
    """Wait until every row is filled; return the notes since the data set was loaded.

    Raises DamagedLateError when a file turned out to be damaged.
    """
    if dataset.decoding is None:
        return ()
    return tuple(remark_notes(remarks_of(dataset.decoding.finish()), dataset.names))


def _targets(samples: Samples, task: str) -> Targets:
    """The targets of the preferred task, or else of the first one that takes the labels.

    Raises DataError for labels of one class or one value, or of no task.
    """
    preferred = [TASKS[task]] if task else []
    for kind in chain(preferred, (other for other in TASKS.with_plugins() if other.name != task)):
        targets = kind.targets(samples.labels, samples.label_place)
        if targets is not None:
            return targets
    raise DataError(
        f"there is no task for the labels in {samples.label_place}", fix=f"give {LABELS}"
    )


def _check_quarantined(
    quarantined: Sequence[Quarantined], targets: Targets, good: np.ndarray
) -> None:
    """Raise DataError when too many samples, or all of a class, cannot be used."""
    total = int(good.sum()) + len(quarantined)
    reasons = Counter(sample.reason for sample in quarantined).most_common(3)
    why = "; ".join(f"{count:,} × {reason}" for reason, count in reasons)
    if len(quarantined) > MOST_QUARANTINED * total:
        raise DataError(
            f"{len(quarantined):,} of {total:,} samples cannot be used: more than "
            f"{MOST_QUARANTINED:.0%}",
            seen=f"{why}; such as {some([sample.name for sample in quarantined])}",
            fix="repair or remove them, or check that the path is the right one",
        )
    if not targets.class_names:
        return
    left = np.bincount(targets.values[good], minlength=len(targets.class_names))
    emptied = [name for name, count in zip(targets.class_names, left, strict=True) if not count]
    if emptied:
        raise DataError(
            f"no sample of class {some(emptied)} can be used",
            seen=why,
            fix="repair its files, or remove the class",
        )


def _split(
    stored: StoredInputs, targets: Targets, samples: Samples, *, holdout: Holdout
) -> tuple[dict[str, np.ndarray], list[str]]:
    rows = np.flatnonzero(stored.good)
    classes = targets.values if targets.class_names else np.zeros(len(stored.good), dtype=np.int64)
    indices, notes = split_rows(
        stored.digests[rows],
        classes[rows],
        given_splits=samples.splits[rows],
        held=holdout,
    )
    return {name: rows[chosen] for name, chosen in indices.items()}, notes


def _facts(
    modality: Modality,
    prepared: Prepared,
    targets: Targets,
    *,
    indices: Mapping[str, np.ndarray],
    original_size: tuple[int, int],
) -> DataFacts:
    values = targets.values[indices["train"]]
    is_real = values.dtype.kind == "f"
    return DataFacts(
        modality=modality.name,
        task=targets.task,
        input_shape=tuple(modality.input_shape(prepared.rows[0])),
        num_classes=len(targets.class_names) or 1,
        counts={name: len(rows) for name, rows in indices.items()},
        original_size=original_size,
        target_mean=float(values.mean(dtype=np.float64)) if is_real else 0.0,
        target_std=(float(values.std(dtype=np.float64)) or 1.0) if is_real else 1.0,
    )


def _fingerprint(
    stored: StoredInputs,
    targets: Targets,
    *,
    indices: Mapping[str, np.ndarray],
    preprocessing: Preprocessing,
) -> str:
    """A digest of the samples, their order, their split and their preprocessing."""
    shape = getattr(stored.rows, "shape", (len(stored.rows),))
    digest = sha256(repr((POLICY_VERSION, shape, targets.class_names)).encode())
    for name in SPLITS:
        rows = indices[name]
        digest.update(name.encode() + rows.astype(np.int64).tobytes())
        digest.update(stored.digests[rows].tobytes() + targets.values[rows].tobytes())
    digest.update(repr(preprocessing).encode())
    return digest.hexdigest()
