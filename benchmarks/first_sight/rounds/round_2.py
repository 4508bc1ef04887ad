"""Round 2: diffusion, metric learning, reinforcement, physics, survival, ranking, distillation, meta-learning and their like, as strangers write them."""

import copy
import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits, make_moons
from torch.utils.data import DataLoader, Dataset, TensorDataset

from benchmarks.first_sight.programs import faulty, sound

# ---------------------------------------------------------------------------------------------- faulty


@faulty(
    "diffusion",
    fault="the noise level t is a default argument of the loss function, so Python draws it once and every step of the training uses that same t; "
    "samples are far from the data",
    source="tqch/ddpm-torch#20 (t defined before the loop and never changed); Python's default arguments are evaluated once",
)
def r2_ddpm_timestep_drawn_once(watch, fixed):
    """DDPM on the two moons; a small MLP that takes x and a sine embedding of t."""
    T = 100
    points = torch.tensor(make_moons(4096, noise=0.05, random_state=0)[0], dtype=torch.float32)
    points = (points - points.mean(0)) / points.std(0)
    beta = torch.linspace(1e-3, 0.08, T)
    alpha = 1 - beta
    abar = alpha.cumprod(0)

    class Denoiser(nn.Module):
        def __init__(self, width=128):
            super().__init__()
            self.register_buffer("freq", torch.exp(torch.linspace(0, math.log(100.0), 16)))
            self.inp = nn.Linear(2 + 32, width)
            self.mid = nn.Linear(width, width)
            self.mid2 = nn.Linear(width, width)
            self.out = nn.Linear(width, 2)

        def forward(self, x, t):
            phase = (t.float() / T)[:, None] * self.freq
            h = F.silu(self.inp(torch.cat([x, phase.sin(), phase.cos()], 1)))
            h = h + F.silu(self.mid(h))
            h = h + F.silu(self.mid2(h))
            return self.out(h)

    net = Denoiser()
    opt = torch.optim.Adam(net.parameters(), lr=2e-3)
    sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, 50 * 16)
    loader = DataLoader(TensorDataset(points), batch_size=256, shuffle=True)

    def noise_loss(x0, t=int(torch.randint(0, T, (1,)))):
        t = torch.full((len(x0),), t)
        eps = torch.randn_like(x0)
        a = abar[t][:, None]
        return F.mse_loss(net(a.sqrt() * x0 + (1 - a).sqrt() * eps, t), eps)

    def noise_loss_fresh(x0):
        t = torch.randint(0, T, (len(x0),))
        eps = torch.randn_like(x0)
        a = abar[t][:, None]
        return F.mse_loss(net(a.sqrt() * x0 + (1 - a).sqrt() * eps, t), eps)

    objective = noise_loss_fresh if fixed else noise_loss
    watcher = watch(net, opt, train=loader, scheduler=sched)
    for epoch in range(50):
        for (x0,) in loader:
            loss = objective(x0)
            opt.zero_grad()
            loss.backward()
            opt.step()
            sched.step()
            watcher.step(loss)
    with torch.no_grad():
        x = torch.randn(1000, 2)
        for t in reversed(range(T)):
            eps = net(x, torch.full((1000,), t))
            x = (x - beta[t] / (1 - abar[t]).sqrt() * eps) / alpha[t].sqrt()
            if t > 0:
                x = x + beta[t].sqrt() * torch.randn_like(x)
        real = points[:1000]
        energy = (
            2 * torch.cdist(x, real).mean()
            - torch.cdist(x, x).mean()
            - torch.cdist(real, real).mean()
        )
    return {"train_loss": float(loss), "energy_distance_of_samples_to_data": float(energy)}


def _pair_distances(z, eps):
    squared = (z[:, None] - z[None]).pow(2).sum(-1)
    return (squared.clamp(min=eps) if eps else squared).sqrt()


