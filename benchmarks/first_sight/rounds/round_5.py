"""Round 5: fourteen faults taken from public reports, and fourteen sound loops (ordinary ones and unusual ones)."""

import copy
import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_breast_cancer, load_digits, make_moons
from torch.utils.data import DataLoader, Dataset, TensorDataset

from benchmarks.first_sight.programs import faulty, sound


def digit_split(n_train=1400, seed=0):
    d = load_digits()
    x = torch.tensor(d.images, dtype=torch.float32).unsqueeze(1) / 16.0
    y = torch.tensor(d.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    x, y = x[order], y[order]
    return x[:n_train], y[:n_train], x[n_train:], y[n_train:]


# ----------------------------------------------------------------------------------------------- faulty


class CountdownText(Dataset):
    """Sentences such as '<style> 7 um 6 5 um 4 3 2 1 <eos>': the end is fully predictable."""

    EOS, FILLER = 0, (26, 27, 28, 29)

    def __init__(self, n, seed):
        rng = np.random.default_rng(seed)
        self.rows = []
        for _ in range(n):
            row = [int(rng.integers(20, 26))]
            for k in range(int(rng.integers(3, 13)), 0, -1):
                row.append(k)
                if rng.random() < 0.25:
                    row.append(int(rng.choice(self.FILLER)))
            self.rows.append(row + [self.EOS])

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


class TinyGPT(nn.Module):
    def __init__(self, vocab=30, d=48, heads=4, layers=2, ctx=40):
        super().__init__()
        self.tok, self.pos = nn.Embedding(vocab, d), nn.Embedding(ctx, d)
        block = nn.TransformerEncoderLayer(
            d, heads, 4 * d, dropout=0.0, batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, layers, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, vocab)

    def forward(self, input_ids, labels=None):
        t = input_ids.size(1)
        h = self.tok(input_ids) + self.pos(torch.arange(t))
        causal = torch.full((t, t), float("-inf")).triu(1)
        logits = self.head(self.norm(self.blocks(h, mask=causal)))
        if labels is None:
            return logits
        loss = F.cross_entropy(
            logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100
        )
        return loss, logits


@faulty(
    "language model",
    fault="the pad token is the eos token and every pad token is set to -100 in the labels, so the real end of text is never learnt and generation does not stop",
    source="https://github.com/huggingface/transformers/issues/22794",
)
def r5_lm_eos_masked_as_pad(watch, fixed):
    """A small GPT on countdown sentences, padded with eos as with Llama. Harm: almost no generated text ends."""

    def collate(rows):
        width = max(map(len, rows))
        ids = torch.tensor([r + [CountdownText.EOS] * (width - len(r)) for r in rows])
        labels = ids.clone()
        if fixed:
            labels[
                torch.arange(width)[None] >= torch.tensor([len(r) for r in rows])[:, None]
            ] = -100
        else:
            labels[labels == CountdownText.EOS] = -100
        return {"input_ids": ids, "labels": labels}

    train = DataLoader(CountdownText(1200, 1), batch_size=64, shuffle=True, collate_fn=collate)
    val = DataLoader(CountdownText(200, 2), batch_size=64, collate_fn=collate)
    model = TinyGPT()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    steps = 8 * len(train)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min(1, (s + 1) / 20) * max(0.05, 1 - s / steps)
    )
    watcher = watch(model, optimizer, train=train, val=val, scheduler=scheduler)
    for _ in range(8):
        model.train()
        for batch in train:
            loss, _ = model(**batch)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            watcher.step(loss, batch=batch)
        model.eval()
        with torch.no_grad():
            val_loss = sum(model(**b)[0].item() for b in val) / len(val)
        watcher.log(val_loss=val_loss)
    stopped = 0
    with torch.no_grad():
        for start in range(3, 13):
            ids = torch.tensor([[20, start]])
            for _ in range(34):
                nxt = model(ids)[:, -1].argmax(-1, keepdim=True)
                ids = torch.cat([ids, nxt], 1)
                if nxt.item() == CountdownText.EOS:
                    stopped += 1
                    break
    return {"train_loss": loss.item(), "val_loss": val_loss, "generations_that_stop": stopped / 10}


