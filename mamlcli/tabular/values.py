"""Texts to numbers, a column of a block at a time; and what is wrong with those that are none."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mamlcli.tabular.problems import quoted

FLOAT32_END = 3.4028235677973366e38
"""The least number that float32 rounds to infinity: its largest and half a step more."""

_MISSING = frozenset({"", "na", "n/a", "#n/a", "nan", "null", "none", "?", "-", "--"})
_WITH_COMMA = re.compile(r"[+-]?(\d[\d.,' ]*)?,\d[\d.,]*([eE][+-]?\d+)?")
_LONGEST_NUMBER = 64


class Fault(NamedTuple):
    """Why a value is no number to train on."""

    kind: str
    says: str
    remedy: str


_IS_MISSING = Fault("missing", "missing", "fill in what is missing, or leave out its rows")


def to_numbers(texts: Sequence[str]) -> NDArray[np.float64] | None:
    """Turn texts into finite numbers within float32; None where one of them is anything else.

    A number is what Python's `float` reads, but without underscores.
    """
    try:
        values = np.array(texts, np.float64)
    except ValueError:
        return None
    return None if is_out(values).any() or "_" in "".join(texts) else values


def is_out(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which values are not finite, or are beyond float32."""
    return ~(np.abs(values) < FLOAT32_END)


def text_fault(text: str) -> Fault | None:
    """What is wrong with a text that should be a number; None if nothing is."""
    text = text.strip()
    if text.casefold() in _MISSING:
        return _IS_MISSING
    try:
        value = float(text)
    except ValueError:
        # The pattern tries every comma, so that it is for short texts alone.
        if len(text) < _LONGEST_NUMBER and _WITH_COMMA.fullmatch(text):
            return Fault("comma", f"{quoted(text)} is written with a comma", "write numbers like 1234.5")
        return Fault("text", f"{quoted(text)} is not a number", "an input or a target is a number in every row")
    if "_" in text:
        return Fault("underscore", f"{quoted(text)} is not a number: it has a '_'", "write numbers without '_'")
    return number_fault(value, text)


def number_fault(value: float, written: str) -> Fault | None:
    """What is wrong with a number that the file holds; None if nothing is.

    Args:
        value: The number.
        written: How the file says it.
    """
    if math.isnan(value):
        return _IS_MISSING
    if abs(value) < FLOAT32_END:
        return None
    if not any(letter.isdigit() for letter in written):
        return Fault("infinite", f"{quoted(written)} is infinite", "leave out rows with infinite values")
    return Fault(
        "large", f"{quoted(written)} is beyond float32, which ends at 3.4e38", "give the column in a larger unit"
    )


def gathered(faults: Sequence[tuple[int, Fault]], num_values: int) -> tuple[list[tuple[int, Fault]], bool]:
    """Say once what is wrong with most values of a column; and tell whether it was.

    Args:
        faults: The row and what is wrong there, of a column within a block.
        num_values: How many values the column has in the block.
    """
    kind, count = Counter(fault.kind for _, fault in faults).most_common(1)[0]
    if 2 * count <= num_values or count == 1:
        return list(faults), False
    row, first = next((row, fault) for row, fault in faults if fault.kind == kind)
    if kind == "text":
        says = f"{first.says}, nor are most values of this column; text cannot be an input or a target"
        remedy = "write what a text says as numbers, like a column of 0 and 1 for each of its values"
        return [(row, Fault(kind, says, remedy))], True
    return [(row, first._replace(says=f"{first.says}, as are most values of this column"))], True
