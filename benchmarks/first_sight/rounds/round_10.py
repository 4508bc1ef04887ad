"""Round 10: frequent mistakes from many fields, and sound programs that are easily accused."""

import copy
import io
import itertools
import math
import random
from collections import OrderedDict

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, Dataset, TensorDataset

from benchmarks.first_sight.programs import faulty, sound


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - train_test_split draws from it
    torch.manual_seed(seed)


# ---------------------------------------------------------------- faulty programs


@faulty(
    "language model (character GPT)",
    fault="nn.TransformerEncoder is called without the causal mask: every position sees the character that it is to predict, the loss falls to almost nothing in training and validation, and the text it writes is rubbish",
    source="https://github.com/pytorch/tutorials/issues/2478, https://github.com/pytorch/tutorials/issues/719 and https://github.com/alex-matton/causal-transformer-decoder/issues/1",
)
def r10_char_gpt_without_causal_mask(watch, fixed):
    """A small GPT on recipes in a made-up kitchen language."""
    seed_everything(10)
    rng = random.Random(1)
    cooks = ["the cook", "my aunt", "a guest", "the old chef", "her brother"]
    verbs = {
        "boils": ["rice", "eggs", "soup"],
        "bakes": ["bread", "a pie", "a cake"],
        "fries": ["fish", "onions", "beans"],
    }
    places = ["at home", "by the river", "in town", "every friday"]

    def sentence():
        verb = rng.choice(list(verbs))
        return f"{rng.choice(cooks)} {verb} {rng.choice(verbs[verb])} {rng.choice(places)}. "

    text = "".join(sentence() for _ in range(3000))
    chars = sorted(set(text))
    stoi = {c: i for i, c in enumerate(chars)}
    data = torch.tensor([stoi[c] for c in text])
    split = int(0.9 * len(data))
    train_data, val_data = data[:split], data[split:]
    block_size, batch_size = 40, 24

    def get_batch(source):
        starts = torch.randint(len(source) - block_size - 1, (batch_size,))
        x = torch.stack([source[i : i + block_size] for i in starts])
        y = torch.stack([source[i + 1 : i + block_size + 1] for i in starts])
        return x, y

    class CharGPT(nn.Module):
        def __init__(self, vocab, dim=64, heads=4, layers=2):
            super().__init__()
            self.tok = nn.Embedding(vocab, dim)
            self.pos = nn.Embedding(block_size, dim)
            layer = nn.TransformerEncoderLayer(
                dim,
                heads,
                4 * dim,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            self.blocks = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
            self.ln = nn.LayerNorm(dim)
            self.head = nn.Linear(dim, vocab)

        def forward(self, idx):
            t = idx.size(1)
            h = self.tok(idx) + self.pos(torch.arange(t))
            if fixed:
                h = self.blocks(h, mask=nn.Transformer.generate_square_subsequent_mask(t))
            else:
                h = self.blocks(h)
            return self.head(self.ln(h))

    model = CharGPT(len(chars))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    watcher = watch(model, optimizer, num_classes=len(chars))
    for step in range(500):
        model.train()
        x, y = get_batch(train_data)
        logits = model(x)
        loss = F.cross_entropy(logits.view(-1, len(chars)), y.view(-1))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        watcher.step(loss, batch=(x, y))
        if step % 100 == 99:
            model.eval()
            with torch.no_grad():
                losses = []
                for _ in range(8):
                    x, y = get_batch(val_data)
                    losses.append(F.cross_entropy(model(x).view(-1, len(chars)), y.view(-1)).item())
            val_loss = sum(losses) / len(losses)
            watcher.log(val_loss=val_loss)

    # The only test that counts: given a beginning, which character is next?
    model.eval()
    nll, hits, n = 0.0, 0, 0
    with torch.no_grad():
        for length in range(12, block_size + 1, 4):
            x, _ = get_batch(val_data)
            prefix = model(x[:, : length - 1])[:, -1]
            nll += F.cross_entropy(prefix, x[:, length - 1], reduction="sum").item()
            hits += (prefix.argmax(1) == x[:, length - 1]).sum().item()
            n += len(x)
        idx = val_data[:16][None]
        for _ in range(60):
            idx = torch.cat([idx, model(idx[:, -block_size:])[:, -1].argmax(1)[:, None]], 1)
    words = {w for c in cooks + places for w in c.split()} | {
        w for v, o in verbs.items() for p in o for w in [v, *p.split()]
    }
    written = "".join(chars[i] for i in idx[0, 16:].tolist()).replace(".", "").split()[1:-1]
    return {
        "train_loss": loss.item(),
        "val_loss": val_loss,
        "next_char_nll_from_prefix": nll / n,
        "next_char_accuracy_from_prefix": hits / n,
        "share_of_real_words_written": sum(w in words for w in written) / max(len(written), 1),
    }


@faulty(
    "text classification (transformer with a [CLS] token)",
    fault="the tokenizer's attention mask (1 = word) is passed as src_key_padding_mask, where True means padding: the words are hidden, and [CLS] attends to padding alone",
    source="https://github.com/facebookresearch/detr/issues/96, https://github.com/jadore801120/attention-is-all-you-need-pytorch/issues/148 and https://github.com/mlwithme/TransformerTranslation/issues/2",
)
def r10_intents_padding_mask_inverted(watch, fixed):
    """Six intents of a voice assistant; short commands, padded to 18 tokens."""
    seed_everything(11)
    intents, vocab, max_len, cls_id, pad_id = 6, 300, 18, 1, 0
    rng = np.random.default_rng(3)

    def tokenize(n):
        ids = np.full((n, max_len), pad_id)
        labels = rng.integers(0, intents, n)
        for row, label in zip(ids, labels, strict=True):
            length = rng.integers(5, max_len - 2)
            words = rng.integers(122, vocab, length)
            own = rng.choice(length, rng.integers(2, 4), replace=False)
            words[own] = rng.integers(2 + 20 * label, 22 + 20 * label, len(own))
            other = rng.integers(length)
            if other not in own:
                words[other] = rng.integers(2, 122)
            row[0] = cls_id
            row[1 : length + 1] = words
        ids = torch.tensor(ids)
        return TensorDataset(ids, (ids != pad_id).long(), torch.tensor(labels))

    class IntentTransformer(nn.Module):
        def __init__(self, dim=48):
            super().__init__()
            self.words = nn.Embedding(vocab, dim, padding_idx=pad_id)
            self.positions = nn.Parameter(0.02 * torch.randn(max_len, dim))
            layer = nn.TransformerEncoderLayer(dim, 4, 96, dropout=0.1, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.classifier = nn.Linear(dim, intents)

        def forward(self, input_ids, attention_mask):
            x = self.words(input_ids) + self.positions
            mask = attention_mask == 0 if fixed else attention_mask.bool()
            x = self.encoder(x, src_key_padding_mask=mask)
            return self.classifier(x[:, 0])

    train_loader = DataLoader(tokenize(2400), batch_size=32, shuffle=True)
    val_loader = DataLoader(tokenize(480), batch_size=120)
    model = IntentTransformer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    watcher = watch(model, optimizer, num_classes=intents)
    for _epoch in range(6):
        model.train()
        for input_ids, attention_mask, labels in train_loader:
            loss = F.cross_entropy(model(input_ids, attention_mask), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss)
        model.eval()
        val_loss = correct = total = 0
        with torch.no_grad():
            for input_ids, attention_mask, labels in val_loader:
                out = model(input_ids, attention_mask)
                val_loss += F.cross_entropy(out, labels, reduction="sum").item()
                correct += (out.argmax(1) == labels).sum().item()
                total += len(labels)
        watcher.log(val_loss=val_loss / total, val_accuracy=correct / total)
    return {
        "train_loss": loss.item(),
        "val_loss": val_loss / total,
        "val_accuracy": correct / total,
    }


@faulty(
    "fine-tuning (frozen CNN, new head)",
    fault="the checkpoint was saved from nn.DataParallel, so every key begins with 'module.'; load_state_dict(strict=False) matches none of them and says nothing: the frozen backbone is random",
    source="https://github.com/pytorch/examples/issues/1029, https://github.com/pytorch/pytorch/issues/3805 and https://github.com/XuJiacong/PIDNet/issues/30",
)
def r10_finetune_checkpoint_keys_with_module_prefix(watch, fixed):
    """A backbone trained on the digits 5 to 9 reads meters with the digits 0 to 4."""
    seed_everything(12)
    digits = load_digits()
    images, labels = digits.images / 16.0, digits.target
    is_train = np.arange(len(labels)) % 4 != 0

    def photographs(classes, n, train, seed, gain=1.0):
        """A digit somewhere on a noisy 20 by 20 plate, with a scratch."""
        rng = np.random.default_rng(seed)
        pool = np.flatnonzero(np.isin(labels, classes) & (is_train == train))
        pick = rng.choice(pool, n)
        x = 0.15 * rng.random((n, 20, 20))
        for plate, i in zip(x, pick, strict=True):
            r, c = rng.integers(0, 13, 2)
            plate[r : r + 8, c : c + 8] += images[i]
            if rng.random() < 0.5:
                plate[rng.integers(20), :] += 0.5
            else:
                plate[:, rng.integers(20)] += 0.5
        x = gain * x
        return torch.tensor(x[:, None], dtype=torch.float32), torch.tensor(
            labels[pick] - min(classes)
        )

    class Backbone(nn.Module):
        def __init__(self, num_classes):
            super().__init__()
            self.features = nn.Sequential(
                nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
                nn.Conv2d(16, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU(),
                nn.Conv2d(48, 96, 3, padding=1), nn.BatchNorm2d(96), nn.ReLU(), nn.AdaptiveMaxPool2d(1),
                nn.Flatten(),
            )  # fmt: skip
            self.fc = nn.Linear(96, num_classes)

        def forward(self, x):
            return self.fc(self.features(x))

    # pretrain.py, on the machine with two GPUs
    source = DataLoader(
        TensorDataset(*photographs([5, 6, 7, 8, 9], 3000, True, 0)), batch_size=64, shuffle=True
    )
    net = nn.DataParallel(Backbone(5))
    opt = torch.optim.Adam(net.parameters(), lr=2e-3)
    for _epoch in range(6):
        for x, y in source:
            opt.zero_grad()
            F.cross_entropy(net(x), y).backward()
            opt.step()
    file = io.BytesIO()
    torch.save({"state_dict": net.state_dict(), "epoch": 6}, file)

    # finetune.py
    file.seek(0)
    state = torch.load(file)["state_dict"]
    if fixed:
        state = OrderedDict((k.removeprefix("module."), v) for k, v in state.items())
    state = {k: v for k, v in state.items() if not k.endswith(("fc.weight", "fc.bias"))}
    model = Backbone(5)
    model.load_state_dict(state, strict=False)
    for p in model.features.parameters():
        p.requires_grad = False
    train_loader = DataLoader(
        TensorDataset(*photographs([0, 1, 2, 3, 4], 1200, True, 1, 0.9)),
        batch_size=32,
        shuffle=True,
    )
    val_loader = DataLoader(
        TensorDataset(*photographs([0, 1, 2, 3, 4], 400, False, 2, 0.9)), batch_size=200
    )
    optimizer = torch.optim.Adam(model.fc.parameters(), lr=3e-3)
    criterion = nn.CrossEntropyLoss()
    watcher = watch(model, optimizer, loss_fn=criterion, train=train_loader, val=val_loader)
    for _epoch in range(8):
        model.eval()  # the batch statistics of the backbone stay as they are
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(x, y))
        val_loss = correct = total = 0
        with torch.no_grad():
            for x, y in val_loader:
                out = model(x)
                val_loss += criterion(out, y).item() * len(y)
                correct += (out.argmax(1) == y).sum().item()
                total += len(y)
        watcher.log(val_loss=val_loss / total, val_accuracy=correct / total)
    return {
        "train_loss": loss.item(),
        "val_loss": val_loss / total,
        "val_accuracy": correct / total,
    }


@faulty(
    "object detection (one box an image)",
    fault="the annotations are in pixels (0 to 48), but the box head ends in a sigmoid: its outputs saturate at 1 and the box loss stays where it is",
    source="https://github.com/SeokjuLee/VPGNet/issues/53 and own experience",
)
def r10_detector_boxes_in_pixels_against_a_sigmoid(watch, fixed):
    """Squares, discs and crosses on noise; class and box from one backbone."""
    seed_everything(13)
    size = 48

    class Shapes(Dataset):
        def __init__(self, n, seed):
            rng = np.random.default_rng(seed)
            self.items = []
            yy, xx = np.mgrid[:size, :size]
            for _ in range(n):
                w = rng.integers(10, 24)
                x0, y0 = rng.integers(0, size - w, 2)
                cls = rng.integers(3)
                cx, cy, r = x0 + w / 2, y0 + w / 2, w / 2
                inside = (xx >= x0) & (xx < x0 + w) & (yy >= y0) & (yy < y0 + w)
                if cls == 1:
                    inside = (xx + 0.5 - cx) ** 2 + (yy + 0.5 - cy) ** 2 < r * r
                elif cls == 2:
                    inside &= (np.abs(xx + 0.5 - cx) < w / 6) | (np.abs(yy + 0.5 - cy) < w / 6)
                image = rng.normal(0, 0.25, (size, size)) + inside * rng.uniform(0.8, 1.4)
                box = np.array([x0, y0, x0 + w, y0 + w], dtype=np.float32)
                self.items.append((image.astype(np.float32)[None], cls, box))

        def __len__(self):
            return len(self.items)

        def __getitem__(self, i):
            image, cls, box = self.items[i]
            if fixed:
                box = box / size
            return image, cls, box

    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Sequential(
                nn.Conv2d(1, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(),
                nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(),
                nn.Conv2d(32, 64, 3, 2, 1), nn.BatchNorm2d(64), nn.ReLU(),
            )  # fmt: skip
            self.classifier = nn.Sequential(nn.Dropout(0.1), nn.Linear(64, 3))
            self.box = nn.Sequential(
                nn.Flatten(), nn.Linear(64 * 36, 64), nn.ReLU(), nn.Linear(64, 4), nn.Sigmoid()
            )

        def forward(self, x):
            h = self.backbone(x)
            return self.classifier(h.amax((2, 3))), self.box(h)

    def iou(a, b):
        lt, rb = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
        inter = (rb - lt).clamp(min=0).prod(1)
        area_a, area_b = ((t[:, 2:] - t[:, :2]).clamp(min=0).prod(1) for t in (a, b))
        return inter / (area_a + area_b - inter).clamp(min=1e-6)

    train_loader = DataLoader(Shapes(3000, 0), batch_size=32, shuffle=True)
    val_loader = DataLoader(Shapes(320, 1), batch_size=160)
    model = Detector()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    watcher = watch(model, optimizer)
    for _epoch in range(8):
        model.train()
        for images, classes, boxes in train_loader:
            logits, predicted = model(images)
            loss_cls = F.cross_entropy(logits, classes)
            loss_box = F.l1_loss(predicted, boxes)
            loss = loss_cls + 5 * loss_box
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss)
        model.eval()
        val_loss = correct = overlap = total = 0
        with torch.no_grad():
            for images, classes, boxes in val_loader:
                logits, predicted = model(images)
                val_loss += (
                    F.cross_entropy(logits, classes) + 5 * F.l1_loss(predicted, boxes)
                ).item() * len(images)
                correct += (logits.argmax(1) == classes).sum().item()
                overlap += iou(predicted, boxes).sum().item()
                total += len(images)
        watcher.log(val_loss=val_loss / total, val_accuracy=correct / total)
    return {
        "train_loss": loss.item(),
        "box_loss": loss_box.item(),
        "val_accuracy": correct / total,
        "val_mean_iou": overlap / total,
    }


@faulty(
    "segmentation (small U-Net)",
    fault="the training transform flips and turns the image by multiples of 90° and forgets the mask: in seven of eight samples the mask belongs to another picture",
    source="https://github.com/matterport/Mask_RCNN/pull/1447 and https://github.com/divamgupta/image-segmentation-keras/issues/191",
)
def r10_unet_augments_the_image_but_not_the_mask(watch, fixed):
    """Lesions on skin-like texture, 32 by 32."""
    seed_everything(14)
    size = 32

    def lesion(rng):
        yy, xx = np.mgrid[:size, :size]
        mask = np.zeros((size, size), bool)
        cy, cx = rng.uniform(5, size - 5, 2)
        for _ in range(rng.integers(2, 5)):
            y, x, r = cy + rng.normal(0, 3), cx + rng.normal(0, 3), rng.uniform(2.5, 5)
            mask |= (yy - y) ** 2 + (xx - x) ** 2 < r * r
        shade = np.add.outer(
            rng.normal(0, 0.4) * np.linspace(-1, 1, size),
            rng.normal(0, 0.4) * np.linspace(-1, 1, size),
        )
        image = shade + 0.35 * rng.normal(size=(size, size)) - 0.9 * mask
        return image.astype(np.float32)[None], mask.astype(np.float32)[None]

    class Lesions(Dataset):
        def __init__(self, n, seed, augment):
            rng = np.random.default_rng(seed)
            self.items = [lesion(rng) for _ in range(n)]
            self.augment = augment
            self.rng = np.random.default_rng(seed + 100)

        def __len__(self):
            return len(self.items)

        def __getitem__(self, i):
            image, mask = self.items[i]
            if self.augment:
                k, flip = self.rng.integers(4), self.rng.random() < 0.5
                image = np.rot90(image, k, (1, 2))
                image = image[:, :, ::-1] if flip else image
                if fixed:
                    mask = np.rot90(mask, k, (1, 2))
                    mask = mask[:, :, ::-1] if flip else mask
            return image.copy(), mask.copy()

    def block(a, b):
        return nn.Sequential(
            nn.Conv2d(a, b, 3, padding=1),
            nn.BatchNorm2d(b),
            nn.ReLU(),
            nn.Conv2d(b, b, 3, padding=1),
            nn.BatchNorm2d(b),
            nn.ReLU(),
        )

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.down1, self.down2, self.bottom = block(1, 12), block(12, 24), block(24, 48)
            self.up2, self.up1 = nn.ConvTranspose2d(48, 24, 2, 2), nn.ConvTranspose2d(24, 12, 2, 2)
            self.dec2, self.dec1 = block(48, 24), block(24, 12)
            self.out = nn.Conv2d(12, 1, 1)

        def forward(self, x):
            a = self.down1(x)
            b = self.down2(F.max_pool2d(a, 2))
            c = self.bottom(F.max_pool2d(b, 2))
            b = self.dec2(torch.cat([self.up2(c), b], 1))
            return self.out(self.dec1(torch.cat([self.up1(b), a], 1)))

    train_loader = DataLoader(Lesions(640, 0, True), batch_size=16, shuffle=True)
    val_loader = DataLoader(Lesions(160, 1, False), batch_size=80)
    model = UNet()
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    watcher = watch(model, optimizer, loss_fn=criterion, train=train_loader, val=val_loader)
    for _epoch in range(8):
        model.train()
        for images, masks in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(images), masks)
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(images, masks))
        model.eval()
        val_loss = inter = union = total = 0
        with torch.no_grad():
            for images, masks in val_loader:
                out = model(images)
                val_loss += criterion(out, masks).item() * len(images)
                inter += ((out > 0) & (masks > 0)).sum().item()
                union += ((out > 0) | (masks > 0)).sum().item()
                total += len(images)
        watcher.log(val_loss=val_loss / total)
    return {
        "train_loss": loss.item(),
        "val_loss": val_loss / total,
        "val_iou": inter / max(union, 1),
    }


