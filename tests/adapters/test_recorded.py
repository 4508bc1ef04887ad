"""Logs that the libraries themselves wrote, read and diagnosed."""

import csv

import numpy as np
import pytest
import torch
from adapters.digits import library, loaders, network
from torch.nn import functional as F

import thalweg
from thalweg.record.logs import read_log
from thalweg.record.logs.event_file import event_scalars
from thalweg.record.quantities import ACCURACY, LEARNING_RATE, LOSS, VAL_ACCURACY, VAL_LOSS

pytestmark = pytest.mark.filterwarnings("ignore:(?!.*thalweg)")  # the libraries' own advice


def test_lightnings_csv_and_tensorboard_loggers(tmp_path):
    light = library("lightning.pytorch", "lightning")
    library("tensorboard", "lightning")
    from adapters.test_lightning import Classifier
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

    class Logging(Classifier):
        def training_step(self, batch, _):
            loss = super().training_step(batch, _)
            self.log("train_loss", loss, on_step=True, on_epoch=True)
            return loss

    loggers = [CSVLogger(tmp_path / "csv"), TensorBoardLogger(tmp_path / "board")]
    trainer = light.Trainer(
        max_epochs=5,
        accelerator="cpu",
        logger=loggers,
        log_every_n_steps=5,
        callbacks=[light.callbacks.LearningRateMonitor()],
        enable_progress_bar=False,
        enable_checkpointing=False,
    )
    trainer.fit(Logging(), *loaders())
    for logger in loggers:
        found = read_log(logger.log_dir)
        assert len(found.history.series(LOSS)) == 45
        assert len(found.history.series(VAL_LOSS)) == len(found.history.series(VAL_ACCURACY)) == 5
        assert LEARNING_RATE in found.history
        assert thalweg.diagnose(logger.log_dir).headline is None


def test_keras_csv_logger(tmp_path):
    from adapters.test_keras import fit, keras, model

    fit(model(), keras.callbacks.CSVLogger(str(tmp_path / "log.csv")), epochs=12)
    found = read_log(tmp_path / "log.csv")
    assert found.by_epoch
    assert all(len(found.history.series(q)) == 12 for q in (LOSS, ACCURACY, VAL_LOSS, VAL_ACCURACY))
    diagnosis = thalweg.diagnose(tmp_path / "log.csv")
    assert diagnosis.headline is None
    assert "loss-not-falling" in diagnosis.passed


def test_hugging_faces_trainer_state(tmp_path):
    library("transformers", "transformers")
    from adapters.test_transformers import trainer_of

    trainer = trainer_of(tmp_path, save_strategy="epoch", save_total_limit=1, logging_steps=1)
    trainer.train()
    checkpoint = next(tmp_path.glob("checkpoint-*"))
    found = read_log(checkpoint)
    assert len(found.history.series(LOSS)) == trainer.state.global_step
    assert len(found.history.series(VAL_ACCURACY)) == 6
    assert thalweg.diagnose(checkpoint).headline is None


@pytest.mark.parametrize("options", [{}, {"new_style": True}, {"double_precision": True}], ids=str)
def test_torchs_summary_writer_is_read_as_tensorboard_reads_it(options, tmp_path):
    library("tensorboard", "lightning")
    from tensorboard.backend.event_processing import event_accumulator, tag_types
    from torch.utils.tensorboard import SummaryWriter

    random = np.random.default_rng(0)
    with SummaryWriter(tmp_path) as writer:
        for step in range(0, 900, 3):
            writer.add_scalar("Loss/train", random.normal(), step, **options)
        writer.add_scalar("nan", float("nan"), 2**40, **options)
        writer.add_histogram("weights", torch.randn(50_000), 0)
        writer.add_image("picture", torch.rand(3, 256, 256), 0)
        writer.add_text("note", "hello", 0)
        writer.add_scalars("Loss", {"val": 1.0}, 5)
    file = next(tmp_path.glob("events*"))
    oracle = event_accumulator.EventAccumulator(
        str(file), size_guidance={tag_types.SCALARS: 0, tag_types.TENSORS: 0}
    ).Reload()
    kept = oracle.Scalars if "new_style" not in options else oracle.Tensors
    expected = {
        event.step: event.value if hasattr(event, "value") else event.tensor_proto.float_val[0]
        for event in kept("Loss/train")
    }
    ours = event_scalars(file)
    assert ours["Loss/train"] == expected
    assert np.isnan(ours["nan"][2**40])
    assert set(ours) == {"Loss/train", "nan"}
    assert read_log(tmp_path).history.series(VAL_LOSS) == {5: 1.0}


@pytest.mark.parametrize(
    ("lr", "rules"), [(0.1, {None}), (500.0, {"learning-rate-too-high", "loss-not-finite"})]
)
def test_a_real_training_in_tensorboard(lr, rules, tmp_path):
    library("tensorboard", "lightning")
    from torch.utils.tensorboard import SummaryWriter

    train, val = loaders()
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    with SummaryWriter(tmp_path) as writer:
        for step, batch in enumerate(batch for _ in range(12) for batch in train):
            loss = F.cross_entropy(model(batch[0]), batch[1])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            writer.add_scalar("train/loss", loss.item(), step)
            writer.add_scalar("lr", lr, step)
            if step % 45 == 0:
                inputs, targets = next(iter(val))
                with torch.no_grad():
                    writer.add_scalar("val/loss", F.cross_entropy(model(inputs), targets), step)
    headline = thalweg.diagnose(tmp_path).headline
    assert (headline and headline.rule) in rules


def test_fastais_csv_logger(tmp_path):
    library("fastai.callback.all", "fastai")
    from adapters.test_fastai import learner
    from fastai.callback.progress import CSVLogger

    learn = learner(others=(CSVLogger(fname="history.csv"),))
    learn.path = tmp_path
    with learn.no_bar():
        learn.fit(12)
    with (tmp_path / "history.csv").open() as file:
        assert next(csv.reader(file))[:3] == ["epoch", "train_loss", "valid_loss"]
    found = read_log(tmp_path / "history.csv")
    assert len(found.history.series(VAL_ACCURACY)) == 12
    assert thalweg.diagnose(tmp_path / "history.csv").headline is None
