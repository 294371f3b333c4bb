"""From a config's plain values to functions and tensors: the only place where both are known."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Literal, Protocol, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from mamlcli.algorithms import MetaGradient
from mamlcli.algorithms.chain import Model, chain_meta_gradient, chain_params, student_loss
from mamlcli.algorithms.joint import joint_gradient
from mamlcli.algorithms.learned_rates import adapt_with_learned_rates, init_rates, learned_rates_meta_gradient
from mamlcli.algorithms.maml import adapt, meta_gradient
from mamlcli.compute.engine import Decision, compile_graph, decide_compile, in_chunks, resolve_chunk, resolve_threads
from mamlcli.compute.fused.update import make_fused_update
from mamlcli.compute.low_rank import low_rank_meta_gradient
from mamlcli.config.experiment import AlgorithmConfig, Config, ModelConfig, TasksConfig, fused_obstacles
from mamlcli.errors import DeviceError, Remedy
from mamlcli.models.layers import ACTIVATIONS, forward, init_params, squared_error
from mamlcli.tasks import Samples, SinusoidFamily, Task, TaskStream
from mamlcli.training import TrainState, Update, init_state, make_update
from mamlcli.types import AdaptStep, LossFn, Order, Params

InnerUpdate: TypeAlias = Literal["dense", "low_rank", "fused"]

# Teacher and student of a seed are drawn from generators of their own. A CPU generator of torch reads the low 32 bits
# of its seed alone.
_STUDENT_SEEDS = 0x5EED_C41D
# From this width on, a matrix for each task no longer fits the caches.
_WIDE = 128
# The graph compiled in 6 to 12 s on two cores for one inner step and 33 s for ten, which are unrolled; a meta-step of
# one inner step gained 2.5 ms by it, one of ten 19 ms. The fused update compiles in 3 s, and gains as much.
_GRAPH_EARNED_AFTER = 5_000
_FUSED_EARNED_AFTER = 1_000


class Reporter(Protocol):
    """Who wants to hear how an experiment goes; the command line prints it, a program may not care."""

    def note(self, message: str) -> None:
        """Hear something that a person should know."""

    def step(self, step: int, num_steps: int, pre_adapt_loss: float | None, post_adapt_loss: float | None) -> None:
        """Hear that a logged step is done.

        Losses are means over the seeds that have not diverged; None where one of theirs is not finite.
        """


class Silent:
    """A reporter that says nothing."""

    def note(self, message: str) -> None:
        """Ignore it."""

    def step(self, step: int, num_steps: int, pre_adapt_loss: float | None, post_adapt_loss: float | None) -> None:
        """Ignore it."""


def make_loss_fn(model: ModelConfig) -> LossFn[Samples]:
    """Build the loss of one task: the mean squared error of the MLP on samples."""
    activation = ACTIVATIONS[model.activation]

    def loss_fn(params: Params, samples: Samples) -> Tensor:
        return squared_error(forward(params, samples.x, activation=activation), samples.y)

    return loss_fn


def make_query_loss(config: Config) -> LossFn[Samples]:
    """Build the loss of what a run is measured by: of a chain, its student's."""
    loss_fn = make_loss_fn(config.model)
    return student_loss(loss_fn) if config.algorithm.name == "chain" else loss_fn


def make_chain_model(model: ModelConfig) -> Model:
    """Build what teacher and student of a chain have in common."""
    predict = partial(forward, activation=ACTIVATIONS[model.activation])
    return Model(predict, lambda params, samples: (predict(params, samples.x) - samples.y).square().mean(dim=-1))


def make_plain_gradient(config: Config) -> MetaGradient:
    """Build the meta-gradient of a config without acceleration."""
    algorithm = config.algorithm
    if algorithm.name != "chain":
        return make_meta_gradient(make_loss_fn(config.model), algorithm)
    return partial(
        chain_meta_gradient,
        make_chain_model(config.model),
        shots=config.tasks.support_shots,
        inner_lr=algorithm.inner_lr,
        inner_steps=algorithm.inner_steps,
        order=algorithm.order,
    )


def make_meta_gradient(loss_fn: LossFn[Samples], algorithm: AlgorithmConfig) -> MetaGradient:
    """Build the plain meta-gradient of S seeds with one model, for any loss."""
    if algorithm.name == "joint":
        return partial(joint_gradient, loss_fn)
    steps, order, kind = algorithm.inner_steps, algorithm.order, algorithm.learned_inner_lr
    if kind:
        return partial(learned_rates_meta_gradient, loss_fn, kind=kind, inner_steps=steps, order=order)
    return partial(meta_gradient, loss_fn, inner_lr=algorithm.inner_lr, inner_steps=steps, order=order)


