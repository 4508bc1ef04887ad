"""Leaves of the loss's graph that no optimizer holds: hidden layers are found, teachers are not."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from thalweg.diagnosis import diagnose
from thalweg.observe import watch
from thalweg.record.quantities import INSTRUMENT_FAILED

NAME = "unregistered-weights"


class Net(nn.Module):
    """A first layer and a head, between which `middle` puts what a test asks for."""

    def __init__(self, middle=None, **attributes):
        super().__init__()
        self.first, self.head = nn.Linear(6, 12), nn.Linear(12, 3)
        for name, value in attributes.items():
            setattr(self, name, value)
        self._middle = middle

    def forward(self, inputs):
        hidden = self.first(inputs).tanh()
        return self.head(hidden if self._middle is None else self._middle(self, hidden))


def layer():
    return nn.Linear(12, 12)


def frozen_teacher():
    return nn.Linear(6, 3).requires_grad_(False)


def run(model, *, loss_fn=F.cross_entropy, weights=None, watched=None, inputs_need_grad=False):
    torch.manual_seed(0)
    inputs = torch.randn(32, 6).requires_grad_(inputs_need_grad)
    targets = inputs[:, :3].argmax(1)
    optimizer = torch.optim.SGD(weights or model.parameters(), lr=0.1)
    watcher = watch(watched or model, optimizer, diagnose=diagnose)
    for _ in range(8):
        loss = loss_fn(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
    diagnosis = watcher.diagnose()
    failures = watcher.history.by_place(INSTRUMENT_FAILED)
    assert not [reason for reason in failures if reason.startswith("graph_leaves")]
    return next((f for f in diagnosis.findings if f.rule == NAME), None)


def in_a_list():
    return Net(lambda net, x: net.extra[1](net.extra[0](x)), extra=[layer(), layer()])


def in_a_dictionary():
    return Net(lambda net, x: net.extra["a"](x), extra={"a": layer()})


def bare_tensor():
    return Net(lambda net, x: x @ net.matrix, matrix=torch.randn(12, 12, requires_grad=True))


def made_in_forward():
    return Net(lambda net, x: layer()(x))


def convolutions_in_a_tuple():
    class Conv(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = ((nn.Conv1d(1, 4, 3, padding=1), nn.Conv1d(4, 8, 3, padding=1)),)
            self.head = nn.Linear(8, 3)

        def forward(self, inputs):
            x = inputs[:, None]
            for block in self.blocks[0]:
                x = block(x).relu()
            return self.head(x.mean(2))

    return Conv()


@pytest.mark.parametrize(
    ("build", "where"),
    [
        (in_a_list, "extra[0].bias"),
        (in_a_dictionary, "extra['a'].bias"),
        (bare_tensor, "matrix"),
        (made_in_forward, "12"),
        (convolutions_in_a_tuple, "blocks[0][0].bias"),
    ],
)
def test_a_weight_that_is_not_registered_is_named(build, where):
    finding = run(build())
    assert finding is not None
    assert finding.severity == "error"
    assert finding.where == where


def test_a_loss_with_weights_of_its_own_that_nobody_trains_is_named():
    proxies = nn.Linear(3, 3)
    finding = run(Net(), loss_fn=lambda out, y: F.cross_entropy(proxies(out), y))
    assert finding is not None  # nine entries are too few to tell if they were trained
    wide = nn.Linear(3, 64)
    finding = run(Net(), loss_fn=lambda out, y: F.cross_entropy(wide(out), y))
    assert finding is not None
    assert finding.severity == "warning"


def registered():
    return Net(
        lambda net, x: net.extra[1](net.extra[0](x)), extra=nn.ModuleList([layer(), layer()])
    )


def with_a_frozen_list():
    return Net(lambda net, x: net.extra[0](x), extra=[layer().requires_grad_(False)])


def checkpointed():
    return Net(lambda net, x: checkpoint(net.inner, x, use_reentrant=False), inner=layer())


def reentrant():
    return Net(lambda net, x: checkpoint(net.inner, x, use_reentrant=True), inner=layer())


def parametrized():
    return nn.utils.parametrizations.weight_norm(nn.Linear(6, 3))


@pytest.mark.parametrize(
    "build", [registered, with_a_frozen_list, checkpointed, reentrant, parametrized]
)
def test_sound_models_have_no_finding(build):
    assert run(build()) is None


def test_points_of_a_physics_loss_are_no_weights():
    """Coordinates ask for gradient, are the same in each step, and the model may keep them."""
    model: Any = Net()
    model.points = torch.randn(32, 6, requires_grad=True)
    targets = torch.zeros(32, 3)

    def residual(output, _):
        slopes = torch.autograd.grad(model(model.points).sum(), model.points, create_graph=True)[0]
        return F.mse_loss(output, targets) + slopes.square().mean()

    assert run(model, loss_fn=residual, inputs_need_grad=True) is None


def test_a_critic_with_its_own_optimizer_is_no_fault():
    critic = nn.Linear(3, 64)
    optimizer = torch.optim.Adam(critic.parameters())
    assert run(Net(), loss_fn=lambda out, y: critic(out).mean()) is None
    assert len(optimizer.param_groups) == 1


def test_a_frozen_teacher_is_no_fault():
    teacher = frozen_teacher()
    inputs = torch.randn(32, 6)
    assert run(Net(), loss_fn=lambda out, y: F.mse_loss(out, teacher(inputs))) is None


def test_the_watched_part_of_a_model_is_judged_with_what_the_optimizer_holds():
    model = registered()
    assert run(model, watched=model.first) is None


def test_weights_that_are_given_to_the_optimizer_by_hand_are_no_fault():
    model = in_a_list()
    extra = [w for one in model.extra for w in one.parameters()]
    assert run(model, weights=[*model.parameters(), *extra]) is None
