"""Beside torch.compile: as many graphs, as many compiled calls, and the same weights, bit for bit.

A backend counts the graphs that it is asked to compile, and the calls of what it has compiled.
"""

from collections import Counter

import pytest
import torch
import torch._dynamo
from torch import nn
from torch.nn import functional as F

from thalweg.diagnosis import diagnose
from thalweg.observe import watch
from thalweg.record.quantities import (
    ACTIVATION_STD,
    GRADIENT_NORM,
    INSTRUMENT_FAILED,
    LOSS_KIND,
    UPDATE_RATIO,
)

pytestmark = pytest.mark.filterwarnings("ignore")  # the compiler's own
STEPS = 16


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.inner, self.outer = nn.LayerNorm(8), nn.Linear(8, 16), nn.Linear(16, 8)
        self.dropout = nn.Dropout(0.1)

    def forward(self, inputs):
        return inputs + self.dropout(self.outer(F.gelu(self.inner(self.norm(inputs)))))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])
        self.norm, self.head, self.activation = nn.BatchNorm1d(8), nn.Linear(8, 4), F.silu

    def forward(self, inputs):
        for block in self.blocks:
            inputs = block(inputs)
        return self.head(self.activation(self.norm(inputs)))


class Loop:
    """A loop whose parts a case compiles: what is called, and what is watched."""

    def __init__(self, backend, *, fullgraph=False):
        torch.manual_seed(0)
        self.net = Net()
        self.model = self.watched = self.net
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=1e-2)
        self.update = self.optimizer.step
        self.loss = lambda inputs, targets: F.cross_entropy(self.model(inputs), targets)
        self.options = {"backend": backend, "fullgraph": fullgraph}
        self.after_watching = lambda: None

    def compile(self, function):
        return torch.compile(function, **self.options)

    def train(self, *, watched, steps=STEPS):
        watcher = watch(self.watched, self.optimizer, diagnose=diagnose) if watched else None
        self.after_watching()
        generator = torch.Generator().manual_seed(1)
        for _ in range(steps):
            inputs = torch.randn(16, 8, generator=generator)
            self.optimizer.zero_grad()
            loss = self.loss(inputs, inputs[:, :4].argmax(1))
            loss.backward()
            self.update()
            if watcher:
                watcher.step(loss)
        self.net.eval()
        with torch.no_grad():
            self.model(torch.ones(16, 8))
        if watcher:
            watcher.diagnosis = watcher.diagnose()  # type: ignore[attr-defined]
            watcher.close()
        return watcher


def the_model(loop):
    loop.model = loop.watched = loop.compile(loop.net)


def the_call_alone(loop):
    loop.model = loop.compile(loop.net)


def in_place(loop):
    loop.net.compile(**loop.options)


def blocks(loop):
    for index, block in enumerate(loop.net.blocks):
        loop.net.blocks[index] = loop.compile(block)


def blocks_in_place(loop):
    for block in loop.net.blocks:
        block.compile(**loop.options)


def a_function_in_forward(loop):
    loop.net.activation = loop.compile(F.silu)


def after_watching(loop):
    def compile_later():
        loop.model = loop.compile(loop.net)

    loop.after_watching = compile_later


def in_place_after_watching(loop):
    loop.after_watching = lambda: loop.net.compile(**loop.options)


def the_loss(loop):
    loop.loss = loop.compile(lambda x, y: F.cross_entropy(loop.net(x), y))


def the_optimizers_step(loop):
    loop.options["fullgraph"] = False  # PyTorch's own step breaks the graph
    loop.update = loop.compile(loop.optimizer.step)


CASES = [
    the_model, the_call_alone, in_place, blocks, blocks_in_place, a_function_in_forward,
    after_watching, in_place_after_watching, the_loss, the_optimizers_step,
]  # fmt: skip


def trained(case, *, watched, fullgraph):
    counts = Counter()

    def backend(graph, _):
        counts["graphs"] += 1

        def run(*arguments):
            counts["calls"] += 1
            return graph.forward(*arguments)

        return run

    torch._dynamo.reset()
    loop = Loop(backend, fullgraph=fullgraph)
    case(loop)
    watcher = loop.train(watched=watched)
    return list(loop.net.state_dict().values()), counts, watcher


@pytest.fixture(autouse=True)
def _no_hooks_of_others():
    """A watcher that another test never closed may hold a hook on all modules: it is compiled."""
    hooks = torch.nn.modules.module._global_forward_hooks
    others = dict(hooks)
    hooks.clear()
    yield
    hooks.update(others)


QUICK = {the_model, the_call_alone, in_place, blocks, the_optimizers_step}


@pytest.mark.parametrize("fullgraph", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=() if c in QUICK else pytest.mark.slow) for c in CASES]
)
def test_what_was_compiled_goes_on_running_compiled(case, fullgraph):
    expected, expected_counts, _ = trained(case, watched=False, fullgraph=fullgraph)
    weights, counts, watcher = trained(case, watched=True, fullgraph=fullgraph)
    assert counts == expected_counts
    assert counts["calls"] >= STEPS
    assert all(torch.equal(a, b) for a, b in zip(weights, expected, strict=True))
    history = watcher.history
    assert not history.by_place(INSTRUMENT_FAILED)
    assert not [f for f in watcher.diagnosis.findings if f.severity == "error"]
    assert "head.weight" in history.by_place(GRADIENT_NORM)
    assert "blocks.0.inner.weight" in history.by_place(UPDATE_RATIO)
    if case is not the_loss:  # of which nothing is called outside of compiled code
        assert "blocks.0.inner" in history.by_place(ACTIVATION_STD)
        assert "cross_entropy" in history.by_place(LOSS_KIND)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_inductor_gives_the_same_weights(case):
    states = []
    for watched in (False, True):
        torch._dynamo.reset()
        loop = Loop("inductor")
        case(loop)
        loop.train(watched=watched)
        states.append(list(loop.net.state_dict().values()))
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))
