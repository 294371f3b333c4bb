"""A part of a sweep, trained by a process that shares nothing with those of other parts but the sweep's folder."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

from mamlcli.commands.stacks import has_ended, run_path
from mamlcli.commands.sweep_grid import Grid, check_same_axes, said_of
from mamlcli.commands.sweep_rows import member_row, result_of
from mamlcli.config.arguments import check_count
from mamlcli.config.axes import Member
from mamlcli.config.experiment import Config
from mamlcli.errors import CheckpointError, Remedy, RunFolderError, UsageError
from mamlcli.meta_test.ranking import Ranked
from mamlcli.results import Sweep
from mamlcli.runs.choosing import RESUMING
from mamlcli.runs.folder import RunFolder, create_run, open_run
from mamlcli.runs.info import UNRANKED
from mamlcli.runs.link import followed
from mamlcli.runs.lock import is_held
from mamlcli.trainings.start import check_same_experiment, update_config
from mamlcli.trainings.training import new_info

Part: TypeAlias = tuple[int, int]
"""Which part of how many: (2, 16) is the second of sixteen."""

# How many members a message names.
_NAMED = 5


def check_part(part: Part, out: str | Path | None, *, overwrite: bool, resume: bool, pick: str | None) -> None:
    """Raise UsageError unless a part can be one, and is asked for with what goes together with it."""
    if not isinstance(part, Sequence) or len(part) != 2:
        raise UsageError(f"part: must be two numbers, like (2, 16) for the second of sixteen, got {part!r}")
    for number in part:
        check_count("part", number)
    if part[0] > part[1]:
        raise UsageError(f"part {_shown(part)}: there are parts 1 to {part[1]}")
    if out is None or not resume or overwrite:
        remedy = Remedy("pass its folder as out=, and resume=True", "use --out DIR --resume auto")
        raise UsageError("the parts of a sweep are trained into one folder, which the first of them makes", remedy)
    if pick is not None:
        raise UsageError("a part is not ranked, so nothing can be picked of it: pick when all members are ranked")


def stacks_to_train(grid: Grid, part: Part | None) -> dict[str, list[Member]]:
    """What a part trains, or the whole sweep if None: by the part that trains it alone, as "2/16", stack for stack.

    Parts have about as many members each. One is several whole stacks where there are more of those than parts; it is a
    piece of one stack where there are fewer.

    Raises:
        UsageError: If there are more parts than members.
    """
    whole = {_shown((number, len(grid.stacks))): stack for number, stack in enumerate(grid.stacks, start=1)}
    if part is None:
        return whole
    number, count = part
    if count > len(grid.members):
        raise UsageError(
            f"part {_shown(part)}: the sweep has {len(grid.members)} members, and no more parts than those"
        )
    if count < len(whole):
        return _handed_out(whole, count)[number - 1]
    return {_shown(part): _cut(grid.stacks, count)[number - 1]}


def _handed_out(stacks: Mapping[str, list[Member]], count: int) -> list[dict[str, list[Member]]]:
    """Hand whole stacks out to fewer parts, the longest first, each to the part with the fewest members so far."""
    parts: list[dict[str, list[Member]]] = [{} for _ in range(count)]
    for name, stack in sorted(stacks.items(), key=lambda one: len(one[1]), reverse=True):
        min(parts, key=lambda part: sum(map(len, part.values())))[name] = stack
    return parts


def _cut(stacks: Sequence[list[Member]], count: int) -> list[list[Member]]:
    """Cut stacks into so many pieces, at least as many as stacks, one cut more where the pieces are the longest."""
    pieces = [1 for _ in stacks]
    while sum(pieces) < count:
        pieces[max(range(len(stacks)), key=lambda index: len(stacks[index]) / pieces[index])] += 1
    return [
        stack[piece * len(stack) // number : (piece + 1) * len(stack) // number]
        for stack, number in zip(stacks, pieces, strict=True)
        for piece in range(number)
    ]


def shared_folder(config: Config, grid: Grid, path: Path) -> RunFolder:
    """The folder of a sweep whose parts are trained at once: whoever comes first makes it, and nobody holds it.

    Args:
        config: What all members have.
        grid: The sweep.
        path: The folder.

    Raises:
        UsageError: If another sweep is in it.
        CheckpointError: If something else is.
        RunFolderError: If it cannot be made.
    """
    path = followed(path)
    if not path.exists():
        info = new_info(config, "sweep") | said_of(grid, config) | {"status": UNRANKED}
        with ExitStack() as held:
            try:
                return create_run(path, config, info, held)
            except RunFolderError:
                if not path.exists():
                    raise
    folder = open_run(path, "sweep", RESUMING["sweep"])
    check_same_experiment(folder, config)
    check_same_axes(folder, grid)
    update_config(folder, config)
    return folder


def check_nobody_trains(grid: Grid, folder: RunFolder) -> None:
    """Raise RunFolderError if other processes train members: they are ranked when all have ended."""
    left = [run_path(folder, one) for one in grid.members if not has_ended(run_path(folder, one), one.config)]
    busy = [run for run in left if is_held(run)]
    if busy:
        names = ", ".join(run.name for run in busy[:_NAMED])
        raise RunFolderError(
            f"{folder.path}: other processes are training {len(busy)} of its members ({names}"
            f"{', …' if len(busy) > _NAMED else ''}); try again when they have ended"
        )


def part_result(grid: Grid, config: Config, folder: RunFolder, part: Part, failed: Mapping[str, str]) -> Sweep:
    """What is to be said once a part is trained.

    Args:
        grid: The sweep.
        config: What all members have.
        folder: Of the sweep.
        part: Which one.
        failed: Why processes failed, by members that they were to train.

    Raises:
        CheckpointError: If some of its members are not trained.
    """
    members = [member for stack in stacks_to_train(grid, part).values() for member in stack]
    left = [one.name for one in grid.members if not has_ended(run_path(folder, one), one.config)]
    if problems := [f"  {one.name}: {failed[one.name]}" for one in members if one.name in left and one.name in failed]:
        said = f"{folder.path}: {len(problems)} members of part {_shown(part)} were not trained:"
        raise CheckpointError("\n".join([said, *problems[:_NAMED]]))
    rows = [member_row(member, Ranked(None, None, None), folder, 0, None) for member in members]
    notes = [
        f"part {_shown(part)} is trained, {len(members)} of {len(grid.members)} members; "
        + (f"{len(left)} are left to other parts" if left else "all are trained now, and can be ranked")
    ]
    if diverged := [row["member"] for row in rows if row["status"] == "diverged"]:
        notes.append(f"diverged: {', '.join(diverged)}")
    return result_of(grid, config, folder, rows, "newest").model_copy(update={"notes": notes})


def _shown(part: Part) -> str:
    """A part as it is typed."""
    return f"{part[0]}/{part[1]}"
