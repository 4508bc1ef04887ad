"""Round 7: publicly reported mistakes in vision, transfer learning, generative, contrastive and tabular training code, and sound programs beside them."""

import copy
import math
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, Dataset, TensorDataset

from benchmarks.first_sight.programs import faulty, sound

# ---------------------------------------------------------------- faulty programs


@faulty(
    "image classification",
    fault="the model ends in a softmax and the loss is CrossEntropyLoss, which takes the softmax again: the loss cannot fall under 1.46 and the gradients are tiny, so the network hardly learns",
    source="https://discuss.pytorch.org/t/cross-entropy-loss-is-not-decreasing/43814",
)
def r7_cnn_softmax_before_cross_entropy(watch, fixed):
    """A LeNet-like network on the 8x8 digits, trained with SGD as in the tutorial."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(1, 24, 3, padding=1)
            self.conv2 = nn.Conv2d(24, 48, 3, padding=1)
            self.pool = nn.MaxPool2d(2, 2)
            self.fc1 = nn.Linear(48 * 2 * 2, 64)
            self.fc2 = nn.Linear(64, 32)
            self.fc3 = nn.Linear(32, 10)

        def forward(self, x):
            x = self.pool(F.relu(self.conv1(x)))
            x = self.pool(F.relu(self.conv2(x)))
            x = torch.flatten(x, 1)
            x = F.relu(self.fc1(x))
            x = F.relu(self.fc2(x))
            x = self.fc3(x)
            return x if fixed else F.softmax(x, dim=1)

    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    x = (x - 0.3) / 0.38
    y = torch.tensor(digits.target)
    order = torch.randperm(len(y))
    tr, te = order[:1300], order[1300:]
    trainloader = DataLoader(TensorDataset(x[tr], y[tr]), batch_size=32, shuffle=True)
    testloader = DataLoader(TensorDataset(x[te], y[te]), batch_size=128)

    net = Net()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    watcher = watch(net, optimizer, loss_fn=criterion, train=trainloader, val=testloader)
    for _epoch in range(14):
        net.train()
        for data in trainloader:
            inputs, labels = data
            optimizer.zero_grad()
            outputs = net(inputs)
            loss = criterion(outputs, labels)
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=data)
        net.eval()
        correct, total, val_loss = 0, 0, 0.0
        with torch.no_grad():
            for images, labels in testloader:
                outputs = net(images)
                val_loss += criterion(outputs, labels).item() * len(labels)
                correct += (outputs.argmax(1) == labels).sum().item()
                total += len(labels)
        watcher.log(val_loss=val_loss / total, val_accuracy=correct / total)
    return {"train_loss": loss.item(), "val_accuracy": correct / total}


@faulty(
    "transfer learning (gradual unfreezing)",
    fault="the optimizer was made from the parameters that needed gradients at the start (the head); the backbone is unfrozen later by requires_grad = True but never given to the optimizer, so it never moves",
    source="https://github.com/facebookresearch/detectron2/issues/2486",
)
def r7_unfrozen_backbone_not_in_optimizer(watch, fixed):
    """The backbone was trained to tell small from large digits; now it is fine-tuned to name all ten."""

    class Classifier(nn.Module):
        def __init__(self, classes):
            super().__init__()
            self.backbone = nn.Sequential(
                nn.Conv2d(1, 16, 3, padding=1),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Conv2d(16, 32, 3, padding=1),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Flatten(),
                nn.Linear(128, 16),
                nn.ReLU(),
            )
            self.head = nn.Linear(16, classes)

        def forward(self, x):
            return self.head(self.backbone(x))

    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    y = torch.tensor(digits.target)
    order = torch.randperm(len(y))
    pre, tr, te = order[:700], order[700:1400], order[1400:]

    model = Classifier(2)
    pretrain = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(10):  # the "pretrained weights"
        for idx in pre[torch.randperm(len(pre))].split(32):
            loss = F.cross_entropy(model(x[idx]), (y[idx] >= 5).long())
            pretrain.zero_grad()
            loss.backward()
            pretrain.step()

    # fine-tuning: first the new head alone, then everything
    for p in model.backbone.parameters():
        p.requires_grad = False
    model.head = nn.Linear(16, 10)
    optimizer = torch.optim.Adam(
        filter(lambda p: p.requires_grad, model.parameters()), lr=2e-3, weight_decay=1e-4
    )
    train = DataLoader(TensorDataset(x[tr], y[tr]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(x[te], y[te]), batch_size=128)
    criterion = nn.CrossEntropyLoss()
    watcher = watch(model, optimizer, loss_fn=criterion, train=train, val=val)
    for epoch in range(24):
        if epoch == 4:
            for p in model.backbone.parameters():
                p.requires_grad = True
            if fixed:
                optimizer.add_param_group({"params": model.backbone.parameters()})
        model.train()
        for batch in train:
            images, labels = batch
            loss = criterion(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=batch)
        model.eval()
        with torch.no_grad():
            scores = [(model(a), b) for a, b in val]
            val_loss = sum(criterion(o, b).item() for o, b in scores) / len(scores)
            acc = sum((o.argmax(1) == b).sum().item() for o, b in scores) / len(te)
        watcher.log(val_loss=val_loss, val_accuracy=acc)
    return {"train_loss": loss.item(), "val_accuracy": acc}


@faulty(
    "transfer learning (frozen backbone)",
    fault="the checkpoint's keys carry the prefix 'module.' (saved under DataParallel) and load_state_dict(strict=False) skips all of them in silence: the frozen backbone is random",
    source="https://github.com/pytorch/examples/issues/1029",
)
def r7_checkpoint_prefix_loads_nothing(watch, fixed):
    """A backbone trained on clean digits, frozen, with a new head for a few noisy ones."""

    class Backbone(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(1, 16, 3, padding=1)
            self.layer1 = nn.Conv2d(16, 16, 3, padding=1)
            self.layer2 = nn.Conv2d(16, 24, 3, padding=1)
            self.embed = nn.Linear(24 * 4, 12)

        def forward(self, x):
            x = F.relu(self.stem(x))
            x = F.max_pool2d(F.relu(self.layer1(x)), 2)
            x = F.max_pool2d(F.relu(self.layer2(x)), 2)
            return F.relu(self.embed(x.flatten(1)))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = Backbone()
            self.classifier = nn.Linear(12, 10)

        def forward(self, x):
            return self.classifier(self.backbone(x))

    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    y = torch.tensor(digits.target)
    order = torch.randperm(len(y))
    pre, tr, te = order[:1000], order[1000:1200], order[1200:]

    def pretrained_checkpoint():
        net = nn.Module()
        net.module, fc = Backbone(), nn.Linear(12, 10)  # the names that DataParallel gives
        opt = torch.optim.Adam([*net.parameters(), *fc.parameters()], lr=2e-3)
        for _ in range(14):
            for idx in pre[torch.randperm(len(pre))].split(32):
                noisy = x[idx] + 0.15 * torch.randn_like(x[idx])
                loss = F.cross_entropy(fc(net.module(noisy)), y[idx])
                opt.zero_grad()
                loss.backward()
                opt.step()
        return {"state_dict": net.state_dict(), "epoch": 14}

    state_dict = pretrained_checkpoint()["state_dict"]
    if fixed:
        state_dict = {k.removeprefix("module."): v for k, v in state_dict.items()}
    model = Model()
    model.backbone.load_state_dict(state_dict, strict=False)
    for p in model.backbone.parameters():
        p.requires_grad = False

    noise = 0.2 * torch.randn(len(x), 1, 8, 8)
    train = DataLoader(TensorDataset((x + noise)[tr], y[tr]), batch_size=16, shuffle=True)
    val = DataLoader(TensorDataset((x + noise)[te], y[te]), batch_size=128)
    optimizer = torch.optim.Adam(model.classifier.parameters(), lr=5e-3)
    criterion = nn.CrossEntropyLoss()
    watcher = watch(model, optimizer, loss_fn=criterion, train=train, val=val)
    for _epoch in range(30):
        model.train()
        for batch in train:
            loss = criterion(model(batch[0]), batch[1])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=batch)
        model.eval()
        with torch.no_grad():
            scores = [(model(a), b) for a, b in val]
            val_loss = sum(criterion(o, b).item() for o, b in scores) / len(scores)
            acc = sum((o.argmax(1) == b).sum().item() for o, b in scores) / len(te)
        watcher.log(val_loss=val_loss, val_accuracy=acc)
    return {"train_loss": loss.item(), "val_accuracy": acc}


@faulty(
    "GAN",
    fault="the discriminator's gradients are never zeroed: each of its updates also carries the generator step's gradient (which asks for the opposite) and those of all earlier steps",
    source="https://github.com/Adversarial-Deep-Learning/code-soup/issues/69",
)
def r7_dcgan_discriminator_grad_never_zeroed(watch, fixed):
    """A small DCGAN on the 8x8 digits."""

    class Generator(nn.Module):
        def __init__(self, nz=24):
            super().__init__()
            self.main = nn.Sequential(
                nn.ConvTranspose2d(nz, 48, 2, 1, 0, bias=False),
                nn.BatchNorm2d(48),
                nn.ReLU(True),
                nn.ConvTranspose2d(48, 24, 4, 2, 1, bias=False),
                nn.BatchNorm2d(24),
                nn.ReLU(True),
                nn.ConvTranspose2d(24, 1, 4, 2, 1),
                nn.Tanh(),
            )

        def forward(self, z):
            return self.main(z)

    class Discriminator(nn.Module):
        def __init__(self):
            super().__init__()
            self.main = nn.Sequential(
                nn.Conv2d(1, 24, 4, 2, 1),
                nn.LeakyReLU(0.2, inplace=True),
                nn.Conv2d(24, 48, 4, 2, 1),
                nn.LeakyReLU(0.2, inplace=True),
                nn.Flatten(),
                nn.Linear(48 * 4, 1),
            )

        def forward(self, x):
            return self.main(x).view(-1)

    def frechet(a, b):
        (ma, ca), (mb, cb) = [(v.mean(0), np.cov(v.T)) for v in (a, b)]
        w, u = np.linalg.eigh(ca)
        root = (u * np.sqrt(np.clip(w, 0, None))) @ u.T
        cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ cb @ root), 0, None)).sum()
        return float(((ma - mb) ** 2).sum() + np.trace(ca) + np.trace(cb) - 2 * cross)

    images = torch.tensor(load_digits().images, dtype=torch.float32).unsqueeze(1) / 8 - 1
    dataloader = DataLoader(TensorDataset(images), batch_size=64, shuffle=True, drop_last=True)
    netG, netD = Generator(), Discriminator()
    criterion = nn.BCEWithLogitsLoss()
    optimizerD = torch.optim.Adam(netD.parameters(), lr=1e-3, betas=(0.5, 0.999))
    optimizerG = torch.optim.Adam(netG.parameters(), lr=2e-3, betas=(0.5, 0.999))
    watch_d, watch_g = watch(netD, optimizerD, train=dataloader), watch(netG, optimizerG)
    for _epoch in range(14):
        for data in dataloader:
            real = data[0]
            b = real.size(0)
            # (1) update D
            if fixed:
                netD.zero_grad()
            fake = netG(torch.randn(b, 24, 1, 1))
            errD = criterion(netD(real), torch.full((b,), 0.9)) + criterion(
                netD(fake.detach()), torch.zeros(b)
            )
            errD.backward()
            optimizerD.step()
            watch_d.step(errD, batch=data)
            # (2) update G
            netG.zero_grad()
            errG = criterion(netD(fake), torch.ones(b))
            errG.backward()
            optimizerG.step()
            watch_g.step(errG)
    with torch.no_grad():
        samples = netG(torch.randn(1500, 24, 1, 1)).flatten(1).double().numpy()
    return {
        "loss_d": errD.item(),
        "loss_g": errG.item(),
        "frechet_distance": frechet(images.flatten(1).double().numpy(), samples),
    }


@faulty(
    "variational autoencoder",
    fault="the images are normalised to [-1, 1] but the reconstruction loss is binary cross entropy, whose target must lie in [0, 1]: the loss runs far below zero and dark pixels are pushed to saturation",
    source="https://github.com/Lightning-Universe/lightning-bolts/issues/177 and https://github.com/milesial/Pytorch-UNet/issues/65",
)
def r7_vae_bce_on_images_in_minus_one_to_one(watch, fixed):
    """The well-known MNIST VAE, on the small digits."""

    class VAE(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1 = nn.Linear(64, 400)
            self.fc21, self.fc22 = nn.Linear(400, 10), nn.Linear(400, 10)
            self.fc3, self.fc4 = nn.Linear(10, 400), nn.Linear(400, 64)

        def forward(self, x):
            h = F.relu(self.fc1(x.flatten(1)))
            mu, logvar = self.fc21(h), self.fc22(h)
            z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
            return self.fc4(F.relu(self.fc3(z))), mu, logvar  # logits of the pixels

    def loss_function(recon_x, x, mu, logvar):
        BCE = F.binary_cross_entropy_with_logits(recon_x, x.flatten(1), reduction="sum")
        KLD = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
        return BCE + KLD

    def transform(image):
        image = torch.tensor(image, dtype=torch.float32) / 16  # ToTensor()
        return image if fixed else (image - 0.5) / 0.5  # Normalize(0.5, 0.5)

    class Digits(Dataset):
        def __init__(self, images):
            self.images = images

        def __len__(self):
            return len(self.images)

        def __getitem__(self, i):
            return transform(self.images[i])

    images = load_digits().images
    images = images[np.random.permutation(len(images))]
    train_loader = DataLoader(Digits(images[:1400]), batch_size=32, shuffle=True)
    test_loader = DataLoader(Digits(images[1400:]), batch_size=128)
    model = VAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    watcher = watch(model, optimizer, train=train_loader, val=test_loader)
    for _epoch in range(16):
        model.train()
        for data in train_loader:
            optimizer.zero_grad()
            recon, mu, logvar = model(data)
            loss = loss_function(recon, data, mu, logvar)
            loss.backward()
            optimizer.step()
            watcher.step(loss / len(data), batch=data)
        model.eval()
        test_loss = 0.0
        with torch.no_grad():
            for data_test in test_loader:
                recon, mu, logvar = model(data_test)
                test_loss += loss_function(recon, data_test, mu, logvar).item()
        watcher.log(val_loss=test_loss / len(images[1400:]))
    with torch.no_grad():
        shown = torch.cat([model(d)[0] for d in test_loader]).sigmoid()
    truth = torch.tensor(images[1400:], dtype=torch.float32).flatten(1) / 16
    return {
        "loss": loss.item() / len(data),
        "pixel_rmse": (shown - truth).pow(2).mean().sqrt().item(),
    }


@faulty(
    "diffusion (predicting x_start)",
    fault="the network that should predict the clean sample is compared with its own noisy input (x_noisy instead of x_start): it learns the identity, the loss is near zero, sampling yields noise",
    source="https://github.com/irom-princeton/dppo/issues/14",
)
def r7_diffusion_target_is_the_noisy_input(watch, fixed):
    """Unconditional diffusion on the 8x8 digits with a residual MLP."""
    T = 60
    betas = torch.linspace(1e-3, 0.18, T)
    alphas_cumprod = torch.cumprod(1 - betas, 0)
    prev = torch.cat([torch.ones(1), alphas_cumprod[:-1]])

    class Denoiser(nn.Module):
        def __init__(self, d=128):
            super().__init__()
            self.time = nn.Sequential(nn.Embedding(T, d), nn.Linear(d, d), nn.SiLU())
            self.inp = nn.Linear(64, d)
            self.blocks = nn.ModuleList(
                nn.Sequential(nn.LayerNorm(d), nn.Linear(d, d), nn.SiLU(), nn.Linear(d, d))
                for _ in range(3)
            )
            self.out = nn.Linear(d, 64)

        def forward(self, x, t):
            h, e = self.inp(x), self.time(t)
            for block in self.blocks:
                h = h + block(h + e)
            return self.out(h)

    class Diffusion(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = Denoiser()

        def q_sample(self, x_start, t, noise):
            a = alphas_cumprod[t].unsqueeze(1)
            return a.sqrt() * x_start + (1 - a).sqrt() * noise

        def p_losses(self, x_start, t):
            noise = torch.randn_like(x_start)
            x_noisy = self.q_sample(x_start, t, noise)
            x_recon = self.network(x_noisy, t)
            if fixed:
                return F.mse_loss(x_recon, x_start, reduction="mean")
            return F.mse_loss(x_recon, x_noisy, reduction="mean")

        def loss(self, x):
            return self.p_losses(x, torch.randint(0, T, (len(x),)))

        @torch.no_grad()
        def sample(self, n):
            x = torch.randn(n, 64)
            for i in reversed(range(T)):
                x0 = self.network(x, torch.full((n,), i)).clamp(-1, 1)
                a, p, b = alphas_cumprod[i], prev[i], betas[i]
                mean = (p.sqrt() * b * x0 + (1 - b).sqrt() * (1 - p) * x) / (1 - a)
                x = mean + ((1 - p) / (1 - a) * b).sqrt() * torch.randn_like(x) * (i > 0)
            return x

    data = torch.tensor(load_digits().data, dtype=torch.float32) / 8 - 1
    train, held_out = data[:1500], data[1500:]
    loader = DataLoader(TensorDataset(train), batch_size=64, shuffle=True)
    model = Diffusion()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-4)
    watcher = watch(model, optimizer, train=loader)
    for _epoch in range(30):
        model.train()
        for batch in loader:
            loss = model.loss(batch[0])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            watcher.step(loss, batch=batch)
        model.eval()
        with torch.no_grad():
            watcher.log(val_loss=model.loss(held_out).item())
    samples = model.sample(300)
    near = torch.cdist(samples, train).min(1).values.mean().item()
    return {"loss": loss.item(), "distance_of_samples_to_nearest_digit": near}


@faulty(
    "segmentation",
    fault="the dice loss is taken of the thresholded mask, and requires_grad is switched on by hand to silence the error about a missing graph: no gradient reaches the network",
    source="https://github.com/qubvel-org/segmentation_models.pytorch/pull/611",
)
def r7_dice_on_thresholded_mask(watch, fixed):
    """Finding bright ellipses on a grainy ground."""

    def make(n):
        yy, xx = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
        cy, cx = torch.rand(2, n, 1, 1) * 14 + 5
        ry, rx = torch.rand(2, n, 1, 1) * 4 + 2.5
        mask = (((yy - cy) / ry) ** 2 + ((xx - cx) / rx) ** 2 < 1).float().unsqueeze(1)
        image = 0.9 * mask + 0.6 * torch.randn(n, 1, 24, 24) + 0.3 * torch.rand(n, 1, 1, 1)
        return image, mask

    def block(i, o):
        return nn.Sequential(
            nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True)
        )

    class SmallUnet(nn.Module):
        def __init__(self):
            super().__init__()
            self.enc1, self.enc2, self.mid = block(1, 8), block(8, 16), block(16, 16)
            self.dec2, self.dec1 = block(32, 8), block(16, 8)
            self.segmentation_head = nn.Conv2d(8, 1, 1)

        def forward(self, x):
            a = self.enc1(x)
            b = self.enc2(F.max_pool2d(a, 2))
            c = self.mid(F.max_pool2d(b, 2))
            d = self.dec2(torch.cat([F.interpolate(c, scale_factor=2.0), b], 1))
            d = self.dec1(torch.cat([F.interpolate(d, scale_factor=2.0), a], 1))
            return self.segmentation_head(d)

    def _threshold(x, threshold=0.5):
        return (x > threshold).type(x.dtype).requires_grad_(True)

    class DiceLoss(nn.Module):
        def forward(self, y_pr, y_gt, eps=1.0):
            y_pr = torch.sigmoid(y_pr)
            if not fixed:
                y_pr = _threshold(y_pr)
            tp = (y_pr * y_gt).sum()
            return 1 - (2 * tp + eps) / (y_pr.sum() + y_gt.sum() + eps)

    train_loader = DataLoader(TensorDataset(*make(600)), batch_size=16, shuffle=True)
    valid_loader = DataLoader(TensorDataset(*make(128)), batch_size=64)
    model, loss_fn = SmallUnet(), DiceLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    watcher = watch(model, optimizer, loss_fn=loss_fn, train=train_loader, val=valid_loader)
    for _epoch in range(8):
        model.train()
        for batch in train_loader:
            x, y = batch
            optimizer.zero_grad()
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=batch)
        model.eval()
        inter = union = val_loss = 0.0
        with torch.no_grad():
            for x, y in valid_loader:
                out = model(x)
                val_loss += loss_fn(out, y).item() / len(valid_loader)
                pred = out > 0
                inter += (pred & (y > 0.5)).sum().item()
                union += (pred | (y > 0.5)).sum().item()
        watcher.log(val_loss=val_loss, val_iou=inter / max(union, 1))
    return {"train_loss": loss.item(), "val_iou": inter / max(union, 1)}


@faulty(
    "object detection",
    fault="the class numbers of the data set start at 0, which the detector keeps for background: objects of the first class are taught as background and never found",
    source="https://github.com/microsoft/computervision-recipes/pull/315 and https://github.com/pytorch/vision/issues/1952",
)
def r7_detector_first_class_is_background(watch, fixed):
    """A one-stage grid detector for squares, crosses and rings; 0 is background, as in torchvision."""
    CLASSES = ["square", "cross", "ring"]

    class Shapes(Dataset):
        """Pictures of 32x32 with up to three objects, a target dict per picture."""

        def __init__(self, n, seed):
            rng = np.random.default_rng(seed)
            self.items = []
            yy, xx = np.mgrid[0:32, 0:32]
            for _ in range(n):
                image = 0.15 * rng.standard_normal((32, 32))
                boxes, labels = [], []
                for cell in rng.choice(16, size=rng.integers(1, 4), replace=False):
                    jitter = rng.integers(-1, 2, 2)
                    cy, cx = cell // 4 * 8 + 4 + jitter[0], cell % 4 * 8 + 4 + jitter[1]
                    r = rng.integers(2, 4)
                    dy, dx = np.abs(yy - cy), np.abs(xx - cx)
                    inside = np.maximum(dy, dx) <= r
                    kind = int(rng.integers(0, 3))
                    shape = [
                        inside,
                        inside & (np.minimum(dy, dx) == 0),
                        inside & (np.maximum(dy, dx) == r),
                    ][kind]
                    image = image + shape
                    boxes.append([cx - r, cy - r, cx + r + 1, cy + r + 1])
                    labels.append(CLASSES.index(CLASSES[kind]) + (1 if fixed else 0))
                self.items.append(
                    (
                        torch.tensor(image, dtype=torch.float32).unsqueeze(0),
                        {
                            "boxes": torch.tensor(boxes, dtype=torch.float32),
                            "labels": torch.tensor(labels),
                        },
                    )
                )

        def __len__(self):
            return len(self.items)

        def __getitem__(self, i):
            return self.items[i]

    class GridDetector(nn.Module):
        def __init__(self, num_classes):
            super().__init__()
            self.num_classes = num_classes
            self.body = nn.Sequential(
                nn.Conv2d(1, 12, 3, padding=1),
                nn.BatchNorm2d(12),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Conv2d(12, 24, 3, padding=1),
                nn.BatchNorm2d(24),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Conv2d(24, 32, 3, padding=1),
                nn.BatchNorm2d(32),
                nn.ReLU(),
                nn.MaxPool2d(2),
            )
            self.cls, self.reg = nn.Conv2d(32, num_classes, 1), nn.Conv2d(32, 4, 1)

        def assign(self, targets):
            cls = torch.zeros(len(targets), 4, 4, dtype=torch.long)
            box = torch.zeros(len(targets), 4, 4, 4)
            for i, t in enumerate(targets):
                for b, label in zip(t["boxes"], t["labels"], strict=True):
                    col = int(((b[0] + b[2]) / 2) // 8)
                    row = int(((b[1] + b[3]) / 2) // 8)
                    cls[i, row, col] = label
                    box[i, row, col] = b / 32
            return cls, box

        def forward(self, images, targets=None):
            h = self.body(torch.stack(images))
            logits, boxes = self.cls(h).permute(0, 2, 3, 1), self.reg(h).permute(0, 2, 3, 1)
            if targets is None:
                return logits.softmax(-1), boxes
            cls, box = self.assign(targets)
            positive = cls > 0
            logits = logits.reshape(-1, self.num_classes)
            return {
                "loss_classifier": F.cross_entropy(logits, cls.reshape(-1)),
                "loss_box_reg": 5 * F.smooth_l1_loss(boxes[positive], box[positive], beta=0.1),
            }

    collate = lambda batch: tuple(zip(*batch, strict=True))
    data_loader = DataLoader(Shapes(800, 0), batch_size=16, shuffle=True, collate_fn=collate)
    data_loader_test = DataLoader(Shapes(160, 1), batch_size=32, collate_fn=collate)
    model = GridDetector(num_classes=len(CLASSES) + 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-4)
    watcher = watch(model, optimizer, train=data_loader, val=data_loader_test)
    for _epoch in range(9):
        model.train()
        for images, targets in data_loader:
            loss_dict = model(images, targets)
            losses = sum(loss for loss in loss_dict.values())
            optimizer.zero_grad()
            losses.backward()
            optimizer.step()
            watcher.step(losses, batch=(images, targets))
        model.eval()
        val_loss, hit, of = 0.0, 0, 0
        with torch.no_grad():
            for images, targets in data_loader_test:
                val_loss += sum(model(images, targets).values()).item() / len(data_loader_test)
                probs, _ = model(images)
                for i, t in enumerate(targets):
                    for b, label in zip(t["boxes"], t["labels"], strict=True):
                        row, col = int(((b[1] + b[3]) / 2) // 8), int(((b[0] + b[2]) / 2) // 8)
                        found = probs[i, row, col].argmax().item()
                        hit += int(found > 0 and found == label.item())
                        of += 1
        watcher.log(val_loss=val_loss, val_recall=hit / of)
    return {"train_loss": losses.item(), "val_recall": hit / of}


@faulty(
    "super-resolution",
    fault="the low and the high resolution patch are cropped at two separately drawn places, so input and target show different parts of the picture; the network only learns a blurred mean",
    source="https://github.com/NVIDIA/flownet2-pytorch/issues/22, https://github.com/PhoenixDL/rising/issues/99 and https://github.com/huggingface/diffusers/issues/10697",
)
def r7_super_resolution_separate_random_crops(watch, fixed):
    """Twofold super-resolution (ESPCN-like) of pictures made of discs and bars."""

    def pictures(n, rng):
        yy, xx = np.mgrid[0:48, 0:48]
        out = np.zeros((n, 48, 48), np.float32)
        for k in range(n):
            canvas = np.full((48, 48), rng.uniform(0.2, 0.8))
            for _ in range(9):
                cy, cx, r = rng.uniform(0, 48, 2).tolist() + [rng.uniform(3, 9)]
                angle = rng.uniform(0, math.pi)
                if rng.random() < 0.5:
                    where = (yy - cy) ** 2 + (xx - cx) ** 2 < r * r
                else:
                    across = (yy - cy) * math.cos(angle) + (xx - cx) * math.sin(angle)
                    where = np.abs(across) < r / 3
                canvas[where] = rng.uniform(0, 1)
            out[k] = canvas
        return torch.tensor(out).unsqueeze(1)

    class PairedDataset(Dataset):
        def __init__(self, hr, patch=24, scale=2):
            self.hr, self.lr = hr, F.avg_pool2d(hr, scale)
            self.patch, self.scale = patch, scale

        def __len__(self):
            return len(self.hr) * 4

        def random_crop(self, image, size):
            top = random.randint(0, image.shape[-2] - size)
            left = random.randint(0, image.shape[-1] - size)
            return image[:, top : top + size, left : left + size], top, left

        def __getitem__(self, i):
            hr, lr = self.hr[i // 4], self.lr[i // 4]
            lr_patch, top, left = self.random_crop(lr, self.patch // self.scale)
            if fixed:
                top, left = top * self.scale, left * self.scale
                hr_patch = hr[:, top : top + self.patch, left : left + self.patch]
            else:
                hr_patch, _, _ = self.random_crop(hr, self.patch)
            return lr_patch, hr_patch

    class ESPCN(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(1, 32, 5, padding=2)
            self.conv2 = nn.Conv2d(32, 32, 3, padding=1)
            self.conv3 = nn.Conv2d(32, 4, 3, padding=1)
            self.shuffle = nn.PixelShuffle(2)

        def forward(self, x):
            x = F.relu(self.conv1(x))
            x = F.relu(self.conv2(x))
            return self.shuffle(self.conv3(x))

    rng = np.random.default_rng(0)
    train_hr, val_hr = pictures(200, rng), pictures(32, rng)
    val_lr = F.avg_pool2d(val_hr, 2)
    train_loader = DataLoader(PairedDataset(train_hr), batch_size=16, shuffle=True)
    val_loader = DataLoader(TensorDataset(val_lr, val_hr), batch_size=16)
    model, criterion = ESPCN(), nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    watcher = watch(model, optimizer, loss_fn=criterion, train=train_loader, val=val_loader)
    for _epoch in range(14):
        model.train()
        for batch in train_loader:
            lr, hr = batch
            loss = criterion(model(lr), hr)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=batch)
        model.eval()
        with torch.no_grad():
            mse = sum(criterion(model(a), b).item() for a, b in val_loader) / len(val_loader)
        watcher.log(val_loss=mse, val_psnr=-10 * math.log10(mse))
    bicubic = F.interpolate(val_lr, scale_factor=2, mode="bicubic", align_corners=False)
    return {
        "train_loss": loss.item(),
        "val_psnr": -10 * math.log10(mse),
        "bicubic_psnr": -10 * math.log10(criterion(bicubic, val_hr).item()),
    }


@faulty(
    "self-supervised learning (SimSiam)",
    fault="there is no stop-gradient: z is not detached in the negative cosine loss, so both branches run together, the loss goes to -1 and the embeddings collapse",
    source="https://github.com/PatrickHua/SimSiam/issues/39 and https://github.com/lightly-ai/lightly/issues/559",
)
def r7_simsiam_without_stop_gradient(watch, fixed):
    """SimSiam on the digits; a linear probe tells how good the embeddings are."""

    def D(p, z):  # negative cosine similarity
        if fixed:
            z = z.detach()
        p = F.normalize(p, dim=1)
        z = F.normalize(z, dim=1)
        return -(p * z).sum(dim=1).mean()

    class SimSiam(nn.Module):
        def __init__(self, d=64):
            super().__init__()
            self.backbone = nn.Sequential(
                nn.Conv2d(1, 16, 3, padding=1),
                nn.BatchNorm2d(16),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Conv2d(16, 32, 3, padding=1),
                nn.BatchNorm2d(32),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Flatten(),
            )
            self.projector = nn.Sequential(
                nn.Linear(128, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, d)
            )
            self.predictor = nn.Sequential(
                nn.Linear(d, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, d)
            )

        def forward(self, x1, x2):
            z1, z2 = self.projector(self.backbone(x1)), self.projector(self.backbone(x2))
            p1, p2 = self.predictor(z1), self.predictor(z2)
            return D(p1, z2) / 2 + D(p2, z1) / 2

    def augment(x):
        x = F.pad(x, (1, 1, 1, 1))
        dy, dx = random.randint(0, 2), random.randint(0, 2)
        x = x[:, :, dy : dy + 8, dx : dx + 8]
        x = x * (0.7 + 0.6 * torch.rand(len(x), 1, 1, 1)) + 0.15 * torch.randn_like(x)
        return x * (torch.rand_like(x) > 0.1)

    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    y = torch.tensor(digits.target)
    order = torch.randperm(len(y))
    x, y = x[order], y[order]
    loader = DataLoader(TensorDataset(x[:1400]), batch_size=64, shuffle=True, drop_last=True)
    model = SimSiam()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=25)
    watcher = watch(model, optimizer, train=loader)
    for _epoch in range(25):
        model.train()
        for batch in loader:
            images = batch[0]
            loss = model(augment(images), augment(images))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=batch)
        scheduler.step()
        model.eval()
        with torch.no_grad():
            z = F.normalize(model.projector(model.backbone(x)), dim=1)
            spread = z.std(0).mean().item() * math.sqrt(z.shape[1])
    z = z.numpy()
    probe = LogisticRegression(max_iter=300).fit(z[:1400], y[:1400])
    return {
        "loss": loss.item(),
        "probe_accuracy": float(probe.score(z[1400:], y[1400:])),
        "spread_of_embeddings": spread,
    }


@faulty(
    "metric learning (triplets)",
    fault="cosine similarity is put where the triplet loss wants a distance: positives are pushed away from the anchor and negatives are pulled to it",
    source="https://stats.stackexchange.com/questions/580776/how-to-use-cosine-similarity-within-triplet-loss",
)
def r7_triplet_loss_with_similarity_as_distance(watch, fixed):
    """Verification of digits: do two pictures show the same one?"""

    class Triplets(Dataset):
        def __init__(self, images, labels):
            self.images, self.labels = images, labels
            self.by_class = {c: np.flatnonzero(labels == c) for c in range(10)}

        def __len__(self):
            return len(self.images)

        def __getitem__(self, i):
            c = int(self.labels[i])
            other = random.choice([k for k in range(10) if k != c])
            p, n = random.choice(self.by_class[c]), random.choice(self.by_class[other])
            return self.images[i], self.images[p], self.images[n]

    class EmbeddingNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.convnet = nn.Sequential(
                nn.Conv2d(1, 16, 3, padding=1),
                nn.PReLU(),
                nn.MaxPool2d(2),
                nn.Conv2d(16, 32, 3, padding=1),
                nn.PReLU(),
                nn.MaxPool2d(2),
            )
            self.fc = nn.Sequential(nn.Linear(128, 64), nn.PReLU(), nn.Linear(64, 16))

        def forward(self, x):
            return self.fc(self.convnet(x).flatten(1))

    class TripletLoss(nn.Module):
        def __init__(self, margin=0.4):
            super().__init__()
            self.margin = margin

        def distance(self, a, b):
            similarity = F.cosine_similarity(a, b)
            return 1 - similarity if fixed else similarity

        def forward(self, anchor, positive, negative):
            d_ap, d_an = self.distance(anchor, positive), self.distance(anchor, negative)
            return F.relu(d_ap - d_an + self.margin).mean()

    digits = load_digits()
    order = np.random.permutation(len(digits.target))
    images = torch.tensor(digits.images[order], dtype=torch.float32).unsqueeze(1) / 16
    labels = digits.target[order]
    train_loader = DataLoader(Triplets(images[:1300], labels[:1300]), batch_size=32, shuffle=True)
    val_loader = DataLoader(Triplets(images[1300:], labels[1300:]), batch_size=128)
    net, criterion = EmbeddingNet(), TripletLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    watcher = watch(net, optimizer, train=train_loader, val=val_loader)
    for _epoch in range(10):
        net.train()
        for batch in train_loader:
            a, p, n = batch
            loss = criterion(net(a), net(p), net(n))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=batch)
        net.eval()
        val_loss = 0.0
        with torch.no_grad():
            for a, p, n in val_loader:
                val_loss += criterion(net(a), net(p), net(n)).item() / len(val_loader)
        watcher.log(val_loss=val_loss)
    with torch.no_grad():
        z = F.normalize(net(images[1300:]), dim=1)
    same = labels[1300:, None] == labels[None, 1300:]
    upper = np.triu_indices(len(z), 1)
    auc = roc_auc_score(same[upper], (z @ z.T).numpy()[upper])
    return {"train_loss": loss.item(), "val_loss": val_loss, "verification_auc": float(auc)}


@faulty(
    "tabular regression",
    fault="the hidden layers are kept in a plain Python list instead of an nn.ModuleList, so they are not among model.parameters() and stay random; only the output layer learns",
    source="https://github.com/pytorch/pytorch/issues/38639, https://github.com/pytorch/pytorch/issues/666 and https://github.com/jmtomczak/intro_dgm/issues/6",
)
def r7_tabular_layers_in_a_python_list(watch, fixed):
    """An MLP with a configurable depth on a table of ten columns (Friedman's function)."""

    class MLP(nn.Module):
        def __init__(self, n_in, hidden=(128, 128, 128)):
            super().__init__()
            layers = []
            for width in hidden:
                layers.append(nn.Linear(n_in, width))
                n_in = width
            self.layers = nn.ModuleList(layers) if fixed else layers
            self.output = nn.Linear(n_in, 1)

        def forward(self, x):
            for layer in self.layers:
                x = F.relu(layer(x))
            return self.output(x).squeeze(-1)

    X = torch.rand(3000, 10)
    target = (
        10 * torch.sin(math.pi * X[:, 0] * X[:, 1])
        + 20 * (X[:, 2] - 0.5) ** 2
        + 10 * X[:, 3]
        + 5 * X[:, 4]
        + 0.5 * torch.randn(3000)
    )
    X = (X - 0.5) * math.sqrt(12)
    target = (target - target[:2400].mean()) / target[:2400].std()
    train_dl = DataLoader(TensorDataset(X[:2400], target[:2400]), batch_size=64, shuffle=True)
    valid_dl = DataLoader(TensorDataset(X[2400:], target[2400:]), batch_size=200)
    model, loss_func = MLP(10), nn.MSELoss()
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    watcher = watch(model, opt, loss_fn=loss_func, train=train_dl, val=valid_dl)
    for _epoch in range(20):
        model.train()
        for batch in train_dl:
            xb, yb = batch
            loss = loss_func(model(xb), yb)
            opt.zero_grad()
            loss.backward()
            opt.step()
            watcher.step(loss, batch=batch)
        model.eval()
        with torch.no_grad():
            mse = sum(loss_func(model(a), b).item() for a, b in valid_dl) / len(valid_dl)
        watcher.log(val_loss=mse)
    return {"train_loss": loss.item(), "val_r2": 1 - mse / target[2400:].var().item()}


@faulty(
    "tabular classification",
    fault="the columns go in raw (income in tens of thousands beside ratios between 0 and 1): the big columns drown the others, the loss is huge and jumps, and the model is little better than guessing",
    source="https://openillumi.com/en/en-pytorch-performance-fix-standardization and https://discuss.pytorch.org/t/neural-network-could-not-learn-on-this-type-of-data-why/96648",
)
def r7_tabular_raw_columns_of_unlike_scale(watch, fixed):
    """Will a customer default? Six numeric columns in their natural units."""
    g = np.random.default_rng(0)
    n = 3000
    table = {
        "income": g.lognormal(10.6, 0.5, n),
        "loan_amount": g.lognormal(9.5, 0.8, n),
        "account_balance": g.normal(4000, 6000, n),
        "age": g.uniform(18, 80, n),
        "late_payments": g.poisson(1.0, n).astype(float),
        "utilisation": g.beta(2, 3, n),
    }
    risk = (
        6.0 * (table["utilisation"] - 0.4)
        + 1.3 * (table["late_payments"] - 1)
        - 0.04 * (table["age"] - 49)
        + 1.5 * np.log(table["loan_amount"] / table["income"] / 0.33)
    )
    y = torch.tensor((risk + g.logistic(0, 0.7, n) > 0).astype(np.float32))
    X = torch.tensor(np.stack(list(table.values()), 1), dtype=torch.float32)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, random_state=0)
    if fixed:
        mean, std = X_train.mean(0), X_train.std(0)
        X_train, X_test = (X_train - mean) / std, (X_test - mean) / std

    class BinaryClassifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer_1, self.layer_2 = nn.Linear(6, 128), nn.Linear(128, 128)
            self.layer_out = nn.Linear(128, 1)
            self.dropout = nn.Dropout(0.1)

        def forward(self, x):
            x = F.relu(self.layer_1(x))
            x = self.dropout(F.relu(self.layer_2(x)))
            return self.layer_out(x)

    train_loader = DataLoader(TensorDataset(X_train, y_train), batch_size=64, shuffle=True)
    test_loader = DataLoader(TensorDataset(X_test, y_test), batch_size=256)
    model, criterion = BinaryClassifier(), nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    watcher = watch(model, optimizer, loss_fn=criterion, train=train_loader, val=test_loader)
    for _epoch in range(20):
        model.train()
        for batch in train_loader:
            X_batch, y_batch = batch
            optimizer.zero_grad()
            loss = criterion(model(X_batch), y_batch.unsqueeze(1))
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=batch)
        model.eval()
        with torch.no_grad():
            out = torch.cat([model(a) for a, _ in test_loader]).squeeze(1)
            val_loss = criterion(out, y_test).item()
            acc = ((out > 0).float() == y_test).float().mean().item()
        watcher.log(val_loss=val_loss, val_accuracy=acc)
    return {
        "train_loss": loss.item(),
        "val_loss": val_loss,
        "val_accuracy": acc,
        "val_auc": float(roc_auc_score(y_test.numpy(), out.numpy())),
    }


