"""Round 3: mixtures of experts, recommenders, masked LMs, video, keypoints, hypernetworks, federated and self-training, dynamics, retrieval, own RNN cells."""

import copy
import math
from collections import Counter, OrderedDict, defaultdict, deque
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.func import functional_call
from torch.utils.data import DataLoader, Dataset, TensorDataset

from benchmarks.first_sight.programs import faulty, sound


def _digit_images():
    """The 8x8 digits as (1797, 1, 8, 8) in [-1, 1], in a fixed random order, and their labels."""
    data = load_digits()
    order = np.random.RandomState(0).permutation(len(data.target))
    images = torch.tensor(data.images[order], dtype=torch.float32).unsqueeze(1) / 8.0 - 1.0
    return images, torch.tensor(data.target[order])


# ------------------------------------------------------------------ faulty


@faulty(
    "mixture of experts",
    fault="the gate weight of the single chosen expert is normalised by its own sum, so it is always 1 and the router gets no gradient at all",
    source="databricks/megablocks pull 87 and NVIDIA/Megatron-LM issue 1593 (norm_topk_prob with top-1 routing)",
)
def r3_moe_top1_gate_renormalised(watch, fixed):
    """Sparse mixture of experts on a piecewise linear regression, built from a config registry. Exact: its gradient is zero but for rounding (which Adam turns into a tiny drift)."""
    registry = {}

    def register(name):
        def add(cls):
            registry[name] = cls
            return cls

        return add

    @register("expert_mlp")
    class ExpertMLP(nn.Module):
        def __init__(self, dim, hidden, out):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, out))

        def forward(self, x):
            return self.net(x)

    @register("sparse_moe")
    class SparseMoE(nn.Module):
        def __init__(self, dim, out, experts, top_k, norm_topk_prob, expert):
            super().__init__()
            self.router = nn.Linear(dim, experts)
            kind = registry[expert["type"]]
            self.experts = nn.ModuleList([kind(dim, expert["hidden"], out) for _ in range(experts)])
            self.top_k, self.norm = top_k, norm_topk_prob

        def forward(self, x):
            probs = self.router(x).softmax(dim=-1)
            weight, chosen = probs.topk(self.top_k, dim=-1)
            if self.norm:
                weight = weight / weight.sum(dim=-1, keepdim=True)
            result = x.new_zeros(len(x), self.experts[0].net[-1].out_features)
            for e, expert in enumerate(self.experts):
                row, slot = torch.where(chosen == e)
                if len(row):
                    result.index_add_(0, row, weight[row, slot, None] * expert(x[row]))
            return result

    cfg = {
        "model": {
            "type": "sparse_moe",
            "dim": 10,
            "out": 2,
            "experts": 4,
            "top_k": 1,
            "norm_topk_prob": not fixed,
            "expert": {"type": "expert_mlp", "hidden": 12},
        },
        "optim": {"type": "AdamW", "lr": 1e-2, "weight_decay": 0.0},
        "epochs": 14,
    }
    gen = torch.Generator().manual_seed(1)
    maps = torch.randn(4, 8, 2, generator=gen) / math.sqrt(8)

    def draw(n):
        x = torch.randn(n, 10, generator=gen)
        sector = ((torch.atan2(x[:, 1], x[:, 0]) + math.pi) / (2 * math.pi) * 4).long().clamp(max=3)
        y = torch.einsum("nd,ndo->no", x[:, 2:], maps[sector])
        return TensorDataset(x, y + 0.05 * torch.randn(n, 2, generator=gen))

    train_loader = DataLoader(draw(3200), batch_size=64, shuffle=True)
    val_loader = DataLoader(draw(800), batch_size=200)
    args = dict(cfg["model"])
    model = registry[args.pop("type")](**args)
    opt_args = dict(cfg["optim"])
    optimizer = getattr(torch.optim, opt_args.pop("type"))(model.parameters(), **opt_args)
    loss_fn = nn.MSELoss()
    start = model.router.weight.detach().clone()
    watcher = watch(model, optimizer, loss_fn=loss_fn, train=train_loader, val=val_loader)
    for _ in range(cfg["epochs"]):
        model.train()
        total = 0.0
        for x, y in train_loader:
            loss = loss_fn(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() / len(train_loader)
            watcher.step(loss, batch=(x, y))
        model.eval()
        with torch.no_grad():
            val = sum(loss_fn(model(x), y).item() for x, y in val_loader) / len(val_loader)
        watcher.log(val_loss=val)
    return {
        "train_loss": total,
        "val_loss": val,
        "router_moved": (model.router.weight - start).abs().max().item(),
    }


@faulty(
    "recommender with implicit feedback",
    fault="user and item names are turned into numbers separately for the training and the validation split, so the same number means another item",
    source="own experience (LabelEncoder fitted again on the test file)",
)
def r3_recommender_ids_encoded_per_split(watch, fixed):
    """NeuMF-like model with sampled negatives. The model trains well; the validation looks at the wrong items and ranks at chance."""
    rng = np.random.RandomState(0)
    users, items, dim = 180, 260, 5
    taste, style = rng.randn(users, dim), rng.randn(items, dim)
    affinity = taste @ style.T + 0.5 * rng.randn(users, items)
    rows = []
    for u in range(users):
        liked = rng.permutation(np.argsort(-affinity[u])[:32])
        rows += [(f"user{u:03d}", f"film{i:03d}", n < 2) for n, i in enumerate(liked)]
    train_rows = [(u, i) for u, i, held in rows if not held]
    val_rows = [(u, i) for u, i, held in rows if held]

    def encode(pairs):
        names_u = {n: k for k, n in enumerate(sorted({u for u, _ in pairs}))}
        names_i = {n: k for k, n in enumerate(sorted({i for _, i in pairs}))}
        return names_u, names_i

    user_code, item_code = encode(train_rows)
    train_pairs = np.array([(user_code[u], item_code[i]) for u, i in train_rows])
    if not fixed:
        user_code, item_code = encode(val_rows)
    val_pairs = np.array([(user_code[u], item_code[i]) for u, i in val_rows if i in item_code])
    seen = {tuple(p) for p in train_pairs} | {tuple(p) for p in val_pairs}
    n_items = train_pairs[:, 1].max() + 1

    def with_negatives(pairs, ratio, generator):
        out = [(u, i, 1.0) for u, i in pairs]
        for u, _ in pairs:
            for _ in range(ratio):
                j = generator.randint(n_items)
                while (u, j) in seen:
                    j = generator.randint(n_items)
                out.append((u, j, 0.0))
        out = np.array(out)
        return TensorDataset(
            torch.tensor(out[:, 0]).long(),
            torch.tensor(out[:, 1]).long(),
            torch.tensor(out[:, 2]).float(),
        )

    class NeuMF(nn.Module):
        def __init__(self, n_users, n_items, d):
            super().__init__()
            self.user_mf, self.item_mf = nn.Embedding(n_users, d), nn.Embedding(n_items, d)
            self.user_mlp, self.item_mlp = nn.Embedding(n_users, d), nn.Embedding(n_items, d)
            self.mlp = nn.Sequential(nn.Linear(2 * d, 32), nn.ReLU(), nn.Linear(32, 8), nn.ReLU())
            self.out = nn.Linear(8 + d, 1)
            for table in (self.user_mf, self.item_mf, self.user_mlp, self.item_mlp):
                nn.init.normal_(table.weight, std=0.3)

        def forward(self, u, i):
            deep = self.mlp(torch.cat([self.user_mlp(u), self.item_mlp(i)], dim=1))
            return self.out(torch.cat([self.user_mf(u) * self.item_mf(i), deep], dim=1)).squeeze(1)

    model = NeuMF(users, n_items, 8)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, weight_decay=1e-5)
    criterion = nn.BCEWithLogitsLoss()
    val_loader = DataLoader(with_negatives(val_pairs, 3, np.random.RandomState(9)), batch_size=512)
    watcher = watch(model, optimizer, loss_fn=criterion)
    for epoch in range(9):
        train_loader = DataLoader(with_negatives(train_pairs, 3, rng), batch_size=256, shuffle=True)
        model.train()
        losses = []
        for u, i, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(u, i), y)
            loss.backward()
            optimizer.step()
            watcher.step(loss)
            losses.append(loss.item())
        model.eval()
        with torch.no_grad():
            score = torch.cat([model(u, i) for u, i, _ in val_loader])
            label = torch.cat([y for _, _, y in val_loader])
        val_loss = criterion(score, label).item()
        watcher.log(
            val_loss=val_loss, val_accuracy=((score > 0) == (label > 0.5)).float().mean().item()
        )
    return {
        "train_loss": float(np.mean(losses)),
        "val_loss": val_loss,
        "val_auc": float(roc_auc_score(label.numpy(), score.numpy())),
    }


