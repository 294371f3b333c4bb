"""`maml sweep`: a grid of settings, trained side by side as seeds are, and ranked on meta-validation tasks."""

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mamlcli.best import Chosen
from mamlcli.commands.stacks import run_path, stacks_of, status_of_run, to_go_on, train_here, train_in_processes
from mamlcli.config.arguments import check_config, check_count
from mamlcli.config.axes import Axes, Member, Points, members_of, shown
from mamlcli.config.axes import axes_of as values_of
from mamlcli.config.experiment import Config
from mamlcli.config.file import dump_config
from mamlcli.drawing import save_or_warn
from mamlcli.errors import CheckpointError, DivergedError, InterruptedRunError, Remedy, UsageError
from mamlcli.experiment import Experiment, make_experiment
from mamlcli.figures.drawing import Drawing
from mamlcli.groups import tested_seeds
from mamlcli.interrupts import StopRequest
from mamlcli.memory_check import check_meta_test, check_stacks
from mamlcli.meta_test.measure import meta_test, over_seeds, rows_of, threads_of_test
from mamlcli.meta_test.ranking import Ranked, ranked
from mamlcli.meta_test.validation import validation_losses
from mamlcli.reporting import Reporter, Silent
from mamlcli.results import Sweep
from mamlcli.rows import SweepAxis, SweptRow
from mamlcli.runs.checkpoints import Checkpoint, newest_checkpoint
from mamlcli.runs.files import csv_text, json_text
from mamlcli.runs.folder import RunFolder, default_path, open_run
from mamlcli.runs.recorded import recorded
from mamlcli.stacking import row_keys, stacked
from mamlcli.statistics import interval_over
from mamlcli.threads import Threads
from mamlcli.trackers.group import check_installed
from mamlcli.trainings.start import announce_device, check_same_experiment, start_or_open, tell_of_tasks, update_config
from mamlcli.types import Row


class _Grid(NamedTuple):
    """What a sweep is of."""

    members: list[Member]
    experiments: dict[str, Experiment]
    """By the name of their member."""
    stacks: list[list[Member]]
    axes: list[SweepAxis]
    asked: Any
    """The axes or points as they were passed, as plain values."""


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
    reporter, start = reporter or Silent(), time.perf_counter()
    reporter.progress("setting up the sweep", 0, 1)
    grid = _grid(config, axes)
    _check_pick(pick, grid.members)
    check_installed(config)
    device = announce_device(config, reporter)
    tell_of_tasks(grid.experiments[grid.members[0].name], reporter)
    if stack is not None and stack > len(grid.stacks):
        raise UsageError(f"stack {stack}: the sweep has {len(grid.stacks)}")
    _check_memory(grid, device, len(grid.stacks) if stack is None else 1, jobs)
    with stop or StopRequest() as stop, ExitStack() as held:
        if stack is not None:
            return _train_stack(grid, config, out, stack, device, stop, reporter, start)
        path = default_path(f"{config.name}-sweep") if out is None else Path(out)
        folder, resumed = start_or_open(
            config, held, reporter, out=path, overwrite=overwrite, resume=resume, kind="sweep"
        )
        if resumed:
            check_same_experiment(folder, config)
            _check_same_axes(folder, grid)
            update_config(folder, config)
        with recorded(folder, {"axes": grid.asked, "method": _methods(grid), "steps": config.outer.steps}):
            failed = _train(grid, folder, device, jobs, stop, reporter)
            result = _ranked(grid, config, folder, failed, device, stop, reporter)
            result = _tested(result, grid, device, stop, reporter, folder) if test else result
            result = result.model_copy(update={"picked": _pick(pick, result, grid.members, folder)})
            result = result.model_copy(update={"wall_s": round(time.perf_counter() - start, 3)})
            _write(folder, result)
            figures = _draw(folder, config, result, reporter)
            result = result.model_copy(update={"figures": figures})
            if result.winner is None:
                raise _no_winner(result)
            stop.raise_if_asked(f"interrupted after the sweep; it is complete: {folder.path}")
    return result


def _grid(config: Config, axes: Axes | Points) -> _Grid:
    members = members_of(config, axes)
    stacks = stacks_of(members)
    by_row = set.intersection(*(set(row_keys(member.config)) for member in members))
    found: list[SweepAxis] = [
        {"key": key, "values": [_plain(value) for value in values], "stacked": key in by_row}
        for key, values in (axes if isinstance(axes, Mapping) else values_of(axes)).items()
    ]
    return _Grid(
        members,
        {member.name: make_experiment(member.config) for member in members},
        stacks,
        found,
        _plain(_as_dicts(axes)),
    )


def _as_dicts(axes: Axes | Points) -> Any:
    return dict(axes) if isinstance(axes, Mapping) else [dict(point) for point in axes]


def _plain(value: Any) -> Any:
    """A value as JSON reads it back."""
    return json.loads(json.dumps(value))


