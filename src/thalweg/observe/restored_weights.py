"""Tell if `load_state_dict` was given the model's own weights: nothing is restored then.

`state_dict()` refers to the weights and copies none: kept as the best so far, it follows every
update, and to load it later changes nothing.

A hook on the model would be saved with it. So `nn.Module.load_state_dict` is wrapped while any
model is watched.
"""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any
from weakref import WeakSet

from torch import Tensor, nn

from thalweg.observe.guard import Guard
from thalweg.record.quantities import RESTORED_ITSELF


class RestoredWeights:
    """Looks at what the model loads, from the first update on."""

    def __init__(self, model: nn.Module, guard: Guard) -> None:
        self._model, self._guard, self._first_step = model, guard, guard.step
        _LOADS.listen(self)

    def remove(self) -> None:
        """Look at nothing more."""
        _LOADS.forget(self)

    def note(self, loading: nn.Module, state: Any) -> None:
        """Compare what is loaded into the model, or into a module around it, with its weights."""
        if self._guard.step == self._first_step or not isinstance(state, Mapping):
            return  # before any update nothing is restored
        prefix = next((name for name, one in loading.named_modules() if one is self._model), None)
        if prefix is None:
            return
        start = f"{prefix}." if prefix else ""
        pairs = [(own, state.get(start + name)) for name, own in self._model.named_parameters()]
        tensors = [(own, new) for own, new in pairs if isinstance(new, Tensor) and own.numel()]
        if tensors:
            itself = all(_is_same_memory(own, new) for own, new in tensors)
            step = max(self._first_step, self._guard.step - 1)
            self._guard.history.add(RESTORED_ITSELF, step, {"": float(itself)})

    def report(self, error: Exception) -> None:
        """Record that the comparison failed; the user's loading goes on."""
        self._guard.report_failure("restored weights", error)


class _Loads:
    """The one wrapper around `nn.Module.load_state_dict`, while anybody listens."""

    def __init__(self) -> None:
        self._listeners: WeakSet[RestoredWeights] = WeakSet()
        self._original: Callable[..., Any] | None = None

    def listen(self, listener: RestoredWeights) -> None:
        self._listeners.add(listener)
        if self._original is not None:
            return
        self._original = original = nn.Module.load_state_dict
        listeners = self._listeners

        @wraps(original)
        def load_state_dict(
            self: nn.Module,
            state_dict: Mapping[str, Any],
            strict: bool = True,
            assign: bool = False,
        ) -> Any:
            for one in list(listeners):
                try:
                    one.note(self, state_dict)
                except Exception as error:
                    one.report(error)
            return original(self, state_dict, strict, assign)

        self._wrapper = load_state_dict
        nn.Module.load_state_dict = load_state_dict  # type: ignore[method-assign]

    def forget(self, listener: RestoredWeights) -> None:
        self._listeners.discard(listener)
        if self._original is None or self._listeners:
            return
        if nn.Module.load_state_dict is self._wrapper:  # else somebody wrapped it once more
            nn.Module.load_state_dict = self._original  # type: ignore[method-assign]
            self._original = None


_LOADS = _Loads()


def _is_same_memory(own: Tensor, other: Tensor) -> bool:
    alike = own.shape == other.shape and own.device == other.device
    return alike and own.data_ptr() == other.data_ptr() != 0
