"""Targets that are inputs, and outputs that see later tokens, in faulty models of tokens alone."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg.diagnosis import diagnose
from thalweg.observe import watch
from thalweg.record.quantities import TARGET_IS_INPUT, VISIBLE_TOKENS

B, T, D, V = 6, 16, 16, 24


class Attention(nn.Module):
    """A model of tokens with attention by hand, or with PyTorch's encoder layer."""

    def __init__(self, *, causal=True, layer=False, prefix=0, inner_shift=False, time_first=False):
        super().__init__()
        self.embed, self.head = nn.Embedding(V, D), nn.Linear(D, V)
        self.place = nn.Embedding(64, D)
        self.mix = nn.ModuleList(nn.Linear(D, D) for _ in range(3))
        self.layer = nn.TransformerEncoderLayer(D, 2, 32, dropout=0.0, batch_first=True)
        self.causal, self.uses_layer, self.prefix = causal, layer, prefix
        self.inner_shift, self.time_first = inner_shift, time_first

    def forward(self, tokens):
        tokens = tokens.T if self.time_first else tokens
        if self.inner_shift:
            tokens = F.pad(tokens[:, :-1], (1, 0))
        length = tokens.shape[1]
        h = self.embed(tokens) + self.place(torch.arange(length))
        hidden = torch.ones(length, length, dtype=torch.bool).triu(1)
        hidden[:, : self.prefix] = False
        hidden &= self.causal
        if self.uses_layer:
            h = self.layer(h, src_mask=hidden)
        else:
            q, k, v = (one(h) for one in self.mix)
            h = h + (q @ k.mT).masked_fill(hidden, -1e9).softmax(-1) @ v
        logits = self.head(h)
        return logits.transpose(0, 1) if self.time_first else logits


class Recurrent(nn.Module):
    def __init__(self, *, bidirectional=False):
        super().__init__()
        self.embed = nn.Embedding(V, D)
        self.rnn = nn.GRU(D, D, batch_first=True, bidirectional=bidirectional)
        self.head = nn.Linear(D * (1 + bidirectional), V)

    def forward(self, tokens):
        return self.head(self.rnn(self.embed(tokens))[0])


class Convolutional(nn.Module):
    def __init__(self, *, causal=True):
        super().__init__()
        self.embed, self.head = nn.Embedding(V, D), nn.Linear(D, V)
        self.conv, self.causal = nn.Conv1d(D, D, 3), causal

    def forward(self, tokens):
        h = F.pad(self.embed(tokens).mT, (2, 0) if self.causal else (1, 1))
        return self.head(self.conv(h).relu().mT)


class Dilated(nn.Module):
    """Dilated convolutions over tokens, one-hot codes or values: [batch, class, time]."""

    def __init__(self, *, causal=True, inputs=0, outputs=V):
        super().__init__()
        self.first = nn.Conv1d(inputs, D, 1) if inputs else nn.Embedding(V, D)
        self.layers = nn.ModuleList(nn.Conv1d(D, D, 3, dilation=d) for d in (1, 2))
        self.head, self.causal = nn.Conv1d(D, outputs, 1), causal

    def forward(self, x):
        h = self.first(x) if x.is_floating_point() else self.first(x).mT
        for conv in self.layers:
            assert isinstance(conv, nn.Conv1d)
            reach = conv.dilation[0]
            h = h + conv(F.pad(h, (2 * reach, 0) if self.causal else (reach, reach))).tanh()
        return self.head(h)


