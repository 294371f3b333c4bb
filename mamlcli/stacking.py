"""Several experiments as one that computes them side by side: a row of parameters for each seed of each.

What may differ between the rows of a program is named here for the meta-update, by a method's `row_keys` for the
method, and by a family's for the tasks. All else is the same, or makes another program.
"""

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mamlcli.config.changes import flat
from mamlcli.config.experiment import Config
from mamlcli.experiment import Experiment
from mamlcli.methods.inner_loops import GIVEN
from mamlcli.methods.method import Log, MetaGradient, Method, Phase
from mamlcli.tasks.samples import Task
from mamlcli.types import Params

OUTER_KEYS = ("lr", "max_grad_norm", "schedule")
"""Those of the meta-update: each row is clipped, and optimised, by itself."""


def row_keys(config: Config) -> frozenset[str]:
    """The keys, by their dotted names, that may differ between rows of a program.

    >>> sorted(row_keys(Config(name="demo")))[:3]
    ['algorithm.inner_lr', 'algorithm.inner_lr_init', 'outer.lr']
    """
    return frozenset(
        [
            *(f"outer.{key}" for key in OUTER_KEYS),
            *(f"algorithm.{key}" for key in config.algorithm.row_keys),
            *(f"tasks.{key}" for key in config.tasks.row_keys),
        ]
    )


def program_of(config: Config) -> tuple[tuple[str, str], ...]:
    """What two experiments have in common that are rows of one program: all keys but those that may differ."""
    free = row_keys(config) | {"name"}
    return tuple((key, repr(value)) for key, value in flat(config.model_dump()).items() if key not in free)


def in_a_stack(members: Sequence[Experiment]) -> list[Experiment]:
    """Experiments of one program, each of which knows its place: computed alone, it has the bits that it has in it."""
    before = itertools.accumulate((len(member.config.seeds) for member in members), initial=0)
    return [member._replace(rows_before=rows) for member, rows in zip(members, before, strict=False)]


def stacked(members: Sequence[Experiment]) -> Experiment:
    """Put experiments of one program together: a row for each seed, one member's after the other's.

    Args:
        members: At least one; `program_of` their configs agrees.
    """
    if len(members) == 1:
        return members[0]
    first = members[0]
    seeds = tuple(seed for member in members for seed in member.config.seeds)
    config = first.config.model_copy(update={"seeds": seeds})
    return first._replace(config=config, method=_with_given(first.method, _given(members)), members=tuple(members))


def _given(members: Sequence[Experiment]) -> Params:
    """What each row is given in place of a number of the first member's config, `given.<key>` of shape (rows,)."""
    found: Params = {}
    for key in members[0].config.algorithm.row_keys:
        values = [getattr(member.config.algorithm, key) for member in members for _ in member.config.seeds]
        if len(set(values)) > 1 and all(isinstance(value, int | float) for value in values):
            found[GIVEN + key] = torch.tensor(values, dtype=torch.float64)
    return found


def _with_given(method: Method, given: Params) -> Method:
    """The method with what rows are given; it learns nothing of that."""
    if not given:
        return method
    descent, rates = method.descent, given.get(f"{GIVEN}inner_lr")
    if descent is not None and rates is not None:
        descent = descent._replace(inner_lr=rates)
    phases = tuple(phase._replace(meta_gradient=_phase_given(phase, given)) for phase in method.phases)
    return method._replace(meta_gradient=_given_to(method.meta_gradient, given), phases=phases, descent=descent)


def _phase_given(phase: Phase, given: Params) -> Callable[[Tensor], MetaGradient]:
    return lambda made: _given_to(phase.meta_gradient(made), given)


def _given_to(meta_gradient: MetaGradient, given: Params) -> MetaGradient:
    def gradient(params: Params, tasks: Task) -> tuple[Params, Log]:
        like: Tensor = next(iter(params.values()))
        grads, log = meta_gradient(params | {name: value.to(like) for name, value in given.items()}, tasks)
        return {name: grads[name] for name in params}, log

    return gradient
