"""Data that tasks are made from, read once: for all experiments that hold them, and on each machine."""

from collections.abc import Callable, Hashable
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from mamlcli.allocator import give_back_freed_memory
from mamlcli.ranks import Ranks
from mamlcli.registry import reader
from mamlcli.section import TasksSection
from mamlcli.sharing import shared_on_machine


class Data:
    """What a family is built from beside its section."""

    def __init__(self, value: Any) -> None:
        self.value = value


# What experiments of this process hold, by what it was read for.
_HELD: WeakValueDictionary[Hashable, Data] = WeakValueDictionary()


def read_data(section: TasksSection) -> Data | None:
    """Read the data of a family, or find what an experiment of this process holds of the same files as they are now.

    Returns:
        None where a section is all that its family is built from.
    """
    read = reader("tasks", section)
    if read is None:
        return None
    key = _key(section)  # of the files as they are before they are read
    found = _HELD.get(key)
    return _hold(key, read()) if found is None else found


def share_data(section: TasksSection, ranks: Ranks, note: Callable[[str], object]) -> Data | None:
    """The same in all processes at once: one of each machine reads, and all of it have one copy in memory.

    All processes call it, with the same section.
    """
    read = reader("tasks", section)
    if read is None:
        return None
    key = _key(section)
    held = _HELD.get(key)
    if held is not None:
        read = partial(getattr, held, "value")
    if not all(ranks.all_told(held is not None)):
        shared = shared_on_machine(read, ranks, partial(_say_why, note))
        # What experiments of this process hold is what the next one finds.
        return _hold(key, shared) if held is None else held
    return held


def _hold(key: Hashable, value: Any) -> Data:
    give_back_freed_memory()  # a file takes several times the memory of what it is made into
    found = _HELD[key] = Data(value)
    return found


def _say_why(note: Callable[[str], object], problem: str) -> None:
    note(f"warning: each process reads and holds the data of the tasks for itself: {problem}")


def _key(section: TasksSection) -> Hashable:
    return type(section), repr(section), *(_version(Path(getattr(section, name))) for name in section.place_keys)


def _version(path: Path) -> tuple[int, ...]:
    """What changes with the content of a file; nothing where there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
