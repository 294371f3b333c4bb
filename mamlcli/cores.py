"""The CPU cores that a process may use, and how many of them others are using."""

import math
import os
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_PROC_STAT, _CPUINFO = Path("/proc/stat"), Path("/proc/cpuinfo")
_CGROUPS, _OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
if sys.platform != "win32":
    _TICKS_PER_S = os.sysconf("SC_CLK_TCK")
else:
    _TICKS_PER_S = 100  # of which nothing is counted there


class Usage(NamedTuple):
    """What the usable cores have done up to a moment; all in seconds."""

    at: float
    busy: float
    """Over all usable cores, for anyone."""
    own: float
    """By the threads of this process."""


def usable_cores() -> int:
    """How many cores this process may use: of those it is bound to, as many as its container pays for.

    Processes that a launcher has started on one machine have an equal share each.
    """
    return max(1, min(len(_bound_to()), *map(math.ceil, _quotas()), sys.maxsize) // processes_here())


def let_waiting_threads_sleep() -> None:
    """Have threads of torch that wait for each other sleep soon; too late once torch is imported.

    By itself GNU's OpenMP has them spin for milliseconds, on a core that another process wants: a step of a graph on
    two threads took 17 to 380 ms beside two busy processes, and takes 10 to 16 where they spin for a thousand turns,
    some tens of microseconds. On idle cores that costs 4%; not to spin at all makes steps three times as long.
    """
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = "1000"


def processes_here() -> int:
    """How many processes a launcher has started on this machine; one without a launcher."""
    here = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return max(1, int(here)) if here.isdecimal() else 1


def cpu_name() -> str:
    """What the processor is called; its architecture where the system says no more."""
    try:
        lines = _CPUINFO.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def used_by_others(before: Usage, now: Usage) -> float:
    """How many of the usable cores other processes used between two moments, on average; at least 0."""
    others = (now.busy - before.busy) - (now.own - before.own)
    return max(0.0, others / (now.at - before.at)) if now.at > before.at else 0.0


def read_usage() -> Usage | None:
    """Read what the usable cores have done so far; None where the system does not say."""
    try:
        lines = [line.split() for line in _PROC_STAT.read_text("ascii").splitlines()]
        ticks = {int(name[3:]): map(int, numbers) for name, *numbers in lines if name[:3] == "cpu" and name != "cpu"}
        busy = sum(_busy(numbers) for core, numbers in ticks.items() if core in _bound_to())
    except (OSError, ValueError):
        return None
    return Usage(time.monotonic(), busy / _TICKS_PER_S, time.process_time()) if busy else None


def _busy(ticks: Iterator[int]) -> int:
    """All but idle time and time of waiting for a disk; also what another virtual machine took."""
    user, nice, system, _, _, irq, softirq, steal = [*ticks][:8]
    return user + nice + system + irq + softirq + steal


def _bound_to() -> set[int]:
    if sys.platform != "darwin" and sys.platform != "win32" and hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _quotas() -> Iterator[float]:
    """The cores that each control group around this process may use, where it is limited."""
    try:
        groups = _OWN_CGROUP.read_text("utf-8").splitlines()
        mine = [line.split(":", 2)[2] for line in groups if line.startswith("0::")]
    except (OSError, ValueError):
        mine = []
    path = Path(mine[0]) if mine else Path("/")
    for group in (path, *path.parents):
        yield from _quota(_CGROUPS / str(group).lstrip("/") / "cpu.max")
    yield from _quota(_CGROUPS / "cpu" / "cpu.cfs_quota_us", _CGROUPS / "cpu" / "cpu.cfs_period_us")


def _quota(*files: Path) -> Iterator[float]:
    try:
        quota, period = " ".join(file.read_text("ascii") for file in files).split()
        if int(quota) > 0:  # -1: as many as there are
            yield int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # "max" says the same
        return
