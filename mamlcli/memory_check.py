"""Whether what a command is about to do fits into memory, asked before it allocates anything."""

from collections.abc import Iterable

import torch

from mamlcli.compute.plan import Plan, make_plan
from mamlcli.config.experiment import Config
from mamlcli.devices import resolve_device
from mamlcli.experiment import Experiment, make_experiment
from mamlcli.memory.estimate import (
    checks_estimate,
    kernel_checks_estimate,
    meta_test_estimate,
    one_step_estimate,
    training_estimate,
)
from mamlcli.memory.free import free_memory
from mamlcli.memory.parts import Estimate, Free, check_fits, shortage
from mamlcli.reporting import Reporter

_CPU = torch.device("cpu")


def check_training(experiment: Experiment, plan: Plan, device: torch.device, reporter: Reporter) -> None:
    """Refuse a training that does not fit; of its meta-test, which may be made elsewhere, only warn.

    Raises:
        DeviceError: With what is needed and free, and what to lower.
    """
    free = free_on(device)
    check_fits(training_estimate(experiment, plan), free)
    _warn_of_meta_test(experiment, free, reporter)


def check_one_step(experiment: Experiment, plan: Plan, device: torch.device, reporter: Reporter) -> None:
    """Refuse a dry run that does not fit, and warn of a training and a meta-test.

    Raises:
        DeviceError: As `check_training`.
    """
    free = free_on(device)
    check_fits(one_step_estimate(experiment, plan), free)
    if message := shortage(training_estimate(experiment, plan), free):
        reporter.note(f"warning: {message}")
    _warn_of_meta_test(experiment, free, reporter)


def check_meta_test(experiment: Experiment, device: torch.device) -> None:
    """Refuse a meta-test that does not fit.

    Raises:
        DeviceError: As `check_training`.
    """
    check_fits(meta_test_estimate(experiment), free_on(device))


def check_comparison(experiment: Experiment, plan: Plan, device: torch.device) -> None:
    """Refuse a comparison of orders whose trainings or meta-tests do not fit.

    Args:
        experiment: The one in second order, which holds more.
        plan: How it is computed.
        device: Where.

    Raises:
        DeviceError: As `check_training`.
    """
    free = free_on(device)
    check_fits(training_estimate(experiment, plan, orders_compared=True), free)
    check_fits(meta_test_estimate(experiment, orders_compared=True), free)


def check_checks(experiment: Experiment, of_kernel: Experiment) -> None:
    """Refuse checks of gradients that do not fit; they are made on the CPU.

    Args:
        experiment: What is checked in double precision.
        of_kernel: The same with as many tasks as the kernel is checked with, where training uses it.

    Raises:
        DeviceError: As `check_training`.
    """
    free = free_on(_CPU)
    check_fits(checks_estimate(experiment, make_plan(experiment, _CPU)), free)
    plan = make_plan(of_kernel, _CPU)
    if plan.form == "fused":
        check_fits(kernel_checks_estimate(of_kernel, plan), free)


def check_side_by_side(configs: Iterable[Config], jobs: int) -> None:
    """Refuse trainings of which `jobs` at a time do not fit.

    Raises:
        DeviceError: As `check_training`.
    """
    devices: dict[torch.device, list[Estimate]] = {}
    for config in configs:
        experiment, device = make_experiment(config), resolve_device(config.device)
        devices.setdefault(device, []).append(training_estimate(experiment, make_plan(experiment, device)))
    for device, estimates in devices.items():
        largest = sorted(estimates, key=Estimate.total, reverse=True)[:jobs]
        parts = tuple(part for one in largest for part in one.parts)
        check_fits(Estimate(f"training {len(largest)} row(s) side by side", parts), free_on(device))


def check_stacks(stacks: Iterable[Experiment], device: torch.device, at_a_time: int) -> None:
    """Refuse stacks of trainings of which so many at a time do not fit.

    Raises:
        DeviceError: As `check_training`.
    """
    estimates = [training_estimate(stack, make_plan(stack, device)) for stack in stacks]
    largest = sorted(estimates, key=Estimate.total, reverse=True)[:at_a_time]
    parts = tuple(part for one in largest for part in one.parts)
    what = "training" if len(largest) == 1 else f"training {len(largest)} stacks side by side"
    check_fits(Estimate(what, parts), free_on(device))


def free_on(device: torch.device) -> Free:
    """What is free in the host's memory, and on a device that has its own."""
    if device.type != "cuda":
        return Free(free_memory())
    return Free(free_memory(), torch.cuda.mem_get_info(device)[0], device.type)


def _warn_of_meta_test(experiment: Experiment, free: Free, reporter: Reporter) -> None:
    if message := shortage(meta_test_estimate(experiment), free):
        reporter.note(f"warning: training fits, evaluation would not: {message}")
