"""The whole description of a run, as nested frozen dataclasses. Importing it does not load torch.

Keys are dotted (`optimizer.lr`), the same in TOML, in the environment (THALWEG_OPTIMIZER_LR), on
the command line (--optimizer.lr) and in a prescription's edit.
"""

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

from thalweg.errors import NoRunError, RunError, UnknownNameError, UsageError
from thalweg.files import check_length, check_regular
from thalweg.recipes.key import Key, key, toml_value
from thalweg.recipes.old_names import OLD_NAMES, current_edit
from thalweg.recipes.similar_keys import similar_keys
from thalweg.registry import unknown_name

AUTO = "auto"  # a key's value: chosen by the data
Changes = Mapping[str, int | float | str | bool]  # settings by name, of what is chosen by name


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRecipe:
    path: str = key("", "Data to train on: a folder, a file, or the name of a built-in set.")
    image_size: int = key(
        0, "Side of the square images in pixels; 0 chooses it.", at_least=0, short="image_size"
    )
    val_fraction: float = key(
        0.2, "Share held out as validation split if the data have none.", above=0, below=1
    )
    test_fraction: float = key(
        0.0, "Share held out as test split if the data have none; 0: none.", at_least=0, below=1
    )
    folds: int = key(0, "Cross-validation folds; 0 holds out val_fraction.", at_least=0)
    fold: int = key(1, "The fold that validates, counted from 1.", at_least=1)
    group: str = key(
        "",
        "Column of samples that stay in one split, such as a patient's; empty: a column or file "
        "names that say so, and near copies of images; none: neither.",
    )
    context: int = key(
        0, "Tokens of a text that the network sees at once; 0: chosen by its length.", at_least=0
    )
    tokenizer: Literal["auto", "characters", "words", "bpe"] = key(
        "auto",
        "Tokens of a text: characters, words between white space (of pairs alone), or pieces of "
        "words (bpe). auto: characters up to 5 million; of pairs, as each side suggests.",
    )
    pieces: int = key(0, "Pieces of words to learn from a text; 0 chooses.", at_least=0)
    time: str = key(
        "",
        "Column of time stamps, or two such as year,month: the table holds series to forecast. "
        "Empty: chosen where that is beyond doubt; none: it holds none.",
    )
    series: str = key("", "Column that names the series of each row; empty: chosen.")
    horizon: int = key(0, "Steps to forecast; 0: chosen by the interval of time.", at_least=0)
    lags: int = key(
        0, "Past steps of a series that the network sees at once; 0: chosen.", at_least=0
    )
    season: int = key(
        0, "Steps after which a series repeats; 1: it does not; 0: chosen.", at_least=0
    )
    target: str = key(
        "", "Column of a table to predict; empty: `target`, or else the last.", short="target"
    )
    source: str = key(
        "",
        "Column of a table that sequences are written from; empty: one with a usual name, or else "
        "the only other one with texts.",
        short="source",
    )
    split: Literal["random", "length"] = key(
        "random",
        "Samples that validate. random: by chance, where the data name none; length: of pairs, "
        "those with the longest targets, whatever the data name.",
        short="split",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecipe:
    name: str = key("mlp", "Network architecture; see docs/reference/models.md.", short="model")
    changes: Changes = key({}, "Settings of the network, such as width, norm or dropout.")


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferRecipe:
    method: Literal["none", "probe", "last", "all"] = key(
        "none",
        "Layers of a pretrained network to train. none: start from random weights; probe: fit a "
        "new head; last: then train the last third; all: then train all layers.",
        short="transfer",
    )
    weights: str = key(
        "",
        "Pretrained weights: `package` (extra `pretrained`), `timm` or a file; empty: usual ones.",
    )
    copies_per_image: int = key(
        1,
        "Versions of each training image that the head is fitted to. 1: the image itself; 2: also "
        "mirrored; 3: also enlarged; 4: also enlarged and mirrored.",
        at_least=1,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRecipe:
    name: str = key(
        AUTO,
        "Predict one of several classes (classification), any number of labels (multi-label), a "
        "number (regression), the next token of a text (next-token) or the next values of series "
        "(forecast), or write a sequence token by token (sequence). auto: as the targets suggest.",
        short="task",
    )
    loss: str = key(
        "auto",
        "Loss; see docs/reference/losses.md. auto: cross_entropy for classes, bce for labels, "
        "mse for numbers, pinball for series.",
    )
    changes: Changes = key({}, "Settings of the loss, such as margin or gamma.")
    label_smoothing: float = key(
        0.0, "Target probability spread over all classes; 0 is off.", at_least=0, below=1
    )
    penalty: str = key("none", "Penalty added to the loss: none, l1, l2 or elastic_net.")
    penalty_weight: float = key(0.0, "λ in loss + λ · penalty.", at_least=0, log=True)
    elastic_beta: float = key(1.0, "β in elastic_net = Σ β w² + |w|.", at_least=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerRecipe:
    name: str = key("adamw", "Optimizer; see docs/reference/optimizers.md.")
    lr: float = key(
        1e-3, "Peak learning rate; the schedule multiplies it.", at_least=0, log=True, short="lr"
    )
    weight_decay: float = key(
        0.01, "Weight decay, L2 in sgd; biases and norms have none.", at_least=0, log=True
    )
    momentum: float = key(0.9, "Momentum of sgd, first beta of adamw.", at_least=0, below=1)
    max_grad_norm: float = key(
        0.0, "Clip gradients to this L2 norm over all weights; 0 is off.", at_least=0, log=True
    )
    ema_decay: float = key(
        0.0, "Decay of the weight average to validate and save; 0 is off.", at_least=0, below=1
    )
    changes: Changes = key({}, "Further settings of the optimizer, such as beta2 or eps.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRecipe:
    name: str = key("warmup_linear", "Learning-rate schedule; see docs/reference/schedules.md.")
    warmup: float = key(
        0.05, "Share of the training in which lr rises to its peak.", at_least=0, below=1
    )
    changes: Changes = key({}, "Further settings of the schedule, such as floor or first.")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRecipe:
    size: int = key(64, "Samples per backward pass.", at_least=1, log=True, short="batch_size")
    accumulate: int = key(1, "Backward passes per update.", at_least=1, log=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentRecipe:
    flip: bool = key(False, "Mirror half of the training images, left to right.")
    alternating_flip: bool = key(
        False, "With flip: mirror each image in every other epoch instead of by chance."
    )
    progressive_resizing: Changes = key(
        {},
        "Train on smaller images first: side in pixels → share of the training, in order; the "
        "rest of the training has images of full size. Empty is off.",
    )
    crop_padding: int = key(
        0, "Shift images by up to this many pixels, reflecting the border; 0 is off.", at_least=0
    )
    crop_scale: float = key(
        1.0, "Least area share of a random resized crop; 1 is off.", at_least=0, at_most=1
    )
    brightness: float = key(0.0, "Scale the brightness by a random factor of 1 ± this; 0 is off.")
    contrast: float = key(0.0, "Scale the contrast by a random factor of 1 ± this; 0 is off.")
    saturation: float = key(0.0, "Scale the saturation by a random factor of 1 ± this; 0 is off.")
    cutout: float = key(
        0.0, "Cover a square with this share of the side; 0 is off.", at_least=0, at_most=1
    )
    random_ops: int = key(0, "RandAugment: random changes per image; 0 is off.", at_least=0)
    random_magnitude: float = key(0.3, "RandAugment: strength of a change.", at_least=0, at_most=1)
    mixup: float = key(
        0.0, "Blend pairs of samples by a share from Beta(α, α); this is α. 0 is off.", at_least=0
    )
    cutmix: float = key(
        0.0,
        "Paste a rectangle of another image, its area from Beta(α, α); this is α. 0 is off. With "
        "mixup, each batch gets one of the two.",
        at_least=0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionRecipe:
    dtype: Literal["float32", "bfloat16"] = key("float32", "Number format of matrix products.")
    channels_last: bool = key(False, "Store images with channels last: faster convolutions.")
    matmul: Literal["highest", "high", "medium"] = key(
        "highest", "Precision of float32 matrix products, as torch.set_float32_matmul_precision."
    )
    threads: int = key(0, "Processor threads; 0 leaves the choice to torch.", at_least=0)
    compile: bool = key(False, "Compile the training step with torch.compile.")


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRecipe:
    epochs: int = key(10, "Passes over the training split.", at_least=1, short="epochs")
    steps: int = key(
        0, "Updates of the whole training, where not whole passes; 0: `epochs` says.", at_least=0
    )
    patience: int = key(
        0, "Stop after this many epochs without a better validation score; 0: never.", at_least=0
    )
    checkpoint_seconds: float = key(
        60.0,
        "Most seconds of training that a crash can cost; each epoch of a second or more is saved.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRecipe:
    interval: int = key(
        1, "Epochs from one validation to the next; the last is always validated.", at_least=1
    )
    steps: int = key(
        0, "Updates from one validation to the next; 0: `interval` says, in epochs.", at_least=0
    )
    test_time_augmentation: Literal["none", "flip", "shift"] = key(
        "none",
        "Average the final validation and all predictions over the image and its mirror image "
        "(flip), or also over both shifted by a pixel (shift).",
    )
    confidence_threshold: float = key(
        1.0,
        "Skip test-time augmentation for images with a class of this probability; 1 skips none.",
        at_least=0,
        at_most=1,
    )
    trees_seconds: float = key(
        10.0,
        "Most seconds for gradient-boosted trees on a table, or TF-IDF with a linear model on "
        "texts, whose score stands beside the network's in the report; 0: none.",
        at_least=0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchRecipe:
    sharpness: bool = key(
        False, "Measure the largest curvature during training; look for saddles at its end."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Data, model, transfer, task, optimizer, schedule, batch, augmentation, precision, …"""

    data: DataRecipe = field(default_factory=DataRecipe)
    model: ModelRecipe = field(default_factory=ModelRecipe)
    transfer: TransferRecipe = field(default_factory=TransferRecipe)
    task: TaskRecipe = field(default_factory=TaskRecipe)
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    schedule: ScheduleRecipe = field(default_factory=ScheduleRecipe)
    batch: BatchRecipe = field(default_factory=BatchRecipe)
    augment: AugmentRecipe = field(default_factory=AugmentRecipe)
    precision: PrecisionRecipe = field(default_factory=PrecisionRecipe)
    budget: BudgetRecipe = field(default_factory=BudgetRecipe)
    evaluation: EvaluationRecipe = field(default_factory=EvaluationRecipe)
    watch: WatchRecipe = field(default_factory=WatchRecipe)
    seed: int = key(
        0, "Seed of the split, the weights, the order and the augmentation.", short="seed"
    )
    device: str = key("cpu", "Device, such as cpu, cuda or cuda:1.", short="device")
    devices: int = key(
        1,
        "Processes that train together, each on a GPU or a share of the processor.",
        at_least=1,
        short="devices",
    )

    def edited(self, edits: Mapping[str, object]) -> "Recipe":
        """This recipe with some dotted keys changed; UsageError for an unknown key or value."""
        recipe = self
        for name, value in edits.items():
            if name not in KEYS:
                raise _unknown_key(name)
            recipe = _replaced(recipe, name.split("."), KEYS[name].parse(value))
        return recipe

    def flat(self) -> dict[str, Any]:
        """Dotted key → value, in the order of declaration."""
        return {name: attrgetter(name)(self) for name in KEYS}

    def to_toml(self) -> str:
        """The recipe as TOML; `edits_from_toml` reads it back to equal values."""
        return _toml(self)


def _declared_keys(recipe: type, prefix: str = "") -> Iterator[Key]:
    for part in fields(recipe):
        if isinstance(part.type, type) and is_dataclass(part.type):
            yield from _declared_keys(part.type, f"{prefix}{part.name}.")
        else:
            yield Key(name=prefix + part.name, type=part.type, **part.metadata)


KEYS = {declared.name: declared for declared in _declared_keys(Recipe)}  # by dotted name
_SHORT_NAMES = {declared.short: name for name, declared in KEYS.items() if declared.short}


def _unknown_key(name: str) -> UnknownNameError:
    if name in OLD_NAMES:
        return UnknownNameError(f"{name} has a new name", seen=name, fix=OLD_NAMES[name])
    return unknown_name("recipe key", name, KEYS, close=similar_keys(name, KEYS))


def check_ranges(recipe: Recipe, names: Iterable[str]) -> None:
    """Raise UsageError where one of the named values is out of its range."""
    is_probe = recipe.transfer.method == "probe"
    for name in names:
        if not (is_probe and name == "budget.epochs"):  # a probe has none
            KEYS[name].check(attrgetter(name)(recipe))


def short_edits(**options: object) -> dict[str, object]:
    """Edits by dotted key of options by short name; those that are None are left out."""
    return {_SHORT_NAMES[name]: value for name, value in options.items() if value is not None}


def edits_from_toml(path: Path) -> dict[str, object]:
    """Dotted key → value from a TOML file, which may have old names.

    Raises: UsageError with the file's name in it.
    """
    try:
        check_length(path)
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # also numbers of 5,000 digits
        raise UsageError(
            f"{path} cannot be read as a recipe", seen=str(error), fix="a TOML file in UTF-8"
        ) from error
    edits = dict(_flatten(table, ""))
    try:
        Recipe().edited(edits)
    except UsageError as error:
        raise type(error)(f"{path}: {error.problem}", seen=error.seen, fix=error.fix) from error
    return edits


# Keys that older runs did not record, as these had them.
UNRECORDED: dict[str, object] = {"data.group": "none"}


def recorded_recipe(run: Path) -> Recipe:
    """The recipe that a run was started with. Raises RunError where it is absent or unreadable."""
    path = run / "recipe.toml"
    if not os.path.lexists(path):
        raise NoRunError(
            f"{run} is not a run that can be resumed",
            seen=f"{path} does not exist",
            fix="the folder of a run of `thalweg train`, as `thalweg runs` lists them",
        )
    try:
        check_regular(path)
        return Recipe().edited({**UNRECORDED, **edits_from_toml(path)})
    except OSError as error:
        raise RunError(f"{path} cannot be read", seen=str(error)) from error
    except UsageError as error:
        raise RunError(error.problem, seen=error.seen, fix=error.fix) from error


def _flatten(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, object]]:
    for part, written in table.items():
        name, value = current_edit(prefix + part, written)
        if isinstance(value, dict) and not (name in KEYS and KEYS[name].is_table):
            yield from _flatten(value, name + ".")
        else:
            yield name, value


def _replaced(node: Any, path: list[str], value: object) -> Any:
    """The dataclass with the value at the end of the path replaced."""
    first, *rest = path
    return replace(node, **{first: _replaced(getattr(node, first), rest, value) if rest else value})


def _toml(node: Any, prefix: str = "") -> str:
    """Plain keys first, then the tables: TOML would otherwise put a key into the table above it."""
    plain, tables = [], []
    for part in fields(node):
        value = getattr(node, part.name)
        if is_dataclass(value):
            tables.append(f"\n[{prefix}{part.name}]\n{_toml(value, f'{prefix}{part.name}.')}")
        else:
            plain.append(f"{part.name} = {toml_value(value)}\n")
    return "".join(plain + tables)
