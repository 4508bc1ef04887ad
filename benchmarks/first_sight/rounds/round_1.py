"""Round 1: many kinds of training program, one plain and reported mistake in each faulty one, and sound loops that look unusual."""

import copy
import math
import random
from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits, make_classification
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, Dataset, TensorDataset, WeightedRandomSampler

from benchmarks.first_sight.programs import faulty, sound


# ------------------------------------------------------------------------------------------------ faulty
class CharCorpus(Dataset):
    """Text in which the next letter depends on the two letters before it."""

    def __init__(self, length, seed, vocab=12, block=24):
        rule = np.random.default_rng(5).integers(0, vocab, size=(vocab, vocab))
        rng = np.random.default_rng(seed)
        text = [0, 1]
        for _ in range(length):
            text.append(
                int(rule[text[-2], text[-1]]) if rng.random() < 0.85 else int(rng.integers(vocab))
            )
        self.text = torch.tensor(text)
        self.block = block

    def __len__(self):
        return (len(self.text) - 1) // self.block

    def __getitem__(self, i):
        chunk = self.text[i * self.block : (i + 1) * self.block + 1]
        return chunk[:-1], chunk[1:]


@faulty(
    "character language model",
    fault="the LSTM is built without batch_first=True but is fed (batch, time, features), so it runs along the batch: a letter sees other samples' letters "
    "instead of its own past, and the loss stays near that of single letters",
    source="https://github.com/yunjey/pytorch-tutorial/issues/196",
)
def r1_charlm_lstm_batch_first_missing(watch, fixed):
    """Character LSTM on a second-order text; Adam, clipping. Faulty: val_loss stays much higher (it must use the two last letters)."""
    vocab = 12

    class CharLSTM(nn.Module):
        def __init__(self, hidden=64):
            super().__init__()
            self.emb = nn.Embedding(vocab, 32)
            self.lstm = (
                nn.LSTM(32, hidden, num_layers=1, batch_first=True)
                if fixed
                else nn.LSTM(32, hidden, num_layers=1)
            )
            self.out = nn.Linear(hidden, vocab)

        def forward(self, x):
            h, _ = self.lstm(self.emb(x))
            return self.out(h)

    train_loader = DataLoader(
        CharCorpus(36000, seed=1), batch_size=32, shuffle=True, drop_last=True
    )
    val_loader = DataLoader(CharCorpus(5000, seed=2), batch_size=32)
    model = CharLSTM()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    criterion = nn.CrossEntropyLoss()
    watcher = watch(
        model, optimizer, loss_fn=criterion, num_classes=vocab, train=train_loader, val=val_loader
    )
    for epoch in range(7):
        model.train()
        total = 0.0
        for x, y in train_loader:
            logits = model(x)
            loss = criterion(logits.reshape(-1, vocab), y.reshape(-1))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            watcher.step(loss)
            total += loss.item()
        model.eval()
        with torch.no_grad():
            losses, hits, n = [], 0, 0
            for x, y in val_loader:
                logits = model(x)
                losses.append(criterion(logits.reshape(-1, vocab), y.reshape(-1)).item())
                hits += (logits.argmax(-1) == y).sum().item()
                n += y.numel()
        watcher.log(val_loss=float(np.mean(losses)), val_accuracy=hits / n)
    return {
        "train_loss": total / len(train_loader),
        "val_loss": float(np.mean(losses)),
        "val_accuracy": hits / n,
    }


def _sentence_pairs(n, seed, pad=0, bos=1, eos=2, words=14):
    """ "Translation": every word is replaced by its dictionary word and the sentence is reversed."""
    rng = random.Random(seed)
    lexicon = list(range(3, 3 + words))
    random.Random(99).shuffle(lexicon)
    pairs = []
    for _ in range(n):
        src = [rng.randrange(3, 3 + words) for _ in range(rng.randint(3, 7))]
        tgt = [lexicon[w - 3] for w in reversed(src)]
        pairs.append((src, [bos, *tgt, eos]))
    return pairs


@faulty(
    "seq2seq translation",
    fault="the source padding mask is the wrong way round (True at real words, False at padding), so encoder and cross-attention look only at padding "
    "and the translation is independent of the source: the loss stays near that of guessing words",
    source="https://discuss.pytorch.org nn.Transformer src_key_padding_mask confusion (True means: ignore)",
)
def r1_translation_padding_mask_inverted(watch, fixed):
    """nn.Transformer, 2+2 layers, AdamW with warmup; padded to a fixed length of 9, so at least two pads in every source."""
    PAD, SRC_LEN, VOCAB, D = 0, 9, 17, 48

    def pad_to(seq, n):
        return seq + [PAD] * (n - len(seq))

    def collate(batch):
        src = torch.tensor([pad_to(s, SRC_LEN) for s, _ in batch])
        tgt = torch.tensor([pad_to(t, max(len(t) for _, t in batch)) for _, t in batch])
        return {"src": src, "tgt_in": tgt[:, :-1], "tgt_out": tgt[:, 1:]}

    class Translator(nn.Module):
        def __init__(self):
            super().__init__()
            self.src_emb = nn.Embedding(VOCAB, D, padding_idx=PAD)
            self.tgt_emb = nn.Embedding(VOCAB, D, padding_idx=PAD)
            self.pos = nn.Parameter(torch.randn(16, D) * 0.1)
            self.core = nn.Transformer(D, 4, 2, 2, 96, dropout=0.0, batch_first=True)
            self.proj = nn.Linear(D, VOCAB)

        def forward(self, src, tgt):
            src_pad = (src == PAD) if fixed else (src != PAD)
            causal = torch.triu(torch.ones(tgt.size(1), tgt.size(1), dtype=torch.bool), 1)
            h = self.core(
                self.src_emb(src) + self.pos[: src.size(1)],
                self.tgt_emb(tgt) + self.pos[: tgt.size(1)],
                tgt_mask=causal,
                src_key_padding_mask=src_pad,
                memory_key_padding_mask=src_pad,
                tgt_key_padding_mask=(tgt == PAD),
            )
            return self.proj(h)

    train_dl = DataLoader(_sentence_pairs(3200, 1), batch_size=64, shuffle=True, collate_fn=collate)
    val_dl = DataLoader(_sentence_pairs(400, 2), batch_size=100, collate_fn=collate)
    model = Translator()
    opt = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-4)
    sched = torch.optim.lr_scheduler.LambdaLR(opt, lambda s: min(1.0, (s + 1) / 40))
    ce = nn.CrossEntropyLoss(ignore_index=PAD)
    watcher = watch(model, opt, loss_fn=ce, scheduler=sched)
    for epoch in range(8):
        model.train()
        for b in train_dl:
            loss = ce(model(b["src"], b["tgt_in"]).flatten(0, 1), b["tgt_out"].flatten())
            opt.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            opt.step()
            sched.step()
            watcher.step(loss)
        model.eval()
        right = count = 0
        vl = 0.0
        with torch.no_grad():
            for b in val_dl:
                out = model(b["src"], b["tgt_in"])
                vl += ce(out.flatten(0, 1), b["tgt_out"].flatten()).item() / len(val_dl)
                keep = b["tgt_out"] != PAD
                right += (out.argmax(-1) == b["tgt_out"])[keep].sum().item()
                count += keep.sum().item()
        watcher.log(val_loss=vl, val_accuracy=right / count)
    return {"train_loss": loss.item(), "val_loss": vl, "val_token_accuracy": right / count}


@faulty(
    "image captioning",
    fault="with several captions per image the image features are expanded with repeat() (0,1,2,0,1,2,..) while the captions lie image by image (0,0,1,1,..): "
    "captions are joined to the wrong images, so the decoder learns to ignore the picture",
    source="own experience; torch.repeat versus repeat_interleave, asked often on discuss.pytorch.org",
)
def r1_captioning_repeat_not_interleave(watch, fixed):
    """CNN encoder, GRU decoder; two coloured shapes per picture; three captions (word orders) for each picture."""
    colours = ["red", "green", "blue"]
    shapes = ["square", "cross", "line"]
    words = ["<pad>", "<s>", "</s>", "a", "left", "right", "on", *colours, *shapes]
    ix = {w: i for i, w in enumerate(words)}

    def draw(img, col, shape, x0):
        if shape == "square":
            img[col, 4:10, x0 : x0 + 6] = 1
        elif shape == "cross":
            for k in range(6):
                img[col, 4 + k, x0 + k] = 1
                img[col, 9 - k, x0 + k] = 1
        else:
            img[col, 6:8, x0 : x0 + 6] = 1

    def make(n, seed):
        rng = np.random.default_rng(seed)
        imgs = torch.tensor(rng.normal(0, 0.1, (n, 3, 14, 16)), dtype=torch.float32)
        caps = torch.zeros(n, 3, 11, dtype=torch.long)
        for i in range(n):
            (c1, s1, c2, s2) = rng.integers(0, 3, 4)
            draw(imgs[i], c1, shapes[s1], 1)
            draw(imgs[i], c2, shapes[s2], 9)
            texts = [
                f"a {colours[c1]} {shapes[s1]} left a {colours[c2]} {shapes[s2]} right",
                f"right a {colours[c2]} {shapes[s2]} left a {colours[c1]} {shapes[s1]}",
                f"on left {colours[c1]} {shapes[s1]} on right {colours[c2]} {shapes[s2]}",
            ]
            for k, t in enumerate(texts):
                ids = [1, *(ix[w] for w in t.split()), 2]
                caps[i, k, : len(ids)] = torch.tensor(ids)
        return TensorDataset(imgs, caps)

    class Captioner(nn.Module):
        def __init__(self, width=64):
            super().__init__()
            self.cnn = nn.Sequential(
                nn.Conv2d(3, 16, 3, padding=1),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Conv2d(16, 32, 3, padding=1),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Flatten(),
                nn.Linear(32 * 3 * 4, width),
                nn.Tanh(),
            )
            self.embed = nn.Embedding(len(words), 32, padding_idx=0)
            self.gru = nn.GRU(32 + width, width, batch_first=True)
            self.head = nn.Linear(width, len(words))

        def forward(self, images, captions):
            b, k, t = captions.shape
            feat = self.cnn(images)
            feat = feat.repeat_interleave(k, dim=0) if fixed else feat.repeat(k, 1)
            tokens = self.embed(captions.reshape(b * k, t))
            h, _ = self.gru(
                torch.cat([tokens, feat[:, None].expand(-1, t, -1)], -1), feat[None].contiguous()
            )
            return self.head(h)

    train, val = make(1200, 0), make(200, 1)
    model = Captioner()
    optim = torch.optim.Adam(model.parameters(), lr=2e-3)
    loader = DataLoader(train, 40, shuffle=True)
    watcher = watch(model, optim, train=loader)
    for epoch in range(12):
        model.train()
        run = 0.0
        for images, captions in loader:
            logits = model(images, captions[:, :, :-1])
            loss = F.cross_entropy(
                logits.transpose(1, 2), captions[:, :, 1:].reshape(-1, 10), ignore_index=0
            )
            optim.zero_grad(set_to_none=True)
            loss.backward()
            optim.step()
            watcher.step(loss, batch=(images, captions))
            run += loss.item() / len(loader)
        model.eval()
        with torch.no_grad():
            im, cp = val.tensors
            # one image with one caption at a time, as a caption is really made: the join cannot go wrong here
            out = model(im, cp[:, :1, :-1])
            goal = cp[:, 0, 1:]
            content = goal >= ix["red"]
            acc = (out.argmax(-1) == goal)[content].float().mean().item()
            vloss = F.cross_entropy(out.transpose(1, 2), goal, ignore_index=0).item()
        watcher.log(val_loss=vloss, val_accuracy=acc)
    return {"train_loss": run, "val_loss": vloss, "val_content_word_accuracy": acc}


@faulty(
    "object detection",
    fault="the random horizontal flip of the training pictures flips the image but not the box's x coordinate, so half of the targets are wrong and boxes drift to the middle",
    source="https://forums.fast.ai/t/flipping-and-image-regression-with-keypoints/90532",
)
def r1_detection_flip_image_not_boxes(watch, fixed):
    """One-stage grid detector (4x4 cells, objectness + box), one object per picture. Faulty: lower IoU, objectness at the mirrored place too."""

    class Scenes(Dataset):
        def __init__(self, n, seed, augment):
            g = np.random.default_rng(seed)
            self.images = g.normal(0, 0.3, (n, 1, 32, 32)).astype("float32")
            self.boxes = np.zeros((n, 4), "float32")  # cx, cy, w, h in 0..1
            for i in range(n):
                w, h = g.integers(6, 13, 2)
                x, y = g.integers(0, 32 - w), g.integers(0, 32 - h)
                self.images[i, 0, y : y + h, x : x + w] += 1.0
                self.boxes[i] = ((x + w / 2) / 32, (y + h / 2) / 32, w / 32, h / 32)
            self.augment = augment

        def __len__(self):
            return len(self.images)

        def __getitem__(self, i):
            img, box = torch.from_numpy(self.images[i]), torch.from_numpy(self.boxes[i]).clone()
            if self.augment and torch.rand(()) < 0.5:
                img = img.flip(-1)
                if fixed:
                    box[0] = 1.0 - box[0]
            return img, box

    class GridDetector(nn.Module):
        def __init__(self):
            super().__init__()

            def block(i, o):
                return nn.Sequential(
                    nn.Conv2d(i, o, 3, padding=1, bias=False),
                    nn.BatchNorm2d(o),
                    nn.ReLU(),
                    nn.MaxPool2d(2),
                )

            self.body = nn.Sequential(block(1, 16), block(16, 32), block(32, 64))
            self.head = nn.Sequential(
                nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 5, 1)
            )

        def forward(self, x):
            return self.head(self.body(x)).permute(0, 2, 3, 1)  # B, 4, 4, 5

    def detection_loss(pred, boxes):
        b = torch.arange(len(boxes))
        col = (boxes[:, 0] * 4).long().clamp(0, 3)
        row = (boxes[:, 1] * 4).long().clamp(0, 3)
        obj = torch.zeros(pred.shape[:3])
        obj[b, row, col] = 1
        cell = pred[b, row, col, 1:]
        offset = torch.stack([boxes[:, 0] * 4 - col, boxes[:, 1] * 4 - row], 1)
        return (
            F.binary_cross_entropy_with_logits(pred[..., 0], obj, pos_weight=torch.tensor(4.0))
            + F.mse_loss(torch.sigmoid(cell[:, :2]), offset) * 2
            + F.l1_loss(torch.sigmoid(cell[:, 2:]), boxes[:, 2:]) * 4
        )

    def mean_iou(pred, boxes):
        flat = pred[..., 0].flatten(1).argmax(1)
        row, col = flat // 4, flat % 4
        c = torch.sigmoid(pred[torch.arange(len(pred)), row, col, 1:])
        cx, cy = (c[:, 0] + col) / 4, (c[:, 1] + row) / 4
        lo = torch.maximum(torch.stack([cx, cy], 1) - c[:, 2:] / 2, boxes[:, :2] - boxes[:, 2:] / 2)
        hi = torch.minimum(torch.stack([cx, cy], 1) + c[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2)
        inter = (hi - lo).clamp(min=0).prod(1)
        return (inter / (c[:, 2:].prod(1) + boxes[:, 2:].prod(1) - inter)).mean().item()

    loader = DataLoader(Scenes(1000, 0, True), batch_size=32, shuffle=True)
    val = DataLoader(Scenes(200, 1, False), batch_size=200)
    net = GridDetector()
    opt = torch.optim.Adam(net.parameters(), 2e-3)
    sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=8)
    watcher = watch(net, opt, train=loader, val=val, scheduler=sched)
    for epoch in range(8):
        net.train()
        for images, boxes in loader:
            opt.zero_grad()
            loss = detection_loss(net(images), boxes)
            loss.backward()
            opt.step()
            watcher.step(loss)
        sched.step()
        net.eval()
        with torch.no_grad():
            images, boxes = next(iter(val))
            p = net(images)
            vloss, iou = detection_loss(p, boxes).item(), mean_iou(p, boxes)
        watcher.log(val_loss=vloss)
    return {"train_loss": loss.item(), "val_loss": vloss, "val_iou": iou}


