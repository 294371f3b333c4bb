"""Beside other work: two processes that multiply matrices on all cores, as other trainings do."""

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from statistics import median

from benchmarks.cases import Case
from benchmarks.contenders import PACKAGES
from benchmarks.workers import Worker

BUSY = Case("ten seeds", seeds=10)
NAMES = ("mamlcli", "mamlcli, one thread", "JAX jit(scan(vmap(grad))) + optax")


def busy_table(rounds: int, seconds: float) -> list[str]:
    """Measure each contender on a quiet machine and beside others, in turn."""
    workers = {name: Worker(name, BUSY) for name in NAMES if find_spec(PACKAGES.get(name, "torch"))}
    counts: dict[str, int] = {}
    times: dict[tuple[str, bool], list[float]] = {(name, busy): [] for name in workers for busy in (False, True)}
    for name, worker in workers.items():
        worker.train(401)
        counts[name] = max(3, int(1e3 * seconds / worker.train(50)))
    for _ in range(rounds):
        for name, worker in workers.items():
            times[name, False].append(worker.train(counts[name]))
        with others():
            for name, worker in workers.items():
                times[name, True].append(worker.train(counts[name]))
    for worker in workers.values():
        worker.close()
    lines = [
        "| ten seeds, ms per meta-step: median (min to max) | quiet | beside two that multiply | times as long |",
        "|---|---|---|---|",
    ]
    for name in workers:
        quiet, busy = times[name, False], times[name, True]
        ratio = median(one / other for one, other in zip(busy, quiet, strict=True))
        lines.append(f"| {name} | {_spread(quiet)} | {_spread(busy)} | {ratio:.1f} |")
    return lines


@contextmanager
def others() -> Iterator[None]:
    """Two processes that want every core for as long as this is entered."""
    context = multiprocessing.get_context("spawn")
    running = [context.Process(target=_multiply, daemon=True) for _ in range(2)]
    ready = [_started(process) for process in running]
    try:
        assert all(ready)
        yield
    finally:
        for process in running:
            process.kill()
            process.join()


def _started(process: "multiprocessing.context.SpawnProcess") -> bool:
    process.start()
    process.join(3.0)  # as long as it takes to import torch and begin
    return process.is_alive()


def _multiply() -> None:
    import torch

    one = torch.rand(1000, 1000)
    while True:
        torch.mm(one, one)


def _spread(values: list[float]) -> str:
    return f"{median(values):.3f} ({min(values):.3f} to {max(values):.3f})"