class RowsOfTokens(nn.Module):
    """Returns one row of logits for each token, as a model that flattens them itself."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, tokens):
        return self.body(tokens).flatten(0, 1)


class Forecast(nn.Module):
    """A recurrent network over values [batch, time, feature]."""

    def __init__(self, *, bidirectional=False, inputs=2, outputs=2):
        super().__init__()
        self.rnn = nn.GRU(inputs, D, batch_first=True, bidirectional=bidirectional)
        self.head = nn.Linear(D * (1 + bidirectional), outputs)

    def forward(self, values):
        return self.head(self.rnn(values)[0])


class Translator(nn.Module):
    """Encoder and decoder, called with both."""

    def __init__(self, *, causal=True):
        super().__init__()
        self.embed, self.head, self.causal = nn.Embedding(V, D), nn.Linear(D, V), causal
        self.body = nn.Transformer(D, 2, 1, 1, 32, dropout=0.0, batch_first=True)

    def forward(self, source, decoder):
        length = decoder.shape[1]
        mask = torch.ones(length, length, dtype=torch.bool).triu(1) & self.causal
        embedded = self.embed(source), self.embed(decoder) + self.embed.weight[:length].cumsum(0)
        return self.head(self.body(*embedded, tgt_mask=mask))


class OwnLoss(nn.Module):
    """Shifts the labels itself, as Hugging Face's models do."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, input_ids, labels):
        logits = self.body(input_ids)
        return cross_entropy(logits[:, :-1], labels[:, 1:]), logits


