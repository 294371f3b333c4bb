"""How much memory this process can still take."""

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# A limit of a control group from here on is none.
_NO_LIMIT = 2**62


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes that this process can still take of the host's memory; None where the system does not tell.

    The least of what the machine, each control group around the process and the limit on its addresses leave. Elsewhere
    than on Linux, all memory that the machine has.

    Args:
        root: Where /proc and /sys are.
    """
    left = [*_machine(root), *_control_groups(root), *_address_space(root)]
    if not left and sys.platform != "win32":
        with suppress(ValueError, OSError):
            left = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    return max(0, min(left)) if left else None


def _machine(root: Path) -> Iterator[int]:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            yield 1024 * int(line.split()[1])


def _control_groups(root: Path) -> Iterator[int]:
    """What is left in the groups of the process and in those around them, of version 2 and of version 1.

    In a container the path may be that of the host, and the files lie where the group's own root is.
    """
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mount, limit, usage = root / "sys/fs/cgroup", "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            mount, limit, usage = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        group = Path(path.strip("/"))
        for folder in {mount / group, *(mount / parent for parent in group.parents), mount}:
            most, used = _number(folder / limit), _number(folder / usage)
            if most is not None and used is not None and most < _NO_LIMIT:
                yield most - used + _reclaimable(folder)


def _reclaimable(group: Path) -> int:
    """What a group holds of files that were read, which the kernel gives up for others."""
    values = dict(line.split()[:2] for line in _lines(group / "memory.stat") if len(line.split()) == 2)
    return int(values.get("total_inactive_file", values.get("inactive_file", 0)))


def _address_space(root: Path) -> Iterator[int]:
    if sys.platform == "win32":
        return
    import resource

    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    used = next((int(line.split()[0]) for line in _lines(root / "proc/self/statm")), 0)
    if most != resource.RLIM_INFINITY:
        yield most - used * os.sysconf("SC_PAGE_SIZE")


def _number(path: Path) -> int | None:
    """The number in a file; None for "max", or where there is none."""
    text = next(iter(_lines(path)), "")
    return int(text) if text.strip().isdigit() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
