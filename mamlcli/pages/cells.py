"""Values to cells and words."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from mamlcli.pages.blocks import Cell, Tone


def number(value: float | None) -> Cell:
    """A number as a reader wants it; n/a for what is not finite.

    >>> [number(value).text for value in (0.25, 0.0, -1.5e-7, 3, None)]
    ['0.2500', '0', '-1.50e-07', '3', 'n/a']
    """
    return Cell(shown(value), None if value is None else float(value))


def shown(value: float | None) -> str:
    """A number to four decimals, or to three digits where that would hide it."""
    if value is None:
        return "n/a"
    if isinstance(value, int) or value == 0:
        return f"{value:,.0f}"
    return f"{value:.2e}" if abs(value) < 1e-3 or abs(value) >= 1e5 else f"{value:.4f}"


def with_interval(mean: float | None, half: float | None) -> Cell:
    """A mean and the half-width of its interval, which sorts by the mean.

    >>> with_interval(0.5, 0.02)
    Cell(text='0.5000 ± 0.0200', order=0.5, tone='plain')
    """
    text = shown(mean) if half is None or mean is None else f"{shown(mean)} ± {shown(half)}"
    return Cell(text, mean)


def short(value: float | None, tone: Tone = "plain") -> Cell:
    """A number in a unit of the user's, to three digits or to whole ones."""
    text = "n/a" if value is None else f"{value:.0f}" if 100 <= abs(value) < 1e6 else f"{value:.3g}"
    return Cell(text, value, tone)


def word(value: Any, tone: Tone = "plain") -> Cell:
    """A text, or a whole number that names something."""
    if value is None:
        return Cell("", None, tone)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return Cell(str(value), value if is_number else "", tone)


def plain(value: Any) -> str:
    """A value of a config as YAML has it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {plain(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(plain, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def count(number_of: int, what: str) -> str:
    """A number of things.

    >>> count(1, "seed"), count(5000, "meta-update")
    ('1 seed', '5,000 meta-updates')
    """
    return f"{number_of:,} {what}{'s' * (number_of != 1)}"


def duration(seconds: float) -> str:
    """A length of time.

    >>> [duration(seconds) for seconds in (0.42, 75, 7300)]
    ['0.4 s', '1 min 15 s', '2 h 1 min']
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size(num_bytes: int) -> str:
    """A size of a file.

    >>> [size(num_bytes) for num_bytes in (12, 2048, 1_572_864)]
    ['12 B', '2.0 KiB', '1.5 MiB']
    """
    for unit, one in (("MiB", 2**20), ("KiB", 2**10)):
        if num_bytes >= one:
            return f"{num_bytes / one:.1f} {unit}"
    return f"{num_bytes} B"


def moment(text: Any) -> str:
    """A time of a run.json, to the second.

    >>> moment("2026-01-02T03:04:05.678901+00:00")
    '2026-01-02 03:04:05 UTC'
    """
    try:
        return f"{datetime.fromisoformat(str(text)):%Y-%m-%d %H:%M:%S} UTC"
    except ValueError:
        return str(text or "")


def seeds_in_words(seeds: Sequence[int]) -> str:
    """Seeds as they are written.

    >>> seeds_in_words([0, 1, 2, 3]), seeds_in_words([4]), seeds_in_words([0, 3])
    ('0-3', '4', '0, 3')
    """
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"{seeds[0]}-{seeds[-1]}"
    return ", ".join(map(str, seeds))
