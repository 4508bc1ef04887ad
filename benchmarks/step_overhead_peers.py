"""What a step costs beside Lightning and fastai: each against a raw loop in its own environment.

Claim: both take at least twice our time. Processor's time, 784-128-10 network, batches of 32, one
thread; ours with the default instruments and our optimizer, theirs with PyTorch's SGD and fastai's.
Versions of torch may differ between the environments, so times are compared as multiples of the
same raw loop's beside them, with PyTorch's SGD as it comes.
"""

from benchmarks import step_overhead
from benchmarks._peers import peer

STEPS, ROUNDS, LIMIT = 4000, 5, 2.0


def main() -> dict[str, object]:
    theirs = peer("step_overhead.py", STEPS, ROUNDS)
    ours = step_overhead.main()
    watched, plain = (ours[f"{name}: cpu ratio"] for name in ("loop, watched", step_overhead.PLAIN))
    ratio = float(str(watched)) / float(str(plain))
    multiples = {n: theirs[n] / theirs["raw"] for n in ("lightning", "fastai")}
    times = {name: round(multiple / ratio, 2) for name, multiple in multiples.items()}
    return {
        "claim": "C1",
        "workload": "the same step, beside other trainers",
        "goal": f"≥ {LIMIT:g} × as fast as Lightning and fastai",
        "measured": f"{times['lightning']} × Lightning, {times['fastai']} × fastai",
        "n": ROUNDS,
        "raw loop's times": {
            "ours": round(ratio, 3),
            **{n: round(m, 2) for n, m in multiples.items()},
        },
        "µs a step": {name: round(theirs[name]) for name in ("raw", "lightning", "fastai")},
        "theirs to ours": times,
        "limit": LIMIT,
        "held": min(times.values()) >= LIMIT,
    }


if __name__ == "__main__":
    from benchmarks.__main__ import report

    report("step_overhead_peers")