class Autoencoder(nn.Module):
    """The first hidden state of a decoder is all that it knows of the tokens."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(V, D), nn.Linear(D, V)
        self.encode, self.decode = (nn.GRU(D, D, batch_first=True) for _ in range(2))

    def forward(self, tokens):
        h = self.embed(tokens)
        return self.head(self.decode(torch.zeros_like(h), self.encode(h)[1])[0])


def cross_entropy(logits, targets):
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def next_token(model, x):
    return cross_entropy(model(x[:, :-1]), x[:, 1:])


def same_place(model, x):
    return cross_entropy(model(x), x)


def time_first(model, x):
    return cross_entropy(model(x[:, :-1].T), x[:, 1:].T)


def labels_as_they_are(model, x):
    return model(input_ids=x, labels=x)[0]


def labels_shifted_too(model, x):
    return model(input_ids=x[:, :-1], labels=x[:, 1:])[0]


def smoothed(model, x):
    logits = model(x[:, :-1]).flatten(0, 1)
    return F.cross_entropy(logits, x[:, 1:].flatten(), label_smoothing=0.1)


def masked(model, x):
    hidden = torch.rand(x.shape) < 0.3
    targets = torch.where(hidden, x, -100)
    return cross_entropy(model(torch.where(hidden, V - 1, x)), targets)


def denoising(model, x):
    return cross_entropy(model(torch.where(torch.rand(x.shape) < 0.2, V - 1, x)), x)


def answers_alone(model, x):
    targets = x[:, 1:].clone()
    targets[:, :7] = -100
    return cross_entropy(model(x[:, :-1]), targets)


def tagging(model, x):
    return cross_entropy(model(x), (x + x.roll(1, 1)) % V)


def classes_second(model, x):
    return F.cross_entropy(model(x[:, :-1]), x[:, 1:])


def one_hot(model, x):
    return F.cross_entropy(model(F.one_hot(x, V).float().mT[..., :-1]), x[:, 1:])


def rows_of_tokens(model, x):
    return F.cross_entropy(model(x[:, :-1]), x[:, 1:].flatten())


def tagging_classes_second(model, x):
    return F.cross_entropy(model(x), (x + x.roll(1, 1)) % V)


def ctc(model, x):
    lengths = torch.full((2, B), T) // torch.tensor([[1], [4]])
    scores = model(x).permute(2, 0, 1).log_softmax(-1)
    return F.ctc_loss(scores, x[:, : T // 4], *lengths)


def walks(x, features=1):
    """Values [batch, feature, time] in place of the tokens."""
    return torch.randn(len(x), features, x.shape[1]).cumsum(-1)


def next_value(model, x):
    series = walks(x)
    return F.mse_loss(model(series[..., :-1]), series[..., 1:])


def next_values(model, x):
    series = walks(x, 2).mT
    return F.mse_loss(model(series[:, :-1]), series[:, 1:])


def next_of_one_feature(model, x):
    series = walks(x, 2).mT
    return ((model(series[:, :-1])[..., 0] - series[:, 1:, 1]) ** 2).sum() / len(x)


def values_without_noise(model, x):
    series = walks(x)
    return F.mse_loss(model(series + torch.randn_like(series)), series)


def same_values(model, x):
    series = walks(x)
    return F.mse_loss(model(series), series)


def later_values(model, x):
    series = torch.randn(len(x), 1, 2 * x.shape[1]).cumsum(-1)
    first, second = series.chunk(2, -1)
    return F.mse_loss(model(first), second)


def shifted_target(x):
    return (x * 7 + 3) % (V - 1)


def teacher_forced(model, x):
    y = shifted_target(x)
    return cross_entropy(model(x, y[:, :-1]), y[:, 1:])


def fed_its_targets(model, x):
    y = shifted_target(x)
    return cross_entropy(model(x, y), y)


def copying(model, x):
    return cross_entropy(model(x, x[:, :-1]), x[:, 1:])


def run(model, loss_of, steps=3):
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    watcher = watch(model, optimizer)
    for _ in range(steps):
        loss = loss_of(model, torch.randint(1, V - 1, (B, T)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
    watcher.flush()
    return watcher.history


RULES = ("missing-causal-mask", "targets-not-shifted", "targets-shifted-twice")
FAULTY: dict[str, Any] = {
    "attention without a mask": (lambda: Attention(causal=False), next_token, 0),
    "encoder without a mask": (lambda: Attention(causal=False, layer=True), next_token, 0),
    "both directions": (lambda: Recurrent(bidirectional=True), next_token, 0),
    "convolution padded on both sides": (lambda: Convolutional(causal=False), next_token, 0),
    "time first": (lambda: Attention(causal=False, time_first=True), time_first, 0),
    "classes second": (lambda: Dilated(causal=False), classes_second, 0),
    "one-hot inputs": (lambda: Dilated(causal=False, inputs=V), one_hot, 0),
    "rows": (lambda: RowsOfTokens(Recurrent(bidirectional=True)), rows_of_tokens, 0),
    "values": (lambda: Dilated(causal=False, inputs=1, outputs=1), next_value, 0),
    "values, both directions": (lambda: Forecast(bidirectional=True), next_values, 0),
    "one feature": (
        lambda: Forecast(bidirectional=True, outputs=1),
        next_of_one_feature,
        0,
    ),
    "smoothed labels": (lambda: Attention(causal=False), smoothed, 0),
    "a model with its own loss": (lambda: OwnLoss(Attention(causal=False)), labels_as_they_are, 0),
    "decoder without a mask": (lambda: Translator(causal=False), teacher_forced, 0),
    "attention on its targets": (Attention, same_place, 1),
    "recurrent on its targets": (Recurrent, same_place, 1),
    "convolution on its targets": (Convolutional, same_place, 1),
    "decoder fed its targets": (Translator, fed_its_targets, 1),
    "shifted by data and model": (lambda: OwnLoss(Attention()), labels_shifted_too, 2),
    "shifted by two": (Recurrent, lambda m, x: cross_entropy(m(x[:, :-2]), x[:, 2:]), 2),
    "shifted by two, time first": (
        lambda: Attention(time_first=True),
        lambda m, x: cross_entropy(m(x[:, :-2].T), x[:, 2:].T),
        2,
    ),
}


@pytest.mark.parametrize("name", FAULTY)
def test_the_order_of_tokens_and_targets_is_named(name):
    torch.manual_seed(0)
    build, loss_of, rule = FAULTY[name]
    diagnosis = diagnose(run(build(), loss_of))
    assert [f.rule for f in diagnosis.findings if f.rule in RULES] == [RULES[rule]]


SOUND: dict[str, Any] = {
    "attention": (Attention, next_token),
    "encoder": (lambda: Attention(layer=True), next_token),
    "recurrent": (Recurrent, next_token),
    "convolution": (Convolutional, next_token),
    "time first": (lambda: Attention(time_first=True), time_first),
    "classes second": (Dilated, classes_second),
    "one-hot inputs": (lambda: Dilated(inputs=V), one_hot),
    "rows": (lambda: RowsOfTokens(Recurrent()), rows_of_tokens),
    "tagging, classes second": (lambda: Dilated(causal=False), tagging_classes_second),
    "speech": (lambda: Dilated(causal=False), ctc),
    "values": (lambda: Dilated(inputs=1, outputs=1), next_value),
    "values, recurrent": (Forecast, next_values),
    "values of an autoencoder": (lambda: Dilated(inputs=1, outputs=1, causal=False), same_values),
    "values of a causal autoencoder": (lambda: Dilated(inputs=1, outputs=1), same_values),
    "values without noise": (
        lambda: Dilated(inputs=1, outputs=1, causal=False),
        values_without_noise,
    ),
    "later values": (lambda: Dilated(inputs=1, outputs=1, causal=False), later_values),
    "a model with its own loss": (lambda: OwnLoss(Attention()), labels_as_they_are),
    "inputs shifted by the model": (lambda: Attention(inner_shift=True), same_place),
    "prefix": (lambda: Attention(prefix=8), answers_alone),
    "answers alone": (Attention, answers_alone),
    "masked": (lambda: Attention(causal=False), masked),
    "denoising": (lambda: Attention(causal=False), denoising),
    "autoencoder": (Autoencoder, same_place),
    "attention over its own targets": (lambda: Attention(causal=False), same_place),
    "tagging": (lambda: Recurrent(bidirectional=True), tagging),
    "translation": (Translator, teacher_forced),
    "copying": (Translator, copying),
}


@pytest.mark.parametrize("name", SOUND)
def test_sound_models_of_tokens_pass(name):
    torch.manual_seed(0)
    build, loss_of = SOUND[name]
    diagnosis = diagnose(run(build(), loss_of))
    assert not [f.rule for f in diagnosis.findings if f.rule in RULES]


def test_what_is_measured_of_a_sound_model():
    history = run(Attention(), next_token)
    assert {k: history.last(TARGET_IS_INPUT, k) for k in ("-1", "0", "1", "2")} == pytest.approx(
        {"-1": 0.0, "0": 0.0, "1": 1.0, "2": 0.0}
    )
    assert history.last(VISIBLE_TOKENS, "later") == 0
    assert history.last(VISIBLE_TOKENS, "same") > 0.02


@pytest.mark.parametrize("second", [False, True], ids=["classes last", "classes second"])
def test_a_large_vocabulary_is_read_at_some_places(second):
    """The logits are far beyond what the watcher keeps."""
    torch.manual_seed(0)
    model = Dilated(causal=False) if second else Attention(causal=False)
    head = nn.Conv1d(D, 30_000, 1) if second else nn.Linear(D, 30_000)
    embedding = nn.Embedding(30_000, D)
    if second:
        model.first, model.head = embedding, head
    else:
        model.embed, model.head = embedding, head
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    watcher = watch(model, optimizer)
    tokens = torch.randint(0, 30_000, (4, 64))
    loss = (classes_second if second else next_token)(model, tokens)
    loss.backward()
    optimizer.step()
    watcher.step(loss)
    watcher.flush()
    assert watcher.history.last(TARGET_IS_INPUT, "1") == 1
    assert watcher.history.last(VISIBLE_TOKENS, "later") > 0.02


class CastOutputs(nn.Module):
    """Computes its loss from half-precision logits, and returns them cast, as under accelerate."""

    def __init__(self, *, shift):
        super().__init__()
        self.body, self.shift = Recurrent(), shift

    def forward(self, tokens):
        with torch.autocast("cpu", torch.bfloat16):
            logits = self.body(tokens)
        kept = logits[:, : -self.shift].float().flatten(0, 1)
        loss = F.cross_entropy(kept, tokens[:, self.shift :].flatten())
        return {"loss": loss, "logits": logits.float()}


@pytest.mark.parametrize("shift", [1, 2])
def test_a_loss_of_half_precision_outputs_that_are_cast_later_shows_its_targets(shift):
    torch.manual_seed(0)
    model = CastOutputs(shift=shift)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watcher = watch(model, optimizer)
    for _ in range(3):
        loss = model(torch.randint(0, V, (B, T)))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
    watcher.close()
    share = watcher.history.series(TARGET_IS_INPUT, str(shift))
    assert share
    assert share[max(share)] == 1
