"""Samples of a batch influence each other in faulty models alone, and the place is named."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg.diagnosis import diagnose
from thalweg.observe import watch
from thalweg.record.quantities import (
    BATCH_MIXING,
    EVAL_NOISE,
    INSTRUMENT_FAILED,
    MIXING_OPERATION,
    NOT_MEASURED,
)

B, T, D, K = 12, 6, 8, 4


class Net(nn.Module):
    """Some layers, and a forward that the test passes in."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.call = forward
        self.head = nn.Linear(D, K)
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, *inputs, **keywords):
        return self.call(self, *inputs, **keywords)


def lstm(**options):
    return nn.LSTM(D, D, **options)


def encoder(**options):
    return nn.TransformerEncoderLayer(D, 2, 16, dropout=0.0, **options)


def last_step(m, x):
    return m.head(m.layer(x)[0][:, -1])


def attention(m, x):
    """Attention by hand over the first dimension, which is time there: [time, batch, features]."""
    x = x.transpose(0, 1)
    return m.head((x @ x.mT).softmax(-1) @ x).transpose(0, 1)


def vectors():
    return torch.randn(B, D)


def sequences():
    return torch.randn(B, T, D)


def time_first():
    return torch.randn(T, B, D)


def tokens():
    return torch.randint(0, 20, (B, T))


def run(model, inputs, *, keywords=None, steps=1, loss_of=None):
    """Train for a step or more as a user does, with the two lines alone."""
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    watcher = watch(model, optimizer)
    for _ in range(steps):
        output = model(*arguments, **(keywords or {}))
        if loss_of is None:
            targets = torch.randint(0, K, output.shape[:-1]).flatten()
            loss = F.cross_entropy(output.flatten(0, -2), targets)
        else:
            loss = loss_of(output)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
    watcher.flush()
    return watcher.history


def squared(output):
    return output.square().mean()


def ragged():
    lengths = torch.randperm(B, generator=seeded()) % 8 + 2
    inputs = torch.randn(B, 9, D)
    return inputs * (torch.arange(9)[None] < lengths[:, None])[..., None]


def by_length(m, x):
    """Sort the sequences to pack them, and forget to put the outputs back."""
    lengths, order = (x != 0).any(2).sum(1).sort(descending=True)
    sequences = nn.utils.rnn.pack_padded_sequence(x[order], lengths, batch_first=True)
    return m.head(m.layer(sequences)[1][0][-1])


def seeded():
    return torch.Generator().manual_seed(0)


def images():
    return torch.randn(B, 1, D, 16)


def recognise(m, x):
    """Columns of a picture → [time, batch, class], as CTC takes them."""
    columns = m.picture(x).flatten(1, 2).permute(2, 0, 1)
    return m.head(m.layer(columns)[0])