@faulty(
    "masked language model",
    fault="the labels are set to -100 at the masked places instead of everywhere else, so the loss asks only for the words that can be read from the input",
    source="huggingface/transformers issue 2946 (which labels become -100)",
)
def r3_masked_lm_labels_ignored_at_masks(watch, fixed):
    """BERT-like encoder with an accelerate-like wrapper. The loss goes to zero by copying; masked words are guessed at chance."""

    class Accelerator:
        """A tiny stand-in: prepares objects, does backward with clipping."""

        def prepare(self, *objects):
            return objects

        def backward(self, loss):
            loss.backward()

        def clip_grad_norm_(self, parameters, value):
            return nn.utils.clip_grad_norm_(parameters, value)

    vocab, mask_id, length = 32, 31, 20
    gen = torch.Generator().manual_seed(3)
    follow = torch.randperm(vocab - 1, generator=gen)

    def sentences(n):
        words = torch.randint(vocab - 1, (n, length), generator=gen)
        for t in range(1, length):
            keep = torch.rand(n, generator=gen) < 0.93
            words[:, t] = torch.where(keep, follow[words[:, t - 1]], words[:, t])
        return words

    def mask_tokens(words):
        inputs, labels = words.clone(), words.clone()
        masked = torch.rand(words.shape, generator=gen) < 0.15
        if fixed:
            labels[~masked] = -100
        else:
            labels[masked] = -100
        replaced = masked & (torch.rand(words.shape, generator=gen) < 0.9)
        inputs[replaced] = mask_id
        return {"input_ids": inputs, "labels": labels}

    def collate(rows):
        return mask_tokens(torch.stack(rows))

    class TinyBert(nn.Module):
        def __init__(self, d=48):
            super().__init__()
            self.word, self.place = nn.Embedding(vocab, d), nn.Embedding(length, d)
            layer = nn.TransformerEncoderLayer(
                d, 4, 96, dropout=0.0, batch_first=True, norm_first=True, activation="gelu"
            )
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.norm, self.decoder = nn.LayerNorm(d), nn.Linear(d, vocab)

        def forward(self, input_ids, labels=None):
            h = self.word(input_ids) + self.place(torch.arange(input_ids.shape[1]))
            logits = self.decoder(self.norm(self.encoder(h)))
            loss = None
            if labels is not None:
                loss = F.cross_entropy(logits.view(-1, vocab), labels.view(-1), ignore_index=-100)
            return SimpleNamespace(loss=loss, logits=logits)

    accelerator = Accelerator()
    model = TinyBert()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    train_loader = DataLoader(
        list(sentences(1920)), batch_size=48, shuffle=True, collate_fn=collate
    )
    val_loader = DataLoader(list(sentences(240)), batch_size=120, collate_fn=collate)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=4e-3, total_steps=8 * len(train_loader), pct_start=0.15
    )
    model, optimizer, train_loader, val_loader, scheduler = accelerator.prepare(
        model, optimizer, train_loader, val_loader, scheduler
    )
    watcher = watch(model, optimizer, scheduler=scheduler, train=train_loader, val=val_loader)
    for _ in range(8):
        model.train()
        for batch in train_loader:
            loss = model(**batch).loss
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            watcher.step(loss, batch=batch)
        model.eval()
        with torch.no_grad():
            val_loss = float(np.mean([model(**batch).loss.item() for batch in val_loader]))
        watcher.log(val_loss=val_loss)
    words = sentences(300)
    hidden = torch.rand(words.shape, generator=gen) < 0.15
    with torch.no_grad():
        guess = model(words.masked_fill(hidden, mask_id)).logits.argmax(-1)
    return {
        "train_loss": loss.item(),
        "val_loss": val_loss,
        "masked_word_accuracy": (guess == words)[hidden].float().mean().item(),
    }


@faulty(
    "video classification",
    fault="clips are mirrored at random as augmentation although the classes are directions (swipe left and swipe right), and the label is kept",
    source="arunos728/MotionSqueeze issue 1; open-mmlab/mmaction2 issue 590",
)
def r3_video_mirrored_gestures(watch, fixed):
    """A small 3-D ConvNet on six gestures, timm-like train_one_epoch. Left and right swipes can never be told apart."""

    class Gestures(Dataset):
        """0 left, 1 right, 2 up, 3 down, 4 grow, 5 shrink: a soft disc of random size, place, speed and brightness."""

        def __init__(self, n, seed, train):
            rng = np.random.RandomState(seed)
            grid = np.arange(16)
            self.clips, self.labels = [], rng.randint(6, size=n)
            for label in self.labels:
                speed, size = rng.uniform(0.8, 1.4), rng.uniform(2.0, 3.5)
                cx, cy = rng.uniform(6, 9, size=2)
                frames = []
                for t in range(6):
                    dx = (label == 1) * 1.0 - (label == 0) * 1.0
                    dy = (label == 3) * 1.0 - (label == 2) * 1.0
                    r = size + ((label == 4) * 1.0 - (label == 5) * 1.0) * 0.45 * (t - 2.5)
                    px, py = cx + dx * speed * (t - 2.5), cy + dy * speed * (t - 2.5)
                    far = np.sqrt((grid[None] - px) ** 2 + (grid[:, None] - py) ** 2)
                    frames.append(1 / (1 + np.exp(2 * (far - max(r, 0.7)))))
                clip = rng.uniform(0.7, 1.3) * np.stack(frames) + 0.1 * rng.randn(6, 16, 16)
                self.clips.append(
                    torch.tensor((clip - 0.2) / 0.35, dtype=torch.float32).unsqueeze(0)
                )
            self.train = train

        def __len__(self):
            return len(self.labels)

        def __getitem__(self, index):
            clip = self.clips[index]
            if self.train:
                clip = torch.roll(clip, tuple(torch.randint(-1, 2, (2,)).tolist()), dims=(2, 3))
                if not fixed and torch.rand(1) < 0.5:
                    clip = clip.flip(-1)
            return clip, int(self.labels[index])

    def block(cin, cout, stride):
        return nn.Sequential(
            nn.Conv3d(cin, cout, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm3d(cout),
            nn.ReLU(inplace=True),
        )

    model = nn.Sequential(
        block(1, 8, (1, 2, 2)),
        block(8, 16, (2, 2, 2)),
        block(16, 24, 1),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(24, 6),
    )
    args = SimpleNamespace(epochs=9, batch_size=32, lr=4e-3, weight_decay=0.02)
    train_loader = DataLoader(Gestures(640, 0, True), args.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(Gestures(240, 1, False), 120)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.05)
    watcher = watch(
        model,
        optimizer,
        loss_fn=criterion,
        num_classes=6,
        train=train_loader,
        val=val_loader,
        scheduler=scheduler,
    )

    def train_one_epoch():
        model.train()
        meter = [0.0, 0]
        for clip, target in train_loader:
            output = model(clip)
            loss = criterion(output, target)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(clip, target))
            meter[0] += loss.item() * len(target)
            meter[1] += len(target)
        return meter[0] / meter[1]

    @torch.no_grad()
    def validate():
        model.eval()
        out = torch.cat([model(c) for c, _ in val_loader])
        target = torch.cat([t for _, t in val_loader])
        side = target < 2
        right = out.argmax(1) == target
        return (
            F.cross_entropy(out, target).item(),
            right.float().mean().item(),
            right[side].float().mean().item(),
        )

    for _ in range(args.epochs):
        train_loss = train_one_epoch()
        scheduler.step()
        val_loss, accuracy, sideways = validate()
        watcher.log(val_loss=val_loss, val_accuracy=accuracy)
    return {"train_loss": train_loss, "val_accuracy": accuracy, "left_right_accuracy": sideways}


