"""Faults, each put into a process of `tests.zygote` before its command runs."""

import errno
import mmap
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from operator import itemgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import matplotlib.figure
import torch

import mamlcli.commands.train
import mamlcli.compute.plan
import mamlcli.meta_test.measure
import mamlcli.runs.checkpoints
import mamlcli.runs.files
import mamlcli.sharing
import mamlcli.tabular
import mamlcli.trainings.company
import mamlcli.trainings.rhythm
import mamlcli.trainings.training
from mamlcli import Config
from mamlcli.errors import DataError
from mamlcli.experiment import Experiment, make_experiment, make_shared_experiment
from mamlcli.ranks import Ranks
from mamlcli.tasks.samples import Task
from mamlcli.tasks.stream import TaskStream
from mamlcli.training import TrainState
from mamlcli.types import Params


def _before(owner: Any, name: str, act: Callable[..., None]) -> None:
    """Call something before a function, with its arguments."""
    function = getattr(owner, name)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        act(*arguments, **options)
        return function(*arguments, **options)

    setattr(owner, name, wrapped)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_while_saving(step: int, point: int) -> None:
    """Kill the process at a point of saving the checkpoint of a step: the n-th call that touches the disk.

    Every write is cut in its middle: half of the content is in the file when the process dies.
    """
    left = [point]
    saving = [False]

    def begun(_: Path, state: TrainState, *__: object) -> None:
        saving[0] = state.step == step

    def count(*_: object, **__: object) -> None:
        if saving[0]:
            left[0] -= 1
            if left[0] == 0:
                _kill()

    def write_half(handle: int, mode: str) -> Any:
        file = fdopen(handle, mode)
        if saving[0] and left[0] == 1:
            return _Unflushed(file)
        count()
        return file

    fdopen = os.fdopen
    _before(mamlcli.trainings.training, "save_checkpoint", begun)
    module: Any = os
    module.fdopen = write_half
    for owner, name in ((os, "fsync"), (Path, "chmod"), (Path, "replace"), (Path, "unlink")):
        _before(owner, name, count)


class _Unflushed:
    """A file that dies in its first write."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def __enter__(self) -> "_Unflushed":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, content: bytes) -> None:
        os.write(self.file.fileno(), content[: len(content) // 2])
        _kill()


def signal_at(where: str, number: int, marker: str) -> None:
    """Send the process a signal when it first evaluates ("evaluation") or draws ("plotting"); a file says so."""
    seen = [False]

    def once(*_: object, **__: object) -> None:
        if not seen[0]:
            seen[0] = True
            Path(marker).touch()
            os.kill(os.getpid(), number)

    if where == "evaluation":
        _before(mamlcli.meta_test.measure, "adaptation_losses", once)
    else:
        _before(matplotlib.figure.Figure, "savefig", once)


def hang_while_saving(step: int, marker: str) -> None:
    """Never come back from flushing the checkpoint of a step; says so in a file, in Python, where signals are heard."""
    saving = [False]

    def begun(_: Path, state: TrainState, *__: object) -> None:
        saving[0] = state.step >= step

    def hang(_: object) -> None:
        if saving[0]:
            Path(marker).touch()
            while True:
                time.sleep(0.01)

    _before(mamlcli.trainings.training, "save_checkpoint", begun)
    _before(os, "fsync", hang)


def limit_files(num_bytes: int) -> None:
    """Let no file grow beyond a size, as a full disk or a quota does."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))


def out_of_memory(step: int) -> None:
    """Ask for more memory than any machine has when the batch of a step is made."""

    whole = TaskStream.blocks

    def blocks(self: TaskStream, first: int, last: int, device: torch.device | str = "cpu") -> Iterator[Task]:
        for block in whole(self, first, last, device):
            for index in range(len(block.query.x)):
                if first + index == step:
                    torch.empty(2**60)
                yield block.map(itemgetter(slice(index, index + 1)))
            first += len(block.query.x)

    stream: Any = TaskStream
    stream.blocks = blocks


def wait_for(path: str) -> None:
    """Begin when a file appears, so that several processes begin together."""
    while not Path(path).exists():
        time.sleep(0.0005)


