"""Round 6: ordinary mistakes out of public reports (forums, issues, question sites) in many kinds of training code, and sound programs beside them."""

import copy
import math
import random
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, Dataset, TensorDataset

from benchmarks.first_sight.programs import faulty, sound

# ---------------------------------------------------------------- faulty programs


@faulty(
    "language model (fine-tuning style, dict batches)",
    fault="the pad token is the end token, and the collator sets every pad label to -100: the end of the text is never a target, so the model never learns to stop",
    source="https://github.com/huggingface/trl/issues/976 and https://github.com/mlabonne/llm-course/issues/33",
)
def r6_causal_lm_pad_is_eos_end_never_learned(watch, fixed):
    """A tiny GPT on 'count k numbers up from x, then stop'. The loss looks well; generation never stops."""
    bos, eos = 20, 21
    pad = 22 if fixed else eos

    class CountingText(Dataset):
        def __init__(self, n, seed):
            r = random.Random(seed)
            self.rows = []
            for _ in range(n):
                k, x = r.randint(3, 9), r.randint(0, 9)
                self.rows.append([bos, 10 + k, *[(x + i) % 10 for i in range(k)], eos])

        def __len__(self):
            return len(self.rows)

        def __getitem__(self, i):
            return {"input_ids": self.rows[i]}

    def collate(features):
        longest = max(len(f["input_ids"]) for f in features)
        ids = torch.tensor(
            [f["input_ids"] + [pad] * (longest - len(f["input_ids"])) for f in features]
        )
        mask = torch.tensor(
            [[1] * len(f["input_ids"]) + [0] * (longest - len(f["input_ids"])) for f in features]
        )
        labels = ids.clone()
        labels[labels == pad] = -100
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    class TinyGPT(nn.Module):
        def __init__(self, vocab=23, d=48, layers=2):
            super().__init__()
            self.wte, self.wpe = nn.Embedding(vocab, d), nn.Embedding(24, d)
            self.h = nn.ModuleList(
                [
                    nn.TransformerEncoderLayer(
                        d, 4, 4 * d, dropout=0.0, batch_first=True, norm_first=True
                    )
                    for _ in range(layers)
                ]
            )
            self.ln_f, self.lm_head = nn.LayerNorm(d), nn.Linear(d, vocab, bias=False)

        def forward(self, input_ids, attention_mask=None, labels=None):
            t = input_ids.shape[1]
            x = self.wte(input_ids) + self.wpe(torch.arange(t))
            causal = torch.triu(torch.ones(t, t, dtype=torch.bool), 1)
            padding = None if attention_mask is None else attention_mask == 0
            for block in self.h:
                x = block(x, src_mask=causal, src_key_padding_mask=padding)
            logits = self.lm_head(self.ln_f(x))
            out = {"logits": logits}
            if labels is not None:
                out["loss"] = F.cross_entropy(
                    logits[:, :-1].reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1)
                )
            return out

    train = DataLoader(CountingText(1600, 0), batch_size=32, shuffle=True, collate_fn=collate)
    val = DataLoader(CountingText(320, 1), batch_size=64, collate_fn=collate)
    model = TinyGPT()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    watcher = watch(model, optimizer, train=train, val=val)
    for _epoch in range(6):
        model.train()
        for batch in train:
            loss = model(**batch)["loss"]
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            watcher.step(loss, batch=batch)
        model.eval()
        with torch.no_grad():
            val_loss = sum(model(**b)["loss"].item() for b in val) / len(val)
        watcher.log(val_loss=val_loss)
    stopped_right = 0
    with torch.no_grad():
        for k in range(3, 10):
            for x in range(10):
                ids = torch.tensor([[bos, 10 + k, x]])
                while ids.shape[1] < 20 and ids[0, -1] != eos:
                    ids = torch.cat([ids, model(ids)["logits"][:, -1].argmax(-1, keepdim=True)], 1)
                stopped_right += int(ids.shape[1] == k + 3 and ids[0, -1].item() == eos)
    return {
        "train_loss": loss.item(),
        "val_loss": val_loss,
        "stops_at_the_right_place": stopped_right / 70,
    }


@faulty(
    "LoRA fine-tuning",
    fault="the frozen blocks are run under reentrant gradient checkpointing with an input that needs no gradient, so the LoRA weights get none and stay as they were; only the head trains",
    source="https://github.com/cloneofsimo/lora/issues/26, https://github.com/microsoft/LoRA/issues/120 and https://github.com/huggingface/transformers/issues/26221",
)
def r6_lora_gradient_checkpoint_cuts_the_graph(watch, fixed):
    """A patch transformer learnt on digits 0-9 is adapted by LoRA to mirrored and turned digits."""

    class LoRALinear(nn.Module):
        def __init__(self, base, r=8, alpha=16):
            super().__init__()
            self.base, self.scale = base, alpha / r
            self.lora_A = nn.Parameter(
                torch.randn(r, base.in_features) / math.sqrt(base.in_features)
            )
            self.lora_B = nn.Parameter(torch.zeros(base.out_features, r))

        def forward(self, x):
            return self.base(x) + (x @ self.lora_A.T @ self.lora_B.T) * self.scale

    class Block(nn.Module):
        def __init__(self, d):
            super().__init__()
            self.n1, self.n2 = nn.LayerNorm(d), nn.LayerNorm(d)
            self.qkv, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
            self.up, self.down = nn.Linear(d, 2 * d), nn.Linear(2 * d, d)

        def forward(self, x):
            q, k, v = self.qkv(self.n1(x)).chunk(3, -1)
            x = x + self.proj(F.scaled_dot_product_attention(q, k, v))
            return x + self.down(F.gelu(self.up(self.n2(x))))

    class PatchNet(nn.Module):
        def __init__(self, d=32):
            super().__init__()
            self.embed, self.pos = nn.Linear(8, d), nn.Parameter(torch.randn(8, d) * 0.1)
            self.blocks = nn.ModuleList([Block(d), Block(d)])
            self.head = nn.Linear(d, 10)
            self.gradient_checkpointing = False

        def forward(self, x):
            x = self.embed(x) + self.pos
            for block in self.blocks:
                if self.gradient_checkpointing and self.training:
                    x = checkpoint(block, x, use_reentrant=not fixed)
                else:
                    x = block(x)
            return self.head(x.mean(1))

    digits = load_digits()
    mixed = np.random.default_rng(0).permutation(len(digits.target))
    images = torch.tensor(digits.images[mixed], dtype=torch.float32) / 16 - 0.3
    y = torch.tensor(digits.target[mixed])
    model = PatchNet()
    pre = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(8):  # the "pretrained" checkpoint
        for idx in torch.randperm(800).split(32):
            loss = F.cross_entropy(model(images[idx]), y[idx])
            pre.zero_grad()
            loss.backward()
            pre.step()

    for p in model.parameters():
        p.requires_grad_(False)
    for block in model.blocks:
        for name in ("qkv", "proj", "up", "down"):
            setattr(block, name, LoRALinear(getattr(block, name)))
    model.head = nn.Linear(32, 10)
    model.gradient_checkpointing = True
    turned = images.transpose(1, 2).flip(1)
    train = DataLoader(TensorDataset(turned[700:1500], y[700:1500]), batch_size=32, shuffle=True)
    val_x, val_y = turned[1500:], y[1500:]
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=3e-3, weight_decay=0.0
    )
    loss_fn = nn.CrossEntropyLoss()
    watcher = watch(model, optimizer, loss_fn=loss_fn, train=train)
    for _epoch in range(14):
        model.train()
        for x, t in train:
            optimizer.zero_grad()
            loss = loss_fn(model(x), t)
            loss.backward()
            optimizer.step()
            watcher.step(loss)
        model.eval()
        with torch.no_grad():
            out = model(val_x)
            acc = (out.argmax(1) == val_y).float().mean().item()
            watcher.log(val_loss=loss_fn(out, val_y).item(), val_accuracy=acc)
    moved = sum(b.qkv.lora_B.norm().item() for b in model.blocks)
    return {"train_loss": loss.item(), "val_accuracy": acc, "lora_B_norm": moved}


@faulty(
    "segmentation",
    fault="the last layer ends in a ReLU but the loss is BCEWithLogitsLoss: a logit cannot be negative, so no pixel can be called background (p is never under 0.5); the loss stays near 0.69 on the background",
    source="http://www.dtcms.com/a/394596.html (UCTransNet, BCE stuck at 0.693)",
)
def r6_unet_relu_on_the_logits(watch, fixed):
    """A small U-Net finds bright blobs in noise."""

    def scenes(n, seed):
        g = torch.Generator().manual_seed(seed)
        yy, xx = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
        mask = torch.zeros(n, 1, 16, 16)
        for _ in range(2):
            c = torch.rand(n, 2, generator=g) * 12 + 2
            r = torch.rand(n, generator=g) * 2 + 1.5
            inside = (yy - c[:, 0, None, None]) ** 2 + (xx - c[:, 1, None, None]) ** 2 < r[
                :, None, None
            ] ** 2
            mask = torch.maximum(mask, inside.float().unsqueeze(1))
        return mask * 1.2 - 0.3 + 0.5 * torch.randn(n, 1, 16, 16, generator=g), mask

    def conv_block(i, o):
        return nn.Sequential(
            nn.Conv2d(i, o, 3, padding=1),
            nn.BatchNorm2d(o),
            nn.ReLU(),
            nn.Conv2d(o, o, 3, padding=1),
            nn.BatchNorm2d(o),
            nn.ReLU(),
        )

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.d1, self.d2 = conv_block(1, 8), conv_block(8, 16)
            self.up = nn.ConvTranspose2d(16, 8, 2, 2)
            self.u1 = conv_block(16, 8)
            self.out = nn.Conv2d(8, 1, 1)

        def forward(self, x):
            a = self.d1(x)
            b = self.up(self.d2(F.max_pool2d(a, 2)))
            z = self.out(self.u1(torch.cat([a, b], 1)))
            return z if fixed else F.relu(z)

    train = DataLoader(TensorDataset(*scenes(512, 0)), batch_size=16, shuffle=True)
    val_x, val_m = scenes(128, 1)
    net = UNet()
    criterion = nn.BCEWithLogitsLoss()
    opt = torch.optim.Adam(net.parameters(), lr=2e-3)
    watcher = watch(net, opt, loss_fn=criterion, train=train, val=[(val_x, val_m)])
    for _epoch in range(6):
        net.train()
        for x, m in train:
            loss = criterion(net(x), m)
            opt.zero_grad()
            loss.backward()
            opt.step()
            watcher.step(loss, batch=(x, m))
        net.eval()
        with torch.no_grad():
            z = net(val_x)
            val_loss = criterion(z, val_m).item()
            p = (z.sigmoid() > 0.5).float()
            dice = (2 * (p * val_m).sum() / (p.sum() + val_m.sum()).clamp_min(1)).item()
        watcher.log(val_loss=val_loss)
    return {"train_loss": loss.item(), "val_loss": val_loss, "val_dice": dice}


