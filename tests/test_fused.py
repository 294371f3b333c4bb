"""The meta-update in C++ against `training.make_update` with torch.optim.Adam: the same numbers to rounding."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from operator import itemgetter
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mamlcli import parse_config
from mamlcli.compute.fused import library
from mamlcli.compute.fused.losses import fused_losses
from mamlcli.compute.fused.update import FusedUpdate
from mamlcli.compute.plan import Plan, kernel_losses, make_plan, planned_update, update_memory_bytes
from mamlcli.errors import DeviceError, DivergedError, UsageError
from mamlcli.experiment import Experiment, make_experiment
from mamlcli.interrupts import StopRequest
from mamlcli.meta_test.losses import adaptation_losses
from mamlcli.meta_test.measure import meta_test, meta_test_tasks
from mamlcli.methods.method import Log, gradient_at, make_bench
from mamlcli.models.model import Model
from mamlcli.ranks import Ranks
from mamlcli.registry import build
from mamlcli.section import FunctionTasksSection
from mamlcli.tasks.family import function_family
from mamlcli.tasks.samples import PRESENT_SQUARED_ERROR, Task
from mamlcli.threads import Threads
from mamlcli.training import OnDivergence, TrainState, Update, _Pace, init_state, make_update, train_steps
from tests.conftest import Maml, needs_compiler
from tests.same_run import assert_same_run
from tests.test_table import unequal_rows, written

CPU = torch.device("cpu")
pytestmark = needs_compiler


def experiment(*overrides: str) -> Experiment:
    text = "name: x\nseeds: [0, 1, 2]\nouter: {meta_batch_size: 7}"
    return make_experiment(parse_config(text, overrides=overrides))


def plan(*overrides: str, device: torch.device = CPU) -> Plan:
    return make_plan(experiment(*overrides), device)


def new_state(experiment: Experiment, dtype: torch.dtype = torch.float64) -> TrainState:
    seeds = [{name: value.to(dtype) for name, value in seed.items()} for seed in experiment.initial_params()]
    return init_state(seeds, optimizer=experiment.config.outer.optimizer, lr=0.01, device=CPU)


def batches(experiment: Experiment, count: int, dtype: torch.dtype = torch.float64) -> list[Task]:
    return [batch.map(lambda part: part.to(dtype)) for batch in experiment.stream().batches(0, count)]


def fused(experiment: Experiment, state: TrainState, threads: int = 1, seeds_before: int = 0) -> FusedUpdate:
    descent, layers, outer = experiment.method.descent, experiment.model.layers, experiment.config.outer
    assert descent is not None
    assert layers is not None
    has_gaps = experiment.family.loss is PRESENT_SQUARED_ERROR
    bound = outer.max_grad_norm
    return FusedUpdate(
        state,
        layers,
        descent,
        has_gaps=has_gaps,
        max_grad_norm=bound,
        threads=lambda: threads,
        seeds_before=seeds_before,
    )


def plain(experiment: Experiment, state: TrainState) -> Update:
    def update(tasks: Task) -> tuple[Log, Tensor]:
        gradient = gradient_at(experiment.method, state.step)
        return make_update(state, gradient, experiment.config.outer.max_grad_norm)(tasks)

    return update


def assert_same_state(one: TrainState, other: TrainState) -> None:
    torch.testing.assert_close(one.flat, other.flat, rtol=1e-11, atol=1e-13, equal_nan=True)
    torch.testing.assert_close(one.flat.grad, other.flat.grad, rtol=1e-10, atol=1e-13, equal_nan=True)
    ours, theirs = (state.optimizer.state[state.flat] for state in (one, other))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-13, equal_nan=True)
    assert one.alive.tolist() == other.alive.tolist()
    assert one.updates.tolist() == other.updates.tolist()


@pytest.fixture
def set_compiler(folder: Path, unload: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let a script be the C++ compiler, and nothing be built or loaded yet."""

    def use(script: str) -> None:
        unload()
        path = folder / "c++"
        path.write_text(script)
        path.chmod(0o755)
        monkeypatch.setenv("CXX", str(path))
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))

    return use


def assert_same_updates(experiment: Experiment, steps: int = 4) -> None:
    ours, theirs = new_state(experiment), new_state(experiment)
    update, expected = fused(experiment, ours), plain(experiment, theirs)
    for tasks in batches(experiment, steps):
        torch.testing.assert_close(update(tasks), expected(tasks), rtol=1e-11, atol=1e-13)
        assert_same_state(ours, theirs)
        ours.step = theirs.step = ours.step + 1


