"""Two ranks: no rank waits for the watcher of another, and ranks that differ are findings."""

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

WORK = Path(__file__).with_name("rank_work.py")
LIMIT = 900  # seconds for all cases of one launch, on a busy machine; a deadlock takes for ever
STACKS = ("ddp", "fsdp2", "tensor parallel", "fsdp1", "fsdp1, flat", "zero")
QUICK = ("ddp; plain", "ddp; first rank", "bypassed")
WATCHED = [f"{name}{way}" for name in STACKS for way in ("", "; first rank", "; diagnosed by one")]
SLOW = (
    *(f"{name}; plain" for name in STACKS), *WATCHED,
    "drifting", "one set of batches", "other labels", "long and sound", "independent",
)  # fmt: skip
RANK_RULES = {"ranks-drift-apart", "ranks-share-batches", "ranks-differ"}


def launch(folder, cases):
    """What each rank reports of each case; the processes are ended after the limit."""
    settings = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    logs = [folder / f"{rank}.log" for rank in range(2)]  # a pipe that nobody reads would block
    with ExitStack() as stack:
        ranks = [
            subprocess.Popen(
                [sys.executable, str(WORK), str(rank), str(folder), *cases],
                env=settings,
                stdout=subprocess.DEVNULL,
                stderr=stack.enter_context(log.open("w")),
            )
            for rank, log in enumerate(logs)
        ]
        for rank in ranks:
            stack.callback(rank.wait)
            stack.callback(rank.kill)
        codes = [rank.wait(LIMIT) for rank in ranks]
    assert codes == [0, 0], [log.read_text() for log in logs]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    return launch(tmp_path_factory.mktemp("quick"), QUICK)


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    return launch(tmp_path_factory.mktemp("slow"), SLOW)


def check_sound(reports, case):
    """No rank failed, the weights are those of an unwatched run, and no finding is wrong."""
    facts = [report[case] for report in reports]
    assert all("failed" not in each for each in facts), facts
    plain = f"{case.partition(';')[0]}; plain"
    for each, report in zip(facts, reports, strict=True):
        assert each["weights"] == report.get(plain, each)["weights"]
        assert not each.get("errors")
        assert not RANK_RULES & set(each.get("findings", {}))


@pytest.mark.parametrize("case", QUICK[:-1])
def test_a_rank_that_alone_is_watched_blocks_nobody(quick, case):
    check_sound(quick, case)


def test_a_model_called_past_its_wrapper_drifts_apart_on_the_ranks(quick):
    """The rank that ends last says so: nothing keeps them in step, and the first does not wait."""
    assert any("ranks-drift-apart" in report["bypassed"]["findings"] for report in quick)


@pytest.mark.slow
@pytest.mark.parametrize("case", [*WATCHED, "long and sound", "independent"])
def test_watched_ranks_train_as_without(slow, case):
    check_sound(slow, case)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "rule"),
    [
        ("drifting", "ranks-drift-apart"),
        ("one set of batches", "ranks-share-batches"),
        ("other labels", "ranks-differ"),
    ],
)
def test_ranks_that_differ_are_findings(slow, case, rule):
    named = [RANK_RULES & set(report[case]["findings"]) for report in slow]
    assert {rule} in named
    assert all(rules <= {rule} for rules in named)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["fsdp2", "tensor parallel", "fsdp1"])
def test_of_sharded_weights_the_shards_are_measured_and_the_ranks_not_compared(slow, case):
    for report in slow:
        measured = report[case]["measured"]
        assert {"gradient_norm", "loss"} <= set(measured)
        assert case == "fsdp1" or "update_ratio" in measured  # whose shards are no matrices
        assert "rank_distance" not in measured
        assert set(report[case]["not checked"]) >= RANK_RULES
