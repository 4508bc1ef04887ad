"""The two lines in a loop of accelerate: `watch` what `prepare` gave back."""

from typing import Any

import pytest
import torch
from adapters.digits import (
    EPOCHS,
    assert_found,
    assert_sound,
    library,
    loaders,
    lr_of,
    network,
    same_weights,
)
from torch.nn import functional as F

accelerate = library("accelerate", "accelerate")
from accelerate.state import AcceleratorState  # noqa: E402

import thalweg  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # the library's own advice


def train(fault="", *, watched=True, epochs=EPOCHS, **options):
    torch.manual_seed(1)
    AcceleratorState._reset_state(reset_partial_state=True)  # else the precision is for good
    accelerator = accelerate.Accelerator(cpu=True, **options)
    model = network(fault)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr_of(fault))
    loader = loaders(fault)[0]
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    watcher = thalweg.watch(model, optimizer, num_classes=10) if watched else None
    for _ in range(epochs):
        for inputs, targets in loader:
            with accelerator.accumulate(model):
                loss = F.cross_entropy(model(inputs), targets)
                accelerator.backward(loss)
                optimizer.step()
                if watcher and accelerator.sync_gradients:
                    watcher.step(loss, batch=(inputs, targets))
                optimizer.zero_grad()
    return model, watcher


OPTIONS: dict[str, Any] = {
    "plain": {},
    "accumulated": {"gradient_accumulation_steps": 4, "epochs": 20},
    "mixed": {"mixed_precision": "bf16"},
}


@pytest.mark.parametrize("options", OPTIONS)
def test_a_sound_loop_raises_no_alarm(options):
    _, watcher = train(**OPTIONS[options])
    diagnosis = watcher.diagnose()
    assert_sound(diagnosis)
    assert "learning-rate-too-low" in diagnosis.passed  # needs the hooks of the inner optimizer


@pytest.mark.parametrize(
    ("fault", "rule"), [("lr", "learning-rate-too-high"), ("squashed", "logits-squashed-twice")]
)
def test_a_planted_fault_is_named(fault, rule):
    _, watcher = train(fault)
    assert_found(watcher.diagnose(), rule)


@pytest.mark.parametrize("options", OPTIONS)
def test_weights_are_those_of_an_unwatched_loop(options):
    models = [train(watched=watched, **OPTIONS[options])[0] for watched in (False, True)]
    assert same_weights(*models)
