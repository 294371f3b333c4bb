"""Meta-training: the state, one meta-update, and the loop as a generator."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mamlcli.best import Best
from mamlcli.errors import DivergedError
from mamlcli.methods.method import Log, MetaGradient
from mamlcli.optimizers import bare_step, make_optimizer
from mamlcli.tasks.samples import Task
from mamlcli.types import Params

Schedule: TypeAlias = Literal["constant", "linear", "cosine"]
OnDivergence: TypeAlias = Literal["stop", "freeze"]
Update: TypeAlias = Callable[[Task], tuple[Log, Tensor]]
"""Makes one meta-update on a meta-batch; returns the log of its meta-gradient, and the gradient's norm of each seed."""

# An update of many steps is asked for no more than it makes in so long: in between, signals are answered.
_BLOCK_S = 0.2


@runtime_checkable
class InBlocks(Protocol):
    """An update that makes several steps at once, without anybody else between two of them."""

    def block(self, tasks: Task, lrs: Sequence[Sequence[float]]) -> tuple[Log, Tensor]:
        """Make meta-updates until all are made, or some seed does not survive one.

        Args:
            tasks: Meta-batches with a leading axis of steps.
            lrs: Of each step, the learning rate of every part.

        Returns:
            What `Update` returns, of each step that was made: with a leading axis of steps, (steps, S). The last is the
            first, if any, in which the loss, gradient or parameters of a seed were not finite that was alive before.
        """


@dataclass
class TrainState:
    """What a run is at a step, and all that a checkpoint holds.

    The optimiser sees one matrix with a row for each seed: one kernel for all parameters, and since it works
    elementwise, each seed is optimised as if alone.
    """

    flat: Float[Tensor, "seeds params"]
    params: Params
    """Views into `flat`, name -> (S, ...)."""
    optimizer: torch.optim.Optimizer
    lr: Float[Tensor, ""]
    """The optimiser's learning rate; a tensor, since a number would become part of a compiled graph."""
    alive: Bool[Tensor, " seeds"]
    """Whether all losses and gradients of a seed were finite so far; one that is not is frozen."""
    updates: Int[Tensor, " seeds"]
    """Updates made of each seed: `step`, or for a frozen one the last step before it diverged."""
    step: int = 0
    best: Best | None = None
    """What the meta-validation losses so far say; None before the first."""

    @property
    def parts(self) -> "tuple[TrainState, ...]":
        """Itself: a state is a stack of one."""
        return (self,)


class Stack(NamedTuple):
    """States of one program that are updated at once: their rows lie one after the other in the same memory."""

    flat: Float[Tensor, "rows params"]
    params: Params
    """Views into `flat`, name -> (rows, ...)."""
    alive: Bool[Tensor, " rows"]
    updates: Int[Tensor, " rows"]
    parts: tuple[TrainState, ...]
    """The states; what each of them holds is a view. Each has an optimiser and a learning rate of its own."""

    @property
    def step(self) -> int:
        """Updates made of the parts that go on."""
        return max(part.step for part in self.parts)


def stack_states(states: Sequence[TrainState]) -> Stack:
    """Put new states into one memory; they are changed in place, and stay whole.

    Args:
        states: Of the same parameters; no update was made of them yet.
    """
    flat = torch.cat([state.flat for state in states])
    flat.grad = torch.zeros_like(flat)
    alive, updates = (torch.cat([getattr(state, name) for state in states]) for name in ("alive", "updates"))
    shapes = {name: theta.shape[1:] for name, theta in states[0].params.items()}
    first = 0
    for state in states:
        rows = slice(first, first + len(state.flat))
        state.flat, state.alive, state.updates = flat[rows], alive[rows], updates[rows]
        state.flat.grad, state.params = flat.grad[rows], unflatten(state.flat, shapes)
        state.optimizer.param_groups[0]["params"] = [state.flat]
        first = rows.stop
    return Stack(flat, unflatten(flat, shapes), alive, updates, tuple(states))


def block_of_one(update: InBlocks, state: TrainState | Stack, tasks: Task) -> tuple[Log, Tensor]:
    """Make one meta-update of a state on a meta-batch, with the learning rates that its parts have."""
    lrs = [[part.lr.item() for part in state.parts]]
    log, norms = update.block(tasks.map(lambda part: part.unsqueeze(0)), lrs)
    return {name: values[0] for name, values in log.items()}, norms[0]


class Rule(NamedTuple):
    """How one state of a stack goes on."""

    seeds: Sequence[int]
    """The seeds behind its leading axis, for messages."""
    learning_rate: Callable[[int], float]
    """Maps the number of updates made to the learning rate of the next."""
    on_divergence: OnDivergence
    """`stop` ends it if any seed diverges; `freeze` goes on as long as one has not."""