@faulty(
    "segmentation",
    fault="logits of shape (batch, classes, height, width) are flattened with reshape(-1, classes) without moving the class axis last, so rows of the loss mix "
    "pixels and classes and do not belong to the flattened mask",
    source="https://discuss.pytorch.org: cross entropy for segmentation, view(-1, n_classes) without permute",
)
def r1_segmentation_view_without_permute(watch, fixed):
    """Small U-Net, four classes of blobs by brightness and texture, cross entropy written over flattened pixels."""
    n_classes, size = 4, 24

    def batch_of_scenes(n, gen):
        mask = torch.zeros(n, size, size, dtype=torch.long)
        yy, xx = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
        for k in range(1, n_classes):
            c = torch.rand(n, 2, generator=gen) * size
            r = 3 + 4 * torch.rand(n, generator=gen)
            disc = (
                (yy[None] - c[:, 0, None, None]) ** 2 + (xx[None] - c[:, 1, None, None]) ** 2
            ) < r[:, None, None] ** 2
            mask[disc] = k
        palette = torch.tensor([[0.0, 0.0], [1.0, 0.2], [0.2, 1.0], [-0.8, 0.9]])
        image = palette[mask].permute(0, 3, 1, 2) + 0.4 * torch.randn(
            n, 2, size, size, generator=gen
        )
        return image, mask

    def double(i, o):
        return nn.Sequential(
            nn.Conv2d(i, o, 3, padding=1),
            nn.BatchNorm2d(o),
            nn.ReLU(),
            nn.Conv2d(o, o, 3, padding=1),
            nn.ReLU(),
        )

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.d1, self.d2 = double(2, 12), double(12, 24)
            self.up = nn.ConvTranspose2d(24, 12, 2, stride=2)
            self.u1 = double(24, 12)
            self.last = nn.Conv2d(12, n_classes, 1)

        def forward(self, x):
            a = self.d1(x)
            b = self.d2(F.max_pool2d(a, 2))
            return self.last(self.u1(torch.cat([a, self.up(b)], 1)))

    gen = torch.Generator().manual_seed(3)
    train_loader = DataLoader(
        TensorDataset(*batch_of_scenes(480, gen)), batch_size=16, shuffle=True
    )
    val_x, val_y = batch_of_scenes(100, gen)
    model = UNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    criterion = nn.CrossEntropyLoss()

    def pixel_loss(out, mask):
        if fixed:
            out = out.permute(0, 2, 3, 1).contiguous()
        return criterion(out.reshape(-1, n_classes), mask.reshape(-1))

    watcher = watch(model, optimizer, loss_fn=criterion, num_classes=n_classes, train=train_loader)
    for epoch in range(6):
        model.train()
        for image, mask in train_loader:
            optimizer.zero_grad()
            loss = pixel_loss(model(image), mask)
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(image, mask))
        model.eval()
        with torch.no_grad():
            out = model(val_x)
            vloss = pixel_loss(out, val_y).item()
            pred = out.argmax(1)
            acc = (pred == val_y).float().mean().item()
            iou = float(
                np.mean(
                    [
                        ((pred == k) & (val_y == k)).sum().item()
                        / max(1, ((pred == k) | (val_y == k)).sum().item())
                        for k in range(n_classes)
                    ]
                )
            )
        watcher.log(val_loss=vloss, val_accuracy=acc)
    return {
        "train_loss": loss.item(),
        "val_loss": vloss,
        "val_pixel_accuracy": acc,
        "val_mean_iou": iou,
    }


@faulty(
    "GAN",
    fault="in the generator step the fake is detached before it goes through the discriminator, so the adversarial term gives the generator no gradient; "
    "only the small L1 term trains it and the samples collapse to the average between the modes",
    source="https://github.com/nikhilsinghmus/image2reverb/issues/37",
)
def r1_cond_gan_fake_detached_in_g_step(watch, fixed):
    """Conditional GAN: y is +f(x) or -f(x) by chance. L1 alone gives about 0; the adversarial term must bring both branches."""
    torch_rng = torch.Generator().manual_seed(0)

    def real_batch(n):
        x = torch.rand(n, 1, generator=torch_rng) * 2 - 1
        sign = torch.randint(0, 2, (n, 1), generator=torch_rng) * 2.0 - 1
        y = sign * (1.0 + 0.5 * torch.sin(3 * x)) + 0.05 * torch.randn(n, 1, generator=torch_rng)
        return x, y

    G = nn.Sequential(
        nn.Linear(1 + 4, 64),
        nn.LeakyReLU(0.2),
        nn.Linear(64, 64),
        nn.LeakyReLU(0.2),
        nn.Linear(64, 1),
    )
    D = nn.Sequential(
        nn.Linear(2, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1)
    )
    opt_g = torch.optim.Adam(G.parameters(), lr=1e-3, betas=(0.5, 0.99))
    opt_d = torch.optim.Adam(D.parameters(), lr=1e-3, betas=(0.5, 0.99))
    bce = nn.BCEWithLogitsLoss()
    wg, wd = watch(G, opt_g), watch(D, opt_d, loss_fn=bce)
    lambda_l1 = 0.1
    for it in range(2500):
        x, y = real_batch(64)
        fake = G(torch.cat([x, torch.randn(64, 4)], 1))
        # discriminator
        d_real = D(torch.cat([x, y], 1))
        d_fake = D(torch.cat([x, fake.detach()], 1))
        d_loss = 0.5 * (
            bce(d_real, torch.ones_like(d_real)) + bce(d_fake, torch.zeros_like(d_fake))
        )
        opt_d.zero_grad()
        d_loss.backward()
        opt_d.step()
        wd.step(d_loss)
        # generator
        judged = D(torch.cat([x, fake if fixed else fake.detach()], 1))
        g_loss = bce(judged, torch.ones_like(judged)) + lambda_l1 * F.l1_loss(fake, y)
        opt_g.zero_grad()
        g_loss.backward()
        opt_g.step()
        wg.step(g_loss)
    with torch.no_grad():
        x, _ = real_batch(1000)
        s = G(torch.cat([x, torch.randn(1000, 4)], 1))
        centre = 1.0 + 0.5 * torch.sin(3 * x)
        near = ((s.abs() - centre).abs() < 0.25).float().mean().item()
        positive = (s > 0).float().mean().item()
    return {
        "g_loss": g_loss.item(),
        "d_loss": d_loss.item(),
        "samples_near_a_branch": near,
        "share_upper_branch": positive,
    }


@faulty(
    "VAE",
    fault="the reconstruction error is a mean over the 64 pixels while the KL term is a sum over the latent dimensions, so the KL weighs 64 times too much "
    "and the posterior collapses: all reconstructions are the average digit",
    source="https://discuss.pytorch.org and cross validated: VAE KL sum versus MSE mean, posterior collapse",
)
def r1_vae_recon_mean_kl_sum(watch, fixed):
    """MLP VAE on the 8x8 digits, Bernoulli decoder. Faulty: KL goes to about 0, reconstruction stays at that of the mean digit."""

    class VAE(nn.Module):
        def __init__(self, z=8):
            super().__init__()
            self.enc = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())
            self.mu, self.logvar = nn.Linear(64, z), nn.Linear(64, z)
            self.dec = nn.Sequential(
                nn.Linear(z, 64), nn.ReLU(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64)
            )

        def forward(self, x):
            h = self.enc(x)
            mu, logvar = self.mu(h), self.logvar(h)
            z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar) if self.training else mu
            return self.dec(z), mu, logvar

    def elbo_parts(x, out):
        logits, mu, logvar = out
        if fixed:
            rec = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1).mean()
        else:
            rec = F.binary_cross_entropy_with_logits(logits, x)
        kl = (-0.5 * (1 + logvar - mu.pow(2) - logvar.exp())).sum(1).mean()
        return rec, kl

    x = torch.tensor(load_digits().data / 16.0, dtype=torch.float32)
    train_x, val_x = train_test_split(x, test_size=0.2, random_state=0)
    loader = DataLoader(TensorDataset(train_x), batch_size=64, shuffle=True)
    vae = VAE()
    opt = torch.optim.Adam(vae.parameters(), lr=2e-3)
    watcher = watch(vae, opt, train=loader)
    for epoch in range(70):
        vae.train()
        for (xb,) in loader:
            rec, kl = elbo_parts(xb, vae(xb))
            loss = rec + kl
            opt.zero_grad()
            loss.backward()
            opt.step()
            watcher.step(loss)
        vae.eval()
        with torch.no_grad():
            out = vae(val_x)
            vrec, vkl = elbo_parts(val_x, out)
            mse = F.mse_loss(torch.sigmoid(out[0]), val_x).item()
        watcher.log(val_loss=(vrec + vkl).item())
    return {
        "train_loss": loss.item(),
        "val_kl": vkl.item(),
        "val_pixel_mse": mse,
        "mse_of_mean_digit": F.mse_loss(train_x.mean(0).expand_as(val_x), val_x).item(),
    }


@faulty(
    "contrastive learning (SimCLR)",
    fault="the augmentation is called once and the same augmented batch is used as both views, so positives are identical and the task is solved without "
    "learning any invariance (a loss that is quickly at its floor, poor features)",
    source="own experience; https://github.com/sthalles/SimCLR (the two views must be drawn independently)",
)
def r1_simclr_both_views_identical(watch, fixed):
    """Strings of 48 numbers: one of 8 patterns at a random circular shift, with noise and gain. Linear probe on frozen features. Faulty: lower probe accuracy."""
    classes, L = 8, 48
    gen = torch.Generator().manual_seed(11)
    base = torch.randn(classes, L, generator=gen)
    kernel = torch.tensor([0.25, 0.5, 0.25])
    base = F.conv1d(F.pad(base[:, None], (1, 1), mode="circular"), kernel[None, None])[:, 0]

    def sample(n):
        y = torch.randint(0, classes, (n,), generator=gen)
        shift = torch.randint(0, L, (n, 1), generator=gen)
        x = base[y].gather(1, (torch.arange(L)[None] + shift) % L)
        return x + 0.25 * torch.randn(n, L, generator=gen), y

    def augment(x):
        shift = torch.randint(0, L, (len(x), 1))
        x = x.gather(1, (torch.arange(L)[None] + shift) % L)
        return x * (0.7 + 0.6 * torch.rand(len(x), 1)) + 0.2 * torch.randn_like(x)

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk = nn.Sequential(
                nn.Linear(L, 192), nn.ReLU(), nn.Linear(192, 192), nn.ReLU(), nn.Linear(192, 32)
            )
            self.projector = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 16))

        def forward(self, x):
            return F.normalize(self.projector(self.trunk(x)), dim=1)

    def nt_xent(a, b, tau=0.2):
        z = torch.cat([a, b])
        sim = (z @ z.T / tau).masked_fill(torch.eye(len(z), dtype=torch.bool), float("-inf"))
        n = len(a)
        return F.cross_entropy(sim, torch.cat([torch.arange(n, 2 * n), torch.arange(n)]))

    x, _ = sample(4000)
    probe_x, probe_y = sample(400)
    test_x, test_y = sample(600)
    loader = DataLoader(x, batch_size=128, shuffle=True, drop_last=True)
    enc = Encoder()
    opt = torch.optim.AdamW(enc.parameters(), lr=2e-3, weight_decay=1e-4)
    watcher = watch(enc, opt, train=loader)
    for epoch in range(25):
        for batch in loader:
            v1 = augment(batch)
            v2 = augment(batch) if fixed else v1
            loss = nt_xent(enc(v1), enc(v2))
            opt.zero_grad()
            loss.backward()
            opt.step()
            watcher.step(loss)
    with torch.no_grad():
        f_probe, f_test = (
            F.normalize(enc.trunk(probe_x), dim=1),
            F.normalize(enc.trunk(test_x), dim=1),
        )
    knn = (f_test @ f_probe.T).topk(5, dim=1).indices
    acc = (probe_y[knn].mode(1).values == test_y).float().mean().item()
    return {"train_loss": loss.item(), "knn_accuracy": acc}