@faulty(
    "image classifier, mixed precision",
    fault="gradients are clipped to norm 1 while still multiplied by the GradScaler's 65536 (no scaler.unscale_ before the clipping), so after unscaling a step is 65536 times too small",
    source="https://github.com/milesial/Pytorch-UNet/issues/468, https://github.com/victorchall/EveryDream2trainer/pull/175",
)
def r6_amp_gradients_clipped_before_unscale(watch, fixed):
    """SGD with momentum on digits: nothing learns."""
    cfg = dict(lr=0.05, momentum=0.9, epochs=6, batch=32, max_norm=1.0)
    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
    y = torch.tensor(digits.target)
    order = torch.randperm(len(y))
    tr, va = order[:1400], order[1400:]
    train = DataLoader(
        TensorDataset(x[tr], y[tr]), batch_size=cfg["batch"], shuffle=True, drop_last=True
    )
    val = DataLoader(TensorDataset(x[va], y[va]), batch_size=200)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=cfg["lr"], momentum=cfg["momentum"])
    scaler = torch.amp.GradScaler("cpu")
    loss_fn = nn.CrossEntropyLoss()
    watcher = watch(model, optimizer, loss_fn=loss_fn, num_classes=10, train=train, val=val)
    for _epoch in range(cfg["epochs"]):
        model.train()
        for xb, yb in train:
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = loss_fn(model(xb), yb)
            scaler.scale(loss).backward()
            if fixed:
                scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), cfg["max_norm"])
            scaler.step(optimizer)
            scaler.update()
            watcher.step(loss)
        model.eval()
        right = total = 0.0
        with torch.no_grad():
            for xb, yb in val:
                out = model(xb)
                total += loss_fn(out, yb).item() * len(yb)
                right += (out.argmax(1) == yb).sum().item()
        watcher.log(val_loss=total / len(va), val_accuracy=right / len(va))
    return {"train_loss": loss.item(), "val_loss": total / len(va), "val_accuracy": right / len(va)}


@faulty(
    "distillation",
    fault="kl_div is given the student's softmax instead of its log_softmax: the 'divergence' is negative and does not match the teacher's soft targets",
    source="https://runebook.dev/zh/docs/pytorch/generated/torch.nn.kldivloss/torch.nn.KLDivLoss (softmax passed as input to KLDivLoss)",
)
def r6_distillation_softmax_into_kl_div(watch, fixed):
    """A wide teacher, a narrow student, temperature 3. Harm: the student's distribution is far from the teacher's."""

    class DistillationLoss(nn.Module):
        def __init__(self, T=3.0, alpha=0.9):
            super().__init__()
            self.T, self.alpha = T, alpha

        def forward(self, student, teacher, labels):
            teacher_p = F.softmax(teacher / self.T, dim=1)
            s = (
                F.log_softmax(student / self.T, dim=1)
                if fixed
                else F.softmax(student / self.T, dim=1)
            )
            soft = F.kl_div(s, teacher_p, reduction="batchmean") * self.T**2
            return self.alpha * soft + (1 - self.alpha) * F.cross_entropy(student, labels)

    d = load_digits()
    mixed = np.random.default_rng(0).permutation(len(d.target))
    X = torch.tensor(d.data[mixed] / 16.0 - 0.3, dtype=torch.float32)
    Y = torch.tensor(d.target[mixed])
    loader = DataLoader(TensorDataset(X[:1300], Y[:1300]), batch_size=32, shuffle=True)
    teacher = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Dropout(0.3), nn.Linear(256, 10))
    t_opt = torch.optim.Adam(teacher.parameters(), 2e-3)
    for _ in range(6):
        for x, y in loader:
            t_opt.zero_grad()
            F.cross_entropy(teacher(x), y, label_smoothing=0.1).backward()
            t_opt.step()
    teacher.eval().requires_grad_(False)

    student = nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))
    opt = torch.optim.Adam(student.parameters(), 2e-3)
    criterion = DistillationLoss()
    watcher = watch(student, opt, train=loader)
    for _epoch in range(14):
        student.train()
        for x, y in loader:
            with torch.no_grad():
                t = teacher(x)
            loss = criterion(student(x), t, y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            watcher.step(loss)
        student.eval()
        with torch.no_grad():
            out, ref = student(X[1300:]), teacher(X[1300:])
            ce = F.cross_entropy(out, Y[1300:]).item()
            acc = (out.argmax(1) == Y[1300:]).float().mean().item()
            kl = F.kl_div(
                (out / 3).log_softmax(1), (ref / 3).softmax(1), reduction="batchmean"
            ).item()
        watcher.log(val_loss=ce, val_accuracy=acc)
    return {
        "train_loss": loss.item(),
        "val_loss": ce,
        "val_accuracy": acc,
        "true_kl_to_teacher": kl,
    }


@faulty(
    "sequence tagging (CNN + LSTM)",
    fault="the LSTM was switched to batch_first=True but still gets (time, batch, features): it runs along the batch and mixes the samples",
    source="https://discuss.pytorch.org/t/lstm-change-batch-first-true-loss-does-not-decrease/62364",
)
def r6_crnn_batch_first_but_time_first_input(watch, fixed):
    """Strips of six digits; for each place: first / larger than the one before / not larger."""

    class CRNN(nn.Module):
        def __init__(self, hidden=48):
            super().__init__()
            self.cnn = nn.Sequential(
                nn.Conv2d(1, 16, 3, padding=1),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Conv2d(16, 32, (4, 4), stride=(4, 4)),
                nn.ReLU(),
            )
            self.rnn = nn.LSTM(32, hidden, batch_first=not fixed)
            self.fc = nn.Linear(hidden, 3)

        def forward(self, strips):
            f = self.cnn(strips).squeeze(2)  # (B, C, T)
            f = f.permute(2, 0, 1)  # (T, B, C)
            out, _ = self.rnn(f)
            return self.fc(out)  # (T, B, classes)

    digits = load_digits()
    mixed = np.random.default_rng(0).permutation(len(digits.target))
    pics, lab = (
        torch.tensor(digits.images[mixed], dtype=torch.float32) / 16,
        torch.tensor(digits.target[mixed]),
    )

    def strips(lo, hi, n, seed):
        g = torch.Generator().manual_seed(seed)
        pick = torch.randint(lo, hi, (n, 6), generator=g)
        x = pics[pick].permute(0, 2, 1, 3).reshape(n, 1, 8, 48) - 0.3
        d = lab[pick]
        y = torch.zeros(n, 6, dtype=torch.long)
        y[:, 1:] = torch.where(d[:, 1:] > d[:, :-1], 1, 2)
        return x, y

    train_loader = DataLoader(TensorDataset(*strips(0, 1400, 2400, 0)), batch_size=32, shuffle=True)
    vx, vy = strips(1400, 1797, 300, 1)
    model = CRNN()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    watcher = watch(model, optimizer, train=train_loader)
    for epoch in range(8):
        model.train()
        running = 0.0
        for x, y in train_loader:
            logits = model(x).permute(1, 2, 0)  # (B, classes, T)
            loss = criterion(logits, y)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            watcher.step(loss, batch=(x, y))
            running += loss.item()
        model.eval()
        with torch.no_grad():
            out = model(vx).permute(1, 2, 0)
            acc = (out.argmax(1) == vy)[:, 1:].float().mean().item()
            watcher.log(val_loss=criterion(out, vy).item(), val_accuracy=acc)
    return {"train_loss": running / len(train_loader), "val_accuracy": acc}


@faulty(
    "graph network",
    fault="F.dropout is called without training=self.training, so half of the features are also dropped in evaluation",
    source="https://e-com-net.com/article/1601294049287897088.htm (F.dropout needs self.training; course work with graph networks)",
)
def r6_gcn_functional_dropout_also_in_eval(watch, fixed):
    """Node classification on a block graph; the validation is noisy and too low although eval() is called."""
    g = torch.Generator().manual_seed(3)
    n, k = 600, 6
    y = torch.arange(n) % k
    same = (y[:, None] == y[None]).float()
    a = (torch.rand(n, n, generator=g) < 0.025 * same + 0.004 * (1 - same)).float().triu(1)
    a = a + a.T + torch.eye(n)
    dinv = a.sum(1).rsqrt()
    a_hat = dinv[:, None] * a * dinv[None]
    centers = torch.randn(k, 24, generator=g)
    x = centers[y] * 0.5 + torch.randn(n, 24, generator=g)
    perm = torch.randperm(n, generator=g)
    train_idx, val_idx = perm[:200], perm[200:]

    class GCN(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin1, self.lin2 = nn.Linear(24, 32), nn.Linear(32, k)

        def _drop(self, h):
            return F.dropout(h, 0.6, training=self.training) if fixed else F.dropout(h, 0.6)

        def forward(self, x, adj):
            h = F.relu(adj @ self.lin1(self._drop(x)))
            return adj @ self.lin2(self._drop(h))

    model = GCN()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    watcher = watch(model, optimizer, num_classes=k)
    accs = []
    for step in range(240):
        model.train()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x, a_hat)[train_idx], y[train_idx])
        loss.backward()
        optimizer.step()
        watcher.step(loss)
        if step % 10 == 9:
            model.eval()
            with torch.no_grad():
                out = model(x, a_hat)[val_idx]
                accs.append((out.argmax(1) == y[val_idx]).float().mean().item())
                watcher.log(val_loss=F.cross_entropy(out, y[val_idx]).item(), val_accuracy=accs[-1])
    with torch.no_grad():
        differ = (model(x, a_hat) - model(x, a_hat)).abs().mean().item()
    return {
        "train_loss": loss.item(),
        "val_accuracy": sum(accs[-5:]) / 5,
        "two_evaluations_differ_by": differ,
    }