@pytest.mark.parametrize("order", ["first", "second"])
@pytest.mark.parametrize("inner_steps", [0, 1, 3])
@pytest.mark.parametrize("sizes", ["[]", "[9]", "[8, 6, 5]", "[40, 40]"])
def test_fused_updates_are_those_of_torch(order: str, inner_steps: int, sizes: str) -> None:
    algorithm = f"{{order: {order}, inner_steps: {inner_steps}, inner_lr: 0.05}}"
    assert_same_updates(experiment(f"algorithm={algorithm}", f"model.hidden_sizes={sizes}"))


@pytest.mark.parametrize("order", ["first", "second"])
@pytest.mark.parametrize("inner_steps", [1, 3])
@pytest.mark.parametrize("adapts", ["all", "head", "body"])
@pytest.mark.parametrize("rates", ["null", "tensor", "tensor_and_step", "parameter"])
def test_rates_may_be_learned_and_layers_stand_still(rates: str, adapts: str, inner_steps: int, order: str) -> None:
    algorithm = f"order: {order}, inner_steps: {inner_steps}, adapts: {adapts}, learned_inner_lr: {rates}"
    start = "" if rates == "null" else ", inner_lr_init: [0.02, 0.06]"
    assert_same_updates(experiment(f"algorithm={{{algorithm}{start}}}", "model.hidden_sizes=[8, 6, 5]"))


@pytest.mark.parametrize("order", ["first", "second"])
@pytest.mark.parametrize("adapts", ["all", "head", "body"])
@pytest.mark.parametrize("rates", ["null", "tensor_and_step", "parameter"])
def test_losses_may_be_those_of_each_step_and_the_order_may_turn(rates: str, adapts: str, order: str) -> None:
    algorithm = f"order: {order}, inner_steps: 3, adapts: {adapts}, learned_inner_lr: {rates}, inner_lr: 0.05"
    for course in ("per_step_losses: 3", "per_step_losses: 4, first_order_steps: 2", "first_order_steps: 1"):
        assert_same_updates(experiment(f"algorithm={{{algorithm}, {course}}}", "model.hidden_sizes=[8, 6]"), steps=6)


@pytest.mark.parametrize("algorithm", ["{inner_steps: 2}", "{order: first}", "{name: joint}", "{adapts: head}"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_tasks_may_be_of_unequal_size(activation: str, algorithm: str) -> None:
    equal = experiment(f"algorithm={algorithm}", f"model={{hidden_sizes: [8, 6], activation: {activation}}}")
    family = equal.family._replace(loss=PRESENT_SQUARED_ERROR)
    method = build("algorithm", equal.config.algorithm, make_bench(family, equal.model, 10))
    unequal = equal._replace(family=family, method=method)

    def gaps(targets: Tensor) -> Tensor:
        missing = torch.rand(targets.shape, generator=torch.Generator().manual_seed(targets.shape[2])) < 0.3
        missing[:, 0] = True  # a task without a target
        return targets.masked_fill(missing, torch.nan)

    ours, theirs = new_state(unequal), new_state(unequal)
    update, expected = fused(unequal, ours), plain(unequal, theirs)
    for tasks in batches(unequal, 4):
        with_gaps = Task(*(side._replace(y=gaps(side.y)) for side in tasks))
        torch.testing.assert_close(update(with_gaps), expected(with_gaps), rtol=1e-11, atol=1e-13)
        assert_same_state(ours, theirs)


def test_a_table_of_unequal_tasks_is_learned_and_tested_in_the_kernel_as_without(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", unequal_rows())
    keys = f"family: table, path: {path}, task: name, inputs: [a, b], target: [y, z], support_shots: 3, query_shots: 6"
    found = []
    for compile_ in ("on", "off"):
        text = f"{{name: t, seeds: [0, 1], device: cpu, tasks: {{{keys}}}, engine: {{compile: '{compile_}'}}}}"
        chosen = make_experiment(parse_config(text, overrides=["outer.meta_batch_size=7", "evaluation.shots=[2, 3]"]))
        made = make_plan(chosen, CPU)
        assert made.form == ("fused" if compile_ == "on" else "dense")
        state = chosen.initial_state(CPU)
        update = planned_update(chosen, state, made, CPU)
        for tasks in batches(chosen, 5, torch.float32):
            update(tasks)
        with Threads(1, 1, lambda _: None) as threads:
            losses = meta_test(chosen, state.params, CPU, Ranks(StopRequest()), threads)
        found.append((state.flat, {shots: by_predictor[""] for shots, by_predictor in losses.items()}))
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "momentum"])
def test_optimisers_are_those_of_torch(optimizer: str) -> None:
    assert_same_updates(experiment(f"outer.optimizer={optimizer}", "outer.max_grad_norm=3"), steps=6)


@pytest.mark.parametrize("algorithm", ["{order: first}", "{inner_steps: 2}", "{adapts: head}", "{adapts: body}"])
@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "silu", "elu", "softplus", "gelu"])
def test_activations_may_be_smooth(activation: str, algorithm: str) -> None:
    model = f"{{hidden_sizes: [8, 6, 5], activation: {activation}}}"
    assert_same_updates(experiment(f"algorithm={algorithm}", f"model={model}", "tasks.x=[-30, 30]"))