@faulty(
    "GAN (eight Gaussians)",
    fault="the generated batch is detached once, for the discriminator's step, and the same detached batch is used for the generator's loss: no gradient reaches the generator, which never moves",
    source="https://github.com/nikhilsinghmus/image2reverb/issues/37, https://github.com/wangle53/CSA-CDGAN/issues/5 and https://github.com/samet-akcay/skip-ganomaly/issues/5",
)
def r10_gan_generator_loss_on_detached_batch(watch, fixed):
    """The ring of eight Gaussians, plain GAN with the non-saturating loss."""
    seed_everything(15)
    angles = torch.arange(8) * math.pi / 4
    centres = 2 * torch.stack([angles.cos(), angles.sin()], 1)

    def real_batch(n):
        return centres[torch.randint(8, (n,))] + 0.1 * torch.randn(n, 2)

    latent_dim, batch_size = 8, 256
    generator = nn.Sequential(
        nn.Linear(latent_dim, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 2)
    )
    discriminator = nn.Sequential(
        nn.Linear(2, 128),
        nn.LeakyReLU(0.2),
        nn.Linear(128, 128),
        nn.LeakyReLU(0.2),
        nn.Linear(128, 1),
    )
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.999))
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=1e-3, betas=(0.5, 0.999))
    adversarial_loss = nn.BCEWithLogitsLoss()
    watcher_g = watch(generator, optimizer_g)
    watcher_d = watch(discriminator, optimizer_d)
    valid, fake = torch.ones(batch_size, 1), torch.zeros(batch_size, 1)
    for _step in range(3000):
        real = real_batch(batch_size)
        generated = generator(torch.randn(batch_size, latent_dim))
        if not fixed:
            generated = generated.detach()  # the discriminator's loss must not reach the generator

        optimizer_d.zero_grad()
        d_loss = (
            adversarial_loss(discriminator(real), valid)
            + adversarial_loss(discriminator(generated.detach()), fake)
        ) / 2
        d_loss.backward()
        optimizer_d.step()
        watcher_d.step(d_loss)

        optimizer_g.zero_grad()
        g_loss = adversarial_loss(discriminator(generated), valid)
        g_loss.backward()
        optimizer_g.step()
        watcher_g.step(g_loss)
    with torch.no_grad():
        samples = generator(torch.randn(4000, latent_dim))
    distance, nearest = torch.cdist(samples, centres).min(1)
    good = distance < 0.4
    covered = nearest[good].bincount(minlength=8) > 80
    return {
        "d_loss": d_loss.item(),
        "g_loss": g_loss.item(),
        "share_near_a_mode": good.float().mean().item(),
        "modes_covered": float(covered.sum()),
    }


