"""Members of a sweep that are trained: as rows of one program here, or stack by stack in processes of their own."""

import shlex
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import torch

from mamlcli.commands.processes import Job, is_trained, run_side_by_side
from mamlcli.compute.plan import make_plan, threads_of
from mamlcli.config.axes import Member
from mamlcli.data import share_data
from mamlcli.errors import CheckpointError, InterruptedRunError, Remedy
from mamlcli.experiment import Experiment
from mamlcli.plugins import typed_options
from mamlcli.ranks import Ranks
from mamlcli.reporting import Reporter
from mamlcli.runs.folder import RunFolder
from mamlcli.stacking import program_of, stacked
from mamlcli.trainings.company import accompany, told_states
from mamlcli.trainings.drawn import draw_training
from mamlcli.trainings.stack import StackTraining
from mamlcli.trainings.start import report_step, start_or_open
from mamlcli.trainings.training import Training


def stacks_of(members: Sequence[Member]) -> list[list[Member]]:
    """Put members together that are rows of one program, in the order in which the first of each comes."""
    found: dict[object, list[Member]] = {}
    for member in members:
        found.setdefault(program_of(member.config), []).append(member)
    return list(found.values())


def run_path(folder: RunFolder, member: Member) -> Path:
    """Where the run of a member is."""
    return folder.path / "runs" / member.name


def to_go_on(folder: RunFolder) -> Remedy:
    """How a sweep is gone on with."""
    return Remedy(
        f"to go on, pass out={str(folder.path)!r} and resume=True, with the same config and axes",
        f"to go on: maml sweep --resume {shlex.quote(str(folder.path))}{typed_options()}",
    )


def train_here(
    members: Sequence[Member],
    experiments: Mapping[str, Experiment],
    folder: RunFolder,
    device: torch.device,
    ranks: Ranks,
    reporter: Reporter,
) -> None:
    """Train a stack with all processes, going on where it was begun; what is trained whole stays as it is.

    Args:
        members: Of one program.
        experiments: By the name of their member.
        folder: Of the sweep.
        device: Where.
        ranks: The processes, of which this is the first; asked between steps whether to stop.
        reporter: Hears of progress.

    Raises:
        InterruptedRunError: If a signal came; all of them are saved.
        MamlError: As `mamlcli.train`, but for a divergence, which ends but the member that it is of.
    """
    left = [member for member in members if not is_trained(run_path(folder, member), member.config)]
    if not left or all(status_of_run(run_path(folder, member)) == "diverged" for member in left):
        return
    ranks.ask(accompany, [member.config for member in left])
    for member in left:
        share_data(member.config.tasks, ranks, reporter.note)
    chosen = [experiments[member.name] for member in left]
    whole = stacked(chosen)
    plan = make_plan(whole, device, ranks.size)
    with ExitStack() as held, threads_of(plan, whole, reporter.note) as threads:
        opened = [
            start_or_open(member.config, held, reporter, out=run_path(folder, member), overwrite=False, resume=True)
            for member in left
        ]
        trainings = [
            Training(run, one, plan, device, ranks, threads, reporter)
            for (run, _), one in zip(opened, chosen, strict=True)
        ]
        for training in trainings:
            held.enter_context(training.trackers)
        stack = StackTraining(whole, trainings, plan, threads, reporter)
        if any(resumed for _, resumed in opened):
            stack.prepare_resume()
        told_states([training.state for training in trainings], ranks)
        try:
            with closing(stack.train()) as steps:
                for logged in steps:
                    report_step(reporter, logged.rows, whole.config.outer.steps)
        except InterruptedRunError as error:
            error.say_more([], to_go_on(folder))
            raise
        for number, training in enumerate(trainings):
            reporter.progress("drawing losses", number, len(trainings))
            draw_training(training, training.run.metrics.read())
            training.trackers.figures()


def train_in_processes(
    stacks: Sequence[Sequence[Member]],
    folder: RunFolder,
    *,
    jobs: int | None,
    ranks: Ranks,
    reporter: Reporter,
) -> dict[str, str]:
    """Train each stack in a process of its own; returns, by the name of a member, why its process failed."""
    names = {f"stack {number} of {len(stacks)}": stack for number, stack in enumerate(stacks, start=1)}
    made = {}
    for number, (name, stack) in enumerate(names.items(), start=1):
        words = ["sweep", "--resume", str(folder.path), "--stack", str(number), "--quiet", "--json"]
        made[name] = _job(words, stack, folder)
    failed = run_side_by_side(
        made, folder, "stacks", at_a_time=jobs, ranks=ranks, reporter=reporter, to_go_on=to_go_on(folder)
    )
    return {member.name: said for name, said in failed.items() for member in names[name]}


def _job(words: Sequence[str], stack: Sequence[Member], folder: RunFolder) -> Job:
    config, paths = stack[0].config, [run_path(folder, member) for member in stack]
    rows = f"{len(stack)} member{'s' * (len(stack) > 1)} with {len(config.seeds)} seed(s) each"

    def is_done() -> bool:
        return all(
            is_trained(path, member.config) or status_of_run(path) == "diverged"
            for path, member in zip(paths, stack, strict=True)
        )

    def made() -> int:
        return max(RunFolder(path).metrics.last_step() for path in paths)

    return Job(words, f"training {config.outer.steps} steps of {rows}", config.outer.steps, is_done, made)


def status_of_run(path: Path) -> str:
    """What a run says of how it stands; empty where there is none."""
    try:
        return str(RunFolder(path).read_info().get("status", ""))
    except CheckpointError:
        return ""
