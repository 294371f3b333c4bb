"""`maml compare-orders`: first against second order as a paired experiment."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure

from mamlcli.config import Config
from mamlcli.errors import InterruptedRunError, MamlError, UsageError
from mamlcli.evaluation import finite_or_none
from mamlcli.experiments.chain_notes import chain_note
from mamlcli.experiments.cosine_log import CosineLog
from mamlcli.experiments.evaluate import meta_test, over_seeds, query_protocol, summarise_all
from mamlcli.experiments.figures import save_or_warn
from mamlcli.experiments.session import LoggedStep, Session
from mamlcli.experiments.setup import Reporter, Silent, make_state, make_stream, num_threads, with_order
from mamlcli.experiments.threads import Threads
from mamlcli.experiments.train import (
    announce_device,
    check_same_experiment,
    prepare_resume,
    report_step,
    start_or_open,
    update_config,
)
from mamlcli.interrupts import StopRequest
from mamlcli.measure import peak_memory_bytes
from mamlcli.plots import order_adaptation_figure
from mamlcli.runs.files import csv_text, json_text
from mamlcli.runs.folder import RunFolder
from mamlcli.statistics import crossed_half_width, interval_over
from mamlcli.training import frozen_seeds
from mamlcli.training_plots import cosine_figure, order_learning_figure
from mamlcli.types import ORDERS, Order, Row


class Comparison(NamedTuple):
    """What a comparison found."""

    run: Path
    runs: dict[Order, Path]
    results: list[Row]
    """shots, inner_steps, first, second (means over seeds and tasks), difference = first - second, the low and high
    end of its 95% interval, null for what is not finite, and num_diverged_seeds."""
    interval: str
    """What the intervals of the differences are over."""
    evaluations: dict[Order, list[Row]]
    query: dict[str, Any]
    """On what the losses are measured."""
    cosines: list[Row]
    """step, seed and the cosine of both meta-gradients at the second-order run's parameters."""
    cost: dict[Order, Row]
    """ms_per_step (median over the stretches between logged steps) and peak_memory_bytes of a meta-update."""
    wall_s: float
    figures: list[Path]
    notes: list[str]
    """What else is to be said of the two runs, in words."""

    def as_json(self) -> dict[str, Any]:
        """The object of `maml compare-orders --json` and of comparison.json."""
        return {
            "schema": "mamlcli.compare-orders/1",
            "run": str(self.run),
            "runs": {order: str(path) for order, path in self.runs.items()},
            "interval": f"95% interval of the paired difference, {self.interval}",
            "results": self.results,
            "evaluations": self.evaluations,
            "query": self.query,
            "cosines": self.cosines,
            "cost": self.cost,
            "wall_s": self.wall_s,
            "notes": self.notes,
        }


def compare_orders(
    config: Config,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    reporter: Reporter | None = None,
) -> Comparison:
    """Train both orders from the same parameters on the same tasks, and evaluate them on the same tasks.

    Both are trained in turn, from one logged step to the next, so that their times are measured side by side.

    Args:
        config: The experiment; its algorithm.order is not used.
        out: The folder; a new one under `outputs/<name>/` if None. Each order is a run of its own in it.
        overwrite: Move a run that is in `out` aside first; what is no run is refused.
        resume: Continue the comparison in `out` if there is one, and start it otherwise.
        reporter: Hears of progress.

    Raises:
        MamlError: As `mamlcli.train` and `mamlcli.evaluate` do.
    """
    reporter = reporter or Silent()
    if config.algorithm.name == "joint":
        raise UsageError("joint training has no inner gradient, and so no order to compare; algorithm.name: maml has")
    device, start = announce_device(config, reporter), time.perf_counter()
    with StopRequest() as stop, ExitStack() as held:
        folder, resumed = start_or_open(
            config, held, reporter, out=out, overwrite=overwrite, resume=resume, kind="compare-orders"
        )
        with Threads(config, num_threads(config), reporter) as threads, _recorded(folder):
            if resumed:
                check_same_experiment(folder, config)
            sessions = {order: _session(folder, config, order, device, stop, threads, held) for order in ORDERS}
            update_config(folder, config)
            cosines = _train_in_turn(sessions, folder, reporter)
            losses = {
                order: meta_test(config, one.state.params, device, stop, threads) for order, one in sessions.items()
            }
            result = Comparison(
                run=folder.path,
                runs={order: session.run.path for order, session in sessions.items()},
                results=[
                    row | {"num_diverged_seeds": _num_frozen(sessions)}
                    for row in _paired(losses["first"], losses["second"])
                ],
                interval=interval_over(len(config.seeds)),
                evaluations={
                    order: summarise_all(config, values, frozen_seeds(sessions[order].state, config.seeds))
                    for order, values in losses.items()
                },
                query=query_protocol(config),
                cosines=cosines,
                cost={order: _cost(session) for order, session in sessions.items()},
                wall_s=round(time.perf_counter() - start, 3),
                figures=[],
                notes=_notes(config, sessions),
            )
            _write(folder, result)
            result = result._replace(figures=_draw(folder, config, result, sessions, stop, reporter))
            stop.raise_if_asked(f"interrupted after the comparison; it is complete: {folder.path}")
    return result


def _session(
    folder: RunFolder,
    config: Config,
    order: Order,
    device: torch.device,
    stop: StopRequest,
    threads: Threads,
    held: ExitStack,
) -> Session:
    """Start or continue the run of one order, in a folder of its own that is held until `held` ends."""
    config = with_order(config, order)
    reporter = threads.reporter
    run, resumed = start_or_open(config, held, reporter, out=folder.path / order, overwrite=False, resume=True)
    session = Session(run, config, device, stop, threads, reporter)
    if resumed:
        prepare_resume(session)
    return session