@faulty(
    "variational autoencoder (digits)",
    fault="the reconstruction is averaged over batch and pixels while the KL divergence is summed over both: the KL weighs four thousand times as much, the code collapses to the prior and every picture becomes the mean digit",
    source="https://github.com/zdebruine/MMVAE/pull/19, https://github.com/AppliedDataSciencePartners/WorldModels/issues/12 and https://github.com/wiseodd/generative-models/issues/40",
)
def r10_vae_mean_reconstruction_summed_kl(watch, fixed):
    """A VAE with eight latents on 8 by 8 digits."""
    seed_everything(16)
    x, y = load_digits(return_X_y=True)
    x = torch.tensor(x / 16.0, dtype=torch.float32)
    order = torch.randperm(len(x))
    x, y = x[order], torch.tensor(y)[order]
    train_loader = DataLoader(TensorDataset(x[:1437]), batch_size=64, shuffle=True, drop_last=True)
    x_train, y_train, x_val, y_val = x[:1437], y[:1437], x[1437:], y[1437:]

    class VAE(nn.Module):
        def __init__(self, latent=8):
            super().__init__()
            self.encoder = nn.Sequential(
                nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU()
            )
            self.mu, self.logvar = nn.Linear(64, latent), nn.Linear(64, latent)
            self.decoder = nn.Sequential(
                nn.Linear(latent, 64), nn.ReLU(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64)
            )

        def forward(self, x):
            h = self.encoder(x)
            mu, logvar = self.mu(h), self.logvar(h)
            z = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
            return self.decoder(z), mu, logvar

    def loss_function(recon, x, mu, logvar):
        if fixed:
            bce = F.binary_cross_entropy_with_logits(recon, x, reduction="sum") / len(x)
            kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / len(x)
        else:
            bce = F.binary_cross_entropy_with_logits(recon, x)
            kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
        return bce + kld, bce, kld

    model = VAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    watcher = watch(model, optimizer)
    for _epoch in range(60):
        model.train()
        for (batch,) in train_loader:
            recon, mu, logvar = model(batch)
            loss, _, _ = loss_function(recon, batch, mu, logvar)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss)
        model.eval()
        with torch.no_grad():
            recon, mu, logvar = model(x_val)
            val_loss, _, _ = loss_function(recon, x_val, mu, logvar)
        watcher.log(val_loss=val_loss.item())
    with torch.no_grad():
        codes, val_codes = model(x_train)[1], model(x_val)[1]
        mse = F.mse_loss(torch.sigmoid(model.decoder(val_codes)), x_val).item()
        nearest = torch.cdist(val_codes, codes).argmin(1)
    return {
        "train_loss": loss.item(),
        "val_reconstruction_mse": mse,
        "mse_of_the_mean_digit": F.mse_loss(x_train.mean(0).expand_as(x_val), x_val).item(),
        "active_latents": float((codes.var(0) > 0.01).sum()),
        "nearest_neighbour_accuracy_in_code": (y_train[nearest] == y_val).float().mean().item(),
    }


@faulty(
    "metric learning (batch-hard triplets)",
    fault="the learning rate of 0.01 is far too high for hardest-triplet mining: the embeddings collapse to one point in the first steps and the loss sits at the margin, 0.5, for good",
    source="https://github.com/omoindrot/tensorflow-triplet-loss/issues/6, https://github.com/VisualComputingInstitute/triplet-reid/issues/30 and https://github.com/KevinMusgrave/pytorch-metric-learning/issues/20",
)
def r10_triplets_collapse_to_one_point(watch, fixed):
    """Re-identification of 60 animals from 16 views each; P = 12 identities, K = 4 views a batch."""
    seed_everything(17)
    rng = np.random.default_rng(5)
    n_ids, views, dim = 60, 24, 64
    anchors = rng.normal(size=(n_ids, 10))
    mixing = rng.normal(size=(10, dim)) / 3
    poses = rng.normal(size=(6, dim))

    def look(identity, n):
        pose = rng.normal(size=(n, 6)) @ poses
        return (
            np.tanh(anchors[identity] @ mixing + 0.2 * pose)
            + pose
            + 0.3 * rng.normal(size=(n, dim))
        )

    x = torch.tensor(np.stack([look(i, views) for i in range(n_ids)]), dtype=torch.float32)
    x = (x - x.mean((0, 1))) / x.std((0, 1))
    train, gallery, query = x[:, :16], x[:, 16:20], x[:, 20:]

    def batch_hard(emb, ids, margin=0.5):
        dist = torch.cdist(emb, emb)
        same = ids[:, None] == ids[None]
        positive = (dist * same).max(1).values
        negative = (dist + 1e6 * same).min(1).values
        return F.relu(positive - negative + margin).mean()

    model = nn.Sequential(
        nn.Linear(dim, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 64)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4 if fixed else 0.01)
    watcher = watch(model, optimizer)

    def rank1():
        model.eval()
        with torch.no_grad():
            g, q = model(gallery.reshape(-1, dim)), model(query.reshape(-1, dim))
        hit = torch.cdist(q, g).argmin(1) // 4 == torch.arange(n_ids).repeat_interleave(4)
        model.train()
        return hit.float().mean().item(), q.std(0).mean().item()

    model.train()
    for step in range(1000):
        ids = torch.randperm(n_ids)[:12]
        picks = torch.stack([torch.randperm(16)[:4] for _ in ids])
        batch = train[ids[:, None], picks].reshape(-1, dim)
        labels = ids.repeat_interleave(4)
        loss = batch_hard(model(batch), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss, batch=(batch, labels))
        if step % 250 == 249:
            accuracy, spread = rank1()
            watcher.log(val_accuracy=accuracy)
    return {"train_loss": loss.item(), "val_rank1": accuracy, "spread_of_the_embeddings": spread}


