"""fastai: a folder → an exported model. Usage: fastai_folder.py FOLDER EPOCHS plain|knowing OUT"""

import json
import sys
from pathlib import Path

from fastai.vision.all import (
    ImageDataLoaders,
    Normalize,
    RandomResizedCrop,
    accuracy,
    aug_transforms,
    imagenet_stats,
    resnet18,
    vision_learner,
)

folder, epochs, how, out = sys.argv[1:]
loaders = ImageDataLoaders.from_folder(
    Path(folder),
    train="train",
    valid="val",
    bs=64,
    num_workers=2,
    item_tfms=RandomResizedCrop(128, min_scale=0.35),
    batch_tfms=[*aug_transforms(max_rotate=0, max_warp=0), Normalize.from_stats(*imagenet_stats)],
)
learner = vision_learner(loaders, resnet18, pretrained=False, metrics=accuracy)
if how == "knowing":
    learner.to_channelslast(use_amp=False)  # its bfloat16 is for GPUs only
with learner.no_bar(), learner.no_logging():
    learner.fit_one_cycle(int(epochs), 3e-3)
learner.export(out)
print(json.dumps({"accuracy": float(learner.validate()[1])}))
