"""The C++ of this room as a library: built by the machine's compiler when it is first needed, and kept."""

import atexit
import ctypes
import functools
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from ctypes import POINTER, c_double, c_int64, c_void_p
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from mamlcli.compute.compiled import find_compiler, is_zig, missing_for_kernel
from mamlcli.methods.method import Descent
from mamlcli.models.model import Layers

_HEADERS = [
    Path(__file__).with_name(f"{name}.h")
    for name in ("block", "measure", "groups", "network", "activations", "lanes", "outer", "threads")
]
_SOURCE = Path(__file__).with_name("kernel.cpp")
# Without errno and traps, which nothing here reads, square roots and choices are vector instructions too.
_FLAGS = ["-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd", "-pthread", "-shared", "-fPIC"]
# Named, and not "native": a library may be kept in a home folder that several machines share.
_VECTOR_FLAGS = {
    "AVX512": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
    "AVX2": ["-march=x86-64-v3"],
}
_ZIG_CACHE = "ZIG_GLOBAL_CACHE_DIR"
_ANEW = "it is built anew in each run"


# In the order of activations.h.
_ACTIVATIONS = ("relu", "tanh", "sigmoid", "silu", "elu", "softplus", "gelu")


class Problem(ctypes.Structure):
    """What the library knows of an experiment; `network.h` has the same fields."""

    _fields_ = [
        *((name, c_int64) for name in ("seeds", "tasks", "support_shots", "query_shots", "inner_steps", "has_gaps")),
        *((name, c_int64) for name in ("seeds_before", "num_sizes")),
        ("sizes", POINTER(c_int64)),
        *((name, c_int64) for name in ("activation", "first_adapting", "last_adapting", "rates", "rate_steps")),
        ("inner_lr", POINTER(c_double)),
    ]


Loop: TypeAlias = tuple[Any, ...]
"""The fields of `Problem` that say what an inner loop is: from `num_sizes` on."""


def loop_of(descent: Descent, layers: Layers, num_seeds: int) -> Loop:
    """Describe an inner loop to the library.

    Args:
        descent: What is run.
        layers: Of what.
        num_seeds: S.
    """
    sizes, last = layers.sizes, len(layers.sizes) - 1
    adapting = {"all": (0, last), "head": (last - 1, last), "body": (0, last - 1)}[descent.adapts]
    rates = (None, "tensor", "tensor_and_step", "parameter").index(descent.rates)
    sides = (c_int64 * len(sizes))(*sizes)
    return (
        len(sizes),
        sides,
        _ACTIVATIONS.index(layers.activation),
        *adapting,
        rates,
        descent.inner_steps,
        numbers(descent.inner_lr, num_seeds),
    )


def numbers(value: float | Tensor, count: int) -> ctypes.Array[c_double]:
    """One number for each seed."""
    values = value.tolist() if isinstance(value, Tensor) else [value] * count
    return (c_double * count)(*values)


def pointers(*tensors: Tensor) -> list[int]:
    """Where tensors begin, none of which has gaps."""
    assert all(tensor.is_contiguous() for tensor in tensors)
    return [tensor.data_ptr() for tensor in tensors]


class Outer(ctypes.Structure):
    """What it knows of a block's meta-losses and updates; `outer.h` has the same fields."""

    _fields_ = [
        ("second_order", POINTER(c_int64)),
        ("loss_weights", POINTER(c_double)),
        ("rule", c_int64),
        *((name, c_double) for name in ("beta1", "beta2", "epsilon", "weight_decay", "updates")),
        *((name, POINTER(c_double)) for name in ("lr", "max_grad_norm")),
    ]


class Seeds(ctypes.Structure):
    """The seeds from one up to another, which are computed; `block.h` has the same fields as `Range`."""

    _fields_ = [("begin", c_int64), ("end", c_int64)]


