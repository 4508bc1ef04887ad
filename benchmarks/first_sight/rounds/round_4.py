"""Round 4: leaks, lost gradients, wrong modes and wrong axes in kinds of model not used before, and the ordinary programs that people run most."""

import copy
import math
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_breast_cancer, load_digits, make_friedman1
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset, TensorDataset, WeightedRandomSampler, random_split

from benchmarks.first_sight.programs import faulty, sound


def _digits(flat=False):
    data = load_digits()
    order = np.random.RandomState(0).permutation(len(data.target))
    images = torch.tensor(data.images[order], dtype=torch.float32) / 8.0 - 1.0
    return (images.flatten(1) if flat else images.unsqueeze(1)), torch.tensor(data.target[order])


# ------------------------------------------------------------------ faulty


@faulty(
    "convolutional sequence model (WaveNet-like)",
    fault="the dilated convolutions are padded on both sides, so each place sees the next note that it must predict",
    source="own experience (padding='same' in a causal TCN)",
)
def r4_wavenet_padded_on_both_sides(watch, fixed):
    """Next-note model of melodies. The faulty loss falls far below the entropy of the music (about 0.9); from a true prefix it predicts badly."""
    notes, length = 12, 32
    gen = torch.Generator().manual_seed(1)
    rule = torch.randint(notes, (notes, notes), generator=gen)

    def melodies(n):
        song = torch.randint(notes, (n, length + 1), generator=gen)
        for t in range(2, length + 1):
            follow = torch.rand(n, generator=gen) < 0.8
            song[:, t] = torch.where(follow, rule[song[:, t - 2], song[:, t - 1]], song[:, t])
        return song

    class ResidualLayer(nn.Module):
        def __init__(self, channels, dilation):
            super().__init__()
            reach = 2 * dilation
            self.pad = (reach, 0) if fixed else (dilation, dilation)
            self.filter = nn.Conv1d(channels, channels, 3, dilation=dilation)
            self.gate = nn.Conv1d(channels, channels, 3, dilation=dilation)
            self.mix = nn.Conv1d(channels, channels, 1)

        def forward(self, x):
            padded = F.pad(x, self.pad)
            return x + self.mix(torch.tanh(self.filter(padded)) * torch.sigmoid(self.gate(padded)))

    class WaveNet(nn.Module):
        def __init__(self, channels=32):
            super().__init__()
            self.embed = nn.Embedding(notes, channels)
            self.layers = nn.Sequential(*[ResidualLayer(channels, d) for d in (1, 2, 4)])
            self.head = nn.Sequential(
                nn.ReLU(), nn.Conv1d(channels, 64, 1), nn.ReLU(), nn.Conv1d(64, notes, 1)
            )

        def forward(self, song):
            return self.head(self.layers(self.embed(song).transpose(1, 2)))

    model = WaveNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    train_loader = DataLoader(melodies(1280), batch_size=40, shuffle=True)
    val_loader = DataLoader(melodies(200), batch_size=200)
    watcher = watch(model, optimizer, loss_fn=nn.CrossEntropyLoss(), num_classes=notes)
    for _ in range(7):
        model.train()
        for song in train_loader:
            loss = F.cross_entropy(model(song[:, :-1]), song[:, 1:])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(song[:, :-1], song[:, 1:]))
        model.eval()
        with torch.no_grad():
            val_loss = np.mean(
                [F.cross_entropy(model(s[:, :-1]), s[:, 1:]).item() for s in val_loader]
            )
        watcher.log(val_loss=float(val_loss))
    song = melodies(400)
    with torch.no_grad():
        guess = model(song[:, :24])[:, :, -1].argmax(1)
    return {
        "train_loss": loss.item(),
        "val_loss": float(val_loss),
        "true_next_note_accuracy": (guess == song[:, 24]).float().mean().item(),
    }


@faulty(
    "grapheme-to-phoneme encoder-decoder",
    fault="the decoder is given the unshifted target as its input, so at each step it reads the phoneme it has to produce",
    source="own experience; forum questions on teacher forcing without the shift",
)
def r4_g2p_decoder_reads_its_target(watch, fixed):
    """GRU encoder and decoder. The loss goes to zero at once by copying; decoding step by step gives nonsense."""
    letters, phonemes, bos, eos = 20, 16, 16, 17
    gen = np.random.RandomState(2)
    table = gen.randint(phonemes, size=(letters, 3))

    def pronounce(word):
        out = []
        for k, letter in enumerate(word):
            nxt = word[k + 1] if k + 1 < len(word) else 0
            out.append(table[letter, nxt % 3])
        return [*out, eos]

    def lexicon(n):
        words = [gen.randint(letters, size=6) for _ in range(n)]
        return torch.tensor(np.array(words)), torch.tensor(np.array([pronounce(w) for w in words]))

    class G2P(nn.Module):
        def __init__(self, d=64):
            super().__init__()
            self.letter, self.phoneme = nn.Embedding(letters, 24), nn.Embedding(phonemes + 2, 24)
            self.encoder = nn.GRU(24, d // 2, batch_first=True, bidirectional=True)
            self.decoder = nn.GRUCell(24 + d, d)
            self.attend, self.out = nn.Linear(d, d, bias=False), nn.Linear(2 * d, phonemes + 2)
            self.place = nn.Parameter(0.1 * torch.randn(6, d))

        def start(self, word):
            memory, last = self.encoder(self.letter(word))
            return memory + self.place, torch.cat([last[0], last[1]], dim=1)

        def step(self, token, state, memory):
            weight = torch.einsum("bd,btd->bt", self.attend(state), memory).softmax(1)
            context = torch.einsum("bt,btd->bd", weight, memory)
            state = self.decoder(torch.cat([self.phoneme(token), context], dim=1), state)
            return self.out(torch.cat([state, context], dim=1)), state

        def forward(self, word, decoder_input):
            memory, state = self.start(word)
            logits = []
            for token in decoder_input.unbind(1):
                step, state = self.step(token, state, memory)
                logits.append(step)
            return torch.stack(logits, dim=1)

        @torch.no_grad()
        def transcribe(self, word, length):
            memory, state = self.start(word)
            token, result = torch.full((len(word),), bos), []
            for _ in range(length):
                logits, state = self.step(token, state, memory)
                token = logits.argmax(1)
                result.append(token)
            return torch.stack(result, dim=1)

    def decoder_inputs(target):
        if fixed:
            return torch.cat([torch.full_like(target[:, :1], bos), target[:, :-1]], dim=1)
        return target

    model = G2P()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    criterion = nn.CrossEntropyLoss()
    loader = DataLoader(TensorDataset(*lexicon(1500)), batch_size=50, shuffle=True)
    val_word, val_target = lexicon(300)
    watcher = watch(model, optimizer, loss_fn=criterion)
    for _ in range(9):
        model.train()
        for word, target in loader:
            logits = model(word, decoder_inputs(target))
            loss = criterion(logits.flatten(0, 1), target.flatten())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            watcher.step(loss)
        model.eval()
        with torch.no_grad():
            val_loss = criterion(
                model(val_word, decoder_inputs(val_target)).flatten(0, 1), val_target.flatten()
            ).item()
        watcher.log(val_loss=val_loss)
    said = model.transcribe(val_word, 7)
    return {
        "train_loss": loss.item(),
        "val_loss": val_loss,
        "decoded_phoneme_accuracy": (said == val_target).float().mean().item(),
    }


@faulty(
    "machine fault diagnosis, 1-D ResNet",
    fault="WeightedRandomSampler is given one weight per class instead of one per sample, so only the first four recordings are ever drawn",
    source="codetd.com article 12726075 on WeightedRandomSampler (weights belong to samples, not classes)",
)
def r4_vibration_sampler_weights_per_class(watch, fixed):
    """Four states of a bearing, unbalanced. The training loss goes to zero on four recordings; the validation stays bad."""
    rng = np.random.RandomState(3)
    counts = [500, 160, 90, 60]

    def recordings(counts):
        label = rng.permutation(np.repeat(np.arange(4), counts))
        t = np.arange(96)
        x = np.empty((len(label), 1, 96))
        for k, state in enumerate(label):
            turn = rng.uniform(0.18, 0.24)
            wave = np.sin(turn * t + rng.uniform(0, 6.3))
            if state == 1:
                wave = wave + 0.6 * np.sin(2 * turn * t + rng.uniform(0, 6.3))
            elif state == 2:
                wave = wave + 1.2 * (np.sin(turn * 2.6 * t + rng.uniform(0, 6.3)) > 0.96)
            elif state == 3:
                wave = wave * (1 + 0.7 * np.sin(0.07 * t + rng.uniform(0, 6.3)))
            x[k, 0] = wave + 0.35 * rng.randn(96)
        return torch.tensor(x, dtype=torch.float32), torch.tensor(label)

    x_train, y_train = recordings(counts)
    x_val, y_val = recordings([60, 60, 60, 60])

    class ResBlock(nn.Module):
        def __init__(self, cin, cout, stride):
            super().__init__()
            self.conv1, self.bn1 = (
                nn.Conv1d(cin, cout, 5, stride, 2, bias=False),
                nn.BatchNorm1d(cout),
            )
            self.conv2, self.bn2 = nn.Conv1d(cout, cout, 5, 1, 2, bias=False), nn.BatchNorm1d(cout)
            self.skip = nn.Conv1d(cin, cout, 1, stride, bias=False)

        def forward(self, x):
            return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + self.skip(x))

    model = nn.Sequential(
        ResBlock(1, 12, 2),
        ResBlock(12, 24, 2),
        ResBlock(24, 32, 2),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(32, 4),
    )
    class_count = torch.bincount(y_train)
    class_weight = 1.0 / class_count.float()
    weights = class_weight[y_train] if fixed else class_weight
    sampler = WeightedRandomSampler(weights, num_samples=len(y_train), replacement=True)
    train_loader = DataLoader(TensorDataset(x_train, y_train), batch_size=30, sampler=sampler)
    val_loader = DataLoader(TensorDataset(x_val, y_val), batch_size=120)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    criterion = nn.CrossEntropyLoss()
    watcher = watch(
        model, optimizer, loss_fn=criterion, num_classes=4, train=train_loader, val=val_loader
    )
    for _ in range(9):
        model.train()
        losses = []
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(x, y))
            losses.append(loss.item())
        model.eval()
        with torch.no_grad():
            out = torch.cat([model(x) for x, _ in val_loader])
        accuracy = (out.argmax(1) == y_val).float().mean().item()
        watcher.log(val_loss=criterion(out, y_val).item(), val_accuracy=accuracy)
    return {
        "train_loss": float(np.mean(losses)),
        "val_loss": criterion(out, y_val).item(),
        "val_accuracy": accuracy,
    }