@faulty(
    "keypoint regression",
    fault="the soft-argmax grid comes from meshgrid with matrix indexing, so predicted (row, column) is compared with true (x, y)",
    source="tlpss/keypoint-detection issue 7 (xx, yy swapped in meshgrid)",
)
def r3_keypoints_soft_argmax_axes_swapped(watch, fixed):
    """Fully convolutional heatmaps and soft-argmax; a torchvision-reference-like loop with a metric logger. A ConvNet cannot transpose its image: the error stays near that of a constant."""

    class SmoothedValue:
        def __init__(self, window=20):
            self.values = deque(maxlen=window)

        def update(self, value):
            self.values.append(value)

        @property
        def avg(self):
            return sum(self.values) / len(self.values)

    class MetricLogger:
        def __init__(self):
            self.meters = defaultdict(SmoothedValue)

        def update(self, **values):
            for name, value in values.items():
                self.meters[name].update(value)

        def log_every(self, iterable):
            yield from iterable

    size = 20

    class Marks(Dataset):
        """An upright bar, a flat bar and a cross, each somewhere in the picture; targets in [-1, 1] as (x, y)."""

        def __init__(self, n, seed):
            gen = torch.Generator().manual_seed(seed)
            self.at = torch.randint(3, size - 3, (n, 3, 2), generator=gen)
            self.noise = 0.1 * torch.randn(n, 1, size, size, generator=gen)

        def __len__(self):
            return len(self.at)

        def __getitem__(self, index):
            image = self.noise[index].clone()
            (x0, y0), (x1, y1), (x2, y2) = self.at[index].tolist()
            image[0, y0 - 2 : y0 + 3, x0] += 1.0
            image[0, y1, x1 - 2 : x1 + 3] += 1.0
            image[0, y2 - 1 : y2 + 2, x2] += 1.0
            image[0, y2, x2 - 1 : x2 + 2] += 1.0
            return image, {"keypoints": self.at[index].float() / (size - 1) * 2 - 1}

    class SoftArgmaxNet(nn.Module):
        def __init__(self, points=3):
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(1, 16, 5, padding=2),
                nn.ReLU(),
                nn.Conv2d(16, 16, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(16, points, 3, padding=1),
            )
            line = torch.linspace(-1, 1, size)
            xx, yy = torch.meshgrid(line, line, indexing="xy" if fixed else "ij")
            self.register_buffer("xx", xx.contiguous())
            self.register_buffer("yy", yy.contiguous())

        def forward(self, image):
            heat = self.body(image).flatten(2).softmax(dim=-1)
            x = (heat * self.xx.flatten()).sum(-1)
            y = (heat * self.yy.flatten()).sum(-1)
            return torch.stack([x, y], dim=-1)

    model = SoftArgmaxNet()
    criterion = nn.SmoothL1Loss(beta=0.1)
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    epochs, batch = 10, 32
    train_loader = DataLoader(Marks(800, 0), batch, shuffle=True)
    val_loader = DataLoader(Marks(200, 1), 100)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[8], gamma=0.2)
    watcher = watch(model, optimizer, loss_fn=criterion, scheduler=scheduler)

    def train_one_epoch(logger):
        model.train()
        for image, target in logger.log_every(train_loader):
            output = model(image)
            loss = criterion(output, target["keypoints"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss)
            logger.update(loss=loss.item(), lr=optimizer.param_groups[0]["lr"])

    def evaluate():
        model.eval()
        error, losses = [], []
        with torch.inference_mode():
            for image, target in val_loader:
                out = model(image)
                losses.append(criterion(out, target["keypoints"]).item())
                error.append(
                    (out - target["keypoints"]).norm(dim=-1).mean().item() * (size - 1) / 2
                )
        return float(np.mean(losses)), float(np.mean(error))

    logger = MetricLogger()
    for _ in range(epochs):
        train_one_epoch(logger)
        scheduler.step()
        val_loss, pixels = evaluate()
        watcher.log(val_loss=val_loss)
    return {
        "train_loss": logger.meters["loss"].avg,
        "val_loss": val_loss,
        "mean_error_pixels": pixels,
    }


@faulty(
    "hypernetwork",
    fault="the generated weights are written into the target network with vector_to_parameters, which sets .data and cuts the graph, so the hypernetwork gets no gradient",
    source="own experience; torch.nn.utils.vector_to_parameters assigns param.data",
)
def r3_hypernetwork_vector_to_parameters(watch, fixed):
    """A hypernetwork maps (stiffness, damping) to the weights of a small net of time. Exact: nothing is ever trained when faulty."""
    target = nn.Sequential(
        OrderedDict(
            l1=nn.Linear(1, 16),
            act1=nn.Tanh(),
            l2=nn.Linear(16, 16),
            act2=nn.Tanh(),
            l3=nn.Linear(16, 1),
        )
    )
    shapes = {name: p.shape for name, p in target.named_parameters()}
    count = sum(s.numel() for s in shapes.values())

    class HyperNetwork(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
            self.head = nn.Linear(64, count)
            nn.init.normal_(self.head.weight, std=0.02)
            with torch.no_grad():
                self.head.bias.copy_(nn.utils.parameters_to_vector(target.parameters()))

        def forward(self, condition):
            return self.head(self.trunk(condition))

    def unflatten(vector):
        out, at = {}, 0
        for name, shape in shapes.items():
            out[name] = vector[at : at + shape.numel()].view(shape)
            at += shape.numel()
        return out

    def apply(vector, t):
        if fixed:
            return functional_call(target, unflatten(vector), (t,))
        nn.utils.vector_to_parameters(vector, target.parameters())
        return target(t)

    def oscillator(condition, t):
        stiffness, damping = 3.0 + condition[0], 0.6 + 0.3 * condition[1]
        return torch.exp(-damping * (t + 1)) * torch.cos(stiffness * (t + 1))

    hyper = HyperNetwork()
    optimizer = torch.optim.Adam(hyper.parameters(), lr=2e-3)
    before = nn.utils.parameters_to_vector(hyper.parameters()).detach().clone()
    gen = torch.Generator().manual_seed(2)
    test_conditions = torch.rand(24, 2, generator=gen) * 2 - 1
    t_test = torch.linspace(-1, 1, 40).unsqueeze(1)
    watcher = watch(hyper, optimizer)
    history = []
    for step in range(300):
        conditions = torch.rand(8, 2, generator=gen) * 2 - 1
        optimizer.zero_grad()
        total = 0.0
        for condition in conditions:
            t = torch.rand(32, 1, generator=gen) * 2 - 1
            loss = F.mse_loss(apply(hyper(condition), t), oscillator(condition, t)) / len(
                conditions
            )
            loss.backward()
            total = total + loss.detach()
        optimizer.step()
        watcher.step(total)
        history.append(total.item())
    with torch.no_grad():
        test = np.mean(
            [
                F.mse_loss(apply(hyper(c), t_test), oscillator(c, t_test)).item()
                for c in test_conditions
            ]
        )
    moved = (nn.utils.parameters_to_vector(hyper.parameters()) - before).abs().max().item()
    return {
        "first_losses": float(np.mean(history[:20])),
        "last_losses": float(np.mean(history[-20:])),
        "test_mse": float(test),
        "hyper_moved": moved,
    }


@faulty(
    "federated averaging",
    fault="client weights are kept as state_dict() without a copy; all are references to the one live model, so nothing is averaged and the last client wins",
    source="joneswong.github.io pytorch mistakes (state_dict is a shallow copy)",
)
def r3_fedavg_state_dicts_not_copied(watch, fixed):
    """Five hospitals with four kinds of digit each, local SGD, FedAvg. Faulty: clients simply train one after another and the model forgets the earlier ones."""
    x, y = _digit_images()
    x = x.flatten(1)
    x_train, y_train, x_test, y_test = x[:1400], y[:1400], x[1400:], y[1400:]

    def snapshot(model):
        weights = model.state_dict()
        return copy.deepcopy(weights) if fixed else weights

    class Client:
        def __init__(self, number):
            first, second = y_train // 2, (y_train // 2 + 1) % 5
            owner = torch.where(torch.arange(len(y_train)) % 2 == 0, first, second)
            rows = (owner == number).nonzero().squeeze(1)
            self.loader = DataLoader(
                TensorDataset(x_train[rows], y_train[rows]), batch_size=28, shuffle=True
            )
            self.size = len(rows)

        def fit(self, model, optimizer, watcher):
            model.train()
            for _ in range(6):
                for xb, yb in self.loader:
                    optimizer.zero_grad()
                    loss = F.cross_entropy(model(xb), yb)
                    loss.backward()
                    optimizer.step()
                    watcher.step(loss)
            return snapshot(model)

    class Server:
        def __init__(self, model, clients):
            self.model, self.clients = model, clients

        def round(self, optimizer, watcher):
            start = snapshot(self.model)
            results = []
            for client in self.clients:
                self.model.load_state_dict(start)
                results.append((client.size, client.fit(self.model, optimizer, watcher)))
            total = sum(n for n, _ in results)
            mean = {k: sum(n / total * w[k] for n, w in results) for k in start}
            self.model.load_state_dict(mean)

        @torch.no_grad()
        def evaluate(self):
            self.model.eval()
            out = self.model(x_test)
            return F.cross_entropy(out, y_test).item(), (
                out.argmax(1) == y_test
            ).float().mean().item()

    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    server = Server(model, [Client(k) for k in range(5)])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watcher = watch(model, optimizer, num_classes=10)
    for _ in range(10):
        server.round(optimizer, watcher)
        val_loss, val_accuracy = server.evaluate()
        watcher.log(val_loss=val_loss, val_accuracy=val_accuracy)
    return {"val_loss": val_loss, "val_accuracy": val_accuracy}


@faulty(
    "self-training with pseudo-labels",
    fault="the teacher's predictions are collected through a shuffled loader and then joined to the unlabelled images in stored order",
)
def r3_pseudo_labels_from_shuffled_loader(watch, fixed):
    """Teacher on 150 labelled digits, student on pseudo-labels of the other 1100. The student learns from labels of other images."""
    x, y = _digit_images()
    labelled = TensorDataset(x[:150], y[:150])
    unlabelled = x[150:1250]
    val_x, val_y = x[1250:], y[1250:]

    def make_net():
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(512, 10),
        )

    def fit(net, loader, epochs, lr):
        optimizer = torch.optim.Adam(net.parameters(), lr=lr)
        watcher = watch(net, optimizer, loss_fn=nn.CrossEntropyLoss(), num_classes=10, train=loader)
        for _ in range(epochs):
            net.train()
            seen = 0.0
            for xb, yb in loader:
                shifted = torch.roll(xb, int(torch.randint(-1, 2, (1,))), dims=3)
                loss = F.cross_entropy(net(shifted), yb)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watcher.step(loss, batch=(xb, yb))
                seen += loss.item() / len(loader)
            loss_val, acc_val = score(net)
            watcher.log(val_loss=loss_val, val_accuracy=acc_val)
        return seen

    @torch.no_grad()
    def score(net):
        net.eval()
        out = net(val_x)
        return F.cross_entropy(out, val_y).item(), (out.argmax(1) == val_y).float().mean().item()

    @torch.no_grad()
    def pseudo_labels(net):
        net.eval()
        loader = DataLoader(TensorDataset(unlabelled), batch_size=110, shuffle=not fixed)
        return torch.cat([net(xb).softmax(1) for (xb,) in loader]).max(dim=1)

    teacher = make_net()
    fit(teacher, DataLoader(labelled, batch_size=25, shuffle=True), 20, 2e-3)
    teacher_accuracy = score(teacher)[1]
    confidence, guess = pseudo_labels(teacher)
    sure = confidence > 0.8
    both = TensorDataset(torch.cat([x[:150], unlabelled[sure]]), torch.cat([y[:150], guess[sure]]))
    student = make_net()
    train_loss = fit(student, DataLoader(both, batch_size=50, shuffle=True), 10, 2e-3)
    return {
        "teacher_accuracy": teacher_accuracy,
        "student_train_loss": train_loss,
        "student_accuracy": score(student)[1],
    }


@faulty(
    "dynamics model",
    fault="the loss sums squared errors of raw targets whose units differ by a factor of a thousand, so the pressure is learned and angle and speed are neglected",
    source="own experience (model-based control: next-state deltas not normalised)",
)
def r3_dynamics_targets_in_raw_units(watch, fixed):
    """Learn the change of state of a valve on a tank, as in model-based control. Inputs are standardised in both forms; only the fixed form standardises the targets."""
    gen = torch.Generator().manual_seed(5)

    def simulate(episodes, steps=40):
        angle = torch.rand(episodes, generator=gen) * 2 - 1
        speed = 0.5 * torch.randn(episodes, generator=gen)
        pressure = 900 + 150 * torch.randn(episodes, generator=gen)
        rows = []
        for _ in range(steps):
            torque = torch.rand(episodes, generator=gen) * 2 - 1
            now = torch.stack([angle, speed, pressure], dim=1)
            acceleration = -2.0 * torch.sin(2 * angle) - 0.4 * speed + 2.0 * torque
            flow = 120 * torch.tanh(2 * angle) - 0.12 * (pressure - 900)
            angle, speed, pressure = (
                angle + 0.08 * speed,
                speed + 0.08 * acceleration,
                pressure + flow,
            )
            after = torch.stack([angle, speed, pressure], dim=1)
            rows.append((now, torque[:, None], after))
        now, torque, after = (torch.cat(part) for part in zip(*rows, strict=True))
        return torch.cat([now, torque], dim=1), after - now

    x_train, d_train = simulate(80)
    x_val, d_val = simulate(20)
    mean, std = x_train.mean(0), x_train.std(0)
    x_train, x_val = (x_train - mean) / std, (x_val - mean) / std
    if fixed:
        shift, scale = d_train.mean(0), d_train.std(0)
    else:
        shift, scale = torch.zeros(3), torch.ones(3)

    class Dynamics(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(
                nn.Linear(4, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 3)
            )

        def forward(self, state_action):
            return self.net(state_action)

        def step(self, state_action):
            return self.net(state_action) * scale + shift

    model = Dynamics()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    train_loader = DataLoader(
        TensorDataset(x_train, (d_train - shift) / scale), batch_size=64, shuffle=True
    )
    val_loader = DataLoader(TensorDataset(x_val, (d_val - shift) / scale), batch_size=400)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.85)
    watcher = watch(
        model,
        optimizer,
        loss_fn=F.mse_loss,
        task="regression",
        train=train_loader,
        val=val_loader,
        scheduler=scheduler,
    )
    for _ in range(14):
        model.train()
        for x, target in train_loader:
            loss = F.mse_loss(model(x), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(x, target))
        scheduler.step()
        model.eval()
        with torch.no_grad():
            watcher.log(
                val_loss=float(np.mean([F.mse_loss(model(x), t).item() for x, t in val_loader]))
            )
    with torch.no_grad():
        r2 = 1 - (model.step(x_val) - d_val).pow(2).mean(0) / d_val.var(0)
    return {"angle_r2": r2[0].item(), "speed_r2": r2[1].item(), "pressure_r2": r2[2].item()}


@faulty(
    "sequence labelling with class weights",
    fault="the class weights are in the order in which Counter lists the tags (most common first), not in the order of the tag numbers, so the rarest tag's weight goes to the common tag",
    source="amanshenoy/multilogue-net issue 21 (order of loss weights)",
)
def r3_tagger_class_weights_in_counter_order(watch, fixed):
    """A BiGRU tagger for names whose tokens are often ambiguous; inverse-frequency weights should raise the recall of the rare tags, and here they ruin it."""
    tags = ["B-LOC", "B-PER", "I-LOC", "I-PER", "O"]
    tag_id = {t: i for i, t in enumerate(tags)}
    rng = np.random.RandomState(4)

    def sentence():
        words, labels = [], []
        while len(words) < 16:
            draw = rng.rand()
            if draw < 0.10:
                words += [rng.choice([40, 41]), rng.randint(42, 50)]
                labels += ["B-PER", "I-PER"] if rng.rand() < 0.5 else ["O", "O"]
            elif draw < 0.13:
                words += [rng.choice([50, 51]), rng.randint(52, 60)]
                labels += ["B-LOC", "I-LOC"] if rng.rand() < 0.5 else ["O", "O"]
            else:
                words.append(rng.randint(0, 40))
                labels.append("O")
        return words[:16], labels[:16]

    def corpus(n):
        pairs = [sentence() for _ in range(n)]
        return torch.tensor([p[0] for p in pairs]), [p[1] for p in pairs]

    train_x, train_tags = corpus(1200)
    val_x, val_tags = corpus(300)
    train_y = torch.tensor([[tag_id[t] for t in row] for row in train_tags])
    val_y = torch.tensor([[tag_id[t] for t in row] for row in val_tags])
    counts = Counter(t for row in train_tags for t in row)
    total = sum(counts.values())
    if fixed:
        weights = torch.tensor([total / (len(tags) * counts[t]) for t in tags])
    else:
        weights = torch.tensor([total / (len(tags) * n) for _, n in counts.most_common()])

    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(60, 24)
            self.gru = nn.GRU(24, 32, batch_first=True, bidirectional=True)
            self.out = nn.Linear(64, len(tags))

        def forward(self, tokens):
            return self.out(self.gru(self.embed(tokens))[0])

    model = Tagger()
    criterion = nn.CrossEntropyLoss(weight=weights)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    train_loader = DataLoader(TensorDataset(train_x, train_y), batch_size=40, shuffle=True)

    def loss_fn(logits, labels):
        return criterion(logits.flatten(0, 1), labels.flatten())

    watcher = watch(model, optimizer, loss_fn=loss_fn, num_classes=len(tags), train=train_loader)
    for _ in range(6):
        model.train()
        for tokens, labels in train_loader:
            loss = loss_fn(model(tokens), labels)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            watcher.step(loss, batch=(tokens, labels))
        model.eval()
        with torch.no_grad():
            out = model(val_x)
        guess = out.argmax(-1)
        recall = [(guess[val_y == k] == k).float().mean().item() for k in range(len(tags))]
        watcher.log(val_loss=loss_fn(out, val_y).item(), macro_recall=float(np.mean(recall)))
    return {
        "val_loss": loss_fn(out, val_y).item(),
        "macro_recall": float(np.mean(recall)),
        "rare_tags_recall": float(np.mean(recall[:4])),
    }


@faulty(
    "image retrieval",
    fault="the proxies are parameters of the loss module, and the optimizer was given only the model's parameters, so the proxies stay at random places",
    source="sung-yeon-kim/Proxy-Anchor-CVPR2020 issue 25 (ProxyNCA parameters not optimized)",
)
def r3_retrieval_proxies_not_optimised(watch, fixed):
    """Metric learning with one proxy per class in a small embedding. Exact: the proxies never move; some start almost on top of each other."""
    x, y = _digit_images()

    class ProxyNCA(nn.Module):
        def __init__(self, classes, dim, scale=8.0):
            super().__init__()
            self.proxies = nn.Parameter(torch.randn(classes, dim))
            self.scale = scale

        def forward(self, embedding, label):
            cosine = F.normalize(embedding, dim=1) @ F.normalize(self.proxies, dim=1).t()
            return F.cross_entropy(self.scale * cosine, label)

    class EmbeddingNet(nn.Module):
        def __init__(self, dim):
            super().__init__()
            self.features = nn.Sequential(
                nn.Conv2d(1, 16, 3, padding=1),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Conv2d(16, 32, 3, padding=1),
                nn.ReLU(),
            )
            self.project = nn.Linear(32 * 16, dim)

        def forward(self, image):
            return self.project(self.features(image).flatten(1))

    dim = 3
    net, proxy_loss = EmbeddingNet(dim), ProxyNCA(10, dim)
    start = proxy_loss.proxies.detach().clone()
    groups = [{"params": net.parameters(), "lr": 2e-3}]
    if fixed:
        groups.append({"params": proxy_loss.parameters(), "lr": 2e-2})
    optimizer = torch.optim.Adam(groups)
    train_loader = DataLoader(TensorDataset(x[:1200], y[:1200]), batch_size=48, shuffle=True)

    @torch.no_grad()
    def recall_at_1():
        net.eval()
        query = F.normalize(net(x[1200:]), dim=1)
        similar = query @ query.t()
        similar.fill_diagonal_(-2)
        return (y[1200:][similar.argmax(1)] == y[1200:]).float().mean().item(), similar

    watcher = watch(net, optimizer, loss_fn=proxy_loss, train=train_loader)
    for _ in range(10):
        net.train()
        running = []
        for image, label in train_loader:
            loss = proxy_loss(net(image), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss)
            running.append(loss.item())
        r1, similar = recall_at_1()
        watcher.log(recall_at_1=r1)
    same = y[1200:, None] == y[None, 1200:]
    same.fill_diagonal_(False)
    top = similar.topk(20, dim=1).indices
    precision = same.gather(1, top).float().mean().item()
    return {
        "train_loss": float(np.mean(running)),
        "recall_at_1": r1,
        "precision_at_20": precision,
        "proxies_moved": (proxy_loss.proxies - start).abs().max().item(),
    }


@faulty(
    "hand-written recurrent cell",
    fault="the recurrent matrix is drawn from a standard normal without the 1/sqrt(hidden) factor, so every tanh is saturated and the state is chaotic",
    source="own experience (nn.Parameter(torch.randn(h, h)) in a first own RNN)",
)
def r3_own_rnn_unscaled_initialisation(watch, fixed):
    """An own Elman cell and a Trainer class: which of six symbols came first in a sequence of 14?"""

    class ElmanCell(nn.Module):
        def __init__(self, inputs, hidden):
            super().__init__()
            scale = 1 / math.sqrt(hidden) if fixed else 1.0
            self.w_x = nn.Parameter(torch.randn(inputs, hidden) / math.sqrt(inputs))
            self.w_h = nn.Parameter(torch.randn(hidden, hidden) * scale)
            self.b = nn.Parameter(torch.zeros(hidden))

        def forward(self, x, h):
            return torch.tanh(x @ self.w_x + h @ self.w_h + self.b)

    class FirstSymbol(nn.Module):
        def __init__(self, symbols=6, hidden=64):
            super().__init__()
            self.symbols, self.hidden = symbols, hidden
            self.cell = ElmanCell(symbols + 1, hidden)
            self.readout = nn.Linear(hidden, symbols)

        def forward(self, tokens):
            h = torch.zeros(len(tokens), self.hidden)
            for x in F.one_hot(tokens, self.symbols + 1).float().unbind(dim=1):
                h = self.cell(x, h)
            return self.readout(h)

    class Trainer:
        def __init__(self, model, train_loader, val_loader, lr, clip):
            self.model, self.train_loader, self.val_loader, self.clip = (
                model,
                train_loader,
                val_loader,
                clip,
            )
            self.optimizer = torch.optim.Adam(model.parameters(), lr=lr)
            self.criterion = nn.CrossEntropyLoss()
            self.watcher = watch(
                model,
                self.optimizer,
                loss_fn=self.criterion,
                num_classes=6,
                train=train_loader,
                val=val_loader,
            )
            self.history = []

        def training_step(self, batch):
            tokens, label = batch
            loss = self.criterion(self.model(tokens), label)
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
            self.optimizer.step()
            self.watcher.step(loss, batch=batch)
            return loss.item()

        @torch.no_grad()
        def validate(self):
            self.model.eval()
            out = torch.cat([self.model(t) for t, _ in self.val_loader])
            label = torch.cat([y for _, y in self.val_loader])
            return self.criterion(out, label).item(), (out.argmax(1) == label).float().mean().item()

        def fit(self, epochs):
            for _ in range(epochs):
                self.model.train()
                train = float(np.mean([self.training_step(batch) for batch in self.train_loader]))
                val_loss, val_accuracy = self.validate()
                self.watcher.log(val_loss=val_loss, val_accuracy=val_accuracy)
                self.history.append((train, val_loss, val_accuracy))

    def make(n):
        label = torch.randint(6, (n,))
        tokens = torch.full((n, 14), 6)
        tokens[:, 0] = label
        noise = torch.rand(n, 14) < 0.3
        noise[:, 0] = False
        tokens[noise] = torch.randint(6, (int(noise.sum()),))
        return TensorDataset(tokens, label)

    trainer = Trainer(
        FirstSymbol(),
        DataLoader(make(1920), 48, shuffle=True),
        DataLoader(make(400), 400),
        lr=1.5e-3,
        clip=1.0,
    )
    trainer.fit(8)
    train, val_loss, val_accuracy = trainer.history[-1]
    return {"train_loss": train, "val_loss": val_loss, "val_accuracy": val_accuracy}


@faulty(
    "fine-tuning with parameter groups",
    fault="the hand-written warmup and cosine schedule sets one rate for every group and forgets lr_scale, so the pretrained body is trained at the head's rate, a hundred times too fast",
    source="facebookresearch/mae util/lr_sched.py (lr_scale) and copies without it",
)
def r3_finetune_schedule_overwrites_group_rates(watch, fixed):
    """Body pretrained on clean digits, fine-tuned on 80 pictures of another scanner; MAE-like adjust_learning_rate per iteration."""
    x, y = _digit_images()
    x_old, y_old = x[:900], y[:900]
    gen = torch.Generator().manual_seed(8)
    x_new = (0.8 * x[900:] + 0.2 + 0.3 * torch.randn(x[900:].shape, generator=gen)).clamp(-1.5, 1.5)
    y_new = y[900:]
    x_few, y_few, x_val, y_val = x_new[:80], y_new[:80], x_new[80:], y_new[80:]

    class Body(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(1, 24, 3, padding=1), nn.Conv2d(24, 32, 3, padding=1)
            self.fc = nn.Linear(32 * 4, 48)

        def forward(self, image):
            h = F.max_pool2d(F.relu(self.conv1(image)), 2)
            h = F.max_pool2d(F.relu(self.conv2(h)), 2)
            return F.relu(self.fc(h.flatten(1)))

    body = Body()
    old_head = nn.Linear(48, 10)
    pretrain = torch.optim.Adam([*body.parameters(), *old_head.parameters()], lr=2e-3)
    for _ in range(8):
        for xb, yb in DataLoader(TensorDataset(x_old, y_old), batch_size=64, shuffle=True):
            pretrain.zero_grad()
            F.cross_entropy(old_head(body(xb)), yb).backward()
            pretrain.step()

    model = nn.Sequential(OrderedDict(body=body, head=nn.Linear(48, 10)))
    args = SimpleNamespace(lr=0.03, body_scale=0.01, warmup_epochs=2, epochs=25, min_lr=0.0)
    optimizer = torch.optim.AdamW(
        [
            {"params": model.body.parameters(), "lr_scale": args.body_scale},
            {"params": model.head.parameters(), "lr_scale": 1.0},
        ],
        lr=args.lr,
        weight_decay=0.01,
    )

    def adjust_learning_rate(epoch):
        if epoch < args.warmup_epochs:
            lr = args.lr * epoch / args.warmup_epochs
        else:
            done = (epoch - args.warmup_epochs) / (args.epochs - args.warmup_epochs)
            lr = args.min_lr + (args.lr - args.min_lr) * 0.5 * (1 + math.cos(math.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"] if fixed else lr
        return lr

    loader = DataLoader(TensorDataset(x_few, y_few), batch_size=16, shuffle=True)
    criterion = nn.CrossEntropyLoss()
    watcher = watch(
        model,
        optimizer,
        loss_fn=criterion,
        num_classes=10,
        train=loader,
        val=DataLoader(TensorDataset(x_val, y_val), 256),
    )
    for epoch in range(args.epochs):
        model.train()
        for it, (xb, yb) in enumerate(loader):
            adjust_learning_rate(epoch + it / len(loader))
            loss = criterion(model(xb), yb)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(xb, yb))
        model.eval()
        with torch.no_grad():
            out = model(x_val)
        val_accuracy = (out.argmax(1) == y_val).float().mean().item()
        watcher.log(val_loss=criterion(out, y_val).item(), val_accuracy=val_accuracy)
    return {
        "train_loss": loss.item(),
        "val_loss": criterion(out, y_val).item(),
        "val_accuracy": val_accuracy,
    }


# ------------------------------------------------------------------ sound


@sound("continual learning")
def r3_continual_learning_with_replay(watch):
    """Digits come in five tasks of two classes; a reservoir of 200 old pictures is replayed. The loss jumps at each new task by design."""
    x, y = _digit_images()
    x_train, y_train, x_test, y_test = x[:1400], y[:1400], x[1400:], y[1400:]

    class Reservoir:
        def __init__(self, size):
            self.size, self.seen, self.items = size, 0, []

        def add(self, images, labels):
            for image, label in zip(images, labels, strict=True):
                self.seen += 1
                if len(self.items) < self.size:
                    self.items.append((image, label))
                elif (slot := np.random.RandomState(self.seen).randint(self.seen)) < self.size:
                    self.items[slot] = (image, label)

        def sample(self, n):
            picked = [self.items[i] for i in torch.randint(len(self.items), (n,)).tolist()]
            return torch.stack([p[0] for p in picked]), torch.stack([p[1] for p in picked])

    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 10),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03)
    memory = Reservoir(200)
    watcher = watch(model, optimizer, loss_fn=nn.CrossEntropyLoss(), num_classes=10)
    for task in range(5):
        rows = (torch.div(y_train, 2, rounding_mode="floor") == task).nonzero().squeeze(1)
        loader = DataLoader(
            TensorDataset(x_train[rows], y_train[rows]), batch_size=20, shuffle=True
        )
        for epoch in range(4):
            for xb, yb in loader:
                if task > 0:
                    old_x, old_y = memory.sample(20 * task)
                    bx, by = torch.cat([xb, old_x]), torch.cat([yb, old_y])
                else:
                    bx, by = xb, yb
                loss = F.cross_entropy(model(bx), by)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watcher.step(loss)
                if epoch == 0:
                    memory.add(xb, yb)
    with torch.no_grad():
        out = model(x_test)
    return {
        "test_accuracy": (out.argmax(1) == y_test).float().mean().item(),
        "test_loss": F.cross_entropy(out, y_test).item(),
    }


@sound("recurrent network on the adding problem")
def r3_adding_problem_with_clipping(watch):
    """The adding problem over 30 steps: gradients spike by nature and are clipped to norm 1. The loss stays on a plateau before it drops."""

    def batch(n, length=20):
        values = torch.rand(n, length)
        marks = torch.zeros(n, length)
        first = torch.randint(0, length // 2, (n,))
        second = torch.randint(length // 2, length, (n,))
        rows = torch.arange(n)
        marks[rows, first] = 1.0
        marks[rows, second] = 1.0
        return torch.stack([values, marks], dim=-1), (values * marks).sum(1, keepdim=True)

    class Adder(nn.Module):
        def __init__(self, hidden=48):
            super().__init__()
            self.rnn = nn.LSTM(2, hidden, batch_first=True)
            self.out = nn.Linear(hidden, 1)
            with torch.no_grad():
                self.rnn.bias_ih_l0[hidden : 2 * hidden].fill_(1.0)

        def forward(self, x):
            _, (h, _) = self.rnn(x)
            return self.out(h[-1])

    model = Adder()
    optimizer = torch.optim.Adam(model.parameters(), lr=8e-3)
    criterion = nn.MSELoss()
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: 1.0 if s < 300 else 0.25)
    watcher = watch(model, optimizer, loss_fn=criterion, scheduler=scheduler)
    recent = deque(maxlen=30)
    for _ in range(450):
        x, y = batch(64)
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
        optimizer.step()
        scheduler.step()
        watcher.step(loss)
        recent.append(loss.item())
    x, y = batch(500)
    with torch.no_grad():
        test = criterion(model(x), y).item()
    return {
        "train_mse": sum(recent) / len(recent),
        "test_mse": test,
        "baseline_mse": y.var().item(),
    }


@sound("label-distribution learning")
def r3_age_as_a_label_distribution(watch):
    """Age estimation: the target is a Gaussian over 60 ages, the loss is KL divergence, whose floor is zero but whose start is small."""
    gen = torch.Generator().manual_seed(11)
    ages = torch.arange(60).float()
    mixing = torch.randn(6, 24, generator=gen) / 2

    def people(n):
        age = torch.randint(3, 57, (n,), generator=gen).float()
        z = (age - 30) / 17
        latent = torch.stack(
            [z, z**2 - 1, torch.sin(3 * z), torch.cos(2 * z), *torch.randn(2, n, generator=gen)],
            dim=1,
        )
        return latent @ mixing + 0.15 * torch.randn(n, 24, generator=gen), age

    def distribution(age, sigma=2.0):
        density = torch.exp(-0.5 * ((ages - age[:, None]) / sigma) ** 2)
        return density / density.sum(1, keepdim=True)

    class DLDL(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(
                nn.Linear(24, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 60)
            )

        def forward(self, x):
            return F.log_softmax(self.net(x), dim=1)

        def expected_age(self, x):
            return (self(x).exp() * ages).sum(1)

    model = DLDL()
    x_train, a_train = people(2400)
    x_val, a_val = people(500)
    loader = DataLoader(TensorDataset(x_train, a_train), batch_size=64, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    kl = nn.KLDivLoss(reduction="batchmean")
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=6, gamma=0.4)
    watcher = watch(model, optimizer, scheduler=scheduler)
    for _ in range(12):
        model.train()
        for x, age in loader:
            log_p = model(x)
            expected = (log_p.exp() * ages).sum(1)
            loss = kl(log_p, distribution(age)) + 0.02 * (expected - age).abs().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss)
        scheduler.step()
        model.eval()
        with torch.no_grad():
            watcher.log(
                val_loss=kl(model(x_val), distribution(a_val)).item(),
                val_mae=(model.expected_age(x_val) - a_val).abs().mean().item(),
            )
    with torch.no_grad():
        mae = (model.expected_age(x_val) - a_val).abs().mean().item()
    return {"train_loss": loss.item(), "val_mae_years": mae}


@sound("fine-tuning with progressive unfreezing")
def r3_progressive_unfreezing(watch):
    """ULMFiT-like: first the head alone, then one more block each stage; earlier blocks are frozen on purpose for most of the run."""
    x, y = _digit_images()
    gen = torch.Generator().manual_seed(2)
    base_x, base_y = x[:900], y[:900]
    new_x = (-x[900:] + 0.25 * torch.randn(x[900:].shape, generator=gen)).clamp(-1.5, 1.5)
    new_y = y[900:]
    train_set = TensorDataset(new_x[:500], new_y[:500])
    val_x, val_y = new_x[500:], new_y[500:]

    def conv(cin, cout, stride):
        return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1, stride=stride), nn.ReLU())

    blocks = nn.ModuleList(
        [
            conv(1, 16, 1),
            conv(16, 24, 2),
            nn.Sequential(nn.Flatten(), nn.Linear(24 * 16, 48), nn.ReLU()),
        ]
    )

    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks, self.head = blocks, nn.Linear(48, 10)

        def forward(self, image):
            for block in self.blocks:
                image = block(image)
            return self.head(image)

    pretrained = Classifier()
    warm = torch.optim.Adam(pretrained.parameters(), lr=2e-3)
    for _ in range(6):
        for xb, yb in DataLoader(TensorDataset(base_x, base_y), 50, shuffle=True):
            warm.zero_grad()
            F.cross_entropy(pretrained(xb), yb).backward()
            warm.step()

    model = Classifier()
    for block in model.blocks:
        block.requires_grad_(False)
    groups = [{"params": model.head.parameters(), "lr": 3e-3}]
    groups += [
        {"params": block.parameters(), "lr": 3e-3 * 0.7 ** (3 - k)}
        for k, block in enumerate(model.blocks)
    ]
    optimizer = torch.optim.Adam(groups)
    loader = DataLoader(train_set, batch_size=25, shuffle=True)
    watcher = watch(model, optimizer, loss_fn=F.cross_entropy, num_classes=10, train=loader)
    for stage in range(4):
        if stage:
            model.blocks[3 - stage].requires_grad_(True)
        for _ in range(4):
            for xb, yb in loader:
                loss = F.cross_entropy(model(xb), yb)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watcher.step(loss, batch=(xb, yb))
        with torch.no_grad():
            out = model(val_x)
        watcher.log(
            val_loss=F.cross_entropy(out, val_y).item(),
            val_accuracy=(out.argmax(1) == val_y).float().mean().item(),
        )
    return {
        "train_loss": loss.item(),
        "val_accuracy": (out.argmax(1) == val_y).float().mean().item(),
    }