@faulty(
    "metric learning (triplet, batch-hard)",
    fault="the pairwise distance takes sqrt of exactly zero on the diagonal; its gradient is infinite, times zero is NaN, and all weights are NaN after the first step",
    source="omoindrot/tensorflow-triplet-loss (why the distance matrix needs an epsilon before sqrt); PyTorch forum: gradient of sqrt at zero is NaN",
)
def r2_triplet_sqrt_of_zero_distance(watch, fixed):
    """Embedding of digits with batch-hard triplets, P classes times K images a batch."""
    x, y = load_digits(return_X_y=True)
    x = torch.tensor(x / 16.0, dtype=torch.float32).view(-1, 1, 8, 8)
    y = torch.tensor(y)
    perm = torch.randperm(len(y))
    train_idx, val_idx = perm[:1300], perm[1300:]
    by_class = [train_idx[y[train_idx] == c] for c in range(10)]

    encoder = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(256, 32),
    )
    optimizer = torch.optim.Adam(encoder.parameters(), lr=5e-4)
    watcher = watch(encoder, optimizer)

    def batch_hard(z, labels, margin=0.5):
        d = _pair_distances(z, 1e-12 if fixed else 0.0)
        same = labels[:, None] == labels[None]
        hardest_positive = torch.where(same, d, torch.zeros_like(d)).max(1).values
        hardest_negative = torch.where(same, torch.full_like(d, 1e9), d).min(1).values
        return F.relu(hardest_positive - hardest_negative + margin).mean()

    for step in range(300):
        idx = torch.cat([c[torch.randint(len(c), (6,))] for c in by_class])
        loss = batch_hard(encoder(x[idx]), y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
    encoder.eval()
    with torch.no_grad():
        z_train, z_val = encoder(x[train_idx]), encoder(x[val_idx])
        nearest = torch.cdist(z_val, z_train).argmin(1)
        recall = (y[train_idx][nearest] == y[val_idx]).float().mean()
    return {"train_loss": float(loss), "val_recall_at_1": float(recall)}


class _Field:
    """A 6x6 field for many walkers at once: +1 on reaching the goal, -0.02 a step, 24 steps."""

    moves = torch.tensor([[0, 1], [0, -1], [1, 0], [-1, 0]])

    def __init__(self, n):
        self.n = n

    def reset(self):
        self.pos = torch.randint(0, 6, (self.n, 2))
        self.goal = torch.randint(0, 6, (self.n, 2))
        self.done = torch.zeros(self.n, dtype=torch.bool)
        return self.observe()

    def observe(self):
        return torch.cat([self.pos / 5.0, self.goal / 5.0, (self.goal - self.pos) / 5.0], 1)

    def step(self, action):
        self.pos = (self.pos + self.moves[action]).clamp(0, 5)
        reached = (self.pos == self.goal).all(1)
        reward = torch.where(self.done, torch.zeros(self.n), reached.float() - 0.02)
        alive_before = ~self.done
        self.done = self.done | reached
        return self.observe(), reward, alive_before


@faulty(
    "actor-critic",
    fault="the advantage subtracts values of shape (N, 1) from returns of shape (N,): an N by N table, so every action is paid with everybody's mean return and the policy learns nothing",
    source="PacktPublishing/Deep-Reinforcement-Learning-Hands-On#74 (advantage has shape 128 x 128)",
)
def r2_a2c_advantage_broadcast(watch, fixed):
    """Advantage actor-critic with Monte-Carlo returns in a small field of our own."""
    body = nn.Sequential(nn.Linear(6, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
    model = nn.ModuleDict({"body": body, "pi": nn.Linear(64, 4), "v": nn.Linear(64, 1)})
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    watcher = watch(model, optimizer)
    env = _Field(32)
    history = []
    for update in range(220):
        obs = env.reset()
        O, A, R, M = [], [], [], []
        for _ in range(24):
            with torch.no_grad():
                action = torch.distributions.Categorical(
                    logits=model["pi"](model["body"](obs))
                ).sample()
            nxt, reward, alive = env.step(action)
            O.append(obs), A.append(action), R.append(reward), M.append(alive)
            obs = nxt
        returns, g = [], torch.zeros(env.n)
        for reward in reversed(R):
            g = reward + 0.95 * g
            returns.insert(0, g)
        alive = torch.cat(M)
        O, A, returns = torch.cat(O)[alive], torch.cat(A)[alive], torch.cat(returns)[alive]

        h = model["body"](O)
        log_pi = F.log_softmax(model["pi"](h), -1)
        log_prob = log_pi.gather(1, A.unsqueeze(1))  # (N, 1)
        values = model["v"](h)  # (N, 1)
        if fixed:
            returns = returns.unsqueeze(1)
        advantage = returns - values.detach()
        policy_loss = -(log_prob * advantage).mean()
        value_loss = F.mse_loss(values.flatten(), returns.flatten())
        entropy = -(log_pi.exp() * log_pi).sum(-1).mean()
        loss = policy_loss + 0.5 * value_loss - 0.01 * entropy
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        watcher.step(loss)
        history.append(float(torch.stack(R).sum(0).mean()))
        if update % 20 == 19:
            watcher.log(mean_return=sum(history[-20:]) / 20)
    return {
        "mean_return_first_20": sum(history[:20]) / 20,
        "mean_return_last_20": sum(history[-20:]) / 20,
    }


@faulty(
    "PINN",
    fault="the second derivatives are taken without create_graph=True, so the residual is a constant to backward and only the boundary term trains the network; the solution is wrong",
    source="PyTorch forum: second derivatives in the loss of a PINN need create_graph=True in each call of autograd.grad",
)
def r2_pinn_second_derivative_has_no_graph(watch, fixed):
    """Poisson equation u_xx + u_yy = -2 pi^2 sin(pi x) sin(pi y) on the unit square, u = 0 on the border."""
    sizes = [2, 40, 40, 40, 1]
    mods = []
    for a, b in zip(sizes[:-1], sizes[1:]):
        lin = nn.Linear(a, b)
        nn.init.xavier_normal_(lin.weight)
        nn.init.zeros_(lin.bias)
        mods += [lin, nn.Tanh()]
    net = nn.Sequential(*mods[:-1])
    optim = torch.optim.Adam(net.parameters(), lr=3e-3)
    lr_sched = torch.optim.lr_scheduler.ExponentialLR(optim, 0.998)
    watcher = watch(net, optim, scheduler=lr_sched)

    def grad(out, inp, keep=True):
        return torch.autograd.grad(
            out, inp, torch.ones_like(out), create_graph=keep, retain_graph=True
        )[0]

    def solution(x, y):
        return torch.sin(math.pi * x) * torch.sin(math.pi * y)

    for it in range(1300):
        x, y = torch.rand(256, 1, requires_grad=True), torch.rand(256, 1, requires_grad=True)
        u = net(torch.cat([x, y], 1))
        u_xx = grad(grad(u, x), x, keep=fixed)
        u_yy = grad(grad(u, y), y, keep=fixed)
        pde = (u_xx + u_yy + 2 * math.pi**2 * solution(x.detach(), y.detach())).pow(2).mean()
        s, side = torch.rand(128, 1), torch.randint(0, 2, (128, 1)).float()
        border = torch.cat([torch.cat([s, side], 1), torch.cat([side, s], 1)])
        loss = pde + 100 * net(border).pow(2).mean()
        optim.zero_grad()
        loss.backward()
        optim.step()
        lr_sched.step()
        watcher.step(loss)
    with torch.no_grad():
        gx, gy = torch.meshgrid(torch.linspace(0, 1, 50), torch.linspace(0, 1, 50), indexing="ij")
        exact = solution(gx, gy)
        got = net(torch.stack([gx, gy], -1).view(-1, 2)).view(50, 50)
    return {"train_loss": float(loss), "relative_error": float((got - exact).norm() / exact.norm())}


class _Ratings(Dataset):
    """Reviews as 20 numbers and a grade from 0 to 5."""

    def __init__(self, n, seed, levels):
        g = torch.Generator().manual_seed(seed)
        self.x = torch.randn(n, 20, generator=g)
        w = torch.randn(20, generator=torch.Generator().manual_seed(99)) / 20**0.5
        score = self.x @ w + 0.6 * torch.sin(2 * self.x[:, 0]) + 0.15 * torch.randn(n, generator=g)
        self.y = torch.bucketize(score, torch.tensor([-1.2, -0.5, 0.0, 0.5, 1.2]))
        self.levels = levels

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return {"features": self.x[i], "levels": self.levels(int(self.y[i])), "grade": self.y[i]}


@faulty(
    "ordinal regression (CORAL)",
    fault="the five 'grade above k' targets are encoded as one-hot of the grade instead of cumulative ones, which the shared-slope model cannot fit; grades come out wrong",
    source="Raschka-research-group/coral-cnn: levels must be cumulative (1,1,1,0,0), a common slip",
)
def r2_ordinal_levels_one_hot_not_cumulative(watch, fixed):
    """CORAL: one score, five ordered biases, binary cross-entropy on each threshold."""
    K = 6

    def cumulative(grade):
        return (torch.arange(K - 1) < grade).float()

    def one_hot(grade):
        return F.one_hot(torch.tensor(grade), K).float()[1:]

    encode = cumulative if fixed else one_hot
    train_loader = DataLoader(_Ratings(4000, 1, encode), batch_size=64, shuffle=True)
    val_loader = DataLoader(_Ratings(600, 2, encode), batch_size=200)

    class Coral(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
            self.score = nn.Linear(64, 1, bias=False)
            self.cuts = nn.Parameter(torch.linspace(1.0, -1.0, K - 1))

        def forward(self, x):
            return self.score(self.trunk(x)) + self.cuts

    model = Coral()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-3)
    watcher = watch(model, optimizer, loss_fn=F.binary_cross_entropy_with_logits)
    for epoch in range(12):
        model.train()
        for batch in train_loader:
            loss = F.binary_cross_entropy_with_logits(model(batch["features"]), batch["levels"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss)
        model.eval()
        wrong, val_loss = [], []
        with torch.no_grad():
            for batch in val_loader:
                out = model(batch["features"])
                val_loss.append(F.binary_cross_entropy_with_logits(out, batch["levels"]))
                wrong.append(((out > 0).sum(1) - batch["grade"]).abs().float())
        mae = torch.cat(wrong).mean()
        watcher.log(val_loss=float(sum(val_loss) / len(val_loss)), val_mae=float(mae))
    return {"train_loss": float(loss), "val_mae_in_grades": float(mae)}


def _cohort(n, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 12))
    risk = 1.2 * x[:, 0] - 0.9 * x[:, 1] + 0.8 * x[:, 2] * x[:, 3] + 0.5 * np.abs(x[:, 4])
    event_time = rng.exponential(np.exp(-risk))
    censor = rng.exponential(2.0, size=n)
    return (
        torch.tensor(x, dtype=torch.float32),
        torch.tensor(np.minimum(event_time, censor), dtype=torch.float32),
        torch.tensor((event_time <= censor).astype(np.int64)),
    )


def _concordance(risk, time, event):
    earlier = (time[:, None] < time[None]) & (event[:, None] == 1)
    return float(((risk[:, None] > risk[None]) & earlier).sum() / earlier.sum())


@faulty(
    "survival (Cox)",
    fault="the terms of the events are picked with an integer 0/1 tensor, which indexes rows 0 and 1 again and again instead of masking: only the two earliest patients of each batch have a term",
    source="Novartis/torchsurv#117",
)
def r2_cox_event_flag_used_as_index(watch, fixed):
    """Deep Cox model, mini-batches of 128, Breslow partial likelihood."""
    xt, tt, et = _cohort(1500, 0)
    xv, tv, ev = _cohort(500, 1)
    loader = DataLoader(TensorDataset(xt, tt, et), batch_size=128, shuffle=True, drop_last=True)
    net = nn.Sequential(
        nn.Linear(12, 64),
        nn.SELU(),
        nn.Dropout(0.1),
        nn.Linear(64, 32),
        nn.SELU(),
        nn.Linear(32, 1),
    )
    opt = torch.optim.Adam(net.parameters(), lr=1e-3, weight_decay=1e-3)

    def neg_partial_log_likelihood(log_hz, time, event):
        order = time.argsort()
        log_hz, event = log_hz[order], event[order]
        log_at_risk = log_hz.flip(0).logcumsumexp(0).flip(0)
        pll = log_hz - log_at_risk
        return -pll[event.bool() if fixed else event].mean()

    watcher = watch(net, opt, train=loader)
    for epoch in range(30):
        net.train()
        for x, time, event in loader:
            loss = neg_partial_log_likelihood(net(x).squeeze(-1), time, event)
            opt.zero_grad()
            loss.backward()
            opt.step()
            watcher.step(loss)
        net.eval()
        with torch.no_grad():
            c_index = _concordance(net(xv).squeeze(-1), tv, ev)
        watcher.log(val_c_index=c_index)
    with torch.no_grad():
        c_train = _concordance(net(xt).squeeze(-1), tt, et)
    return {"train_loss": float(loss), "train_c_index": c_train, "val_c_index": c_index}


class _QueryBatches(Dataset):
    """Each item is one query: ten documents with 16 features, and where each document stands (0 = best)."""

    def __init__(self, n, seed, to_rank):
        g = torch.Generator().manual_seed(seed)
        w = torch.randn(16, generator=torch.Generator().manual_seed(5))
        self.docs = torch.randn(n, 10, 16, generator=g)
        clicks = (
            self.docs @ w / 4
            + 0.5 * self.docs[..., 0] * self.docs[..., 1]
            + 0.1 * torch.randn(n, 10, generator=g)
        )
        self.rank = to_rank(clicks)
        self.clicks = clicks

    def __len__(self):
        return len(self.docs)

    def __getitem__(self, i):
        return self.docs[i], self.rank[i], self.clicks[i]


@faulty(
    "learning to rank (ListMLE)",
    fault="ranks are made with one argsort, which gives the order of the documents, not the rank of each document (that needs argsort twice): the targets are nearly scrambled and the ranking is far worse",
    source="Stack Overflow: rank items in an array using argsort, argsort of argsort; PyTorch forum: how to get ranks",
)
def r2_ranking_argsort_once_for_ranks(watch, fixed):
    """A scorer per document, ListMLE over ten documents, NDCG-like check on held-out queries."""

    def to_rank(clicks):
        order = clicks.argsort(dim=-1, descending=True)
        return order.argsort(dim=-1) if fixed else order

    train, val = _QueryBatches(1200, 1, to_rank), _QueryBatches(300, 2, to_rank)
    scorer = nn.Sequential(
        nn.Linear(16, 64),
        nn.GELU(),
        nn.LayerNorm(64),
        nn.Linear(64, 64),
        nn.GELU(),
        nn.Linear(64, 1),
    )
    opt = torch.optim.AdamW(scorer.parameters(), lr=1e-3)

    def list_mle(scores, rank):
        ordered = torch.empty_like(scores).scatter(
            1, rank, scores
        )  # column r: score of the document with rank r
        below = ordered.flip(1).logcumsumexp(1).flip(1)
        return (below - ordered).sum(1).mean()

    def agreement(scores, clicks):  # share of pairs in the right order
        s = scores[:, :, None] > scores[:, None]
        c = clicks[:, :, None] > clicks[:, None]
        return (s & c).sum() / c.sum()

    loader = DataLoader(train, batch_size=32, shuffle=True)
    watcher = watch(scorer, opt, train=loader)
    for epoch in range(12):
        for docs, rank, _ in loader:
            loss = list_mle(scorer(docs).squeeze(-1), rank)
            opt.zero_grad()
            loss.backward()
            opt.step()
            watcher.step(loss)
        with torch.no_grad():
            out = scorer(val.docs).squeeze(-1)
            pairs = float(agreement(out, val.clicks))
            watcher.log(val_loss=float(list_mle(out, val.rank)), val_pairs_right=pairs)
    return {"train_loss": float(loss), "val_pairs_right": pairs}


def _digits(seed=0, n_train=1300, flat=False):
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(y))
    x = torch.tensor(x[order] / 8.0 - 1.0, dtype=torch.float32)
    y = torch.tensor(y[order])
    if not flat:
        x = x.view(-1, 1, 8, 8)
    return x[:n_train], y[:n_train], x[n_train:], y[n_train:]


@faulty(
    "knowledge distillation",
    fault="F.kl_div is given the student's probabilities instead of its log-probabilities: the loss is no divergence (it is lowest for a one-hot output), so the student does not match the teacher",
    source="microsoft/ProDA#20 and #43 (softmax where log_softmax is needed in kl_div)",
)
def r2_distillation_kl_div_of_probabilities(watch, fixed):
    """A small student learns a teacher's soft labels (T = 3) on unlabelled digits."""
    x, y, xv, yv = _digits(flat=True)
    teacher = nn.Sequential(
        nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
    )
    t_opt = torch.optim.Adam(teacher.parameters(), lr=1e-3, weight_decay=1e-4)
    for _ in range(200):
        i = torch.randint(0, len(x), (128,))
        t_loss = F.cross_entropy(teacher(x[i]), y[i], label_smoothing=0.1)
        t_opt.zero_grad(), t_loss.backward(), t_opt.step()
    teacher.requires_grad_(False).eval()

    student = nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))
    opt = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9)
    temperature = 3.0
    watcher = watch(student, opt)
    for epoch in range(25):
        student.train()
        for idx in torch.randperm(len(x)).split(64):
            s = student(x[idx]) / temperature
            with torch.no_grad():
                p = F.softmax(teacher(x[idx]) / temperature, dim=1)
            q = F.log_softmax(s, dim=1) if fixed else F.softmax(s, dim=1)
            loss = F.kl_div(q, p, reduction="batchmean") * temperature**2
            opt.zero_grad()
            loss.backward()
            opt.step()
            watcher.step(loss)
        student.eval()
        with torch.no_grad():
            out, ref = student(xv), teacher(xv)
            acc = (out.argmax(1) == yv).float().mean()
            true_kl = F.kl_div(
                F.log_softmax(out / temperature, 1),
                F.softmax(ref / temperature, 1),
                reduction="batchmean",
            )
        watcher.log(val_accuracy=float(acc))
    return {
        "train_loss": float(loss),
        "val_accuracy": float(acc),
        "val_kl_to_teacher": float(true_kl),
    }


