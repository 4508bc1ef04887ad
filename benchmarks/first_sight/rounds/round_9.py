"""Round 9: the mistakes that people report most often, in many kinds of training, and sound programs."""

import io
import math
import random
from collections import deque

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits, make_moons
from sklearn.metrics import roc_auc_score
from torch.utils.data import DataLoader, Dataset, Sampler, TensorDataset

from benchmarks.first_sight.programs import faulty, sound

# ---------------------------------------------------------------- faulty programs


@faulty(
    "text classification (GRU)",
    fault="the articles are read folder by folder and the training loader has no shuffle=True: the network sees hundreds of one class, then hundreds of the next, and ends by calling everything the last class",
    source="https://github.com/facebookresearch/fastText/issues/74, https://github.com/zalandoresearch/fashion-mnist/pull/5 and https://github.com/xuyxu/Deep-Clustering-Network/issues/2",
)
def r9_gru_news_folders_never_shuffled(watch, fixed):
    """Five newsgroups; the corpus is read with one loop over the folders."""
    topics = ["autos", "crypt", "graphics", "hockey", "space"]
    vocab, length = 400, 24

    def read_folder(topic, n, rng):
        """An article is mostly common words, a few of its topic and a few of any other topic."""
        texts = []
        for _ in range(n):
            words = rng.integers(200, vocab, length)
            own = rng.random(length) < 0.25
            stray = rng.random(length) < 0.12
            words[stray] = rng.integers(1, 200, stray.sum())
            words[own] = rng.integers(1 + topic * 40, 40 + topic * 40, own.sum())
            texts.append(words)
        return texts

    def read_corpus(n_per_folder, seed):
        rng = np.random.default_rng(seed)
        texts, labels = [], []
        for label, _name in enumerate(topics):
            folder = read_folder(label, n_per_folder, rng)
            texts.extend(folder)
            labels.extend([label] * len(folder))
        return TensorDataset(torch.tensor(np.stack(texts)), torch.tensor(labels))

    class NewsGRU(nn.Module):
        def __init__(self, dim=32, hidden=32):
            super().__init__()
            self.embedding = nn.Embedding(vocab, dim, padding_idx=0)
            self.gru = nn.GRU(dim, hidden, batch_first=True, bidirectional=True)
            self.dropout = nn.Dropout(0.3)
            self.fc = nn.Linear(2 * hidden, len(topics))

        def forward(self, x):
            out, _ = self.gru(self.embedding(x))
            return self.fc(self.dropout(out.max(1).values))

    train_loader = DataLoader(read_corpus(480, 0), batch_size=32, shuffle=fixed)
    val_loader = DataLoader(read_corpus(60, 1), batch_size=100)
    model = NewsGRU()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    watcher = watch(model, optimizer, loss_fn=criterion, train=train_loader, val=val_loader)
    for _epoch in range(4):
        model.train()
        for texts, labels in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(texts), labels)
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(texts, labels))
        model.eval()
        val_loss = correct = total = 0
        predicted = []
        with torch.no_grad():
            for texts, labels in val_loader:
                out = model(texts)
                val_loss += criterion(out, labels).item() * len(labels)
                correct += (out.argmax(1) == labels).sum().item()
                total += len(labels)
                predicted.append(out.argmax(1))
        watcher.log(val_loss=val_loss / total, val_accuracy=correct / total)
    share = torch.cat(predicted).bincount(minlength=5).max().item() / total
    return {
        "train_loss": loss.item(),
        "val_loss": val_loss / total,
        "val_accuracy": correct / total,
        "share_of_the_most_predicted_class": share,
    }


@faulty(
    "recommender (neural collaborative filtering)",
    fault="the network ends in a sigmoid and the loss is BCEWithLogitsLoss, which applies the sigmoid again: the score lies between 0.5 and 0.73 for the loss, gradients die and the ranking stays poor",
    source="https://github.com/yudi-mars/daisyRec/pull/15, https://github.com/NVIDIA-Merlin/models/pull/1175 and https://github.com/avBuffer/UNet3plus_pth/issues/23",
)
def r9_ncf_sigmoid_before_bce_with_logits(watch, fixed):
    """NeuMF on implicit feedback, four sampled negatives for each click."""
    n_users, n_items = 300, 200
    rng = np.random.default_rng(0)
    u, v = rng.normal(size=(n_users, 6)), rng.normal(size=(n_items, 6))
    scores = u @ v.T + 0.4 * rng.normal(size=(n_users, n_items))
    liked = np.argsort(-scores, 1)[:, :20]
    for row in liked:
        rng.shuffle(row)
    train_pos, test_pos = liked[:, :16], liked[:, 16:]
    known = [set(row) for row in liked]

    def with_negatives(pos):
        users, items, labels = [], [], []
        for user in range(n_users):
            for item in pos[user]:
                users.append(user), items.append(item), labels.append(1.0)
                for _ in range(4):
                    j = int(rng.integers(n_items))
                    while j in known[user]:
                        j = int(rng.integers(n_items))
                    users.append(user), items.append(j), labels.append(0.0)
        return TensorDataset(torch.tensor(users), torch.tensor(items), torch.tensor(labels))

    class NeuMF(nn.Module):
        def __init__(self, d=16):
            super().__init__()
            self.gmf_user, self.gmf_item = nn.Embedding(n_users, d), nn.Embedding(n_items, d)
            self.mlp_user, self.mlp_item = nn.Embedding(n_users, d), nn.Embedding(n_items, d)
            for e in (self.gmf_user, self.gmf_item, self.mlp_user, self.mlp_item):
                nn.init.normal_(e.weight, std=0.1)
            self.mlp = nn.Sequential(nn.Linear(2 * d, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU())
            self.predict = nn.Linear(d + 16, 1)

        def forward(self, user, item):
            gmf = self.gmf_user(user) * self.gmf_item(item)
            mlp = self.mlp(torch.cat([self.mlp_user(user), self.mlp_item(item)], -1))
            out = self.predict(torch.cat([gmf, mlp], -1)).squeeze(-1)
            return out if fixed else torch.sigmoid(out)

    train_loader = DataLoader(with_negatives(train_pos), batch_size=256, shuffle=True)
    val_loader = DataLoader(with_negatives(test_pos), batch_size=1024)
    model = NeuMF()
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    watcher = watch(model, optimizer, loss_fn=criterion, train=train_loader, val=val_loader)
    for _epoch in range(6):
        model.train()
        for user, item, label in train_loader:
            loss = criterion(model(user, item), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(user, item, label))
        model.eval()
        with torch.no_grad():
            outs, labels = [], []
            for user, item, label in val_loader:
                outs.append(model(user, item))
                labels.append(label)
            out, label = torch.cat(outs), torch.cat(labels)
            val_loss = criterion(out, label).item()
            accuracy = ((torch.sigmoid(out) > 0.5) == (label > 0.5)).float().mean().item()
            watcher.log(val_loss=val_loss, val_accuracy=accuracy)
    return {
        "train_loss": loss.item(),
        "val_loss": val_loss,
        "val_accuracy": accuracy,
        "val_auc": roc_auc_score(label.numpy(), out.numpy()),
    }


@faulty(
    "graph network (node classification)",
    fault="forward returns F.softmax and the loss is F.nll_loss, which wants log-probabilities: the loss is minus the probability (it runs from -0.14 to -1), its gradient is weak where the network is wrong, and training stalls",
    source="https://github.com/tkipf/pygcn/issues/16, https://github.com/AnubhavGupta3377/Text-Classification-Models-Pytorch/issues/9 and https://github.com/midas-research/man-sf-emnlp/issues/2",
)
def r9_gcn_softmax_into_nll_loss(watch, fixed):
    """A citation graph in the manner of Cora: seven fields, sparse bags of words, full batch."""
    classes, n, words = 7, 700, 300
    rng = np.random.default_rng(0)
    y = rng.choice(classes, n, p=[0.3, 0.16, 0.15, 0.13, 0.11, 0.08, 0.07])
    same = y[:, None] == y[None, :]
    link = rng.random((n, n)) < np.where(same, 0.03, 0.0012)
    adj = np.triu(link, 1)
    adj = (adj | adj.T).astype(np.float32) + np.eye(n, dtype=np.float32)
    deg = adj.sum(1)
    adj = torch.tensor(adj / np.sqrt(deg[:, None] * deg[None, :]))
    x = rng.random((n, words)) < 0.03
    for c in range(classes):
        own = np.arange(c * 40, c * 40 + 40)
        rows = np.where(y == c)[0]
        x[np.ix_(rows, own)] |= rng.random((len(rows), 40)) < 0.09
    x = torch.tensor(x, dtype=torch.float32)
    x = x / x.sum(1, keepdim=True).clamp(min=1)
    y = torch.tensor(y)
    order = rng.permutation(n)
    idx_train, idx_val = torch.tensor(order[:140]), torch.tensor(order[140:440])

    class GraphConvolution(nn.Module):
        def __init__(self, i, o):
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.empty(i, o)), nn.Parameter(torch.empty(o))
            bound = 1 / math.sqrt(o)
            nn.init.uniform_(self.weight, -bound, bound)
            nn.init.uniform_(self.bias, -bound, bound)

        def forward(self, h, a):
            return a @ (h @ self.weight) + self.bias

    class GCN(nn.Module):
        def __init__(self, hidden=16):
            super().__init__()
            self.gc1 = GraphConvolution(words, hidden)
            self.gc2 = GraphConvolution(hidden, classes)

        def forward(self, h, a):
            h = F.dropout(F.relu(self.gc1(h, a)), 0.5, training=self.training)
            h = self.gc2(h, a)
            return F.log_softmax(h, dim=1) if fixed else F.softmax(h, dim=1)

    model = GCN()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    watcher = watch(model, optimizer)
    for epoch in range(200):
        model.train()
        optimizer.zero_grad()
        output = model(x, adj)
        loss = F.nll_loss(output[idx_train], y[idx_train])
        loss.backward()
        optimizer.step()
        watcher.step(loss, batch=(x, y))
        if epoch % 10 == 9:
            model.eval()
            with torch.no_grad():
                output = model(x, adj)
                val_loss = F.nll_loss(output[idx_val], y[idx_val]).item()
                pred = output.argmax(1)
                val_accuracy = (pred[idx_val] == y[idx_val]).float().mean().item()
            watcher.log(val_loss=val_loss, val_accuracy=val_accuracy)
    return {
        "train_loss": loss.item(),
        "val_loss": val_loss,
        "val_accuracy": val_accuracy,
        "train_accuracy": (pred[idx_train] == y[idx_train]).float().mean().item(),
        "classes_predicted": len(pred[idx_val].unique()),
    }


