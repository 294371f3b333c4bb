"""`maml train`: one experiment, from its config to checkpoints, metrics and a loss figure."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from matplotlib.figure import Figure

from mamlcli.algorithms.chain import SLOT_WEIGHTS
from mamlcli.algorithms.learned_rates import PREFIX
from mamlcli.config.changes import may_change, refused_changes
from mamlcli.config.experiment import Config
from mamlcli.config.file import dump_config
from mamlcli.devices import resolve_device
from mamlcli.drawing import save_or_warn
from mamlcli.errors import Remedy, UsageError
from mamlcli.figures.chain import slot_weights_figure
from mamlcli.figures.plots import rates_figure
from mamlcli.figures.training import loss_figure
from mamlcli.interrupts import StopRequest
from mamlcli.meta_test.losses import finite_or_none
from mamlcli.runs.folder import RunFolder, create_run, default_path, move_aside, open_run
from mamlcli.setup import (
    Reporter,
    Silent,
    make_engine_gradient,
    make_query_loss,
    make_state,
    make_stream,
    num_params,
    num_threads,
    pre_adapt_loss,
)
from mamlcli.threads import Threads
from mamlcli.trainings.training import Session, new_info, warn_if_not_bit_exact
from mamlcli.types import Row


class FigureOfRows(Protocol):
    """A function that draws rows."""

    def __call__(self, rows: Sequence[Row], *, title: str) -> Figure:
        """Draw."""


class TrainResult(NamedTuple):
    """What a training run came to."""

    run: Path
    status: Literal["done"]
    outer_steps: int
    seeds: tuple[int, ...]
    engine: dict[str, Any]
    from_step: int
    """Where this process took over; 0 for a run from its start."""
    wall_s: float
    metrics: list[dict[str, Any]]
    """The rows of the last logged step, one for each seed."""
    figure: Path | None
    """The loss figure, or None where it could not be written."""


def train(
    config: Config,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    reporter: Reporter | None = None,
) -> TrainResult:
    """Train an experiment and write its run folder.

    Args:
        config: The experiment.
        out: The run folder; a new one under `outputs/<name>/` if None.
        overwrite: Move a run that is in `out` aside first; what is no run is refused.
        resume: Continue the run in `out` if there is one, and start it otherwise.
        reporter: Hears of progress.

    Returns:
        Where the run is and how it ended.

    Raises:
        UsageError: If a run is resumed under another config, or the options do not fit together.
        RunFolderError: If the folder exists, or another process uses it.
        CheckpointError: If the run to resume cannot be trusted.
        DeviceError: If the device is not there.
        DivergedError: If a loss is not finite.
        InterruptedRunError: If SIGINT or SIGTERM came; everything is saved.
    """
    reporter = reporter or Silent()
    device = announce_device(config, reporter)
    start = time.perf_counter()
    with StopRequest() as stop:
        with ExitStack() as held, Threads(config, num_threads(config), reporter) as threads:
            run, resumed = start_or_open(config, held, reporter, out=out, overwrite=overwrite, resume=resume)
            session = Session(run, config, device, stop, threads, reporter)
            if resumed:
                prepare_resume(session)
            for logged in session.train():
                report_step(reporter, logged.rows, config.outer.steps)
            metrics = run.read_metrics()
            figure = _draw_loss(session, metrics)
            if config.algorithm.learned_inner_lr:
                _draw_rates(session)
            if SLOT_WEIGHTS in session.state.params:
                _draw_slot_weights(session, metrics)
        stop.raise_if_asked(f"interrupted after training; the run is complete: {run.path}")
    return TrainResult(
        run=run.path,
        status="done",
        outer_steps=session.state.step,
        seeds=config.seeds,
        engine={"device": device.type, "threads": threads.count, **session.engine()},
        from_step=session.from_step,
        wall_s=round(time.perf_counter() - start, 3),
        metrics=metrics[-len(config.seeds) :],
        figure=figure,
    )


def announce_device(config: Config, reporter: Reporter) -> torch.device:
    """Resolve the config's device; say which one `auto` took."""
    device = resolve_device(config.device)
    if config.device == "auto":
        reporter.note(f"device auto: using {device.type}")
    return device


def start_or_open(
    config: Config,
    held: ExitStack,
    reporter: Reporter,
    *,
    out: str | Path | None,
    overwrite: bool,
    resume: bool,
    kind: str = "train",
) -> tuple[RunFolder, bool]:
    """Make the run's folder, or open it where it is to be resumed and exists; returns whether it existed.

    The folder is held by this process until `held` ends.
    """
    if resume and out is None:
        remedy = Remedy("pass its folder as out=", "give its folder with --out")
        raise UsageError("to resume, say which run", remedy)
    if resume and overwrite:
        remedy = Remedy("choose one of resume=True and overwrite=True", "choose one of --resume and --overwrite")
        raise UsageError("a folder is continued or replaced, not both", remedy)
    path = default_path(config.name) if out is None else Path(out)
    if resume and path.exists():
        run = open_run(path, kind)
        held.enter_context(run.locked())
        return run, True
    if overwrite and (aside := move_aside(path)):
        reporter.note(f"{path} was there already; it is kept as {aside}")
    return create_run(path, config, new_info(config, kind), held), False