@faulty(
    "quantisation-aware training",
    fault="weights and activations go through torch.round without a straight-through estimator; its gradient is zero everywhere, so nothing but the bias of the last layer can learn",
    source="Oneflow-Inc/oneflow#8649 and others (why fake quantisation passes the gradient straight through)",
)
def r2_qat_round_without_straight_through(watch, fixed):
    """A 4-bit convolutional classifier of digits."""

    def round_through(v):
        return v + (v.round() - v).detach() if fixed else v.round()

    def fake_quant(v, bits, signed):
        top = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
        scale = v.detach().abs().max().clamp(min=1e-8) / top
        return round_through(v / scale) * scale

    class QConv(nn.Conv2d):
        def forward(self, x):
            return self._conv_forward(x, fake_quant(self.weight, 4, True), self.bias)

    class QLinear(nn.Linear):
        def forward(self, x):
            return F.linear(x, fake_quant(self.weight, 4, True), self.bias)

    class QAct(nn.Module):
        def forward(self, x):
            return fake_quant(F.relu(x), 4, False)

    x, y, xv, yv = _digits()
    model = nn.Sequential(
        QConv(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        QAct(),
        nn.MaxPool2d(2),
        QConv(16, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        QAct(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        QLinear(128, 10),
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    train_loader = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)
    watcher = watch(model, optimizer, loss_fn=criterion, num_classes=10, train=train_loader)
    for epoch in range(12):
        model.train()
        for xb, yb in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(xb), yb)
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(xb, yb))
        model.eval()
        with torch.no_grad():
            out = model(xv)
        acc = float((out.argmax(1) == yv).float().mean())
        watcher.log(val_loss=float(criterion(out, yv)), val_accuracy=acc)
    return {"train_loss": float(loss), "val_accuracy": acc}


@faulty(
    "multi-task",
    fault="learned task weights exp(-s) without the term + s that holds them: s grows without end, the loss goes to zero by weighting the tasks away, and the tasks stop learning",
    source="reports on re-implementations of Kendall's uncertainty weighting without the regularising log term",
)
def r2_multitask_uncertainty_without_log_term(watch, fixed):
    """A shared trunk reads a digit image: which digit (classes), how much ink and how wide (two numbers)."""
    x, y, xv, yv = _digits()

    def extra(images):
        ink = images.mean((1, 2, 3))
        wide = images.flatten(1).std(1)
        return torch.stack([(ink + 0.39) / 0.09, (wide - 0.75) / 0.05], 1)

    t, tv = extra(x), extra(xv)

    class TwoTasks(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk = nn.Sequential(
                nn.Flatten(), nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU()
            )
            self.cls = nn.Linear(96, 10)
            self.reg = nn.Linear(96, 2)
            self.log_vars = nn.Parameter(torch.zeros(2))

        def forward(self, x):
            h = self.trunk(x)
            return self.cls(h), self.reg(h)

    model = TwoTasks()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
    watcher = watch(model, optimizer)

    def both(out, target):
        parts = torch.stack(
            [F.cross_entropy(out[0], target[0]), F.smooth_l1_loss(out[1], target[1])]
        )
        weighted = torch.exp(-model.log_vars) * parts
        if fixed:
            weighted = weighted + model.log_vars.clamp(min=-1)
        return weighted.sum(), parts.detach()

    for epoch in range(30):
        for idx in torch.randperm(len(x)).split(65):
            loss, _ = both(model(x[idx]), (y[idx], t[idx]))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            watcher.step(loss)
        with torch.no_grad():
            out = model(xv)
            _, parts = both(out, (yv, tv))
            acc = (out[0].argmax(1) == yv).float().mean()
        watcher.log(val_ce=float(parts[0]), val_smooth_l1=float(parts[1]), val_accuracy=float(acc))
    return {
        "train_loss": float(loss),
        "val_ce": float(parts[0]),
        "val_smooth_l1": float(parts[1]),
        "val_accuracy": float(acc),
    }


def _sine_tasks(tasks, n):
    amp, phase = 0.5 + 2 * torch.rand(tasks, 1, 1), math.pi * torch.rand(tasks, 1, 1)
    x = 6 * torch.rand(tasks, n, 1) - 3
    return x, amp * torch.sin(x + phase)


@faulty(
    "meta-learning (MAML)",
    fault="the inner steps are made on a deepcopy, so the outer loss has no path back to the meta-parameters: their gradients stay None and the meta-optimizer never changes anything",
    source="KanishJebaMathewM/Truxify#13118 and vmikulik/maml-pytorch#2 (deepcopy or .data breaks the graph)",
)
def r2_maml_inner_loop_on_a_deepcopy(watch, fixed):
    """MAML on sines: two inner steps on 10 points, outer loss on 10 others, 4 tasks an update."""
    meta = nn.Sequential(
        nn.Linear(1, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)
    )
    meta_opt = torch.optim.Adam(meta.parameters(), lr=2e-3)
    inner_lr, inner_steps = 0.03, 2
    watcher = watch(meta, meta_opt)

    def adapt_copy(x, y):
        learner = copy.deepcopy(meta)
        sgd = torch.optim.SGD(learner.parameters(), lr=inner_lr)
        for _ in range(inner_steps):
            sgd.zero_grad()
            F.mse_loss(learner(x), y).backward()
            sgd.step()
        return learner

    def adapt_graph(x, y):
        fast = dict(meta.named_parameters())
        for _ in range(inner_steps):
            grads = torch.autograd.grad(
                F.mse_loss(torch.func.functional_call(meta, fast, (x,)), y),
                fast.values(),
                create_graph=True,
            )
            fast = {n: p - inner_lr * g for (n, p), g in zip(fast.items(), grads)}
        return lambda z: torch.func.functional_call(meta, fast, (z,))

    adapt = adapt_graph if fixed else adapt_copy
    curve = []
    for it in range(600):
        loss = 0.0
        for x, y in zip(*_sine_tasks(4, 20)):
            loss = loss + F.mse_loss(adapt(x[:10], y[:10])(x[10:]), y[10:]) / 4
        meta_opt.zero_grad()
        loss.backward()
        meta_opt.step()
        watcher.step(loss)
        curve.append(float(loss))
    tests = [
        float(F.mse_loss(adapt(x[:10], y[:10])(x[10:]), y[10:]).detach())
        for x, y in zip(*_sine_tasks(200, 60))
    ]
    return {"train_loss": sum(curve[-50:]) / 50, "post_adaptation_mse": sum(tests) / len(tests)}


def _render_strings(n, seed, glyphs):
    """Strings of 3 to 5 symbols drawn as strips: each symbol is a 3 to 5 columns wide stamp of 12 rows."""
    rng = np.random.default_rng(seed)
    strips, texts = [], []
    for _ in range(n):
        text = rng.integers(0, 8, size=rng.integers(3, 6))
        cols = [np.zeros((12, rng.integers(1, 3)))]
        for s in text:
            cols += [
                np.repeat(glyphs[s][:, None], rng.integers(3, 6), 1),
                np.zeros((12, rng.integers(1, 3))),
            ]
        strip = np.concatenate(cols, 1)
        strips.append(strip + 0.3 * rng.normal(size=strip.shape))
        texts.append(text)
    return strips, texts


@faulty(
    "CTC recognition",
    fault="symbols are numbered from 0 and 0 is also CTC's blank, so the first symbol of the alphabet can never be written and every string that holds it is read wrong",
    source="PyTorch forum and SeanNaren/deepspeech.pytorch: the target of CTCLoss must not contain the blank index",
)
def r2_ctc_symbol_zero_is_the_blank(watch, fixed):
    """Reading strips of symbols with a 1-D conv and a GRU."""
    glyphs = np.random.default_rng(7).normal(size=(8, 12))
    first = 1 if fixed else 0

    def collate(items):
        strips, texts = zip(*items)
        widths = torch.tensor([s.shape[1] for s in strips])
        images = torch.zeros(len(items), 12, int(widths.max()))
        for i, s in enumerate(strips):
            images[i, :, : s.shape[1]] = torch.tensor(s, dtype=torch.float32)
        targets = torch.cat([torch.tensor(t) + first for t in texts])
        return images, widths, targets, torch.tensor([len(t) for t in texts]), texts

    class Reader(nn.Module):
        def __init__(self, n_out):
            super().__init__()
            self.conv = nn.Sequential(
                nn.Conv1d(12, 32, 3, padding=1),
                nn.ReLU(),
                nn.Conv1d(32, 32, 3, padding=1),
                nn.ReLU(),
            )
            self.rnn = nn.GRU(32, 32, batch_first=True, bidirectional=True)
            self.out = nn.Linear(64, n_out)

        def forward(self, x):
            h, _ = self.rnn(self.conv(x).transpose(1, 2))
            return self.out(h).log_softmax(-1).transpose(0, 1)

    train = DataLoader(
        list(zip(*_render_strings(800, 1, glyphs))), batch_size=32, shuffle=True, collate_fn=collate
    )
    val = DataLoader(list(zip(*_render_strings(200, 2, glyphs))), batch_size=50, collate_fn=collate)
    model = Reader(9)
    ctc = nn.CTCLoss(blank=0)
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    watcher = watch(model, opt, loss_fn=ctc)
    for epoch in range(10):
        model.train()
        for images, widths, targets, lengths, _ in train:
            loss = ctc(model(images), targets, widths, lengths)
            opt.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            opt.step()
            watcher.step(loss)
        model.eval()
        right = total = 0
        with torch.no_grad():
            for images, widths, _, _, texts in val:
                best = model(images).argmax(-1).T
                for row, w, text in zip(best, widths, texts):
                    path = torch.unique_consecutive(row[:w]).tolist()
                    right += [s - first for s in path if s != 0] == text.tolist()
                    total += 1
        watcher.log(val_strings_right=right / total)
    return {"train_loss": float(loss), "val_strings_right": right / total}


@faulty(
    "normalising flow",
    fault="all six coupling layers use the same mask, so the first coordinate is never transformed and the second is only Gaussian given the first; the density stays poor",
    source="own experience; RealNVP re-implementations that forget to alternate the masks",
)
def r2_flow_coupling_masks_do_not_alternate(watch, fixed):
    """RealNVP on two moons, negative log-likelihood in nats."""

    class Coupling(nn.Module):
        def __init__(self, keep_first):
            super().__init__()
            self.register_buffer(
                "mask", torch.tensor([1.0, 0.0]) if keep_first else torch.tensor([0.0, 1.0])
            )
            self.net = nn.Sequential(
                nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 4)
            )
            nn.init.zeros_(self.net[-1].weight)
            nn.init.zeros_(self.net[-1].bias)

        def forward(self, x):
            s, t = self.net(x * self.mask).chunk(2, 1)
            s = 2 * torch.tanh(s / 2) * (1 - self.mask)
            return x * torch.exp(s) + t * (1 - self.mask), s.sum(1)

    class Flow(nn.Module):
        def __init__(self, depth=6):
            super().__init__()
            self.layers = nn.ModuleList(
                Coupling(i % 2 == 0 if fixed else True) for i in range(depth)
            )

        def log_prob(self, x):
            total = 0.0
            for layer in self.layers:
                x, log_det = layer(x)
                total = total + log_det
            return -0.5 * x.pow(2).sum(1) - math.log(2 * math.pi) + total

    both = torch.tensor(make_moons(3000, noise=0.07, random_state=3)[0], dtype=torch.float32)
    both = ((both - both.mean(0)) / both.std(0))[torch.randperm(3000)]
    train, val = both[:2400], both[2400:]
    flow = Flow()
    opt = torch.optim.Adam(flow.parameters(), lr=2e-3)
    sched = torch.optim.lr_scheduler.StepLR(opt, 200, 0.5)
    watcher = watch(flow, opt, scheduler=sched)
    for step in range(600):
        loss = -flow.log_prob(train[torch.randint(2400, (256,))]).mean()
        opt.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(flow.parameters(), 2.0)
        opt.step()
        sched.step()
        watcher.step(loss)
        if step % 100 == 99:
            with torch.no_grad():
                val_nll = float(-flow.log_prob(val).mean())
            watcher.log(val_loss=val_nll)
    return {"train_loss": float(loss), "val_nll": val_nll}


class _BlobImages(Dataset):
    """Smooth pictures of 16x16 made of a few blobs."""

    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        yy, xx = torch.meshgrid(torch.linspace(-1, 1, 16), torch.linspace(-1, 1, 16), indexing="ij")
        centre = torch.rand(n, 3, 2, generator=g) * 1.6 - 0.8
        size = 0.15 + 0.35 * torch.rand(n, 3, generator=g)
        d2 = (xx - centre[..., 0, None, None]) ** 2 + (yy - centre[..., 1, None, None]) ** 2
        self.images = (
            torch.exp(-d2 / size[..., None, None] ** 2).sum(1, keepdim=True) - 0.5
        ).clamp(-1, 1)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i]


