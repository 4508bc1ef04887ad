"""A callback for Lightning: `Trainer(callbacks=[DiagnoseCallback()])`."""

from functools import partial
from inspect import ismethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from thalweg.adapters.session import Session, Sink, guarded, library_missing
from thalweg.adapters.traceless import traceless
from thalweg.diagnosis import Diagnosis
from thalweg.observe.loss_graph import mark_rescaled

try:
    from lightning.pytorch.callbacks import Callback
except ModuleNotFoundError:
    try:
        from pytorch_lightning.callbacks import Callback
    except ModuleNotFoundError as error:
        raise library_missing("lightning", error) from error


class DiagnoseCallback(Callback):
    """Watches a fit and diagnoses it at its end, or where an exception ended it.

    `sink` is given the page (None: nothing is printed); `diagnosis` keeps it. With `read_data`, the
    first batches of both loaders are looked at as well, without a trace. What only you can tell,
    each thing optional, goes to `thalweg.watch`: task, num_classes, loss_fn, train, val.
    """

    def __init__(self, *, sink: Sink | None = print, read_data: bool = True, **about: Any) -> None:
        self.session_ = Session(sink=sink, about=about)
        self._read_data = read_data
        self._waiting: list[RemovableHandle] = []
        self._passed_by: nn.Module | None = None  # its forward is not the model's
        self._steps = 0

    @property
    def diagnosis(self) -> Diagnosis | None:
        """Of the last fit; None before its end."""
        return self.session_.diagnosis

    @guarded
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Wait for the first forward pass: it shows which module the training step calls."""
        self._stop_waiting()
        self.session_.abandon()
        self._steps, self._passed_by = trainer.global_step, None
        for module in _nested(pl_module):
            called = partial(self._called, trainer)
            self._waiting.append(module.register_forward_pre_hook(called))

    @guarded
    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Tensor) -> None:
        """The loss with its graph, divided by the batches of an update, scaled for half precision.

        That division is made even where it is by one.
        """
        if self._waiting:  # the training step calls none of the modules
            self._begin(trainer, pl_module)
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        divided = pl_module.automatic_optimization
        times = trainer.accumulate_grad_batches if divided else 1
        mark_rescaled(loss, operations=int(divided) + int(scaler is not None))
        scale = 1 if scaler is None else scaler.scale(torch.ones_like(loss))
        changed = times != 1 or scaler is not None
        self.session_.loss(loss, value=loss.detach() * times / scale if changed else None)

    @guarded
    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any, **__: Any) -> None:
        """An update was made where the count of steps went on."""
        if trainer.global_step != self._steps:
            self._steps = trainer.global_step
            self.session_.updated(summed=not pl_module.automatic_optimization)

    @guarded
    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """What validation logged, by name."""
        if not trainer.sanity_checking:
            self.session_.log(trainer.callback_metrics)

    @guarded
    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Diagnose."""
        self._stop_waiting()
        self.session_.end(tell=trainer.is_global_zero)

    @guarded
    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """A run that died is diagnosed as far as it came."""
        self.on_train_end(trainer, pl_module)

    @guarded
    def _called(self, trainer: Any, module: nn.Module, *_: object) -> None:
        if not ismethod(module.forward):  # a strategy calls the training step in its place
            self._passed_by = module
        elif module is not self._passed_by:
            self._begin(trainer, module)

    def _begin(self, trainer: Any, module: nn.Module) -> None:
        self._stop_waiting()
        train, val = trainer.train_dataloader, _only(trainer.val_dataloaders)
        self.session_.begin(
            module,
            trainer.optimizers,
            train=traceless(train) if self._read_data else None,
            val=traceless(val) if self._read_data else None,
        )

    def _stop_waiting(self) -> None:
        for handle in self._waiting:
            handle.remove()
        self._waiting = []

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_waiting": [], "_passed_by": None}


def _nested(module: nn.Module) -> list[nn.Module]:
    """The module, the child that holds all of its weights, that one's child, and so on."""
    chain = [module]
    while True:
        whole = sum(1 for _ in module.parameters())
        own = [c for c in module.children() if sum(1 for _ in c.parameters()) == whole]
        if not whole or len(own) != 1:
            return chain
        module = own[0]
        chain.append(module)


def _only(loaders: Any) -> Any:
    several = isinstance(loaders, list | tuple)
    return loaders[0] if several and len(loaders) == 1 else loaders
