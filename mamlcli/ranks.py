"""Processes that a launcher has started for one command or program: who they are, and what they tell each other.

Without a launcher there is one, which tells nobody anything, and nothing of torch.distributed is touched. Nobody waits
for one that has ended: its connections close with it, and what waits for it raises.
"""

import atexit
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from mamlcli.errors import LostRankError, MamlError
from mamlcli.interrupts import SIGNALS, StopRequest

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import ProcessGroup
    from torch.distributed.distributed_c10d import Store

T = TypeVar("T")

_LAUNCHED_BY = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# Of a process that lives and says nothing; the longest that the first one may measure, draw and write alone.
_LONGEST = timedelta(minutes=30)
# How long one that has lost the others looks for what one of them had to say, and the first one waits for the others.
_LAST_WORDS_S = 5.0
# How long the others wait for the first one, which draws what there is before it ends.
_LAST_FIGURE_S = 20.0
_WORDS = "mamlcli/ended"


class Place(NamedTuple):
    """Where a process stands among those of a launcher."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether it is the one that writes and speaks."""
        return self.rank == 0


def place() -> Place:
    """What the launcher's environment says; a single one where it says nothing that can be."""
    said = [os.environ.get(name, "") for name in _LAUNCHED_BY]
    if not all(said) or not (said[0].isdecimal() and said[1].isdecimal()):
        return Place()
    found = Place(int(said[0]), int(said[1]))
    return found if found.rank < found.size else Place()