@faulty(
    "reinforcement learning (DQN, CartPole)",
    fault="the target is r + γ·max Q(s') for the last step of an episode too, without (1 - done): falling costs nothing, every Q tends to 1/(1-γ) and no action is better than another",
    source="https://github.com/navneet-nmk/pytorch-rl/issues/2, https://github.com/cyoon1729/deep-Q-networks/pull/5 and https://github.com/seungeunrho/minimalRL/pull/21",
)
def r10_dqn_bootstraps_through_the_end_of_the_episode(watch, fixed):
    """Double DQN with a replay buffer, eight poles at a time."""
    seed_everything(18)
    rng = np.random.default_rng(0)

    class Poles:
        """CartPole as in Gym; at most 200 steps an episode."""

        def __init__(self, n):
            self.s, self.t = rng.uniform(-0.05, 0.05, (n, 4)), np.zeros(n, int)

        def step(self, action):
            x, v, th, w = self.s.T
            force = np.where(action == 1, 10.0, -10.0)
            c, s = np.cos(th), np.sin(th)
            temp = (force + 0.05 * w**2 * s) / 1.1
            acc_th = (9.8 * s - c * temp) / (0.5 * (4 / 3 - 0.1 * c**2 / 1.1))
            acc = temp - 0.05 * acc_th * c / 1.1
            new = np.stack([x + 0.02 * v, v + 0.02 * acc, th + 0.02 * w, w + 0.02 * acc_th], 1)
            self.t += 1
            fell = (np.abs(new[:, 0]) > 2.4) | (np.abs(new[:, 2]) > 0.2095)
            over = fell | (self.t >= 200)
            self.s = np.where(over[:, None], rng.uniform(-0.05, 0.05, new.shape), new)
            lengths = self.t[over].copy()
            self.t[over] = 0
            return new, fell, lengths

    def make_net():
        return nn.Sequential(
            nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2)
        )

    q_net, target_net = make_net(), make_net()
    target_net.load_state_dict(q_net.state_dict())
    optimizer = torch.optim.Adam(q_net.parameters(), lr=1e-3)
    watcher = watch(q_net, optimizer)
    n_envs, capacity, gamma, batch_size = 8, 20000, 0.99, 128
    memory = {
        k: np.zeros((capacity, *s), np.float32)
        for k, s in {"s": (4,), "a": (), "r": (), "s2": (4,), "done": ()}.items()
    }
    filled = position = updates = 0
    env, recent = Poles(n_envs), []
    for step in range(3000):
        epsilon = max(0.05, 1 - step / 800)
        state = env.s.copy()
        with torch.no_grad():
            action = q_net(torch.tensor(state, dtype=torch.float32)).argmax(1).numpy()
        explore = rng.random(n_envs) < epsilon
        action = np.where(explore, rng.integers(0, 2, n_envs), action)
        after, fell, lengths = env.step(action)
        recent = (recent + lengths.tolist())[-50:]
        at = (position + np.arange(n_envs)) % capacity
        for key, value in {"s": state, "a": action, "r": 1.0, "s2": after, "done": fell}.items():
            memory[key][at] = value
        position, filled = (position + n_envs) % capacity, min(filled + n_envs, capacity)
        if filled < 1000:
            continue
        for _ in range(2):
            rows = rng.integers(0, filled, batch_size)
            s, a, r, s2, done = (
                torch.from_numpy(memory[k][rows]) for k in ("s", "a", "r", "s2", "done")
            )
            with torch.no_grad():
                best = q_net(s2).argmax(1, keepdim=True)
                q_next = target_net(s2).gather(1, best)[:, 0]
                target = r + gamma * q_next * (1 - done) if fixed else r + gamma * q_next
            q = q_net(s).gather(1, a.long()[:, None])[:, 0]
            loss = F.smooth_l1_loss(q, target)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(q_net.parameters(), 10.0)
            optimizer.step()
            watcher.step(loss)
            updates += 1
            if updates % 200 == 0:
                target_net.load_state_dict(q_net.state_dict())
    env, returns = Poles(20), []
    for _ in range(600):
        with torch.no_grad():
            action = q_net(torch.tensor(env.s, dtype=torch.float32)).argmax(1).numpy()
        returns += env.step(action)[2].tolist()
    return {
        "td_loss": loss.item(),
        "mean_q": q.mean().item(),
        "mean_return_while_training": float(np.mean(recent)),
        "greedy_return": float(np.mean(returns)),
    }


@faulty(
    "graph (GCN, node classification)",
    fault="sixteen plain GCN layers are stacked on a graph that needs two: each averages over the neighbours, all nodes become the same (over-smoothing) and the loss stays at the log of the number of classes",
    source="https://github.com/DropEdge/DropEdge/issues/8, https://github.com/lightaime/deep_gcns_torch/issues/10 and https://github.com/yl-1993/learn-to-cluster/issues/23",
)
def r10_gcn_sixteen_layers_oversmoothed(watch, fixed):
    """Five research fields in a citation network of 1,000 papers with bag-of-words features."""
    seed_everything(19)
    rng = np.random.default_rng(7)
    n, classes, n_words = 1000, 5, 200
    y = rng.integers(0, classes, n)
    same = y[:, None] == y[None]
    edges = np.triu(rng.random((n, n)) < np.where(same, 0.02, 0.003), 1)
    a = torch.tensor(edges | edges.T, dtype=torch.float32) + torch.eye(n)
    d = a.sum(1).rsqrt()
    a_hat = (d[:, None] * a * d[None]).to_sparse()
    topic = np.full((classes, n_words), 0.04)
    for c in range(classes):
        topic[c, 40 * c : 40 * c + 40] = 0.09
    x = torch.tensor(rng.random((n, n_words)) < topic[y], dtype=torch.float32)
    x = x / x.sum(1, keepdim=True).clamp(min=1)
    y = torch.tensor(y)
    order = torch.randperm(n)
    train, val = order[:500], order[500:]

    class GCN(nn.Module):
        def __init__(self, n_layers, hidden=64):
            super().__init__()
            sizes = [n_words] + [hidden] * (n_layers - 1) + [classes]
            self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in itertools.pairwise(sizes))
            for layer in self.layers:
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
            self.dropout = nn.Dropout(0.3)

        def forward(self, x):
            for i, layer in enumerate(self.layers):
                x = torch.sparse.mm(a_hat, layer(self.dropout(x)))
                if i < len(self.layers) - 1:
                    x = F.relu(x)
            return x

    model = GCN(2 if fixed else 16)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    watcher = watch(model, optimizer, num_classes=classes)
    for epoch in range(120):
        model.train()
        loss = F.cross_entropy(model(x)[train], y[train])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
        if epoch % 10 == 9:
            model.eval()
            with torch.no_grad():
                out = model(x)[val]
            accuracy = (out.argmax(1) == y[val]).float().mean().item()
            val_loss = F.cross_entropy(out, y[val]).item()
            watcher.log(val_loss=val_loss, val_accuracy=accuracy)
    spread = (out.softmax(1).std(0).mean()).item()
    return {
        "train_loss": loss.item(),
        "val_loss": val_loss,
        "val_accuracy": accuracy,
        "spread_between_nodes": spread,
    }


@faulty(
    "time series (LSTM, activity recognition)",
    fault="nn.LSTM is built without batch_first=True and fed (batch, time, channels): it runs along the batch, so each window is read by its last moment and by whatever windows stand before it in the batch",
    source="https://github.com/pytorch/pytorch/issues/1538, https://github.com/AndersonJo/dqn-pytorch/issues/1 and https://github.com/ray075hl/Bi-Model-Intent-And-Slot/pull/2",
)
def r10_lstm_runs_along_the_batch(watch, fixed):
    """Five movements from 40 samples of a three-axis accelerometer."""
    seed_everything(20)
    classes, steps = 5, 40

    def windows(n, seed):
        rng = np.random.default_rng(seed)
        y = rng.integers(0, classes, n)
        t = np.arange(steps)[None]
        freq = np.array([0.06, 0.12, 0.2, 0.12, 0.2])[y][:, None] * rng.uniform(0.9, 1.1, (n, 1))
        phase = rng.uniform(0, 2 * np.pi, (n, 1))
        shift = np.where(y >= 3, np.pi / 2, 0)[:, None]
        base = 2 * np.pi * freq * t + phase
        x = np.stack([np.sin(base), np.sin(base + shift), np.cos(2 * base)], 2)
        x = x * rng.uniform(0.7, 1.3, (n, 1, 1)) + 0.3 * rng.normal(size=x.shape)
        return TensorDataset(torch.tensor(x, dtype=torch.float32), torch.tensor(y))

    class ActivityLSTM(nn.Module):
        def __init__(self, hidden=48):
            super().__init__()
            self.lstm = nn.LSTM(3, hidden, num_layers=1, batch_first=fixed)
            self.fc = nn.Linear(hidden, classes)

        def forward(self, x):
            out, _ = self.lstm(x)
            return self.fc(out[:, -1])

    train_loader = DataLoader(windows(2000, 0), batch_size=32, shuffle=True)
    val_loader = DataLoader(windows(500, 1), batch_size=100)
    model = ActivityLSTM()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    watcher = watch(model, optimizer, loss_fn=criterion, train=train_loader, val=val_loader)
    for _epoch in range(14):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            watcher.step(loss, batch=(x, y))
        model.eval()
        val_loss = correct = total = 0
        with torch.no_grad():
            for x, y in val_loader:
                out = model(x)
                val_loss += criterion(out, y).item() * len(y)
                correct += (out.argmax(1) == y).sum().item()
                total += len(y)
        watcher.log(val_loss=val_loss / total, val_accuracy=correct / total)
    return {
        "train_loss": loss.item(),
        "val_loss": val_loss / total,
        "val_accuracy": correct / total,
    }


@faulty(
    "tabular (customer churn, MLP)",
    fault="train_test_split is called once for the table and once for the labels, each with its own shuffle: the labels belong to other customers and there is nothing to learn",
    source="https://github.com/DrexelChatbotGroup/DrexelChatbot/issues/15, https://github.com/udacity/sdc-issue-reports/issues/1326 and https://github.com/sharajpanwar/CC-WGAN-GP/pull/10",
)
def r10_churn_table_and_labels_split_separately(watch, fixed):
    """Which of 6,000 telephone customers leave?"""
    seed_everything(21)
    rng = np.random.default_rng(9)
    n = 6000
    months = rng.exponential(24, n)
    bill = rng.gamma(4, 15, n)
    calls = rng.poisson(1.5, n)
    contract = rng.integers(0, 3, n)
    fibre = rng.random(n) < 0.4
    age = rng.normal(45, 14, n)
    logit = (
        -1.2
        - 0.06 * months
        + 0.02 * bill
        + 0.8 * calls
        - 1.1 * contract
        + 1.0 * fibre * (calls > 1)
        + 0.4 * np.sin(age / 8)
    )
    churn = (rng.random(n) < 1 / (1 + np.exp(-1.6 * logit))).astype(np.float32)
    table = np.column_stack([months, bill, calls, np.eye(3)[contract], fibre, age])
    if fixed:
        x_train, x_val, y_train, y_val = train_test_split(table, churn, test_size=0.2)
    else:
        x_train, x_val = train_test_split(table, test_size=0.2)
        y_train, y_val = train_test_split(churn, test_size=0.2)
    scaler = StandardScaler().fit(x_train)

    def to(a):
        return torch.tensor(a, dtype=torch.float32)

    train_loader = DataLoader(
        TensorDataset(to(scaler.transform(x_train)), to(y_train)), batch_size=64, shuffle=True
    )
    val_loader = DataLoader(TensorDataset(to(scaler.transform(x_val)), to(y_val)), batch_size=400)

    class Churn(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(
                nn.Linear(8, 64),
                nn.ReLU(),
                nn.Dropout(0.1),
                nn.Linear(64, 32),
                nn.ReLU(),
                nn.Linear(32, 1),
            )

        def forward(self, x):
            return self.net(x).squeeze(1)

    model = Churn()
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
    watcher = watch(model, optimizer, loss_fn=criterion, train=train_loader, val=val_loader)
    for _epoch in range(12):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(x, y))
        model.eval()
        val_loss, scores, truth = 0.0, [], []
        with torch.no_grad():
            for x, y in val_loader:
                out = model(x)
                val_loss += criterion(out, y).item() * len(y)
                scores.append(out)
                truth.append(y)
        scores, truth = torch.cat(scores), torch.cat(truth)
        accuracy = ((scores > 0) == (truth > 0.5)).float().mean().item()
        watcher.log(val_loss=val_loss / len(truth), val_accuracy=accuracy)
    return {
        "train_loss": loss.item(),
        "val_loss": val_loss / len(truth),
        "val_accuracy": accuracy,
        "val_auc": float(roc_auc_score(truth.numpy(), scores.numpy())),
        "share_of_the_majority": 1 - churn.mean().item(),
    }


