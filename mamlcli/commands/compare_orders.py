"""`maml compare-orders`: first against second order as a paired experiment."""

import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import torch

from mamlcli.best import Chosen
from mamlcli.compute.plan import make_plan, update_memory_bytes
from mamlcli.config.arguments import check_config
from mamlcli.config.experiment import Config
from mamlcli.drawing import cosine_drawing, learning_drawing, losses_of_orders, save_or_warn
from mamlcli.errors import DivergedError, InterruptedRunError
from mamlcli.experiment import Experiment, in_order, make_experiment
from mamlcli.figures.drawing import Drawing
from mamlcli.groups import tested_seeds
from mamlcli.interrupts import StopRequest
from mamlcli.memory_check import check_comparison
from mamlcli.meta_test.measure import meta_test, of_the_first, over_seeds, query_protocol, summarise_all
from mamlcli.meta_test.protocol import seed_steps
from mamlcli.reporting import Reporter, Silent
from mamlcli.results import Comparison
from mamlcli.rows import ComparisonRow, CosineRow, Cost
from mamlcli.runs.files import csv_text, json_text
from mamlcli.runs.folder import RunFolder
from mamlcli.runs.recorded import recorded
from mamlcli.statistics import crossed_half_width, interval_over
from mamlcli.threads import Threads
from mamlcli.trackers.group import check_installed
from mamlcli.training import frozen_seeds
from mamlcli.trainings.cosines import CosineLog
from mamlcli.trainings.ending import say_how_to_go_on
from mamlcli.trainings.parts import parts_note
from mamlcli.trainings.start import (
    announce_device,
    check_same_experiment,
    prepare_resume,
    report_step,
    start_or_open,
    update_config,
)
from mamlcli.trainings.training import LoggedStep, Training
from mamlcli.types import ORDERS, Order, Row, finite_or_none


def compare_orders(
    config: Config,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    reporter: Reporter | None = None,
    stop: StopRequest | None = None,
) -> Comparison:
    """Train both orders from the same parameters on the same tasks, and evaluate them on the same tasks.

    Both are trained in turn, from one logged step to the next, so that their times are measured side by side.

    Args:
        config: The experiment; its algorithm.order is not used.
        out: The folder; a new one under `outputs/<name>/` if None. Each order is a run of its own in it.
        overwrite: Move a run that is in `out` aside first; what is no run is refused.
        resume: Continue the comparison in `out` if there is one, and start it otherwise.
        reporter: Hears of progress.
        stop: Asked between steps whether to end early; None goes on to the end.

    Raises:
        MamlError: As `mamlcli.train` and `mamlcli.evaluate` do.
    """
    check_config(config)
    reporter = reporter or Silent()
    experiments: dict[Order, Experiment] = {order: make_experiment(in_order(config, order)) for order in ORDERS}
    check_installed(config)
    device, start = announce_device(config, reporter), time.perf_counter()
    plan = make_plan(experiments["second"], device)
    check_comparison(experiments["second"], plan, device)
    with stop or StopRequest() as stop, ExitStack() as held:
        folder, resumed = start_or_open(
            config, held, reporter, out=out, overwrite=overwrite, resume=resume, kind="compare-orders"
        )
        method = " and ".join(one.method.title for one in experiments.values())
        said = {"method": method, "steps": config.outer.steps}
        with Threads(config.engine.threads, plan.threads, reporter.note) as threads, recorded(folder, said):
            if resumed:
                check_same_experiment(folder, config)
            trainings = {
                order: _training(folder.path / order, one, device, stop, threads, reporter, held)
                for order, one in experiments.items()
            }
            update_config(folder, config)
            cosines = _train_in_turn_or_say(trainings, folder, reporter)
            chosen = {order: one.chosen() for order, one in trainings.items()}
            losses = _meta_tests(trainings, chosen, folder, threads, stop, reporter)
            interval = interval_over(len(tested_seeds(experiments["second"])))
            result = Comparison(
                run=folder.path,
                runs={order: training.run.path for order, training in trainings.items()},
                tasks=experiments["second"].num_test_tasks(),
                parameters=chosen["second"].which,
                parameter_steps={order: seed_steps(config.seeds, one) for order, one in chosen.items()},
                results=_paired(losses["first"], losses["second"], _num_frozen(trainings)),
                interval=f"95% interval of the paired difference, {interval}",
                evaluations={
                    order: summarise_all(experiments[order], values, frozen_seeds(trainings[order].state, config.seeds))
                    for order, values in losses.items()
                },
                query=query_protocol(experiments["second"]),
                cosines=cosines,
                cost={order: _cost(training) for order, training in trainings.items()},
                wall_s=round(time.perf_counter() - start, 3),
                figures=[],
                notes=_notes(trainings),
            )
            _write(folder, result)
            figures = _draw(folder, config, result, stop, reporter)
            result = result.model_copy(update={"figures": figures})
            stop.raise_if_asked(f"interrupted after the comparison; it is complete: {folder.path}")
    return result