def test_joint_training_is_on_the_samples_of_both_sides() -> None:
    assert_same_updates(experiment("algorithm.name=joint", "tasks.support_shots=3", "model.hidden_sizes=[9]"))


@pytest.mark.parametrize(("seeds", "tasks"), [(1, 1), (1, 16), (1, 17), (2, 8), (5, 3), (20, 1), (3, 40)])
def test_seeds_and_tasks_share_the_lanes_of_a_register_in_any_number(seeds: int, tasks: int) -> None:
    assert_same_updates(
        experiment(f"seeds={list(range(seeds))}", f"outer.meta_batch_size={tasks}", "model.hidden_sizes=[6]")
    )


def test_samples_may_have_several_inputs_and_support_another_size_than_query() -> None:
    assert_same_updates(experiment("tasks.oracle_inputs=true", "tasks.support_shots=3", "tasks.query_shots=11"))


@pytest.mark.parametrize("order", ["first", "second"])
@pytest.mark.parametrize(("num_inputs", "num_outputs"), [(1, 2), (2, 1), (2, 3)])
def test_targets_may_be_vectors(order: str, num_inputs: int, num_outputs: int) -> None:
    def waves(x: Tensor, phase: Tensor) -> Tensor:
        return torch.cat([((k + 1) * x.sum(-1, keepdim=True) - phase).sin() for k in range(num_outputs)], dim=-1)

    config = experiment(f"algorithm.order={order}", "algorithm.inner_steps=2", "model.hidden_sizes=[8, 6]").config
    assert isinstance(config.tasks, FunctionTasksSection)
    interval = {"phase": (0.0, 3.0)}
    family = function_family(waves, interval, config.tasks, num_inputs=num_inputs, num_outputs=num_outputs)
    model: Model = build("model", config.model, num_inputs, num_outputs)
    bench = make_bench(family, model, config.tasks.support_shots)
    chosen = Experiment(config, family, model, build("algorithm", config.algorithm, bench), bench.loss_fn)
    assert make_plan(chosen, CPU).form == "fused"
    assert_same_updates(chosen)


def test_single_precision_agrees_to_its_rounding() -> None:
    chosen = experiment()
    ours, theirs = (new_state(chosen, torch.float32) for _ in range(2))
    tasks = batches(chosen, 1, torch.float32)[0]
    torch.testing.assert_close(fused(chosen, ours)(tasks), plain(chosen, theirs)(tasks), rtol=1e-5, atol=1e-6)
    assert ours.flat.grad is not None
    torch.testing.assert_close(ours.flat.grad, theirs.flat.grad, rtol=1e-4, atol=1e-5)


def test_averages_of_adam_are_exact_in_single_precision() -> None:
    chosen = experiment()
    state = new_state(chosen, torch.float32)
    fused(chosen, state)(batches(chosen, 1, torch.float32)[0])
    moments, grad = state.optimizer.state[state.flat], state.flat.grad
    assert grad is not None
    torch.testing.assert_close(moments["exp_avg"], 0.1 * grad, rtol=3e-7, atol=0)
    torch.testing.assert_close(moments["exp_avg_sq"], 0.001 * grad.square(), rtol=3e-7, atol=1e-37)


def test_data_and_averages_may_lie_in_memory_in_any_order() -> None:
    chosen = experiment()
    ours, theirs = new_state(chosen), new_state(chosen)
    update, expected = fused(chosen, ours), fused(chosen, theirs)
    for tasks in batches(chosen, 2, torch.float32):
        expected(tasks.map(Tensor.double))
        update(tasks.map(lambda part: part.mT.contiguous().mT))
        moments = ours.optimizer.state[ours.flat]
        moments |= {name: moments[name].T.contiguous().T for name in ("exp_avg", "exp_avg_sq")}
    assert_same_state(ours, theirs)


def test_an_adaptation_that_no_memory_holds_is_an_error_and_no_crash() -> None:
    chosen = experiment("model.hidden_sizes=[400, 400]", "algorithm.inner_steps=1000000000")
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        fused(chosen, new_state(chosen))(batches(chosen, 1)[0])