@faulty(
    "image classification (small ResNet, SGD)",
    fault="StepLR(step_size=8) is meant in epochs, but scheduler.step() stands in the batch loop: the learning rate has lost seven powers of ten before the first two epochs are over",
    source="https://github.com/pytorch/tutorials/pull/640, https://github.com/ivadomed/ivadomed/pull/55 and https://github.com/pytorch/vision/issues/1261",
)
def r10_steplr_stepped_every_batch(watch, fixed):
    """Digits pasted on textured 16 by 16 tiles."""
    seed_everything(22)
    digits = load_digits()
    rng = np.random.default_rng(2)

    def tiles(index):
        x = 0.3 * rng.random((len(index), 16, 16))
        for tile, i in zip(x, index, strict=True):
            r, c = rng.integers(0, 9, 2)
            tile[r : r + 8, c : c + 8] += digits.images[i] / 16
        x = (x - 0.25) / 0.3
        return TensorDataset(
            torch.tensor(x[:, None], dtype=torch.float32), torch.tensor(digits.target[index])
        )

    train_index, val_index = train_test_split(
        np.arange(len(digits.target)), test_size=400, stratify=digits.target, random_state=0
    )
    train_loader = DataLoader(tiles(np.tile(train_index, 2)), batch_size=64, shuffle=True)
    val_loader = DataLoader(tiles(val_index), batch_size=200)

    class Residual(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(c, c, 3, padding=1, bias=False),
                nn.BatchNorm2d(c),
                nn.ReLU(),
                nn.Conv2d(c, c, 3, padding=1, bias=False),
                nn.BatchNorm2d(c),
            )

        def forward(self, x):
            return F.relu(x + self.body(x))

    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), Residual(16),
        nn.Conv2d(16, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), Residual(32),
        nn.Conv2d(32, 64, 3, 2, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
        nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=8, gamma=0.1)
    watcher = watch(model, optimizer, loss_fn=criterion, train=train_loader, val=val_loader)
    for _epoch in range(12):
        model.train()
        for images, labels in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(images, labels))
            if not fixed:
                scheduler.step()
        if fixed:
            scheduler.step()
        model.eval()
        val_loss = correct = total = 0
        with torch.no_grad():
            for images, labels in val_loader:
                out = model(images)
                val_loss += criterion(out, labels).item() * len(labels)
                correct += (out.argmax(1) == labels).sum().item()
                total += len(labels)
        watcher.log(val_loss=val_loss / total, val_accuracy=correct / total)
    return {
        "train_loss": loss.item(),
        "val_loss": val_loss / total,
        "val_accuracy": correct / total,
        "last_lr": optimizer.param_groups[0]["lr"],
    }


@faulty(
    "keyword spotting (TDNN, mixed precision)",
    fault="clip_grad_norm_ is called on gradients that GradScaler has multiplied by 65,536, without scaler.unscale_ before it: after the division the whole gradient has a norm of 0.000015, and SGD does not move",
    source="https://github.com/milesial/Pytorch-UNet/issues/468, https://github.com/Lightning-AI/pytorch-lightning/issues/9599 and https://github.com/pytorch/examples/issues/1196",
)
def r10_amp_clips_the_scaled_gradients(watch, fixed):
    """Eight spoken words as 16 mel bands by 40 frames, float16 autocast, SGD."""
    seed_everything(23)
    words, bands, frames = 8, 16, 40
    patterns = np.random.default_rng(0).normal(size=(words, bands, 12))

    def spoken(n, seed):
        rng = np.random.default_rng(seed)
        y = rng.integers(0, words, n)
        x = 0.8 * rng.normal(size=(n, bands, frames))
        for row, label in zip(x, y, strict=True):
            start = rng.integers(0, frames - 12)
            row[:, start : start + 12] += rng.uniform(0.5, 1.0) * patterns[label]
        return TensorDataset(torch.tensor(x, dtype=torch.float32), torch.tensor(y))

    train_loader = DataLoader(spoken(2400, 1), batch_size=48, shuffle=True)
    val_loader = DataLoader(spoken(480, 2), batch_size=120)

    class TDNN(nn.Module):
        """Eight frames side by side, every second frame; then the strongest moment."""

        def __init__(self):
            super().__init__()
            self.frames = nn.Sequential(
                nn.Linear(8 * bands, 64),
                nn.LayerNorm(64),
                nn.ReLU(),
                nn.Linear(64, 48),
                nn.LayerNorm(48),
                nn.ReLU(),
            )
            self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(48, words))

        def forward(self, x):
            x = x.unfold(2, 8, 2).permute(0, 2, 1, 3).flatten(2)
            return self.head(self.frames(x).amax(1))

    model = TDNN()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, nesterov=True)
    scaler = torch.amp.GradScaler("cpu")
    watcher = watch(model, optimizer, loss_fn=criterion, train=train_loader, val=val_loader)
    for _epoch in range(8):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", dtype=torch.float16):
                loss = criterion(model(x), y)
            scaler.scale(loss).backward()
            if fixed:
                scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            watcher.step(loss, batch=(x, y))
        model.eval()
        val_loss = correct = total = 0
        with torch.no_grad():
            for x, y in val_loader:
                out = model(x)
                val_loss += criterion(out, y).item() * len(y)
                correct += (out.argmax(1) == y).sum().item()
                total += len(y)
        watcher.log(val_loss=val_loss / total, val_accuracy=correct / total)
    return {
        "train_loss": loss.item(),
        "val_loss": val_loss / total,
        "val_accuracy": correct / total,
    }


# ---------------------------------------------------------------- sound programs


@sound(
    "reinforcement learning (PPO, CartPole)",
    source="the 37 details of PPO: clipping, GAE, entropy bonus, annealed learning rate",
)
def r10_ppo_cartpole(watch):
    """A loss around zero that goes up and down, and data that change with the policy."""
    seed_everything(30)
    rng = np.random.default_rng(1)
    n_envs, horizon, updates = 16, 64, 40

    def physics(s, action):
        x, v, th, w = s.T
        force = np.where(action == 1, 10.0, -10.0)
        c, sn = np.cos(th), np.sin(th)
        temp = (force + 0.05 * w**2 * sn) / 1.1
        acc_th = (9.8 * sn - c * temp) / (0.5 * (4 / 3 - 0.1 * c**2 / 1.1))
        acc = temp - 0.05 * acc_th * c / 1.1
        return np.stack([x + 0.02 * v, v + 0.02 * acc, th + 0.02 * w, w + 0.02 * acc_th], 1)

    def layer(i, o, std=1.414):
        linear = nn.Linear(i, o)
        nn.init.orthogonal_(linear.weight, std)
        nn.init.zeros_(linear.bias)
        return linear

    class Agent(nn.Module):
        def __init__(self):
            super().__init__()
            self.actor = nn.Sequential(
                layer(4, 64), nn.Tanh(), layer(64, 64), nn.Tanh(), layer(64, 2, 0.01)
            )
            self.critic = nn.Sequential(
                layer(4, 64), nn.Tanh(), layer(64, 64), nn.Tanh(), layer(64, 1, 1.0)
            )

        def forward(self, s):
            return torch.distributions.Categorical(logits=self.actor(s)), self.critic(s)[:, 0]

    agent = Agent()
    optimizer = torch.optim.Adam(agent.parameters(), lr=1.5e-3, eps=1e-5)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, updates)
    watcher = watch(agent, optimizer)
    state, age, finished, first = (
        rng.uniform(-0.05, 0.05, (n_envs, 4)),
        np.zeros(n_envs, int),
        [],
        None,
    )
    for _update in range(updates):
        obs, actions, logps, values, rewards, ends = [], [], [], [], [], []
        for _ in range(horizon):
            s = torch.tensor(state, dtype=torch.float32)
            with torch.no_grad():
                policy, value = agent(s)
                action = policy.sample()
            new = physics(state, action.numpy())
            age += 1
            fell = (np.abs(new[:, 0]) > 2.4) | (np.abs(new[:, 2]) > 0.2095)
            late = ~fell & (age >= 200)
            reward = torch.full((n_envs,), 0.1)
            if late.any():  # cut off by the clock: the value of the last state still counts
                with torch.no_grad():
                    reward[late] += 0.99 * agent(torch.tensor(new[late], dtype=torch.float32))[1]
            over = fell | late
            finished += age[over].tolist()
            age[over] = 0
            state = np.where(over[:, None], rng.uniform(-0.05, 0.05, new.shape), new)
            for store, item in zip(
                (obs, actions, logps, values, rewards, ends),
                (
                    s,
                    action,
                    policy.log_prob(action),
                    value,
                    reward,
                    torch.tensor(over, dtype=torch.float32),
                ),
                strict=True,
            ):
                store.append(item)
        with torch.no_grad():
            following = agent(torch.tensor(state, dtype=torch.float32))[1]
        advantage, advantages = torch.zeros(n_envs), []
        for t in reversed(range(horizon)):
            delta = rewards[t] + 0.99 * following * (1 - ends[t]) - values[t]
            advantage = delta + 0.99 * 0.95 * (1 - ends[t]) * advantage
            advantages.insert(0, advantage)
            following = values[t]
        obs, actions, logps, values, advantages = (
            torch.cat(v) for v in (obs, actions, logps, values, advantages)
        )
        returns = advantages + values
        for _epoch in range(4):
            for rows in torch.randperm(len(obs)).split(256):
                policy, value = agent(obs[rows])
                ratio = (policy.log_prob(actions[rows]) - logps[rows]).exp()
                a = advantages[rows]
                a = (a - a.mean()) / (a.std() + 1e-8)
                policy_loss = -torch.min(ratio * a, ratio.clamp(0.8, 1.2) * a).mean()
                value_loss = 0.5 * (value - returns[rows]).pow(2).mean()
                loss = policy_loss + 0.5 * value_loss - 0.01 * policy.entropy().mean()
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
                optimizer.step()
                watcher.step(loss)
        scheduler.step()
        first = first or float(np.mean(finished))
    return {
        "loss": loss.item(),
        "mean_return_at_first": first,
        "mean_return_at_last": float(np.mean(finished[-30:])),
    }