class Data(ctypes.Structure):
    """Where parameters and tasks lie; `groups.h` has the same fields."""

    _fields_ = [(name, c_void_p) for name in ("params", "support_x", "support_y", "query_x", "query_y")]


class State(ctypes.Structure):
    """Where a block's state and what it reports lie; `block.h` has the same fields."""

    _fields_ = [
        *((name, c_void_p) for name in ("params", "grads", "moments1", "moments2")),
        *((name, c_void_p) for name in ("losses", "meta_losses", "norms", "alive", "updates")),
    ]


class Library(NamedTuple):
    """The library's functions for one type of numbers; arguments as in the sources."""

    train_bytes: Callable[..., int]
    train: Callable[..., None]
    test_bytes: Callable[..., int]
    test: Callable[..., None]


@functools.cache
def load_library(dtype: torch.dtype) -> Library:
    """Build the library, unless it is kept from another time, and load it.

    Args:
        dtype: float32 or float64.

    Raises:
        RuntimeError: If there is no compiler, or it fails; the message is its own. Or for another dtype.
        OSError: If there is nowhere to write to, or the library cannot be loaded.
    """
    suffix = {torch.float32: "float", torch.float64: "double"}.get(dtype)
    if suffix is None:
        raise RuntimeError(f"the fused update is made for float32 and float64, not for {dtype}")
    library = ctypes.CDLL(str(built()))

    def function(name: str, result: Any, *arguments: Any) -> Any:
        found = getattr(library, name)
        found.restype, found.argtypes = result, arguments
        return found

    problem, outer, seeds, data, state = map(POINTER, (Problem, Outer, Seeds, Data, State))
    return Library(
        function(f"train_bytes_{suffix}", c_int64, problem, seeds, c_int64),
        function(f"train_{suffix}", None, problem, outer, seeds, c_int64, c_int64, c_void_p, data, state),
        function(f"test_bytes_{suffix}", c_int64, problem),
        function(f"test_{suffix}", None, problem, c_int64, c_void_p, data, c_void_p),
    )


def building() -> str:
    """Say that the library is to be compiled, and how long that takes; empty if it is kept, or cannot be compiled."""
    recipe, folder = _recipe(), _folder()
    if recipe is None or _kept(folder, recipe.stem):
        return ""
    often = "in each run" if folder_problem() else "once on this machine"
    if is_zig(recipe.compiler) and not _zig_cache(folder).exists():
        return f"compiling the kernel, {often}: about a minute, since Zig compiles its C++ library first"
    return f"compiling the kernel, {often}: some seconds"


def kept_library() -> Path | None:
    """The library's file as it is kept from another time, or was built by this process; None for none."""
    recipe = _recipe()
    return None if recipe is None else _kept(_folder(), recipe.stem)


def built() -> Path:
    """The library's file, named by all that it is made from."""
    recipe, folder = _recipe(), _folder()
    if recipe is None:
        raise RuntimeError(str(missing_for_kernel()))
    compiler, flags, stem = recipe
    if kept := _kept(folder, stem):
        return kept
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        built = Path(scratch) / "built.so"
        command = [*compiler, *flags, str(_SOURCE), "-o", str(built)]
        environment = {**os.environ, _ZIG_CACHE: str(_zig_cache(folder))}
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, env=environment)
        if done.returncode != 0:
            errors = [line for line in done.stderr.splitlines() if "error" in line]
            raise RuntimeError((errors or [f"{' '.join(compiler)} ended with {done.returncode}"])[0])
        built.chmod(0o700)  # whatever the umask says
        return built.replace(folder / _name(stem, built))  # whole or not at all, whoever else builds it


class _Recipe(NamedTuple):
    """How the library is made."""

    compiler: list[str]
    flags: list[str]
    stem: str
    """What its file is called, but for its size."""


