"""What computes a meta-update is decided here, once, and in words.

Ways to compute it are asked in order, the fastest first; each says what keeps it from this experiment on this device.
The numbers are the same but for rounding. The plan depends on the config alone, so that a resumed run computes as its
first part did.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from mamlcli.compute.chunks import in_chunks, resolve_chunk
from mamlcli.compute.compiled import Decision, compile_graph, decide_compile
from mamlcli.compute.fused.library import building, load_library
from mamlcli.compute.fused.losses import fused_losses
from mamlcli.compute.fused.update import OPTIMIZERS, FusedUpdate
from mamlcli.compute.low_rank import low_rank_meta_gradient
from mamlcli.compute.per_task import clamped_per_task
from mamlcli.compute.shared import OwnState, SharedSeeds, over_tasks, with_neighbour
from mamlcli.config.experiment import Config
from mamlcli.cores import usable_cores
from mamlcli.errors import DeviceError, Remedy, UsageError
from mamlcli.experiment import Experiment
from mamlcli.measure import peak_memory_bytes
from mamlcli.methods.method import Log, MetaGradient, Method, gradient_at, phase_at, phases_of
from mamlcli.models.layers import ACTIVATIONS
from mamlcli.models.model import Layers
from mamlcli.ranks import Ranks
from mamlcli.tasks.family import Request
from mamlcli.tasks.samples import PRESENT_SQUARED_ERROR, SQUARED_ERROR, Task
from mamlcli.threads import Threads, resolve_threads
from mamlcli.training import Stack, TrainState, Update, make_update

Form: TypeAlias = Literal["dense", "low_rank", "fused"]
"""How adapted weights are held: a matrix per task; the factors of its change; a matrix per task, in the kernel."""
Shard: TypeAlias = Literal["tasks", "seeds"]
"""What each of several processes has a share of."""

# From this width on, a matrix for each task no longer fits the caches.
_WIDE = 128
# Tasks that share a vector of the kernel, at most: float32 of AVX-512.
_LANES = 16
# The graph compiled in 6 to 12 s on two cores for one inner step and 33 s for ten, which are unrolled; a meta-step of
# one inner step gained 2.5 ms by it, one of ten 19 ms, one of five of Adam 34 ms. The kernel compiles in 3 s, and gains
# as much.
_GRAPH_EARNED_AFTER = 5_000
_KERNEL_EARNED_AFTER = 1_000
# Query samples of a meta-test, of all K, seeds, tasks and steps, that gain as much time as compiling the kernel takes.
_TEST_EARNED_AFTER = 1_000_000
# Nobody waits for the graph of more steps than so many that are differentiated through, or of more that are not, which
# cost less: 32 of Adam compiled in 70 to 150 s and gained 40 ms a meta-step.
_MOST_STEPS_THROUGH, _MOST_STEPS_APART = 20, 100


class Plan(NamedTuple):
    """How an experiment is computed on a device."""

    form: Form
    compiled: bool
    chunk: int
    """Tasks differentiated at a time."""
    threads: int
    """How many compute where all cores are idle: of the kernel, or else of torch."""
    is_waiting: bool
    """Whether these wait for each other in a meta-step; not those of the kernel that take some of the seeds each."""
    reason: str
    """Why it is compiled or not."""
    passed_over: tuple[str, ...]
    """What keeps faster ways from it, each in words."""
    shard: Shard | None = None
    """What several processes share; None for a single one."""
    ranks: int = 1
    """How many there are."""

    @property
    def task_ranks(self) -> int:
        """Of how many shares a meta-gradient is the sum, which changes how it is rounded."""
        return self.ranks if self.shard == "tasks" else 1

    @property
    def torch_threads(self) -> int:
        """Of torch: beside threads of the kernel its own, which spin where they wait, would keep cores from them."""
        return 1 if self.form == "fused" else self.threads

    def words(self) -> str:
        """The plan in a line, like "fused, compiled: 60000 steps earn it back"."""
        shared = f"; {self.ranks} processes share {self.shard}" if self.shard else ""
        return f"{self.form}, {'compiled' if self.compiled else 'not compiled'}: {self.reason}{shared}"


def make_plan(experiment: Experiment, device: torch.device, ranks: int = 1) -> Plan:
    """Decide how an experiment is computed, by so many processes.

    Raises:
        DeviceError: If what the config asks for cannot be had on the device.
        UsageError: If it cannot be had with the rest of the config.
    """
    config = experiment.config
    kernel, low_rank = kernel_obstacles(experiment, device), low_rank_obstacles(experiment)
    if config.engine.inner_update == "fused":
        if device.type != "cpu":
            remedy = Remedy("set device: cpu", "use --device cpu")
            raise DeviceError(f"engine.inner_update: fused is made for the CPU, not for {device.type}", remedy)
        if kernel:
            raise UsageError(f"engine.inner_update: fused cannot be with {', '.join(kernel)}; use auto")
    seeds, tasks = len(config.seeds), config.outer.meta_batch_size
    samples = config.tasks.support_shots + config.tasks.query_shots
    eager_form: Form = "dense" if low_rank else "low_rank"
    compiled, reason = _decision(experiment, device, kernel=not kernel)
    form: Form = "fused" if compiled and not kernel else eager_form
    shard = _shard(experiment, form, ranks)
    own_seeds = -(-seeds // ranks) if shard == "seeds" else seeds
    own_tasks = -(-tasks // ranks) if shard == "tasks" else tasks
    return Plan(
        form=form,
        compiled=compiled,
        chunk=_chunk(experiment, eager_form),
        threads=_kernel_threads(config, own_seeds, own_tasks)
        if form == "fused"
        else idle_threads(experiment, tasks * samples),
        is_waiting=form != "fused" or own_seeds == 1,
        reason=reason,
        passed_over=(
            *([f"the kernel: {', '.join(kernel)}"] if kernel else []),
            *([f"low rank: {', '.join(low_rank)}"] if low_rank else []),
        ),
        shard=shard,
        ranks=ranks,
    )


def _shard(experiment: Experiment, form: Form, ranks: int) -> Shard | None:
    """Say what several processes share.

    Raises:
        UsageError: If they are to share the seeds of runs side by side that the kernel does not compute: those of one
            process can be of several runs, and torch updates a run's seeds at once.
    """
    if ranks == 1:
        return None
    wanted = experiment.config.parallel.shard
    if experiment.members and form != "fused":
        if wanted == "seeds":
            raise UsageError("parallel.shard: seeds needs the kernel where runs are trained side by side; use auto")
        return "tasks"
    if wanted == "auto":
        return "seeds" if len(experiment.config.seeds) >= ranks else "tasks"
    return wanted


def _decision(experiment: Experiment, device: torch.device, *, kernel: bool) -> Decision:
    """Say whether a training is compiled, by the kernel or as a graph."""
    config = experiment.config
    earned_after = _KERNEL_EARNED_AFTER if kernel else _graph_earned_after(experiment.method)
    return decide_compile(
        config.engine.compile, num_steps=config.outer.steps, earned_after=earned_after, device=device, kernel=kernel
    )


def _graph_earned_after(method: Method) -> int:
    """Meta-steps that gain as much time as compiling the graph takes, on the safe side."""
    most = _MOST_STEPS_THROUGH if method.holds_path else _MOST_STEPS_APART
    return _GRAPH_EARNED_AFTER * (1 if method.unrolled_steps <= most else 1 + method.unrolled_steps)


def idle_threads(experiment: Experiment, num_samples: int) -> int:
    """How many CPU threads are used where all cores are idle, for so many samples of a seed at once."""
    work = experiment.method.num_params * num_samples * len(experiment.config.seeds)
    return resolve_threads(experiment.config.engine.threads, multiply_adds=work)


def _kernel_threads(config: Config, seeds: int, tasks: int) -> int:
    """Threads of the kernel: one for each seed, or for each vector of a single seed's tasks, and as there are cores."""
    return min(_all_threads(config), seeds if seeds > 1 else -(-tasks // _LANES))


def _all_threads(config: Config) -> int:
    """One thread for each core, unless the config says how many."""
    return usable_cores() if config.engine.threads == "auto" else config.engine.threads


def without_compiling(plan: Plan, experiment: Experiment, reason: str) -> Plan:
    """The plan that is left where compiling has failed."""
    form: Form = "dense" if low_rank_obstacles(experiment) else "low_rank"
    shard = _shard(experiment, form, plan.ranks)
    return plan._replace(form=form, compiled=False, threads=1, reason=reason, shard=shard)


def threads_of(plan: Plan, experiment: Experiment, note: Callable[[str], None]) -> Threads:
    """The threads that compute what is planned.

    Args:
        plan: Of the experiment.
        experiment: What is trained.
        note: Hears when they give way to others.
    """
    setting = experiment.config.engine.threads if plan.is_waiting else plan.threads
    return Threads(setting, plan.threads, note, are_torchs=plan.form != "fused")


def kernel_obstacles(experiment: Experiment, device: torch.device) -> list[str]:
    """Say what keeps the kernel in C++ from meta-training an experiment; nothing if it can compute it."""
    config = experiment.config
    found = {
        **_obstacles_of_the_forms(experiment),
        f"outer.optimizer: {config.outer.optimizer}": config.outer.optimizer not in OPTIMIZERS,
        **_task_grad_obstacle(experiment),
        f"the device {device.type}": device.type != "cpu",
        f"engine.task_chunk: {config.engine.task_chunk}": config.engine.task_chunk != "auto",
        "engine.compile: off": config.engine.compile == "off",
    }
    return [obstacle for obstacle, is_there in found.items() if is_there]


def _obstacles_of_the_forms(experiment: Experiment) -> dict[str, bool]:
    """What the kernel is not made for, of methods, models and losses."""
    method, layers, setting = experiment.method, experiment.model.layers, experiment.config.engine.inner_update
    return {
        f"{method.title}, whose inner steps are no gradients by rates": method.descent is None,
        f"engine.inner_update: {setting}": setting in ("dense", "low_rank"),
        "a model that is no MLP": layers is None,
        f"hidden layers of {_WIDE} units or more, for which graphs are faster": setting == "auto" and is_wide(layers),
        **_loss_obstacle(experiment),
    }


def low_rank_obstacles(experiment: Experiment) -> list[str]:
    """Say what keeps factors of adapted weights from an experiment, or makes them slower than the weights."""
    setting, layers = experiment.config.engine.inner_update, experiment.model.layers
    descent = experiment.method.descent
    found = {
        f"{experiment.method.title}, which is no plain gradient descent": descent is None or not descent.is_plain,
        "a model that is no MLP": layers is None,
        **_loss_obstacle(experiment),
        "tasks of unequal size": _have_gaps(experiment, _trained_on(experiment)),
        **_task_grad_obstacle(experiment),
        f"engine.inner_update: {setting}": setting in ("dense", "fused"),
        f"no hidden layer of {_WIDE} units or more": setting == "auto" and not is_wide(layers),
    }
    return [obstacle for obstacle, is_there in found.items() if is_there]


def _loss_obstacle(experiment: Experiment) -> dict[str, bool]:
    """What keeps backends from a loss that are made for the squared error."""
    is_other = experiment.family.loss not in (SQUARED_ERROR, PRESENT_SQUARED_ERROR)
    return {"a loss that is not the squared error": is_other}


def _have_gaps(experiment: Experiment, *requests: Request) -> bool:
    """Whether some tasks are shorter than others, and filled up with targets that do not count."""
    family = experiment.family
    return family.loss is PRESENT_SQUARED_ERROR and any(map(family.has_gaps, requests))


def _trained_on(experiment: Experiment) -> Request:
    """What meta-training asks of a task."""
    tasks = experiment.config.tasks
    return Request(tasks.support_shots, tasks.query_shots)


def _task_grad_obstacle(experiment: Experiment) -> dict[str, bool]:
    """What keeps backends from it that know the sum over tasks alone."""
    bound = experiment.config.outer.max_task_grad
    return {f"outer.max_task_grad: {bound}": bound is not None}


def is_wide(layers: Layers | None) -> bool:
    """Whether a weight matrix of each task is better not formed."""
    return layers is not None and max(layers.sizes[1:-1], default=0) >= _WIDE


def kernel_losses(
    experiment: Experiment, device: torch.device, note: Callable[[str], None]
) -> Callable[..., Tensor] | None:
    """What measures the meta-test losses of an experiment in the kernel; None where it cannot, or does not pay.

    Like the plan of a training this depends on the config alone, and on whether a compiler is there.

    Args:
        experiment: What is tested.
        device: Where it computes.
        note: Hears that something is compiled, before it is, and why that failed.

    Returns:
        See `fused_losses`, of which sizes, rate and threads are given.
    """
    method, layers, config = experiment.method, experiment.model.layers, experiment.config
    settings = config.evaluation
    query_shots = settings.grid or settings.query_shots
    requests = [Request(shots, query_shots, query_grid=settings.grid is not None) for shots in settings.shots]
    if device.type != "cpu" or any(_obstacles_of_the_forms(experiment).values()):
        return None
    samples = len(requests) * query_shots * (settings.inner_steps + 1) * settings.tasks * len(config.seeds)
    decision = decide_compile(
        config.engine.compile, num_steps=samples, earned_after=_TEST_EARNED_AFTER, device=device, kernel=True
    )
    has_trained_there = not kernel_obstacles(experiment, device) and _decision(experiment, device, kernel=True).compiled
    if not (decision.compiled or has_trained_there):
        return None
    assert method.descent is not None
    assert layers is not None
    if (error := _kernel_error(torch.float32, note)) is not None:
        note(f"warning: compiling failed: {next(iter(str(error).splitlines()), '')}; going on without")
        return None
    return partial(
        fused_losses,
        layers=layers,
        descent=method.descent,
        has_gaps=_have_gaps(experiment, *requests),
        threads=_all_threads(config),
    )


def uncompiled_gradient(experiment: Experiment, plan: Plan, made: int | None = None) -> MetaGradient:
    """The meta-gradient that training differentiates, in chunks, before it is compiled.

    Args:
        experiment: What is trained.
        plan: Of this experiment.
        made: After so many meta-updates; None for the last phase's end.
    """
    method = experiment.method
    gradient = method.meta_gradient if made is None else gradient_at(method, made)
    return in_chunks(_of_chunk(experiment, plan.form, gradient), plan.chunk)


def _of_chunk(experiment: Experiment, form: Form, plain: MetaGradient) -> MetaGradient:
    """The meta-gradient of tasks that are differentiated at once."""
    bound = experiment.config.outer.max_task_grad
    if bound is not None:
        return clamped_per_task(plain, bound)
    descent, layers = experiment.method.descent, experiment.model.layers
    if form != "low_rank":
        return plain
    assert descent is not None
    assert layers is not None
    return partial(
        low_rank_meta_gradient,
        ACTIVATIONS[layers.activation],
        inner_lr=descent.inner_lr,
        inner_steps=descent.inner_steps,
        order=descent.course.order,
    )


def planned_update(
    experiment: Experiment,
    state: TrainState | Stack,
    plan: Plan,
    device: torch.device,
    on_failure: Callable[[Exception], None] | None = None,
    note: Callable[[str], None] = lambda _: None,
    ranks: Ranks | None = None,
    threads: Threads | None = None,
) -> Update:
    """Build the meta-update that a plan describes.

    One graph holds the whole update where the meta-batch is not cut, and the gradient of a chunk where it is:
    a loop over chunks would be unrolled, and processes that share it talk in between. Of a stack too it holds the
    gradient alone: each part has its own optimiser.

    Args:
        experiment: What is trained.
        state: What is updated; a stack where the experiment is several.
        plan: Of this experiment.
        device: Where it computes.
        on_failure: Hears of an error in compiling, and raises; if it returns, the update goes on uncompiled. None lets
            the error pass.
        note: Hears that something is compiled, before it is.
        ranks: The processes that share it, where the plan is made for several.
        threads: Those that compute; as many as are planned if None.
    """
    method = experiment.method
    if plan.form != "fused" and plan.shard == "seeds":
        return _update_of_own_seeds(experiment, state, plan, device, on_failure, note, ranks)
    if plan.form != "fused":
        made = torch.zeros((), dtype=torch.int64, device=device)
        updates = {
            phase.begins: _graph_update(
                experiment, state, plan, device, phase.meta_gradient(made), on_failure, note, ranks
            )
            for phase in phases_of(method)
        }

        def in_phases(tasks: Task) -> tuple[Log, Tensor]:
            made.fill_(state.step)
            return updates[phase_at(method, state.step).begins](tasks)

        return in_phases if method.phases else updates[0]
    descent, layers = method.descent, experiment.model.layers
    assert descent is not None
    assert layers is not None
    if (error := _kernel_error(state.flat.dtype, note, ranks)) is not None:
        if on_failure is None:
            raise error
        on_failure(error)
        return planned_update(experiment, state, without_compiling(plan, experiment, ""), device, ranks=ranks)
    max_norm, count = experiment.max_grad_norm, (lambda: threads.count) if threads else (lambda: plan.threads)
    kernel = partial(
        FusedUpdate,
        state,
        layers,
        descent,
        has_gaps=_have_gaps(experiment, _trained_on(experiment)),
        max_grad_norm=max_norm,
        threads=count,
        seeds_before=experiment.rows_before,
    )
    if plan.shard is None:
        return kernel()
    assert ranks is not None
    if plan.shard == "seeds":
        return SharedSeeds(state, ranks, lambda seeds, agree: kernel(seeds=seeds, agree=agree))
    return make_update(state, over_tasks(kernel().gradient, ranks), max_norm)


def _kernel_error(dtype: torch.dtype, note: Callable[[str], None], ranks: Ranks | None = None) -> Exception | None:
    """Why the kernel cannot be had, here or in a process that shares the work: all are to compute alike."""
    error: Exception | None = None
    try:
        if said := building():
            note(said)
        load_library(dtype)
    except (RuntimeError, OSError) as found:
        error = found
    if ranks is not None:
        problems = [problem for problem in ranks.all_told(None if error is None else str(error)) if problem is not None]
        error = error or (RuntimeError(f"in another process: {problems[0]}") if problems else None)
    return error


def _graph_update(
    experiment: Experiment,
    state: TrainState | Stack,
    plan: Plan,
    device: torch.device,
    plain: MetaGradient,
    on_failure: Callable[[Exception], None] | None,
    note: Callable[[str], None],
    ranks: Ranks | None,
) -> Update:
    """The meta-update of a phase as torch computes it, in a graph or without."""
    gradient, max_norm = _of_chunk(experiment, plan.form, plain), experiment.max_grad_norm
    is_whole = plan.chunk >= experiment.config.outer.meta_batch_size and len(state.parts) == 1 and plan.shard is None
    if plan.compiled and is_whole:
        return compile_graph(make_update(state, gradient, max_norm), device, on_failure, note)
    gradient = compile_graph(gradient, device, on_failure, note) if plan.compiled else gradient
    in_parts = in_chunks(gradient, plan.chunk)
    if plan.shard == "tasks":
        assert ranks is not None
        in_parts = over_tasks(in_parts, ranks)
    return make_update(state, in_parts, max_norm)


def _update_of_own_seeds(
    experiment: Experiment,
    state: TrainState | Stack,
    plan: Plan,
    device: torch.device,
    on_failure: Callable[[Exception], None] | None,
    note: Callable[[str], None],
    ranks: Ranks | None,
) -> Update:
    """What torch computes of the seeds that are this process's."""
    assert isinstance(state, TrainState)
    assert ranks is not None
    alone = plan._replace(shard=None, ranks=1)

    def make(seeds: range, agree: Callable[[int], int]) -> OwnState:
        return OwnState(
            state,
            # A graph adds up in an order of its own anyway.
            seeds if plan.compiled else with_neighbour(seeds, len(state.flat)),
            agree,
            optimizer=experiment.config.outer.optimizer,
            make=lambda own: planned_update(experiment, own, alone, device, on_failure, note),
        )

    return SharedSeeds(state, ranks, make)


def update_memory_bytes(update: Update, tasks: Task, device: torch.device) -> int:
    """The memory of one more meta-update of `planned_update`: its peak, and what it keeps between two."""
    peak = peak_memory_bytes(lambda: update(tasks), device)
    return peak + (update.kept_bytes if isinstance(update, FusedUpdate) else 0)


def _chunk(experiment: Experiment, form: Form) -> int:
    config, method, model = experiment.config, experiment.method, experiment.model
    samples = config.tasks.support_shots + config.tasks.query_shots
    holds_copies = (method.holds_copies and form != "low_rank") or config.outer.max_task_grad is not None
    return resolve_chunk(
        config.engine.task_chunk,
        floats_per_task=method.num_params if holds_copies else samples * model.num_units,
        seeds=len(config.seeds),
        tasks=config.outer.meta_batch_size,
        inner_steps=_steps_held(method),
    )


def _steps_held(method: Method) -> int:
    """Of how many inner steps a task holds weights or activations at once."""
    if not method.holds_path:
        return 1
    # A pass over activations that no step is made with counts as one.
    return method.inner_steps if method.holds_copies else max(1, method.inner_steps)
