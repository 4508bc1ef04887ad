"""Images: from files and arrays, through the cache of decoded pixels."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from io import BytesIO
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from thalweg.data.batch import Part, derived_seed, to_device
from thalweg.data.images.augment import Augment
from thalweg.data.images.find_near_copies import LEAST_SIZE, near_copies
from thalweg.data.images.formats import SUFFIXES
from thalweg.data.images.from_arrays import picture_of, resize_images, single_images
from thalweg.data.images.image_size import sample_images, training_size
from thalweg.data.images.load_pixels import Pixels, load_pixels
from thalweg.data.images.preprocessing import ImagePreprocessing
from thalweg.data.images.thumbnail import thumbnail
from thalweg.data.in_memory import as_array
from thalweg.data.modality import (
    Augmentation,
    AugmentedSplit,
    Modality,
    Prepared,
    ReadOptions,
    SourceRow,
    StoredInputs,
)
from thalweg.data.near_copies import CopyPairs
from thalweg.data.row_digests import row_digests
from thalweg.data.samples import Files, Quarantined, Samples
from thalweg.data.statistics import Moments, image_statistics
from thalweg.errors import DataError
from thalweg.recipes.facts import DataFacts
from thalweg.recipes.images import images
from thalweg.recipes.transfer import FEW_SAMPLES, PHOTOGRAPH
from thalweg.wording import image_sizes, pixels, some


def takes(inputs: object) -> bool:
    """True for image files and for arrays [n, height, width, channel]."""
    return isinstance(inputs, Files) or (isinstance(inputs, np.ndarray) and inputs.ndim == 4)


def read(samples: Samples, options: ReadOptions) -> StoredInputs:
    """The images as uint8 [n, side, side, channel], files through the cache."""
    if isinstance(samples.inputs, Files):
        decoded = load_pixels(
            samples.inputs,
            size=options.image_size,
            progress=options.progress,
            overlap_below=_overlap_below(options),
            survey=options.survey,
        )
        return _from_files(decoded, samples.names, options.image_size)
    arrays: np.ndarray = samples.inputs
    original = (arrays.shape[1], arrays.shape[2])
    size = options.image_size or training_size(original)[0]
    return StoredInputs(
        rows=resize_images(arrays, size),
        digests=row_digests(arrays),
        good=np.ones(len(arrays), dtype=bool),
        original_size=original,
        notes=(_size_note(original, size, options.image_size),),
    )


def _overlap_below(options: ReadOptions) -> float:
    """The size in px up to which images are decoded in the background; near copies show later."""
    if not options.overlap:
        return 0
    return LEAST_SIZE if options.divides else inf


def _from_files(decoded: Pixels, names: Sequence[str], image_size: int) -> StoredInputs:
    good = np.ones(len(names), dtype=bool)
    good[list(decoded.reasons)] = False
    notes = [_size_note(decoded.original_size, decoded.array.shape[1], image_size)]
    if decoded.array.shape[3] == 1:
        notes.append("all images are grey: one channel")
    notes += decoded.notes
    notes += remark_notes(decoded.remarks, names)
    return StoredInputs(
        rows=decoded.array,
        digests=decoded.digests,
        good=good,
        original_size=decoded.original_size,
        quarantined=tuple(Quarantined(names[row], why) for row, why in decoded.reasons.items()),
        notes=tuple(notes),
        decoding=decoded.decoding,
    )


def remark_notes(remarks: Mapping[str, Sequence[int]], names: Sequence[str]) -> list[str]:
    """A note for each remark on decoded files, with the names of some."""
    return [
        f"{len(rows):,} images are {remark}: {some([names[row] for row in rows])}"
        for remark, rows in remarks.items()
    ]


def _size_note(original: tuple[int, int], size: int, image_size: int) -> str:
    why = "as asked" if image_size else training_size(original)[1]
    height, width = original
    return f"image size: {size} px ({why}); the median image is {width} × {height}"


def prepare(stored: StoredInputs, train: np.ndarray, features: tuple[str, ...]) -> Prepared:
    """Measure mean and standard deviation of each channel on the training split."""
    mean, std = image_statistics(stored.rows, train, wait_for=stored.wait_for)
    _, size, _, channels = stored.rows.shape
    return Prepared(
        stored.rows, ImagePreprocessing(image_size=size, channels=channels, mean=mean, std=std)
    )


def input_shape(row: np.ndarray) -> tuple[int, ...]:
    """[height, width, channel] → (channel, height, width)."""
    return row.shape[2], *row.shape[:2]


def read_source(preprocessing: ImagePreprocessing, source: Path | bytes) -> Iterator[SourceRow]:
    """The image. Raises DataError when it cannot be decoded."""
    name = "the image" if isinstance(source, bytes) else str(source)
    yield SourceRow(name, preprocessing.decode(source))


def read_object(preprocessing: ImagePreprocessing, value: Any) -> Iterator[SourceRow]:
    """The images of an array or tensor, [n, …] or [height, width(, channel)], or Pillow's image."""
    if isinstance(value, Image.Image):
        pictures = [value]
    else:
        images = as_array(value, name="the images")
        _check_flat(images, preprocessing)
        if images.dtype.kind == "f" and not np.isfinite(images).all():
            raise DataError(
                "the images have values that are no numbers",
                seen=f"{int((~np.isfinite(images)).sum()):,} of {images.size:,} values",
                fix="replace NaN and infinite values",
            )
        pictures = list(map(picture_of, single_images(images)))
    return (
        SourceRow(f"image {index}", preprocessing.decode(_png(picture)))
        for index, picture in enumerate(pictures)
    )


