"""What a run is estimated to hold beside what it held, what is free, and the refusal of what does not fit."""

import json
import os
import re
import resource
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from mamlcli import parse_config
from mamlcli.comparisons.orders import order_rows
from mamlcli.compute.plan import Plan, make_plan, planned_update, uncompiled_gradient, update_memory_bytes
from mamlcli.errors import DeviceError
from mamlcli.experiment import Experiment, make_experiment
from mamlcli.interrupts import StopRequest
from mamlcli.measure import peak_memory_bytes
from mamlcli.memory.estimate import meta_test_estimate, tasks_at_a_time, training_estimate
from mamlcli.memory.free import free_memory
from mamlcli.memory.meta_step import meta_step_parts
from mamlcli.memory.parts import Estimate, Free, Part, check_fits, lowerable, readable, shortage
from mamlcli.meta_test.losses import adaptation_losses, summarise
from mamlcli.meta_test.measure import meta_test, meta_test_tasks, of_the_first
from mamlcli.methods.method import make_bench, phases_of
from mamlcli.models.module import module_model
from mamlcli.ranks import Ranks
from mamlcli.registry import build
from mamlcli.threads import Threads
from tests.conftest import Maml, needs_compiler

CPU = torch.device("cpu")
GIB = 2**30
System = Callable[[dict[str, str]], int | None]


def experiment(*overrides: str) -> Experiment:
    return make_experiment(parse_config("name: x\nseeds: [0, 1]\ndevice: cpu\nouter: {steps: 50}", overrides=overrides))


def eager_plan(chosen: Experiment) -> Plan:
    plan = make_plan(chosen, CPU)
    return plan._replace(form="dense") if plan.form == "fused" else plan


def assert_within_a_factor_of_two(estimate: float, measured: float) -> None:
    assert measured / 2 < estimate < 2 * measured, f"{readable(int(estimate))} for {readable(int(measured))}"


def size(parts: tuple[Part, ...], *names: str) -> int:
    return sum(part.num_bytes for part in parts if not names or part.name in names)


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("algorithm.order=first", "algorithm.inner_steps=3"),
        ("algorithm.inner_steps=5",),
        ("algorithm.inner_steps=0",),
        ("model={hidden_sizes: [20, 60, 30], activation: tanh}", "tasks={support_shots: 200, query_shots: 20}"),
        ("model={hidden_sizes: [], activation: gelu}", "tasks.query_shots=300"),
        ("model={hidden_sizes: [64], activation: softplus}", "tasks={support_shots: 100, query_shots: 100}"),
        ("outer.meta_batch_size=64", "engine.task_chunk=8", "seeds=[0, 1, 2, 3, 4]"),
        ("algorithm.learned_inner_lr=parameter", "algorithm.inner_steps=3"),
        ("algorithm.learned_inner_lr=tensor_and_step", "algorithm={order: first, inner_steps: 2}"),
        ("algorithm={preconditioner: meta_curvature, inner_steps: 3}", "model.hidden_sizes=[100]"),
        ("algorithm={preconditioner: t_net, inner_steps: 5, inner_optimizer: momentum}",),
        ("algorithm={preconditioner: diagonal, order: first, inner_steps: 3}",),
        ("algorithm={adapts: head, inner_steps: 5}", "model={hidden_sizes: [30, 30], activation: tanh}"),
        ("algorithm={adapts: body, inner_optimizer: adam, inner_steps: 2}",),
        ("algorithm={per_step_losses: 9, inner_steps: 5}", "tasks={support_shots: 20, query_shots: 200}"),
        ("algorithm={per_step_losses: 9, inner_steps: 5, order: first}", "tasks.query_shots=50"),
        ("algorithm={name: chain, inner_steps: 2}", "evaluation.shots=[10]"),
        ("algorithm={name: chain, order: first, inner_steps: 3, unlabelled_inputs: 100}", "evaluation.shots=[10]"),
        ("algorithm.name=joint", "tasks.support_shots=100"),
        ("algorithm={name: reptile, inner_steps: 6}",),
        ("algorithm={name: reptile, inner_steps: 3, inner_optimizer: sgd, samples: all}", "tasks.query_shots=100"),
        ("algorithm={name: cavia, inner_steps: 3}", "tasks.support_shots=60"),
        ("algorithm={name: cavia, order: first}", "outer.max_task_grad=10"),
        ("algorithm.inner_steps=3", "outer.max_task_grad=10"),
        ("algorithm={name: imaml, inner_steps: 20}", "tasks.support_shots=100"),
        ("algorithm={name: hessian_free, inner_steps: 4}",),
        ("model.hidden_sizes=[128, 128]", "tasks={support_shots: 40, query_shots: 20}"),
        ("engine.inner_update=low_rank", "algorithm.inner_steps=4", "tasks={support_shots: 100, query_shots: 100}"),
        ("engine.inner_update=low_rank", "algorithm={order: first, inner_steps: 3}", "tasks.support_shots=100"),
    ],
)
def test_the_estimate_of_a_meta_step_is_within_a_factor_of_two_of_its_tensors(overrides: tuple[str, ...]) -> None:
    chosen = experiment(*overrides)
    plan = eager_plan(chosen)
    parts = meta_step_parts(chosen, plan)
    params, tasks = chosen.initial_state(CPU).params, chosen.stream().batch(0)
    # What is measured before adaptation at logged steps counts too.
    phases = [uncompiled_gradient(chosen, plan, phase.begins) for phase in phases_of(chosen.method)]
    measured = max(peak_memory_bytes(partial(one, params, tasks), CPU) for one in (*phases, chosen.pre_adapt_loss))
    assert_within_a_factor_of_two(
        size(parts, "one meta-step's adapted weights", "one meta-step's activations"), measured
    )


