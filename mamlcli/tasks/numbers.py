"""Random numbers as a function of a counter: who asks for which, and when, changes none of them.

They come from NumPy's Philox, keyed by a seed and a split, so that no generator has a history and a resumed run needs
no saved one.
"""

from collections.abc import Iterator
from enum import IntEnum
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt64
from numpy.typing import NDArray
from torch import Tensor

Split: TypeAlias = Literal["meta-train", "meta-validation", "meta-test"]
Interval: TypeAlias = tuple[float, float]

SPLITS: tuple[Split, ...] = ("meta-train", "meta-validation", "meta-test")
# Part of the definition of the data: another key is another stream.
_SPLIT_KEYS: dict[str, int] = {"meta-train": 0, "meta-test": 1, "meta-validation": 2}


class Lane(IntEnum):
    """Which quantity of a task a random number is for. Part of the definition of the data.

    Lanes 0 to 2 and from 16 on are those of a function's parameters; see `parameter_lane`.
    """

    SUPPORT_X = 3
    QUERY_X = 4
    SUPPORT_NOISE = 5
    QUERY_NOISE = 6
    CORRUPTED_Y = 7
    UNLABELLED_X = 8
    KIND = 9


def split_key(split: Split) -> int:
    """The number of a split in what is hashed and drawn."""
    return _SPLIT_KEYS[split]


def parameter_lane(index: int) -> int:
    """The lane of a family's parameter by its place, from 0.

    >>> [parameter_lane(index) for index in range(5)]
    [0, 1, 2, 16, 17]
    """
    return index if index < 3 else 13 + index


class Chosen(NamedTuple):
    """Some of the tasks that follow each other."""

    places: Int64[np.ndarray, " tasks"]
    """Where they are, counted from the first of all, in rising order."""
    span: int
    """How many there are in all."""
    drawn: dict[tuple[int, int], UInt64[np.ndarray, " all"]]
    """What was drawn for all by lane and column, for others who are chosen from the same: it is filled on the way."""


class Numbers(NamedTuple):
    """The random numbers of tasks of (seed, split): of first to first + num_tasks - 1, or of some that are chosen."""

    seed: int
    split: Split
    first: int
    num_tasks: int
    chosen: Chosen | None = None
    """Which of those after the first; None where they follow each other."""

    def some(
        self,
        places: Int64[np.ndarray, " chosen"],
        drawn: dict[tuple[int, int], UInt64[np.ndarray, " all"]] | None = None,
    ) -> "Numbers":
        """The numbers of some of these tasks alone.

        Args:
            places: Where they are among these, in rising order.
            drawn: What is drawn is kept here, for others who ask for some of these tasks.
        """
        among = places if self.chosen is None else self.chosen.places[places]
        return self._replace(num_tasks=len(places), chosen=Chosen(among, self.span, {} if drawn is None else drawn))

    @property
    def span(self) -> int:
        """How many tasks follow each other, of which these are all or some."""
        return self.num_tasks if self.chosen is None else self.chosen.span

    def of_these(self, values: NDArray[Any]) -> NDArray[Any]:
        """Those of values for all tasks that are for these."""
        return values if self.chosen is None else values[self.chosen.places]

    def _raw(self, lane: int, columns: int) -> Iterator[UInt64[np.ndarray, " tasks"]]:
        """Random bits for each column in turn."""
        kept = {} if self.chosen is None else self.chosen.drawn
        # 256 bits of counter: the lane, the column, and then 2^128 blocks of four numbers, one per task. One generator
        # goes to each column: to make one takes as long as two thousand numbers.
        first, skipped = divmod(self.first, 4)
        bits, at = np.random.Philox(key=self.seed + (split_key(self.split) << 64), counter=lane << 192), 0
        for column in range(columns):
            drawn = kept.get((lane, column))
            if drawn is None:
                start, count = (column << 128) + first, skipped + self.span
                bits.advance(start - at)
                drawn, at = bits.random_raw(count)[skipped:], start - -count // 4
                if self.chosen is not None:
                    kept[lane, column] = drawn
            yield self.of_these(drawn)

    def uniform(self, lane: int, columns: int) -> Float[Tensor, "tasks columns"]:
        """Numbers in the open interval (0, 1), in float64: column k comes from a counter range of its own.

        Args:
            lane: What they are for.
            columns: How many for each task; the first ones do not depend on how many are asked for.
        """
        values = np.empty((columns, self.num_tasks))
        for column, raw in zip(values, self._raw(int(lane), columns), strict=True):
            column[:] = raw >> 11
        values += 0.5
        values *= 2.0**-53
        return torch.from_numpy(values).T

    def between(self, interval: Interval, lane: int, columns: int) -> Float[Tensor, "tasks columns"]:
        """Numbers uniform in [low, high], in float64."""
        low, high = interval
        return self.uniform(lane, columns).mul_(high - low).add_(low)

    def normal(self, lane: int, columns: int) -> Float[Tensor, "tasks columns"]:
        """Standard normal numbers, in float64."""
        drawn: Tensor = torch.special.ndtri(self.uniform(lane, columns))
        return drawn


def hashed(*words: NDArray[np.uint64] | int) -> NDArray[np.uint64]:
    """Mix 64-bit words, which broadcast, into numbers that are uniform in 0 to 2^64 - 1, word after word.

    The finaliser of SplitMix64 (Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195) after each.
    """
    mixed: NDArray[np.uint64] = np.zeros((), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for word in words:
            mixed = mixed ^ np.asarray(word, dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ mixed >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ mixed >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
            mixed = mixed ^ mixed >> np.uint64(31)
    return mixed


def visits(numbers: Numbers, keys: UInt64[np.ndarray, " pool"]) -> Int64[np.ndarray, " tasks"]:
    """Say which task of a pool each place of an endless list is: all of them in a new order, again and again.

    Args:
        numbers: Which places.
        keys: A number of each task that is its own, like a hash of its name: where it comes in an order depends on it
            alone, and not on its place in the pool.

    Returns:
        The index into the pool of each place.
    """
    first, last = numbers.first, numbers.first + numbers.span
    rounds = np.arange(first // len(keys), -(-last // len(keys)), dtype=np.uint64)
    ranks = hashed(numbers.seed, split_key(numbers.split), rounds[:, None], keys[None, :])
    order = np.argsort(ranks, axis=1, kind="stable").ravel()
    skipped = first - int(rounds[0]) * len(keys)
    return numbers.of_these(order[skipped : skipped + numbers.span])