class _Corridor:
    """A 6x6 grid; start in the top left corner, goal (+1) in the bottom right, -0.01 a step, walls in the middle, at most 40 steps."""

    size = 6
    walls = {(1, 1), (2, 1), (3, 1), (1, 3), (2, 3), (3, 3), (4, 3)}

    def reset(self):
        self.pos, self.t = (0, 0), 0
        return self.observe()

    def observe(self):
        grid = np.zeros(self.size * self.size, dtype=np.float32)
        grid[self.pos[0] * self.size + self.pos[1]] = 1
        return grid

    def step(self, action):
        dr, dc = [(0, 1), (1, 0), (0, -1), (-1, 0)][action]
        new = (self.pos[0] + dr, self.pos[1] + dc)
        if 0 <= new[0] < self.size and 0 <= new[1] < self.size and new not in self.walls:
            self.pos = new
        self.t += 1
        reached = self.pos == (self.size - 1, self.size - 1)
        return self.observe(), (1.0 if reached else -0.01), reached, reached or self.t >= 40


def _play_greedy(net, env, episodes=1):
    total = 0.0
    with torch.no_grad():
        for _ in range(episodes):
            obs, over = env.reset(), False
            while not over:
                obs, r, _, over = env.step(int(net(torch.from_numpy(obs)).argmax()))
                total += r
    return total / episodes


@faulty(
    "DQN",
    fault="the periodic synchronisation copies the wrong way: the online network is loaded from the target network, so every 100 updates the learned weights "
    "are thrown back to their initial values and the target never changes",
    source="https://github.com/thesouther/MARL/issues/8 (wrong network in the target update)",
)
def r1_dqn_target_sync_reversed(watch, fixed):
    """DQN with replay on a small grid with walls. Faulty: the goal is not reached by the greedy policy (return -0.4 instead of about +0.9)."""
    env = _Corridor()
    rng = random.Random(1)
    online = nn.Sequential(nn.Linear(36, 64), nn.ReLU(), nn.Linear(64, 4))
    target = copy.deepcopy(online)
    optimizer = torch.optim.Adam(online.parameters(), lr=1e-3)
    watcher = watch(online, optimizer, loss_fn=F.smooth_l1_loss)
    memory = deque(maxlen=5000)
    obs, updates, gamma = env.reset(), 0, 0.95
    for step in range(4500):
        eps = max(0.1, 1 - step / 2500)
        with torch.no_grad():
            a = (
                rng.randrange(4)
                if rng.random() < eps
                else int(online(torch.from_numpy(obs)).argmax())
            )
        nxt, r, terminal, over = env.step(a)
        memory.append((obs, a, r, nxt, terminal))
        obs = env.reset() if over else nxt
        if len(memory) < 300 or step % 2:
            continue
        s, a_, r_, s2, d = zip(*rng.sample(memory, 64))
        s, s2 = torch.from_numpy(np.stack(s)), torch.from_numpy(np.stack(s2))
        a_, r_, d = torch.tensor(a_), torch.tensor(r_), torch.tensor(d, dtype=torch.float32)
        q = online(s).gather(1, a_[:, None]).squeeze(1)
        with torch.no_grad():
            goal = r_ + gamma * (1 - d) * target(s2).max(1).values
        loss = F.smooth_l1_loss(q, goal)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
        updates += 1
        if updates % 100 == 0:
            if fixed:
                target.load_state_dict(online.state_dict())
            else:
                online.load_state_dict(target.state_dict())
    return {
        "td_loss": loss.item(),
        "greedy_return": _play_greedy(online, env),
        "q_of_start": online(torch.from_numpy(env.reset())).max().item(),
    }


@faulty(
    "tabular classification",
    fault="rows with missing values are dropped from the features but not from the labels (which are then cut to the same length), so from the first dropped row on "
    "every row carries another row's label",
    source="own experience; asked often: dropna on X only, index misaligned with y",
)
def r1_tabular_dropna_only_on_features(watch, fixed):
    """A table with 2 percent of rows having NaN; MLP with batch norm and dropout. The validation table is complete. Faulty: accuracy near chance."""

    def load_table():
        X, y = make_classification(
            3000, 20, n_informative=12, n_redundant=2, n_classes=3, class_sep=1.6, random_state=4
        )
        X_test, y_test = X[2400:], y[2400:]
        X, y = X[:2400].copy(), y[:2400]
        rng = np.random.default_rng(0)
        bad = np.append(rng.choice(np.arange(20, 2400), 47, replace=False), 7)
        X[bad, rng.integers(0, 20, len(bad))] = np.nan
        keep = ~np.isnan(X).any(axis=1)
        X = X[keep]
        y = y[keep] if fixed else y[: len(X)]
        scaler = StandardScaler().fit(X)
        as_t = lambda a, b: TensorDataset(
            torch.tensor(scaler.transform(a), dtype=torch.float32),
            torch.tensor(b, dtype=torch.long),
        )
        return as_t(X, y), as_t(X_test, y_test)

    train_set, test_set = load_table()
    train_loader = DataLoader(train_set, batch_size=64, shuffle=True)
    test_loader = DataLoader(test_set, batch_size=256)
    mlp = nn.Sequential(
        nn.Linear(20, 96),
        nn.BatchNorm1d(96),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(96, 48),
        nn.BatchNorm1d(48),
        nn.ReLU(),
        nn.Linear(48, 3),
    )
    optimizer = torch.optim.AdamW(mlp.parameters(), lr=3e-3, weight_decay=1e-2)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    criterion = nn.CrossEntropyLoss()
    watcher = watch(
        mlp,
        optimizer,
        loss_fn=criterion,
        task="classification",
        num_classes=3,
        train=train_loader,
        val=test_loader,
        scheduler=scheduler,
    )
    for epoch in range(20):
        mlp.train()
        seen = correct = 0
        for x, y in train_loader:
            optimizer.zero_grad()
            out = mlp(x)
            loss = criterion(out, y)
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(x, y))
            correct += (out.argmax(1) == y).sum().item()
            seen += len(y)
        scheduler.step()
        mlp.eval()
        with torch.no_grad():
            outs = torch.cat([mlp(x) for x, _ in test_loader])
            ys = test_set.tensors[1]
            vl, va = criterion(outs, ys).item(), (outs.argmax(1) == ys).float().mean().item()
        watcher.log(val_loss=vl, val_accuracy=va)
    return {"train_accuracy": correct / seen, "val_loss": vl, "val_accuracy": va}


@faulty(
    "multi-label classification",
    fault="softmax cross entropy on multi-hot targets (the labels exclude each other) though the prediction is a sigmoid above 0.5 for each label: the loss never tells "
    "a label to be off on its own, thresholds are meaningless",
    source="https://discuss.pytorch.org/t/using-bcewithlogisloss-for-multi-label-classification/67011",
)
def r1_multilabel_softmax_cross_entropy(watch, fixed):
    """Tags of short bags of words: 10 tags, none to four per text. Faulty: micro F1 far lower, since scores have no absolute level."""
    n_tags, vocab = 10, 200
    rng = np.random.default_rng(8)
    topic_words = [rng.choice(vocab, 12, replace=False) for _ in range(n_tags)]

    def documents(n):
        X, Y = np.zeros((n, vocab), "float32"), np.zeros((n, n_tags), "float32")
        for i in range(n):
            tags = rng.choice(n_tags, rng.integers(0, 5), replace=False)
            words = [rng.choice(vocab, 12)]
            words += [rng.choice(topic_words[t], 6) for t in tags]
            for w in np.concatenate(words):
                X[i, w] += 1
            Y[i, tags] = 1
        return torch.log1p(torch.from_numpy(X)), torch.from_numpy(Y)

    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1 = nn.Linear(vocab, 128)
            self.drop = nn.Dropout(0.3)
            self.fc2 = nn.Linear(128, n_tags)

        def forward(self, bow):
            return self.fc2(self.drop(F.gelu(self.fc1(bow))))

    train, val = TensorDataset(*documents(2500)), TensorDataset(*documents(500))
    loader, vloader = DataLoader(train, 50, shuffle=True), DataLoader(val, 250)
    model = Tagger()
    opt = torch.optim.Adam(model.parameters(), lr=2e-3)
    loss_fn = nn.BCEWithLogitsLoss() if fixed else nn.CrossEntropyLoss()
    watcher = watch(model, opt, loss_fn=loss_fn, train=loader, val=vloader)
    for epoch in range(12):
        model.train()
        for bow, tags in loader:
            loss = loss_fn(model(bow), tags)
            opt.zero_grad()
            loss.backward()
            opt.step()
            watcher.step(loss, batch=(bow, tags))
        model.eval()
        with torch.no_grad():
            logits = torch.cat([model(b) for b, _ in vloader])
            pred = (torch.sigmoid(logits) > 0.5).numpy()
            f1 = float(f1_score(val.tensors[1].numpy(), pred, average="micro"))
            vl = loss_fn(logits, val.tensors[1]).item()
        watcher.log(val_loss=vl)
    return {
        "train_loss": loss.item(),
        "val_loss": vl,
        "val_micro_f1": f1,
        "tags_predicted_per_text": float(pred.sum(1).mean()),
    }


class _Block(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.q, self.k, self.v, self.o = (nn.Linear(d, d) for _ in range(4))
        self.mlp = nn.Sequential(nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d))

    def forward(self, x):
        h = self.ln1(x)
        x = x + self.o(F.scaled_dot_product_attention(self.q(h), self.k(h), self.v(h)))
        return x + self.mlp(self.ln2(x))


class _TinyEncoder(nn.Module):
    def __init__(self, vocab, d, n_out, length):
        super().__init__()
        self.tok, self.pos = nn.Embedding(vocab, d), nn.Parameter(0.1 * torch.randn(length, d))
        self.blocks = nn.ModuleList([_Block(d), _Block(d)])
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, n_out)

    def forward(self, ids):
        x = self.tok(ids) + self.pos
        for b in self.blocks:
            x = b(x)
        return self.head(self.norm(x.mean(1)))


def _order_task(n, seed, first_marker, vocab=30, length=12):
    """Two marker words of one of two pairs; the class is the pair and which of the two comes first."""
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(12, vocab, (n, length), generator=g)
    pair, swapped = torch.randint(0, 2, (n,), generator=g), torch.randint(0, 2, (n,), generator=g)
    places = torch.rand(n, length, generator=g).argsort(1)[:, :2].sort(1).values
    ids[torch.arange(n), places[:, 0]] = first_marker + 2 * pair + swapped
    ids[torch.arange(n), places[:, 1]] = first_marker + 2 * pair + 1 - swapped
    return TensorDataset(ids, 2 * pair + swapped)


class LoRALinear(nn.Module):
    """A frozen linear layer and a low-rank update beside it."""

    def __init__(self, base, rank=4, alpha=8, *, a_is_zero):
        super().__init__()
        self.base = base
        for p in self.base.parameters():
            p.requires_grad_(False)
        self.lora_A = nn.Parameter(torch.zeros(rank, base.in_features))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank))
        if not a_is_zero:
            nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self.scale = alpha / rank

    def forward(self, x):
        return self.base(x) + F.linear(F.linear(x, self.lora_A), self.lora_B) * self.scale


@faulty(
    "LoRA fine-tuning",
    fault="both LoRA matrices A and B start at zero, so each one's gradient is zero for ever: the adapters never learn, only the new head does",
    source="https://github.com/Guitaricet/relora/issues/18",
)
def r1_lora_both_matrices_zero(watch, fixed):
    """A small Transformer encoder is pretrained on one task, then adapted with LoRA in q, v and the MLP and a new head to the same kind of task with other marker words. Faulty: lower accuracy."""
    model = _TinyEncoder(30, 48, 4, 12)
    pre_opt = torch.optim.Adam(model.parameters(), lr=2e-3)
    source_dl = DataLoader(_order_task(3000, 1, first_marker=4), batch_size=64, shuffle=True)
    for _ in range(12):
        for ids, y in source_dl:
            pre_opt.zero_grad()
            F.cross_entropy(model(ids), y).backward()
            pre_opt.step()
    # ---- adaptation
    for p in model.parameters():
        p.requires_grad_(False)
    for block in model.blocks:
        block.q, block.v = (
            LoRALinear(block.q, a_is_zero=not fixed),
            LoRALinear(block.v, a_is_zero=not fixed),
        )
        block.mlp[0], block.mlp[2] = (
            LoRALinear(block.mlp[0], a_is_zero=not fixed),
            LoRALinear(block.mlp[2], a_is_zero=not fixed),
        )
    model.head = nn.Linear(48, 4)
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=4e-3, weight_decay=0.0)
    train_dl = DataLoader(_order_task(2000, 2, first_marker=0), batch_size=50, shuffle=True)
    eval_dl = DataLoader(_order_task(400, 3, first_marker=0), batch_size=200)
    watcher = watch(
        model, optimizer, loss_fn=F.cross_entropy, num_classes=4, train=train_dl, val=eval_dl
    )
    for epoch in range(8):
        model.train()
        for ids, y in train_dl:
            loss = F.cross_entropy(model(ids), y)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(trainable, 1.0)
            optimizer.step()
            watcher.step(loss)
        model.eval()
        with torch.no_grad():
            pairs = [(model(i), y) for i, y in eval_dl]
            acc = float(np.mean([(o.argmax(1) == y).float().mean().item() for o, y in pairs]))
            vl = float(np.mean([F.cross_entropy(o, y).item() for o, y in pairs]))
        watcher.log(val_loss=vl, val_accuracy=acc)
    moved = sum(p.abs().sum().item() for n, p in model.named_parameters() if "lora_B" in n)
    return {"train_loss": loss.item(), "val_loss": vl, "val_accuracy": acc, "size_of_lora_B": moved}


