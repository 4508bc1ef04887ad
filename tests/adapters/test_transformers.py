"""The callback in real trainings of Hugging Face's Trainer."""

import pytest
import torch
from adapters.digits import (
    BATCH,
    EPOCHS,
    RULE_OF,
    assert_found,
    assert_sound,
    library,
    lr_of,
    network,
    same_weights,
    train_set,
    val_set,
)
from torch import nn
from torch.nn import functional as F
from torch.utils.data import SequentialSampler

transformers = library("transformers", "transformers")
from transformers import Trainer, TrainingArguments  # noqa: E402
from transformers.modeling_outputs import SequenceClassifierOutput  # noqa: E402

from thalweg.adapters.transformers import UNSEEN_LOSS, DiagnoseCallback  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # the library's own advice


class Rows:
    """A data set of mappings, as the Trainer wants it."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        inputs, label = self.dataset[index]
        return {"pixel_values": inputs, "labels": label}


class Model(nn.Module):
    """Computes its loss itself, as the library's models do."""

    def __init__(self, fault=""):
        super().__init__()
        self.net = network(fault)

    def forward(self, pixel_values, labels=None):
        logits = self.net(pixel_values)
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


class InOrder(Trainer):
    def _get_train_sampler(self, *_):
        return SequentialSampler(self.train_dataset)


class Weighted(Trainer):
    """A loss of one's own, as the documentation has it; here applied to probabilities."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = F.cross_entropy(outputs.logits.softmax(1), labels)
        return (loss, outputs) if return_outputs else loss


def right(prediction):
    return {"accuracy": float((prediction.predictions.argmax(1) == prediction.label_ids).mean())}


def trainer_of(folder, fault="", *, callback=None, kind=Trainer, model=None, **options):
    settings = {
        "output_dir": str(folder),
        "num_train_epochs": EPOCHS,
        "per_device_train_batch_size": BATCH,
        "learning_rate": lr_of(fault),
        "lr_scheduler_type": "constant",
        "eval_strategy": "epoch",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "logging_steps": 10,
        "weight_decay": 0.0,
    } | options
    return kind(
        model=model or Model(fault),
        args=TrainingArguments(**settings),
        train_dataset=Rows(train_set(by_class=fault == "unshuffled")),
        eval_dataset=Rows(val_set()),
        compute_metrics=right,
        callbacks=[callback] if callback else [],
    )


def diagnosed(folder, fault="", **options):
    callback = DiagnoseCallback(sink=None)
    trainer_of(folder, fault, callback=callback, **options).train()
    return callback.diagnosis


def test_a_sound_training_raises_no_alarm(tmp_path):
    diagnosis = diagnosed(tmp_path)
    assert_sound(diagnosis)
    assert "train-val-leakage" in diagnosis.passed  # both loaders were looked at


@pytest.mark.parametrize("fault", ["lr", "squashed"])
def test_a_planted_fault_is_named(fault, tmp_path):
    options = {"max_grad_norm": 0.0} if fault == "lr" else {}
    assert_found(diagnosed(tmp_path, fault, **options), RULE_OF[fault])


def test_a_training_in_order_of_class_is_named(tmp_path):
    assert_found(diagnosed(tmp_path, "unshuffled", kind=InOrder), RULE_OF["unshuffled"])


def test_a_head_that_stays_at_random_is_named(tmp_path):
    model = Model()
    model.net[3].requires_grad_(False)
    assert_found(diagnosed(tmp_path, model=model), "frozen-random-weights")


def test_a_loss_of_ones_own_is_seen_where_the_trainer_is_named(tmp_path):
    trainer = trainer_of(tmp_path, kind=Weighted)
    callback = DiagnoseCallback(trainer=trainer, sink=None)
    trainer.add_callback(callback)
    trainer.train()
    assert_found(callback.diagnosis, "logits-squashed-twice")
    assert "compute_loss" not in vars(trainer)


def test_a_loss_of_ones_own_that_was_not_seen_is_said(tmp_path):
    pages = []
    callback = DiagnoseCallback(sink=pages.append)
    trainer_of(tmp_path, kind=Weighted, callback=callback, num_train_epochs=1).train()
    assert pages[0].endswith(UNSEEN_LOSS)
    assert "loss-not-falling" in callback.diagnosis.not_checked
    assert callback.diagnosis.headline is None


@pytest.mark.parametrize(
    "options", [{}, {"gradient_accumulation_steps": 4}, {"bf16": True}], ids=str
)
def test_weights_are_those_of_an_unwatched_training(options, tmp_path):
    models = []
    for callback in (None, DiagnoseCallback(sink=None)):
        trainer = trainer_of(tmp_path, callback=callback, **options)  # sets the seed
        trainer.train()
        models.append(trainer.model)
    assert same_weights(*models)


@pytest.mark.parametrize(
    "options",
    [{"gradient_accumulation_steps": 4, "num_train_epochs": 20}, {"bf16": True}],
    ids=["accumulated", "mixed"],
)
def test_neither_accumulation_nor_mixed_precision_is_an_alarm(options, tmp_path):
    assert_sound(diagnosed(tmp_path, **options))


def test_the_loss_is_the_one_that_the_trainer_logs(tmp_path):
    callback = DiagnoseCallback(sink=None)
    histories = []
    begin = callback.watcher_.begin

    def begin_and_note(*arguments, **named):
        begin(*arguments, **named)
        histories.append(callback.watcher_._watcher.history)

    callback.watcher_.begin = begin_and_note
    trainer = trainer_of(
        tmp_path, callback=callback, gradient_accumulation_steps=3, logging_steps=1
    )
    trainer.train()
    logged = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    from thalweg.record.quantities import LOSS, VAL_ACCURACY, VAL_LOSS

    measured = list(histories[0].series(LOSS).values())
    torch.testing.assert_close(torch.tensor(measured), torch.tensor(logged), atol=1e-3, rtol=1e-3)
    for quantity, name in ((VAL_LOSS, "eval_loss"), (VAL_ACCURACY, "eval_accuracy")):
        rows = [row[name] for row in trainer.state.log_history if name in row]
        assert list(histories[0].series(quantity).values()) == rows


def test_a_model_of_the_library_fine_tuned_on_sequences(tmp_path):
    """Token ids, a loss normalised over the whole update by num_items_in_batch."""
    config = transformers.BertConfig(
        vocab_size=40, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=32, num_labels=2,
    )  # fmt: skip
    torch.manual_seed(0)
    tokens = torch.randint(5, 40, (1200, 12))
    labels = (tokens == 7).any(1).long()
    rows = [{"input_ids": t, "labels": y} for t, y in zip(tokens, labels, strict=True)]
    callback = DiagnoseCallback(sink=None)
    trainer = Trainer(
        model=transformers.BertForSequenceClassification(config),
        args=TrainingArguments(
            output_dir=str(tmp_path), num_train_epochs=8, per_device_train_batch_size=16,
            learning_rate=3e-3, warmup_steps=20, eval_strategy="epoch", save_strategy="no",
            report_to="none", disable_tqdm=True, use_cpu=True,
        ),
        train_dataset=rows[:1000], eval_dataset=rows[1000:], compute_metrics=right,
        callbacks=[callback],
    )  # fmt: skip
    trainer.train()
    assert_sound(callback.diagnosis, least=20)


def test_the_page_is_printed_unless_told_otherwise(tmp_path, capsys):
    trainer_of(
        tmp_path, "lr", callback=DiagnoseCallback(), max_grad_norm=0.0, num_train_epochs=2
    ).train()
    assert "Diagnosis: learning-rate-too-high" in capsys.readouterr().out
