"""What a meta-update costs: the time that a training noted, and the memory of one more update."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import median

import torch

from mamlcli.compute.plan import make_plan, planned_update, update_memory_bytes
from mamlcli.experiment import Experiment
from mamlcli.memory.estimate import one_step_estimate
from mamlcli.memory.parts import shortage
from mamlcli.memory_check import free_on
from mamlcli.reporting import Reporter
from mamlcli.training import Update
from mamlcli.types import AnyRow


def ms_per_step(rows: Sequence[AnyRow]) -> float | None:
    """Median time of a meta-step over the stretches between logged steps; the first step pays for set-up.

    Args:
        rows: Metrics, with step and wall_s.

    Returns:
        Milliseconds; None where fewer than two steps are logged.
    """
    clock = {row["step"]: row["wall_s"] for row in rows}
    stretches = [(end - start, clock[end] - clock[start]) for start, end in pairwise(sorted(clock))]
    return round(1e3 * median(seconds / steps for steps, seconds in stretches), 4) if stretches else None


def peak_memory_bytes(update: Update, experiment: Experiment, device: torch.device) -> int:
    """The peak of one meta-update too many, which moves the parameters that `update` updates."""
    return update_memory_bytes(update, experiment.stream().batch(0, device), device)


def peak_memory_of(experiment: Experiment, device: torch.device, reporter: Reporter) -> int | None:
    """The peak of a meta-update, computed as training would; None where it does not fit into memory."""
    plan = make_plan(experiment, device)
    if shortage(one_step_estimate(experiment, plan), free_on(device)):
        return None

    def failed(error: Exception) -> None:
        reporter.note(f"warning: compiling failed, measuring memory without: {type(error).__name__}")

    state = experiment.initial_state(device)
    return peak_memory_bytes(planned_update(experiment, state, plan, device, failed, reporter.note), experiment, device)