def _methods(grid: _Grid) -> str:
    titles = dict.fromkeys(one.method.title for one in grid.experiments.values())
    return ", ".join(titles)


def _check_pick(pick: str | None, members: Sequence[Member]) -> None:
    names = [member.name for member in members]
    if pick is not None and pick not in ("best", *names):
        raise UsageError(f"pick {pick}: no member is called so; write best, or one of {', '.join(names[:10])}")


def _check_memory(grid: _Grid, device: torch.device, count: int, jobs: int | None) -> None:
    whole = [stacked([grid.experiments[member.name] for member in stack]) for stack in grid.stacks]
    check_stacks(whole, device, min(count, jobs or os.cpu_count() or 1))
    for stack in grid.stacks:
        check_meta_test(grid.experiments[stack[0].name], device)


def _check_same_axes(folder: RunFolder, grid: _Grid) -> None:
    before = axes_of(folder)
    if before != grid.asked:
        was, now = (_in_words(one) for one in (before, grid.asked))
        raise UsageError(f"{folder.path} cannot be resumed as another sweep: it is of {was}, and not of {now}")


def _in_words(asked: Any) -> str:
    if isinstance(asked, list):
        return f"{len(asked)} points"
    return ", ".join(f"{key}={shown(tuple(values))}" for key, values in asked.items())


def axes_of(folder: RunFolder) -> Any:
    """The axes of a sweep that was begun, or its points.

    Raises:
        CheckpointError: If its run.json does not say them.
    """
    found = folder.read_info().get("axes")
    are_axes = isinstance(found, dict) and all(isinstance(values, list) for values in found.values())
    if not are_axes and not (isinstance(found, list) and all(isinstance(point, dict) for point in found)):
        raise CheckpointError(f"{folder.path}: not a sweep that can be gone on with: run.json does not say its axes")
    return found


def _train(
    grid: _Grid, folder: RunFolder, device: torch.device, jobs: int | None, stop: StopRequest, reporter: Reporter
) -> dict[str, str]:
    """Train what is not trained yet; returns, by member, why its process failed."""
    if len(grid.stacks) == 1:
        train_here(grid.members, grid.experiments, folder, device, stop, reporter)
        return {}
    return train_in_processes(grid.stacks, folder, jobs=jobs, stop=stop, reporter=reporter)


def _train_stack(
    grid: _Grid,
    config: Config,
    out: str | Path | None,
    number: int,
    device: torch.device,
    stop: StopRequest,
    reporter: Reporter,
    start: float,
) -> Sweep:
    """Train one stack of a sweep whose folder is there, and rank nothing."""
    if out is None:
        remedy = Remedy("pass its folder as out=", "give its folder with --resume")
        raise UsageError("to train a stack, say of which sweep", remedy)
    folder = open_run(Path(out), "sweep")
    _check_same_axes(folder, grid)
    members = grid.stacks[number - 1]
    train_here(members, grid.experiments, folder, device, stop, reporter)
    rows = [_row(member, Ranked(None, None, None), folder, 0, None) for member in members]
    result = _result(grid, config, folder, rows, "newest")
    notes = [f"stack {number} of {len(grid.stacks)} is trained; members are ranked when all are"]
    return result.model_copy(update={"notes": notes, "wall_s": round(time.perf_counter() - start, 3)})


def _ranked(
    grid: _Grid,
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
        _row(members[name], order.get(name, Ranked(None, None, None)), folder, frozen.get(name, 0), problems.get(name))
        for name in names
    ]
    result = _result(grid, config, folder, rows, which)
    return result.model_copy(update={"notes": _notes(result)})


def _trained(folder: RunFolder, member: Member, device: torch.device, reporter: Reporter) -> tuple[Checkpoint, Chosen]:
    """The parameters that a member is evaluated by."""
    checkpoint = newest_checkpoint(run_path(folder, member), device, reporter.note)
    return checkpoint, checkpoint.chosen(member.config.run.keep)


def _row(member: Member, one: Ranked, folder: RunFolder, num_frozen: int, problem: str | None) -> SweptRow:
    return {
        "rank": one.rank,
        "member": member.name,
        "values": {key: _plain(value) for key, value in member.values.items()},
        "status": status_of_run(run_path(folder, member)) or "failed",
        "mean": one.mean,
        "ci95": one.ci95,
        "difference": one.difference,
        "difference_ci95": one.difference_ci95,
        "statement": one.statement,
        "num_diverged_seeds": num_frozen,
        "problem": problem,
    }


def _result(grid: _Grid, config: Config, folder: RunFolder, rows: list[SweptRow], which: str) -> Sweep:
    """What is known before the winner is tested."""
    first = grid.experiments[grid.members[0].name]
    winner = next((row["member"] for row in rows if row["rank"] == 1), None)
    return Sweep(
        run=folder.path,
        axes=grid.axes,
        seeds=config.seeds,
        tasks=first.num_test_tasks("meta-validation"),
        shots=first.config.tasks.support_shots,
        inner_steps=first.method.inner_steps,
        interval=interval_over(len(tested_seeds(first))),
        parameters=which,  # type: ignore[arg-type]
        results=rows,
        winner=winner,
        winner_run=None if winner is None else folder.path / "runs" / winner,
        test_tasks=0,
        winner_test=[],
        picked=None,
        wall_s=0.0,
        notes=[],
        figures=[],
    )