def test_each_seed_is_clipped_alone() -> None:
    assert_same_updates(experiment("outer.max_grad_norm=3"))


def test_a_seed_that_diverges_keeps_its_parameters_and_leaves_the_others_alone() -> None:
    chosen = experiment("outer.meta_batch_size=9")
    ours, theirs = new_state(chosen), new_state(chosen)
    update, expected = fused(chosen, ours), plain(chosen, theirs)
    for step, tasks in enumerate(batches(chosen, 6)):
        if step == 2:
            tasks.query.y[1, 4] = torch.inf
        log, norms = update(tasks)
        expected_log, _ = expected(tasks)
        losses, expected_losses = log["post_adapt_loss"], expected_log["post_adapt_loss"]
        torch.testing.assert_close(losses[::2], expected_losses[::2], rtol=1e-11, atol=0)
        torch.testing.assert_close(ours.flat, theirs.flat, rtol=1e-11, atol=1e-13)
        assert norms[::2].isfinite().all()
    assert ours.alive.tolist() == theirs.alive.tolist() == [True, False, True]
    assert ours.updates.tolist() == theirs.updates.tolist() == [6, 2, 6]


@pytest.mark.parametrize("make", [plain, fused])
def test_a_loss_out_of_the_numbers_freezes_a_seed_whose_gradient_is_finite(
    make: Callable[[Experiment, TrainState], Update],
) -> None:
    # Of errors that are +-2e19 in pairs at one input the squares are no float32, and the gradient's sum is zero.
    chosen = experiment("model.hidden_sizes=[]", "algorithm.inner_steps=0", "tasks.query_shots=2")
    state, tasks = new_state(chosen, torch.float32), batches(chosen, 1, torch.float32)[0]
    before = state.flat.clone()
    tasks.query.x[1] = 1.0
    tasks.query.y[1] = torch.tensor([[2e19], [-2e19]])
    log, norms = make(chosen, state)(tasks)
    assert log["post_adapt_loss"].isinf().tolist() == [False, True, False]
    assert norms.isfinite().all()
    assert state.alive.tolist() == [True, False, True]
    assert torch.equal(state.flat[1], before[1])
    assert state.updates.tolist() == [1, 0, 1]


@pytest.mark.parametrize("make", [plain, fused])
def test_what_adam_holds_of_a_frozen_seed_decays_and_takes_in_no_gradient(
    make: Callable[[Experiment, TrainState], Update],
) -> None:
    chosen = experiment()
    state = new_state(chosen)
    update, seed = make(chosen, state), 1
    for step, tasks in enumerate(batches(chosen, 5)):
        if step == 2:
            tasks.query.y[seed, 0] = torch.nan
        moments = state.optimizer.state[state.flat]
        before = {name: moments[name][seed].clone() for name in ("exp_avg", "exp_avg_sq") if moments}
        update(tasks)
        assert state.flat.grad is not None
        assert bool((state.flat.grad[seed] == 0).all()) == (step >= 2)
        if step >= 2:
            # Adam of a gradient of zero: m <- 0.9 m, v <- 0.999 v.
            moments = state.optimizer.state[state.flat]
            torch.testing.assert_close(moments["exp_avg"][seed], 0.9 * before["exp_avg"])
            torch.testing.assert_close(moments["exp_avg_sq"][seed], 0.999 * before["exp_avg_sq"])
    assert state.alive.tolist() == [True, False, True]


def test_parameters_that_are_not_a_number_do_not_hide_behind_a_relu() -> None:
    chosen = experiment()
    state = new_state(chosen)
    state.params["layer0.weight"][1, 0] = torch.nan
    log, _ = fused(chosen, state)(batches(chosen, 1)[0])
    assert log["post_adapt_loss"].isnan().tolist() == [False, True, False]
    assert state.alive.tolist() == [True, False, True]


def test_a_step_out_of_the_numbers_is_not_made() -> None:
    chosen = experiment()
    ours, theirs = (new_state(chosen) for _ in range(2))
    for state in (ours, theirs):
        state.lr.fill_(1e308)
        state.params["layer1.weight"][2] = 1e150
    tasks = batches(chosen, 1)[0]
    fused(chosen, ours)(tasks)
    plain(chosen, theirs)(tasks)
    assert ours.alive.tolist() == theirs.alive.tolist()
    torch.testing.assert_close(ours.flat, theirs.flat)


