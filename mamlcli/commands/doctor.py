"""`maml doctor`: what this machine has, whether it works, and what would be chosen for a config."""

import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, metadata, requires, version

import torch

from mamlcli.compute.compiled import compiles_graphs, find_compiler
from mamlcli.compute.fused.library import building, built, folder_problem
from mamlcli.compute.plan import make_plan, threads_of
from mamlcli.config.experiment import Config
from mamlcli.cores import cpu_name, read_usage, usable_cores, used_by_others
from mamlcli.devices import available_devices, double_backward_error, resolve_device
from mamlcli.engine_checks import engine_checks
from mamlcli.errors import DeviceError, UsageError
from mamlcli.experiment import make_experiment
from mamlcli.memory.estimate import training_estimate
from mamlcli.memory.free import free_memory
from mamlcli.memory.parts import readable, shortage
from mamlcli.memory_check import free_on
from mamlcli.proofs.checks import EXACT
from mamlcli.reporting import Reporter, Silent
from mamlcli.results import Doctor
from mamlcli.rows import Choice, Compiler, Cores, DeviceFound, DeviceType, Kernel
from mamlcli.runs.files import free_bytes
from mamlcli.runs.info import OUTPUTS

_PACKAGES = ("mamlcli", "torch", "numpy", "scipy", "matplotlib", "pydantic", "typer")
_FOR_DEVELOPERS = ("dev", "bench", "docs")
# A meta-gradient of a few float32 numbers; in first order it would be off by a tenth.
_ROUNDING = 1e-5
_LOOK_S = 0.2
_LITTLE_DISK = 2**30