class ReverseSeq2Seq(nn.Module):
    def __init__(self, fixed, vocab=12, emb=24, hidden=48):
        super().__init__()
        self.fixed, self.hidden = fixed, hidden
        self.src_emb, self.tgt_emb = nn.Embedding(vocab, emb), nn.Embedding(vocab, emb)
        self.encoder = nn.GRU(emb, hidden, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(2 * hidden, 2 * hidden)
        self.decoder = nn.GRU(emb, 2 * hidden, batch_first=True)
        self.out = nn.Linear(2 * hidden, vocab)

    def encode(self, src):
        _, h = self.encoder(self.src_emb(src))  # (2, batch, hidden)
        if self.fixed:
            h = h.transpose(0, 1).reshape(src.size(0), 2 * self.hidden)
        else:
            h = h.contiguous().view(src.size(0), 2 * self.hidden)
        return torch.tanh(self.bridge(h)).unsqueeze(0)

    def forward(self, src, tgt_in):
        out, _ = self.decoder(self.tgt_emb(tgt_in), self.encode(src))
        return self.out(out)


@faulty(
    "seq2seq",
    fault="the two final states (2, batch, hidden) of the bidirectional encoder are joined with view(batch, 2 * hidden), which hands each example the states of other examples",
    source="https://medium.com/mcgill-artificial-intelligence-review/the-dangers-of-reshaping-and-other-fun-mistakes-ive-learnt-from-pytorch-b6a5bdc1c275",
)
def r5_seq2seq_encoder_state_view_mixes_batch(watch, fixed):
    """GRU encoder and decoder that reverse a string of four letters; teacher forcing."""
    gen = torch.Generator().manual_seed(3)
    src = torch.randint(2, 12, (4400, 4), generator=gen)
    tgt = src.flip(1)
    tgt_in = torch.cat([torch.ones(len(src), 1, dtype=torch.long), tgt[:, :-1]], 1)
    train = DataLoader(
        TensorDataset(src[:4000], tgt_in[:4000], tgt[:4000]), batch_size=64, shuffle=True
    )
    val = DataLoader(TensorDataset(src[4000:], tgt_in[4000:], tgt[4000:]), batch_size=100)
    model = ReverseSeq2Seq(fixed)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    criterion = nn.CrossEntropyLoss()
    watcher = watch(model, optimizer, loss_fn=criterion)
    for _ in range(6):
        model.train()
        total = 0.0
        for s, ti, to in train:
            optimizer.zero_grad()
            loss = criterion(model(s, ti).transpose(1, 2), to)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            watcher.step(loss)
            total += loss.item()
        model.eval()
        with torch.no_grad():
            outs = [(model(s, ti), to) for s, ti, to in val]
            val_loss = sum(criterion(o.transpose(1, 2), t).item() for o, t in outs) / len(outs)
            acc = sum((o.argmax(-1) == t).float().mean().item() for o, t in outs) / len(outs)
        watcher.log(val_loss=val_loss, val_accuracy=acc)
    return {"train_loss": total / len(train), "val_loss": val_loss, "val_accuracy": acc}


@faulty(
    "text classifier with attention pooling",
    fault="the attention weights are normalised with softmax over the batch (dim 0) instead of over the words (dim 1)",
    source="https://github.com/PetrochukM/PyTorch-NLP/issues/2",
)
def r5_attention_pooling_softmax_over_batch(watch, fixed):
    """Word embeddings, an attention pooling and a linear head. Exactly wrong: the answer depends on the other texts of the batch."""
    rng = np.random.default_rng(5)
    vocab, classes = 200, 6
    texts, labels = [], []
    for _ in range(3600):
        y = int(rng.integers(classes))
        words = rng.integers(20, vocab, size=int(rng.integers(6, 26)))
        words[rng.integers(len(words))] = 2 + 3 * y + rng.integers(3)  # a single telling word
        texts.append(torch.tensor(words))
        labels.append(y)

    class Texts(Dataset):
        def __init__(self, a, b):
            self.a, self.b = a, b

        def __len__(self):
            return self.b - self.a

        def __getitem__(self, i):
            return texts[self.a + i], labels[self.a + i]

    def collate(items):
        xs, ys = zip(*items)
        return nn.utils.rnn.pad_sequence(xs, batch_first=True), torch.tensor(ys)

    class AttnClassifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb = nn.Embedding(vocab, 32, padding_idx=0)
            self.score = nn.Sequential(nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
            self.head = nn.Linear(32, classes)

        def forward(self, x):
            h = self.emb(x)
            score = self.score(h).squeeze(-1).masked_fill(x == 0, -1e4)
            weight = torch.softmax(score, dim=1 if fixed else 0)
            return self.head((weight.unsqueeze(-1) * h).sum(1))

    train = DataLoader(Texts(0, 3200), batch_size=50, shuffle=True, collate_fn=collate)
    val = DataLoader(Texts(3200, 3600), batch_size=50, collate_fn=collate)
    single = DataLoader(Texts(3200, 3600), batch_size=1, collate_fn=collate)
    model = AttnClassifier()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    loss_fn = nn.CrossEntropyLoss()
    watcher = watch(model, optimizer, loss_fn=loss_fn, num_classes=classes, train=train, val=val)

    @torch.no_grad()
    def accuracy(loader):
        model.eval()
        hits = [(model(x).argmax(1) == y).float() for x, y in loader]
        return torch.cat(hits).mean().item()

    for _ in range(8):
        model.train()
        for x, y in train:
            loss = loss_fn(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(x, y))
        watcher.log(val_accuracy=accuracy(val))
    return {
        "train_loss": loss.item(),
        "val_accuracy": accuracy(val),
        "accuracy_one_text_at_a_time": accuracy(single),
    }


def blob_scene(rng, size=24):
    """A dim noisy picture with one to three discs; the mask marks the discs."""
    yy, xx = np.mgrid[:size, :size]
    mask = np.zeros((size, size), dtype=np.float32)
    for _ in range(rng.integers(1, 4)):
        cy, cx, r = rng.uniform(3, size - 3), rng.uniform(3, size - 3), rng.uniform(2, 4.5)
        mask[(yy - cy) ** 2 + (xx - cx) ** 2 < r * r] = 1
    return (0.25 + 0.45 * mask + rng.normal(0, 0.15, mask.shape)).astype(np.float32), mask


class SegDataset(Dataset):
    def __init__(self, n, seed, augment, flip_mask=True):
        rng = np.random.default_rng(seed)
        self.items = [blob_scene(rng) for _ in range(n)]
        self.augment, self.flip_mask = augment, flip_mask

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        image, mask = (torch.from_numpy(a).unsqueeze(0) for a in self.items[i])
        if self.augment:
            if torch.rand(()) < 0.5:
                image = image.flip(-1)
                if self.flip_mask:
                    mask = mask.flip(-1)
            image = image * (0.8 + 0.4 * torch.rand(()))
        return (image - 0.35) / 0.25, mask


class SmallUNet(nn.Module):
    def __init__(self, w=12):
        super().__init__()

        def block(i, o):
            return nn.Sequential(
                nn.Conv2d(i, o, 3, padding=1, bias=False),
                nn.BatchNorm2d(o),
                nn.ReLU(),
                nn.Conv2d(o, o, 3, padding=1, bias=False),
                nn.BatchNorm2d(o),
                nn.ReLU(),
            )

        self.d1, self.d2 = block(1, w), block(w, 2 * w)
        self.up, self.u1 = nn.ConvTranspose2d(2 * w, w, 2, 2), block(2 * w, w)
        self.last = nn.Conv2d(w, 1, 1)

    def forward(self, x):
        a = self.d1(x)
        b = self.d2(F.max_pool2d(a, 2))
        return self.last(self.u1(torch.cat([a, self.up(b)], 1)))


@faulty(
    "segmentation",
    fault="the random horizontal flip turns the picture only; its mask stays as it was",
    source="https://github.com/huggingface/cookbook/issues/248",
)
def r5_segmentation_flip_image_but_not_mask(watch, fixed):
    """A small U-Net on noisy discs with BCE and dice; flips and brightness as augmentation."""

    class Trainer:
        def __init__(self):
            self.train_loader = DataLoader(
                SegDataset(240, 1, True, flip_mask=fixed), batch_size=16, shuffle=True
            )
            self.val_loader = DataLoader(SegDataset(64, 2, False), batch_size=16)
            self.net = SmallUNet()
            self.opt = torch.optim.AdamW(self.net.parameters(), lr=3e-3)
            self.watcher = watch(self.net, self.opt, train=self.train_loader, val=self.val_loader)

        @staticmethod
        def loss(logits, mask):
            p = torch.sigmoid(logits)
            inter, total = (p * mask).sum((1, 2, 3)), (p + mask).sum((1, 2, 3))
            dice = 1 - (2 * inter + 1) / (total + 1)
            return F.binary_cross_entropy_with_logits(logits, mask) + 0.5 * dice.mean()

        def epoch(self):
            self.net.train()
            for image, mask in self.train_loader:
                self.opt.zero_grad()
                loss = self.loss(self.net(image), mask)
                loss.backward()
                self.opt.step()
                self.watcher.step(loss, batch=(image, mask))
            return loss.item()

        @torch.no_grad()
        def validate(self):
            self.net.eval()
            inter = union = val_loss = 0.0
            for image, mask in self.val_loader:
                logits = self.net(image)
                val_loss += self.loss(logits, mask).item() / len(self.val_loader)
                guess = logits > 0
                inter += (guess & (mask > 0)).sum().item()
                union += (guess | (mask > 0)).sum().item()
            self.watcher.log(val_loss=val_loss, val_iou=inter / max(union, 1))
            return val_loss, inter / max(union, 1)

    trainer = Trainer()
    for _ in range(8):
        train_loss = trainer.epoch()
        val_loss, iou = trainer.validate()
    return {"train_loss": train_loss, "val_loss": val_loss, "val_iou": iou}


def to_corners(b):
    cx, cy, w, h = b.unbind(-1)
    return torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], -1)


def pairwise_iou(a, b):
    """IoU and generalised IoU of boxes given as (x1, y1, x2, y2), row by row."""
    area_a = (a[:, 2:] - a[:, :2]).clamp(min=0).prod(1)
    area_b = (b[:, 2:] - b[:, :2]).clamp(min=0).prod(1)
    wh = (torch.min(a[:, 2:], b[:, 2:]) - torch.max(a[:, :2], b[:, :2])).clamp(min=0)
    inter = wh[:, 0] * wh[:, 1]
    union = area_a + area_b - inter
    iou = inter / (union + 1e-6)
    hull = (torch.max(a[:, 2:], b[:, 2:]) - torch.min(a[:, :2], b[:, :2])).clamp(min=0)
    hull = hull[:, 0] * hull[:, 1]
    return iou, iou - (hull - union) / (hull + 1e-6)


@faulty(
    "object detection",
    fault="the generalised IoU loss expects corner boxes (x1, y1, x2, y2) but is given centre boxes (cx, cy, w, h)",
    source="https://github.com/stevebottos/owl-vit-object-detection/issues/14",
)
def r5_detection_giou_gets_centre_boxes(watch, fixed):
    """One box per picture as in the last stage of a DETR: class, L1 and GIoU losses."""
    rng = np.random.default_rng(11)
    n, s = 1200, 32
    images = rng.normal(0.2, 0.1, (n, 1, s, s)).astype(np.float32)
    boxes, kinds = np.zeros((n, 4), np.float32), rng.integers(0, 2, n)
    for i in range(n):
        w, h = rng.integers(6, 17, 2)
        x, y = rng.integers(0, s - w), rng.integers(0, s - h)
        patch = np.full((h, w), 0.9, np.float32)
        if kinds[i]:
            patch[::2] = 0.3
        images[i, 0, y : y + h, x : x + w] += patch
        boxes[i] = (x + w / 2) / s, (y + h / 2) / s, w / s, h / s
    data = TensorDataset(torch.tensor(images), torch.tensor(boxes), torch.tensor(kinds))
    train_set, val_set = torch.utils.data.random_split(data, [1000, 200])
    train, val = (
        DataLoader(train_set, batch_size=40, shuffle=True),
        DataLoader(val_set, batch_size=100),
    )

    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Sequential(
                nn.Conv2d(1, 12, 3, 2, 1),
                nn.ReLU(),
                nn.Conv2d(12, 24, 3, 2, 1),
                nn.ReLU(),
                nn.Conv2d(24, 32, 3, 2, 1),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(512, 96),
                nn.ReLU(),
            )
            self.box, self.cls = nn.Linear(96, 4), nn.Linear(96, 2)

        def forward(self, x):
            h = self.backbone(x)
            return {"boxes": self.box(h).sigmoid(), "logits": self.cls(h)}

    def criterion(out, box, kind):
        if fixed:
            giou = pairwise_iou(to_corners(out["boxes"]), to_corners(box))[1]
        else:
            giou = pairwise_iou(out["boxes"], box)[1]
        losses = {
            "class": F.cross_entropy(out["logits"], kind),
            "l1": F.l1_loss(out["boxes"], box),
            "giou": (1 - giou).mean(),
        }
        return losses["class"] + 2.0 * losses["l1"] + 2.0 * losses["giou"], losses

    model = Detector()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [12], gamma=0.2)
    watcher = watch(model, optimizer)
    for _ in range(16):
        model.train()
        for image, box, kind in train:
            loss, parts = criterion(model(image), box, kind)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            watcher.step(loss)
        scheduler.step()
        model.eval()
        with torch.no_grad():
            ious, hits = [], []
            for image, box, kind in val:
                out = model(image)
                ious.append(pairwise_iou(to_corners(out["boxes"]), to_corners(box))[0])
                hits.append((out["logits"].argmax(1) == kind).float())
        iou, acc = torch.cat(ious).mean().item(), torch.cat(hits).mean().item()
        watcher.log(val_iou=iou, val_accuracy=acc)
    return {"train_loss": loss.item(), "val_iou": iou, "val_class_accuracy": acc}


