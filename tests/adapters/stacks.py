"""Trainings in the libraries that people fine-tune with, and what each is built of.

Each function trains a small model, watched by what `Watch` gives it or not at all, and returns the
weights that it trained.
"""

import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import torch
from adapters import language
from adapters.digits import library, loaders, network
from torch import nn
from torch.nn import functional as F

import thalweg

STEPS = 60


class Watch:
    """The two lines, or a library's callback; or neither, for the run to compare with."""

    def __init__(self, *, active: bool):
        self.active, self.diagnoses = active, []
        self._watchers: list[Any] = []
        self._callbacks: list[Any] = []

    def lines(self, model: nn.Module, optimizer: Any) -> Callable[[torch.Tensor], None]:
        """What to call with the loss after each update."""
        if not self.active:
            return lambda _loss: None
        self._watchers.append(thalweg.watch(model, optimizer))
        return self._watchers[-1].step

    def callbacks(self, name: str) -> list[Any]:
        """The callback of that library's adapter in a list."""
        if not self.active:
            return []
        adapter = library(f"thalweg.adapters.{name}", name)
        self._callbacks.append(adapter.DiagnoseCallback(sink=None))
        return self._callbacks[-1:]

    def finish(self) -> None:
        """Diagnose."""
        self.diagnoses += [callback.diagnosis for callback in self._callbacks]
        for watcher in self._watchers:
            self.diagnoses.append(watcher.diagnose())
            watcher.close()


def arguments(kind: Any, **changes: Any) -> Any:
    options = {
        "num_train_epochs": 3, "per_device_train_batch_size": 16, "learning_rate": 3e-3,
        "lr_scheduler_type": "constant", "report_to": "none", "save_strategy": "no",
        "logging_strategy": "no", "disable_tqdm": True, "use_cpu": True,
    }  # fmt: skip
    return kind(output_dir=tempfile.mkdtemp(), **(options | changes))


def llama(width: int = 32) -> Any:
    hf = library("transformers", "transformers")
    torch.manual_seed(0)
    return hf.LlamaForCausalLM(
        hf.LlamaConfig(
            vocab_size=language.VOCAB, hidden_size=width, intermediate_size=2 * width,
            num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
            max_position_embeddings=64, pad_token_id=language.PAD, bos_token_id=1, eos_token_id=2,
        )
    )  # fmt: skip


def rows(
    *, prompt: int = 0, shift: int = 0, renamed: bool = False
) -> list[dict[str, torch.Tensor]]:
    """Sentences; `renamed` ones follow the same rules with other words."""
    samples = language.padded(language.sentences(256))
    words = torch.randperm(language.VOCAB - 5, generator=torch.Generator().manual_seed(5)) + 5
    names = torch.cat([torch.arange(5), words])
    for sample in samples:
        if renamed:
            sample["input_ids"] = names[sample["input_ids"]]
            kept = sample["labels"] >= 0
            sample["labels"] = torch.where(kept, sample["input_ids"], sample["labels"])
        labels = sample["labels"]
        labels[:prompt] = -100
        ignored = torch.full((shift,), -100)
        sample["labels"] = torch.cat([labels[shift:], ignored])
    return samples


def in_trainer(model: Any, watch: Watch, data: Any = None, **changes: Any) -> Any:
    hf = library("transformers", "transformers")
    hf.Trainer(
        model=model,
        args=arguments(hf.TrainingArguments, **changes),
        train_dataset=data or rows(),
        callbacks=watch.callbacks("transformers"),
    ).train()
    return trained_weights(model)


def in_own_loop(model: Any, optimizer: Any, watch: Watch, *, renamed: bool = False) -> Any:
    step, samples = watch.lines(model, optimizer), rows(renamed=renamed)
    batch = {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}
    generator = torch.Generator().manual_seed(1)
    model.train()
    for _ in range(STEPS):
        chosen = torch.randint(len(samples), (16,), generator=generator)
        loss = model(**{name: values[chosen] for name, values in batch.items()}).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        step(loss)
    return trained_weights(model)


def trained_weights(model: nn.Module) -> list[torch.Tensor]:
    return [weight.detach().clone() for weight in model.parameters() if weight.requires_grad]


def pretrained(width: int = 32) -> Any:
    """A Llama after some steps, since frozen weights that are random are a fault."""
    model = llama(width)
    in_own_loop(model, torch.optim.AdamW(model.parameters(), lr=1e-2), Watch(active=False))
    return model.requires_grad_(False)