def in_double_precision() -> None:
    """Train in float64, from the same parameters on the same tasks."""
    params, blocks = Experiment.initial_params, TaskStream.blocks

    def in_double(self: Experiment) -> list[Params]:
        return [{name: theta.double() for name, theta in seed.items()} for seed in params(self)]

    def doubled(self: TaskStream, first: int, last: int, device: torch.device | str = "cpu") -> Iterator[Task]:
        return (block.map(torch.Tensor.double) for block in blocks(self, first, last, device))

    Experiment.initial_params = in_double  # type: ignore[method-assign]
    TaskStream.blocks = doubled  # type: ignore[method-assign]


def fails(message: str) -> None:
    """Raise an error that nobody has thought of, when a step begins."""

    def failing(*_: object) -> None:
        raise LookupError(message)

    _before(mamlcli.trainings.rhythm.Rhythm, "is_logged", failing)


def fails_in_a_meta_test(message: str) -> None:
    """The same when tasks of a meta-test are drawn."""

    def failing(*_: object) -> Task:
        raise LookupError(message)

    mamlcli.meta_test.measure.meta_test_tasks = failing  # type: ignore[assignment]


def tell_of_tables(prefix: str) -> None:
    """Say in files that a table is read, and, where the system tells, what is in memory when a step begins."""

    def reads(*_: object, **__: object) -> None:
        with Path(f"{prefix}.read").open("a") as file:
            file.write("read\n")

    def begins(*_: object) -> None:
        Path(f"{prefix}.memory").write_text(Path("/proc/self/smaps").read_text())

    _before(mamlcli.tabular, "read_table", reads)
    if Path("/proc/self/smaps").exists():
        _before(mamlcli.trainings.rhythm.Rhythm, "is_logged", begins)


def makes_it_again(prefix: str, *, first_alone: bool) -> None:
    """Make an experiment together a second time, and alone; the first process may have made it before."""
    tell_of_tables(prefix)
    share = make_shared_experiment

    def twice(config: Config, ranks: Ranks, note: Callable[[str], object]) -> Experiment:
        before = make_experiment(config) if first_alone and ranks.is_first else None
        found: Experiment = share(config, ranks, note)
        assert found.data is not None
        assert found.data is share(config, ranks, note).data is make_experiment(config).data
        del before
        return found

    modules: list[Any] = [mamlcli.commands.train, mamlcli.trainings.company]
    for module in modules:
        module.make_shared_experiment = twice


def wrong_data(message: str) -> None:
    """Find something wrong with a table."""

    def wrong(*_: object, **__: object) -> None:
        raise DataError([message])

    _before(mamlcli.tabular, "read_table", wrong)


def killed_as_it_reads() -> None:
    """Kill the process that reads a table."""

    def reads(*_: object, **__: object) -> None:
        _kill()

    _before(mamlcli.tabular, "read_table", reads)


def no_room_to_share() -> None:
    """Have no room for the file that processes of a machine share."""

    def full(**_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    sharing: Any = mamlcli.sharing
    sharing.tempfile = SimpleNamespace(mkstemp=full)


def cannot_map() -> None:
    """Be unable to see what another process shares."""

    def failing(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    sharing: Any = mamlcli.sharing
    sharing.mmap = SimpleNamespace(mmap=failing, ACCESS_COPY=mmap.ACCESS_COPY)


def trains_as_a_program(out: str, overrides: list[str], fails_at: int | None = None) -> None:
    """Be a program whose launcher has connected its processes already, and that trains; a file says how that ended."""
    import torch.distributed as dist

    import mamlcli

    def listen(logged: mamlcli.LoggedStep) -> None:
        if logged.step == fails_at:
            raise ValueError("a listener's own")

    dist.init_process_group("gloo")
    said = []
    # What its own processes tell each other is not disturbed, and they may train again.
    for attempt in range(2):
        try:
            config = mamlcli.load_config("ranks.yaml", overrides)
            result = mamlcli.train(config, out=f"{out}-{attempt}", on_step=listen)
            said.append(f"{result.status} {result.run}")
        except Exception as error:
            said.append(f"{type(error).__name__}: {error}")
        talked = torch.ones(1)
        dist.all_reduce(talked)
        said.append(f"{talked.item():g} are there")
    Path(f"{out}.{dist.get_rank()}").write_text("\n".join(said))
    raise SystemExit(0)


def cannot_load_the_kernel() -> None:
    """Have a compiler that fails."""

    def failing(*_: object) -> NoReturn:
        raise RuntimeError("no space on this machine")

    plan: Any = mamlcli.compute.plan
    plan.load_library = failing
