"""Sound hand-written loops of many kinds: any warning about them is a false alarm.

Each is what a stranger would write, with the two lines in it; none was written with a rule in mind.
Every function trains something and returns the watcher's diagnosis.
"""

import math
from copy import deepcopy

import torch
from faults.programs import cnn, diabetes, digits, mlp, split
from sklearn.datasets import load_breast_cancer, load_wine, make_moons
from torch import nn
from torch.nn import functional as F
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

from thalweg.diagnosis import diagnose
from thalweg.observe import watch


def loader(*tensors, batch=32, shuffle=True):
    return DataLoader(TensorDataset(*tensors), batch, shuffle=shuffle)


def fit(model, optimizer, batches, loss_of, *, epochs, after=None, validate=None, **told):
    """A plain loop: `loss_of(model, *batch)` is the loss; told goes to `watch`."""
    watcher = watch(model, optimizer, diagnose=diagnose, **told)
    for _ in range(epochs):
        model.train()
        for batch in batches:
            loss = loss_of(model, *batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if after:
                after()
            watcher.step(loss)
        if validate:
            model.eval()
            with torch.no_grad():
                watcher.log(**validate())
    return watcher.diagnose()


def scored(model, val, loss_fn=F.cross_entropy):
    """A validation that logs the loss and the accuracy."""

    def validate():
        logits = model(val[0])
        right = float((logits.argmax(1) == val[1]).float().mean())
        return {"val_loss": loss_fn(logits, val[1]), "val_accuracy": right}

    return validate


TEXT = """Beautiful is better than ugly. Explicit is better than implicit. Simple is better than
complex. Complex is better than complicated. Flat is better than nested. Sparse is better than
dense. Readability counts. Special cases aren't special enough to break the rules. Although
practicality beats purity. Errors should never pass silently. Unless explicitly silenced. In the
face of ambiguity, refuse the temptation to guess. There should be one, and preferably only one,
obvious way to do it. Now is better than never. If the implementation is hard to explain, it's a
bad idea. If the implementation is easy to explain, it may be a good idea. """


def characters():
    letters = sorted(set(TEXT))
    return torch.tensor([letters.index(letter) for letter in TEXT]), len(letters)


class CharacterModel(nn.Module):
    def __init__(self, kinds):
        super().__init__()
        self.embed = nn.Embedding(kinds, 24)
        self.lstm = nn.LSTM(24, 64, batch_first=True)
        self.head = nn.Linear(64, kinds)

    def forward(self, tokens):
        return self.head(self.lstm(self.embed(tokens))[0])


def language_loss(model, tokens):
    logits = model(tokens[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def rnn_language_model():
    text, kinds = characters()
    windows = text.unfold(0, 33, 3)
    model = CharacterModel(kinds)
    optimizer = torch.optim.Adam(model.parameters(), 4e-3)
    return fit(model, optimizer, loader(windows), language_loss, epochs=30)


class TiedTransformer(nn.Module):
    def __init__(self, kinds, dim=32):
        super().__init__()
        self.embed = nn.Embedding(kinds, dim)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.position = nn.Embedding(32, dim)
        layer = nn.TransformerEncoderLayer(dim, 4, 64, 0.1, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens):
        length = tokens.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        x = self.embed(tokens) + self.position(torch.arange(length))
        return self.norm(self.blocks(x, mask=mask, is_causal=True)) @ self.embed.weight.T


def tied_transformer_with_warmup():
    text, kinds = characters()
    model = TiedTransformer(kinds)
    optimizer = torch.optim.AdamW(model.parameters(), 4e-3, betas=(0.9, 0.95), weight_decay=0.1)
    scheduler = lr_scheduler.LambdaLR(optimizer, lambda k: min((k + 1) / 40, (40 / (k + 1)) ** 0.5))
    batches = loader(text.unfold(0, 33, 3))
    return fit(model, optimizer, batches, language_loss, epochs=24, after=scheduler.step)


def autoencoder():
    inputs = digits()[0]
    model = nn.Sequential(
        nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8), nn.Linear(8, 64), nn.ReLU(),
        nn.Linear(64, 64),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    batches = loader(inputs, inputs)
    told = {"train": batches, "loss_fn": F.mse_loss}
    return fit(model, optimizer, batches, lambda m, x, y: F.mse_loss(m(x), y), epochs=20, **told)


class Variational(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
        self.decode = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.Sigmoid())

    def forward(self, x):
        mean, log_variance = self.encode(x).chunk(2, 1)
        z = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        return self.decode(z), mean, log_variance


def variational_autoencoder():
    inputs = digits()[0]
    inputs = (inputs - inputs.min()) / (inputs.max() - inputs.min())
    model = Variational()

    def evidence(model, x):
        again, mean, log_variance = model(x)
        rebuilt = F.binary_cross_entropy(again, x, reduction="sum")
        return rebuilt - 0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum()

    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    return fit(model, optimizer, loader(inputs, batch=64), evidence, epochs=20)


def contrastive():
    inputs = digits()[0]
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 32))

    def pairs(model, x):
        views = torch.cat([x + 0.3 * torch.randn_like(x), x + 0.3 * torch.randn_like(x)])
        z = F.normalize(model(views), dim=1)
        similar = z @ z.T / 0.2
        similar.fill_diagonal_(-1e9)
        count = len(x)
        return F.cross_entropy(similar, torch.arange(2 * count).roll(count))

    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    return fit(model, optimizer, loader(inputs, batch=128), pairs, epochs=20)


def triplets():
    inputs, targets = digits()
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
    rows = [inputs[targets == k] for k in range(10)]
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    with watch(model, optimizer, diagnose=diagnose) as watcher:
        for _ in range(400):
            kinds = torch.randint(10, (32,))
            others = (kinds + torch.randint(1, 10, (32,))) % 10

            def draw(kinds):
                return torch.stack([rows[k][torch.randint(len(rows[k]), ())] for k in kinds])

            three = model(draw(kinds)), model(draw(kinds)), model(draw(others))
            loss = F.triplet_margin_loss(*three)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss)
    return watcher.diagnose()