FAULTY = {
    "batch_first for columns that come time first": (
        lambda: Net(recognise, layer=lstm(batch_first=True), picture=nn.Conv2d(1, 1, 3, padding=1)),
        images,
        "sequence second: layer",
    ),
    "encoder with batch_first for columns that come time first": (
        lambda: Net(
            lambda m, x: m.head(m.layer(m.picture(x).flatten(1, 2).permute(2, 0, 1))),
            layer=encoder(batch_first=True),
            picture=nn.Conv2d(1, 1, 3, padding=1),
        ),
        images,
        "sequence second: layer.self_attn",
    ),
    "softmax over the batch of columns": (
        lambda: Net(
            lambda m, x: recognise(m, x).log_softmax(1),
            layer=lstm(),
            picture=nn.Conv2d(1, 1, 3, padding=1),
        ),
        images,
        "softmax: ",
    ),
    "softmax over the batch": (
        lambda: Net(lambda m, x: m.head(x).log_softmax(0)),
        vectors,
        "softmax: ",
    ),
    "softmax module over the batch": (
        lambda: Net(lambda m, x: m.layer(m.head(x)), layer=nn.LogSoftmax(dim=0)),
        vectors,
        "softmax: layer",
    ),
    "softmax of an image classifier": (
        lambda: Net(
            lambda m, x: m.head(m.layer(x).mean((2, 3))).softmax(0), layer=nn.Conv2d(3, D, 3)
        ),
        lambda: torch.randn(B, 3, 8, 8),
        "softmax: ",
    ),
    "LSTM without batch_first": (
        lambda: Net(last_step, layer=lstm()),
        sequences,
        "sequence first: layer",
    ),
    "GRU over embeddings without batch_first": (
        lambda: Net(
            lambda m, x: m.head(m.layer(m.embed(x))[0].mean(1)),
            layer=nn.GRU(D, D),
            embed=nn.Embedding(20, D),
        ),
        tokens,
        "sequence first: layer",
    ),
    "encoder without batch_first": (
        lambda: Net(lambda m, x: m.head(m.layer(x).mean(1)), layer=encoder()),
        sequences,
        "sequence first: layer.self_attn",
    ),
    "attention without batch_first": (
        lambda: Net(
            lambda m, x: m.head(m.layer(x, x, x)[0].mean(1)), layer=nn.MultiheadAttention(D, 2)
        ),
        sequences,
        "sequence first: layer",
    ),
    "view in place of transpose": (
        lambda: Net(
            lambda m, x: m.head(m.layer(x.view(x.shape[1], len(x), D))[0][-1]), layer=lstm()
        ),
        sequences,
        "reshape: ",
    ),
    "reshape of embeddings": (
        lambda: Net(
            lambda m, x: m.head(m.embed(x).reshape(x.shape[1], len(x), D).relu().mean(0)),
            embed=nn.Embedding(20, D),
        ),
        tokens,
        "reshape: ",
    ),
    "GRU over rows that are cut up": (
        lambda: Net(
            lambda m, x: m.head(m.layer(x.view(len(x), -1, D))[0][:, -1]), layer=nn.GRU(D, D)
        ),
        lambda: torch.randn(B, T * D),
        "sequence first: layer",
    ),
    "a number a sample, less the mean": (
        lambda: Net(lambda m, x: (m.head(x.mean(1)) - m.head(x.mean(1)).mean(0))[:, 0]),
        sequences,
        "statistic: ",
    ),
    "an encoding of places along the batch": (
        lambda: Net(
            lambda m, x: m.head(
                m.layer(x + torch.randn(50, 1, D, generator=seeded())[: len(x)])
            ).mean(1),
            layer=encoder(batch_first=True),
        ),
        sequences,
        "place in the batch: ",
    ),
    "outputs in the order of the lengths": (
        lambda: Net(by_length, layer=lstm(batch_first=True)),
        ragged,
        "own order: ",
    ),
    "standardised over the batch": (
        lambda: Net(lambda m, x: m.head(((x - x.mean(0)) / x.std(0)).mean(1))),
        sequences,
        "statistic: ",
    ),
}


@pytest.mark.parametrize("name", FAULTY)
def test_samples_that_influence_each_other_are_named_with_the_place(name):
    torch.manual_seed(0)
    build, inputs, place = FAULTY[name]
    history = run(build(), inputs(), loss_of=squared if "number" in name else None)
    assert history.last(BATCH_MIXING) > 0.02
    assert list(history.by_place(MIXING_OPERATION)) == [place]
    severity = "warning" if place.startswith(("statistic", "place")) else "error"
    headline = diagnose(history).headline
    assert headline is not None
    assert (headline.rule, headline.severity) == ("samples-mixed-in-batch", severity)