@faulty(
    "RL (DQN)",
    fault="the target takes max Q of the states instead of the next states, so no value ever travels from one state to another",
    source="https://github.com/google-research/recsim/issues/26",
)
def r6_dqn_target_from_states_not_next_states(watch, fixed):
    """A 6x6 grid with a goal in the corner, 16 grids in parallel, replay memory, target network."""
    size, gamma = 6, 0.95
    moves = torch.tensor([[1, 0], [-1, 0], [0, 1], [0, -1]])

    def encode(pos):
        return torch.cat([F.one_hot(pos[:, 0], size), F.one_hot(pos[:, 1], size)], 1).float()

    def env_step(pos, act):
        nxt = (pos + moves[act]).clamp(0, size - 1)
        done = (nxt == size - 1).all(1)
        return nxt, torch.where(done, 1.0, -0.02), done.float()

    class Memory:
        def __init__(self, cap=4000):
            self.cap, self.rows = cap, []

        def push(self, *cols):
            self.rows.extend(zip(*cols))
            self.rows = self.rows[-self.cap :]

        def sample(self, k):
            return [
                torch.stack(c)
                for c in zip(*[self.rows[i] for i in torch.randint(len(self.rows), (k,)).tolist()])
            ]

    q = nn.Sequential(nn.Linear(2 * size, 64), nn.ReLU(), nn.Linear(64, 4))
    target_q = copy.deepcopy(q).requires_grad_(False)
    optimizer = torch.optim.Adam(q.parameters(), lr=2e-3)
    watcher = watch(q, optimizer)
    memory, pos, age = Memory(), torch.randint(0, size - 1, (16, 2)), torch.zeros(16)
    for step in range(700):
        eps = max(0.1, 1 - step / 350)
        with torch.no_grad():
            act = torch.where(
                torch.rand(16) < eps, torch.randint(0, 4, (16,)), q(encode(pos)).argmax(1)
            )
        nxt, r, done = env_step(pos, act)
        memory.push(encode(pos), act, r, encode(nxt), done)
        age += 1
        over = (done > 0) | (age > 30)
        pos = torch.where(over[:, None], torch.randint(0, size - 1, (16, 2)), nxt)
        age = torch.where(over, 0.0, age)
        if step < 20:
            continue
        states, actions, rewards, next_states, dones = memory.sample(64)
        q_sa = q(states).gather(1, actions[:, None]).squeeze(1)
        with torch.no_grad():
            best = target_q(next_states if fixed else states).max(1).values
            target = rewards + gamma * (1 - dones) * best
        loss = F.smooth_l1_loss(q_sa, target)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(q.parameters(), 10.0)
        optimizer.step()
        watcher.step(loss)
        if step % 50 == 0:
            target_q.load_state_dict(q.state_dict())
    pos = torch.cartesian_prod(torch.arange(size - 1), torch.arange(size - 1))
    reached = torch.zeros(len(pos))
    with torch.no_grad():
        for _ in range(12):
            pos, _, done = env_step(pos, q(encode(pos)).argmax(1))
            reached = torch.maximum(reached, done)
            pos = torch.where(reached[:, None] > 0, torch.tensor([[size - 1, size - 1]]), pos)
    return {"train_loss": loss.item(), "greedy_success": reached.mean().item()}


@faulty(
    "RL (policy gradient)",
    fault="the minus sign is missing: the optimizer descends on log-probability times return and so makes good actions rarer",
    source="https://datascience.stackexchange.com/questions/57114/understanding-reinforce-loss",
)
def r6_reinforce_without_the_minus_sign(watch, fixed):
    """Catch: a ball falls six rows, the paddle moves left, stays or moves right."""
    width, height, envs = 7, 6, 48

    class Policy(nn.Module):
        def __init__(self):
            super().__init__()
            self.affine1, self.affine2 = nn.Linear(2 * width + 1, 64), nn.Linear(64, 3)

        def forward(self, state):
            return torch.distributions.Categorical(
                logits=self.affine2(torch.tanh(self.affine1(state)))
            )

    def play(policy):
        ball, paddle = torch.randint(0, width, (envs,)), torch.randint(0, width, (envs,))
        log_probs, rewards = [], []
        for t in range(height):
            s = torch.cat(
                [
                    F.one_hot(ball, width),
                    F.one_hot(paddle, width),
                    torch.full((envs, 1), t / height),
                ],
                1,
            ).float()
            m = policy(s)
            action = m.sample()
            paddle = (paddle + action - 1).clamp(0, width - 1)
            log_probs.append(m.log_prob(action))
            rewards.append((paddle == ball).float() if t == height - 1 else torch.zeros(envs))
        return torch.stack(log_probs), torch.stack(rewards)

    policy = Policy()
    optimizer = torch.optim.Adam(policy.parameters(), lr=5e-3)
    watcher = watch(policy, optimizer)
    history = []
    for _episode in range(450):
        log_probs, rewards = play(policy)
        returns, R = [], torch.zeros(envs)
        for r in reversed(rewards):
            R = r + 0.97 * R
            returns.insert(0, R)
        returns = torch.stack(returns)
        advantage = (returns - returns.mean(1, keepdim=True)) / (returns.std() + 1e-6)
        loss = -(log_probs * advantage).mean() if fixed else (log_probs * advantage).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(rewards.sum(0).mean().item())
        watcher.step(loss)
        if _episode % 20 == 19:
            watcher.log(mean_return=sum(history[-20:]) / 20)
    return {"first_returns": sum(history[:10]) / 10, "last_returns": sum(history[-20:]) / 20}


@faulty(
    "text classifier, gradient accumulation",
    fault="zero_grad is called before every backward, so of eight accumulated micro-batches only the last one counts (and its gradient is divided by eight)",
    source="https://github.com/tientrandinh/Revisiting-Reverse-Distillation/issues/12, https://github.com/ZiqiaoPeng/DualTalk/issues/9",
)
def r6_accumulation_zero_grad_at_every_micro_batch(watch, fixed):
    """Bag-of-words topics, SGD, eight micro-batches of four: learns far too slowly."""
    r = np.random.default_rng(5)
    topics, vocab = 8, 300
    word_p = r.dirichlet(np.full(vocab, 0.15), size=topics)

    class Docs(Dataset):
        def __init__(self, n):
            self.y = r.integers(0, topics, n)
            self.docs = [
                r.choice(vocab, size=r.integers(15, 35), p=0.6 * word_p[t] + 0.4 / vocab)
                for t in self.y
            ]

        def __len__(self):
            return len(self.y)

        def __getitem__(self, i):
            return torch.as_tensor(self.docs[i]), int(self.y[i])

    def collate(items):
        docs, ys = zip(*items)
        offsets = torch.tensor([0, *[len(d) for d in docs[:-1]]]).cumsum(0)
        return torch.cat(docs), offsets, torch.tensor(ys)

    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb, self.fc1, self.fc2 = (
                nn.EmbeddingBag(vocab, 64),
                nn.Linear(64, 64),
                nn.Linear(64, topics),
            )

        def forward(self, text, offsets):
            return self.fc2(F.relu(self.fc1(self.emb(text, offsets))))

    train = DataLoader(Docs(2048), batch_size=4, shuffle=True, collate_fn=collate)
    val = DataLoader(Docs(400), batch_size=100, collate_fn=collate)
    model, accumulation_steps = Classifier(), 8
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    watcher = watch(model, optimizer, num_classes=topics)
    for _epoch in range(6):
        model.train()
        total = 0.0
        for i, (text, offsets, y) in enumerate(train):
            loss = F.cross_entropy(model(text, offsets), y)
            if not fixed:
                optimizer.zero_grad()
            (loss / accumulation_steps).backward()
            total += loss.item()
            if (i + 1) % accumulation_steps == 0:
                optimizer.step()
                if fixed:
                    optimizer.zero_grad()
                watcher.step(loss)
        model.eval()
        with torch.no_grad():
            outs = [(model(t, o), y) for t, o, y in val]
            logits, ys = torch.cat([o for o, _ in outs]), torch.cat([y for _, y in outs])
            acc = (logits.argmax(1) == ys).float().mean().item()
            watcher.log(val_loss=F.cross_entropy(logits, ys).item(), val_accuracy=acc)
    return {
        "train_loss": total / len(train),
        "val_loss": F.cross_entropy(logits, ys).item(),
        "val_accuracy": acc,
    }


@faulty(
    "VAE",
    fault="the reconstruction error is averaged over pixels and batch while the KL term is summed, so the KL swamps it: the posterior collapses and all reconstructions are the mean image",
    source="https://github.com/zdebruine/MMVAE/pull/19, https://github.com/y0ast/VAE-Torch/issues/11",
)
def r6_vae_mean_reconstruction_summed_kl(watch, fixed):
    """Digits, eight latent numbers."""

    class VAE(nn.Module):
        def __init__(self, z=8):
            super().__init__()
            self.enc = nn.Sequential(nn.Linear(64, 128), nn.ReLU())
            self.fc_mu, self.fc_logvar = nn.Linear(128, z), nn.Linear(128, z)
            self.dec = nn.Sequential(nn.Linear(z, 128), nn.ReLU(), nn.Linear(128, 64), nn.Sigmoid())

        def forward(self, x):
            h = self.enc(x)
            mu, logvar = self.fc_mu(h), self.fc_logvar(h)
            z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
            return self.dec(z), mu, logvar

    def vae_loss(recon, x, mu, logvar):
        kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
        if fixed:
            return (F.mse_loss(recon, x, reduction="sum") / (2 * 0.05) + kl) / len(x)
        return F.mse_loss(recon, x) / (2 * 0.05) + kl

    x_all = torch.tensor(load_digits().data / 16.0, dtype=torch.float32)
    loader = DataLoader(x_all[:1500], batch_size=64, shuffle=True)
    vae = VAE()
    opt = torch.optim.Adam(vae.parameters(), lr=2e-3)
    watcher = watch(vae, opt, train=loader)
    for _epoch in range(25):
        vae.train()
        for x in loader:
            recon, mu, logvar = vae(x)
            loss = vae_loss(recon, x, mu, logvar)
            opt.zero_grad()
            loss.backward()
            opt.step()
            watcher.step(loss, batch=x)
        vae.eval()
        with torch.no_grad():
            v = x_all[1500:]
            recon, mu, logvar = vae(v)
            watcher.log(val_loss=vae_loss(recon, v, mu, logvar).item())
    kl = (-0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1)).mean().item()
    return {
        "val_reconstruction_mse": F.mse_loss(recon, v).item(),
        "variance_of_data": v.var(0).mean().item(),
        "kl_per_sample": kl,
    }