@pytest.mark.parametrize(
    "overrides", [(), ("algorithm.inner_steps=3", "tasks.support_shots=200"), ("algorithm.order=first",)]
)
def test_of_a_method_that_says_nothing_and_a_model_of_any_kind_the_estimate_is_near_too(
    overrides: tuple[str, ...],
) -> None:
    config, family = experiment(*overrides).config, experiment().family
    model = module_model(
        lambda: nn.Sequential(nn.Linear(1, 50), nn.ELU(), nn.Linear(50, 50), nn.ELU(), nn.Linear(50, 1)), 1, 1
    )
    bench = make_bench(family, model, config.tasks.support_shots)
    method = build("algorithm", config.algorithm, bench)._replace(footprint=None)
    chosen = Experiment(config, family, model, method, bench.loss_fn)
    parts = meta_step_parts(chosen, eager_plan(chosen))
    params, tasks = chosen.initial_state(CPU).params, chosen.stream().batch(0)
    measured = peak_memory_bytes(lambda: uncompiled_gradient(chosen, eager_plan(chosen))(params, tasks), CPU)
    assert_within_a_factor_of_two(
        size(parts, "one meta-step's adapted weights", "one meta-step's activations"), measured
    )


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        *(
            (f"algorithm={{learned_inner_lr: {kind}, inner_steps: 3}}",)
            for kind in ("tensor", "tensor_and_step", "parameter")
        ),
        *((f"algorithm.preconditioner={kind}",) for kind in ("meta_curvature", "t_net", "diagonal")),
        ("algorithm={adapts: head, preconditioner: t_net, learned_inner_lr: parameter}",),
        ("algorithm.name=joint",),
        ("algorithm.name=reptile",),
        ("algorithm={name: cavia, context_size: 3}",),
        ("algorithm.name=chain", "evaluation.shots=[10]"),
        ("algorithm={name: chain, learn_slot_weights: false}", "evaluation.shots=[10]"),
    ],
)
def test_what_a_method_says_it_learns_is_what_it_begins_with(overrides: tuple[str, ...]) -> None:
    chosen = experiment(*overrides)
    learned = chosen.method.num_params + chosen.method.num_learned
    assert learned == sum(value.numel() for value in chosen.initial_params()[0].values())


def test_only_keys_that_an_experiment_has_are_to_be_lowered() -> None:
    names = ("algorithm.inner_steps", "algorithm.unlabelled_inputs", "model", "seeds")
    maml, joint = (experiment("algorithm.name=" + name, "algorithm.inner_lr=0.1").config for name in ("maml", "joint"))
    assert lowerable(maml, *names) == ("model.hidden_sizes", "seeds")  # one step cannot be lowered
    assert lowerable(joint, "algorithm.inner_steps") == ()
    chain = experiment("algorithm={name: chain, inner_steps: 3, unlabelled_inputs: 40}", "evaluation.shots=[10]").config
    assert lowerable(chain, *names)[:2] == ("algorithm.inner_steps", "algorithm.unlabelled_inputs")


