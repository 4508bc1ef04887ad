"""What is chosen is measured, faster, and as exact as promised."""

import json
import re
from dataclasses import replace
from math import inf
from time import perf_counter, sleep

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg.borrow import Subject
from thalweg.data.batch import Batch
from thalweg.models import MODELS
from thalweg.observe.compiler import compiler_in_use
from thalweg.planning.speed import autotune as autotuning
from thalweg.planning.speed import cache
from thalweg.planning.speed.accuracy_check import LEAST_COSINE, Gradient, deviation
from thalweg.planning.speed.autotune import autotune
from thalweg.planning.speed.benchmark import loss_and_gradient, start_benchmark
from thalweg.planning.speed.cache import autotune_cached
from thalweg.training.numerics import Numerics, inputs_for

pytestmark = pytest.mark.measures

LONG = 10**6  # steps: a run that any measurement pays for
BF16, FP32 = Numerics(dtype="bfloat16"), Numerics()


@pytest.fixture(autouse=True)
def _nothing_is_compiled(monkeypatch):
    """Where a step takes long, as on a busy machine, a long run is worth compiling."""
    monkeypatch.setattr(autotuning, "COMPILE_ON_CPU_FROM", inf)


class Kernel(nn.Module):
    """A layer whose float32 path takes its time, and whose bfloat16 path is what a test makes it.

    In the place of a kernel of one processor or version: pytorch#169688 (wrong), #183815 (slow).
    """

    def __init__(self, in_bfloat16, *, delay=0.01):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 8) / 3)
        self.in_bfloat16, self.delay = in_bfloat16, delay

    def forward(self, x):
        if torch.is_autocast_enabled("cpu"):
            return self.in_bfloat16(x, self.weight)
        sleep(self.delay)
        return F.linear(x, self.weight)


def right(x, weight):
    return F.linear(x, weight)


def wrong(x, weight):
    return F.linear(x, weight.flip(1))


def slightly_wrong(x, weight):
    return F.linear(x, weight) * torch.linspace(0.7, 1.3, 3)


def not_a_number(x, weight):
    return F.linear(x, weight) * torch.nan


def slow(x, weight):
    sleep(0.05)
    return F.linear(x, weight)


def out_of_memory(x, weight):
    return torch.empty(1 << 60) + F.linear(x, weight)  # the allocator's own refusal


def not_implemented(x, weight):
    raise NotImplementedError('"layer" not implemented for BFloat16')


def subject(model, *shape, classes=3):
    chance = torch.Generator().manual_seed(0)
    inputs = torch.randn(*shape, generator=chance)
    targets = torch.randint(classes, shape[:1], generator=chance)
    return Subject(model=model, loss_fn=F.cross_entropy, batches=[Batch(inputs, targets)])


def chosen_for(in_bfloat16):
    torch.manual_seed(0)
    fixed = frozenset({"threads"})  # nothing is between one and two of them but chance
    result = autotune(subject(Kernel(in_bfloat16), 16, 8), FP32, steps=LONG, fixed=fixed)
    verdicts = {
        row.numerics.dtype: row.verdict for row in result.rows if row.numerics in (FP32, BF16)
    }
    return result, verdicts["bfloat16"]


def test_a_faster_kernel_that_is_right_is_chosen():
    result, verdict = chosen_for(right)
    assert result.chosen.dtype == "bfloat16"
    assert verdict == "chosen"
    assert "times as fast" in result.note