@faulty(
    "contrastive learning",
    fault="the first view goes through the network twice and the second view is never used: the positive pair is the same picture, so no invariance is learnt",
    source="https://github.com/catalyst-team/catalyst/pull/1278 (review: emb2 = model(batch['aug1']))",
)
def r6_simclr_same_view_twice(watch, fixed):
    """NT-Xent on digits with shifts, brightness and noise. Harm: views of one picture do not find each other."""
    d = load_digits()
    mixed = np.random.default_rng(0).permutation(len(d.target))
    pics, digit = (
        torch.tensor(d.images[mixed], dtype=torch.float32) / 16,
        torch.tensor(d.target[mixed]),
    )

    def augment(x):
        n = len(x)
        pad = F.pad(x, (1, 1, 1, 1))
        dx, dy = torch.randint(0, 3, (n,)), torch.randint(0, 3, (n,))
        rows, cols = dy[:, None] + torch.arange(8), dx[:, None] + torch.arange(8)
        out = pad[torch.arange(n)[:, None, None], rows[:, :, None], cols[:, None, :]]
        return out * (0.8 + 0.4 * torch.rand(n, 1, 1)) + 0.1 * torch.randn(n, 8, 8) - 0.3

    def two_views(items):
        x = torch.stack(items)
        return {"aug1": augment(x), "aug2": augment(x)}

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(1, 24, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(24, 32, 3, 2, 1),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(512, 64),
            )
            self.proj = nn.Sequential(nn.ReLU(), nn.Linear(64, 32))

        def forward(self, x):
            return F.normalize(self.proj(self.body(x.unsqueeze(1))), dim=1)

    def nt_xent(z1, z2, temperature=0.2):
        z = torch.cat([z1, z2])
        sim = (z @ z.T / temperature).masked_fill(torch.eye(len(z), dtype=torch.bool), -1e9)
        n = len(z1)
        return F.cross_entropy(sim, torch.cat([torch.arange(n, 2 * n), torch.arange(n)]))

    loader = DataLoader(
        pics[:1400], batch_size=64, shuffle=True, drop_last=True, collate_fn=two_views
    )
    model = Encoder()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    watcher = watch(model, optimizer, train=loader)
    for _epoch in range(24):
        for batch in loader:
            emb1 = model(batch["aug1"])
            emb2 = model(batch["aug2"] if fixed else batch["aug1"])
            loss = nt_xent(emb1, emb2)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=batch)
    with torch.no_grad():
        held = pics[1400:]
        a, b = model(augment(held)), model(augment(held))
        found = ((a @ b.T).argmax(1) == torch.arange(len(held))).float().mean().item()
        near = (a @ model(augment(pics[:1400])).T).topk(5, 1).indices
        knn = (digit[near].mode(1).values == digit[1400:]).float().mean().item()
    return {"train_loss": loss.item(), "views_found_again": found, "knn_accuracy": knn}


@faulty(
    "multi-label classification",
    fault="multi-hot targets are given to CrossEntropyLoss, whose softmax makes the labels compete; sigmoid and a threshold of 0.5 then give wrong label sets",
    source="https://discuss.pytorch.org/t/using-bcewithlogisloss-for-multi-label-classification/67011",
)
def r6_multilabel_trained_with_cross_entropy(watch, fixed):
    """Eight tags, zero to five at once."""

    class Tags(Dataset):
        def __init__(self, n, seed, w):
            g = torch.Generator().manual_seed(seed)
            self.x = torch.randn(n, 20, generator=g)
            self.y = ((torch.tanh(self.x) @ w) > 0.9).float()

        def __len__(self):
            return len(self.x)

        def __getitem__(self, i):
            return {"features": self.x[i], "tags": self.y[i]}

    w = torch.randn(20, 8, generator=torch.Generator().manual_seed(11)) * 0.6
    train_dl = DataLoader(Tags(2400, 1, w), batch_size=48, shuffle=True)
    valid_dl = DataLoader(Tags(600, 2, w), batch_size=200)

    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(
                nn.Linear(20, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 8)
            )

        def forward(self, features):
            return self.layers(features)

    model = Tagger()
    criterion = nn.BCEWithLogitsLoss() if fixed else nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    watcher = watch(model, optimizer, loss_fn=criterion, train=train_dl, val=valid_dl)

    def evaluate():
        model.eval()
        tp = fp = fn = loss = 0.0
        with torch.no_grad():
            for b in valid_dl:
                z = model(b["features"])
                loss += criterion(z, b["tags"]).item() / len(valid_dl)
                p = z.sigmoid() > 0.5
                t = b["tags"] > 0.5
                tp, fp, fn = (
                    tp + (p & t).sum().item(),
                    fp + (p & ~t).sum().item(),
                    fn + (~p & t).sum().item(),
                )
        return loss, 2 * tp / max(2 * tp + fp + fn, 1)

    for _epoch in range(8):
        model.train()
        for b in train_dl:
            optimizer.zero_grad()
            loss = criterion(model(b["features"]), b["tags"])
            loss.backward()
            optimizer.step()
            watcher.step(loss)
        val_loss, f1 = evaluate()
        watcher.log(val_loss=val_loss, val_f1=f1)
    return {"train_loss": loss.item(), "val_loss": val_loss, "val_micro_f1": f1}


@faulty(
    "seq2seq (nn.Transformer)",
    fault="no tgt_mask is passed: under teacher forcing the decoder sees the word it must predict, training looks perfect and decoding step by step fails",
    source="https://discuss.pytorch.org/t/how-to-make-sure-which-masking-arguments-i-need-to-provide-for-calling-torch-nn-transformer-model/179371, https://taourl.com/read-2004439.html",
)
def r6_seq2seq_transformer_without_tgt_mask(watch, fixed):
    """Write six digits backwards and add three times the place to each."""
    sos, n_tok, d, length = 10, 11, 48, 6

    class Translator(nn.Module):
        def __init__(self):
            super().__init__()
            self.src_emb, self.tgt_emb = nn.Embedding(n_tok, d), nn.Embedding(n_tok, d)
            self.src_pos, self.tgt_pos = (
                nn.Parameter(torch.randn(length, d) * 0.3),
                nn.Parameter(torch.randn(length, d) * 0.3),
            )
            self.transformer = nn.Transformer(d, 4, 1, 1, 96, dropout=0.0, batch_first=True)
            self.generator = nn.Linear(d, n_tok)

        def forward(self, src, tgt):
            t = tgt.shape[1]
            mask = nn.Transformer.generate_square_subsequent_mask(t) if fixed else None
            h = self.transformer(
                self.src_emb(src) + self.src_pos,
                self.tgt_emb(tgt) + self.tgt_pos[:t],
                tgt_mask=mask,
            )
            return self.generator(h)

    def pairs(n, seed):
        src = torch.randint(0, 10, (n, length), generator=torch.Generator().manual_seed(seed))
        return src, (src.flip(1) + 3 * torch.arange(length)) % 10

    src, trg = pairs(4000, 0)
    vs, vt = pairs(200, 1)
    loader = DataLoader(TensorDataset(src, trg), batch_size=64, shuffle=True)
    model = Translator()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    criterion = nn.CrossEntropyLoss()
    watcher = watch(model, optimizer, train=loader)

    def shift(t):
        return torch.cat([torch.full((len(t), 1), sos), t[:, :-1]], 1)

    for _epoch in range(8):
        model.train()
        for s, t in loader:
            loss = criterion(model(s, shift(t)).transpose(1, 2), t)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            watcher.step(loss, batch=(s, t))
        model.eval()
        with torch.no_grad():
            watcher.log(val_loss=criterion(model(vs, shift(vt)).transpose(1, 2), vt).item())
    with torch.no_grad():
        out = torch.full((len(vs), 1), sos)
        for _ in range(length):
            out = torch.cat([out, model(vs, out)[:, -1].argmax(-1, keepdim=True)], 1)
        exact = (out[:, 1:] == vt).float().mean().item()
    return {"train_loss": loss.item(), "greedy_token_accuracy": exact}


@faulty(
    "time series (LSTM)",
    fault="zero_grad is never called: the gradients of all batches so far are added up",
    source="https://stats.stackexchange.com/questions/376851/why-is-lstm-so-ineffective-at-this-ridiculously-simple-sequence",
)
def r6_lstm_forecast_never_zeroes_the_gradient(watch, fixed):
    """The next value of a noisy sum of waves from the last 24."""

    class LSTMModel(nn.Module):
        def __init__(self, hidden_dim=32):
            super().__init__()
            self.rnn = nn.LSTM(1, hidden_dim, batch_first=True)
            self.fc = nn.Linear(hidden_dim, 1)

        def forward(self, x):
            out, _ = self.rnn(x)
            return self.fc(out[:, -1]).squeeze(-1)

    t = np.arange(1600)
    rng = np.random.default_rng(0)
    series = (
        np.sin(2 * np.pi * t / 25)
        + 0.5 * np.sin(2 * np.pi * t / 9 + 1)
        + 0.1 * rng.normal(size=len(t))
    )
    series = torch.tensor(
        (series - series[:1200].mean()) / series[:1200].std(), dtype=torch.float32
    )
    windows = series.unfold(0, 25, 1)
    X, Y = windows[:, :24].unsqueeze(-1), windows[:, 24]
    train = DataLoader(TensorDataset(X[:1170], Y[:1170]), batch_size=32, shuffle=True)
    vx, vy = X[1200:], Y[1200:]
    model, criterion = LSTMModel(), nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    watcher = watch(model, optimizer, loss_fn=criterion, train=train, val=[(vx, vy)])
    for _epoch in range(10):
        losses = []
        for x, y in train:
            if fixed:
                optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            watcher.step(loss, batch=(x, y))
        with torch.no_grad():
            val = criterion(model(vx), vy).item()
        watcher.log(val_loss=val)
    return {"train_loss": sum(losses) / len(losses), "val_loss": val}


