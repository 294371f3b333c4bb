"""What runs are estimated to hold beside what they held: whole commands, each in a process of its own."""

import contextlib
import multiprocessing
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from mamlcli import Config, parse_config

_CLEAR_PEAK, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_CONFIG = "name: memory\nseeds: [0]\ndevice: cpu\nouter: {steps: 3}\nengine: {threads: 1}"
# Of a wide model nothing but its parameters counts.
_FEW = ("tasks={support_shots: 1, query_shots: 1}", "evaluation={tasks: 2, shots: [1], query_shots: 1}")


class Need(NamedTuple):
    """One command on one config; all hold more than what every process does."""

    name: str
    overrides: tuple[str, ...]
    command: str = "train"

    def config(self) -> Config:
        """The experiment."""
        return parse_config(_CONFIG, overrides=self.overrides)


_TINY = ("model.hidden_sizes=[1]", "outer.meta_batch_size=1", *_FEW)
_WIDE = ("model.hidden_sizes=[4000, 4000]", "outer.meta_batch_size=1", *_FEW)
NEEDS = [
    Need("many parameters, Adam", _WIDE),
    Need("many parameters, SGD", (*_WIDE, "outer.optimizer=sgd", "algorithm.inner_lr=0.0001", "outer.lr=1e-6")),
    Need("many parameters, eval", _WIDE, "eval"),
    Need("weights of 64 tasks, dense", ("model.hidden_sizes=[500, 500]", "engine.inner_update=dense",
         "engine.task_chunk=64", "outer.meta_batch_size=64")),
    Need("the same in first order", ("model.hidden_sizes=[500, 500]", "engine.inner_update=dense",
         "engine.task_chunk=64", "outer.meta_batch_size=64", "algorithm.order=first")),
    Need("twenty inner steps, dense", ("algorithm.inner_steps=20", "model.hidden_sizes=[100, 100]",
         "engine.task_chunk=1000", "outer.meta_batch_size=1000")),
    Need("2,000 samples, low rank", ("model.hidden_sizes=[256, 256]", "tasks.support_shots=1000",
         "tasks.query_shots=1000", "engine.task_chunk=25")),
    Need("100,000 samples, fused", ("tasks.support_shots=50000", "tasks.query_shots=50000",
         "outer.meta_batch_size=16", "engine={inner_update: fused, compile: \"on\", threads: 1}")),
    Need("Meta-SGD, three steps", ("algorithm.learned_inner_lr=parameter", "algorithm.inner_steps=3",
         "model.hidden_sizes=[300, 300]", "engine.task_chunk=200", "outer.meta_batch_size=200")),
    Need("a chain", ("algorithm={name: chain, inner_steps: 2, unlabelled_inputs: 500}", "tasks.support_shots=500",
         "evaluation.shots=[500]", "engine.task_chunk=1000", "outer.meta_batch_size=1000")),
    Need("a million tasks", ("outer.meta_batch_size=1000000", "outer.steps=1", "model.hidden_sizes=[1]",
         "tasks={support_shots: 5, query_shots: 5}", "engine.task_chunk=100000")),
    Need("ten thousand seeds", (f"seeds={list(range(10000))}", "outer.meta_batch_size=2",
         "evaluation={tasks: 2, query_shots: 10, inner_steps: 1, shots: [5]}")),
    Need("meta-test on a grid of 10,000", ("evaluation={grid: 10000, tasks: 200, inner_steps: 2}",), "eval"),
    Need("meta-test of 200,000 tasks", ("evaluation={tasks: 200000, query_shots: 5, shots: [5]}",
         "model.hidden_sizes=[4]", "seeds=[0, 1, 2]"), "eval"),
    Need("checks of gradients", ("model.hidden_sizes=[400, 400]", "seeds=[0, 1, 2]"), "check-grads"),
    Need("a comparison of orders", ("model.hidden_sizes=[500, 500]", "outer.meta_batch_size=50", *_FEW),
         "compare-orders"),
    Need("a dry run", (*_WIDE,), "dry-run"),
]  # fmt: skip


def estimated_bytes(need: Need) -> int:
    """What the command is estimated to hold at its peak."""
    import torch

    from mamlcli.commands.check_grads import MAX_TASKS, part_of
    from mamlcli.compute.plan import make_plan
    from mamlcli.experiment import make_experiment
    from mamlcli.memory.estimate import checks_estimate, meta_test_estimate, one_step_estimate, training_estimate

    config = need.config()
    experiment = make_experiment(part_of(config, MAX_TASKS) if need.command == "check-grads" else config)
    plan = make_plan(experiment, torch.device("cpu"))
    if need.command == "check-grads":
        return checks_estimate(experiment, plan).total()
    if need.command == "dry-run":
        return one_step_estimate(experiment, plan).total()
    if need.command == "eval":
        return meta_test_estimate(experiment).total()
    compared = need.command == "compare-orders"
    training = training_estimate(experiment, plan, orders_compared=compared).total()
    tested = meta_test_estimate(experiment, orders_compared=True).total() if compared else 0
    return max(training, tested)


def memory_table() -> list[str]:
    """The lines of a table; none where the system does not tell a process's peak."""
    if not _CLEAR_PEAK.exists():
        return []
    usual = {
        command: _peak_bytes(Need("tiny", _TINY, command)) for command in dict.fromkeys(need.command for need in NEEDS)
    }
    lines = ["| what holds memory | command | estimate, MiB | measured, MiB | ratio |", "|---|---|---|---|---|"]
    for need in NEEDS:
        estimate, measured = estimated_bytes(need) / 2**20, (_peak_bytes(need) - usual[need.command]) / 2**20
        ratio = estimate / measured
        lines.append(f"| {need.name} | {need.command} | {estimate:.0f} | {measured:.0f} | {ratio:.2f} |")
    return lines


def _peak_bytes(need: Need) -> int:
    """The most that a process held while it did a command, beyond what it held before."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(need, theirs), daemon=True)
    process.start()
    theirs.close()
    answer: int | str = ours.recv()
    process.join()
    if isinstance(answer, str):
        raise RuntimeError(f"{need.name}: {answer}")
    return answer


def _serve(need: Need, connection: Connection) -> None:
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            connection.send(_measured(need))
    except Exception as error:
        connection.send(repr(error))


def _measured(need: Need) -> int:
    from mamlcli.commands.check_grads import check_grads
    from mamlcli.commands.compare_orders import compare_orders
    from mamlcli.commands.evaluate import evaluate
    from mamlcli.commands.train import dry_run, train

    config = need.config()
    if need.command == "eval":
        train(config, out="run")
    before = _status_bytes("VmRSS")
    _CLEAR_PEAK.write_text("5")
    if need.command == "train":
        train(config)
    elif need.command == "eval":
        evaluate("run")
    elif need.command == "compare-orders":
        compare_orders(config)
    elif need.command == "check-grads":
        check_grads(config)
    else:
        dry_run(config)
    return _status_bytes("VmHWM") - before


def _status_bytes(name: str) -> int:
    return next(1024 * int(line.split()[1]) for line in _STATUS.read_text().splitlines() if line.startswith(name))


if __name__ == "__main__":
    print("\n".join(memory_table()))
