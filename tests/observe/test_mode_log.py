"""The mode of every module is counted at every step, and judged by what is trained beside it."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.diagnosis import diagnose
from thalweg.observe import watch
from thalweg.record.quantities import EVAL_SHARE

STEPS = 40
NAME = "wrong-mode-in-training"


class TwoParts(nn.Module):
    """A body and a head; `train` can leave the body in eval mode."""

    def __init__(self, body, head=None, *, body_trains=True):
        super().__init__()
        self.body = body
        self.head = head or nn.Sequential(nn.Dropout(0.1), nn.LazyLinear(3))
        self.body_trains = body_trains

    def forward(self, inputs):
        return self.head(self.body(inputs))

    def train(self, mode=True):
        super().train(mode)
        if not self.body_trains:
            self.body.eval()
        return self


class DropsByHand(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, inputs):
        return self.head(F.dropout(self.layer(inputs).relu(), 0.3, training=self.training))


class Adapter(nn.Module):
    """A frozen layer with a trained low-rank one beside it, behind a dropout."""

    def __init__(self):
        super().__init__()
        self.base = nn.Linear(8, 16).requires_grad_(False)
        self.lora_dropout = nn.Dropout(0.2)
        self.down, self.up = nn.Linear(8, 2, bias=False), nn.Linear(2, 16, bias=False)

    def forward(self, inputs):
        return self.base(inputs) + self.up(self.down(self.lora_dropout(inputs)))


def dropout_body():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.5))


def norm_body(pretrained=False):
    body = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU())
    if pretrained:
        body[1].running_mean.normal_()  # type: ignore[operator]
    return body


def recurrent_body():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(4, 8, num_layers=2, dropout=0.3, batch_first=True)

        def forward(self, inputs):
            return self.gru(inputs.reshape(-1, 2, 4))[0][:, -1]

    return Last()


def run(model, *, eval_from: Callable[[int], bool] = lambda step: False, late_eval=False):
    """The finding, if any, on a run in which step k is made in eval mode where `eval_from` says."""
    torch.manual_seed(0)
    inputs = torch.randn(64, 8)
    targets = inputs[:, :3].argmax(1)
    model.train()(inputs)  # lazy layers get their shapes
    optimizer = torch.optim.SGD([w for w in model.parameters() if w.requires_grad], lr=0.05)
    watcher = watch(model, optimizer, diagnose=diagnose)
    for step in range(STEPS):
        model.train(not eval_from(step))
        loss = F.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if late_eval:
            model.eval()  # a validation between the update and step()
        watcher.step(loss)
    diagnosis = watcher.diagnose()
    return next((f for f in diagnosis.findings if f.rule == NAME), None), diagnosis, watcher


FAULTY = {
    "dropout of the body": lambda: TwoParts(dropout_body(), body_trains=False),
    "initial statistics": lambda: TwoParts(norm_body(), body_trains=False),
    "recurrent body": lambda: TwoParts(recurrent_body(), body_trains=False),
    "adapter": lambda: TwoParts(Adapter(), body_trains=False),
}


@pytest.mark.parametrize("name", FAULTY)
def test_a_part_left_in_eval_mode_is_found(name):
    finding, _, _ = run(FAULTY[name]())
    assert finding is not None
    assert finding.severity == "warning"
    assert finding.where.startswith("body")


@pytest.mark.parametrize("build", [dropout_body, norm_body, recurrent_body, DropsByHand])
@pytest.mark.parametrize("late", [12, 30])
def test_eval_after_each_validation_is_counted(build, late):
    model = build() if build is DropsByHand else TwoParts(build())
    finding, _, watcher = run(model, eval_from=lambda step: step >= late)
    assert finding is not None
    assert finding.severity == "warning"
    assert watcher.history.last(EVAL_SHARE) == 1 - late / STEPS


SOUND = {
    "everything trains": lambda: TwoParts(dropout_body()),
    "frozen body": lambda: TwoParts(dropout_body().requires_grad_(False), body_trains=False),
    "no dropout at all": lambda: nn.Linear(8, 3),
    "a dropout of zero": lambda: TwoParts(
        nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.0)), body_trains=False
    ),
    "dropout by hand": DropsByHand,
}


@pytest.mark.parametrize("name", SOUND)
def test_sound_modes_pass_or_are_not_checked(name):
    finding, _, _ = run(SOUND[name]())
    assert finding is None


def test_a_frozen_batch_norm_with_pretrained_statistics_is_only_noted():
    finding, _, _ = run(TwoParts(norm_body(pretrained=True), body_trains=False))
    assert finding is not None
    assert finding.severity == "note"


def test_a_validation_between_the_update_and_step_is_no_fault():
    finding, diagnosis, _ = run(TwoParts(dropout_body()), late_eval=True)
    assert finding is None
    assert NAME in diagnosis.passed


def test_a_model_without_such_modules_is_not_checked():
    _, diagnosis, _ = run(nn.Linear(8, 3))
    assert "dropout" in diagnosis.not_checked[NAME]
