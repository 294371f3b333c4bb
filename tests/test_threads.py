"""Threads: `auto` takes no more than there are idle cores, and gives way to who comes later."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mamlcli import cores
from mamlcli.cores import Usage, read_usage, usable_cores, used_by_others
from mamlcli.meta_test.losses import adaptation_losses
from mamlcli.threads import Threads
from tests.conftest import Maml, needs_compiler
from tests.same_run import assert_same_run

STAT = """cpu  400 20 200 9000 50 10 20 30 40 0
cpu0 100 10 50 4000 25 4 6 8 40 0
cpu1 300 10 150 5000 25 6 14 22 0 0
intr 5
"""


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let others use so many of four cores between one reading and the next, a second later; the last goes on."""

    def set_others(*used: float | None) -> None:
        readings = iter([*used, *[used[-1]] * 1000])

        def usages() -> Iterator[Usage | None]:
            at = busy = 0.0
            for amount in readings:
                yield None if amount is None else Usage(at, busy, 0.0)
                at, busy = at + 1, busy + (amount or 0.0)

        found = usages()
        monkeypatch.setattr("mamlcli.threads.read_usage", lambda: next(found))
        monkeypatch.setattr("mamlcli.threads.usable_cores", lambda: 4)
        monkeypatch.setattr("mamlcli.threads._FIRST_LOOK_S", 0)
        monkeypatch.setattr("mamlcli.threads._LOOK_EVERY_S", float("-inf"))

    return set_others


def silently(_: str) -> None:
    """Hear nothing."""


@pytest.mark.parametrize(
    ("used", "most", "count"),
    [
        ((0.0,), 4, 4),
        ((0.0,), 2, 2),
        ((0.25,), 4, 4),  # what always runs somewhere
        ((0.5,), 4, 3),
        ((2.0,), 4, 2),
        ((2.0,), 2, 2),
        ((4.0,), 4, 1),
        ((9.0,), 4, 1),
        ((None,), 4, 1),  # nobody knows
    ],
)
def test_auto_begins_with_no_more_threads_than_idle_cores(
    others: Callable[..., None], used: tuple[float | None], most: int, count: int
) -> None:
    others(*used)
    assert Threads("auto", most, silently).count == count


def test_a_number_is_a_number_whoever_else_works(others: Callable[..., None]) -> None:
    others(4.0)
    with Threads(3, 1, silently) as threads:
        threads.look()
        assert torch.get_num_threads() == threads.count == 3


def test_what_is_small_takes_one_thread_and_looks_at_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mamlcli.threads.read_usage", lambda: pytest.fail("looked"))
    with Threads("auto", 1, silently) as threads:
        threads.look()
        assert torch.get_num_threads() == threads.count == 1


def test_auto_gives_way_to_who_comes_later_says_so_once_and_stays_there(others: Callable[..., None]) -> None:
    heard: list[str] = []
    before = torch.get_num_threads()
    # What others use before the decision, until the first look, between looks.
    others(0.0, 4.0, 0.0, 2.0, 0.0)
    with Threads("auto", 4, heard.append) as threads:
        counts = []
        for _ in range(8):
            threads.look()
            counts.append(torch.get_num_threads())
    assert counts == [4, 4, 2, 2, 2, 2, 2, 2]
    assert heard == ["other processes want the cores: from 4 threads to 2"]
    assert torch.get_num_threads() == before


def test_threads_of_the_kernel_begin_with_one_until_a_look_finds_idle_cores(others: Callable[..., None]) -> None:
    heard: list[str] = []
    others(1.0, 1.0, 0.0, 3.0)  # before the first decision, and then between looks
    with Threads("auto", 4, heard.append, are_torchs=False) as threads:
        counts = [threads.count]
        for _ in range(5):
            threads.look()
            counts.append(threads.count)
            assert torch.get_num_threads() == 1
    assert counts == [1, 1, 3, 3, 3, 1]
    assert heard == ["other processes want the cores: from 3 threads to 1"]
    with Threads(3, 3, heard.append, are_torchs=False) as threads:
        assert (threads.count, torch.get_num_threads()) == (3, 1)