def without_launcher(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment for a process that is to work by itself."""
    launchers = (*_LAUNCHED_BY, "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    return {name: value for name, value in environment.items() if name not in launchers}


class Ranks:
    """The processes that work on one thing, as one of them sees them.

    All of them call the methods that talk, in the same order and with the same shapes, and are `connected` meanwhile.
    """

    def __init__(self, stop: StopRequest, among: Place | None = None) -> None:
        """Begin.

        Args:
            stop: What this process hears of signals.
            among: Where it stands; as the launcher says if None. `Place()` works alone, whoever else was launched.
        """
        self.rank, self.size = among or place()
        self.heard = stop
        self.stop = stop if self.size == 1 else StopRequest()
        """What all have agreed on: a signal counts once all know of it, so that all end after the same step."""
        self._worked_s = 0.0

    @property
    def is_first(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    def clock(self) -> float:
        """Seconds, the same in all processes where there are several: those that blocks took the slowest of them."""
        return time.perf_counter() if self.size == 1 else self._worked_s

    def share_of(self, count: int, rank: int | None = None) -> range:
        """Which of so many things are this process's, or a rank's; shares differ by one at most, and may be empty."""
        rank = self.rank if rank is None else rank
        return range(rank * count // self.size, (rank + 1) * count // self.size)

    def lead(self, command: Callable[[], T]) -> T:
        """Do a command in the first process; the others do what it asks of them meanwhile. All return what it does."""
        if self.is_first:
            found = command()
            self.told((None, found))
            return found
        with self.heard:
            while True:
                work, said = self.told()
                if work is None:
                    returned: T = said
                    return returned
                work(self, *said)

    def ask(self, work: Callable[..., object], *said: object) -> None:
        """Have the others do a piece of a command, of which the first does its own part next.

        Args:
            work: A function of a module, which is called with these processes.
            *said: And with this, which can be pickled.
        """
        self.told((work, said))

    def told(self, value: Any = None) -> Any:
        """What the first process says, in all of them."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        box = [value]
        _talk(lambda: dist.broadcast_object_list(box, src=0, group=_LINE.group))
        return box[0]

    def add_up(self, values: "Tensor") -> None:
        """Put the sum over processes in the place of values of one dimension, and agree on signals meanwhile."""
        if self.size == 1:
            return
        import torch
        import torch.distributed as dist

        summed = torch.cat([values, values.new_tensor([float(number == self._asked) for number in SIGNALS])])
        _talk(lambda: dist.all_reduce(summed, group=_LINE.group))
        values.copy_(summed[: len(values)])
        counts = summed[len(values) :].tolist()
        self._agree_on(max((number for number, count in zip(SIGNALS, counts, strict=True) if count), default=0))

    def meet(self, *numbers: int, worked_s: float = 0.0) -> list[int]:
        """Wait for all, and agree on signals.

        Args:
            numbers: As many in each process.
            worked_s: What this process has worked since they met last.

        Returns:
            The least of each number.
        """
        if self.size == 1:
            return list(numbers)
        import torch

        own = torch.tensor([*numbers, -self._asked, -int(1e6 * worked_s)])
        said = torch.stack(self._from_all(own)).amin(dim=0).tolist()
        self._agree_on(-said[-2])
        self._worked_s -= said[-1] / 1e6
        return said[:-2]

    def all_told(self, value: T) -> list[T]:
        """What each process says, in all of them; they agree on signals meanwhile."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        found: list[Any] = [None] * self.size
        _talk(lambda: dist.all_gather_object(found, (value, self._asked), group=_LINE.group))
        self._agree_on(max(asked for _, asked in found))
        return [value for value, _ in found]

    def exchange_rows(self, tensors: "Sequence[Tensor]") -> None:
        """Fill in the rows that other processes have computed, bit by bit as they are.

        Args:
            tensors: Each with as many rows as the others, of which those of `share_of` are this process's.
        """
        if self.size == 1:
            return
        import torch

        count = len(tensors[0])
        shares = [self.share_of(count, rank) for rank in range(self.size)]
        packed = torch.cat([_bytes_of(tensor, shares[self.rank]) for tensor in tensors], dim=1)
        room = packed.new_zeros(max(map(len, shares)), packed.shape[1])
        room[: len(packed)] = packed
        widths = [tensor[0].numel() * tensor.element_size() for tensor in tensors]
        for share, found in zip(shares, self._from_all(room), strict=True):
            for tensor, part in zip(tensors, torch.split(found[: len(share)], widths, dim=1), strict=True):
                rows = tensor[share.start : share.stop]
                values = tensor.new_empty(len(share), tensor[0].numel())
                values.view(torch.uint8).copy_(part)
                rows.copy_(values.view(rows.shape))

    def _from_all(self, values: "Tensor") -> "list[Tensor]":
        import torch
        import torch.distributed as dist

        found = [torch.empty_like(values) for _ in range(self.size)]
        _talk(lambda: dist.all_gather(found, values, group=_LINE.group))
        return found

    @property
    def _asked(self) -> int:
        """The signal that this process has heard, 0 for none; what a program has made up counts as the first."""
        number = self.heard.signal_number
        return 0 if number is None else number if number in SIGNALS else SIGNALS[0]

    def _agree_on(self, signal_number: int) -> None:
        if signal_number and self.stop.signal_number is None:
            self.stop.ask(signal_number)


def _bytes_of(tensor: "Tensor", rows: range) -> "Tensor":
    """Some of its rows as bytes, (rows, bytes)."""
    import torch

    # Made anew: what has one column may have any stride, and is contiguous then too.
    own = tensor.new_empty(len(rows), tensor[0].numel())
    own.copy_(tensor[rows.start : rows.stop].reshape(own.shape))
    return own.view(torch.uint8)


class _Line:
    """What this process talks through to the others of its launcher."""

    def __init__(self) -> None:
        self.is_held = False
        """Whether what is called now is within `connected`."""
        self.store: Store | None = None
        """Where processes leave words for each other, once they have met; it outlives the connections."""
        self.group: ProcessGroup | None = None
        """Its own where the launcher has connected the processes already; None for torch's default one."""
        self._world: ProcessGroup | None = None
        self._times = 0

    def open(self) -> None:
        """Connect with the others, if that was not done before."""
        import torch.distributed as dist

        if self._world is None or dist.group.WORLD is not self._world:
            _talk(self._connect)
            self._world = dist.group.WORLD
            atexit.register(self.close)

    def _connect(self) -> None:
        import torch
        import torch.distributed as dist
        from torch.distributed.distributed_c10d import PrefixStore
        from torch.distributed.rendezvous import rendezvous

        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        found, rank, size = next(rendezvous("env://", timeout=_LONGEST))
        # A launcher that begins again may keep what the processes before have left in its store.
        again, self._times = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), self._times + 1
        self.store = PrefixStore(f"mamlcli/{again}/{self._times}", found)
        if dist.is_initialized():  # which device is whose is the launcher's business too
            self.group = dist.new_group(backend=backend, timeout=_LONGEST)
            return
        self.group = None
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        dist.init_process_group(backend, store=self.store, rank=rank, world_size=size, timeout=_LONGEST)

    def close(self) -> None:
        """End the connections, and with them the waiting of the others."""
        import torch.distributed as dist

        if self._world is not None and dist.group.WORLD is self._world:
            with suppress(RuntimeError, ValueError):
                dist.destroy_process_group(self.group)
        self._world = self.group = None


