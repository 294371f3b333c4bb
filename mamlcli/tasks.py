"""Sinusoid tasks, and the stream that says which tasks belong to (seed, split, step).

A stream is an endless list of tasks: task n of (seed, split) is a pure function of these three, drawn on the
CPU from a counter-based bit generator (NumPy's Philox, keyed by seed and split). No generator has a history,
so a resumed run needs no saved one, and block size, device and order of access cannot change the data.
Step t of a run uses tasks t*B to (t+1)*B - 1.
"""

import math
from collections.abc import Iterator
from enum import IntEnum
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

Split: TypeAlias = Literal["meta-train", "meta-test"]
Interval: TypeAlias = tuple[float, float]

# Part of the definition of the data: another key is another stream.
_SPLIT_KEYS: dict[str, int] = {"meta-train": 0, "meta-test": 1}

# What a corrupted target is, whatever the function.
_CORRUPTED: Interval = (-5.0, 5.0)

# Panels of the sum over x of an expectation.
_MAX_PANELS = 2**14

# Samples drawn ahead at a time: of a seed enough to make drawing cheap, few enough to stay in the cache; and of all.
_BLOCK_SAMPLES_OF_SEED = 2**18
_BLOCK_SAMPLES = 2**21


class Samples(NamedTuple):
    """Inputs of shape (..., K, features), where only the oracle has more than one feature; targets (..., K, 1)."""

    x: Float[Tensor, "*batch shots features"]
    y: Float[Tensor, "*batch shots 1"]


class Task(NamedTuple):
    """Samples to adapt on and samples to measure on; leading axes are tasks, or seeds and tasks."""

    support: Samples
    query: Samples


class Sinusoid(NamedTuple):
    """y = amplitude * sin(frequency * x - phase); parameters of shape (n, 1, 1) for n functions."""

    amplitude: Float[Tensor, "n 1 1"]
    phase: Float[Tensor, "n 1 1"]
    frequency: Float[Tensor, "n 1 1"]

    def __call__(self, x: Float[Tensor, "#n shots 1"]) -> Float[Tensor, "n shots 1"]:
        """Evaluate each function at its row of x, or all of them at one row."""
        return self.amplitude * torch.sin(self.frequency * x - self.phase)


class SinusoidFamily(NamedTuple):
    """The distribution of tasks; every interval is uniform in [low, high].

    The defaults are those of Finn et al. 2017 (arXiv:1703.03400, section 5.1). Phase and frequency are in
    radians and radians per unit of x.
    """

    amplitude: Interval = (0.1, 5.0)
    phase: Interval = (0.0, float(np.pi))
    frequency: Interval = (1.0, 1.0)
    x: Interval = (-5.0, 5.0)
    noise_std: float = 0.0
    oracle_inputs: bool = False
    """Whether a model is told the function behind its input: amplitude, phase, and frequency where it varies."""
    corrupted_slots: int = 0
    """C: the targets of the first C support samples are uniform in [-5, 5], whatever the function."""

    @property
    def num_inputs(self) -> int:
        """Features of an input."""
        return 1 + self._num_told

    @property
    def _num_told(self) -> int:
        varies = self.frequency[0] < self.frequency[1]
        return 2 + varies if self.oracle_inputs else 0

    def inputs(self, functions: Sinusoid, x: Float[Tensor, "#n shots 1"]) -> Float[Tensor, "n shots features"]:
        """What a model sees of points on these functions; shape (n, shots, num_inputs)."""
        count, shots = len(functions.phase), x.shape[1]
        told = [value.expand(count, shots, 1) for value in functions[: self._num_told]]
        return torch.cat([x.expand(count, shots, 1), *told], dim=-1)