@faulty(
    "spectra, 1-D CNN",
    fault="noisy copies of each spectrum are made before the random split, so copies of the training spectra are in the validation set",
    source="own experience (augmentation or oversampling before train_test_split)",
)
def r4_spectra_augmented_before_the_split(watch, fixed):
    """180 spectra of three oils, eight copies each. The validation of the faulty form is far too good; new spectra tell the truth."""
    rng = np.random.RandomState(8)
    grid = np.linspace(0, 1, 64)

    def measure(n):
        label = rng.randint(3, size=n)
        curves = []
        for k in label:
            base = sum(
                rng.uniform(0.5, 1.5) * np.exp(-0.5 * ((grid - c) / 0.08) ** 2)
                for c in (0.15, 0.4, 0.65, 0.9)
            )
            mark = (0.5 + 0.08 * (k - 1)) + 0.035 * rng.randn()
            curves.append(
                base
                + 0.8 * np.exp(-0.5 * ((grid - mark) / 0.03) ** 2)
                + rng.uniform(-0.4, 0.4) * grid
            )
        return np.array(curves), label

    def augment(curves, label, copies=8):
        many = np.repeat(curves, copies, axis=0)
        many = many * rng.uniform(0.97, 1.03, size=(len(many), 1)) + 0.03 * rng.randn(*many.shape)
        return many, np.repeat(label, copies)

    def as_dataset(curves, label):
        x = torch.tensor((curves - 1.0) / 0.6, dtype=torch.float32).unsqueeze(1)
        return TensorDataset(x, torch.tensor(label))

    curves, label = measure(180)
    if fixed:
        train_set = as_dataset(*augment(curves[:120], label[:120]))
        val_set = as_dataset(curves[120:], label[120:])
    else:
        everything = as_dataset(*augment(curves, label))
        train_set, val_set = random_split(everything, [960, 480])
    new_x, new_y = as_dataset(*measure(500)).tensors

    model = nn.Sequential(
        nn.Conv1d(1, 16, 7, padding=3),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(16, 24, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(24 * 16, 32),
        nn.ReLU(),
        nn.Linear(32, 3),
    )
    train_loader = DataLoader(train_set, batch_size=32, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=160)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    criterion = nn.CrossEntropyLoss()
    watcher = watch(
        model, optimizer, loss_fn=criterion, num_classes=3, train=train_loader, val=val_loader
    )
    for _ in range(11):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(x, y))
        model.eval()
        with torch.no_grad():
            out = torch.cat([model(x) for x, _ in val_loader])
            target = torch.cat([y for _, y in val_loader])
        val_loss, val_accuracy = (
            criterion(out, target).item(),
            (out.argmax(1) == target).float().mean().item(),
        )
        watcher.log(val_loss=val_loss, val_accuracy=val_accuracy)
    with torch.no_grad():
        new = model(new_x)
    return {
        "train_loss": loss.item(),
        "val_accuracy": val_accuracy,
        "val_loss": val_loss,
        "new_spectra_accuracy": (new.argmax(1) == new_y).float().mean().item(),
        "new_spectra_loss": criterion(new, new_y).item(),
    }


@faulty(
    "forecasting, N-BEATS-like",
    fault="each window is scaled with the mean and deviation of the whole window, the future included, so the input tells where the future lies",
    source="own experience (scaler fitted on the full series or window)",
)
def r4_forecast_scaled_with_the_future(watch, fixed):
    """Daily sales: a random walk with a weekly pattern. The validation error is too good to be true; on live data, scaled by the past alone, it is worse."""
    rng = np.random.RandomState(5)
    past, horizon = 21, 14

    def series(n, length):
        level = np.cumsum(0.25 * rng.randn(n, length), axis=1)
        week = rng.randn(n, 7)[
            np.arange(n)[:, None], (np.arange(length) + rng.randint(7, size=(n, 1))) % 7
        ]
        return level + 0.8 * week + 0.15 * rng.randn(n, length) + rng.uniform(-20, 20, size=(n, 1))

    class Windows(Dataset):
        def __init__(self, table, honest, step):
            starts = range(0, table.shape[1] - past - horizon, step)
            self.windows = torch.tensor(
                np.concatenate([table[:, s : s + past + horizon] for s in starts]),
                dtype=torch.float32,
            )
            self.honest = honest

        def __len__(self):
            return len(self.windows)

        def __getitem__(self, index):
            window = self.windows[index]
            known = window[:past] if self.honest else window
            window = (window - known.mean()) / (known.std() + 1e-6)
            return window[:past], window[past:]

    class Block(nn.Module):
        def __init__(self, width=48):
            super().__init__()
            self.body = nn.Sequential(
                nn.Linear(past, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
            )
            self.backcast, self.forecast = nn.Linear(width, past), nn.Linear(width, horizon)

        def forward(self, x):
            h = self.body(x)
            return x - self.backcast(h), self.forecast(h)

    class NBeats(nn.Module):
        def __init__(self, blocks=2):
            super().__init__()
            self.blocks = nn.ModuleList([Block() for _ in range(blocks)])

        def forward(self, x):
            total = 0.0
            for block in self.blocks:
                x, part = block(x)
                total = total + part
            return total

    train_loader = DataLoader(Windows(series(400, 70), fixed, 6), batch_size=64, shuffle=True)
    val_table = series(80, 70)
    val_loader = DataLoader(Windows(val_table, fixed, 6), batch_size=256)
    live_loader = DataLoader(Windows(val_table, True, 6), batch_size=256)
    model = NBeats()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [8, 10], gamma=0.3)
    watcher = watch(
        model,
        optimizer,
        loss_fn=F.mse_loss,
        task="regression",
        train=train_loader,
        val=val_loader,
        scheduler=scheduler,
    )

    @torch.no_grad()
    def skill(loader):
        """1 - MSE / MSE of repeating the last known week."""
        model.eval()
        error = naive = 0.0
        for x, y in loader:
            error += F.mse_loss(model(x), y, reduction="sum").item()
            naive += F.mse_loss(x[:, -7:].repeat(1, 2), y, reduction="sum").item()
        return 1 - error / naive, error / (len(loader.dataset) * horizon)

    for _ in range(12):
        model.train()
        for x, y in train_loader:
            loss = F.mse_loss(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(x, y))
        scheduler.step()
        val_skill, val_loss = skill(val_loader)
        watcher.log(val_loss=val_loss)
    return {
        "train_loss": loss.item(),
        "val_loss": val_loss,
        "val_skill": val_skill,
        "live_skill": skill(live_loader)[0],
    }