def _check_flat(images: np.ndarray, preprocessing: ImagePreprocessing) -> None:
    """Raise DataError for a flat array that may be a table: rows of numbers, or flattened images.

    Whole numbers in two dimensions are the pixels of one image, unless a row has as many as an
    image of the model; other numbers are, if they have the model's own size.
    """
    if images.ndim != 2:
        return
    side = preprocessing.image_size
    is_flattened = images.shape[1] == side * side * preprocessing.channels
    is_whole = images.dtype.kind in "uib"
    if images.shape == (side, side) or (is_whole and not is_flattened):
        return
    height, width = images.shape
    raise DataError(
        "an array of two dimensions may be rows of numbers, or one image",
        seen=f"{height} × {width} {images.dtype}; the model takes images",
        fix=f"one image: array[None], 1 × {height} × {width}; "
        "flattened images: array.reshape(n, height, width)",
    )


def _png(picture: Image.Image) -> bytes:
    file = BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def augmentation(
    settings: Any, preprocessing: ImagePreprocessing, split: AugmentedSplit
) -> Augmentation:
    """The random changes of a recipe's `augment`.

    With alternating flips each sample comes both ways in any two epochs; chance alone would repeat
    half of them: Jordan 2024, arXiv:2404.00498 §3.6.
    """
    augment = Augment(**{part.name: getattr(settings, part.name) for part in fields(Augment)})
    # The mean pixel, 0..255: a cutout becomes zero when it is normalised.
    mean = preprocessing.mean[: split.rows.shape[-1]]  # of grey images, one suffices
    fill = torch.tensor(mean, device=split.device) * 255
    first = _first_flips(split) if augment.alternating_flip else None

    def change(
        raw: Tensor, generator: torch.Generator, *, positions: Tensor, epoch: int, part: Part
    ) -> Tensor:
        mirrored = None
        if first is not None:
            mirrored = to_device(first.index_select(0, positions) ^ bool(epoch % 2), split.device)
        return augment(raw, generator, fill=fill, mirrored=mirrored, part=part)

    return change


def _first_flips(split: AugmentedSplit) -> Tensor:
    """Bool per sample: mirrored in the first epoch. Drawn on the CPU, so equal on all devices."""
    chance = torch.Generator().manual_seed(derived_seed(split.seed, -1, -1))
    return (torch.rand(split.size, generator=chance) < 0.5).to(split.home)


def _near_copies(
    rows: np.ndarray, good: np.ndarray, original_size: tuple[int, int]
) -> CopyPairs | None:
    """Pairs of near copies; None for images that were too small to tell, as they are or were."""
    return near_copies(rows, good) if min(original_size) >= LEAST_SIZE else None


def are_few_photographs(inputs: Any) -> bool:
    """True if the images are few, in colour and large, by a look at some of their headers."""
    if len(inputs) > FEW_SAMPLES:
        return False
    if isinstance(inputs, Files):
        sample = sample_images(inputs)
        return sample.channels == 3 and min(sample.original_size) >= PHOTOGRAPH
    return inputs.shape[-1] == 3 and min(inputs.shape[1:3]) >= PHOTOGRAPH


def pretrained_format(
    preprocessing: ImagePreprocessing, facts: DataFacts, moments: Moments
) -> tuple[ImagePreprocessing, DataFacts]:
    """Three channels, normalised like the images that the network was trained on."""
    mean, std = moments
    fitted = replace(preprocessing, channels=3, mean=mean, std=std)
    return fitted, replace(facts, input_shape=(3, *facts.input_shape[1:]))


IMAGE = Modality(
    name=ImagePreprocessing.modality,
    noun="image",
    takes=takes,
    read=read,
    prepare=prepare,
    input_shape=input_shape,
    restore=ImagePreprocessing.from_dict,
    read_source=read_source,
    read_object=read_object,
    recipe=images,
    size=lambda facts: pixels(facts.input_shape),
    describe=lambda facts: image_sizes(facts.input_shape, facts.original_size),
    picture=thumbnail,
    augmentation=augmentation,
    augment_keys=frozenset(
        {part.name for part in fields(Augment)} | {"progressive_resizing", "mixup", "cutmix"}
    ),
    has_augmented_views=True,
    layout="pixels",
    near_copies=_near_copies,
    implied_keys=lambda facts: {"data.image_size": facts.input_shape[-1]},
    suffixes=SUFFIXES,
    suits_pretrained=are_few_photographs,
    pretrained_format=pretrained_format,
)
