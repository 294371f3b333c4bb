"""What is measured: sinusoid MAML with 25 tasks, K = Q = 10, second order, Adam 1e-3, sampling included."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mamlcli.cores import usable_cores

ALPHA, LR = 0.01, 1e-3
Arrays = list[NDArray[np.float32]]


class Case(NamedTuple):
    """One experiment; `seeds` is 1 or the number trained side by side."""

    name: str
    seeds: int = 1
    width: int = 40
    inner_steps: int = 1
    tasks: int = 25
    shots: int = 10
    threads: int | None = None
    """None for as many as `engine.threads: auto` takes."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Units of every layer."""
        return (1, self.width, self.width, 1)


GROWTH = {
    "inner_steps": "inner steps",
    "tasks": "tasks",
    "seeds": "seeds",
    "width": "units of width",
    "threads": "threads, ten seeds",
}
"""What a meta-step is measured to grow with, and what it is called."""
MAIN = [
    Case("one seed"),
    Case("ten seeds", seeds=10),
    Case("width 256", width=256),
    Case("five inner steps", inner_steps=5),
    Case("2,500 tasks", tasks=2500),
    Case("thirty seeds", seeds=30),
]
SCALING = [
    Case(f"{value} {GROWTH[name]}", **{"seeds": 10 if name == "threads" else 1} | {name: value})
    for name, values in {
        "inner_steps": (1, 2, 5, 10),
        "tasks": (25, 250, 2500),
        "seeds": (1, 3, 10, 30),
        "width": (20, 40, 80, 120, 256, 512),
        "threads": range(1, usable_cores() + 1),
    }.items()
    for value in values
]


def fixed_params(case: Case) -> Arrays:
    """Weights of shape (out, in) and biases of one seed, layer by layer."""
    rng = np.random.default_rng(0)
    params: Arrays = []
    for inputs, outputs in zip(case.sizes[:-1], case.sizes[1:], strict=True):
        bound = inputs**-0.5
        params.append(rng.uniform(-bound, bound, (outputs, inputs)).astype(np.float32))
        params.append(rng.uniform(-bound, bound, outputs).astype(np.float32))
    return params


def fixed_batch(case: Case) -> Arrays:
    """Support x, support y, query x, query y of one meta-batch, each of shape (B, K, 1)."""
    return sample_batch(np.random.default_rng(1), case)


def sample_batch(rng: np.random.Generator, case: Case) -> Arrays:
    """Draw a meta-batch with NumPy, as peers without a task stream of their own do."""
    amplitude = rng.uniform(0.1, 5.0, (case.tasks, 1, 1))
    phase = rng.uniform(0.0, np.pi, (case.tasks, 1, 1))
    arrays = []
    for _ in range(2):
        x = rng.uniform(-5.0, 5.0, (case.tasks, case.shots, 1))
        arrays += [x.astype(np.float32), (amplitude * np.sin(x - phase)).astype(np.float32)]
    return arrays