def test_either_update_goes_on_where_the_other_stopped() -> None:
    chosen = experiment()
    ours, theirs = new_state(chosen), new_state(chosen)
    updates: list[Update] = [plain(chosen, ours), fused(chosen, ours)]
    expected = plain(chosen, theirs)
    for step, tasks in enumerate(batches(chosen, 6)):
        updates[step // 2 % 2](tasks)
        expected(tasks)
    assert_same_state(ours, theirs)


@pytest.mark.parametrize("algorithm", ["{}", "{inner_steps: 2, per_step_losses: 4, first_order_steps: 3}"])
@pytest.mark.parametrize(
    ("seeds", "tasks"), [(1, 70), (1, 1100), (2, 25), (7, 25), (3, 40), (5, 100), (33, 1), (4, 16)]
)
def test_neither_threads_nor_blocks_change_a_bit(seeds: int, tasks: int, algorithm: str) -> None:
    chosen = experiment(
        f"seeds={list(range(seeds))}",
        f"outer.meta_batch_size={tasks}",
        "model.hidden_sizes=[9, 8]",
        f"algorithm={algorithm}",
    )
    block, lrs = next(chosen.stream().blocks(0, 6)), [[0.01 / (1 + step)] for step in range(6)]

    def trained(threads: int, *sizes: int) -> tuple[Tensor, ...]:
        state = new_state(chosen, torch.float32)
        update, first = fused(chosen, state, threads), 0
        losses, norms = list[Tensor](), list[Tensor]()
        for size in sizes:
            part = slice(first, first + size)
            log, of_block = update.block(block.map(itemgetter(part)), lrs[part])
            losses, norms, first = [*losses, *log["post_adapt_loss"]], [*norms, *of_block], first + size
            state.step = first
        assert first == 6
        moments = state.optimizer.state[state.flat]
        return state.flat, moments["exp_avg"], moments["exp_avg_sq"], torch.stack(losses), torch.stack(norms)

    expected = trained(1, 1, 1, 1, 1, 1, 1)
    for threads, sizes in [(1, (6,)), (2, (6,)), (3, (1, 5)), (8, (2, 4))]:
        assert all(map(torch.equal, trained(threads, *sizes), expected))


@pytest.mark.parametrize("tasks", [1, 3, 7, 16, 70])
@pytest.mark.parametrize("pieces", [(1, 4), (2, 3), (1, 1, 1, 1, 1)])
def test_seeds_in_pieces_have_the_bits_that_they_have_in_one(tasks: int, pieces: tuple[int, ...]) -> None:
    def updated(seeds: range) -> TrainState:
        sizes = (f"outer.meta_batch_size={tasks}", "model.hidden_sizes=[6]")
        own = experiment(f"seeds={list(seeds)}", *sizes)
        state = new_state(own, torch.float32)
        update = fused(own, state, seeds_before=seeds.start)
        for batch in batches(own, 3, torch.float32):
            update(batch)
            state.step += 1
        return state

    ends = list(itertools.accumulate(pieces))
    parts = [updated(range(end - size, end)) for end, size in zip(ends, pieces, strict=True)]
    assert torch.equal(updated(range(5)).flat, torch.cat([part.flat for part in parts]))


def test_a_block_ends_with_the_first_step_that_a_seed_does_not_survive() -> None:
    chosen = experiment("outer.meta_batch_size=9")
    ours, theirs = new_state(chosen), new_state(chosen)
    update, expected, lrs = fused(chosen, ours, threads=3), plain(chosen, theirs), [[0.01]] * 7
    tasks = next(chosen.stream().blocks(0, 7)).map(Tensor.double)
    tasks.query.y[5, 0, 3], tasks.query.y[3, 1, 4] = torch.inf, torch.nan
    for first, made in [(0, 4), (4, 2), (6, 1)]:
        log, norms = update.block(tasks.map(itemgetter(slice(first, None))), lrs[first:])
        assert len(norms) == len(log["post_adapt_loss"]) == made
        for step in range(first, first + made):
            expected_log, expected_norms = expected(tasks.map(itemgetter(step)))
            torch.testing.assert_close(norms[step - first][2], expected_norms[2])
            torch.testing.assert_close(log["post_adapt_loss"][step - first][2], expected_log["post_adapt_loss"][2])
        assert_same_state(ours, theirs)
    assert ours.updates.tolist() == [5, 3, 7]


@pytest.mark.parametrize("on_divergence", ["stop", "freeze"])
def test_a_divergence_ends_a_training_at_its_step_whatever_is_logged(on_divergence: OnDivergence) -> None:
    chosen = experiment("outer.meta_batch_size=4")

    def ended(every: int) -> tuple[int, Tensor, str]:
        state, message = new_state(chosen), ""
        blocks = [block.map(Tensor.double) for block in chosen.stream().blocks(0, 40)]
        blocks[0].query.y[17, 1], blocks[0].query.y[23, :, 2] = torch.nan, torch.nan
        steps = train_steps(
            state,
            blocks,
            fused(chosen, state),
            chosen.pre_adapt_loss,
            seeds=chosen.config.seeds,
            learning_rate=lambda step: 0.01 / (1 + step),
            on_divergence=on_divergence,
            is_logged=lambda step: step % every == 0,
        )
        try:
            for _ in steps:
                pass
        except DivergedError as error:
            message = str(error)
        return state.step, state.flat, message

    expected = ended(1)
    assert expected[0] == (17 if on_divergence == "stop" else 23)
    assert "at step 18" in expected[2]
    for every in (3, 1000):
        found = ended(every)
        assert found[::2] == expected[::2]
        assert torch.equal(found[1], expected[1])


@pytest.mark.parametrize("inner_steps", [0, 1, 4])
@pytest.mark.parametrize(
    "algorithm",
    [
        "algorithm.inner_lr=0.02",
        "algorithm={adapts: head, inner_steps: 2, learned_inner_lr: tensor_and_step}",
        "algorithm={adapts: body, learned_inner_lr: parameter, inner_lr_init: [0.01, 0.03]}",
        "algorithm.name=joint",
    ],
)
def test_losses_of_the_meta_test_are_those_of_torch(algorithm: str, inner_steps: int) -> None:
    chosen = experiment(algorithm, "model.hidden_sizes=[9, 7]", "tasks.oracle_inputs=true")
    descent, layers = chosen.method.descent, chosen.model.layers
    assert descent is not None
    assert layers is not None
    tasks = meta_test_tasks(chosen, 5, 0, 37).map(Tensor.double)
    tasks.support.y[3] = 1e200  # a task that diverges, as some do
    params = new_state(chosen).params
    expected = adaptation_losses(chosen.method.inner, chosen.loss_fn, params, tasks, inner_steps=inner_steps)
    measure = partial(fused_losses, params, tasks, layers=layers, descent=descent, inner_steps=inner_steps)
    found = [measure(threads=threads) for threads in (1, 3)]
    assert torch.equal(torch.nan_to_num(found[0]), torch.nan_to_num(found[1]))
    others = torch.arange(37) != 3
    torch.testing.assert_close(found[0][:, others], expected[""][:, others], rtol=1e-11, atol=0)
    assert torch.equal(found[0].isfinite(), expected[""].isfinite())


def test_a_long_meta_test_is_measured_in_the_kernel_where_it_can() -> None:
    def is_fused(*overrides: str) -> bool:
        return kernel_losses(experiment(*overrides), CPU, lambda _: None) is not None

    assert is_fused()
    assert is_fused("engine.compile=on", "evaluation.tasks=2")
    assert not is_fused("evaluation.tasks=2", "outer.steps=10")
    assert is_fused("evaluation.tasks=2", "outer.steps=1000")  # whose training has compiled it
    for other in (
        "engine.compile=off",
        "engine.inner_update=dense",
        "algorithm.inner_optimizer=adam",
        "model.hidden_sizes=[128]",
    ):
        assert not is_fused(other)


def test_a_meta_test_in_the_kernel_says_what_one_without_says() -> None:
    found = []
    for compile_ in ("on", "off"):
        chosen = experiment("evaluation.tasks=20", f"engine.compile={compile_}")
        with Threads(1, 1, lambda _: None) as threads:
            found.append(meta_test(chosen, chosen.initial_state(CPU).params, CPU, Ranks(StopRequest()), threads))
    assert found[0].keys() == found[1].keys()
    for shots, losses in found[0].items():
        torch.testing.assert_close(losses, found[1][shots], rtol=1e-4, atol=1e-5)


def test_a_block_is_as_long_as_signals_may_wait() -> None:
    pace = _Pace(in_blocks=True)
    for seconds in (0.001, 0.004, 0.016, 0.064):
        pace.took(pace.steps, seconds)
    assert pace.steps == 200  # at a millisecond a step
    pace.took(200, 20.0)
    assert pace.steps == 2
    alone = _Pace(in_blocks=False)
    alone.took(1, 0.0001)
    assert alone.steps == 1


def test_memory_does_not_grow_with_the_tasks() -> None:
    def peak(tasks: int) -> int:
        chosen = experiment(f"outer.meta_batch_size={tasks}")
        batch, update = batches(chosen, 1)[0], fused(chosen, new_state(chosen))
        return update_memory_bytes(update, batch, CPU)

    assert 10_000 < peak(400) <= peak(20)


def test_narrow_relu_networks_on_the_cpu_are_fused_by_themselves() -> None:
    assert plan().form == "fused"
    assert plan("algorithm.learned_inner_lr=tensor").form == "fused"
    assert plan("algorithm.adapts=head", "outer.optimizer=adamw").form == "fused"
    assert plan("algorithm.name=joint", "outer.optimizer=sgd").form == "fused"
    assert plan("algorithm={inner_steps: 2, per_step_losses: 9}", "outer.optimizer=momentum").form == "fused"
    assert plan("model.hidden_sizes=[127, 3]").form == "fused"
    assert plan(device=torch.device("cuda")).form != "fused"
    for other in (
        "model.hidden_sizes=[128]",
        "outer.optimizer=nadam",
        "algorithm.inner_optimizer=momentum",
        "algorithm.preconditioner=diagonal",
        "engine.task_chunk=3",
        "engine.inner_update=dense",
    ):
        chosen = plan(other)
        assert chosen.compiled
        assert chosen.form != "fused"


def test_what_cannot_be_fused_is_named() -> None:
    with pytest.raises(
        UsageError, match=r"fused cannot be with .* are no gradients by rates, outer.optimizer: nadam; use auto"
    ) as caught:
        plan("engine.inner_update=fused", "algorithm.inner_optimizer=adam", "outer.optimizer=nadam")
    assert caught.value.exit_code == 2
    with pytest.raises(DeviceError, match="made for the CPU, not for cuda; set device: cpu"):
        plan("engine.inner_update=fused", device=torch.device("cuda"))


def test_it_is_compiled_from_a_thousand_steps_on() -> None:
    assert not plan("outer.steps=999").compiled
    assert plan("outer.steps=1000").compiled


def test_a_fused_run_is_recorded_and_resumes_bit_for_bit(maml: Maml, folder: Path) -> None:
    options = ("-c", "tiny.yaml", "--set", "engine.compile=on")
    for out in ("whole", "parts"):
        assert maml("train", *options, "--out", out).code == 0
    session = json.loads((folder / "whole" / "run.json").read_text())["sessions"][0]
    assert (session["compiled"], session["inner_update"]) == (True, "fused")
    (folder / "parts" / "checkpoints" / "step-12.pt").unlink()
    assert maml("train", *options, "--out", "parts", "--resume", "auto").code == 0
    assert_same_run(folder / "whole", folder / "parts")


@pytest.mark.parametrize("setting", ["auto", "on"])
def test_where_the_compiler_fails_auto_goes_on_without_and_on_is_an_error(folder: Path, setting: str) -> None:
    # In a process of its own: a library that is loaded stays.
    compiler = folder / "broken"
    compiler.write_text("#!/bin/sh\necho 'x.cpp:1: fatal error: no such header' >&2\nexit 1\n")
    compiler.chmod(0o755)
    chosen = ("--set", f"engine={{inner_update: fused, compile: {setting}}}", "--set", "outer.steps=1000")
    command = [sys.executable, "-c", "from mamlcli.cli import main; main()", "train", "-c", "tiny.yaml", "--out", "run"]
    environment = os.environ | {"CXX": str(compiler), "XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run([*command, *chosen], env=environment, capture_output=True, text=True, check=False)
    assert "compiling failed: x.cpp:1: fatal error: no such header" in done.stderr
    assert done.returncode == (6 if setting == "on" else 0), done.stderr
    if setting == "auto":
        session = json.loads((folder / "run" / "run.json").read_text())["sessions"][0]
        assert (session["compiled"], session["inner_update"]) == (False, "dense")
    assert not any((folder / "cache" / "mamlcli").iterdir())


def test_the_library_is_built_once_and_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    first = library.built()
    changed = first.stat().st_mtime_ns
    assert library.built() == first
    assert first.stat().st_mtime_ns == changed
    assert list((folder / "mamlcli").iterdir()) == [first]


def test_two_that_build_at_once_and_one_after_a_cut_file_get_a_whole_library(
    set_compiler: Callable[[str], None],
) -> None:
    set_compiler('#!/bin/sh\nfor out; do :; done\nsleep 0.1\necho whole >"$out"\n')
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: library.built(), range(2))
    assert first == second
    first.write_text("who")
    assert library.built().read_text() == "whole\n"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("no program", "Exec format error"),
        ("#!/bin/sh\nexit 3\n", "ended with 3"),
        ("#!/bin/sh\nexit 0\n", "No such file"),
        ("#!/bin/sh\nprintf 'error: \\377' >&2\nexit 1\n", "error: \N{REPLACEMENT CHARACTER}"),
        ('#!/bin/sh\nfor out; do :; done\necho text >"$out"\n', "cache/mamlcli/fused-"),
    ],
)
def test_whatever_a_compiler_does_ends_in_a_message(
    set_compiler: Callable[[str], None], script: str, message: str
) -> None:
    set_compiler(script)
    chosen, heard = experiment(), list[Exception]()
    state = new_state(chosen, torch.float32)
    update = planned_update(chosen, state, make_plan(chosen, CPU), CPU, heard.append)
    update(batches(chosen, 1, torch.float32)[0])
    assert message in str(heard[0])
    assert state.updates.tolist() == [1, 1, 1]