@sound("knowledge graph embeddings")
def r3_transe_with_corrupted_triples(watch):
    """TransE with margin loss; entity vectors are put back onto the unit ball after each step, head or tail is corrupted at random."""
    rng = np.random.RandomState(1)
    side = 9
    moves = [(1, 0), (-1, 0), (0, 1), (0, -1), (2, 0), (0, 2), (1, 1)]
    triples = []
    for a in range(side):
        for b in range(side):
            for r, (da, db) in enumerate(moves):
                if 0 <= a + da < side and 0 <= b + db < side:
                    triples.append((a * side + b, r, (a + da) * side + b + db))
    triples = torch.tensor(np.array(triples)[rng.permutation(len(triples))])
    train, test = triples[:-60], triples[-60:]
    entities = side * side

    class TransE(nn.Module):
        def __init__(self, d=24):
            super().__init__()
            bound = 6 / math.sqrt(d)
            self.entity, self.relation = nn.Embedding(entities, d), nn.Embedding(len(moves), d)
            nn.init.uniform_(self.entity.weight, -bound, bound)
            nn.init.uniform_(self.relation.weight, -bound / 4, bound / 4)

        def distance(self, h, r, t):
            return (self.entity(h) + self.relation(r) - self.entity(t)).norm(dim=-1)

        @torch.no_grad()
        def renormalise(self):
            w = self.entity.weight
            w.div_(w.norm(dim=1, keepdim=True).clamp(min=1.0))

    model = TransE()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=60 * 7)
    watcher = watch(model, optimizer)
    model.renormalise()
    for _ in range(60):
        for index in torch.randperm(len(train)).split(64):
            h, r, t = train[index].unbind(1)
            h, r, t = (v.repeat(4) for v in (h, r, t))
            other = torch.randint(entities, h.shape)
            swap = torch.rand(h.shape) < 0.5
            bad_h, bad_t = torch.where(swap, other, h), torch.where(swap, t, other)
            loss = F.relu(0.3 + model.distance(h, r, t) - model.distance(bad_h, r, bad_t)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            model.renormalise()
            watcher.step(loss)
    with torch.no_grad():
        h, r, t = test.unbind(1)
        everything = torch.arange(entities)
        far = model.distance(h[:, None], r[:, None], everything[None])
        rank = (far < far.gather(1, t[:, None])).sum(1) + 1
    return {
        "train_loss": loss.item(),
        "hits_at_5": (rank <= 5).float().mean().item(),
        "mean_rank": rank.float().mean().item(),
        "chance_rank": (entities + 1) / 2,
    }


@sound("self-supervised learning, BYOL")
def r3_byol_on_digits(watch):
    """Online net, predictor and a momentum target without gradient; no negatives. The frozen target is right. A linear probe scores the features."""
    x, y = _digit_images()

    def augment(image):
        shift = torch.randint(-1, 2, (2,)).tolist()
        image = torch.roll(image, shift, dims=(2, 3)) * (
            0.8 + 0.4 * torch.rand(len(image), 1, 1, 1)
        )
        keep = (torch.rand(len(image), 1, 8, 8) > 0.06).float()
        return image * keep - (1 - keep) + 0.05 * torch.randn_like(image)

    def projector(cin, hidden, out):
        return nn.Sequential(
            nn.Linear(cin, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, out)
        )

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(1, 12, 3, padding=1),
                nn.BatchNorm2d(12),
                nn.ReLU(),
                nn.Conv2d(12, 24, 3, stride=2, padding=1),
                nn.BatchNorm2d(24),
                nn.ReLU(),
                nn.Flatten(),
            )
            self.project = projector(384, 64, 32)

        def forward(self, image):
            return self.project(self.body(image))

    online, predictor = Encoder(), projector(32, 64, 32)
    target = copy.deepcopy(online).requires_grad_(False)
    optimizer = torch.optim.AdamW(
        [*online.parameters(), *predictor.parameters()], lr=3e-3, weight_decay=1e-4
    )
    learner = nn.ModuleDict({"online": online, "predictor": predictor})
    watcher = watch(learner, optimizer)

    def regression_loss(p, z):
        return 2 - 2 * F.cosine_similarity(p, z.detach(), dim=-1)

    epochs, steps = 7, 22
    for epoch in range(epochs):
        for step, index in enumerate(torch.randperm(1400).split(64)):
            one, two = augment(x[index]), augment(x[index])
            with torch.no_grad():
                z1, z2 = target(one), target(two)
            loss = (
                regression_loss(predictor(online(one)), z2)
                + regression_loss(predictor(online(two)), z1)
            ).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss)
            tau = 1 - 0.1 * (math.cos(math.pi * (epoch * steps + step) / (epochs * steps)) + 1) / 2
            with torch.no_grad():
                for p_target, p_online in zip(
                    target.parameters(), online.parameters(), strict=True
                ):
                    p_target.lerp_(p_online, 1 - tau)
    online.eval()
    with torch.no_grad():
        features = online.body(x)
    from sklearn.linear_model import LogisticRegression

    probe = LogisticRegression(max_iter=300).fit(features[:300].numpy(), y[:300].numpy())
    spread = F.normalize(online(x[:500]), dim=1).std(0).mean().item()
    return {
        "loss": loss.item(),
        "probe_accuracy": float(probe.score(features[1400:].numpy(), y[1400:].numpy())),
        "output_spread": spread,
    }


