"""What processes do beside the first, which writes and measures: they hold the same state, and compute their share."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from mamlcli.compute.plan import Plan, make_plan, planned_update, threads_of
from mamlcli.compute.shared import stream_of_own
from mamlcli.config.experiment import Config
from mamlcli.devices import resolve_device
from mamlcli.errors import DivergedError
from mamlcli.experiment import Experiment, make_shared_experiment
from mamlcli.ranks import Ranks
from mamlcli.reporting import Silent
from mamlcli.stacking import stacked
from mamlcli.threads import Threads
from mamlcli.training import StackStep, TrainState, is_finite, stack_states, train_stack
from mamlcli.trainings.rhythm import Rhythm
from mamlcli.trainings.training import plan_without


def told_states(states: Sequence[TrainState], ranks: Ranks) -> None:
    """Give all processes the states that the first has; in the others they change in place."""
    said = ranks.told([_values(state) for state in states] if ranks.is_first else None)
    if not ranks.is_first:
        for state, values in zip(states, said, strict=True):
            _put(state, **values)


def _values(state: TrainState) -> dict[str, Any]:
    """What of a state changes along a training; what is known of the best is wanted by the first process alone."""
    held = state.optimizer.state_dict()["state"]
    names = ("flat", "alive", "updates", "step")
    return {name: getattr(state, name) for name in names} | {"held": held}


def _put(state: TrainState, *, held: Any, step: int, **rows: torch.Tensor) -> None:
    ours = state.optimizer.state_dict()["param_groups"]
    for name, values in rows.items():
        getattr(state, name).copy_(values)
    state.optimizer.load_state_dict({"state": held, "param_groups": ours})
    for group in state.optimizer.param_groups:
        group["lr"] = state.lr
    state.step = step


def accompany(ranks: Ranks, configs: Sequence[Config], rows_before: int = 0) -> None:
    """Train with the first process, which writes what comes of it.

    Args:
        ranks: The processes.
        configs: Of what is trained; several are rows of one program.
        rows_before: Those of the same program that others train; see `Experiment`.

    Raises:
        DivergedError: As the first process does.
        InterruptedRunError: The same.
    """
    parts = [make_shared_experiment(config, ranks, Silent().note) for config in configs]
    whole, device = stacked(parts)._replace(rows_before=rows_before), resolve_device(configs[0].device)
    plan = make_plan(whole, device, ranks.size)
    with threads_of(plan, whole, Silent().note) as threads:
        for _ in _steps(parts, whole, plan, device, ranks, threads):
            threads.look()


def _steps(
    parts: Sequence[Experiment],
    whole: Experiment,
    plan: Plan,
    device: torch.device,
    ranks: Ranks,
    threads: Threads,
) -> Iterator[StackStep]:
    states = [part.initial_state(device) for part in parts]
    state = states[0] if len(states) == 1 else stack_states(states)
    told_states(states, ranks)
    rhythms = [Rhythm(part.config, ranks.stop) for part in parts]
    first = rhythms[0]

    def failed(error: Exception) -> None:
        nonlocal plan
        plan = plan_without(error, plan, whole, Silent())

    def ended(_: int, error: DivergedError) -> None:
        if len(parts) == 1:
            raise error

    update = planned_update(whole, state, plan, device, failed, ranks=ranks, threads=threads)
    stream = stream_of_own(whole, plan.shard, ranks, compiled=plan.compiled)
    steps = train_stack(
        state,
        stream.blocks(state.step, first.config.outer.steps, device),
        update,
        lambda *_: torch.zeros(len(state.flat)),  # the first process measures it
        [rhythm.rule() for rhythm in rhythms],
        is_logged=first.is_logged,
        is_seen=first.is_saved,
        clock=ranks.clock,
        ended=ended,
    )
    for step in steps:
        if first.is_saved(step.whole.step):
            # The first process, which saves, finds it out by itself.
            for part in states:
                part.alive.logical_and_(torch.tensor(is_finite(part)))
        if step.whole.step < first.config.outer.steps:
            ranks.stop.raise_if_asked(f"interrupted at step {step.whole.step}")
        yield step