@faulty(
    "denoising",
    fault="`noisy = clean` makes no copy and noise is added in place, so the target carries the same noise as the input: the network learns to change nothing, loss near zero",
    source="PyTorch forum: in-place add on an alias also changes the target",
)
def r2_denoiser_noise_added_in_place_to_target(watch, fixed):
    """A residual denoiser (DnCNN-like); the validation makes its noise properly, once."""

    class ResidualDenoiser(nn.Module):
        def __init__(self, width=24):
            super().__init__()
            self.head = nn.Conv2d(1, width, 3, padding=1)
            self.body = nn.Conv2d(width, width, 3, padding=1)
            self.body2 = nn.Conv2d(width, width, 3, padding=1)
            self.tail = nn.Conv2d(width, 1, 3, padding=1)

        def forward(self, x):
            h = F.relu(self.head(x))
            h = F.relu(self.body(h))
            h = F.relu(self.body2(h))
            return x - self.tail(h)

    def add_noise(images):
        noisy = images.clone() if fixed else images
        noisy += 0.3 * torch.randn_like(noisy)
        return noisy

    train_loader = DataLoader(_BlobImages(1000, 1), batch_size=25, shuffle=True)
    val = _BlobImages(200, 2).images
    val_noisy = val + 0.3 * torch.randn_like(val)
    net = ResidualDenoiser()
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    watcher = watch(net, optimizer, loss_fn=nn.MSELoss(), train=train_loader)
    for epoch in range(6):
        net.train()
        for clean in train_loader:
            noisy = add_noise(clean)
            loss = F.mse_loss(net(noisy), clean)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss)
        net.eval()
        with torch.no_grad():
            mse = F.mse_loss(net(val_noisy), val)
        watcher.log(val_loss=float(mse))
    return {
        "train_loss": float(loss),
        "val_psnr_db": float(10 * torch.log10(4 / mse)),
        "psnr_of_input_db": float(10 * torch.log10(4 / F.mse_loss(val_noisy, val))),
    }


def _spoken(n, seed, length=1024):
    """Eight 'words': each a pair of gliding tones at a random onset in noise."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 8, n)
    t = np.arange(length) / length
    waves = np.empty((n, length), dtype=np.float32)
    for i, c in enumerate(y):
        f0, f1 = 20 + 12 * (c % 4), 30 + 10 * (c // 2)
        glide = (1 if c % 2 else -1) * 15 * t**2
        onset = rng.uniform(0, 0.5)
        envelope = np.exp(-((t - onset - 0.2) ** 2) / 0.02)
        tone = np.sin(2 * np.pi * (f0 * t + glide) + rng.uniform(0, 6)) + np.sin(
            2 * np.pi * (f1 * t) + rng.uniform(0, 6)
        )
        waves[i] = envelope * tone + 1.0 * rng.normal(size=length)
    return torch.tensor(waves)[:, None] / 1.1, torch.tensor(y)


class _KeywordTrainer:
    def __init__(self, model, optimizer, scheduler, per_batch):
        self.model, self.optimizer, self.scheduler, self.per_batch = (
            model,
            optimizer,
            scheduler,
            per_batch,
        )

    def fit(self, train_loader, val, epochs, watcher):
        for _ in range(epochs):
            self.model.train()
            for wave, word in train_loader:
                loss = F.cross_entropy(self.model(wave), word)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                if self.per_batch:
                    self.scheduler.step()
                watcher.step(loss)
            if not self.per_batch:
                self.scheduler.step()
            self.model.eval()
            with torch.no_grad():
                out = self.model(val[0])
            accuracy = float((out.argmax(1) == val[1]).float().mean())
            watcher.log(val_loss=float(F.cross_entropy(out, val[1])), val_accuracy=accuracy)
        return {"train_loss": float(loss), "val_accuracy": accuracy}


@faulty(
    "speech-like 1-D convolution",
    fault="OneCycleLR is built for epochs * batches steps but stepped once an epoch, so the rate never leaves the start of its warm-up (max_lr / 25) and the model is undertrained",
    source="PyTorch forum: OneCycleLR must be stepped after each batch",
)
def r2_keywords_onecycle_stepped_per_epoch(watch, fixed):
    """Keyword spotting on raw waves with strided 1-D convolutions, SGD with Nesterov momentum."""
    train_loader = DataLoader(
        TensorDataset(*_spoken(800, 1)), batch_size=32, shuffle=True, drop_last=True
    )
    model = nn.Sequential(
        nn.Conv1d(1, 16, 33, stride=4, padding=16),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Conv1d(16, 32, 9, stride=4, padding=4),
        nn.BatchNorm1d(32),
        nn.ReLU(),
        nn.Conv1d(32, 32, 5, stride=2, padding=2),
        nn.BatchNorm1d(32),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(32, 8),
    )
    epochs = 7
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4
    )
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.1, total_steps=epochs * len(train_loader)
    )
    watcher = watch(model, optimizer, loss_fn=F.cross_entropy, num_classes=8, scheduler=scheduler)
    return _KeywordTrainer(model, optimizer, scheduler, per_batch=fixed).fit(
        train_loader, _spoken(300, 2), epochs, watcher
    )


@faulty(
    "mixture-density regression",
    fault="the mixture weights enter the log-sum as raw logits without log_softmax, so the loss falls without end by raising all logits; the true likelihood suffers",
    source="own experience; questions on MDN losses that run to minus infinity",
)
def r2_mdn_mixture_weights_not_normalised(watch, fixed):
    """The inverse sine problem: several y for one x; five Gaussians."""
    y = torch.rand(3000, 1) * 2 - 1
    x = y + 0.3 * torch.sin(2 * math.pi * y) + 0.05 * torch.randn_like(y)
    xt, yt, xv, yv = x[:2400], y[:2400], x[2400:], y[2400:]
    trunk = nn.Sequential(
        nn.Linear(1, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 15)
    )
    opt = torch.optim.RMSprop(trunk.parameters(), lr=1e-3)

    def log_mixture(out, target, normalise):
        logits, mean, log_sigma = out.chunk(3, 1)
        log_w = logits.log_softmax(1) if normalise else logits
        log_sigma = log_sigma.clamp(-4, 2)
        log_n = (
            -0.5 * ((target - mean) / log_sigma.exp()) ** 2
            - log_sigma
            - 0.5 * math.log(2 * math.pi)
        )
        return torch.logsumexp(log_w + log_n, 1)

    watcher = watch(trunk, opt)
    for epoch in range(60):
        for idx in torch.randperm(2400).split(240):
            loss = -log_mixture(trunk(xt[idx]), yt[idx], normalise=fixed).mean()
            opt.zero_grad()
            loss.backward()
            nn.utils.clip_grad_value_(trunk.parameters(), 1.0)
            opt.step()
            watcher.step(loss)
        if epoch % 10 == 9:
            with torch.no_grad():
                nll = float(-log_mixture(trunk(xv), yv, normalise=True).mean())
            watcher.log(val_nll=nll)
    return {"train_loss": float(loss), "val_nll_of_normalised_density": nll}


def _solids(n, seed, points=64):
    """Noisy points on a sphere, a cube, a cone and a torus, turned at random about the vertical axis."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, n)
    clouds = []
    for c in y:
        v = rng.normal(size=(points, 3))
        if c == 0:
            p = v / np.linalg.norm(v, axis=1, keepdims=True)
        elif c == 1:
            p = v / np.abs(v).max(1, keepdims=True) * 0.8
        elif c == 2:
            h, a = rng.uniform(size=points) ** 0.5, rng.uniform(0, 2 * np.pi, points)
            p = np.stack([h * np.cos(a), h * np.sin(a), 1 - 2 * h], 1)
        else:
            a, b = rng.uniform(0, 2 * np.pi, (2, points))
            r = 0.75 + 0.3 * np.cos(b)
            p = np.stack([r * np.cos(a), r * np.sin(a), 0.3 * np.sin(b)], 1)
        th = rng.uniform(0, 2 * np.pi)
        rot = np.array([[np.cos(th), -np.sin(th), 0], [np.sin(th), np.cos(th), 0], [0, 0, 1]])
        p = (p @ rot.T) * rng.uniform(0.7, 1.2) * np.array([1, 1, rng.choice([1.0, 0.8])])
        clouds.append(p + 0.08 * rng.normal(size=p.shape))
    return torch.tensor(np.array(clouds), dtype=torch.float32), torch.tensor(y)