@faulty(
    "text classification (transformer encoder, fine-tuning)",
    fault="the pretrained encoder is fine-tuned with a learning rate of 2e-2 where some 5e-4 is right: the weights are thrown away in the first steps, the loss stays at chance and every sentence gets the same class",
    source="https://github.com/huggingface/transformers/issues/12041, https://github.com/huggingface/transformers/issues/735 and https://github.com/graykode/nlp-tutorial/issues/77",
)
def r9_bert_learning_rate_far_too_high(watch, fixed):
    """A small BERT, shortly pretrained on masked words, then taught the intent of a sentence."""
    cls, mask, vocab, length = 0, 1, 90, 14
    rng = np.random.default_rng(0)
    n_intents = 4

    def sentences(n):
        """Words come in pairs (2k, 2k + 1); the intent is which of four verbs stands before the first name."""
        ids = rng.integers(10, vocab // 2, (n, (length - 2) // 2))
        ids = np.stack([2 * ids, 2 * ids + 1], 2).reshape(n, -1) % vocab
        ids = np.where(ids < 10, ids + 10, ids)
        verb = rng.integers(0, n_intents, n)
        place = rng.integers(0, length - 3, n)
        out = np.insert(ids, 0, cls, axis=1)
        out = np.concatenate([out, rng.integers(10, vocab, (n, 1))], 1)
        out[np.arange(n), place + 1] = 2 + verb
        out[np.arange(n), place + 2] = rng.integers(6, 10, n)
        return torch.tensor(out), torch.tensor(verb)

    class Bert(nn.Module):
        def __init__(self, d=48, layers=3):
            super().__init__()
            self.word, self.position = nn.Embedding(vocab, d), nn.Embedding(length, d)
            self.norm, self.dropout = nn.LayerNorm(d), nn.Dropout(0.1)
            layer = nn.TransformerEncoderLayer(d, 4, 2 * d, 0.1, "gelu", batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

        def forward(self, ids):
            h = self.word(ids) + self.position(torch.arange(ids.shape[1]))
            return self.encoder(self.dropout(self.norm(h)))

    class BertForIntent(nn.Module):
        def __init__(self, bert, d=48):
            super().__init__()
            self.bert = bert
            self.pooler = nn.Linear(d, d)
            self.dropout, self.classifier = nn.Dropout(0.1), nn.Linear(d, n_intents)

        def forward(self, ids):
            pooled = torch.tanh(self.pooler(self.bert(ids)[:, 0]))
            return self.classifier(self.dropout(pooled))

    bert, lm_head = Bert(), nn.Linear(48, vocab)
    pre = torch.optim.AdamW([*bert.parameters(), *lm_head.parameters()], lr=1e-3)
    corpus, _ = sentences(1600)
    for _ in range(2):  # masked words
        for idx in torch.randperm(len(corpus)).split(32):
            ids = corpus[idx]
            hidden = (torch.rand(ids.shape) < 0.2) & (ids != cls)
            out = lm_head(bert(ids.masked_fill(hidden, mask)))
            loss = F.cross_entropy(out[hidden], ids[hidden])
            pre.zero_grad()
            loss.backward()
            pre.step()

    train_loader = DataLoader(TensorDataset(*sentences(1280)), batch_size=32, shuffle=True)
    val_loader = DataLoader(TensorDataset(*sentences(320)), batch_size=160)
    model = BertForIntent(bert)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4 if fixed else 2e-2)
    watcher = watch(model, optimizer, loss_fn=criterion, train=train_loader, val=val_loader)
    for _epoch in range(5):
        model.train()
        for ids, labels in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(ids), labels)
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(ids, labels))
        model.eval()
        with torch.no_grad():
            outs = [(model(ids), labels) for ids, labels in val_loader]
            out, labels = (torch.cat(z) for z in zip(*outs, strict=True))
            val_loss = criterion(out, labels).item()
            val_accuracy = (out.argmax(1) == labels).float().mean().item()
        watcher.log(val_loss=val_loss, val_accuracy=val_accuracy)
    return {
        "train_loss": loss.item(),
        "val_loss": val_loss,
        "val_accuracy": val_accuracy,
        "classes_predicted": len(out.argmax(1).unique()),
    }


