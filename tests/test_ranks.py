"""Several processes that train one run, by gloo on this machine: the same numbers, and one end for all."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import mamlcli
from mamlcli import Config, parse_config
from mamlcli.compute.plan import make_plan
from mamlcli.errors import UsageError
from mamlcli.experiment import make_experiment
from mamlcli.interrupts import StopRequest
from mamlcli.ranks import Place, Ranks, place, without_launcher
from mamlcli.runs.checkpoints import list_checkpoints, load_checkpoint
from mamlcli.stacking import stacked
from tests.conftest import ROOT, TINY, needs_compiler
from tests.launched import BOUND_S, Faults, appears, ends, free_port, start_together
from tests.same_run import assert_same_run, metrics
from tests.zygote import Command, Zygote

RUN = """
name: ranks
seeds: [0, 1, 2]
device: cpu
model: {hidden_sizes: [8, 8]}
outer: {steps: 50, meta_batch_size: 25}
run: {log_every_steps: 25, checkpoint_every_steps: 20}
engine: {threads: 1}
"""
ENDLESS = ("--set", "outer.steps=1000000", "--set", "run.checkpoint_every_steps=1000")
PLAIN, KERNEL = ("--set", "engine.compile=off"), ("--set", "engine.compile=on")

Together = Callable[..., list[Command]]


@pytest.fixture
def together(zygote: Zygote, folder: Path) -> Together:
    """Start so many processes with the same words, as a launcher does."""
    (folder / "ranks.yaml").write_text(RUN)

    def start(size: int, *words: str, faults: Faults | None = None) -> list[Command]:
        return start_together(zygote, folder, size, "train", *words, faults=faults)

    return start


def parameters(run: Path) -> torch.Tensor:
    newest = load_checkpoint(list_checkpoints(run / "checkpoints")[0])
    return torch.cat([theta.flatten() for theta in newest.params.values()])


def distance(one: Path, other: Path) -> float:
    """The largest difference of two runs' parameters and losses, relative to the largest of each."""
    losses = [
        [torch.tensor([row[name] for row in metrics(run)]) for run in (one, other)]
        for name in ("pre_adapt_loss", "post_adapt_loss", "grad_norm")
    ]
    pairs = [[parameters(one), parameters(other)], *losses]
    return max(float((one - other).abs().max() / one.abs().max()) for one, other in pairs)


@pytest.mark.parametrize("form", [PLAIN, pytest.param(KERNEL, marks=needs_compiler)], ids=["plain", "kernel"])
@pytest.mark.parametrize("double", [False, True], ids=["float32", "float64"])
def test_processes_that_share_tasks_agree_with_a_single_one(
    together: Together, folder: Path, form: tuple[str, ...], double: bool
) -> None:
    def trained(size: int) -> Path:
        faults: dict[int, tuple[str, dict[str, object]]] = {rank: ("in_double_precision", {}) for rank in range(size)}
        words = ("-c", "ranks.yaml", "--out", f"run-{size}", "--set", "parallel.shard=tasks", *form)
        ends(together(size, *words, faults=faults if double else None), 0)
        return folder / f"run-{size}"

    one = trained(1)
    assert (parameters(one).dtype == torch.float64) == double
    for size in (2, 3):
        assert 0 < distance(one, trained(size)) < (1e-12 if double else 1e-5)


@pytest.mark.parametrize("form", [PLAIN, pytest.param(KERNEL, marks=needs_compiler)], ids=["plain", "kernel"])
def test_processes_that_share_seeds_train_what_a_single_one_does_bit_for_bit(
    together: Together, folder: Path, form: tuple[str, ...]
) -> None:
    words = ("-c", "ranks.yaml", "--set", "parallel.shard=seeds", "--set", "evaluation.every_steps=10", *form)
    words += ("--set", "evaluation.tasks=5")
    for size in (1, 2, 4):  # of four, one is left without a seed
        said = ends(together(size, *words, "--out", f"run-{size}"), 0)
        assert ("processes share seeds" in said) == (size > 1)
        assert_same_run(folder / "run-1", folder / f"run-{size}")