def make_adapt_step(loss_fn: LossFn[Samples], algorithm: AlgorithmConfig) -> AdaptStep[Samples]:
    """Build one inner step of the meta-test, where nothing is differentiated."""

    def adapt_step(params: Params, support: Samples, step: int) -> Params:
        if kind := algorithm.learned_inner_lr:
            steps = range(step, step + 1)
            return adapt_with_learned_rates(loss_fn, params, support, kind=kind, steps=steps, order="first")
        return adapt(loss_fn, params, support, inner_lr=algorithm.inner_lr, inner_steps=1, order="first")

    return adapt_step


def make_task_gradient(config: Config) -> MetaGradient:
    """Build the meta-gradient of tasks that are differentiated at once: dense or low-rank."""
    algorithm, model = config.algorithm, config.model
    if not uses_low_rank(config):
        return make_plain_gradient(config)
    return partial(
        low_rank_meta_gradient,
        ACTIVATIONS[model.activation],
        inner_lr=algorithm.inner_lr,
        inner_steps=algorithm.inner_steps,
        order=algorithm.order,
    )


def make_engine_gradient(config: Config) -> MetaGradient:
    """Build the meta-gradient that training uses, before it is compiled."""
    return in_chunks(make_task_gradient(config), task_chunk(config))


def make_engine_update(
    config: Config,
    state: TrainState,
    compile_on: torch.device | None = None,
    on_failure: Callable[[Exception], None] | None = None,
) -> Update:
    """Build the meta-update that training uses, compiled for a device if one is given.

    One graph holds the whole update where the meta-batch is not cut, and the gradient of a chunk where it is:
    a loop over chunks would be unrolled.

    Args:
        config: The experiment.
        state: What is updated.
        compile_on: None does not compile.
        on_failure: As for `compile_graph`.
    """
    gradient, size, max_norm = make_task_gradient(config), task_chunk(config), config.outer.max_grad_norm
    eager = make_update(state, in_chunks(gradient, size), max_norm)
    if compile_on is None:
        return eager
    if uses_fused(config, compile_on):
        try:
            return make_fused_update(
                state,
                layer_sizes(config),
                inner_lr=config.algorithm.inner_lr,
                inner_steps=config.algorithm.inner_steps,
                order=config.algorithm.order,
                max_grad_norm=max_norm,
            )
        except (RuntimeError, OSError) as error:
            if on_failure is None:
                raise
            on_failure(error)
            return eager
    if size >= config.outer.meta_batch_size:
        return compile_graph(make_update(state, gradient, max_norm), compile_on, on_failure)
    return make_update(state, in_chunks(compile_graph(gradient, compile_on, on_failure), size), max_norm)


def with_order(config: Config, order: Order) -> Config:
    """Return the same experiment with the meta-gradient of this order."""
    return config.model_copy(update={"algorithm": config.algorithm.model_copy(update={"order": order})})


def compile_decision(config: Config, device: torch.device) -> Decision:
    """Whether training compiles; it depends on the config alone, so that a resumed run computes as its first part.

    Raises:
        DeviceError: If what the config asks for cannot be had on the device.
    """
    if config.engine.inner_update == "fused" and device.type != "cpu":
        refusal = f"engine.inner_update: fused is made for the CPU, not for {device.type}"
        raise DeviceError(refusal, Remedy("set device: cpu", "use --device cpu"))
    graph, fused = _GRAPH_EARNED_AFTER * (1 + num_unrolled(config)), _FUSED_EARNED_AFTER
    return decide_compile(
        config.engine.compile,
        num_steps=config.outer.steps,
        earned_after=fused if uses_fused(config, device) else graph,
        device=device,
    )


def uses_fused(config: Config, device: torch.device) -> bool:
    """Whether what training compiles is the fused update, and not a graph."""
    setting = config.engine.inner_update
    return setting == "fused" or (
        setting == "auto" and not is_wide(config.model) and device.type == "cpu" and not fused_obstacles(config)
    )


def inner_update(config: Config, device: torch.device, *, compiled: bool) -> InnerUpdate:
    """How adapted weights are held in the end."""
    if compiled and uses_fused(config, device):
        return "fused"
    return "low_rank" if uses_low_rank(config) else "dense"


def is_wide(model: ModelConfig) -> bool:
    """Whether a weight matrix of each task is better not formed."""
    return max(model.hidden_sizes, default=0) >= _WIDE


