"""How a training begins: its device, its folder or the one that it continues, and what it reports."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import torch

from mamlcli.config.changes import may_change, refused_changes
from mamlcli.config.experiment import Config
from mamlcli.config.file import dump_config
from mamlcli.devices import resolve_device
from mamlcli.errors import Remedy, UsageError
from mamlcli.experiment import Experiment
from mamlcli.reporting import Reporter
from mamlcli.runs.choosing import RESUMING
from mamlcli.runs.data_record import check_record
from mamlcli.runs.folder import RunFolder, create_run, default_path, move_aside, open_run
from mamlcli.runs.link import followed
from mamlcli.trainings.training import Training, new_info, warn_if_not_bit_exact
from mamlcli.types import Row


def announce_device(config: Config, reporter: Reporter) -> torch.device:
    """Resolve the config's device; say which one `auto` took."""
    device = resolve_device(config.device)
    if config.device == "auto":
        reporter.note(f"device auto: using {device.type}")
    return device


def tell_of_tasks(experiment: Experiment, reporter: Reporter) -> None:
    """Say what the family has to say of its tasks."""
    if experiment.family.note:
        reporter.note(experiment.family.note)


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
    path = default_path(config.name) if out is None else followed(Path(out))
    if resume and path.exists():
        run = open_run(path, kind, RESUMING[kind])
        held.enter_context(run.locked())
        if out is not None and path != Path(out):
            reporter.note(f"{out} is {path}")
        return run, True
    if overwrite and (aside := move_aside(path)):
        reporter.note(f"{path} was there already; it is kept as {aside}")
    return create_run(path, config, new_info(config, kind), held), False


def prepare_resume(training: Training) -> None:
    """Check that a training continues the same experiment, and load its newest whole checkpoint."""
    run, config = training.run, training.config
    check_same_experiment(run, config)
    check_record(run, training.experiment.family)
    warn_if_not_bit_exact(training)
    if config.outer.schedule != "constant" and run.config().outer.steps != config.outer.steps:
        training.reporter.note(
            f"warning: the {config.outer.schedule} schedule ends at outer.steps, which has changed: the learning rate "
            "jumps here, and the run is not the one that was as long from the start"
        )
    training.restore_newest()
    update_config(run, config)


def update_config(run: RunFolder, config: Config) -> None:
    """Keep config.yaml true when a run is continued under another config."""
    if run.config() != config:
        run.write_text("config.yaml", dump_config(config))


def check_same_experiment(run: RunFolder, config: Config) -> None:
    """Raise UsageError, listing every difference that a resumed run must not have."""
    if refused := refused_changes(run.config(), config, "resume"):
        lines = "\n".join(f"  {line}" for line in refused)
        allowed = may_change(run.config(), "resume")
        raise UsageError(f"{run.path} cannot be resumed as another experiment:\n{lines}\nthese may change: {allowed}")


def report_step(reporter: Reporter, rows: Sequence[Row], num_steps: int) -> None:
    """Tell a reporter the mean losses of a logged step, over the seeds that have not diverged."""
    healthy = [row for row in rows if row["diverged_at_step"] is None]
    means = [_mean([row[name] for row in healthy]) for name in ("pre_adapt_loss", "post_adapt_loss")]
    reporter.step(rows[0]["step"], num_steps, *means)


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean; None if there is nothing, or if one of the values is not finite."""
    finite = [value for value in values if value is not None]
    return sum(finite) / len(finite) if finite and len(finite) == len(values) else None
