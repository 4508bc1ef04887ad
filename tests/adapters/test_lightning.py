"""The callback in real fits of Lightning."""

import os
import pickle
from typing import Any

import pytest
import torch
from adapters.digits import (
    EPOCHS,
    RULE_OF,
    Jittered,
    assert_found,
    assert_sound,
    assert_unscaled,
    gradients_of,
    library,
    loaders,
    lr_of,
    network,
    noting,
    same_weights,
)
from torch.nn import functional as F

L: Any = library("lightning.pytorch", "lightning")
from lightning.pytorch.plugins.precision import MixedPrecision  # noqa: E402

from thalweg.adapters.lightning import DiagnoseCallback  # noqa: E402
from thalweg.record.quantities import LOSS, VAL_ACCURACY, VAL_LOSS  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # the library's own advice


class Classifier(L.LightningModule):
    def __init__(self, fault=""):
        super().__init__()
        self.net, self.fault = network(fault), fault

    def forward(self, inputs):
        return self.net(inputs)

    def training_step(self, batch, _):
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, _):
        logits = self(batch[0])
        self.log("val_loss", F.cross_entropy(logits, batch[1]))
        self.log("val/acc", (logits.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        held = self.net[0] if self.fault == "unheld" else self
        return torch.optim.Adam(held.parameters(), lr=lr_of(self.fault))

    def optimizer_zero_grad(self, *arguments):
        if self.fault != "no-zero-grad":
            super().optimizer_zero_grad(*arguments)


class CallsNetDirectly(Classifier):
    def training_step(self, batch, _):
        return {"loss": F.cross_entropy(self.net(batch[0]), batch[1])}


def fit(module, callback=None, dataset=None, **options):
    torch.manual_seed(1)
    train, val = loaders(module.fault, dataset)
    settings = {"max_epochs": EPOCHS, "accelerator": "cpu", "logger": False} | options
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(
        callbacks=[callback] if callback else [],
        enable_model_summary=False,
        **settings,
        **quiet,
    )
    trainer.fit(module, train, val)
    return trainer


def diagnosed(module, **options):
    callback = DiagnoseCallback(sink=None)
    fit(module, callback, **options)
    return callback.diagnosis


@pytest.mark.parametrize("kind", [Classifier, CallsNetDirectly])
def test_a_sound_fit_raises_no_alarm(kind):
    assert_sound(diagnosed(kind()))


@pytest.mark.parametrize("fault", RULE_OF)
def test_a_planted_fault_is_named(fault):
    assert_found(diagnosed(Classifier(fault)), RULE_OF[fault])


def test_a_summed_loss_is_told_from_one_that_was_divided():
    class Summed(Classifier):
        def training_step(self, batch, _):
            return F.cross_entropy(self(batch[0]), batch[1], reduction="sum")

    found = {finding.rule for finding in diagnosed(Summed()).findings}
    assert "loss-summed-over-batch" in found


@pytest.mark.parametrize(
    "options", [{}, {"accumulate_grad_batches": 4}, {"precision": "bf16-mixed"}], ids=str
)
def test_weights_are_those_of_an_unwatched_fit(options):
    modules = [Classifier(), Classifier()]
    for module, callback in zip(modules, (None, DiagnoseCallback(sink=None)), strict=True):
        fit(module, callback, Jittered(), **options)
    assert same_weights(*modules)


def test_the_loss_of_an_update_is_that_of_all_its_batches():
    losses = []

    class Noting(Classifier):
        def training_step(self, batch, _):
            loss = super().training_step(batch, _)
            losses.append(loss.item())
            return loss

    callback, watched = noting(DiagnoseCallback(sink=None))
    fit(Noting(), callback, accumulate_grad_batches=3, max_epochs=2)
    history = watched[0]
    means = torch.tensor(losses).reshape(2, 15, 3).mean(2).flatten()
    assert list(history.series(LOSS)) == list(range(30))
    torch.testing.assert_close(torch.tensor(list(history.series(LOSS).values())), means)
    assert len(history.series(VAL_LOSS)) == len(history.series(VAL_ACCURACY)) == 2


@pytest.mark.parametrize(
    "options",
    [{"accumulate_grad_batches": 4, "max_epochs": 20}, {"precision": "bf16-mixed"}],
    ids=["accumulated", "mixed"],
)
def test_neither_accumulation_nor_mixed_precision_is_an_alarm(options):
    assert_sound(diagnosed(Classifier(), **options))


def half_precision():
    """As on a GPU, with a scale that is too large at first."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**34)
    return [MixedPrecision("16-mixed", device="cpu", scaler=scaler)]


def test_a_scaler_is_no_alarm_and_gradients_are_seen_without_it():
    fits = {}
    for name, plugins in {"plain": None, "scaled": half_precision()}.items():
        callback, histories = noting(DiagnoseCallback(sink=None))
        fit(Classifier(), callback, plugins=plugins)
        (fits[name],) = histories
        assert_sound(callback.diagnosis)
    assert_unscaled(fits["scaled"], fits["plain"])
    assert not any(0 in series for series in gradients_of(fits["scaled"]).values())  # skipped


def test_two_optimizers_in_a_loop_of_ones_own():
    class Two(Classifier):
        automatic_optimization = False

        def training_step(self, batch, _):
            loss = F.cross_entropy(self(batch[0]), batch[1])
            for optimizer in self.optimizers():
                optimizer.zero_grad()
            self.manual_backward(loss)
            for optimizer in self.optimizers():
                optimizer.step()

        def configure_optimizers(self):
            parts = self.net[0], self.net[3]
            return [torch.optim.Adam(part.parameters(), lr=2e-3) for part in parts]

    assert_sound(diagnosed(Two()), least=20)


@pytest.fixture
def own_rank():
    """Lightning leaves its process group and its rank behind, and other libraries then use DDP."""
    before = dict(os.environ)
    yield
    torch.distributed.destroy_process_group()
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.usefixtures("own_rank")
def test_the_strategy_that_calls_the_training_step_through_forward():
    assert_sound(diagnosed(Classifier(), strategy="ddp", devices=1))


def test_an_exception_ends_in_a_diagnosis_and_reaches_the_user():
    class Dies(Classifier):
        def training_step(self, batch, index):
            if self.global_step == 250:
                raise RuntimeError("the disk is full")
            return super().training_step(batch, index)

    pages = []
    callback = DiagnoseCallback(sink=pages.append)
    with pytest.raises(RuntimeError, match="the disk is full"):
        fit(Dies(), callback)
    assert pages == [str(callback.diagnosis)]
    assert_sound(callback.diagnosis)


def test_what_breaks_inside_does_not_reach_the_user(caplog):
    callback = DiagnoseCallback(sink=None, task=object(), nonsense=3)
    module = Classifier()
    fit(module, callback, max_epochs=1)
    plain = Classifier()
    fit(plain, max_epochs=1)
    assert same_weights(module, plain)
    assert callback.diagnosis is None
    assert "nonsense" in caplog.text


def test_the_page_is_printed_unless_told_otherwise(capsys):
    callback = DiagnoseCallback()
    fit(Classifier("lr"), callback, max_epochs=2)
    assert "Diagnosis: learning-rate-too-high" in capsys.readouterr().out


def test_a_callback_can_be_used_twice_and_pickled():
    callback = DiagnoseCallback(sink=None)
    fit(Classifier("lr"), callback, max_epochs=2)
    fit(Classifier(), callback)
    assert_sound(pickle.loads(pickle.dumps(callback)).diagnosis)