def _training(
    path: Path,
    experiment: Experiment,
    device: torch.device,
    stop: StopRequest,
    threads: Threads,
    reporter: Reporter,
    held: ExitStack,
) -> Training:
    """Start or continue the run of one order, in a folder of its own that is held until `held` ends."""
    run, resumed = start_or_open(experiment.config, held, reporter, out=path, overwrite=False, resume=True)
    training = Training(run, experiment, device, stop, threads, reporter)
    held.enter_context(training.trackers)
    if resumed:
        prepare_resume(training)
    return training


def _train_in_turn_or_say(trainings: dict[Order, Training], folder: RunFolder, reporter: Reporter) -> list[CosineRow]:
    """Train both; say how to go on where it ends early."""
    try:
        return _train_in_turn(trainings, folder, reporter)
    except (InterruptedRunError, DivergedError) as error:
        metrics = {order: training.run.metrics.read() for order, training in trainings.items()}
        drawing = partial(losses_of_orders, trainings["second"].config.name, metrics)
        figure = save_or_warn(folder, "learning", drawing, reporter) if any(metrics.values()) else None
        say_how_to_go_on(error, "compare-orders", folder, trainings["second"].run, figure)
        raise


def _meta_tests(
    trainings: dict[Order, Training],
    chosen: dict[Order, Chosen],
    folder: RunFolder,
    threads: Threads,
    stop: StopRequest,
    reporter: Reporter,
) -> dict[Order, dict[int, torch.Tensor]]:
    """Measure both, for each K; say how to go on where it ends early."""
    found: dict[Order, dict[int, torch.Tensor]] = {}
    try:
        for order, one in trainings.items():
            params, doing = chosen[order].params, f"meta-test, {order} order"
            losses = meta_test(one.experiment, params, one.device, stop, threads, reporter=reporter, doing=doing)
            found[order] = of_the_first(losses)
    except InterruptedRunError as error:
        say_how_to_go_on(error, "compare-orders", folder, trainings["second"].run, None)
        raise
    return found


def _train_in_turn(trainings: dict[Order, Training], folder: RunFolder, reporter: Reporter) -> list[CosineRow]:
    """Advance the order that is behind, from logged step to logged step, until both are done."""
    log = CosineLog(folder, trainings)
    interrupted: InterruptedRunError | None = None
    with ExitStack() as held:
        # Closed, the order beside one that ends early is saved.
        loops = {order: held.enter_context(closing(training.train())) for order, training in trainings.items()}
        while loops:
            order = min(loops, key=lambda order: trainings[order].state.step)
            try:
                logged = _advance(loops, order)
            except InterruptedRunError as error:
                interrupted, logged = error, None
                del loops[order]  # the other one sees the signal at its next step, and saves too
            if logged is not None and order == "second":
                log.measure(logged.step)
                report_step(reporter, logged.rows, trainings[order].config.outer.steps)
    if interrupted:
        at = " and ".join(f"step {trainings[order].state.step} of {order} order" for order in ORDERS)
        raise InterruptedRunError(interrupted.signal_number, f"interrupted; both orders are saved, {at}")
    return log.rows