class MetaStep(NamedTuple):
    """What one meta-step saw; losses are on its meta-batch, before its update.

    `pre_adapt_loss` is measured at logged steps only.
    """

    step: int
    lr: float
    pre_adapt_loss: Float[Tensor, " seeds"] | None
    log: Log
    """Of the meta-gradient: `post_adapt_loss`, and what else the method says."""
    grad_norm: Float[Tensor, " seeds"]


def init_state(seeds: Sequence[Params], *, optimizer: str, lr: float, device: torch.device) -> TrainState:
    """Stack the initial parameters of every seed and give them an optimiser.

    Args:
        seeds: Initial parameters of each seed; names and shapes agree.
        optimizer: A key of the optimisers, like "adam".
        lr: Learning rate, > 0.
        device: Where to train.
    """
    flat = torch.stack([torch.cat([theta.flatten() for theta in seed.values()]) for seed in seeds]).to(device)
    flat.grad = torch.zeros_like(flat)
    params = unflatten(flat, {name: theta.shape for name, theta in seeds[0].items()})
    rate = torch.tensor(lr, dtype=flat.dtype, device=device)
    return TrainState(
        flat,
        params,
        make_optimizer(optimizer, flat, rate),
        rate,
        alive=torch.ones(len(seeds), dtype=torch.bool, device=device),
        updates=torch.zeros(len(seeds), dtype=torch.int64, device=device),
    )


def frozen_seeds(state: TrainState, seeds: Sequence[int]) -> dict[int, int]:
    """Which seeds have diverged, and at which step each."""
    at_step = (state.updates + 1).tolist()
    return {seeds[index]: at_step[index] for index in (~state.alive).nonzero().flatten().tolist()}


def scheduled_lr(lr: float, schedule: Schedule, step: int, num_steps: int) -> float:
    """Learning rate of the update that follows `step` updates, of `num_steps` in all.

    >>> [scheduled_lr(1.0, "linear", step, 4) for step in range(4)]
    [1.0, 0.75, 0.5, 0.25]
    """
    if schedule == "linear":
        return lr * (1 - step / num_steps)
    if schedule == "cosine":
        return lr * (1 + math.cos(math.pi * step / num_steps)) / 2
    return lr


def flat_per_seed(values: Params) -> Float[Tensor, "seeds params"]:
    """Lay the tensors of each seed, name -> (S, ...), out in a row."""
    return torch.cat([value.flatten(1) for value in values.values()], dim=1)


def unflatten(flat: Float[Tensor, "seeds params"], shapes: Mapping[str, torch.Size]) -> Params:
    """The other way: views of the rows, name -> (S, ...), for the shapes of one seed's tensors."""
    columns = torch.split(flat, [shape.numel() for shape in shapes.values()], dim=1)
    return {name: column.view(-1, *shape) for (name, shape), column in zip(shapes.items(), columns, strict=True)}


def clip_per_seed(
    grads: Float[Tensor, "seeds params"], max_norm: float | Float[Tensor, " seeds"] | None
) -> tuple[Float[Tensor, "seeds params"], Float[Tensor, " seeds"]]:
    """Scale each seed's gradient to a 2-norm of at most `max_norm`.

    Args:
        grads: A row for each seed.
        max_norm: The bound, > 0, of all or of each; None leaves the gradients as they are, as infinity does.

    Returns:
        The gradients, and the norm of each seed before clipping.
    """
    norms = torch.linalg.vector_norm(grads, dim=1)
    if max_norm is None:
        return grads, norms
    if isinstance(max_norm, Tensor):
        max_norm = max_norm.to(norms)
    # The factor of torch.nn.utils.clip_grad_norm_, which clips all seeds as one.
    return grads * (max_norm / (norms + 1e-6)).clamp(max=1.0).unsqueeze(1), norms


def make_update(state: TrainState | Stack, meta_gradient: MetaGradient, max_grad_norm: float | Tensor | None) -> Update:
    """Build the meta-update of a state as a function of the meta-batch alone, so that it can be one graph.

    It changes the state in place, all but `step`. A seed whose loss, gradient or updated parameters are not finite
    keeps its parameters, then and later.

    Args:
        state: Its `lr` is read at each call; of a stack that of each part.
        meta_gradient: Its log's `post_adapt_loss` must be finite for an update.
        max_grad_norm: See `clip_per_seed`.
    """
    optimizer_steps = [(bare_step(part.optimizer), part.optimizer) for part in state.parts]
    shapes = {name: theta.shape[1:] for name, theta in state.params.items()}

    def update(tasks: Task) -> tuple[Log, Tensor]:
        grads, log = meta_gradient(unflatten(state.flat, shapes), tasks)
        flat, norms = clip_per_seed(flat_per_seed(grads), max_grad_norm)
        state.alive.logical_and_(log["post_adapt_loss"].isfinite() & norms.isfinite())
        before = state.flat.clone()
        assert state.flat.grad is not None
        state.flat.grad.copy_(flat.where(state.alive.unsqueeze(1), 0))
        for optimizer_step, optimizer in optimizer_steps:
            optimizer_step(optimizer)
        state.alive.logical_and_(state.flat.isfinite().all(dim=1))  # a finite step can lead out of the numbers
        state.updates.add_(state.alive)
        state.flat.copy_(state.flat.where(state.alive.unsqueeze(1), before))
        return log, norms

    return update


