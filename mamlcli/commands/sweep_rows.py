"""What a sweep found: a row of each member, what is to be said of them in words, and the error where none is left."""

from mamlcli.commands.stacks import run_path, status_of_run
from mamlcli.commands.sweep_grid import Grid, as_read_back
from mamlcli.config.axes import Member
from mamlcli.config.experiment import Config
from mamlcli.errors import CheckpointError, DivergedError
from mamlcli.groups import tested_seeds
from mamlcli.meta_test.ranking import Ranked
from mamlcli.results import Sweep
from mamlcli.rows import SweptRow
from mamlcli.runs.folder import RunFolder
from mamlcli.statistics import interval_over


def member_row(member: Member, one: Ranked, folder: RunFolder, num_frozen: int, problem: str | None) -> SweptRow:
    """The row of a member.

    Args:
        member: Whose it is.
        one: How it was ranked; of nothing but None where it was not.
        folder: Of the sweep.
        num_frozen: Seeds that diverged in training, and count with the parameters that they kept.
        problem: Why it could not be measured.
    """
    return {
        "rank": one.rank,
        "member": member.name,
        "values": {key: as_read_back(value) for key, value in member.values.items()},
        "status": status_of_run(run_path(folder, member)) or "failed",
        "mean": one.mean,
        "ci95": one.ci95,
        "difference": one.difference,
        "difference_ci95": one.difference_ci95,
        "statement": one.statement,
        "num_diverged_seeds": num_frozen,
        "problem": problem,
    }


def result_of(grid: Grid, config: Config, folder: RunFolder, rows: list[SweptRow], which: str) -> Sweep:
    """What is known before the winner is tested."""
    first = grid.experiments[grid.members[0].name]
    shots = {one.config.tasks.support_shots for one in grid.experiments.values()}
    steps = {one.method.inner_steps for one in grid.experiments.values()}
    winner = next((row["member"] for row in rows if row["rank"] == 1), None)
    return Sweep(
        run=folder.path,
        axes=grid.axes,
        seeds=config.seeds,
        tasks=first.num_test_tasks("meta-validation"),
        shots=shots.pop() if len(shots) == 1 else None,
        inner_steps=steps.pop() if len(steps) == 1 else None,
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


def notes_of(result: Sweep) -> list[str]:
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


def no_winner(result: Sweep) -> DivergedError | CheckpointError:
    """The error of a sweep that nothing has come of."""
    if failed := [row for row in result.results if row["problem"]]:
        lines = [f"  {row['member']}: {row['problem']}" for row in failed[:5]]
        return CheckpointError("\n".join([f"{result.run}: no member was trained whole:", *lines]))
    return DivergedError(
        f"all {len(result.results)} members diverged, or their meta-validation loss is not finite: {result.run}; "
        "likely remedies: smaller values of algorithm.inner_lr or outer.lr, or outer.max_grad_norm: 10"
    )