@faulty(
    "memory network",
    fault="the softmax of the attention over the memory slots is taken over dimension 0, the batch, instead of over the slots",
    source="own experience (softmax(dim=0) or the old implicit dim)",
)
def r4_memory_network_softmax_over_batch(watch, fixed):
    """Key-value memory: read the value stored under the asked key. Each answer depends on the other questions of the batch, and the weights of one memory do not add to one."""
    keys, values, slots = 30, 8, 6

    def facts(n):
        key = torch.stack([torch.randperm(keys)[:slots] for _ in range(n)])
        value = torch.randint(values, (n, slots))
        asked = torch.randint(slots, (n,))
        rows = torch.arange(n)
        return TensorDataset(key, value, key[rows, asked], value[rows, asked])

    class MemoryNetwork(nn.Module):
        def __init__(self, d=32):
            super().__init__()
            self.key, self.value = nn.Embedding(keys, d), nn.Embedding(values, d)
            self.query = nn.Linear(d, d)
            self.answer = nn.Sequential(
                nn.LayerNorm(d), nn.Linear(d, 64), nn.ReLU(), nn.Linear(64, values)
            )
            self.d = d

        def forward(self, key, value, question):
            q = self.query(self.key(question))
            score = torch.einsum("bd,bsd->bs", q, self.key(key)) / math.sqrt(self.d)
            weight = F.softmax(score, dim=1 if fixed else 0)
            return self.answer(torch.einsum("bs,bsd->bd", weight, self.value(value)))

    train_loader = DataLoader(facts(3000), batch_size=50, shuffle=True, drop_last=True)
    val_loader = DataLoader(facts(500), batch_size=50)
    model = MemoryNetwork()
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    criterion = nn.CrossEntropyLoss()
    watcher = watch(model, optimizer, loss_fn=criterion, num_classes=values)
    for _ in range(8):
        model.train()
        losses = []
        for key, value, question, answer in train_loader:
            loss = criterion(model(key, value, question), answer)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=((key, value, question), answer))
            losses.append(loss.item())
        model.eval()
        right, total, val_loss = 0, 0, 0.0
        with torch.no_grad():
            for key, value, question, answer in val_loader:
                out = model(key, value, question)
                val_loss += criterion(out, answer).item() / len(val_loader)
                right += (out.argmax(1) == answer).sum().item()
                total += len(answer)
        watcher.log(val_loss=val_loss, val_accuracy=right / total)
    with torch.no_grad():
        alone = torch.cat(
            [
                model(k[None], v[None], q[None]).argmax(1) == a
                for k, v, q, a in list(val_loader.dataset)[:200]
            ]
        )
    return {
        "train_loss": float(np.mean(losses)),
        "val_loss": val_loss,
        "val_accuracy": right / total,
        "accuracy_one_by_one": alone.float().mean().item(),
    }


@faulty(
    "wide and deep model",
    fault="the generator deep.parameters() is used up by counting the parameters for a print-out, so the optimizer's group for the deep part is empty",
    source="own experience; YanaiEliyahu/AdasOptimizer issue 2 (an exhausted parameter generator)",
)
def r4_wide_and_deep_generator_used_up(watch, fixed):
    """Click prediction from crossed categories and numbers. Exact: only the wide part is trained; the deep part keeps its random weights."""
    rng = np.random.RandomState(6)
    cities, devices = 12, 5
    taste = rng.randn(cities, 4)

    def visits(n):
        city, device = rng.randint(cities, size=n), rng.randint(devices, size=n)
        numbers = rng.randn(n, 4)
        logit = (
            2.0 * np.sin((taste[city] * numbers).sum(1))
            + 1.5 * numbers[:, 0] * numbers[:, 1]
            + 0.5 * (device - 2)
        )
        click = (rng.rand(n) < 1 / (1 + np.exp(-2.0 * logit))).astype(np.float32)
        return TensorDataset(
            torch.tensor(city),
            torch.tensor(device),
            torch.tensor(numbers, dtype=torch.float32),
            torch.tensor(click),
        )

    class Wide(nn.Module):
        def __init__(self):
            super().__init__()
            self.cross = nn.Embedding(cities * devices, 1)
            self.linear = nn.Linear(4, 1)
            nn.init.zeros_(self.cross.weight)

        def forward(self, city, device, numbers):
            return self.cross(city * devices + device) + self.linear(numbers)

    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.city, self.device = nn.Embedding(cities, 8), nn.Embedding(devices, 4)
            self.mlp = nn.Sequential(
                nn.Linear(16, 96), nn.ReLU(), nn.Linear(96, 48), nn.ReLU(), nn.Linear(48, 1)
            )

        def forward(self, city, device, numbers):
            return self.mlp(torch.cat([self.city(city), self.device(device), numbers], dim=1))

    class WideAndDeep(nn.Module):
        def __init__(self):
            super().__init__()
            self.wide, self.deep = Wide(), Deep()

        def forward(self, *features):
            return (self.wide(*features) + self.deep(*features)).squeeze(1)

    model = WideAndDeep()
    wide_params, deep_params = model.wide.parameters(), model.deep.parameters()
    if fixed:
        wide_params, deep_params = list(wide_params), list(deep_params)
    size = sum(p.numel() for p in deep_params)
    optimizer = torch.optim.Adam(
        [
            {"params": wide_params, "lr": 5e-3},
            {"params": deep_params, "lr": 4e-3, "weight_decay": 1e-5},
        ]
    )
    train_loader = DataLoader(visits(4000), batch_size=80, shuffle=True)
    val_loader = DataLoader(visits(1000), batch_size=500)
    criterion = nn.BCEWithLogitsLoss()
    before = model.deep.mlp[0].weight.detach().clone()
    watcher = watch(model, optimizer, loss_fn=criterion)
    for _ in range(10):
        model.train()
        for *features, click in train_loader:
            loss = criterion(model(*features), click)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss)
        model.eval()
        with torch.no_grad():
            out = torch.cat([model(*f) for *f, _ in val_loader])
        target = val_loader.dataset.tensors[3]
        val_loss, accuracy = (
            criterion(out, target).item(),
            ((out > 0) == (target > 0.5)).float().mean().item(),
        )
        watcher.log(val_loss=val_loss, val_accuracy=accuracy)
    moved = (model.deep.mlp[0].weight - before).abs().max().item()
    return {
        "train_loss": loss.item(),
        "val_loss": val_loss,
        "val_accuracy": accuracy,
        "deep_moved": moved,
        "deep_size": float(size),
    }


@faulty(
    "audio, learnable sinc filters",
    fault="the cut-off frequencies are read with .item() when the filters are built, so the filter bank is a constant and never learns",
    source="own experience (SincNet-like front end written with float())",
)
def r4_sincnet_cutoffs_read_with_item(watch, fixed):
    """A band-pass front end with few filters and log energies; the tones lie between the starting bands. Exact: low_hz and band_hz never change."""
    rate, length = 1000, 200
    rng = np.random.RandomState(9)
    centres = [62, 92, 122, 205, 245, 285]

    def sounds(n):
        label = rng.randint(6, size=n)
        t = np.arange(length) / rate
        freq = np.array(centres)[label] + rng.uniform(-5, 5, size=n)
        hum = 1.5 * np.sin(
            2 * np.pi * rng.uniform(380, 460, size=(n, 1)) * t + rng.uniform(0, 6.3, size=(n, 1))
        )
        wave = rng.uniform(0.4, 0.8, size=(n, 1)) * np.sin(
            2 * np.pi * freq[:, None] * t + rng.uniform(0, 6.3, size=(n, 1))
        )
        x = wave + hum + 0.6 * rng.randn(n, length)
        return TensorDataset(torch.tensor(x, dtype=torch.float32), torch.tensor(label))

    class SincBank(nn.Module):
        def __init__(self, filters=6, taps=81):
            super().__init__()
            self.low_hz = nn.Parameter(torch.linspace(20, 320, filters) / 100)
            self.band_hz = nn.Parameter(torch.full((filters,), 0.6))
            self.register_buffer("n", (torch.arange(taps) - taps // 2) / rate)
            self.register_buffer("window", torch.hamming_window(taps))

        def band_pass(self, low, high):
            kernel = 2 * high * torch.sinc(2 * high * self.n) - 2 * low * torch.sinc(
                2 * low * self.n
            )
            return kernel * self.window / (rate / 2) * 4

        def forward(self, x):
            kernels = []
            for k in range(len(self.low_hz)):
                low, band = self.low_hz[k], self.band_hz[k]
                if not fixed:
                    low, band = low.item(), band.item()
                low = 100 * abs(low)
                kernels.append(self.band_pass(low, low + 100 * abs(band) + 10))
            return F.conv1d(x.unsqueeze(1), torch.stack(kernels).unsqueeze(1))

    class SincNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.bank = SincBank()
            self.norm = nn.BatchNorm1d(6)
            self.classify = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 6))

        def forward(self, x):
            energy = torch.log(self.bank(x).pow(2).mean(-1) + 1e-3)
            return self.classify(self.norm(energy))

    model = SincNet()
    start = model.bank.low_hz.detach().clone()
    optimizer = torch.optim.Adam(
        [
            {"params": model.bank.parameters(), "lr": 1e-2},
            {"params": [*model.norm.parameters(), *model.classify.parameters()], "lr": 5e-3},
        ]
    )
    train_loader = DataLoader(sounds(1600), batch_size=40, shuffle=True)
    val_loader = DataLoader(sounds(400), batch_size=400)
    criterion = nn.CrossEntropyLoss()
    watcher = watch(
        model, optimizer, loss_fn=criterion, num_classes=6, train=train_loader, val=val_loader
    )
    for _ in range(9):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(x, y))
        model.eval()
        with torch.no_grad():
            ((x, y),) = val_loader
            out = model(x)
        accuracy = (out.argmax(1) == y).float().mean().item()
        watcher.log(val_loss=criterion(out, y).item(), val_accuracy=accuracy)
    return {
        "train_loss": loss.item(),
        "val_accuracy": accuracy,
        "cutoffs_moved_hz": 100 * (model.bank.low_hz - start).abs().max().item(),
    }