@needs_compiler
@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("algorithm.inner_steps=7", "model.hidden_sizes=[9, 5]", "tasks.x=[0, 1]"),
        ("algorithm={inner_steps: 3, learned_inner_lr: parameter, adapts: body}", "seeds=[0]"),
        ("algorithm={inner_steps: 2, learned_inner_lr: tensor_and_step}", "outer.meta_batch_size=3"),
        ("algorithm.name=joint",),
    ],
)
def test_the_estimate_of_the_kernel_is_the_workspace_that_it_asks_for(overrides: tuple[str, ...]) -> None:
    chosen = experiment("outer.steps=2000", *overrides)
    plan = make_plan(chosen, CPU)
    assert plan.form == "fused"
    update, tasks = planned_update(chosen, chosen.initial_state(CPU), plan, CPU), chosen.stream().batch(0)
    # The losses and norms are all else.
    measured = update_memory_bytes(update, tasks, CPU)
    (workspace,) = meta_step_parts(chosen, plan)
    assert workspace.num_bytes <= measured < workspace.num_bytes + 1024


@pytest.mark.parametrize(
    "optimizer", ["adam", "adamw", "nadam", "radam", "adamax", "adagrad", "rmsprop", "sgd", "momentum"]
)
def test_the_estimate_of_the_optimiser_is_what_it_holds_and_that_of_an_update_is_near(optimizer: str) -> None:
    chosen = experiment("model.hidden_sizes=[300]", f"outer.optimizer={optimizer}", "outer.meta_batch_size=1")
    plan, state, tasks = make_plan(chosen, CPU), chosen.initial_state(CPU), chosen.stream().batch(0)
    update, parts = planned_update(chosen, state, plan, CPU), training_estimate(chosen, plan).parts
    measured = peak_memory_bytes(lambda: update(tasks), CPU)
    held = [value for value in state.optimizer.state[state.flat].values() if value.numel() > 1]
    assert size(parts, "the optimiser's state") == sum(4 * value.numel() for value in held)
    assert size(parts, "the parameters and their gradients") == 2 * 4 * state.flat.numel()
    record = size(parts, "what autograd records of the inner steps", "the tasks of a meta-step")
    held_before = size(parts, "the optimiser's state", "the parameters and their gradients")
    assert_within_a_factor_of_two(size(parts) - record - held_before, measured)


@pytest.mark.parametrize(
    "overrides",
    [
        ("evaluation.tasks=50",),
        ("evaluation={tasks: 50, inner_steps: 1}", "algorithm.learned_inner_lr=parameter"),
        ("evaluation={tasks: 20, grid: 500}", "model.activation=tanh"),
        ("evaluation={tasks: 20, shots: [300]}", "model={hidden_sizes: [20, 20], activation: gelu}"),
        ("evaluation={tasks: 50, shots: [10]}", "algorithm={name: chain, unlabelled_inputs: 50}"),
        ("evaluation={tasks: 200, inner_steps: 60, query_shots: 5, shots: [5]}", "model.hidden_sizes=[2]"),
    ],
)
def test_the_estimate_of_a_meta_test_is_within_a_factor_of_two_of_its_tensors(overrides: tuple[str, ...]) -> None:
    chosen = experiment(*overrides)
    test, parts = chosen.config.evaluation, meta_test_estimate(chosen).parts
    shots, inner = max(test.shots), chosen.method.inner
    params, tasks = chosen.initial_state(CPU).params, meta_test_tasks(chosen, shots)
    adapted = peak_memory_bytes(
        lambda: adaptation_losses(inner, chosen.loss_fn, params, tasks, inner_steps=test.inner_steps), CPU
    )
    assert_within_a_factor_of_two(size(parts, "adapted weights and activations"), adapted)
    # NumPy draws each column of one quantity, which no tensor counts: 8 bytes a sample of the larger side.
    samples = test.tasks * max(shots, test.grid or test.query_shots)
    drawn = 8 * samples + peak_memory_bytes(lambda: meta_test_tasks(chosen, shots), CPU)
    assert_within_a_factor_of_two(size(parts, "the tasks"), drawn)


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("seeds=[0]", "outer.meta_batch_size=100000", "outer.steps=2"),
        ("seeds=[0, 1, 2, 3, 4, 5, 6, 7]", "tasks={oracle_inputs: true, noise_std: 1.0}"),
    ],
)
def test_the_estimate_of_the_tasks_is_within_a_factor_of_two_of_their_tensors(overrides: tuple[str, ...]) -> None:
    chosen = experiment("outer.steps=2000", *overrides)
    stream, steps = chosen.stream(), chosen.config.outer.steps
    parts = training_estimate(chosen, make_plan(chosen, CPU)).parts

    def draw() -> None:
        for _ in stream.batches(0, min(steps, stream.steps_at_a_time + 1)):
            pass

    assert_within_a_factor_of_two(size(parts, "the tasks of a meta-step"), peak_memory_bytes(draw, CPU))


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_the_estimate_of_the_losses_is_within_a_factor_of_two_of_them_and_their_statistics(
    seeds: tuple[int, ...],
) -> None:
    chosen = experiment(f"seeds={list(seeds)}", "evaluation={tasks: 20000, shots: [5], inner_steps: 4}")
    losses = torch.rand(len(seeds), 20000, 5)

    def held_by(measure: Callable[[], object]) -> int:
        measure()  # what it imports does not count
        tracemalloc.start()
        measure()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    def summed_up() -> object:
        return summarise(losses, seeds=seeds, shots=5, diverged_above=100.0)

    of_one = losses.nbytes + held_by(summed_up)
    assert_within_a_factor_of_two(size(meta_test_estimate(chosen).parts, "the losses"), of_one)
    of_two = 2 * losses.nbytes + held_by(lambda: order_rows({5: losses}, {5: 0.9 * losses}, 0))
    paired = size(meta_test_estimate(chosen, orders_compared=True).parts, "the losses")
    assert_within_a_factor_of_two(paired, of_two)