@faulty(
    "image classification",
    fault="one BatchNorm2d module is used after every convolution: in training each place uses its own batch's statistics, in eval mode all share one mixed running mean and variance, so validation is bad",
    source="https://github.com/HongguLiu/MesoNet-Pytorch/issues/7 and https://discuss.pytorch.org/t/model-eval-gives-incorrect-loss-for-model-with-batchnorm-layers/7561",
)
def r7_one_batchnorm_for_all_layers(watch, fixed):
    """A plain CNN on the digits whose author saved lines in __init__."""

    class ConvNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
            self.conv2 = nn.Conv2d(16, 16, 3, padding=1)
            self.conv3 = nn.Conv2d(16, 16, 3, padding=1)
            self.conv4 = nn.Conv2d(16, 16, 3, padding=1)
            self.bn = nn.BatchNorm2d(16)
            if fixed:
                self.bn2, self.bn3, self.bn4 = [nn.BatchNorm2d(16) for _ in range(3)]
            else:
                self.bn2 = self.bn3 = self.bn4 = self.bn
            self.pool, self.relu = nn.MaxPool2d(2), nn.ReLU()
            self.fc = nn.Linear(64, 10)

        def forward(self, x):
            x = self.relu(self.bn(self.conv1(x)))
            x = self.pool(self.relu(self.bn2(self.conv2(x))))
            x = self.relu(self.bn3(self.conv3(x)))
            x = self.pool(self.relu(self.bn4(self.conv4(x))))
            return self.fc(x.flatten(1))

    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1)
    y = torch.tensor(digits.target)
    order = torch.randperm(len(y))
    tr, te = order[:1300], order[1300:]
    train_loader = DataLoader(TensorDataset(x[tr], y[tr]), batch_size=32, shuffle=True)
    val_loader = DataLoader(TensorDataset(x[te], y[te]), batch_size=128)
    model, criterion = ConvNet(), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    watcher = watch(model, optimizer, loss_fn=criterion, train=train_loader, val=val_loader)
    for _epoch in range(8):
        model.train()
        right = 0
        for batch in train_loader:
            images, labels = batch
            out = model(images)
            loss = criterion(out, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=batch)
            right += (out.argmax(1) == labels).sum().item()
        model.eval()
        with torch.no_grad():
            scores = [(model(a), b) for a, b in val_loader]
            val_loss = sum(criterion(o, b).item() for o, b in scores) / len(scores)
            acc = sum((o.argmax(1) == b).sum().item() for o, b in scores) / len(te)
        watcher.log(val_loss=val_loss, val_accuracy=acc, train_accuracy=right / len(tr))
    return {"train_accuracy": right / len(tr), "val_loss": val_loss, "val_accuracy": acc}