@faulty(
    "gene expression classifier",
    fault="validate() puts the model into eval mode every 10 updates and nothing puts it back, so dropout and batch statistics are off for all but the first updates of each epoch",
    source="own experience (evaluation inside the epoch without model.train() afterwards)",
)
def r4_gene_panel_left_in_eval_mode(watch, fixed):
    """Many genes, few patients, one diagnosis in six is wrong, strong dropout. train() is called once before the loop; validation runs every 10 updates. Exact: after update 10 all training is in eval mode."""
    rng = np.random.RandomState(12)
    genes, types = 400, 5
    pathways = rng.randn(types, genes) * (rng.rand(types, genes) < 0.1)

    def patients(n):
        label = rng.randint(types, size=n)
        x = 0.75 * pathways[label] + rng.randn(n, genes)
        uncertain = rng.rand(n) < 0.2
        return torch.tensor(x, dtype=torch.float32), torch.tensor(
            np.where(uncertain, rng.randint(types, size=n), label)
        )

    x_train, y_train = patients(300)
    x_val, y_val = patients(500)

    class Panel(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop_in = nn.Dropout(0.4)
            self.fc1, self.bn1 = nn.Linear(genes, 96), nn.BatchNorm1d(96)
            self.fc2, self.bn2 = nn.Linear(96, 48), nn.BatchNorm1d(48)
            self.drop, self.out = nn.Dropout(0.5), nn.Linear(48, types)

        def forward(self, x):
            x = self.drop(F.relu(self.bn1(self.fc1(self.drop_in(x)))))
            return self.out(self.drop(F.relu(self.bn2(self.fc2(x)))))

    model = Panel()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    loader = DataLoader(TensorDataset(x_train, y_train), batch_size=20, shuffle=True)
    watcher = watch(
        model,
        optimizer,
        loss_fn=criterion,
        num_classes=types,
        train=loader,
        val=DataLoader(TensorDataset(x_val, y_val), 500),
    )

    def validate():
        was_training = model.training
        model.eval()
        with torch.no_grad():
            out = model(x_val)
        if fixed:
            model.train(was_training)
        return criterion(out, y_val).item(), (out.argmax(1) == y_val).float().mean().item()

    model.train()
    update, in_train_mode = 0, 0
    for _ in range(20):
        for x, y in loader:
            in_train_mode += model.training
            loss = criterion(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            update += 1
            watcher.step(loss, batch=(x, y))
            if update % 10 == 0:
                val_loss, val_accuracy = validate()
                watcher.log(val_loss=val_loss, val_accuracy=val_accuracy)
    return {
        "train_loss": loss.item(),
        "val_loss": val_loss,
        "val_accuracy": val_accuracy,
        "share_in_train_mode": in_train_mode / update,
    }


@faulty(
    "activity recognition with an own batch norm",
    fault="the hand-written batch norm computes the new running mean and variance into local variables and never stores them, so evaluation uses 0 and 1",
    source="own experience (running statistics rebound instead of updated in place)",
)
def r4_own_batchnorm_never_stores_statistics(watch, fixed):
    """Accelerometer windows, 1-D ConvNet. The training loss is fine; in eval mode the network sees wrongly scaled activations and fails."""
    rng = np.random.RandomState(14)

    def windows(n):
        label = rng.randint(4, size=n)
        t = np.arange(48) / 16
        x = np.empty((n, 3, 48))
        for k, activity in enumerate(label):
            gravity = np.array([[0.2], [0.3], [1.0]]) + 0.1 * rng.randn(3, 1)
            pace = (0.0, 1.6, 2.8, 1.6)[activity] + 0.15 * rng.randn()
            size = (0.02, 0.4, 0.9, 0.4)[activity] * rng.uniform(0.7, 1.3)
            axis = (
                np.array([[0.3], [0.2], [1.0]]) if activity < 3 else np.array([[1.0], [0.4], [0.3]])
            )
            x[k] = (
                gravity
                + axis * size * np.sin(2 * np.pi * pace * t + rng.uniform(0, 6.3))
                + 0.15 * rng.randn(3, 48)
            )
        return torch.tensor((x - 0.5) / 0.6, dtype=torch.float32), torch.tensor(label)

    class MyBatchNorm(nn.Module):
        def __init__(self, channels, momentum=0.1, eps=1e-5):
            super().__init__()
            self.gamma, self.beta = (
                nn.Parameter(torch.ones(channels)),
                nn.Parameter(torch.zeros(channels)),
            )
            self.momentum, self.eps = momentum, eps
            self.register_buffer("running_mean", torch.zeros(channels))
            self.register_buffer("running_var", torch.ones(channels))

        def forward(self, x):
            running_mean, running_var = self.running_mean, self.running_var
            if self.training:
                mean, var = x.mean(dim=(0, 2)), x.var(dim=(0, 2), unbiased=False)
                running_mean = (1 - self.momentum) * running_mean + self.momentum * mean.detach()
                running_var = (1 - self.momentum) * running_var + self.momentum * var.detach()
                if fixed:
                    self.running_mean, self.running_var = running_mean, running_var
            else:
                mean, var = running_mean, running_var
            x = (x - mean[:, None]) / torch.sqrt(var[:, None] + self.eps)
            return self.gamma[:, None] * x + self.beta[:, None]

    def layer(cin, cout):
        return nn.Sequential(
            nn.Conv1d(cin, cout, 5, padding=2), MyBatchNorm(cout), nn.ReLU(), nn.MaxPool1d(2)
        )

    model = nn.Sequential(
        layer(3, 16), layer(16, 24), layer(24, 32), nn.Flatten(), nn.Linear(32 * 6, 4)
    )
    train_loader = DataLoader(TensorDataset(*windows(1200)), batch_size=40, shuffle=True)
    x_val, y_val = windows(300)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-4)
    criterion = nn.CrossEntropyLoss()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3, gamma=0.4)
    watcher = watch(
        model,
        optimizer,
        loss_fn=criterion,
        num_classes=4,
        train=train_loader,
        val=DataLoader(TensorDataset(x_val, y_val), 100),
        scheduler=scheduler,
    )
    for _ in range(7):
        model.train()
        for x, y in train_loader:
            loss = criterion(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(x, y))
        scheduler.step()
        model.eval()
        with torch.no_grad():
            out = model(x_val)
        val_loss, val_accuracy = (
            criterion(out, y_val).item(),
            (out.argmax(1) == y_val).float().mean().item(),
        )
        watcher.log(val_loss=val_loss, val_accuracy=val_accuracy)
    return {"train_loss": loss.item(), "val_loss": val_loss, "val_accuracy": val_accuracy}