METHODS = {
    "chain": "algorithm: {name: chain, inner_steps: 2, unlabelled_inputs: 4}",
    "averaged": "algorithm: {name: averaged, models: 5, penalty: mean, strength: 0.1}\ntasks: {pool: 5}",
    "reptile": "algorithm: {name: reptile, inner_steps: 3}",
    "imaml": "algorithm: {name: imaml, inner_steps: 3, inner_lr: 0.05}",
    "MAML++": "algorithm: {inner_steps: 2, learned_inner_lr: tensor, per_step_losses: 6, first_order_steps: 2}",
    "clamped": "algorithm: {name: maml}",
}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_can_be_shared_in_tasks_and_in_seeds(together: Together, folder: Path, name: str) -> None:
    (folder / "own.yaml").write_text(TINY + METHODS[name])
    words = (
        "-c",
        "own.yaml",
        *PLAIN,
        "--set",
        "evaluation.shots=[10]",
        *(("--set", "outer.max_task_grad=0.1") if name == "clamped" else ()),
    )
    ends(together(1, *words, "--out", "one"), 0)
    ends(together(2, *words, "--set", "parallel.shard=tasks", "--out", "tasks"), 0)
    assert distance(folder / "one", folder / "tasks") < 1e-5
    ends(together(2, *words, "--out", "seeds"), 0)
    assert_same_run(folder / "one", folder / "seeds")


@pytest.mark.parametrize("optimizer", ["sgd", "nadam", "adagrad", "rmsprop"])
def test_what_an_optimiser_holds_is_shared_with_the_seeds(together: Together, folder: Path, optimizer: str) -> None:
    for size in (1, 2):
        words = ("-c", "ranks.yaml", "--set", f"outer.optimizer={optimizer}", *PLAIN, "--out", f"run-{size}")
        ends(together(size, *words), 0)
    assert_same_run(folder / "run-1", folder / "run-2")