@faulty(
    "VAE",
    fault="the KL term is summed over the whole batch as well (no dim= in sum) and then added to each example's reconstruction loss, so it weighs batch-size times too much and the posterior collapses",
    source="https://github.com/EDAPINENUT/GNTPP/issues/4",
)
def r5_vae_kl_summed_over_batch_too(watch, fixed):
    """A dense VAE on the digits; per-example ELBO."""
    x_train, _, x_val, _ = digit_split()

    class VAE(nn.Module):
        def __init__(self, latent=8):
            super().__init__()
            self.enc = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU())
            self.mu, self.log_var = nn.Linear(128, latent), nn.Linear(128, latent)
            self.dec = nn.Sequential(nn.Linear(latent, 128), nn.ReLU(), nn.Linear(128, 64))

        def forward(self, x):
            h = self.enc(x)
            mu, log_var = self.mu(h), self.log_var(h)
            z = mu + torch.randn_like(mu) * (0.5 * log_var).exp()
            return self.dec(z), mu, log_var

    def elbo(x, logits, mu, log_var):
        recon = F.binary_cross_entropy_with_logits(logits, x.flatten(1), reduction="none").sum(1)
        kl = 1 + log_var - mu.pow(2) - log_var.exp()
        kl = -0.5 * (kl.sum(dim=-1) if fixed else kl.sum())
        return (recon + kl).mean(), recon.mean()

    model = VAE()
    opt = torch.optim.Adam(model.parameters(), lr=2e-3)
    loader = DataLoader(TensorDataset(x_train), batch_size=64, shuffle=True)
    watcher = watch(model, opt, train=loader)
    for _ in range(35):
        model.train()
        for (x,) in loader:
            loss, _ = elbo(x, *model(x))
            opt.zero_grad()
            loss.backward()
            opt.step()
            watcher.step(loss)
        model.eval()
        with torch.no_grad():
            logits, mu, log_var = model(x_val)
            val_loss, val_recon = elbo(x_val, logits, mu, log_var)
        watcher.log(val_loss=val_loss.item())
    kl = (-0.5 * (1 + log_var - mu.pow(2) - log_var.exp()).sum(1)).mean().item()
    return {
        "train_loss": loss.item(),
        "val_reconstruction": val_recon.item(),
        "val_kl_per_example": kl,
    }


@faulty(
    "diffusion",
    fault="the noise is added with the factor (1 - alpha_bar) instead of its square root, while the sampler uses the right formula",
    source="https://github.com/Ryota-Kawamura/How-Diffusion-Models-Work/issues/1",
)
def r5_ddpm_noise_factor_without_square_root(watch, fixed):
    """DDPM on four broad clusters with a small MLP. Harm: the loss looks fine, but the clusters of the samples are too wide and x0 is estimated wrongly."""
    T = 60
    beta = torch.linspace(1e-3, 0.14, T)
    alpha = 1 - beta
    ab = alpha.cumprod(0)
    centres = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    data = centres.repeat(500, 1) + 0.25 * torch.randn(2000, 2)

    class Denoiser(nn.Module):
        def __init__(self, width=96):
            super().__init__()
            self.register_buffer("freq", torch.exp(torch.linspace(0, math.log(50), 8)))
            self.net = nn.Sequential(
                nn.Linear(2 + 16, width),
                nn.SiLU(),
                nn.Linear(width, width),
                nn.SiLU(),
                nn.Linear(width, width),
                nn.SiLU(),
                nn.Linear(width, 2),
            )

        def forward(self, x, t):
            a = (t.float() / T)[:, None] * self.freq
            return self.net(torch.cat([x, a.sin(), a.cos()], 1))

    def perturb(x, t, noise):
        scale = (1 - ab[t, None]).sqrt() if fixed else (1 - ab[t, None])
        return ab[t, None].sqrt() * x + scale * noise

    model = Denoiser()
    optim = torch.optim.Adam(model.parameters(), lr=4e-3)
    sched = torch.optim.lr_scheduler.CosineAnnealingLR(optim, 1800)
    watcher = watch(model, optim, scheduler=sched)
    running = 0.0
    for step in range(1800):
        x = data[torch.randint(len(data), (256,))]
        t = torch.randint(T, (256,))
        noise = torch.randn_like(x)
        loss = F.mse_loss(model(perturb(x, t, noise), t), noise)
        optim.zero_grad()
        loss.backward()
        optim.step()
        sched.step()
        watcher.step(loss)
        running = 0.98 * running + 0.02 * loss.item()
    model.eval()
    with torch.no_grad():
        x = torch.randn(1000, 2)
        for i in reversed(range(T)):
            eps = model(x, torch.full((1000,), i))
            x = (x - beta[i] / (1 - ab[i]).sqrt() * eps) / alpha[i].sqrt()
            if i:
                x = x + beta[i].sqrt() * torch.randn_like(x)
        spread = torch.cdist(x, centres).min(1).values.pow(2).mean().div(2).sqrt()
        real, t, noise = data[:1000], torch.randint(T // 3, (1000,)), torch.randn(1000, 2)
        noisy = ab[t, None].sqrt() * real + (1 - ab[t, None]).sqrt() * noise
        x0 = (noisy - (1 - ab[t, None]).sqrt() * model(noisy, t)) / ab[t, None].sqrt()
    return {
        "train_loss": running,
        "cluster_std_of_samples_true_0.25": spread.item(),
        "x0_error": F.mse_loss(x0, real).item(),
    }


@faulty(
    "contrastive learning",
    fault="the second embedding is computed from the first augmented view again, so each positive pair is one picture with itself",
    source="https://github.com/catalyst-team/catalyst/pull/1278",
)
def r5_simclr_same_view_twice(watch, fixed):
    """SimCLR on the digits with shifts, noise and erased patches. Harm: the two views of a held-out picture do not find each other."""
    x_train, y_train, x_val, y_val = digit_split()

    def augment(x):
        b = len(x)
        x = F.pad(x, (1, 1, 1, 1))
        dx, dy = torch.randint(0, 3, (b,)), torch.randint(0, 3, (b,))
        x = torch.stack(
            [img[:, i : i + 8, j : j + 8] for img, i, j in zip(x, dx.tolist(), dy.tolist())]
        )
        keep = (
            torch.rand(b, 1, 4, 4).gt(0.08).float().repeat_interleave(2, 2).repeat_interleave(2, 3)
        )
        return x * keep * (0.8 + 0.4 * torch.rand(b, 1, 1, 1)) + 0.05 * torch.randn_like(x)

    class Views(Dataset):
        def __init__(self, x):
            self.x = x

        def __len__(self):
            return len(self.x)

        def __getitem__(self, i):
            a, b = augment(self.x[i : i + 1]), augment(self.x[i : i + 1])
            return {"aug1": a[0], "aug2": b[0]}

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(1, 16, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(16, 32, 3, 2, 1),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(512, 64),
                nn.ReLU(),
            )
            self.proj = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32))

        def forward(self, x):
            return F.normalize(self.proj(self.body(x)), dim=1)

    def nt_xent(a, b, temperature=0.2):
        z = torch.cat([a, b])
        sim = z @ z.T / temperature
        sim.fill_diagonal_(-1e9)
        n = len(a)
        return F.cross_entropy(sim, torch.cat([torch.arange(n, 2 * n), torch.arange(n)]))

    loader = DataLoader(Views(x_train), batch_size=100, shuffle=True, drop_last=True)
    model = Encoder()
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    watcher = watch(model, optimizer, loss_fn=nt_xent, train=loader)
    for _ in range(12):
        for batch in loader:
            emb1 = model(batch["aug1"])
            emb2 = model(batch["aug2"] if fixed else batch["aug1"])
            loss = nt_xent(emb1, emb2)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss)
    model.eval()
    with torch.no_grad():
        a, b = model(augment(x_val)), model(augment(x_val))
        found = ((a @ b.T).argmax(1) == torch.arange(len(a))).float().mean().item()
        near = (model(augment(x_val)) @ model(x_train).T).argmax(1)
        knn = (y_train[near] == y_val).float().mean().item()
    return {
        "train_loss": loss.item(),
        "views_cosine": (a * b).sum(1).mean().item(),
        "other_view_found": found,
        "knn_accuracy": knn,
    }