@sound("discrete VAE with straight-through codes")
def r3_vector_quantised_autoencoder(watch):
    """VQ-VAE on digits: nearest code by argmin, straight-through gradient, codebook and commitment losses, dead codes re-seeded from the batch."""
    x, _ = _digit_images()
    train_loader = DataLoader(TensorDataset(x[:1500]), batch_size=50, shuffle=True)
    held = x[1500:]

    class Quantizer(nn.Module):
        def __init__(self, codes=32, dim=8, beta=0.25):
            super().__init__()
            self.codebook = nn.Embedding(codes, dim)
            nn.init.normal_(self.codebook.weight, std=0.5)
            self.beta = beta
            self.register_buffer("usage", torch.ones(codes))

        def forward(self, z):
            flat = z.permute(0, 2, 3, 1)
            index = torch.cdist(flat.reshape(-1, flat.shape[-1]), self.codebook.weight).argmin(1)
            quantised = self.codebook(index).view_as(flat)
            loss = F.mse_loss(quantised, flat.detach()) + self.beta * F.mse_loss(
                flat, quantised.detach()
            )
            quantised = flat + (quantised - flat).detach()
            if self.training:
                self.usage.mul_(0.95).add_(
                    0.05 * torch.bincount(index, minlength=len(self.usage)).float()
                )
                dead = (self.usage < 0.05).nonzero().squeeze(1)
                if len(dead):
                    rows = torch.randint(flat[..., 0].numel(), (len(dead),))
                    with torch.no_grad():
                        self.codebook.weight[dead] = flat.detach().reshape(-1, flat.shape[-1])[rows]
                    self.usage[dead] = 1.0
            return quantised.permute(0, 3, 1, 2), loss, index

    class VQVAE(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(
                nn.Conv2d(1, 24, 4, stride=2, padding=1),
                nn.ReLU(),
                nn.Conv2d(24, 24, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(24, 8, 1),
            )
            self.quantizer = Quantizer()
            self.decoder = nn.Sequential(
                nn.Conv2d(8, 24, 3, padding=1),
                nn.ReLU(),
                nn.ConvTranspose2d(24, 24, 4, stride=2, padding=1),
                nn.ReLU(),
                nn.Conv2d(24, 1, 3, padding=1),
            )

        def forward(self, image):
            code, vq_loss, index = self.quantizer(self.encoder(image))
            return self.decoder(code), vq_loss, index

    model = VQVAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    watcher = watch(model, optimizer)
    for _ in range(9):
        model.train()
        for (image,) in train_loader:
            recon, vq_loss, _ = model(image)
            loss = F.mse_loss(recon, image) + vq_loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss)
        model.eval()
        with torch.no_grad():
            recon, vq_loss, index = model(held)
            watcher.log(val_loss=(F.mse_loss(recon, held) + vq_loss).item())
    mean_image = F.mse_loss(x[:1500].mean(0, keepdim=True).expand_as(held), held).item()
    return {
        "val_recon": F.mse_loss(recon, held).item(),
        "mean_image_error": mean_image,
        "codes_used": float(index.unique().numel()),
    }


@sound("Gumbel-softmax selection")
def r3_gumbel_softmax_feature_selection(watch):
    """A concrete selector picks 5 of 40 sensors; hard Gumbel-softmax samples with an annealed temperature, so the loss is noisy early on."""
    gen = torch.Generator().manual_seed(6)
    useful = torch.tensor([3, 11, 19, 27, 35])
    w = torch.randn(5, 12, generator=gen)

    def draw(n):
        x = torch.randn(n, 40, generator=gen)
        hidden = torch.tanh(x[:, useful] @ w)
        return x, hidden.sum(1, keepdim=True) / 2 + x[:, useful].sum(
            1, keepdim=True
        ) + 0.05 * torch.randn(n, 1, generator=gen)

    class ConcreteSelector(nn.Module):
        def __init__(self, inputs, picks):
            super().__init__()
            self.logits = nn.Parameter(0.01 * torch.randn(picks, inputs))
            self.temperature = 2.0

        def forward(self, x):
            if self.training:
                choice = F.gumbel_softmax(
                    self.logits.expand(len(x), -1, -1), tau=self.temperature, hard=True
                )
                return torch.einsum("bpi,bi->bp", choice, x)
            return x[:, self.logits.argmax(1)]

    selector = ConcreteSelector(40, 7)
    model = nn.Sequential(selector, nn.Linear(7, 48), nn.ReLU(), nn.Linear(48, 1))
    optimizer = torch.optim.Adam(
        [
            {"params": selector.parameters(), "lr": 0.05},
            {"params": model[1:].parameters(), "lr": 4e-3},
        ]
    )
    x_train, y_train = draw(3000)
    x_val, y_val = draw(500)
    loader = DataLoader(TensorDataset(x_train, y_train), batch_size=75, shuffle=True)
    watcher = watch(model, optimizer, loss_fn=F.mse_loss, task="regression", train=loader)
    epochs = 12
    for epoch in range(epochs):
        selector.temperature = 2.0 * (0.2 / 2.0) ** (epoch / (epochs - 1))
        model.train()
        for x, y in loader:
            loss = F.mse_loss(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss)
        model.eval()
        with torch.no_grad():
            val = F.mse_loss(model(x_val), y_val).item()
        watcher.log(val_loss=val)
    picked = set(selector.logits.argmax(1).tolist())
    return {
        "val_mse": val,
        "variance_of_y": y_val.var().item(),
        "useful_picked": float(len(picked & set(useful.tolist()))),
    }


@sound("cosine classifier with margin")
def r3_cosface_with_margin(watch):
    """CosFace: normalised features and class weights, scale 16, additive margin. The training loss is kept high by the margin while accuracy is good."""
    x, y = _digit_images()

    class CosFaceHead(nn.Module):
        def __init__(self, dim, classes, scale=16.0, margin=0.25):
            super().__init__()
            self.weight = nn.Parameter(torch.empty(classes, dim))
            nn.init.xavier_uniform_(self.weight)
            self.scale, self.margin = scale, margin

        def forward(self, feature, label=None):
            cosine = F.linear(F.normalize(feature), F.normalize(self.weight))
            if label is not None:
                cosine = cosine - self.margin * F.one_hot(label, cosine.shape[1])
            return self.scale * cosine

    class FaceNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(1, 16, 3, padding=1, bias=False),
                nn.BatchNorm2d(16),
                nn.PReLU(),
                nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(32),
                nn.PReLU(),
                nn.Flatten(),
            )
            self.embed = nn.Sequential(nn.Linear(512, 32, bias=False), nn.BatchNorm1d(32))
            self.head = CosFaceHead(32, 10)

        def forward(self, image, label=None):
            return self.head(self.embed(self.body(image)), label)

    model = FaceNet()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    epochs = 8
    loader = DataLoader(TensorDataset(x[:1300], y[:1300]), batch_size=52, shuffle=True)
    scheduler = torch.optim.lr_scheduler.PolynomialLR(
        optimizer, total_iters=epochs * len(loader), power=1.5
    )
    watcher = watch(model, optimizer, num_classes=10, scheduler=scheduler)
    for _ in range(epochs):
        model.train()
        for image, label in loader:
            loss = F.cross_entropy(model(image, label), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            watcher.step(loss)
        model.eval()
        with torch.no_grad():
            out = model(x[1300:])
        accuracy = (out.argmax(1) == y[1300:]).float().mean().item()
        watcher.log(val_loss=F.cross_entropy(out, y[1300:]).item(), val_accuracy=accuracy)
    return {"train_loss": loss.item(), "val_accuracy": accuracy}


@sound("text classification with EmbeddingBag")
def r3_embedding_bag_topics(watch):
    """The old torchtext tutorial: ragged texts, offsets, EmbeddingBag, SGD with a big rate, sum of reviews of very different length."""
    rng = np.random.RandomState(7)
    topics, vocab = 4, 400
    profiles = np.full((topics, vocab), 1.0)
    for k in range(topics):
        profiles[k, k * 60 : k * 60 + 60] = 4.0
    profiles /= profiles.sum(1, keepdims=True)

    def texts(n):
        label = rng.randint(topics, size=n)
        return [
            (int(k), torch.tensor(rng.choice(vocab, size=rng.randint(8, 60), p=profiles[k])))
            for k in label
        ]

    def collate_batch(batch):
        labels = torch.tensor([label for label, _ in batch])
        lengths = torch.tensor([0] + [len(words) for _, words in batch[:-1]])
        return labels, torch.cat([words for _, words in batch]), lengths.cumsum(0)

    class TextClassificationModel(nn.Module):
        def __init__(self, vocab_size, embed_dim, num_class):
            super().__init__()
            self.embedding = nn.EmbeddingBag(vocab_size, embed_dim, sparse=False)
            self.fc = nn.Linear(embed_dim, num_class)
            for weight in (self.embedding.weight, self.fc.weight):
                weight.data.uniform_(-0.5, 0.5)
            self.fc.bias.data.zero_()

        def forward(self, text, offsets):
            return self.fc(self.embedding(text, offsets))

    train_loader = DataLoader(texts(2000), batch_size=16, shuffle=True, collate_fn=collate_batch)
    val_loader = DataLoader(texts(500), batch_size=100, collate_fn=collate_batch)
    model = TextClassificationModel(vocab, 32, topics)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=4.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.6)
    watcher = watch(model, optimizer, loss_fn=criterion, num_classes=topics, scheduler=scheduler)
    best = 0.0
    for _ in range(6):
        model.train()
        for label, text, offsets in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(text, offsets), label)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
            watcher.step(loss)
        model.eval()
        right = count = 0
        with torch.no_grad():
            for label, text, offsets in val_loader:
                right += (model(text, offsets).argmax(1) == label).sum().item()
                count += len(label)
        watcher.log(val_accuracy=right / count)
        best = max(best, right / count)
        scheduler.step()
    return {"train_loss": loss.item(), "val_accuracy": right / count, "best": best}


