"""Measure, and write the table and the figure: `python -m benchmarks [--rounds N] [--out FOLDER]`."""

import argparse
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.busy import busy_commands_table, busy_table, others
from benchmarks.cases import GROWTH, MAIN, SCALING, Case
from benchmarks.contenders import CONTENDERS, PACKAGES, experiment
from benchmarks.memory import memory_table
from benchmarks.sweeps import sweep_table
from benchmarks.workers import Worker, assert_same_gradient, measure_in_turn
from mamlcli.compute.plan import low_rank_obstacles, make_plan, planned_update, uncompiled_gradient, update_memory_bytes
from mamlcli.threads import using_threads

CPU = torch.device("cpu")
LOOPS = ("higher, loop", "torchopt MetaSGD, loop")
OF_ONE_SEED = (*LOOPS, "parallel-metalearn", "torch.func vmap(grad), eager")


def main() -> None:
    """Run all cases."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="runs of each contender, in turn")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a run")
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmark"), help="where to write")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    lines = [
        *machine_lines(),
        "",
        "| case | contender | ms per meta-step: median (min to max) | mamlcli is faster | MiB of the process |",
        "|---|---|---|---|---|",
    ]
    lines += [line for case in MAIN for line in main_rows(case, options.rounds, options.seconds)]
    rows = [scaling_row(case, options.rounds, options.seconds) for case in SCALING]
    lines += scaling_table(rows)
    lines += ["", *busy_table(max(3, options.rounds // 2), options.seconds)]
    lines += ["", *busy_commands_table(max(3, options.rounds // 2))]
    lines += ["", *sweep_table(max(3, options.rounds // 2))]
    lines += ["", *memory_table()]
    (options.out / "benchmark.md").write_text("\n".join(lines) + "\n")
    scaling_figure(rows).savefig(options.out / "scaling.png", dpi=120)
    print("\n".join(lines))


def machine_lines() -> list[str]:
    """Say on what and with what it was measured, and which peers are missing."""
    names = ("mamlcli", "torch", "numpy", "higher", "torchopt", "parallel-metalearn", "jax", "optax")
    found = []
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} missing")
    return [
        f"{time.strftime('%Y-%m-%d')}, {torch.get_num_threads()} cores, {cpu_name()}, Python "
        f"{platform.python_version()}: " + ", ".join(found)
    ]


def cpu_name() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        if info.exists()
        else []
    )
    return names[0] if names else platform.machine()


def main_rows(case: Case, rounds: int, seconds: float) -> list[str]:
    """Measure every contender that can run a case; peers that loop over tasks run the first case alone."""
    wanted = [name for name in CONTENDERS if case == MAIN[0] or name not in LOOPS]
    if case.seeds == 1:
        wanted.remove("mamlcli, one thread")
    if case.seeds > 1:
        wanted = [name for name in wanted if name not in OF_ONE_SEED]
    present = [name for name in wanted if find_spec(PACKAGES.get(name, "torch"))]
    workers = {name: Worker(name, case) for name in present}
    assert_same_gradient(workers)
    times = measure_in_turn(workers, rounds=rounds, seconds=seconds)
    memory = {name: worker.peak_mib() for name, worker in workers.items()}
    for worker in workers.values():
        worker.close()
    rows = []
    for name in wanted:
        if name not in times:
            rows.append(f"| {case.name} | {name} | not installed | | |")
            continue
        ratios = [theirs / mine for theirs, mine in zip(times[name], times["mamlcli"], strict=True)]
        spread = f"{median(times[name]):.3f} ({min(times[name]):.3f} to {max(times[name]):.3f})"
        faster = "" if name == "mamlcli" else f"{median(ratios):.1f} times"
        held = "" if memory[name] is None else f"{memory[name]:.0f}"
        rows.append(f"| {case.name} | {name} | {spread} | {faster} | {held} |")
    limits = {"the arithmetic limit": "dense"}
    if not low_rank_obstacles(experiment(case)):
        limits["the same, of low-rank products"] = "low_rank"
    for name, form in limits.items():
        for contender, on in (("mamlcli", case), ("mamlcli, one thread", case._replace(threads=1))):
            if contender in times:
                limit = arithmetic_limit_ms(on, form)
                longer = median(times[contender]) / limit
                on_one = "" if contender == "mamlcli" else ", on one thread"
                rows.append(f"| {case.name} | {name}{on_one} | {limit:.3f} | it takes {longer:.1f} times as long | |")
    return rows


def arithmetic_limit_ms(case: Case, inner_update: str) -> float:
    """Time of the step's multiply-adds at the rate of a large matrix product, on as many cores as the case uses.

    Args:
        case: What is computed.
        inner_update: `dense` counts the step as it is written in textbooks, and `low_rank` as that form of it needs.
    """
    threads = make_plan(experiment(case, "engine.compile=on"), CPU).threads
    described = experiment(case, f"engine.inner_update={inner_update}")
    plan, params = make_plan(described, CPU), described.initial_state(CPU).params
    tasks = described.stream().batch(0)
    with FlopCounterMode(display=False) as counter:
        uncompiled_gradient(described, plan)(params, tasks)
    one = torch.randn(2048, 2048)
    times = []
    with using_threads(threads):
        for _ in range(7):
            start = time.perf_counter()
            torch.mm(one, one)
            times.append(time.perf_counter() - start)
    return float(1e3 * counter.get_total_flops() * min(times) / (2 * 2048**3))


def scaling_row(case: Case, rounds: int, seconds: float) -> dict[str, Any]:
    """Measure this project alone on a case, on a quiet machine and beside others."""
    worker, rounds = Worker("mamlcli", case), max(3, rounds // 2)
    times = measure_in_turn({"": worker}, rounds=rounds, seconds=seconds)[""]
    with others():
        busy = measure_in_turn({"": worker}, rounds=rounds, seconds=seconds)[""]
    worker.close()
    described = experiment(case, "engine.compile=on")
    plan, tasks = make_plan(described, CPU), described.stream().batch(0)
    update = planned_update(described, described.initial_state(CPU), plan, CPU)
    with using_threads(plan.torch_threads):
        held = update_memory_bytes(update, tasks, CPU)
    return {"case": case, "ms": median(times), "busy": median(busy), "bytes": held}


def scaling_table(rows: list[dict[str, Any]]) -> list[str]:
    """The same as lines."""
    lines = [
        "",
        "| case | ms per meta-step | beside two that multiply | peak memory of a meta-update |",
        "|---|---|---|---|",
    ]
    for row in rows:
        held = f"{row['bytes'] / 2**20:.2f} MiB"
        lines.append(f"| {row['case'].name} | {row['ms']:.3f} | {row['busy']:.3f} | {held} |")
    return lines


def scaling_figure(rows: list[dict[str, Any]]) -> Figure:
    """Draw cost and memory against inner steps, tasks and seeds, beside what linear growth would be."""
    figure = Figure(figsize=(14, 5.6), layout="constrained")
    panels = figure.subplots(2, len(GROWTH))
    for column, (name, label) in enumerate(GROWTH.items()):
        chosen = [row for row in rows if row["case"].name == f"{getattr(row['case'], name)} {label}"]
        x = [getattr(row["case"], name) for row in chosen]
        for axes, key, scale, unit in (
            (panels[0][column], "ms", 1.0, "ms per meta-step"),
            (panels[1][column], "bytes", 2**20, "MiB"),
        ):
            y = [row[key] / scale for row in chosen]
            axes.loglog(x, y, "o-", color="#0072B2", label="on a quiet machine")
            if key == "ms":
                axes.loglog(
                    x, [row["busy"] for row in chosen], "s--", color="#D55E00", label="beside two that multiply"
                )
            power = {"width": 2, "threads": -1 if key == "ms" else 1}.get(name, 1)
            grown = {2: "as the square", -1: "as the inverse", 1: "linear"}[power]
            axes.loglog(x, [y[0] * (one / x[0]) ** power for one in x], ":", color="#777777", label=grown)
            axes.set_xlabel(label)
            if column == 0:
                axes.set_ylabel(unit)
            axes.set_xticks(x, map(str, x))
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.spines[["top", "right"]].set_visible(False)
            lines, labels = axes.get_legend_handles_labels()
            if axes is panels[0][0]:  # what all panels have is said once
                figure.legend(lines[:2], labels[:2], loc="outside upper left", ncols=2, frameon=False)
            axes.legend(lines[-1:], labels[-1:], frameon=False, fontsize="small")
    return figure


if __name__ == "__main__":
    main()
