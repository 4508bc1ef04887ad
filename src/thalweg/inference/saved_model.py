"""A trained model on disk: weights, class names and preprocessing in one folder.

The folder holds `weights.safetensors`, `model.json` (the network's settings, the digest of the
weights, the preprocessing) and `README.md` (the model card). Loading runs no code from the folder.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from thalweg.data.batch import each_tensor
from thalweg.data.images.test_time_augmentation import ONE_VIEW, AugmentedViews
from thalweg.data.modalities import MODALITIES
from thalweg.data.modality import Modality, Preprocessing, SourceRow
from thalweg.errors import (
    DataError,
    NoRunError,
    RunError,
    UnknownNameError,
    UsageError,
    shell_word,
)
from thalweg.files import (
    check_tensor_file,
    delete,
    json_text,
    read_bytes,
    read_json,
    write_new,
)
from thalweg.inference.check_manifest import VALUES, check_sizes, check_values
from thalweg.inference.write_sequences import write_sequences, written_prediction
from thalweg.models.build import build_model
from thalweg.models.sequences.encoder_decoder import EncoderDecoder
from thalweg.paths import as_path
from thalweg.recipes.recipe import TaskRecipe
from thalweg.record import RunReader
from thalweg.record.find_runs import can_be_resumed, run_to_name
from thalweg.record.run_folder import is_run
from thalweg.tasks import TASKS, Task
from thalweg.tasks.task import Prediction as Prediction
from thalweg.tasks.task import Predictions as Predictions

FORMAT = 1
OPTIONAL = frozenset({"views", "label_rates"})  # older models have none
LARGEST_MODEL = 1 << 40  # bytes
PREDICTION_BATCH = 64
WHOLE_AGAIN = "copy it again from where it came, or train again"  # the cure of a damaged file


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """Everything beside the weights that builds the model again and uses it."""

    model: str
    changes: Mapping[str, int | float | str | bool]
    input_shape: tuple[int, ...]
    task: str
    num_classes: int
    target_mean: float
    target_std: float
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    views: AugmentedViews = ONE_VIEW  # of a sample, that its prediction is averaged over
    label_rates: tuple[float, ...] = ()  # shares of the training samples with each of many labels

    def text_of(self, tokens: Sequence[int]) -> str:
        """The text of tokens of the vocabulary that the model writes with."""
        vocabulary = self.modality.vocabulary(self.preprocessing)
        assert vocabulary is not None, "a model that writes has a vocabulary"
        return vocabulary.decode(tokens)

    @property
    def token_bytes(self) -> tuple[bytes, ...]:
        """The bytes of each token of a text's vocabulary; () for other inputs."""
        vocabulary = self.modality.vocabulary(self.preprocessing)
        return () if vocabulary is None else vocabulary.token_bytes

    @property
    def modality(self) -> Modality:
        """The modality of the inputs."""
        return MODALITIES[self.preprocessing.modality]

    @property
    def horizon(self) -> int:
        """The steps of a forecast; 0 for other tasks."""
        return self.modality.horizon(self.preprocessing)

    def build(self) -> nn.Module:
        """The network with fresh weights. UsageError for a change that it does not know."""
        outputs = self.build_task().outputs
        return build_model(self.model, outputs, input_shape=self.input_shape, changes=self.changes)

    def build_task(self, recipe: TaskRecipe | None = None) -> Task:
        """The task of the outputs; the recipe's loss and smoothing matter to training alone."""
        return TASKS[self.task].build(self, recipe or TaskRecipe())


