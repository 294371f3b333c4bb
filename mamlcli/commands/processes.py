"""Trainings in processes of their own, as many at a time as there are cores."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mamlcli.config.experiment import Config
from mamlcli.errors import CheckpointError, InterruptedRunError, Remedy
from mamlcli.interrupts import StopRequest
from mamlcli.plugins import plugin_options
from mamlcli.ranks import without_launcher
from mamlcli.reporting import Reporter
from mamlcli.runs.folder import RunFolder

_POLL_S, _LOOK_S = 0.2, 1.0
# Ctrl-C comes to this process alone, which passes it on once, as a signal that asks to save and end.
if sys.platform == "win32":
    _FLAGS: int = subprocess.CREATE_NEW_PROCESS_GROUP
    _STOP: int = signal.CTRL_BREAK_EVENT
else:
    _FLAGS, _STOP = 0, signal.SIGTERM


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


def train_side_by_side(
    configs: dict[str, Config],
    folder: RunFolder,
    *,
    jobs: int | None,
    stop: StopRequest,
    reporter: Reporter,
    to_go_on: Remedy,
    kind: str = "rows",
    told: Callable[[Mapping[str, int]], None] | None = None,
) -> dict[str, str]:
    """Train each config of `configs/<name>.yaml` into `runs/<name>`, going on where one was begun.

    Args:
        configs: By name.
        folder: Holds the configs, and will hold the runs.
        jobs: How many at a time; one for each core if None.
        stop: Asked for between polls.
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
        made, folder, kind, at_a_time=jobs, stop=stop, reporter=reporter, to_go_on=to_go_on, told=told
    )


def run_side_by_side(
    jobs: Mapping[str, Job],
    folder: RunFolder,
    kind: str,
    *,
    at_a_time: int | None,
    stop: StopRequest,
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
        stop: As for `train_side_by_side`.
        reporter: The same.
        to_go_on: The same.
        told: The same.
    """

    def show(made: Mapping[str, int]) -> None:
        reporter.progress(f"training, steps of all {kind}", sum(made.values()), total)

    waiting = [name for name, job in jobs.items() if not job.is_done()]
    failed: dict[str, str] = {}
    total, looked = sum(job.steps for job in jobs.values()), 0.0
    running: dict[str, tuple[subprocess.Popen[str], float]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < (at_a_time or os.cpu_count() or 1):
                name = waiting.pop(0)
                reporter.note(f"{name}: {jobs[name].what}")
                running[name] = (_start(jobs[name]), time.perf_counter())
            for name, (process, since) in list(running.items()):
                if process.poll() is None:
                    continue
                del running[name]
                _, said = process.communicate()
                left = f"{len(waiting) + len(running)} to go"
                if process.returncode:
                    failed[name] = _reason(said) or f"exit code {process.returncode}"
                    reporter.note(f"warning: {name}: {failed[name]} ({left})")
                else:
                    reporter.note(f"{name}: trained in {time.perf_counter() - since:.0f} s ({left})")
            if stop.signal_number is not None:
                steps = sum(_steps_done(jobs, waiting, running).values())
                said = f"interrupted and saved after {steps} of {total} steps of all {kind}: {folder.path}"
                raise InterruptedRunError(stop.signal_number, said, to_go_on)
            if time.monotonic() - looked >= _LOOK_S:
                looked = time.monotonic()
                (told or show)(_steps_done(jobs, waiting, running))
            time.sleep(_POLL_S)
    finally:
        _end(running)
    return failed


def _steps_done(jobs: Mapping[str, Job], waiting: Container[str], running: Container[str]) -> dict[str, int]:
    """The steps of jobs that have ended, and of the others what they have made so far."""
    return {name: job.made() if name in waiting or name in running else job.steps for name, job in jobs.items()}


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


def _start(job: Job) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "from mamlcli.cli import main; main()", *job.words, *plugin_options()],
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