# ---------------------------------------------------------------- sound programs


@sound("image classification")
def r7_cutmix_nesterov_warmup_cosine(watch):
    """CutMix: half of the batches are cut together from two pictures, so the training loss stays high."""

    def rand_bbox(size, lam):
        cut = math.sqrt(1 - lam)
        h, w = int(size * cut), int(size * cut)
        cy, cx = random.randrange(size), random.randrange(size)
        return (
            max(cy - h // 2, 0),
            min(cy + h // 2, size),
            max(cx - w // 2, 0),
            min(cx + w // 2, size),
        )

    class BasicBlock(nn.Module):
        def __init__(self, i, o, stride=1):
            super().__init__()
            self.conv1 = nn.Conv2d(i, o, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(o)
            self.conv2 = nn.Conv2d(o, o, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(o)
            self.shortcut = nn.Sequential()
            if stride != 1 or i != o:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o)
                )

        def forward(self, x):
            out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
            return F.relu(out + self.shortcut(x))

    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
    y = torch.tensor(digits.target)
    order = torch.randperm(len(y))
    tr, te = order[:1300], order[1300:]
    train = DataLoader(TensorDataset(x[tr], y[tr]), batch_size=32, shuffle=True, drop_last=True)
    val = DataLoader(TensorDataset(x[te], y[te]), batch_size=128)
    model = nn.Sequential(
        BasicBlock(1, 16),
        BasicBlock(16, 24, 2),
        BasicBlock(24, 32, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )
    epochs, criterion = 12, nn.CrossEntropyLoss()
    total, warmup = epochs * len(train), 2 * len(train)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.08, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda s: (
            (s + 1) / warmup
            if s < warmup
            else 0.5 * (1 + math.cos(math.pi * (s - warmup) / (total - warmup)))
        ),
    )
    watcher = watch(model, optimizer, loss_fn=criterion, train=train, val=val)
    for _epoch in range(epochs):
        model.train()
        for batch in train:
            images, target = batch
            if random.random() < 0.5:
                lam = np.random.beta(1.0, 1.0)
                perm = torch.randperm(len(images))
                y1, y2, x1, x2 = rand_bbox(8, lam)
                images = images.clone()
                images[:, :, y1:y2, x1:x2] = images[perm, :, y1:y2, x1:x2]
                lam = 1 - (y2 - y1) * (x2 - x1) / 64
                out = model(images)
                loss = lam * criterion(out, target) + (1 - lam) * criterion(out, target[perm])
            else:
                loss = criterion(model(images), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            watcher.step(loss, batch=batch)
        model.eval()
        with torch.no_grad():
            scores = [(model(a), b) for a, b in val]
            val_loss = sum(criterion(o, b).item() for o, b in scores) / len(scores)
            acc = sum((o.argmax(1) == b).sum().item() for o, b in scores) / len(te)
        watcher.log(val_loss=val_loss, val_accuracy=acc)
    return {"train_loss": loss.item(), "val_accuracy": acc}


@sound("GAN")
def r7_hinge_gan_spectral_norm(watch):
    """Hinge losses, spectral norm in the discriminator, two time scales; the generator's loss is below zero at times."""
    sn = nn.utils.spectral_norm

    class G(nn.Module):
        def __init__(self, nz=24):
            super().__init__()
            self.fc = nn.Linear(nz, 48 * 4)
            self.conv = nn.Sequential(
                nn.BatchNorm2d(48),
                nn.ReLU(),
                nn.ConvTranspose2d(48, 32, 4, 2, 1),
                nn.BatchNorm2d(32),
                nn.ReLU(),
                nn.ConvTranspose2d(32, 16, 4, 2, 1),
                nn.BatchNorm2d(16),
                nn.ReLU(),
                nn.Conv2d(16, 1, 3, padding=1),
                nn.Tanh(),
            )

        def forward(self, z):
            return self.conv(self.fc(z).view(-1, 48, 2, 2))

    class D(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(
                sn(nn.Conv2d(1, 32, 3, padding=1)),
                nn.LeakyReLU(0.1),
                sn(nn.Conv2d(32, 32, 4, 2, 1)),
                nn.LeakyReLU(0.1),
                sn(nn.Conv2d(32, 64, 4, 2, 1)),
                nn.LeakyReLU(0.1),
                nn.Flatten(),
                sn(nn.Linear(256, 1)),
            )

        def forward(self, x):
            return self.net(x)

    def frechet(a, b):
        (ma, ca), (mb, cb) = [(v.mean(0), np.cov(v.T)) for v in (a, b)]
        w, u = np.linalg.eigh(ca)
        root = (u * np.sqrt(np.clip(w, 0, None))) @ u.T
        cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ cb @ root), 0, None)).sum()
        return float(((ma - mb) ** 2).sum() + np.trace(ca) + np.trace(cb) - 2 * cross)

    images = torch.tensor(load_digits().images, dtype=torch.float32).unsqueeze(1) / 8 - 1
    loader = DataLoader(TensorDataset(images), batch_size=64, shuffle=True, drop_last=True)
    gen, dis = G(), D()
    opt_g = torch.optim.Adam(gen.parameters(), lr=1e-3, betas=(0.0, 0.9))
    opt_d = torch.optim.Adam(dis.parameters(), lr=3e-3, betas=(0.0, 0.9))
    watch_d, watch_g = watch(dis, opt_d, train=loader), watch(gen, opt_g)
    for _epoch in range(14):
        for batch in loader:
            real = batch[0]
            with torch.no_grad():
                fake = gen(torch.randn(len(real), 24))
            d_loss = F.relu(1 - dis(real)).mean() + F.relu(1 + dis(fake)).mean()
            opt_d.zero_grad()
            d_loss.backward()
            opt_d.step()
            watch_d.step(d_loss, batch=batch)
            g_loss = -dis(gen(torch.randn(len(real), 24))).mean()
            opt_g.zero_grad()
            g_loss.backward()
            opt_g.step()
            watch_g.step(g_loss)
    with torch.no_grad():
        samples = gen(torch.randn(1500, 24)).flatten(1).double().numpy()
    return {
        "d_loss": d_loss.item(),
        "g_loss": g_loss.item(),
        "frechet_distance": frechet(images.flatten(1).double().numpy(), samples),
    }


@sound("diffusion (class-conditional)")
def r7_class_conditional_diffusion_v_prediction(watch):
    """The v target, classes dropped at random for guidance, an EMA copy with a short memory that draws the samples."""
    T, null = 50, 10
    angle = (torch.arange(T) + 0.5) / T * math.pi / 2
    alpha, sigma = angle.cos(), angle.sin()

    class Net(nn.Module):
        def __init__(self, d=128):
            super().__init__()
            self.t_emb, self.c_emb = nn.Embedding(T, d), nn.Embedding(11, d)
            self.inp, self.out = nn.Linear(64, d), nn.Linear(d, 64)
            self.blocks = nn.ModuleList(
                nn.Sequential(nn.LayerNorm(d), nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d))
                for _ in range(3)
            )

        def forward(self, x, t, c):
            cond, h = self.t_emb(t) + self.c_emb(c), self.inp(x)
            for block in self.blocks:
                h = h + block(h + cond)
            return self.out(h)

    digits = load_digits()
    x = torch.tensor(digits.data, dtype=torch.float32) / 8 - 1
    y = torch.tensor(digits.target)
    loader = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True, drop_last=True)
    model = Net()
    ema = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 28 * len(loader), 1e-4)
    watcher = watch(model, optimizer, train=loader)
    for _epoch in range(28):
        for batch in loader:
            x0, c = batch
            c = torch.where(torch.rand(len(c)) < 0.15, torch.full_like(c, null), c)
            t = torch.randint(0, T, (len(x0),))
            noise = torch.randn_like(x0)
            a, s = alpha[t, None], sigma[t, None]
            loss = F.mse_loss(model(a * x0 + s * noise, t, c), a * noise - s * x0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                for p, q in zip(ema.parameters(), model.parameters(), strict=True):
                    p.lerp_(q, 0.02)
            watcher.step(loss, batch=batch)
    wanted = torch.arange(10).repeat(30)
    with torch.no_grad():
        z = torch.randn(300, 64)
        for i in reversed(range(T)):
            t = torch.full((300,), i)
            v = 2.0 * ema(z, t, wanted) - 1.0 * ema(z, t, torch.full((300,), null))
            x0 = (alpha[i] * z - sigma[i] * v).clamp(-1, 1)
            eps = (z - alpha[i] * x0) / sigma[i]
            z = alpha[i - 1] * x0 + sigma[i - 1] * eps if i else x0
    judge = LogisticRegression(max_iter=500).fit(digits.data / 8 - 1, digits.target)
    return {
        "loss": loss.item(),
        "samples_of_the_wanted_class": float(judge.score(z.numpy(), wanted.numpy())),
        "distance_to_nearest_digit": torch.cdist(z, x).min(1).values.mean().item(),
    }


@sound("variational autoencoder")
def r7_sigma_vae_loss_below_zero(watch):
    """A Gaussian likelihood with one learned noise level: the loss is a density's logarithm and goes below zero."""

    class SigmaVAE(nn.Module):
        def __init__(self, z=12):
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(64, 256), nn.ELU(), nn.Linear(256, 2 * z))
            self.decoder = nn.Sequential(
                nn.Linear(z, 256), nn.ELU(), nn.Linear(256, 64), nn.Sigmoid()
            )
            self.log_sigma = nn.Parameter(torch.zeros(()))

        def forward(self, x):
            mu, log_var = self.encoder(x).chunk(2, dim=1)
            z = mu + torch.randn_like(mu) * (0.5 * log_var).exp() if self.training else mu
            return self.decoder(z), mu, log_var

        def loss(self, x):
            recon, mu, log_var = self(x)
            log_sigma = -5 + F.softplus(self.log_sigma + 5)  # soft lower bound
            nll = (
                0.5 * ((x - recon) / log_sigma.exp()) ** 2 + log_sigma + 0.5 * math.log(2 * math.pi)
            )
            kl = -0.5 * (1 + log_var - mu**2 - log_var.exp())
            return nll.sum(1).mean() + kl.sum(1).mean()

    data = torch.tensor(load_digits().data, dtype=torch.float32) / 16
    data = data[torch.randperm(len(data))]
    train = DataLoader(TensorDataset(data[:1500]), batch_size=50, shuffle=True)
    model = SigmaVAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    watcher = watch(model, optimizer, train=train)
    for _epoch in range(25):
        model.train()
        for batch in train:
            loss = model.loss(batch[0])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=batch)
        model.eval()
        with torch.no_grad():
            val_loss = model.loss(data[1500:]).item()
        watcher.log(val_loss=val_loss)
    with torch.no_grad():
        rmse = (model(data[1500:])[0] - data[1500:]).pow(2).mean().sqrt().item()
    return {"loss": loss.item(), "val_loss": val_loss, "pixel_rmse": rmse}