HUGE = [
    ("model.hidden_sizes=[1000000000, 1000000000]", "model.hidden_sizes"),
    ("model.hidden_sizes=[60000, 60000]", "model.hidden_sizes"),
    ("seeds=" + str(list(range(10_000))) + " model.hidden_sizes=[1000, 1000]", "seeds"),
    ("outer.meta_batch_size=100000000", "outer.meta_batch_size"),
    ("tasks.support_shots=10000000", "tasks.support_shots"),
    ("tasks.query_shots=100000000", "tasks.query_shots"),
    ("algorithm.inner_steps=1000000000", "algorithm.inner_steps"),
    ("algorithm.inner_steps=1000000000 algorithm.order=first", "algorithm.inner_steps"),
    ("algorithm.inner_steps=1000000000 algorithm.learned_inner_lr=tensor", "algorithm.inner_steps"),
    ("algorithm.inner_steps=1000000000 algorithm.learned_inner_lr=tensor_and_step", "algorithm.inner_steps"),
    ("algorithm.preconditioner=meta_curvature model.hidden_sizes=[200000]", "model.hidden_sizes"),
    ("algorithm.inner_steps=1000000000 engine.inner_update=low_rank", "algorithm.inner_steps"),
    ("algorithm.inner_steps=1000000000 outer.steps=60000", "algorithm.inner_steps"),  # in the kernel
]


def set_options(overrides: str) -> list[str]:
    return [part for override in re.split(r" (?=[a-z]+\.)", overrides) for part in ("--set", override)]