@faulty(
    "GAN",
    fault="the generator step scores fake.detach(), so the generator gets no gradient and never changes",
    source="https://jishuzhan.net/article/1706211350813872129 (when to use detach in a GAN), https://taourl.com/read-2180730.html",
)
def r6_gan_fake_detached_in_the_generator_step(watch, fixed):
    """Two-dimensional points on a ring."""

    class Generator(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = nn.Sequential(
                nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2)
            )

        def forward(self, z):
            return self.model(z)

    class Discriminator(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = nn.Sequential(
                nn.Linear(2, 64),
                nn.LeakyReLU(0.2),
                nn.Linear(64, 64),
                nn.LeakyReLU(0.2),
                nn.Linear(64, 1),
            )

        def forward(self, x):
            return self.model(x)

    def real_data(n):
        a = torch.rand(n, 1) * 2 * math.pi
        return torch.cat([a.cos(), a.sin()], 1) * (1.5 + 0.1 * torch.randn(n, 1))

    G, D = Generator(), Discriminator()
    opt_g = torch.optim.Adam(G.parameters(), lr=1e-3, betas=(0.5, 0.999))
    opt_d = torch.optim.Adam(D.parameters(), lr=1e-3, betas=(0.5, 0.999))
    bce = nn.BCEWithLogitsLoss()
    watch_g, watch_d = watch(G, opt_g), watch(D, opt_d)
    ones, zeros = torch.ones(128, 1), torch.zeros(128, 1)
    for _step in range(900):
        fake = G(torch.randn(128, 8))
        loss_d = bce(D(real_data(128)), ones * 0.9) + bce(D(fake.detach()), zeros)
        opt_d.zero_grad()
        loss_d.backward()
        opt_d.step()
        watch_d.step(loss_d)
        loss_g = bce(D(fake if fixed else fake.detach()), ones)
        opt_g.zero_grad()
        loss_g.backward()
        opt_g.step()
        watch_g.step(loss_g)
    with torch.no_grad():
        r = G(torch.randn(2000, 8)).norm(dim=1)
    return {
        "loss_d": loss_d.item(),
        "loss_g": loss_g.item(),
        "share_near_the_ring": ((r - 1.5).abs() < 0.35).float().mean().item(),
    }


# ---------------------------------------------------------------- sound programs


@sound("image classifier (quite ordinary)")
def r6_ordinary_digits_cnn_one_cycle(watch):
    """CNN with batch norm and dropout, OneCycleLR stepped per batch as it should be, label smoothing."""
    d = load_digits()
    perm = np.random.default_rng(0).permutation(len(d.target))
    mean, std = d.images[perm[:1400]].mean(), d.images[perm[:1400]].std()
    X = torch.tensor((d.images - mean) / std, dtype=torch.float32).unsqueeze(1)
    Y = torch.tensor(d.target)
    train_loader = DataLoader(
        TensorDataset(X[perm[:1400]], Y[perm[:1400]]), batch_size=64, shuffle=True
    )
    test_loader = DataLoader(TensorDataset(X[perm[1400:]], Y[perm[1400:]]), batch_size=128)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(1, 16, 3, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(16)
            self.conv2 = nn.Conv2d(16, 32, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(32)
            self.dropout = nn.Dropout(0.25)
            self.fc = nn.Linear(32 * 4, 10)

        def forward(self, x):
            x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
            x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
            return self.fc(self.dropout(x.flatten(1)))

    epochs = 8
    model = Net()
    criterion = nn.CrossEntropyLoss(label_smoothing=0.05)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.2, epochs=epochs, steps_per_epoch=len(train_loader)
    )
    watcher = watch(
        model,
        optimizer,
        loss_fn=criterion,
        num_classes=10,
        train=train_loader,
        val=test_loader,
        scheduler=scheduler,
    )
    for _epoch in range(epochs):
        model.train()
        for data, target in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(data), target)
            loss.backward()
            optimizer.step()
            scheduler.step()
            watcher.step(loss, batch=(data, target))
        model.eval()
        test_loss, correct = 0.0, 0
        with torch.no_grad():
            for data, target in test_loader:
                out = model(data)
                test_loss += criterion(out, target).item() * len(target)
                correct += (out.argmax(1) == target).sum().item()
        n = len(test_loader.dataset)
        watcher.log(val_loss=test_loss / n, val_accuracy=correct / n)
    return {"train_loss": loss.item(), "val_accuracy": correct / n}


@sound("image classifier, adversarial training")
def r6_adversarial_pgd_training(watch):
    """Each batch is first attacked with three gradient steps on the input; the loss stays high by design."""
    d = load_digits()
    perm = torch.randperm(len(d.target))
    X, Y = torch.tensor(d.data / 16.0, dtype=torch.float32)[perm], torch.tensor(d.target)[perm]
    net = nn.Sequential(
        nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    )
    opt = torch.optim.Adam(net.parameters(), 1e-3)
    watcher = watch(net, opt, loss_fn=F.cross_entropy)

    def attack(x, y, eps=0.12, steps=3):
        delta = torch.empty_like(x).uniform_(-eps, eps)
        for _ in range(steps):
            delta.requires_grad_(True)
            (grad,) = torch.autograd.grad(F.cross_entropy(net(x + delta), y), delta)
            delta = (delta.detach() + eps / 2 * grad.sign()).clamp(-eps, eps)
        return (x + delta).clamp(0, 1).detach()

    for _epoch in range(10):
        for idx in torch.randperm(1400).split(50):
            adv = attack(X[idx], Y[idx])
            loss = F.cross_entropy(net(adv), Y[idx])
            opt.zero_grad()
            loss.backward()
            opt.step()
            watcher.step(loss)
        with torch.no_grad():
            out = net(X[1400:])
            clean = (out.argmax(1) == Y[1400:]).float().mean().item()
            watcher.log(val_loss=F.cross_entropy(out, Y[1400:]).item(), val_accuracy=clean)
    robust = (net(attack(X[1400:], Y[1400:])).argmax(1) == Y[1400:]).float().mean().item()
    return {
        "adversarial_train_loss": loss.item(),
        "val_accuracy": clean,
        "val_accuracy_under_attack": robust,
    }


@sound("diffusion")
def r6_ddpm_two_moons_with_ema(watch):
    """Noise prediction in two dimensions; the loss is noisy and flattens early; an EMA copy is used to sample."""
    T = 60
    betas = torch.linspace(0.02, 0.45, T) ** 2
    alphas = 1 - betas
    bar = alphas.cumprod(0)

    def moons(n):
        a = torch.rand(n) * math.pi
        up = torch.rand(n) < 0.5
        x = torch.where(up, a.cos(), 1 - a.cos()) - 0.5
        y = torch.where(up, a.sin(), 0.5 - a.sin()) - 0.25
        return torch.stack([x, y], 1) * 1.4 + 0.04 * torch.randn(n, 2)

    class Denoiser(nn.Module):
        def __init__(self, h=128):
            super().__init__()
            self.inp, self.out = nn.Linear(2 + 8, h), nn.Linear(h, 2)
            self.mid, self.mid2 = nn.Linear(h, h), nn.Linear(h, h)
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)

        def forward(self, x, t):
            angle = (t[:, None] / T) * torch.tensor([1.0, 2.0, 4.0, 8.0]) * math.pi / 2
            h = F.silu(self.inp(torch.cat([x * 2, angle.sin(), angle.cos()], 1)))
            h = h + F.silu(self.mid(h))
            return self.out(h + F.silu(self.mid2(h)))

    model = Denoiser()
    ema = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1400)
    watcher = watch(model, optimizer, scheduler=scheduler)
    losses = []
    for _ in range(1400):
        x0 = moons(256)
        t = torch.randint(0, T, (256,))
        eps = torch.randn_like(x0)
        xt = bar[t, None].sqrt() * x0 + (1 - bar[t, None]).sqrt() * eps
        loss = F.mse_loss(model(xt, t), eps)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        with torch.no_grad():
            for p, q in zip(ema.parameters(), model.parameters()):
                p.lerp_(q, 0.01)
        watcher.step(loss)
        losses.append(loss.item())
    with torch.no_grad():
        x = torch.randn(500, 2)
        for i in reversed(range(T)):
            eps = ema(x, torch.full((500,), i))
            x = (x - betas[i] / (1 - bar[i]).sqrt() * eps) / alphas[i].sqrt()
            if i:
                x = x + (betas[i] * (1 - bar[i - 1]) / (1 - bar[i])).sqrt() * torch.randn_like(x)
        gap = torch.cdist(x, moons(2000)).min(1).values.mean().item()
    return {
        "first_loss": losses[0],
        "last_losses": sum(losses[-50:]) / 50,
        "mean_distance_to_data": gap,
    }


