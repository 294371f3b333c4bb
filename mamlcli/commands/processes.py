"""Trainings in processes of their own, as many at a time as there are cores."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from mamlcli.config.experiment import Config
from mamlcli.cores import processes_here, usable_cores
from mamlcli.errors import CheckpointError, InterruptedRunError, Remedy
from mamlcli.plugins import plugin_options
from mamlcli.ranks import Ranks, without_launcher
from mamlcli.reporting import Reporter
from mamlcli.runs.folder import RunFolder

_PROGRAM = """
from mamlcli.cli import main
from mamlcli.interrupts import end_with_parent

end_with_parent()
main()
"""
_POLL_S, _LOOK_S = 0.2, 1.0
# Ctrl-C comes to this process alone, which passes it on once, as a signal that asks to save and end.
if sys.platform == "win32":
    _FLAGS: int = subprocess.CREATE_NEW_PROCESS_GROUP
    _STOP: int = signal.CTRL_BREAK_EVENT
else:
    _FLAGS, _STOP = 0, signal.SIGTERM


def jobs_here(jobs: int | None) -> int:
    """How many commands run at a time on this machine, of so many in each process: one for each core if None."""
    return (jobs or usable_cores()) * processes_here()


class Job(NamedTuple):
    """A command of ours in a process of its own."""

    words: Sequence[str]
    """After `maml`."""
    what: str
    """What it does, like "training 1000 steps of 3 seeds"."""
    steps: int
    """Meta-updates that it makes."""
    is_done: Callable[[], bool]
    """Whether it need not run any more."""
    made: Callable[[], int]
    """Meta-updates that it has made so far."""


class Finished(NamedTuple):
    """A job that has ended."""

    name: str
    problem: str | None
    """What it had to say if it failed."""
    seconds: float


def train_side_by_side(
    configs: dict[str, Config],
    folder: RunFolder,
    *,
    jobs: int | None,
    ranks: Ranks,
    reporter: Reporter,
    to_go_on: Remedy,
    kind: str = "rows",
    told: Callable[[Mapping[str, int]], None] | None = None,
) -> dict[str, str]:
    """Train each config of `configs/<name>.yaml` into `runs/<name>`, going on where one was begun.

    Args:
        configs: By name.
        folder: Holds the configs, and will hold the runs.
        jobs: How many at a time, for each of the processes that share the work; one for each core if None.
        ranks: Those, of which this is the first; asked for a stop between polls.
        reporter: Hears when a training begins and ends, and how many steps of all are done.
        to_go_on: What to do after an interruption.
        kind: What they are called, in the words of who waits.
        told: Hears how many steps each has made, now and then; the reporter is shown their sum if None.

    Returns:
        By name, what those that failed had to say.

    Raises:
        InterruptedRunError: If a signal came; each training was asked to save, and has ended.
    """
    made = {name: _training(name, config, folder) for name, config in configs.items()}
    return run_side_by_side(
        made, folder, kind, at_a_time=jobs, ranks=ranks, reporter=reporter, to_go_on=to_go_on, told=told
    )


def run_side_by_side(
    jobs: Mapping[str, Job],
    folder: RunFolder,
    kind: str,
    *,
    at_a_time: int | None,
    ranks: Ranks,
    reporter: Reporter,
    to_go_on: Remedy,
    told: Callable[[Mapping[str, int]], None] | None = None,
) -> dict[str, str]:
    """Run commands of ours, so many at a time; see `train_side_by_side`.

    Args:
        jobs: By name.
        folder: What is said to hold them.
        kind: What they are called, like "rows".
        at_a_time: One for each core if None.
        ranks: As for `train_side_by_side`.
        reporter: The same.
        to_go_on: The same.
        told: The same.
    """
    left = {name: job.words for name, job in jobs.items() if not job.is_done()}
    failed: dict[str, str] = {}
    total, looked = sum(job.steps for job in jobs.values()), 0.0

    def show(made: Mapping[str, int]) -> None:
        reporter.progress(f"training, steps of all {kind}", sum(made.values()), total)

    def made() -> dict[str, int]:
        return {name: job.made() if name in left else job.steps for name, job in jobs.items()}

    ranks.ask(_help, left, at_a_time)
    try:
        with closing(_run(ranks, dict(left), at_a_time)) as polls:
            for started, finished in polls:
                for name in started:
                    reporter.note(f"{name}: {jobs[name].what}")
                for one in finished:
                    del left[one.name]
                    if one.problem is None:
                        reporter.note(f"{one.name}: trained in {one.seconds:.0f} s ({len(left)} to go)")
                    else:
                        failed[one.name] = one.problem
                        reporter.note(f"warning: {one.name}: {one.problem} ({len(left)} to go)")
                if time.monotonic() - looked >= _LOOK_S:
                    looked = time.monotonic()
                    (told or show)(made())
    except InterruptedRunError as error:
        said = f"interrupted and saved after {sum(made().values())} of {total} steps of all {kind}: {folder.path}"
        raise InterruptedRunError(error.signal_number, said, to_go_on) from None
    return failed


def _help(ranks: Ranks, jobs: Mapping[str, Sequence[str]], at_a_time: int | None) -> None:
    """Run some of the commands, beside the first process."""
    for _ in _run(ranks, jobs, at_a_time):
        pass


def _run(
    ranks: Ranks, jobs: Mapping[str, Sequence[str]], at_a_time: int | None
) -> Generator[tuple[list[str], list[Finished]], None, None]:
    """Run commands, each in the process that has room for it first; all agree on which, at every poll.

    Yields:
        Those that were begun since the last poll and those that have ended, anywhere.

    Raises:
        InterruptedRunError: If a signal came; each command was asked to save, and has ended.
    """
    waiting, left = list(jobs), len(jobs)
    running: dict[str, tuple[subprocess.Popen[str], float]] = {}
    try:
        while left:
            said = ranks.all_told((_finished(running), (at_a_time or usable_cores()) - len(running)))
            if ranks.stop.signal_number is not None:
                _end(running)
                ranks.meet()  # where one process has ended the launcher ends the others, and with them what they train
                ranks.stop.raise_if_asked("interrupted")
            finished = [one for ended, _ in said for one in ended]
            left -= len(finished)
            started = dict(zip(list(waiting), _by_turns([room for _, room in said]), strict=False))
            waiting = waiting[len(started) :]
            running |= {
                name: (_start(jobs[name]), time.perf_counter()) for name, rank in started.items() if rank == ranks.rank
            }
            yield list(started), finished
            if left:
                time.sleep(_POLL_S)
    finally:
        _end(running)


def _by_turns(rooms: Sequence[int]) -> list[int]:
    """Who takes the next jobs: each one in turn, as long as there is room.

    >>> _by_turns([2, 0, 1])
    [0, 2, 0]
    """
    return [rank for turn in range(max(rooms)) for rank, room in enumerate(rooms) if turn < room]


def _finished(running: dict[str, tuple[subprocess.Popen[str], float]]) -> list[Finished]:
    """Those of the running that have ended; they run no more."""
    found = []
    for name, (process, since) in list(running.items()):
        if process.poll() is not None:
            del running[name]
            _, said = process.communicate()
            problem = (_reason(said) or f"exit code {process.returncode}") if process.returncode else None
            found.append(Finished(name, problem, time.perf_counter() - since))
    return found


def _training(name: str, config: Config, folder: RunFolder) -> Job:
    path = folder.path / "runs" / name
    where = ["--config", str(folder.path / "configs" / f"{name}.yaml"), "--out", str(path)]
    return Job(
        ["train", "--quiet", "--json", *where, "--resume", "auto"],
        f"training {config.outer.steps} steps of {len(config.seeds)} seeds",
        config.outer.steps,
        lambda: is_trained(path, config),
        RunFolder(path).metrics.last_step,
    )


def is_trained(path: Path, config: Config) -> bool:
    """Whether a folder holds this training, whole; what cannot be read is left to the training to judge."""
    run = RunFolder(path)
    try:
        info = run.read_info() if path.exists() else {}
        return info.get("status") == "done" and info.get("outer_steps") == config.outer.steps and run.config() == config
    except CheckpointError:
        return False


def _start(words: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, *words, *plugin_options()],
        env=without_launcher(os.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        creationflags=_FLAGS,
    )


def _reason(said: str) -> str:
    """What a command said when it failed: the first line of its message, or the last one of a traceback."""
    lines = said.strip().splitlines()
    messages = [line.removeprefix("maml: ") for line in lines if line.startswith("maml: ")]
    return messages[0] if messages else (lines or [""])[-1]


def _end(running: dict[str, tuple[subprocess.Popen[str], float]]) -> None:
    """Ask what still runs to save and end, and wait for it."""
    for process, _ in running.values():
        process.send_signal(_STOP)
    for process, _ in running.values():
        process.communicate()
    running.clear()