@faulty(
    "DQN",
    fault="the condition for copying the online network into the target network is tested on the memory's counter, is never true, and so the target stays at its random start",
    source="https://github.com/shakedzy/tic_tac_toe/issues/1",
)
def r5_dqn_target_never_copied(watch, fixed):
    """A 6 x 6 grid with a goal in the far corner; DQN with replay. Harm: only the cells beside the goal are learnt."""
    size, gamma = 6, 0.95
    rng = np.random.default_rng(0)
    moves = np.array([(0, 1), (0, -1), (1, 0), (-1, 0)])

    def encode(cells):
        return F.one_hot(torch.as_tensor(cells[:, 0] * size + cells[:, 1]), size * size).float()

    def env_step(cell, action):
        nxt = np.clip(cell + moves[action], 0, size - 1)
        done = bool((nxt == size - 1).all())
        return nxt, 1.0 if done else -0.01, done

    class Memory:
        def __init__(self, capacity=3000):
            self.rows, self.counter, self.capacity = [], 0, capacity

        def push(self, row):
            self.counter += 1
            if len(self.rows) < self.capacity:
                self.rows.append(row)
            else:
                self.rows[self.counter % self.capacity] = row

        def sample(self, n):
            picks = [self.rows[i] for i in rng.integers(len(self.rows), size=n)]
            s, a, r, s2, d = map(np.array, zip(*picks))
            return (
                encode(s),
                torch.tensor(a),
                torch.tensor(r).float(),
                encode(s2),
                torch.tensor(d).float(),
            )

    online = nn.Sequential(nn.Linear(size * size, 64), nn.ReLU(), nn.Linear(64, 4))
    target = copy.deepcopy(online).requires_grad_(False)
    optimizer = torch.optim.Adam(online.parameters(), lr=2e-3)
    watcher = watch(online, optimizer)
    memory, learn_counter = Memory(), 0
    memory.push(
        (np.array([0, 0]), 0, -0.01, np.array([0, 1]), False)
    )  # a first entry so that sampling works
    cells, age = np.zeros((2, 2), int), np.zeros(2, int)  # two agents walk at once
    losses = []
    for step in range(2500):
        eps = max(0.15, 1 - step / 1200)
        with torch.no_grad():
            greedy = online(encode(cells)).argmax(1).numpy()
        for k in range(2):
            action = int(rng.integers(4)) if rng.random() < eps else int(greedy[k])
            nxt, reward, done = env_step(cells[k], action)
            memory.push((cells[k].copy(), action, reward, nxt, done))
            age[k] += 1
            restart = done or age[k] >= 40
            cells[k] = rng.integers(0, size - 1, 2) if restart else nxt
            age[k] = 0 if restart else age[k]
        if step < 100:
            continue
        s, a, r, s2, d = memory.sample(32)
        q = online(s).gather(1, a[:, None]).squeeze(1)
        with torch.no_grad():
            goal = r + gamma * (1 - d) * target(s2).max(1).values
        loss = F.smooth_l1_loss(q, goal)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
        losses.append(loss.item())
        learn_counter += 1
        if (learn_counter if fixed else memory.counter) % 50 == 0:
            target.load_state_dict(online.state_dict())
    reached = []
    with torch.no_grad():
        for i in range(size):
            for j in range(size):
                cell, done = np.array([i, j]), i == j == size - 1
                for _ in range(14):
                    if done:
                        break
                    cell, _, done = env_step(cell, int(online(encode(cell[None])).argmax()))
                reached.append(float(done))
    return {
        "td_loss": float(np.mean(losses[-200:])),
        "starts_that_reach_the_goal": float(np.mean(reached)),
    }


@faulty(
    "fine-tuning",
    fault="the step scheduler, meant to be stepped once an epoch, is stepped after every batch, so the learning rate is almost zero within the first epochs",
    source="https://github.com/pytorch/tutorials/pull/640",
)
def r5_transfer_scheduler_stepped_every_batch(watch, fixed):
    """A small CNN trained on the digits 0-4, then fine-tuned on 5-9 with a new head (StepLR as in the tutorial)."""
    x_train, y_train, x_val, y_val = digit_split()

    def subset(x, y, low):
        keep = (y >= low) & (y < low + 5)
        return TensorDataset((x[keep] - 0.3) / 0.37, y[keep] - low)

    model = nn.Sequential()
    model.add_module(
        "features",
        nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
        ),
    )
    model.add_module("fc", nn.Linear(128, 5))
    pre = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(4):  # "the pretrained weights"
        for x, y in DataLoader(subset(x_train, y_train, 0), batch_size=32, shuffle=True):
            pre.zero_grad()
            F.cross_entropy(model(x), y).backward()
            pre.step()

    model.fc = nn.Linear(128, 5)
    loaders = {
        "train": DataLoader(subset(x_train, y_train, 5), batch_size=16, shuffle=True),
        "val": DataLoader(subset(x_val, y_val, 5), batch_size=64),
    }
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)
    watcher = watch(
        model,
        optimizer,
        loss_fn=criterion,
        num_classes=5,
        train=loaders["train"],
        val=loaders["val"],
        scheduler=scheduler,
    )
    for epoch in range(10):
        for phase in ("train", "val"):
            model.train(phase == "train")
            seen = right = total = 0
            for x, y in loaders[phase]:
                with torch.set_grad_enabled(phase == "train"):
                    out = model(x)
                    loss = criterion(out, y)
                if phase == "train":
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    watcher.step(loss, batch=(x, y))
                    if not fixed:
                        scheduler.step()
                seen += len(y)
                right += (out.argmax(1) == y).sum().item()
                total += loss.item() * len(y)
            if phase == "train":
                train_loss = total / seen
                if fixed:
                    scheduler.step()
        watcher.log(val_loss=total / seen, val_accuracy=right / seen)
    return {
        "train_loss": train_loss,
        "val_loss": total / seen,
        "val_accuracy": right / seen,
        "last_lr": optimizer.param_groups[0]["lr"],
    }


@faulty(
    "image classifier",
    fault="the batch norm layers are built with momentum=0, so their running mean and variance never move and the model is wrong in eval mode",
    source="https://github.com/Cadene/pretrained-models.pytorch/issues/5",
)
def r5_cnn_batchnorm_momentum_zero(watch, fixed):
    """An Inception-like stem on the digits; fine in train(), poor in eval()."""
    bn_args = {"eps": 1e-3, "momentum": 0.1 if fixed else 0, "affine": True}

    class BasicConv2d(nn.Module):
        def __init__(self, cin, cout, k, **kw):
            super().__init__()
            self.conv = nn.Conv2d(cin, cout, k, bias=False, **kw)
            self.bn = nn.BatchNorm2d(cout, **bn_args)

        def forward(self, x):
            return F.relu(self.bn(self.conv(x)))

    class MiniInception(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = BasicConv2d(1, 16, 3, padding=1)
            self.b1, self.b3 = BasicConv2d(16, 16, 1), BasicConv2d(16, 16, 3, padding=1)
            self.reduce = BasicConv2d(32, 32, 3, stride=2, padding=1)
            self.out = nn.Linear(32, 10)

        def forward(self, x):
            x = self.stem(x)
            x = self.reduce(torch.cat([self.b1(x), self.b3(x)], 1))
            return self.out(x.mean((2, 3)))

    x_train, y_train, x_val, y_val = digit_split()
    train = DataLoader(TensorDataset(x_train, y_train), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(x_val, y_val), batch_size=128)
    net = MiniInception()
    opt = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4)
    sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, 8)
    criterion = nn.CrossEntropyLoss()
    watcher = watch(
        net, opt, loss_fn=criterion, num_classes=10, train=train, val=val, scheduler=sched
    )
    for _ in range(8):
        net.train()
        hits = 0
        for x, y in train:
            out = net(x)
            loss = criterion(out, y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            watcher.step(loss, batch=(x, y))
            hits += (out.argmax(1) == y).sum().item()
        sched.step()
        net.eval()
        with torch.no_grad():
            outs = torch.cat([net(x) for x, _ in val])
        val_loss, acc = (
            criterion(outs, y_val).item(),
            (outs.argmax(1) == y_val).float().mean().item(),
        )
        watcher.log(val_loss=val_loss, val_accuracy=acc)
    return {"train_accuracy": hits / len(x_train), "val_loss": val_loss, "val_accuracy": acc}


@faulty(
    "graph network",
    fault="the adjacency matrix is used raw: no self-loops and no degree normalisation, so sums grow with the degree",
    source="https://github.com/sufeidechabei/graphnets_gcn/issues/1",
)
def r5_gcn_adjacency_not_normalised(watch, fixed):
    """A three-layer GCN for nodes of a community graph with very unequal degrees; few labelled nodes, as on Cora."""
    rng = np.random.default_rng(4)
    n, k = 600, 5
    label = rng.integers(0, k, n)
    popularity = np.minimum(rng.pareto(1.1, n) + 0.5, 12)
    chance = np.outer(popularity, popularity) * np.where(label[:, None] == label[None], 0.05, 0.006)
    upper = np.triu(rng.random((n, n)) < np.minimum(chance, 0.9), 1)
    adj = torch.tensor((upper | upper.T).astype(np.float32))
    feats = torch.tensor(rng.normal(0, 1, (n, 24)).astype(np.float32))
    feats[:, :k] += 0.7 * F.one_hot(torch.tensor(label), k)
    y = torch.tensor(label)
    if fixed:
        adj = adj + torch.eye(n)
        inv = adj.sum(1).rsqrt()
        adj = inv[:, None] * adj * inv[None]

    class GCN(nn.Module):
        def __init__(self, hidden=32):
            super().__init__()
            self.w1, self.w2, self.w3 = (
                nn.Linear(24, hidden),
                nn.Linear(hidden, hidden),
                nn.Linear(hidden, k),
            )

        def forward(self, x, a):
            h = F.dropout(F.relu(a @ self.w1(x)), 0.5, self.training)
            h = F.dropout(F.relu(a @ self.w2(h)), 0.5, self.training)
            return a @ self.w3(h)

    order = torch.tensor(rng.permutation(n))
    train_idx, val_idx, test_idx = order[:100], order[100:250], order[250:]
    model = GCN()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    watcher = watch(model, optimizer, loss_fn=nn.CrossEntropyLoss(), num_classes=k)
    for epoch in range(200):
        model.train()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(feats, adj)[train_idx], y[train_idx])
        loss.backward()
        optimizer.step()
        watcher.step(loss)
        if epoch % 10 == 9:
            model.eval()
            with torch.no_grad():
                out = model(feats, adj)
            val_acc = (out.argmax(1) == y)[val_idx].float().mean().item()
            watcher.log(
                val_loss=F.cross_entropy(out[val_idx], y[val_idx]).item(), val_accuracy=val_acc
            )
    test = (out.argmax(1) == y)[test_idx].float().mean().item()
    return {
        "train_loss": loss.item(),
        "val_loss": F.cross_entropy(out[val_idx], y[val_idx]).item(),
        "val_accuracy": val_acc,
        "test_accuracy": test,
    }


