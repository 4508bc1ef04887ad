"""The user's weights, buffers and random state, bit for bit as without the watcher."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.diagnosis import diagnose
from thalweg.observe import watch


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 32), nn.Tanh(), nn.Linear(32, 4))


def dropout():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(192, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 4)
    )


def cnn():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout2d(0.2),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 4),
    )  # fmt: skip


def recurrent():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(24, 16, num_layers=2, dropout=0.3, batch_first=True)
            self.head = nn.Linear(16, 4)

        def forward(self, inputs):
            return self.head(
                self.gru(inputs.flatten(2).transpose(1, 2).reshape(-1, 8, 24))[0][:, -1]
            )

    return Last()


def trained(build, *, watched, accumulate=1, bfloat16=False):
    """State after 90 updates with a validation each 30, and the next random numbers."""
    torch.manual_seed(0)
    inputs = torch.randn(256, 3, 8, 8)
    targets = inputs[:, :, 0, 0].argmax(1)
    model = build()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    pairs = list(zip(inputs.split(16), targets.split(16), strict=True))
    told: dict[str, Any] = {"loss_fn": F.cross_entropy, "train": pairs, "val": pairs[:4]}
    watcher = watch(model, optimizer, diagnose=diagnose, **told) if watched else None
    for step in range(90):
        model.train()
        optimizer.zero_grad()
        for part in range(accumulate):
            batch, wanted = pairs[(step * accumulate + part) % len(pairs)]
            with torch.autocast("cpu", torch.bfloat16) if bfloat16 else nullcontext():
                loss = F.cross_entropy(model(batch), wanted) / accumulate
            loss.backward()
        optimizer.step()
        if watcher:
            watcher.step(loss)
        if step % 30 == 29:
            model.eval()
            with torch.no_grad():
                score = F.cross_entropy(model(inputs), targets)
            if watcher:
                watcher.log(val_loss=score)
                watcher.diagnose()  # in the midst of training too
    if watcher:
        assert not [one for one in watcher.history if one.name == "instrument_failed"]
        watcher.close()
    state = [one.numpy(force=True).tobytes() for one in model.state_dict().values()]
    moments = [
        one.numpy(force=True).tobytes()
        for kept in optimizer.state.values()
        for one in kept.values()
    ]
    return state, moments, torch.rand(3).tolist()


@pytest.mark.parametrize("how", [{}, {"accumulate": 3}, {"bfloat16": True}], ids=str)
@pytest.mark.parametrize("build", [mlp, dropout, cnn, recurrent])
def test_the_run_comes_out_the_same(build, how):
    if build is recurrent and how.get("bfloat16"):
        pytest.skip("PyTorch has no gradient of a bfloat16 GRU on every CPU")
    assert trained(build, watched=True, **how) == trained(build, watched=False, **how)