def physics_informed():
    model = nn.Sequential(
        nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1)
    )
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    watcher = watch(model, optimizer, diagnose=diagnose)
    for _ in range(800):
        t = (torch.rand(128, 1) * 2 * math.pi).requires_grad_()
        u = model(t)
        (slope,) = torch.autograd.grad(u.sum(), t, create_graph=True)
        (bend,) = torch.autograd.grad(slope.sum(), t, create_graph=True)
        zero = torch.zeros(1, 1, requires_grad=True)
        start = model(zero)
        (speed,) = torch.autograd.grad(start.sum(), zero, create_graph=True)
        loss = (bend + u).square().mean() + start.square().mean() + (speed - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
    return watcher.diagnose()


def focal_loss():
    (x, y), val = split(digits())
    targets = (y == 3).float()[:, None]
    model = mlp(64, 1)

    def focal(logits, wanted):
        entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        return (0.5 * (1 - (-entropy).exp()) ** 2 * entropy).mean()

    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    batches = loader(x, targets)
    held = loader(val[0], (val[1] == 3).float()[:, None])
    told = {"train": batches, "val": held, "loss_fn": focal}
    return fit(model, optimizer, batches, lambda m, x, t: focal(m(x), t), epochs=12, **told)


class LowRank(nn.Module):
    """A frozen linear layer and a trained update of rank 4 that starts at zero."""

    def __init__(self, base):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(4, base.in_features) / base.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(base.out_features, 4))

    def forward(self, x):
        return self.base(x) + x @ self.down.T @ self.up.T


def trained_on_half():
    (x, y), _ = split(digits())
    kept = y < 5
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(12):
        for inputs, targets in loader(x[kept], y[kept]):
            optimizer.zero_grad()
            F.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
    return model