@faulty(
    "time-series forecasting",
    fault="the window holds the value to be forecast (the target is the last value of the input window, an index off by one): the network copies it, the loss is tiny, "
    "and a real forecast one step ahead is poor",
    source="own experience; asked often on Stack Overflow: sliding window off by one, LSTM 'too good' forecast",
)
def r1_forecast_target_inside_window(watch, fixed):
    """GRU on a noisy sum of seasons, AR noise; standardised by the training part. Faulty: val_loss about 0, true one-step error several times worse than repaired."""

    @dataclass
    class Config:
        window: int = 24
        hidden: int = 32
        lr: float = 3e-3
        epochs: int = 8
        batch: int = 64

    cfg = Config()
    rng = np.random.default_rng(2)
    t = np.arange(3200)
    series = (
        np.sin(2 * np.pi * t / 6)
        + 0.6 * np.sin(2 * np.pi * t / 11 + 1)
        + 0.15 * rng.normal(size=len(t))
    )
    train_part, val_part = series[:2600], series[2600:]
    mean, std = train_part.mean(), train_part.std()

    class Windows(Dataset):
        def __init__(self, values):
            self.v = torch.tensor((values - mean) / std, dtype=torch.float32)

        def __len__(self):
            return len(self.v) - cfg.window

        def __getitem__(self, i):
            x = self.v[i : i + cfg.window]
            y = self.v[i + cfg.window] if fixed else self.v[i + cfg.window - 1]
            return x.unsqueeze(-1), y

    class Forecaster(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(1, cfg.hidden, batch_first=True)
            self.out = nn.Linear(cfg.hidden, 1)

        def forward(self, x):
            return self.out(self.gru(x)[0][:, -1]).squeeze(-1)

    train_dl = DataLoader(Windows(train_part), batch_size=cfg.batch, shuffle=True)
    val_ds = Windows(val_part)
    val_dl = DataLoader(val_ds, batch_size=200)
    model = Forecaster()
    optimizer = torch.optim.Adam(model.parameters(), lr=cfg.lr)
    mse = nn.MSELoss()
    watcher = watch(model, optimizer, loss_fn=mse, task="regression", train=train_dl, val=val_dl)
    for epoch in range(cfg.epochs):
        model.train()
        for x, y in train_dl:
            loss = mse(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            watcher.step(loss, batch=(x, y))
        model.eval()
        with torch.no_grad():
            vl = sum(mse(model(x), y).item() * len(y) for x, y in val_dl) / len(val_ds)
        watcher.log(val_loss=vl)
    with torch.no_grad():  # what the user wants: the value after the window
        v = val_ds.v
        w = v.unfold(0, cfg.window, 1)[:-1].unsqueeze(-1)
        true_mse = mse(model(w), v[cfg.window :]).item()
    return {"train_loss": loss.item(), "val_loss": vl, "true_one_step_ahead_mse": true_mse}


@faulty(
    "siamese network",
    fault="the dataset says 1 for a pair of the same digit, the contrastive loss uses the other convention (1 means different): same pairs are pushed apart, "
    "different pairs pulled together",
    source="https://github.com/VinhLoiIT/signet-pytorch/issues/2",
)
def r1_siamese_label_convention_inverted(watch, fixed):
    """Contrastive loss with margin on pairs of digits. Verification as one does it: same if the distance is below half the margin. Faulty: accuracy about one half."""
    digits = load_digits()
    X = torch.tensor(digits.images / 16.0, dtype=torch.float32).unsqueeze(1)
    Y = torch.tensor(digits.target)
    mixed = torch.randperm(len(Y), generator=torch.Generator().manual_seed(0))
    X, Y = X[mixed], Y[mixed]

    class PairSet(Dataset):
        def __init__(self, lo, hi, n, seed):
            g = np.random.default_rng(seed)
            by_class = [np.flatnonzero((Y[lo:hi] == c).numpy()) + lo for c in range(10)]
            self.pairs = []
            for k in range(n):
                c = g.integers(10)
                if k % 2 == 0:
                    i, j = g.choice(by_class[c], 2, replace=False)
                else:
                    c2 = (c + g.integers(1, 10)) % 10
                    i, j = g.choice(by_class[c]), g.choice(by_class[c2])
                self.pairs.append((int(i), int(j), float(k % 2 == 0)))

        def __len__(self):
            return len(self.pairs)

        def __getitem__(self, k):
            i, j, same = self.pairs[k]
            return X[i], X[j], torch.tensor(same)

    class SiameseNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(
                nn.Conv2d(1, 16, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(16, 32, 3, padding=1, stride=2),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(32 * 16, 16),
            )

        def forward(self, a, b):
            return self.features(a), self.features(b)

    class ContrastiveLoss(nn.Module):
        def __init__(self, margin=2.0):
            super().__init__()
            self.margin = margin

        def forward(self, ea, eb, label):
            d = F.pairwise_distance(ea, eb)
            different = 1 - label if fixed else label
            return ((1 - different) * d.pow(2) + different * F.relu(self.margin - d).pow(2)).mean()

    train_dl = DataLoader(PairSet(0, 1400, 4000, 0), batch_size=64, shuffle=True)
    val_dl = DataLoader(PairSet(1400, 1797, 600, 1), batch_size=300)
    net, criterion = SiameseNet(), ContrastiveLoss()
    opt = torch.optim.Adam(net.parameters(), lr=1e-3)
    watcher = watch(net, opt, loss_fn=criterion, train=train_dl, val=val_dl)
    for epoch in range(8):
        net.train()
        for a, b, same in train_dl:
            loss = criterion(*net(a, b), same)
            opt.zero_grad()
            loss.backward()
            opt.step()
            watcher.step(loss)
        net.eval()
        with torch.no_grad():
            hits, losses = [], []
            for a, b, same in val_dl:
                ea, eb = net(a, b)
                hits.append(
                    ((F.pairwise_distance(ea, eb) < 1.0).float() == same).float().mean().item()
                )
                losses.append(criterion(ea, eb, same).item())
        watcher.log(val_loss=float(np.mean(losses)))
    return {
        "train_loss": loss.item(),
        "val_loss": float(np.mean(losses)),
        "verification_accuracy": float(np.mean(hits)),
    }


def _community_graph(n=600, classes=4, seed=0, p_in=0.02, p_out=0.004, features=40, strength=0.35):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    prob = np.where(y[:, None] == y[None], p_in, p_out)
    A = np.triu(rng.random((n, n)) < prob, 1)
    A = (A | A.T).astype("float32") + np.eye(n, dtype="float32")
    d = A.sum(1) ** -0.5
    centres = rng.normal(size=(classes, features)) * strength
    X = centres[y] + rng.normal(size=(n, features))
    order = rng.permutation(n)
    masks = torch.zeros(3, n, dtype=torch.bool)
    masks[0, order[:120]], masks[1, order[120:300]], masks[2, order[300:]] = True, True, True
    return (
        torch.tensor(X, dtype=torch.float32),
        torch.tensor(d[:, None] * A * d[None]),
        torch.tensor(y),
        *masks,
    )


@faulty(
    "graph network (node classification)",
    fault="F.dropout(x, p) is called without training=self.training, so dropout stays on in eval mode: validation and test predictions are random and worse",
    source="https://github.com/pytorch/pytorch/issues/26338",
)
def r1_gcn_functional_dropout_always_on(watch, fixed):
    """Two-layer GCN, full batch, with train/val/test masks. Faulty: two predictions in eval mode differ, accuracy is lower."""
    x, adj, y, train_mask, val_mask, test_mask = _community_graph(seed=3)

    class GraphConv(nn.Module):
        def __init__(self, i, o):
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.empty(i, o)), nn.Parameter(torch.zeros(o))
            nn.init.xavier_uniform_(self.weight)

        def forward(self, h, a):
            return a @ (h @ self.weight) + self.bias

    class GCN(nn.Module):
        def __init__(self, hidden=32, p=0.6):
            super().__init__()
            self.c1, self.c2, self.p = GraphConv(x.size(1), hidden), GraphConv(hidden, 4), p

        def drop(self, h):
            return F.dropout(h, self.p, training=self.training) if fixed else F.dropout(h, self.p)

        def forward(self, h, a):
            h = F.relu(self.c1(self.drop(h), a))
            return self.c2(self.drop(h), a)

    model = GCN()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    watcher = watch(model, optimizer, loss_fn=F.cross_entropy, num_classes=4)

    def accuracy(mask):
        model.eval()
        with torch.no_grad():
            out = model(x, adj)
        return (out.argmax(1)[mask] == y[mask]).float().mean().item(), F.cross_entropy(
            out[mask], y[mask]
        ).item()

    for epoch in range(200):
        model.train()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x, adj)[train_mask], y[train_mask])
        loss.backward()
        optimizer.step()
        watcher.step(loss)
        if epoch % 10 == 9:
            acc, vl = accuracy(val_mask)
            watcher.log(val_loss=vl, val_accuracy=acc)
    model.eval()
    with torch.no_grad():
        differ = (model(x, adj) - model(x, adj)).abs().max().item()
    tests = [accuracy(test_mask)[0] for _ in range(10)]
    return {
        "train_loss": loss.item(),
        "val_accuracy": acc,
        "mean_test_accuracy": float(np.mean(tests)),
        "difference_of_two_eval_passes": differ,
    }


@faulty(
    "text classification with padding",
    fault="the class is read from the GRU's output at the last position of the padded batch (out[:, -1]), which for nearly all texts is dozens of steps after their end",
    source="https://seungminnam.github.io/DL-Projects/5_LSTM_Sentiment/summary.html (last state after padding)",
)
def r1_textclf_last_output_is_padding(watch, fixed):
    """Short texts (4 to 12 words) padded to 80; the class depends on the order of two cue words. Faulty: stays at chance or learns much later."""
    vocab = 60

    def make_text(rng):
        n = rng.randint(4, 12)
        words = [rng.randint(10, vocab - 1) for _ in range(n)]
        i, j = sorted(rng.sample(range(n), 2))
        first, second = rng.choice([(1, 2), (2, 1), (1, 3), (3, 1)])
        words[i], words[j] = first, second
        return words, {(1, 2): 0, (2, 1): 1, (1, 3): 2, (3, 1): 3}[first, second]

    def collate(items, longest=80):
        lengths = torch.tensor([len(w) for w, _ in items])
        tokens = torch.zeros(len(items), longest, dtype=torch.long)
        for k, (w, _) in enumerate(items):
            tokens[k, : len(w)] = torch.tensor(w)
        return {"tokens": tokens, "lengths": lengths, "label": torch.tensor([c for _, c in items])}

    class TextGRU(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(vocab, 24, padding_idx=0)
            self.rnn = nn.GRU(24, 48, batch_first=True)
            self.classifier = nn.Linear(48, 4)

        def forward(self, tokens, lengths):
            out, _ = self.rnn(self.embedding(tokens))
            last = out[torch.arange(len(out)), lengths - 1] if fixed else out[:, -1]
            return self.classifier(last)

    r1, r2 = random.Random(1), random.Random(2)
    train = DataLoader(
        [make_text(r1) for _ in range(1500)], batch_size=50, shuffle=True, collate_fn=collate
    )
    val = DataLoader([make_text(r2) for _ in range(400)], batch_size=200, collate_fn=collate)
    model = TextGRU()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    criterion = nn.CrossEntropyLoss()
    watcher = watch(model, optimizer, loss_fn=criterion, num_classes=4)
    for epoch in range(9):
        model.train()
        for b in train:
            optimizer.zero_grad()
            loss = criterion(model(b["tokens"], b["lengths"]), b["label"])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            watcher.step(loss)
        model.eval()
        with torch.no_grad():
            outs = [(model(b["tokens"], b["lengths"]), b["label"]) for b in val]
        vl = float(np.mean([criterion(o, y).item() for o, y in outs]))
        acc = float(np.mean([(o.argmax(1) == y).float().mean().item() for o, y in outs]))
        watcher.log(val_loss=vl, val_accuracy=acc)
    return {"train_loss": loss.item(), "val_loss": vl, "val_accuracy": acc}


@faulty(
    "image classification CNN",
    fault="training pictures are scaled to 0..1 and normalised by mean and deviation, validation pictures only scaled to 0..1 (transform forgotten): "
    "training is fine, validation accuracy far lower",
    source="own experience; asked often: different transforms for train and test set",
)
def r1_cnn_val_not_normalised(watch, fixed):
    """Plain CNN with batch norm on the digits, a Compose of small transforms. Faulty: val accuracy lower and val loss much higher than train."""

    class Compose:
        def __init__(self, *fs):
            self.fs = fs

        def __call__(self, img):
            for f in self.fs:
                img = f(img)
            return img

    to_tensor = lambda img: torch.from_numpy(img).float().unsqueeze(0) / 16
    normalise = lambda img: (img - 0.305) / 0.376

    def jitter(img):
        dx = int(torch.randint(-1, 2, ()))
        return torch.roll(img, dx, dims=2)

    class Digits(Dataset):
        def __init__(self, images, labels, transform):
            self.images, self.labels, self.transform = images, labels, transform

        def __len__(self):
            return len(self.labels)

        def __getitem__(self, i):
            return self.transform(self.images[i]), int(self.labels[i])

    d = load_digits()
    a, b, ya, yb = train_test_split(
        d.images, d.target, test_size=0.25, random_state=1, stratify=d.target
    )
    train_loader = DataLoader(
        Digits(a, ya, Compose(to_tensor, jitter, normalise)), batch_size=32, shuffle=True
    )
    val_loader = DataLoader(
        Digits(b, yb, Compose(to_tensor, normalise) if fixed else Compose(to_tensor)),
        batch_size=128,
    )
    cnn = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 16, 10),
    )  # fmt: skip
    sgd = torch.optim.SGD(cnn.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4, nesterov=True)
    ce = nn.CrossEntropyLoss()
    watcher = watch(cnn, sgd, loss_fn=ce, num_classes=10, train=train_loader, val=val_loader)
    for epoch in range(9):
        cnn.train()
        good = 0
        for x, y in train_loader:
            sgd.zero_grad()
            out = cnn(x)
            loss = ce(out, y)
            loss.backward()
            sgd.step()
            watcher.step(loss, batch=(x, y))
            good += (out.argmax(1) == y).sum().item()
        cnn.eval()
        vl = vg = 0
        with torch.no_grad():
            for x, y in val_loader:
                out = cnn(x)
                vl += ce(out, y).item() * len(y)
                vg += (out.argmax(1) == y).sum().item()
        watcher.log(val_loss=vl / len(yb), val_accuracy=vg / len(yb))
    return {
        "train_accuracy": good / len(ya),
        "val_loss": vl / len(yb),
        "val_accuracy": vg / len(yb),
    }


class _Residual(nn.Module):
    def __init__(self, i, o, stride=1):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
        self.conv2, self.bn2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        self.short = (
            nn.Identity()
            if i == o and stride == 1
            else nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))
        )

    def forward(self, x):
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + self.short(x))


class MiniResNet(nn.Module):
    def __init__(self, classes, width=16):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.layer1, self.layer2 = _Residual(width, width), _Residual(width, 2 * width, 2)
        self.fc = nn.Linear(2 * width * 4, classes)

    def forward(self, x):
        h = self.layer2(self.layer1(self.stem(x)))
        return self.fc(F.adaptive_avg_pool2d(h, 2).flatten(1))


