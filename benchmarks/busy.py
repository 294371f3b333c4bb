"""Beside other work: two processes that multiply matrices on all cores, as other trainings do."""

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from benchmarks.cases import Case
from benchmarks.commands import maml, ms_per_step
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
        worker.train(221)
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


def busy_commands_table(rounds: int) -> list[str]:
    """Measure whole commands of what waits for threads many times in a step, as `auto` has it and with one."""
    lines = [
        "| median of whole commands | quiet | on one thread | beside two that multiply | on one thread there |",
        "|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch) / "quickstart"
        maml("train", "quickstart", "seeds=[0,1,2]", out=run)

        def evaluated(*settings: str) -> Callable[[str], float]:
            def measure(threads: str) -> float:
                with tempfile.TemporaryDirectory() as out:
                    start = time.perf_counter()
                    maml("eval", str(run), *settings, f"engine.threads={threads}", out=Path(out) / "evaluation")
                    return time.perf_counter() - start

            return measure

        def trained(name: str, *settings: str) -> Callable[[str], float]:
            def measure(threads: str) -> float:
                with tempfile.TemporaryDirectory() as out:
                    maml("train", name, *settings, f"engine.threads={threads}", out=Path(out) / "run")
                    return ms_per_step(Path(out) / "run")

            return measure

        short = ("outer.steps=600",)
        measured = {
            "an evaluation of the quickstart, s": evaluated(),
            "the same without the kernel, s": evaluated("engine.compile=off"),
            "a step of the chain, ms": trained("chain", *short),
            "a step of a graph at width 256, ms": trained(
                "quickstart", *short, "model.hidden_sizes=[256,256]", "engine.compile=on", "seeds=[0,1,2]"
            ),
        }
        for name, measure in measured.items():
            times: dict[tuple[bool, str], list[float]] = {}
            for _ in range(rounds):
                for threads in ("auto", "1"):
                    times.setdefault((False, threads), []).append(measure(threads))
                with others():
                    for threads in ("auto", "1"):
                        times.setdefault((True, threads), []).append(measure(threads))
            lines.append(f"| {name} | " + " | ".join(f"{median(found):.2f}" for found in times.values()) + " |")
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