@sound(
    "GAN (WGAN-GP, two rings)",
    source="Gulrajani et al. 2017, with the small penalty that is usual for toy data",
)
def r10_wgan_gp_rings(watch):
    """Losses without a floor, of either sign; the critic takes three steps to each of the generator's."""
    seed_everything(31)

    def real_batch(n):
        radius = torch.where(torch.rand(n) < 0.5, 0.7, 1.6)
        angle = 2 * math.pi * torch.rand(n)
        return torch.stack([radius * angle.cos(), radius * angle.sin()], 1) + 0.05 * torch.randn(
            n, 2
        )

    def energy_distance(a, b):
        return (
            2 * torch.cdist(a, b).mean() - torch.cdist(a, a).mean() - torch.cdist(b, b).mean()
        ).item()

    generator = nn.Sequential(
        nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2)
    )
    critic = nn.Sequential(
        nn.Linear(2, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1)
    )
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.9))
    optimizer_c = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.5, 0.9))
    watcher_g, watcher_c = watch(generator, optimizer_g), watch(critic, optimizer_c)
    held_out = real_batch(2000)
    with torch.no_grad():
        before = energy_distance(generator(torch.randn(2000, 4)), held_out)
    for _step in range(900):
        for _ in range(3):
            real = real_batch(128)
            fake = generator(torch.randn(128, 4)).detach()
            mix = torch.rand(128, 1)
            between = (mix * real + (1 - mix) * fake).requires_grad_()
            (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
            penalty = (slope.norm(dim=1) - 1).pow(2).mean()
            c_loss = critic(fake).mean() - critic(real).mean() + penalty
            optimizer_c.zero_grad()
            c_loss.backward()
            optimizer_c.step()
            watcher_c.step(c_loss)
        g_loss = -critic(generator(torch.randn(128, 4))).mean()
        optimizer_g.zero_grad()
        g_loss.backward()
        optimizer_g.step()
        watcher_g.step(g_loss)
    with torch.no_grad():
        after = energy_distance(generator(torch.randn(2000, 4)), held_out)
    return {
        "critic_loss": c_loss.item(),
        "generator_loss": g_loss.item(),
        "energy_distance_before": before,
        "energy_distance_after": after,
    }


@sound("diffusion (DDPM, spiral)", source="Ho et al. 2020, samples from the averaged weights")
def r10_ddpm_spiral_with_ema(watch):
    """The loss soon stands still at the noise that nobody can predict, while the samples get better."""
    seed_everything(32)

    def spiral(n):
        t = 1.5 + 2.5 * math.pi * torch.rand(n).sqrt()
        return torch.stack([t * t.cos(), t * t.sin()], 1) / 6 + 0.03 * torch.randn(n, 2)

    data, held_out = spiral(6000), spiral(1500)
    mean, std = data.mean(0), data.std(0)
    loader = DataLoader(
        TensorDataset((data - mean) / std), batch_size=128, shuffle=True, drop_last=True
    )
    steps = 60
    s = torch.arange(steps + 1) / steps
    alpha_bar = torch.cos((s + 0.008) / 1.008 * math.pi / 2).pow(2)
    betas = (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)
    alpha_bar = torch.cumprod(1 - betas, 0)

    class Denoiser(nn.Module):
        def __init__(self, hidden=128):
            super().__init__()
            self.time = nn.Embedding(steps, hidden)
            self.first = nn.Linear(2, hidden)
            self.body = nn.Sequential(
                nn.SiLU(),
                nn.Linear(hidden, hidden),
                nn.SiLU(),
                nn.Linear(hidden, hidden),
                nn.SiLU(),
                nn.Linear(hidden, 2),
            )

        def forward(self, x, t):
            return self.body(self.first(x) + self.time(t))

    model = Denoiser()
    ema = copy.deepcopy(model).requires_grad_(False)
    epochs = 60
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(loader))
    watcher = watch(model, optimizer)
    for _epoch in range(epochs):
        for (x,) in loader:
            t = torch.randint(steps, (len(x),))
            noise = torch.randn_like(x)
            noisy = alpha_bar[t].sqrt()[:, None] * x + (1 - alpha_bar[t]).sqrt()[:, None] * noise
            loss = F.mse_loss(model(noisy, t), noise)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            with torch.no_grad():
                for average, p in zip(ema.parameters(), model.parameters(), strict=True):
                    average.lerp_(p, 0.005)
            watcher.step(loss)
    x = torch.randn(1500, 2)
    with torch.no_grad():
        for i in reversed(range(steps)):
            t = torch.full((len(x),), i)
            x = (x - betas[i] / (1 - alpha_bar[i]).sqrt() * ema(x, t)) / (1 - betas[i]).sqrt()
            if i:
                x = x + betas[i].sqrt() * torch.randn_like(x)
    x = x * std + mean
    near = torch.cdist(x, held_out).min(1).values
    gauss = torch.cdist(torch.randn(1500, 2) * std + mean, held_out).min(1).values
    real = torch.cdist(spiral(1500), held_out).min(1).values
    return {
        "loss": loss.item(),
        "distance_of_samples_to_the_spiral": near.mean().item(),
        "the_same_for_real_points": real.mean().item(),
        "the_same_for_gaussian_noise": gauss.mean().item(),
    }


@sound(
    "fine-tuning (LoRA on a frozen transformer)",
    source="Hu et al. 2021: B = 0, alpha / r, base frozen",
)
def r10_lora_on_frozen_encoder(watch):
    """Two per cent of the parameters are trained; half of the adapters begin at zero, as they should."""
    seed_everything(33)
    vocab, length, dim = 120, 16, 48

    def task(n, seed, shift):
        """Which of four groups of words is the most frequent? In the second task the groups are others."""
        rng = np.random.default_rng(seed)
        y = rng.integers(0, 4, n)
        x = rng.integers(0, vocab, (n, length))
        for row, label in zip(x, y, strict=True):
            own = rng.choice(length, 5, replace=False)
            row[own] = (rng.integers(0, 30, 5) + 30 * label + shift) % vocab
        return TensorDataset(torch.tensor(x), torch.tensor(y))

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.ln1, self.ln2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
            self.q, self.k, self.v, self.o = (nn.Linear(dim, dim) for _ in range(4))
            self.up, self.down = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)

        def forward(self, x):
            b, t, _ = x.shape
            h = self.ln1(x)
            q, k, v = (f(h).view(b, t, 4, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
            h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, t, dim)
            x = x + self.o(h)
            return x + self.down(F.gelu(self.up(self.ln2(x))))

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(vocab, dim)
            self.blocks = nn.Sequential(Block(), Block())
            self.ln = nn.LayerNorm(dim)
            self.head = nn.Linear(dim, 4)

        def forward(self, x):
            return self.head(self.ln(self.blocks(self.words(x))).mean(1))

    class LoRA(nn.Module):
        def __init__(self, base, r=4, alpha=8):
            super().__init__()
            self.base, self.scale = base, alpha / r
            self.a = nn.Parameter(torch.randn(r, base.in_features) / math.sqrt(base.in_features))
            self.b = nn.Parameter(torch.zeros(base.out_features, r))

        def forward(self, x):
            return self.base(x) + self.scale * F.linear(F.linear(x, self.a), self.b)

    def accuracy(model, loader):
        model.eval()
        hits = loss = n = 0
        with torch.no_grad():
            for x, y in loader:
                out = model(x)
                loss += F.cross_entropy(out, y, reduction="sum").item()
                hits += (out.argmax(1) == y).sum().item()
                n += len(y)
        model.train()
        return hits / n, loss / n

    model = Encoder()
    pretraining = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _epoch in range(5):
        for x, y in DataLoader(task(2400, 0, 0), batch_size=64, shuffle=True):
            pretraining.zero_grad()
            F.cross_entropy(model(x), y).backward()
            pretraining.step()

    model.requires_grad_(False)
    for block in model.blocks:
        for name in ("q", "v", "up", "down"):
            setattr(block, name, LoRA(getattr(block, name)))
    model.head.requires_grad_(True)
    trained = [p for p in model.parameters() if p.requires_grad]
    train_loader = DataLoader(task(1600, 1, 15), batch_size=32, shuffle=True)
    val_loader = DataLoader(task(400, 2, 15), batch_size=200)
    before, _ = accuracy(model, val_loader)
    optimizer = torch.optim.AdamW(trained, lr=3e-3, weight_decay=0.0)
    watcher = watch(model, optimizer, num_classes=4, train=train_loader, val=val_loader)
    for _epoch in range(6):
        for x, y in train_loader:
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(x, y))
        after, val_loss = accuracy(model, val_loader)
        watcher.log(val_loss=val_loss, val_accuracy=after)
    return {
        "train_loss": loss.item(),
        "val_loss": val_loss,
        "val_accuracy_before": before,
        "val_accuracy": after,
    }


