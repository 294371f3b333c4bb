"""Trainings in processes of their own, as many at a time as there are cores."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Container, Mapping
from pathlib import Path

from mamlcli.config.experiment import Config
from mamlcli.errors import CheckpointError, InterruptedRunError, Remedy
from mamlcli.interrupts import StopRequest
from mamlcli.reporting import Reporter
from mamlcli.runs.folder import RunFolder

_POLL_S, _LOOK_S = 0.2, 1.0
# Ctrl-C comes to this process alone, which passes it on once, as a signal that asks to save and end.
if sys.platform == "win32":
    _FLAGS: int = subprocess.CREATE_NEW_PROCESS_GROUP
    _STOP: int = signal.CTRL_BREAK_EVENT
else:
    _FLAGS, _STOP = 0, signal.SIGTERM


def train_side_by_side(
    configs: dict[str, Config],
    folder: RunFolder,
    *,
    jobs: int | None,
    stop: StopRequest,
    reporter: Reporter,
    to_go_on: Remedy,
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
        told: Hears how many steps each has made, now and then; the reporter is shown their sum if None.

    Returns:
        By name, what those that failed had to say.

    Raises:
        InterruptedRunError: If a signal came; each training was asked to save, and has ended.
    """
    waiting = [name for name, config in configs.items() if not _is_trained(folder.path / "runs" / name, config)]
    failed: dict[str, str] = {}
    total, looked = sum(config.outer.steps for config in configs.values()), 0.0
    running: dict[str, tuple[subprocess.Popen[str], float]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < (jobs or os.cpu_count() or 1):
                name = waiting.pop(0)
                reporter.note(f"{name}: training {configs[name].outer.steps} steps of {len(configs[name].seeds)} seeds")
                running[name] = (_start(name, folder), time.perf_counter())
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
                steps = sum(_steps_done(configs, waiting, running, folder).values())
                said = f"interrupted and saved after {steps} of {total} steps of all rows: {folder.path}"
                raise InterruptedRunError(stop.signal_number, said, to_go_on)
            if time.monotonic() - looked >= _LOOK_S:
                looked = time.monotonic()
                done = _steps_done(configs, waiting, running, folder)
                if told is None:
                    reporter.progress("training, steps of all rows", sum(done.values()), total)
                else:
                    told(done)
            time.sleep(_POLL_S)
    finally:
        _end(running)
    return failed


def _steps_done(
    configs: dict[str, Config],
    waiting: Container[str],
    running: Container[str],
    folder: RunFolder,
) -> dict[str, int]:
    """The steps of rows that have ended, and of the others what their metrics say."""
    unfinished = {name for name in configs if name in waiting or name in running}
    return {
        name: RunFolder(folder.path / "runs" / name).metrics.last_step() if name in unfinished else config.outer.steps
        for name, config in configs.items()
    }


def _is_trained(path: Path, config: Config) -> bool:
    """Whether a folder holds this training, whole; what cannot be read is left to the training to judge."""
    run = RunFolder(path)
    try:
        info = run.read_info() if path.exists() else {}
        return info.get("status") == "done" and info.get("outer_steps") == config.outer.steps and run.config() == config
    except CheckpointError:
        return False


def _start(name: str, folder: RunFolder) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from mamlcli.cli import main; main()", "train", "--quiet", "--json"]
    where = ["--config", str(folder.path / "configs" / f"{name}.yaml"), "--out", str(folder.path / "runs" / name)]
    return subprocess.Popen(
        [*command, *where, "--resume", "auto"],
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
