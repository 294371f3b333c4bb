"""`maml sweep`: a grid of settings, trained side by side as seeds are, and ranked on meta-validation tasks."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import torch

from mamlcli.commands.processes import jobs_here
from mamlcli.commands.stacks import train_here, train_in_processes
from mamlcli.commands.sweep_files import draw_sweep, write_picked, write_tables
from mamlcli.commands.sweep_grid import Grid, check_same_axes, grid_of, methods_in_words
from mamlcli.commands.sweep_ranked import ranked_members, with_the_winner_tested
from mamlcli.commands.sweep_rows import member_row, no_winner, result_of
from mamlcli.config.arguments import check_config, check_count
from mamlcli.config.axes import Axes, Member, Points
from mamlcli.config.experiment import Config
from mamlcli.errors import Remedy, UsageError
from mamlcli.interrupts import StopRequest
from mamlcli.memory_check import check_meta_test, check_stacks
from mamlcli.meta_test.ranking import Ranked
from mamlcli.ranks import Ranks, connected
from mamlcli.reporting import Reporter, Silent
from mamlcli.results import Sweep
from mamlcli.runs.folder import RunFolder, default_path, open_run
from mamlcli.runs.recorded import recorded
from mamlcli.stacking import stacked
from mamlcli.trackers.group import check_installed
from mamlcli.trainings.start import announce_device, check_same_experiment, start_or_open, tell_of_tasks, update_config


def sweep(
    config: Config,
    axes: Axes | Points,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    jobs: int | None = None,
    stack: int | None = None,
    pick: str | None = None,
    test: bool = True,
    reporter: Reporter | None = None,
    stop: StopRequest | None = None,
) -> Sweep:
    """Train every combination of values, rank them on meta-validation tasks, and test the winner once on meta-test.

    Members that differ in numbers alone (inner and outer learning rate, clipping, noise, where learned rates start) are
    rows of one program, beside their seeds. Those that differ in more are trained in processes, one for each program.

    Args:
        config: What all members have.
        axes: Values of keys, like `{"outer.lr": [0.001, 0.0003]}`; not of `seeds`, which are trained side by side as
            they are, nor of what says how a run is tested, kept or computed. Or members one by one, where they make no
            grid: `[{"outer.lr": 0.0012}, {"outer.lr": 0.0007}]`.
        out: The folder; a new one under `outputs/<name>-sweep/` if None. Each member is a run in it, in `runs/`.
        overwrite: Move a sweep that is in `out` aside first; what is no run is refused.
        resume: Continue the sweep in `out` if there is one, and start it otherwise.
        jobs: How many processes train at a time where there are several programs; one for each core if None.
        stack: Train but the members of this program, from 1, of the sweep in `out`, and rank none: for who spreads a
            sweep over machines that share a disk. None trains all.
        pick: `best`, or the name of a member, whose config is written to `<pick>.yaml` in the folder.
        test: Whether the winner is tested; a search that goes on from here leaves that to its end.
        reporter: Hears of progress.
        stop: Asked between steps whether to end early; None goes on to the end.

    Raises:
        UsageError: If an axis cannot be one, or a sweep is resumed as another.
        ConfigError: If a value is wrong.
        DivergedError: If all members have diverged; the table is there.
        MamlError: As `mamlcli.train` and `mamlcli.evaluate` do.
    """
    check_config(config)
    check_count("jobs", jobs)
    check_count("stack", stack)
    with connected():
        ranks = Ranks(stop or StopRequest())
        asked = _Asked(out, overwrite, resume, jobs, stack, pick, test)
        return ranks.lead(lambda: _sweep(config, axes, asked, ranks, reporter or Silent()))


class _Asked(NamedTuple):
    """Arguments of `sweep` that are not what it is of."""

    out: str | Path | None
    overwrite: bool
    resume: bool
    jobs: int | None
    stack: int | None
    pick: str | None
    test: bool


def _sweep(config: Config, axes: Axes | Points, asked: _Asked, ranks: Ranks, reporter: Reporter) -> Sweep:
    """Do it as the first of the processes that share the work."""
    start, (out, overwrite, resume, jobs, stack, pick, test) = time.perf_counter(), asked
    reporter.progress("setting up the sweep", 0, 1)
    grid = grid_of(config, axes)
    _check_pick(pick, grid.members)
    check_installed(config)
    device = announce_device(config, reporter)
    tell_of_tasks(grid.experiments[grid.members[0].name], reporter)
    if stack is not None and stack > len(grid.stacks):
        raise UsageError(f"stack {stack}: the sweep has {len(grid.stacks)}")
    _check_memory(grid, device, len(grid.stacks) if stack is None else 1, jobs)
    with ranks.heard as stop, ExitStack() as held:
        if stack is not None:
            return _train_stack(grid, config, out, stack, device, ranks, reporter, start)
        path = default_path(f"{config.name}-sweep") if out is None else Path(out)
        folder, resumed = start_or_open(
            config, held, reporter, out=path, overwrite=overwrite, resume=resume, kind="sweep"
        )
        if resumed:
            check_same_experiment(folder, config)
            check_same_axes(folder, grid)
            update_config(folder, config)
        said = {"axes": grid.asked, "method": methods_in_words(grid), "steps": config.outer.steps}
        with recorded(folder, said, device):
            failed = _train(grid, folder, device, jobs, ranks, reporter)
            result = ranked_members(grid, config, folder, failed, device, stop, reporter)
            result = with_the_winner_tested(result, grid, device, ranks, reporter, folder) if test else result
            result = result.model_copy(update={"picked": write_picked(pick, result, grid.members, folder)})
            result = result.model_copy(update={"wall_s": round(time.perf_counter() - start, 3)})
            write_tables(folder, result)
            figures = draw_sweep(folder, config, result, reporter)
            result = result.model_copy(update={"figures": figures})
            if result.winner is None:
                raise no_winner(result)
            stop.raise_if_asked(f"interrupted after the sweep; it is complete: {folder.path}")
    return result


def _check_pick(pick: str | None, members: Sequence[Member]) -> None:
    names = [member.name for member in members]
    if pick is not None and pick not in ("best", *names):
        raise UsageError(f"pick {pick}: no member is called so; write best, or one of {', '.join(names[:10])}")


def _check_memory(grid: Grid, device: torch.device, count: int, jobs: int | None) -> None:
    whole = [stacked([grid.experiments[member.name] for member in stack]) for stack in grid.stacks]
    check_stacks(whole, device, min(count, jobs_here(jobs)))
    for stack in grid.stacks:
        check_meta_test(grid.experiments[stack[0].name], device)


def _train(
    grid: Grid, folder: RunFolder, device: torch.device, jobs: int | None, ranks: Ranks, reporter: Reporter
) -> dict[str, str]:
    """Train what is not trained yet; returns, by member, why its process failed."""
    if len(grid.stacks) > 1 and len(grid.stacks) >= ranks.size:
        return train_in_processes(grid.stacks, folder, jobs=jobs, ranks=ranks, reporter=reporter)
    for members in grid.stacks:
        train_here(members, grid.experiments, folder, device, ranks, reporter)
    return {}


def _train_stack(
    grid: Grid,
    config: Config,
    out: str | Path | None,
    number: int,
    device: torch.device,
    ranks: Ranks,
    reporter: Reporter,
    start: float,
) -> Sweep:
    """Train one stack of a sweep whose folder is there, and rank nothing."""
    if out is None:
        remedy = Remedy("pass its folder as out=", "give its folder with --resume")
        raise UsageError("to train a stack, say of which sweep", remedy)
    folder = open_run(Path(out), "sweep")
    check_same_axes(folder, grid)
    members = grid.stacks[number - 1]
    train_here(members, grid.experiments, folder, device, ranks, reporter)
    rows = [member_row(member, Ranked(None, None, None), folder, 0, None) for member in members]
    result = result_of(grid, config, folder, rows, "newest")
    notes = [f"stack {number} of {len(grid.stacks)} is trained; members are ranked when all are"]
    return result.model_copy(update={"notes": notes, "wall_s": round(time.perf_counter() - start, 3)})