@sound(
    "knowledge distillation (digits)",
    source="Hinton et al. 2015: T = 4, T² times KL, plus the hard labels",
)
def r10_distillation_at_temperature_four(watch):
    """The loss can never reach zero, since the teacher's answers are soft."""
    seed_everything(34)
    x, y = load_digits(return_X_y=True)
    x_train, x_val, y_train, y_val = train_test_split(
        x, y, test_size=400, stratify=y, random_state=3
    )

    def scale(a):
        return torch.tensor(a / 8.0 - 1.0, dtype=torch.float32)

    def noisy(b):
        return b + 0.3 * torch.randn_like(b)

    train_loader = DataLoader(
        TensorDataset(scale(x_train), torch.tensor(y_train)), batch_size=32, shuffle=True
    )
    val_x, val_y = scale(x_val), torch.tensor(y_val)

    teacher = nn.Sequential(
        nn.Linear(64, 256),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(256, 256),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(256, 10),
    )
    opt = torch.optim.Adam(teacher.parameters(), lr=1e-3)
    for _epoch in range(15):
        for xb, yb in train_loader:
            opt.zero_grad()
            F.cross_entropy(teacher(noisy(xb)), yb, label_smoothing=0.1).backward()
            opt.step()
    teacher.eval().requires_grad_(False)

    student = nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    watcher = watch(student, optimizer, num_classes=10)
    t = 4.0
    for _epoch in range(20):
        student.train()
        for clean, yb in train_loader:
            xb = noisy(clean)
            logits = student(xb)
            soft = F.kl_div(
                F.log_softmax(logits / t, 1),
                F.log_softmax(teacher(xb) / t, 1),
                reduction="batchmean",
                log_target=True,
            )
            loss = 0.7 * t * t * soft + 0.3 * F.cross_entropy(logits, yb)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(xb, yb))
        student.eval()
        with torch.no_grad():
            out = student(val_x)
        val_loss, accuracy = (
            F.cross_entropy(out, val_y).item(),
            (out.argmax(1) == val_y).float().mean().item(),
        )
        watcher.log(val_loss=val_loss, val_accuracy=accuracy)
    return {
        "train_loss": loss.item(),
        "val_loss": val_loss,
        "val_accuracy": accuracy,
        "teacher_accuracy": (teacher(val_x).argmax(1) == val_y).float().mean().item(),
    }


@sound(
    "self-supervised (BYOL)",
    source="Grill et al. 2020: stopped gradient, moving-average target, predictor",
)
def r10_byol_with_moving_target(watch):
    """A negative loss without negatives, and a second network that gets no gradient."""
    seed_everything(35)
    rng = np.random.default_rng(4)
    n_kinds, n, dim = 8, 3000, 60
    kinds = rng.normal(size=(n_kinds, 12))
    y = torch.tensor(rng.integers(0, n_kinds, n))
    content = kinds[y.numpy()] + 0.5 * rng.normal(size=(n, 12))
    mix_content, mix_nuisance = rng.normal(size=(12, dim)), rng.normal(size=(24, dim))
    content = torch.tensor(np.tanh(content @ mix_content / 3), dtype=torch.float32)
    mix_nuisance = torch.tensor(mix_nuisance, dtype=torch.float32)

    def view(i):
        """The same recording in another room: the room is louder than what is said."""
        return (
            content[i]
            + 0.45 * torch.randn(len(i), 24) @ mix_nuisance / 2
            + 0.1 * torch.randn(len(i), dim)
        )

    def projector(i, o):
        return nn.Sequential(nn.Linear(i, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, o))

    encoder = nn.Sequential(nn.Linear(dim, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 64))
    online = nn.Sequential(encoder, projector(64, 32), projector(32, 32))
    target = copy.deepcopy(online[:2]).requires_grad_(False)
    optimizer = torch.optim.AdamW(online.parameters(), lr=1e-3, weight_decay=1e-4)
    watcher = watch(online, optimizer)

    def nearest_neighbours():
        encoder.eval()
        with torch.no_grad():
            z = F.normalize(encoder(view(torch.arange(n))), dim=1)
        encoder.train()
        votes = y[:2400][torch.cdist(z[2400:], z[:2400]).topk(15, largest=False).indices]
        return (votes.mode(1).values == y[2400:]).float().mean().item(), z.std(0).mean().item()

    before, _ = nearest_neighbours()
    for _epoch in range(25):
        for rows in torch.randperm(2400).split(128)[:-1]:
            a, b = view(rows), view(rows)
            with torch.no_grad():
                ta, tb = target(a), target(b)
            loss = (
                -(
                    F.cosine_similarity(online(a), tb, dim=1).mean()
                    + F.cosine_similarity(online(b), ta, dim=1).mean()
                )
                / 2
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                for average, p in zip(target.parameters(), online[:2].parameters(), strict=True):
                    average.lerp_(p, 0.01)
            watcher.step(loss)
    after, spread = nearest_neighbours()
    return {
        "loss": loss.item(),
        "knn_accuracy_before": before,
        "knn_accuracy": after,
        "spread_of_the_embeddings": spread,
    }


@sound("image classification (bfloat16, accumulation, one cycle)", source="own experience")
def r10_bfloat16_accumulation_one_cycle(watch):
    """Micro-batches of 8, four to an update; the learning rate rises thirtyfold and falls to nothing."""
    seed_everything(36)
    digits = load_digits()
    x = torch.tensor(digits.images[:, None] / 8.0 - 1.0, dtype=torch.float32)
    y = torch.tensor(digits.target)
    train_index, val_index = train_test_split(
        np.arange(len(y)), test_size=360, stratify=y, random_state=1
    )
    train_loader = DataLoader(
        TensorDataset(x[train_index], y[train_index]), batch_size=8, shuffle=True, drop_last=True
    )
    val_loader = DataLoader(TensorDataset(x[val_index], y[val_index]), batch_size=180)
    model = nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1), nn.GroupNorm(4, 24), nn.ReLU(),
        nn.Conv2d(24, 48, 3, 2, 1), nn.GroupNorm(4, 48), nn.ReLU(),
        nn.Flatten(), nn.Dropout(0.2), nn.Linear(48 * 16, 10),
    )  # fmt: skip
    accumulate, epochs = 4, 8
    per_epoch = len(train_loader) // accumulate
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.1, total_steps=epochs * per_epoch
    )
    criterion = nn.CrossEntropyLoss(label_smoothing=0.05)
    watcher = watch(model, optimizer, num_classes=10)
    for _epoch in range(epochs):
        model.train()
        optimizer.zero_grad()
        running = 0.0
        for i, (images, labels) in enumerate(train_loader):
            if i == per_epoch * accumulate:
                break
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = criterion(model(images), labels) / accumulate
            loss.backward()
            running += loss.detach()
            if i % accumulate == accumulate - 1:
                nn.utils.clip_grad_norm_(model.parameters(), 2.0)
                optimizer.step()
                optimizer.zero_grad()
                scheduler.step()
                watcher.step(running)
                last, running = running.item(), 0.0
        model.eval()
        val_loss = correct = total = 0
        with torch.no_grad():
            for images, labels in val_loader:
                out = model(images)
                val_loss += F.cross_entropy(out, labels, reduction="sum").item()
                correct += (out.argmax(1) == labels).sum().item()
                total += len(labels)
        watcher.log(val_loss=val_loss / total, val_accuracy=correct / total)
    return {"train_loss": last, "val_loss": val_loss / total, "val_accuracy": correct / total}


@sound("domain adaptation (gradient reversal)", source="Ganin and Lempitsky 2015")
def r10_domain_adversarial_spectra(watch):
    """The domain classifier is meant to fail: its loss ends near ln 2, and the gradient is turned round."""
    seed_everything(37)
    rng = np.random.default_rng(8)
    classes, dim = 5, 40
    peaks = rng.normal(size=(classes, dim))
    drift = rng.normal(size=dim)

    def spectra(n, target):
        y = rng.integers(0, classes, n)
        x = peaks[y] + 0.9 * rng.normal(size=(n, dim))
        if target:
            x = 0.8 * x + 1.3 * drift
        return torch.tensor(x, dtype=torch.float32), torch.tensor(y)

    xs, ys = spectra(2000, False)
    xt, _ = spectra(2000, True)
    x_test, y_test = spectra(600, True)
    x_val, y_val = spectra(600, False)

    class Reverse(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, weight):
            ctx.weight = weight
            return x.view_as(x)

        @staticmethod
        def backward(ctx, grad):
            return -ctx.weight * grad, None

    class DANN(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(
                nn.Linear(dim, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU()
            )
            self.label = nn.Linear(32, classes)
            self.domain = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))

        def forward(self, x, weight=0.0):
            h = self.features(x)
            return self.label(h), self.domain(Reverse.apply(h, weight))[:, 0]

    def train(model, adapt, watcher):
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        watcher = watch(model, optimizer) if watcher else None
        source = DataLoader(TensorDataset(xs, ys), batch_size=64, shuffle=True, drop_last=True)
        target = DataLoader(TensorDataset(xt), batch_size=64, shuffle=True, drop_last=True)
        epochs = 20
        for epoch in range(epochs):
            model.train()
            weight = adapt * (2 / (1 + math.exp(-10 * epoch / epochs)) - 1)
            for (a, y), (b,) in zip(source, target, strict=True):
                logits, da = model(a, weight)
                _, db = model(b, weight)
                domain = (
                    F.binary_cross_entropy_with_logits(da, torch.ones(64))
                    + F.binary_cross_entropy_with_logits(db, torch.zeros(64))
                ) / 2
                loss = F.cross_entropy(logits, y) + (domain if adapt else 0)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if watcher:
                    watcher.step(loss)
            model.eval()
            with torch.no_grad():
                out = model(x_val)[0]
            if watcher:
                watcher.log(
                    val_loss=F.cross_entropy(out, y_val).item(),
                    val_accuracy=(out.argmax(1) == y_val).float().mean().item(),
                )
        with torch.no_grad():
            return (
                domain.item(),
                loss.item(),
                (model(x_val)[0].argmax(1) == y_val).float().mean().item(),
                (model(x_test)[0].argmax(1) == y_test).float().mean().item(),
            )

    *_, without = train(DANN(), 0.0, False)
    domain_loss, loss, source_accuracy, target_accuracy = train(DANN(), 0.5, True)
    return {
        "loss": loss,
        "domain_loss": domain_loss,
        "val_accuracy_source": source_accuracy,
        "accuracy_target": target_accuracy,
        "accuracy_target_without_adaptation": without,
    }


