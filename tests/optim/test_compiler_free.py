"""Optimizers that do what PyTorch's do, and do not load the compiler for it."""

import subprocess
import sys
from copy import deepcopy

import pytest
import torch
from torch import nn

from thalweg.optim.compiler_free import compiler_free

UPDATE = """
import sys, torch
from torch import nn
from thalweg.optim import OPTIMIZERS

for name in OPTIMIZERS:
    model = nn.Linear(4, 3)
    weights = model.named_parameters()
    optimizer = OPTIMIZERS[name](weights, lr=0.1, weight_decay=0.1, momentum=0.9)
    model(torch.randn(2, 4)).sum().backward()
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.zero_grad()
    if "torch._dynamo" in sys.modules:
        sys.exit(f"{name} loads the compiler")
"""


def test_no_optimizer_loads_the_compiler():
    command = [sys.executable, "-c", UPDATE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW, torch.optim.RMSprop])
def test_every_number_is_pytorchs(kind):
    torch.manual_seed(0)
    ours, inputs = nn.Linear(6, 3), torch.randn(8, 6)
    theirs = deepcopy(ours)
    pairs = [(ours, compiler_free(kind)(ours.parameters())), (theirs, kind(theirs.parameters()))]
    for model, optimizer in pairs:
        for _ in range(3):
            optimizer.zero_grad()
            model(inputs).square().sum().backward()
            optimizer.step()
    assert torch.equal(ours.weight, theirs.weight)
    assert str(pairs[0][1].state_dict()) == str(pairs[1][1].state_dict())


def test_hooks_and_closures_are_called():
    weight, called = nn.Parameter(torch.ones(2)), []
    optimizer = compiler_free(torch.optim.SGD)([weight], lr=0.5)
    optimizer.register_step_post_hook(lambda *_: called.append("after"))

    def closure():
        loss = weight.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) == 2
    assert called == ["after"]
    assert weight.tolist() == [0, 0]