def _advance(loops: dict[Order, Generator[LoggedStep, None, None]], order: Order) -> LoggedStep | None:
    try:
        return next(loops[order])
    except StopIteration:
        del loops[order]
        return None


def _paired(
    first: dict[int, torch.Tensor], second: dict[int, torch.Tensor], num_diverged_seeds: int
) -> list[ComparisonRow]:
    """Compare the orders task by task: the same seed on the same task."""
    rows: list[ComparisonRow] = []
    for shots in first:
        # Axes: inner steps, seeds, tasks.
        one, other = (losses[shots].double().cpu().numpy().transpose(2, 0, 1) for losses in (first, second))
        with np.errstate(invalid="ignore"):  # inf - inf, where a task diverged in both orders
            differences = one - other
            means, halves = differences.mean(axis=(1, 2)), crossed_half_width(differences)
        for step, (mean, half) in enumerate(zip(means, halves, strict=True)):
            rows.append(
                {
                    "shots": shots,
                    "inner_steps": step,
                    "first": finite_or_none(one[step].mean()),
                    "second": finite_or_none(other[step].mean()),
                    "difference": finite_or_none(mean),
                    "low": finite_or_none(mean - half),
                    "high": finite_or_none(mean + half),
                    "num_diverged_seeds": num_diverged_seeds,
                }
            )
    return rows


def _num_frozen(trainings: dict[Order, Training]) -> int:
    """How many seeds have diverged in one order or both; they count with the parameters they kept."""
    return len(set().union(*(frozen_seeds(one.state, one.config.seeds) for one in trainings.values())))


def _cost(training: Training) -> Cost:
    tasks = training.experiment.stream().batch(0, training.device)
    # One update too many, of parameters that are saved and evaluated already.
    peak = update_memory_bytes(training.update, tasks, training.device)
    return {"ms_per_step": _ms_per_step(training.run.metrics.read()), "peak_memory_bytes": peak}


def _ms_per_step(rows: list[Row]) -> float | None:
    """Median time of a meta-step over the stretches between logged steps; the first step pays for set-up."""
    clock = {row["step"]: row["wall_s"] for row in rows}
    stretches = [(end - start, clock[end] - clock[start]) for start, end in pairwise(sorted(clock))]
    return round(1e3 * median(seconds / steps for steps, seconds in stretches), 4) if stretches else None


def _notes(trainings: dict[Order, Training]) -> list[str]:
    """What each order has done to the parts of the meta-parameters that a method speaks of."""
    notes = []
    for order, training in trainings.items():
        if parts := training.experiment.method.parts:
            begun = training.experiment.initial_state(torch.device("cpu")).params
            notes.append(parts_note(parts, order, begun, training.state.params, training.state.step))
    return notes


def _write(folder: RunFolder, result: Comparison) -> None:
    folder.write_text("comparison.json", json_text(result.as_json(without=("figures",))))
    folder.write_text("comparison.csv", csv_text(result.results))


def _draw(
    folder: RunFolder,
    config: Config,
    result: Comparison,
    stop: StopRequest,
    reporter: Reporter,
) -> list[Path]:
    curves = [{"order": order} | row for order in ORDERS for row in over_seeds(result.evaluations[order])]
    seeds = f"{len(config.seeds)} seed{'s' * (len(config.seeds) > 1)}"
    adaptation = f"{config.name}: {seeds}, {result.tasks} meta-test tasks"
    figures: dict[str, Drawing | Callable[[], Drawing]] = {
        "learning": lambda: learning_drawing(folder),
        "adaptation": Drawing("order-adaptation", curves, {"title": adaptation}),
        "cosine": lambda: cosine_drawing(folder),
    }
    saved = []
    for stem, drawing in figures.items():
        stop.raise_if_asked(f"interrupted before all figures were drawn; the tables are in {folder.path}")
        saved.append(save_or_warn(folder, stem, drawing, reporter))
    return [path for path in saved if path]