@contextmanager
def _recorded(folder: RunFolder) -> Iterator[None]:
    """Keep the comparison's run.json true."""
    status = "failed"
    try:
        folder.write_info(folder.read_info() | {"status": "running"})
        yield
        status = "done"
    except MamlError as error:
        status = error.status
        raise
    finally:
        # What ended a comparison is said, not that its end could not be written.
        with nullcontext() if status == "done" else suppress(OSError):
            folder.write_info(folder.read_info() | {"status": status})


def _train_in_turn(sessions: dict[Order, Session], folder: RunFolder, reporter: Reporter) -> list[Row]:
    """Advance the order that is behind, from logged step to logged step, until both are done."""
    loops = {order: session.train() for order, session in sessions.items()}
    log = CosineLog(folder, sessions["second"])
    interrupted: InterruptedRunError | None = None
    while loops:
        order = min(loops, key=lambda order: sessions[order].state.step)
        try:
            logged = _advance(loops, order)
        except InterruptedRunError as error:
            interrupted, logged = error, None
            del loops[order]  # the other one sees the signal at its next step, and saves too
        if logged is not None and order == "second":
            log.measure(logged.step)
            report_step(reporter, logged.rows, sessions[order].config.outer.steps)
    if interrupted:
        raise InterruptedRunError(interrupted.signal_number, f"interrupted; both orders are saved in {folder.path}")
    return log.rows


def _advance(loops: dict[Order, Iterator[LoggedStep]], order: Order) -> LoggedStep | None:
    try:
        return next(loops[order])
    except StopIteration:
        del loops[order]
        return None


def _paired(first: dict[int, torch.Tensor], second: dict[int, torch.Tensor]) -> list[Row]:
    """Compare the orders task by task: the same seed on the same task."""
    rows = []
    for shots in first:
        # Axes: inner steps, seeds, tasks.
        one, other = (losses[shots].double().cpu().numpy().transpose(2, 0, 1) for losses in (first, second))
        with np.errstate(invalid="ignore"):  # inf - inf, where a task diverged in both orders
            differences = one - other
            means, halves = differences.mean(axis=(1, 2)), crossed_half_width(differences)
        for step, (mean, half) in enumerate(zip(means, halves, strict=True)):
            numbers = {
                "first": one[step].mean(),
                "second": other[step].mean(),
                "difference": mean,
                "low": mean - half,
                "high": mean + half,
            }
            finite = {name: finite_or_none(number) for name, number in numbers.items()}
            rows.append({"shots": shots, "inner_steps": step} | finite)
    return rows


def _num_frozen(sessions: dict[Order, Session]) -> int:
    """How many seeds have diverged in one order or both; they count with the parameters they kept."""
    return len(set().union(*(frozen_seeds(one.state, one.config.seeds) for one in sessions.values())))


def _cost(session: Session) -> Row:
    tasks = make_stream(session.config).batch(0, session.device)
    # One update too many, of parameters that are saved and evaluated already.
    peak = peak_memory_bytes(lambda: session.update(tasks), session.device)
    return {"ms_per_step": _ms_per_step(session.run.read_metrics()), "peak_memory_bytes": peak}


def _ms_per_step(rows: list[Row]) -> float | None:
    """Median time of a meta-step over the stretches between logged steps; the first step pays for set-up."""
    clock = {row["step"]: row["wall_s"] for row in rows}
    stretches = [(end - start, clock[end] - clock[start]) for start, end in pairwise(sorted(clock))]
    return round(1e3 * median(seconds / steps for steps, seconds in stretches), 4) if stretches else None


def _notes(config: Config, sessions: dict[Order, Session]) -> list[str]:
    """What each order has done to a chain, whose teacher and slot weights learn through inner gradients alone."""
    if config.algorithm.name != "chain":
        return []
    begun = make_state(config, torch.device("cpu")).params
    return [chain_note(order, begun, session.state.params, session.state.step) for order, session in sessions.items()]


def _write(folder: RunFolder, result: Comparison) -> None:
    folder.write_text("comparison.json", json_text(result.as_json()))
    folder.write_text("comparison.csv", csv_text(result.results))


def _draw(
    folder: RunFolder,
    config: Config,
    result: Comparison,
    sessions: dict[Order, Session],
    stop: StopRequest,
    reporter: Reporter,
) -> list[Path]:
    metrics = [{"order": order} | row for order in ORDERS for row in sessions[order].run.read_metrics()]
    curves = [{"order": order} | row for order in ORDERS for row in over_seeds(config, result.evaluations[order])]
    seeds = f"{len(config.seeds)} seed{'s' * (len(config.seeds) > 1)}"
    learning, cosine = f"{config.name}: {seeds}", f"{config.name}: agreement of both meta-gradients"
    adaptation = f"{learning}, {config.evaluation.tasks} tasks\n95% interval {curves[0]['interval']}"
    figures: list[tuple[str, Callable[[], Figure], list[Row]]] = [
        ("learning", lambda: order_learning_figure(metrics, title=learning), metrics),
        ("adaptation", lambda: order_adaptation_figure(curves, title=adaptation), curves),
        ("cosine", lambda: cosine_figure(result.cosines, title=cosine), result.cosines),
    ]
    saved = []
    for stem, draw, rows in figures:
        stop.raise_if_asked(f"interrupted before all figures were drawn; the tables are in {folder.path}")
        saved.append(save_or_warn(folder, stem, draw, rows, reporter))
    return [path for path in saved if path]
