"""Processes that are killed, interrupted or out of memory; each fault is a real one, in a process of its own."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.kills import kill_at_random
from tests.same_run import assert_same_run
from tests.zygote import Command, Zygote

TRAIN = ("train", "-c", "tiny.yaml", "--out", "run")
# More steps than any test waits for.
LONG = ("--set", "outer.steps=1000000", "--set", "engine.compile=off", "--set", "run.checkpoint_every_steps=1000000")
KEEP_ONE = ("--set", "run.keep_checkpoints=1")
# Calls that touch the disk in one save: five for the hash, five for the checkpoint, three for what is deleted.
POINTS = range(1, 14)


def status(folder: Path) -> object:
    return json.loads((folder / "run.json").read_text())["status"]


def wait_until_training(command: Command, run: Path) -> None:
    while not (run / "metrics.jsonl").exists():
        assert command.wait(0.01) is None, command.err


@pytest.fixture(scope="module")
def whole(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of tiny.yaml that was left alone, with one checkpoint kept."""
    from tests.conftest import TINY

    folder = tmp_path_factory.mktemp("whole")
    (folder / "tiny.yaml").write_text(TINY)
    command = zygote.start(folder, *TRAIN, *KEEP_ONE)
    assert command.wait() == 0, command.err
    return folder / "run"


def test_twenty_kills_at_random_moments_change_no_bit(zygote: Zygote, tmp_path: Path) -> None:
    kill_at_random(zygote, tmp_path, kills=20, seed=time.time_ns() % 2**32, say=print)


@pytest.mark.parametrize(
    ("step", "before", "points"), [(10, 5, POINTS), (12, 10, POINTS[9:])], ids=["on the way", "the last"]
)
def test_a_kill_at_any_point_of_a_save_leaves_a_checkpoint_that_loads_and_none_too_many(
    zygote: Zygote, whole: Path, folder: Path, step: int, before: int, points: range
) -> None:
    for point in points:
        out = f"run-{point}"
        command = ("train", "-c", "tiny.yaml", *KEEP_ONE, "--out", out, "--resume", "auto")
        killed = zygote.start(folder, *command, fault="kill_while_saving", step=step, point=point)
        assert killed.wait() == -signal.SIGKILL, (point, killed.err)
        resumed = zygote.start(folder, *command)
        assert resumed.wait() == 0, (point, resumed.err)
        at = step if point > 9 else before  # from the ninth on, the new one is in its place
        assert f"at step {at}" in resumed.err, (point, resumed.err)
        assert_same_run(whole, folder / out)
        left = {path.name for path in (folder / out / "checkpoints").glob("step-*")}
        assert left == {"step-12.pt", "step-12.pt.sha256"}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_during_training_saves_within_seconds(zygote: Zygote, folder: Path, number: int, code: int) -> None:
    command = zygote.start(folder, *TRAIN, *LONG)
    wait_until_training(command, folder / "run")
    command.signal(number)
    assert command.wait(within_s=5, of_work=True) == code
    assert "interrupted and saved at step" in command.err
    assert status(folder / "run") == "interrupted"
    steps = [int(path.stem.removeprefix("step-")) for path in (folder / "run" / "checkpoints").glob("*.pt")]
    assert f"  checkpoint   run/checkpoints/step-{max(steps)}.pt\n  figure       run/loss.png\n" in command.err
    assert command.err.endswith("maml: to go on: maml train --resume run\n")
    assert (folder / "run" / "loss.png").exists()
    resumed = zygote.start(folder, *TRAIN, "--resume", "auto", *LONG)
    while "continuing run" not in resumed.err:
        assert resumed.wait(0.01) is None, resumed.err
    assert f"at step {steps[0]}" in resumed.err
    resumed.signal(signal.SIGTERM)
    assert resumed.wait(within_s=5, of_work=True) == 143


@pytest.mark.parametrize(
    ("command", "where"),
    [("train", "plotting")]
    + [(name, where) for name in ("eval", "compare-orders") for where in ("evaluation", "plotting")],
)
def test_sigterm_in_evaluation_and_plotting_loses_nothing(
    zygote: Zygote, folder: Path, command: str, where: str
) -> None:
    arguments: tuple[str, ...] = (command, "-c", "tiny.yaml", "--out", "run")
    again: tuple[str, ...] = (*arguments, "--resume", "auto")
    if command == "eval":
        assert zygote.start(folder, *TRAIN).wait() == 0
        arguments = again = ("eval", "run", "--set", "evaluation.tasks=5000")
    marker = folder / "signalled"
    stopped = zygote.start(
        folder, *arguments, fault="signal_at", where=where, number=signal.SIGTERM, marker=str(marker)
    )
    while not marker.exists():
        assert stopped.wait(0.01) is None, stopped.err
    assert stopped.wait(within_s=5, of_work=True) == 143, stopped.err
    assert "interrupted" in stopped.err
    written = {path.name for path in (folder / "run").rglob("*")}
    assert ("evaluation.json" in written) == (command == "eval" and where == "plotting")
    assert ("comparison.json" in written) == (command == "compare-orders" and where == "plotting")
    resumed = zygote.start(folder, *again)
    assert resumed.wait() == 0, resumed.err
    assert status(folder / "run") == "done"