def low_rank_adaptation():
    (x, y), val = split(digits())
    model = trained_on_half()
    for index in (0, 3, 5):
        model[index] = LowRank(model[index])
    trainable = [w for w in model.parameters() if w.requires_grad]
    optimizer = torch.optim.AdamW(trainable, 5e-3)
    batches = loader(x, y)
    told = {"train": batches, "val": loader(*val), "num_classes": 10}
    return fit(
        model, optimizer, batches, lambda m, x, t: F.cross_entropy(m(x), t), epochs=15,
        validate=scored(model, val), **told,
    )  # fmt: skip


def averaged_weights():
    (x, y), val = split(digits())
    model = cnn()
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.98), use_buffers=True
    )
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    batches = loader(x, y)

    def validate():
        average.eval()
        logits = average(val[0])
        right = float((logits.argmax(1) == val[1]).float().mean())
        return {"val_loss": F.cross_entropy(logits, val[1]), "val_accuracy": right}

    return fit(
        model, optimizer, batches, lambda m, x, t: F.cross_entropy(m(x), t), epochs=10,
        after=lambda: average.update_parameters(model), validate=validate,
        train=batches, val=loader(*val), num_classes=10,
    )  # fmt: skip


def stochastic_averaging():
    """Cosine to a high constant rate, an average of the tail, its batch norms renewed."""
    (x, y), val = split(digits())
    model, batches = cnn(), loader(x, y)
    average = torch.optim.swa_utils.AveragedModel(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    scheduler = torch.optim.swa_utils.SWALR(optimizer, swa_lr=0.05, anneal_epochs=3)
    watcher = watch(model, optimizer, diagnose=diagnose, train=batches, num_classes=10)
    for epoch in range(12):
        model.train()
        for inputs, targets in batches:
            loss = F.cross_entropy(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss)
        if epoch >= 6:
            average.update_parameters(model)
            scheduler.step()
    torch.optim.swa_utils.update_bn(batches, average)
    average.eval()
    with torch.no_grad():
        watcher.log(val_accuracy=(average(val[0]).argmax(1) == val[1]).float().mean())
    return watcher.diagnose()


def cyclical_rates():
    (x, y), val = split(digits())
    model, batches = mlp(), loader(x, y)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    scheduler = lr_scheduler.CyclicLR(optimizer, 0.004, 0.08, step_size_up=88)
    return fit(
        model, optimizer, batches, lambda m, x, t: F.cross_entropy(m(x), t), epochs=13,
        after=scheduler.step, validate=scored(model, val), train=batches, val=loader(*val),
        num_classes=10,
    )  # fmt: skip


def one_cycle_superconvergence():
    (x, y), val = split(digits())
    model, batches = cnn(), loader(x, y, batch=64)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, nesterov=True)
    scheduler = lr_scheduler.OneCycleLR(optimizer, 0.8, total_steps=22 * 8)
    return fit(
        model, optimizer, batches, lambda m, x, t: F.cross_entropy(m(x), t), epochs=8,
        after=scheduler.step, validate=scored(model, val), train=batches, val=loader(*val),
        num_classes=10,
    )  # fmt: skip


def second_order_closure():
    (x, y), val = split(diabetes(), 110)
    model = nn.Sequential(nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.3, max_iter=5, history_size=10)
    watcher = watch(model, optimizer, diagnose=diagnose, loss_fn=F.mse_loss)

    def closure():
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y) + 1e-2 * sum(w.square().sum() for w in model.parameters())
        loss.backward()
        return loss

    for _ in range(40):
        loss = optimizer.step(closure)
        watcher.step(loss)
        with torch.no_grad():
            watcher.log(val_loss=F.mse_loss(model(val[0]), val[1]))
    return watcher.diagnose()