def doctor(config: Config, *, reporter: Reporter | None = None) -> Doctor:
    """Look at what experiments need on this machine, and try it; builds the kernel where it is not built yet.

    Args:
        config: For which to say what `auto` would choose.
        reporter: Hears what takes a while.
    """
    reporter = reporter or Silent()
    reporter.progress("looking at cores, devices and the kernel", 0, 1)
    cores, devices, kernel = _cores(), [_device(name) for name in available_devices()], _kernel(reporter)
    disk, choice = free_bytes(OUTPUTS), None
    problems, warnings = _problems(devices, kernel), _warnings(kernel, disk)
    try:
        choice, short = _choice(config)
        warnings += [short] if short else []
    except (DeviceError, UsageError) as error:
        problems.append(f"{config.name}: {error}")
    return Doctor(
        works=not problems,
        problems=problems,
        warnings=warnings,
        versions={"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        extras=_extras(),
        cores=cores,
        devices=devices,
        compiler=_compiler(),
        kernel=kernel,
        folder=OUTPUTS.absolute(),
        free_disk_bytes=disk,
        free_memory_bytes=free_memory(),
        choice=choice,
    )


def _problems(devices: Sequence[DeviceFound], kernel: Kernel) -> list[str]:
    """What computes wrong numbers, which nobody would notice."""
    here = [one for one in devices if one["name"] is not None]
    found = [f"{one['device']} differentiates twice wrongly, or not at all" for one in here if not one["works"]]
    return found + ([f"the kernel computes another gradient than torch: {kernel['path']}"] * _is_wrong(kernel))


def _warnings(kernel: Kernel, disk: int) -> list[str]:
    """What is done without, or may run out."""
    found = [f"{readable(disk)} of disk are free in {OUTPUTS.absolute()}"] if disk < _LITTLE_DISK else []
    if _is_wrong(kernel) or not kernel["problem"]:
        return found
    return [kernel["problem"] if kernel["works"] else f"no kernel: {kernel['problem']}", *found]


def _extras() -> dict[str, bool]:
    """The optional parts that are for users, and whether all packages of each are here."""
    found = dict.fromkeys(metadata("mamlcli").get_all("Provides-Extra") or (), True)
    for requirement in requires("mamlcli") or ():
        name, extra = re.match(r"[\w.-]+", requirement), re.search(r"extra == ['\"]([\w-]+)['\"]", requirement)
        if name and extra:
            found[extra[1]] = found.get(extra[1], True) and _is_installed(name[0])
    return {extra: is_here for extra, is_here in found.items() if extra not in _FOR_DEVELOPERS}


def _is_installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


def _cores() -> Cores:
    before = read_usage()
    time.sleep(_LOOK_S)
    now = read_usage()
    others = round(used_by_others(before, now), 2) if before and now else None
    load: list[float] = []
    if sys.platform != "win32":  # which has none
        with suppress(OSError):
            load = [round(one, 2) for one in os.getloadavg()]
    return {"name": cpu_name(), "usable": usable_cores(), "used_by_others": others, "load": load}


def _device(name: DeviceType) -> DeviceFound:
    """Try a double backward on a device, if there is one."""
    if not available_devices()[name]:
        return {"device": name, "name": None, "double_backward_error": None, "works": False}
    called = torch.cuda.get_device_name() if name == "cuda" else cpu_name() if name == "cpu" else "Apple GPU"
    try:
        error = double_backward_error(torch.device(name))
    except (RuntimeError, NotImplementedError):
        error = float("nan")
    works = error <= _ROUNDING
    return {
        "device": name,
        "name": called,
        "double_backward_error": None if error != error else error,
        "works": works,
    }


def _compiler() -> Compiler | None:
    if not (command := find_compiler()):
        return None
    try:
        done = subprocess.run(
            [*command, "--version"], capture_output=True, text=True, errors="replace", timeout=10, check=False
        )
        said = done.stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        said = []
    version = said[0] if said else "unknown"
    return {"command": " ".join(command), "version": version, "graphs": compiles_graphs(command)}


def _kernel(reporter: Reporter) -> Kernel:
    """Build the kernel where it is not kept, and compare its meta-gradient with the plain one."""
    nothing: Kernel = {
        "path": None, "num_bytes": 0, "was_kept": False, "error": None, "works": False, "problem": None
    }  # fmt: skip
    try:
        if to_build := building():
            reporter.note(to_build)
        path = built()
        error, reason = _kernel_error()
    except (RuntimeError, OSError) as failure:
        return nothing | {"problem": next(iter(str(failure).splitlines()), type(failure).__name__)}
    return {
        "path": str(path),
        "num_bytes": path.stat().st_size,
        "was_kept": not to_build,
        "error": error,
        "works": error is not None and error <= EXACT,
        "problem": reason or folder_problem() or None,
    }


def _kernel_error() -> tuple[float | None, str]:
    """The relative error of a meta-gradient of the kernel in float64, and what kept it from being computed."""
    config = Config(name="doctor", seeds=(0,), device="cpu")
    engine = config.engine.model_copy(update={"compile": "on", "inner_update": "fused"})
    outer = config.outer.model_copy(update={"meta_batch_size": 3})
    experiment = make_experiment(config.model_copy(update={"engine": engine, "outer": outer}))
    cpu = torch.device("cpu")
    params = {name: value.double() for name, value in experiment.initial_state(cpu).params.items()}
    tasks = experiment.stream().batch(0).map(torch.Tensor.double)
    check = engine_checks(experiment, make_plan(experiment, cpu), params, tasks)[-1]
    finite = check.relative_error < float("inf")
    return (check.relative_error, "") if finite else (None, check.compared_with)


def _is_wrong(kernel: Kernel) -> bool:
    return kernel["path"] is not None and kernel["error"] is not None and not kernel["works"]


def _choice(config: Config) -> tuple[Choice, str | None]:
    """What is chosen for a config now, and what it lacks of memory."""
    experiment, device = make_experiment(config), resolve_device(config.device)
    plan = make_plan(experiment, device)
    estimate = training_estimate(experiment, plan)
    choice: Choice = {
        "config": config.name,
        "device": device.type,  # type: ignore[typeddict-item]
        "plan": plan.words(),
        "passed_over": list(plan.passed_over),
        "threads": threads_of(plan, experiment, lambda _: None).most,
        "memory_bytes": estimate.total(),
    }
    return choice, shortage(estimate, free_on(device))