def _pretrained_resnet(classes, epochs=5):
    """Pretraining on the digits 0..4 (the "big" data set)."""
    d = load_digits()
    keep = d.target < 5
    data = TensorDataset(
        torch.tensor(d.images[keep] / 16.0, dtype=torch.float32)[:, None],
        torch.tensor(d.target[keep]),
    )
    net = MiniResNet(classes)
    opt = torch.optim.Adam(net.parameters(), lr=2e-3)
    for _ in range(epochs):
        for x, y in DataLoader(data, 64, shuffle=True):
            opt.zero_grad()
            F.cross_entropy(net(x), y).backward()
            opt.step()
    return net


@faulty(
    "transfer learning with a frozen backbone",
    fault="the optimizer is made from model.fc.parameters() before model.fc is replaced by the new head, so it holds the discarded layer; the new head never changes",
    source="https://github.com/spro/practical-pytorch/issues/9 (optimizer made before the model is made anew)",
)
def r1_transfer_head_replaced_after_optimizer(watch, fixed):
    """Small ResNet pretrained on digits 0-4, then a new head for digits 5-9 on the frozen, eval-mode backbone. Faulty: chance, loss constant."""
    model = _pretrained_resnet(5)
    for p in model.parameters():
        p.requires_grad = False

    def new_head():
        model.fc = nn.Linear(model.fc.in_features, 5)

    def new_optimizer():
        for p in model.fc.parameters():
            p.requires_grad = True
        return torch.optim.Adam(model.fc.parameters(), lr=5e-3)

    if fixed:
        new_head()
        optimizer = new_optimizer()
    else:
        optimizer = new_optimizer()
        new_head()
    d = load_digits()
    keep = d.target >= 5
    x = torch.tensor(d.images[keep] / 16.0, dtype=torch.float32)[:, None]
    y = torch.tensor(d.target[keep] - 5)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    tr, va = order[:650], order[650:]
    train_loader = DataLoader(TensorDataset(x[tr], y[tr]), batch_size=32, shuffle=True)
    criterion = nn.CrossEntropyLoss()
    watcher = watch(model, optimizer, loss_fn=criterion, num_classes=5, train=train_loader)
    for epoch in range(15):
        model.eval()  # the frozen backbone keeps its batch-norm statistics
        for xb, yb in train_loader:
            loss = criterion(model(xb), yb)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(xb, yb))
        with torch.no_grad():
            out = model(x[va])
            acc, vl = (out.argmax(1) == y[va]).float().mean().item(), criterion(out, y[va]).item()
        watcher.log(val_loss=vl, val_accuracy=acc)
    return {"train_loss": loss.item(), "val_loss": vl, "val_accuracy": acc}


@faulty(
    "word language model",
    fault="a StepLR meant for epochs (step_size=3, gamma=0.4) is stepped after every batch, so the learning rate is practically zero after some 25 updates",
    source="own experience; asked often: scheduler.step() in the inner loop",
)
def r1_wordlm_scheduler_stepped_each_batch(watch, fixed):
    """Causal Transformer on sentences of a small grammar (subject verb object, with agreement); AdamW. Faulty: the loss stops falling almost at once."""
    vocab_size, ctx, d = 40, 20, 48
    gen = np.random.default_rng(3)
    follow = {s: gen.choice(np.arange(10, 22), 2, replace=False) for s in range(2, 10)}
    objects = {v: gen.choice(np.arange(22, 40), 2, replace=False) for v in range(10, 22)}

    def stream(n, rng):
        out = []
        while len(out) < n:
            s = rng.integers(2, 10)
            v = rng.choice(follow[int(s)])
            out += [int(s), int(v), int(rng.choice(objects[int(v)])), 1]
        return torch.tensor(out[:n])

    class CausalLM(nn.Module):
        def __init__(self):
            super().__init__()
            self.tok = nn.Embedding(vocab_size, d)
            self.pos = nn.Embedding(ctx, d)
            layer = nn.TransformerEncoderLayer(
                d, 4, 96, dropout=0.0, batch_first=True, norm_first=True
            )
            self.core = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.norm = nn.LayerNorm(d)
            self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(ctx))

        def forward(self, ids):
            h = self.tok(ids) + self.pos(torch.arange(ids.size(1)))
            return self.norm(self.core(h, mask=self.mask, is_causal=True)) @ self.tok.weight.T

    train, val = stream(30000, np.random.default_rng(0)), stream(3000, np.random.default_rng(1))

    def batches(data, size, shuffle):
        starts = torch.arange(0, len(data) - ctx - 1, ctx)
        if shuffle:
            starts = starts[torch.randperm(len(starts))]
        for chunk in starts.split(size):
            idx = chunk[:, None] + torch.arange(ctx + 1)
            yield data[idx][:, :-1], data[idx][:, 1:]

    model = CausalLM()
    nn.init.normal_(model.tok.weight, std=0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.4)
    watcher = watch(model, optimizer, scheduler=scheduler, num_classes=vocab_size)
    for epoch in range(8):
        model.train()
        for x, y in batches(train, 32, True):
            loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if not fixed:
                scheduler.step()
            watcher.step(loss)
        if fixed:
            scheduler.step()
        model.eval()
        with torch.no_grad():
            vl = float(
                np.mean(
                    [
                        F.cross_entropy(model(x).flatten(0, 1), y.flatten()).item()
                        for x, y in batches(val, 64, False)
                    ]
                )
            )
        watcher.log(val_loss=vl)
    return {"train_loss": loss.item(), "val_loss": vl, "last_lr": optimizer.param_groups[0]["lr"]}


@faulty(
    "metric learning (triplets)",
    fault="the distance is sqrt(sum of squares) without epsilon, and the sampler sometimes draws the anchor itself as its positive: the gradient of sqrt at 0 is infinite, "
    "times zero gives NaN, and all weights become NaN after a few updates",
    source="own experience; https://discuss.pytorch.org: sqrt gradient NaN at zero distance",
)
def r1_triplet_sqrt_of_zero_distance(watch, fixed):
    """Triplet loss on clusters in 20 dimensions passed through a random nonlinear map. Faulty: NaN."""
    rng = np.random.default_rng(0)
    n_class, per = 12, 60
    mix = rng.normal(size=(6, 20))
    centres = rng.normal(size=(n_class, 6))
    z = np.repeat(centres, per, 0) + 0.55 * rng.normal(size=(n_class * per, 6))
    feats = torch.tensor(
        np.tanh(z @ mix / 2) + 0.1 * rng.normal(size=(n_class * per, 20)), dtype=torch.float32
    )
    labels = torch.arange(n_class).repeat_interleave(per)
    is_val = torch.arange(n_class * per) % 4 == 0
    pools = [torch.nonzero((labels == c) & ~is_val).flatten() for c in range(n_class)]

    def draw(n):
        cls = torch.randint(0, n_class, (n,))
        other = (cls + torch.randint(1, n_class, (n,))) % n_class
        pick = lambda c: pools[int(c)][torch.randint(0, len(pools[int(c)]), ())]
        return [feats[torch.stack([pick(c) for c in cc])] for cc in (cls, cls, other)]

    def distance(a, b):
        sq = (a - b).pow(2).sum(1)
        return torch.sqrt(sq + 1e-8) if fixed else torch.sqrt(sq)

    net = nn.Sequential(
        nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8)
    )
    opt = torch.optim.Adam(net.parameters(), lr=1e-3)
    watcher = watch(net, opt)
    losses = []
    for it in range(600):
        a, p, n = (F.normalize(net(t), dim=1) for t in draw(32))
        loss = F.relu(distance(a, p) - distance(a, n) + 0.5).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        watcher.step(loss)
        losses.append(loss.item())
    with torch.no_grad():
        e = F.normalize(net(feats), dim=1)
        d = torch.cdist(e[is_val], e[~is_val])
        acc = (labels[~is_val][d.argmin(1)] == labels[is_val]).float().mean().item()
    return {
        "train_loss_last_50": float(np.mean(losses[-50:])),
        "nearest_neighbour_accuracy": acc,
        "share_of_nan_outputs": e.isnan().float().mean().item(),
    }


