"""Members of a sweep as they are measured: all on meta-validation tasks, by which they are ranked; one on meta-test."""

from collections.abc import Mapping

import torch

from mamlcli.best import Chosen
from mamlcli.commands.stacks import run_path, status_of_run, to_go_on
from mamlcli.commands.sweep_grid import Grid
from mamlcli.commands.sweep_rows import member_row, notes_of, result_of
from mamlcli.config.axes import Member
from mamlcli.config.experiment import Config
from mamlcli.errors import CheckpointError, InterruptedRunError
from mamlcli.interrupts import StopRequest
from mamlcli.meta_test.measure import over_seeds, rows_of
from mamlcli.meta_test.ranking import Ranked, ranked
from mamlcli.meta_test.together import meta_test_together
from mamlcli.meta_test.validation import validation_losses
from mamlcli.ranks import Ranks
from mamlcli.reporting import Reporter
from mamlcli.results import Sweep
from mamlcli.runs.checkpoints import Checkpoint, newest_checkpoint
from mamlcli.runs.folder import RunFolder
from mamlcli.threads import Threads


def ranked_members(
    grid: Grid,
    config: Config,
    folder: RunFolder,
    failed: Mapping[str, str],
    device: torch.device,
    stop: StopRequest,
    reporter: Reporter,
) -> Sweep:
    """Measure each member that has not diverged on the meta-validation tasks, and rank them."""
    losses, frozen, problems = {}, dict[str, int](), dict(failed)
    which = "newest"
    with Threads(config.engine.threads, 1, reporter.note) as threads:
        for number, member in enumerate(grid.members):
            reporter.progress("meta-validation", number, len(grid.members))
            threads.look()
            if status_of_run(run_path(folder, member)) != "done":
                continue
            problems.pop(member.name, None)  # what failed came after its training
            try:
                checkpoint, chosen = _trained(folder, member, device, reporter)
            except CheckpointError as error:
                problems[member.name] = str(error)
                continue
            params = {name: theta.to(device) for name, theta in chosen.params.items()}
            try:
                found = validation_losses(grid.experiments[member.name], params, device, stop)
            except InterruptedRunError as error:
                error.say_more([], to_go_on(folder))
                raise
            losses[member.name] = found.numpy()
            frozen[member.name], which = len(checkpoint.frozen), chosen.which
    order = ranked(losses)
    members = {member.name: member for member in grid.members}
    names = [*order, *(name for name in members if name not in order)]
    rows = [
        member_row(
            members[name], order.get(name, Ranked(None, None, None)), folder, frozen.get(name, 0), problems.get(name)
        )
        for name in names
    ]
    result = result_of(grid, config, folder, rows, which)
    return result.model_copy(update={"notes": notes_of(result)})


def with_the_winner_tested(
    result: Sweep, grid: Grid, device: torch.device, ranks: Ranks, reporter: Reporter, folder: RunFolder
) -> Sweep:
    """Measure the winner on the meta-test tasks, once it is chosen; the numbers are those of `maml eval`."""
    if result.winner is None:
        return result
    experiment = grid.experiments[result.winner]
    member = next(member for member in grid.members if member.name == result.winner)
    checkpoint, chosen = _trained(folder, member, device, reporter)
    try:
        tested = meta_test_together(experiment, chosen.params, device, ranks, reporter)
    except InterruptedRunError as error:
        error.say_more([], to_go_on(folder))
        raise
    rows = over_seeds(rows_of(experiment, tested.losses, checkpoint.frozen))
    return result.model_copy(update={"winner_test": rows, "test_tasks": experiment.num_test_tasks()})


def _trained(folder: RunFolder, member: Member, device: torch.device, reporter: Reporter) -> tuple[Checkpoint, Chosen]:
    """The parameters that a member is evaluated by."""
    checkpoint = newest_checkpoint(run_path(folder, member), device, reporter.note)
    return checkpoint, checkpoint.chosen(member.config.run.keep)