def gradient_penalty():
    """A critic and a generator, five to one, with a penalty on the critic's slope."""
    real = torch.tensor(make_moons(1000, noise=0.05, random_state=0)[0]).float()
    make = nn.Sequential(
        nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2)
    )
    critic = nn.Sequential(nn.Linear(2, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))
    makes = torch.optim.Adam(make.parameters(), 1e-3, betas=(0.0, 0.9))
    judges = torch.optim.Adam(critic.parameters(), 1e-3, betas=(0.0, 0.9))
    watcher = watch(nn.ModuleList([make, critic]), [makes, judges], diagnose=diagnose)
    for _ in range(120):
        for _ in range(5):
            true = real[torch.randint(len(real), (64,))]
            false = make(torch.randn(64, 8)).detach()
            share = torch.rand(64, 1)
            middle = (share * true + (1 - share) * false).requires_grad_()
            (slope,) = torch.autograd.grad(critic(middle).sum(), middle, create_graph=True)
            loss = critic(false).mean() - critic(true).mean()
            loss = loss + 10 * (slope.norm(dim=1) - 1).square().mean()
            judges.zero_grad()
            loss.backward()
            judges.step()
        makes.zero_grad()
        (-critic(make(torch.randn(64, 8))).mean()).backward()
        makes.step()
        watcher.step(loss)
    return watcher.diagnose()


def distillation():
    (x, y), val = split(digits())
    teacher, student, batches = (
        mlp(),
        nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10)),
        loader(x, y),
    )
    optimizer = torch.optim.Adam(teacher.parameters(), 2e-3)
    for _ in range(10):
        for inputs, targets in batches:
            optimizer.zero_grad()
            F.cross_entropy(teacher(inputs), targets).backward()
            optimizer.step()
    teacher.eval()

    def distil(model, inputs, targets):
        logits = model(inputs)
        with torch.no_grad():
            soft = (teacher(inputs) / 4).softmax(1)
        taught = F.kl_div((logits / 4).log_softmax(1), soft, reduction="batchmean") * 16
        return 0.7 * taught + 0.3 * F.cross_entropy(logits, targets)

    optimizer = torch.optim.Adam(student.parameters(), 3e-3)
    return fit(
        student, optimizer, batches, distil, epochs=15, validate=scored(student, val),
        train=batches, val=loader(*val), num_classes=10,
    )  # fmt: skip


def ordinal_regression():
    """Three thresholds of a score, each a binary question."""
    (x, y), val = split(diabetes(), 110)
    edges = torch.tensor([-0.7, 0.0, 0.8])
    targets = (y > edges).float()
    model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 3))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.1)
    loss_fn = F.binary_cross_entropy_with_logits
    batches, held = loader(x, targets), loader(val[0], (val[1] > edges).float())
    told = {"train": batches, "val": held, "loss_fn": loss_fn}
    return fit(model, optimizer, batches, lambda m, x, t: loss_fn(m(x), t), epochs=15, **told)


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 64), nn.ReLU())
        self.kind, self.ink = nn.Linear(64, 10), nn.Linear(64, 1)

    def forward(self, x):
        features = self.body(x)
        return {"kind": self.kind(features), "ink": self.ink(features)}


def two_heads():
    x, y = digits()
    model = TwoHeads()
    ink = x.mean(1, keepdim=True)
    ink = (ink - ink.mean()) / ink.std()

    def both(model, x, y, ink):
        out = model(x)
        return F.cross_entropy(out["kind"], y) + F.mse_loss(out["ink"], ink)

    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    batches = loader(x, y, ink)
    return fit(model, optimizer, batches, both, epochs=10, train=batches, num_classes=10)


class Factors(nn.Module):
    def __init__(self, users, items):
        super().__init__()
        self.users = nn.Embedding(users, 8, sparse=True)
        self.items = nn.Embedding(items, 8, sparse=True)
        nn.init.normal_(self.users.weight, std=0.3)
        nn.init.normal_(self.items.weight, std=0.3)
        self.shift = nn.Linear(1, 1)

    def forward(self, pairs):
        both = (self.users(pairs[:, 0]) * self.items(pairs[:, 1])).sum(1, keepdim=True)
        return self.shift(both).squeeze(1)