@faulty(
    "trajectory prediction with several hypotheses",
    fault="the winner-takes-all loss takes the minimum over the batch instead of over the hypotheses, so each hypothesis is fitted only to the easiest pedestrian of the batch",
    source="own experience (min(dim=0) for min(dim=1) on a (batch, hypotheses) table)",
)
def r4_trajectories_min_over_the_batch(watch, fixed):
    """Pedestrians go on straight or turn left or right; three hypotheses. The faulty loss is small from the start and most samples get no gradient."""
    gen = torch.Generator().manual_seed(15)

    def walks(n, past=8, future=8):
        heading = 6.2832 * torch.rand(n, generator=gen)
        pace = 0.5 + torch.rand(n, generator=gen)
        turn = torch.randint(-1, 2, (n,), generator=gen) * 0.25
        angle, place, path = heading, torch.zeros(n, 2), []
        for t in range(past + future):
            if t >= past:
                angle = angle + turn
            place = (
                place
                + 0.3 * pace[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
                + 0.02 * torch.randn(n, 2, generator=gen)
            )
            path.append(place)
        path = torch.stack(path, 1)
        path = path - path[:, past - 1 : past]
        return TensorDataset(path[:, :past], path[:, past:])

    class MultiHypothesis(nn.Module):
        def __init__(self, hypotheses=3, future=8):
            super().__init__()
            self.shape = (hypotheses, future, 2)
            self.encoder = nn.GRU(2, 48, batch_first=True)
            self.decoder = nn.Sequential(
                nn.Linear(48, 96), nn.ReLU(), nn.Linear(96, hypotheses * future * 2)
            )

        def forward(self, past):
            _, h = self.encoder(past)
            return self.decoder(h[-1]).view(-1, *self.shape)

    def winner_takes_all(predicted, future):
        error = (predicted - future.unsqueeze(1)).pow(2).sum(-1).mean(-1)
        if not fixed:
            return error.min(dim=0).values.mean()
        best = error.min(dim=1).values
        return 0.95 * best.mean() + 0.05 * error.mean()

    model = MultiHypothesis()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    train_loader = DataLoader(walks(2400), batch_size=48, shuffle=True)
    past_val, future_val = walks(400).tensors
    watcher = watch(model, optimizer)
    for _ in range(8):
        model.train()
        for past, future in train_loader:
            loss = winner_takes_all(model(past), future)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            watcher.step(loss)
        model.eval()
        with torch.no_grad():
            predicted = model(past_val)
            val_loss = winner_takes_all(predicted, future_val).item()
        watcher.log(val_loss=val_loss)
    final = (predicted - future_val.unsqueeze(1)).norm(dim=-1).mean(-1).min(1).values.mean().item()
    return {
        "train_loss": loss.item(),
        "val_loss": val_loss,
        "min_ade": final,
        "standing_still_ade": future_val.norm(dim=-1).mean().item(),
    }


@faulty(
    "chord recognition",
    fault="ignore_index=0 is meant for padding, but 0 is also the first real chord; with label smoothing copied along, that chord is never taught",
    source="own experience (ignore_index=0 with labels that start at 0)",
)
def r4_chords_ignore_index_is_a_real_class(watch, fixed):
    """Frame-wise chords from chroma vectors of songs of unequal length. The first chord (a fifth of all frames) is never predicted."""
    rng = np.random.RandomState(16)
    chords = np.array([[0, 4, 7], [5, 9, 0], [7, 11, 2], [9, 0, 4], [2, 5, 9]])
    pad = -100 if fixed else 0

    def song():
        frames, labels = [], []
        for _ in range(rng.randint(4, 9)):
            k = rng.randint(5)
            for _ in range(rng.randint(4, 8)):
                chroma = 0.5 * np.abs(rng.randn(12))
                chroma[chords[k]] += rng.uniform(0.3, 1.2, size=3)
                frames.append(chroma)
                labels.append(k)
        return torch.tensor((np.array(frames) - 0.6) / 0.5, dtype=torch.float32), torch.tensor(
            labels
        )

    def collate(songs):
        lengths = torch.tensor([len(labels) for _, labels in songs])
        x = pad_sequence([frames for frames, _ in songs], batch_first=True)
        y = pad_sequence([labels for _, labels in songs], batch_first=True, padding_value=pad)
        return {"chroma": x, "chord": y, "length": lengths}

    class ChordNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.front = nn.Sequential(nn.Conv1d(12, 32, 5, padding=2), nn.ReLU(), nn.Dropout(0.1))
            self.rnn = nn.LSTM(32, 24, batch_first=True, bidirectional=True)
            self.out = nn.Linear(48, 5)

        def forward(self, chroma):
            return self.out(self.rnn(self.front(chroma.transpose(1, 2)).transpose(1, 2))[0])

    model = ChordNet()
    criterion = nn.CrossEntropyLoss(ignore_index=pad, label_smoothing=0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    train_loader = DataLoader(
        [song() for _ in range(600)], batch_size=15, shuffle=True, collate_fn=collate
    )
    val_loader = DataLoader([song() for _ in range(100)], batch_size=50, collate_fn=collate)
    watcher = watch(
        model, optimizer, loss_fn=criterion, num_classes=5, train=train_loader, val=val_loader
    )
    for _ in range(6):
        model.train()
        for batch in train_loader:
            logits = model(batch["chroma"])
            loss = criterion(logits.reshape(-1, 5), batch["chord"].reshape(-1))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            watcher.step(loss, batch=batch)
        model.eval()
        right, total, first_right, first, losses = 0, 0, 0, 0, []
        with torch.no_grad():
            for batch in val_loader:
                logits = model(batch["chroma"])
                losses.append(criterion(logits.reshape(-1, 5), batch["chord"].reshape(-1)).item())
                real = torch.arange(logits.shape[1])[None] < batch["length"][:, None]
                hit = (logits.argmax(-1) == batch["chord"]) & real
                zero = (batch["chord"] == 0) & real
                right, total = right + hit.sum().item(), total + real.sum().item()
                first_right, first = (
                    first_right + (hit & zero).sum().item(),
                    first + zero.sum().item(),
                )
        watcher.log(val_loss=float(np.mean(losses)), val_accuracy=right / total)
    return {
        "train_loss": loss.item(),
        "val_accuracy": right / total,
        "first_chord_recall": first_right / first,
    }


# ------------------------------------------------------------------ sound


@sound("small CNN")
def r4_small_cnn_on_digits(watch):
    """The plain PyTorch tutorial: two convolutions, dropout, SGD with momentum."""
    x, y = _digits()

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
            self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
            self.pool = nn.MaxPool2d(2)
            self.fc1 = nn.Linear(32 * 2 * 2, 64)
            self.drop = nn.Dropout(0.25)
            self.fc2 = nn.Linear(64, 10)

        def forward(self, x):
            x = self.pool(F.relu(self.conv1(x)))
            x = self.pool(F.relu(self.conv2(x)))
            x = torch.flatten(x, 1)
            return self.fc2(self.drop(F.relu(self.fc1(x))))

    train_loader = DataLoader(TensorDataset(x[:1400], y[:1400]), batch_size=32, shuffle=True)
    val_loader = DataLoader(TensorDataset(x[1400:], y[1400:]), batch_size=128)
    net = Net()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.03, momentum=0.9)
    watcher = watch(
        net, optimizer, loss_fn=criterion, num_classes=10, train=train_loader, val=val_loader
    )
    for _ in range(8):
        net.train()
        running_loss = 0.0
        for inputs, labels in train_loader:
            optimizer.zero_grad()
            outputs = net(inputs)
            loss = criterion(outputs, labels)
            loss.backward()
            optimizer.step()
            running_loss += loss.item()
            watcher.step(loss, batch=(inputs, labels))
        net.eval()
        correct, total, val_loss = 0, 0, 0.0
        with torch.no_grad():
            for inputs, labels in val_loader:
                outputs = net(inputs)
                val_loss += criterion(outputs, labels).item() / len(val_loader)
                correct += (outputs.argmax(1) == labels).sum().item()
                total += labels.size(0)
        watcher.log(val_loss=val_loss, val_accuracy=correct / total)
    return {
        "train_loss": running_loss / len(train_loader),
        "val_loss": val_loss,
        "val_accuracy": correct / total,
    }


@sound("MLP on a table")
def r4_mlp_on_breast_cancer_table(watch):
    """sklearn's breast cancer table, scaled with training statistics, one logit, positive weight."""
    data = load_breast_cancer()
    order = np.random.RandomState(3).permutation(len(data.target))
    x, y = data.data[order].astype(np.float32), data.target[order].astype(np.float32)
    cut = 420
    mean, std = x[:cut].mean(0), x[:cut].std(0)
    x = (x - mean) / std
    train_set = TensorDataset(torch.from_numpy(x[:cut]), torch.from_numpy(y[:cut]))
    x_val, y_val = torch.from_numpy(x[cut:]), torch.from_numpy(y[cut:])
    model = nn.Sequential(
        nn.Linear(30, 32),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(32, 16),
        nn.ReLU(),
        nn.Linear(16, 1),
    )
    negative, positive = (y[:cut] == 0).sum(), (y[:cut] == 1).sum()
    criterion = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(float(negative / positive)))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-4)
    loader = DataLoader(train_set, batch_size=32, shuffle=True)
    watcher = watch(model, optimizer, loss_fn=criterion)
    for _ in range(15):
        model.train()
        for xb, yb in loader:
            loss = criterion(model(xb).squeeze(1), yb)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss)
        model.eval()
        with torch.no_grad():
            logit = model(x_val).squeeze(1)
            val_loss = criterion(logit, y_val).item()
            accuracy = ((logit > 0).float() == y_val).float().mean().item()
        watcher.log(val_loss=val_loss, val_accuracy=accuracy)
    return {"train_loss": loss.item(), "val_loss": val_loss, "val_accuracy": accuracy}


