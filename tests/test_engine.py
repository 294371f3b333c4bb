"""Every acceleration against its plain twin: the same numbers to rounding."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from mamlcli.algorithms.maml import meta_gradient
from mamlcli.compute.engine import Decision, decide_compile, find_compiler, in_chunks, resolve_chunk, using_threads
from mamlcli.setup import (
    compile_decision,
    make_engine_gradient,
    make_loss_fn,
    make_meta_gradient,
    make_state,
    make_stream,
    uses_low_rank,
)
from torch import Tensor

from mamlcli import Config, parse_config
from mamlcli.compute.low_rank import low_rank_meta_gradient
from mamlcli.errors import DeviceError
from mamlcli.measure import peak_memory_bytes
from mamlcli.models.layers import forward, squared_error
from mamlcli.tasks import Samples, Task
from mamlcli.types import Order, Params
from tests.conftest import Maml, needs_compiler
from tests.same_run import assert_same_run, metrics

CPU = torch.device("cpu")


def config(*overrides: str) -> Config:
    return parse_config("name: x\nseeds: [0, 1]\nouter: {meta_batch_size: 7}", overrides=overrides)


def inputs(config: Config) -> tuple[Params, Task]:
    params = {name: value.double() for name, value in make_state(config, CPU).params.items()}
    return params, Task(*(Samples(side.x.double(), side.y.double()) for side in make_stream(config).batch(0)))


def assert_equal_to_plain(config: Config) -> None:
    params, tasks = inputs(config)
    ours, our_losses = make_engine_gradient(config)(params, tasks)
    plain, plain_losses = make_meta_gradient(make_loss_fn(config.model), config.algorithm)(params, tasks)
    torch.testing.assert_close(ours, plain, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(our_losses, plain_losses, rtol=1e-12, atol=0)


@pytest.mark.parametrize("order", ["first", "second"])
@pytest.mark.parametrize("inner_steps", [0, 1, 3])
@pytest.mark.parametrize("sizes", ["[]", "[9]", "[8, 6, 5]"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_low_rank_updates_give_the_dense_meta_gradient(
    order: str, inner_steps: int, sizes: str, activation: str
) -> None:
    chosen = config(
        "engine.inner_update=low_rank",
        f"algorithm.order={order}",
        f"algorithm.inner_steps={inner_steps}",
        "algorithm.inner_lr=0.05",
        f"model.hidden_sizes={sizes}",
        f"model.activation={activation}",
    )
    assert uses_low_rank(chosen)
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

    settings: dict[str, Any] = {"inner_lr": 0.1, "inner_steps": inner_steps, "order": order}
    ours = low_rank_meta_gradient(torch.tanh, params, Task(support, query), **settings)
    dense = meta_gradient(loss_fn, params, Task(support, query), **settings)
    torch.testing.assert_close(ours, dense, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("size", [1, 3, 6, 7, 100])
def test_chunks_of_tasks_give_the_meta_gradient_of_the_whole(size: int) -> None:
    assert_equal_to_plain(config(f"engine.task_chunk={size}"))


def test_wide_layers_take_low_rank_updates_by_themselves() -> None:
    assert uses_low_rank(config("model.hidden_sizes=[40, 128]"))
    assert not uses_low_rank(config("model.hidden_sizes=[40, 127]"))
    assert not uses_low_rank(config("model.hidden_sizes=[256]", "engine.inner_update=dense"))


def test_smaller_chunks_hold_less_memory() -> None:
    chosen = config("outer.meta_batch_size=64")
    params, tasks = inputs(chosen)
    gradient = make_meta_gradient(make_loss_fn(chosen.model), chosen.algorithm)
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
    decision = decide_compile(setting, num_steps=steps, earned_after=10_000, device=CPU)  # type: ignore[arg-type]
    assert decision.compiled == compiled
    assert reason in decision.reason


def test_a_compiler_that_is_asked_for_and_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(DeviceError, match="no C\\+\\+ compiler is on the PATH; install one"):
        decide_compile("on", num_steps=1, earned_after=1, device=CPU)


@needs_compiler
@pytest.mark.parametrize("named", ["", "no-such-compiler -O1", "'no end"])
def test_a_compiler_named_in_vain_is_passed_over(monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    monkeypatch.setenv("CXX", named)
    assert find_compiler() in (["g++"], ["clang++"])


def test_graphs_of_more_inner_steps_take_longer_to_be_earned_back() -> None:
    def compiled(steps: int, inner_steps: int) -> bool:
        chosen = config("engine.inner_update=dense", f"outer.steps={steps}", f"algorithm.inner_steps={inner_steps}")
        return compile_decision(chosen, CPU).compiled

    assert compiled(10_000, 1)
    assert not compiled(10_000, 2)
    assert compiled(15_000, 2)


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

    decided = Decision(compiled=True, reason="planted")
    chosen = f"engine={{inner_update: dense, compile: {setting}}}"
    with monkeypatch.context() as patch:
        patch.setattr("mamlcli.trainings.training.compile_decision", lambda *_: decided)
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
