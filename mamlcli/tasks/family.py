"""A family of tasks as a value, and the kind whose tasks are functions with random parameters."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mamlcli.section import FunctionTasksSection
from mamlcli.tasks.averages import grid_side
from mamlcli.tasks.bounds import Moments, Part, known_losses
from mamlcli.tasks.numbers import Interval, Lane, Numbers, Split, parameter_lane, visits
from mamlcli.tasks.samples import SQUARED_ERROR, Loss, Samples, Task

# What a corrupted target is, whatever the function.
_CORRUPTED: Interval = (-5.0, 5.0)
# Places of a list whose tasks of a pool are looked up at a time, and how many are kept, of all seeds together.
_PLACES_AT_A_TIME, _PLACES_KEPT = 2**14, 2**23
# Of a task of a pool, beside the parameters of its function.
_NUMBER = "its number"


class Request(NamedTuple):
    """How many samples of each task are wanted."""

    support_shots: int
    """K, >= 1."""
    query_shots: int
    """Q, >= 1."""
    query_grid: bool = False
    """Whether the query inputs are the same even grid for every task, ends included, and not drawn."""
    unlabelled_inputs: int = 0
    """U, >= 0: inputs after the K support samples whose targets are not a number, so that whoever reads one cannot miss
    it."""
    numbered: bool = False
    """Whether a last support sample says which task of the pool it is: its target is the task's number, from 0."""


class Curves(NamedTuple):
    """The functions behind n tasks on a grid of G points."""

    x: Float[Tensor, " points"]
    inputs: Float[Tensor, "n points features"]
    """What a model sees of the grid."""
    y: Float[Tensor, "n points outputs"] | None
    """None where the functions are not known."""


class Columns(NamedTuple):
    """What the numbers of a task are called where people read them."""

    task: str
    inputs: tuple[str, ...]
    targets: tuple[str, ...]


class Units(NamedTuple):
    """How numbers of the user's become those of a model: (value - mean) / scale, a pair for each column."""

    x_mean: tuple[float, ...]
    x_scale: tuple[float, ...]
    y_mean: tuple[float, ...]
    y_scale: tuple[float, ...]


class Kinds(NamedTuple):
    """What tasks are called that are of several kinds, for results of each."""

    names: tuple[str, ...]
    of: Callable[[Numbers], Int64[np.ndarray, " tasks"]]
    """Which of the names the tasks of these numbers have."""


class TaskFamily(NamedTuple):
    """A distribution of tasks, or a finite world of them."""

    num_inputs: int
    """Features of an input."""
    num_outputs: int
    """Width of a target."""
    draw: Callable[[Numbers, Request], Task]
    """The tasks of these numbers: float32 on the CPU, inputs of shape (n, K + U, features) and (n, Q, features).

    The k-th sample of a task must not depend on how many are asked for, so that the tasks for K = 5 are those for
    K = 20 with fewer support samples.
    """
    domain: str
    """Where inputs come from, in words, like "[-5, 5]"."""
    loss: Loss = SQUARED_ERROR
    curves: Callable[[Numbers, int], Curves] | None = None
    """The functions behind the tasks of these numbers on so many even points, for figures; None where there are none
    to draw."""
    bounds: Callable[[int | None], Mapping[str, float]] = lambda _: {}
    """What is known of the query loss analytically, by name, like "zero predictor": on a grid of so many even inputs,
    or for None on inputs that are drawn."""
    moments: Moments | None = None
    """What the functions behind the tasks are on average, for what is known of a mixture of families; None where that
    is not known."""
    num_told: int = 0
    """How many of the inputs, the last ones, tell an oracle the task."""
    kinds: Kinds | None = None
    """Where tasks are of several kinds, of which results are wanted too; None where they are of one."""
    corrupted_slots: int = 0
    """C: the targets of the first C support samples of every task say nothing."""
    columns: Columns | None = None
    """None for the names that `column_names` makes up."""
    units: Units | None = None
    """None where a model sees numbers as they are."""
    names: Mapping[Split, Sequence[str]] = {}
    """Where tasks have names: those of a split, in the order of its list, which ends there; a split that is missing is
    endless. Meta-training goes through its list again and again."""
    view: "Callable[[int], TaskFamily] | None" = None
    """Where seeds leave out different tasks, the family as a seed has it, with names and units of its own; `names` then
    holds all that any seed has in a split. None where all seeds have the same."""
    pool: int | None = None
    """How many tasks meta-training draws from, where it can say which of them a task is; see `Request.numbered`."""
    largest_support: int | None = None
    """The largest K that leaves every task a query sample; None where there is no such bound."""
    has_gaps: Callable[[Request], bool] = lambda _: False
    """Whether, of so many samples, some tasks have fewer: their targets are filled up with NaN, which `loss` passes
    over."""
    note: str | None = None
    """What a person is to be told when a training with it begins, like what was left out."""
    record: Mapping[str, Any] = {}
    """What is known of the data that it was made from, as plain values: it stands in every checkpoint, and a run goes
    on, and is tested, with the same alone."""