@faulty(
    "reinforcement learning (DQN, going to a goal)",
    fault="the Q-network ends in a ReLU, so no Q-value can be below zero, while every step costs 0.1 and all true values are negative: all outputs are pressed to zero, where the ReLU passes no gradient",
    source="https://github.com/dennybritz/reinforcement-learning/issues/186, https://github.com/dennybritz/reinforcement-learning/pull/104 and https://stackoverflow.com/questions/47980012",
)
def r9_dqn_relu_on_the_q_values(watch, fixed):
    """Sixteen walkers on a plane with five moves; a step costs 0.1 until the goal in the middle is reached, 30 steps at most."""
    moves = np.array([[0, 0], [0.15, 0], [-0.15, 0], [0, 0.15], [0, -0.15]], dtype=np.float32)

    class Walkers:
        def __init__(self, n, rng):
            self.n, self.rng = n, rng
            self.at, self.age = np.zeros((n, 2), dtype=np.float32), np.zeros(n, dtype=int)
            self.reset(np.ones(n, dtype=bool))

        def reset(self, which):
            self.at[which] = self.rng.uniform(-1, 1, (int(which.sum()), 2))
            self.age[which] = 0

        def step(self, action):
            noise = self.rng.normal(0, 0.02, (self.n, 2)).astype(np.float32)
            self.at = np.clip(self.at + moves[action] + noise, -1, 1)
            self.age += 1
            there = np.linalg.norm(self.at - 0.2, axis=1) < 0.2
            reward = np.full(self.n, -0.1, dtype=np.float32)
            return self.at.copy(), reward, there, there | (self.age >= 30)

    class QNetwork(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2, self.fc3 = nn.Linear(2, 64), nn.Linear(64, 64), nn.Linear(64, 5)

        def forward(self, s):
            s = F.relu(self.fc1(s))
            s = F.relu(self.fc2(s))
            return self.fc3(s) if fixed else F.relu(self.fc3(s))

    def evaluate():
        env = Walkers(64, np.random.default_rng(99))
        arrived, total = np.zeros(64, dtype=bool), np.zeros(64)
        for _ in range(30):
            with torch.no_grad():
                action = q_net(torch.from_numpy(env.at)).argmax(1).numpy()
            total -= 0.1 * ~arrived
            arrived |= env.step(action)[2]
        return float(arrived.mean()), float(total.mean())

    rng = np.random.default_rng(7)
    env = Walkers(16, rng)
    q_net, target_net = QNetwork(), QNetwork()
    target_net.load_state_dict(q_net.state_dict())
    optimizer = torch.optim.Adam(q_net.parameters(), lr=1e-3)
    memory = deque(maxlen=10000)
    gamma, epsilon = 0.97, 1.0
    watcher = watch(q_net, optimizer)
    state = env.at.copy()
    for step in range(760):
        with torch.no_grad():
            action = q_net(torch.from_numpy(state)).argmax(1).numpy()
        explore = rng.random(16) < epsilon
        action[explore] = rng.integers(0, 5, int(explore.sum()))
        nxt, reward, done, over = env.step(action)
        memory.extend(zip(state, action, reward, nxt, done, strict=True))
        env.reset(over)
        state = env.at.copy()
        epsilon = max(0.1, epsilon * 0.995)
        if step < 60:
            continue
        batch = random.sample(memory, 128)
        s, a, r, s2, d = (torch.as_tensor(np.array(column)) for column in zip(*batch, strict=True))
        with torch.no_grad():
            y = r + gamma * target_net(s2).max(1).values * (1 - d.float())
        loss = F.smooth_l1_loss(q_net(s).gather(1, a[:, None]).squeeze(1), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss, batch=(s, a))
        if step % 25 == 0:
            target_net.load_state_dict(q_net.state_dict())
        if step % 100 == 59:
            arrived, total = evaluate()
            watcher.log(val_return=total)
    arrived, total = evaluate()
    return {
        "td_loss": loss.item(),
        "mean_q": q_net(s).mean().item(),
        "share_that_arrives": arrived,
        "mean_return": total,
    }


@faulty(
    "time series forecasting (LSTM, gradient accumulation)",
    fault="gradients of eight small batches are accumulated but the loss is not divided by eight: every update is eight times too large and SGD with momentum becomes unstable",
    source="https://github.com/karpathy/nanoGPT/issues/168, https://github.com/hirofumi0810/neural_sp/issues/168 and https://github.com/ApolloResearch/e2e_sae/pull/70",
)
def r9_lstm_accumulation_without_dividing(watch, fixed):
    """Next hour's load from the last day's; small batches because of memory."""
    rng = np.random.default_rng(0)
    t = np.arange(2600)
    load = (
        np.sin(2 * np.pi * t / 24)
        + 0.5 * np.sin(2 * np.pi * t / 168)
        + 0.3 * np.sin(2 * np.pi * t / 12 + 1)
        + 0.15 * rng.normal(size=len(t))
    )
    load = torch.tensor((load - load.mean()) / load.std(), dtype=torch.float32)
    windows = load.unfold(0, 25, 1)
    x, y = windows[:, :24, None], windows[:, 24:]

    class Forecaster(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.head = nn.LSTM(1, 24, batch_first=True), nn.Linear(24, 1)

        def forward(self, x):
            return self.head(self.lstm(x)[0][:, -1])

    train_loader = DataLoader(
        TensorDataset(x[:2048], y[:2048]), batch_size=8, shuffle=True, drop_last=True
    )
    val_loader = DataLoader(TensorDataset(x[2100:], y[2100:]), batch_size=256)
    model = Forecaster()
    criterion = nn.MSELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.15, momentum=0.9)
    accumulation_steps = 8
    watcher = watch(model, optimizer, loss_fn=criterion, train=train_loader, val=val_loader)
    for _epoch in range(6):
        model.train()
        optimizer.zero_grad()
        for i, (inputs, target) in enumerate(train_loader):
            loss = criterion(model(inputs), target)
            if fixed:
                (loss / accumulation_steps).backward()
            else:
                loss.backward()
            if (i + 1) % accumulation_steps == 0:
                optimizer.step()
                optimizer.zero_grad()
                watcher.step(loss, batch=(inputs, target))
        model.eval()
        with torch.no_grad():
            val_loss = sum(criterion(model(a), b).item() * len(a) for a, b in val_loader)
            val_loss /= len(val_loader.dataset)
        watcher.log(val_loss=val_loss)
    return {"train_loss": loss.item(), "val_mse": val_loss}


# ---------------------------------------------------------------- sound programs


class _CartPoles:
    """A row of cart-poles with the usual constants; 200 steps at most."""

    def __init__(self, n, rng):
        self.n, self.rng = n, rng
        self.state, self.age = np.zeros((n, 4)), np.zeros(n, dtype=int)
        self.reset(np.ones(n, dtype=bool))

    def reset(self, which):
        self.state[which] = self.rng.uniform(-0.05, 0.05, (int(which.sum()), 4))
        self.age[which] = 0

    def observe(self):
        return torch.tensor(self.state, dtype=torch.float32)

    def step(self, action):
        x, v, angle, w = self.state.T
        force = np.where(action == 1, 10.0, -10.0)
        temp = (force + 0.05 * w**2 * np.sin(angle)) / 1.1
        acc_angle = (9.8 * np.sin(angle) - np.cos(angle) * temp) / (
            0.5 * (4 / 3 - 0.1 * np.cos(angle) ** 2 / 1.1)
        )
        acc = temp - 0.05 * acc_angle * np.cos(angle) / 1.1
        self.state = np.stack(
            [x + 0.02 * v, v + 0.02 * acc, angle + 0.02 * w, w + 0.02 * acc_angle], 1
        )
        self.age += 1
        fallen = (np.abs(self.state[:, 0]) > 2.4) | (np.abs(self.state[:, 2]) > 0.2095)
        return fallen, fallen | (self.age >= 200)


def _cartpole_length(act, n=24):
    env = _CartPoles(n, np.random.default_rng(77))
    alive, length = np.ones(n, dtype=bool), np.zeros(n)
    for _ in range(200):
        with torch.no_grad():
            fallen, _ = env.step(act(env.observe()).numpy())
        length += alive
        alive &= ~fallen
        if not alive.any():
            break
    return float(length.mean())


@sound("language model (bf16 autocast, two shards averaged, stop and resume)")
def r9_gpt_two_ranks_bf16_resumed(watch):
    """Two 'ranks' each take half of the batch and their gradients are averaged; half-way the run is saved and taken up again."""
    vocab, context = 24, 16
    rng = np.random.default_rng(0)
    successors = rng.integers(0, vocab, (2, vocab, 2))
    stream = [0, 1]
    for _ in range(24000):
        stream.append(int(successors[stream[-2] % 2, stream[-1], int(rng.random() < 0.25)]))
    data = torch.tensor(stream)
    train_data, val_data = data[:21000], data[21000:]

    def get_batch(split, n):
        starts = torch.randint(0, len(split) - context - 1, (n,))
        seq = torch.stack([split[s : s + context + 1] for s in starts])
        return seq[:, :-1], seq[:, 1:]

    class Block(nn.Module):
        def __init__(self, d, heads=4):
            super().__init__()
            self.heads = heads
            self.n1, self.n2 = nn.LayerNorm(d), nn.LayerNorm(d)
            self.qkv, self.proj = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)
            self.mlp = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))

        def forward(self, x):
            b, t, d = x.shape
            q, k, v = (
                z.view(b, t, self.heads, -1).transpose(1, 2)
                for z in self.qkv(self.n1(x)).chunk(3, -1)
            )
            a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.proj(a.transpose(1, 2).reshape(b, t, d))
            return x + self.mlp(self.n2(x))

    class GPT(nn.Module):
        def __init__(self, d=48, layers=2):
            super().__init__()
            self.wte, self.wpe = nn.Embedding(vocab, d), nn.Embedding(context, d)
            self.blocks = nn.ModuleList([Block(d) for _ in range(layers)])
            self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, vocab, bias=False)
            nn.init.normal_(self.wte.weight, std=0.02)
            nn.init.normal_(self.wpe.weight, std=0.02)
            self.head.weight = self.wte.weight  # tied

        def forward(self, ids, targets):
            x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
            for block in self.blocks:
                x = block(x)
            logits = self.head(self.norm(x))
            return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    model = GPT()
    decay = [p for p in model.parameters() if p.dim() >= 2]
    plain = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}],
        lr=4e-3,
        betas=(0.9, 0.95),
    )
    steps, warmup = 240, 20

    def lr_at(step):
        if step < warmup:
            return (step + 1) / warmup
        return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lr_at)
    watcher = watch(model, optimizer)
    for step in range(steps):
        ids, targets = get_batch(train_data, 32)
        shards = zip(ids.chunk(2), targets.chunk(2), strict=True)
        gathered, losses = [], []
        for shard_ids, shard_targets in shards:
            model.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = model(shard_ids, shard_targets)
            loss.backward()
            gathered.append([p.grad.clone() for p in model.parameters()])
            losses.append(loss.detach())
        for p, *grads in zip(model.parameters(), *gathered, strict=True):
            p.grad = torch.stack(grads).mean(0)  # all_reduce, divided by the world size
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        watcher.step(torch.stack(losses).mean(), batch=(ids, targets))
        if step == steps // 2:
            file = io.BytesIO()
            torch.save(
                {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "scheduler": scheduler.state_dict(),
                },
                file,
            )
            file.seek(0)
            saved = torch.load(file)
            model.load_state_dict(saved["model"])
            optimizer.load_state_dict(saved["optimizer"])
            scheduler.load_state_dict(saved["scheduler"])
        if step % 40 == 39:
            model.eval()
            with torch.no_grad():
                val_loss = np.mean([model(*get_batch(val_data, 64)).item() for _ in range(4)])
            model.train()
            watcher.log(val_loss=float(val_loss))
    best = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    return {
        "train_loss": torch.stack(losses).mean().item(),
        "val_loss": float(val_loss),
        "entropy_of_the_text": best,
        "chance": math.log(vocab),
    }


@sound("time series (stateful LSTM, truncated backpropagation)")
def r9_stateful_lstm_long_memory(watch):
    """Sixteen long signals run in parallel; the state is handed on (detached) from window to window, so nothing is shuffled."""
    rng = np.random.default_rng(0)
    tracks, length, window = 16, 2000, 20

    def signals(n):
        """A slow hidden switch, shown only when it flips, decides whether the output follows or mirrors the input."""
        x = rng.normal(size=(n, length)) * 0.3
        for i in range(1, length):
            x[:, i] += 0.9 * x[:, i - 1]
        flip = rng.random((n, length)) < 0.03
        flip[:, 0] = True
        side = np.where(rng.random((n, length)) < 0.5, 1.0, -1.0)
        mode = np.zeros((n, length))
        for i in range(length):
            mode[:, i] = np.where(flip[:, i], side[:, i], mode[:, i - 1] if i else 0)
        inputs = np.stack([x, flip * side], -1)
        return (
            torch.tensor(inputs, dtype=torch.float32),
            torch.tensor(mode * x, dtype=torch.float32),
        )

    x, y = signals(tracks)
    val_x, val_y = signals(8)
    val_x, val_y = val_x[:, :600], val_y[:, :600]

    class Filter(nn.Module):
        def __init__(self, hidden=32):
            super().__init__()
            self.lstm, self.head = nn.LSTM(2, hidden, batch_first=True), nn.Linear(hidden, 1)

        def forward(self, x, state=None):
            out, state = self.lstm(x, state)
            return self.head(out).squeeze(-1), state

    model = Filter()
    optimizer = torch.optim.Adam(model.parameters(), lr=8e-3)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.75)
    watcher = watch(model, optimizer)
    for _epoch in range(8):
        model.train()
        state = None
        for start in range(0, length, window):
            inputs, target = x[:, start : start + window], y[:, start : start + window]
            if state is not None:
                state = tuple(s.detach() for s in state)
            prediction, state = model(inputs, state)
            loss = F.mse_loss(prediction, target)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            watcher.step(loss, batch=(inputs, target))
        scheduler.step()
        model.eval()
        with torch.no_grad():
            val_loss = F.mse_loss(model(val_x)[0], val_y).item()
        watcher.log(val_loss=val_loss)
    return {
        "train_loss": loss.item(),
        "val_mse": val_loss,
        "share_of_variance_left": val_loss / val_y.var().item(),
    }


