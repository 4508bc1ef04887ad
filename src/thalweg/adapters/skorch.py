"""A callback for skorch: `NeuralNetClassifier(Net, callbacks=[DiagnoseCallback()])`."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from thalweg.adapters.session import Session, Sink, guarded, library_missing
from thalweg.adapters.traceless import traceless
from thalweg.diagnosis import Diagnosis
from thalweg.observe.data_sample import inputs_and_targets

try:
    from skorch.callbacks import Callback
except ModuleNotFoundError as error:
    raise library_missing("skorch", error) from error


class DiagnoseCallback(Callback):
    """Watches a fit and diagnoses it at its end.

    `sink` is given the page (None: nothing is printed); `diagnosis` keeps it. With `read_data`, the
    first batches of both splits are looked at as well, without a trace. What only you can tell:
    task, num_classes, loss_fn.
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
        self.session_ = Session(sink=None, about={})
        self.handles_: list[RemovableHandle] = []
        self.begun_ = self.stepped_ = False

    @property
    def diagnosis(self) -> Diagnosis | None:
        """Of the last fit; None before its end."""
        return self.session_.diagnosis

    @guarded
    def on_train_begin(self, net: Any, *_: Any, **__: Any) -> None:
        """A new fit; its splits are not known yet."""
        self._let_go()
        about = {"task": self.task, "num_classes": self.num_classes, "loss_fn": self.loss_fn}
        self.session_ = Session(sink=self.sink, about=about)
        self.begun_ = False

    @guarded
    def on_epoch_begin(
        self, net: Any, dataset_train: Any = None, dataset_valid: Any = None, **_: Any
    ) -> None:
        """Begin to watch with the first epoch."""
        if self.begun_:
            return
        self.begun_ = True
        optimizers = _optimizers(net)
        self.handles_ = [o.register_step_post_hook(self._note_step) for o in optimizers]
        self.session_.begin(
            _model(net),
            optimizers,
            train=self._batches(net, dataset_train, training=True),
            val=self._batches(net, dataset_valid, training=False),
        )

    @guarded
    def on_batch_end(
        self, net: Any, batch: Any = None, training: bool | None = None, **step: Any
    ) -> None:
        """The loss; an update was made unless the net accumulates gradients."""
        loss = step.get("loss")
        if not training or not isinstance(loss, Tensor):
            return
        inputs, targets = inputs_and_targets(batch)
        self.session_.loss(loss, batch=(inputs, targets))
        if self.stepped_:
            self.stepped_ = False
            self.session_.updated(summed=True)

    @guarded
    def on_epoch_end(self, net: Any, **_: Any) -> None:
        """The row of the net's history, by name."""
        self.session_.log(dict(net.history[-1]))

    @guarded
    def on_train_end(self, net: Any, *_: Any, **__: Any) -> None:
        """Diagnose."""
        self._let_go()
        self.session_.end()

    def _batches(self, net: Any, dataset: Any, *, training: bool) -> Any:
        if dataset is None or not self.read_data:
            return None
        return traceless(net.get_iterator(dataset, training=training))

    def _note_step(self, *_: object) -> None:
        self.stepped_ = True

    def _let_go(self) -> None:
        for handle in self.handles_:
            handle.remove()
        self.handles_ = []

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"handles_": []}


def _model(net: Any) -> nn.Module:
    """What the net calls; all of its modules in one, where several hold weights."""
    named = {name: getattr(net, f"{name}_") for name in (*net._modules, *net._criteria)}
    with_weights = {n: m for n, m in named.items() if any(True for _ in m.parameters())}
    if len(with_weights) == 1:
        return next(iter(with_weights.values()))
    return nn.ModuleDict(with_weights)


def _optimizers(net: Any) -> list[Optimizer]:
    return [getattr(net, f"{name}_") for name in net._optimizers]