SOUND = {
    "columns that come time first": (
        lambda: Net(recognise, layer=lstm(), picture=nn.Conv2d(1, 1, 3, padding=1)),
        images,
    ),
    "a label a step, handed out time first": (
        lambda: Net(
            lambda m, x: m.head(m.layer(x)[0]).mT.permute(2, 0, 1), layer=lstm(batch_first=True)
        ),
        sequences,
    ),
    "a number a sample": (lambda: Net(lambda m, x: m.head(x)[:, 0]), vectors),
    "perceptron": (lambda: Net(lambda m, x: m.head(x)), vectors),
    "batch norm": (lambda: Net(lambda m, x: m.head(m.n(x)), n=nn.BatchNorm1d(D)), vectors),
    "batch norm without averages": (
        lambda: Net(lambda m, x: m.head(m.n(x)), n=nn.BatchNorm1d(D, track_running_stats=False)),
        vectors,
    ),
    "LSTM with batch_first": (lambda: Net(last_step, layer=lstm(batch_first=True)), sequences),
    "time first, a label a sample": (
        lambda: Net(lambda m, x: m.head(m.layer(x)[0][-1]), layer=lstm()),
        time_first,
    ),
    "time first, as many steps as samples": (
        lambda: Net(lambda m, x: m.head(m.layer(x)[0][-1]), layer=lstm()),
        lambda: torch.randn(B, B, D),
    ),
    "time first, a label a step": (
        lambda: Net(lambda m, x: m.head(m.layer(x)[0]), layer=lstm()),
        time_first,
    ),
    "time first, attention by hand": (lambda: Net(attention), time_first),
    "an encoding of places along the sequence": (
        lambda: Net(
            lambda m, x: m.head(
                m.layer(x + torch.randn(50, D, generator=seeded())[: x.shape[1]])
            ).mean(1),
            layer=encoder(batch_first=True),
        ),
        sequences,
    ),
    "similarity of samples, batch first": (
        lambda: Net(lambda m, x: F.normalize(m.head(x), dim=1) @ F.normalize(m.head(x), dim=1).T),
        vectors,
    ),
    "as many classes as samples": (
        lambda: Net(lambda m, x: x @ m.head.weight.T @ m.head.weight @ torch.eye(D)[:, :5]),
        vectors,
    ),
    "one sequence, batch of one": (
        lambda: Net(lambda m, x: m.head(m.layer(x[:, None])[0][:, 0]), layer=lstm()),
        vectors,
    ),
    "one sequence without a batch": (
        lambda: Net(lambda m, x: m.head(m.layer(x)[0]), layer=lstm()),
        vectors,
    ),
    "tagger of one sentence": (
        lambda: Net(
            lambda m, x: m.head(m.layer(m.embed(x).view(len(x), 1, -1))[0].view(len(x), -1)),
            layer=lstm(),
            embed=nn.Embedding(20, D),
        ),
        lambda: torch.randint(0, 20, (B,)),
    ),
    "one bag of instances": (lambda: Net(lambda m, x: m.head(x.mean(0, keepdim=True))), vectors),
    "graph with its matrix": (
        lambda: Net(lambda m, x, a: m.head(a @ x)),
        lambda: (torch.randn(B, D), torch.rand(B, B)),
    ),
    "graph with its edges": (
        lambda: Net(lambda m, x, e: m.head(x.index_add(0, e[1], x[e[0]]))),
        lambda: (torch.randn(B, D), torch.randint(0, B, (2, 30))),
    ),
    "windows of an image": (
        lambda: Net(
            lambda m, x: m.head(
                m.layer(x.view(-1, 4, 2, 4, 2, D).transpose(2, 3).reshape(-1, 4, D))
                .view(-1, 4, 4, 4, D)
                .mean((1, 2, 3))
            ),
            layer=encoder(batch_first=True),
        ),
        lambda: torch.randn(B, 8, 8, D),
    ),
    "experts of limited capacity": (
        lambda: Net(
            lambda m, x: m.layer(x),
            layer=type("Experts", (nn.Linear,), {"forward": limited_experts})(D, K),
        ),
        vectors,
    ),
    "similarity within the batch": (
        lambda: Net(lambda m, x: m.head(x) @ m.head(x).T),
        vectors,
    ),
}


def limited_experts(layer, x):
    """The sixth sample and later ones are dropped, whichever the first ones leave."""
    chosen = x[:, 0] > 0
    return F.linear(x * (chosen & (chosen.cumsum(0) <= 1))[:, None] + x / 2, layer.weight)


@pytest.mark.parametrize("name", SOUND)
def test_sound_models_and_those_without_a_batch_are_passed_over(name):
    torch.manual_seed(0)
    build, inputs = SOUND[name]
    diagnosis = diagnose(run(build(), inputs(), loss_of=lambda out: out.square().mean()))
    findings = {f.rule: f.severity for f in diagnosis.findings}
    assert findings.get("samples-mixed-in-batch", "note") == "note"


def test_arguments_in_a_dict_are_taken_apart():
    torch.manual_seed(0)
    model = Net(lambda m, batch, scale: m.head(batch["x"]).log_softmax(0) * scale)
    history = run(model, ({"x": vectors(), "mask": torch.ones(B, 3)},), keywords={"scale": 2.0})
    assert history.last(BATCH_MIXING) > 0.02


