"""One process for each contender, so that no thread pool or compiler disturbs another; they run in turn."""

import multiprocessing
import os
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.cases import Arrays, Case, fixed_batch, fixed_params
from benchmarks.contenders import CONTENDERS
from mamlcli.cores import let_waiting_threads_sleep

CLEAR_PEAK = Path("/proc/self/clear_refs")


class Worker:
    """A process that trains one contender on one case when it is asked to."""

    def __init__(self, contender: str, case: Case) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(contender, case, other), daemon=True)
        with patch.dict(os.environ):
            if contender.startswith("mamlcli"):
                let_waiting_threads_sleep()  # as a command does
            self.process.start()
        self.gradient: Arrays = self._answer()

    def train(self, steps: int) -> float:
        """Train some steps; returns milliseconds per step."""
        self.connection.send(steps)
        return float(self._answer())

    def peak_mib(self) -> float | None:
        """The most memory that the process has held since it was warm, in MiB; None where the system does not tell."""
        self.connection.send("memory")
        answer: float | None = self._answer()
        return answer

    def close(self) -> None:
        """End the process."""
        self.connection.send(None)
        self.process.join()

    def _answer(self) -> Any:
        answer = self.connection.recv()
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return answer


def _serve(contender: str, case: Case, connection: Connection) -> None:
    warm = False
    try:
        check, steps = CONTENDERS[contender](case)
        connection.send(check(fixed_params(case), fixed_batch(case)))
        while (count := connection.recv()) is not None:
            if count == "memory":
                connection.send(peak_mib())
                continue
            start = time.perf_counter()
            steps(count)
            connection.send(1e3 * (time.perf_counter() - start) / count)
            if not warm and CLEAR_PEAK.exists():
                CLEAR_PEAK.write_text("5")  # what compiling held does not count
            warm = True
    except Exception:
        connection.send(traceback.format_exc())


def peak_mib() -> float | None:
    """The most memory that this process has held, in MiB; None where the system does not tell."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), None)


def assert_same_gradient(workers: dict[str, Worker]) -> None:
    """Fail unless all contenders computed the same meta-gradient on the same batch, to float32's rounding."""
    reference = next(iter(workers.values())).gradient
    for name, worker in workers.items():
        for ours, theirs in zip(worker.gradient, reference, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4, err_msg=name)


def measure_in_turn(workers: dict[str, Worker], *, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Time every contender in turn, so that what slows the machine down slows all of them.

    Args:
        workers: By name.
        rounds: How often each runs.
        seconds: About how long each run takes.

    Returns:
        Milliseconds per meta-step of every round.
    """
    counts = {}
    for name, worker in workers.items():
        worker.train(221)  # compiles, and makes what is made once
        counts[name] = max(3, int(1e3 * seconds / worker.train(10)))
    times: dict[str, list[float]] = {name: [] for name in workers}
    for _ in range(rounds):
        for name, worker in workers.items():
            times[name].append(worker.train(counts[name]))
    return times
