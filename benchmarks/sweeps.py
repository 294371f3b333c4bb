"""Nine settings at width 40 on one core: one sweep, in which they are rows of one program, against nine runs."""

import tempfile
import time
from itertools import product
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.commands import maml, ms_per_step

INNER_LRS, LRS = (0.003, 0.01, 0.03), (0.0003, 0.001, 0.003)


class SweepCase(NamedTuple):
    """What all nine have."""

    name: str
    tasks: int
    shots: int
    steps: int


CASES = [
    SweepCase("4 tasks, K = 5, 2,000 meta-updates", tasks=4, shots=5, steps=2_000),
    SweepCase("4 tasks, K = 5, 20,000 meta-updates", tasks=4, shots=5, steps=20_000),
    SweepCase("25 tasks, K = 10, 2,000 meta-updates", tasks=25, shots=10, steps=2_000),
    SweepCase("25 tasks, K = 10, 20,000 meta-updates", tasks=25, shots=10, steps=20_000),
]


class Taken(NamedTuple):
    """Seconds from the first command to the end of the last, and milliseconds of a meta-step of all nine."""

    seconds: float
    ms: float


def sweep_table(rounds: int) -> list[str]:
    """Measure both ways in turn, as whole commands with all that they write and draw; the sweep ranks and tests too."""
    lines = [
        "| nine settings, one seed, one core | nine runs | one sweep | the sweep is faster | of its meta-steps alone |",
        "|---|---|---|---|---|",
    ]
    for case in CASES:
        taken = [(_runs(case), _sweep(case)) for _ in range(rounds)]
        runs, sweeps = ([pair[index] for pair in taken] for index in (0, 1))
        whole = median(one.seconds / other.seconds for one, other in taken)
        steps = median(one.ms / other.ms for one, other in taken)
        seconds = [median(one.seconds for one in each) for each in (runs, sweeps)]
        ms = [median(one.ms for one in each) for each in (runs, sweeps)]
        lines.append(
            f"| {case.name} | {seconds[0]:.1f} s, {ms[0]:.3f} ms a step | {seconds[1]:.1f} s, {ms[1]:.3f} ms a step "
            f"| {whole:.1f} times | {steps:.1f} times |"
        )
    return lines


def _runs(case: SweepCase) -> Taken:
    with tempfile.TemporaryDirectory() as scratch:
        start, ms = time.perf_counter(), 0.0
        for number, (inner_lr, lr) in enumerate(product(INNER_LRS, LRS)):
            out = Path(scratch) / str(number)
            _maml("train", case, f"algorithm.inner_lr={inner_lr}", f"outer.lr={lr}", out=out)
            ms += ms_per_step(out)
        return Taken(time.perf_counter() - start, ms)


def _sweep(case: SweepCase) -> Taken:
    with tempfile.TemporaryDirectory() as scratch:
        start, out = time.perf_counter(), Path(scratch) / "sweep"
        axes = (f"{key}={','.join(map(str, values))}" for key, values in zip(_KEYS, (INNER_LRS, LRS), strict=True))
        _maml("sweep", case, *axes, out=out)
        seconds = time.perf_counter() - start
        return Taken(seconds, ms_per_step(next((out / "runs").iterdir())))


_KEYS = ("algorithm.inner_lr", "outer.lr")


def _maml(command: str, case: SweepCase, *set_: str, out: Path) -> None:
    settings = [
        *(f"outer.steps={case.steps}", f"outer.meta_batch_size={case.tasks}", f"tasks.support_shots={case.shots}"),
        *("engine.threads=1", "seeds=[0]", *set_),
    ]
    maml(command, "sinusoid", *settings, out=out)
