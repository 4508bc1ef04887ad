"""A raw indexed loop, Lightning and fastai: µs a step. Usage: step_overhead.py STEPS ROUNDS

The work of benchmarks/step_overhead.py: a 784-128-10 network, batches of 32 from tensors in memory,
SGD with momentum; one thread. Progress bars, loggers and checkpoints are off in both.
"""

import json
import logging
import sys
import warnings
from time import process_time

import fastai.callback.all  # noqa: F401  (gives Learner its contexts)
import lightning
import torch
import torch.nn.functional as F
from fastai.data.all import DataLoaders
from fastai.learner import Learner
from fastai.optimizer import SGD
from torch.utils.data import DataLoader, TensorDataset

warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
steps, rounds = map(int, sys.argv[1:])
torch.set_num_threads(1)
torch.manual_seed(0)
SAMPLES, BATCH = 8192, 32
inputs, targets = torch.randn(SAMPLES, 784), torch.randint(10, (SAMPLES,))
epochs = max(1, steps * BATCH // SAMPLES)
steps = epochs * SAMPLES // BATCH


def network():
    return torch.nn.Sequential(torch.nn.Linear(784, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))


def raw():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for _ in range(epochs):
        for picked in torch.randperm(SAMPLES).split(BATCH):
            loss = F.cross_entropy(model(inputs[picked]), targets[picked])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = network()

    def training_step(self, batch, index):
        return F.cross_entropy(self.model(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)


def with_lightning():
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(Module(), DataLoader(TensorDataset(inputs, targets), BATCH, shuffle=True))


def with_fastai():
    train = DataLoader(TensorDataset(inputs, targets), BATCH, shuffle=True)
    none = DataLoader(TensorDataset(inputs[:32], targets[:32]), BATCH)
    learner = Learner(
        DataLoaders(train, none), network(), loss_func=F.cross_entropy, opt_func=SGD, lr=0.01
    )
    with learner.no_bar(), learner.no_logging():
        learner.fit(epochs)


contestants = {"raw": raw, "lightning": with_lightning, "fastai": with_fastai}
seconds = {name: [] for name in contestants}
for turn in range(rounds + 1):
    for name, run in contestants.items():
        begin = process_time()
        run()
        if turn:  # the first of each fills caches
            seconds[name].append(process_time() - begin)
figures = {name: sorted(s)[len(s) // 2] / steps * 1e6 for name, s in seconds.items()}
print(json.dumps(figures))
