"""First and second order side by side: trained in turn, so that their times compare, and paired task by task."""

from collections.abc import Generator
from contextlib import ExitStack, closing
from functools import partial

import torch

from mamlcli.comparisons.cost import ms_per_step, peak_memory_bytes
from mamlcli.drawing import losses_of_orders, save_or_warn
from mamlcli.errors import DivergedError, InterruptedRunError
from mamlcli.meta_test.paired import interval_ends, mean_losses, paired_differences
from mamlcli.reporting import Reporter
from mamlcli.rows import ComparisonRow, CosineRow, Cost
from mamlcli.runs.folder import RunFolder
from mamlcli.training import frozen_seeds
from mamlcli.trainings.cosines import CosineLog
from mamlcli.trainings.ending import say_how_to_go_on
from mamlcli.trainings.start import report_step
from mamlcli.trainings.training import LoggedStep, Training
from mamlcli.types import ORDERS, Order, finite_or_none


def train_in_turn(trainings: dict[Order, Training], folder: RunFolder, reporter: Reporter) -> list[CosineRow]:
    """Train both, from logged step to logged step; say how to go on where it ends early."""
    try:
        return _train_in_turn(trainings, folder, reporter)
    except (InterruptedRunError, DivergedError) as error:
        metrics = {order: training.run.metrics.read() for order, training in trainings.items()}
        drawing = partial(losses_of_orders, trainings["second"].config.name, metrics)
        figure = save_or_warn(folder, "learning", drawing, reporter) if any(metrics.values()) else None
        say_how_to_go_on(error, "compare-orders", folder, trainings["second"].run, figure)
        raise


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


def order_rows(
    first: dict[int, torch.Tensor], second: dict[int, torch.Tensor], num_diverged_seeds: int
) -> list[ComparisonRow]:
    """Compare the orders task by task: the same seed on the same task."""
    rows: list[ComparisonRow] = []
    for shots, one in first.items():
        other = second[shots]
        found = zip(mean_losses(one), mean_losses(other), paired_differences(one, other), strict=True)
        for step, (mean, against, difference) in enumerate(found):
            low, high = interval_ends(difference)
            rows.append(
                {
                    "shots": shots,
                    "inner_steps": step,
                    "first": mean,
                    "second": against,
                    "difference": finite_or_none(difference.mean),
                    "low": low,
                    "high": high,
                    "num_diverged_seeds": num_diverged_seeds,
                }
            )
    return rows


def num_frozen(trainings: dict[Order, Training]) -> int:
    """How many seeds have diverged in one order or both; they count with the parameters they kept."""
    return len(set().union(*(frozen_seeds(one.state, one.config.seeds) for one in trainings.values())))


def cost_of(training: Training) -> Cost:
    """What an order costs; one update too many, of parameters that are saved and evaluated already."""
    peak = peak_memory_bytes(training.update, training.experiment, training.device)
    return {"ms_per_step": ms_per_step(training.run.metrics.read()), "peak_memory_bytes": peak}
