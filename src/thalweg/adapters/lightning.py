"""A callback for Lightning: `Trainer(callbacks=[DiagnoseCallback()])`."""

from functools import partial
from inspect import ismethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from thalweg.adapters.callback_watcher import CallbackWatcher, Sink, guarded, library_missing
from thalweg.adapters.traceless_batches import traceless_batches
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

    `sink` receives the page (None: nothing is printed); `diagnosis` keeps it. With `read_data`, the
    first batches of both loaders are read as well, without a trace. Further options, all optional,
    go to `thalweg.watch`: task, num_classes, loss_fn, train, val.
    """

    def __init__(
        self, *, sink: Sink | None = print, read_data: bool = True, **options: Any
    ) -> None:
        self.watcher_ = CallbackWatcher(sink=sink, options=options)
        self._read_data = read_data
        self._handles: list[RemovableHandle] = []  # until the first forward pass
        self._wrapper: nn.Module | None = None  # its forward is the training step, not the model's
        self._steps = 0

    @property
    def diagnosis(self) -> Diagnosis | None:
        """The diagnosis of the last fit; None before its end."""
        return self.watcher_.diagnosis

    @guarded
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Wait for the first forward pass: it shows which module the training step calls."""
        self._remove_hooks()
        self.watcher_.abandon()
        self._steps, self._wrapper = trainer.global_step, None
        for module in _nested(pl_module):
            hook = partial(self._before_forward, trainer)
            self._handles.append(module.register_forward_pre_hook(hook))

    @guarded
    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Tensor) -> None:
        """Record the loss: divided by the batches of an update, and scaled for half precision.

        Lightning divides even where it is by one.
        """
        if self._handles:  # the training step calls none of the modules
            self._begin(trainer, pl_module)
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        divided = pl_module.automatic_optimization
        times = trainer.accumulate_grad_batches if divided else 1
        mark_rescaled(loss, operations=int(divided) + int(scaler is not None))
        scale = 1 if scaler is None else scaler.scale(torch.ones_like(loss))
        changed = times != 1 or scaler is not None
        self.watcher_.record_loss(loss, value=loss.detach() * times / scale if changed else None)

    @guarded
    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any, **__: Any) -> None:
        """Record an update where the count of steps has risen."""
        if trainer.global_step != self._steps:
            self._steps = trainer.global_step
            self.watcher_.record_update(summed=not pl_module.automatic_optimization)

    @guarded
    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Record the scores that validation logged, by name."""
        if not trainer.sanity_checking:
            self.watcher_.log(trainer.callback_metrics)

    @guarded
    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Diagnose."""
        self._remove_hooks()
        self.watcher_.end(prints=trainer.is_global_zero)

    @guarded
    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Diagnose a run that failed as far as it came."""
        self.on_train_end(trainer, pl_module)

    @guarded
    def _before_forward(self, trainer: Any, module: nn.Module, *_: object) -> None:
        if not ismethod(module.forward):  # a strategy calls the training step in its place
            self._wrapper = module
        elif module is not self._wrapper:
            self._begin(trainer, module)

    def _begin(self, trainer: Any, module: nn.Module) -> None:
        self._remove_hooks()
        train, val = trainer.train_dataloader, _only(trainer.val_dataloaders)
        self.watcher_.begin(
            module,
            trainer.optimizers,
            train=traceless_batches(train) if self._read_data else None,
            val=traceless_batches(val) if self._read_data else None,
        )

    def _remove_hooks(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_handles": [], "_wrapper": None}


def _nested(module: nn.Module) -> list[nn.Module]:
    """The module, the child that holds all of its weights, that one's child, and so on."""
    chain = [module]
    while True:
        count = sum(1 for _ in module.parameters())
        children = [c for c in module.children() if sum(1 for _ in c.parameters()) == count]
        if not count or len(children) != 1:
            return chain
        module = children[0]
        chain.append(module)


def _only(loaders: Any) -> Any:
    several = isinstance(loaders, list | tuple)
    return loaders[0] if several and len(loaders) == 1 else loaders