@sound("1-D segmentation")
def r3_unet1d_segmentation_ignore_255(watch):
    """A 1-D UNet marks the waves of an ECG-like trace; unlabelled stretches carry 255 and are ignored by loss and score."""
    rng = np.random.RandomState(3)

    def traces(n, length=128):
        signal, label = np.zeros((n, length)), np.zeros((n, length), dtype=np.int64)
        t = np.arange(length)
        for k in range(n):
            at = rng.randint(6, 20)
            while at < length - 24:
                width, gap = rng.randint(3, 6), rng.randint(8, 12)
                signal[k] += 0.5 * np.exp(-0.5 * ((t - at) / width) ** 2)
                label[k, max(at - width, 0) : at + width] = 1
                signal[k] += 1.5 * np.exp(-0.5 * ((t - at - gap) / 1.5) ** 2)
                label[k, at + gap - 3 : at + gap + 3] = 2
                at += rng.randint(32, 44)
            start = rng.randint(0, length - 30)
            label[k, start : start + rng.randint(10, 30)] = 255
        signal += 0.1 * rng.randn(n, length) + 0.2 * np.sin(2 * np.pi * t / 90 + rng.rand(n, 1) * 6)
        return torch.tensor(signal, dtype=torch.float32).unsqueeze(1), torch.tensor(label)

    def double(cin, cout):
        return nn.Sequential(
            nn.Conv1d(cin, cout, 5, padding=2),
            nn.GroupNorm(4, cout),
            nn.ReLU(),
            nn.Conv1d(cout, cout, 5, padding=2),
            nn.GroupNorm(4, cout),
            nn.ReLU(),
        )

    class UNet1d(nn.Module):
        def __init__(self, classes=3):
            super().__init__()
            self.down1, self.down2, self.mid = double(1, 8), double(8, 16), double(16, 24)
            self.up2, self.up1 = double(24 + 16, 16), double(16 + 8, 8)
            self.out = nn.Conv1d(8, classes, 1)

        def forward(self, x):
            a = self.down1(x)
            b = self.down2(F.max_pool1d(a, 2))
            c = self.mid(F.max_pool1d(b, 2))
            b = self.up2(torch.cat([F.interpolate(c, scale_factor=2), b], dim=1))
            return self.out(self.up1(torch.cat([F.interpolate(b, scale_factor=2), a], dim=1)))

    model = UNet1d()
    criterion = nn.CrossEntropyLoss(ignore_index=255)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-3)
    train_loader = DataLoader(TensorDataset(*traces(480)), batch_size=16, shuffle=True)
    val_loader = DataLoader(TensorDataset(*traces(100)), batch_size=50)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.3, patience=1)
    watcher = watch(
        model, optimizer, loss_fn=criterion, num_classes=3, train=train_loader, val=val_loader
    )
    for _ in range(7):
        model.train()
        for x, mask in train_loader:
            loss = criterion(model(x), mask)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(x, mask))
        model.eval()
        with torch.no_grad():
            out = torch.cat([model(x) for x, _ in val_loader])
        mask = torch.cat([m for _, m in val_loader])
        valid = mask != 255
        guess = out.argmax(1)
        iou = [
            ((guess == k) & (mask == k))[valid].sum().item()
            / ((guess == k) | (mask == k))[valid].sum().item()
            for k in range(3)
        ]
        val_loss = criterion(out, mask).item()
        scheduler.step(val_loss)
        watcher.log(val_loss=val_loss, mean_iou=float(np.mean(iou)))
    return {"train_loss": loss.item(), "val_loss": val_loss, "mean_iou": float(np.mean(iou))}