def sparse_embeddings():
    taste, trait = torch.randn(200, 3), torch.randn(100, 3)
    pairs = torch.stack([torch.randint(200, (6000,)), torch.randint(100, (6000,))], 1)
    stars = (taste[pairs[:, 0]] * trait[pairs[:, 1]]).sum(1) + 0.2 * torch.randn(6000)
    model = Factors(200, 100)
    tables = torch.optim.SparseAdam([model.users.weight, model.items.weight], 0.02)
    dense = torch.optim.Adam(model.shift.parameters(), 0.01)
    watcher = watch(model, [tables, dense], diagnose=diagnose)
    for _ in range(8):
        for batch, wanted in loader(pairs, stars, batch=64):
            loss = F.mse_loss(model(batch), wanted)
            tables.zero_grad()
            dense.zero_grad()
            loss.backward()
            tables.step()
            dense.step()
            watcher.step(loss)
    return watcher.diagnose()


def word_counts(seed=0):
    draw = torch.Generator().manual_seed(seed)
    topics = torch.rand(4, 3000, generator=draw).pow(8)
    kinds = torch.randint(4, (900,), generator=draw)
    counts = torch.poisson(topics[kinds] * 0.6, generator=draw)
    return counts, kinds


def very_wide_inputs():
    counts, kinds = word_counts()
    model = nn.Sequential(nn.Linear(3000, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 4))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    batches, val = loader(counts[:700].log1p(), kinds[:700]), (counts[700:].log1p(), kinds[700:])
    return fit(
        model, optimizer, batches, lambda m, x, t: F.cross_entropy(m(x), t), epochs=10,
        validate=scored(model, val), train=batches, val=loader(*val), num_classes=4,
    )  # fmt: skip


def missing_indicators():
    x, y = load_breast_cancer(return_X_y=True)
    x, y = torch.tensor(x).float(), torch.tensor(y).float()[:, None]
    x = (x - x.mean(0)) / x.std(0)
    gone = torch.rand(x.shape) < 0.15
    x = torch.cat([x.masked_fill(gone, 0.0), gone.float()], 1)
    model = nn.Sequential(nn.Linear(60, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 1))
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    loss_fn = nn.BCEWithLogitsLoss()
    batches, held = loader(x[:430], y[:430]), loader(x[430:], y[430:])
    return fit(
        model, optimizer, batches, lambda m, x, t: loss_fn(m(x), t), epochs=20,
        train=batches, val=held, loss_fn=loss_fn,
    )  # fmt: skip


def policy_gradient():
    """REINFORCE on a bandit with a context: its loss is not meant to fall."""
    best = torch.randn(4, 5)
    policy = nn.Sequential(nn.Linear(5, 32), nn.Tanh(), nn.Linear(32, 4))
    optimizer = torch.optim.Adam(policy.parameters(), 3e-3)
    watcher, usual = watch(policy, optimizer, diagnose=diagnose), 0.0
    for _ in range(400):
        seen = torch.randn(64, 5)
        choices = torch.distributions.Categorical(logits=policy(seen))
        action = choices.sample()
        reward = (seen * best[action]).sum(1) + 0.1 * torch.randn(64)
        loss = (
            -((reward - usual) * choices.log_prob(action)).mean() - 0.01 * choices.entropy().mean()
        )
        usual = 0.9 * usual + 0.1 * float(reward.mean())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
    return watcher.diagnose()


def value_learning():
    """Q-learning towards a slow copy of the network: the loss follows a moving target."""
    online = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 2))
    slow = deepcopy(online).requires_grad_(False)
    optimizer = torch.optim.Adam(online.parameters(), 1e-3)
    watcher = watch(online, optimizer, diagnose=diagnose, loss_fn=F.smooth_l1_loss)
    for step in range(500):
        now, action = torch.randn(64, 4), torch.randint(2, (64, 1))
        nextly = 0.8 * now + 0.2 * torch.randn(64, 4)
        reward = (now[:, :1] * (2 * action - 1)) + 0.1 * torch.randn(64, 1)
        with torch.no_grad():
            wanted = reward + 0.9 * slow(nextly).max(1, keepdim=True).values
        loss = F.smooth_l1_loss(online(now).gather(1, action), wanted)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(online.parameters(), 10)
        optimizer.step()
        if step % 50 == 49:
            slow.load_state_dict(online.state_dict())
        watcher.step(loss)
    return watcher.diagnose()