@faulty(
    "image classification CNN with weight averaging",
    fault="the averaged weights (EMA) that are validated use a decay of 0.9999 for a run of about 350 updates, so the EMA copy is still nearly the initial network",
    source="own experience; timm and Lightning issues: EMA decay too high for short runs, EMA accuracy at chance",
)
def r1_cnn_ema_decay_for_long_runs(watch, fixed):
    """Digits, CNN with group norm, SGD; validation with the EMA copy as in many recipes. Faulty: EMA accuracy at chance while training accuracy is high."""

    class ModelEMA:
        def __init__(self, model, decay):
            self.module = copy.deepcopy(model).eval()
            self.decay = decay
            for p in self.module.parameters():
                p.requires_grad_(False)

        @torch.no_grad()
        def update(self, model):
            for e, m in zip(self.module.parameters(), model.parameters()):
                e.mul_(self.decay).add_(m, alpha=1 - self.decay)

    d = load_digits()
    X = torch.tensor(d.images / 16.0, dtype=torch.float32)[:, None]
    X = (X - X[:1400].mean()) / X[:1400].std()
    Y = torch.tensor(d.target)
    loader = DataLoader(TensorDataset(X[:1400], Y[:1400]), batch_size=40, shuffle=True)
    model = nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1),
        nn.GroupNorm(4, 24),
        nn.SiLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(24, 48, 3, padding=1),
        nn.GroupNorm(4, 48),
        nn.SiLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(192, 10),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    ema = ModelEMA(model, decay=0.97 if fixed else 0.9999)
    loss_fn = nn.CrossEntropyLoss(label_smoothing=0.05)
    watcher = watch(model, optimizer, loss_fn=loss_fn, num_classes=10, train=loader)
    for epoch in range(10):
        model.train()
        ok = 0
        for x, y in loader:
            out = model(x)
            loss = loss_fn(out, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            ema.update(model)
            watcher.step(loss, batch=(x, y))
            ok += (out.argmax(1) == y).sum().item()
        with torch.no_grad():
            out = ema.module(X[1400:])
            vl, acc = (
                F.cross_entropy(out, Y[1400:]).item(),
                (out.argmax(1) == Y[1400:]).float().mean().item(),
            )
        watcher.log(val_loss=vl, val_accuracy=acc)
    return {"train_accuracy": ok / 1400, "ema_val_loss": vl, "ema_val_accuracy": acc}


# ------------------------------------------------------------------------------------------------ sound
@sound("word2vec skip-gram")
def r1_word2vec_negative_sampling(watch):
    """Skip-gram with negative sampling, two sparse embedding tables, SparseAdam; the context table starts at zero as in the original."""
    rng = np.random.default_rng(0)
    topics, per_topic = 12, 15
    vocab = topics * per_topic
    corpus = np.concatenate(
        [rng.integers(0, per_topic, 12) + per_topic * rng.integers(topics) for _ in range(1200)]
    )
    noise = np.bincount(corpus, minlength=vocab) ** 0.75
    noise = torch.tensor(noise / noise.sum(), dtype=torch.float32)

    class SkipGram(nn.Module):
        def __init__(self, dim=32):
            super().__init__()
            self.center = nn.Embedding(vocab, dim, sparse=True)
            self.context = nn.Embedding(vocab, dim, sparse=True)
            nn.init.uniform_(self.center.weight, -0.5 / dim, 0.5 / dim)
            nn.init.zeros_(self.context.weight)

        def forward(self, c, pos, neg):
            v = self.center(c)
            up = (v * self.context(pos)).sum(-1)
            un = torch.einsum("bd,bkd->bk", v, self.context(neg))
            return -(F.logsigmoid(up) + F.logsigmoid(-un).sum(1)).mean()

    pairs = torch.tensor(
        [
            (corpus[i], corpus[i + o])
            for i in range(3, len(corpus) - 3)
            for o in (-3, -2, -1, 1, 2, 3)
        ]
    )
    model = SkipGram()
    optimizer = torch.optim.SparseAdam(list(model.parameters()), lr=0.01)
    watcher = watch(model, optimizer)
    for epoch in range(2):
        for batch in pairs[torch.randperm(len(pairs))].split(256):
            negatives = torch.multinomial(noise, len(batch) * 5, replacement=True).view(-1, 5)
            loss = model(batch[:, 0], batch[:, 1], negatives)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss)
    e = F.normalize(model.center.weight.detach(), dim=1)
    near = (e @ e.T).fill_diagonal_(-1).argmax(1)
    same = (near // per_topic == torch.arange(vocab) // per_topic).float().mean().item()
    return {"train_loss": loss.item(), "nearest_word_has_same_topic": same}


@sound("matrix factorisation recommender")
def r1_matrix_factorisation_with_biases(watch):
    """Biased matrix factorisation on sparse ratings, weight decay on factors only by hand, ratings split per entry."""
    g = torch.Generator().manual_seed(2)
    users, items, rank = 300, 200, 3
    U, V = torch.randn(users, rank, generator=g) * 0.7, torch.randn(items, rank, generator=g) * 0.7
    bu, bi = 0.4 * torch.randn(users, generator=g), 0.5 * torch.randn(items, generator=g)
    u, i = (
        torch.randint(0, users, (18000,), generator=g),
        torch.randint(0, items, (18000,), generator=g),
    )
    r = 3.5 + bu[u] + bi[i] + (U[u] * V[i]).sum(1) + 0.2 * torch.randn(18000, generator=g)
    # split by cell, so that no user-item cell is in both parts
    held_out = ((u * 7919 + i * 104729) % 10) == 0
    mean = r[~held_out].mean()

    class MF(nn.Module):
        def __init__(self, k=6):
            super().__init__()
            self.P, self.Q = nn.Embedding(users, k), nn.Embedding(items, k)
            self.bu, self.bi = nn.Embedding(users, 1), nn.Embedding(items, 1)
            for table in (self.P, self.Q):
                nn.init.normal_(table.weight, std=0.1)
            nn.init.zeros_(self.bu.weight)
            nn.init.zeros_(self.bi.weight)

        def forward(self, a, b):
            return mean + self.bu(a)[:, 0] + self.bi(b)[:, 0] + (self.P(a) * self.Q(b)).sum(1)

    train = DataLoader(
        TensorDataset(u[~held_out], i[~held_out], r[~held_out]), batch_size=256, shuffle=True
    )
    mf = MF()
    opt = torch.optim.Adam(mf.parameters(), lr=1e-2)
    watcher = watch(mf, opt, loss_fn=F.mse_loss, task="regression", train=train)
    for epoch in range(12):
        for a, b, y in train:
            loss = (
                F.mse_loss(mf(a, b), y)
                + 2e-2 * (mf.P(a).pow(2).sum(1) + mf.Q(b).pow(2).sum(1)).mean()
            )
            opt.zero_grad()
            loss.backward()
            opt.step()
            watcher.step(loss)
        with torch.no_grad():
            rmse = F.mse_loss(mf(u[held_out], i[held_out]), r[held_out]).sqrt().item()
        watcher.log(val_loss=rmse**2)
    return {
        "train_loss": loss.item(),
        "val_rmse": rmse,
        "rmse_of_mean": (r[held_out] - mean).pow(2).mean().sqrt().item(),
    }


@sound("sequence tagging (LSTM)")
def r1_bilstm_tagger_with_ignored_padding(watch):
    """BiLSTM tagger with packed sequences and a target of -100 at padding; the tag of a word depends on its neighbours on both sides."""
    vocab, tags = 30, 5

    def sentence(rng):
        n = rng.integers(3, 15)
        w = rng.integers(1, vocab, n)
        left, right = np.append(0, w[:-1]), np.append(w[1:], 0)
        t = np.where(w % 3 == 0, 0, np.where(w % 3 == 1, 1 + left % 2, 3 + right % 2))
        return torch.tensor(w), torch.tensor(t)

    def collate(batch):
        batch = sorted(batch, key=lambda p: -len(p[0]))
        return (
            nn.utils.rnn.pad_sequence([w for w, _ in batch], batch_first=True),
            nn.utils.rnn.pad_sequence([t for _, t in batch], batch_first=True, padding_value=-100),
            [len(w) for w, _ in batch],
        )

    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb, self.drop = nn.Embedding(vocab, 24, padding_idx=0), nn.Dropout(0.1)
            self.rnn = nn.LSTM(24, 32, bidirectional=True, batch_first=True)
            self.out = nn.Linear(64, tags)

        def forward(self, words, lengths):
            packed = nn.utils.rnn.pack_padded_sequence(
                self.drop(self.emb(words)), lengths, batch_first=True
            )
            h, _ = nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
            return self.out(h)

    rng = np.random.default_rng(1)
    train = DataLoader(
        [sentence(rng) for _ in range(1500)], batch_size=30, shuffle=True, collate_fn=collate
    )
    dev = DataLoader([sentence(rng) for _ in range(300)], batch_size=100, collate_fn=collate)
    tagger = Tagger()
    opt = torch.optim.Adam(tagger.parameters(), lr=5e-3)
    criterion = nn.CrossEntropyLoss()  # ignore_index is -100
    watcher = watch(tagger, opt, loss_fn=criterion, num_classes=tags)
    for epoch in range(8):
        tagger.train()
        for w, t, n in train:
            opt.zero_grad()
            loss = criterion(tagger(w, n).transpose(1, 2), t)
            loss.backward()
            nn.utils.clip_grad_value_(tagger.parameters(), 1.0)
            opt.step()
            watcher.step(loss, batch=(w, t))
        tagger.eval()
        with torch.no_grad():
            good = total = 0
            for w, t, n in dev:
                keep = t != -100
                good += (tagger(w, n).argmax(-1) == t)[keep].sum().item()
                total += keep.sum().item()
        watcher.log(val_accuracy=good / total)
    return {"train_loss": loss.item(), "val_tag_accuracy": good / total}


@sound("sparse autoencoder")
def r1_autoencoder_with_kl_sparsity(watch):
    """Over-complete autoencoder with a KL penalty on the mean activation of each unit; the penalty ramps up, so the total loss rises for a while by design."""
    x = torch.tensor(load_digits().data / 16.0, dtype=torch.float32)
    tr, va = x[:1500], x[1500:]
    loader = DataLoader(tr, batch_size=100, shuffle=True)

    class SparseAE(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = nn.Linear(64, 96), nn.Linear(96, 64)

        def forward(self, inp):
            code = torch.sigmoid(self.encoder(inp))
            return torch.sigmoid(self.decoder(code)), code

    def sparsity(code, rho=0.1):
        q = code.mean(0).clamp(1e-4, 1 - 1e-4)
        return (rho * torch.log(rho / q) + (1 - rho) * torch.log((1 - rho) / (1 - q))).sum()

    ae = SparseAE()
    optim = torch.optim.Adam(ae.parameters(), lr=3e-3)
    watcher = watch(ae, optim, train=loader)
    step = 0
    for epoch in range(40):
        for batch in loader:
            beta = 0.06 * min(1.0, step / 300)
            out, code = ae(batch)
            loss = F.mse_loss(out, batch, reduction="none").sum(1).mean() + beta * sparsity(code)
            optim.zero_grad()
            loss.backward()
            optim.step()
            watcher.step(loss)
            step += 1
        with torch.no_grad():
            out, code = ae(va)
            val_mse = F.mse_loss(out, va).item()
        watcher.log(val_loss=val_mse * 64)
    return {
        "train_loss": loss.item(),
        "val_pixel_mse": val_mse,
        "mean_activation": code.mean().item(),
        "mse_of_mean": (va - tr.mean(0)).pow(2).mean().item(),
    }


@sound("WGAN with gradient penalty")
def r1_wgan_gp_on_a_ring(watch):
    """Critic loss is unbounded and negative, three critic steps for each generator step, gradient penalty by double backward. Real points: a noisy ring."""

    def real(n):
        k = 2 * math.pi * torch.rand(n)
        return torch.stack([k.cos(), k.sin()], 1) * 2 + 0.1 * torch.randn(n, 2)

    gen = nn.Sequential(nn.Linear(8, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 2))
    critic = nn.Sequential(
        nn.Linear(2, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 1)
    )
    og = torch.optim.Adam(gen.parameters(), lr=5e-4, betas=(0.0, 0.9))
    oc = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.0, 0.9))
    watcher = watch(nn.ModuleList([gen, critic]), [og, oc])

    def penalty(a, b):
        t = torch.rand(len(a), 1)
        mid = (t * a + (1 - t) * b).requires_grad_(True)
        (grad,) = torch.autograd.grad(critic(mid).sum(), mid, create_graph=True)
        return ((grad.norm(dim=1) - 1) ** 2).mean()

    for it in range(900):
        for _ in range(3):
            a, b = real(96), gen(torch.randn(96, 8)).detach()
            c_loss = critic(b).mean() - critic(a).mean() + 2.0 * penalty(a, b)
            oc.zero_grad()
            c_loss.backward()
            oc.step()
            watcher.step(c_loss)
        g_loss = -critic(gen(torch.randn(96, 8))).mean()
        og.zero_grad()
        g_loss.backward()
        og.step()
        watcher.step(g_loss)
    with torch.no_grad():
        s = gen(torch.randn(2000, 8))
        close = (s.norm(dim=1) - 2).abs() < 0.4
        sectors = (
            ((torch.atan2(s[:, 1], s[:, 0]) / math.pi + 1) * 4)
            .long()
            .clamp(0, 7)[close]
            .bincount(minlength=8)
        )
    return {
        "critic_loss": c_loss.item(),
        "share_near_the_ring": close.float().mean().item(),
        "smallest_of_8_sectors": sectors.min().item() / 2000,
    }


@sound("seq2seq with scheduled sampling")
def r1_seq2seq_scheduled_sampling(watch):
    """Sorting short digit strings; attention decoder fed with its own output more and more, so the training loss may go up while the model gets better."""
    SOS, N = 10, 6

    class Encoder(nn.Module):
        def __init__(self, h):
            super().__init__()
            self.e, self.r = (
                nn.Embedding(10, 24),
                nn.GRU(24, h, batch_first=True, bidirectional=True),
            )
            self.down = nn.Linear(2 * h, h)

        def forward(self, x):
            o, s = self.r(self.e(x))
            return self.down(o), torch.tanh(self.down(torch.cat([s[0], s[1]], 1)))

    class Decoder(nn.Module):
        def __init__(self, h):
            super().__init__()
            self.e, self.cell, self.out = (
                nn.Embedding(11, 24),
                nn.GRUCell(24 + h, h),
                nn.Linear(2 * h, 10),
            )

        def forward(self, memory, state, target=None, p_teacher=0.0):
            token = torch.full((len(memory),), SOS)
            context = memory.mean(1)
            logits = []
            for t in range(N):
                state = self.cell(torch.cat([self.e(token), context], 1), state)
                context = (
                    torch.softmax(torch.einsum("bnh,bh->bn", memory, state), 1)[..., None] * memory
                ).sum(1)
                step_logits = self.out(torch.cat([state, context], 1))
                logits.append(step_logits)
                own = step_logits.argmax(1).detach()
                token = (
                    own
                    if target is None
                    else torch.where(torch.rand(len(own)) < p_teacher, target[:, t], own)
                )
            return torch.stack(logits, 1)

    enc, dec = Encoder(64), Decoder(64)
    opt_e, opt_d = (
        torch.optim.Adam(enc.parameters(), lr=3e-3),
        torch.optim.Adam(dec.parameters(), lr=3e-3),
    )
    we, wd = watch(enc, opt_e), watch(dec, opt_d)
    gval = torch.Generator().manual_seed(9)
    xv = torch.randint(0, 10, (500, N), generator=gval)
    yv = xv.sort(1).values
    total = 450
    for it in range(total):
        x = torch.randint(0, 10, (64, N))
        y = x.sort(1).values
        k = it / total
        memory, state = enc(x)
        loss = F.cross_entropy(
            dec(memory, state, y, p_teacher=1 - 0.7 * k).flatten(0, 1), y.flatten()
        )
        opt_e.zero_grad()
        opt_d.zero_grad()
        loss.backward()
        for net in (enc, dec):
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        opt_e.step()
        opt_d.step()
        we.step(loss)
        wd.step(loss)
        if (it + 1) % 100 == 0:
            with torch.no_grad():
                free = dec(*enc(xv))
                acc = (free.argmax(-1) == yv).float().mean().item()
            we.log(val_accuracy=acc)
    return {"train_loss": loss.item(), "free_running_accuracy": acc}


@sound("image classification with gradient accumulation")
def r1_accumulation_in_a_trainer_class(watch):
    """Trainer class; four micro-batches of 8 per update, each loss divided by 4, zero_grad and clipping only at the boundary, last incomplete group handled."""

    class Trainer:
        accumulate = 4

        def __init__(self, model, optimizer, scheduler, train_loader, val_loader):
            self.model, self.optimizer, self.scheduler = model, optimizer, scheduler
            self.train_loader, self.val_loader = train_loader, val_loader
            self.criterion = nn.CrossEntropyLoss()
            self.watcher = watch(
                model,
                optimizer,
                loss_fn=self.criterion,
                num_classes=10,
                train=train_loader,
                val=val_loader,
                scheduler=scheduler,
            )

        def train_epoch(self):
            self.model.train()
            self.optimizer.zero_grad()
            for k, (x, y) in enumerate(self.train_loader):
                loss = self.criterion(self.model(x), y)
                (loss / self.accumulate).backward()
                if (k + 1) % self.accumulate == 0 or k + 1 == len(self.train_loader):
                    nn.utils.clip_grad_norm_(self.model.parameters(), 2.0)
                    self.optimizer.step()
                    self.scheduler.step()
                    self.watcher.step(loss)
                    self.optimizer.zero_grad()
            return loss.item()

        @torch.no_grad()
        def evaluate(self):
            self.model.eval()
            out, ys = zip(*[(self.model(x), y) for x, y in self.val_loader])
            out, ys = torch.cat(out), torch.cat(ys)
            return self.criterion(out, ys).item(), (out.argmax(1) == ys).float().mean().item()

        def fit(self, epochs):
            for _ in range(epochs):
                train_loss = self.train_epoch()
                val_loss, acc = self.evaluate()
                self.watcher.log(val_loss=val_loss, val_accuracy=acc)
            return {"train_loss": train_loss, "val_loss": val_loss, "val_accuracy": acc}

    d = load_digits()
    a, b, ya, yb = train_test_split(d.images / 16.0, d.target, test_size=0.2, random_state=3)
    as_set = lambda i, t: TensorDataset(
        torch.tensor(i, dtype=torch.float32)[:, None], torch.tensor(t)
    )
    loaders = (
        DataLoader(as_set(a, ya), batch_size=8, shuffle=True),
        DataLoader(as_set(b, yb), batch_size=120),
    )
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.GroupNorm(4, 16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.GroupNorm(4, 32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 10),
    )
    opt = torch.optim.AdamW(net.parameters(), lr=3e-3)
    updates = 8 * math.ceil(len(loaders[0]) / 4)
    return Trainer(
        net, opt, torch.optim.lr_scheduler.OneCycleLR(opt, 3e-3, total_steps=updates), *loaders
    ).fit(8)


@sound("tiny-batch fine-tuning")
def r1_finetune_pretrained_body_batches_of_two(watch):
    """A ResNet pretrained on digits 0-4 is fine-tuned on 5-9 with batches of two: batch norm is kept in eval mode on purpose, body and head have different rates."""
    net = _pretrained_resnet(5)
    net.fc = nn.Linear(net.fc.in_features, 5)
    d = load_digits()
    keep = d.target >= 5
    x, y = (
        torch.tensor(d.images[keep] / 16.0, dtype=torch.float32)[:, None],
        torch.tensor(d.target[keep] - 5),
    )
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(4))
    few, rest = order[:200], order[200:]
    body = [
        p
        for n, p in net.named_parameters()
        if not n.startswith("fc") and "bn" not in n and "stem.1" not in n and "short.1" not in n
    ]
    for n, p in net.named_parameters():
        if "bn" in n or "stem.1" in n or "short.1" in n:
            p.requires_grad_(False)
    optimizer = torch.optim.AdamW(
        [{"params": body, "lr": 2e-4}, {"params": net.fc.parameters(), "lr": 2e-3}],
        weight_decay=1e-3,
    )
    loader = DataLoader(TensorDataset(x[few], y[few]), batch_size=2, shuffle=True)
    watcher = watch(net, optimizer, loss_fn=F.cross_entropy, num_classes=5, train=loader)

    def train_mode_but_frozen_norms():
        net.train()
        for m in net.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.eval()

    for epoch in range(5):
        train_mode_but_frozen_norms()
        run = 0.0
        for xb, yb in loader:
            loss = F.cross_entropy(net(xb), yb)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss)
            run += loss.item() / len(loader)
        net.eval()
        with torch.no_grad():
            out = net(x[rest])
            acc, vl = (
                (out.argmax(1) == y[rest]).float().mean().item(),
                F.cross_entropy(out, y[rest]).item(),
            )
        watcher.log(val_loss=vl, val_accuracy=acc)
    return {"train_loss": run, "val_loss": vl, "val_accuracy": acc}