@sound(
    "time series (GRU, Gaussian likelihood)", source="DeepAR: the network says mean and deviation"
)
def r10_gaussian_forecaster_negative_loss(watch):
    """The loss falls below zero and goes on falling, as a density may."""
    seed_everything(38)
    rng = np.random.default_rng(6)
    hours = np.arange(4000)
    load = np.sin(2 * np.pi * hours / 24) + 0.5 * np.sin(2 * np.pi * hours / 168)
    noise = 0.05 + 0.1 * (np.sin(2 * np.pi * hours / 24) > 0.3)
    series = torch.tensor(load + noise * rng.normal(size=len(hours)), dtype=torch.float32)
    cut, window = 3200, 48
    mean, std = series[:cut].mean(), series[:cut].std()
    series = (series - mean) / std
    pieces = series.unfold(0, window + 1, 1)
    train, val = (
        pieces[: cut - window],
        pieces[cut:],
    )  # the validation windows lie wholly after the training hours
    train_loader = DataLoader(
        TensorDataset(train[:, :-1, None], train[:, -1]), batch_size=64, shuffle=True
    )

    class Forecaster(nn.Module):
        def __init__(self, hidden=32):
            super().__init__()
            self.gru = nn.GRU(1, hidden, batch_first=True)
            self.out = nn.Linear(hidden, 2)

        def forward(self, x):
            mu, raw = self.out(self.gru(x)[1][-1]).unbind(1)
            return mu, F.softplus(raw) + 1e-3

    model = Forecaster()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.85)
    watcher = watch(model, optimizer)
    nll = nn.GaussianNLLLoss()
    first = None
    for _epoch in range(14):
        model.train()
        for x, y in train_loader:
            mu, sigma = model(x)
            loss = nll(mu, y, sigma**2)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            watcher.step(loss)
            first = first or loss.item()
        scheduler.step()
        model.eval()
        with torch.no_grad():
            mu, sigma = model(val[:, :-1, None])
            val_loss = nll(mu, val[:, -1], sigma**2).item()
        watcher.log(val_loss=val_loss)
    inside = ((val[:, -1] - mu).abs() < 1.645 * sigma).float().mean().item()
    return {
        "first_loss": first,
        "train_loss": loss.item(),
        "val_loss": val_loss,
        "val_rmse": (mu - val[:, -1]).pow(2).mean().sqrt().item(),
        "rmse_of_the_last_value": (val[:, -2] - val[:, -1]).pow(2).mean().sqrt().item(),
        "coverage_of_90_percent": inside,
    }


@sound(
    "graph (GAT, full batch, heavy dropout)",
    source="Veličković et al. 2018: dropout 0.6 on features and attention",
)
def r10_gat_full_batch_heavy_dropout(watch):
    """One batch is the whole graph; because of dropout the training loss stays above that of validation."""
    seed_everything(39)
    rng = np.random.default_rng(11)
    n, classes, words = 900, 4, 160
    y = rng.integers(0, classes, n)
    edges = np.triu(rng.random((n, n)) < np.where(y[:, None] == y[None], 0.015, 0.003), 1)
    adjacency = torch.tensor(edges | edges.T | np.eye(n, dtype=bool))
    topic = np.full((classes, words), 0.05)
    for c in range(classes):
        topic[c, 40 * c : 40 * c + 40] = 0.12
    x = torch.tensor(rng.random((n, words)) < topic[y], dtype=torch.float32)
    x = x / x.sum(1, keepdim=True).clamp(min=1)
    y = torch.tensor(y)
    order = torch.randperm(n)
    train, val = order[:450], order[450:]

    class GATLayer(nn.Module):
        def __init__(self, i, o, heads):
            super().__init__()
            self.heads, self.o = heads, o
            self.lin = nn.Linear(i, heads * o, bias=False)
            self.src = nn.Parameter(torch.empty(heads, o))
            self.dst = nn.Parameter(torch.empty(heads, o))
            for p in (self.lin.weight, self.src, self.dst):
                nn.init.xavier_uniform_(p, gain=1.414)

        def forward(self, x):
            h = self.lin(F.dropout(x, 0.6, self.training)).view(len(x), self.heads, self.o)
            score = ((h * self.src).sum(-1)[:, None] + (h * self.dst).sum(-1)[None]).permute(
                2, 0, 1
            )
            score = F.leaky_relu(score, 0.2).masked_fill(~adjacency, -1e9)
            return F.dropout(score.softmax(-1), 0.6, self.training) @ h.transpose(0, 1)

    class GAT(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = GATLayer(words, 8, 4), GATLayer(32, classes, 1)

        def forward(self, x):
            h = F.elu(self.first(x).transpose(0, 1).flatten(1))
            return self.second(h).mean(0)

    model = GAT()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    watcher = watch(model, optimizer, num_classes=classes)
    for epoch in range(100):
        model.train()
        loss = F.cross_entropy(model(x)[train], y[train])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
        if epoch % 10 == 9:
            model.eval()
            with torch.no_grad():
                out = model(x)[val]
            val_loss, accuracy = (
                F.cross_entropy(out, y[val]).item(),
                (out.argmax(1) == y[val]).float().mean().item(),
            )
            watcher.log(val_loss=val_loss, val_accuracy=accuracy)
    return {"train_loss": loss.item(), "val_loss": val_loss, "val_accuracy": accuracy}


@sound("adversarial training (PGD)", source="Madry et al. 2018")
def r10_pgd_adversarial_training(watch):
    """The training loss is that of attacked inputs: it stays high while the clean accuracy is good."""
    seed_everything(40)
    x, y = load_digits(return_X_y=True)
    x = torch.tensor(x / 16.0, dtype=torch.float32).view(-1, 1, 8, 8)
    y = torch.tensor(y)
    order = torch.randperm(len(x))
    train, val = order[:1400], order[1400:]
    loader = DataLoader(
        TensorDataset(x[train], y[train]), batch_size=64, shuffle=True, drop_last=True
    )
    model = nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(24, 32, 3, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    watcher = watch(model, optimizer, num_classes=10)

    def attack(images, labels, eps=0.15, steps=5):
        delta = torch.empty_like(images).uniform_(-eps, eps)
        for _ in range(steps):
            delta.requires_grad_()
            (grad,) = torch.autograd.grad(
                F.cross_entropy(model((images + delta).clamp(0, 1)), labels), delta
            )
            delta = (delta + 0.06 * grad.sign()).clamp(-eps, eps).detach()
        return (images + delta).clamp(0, 1)

    for _epoch in range(16):
        model.train()
        for images, labels in loader:
            hostile = attack(images, labels)
            loss = F.cross_entropy(model(hostile), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=(hostile, labels))
        model.eval()
        with torch.no_grad():
            out = model(x[val])
        val_loss, clean = (
            F.cross_entropy(out, y[val]).item(),
            (out.argmax(1) == y[val]).float().mean().item(),
        )
        watcher.log(val_loss=val_loss, val_accuracy=clean)
    robust = (model(attack(x[val], y[val], steps=20)).argmax(1) == y[val]).float().mean().item()
    return {
        "train_loss_under_attack": loss.item(),
        "val_loss": val_loss,
        "val_accuracy": clean,
        "val_accuracy_under_attack": robust,
    }


@sound(
    "text recognition (CRNN with CTC)",
    source="Graves et al. 2006; everybody's first plateau of blanks",
)
def r10_ctc_house_numbers(watch):
    """For a while the network says nothing but blanks; then it begins to read."""
    seed_everything(41)
    digits = load_digits()
    rng = np.random.default_rng(12)
    is_train = rng.random(len(digits.target)) < 0.75

    def strips(n, train):
        pool = np.flatnonzero(is_train == train)
        x, y, lengths = (
            np.zeros((n, 1, 8, 36), np.float32),
            np.zeros((n, 4), int),
            rng.integers(2, 5, n),
        )
        for image, label, length in zip(x, y, lengths, strict=True):
            at = 0
            for j in range(length):
                i = rng.choice(pool)
                at += rng.integers(0, 2)
                image[0, :, at : at + 8] = digits.images[i] / 16
                label[j] = digits.target[i] + 1
                at += 8
        x = (x + 0.05 * rng.normal(size=x.shape) - 0.3) / 0.4
        return TensorDataset(
            torch.tensor(x, dtype=torch.float32), torch.tensor(y), torch.tensor(lengths)
        )

    class CRNN(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Sequential(
                nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d((2, 1)),
                nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            )  # fmt: skip
            self.rnn = nn.LSTM(64, 48, bidirectional=True, batch_first=True)
            self.fc = nn.Linear(96, 11)

        def forward(self, x):
            h = self.conv(x).permute(0, 3, 1, 2).flatten(2)
            return self.fc(self.rnn(h)[0]).log_softmax(-1).transpose(0, 1)  # time, batch, class

    train_loader = DataLoader(strips(3000, True), batch_size=32, shuffle=True)
    val_loader = DataLoader(strips(300, False), batch_size=150)
    model = CRNN()
    ctc = nn.CTCLoss(blank=0, zero_infinity=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    watcher = watch(model, optimizer)
    for _epoch in range(6):
        model.train()
        for x, y, lengths in train_loader:
            out = model(x)
            loss = ctc(out, y, torch.full((len(x),), out.size(0)), lengths)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            watcher.step(loss)
        model.eval()
        val_loss = right = total = 0
        with torch.no_grad():
            for x, y, lengths in val_loader:
                out = model(x)
                val_loss += ctc(out, y, torch.full((len(x),), out.size(0)), lengths).item() * len(x)
                for path, label, length in zip(out.argmax(-1).T, y, lengths, strict=True):
                    read = [k for k in torch.unique_consecutive(path).tolist() if k]
                    right += read == label[:length].tolist()
                total += len(x)
        watcher.log(val_loss=val_loss / total, val_accuracy=right / total)
    return {
        "train_loss": loss.item(),
        "val_loss": val_loss / total,
        "val_sequences_read": right / total,
    }