def padded_sequences():
    """Sums of digits of different lengths, padded, packed, judged at the last true step."""
    lengths = torch.randint(3, 12, (1500,))
    tokens = torch.randint(1, 6, (1500, 12)) * (torch.arange(12) < lengths[:, None])
    targets = (tokens.sum(1) % 2).long() * 0 + (tokens.sum(1) > 18).long()
    embed, gru, head = (
        nn.Embedding(6, 16, padding_idx=0),
        nn.GRU(16, 32, batch_first=True),
        nn.Linear(32, 2),
    )

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.gru, self.head = embed, gru, head

        def forward(self, tokens, lengths):
            packed = nn.utils.rnn.pack_padded_sequence(
                self.embed(tokens), lengths, batch_first=True, enforce_sorted=False
            )
            return self.head(self.gru(packed)[1][0])

    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return fit(
        model, optimizer, loader(tokens, lengths, targets),
        lambda m, x, n, t: F.cross_entropy(m(x, n), t), epochs=12, num_classes=2,
    )  # fmt: skip


def graph_network():
    """Two communities, one graph, all nodes in each step, a few of them labelled."""
    kinds = torch.arange(200) % 3
    edges = (torch.rand(200, 200) < torch.where(kinds[:, None] == kinds, 0.08, 0.01)).float()
    edges = ((edges + edges.T) > 0).float() + torch.eye(200)
    edges = edges / edges.sum(1, keepdim=True)
    features = torch.randn(200, 16) + 0.3 * F.one_hot(kinds, 16)
    marked = torch.rand(200) < 0.3

    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(16, 32), nn.Linear(32, 3)

        def forward(self, x):
            return edges @ self.second(
                F.dropout((edges @ self.first(x)).relu(), 0.3, self.training)
            )

    model = Graph()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2, weight_decay=5e-4)
    watcher = watch(model, optimizer, diagnose=diagnose, num_classes=3)
    for step in range(120):
        model.train()
        loss = F.cross_entropy(model(features)[marked], kinds[marked])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
        if step % 10 == 9:
            model.eval()
            with torch.no_grad():
                logits = model(features)[~marked]
                watcher.log(
                    val_loss=F.cross_entropy(logits, kinds[~marked]),
                    val_accuracy=(logits.argmax(1) == kinds[~marked]).float().mean(),
                )
    return watcher.diagnose()


def quantiles():
    (x, y), _ = split(diabetes(), 110)
    levels = torch.tensor([0.1, 0.5, 0.9])
    model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 3))

    def pinball(model, x, y):
        error = y - model(x)
        return torch.maximum(levels * error, (levels - 1) * error).mean()

    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    return fit(model, optimizer, loader(x, y), pinball, epochs=30, train=loader(x, y))


def mixture_density():
    x = torch.rand(1500, 1) * 2 - 1
    y = x + 0.3 * (2 * math.pi * x).sin() + 0.05 * torch.randn(1500, 1)
    model = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 9))

    def likelihood(model, x, y):
        weight, mean, log_std = model(y).chunk(3, 1)
        parts = torch.distributions.Normal(mean, log_std.exp().clamp_min(1e-2)).log_prob(x)
        return -(weight.log_softmax(1) + parts).logsumexp(1).mean()

    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    return fit(model, optimizer, loader(x, y, batch=64), likelihood, epochs=25)


def counts():
    x = torch.randn(1200, 6)
    y = torch.poisson((0.5 * x[:, :1] - 0.3 * x[:, 1:2] + 1).exp())
    model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1))
    loss_fn = nn.PoissonNLLLoss()
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    batches = loader(x, y)
    return fit(
        model, optimizer, batches, lambda m, x, t: loss_fn(m(x), t), epochs=15,
        train=batches, loss_fn=loss_fn,
    )  # fmt: skip