def test_a_second_ctrl_c_ends_at_once_and_leaves_the_old_checkpoint_whole(zygote: Zygote, folder: Path) -> None:
    marker = folder / "saving"
    command = zygote.start(folder, *TRAIN, fault="hang_while_saving", step=10, marker=str(marker))
    while not marker.exists():
        assert command.wait(0.01) is None, command.err
    command.signal(signal.SIGINT)
    assert command.wait(0.5) is None  # it would save first
    command.signal(signal.SIGINT)
    assert command.wait(within_s=5, of_work=True) == 130
    assert [path.name for path in (folder / "run" / "checkpoints").glob("step-*.pt")] == ["step-5.pt"]
    assert list((folder / "run" / "checkpoints").glob(".*.tmp"))  # a leftover, which nothing takes for a checkpoint
    resumed = zygote.start(folder, *TRAIN, "--resume", "auto")
    assert resumed.wait() == 0
    assert "continuing run at step 5" in resumed.err


def test_out_of_memory_in_training_leaves_the_checkpoint(zygote: Zygote, whole: Path, folder: Path) -> None:
    command = zygote.start(folder, *TRAIN, *KEEP_ONE, fault="out_of_memory", step=8)
    assert command.wait() == 6
    assert "out of memory: use --set engine.task_chunk=N" in command.err
    assert "Traceback" not in command.err
    resumed = zygote.start(folder, *TRAIN, *KEEP_ONE, "--resume", "auto")
    assert resumed.wait() == 0
    assert "continuing run at step 5" in resumed.err
    assert_same_run(whole, folder / "run")


@pytest.mark.parametrize("extra", [(), ("--resume", "auto"), ("--overwrite",)], ids=["new", "resume", "overwrite"])
def test_of_two_processes_in_one_folder_one_wins(zygote: Zygote, folder: Path, extra: tuple[str, ...]) -> None:
    for attempt in range(20 if not extra else 3):
        out, start = f"run-{attempt}", folder / f"start-{attempt}"
        arguments = ("train", "-c", "tiny.yaml", "--out", out, *extra, *LONG)
        if extra == ("--overwrite",):
            (folder / out).mkdir()
            (folder / out / "run.json").write_text('{"kind": "train"}')
            (folder / out / "precious").write_text("data")
        both = [zygote.start(folder, *arguments, fault="wait_for", path=str(start)) for _ in range(2)]
        start.touch()
        codes: list[int | None] = [None, None]
        while codes == [None, None]:
            codes = [command.wait(0.01) for command in both]
        loser = codes.index(3)
        assert codes[1 - loser] is None, both[1 - loser].err
        winner = both[1 - loser]
        wait_until_training(winner, folder / out)
        winner.signal(signal.SIGTERM)
        assert winner.wait() == 143, winner.err
        assert "Traceback" not in both[loser].err
        info = json.loads((folder / out / "run.json").read_text())
        assert len(info["sessions"]) == 1
        aside = [path for path in folder.glob(f"{out}.old-*") if (path / "precious").exists()]
        assert len(aside) == (extra == ("--overwrite",))
        assert len(list(folder.glob(f"{out}*"))) == 1 + len(aside)
        assert not list(folder.glob(".run*.tmp"))


# Asked to stop, it takes a while to save, and says how often it was asked.
SAVING = """
import time
from mamlcli.interrupts import SIGNALS, StopRequest, end_with_parent
with StopRequest(SIGNALS) as stop:
    end_with_parent()
    print("ready", flush=True)
    while stop.signal_number is None:
        time.sleep(0.01)
    time.sleep(0.3)
    print("saved", stop.signal_number)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody tells of a parent's end")
def test_the_end_of_a_parent_is_heard_once_however_often_it_is_told() -> None:
    with subprocess.Popen([sys.executable, "-c", SAVING], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for _ in range(3):
            process.send_signal(signal.SIGHUP)
            time.sleep(0.05)
        assert process.stdout.readline() == f"saved {signal.SIGTERM:d}\n"
        assert process.wait() == 0
