"""Images a second that timm or Lightning trains at, from a folder of JPEGs: the second epoch's.

Usage: photographs.py timm|lightning FOLDER '{"model":…,"size":…,"batch":…,"device":…,"workers":…}'
timm as its train.py sets it up with --amp --amp-dtype bfloat16 --channels-last; Lightning with
torchvision's ImageFolder, bf16-mixed and channels_last.
"""

import json
import sys
import warnings
from pathlib import Path
from time import perf_counter

import torch
import torch.nn.functional as F

warnings.filterwarnings("ignore")
who, folder, shape = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
size, batch, device, workers = (shape[key] for key in ("size", "batch", "device", "workers"))
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EPOCHS = 2


def timed_timm():
    import timm
    from timm.data import create_dataset, create_loader

    data = create_dataset("", root=str(folder), split="train")
    loader = create_loader(
        data,
        input_size=(3, size, size),
        batch_size=batch,
        is_training=True,
        use_prefetcher=device == "cuda",
        mean=MEAN,
        std=STD,
        num_workers=workers,
        scale=(0.35, 1.0),
        color_jitter=None,
        interpolation="bilinear",
        persistent_workers=True,
        device=torch.device(device),
    )
    classes = len(data.reader.class_to_idx)
    model = timm.create_model(shape["model"], num_classes=classes).to(device)
    model = model.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    for _ in range(EPOCHS):
        begin, seen = now(), 0
        for loaded in loader:
            images, targets = (tensor.to(device, non_blocking=True) for tensor in loaded)
            with torch.autocast(device, torch.bfloat16):
                outputs = model(images.contiguous(memory_format=torch.channels_last))
                loss = F.cross_entropy(outputs, targets)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            seen += len(targets)
    return seen / (now() - begin)


def timed_lightning():
    import lightning
    from torch.utils.data import DataLoader
    from torchvision import models, transforms
    from torchvision.datasets import ImageFolder

    class Classifier(lightning.LightningModule):
        def __init__(self, classes):
            super().__init__()
            self.model = getattr(models, shape["model"])(num_classes=classes)
            self.model = self.model.to(memory_format=torch.channels_last)

        def training_step(self, batch, index):
            images, targets = batch
            images = images.to(memory_format=torch.channels_last)
            return F.cross_entropy(self.model(images), targets)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, nesterov=True)

    class Clock(lightning.Callback):
        def on_train_epoch_start(self, trainer, module):
            self.begin = now()

        def on_train_epoch_end(self, trainer, module):
            self.seconds = now() - self.begin

    steps = [
        transforms.RandomResizedCrop(size, scale=(0.35, 1.0)),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ]
    data = ImageFolder(folder / "train", transforms.Compose(steps))
    loader = DataLoader(
        data,
        batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=True,
        pin_memory=device == "cuda",
    )
    clock = Clock()
    trainer = lightning.Trainer(
        max_epochs=EPOCHS,
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        precision="bf16-mixed",
        callbacks=[clock],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(Classifier(len(data.classes)), loader)
    return len(loader) * batch / clock.seconds


def now():
    if device == "cuda":
        torch.cuda.synchronize()
    return perf_counter()


if __name__ == "__main__":
    rate = timed_timm() if who == "timm" else timed_lightning()
    print(json.dumps({"rate": rate}))