@sound("reinforcement learning (PPO with two optimizers)")
def r9_ppo_cartpole_two_optimizers(watch):
    """Separate actor and critic, generalised advantages, normalised; the policy's loss hovers around zero and below."""
    env = _CartPoles(16, np.random.default_rng(3))
    actor = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 2))
    critic = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 1))
    nn.init.zeros_(actor[-1].weight)
    actor_opt = torch.optim.Adam(actor.parameters(), lr=3e-3)
    critic_opt = torch.optim.Adam(critic.parameters(), lr=5e-3)
    for group in (*actor_opt.param_groups, *critic_opt.param_groups):
        group["initial_lr"] = group["lr"]
    watcher = watch(actor, actor_opt)
    gamma, lam, horizon = 0.99, 0.95, 32
    lengths = []
    for iteration in range(48):
        for group in (*actor_opt.param_groups, *critic_opt.param_groups):
            group["lr"] = group["initial_lr"] * (1 - iteration / 48)
        states, actions, old, falls, overs, values = [], [], [], [], [], []
        for _ in range(horizon):
            s = env.observe()
            with torch.no_grad():
                dist = torch.distributions.Categorical(logits=actor(s))
                a = dist.sample()
                values.append(critic(s).squeeze(-1))
                old.append(dist.log_prob(a))
            fallen, over = env.step(a.numpy())
            states.append(s), actions.append(a)
            falls.append(torch.tensor(fallen)), overs.append(torch.tensor(over))
            env.reset(over)
        with torch.no_grad():
            nxt = critic(env.observe()).squeeze(-1)
        advantages, running = [], torch.zeros(16)
        for t in reversed(range(horizon)):
            keep = (~overs[t]).float()
            # a time limit hit while upright is bootstrapped from the last value, a fall is worth nothing
            following = torch.where(overs[t], values[t], nxt) * (~falls[t]).float()
            running = 0.1 + gamma * following - values[t] + gamma * lam * keep * running
            advantages.insert(0, running)
            nxt = values[t]
        s, a, logp = torch.cat(states), torch.cat(actions), torch.cat(old)
        adv, v = torch.cat(advantages), torch.cat(values)
        target = adv + v
        adv = (adv - adv.mean()) / (adv.std() + 1e-8)
        for _ in range(4):
            for idx in torch.randperm(len(s)).split(128):
                dist = torch.distributions.Categorical(logits=actor(s[idx]))
                ratio = (dist.log_prob(a[idx]) - logp[idx]).exp()
                clipped = ratio.clamp(0.8, 1.2)
                loss = -torch.min(ratio * adv[idx], clipped * adv[idx]).mean()
                loss = loss - 0.01 * dist.entropy().mean()
                actor_opt.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(actor.parameters(), 0.5)
                actor_opt.step()
                critic_loss = F.smooth_l1_loss(critic(s[idx]).squeeze(-1), target[idx])
                critic_opt.zero_grad()
                critic_loss.backward()
                critic_opt.step()
                watcher.step(loss, batch=(s[idx], a[idx]))
        if iteration % 8 == 7:
            lengths.append(_cartpole_length(lambda z: actor(z).argmax(1)))
            watcher.log(val_return=lengths[-1])
    return {
        "policy_loss": loss.item(),
        "critic_loss": critic_loss.item(),
        "steps_upright_of_200": lengths[-1],
    }


@sound("tabular regression (mean and spread)")
def r9_tabular_gaussian_likelihood(watch):
    """Prices from categories and numbers; the net gives a mean and a log-variance, and the loss goes below zero."""
    rng = np.random.default_rng(0)
    n = 3000
    town, kind = rng.integers(0, 30, n), rng.integers(0, 6, n)
    area, age = rng.lognormal(4.5, 0.4, n), rng.integers(0, 100, n)
    town_level, kind_level = rng.normal(0, 0.4, 30), rng.normal(0, 0.3, 6)
    spread = 0.05 + 0.2 * (kind == 2) + 0.002 * age
    log_price = (
        0.8 * np.log(area) + town_level[town] + kind_level[kind] - 0.005 * age
    ) + spread * rng.normal(size=n)
    numbers = np.stack([np.log(area), age], 1)
    numbers = (numbers - numbers[:2400].mean(0)) / numbers[:2400].std(0)
    centre, scale = log_price[:2400].mean(), log_price[:2400].std()
    target = (log_price - centre) / scale
    cats = torch.tensor(np.stack([town, kind], 1))
    nums = torch.tensor(numbers, dtype=torch.float32)
    y = torch.tensor(target, dtype=torch.float32)

    class PriceNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.town, self.kind = nn.Embedding(30, 8), nn.Embedding(6, 4)
            self.net = nn.Sequential(
                nn.Linear(14, 64),
                nn.BatchNorm1d(64),
                nn.ReLU(),
                nn.Dropout(0.05),
                nn.Linear(64, 32),
                nn.ReLU(),
            )
            self.mean, self.log_var = nn.Linear(32, 1), nn.Linear(32, 1)

        def forward(self, c, x):
            h = self.net(torch.cat([self.town(c[:, 0]), self.kind(c[:, 1]), x], 1))
            return self.mean(h).squeeze(1), self.log_var(h).squeeze(1).clamp(-7, 3)

    train = DataLoader(
        TensorDataset(cats[:2400], nums[:2400], y[:2400]), 64, shuffle=True, drop_last=True
    )
    val = DataLoader(TensorDataset(cats[2400:], nums[2400:], y[2400:]), 300)
    model = PriceNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-3)
    epochs = 16
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.01, steps_per_epoch=len(train), epochs=epochs
    )
    watcher = watch(model, optimizer, train=train, val=val)
    for _epoch in range(epochs):
        model.train()
        for c, x, t in train:
            mean, log_var = model(c, x)
            loss = F.gaussian_nll_loss(mean, t, log_var.exp())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            watcher.step(loss, batch=(c, x, t))
        model.eval()
        with torch.no_grad():
            out = [(*model(c, x), t) for c, x, t in val]
            mean, log_var, t = (torch.cat(z) for z in zip(*out, strict=True))
            val_loss = F.gaussian_nll_loss(mean, t, log_var.exp()).item()
        watcher.log(val_loss=val_loss)
    within = ((t - mean).abs() < 1.96 * (0.5 * log_var).exp()).float().mean().item()
    best = float(np.mean(np.log(spread[2400:] / scale)) + 0.5)
    return {
        "val_nll": val_loss,
        "nll_of_the_true_law": best,
        "r2": 1 - ((t - mean).pow(2).mean() / t.var()).item(),
        "inside_the_95_percent_band": within,
    }


@sound("recommender (BPR, sparse embeddings)")
def r9_bpr_sparse_adam(watch):
    """Matrix factorisation on implicit feedback: all tables are sparse embeddings under SparseAdam."""
    n_users, n_items = 400, 250
    rng = np.random.default_rng(1)
    u, v = rng.normal(size=(n_users, 5)), rng.normal(size=(n_items, 5))
    scores = u @ v.T + rng.normal(size=n_items) + 0.5 * rng.normal(size=(n_users, n_items))
    liked = np.argsort(-scores, 1)[:, :20].copy()
    for row in liked:
        rng.shuffle(row)
    seen, held = torch.tensor(liked[:, :17]), torch.tensor(liked[:, 17:])
    seen_mask = torch.zeros(n_users, n_items, dtype=torch.bool).scatter_(1, seen, True)
    pairs = TensorDataset(torch.arange(n_users).repeat_interleave(17), seen.flatten())

    class BPR(nn.Module):
        def __init__(self, d=16):
            super().__init__()
            self.user = nn.Embedding(n_users, d, sparse=True)
            self.item = nn.Embedding(n_items, d, sparse=True)
            self.bias = nn.Embedding(n_items, 1, sparse=True)
            nn.init.zeros_(self.bias.weight)
            nn.init.normal_(self.user.weight, std=0.1)
            nn.init.normal_(self.item.weight, std=0.1)

        def forward(self, user, item):
            return (self.user(user) * self.item(item)).sum(-1) + self.bias(item).squeeze(-1)

    def evaluate(model):
        with torch.no_grad():
            s = model.user.weight @ model.item.weight.T + model.bias.weight.T
            top = s.masked_fill(seen_mask, -1e9).topk(20, 1).indices
            return (top[:, :, None] == held[:, None, :]).any(1).float().mean().item()

    loader = DataLoader(pairs, batch_size=128, shuffle=True)
    model = BPR()
    optimizer = torch.optim.SparseAdam(list(model.parameters()), lr=0.01)
    watcher = watch(model, optimizer, train=loader)
    before = evaluate(model)
    for _epoch in range(10):
        for user, positive in loader:
            negative = torch.randint(0, n_items, user.shape)
            clash = seen_mask[user, negative]
            while clash.any():
                negative[clash] = torch.randint(0, n_items, (int(clash.sum()),))
                clash = seen_mask[user, negative]
            loss = -F.logsigmoid(model(user, positive) - model(user, negative)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(user, positive))
        recall = evaluate(model)
        watcher.log(val_recall=recall)
    return {"train_loss": loss.item(), "recall_at_20": recall, "recall_before": before}