def zero_predictor_loss(family: SinusoidFamily, *, grid: int | None = None) -> float:
    """The expected loss of a model that always says zero, over all tasks: the mean square of a target.

    E[A^2] E[sin^2(omega x - phase)] + noise_std^2, where sin^2(u) = (1 - cos(2 u)) / 2, and the expectation of
    exp(2i (omega x - phase)) is known in omega and in phase, whose exponentials have mean exp(i k (low + high) / 2)
    sinc(k (high - low) / 2); over x it is summed, with 16 Gauss nodes for each radian of omega x.

    Args:
        family: The distribution of tasks.
        grid: Of how many evenly spaced inputs, ends included, a loss is the mean; None for inputs drawn as the
            family says.

    >>> round(zero_predictor_loss(SinusoidFamily()), 4)
    4.2517
    """
    (low, high), (first, last) = family.amplitude, family.x
    if grid:
        x, weights = np.linspace(first, last, grid), np.full(grid, 1 / grid)
    else:
        nodes, node_weights = np.polynomial.legendre.leggauss(16)
        # What is beyond so many radians has averaged out.
        panels = max(1, min(_MAX_PANELS, math.ceil(max(map(abs, family.frequency)) * (last - first))))
        edges, width = np.linspace(first, last, panels, endpoint=False), (last - first) / panels
        x = (edges[:, None] + (nodes + 1) / 2 * width).ravel()
        weights = np.tile(node_weights, panels) / (2 * panels)
    turned = weights @ _mean_exponential(2 * x, family.frequency)
    turned *= _mean_exponential(np.array([-2.0]), family.phase)[0]
    square = (low**2 + low * high + high**2) / 3
    return float(square * (1 - turned.real) / 2 + family.noise_std**2)


def _mean_exponential(k: NDArray[np.float64], interval: Interval) -> NDArray[np.complex128]:
    """E[exp(i k u)] for u uniform in an interval."""
    low, high = interval
    mean: NDArray[np.complex128] = np.exp(0.5j * k * (low + high)) * np.sinc(k * (high - low) / (2 * np.pi))
    return mean


class _Lane(IntEnum):
    """Which quantity of a task a random number is for. Part of the definition of the data."""

    AMPLITUDE = 0
    PHASE = 1
    FREQUENCY = 2
    SUPPORT_X = 3
    QUERY_X = 4
    SUPPORT_NOISE = 5
    QUERY_NOISE = 6
    CORRUPTED_Y = 7
    UNLABELLED_X = 8


class TaskList(NamedTuple):
    """The endless list of tasks of (family, seed, split).

    The k-th sample of a task does not depend on how many are asked for, so the tasks for K = 5 are those for
    K = 20 with fewer support samples.
    """

    family: SinusoidFamily
    seed: int
    split: Split

    def sinusoids(self, first: int, count: int) -> Sinusoid:
        """Return the functions behind tasks first to first + count - 1, in float64."""
        return Sinusoid(
            self._between(self.family.amplitude, _Lane.AMPLITUDE, first, count, 1),
            self._between(self.family.phase, _Lane.PHASE, first, count, 1),
            self._between(self.family.frequency, _Lane.FREQUENCY, first, count, 1),
        )

    def tasks(
        self,
        first: int,
        count: int,
        *,
        support_shots: int,
        query_shots: int,
        query_grid: bool = False,
        unlabelled_inputs: int = 0,
    ) -> Task:
        """Draw tasks first to first + count - 1.

        Args:
            first: Number of the first task, >= 0.
            count: How many tasks, >= 1.
            support_shots: K, >= 1.
            query_shots: Q, >= 1.
            query_grid: Whether the query inputs are the same even grid for every task, ends included, and not drawn.
            unlabelled_inputs: U, >= 0: inputs after the K support samples whose targets are not a number, so that
                whoever reads one cannot miss it.

        Returns:
            Float32 tensors of shape (count, K + U, features) and (count, Q, features), on the CPU.
        """
        functions = self.sinusoids(first, count)
        support_x = self._between(self.family.x, _Lane.SUPPORT_X, first, count, support_shots)
        if query_grid:
            grid = torch.linspace(*self.family.x, query_shots, dtype=torch.float64).view(1, -1, 1)
            query_x = grid.expand(count, -1, 1)
        else:
            query_x = self._between(self.family.x, _Lane.QUERY_X, first, count, query_shots)
        support = self._corrupted(self._samples(functions, support_x, _Lane.SUPPORT_NOISE, first), first)
        if unlabelled_inputs:
            x = self._between(self.family.x, _Lane.UNLABELLED_X, first, count, unlabelled_inputs)
            inputs = self.family.inputs(functions, x).float()
            support = Samples(
                torch.cat([support.x, inputs], dim=1),
                torch.cat([support.y, torch.full((count, unlabelled_inputs, 1), torch.nan)], dim=1),
            )
        return Task(support, self._samples(functions, query_x, _Lane.QUERY_NOISE, first))

    def _corrupted(self, support: Samples, first: int) -> Samples:
        """Replace the targets of the corrupted slots, as many of them as there are."""
        count, shots, _ = support.y.shape
        slots = min(self.family.corrupted_slots, shots)
        if slots == 0:
            return support
        targets = self._between(_CORRUPTED, _Lane.CORRUPTED_Y, first, count, slots).float()
        return Samples(support.x, torch.cat([targets, support.y[:, slots:]], dim=1))

    def _samples(
        self, functions: Sinusoid, x: Float[Tensor, "count shots 1"], noise_lane: _Lane, first: int
    ) -> Samples:
        count, shots, _ = x.shape
        y = functions(x)
        if self.family.noise_std > 0:
            y = y + self.family.noise_std * torch.special.ndtri(self._uniform(noise_lane, first, count, shots))
        return Samples(self.family.inputs(functions, x).float().contiguous(), y.float().contiguous())

    def _between(
        self, interval: Interval, lane: _Lane, first: int, count: int, shots: int
    ) -> Float[Tensor, "count shots 1"]:
        low, high = interval
        return low + (high - low) * self._uniform(lane, first, count, shots)

    def _uniform(self, lane: _Lane, first: int, count: int, shots: int) -> Float[Tensor, "count shots 1"]:
        """Numbers in the open interval (0, 1): column k comes from a counter range of its own."""
        columns = np.empty((shots, count))
        for shot in range(shots):
            # 256 bits of counter: the lane, the shot, and then 2^128 blocks of four numbers, one per task.
            start = (int(lane) << 192) + (shot << 128) + first // 4
            bits = np.random.Philox(key=self.seed + (_SPLIT_KEYS[self.split] << 64), counter=start)
            raw = bits.random_raw(first % 4 + count)[first % 4 :]
            columns[shot] = ((raw >> 11) + 0.5) * 2.0**-53
        return torch.from_numpy(columns).T.unsqueeze(-1)


