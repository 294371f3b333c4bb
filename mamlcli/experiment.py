"""An experiment: a config, and the values that its words stand for."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mamlcli.config.experiment import Config
from mamlcli.data import Data, read_data, share_data
from mamlcli.errors import UsageError
from mamlcli.methods.inner_loops import constant
from mamlcli.methods.meta_gradients import adapted
from mamlcli.methods.method import Bench, Method, make_bench
from mamlcli.models.model import Model
from mamlcli.postponed import postpone_compiler
from mamlcli.ranks import Ranks
from mamlcli.registry import build, recall
from mamlcli.tasks.family import Request, TaskFamily
from mamlcli.tasks.numbers import Split
from mamlcli.tasks.samples import Samples, Task, in_parts
from mamlcli.tasks.stream import TaskStream
from mamlcli.training import TrainState, init_state
from mamlcli.types import LossFn, Order, Params

PRE_ADAPT_NUMBERS = 2**24
"""How many activations a meta-batch has at a time as it is measured before adaptation; less than about 100 MiB."""


class Experiment(NamedTuple):
    """What a config describes; or several that are rows of one program, see `mamlcli.stacking`."""

    config: Config
    family: TaskFamily
    model: Model
    method: Method
    loss_fn: LossFn[Samples]
    """Maps (the parameters of a predictor, samples) to the loss that a run is measured by."""
    members: "tuple[Experiment, ...]" = ()
    """Where it is several, each of them; the config then has a seed for each row, and else is the first one's."""
    data: Data | None = None
    """What was read for its family, which others of this process may be built from while it is held here."""
    rows_before: int = 0
    """Rows of the same program that stand before its own, where others may compute those; see `mamlcli.stacking`."""

    def num_test_tasks(self, split: Split = "meta-test") -> int:
        """How many fixed tasks of a split are measured: as many as the config says, or all where there are fewer.

        Where seeds leave out different tasks, all are.
        """
        wanted, names = self.config.evaluation.tasks, self.family.names.get(split)
        if names is None:
            return wanted
        return min(wanted, len(names)) if self.family.view is None else len(names)

    def stream(self) -> TaskStream:
        """The meta-training tasks of all seeds."""
        config = self.config
        request = Request(
            config.tasks.support_shots,
            config.tasks.query_shots,
            unlabelled_inputs=self.method.unlabelled_inputs,
            numbered=self.method.numbered_tasks,
        )
        families = tuple(member.family for member in self.members for _ in member.config.seeds)
        return TaskStream(self.family, config.seeds, config.outer.meta_batch_size, request, families=families)

    def initial_params(self) -> list[Params]:
        """The initial meta-parameters of every seed."""
        if self.members:
            return [params for member in self.members for params in member.initial_params()]
        return [self.method.init(seed) for seed in self.config.seeds]

    @property
    def max_grad_norm(self) -> float | Float[Tensor, " rows"] | None:
        """The bound of the meta-gradient's norm: of all seeds, or of each row."""
        bounds = [member.config.outer.max_grad_norm for member in self.members for _ in member.config.seeds]
        if len(set(bounds)) <= 1:
            return self.config.outer.max_grad_norm
        return torch.tensor([math.inf if bound is None else bound for bound in bounds], dtype=torch.float64)

    def initial_state(self, device: torch.device) -> TrainState:
        """The state before the first meta-step."""
        outer = self.config.outer
        return init_state(self.initial_params(), optimizer=outer.optimizer, lr=outer.lr, device=device)

    def pre_adapt_loss(self, params: Params, tasks: Task) -> Float[Tensor, " seeds"]:
        """Mean query loss of each seed's meta-batch before adaptation; needs no graph."""
        inner, loss_fn = self.method.inner, self.loss_fn

        def of_task(params: Params, task: Task) -> Tensor:
            before = adapted(inner, params, task.support, inner_steps=0, gradient=constant)
            return loss_fn(next(iter(before.values())), task.query)

        over_seeds = torch.vmap(torch.vmap(of_task, in_dims=(None, 0)))
        size = max(1, PRE_ADAPT_NUMBERS // (len(tasks.query.x) * self.units_of_task()))
        with torch.no_grad():
            return torch.cat([over_seeds(params, part) for part in in_parts(tasks, size)], dim=1).mean(dim=1)

    def units_of_task(self) -> int:
        """Numbers that a task of one seed leaves on its way through the model before adaptation."""
        return self.model.num_units * (self.config.tasks.query_shots + self.method.unlabelled_inputs)


def make_experiment(config: Config, record: Mapping[str, Any] | None = None) -> Experiment:
    """Build what a config describes.

    Args:
        config: The experiment.
        record: What a checkpoint kept of the data that its tasks are made from: the family is made from that alone, and
            draws none. None reads the data.

    Raises:
        UsageError: If its parts do not fit together.
    """
    if record is not None:
        return _made(config, recall("tasks", config.tasks, record))
    return _read(config, read_data(config.tasks))


def make_shared_experiment(config: Config, ranks: Ranks, note: Callable[[str], object]) -> Experiment:
    """Build the same in all processes of a launcher at once: data are read, and held in memory, once on each machine.

    All processes, which are `connected`, call it with the same config where one would call `make_experiment`. An error
    in one of them ends the others too. What an experiment still holds, neither function reads again.

    Args:
        config: The experiment.
        ranks: The processes.
        note: Told where processes have to read for themselves.

    Raises:
        UsageError: As `make_experiment`.
    """
    return _read(config, share_data(config.tasks, ranks, note))


def _read(config: Config, data: Data | None) -> Experiment:
    return _made(config, build("tasks", config.tasks, *([] if data is None else [data.value])), data)


def _made(config: Config, family: TaskFamily, data: Data | None = None) -> Experiment:
    postpone_compiler()
    model: Model = build("model", config.model, family.num_inputs, family.num_outputs)
    bench: Bench = make_bench(family, model, config.tasks.support_shots)
    if misfit := _misfit(config, family):
        raise UsageError(misfit)
    method = build("algorithm", config.algorithm, bench)
    return Experiment(config, family, model, method, bench.loss_fn, data=data)


def _misfit(config: Config, family: TaskFamily) -> str | None:
    """Say what a finite world of tasks cannot be tested by, and the remedy; None if nothing."""
    largest, tested = family.largest_support, config.evaluation
    if largest is not None and max(tested.shots) > largest:
        return (
            f"evaluation.shots: {max(tested.shots)} support samples leave none to measure on in the shortest task, "
            f"which has {largest + 1}: set evaluation.shots: [{min(largest, config.tasks.support_shots)}]"
        )
    if tested.grid is not None and family.names:
        return (
            f"evaluation.grid: {tested.grid}: these tasks have samples of their own, and none on a grid: leave it out"
        )
    return None


def in_order(config: Config, order: Order) -> Config:
    """The same experiment with the meta-gradient of this order.

    Raises:
        UsageError: If its method has no order.
    """
    return config.model_copy(update={"algorithm": config.algorithm.in_order(order)})
