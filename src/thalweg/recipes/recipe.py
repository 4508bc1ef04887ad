"""The whole description of a run, as nested frozen dataclasses. Importing it does not load torch.

Keys are dotted (`optimizer.lr`), the same in TOML, in the environment (THALWEG_OPTIMIZER_LR), on
the command line (--optimizer.lr) and in a prescription's edit.
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from json import dumps
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from thalweg.errors import RunError, UsageError
from thalweg.registry import unknown_name

SHORT_KEYS = {  # what the Python call and the command line also accept
    "model": "model.name",
    "epochs": "budget.epochs",
    "lr": "optimizer.lr",
    "batch_size": "batch.size",
    "image_size": "data.image_size",
    "target": "data.target",
    "seed": "seed",
    "device": "device",
    "devices": "devices",
    "transfer": "transfer.method",
}


def short_edits(**options: object) -> dict[str, object]:
    """Edits by dotted key of options by short name; those that are None are left out."""
    return {SHORT_KEYS[name]: value for name, value in options.items() if value is not None}


Changes = Mapping[str, int | float | str | bool]  # settings by name, of what is chosen by name


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRecipe:
    path: str = ""  # what was given: a folder, a file, or the name of a built-in set
    image_size: int = 0  # pixels, the side of the square that images are brought to; 0: no images
    val_fraction: float = 0.2  # share held out where no validation split is given
    test_fraction: float = 0.0  # share kept for the end where no test split is given; 0: none
    folds: int = 0  # parts that validate in turn, for cross-validation; 0: one split
    fold: int = 1  # which of the folds validates, from 1
    target: str = ""  # the column of a table to predict; empty: `target`, else the last


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecipe:
    name: str = "mlp"  # which architecture; docs/reference/models.md lists them
    changes: Changes = field(default_factory=dict)  # its settings, such as norm, dropout or init


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferRecipe:
    method: Literal["none", "probe", "last", "all"] = "none"  # of pretrained layers, train what?
    weights: str = ""  # pretrained: `package` (of the extra `pretrained`), `timm`, or a file
    views: int = 1  # of each training image: as is, mirrored, enlarged, both


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRecipe:
    name: Literal["classification", "regression"] = "classification"  # what success means
    loss: str = "auto"  # docs/reference/losses.md lists them; auto: cross_entropy, or mse
    changes: Changes = field(default_factory=dict)  # the loss's settings, such as margin or gamma
    label_smoothing: float = 0.0  # share of a target's weight that is spread over all classes
    penalty: str = "none"  # on the weights, beside the loss: l1, l2 or elastic_net
    penalty_weight: float = 0.0  # λ in loss + λ · penalty
    elastic_beta: float = 1.0  # β in elastic_net = Σ β w² + |w|


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerRecipe:
    name: str = "adamw"  # how gradients become updates; docs/reference/optimizers.md lists them
    lr: float = 1e-3  # the peak; the schedule multiplies it
    weight_decay: float = 0.01  # decoupled for adamw, L2 for sgd; biases and norms are spared
    momentum: float = 0.9  # sgd's momentum; adamw's first beta
    max_grad_norm: float = 0.0  # L2 over all weights; 0: no clipping
    ema_decay: float = 0.0  # of the moving average of weights that is judged and saved; 0: off
    changes: Changes = field(default_factory=dict)  # its other settings, such as beta2 or eps


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRecipe:
    name: str = "warmup_linear"  # of the learning rate; docs/reference/schedules.md lists them
    warmup: float = 0.05  # share of the training
    changes: Changes = field(default_factory=dict)  # its settings, such as floor or first


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRecipe:
    size: int = 64  # samples per backward pass
    accumulate: int = 1  # backward passes per update


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentRecipe:
    flip: bool = False  # left–right, half of the images
    alternating_flip: bool = False  # with flip: each image in every other epoch, not by chance
    small: Changes = field(default_factory=dict)  # side, pixels → share: smaller images at first
    crop_padding: int = 0  # pixels of reflected border that a crop may reach into
    crop_scale: float = 1.0  # least share of the area that a random resized crop keeps; 1: off
    brightness: float = 0.0  # factors are drawn from 1 ± this
    contrast: float = 0.0  # as brightness
    saturation: float = 0.0  # as brightness
    cutout: float = 0.0  # side of the square hole, as a share of the image's side
    random_ops: int = 0  # changes drawn at random for each image, one after the other; 0: off
    random_magnitude: float = 0.3  # their strength, 0 to 1
    mixup: float = 0.0  # α of the Beta(α, α) that pairs of samples are blended by; 0: off
    cutmix: float = 0.0  # α, for a rectangle of a partner's; with mixup, either by turns


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionRecipe:
    dtype: Literal["float32", "bfloat16"] = "float32"  # what matrix products compute in
    channels_last: bool = False  # the memory order that convolutions of most machines prefer
    matmul: Literal["highest", "high", "medium"] = "highest"  # of float32 products, as torch's
    threads: int = 0  # of the processor; 0: as many as torch has
    compile: bool = False  # by torch.compile


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRecipe:
    epochs: int = 10  # passes over the training split
    patience: int = 0  # epochs without a better validation score before it stops; 0: never
    checkpoint_seconds: float = 60.0  # longest time that a crash can cost; also every epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRecipe:
    every: int = 1  # epochs from one validation to the next; the last one always ends with one
    views: Literal["one", "flip", "shift"] = "one"  # of an image, averaged at the end and after it
    sure: float = 1.0  # probability from which the first view counts alone; 1: never


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchRecipe:
    sharpness: bool = False  # measure the largest curvature now and then; at the end, seek saddles


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
    seed: int = 0  # of the split, the weights, the order and the augmentation
    device: str = "cpu"  # such as cpu, cuda or cuda:1
    devices: int = 1  # processes that train together: a GPU, or a share of the cores, for each

    def edited(self, edits: Mapping[str, object]) -> "Recipe":
        """This recipe with some dotted keys changed; UsageError for an unknown key or value."""
        recipe = self
        for key, value in edits.items():
            recipe = _with(recipe, key.split("."), value, key=key)
        return recipe

    def flat(self) -> dict[str, Any]:
        """Dotted key → value, in the order of declaration."""
        return dict(_flatten(self, ""))

    def to_toml(self) -> str:
        """The recipe as TOML; `edits_from_toml` reads it back to equal values."""
        return _render(self)


def edits_from_toml(path: Path) -> dict[str, object]:
    """Dotted key → value from a TOML file. Raises UsageError with the file's name in it."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(
            f"{path} is no recipe that can be read", seen=str(error), fix="a TOML file, UTF-8"
        ) from error
    edits = dict(_flatten_table(table, ""))
    try:
        Recipe().edited(edits)
    except UsageError as error:
        raise type(error)(f"{path}: {error.problem}", seen=error.seen, fix=error.fix) from error
    return edits