@dataclass(frozen=True, slots=True)
class SavedModel:
    """A trained network with its preprocessing and class names."""

    module: nn.Module
    spec: ModelSpec

    def predict(self, sources: Any, *, beams: int = 1) -> Predictions:
        """One prediction for each image, or each row of a table, in order.

        `sources` is a path, the bytes of an image file, an array or tensor, an image of Pillow, a
        data frame, or a list of these; for tables also a list of rows or of dictionaries; for pairs
        of sequences also a text. With several `beams` sequences are searched for, else greedy.
        Raises DataError for a source that cannot be read.
        """
        rows = [row for source in each_source(sources) for row in self.read_source(source)]
        for row in rows:
            if row.raw is None:
                raise DataError(f"{row.name} cannot be predicted", seen=row.error)
        return self.predict_raw([row.raw for row in rows], beams=beams)

    def read_source(self, source: Any) -> Iterable[SourceRow]:
        """The samples in a file or a value, decoded as in training. Raises DataError."""
        modality, preprocessing = self.spec.modality, self.spec.preprocessing
        if isinstance(source, str) and modality.takes_text and not _is_path(source, modality):
            assert modality.read_object is not None
            return modality.read_object(preprocessing, source)
        if isinstance(source, str | Path | bytes):
            if isinstance(source, bytes):
                return modality.read_source(preprocessing, source)
            return self._read_file(as_path(source, role="a file to predict"))
        if modality.read_object is None:
            noun = modality.noun
            raise UsageError(f"the model takes files of {noun}s", seen=type(source).__name__)
        return modality.read_object(preprocessing, source)

    def _read_file(self, path: Path) -> Iterator[SourceRow]:
        """The samples in a file. Raises DataError, also where the system cannot read it."""
        if not os.path.lexists(path):
            raise DataError(
                f"{path} cannot be read", seen="there is no such file", fix="check its name"
            )
        try:
            yield from self.spec.modality.read_source(self.spec.preprocessing, path)
        except OSError as error:
            raise DataError(
                f"{path} cannot be read",
                seen=error.strerror or str(error),
                fix=f"the path of a file of {self.spec.modality.noun}s that exists",
            ) from error

    @torch.inference_mode()
    def predict_raw(self, raw: Sequence[Any], *, beams: int = 1) -> Predictions:
        """Predictions for decoded samples: uint8 [h, w, c] each, or float [d] each."""
        if isinstance(self.module, EncoderDecoder):
            return self._write(self.module, raw, beams=beams)
        if beams != 1:
            raise UsageError(
                "only sequences are searched for with beams",
                seen=f"beams={beams}; a model for {self.spec.task}",
                fix="leave it out",
            )
        task = self.spec.build_task()
        predictions = Predictions()
        for start in range(0, len(raw), PREDICTION_BATCH):
            decoded = self.decode_raw(raw[start : start + PREDICTION_BATCH])
            predictions.extend(task.predict(row, self.spec.class_names) for row in decoded.float())
        return predictions

    @torch.inference_mode()
    def decode_raw(self, raw: Sequence[Any]) -> Tensor:
        """The decoded outputs for a batch of decoded samples, on the CPU."""
        modality, task = self.spec.modality, self.spec.build_task()
        device = next(self.module.parameters()).device
        batch = each_tensor(modality.collate(raw), lambda tensor: tensor.to(device))
        logits = self.spec.views(self.module, self.spec.preprocessing.to_inputs(batch))
        return modality.in_units(batch, task.decode(logits)).cpu()

    def _write(self, model: EncoderDecoder, raw: Sequence[Any], *, beams: int) -> Predictions:
        """The sequence written for each sample."""
        device, predictions = next(model.parameters()).device, Predictions()
        for start in range(0, len(raw), PREDICTION_BATCH):
            batch = self.spec.modality.collate(raw[start : start + PREDICTION_BATCH])
            on_device = each_tensor(batch, lambda tensor: tensor.to(device))
            sources = self.spec.preprocessing.to_inputs(on_device)
            for written in write_sequences(model, sources, beams=beams):
                predictions.append(written_prediction(written, self.spec.text_of))
        return predictions


def _is_path(text: str, modality: Modality) -> bool:
    """Return whether a file or a folder has this name, or it can only be meant as that of a file.

    A mistyped name is no text to answer.
    """
    if not any(map(str.isspace, text)) and Path(text).suffix.lower() in modality.suffixes:
        return True
    try:
        return Path(text).exists()
    except (OSError, ValueError):  # too long for a name, or with a NUL character
        return False


def each_source(sources: Any) -> list[Any]:
    """The sources: those in a list or an iterator, or the one value that was passed."""
    if isinstance(sources, Iterator):
        sources = list(sources)
    if not isinstance(sources, list | tuple | set | Mapping):
        return [sources]
    if isinstance(sources, Mapping):  # one row of a table
        return [[sources]]
    items = list(sources)
    is_table = all(isinstance(item, dict | list | tuple | int | float) for item in items)
    return [items] if items and is_table else items


def save_model(folder: Path, module: nn.Module, *, spec: ModelSpec, card: str) -> None:
    """Write the model beside its final place, then swap: a reader sees the old or the new one."""
    fresh, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    for leftover in (fresh, old):
        delete(leftover)
    fresh.mkdir(parents=True)
    weights = save_tensors({k: v.contiguous().cpu() for k, v in module.state_dict().items()})
    write_new(fresh / "weights.safetensors", weights)
    write_new(fresh / "README.md", card.encode(errors="backslashreplace"))
    write_new(fresh / "model.json", _manifest(spec, weights).encode())
    if os.path.lexists(folder):
        folder.rename(old)
    fresh.rename(folder)
    delete(old)


