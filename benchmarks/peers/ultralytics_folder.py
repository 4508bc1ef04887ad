"""Ultralytics: a folder → a saved classifier. Usage: ultralytics_folder.py FOLDER EPOCHS HOW OUT

Its own ResNet-18 (yolo11-cls-resnet18.yaml: torchvision's, with the head of YOLO11), not
pretrained, at its documented defaults: optimizer "auto", RandAugment, erasing. HOW is "plain", or
"knowing": images kept in memory, channels_last. Its bfloat16 is refused without CUDA.
"""

import json
import os
import sys
from pathlib import Path
from shutil import copy
from tempfile import mkdtemp

folder, epochs, how, out = sys.argv[1:]
place = Path(mkdtemp())
# Nothing is asked of the network, nothing is written into the user's settings.
os.environ |= {"YOLO_OFFLINE": "true", "YOLO_CONFIG_DIR": str(place), "YOLO_VERBOSE": "false"}

import torch  # noqa: E402 (the settings above are read on import)
from ultralytics import YOLO, settings  # noqa: E402

settings.update({"sync": False})
RESNET = """
nc: 1000
backbone:
  - [-1, 1, TorchVision, [512, resnet18, null, True, 2]]
head:
  - [-1, 1, Classify, [nc]]
"""
shape = place / "resnet18-cls.yaml"
shape.write_text(RESNET, encoding="utf-8")
for cache in Path(folder).glob("*.cache"):
    cache.unlink()  # what an earlier run verified
knowing = {"cache": "ram"} if how == "knowing" else {}


def in_channels_last(trainer):
    trainer.model.to(memory_format=torch.channels_last)


model = YOLO(shape, task="classify")
if how == "knowing":
    model.add_callback("on_train_start", in_channels_last)
found = model.train(
    data=folder,
    epochs=int(epochs),
    imgsz=128,
    batch=64,
    workers=2,
    device="cpu",
    pretrained=False,
    plots=False,
    verbose=False,
    project=str(place),
    name="run",
    **knowing,
)
copy(place / "run" / "weights" / "best.pt", out)
print(json.dumps({"accuracy": float(found.top1)}))