class LowRank(nn.Module):
    """A layer and a low-rank adapter beside it."""

    def __init__(self, base: nn.Module, width: int):
        super().__init__()
        self.base, self.down, self.up = base, nn.Linear(width, 4), nn.Linear(4, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.base(inputs) + self.up(self.down(inputs))


def adapt(model: Any, width: int) -> Any:
    torch.manual_seed(1)
    for layer in model.model.layers:
        layer.self_attn.q_proj = LowRank(layer.self_attn.q_proj, width)
    return model


def adam_of(model: Any, lr: float = 1e-2) -> Any:
    return torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=lr)


def peft_model(model: Any) -> Any:
    peft = library("peft", "peft")
    torch.manual_seed(1)
    config = peft.LoraConfig(r=4, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"])
    return peft.get_peft_model(model, config)


def tokenizer() -> Any:
    tokenizers = library("tokenizers", "transformers")
    names = ["<pad>", "<s>", "</s>", "<unk>", "<mask>", *(f"w{i}" for i in range(5, 40))]
    vocabulary = {name: index for index, name in enumerate(names)}
    model = tokenizers.models.WordLevel(vocabulary, unk_token="<unk>")
    words = tokenizers.Tokenizer(model)
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return library("transformers", "transformers").PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def llama_in_trainer(watch: Watch) -> Any:
    return in_trainer(llama(), watch)


def prompts_masked(watch: Watch) -> Any:
    return in_trainer(llama(), watch, rows(prompt=5))


def half_precision(watch: Watch) -> Any:
    return in_trainer(llama(), watch, bf16=True)


def accumulated(watch: Watch) -> Any:
    return in_trainer(llama(), watch, gradient_accumulation_steps=2)


def checkpointed(watch: Watch) -> Any:
    return in_trainer(llama(), watch, gradient_checkpointing=True)


def supervised_fine_tuning(watch: Watch) -> Any:
    """TRL's patched models return no logits, and most checks of tokens cannot be made."""
    trl, datasets = library("trl", "trl"), library("datasets", "trl")
    texts = [" ".join(f"w{t}" for t in row) for row in language.sentences(256)]
    trainer = trl.SFTTrainer(
        model=llama(),
        args=arguments(trl.SFTConfig, max_length=32),
        train_dataset=datasets.Dataset.from_dict({"text": texts}),
        processing_class=tokenizer(),
        callbacks=watch.callbacks("transformers"),
    )
    trainer.train()
    return trained_weights(trainer.model)


def low_rank_adapters(watch: Watch) -> Any:
    model = peft_model(pretrained())
    return in_trainer(model, watch, rows(renamed=True), learning_rate=1e-2)


def adapters_on_eight_bits(watch: Watch) -> Any:
    quantization = library("torchao.quantization", "torchao")
    model = pretrained()
    quantization.quantize_(model.model.layers, quantization.Int8WeightOnlyConfig())
    model = adapt(model, 32)
    return in_own_loop(model, adam_of(model), watch, renamed=True)


def adapters_on_four_bits(watch: Watch) -> Any:
    """Its packed weights are repacked where a copy runs in eval mode on the CPU."""
    layers = library("bitsandbytes", "bitsandbytes").nn
    model = pretrained(64)
    for layer in model.model.layers:
        plain = layer.mlp.up_proj
        packed = layers.Linear4bit(
            plain.in_features, plain.out_features, bias=False, compute_dtype=torch.float32
        )
        packed.weight = layers.Params4bit(plain.weight.data, requires_grad=False)
        layer.mlp.up_proj = packed.to("cpu")
    model = adapt(model, 64)
    before = [layer.mlp.up_proj.weight.data.clone() for layer in model.model.layers]
    weights = in_own_loop(model, adam_of(model), watch, renamed=True)
    after = [layer.mlp.up_proj.weight.data for layer in model.model.layers]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    return weights


def without_schedule(watch: Watch) -> Any:
    model = llama()
    optimizer = library("schedulefree", "schedulefree").AdamWScheduleFree(model.parameters(), 1e-2)
    optimizer.train()
    return in_own_loop(model, optimizer, watch)


def without_schedule_wrapped(watch: Watch) -> Any:
    """The wrapper is no optimizer of torch's; the one that it wraps makes the updates."""
    schedulefree = library("schedulefree", "schedulefree")
    model = llama()
    inner = torch.optim.SGD(model.parameters(), lr=0.3)
    optimizer = schedulefree.ScheduleFreeWrapper(inner, momentum=0.9)
    optimizer.train()
    return in_own_loop(model, optimizer, watch)


def fit(module: Any, watch: Watch, **options: Any) -> Any:
    trainer = library("lightning.pytorch", "lightning").Trainer(
        logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, accelerator="cpu", callbacks=watch.callbacks("lightning"),
        **options,
    )  # fmt: skip
    trainer.fit(module, *loaders())
    return trained_weights(module)


def adversarial_fit(watch: Watch) -> Any:
    """The loader gives digits with labels, which no loss compares."""
    base: Any = library("lightning.pytorch", "lightning").LightningModule

    class Players(base):
        automatic_optimization = False

        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.maker = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64))
            self.judge = nn.Sequential(nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))

        def forward(self, noise: torch.Tensor) -> torch.Tensor:
            return self.maker(noise).sigmoid()

        def training_step(self, batch: Any, _: int) -> None:
            real, made = batch[0], self(torch.randn(len(batch[0]), 16))
            true, false = torch.ones(len(real), 1), torch.zeros(len(real), 1)
            loss_fn = F.binary_cross_entropy_with_logits
            losses = (
                lambda: loss_fn(self.judge(made), true),
                lambda: loss_fn(self.judge(real), true) + loss_fn(self.judge(made.detach()), false),
            )
            for optimizer, loss in zip(self.optimizers(), losses, strict=True):
                self.toggle_optimizer(optimizer)
                self.manual_backward(loss())
                optimizer.step()
                optimizer.zero_grad()
                self.untoggle_optimizer(optimizer)

        def configure_optimizers(self) -> Any:
            parts = self.maker, self.judge
            return [torch.optim.Adam(part.parameters(), lr=2e-4) for part in parts]

    return fit(Players(), watch, max_epochs=5)