def segmentation():
    """Discs on noise, a small encoder and decoder, four images a batch, batch norms, Dice."""
    grid = torch.stack(torch.meshgrid(torch.arange(24), torch.arange(24), indexing="ij")).float()
    middles, sizes = torch.rand(160, 2, 1, 1) * 14 + 5, torch.rand(160, 1, 1) * 3 + 2.5
    masks = ((grid - middles).norm(dim=1) < sizes).float()[:, None]
    images = masks + 0.5 * torch.randn(160, 1, 24, 24)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(12, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(),
        nn.Upsample(scale_factor=2), nn.Conv2d(24, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(),
        nn.Conv2d(12, 1, 1),
    )  # fmt: skip

    def overlap(model, x, t):
        logits = model(x)
        p = logits.sigmoid()
        dice = 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)
        return dice + F.binary_cross_entropy_with_logits(logits, t)

    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    batches = loader(images, masks, batch=4)
    return fit(model, optimizer, batches, overlap, epochs=5, train=batches)


def forecasting():
    """Windows of a noisy wave, the last part in time held out, in order, by a GRU."""
    t = torch.arange(1400.0)
    wave = (t / 9).sin() + 0.4 * (t / 23).sin() + 0.1 * torch.randn(1400)
    windows = wave.unfold(0, 25, 1)
    inputs, targets = windows[:, :24, None], windows[:, 24:]

    class Forecast(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru, self.head = nn.GRU(1, 32, batch_first=True), nn.Linear(32, 1)

        def forward(self, x):
            return self.head(self.gru(x)[0][:, -1])

    model = Forecast()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    batches = loader(inputs[:1100], targets[:1100])
    held = inputs[1125:], targets[1125:]
    return fit(
        model, optimizer, batches, lambda m, x, y: F.mse_loss(m(x), y), epochs=10,
        validate=lambda: {"val_loss": F.mse_loss(model(held[0]), held[1])},
        train=batches, val=loader(*held), loss_fn=F.mse_loss,
    )  # fmt: skip


def scaled_half_precision():
    (x, y), val = split(digits())
    model, batches = mlp(), loader(x, y)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    scaler = torch.amp.GradScaler("cpu")
    watcher = watch(model, optimizer, diagnose=diagnose, num_classes=10)
    for _ in range(8):
        model.train()
        for inputs, targets in batches:
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = F.cross_entropy(model(inputs), targets)
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            watcher.step(loss)
        model.eval()
        with torch.no_grad():
            watcher.log(**scored(model, val)())
    return watcher.diagnose()


def small_table_until_learned():
    x, y = load_wine(return_X_y=True)
    x, y = torch.tensor(x).float(), torch.tensor(y)
    order = torch.randperm(len(x))
    x, y = ((x - x.mean(0)) / x.std(0))[order], y[order]
    model = nn.Sequential(nn.Linear(13, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    batches, val = loader(x[:140], y[:140], batch=16), (x[140:], y[140:])
    return fit(
        model, optimizer, batches, lambda m, x, t: F.cross_entropy(m(x), t), epochs=40,
        validate=scored(model, val), train=batches, val=loader(*val), num_classes=3,
    )  # fmt: skip


def denoising_diffusion():
    """Predict the noise that was added to points of two moons: the loss has a high floor."""
    points = torch.tensor(make_moons(2000, noise=0.05, random_state=0)[0]).float()
    points = (points - points.mean(0)) / points.std(0)
    model = nn.Sequential(
        nn.Linear(3, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2)
    )
    kept = torch.linspace(0.9999, 0.02, 100)

    def denoise(model, x):
        time, noise = torch.randint(100, (len(x),)), torch.randn_like(x)
        share = kept[time][:, None]
        mixed = share.sqrt() * x + (1 - share).sqrt() * noise
        guess = model(torch.cat([mixed, time[:, None] / 100], 1))
        return F.mse_loss(guess, noise)

    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    return fit(model, optimizer, loader(points, batch=64), denoise, epochs=25)


def multi_class_margin():
    (x, y), val = split(digits())
    model, batches = nn.Linear(64, 10), loader(x, y)
    loss_fn = nn.MultiMarginLoss()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, weight_decay=1e-3)
    return fit(
        model, optimizer, batches, lambda m, x, t: loss_fn(m(x), t), epochs=10,
        validate=scored(model, val, loss_fn), train=batches, val=loader(*val), loss_fn=loss_fn,
        num_classes=10,
    )  # fmt: skip


def logistic_regression():
    x, y = load_breast_cancer(return_X_y=True)
    x, y = torch.tensor(x).float(), torch.tensor(y).float()
    x = (x - x.mean(0)) / x.std(0)
    model = nn.Linear(30, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loss_fn = F.binary_cross_entropy_with_logits
    watcher = watch(model, optimizer, diagnose=diagnose, loss_fn=loss_fn)
    for _ in range(200):
        loss = loss_fn(model(x).squeeze(1), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss, batch=(x, y))
    return watcher.diagnose()


def normalising_flow():
    """Affine couplings on two moons, by maximum likelihood."""
    points = torch.tensor(make_moons(2000, noise=0.05, random_state=0)[0]).float()
    points = (points - points.mean(0)) / points.std(0)

    class Flow(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = nn.ModuleList(
                nn.Sequential(nn.Linear(1, 32), nn.ReLU(), nn.Linear(32, 2)) for _ in range(6)
            )

        def forward(self, x):
            volume = 0.0
            for part in self.parts:
                kept, moved = x[:, :1], x[:, 1:]
                scale, shift = part(kept).chunk(2, 1)
                scale = scale.tanh()
                x = torch.cat([moved * scale.exp() + shift, kept], 1)
                volume = volume + scale.sum(1)
            return x, volume

    def likelihood(model, x):
        z, volume = model(x)
        return (0.5 * z.square().sum(1) + math.log(2 * math.pi) - volume).mean()

    model = Flow()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    return fit(model, optimizer, loader(points, batch=128), likelihood, epochs=25)


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        last = nn.BatchNorm2d(channels)
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels),
            nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1, bias=False), last,
        )  # fmt: skip
        nn.init.zeros_(last.weight)

    def forward(self, x):
        return (x + self.body(x)).relu()


def residual_network_with_zero_gains():
    (x, y), val = split(digits())
    shape = (-1, 1, 8, 8)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        Residual(16), Residual(16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip
    batches, val = loader(x.view(shape), y), (val[0].view(shape), val[1])
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    scheduler = lr_scheduler.CosineAnnealingLR(optimizer, 8)
    watcher = watch(
        model, optimizer, diagnose=diagnose, train=batches, val=loader(*val), num_classes=10,
        loss_fn=F.cross_entropy, scheduler=scheduler,
    )  # fmt: skip
    for _ in range(8):
        model.train()
        for inputs, targets in batches:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs), targets)
            loss.backward()
            optimizer.step()
            watcher.step(loss)
        scheduler.step()
        model.eval()
        with torch.no_grad():
            watcher.log(**scored(model, val)())
    return watcher.diagnose()


LOOPS = (
    rnn_language_model,
    tied_transformer_with_warmup,
    autoencoder,
    variational_autoencoder,
    contrastive,
    triplets,
    physics_informed,
    focal_loss,
    low_rank_adaptation,
    averaged_weights,
    stochastic_averaging,
    cyclical_rates,
    one_cycle_superconvergence,
    second_order_closure,
    gradient_penalty,
    distillation,
    ordinal_regression,
    two_heads,
    sparse_embeddings,
    very_wide_inputs,
    missing_indicators,
    policy_gradient,
    value_learning,
    padded_sequences,
    graph_network,
    quantiles,
    mixture_density,
    counts,
    segmentation,
    forecasting,
    scaled_half_precision,
    small_table_until_learned,
    denoising_diffusion,
    multi_class_margin,
    logistic_regression,
    normalising_flow,
    residual_network_with_zero_gains,
)