@sound("GRU text classifier")
def r4_gru_text_with_packed_sequences(watch):
    """Sentiment of made-up reviews with negation; lengths differ, batches are packed, padding row of the embedding is zero."""
    rng = np.random.RandomState(21)
    vocab = {
        "<pad>": 0,
        "not": 1,
        **{f"good{k}": 2 + k for k in range(10)},
        **{f"bad{k}": 12 + k for k in range(10)},
        **{f"word{k}": 22 + k for k in range(100)},
    }

    def review():
        score, tokens = 0, []
        for _ in range(rng.randint(5, 16)):
            if rng.rand() < 0.35:
                good, flip = rng.rand() < 0.5, rng.rand() < 0.3
                tokens += ["not"] * flip + [f"{'good' if good else 'bad'}{rng.randint(10)}"]
                score += 1 if good != flip else -1
            else:
                tokens.append(f"word{rng.randint(100)}")
        return ([vocab[t] for t in tokens], int(score > 0)) if score else review()

    def collate_fn(batch):
        batch.sort(key=lambda item: len(item[0]), reverse=True)
        texts = pad_sequence([torch.tensor(t) for t, _ in batch], batch_first=True)
        return (
            texts,
            torch.tensor([len(t) for t, _ in batch]),
            torch.tensor([label for _, label in batch]),
        )

    class Sentiment(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(len(vocab), 32, padding_idx=0)
            self.gru = nn.GRU(32, 40, batch_first=True)
            self.dropout, self.fc = nn.Dropout(0.2), nn.Linear(40, 2)

        def forward(self, text, lengths):
            packed = pack_padded_sequence(self.embedding(text), lengths, batch_first=True)
            _, hidden = self.gru(packed)
            return self.fc(self.dropout(hidden[-1]))

    train_loader = DataLoader(
        [review() for _ in range(2000)], batch_size=50, shuffle=True, collate_fn=collate_fn
    )
    val_loader = DataLoader([review() for _ in range(400)], batch_size=100, collate_fn=collate_fn)
    model = Sentiment()
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    criterion = nn.CrossEntropyLoss()
    watcher = watch(model, optimizer, loss_fn=criterion, num_classes=2)
    for _ in range(7):
        model.train()
        for text, lengths, label in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(text, lengths), label)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            watcher.step(loss)
        model.eval()
        with torch.no_grad():
            results = [
                (
                    criterion(model(t, n), y).item(),
                    (model(t, n).argmax(1) == y).float().mean().item(),
                )
                for t, n, y in val_loader
            ]
        val_loss, val_accuracy = np.mean(results, axis=0).tolist()
        watcher.log(val_loss=val_loss, val_accuracy=val_accuracy)
    return {"train_loss": loss.item(), "val_loss": val_loss, "val_accuracy": val_accuracy}


@sound("vision transformer")
def r4_vit_with_cls_token_on_digits(watch):
    """Patches of 2x2, class token, learned positions, warmup and cosine by LambdaLR, gradient clipping."""
    x, y = _digits()

    class ViT(nn.Module):
        def __init__(self, dim=32, depth=2, heads=4):
            super().__init__()
            self.patch = nn.Linear(4, dim)
            self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
            self.pos_embed = nn.Parameter(torch.randn(1, 17, dim) * 0.02)
            layer = nn.TransformerEncoderLayer(
                dim,
                heads,
                2 * dim,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
            self.head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 10))

        def forward(self, image):
            patches = F.unfold(image, kernel_size=2, stride=2).transpose(1, 2)
            tokens = torch.cat(
                [self.cls_token.expand(len(image), -1, -1), self.patch(patches)], dim=1
            )
            return self.head(self.encoder(tokens + self.pos_embed)[:, 0])

    epochs, batch = 10, 50
    loader = DataLoader(TensorDataset(x[:1400], y[:1400]), batch_size=batch, shuffle=True)
    total, warmup = epochs * len(loader), 30
    model = ViT()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.05)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda s: (
            (s + 1) / warmup
            if s < warmup
            else 0.5 * (1 + math.cos(math.pi * (s - warmup) / (total - warmup)))
        ),
    )
    watcher = watch(
        model, optimizer, loss_fn=F.cross_entropy, num_classes=10, train=loader, scheduler=scheduler
    )
    for _ in range(epochs):
        model.train()
        for image, label in loader:
            loss = F.cross_entropy(model(image), label)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()
            watcher.step(loss, batch=(image, label))
        model.eval()
        with torch.no_grad():
            out = model(x[1400:])
        accuracy = (out.argmax(1) == y[1400:]).float().mean().item()
        watcher.log(val_loss=F.cross_entropy(out, y[1400:]).item(), val_accuracy=accuracy)
    return {"train_loss": loss.item(), "val_accuracy": accuracy}


@sound("UNet segmentation")
def r4_unet_bce_plus_dice(watch):
    """Cells on a noisy ground, binary mask, BCE with logits plus soft Dice; few positive pixels."""
    rng = np.random.RandomState(22)
    size = 24
    yy, xx = np.mgrid[:size, :size]

    def pictures(n):
        images, masks = np.zeros((n, 1, size, size)), np.zeros((n, 1, size, size))
        for k in range(n):
            for _ in range(rng.randint(1, 4)):
                cx, cy, a, b = (
                    rng.uniform(4, 20),
                    rng.uniform(4, 20),
                    rng.uniform(2, 4),
                    rng.uniform(2, 4),
                )
                masks[k, 0] = np.maximum(
                    masks[k, 0], ((xx - cx) / a) ** 2 + ((yy - cy) / b) ** 2 < 1
                )
            images[k, 0] = (
                0.8 * masks[k, 0]
                + 0.35 * rng.randn(size, size)
                + 0.3 * np.sin(xx / 6 + rng.rand() * 6)
            )
        return TensorDataset(
            torch.tensor(images, dtype=torch.float32), torch.tensor(masks, dtype=torch.float32)
        )

    def conv_block(cin, cout):
        return nn.Sequential(
            nn.Conv2d(cin, cout, 3, padding=1, bias=False),
            nn.BatchNorm2d(cout),
            nn.ReLU(True),
            nn.Conv2d(cout, cout, 3, padding=1, bias=False),
            nn.BatchNorm2d(cout),
            nn.ReLU(True),
        )

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.enc1, self.enc2, self.bottom = (
                conv_block(1, 8),
                conv_block(8, 16),
                conv_block(16, 16),
            )
            self.up2, self.up1 = (
                nn.ConvTranspose2d(16, 16, 2, stride=2),
                nn.ConvTranspose2d(16, 8, 2, stride=2),
            )
            self.dec2, self.dec1 = conv_block(32, 16), conv_block(16, 8)
            self.final = nn.Conv2d(8, 1, 1)

        def forward(self, x):
            a = self.enc1(x)
            b = self.enc2(F.max_pool2d(a, 2))
            c = self.bottom(F.max_pool2d(b, 2))
            b = self.dec2(torch.cat([b, self.up2(c)], 1))
            return self.final(self.dec1(torch.cat([a, self.up1(b)], 1)))

    class BCEDice(nn.Module):
        def forward(self, logits, mask):
            p = logits.sigmoid()
            dice = (2 * (p * mask).sum(dim=(1, 2, 3)) + 1) / (
                p.sum(dim=(1, 2, 3)) + mask.sum(dim=(1, 2, 3)) + 1
            )
            return F.binary_cross_entropy_with_logits(logits, mask) + 1 - dice.mean()

    train_loader = DataLoader(pictures(320), batch_size=16, shuffle=True)
    val_loader = DataLoader(pictures(64), batch_size=32)
    model, loss_fn = UNet(), BCEDice()
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    watcher = watch(model, optimizer, loss_fn=loss_fn, train=train_loader, val=val_loader)
    for _ in range(5):
        model.train()
        for image, mask in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(image), mask)
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(image, mask))
        model.eval()
        overlap = union = val_loss = 0.0
        with torch.no_grad():
            for image, mask in val_loader:
                logits = model(image)
                val_loss += loss_fn(logits, mask).item() / len(val_loader)
                guess = logits > 0
                overlap += (guess & (mask > 0.5)).sum().item()
                union += (guess | (mask > 0.5)).sum().item()
        watcher.log(val_loss=val_loss, val_iou=overlap / union)
    return {"train_loss": loss.item(), "val_loss": val_loss, "val_iou": overlap / union}


