"""One training under way: its folder, its state, what it logs and saves, and how it ends."""

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mamlcli.best import Chosen, choose
from mamlcli.compute.fused.library import folder_problem
from mamlcli.compute.plan import Plan, planned_update, without_compiling
from mamlcli.compute.shared import loss_before, stream_of_own
from mamlcli.config.experiment import Config
from mamlcli.errors import DeviceError, DivergedError, MamlError, Remedy, UsageError
from mamlcli.experiment import Experiment
from mamlcli.plugins import loaded_plugins
from mamlcli.ranks import Ranks
from mamlcli.reporting import Reporter
from mamlcli.runs.checkpoints import (
    load_checkpoint,
    prune_checkpoints,
    restore,
    save_checkpoint,
    set_aside,
    use_newest,
)
from mamlcli.runs.data_record import write_record
from mamlcli.runs.folder import RunFolder
from mamlcli.runs.link import move_on
from mamlcli.runs.provenance import new_session, utc_now
from mamlcli.threads import Threads
from mamlcli.trackers.group import Trackers
from mamlcli.training import MetaStep, Update, frozen_seeds, is_finite, train_steps
from mamlcli.trainings.culprits import name_tasks
from mamlcli.trainings.rhythm import Rhythm
from mamlcli.trainings.validation import Validation
from mamlcli.types import Row, finite_or_none


class LoggedStep(NamedTuple):
    """A logged step, as `train(on_step=...)` hears of it."""

    step: int
    """Meta-updates made, from 1."""
    rows: list[Row]
    """One for each seed, as in metrics.jsonl but for the time: `seed`, `pre_adapt_loss`, `post_adapt_loss`, ..."""