@faulty(
    "time series forecast",
    fault="the LSTM is built without batch_first=True but is fed (batch, time, feature): it runs along the batch and never sees the history of a series",
    source="https://github.com/AndersonJo/dqn-pytorch/issues/1",
)
def r5_lstm_forecast_without_batch_first(watch, fixed):
    """One step ahead of noisy oscillations whose period differs from series to series."""
    rng = np.random.default_rng(8)

    def windows(n):
        period, phase = rng.uniform(8, 20, (n, 1)), rng.uniform(0, 2 * np.pi, (n, 1))
        t = np.arange(25)[None]
        s = np.sin(2 * np.pi * t / period + phase) + 0.03 * rng.normal(size=(n, 25))
        s = torch.tensor(s, dtype=torch.float32).unsqueeze(-1)
        return TensorDataset(s[:, :24], s[:, 24])

    class Forecaster(nn.Module):
        def __init__(self, hidden_size=32, num_layers=1):
            super().__init__()
            kwargs = {"batch_first": True} if fixed else {}
            self.lstm = nn.LSTM(1, hidden_size, num_layers, **kwargs)
            self.fc = nn.Linear(hidden_size, 1)

        def forward(self, x):
            out, _ = self.lstm(x)
            return self.fc(out[:, -1, :])

    train = DataLoader(windows(2000), batch_size=50, shuffle=True)
    val = DataLoader(windows(400), batch_size=50)
    model = Forecaster()
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    watcher = watch(model, optimizer, loss_fn=criterion, task="regression", train=train, val=val)
    for _ in range(12):
        model.train()
        for x, y in train:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(x, y))
        model.eval()
        with torch.no_grad():
            val_loss = sum(criterion(model(x), y).item() for x, y in val) / len(val)
        watcher.log(val_loss=val_loss)
    return {"train_loss": loss.item(), "val_loss": val_loss}


@faulty(
    "tabular regression",
    fault="the prediction has shape (N, 1) and the target (N,), so the squared error is broadcast to N x N pairs and the net learns the mean",
    source="https://github.com/timeseriesAI/tsai/issues/22",
)
def r5_tabular_target_without_last_axis(watch, fixed):
    """An MLP with batch norm on a table of eight columns with a cross term; inputs and target standardised with the training part."""
    rng = np.random.default_rng(2)
    table = rng.normal(size=(1600, 8))
    target = (
        2 * table[:, 0]
        + np.sin(2 * table[:, 1]) * 1.5
        + table[:, 2] * table[:, 3]
        + 0.2 * rng.normal(size=1600)
    )
    train_raw, val_raw = table[:1300], table[1300:]
    mu, sd = train_raw.mean(0), train_raw.std(0)
    t_mu, t_sd = target[:1300].mean(), target[:1300].std()

    class TableDataset(Dataset):
        def __init__(self, x, t):
            self.x = torch.tensor((x - mu) / sd, dtype=torch.float32)
            self.t = torch.tensor((t - t_mu) / t_sd, dtype=torch.float32)
            if fixed:
                self.t = self.t.unsqueeze(1)

        def __len__(self):
            return len(self.t)

        def __getitem__(self, i):
            return self.x[i], self.t[i]

    train = DataLoader(
        TableDataset(train_raw, target[:1300]), batch_size=64, shuffle=True, drop_last=True
    )
    val_set = TableDataset(val_raw, target[1300:])
    val = DataLoader(val_set, batch_size=300)
    model = nn.Sequential(
        nn.Linear(8, 64),
        nn.BatchNorm1d(64),
        nn.ReLU(),
        nn.Linear(64, 64),
        nn.ReLU(),
        nn.Linear(64, 1),
    )
    loss_fn = nn.MSELoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    watcher = watch(model, optimizer, loss_fn=loss_fn, train=train, val=val)
    for _ in range(20):
        model.train()
        for x, t in train:
            loss = loss_fn(model(x), t)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(x, t))
        model.eval()
        with torch.no_grad():
            val_loss = loss_fn(model(val_set.x), val_set.t).item()
            r2 = (
                1
                - (model(val_set.x).squeeze(1) - val_set.t.view(-1)).pow(2).mean() / val_set.t.var()
            )
        watcher.log(val_loss=val_loss)
    return {"train_loss": loss.item(), "val_loss": val_loss, "val_r2": r2.item()}


# ------------------------------------------------------------------------------------------------ sound


@sound("tabular binary classifier")
def r5_sound_tabular_onecycle(watch):
    """Breast cancer table, standardised with the training statistics; OneCycle stepped per batch; best epoch kept."""
    x, y = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    tr, va = order[:430], order[430:]
    mean, std = x[tr].mean(0), x[tr].std(0)
    to_t = lambda i: TensorDataset(
        torch.tensor((x[i] - mean) / std).float(), torch.tensor(y[i]).float()
    )  # noqa: E731
    train, val = (
        DataLoader(to_t(tr), batch_size=32, shuffle=True),
        DataLoader(to_t(va), batch_size=64),
    )
    model = nn.Sequential(
        nn.Linear(30, 32),
        nn.GELU(),
        nn.Dropout(0.2),
        nn.Linear(32, 16),
        nn.GELU(),
        nn.Linear(16, 1),
        nn.Flatten(0),
    )
    weight = torch.tensor((y[tr] == 0).sum() / (y[tr] == 1).sum()).float()
    criterion = nn.BCEWithLogitsLoss(pos_weight=weight)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.02)
    epochs = 15
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=8e-3, epochs=epochs, steps_per_epoch=len(train)
    )
    watcher = watch(model, optimizer, loss_fn=criterion, train=train, val=val, scheduler=scheduler)
    best, best_state = float("inf"), None
    for _ in range(epochs):
        model.train()
        for xb, yb in train:
            optimizer.zero_grad()
            loss = criterion(model(xb), yb)
            loss.backward()
            optimizer.step()
            scheduler.step()
            watcher.step(loss, batch=(xb, yb))
        model.eval()
        with torch.no_grad():
            logit = torch.cat([model(xb) for xb, _ in val])
        target = torch.tensor(y[va]).float()
        val_loss, acc = (
            criterion(logit, target).item(),
            ((logit > 0) == (target > 0)).float().mean().item(),
        )
        watcher.log(val_loss=val_loss, val_accuracy=acc)
        if val_loss < best:
            best, best_state = val_loss, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_state)
    return {"train_loss": loss.item(), "val_loss": best, "val_accuracy": acc}