def load_model(folder: Path, *, device: str = "cpu") -> SavedModel:
    """The model in eval mode. Raises RunError when the folder is absent, foreign or damaged."""
    manifest = _read_manifest(folder)
    weights = _read_weights(folder, manifest)
    spec = _spec(folder, manifest)
    module = spec.build()
    try:
        module.load_state_dict(load_tensors(weights))
    except (SafetensorError, RuntimeError) as error:
        raise RunError(f"{folder} holds weights of another network", seen=str(error)) from error
    return SavedModel(module.to(device).eval(), spec)


def _manifest(spec: ModelSpec, weights: bytes) -> str:
    values: dict[str, Any] = {name: getattr(spec, name) for name in spec.__slots__}
    values["preprocessing"] = spec.preprocessing.to_dict()
    values["changes"] = dict(spec.changes)
    values["views"] = asdict(spec.views)
    values |= {"format": FORMAT, "weights_sha256": sha256(weights).hexdigest()}
    return json_text(values)


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = read_json(folder / "model.json")
    except (FileNotFoundError, NotADirectoryError) as error:
        kind = RunError if is_run(folder.parent) else NoRunError
        raise kind(
            f"there is no trained model in {folder.parent}",
            seen=f"{folder / 'model.json'} does not exist",
            fix=_how_to_get_a_model(folder.parent),
        ) from error
    except (OSError, ValueError) as error:
        raise RunError(
            f"{folder / 'model.json'} cannot be read", seen=str(error), fix=WHOLE_AGAIN
        ) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise RunError(
            f"{folder / 'model.json'} is of no format that this version reads",
            seen=f"format {manifest.get('format') if isinstance(manifest, dict) else manifest!r}",
            fix=f"a model saved in format {FORMAT}",
        )
    try:
        check_values(manifest)
    except ValueError as error:
        raise RunError(f"{folder / 'model.json'} cannot be read", seen=str(error)) from error
    if missing := sorted(VALUES.keys() - manifest.keys() - OPTIONAL):
        raise RunError(f"{folder / 'model.json'} is incomplete", seen=f"no {missing[0]} in it")
    return manifest


def _how_to_get_a_model(run: Path) -> str:
    """A fix that can work for this folder: a run that failed would fail again."""
    if not can_be_resumed(run):
        return run_to_name(run, with_model=True)
    state = RunReader(run).state
    if state == "failed":
        return f"thalweg diagnose {shell_word(run)} says why the run failed; then train anew"
    if state == "finished":  # nothing is left to resume
        return f"train anew: thalweg train --config {shell_word(run / 'recipe.toml')}"
    return f"finish the run: thalweg train --resume {shell_word(run)}"


def _read_weights(folder: Path, manifest: Mapping[str, Any]) -> bytes:
    path = folder / "weights.safetensors"
    try:
        check_tensor_file(path)
        check_sizes(manifest, path)
        weights = read_bytes(path, limit=LARGEST_MODEL)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise RunError(f"{path} cannot be read", seen=str(error), fix=WHOLE_AGAIN) from error
    seen, digest = sha256(weights).hexdigest(), manifest["weights_sha256"]
    if seen != digest:
        raise RunError(
            f"{path} is damaged",
            seen=f"sha256 {seen[:12]}…, saved as {digest[:12]}…",
            fix=WHOLE_AGAIN,
        )
    return weights


def _spec(folder: Path, manifest: Mapping[str, Any]) -> ModelSpec:
    try:
        values = {name: manifest[name] for name in ModelSpec.__slots__ if name not in OPTIONAL}
        values["views"] = AugmentedViews(**manifest.get("views", {}))
        values["label_rates"] = tuple(manifest.get("label_rates", ()))
        preprocessing = values["preprocessing"]
        values["preprocessing"] = MODALITIES[preprocessing["kind"]].restore(preprocessing)
        values["input_shape"] = tuple(values["input_shape"])
        values["class_names"] = tuple(values["class_names"])
        return ModelSpec(**values)
    except UnknownNameError:  # of a modality whose package is not installed
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{folder / 'model.json'} is incomplete", seen=repr(error)) from error