@sound("masked language model (dict batches, loss in the model)")
def r6_masked_lm_bert_like_collator(watch):
    """85 % of the labels are -100; linear warm-up and decay; parameter groups without decay for norms and biases."""
    vocab, mask_id, pad_id = 18, 1, 0
    g = torch.Generator().manual_seed(0)

    follow = torch.randperm(vocab - 2, generator=g).tolist()

    def sentences(n):
        rows = []
        for m in torch.randint(8, 17, (n,), generator=g).tolist():
            row = [int(torch.randint(2, vocab, (), generator=g))]
            while len(row) < m:  # one in ten words is free, the others follow from the one before
                free = torch.rand((), generator=g) < 0.1
                row.append(
                    int(torch.randint(2, vocab, (), generator=g))
                    if free
                    else 2 + follow[row[-1] - 2]
                )
            rows.append(torch.tensor(row))
        return rows

    def collate(rows):
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad_id)
        attention = (ids != pad_id).long()
        pick = (torch.rand(ids.shape) < 0.2) & (attention == 1)
        pick[:, 0] |= ~pick.any(1)
        labels = torch.where(pick, ids, -100)
        r = torch.rand(ids.shape)
        noisy = torch.where(pick & (r < 0.8), torch.tensor(mask_id), ids)
        noisy = torch.where(pick & (r > 0.9), torch.randint(2, vocab, ids.shape), noisy)
        return {"input_ids": noisy, "attention_mask": attention, "labels": labels}

    class MaskedLM(nn.Module):
        def __init__(self, d=48):
            super().__init__()
            self.tok, self.pos = nn.Embedding(vocab, d, padding_idx=pad_id), nn.Embedding(20, d)
            layer = nn.TransformerEncoderLayer(
                d, 4, 96, dropout=0.0, batch_first=True, norm_first=True
            )
            self.encoder = nn.TransformerEncoder(
                layer, 2, norm=nn.LayerNorm(d), enable_nested_tensor=False
            )
            self.bias = nn.Parameter(torch.zeros(vocab))
            nn.init.normal_(self.tok.weight, std=0.15)
            nn.init.normal_(self.pos.weight, std=0.15)

        def forward(self, input_ids, attention_mask, labels=None):
            h = self.tok(input_ids) + self.pos(torch.arange(input_ids.shape[1]))
            h = self.encoder(h, src_key_padding_mask=attention_mask == 0)
            logits = h @ self.tok.weight.T + self.bias  # tied
            loss = (
                None
                if labels is None
                else F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
            )
            return {"loss": loss, "logits": logits}

    train = DataLoader(sentences(2400), batch_size=48, shuffle=True, collate_fn=collate)
    val = DataLoader(sentences(300), batch_size=100, collate_fn=collate)
    model = MaskedLM()
    decay = [p for p in model.parameters() if p.ndim >= 2]
    plain = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}], lr=3e-3
    )
    total = 10 * len(train)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min((s + 1) / 40, max(0.0, (total - s) / (total - 40)))
    )
    watcher = watch(model, optimizer, train=train, val=val, scheduler=scheduler)
    for _epoch in range(10):
        model.train()
        for batch in train:
            loss = model(**batch)["loss"]
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            watcher.step(loss, batch=batch)
        model.eval()
        with torch.no_grad():
            outs = [(model(**b), b["labels"]) for b in val]
            keep = torch.cat([(o["logits"].argmax(-1) == y)[y != -100] for o, y in outs])
            val_loss = sum(o["loss"].item() for o, _ in outs) / len(outs)
        watcher.log(val_loss=val_loss, val_accuracy=keep.float().mean().item())
    return {
        "train_loss": loss.item(),
        "val_loss": val_loss,
        "val_accuracy": keep.float().mean().item(),
    }


