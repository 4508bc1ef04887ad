"""Our trainer is watched through the same two lines as anybody's loop, and is changed as little."""

from itertools import islice
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

import thalweg
from thalweg.api import plan, train
from thalweg.data import Augment, Batches
from thalweg.models import MODELS
from thalweg.record.quantities import GRADIENT_NORM, LOSS, UPDATE_RATIO

EPOCHS = 3


@pytest.fixture
def trained(scans, tmp_path):
    """A run of our trainer, and the plan that it followed."""
    wishes: dict[str, Any] = {"model": "convnet", "epochs": EPOCHS, "batch_size": 32}
    return train(scans, out=tmp_path, **wishes), plan(scans, **wishes)


def own_loop(ready, *, watched):
    """What a person would write, without our loop, optimizers or schedule: weights, history."""
    recipe, dataset = ready.recipe, ready.dataset
    torch.manual_seed(recipe.seed)
    model = MODELS["convnet"](10, input_shape=dataset.facts.input_shape)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # in no stub
    decayed = [weight for weight in model.parameters() if weight.ndim > 1]
    others = [weight for weight in model.parameters() if weight.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": recipe.optimizer.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    peak = recipe.optimizer.lr
    optimizer = torch.optim.SGD(groups, lr=peak, momentum=0.9, nesterov=True, fused=True)
    augment = Augment(**{key: getattr(recipe.augment, key) for key in Augment.__slots__})
    batches = Batches(dataset, "train", batch_size=32, seed=0, shuffle=True, augment=augment)
    watcher = thalweg.watch(model, optimizer, num_classes=10) if watched else None
    for step, (inputs, targets) in enumerate(islice(batches.stream(), ready.steps)):
        progress = (step + 0.5) / ready.steps
        share = progress / 0.1 if progress < 0.1 else (1 - progress) / 0.9
        for group in optimizer.param_groups:
            group["lr"] = peak * share
        loss = cross_entropy(model(inputs), targets, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if watcher is not None:
            watcher.step(loss)
    return model.state_dict(), watcher.history if watcher is not None else None


def test_our_loop_and_ones_own_measure_the_same(trained):
    run, ready = trained
    _, history = own_loop(ready, watched=True)
    assert history.series(LOSS) == run.history.series(LOSS)
    for quantity in (GRADIENT_NORM, UPDATE_RATIO):
        assert history.by_place(quantity) == run.history.by_place(quantity)
        assert history.by_place(quantity)


@pytest.mark.slow
def test_watching_changes_no_weight(trained):
    _, ready = trained
    watched, _ = own_loop(ready, watched=True)
    alone, _ = own_loop(ready, watched=False)
    assert watched.keys() == alone.keys()
    assert all(torch.equal(watched[name], alone[name]) for name in alone)
