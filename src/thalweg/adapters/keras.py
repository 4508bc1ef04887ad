"""A callback for Keras 3 on PyTorch: `model.fit(…, callbacks=[DiagnoseCallback()])`."""

from collections.abc import Callable
from functools import wraps
from itertools import count
from typing import Any

from torch import Tensor

from thalweg.adapters.foreign import ForeignOptimizer
from thalweg.adapters.session import Session, Sink, guarded, library_missing
from thalweg.diagnosis import Diagnosis
from thalweg.errors import UsageError

try:
    import keras
except ModuleNotFoundError as error:
    raise library_missing("keras", error) from error


class DiagnoseCallback(keras.callbacks.Callback):
    """Watches a fit and diagnoses it at its end. Raises UsageError on another backend than torch.

    `sink` is given the page (None: nothing is printed); `diagnosis` keeps it. What only you can
    tell, each thing optional, goes to `thalweg.watch`: task, num_classes, loss_fn, train, val. A
    callback of Keras sees no data: train= and val= take any iterables of (inputs, targets).

    Keras does not show its callbacks the loss of a batch either. While a fit is watched, the
    model's `compute_loss` and the optimizer's `apply` are listened to.
    """

    def __init__(self, *, sink: Sink | None = print, **about: Any) -> None:
        super().__init__()
        if keras.backend.backend() != "torch":
            raise UsageError(
                "thalweg watches Keras on the torch backend only",
                seen=f"backend {keras.backend.backend()!r}",
                fix="set KERAS_BACKEND=torch before keras is imported",
            )
        self.session_ = Session(sink=sink, about=about)
        self._undo: list[Callable[[], object]] = []

    @property
    def diagnosis(self) -> Diagnosis | None:
        """Of the last fit; None before its end."""
        return self.session_.diagnosis

    @guarded
    def on_train_begin(self, logs: Any = None) -> None:
        """Begin to watch."""
        self._let_go()
        model, optimizer = self.model, self.model.optimizer
        stands_for = ForeignOptimizer(lambda: _groups(model))
        self.session_.begin(model, [stands_for])
        self._listen(model, "compute_loss", self._hear_loss)
        self._listen_to_updates(optimizer, stands_for)

    @guarded
    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """The epoch's scores, by name."""
        self.session_.log(logs or {})

    @guarded
    def on_train_end(self, logs: Any = None) -> None:
        """Diagnose."""
        self._let_go()
        self.session_.end()

    @guarded
    def _hear_loss(self, loss: Any, named: dict[str, Any]) -> None:
        if isinstance(loss, Tensor) and loss.requires_grad:
            inputs, targets = named.get("x"), named.get("y")
            self.session_.loss(loss, batch=(_tensor(inputs), _tensor(targets)))

    def _listen(self, owner: Any, name: str, heard: Callable[[Any, dict[str, Any]], None]) -> None:
        original = getattr(owner, name)

        @wraps(original)
        def overheard(*arguments: Any, **named: Any) -> Any:
            result = original(*arguments, **named)
            heard(result, named)
            return result

        self._put_in_place(owner, name, overheard)

    def _listen_to_updates(self, optimizer: Any, stands_for: ForeignOptimizer) -> None:
        apply, every = optimizer.apply, optimizer.gradient_accumulation_steps or 1
        counted = count(int(optimizer._iterations) + 1)

        @wraps(apply)
        def overheard(*arguments: Any, **named: Any) -> Any:
            updates = not next(counted) % every  # else gradients are gathered
            if updates:
                stands_for.before_step()
            result = apply(*arguments, **named)
            if updates:
                stands_for.after_step()
                self.session_.updated()
            return result

        self._put_in_place(optimizer, "apply", overheard)

    def _put_in_place(self, owner: Any, name: str, function: Callable[..., Any]) -> None:
        object.__setattr__(owner, name, function)
        self._undo.append(lambda: object.__delattr__(owner, name))

    def _let_go(self) -> None:
        for step in self._undo:
            step()
        self._undo = []


def _groups(model: Any) -> list[dict[str, Any]]:
    """torch's param_groups of a Keras optimizer: all trainable weights, one rate."""
    optimizer = model.optimizer
    weights = [variable.value for variable in model.trainable_variables]
    decay = getattr(optimizer, "weight_decay", None) or 0.0
    return [{"params": weights, "lr": float(optimizer.learning_rate), "weight_decay": decay}]


def _tensor(value: Any) -> Tensor | None:
    return value if isinstance(value, Tensor) else None
