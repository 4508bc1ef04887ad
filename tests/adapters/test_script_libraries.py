"""Trainings in other libraries, without their callbacks, watched as `thalweg run` does."""

import warnings
from typing import Any

import pytest
import torch
from adapters.digits import BATCH, library, loaders, lr_of, network, train_set, val_set
from torch.nn import functional as F

from thalweg.adapters.script import watch_everything

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own advice


def lightning(fault, folder):
    pl = library("lightning.pytorch", "lightning")
    base: Any = pl.LightningModule

    class Module(base):
        def __init__(self):
            super().__init__()
            self.net = network(fault)

        def training_step(self, batch, _):
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def validation_step(self, batch, _):
            self.net(batch[0])

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=lr_of(fault))

    module = Module()
    trainer = pl.Trainer(
        max_epochs=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    trainer.fit(module, *loaders(fault))
    return module.net


def transformers(fault, folder):
    hf = library("transformers", "transformers")
    outputs = library("transformers.modeling_outputs", "transformers")

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network(fault)

        def forward(self, pixel_values, labels=None):
            logits = self.net(pixel_values)
            loss = None if labels is None else F.cross_entropy(logits, labels)
            return outputs.SequenceClassifierOutput(loss=loss, logits=logits)

    def rows(dataset):
        return [{"pixel_values": inputs, "labels": int(label)} for inputs, label in dataset]

    arguments = hf.TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=3,
        per_device_train_batch_size=BATCH,
        learning_rate=lr_of(fault),
        report_to=[],
        save_strategy="no",
        eval_strategy="epoch",
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    model = Model()
    trainer = hf.Trainer(
        model, arguments, train_dataset=rows(train_set()), eval_dataset=rows(val_set())
    )
    trainer.train()
    return model


def skorch(fault, folder):
    net = library("skorch", "skorch").NeuralNetClassifier(
        lambda: network(fault),
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=lr_of(fault),
        max_epochs=3,
        batch_size=BATCH,
        iterator_train__shuffle=True,
        verbose=0,
    )
    inputs, targets = train_set().tensors
    net.fit(inputs.numpy(), targets.numpy())
    return net.module_


def accelerate(fault, folder):
    accelerator = library("accelerate", "accelerate").Accelerator(
        cpu=True, gradient_accumulation_steps=2
    )
    model = network(fault)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr_of(fault))
    model, optimizer, train, val = accelerator.prepare(model, optimizer, *loaders(fault))
    for _ in range(4):
        model.train()
        for inputs, targets in train:
            with accelerator.accumulate(model):
                accelerator.backward(F.cross_entropy(model(inputs), targets))
                optimizer.step()
                optimizer.zero_grad()
        model.eval()
        with torch.no_grad():
            for inputs, _ in val:
                model(inputs)
    return model


def fastai(fault, folder):
    """With an optimizer of torch's: fastai's own are not seen."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library("fastai.callback.all", "fastai")
        from fastai.data.core import DataLoaders
        from fastai.learner import Learner
        from fastai.losses import CrossEntropyLossFlat
        from fastai.optimizer import OptimWrapper

    model = network(fault)
    learner = Learner(
        DataLoaders(*loaders(fault)),
        model,
        loss_func=CrossEntropyLossFlat(),
        lr=lr_of(fault),
        opt_func=lambda weights, **options: OptimWrapper(weights, torch.optim.Adam, **options),
    )
    with learner.no_bar(), learner.no_logging():
        learner.fit(3)
    return model


TRAININGS = [lightning, transformers, skorch, accelerate, fastai]


def weights_after(training, fault, folder):
    torch.manual_seed(0)
    return [weight.detach().clone() for weight in training(fault, folder).parameters()]


@pytest.mark.slow
@pytest.mark.parametrize("training", TRAININGS, ids=lambda training: training.__name__)
def test_a_library_is_watched_without_its_callback(training, tmp_path):
    alone = weights_after(training, "", tmp_path)
    with watch_everything() as session:
        watched = weights_after(training, "", tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(alone, watched, strict=True))
    assert session.failures == []
    (diagnosis,) = session.diagnoses.values()
    assert [f.rule for f in diagnosis.findings if f.severity == "error"] == []
    with watch_everything() as session:
        weights_after(training, "lr", tmp_path)
    (diagnosis,) = session.diagnoses.values()
    assert diagnosis.headline.rule == "learning-rate-too-high"
