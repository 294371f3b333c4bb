"""A vector learned through the training of two models: closed forms, data, planted mistakes, and the commands."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from mamlcli import Config, parse_config
from mamlcli.compute.chunks import in_chunks
from mamlcli.errors import ConfigError
from mamlcli.experiment import make_experiment
from mamlcli.methods.chain import ChainConfig, chain_loop, mean_error
from mamlcli.methods.chain import chain as chain_method
from mamlcli.methods.inner_loops import adapt, through
from mamlcli.methods.meta_gradients import adapted, meta_losses
from mamlcli.methods.method import Bench, InnerLoop, make_bench
from mamlcli.models.layers import forward
from mamlcli.models.model import Model
from mamlcli.runs.checkpoints import list_checkpoints, load_checkpoint
from mamlcli.tasks.family import Request
from mamlcli.tasks.samples import Samples, Task
from mamlcli.tasks.sinusoid import SinusoidTasks, sinusoid
from mamlcli.tasks.stream import TaskList
from mamlcli.types import Data, LossFn, Order, Params
from tests.conftest import ROOT, Maml, needs_compiler
from tests.same_run import assert_same_run, metrics

CONFIG = """
name: tiny
seeds: [0, 1]
device: cpu
model: {hidden_sizes: [8]}
tasks: {support_shots: 4, corrupted_slots: 1}
algorithm: {name: chain, unlabelled_inputs: 6}
outer: {steps: 12, meta_batch_size: 3}
evaluation: {tasks: 7, query_shots: 9, shots: [4], inner_steps: 3}
run: {log_every_steps: 4, checkpoint_every_steps: 5}
"""


@pytest.fixture
def chain() -> Config:
    return parse_config(CONFIG)


@pytest.fixture
def options(folder: Path) -> tuple[str, ...]:
    (folder / "chain.yaml").write_text(CONFIG)
    return ("-c", "chain.yaml")


def inputs(config: Config) -> tuple[Params, Task]:
    params = {name: value.double() for name, value in begun(config).items()}
    return params, make_experiment(config).stream().batch(0).map(Tensor.double)


def begun(config: Config) -> Params:
    return make_experiment(config).initial_state(torch.device("cpu")).params


def constants(shots: int) -> Bench:
    """Models of one number, the same for every input: their errors are (theta - y_k)^2."""
    model = Model(lambda _: {"c": torch.zeros(())}, lambda params, x: params["c"] + 0 * x, num_params=1, num_units=1)
    return make_bench(sinusoid(SinusoidTasks()), model, shots)


@pytest.mark.parametrize("order", ["first", "second"])
def test_the_gradient_to_a_has_its_closed_form_on_constants(order: Order) -> None:
    # theta' = theta - (2 alpha / K) sum_k A_k (theta - y_k), phi' = phi - 2 alpha (phi - theta'), M = (phi' - q)^2,
    # so dM/dA_k = 2 (phi' - q) 2 alpha (-2 alpha / K) (theta - y_k).
    theta, phi, alpha, q, y = 1.5, -0.5, 0.1, 2.0, [3.0, -1.0, 0.5]
    weights = [1.0, 0.25, 2.0]
    taught = theta - 2 * alpha / 3 * sum(a * (theta - target) for a, target in zip(weights, y, strict=True))
    student = phi - 2 * alpha * (phi - taught)
    params = {
        "teacher.c": torch.tensor([theta]),
        "student.c": torch.tensor([phi]),
        "slot_weights": torch.tensor([weights]),
    }
    support = Samples(torch.zeros(1, 1, 5, 1), torch.tensor([*y, torch.nan, torch.nan]).view(1, 1, 5, 1))
    tasks = Task(support, Samples(torch.zeros(1, 1, 1, 1), torch.full((1, 1, 1, 1), q)))
    method = chain_method(ChainConfig(inner_lr=alpha, order=order), constants(shots=3))
    grads, log = method.meta_gradient(params, tasks)
    outer = 2 * (student - q)
    mixed = [outer * 2 * alpha * (-2 * alpha / 3) * (theta - target) for target in y]
    upstream = outer * 2 * alpha * (1 - 2 * alpha / 3 * sum(weights))
    second = order == "second"
    assert log["post_adapt_loss"].item() == pytest.approx((student - q) ** 2)
    assert grads["slot_weights"].flatten().tolist() == pytest.approx(mixed if second else [0.0] * 3)
    assert grads["teacher.c"].item() == pytest.approx(upstream if second else 0.0)
    assert grads["student.c"].item() == pytest.approx(outer * (1 - 2 * alpha if second else 1))


def test_slots_that_all_count_one_train_the_teacher_as_maml_does() -> None:
    experiment = make_experiment(parse_config(CONFIG, overrides=["algorithm.inner_lr=0.1"]))
    params, tasks = inputs(experiment.config)
    first = {name: value[0] for name, value in params.items()}
    task = Samples(tasks.support.x[0, 0], tasks.support.y[0, 0])
    models = adapted(experiment.method.inner, first, task, inner_steps=2, gradient=through)
    theta = {name.removeprefix("teacher."): value for name, value in first.items() if name.startswith("teacher.")}
    slots = Samples(task.x[:4], task.y[:4])
    expected = adapt(experiment.loss_fn, theta, slots, inner_lr=0.1, inner_steps=2, order="second")
    torch.testing.assert_close(models["teacher"], expected)


def test_a_that_is_held_counts_one_and_is_no_parameter(chain: Config) -> None:
    held = parse_config(CONFIG, overrides=["algorithm.learn_slot_weights=false"])
    params, tasks = inputs(chain)
    fixed, _ = inputs(held)
    assert set(params) - set(fixed) == {"slot_weights"}
    (ours, log), (without, same) = (
        make_experiment(config).method.meta_gradient(theta, tasks) for config, theta in ((chain, params), (held, fixed))
    )
    assert torch.equal(log["post_adapt_loss"], same["post_adapt_loss"])
    torch.testing.assert_close({name: ours[name] for name in without}, without)


def test_teacher_and_student_begin_with_parameters_of_their_own(chain: Config) -> None:
    params = begun(chain)
    assert not torch.equal(params["teacher.layer0.weight"], params["student.layer0.weight"])
    assert params["slot_weights"].tolist() == [[1.0] * 4] * 2
    assert all(name.startswith(("teacher.", "student.")) for name in params.keys() - {"slot_weights"})


def test_chunks_of_tasks_give_the_meta_gradient_of_the_whole(chain: Config) -> None:
    params, tasks = inputs(chain)
    gradient = make_experiment(chain).method.meta_gradient
    torch.testing.assert_close(in_chunks(gradient, 2)(params, tasks), gradient(params, tasks))


def test_the_meta_loss_is_that_of_its_gradient(chain: Config) -> None:
    params, tasks = inputs(chain)
    bench = constants(shots=4)
    numbers = {"teacher.c": params["slot_weights"][:, 0], "student.c": params["slot_weights"][:, 1]}
    _, log = chain_method(ChainConfig(inner_lr=0.1), bench).meta_gradient(numbers, tasks)
    losses = meta_losses(chain_loop(bench, 0.1), mean_error(bench), inner_steps=1, order="second")
    torch.testing.assert_close(log["post_adapt_loss"], losses(numbers, tasks))


# The data.


def drawn(config: SinusoidTasks, unlabelled: int = 0, shots: int = 6) -> Task:
    request = Request(shots, query_shots=3, unlabelled_inputs=unlabelled)
    return TaskList(sinusoid(config), 3, "meta-train").tasks(5, 400, request)


def test_only_the_targets_of_the_first_slots_are_corrupted() -> None:
    clean, corrupted = drawn(SinusoidTasks()), drawn(SinusoidTasks(corrupted_slots=2))
    assert torch.equal(clean.support.x, corrupted.support.x)
    assert torch.equal(clean.support.y[:, 2:], corrupted.support.y[:, 2:])
    assert torch.equal(clean.query.y, corrupted.query.y)
    targets = corrupted.support.y[:, :2].flatten().numpy()
    assert stats.kstest(targets, "uniform", (-5, 10)).pvalue > 1e-3
    assert abs(stats.pearsonr(targets, clean.support.y[:, :2].flatten().numpy()).statistic) < 4 / 800**0.5


def test_unlabelled_inputs_come_after_the_support_and_have_no_target() -> None:
    plain, more = drawn(SinusoidTasks()), drawn(SinusoidTasks(), unlabelled=9)
    assert torch.equal(plain.support.x, more.support.x[:, :6])
    assert torch.equal(plain.support.y, more.support.y[:, :6])
    assert more.support.y[:, 6:].isnan().all()
    assert all(torch.equal(one, other) for one, other in zip(plain.query, more.query, strict=True))
    added = more.support.x[:, 6:].flatten()
    assert stats.kstest(added.numpy(), "uniform", (-5, 10)).pvalue > 1e-3
    assert not set(added.tolist()) & set(plain.support.x.flatten().tolist())
    fewer_slots = drawn(SinusoidTasks(), unlabelled=2, shots=4)
    assert torch.equal(fewer_slots.support.x[:, 4:], more.support.x[:, 6:8])


def test_an_oracle_is_told_the_function_behind_unlabelled_inputs() -> None:
    support = drawn(SinusoidTasks(oracle_inputs=True), unlabelled=4).support
    assert torch.equal(support.x[:, :1, 1:].expand(-1, 10, -1), support.x[..., 1:])


# The commands.


def test_a_chain_is_trained_saved_restored_evaluated_and_plotted(
    maml: Maml, folder: Path, options: tuple[str, ...]
) -> None:
    assert maml("train", *options, "--out", "whole").code == 0
    assert maml("train", *options, "--out", "parts").code == 0
    newest = list_checkpoints(folder / "parts" / "checkpoints")[0]
    slots = load_checkpoint(newest).params["slot_weights"]
    assert slots.shape == (2, 4)
    assert (slots != 1).any()
    newest.unlink()
    assert maml("train", *options, "--out", "parts", "--resume", "auto").code == 0
    assert_same_run(folder / "whole", folder / "parts")
    last = [row["slot_weights"] for row in metrics(folder / "whole") if row["step"] == 12]
    assert last == slots.tolist()
    assert (folder / "whole" / "slot_weights.png").exists()
    table = (folder / "whole" / "slot_weights.csv").read_text().splitlines()
    assert table[0] == "step,seed,slot,corrupted,weight"
    assert len(table) == 1 + 4 * 2 * 4  # steps 1, 4, 8 and 12, two seeds, four slots
    assert maml("train", *options, "--dry-run").code == 0


def test_a_meta_test_measures_student_and_teacher_before_and_after(
    maml: Maml, folder: Path, options: tuple[str, ...]
) -> None:
    maml("train", *options, "--set", "algorithm.inner_lr=0.03", "--out", "run")
    outcome = maml("eval", "run")
    assert outcome.code == 0
    assert "weights of the support slots" in outcome.out
    result = json.loads((folder / "run" / "evaluation.json").read_text())
    rows = {(row["model"], row["seed"], row["inner_steps"]): row["mean"] for row in result["results"]}
    assert len(rows) == len(result["results"]) == 2 * 3 * 4
    assert (folder / "run" / "fits.png").exists()
    # The textbook: one task at a time, torch.nn, plain autograd.
    params = load_checkpoint(folder / "run" / "checkpoints" / "step-12.pt").params
    assert [seed["slots"] for seed in result["slot_weights"]["weights"]] == params["slot_weights"].tolist()
    request = Request(support_shots=4, query_shots=9, unlabelled_inputs=6)
    tasks = TaskList(sinusoid(SinusoidTasks(corrupted_slots=1)), 0, "meta-test").tasks(0, 7, request)
    losses = []
    for task in range(7):
        x, y = (part[task] for part in tasks.support)
        teacher, student = (module(params, name, seed=1) for name in ("teacher.", "student."))
        weights = params["slot_weights"][1]
        for _ in range(2):
            sgd_step(teacher, (weights * (teacher(x[:4]) - y[:4]).square()[:, 0]).sum() / 4)
        taught = teacher(x[4:]).detach()
        for _ in range(2):
            sgd_step(student, (student(x[4:]) - taught).square().mean())
        query = tuple(part[task] for part in tasks.query)
        losses.append([(model(query[0]) - query[1]).square().mean().item() for model in (student, teacher)])
    student_mean, teacher_mean = torch.tensor(losses).mean(dim=0).tolist()
    assert rows["student", 1, 2] == pytest.approx(student_mean, rel=1e-4)
    assert rows["teacher", 1, 2] == pytest.approx(teacher_mean, rel=1e-4)


def module(params: Params, name: str, seed: int) -> torch.nn.Sequential:
    network = torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    values = [value[seed] for key, value in params.items() if key.startswith(name)]
    for parameter, value in zip(network.parameters(), values, strict=True):
        parameter.data.copy_(value)
    return network


def sgd_step(network: torch.nn.Sequential, loss: Tensor) -> None:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.03)
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def test_in_first_order_neither_a_nor_the_teacher_moves_and_compare_orders_says_so(
    maml: Maml, folder: Path, options: tuple[str, ...], chain: Config
) -> None:
    outcome = maml("compare-orders", *options, "--out", "both")
    assert outcome.code == 0
    said = " ".join(outcome.out.split())
    assert "first order: the weights A of the support slots and the teacher did not move at all" in said
    assert "second order: the weights A of the support slots, the teacher and the student moved" in said
    before = begun(chain)
    now = load_checkpoint(folder / "both" / "first" / "checkpoints" / "step-12.pt").params
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], now[name])}
    assert moved == {"student"}
    assert len(json.loads((folder / "both" / "comparison.json").read_text())["notes"]) == 2


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["algorithm.inner_steps=3", "algorithm.inner_lr=0.05", "model.activation=tanh"],
        ["algorithm.learn_slot_weights=false"],
        ["algorithm.order=first", "tasks.oracle_inputs=true"],
        ["engine.task_chunk=2"],
    ],
    ids=lambda overrides: " ".join(overrides) or "as it is",
)
def test_the_checks_hold(maml: Maml, options: tuple[str, ...], overrides: list[str]) -> None:
    outcome = maml("check-grads", *options, *(part for override in overrides for part in ("--set", override)), "--json")
    report = json.loads(outcome.out)
    assert outcome.code == 0
    learned = "algorithm.learn_slot_weights=false" not in overrides
    assert len(report["checks"]) == (6 if learned else 4) + ("engine.task_chunk=2" in overrides)
    assert {check["verdict"] for check in report["checks"]} == {"holds"}
    assert (report["approximation"] is not None) == learned


def test_what_a_finite_difference_loses_is_reported_and_is_no_check(maml: Maml, options: tuple[str, ...]) -> None:
    outcome = maml("check-grads", *options, "--set", "algorithm.inner_steps=3", "--set", "algorithm.inner_lr=0.1")
    assert outcome.code == 0
    assert "one central difference along v in place of the mixed derivative" in outcome.out
    report = json.loads(maml("check-grads", *options, "--json").out)["approximation"]
    # On one step and a smooth stretch of the loss it is close, and not exact.
    assert 0 < report["relative_error"] < 0.1
    assert report["ms"] > 0
    assert report["exact_ms"] > 0


def detached_teacher(params: Params, x: Tensor, **settings: Any) -> Tensor:
    return forward(params, x, **settings).detach()


def graph_cut(loss_fn: LossFn[Data], params: Params, data: Data) -> Params:
    return {name: gradient.detach() for name, gradient in through(loss_fn, params, data).items()}


def with_other_params(change: Callable[[Params], Params], bench: Bench, inner_lr: float) -> InnerLoop:
    """A chain that takes something else for its meta-parameters."""
    start, step, predictors = chain_loop(bench, inner_lr)
    return InnerLoop(
        lambda params: start(change(params)),
        lambda params, *rest: step(change(params), *rest),
        lambda params, *rest: predictors(change(params), *rest),
    )


def weights_forgotten(bench: Bench, inner_lr: float) -> InnerLoop:
    return with_other_params(lambda params: {k: v for k, v in params.items() if k != "slot_weights"}, bench, inner_lr)


def weights_squared(bench: Bench, inner_lr: float) -> InnerLoop:
    return with_other_params(lambda params: params | {"slot_weights": params["slot_weights"] ** 2}, bench, inner_lr)


def roles_swapped(bench: Bench, inner_lr: float) -> InnerLoop:
    names = {"teacher": "student", "student": "teacher"}

    def swapped(params: Params) -> Params:
        return {re.sub("^(teacher|student)", lambda match: names[match[0]], name): v for name, v in params.items()}

    return with_other_params(swapped, bench, inner_lr)


def student_cut_from_the_teacher(bench: Bench, inner_lr: float) -> InnerLoop:
    shut = bench.model._replace(predict=lambda theta, x: bench.model.predict(theta, x).detach())
    return chain_loop(bench._replace(model=shut), inner_lr)


CHAIN, THROUGH = "methods.chain.chain_loop", "methods.inner_loops.through"


@pytest.mark.parametrize(
    ("place", "mistake"),
    [
        (THROUGH, graph_cut),
        (CHAIN, weights_forgotten),
        (CHAIN, weights_squared),
        (CHAIN, student_cut_from_the_teacher),
        (CHAIN, roles_swapped),
        ("models.layers.forward", detached_teacher),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_planted_mistake_is_caught(
    maml: Maml, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], place: str, mistake: Callable[..., Any]
) -> None:
    monkeypatch.setattr(f"mamlcli.{place}", mistake)
    outcome = maml("check-grads", *options)
    assert outcome.code == 1
    assert outcome.out.splitlines()[3].startswith("FAILS")
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("algorithm.learned_inner_lr=tensor", "`learned_inner_lr` is a key of maml; this is chain"),
        ("algorithm.inner_steps=0", "algorithm.inner_steps: must be greater than or equal to 1, got 0"),
        ("algorithm.inner_lr=0", "algorithm.inner_lr: must be greater than 0, got 0"),
        ("tasks.corrupted_slots=4", r"corrupted_slots must be less than support_shots \(4\), got 4"),
        (
            "evaluation.shots=[4, 5]",
            r"^<text>:2:1: a chain has one weight .* set evaluation.shots: \[4\], got \[4, 5\]",
        ),
        ("algorithm.unlabelled_inputs=0", "algorithm.unlabelled_inputs: must be greater than or equal to 1, got 0"),
    ],
)
def test_keys_that_do_not_fit_together_are_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(CONFIG, overrides=[override])


@needs_compiler
def test_a_compiled_chain_equals_an_eager_one_to_rounding(folder: Path, options: tuple[str, ...]) -> None:
    # In a process of its own: torch.compile does not trace the shape checks that are on in this one.
    runs = []
    for compiled in ("on", "off"):
        program = [sys.executable, "-c", "from mamlcli.cli import main; main()"]
        command = [*program, "train", *options, "--out", compiled, "--set", f"engine.compile={compiled}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        runs.append(metrics(folder / compiled))
    for one, other in zip(*runs, strict=True):
        assert one.pop("slot_weights") == pytest.approx(other.pop("slot_weights"), rel=1e-4)
        assert one.pop("diverged_at_step") is other.pop("diverged_at_step") is None
        assert one == pytest.approx(other, rel=1e-4)


def test_the_recipe_is_short() -> None:
    recipe = (ROOT / "docs" / "chain.md").read_text().split("## 2.")[0].split("That is all.")[0]
    lines = [line for line in recipe.splitlines() if line.startswith((">>>", "..."))]
    assert 10 < len(lines) <= 30


def test_the_checks_hold_on_tasks_of_unequal_size(maml: Maml, folder: Path) -> None:
    rows = [f"t{task},{x},{task + 2 * x + x * x}" for task in range(10) for x in range(5 + task % 4)]
    (folder / "t.csv").write_text("\n".join(["task,x,y", *rows]))
    tasks = "family: table, path: t.csv, task: task, inputs: x, target: y, support_shots: 3"
    (folder / "t.yaml").write_text(
        f"{{name: t, seeds: [0], tasks: {{{tasks}}}, algorithm: {{name: chain}}, model: {{hidden_sizes: [4]}}, "
        "outer: {steps: 2, meta_batch_size: 6}}"
    )
    outcome = maml("check-grads", "-c", "t.yaml")
    assert outcome.code == 0, outcome.out
    assert "FAILS" not in outcome.out
