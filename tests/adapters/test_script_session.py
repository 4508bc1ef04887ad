"""Training functions that know nothing of thalweg, each watched as a whole."""

import copy
import zipfile

import pytest
import torch
from torch import nn
from torch.autograd.variable import Variable
from torch.nn import functional as F
from torch.optim.optimizer import _global_optimizer_pre_hooks
from torch.utils.data import DataLoader, TensorDataset

import thalweg
from thalweg.adapters.script import roots, watch_everything
from thalweg.record.quantities import (
    LEAKED,
    LOSS,
    SCALER_SCALE,
    VAL_ACCURACY,
    VAL_LOSS,
    VAL_SAMPLES,
)


def data(samples=256):
    inputs = torch.randn(samples, 20, generator=torch.Generator().manual_seed(0))
    return inputs, (inputs[:, 0] > 0).long() + (inputs[:, 1] > 1).long()


def network():
    return nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 3))


def batches(steps=40, size=64):
    inputs, targets = data()
    for _ in range(steps):
        rows = torch.randint(0, len(inputs), (size,))
        yield inputs[rows], targets[rows]


def own_loop(*, lr=0.1, zero_grad=True):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for inputs, targets in batches():
        loss = F.cross_entropy(model(inputs), targets)
        if zero_grad:
            optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [model]


class Trainer:
    """Builds its optimizer before it wraps the model; the loader feeds it."""

    def __init__(self):
        self.model = network()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-2)
        self.parallel = nn.DataParallel(self.model)
        self.loader = DataLoader(TensorDataset(*data()), batch_size=64, shuffle=True)

    def fit(self):
        for _ in range(10):
            for inputs, targets in self.loader:
                self.optimizer.zero_grad()
                F.cross_entropy(self.parallel(inputs), targets).backward()
                self.optimizer.step()
        return [self.model]


def adversarial(*, steps=20):
    generator = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 20))
    critic = nn.Sequential(nn.Linear(20, 16), nn.LeakyReLU(), nn.Linear(16, 1))
    of_generator = torch.optim.Adam(generator.parameters(), lr=2e-3)
    of_critic = torch.optim.Adam(critic.parameters(), lr=1e-3)
    ones, zeros = torch.ones(64, 1), torch.zeros(64, 1)
    for real, _ in batches(steps):
        images = generator(torch.randn(64, 4))
        of_critic.zero_grad()
        F.binary_cross_entropy_with_logits(critic(real), ones).backward()
        F.binary_cross_entropy_with_logits(critic(images.detach()), zeros).backward()
        of_critic.step()
        of_generator.zero_grad()
        F.binary_cross_entropy_with_logits(critic(images), ones).backward()
        of_generator.step()
    return [generator, critic]


def two_modules_one_optimizer():
    encoder, head = nn.Sequential(nn.Linear(20, 32), nn.ReLU()), nn.Linear(32, 3)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=1e-2)
    for inputs, targets in batches():
        optimizer.zero_grad()
        F.cross_entropy(head(encoder(inputs)), targets).backward()
        optimizer.step()
    return [encoder, head]


def two_optimizers_one_model():
    model = network()
    first = torch.optim.SGD([model[0].weight, model[2].weight], lr=0.1, momentum=0.9)
    second = torch.optim.AdamW([model[0].bias, model[2].bias], lr=1e-2)
    for inputs, targets in batches():
        model.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        first.step()
        second.step()
    return [model]


def accumulating(parts=4):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for number, (inputs, targets) in enumerate(batches(80, size=32), 1):
        (F.cross_entropy(model(inputs), targets) / parts).backward()
        if number % parts == 0:
            optimizer.step()
            optimizer.zero_grad()
    return [model]


def closures():
    model, (inputs, targets) = network(), data()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4)

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), targets)
        loss.backward()
        return loss

    for _ in range(10):
        optimizer.step(closure)
    return [model]


def scaled_gradients():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for inputs, targets in batches():
        optimizer.zero_grad()
        scaler.scale(F.cross_entropy(model(inputs), targets)).backward()
        scaler.step(optimizer)
        scaler.update()
    return [model]