@sound("character language model (GRU, truncated back-propagation)")
def r6_stateful_char_gru_stream(watch):
    """The hidden state is carried over chunks (detached) and the text is read in order, without shuffling."""
    words = [
        "the ",
        "cat ",
        "sat ",
        "on ",
        "a ",
        "mat ",
        "and ",
        "then ",
        "it ",
        "ran ",
        "away ",
        "from ",
        "dog ",
    ]
    r = random.Random(4)
    text, w = [], 0
    for _ in range(9000):
        text.append(words[w])
        w = (w * 3 + r.choice([1, 1, 1, 5])) % len(words)
    text = "".join(text)
    chars = sorted(set(text))
    data = torch.tensor([chars.index(c) for c in text])
    held = data[-3000:]
    streams, chunk = 16, 32
    data = data[: (len(data) - 3000) // streams * streams].view(streams, -1)

    class CharGRU(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb, self.gru, self.out = (
                nn.Embedding(len(chars), 24),
                nn.GRU(24, 96, batch_first=True),
                nn.Linear(96, len(chars)),
            )

        def forward(self, ids, h=None):
            y, h = self.gru(self.emb(ids), h)
            return self.out(y), h

    model = CharGRU()
    opt = torch.optim.RMSprop(model.parameters(), lr=2e-3)
    watcher = watch(model, opt, num_classes=len(chars))
    for _epoch in range(3):
        h = None
        for i in range(0, data.shape[1] - chunk - 1, chunk):
            x, y = data[:, i : i + chunk], data[:, i + 1 : i + chunk + 1]
            logits, h = model(x, h)
            h = h.detach()
            loss = F.cross_entropy(logits.reshape(-1, len(chars)), y.reshape(-1))
            opt.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            opt.step()
            watcher.step(loss)
        with torch.no_grad():
            logits, _ = model(held[None, :-1])
            val = F.cross_entropy(logits[0], held[1:]).item()
        watcher.log(val_loss=val)
    return {"train_loss": loss.item(), "val_loss": val, "uniform": math.log(len(chars))}


@sound("semi-supervised classifier (mean teacher)")
def r6_mean_teacher_moving_targets(watch):
    """Few labels; a teacher (EMA of the student) gives moving targets; the consistency weight ramps up, so the loss may rise."""
    d = load_digits()
    perm = torch.randperm(len(d.target))
    X, Y = (
        torch.tensor(d.data / 16.0 - 0.3, dtype=torch.float32)[perm],
        torch.tensor(d.target)[perm],
    )
    lab_x, lab_y, un_x, val_x, val_y = X[:120], Y[:120], X[120:1400], X[1400:], Y[1400:]
    student = nn.Sequential(
        nn.Linear(64, 128),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(128, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )
    teacher = copy.deepcopy(student)
    for p in teacher.parameters():
        p.requires_grad = False
    opt = torch.optim.Adam(student.parameters(), lr=2e-3)
    watcher = watch(student, opt)
    steps = 500
    for step in range(steps):
        student.train()
        li, ui = torch.randint(0, 120, (32,)), torch.randint(0, len(un_x), (64,))
        noisy = un_x[ui] + 0.15 * torch.randn(64, 64)
        with torch.no_grad():
            teacher.eval()
            target = teacher(un_x[ui]).softmax(1)
        weight = 8.0 * min(1.0, step / 200)
        loss = F.cross_entropy(student(lab_x[li]), lab_y[li]) + weight * F.mse_loss(
            student(noisy).softmax(1), target
        )
        opt.zero_grad()
        loss.backward()
        opt.step()
        with torch.no_grad():
            for t, s in zip(teacher.parameters(), student.parameters()):
                t.mul_(0.98).add_(s, alpha=0.02)
        watcher.step(loss)
        if step % 50 == 49:
            with torch.no_grad():
                out = teacher(val_x)
                acc = (out.argmax(1) == val_y).float().mean().item()
            watcher.log(val_loss=F.cross_entropy(out, val_y).item(), val_accuracy=acc)
    return {"train_loss": loss.item(), "val_accuracy": acc}


@sound("tabular (quantile regression)")
def r6_tabular_pinball_with_embeddings(watch):
    """Three quantiles at once, categorical embeddings, a hand-written loss, ReduceLROnPlateau on the validation."""

    @dataclass
    class Config:
        epochs: int = 14
        batch_size: int = 64
        lr: float = 4e-3
        quantiles: tuple = (0.1, 0.5, 0.9)

    cfg = Config()
    rng = np.random.default_rng(2)
    n = 3000
    cat = rng.integers(0, 12, n)
    num = rng.normal(size=(n, 5))
    price = (
        rng.normal(size=12)[cat] * 2
        + num[:, 0] * 1.5
        + np.sin(2 * num[:, 1])
        + (0.3 + 0.4 * np.abs(num[:, 2])) * rng.normal(size=n)
    )
    mu, sd = price[:2400].mean(), price[:2400].std()
    y = torch.tensor((price - mu) / sd, dtype=torch.float32)
    cat, num = torch.tensor(cat), torch.tensor(num, dtype=torch.float32)
    split = lambda s: TensorDataset(num[s], cat[s], y[s])
    train_dl = DataLoader(split(slice(0, 2400)), batch_size=cfg.batch_size, shuffle=True)
    val_dl = DataLoader(split(slice(2400, n)), batch_size=300)

    class TabNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb = nn.Embedding(12, 4)
            self.mlp = nn.Sequential(
                nn.Linear(9, 64),
                nn.SiLU(),
                nn.Linear(64, 64),
                nn.SiLU(),
                nn.Linear(64, len(cfg.quantiles)),
            )

        def forward(self, num, cat):
            return self.mlp(torch.cat([num, self.emb(cat)], 1))

    def pinball(pred, target):
        q = torch.tensor(cfg.quantiles)
        err = target[:, None] - pred
        return torch.maximum(q * err, (q - 1) * err).mean()

    model = TabNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.lr, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
    watcher = watch(model, optimizer, task="regression", scheduler=scheduler)
    for _ in range(cfg.epochs):
        model.train()
        for a, c, t in train_dl:
            optimizer.zero_grad()
            loss = pinball(model(a, c), t)
            loss.backward()
            optimizer.step()
            watcher.step(loss)
        model.eval()
        with torch.no_grad():
            preds = torch.cat([model(a, c) for a, c, _ in val_dl])
            t = torch.cat([t for *_, t in val_dl])
            val_loss = pinball(preds, t).item()
            inside = ((t > preds[:, 0]) & (t < preds[:, 2])).float().mean().item()
        scheduler.step(val_loss)
        watcher.log(val_loss=val_loss)
    return {"train_loss": loss.item(), "val_loss": val_loss, "share_inside_80_percent_band": inside}


@sound("RL (actor-critic)")
def r6_a2c_entropy_bonus(watch):
    """Advantage actor-critic on a noisy corridor; the loss goes up and down and may be negative, the return grows."""
    length, envs, gamma = 9, 24, 0.97

    class ActorCritic(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared = nn.Sequential(nn.Linear(2 * length, 64), nn.Tanh())
            self.actor, self.critic = nn.Linear(64, 3), nn.Linear(64, 1)

        def forward(self, pos, goal):
            h = self.shared(torch.cat([F.one_hot(pos, length), F.one_hot(goal, length)], 1).float())
            return torch.distributions.Categorical(logits=self.actor(h)), self.critic(h).squeeze(1)

    net = ActorCritic()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    watcher = watch(net, optimizer)
    pos, goal = torch.randint(0, length, (envs,)), torch.randint(0, length, (envs,))
    rates = []
    for _update in range(400):
        logps, values, rewards, masks, ents = [], [], [], [], []
        for _ in range(8):
            pi, v = net(pos, goal)
            a = pi.sample()
            slip = torch.rand(envs) < 0.1
            pos = (pos + torch.where(slip, torch.randint(-1, 2, (envs,)), a - 1)).clamp(
                0, length - 1
            )
            hit = pos == goal
            logps.append(pi.log_prob(a))
            values.append(v)
            ents.append(pi.entropy())
            rewards.append(torch.where(hit, 1.0, -0.05))
            masks.append((~hit).float())
            goal = torch.where(hit, torch.randint(0, length, (envs,)), goal)
        with torch.no_grad():
            R = net(pos, goal)[1]
        returns = []
        for r, m in zip(reversed(rewards), reversed(masks)):
            R = r + gamma * m * R
            returns.append(R)
        returns = torch.stack(returns[::-1])
        values = torch.stack(values)
        adv = returns - values
        actor_loss = -(torch.stack(logps) * adv.detach()).mean()
        loss = actor_loss + 0.5 * adv.pow(2).mean() - 0.01 * torch.stack(ents).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        optimizer.step()
        watcher.step(loss)
        rates.append(torch.stack(rewards).mean().item())
    return {
        "first_reward_per_step": sum(rates[:20]) / 20,
        "last_reward_per_step": sum(rates[-20:]) / 20,
    }


@sound("WGAN with gradient penalty")
def r6_wgan_gp_five_critic_steps(watch):
    """Losses are differences of scores and go below zero; the critic makes five steps for each one of the generator."""
    centers = (
        torch.tensor([[math.cos(a), math.sin(a)] for a in torch.arange(3) * 2 * math.pi / 3]) * 1.2
    )
    real = lambda n: centers[torch.randint(0, 3, (n,))] + 0.15 * torch.randn(n, 2)
    mlp = lambda i, o: nn.Sequential(
        nn.Linear(i, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, o)
    )
    gen, critic = mlp(4, 2), mlp(2, 1)
    g_opt = torch.optim.Adam(gen.parameters(), 2e-3, betas=(0.0, 0.9))
    c_opt = torch.optim.Adam(critic.parameters(), 2e-3, betas=(0.0, 0.9))
    watcher = watch(nn.ModuleList([gen, critic]), [g_opt, c_opt])
    for _ in range(500):
        for _ in range(5):
            x, fake = real(64), gen(torch.randn(64, 4)).detach()
            mix = (x + torch.rand(64, 1) * (fake - x)).requires_grad_(True)
            (grad,) = torch.autograd.grad(critic(mix).sum(), mix, create_graph=True)
            c_loss = (
                critic(fake).mean() - critic(x).mean() + 1.0 * (grad.norm(dim=1) - 1).pow(2).mean()
            )
            c_opt.zero_grad()
            c_loss.backward()
            c_opt.step()
            watcher.step(c_loss)
        g_loss = -critic(gen(torch.randn(64, 4))).mean()
        g_opt.zero_grad()
        g_loss.backward()
        g_opt.step()
        watcher.step(g_loss)
    with torch.no_grad():
        d = torch.cdist(gen(torch.randn(1000, 4)), centers)
        close = (d.min(1).values < 0.5).float().mean().item()
        modes = len(set(d.argmin(1)[d.min(1).values < 0.5].tolist()))
    return {
        "critic_loss": c_loss.item(),
        "g_loss": g_loss.item(),
        "share_near_a_centre": close,
        "modes": float(modes),
    }


@sound("transfer learning")
def r6_linear_probe_frozen_backbone_in_eval(watch):
    """The backbone stays frozen and in eval mode on purpose (its batch norms too); only a zero-initialised head trains."""
    d = load_digits()
    perm = torch.randperm(len(d.target))
    X = torch.tensor(d.images, dtype=torch.float32).unsqueeze(1)[perm] / 8 - 1
    Y = torch.tensor(d.target)[perm]
    backbone = nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(24, 48, 3, padding=1),
        nn.BatchNorm2d(48),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
    )
    parity = nn.Linear(192, 5)
    pre = torch.optim.Adam([*backbone.parameters(), *parity.parameters()], 2e-3)
    for _ in range(5):  # pretraining on another question: the digit modulo 5
        for idx in torch.randperm(700).split(50):
            pre.zero_grad()
            F.cross_entropy(parity(backbone(X[idx])), Y[idx] % 5).backward()
            pre.step()

    class Probe(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, self.head = backbone, nn.Linear(192, 10)
            self.backbone.requires_grad_(False)
            nn.init.zeros_(self.head.weight)

        def train(self, mode=True):
            super().train(mode)
            self.backbone.eval()
            return self

        def forward(self, x):
            with torch.no_grad():
                f = self.backbone(x)
            return self.head(f)

    model = Probe()
    train = DataLoader(TensorDataset(X[700:1400], Y[700:1400]), batch_size=32, shuffle=True)
    opt = torch.optim.SGD(model.head.parameters(), lr=0.05, momentum=0.9)
    loss_fn = nn.CrossEntropyLoss()
    watcher = watch(model, opt, loss_fn=loss_fn, num_classes=10, train=train)
    for _epoch in range(12):
        model.train()
        for x, y in train:
            opt.zero_grad()
            loss = loss_fn(model(x), y)
            loss.backward()
            opt.step()
            watcher.step(loss, batch=(x, y))
        model.eval()
        with torch.no_grad():
            out = model(X[1400:])
        acc = (out.argmax(1) == Y[1400:]).float().mean().item()
        watcher.log(val_loss=loss_fn(out, Y[1400:]).item(), val_accuracy=acc)
    return {"train_loss": loss.item(), "val_accuracy": acc}


@sound("physics-informed network")
def r6_pinn_damped_oscillator(watch):
    """No data but the equation x'' + 0.4 x' + 4 x = 0 and the start; derivatives by autograd; new points in every step."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.f = nn.Sequential(
                nn.Linear(1, 48), nn.Tanh(), nn.Linear(48, 48), nn.Tanh(), nn.Linear(48, 1)
            )

        def forward(self, t):
            return 1.0 + t * t / (1 + t * t) * self.f(
                t / 2 - 1
            )  # x(0) = 1 and x'(0) = 0 hold by construction

    net = Net()
    opt = torch.optim.Adam(net.parameters(), lr=5e-3)
    sched = torch.optim.lr_scheduler.ExponentialLR(opt, 0.9975)
    watcher = watch(net, opt, scheduler=sched)
    for _ in range(1600):
        t = (torch.rand(64, 1) * 4).requires_grad_(True)
        x = net(t)
        (v,) = torch.autograd.grad(x.sum(), t, create_graph=True)
        (a,) = torch.autograd.grad(v.sum(), t, create_graph=True)
        loss = (a + 0.4 * v + 4 * x).pow(2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        sched.step()
        watcher.step(loss)
    t = torch.linspace(0, 4, 100)[:, None]
    w = math.sqrt(4 - 0.04)
    exact = torch.exp(-0.2 * t) * (torch.cos(w * t) + 0.2 / w * torch.sin(w * t))
    with torch.no_grad():
        err = (net(t) - exact).abs().max().item()
    return {"residual": loss.item(), "largest_error": err}


@sound("mixture density network")
def r6_mdn_negative_log_likelihood_below_zero(watch):
    """Two-branched y given x; the loss is a density and rightly falls below zero."""

    class MDN(nn.Module):
        def __init__(self, k=4):
            super().__init__()
            self.trunk = nn.Sequential(nn.Linear(1, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
            self.pi, self.mu, self.log_sigma = nn.Linear(64, k), nn.Linear(64, k), nn.Linear(64, k)

        def nll(self, x, y):
            h = self.trunk(x)
            s = self.log_sigma(h).clamp(-5, 3)
            comp = -0.5 * ((y - self.mu(h)) / s.exp()) ** 2 - s - 0.5 * math.log(2 * math.pi)
            return -torch.logsumexp(self.pi(h).log_softmax(1) + comp, 1).mean()

    def draw(n):
        x = torch.rand(n, 1) * 2 - 1
        sign = torch.where(torch.rand(n, 1) < 0.5, 1.0, -1.0)
        return x, sign * (0.3 + 0.6 * x.abs()) + 0.03 * torch.randn(n, 1)

    xs, ys = draw(4000)
    vx, vy = draw(500)
    model = MDN()
    opt = torch.optim.Adam(model.parameters(), 3e-3)
    watcher = watch(model, opt)
    for _epoch in range(14):
        for idx in torch.randperm(4000).split(64):
            loss = model.nll(xs[idx], ys[idx])
            opt.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            opt.step()
            watcher.step(loss)
        with torch.no_grad():
            val = model.nll(vx, vy).item()
        watcher.log(val_loss=val)
    return {"train_nll": loss.item(), "val_nll": val}


@sound("continual learning")
def r6_class_ordered_stream_with_rehearsal(watch):
    """The classes come one pair after another, as a stream; half of each batch is drawn from a reservoir of old pictures."""
    d = load_digits()
    perm = np.random.default_rng(1).permutation(len(d.target))
    X = torch.tensor(d.data[perm] / 16.0 - 0.3, dtype=torch.float32)
    Y = torch.tensor(d.target[perm])
    vx, vy = X[1300:], Y[1300:]
    X, Y = X[:1300], Y[:1300]
    net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    opt = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    watcher = watch(net, opt, loss_fn=nn.functional.cross_entropy, num_classes=10)
    memory_x, memory_y, seen = [], [], 0
    r = random.Random(0)
    for task in range(5):
        idx = torch.where((2 * task == Y) | (2 * task + 1 == Y))[0]
        for _pass in range(4):
            for part in idx[torch.randperm(len(idx))].split(16):
                x, y = X[part], Y[part]
                if memory_x:
                    pick = [r.randrange(len(memory_x)) for _ in range(32)]
                    x = torch.cat([x, torch.stack([memory_x[i] for i in pick])])
                    y = torch.cat([y, torch.stack([memory_y[i] for i in pick])])
                loss = F.cross_entropy(net(x), y)
                opt.zero_grad()
                loss.backward()
                opt.step()
                watcher.step(loss)
                if _pass == 0:
                    for a, b in zip(X[part], Y[part]):
                        seen += 1
                        if len(memory_x) < 400:
                            memory_x.append(a)
                            memory_y.append(b)
                        elif (j := r.randrange(seen)) < 400:
                            memory_x[j], memory_y[j] = a, b
        known = vy < 2 * task + 2
        with torch.no_grad():
            out = net(vx[known])
        acc = (out.argmax(1) == vy[known]).float().mean().item()
        watcher.log(val_loss=F.cross_entropy(out, vy[known]).item(), val_accuracy=acc)
    return {"train_loss": loss.item(), "val_accuracy_all_classes": acc}


@sound("graph network (link prediction)")
def r6_link_prediction_with_negative_sampling(watch):
    """Half the positive edges carry messages, half are to be predicted; fresh non-edges in every step; full-graph updates."""
    g = torch.Generator().manual_seed(8)
    n, k = 300, 6
    group = torch.arange(n) % k
    p = torch.where(group[:, None] == group[None], 0.25, 0.01)
    edges = torch.triu(torch.rand(n, n, generator=g) < p, 1).nonzero()
    edges = edges[torch.randperm(len(edges), generator=g)]
    cut = int(0.85 * len(edges))
    train_e, val_e = edges[:cut], edges[cut:]
    known = set(map(tuple, edges.tolist()))

    def non_edges(m):
        out = []
        while len(out) < m:
            a, b = sorted(torch.randint(0, n, (2,)).tolist())
            if a != b and (a, b) not in known:
                out.append((a, b))
        return torch.tensor(out)

    class SAGE(nn.Module):
        def __init__(self, d=32):
            super().__init__()
            self.x = nn.Embedding(n, d)
            self.self1, self.nb1 = nn.Linear(d, d), nn.Linear(d, d, bias=False)
            self.self2, self.nb2 = nn.Linear(d, d), nn.Linear(d, d, bias=False)

        def forward(self, e):
            both = torch.cat([e, e.flip(1)])
            a = torch.zeros(n, n).index_put((both[:, 0], both[:, 1]), torch.tensor(1.0))
            a = a / a.sum(1, keepdim=True).clamp_min(1)
            h = F.relu(self.self1(self.x.weight) + self.nb1(a @ self.x.weight))
            return self.self2(h) + self.nb2(a @ h)

    model = SAGE()
    opt = torch.optim.Adam(model.parameters(), lr=5e-3, weight_decay=1e-3)
    watcher = watch(model, opt)
    score = lambda z, e: (z[e[:, 0]] * z[e[:, 1]]).sum(1) / math.sqrt(32)
    val_neg = non_edges(len(val_e))
    for step in range(150):
        model.train()
        order = torch.randperm(cut)
        message, target = train_e[order[: cut // 2]], train_e[order[cut // 2 :]]
        z = model(message)
        neg = non_edges(len(target))
        s = torch.cat([score(z, target), score(z, neg)])
        labels = torch.cat([torch.ones(len(target)), torch.zeros(len(neg))])
        loss = F.binary_cross_entropy_with_logits(s, labels)
        opt.zero_grad()
        loss.backward()
        opt.step()
        watcher.step(loss)
        if step % 15 == 14:
            model.eval()
            with torch.no_grad():
                z = model(train_e)
                sp, sn = score(z, val_e), score(z, val_neg)
                auc = (sp[:, None] > sn[None]).float().mean().item()
                watcher.log(val_loss=(F.softplus(-sp).mean() + F.softplus(sn).mean()).item() / 2)
    return {"train_loss": loss.item(), "val_auc": auc}


@sound("survival analysis (Cox)")
def r6_cox_partial_likelihood_with_trainer_class(watch):
    """The loss compares patients inside a batch (risk sets), so samples are not independent; a Trainer class, censored data."""
    rng = np.random.default_rng(6)
    X = rng.normal(size=(1600, 10)).astype(np.float32)
    risk = 1.2 * X[:, 0] - 0.8 * X[:, 1] + np.where(X[:, 2] > 0, 0.9, -0.9)
    time, censor = rng.exponential(np.exp(-risk)), rng.exponential(2.0, 1600)
    rows = [
        torch.tensor(a)
        for a in (
            X,
            np.minimum(time, censor).astype(np.float32),
            (time <= censor).astype(np.float32),
        )
    ]

    def cox_loss(log_risk, t, event):
        order = torch.argsort(t, descending=True)
        lr, ev = log_risk[order], event[order]
        return -((lr - torch.logcumsumexp(lr, 0)) * ev).sum() / ev.sum().clamp_min(1)

    class Trainer:
        def __init__(self, model, lr, watch):
            self.model = model
            self.opt = torch.optim.Adam(model.parameters(), lr=lr, weight_decay=1e-4)
            self.watcher = watch(model, self.opt)

        def fit(self, train, val, epochs):
            for _ in range(epochs):
                self.model.train()
                for x, t, e in train:
                    self.loss = cox_loss(self.model(x).squeeze(1), t, e)
                    self.opt.zero_grad(set_to_none=True)
                    self.loss.backward()
                    self.opt.step()
                    self.watcher.step(self.loss)
                self.watcher.log(val_loss=self.evaluate(*val)[0])
            return self

        @torch.no_grad()
        def evaluate(self, x, t, e):
            self.model.eval()
            s = self.model(x).squeeze(1)
            comparable = (t[:, None] < t[None]) & (e[:, None] > 0)
            return cox_loss(s, t, e).item(), (s[:, None] > s[None])[
                comparable
            ].float().mean().item()

    net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 1))
    loader = DataLoader(
        TensorDataset(*[r[:1200] for r in rows]), batch_size=100, shuffle=True, drop_last=True
    )
    val = [r[1200:] for r in rows]
    trainer = Trainer(net, 5e-3, watch).fit(loader, val, 20)
    return {"train_loss": trainer.loss.item(), "val_c_index": trainer.evaluate(*val)[1]}


@sound("detection (grid cells), several losses")
def r6_grid_detector_masked_box_loss(watch):
    """One-stage detector: objectness on all cells (few positives, weighted), box offsets only where an object is; AdamW, bf16 autocast, accumulation of two."""

    class Scenes(Dataset):
        def __init__(self, n, seed):
            g = torch.Generator().manual_seed(seed)
            self.img = 0.2 * torch.randn(n, 1, 24, 24, generator=g)
            self.obj, self.box = torch.zeros(n, 6, 6), torch.zeros(n, 4, 6, 6)
            for i in range(n):
                for _ in range(int(torch.randint(1, 4, (), generator=g))):
                    cx, cy = (torch.rand(2, generator=g) * 18 + 3).tolist()
                    w, h = (torch.rand(2, generator=g) * 3 + 2).tolist()
                    self.img[
                        i,
                        0,
                        int(cy - h / 2) : int(cy + h / 2) + 1,
                        int(cx - w / 2) : int(cx + w / 2) + 1,
                    ] += 1.0
                    r, c = int(cy // 4), int(cx // 4)
                    self.obj[i, r, c] = 1
                    self.box[i, :, r, c] = torch.tensor([cx / 4 - c, cy / 4 - r, w / 6, h / 6])

        def __len__(self):
            return len(self.img)

        def __getitem__(self, i):
            return self.img[i], {"obj": self.obj[i], "box": self.box[i]}

    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(1, 16, 3, 2, 1),
                nn.GroupNorm(4, 16),
                nn.ReLU(),
                nn.Conv2d(16, 32, 3, 2, 1),
                nn.GroupNorm(4, 32),
                nn.ReLU(),
                nn.Conv2d(32, 32, 3, padding=1),
                nn.ReLU(),
            )
            self.obj, self.box = nn.Conv2d(32, 1, 1), nn.Conv2d(32, 4, 1)
            nn.init.constant_(self.obj.bias, -2.5)

        def forward(self, x):
            f = self.body(x)
            return self.obj(f).squeeze(1), self.box(f).sigmoid()

    def losses(out, tgt):
        o, b = out[0].float(), out[1].float()
        cls = F.binary_cross_entropy_with_logits(o, tgt["obj"], pos_weight=torch.tensor(4.0))
        m = tgt["obj"].unsqueeze(1)
        return cls, (F.smooth_l1_loss(b, tgt["box"], reduction="none", beta=0.1) * m).sum() / (
            4 * m.sum()
        ).clamp_min(1)

    train, test = DataLoader(Scenes(800, 0), batch_size=16, shuffle=True), Scenes(200, 1)
    model = Detector()
    opt = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=1e-3)
    watcher = watch(model, opt)
    for _epoch in range(12):
        model.train()
        for i, (x, tgt) in enumerate(train):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                out = model(x)
            cls, box = losses(out, tgt)
            loss = cls + 2.0 * box
            (loss / 2).backward()
            if i % 2 == 1:
                opt.step()
                opt.zero_grad()
                watcher.step(loss)
        model.eval()
        with torch.no_grad():
            out = model(test.img)
            cls, box = losses(out, {"obj": test.obj, "box": test.box})
        watcher.log(val_loss=(cls + 2 * box).item())
    hit = (out[0] > 0) & (test.obj > 0)
    f1 = (2 * hit.sum() / ((out[0] > 0).sum() + test.obj.sum())).item()
    off = ((out[1] - test.box).abs() * test.obj.unsqueeze(1)).sum().item() / (
        4 * test.obj.sum().item()
    )
    return {"val_objectness_f1": f1, "mean_box_error": off}
