"""How a meta-gradient is computed: in which chunks of tasks, and compiled or not. The numbers are the same."""

import math
import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any, Literal, NamedTuple, ParamSpec, TypeAlias, TypeVar

import torch
from torch import Tensor

from mamlcli.algorithms import MetaGradient
from mamlcli.cores import usable_cores
from mamlcli.errors import DeviceError, Remedy
from mamlcli.tasks import Samples, Task
from mamlcli.types import Params

Compile: TypeAlias = Literal["auto", "on", "off"]
P = ParamSpec("P")
T = TypeVar("T")

_MULTIPLY_ADDS_PER_THREAD = 2_000_000
# What a chunk of tasks holds: about what the caches do. 2,500 tasks at once took 40 ms, in ten chunks 16 ms.
_CHUNK_BYTES = 2**24
# How often a task holds its weights (or activations) for each inner step, forward and backward; measured.
_COPIES_PER_STEP = 4


class Decision(NamedTuple):
    """Whether to compile, and why, in words for a person."""

    compiled: bool
    reason: str


def decide_compile(setting: Compile, *, num_steps: int, earned_after: int, device: torch.device) -> Decision:
    """Say whether a run is to be compiled.

    Args:
        setting: `auto` compiles where a compiler is there and the run is long enough to earn it back.
        num_steps: Meta-steps of the run.
        earned_after: Meta-steps that gain as much time as compiling takes.
        device: Where the run is.

    Raises:
        DeviceError: If the setting is `on` and there is no compiler.
    """
    if setting == "off":
        return Decision(compiled=False, reason="engine.compile is off")
    missing = _missing_compiler(device)
    if setting == "on":
        if missing:
            remedy = Remedy("install one, or set engine.compile: off", "install one, or use --set engine.compile=off")
            raise DeviceError(f"engine.compile is on, but {missing}", remedy)
        return Decision(compiled=True, reason="engine.compile is on")
    if num_steps < earned_after:
        reason = f"{num_steps} steps are too few to earn it back (from {earned_after} on)"
        return Decision(compiled=False, reason=reason)
    if missing:
        return Decision(compiled=False, reason=missing)
    return Decision(compiled=True, reason=f"{num_steps} steps earn it back")


def _missing_compiler(device: torch.device) -> str:
    """Say what torch.compile lacks for a device; empty if nothing."""
    if device.type == "cuda":
        return ""  # torch brings Triton along
    if device.type != "cpu":
        return f"torch.compile is not used on {device.type}"
    return "" if find_compiler() else "no C++ compiler is on the PATH"


def find_compiler() -> list[str]:
    """The command of the C++ compiler: that of the environment's CXX, or one on the PATH; empty if there is none."""
    try:
        named = shlex.split(os.environ.get("CXX", ""))
    except ValueError:  # a quotation without an end
        named = []
    commands = [named, ["g++"], ["clang++"]]
    return next((command for command in commands if command and shutil.which(command[0])), [])


def compile_graph(
    function: Callable[P, T], device: torch.device, on_failure: Callable[[Exception], None] | None = None
) -> Callable[P, T]:
    """Compile a function whose last argument is a meta-batch, as one graph for each shape of it.

    What is compiled returns gradients, or uses them up: nothing can be differentiated through a compiled graph twice.

    Args:
        function: Differs between two calls in nothing but its arguments' values and the meta-batch's shape.
        device: Where it computes.
        on_failure: Hears of an error in compiling, and raises; if it returns, the function is called as it is. None
            lets the error pass.
    """
    # On the CPU a wrapper in C++ calls the kernels, which is a tenth of a meta-step faster than one in Python.
    options: dict[str, Any] = {"triton.cudagraphs": True} if device.type == "cuda" else {"cpp_wrapper": True}
    graphs: dict[tuple[object, ...], Callable[P, T]] = {}

    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        tasks: Any = args[-1]
        key = (tasks.support.x.shape, tasks.query.x.shape, tasks.support.x.dtype)
        if key in graphs:
            return graphs[key](*args, **kwargs)
        graphs[key] = _one_graph(function, options)
        try:
            return graphs[key](*args, **kwargs)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # what compilers and the steps before them raise is not documented
            if on_failure is None:
                raise
            on_failure(error)
            graphs[key] = function
            return function(*args, **kwargs)

    return run


