"""How many CPU threads work, where the config leaves it open: as many as pay off and as others leave cores for."""

import time
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import torch

from mamlcli.compute.engine import using_threads
from mamlcli.config.experiment import Config
from mamlcli.cores import read_usage, usable_cores, used_by_others
from mamlcli.setup import Reporter

# Long enough to see what others do at all: the system counts in hundredths of a second.
_FIRST_LOOK_S = 0.1
_LOOK_EVERY_S = 0.5
# So much of a core is used by what always runs somewhere.
_BACKGROUND = 0.3


class Threads:
    """Computes with as many threads as the config says while it is entered.

    `auto` begins with no more than there are idle cores, and gives way for good once others want them. Threads wait
    for each other many times in a meta-step; where one of them has no core, they wait for as long as the system lets
    another process run. A chain of 100 meta-steps took 9.6 s on one thread and 57.6 s on two beside a busy process,
    and an idle second core saves less than half: to have too few threads costs little, too many cost manyfold.

    It never takes more threads again, so that a run does not change back and forth. The fused kernel gives the same
    bits on any number of threads; torch does not promise it. A graph of torch.compile keeps the number that it was
    compiled for.
    """

    def __init__(self, config: Config, most: int, reporter: Reporter) -> None:
        """Decide.

        Args:
            config: Its `engine.threads` counts.
            most: What `auto` takes where all cores are idle, >= 1.
            reporter: Hears when `auto` gives way.
        """
        self.yields = config.engine.threads == "auto" and most > 1
        self.count = most if config.engine.threads == "auto" else config.engine.threads
        self.reporter = reporter
        self.held = ExitStack()
        self.before = read_usage() if self.yields else None
        if self.yields:
            time.sleep(_FIRST_LOOK_S)
            self.count = self._affordable()
        self.before = None

    def __enter__(self) -> Self:
        self.held.enter_context(using_threads(self.count))
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.held.close()

    def look(self) -> None:
        """Give way if others have wanted the cores since the last look; cheap, and does nothing twice in half a second.

        The first look finds out nothing: what came before it, like a compiler, may have been this program's own.
        """
        if not self.yields or self.count == 1:
            return
        if self.before is None:
            self.before = read_usage()
        elif time.monotonic() - self.before.at >= _LOOK_EVERY_S and (affordable := self._affordable()) < self.count:
            self.reporter.note(f"other processes want the cores: from {self.count} threads to {affordable}")
            self.count = affordable
            torch.set_num_threads(affordable)

    def _affordable(self) -> int:
        """As many threads as have had a core since the last look, of those there are; one if nobody can say."""
        before, self.before = self.before, read_usage()
        if before is None or self.before is None:
            return 1
        free = usable_cores() - used_by_others(before, self.before)
        return max(1, min(self.count, int(free + _BACKGROUND)))