@pytest.fixture
def sixteen_gib(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 16 GiB left, on which nothing may be allocated."""

    def nothing(*_: object, **__: object) -> None:
        raise AssertionError("allocated before it was known to fit")

    monkeypatch.setattr("mamlcli.memory_check.free_memory", lambda: 16 * GIB)
    for method in ("initial_params", "initial_state"):
        monkeypatch.setattr(f"mamlcli.experiment.Experiment.{method}", nothing)


CHECKED = [case for case in HUGE if case[1] not in ("seeds", "outer.meta_batch_size")]  # checks take 3 seeds, 10 tasks


@pytest.mark.parametrize(
    ("command", "overrides", "key"),
    [(command, *case) for command in ("train", "train --dry-run", "compare-orders") for case in HUGE]
    + [("check-grads", *case) for case in CHECKED],
)
@pytest.mark.usefixtures("sixteen_gib")
def test_sizes_that_cannot_fit_are_refused_before_anything_is_allocated(
    maml: Maml, folder: Path, command: str, overrides: str, key: str
) -> None:
    (folder / "usual.yaml").write_text("name: usual\ndevice: cpu\nouter: {steps: 5}")
    outcome = maml(*command.split(), "-c", "usual.yaml", *set_options(overrides))
    assert outcome.code == 6, outcome.err
    assert "not enough memory:" in outcome.err
    assert "and 16.0 GiB are free; the largest part is" in outcome.err
    assert f": lower {key}" in outcome.err.splitlines()[-1]  # what was raised most comes first
    assert not (folder / "outputs").exists()


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("evaluation.query_shots=1000000000", "evaluation.query_shots"),
        ("evaluation.shots=[1000000000]", "evaluation.shots"),
        ("evaluation.inner_steps=1000000000", "evaluation.inner_steps"),
        ("evaluation={tasks: 10000000, inner_steps: 1000}", "evaluation.tasks"),
    ],
)
def test_a_meta_test_that_cannot_fit_is_refused_and_training_warns_of_it(
    maml: Maml, folder: Path, monkeypatch: pytest.MonkeyPatch, override: str, key: str
) -> None:
    monkeypatch.setattr("mamlcli.memory_check.free_memory", lambda: 16 * GIB)
    trained = maml("train", "-c", "tiny.yaml", "--out", "run", "--set", override)
    assert trained.code == 0
    assert "warning: training fits, evaluation would not: the meta-test needs about" in trained.err
    for command in (("eval", "run"), ("compare-orders", "-c", "tiny.yaml", "--set", override, "--out", "compared")):
        outcome = maml(*command)
        assert outcome.code == 6, outcome.err
        assert f": lower {key}" in outcome.err
    assert not (folder / "run" / "evaluation.json").exists()
    assert not (folder / "compared").exists()
    assert maml("eval", "run", "--set", "evaluation={tasks: 5, query_shots: 5, shots: [5], inner_steps: 2}").code == 0


@pytest.mark.usefixtures("sixteen_gib")
def test_published_rows_that_cannot_fit_side_by_side_are_refused(maml: Maml, folder: Path) -> None:
    for name, steps in (("one", 5), ("two", 6)):
        experiment = f"{{name: {name}, device: cpu, model: {{hidden_sizes: [8000, 8000]}}, outer: {{steps: {steps}}}}}"
        published = "[{shots: 5, inner_steps: 1, mean: 1.0}]"
        (folder / f"{name}.yaml").write_text(
            f"title: a\nsource: b\nambiguous: nothing\nconfig: {experiment}\npublished: {published}\n"
        )
    outcome = maml("reproduce", "one.yaml", "two.yaml", "--jobs", "2", "--seeds", "0-4", "--out", "all")
    assert outcome.code == 6, outcome.err
    assert "training 2 row(s) side by side needs about" in outcome.err
    assert not (folder / "all").exists()


def test_more_layers_than_autograd_walks_in_a_reasonable_time_are_refused(maml: Maml) -> None:
    outcome = maml("train", "-c", "tiny.yaml", "--set", f"model.hidden_sizes={[1] * 15_000}")
    assert outcome.code == 2
    assert "model.hidden_sizes: must have at most 100 items" in outcome.err


def test_what_lies_on_a_device_is_compared_with_the_devices_memory() -> None:
    need = Estimate("training", (Part("weights", 3 * GIB, ("a", "b")), Part("tasks", 5 * GIB, ("c",), on_device=False)))
    assert need.total() == 8 * GIB
    assert shortage(need, Free(host=None)) is None
    check_fits(need, Free(host=8 * GIB))
    check_fits(need, Free(host=5 * GIB, device=3 * GIB, device_name="cuda"))
    with pytest.raises(DeviceError, match=r"8.0 GiB, and 7.0 GiB are free; the largest part is tasks \(5.0 GiB\)"):
        check_fits(need, Free(host=7 * GIB))
    with pytest.raises(DeviceError, match=r"needs about 3.0 GiB, and 2.0 GiB are free on cuda; .*: lower a or b$"):
        check_fits(need, Free(host=9 * GIB, device=2 * GIB, device_name="cuda"))
    with pytest.raises(DeviceError, match=r"5.0 GiB, and 4.0 GiB are free in the host's memory; .*: lower c$"):
        check_fits(need, Free(host=4 * GIB, device=3 * GIB, device_name="cuda"))


def test_the_meta_test_takes_fewer_tasks_at_a_time_where_they_are_large_and_the_losses_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert tasks_at_a_time(experiment()) == 600
    assert tasks_at_a_time(experiment("evaluation.tasks=10000000")) == 2000
    assert 1 < tasks_at_a_time(experiment("evaluation.grid=1000000")) < 20
    assert tasks_at_a_time(experiment("evaluation.query_shots=1000000000")) == 1
    chosen = experiment("evaluation={tasks: 7, query_shots: 20, shots: [5]}")
    params = chosen.initial_state(CPU).params
    with StopRequest() as stop, Threads(1, 1, print) as threads:
        whole = of_the_first(meta_test(chosen, params, CPU, Ranks(stop), threads))[5]
        monkeypatch.setattr("mamlcli.memory.estimate._TASKS_BYTES", 300_000)
        assert tasks_at_a_time(chosen) in (2, 3)
        torch.testing.assert_close(of_the_first(meta_test(chosen, params, CPU, Ranks(stop), threads))[5], whole)


@pytest.mark.parametrize("algorithm", ["maml", "chain"])
def test_a_large_meta_batch_is_measured_before_adaptation_in_parts(
    monkeypatch: pytest.MonkeyPatch, algorithm: str
) -> None:
    shots = ("tasks.query_shots=20", "evaluation.shots=[10]")
    chosen = experiment("outer.meta_batch_size=3000", *shots, f"algorithm.name={algorithm}")
    params, tasks = chosen.initial_state(CPU).params, chosen.stream().batch(0)
    whole = chosen.pre_adapt_loss(params, tasks)
    assert peak_memory_bytes(lambda: chosen.pre_adapt_loss(params, tasks), CPU) > 30e6
    monkeypatch.setattr("mamlcli.experiment.PRE_ADAPT_NUMBERS", 2**20)
    assert peak_memory_bytes(lambda: chosen.pre_adapt_loss(params, tasks), CPU) < 10e6
    torch.testing.assert_close(chosen.pre_adapt_loss(params, tasks), whole)


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    """Write files of /proc and /sys of a system of its own; returns what is free there."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def free(files: dict[str, str]) -> int | None:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return free_memory(tmp_path)

    return free


def test_what_is_free_is_the_least_that_machine_group_and_limit_leave(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    meminfo = "MemTotal:       24684084 kB\nMemFree:        1 kB\nMemAvailable:   8388608 kB\n"
    assert system({"proc/meminfo": meminfo}) == 8 * GIB
    group = "sys/fs/cgroup/slice"
    unlimited = {f"{group}/job/memory.max": "max\n", f"{group}/job/memory.current": f"{GIB}\n"}
    assert system({"proc/self/cgroup": "0::/slice/job\n"} | unlimited) == 8 * GIB
    around = {f"{group}/memory.max": f"{6 * GIB}\n", f"{group}/memory.current": f"{3 * GIB}\n"}
    assert system(around) == 3 * GIB
    assert system({f"{group}/memory.stat": f"anon 5\ninactive_file {GIB}\n"}) == 4 * GIB  # what was read goes first
    page = resource.getpagesize()
    monkeypatch.setattr(resource, "getrlimit", lambda _: (GIB, GIB))
    assert system({"proc/self/statm": "1000 500 1 1 0 1 0\n"}) == GIB - 1000 * page
    monkeypatch.setattr(resource, "getrlimit", lambda _: (page, page))
    assert system({}) == 0


def test_groups_of_version_1_count_too_and_those_in_a_container_lie_at_its_root(system: System) -> None:
    group = "sys/fs/cgroup/memory"
    files = {
        "proc/meminfo": "MemAvailable:   8388608 kB\n",
        "proc/self/cgroup": "5:cpuset:/\n4:memory:/docker/0123\n0::/\n",
        f"{group}/memory.limit_in_bytes": f"{2 * GIB}\n",
        f"{group}/memory.usage_in_bytes": f"{GIB}\n",
        f"{group}/memory.stat": f"inactive_file 7\ntotal_inactive_file {GIB // 2}\n",
    }
    assert system(files) == 1.5 * GIB
    assert system({f"{group}/memory.limit_in_bytes": "9223372036854771712\n"}) == 8 * GIB  # as good as none


def test_without_proc_the_whole_machine_counts(system: System) -> None:
    assert system({}) == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_a_run_that_fits_is_not_touched(maml: Maml, folder: Path) -> None:
    outcome = maml("train", "-c", "tiny.yaml", "--out", "run")
    assert outcome.code == 0
    assert "memory" not in outcome.err
    assert json.loads((folder / "run" / "run.json").read_text())["status"] == "done"