def weights_without_a_module():
    weight = torch.randn(20, 3, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    for inputs, targets in batches():
        optimizer.zero_grad()
        F.cross_entropy(inputs @ weight, targets).backward()
        optimizer.step()
    return [nn.ParameterList([weight])]


def functional_call():
    model = network()
    weights = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    for weight in weights.values():
        weight.requires_grad_()
    optimizer = torch.optim.SGD(weights.values(), lr=0.1)
    for inputs, targets in batches():
        optimizer.zero_grad()
        outputs = torch.func.functional_call(model, weights, (inputs,))
        F.cross_entropy(outputs, targets).backward()
        optimizer.step()
    return [nn.ParameterList(weights.values())]


def copied_model():
    model = copy.deepcopy(network())
    average = torch.optim.swa_utils.AveragedModel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for inputs, targets in batches():
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        average.update_parameters(model)
    return [model, average]


PROGRAMS = [
    own_loop,
    Trainer().fit,
    adversarial,
    two_modules_one_optimizer,
    two_optimizers_one_model,
    accumulating,
    closures,
    scaled_gradients,
    weights_without_a_module,
    functional_call,
    copied_model,
]


def outcome(program):
    """The weights and the random state that a program leaves behind."""
    torch.manual_seed(1)
    if program.__name__ == "fit":
        program = Trainer().fit
    models = program()
    weights = [weight.detach().clone() for model in models for weight in model.parameters()]
    return [*weights, torch.get_rng_state()]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_a_program_is_watched_and_left_as_it_is(program):
    alone = outcome(program)
    with watch_everything() as session:
        watched = outcome(program)
    assert all(torch.equal(a, b) for a, b in zip(alone, watched, strict=True))
    assert session.failures == []
    assert len(session.diagnoses) == (2 if program is adversarial else 1)
    for diagnosis in session.diagnoses.values():
        assert "gradient-never-arrives" in diagnosis.passed


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({}, None),
        ({"lr": 30.0}, "learning-rate-too-high"),
        ({"zero_grad": False}, "missing-zero-grad"),
    ],
)
def test_the_cause_is_named(options, rule):
    torch.manual_seed(0)
    with watch_everything() as session:
        own_loop(**options)
    (diagnosis,) = session.diagnoses.values()
    assert (diagnosis.headline and diagnosis.headline.rule) == rule


def losses(program):
    torch.manual_seed(0)
    with watch_everything() as session:
        program()
        (training,) = session.trainings
        return training.watcher.history.series(LOSS)


def test_every_update_has_its_own_loss():
    plain = losses(own_loop)
    assert len(plain) == 40
    torch.manual_seed(0)
    model = network()
    inputs, targets = next(batches())
    assert plain[0] == pytest.approx(F.cross_entropy(model(inputs), targets).item())


def test_parts_of_a_batch_add_up_to_its_loss():
    divided = losses(accumulating)
    assert len(divided) == 20
    assert 0.9 < divided[0] < 1.6  # not a quarter of the loss of three classes


def test_a_scaled_loss_is_recorded_unscaled():
    assert losses(scaled_gradients) == pytest.approx(losses(own_loop))


def test_a_closure_counts_once():
    assert len(losses(closures)) == 10


def test_nothing_is_left_behind():
    engine = Variable._execution_engine
    add, scale = torch.optim.Optimizer.add_param_group, torch.amp.GradScaler.scale
    with watch_everything():
        own_loop()
    assert Variable._execution_engine is engine
    assert torch.optim.Optimizer.add_param_group is add
    assert torch.amp.GradScaler.scale is scale
    assert "_num_yielded" not in vars(torch.utils.data.dataloader._BaseDataLoaderIter)
    assert not _global_optimizer_pre_hooks


def test_an_exception_leaves_a_diagnosis_and_goes_on():
    def program():
        own_loop(lr=30.0)
        raise ZeroDivisionError

    torch.manual_seed(0)
    with pytest.raises(ZeroDivisionError), watch_everything() as session:
        program()
    assert session.diagnoses["model"].headline.rule == "learning-rate-too-high"


def test_a_program_that_trains_nothing_has_no_diagnosis():
    with watch_everything() as session:
        network()(data()[0])
    assert session.diagnoses == {}


