"""A path → a data set that is ready to be trained on."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.data.caveat import Caveat
from thalweg.data.dataset import Dataset
from thalweg.data.groups import Groups, group_digests, group_notes, groups_in_names
from thalweg.data.images.decode import POLICY_VERSION
from thalweg.data.images.load_pixels import remarks_of
from thalweg.data.images.mirror_test import mirror_test_of_rows, sample_rows
from thalweg.data.images.survey_process import take_survey
from thalweg.data.modalities import modality_of
from thalweg.data.modalities.image import remark_notes
from thalweg.data.modality import (
    DivideOptions,
    Modality,
    Prepared,
    Preprocessing,
    ReadOptions,
    StoredInputs,
)
from thalweg.data.near_copies import NearCopies, link_near_copies
from thalweg.data.samples import SPLITS, Files, Quarantined, Samples
from thalweg.data.series.options import SeriesOptions
from thalweg.data.sources import samples_at
from thalweg.data.sources.group_column import NO_GROUPS
from thalweg.data.split import Holdout, class_notes, duplicate_notes, split_rows
from thalweg.data.split_by_length import split_by_length
from thalweg.data.text.divide_text import TextOptions
from thalweg.errors import DataError, UsageError
from thalweg.recipes.facts import DataFacts
from thalweg.tasks import TASKS
from thalweg.tasks.task import Targets, WrittenLabels
from thalweg.wording import some

MOST_QUARANTINED = 0.2  # a larger share is no accident: the run ends
LEAST_SIZE, MOST_SIZE = 4, 2048  # pixels
FROM_TEXT = TextOptions()  # all is chosen from the text
FROM_SERIES = SeriesOptions()
LABELS = "a class or a number for each sample"


def load_dataset(
    path: str | Path,
    *,
    image_size: int = 0,
    val_fraction: float | None = None,
    test_fraction: float = 0.0,
    folds: int = 0,
    fold: int = 1,
    seed: int = 0,
    target: str = "",
    group: str = "",
    task: str = "",
    text: TextOptions = FROM_TEXT,
    series: SeriesOptions = FROM_SERIES,
    progress: Callable[[int, int], None] | None = None,
    overlap: bool = False,
    list_samples: Callable[[], Samples] | None = None,
) -> Dataset:
    """The samples at `path`, decoded, split and measured, with notes on what was noticed.

    `image_size` is the side of the square in pixels; 0 chooses it from the images. `val_fraction`
    is the share to hold out; None: as the modality suggests. `folds` divides the samples for
    training and validation anew, and `fold` (from 1) validates. `target` is a table's column to
    predict, `group` that of samples that stay together (see `samples_at`); of image files the names
    may say so. `task` is preferred where the labels suit several tasks. `text` has the options of
    texts and of pairs of them, `series` those of series. `progress` is called with (done, all)
    while images are decoded. `list_samples` returns what `samples_at` does, for a caller that has
    listed them.
    Raises DataError for data that cannot be used, UsageError for an impossible option.
    """
    check_image_size(image_size)
    holdout = Holdout(
        val_fraction=0.2 if val_fraction is None else val_fraction,
        test_fraction=test_fraction,
        folds=folds,
        fold=fold,
        seed=seed,
    )
    holdout.check()
    surveyed = take_survey(str(path), target=target, group=group, size=image_size)
    columns: dict[str, Any] = {"target": target, "group": group, "source": text.source}
    columns |= {"series": series, "task": task}
    list_samples = list_samples or partial(samples_at, Path(path), **columns)
    samples, survey = surveyed or (list_samples(), None)
    modality = modality_of(samples.inputs)
    if val_fraction is None:
        holdout = replace(holdout, val_fraction=modality.val_fraction)
    samples = _divide(samples, modality, DivideOptions(text, series), holdout=holdout)
    targets = _targets(samples, task)
    divides = holdout.divides(samples.splits)
    options = ReadOptions(image_size, progress, overlap, survey, divides, text)
    stored = modality.read(samples, options)
    has_classes = bool(targets.class_names)
    copies = None
    if stored.decoding is None:
        copies = _near_copies(modality, stored, targets.values, has_classes=has_classes)
    quarantined = samples.quarantined + stored.quarantined
    _check_quarantined(quarantined, targets, stored.good)
    use_groups = group != NO_GROUPS
    families = stored.digests if copies is None or not use_groups else copies.families
    grouped = replace(stored, digests=families)
    indices, notes = _split(grouped, targets, samples, holdout=holdout, use_groups=use_groups)
    prepared = modality.prepare(stored, indices["train"], samples.features)
    # A modality that divides says how, and what stands in both parts.
    if modality.divide:
        notes = []
    else:
        notes += _duplicate_notes(stored, targets, samples, indices=indices)
    if copies is not None:
        notes += copies.notes(targets.values, indices=indices, names=samples.names)
    notes += _class_notes(targets, indices)
    notes += _target_notes(modality, prepared, targets, train=indices["train"])
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
        near_copied=None if copies is None else copies.share(indices),
        decoding=stored.decoding,
        fingerprint=_fingerprint(
            stored, targets, indices=indices, preprocessing=prepared.preprocessing
        ),
    )


def _divide(
    samples: Samples, modality: Modality, options: DivideOptions, *, holdout: Holdout
) -> Samples:
    """The samples to train on, as the modality divides them or as the options split them."""
    if modality.divide is not None:
        samples = modality.divide(samples, options, holdout)
    if options.text.split == "length":
        return split_by_length(samples, modality.target_lengths, holdout)
    return samples


def check_image_size(image_size: int) -> None:
    """Raise UsageError for a side that no image is resized to here; 0 chooses one."""
    if image_size and not LEAST_SIZE <= image_size <= MOST_SIZE:
        raise UsageError(
            f"no image can be {image_size} px here", fix=f"{LEAST_SIZE} to {MOST_SIZE}, or 0"
        )


def wait_for_decoding(dataset: Dataset) -> Dataset:
    """Wait until every row is filled; return the data set with what could be seen only then.

    Raises DamagedLateError when a file turned out to be damaged.
    """
    if dataset.decoding is None:
        return dataset
    rows = dataset.decoding.finish()
    joined = np.frombuffer(b"".join(row.digest for row in rows), dtype=np.uint8)
    stored = StoredInputs(
        rows=dataset.inputs,
        digests=joined.reshape(len(rows), -1),
        good=np.array([not row.reason for row in rows]),
        original_size=dataset.facts.original_size,
    )
    copies = _near_copies(
        dataset.modality, stored, dataset.targets, has_classes=bool(dataset.class_names)
    )
    notes = remark_notes(remarks_of(rows), dataset.names)
    if copies is not None:
        notes += copies.notes(dataset.targets, indices=dataset.indices, names=dataset.names)
    return replace(
        dataset,
        notes=(*dataset.notes, *notes),
        near_copied=None if copies is None else copies.share(dataset.indices),
        decoding=None,
    )


def _near_copies(
    modality: Modality, stored: StoredInputs, targets: np.ndarray, *, has_classes: bool
) -> NearCopies | None:
    """Families of near copies; None where they cannot be told.

    A mirrored copy with another target is none unless mirror images are known to keep the class.
    """
    good = np.flatnonzero(stored.good)
    pairs = modality.near_copies(stored.rows, good, stored.original_size)
    if pairs is None:
        return None

    def mirror_keeps_class() -> bool:
        if not has_classes:
            return False
        test = mirror_test_of_rows(stored.rows, targets, sample_rows(targets, good))
        return test is not None and not test.is_harmful

    pairs = pairs.without_other_classes(targets, mirror_keeps_class)
    return link_near_copies(stored.digests, pairs, noun=modality.noun)


def _targets(samples: Samples, task: str) -> Targets:
    """The targets of the preferred task, or else of the first one that takes the labels.

    Raises DataError for labels of one class or one value, or of no task.
    """
    are_written = isinstance(samples.labels, WrittenLabels)
    if task and (named := TASKS[task].named_targets(samples.labels, samples.label_place)):
        return named
    preferred = [TASKS[task]] if task else []
    for kind in chain(preferred, (other for other in TASKS.with_plugins() if other.name != task)):
        if are_written != (kind.answers == "sequences"):
            continue
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
    left = targets.class_counts(good)
    emptied = [name for name, count in zip(targets.class_names, left, strict=True) if not count]
    if emptied:
        raise DataError(
            f"no sample of class {some(emptied)} can be used",
            seen=why,
            fix="repair its files, or remove the class",
        )


def _split(
    stored: StoredInputs,
    targets: Targets,
    samples: Samples,
    *,
    holdout: Holdout,
    use_groups: bool,
) -> tuple[dict[str, np.ndarray], list[str]]:
    rows = np.flatnonzero(stored.good)
    classes = targets.strata
    groups = _groups(samples, classes) if use_groups else None
    digests = stored.digests if groups is None else group_digests(stored.digests, groups)
    indices, notes = split_rows(
        digests[rows],
        classes[rows],
        given_splits=samples.splits[rows],
        held=holdout,
    )
    chosen = {name: rows[part] for name, part in indices.items()}
    return chosen, notes if groups is None else notes + group_notes(groups, chosen)


def _groups(samples: Samples, classes: np.ndarray) -> Groups | None:
    """The groups of a column, else those of file names; None for none."""
    if samples.groups:
        return Groups(samples.groups, samples.group_place)
    return groups_in_names(samples.names, classes) if isinstance(samples.inputs, Files) else None


def _duplicate_notes(
    stored: StoredInputs, targets: Targets, samples: Samples, *, indices: Mapping[str, np.ndarray]
) -> list[str]:
    values, names = targets.values, samples.names
    return duplicate_notes(stored.digests, values, indices=indices, names=names)


def _class_notes(targets: Targets, indices: Mapping[str, np.ndarray]) -> list[str]:
    if not targets.class_names:
        return []
    train, val = (targets.class_counts(indices[name]) for name in ("train", "val"))
    return class_notes(targets.class_names, train=train, val=val)


def _target_notes(
    modality: Modality, prepared: Prepared, targets: Targets, *, train: np.ndarray
) -> list[str]:
    """The modality's notes on the targets; of several labels, on each."""
    if targets.values.ndim == 1:
        return list(modality.target_notes(prepared, targets.values, train))
    if not targets.class_names:  # tokens, or the steps of a forecast
        return []
    columns = zip(targets.class_names, targets.values.T.astype(np.int64), strict=False)
    return [
        Caveat(f"label {name!r}: {note}", note.headline)
        if isinstance(note, Caveat)
        else f"label {name!r}: {note}"
        for name, values in columns
        for note in modality.target_notes(prepared, values, train)
    ]


def _facts(
    modality: Modality,
    prepared: Prepared,
    targets: Targets,
    *,
    indices: Mapping[str, np.ndarray],
    original_size: tuple[int, int],
) -> DataFacts:
    values = targets.values[indices["train"]]
    has_own_scale = modality.own_targets is not None
    is_real = values.dtype.kind == "f" and not targets.class_names and not has_own_scale
    shape = tuple(modality.input_shape(prepared.rows[0]))
    further = {"input_shape": shape, **modality.facts(prepared)}
    names = {part.name for part in fields(DataFacts)}
    return DataFacts(
        modality=modality.name,
        task=targets.task,
        num_classes=len(targets.class_names) or 1,
        counts={name: len(rows) for name, rows in indices.items()},
        original_size=original_size,
        target_mean=float(values.mean(dtype=np.float64)) if is_real else 0.0,
        target_std=(float(values.std(dtype=np.float64)) or 1.0) if is_real else 1.0,
        label_rates=targets.label_rates(indices["train"]),
        extra={name: value for name, value in further.items() if name not in names},
        **{name: value for name, value in further.items() if name in names},
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