@sound("robust regression")
def r3_heavy_tailed_regression_with_huber(watch):
    """Student-t noise with two degrees of freedom and Huber loss: single batches have huge residuals, yet the fit is good."""
    gen = np.random.RandomState(10)
    x = gen.uniform(-2, 2, size=(3000, 3))

    def curve(v):
        return np.sin(2 * v[:, 0]) + 0.5 * v[:, 1] ** 2 - v[:, 1] * v[:, 2]

    y = curve(x) + 0.5 * gen.standard_t(2, size=3000)
    x_val = gen.uniform(-2, 2, size=(600, 3))
    to = lambda a: torch.tensor(a, dtype=torch.float32)  # noqa: E731
    dataset = TensorDataset(to(x), to(y).unsqueeze(1))
    clean = to(curve(x_val)).unsqueeze(1)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(3, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
            self.mean = nn.Linear(64, 1)

        def forward(self, inputs):
            return self.mean(self.body(inputs))

    net = Net()
    huber = nn.HuberLoss(delta=0.7)
    opt = torch.optim.RMSprop(net.parameters(), lr=2e-3, momentum=0.5)
    sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=16)
    loader = DataLoader(dataset, batch_size=60, shuffle=True)
    watcher = watch(net, opt, loss_fn=huber, train=loader, scheduler=sched)
    for _ in range(16):
        for inputs, target in loader:
            opt.zero_grad()
            loss = huber(net(inputs), target)
            loss.backward()
            opt.step()
            watcher.step(loss, batch=(inputs, target))
        sched.step()
        with torch.no_grad():
            error = (net(to(x_val)) - clean).pow(2).mean().item()
        watcher.log(clean_mse=error)
    return {"train_loss": loss.item(), "clean_mse": error, "clean_variance": clean.var().item()}


