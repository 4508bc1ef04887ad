"""A path → a data set that is ready to be trained on: who meets whom in `data` is said here."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b, sha256
from pathlib import Path

import numpy as np

from thalweg.data.dataset import DataFacts, Dataset
from thalweg.data.images.background_decoding import BackgroundDecoding
from thalweg.data.images.cache_index import DIGEST_BYTES
from thalweg.data.images.decode import POLICY_VERSION
from thalweg.data.images.file_survey import Survey
from thalweg.data.images.from_arrays import resized
from thalweg.data.images.image_size import training_size
from thalweg.data.images.load_pixels import Pixels, load_pixels, remarks_of
from thalweg.data.images.survey_process import take_survey
from thalweg.data.preprocessing import Preprocessing
from thalweg.data.samples import SPLITS, Files, Quarantined, Samples
from thalweg.data.sources import samples_at
from thalweg.data.split import Holdout, class_notes, duplicate_notes, split_rows
from thalweg.data.statistics import image_statistics, vector_statistics
from thalweg.data.targets import Targets, targets_of
from thalweg.errors import DataError, UsageError
from thalweg.wording import some

MOST_QUARANTINED = 0.2  # a larger share is no accident: the run ends
LEAST_SIZE, MOST_SIZE = 4, 2048  # pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inputs:
    """Samples as an array, with what is known of each row."""

    array: np.ndarray
    digests: np.ndarray  # uint8 [n, 16]
    good: np.ndarray  # bool [n]
    original_size: tuple[int, int] = (0, 0)
    quarantined: tuple[Quarantined, ...] = ()
    notes: tuple[str, ...] = ()
    decoding: BackgroundDecoding | None = None

    def need(self, rows: np.ndarray) -> None:
        """Return when these rows are filled."""
        if self.decoding is not None:
            self.decoding.wait_for(rows)


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
    progress: Callable[[int, int], None] | None = None,
    overlap: bool = False,
    list_samples: Callable[[], Samples] | None = None,
) -> Dataset:
    """The samples at `path`, decoded, split and measured; what was noticed is in `notes`.

    `image_size` is the side of the square in pixels; 0 chooses it from the images. With `folds`,
    what is given for training and validation is divided anew, and `fold` (from 1) validates.
    `target` is a table's column to predict. While images are decoded, `progress` is told (done,
    all). `list_samples` returns what `samples_at` does, for a caller that has listed them already.
    Raises DataError when the data cannot be used, UsageError for an option that cannot be meant.
    """
    _check_size(image_size)
    held = Holdout(
        val_fraction=val_fraction, test_fraction=test_fraction, folds=folds, fold=fold, seed=seed
    )
    held.check()
    known = take_survey(str(path), target=target, size=image_size)
    list_samples = list_samples or partial(samples_at, Path(path), target=target)
    samples, survey = known or (list_samples(), None)
    targets = targets_of(samples)
    inputs = _inputs(samples, image_size, progress, overlap=overlap, survey=survey)
    quarantined = samples.quarantined + inputs.quarantined
    _check_quarantined(quarantined, targets, inputs.good)
    indices, split_notes = _split(inputs, targets, samples, held=held)
    array, preprocessing, vector_notes = _measured(inputs, indices["train"], samples.features)
    split_notes += duplicate_notes(
        inputs.digests, targets.values, indices=indices, names=samples.names
    )
    split_notes += class_notes(targets.values, targets.class_names, indices)
    return Dataset(
        inputs=array,
        targets=targets.values,
        names=samples.names,
        indices=indices,
        class_names=targets.class_names,
        preprocessing=preprocessing,
        facts=_facts(array, targets, indices=indices, original_size=inputs.original_size),
        quarantined=quarantined,
        notes=(*targets.notes, *inputs.notes, *samples.notes, *split_notes, *vector_notes),
        decoding=inputs.decoding,
        fingerprint=_fingerprint(inputs, targets, indices=indices, preprocessing=preprocessing),
    )


def _check_size(image_size: int) -> None:
    if image_size and not LEAST_SIZE <= image_size <= MOST_SIZE:
        raise UsageError(
            f"no image can be {image_size} px here", fix=f"{LEAST_SIZE} to {MOST_SIZE}, or 0"
        )


def _inputs(
    samples: Samples,
    image_size: int,
    progress: Callable[[int, int], None] | None,
    *,
    overlap: bool,
    survey: Survey | None,
) -> _Inputs:
    if isinstance(samples.inputs, Files):
        pixels = load_pixels(
            samples.inputs, size=image_size, progress=progress, overlap=overlap, survey=survey
        )
        return _from_files(samples, pixels, image_size)
    if samples.inputs.ndim == 4:
        return _from_images(samples.inputs, image_size)
    digests = _row_digests(samples.inputs)
    good = np.ones(len(digests), dtype=bool)
    return _Inputs(array=samples.inputs, digests=digests, good=good)


def _from_files(samples: Samples, pixels: Pixels, image_size: int) -> _Inputs:
    names = samples.names
    good = np.ones(len(names), dtype=bool)
    good[list(pixels.reasons)] = False
    notes = [_size_note(pixels.original_size, pixels.array.shape[1], image_size)]
    if pixels.array.shape[3] == 1:
        notes.append("all images are grey: one channel")
    if pixels.note:
        notes.append(pixels.note)
    notes += _remark_notes(pixels.remarks, names)
    return _Inputs(
        array=pixels.array,
        digests=pixels.digests,
        good=good,
        original_size=pixels.original_size,
        quarantined=tuple(Quarantined(names[row], why) for row, why in pixels.reasons.items()),
        notes=tuple(notes),
        decoding=pixels.decoding,
    )


def finished(dataset: Dataset) -> tuple[str, ...]:
    """Wait until every row is filled; what was noticed since the data set was loaded.

    Raises DamagedLateError when a file turned out to be damaged.
    """
    if dataset.decoding is None:
        return ()
    return tuple(_remark_notes(remarks_of(dataset.decoding.finish()), dataset.names))


def _remark_notes(remarks: Mapping[str, Sequence[int]], names: Sequence[str]) -> list[str]:
    return [
        f"{len(rows):,} images are {remark}: {some([names[row] for row in rows])}"
        for remark, rows in remarks.items()
    ]


def _from_images(images: np.ndarray, image_size: int) -> _Inputs:
    original = (images.shape[1], images.shape[2])
    size = image_size or training_size(original)[0]
    return _Inputs(
        array=resized(images, size),
        digests=_row_digests(images),
        good=np.ones(len(images), dtype=bool),
        original_size=original,
        notes=(_size_note(original, size, image_size),),
    )


def _size_note(original: tuple[int, int], size: int, asked: int) -> str:
    why = "as asked" if asked else training_size(original)[1]
    height, width = original
    return f"image size: {size} px ({why}); the median image is {width} × {height}"


def _row_digests(rows: np.ndarray) -> np.ndarray:
    joined = b"".join(blake2b(row.tobytes(), digest_size=DIGEST_BYTES).digest() for row in rows)
    return np.frombuffer(joined, dtype=np.uint8).reshape(-1, DIGEST_BYTES)


def _check_quarantined(
    quarantined: Sequence[Quarantined], targets: Targets, good: np.ndarray
) -> None:
    """Raises DataError when too much, or all of a class, cannot be used."""
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
    inputs: _Inputs, targets: Targets, samples: Samples, *, held: Holdout
) -> tuple[dict[str, np.ndarray], list[str]]:
    rows = np.flatnonzero(inputs.good)
    classes = targets.values if targets.class_names else np.zeros(len(inputs.good), dtype=np.int64)
    found, notes = split_rows(
        inputs.digests[rows],
        classes[rows],
        given=samples.splits[rows],
        held=held,
    )
    return {name: rows[chosen] for name, chosen in found.items()}, notes


def _measured(
    inputs: _Inputs, train: np.ndarray, features: tuple[str, ...]
) -> tuple[np.ndarray, Preprocessing, tuple[str, ...]]:
    """The array, its holes filled; how it is to be normalised; and what was noticed."""
    array = inputs.array
    if array.ndim == 4:
        mean, std = image_statistics(array, train, need=inputs.need)
        size, channels = array.shape[1], array.shape[3]
        made = Preprocessing(kind="image", image_size=size, channels=channels, mean=mean, std=std)
        return array, made, ()
    filled, mean, std, notes = vector_statistics(array, train)
    made = Preprocessing(
        kind="vector", image_size=0, channels=0, mean=mean, std=std, features=features
    )
    return filled, made, notes


def _facts(
    array: np.ndarray,
    targets: Targets,
    *,
    indices: Mapping[str, np.ndarray],
    original_size: tuple[int, int],
) -> DataFacts:
    values = targets.values[indices["train"]]
    regression = targets.task == "regression"
    is_image = array.ndim == 4
    shape = (array.shape[3], *array.shape[1:3]) if is_image else array.shape[1:]
    return DataFacts(
        kind="image" if is_image else "vector",
        task=targets.task,
        input_shape=tuple(shape),
        num_classes=1 if regression else len(targets.class_names),
        counts={name: len(rows) for name, rows in indices.items()},
        original_size=original_size,
        target_mean=float(values.mean(dtype=np.float64)) if regression else 0.0,
        target_std=(float(values.std(dtype=np.float64)) or 1.0) if regression else 1.0,
    )


def _fingerprint(
    inputs: _Inputs,
    targets: Targets,
    *,
    indices: Mapping[str, np.ndarray],
    preprocessing: Preprocessing,
) -> str:
    """The same for the same samples, in the same order, split and preprocessed alike."""
    hashed = sha256(repr((POLICY_VERSION, inputs.array.shape, targets.class_names)).encode())
    for name in SPLITS:
        rows = indices[name]
        hashed.update(name.encode() + rows.astype(np.int64).tobytes())
        hashed.update(inputs.digests[rows].tobytes() + targets.values[rows].tobytes())
    hashed.update(repr(preprocessing).encode())
    return hashed.hexdigest()
