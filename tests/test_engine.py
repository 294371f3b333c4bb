"""Every acceleration against its plain twin: the same numbers to rounding."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mamlcli import parse_config
from mamlcli.compute.chunks import in_chunks, resolve_chunk
from mamlcli.compute.compiled import decide_compile, find_compiler
from mamlcli.compute.low_rank import low_rank_meta_gradient
from mamlcli.compute.plan import Plan, make_plan, planned_update, uncompiled_gradient
from mamlcli.experiment import Experiment, make_experiment
from mamlcli.measure import peak_memory_bytes
from mamlcli.methods.inner_loops import constant_rate, gradient_descent
from mamlcli.methods.meta_gradients import unrolled
from mamlcli.models.layers import forward
from mamlcli.tasks.samples import Samples, Task, squared_error
from mamlcli.threads import using_threads
from mamlcli.types import Order, Params
from tests.conftest import Maml, needs_compiler
from tests.same_run import assert_same_run, metrics

CPU = torch.device("cpu")


def experiment(*overrides: str) -> Experiment:
    return make_experiment(parse_config("name: x\nseeds: [0, 1]\nouter: {meta_batch_size: 7}", overrides=overrides))


def plan(*overrides: str, device: torch.device = CPU) -> Plan:
    return make_plan(experiment(*overrides), device)


def inputs(experiment: Experiment) -> tuple[Params, Task]:
    params = {name: value.double() for name, value in experiment.initial_state(CPU).params.items()}
    return params, experiment.stream().batch(0).map(Tensor.double)


def assert_equal_to_plain(experiment: Experiment) -> None:
    params, tasks = inputs(experiment)
    ours, our_log = uncompiled_gradient(experiment, make_plan(experiment, CPU))(params, tasks)
    plain, plain_log = experiment.method.meta_gradient(params, tasks)
    torch.testing.assert_close(ours, plain, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(our_log, plain_log, rtol=1e-12, atol=0)


@pytest.mark.parametrize("order", ["first", "second"])
@pytest.mark.parametrize("inner_steps", [0, 1, 3])
@pytest.mark.parametrize("sizes", ["[]", "[9]", "[8, 6, 5]"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_low_rank_updates_give_the_dense_meta_gradient(
    order: str, inner_steps: int, sizes: str, activation: str
) -> None:
    chosen = experiment(
        "engine.inner_update=low_rank",
        f"algorithm.order={order}",
        f"algorithm.inner_steps={inner_steps}",
        "algorithm.inner_lr=0.05",
        f"model.hidden_sizes={sizes}",
        f"model.activation={activation}",
    )
    assert make_plan(chosen, CPU).form == "low_rank"
    assert_equal_to_plain(chosen)


@pytest.mark.parametrize("order", ["first", "second"])
@pytest.mark.parametrize("inner_steps", [0, 1, 4])
@pytest.mark.parametrize("num_outputs", [1, 2, 3])
def test_low_rank_updates_are_those_of_any_number_of_outputs(order: Order, inner_steps: int, num_outputs: int) -> None:
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    seeds, tasks, sizes = 2, 5, (3, 8, 6, num_outputs)
    params = {
        f"layer{index}.{name}": drawn(seeds, outputs, *([inputs] if name == "weight" else [])) / inputs**0.5
        for index, (inputs, outputs) in enumerate(pairwise(sizes))
        for name in ("weight", "bias")
    }
    support, query = (
        Samples(drawn(seeds, tasks, shots, sizes[0]), drawn(seeds, tasks, shots, num_outputs)) for shots in (6, 4)
    )

    def loss_fn(params: Params, samples: Samples) -> Tensor:
        return squared_error(forward(params, samples.x, activation=torch.tanh), samples.y)

    ours = low_rank_meta_gradient(
        torch.tanh, params, Task(support, query), inner_lr=0.1, inner_steps=inner_steps, order=order
    )
    inner = gradient_descent(loss_fn, constant_rate(0.1))
    dense = unrolled(inner, loss_fn, inner_steps=inner_steps, order=order)(params, Task(support, query))
    torch.testing.assert_close(ours, dense, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("size", [1, 3, 6, 7, 100])
def test_chunks_of_tasks_give_the_meta_gradient_of_the_whole(size: int) -> None:
    assert_equal_to_plain(experiment(f"engine.task_chunk={size}"))


def test_wide_layers_take_low_rank_updates_by_themselves() -> None:
    assert plan("model.hidden_sizes=[40, 128]").form == "low_rank"
    assert plan("model.hidden_sizes=[40, 127]", "engine.compile=off").form == "dense"
    assert plan("model.hidden_sizes=[256]", "engine.inner_update=dense").form == "dense"


LEARNED, CHAIN = "algorithm.learned_inner_lr=parameter", "algorithm={name: chain, order: first}"


@needs_compiler
@pytest.mark.parametrize(
    ("overrides", "kernel", "low_rank"),
    [
        ([], None, "no hidden layer of 128 units or more"),
        (["model.hidden_sizes=[8, 128]"], "hidden layers of 128 units or more, for which graphs are faster", None),
        (["engine.inner_update=low_rank"], "engine.inner_update: low_rank", None),
        (["engine.inner_update=dense"], "engine.inner_update: dense", "engine.inner_update: dense"),
        (["engine.inner_update=fused"], None, "engine.inner_update: fused"),
        (["model.activation=tanh"], None, "no hidden layer of 128 units or more"),
        (
            [LEARNED, "model.hidden_sizes=[128]"],
            "hidden layers of 128 units or more, for which graphs are faster",
            "second-order Meta-SGD, which is no plain gradient descent",
        ),
        (
            ["algorithm.name=joint"],
            None,
            "joint training, which is no plain gradient descent, no hidden layer of 128 units or more",
        ),
        (
            [CHAIN, "evaluation.shots=[10]", "engine.task_chunk=3", "outer.optimizer=nadam"],
            "first-order chain, whose inner steps are no gradients by rates, outer.optimizer: nadam, "
            "engine.task_chunk: 3",
            "first-order chain, which is no plain gradient descent, no hidden layer of 128 units or more",
        ),
    ],
)
def test_a_plan_says_in_words_what_faster_ways_are_passed_over_for(
    overrides: list[str], kernel: str | None, low_rank: str | None
) -> None:
    chosen = plan(*overrides)
    said = {"the kernel": kernel, "low rank": low_rank}
    assert chosen.passed_over == tuple(f"{way}: {words}" for way, words in said.items() if words)
    # A way that nothing keeps away is the one that is taken, the fastest first.
    ways = {"fused": kernel, "low_rank": low_rank}
    assert chosen.form == next((form for form, words in ways.items() if words is None), "dense")


def test_what_keeps_the_kernel_away_may_be_where_it_is_computed_or_that_nothing_is_compiled() -> None:
    assert plan(device=torch.device("cuda")).passed_over[0] == "the kernel: the device cuda"
    assert plan("engine.compile=off").passed_over[0] == "the kernel: engine.compile: off"


def test_smaller_chunks_hold_less_memory() -> None:
    chosen = experiment("outer.meta_batch_size=64")
    params, tasks = inputs(chosen)
    gradient = chosen.method.meta_gradient
    whole, chunked = (
        peak_memory_bytes(lambda size=size: in_chunks(gradient, size)(params, tasks), CPU)  # type: ignore[misc]
        for size in (64, 8)
    )
    assert chunked < whole / 3


def test_auto_chunks_cut_only_what_is_large() -> None:
    sizes = {"floats_per_task": 1761, "seeds": 3, "inner_steps": 1}
    assert resolve_chunk("auto", tasks=25, **sizes) == 25
    assert resolve_chunk(10, tasks=25, **sizes) == 10
    assert resolve_chunk(100, tasks=25, **sizes) == 25
    assert resolve_chunk("auto", tasks=200, **sizes) == 67  # three chunks of about equal size
    assert resolve_chunk("auto", floats_per_task=10**9, seeds=3, tasks=25, inner_steps=1) == 1


@pytest.mark.parametrize(
    ("setting", "steps", "compiler", "compiled", "reason"),
    [
        ("off", 10**6, True, False, "engine.compile is off"),
        ("on", 10, True, True, "engine.compile is on"),
        ("auto", 10_000, True, True, "earn it back"),
        ("auto", 9_999, True, False, "too few to earn it back"),
        ("auto", 10_000, False, False, "no C++ compiler"),
    ],
)
def test_compiling_is_decided_once_and_explained(
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    steps: int,
    compiler: bool,
    compiled: bool,
    reason: str,
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}" if compiler else None)
    monkeypatch.setattr("mamlcli.compute.compiled.find_spec", lambda _: None)
    decision = decide_compile(
        setting,  # type: ignore[arg-type]
        num_steps=steps,
        earned_after=10_000,
        device=CPU,
        kernel=False,
    )
    assert decision.compiled == compiled
    assert reason in decision.reason


@needs_compiler
@pytest.mark.parametrize("named", ["", "no-such-compiler -O1", "'no end"])
def test_a_compiler_named_in_vain_is_passed_over(monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    monkeypatch.setenv("CXX", named)
    assert find_compiler() in (["g++"], ["clang++"])


def test_graphs_of_more_inner_steps_take_longer_to_be_earned_back() -> None:
    def compiled(steps: int, inner_steps: int) -> bool:
        return plan(
            "engine.inner_update=dense", f"outer.steps={steps}", f"algorithm.inner_steps={inner_steps}"
        ).compiled

    assert compiled(5_000, 1)
    assert compiled(5_000, 20)
    assert not compiled(100_000, 21)
    assert compiled(110_000, 21)


@needs_compiler
def test_a_compiled_run_equals_an_eager_one_to_rounding_and_resumes_bit_for_bit(folder: Path) -> None:
    # In processes of their own: torch.compile does not trace the shape checks that are on in this one.
    def train(out: str, *options: str) -> Path:
        command = [sys.executable, "-c", "from mamlcli.cli import main; main()", "train", "--out", out, *options]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return folder / out

    compiled = ("-c", "tiny.yaml", "--set", "engine={compile: on, inner_update: dense}")
    whole, parts, eager = train("whole", *compiled), train("parts", *compiled), train("eager", "-c", "tiny.yaml")
    assert json.loads((whole / "run.json").read_text())["sessions"][0]["compiled"] is True
    assert json.loads((eager / "run.json").read_text())["sessions"][0]["compiled"] is False
    for one, other in zip(metrics(whole), metrics(eager), strict=True):
        assert one.pop("diverged_at_step") is other.pop("diverged_at_step") is None
        assert one == pytest.approx(other, rel=1e-4)
    (parts / "checkpoints" / "step-12.pt").unlink()
    assert_same_run(whole, train("parts", "--resume", "auto", *compiled))


@pytest.mark.parametrize("setting", ["auto", "on"])
def test_where_compiling_fails_auto_goes_on_without_and_on_is_an_error(
    maml: Maml, folder: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    def broken_compiler(*_: object) -> None:
        raise RuntimeError("fatal error: no such header\nmore of it")

    def decided(chosen: Experiment, device: torch.device, processes: int = 1) -> Plan:
        return make_plan(chosen, device, processes)._replace(compiled=True, reason="planted")

    chosen = f"engine={{inner_update: dense, compile: {setting}}}"
    with monkeypatch.context() as patch:
        patch.setattr("mamlcli.commands.train.make_plan", decided)
        patch.setattr("torch.compile", lambda *_, **__: broken_compiler)
        outcome = maml("train", "-c", "tiny.yaml", "--set", chosen, "--out", "run")
    assert "compiling failed: fatal error: no such header" in outcome.err
    if setting == "on":
        assert outcome.code == 6
        return
    assert outcome.code == 0
    assert json.loads((folder / "run" / "run.json").read_text())["sessions"][0]["compiled"] is False
    assert maml("train", "-c", "tiny.yaml", "--out", "eager").code == 0
    assert_same_run(folder / "run", folder / "eager")


def test_training_flushes_denormal_numbers_and_leaves_the_program_as_it_was() -> None:
    def smallest() -> float:
        return torch.tensor(1e-40).mul(1).item()

    threads, before = torch.get_num_threads(), smallest()
    with using_threads(1):
        assert smallest() == 0
        with using_threads(1):
            pass
        assert smallest() == 0
    assert (torch.get_num_threads(), smallest()) == (threads, before)
    assert before > 0


@needs_compiler
def test_what_is_compiled_is_said_before_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    kernel = experiment("engine.inner_update=fused", "engine.compile=on", "model.hidden_sizes=[4]")
    for said in ("", "compiling the kernel"):
        monkeypatch.setattr("mamlcli.compute.plan.building", lambda said=said: said)
        planned_update(kernel, kernel.initial_state(CPU), make_plan(kernel, CPU), CPU, note=heard.append)
        assert "".join(heard) == said
    heard.clear()
    monkeypatch.setattr("mamlcli.compute.compiled._one_graph", lambda function, _: function)
    graph = experiment("engine.inner_update=dense", "engine.compile=on", "model.hidden_sizes=[4]")
    update = planned_update(graph, graph.initial_state(CPU), make_plan(graph, CPU), CPU, note=heard.append)
    for step in range(2):
        update(graph.stream().batch(step))
    assert len(heard) == 1
    assert heard[0].startswith("compiling one graph")
