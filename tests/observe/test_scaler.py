"""A loop with a GradScaler is watched as the loop without one: gradients as they are, unscaled."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg import watch
from thalweg.record.quantities import GRADIENT_NORM, GRADIENT_RATIO, LOSS, UPDATE_RATIO

OF_AN_UPDATE = (GRADIENT_NORM, GRADIENT_RATIO, UPDATE_RATIO)
MADE = {
    "adamw": lambda weights: torch.optim.AdamW(weights, 1e-2),
    "adamw, fused": lambda weights: torch.optim.AdamW(weights, 1e-2, fused=True),
    # Without momentum: torch 2.13 leaves its buffers unset where the very first step is skipped.
    "sgd, fused": lambda weights: torch.optim.SGD(weights, 1e-2, fused=True),
}


def trained(optimizer, *, scale=0.0, clip=0.0, half=False, watched=True):
    """Model, history and the updates that were skipped, of 30; scale 0: no scaler."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    made = MADE[optimizer](model.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale > 0)
    watcher = watch(model, made, num_classes=3) if watched else None
    chance, skipped = torch.Generator().manual_seed(1), []
    for step in range(30):
        inputs = torch.randn(32, 8, generator=chance)
        before = scaler.get_scale()
        made.zero_grad()
        with torch.autocast("cpu", torch.float16, enabled=half):
            loss = F.cross_entropy(model(inputs), inputs[:, :3].argmax(1))
        scaler.scale(loss).backward()
        if clip:
            scaler.unscale_(made)
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        scaler.step(made)
        scaler.update()
        skipped += [step] if scaler.get_scale() < before else []
        if watcher is not None:
            watcher.step(loss)
    if watcher is not None:
        watcher.diagnose()
        watcher.close()
    return model, None if watcher is None else watcher.history, skipped


def readings(history):
    places = {quantity: history.by_place(quantity) for quantity in OF_AN_UPDATE}
    return {
        (quantity.name, place): dict(history.series(quantity, place))
        for quantity, there in places.items()
        for place in there
    }


@pytest.mark.parametrize("optimizer", MADE)
@pytest.mark.parametrize("clip", [0.0, 0.1], ids=["", "clipped"])
def test_gradients_and_updates_are_those_without_a_scaler(optimizer, clip):
    """The scale is a power of two, so that unscaled they are the same to the last bit."""
    _, plain, _ = trained(optimizer, clip=clip)
    _, scaled, skipped = trained(optimizer, clip=clip, scale=2.0**16)
    assert not skipped
    found = readings(scaled)
    assert found == readings(plain)
    assert scaled.series(LOSS) == plain.series(LOSS)
    assert len(found["gradient_norm", "0.weight"]) >= 4
    if clip:  # as the optimizer saw them
        assert max(found["gradient_norm", "0.weight"].values()) <= clip


@pytest.mark.parametrize("optimizer", MADE)
def test_of_an_update_that_overflowed_nothing_is_measured(optimizer):
    """In half precision the scale is found by trying: a fused optimizer is called all the same."""
    model, history, skipped = trained(optimizer, scale=2.0**30, half=True)
    assert skipped[:3] == [0, 1, 2]
    for series in readings(history).values():
        assert not set(series) & set(skipped)
        assert len(series) >= 2
        assert all(0 < value < 10 for value in series.values())
    assert len(history.series(LOSS)) == 30
    alone, _, _ = trained(optimizer, scale=2.0**30, half=True, watched=False)
    pairs = zip(model.parameters(), alone.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