@sound("image classifier")
def r5_sound_resnet_warm_restarts_bf16(watch):
    """A residual net on the digits in bf16 autocast; cosine with warm restarts stepped per batch, zero-initialised last batch norms."""

    class Residual(nn.Module):
        def __init__(self, cin, cout, stride):
            super().__init__()
            self.c1, self.n1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout)
            self.c2, self.n2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False), nn.BatchNorm2d(cout)
            nn.init.zeros_(self.n2.weight)
            self.skip = (
                nn.Identity() if cin == cout and stride == 1 else nn.Conv2d(cin, cout, 1, stride)
            )

        def forward(self, x):
            return F.relu(self.skip(x) + self.n2(self.c2(F.relu(self.n1(self.c1(x))))))

    x_train, y_train, x_val, y_val = digit_split(seed=4)
    train = DataLoader(TensorDataset(x_train, y_train), batch_size=50, shuffle=True)
    net = nn.Sequential(
        Residual(1, 12, 1),
        Residual(12, 24, 2),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(96, 10),
    )
    opt = torch.optim.SGD(net.parameters(), lr=0.08, momentum=0.9, weight_decay=5e-4)
    sched = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(opt, T_0=28, T_mult=2)
    watcher = watch(net, opt, num_classes=10, scheduler=sched)
    for _ in range(7):
        net.train()
        for x, y in train:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = net(x)
            loss = F.cross_entropy(logits.float(), y, label_smoothing=0.05)
            opt.zero_grad()
            loss.backward()
            opt.step()
            sched.step()
            watcher.step(loss)
        net.eval()
        with torch.no_grad():
            out = net(x_val)
        acc = (out.argmax(1) == y_val).float().mean().item()
        watcher.log(val_loss=F.cross_entropy(out, y_val).item(), val_accuracy=acc)
    return {"train_loss": loss.item(), "val_accuracy": acc}


@sound("character language model, stateful")
def r5_sound_stateful_gru_stream(watch):
    """A GRU reads eight parallel streams in order (no shuffle) and keeps its detached state from chunk to chunk; tied weights."""
    rng = np.random.default_rng(6)
    words = [rng.integers(1, 20, rng.integers(2, 6)).tolist() for _ in range(12)]
    stream = []
    while len(stream) < 26000:
        stream += words[rng.integers(12)] + [0]
    stream = torch.tensor(stream[:26000])
    train, val = stream[:22400].view(8, -1), stream[22400:26000].view(8, -1)

    class CharGRU(nn.Module):
        def __init__(self, vocab=20, d=48):
            super().__init__()
            self.emb = nn.Embedding(vocab, d)
            nn.init.normal_(self.emb.weight, std=0.1)
            self.rnn = nn.GRU(d, d, batch_first=True)
            self.bias = nn.Parameter(torch.zeros(vocab))

        def forward(self, x, state=None):
            h, state = self.rnn(self.emb(x), state)
            return F.linear(h, self.emb.weight, self.bias), state

    model = CharGRU()
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    watcher = watch(model, optimizer)
    bptt = 35

    def chunks(data):
        for i in range(0, data.size(1) - 1, bptt):
            n = min(bptt, data.size(1) - 1 - i)
            yield data[:, i : i + n], data[:, i + 1 : i + 1 + n]

    for _ in range(3):
        state = None
        model.train()
        for x, y in chunks(train):
            state = state.detach() if state is not None else None
            logits, state = model(x, state)
            loss = F.cross_entropy(logits.flatten(0, 1), y.flatten())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            watcher.step(loss)
        model.eval()
        with torch.no_grad():
            state, total, count = None, 0.0, 0
            for x, y in chunks(val):
                logits, state = model(x, state)
                total += F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum").item()
                count += y.numel()
        watcher.log(val_loss=total / count)
    return {"train_loss": loss.item(), "val_loss": total / count, "uniform_loss": math.log(20)}


@sound("WGAN with gradient penalty")
def r5_sound_wgan_gp_ring(watch):
    """Five critic steps for each generator step; losses are negative and move both ways by design."""

    def real(n):
        angle, radius = 2 * math.pi * torch.rand(n), 1.5 + 0.1 * torch.randn(n)
        return torch.stack([radius * angle.cos(), radius * angle.sin()], 1)

    gen = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    critic = nn.Sequential(
        nn.Linear(2, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1)
    )
    opt_g = torch.optim.Adam(gen.parameters(), lr=2e-3, betas=(0.5, 0.9))
    opt_c = torch.optim.Adam(critic.parameters(), lr=2e-3, betas=(0.5, 0.9))
    watch_c, watch_g = watch(critic, opt_c), watch(gen, opt_g)
    for _ in range(350):
        for _ in range(5):
            x, fake = real(64), gen(torch.randn(64, 4)).detach()
            mix = torch.rand(64, 1)
            between = (mix * x + (1 - mix) * fake).requires_grad_(True)
            slope = torch.autograd.grad(critic(between).sum(), between, create_graph=True)[0].norm(
                2, dim=1
            )
            loss_c = critic(fake).mean() - critic(x).mean() + 2.0 * ((slope - 1) ** 2).mean()
            opt_c.zero_grad()
            loss_c.backward()
            opt_c.step()
            watch_c.step(loss_c)
        loss_g = -critic(gen(torch.randn(64, 4))).mean()
        opt_g.zero_grad()
        loss_g.backward()
        opt_g.step()
        watch_g.step(loss_g)
    with torch.no_grad():
        out = gen(torch.randn(1000, 4))
    sector = ((torch.atan2(out[:, 1], out[:, 0]) + math.pi) / (2 * math.pi) * 8).long().clamp(0, 7)
    share = torch.bincount(sector, minlength=8).float() / 1000
    return {
        "critic_loss": loss_c.item(),
        "radius_error": (out.norm(dim=1) - 1.5).abs().mean().item(),
        "smallest_of_8_sectors": share.min().item(),
    }