@sound("CNN under bf16 autocast")
def r1_cnn_bf16_autocast(watch):
    """Forward and loss under torch.autocast('cpu', bfloat16); loss in float32; warm restarts of the learning rate."""
    d = load_digits()
    images = torch.tensor(d.images / 16.0, dtype=torch.float32)[:, None]
    target = torch.tensor(d.target)
    perm = torch.randperm(len(target), generator=torch.Generator().manual_seed(0))
    tr, te = perm[:1400], perm[1400:]
    loader = DataLoader(
        TensorDataset(images[tr], target[tr]), batch_size=64, shuffle=True, drop_last=True
    )

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1)
            self.na, self.nb = nn.BatchNorm2d(16), nn.BatchNorm2d(32)
            self.fc1, self.fc2 = nn.Linear(32 * 16, 64), nn.Linear(64, 10)

        def forward(self, x):
            x = F.relu(self.na(self.a(x)))
            x = F.max_pool2d(F.relu(self.nb(self.b(x))), 2).flatten(1)
            return self.fc2(F.dropout(F.relu(self.fc1(x)), 0.25, self.training))

    net = Net()
    opt = torch.optim.SGD(net.parameters(), lr=0.03, momentum=0.9, weight_decay=1e-4)
    sched = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(opt, T_0=2, T_mult=2)
    ce = nn.CrossEntropyLoss()
    watcher = watch(net, opt, loss_fn=ce, num_classes=10, train=loader, scheduler=sched)
    for epoch in range(6):
        net.train()
        for k, (x, y) in enumerate(loader):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = net(x)
            loss = ce(logits.float(), y)
            opt.zero_grad(set_to_none=True)
            loss.backward()
            opt.step()
            sched.step(epoch + (k + 1) / len(loader))
            watcher.step(loss, batch=(x, y))
        net.eval()
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            out = net(images[te]).float()
        acc = (out.argmax(1) == target[te]).float().mean().item()
        watcher.log(val_loss=ce(out, target[te]).item(), val_accuracy=acc)
    return {"train_loss": loss.item(), "val_accuracy": acc}


@sound("language model with padding")
def r1_lm_padded_lines_ignore_index(watch):
    """Decoder-only Transformer on lines of different length (bracket-like grammar); padding as ignore_index; tied embeddings; AdamW with decay groups; dict batches."""
    PAD, BOS, EOS, kinds = 0, 1, 2, 6
    vocab = 3 + 2 * kinds

    def line(rng):
        stack, out = [], [BOS]
        for _ in range(rng.randint(4, 14)):
            if stack and rng.random() < 0.5:
                out.append(3 + kinds + stack.pop())
            else:
                stack.append(rng.randrange(kinds))
                out.append(3 + stack[-1])
        while stack:
            out.append(3 + kinds + stack.pop())
        return [*out, EOS]

    def collate(lines):
        n = max(map(len, lines))
        ids = torch.tensor([l + [PAD] * (n - len(l)) for l in lines])
        return {"input_ids": ids[:, :-1], "labels": ids[:, 1:]}

    class Attention(nn.Module):
        def __init__(self, d, heads):
            super().__init__()
            self.qkv, self.proj, self.heads = nn.Linear(d, 3 * d), nn.Linear(d, d), heads

        def forward(self, x):
            b, t, d = x.shape
            q, k, v = (
                z.view(b, t, self.heads, -1).transpose(1, 2) for z in self.qkv(x).chunk(3, -1)
            )
            o = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.proj(o.transpose(1, 2).reshape(b, t, d))

    class GPT(nn.Module):
        def __init__(self, d=48):
            super().__init__()
            self.wte, self.wpe = nn.Embedding(vocab, d), nn.Embedding(40, d)
            self.layers = nn.ModuleList(
                [
                    nn.ModuleList(
                        [
                            nn.LayerNorm(d),
                            Attention(d, 4),
                            nn.LayerNorm(d),
                            nn.Sequential(nn.Linear(d, 96), nn.GELU(), nn.Linear(96, d)),
                        ]
                    )
                    for _ in range(2)
                ]
            )
            self.lnf = nn.LayerNorm(d)
            self.apply(
                lambda m: (
                    nn.init.normal_(m.weight, std=0.05)
                    if isinstance(m, (nn.Linear, nn.Embedding))
                    else None
                )
            )

        def forward(self, input_ids, labels=None):
            x = self.wte(input_ids) + self.wpe(torch.arange(input_ids.size(1)))
            for n1, att, n2, mlp in self.layers:
                x = x + att(n1(x))
                x = x + mlp(n2(x))
            logits = F.linear(self.lnf(x), self.wte.weight)
            loss = (
                None
                if labels is None
                else F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=PAD)
            )
            return logits, loss

    rng = random.Random(5)
    train = DataLoader(
        [line(rng) for _ in range(2000)], batch_size=40, shuffle=True, collate_fn=collate
    )
    val = DataLoader([line(rng) for _ in range(300)], batch_size=100, collate_fn=collate)
    gpt = GPT()
    groups = [
        {"params": [p for p in gpt.parameters() if p.dim() > 1], "weight_decay": 0.05},
        {"params": [p for p in gpt.parameters() if p.dim() == 1], "weight_decay": 0.0},
    ]
    opt = torch.optim.AdamW(groups, lr=2e-3, betas=(0.9, 0.95))
    steps = 7 * len(train)
    sched = torch.optim.lr_scheduler.LambdaLR(
        opt, lambda s: min((s + 1) / 30, 0.1 + 0.45 * (1 + math.cos(math.pi * min(1, s / steps))))
    )
    watcher = watch(gpt, opt, scheduler=sched)
    for epoch in range(7):
        gpt.train()
        for batch in train:
            _, loss = gpt(**batch)
            loss.backward()
            nn.utils.clip_grad_norm_(gpt.parameters(), 1.0)
            opt.step()
            sched.step()
            opt.zero_grad(set_to_none=True)
            watcher.step(loss)
        gpt.eval()
        with torch.no_grad():
            vl = float(np.mean([gpt(**b)[1].item() for b in val]))
            # closing brackets can be told from the past; which kind it must be is the interesting part
            ok = n = 0
            for b in val:
                closing = b["labels"] >= 3 + kinds
                ids = gpt(b["input_ids"])[0][..., 3 + kinds :].argmax(-1) + 3 + kinds
                ok += (ids == b["labels"])[closing].sum().item()
                n += closing.sum().item()
        watcher.log(val_loss=vl)
    return {"train_loss": loss.item(), "val_loss": vl, "closing_kind_accuracy": ok / n}


@sound("imbalanced classification with a weighted sampler")
def r1_imbalanced_weighted_sampler(watch):
    """Five percent positives; WeightedRandomSampler with replacement makes the training batches even, the validation keeps the true proportion."""
    X, y = make_classification(
        4000,
        16,
        n_informative=8,
        n_redundant=0,
        weights=[0.95],
        class_sep=1.8,
        flip_y=0.0,
        random_state=2,
    )
    Xt, Xv, yt, yv = train_test_split(X, y, test_size=0.25, stratify=y, random_state=0)
    sc = StandardScaler().fit(Xt)
    Xt, Xv = (torch.tensor(sc.transform(a), dtype=torch.float32) for a in (Xt, Xv))
    yt, yv = torch.tensor(yt), torch.tensor(yv)
    weight = 1.0 / torch.bincount(yt).float()
    sampler = WeightedRandomSampler(weight[yt], num_samples=len(yt), replacement=True)
    loader = DataLoader(TensorDataset(Xt, yt), batch_size=64, sampler=sampler)
    val_loader = DataLoader(TensorDataset(Xv, yv), batch_size=500)

    class MLP(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(16, 48), nn.Linear(48, 24)])
            self.final = nn.Linear(24, 1)
            self.drop = nn.Dropout(0.2)

        def forward(self, x):
            for layer in self.layers:
                x = self.drop(torch.relu(layer(x)))
            return self.final(x).squeeze(1)

    model = MLP()
    opt = torch.optim.Adam(model.parameters(), lr=2e-3, weight_decay=1e-4)
    bce = nn.BCEWithLogitsLoss()
    watcher = watch(model, opt, loss_fn=bce, train=loader, val=val_loader)
    for epoch in range(12):
        model.train()
        for a, b in loader:
            loss = bce(model(a), b.float())
            opt.zero_grad()
            loss.backward()
            opt.step()
            watcher.step(loss, batch=(a, b))
        model.eval()
        with torch.no_grad():
            logit = model(Xv)
            hit = (logit > 0) == (yv == 1)
            balanced = 0.5 * (hit[yv == 1].float().mean() + hit[yv == 0].float().mean()).item()
            watcher.log(
                val_loss=bce(logit, yv.float()).item(), val_accuracy=hit.float().mean().item()
            )
    return {"train_loss": loss.item(), "balanced_val_accuracy": balanced}


@sound("VAE with KL warm-up")
def r1_vae_kl_annealing_free_bits(watch):
    """Convolutional VAE on digits; KL weight rises from 0 to 1 over the first half (the loss rises by design), free bits per dimension; the loss is a sum, so its numbers are large."""
    x = torch.tensor(load_digits().images / 16.0, dtype=torch.float32)[:, None]
    g = torch.Generator().manual_seed(1)
    x = x[torch.randperm(len(x), generator=g)]
    train, held = x[:1500], x[1500:]

    class ConvVAE(nn.Module):
        def __init__(self, z=6):
            super().__init__()
            self.enc = nn.Sequential(
                nn.Conv2d(1, 16, 3, 2, 1),
                nn.SiLU(),
                nn.Conv2d(16, 32, 3, 2, 1),
                nn.SiLU(),
                nn.Flatten(),
                nn.Linear(128, 2 * z),
            )
            self.dec = nn.Sequential(
                nn.Linear(z, 128),
                nn.SiLU(),
                nn.Unflatten(1, (32, 2, 2)),
                nn.ConvTranspose2d(32, 16, 4, 2, 1),
                nn.SiLU(),
                nn.ConvTranspose2d(16, 1, 4, 2, 1),
                nn.Sigmoid(),
            )

        def forward(self, inp):
            mu, lv = self.enc(inp).chunk(2, 1)
            q = torch.distributions.Normal(mu, torch.exp(0.5 * lv))
            return self.dec(q.rsample()), q

    vae = ConvVAE()
    opt = torch.optim.Adam(vae.parameters(), lr=3e-3)
    prior = torch.distributions.Normal(0.0, 1.0)
    watcher = watch(vae, opt)
    epochs = 30
    for epoch in range(epochs):
        beta = min(1.0, 2 * epoch / epochs)
        for batch in train[torch.randperm(len(train))].split(75):
            recon, q = vae(batch)
            rec = ((recon - batch) ** 2).flatten(1).sum(1) / (2 * 0.15**2)
            kl = torch.distributions.kl_divergence(q, prior).mean(0).clamp(min=0.1).sum()
            loss = rec.mean() + beta * kl
            opt.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(vae.parameters(), 100.0)
            opt.step()
            watcher.step(loss)
    with torch.no_grad():
        recon, q = vae(held)
        mse = F.mse_loss(recon, held).item()
        kl = torch.distributions.kl_divergence(q, prior).sum(1).mean().item()
    return {
        "train_loss": loss.item(),
        "val_pixel_mse": mse,
        "val_kl": kl,
        "mse_of_mean_digit": F.mse_loss(train.mean(0).expand_as(held), held).item(),
    }


@sound("double DQN with soft target updates")
def r1_double_dqn_soft_target(watch):
    """Double DQN, dueling heads, soft target by Polyak averaging, Huber loss, large clip; the TD loss does not fall steadily since the targets move."""

    class Dueling(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(36, 64), nn.ReLU())
            self.value, self.advantage = nn.Linear(64, 1), nn.Linear(64, 4)

        def forward(self, s):
            h = self.body(s)
            a = self.advantage(h)
            return self.value(h) + a - a.mean(-1, keepdim=True)

    env, rng = _Corridor(), random.Random(3)
    q, q_target = Dueling(), Dueling()
    q_target.load_state_dict(q.state_dict())
    q_target.requires_grad_(False)
    opt = torch.optim.AdamW(q.parameters(), lr=1e-3, amsgrad=True)
    watcher = watch(q, opt)
    memory, state, tau = [], env.reset(), 0.01
    for t in range(4000):
        eps = 0.05 + 0.95 * math.exp(-t / 900)
        if rng.random() < eps:
            action = rng.randrange(4)
        else:
            with torch.no_grad():
                action = q(torch.from_numpy(state)).argmax().item()
        nxt, reward, terminal, over = env.step(action)
        memory.append((state, action, reward, nxt, float(terminal)))
        state = env.reset() if over else nxt
        if t < 200 or t % 2:
            continue
        s, a, r, n, d = (np.array(v, dtype=np.float32) for v in zip(*rng.choices(memory, k=64)))
        s, r, n, d, a = (
            torch.from_numpy(s),
            torch.from_numpy(r),
            torch.from_numpy(n),
            torch.from_numpy(d),
            torch.from_numpy(a).long(),
        )
        with torch.no_grad():
            best = q(n).argmax(1, keepdim=True)
            y = r + 0.95 * (1 - d) * q_target(n).gather(1, best).squeeze(1)
        loss = nn.functional.huber_loss(q(s).gather(1, a.unsqueeze(1)).squeeze(1), y)
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_(q.parameters(), 100)
        opt.step()
        watcher.step(loss)
        with torch.no_grad():
            for p, tp in zip(q.parameters(), q_target.parameters()):
                tp.lerp_(p, tau)
    return {"td_loss": loss.item(), "greedy_return": _play_greedy(q, env)}