def of_seed(family: TaskFamily, seed: int) -> TaskFamily:
    """The family as a seed has it."""
    return family if family.view is None else family.view(seed)


def first_input(units: Units | None, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch"]:
    """The first input as a user knows it."""
    return x[..., 0] if units is None else x[..., 0] * units.x_scale[0] + units.x_mean[0]


def first_target(units: Units | None, y: Float[Tensor, "*batch outputs"]) -> Float[Tensor, "*batch"]:
    """The first target as a user knows it."""
    return y[..., 0] if units is None else y[..., 0] * units.y_scale[0] + units.y_mean[0]


def column_names(family: TaskFamily) -> Columns:
    """What the numbers of its tasks are called: by its own names, or x, y, and x1, x2 of several."""

    def named(letter: str, count: int) -> tuple[str, ...]:
        return (letter,) if count == 1 else tuple(f"{letter}{index + 1}" for index in range(count))

    return family.columns or Columns("task", named("x", family.num_inputs), named("y", family.num_outputs))


Function: TypeAlias = Callable[..., Tensor]
"""f(x, **parameters): x of shape (n, points, inputs) and each parameter (n, 1, 1), float64; y of shape (n, points,
outputs)."""

Drawing: TypeAlias = Callable[[Numbers], dict[str, Tensor]]
"""The parameters of functions by name, each of shape (n, 1, 1)."""


def varying(parameters: Mapping[str, Interval]) -> list[str]:
    """Those of the parameters that are not the same for all tasks: what an oracle can be told."""
    return [name for name, (low, high) in parameters.items() if low < high]


def function_family(
    function: Function,
    parameters: Mapping[str, Interval],
    config: FunctionTasksSection,
    *,
    num_inputs: int | None = None,
    num_outputs: int = 1,
    told: Sequence[str] | None = None,
    bounds: Callable[[int | None], Mapping[str, float]] = lambda _: {},
    moments: Moments | None = None,
) -> TaskFamily:
    """Make a family of tasks y = f(x; parameters) + noise.

    Args:
        function: f, written with operations of tensors.
        parameters: The interval in which each parameter of a task is uniform; in this order they are drawn.
        config: Where inputs come from, and what is done to samples.
        num_inputs: Coordinates of x; None for as many as the config's class says.
        num_outputs: Coordinates of y.
        told: Parameters that a model sees beside x if `config.oracle_inputs`; all that there are if None.
        bounds: As for `TaskFamily`.
        moments: What f is on average; it takes the place of `bounds`, which follow from it.
    """
    num_inputs = num_inputs or config.num_inputs

    def endless(numbers: Numbers) -> dict[str, Tensor]:
        return {
            name: numbers.between(interval, parameter_lane(index), 1).unsqueeze(-1)
            for index, (name, interval) in enumerate(parameters.items())
        }

    drawn = from_pool(endless, config.pool) if config.pool else endless
    shown = tuple(parameters if told is None else told) if config.oracle_inputs else ()

    def points(numbers: Numbers, lane: Lane, shots: int) -> Tensor:
        return numbers.between(config.x, lane, shots * num_inputs).reshape(numbers.num_tasks, shots, num_inputs)

    def inputs(values: dict[str, Tensor], x: Tensor) -> Tensor:
        """What a model sees of points on these functions."""
        count, shots = next(iter(values.values())).shape[0], x.shape[1]
        seen = [values[name].expand(count, shots, 1) for name in shown]
        return torch.cat([x.expand(count, shots, num_inputs), *seen], dim=-1).float()

    def value_at(x: Tensor, values: dict[str, Tensor]) -> Tensor:
        return function(x, **{name: values[name] for name in parameters})

    def samples(numbers: Numbers, values: dict[str, Tensor], x: Tensor, noise: Lane) -> Samples:
        y = value_at(x, values)
        if config.noise_std > 0:
            y = y + config.noise_std * numbers.normal(noise, x.shape[1] * num_outputs).reshape(y.shape)
        return Samples(inputs(values, x).contiguous(), y.float().contiguous())

    def draw(numbers: Numbers, request: Request) -> Task:
        values = drawn(numbers)
        if request.query_grid:
            query_x = _grid(config.x, request.query_shots, num_inputs).expand(numbers.num_tasks, -1, num_inputs)
        else:
            query_x = points(numbers, Lane.QUERY_X, request.query_shots)
        support_x = points(numbers, Lane.SUPPORT_X, request.support_shots)
        support = samples(numbers, values, support_x, Lane.SUPPORT_NOISE)
        support = _corrupted(support, numbers, config.corrupted_slots)
        if request.unlabelled_inputs:
            x = inputs(values, points(numbers, Lane.UNLABELLED_X, request.unlabelled_inputs))
            unknown = torch.full((*x.shape[:2], num_outputs), torch.nan)
            support = Samples(torch.cat([support.x, x], dim=1), torch.cat([support.y, unknown], dim=1))
        if request.numbered:
            support = _numbered(support, values[_NUMBER])
        return Task(support, samples(numbers, values, query_x, Lane.QUERY_NOISE))

    def curves(numbers: Numbers, count: int) -> Curves:
        values, x = drawn(numbers), _grid(config.x, count, 1)
        return Curves(x.flatten(), inputs(values, x), value_at(x, values))

    low, high = config.x
    if moments is not None:
        bounds = partial(known_losses, [Part(1.0, moments, num_inputs)], config.x, config.noise_std)
    return TaskFamily(
        num_inputs=num_inputs + len(shown),
        num_outputs=num_outputs,
        draw=draw,
        domain=f"[{low:g}, {high:g}]",
        curves=curves if num_inputs == 1 else None,
        bounds=bounds,
        moments=moments,
        num_told=len(shown),
        corrupted_slots=config.corrupted_slots,
        pool=config.pool,
    )


def _numbered(support: Samples, numbers: Tensor) -> Samples:
    """Say by a last sample which task of a pool each is: numbers of shape (n, 1, 1)."""
    x = torch.cat([support.x, torch.zeros_like(support.x[:, :1])], dim=1)
    return Samples(x, torch.cat([support.y, numbers.expand_as(support.y[:, :1]).float()], dim=1))


def from_pool(endless: Drawing, size: int) -> Drawing:
    """Let meta-training see the first tasks of its list alone, in a new order again and again; no other split."""
    keys = np.arange(size, dtype=np.uint64)
    # Whole rounds through the pool: many of a small one, since a round costs; one of a large one, which is kept until
    # the list has gone through it.
    span = size * -(-_PLACES_AT_A_TIME // size)

    @lru_cache(maxsize=max(1, _PLACES_KEPT // span))
    def at_places(seed: int, index: int) -> dict[str, Tensor]:
        tasks = visits(Numbers(seed, "meta-train", index * span, span), keys)
        pool = endless(Numbers(seed, "meta-train", 0, size)) | {_NUMBER: torch.arange(size).view(-1, 1, 1)}
        return {name: values[tasks] for name, values in pool.items()}

    def drawn(numbers: Numbers) -> dict[str, Tensor]:
        if numbers.split != "meta-train":
            return endless(numbers)
        first, last = numbers.first, numbers.first + numbers.span
        parts = [
            {name: values[max(0, first - index * span) : last - index * span] for name, values in part.items()}
            for index in range(first // span, -(-last // span))
            for part in [at_places(numbers.seed, index)]
        ]
        found = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return {name: torch.from_numpy(numbers.of_these(values.numpy())) for name, values in found.items()}

    return drawn


def _grid(interval: Interval, count: int, num_inputs: int) -> Float[Tensor, "1 points inputs"]:
    """Even points with both ends; of several inputs, the nodes of the smallest square grid that has so many."""
    if num_inputs == 1:
        return torch.linspace(*interval, count, dtype=torch.float64).view(1, -1, 1)
    side = grid_side(count, num_inputs)
    line = torch.linspace(*interval, side, dtype=torch.float64)
    return torch.cartesian_prod(*[line] * num_inputs)[:count].unsqueeze(0)


def _corrupted(support: Samples, numbers: Numbers, slots: int) -> Samples:
    """Replace the targets of the corrupted slots, as many of them as there are."""
    count, shots, outputs = support.y.shape
    slots = min(slots, shots)
    if slots == 0:
        return support
    targets = numbers.between(_CORRUPTED, Lane.CORRUPTED_Y, slots * outputs).reshape(count, slots, outputs).float()
    return Samples(support.x, torch.cat([targets, support.y[:, slots:]], dim=1))