@pytest.mark.parametrize("shard", ["tasks", "seeds"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_one_process_ends_all_after_saving_and_the_run_goes_on_to_the_same_bits(
    together: Together, folder: Path, shard: str, number: signal.Signals
) -> None:
    words = ("-c", "ranks.yaml", *PLAIN, "--set", f"parallel.shard={shard}")
    begun = together(2, *words, *ENDLESS, "--out", "run")
    appears(folder / "run" / "metrics.jsonl", begun)
    begun[1].signal(number)
    assert "interrupted and saved at step" in ends(begun, 128 + number)
    step = load_checkpoint(list_checkpoints(folder / "run" / "checkpoints")[0]).step
    last = ("--set", f"outer.steps={step + 20}")
    ends(together(2, *words, *last, "--set", "run.checkpoint_every_steps=1000", "--resume", "run"), 0)
    ends(together(2, *words, *last, "--set", "run.checkpoint_every_steps=1000", "--out", "whole"), 0)
    assert torch.equal(parameters(folder / "run"), parameters(folder / "whole"))


@pytest.mark.parametrize("form", [PLAIN, pytest.param(KERNEL, marks=needs_compiler)], ids=["plain", "kernel"])
@pytest.mark.parametrize("shard", ["tasks", "seeds"])
def test_a_divergence_ends_all_with_one_message(together: Together, form: tuple[str, ...], shard: str) -> None:
    words = ("-c", "ranks.yaml", *form, "--set", f"parallel.shard={shard}", "--set", "outer.lr=1e30", "--out", "run")
    said = ends(together(2, *words), 5)
    assert len(re.findall("is not finite for seed", said)) == 1
    assert "to try smaller steps: maml train --config run/config.yaml" in said


@pytest.mark.parametrize("form", [PLAIN, pytest.param(KERNEL, marks=needs_compiler)], ids=["plain", "kernel"])
def test_a_seed_that_is_frozen_in_one_process_stops_no_other(
    together: Together, folder: Path, form: tuple[str, ...]
) -> None:
    # One of these seeds leaves the numbers within its first steps, and the others do not.
    words = ("-c", "ranks.yaml", *form, "--set", "outer.on_divergence=freeze", "--set", "outer.optimizer=sgd")
    words += ("--set", "outer.lr=0.9", "--set", "outer.steps=120", "--set", "run.log_every_steps=40")
    for size in (1, 3):
        ends(together(size, *words, "--out", f"run-{size}"), 0)
    assert_same_run(folder / "run-1", folder / "run-3")
    at = {row["diverged_at_step"] for row in metrics(folder / "run-1")}
    assert None in at
    assert len(at) > 1


def test_a_full_disk_ends_all(together: Together) -> None:
    words = ("-c", "ranks.yaml", *PLAIN, "--out", "run")
    said = ends(together(2, *words, faults={0: ("limit_files", {"num_bytes": 4000})}), 3)
    assert said.count("cannot read or write it: File too large") == 1


@pytest.mark.parametrize("shard", ["tasks", "seeds"])
@pytest.mark.parametrize("rank", [0, 2])
def test_an_error_that_nobody_has_thought_of_ends_all(together: Together, rank: int, shard: str) -> None:
    words = ("-c", "ranks.yaml", *PLAIN, "--set", f"parallel.shard={shard}", "--out", "run")
    said = ends(together(3, *words, faults={rank: ("fails", {"message": "a bug"})}), 1)
    assert said.count("LookupError: a bug") == 1


@pytest.mark.parametrize("rank", [0, 1])
def test_who_is_left_by_a_killed_process_ends(together: Together, folder: Path, rank: int) -> None:
    commands = together(2, "-c", "ranks.yaml", *PLAIN, *ENDLESS, "--out", "run")
    appears(folder / "run" / "metrics.jsonl", commands)
    commands[rank].signal(signal.SIGKILL)
    assert commands[rank].wait(BOUND_S) == -signal.SIGKILL
    assert commands[1 - rank].wait(BOUND_S) == 1
    assert ("one of 2 processes has ended or cannot be reached" in commands[1 - rank].err) == (rank == 1)


def programs(together: Together, folder: Path, *overrides: str, fails_at: int | None = None) -> list[list[str]]:
    """How two trainings of a program have ended in each of two processes that are connected already."""
    values: dict[str, object] = {"out": "own", "overrides": overrides, "fails_at": fails_at}
    ends(together(2, "program", faults=dict.fromkeys((0, 1), ("trains_as_a_program", values))), 0)
    return [(folder / f"own.{rank}").read_text().split("\n") for rank in (0, 1)]


@pytest.mark.parametrize("shard", ["tasks", "seeds"])
def test_processes_that_are_connected_already_train_what_a_launcher_s_do(
    together: Together, folder: Path, shard: str
) -> None:
    words = ("engine.compile=off", f"parallel.shard={shard}")
    found = programs(together, folder, *words)
    assert found == 2 * [["done own-0", "2 are there", "done own-1", "2 are there"]]
    ends(together(2, "-c", "ranks.yaml", *PLAIN, "--set", words[1], "--out", "launched"), 0)
    assert_same_run(folder / "launched", folder / "own-0")
    assert_same_run(folder / "launched", folder / "own-1")


def test_every_process_of_a_program_hears_what_has_ended_the_others(together: Together, folder: Path) -> None:
    first, second = programs(together, folder, "engine.compile=off", fails_at=25)
    assert first == 2 * ["ValueError: a listener's own", "2 are there"]
    said = "LostRankError: one of 2 processes has ended: ValueError: a listener's own"
    assert second == 2 * [said, "2 are there"]


def test_every_process_of_a_program_raises_a_divergence(together: Together, folder: Path) -> None:
    first, second = programs(together, folder, "engine.compile=off", "outer.lr=1e30")
    assert first[0].startswith("DivergedError: ")
    assert second[0] == first[0]
    assert any("to try smaller steps, train the config of own-0 with outer.lr=1e+29" in line for line in first)
    assert not any("to try smaller steps" in line for line in second)


def test_a_folder_that_is_there_is_refused_by_all(together: Together, folder: Path) -> None:
    (folder / "run").mkdir()
    assert "maml: run exists already" in ends(together(2, "-c", "ranks.yaml", "--out", "run"), 3)
    assert "nonsense" in ends(together(2, "-c", "ranks.yaml", "--set", "nonsense=1"), 2)


def test_a_run_goes_on_with_more_or_fewer_processes_and_says_what_that_changes(
    together: Together, folder: Path
) -> None:
    words = ("-c", "ranks.yaml", *PLAIN, "--set", "parallel.shard=tasks")
    ends(together(1, *words, "--out", "whole"), 0)
    ends(together(2, *words, "--set", "outer.steps=20", "--out", "run"), 0)
    said = ends(together(1, *words, "--set", "outer.steps=30", "--resume", "run"), 0)
    assert "task_ranks was 2 and is 1 now: from here on the numbers equal" in said
    said = ends(together(3, *words, "--resume", "run"), 0)
    assert "task_ranks was 1 and is 3 now" in said
    assert torch.allclose(parameters(folder / "whole"), parameters(folder / "run"), rtol=1e-4, atol=1e-6)
    sizes = [session["task_ranks"] for session in json.loads((folder / "run" / "run.json").read_text())["sessions"]]
    assert sizes == [2, 1, 3]


def launched(folder: Path, *words: str, restarts: int = 0) -> "subprocess.Popen[str]":
    """The launcher of PyTorch itself."""
    launcher = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", f"--max-restarts={restarts}")
    return subprocess.Popen(
        [*launcher, f"--master-port={free_port()}", "-m", "mamlcli", "train", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="processes are looked up in /proc")
@pytest.mark.parametrize("rank", ["0", "1"])
def test_the_launcher_begins_again_where_a_process_was_killed(together: Together, folder: Path, rank: str) -> None:
    words: tuple[str, ...] = ("-c", "ranks.yaml", *PLAIN, "--set", "parallel.shard=tasks", "--set", "outer.steps=600")
    words += ("--set", "run.checkpoint_every_steps=100")
    ends(together(2, *words, "--out", "whole"), 0)
    launcher = launched(folder, *words, "--out", "run", "--resume", "auto", restarts=2)
    try:
        appears(folder / "run" / "checkpoints" / "step-200.pt", [])
        os.kill(_process_of(launcher.pid, rank), signal.SIGKILL)
        out, err = launcher.communicate(timeout=2 * BOUND_S)
    finally:
        if launcher.poll() is None:
            launcher.terminate()
            launcher.communicate(timeout=BOUND_S)
    assert launcher.returncode == 0, err
    assert "continuing run at step" in err
    assert out.count("to 600) of 3 seed(s)") == 1
    assert_same_run(folder / "whole", folder / "run")


def _process_of(launcher: int, rank: str) -> int:
    """The process of a rank among a launcher's."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            own = (path / "environ").read_text().split("\0")
        except OSError:
            continue
        if parent == launcher and f"RANK={rank}" in own:
            return int(path.name)
    raise AssertionError("no such process")


def test_a_command_that_is_not_shared_runs_once(zygote: Zygote, folder: Path) -> None:
    commands = start_together(zygote, folder, 2, "configs", "ls")
    assert [command.wait(BOUND_S) for command in commands] == [0, 0]
    assert "quickstart" in commands[0].out
    assert commands[1].out + commands[1].err == ""


def test_a_single_process_has_no_group_and_is_told_nothing() -> None:
    alone = Ranks(StopRequest())
    values = torch.ones(3)
    alone.add_up(values)
    alone.exchange_rows([values])
    assert (alone.told("a"), alone.all_told("a"), alone.meet(3, 4), list(alone.share_of(5))) == (
        "a",
        ["a"],
        [3, 4],
        [0, 1, 2, 3, 4],
    )
    assert values.tolist() == [1, 1, 1]
    assert alone.stop is alone.heard


def test_training_alone_begins_no_group(tiny: Config, tmp_path: Path) -> None:
    assert not torch.distributed.is_initialized()
    mamlcli.train(tiny, out=tmp_path / "run")
    assert not torch.distributed.is_initialized()


def test_a_place_is_what_the_launcher_says_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert place() == Place(0, 1)
    said = {"RANK": "2", "WORLD_SIZE": "3", "MASTER_ADDR": "here", "MASTER_PORT": "1"}
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    assert place() == Place(2, 3)
    monkeypatch.setenv("RANK", "3")
    assert place() == Place(0, 1)
    assert without_launcher(said | {"PATH": "x", "LOCAL_RANK": "2"}) == {"PATH": "x"}


def test_the_plan_says_what_is_shared() -> None:
    cpu = torch.device("cpu")

    def shard(text: str, ranks: int) -> str | None:
        return make_plan(make_experiment(parse_config(f"name: a\nseeds: [0, 1]\n{text}")), cpu, ranks).shard

    assert [shard("", ranks) for ranks in (1, 2, 3)] == [None, "seeds", "tasks"]
    assert [shard(f"parallel: {{shard: {name}}}", 3) for name in ("seeds", "tasks")] == ["seeds", "tasks"]
    text = "name: a\nengine: {compile: off}\n"
    members = [make_experiment(parse_config(f"{text}outer: {{lr: {lr}}}")) for lr in (0.1, 0.2)]
    assert make_plan(stacked(members), cpu, 2).shard == "tasks"
    text += "parallel: {shard: seeds}\n"
    members = [make_experiment(parse_config(f"{text}outer: {{lr: {lr}}}")) for lr in (0.1, 0.2)]
    with pytest.raises(UsageError, match="needs the kernel"):
        make_plan(stacked(members), cpu, 2)
