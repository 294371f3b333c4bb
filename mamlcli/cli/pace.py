"""How fast work goes and how long it will still take, told once there is something to tell it from."""

from collections import deque

# A rate is of so many of the last seconds, and is told from no less than the other number.
_WINDOW_S, _LEAST_S = 30.0, 1.0
_STORED_EVERY_S = 0.25


class Pace:
    """The rate of one piece of work over its last half minute.

    What comes before the first report counts for nothing: of a training that is loading and compiling.
    """

    def __init__(self) -> None:
        self.seen: deque[tuple[float, int]] = deque()
        self.last = (0.0, 0)

    def add(self, at_s: float, done: int) -> None:
        """Hear how many parts were done at a moment."""
        self.last = (at_s, done)
        if not self.seen or at_s - self.seen[-1][0] >= _STORED_EVERY_S:
            self.seen.append(self.last)
        while len(self.seen) > 2 and at_s - self.seen[1][0] >= _WINDOW_S:
            self.seen.popleft()

    def rate(self) -> float | None:
        """Parts a second; None as long as nobody can tell."""
        (began, first), (at_s, done) = self.seen[0], self.last
        return (done - first) / (at_s - began) if at_s - began >= _LEAST_S and done > first else None

    def speed(self) -> str:
        """The rate in words; empty as long as nobody can tell."""
        rate = self.rate()
        return "" if rate is None else f"{rate:.{0 if rate >= 10 else 1}f} steps/s"

    def left(self, total: int) -> str:
        """The time until so many parts are done, in words; empty as long as nobody can tell, and at the end."""
        rate, to_do = self.rate(), total - self.last[1]
        return f"{in_words(to_do / rate)} left" if rate and to_do > 0 else ""


def in_words(seconds: float) -> str:
    """A time as exact as an estimate is.

    >>> [in_words(seconds) for seconds in (0.2, 42.4, 200, 7300, 400_000)]
    ['1 s', '42 s', '3 min', '2 h 2 min', '4 d 15 h']
    """
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


class Smoothed:
    """A moving mean of a loss, over about its last ten reports."""

    _KEPT = 0.9

    def __init__(self) -> None:
        self.total = self.weight = 0.0
        self.is_finite = True

    def add(self, value: float | None) -> None:
        """Hear a loss; one that is not finite is said as it is, and forgotten."""
        self.is_finite = value is not None
        if value is not None:
            self.total, self.weight = self._KEPT * self.total + value, self._KEPT * self.weight + 1

    def shown(self, digits: int) -> str:
        """The mean in so many digits."""
        return f"{self.total / self.weight:.{digits}f}" if self.is_finite and self.weight else "n/a"