@sound("ViT fine-tuning with layer-wise rate decay")
def r3_vit_layerwise_lr_decay_mixup_ema_amp(watch):
    """timm-like: layer-wise rate decay, mixup with soft targets, EMA of weights, bf16 autocast. Early layers hardly move on purpose."""
    x, y = _digit_images()

    class Block(nn.Module):
        def __init__(self, d, heads):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
            self.qkv, self.proj, self.heads = nn.Linear(d, 3 * d), nn.Linear(d, d), heads
            self.mlp = nn.Sequential(nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d))

        def forward(self, h):
            b, n, d = h.shape
            q, k, v = (
                self.qkv(self.norm1(h))
                .view(b, n, 3, self.heads, d // self.heads)
                .permute(2, 0, 3, 1, 4)
            )
            h = h + self.proj(
                F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d)
            )
            return h + self.mlp(self.norm2(h))

    class ViT(nn.Module):
        def __init__(self, d=32, depth=2):
            super().__init__()
            self.patch_embed = nn.Conv2d(1, d, 2, stride=2)
            self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 16, d))
            self.blocks = nn.ModuleList([Block(d, 4) for _ in range(depth)])
            self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, 10)

        def forward(self, image):
            h = self.patch_embed(image).flatten(2).transpose(1, 2) + self.pos_embed
            for block in self.blocks:
                h = block(h)
            return self.head(self.norm(h).mean(1))

    def layer_of(name, depth):
        if name.startswith(("patch_embed", "pos_embed")):
            return 0
        if name.startswith("blocks."):
            return int(name.split(".")[1]) + 1
        return depth + 1

    def param_groups_lrd(model, lr, decay, weight_decay):
        groups = {}
        depth = len(model.blocks)
        for name, p in model.named_parameters():
            layer = layer_of(name, depth)
            wd = 0.0 if p.ndim == 1 or name == "pos_embed" else weight_decay
            key = (layer, wd)
            groups.setdefault(
                key, {"params": [], "lr": lr * decay ** (depth + 1 - layer), "weight_decay": wd}
            )["params"].append(p)
        return list(groups.values())

    def mixup(image, label, alpha=0.2):
        lam = float(np.random.RandomState(int(torch.randint(10**6, (1,)))).beta(alpha, alpha))
        target = F.one_hot(label, 10).float()
        return lam * image + (1 - lam) * image.flip(0), lam * target + (1 - lam) * target.flip(0)

    model = ViT()
    warm = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(12):
        for index in torch.randperm(700).split(35):
            warm.zero_grad()
            F.cross_entropy(model(x[index]), y[index]).backward()
            warm.step()
    nn.init.zeros_(model.head.weight)
    nn.init.zeros_(model.head.bias)
    model_ema = copy.deepcopy(model).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(param_groups_lrd(model, 3e-3, 0.7, 0.05))
    gen = torch.Generator().manual_seed(4)
    scanned = 0.8 * x + 0.2 + 0.15 * torch.randn(x.shape, generator=gen)
    loader = DataLoader(
        TensorDataset(scanned[700:1400], y[700:1400]), batch_size=35, shuffle=True, drop_last=True
    )
    epochs = 9
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(loader))
    watcher = watch(model, optimizer, num_classes=10, scheduler=scheduler)

    def train_one_epoch():
        model.train()
        for image, label in loader:
            image, target = mixup(image, label)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                output = model(image)
            loss = torch.sum(-target * F.log_softmax(output.float(), dim=-1), dim=-1).mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            with torch.no_grad():
                for ema, p in zip(model_ema.parameters(), model.parameters(), strict=True):
                    ema.lerp_(p, 0.05)
            watcher.step(loss)
        return loss.item()

    for _ in range(epochs):
        train_loss = train_one_epoch()
        with torch.no_grad():
            out = model_ema(scanned[1400:])
        accuracy = (out.argmax(1) == y[1400:]).float().mean().item()
        watcher.log(val_loss=F.cross_entropy(out, y[1400:]).item(), val_accuracy=accuracy)
    return {"train_loss": train_loss, "ema_val_accuracy": accuracy}


@sound("mixture of experts")
def r3_moe_top2_with_balancing_loss(watch):
    """Top-2 of six experts inside a token classifier, renormalised gates, router noise and an auxiliary balancing loss that never reaches zero."""
    gen = torch.Generator().manual_seed(13)
    languages, symbols, length = 6, 24, 10
    meaning = torch.randint(5, (languages, symbols), generator=gen)

    def draw(n):
        language = torch.randint(languages, (n,), generator=gen)
        words = torch.randint(symbols, (n, length), generator=gen)
        return language, words, meaning[language[:, None], words]

    class MoELayer(nn.Module):
        def __init__(self, d, experts=6, k=2):
            super().__init__()
            self.k, self.gate = k, nn.Linear(d, experts, bias=False)
            self.w1 = nn.Parameter(torch.randn(experts, d, 2 * d) / math.sqrt(d))
            self.w2 = nn.Parameter(torch.randn(experts, 2 * d, d) / math.sqrt(2 * d))
            self.aux_loss = 0.0

        def forward(self, h):
            logits = self.gate(h)
            noisy = logits + 0.3 * torch.randn_like(logits) if self.training else logits
            value, chosen = noisy.topk(self.k, dim=-1)
            weight = torch.zeros_like(logits).scatter(-1, chosen, value.softmax(-1))
            share = (weight > 0).float().mean(dim=(0, 1)) / self.k
            self.aux_loss = len(share) * (share * logits.softmax(-1).mean(dim=(0, 1))).sum()
            every = torch.einsum(
                "bteh,ehd->bted", F.gelu(torch.einsum("btd,edh->bteh", h, self.w1)), self.w2
            )
            return h + (weight.unsqueeze(-1) * every).sum(2)

    class Tagger(nn.Module):
        def __init__(self, d=32):
            super().__init__()
            self.word, self.language = nn.Embedding(symbols, d), nn.Embedding(languages, d)
            self.norm, self.moe, self.out = nn.LayerNorm(d), MoELayer(d), nn.Linear(d, 5)

        def forward(self, language, words):
            return self.out(
                self.moe(self.norm(self.word(words) + self.language(language)[:, None]))
            )

    model = Tagger()
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    loader = DataLoader(TensorDataset(*draw(3000)), batch_size=50, shuffle=True)
    language, words, tags = draw(400)
    watcher = watch(model, optimizer, num_classes=5)
    for _ in range(5):
        model.train()
        for lang, word, tag in loader:
            loss = (
                F.cross_entropy(model(lang, word).flatten(0, 1), tag.flatten())
                + 0.02 * model.moe.aux_loss
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss)
        model.eval()
        with torch.no_grad():
            out = model(language, words)
        accuracy = (out.argmax(-1) == tags).float().mean().item()
        watcher.log(
            val_loss=F.cross_entropy(out.flatten(0, 1), tags.flatten()).item(),
            val_accuracy=accuracy,
        )
    return {"train_loss": loss.item(), "val_accuracy": accuracy}