class Training:
    """A process's work on one run, from its start or from its newest whole checkpoint to its last step."""

    def __init__(
        self,
        run: RunFolder,
        experiment: Experiment,
        plan: Plan,
        device: torch.device,
        ranks: Ranks,
        threads: Threads,
        reporter: Reporter,
    ) -> None:
        """Set up a run.

        Args:
            run: Its folder.
            experiment: What is trained.
            plan: How it is computed.
            device: Where.
            ranks: The processes that train, of which this is the first; asked between steps whether to stop.
            threads: Looked at between steps.
            reporter: Hears of progress.
        """
        self.ranks, self.stop = ranks, ranks.stop
        self.run, self.experiment, self.device, self.reporter = run, experiment, device, reporter
        self.config: Config = experiment.config
        self.rhythm = Rhythm(self.config, self.stop)
        self.threads = threads
        self.trackers = Trackers(run, self.config, reporter)
        self.state = experiment.initial_state(device)
        self.validation = Validation(experiment, self.state, device, self.stop)
        self.plan = plan
        self.train_s = 0.0
        self.from_step = 0
        self.frozen: dict[int, int] = {}
        self.beside = 0
        """Other runs that the same program trains, whose time is that of all."""

    @cached_property
    def update(self) -> Update:
        """The meta-update of this run by itself."""
        return planned_update(
            self.experiment,
            self.state,
            self.plan,
            self.device,
            self._compiling_failed,
            self.reporter.note,
            self.ranks,
            self.threads,
        )

    def _compiling_failed(self, error: Exception) -> None:
        """Go on without, if the config leaves it open."""
        self.plan = plan_without(error, self.plan, self.experiment, self.reporter)

    def chosen(self) -> Chosen:
        """The parameters that the run is evaluated by as it is now."""
        state = self.state
        return choose(self.config.run.keep, state.params, state.best, state.step, state.updates.cpu())

    @property
    def max_checkpoint_bytes(self) -> int:
        """What no checkpoint is longer than: parameters and what any optimiser holds of each, several times over."""
        return 64 * self.state.flat.numel() + 2**22

    def restore_newest(self) -> None:
        """Continue from the newest whole checkpoint, naming each damaged one; with no file at all, start.

        Raises:
            CheckpointError: If there are checkpoints and none can be used.
            UsageError: If the run is past its last step already; it is left as it is.
        """

        def load(path: Path) -> None:
            restore(self.state, load_checkpoint(path, self.device, max_bytes=self.max_checkpoint_bytes), self.config)

        found = use_newest(self.run.checkpoints, load, self.reporter.note)
        if self.state.step > self.config.outer.steps:
            raise UsageError(
                f"{self.run.path} is at step {self.state.step} already; outer.steps: {self.config.outer.steps} is less"
            )
        for path in found[1] if found else []:
            self.reporter.note(f"warning: {path} is kept as {set_aside(path).name}")
        self.reporter.note(f"continuing {self.run.path} at step {self.state.step}")
        self.went_on()

    def went_on(self) -> None:
        """Do what follows on restoring a state: drop the rows that are going to be written again.

        And the checkpoints that are too many: a process that was killed after its last save may not have come to that.
        """
        self.from_step = self.state.step
        prune_checkpoints(self.run.checkpoints, self.state.step, self.config.run.keep_checkpoints)
        kept = [
            row
            for row in self.run.metrics.read()
            if row["step"] <= self.state.step and self.rhythm.is_logged(row["step"])
        ]
        self.run.metrics.write([self.validation.without_irregular(row) for row in kept])
        clock = [row.get("wall_s") for row in self.run.metrics.read()]
        self.train_s = max((seconds for seconds in clock if isinstance(seconds, int | float)), default=0.0)

    def train(self) -> Generator[LoggedStep, None, None]:
        """Train to the last step, yielding at logged steps.

        Raises:
            InterruptedRunError: If a signal asked to stop; the state is saved.
            DivergedError: If a loss is not finite; the last checkpoint stays as it is.
        """
        rule, update = self.rhythm.rule(), self.update
        stream = stream_of_own(self.experiment, self.plan.shard, self.ranks, compiled=self.plan.compiled)
        steps = train_steps(
            self.state,
            stream.blocks(self.state.step, self.config.outer.steps, self.device),
            update,
            loss_before(self.experiment, self.plan.shard, self.state),
            **rule._asdict(),
            is_logged=self.rhythm.is_logged,
            is_seen=self.rhythm.is_saved,
            clock=self.ranks.clock,
        )
        say_how(self.experiment.method.title, self.plan, self.reporter)
        with self.recorded(), self._tasks_named():
            self.begin()
            since = time.perf_counter()
            for step in steps:
                if step.pre_adapt_loss is not None:
                    rows = self.log(step, time.perf_counter() - since)
                    try:
                        yield LoggedStep(step.step, rows)
                    except KeyboardInterrupt:  # between two steps, where all is whole
                        self.save()
                        raise
                    since = time.perf_counter()
                self._save_if_due(step.step)
                self.threads.look()

    def begin(self) -> None:
        """Do what comes before the first step of a process."""
        self._catch_up()
        self.trackers.open()

    def log(self, step: MetaStep, seconds: float) -> list[Row]:
        """Write the rows of a logged step, and what is measured then.

        Args:
            step: What it was.
            seconds: Since the last one was written, or since the training began or went on.
        """
        rows = self._rows(step)
        self._warn_of_frozen()
        self.train_s += seconds
        rows = self.validation.measure(rows)
        timed = [row | {"wall_s": round(self.train_s, 6)} for row in rows]
        self.run.metrics.append(timed)
        self.trackers.log(timed)
        return rows

    def _rows(self, step: MetaStep) -> list[Row]:
        assert step.pre_adapt_loss is not None
        said = {name: values.tolist() for name, values in step.log.items()}
        columns = {"pre_adapt_loss": step.pre_adapt_loss.tolist(), **said, "grad_norm": step.grad_norm.tolist()}
        frozen = frozen_seeds(self.state, self.config.seeds)
        return [
            {"step": step.step, "seed": seed}
            | {name: finite_or_none(values[index]) for name, values in columns.items()}
            | {"lr": step.lr, "diverged_at_step": frozen.get(seed)}
            | {name: self.state.params[name][index].tolist() for name in self.experiment.method.logged}
            for index, seed in enumerate(self.config.seeds)
        ]

    def _catch_up(self) -> None:
        """Measure what a signal has prevented; the rows of that step are there without it."""
        if not self.validation.is_behind():
            return
        step, rows = self.state.step, self.run.metrics.read()
        now = self.validation.measure([row for row in rows if row["step"] == step])
        if self.validation.is_behind():
            self.stop.raise_if_asked(f"interrupted at step {step}; nothing was changed: {self.run.path}")
        self.run.metrics.write([*(row for row in rows if row["step"] != step), *now])
        self.save()

    def _warn_of_frozen(self) -> None:
        frozen = frozen_seeds(self.state, self.config.seeds)
        for seed in frozen.keys() - self.frozen.keys():
            where = f"step {frozen[seed]} ({name_tasks(self.experiment, self.plan, self.state, seed)})"
            self.reporter.note(f"warning: seed {seed} diverged at {where} and is frozen; the others go on")
        self.frozen = frozen

    @contextmanager
    def _tasks_named(self) -> Iterator[None]:
        """Add to what is said of a divergence which tasks it came from."""
        try:
            yield
        except DivergedError as error:
            raise DivergedError("\n".join([str(error), *self.culprits()])) from None

    def culprits(self) -> list[str]:
        """Say of each seed that has diverged which tasks it came from."""
        frozen = frozen_seeds(self.state, self.config.seeds)
        return [f"seed {seed}: {name_tasks(self.experiment, self.plan, self.state, seed)}" for seed in frozen]

    def _save_if_due(self, step: int) -> None:
        if self.rhythm.is_saved(step):
            self.save()
            # Asked only once all is saved: a signal that comes after the question above waits for the next step.
            self.raise_if_interrupted(step)

    def raise_if_interrupted(self, step: int) -> None:
        """End after a step that is saved, if a signal came and something is left to do."""
        last = self.config.outer.steps
        if self.stop.signal_number is not None and (step < last or self.validation.is_behind()):
            self.stop.raise_if_asked(f"interrupted and saved at step {step} of {last}")

    def save(self) -> None:
        """Write a checkpoint of what is finite, and delete those that are too many then.

        Raises:
            DivergedError: If a parameter is not; nothing is written.
        """
        self.flush()
        save_checkpoint(self.run.checkpoints, self.state, self.config, self.experiment.family.record)

    def flush(self) -> None:
        """Make sure of what comes before a checkpoint: the rows up to it, and that there is nothing but numbers in it.

        Raises:
            DivergedError: If there is.
        """
        if not is_finite(self.state):
            raise DivergedError(
                f"parameters or the optimiser's state are not finite at step {self.state.step}; no checkpoint was "
                "written of them"
            )
        self.run.metrics.flush()

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Keep run.json true: who works on the run, since when, and how it ended."""
        write_record(self.run, self.experiment.family)
        info = self.run.read_info()
        session = new_session(self.device, self.state.step) | self.engine()
        if self.beside:
            session["beside"] = self.beside
        info["sessions"] = [*info.get("sessions", []), session]
        if plugins := loaded_plugins():
            info["plugins"] = plugins
        self._write(info, "running")
        move_on(self.run.path)
        status = "failed"
        try:
            yield
            status = "done"
        except MamlError as error:
            status = error.status
            raise
        except KeyboardInterrupt:  # of a program without a handler of signals: it may come within a step
            status = "interrupted"
            raise
        except GeneratorExit:  # the run beside it in a comparison failed, or who hears of the steps did
            status = "stopped"
            self.save()
            raise
        finally:
            session |= self.engine() | {
                "ended": utc_now(),
                "threads": torch.get_num_threads(),
                "to_step": self.state.step,
                "train_s": round(self.train_s, 3),
            }
            # What ended a run is said, not that its end could not be written.
            with nullcontext() if status == "done" else suppress(OSError):
                self._write(info, status)

    def engine(self) -> dict[str, Any]:
        """What of the engine can change the last bits of a number."""
        return {
            "compiled": self.plan.compiled,
            "inner_update": self.plan.form,
            "task_chunk": self.plan.chunk,
            "task_ranks": self.plan.task_ranks,
        }

    def _write(self, info: dict[str, Any], status: str) -> None:
        # By these a list shows a run and a figure is headed, of whoever has not the plugin of its config.
        method, steps = self.experiment.method, self.config.outer.steps
        said = {"method": method.title, "inner_steps": method.inner_steps, "steps": steps}
        info |= {"status": status, "outer_steps": self.state.step, **said}
        self.run.write_info(info)


def plan_without(error: Exception, plan: Plan, experiment: Experiment, reporter: Reporter) -> Plan:
    """The plan without compiling, which has failed, if the config leaves it open.

    Raises:
        DeviceError: If it does not.
    """
    reason = f"compiling failed: {next(iter(str(error).splitlines()), type(error).__name__)}"
    if experiment.config.engine.compile == "on":
        remedy = Remedy("set engine.compile: off", "use --set engine.compile=off")
        raise DeviceError(f"engine.compile is on, but {reason}", remedy) from error
    reporter.note(f"warning: {reason}; going on without")
    return without_compiling(plan, experiment, reason)


def say_how(title: str, plan: Plan, reporter: Reporter) -> None:
    """Say what is trained, and how it is computed."""
    if plan.form == "fused" and (problem := folder_problem()):
        reporter.note(f"warning: {problem}")
    reporter.note(f"{title}, {plan.words()}")


def new_info(config: Config, kind: str) -> dict[str, Any]:
    """What run.json says of a run that has not begun."""
    return {
        "schema": "mamlcli.run/1",
        "kind": kind,
        "name": config.name,
        "status": "created",
        "started": utc_now(),
        "seeds": list(config.seeds),
        "outer_steps": 0,
        "steps": config.outer.steps,
        "sessions": [],
    }


def warn_if_not_bit_exact(training: Training) -> None:
    """Say what has changed since the run's last process that can change the last bits of its numbers."""
    sessions = training.run.read_info().get("sessions", [])
    if not sessions:
        return
    before = sessions[-1]
    now = new_session(training.device, 0) | training.engine()
    for name in ("device", "device_name", "threads", *training.engine()):
        if before.get(name, now[name]) != now[name]:
            _warn(training.reporter, name, before.get(name), now[name])
    if before.get("versions", {}).get("torch") != now["versions"]["torch"]:
        _warn(training.reporter, "torch", before.get("versions", {}).get("torch"), now["versions"]["torch"])


def _warn(reporter: Reporter, name: str, before: object, after: object) -> None:
    reporter.note(
        f"warning: {name} was {before} and is {after} now: from here on the numbers equal those of an "
        "uninterrupted run to rounding, not bit for bit"
    )
