"""The names of many tasks in a few arrays: as texts they would take as much memory as the numbers of the tasks."""

from collections.abc import Sequence
from operator import eq
from typing import overload

import numpy as np
from jaxtyping import Int64, UInt8


class Names(Sequence[str]):
    """Texts that are made when they are looked at; equal to any sequence of the same ones."""

    def __init__(
        self,
        letters: UInt8[np.ndarray, " bytes"],
        starts: Int64[np.ndarray, " bounds"],
        places: Int64[np.ndarray, " names"] | None = None,
    ) -> None:
        """Take up arrays, as `named` makes them.

        Args:
            letters: Texts in UTF-8, one after the other.
            starts: Where each of them begins, and where the last one ends.
            places: Which of them these are, in their order; None for all.
        """
        self._letters, self._starts = letters, starts
        self._places = range(len(starts) - 1) if places is None else places

    def some(self, places: Int64[np.ndarray, " chosen"]) -> "Names":
        """Those at these places; the letters are not copied, nor are places among all."""
        among = places if isinstance(self._places, range) else self._places[places]
        return Names(self._letters, self._starts, among)

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "Names": ...
    def __getitem__(self, index: int | slice) -> "str | Names":
        if isinstance(index, slice):
            return Names(self._letters, self._starts, np.asarray(self._places[index], dtype=np.int64))
        place = self._places[index]
        return self._letters[self._starts[place] : self._starts[place + 1]].tobytes().decode("utf-8", "surrogatepass")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]


def named(texts: Sequence[str]) -> Names:
    """The texts, in their order."""
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    starts = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    return Names(np.frombuffer(b"".join(encoded), np.uint8), starts)