def test_numbers_of_another_type_are_not_fused() -> None:
    with pytest.raises(RuntimeError, match=r"made for float32 and float64, not for torch\.float16"):
        fused(experiment(), new_state(experiment(), torch.float16))


def test_a_user_without_a_home_is_no_obstacle(
    folder: Path, set_compiler: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    set_compiler('#!/bin/sh\nfor out; do :; done\necho whole >"$out"\n')
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    assert library.built().is_relative_to(folder)


def test_where_nothing_can_be_written_the_error_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "tiny.yaml"))
    monkeypatch.setattr("tempfile.tempdir", str(folder / "missing"))
    library._temporary_folder.cache_clear()
    with pytest.raises(OSError, match="missing"):
        library.built()


def test_a_home_that_cannot_be_written_to_is_no_obstacle(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "file"))
    assert library.built().exists()


COPYING_COMPILER = '#!/bin/sh\nfor out; do :; done\necho whole >"$out"\n'


def cache_of(folder: Path) -> Path:
    (folder / "cache" / "mamlcli").mkdir(parents=True, mode=0o700)
    return folder / "cache" / "mamlcli"


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o722, 0o1777])
def test_a_folder_that_others_may_write_to_keeps_no_library(
    folder: Path, set_compiler: Callable[[str], None], mode: int
) -> None:
    set_compiler(COPYING_COMPILER)
    kept = cache_of(folder)
    prepared = library.built()  # what others would have put there
    assert prepared.parent == kept
    prepared.write_text("wrong\n")
    kept.chmod(mode)
    assert library.built().read_text() == "whole\n"
    assert not library.built().is_relative_to(folder)
    assert f"{kept}: not used to keep the built kernel, since others may write to it" in library.folder_problem()


