"""A trained model on disk: weights, class names and preprocessing in one folder.

The folder holds `weights.safetensors`, `model.json` (the network's settings, the digest of the
weights, the preprocessing) and `README.md` (the model card). Loading runs no code from the folder.
"""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from json import JSONDecodeError, dumps, loads
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import nn

from thalweg.data.batch import each_tensor
from thalweg.data.images.test_time_augmentation import ONE_VIEW, AugmentedViews
from thalweg.data.modalities import MODALITIES
from thalweg.data.modality import Modality, Preprocessing, SourceRow
from thalweg.errors import RunError, UnknownNameError
from thalweg.models.build import build_model
from thalweg.recipes.recipe import TaskRecipe
from thalweg.tasks import TASKS, Task
from thalweg.tasks.task import Prediction as Prediction

FORMAT = 1
PREDICTION_BATCH = 64


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

    @property
    def modality(self) -> Modality:
        """The modality of the inputs."""
        return MODALITIES[self.preprocessing.modality]

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

    def predict(self, sources: Iterable[str | Path | bytes]) -> list[Prediction]:
        """One prediction for each image file (or its bytes), in order; of a CSV, one for each row.

        Raises DataError for a source that cannot be read.
        """
        rows = [row for source in sources for row in self.read_source(source)]
        return self.predict_raw([row.raw for row in rows])

    def read_source(self, source: str | Path | bytes) -> Iterable[SourceRow]:
        """The samples in a file, decoded as in training. Raises DataError."""
        path = Path(source) if isinstance(source, str) else source
        return self.spec.modality.read_source(self.spec.preprocessing, path)

    @torch.inference_mode()
    def predict_raw(self, raw: Sequence[Any]) -> list[Prediction]:
        """Predictions for decoded samples: uint8 [h, w, c] each, or float [d] each."""
        task, collate = self.spec.build_task(), self.spec.modality.collate
        device = next(self.module.parameters()).device
        predictions: list[Prediction] = []
        for start in range(0, len(raw), PREDICTION_BATCH):
            batch = collate(raw[start : start + PREDICTION_BATCH])
            on_device = each_tensor(batch, lambda tensor: tensor.to(device))
            logits = self.spec.views(self.module, self.spec.preprocessing.to_inputs(on_device))
            decoded = task.decode(logits).float().cpu()
            predictions += [task.predict(row, self.spec.class_names) for row in decoded]
        return predictions


def save_model(folder: Path, module: nn.Module, *, spec: ModelSpec, card: str) -> None:
    """Write the model beside its final place, then swap: a reader sees the old or the new one."""
    fresh, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir(parents=True)
    weights = save_tensors({k: v.contiguous().cpu() for k, v in module.state_dict().items()})
    (fresh / "weights.safetensors").write_bytes(weights)
    (fresh / "README.md").write_text(card, encoding="utf-8")
    (fresh / "model.json").write_text(_manifest(spec, weights), encoding="utf-8")
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def load_model(folder: Path, *, device: str = "cpu") -> SavedModel:
    """The model in eval mode. Raises RunError when the folder is absent, foreign or damaged."""
    manifest = _read_manifest(folder)
    weights = _read_weights(folder, manifest["weights_sha256"])
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
    return dumps(values, indent=2, ensure_ascii=False)


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = loads((folder / "model.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(
            f"there is no trained model in {folder.parent}",
            seen=f"{folder / 'model.json'} does not exist",
            fix=f"finish the run: thalweg train --resume {folder.parent}",
        ) from error
    except (OSError, UnicodeDecodeError, JSONDecodeError, RecursionError) as error:
        raise RunError(f"{folder / 'model.json'} cannot be read", seen=str(error)) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise RunError(
            f"{folder / 'model.json'} is of no format that this version reads",
            seen=f"format {manifest.get('format') if isinstance(manifest, dict) else manifest!r}",
            fix=f"a model saved in format {FORMAT}",
        )
    return manifest


def _read_weights(folder: Path, digest: str) -> bytes:
    path = folder / "weights.safetensors"
    try:
        weights = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} cannot be read", seen=str(error)) from error
    seen = sha256(weights).hexdigest()
    if seen != digest:
        raise RunError(
            f"{path} is damaged",
            seen=f"sha256 {seen[:12]}…, saved as {digest[:12]}…",
            fix="copy it again from where it came, or train again",
        )
    return weights


def _spec(folder: Path, manifest: Mapping[str, Any]) -> ModelSpec:
    try:
        values = {name: manifest[name] for name in ModelSpec.__slots__ if name != "views"}
        views = manifest.get("views", {})  # older models have none
        values["views"] = AugmentedViews(**views)
        preprocessing = values["preprocessing"]
        values["preprocessing"] = MODALITIES[preprocessing["kind"]].restore(preprocessing)
        values["input_shape"] = tuple(values["input_shape"])
        values["class_names"] = tuple(values["class_names"])
        return ModelSpec(**values)
    except UnknownNameError:  # of a modality whose package is not installed
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{folder / 'model.json'} is incomplete", seen=repr(error)) from error
