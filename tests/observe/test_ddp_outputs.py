"""One rank of DistributedDataParallel: what stands inside the wrapper is seen as without it."""

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from thalweg.adapters.script import watch_everything
from thalweg.diagnosis import diagnose
from thalweg.observe import watch
from thalweg.observe.ddp_outputs import root_node
from thalweg.observe.pairs_in_loss import node_name
from thalweg.record.quantities import INSTRUMENT_FAILED, LOSS_INPUT, LOSS_KIND

pytestmark = pytest.mark.filterwarnings("ignore")  # DDP's own: all weights are used
VOCAB, LENGTH = 16, 12


@pytest.fixture(autouse=True)
def process_group(tmp_path):
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class LanguageModel(nn.Module):
    """Shifts the labels itself and returns the loss beside the logits, as Hugging Face's do."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.head = nn.Embedding(VOCAB, 16), nn.Linear(16, VOCAB)

    def forward(self, tokens, labels):
        logits = self.head(torch.tanh(self.embedding(tokens)).cumsum(1))
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return {"cache": object(), "loss": loss, "logits": logits, "best": logits.argmax(-1)}


def batches(steps):
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(VOCAB, (8, LENGTH + 1), generator=generator) for _ in range(steps)]


def train(model, *, steps=24, begin=lambda model, optimizer: None):
    """The labels are shifted in the data, too."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    watcher = begin(model, optimizer)
    for tokens in batches(steps):
        loss = model(tokens[:, :-1], labels=tokens[:, 1:])["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if watcher is not None:
            watcher.step(loss)
    return watcher


def wrapped(**options):
    return DistributedDataParallel(LanguageModel(), **options)


@pytest.mark.parametrize("finds_unused", [True, False])
def test_a_loss_that_the_model_returns_is_compared_with_its_tokens(finds_unused):
    model = wrapped(find_unused_parameters=finds_unused)
    watcher = train(model, begin=lambda *pair: watch(*pair, diagnose=diagnose))
    diagnosis = watcher.diagnose()
    watcher.close()
    assert diagnosis.headline.rule == "targets-shifted-twice"
    assert not watcher.history.by_place(INSTRUMENT_FAILED)


def test_so_it_is_where_no_line_of_the_program_is_changed():
    with watch_everything() as session:
        train(wrapped(find_unused_parameters=True))
    (diagnosis,) = session.diagnoses.values()
    assert diagnosis.headline.rule == "targets-shifted-twice"


def test_the_loss_is_read_past_the_node_of_the_wrapper():
    tokens = batches(1)[0]
    outputs = wrapped(find_unused_parameters=True)(tokens[:, :-1], tokens[:, 1:])
    assert node_name(outputs["loss"].grad_fn) == "_DDPSink"
    assert node_name(root_node(outputs["loss"])) == "NllLoss"
    assert node_name(root_node(outputs["logits"])) in ("View", "UnsafeView", "Addmm")


def test_a_loss_of_ones_own_is_read_as_without_the_wrapper():
    class Scores(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.body, self.head = nn.Linear(4, 8), nn.Linear(8, 3)

        def forward(self, inputs):
            hidden = self.body(inputs).relu()
            return hidden, self.head(hidden).softmax(1)

    histories = []
    for wrap in (lambda m: m, lambda m: DistributedDataParallel(m, find_unused_parameters=True)):
        model = wrap(Scores())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with watch(model, optimizer) as watcher:
            for step in range(8):
                inputs = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
                loss = F.cross_entropy(model(inputs)[1], inputs[:, :3].argmax(1))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watcher.step(loss)
        histories.append(watcher.history)
    for quantity in (LOSS_KIND, LOSS_INPUT):
        plain, beside = (history.by_place(quantity) for history in histories)
        assert plain == beside != {}


class _ForwardRedirection:
    """As Lightning has it: DDP is called, and calls the training step in the forward's place."""

    def __call__(self, wrapper, module, *arguments):
        original = module.forward

        def wrapped_forward(*inner):
            module.forward = original
            return module.training_step(*inner)

        module.forward = wrapped_forward
        return wrapper(*arguments)


@pytest.mark.parametrize("through", ["the module", "its part"])
def test_a_call_that_runs_a_training_step_is_no_pass_of_the_model(through):
    class Module(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))

        def forward(self, inputs):
            return self.net(inputs)

        def training_step(self, inputs):
            model = self if through == "the module" else self.net
            return F.cross_entropy(model(inputs), inputs[:, :3].argmax(1))

    with watch_everything() as session:
        module = Module()
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        model = DistributedDataParallel(module)
        for step in range(8):
            inputs = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
            loss = _ForwardRedirection()(model, module, inputs)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        (training,) = session.trainings
        history = training.watcher.history
    assert session.failures == []
    assert "cross_entropy" in history.by_place(LOSS_KIND)