def recorded_recipe(run: Path) -> Recipe:
    """The recipe that a run was started with. Raises RunError where it is absent or unreadable."""
    path = run / "recipe.toml"
    if not path.exists():
        raise RunError(
            f"{run} is no run that can be resumed",
            seen=f"{path} does not exist",
            fix="the folder of a run, as `thalweg runs` lists them",
        )
    try:
        return Recipe().edited(edits_from_toml(path))
    except UsageError as error:
        raise RunError(error.problem, seen=error.seen, fix=error.fix) from error


def keys() -> tuple[str, ...]:
    """Every dotted key that a recipe has."""
    return tuple(Recipe().flat())


def tables() -> frozenset[str]:
    """The keys whose value is a table of settings by name."""
    return frozenset(key for key, value in Recipe().flat().items() if isinstance(value, Mapping))


def _flatten(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for part in fields(node):
        value = getattr(node, part.name)
        if is_dataclass(value):
            yield from _flatten(value, f"{prefix}{part.name}.")
        else:
            yield prefix + part.name, value


def _flatten_table(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, object]]:
    for name, value in table.items():
        key = prefix + name
        if isinstance(value, dict) and key not in tables():
            yield from _flatten_table(value, key + ".")
        else:
            yield key, value


def _with(node: Any, path: list[str], value: object, *, key: str) -> Any:
    names = {part.name for part in fields(node)}
    if path[0] not in names or (len(path) > 1) != is_dataclass(getattr(node, path[0])):
        raise unknown_name("recipe key", key, keys())
    if len(path) > 1:
        return replace(node, **{path[0]: _with(getattr(node, path[0]), path[1:], value, key=key)})
    kind = get_type_hints(type(node))[path[0]]
    return replace(node, **{path[0]: _converted(value, kind, key)})


def _converted(value: object, kind: Any, key: str) -> Any:
    """The value as the key's type; text, as from the environment, is parsed."""
    if get_origin(kind) is Literal:
        if value in get_args(kind):
            return value
        raise unknown_name(f"value of {key}", str(value), map(str, get_args(kind)))
    if get_origin(kind) is not None and not isinstance(kind, UnionType):
        if isinstance(value, Mapping):
            return dict(value)
        raise _unfit(value, "a table", key)
    parsed = _parsed(value, kind)
    if parsed is None:
        raise _unfit(value, kind.__name__, key)
    return parsed


def _parsed(value: object, kind: type) -> object:
    """None where the value does not fit."""
    if kind is bool:
        texts = {"true": True, "1": True, "false": False, "0": False}
        return value if isinstance(value, bool) else texts.get(str(value).lower())
    if kind is str:
        return value if isinstance(value, str) else None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return kind(value) if isinstance(value, str) or kind(value) == value else None
    except (ValueError, OverflowError):
        return None


def _unfit(value: object, wanted: str, key: str) -> UsageError:
    return UsageError(f"{key} must be {wanted}", seen=f"{value!r}", fix=f"{key} = {wanted}")


def _render(node: Any, prefix: str = "") -> str:
    """Plain keys first, then the tables: TOML would otherwise put a key into the table above it."""
    plain, tables = [], []
    for part in fields(node):
        value = getattr(node, part.name)
        if is_dataclass(value):
            tables.append(f"\n[{prefix}{part.name}]\n{_render(value, f'{prefix}{part.name}.')}")
        elif isinstance(value, Mapping):
            inline = ", ".join(f"{dumps(k)} = {_literal(v)}" for k, v in value.items())
            plain.append(f"{part.name} = {{ {inline} }}\n")
        else:
            plain.append(f"{part.name} = {_literal(value)}\n")
    return "".join(plain + tables)


def _literal(value: object) -> str:
    if isinstance(value, str):
        return dumps(value)  # a JSON string is a TOML basic string
    return str(value).lower() if isinstance(value, bool) else repr(value)