@sound("domain adaptation")
def r7_dann_gradient_reversal(watch):
    """Labels only for the source; the domain classifier is to be fooled, so its loss hovers about 0.69."""

    class GradReverse(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, lam):
            ctx.lam = lam
            return x.view_as(x)

        @staticmethod
        def backward(ctx, grad):
            return -ctx.lam * grad, None

    class DANN(nn.Module):
        def __init__(self):
            super().__init__()
            self.feature = nn.Sequential(
                nn.Conv2d(1, 16, 3, padding=1),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Conv2d(16, 32, 3, padding=1),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Flatten(),
                nn.Linear(128, 64),
                nn.ReLU(),
            )
            self.class_classifier = nn.Linear(64, 10)
            self.domain_classifier = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2))

        def forward(self, x, lam=0.0):
            h = self.feature(x)
            return self.class_classifier(h), self.domain_classifier(GradReverse.apply(h, lam))

    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    y = torch.tensor(digits.target)
    order = torch.randperm(len(y))
    src, tgt = order[:900], order[900:]
    other = 0.2 + 0.7 * x + 0.08 * torch.randn(len(x), 1, 8, 8)  # another scanner
    source = DataLoader(TensorDataset(x[src], y[src]), batch_size=32, shuffle=True, drop_last=True)
    target = DataLoader(TensorDataset(other[tgt]), batch_size=32, shuffle=True, drop_last=True)
    model = DANN()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9, weight_decay=1e-4)
    ce = nn.CrossEntropyLoss()
    watcher = watch(model, optimizer, train=source)
    epochs, step = 22, 0
    for _epoch in range(epochs):
        model.train()
        for batch, (xt,) in zip(source, target, strict=False):
            xs, ys = batch
            p = step / (epochs * len(source))
            lam = 2 / (1 + math.exp(-10 * p)) - 1
            for group in optimizer.param_groups:
                group["lr"] = 0.03 / (1 + 10 * p) ** 0.75
            class_s, domain_s = model(xs, lam)
            _, domain_t = model(xt, lam)
            domain = ce(domain_s, torch.zeros(len(xs), dtype=torch.long)) + ce(
                domain_t, torch.ones(len(xt), dtype=torch.long)
            )
            loss = ce(class_s, ys) + domain / 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=batch)
            step += 1
        model.eval()
        with torch.no_grad():
            acc_t = (model(other[tgt])[0].argmax(1) == y[tgt]).float().mean().item()
        watcher.log(target_accuracy=acc_t, domain_loss=domain.item() / 2)
    return {"loss": loss.item(), "domain_loss": domain.item() / 2, "target_accuracy": acc_t}