def uses_low_rank(config: Config) -> bool:
    """Whether adapted weights are held as the factors of their change."""
    if config.algorithm.name != "maml" or config.algorithm.learned_inner_lr:
        return False  # there are no adapted weights, or each parameter has a rate of its own
    setting = config.engine.inner_update
    return setting == "low_rank" or (setting == "auto" and is_wide(config.model))


def shares_weights(config: Config) -> bool:
    """Whether a task holds activations only, and no weights of its own."""
    return uses_low_rank(config) or config.algorithm.name == "joint"


def num_unrolled(config: Config) -> int:
    """Inner steps of one task, one after the other: those of a chain's teacher come before its student's."""
    return config.algorithm.inner_steps * (2 if config.algorithm.name == "chain" else 1)


def unlabelled_inputs(config: Config) -> int:
    """Inputs without a target that a task has after its support samples."""
    return config.algorithm.unlabelled_inputs if config.algorithm.name == "chain" else 0


def task_chunk(config: Config) -> int:
    """How many tasks are differentiated at a time."""
    samples = config.tasks.support_shots + config.tasks.query_shots
    return resolve_chunk(
        config.engine.task_chunk,
        floats_per_task=samples * sum(layer_sizes(config)) if shares_weights(config) else num_params(config),
        seeds=len(config.seeds),
        tasks=config.outer.meta_batch_size,
        inner_steps=config.algorithm.inner_steps,
    )


def num_threads(config: Config) -> int:
    """How many CPU threads training uses where all cores are idle."""
    samples = config.outer.meta_batch_size * (config.tasks.support_shots + config.tasks.query_shots)
    work = num_params(config) * samples * len(config.seeds)
    return resolve_threads(config.engine.threads, multiply_adds=work)


def num_params(config: Config) -> int:
    """Parameters of the model of one seed; of a chain, of both."""
    one = sum((inputs + 1) * outputs for inputs, outputs in pairwise(layer_sizes(config)))
    return one * (2 if config.algorithm.name == "chain" else 1)


def layer_sizes(config: Config) -> tuple[int, ...]:
    """Units of every layer, input and output included."""
    return (make_family(config.tasks).num_inputs, *config.model.hidden_sizes, 1)


def make_family(tasks: TasksConfig) -> SinusoidFamily:
    """Build the distribution of tasks."""
    return SinusoidFamily(
        tasks.amplitude,
        tasks.phase,
        tasks.frequency,
        tasks.x,
        tasks.noise_std,
        tasks.oracle_inputs,
        tasks.corrupted_slots,
    )


def make_stream(config: Config) -> TaskStream:
    """Build the meta-training tasks of all seeds."""
    return TaskStream(
        make_family(config.tasks),
        config.seeds,
        meta_batch_size=config.outer.meta_batch_size,
        support_shots=config.tasks.support_shots,
        query_shots=config.tasks.query_shots,
        unlabelled_inputs=unlabelled_inputs(config),
    )


def make_params(config: Config) -> list[Params]:
    """Draw the initial meta-parameters of every seed."""
    algorithm = config.algorithm
    all_seeds = []
    for seed in config.seeds:
        params = init_params(layer_sizes(config), init=config.model.init, seed=seed)
        if algorithm.name == "chain":
            student = init_params(layer_sizes(config), init=config.model.init, seed=_STUDENT_SEEDS ^ seed)
            learned = config.tasks.support_shots if algorithm.learn_slot_weights else 0
            params = chain_params(params, student, learned_slots=learned)
        if kind := algorithm.learned_inner_lr:
            interval = algorithm.inner_lr_init or (algorithm.inner_lr, algorithm.inner_lr)
            params |= init_rates(params, kind, interval=interval, inner_steps=algorithm.inner_steps, seed=seed)
        all_seeds.append(params)
    return all_seeds


def make_state(config: Config, device: torch.device) -> TrainState:
    """Build the state before the first meta-step."""
    outer = config.outer
    return init_state(make_params(config), optimizer=outer.optimizer, lr=outer.lr, device=device)


def pre_adapt_loss(loss_fn: LossFn[Samples], params: Params, tasks: Task) -> Float[Tensor, " seeds"]:
    """Mean query loss of each seed's meta-batch before adaptation; needs no graph."""
    over_tasks = torch.vmap(loss_fn, in_dims=(None, 0))
    with torch.no_grad():
        return torch.vmap(over_tasks)(params, tasks.query).mean(dim=1)