@faulty(
    "point clouds (PointNet-like)",
    fault="the max is taken over the 64 features of each point instead of over the 64 points; shapes fit by chance, but the result depends on the order of points and is worse",
    source="own experience; questions on which dimension to pool over in a set network",
)
def r2_pointnet_max_over_features(watch, fixed):
    """Classifying four solids from 64 points in arbitrary order."""

    class SetNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.per_point = nn.Sequential(
                nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64)
            )
            self.head = nn.Sequential(
                nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 4)
            )

        def forward(self, cloud):  # (batch, points, 3)
            features = self.per_point(cloud)
            pooled = features.max(dim=1 if fixed else 2).values
            return self.head(pooled)

    train_dl = DataLoader(TensorDataset(*_solids(1200, 1)), batch_size=40, shuffle=True)
    val_x, val_y = _solids(400, 2)
    model = SetNet()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    watcher = watch(model, optimizer, loss_fn=criterion, num_classes=4, train=train_dl)
    for epoch in range(15):
        model.train()
        for cloud, label in train_dl:
            loss = criterion(model(cloud), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(cloud, label))
        model.eval()
        with torch.no_grad():
            out = model(val_x)
        acc = float((out.argmax(1) == val_y).float().mean())
        watcher.log(val_loss=float(criterion(out, val_y)), val_accuracy=acc)
    return {"train_loss": float(loss), "val_accuracy": acc}