def train_steps(
    state: TrainState,
    blocks: Iterable[Task],
    update: Update,
    pre_adapt_loss: Callable[[Params, Task], Tensor],
    *,
    seeds: Sequence[int],
    learning_rate: Callable[[int], float],
    on_divergence: OnDivergence,
    is_logged: Callable[[int], bool],
    is_seen: Callable[[int], bool] = lambda _: False,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[MetaStep]:
    """Train, one meta-step for each meta-batch; the state is advanced in place between yields.

    It yields after every step that is logged or to be seen, and after others; after how many depends on the update.

    Args:
        state: Where to start from.
        blocks: The meta-batches, from that of step `state.step` on, with a leading axis of steps.
        update: Of `make_update`, for this state; one that is `InBlocks` makes several steps between two yields.
        pre_adapt_loss: (params, tasks) to the query loss of each seed before adaptation.
        seeds: See `Rule`.
        learning_rate: The same.
        on_divergence: The same.
        is_logged: Whether the step of this number (from 1) is logged; an accelerator is only waited for at
            such steps.
        is_seen: Whether it is yielded for another reason.
        clock: Seconds, by which it is found how many steps are made at a time. Where several processes train, all
            must read the same.

    Raises:
        DivergedError: If a loss or gradient is not finite. No update was made with it; on an accelerator other
            seeds may have gone on until the next logged step.
    """

    def ended(_: int, error: DivergedError) -> None:
        raise error

    rule = Rule(seeds, learning_rate, on_divergence)
    steps = train_stack(
        state,
        blocks,
        update,
        pre_adapt_loss,
        [rule],
        is_logged=is_logged,
        is_seen=is_seen,
        clock=clock,
        ended=ended,
    )
    for step in steps:
        yield step.of(0)


class StackStep(NamedTuple):
    """What one meta-step of a stack saw, of all its rows."""

    running: tuple[int, ...]
    """The numbers of the parts that go on."""
    lrs: Sequence[float]
    """Of each part."""
    whole: MetaStep
    """Its `lr` is the first part's."""
    sizes: Sequence[int]
    """Rows of each part."""

    def of(self, index: int) -> MetaStep:
        """What it was for one part."""
        if len(self.sizes) == 1:
            return self.whole
        first = sum(self.sizes[:index])
        rows, whole = slice(first, first + self.sizes[index]), self.whole
        before = None if whole.pre_adapt_loss is None else whole.pre_adapt_loss[rows]
        log = {name: value[rows] for name, value in whole.log.items()}
        return MetaStep(whole.step, self.lrs[index], before, log, whole.grad_norm[rows])


def train_stack(
    state: TrainState | Stack,
    blocks: Iterable[Task],
    update: Update,
    pre_adapt_loss: Callable[[Params, Task], Tensor],
    rules: Sequence[Rule],
    *,
    is_logged: Callable[[int], bool],
    is_seen: Callable[[int], bool] = lambda _: False,
    clock: Callable[[], float] = time.perf_counter,
    ended: Callable[[int, DivergedError], None],
) -> Iterator[StackStep]:
    """Train states side by side; see `train_steps`.

    A state that diverges, as its rule says it, makes no more updates. The others go on; that none is left ends it.

    Args:
        state: Where to start from. A part without a seed that is alive has ended before.
        blocks: As for `train_steps`.
        update: The same.
        pre_adapt_loss: The same, of all rows.
        rules: Of each part.
        is_logged: As for `train_steps`.
        is_seen: The same.
        clock: The same.
        ended: Hears which part has diverged, before its step is counted; what it raises ends all.
    """
    sizes = [len(part.flat) for part in state.parts]
    running = tuple(index for index, part in enumerate(state.parts) if bool(part.alive.any()))
    advance, pace = _advancing(state, update), _Pace(in_blocks=isinstance(update, InBlocks))
    for block in blocks:
        first, end = 0, len(block.query.x)
        while first < end:
            number = state.step + 1
            logged = is_logged(number)
            before = pre_adapt_loss(state.params, block.map(itemgetter(first))) if logged else None
            count = 1 if logged else _until_seen(number, min(pace.steps, end - first), is_logged, is_seen)
            lrs = [[rule.learning_rate(number - 1 + further) for rule in rules] for further in range(count)]
            start = clock()
            log, norms = advance(block.map(itemgetter(slice(first, first + count))), lrs)
            pace.took(len(norms), clock() - start)
            first, number = first + len(norms), number + len(norms) - 1
            of_last = {name: values[-1] for name, values in log.items()}
            lrs = lrs[: len(norms)]
            step = StackStep(running, lrs[-1], MetaStep(number, lrs[-1][0], before, of_last, norms[-1]), sizes)
            if (logged or norms.device.type == "cpu") and not bool(state.alive.all()):
                for index in running:
                    state.parts[index].step = number - 1
                running = _going_on(state, step, rules, ended)
                if not running:
                    return
                step = step._replace(running=running)
            for index in running:
                state.parts[index].step = number
            yield step


def _advancing(
    state: TrainState | Stack, update: Update
) -> Callable[[Task, Sequence[Sequence[float]]], tuple[Log, Tensor]]:
    """Any update as one of blocks; one that makes a step at a time is given blocks of one."""
    set_to: list[Sequence[float]] = []

    def set_lrs(lrs: Sequence[float]) -> None:
        if set_to != [lrs]:
            set_to[:] = [lrs]
            for part, lr in zip(state.parts, lrs, strict=True):
                part.lr.fill_(lr)

    def one(tasks: Task, lrs: Sequence[Sequence[float]]) -> tuple[Log, Tensor]:
        set_lrs(lrs[0])
        log, norms = update(tasks.map(itemgetter(0)))
        return {name: values.unsqueeze(0) for name, values in log.items()}, norms.unsqueeze(0)

    if not isinstance(update, InBlocks):
        return one
    block = update.block

    def several(tasks: Task, lrs: Sequence[Sequence[float]]) -> tuple[Log, Tensor]:
        log, norms = block(tasks, lrs)
        set_lrs(lrs[len(norms) - 1])
        return log, norms

    return several


class _Pace:
    """How many steps are made at a time: as many as take about `_BLOCK_S`, found by growing from one."""

    def __init__(self, *, in_blocks: bool) -> None:
        self.steps, self.in_blocks = 1, in_blocks

    def took(self, steps: int, seconds: float) -> None:
        """Hear how long so many took."""
        if self.in_blocks:
            self.steps = max(1, min(4 * self.steps, int(_BLOCK_S * steps / max(seconds, 1e-9))))


def _until_seen(number: int, most: int, is_logged: Callable[[int], bool], is_seen: Callable[[int], bool]) -> int:
    """Steps from that of this number on, up to one that is seen, and without one that is logged."""
    stops = (steps for steps in range(1, most) if is_seen(number + steps - 1) or is_logged(number + steps))
    return next(stops, most)


def _going_on(
    state: TrainState | Stack,
    step: StackStep,
    rules: Sequence[Rule],
    ended: Callable[[int, DivergedError], None],
) -> tuple[int, ...]:
    """Which parts go on after a step that some seed has not survived, or an earlier one."""
    found = []
    for index in step.running:
        part, rule, seen = state.parts[index], rules[index], step.of(index)
        losses, norms = seen.log["post_adapt_loss"], seen.grad_norm
        try:
            check_alive(part, losses, norms, seeds=rule.seeds, on_divergence=rule.on_divergence)
            found.append(index)
        except DivergedError as error:
            ended(index, error)
            part.alive.fill_(False)
    return tuple(found)


def is_finite(state: TrainState) -> bool:
    """Whether there is nothing but numbers in its parameters, and in what its optimiser holds of them."""
    held = [value for values in state.optimizer.state.values() for value in values.values()]
    return all(bool(value.isfinite().all()) for value in [state.flat, *held] if isinstance(value, Tensor))


def check_alive(
    state: TrainState,
    losses: Float[Tensor, " seeds"],
    norms: Float[Tensor, " seeds"],
    *,
    seeds: Sequence[int],
    on_divergence: OnDivergence,
) -> None:
    """Raise DivergedError naming seeds and step if any (`stop`) or every (`freeze`) seed has diverged."""
    if bool(state.alive.all() if on_divergence == "stop" else state.alive.any()):
        return
    what = "meta-update" if norms[~state.alive].isfinite().all() else "meta-gradient"
    what = what if losses[~state.alive].isfinite().all() else "loss"
    named = ", ".join(f"{seed} at step {step}" for seed, step in frozen_seeds(state, seeds).items())
    raise DivergedError(
        f"the {what} is not finite for seed {named}; no update was made with it. "
        "Likely remedies: a smaller algorithm.inner_lr or outer.lr, outer.max_grad_norm: 10, or "
        "outer.on_divergence: freeze, which lets the other seeds go on"
    )