def _one_graph(function: Callable[P, T], options: dict[str, Any]) -> Callable[P, T]:
    """Compile for the shapes of the first call, and do not check again that they are the same.

    Those checks are a seventh of a meta-step at width 40. Without them nothing tells two graphs of the same code
    apart, so each graph gets code of its own.
    """

    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        return function(*args, **kwargs)

    own = FunctionType(call.__code__.replace(), call.__globals__, closure=call.__closure__)
    compiled: Callable[P, T] = torch.compile(
        own, fullgraph=True, dynamic=False, options=options | {"guard_filter_fn": lambda guards: [False] * len(guards)}
    )
    return compiled


def resolve_threads(setting: Literal["auto"] | int, *, multiply_adds: int) -> int:
    """Say how many CPU threads are used where all cores are idle.

    Two threads wait for each other several times in a meta-step. Where the step is short and another process
    wants a core, they mostly wait: 3 ms became 13 to 65 ms.

    Args:
        setting: A number, or `auto`: one for each two million multiply-adds of a forward pass over the samples
            that are computed at once, at most one for each core that this process may use.
        multiply_adds: Parameters of one seed times all samples of all seeds.
    """
    if setting != "auto":
        return setting
    return max(1, min(usable_cores(), multiply_adds // _MULTIPLY_ADDS_PER_THREAD))


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Compute with so many threads and without denormal numbers, and as before afterwards.

    What Adam holds of a unit that has died decays into denormal numbers, which a processor computes with a hundred
    times slower: they were a twentieth of a fused meta-step, and a tenth of one at width 256.
    """
    threads, flushed = torch.get_num_threads(), torch.tensor(1e-40).mul(1).item() == 0
    torch.set_num_threads(count)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(flushed)


def resolve_chunk(
    setting: Literal["auto"] | int, *, floats_per_task: int, seeds: int, tasks: int, inner_steps: int
) -> int:
    """Say how many tasks of the meta-batch are differentiated at a time.

    Args:
        setting: A number, or `auto`: chunks of about equal size that hold about 16 MiB.
        floats_per_task: Numbers that a task of one seed holds once: its weights, or its activations.
        seeds: S.
        tasks: B.
        inner_steps: Steps of adaptation.
    """
    if setting != "auto":
        return min(setting, tasks)
    bytes_per_task = 4 * floats_per_task * seeds * _COPIES_PER_STEP * (1 + inner_steps)
    largest = max(1, _CHUNK_BYTES // bytes_per_task)
    return math.ceil(tasks / math.ceil(tasks / largest))


def in_chunks(meta_gradient: MetaGradient, size: int) -> MetaGradient:
    """Bound memory: accumulate the meta-gradient over chunks of at most `size` tasks.

    The mean over the meta-batch is the mean of the chunks' means, weighted by their tasks.
    """

    def accumulated(params: Params, tasks: Task) -> tuple[Params, Tensor]:
        num_tasks = tasks.support.x.shape[1]
        if num_tasks <= size:
            return meta_gradient(params, tasks)
        total = {name: torch.zeros_like(theta) for name, theta in params.items()}
        losses = torch.zeros((), device=tasks.support.x.device)
        for first in range(0, num_tasks, size):
            chunk = Task(*(Samples(*(part[:, first : first + size] for part in side)) for side in tasks))
            weight = chunk.support.x.shape[1] / num_tasks
            grads, chunk_losses = meta_gradient(params, chunk)
            total = {name: total[name] + weight * grads[name] for name in total}
            losses = losses + weight * chunk_losses
        return total, losses

    return accumulated
