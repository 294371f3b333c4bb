"""`maml train`: one experiment, from its config to checkpoints, metrics and figures."""

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import torch

from mamlcli.compute.plan import Plan, make_plan, threads_of, uncompiled_gradient
from mamlcli.config.arguments import check_config
from mamlcli.config.experiment import Config
from mamlcli.errors import DivergedError, InterruptedRunError
from mamlcli.experiment import Experiment, make_experiment, make_shared_experiment
from mamlcli.interrupts import StopRequest
from mamlcli.memory_check import check_one_step, check_training
from mamlcli.meta_test.protocol import seed_steps
from mamlcli.ranks import Ranks, led
from mamlcli.reporting import Reporter, Silent
from mamlcli.results import DryRun, TrainResult
from mamlcli.runs.link import point_to
from mamlcli.threads import Threads
from mamlcli.trackers.group import check_installed
from mamlcli.trainings.company import accompany, told_states
from mamlcli.trainings.drawn import draw_loss, draw_training
from mamlcli.trainings.ending import say_how_to_go_on
from mamlcli.trainings.start import announce_device, prepare_resume, report_step, start_or_open, tell_of_tasks
from mamlcli.trainings.training import LoggedStep, Training
from mamlcli.types import finite_or_none


def train(
    config: Config,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    on_step: Callable[[LoggedStep], object] = lambda _: None,
    reporter: Reporter | None = None,
    stop: StopRequest | None = None,
) -> TrainResult:
    """Train an experiment and write its run folder.

    Args:
        config: The experiment.
        out: The run folder; a new one under `outputs/<name>/` if None.
        overwrite: Move a run that is in `out` aside first; what is no run is refused.
        resume: Continue the run in `out` if there is one, and start it otherwise.
        on_step: Called after every logged step with its number and rows. What it raises ends the training, which is
            saved and can be continued, and comes out of here.
        reporter: Hears of progress.
        stop: Asked between steps whether to end early; None goes on to the end.

    Returns:
        Where the run is and how it ended.

    Raises:
        UsageError: If a run is resumed under another config, or the options do not fit together.
        RunFolderError: If the folder exists, or another process uses it.
        CheckpointError: If the run to resume cannot be trusted.
        DeviceError: If the device is not there, or the run does not fit into memory.
        DivergedError: If a loss is not finite.
        InterruptedRunError: If `stop` was asked to; everything is saved.
        KeyboardInterrupt: If it comes, as from a notebook's stop button. The run can be continued from its newest
            checkpoint, to the same bits.

    Where a launcher like torchrun or Ray Train has started several processes that call it alike, they share the work as
    `parallel.shard` says. The first of them reads `out` and the like, writes, and calls `on_step`; all return the same,
    or all raise: those that only lost another one a `LostRankError` with what had ended that one.

    Examples:
        End early where the loss is small enough, and keep what is trained:

        >>> import mamlcli as m
        >>> stop = m.StopRequest()
        >>> def listen(logged: m.LoggedStep) -> None:
        ...     if max(row["post_adapt_loss"] for row in logged.rows) < 0.5:
        ...         stop.ask()
        >>> m.train(m.load_config("quickstart"), on_step=listen, stop=stop)      # doctest: +SKIP
    """
    check_config(config)
    wanted = _Wanted(out, overwrite, resume, on_step, reporter or Silent())
    return led(lambda ranks: _train(config, wanted, ranks), stop)


class _Wanted(NamedTuple):
    """Arguments of `train` that are not what is trained."""

    out: str | Path | None
    overwrite: bool
    resume: bool
    on_step: Callable[[LoggedStep], object]
    reporter: Reporter


def _train(config: Config, wanted: _Wanted, ranks: Ranks) -> TrainResult:
    """Train as the first process, which writes what comes of it."""
    reporter = wanted.reporter
    reporter.progress("setting up the experiment", 0, 1)
    ranks.ask(accompany, [config])
    experiment = make_shared_experiment(config, ranks, reporter.note)
    check_installed(config)
    device = announce_device(config, reporter)
    tell_of_tasks(experiment, reporter)
    plan = make_plan(experiment, device, ranks.size)
    check_training(experiment, plan, device, reporter)
    with ranks.heard:
        with threads_of(plan, experiment, reporter.note) as threads:
            result = _trained(experiment, plan, device, ranks, threads, wanted)
        ranks.heard.raise_if_asked(f"interrupted after training; the run is complete: {result.run}")
    return result


def _trained(
    experiment: Experiment, plan: Plan, device: torch.device, ranks: Ranks, threads: Threads, wanted: _Wanted
) -> TrainResult:
    """Train, and draw what comes of it."""
    start, config, reporter = time.perf_counter(), experiment.config, wanted.reporter
    with ExitStack() as held:
        run, resumed = start_or_open(
            config, held, reporter, out=wanted.out, overwrite=wanted.overwrite, resume=wanted.resume
        )
        training = Training(run, experiment, plan, device, ranks, threads, reporter)
        held.enter_context(training.trackers)
        if resumed:
            prepare_resume(training)
        told_states([training.state], ranks)
        try:
            # Closed, a training that `on_step` ends is saved.
            with closing(training.train()) as steps:
                for logged in steps:
                    try:
                        report_step(reporter, logged.rows, config.outer.steps)
                        wanted.on_step(logged)
                    except KeyboardInterrupt as error:
                        steps.throw(error)  # it ends as one that comes within a step does
        except (InterruptedRunError, DivergedError) as error:
            say_how_to_go_on(error, "train", run, run, draw_loss(training, run.metrics.read()))
            raise
        metrics, chosen = run.metrics.read(), training.chosen()
        figure = draw_training(training, metrics)
        training.trackers.figures()
        point_to(run.path, config.name)
    engine = {"device": device.type, "threads": min(threads.count, training.plan.threads), **training.engine()}
    return TrainResult(
        run=run.path,
        status="done",
        outer_steps=training.state.step,
        seeds=config.seeds,
        engine=engine,  # type: ignore[arg-type]
        from_step=training.from_step,
        wall_s=round(time.perf_counter() - start, 3),
        metrics=metrics[-len(config.seeds) :],  # type: ignore[arg-type]
        best=seed_steps(config.seeds, chosen) if chosen.which == "best" else None,
        figure=figure,
    )


def dry_run(config: Config, reporter: Reporter | None = None) -> DryRun:
    """Make one meta-step in memory, and write nothing; returns what was found."""
    check_config(config)
    reporter, experiment = reporter or Silent(), make_experiment(config)
    check_installed(config)
    device = announce_device(config, reporter)
    tell_of_tasks(experiment, reporter)
    plan = make_plan(experiment, device)
    check_one_step(experiment, plan, device, reporter)
    state, tasks = experiment.initial_state(device), experiment.stream().batch(0, device)
    gradient = uncompiled_gradient(experiment, plan, made=0)
    _, log = gradient(state.params, tasks)
    before = experiment.pre_adapt_loss(state.params, tasks)
    return DryRun(
        config=config,
        num_params=experiment.method.num_params,
        pre_adapt_loss=list(map(finite_or_none, before.tolist())),
        post_adapt_loss=list(map(finite_or_none, log["post_adapt_loss"].tolist())),
    )