@pytest.mark.parametrize(
    ("kernel", "complaint"),
    [
        (wrong, "off by|cosine"),
        (slightly_wrong, "off by|cosine"),
        (not_a_number, "off by nan"),
        (slow, "not faster"),
        (out_of_memory, "failed: .*alloc"),
        (not_implemented, "failed: .*not implemented"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_kernel_that_is_wrong_slow_or_fails_is_not(kernel, complaint):
    result, verdict = chosen_for(kernel)
    assert result.chosen.dtype == "float32"
    assert re.search(complaint, verdict)


def test_a_network_too_deep_for_bfloat16_stays_in_float32():
    """A plain network of 56 layers multiplies rounding until no direction is left."""
    benchmark = start_benchmark(
        subject(MODELS["plain56"](3, input_shape=(3, 32, 32)), 16, 3, 32, 32), FP32
    )
    assert not benchmark.is_accurate(BF16)
    assert benchmark.is_accurate(Numerics(channels_last=True))


@pytest.mark.parametrize("name", ["resnet20", "convnet", "vit_tiny"])
def test_common_networks_may_use_bfloat16(name):
    benchmark = start_benchmark(
        subject(MODELS[name](3, input_shape=(3, 32, 32)), 16, 3, 32, 32), FP32
    )
    assert benchmark.is_accurate(BF16)


class Recurrence(nn.Module):
    """A gated recurrence, and a head on its last state."""

    def __init__(self, width):
        super().__init__()
        self.rnn, self.head = nn.GRU(width, width, batch_first=True), nn.Linear(width, 3)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


def wide():
    return nn.Sequential(nn.Linear(2048, 2048), nn.Linear(2048, 2048), nn.Linear(2048, 3))


def upwards():
    layers = [nn.ConvTranspose2d(8, 8, 3, padding=1) for _ in range(3)]
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    return nn.Sequential(nn.Conv2d(3, 8, 1), *layers, *head)


def times_in_turns(of, settings, *, turns=7):
    """Least seconds of a step in each setting."""
    seconds = {setting: [] for setting in settings}
    for _ in range(turns + 1):
        for setting in settings:
            begin = perf_counter()
            loss_and_gradient(of, setting)
            seconds[setting].append(perf_counter() - begin)
    return {setting: min(times[1:]) for setting, times in seconds.items()}


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (wide, (1, 2048)),  # to cast the weights costs more than to use them once
        (upwards, (8, 3, 32, 32)),
        (lambda: Recurrence(16), (64, 200, 16)),
    ],
    ids=["a batch of one", "transposed convolutions", "recurrence"],
)
def test_where_bfloat16_is_slower_on_this_machine_it_is_not_chosen(build, shape):
    """No stub: on a Zen 4 with torch 2.13 these took 2.6, 2.6 and 2.0 times float32's time."""
    torch.manual_seed(0)
    of = subject(build(), *shape)
    start, rival = (Numerics(dtype=dtype, threads=1) for dtype in ("float32", "bfloat16"))
    times = times_in_turns(of, (start, rival))
    ratio = times[rival] / times[start]
    if ratio < 1.5:
        pytest.skip(f"here bfloat16 takes {ratio:.2f} times float32's time")
    result = autotune(of, start, steps=LONG, always=True)
    seconds = {row.numerics.dtype: row.seconds for row in result.rows}
    assert seconds.keys() == {"float32", "bfloat16"}
    # By its own times: other load may come between ours and those.
    assert result.chosen.dtype == "float32" or seconds["bfloat16"] < seconds["float32"]


def test_a_start_that_is_wrong_is_left():
    result = autotune(subject(Kernel(wrong, delay=0), 16, 8), BF16, steps=LONG)
    assert result.chosen.dtype == "float32"


def test_what_the_user_fixed_stays():
    result = autotune(
        subject(Kernel(right), 16, 8), FP32, steps=LONG, fixed=frozenset({"dtype", "matmul"})
    )
    assert {row.numerics.dtype for row in result.rows} == {"float32"}
    assert {row.numerics.matmul for row in result.rows} == {"highest"}


@pytest.mark.parametrize(("steps", "why"), [(20, "only 20 steps"), (100, "too short a run")])
def test_a_short_run_is_not_measured(steps, why):
    result = autotune(subject(Kernel(right), 16, 8), FP32, steps=steps)
    assert result.chosen == FP32
    assert not result.rows
    assert why in result.note
    assert autotune(subject(Kernel(right), 16, 8), FP32, steps=steps, always=True).rows


def test_a_model_that_fails_is_left_to_the_training():
    result = autotune(subject(nn.Linear(9, 3), 16, 8), FP32, steps=LONG)
    assert result.chosen == FP32
    assert "shapes cannot be multiplied" in result.note


def test_model_modes_chance_and_process_are_as_before():
    torch.manual_seed(5)
    model = MODELS["resnet18"](3, input_shape=(3, 32, 32), width=8).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    process = torch.get_num_threads(), torch.get_float32_matmul_precision()
    autotune(subject(model, 16, 3, 32, 32), Numerics(channels_last=True), steps=LONG)
    assert not model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == process


class OwnForward(nn.Module):
    """Has a forward of its own: PyTorch compiles nothing in place of its own modules alone."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.second(F.softsign(self.first(x)))


@pytest.mark.slow  # it compiles
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_candidate_that_was_compiled_leaves_the_compiler_as_it_was(monkeypatch):
    monkeypatch.setattr(autotuning, "COMPILE_ON_CPU_FROM", 0.0)
    result = autotune(subject(OwnForward(), 16, 8), FP32, steps=LONG, always=True)
    assert any(row.numerics.compile for row in result.rows)
    assert not compiler_in_use()


@pytest.mark.slow  # it loads the compiler
@pytest.mark.filterwarnings("ignore")  # the compiler's own, of which the first would be the failure
def test_a_missing_compiler_only_drops_the_candidate(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    torch.compiler.reset()
    benchmark = start_benchmark(subject(OwnForward(), 16, 8), FP32)
    benchmark.step_seconds(FP32)
    assert not benchmark.is_better(Numerics(compile=True), FP32)
    (row,) = [row for row in benchmark.results(FP32) if row.numerics.compile]
    assert re.match("failed: .*compiler", row.verdict)


def test_the_deviation_is_the_angle_in_float64():
    exact = Gradient(torch.tensor(2.0), [torch.tensor([3.0, 4.0]), torch.tensor([0.0, 1e-9])])
    gradient = Gradient(torch.tensor(2.01), [torch.tensor([4.0, 3.0]), torch.tensor([0.5, 0.0])])
    off = deviation(gradient, exact)
    assert off.loss_error == pytest.approx(0.005, rel=1e-4)
    assert off.cosine == pytest.approx(24 / 5 / 25.25**0.5)
    assert off.worst_cosine == pytest.approx(24 / 25)  # the second tensor is no part of the norm
    assert off.violation == ""
    turned = Gradient(torch.tensor(2.0), [torch.tensor([4.0, -3.0]), torch.tensor([0.0, 0.0])])
    assert str(LEAST_COSINE) in deviation(turned, exact).violation


def test_a_setting_changes_rounding_only():
    torch.manual_seed(0)
    model = MODELS["resnet20"](3, input_shape=(3, 32, 32))
    of = subject(model, 8, 3, 32, 32)
    plain = loss_and_gradient(of, FP32)
    last = Numerics(channels_last=True, matmul="medium", threads=1)
    inputs, targets = of.batches[0]
    batch = Batch(inputs_for(last, inputs), targets)
    ordered = replace(of, model=last.prepare(model), batches=[batch])
    assert deviation(loss_and_gradient(ordered, last), plain).cosine > 0.999


class TestCache:
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("THALWEG_CACHE", str(tmp_path))

    def test_the_second_time_nothing_is_measured(self, monkeypatch):
        first = autotune_cached(subject(Kernel(right), 16, 8), FP32, steps=LONG)
        monkeypatch.setattr(cache, "autotune", None)
        again = autotune_cached(subject(Kernel(right), 16, 8), FP32, steps=LONG)
        assert again.chosen == first.chosen
        assert json.dumps(again.note) == json.dumps(first.note)
        assert [row.verdict for row in again.rows] == [row.verdict for row in first.rows]
        # A shorter run of the same takes it for nothing.
        assert autotune_cached(subject(Kernel(right), 16, 8), FP32, steps=2).chosen == first.chosen

    def test_a_command_that_was_not_measured_stays_so(self):
        few = autotune_cached(subject(Kernel(right), 16, 8), FP32, steps=3)
        autotune_cached(subject(Kernel(right), 16, 8), FP32, steps=LONG)
        again = autotune_cached(subject(Kernel(right), 16, 8), FP32, steps=3)
        assert again.chosen == few.chosen == FP32

    @pytest.mark.parametrize("change", ["model", "batch", "fixed", "start"])
    def test_another_question_is_asked_anew(self, change):
        autotune_cached(subject(Kernel(right), 16, 8), FP32, steps=LONG)
        model = nn.Sequential(Kernel(slow)) if change == "model" else Kernel(slow)
        other = autotune_cached(
            subject(model, 17 if change == "batch" else 16, 8),
            Numerics(channels_last=True) if change == "start" else FP32,
            steps=LONG,
            fixed=frozenset({"threads"}) if change == "fixed" else frozenset(),
        )
        assert other.chosen.dtype == "float32"

    @pytest.mark.parametrize(
        ("then", "now", "again"),
        [(0.1, 0.1, False), (0.7, 0.0, False), (3.0, 0.2, True), (3.0, 2.0, False)],
        ids=["quiet", "hardly busy", "busy, now quiet", "still busy"],
    )
    def test_what_was_measured_beside_other_work_is_measured_again(
        self, then, now, again, monkeypatch
    ):
        monkeypatch.setattr(cache, "load_per_core", lambda: then)
        autotune_cached(subject(Kernel(right), 16, 8), FP32, steps=LONG)
        calls = []

        def counting(*arguments, **options):
            calls.append(arguments)
            return autotune(*arguments, **options)

        monkeypatch.setattr(cache, "autotune", counting)
        monkeypatch.setattr(cache, "load_per_core", lambda: now)
        for _ in range(2):
            autotune_cached(subject(Kernel(right), 16, 8), FP32, steps=LONG)
        assert len(calls) == again  # and then it stands

    def test_the_load_is_that_of_a_core(self):
        assert 0 <= cache.load_per_core() < 1000

    @pytest.mark.gpu
    def test_the_question_holds_the_gpu_and_what_drives_it(self):
        device, name, *versions = cache._gpu(torch.device("cuda:0"))
        assert (device, name) == ("cuda:0", torch.cuda.get_device_name(0))
        assert torch.version.cuda in versions or torch.version.hip in versions

    def test_a_damaged_file_is_measured_again(self, tmp_path):
        first = autotune_cached(subject(Kernel(right), 16, 8), FP32, steps=LONG)
        for path in (tmp_path / "plans").iterdir():
            path.write_text('{"rows": 3')
        again = autotune_cached(subject(Kernel(right), 16, 8), FP32, steps=LONG)
        assert again.chosen.dtype == first.chosen.dtype == "bfloat16"

    def test_clearing_the_cache_forgets(self, tmp_path):
        from thalweg.data import clear_cache

        autotune_cached(subject(Kernel(right), 16, 8), FP32, steps=LONG)
        assert list((tmp_path / "plans").iterdir())
        clear_cache()
        assert not (tmp_path / "plans").exists()

    def test_a_cache_that_cannot_be_written_costs_only_time(self, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "file"))
        result = autotune_cached(subject(Kernel(right), 16, 8), FP32, steps=LONG)
        assert result.chosen.dtype == "bfloat16"
