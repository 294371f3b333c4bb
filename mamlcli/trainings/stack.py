"""Several trainings under way side by side, as rows of one program: each is a run like any other in the end."""

import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import NamedTuple

from mamlcli.compute.plan import Plan, planned_update
from mamlcli.compute.shared import loss_before, stream_of_own
from mamlcli.errors import CheckpointError, DivergedError, Remedy
from mamlcli.experiment import Experiment
from mamlcli.reporting import Reporter
from mamlcli.runs.checkpoint_files import list_checkpoints, step_of
from mamlcli.runs.checkpoints import Checkpoint, load_checkpoint, prune_checkpoints, restore, write_checkpoint
from mamlcli.runs.data_record import check_record
from mamlcli.threads import Threads
from mamlcli.training import StackStep, Update, stack_states, train_stack
from mamlcli.trainings.start import check_same_experiment, update_config
from mamlcli.trainings.training import Training, plan_without, say_how, warn_if_not_bit_exact
from mamlcli.types import Row


class StackLog(NamedTuple):
    """A logged step of a stack."""

    step: int
    rows: list[Row]
    """Of the runs that go on, one after the other's."""


class StackTraining:
    """A process's work on runs whose states are one stack, from their start or from their newest common checkpoint.

    A run that diverges ends by itself, and is marked so; its rows stand still, and are computed on for nothing, so that
    those of the others stay what they are to the last bit.
    """

    def __init__(
        self, whole: Experiment, trainings: Sequence[Training], plan: Plan, threads: Threads, reporter: Reporter
    ) -> None:
        """Stack the states.

        Args:
            whole: The experiments of the runs as one.
            trainings: At least two, of no step yet.
            plan: How the whole is computed.
            threads: Looked at between steps.
            reporter: Hears of progress.
        """
        self.whole, self.trainings, self.threads, self.reporter = whole, list(trainings), threads, reporter
        self.plan, self.ended = plan, set[int]()
        self.state = stack_states([training.state for training in trainings])
        self.recording: dict[int, ExitStack] = {}

    @cached_property
    def update(self) -> Update:
        """The meta-update of all runs."""
        first = self.trainings[0]
        return planned_update(
            self.whole,
            self.state,
            self.plan,
            first.device,
            self._compiling_failed,
            self.reporter.note,
            first.ranks,
            self.threads,
        )

    def _compiling_failed(self, error: Exception) -> None:
        self.plan = plan_without(error, self.plan, self.whole, self.reporter)
        for training in self.trainings:
            training.plan = self.plan

    @property
    def going_on(self) -> dict[int, Training]:
        """The runs that have not ended, by their number."""
        return {index: one for index, one in enumerate(self.trainings) if index not in self.ended}

    def prepare_resume(self) -> None:
        """Check that the runs are the same experiments, and go on where all of them have a whole checkpoint.

        Raises:
            CheckpointError: If each has some, and they have no step in common that can be used.
            UsageError: If one is another experiment.
        """
        for index, training in enumerate(self.trainings):
            check_same_experiment(training.run, training.config)
            check_record(training.run, training.experiment.family)
            if training.run.read_info().get("status") == "diverged":
                self.ended.add(index)
        if self.going_on:
            warn_if_not_bit_exact(next(iter(self.going_on.values())))
            self._restore()
        for index in self.ended:
            self._end_again(self.trainings[index])
        for training in self.trainings:
            update_config(training.run, training.config)

    def _restore(self) -> None:
        """Load the newest checkpoints of one step that are whole; with a run that has none at all, start."""
        running = self.going_on
        steps = [{step_of(path) for path in list_checkpoints(one.run.checkpoints)} for one in running.values()]
        common = sorted(set.intersection(*steps), reverse=True)
        loaded = next((found for step in common if (found := self._loaded(step))), None)
        if loaded is None and all(steps):
            place = next(iter(running.values())).run.path.parent
            remedy = Remedy(
                "each can be gone on with by itself: mamlcli.train with resume=True",
                "each can be gone on with by itself: maml train --resume RUN",
            )
            said = f"{place}: its {len(running)} runs have no whole checkpoint of the same step"
            raise CheckpointError(said, remedy)
        for index, training in running.items():
            if loaded is not None:
                restore(training.state, loaded[index], training.config)
            training.went_on()
        where = next(iter(running.values())).run.path.parent
        self.reporter.note(f"continuing {len(running)} runs of {where} at step {self.state.step}")

    def _loaded(self, step: int) -> dict[int, Checkpoint] | None:
        """The checkpoints of a step; None where one cannot be used."""
        found = {}
        for index, training in self.going_on.items():
            path = training.run.checkpoints / f"step-{step}.pt"
            try:
                found[index] = load_checkpoint(path, training.device, max_bytes=training.max_checkpoint_bytes)
            except CheckpointError as error:
                self.reporter.note(f"warning: checkpoint not used: {error}")
                return None
        return found

    @staticmethod
    def _end_again(training: Training) -> None:
        """Let a run that has diverged stand where it was saved last."""
        paths = list_checkpoints(training.run.checkpoints)
        if paths:
            saved = load_checkpoint(paths[0], training.device, max_bytes=training.max_checkpoint_bytes)
            restore(training.state, saved, training.config)
        training.state.alive.fill_(False)

    def train(self) -> Generator[StackLog, None, None]:
        """Train to the last step, yielding at logged steps; a run that diverges ends, and the others go on.

        Raises:
            InterruptedRunError: If a signal asked to stop; all states are saved.
        """
        update = self.update
        say_how(self.whole.method.title, self.plan, self.reporter)
        with ExitStack() as held:
            for index, training in self.going_on.items():
                training.beside = len(self.going_on) - 1
                self.recording[index] = held.enter_context(ExitStack())
                self.recording[index].enter_context(training.recorded())
                training.begin()
            try:
                yield from self._steps(update)
            except (GeneratorExit, KeyboardInterrupt):
                self.save()
                raise

    def _steps(self, update: Update) -> Generator[StackLog, None, None]:
        first = self.trainings[0]
        stream = stream_of_own(self.whole, self.plan.shard, first.ranks, compiled=self.plan.compiled)
        steps = train_stack(
            self.state,
            stream.blocks(self.state.step, first.config.outer.steps, first.device),
            update,
            loss_before(self.whole, self.plan.shard, self.state),
            [training.rhythm.rule() for training in self.trainings],
            is_logged=first.rhythm.is_logged,
            is_seen=first.rhythm.is_saved,
            clock=first.ranks.clock,
            ended=self._ended,
        )
        since = time.perf_counter()
        for step in steps:
            number = step.whole.step
            if step.whole.pre_adapt_loss is not None:
                yield StackLog(number, self._log(step, time.perf_counter() - since))
                since = time.perf_counter()
            if first.rhythm.is_saved(number):
                self.save()
                # Asked only once all is saved: a signal that comes after the question above waits for the next step.
                for training in self.going_on.values():
                    training.raise_if_interrupted(number)
            self.threads.look()

    def _log(self, step: StackStep, seconds: float) -> list[Row]:
        return [row for index in step.running for row in self.trainings[index].log(step.of(index), seconds)]

    def _ended(self, index: int, error: DivergedError) -> None:
        """Mark a run that has diverged, and write no more of it."""
        if index in self.ended:
            return
        training = self.trainings[index]
        said = "; ".join([str(error).partition("; ")[0], *training.culprits()])
        self.reporter.note(f"warning: {training.run.path.name}: {said}; it ends here")
        self.ended.add(index)
        self.recording[index].__exit__(type(error), error, error.__traceback__)

    def save(self) -> None:
        """Write a checkpoint of each run that goes on; only once all are whole, those that are too many are deleted."""
        for index, training in self.going_on.items():
            try:
                training.flush()
            except DivergedError as error:
                self._ended(index, error)
                training.state.alive.fill_(False)
        running = self.going_on.values()
        for one in running:
            write_checkpoint(one.run.checkpoints, one.state, one.config, one.experiment.family.record)
        for one in running:
            prune_checkpoints(one.run.checkpoints, one.state.step, one.config.run.keep_checkpoints)