def test_a_parent_that_others_may_write_to_keeps_no_library_unless_it_is_sticky(
    folder: Path, set_compiler: Callable[[str], None]
) -> None:
    set_compiler(COPYING_COMPILER)
    kept = cache_of(folder)
    kept.parent.chmod(0o777)
    assert not library.built().is_relative_to(folder)
    assert f"others may write to {kept.parent}" in library.folder_problem()
    kept.parent.chmod(0o1777)
    assert library.built().parent == kept
    assert library.folder_problem() == ""


@pytest.mark.parametrize("whose", ["mamlcli", "cache"])
def test_a_folder_of_another_user_keeps_no_library(
    folder: Path, set_compiler: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    set_compiler(COPYING_COMPILER)
    kept, stat = cache_of(folder), Path.stat

    def of_another(path: Path, **options: bool) -> os.stat_result:
        found = stat(path, **options)
        return os.stat_result([*found[:4], os.geteuid() + 1, *found[5:]]) if path.name == whose else found

    monkeypatch.setattr(Path, "stat", of_another)
    assert not library.built().is_relative_to(folder)
    assert "another user" in library.folder_problem()
    assert not any(kept.iterdir())


@pytest.mark.parametrize("kind", ["writable", "link"])
def test_a_library_that_others_can_change_is_built_anew(
    folder: Path, set_compiler: Callable[[str], None], kind: str
) -> None:
    set_compiler(COPYING_COMPILER)
    cache_of(folder)
    first = library.built()
    if kind == "link":
        (folder / "other.so").write_text("wrong\n")
        first.unlink()
        first.symlink_to(folder / "other.so")
    else:
        first.write_text("wrong\n")
        first.chmod(0o666)
    assert library.built() == first
    assert first.read_text() == "whole\n"
    assert not first.is_symlink()
    assert first.stat().st_mode & 0o077 == 0


@needs_compiler
def test_a_run_says_that_the_kernel_is_not_kept(maml: Maml, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    kept = cache_of(folder)
    kept.chmod(0o777)
    chosen = ("--set", "engine={inner_update: fused, compile: on}")
    outcome = maml("train", "-c", "tiny.yaml", "--out", "run", *chosen)
    assert outcome.code == 0, outcome.err
    assert f"warning: {kept}: not used to keep the built kernel, since others may write to it" in outcome.err
    kept.chmod(0o700)
    assert "not used to keep" not in maml("train", "-c", "tiny.yaml", "--out", "again", *chosen).err