def classifier(*, frozen_mode: bool = False) -> Any:
    base: Any = library("lightning.pytorch", "lightning").LightningModule

    class Classifier(base):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def on_train_epoch_start(self) -> None:
            if frozen_mode:
                self.net.eval()

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.net(inputs)

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            return F.cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=2e-3)

    return Classifier()


def detector(watch: Watch) -> Any:
    """Faster R-CNN starts its heads at 0.01, and takes a list of images."""
    vision = library("torchvision", "torchvision")
    detection = library("torchvision.models.detection", "torchvision")
    torch.manual_seed(0)
    body: Any = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1))
    body.out_channels = 16
    model = detection.FasterRCNN(
        body,
        num_classes=3,
        rpn_anchor_generator=detection.anchor_utils.AnchorGenerator(((8, 16),), ((1.0,),)),
        box_roi_pool=vision.ops.MultiScaleRoIAlign(["0"], 3, 2),
        min_size=32,
        max_size=32,
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    step = watch.lines(model, optimizer)
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        images = list(torch.rand(4, 3, 32, 32, generator=generator) * 0.2)
        labels = torch.randint(1, 3, (4,), generator=generator)
        for image, label in zip(images, labels, strict=True):
            image[int(label) - 1, 8:24, 8:24] = 1
        box = torch.tensor([[8.0, 8.0, 24.0, 24.0]])
        targets = [{"boxes": box, "labels": label[None]} for label in labels]
        loss = torch.stack(list(model(images, targets).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step(loss)
    return trained_weights(model)


def averaged_weights(watch: Watch) -> Any:
    """timm's ResNet with an exponential moving average."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        timm, tools = library("timm", "timm"), library("timm.utils", "timm")
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", num_classes=10, in_chans=1)
    average, optimizer = tools.ModelEmaV3(model, decay=0.9), adam_of(model, lr=2e-3)
    step = watch.lines(model, optimizer)
    for inputs, targets in [*loaders()[0], *loaders()[0]]:
        images = F.interpolate(inputs.view(-1, 1, 8, 8), size=16)
        loss = F.cross_entropy(model(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update(model)
        step(loss)
    return [*trained_weights(model), *trained_weights(average.module)]


SOUND = [
    llama_in_trainer, prompts_masked, half_precision, accumulated, checkpointed,
    supervised_fine_tuning, low_rank_adapters, adapters_on_eight_bits, adapters_on_four_bits,
    without_schedule, without_schedule_wrapped, adversarial_fit, detector, averaged_weights,
]  # fmt: skip


def labels_shifted_twice(watch: Watch) -> Any:
    """Once in the data, and once by the model."""
    return in_trainer(llama(), watch, rows(shift=1))


def labels_shifted_twice_in_halves(watch: Watch) -> Any:
    return in_trainer(llama(), watch, rows(shift=1), bf16=True)


def adapters_after_the_optimizer(watch: Watch) -> Any:
    model = pretrained().requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    return in_own_loop(peft_model(model), optimizer, watch)


def in_eval_mode(watch: Watch) -> Any:
    """The network is put into eval mode at the start of each epoch."""
    return fit(classifier(frozen_mode=True), watch, max_epochs=3)


FAULTS = {
    labels_shifted_twice: "targets-shifted-twice",
    labels_shifted_twice_in_halves: "targets-shifted-twice",
    adapters_after_the_optimizer: "weights-not-in-optimizer",
    in_eval_mode: "wrong-mode-in-training",
}
