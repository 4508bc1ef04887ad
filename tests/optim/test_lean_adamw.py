"""Our AdamW makes PyTorch's updates, whichever way it makes them."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn

from thalweg.optim.adam import adamw


def networks():
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3), nn.LayerNorm(3))
    theirs = deepcopy(ours)
    optimizer = adamw(ours.named_parameters(), lr=0.05, weight_decay=0.3, momentum=0.8, beta2=0.9)
    matrices = [w for w in theirs.parameters() if w.ndim > 1]
    others = [w for w in theirs.parameters() if w.ndim < 2]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
    oracle = torch.optim.AdamW(groups, lr=0.05, weight_decay=0.3, betas=(0.8, 0.9), fused=True)
    return (ours, optimizer), (theirs, oracle)


def update(model, optimizer, step, *, frozen=False, lr=None):
    inputs = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
    model[0].requires_grad_(not frozen)
    optimizer.zero_grad()
    model(inputs).square().sum().backward()
    for group in optimizer.param_groups:
        group["lr"] = group["lr"] if lr is None else lr
    optimizer.step()


def assert_same(ours, theirs):
    for own, other in zip(ours[0].parameters(), theirs[0].parameters(), strict=True):
        assert torch.equal(own, other)
    states = [list(one.state_dict()["state"].values()) for _, one in (ours, theirs)]
    torch.testing.assert_close(*states, rtol=0, atol=0)


@pytest.mark.parametrize(
    "changes",
    [{}, {"frozen": True}, {"lr": 0.01}, {"lr": torch.tensor(0.01)}],
    ids=["usual", "a layer without gradient", "another rate", "a tensor as rate"],
)
def test_every_number_is_pytorchs(changes):
    pairs = networks()
    for step in range(6):
        for model, optimizer in pairs:
            update(model, optimizer, step, **(changes if 2 <= step < 4 else {}))
        assert_same(*pairs)


def test_a_restored_state_goes_on():
    first, second = networks()
    for step in range(3):
        update(first[0], first[1], step)
    second[0].load_state_dict(first[0].state_dict())
    second[1].load_state_dict(deepcopy(first[1].state_dict()))
    again = networks()[0]
    again[0].load_state_dict(first[0].state_dict())
    again[1].load_state_dict(deepcopy(first[1].state_dict()))
    for step in range(3, 5):
        for model, optimizer in (second, again):
            update(model, optimizer, step)
    assert_same(again, second)


def test_a_loss_that_is_not_finite_skips_the_update_as_pytorch_does():
    pairs = networks()
    for model, optimizer in pairs:
        update(model, optimizer, 0)
        optimizer.found_inf = torch.tensor(1.0)
        update(model, optimizer, 1)
    assert_same(*pairs)
    assert pairs[0][1].state[pairs[0][0][0].weight]["step"] == 1


def test_hooks_are_called_once_and_closures_too():
    weight, calls = nn.Parameter(torch.ones(2, 2)), []
    optimizer = adamw([("w", weight)], lr=0.1, weight_decay=0.0, momentum=0.9)
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))

    def closure():
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 4.0
    closure()
    assert optimizer.step() is None
    assert calls == ["before", "after"] * 2