def test_weights_and_random_state_are_untouched():
    torch.manual_seed(0)
    model, inputs = Net(last_step, layer=lstm(dropout=0.0)), sequences()
    before = [weight.clone() for weight in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    watcher = watch(model, optimizer)
    loss = model(inputs).square().mean()
    loss.backward()
    optimizer.step()
    state = torch.get_rng_state()
    watcher.step(loss)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


NOISY = {
    "F.dropout": lambda m, x: m.head(F.dropout(x, 0.5)),
    "a dropout made in forward": lambda m, x: m.head(nn.Dropout(0.3)(x)),
    "attention": lambda m, x: m.head(F.scaled_dot_product_attention(x, x, x, dropout_p=0.4)),
}
QUIET = {
    "F.dropout with the mode": lambda m, x: m.head(F.dropout(x, 0.5, training=m.training)),
    "a dropout module": lambda m, x: m.head(m.drop(x)),
    "attention": lambda m, x: m.head(F.scaled_dot_product_attention(x, x, x)),
    "a sampled latent": lambda m, x: m.head(x + torch.randn_like(x)),
}


@pytest.mark.parametrize("name", NOISY)
def test_dropout_in_eval_mode_is_named(name):
    torch.manual_seed(0)
    history = run(Net(NOISY[name]), sequences())
    assert history.last(EVAL_NOISE) > 0.01
    assert "dropout-in-eval-mode" in {f.rule for f in diagnose(history).findings}


@pytest.mark.parametrize("name", QUIET)
def test_dropout_that_follows_the_mode_passes(name):
    torch.manual_seed(0)
    history = run(Net(QUIET[name], drop=nn.Dropout(0.5)), sequences())
    assert "dropout-in-eval-mode" in diagnose(history).passed


class Autoencoder(nn.Module):
    """A variational autoencoder whose decoder uses its latents, or not."""

    def __init__(self, uses):
        super().__init__()
        self.encode, self.decode, self.uses = nn.Linear(D, 4), nn.Linear(2, D), uses

    def forward(self, x):
        mean, log_std = self.encode(x).chunk(2, 1)
        z = mean + (log_std - 3).exp() * torch.randn_like(mean)
        return self.decode(z * self.uses).sigmoid(), mean


@pytest.mark.parametrize(("uses", "collapsed"), [(1e-3, True), (1.0, False)])
def test_an_autoencoder_that_ignores_its_latents_is_named(uses, collapsed):
    torch.manual_seed(0)
    model = Autoencoder(uses)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    watcher = watch(model, optimizer)
    basis = torch.rand(2, D)
    for _ in range(400):
        x = torch.rand(B, 2).softmax(1) @ basis
        x = x + 0.1 * torch.rand(B, D)
        output, mean = model(x)
        loss = F.mse_loss(output, x) + 1e-4 * mean.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
    watcher.close()
    findings = {f.rule for f in diagnose(watcher.history).findings}
    assert ("output-ignores-inputs" in findings) == collapsed


@pytest.mark.parametrize(("shift", "constant"), [(-50.0, True), (0.0, False)])
def test_a_constant_output_is_named_late(shift, constant):
    """Dead units in front of the head: it learns the mean alone."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(D, D), nn.ReLU(), nn.Linear(D, 1))
    with torch.no_grad():
        model[0].bias += shift
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    watcher = watch(model, optimizer)
    for _ in range(150):
        x = vectors()
        loss = F.mse_loss(model(x), x[:, :1] + 3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
    watcher.close()
    findings = {f.rule for f in diagnose(watcher.history).findings}
    assert ("output-ignores-inputs" in findings) == constant


class Language(nn.Module):
    """Next token by an LSTM over the second dimension, or, by mistake, over the first."""

    def __init__(self, batch_first):
        super().__init__()
        self.embed, self.head = nn.Embedding(20, D), nn.Linear(D, 20)
        self.layer = nn.LSTM(D, D, batch_first=batch_first)

    def forward(self, x):
        return self.head(self.layer(self.embed(x))[0])


@pytest.mark.parametrize("batch_first", [False, True])
def test_the_time_of_a_language_model_is_where_its_targets_are_the_next_tokens(batch_first):
    torch.manual_seed(0)
    model = Language(batch_first)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    watcher = watch(model, optimizer)
    for _ in range(2):
        text = torch.randint(0, 20, (B, T + 1))
        loss = F.cross_entropy(model(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        watcher.step(loss)
    named = [one.rule for one in diagnose(watcher.history).causes]
    assert ("samples-mixed-in-batch" in named) is not batch_first


class Graph(nn.Module):
    """Node classes by two products with the neighbours, and dropout between."""

    def __init__(self, always):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(D, D), nn.Linear(D, K)])
        self.always = always

    def forward(self, nodes, neighbours):
        hidden = torch.relu(neighbours @ self.layers[0](nodes))
        hidden = F.dropout(hidden, 0.5, training=self.always or self.training)
        return neighbours @ self.layers[1](hidden)


@pytest.mark.parametrize("always", [True, False])
def test_dropout_in_eval_mode_is_named_of_a_graph_too(always):
    torch.manual_seed(0)
    model, neighbours = Graph(always), torch.rand(B, B).softmax(1)
    history = run_graph(model, vectors(), neighbours)
    named = [one.rule for one in diagnose(history).causes]
    assert ("dropout-in-eval-mode" in named) is always
    assert BATCH_MIXING not in history


def run_graph(model, nodes, neighbours):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    watcher = watch(model, optimizer)
    loss = F.cross_entropy(model(nodes, neighbours), torch.arange(B) % K)
    loss.backward()
    optimizer.step()
    watcher.step(loss)
    return watcher.history


def test_one_number_a_sample_is_compared():
    model = Net(lambda m, x: m.head(x)[:, 0])
    history = run(model, vectors(), loss_of=lambda output: output.square().mean())
    assert history.last(BATCH_MIXING) == 0


def test_a_model_that_writes_into_its_inputs_does_not_reach_the_batch():
    def forward(m, nodes, neighbours):
        return neighbours @ m.head(nodes.mul_(2.0) if not m.training else nodes)

    nodes, neighbours = vectors(), torch.rand(B, B)
    before = nodes.clone()
    run_graph(Net(forward), nodes, neighbours)
    assert torch.equal(nodes, before)


def packed(m, x, lengths):
    """The last state of a GRU over sequences that must come sorted by their lengths."""
    sequences = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
    return m.head(m.layer(sequences)[1][-1])


def tagged(m, x, lengths):
    sequences = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
    output = nn.utils.rnn.pad_packed_sequence(m.layer(sequences)[0], batch_first=True)[0]
    return m.head(output).mean(1)


def in_one_order_alone(m, x, lengths):
    if not torch.equal(lengths, torch.tensor([6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1])[: len(x)]):
        raise RuntimeError("unknown lengths")
    return packed(m, x, lengths)


def sorted_sequences():
    return sequences(), torch.tensor([6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1])


@pytest.mark.parametrize("call", [packed, tagged])
def test_sequences_in_the_order_of_their_lengths_are_measured(call):
    torch.manual_seed(0)
    history = run(Net(call, layer=nn.GRU(D, D, batch_first=True)), sorted_sequences())
    assert history.last(BATCH_MIXING) == 0
    assert INSTRUMENT_FAILED not in history


@pytest.mark.parametrize("of_few", [True, False])
def test_what_mixes_sorted_sequences_is_named(of_few):
    torch.manual_seed(0)

    def call(m, x, lengths):
        output = packed(m, x, lengths)
        return output.softmax(0) if of_few else output - output.mean(0)

    model = Net(call, layer=nn.GRU(D, D, batch_first=True))
    inputs, lengths = sorted_sequences()
    history = run(model, (inputs[:3], lengths[:3] - 1) if of_few else (inputs, lengths))
    assert history.last(BATCH_MIXING) > 0.02
    assert next(iter(history.by_place(MIXING_OPERATION))).startswith(
        "softmax" if of_few else "statistic"
    )


def test_a_model_of_its_own_batch_alone_is_not_checked():
    torch.manual_seed(0)
    model = Net(in_one_order_alone, layer=nn.GRU(D, D, batch_first=True))
    history = run(model, sorted_sequences())
    assert INSTRUMENT_FAILED not in history
    assert any("batch but its own" in place for place in history.by_place(NOT_MEASURED))
    assert "samples-mixed-in-batch" in diagnose(history).not_checked


@pytest.mark.parametrize(("lowest", "named"), [(-1.0, True), (0.0, False)])
def test_a_reconstruction_of_inputs_below_zero_needs_no_binary_entropy(lowest, named):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 6), nn.Tanh(), nn.Linear(6, 12))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    watcher = watch(model, optimizer)
    for _ in range(6):
        pictures = (torch.rand(16, 12) > 0.5).float() * (1 - lowest) + lowest
        terms = F.binary_cross_entropy_with_logits(model(pictures), pictures, reduction="sum") / 16
        loss = terms + 0.01 * model.get_parameter("0.weight").square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
    findings = {one.rule: one.summary for one in diagnose(watcher.history).findings}
    assert ("not between 0 and 1" in findings.get("loss-does-not-fit-task", "")) == named