class Images(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.head = nn.BatchNorm1d(20), nn.Linear(20, 3)

    def forward(self, inputs):
        return self.head(self.norm(inputs))


def with_validation(*, evaluates=True, splits=("train", "val")):
    """The scores of each epoch's validation, as the program computes them itself."""
    inputs, targets = data(320)
    rows = {"train": slice(0, 256), "val": slice(256, 320)}
    train, val = (TensorDataset(inputs[rows[name]], targets[rows[name]]) for name in splits)
    model, scores = Images(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        model.train()
        for batch in DataLoader(train, batch_size=32, shuffle=True):
            optimizer.zero_grad()
            F.cross_entropy(model(batch[0]), batch[1]).backward()
            optimizer.step()
        model.train(not evaluates)
        with torch.no_grad():
            pairs = [(model(x), y) for x, y in DataLoader(val, batch_size=20)]
        outputs, labels = (torch.cat(part) for part in zip(*pairs, strict=True))
        loss = F.cross_entropy(outputs, labels).item()
        scores.append((loss, (outputs.argmax(1) == labels).float().mean().item()))
    return scores


def history_of(program, **options):
    torch.manual_seed(0)
    with watch_everything() as session:
        result = program(**options)
        (training,) = session.trainings
        session.stop()
        session.finish()
    return result, training.watcher.history, session


def test_a_programs_own_validation_is_scored():
    scores, history, session = history_of(with_validation)
    recorded = zip(
        history.series(VAL_LOSS).values(), history.series(VAL_ACCURACY).values(), strict=True
    )
    assert [list(pair) for pair in recorded] == [pytest.approx(pair) for pair in scores]
    assert session.failures == []


def test_the_loaders_of_a_program_are_read_at_its_end():
    _, history, session = history_of(with_validation)
    assert history.last(VAL_SAMPLES) == 64
    (diagnosis,) = session.diagnoses.values()
    assert {"train-val-leakage", "class-imbalance", "unshuffled-batches"} <= set(diagnosis.passed)


def test_validation_in_train_mode_is_named():
    *_, session = history_of(with_validation, evaluates=False)
    (diagnosis,) = session.diagnoses.values()
    assert diagnosis.headline.rule == "wrong-mode-in-validation"


def test_scores_on_the_training_samples_are_no_validation():
    _, history, _ = history_of(with_validation, splits=("train", "train"))
    assert VAL_LOSS not in history
    assert LEAKED not in history


def test_what_the_program_watches_itself_is_left_alone():
    def program():
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with thalweg.watch(model, optimizer) as watcher:
            for inputs, targets in batches():
                loss = F.cross_entropy(model(inputs), targets)
                loss.backward()
                optimizer.step()
                watcher.step(loss)

    with watch_everything() as session:
        program()
    assert session.diagnoses == {}
    assert session.notes("x.py") == ["x.py watches Sequential itself"]


@pytest.mark.slow
def test_one_training_after_another_is_let_go():
    with watch_everything() as session:
        for _ in range(3):
            own_loop()
            assert len(session.trainings) <= 2
    assert list(session.diagnoses) == ["model", "model-2", "model-3"]


def test_a_saved_or_scripted_model_knows_nothing_of_the_hooks(tmp_path):
    def program(name):
        torch.manual_seed(0)
        model, loader = Images(), DataLoader(TensorDataset(*data(64)), batch_size=32)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        torch.save(model, tmp_path / f"{name}-0.pt")
        for inputs, targets in loader:
            F.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
            torch.save(copy.deepcopy(model), tmp_path / f"{name}-1.pt")
            with torch.no_grad():
                copy.deepcopy(model)(inputs)
        torch.save(model, tmp_path / f"{name}-2.pt")

    program("alone")
    with watch_everything() as session:
        program("watch")
    for number in range(3):
        names = [f"{name}-{number}" for name in ("alone", "watch")]
        files = [zipfile.ZipFile(tmp_path / f"{name}.pt") for name in names]
        alone, watched = (
            file.read(f"{name}/data.pkl") for file, name in zip(files, names, strict=True)
        )
        assert alone == watched
        assert b"thalweg" not in watched
    assert session.failures == []
    assert len(session.diagnoses) == 1


class Adapter(nn.Module):
    """A frozen layer and a trainable one of low rank beside it."""

    def __init__(self, base):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down, self.up = nn.Linear(20, 4, bias=False), nn.Linear(4, 32, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, inputs):
        return self.base(inputs) + self.up(self.down(inputs))


def train_on(model, optimizer, steps=40):
    for inputs, targets in batches(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()


def adapted(*, late=False):
    """A model is trained whole, and then through an adapter."""
    model = network()
    train_on(model, torch.optim.Adam(model.parameters(), lr=1e-2))
    model.requires_grad_(False)
    model[2].bias.requires_grad_(not late)
    before = torch.optim.Adam(model.parameters(), lr=1e-2)
    model[0] = Adapter(model[0])
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    train_on(model, before if late else torch.optim.Adam(weights, lr=1e-2))


@pytest.mark.slow
def test_what_is_added_to_a_model_later_is_no_part_of_its_first_training():
    with watch_everything() as session:
        adapted()
    assert session.failures == []
    first, _ = session.diagnoses.values()
    assert "frozen-random-weights" not in [finding.rule for finding in first.findings]


@pytest.mark.slow
def test_a_loss_that_reaches_weights_of_no_optimizer_is_that_of_their_model():
    with watch_everything() as session:
        adapted(late=True)
    first, second = session.diagnoses.values()
    assert first.headline is None or first.headline.rule != "weights-not-in-optimizer"
    assert second.headline.rule == "weights-not-in-optimizer"
    assert session.blind == []


class Players(nn.Module):
    """Two networks in one module, trained by turns: the other one asks for no gradient."""

    def __init__(self):
        super().__init__()
        self.first, self.second = network(), nn.Linear(3, 3)

    def forward(self, inputs):
        return self.second(self.first(inputs))


def test_weights_that_another_optimizer_trains_by_turns_are_not_frozen():
    model = Players()
    with watch_everything() as session:
        parts = model.first, model.second
        optimizers = [torch.optim.SGD(part.parameters(), lr=0.1) for part in parts]
        for inputs, targets in batches():
            for turn in range(2):
                parts[turn].requires_grad_(True)
                parts[1 - turn].requires_grad_(False)
                optimizers[turn].zero_grad()
                F.cross_entropy(model(inputs), targets).backward()
                optimizers[turn].step()
    for diagnosis in session.diagnoses.values():
        names = {finding.rule for finding in diagnosis.findings}
        assert not names & {"frozen-random-weights", "gradient-never-arrives"}


def in_a_function():
    """The scaler is gone when the function returns: gradients were clipped before `unscale_`."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu")
    for inputs, targets in batches():
        optimizer.zero_grad()
        scaler.scale(F.cross_entropy(model(inputs), targets)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()


def test_what_drives_a_loop_is_known_after_its_function_has_returned():
    _, history, _ = history_of(in_a_function)
    assert history.series(SCALER_SCALE)[39] == 65536


class Agent(nn.Module):
    """Acts by a call of its own forward, as a method does that knows no hook."""

    def __init__(self):
        super().__init__()
        self.hidden, self.values = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, states):
        return self.values(F.relu(self.hidden(states)))

    def act(self, state):
        return int(self.forward(state).argmax())


def test_parts_that_are_called_again_and_again_do_not_search_the_memory_each_time(monkeypatch):
    searches = []
    live_modules = roots.live_modules
    monkeypatch.setattr(roots, "live_modules", lambda: searches.append(1) or live_modules())
    with watch_everything() as session:
        agent = Agent()
        optimizer = torch.optim.Adam(agent.parameters(), lr=0.01)
        for _ in range(50):
            agent.act(torch.randn(4))
        for _ in range(5):
            optimizer.zero_grad()
            agent(torch.randn(8, 4)).square().mean().backward()
            optimizer.step()
    assert len(searches) < 10
    assert "Agent" in session.diagnoses


@pytest.mark.parametrize("unit", ["softmax", "log_softmax", "cross_entropy"])
def test_one_state_without_a_batch_is_one_row_of_classes(unit):
    """A policy is called with a single state: its outputs are a vector, one number per action."""
    torch.manual_seed(0)

    class Policy(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))

        def forward(self, state):
            outputs = self.net(state)
            return outputs if unit == "cross_entropy" else getattr(F, unit)(outputs, dim=0)

    with watch_everything() as session:
        policy = Policy()
        optimizer = torch.optim.Adam(policy.parameters(), lr=0.01)
        for _ in range(20):
            optimizer.zero_grad()
            for _ in range(4):
                outputs, action = policy(torch.randn(4)), torch.randint(0, 2, ())
                if unit == "cross_entropy":
                    F.cross_entropy(outputs, action).backward()
                else:
                    chosen = outputs[action]
                    (-chosen if unit == "log_softmax" else -chosen.log()).backward()
            optimizer.step()
    assert "softmax-over-one-unit" not in [f.rule for f in session.diagnoses["Policy"].findings]


def test_a_softmax_over_one_unit_is_named():
    with watch_everything() as session:
        model = nn.Sequential(nn.Linear(4, 1), nn.LogSoftmax(1))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(20):
            optimizer.zero_grad()
            loss = F.nll_loss(model(torch.randn(8, 4)), torch.zeros(8, dtype=torch.long))
            loss.backward()
            optimizer.step()
    headline = session.diagnoses["model"].headline
    assert headline is not None
    assert headline.rule == "softmax-over-one-unit"


def test_the_advised_rate_follows_from_the_first_updates():
    """Later ones have grown with the loss, and show no rate."""
    torch.manual_seed(0)
    with watch_everything() as session:
        own_loop(lr=1e12)
    finding = next(f for f in session.diagnoses["model"].findings if "rate-too-high" in f.rule)
    rate = finding.prescriptions[0].edit["optimizer.lr"]
    assert isinstance(rate, float)
    assert 1e-4 <= rate <= 1