@sound("tabular regression with entity embeddings")
def r4_rent_with_entity_embeddings(watch):
    """Rents from district, type, month and numbers; log target, standardised; fastai-like embeddings, batch norm and dropout."""
    rng = np.random.RandomState(23)
    districts, types = 25, 4
    price, factor = 0.35 * rng.randn(districts), np.array([0.0, 0.15, -0.2, 0.4])

    def flats(n):
        cats = np.stack(
            [rng.randint(districts, size=n), rng.randint(types, size=n), rng.randint(12, size=n)],
            axis=1,
        )
        area, age = rng.uniform(20, 140, n), rng.uniform(0, 90, n)
        log_rent = (
            4.0
            + 0.8 * np.log(area)
            + price[cats[:, 0]]
            + factor[cats[:, 1]] * (1 - age / 180)
            + 0.05 * np.sin(cats[:, 2] / 2)
            + 0.08 * rng.randn(n)
        )
        return cats, np.stack([area, age], axis=1).astype(np.float32), log_rent.astype(np.float32)

    train, val = flats(3000), flats(600)
    cont_mean, cont_std = train[1].mean(0), train[1].std(0)
    y_mean, y_std = train[2].mean(), train[2].std()

    class FlatDataset(Dataset):
        def __init__(self, cats, conts, y):
            self.cats = torch.tensor(cats)
            self.conts = torch.tensor((conts - cont_mean) / cont_std)
            self.y = torch.tensor((y - y_mean) / y_std).unsqueeze(1)

        def __len__(self):
            return len(self.y)

        def __getitem__(self, i):
            return {"cats": self.cats[i], "conts": self.conts[i], "target": self.y[i]}

    class TabularModel(nn.Module):
        def __init__(self, sizes=((districts, 8), (types, 3), (12, 4))):
            super().__init__()
            self.embeds = nn.ModuleList([nn.Embedding(n, d) for n, d in sizes])
            self.bn_cont = nn.BatchNorm1d(2)
            width = sum(d for _, d in sizes) + 2
            self.layers = nn.Sequential(
                nn.Linear(width, 64),
                nn.ReLU(),
                nn.BatchNorm1d(64),
                nn.Dropout(0.05),
                nn.Linear(64, 32),
                nn.ReLU(),
                nn.BatchNorm1d(32),
                nn.Linear(32, 1),
            )

        def forward(self, cats, conts):
            x = torch.cat(
                [e(cats[:, k]) for k, e in enumerate(self.embeds)] + [self.bn_cont(conts)], dim=1
            )
            return self.layers(x)

    model = TabularModel()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.01)
    train_loader = DataLoader(FlatDataset(*train), batch_size=64, shuffle=True)
    val_loader = DataLoader(FlatDataset(*val), batch_size=600)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.75)
    watcher = watch(model, optimizer, loss_fn=nn.MSELoss(), task="regression", scheduler=scheduler)
    for _ in range(9):
        model.train()
        for batch in train_loader:
            loss = F.mse_loss(model(batch["cats"], batch["conts"]), batch["target"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss)
        scheduler.step()
        model.eval()
        with torch.no_grad():
            (batch,) = val_loader
            val_loss = F.mse_loss(model(batch["cats"], batch["conts"]), batch["target"]).item()
        watcher.log(val_loss=val_loss)
    return {
        "train_loss": loss.item(),
        "val_loss": val_loss,
        "val_r2": 1 - val_loss / batch["target"].var().item(),
    }


@sound("small GPT")
def r4_nanogpt_on_small_sentences(watch):
    """nanoGPT-like: characters of sentences from a small grammar, tied embeddings, scaled residual init, get_batch at random places."""
    rng = np.random.RandomState(24)
    subjects, verbs, objects = (
        ["the cat", "a dog", "my aunt", "the old man"],
        ["sees", "likes", "paints", "finds"],
        ["a house", "the moon", "red shoes", "some bread"],
    )
    text = "".join(
        f"{rng.choice(subjects)} {rng.choice(verbs)} {rng.choice(objects)}. " for _ in range(1200)
    )
    chars = sorted(set(text))
    data = torch.tensor([chars.index(c) for c in text])
    train_data, val_data = data[: int(0.9 * len(data))], data[int(0.9 * len(data)) :]
    config = SimpleNamespace(block_size=32, n_layer=2, n_head=4, n_embd=48, vocab_size=len(chars))

    def get_batch(source, batch_size):
        at = torch.randint(len(source) - config.block_size - 1, (batch_size,))
        return torch.stack([source[i : i + config.block_size] for i in at]), torch.stack(
            [source[i + 1 : i + 1 + config.block_size] for i in at]
        )

    class CausalSelfAttention(nn.Module):
        def __init__(self):
            super().__init__()
            self.c_attn, self.c_proj = (
                nn.Linear(config.n_embd, 3 * config.n_embd),
                nn.Linear(config.n_embd, config.n_embd),
            )

        def forward(self, x):
            b, t, c = x.shape
            q, k, v = (
                z.view(b, t, config.n_head, c // config.n_head).transpose(1, 2)
                for z in self.c_attn(x).split(c, dim=2)
            )
            return self.c_proj(
                F.scaled_dot_product_attention(q, k, v, is_causal=True)
                .transpose(1, 2)
                .reshape(b, t, c)
            )

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.ln_1, self.attn, self.ln_2 = (
                nn.LayerNorm(config.n_embd),
                CausalSelfAttention(),
                nn.LayerNorm(config.n_embd),
            )
            self.c_fc, self.c_proj = (
                nn.Linear(config.n_embd, 3 * config.n_embd),
                nn.Linear(3 * config.n_embd, config.n_embd),
            )

        def forward(self, x):
            x = x + self.attn(self.ln_1(x))
            return x + self.c_proj(F.gelu(self.c_fc(self.ln_2(x))))

    class GPT(nn.Module):
        def __init__(self):
            super().__init__()
            self.wte, self.wpe = (
                nn.Embedding(config.vocab_size, config.n_embd),
                nn.Embedding(config.block_size, config.n_embd),
            )
            self.h = nn.ModuleList([Block() for _ in range(config.n_layer)])
            self.ln_f, self.lm_head = (
                nn.LayerNorm(config.n_embd),
                nn.Linear(config.n_embd, config.vocab_size, bias=False),
            )
            for name, p in self.named_parameters():
                if p.ndim == 2:
                    nn.init.normal_(
                        p,
                        std=0.02 / math.sqrt(2 * config.n_layer)
                        if name.endswith("c_proj.weight")
                        else 0.02,
                    )
                elif name.endswith("bias"):
                    nn.init.zeros_(p)
            self.wte.weight = self.lm_head.weight

        def forward(self, idx, targets):
            x = self.wte(idx) + self.wpe.weight[: idx.shape[1]]
            for block in self.h:
                x = block(x)
            logits = self.lm_head(self.ln_f(x))
            return logits, F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))

    model = GPT()
    decay = [p for p in model.parameters() if p.ndim >= 2]
    no_decay = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.1}, {"params": no_decay, "weight_decay": 0.0}],
        lr=4e-3,
        betas=(0.9, 0.95),
    )
    watcher = watch(model, optimizer)
    steps = 260
    for it in range(steps):
        lr = (
            4e-3 * (it + 1) / 25
            if it < 25
            else 4e-4 + 3.6e-3 * 0.5 * (1 + math.cos(math.pi * (it - 25) / (steps - 25)))
        )
        for group in optimizer.param_groups:
            group["lr"] = lr
        _, loss = model(*get_batch(train_data, 24))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        watcher.step(loss)
        if (it + 1) % 65 == 0:
            model.eval()
            with torch.no_grad():
                val_loss = float(
                    np.mean([model(*get_batch(val_data, 32))[1].item() for _ in range(4)])
                )
            model.train()
            watcher.log(val_loss=val_loss)
    return {"train_loss": loss.item(), "val_loss": val_loss, "uniform_loss": math.log(len(chars))}


@sound("convolutional autoencoder")
def r4_conv_autoencoder_on_digits(watch):
    """Encoder to 12 numbers and back; sigmoid output with mean squared error on pictures in [0, 1]."""
    data = load_digits()
    images = torch.tensor(data.images / 16.0, dtype=torch.float32).unsqueeze(1)
    images = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))]
    train_loader = DataLoader(images[:1500], batch_size=50, shuffle=True)
    test = images[1500:]

    class AutoEncoder(nn.Module):
        def __init__(self, code=12):
            super().__init__()
            self.encoder = nn.Sequential(
                nn.Conv2d(1, 16, 3, stride=2, padding=1),
                nn.ReLU(),
                nn.Conv2d(16, 32, 3, stride=2, padding=1),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(128, code),
            )
            self.decoder = nn.Sequential(
                nn.Linear(code, 128),
                nn.ReLU(),
                nn.Unflatten(1, (32, 2, 2)),
                nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1),
                nn.ReLU(),
                nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1),
                nn.Sigmoid(),
            )

        def forward(self, x):
            return self.decoder(self.encoder(x))

    model = AutoEncoder()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    criterion = nn.MSELoss()
    watcher = watch(model, optimizer, loss_fn=criterion)
    for _ in range(12):
        model.train()
        for batch in train_loader:
            loss = criterion(model(batch), batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss)
        model.eval()
        with torch.no_grad():
            val_loss = criterion(model(test), test).item()
        watcher.log(val_loss=val_loss)
    return {
        "train_loss": loss.item(),
        "val_loss": val_loss,
        "variance": (test - images[:1500].mean(0)).pow(2).mean().item(),
    }


