"""Chunks of tasks that are differentiated at a time, which bound memory and keep what is computed in the caches."""

import math
from typing import Literal

import torch

from mamlcli.methods.method import Log, MetaGradient
from mamlcli.tasks.samples import Task, in_parts
from mamlcli.types import Params

# What a chunk of tasks holds: about what the caches do. 2,500 tasks at once took 40 ms, in ten chunks 16 ms.
_CHUNK_BYTES = 2**24
# How often a task holds its weights (or activations) for each inner step, forward and backward; measured.
_COPIES_PER_STEP = 4


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

    def accumulated(params: Params, tasks: Task) -> tuple[Params, Log]:
        num_tasks = tasks.support.x.shape[1]
        if num_tasks <= size:
            return meta_gradient(params, tasks)
        total = {name: torch.zeros_like(theta) for name, theta in params.items()}
        log: Log = {}
        for chunk in in_parts(tasks, size):
            weight = chunk.support.x.shape[1] / num_tasks
            grads, logged = meta_gradient(params, chunk)
            total = {name: total[name] + weight * grads[name] for name in total}
            log = {name: log.get(name, torch.zeros_like(value)) + weight * value for name, value in logged.items()}
        return total, log

    return accumulated