@sound("metric learning (few-shot)")
def r7_prototypical_network_episodes(watch):
    """Each batch is an episode of five classes, ten pictures each in order; the classes change every time."""

    class EpisodeSampler:
        def __init__(self, labels, ways, per_class, episodes):
            self.rows = [np.flatnonzero(labels == c) for c in np.unique(labels)]
            self.ways, self.per_class, self.episodes = ways, per_class, episodes

        def __len__(self):
            return self.episodes

        def __iter__(self):
            for _ in range(self.episodes):
                chosen = random.sample(self.rows, self.ways)
                yield np.concatenate(
                    [np.random.choice(r, self.per_class, replace=False) for r in chosen]
                ).tolist()

    g = np.random.default_rng(0)
    glyphs = (g.random((40, 5, 5)) < 0.45).astype(np.float32)  # 40 alphabetic signs
    pictures, labels = [], []
    for c in range(40):
        for _ in range(30):
            canvas = np.zeros((10, 10), np.float32)
            dy, dx = g.integers(2, 5, 2)
            canvas[dy : dy + 5, dx : dx + 5] = glyphs[c] * g.uniform(0.7, 1.3)
            pictures.append(canvas + 0.12 * g.standard_normal((10, 10)))
            labels.append(c)
    x = torch.tensor(np.stack(pictures), dtype=torch.float32).unsqueeze(1)
    labels = np.array(labels)
    known, novel = labels < 30, labels >= 30
    make = lambda rows, n: DataLoader(
        TensorDataset(x[rows], torch.tensor(labels[rows])),
        batch_sampler=EpisodeSampler(labels[rows], 5, 10, n),
    )
    train, test = make(known, 50), make(novel, 40)

    def conv_block(i, o):
        return nn.Sequential(
            nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(), nn.MaxPool2d(2)
        )

    encoder = nn.Sequential(conv_block(1, 32), conv_block(32, 32), nn.Flatten())

    def episode_loss(images, shots=5):
        z = encoder(images).view(5, 10, -1)
        prototypes, query = z[:, :shots].mean(1), z[:, shots:].reshape(5 * (10 - shots), -1)
        logits = -(torch.cdist(query, prototypes) ** 2)
        truth = torch.arange(5).repeat_interleave(10 - shots)
        return F.cross_entropy(logits, truth), (logits.argmax(1) == truth).float().mean().item()

    optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.5)
    watcher = watch(encoder, optimizer, train=train, val=test)
    for _epoch in range(12):
        encoder.train()
        for batch in train:
            loss, _ = episode_loss(batch[0])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=batch)
        scheduler.step()
        encoder.eval()
        with torch.no_grad():
            results = [episode_loss(b[0]) for b in test]
        acc = sum(r[1] for r in results) / len(results)
        watcher.log(val_loss=sum(r[0].item() for r in results) / len(results), val_accuracy=acc)
    return {"train_loss": loss.item(), "novel_class_accuracy": acc}


