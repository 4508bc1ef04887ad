"""Lightning with torchvision's ImageFolder: a folder → a checkpoint.

Usage: lightning_folder.py FOLDER EPOCHS plain|knowing OUT
"""

import json
import sys
import warnings
from pathlib import Path

import lightning
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torchvision import models, transforms
from torchvision.datasets import ImageFolder

warnings.filterwarnings("ignore")
folder, epochs, how, out = sys.argv[1:]
knowing = how == "knowing"
normalise = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Classifier(lightning.LightningModule):
    def __init__(self, classes):
        super().__init__()
        self.model = models.resnet18(num_classes=classes)
        if knowing:
            self.model = self.model.to(memory_format=torch.channels_last)

    def forward(self, images):
        return self.model(images)

    def training_step(self, batch, index):
        images, targets = batch
        return F.cross_entropy(self(images), targets)

    def validation_step(self, batch, index):
        images, targets = batch
        self.log("accuracy", (self(images).argmax(1) == targets).float().mean())

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(
            self.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True
        )
        steps = self.trainer.estimated_stepping_batches
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def loader(split, *steps, shuffle):
    data = ImageFolder(Path(folder) / split, transforms.Compose([*steps, normalise]))
    return DataLoader(data, 64, shuffle=shuffle, num_workers=2, persistent_workers=True)


if __name__ == "__main__":
    train = loader(
        "train",
        transforms.RandomResizedCrop(128, scale=(0.35, 1.0)),
        transforms.RandomHorizontalFlip(),
        transforms.ColorJitter(0.2, 0.2, 0.2),
        transforms.ToTensor(),
        shuffle=True,
    )
    val = loader(
        "val",
        transforms.Resize(128),
        transforms.CenterCrop(128),
        transforms.ToTensor(),
        shuffle=False,
    )
    trainer = lightning.Trainer(
        max_epochs=int(epochs),
        accelerator="cpu",
        precision="bf16-mixed" if knowing else "32-true",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    model = Classifier(len(train.dataset.classes))
    trainer.fit(model, train, val)
    trainer.save_checkpoint(out)
    print(json.dumps({"accuracy": float(trainer.callback_metrics["accuracy"])}))