def _recipe() -> _Recipe | None:
    """How the library is made here; None without a compiler."""
    if not (compiler := find_compiler()):
        return None
    flags = [*_FLAGS, *_VECTOR_FLAGS.get(torch.backends.cpu.get_cpu_capability(), [])]
    if is_zig(compiler):
        flags = _for_zig(flags)
    sources = [path.read_text("utf-8") for path in (_SOURCE, *_HEADERS)]
    texts = [*compiler, *flags, platform.machine(), *sources]
    return _Recipe(compiler, flags, f"fused-{hashlib.sha256(chr(10).join(texts).encode()).hexdigest()[:16]}")


def _for_zig(flags: list[str]) -> list[str]:
    """The same flags as Zig takes them; where no processor is named, it takes the machine's own."""
    named = any(flag.startswith("-march") for flag in flags)
    # Without -s the library is ten times as large, by what a debugger would be told of the C++ library in it.
    return [*(flag.replace("=x86-64-", "=x86_64_") for flag in flags), *([] if named else ["-mcpu=baseline"]), "-s"]


def _zig_cache(folder: Path) -> Path:
    """Where Zig keeps what it has compiled, its C++ library above all, since nobody else may change what is linked."""
    return Path(os.environ.get(_ZIG_CACHE) or folder / "zig")


def _kept(folder: Path, stem: str) -> Path | None:
    """A whole library of this name that nobody else could have put there."""
    files = folder.glob(f"{stem}-*.so")
    return next((file for file in files if _is_own_file(file) and file.name == _name(stem, file)), None)


def _name(stem: str, file: Path) -> str:
    """What a whole library is called. With its size: to load one that was cut off kills the process."""
    return f"{stem}-{file.stat().st_size}.so"


def folder_problem() -> str:
    """Say why built libraries are not kept; empty if they are."""
    kept = _kept_folder()
    if kept is None:
        return f"the cache folder, which XDG_CACHE_HOME names, cannot be written to: no kernel is kept, and {_ANEW}"
    return _distrust(kept)


def _folder() -> Path:
    """Where built libraries are kept; if that cannot be written or trusted, a folder that goes with the process."""
    kept = _kept_folder()
    return _temporary_folder() if kept is None or _distrust(kept) else kept


def _kept_folder() -> Path | None:
    """The folder in the user's cache, made if it is missing and without links; None if it cannot be written."""
    try:
        kept = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mamlcli"
        kept.mkdir(parents=True, exist_ok=True, mode=0o700)
        return kept.resolve() if os.access(kept, os.R_OK | os.W_OK | os.X_OK) else None
    except (OSError, RuntimeError):  # a user without a home is a RuntimeError
        return None


def _distrust(kept: Path) -> str:
    """Say who else could exchange what is in a folder, whose libraries run in this process; empty if nobody could.

    The folder is its user's own and nobody else may write to it. Each folder above is the user's or root's, and
    others write to it only where it is sticky, like /tmp: there they cannot rename what is not theirs.
    """
    for folder in (kept, *kept.parents):
        found = folder.stat()
        owners, others_write = {_user(), 0 if folder != kept else _user()}, found.st_mode & 0o022
        which = "it" if folder == kept else str(folder)
        reason = "" if found.st_uid in owners else f"{which} belongs to another user"
        if others_write and (folder == kept or not found.st_mode & stat.S_ISVTX):
            reason = f"others may write to {which} (chmod go-w '{folder}')"
        if reason:
            return f"{kept}: not used to keep the built kernel, since {reason}; {_ANEW}"
    return ""


def _is_own_file(path: Path) -> bool:
    """Whether a file is a plain one of this user, to which nobody else may write."""
    found = path.stat(follow_symlinks=False)
    return stat.S_ISREG(found.st_mode) and found.st_uid == _user() and not found.st_mode & 0o022


def _user() -> int:
    if sys.platform == "win32":  # where no compiler is looked for, and so nothing is kept
        return 0
    return os.geteuid()


@functools.cache
def _temporary_folder() -> Path:
    folder = tempfile.mkdtemp(prefix="mamlcli-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