@sound("self-supervised learning (Barlow Twins)")
def r7_barlow_twins_on_digits(watch):
    """The cross-correlation of two views is drawn to the identity; a linear probe at the end."""

    class BarlowTwins(nn.Module):
        def __init__(self, d=64, lambd=0.02):
            super().__init__()
            self.backbone = nn.Sequential(
                nn.Conv2d(1, 16, 3, padding=1, bias=False),
                nn.BatchNorm2d(16),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Conv2d(16, 32, 3, padding=1, bias=False),
                nn.BatchNorm2d(32),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Flatten(),
            )
            self.projector = nn.Sequential(
                nn.Linear(128, 128, bias=False), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, d)
            )
            self.bn, self.lambd = nn.BatchNorm1d(d, affine=False), lambd

        def forward(self, y1, y2):
            z1, z2 = self.projector(self.backbone(y1)), self.projector(self.backbone(y2))
            c = self.bn(z1).T @ self.bn(z2) / len(z1)
            on_diag = (torch.diagonal(c) - 1).pow(2).sum()
            off_diag = (c - torch.diag(torch.diagonal(c))).pow(2).sum()
            return on_diag + self.lambd * off_diag

    class TwoViews(Dataset):
        def __init__(self, images):
            self.images = images

        def __len__(self):
            return len(self.images)

        def view(self, image):
            dy, dx = random.randint(0, 2), random.randint(0, 2)
            image = F.pad(image, (1, 1, 1, 1))[:, dy : dy + 8, dx : dx + 8]
            return image * random.uniform(0.7, 1.3) + 0.1 * torch.randn_like(image)

        def __getitem__(self, i):
            return self.view(self.images[i]), self.view(self.images[i])

    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    y = digits.target
    order = np.random.permutation(len(y))
    x, y = x[order], y[order]
    loader = DataLoader(TwoViews(x[:1400]), batch_size=128, shuffle=True, drop_last=True)
    model = BarlowTwins()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, weight_decay=1e-5)
    watcher = watch(model, optimizer, train=loader)
    for _epoch in range(24):
        for batch in loader:
            loss = model(*batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=batch)
    model.eval()
    with torch.no_grad():
        h = model.backbone(x).numpy()
    probe = LogisticRegression(max_iter=1000).fit(h[:300], y[:300])
    return {
        "loss": loss.item(),
        "probe_accuracy_300_labels": float(probe.score(h[1400:], y[1400:])),
    }