def _notes(result: Sweep) -> list[str]:
    """What a reader of the table may overlook."""
    others = [row for row in result.results if row["statement"] is not None]
    close = [row for row in others if row["statement"] == "inconclusive"]
    notes = []
    if others:
        notes.append(
            f"{len(close)} of {len(others)} other members are not told apart from the winner: the 95% interval of the "
            "paired difference holds zero"
        )
    if diverged := [row["member"] for row in result.results if row["status"] == "diverged"]:
        notes.append(f"diverged: {', '.join(diverged)}")
    if tasks := [axis["key"] for axis in result.axes if axis["key"].startswith("tasks.")]:
        notes.append(
            f"{', '.join(tasks)} changes the tasks too: each member is measured on meta-validation tasks like those "
            "that it learned from, and a lower loss can mean easier ones"
        )
    notes += [f"{row['member']}: {row['problem']}" for row in result.results if row["problem"]]
    return notes


def _tested(
    result: Sweep, grid: _Grid, device: torch.device, stop: StopRequest, reporter: Reporter, folder: RunFolder
) -> Sweep:
    """Measure the winner on the meta-test tasks, once it is chosen; the numbers are those of `maml eval`."""
    if result.winner is None:
        return result
    experiment = grid.experiments[result.winner]
    member = next(member for member in grid.members if member.name == result.winner)
    checkpoint, chosen = _trained(folder, member, device, reporter)
    params = {name: theta.to(device) for name, theta in chosen.params.items()}
    with Threads(member.config.engine.threads, threads_of_test(experiment), reporter.note) as threads:
        try:
            losses = meta_test(experiment, params, device, stop, threads, reporter=reporter)
        except InterruptedRunError as error:
            error.say_more([], to_go_on(folder))
            raise
    rows = over_seeds(rows_of(experiment, losses, checkpoint.frozen))
    return result.model_copy(update={"winner_test": rows, "test_tasks": experiment.num_test_tasks()})


def _pick(pick: str | None, result: Sweep, members: Sequence[Member], folder: RunFolder) -> Path | None:
    """Write the config of a member; None where none is asked for, or there is no best."""
    name = result.winner if pick == "best" else pick
    if pick is None or name is None:
        return None
    config = next(member.config for member in members if member.name == name)
    return folder.write_text(f"{pick}.yaml", dump_config(config))


def _write(folder: RunFolder, result: Sweep) -> None:
    folder.write_text("sweep.json", json_text(result.as_json(without=("figures",))))
    folder.write_text("sweep.csv", csv_text(_table(result)))


def _table(result: Sweep) -> list[Row]:
    """The rows as a file of columns has them: values of axes in columns of their own."""
    return [
        {"rank": row["rank"], "member": row["member"]}
        | {key: shown(value) for key, value in row["values"].items()}
        | {key: value for key, value in row.items() if key not in ("rank", "member", "values")}
        for row in result.results
    ]


def _draw(folder: RunFolder, config: Config, result: Sweep, reporter: Reporter) -> list[Path]:
    """Draw the loss over the axes."""
    keys = [axis["key"] for axis in result.axes]
    rows: list[Row] = [
        {key: shown(row["values"][key]) for key in keys}
        | {"mean": row["mean"], "ci95": row["ci95"], "rank": row["rank"], "status": row["status"]}
        for row in result.results
    ]
    seeds = f"{len(config.seeds)} seed{'s' * (len(config.seeds) > 1)}"
    labels = {
        "title": f"{config.name}: {len(rows)} members, {seeds}, {result.tasks} meta-validation tasks",
        "axes": {axis["key"]: [shown(value) for value in axis["values"]] for axis in result.axes},
        "interval": result.interval,
        "is_grid": math.prod(len(axis["values"]) for axis in result.axes) == len(rows),
    }
    if not any(row["mean"] is not None for row in rows):
        return []
    path = save_or_warn(folder, "sweep", Drawing("sweep", rows, labels), reporter)
    return [path] if path else []


def _no_winner(result: Sweep) -> DivergedError | CheckpointError:
    """The error of a sweep that nothing has come of."""
    if failed := [row for row in result.results if row["problem"]]:
        lines = [f"  {row['member']}: {row['problem']}" for row in failed[:5]]
        return CheckpointError("\n".join([f"{result.run}: no member was trained whole:", *lines]))
    return DivergedError(
        f"all {len(result.results)} members diverged, or their meta-validation loss is not finite: {result.run}; "
        "likely remedies: smaller values of algorithm.inner_lr or outer.lr, or outer.max_grad_norm: 10"
    )