@sound("graph network (link prediction, GraphSAGE)")
def r9_graphsage_links_hidden_for_the_loss(watch):
    """Each step hides a fifth of the training links, passes messages on the rest and predicts the hidden ones against fresh non-links."""
    n, groups = 400, 10
    rng = np.random.default_rng(0)
    member = rng.integers(0, groups, n)
    prob = np.where(member[:, None] == member[None, :], 0.25, 0.001)
    upper = np.triu(rng.random((n, n)) < prob, 1)
    edges = torch.tensor(np.argwhere(upper))
    edges = edges[torch.tensor(rng.permutation(len(edges)))]
    linked = torch.tensor(upper | upper.T)
    cut = int(0.85 * len(edges))
    train_edges, val_edges = edges[:cut], edges[cut:]
    clue = torch.tensor(rng.normal(size=(groups, 8))[member] + 1.5 * rng.normal(size=(n, 8)))
    x = clue.float()

    def non_links(count, generator=None):
        pairs = torch.randint(0, n, (2 * count, 2), generator=generator)
        good = ~linked[pairs[:, 0], pairs[:, 1]] & (pairs[:, 0] != pairs[:, 1])
        return pairs[good][:count]

    val_non = non_links(len(val_edges), torch.Generator().manual_seed(0))

    class SageLayer(nn.Module):
        def __init__(self, i, o):
            super().__init__()
            self.own, self.neighbours = nn.Linear(i, o), nn.Linear(i, o, bias=False)

        def forward(self, h, links):
            both = torch.cat([links, links.flip(1)])
            total = torch.zeros_like(h).index_add_(0, both[:, 1], h[both[:, 0]])
            degree = torch.zeros(len(h)).index_add_(0, both[:, 1], torch.ones(len(both)))
            return self.own(h) + self.neighbours(total / degree.clamp(min=1)[:, None])

    class LinkPredictor(nn.Module):
        def __init__(self, d=32):
            super().__init__()
            self.l1, self.l2 = SageLayer(8, d), SageLayer(d, d)
            self.norm, self.offset = nn.LayerNorm(d), nn.Parameter(torch.zeros(1))

        def forward(self, h, links, pairs):
            h = F.dropout(F.relu(self.norm(self.l1(h, links))), 0.1, self.training)
            h = self.l2(h, links)
            return (h[pairs[:, 0]] * h[pairs[:, 1]]).sum(1) + self.offset

    model = LinkPredictor()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, weight_decay=1e-5)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=250)
    watcher = watch(model, optimizer)
    for step in range(250):
        model.train()
        order = torch.randperm(len(train_edges))
        hidden = train_edges[order[: len(order) // 5]]
        messages = train_edges[order[len(order) // 5 :]]
        absent = non_links(len(hidden))
        pairs = torch.cat([hidden, absent])
        labels = torch.cat([torch.ones(len(hidden)), torch.zeros(len(absent))])
        loss = F.binary_cross_entropy_with_logits(model(x, messages, pairs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        watcher.step(loss, batch=(pairs, labels))
        if step % 25 == 24:
            model.eval()
            with torch.no_grad():
                pairs = torch.cat([val_edges, val_non])
                labels = torch.cat([torch.ones(len(val_edges)), torch.zeros(len(val_non))])
                out = model(x, train_edges, pairs)
                val_loss = F.binary_cross_entropy_with_logits(out, labels).item()
                auc = roc_auc_score(labels.numpy(), out.numpy())
            watcher.log(val_loss=val_loss, val_auc=auc)
    return {"train_loss": loss.item(), "val_loss": val_loss, "val_auc": auc}


# ---------------------------------------------------------------- faulty programs


@faulty(
    "image classification (CNN)",
    fault="the learning rate of Adam is far too high (0.05): after a few steps the ReLUs are dead, the loss stays at ln(10) = 2.30 and one class is predicted for all images",
    source="https://discuss.pytorch.org/t/cross-entropy-loss-is-not-decreasing/43814/16",
)
def r9_cnn_adam_learning_rate_too_high(watch, fixed):
    """A LeNet-like network on the digits."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
            self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
            self.conv3 = nn.Conv2d(32, 32, 3, padding=1)
            self.conv4 = nn.Conv2d(32, 32, 3, padding=1)
            self.pool = nn.MaxPool2d(2, 2)
            self.fc1 = nn.Linear(32 * 2 * 2, 120)
            self.fc2 = nn.Linear(120, 84)
            self.fc3 = nn.Linear(84, 10)

        def forward(self, x):
            x = F.relu(self.conv1(x))
            x = self.pool(F.relu(self.conv2(x)))
            x = F.relu(self.conv3(x))
            x = self.pool(F.relu(self.conv4(x)))
            x = torch.flatten(x, 1)
            x = F.relu(self.fc1(x))
            return self.fc3(F.relu(self.fc2(x)))

    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images = torch.tensor(digits.images[order], dtype=torch.float32).unsqueeze(1) / 16
    images = (images - 0.305) / 0.376
    labels = torch.tensor(digits.target[order])
    trainloader = DataLoader(
        TensorDataset(images[:1400], labels[:1400]), batch_size=64, shuffle=True
    )
    testloader = DataLoader(TensorDataset(images[1400:], labels[1400:]), batch_size=128)

    net = Net()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3 if fixed else 0.05)
    watcher = watch(net, optimizer, train=trainloader, val=testloader)
    for _epoch in range(14):
        net.train()
        for inputs, target in trainloader:
            optimizer.zero_grad()
            outputs = net(inputs)
            loss = criterion(outputs, target)
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(inputs, target))
        net.eval()
        correct, total, test_loss = 0, 0, 0.0
        with torch.no_grad():
            for inputs, target in testloader:
                outputs = net(inputs)
                test_loss += criterion(outputs, target).item() * len(target)
                correct += (outputs.argmax(1) == target).sum().item()
                total += len(target)
        watcher.log(val_loss=test_loss / total, val_accuracy=correct / total)
    return {
        "train_loss": loss.item(),
        "val_loss": test_loss / total,
        "val_accuracy": correct / total,
    }


@faulty(
    "semantic segmentation",
    fault="the label masks are resized with the same bilinear interpolation as the images: between background 0 and an object of class 3 arise the values 1 and 2, so every object gets a rim of wrong classes",
    source="https://github.com/milesial/Pytorch-UNet/issues/311, https://github.com/divamgupta/image-segmentation-keras/issues/11 and https://github.com/shekkizh/FCN.tensorflow/issues/4",
)
def r9_segmentation_masks_resized_bilinearly(watch, fixed):
    """Discs, rings and squares on noise; pictures of 48 x 48 are resized to 24 x 24."""

    def draw(n, seed):
        rng = np.random.default_rng(seed)
        yy, xx = np.mgrid[:48, :48]
        images = rng.normal(0.0, 0.25, (n, 3, 48, 48)).astype(np.float32)
        masks = np.zeros((n, 48, 48), dtype=np.int64)
        colours = np.array([[0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.2, 0.2, 1.0]], dtype=np.float32)
        for i in range(n):
            for cls in rng.permutation(3)[: rng.integers(2, 4)]:
                cy, cx = rng.uniform(7, 41, 2)
                r = rng.uniform(4.5, 7.5)
                if cls == 0:
                    inside = (yy - cy) ** 2 + (xx - cx) ** 2 < r**2
                elif cls == 1:
                    inside = np.abs(yy - cy) + np.abs(xx - cx) < 1.3 * r
                else:
                    inside = np.maximum(np.abs(yy - cy), np.abs(xx - cx)) < 0.9 * r
                masks[i][inside] = cls + 1
                images[i][:, inside] += colours[cls][:, None]
        return images, masks

    class ShapesDataset(Dataset):
        def __init__(self, images, masks, size=24):
            self.images, self.masks, self.size = images, masks, size

        def resize(self, array, mode):
            x = torch.as_tensor(array, dtype=torch.float32)[None]
            extra = {"antialias": True} if mode == "bilinear" else {}
            return F.interpolate(x, size=(self.size, self.size), mode=mode, **extra)[0]

        def __len__(self):
            return len(self.images)

        def __getitem__(self, i):
            image = self.resize(self.images[i], "bilinear")
            mask = self.resize(self.masks[i][None], "nearest-exact" if fixed else "bilinear")
            return {"image": image, "mask": mask[0].round().long()}

    class DoubleConv(nn.Sequential):
        def __init__(self, i, o):
            super().__init__(
                nn.Conv2d(i, o, 3, padding=1, bias=False),
                nn.BatchNorm2d(o),
                nn.ReLU(inplace=True),
                nn.Conv2d(o, o, 3, padding=1, bias=False),
                nn.BatchNorm2d(o),
                nn.ReLU(inplace=True),
            )

    class UNet(nn.Module):
        def __init__(self, n_classes):
            super().__init__()
            self.inc, self.down = DoubleConv(3, 12), DoubleConv(12, 24)
            self.up = nn.ConvTranspose2d(24, 12, 2, stride=2)
            self.conv, self.outc = DoubleConv(24, 12), nn.Conv2d(12, n_classes, 1)

        def forward(self, x):
            x1 = self.inc(x)
            x2 = self.down(F.max_pool2d(x1, 2))
            return self.outc(self.conv(torch.cat([x1, self.up(x2)], 1)))

    train_loader = DataLoader(ShapesDataset(*draw(320, 0)), batch_size=16, shuffle=True)
    val_images, val_masks = draw(80, 1)
    val_set = ShapesDataset(val_images, val_masks)
    val_loader = DataLoader(val_set, batch_size=40)
    net = UNet(4)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    criterion = nn.CrossEntropyLoss()
    watcher = watch(net, optimizer, train=train_loader, val=val_loader)
    for _epoch in range(10):
        net.train()
        for batch in train_loader:
            optimizer.zero_grad()
            loss = criterion(net(batch["image"]), batch["mask"])
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=batch)
        net.eval()
        with torch.no_grad():
            val_loss = sum(criterion(net(b["image"]), b["mask"]).item() for b in val_loader) / 2
        watcher.log(val_loss=val_loss)
    # measured against the true masks, taken from the big ones at the nearest place
    truth = torch.stack([val_set.resize(m[None], "nearest-exact")[0].long() for m in val_masks])
    with torch.no_grad():
        pred = torch.cat([net(b["image"]).argmax(1) for b in val_loader])
    ious = [
        ((pred == c) & (truth == c)).sum().item() / ((pred == c) | (truth == c)).sum().item()
        for c in (1, 2, 3)
    ]
    return {"train_loss": loss.item(), "val_loss": val_loss, "true_mean_iou": sum(ious) / 3}


@faulty(
    "keypoint detection (heatmaps)",
    fault="optimizer.zero_grad() is never called: each step uses the sum of the gradients of all batches so far",
    source="https://github.com/yastrebksv/TennisCourtDetector/issues/7, https://github.com/wenet-e2e/wekws/pull/73 and https://github.com/pytorch/pytorch/issues/47175",
)
def r9_keypoint_heatmaps_without_zero_grad(watch, fixed):
    """Three marks of different form in a noisy picture, one heatmap for each."""
    side = 20

    def gaussian(points):
        yy, xx = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
        d = (xx - points[..., 0, None, None]) ** 2 + (yy - points[..., 1, None, None]) ** 2
        return torch.exp(-d / (2 * 1.5**2))

    class CourtDataset(Dataset):
        def __init__(self, n, seed):
            g = torch.Generator().manual_seed(seed)
            self.points = torch.randint(2, side - 2, (n, 3, 2), generator=g)
            self.images = 0.2 * torch.randn(n, 1, side, side, generator=g)
            for i in range(n):
                (x0, y0), (x1, y1), (x2, y2) = self.points[i].tolist()
                self.images[i, 0, y0 - 1 : y0 + 2, x0 - 1 : x0 + 2] += 1.0
                self.images[i, 0, y1, x1 - 2 : x1 + 3] += 1.5
                self.images[i, 0, y2 - 2 : y2 + 3, x2] += 1.5
            self.heatmaps = gaussian(self.points)

        def __len__(self):
            return len(self.images)

        def __getitem__(self, i):
            return self.images[i], self.heatmaps[i], self.points[i]

    class BallTrackerNet(nn.Module):
        def __init__(self, out_channels=3):
            super().__init__()
            layers, i = [], 1
            for o in (16, 24, 24):
                layers += [nn.Conv2d(i, o, 5, padding=2), nn.ReLU(), nn.BatchNorm2d(o)]
                i = o
            self.body = nn.Sequential(*layers)
            self.head = nn.Conv2d(i, out_channels, 1)

        def forward(self, x):
            return self.head(self.body(x))

    def pixel_error(pred, points):
        flat = pred.flatten(2).argmax(-1)
        found = torch.stack([flat % side, flat // side], -1)
        return (found - points).float().norm(dim=-1).mean().item()

    train_loader = DataLoader(CourtDataset(400, 0), batch_size=16, shuffle=True)
    val_loader = DataLoader(CourtDataset(100, 1), batch_size=100)
    model = BallTrackerNet()
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, betas=(0.9, 0.999), weight_decay=0)
    watcher = watch(model, optimizer, train=train_loader, val=val_loader)
    for _epoch in range(12):
        model.train()
        for batch in train_loader:
            out = model(batch[0])
            loss = criterion(torch.sigmoid(out), batch[1])
            if fixed:
                optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=batch)
        model.eval()
        with torch.no_grad():
            images, heatmaps, points = next(iter(val_loader))
            pred = torch.sigmoid(model(images))
            val_loss, error = criterion(pred, heatmaps).item(), pixel_error(pred, points)
        watcher.log(val_loss=val_loss)
    return {"train_loss": loss.item(), "val_loss": val_loss, "val_pixel_error": error}


@faulty(
    "transfer learning (frozen backbone, new head)",
    fault="the new pictures go in as raw values from 0 to 255, while the pretrained backbone was learnt on pictures scaled to 0..1 and normalised by mean and deviation: its features are far out of range, the loss is huge and jumps",
    source="https://theneuralbase.com/torchvision/learn/beginner/normalization-mismatch/, https://github.com/CSAILVision/NetDissect/issues/11 and https://github.com/erbloo/dr_cvpr20/issues/1",
)
def r9_pretrained_backbone_gets_raw_pixels(watch, fixed):
    """A small ResNet learnt on digits 0-5; a new head for digits 6-9 on the frozen features."""
    mean, std = 0.305, 0.376

    class BasicBlock(nn.Module):
        def __init__(self, i, o, stride):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
            self.conv2, self.bn2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
            self.short = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))

        def forward(self, x):
            h = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
            return F.relu(h + self.short(x))

    class ResNet(nn.Module):
        def __init__(self, num_classes):
            super().__init__()
            self.layer1, self.layer2 = BasicBlock(1, 12, 1), BasicBlock(12, 24, 2)
            self.avgpool, self.fc = nn.AdaptiveAvgPool2d(2), nn.Linear(96, num_classes)

        def forward(self, x):
            return self.fc(self.avgpool(self.layer2(self.layer1(x))).flatten(1))

    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    pictures = np.round(digits.images[order] / 16 * 255).astype(np.uint8)
    labels = digits.target[order]

    class DigitsDataset(Dataset):
        def __init__(self, which, first_label, transform):
            self.x, self.y = pictures[which], labels[which] - first_label
            self.transform = transform

        def __len__(self):
            return len(self.x)

        def __getitem__(self, i):
            return self.transform(self.x[i]), int(self.y[i])

    def to_tensor(array):
        return torch.from_numpy(array).float().unsqueeze(0)

    def normalised(array):
        return (to_tensor(array) / 255 - mean) / std

    old = DataLoader(DigitsDataset(labels < 6, 0, normalised), batch_size=64, shuffle=True)
    model = ResNet(6)
    pre = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(5):  # the "pretrained" weights
        for x, t in old:
            loss = F.cross_entropy(model(x), t)
            pre.zero_grad()
            loss.backward()
            pre.step()

    transform = normalised if fixed else to_tensor
    new = np.flatnonzero(labels >= 6)
    train_loader = DataLoader(DigitsDataset(new[:400], 6, transform), batch_size=16, shuffle=True)
    val_loader = DataLoader(DigitsDataset(new[400:], 6, transform), batch_size=64)
    for param in model.parameters():
        param.requires_grad = False
    model.fc = nn.Linear(96, 4)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.fc.parameters(), lr=0.02, momentum=0.9)
    watcher = watch(model, optimizer, train=train_loader, val=val_loader)
    for _epoch in range(8):
        model.eval()  # keeps the BatchNorm statistics of the pretrained network
        for inputs, targets in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(inputs), targets)
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(inputs, targets))
        with torch.no_grad():
            outs = [(model(x), t) for x, t in val_loader]
            out, t = torch.cat([o for o, _ in outs]), torch.cat([t for _, t in outs])
            val_loss, acc = criterion(out, t).item(), (out.argmax(1) == t).float().mean().item()
        watcher.log(val_loss=val_loss, val_accuracy=acc)
    return {"train_loss": loss.item(), "val_loss": val_loss, "val_accuracy": acc}


@faulty(
    "diffusion model",
    fault="the training noise is drawn with torch.rand_like (uniform in 0..1) instead of torch.randn_like, while sampling starts from Gaussian noise: the samples are far from the data",
    source="https://github.com/acids-ircam/diffusion_models/issues/8, https://github.com/toshikwa/slac.pytorch/issues/5 and https://github.com/HRI-EU/flow_matching/issues/7",
)
def r9_diffusion_noise_is_uniform(watch, fixed):
    """DDPM of six blobs on a ring."""
    steps = 80
    betas = torch.linspace(1e-3, 0.1, steps)
    alphas = 1 - betas
    alphas_bar = torch.cumprod(alphas, 0)

    class NoisePredictor(nn.Module):
        def __init__(self, hidden=128):
            super().__init__()
            self.time = nn.Embedding(steps, hidden)
            self.inp = nn.Linear(2, hidden)
            self.mid = nn.ModuleList([nn.Linear(hidden, hidden) for _ in range(3)])
            self.out = nn.Linear(hidden, 2)

        def forward(self, x, t):
            h = self.inp(x) + self.time(t)
            for layer in self.mid:
                h = h + layer(F.silu(h))
            return self.out(F.silu(h))

    angle = 2 * math.pi * torch.randint(0, 6, (4096,)) / 6
    data = torch.stack([angle.cos(), angle.sin()], 1) * 2.0 + 0.1 * torch.randn(4096, 2)
    loader = DataLoader(TensorDataset(data), batch_size=256, shuffle=True, drop_last=True)
    model = NoisePredictor()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 48 * len(loader))
    watcher = watch(model, optimizer, train=loader)
    recent = []
    for _epoch in range(48):
        for (x0,) in loader:
            t = torch.randint(0, steps, (len(x0),))
            noise = torch.randn_like(x0) if fixed else torch.rand_like(x0)
            ab = alphas_bar[t].unsqueeze(1)
            x_t = ab.sqrt() * x0 + (1 - ab).sqrt() * noise
            loss = F.mse_loss(model(x_t, t), noise)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            recent.append(loss.item())
            watcher.step(loss, batch=x0)
    model.eval()
    with torch.no_grad():
        x = torch.randn(1000, 2)
        for i in reversed(range(steps)):
            t = torch.full((1000,), i)
            eps = model(x, t)
            x = (x - betas[i] / (1 - alphas_bar[i]).sqrt() * eps) / alphas[i].sqrt()
            if i > 0:
                x = x + betas[i].sqrt() * torch.randn_like(x)
        centres = 2 * math.pi * torch.arange(6) / 6
        centres = 2.0 * torch.stack([centres.cos(), centres.sin()], 1)
        nearest = torch.cdist(x, centres).min(1)
        share = torch.bincount(nearest.indices, minlength=6) / 1000
    return {
        "train_loss": float(np.mean(recent[-50:])),
        "mean_distance_to_a_blob": nearest.values.mean().item(),
        "smallest_share_of_a_blob": share.min().item(),
    }


@faulty(
    "metric learning (batch-hard triplet loss)",
    fault="the learning rate is too high for batch-hard mining: the embeddings collapse to one point and the loss stays at exactly the margin",
    source="https://github.com/omoindrot/tensorflow-triplet-loss/issues/6, https://github.com/omoindrot/tensorflow-triplet-loss/issues/38, https://github.com/VisualComputingInstitute/triplet-reid/issues/30 and https://github.com/xiaolonw/caffe-video_triplet/issues/8",
)
def r9_batch_hard_triplets_collapse(watch, fixed):
    """Embedding of the digits, with P x K batches."""

    class PKSampler(Sampler):
        def __init__(self, labels, p, k, n_batches):
            self.where = [np.flatnonzero(labels == c) for c in np.unique(labels)]
            self.p, self.k, self.n_batches = p, k, n_batches

        def __iter__(self):
            for _ in range(self.n_batches):
                classes = torch.randperm(len(self.where))[: self.p].tolist()
                yield [
                    int(self.where[c][i])
                    for c in classes
                    for i in torch.randperm(len(self.where[c]))[: self.k].tolist()
                ]

        def __len__(self):
            return self.n_batches

    class EmbeddingNet(nn.Module):
        def __init__(self, dim=32):
            super().__init__()
            self.features = nn.Sequential(
                nn.Conv2d(1, 16, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(16, 32, 3, padding=1),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Conv2d(32, 32, 3, padding=1),
                nn.ReLU(),
                nn.MaxPool2d(2),
            )
            self.fc = nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, dim))

        def forward(self, x):
            return self.fc(self.features(x).flatten(1))

    def batch_hard_triplet_loss(labels, embeddings, margin):
        diff = embeddings.unsqueeze(0) - embeddings.unsqueeze(1)
        distance = (diff.pow(2).sum(-1) + 1e-12).sqrt()
        same = labels.unsqueeze(0) == labels.unsqueeze(1)
        hardest_positive = (distance * same.float()).max(1).values
        hardest_negative = distance.masked_fill(same, float("inf")).min(1).values
        return F.relu(hardest_positive - hardest_negative + margin).mean()

    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images = torch.tensor(digits.images[order], dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target[order])
    sampler = PKSampler(digits.target[order][:1300], p=8, k=6, n_batches=25)
    loader = DataLoader(TensorDataset(images[:1300], labels[:1300]), batch_sampler=sampler)
    model = EmbeddingNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4 if fixed else 3e-2)
    watcher = watch(model, optimizer, train=loader)
    for _epoch in range(12):
        model.train()
        for x, t in loader:
            loss = batch_hard_triplet_loss(t, model(x), margin=0.5)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(x, t))
        model.eval()
        with torch.no_grad():
            gallery, query = model(images[:1300]), model(images[1300:])
        nearest = torch.cdist(query, gallery).argmin(1)
        recall = (labels[:1300][nearest] == labels[1300:]).float().mean().item()
        watcher.log(val_accuracy=recall)
    return {
        "train_loss": loss.item(),
        "recall_at_1": recall,
        "spread_of_embeddings": gallery.std(0).norm().item(),
    }


# ---------------------------------------------------------------- sound programs


@sound("generative model (rectified flow)")
def r9_rectified_flow_of_two_moons(watch):
    """The velocity from noise to data is learnt; its loss stays well above zero, since the pairs are random."""

    class Velocity(nn.Module):
        def __init__(self, hidden=96):
            super().__init__()
            self.net = nn.Sequential(
                nn.Linear(2 + 16, hidden),
                nn.SiLU(),
                nn.Linear(hidden, hidden),
                nn.SiLU(),
                nn.Linear(hidden, hidden),
                nn.SiLU(),
                nn.Linear(hidden, 2),
            )
            self.register_buffer("freqs", 2.0 ** torch.arange(8) * math.pi / 4)

        def forward(self, x, t):
            a = t.unsqueeze(1) * self.freqs
            return self.net(torch.cat([x, a.sin(), a.cos()], 1))

    points, _ = make_moons(4096, noise=0.05, random_state=0)
    data = torch.tensor(points, dtype=torch.float32)
    data = (data - data.mean(0)) / data.std(0)
    loader = DataLoader(TensorDataset(data), batch_size=256, shuffle=True)
    model = Velocity()
    epochs = 45
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(loader))
    watcher = watch(model, optimizer, train=loader)
    losses = []
    for _epoch in range(epochs):
        for (x1,) in loader:
            x0 = torch.randn_like(x1)
            t = torch.sigmoid(torch.randn(len(x1)))  # logit-normal times
            xt = (1 - t).unsqueeze(1) * x0 + t.unsqueeze(1) * x1
            loss = (model(xt, t) - (x1 - x0)).pow(2).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
            watcher.step(loss, batch=x1)
    model.eval()
    with torch.no_grad():
        x = torch.randn(1000, 2)
        for i in range(50):
            x = x + model(x, torch.full((1000,), i / 50)) / 50
        to_data = torch.cdist(x, data[:2000]).min(1).values.mean().item()
        covered = torch.cdist(data[:500], x).min(1).values.mean().item()
    return {
        "first_loss": losses[0],
        "train_loss": float(np.mean(losses[-100:])),
        "distance_to_data": to_data,
        "distance_of_data_to_samples": covered,
    }


@sound("generative model (PixelCNN)")
def r9_pixelcnn_with_loss_summed_over_pixels(watch):
    """Class-conditional masked convolutions on black-and-white digits; the loss is in nats per picture, so it starts above 40."""

    class MaskedConv2d(nn.Conv2d):
        def __init__(self, kind, *args, **kwargs):
            super().__init__(*args, **kwargs)
            mask = torch.ones_like(self.weight)
            k = self.weight.shape[-1]
            mask[:, :, k // 2, k // 2 + (kind == "B") :] = 0
            mask[:, :, k // 2 + 1 :] = 0
            self.register_buffer("mask", mask)

        def forward(self, x):
            return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)

    class PixelCNN(nn.Module):
        def __init__(self, c=32):
            super().__init__()
            self.first = MaskedConv2d("A", 1, c, 7, padding=3)
            self.label = nn.Embedding(10, c)
            self.blocks = nn.ModuleList([MaskedConv2d("B", c, c, 3, padding=1) for _ in range(4)])
            self.out = nn.Conv2d(c, 1, 1)

        def forward(self, x, y):
            h = self.first(x) + self.label(y)[:, :, None, None]
            for block in self.blocks:
                h = h + block(F.relu(h))
            return self.out(F.relu(h))

    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images = torch.tensor(digits.images[order] > 7, dtype=torch.float32).unsqueeze(1)
    labels = torch.tensor(digits.target[order])
    train = DataLoader(TensorDataset(images[:1400], labels[:1400]), batch_size=50, shuffle=True)
    val = DataLoader(TensorDataset(images[1400:], labels[1400:]), batch_size=400)

    def nats(model, x, y):
        loss = F.binary_cross_entropy_with_logits(model(x, y), x, reduction="none")
        return loss.sum((1, 2, 3)).mean()

    model = PixelCNN()
    epochs = 20
    optimizer = torch.optim.Adamax(model.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    watcher = watch(model, optimizer, train=train, val=val)
    first = None
    for _epoch in range(epochs):
        model.train()
        for x, y in train:
            loss = nats(model, x, y)
            first = loss.item() if first is None else first
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(x, y))
        scheduler.step()
        model.eval()
        with torch.no_grad():
            val_loss = nats(model, *next(iter(val))).item()
        watcher.log(val_loss=val_loss)
    freq = torch.stack([images[:1400][labels[:1400] == c].mean(0) for c in range(10)])
    freq = freq.clamp(0.01, 0.99)[labels[1400:]]
    independent = (
        F.binary_cross_entropy(freq, images[1400:], reduction="none").sum((1, 2, 3)).mean()
    )
    return {
        "first_loss": first,
        "train_loss": loss.item(),
        "val_loss": val_loss,
        "loss_of_independent_pixels": independent.item(),
    }


@sound("metric learning (semi-hard triplets)")
def r9_semi_hard_triplets_loss_stays_flat(watch):
    """Mean over the triplets that still violate the margin, so that the loss hardly falls while the embedding gets better."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images = torch.tensor(digits.images[order], dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target[order])

    class Embedder(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(1, 16, 3, padding=1),
                nn.BatchNorm2d(16),
                nn.ReLU(),
                nn.Conv2d(16, 32, 3, 2, 1),
                nn.BatchNorm2d(32),
                nn.ReLU(),
                nn.Conv2d(32, 32, 3, 2, 1),
                nn.BatchNorm2d(32),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(128, 24),
            )

        def forward(self, x):
            return F.normalize(self.body(x), dim=1)

    def semi_hard(z, t, margin=0.2):
        d = 2 - 2 * z @ z.T
        same = t[:, None] == t[None, :]
        positive = same & ~torch.eye(len(t), dtype=torch.bool)
        gap = d[:, :, None] - d[:, None, :] + margin  # anchor, positive, negative
        valid = positive[:, :, None] & ~same[:, None, :]
        chosen = valid & (gap > 0) & (gap < margin)
        if not chosen.any():
            chosen = valid & (gap > 0)
        return gap[chosen].sum() / chosen.sum().clamp(min=1)

    loader = DataLoader(TensorDataset(images[:1300], labels[:1300]), batch_size=64, shuffle=True)
    model = Embedder()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-3)
    watcher = watch(model, optimizer, train=loader)
    first = None
    for _epoch in range(10):
        model.train()
        for x, t in loader:
            loss = semi_hard(model(x), t)
            first = loss.item() if first is None else first
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(x, t))
        model.eval()
        with torch.no_grad():
            gallery, query = model(images[:1300]), model(images[1300:])
        nearest = (query @ gallery.T).argmax(1)
        recall = (labels[:1300][nearest] == labels[1300:]).float().mean().item()
        watcher.log(val_accuracy=recall)
    return {"first_loss": first, "train_loss": loss.item(), "recall_at_1": recall}


@sound("semantic segmentation (poly schedule)")
def r9_segmentation_tversky_poly_ignored_borders(watch):
    """SGD with a polynomial rate, cross entropy that ignores the uncertain border (255), and a Tversky term; batches of 6."""
    ignore = 255

    def scenes(n, seed):
        rng = np.random.default_rng(seed)
        yy, xx = np.mgrid[:20, :20]
        images = rng.normal(0, 0.35, (n, 1, 20, 20)).astype(np.float32)
        masks = np.zeros((n, 20, 20), dtype=np.int64)
        for i in range(n):
            for cls, level in ((1, 1.0), (2, -1.0)):
                cy, cx, r = *rng.uniform(4, 16, 2), rng.uniform(2.5, 4.5)
                d = np.sqrt((yy - cy) ** 2 + (xx - cx) ** 2)
                masks[i][d < r + 0.5] = ignore
                masks[i][d < r - 0.5] = cls
                images[i, 0][d < r] = level + rng.normal(0, 0.35, int((d < r).sum()))
        return torch.tensor(images), torch.tensor(masks)

    class SegNet(nn.Module):
        def __init__(self):
            super().__init__()
            widths = [(1, 16, 1), (16, 16, 1), (16, 16, 2), (16, 16, 4)]
            self.body = nn.Sequential(
                *[
                    nn.Sequential(
                        nn.Conv2d(i, o, 3, padding=dil, dilation=dil),
                        nn.GroupNorm(4, o),
                        nn.ReLU(inplace=True),
                    )
                    for i, o, dil in widths
                ]
            )
            self.classifier = nn.Conv2d(16, 3, 1)

        def forward(self, x):
            return self.classifier(self.body(x))

    def tversky(logits, target, alpha=0.3, beta=0.7):
        keep = (target != ignore).unsqueeze(1).float()
        hot = F.one_hot(target.masked_fill(target == ignore, 0), 3).permute(0, 3, 1, 2) * keep
        p = logits.softmax(1) * keep
        tp = (p * hot).sum((0, 2, 3))
        fp, fn = (p * (1 - hot)).sum((0, 2, 3)), ((1 - p) * hot).sum((0, 2, 3))
        return 1 - ((tp + 1) / (tp + alpha * fp + beta * fn + 1)).mean()

    train = DataLoader(TensorDataset(*scenes(240, 0)), batch_size=6, shuffle=True)
    val = DataLoader(TensorDataset(*scenes(60, 1)), batch_size=60)
    model = SegNet()
    epochs = 9
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.03, momentum=0.9, nesterov=True, weight_decay=1e-4
    )
    scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, epochs * len(train), power=0.9)
    criterion = nn.CrossEntropyLoss(ignore_index=ignore)
    watcher = watch(model, optimizer, train=train, val=val)
    for _epoch in range(epochs):
        model.train()
        for x, t in train:
            logits = model(x)
            loss = criterion(logits, t) + tversky(logits, t)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            watcher.step(loss, batch=(x, t))
        model.eval()
        with torch.no_grad():
            x, t = next(iter(val))
            logits = model(x)
            val_loss = (criterion(logits, t) + tversky(logits, t)).item()
            pred, ok = logits.argmax(1), t != ignore
            iou = [
                ((pred == c) & (t == c)).sum().item() / (((pred == c) | (t == c)) & ok).sum().item()
                for c in range(3)
            ]
        watcher.log(val_loss=val_loss, val_accuracy=sum(iou) / 3)
    return {"train_loss": loss.item(), "val_loss": val_loss, "val_mean_iou": sum(iou) / 3}


@sound("keypoint regression (with uncertainty)")
def r9_keypoints_with_laplace_likelihood_below_zero(watch):
    """Coordinates by soft-argmax and a learnt scale for each: the negative log-likelihood falls far below zero."""
    side = 16

    def pictures(n, seed):
        g = torch.Generator().manual_seed(seed)
        yy, xx = torch.meshgrid(torch.arange(float(side)), torch.arange(float(side)), indexing="ij")
        points = torch.rand(n, 2, 2, generator=g) * (side - 5) + 2
        d = (xx - points[:, :, 0, None, None]) ** 2 + (yy - points[:, :, 1, None, None]) ** 2
        blobs = torch.exp(-d / 4)
        x = (
            1.2 * blobs[:, :1]
            - 1.2 * blobs[:, 1:]
            + 0.15 * torch.randn(n, 1, side, side, generator=g)
        )
        return x, points / (side - 1) * 2 - 1

    class PoseNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(1, 16, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(16, 24, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(24, 24, 3, padding=1),
                nn.ReLU(),
            )
            self.heat = nn.Conv2d(24, 2, 1)
            self.scale = nn.Linear(24, 4)
            self.register_buffer("axis", torch.linspace(-1, 1, side))

        def forward(self, x):
            h = self.body(x)
            p = self.heat(h).flatten(2).softmax(-1).view(-1, 2, side, side)
            xy = torch.stack([(p.sum(2) * self.axis).sum(-1), (p.sum(3) * self.axis).sum(-1)], -1)
            return xy, self.scale(h.mean((2, 3))).view(-1, 2, 2).clamp(-6, 3)

    def nll(output, target):
        xy, log_b = output
        return ((target - xy).abs() / log_b.exp() + log_b + math.log(2)).mean()

    train = DataLoader(TensorDataset(*pictures(640, 0)), batch_size=16, shuffle=True)
    val = DataLoader(TensorDataset(*pictures(160, 1)), batch_size=160)
    model = PoseNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [6, 8], 0.3)
    watcher = watch(model, optimizer, train=train, val=val)
    for _epoch in range(10):
        model.train()
        for images, points in train:
            loss = nll(model(images), points)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            watcher.step(loss, batch=(images, points))
        scheduler.step()
        model.eval()
        with torch.no_grad():
            images, points = next(iter(val))
            out = model(images)
            val_loss = nll(out, points).item()
            error = ((out[0] - points) * (side - 1) / 2).norm(dim=-1).mean().item()
        watcher.log(val_loss=val_loss)
    return {"train_loss": loss.item(), "val_loss": val_loss, "val_pixel_error": error}


@sound("transfer learning (fine-tuning towards the start)")
def r9_finetune_backbone_asleep_first_l2sp(watch):
    """The backbone's rate is zero for two epochs, then a tenth of the head's; weights are drawn to the pretrained ones (L2-SP)."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images = torch.tensor(digits.images[order], dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target[order])

    def make_backbone():
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.GroupNorm(4, 16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, 2, 1),
            nn.GroupNorm(4, 32),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, 2, 1),
            nn.GroupNorm(4, 32),
            nn.ReLU(),
            nn.Flatten(),
        )

    class Net(nn.Module):
        def __init__(self, backbone, n):
            super().__init__()
            self.backbone, self.head = backbone, nn.Linear(128, n)

        def forward(self, x):
            return self.head(self.backbone(x))

    old = Net(make_backbone(), 10)
    pre = torch.optim.Adam(old.parameters(), 3e-3)
    for _ in range(8):
        for idx in torch.randperm(700).split(50):
            loss = F.cross_entropy(old(images[idx]), labels[idx])
            pre.zero_grad()
            loss.backward()
            pre.step()

    negative = 1 - images.flip(3)  # new domain: mirrored negatives
    train = DataLoader(
        TensorDataset(negative[700:1200], labels[700:1200]), batch_size=10, shuffle=True
    )
    val = DataLoader(TensorDataset(negative[1200:], labels[1200:]), batch_size=200)
    model = Net(old.backbone, 10)
    start = [p.detach().clone() for p in model.backbone.parameters()]
    optimizer = torch.optim.AdamW(
        [
            {"params": model.backbone.parameters(), "lr": 1e-3},
            {"params": model.head.parameters(), "lr": 5e-3},
        ],
        weight_decay=0.0,
    )
    epochs, asleep = 10, 2
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        [
            lambda e: 0.0 if e < asleep else 0.5 * (1 + math.cos(math.pi * (e - asleep) / epochs)),
            lambda e: 0.5 * (1 + math.cos(math.pi * e / epochs)),
        ],
    )
    watcher = watch(model, optimizer, train=train, val=val)
    for _epoch in range(epochs):
        model.train()
        for x, t in train:
            penalty = sum(
                (p - s).pow(2).sum()
                for p, s in zip(model.backbone.parameters(), start, strict=True)
            )
            loss = F.cross_entropy(model(x), t) + 1e-3 * penalty
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(x, t))
        scheduler.step()
        model.eval()
        with torch.no_grad():
            outs = [(model(x), t) for x, t in val]
            out, t = torch.cat([o for o, _ in outs]), torch.cat([t for _, t in outs])
            val_loss, acc = (
                F.cross_entropy(out, t).item(),
                (out.argmax(1) == t).float().mean().item(),
            )
        watcher.log(val_loss=val_loss, val_accuracy=acc)
    return {"train_loss": loss.item(), "val_loss": val_loss, "val_accuracy": acc}
