"""A callback for skorch: `NeuralNetClassifier(Net, callbacks=[DiagnoseCallback()])`."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from thalweg.adapters.callback_watcher import CallbackWatcher, Sink, guarded, library_missing
from thalweg.adapters.traceless_batches import traceless_batches
from thalweg.diagnosis import Diagnosis
from thalweg.observe.data_sample import inputs_and_targets

try:
    from skorch.callbacks import Callback
except ModuleNotFoundError as error:
    raise library_missing("skorch", error) from error


class DiagnoseCallback(Callback):
    """Watches a fit and diagnoses it at its end.

    `sink` receives the page (None: nothing is printed); `diagnosis` keeps it. With `read_data`, the
    first batches of both splits are read as well, without a trace. `task`, `num_classes` and
    `loss_fn` are optional, and go to `thalweg.watch`.
    """

    def __init__(
        self,
        *,
        sink: Sink | None = print,
        read_data: bool = True,
        task: str | None = None,
        num_classes: int | None = None,
        loss_fn: Callable[..., Any] | None = None,
    ) -> None:
        self.sink, self.read_data = sink, read_data
        self.task, self.num_classes, self.loss_fn = task, num_classes, loss_fn
        # An attribute without the underscore would be a parameter, as in scikit-learn.
        self.watcher_ = CallbackWatcher(sink=None, options={})
        self.handles_: list[RemovableHandle] = []
        self.watching_ = self.has_stepped_ = False

    @property
    def diagnosis(self) -> Diagnosis | None:
        """The diagnosis of the last fit; None before its end."""
        return self.watcher_.diagnosis

    @guarded
    def on_train_begin(self, net: Any, *_: Any, **__: Any) -> None:
        """Prepare for a new fit, whose splits are not known yet."""
        self._remove_hooks()
        options = {"task": self.task, "num_classes": self.num_classes, "loss_fn": self.loss_fn}
        self.watcher_ = CallbackWatcher(sink=self.sink, options=options)
        self.watching_ = False

    @guarded
    def on_epoch_begin(
        self, net: Any, dataset_train: Any = None, dataset_valid: Any = None, **_: Any
    ) -> None:
        """Start to watch in the first epoch."""
        if self.watching_:
            return
        self.watching_ = True
        optimizers = _optimizers(net)
        self.handles_ = [o.register_step_post_hook(self._note_step) for o in optimizers]
        self.watcher_.begin(
            _model(net),
            optimizers,
            train=self._batches(net, dataset_train, training=True),
            val=self._batches(net, dataset_valid, training=False),
        )

    @guarded
    def on_batch_end(
        self, net: Any, batch: Any = None, training: bool | None = None, **step: Any
    ) -> None:
        """Record the loss, and the update unless the net accumulates gradients."""
        loss = step.get("loss")
        if not training or not isinstance(loss, Tensor):
            return
        inputs, targets = inputs_and_targets(batch)
        self.watcher_.record_loss(loss, batch=(inputs, targets))
        if self.has_stepped_:
            self.has_stepped_ = False
            self.watcher_.record_update(summed=True)

    @guarded
    def on_epoch_end(self, net: Any, **_: Any) -> None:
        """Record the row of the net's history, by name."""
        self.watcher_.log(dict(net.history[-1]))

    @guarded
    def on_train_end(self, net: Any, *_: Any, **__: Any) -> None:
        """Diagnose."""
        self._remove_hooks()
        self.watcher_.end()

    def _batches(self, net: Any, dataset: Any, *, training: bool) -> Any:
        if dataset is None or not self.read_data:
            return None
        return traceless_batches(net.get_iterator(dataset, training=training))

    def _note_step(self, *_: object) -> None:
        self.has_stepped_ = True

    def _remove_hooks(self) -> None:
        for handle in self.handles_:
            handle.remove()
        self.handles_ = []

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"handles_": []}


def _model(net: Any) -> nn.Module:
    """The module that the net calls; all of its modules in one, where several hold weights."""
    named = {name: getattr(net, f"{name}_") for name in (*net._modules, *net._criteria)}
    with_weights = {n: m for n, m in named.items() if any(True for _ in m.parameters())}
    if len(with_weights) == 1:
        return next(iter(with_weights.values()))
    return nn.ModuleDict(with_weights)


def _optimizers(net: Any) -> list[Optimizer]:
    return [getattr(net, f"{name}_") for name in net._optimizers]
