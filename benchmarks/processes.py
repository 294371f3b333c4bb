"""One process and two that share a training, and a model of their time: `python -m benchmarks.processes [--rounds N]`.

Each process computes on one thread, so that two of them have as much to themselves as one has.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.workers import peak_mib
from mamlcli import parse_config
from mamlcli.compute.plan import make_plan, planned_update
from mamlcli.compute.shared import stream_of_own
from mamlcli.experiment import make_experiment
from mamlcli.interrupts import StopRequest
from mamlcli.ranks import Ranks, connected
from mamlcli.threads import using_threads
from mamlcli.training import train_steps

CPU = torch.device("cpu")
_LOOPBACK = Path("/sys/class/net/lo/statistics/rx_bytes")
_LANES = 16
MESSAGES = [2**power for power in range(3, 25, 3)]
"""Numbers of float32 in a message."""


class Case(NamedTuple):
    """A training, and what processes share of it."""

    shard: str
    tasks: int
    width: int

    @property
    def seeds(self) -> int:
        """One for each of two processes where these are shared."""
        return 2 if self.shard == "seeds" else 1

    @property
    def learned(self) -> int:
        """Numbers that each seed learns."""
        return self.width**2 + 4 * self.width + 1

    def work(self, processes: int) -> float:
        """What a process has to compute of a step: tasks, or, for the kernel, vectors of them."""
        by_seeds = processes if self.shard == "seeds" else 1
        tasks = self.tasks / (processes / by_seeds)
        each = -(-tasks // _LANES) if self.width < 128 else tasks
        return each * self.seeds / by_seeds

    @property
    def message_bytes(self) -> int:
        """Of an all-reduce: gradients, a logged loss, and two numbers for signals."""
        return 4 * (self.seeds * (self.learned + 1) + 2) if self.shard == "tasks" else 0


CASES = [Case(shard, tasks, width) for width in (40, 256) for shard in ("tasks", "seeds") for tasks in (25, 250, 2500)]
HELD_OUT = [case for case in CASES if case.tasks == 250]
"""Not fitted to."""


class Found(NamedTuple):
    """What a run of a case has measured."""

    ms: float
    """For a step."""
    bytes_sent: float
    """Over the loopback for a step, by all processes, with all that TCP adds."""
    mib: float
    """The most that a process has held."""


def measured(what: Case | None, processes: int, seconds: float) -> Any:
    """Run a case, or messages of many sizes, in processes of their own."""
    words = [sys.executable, "-m"]
    if processes > 1:
        words += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    words += ["benchmarks.processes", "--worker", json.dumps(what), "--seconds", str(seconds)]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{what} in {processes} processes:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def work(what: Case | None, seconds: float) -> None:
    """Measure in one of the processes; the first one prints."""
    with connected(), using_threads(1):
        ranks = Ranks(StopRequest())
        found: Any = _messages(ranks) if what is None else _training(what, ranks, seconds)
        if ranks.is_first:
            print(json.dumps(found))
        ranks.meet()


def _messages(ranks: Ranks) -> dict[int, float]:
    """Milliseconds of an all-reduce of so many numbers."""
    found = {}
    for size in MESSAGES:
        values, times = torch.ones(size), []
        for _ in range(40):
            ranks.meet()
            start = time.perf_counter()
            ranks.add_up(values)
            times.append(time.perf_counter() - start)
        found[size] = 1e3 * median(times)
    return found


def _training(case: Case, ranks: Ranks, seconds: float) -> Found:
    config = parse_config(
        f"""
        name: processes
        device: cpu
        seeds: {list(range(case.seeds))}
        model: {{hidden_sizes: [{case.width}, {case.width}]}}
        tasks: {{support_shots: 10, query_shots: 10}}
        outer: {{meta_batch_size: {case.tasks}}}
        engine: {{compile: 'on', threads: 1}}
        parallel: {{shard: {case.shard}}}
        """
    )
    experiment = make_experiment(config)
    state, plan = experiment.initial_state(CPU), make_plan(experiment, CPU, ranks.size)
    update = planned_update(experiment, state, plan, CPU, ranks=ranks)
    stream = stream_of_own(experiment, plan.shard, ranks, compiled=plan.compiled)

    def steps(count: int) -> float:
        """Make some; returns milliseconds for each."""
        ranks.meet()
        start = time.perf_counter()
        for _ in train_steps(
            state,
            stream.blocks(state.step, state.step + count, CPU),
            update,
            lambda *_: torch.zeros(case.seeds),
            seeds=config.seeds,
            learning_rate=lambda _: 1e-3,
            on_divergence="stop",
            is_logged=lambda _: False,
            clock=ranks.clock,
        ):
            pass
        ranks.meet()
        return 1e3 * (time.perf_counter() - start) / count

    steps(5)
    count = ranks.told(max(3, int(1e3 * seconds / steps(5))))
    before = _sent()
    ms = steps(count)
    return Found(ms, (_sent() - before) / count, max(ranks.all_told(peak_mib() or 0.0)))


def _sent() -> int:
    return int(_LOOPBACK.read_text())


class Model(NamedTuple):
    """What a step takes, in milliseconds: its arithmetic, its messages, and what sharing costs beside those."""

    fixed: dict[int, float]
    """By width: what each step costs whatever its tasks are."""
    each: dict[int, float]
    """By width: for a task, or a vector of them."""
    beside: float
    """How many times as long arithmetic takes beside another process."""
    shared: float
    """For a step whose tasks are shared: its message waits longer than one by itself, and torch makes the update."""
    handled_mib: float
    """For each MiB that is shared."""
    latency: float
    """Of an all-reduce among two."""
    sent_mib: float
    """For each MiB of it."""

    def ms(self, case: Case, processes: int) -> float:
        """What a case takes; messages pass in as many rounds as a tree has, and each number goes around about twice."""
        alone = self.fixed[case.width] + self.each[case.width] * case.work(processes)
        if processes == 1:
            return alone
        size = case.message_bytes / 2**20
        return self.beside * alone + (self.shared + size * self.handled_mib + self.message_ms(size, processes)) * (
            size > 0
        )

    def message_ms(self, mib: float, processes: int) -> float:
        """What an all-reduce takes."""
        return float(np.log2(processes) * self.latency + 2 * (processes - 1) / processes * mib * self.sent_mib)


def fitted(times: dict[tuple[Case, int], float], messages: dict[int, float]) -> Model:
    """Fit the model to what was measured, by least squares of relative errors.

    Args:
        times: Milliseconds of cases, by how many processes there were.
        messages: Of an all-reduce among two, by how many numbers it is of.
    """
    smallest, largest = MESSAGES[0], MESSAGES[-1]
    sent_mib = (messages[largest] - messages[smallest]) / (4 * largest / 2**20)
    fixed, each = {}, {}
    for width in {case.width for case, _ in times}:
        rows = [(case.work(1), ms) for (case, processes), ms in times.items() if (case.width, processes) == (width, 1)]
        fixed[width], each[width] = _least_squares([[1.0, work] for work, _ in rows], [ms for _, ms in rows])
    model = Model(fixed, each, 1.0, 0.0, 0.0, messages[smallest], sent_mib)
    two = [(case, ms) for (case, processes), ms in times.items() if processes == 2]
    columns, left = [], []
    for case, ms in two:
        mib = case.message_bytes / 2**20
        columns.append([fixed[case.width] + each[case.width] * case.work(2), float(mib > 0), mib])
        left.append(ms - model.message_ms(mib, 2) * (mib > 0))
    beside, shared, handled = _least_squares(columns, left)
    return model._replace(beside=beside, shared=shared, handled_mib=handled)


def _least_squares(columns: list[list[float]], values: list[float]) -> list[float]:
    scaled = np.array(columns) / np.array(values)[:, None]
    found: list[float] = np.linalg.lstsq(scaled, np.ones(len(values)), rcond=None)[0].tolist()
    return found


def report(rounds: int, seconds: float) -> list[str]:
    """Measure all in turn, fit, predict what was held out and what is larger; the lines of the page."""
    found: dict[tuple[Case, int], list[Found]] = {(case, count): [] for case in CASES for count in (1, 2)}
    messages: list[dict[str, float]] = []
    for _ in range(rounds):
        messages.append(measured(None, 2, seconds))
        for (case, count), runs in found.items():
            runs.append(Found(*measured(case, count, seconds)))
    times = {key: median(run.ms for run in runs) for key, runs in found.items()}
    all_reduce = {size: median(one[str(size)] for one in messages) for size in MESSAGES}
    model = fitted({key: ms for key, ms in times.items() if key[0] not in HELD_OUT}, all_reduce)
    lines = [
        "| shared | width | tasks | one process, ms | two processes, ms | as fast | bytes sent for a step | MiB each |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case in CASES:
        one, two = times[case, 1], times[case, 2]
        sent, held = (median(getattr(run, name) for run in found[case, 2]) for name in ("bytes_sent", "mib"))
        shared = f"{case.shard} of {case.seeds} seed{'s' * (case.seeds > 1)}"
        speed = f"{one:.3f} | {two:.3f} | {one / two:.2f} times"
        lines.append(f"| {shared} | {case.width} | {case.tasks:,} | {speed} | {sent:,.0f} | {held:.0f} |")
    lines += ["", "| numbers in a message | an all-reduce, ms |", "|---|---|"]
    lines += [f"| {size:,} | {ms:.3f} |" for size, ms in all_reduce.items()]
    lines += ["", f"model: {model}", "", "| held out | measured, ms | predicted, ms | error |", "|---|---|---|---|"]
    for case in HELD_OUT:
        for count in (1, 2):
            ms, predicted = times[case, count], model.ms(case, count)
            name = f"{case.shard}, width {case.width}, {count} process{'es' * (count > 1)}"
            lines.append(f"| {name} | {ms:.3f} | {predicted:.3f} | {predicted / ms - 1:+.0%} |")
    lines += ["", "| projected | 1 | 2 | 8 | 64 processes, ms |", "|---|---|---|---|---|"]
    for case in [case for case in CASES if case.shard == "tasks"]:
        numbers = " | ".join(f"{model.ms(case, count):.3g}" for count in (1, 2, 8, 64))
        lines.append(f"| tasks of one seed, width {case.width}, {case.tasks:,} tasks | {numbers} |")
    return lines


def main() -> None:
    """Measure, or be one of the processes that are measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.processes", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a run")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is None:
        print("\n".join(report(options.rounds, options.seconds)))
        return
    asked = json.loads(options.worker)
    work(None if asked is None else Case(*asked), options.seconds)


if __name__ == "__main__":
    main()