@sound("object detection (keypoint heatmaps)")
def r7_centernet_heatmap_and_offsets(watch):
    """Centres as Gaussian heatmaps with the penalty-reduced focal loss; sums divided by the number of objects."""

    class Blobs(Dataset):
        def __init__(self, n, seed):
            g = np.random.default_rng(seed)
            yy, xx = np.mgrid[0:24, 0:24]
            hy, hx = np.mgrid[0:12, 0:12]
            self.rows = []
            for _ in range(n):
                image = 0.15 * g.standard_normal((24, 24))
                heat = np.zeros((2, 12, 12))
                off, reg = np.zeros((2, 12, 12)), np.zeros((1, 12, 12))
                for _ in range(g.integers(1, 4)):
                    cy, cx = g.uniform(3, 21, 2)
                    k = int(g.integers(0, 2))
                    r = np.maximum(abs(yy - cy), abs(xx - cx)) if k else np.hypot(yy - cy, xx - cx)
                    image = np.where((r < 3) & (r > 1.2 if k else True), 1.0, image)
                    i, j = int(cy / 2), int(cx / 2)
                    bump = np.exp(-((hy - i) ** 2 + (hx - j) ** 2) / 2)
                    heat[k] = np.maximum(heat[k], bump)
                    off[:, i, j], reg[0, i, j] = (cy / 2 - i, cx / 2 - j), 1
                arrays = (image[None], heat, off, reg)
                self.rows.append([torch.tensor(a, dtype=torch.float32) for a in arrays])

        def __len__(self):
            return len(self.rows)

        def __getitem__(self, i):
            image, heat, off, reg = self.rows[i]
            return {"input": image, "hm": heat, "reg": off, "reg_mask": reg}

    class CenterNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(1, 16, 3, padding=1),
                nn.BatchNorm2d(16),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Conv2d(16, 32, 3, padding=1),
                nn.BatchNorm2d(32),
                nn.ReLU(),
                nn.Conv2d(32, 32, 3, padding=1),
                nn.BatchNorm2d(32),
                nn.ReLU(),
            )
            self.hm, self.reg = nn.Conv2d(32, 2, 1), nn.Conv2d(32, 2, 1)
            nn.init.constant_(self.hm.bias, -2.19)

        def forward(self, x):
            h = self.body(x)
            return self.hm(h).sigmoid().clamp(1e-4, 1 - 1e-4), self.reg(h)

    def criterion(out, batch):
        hm, reg = out
        gt = batch["hm"]
        pos = gt.eq(1).float()
        pos_loss = torch.log(hm) * (1 - hm).pow(2) * pos
        neg_loss = torch.log(1 - hm) * hm.pow(2) * (1 - gt).pow(4) * (1 - pos)
        mask = batch["reg_mask"]
        offset = (mask * (reg - batch["reg"]).abs()).sum() / (2 * mask.sum() + 1e-4)
        return -(pos_loss.sum() + neg_loss.sum()) / pos.sum().clamp(min=1) + offset

    train = DataLoader(Blobs(800, 0), batch_size=16, shuffle=True)
    val = DataLoader(Blobs(160, 1), batch_size=32)
    model = CenterNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [6, 8], gamma=0.2)
    watcher = watch(model, optimizer, train=train, val=val)
    for _epoch in range(9):
        model.train()
        for batch in train:
            loss = criterion(model(batch["input"]), batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=batch)
        scheduler.step()
        model.eval()
        val_loss = found = objects = claimed = 0.0
        with torch.no_grad():
            for batch in val:
                hm, reg = out = model(batch["input"])
                val_loss += criterion(out, batch).item() / len(val)
                peak = (hm == F.max_pool2d(hm, 3, 1, 1)) & (hm > 0.3)
                truth = batch["hm"].eq(1)
                found += (peak & truth).sum().item()
                objects += truth.sum().item()
                claimed += peak.sum().item()
        f1 = 2 * found / (objects + claimed)
        watcher.log(val_loss=val_loss, val_f1=f1)
    return {"train_loss": loss.item(), "val_loss": val_loss, "val_f1_exact_cell": f1}


@sound("image denoising (Noise2Noise)")
def r7_noise2noise_denoiser(watch):
    """Both input and target are noisy; the loss stops at the noise's variance and the network is good nevertheless."""

    class Noise2Noise(Dataset):
        def __init__(self, clean, sigma=0.3):
            self.clean, self.sigma = clean, sigma

        def __len__(self):
            return len(self.clean)

        def __getitem__(self, i):
            c = self.clean[i]
            return c + self.sigma * torch.randn_like(c), c + self.sigma * torch.randn_like(c)

    def scenes(n):
        yy, xx = torch.meshgrid(torch.arange(20.0), torch.arange(20.0), indexing="ij")
        out = torch.rand(n, 1, 1, 1).expand(n, 1, 20, 20).clone()
        for _ in range(4):
            c = torch.rand(n, 2, 1, 1) * 20
            r = torch.rand(n, 1, 1) * 4 + 2
            inside = ((yy - c[:, 0]) ** 2 + (xx - c[:, 1]) ** 2 < r**2).unsqueeze(1)
            out = torch.where(inside, torch.rand(n, 1, 1, 1), out)
        return out

    clean_val = scenes(64)
    noisy_val = clean_val + 0.3 * torch.randn_like(clean_val)
    train = DataLoader(Noise2Noise(scenes(640)), batch_size=16, shuffle=True)
    val = DataLoader(TensorDataset(noisy_val, clean_val), batch_size=32)
    layers = [nn.Conv2d(1, 24, 3, padding=1), nn.ReLU()]
    for _ in range(3):
        layers += [nn.Conv2d(24, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Conv2d(24, 1, 3, padding=1))
    optimizer, criterion = torch.optim.Adam(net.parameters(), lr=2e-3), nn.MSELoss()
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.85)
    watcher = watch(net, optimizer, loss_fn=criterion, train=train, val=val)
    for _epoch in range(10):
        net.train()
        for batch in train:
            loss = criterion(net(batch[0]), batch[1])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=batch)
        scheduler.step()
        net.eval()
        with torch.no_grad():
            mse = sum(criterion(net(a), b).item() for a, b in val) / len(val)
        watcher.log(val_loss=mse, val_psnr=-10 * math.log10(mse))
    return {
        "train_loss": loss.item(),
        "psnr": -10 * math.log10(mse),
        "psnr_of_noisy_input": -10 * math.log10((noisy_val - clean_val).pow(2).mean().item()),
    }


