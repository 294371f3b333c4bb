"""One graph for a whole meta-update, or for the gradient of a chunk of tasks, by torch.compile."""

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType
from typing import Any, Literal, NamedTuple, ParamSpec, TypeAlias, TypeVar

import torch

from mamlcli.errors import DeviceError, Remedy

Compile: TypeAlias = Literal["auto", "on", "off"]
P = ParamSpec("P")
T = TypeVar("T")

_INSTALL = "install g++ or clang++"


class Decision(NamedTuple):
    """Whether to compile, and why, in words for a person."""

    compiled: bool
    reason: str


class Lack(NamedTuple):
    """What keeps something from being compiled here."""

    what: str
    remedy: str
    """What to do about it; empty if nothing helps."""

    def __str__(self) -> str:
        return "; ".join(filter(None, self))


def decide_compile(
    setting: Compile, *, num_steps: int, earned_after: int, device: torch.device, kernel: bool
) -> Decision:
    """Say whether a run is to be compiled.

    Args:
        setting: `auto` compiles where a compiler is there and the run is long enough to earn it back.
        num_steps: Meta-steps of the run.
        earned_after: Meta-steps that gain as much time as compiling takes.
        device: Where the run is.
        kernel: Whether the kernel is to be compiled, or a graph of torch.compile; fewer compilers can do the latter.

    Raises:
        DeviceError: If the setting is `on` and there is no compiler.
    """
    if setting == "off":
        return Decision(compiled=False, reason="engine.compile is off")
    missing = missing_for_kernel() if kernel else _missing_for_graphs(device)
    if setting == "on":
        if missing:
            first = f"{missing.remedy}, or " if missing.remedy else ""
            remedy = Remedy(f"{first}set engine.compile: off", f"{first}use --set engine.compile=off")
            raise DeviceError(f"engine.compile is on, but {missing.what}", remedy)
        return Decision(compiled=True, reason="engine.compile is on")
    if num_steps < earned_after:
        reason = f"{num_steps} steps are too few to earn it back (from {earned_after} on)"
        return Decision(compiled=False, reason=reason)
    if missing:
        return Decision(compiled=False, reason=str(missing))
    return Decision(compiled=True, reason=f"{num_steps} steps earn it back")


def missing_for_kernel() -> Lack | None:
    """What the kernel lacks to be built; None if nothing."""
    return None if find_compiler() else _none_found(f"{_INSTALL}, or pip install 'mamlcli[compiler]'")


def _missing_for_graphs(device: torch.device) -> Lack | None:
    """What torch.compile lacks for a device; None if nothing."""
    if device.type == "cuda":
        return None  # torch brings Triton along
    if device.type != "cpu":
        return Lack(f"torch.compile is not used on {device.type}", "")
    if not (compiler := find_compiler()):
        return _none_found(_INSTALL)
    return None if compiles_graphs(compiler) else Lack("torch.compile needs OpenMP, which Zig lacks", _INSTALL)


def _none_found(remedy: str) -> Lack:
    if sys.platform == "win32":
        return Lack("nothing is compiled on Windows", "use WSL, which is Linux")
    return Lack("no C++ compiler is on the PATH", remedy)


def find_compiler() -> list[str]:
    """The command of the C++ compiler that builds the kernel; empty if there is none.

    It is that of the environment's CXX, or one on the PATH, or the one that the extra `compiler` brings along. None is
    looked for on Windows: what is compiled is written for g++ and clang, and kept where Unix rights protect it.
    """
    if sys.platform == "win32":
        return []
    try:
        named = shlex.split(os.environ.get("CXX", ""))
    except ValueError:  # a quotation without an end
        named = []
    commands = [named, ["g++"], ["clang++"]]
    here = next((command for command in commands if command and shutil.which(command[0])), [])
    if not here and find_spec("ziglang"):
        return [sys.executable, "-P", "-m", "ziglang", "c++"]  # -P: not a module of this name in the current folder
    return here


def is_zig(compiler: Sequence[str]) -> bool:
    """Whether a compiler's command runs Zig, which is clang with options and a C++ library of its own."""
    return any(Path(word).name in ("zig", "ziglang") for word in compiler)


def compiles_graphs(compiler: Sequence[str]) -> bool:
    """Whether torch.compile can use a compiler on the CPU: its graphs include the header of OpenMP."""
    return not is_zig(compiler)


def compile_graph(
    function: Callable[P, T],
    device: torch.device,
    on_failure: Callable[[Exception], None] | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> Callable[P, T]:
    """Compile a function whose last argument is a meta-batch, as one graph for each shape of it.

    What is compiled returns gradients, or uses them up: nothing can be differentiated through a compiled graph twice.

    Args:
        function: Differs between two calls in nothing but its arguments' values and the meta-batch's shape.
        device: Where it computes.
        on_failure: Hears of an error in compiling, and raises; if it returns, the function is called as it is. None
            lets the error pass.
        note: Hears that a graph is compiled, before it is.
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
        note("compiling one graph for the meta-update: some seconds, up to a minute for many inner steps")
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