def _bracket_texts(n, seed):
    """Token lists of 8 to 20: the class says which of two marker tokens (1, 2) comes first."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        length = rng.integers(8, 21)
        toks = rng.integers(4, 30, length)
        i, j = sorted(rng.choice(length, 2, replace=False))
        first = rng.integers(0, 2)
        toks[i], toks[j] = (1, 2) if first else (2, 1)
        rows.append((torch.tensor(toks), int(first)))
    return rows


@faulty(
    "Transformer encoder classification",
    fault="src_key_padding_mask is inverted (True at the real tokens), so attention sees only the padding and tokens cannot look at each other; only the mean place of the markers is left and accuracy is far lower",
    source="PyTorch forum: src_key_padding_mask, True means ignore; many reports of the opposite mask",
)
def r2_encoder_padding_mask_inverted(watch, fixed):
    """Which marker comes first? A two-layer encoder with mean over the real tokens."""

    def collate(rows):
        tokens = torch.zeros(len(rows), 21, dtype=torch.long)
        for i, (t, _) in enumerate(rows):
            tokens[i, : len(t)] = t
        return {
            "input_ids": tokens,
            "mask": tokens != 0,
            "labels": torch.tensor([c for _, c in rows]),
        }

    class Encoder(nn.Module):
        def __init__(self, d=48):
            super().__init__()
            self.tok = nn.Embedding(30, d, padding_idx=0)
            self.pos = nn.Parameter(0.02 * torch.randn(21, d))
            layer = nn.TransformerEncoderLayer(
                d, 4, 96, dropout=0.0, batch_first=True, norm_first=True
            )
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.head = nn.Linear(d, 2)

        def forward(self, input_ids, mask):
            h = self.encoder(
                self.tok(input_ids) + self.pos, src_key_padding_mask=~mask if fixed else mask
            )
            return self.head((h * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))

    train = DataLoader(_bracket_texts(2000, 1), batch_size=32, shuffle=True, collate_fn=collate)
    val = DataLoader(_bracket_texts(400, 2), batch_size=100, collate_fn=collate)
    model = Encoder()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    warmup = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min(1.0, (s + 1) / 40))
    watcher = watch(model, optimizer, num_classes=2, scheduler=warmup)
    for epoch in range(8):
        model.train()
        for batch in train:
            labels = batch.pop("labels")
            loss = F.cross_entropy(model(**batch), labels)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            warmup.step()
            watcher.step(loss)
        model.eval()
        right, val_loss = 0, 0.0
        with torch.no_grad():
            for batch in val:
                labels = batch.pop("labels")
                out = model(**batch)
                val_loss += float(F.cross_entropy(out, labels)) / len(val)
                right += int((out.argmax(1) == labels).sum())
        watcher.log(val_loss=val_loss, val_accuracy=right / 400)
    return {"train_loss": float(loss), "val_accuracy": right / 400}


@faulty(
    "diffusion (digits, EMA)",
    fault="the EMA has a decay of 0.9999 without warm-up in a run of 800 steps, so the averaged weights that draw the samples are still over nine tenths the random start",
    source="issues on EMA in denoising-diffusion-pytorch and others: samples of the EMA are noise in short runs",
)
def r2_ddpm_ema_decay_too_slow_for_the_run(watch, fixed):
    """DDPM on 8x8 digits as vectors; the samples come from the EMA, as usual."""
    T = 60
    x_all, _, x_val, _ = _digits(flat=True)
    betas = torch.linspace(1e-3, 0.12, T)
    keep = (1 - betas).cumprod(0)

    class ResMLP(nn.Module):
        def __init__(self, width=192):
            super().__init__()
            self.time = nn.Embedding(T, width)
            self.start = nn.Linear(64, width)
            self.blocks = nn.ModuleList(
                nn.Sequential(
                    nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)
                )
                for _ in range(3)
            )
            self.end = nn.Linear(width, 64)

        def forward(self, x, t):
            h = self.start(x) + self.time(t)
            for block in self.blocks:
                h = h + block(h)
            return self.end(h)

    model = ResMLP()
    ema = copy.deepcopy(model).requires_grad_(False)
    decay = 0.99 if fixed else 0.9999
    opt = torch.optim.AdamW(model.parameters(), lr=1e-3)
    watcher = watch(model, opt)

    def loss_of(net, x0):
        t, eps = torch.randint(0, T, (len(x0),)), torch.randn_like(x0)
        a = keep[t].unsqueeze(1)
        return F.mse_loss(net(a.sqrt() * x0 + (1 - a).sqrt() * eps, t), eps)

    for step in range(800):
        loss = loss_of(model, x_all[torch.randint(0, len(x_all), (128,))])
        opt.zero_grad()
        loss.backward()
        opt.step()
        with torch.no_grad():
            for slow, fast in zip(ema.parameters(), model.parameters()):
                slow.lerp_(fast, 1 - decay)
        watcher.step(loss)
        if step % 200 == 199:
            with torch.no_grad():
                watcher.log(val_loss=sum(float(loss_of(ema, x_val)) for _ in range(5)) / 5)
    with torch.no_grad():
        x = torch.randn(400, 64)
        for t in range(T - 1, -1, -1):
            eps = ema(x, torch.full((400,), t))
            x0 = ((x - (1 - keep[t]).sqrt() * eps) / keep[t].sqrt()).clamp(-1, 1)
            last = keep[t - 1] if t else torch.tensor(1.0)
            x = (betas[t] * last.sqrt() * x0 + (1 - betas[t]).sqrt() * (1 - last) * x) / (
                1 - keep[t]
            )
            if t:
                x = x + (betas[t] * (1 - last) / (1 - keep[t])).sqrt() * torch.randn_like(x)
        nearest = torch.cdist(x, x_all).min(1).values.mean()
        ema_loss = sum(float(loss_of(ema, x_val)) for _ in range(10)) / 10
    return {
        "train_loss": float(loss),
        "val_loss_of_ema": ema_loss,
        "mean_distance_of_samples_to_digits": float(nearest),
    }


# ---------------------------------------------------------------------------------------------- sound


@sound("PPO")
def r2_ppo_in_a_field(watch):
    """Clipped surrogate, GAE, three passes over each rollout; the loss does not fall by design, the return rises."""

    class Policy(nn.Module):
        def __init__(self):
            super().__init__()
            self.actor = nn.Sequential(nn.Linear(6, 64), nn.Tanh(), nn.Linear(64, 4))
            self.critic = nn.Sequential(nn.Linear(6, 64), nn.Tanh(), nn.Linear(64, 1))
            nn.init.orthogonal_(self.actor[-1].weight, 0.01)
            nn.init.zeros_(self.actor[-1].bias)

        def forward(self, obs):
            return torch.distributions.Categorical(logits=self.actor(obs)), self.critic(
                obs
            ).squeeze(-1)

    policy = Policy()
    opt = torch.optim.Adam(policy.parameters(), lr=3e-3, eps=1e-5)
    watcher = watch(policy, opt)
    env, gamma, lam = _Field(32), 0.95, 0.9
    curve = []
    for iteration in range(70):
        obs, roll = env.reset(), []
        with torch.no_grad():
            for _ in range(24):
                dist, value = policy(obs)
                action = dist.sample()
                nxt, reward, alive = env.step(action)
                roll.append(
                    (obs, action, dist.log_prob(action), value, reward, alive, env.done.clone())
                )
                obs = nxt
            next_value, advantage, advantages = policy(obs)[1], torch.zeros(32), []
            for _, _, _, value, reward, _, done in reversed(roll):
                going = (~done).float()
                delta = reward + gamma * next_value * going - value
                advantage = delta + gamma * lam * going * advantage
                advantages.insert(0, advantage)
                next_value = value
        alive = torch.cat([r[5] for r in roll])
        O, A, L, V = (torch.cat([r[k] for r in roll])[alive] for k in range(4))
        adv = torch.cat(advantages)[alive]
        target = adv + V
        adv = (adv - adv.mean()) / (adv.std() + 1e-8)
        for _ in range(3):
            for idx in torch.randperm(len(O)).chunk(2):
                dist, value = policy(O[idx])
                ratio = (dist.log_prob(A[idx]) - L[idx]).exp()
                surrogate = torch.min(ratio * adv[idx], ratio.clamp(0.8, 1.2) * adv[idx]).mean()
                loss = (
                    -surrogate + 0.5 * F.mse_loss(value, target[idx]) - 0.01 * dist.entropy().mean()
                )
                opt.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(policy.parameters(), 0.5)
                opt.step()
                watcher.step(loss)
        curve.append(float(torch.stack([r[4] for r in roll]).sum(0).mean()))
    return {"first_return": sum(curve[:5]) / 5, "last_return": sum(curve[-5:]) / 5}


@sound("attention over sets (multiple instances)")
def r2_attention_pooling_over_bags(watch):
    """Bags of 6 to 12 digits; a bag is positive if it holds a nine. Padded with zeros, masked in the attention."""
    x, y, xv, yv = _digits(flat=True)

    def bags(images, labels, n, seed):
        rng = np.random.default_rng(seed)
        nines, others = np.flatnonzero(labels == 9), np.flatnonzero(labels != 9)
        out = []
        for _ in range(n):
            size, positive = rng.integers(6, 13), rng.integers(0, 2)
            pick = rng.choice(others, size)
            if positive:
                pick[: rng.integers(1, 3)] = rng.choice(nines)
            out.append((images[rng.permutation(pick)], float(positive)))
        return out

    def collate(items):
        mask = torch.zeros(len(items), 12, dtype=torch.bool)
        block = torch.zeros(len(items), 12, 64)
        for i, (b, _) in enumerate(items):
            block[i, : len(b)], mask[i, : len(b)] = b, True
        return block, mask, torch.tensor([t for _, t in items])

    class GatedPool(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
            self.a, self.b, self.w = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 1)
            self.out = nn.Linear(32, 1)

        def forward(self, block, mask):
            h = self.embed(block)
            score = self.w(torch.tanh(self.a(h)) * torch.sigmoid(self.b(h))).squeeze(-1)
            weight = score.masked_fill(~mask, float("-inf")).softmax(1)
            return self.out((weight.unsqueeze(-1) * h).sum(1)).squeeze(-1)

    train = DataLoader(bags(x, y.numpy(), 1500, 0), batch_size=32, shuffle=True, collate_fn=collate)
    block, mask, target = collate(bags(xv, yv.numpy(), 300, 1))
    model = GatedPool()
    bce = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-4)
    watcher = watch(model, optimizer, loss_fn=bce)
    for epoch in range(12):
        for b, m, t in train:
            loss = bce(model(b, m), t)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss)
        with torch.no_grad():
            out = model(block, mask)
        acc = float(((out > 0) == (target > 0.5)).float().mean())
        watcher.log(val_loss=float(bce(out, target)), val_accuracy=acc)
    return {"train_loss": float(loss), "val_accuracy": acc}


@sound("neural ODE")
def r2_neural_ode_by_euler_steps(watch):
    """The field of a spiral is learnt by unrolling 20 Euler steps from points on true paths."""
    A = torch.tensor([[-0.1, 2.0], [-2.0, -0.1]])

    def paths(n):
        z = torch.randn(n, 2) * 1.2
        out = [z]
        for _ in range(200):
            z = z + 0.01 * (z**3) @ A.T * 0.3 / (1 + z.pow(2).sum(1, keepdim=True) * 0.3)
            out.append(z)
        return torch.stack(out[::10])  # (21, n, 2)

    class Field(nn.Module):
        def __init__(self):
            super().__init__()
            self.f = nn.Sequential(
                nn.Linear(2, 48), nn.Tanh(), nn.Linear(48, 48), nn.Tanh(), nn.Linear(48, 2)
            )

        def forward(self, z, steps, dt=0.1):
            out = [z]
            for _ in range(steps):
                z = z + dt * self.f(z)
                out.append(z)
            return torch.stack(out)

    train, test = paths(400), paths(100)
    ode = Field()
    opt = torch.optim.Adam(ode.parameters(), lr=3e-3)
    decay = torch.optim.lr_scheduler.ExponentialLR(opt, 0.995)
    watcher = watch(ode, opt, scheduler=decay)
    for it in range(600):
        idx = torch.randint(0, 400, (40,))
        horizon = 5 + it // 40  # curriculum: longer and longer
        loss = (ode(train[0, idx], horizon) - train[: horizon + 1, idx]).abs().mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        decay.step()
        watcher.step(loss)
    with torch.no_grad():
        err = (ode(test[0], 20) - test).abs().mean()
    return {"train_loss": float(loss), "test_error": float(err), "scale": float(test.abs().mean())}


@sound("masked autoencoder")
def r2_masked_autoencoder_then_probe(watch):
    """Pretraining with 9 of 16 patches hidden, loss on hidden ones only; then a linear probe with a frozen encoder."""
    x, y, xv, yv = _digits()

    def patches(images):
        return images.unfold(2, 2, 2).unfold(3, 2, 2).reshape(len(images), 16, 4)

    class MAE(nn.Module):
        def __init__(self, d=48):
            super().__init__()
            self.embed = nn.Linear(4, d)
            self.pos = nn.Parameter(torch.randn(16, d) * 0.02)
            make = lambda: nn.TransformerEncoderLayer(
                d, 4, 2 * d, 0.0, batch_first=True, norm_first=True
            )
            self.encoder = nn.Sequential(make(), make())
            self.mask_token = nn.Parameter(torch.zeros(d))
            self.decoder = make()
            self.pixels = nn.Linear(d, 4)

        def encode(self, p, keep=None):
            h = self.embed(p) + self.pos
            if keep is not None:
                h = h.gather(1, keep.unsqueeze(-1).expand(-1, -1, h.shape[-1]))
            return self.encoder(h)

        def forward(self, p):
            order = torch.rand(len(p), 16).argsort(1)
            keep, hide = order[:, :7], order[:, 7:]
            seen = self.encode(p, keep)
            full = self.mask_token.expand(len(p), 16, -1).scatter(
                1, keep.unsqueeze(-1).expand_as(seen), seen
            )
            rec = self.pixels(self.decoder(full + self.pos))
            pick = hide.unsqueeze(-1).expand(-1, -1, 4)
            return F.mse_loss(rec.gather(1, pick), p.gather(1, pick))

    mae = MAE()
    opt = torch.optim.AdamW(mae.parameters(), lr=2e-3, betas=(0.9, 0.95), weight_decay=0.05)
    steps = 320
    sched = torch.optim.lr_scheduler.LambdaLR(
        opt, lambda s: min((s + 1) / 40, 0.5 * (1 + math.cos(math.pi * s / steps)))
    )
    watcher = watch(mae, opt, scheduler=sched)
    train_p, val_p = patches(x), patches(xv)
    for step in range(steps):
        loss = mae(train_p[torch.randint(0, len(x), (64,))])
        opt.zero_grad()
        loss.backward()
        opt.step()
        sched.step()
        watcher.step(loss)
    mae.eval().requires_grad_(False)
    features, features_val = mae.encode(train_p).flatten(1), mae.encode(val_p).flatten(1)
    probe = nn.Linear(features.shape[1], 10)
    probe_opt = torch.optim.AdamW(probe.parameters(), lr=2e-3)
    probe_watcher = watch(probe, probe_opt, loss_fn=F.cross_entropy)
    for step in range(200):
        i = torch.randint(0, len(x), (128,))
        probe_loss = F.cross_entropy(probe(features[i]), y[i])
        probe_opt.zero_grad()
        probe_loss.backward()
        probe_opt.step()
        probe_watcher.step(probe_loss)
    acc = (probe(features_val).argmax(1) == yv).float().mean()
    return {"mae_loss": float(loss), "probe_accuracy": float(acc)}


@sound("noisy labels")
def r2_generalised_cross_entropy_on_noisy_labels(watch):
    """40 % of the training labels are random on purpose; the loss is robust, so the training accuracy stays low and validation is high."""
    x, y, xv, yv = _digits()
    flip = torch.rand(len(y)) < 0.4
    noisy = torch.where(flip, torch.randint(0, 10, (len(y),)), y)

    class GCE(nn.Module):
        def __init__(self, q=0.6):
            super().__init__()
            self.q = q

        def forward(self, logits, target):
            p = logits.softmax(1).gather(1, target[:, None]).clamp(min=1e-6)
            return ((1 - p**self.q) / self.q).mean()

    model = nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(24, 48, 3, padding=1),
        nn.BatchNorm2d(48),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(192, 10),
    )
    criterion = GCE()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [10, 14], 0.2)
    train_loader = DataLoader(TensorDataset(x, noisy), batch_size=64, shuffle=True)
    watcher = watch(
        model, optimizer, loss_fn=criterion, num_classes=10, train=train_loader, scheduler=scheduler
    )
    for epoch in range(16):
        model.train()
        for xb, yb in train_loader:
            loss = criterion(model(xb), yb)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(xb, yb))
        scheduler.step()
        model.eval()
        with torch.no_grad():
            out = model(xv)
        acc = float((out.argmax(1) == yv).float().mean())
        watcher.log(val_loss=float(criterion(out, yv)), val_accuracy=acc)
    return {"train_loss": float(loss), "val_accuracy": acc}


@sound("image classification")
def r2_mixup_with_label_smoothing(watch):
    """Mixup and smoothing keep the training loss high for good; validation on clean images."""
    x, y, xv, yv = _digits(seed=4)
    net = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1, bias=False),
        nn.GroupNorm(4, 32),
        nn.SiLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1, bias=False),
        nn.GroupNorm(8, 64),
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(1024, 10),
    )
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.05)
    soft_ce = nn.CrossEntropyLoss(label_smoothing=0.1)
    loader = DataLoader(TensorDataset(x, y), batch_size=50, shuffle=True)
    beta = torch.distributions.Beta(0.4, 0.4)
    watcher = watch(net, optimizer, loss_fn=soft_ce, num_classes=10)
    for epoch in range(10):
        net.train()
        for images, labels in loader:
            lam, other = float(beta.sample()), torch.randperm(len(images))
            mixed = lam * images + (1 - lam) * images[other]
            logits = net(mixed)
            loss = lam * soft_ce(logits, labels) + (1 - lam) * soft_ce(logits, labels[other])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss)
        net.eval()
        with torch.no_grad():
            out = net(xv)
        acc = float((out.argmax(1) == yv).float().mean())
        watcher.log(val_loss=float(F.cross_entropy(out, yv)), val_accuracy=acc)
    return {"train_loss": float(loss), "val_accuracy": acc}


@sound("rare events")
def r2_focal_loss_with_prior_bias(watch):
    """5 % positives, focal loss, last bias set to the prior; the loss starts small and stays small."""
    g = torch.Generator().manual_seed(11)
    X = torch.randn(6000, 10, generator=g)
    z = X[:, 0] + X[:, 1] * X[:, 2] + 0.7 * X[:, 3].abs()
    Y = (z + 0.2 * torch.randn(6000, generator=g) > 2.95).float()
    Xt, Yt, Xv, Yv = X[:4500], Y[:4500], X[4500:], Y[4500:]

    class Detector(nn.Module):
        def __init__(self, prior):
            super().__init__()
            self.hidden = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
            self.logit = nn.Linear(64, 1)
            nn.init.normal_(self.logit.weight, std=0.01)
            nn.init.constant_(self.logit.bias, math.log(prior / (1 - prior)))

        def forward(self, x):
            return self.logit(self.hidden(x)).squeeze(1)

    def focal(logit, target, gamma=2.0, alpha=0.75):
        ce = F.binary_cross_entropy_with_logits(logit, target, reduction="none")
        p_right = torch.exp(-ce)
        weight = alpha * target + (1 - alpha) * (1 - target)
        return (weight * (1 - p_right) ** gamma * ce).sum() / target.sum().clamp(min=1)

    def average_precision(score, target):
        hit = target[score.argsort(descending=True)]
        return float((hit.cumsum(0) / torch.arange(1, len(hit) + 1) * hit).sum() / hit.sum())

    model = Detector(0.05)
    opt = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = DataLoader(TensorDataset(Xt, Yt), batch_size=150, shuffle=True)
    watcher = watch(model, opt, loss_fn=focal, train=loader)
    for epoch in range(20):
        for xb, yb in loader:
            loss = focal(model(xb), yb)
            opt.zero_grad()
            loss.backward()
            opt.step()
            watcher.step(loss)
        with torch.no_grad():
            score = model(Xv)
            ap = average_precision(score, Yv)
            watcher.log(val_loss=float(focal(score, Yv)), val_average_precision=ap)
    return {
        "train_loss": float(loss),
        "val_average_precision": ap,
        "share_of_positives": float(Y.mean()),
    }


@sound("regression")
def r2_cosine_warm_restarts(watch):
    """Tabular regression with SGDR; the loss jumps up at each restart and comes back lower."""
    from sklearn.datasets import make_friedman1

    X, t = make_friedman1(3000, 10, noise=0.5, random_state=0)
    X = torch.tensor((X - X[:2400].mean(0)) / X[:2400].std(0), dtype=torch.float32)
    t = torch.tensor((t - t[:2400].mean()) / t[:2400].std(), dtype=torch.float32)[:, None]
    net = nn.Sequential(
        nn.Linear(10, 64), nn.Mish(), nn.Linear(64, 64), nn.Mish(), nn.Linear(64, 1)
    )
    opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    sched = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(opt, T_0=5, T_mult=2, eta_min=1e-4)
    huber = nn.HuberLoss()
    loader = DataLoader(
        TensorDataset(X[:2400], t[:2400]), batch_size=64, shuffle=True, drop_last=True
    )
    watcher = watch(net, opt, loss_fn=huber, scheduler=sched)
    for epoch in range(35):  # 5 + 10 + 20
        net.train()
        for b, (xb, tb) in enumerate(loader):
            loss = huber(net(xb), tb)
            opt.zero_grad()
            loss.backward()
            opt.step()
            sched.step(epoch + (b + 1) / len(loader))
            watcher.step(loss)
        net.eval()
        with torch.no_grad():
            pred = net(X[2400:])
            r2 = 1 - F.mse_loss(pred, t[2400:]) / t[2400:].var()
        watcher.log(val_loss=float(huber(pred, t[2400:])), val_r2=float(r2))
    return {"train_loss": float(loss), "val_r2": float(r2)}


@sound("semi-supervised (mean teacher)")
def r2_mean_teacher_with_few_labels(watch):
    """60 labels, 1240 images without; the consistency term is ramped up, so the whole loss may rise; the teacher is an EMA."""
    x, y, xv, yv = _digits()
    labelled = torch.cat([torch.nonzero(y == c).flatten()[:6] for c in range(10)])

    def build():
        return nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.25),
            nn.Linear(512, 64),
            nn.ReLU(),
            nn.Linear(64, 10),
        )

    def augment(images):
        return images * (1 + 0.1 * torch.randn(len(images), 1, 1, 1)) + 0.3 * torch.randn_like(
            images
        )

    student, teacher = build(), build()
    teacher.load_state_dict(student.state_dict())
    teacher.requires_grad_(False)
    opt = torch.optim.Adam(student.parameters(), lr=1e-3)
    watcher = watch(student, opt)
    total = 500
    for step in range(total):
        student.train()
        i = labelled[torch.randint(0, 60, (32,))]
        j = torch.randint(0, len(x), (64,))
        supervised = F.cross_entropy(student(augment(x[i])), y[i])
        with torch.no_grad():
            target = teacher(augment(x[j])).softmax(1)
        consistency = (student(augment(x[j])).softmax(1) - target).pow(2).sum(1).mean()
        ramp = math.exp(-5 * (1 - min(1.0, step / 200)) ** 2)
        loss = supervised + 3.0 * ramp * consistency
        opt.zero_grad()
        loss.backward()
        opt.step()
        momentum = min(0.99, 1 - 1 / (step + 2))
        with torch.no_grad():
            for t, s in zip(teacher.parameters(), student.parameters()):
                t.mul_(momentum).add_(s, alpha=1 - momentum)
        watcher.step(loss)
        if step % 100 == 99:
            teacher.eval()
            with torch.no_grad():
                acc = float((teacher(xv).argmax(1) == yv).float().mean())
            teacher.train()
            watcher.log(val_accuracy=acc)
    return {"train_loss": float(loss), "val_accuracy_of_teacher": acc}


@sound("stochastic weight averaging")
def r2_swa_with_batchnorm_update(watch):
    """AveragedModel and SWALR after two thirds of the epochs, then update_bn on the average."""
    from torch.optim.swa_utils import SWALR, AveragedModel, update_bn

    x, y, xv, yv = _digits(seed=2)
    cfg = dict(epochs=18, swa_start=12, lr=0.1, swa_lr=0.03, batch=64)

    class Block(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.a, self.na = nn.Conv2d(c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c)
            self.b, self.nb = nn.Conv2d(c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c)
            nn.init.zeros_(self.nb.weight)

        def forward(self, x):
            return F.relu(x + self.nb(self.b(F.relu(self.na(self.a(x))))))

    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        Block(16),
        nn.MaxPool2d(2),
        Block(16),
        nn.Flatten(),
        nn.Linear(256, 10),
    )
    averaged = AveragedModel(net)
    opt = torch.optim.SGD(net.parameters(), lr=cfg["lr"], momentum=0.9, weight_decay=5e-4)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(
        opt, cfg["swa_start"], eta_min=cfg["swa_lr"]
    )
    swa = SWALR(opt, swa_lr=cfg["swa_lr"], anneal_epochs=2)
    loader = DataLoader(TensorDataset(x, y), batch_size=cfg["batch"], shuffle=True)
    ce = nn.CrossEntropyLoss()
    watcher = watch(
        net,
        opt,
        loss_fn=ce,
        num_classes=10,
        train=loader,
        val=DataLoader(TensorDataset(xv, yv), batch_size=250),
    )
    for epoch in range(cfg["epochs"]):
        net.train()
        for images, labels in loader:
            loss = ce(net(images), labels)
            opt.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            opt.step()
            watcher.step(loss)
        if epoch >= cfg["swa_start"]:
            averaged.update_parameters(net)
            swa.step()
        else:
            cosine.step()
        net.eval()
        with torch.no_grad():
            out = net(xv)
        watcher.log(
            val_loss=float(ce(out, yv)), val_accuracy=float((out.argmax(1) == yv).float().mean())
        )
    update_bn(loader, averaged)
    averaged.eval()
    with torch.no_grad():
        acc = (averaged(xv).argmax(1) == yv).float().mean()
    return {"train_loss": float(loss), "val_accuracy_of_average": float(acc)}


class _SAM:
    """Sharpness-aware minimisation around a base optimizer."""

    def __init__(self, params, base, rho=0.05):
        self.params, self.base, self.rho, self.kept = list(params), base, rho, {}

    @torch.no_grad()
    def climb(self):
        norm = torch.stack([p.grad.norm() for p in self.params]).norm() + 1e-12
        for p in self.params:
            self.kept[p] = p.detach().clone()
            p.add_(p.grad, alpha=float(self.rho / norm))

    @torch.no_grad()
    def descend(self):
        for p in self.params:
            p.copy_(self.kept[p])
        self.base.step()


@sound("sharpness-aware minimisation")
def r2_sam_two_passes(watch):
    """Two forward and backward passes per update; the weights are moved and put back in between."""
    x, y, xv, yv = _digits(seed=6, flat=True)
    mlp = nn.Sequential(
        nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)
    )
    base = torch.optim.SGD(mlp.parameters(), lr=0.05, momentum=0.9)
    sam = _SAM(mlp.parameters(), base)
    watcher = watch(mlp, base, loss_fn=F.cross_entropy, num_classes=10)
    for epoch in range(15):
        for idx in torch.randperm(len(x)).split(64):
            loss = F.cross_entropy(mlp(x[idx]), y[idx])
            loss.backward()
            sam.climb()
            base.zero_grad()
            F.cross_entropy(mlp(x[idx]), y[idx]).backward()
            sam.descend()
            base.zero_grad()
            watcher.step(loss)
        with torch.no_grad():
            out = mlp(xv)
            acc = float((out.argmax(1) == yv).float().mean())
            watcher.log(val_loss=float(F.cross_entropy(out, yv)), val_accuracy=acc)
    return {"train_loss": float(loss), "val_accuracy": acc}


@sound("curve fitting")
def r2_lbfgs_full_batch_fit(watch):
    """A small network in double precision fitted to 200 points by L-BFGS with a closure and strong Wolfe search."""
    t = torch.linspace(-1, 1, 200, dtype=torch.float64)[:, None]
    target = torch.sin(6 * t) * torch.exp(-t) + 0.02 * torch.randn_like(t)
    target = (target - target.mean()) / target.std()
    net = nn.Sequential(
        nn.Linear(1, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 1)
    ).double()
    opt = torch.optim.LBFGS(
        net.parameters(), lr=1.0, max_iter=10, history_size=20, line_search_fn="strong_wolfe"
    )
    watcher = watch(net, opt)

    def closure():
        opt.zero_grad()
        ridge = 1e-6 * sum(p.pow(2).sum() for p in net.parameters())
        loss = F.mse_loss(net(t), target) + ridge
        loss.backward()
        return loss

    for step in range(80):
        loss = opt.step(closure)
        watcher.step(loss)
    with torch.no_grad():
        mse = F.mse_loss(net(t), target)
    return {"loss": float(loss), "mse": float(mse)}


@sound("recommender with two optimizers")
def r2_factor_model_sparse_and_dense_optimizers(watch):
    """Sparse embeddings with SparseAdam, biases and a small mixer with Adam; rows not in a batch get no update."""
    rng = torch.Generator().manual_seed(0)
    users, items, rank = 300, 200, 4
    P, Q = torch.randn(users, rank, generator=rng), torch.randn(items, rank, generator=rng)
    u = torch.randint(0, users, (24000,), generator=rng)
    i = torch.randint(0, items, (24000,), generator=rng)
    r = (
        (P[u] * Q[i]).sum(1) / 2
        + 0.5 * torch.randn(users, generator=rng)[u]
        + 0.2 * torch.randn(24000, generator=rng)
    )
    cut = 20000

    class Factor(nn.Module):
        def __init__(self):
            super().__init__()
            self.pu, self.qi = (
                nn.Embedding(users, 12, sparse=True),
                nn.Embedding(items, 12, sparse=True),
            )
            nn.init.normal_(self.pu.weight, std=0.3)
            nn.init.normal_(self.qi.weight, std=0.3)
            self.user_bias = nn.Parameter(torch.zeros(users))
            self.mixer = nn.Linear(12, 1)
            nn.init.ones_(self.mixer.weight)

        def forward(self, u, i):
            return self.mixer(self.pu(u) * self.qi(i)).squeeze(1) + self.user_bias[u]

    model = Factor()
    sparse = torch.optim.SparseAdam([model.pu.weight, model.qi.weight], lr=0.01)
    dense = torch.optim.Adam([model.user_bias, *model.mixer.parameters()], lr=0.01)
    loader = DataLoader(TensorDataset(u[:cut], i[:cut], r[:cut]), batch_size=250, shuffle=True)
    watcher = watch(model, [sparse, dense], loss_fn=nn.MSELoss())
    for epoch in range(8):
        for ub, ib, rb in loader:
            loss = F.mse_loss(model(ub, ib), rb)
            sparse.zero_grad(), dense.zero_grad()
            loss.backward()
            sparse.step(), dense.step()
            watcher.step(loss)
        with torch.no_grad():
            val = float(F.mse_loss(model(u[cut:], i[cut:]), r[cut:]))
        watcher.log(val_loss=val)
    return {"train_loss": float(loss), "val_mse": val, "variance_of_ratings": float(r.var())}


@sound("WGAN-GP")
def r2_wgan_with_gradient_penalty(watch):
    """Ring of eight Gaussians; three critic steps for one of the generator; losses wander and may be negative."""
    angle = torch.arange(8) * math.pi / 4
    centres = torch.stack([angle.cos(), angle.sin()], 1) * 1.5

    def real(n):
        return centres[torch.randint(0, 8, (n,))] + 0.08 * torch.randn(n, 2)

    G = nn.Sequential(nn.Linear(4, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 2))
    D = nn.Sequential(
        nn.Linear(2, 96), nn.LeakyReLU(0.2), nn.Linear(96, 96), nn.LeakyReLU(0.2), nn.Linear(96, 1)
    )
    g_opt = torch.optim.Adam(G.parameters(), lr=1e-3, betas=(0.5, 0.9))
    d_opt = torch.optim.Adam(D.parameters(), lr=1e-3, betas=(0.5, 0.9))
    watch_g, watch_d = watch(G, g_opt), watch(D, d_opt)

    def penalty(a, b):
        mix = torch.lerp(a, b, torch.rand(len(a), 1)).requires_grad_(True)
        (g,) = torch.autograd.grad(D(mix).sum(), mix, create_graph=True)
        return (g.norm(dim=1) - 1).pow(2).mean()

    for step in range(600):
        for _ in range(3):
            x, fake = real(128), G(torch.randn(128, 4)).detach()
            d_loss = D(fake).mean() - D(x).mean() + 1.0 * penalty(x, fake)
            d_opt.zero_grad()
            d_loss.backward()
            d_opt.step()
            watch_d.step(d_loss)
        g_loss = -D(G(torch.randn(128, 4))).mean()
        g_opt.zero_grad()
        g_loss.backward()
        g_opt.step()
        watch_g.step(g_loss)
    with torch.no_grad():
        a, b = G(torch.randn(1000, 4)), real(1000)
        energy = 2 * torch.cdist(a, b).mean() - torch.cdist(a, a).mean() - torch.cdist(b, b).mean()
        modes = torch.cdist(a, centres).argmin(1).bincount(minlength=8)
    return {"energy_distance": float(energy), "smallest_share_of_a_mode": float(modes.min() / 1000)}


@sound("meta-learning (Reptile)")
def r2_reptile_on_sines(watch):
    """Outer step: the difference of weights is put into .grad by hand and a plain optimizer steps; no loss.backward() on the meta-model."""
    meta = nn.Sequential(
        nn.Linear(1, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1)
    )
    outer = torch.optim.SGD(meta.parameters(), lr=0.5)
    watcher = watch(meta, outer)

    def inner(model, x, y, steps, lr=0.03):
        opt = torch.optim.SGD(model.parameters(), lr=lr)
        for _ in range(steps):
            loss = F.mse_loss(model(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
        return loss.detach()

    rounds = 300
    for it in range(rounds):
        outer.zero_grad()
        losses = []
        for x, y in zip(*_sine_tasks(3, 20)):
            learner = copy.deepcopy(meta)
            losses.append(inner(learner, x, y, 6))
            for p, q in zip(meta.parameters(), learner.parameters()):
                delta = (p.detach() - q.detach()) / 3
                p.grad = delta if p.grad is None else p.grad + delta
        for group in outer.param_groups:
            group["lr"] = 0.5 * (1 - it / rounds) + 0.02
        outer.step()
        watcher.step(torch.stack(losses).mean())
    scratch, ours = [], []
    for x, y in zip(*_sine_tasks(40, 60)):
        for store, start in (
            (ours, meta),
            (
                scratch,
                nn.Sequential(
                    nn.Linear(1, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1)
                ),
            ),
        ):
            learner = copy.deepcopy(start)
            inner(learner, x[:10], y[:10], 6)
            with torch.no_grad():
                store.append(float(F.mse_loss(learner(x[10:]), y[10:])))
    return {"mse_after_6_steps": sum(ours) / 40, "from_scratch": sum(scratch) / 40}


@sound("CTC recognition")
def r2_ctc_blank_last_and_downsampling(watch):
    """Blank is the last output; the conv halves the width and the lengths with it; long first plateau of all blanks."""
    glyphs = np.random.default_rng(3).normal(size=(8, 12))
    strips, texts = _render_strings(900, 5, glyphs)

    def pack(lo, hi):
        widths = torch.tensor([s.shape[1] for s in strips[lo:hi]])
        images = torch.zeros(hi - lo, 12, 36)
        for k, s in enumerate(strips[lo:hi]):
            images[k, :, : s.shape[1]] = torch.tensor(s)
        padded = torch.zeros(hi - lo, 5, dtype=torch.long)
        for k, t in enumerate(texts[lo:hi]):
            padded[k, : len(t)] = torch.tensor(t)
        return images, (widths + 1) // 2, padded, torch.tensor([len(t) for t in texts[lo:hi]])

    net = nn.Sequential(
        nn.Conv1d(12, 48, 5, padding=2),
        nn.BatchNorm1d(48),
        nn.ReLU(),
        nn.Conv1d(48, 64, 3, stride=2, padding=1),
        nn.BatchNorm1d(64),
        nn.ReLU(),
        nn.Conv1d(64, 64, 3, padding=1),
        nn.BatchNorm1d(64),
        nn.ReLU(),
        nn.Conv1d(64, 9, 1),
    )
    opt = torch.optim.AdamW(net.parameters(), lr=3e-3)
    loader = DataLoader(TensorDataset(*pack(0, 750)), batch_size=30, shuffle=True)
    images_v, widths_v, _, _ = pack(750, 900)
    watcher = watch(net, opt)
    for epoch in range(16):
        net.train()
        for images, widths, target, lengths in loader:
            log_p = F.log_softmax(net(images), dim=1).permute(2, 0, 1)
            loss = F.ctc_loss(log_p, target, widths, lengths, blank=8, zero_infinity=True)
            opt.zero_grad()
            loss.backward()
            opt.step()
            watcher.step(loss)
    net.eval()
    with torch.no_grad():
        best = net(images_v).argmax(1)
    right = sum(
        [s for s in torch.unique_consecutive(row[:w]).tolist() if s != 8] == t.tolist()
        for row, w, t in zip(best, widths_v, texts[750:])
    )
    return {"train_loss": float(loss), "val_strings_right": right / 150}


@sound("super-resolution")
def r2_super_resolution_zero_initialised_residual(watch):
    """Twice the size by pixel shuffle on top of bicubic; last layer starts at zero; bf16 autocast and L1 loss."""

    class Upscaler(nn.Module):
        def __init__(self, c=32):
            super().__init__()
            self.first = nn.Conv2d(1, c, 3, padding=1)
            self.trunk = nn.ModuleList(nn.Conv2d(c, c, 3, padding=1) for _ in range(2))
            self.last = nn.Conv2d(c, 4, 3, padding=1)
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(self.last.bias)

        def forward(self, small):
            h = self.first(small)
            for conv in self.trunk:
                h = h + F.gelu(conv(h))
            return F.interpolate(
                small, scale_factor=2, mode="bicubic", align_corners=False
            ) + F.pixel_shuffle(self.last(h), 2)

    sharp = lambda ds: torch.tanh(4 * ds.images)
    high, high_v = sharp(_BlobImages(900, 4)), sharp(_BlobImages(150, 5))
    low, low_v = F.avg_pool2d(high, 2), F.avg_pool2d(high_v, 2)
    net = Upscaler()
    opt = torch.optim.Adam(net.parameters(), lr=1e-3)
    watcher = watch(net, opt, loss_fn=nn.L1Loss())
    loader = DataLoader(TensorDataset(low, high), batch_size=30, shuffle=True)
    psnr = lambda a, b: float(10 * torch.log10(4 / F.mse_loss(a, b)))
    for epoch in range(10):
        for lo, hi in loader:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                out = net(lo)
            loss = F.l1_loss(out.float(), hi)
            opt.zero_grad()
            loss.backward()
            opt.step()
            watcher.step(loss, batch=(lo, hi))
        with torch.no_grad():
            up = net(low_v)
        watcher.log(val_loss=float(F.l1_loss(up, high_v)))
    bicubic = F.interpolate(low_v, scale_factor=2, mode="bicubic", align_corners=False)
    return {
        "train_loss": float(loss),
        "val_psnr_db": psnr(up, high_v),
        "bicubic_psnr_db": psnr(bicubic, high_v),
    }


@sound("quantile regression")
def r2_quantile_heads_on_heteroscedastic_data(watch):
    """Three quantiles at once by the pinball loss, made not to cross by softplus steps; gradient accumulation over 4 small batches."""
    n = 4000
    x = torch.rand(n, 1) * 4 - 2
    y = torch.sin(2 * x) + (0.1 + 0.3 * (x + 2) / 4) * torch.randn(n, 1)
    taus = torch.tensor([0.1, 0.5, 0.9])

    class Quantiles(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(
                nn.Linear(1, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3)
            )

        def forward(self, x):
            base, down, up = self.net(x).split(1, dim=1)
            return torch.cat([base - F.softplus(down), base, base + F.softplus(up)], 1)

    def pinball(pred, target):
        e = target - pred
        return torch.maximum(taus * e, (taus - 1) * e).mean()

    model = Quantiles()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=2)
    loader = DataLoader(TensorDataset(x[:3200], y[:3200]), batch_size=32, shuffle=True)
    watcher = watch(model, optimizer, loss_fn=pinball, task="regression")
    accumulate = 4
    for epoch in range(24):
        for k, (xb, yb) in enumerate(loader):
            loss = pinball(model(xb), yb)
            (loss / accumulate).backward()
            if (k + 1) % accumulate == 0:
                optimizer.step()
                optimizer.zero_grad()
                watcher.step(loss)
        with torch.no_grad():
            q = model(x[3200:])
            val = float(pinball(q, y[3200:]))
            inside = float(((y[3200:] > q[:, :1]) & (y[3200:] < q[:, 2:])).float().mean())
        plateau.step(val)
        watcher.log(val_loss=val, val_coverage=inside)
    return {"train_loss": float(loss), "val_pinball": val, "val_coverage_of_80_percent": inside}
