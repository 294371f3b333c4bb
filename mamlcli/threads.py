"""How many CPU threads work, where the config leaves it open: as many as pay off and as others leave cores for."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Literal, Self

import torch

from mamlcli.allocator import keep_freed_memory
from mamlcli.cores import processes_here, read_usage, usable_cores, used_by_others

_MULTIPLY_ADDS_PER_THREAD = 2_000_000
# Long enough to see what others do at all: the system counts in hundredths of a second.
_FIRST_LOOK_S = 0.1
_LOOK_EVERY_S = 0.5
# So much of a core is used by what always runs somewhere.
_BACKGROUND = 0.3


def resolve_threads(setting: Literal["auto"] | int, *, multiply_adds: int) -> int:
    """Say how many CPU threads are used where all cores are idle.

    Two threads wait for each other several times in a meta-step. Where the step is short and another process
    wants a core, they mostly wait: 3 ms became 13 to 65 ms.

    Args:
        setting: A number, or `auto`: one for each two million multiply-adds of a forward pass over the samples
            that are computed at once, at most one for each core that this process may use.
        multiply_adds: Parameters of one seed times all samples of all seeds.
    """
    if setting != "auto":
        return setting
    return max(1, min(usable_cores(), multiply_adds // _MULTIPLY_ADDS_PER_THREAD))


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Compute with so many threads, without denormal numbers, and as before afterwards; what is freed is kept for good.

    What Adam holds of a unit that has died decays into denormal numbers, which a processor computes with a hundred
    times slower: they were a twentieth of a fused meta-step, and a tenth of one at width 256.
    """
    threads, flushed = torch.get_num_threads(), torch.tensor(1e-40).mul(1).item() == 0
    torch.set_num_threads(count)
    torch.set_flush_denormal(True)
    keep_freed_memory()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(flushed)


class Threads:
    """Computes with as many threads as the config says while it is entered.

    `auto` begins with no more than there are idle cores, and gives way for good once others want them. Threads wait
    for each other many times in a meta-step; where one of them has no core, they wait for as long as the system lets
    another process run. A chain of 100 meta-steps took 9.6 s on one thread and 57.6 s on two beside a busy process,
    and an idle second core saves less than half: to have too few threads costs little, too many cost manyfold.

    It never takes more threads again, so that a run does not change back and forth. The fused kernel gives the same
    bits on any number of threads; torch does not promise it. A graph of torch.compile keeps the number that it was
    compiled for. So the kernel's begin with one, and are more once a look has shown that there are idle cores; those of
    torch look before they begin.
    """

    def __init__(
        self, setting: Literal["auto"] | int, most: int, note: Callable[[str], None], *, are_torchs: bool = True
    ) -> None:
        """Decide.

        Args:
            setting: `engine.threads` of the config.
            most: What `auto` takes where all cores are idle, >= 1.
            note: Hears when `auto` gives way.
            are_torchs: Whether they are torch's own; those of others are asked for by `count`, and torch has one.
        """
        self.yields = setting == "auto" and most > 1
        self.most = most if setting == "auto" else setting
        self.note, self.are_torchs = note, are_torchs
        self.held = ExitStack()
        self.before = None
        if self.yields and are_torchs:
            self.before = read_usage()
            time.sleep(_FIRST_LOOK_S)
            self.most = self._affordable()
            self.before = None
        self.count = self.most if are_torchs or not self.yields else 1
        """How many compute now."""

    def __enter__(self) -> Self:
        self.held.enter_context(using_threads(self.count if self.are_torchs else 1))
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.held.close()

    def look(self) -> None:
        """Give way if others have wanted the cores since the last look; cheap, and does nothing twice in half a second.

        The first look finds out nothing: what came before it, like a compiler, may have been this program's own.
        """
        if not self.yields or self.most == 1:
            return
        if self.before is None:
            self.before = read_usage()
        elif time.monotonic() - self.before.at >= (_LOOK_EVERY_S if self.count == self.most else _FIRST_LOOK_S):
            self.most = self._affordable()
            if self.most < self.count:
                self.note(f"other processes want the cores: from {self.count} threads to {self.most}")
            self.count = self.most
            if self.are_torchs:
                torch.set_num_threads(self.count)

    def _affordable(self) -> int:
        """As many threads as have had a core since the last look, of those there are; one if nobody can say."""
        before, self.before = self.before, read_usage()
        if before is None or self.before is None:
            return 1
        # Of all processes of a launcher on this machine, which each see the others among those who use the cores.
        free = usable_cores() * processes_here() - used_by_others(before, self.before)
        return max(1, min(self.most, int(free + _BACKGROUND)))
