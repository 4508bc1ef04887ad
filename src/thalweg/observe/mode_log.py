"""Count the updates that each module spends in eval mode: its flag is read at every step.

A reading sees one step in twenty; `eval()` half-way through an epoch is seen only by counting.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.observe.forward_pass import depends_on_mode
from thalweg.record import History
from thalweg.record.quantities import EVAL_SHARE, INITIAL_STATISTICS, TRAINED_BESIDE


class ModeLog:
    """The flags of the model and of its modules that behave differently in eval mode.

    Cost: one attribute a module at each step, some ten nanoseconds.
    """

    def __init__(self, model: nn.Module, optimizers: tuple[Any, ...]) -> None:
        self._model, self._optimizers = model, optimizers
        self._names: list[str] = []
        self._modules: list[nn.Module] = []
        self._flags: list[bool] = []
        self._unchanged = 0  # updates since a flag changed
        self._updates = 0
        self._in_eval: Counter[str] = Counter()
        self.refresh()

    def refresh(self) -> None:
        """Look for the modules again: one may have been replaced."""
        self._count()
        named = [("", self._model), *mode_dependent_modules(self._model)]
        self._names = [name for name, _ in named]
        self._modules = [module for _, module in named]
        self._flags = [module.training for module in self._modules]

    def record(self) -> None:
        """Count one update."""
        flags = [module.training for module in self._modules]
        if flags != self._flags:
            self._count()
            self._flags = flags
        self._unchanged += 1

    def write(self, history: History, step: int) -> None:
        """Record each module's share of updates in eval mode, and the weights beside it."""
        self._count()
        depends = len(self._modules) > 1 or drops_by_hand(self._model)
        if not depends or not self._updates:
            return
        shares = {name: self._in_eval[name] / self._updates for name in self._names}
        history.add(EVAL_SHARE, step, shares)
        trained = trained_weights(self._optimizers)
        beside = {
            name: float(any(id(w) in trained for w in weights_beside(self._model, name)))
            for name in self._names[1:]
        }
        history.add(TRAINED_BESIDE, step, beside)
        history.add(INITIAL_STATISTICS, step, self._initial_statistics())

    def _initial_statistics(self) -> dict[str, float]:
        """1 for each batch norm that normalises nothing; waits for the device once."""
        named = zip(self._names, self._modules, strict=True)
        flags = {
            name: initial for name, m in named if (initial := has_initial_statistics(m)) is not None
        }
        return (
            dict(zip(flags, torch.stack(list(flags.values())).tolist(), strict=True))
            if flags
            else {}
        )

    def _count(self) -> None:
        for name, training in zip(self._names, self._flags, strict=True):
            if not training:
                self._in_eval[name] += self._unchanged
        self._updates += self._unchanged
        self._unchanged = 0


def mode_dependent_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules, but the model itself, for which train and eval mode differ."""
    for name, module in model.named_modules():
        if name and (depends_on_mode(module) or drops_by_hand(module)):
            yield name, module


def drops_by_hand(module: nn.Module) -> bool:
    """True if a module's own forward calls dropout or batch_norm and reads `self.training`."""
    kind = type(module)
    if kind.__module__.startswith("torch."):
        return False
    code = getattr(kind.forward, "__code__", None)
    names = () if code is None else code.co_names
    if "training" not in names:
        return False
    shares = [v for n, v in vars(module).items() if "drop" in n and isinstance(v, float)]
    drops = any("drop" in name for name in names) and (not shares or max(shares) > 0)
    return drops or "batch_norm" in names


def has_initial_statistics(module: nn.Module) -> Tensor | None:
    """1 if a batch norm's mean is still 0 and its variance 1; None for other modules."""
    if not isinstance(module, nn.modules.batchnorm._BatchNorm):
        return None
    mean, variance = module.running_mean, module.running_var
    if not isinstance(mean, Tensor) or not isinstance(variance, Tensor):
        return None
    return ((mean == 0).all() & (variance == 1).all()).float().cpu()


def trained_weights(optimizers: Iterable[Any]) -> set[int]:
    """The ids of the tensors that an optimizer holds and that ask for gradient."""
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    return {id(w) for group in groups for w in group["params"] if w.requires_grad}


def weights_beside(model: nn.Module, name: str) -> list[nn.Parameter]:
    """The weights of a module, or of the nearest one around it that has any of its own."""
    while name:
        weights = list(model.get_submodule(name).parameters())
        if weights:
            return weights
        name = name.rpartition(".")[0]
    return list(model.parameters())