@sound("tabular classification (FT-Transformer)")
def r7_ft_transformer_on_mixed_columns(watch):
    """A token per column, no weight decay on biases and embeddings, label smoothing, clipping."""
    g = np.random.default_rng(0)
    n = 2600
    num = g.standard_normal((n, 6)).astype(np.float32)
    cat = np.stack([g.integers(0, k, n) for k in (4, 7, 3)], 1)
    effect = g.standard_normal((7,)) * 1.5
    score = (
        2 * num[:, 0] * (cat[:, 0] % 2 * 2 - 1)
        + effect[cat[:, 1]]
        + 1.5 * np.abs(num[:, 1])
        - 1.2
        + num[:, 2] * (cat[:, 2] == 1)
        + 0.4 * g.standard_normal(n)
    )
    label = np.digitize(score, np.quantile(score, [1 / 3, 2 / 3]))

    class FTTransformer(nn.Module):
        def __init__(self, n_num, cardinalities, d=32, classes=3):
            super().__init__()
            self.num_weight = nn.Parameter(torch.randn(n_num, d) / math.sqrt(d))
            self.num_bias = nn.Parameter(torch.zeros(n_num, d))
            self.cat_emb = nn.ModuleList(nn.Embedding(c, d) for c in cardinalities)
            self.cls = nn.Parameter(torch.randn(1, 1, d) / math.sqrt(d))
            layer = nn.TransformerEncoderLayer(
                d, 4, 2 * d, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
            )
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, classes)

        def forward(self, x_num, x_cat):
            tokens = x_num.unsqueeze(-1) * self.num_weight + self.num_bias
            cats = torch.stack([e(x_cat[:, i]) for i, e in enumerate(self.cat_emb)], 1)
            h = torch.cat([self.cls.expand(len(x_num), -1, -1), tokens, cats], 1)
            return self.head(self.norm(self.encoder(h)[:, 0]))

    tensors = [torch.tensor(num), torch.tensor(cat), torch.tensor(label)]
    train = DataLoader(TensorDataset(*[t[:2000] for t in tensors]), batch_size=64, shuffle=True)
    val = DataLoader(TensorDataset(*[t[2000:] for t in tensors]), batch_size=200)
    model = FTTransformer(6, (4, 7, 3))
    plain = [
        p for k, p in model.named_parameters() if k.endswith("bias") or "emb" in k or "norm" in k
    ]
    held = {id(p) for p in plain}
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in model.parameters() if id(p) not in held], "weight_decay": 0.01},
            {"params": plain, "weight_decay": 0.0},
        ],
        lr=2e-3,
    )
    epochs = 18
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=2e-3, total_steps=epochs * len(train), pct_start=0.15
    )
    criterion = nn.CrossEntropyLoss(label_smoothing=0.05)
    watcher = watch(model, optimizer, loss_fn=criterion, train=train, val=val)
    for _epoch in range(epochs):
        model.train()
        for batch in train:
            x_num, x_cat, target = batch
            loss = criterion(model(x_num, x_cat), target)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            watcher.step(loss, batch=batch)
        model.eval()
        with torch.no_grad():
            scores = [(model(a, b), t) for a, b, t in val]
            val_loss = sum(criterion(o, t).item() for o, t in scores) / len(scores)
            acc = sum((o.argmax(1) == t).sum().item() for o, t in scores) / 600
        watcher.log(val_loss=val_loss, val_accuracy=acc)
    return {"train_loss": loss.item(), "val_accuracy": acc}


@sound("multi-task vision")
def r7_uncertainty_weighted_class_and_angle(watch):
    """Two tasks weighed by learned uncertainties (with their logarithms in the loss, which goes below zero)."""

    class RotatedDigits(Dataset):
        def __init__(self, images, labels):
            self.images, self.labels = images, labels

        def __len__(self):
            return len(self.labels)

        def __getitem__(self, i):
            a = random.uniform(-0.6, 0.6)
            theta = torch.tensor(
                [[math.cos(a), -math.sin(a), 0.0], [math.sin(a), math.cos(a), 0.0]]
            )
            grid = F.affine_grid(theta[None], (1, 1, 12, 12), align_corners=False)
            return (
                F.grid_sample(self.images[i][None], grid, align_corners=False)[0],
                self.labels[i],
                a,
            )

    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk = nn.Sequential(
                nn.Conv2d(1, 16, 3, padding=1),
                nn.BatchNorm2d(16),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Conv2d(16, 32, 3, padding=1),
                nn.BatchNorm2d(32),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Flatten(),
                nn.Linear(288, 64),
                nn.ReLU(),
            )
            self.classify, self.angle = nn.Linear(64, 10), nn.Linear(64, 1)
            self.log_vars = nn.Parameter(torch.zeros(2))

        def forward(self, x):
            h = self.trunk(x)
            return self.classify(h), self.angle(h).squeeze(1)

        def loss(self, x, label, angle):
            logits, predicted = self(x)
            s = self.log_vars
            return (
                torch.exp(-s[0]) * F.cross_entropy(logits, label)
                + 0.5 * s[0]
                + 0.5 * torch.exp(-s[1]) * F.mse_loss(predicted, angle.float())
                + 0.5 * s[1]
            )

    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    images = F.interpolate(images, size=12, mode="bilinear", align_corners=False) * 2 - 0.6
    labels = torch.tensor(digits.target)
    order = torch.randperm(len(labels))
    tr, te = order[:1400], order[1400:]
    train = DataLoader(RotatedDigits(images[tr], labels[tr]), batch_size=32, shuffle=True)
    val = DataLoader(RotatedDigits(images[te], labels[te]), batch_size=100)
    model = TwoHeads()
    optimizer = torch.optim.Adam(
        [
            {"params": [p for k, p in model.named_parameters() if k != "log_vars"]},
            {"params": [model.log_vars], "lr": 1e-2},
        ],
        lr=2e-3,
    )
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=2)
    watcher = watch(model, optimizer, train=train, val=val)
    for _epoch in range(16):
        model.train()
        for batch in train:
            loss = model.loss(*batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=batch)
        model.eval()
        val_loss = right = error = 0.0
        with torch.no_grad():
            for x, label, angle in val:
                val_loss += model.loss(x, label, angle).item() / len(val)
                logits, predicted = model(x)
                right += (logits.argmax(1) == label).sum().item() / len(te)
                error += (predicted - angle).abs().sum().item() / len(te)
        scheduler.step(val_loss)
        watcher.log(val_loss=val_loss, val_accuracy=right)
    return {"train_loss": loss.item(), "val_accuracy": right, "mean_angle_error": error}


@sound("transfer learning (prompt tuning, BitFit)")
def r7_visual_prompts_and_biases(watch):
    """A frozen ViT; only prompt tokens, biases and a new head learn, for digits of another scanner."""

    class ViT(nn.Module):
        def __init__(self, d=48, depth=2):
            super().__init__()
            self.patch_embed = nn.Conv2d(1, d, 2, 2)
            self.pos_embed = nn.Parameter(torch.randn(1, 17, d) * 0.02)
            self.cls_token = nn.Parameter(torch.zeros(1, 1, d))
            self.blocks = nn.ModuleList(
                nn.TransformerEncoderLayer(
                    d, 4, 2 * d, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
                )
                for _ in range(depth)
            )
            self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, 10)

        def embed(self, x):
            t = self.patch_embed(x).flatten(2).transpose(1, 2)
            return torch.cat([self.cls_token.expand(len(x), -1, -1), t], 1) + self.pos_embed

        def forward(self, x):
            t = self.embed(x)
            for block in self.blocks:
                t = block(t)
            return self.head(self.norm(t[:, 0]))

    class PromptedViT(nn.Module):
        def __init__(self, vit, n_prompts=10):
            super().__init__()
            vit.head = nn.Identity()
            self.vit, self.n = vit, n_prompts
            for name, p in vit.named_parameters():
                p.requires_grad = name.endswith("bias")
            d = vit.pos_embed.shape[-1]
            self.prompts = nn.Parameter(torch.randn(len(vit.blocks), n_prompts, d) * 0.1)
            self.head = nn.Linear(d, 10)

        def forward(self, x):
            t = self.vit.embed(x)
            for block, prompt in zip(self.vit.blocks, self.prompts, strict=True):
                t = torch.cat([t[:, :1], prompt.expand(len(x), -1, -1), t[:, 1:]], 1)
                t = block(t)
                t = torch.cat([t[:, :1], t[:, 1 + self.n :]], 1)
            return self.head(self.vit.norm(t[:, 0]))

        def train(self, mode=True):
            super().train(mode)
            self.vit.eval()
            return self

    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
    y = torch.tensor(digits.target)
    order = torch.randperm(len(y))
    pre, tr, te = order[:800], order[800:1500], order[1500:]
    vit = ViT()
    opt = torch.optim.AdamW(vit.parameters(), lr=2e-3)
    for _ in range(16):  # "pretrained"
        for idx in pre[torch.randperm(len(pre))].split(32):
            loss = F.cross_entropy(vit(x[idx]), y[idx])
            opt.zero_grad()
            loss.backward()
            opt.step()
    other = 0.6 * x - 0.3 + 0.15 * torch.randn(len(x), 1, 8, 8)
    train = DataLoader(TensorDataset(other[tr], y[tr]), batch_size=32, shuffle=True, drop_last=True)
    val = DataLoader(TensorDataset(other[te], y[te]), batch_size=100)
    model = PromptedViT(vit)
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=5e-3, weight_decay=1e-2
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
    criterion = nn.CrossEntropyLoss()
    watcher = watch(model, optimizer, loss_fn=criterion, train=train, val=val)
    for _epoch in range(20):
        model.train()
        for batch in train:
            loss = criterion(model(batch[0]), batch[1])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=batch)
        scheduler.step()
        model.eval()
        with torch.no_grad():
            scores = [(model(a), b) for a, b in val]
            val_loss = sum(criterion(o, b).item() for o, b in scores) / len(scores)
            acc = sum((o.argmax(1) == b).sum().item() for o, b in scores) / len(te)
        watcher.log(val_loss=val_loss, val_accuracy=acc)
    return {"train_loss": loss.item(), "val_accuracy": acc}
