"""`maml compare-orders`: first against second order as a paired experiment."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import torch

from mamlcli.best import Chosen
from mamlcli.comparisons.drawings import orders_drawing, save_figures
from mamlcli.comparisons.orders import cost_of, num_frozen, order_rows, train_in_turn
from mamlcli.compute.plan import make_plan, threads_of
from mamlcli.config.arguments import check_config
from mamlcli.config.experiment import Config
from mamlcli.drawing import cosine_drawing, learning_drawing
from mamlcli.errors import InterruptedRunError
from mamlcli.experiment import Experiment, in_order, make_experiment
from mamlcli.figures.drawing import Drawing
from mamlcli.groups import tested_seeds
from mamlcli.interrupts import StopRequest
from mamlcli.memory_check import check_comparison
from mamlcli.meta_test.measure import meta_test, of_the_first, over_seeds, query_protocol, summarise_all
from mamlcli.meta_test.protocol import seed_steps
from mamlcli.ranks import Place, Ranks
from mamlcli.reporting import Reporter, Silent
from mamlcli.results import Comparison
from mamlcli.runs.files import csv_text, json_text
from mamlcli.runs.folder import RunFolder
from mamlcli.runs.recorded import recorded
from mamlcli.statistics import interval_over
from mamlcli.threads import Threads
from mamlcli.trackers.group import check_installed
from mamlcli.training import frozen_seeds
from mamlcli.trainings.ending import say_how_to_go_on
from mamlcli.trainings.parts import parts_note
from mamlcli.trainings.start import (
    announce_device,
    check_same_experiment,
    prepare_resume,
    start_or_open,
    update_config,
)
from mamlcli.trainings.training import Training
from mamlcli.types import ORDERS, Order


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
        second = experiments["second"]
        with threads_of(plan, second, reporter.note) as threads, recorded(folder, said, device):
            if resumed:
                check_same_experiment(folder, config)
            trainings = {
                order: _training(folder.path / order, one, device, stop, threads, reporter, held)
                for order, one in experiments.items()
            }
            update_config(folder, config)
            cosines = train_in_turn(trainings, folder, reporter)
            chosen = {order: one.chosen() for order, one in trainings.items()}
            losses = _meta_tests(trainings, chosen, folder, threads, reporter)
            interval = interval_over(len(tested_seeds(experiments["second"])))
            result = Comparison(
                run=folder.path,
                runs={order: training.run.path for order, training in trainings.items()},
                tasks=experiments["second"].num_test_tasks(),
                parameters=chosen["second"].which,
                parameter_steps={order: seed_steps(config.seeds, one) for order, one in chosen.items()},
                results=order_rows(losses["first"], losses["second"], num_frozen(trainings)),
                interval=f"95% interval of the paired difference, {interval}",
                evaluations={
                    order: summarise_all(experiments[order], values, frozen_seeds(trainings[order].state, config.seeds))
                    for order, values in losses.items()
                },
                query=query_protocol(experiments["second"]),
                cosines=cosines,
                cost={order: cost_of(training) for order, training in trainings.items()},
                wall_s=round(time.perf_counter() - start, 3),
                figures=[],
                notes=_notes(trainings),
            )
            _write(folder, result)
            figures = _draw(folder, experiments, result, stop, reporter)
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
    alone = Ranks(stop, Place())
    training = Training(run, experiment, make_plan(experiment, device), device, alone, threads, reporter)
    held.enter_context(training.trackers)
    if resumed:
        prepare_resume(training)
    return training


def _meta_tests(
    trainings: dict[Order, Training],
    chosen: dict[Order, Chosen],
    folder: RunFolder,
    threads: Threads,
    reporter: Reporter,
) -> dict[Order, dict[int, torch.Tensor]]:
    """Measure both, for each K; say how to go on where it ends early."""
    found: dict[Order, dict[int, torch.Tensor]] = {}
    try:
        for order, one in trainings.items():
            params, doing = chosen[order].params, f"meta-test, {order} order"
            losses = meta_test(one.experiment, params, one.device, one.ranks, threads, reporter=reporter, doing=doing)
            found[order] = of_the_first(losses)
    except InterruptedRunError as error:
        say_how_to_go_on(error, "compare-orders", folder, trainings["second"].run, None)
        raise
    return found


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
    experiments: dict[Order, Experiment],
    result: Comparison,
    stop: StopRequest,
    reporter: Reporter,
) -> list[Path]:
    config = experiments["second"].config
    curves = [{"order": order} | row for order in ORDERS for row in over_seeds(result.evaluations[order])]
    seeds = f"{len(config.seeds)} seed{'s' * (len(config.seeds) > 1)}"
    tested = f"{seeds}, {result.tasks} meta-test tasks"
    methods = {f"{order} order": one.method.title for order, one in experiments.items()}
    over = interval_over(len(tested_seeds(experiments["second"])))
    figures: dict[str, Drawing | Callable[[], Drawing]] = {
        "learning": lambda: learning_drawing(folder),
        "adaptation": Drawing("order-adaptation", curves, {"title": f"{config.name}: {tested}"}),
        "differences": orders_drawing(
            f"{config.name}: first less second order, {tested}", result.results, methods, over
        ),
        "cosine": lambda: cosine_drawing(folder),
    }
    return save_figures(folder, figures, stop, reporter)
