"""`maml sweep`: a grid of settings, trained side by side as seeds are, and ranked on meta-validation tasks."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import torch

from mamlcli.commands.processes import jobs_here
from mamlcli.commands.stacks import going_on_together, to_go_on, train_here, train_in_processes
from mamlcli.commands.sweep_files import draw_sweep, write_picked, write_tables
from mamlcli.commands.sweep_grid import Grid, check_same_axes, grid_of, said_of
from mamlcli.commands.sweep_part import (
    Part,
    check_nobody_trains,
    check_part,
    part_result,
    shared_folder,
    stacks_to_train,
)
from mamlcli.commands.sweep_ranked import ranked_members, with_the_winner_tested
from mamlcli.commands.sweep_rows import no_winner
from mamlcli.config.arguments import check_config, check_count
from mamlcli.config.axes import Axes, Member, Points
from mamlcli.config.experiment import Config
from mamlcli.errors import InterruptedRunError, UsageError
from mamlcli.interrupts import StopRequest
from mamlcli.memory_check import check_meta_test, check_stacks
from mamlcli.ranks import Ranks, led
from mamlcli.reporting import Reporter, Silent
from mamlcli.results import Sweep
from mamlcli.runs.folder import RunFolder, default_path
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
    part: Part | None = None,
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
        part: Train but this part of the sweep, and rank nothing: `(2, 16)` is the second of sixteen of about as many
            members each. For who spreads a sweep over processes or machines that share a disk: `out` is the same for
            all parts, `resume` is True, and the first of them makes it. A call without ranks all members, and trains
            what is left. None trains all.
        pick: `best`, or the name of a member, whose config is written to `<pick>.yaml` in the folder.
        test: Whether the winner is tested; a search that goes on from here leaves that to its end.
        reporter: Hears of progress.
        stop: Asked between steps whether to end early; None goes on to the end.

    Raises:
        UsageError: If an axis or a part cannot be one, or a sweep is resumed as another.
        ConfigError: If a value is wrong.
        DivergedError: If all members have diverged; the table is there.
        RunFolderError: If the folder exists, or other processes train members that are to be ranked.
        MamlError: As `mamlcli.train` and `mamlcli.evaluate` do.
    """
    check_config(config)
    check_count("jobs", jobs)
    if part is not None:
        check_part(part, out, overwrite=overwrite, resume=resume, pick=pick)
    asked = _Asked(out, overwrite, resume, jobs, part, pick, test)
    return led(lambda ranks: _sweep(config, axes, asked, ranks, reporter or Silent()), stop)


class _Asked(NamedTuple):
    """Arguments of `sweep` that are not what it is of."""

    out: str | Path | None
    overwrite: bool
    resume: bool
    jobs: int | None
    part: Part | None
    pick: str | None
    test: bool


def _sweep(config: Config, axes: Axes | Points, asked: _Asked, ranks: Ranks, reporter: Reporter) -> Sweep:
    """Do it as the first of the processes that share the work."""
    start, (out, overwrite, resume, jobs, part, pick, test) = time.perf_counter(), asked
    reporter.progress("setting up the sweep", 0, 1)
    grid = grid_of(config, axes)
    _check_pick(pick, grid.members)
    check_installed(config)
    device = announce_device(config, reporter)
    tell_of_tasks(grid.experiments[grid.members[0].name], reporter)
    stacks = stacks_to_train(grid, part)
    _check_memory(grid, stacks, device, jobs)
    path = default_path(f"{config.name}-sweep") if out is None else Path(out)
    with ranks.heard as stop, ExitStack() as held:
        if part is not None:
            result = _train_part(grid, config, path, part, device, jobs, ranks, reporter)
            return result.model_copy(update={"wall_s": round(time.perf_counter() - start, 3)})
        folder, resumed = start_or_open(
            config, held, reporter, out=path, overwrite=overwrite, resume=resume, kind="sweep"
        )
        if resumed:
            check_same_experiment(folder, config)
            check_same_axes(folder, grid)
            check_nobody_trains(grid, folder)
            update_config(folder, config)
        with recorded(folder, said_of(grid, config), device):
            failed = _train(grid, stacks, folder, device, jobs, ranks, reporter)
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


def _check_memory(grid: Grid, stacks: Mapping[str, Sequence[Member]], device: torch.device, jobs: int | None) -> None:
    whole = [stacked([grid.experiments[member.name] for member in stack]) for stack in stacks.values()]
    check_stacks(whole, device, min(len(stacks), jobs_here(jobs)))
    for stack in grid.stacks:
        check_meta_test(grid.experiments[stack[0].name], device)


def _train(
    grid: Grid,
    stacks: Mapping[str, Sequence[Member]],
    folder: RunFolder,
    device: torch.device,
    jobs: int | None,
    ranks: Ranks,
    reporter: Reporter,
) -> dict[str, str]:
    """Train what is not trained yet; returns, by member, why its process failed."""
    if 1 < len(stacks) >= ranks.size:
        return train_in_processes(stacks, folder, jobs=jobs, ranks=ranks, reporter=reporter)
    for stack in stacks.values():
        for members in going_on_together(stack, folder):
            train_here(members, grid.experiments, folder, device, ranks, reporter)
    return {}


def _train_part(
    grid: Grid,
    config: Config,
    path: Path,
    part: Part,
    device: torch.device,
    jobs: int | None,
    ranks: Ranks,
    reporter: Reporter,
) -> Sweep:
    """Train a part in the folder that all parts share, and rank nothing."""
    folder, stacks = shared_folder(config, grid, path), stacks_to_train(grid, part)
    try:
        failed = _train(grid, stacks, folder, device, jobs, ranks, reporter)
    except InterruptedRunError as error:
        error.say_more([], to_go_on(folder, part))
        raise
    return part_result(grid, config, folder, part, failed)
