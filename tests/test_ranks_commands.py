"""Commands beside training whose work several processes share: what they find and write is what a single one does."""

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mamlcli.commands.processes import is_trained
from mamlcli.config.file import load_config
from mamlcli.runs.lock import is_held
from tests.conftest import needs_compiler
from tests.launched import BOUND_S, Faults, appears, ends, start_together
from tests.same_run import assert_same_run, metrics
from tests.test_reproduce import TINY_ROW
from tests.test_table import unequal_rows, written
from tests.test_table_runs import CONFIG as OWN
from tests.zygote import Command, Zygote

# What trainings in processes of their own may take: each of them loads torch.
JOBS_S = 180

Together = Callable[..., list[Command]]
PLAIN = ("--set", "engine.compile=off", "--set", "engine.threads=1")
PLACES_AND_TIMES = {"run", "path", "figure", "figures", "wall_s", "ms_per_step", "peak_memory_bytes", "notes"}


@pytest.fixture
def together(zygote: Zygote, folder: Path) -> Together:
    """Start so many processes with the same words, as a launcher does."""

    def start(size: int, *words: str, faults: Faults | None = None) -> list[Command]:
        return start_together(zygote, folder, size, *words, faults=faults)

    return start


def trained(together: Together, out: str, *words: str) -> None:
    ends(together(1, "train", "-c", "tiny.yaml", *PLAIN, *words, "--out", out), 0)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def assert_alike(one: Any, other: Any) -> None:
    """Whether results are the same, numbers to rounding, but for what says when, where and how fast."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one.keys() - PLACES_AND_TIMES:
            assert_alike(one[name], other[name])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_alike(*pair)
    elif isinstance(one, float):
        # Differences of losses are rounded as these are, which are about 1.
        assert one == pytest.approx(other, rel=1e-5, abs=1e-6)
    elif isinstance(one, str) and not one.startswith("20"):  # a date
        assert one.replace("alone", "shared") == other


@pytest.mark.parametrize("size", [2, 3, 9], ids="{} processes".format)  # of 9, two are left without a task
def test_an_evaluation_is_that_of_a_single_process(together: Together, folder: Path, size: int) -> None:
    trained(together, "run")
    ends(together(1, "eval", "run", "--out", "alone"), 0)
    ends(together(size, "eval", "run", "--out", "shared"), 0)
    for path in sorted((folder / "alone").iterdir()):
        assert (folder / "shared" / path.name).exists()
    assert_alike(read(folder / "alone" / "evaluation.json"), read(folder / "shared" / "evaluation.json"))


@needs_compiler
def test_an_evaluation_in_the_kernel_is_that_of_a_single_process_bit_for_bit(together: Together, folder: Path) -> None:
    trained(together, "run")
    words = ("--set", "engine.compile=on", "--set", "evaluation.tasks=40")
    ends(together(1, "eval", "run", *words, "--out", "alone"), 0)
    ends(together(3, "eval", "run", *words, "--out", "shared"), 0)
    assert (folder / "alone" / "evaluation.csv").read_bytes() == (folder / "shared" / "evaluation.csv").read_bytes()


def test_baselines_of_own_data_are_those_of_a_single_process(together: Together, folder: Path) -> None:
    (folder / "own.yaml").write_text(OWN)
    (folder / "data").mkdir()
    written(folder / "data" / "t.csv", unequal_rows())
    ends(together(1, "train", "-c", "own.yaml", *PLAIN, "--out", "run"), 0)
    ends(together(1, "eval", "run", "--out", "alone"), 0)
    ends(together(2, "eval", "run", "--out", "shared"), 0)
    assert_alike(read(folder / "alone" / "evaluation.json"), read(folder / "shared" / "evaluation.json"))
    assert (folder / "shared" / "baselines.csv").exists()


def test_the_members_of_a_sweep_have_one_table_in_all_processes(together: Together, folder: Path) -> None:
    (folder / "own.yaml").write_text(OWN)
    (folder / "data").mkdir()
    written(folder / "data" / "t.csv", unequal_rows())
    faults: Faults = {rank: ("tell_of_tables", {"prefix": str(folder / str(rank))}) for rank in (0, 1)}
    ends(together(2, "sweep", "-c", "own.yaml", *PLAIN, "--set", "outer.lr=0.001,0.01", faults=faults), 0)
    assert (folder / "0.read").read_text() == "read\n"
    assert not (folder / "1.read").exists()


@needs_compiler
def test_where_the_kernel_cannot_be_had_in_one_process_all_go_on_without(together: Together, folder: Path) -> None:
    # As many steps as earn the kernel back.
    steps = ("--set", "outer.steps=1000", "--set", "run.log_every_steps=500", "--set", "run.checkpoint_every_steps=500")
    words = ("sweep", "-c", "tiny.yaml", *steps, "--set", "outer.lr=0.001,0.01")
    said = ends(together(2, *words, "--out", "grid", faults={1: ("cannot_load_the_kernel", {})}), 0, JOBS_S)
    assert "compiling failed: in another process: no space on this machine" in said
    ends(together(1, *words, "--set", "engine.compile=off", "--out", "alone"), 0, JOBS_S)
    for run in sorted((folder / "alone" / "runs").iterdir()):
        rows = [metrics(folder / out / "runs" / run.name)[-1] for out in ("alone", "grid")]
        assert rows[0]["post_adapt_loss"] == pytest.approx(rows[1]["post_adapt_loss"], rel=1e-3)


def test_a_comparison_trains_in_all_processes_what_a_single_one_does(together: Together, folder: Path) -> None:
    (folder / "joint.yaml").write_text(
        (folder / "tiny.yaml").read_text().replace("tiny", "joint") + "algorithm: {name: joint}\n"
    )
    words = ("compare", "--configs", "tiny.yaml", "joint.yaml", *PLAIN, "--jobs", "1")
    ends(together(1, *words, "--out", "alone"), 0, JOBS_S)
    said = ends(together(2, *words, "--out", "shared"), 0, JOBS_S)
    begun = [line.split(":")[0] for line in said.splitlines() if "training 12 steps" in line]
    assert begun == ["tiny", "joint"]
    for name in begun:
        assert_same_run(folder / "alone" / "runs" / name, folder / "shared" / "runs" / name)
    assert_alike(read(folder / "alone" / "comparison.json"), read(folder / "shared" / "comparison.json"))


def test_what_fails_in_another_process_is_said_and_the_rest_goes_on(together: Together, folder: Path) -> None:
    (folder / "wild.yaml").write_text((folder / "tiny.yaml").read_text().replace("tiny", "wild"))
    text = (folder / "wild.yaml").read_text()
    (folder / "wild.yaml").write_text(text.replace("meta_batch_size: 3", "meta_batch_size: 3, lr: 1.0e+30"))
    said = ends(together(2, "compare", "--configs", "tiny.yaml", "wild.yaml", *PLAIN, "--out", "both"), 4, JOBS_S)
    assert "too few runs are left to be compared" in said
    assert "warning: wild: the loss is not finite for seed" in said
    assert "tiny: trained in" in said


FORMS = [PLAIN, pytest.param(("--set", "engine.compile=on"), marks=needs_compiler)]


@pytest.mark.parametrize("form", FORMS, ids=["plain", "kernel"])
def test_a_sweep_whose_rows_are_shared_is_that_of_a_single_process(
    together: Together, folder: Path, form: tuple[str, ...]
) -> None:
    words = ("sweep", "-c", "tiny.yaml", *form, "--set", "outer.lr=0.001,0.003,0.01", "--set", "evaluation.tasks=5")
    ends(together(1, *words, "--out", "alone"), 0)
    ends(together(2, *words, "--out", "shared"), 0)
    for run in sorted((folder / "alone" / "runs").iterdir()):
        if form == PLAIN:  # whose tasks are shared
            assert is_trained(folder / "shared" / "runs" / run.name, load_config(run / "config.yaml"))
        else:
            assert_same_run(run, folder / "shared" / "runs" / run.name)
    assert_alike(read(folder / "alone" / "sweep.json"), read(folder / "shared" / "sweep.json"))


@needs_compiler
def test_a_member_that_diverges_ends_alone_whoever_trains_it(together: Together, folder: Path) -> None:
    words = ("sweep", "-c", "tiny.yaml", "--set", "engine.compile=on", "--set", "outer.lr=0.001,1e30,0.01")
    ends(together(1, *words, "--out", "alone"), 0)
    said = ends(together(2, *words, "--out", "shared"), 0)
    assert said.count("it ends here") == 1
    for run in sorted((folder / "alone" / "runs").iterdir()):
        if read(run / "run.json")["status"] == "done":
            assert_same_run(run, folder / "shared" / "runs" / run.name)
        else:
            assert read(folder / "shared" / "runs" / run.name / "run.json")["status"] == "diverged"


def test_the_programs_of_a_sweep_are_trained_by_whoever_has_room(together: Together, folder: Path) -> None:
    words = ("sweep", "-c", "tiny.yaml", *PLAIN, "--set", "model.hidden_sizes=[4],[6]", "--jobs", "1")
    ends(together(1, *words, "--out", "alone"), 0, JOBS_S)
    said = ends(together(2, *words, "--out", "shared"), 0, JOBS_S)
    assert said.count("trained in") == 2
    for run in sorted((folder / "alone" / "runs").iterdir()):
        assert_same_run(run, folder / "shared" / "runs" / run.name)
    assert_alike(read(folder / "alone" / "sweep.json"), read(folder / "shared" / "sweep.json"))


def test_a_reproduction_is_that_of_a_single_process(together: Together, folder: Path) -> None:
    (folder / "tiny-row.yaml").write_text(TINY_ROW)
    for size, out in ((1, "alone"), (2, "shared")):
        ends(together(size, "reproduce", "tiny-row.yaml", "--seeds", "0-1", "--out", out), 0, JOBS_S)
    assert_alike(read(folder / "alone" / "reproduction.json"), read(folder / "shared" / "reproduction.json"))


LONG = ("--set", "outer.steps=1000000", "--set", "run.checkpoint_every_steps=1000000")


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_process_ends_all_trainings_saved(together: Together, folder: Path, rank: int) -> None:
    (folder / "other.yaml").write_text((folder / "tiny.yaml").read_text().replace("tiny", "other"))
    words = ("compare", "--configs", "tiny.yaml", "other.yaml", *PLAIN, *LONG, "--jobs", "1", "--out", "both")
    commands = together(2, *words)
    for name in ("tiny", "other"):
        appears(folder / "both" / "runs" / name / "metrics.jsonl", commands)
    commands[rank].signal(signal.SIGTERM)
    said = ends(commands, 128 + signal.SIGTERM)
    assert "interrupted and saved after" in said
    assert "to go on: maml compare --resume both --jobs 1" in said
    for name in ("tiny", "other"):
        assert list((folder / "both" / "runs" / name / "checkpoints").iterdir())


def test_trainings_are_saved_by_a_process_that_is_left_alone_and_end_with_one_that_is_killed(
    together: Together, folder: Path
) -> None:
    (folder / "other.yaml").write_text((folder / "tiny.yaml").read_text().replace("tiny", "other"))
    words = ("compare", "--configs", "tiny.yaml", "other.yaml", *PLAIN, *LONG, "--jobs", "1", "--out", "both")
    commands = together(2, *words)
    for name in ("tiny", "other"):
        appears(folder / "both" / "runs" / name / "metrics.jsonl", commands)
    commands[1].signal(signal.SIGKILL)
    assert commands[1].wait(BOUND_S) == -signal.SIGKILL
    assert commands[0].wait(BOUND_S) == 1
    assert "one of 2 processes has ended or cannot be reached" in commands[0].err
    for name in ("tiny", "other"):  # the other one by itself, as its parent is gone
        appears(folder / "both" / "runs" / name / "checkpoints", commands)
        while is_held(folder / "both" / "runs" / name):
            time.sleep(0.05)
        assert list((folder / "both" / "runs" / name / "checkpoints").iterdir())


def test_an_error_in_a_process_that_helps_ends_all(together: Together, folder: Path) -> None:
    trained(together, "run")
    faults = {1: ("fails_in_a_meta_test", {"message": "a bug"})}
    said = ends(together(2, "eval", "run", faults=faults), 1)
    assert said.count("LookupError: a bug") == 1
    assert not (folder / "run" / "evaluation.json").exists()