@sound("semi-supervised, mean teacher")
def r5_sound_mean_teacher(watch):
    """100 labelled digits, the rest carry the label -1 and count in the consistency loss only, whose weight ramps up; EMA teacher."""
    x_train, y_train, x_val, y_val = digit_split(seed=2)
    y_semi = torch.full_like(y_train, -1)
    y_semi[:100] = y_train[:100]
    labelled, unlabelled = np.arange(100), np.arange(100, len(x_train))
    student = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 96), nn.ReLU(), nn.Dropout(0.2), nn.Linear(96, 10)
    )
    teacher = copy.deepcopy(student).requires_grad_(False).eval()
    optimizer = torch.optim.Adam(student.parameters(), lr=2e-3)
    watcher = watch(student, optimizer, num_classes=10)
    rng = np.random.default_rng(0)
    for step in range(600):
        idx = np.concatenate([rng.choice(labelled, 20), rng.choice(unlabelled, 60)])
        x, y = x_train[idx], y_semi[idx]
        student.train()
        logits = student(x + 0.15 * torch.randn_like(x))
        with torch.no_grad():
            target = teacher(x + 0.05 * torch.randn_like(x)).softmax(1)
        ramp = min(1.0, step / 200)
        supervised = F.cross_entropy(logits, y, ignore_index=-1)
        loss = supervised + 8.0 * ramp * F.mse_loss(logits.softmax(1), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for p, q in zip(teacher.parameters(), student.parameters()):
                p.lerp_(q, 0.02)
        watcher.step(loss)
        if step % 100 == 99:
            with torch.no_grad():
                acc = (teacher(x_val).argmax(1) == y_val).float().mean().item()
            watcher.log(val_accuracy=acc)
    return {"supervised_loss": supervised.item(), "teacher_val_accuracy": acc}


@sound("knowledge distillation")
def r5_sound_distillation(watch):
    """A frozen teacher in eval mode; the small student is trained on softened logits, cached once for the whole set."""
    x_train, y_train, x_val, y_val = digit_split(seed=6)
    teacher = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 10)
    )
    t_opt = torch.optim.Adam(teacher.parameters(), lr=5e-3)
    for _ in range(6):
        for x, y in DataLoader(TensorDataset(x_train, y_train), batch_size=64, shuffle=True):
            t_opt.zero_grad()
            F.cross_entropy(teacher(x), y).backward()
            t_opt.step()
    teacher.eval().requires_grad_(False)
    soft = teacher(x_train)

    class Student(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 8, 3, padding=1)
            self.fc = nn.Linear(8 * 16, 10)

        def forward(self, x):
            return self.fc(F.max_pool2d(F.relu(self.conv(x)), 2).flatten(1))

    student, temperature = Student(), 3.0
    opt = torch.optim.Adam(student.parameters(), lr=5e-3)
    loader = DataLoader(TensorDataset(x_train, y_train, soft), batch_size=64, shuffle=True)
    watcher = watch(student, opt, train=loader)
    for _ in range(12):
        student.train()
        for x, y, t in loader:
            s = student(x)
            kd = (
                F.kl_div(
                    (s / temperature).log_softmax(1),
                    (t / temperature).softmax(1),
                    reduction="batchmean",
                )
                * temperature**2
            )
            loss = 0.7 * kd + 0.3 * F.cross_entropy(s, y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            watcher.step(loss)
        student.eval()
        with torch.no_grad():
            acc = (student(x_val).argmax(1) == y_val).float().mean().item()
        watcher.log(val_accuracy=acc)
    return {"train_loss": loss.item(), "val_accuracy": acc}


@sound("recommender, sparse embeddings")
def r5_sound_matrix_factorisation_sparse(watch):
    """Ratings from users x items; sparse gradients: SparseAdam for the tables, Adam for the biases."""
    rng = np.random.default_rng(3)
    users, items, rank = 300, 200, 4
    u, v = rng.normal(size=(users, rank)), rng.normal(size=(items, rank))
    pairs = rng.permutation(users * items)[:14000]
    who, what = torch.tensor(pairs // items), torch.tensor(pairs % items)
    score = torch.tensor(
        (u[who] * v[what]).sum(1) / 2 + 0.5 * v[what, 0] + 0.2 * rng.normal(size=len(pairs))
    ).float()

    class MF(nn.Module):
        def __init__(self, d=8):
            super().__init__()
            self.user, self.item = (
                nn.Embedding(users, d, sparse=True),
                nn.Embedding(items, d, sparse=True),
            )
            nn.init.normal_(self.user.weight, std=0.1)
            nn.init.normal_(self.item.weight, std=0.1)
            self.item_bias = nn.Parameter(torch.zeros(items))
            self.mean = nn.Parameter(torch.zeros(()))

        def forward(self, a, b):
            return (self.user(a) * self.item(b)).sum(1) + self.item_bias[b] + self.mean

    model = MF()
    opts = [
        torch.optim.SparseAdam([model.user.weight, model.item.weight], lr=0.02),
        torch.optim.Adam([model.item_bias, model.mean], lr=0.01),
    ]
    loader = DataLoader(
        TensorDataset(who[:12000], what[:12000], score[:12000]), batch_size=256, shuffle=True
    )
    watcher = watch(model, opts, loss_fn=F.mse_loss, task="regression")
    for _ in range(10):
        for a, b, r in loader:
            loss = F.mse_loss(model(a, b), r)
            for o in opts:
                o.zero_grad()
            loss.backward()
            for o in opts:
                o.step()
            watcher.step(loss)
        with torch.no_grad():
            val = F.mse_loss(model(who[12000:], what[12000:]), score[12000:]).item()
        watcher.log(val_loss=val)
    return {"train_loss": loss.item(), "val_loss": val, "variance": score[12000:].var().item()}


@sound("physics-informed network")
def r5_sound_pinn_oscillator_lbfgs(watch):
    """u'' + u = 0 with u(0) = 1 and u'(0) = 0, full batch: first Adam, then LBFGS whose closure runs several times per step."""
    net = nn.Sequential(nn.Linear(1, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 1))
    t = torch.linspace(0, 2 * math.pi, 60)[:, None]

    def physics_loss():
        s = t.clone().requires_grad_(True)
        u = net(s / math.pi - 1)
        du = torch.autograd.grad(u.sum(), s, create_graph=True)[0]
        ddu = torch.autograd.grad(du.sum(), s, create_graph=True)[0]
        return (ddu + u).pow(2).mean() + 10 * (u[0] - 1).pow(2).sum() + 10 * du[0].pow(2).sum()

    adam = torch.optim.Adam(net.parameters(), lr=4e-3)
    watcher = watch(net, adam)
    for _ in range(400):
        loss = physics_loss()
        adam.zero_grad()
        loss.backward()
        adam.step()
        watcher.step(loss)
    lbfgs = torch.optim.LBFGS(
        net.parameters(), lr=1.0, max_iter=10, history_size=30, line_search_fn="strong_wolfe"
    )
    polish = watch(net, lbfgs)

    def closure():
        lbfgs.zero_grad()
        value = physics_loss()
        value.backward()
        return value

    for _ in range(60):
        loss = lbfgs.step(closure)
        polish.step(loss)
    with torch.no_grad():
        error = (net(t / math.pi - 1) - t.cos()).abs().max().item()
    return {"loss": float(loss), "largest_error": error}


@sound("speech-like recogniser with CTC")
def r5_sound_ctc_recogniser(watch):
    """Frames of varying length, labels without alignment; CTC starts with a plateau of blanks."""
    rng = np.random.default_rng(9)
    codebook = rng.normal(size=(6, 8)).astype(np.float32)

    def utterance():
        label = [int(rng.integers(1, 6))]
        while len(label) < rng.integers(2, 6):
            label.append(int(rng.choice([c for c in range(1, 6) if c != label[-1]])))
        frames = [codebook[c] for c in label for _ in range(rng.integers(2, 5))]
        return torch.tensor(
            np.array(frames) + 0.3 * rng.normal(size=(len(frames), 8)).astype(np.float32)
        ), torch.tensor(label)

    def collate(rows):
        xs, ys = zip(*rows)
        return (
            nn.utils.rnn.pad_sequence(xs, batch_first=True),
            torch.tensor([len(x) for x in xs]),
            torch.cat(ys),
            torch.tensor([len(y) for y in ys]),
        )

    data = [utterance() for _ in range(1000)]
    train = DataLoader(data[:900], batch_size=30, shuffle=True, collate_fn=collate)

    class Recogniser(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv1d(8, 32, 3, padding=1)
            self.rnn = nn.GRU(32, 24, batch_first=True, bidirectional=True)
            self.out = nn.Linear(48, 6)

        def forward(self, x, lengths):
            h = F.relu(self.conv(x.transpose(1, 2))).transpose(1, 2)
            packed = nn.utils.rnn.pack_padded_sequence(
                h, lengths, batch_first=True, enforce_sorted=False
            )
            h, _ = nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
            return self.out(h).log_softmax(-1)

    model, ctc = Recogniser(), nn.CTCLoss(blank=0, zero_infinity=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    watcher = watch(model, optimizer)
    for _ in range(6):
        model.train()
        for x, nx, y, ny in train:
            loss = ctc(model(x, nx).transpose(0, 1), y, nx, ny)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            watcher.step(loss)
    model.eval()
    right = 0
    with torch.no_grad():
        for x, y in data[900:]:
            path = torch.unique_consecutive(model(x[None], torch.tensor([len(x)])).argmax(-1)[0])
            right += path[path > 0].tolist() == y.tolist()
    return {"train_loss": loss.item(), "val_exact": right / 100}


@sound("PPO")
def r5_sound_ppo_line_walk(watch):
    """Many small worlds at once, four epochs per batch of experience; the loss hovers about zero and says nothing of the return."""
    worlds, horizon, gamma, lam = 32, 20, 0.95, 0.9

    class ActorCritic(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh())
            self.pi, self.v = nn.Linear(32, 3), nn.Linear(32, 1)
            nn.init.orthogonal_(self.pi.weight, 0.01)

        def forward(self, s):
            h = self.body(s)
            return torch.distributions.Categorical(logits=self.pi(h)), self.v(h).squeeze(-1)

    net = ActorCritic()
    opt = torch.optim.Adam(net.parameters(), lr=6e-3, eps=1e-5)
    watcher = watch(net, opt)
    returns = []
    for _ in range(50):
        pos, goal = torch.rand(worlds) * 2 - 1, torch.rand(worlds) * 2 - 1
        rows = {k: [] for k in ("s", "a", "logp", "v", "r")}
        with torch.no_grad():
            for _ in range(horizon):
                s = torch.stack([pos, goal], 1)
                dist, v = net(s)
                a = dist.sample()
                pos = (pos + 0.15 * (a - 1)).clamp(-1, 1)
                for key, val in zip(rows, (s, a, dist.log_prob(a), v, -(pos - goal).abs())):
                    rows[key].append(val)
            last = net(torch.stack([pos, goal], 1))[1]
        s, a, logp, v, r = (torch.stack(rows[k]) for k in rows)
        adv, run = torch.zeros_like(r), torch.zeros(worlds)
        for i in reversed(range(horizon)):
            nxt = last if i == horizon - 1 else v[i + 1]
            run = r[i] + gamma * nxt - v[i] + gamma * lam * run
            adv[i] = run
        target = (adv + v).flatten()
        s, a, logp, adv = s.flatten(0, 1), a.flatten(), logp.flatten(), adv.flatten()
        adv = (adv - adv.mean()) / (adv.std() + 1e-8)
        for _ in range(4):
            for idx in torch.randperm(len(a)).split(160):
                dist, value = net(s[idx])
                ratio = (dist.log_prob(a[idx]) - logp[idx]).exp()
                clipped = ratio.clamp(0.8, 1.2)
                policy = -torch.min(ratio * adv[idx], clipped * adv[idx]).mean()
                loss = policy + 0.5 * F.mse_loss(value, target[idx]) - 0.005 * dist.entropy().mean()
                opt.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(net.parameters(), 0.5)
                opt.step()
                watcher.step(loss)
        returns.append(r.sum(0).mean().item())
    return {"first_return": sum(returns[:3]) / 3, "last_return": sum(returns[-3:]) / 3}


@sound("VQ-VAE")
def r5_sound_vqvae_ema_codebook(watch):
    """The codebook is a buffer that follows moving averages (no gradient); straight-through estimator; two codes per row of a digit."""
    x_train, _, x_val, _ = digit_split(seed=8)

    class VQ(nn.Module):
        def __init__(self, codes=32, d=8):
            super().__init__()
            self.register_buffer("book", torch.randn(codes, d) * 0.3)
            self.register_buffer("count", torch.ones(codes))
            self.register_buffer("total", self.book.clone())

        def forward(self, z):
            flat = z.flatten(0, 1)
            idx = torch.cdist(flat, self.book).argmin(1)
            if self.training:
                with torch.no_grad():
                    hot = F.one_hot(idx, len(self.book)).float()
                    self.count.lerp_(hot.sum(0), 0.05)
                    self.total.lerp_(hot.T @ flat, 0.05)
                    self.book.copy_(self.total / (self.count[:, None] + 1e-4))
                    dead = self.count < 0.05
                    if dead.any():
                        fresh = flat[torch.randint(len(flat), (int(dead.sum()),))]
                        self.book[dead], self.total[dead], self.count[dead] = fresh, fresh, 1.0
            q = self.book[idx].view_as(z)
            return z + (q - z).detach(), F.mse_loss(z, q.detach()), idx

    class VQVAE(nn.Module):
        def __init__(self):
            super().__init__()
            self.enc = nn.Sequential(
                nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128)
            )
            self.vq = VQ()
            self.dec = nn.Sequential(
                nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 64), nn.Sigmoid()
            )

        def forward(self, x):
            q, commit, idx = self.vq(self.enc(x).view(len(x), 16, 8))
            return self.dec(q.flatten(1)).view_as(x), commit, idx

    model = VQVAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    loader = DataLoader(TensorDataset(x_train), batch_size=64, shuffle=True)
    watcher = watch(model, optimizer, train=loader)
    for _ in range(20):
        model.train()
        for (x,) in loader:
            out, commit, _ = model(x)
            loss = F.mse_loss(out, x) + 0.25 * commit
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss)
        model.eval()
        with torch.no_grad():
            out, _, idx = model(x_val)
        val = F.mse_loss(out, x_val).item()
        watcher.log(val_mse=val)
    return {
        "train_loss": loss.item(),
        "val_mse": val,
        "pixel_variance": x_val.var(0).mean().item(),
        "codes_used": float(len(idx.unique())),
    }


@sound("normalising flow")
def r5_sound_realnvp_moons(watch):
    """Coupling layers, the last layer of each net starts at zero; the loss is a negative log likelihood without floor at zero."""
    data = torch.tensor(make_moons(2400, noise=0.05, random_state=1)[0], dtype=torch.float32)
    data = (data - data.mean(0)) / data.std(0)

    class Coupling(nn.Module):
        def __init__(self, flip):
            super().__init__()
            self.flip = flip
            self.net = nn.Sequential(
                nn.Linear(1, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 2)
            )
            nn.init.zeros_(self.net[-1].weight)
            nn.init.zeros_(self.net[-1].bias)

        def forward(self, x):
            a, b = x.split(1, 1)
            if self.flip:
                a, b = b, a
            s, t = self.net(a).split(1, 1)
            s = 2 * torch.tanh(s / 2)
            b = b * s.exp() + t
            return torch.cat([b, a] if self.flip else [a, b], 1), s.squeeze(1)

    flow = nn.ModuleList([Coupling(i % 2 == 1) for i in range(6)])

    def nll(x):
        log_det = 0
        for layer in flow:
            x, s = layer(x)
            log_det = log_det + s
        return (0.5 * x.pow(2).sum(1) + math.log(2 * math.pi) - log_det).mean()

    optimizer = torch.optim.Adam(flow.parameters(), lr=3e-3)
    watcher = watch(flow, optimizer)
    for epoch in range(20):
        for group in optimizer.param_groups:  # a schedule by hand
            group["lr"] = 3e-3 * 0.5 * (1 + math.cos(math.pi * epoch / 20)) + 1e-5
        for (x,) in DataLoader(TensorDataset(data[:2000]), batch_size=100, shuffle=True):
            loss = nll(x)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(flow.parameters(), 2.0)
            optimizer.step()
            watcher.step(loss)
        with torch.no_grad():
            val = nll(data[2000:]).item()
        watcher.log(val_loss=val)
    return {"train_loss": loss.item(), "val_loss": val, "gaussian_nll": 1 + math.log(2 * math.pi)}


@sound("graph network")
def r5_sound_graphsage_full_batch(watch):
    """Transductive: one graph, one update per epoch, the loss is taken at the labelled nodes only."""
    rng = np.random.default_rng(12)
    n, k = 500, 4
    y = rng.integers(0, k, n)
    same = y[:, None] == y[None]
    upper = np.triu(rng.random((n, n)) < np.where(same, 0.07, 0.006), 1)
    src, dst = map(torch.tensor, np.nonzero(upper | upper.T))
    x = torch.tensor(rng.normal(size=(n, 16)).astype(np.float32))
    y = torch.tensor(y)
    x[:, :k] += 0.8 * F.one_hot(y, k)
    degree = torch.zeros(n).index_add_(0, dst, torch.ones(len(dst))).clamp(min=1)

    class Sage(nn.Module):
        def __init__(self, cin, cout):
            super().__init__()
            self.own, self.near = nn.Linear(cin, cout), nn.Linear(cin, cout, bias=False)

        def forward(self, h):
            mean = torch.zeros_like(h).index_add_(0, dst, h[src]) / degree[:, None]
            return self.own(h) + self.near(mean)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.l1, self.l2 = Sage(16, 32), Sage(32, k)

        def forward(self, h):
            return self.l2(F.dropout(F.relu(self.l1(h)), 0.4, self.training))

    perm = torch.tensor(rng.permutation(n))
    labelled, held_out = perm[:150], perm[150:]
    net = Net()
    opt = torch.optim.Adam(net.parameters(), lr=0.01, weight_decay=5e-3)
    watcher = watch(net, opt, num_classes=k)
    for epoch in range(150):
        net.train()
        loss = F.cross_entropy(net(x)[labelled], y[labelled])
        opt.zero_grad()
        loss.backward()
        opt.step()
        watcher.step(loss)
        if (epoch + 1) % 15 == 0:
            net.eval()
            with torch.no_grad():
                out = net(x)[held_out]
            acc = (out.argmax(1) == y[held_out]).float().mean().item()
            watcher.log(val_loss=F.cross_entropy(out, y[held_out]).item(), val_accuracy=acc)
    return {"train_loss": loss.item(), "val_accuracy": acc}


@sound("meta-learning")
def r5_sound_reptile_sine(watch):
    """Reptile: a few SGD steps on one sine wave, then the weights go a part of the way there; the loss jumps with each new task."""
    rng = np.random.default_rng(1)

    def task():
        amp, phase = rng.uniform(0.5, 2.5), rng.uniform(0, math.pi)

        def points(n):
            x = torch.tensor(rng.uniform(-3, 3, (n, 1)), dtype=torch.float32)
            return x, amp * torch.sin(x + phase)

        return points

    net = nn.Sequential(nn.Linear(1, 48), nn.Tanh(), nn.Linear(48, 48), nn.Tanh(), nn.Linear(48, 1))
    sgd = torch.optim.SGD(net.parameters(), lr=0.02)
    watcher = watch(net, sgd, task="regression")
    outer_rounds = 400
    for it in range(outer_rounds):
        start = [p.detach().clone() for p in net.parameters()]
        points = task()
        x, y = points(24)
        for _ in range(5):
            loss = F.mse_loss(net(x), y)
            sgd.zero_grad()
            loss.backward()
            sgd.step()
            watcher.step(loss)
        step = 0.6 * (1 - it / outer_rounds)
        with torch.no_grad():
            for p, old in zip(net.parameters(), start):
                p.copy_(old + step * (p - old))
    before, after = [], []
    for _ in range(20):
        points, clone = task(), copy.deepcopy(net)
        opt = torch.optim.SGD(clone.parameters(), lr=0.02)
        x, y = points(24)
        xt, yt = points(100)
        before.append(F.mse_loss(clone(xt), yt).item())
        for _ in range(20):
            opt.zero_grad()
            F.mse_loss(clone(x), y).backward()
            opt.step()
        after.append(F.mse_loss(clone(xt), yt).item())
    return {
        "loss": loss.item(),
        "new_task_before": float(np.mean(before)),
        "new_task_after_20_steps": float(np.mean(after)),
    }
