"""The callback in real fits of skorch."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from adapters.digits import (
    BATCH,
    EPOCHS,
    RULE_OF,
    assert_found,
    assert_sound,
    library,
    lr_of,
    network,
    same_weights,
    splits,
    train_set,
)
from torch import nn

skorch: Any = library("skorch", "skorch")
from sklearn.base import clone  # noqa: E402
from skorch.callbacks import GradientNormClipping, LRScheduler  # noqa: E402

from thalweg.adapters.skorch import DiagnoseCallback  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # the library's own advice


class Network(nn.Module):
    def __init__(self, fault=""):
        super().__init__()
        self.net = network(fault)

    def forward(self, inputs):
        return self.net(inputs)


class NeverCleared(skorch.NeuralNetClassifier):
    def _zero_grad_optimizer(self, *_, **__):
        pass


class Accumulating(skorch.NeuralNetClassifier):
    """Gradient accumulation as skorch's documentation has it."""

    def get_loss(self, *arguments, **named):
        return super().get_loss(*arguments, **named) / 4

    def train_step(self, batch, **named):
        number = len(self.history[-1, "batches"])
        step = self.train_step_single(batch, **named)
        if number % 4 == 0:
            self.optimizer_.step()
            self.optimizer_.zero_grad()
        return step


def net(fault="", callback=None, kind=skorch.NeuralNetClassifier, **options):
    settings = {
        "criterion": nn.CrossEntropyLoss,
        "optimizer": torch.optim.Adam,
        "lr": lr_of(fault),
        "max_epochs": EPOCHS,
        "batch_size": BATCH,
        "iterator_train__shuffle": fault != "unshuffled",
        "module__fault": fault,
        "callbacks": [callback] if callback else [],
        "verbose": 0,
    } | options
    torch.manual_seed(1)
    return kind(Network, **settings)


def data(fault=""):
    inputs, targets = train_set(by_class=fault == "unshuffled").tensors
    return inputs.numpy(), targets.numpy()


def diagnosed(fault="", **options):
    callback = DiagnoseCallback(sink=None)
    net(fault, callback, **options).fit(*data(fault))
    return callback.diagnosis


def test_a_sound_fit_raises_no_alarm():
    assert_sound(diagnosed())


def test_probabilities_under_skorchs_own_criterion_are_sound():
    softmax = nn.Sequential(network(), nn.Softmax(dim=1))
    callback = DiagnoseCallback(sink=None)
    torch.manual_seed(1)
    sound = skorch.NeuralNetClassifier(
        softmax,
        optimizer=torch.optim.Adam,
        lr=lr_of(""),
        max_epochs=EPOCHS,
        batch_size=BATCH,
        iterator_train__shuffle=True,
        callbacks=[callback],
        verbose=0,
    )
    sound.fit(*data())
    assert_sound(callback.diagnosis)


@pytest.mark.parametrize(
    "fault", [name for name in RULE_OF if name not in ("unheld", "no-zero-grad")]
)
def test_a_planted_fault_is_named(fault):
    assert_found(diagnosed(fault), RULE_OF[fault])


def test_gradients_that_are_never_cleared_are_named():
    assert_found(diagnosed(kind=NeverCleared), "missing-zero-grad")


def test_weights_that_nobody_trains_are_named():
    class HalfHeld(skorch.NeuralNetClassifier):
        def initialize_optimizer(self, *_, **__):
            with self._current_init_context("optimizer"):
                first = self.module_.net[0].parameters()
                self.optimizer_ = torch.optim.Adam(first, lr=self.lr)
            return self

    assert_found(diagnosed(kind=HalfHeld), "weights-not-in-optimizer")


def test_weights_are_those_of_an_unwatched_fit():
    nets = [net(), net(callback=DiagnoseCallback(sink=None))]
    for one in nets:
        torch.manual_seed(2)
        one.fit(*data())
    assert same_weights(nets[0].module_, nets[1].module_)


def test_accumulated_gradients_are_no_alarm_and_count_as_one_update():
    callback = DiagnoseCallback(sink=None)
    net(callback=callback, kind=Accumulating, max_epochs=20).fit(*data())
    assert_sound(callback.diagnosis)


def test_schedules_clipping_and_regression_are_no_alarm():
    inputs, *_ = splits()
    targets = inputs @ torch.linspace(-0.3, 0.3, 64)[:, None] + 0.05 * torch.randn(
        len(inputs), 1, generator=torch.Generator().manual_seed(0)
    )
    callback = DiagnoseCallback(sink=None)
    torch.manual_seed(0)
    regressor = skorch.NeuralNetRegressor(
        nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1)),
        optimizer=torch.optim.Adam,
        lr=3e-3,
        max_epochs=12,
        batch_size=BATCH,
        iterator_train__shuffle=True,
        callbacks=[callback, LRScheduler("StepLR", step_size=8), GradientNormClipping(5.0)],
        verbose=0,
    )
    regressor.fit(inputs.numpy(), targets.numpy())
    assert_sound(callback.diagnosis, least=20)


def test_nets_with_the_callback_can_be_cloned_copied_and_pickled():
    callback = DiagnoseCallback(sink=None)
    fitted = net(callback=callback, max_epochs=2).fit(*data())
    copied = pickle.loads(pickle.dumps(copy.deepcopy(fitted)))
    assert same_weights(copied.module_, fitted.module_)
    assert str(copied.callbacks[0].diagnosis) == str(callback.diagnosis)
    again = clone(fitted)
    again.fit(*data())
    assert again.callbacks[0].diagnosis is not None
    assert again.callbacks[0] is not callback


class Keep(skorch.callbacks.Callback):
    def on_batch_end(self, net, **_):
        self.written_ = len(pickle.dumps(net.callbacks))


def test_a_net_may_be_written_to_a_file_while_it_is_watched():
    callback = DiagnoseCallback(sink=None)
    net(callbacks=[callback, Keep()], max_epochs=1, batch_size=256).fit(*data())
    assert callback.diagnosis is not None


def test_the_page_is_printed_unless_told_otherwise(capsys):
    net("lr", DiagnoseCallback(), max_epochs=2).fit(*data("lr"))
    assert "Diagnosis: learning-rate-too-high" in capsys.readouterr().out


def test_what_is_logged_is_the_history_of_the_net():
    callback = DiagnoseCallback(sink=None)
    fitted = net(callback=callback).fit(*data())
    assert len(fitted.history) == EPOCHS
    assert "metric-disagrees-with-loss" in callback.diagnosis.passed
    assert np.isfinite(fitted.history[:, "valid_loss"]).all()