class TaskStream(NamedTuple):
    """The meta-batches of a run: S seeds, each with its own list of tasks, B tasks a step."""

    family: SinusoidFamily
    seeds: tuple[int, ...]
    meta_batch_size: int
    support_shots: int
    query_shots: int
    split: Split = "meta-train"
    unlabelled_inputs: int = 0
    """U, as for `TaskList.tasks`."""

    def batch(self, step: int, device: torch.device | str = "cpu") -> Task:
        """Return the meta-batch of one step: support of shape (S, B, K + U, 1), query of shape (S, B, Q, 1)."""
        return next(self.batches(step, step + 1, device))

    def batches(self, first: int, last: int, device: torch.device | str = "cpu") -> Iterator[Task]:
        """Yield the meta-batches of steps first to last - 1.

        Tasks are drawn and copied to the device in blocks of steps, so that both cost next to nothing.
        """
        per_step = self.meta_batch_size * (self.support_shots + self.query_shots + self.unlabelled_inputs)
        block = max(1, min(_BLOCK_SAMPLES_OF_SEED, _BLOCK_SAMPLES // len(self.seeds)) // per_step)
        for start in range(first, last, block):
            steps = min(block, last - start)
            support, query = self._draw(start, steps, device)
            for parts in zip(*(part.unbind() for part in (*support, *query)), strict=True):
                yield Task(Samples(*parts[:2]), Samples(*parts[2:]))

    def _draw(self, first_step: int, steps: int, device: torch.device | str) -> Task:
        """Draw the meta-batches of several steps, with a leading axis of steps."""
        drawn = [
            TaskList(self.family, seed, self.split).tasks(
                first_step * self.meta_batch_size,
                steps * self.meta_batch_size,
                support_shots=self.support_shots,
                query_shots=self.query_shots,
                unlabelled_inputs=self.unlabelled_inputs,
            )
            for seed in self.seeds
        ]

        def steps_first(seeds: tuple[Tensor, ...]) -> Tensor:
            stacked = torch.stack(seeds)  # (S, steps * B, K, 1)
            by_step = stacked.view(len(self.seeds), steps, self.meta_batch_size, *stacked.shape[2:])
            return by_step.transpose(0, 1).contiguous().to(device)

        support, query = zip(*drawn, strict=True)
        return Task(
            Samples(*map(steps_first, zip(*support, strict=True))),
            Samples(*map(steps_first, zip(*query, strict=True))),
        )