def test_looking_again_at_once_reads_nothing(others: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    others(0.0)
    with Threads("auto", 4, silently) as threads:
        monkeypatch.setattr("mamlcli.threads._LOOK_EVERY_S", 1e9)
        threads.look()
        threads.before = Usage(time.monotonic(), 0.0, 0.0)
        monkeypatch.setattr("mamlcli.threads.read_usage", lambda: pytest.fail("looked"))
        threads.look()


@needs_compiler
def test_a_run_that_gives_way_keeps_its_bits_with_the_fused_kernel(
    maml: Maml, folder: Path, others: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = "engine={inner_update: fused, compile: on}"
    tasks = "outer.meta_batch_size=64"  # of four vectors, at least
    chosen = ("train", "-c", "tiny.yaml", "--seeds", "0", "--set", engine, "--set", tasks)
    monkeypatch.setattr("mamlcli.compute.plan.usable_cores", lambda: 4)
    others(0.0, 0.0, 0.0, 0.0, 4.0)
    gave_way = maml(*chosen, "--out", "busy", "--json")
    assert gave_way.code == 0, gave_way.err
    assert "other processes want the cores: from 4 threads to 1" in gave_way.err
    assert json.loads(gave_way.out)["engine"]["threads"] == 1
    assert json.loads((folder / "busy" / "run.json").read_text())["sessions"][0]["threads"] == 1  # torch's
    others(0.0)
    idle = maml(*chosen, "--out", "idle", "--json")
    assert json.loads(idle.out)["engine"]["threads"] == 4
    assert_same_run(folder / "busy", folder / "idle")


@pytest.mark.parametrize(("setting", "count"), [("auto", 2), ("3", 3), ("1", 1)])
def test_an_evaluation_uses_the_threads_of_its_config(
    maml: Maml, others: Callable[..., None], monkeypatch: pytest.MonkeyPatch, setting: str, count: int
) -> None:
    assert maml("train", "-c", "tiny.yaml", "--out", "run", "--set", f"engine.threads={setting}").code == 0
    seen, measure = [], adaptation_losses

    def recorded(*args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        seen.append(torch.get_num_threads())
        return measure(*args, **kwargs)

    monkeypatch.setattr("mamlcli.meta_test.measure.adaptation_losses", recorded)
    monkeypatch.setattr(
        "mamlcli.compute.plan.resolve_threads", lambda setting, **_: 4 if setting == "auto" else setting
    )
    others(2.0)
    assert maml("eval", "run").code == 0
    assert set(seen) == {count}


def test_others_use_what_the_cores_do_and_this_process_does_not() -> None:
    assert used_by_others(Usage(10.0, 100.0, 5.0), Usage(12.0, 104.0, 6.0)) == 1.5
    assert used_by_others(Usage(10.0, 100.0, 5.0), Usage(12.0, 101.0, 7.0)) == 0.0  # the two count differently
    assert used_by_others(Usage(10.0, 100.0, 5.0), Usage(10.0, 100.0, 5.0)) == 0.0


def test_usage_is_of_the_cores_that_this_process_is_bound_to(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "stat").write_text(STAT)
    monkeypatch.setattr(cores, "_PROC_STAT", folder / "stat")
    monkeypatch.setattr(cores, "_TICKS_PER_S", 100)
    monkeypatch.setattr(cores, "_bound_to", lambda: {1})
    usage = read_usage()
    assert usage is not None
    assert usage.busy == pytest.approx(3.0 + 0.1 + 1.5 + 0.06 + 0.14 + 0.22)
    (folder / "stat").write_text("cpu0 what is this\n")
    assert read_usage() is None
    (folder / "stat").unlink()
    assert read_usage() is None


def test_what_this_process_does_is_not_what_others_do() -> None:
    before = read_usage()
    if before is None:
        pytest.skip("the system does not say what its cores do")
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass
    now = read_usage()
    assert now is not None
    assert now.busy - before.busy >= 0.2  # at least what this process did, in hundredths of a second
    assert now.own - before.own >= 0.3


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000"}, 8),
        ({"cpu.max": "150000 100000"}, 2),
        ({"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"}, 3),
        ({"a/b/cpu.max": "1000 100000"}, 1),
        ({"other/cpu.max": "100000 100000"}, 8),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ({"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4),
        ({"cpu.max": "nonsense"}, 8),
        ({"cpu.max": "100 0"}, 8),
    ],
)
def test_the_cores_of_a_container_are_those_that_it_may_use(
    folder: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], count: int
) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "mine").write_text("3:cpu:/x\n0::/a/b\n")
    monkeypatch.setattr(cores, "_CGROUPS", folder)
    monkeypatch.setattr(cores, "_OWN_CGROUP", folder / "mine")
    monkeypatch.setattr(cores, "_bound_to", lambda: set(range(8)))
    assert usable_cores() == count


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep freed memory by rules of their own")
def test_what_a_step_frees_is_there_for_the_next_one() -> None:
    # In a process of its own, whose allocator nobody has told anything.
    script = (
        "import resource, sys, torch\n"
        "from contextlib import nullcontext\n"
        "from mamlcli.threads import using_threads\n"
        "with using_threads(1) if sys.argv[1] == 'keep' else nullcontext():\n"
        "    for step in range(30):\n"
        "        if step == 10:\n"
        "            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "        pieces = [torch.ones(2_000_000) for _ in range(10)]\n"
        "        del pieces\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
    )

    def pages(how: str) -> int:
        command = [sys.executable, "-c", script, how]
        # glibc's own defaults, which it otherwise moves by what it sees.
        given = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
        return int(subprocess.run(command, check=True, capture_output=True, text=True, env=given).stdout)

    assert pages("keep") < pages("give back") / 10


@pytest.mark.parametrize("chosen", [{}, {"GOMP_SPINCOUNT": "5"}, {"OMP_WAIT_POLICY": "active"}])
def test_a_command_has_waiting_threads_sleep_before_torch_is_there_unless_a_user_has_chosen(
    chosen: dict[str, str],
) -> None:
    program = """
import os, sys
from mamlcli.cli import main
assert "torch" not in sys.modules
sys.argv = ["maml", "--version"]
try:
    main()
except SystemExit:
    print(os.environ.get("GOMP_SPINCOUNT"))
"""
    others = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run(
        [sys.executable, "-c", program], env=others | chosen, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == ("1000" if not chosen else str(chosen.get("GOMP_SPINCOUNT")))