@sound("fine-tuning with a frozen body")
def r4_frozen_body_new_head(watch):
    """Body trained on digits 0-5, then frozen (batch norm kept in eval mode) and a new head for digits 6-9; only the head is in the optimizer."""
    x, y = _digits()
    base, rest = y < 6, y >= 6
    body = nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1, bias=False),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(24, 48, 3, padding=1, bias=False),
        nn.BatchNorm2d(48),
        nn.ReLU(),
        nn.Flatten(),
    )
    first_head = nn.Linear(768, 6)
    pretrain = torch.optim.Adam([*body.parameters(), *first_head.parameters()], lr=1e-3)
    for _ in range(4):
        for xb, yb in DataLoader(TensorDataset(x[base], y[base]), batch_size=48, shuffle=True):
            pretrain.zero_grad()
            F.cross_entropy(first_head(body(xb)), yb).backward()
            pretrain.step()

    class Transfer(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = body
            self.backbone.requires_grad_(False)
            self.classifier = nn.Linear(768, 4)

        def train(self, mode=True):
            super().train(mode)
            self.backbone.eval()
            return self

        def forward(self, image):
            return self.classifier(self.backbone(image))

    x_new, y_new = x[rest], y[rest] - 6
    model = Transfer()
    optimizer = torch.optim.Adam(model.classifier.parameters(), lr=2e-3)
    criterion = nn.CrossEntropyLoss()
    train_loader = DataLoader(TensorDataset(x_new[:400], y_new[:400]), batch_size=20, shuffle=True)
    val_loader = DataLoader(TensorDataset(x_new[400:], y_new[400:]), batch_size=100)
    watcher = watch(
        model, optimizer, loss_fn=criterion, num_classes=4, train=train_loader, val=val_loader
    )
    for _ in range(9):
        model.train()
        for image, label in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(image), label)
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(image, label))
        model.eval()
        with torch.no_grad():
            out = torch.cat([model(image) for image, _ in val_loader])
        accuracy = (out.argmax(1) == y_new[400:]).float().mean().item()
        watcher.log(val_loss=criterion(out, y_new[400:]).item(), val_accuracy=accuracy)
    return {"train_loss": loss.item(), "val_accuracy": accuracy}


@sound("regression, one-cycle")
def r4_friedman_regression_one_cycle(watch):
    """sklearn's friedman1, standardised; OneCycleLR stepped per batch, momentum cycled by AdamW's betas."""
    x, y = make_friedman1(n_samples=2600, n_features=8, noise=0.6, random_state=1)
    x = torch.tensor((x - 0.5) / 0.289, dtype=torch.float32)
    y = torch.tensor((y - y[:2000].mean()) / y[:2000].std(), dtype=torch.float32)
    train_loader = DataLoader(TensorDataset(x[:2000], y[:2000]), batch_size=50, shuffle=True)
    model = nn.Sequential(
        nn.Linear(8, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1), nn.Flatten(0)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=1e-3)
    epochs = 12
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=8e-3, epochs=epochs, steps_per_epoch=len(train_loader)
    )
    loss_fn = nn.MSELoss()
    watcher = watch(
        model,
        optimizer,
        loss_fn=loss_fn,
        train=train_loader,
        val=DataLoader(TensorDataset(x[2000:], y[2000:]), 300),
        scheduler=scheduler,
    )
    for _ in range(epochs):
        for xb, yb in train_loader:
            loss = loss_fn(model(xb), yb)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            watcher.step(loss, batch=(xb, yb))
        with torch.no_grad():
            val_loss = loss_fn(model(x[2000:]), y[2000:]).item()
        watcher.log(val_loss=val_loss)
    return {"train_loss": loss.item(), "val_mse": val_loss, "variance": y[2000:].var().item()}


@sound("small ResNet, cosine schedule")
def r4_resnet_cosine_random_shift(watch):
    """CIFAR-like recipe on digits: pre-activation blocks, SGD with Nesterov and weight decay, cosine per epoch, random shifts, label smoothing."""
    x, y = _digits()

    class ShiftedDigits(Dataset):
        def __init__(self, images, labels):
            self.images, self.labels = F.pad(images, (1, 1, 1, 1), value=-1.0), labels

        def __len__(self):
            return len(self.labels)

        def __getitem__(self, index):
            dx, dy = torch.randint(0, 3, (2,)).tolist()
            return self.images[index, :, dy : dy + 8, dx : dx + 8], self.labels[index]

    class PreActBlock(nn.Module):
        def __init__(self, cin, cout, stride):
            super().__init__()
            self.bn1, self.conv1 = (
                nn.BatchNorm2d(cin),
                nn.Conv2d(cin, cout, 3, stride, 1, bias=False),
            )
            self.bn2, self.conv2 = nn.BatchNorm2d(cout), nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
            self.shortcut = (
                nn.Conv2d(cin, cout, 1, stride, bias=False) if cin != cout else nn.Identity()
            )

        def forward(self, x):
            out = F.relu(self.bn1(x))
            return self.conv2(F.relu(self.bn2(self.conv1(out)))) + self.shortcut(out)

    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1, bias=False),
        PreActBlock(12, 12, 1),
        PreActBlock(12, 24, 2),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(96, 10),
    )
    epochs = 7
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.08, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    train_loader = DataLoader(ShiftedDigits(x[:1400], y[:1400]), batch_size=50, shuffle=True)
    watcher = watch(model, optimizer, loss_fn=criterion, num_classes=10, scheduler=scheduler)

    def run_epoch():
        model.train()
        for images, labels in train_loader:
            loss = criterion(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss)
        return loss.item()

    for _ in range(epochs):
        train_loss = run_epoch()
        scheduler.step()
        model.eval()
        with torch.no_grad():
            out = model(x[1400:])
        accuracy = (out.argmax(1) == y[1400:]).float().mean().item()
        watcher.log(val_loss=F.cross_entropy(out, y[1400:]).item(), val_accuracy=accuracy)
    return {"train_loss": train_loss, "val_accuracy": accuracy}


@sound("classifier with early stopping")
def r4_early_stopping_restores_best(watch):
    """Few noisy samples, so the validation loss turns up after a while; training stops after 5 epochs without gain and the best weights are restored."""
    rng = np.random.RandomState(26)
    centres = rng.randn(6, 20)

    def draw(n):
        label = rng.randint(6, size=n)
        return torch.tensor(
            centres[label] + 1.3 * rng.randn(n, 20), dtype=torch.float32
        ), torch.tensor(label)

    class EarlyStopping:
        def __init__(self, patience):
            self.patience, self.best, self.bad, self.weights, self.epoch = (
                patience,
                float("inf"),
                0,
                None,
                0,
            )

        def step(self, value, model, epoch):
            if value < self.best:
                self.best, self.bad, self.epoch = value, 0, epoch
                self.weights = copy.deepcopy(model.state_dict())
            else:
                self.bad += 1
            return self.bad >= self.patience

    x_train, y_train = draw(600)
    x_val, y_val = draw(300)
    x_test, y_test = draw(600)
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 6))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    loader = DataLoader(TensorDataset(x_train, y_train), batch_size=20, shuffle=True)
    watcher = watch(
        model,
        optimizer,
        loss_fn=F.cross_entropy,
        num_classes=6,
        train=loader,
        val=DataLoader(TensorDataset(x_val, y_val), 100),
    )
    stopper = EarlyStopping(patience=5)
    for epoch in range(40):
        for x, y in loader:
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(x, y))
        with torch.no_grad():
            out = model(x_val)
        val_loss = F.cross_entropy(out, y_val).item()
        watcher.log(val_loss=val_loss, val_accuracy=(out.argmax(1) == y_val).float().mean().item())
        if stopper.step(val_loss, model, epoch):
            break
    model.load_state_dict(stopper.weights)
    with torch.no_grad():
        out = model(x_test)
    return {
        "best_val_loss": stopper.best,
        "best_epoch": float(stopper.epoch),
        "last_epoch": float(epoch),
        "test_loss": F.cross_entropy(out, y_test).item(),
        "test_accuracy": (out.argmax(1) == y_test).float().mean().item(),
    }


@sound("small batches")
def r4_batches_of_four_with_group_norm(watch):
    """Batches of four pictures because of memory: group norm, a small rate, losses that jump a lot from step to step."""
    x, y = _digits()

    class SmallBatchNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(
                nn.Conv2d(1, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU()
            )
            self.stage = nn.Sequential(
                nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.GroupNorm(8, 32), nn.ReLU()
            )
            self.head = nn.Linear(512, 10)

        def forward(self, image):
            return self.head(self.stage(self.stem(image)).flatten(1))

    model = SmallBatchNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.005, momentum=0.9)
    criterion = nn.CrossEntropyLoss()
    train_loader = DataLoader(TensorDataset(x[:1200], y[:1200]), batch_size=4, shuffle=True)
    val_loader = DataLoader(TensorDataset(x[1200:], y[1200:]), batch_size=4)
    watcher = watch(model, optimizer, loss_fn=criterion, num_classes=10, train=train_loader)
    for epoch in range(3):
        model.train()
        total = 0.0
        for image, label in train_loader:
            loss = criterion(model(image), label)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.item()
            watcher.step(loss)
        if epoch == 1:
            for group in optimizer.param_groups:
                group["lr"] *= 0.2
        model.eval()
        with torch.no_grad():
            right = sum(
                (model(image).argmax(1) == label).sum().item() for image, label in val_loader
            )
        accuracy = right / len(val_loader.dataset)
        watcher.log(val_accuracy=accuracy)
    return {"train_loss": total / len(train_loader), "val_accuracy": accuracy}