def prepare_resume(session: Session) -> None:
    """Check that a session continues the same experiment, and load its newest whole checkpoint."""
    run, config = session.run, session.config
    check_same_experiment(run, config)
    warn_if_not_bit_exact(session)
    if config.outer.schedule != "constant" and run.config().outer.steps != config.outer.steps:
        session.reporter.note(
            f"warning: the {config.outer.schedule} schedule ends at outer.steps, which has changed: the learning rate "
            "jumps here, and the run is not the one that was as long from the start"
        )
    session.restore_newest()
    update_config(run, config)


def update_config(run: RunFolder, config: Config) -> None:
    """Keep config.yaml true when a run is continued under another config."""
    if run.config() != config:
        run.write_text("config.yaml", dump_config(config))


def check_same_experiment(run: RunFolder, config: Config) -> None:
    """Raise UsageError, listing every difference that a resumed run must not have."""
    if refused := refused_changes(run.config(), config, "resume"):
        lines = "\n".join(f"  {line}" for line in refused)
        raise UsageError(
            f"{run.path} cannot be resumed as another experiment:\n{lines}\nthese may change: {may_change('resume')}"
        )


def report_step(reporter: Reporter, rows: Sequence[Row], num_steps: int) -> None:
    """Tell a reporter the mean losses of a logged step, over the seeds that have not diverged."""
    healthy = [row for row in rows if row["diverged_at_step"] is None]
    means = [_mean([row[name] for row in healthy]) for name in ("pre_adapt_loss", "post_adapt_loss")]
    reporter.step(rows[0]["step"], num_steps, *means)


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean; None if there is nothing, or if one of the values is not finite."""
    finite = [value for value in values if value is not None]
    return sum(finite) / len(finite) if finite and len(finite) == len(values) else None


def _save_figure(session: Session, stem: str, draw: FigureOfRows, rows: list[Row], what: str) -> Path | None:
    """Draw and write a figure of a run; one that cannot be does not fail a training that could."""
    title = f"{session.config.name}: {what}, {len(session.config.seeds)} seed(s)"
    return save_or_warn(session.run, stem, lambda: draw(rows, title=title), rows, session.reporter)


def _draw_loss(session: Session, metrics: Sequence[Row]) -> Path | None:
    algorithm = session.config.algorithm
    names = {"joint": "joint training", "chain": f"{algorithm.order}-order chain"}
    what = names.get(algorithm.name, f"{algorithm.order}-order MAML")
    rows = [{name: row[name] for name in row if name != SLOT_WEIGHTS} for row in metrics]
    return _save_figure(session, "loss", loss_figure, rows, what)


def _draw_rates(session: Session) -> None:
    """Draw the learned inner learning rates as they are at the end."""
    config, per_step = session.config, session.config.algorithm.learned_inner_lr == "tensor_and_step"
    begun = make_state(config, torch.device("cpu")).params
    rows: list[Row] = []
    for name, value in session.state.params.items():
        if not name.startswith(PREFIX):
            continue
        for step in range(value.shape[1]) if per_step else [None]:
            now, before = (rates if step is None else rates[:, step] for rates in (value, begun[name]))
            low, median, high = np.quantile(now.cpu().numpy(), [0.05, 0.5, 0.95]).tolist()
            tensor = name.removeprefix(PREFIX)
            numbers = {"begun": float(before.mean()), "low": low, "median": median, "high": high}
            rows.append({"tensor": tensor, "step": step} | numbers)
    _save_figure(session, "inner_lr", rates_figure, rows, "learned inner learning rates")


def slot_rows(config: Config, metrics: Sequence[Row]) -> list[Row]:
    """The weights of a chain's support slots over training, from rows of the metrics: one row for each slot."""
    return [
        {
            "step": row["step"],
            "seed": row["seed"],
            "slot": slot,
            "corrupted": slot < config.tasks.corrupted_slots,
            "weight": weight,
        }
        for row in metrics
        for slot, weight in enumerate(row[SLOT_WEIGHTS])
    ]


def _draw_slot_weights(session: Session, metrics: Sequence[Row]) -> None:
    rows = slot_rows(session.config, metrics)
    order = session.config.algorithm.order
    _save_figure(session, SLOT_WEIGHTS, slot_weights_figure, rows, f"what {order} order learns of each support slot")


def dry_run(config: Config, reporter: Reporter | None = None) -> dict[str, Any]:
    """Make one meta-step in memory, and write nothing; returns what was found."""
    device = announce_device(config, reporter or Silent())
    loss_fn, state = make_query_loss(config), make_state(config, device)
    tasks = make_stream(config).batch(0, device)
    _, losses = make_engine_gradient(config)(state.params, tasks)
    return {
        "num_params": num_params(config),
        "pre_adapt_loss": list(map(finite_or_none, pre_adapt_loss(loss_fn, state.params, tasks).tolist())),
        "post_adapt_loss": list(map(finite_or_none, losses.tolist())),
    }
