"""A callback for Keras 3 on PyTorch: `model.fit(…, callbacks=[DiagnoseCallback()])`."""

from collections.abc import Callable
from functools import wraps
from itertools import count
from typing import Any

from torch import Tensor

from thalweg.adapters.callback_watcher import CallbackWatcher, Sink, guarded, library_missing
from thalweg.adapters.foreign_optimizer import ForeignOptimizer
from thalweg.diagnosis import Diagnosis
from thalweg.errors import UsageError

try:
    import keras
except ModuleNotFoundError as error:
    raise library_missing("keras", error) from error


class DiagnoseCallback(keras.callbacks.Callback):
    """Watches a fit and diagnoses it at its end. Raises UsageError on another backend than torch.

    `sink` receives the page (None: nothing is printed); `diagnosis` keeps it. Further options, all
    optional, go to `thalweg.watch`: task, num_classes, loss_fn, train, val. A callback of Keras
    sees no data: train= and val= take any iterables of (inputs, targets).

    Keras does not show its callbacks the loss of a batch either. While a fit is watched, the
    model's `compute_loss` and the optimizer's `apply` are wrapped.
    """

    def __init__(self, *, sink: Sink | None = print, **options: Any) -> None:
        super().__init__()
        if keras.backend.backend() != "torch":
            raise UsageError(
                "thalweg watches Keras on the torch backend only",
                seen=f"backend {keras.backend.backend()!r}",
                fix="set KERAS_BACKEND=torch before keras is imported",
            )
        self.watcher_ = CallbackWatcher(sink=sink, options=options)
        self._unwrap: list[Callable[[], object]] = []

    @property
    def diagnosis(self) -> Diagnosis | None:
        """The diagnosis of the last fit; None before its end."""
        return self.watcher_.diagnosis

    @guarded
    def on_train_begin(self, logs: Any = None) -> None:
        """Start to watch."""
        self._unwrap_methods()
        model = self.model
        gathers = (model.optimizer.gradient_accumulation_steps or 1) > 1
        foreign_optimizer = ForeignOptimizer(lambda: _groups(model), accumulates=gathers)
        self.watcher_.begin(model, [foreign_optimizer])
        self._wrap_compute_loss(model)
        self._wrap_apply(model.optimizer, foreign_optimizer)

    @guarded
    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Record the epoch's scores by name."""
        self.watcher_.log(logs or {})

    @guarded
    def on_train_end(self, logs: Any = None) -> None:
        """Diagnose."""
        self._unwrap_methods()
        self.watcher_.end()

    @guarded
    def _record_loss(self, loss: Any, named: dict[str, Any]) -> None:
        if isinstance(loss, Tensor) and loss.requires_grad:
            inputs, targets = named.get("x"), named.get("y")
            self.watcher_.record_loss(loss, batch=(_tensor(inputs), _tensor(targets)))

    def _wrap_compute_loss(self, model: Any) -> None:
        compute_loss = model.compute_loss

        @wraps(compute_loss)
        def compute_and_record(*arguments: Any, **named: Any) -> Any:
            loss = compute_loss(*arguments, **named)
            self._record_loss(loss, named)
            return loss

        self._replace_method(model, "compute_loss", compute_and_record)

    def _wrap_apply(self, optimizer: Any, foreign_optimizer: ForeignOptimizer) -> None:
        apply, every = optimizer.apply, optimizer.gradient_accumulation_steps or 1
        iterations = count(int(optimizer._iterations) + 1)

        @wraps(apply)
        def apply_and_record(*arguments: Any, **named: Any) -> Any:
            updates = not next(iterations) % every  # else gradients are accumulated
            if updates:
                foreign_optimizer.before_step()
            returned = apply(*arguments, **named)
            if updates:
                foreign_optimizer.after_step()
                self.watcher_.record_update()
            return returned

        self._replace_method(optimizer, "apply", apply_and_record)

    def _replace_method(self, owner: Any, name: str, function: Callable[..., Any]) -> None:
        object.__setattr__(owner, name, function)
        self._unwrap.append(lambda: object.__delattr__(owner, name))

    def _unwrap_methods(self) -> None:
        for restore in self._unwrap:
            restore()
        self._unwrap = []


def _groups(model: Any) -> list[dict[str, Any]]:
    """A Keras optimizer as one of torch's param_groups: all trainable weights, one rate."""
    optimizer = model.optimizer
    weights = [variable.value for variable in model.trainable_variables]
    decay = getattr(optimizer, "weight_decay", None) or 0.0
    return [{"params": weights, "lr": float(optimizer.learning_rate), "weight_decay": decay}]


def _tensor(value: Any) -> Tensor | None:
    return value if isinstance(value, Tensor) else None