# In a process there is one launcher.
_LINE = _Line()


def led(command: Callable[[Ranks], T], stop: StopRequest | None) -> T:
    """Do a command with all processes of a launcher, or alone where there is none; see `Ranks.lead`."""
    with connected():
        ranks = Ranks(stop or StopRequest())
        return ranks.lead(lambda: command(ranks))


@contextmanager
def connected(*, tells: bool = True) -> Iterator[None]:
    """Connect with the other processes of the launcher, if there are any; gloo talks for CPUs, nccl for GPUs.

    They stay connected for as long as the process lives; but an error that leaves this context in one process ends the
    others' waiting: they raise `LostRankError`. Within another such context this one does nothing.

    Args:
        tells: Whether to say to the others what that error was, and to end with them; not where `agreed_end` will.

    Raises:
        LostRankError: If the others cannot be reached, or one of them has ended; with what that one had to say.
    """
    if place().size == 1 or _LINE.is_held:
        yield
        return
    _LINE.open()
    _LINE.is_held = True
    try:
        yield
    except BaseException as error:
        _LINE.close()
        if tells:
            _end_with_all(error)
        raise
    finally:
        _LINE.is_held = False


def _end_with_all(error: BaseException) -> None:
    """Let the others know what has ended this process; raises what has ended another, if that is all that has."""
    has_lost = isinstance(error, LostRankError)
    said = str(error) if isinstance(error, MamlError) else f"{type(error).__name__}: {error}"
    ended = agreed_end(Ended(1, said), has_lost=has_lost)
    if ended.is_known_to_all:
        wait_for_all_to_end()
        if has_lost:
            raise LostRankError(f"one of {place().size} processes has ended: {ended.message}") from None


def _talk(call: Callable[[], Any]) -> None:
    """Call what talks to others; that one of them does not answer is no bug of this process."""
    try:
        call()
    except (RuntimeError, ValueError, OSError) as error:
        said = next(iter(str(error).splitlines()), type(error).__name__)
        raise LostRankError(f"one of {place().size} processes has ended or cannot be reached: {said}") from error


class Ended(NamedTuple):
    """How a command, or the work of a program, has ended in one process."""

    exit_code: int
    message: str
    is_known_to_all: bool = False
    """Whether all processes hear of it; not where one has ended without a word."""


def agreed_end(own: Ended, *, has_lost: bool = False) -> Ended:
    """Say how this process ends, and hear how all do: as the first that had an error.

    Args:
        own: How this one does.
        has_lost: Whether that is because it has lost the others, one of which may know better.

    Returns:
        With the message that the first process is to say.
    """
    found, store = own, _LINE.store
    if store is not None:
        with suppress(RuntimeError, OSError):
            store.set_timeout(timedelta(seconds=_LAST_WORDS_S))
            if has_lost:
                store.wait([_WORDS])
            said = json.dumps([own.exit_code, own.message])
            exit_code, message = json.loads(store.compare_set(_WORDS, "", said))
            found = Ended(exit_code, message, is_known_to_all=True)
    # What all have met the first process knows most of: where its folder is, and how to go on.
    if found.exit_code == own.exit_code and not has_lost:
        found = found._replace(message=own.message)
    return found


def wait_for_all_to_end() -> None:
    """Wait until the first process has said how all end, and in that one until the others are about to; some seconds.

    The first goes last: in it is, without a launcher's own, what they leave their words in.
    """
    here, store = place(), _LINE.store
    if store is None:
        return
    keys = [f"{_WORDS}/{rank}" for rank in range(here.size)]
    with suppress(RuntimeError, OSError):
        if not here.is_first:
            store.wait(keys[:1], timedelta(seconds=_LAST_FIGURE_S))
        store.set(keys[here.rank], "")
        if here.is_first:
            store.wait(keys, timedelta(seconds=_LAST_WORDS_S))
