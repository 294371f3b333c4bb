"""The family of a mixture: which family a task is of, and its samples as that family draws them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from mamlcli.errors import UsageError
from mamlcli.tasks.bounds import Part, known_losses
from mamlcli.tasks.family import Curves, Kinds, Request, TaskFamily, from_pool
from mamlcli.tasks.mixture import MixtureTasks
from mamlcli.tasks.numbers import Lane, Numbers
from mamlcli.tasks.samples import Samples, Task


def mixture_family(config: MixtureTasks, members: Sequence[TaskFamily]) -> TaskFamily:
    """Build the mixture of families that have been built from its sections.

    A task is what its own family draws from the numbers of its place; which family that is comes from numbers that are
    used for nothing else. So a task of a family stays as it is while the others weigh more or less.

    Raises:
        UsageError: If the families differ in their outputs or losses, or have more inputs than the mixture.
    """
    _check(config, members)
    kind_of, widened = partial(_kinds, config), partial(_widened, config, members)

    def draw(numbers: Numbers, request: Request) -> Task:
        places, numbers_of_all = _places(kind_of(numbers)), dict[tuple[int, int], NDArray[np.uint64]]()
        drawn = {kind: members[kind].draw(numbers.some(its, numbers_of_all), request) for kind, its in places.items()}
        support = {kind: Samples(widened(kind, one.support.x), one.support.y) for kind, one in drawn.items()}
        query = {kind: Samples(widened(kind, one.query.x), one.query.y) for kind, one in drawn.items()}
        return Task(_joined(places, support), _joined(places, query))

    def curves(numbers: Numbers, count: int) -> Curves:
        places, x = _places(kind_of(numbers)), torch.empty(0)
        found: dict[int, Samples] = {}
        for kind, its in places.items():
            make = members[kind].curves
            assert make is not None, "a family of one input has curves"
            x, inputs, y = make(numbers.some(its), count)
            assert y is not None, "the functions of a family of functions are known"
            found[kind] = Samples(widened(kind, inputs), y)
        joined = _joined(places, found)
        return Curves(x, joined.x, joined.y)

    return TaskFamily(
        num_inputs=config.inputs + _num_told(config, members),
        num_outputs=members[0].num_outputs,
        draw=draw,
        domain=members[0].domain,
        loss=members[0].loss,
        curves=curves if all(member.curves for member in members) and config.inputs == 1 else None,
        bounds=partial(_bounds, config, members),
        num_told=_num_told(config, members),
        corrupted_slots=config.corrupted_slots,
        kinds=Kinds(_names(config), kind_of),
    )


def _check(config: MixtureTasks, members: Sequence[TaskFamily]) -> None:
    if len({(member.num_outputs, member.loss) for member in members}) > 1:
        raise UsageError("tasks.families: families of a mixture need as many outputs and the same loss, all of them")
    for index, member in enumerate(members):
        if _coordinates(member) > config.inputs:
            name, inputs = config.families[index].tasks.family, _coordinates(member)
            raise UsageError(
                f"tasks.families[{index}]: {name} has {inputs} inputs, and the mixture {config.inputs}: set "
                f"tasks.inputs: {inputs}"
            )


def _coordinates(member: TaskFamily) -> int:
    """Coordinates of x; what an oracle is told is none."""
    return member.num_inputs - member.num_told


def _num_told(config: MixtureTasks, members: Sequence[TaskFamily]) -> int:
    """An oracle has an input for each family, 1 where a task is of it, and beside it what that family tells."""
    return sum(1 + member.num_told for member in members) if config.oracle_inputs else 0


def _shares(config: MixtureTasks) -> Float[np.ndarray, " kinds"]:
    """Which part of the tasks is of each family."""
    weights = np.array([member.weight for member in config.families])
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


def _bounds(config: MixtureTasks, members: Sequence[TaskFamily], grid: int | None) -> Mapping[str, float]:
    """What is known of losses, where it is known of every family."""
    parts = [
        Part(float(weight), member.moments, _coordinates(member))
        for weight, member in zip(_shares(config), members, strict=True)
        if member.moments is not None
    ]
    return known_losses(parts, config.x, config.noise_std, grid) if len(parts) == len(members) else {}


def _names(config: MixtureTasks) -> tuple[str, ...]:
    """What each family is called: by its name, and where one stands there again, by a number too."""
    families = [member.tasks.family for member in config.families]
    counts, seen = Counter(families), Counter[str]()
    names = []
    for family in families:
        seen[family] += 1
        names.append(f"{family} {seen[family]}" if counts[family] > 1 else family)
    return tuple(names)


def _kinds(config: MixtureTasks, numbers: Numbers) -> Int64[np.ndarray, " tasks"]:
    """Which family each task is of; a task of a pool is of the same wherever it comes."""

    def endless(numbers: Numbers) -> dict[str, Tensor]:
        return {"chance": numbers.uniform(Lane.KIND, 1).unsqueeze(-1)}

    drawn = from_pool(endless, config.pool) if config.pool else endless
    ends = np.cumsum(_shares(config))[:-1]
    return np.searchsorted(ends, drawn(numbers)["chance"].flatten().numpy(), side="right")


def _places(kinds: Int64[np.ndarray, " tasks"]) -> dict[int, Int64[np.ndarray, " places"]]:
    """Where the tasks of each family are, of those that there are."""
    return {int(kind): np.flatnonzero(kinds == kind) for kind in np.unique(kinds)}


def _widened(
    config: MixtureTasks, members: Sequence[TaskFamily], kind: int, x: Float[Tensor, "tasks shots own"]
) -> Float[Tensor, "tasks shots inputs"]:
    """What a model sees in the mixture of inputs of one family."""
    own = _coordinates(members[kind])
    parts = [x[..., :own], torch.ones(*x.shape[:2], config.inputs - own)]
    for index, member in enumerate(members if config.oracle_inputs else ()):
        told = x[..., own:] if index == kind else torch.zeros(*x.shape[:2], member.num_told)
        parts += [torch.full((*x.shape[:2], 1), float(index == kind)), told]
    return torch.cat(parts, dim=-1)


def _joined(places: dict[int, Int64[np.ndarray, " places"]], parts: dict[int, Samples]) -> Samples:
    """Samples of several families, in the order of their tasks."""
    order = torch.from_numpy(np.argsort(np.concatenate(list(places.values()))))
    return Samples(*(torch.cat(column)[order] for column in zip(*parts.values(), strict=True)))