@sound("contrastive image and text (CLIP)")
def r1_clip_two_towers_learned_temperature(watch):
    """Two small towers, symmetric cross entropy with a learned log temperature (clamped), pictures of two shapes and a token description of it."""
    kinds = 9

    def pairs(n, gen):
        left, right = (
            torch.randint(0, kinds, (n,), generator=gen),
            torch.randint(0, kinds, (n,), generator=gen),
        )
        img = 0.2 * torch.randn(n, 1, 6, 12, generator=gen)
        for k, side in enumerate((left, right)):
            img[torch.arange(n), 0, 2 * (side // 3), 6 * k + 2 * (side % 3)] += 1.5
            img[torch.arange(n), 0, 2 * (side // 3) + 1, 6 * k + 2 * (side % 3)] += 1.0
        swap = torch.rand(n, generator=gen) < 0.5  # "L a R b" or "R b L a"
        a, b = (
            torch.stack([torch.zeros_like(left), left + 2], 1),
            torch.stack([torch.ones_like(right), right + 2], 1),
        )
        text = torch.where(swap[:, None], torch.cat([b, a], 1), torch.cat([a, b], 1))
        return img, text, left * kinds + right

    class Towers(nn.Module):
        def __init__(self, d=32):
            super().__init__()
            self.image = nn.Sequential(
                nn.Flatten(), nn.Linear(72, 128), nn.GELU(), nn.Linear(128, d)
            )
            self.tokens = nn.Embedding(2 + kinds, 24)
            self.text_rnn = nn.GRU(24, 64, batch_first=True)
            self.text_out = nn.Linear(64, d)
            self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

        def forward(self, img, text):
            u = F.normalize(self.image(img), dim=-1)
            v = F.normalize(self.text_out(self.text_rnn(self.tokens(text))[1][0]), dim=-1)
            return self.log_scale.exp() * u @ v.T

    gen = torch.Generator().manual_seed(0)
    img, text, meaning = pairs(4000, gen)
    vi, vt, vm = pairs(200, gen)
    model = Towers()
    opt = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.0)
    watcher = watch(model, opt)
    for epoch in range(12):
        for idx in torch.randperm(4000).split(50):
            logits = model(img[idx], text[idx])
            # equal descriptions in one batch are no negatives
            twin = (meaning[idx][:, None] == meaning[idx][None]) & ~torch.eye(
                len(idx), dtype=torch.bool
            )
            logits = logits.masked_fill(twin, -1e4)
            target = torch.arange(len(idx))
            loss = 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target))
            opt.zero_grad()
            loss.backward()
            opt.step()
            with torch.no_grad():
                model.log_scale.clamp_(0, math.log(100))
            watcher.step(loss)
        with torch.no_grad():
            found = vm[model(vi, vt).argmax(1)]
            recall = (found == vm).float().mean().item()
        watcher.log(val_accuracy=recall)
    return {
        "train_loss": loss.item(),
        "retrieval_at_1": recall,
        "temperature": math.exp(-model.log_scale.item()),
    }


@sound("graph network (full batch)")
def r1_gat_full_batch_masked_nodes(watch):
    """Graph attention by hand, one full-graph step per epoch, loss only on 120 of 450 nodes, strong dropout and weight decay."""
    x, adj, y, tr, va, te = _community_graph(n=450, seed=5, strength=0.4, p_in=0.03, p_out=0.005)
    neighbours = adj > 0

    class GAT(nn.Module):
        def __init__(self, i, o, heads, concat=True):
            super().__init__()
            self.lin = nn.Linear(i, o * heads, bias=False)
            self.a_src, self.a_dst = (
                nn.Parameter(torch.randn(heads, o) * 0.1),
                nn.Parameter(torch.randn(heads, o) * 0.1),
            )
            self.heads, self.concat = heads, concat
            self.drop = nn.Dropout(0.4)

        def forward(self, h):
            z = self.lin(self.drop(h)).view(len(h), self.heads, -1)
            e = F.leaky_relu(
                (z * self.a_src).sum(-1)[:, None] + (z * self.a_dst).sum(-1)[None], 0.2
            )
            att = torch.softmax(e.masked_fill(~neighbours[..., None], float("-inf")), dim=1)
            out = torch.einsum("ijh,jho->iho", self.drop(att), z)
            return out.flatten(1) if self.concat else out.mean(1)

    net = nn.Sequential(GAT(x.size(1), 8, 4), nn.ELU(), GAT(32, 4, 1, concat=False))
    opt = torch.optim.Adam(net.parameters(), lr=0.01, weight_decay=1e-3)
    watcher = watch(net, opt, num_classes=4)
    best, best_test = 0.0, 0.0
    for epoch in range(120):
        net.train()
        loss = F.nll_loss(F.log_softmax(net(x), dim=1)[tr], y[tr])
        opt.zero_grad()
        loss.backward()
        opt.step()
        watcher.step(loss)
        net.eval()
        with torch.no_grad():
            out = net(x)
            acc = [(out[m].argmax(1) == y[m]).float().mean().item() for m in (va, te)]
            watcher.log(val_loss=F.cross_entropy(out[va], y[va]).item(), val_accuracy=acc[0])
        if acc[0] > best:
            best, best_test = acc
    return {"train_loss": loss.item(), "val_accuracy": best, "test_accuracy": best_test}


@sound("time-series forecasting (stateful)")
def r1_stateful_lstm_truncated_backprop(watch):
    """Parallel streams read in order, no shuffling on purpose; the state is carried from chunk to chunk, detached, and reset at each epoch."""
    streams, length, chunk = 16, 800, 20
    g = torch.Generator().manual_seed(4)
    period = 20 + 20 * torch.rand(streams + 4, 1, generator=g)
    phase = 6.28 * torch.rand(streams + 4, 1, generator=g)
    t = torch.arange(length)[None].float()
    series = torch.sin(6.2832 * t / period + phase) * (
        1 + 0.3 * torch.sin(t / 50)
    ) + 0.05 * torch.randn(streams + 4, length, generator=g)
    train, val = series[:streams, :, None], series[streams:, :, None]

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.out = nn.LSTM(1, 32, batch_first=True), nn.Linear(32, 1)

        def forward(self, x, state=None):
            h, state = self.lstm(x, state)
            return x + self.out(h), state  # forecasts the change

    model = Net()
    nn.init.zeros_(model.out.weight)
    nn.init.zeros_(model.out.bias)
    opt = torch.optim.RMSprop(model.parameters(), lr=2e-3)
    sched = torch.optim.lr_scheduler.ReduceLROnPlateau(opt, factor=0.5, patience=2)
    watcher = watch(model, opt, loss_fn=F.mse_loss, task="regression", scheduler=sched)
    for epoch in range(12):
        model.train()
        state = None
        for s in range(0, length - chunk - 1, chunk):
            x, y = train[:, s : s + chunk], train[:, s + 1 : s + chunk + 1]
            pred, state = model(x, state)
            loss = F.mse_loss(pred, y)
            opt.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            opt.step()
            state = tuple(v.detach() for v in state)
            watcher.step(loss)
        model.eval()
        with torch.no_grad():
            pred, _ = model(val[:, :-1])
            vl = F.mse_loss(pred[:, 50:], val[:, 51:]).item()
        sched.step(vl)
        watcher.log(val_loss=vl)
    return {
        "train_loss": loss.item(),
        "val_mse": vl,
        "mse_of_last_value": F.mse_loss(val[:, 50:-1], val[:, 51:]).item(),
    }


@sound("policy gradient")
def r1_reinforce_with_baseline(watch):
    """REINFORCE with a learned baseline and entropy bonus on a small balancing task written in torch; the loss says nothing about progress, it wanders around zero."""

    def rollout(policy, n, horizon=40):
        pos, vel = 0.2 * torch.randn(n), 0.2 * torch.randn(n)
        logps, ents, values, rewards = [], [], [], []
        for _ in range(horizon):
            logits, value = policy(torch.stack([pos, vel], 1))
            dist = torch.distributions.Categorical(logits=logits)
            a = dist.sample()
            force = (a - 1).float() * 0.25
            vel = (0.95 * vel + 0.1 * pos + force + 0.05 * torch.randn(n)).detach()
            pos = (pos + 0.3 * vel).clamp(-3, 3).detach()
            logps.append(dist.log_prob(a))
            ents.append(dist.entropy())
            values.append(value)
            rewards.append(-pos.abs())
        return (torch.stack(v) for v in (logps, ents, values, rewards))

    class Policy(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared = nn.Sequential(nn.Linear(2, 32), nn.Tanh())
            self.actor, self.critic = nn.Linear(32, 3), nn.Linear(32, 1)
            nn.init.zeros_(self.actor.weight)

        def forward(self, s):
            h = self.shared(s)
            return self.actor(h), self.critic(h).squeeze(-1)

    policy = Policy()
    opt = torch.optim.Adam(policy.parameters(), lr=5e-3)
    watcher = watch(policy, opt)
    first = None
    for it in range(200):
        logp, ent, value, reward = rollout(policy, 32)
        ret, acc = torch.zeros_like(reward), torch.zeros(reward.size(1))
        for t in reversed(range(len(reward))):
            acc = reward[t] + 0.9 * acc
            ret[t] = acc
        adv = (ret - value).detach()
        adv = (adv - adv.mean()) / (adv.std() + 1e-6)
        loss = -(logp * adv).mean() + 0.1 * F.mse_loss(value, ret) - 0.003 * ent.mean()
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        opt.step()
        watcher.step(loss)
        first = reward.mean().item() if first is None else first
    return {
        "loss": loss.item(),
        "first_mean_reward": first,
        "last_mean_reward": reward.mean().item(),
    }


@sound("multi-label classification")
def r1_multilabel_focal_loss_rare_tags(watch):
    """Own focal loss on rare tags, prior-biased last layer (its bias starts at -3), label list datasets with a collate function."""
    tags, dim = 12, 30
    rng = np.random.default_rng(6)
    directions = rng.normal(size=(tags, dim))

    class Rows(Dataset):
        def __init__(self, n):
            self.x = rng.normal(size=(n, dim)).astype("float32")
            score = self.x @ directions.T / np.sqrt(dim)
            self.y = [np.flatnonzero(s > 1.5).tolist() for s in score]

        def __len__(self):
            return len(self.x)

        def __getitem__(self, i):
            return {"x": self.x[i], "tags": self.y[i]}

    def collate(rows):
        y = torch.zeros(len(rows), tags)
        for k, row in enumerate(rows):
            y[k, row["tags"]] = 1
        return {"x": torch.from_numpy(np.stack([r["x"] for r in rows])), "y": y}

    def focal(logits, y, gamma=2.0, alpha=0.5):
        ce = F.binary_cross_entropy_with_logits(logits, y, reduction="none")
        p = torch.exp(-ce)
        weight = alpha * y + (1 - alpha) * (1 - y)
        return (weight * (1 - p) ** gamma * ce).sum() / y.sum().clamp(min=1)

    model = nn.Sequential(nn.Linear(dim, 96), nn.ReLU(), nn.Linear(96, tags))
    nn.init.constant_(model[-1].bias, -3.0)
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    train, val = (
        DataLoader(Rows(4000), 100, shuffle=True, collate_fn=collate),
        DataLoader(Rows(800), 400, collate_fn=collate),
    )
    watcher = watch(model, opt, loss_fn=focal, task="multilabel")
    for epoch in range(12):
        model.train()
        for b in train:
            loss = focal(model(b["x"]), b["y"])
            opt.zero_grad()
            loss.backward()
            opt.step()
            watcher.step(loss)
        model.eval()
        with torch.no_grad():
            out, ys = torch.cat([model(b["x"]) for b in val]), torch.cat([b["y"] for b in val])
            f1 = float(f1_score(ys.numpy(), (out > 0).numpy(), average="micro"))
        watcher.log(val_loss=focal(out, ys).item())
    return {
        "train_loss": loss.item(),
        "val_micro_f1": f1,
        "share_of_positive_labels": ys.mean().item(),
    }


@sound("diffusion model with EMA")
def r1_ddpm_two_moons_ema(watch):
    """Denoising diffusion in two dimensions: a random time and noise at each step, so the loss is noisy and flat early; zero-initialised last layer; samples from the EMA copy."""
    steps = 50
    beta = torch.linspace(5e-4, 0.15, steps)
    alpha_bar = torch.cumprod(1 - beta, 0)

    def data(n):
        th, up = math.pi * torch.rand(n), (torch.rand(n) < 0.5).float()
        x = torch.stack([th.cos() + 1 - up, th.sin() * (2 * up - 1) + 0.5 * (1 - up)], 1)
        return (x - torch.tensor([0.5, 0.25])) / 0.8 + 0.04 * torch.randn(n, 2)

    class Denoiser(nn.Module):
        def __init__(self, width=96):
            super().__init__()
            self.time = nn.Embedding(steps, 32)
            self.net = nn.Sequential(
                nn.Linear(34, width),
                nn.SiLU(),
                nn.Linear(width, width),
                nn.SiLU(),
                nn.Linear(width, 2),
            )
            nn.init.zeros_(self.net[-1].weight)
            nn.init.zeros_(self.net[-1].bias)

        def forward(self, x, t):
            return self.net(torch.cat([x, self.time(t)], 1))

    model = Denoiser()
    ema = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99)
    )
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, 2200)
    watcher = watch(model, opt, scheduler=sched)
    for it in range(2200):
        x0, t, eps = data(256), torch.randint(0, steps, (256,)), torch.randn(256, 2)
        ab = alpha_bar[t][:, None]
        loss = (model(ab.sqrt() * x0 + (1 - ab).sqrt() * eps, t) - eps).square().mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        sched.step()
        ema.update_parameters(model)
        watcher.step(loss)
    with torch.no_grad():
        x = torch.randn(1000, 2)
        for k in reversed(range(steps)):
            t = torch.full((1000,), k)
            mean = (x - beta[k] / (1 - alpha_bar[k]).sqrt() * ema(x, t)) / (1 - beta[k]).sqrt()
            x = mean + beta[k].sqrt() * torch.randn_like(x) * (k > 0)
        d = torch.cdist(x, data(4000))
    return {
        "train_loss": loss.item(),
        "share_of_samples_near_data": (d.min(1).values < 0.15).float().mean().item(),
        "data_covered": (d.min(0).values < 0.2).float().mean().item(),
    }
