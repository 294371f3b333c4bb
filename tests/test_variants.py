"""ANIL and BOIL, learned maps and what changes along a training, against closed forms, networks and enumeration."""

import itertools
import math
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mamlcli import check_grads, parse_config
from mamlcli.commands.compare_orders import compare_orders
from mamlcli.compute.plan import make_plan, planned_update
from mamlcli.errors import ConfigError
from mamlcli.experiment import Experiment, make_experiment
from mamlcli.methods.course import loss_weights
from mamlcli.methods.inner_loops import constant
from mamlcli.methods.inner_maps import init_maps, learned_map
from mamlcli.methods.meta_gradients import adapted
from mamlcli.methods.method import gradient_at
from mamlcli.tasks.samples import Samples, Task
from mamlcli.training import TrainState
from mamlcli.types import Params
from tests.conftest import TINY, Maml, needs_compiler
from tests.same_run import metrics

CPU = torch.device("cpu")
SMALL = """
name: small
seeds: [0, 1]
device: cpu
model: {hidden_sizes: [5, 4], activation: tanh}
outer: {steps: 8, meta_batch_size: 3}
evaluation: {tasks: 4, shots: [4], inner_steps: 3, query_shots: 6}
run: {log_every_steps: 1}
"""
VARIANTS = {
    "ANIL": "adapts: head",
    "BOIL": "adapts: body",
    "momentum": "inner_optimizer: momentum",
    "Adam": "inner_optimizer: adam",
    "Meta-Curvature": "preconditioner: meta_curvature",
    "T-net": "preconditioner: t_net",
    "MT-net's diagonal": "preconditioner: diagonal",
    "per-step losses": "per_step_losses: 6",
    "a first-order start": "first_order_steps: 5",
    "MAML++": "per_step_losses: 6, first_order_steps: 2, learned_inner_lr: tensor_and_step",
    "all at once": "per_step_losses: 6, first_order_steps: 2, learned_inner_lr: tensor, adapts: body, "
    "inner_optimizer: adam, preconditioner: t_net",
    "maps and an optimiser": "preconditioner: meta_curvature, inner_optimizer: momentum, order: first",
}


def small(algorithm: str, *overrides: str) -> Experiment:
    """Of three inner steps, unless it says another number."""
    keys = algorithm if "inner_steps" in algorithm else f"inner_steps: 3, {algorithm}"
    return make_experiment(parse_config(SMALL, overrides=[f"algorithm={{{keys}}}", *overrides]))


def inputs(experiment: Experiment) -> tuple[Params, Task]:
    params = {name: value.double() for name, value in experiment.initial_state(CPU).params.items()}
    return params, experiment.stream().batch(0).map(Tensor.double)


def first_task(experiment: Experiment) -> tuple[Params, Samples]:
    """The parameters of the first seed and the support samples of its first task."""
    params, tasks = inputs(experiment)
    return {name: value[0] for name, value in params.items()}, tasks.map(lambda part: part[0, 0]).support


def drawn(*shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(sum(shape)).normal(size=shape))


@pytest.mark.parametrize("algorithm", VARIANTS.values(), ids=VARIANTS)
def test_every_variant_is_proven(algorithm: str) -> None:
    report = check_grads(small(f"inner_lr: 0.05, {algorithm}").config)
    assert report.passed
    assert {check["verdict"] for check in report.checks} == {"holds"}


def test_anil_of_a_linear_model_is_maml() -> None:
    linear = ("model.hidden_sizes=[]",)
    anil, maml = (small(algorithm, *linear) for algorithm in ("adapts: head", "adapts: all"))
    params, tasks = inputs(maml)
    (ours, our_log), (theirs, their_log) = (one.method.meta_gradient(params, tasks) for one in (anil, maml))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert torch.equal(our_log["post_adapt_loss"], their_log["post_adapt_loss"])


def test_a_step_of_anil_is_least_squares_on_fixed_features() -> None:
    # One step on the mean of (Z w - y)^2: w - alpha (2 / K) Z^T (Z w - y), with a column of ones for the bias.
    chosen = small("adapts: head, inner_steps: 1, inner_lr: 0.1", "model.hidden_sizes=[5]")
    params, support = first_task(chosen)
    after = adapted(chosen.method.inner, params, support, inner_steps=1, gradient=constant)[""]
    theta = {name: value.numpy() for name, value in params.items()}
    features = np.tanh(support.x.numpy() @ theta["layer0.weight"].T + theta["layer0.bias"])
    design = np.hstack([features, np.ones((len(features), 1))])
    head = np.append(theta["layer1.weight"][0], theta["layer1.bias"])
    head -= 0.1 * 2 / len(design) * design.T @ (design @ head - support.y.numpy()[:, 0])
    np.testing.assert_allclose(after["layer1.weight"][0], head[:-1], rtol=1e-12)
    np.testing.assert_allclose(after["layer1.bias"], head[-1:], rtol=1e-12)


@pytest.mark.parametrize(("adapts", "moving"), [("head", {"layer2"}), ("body", {"layer0", "layer1"})])
def test_what_does_not_adapt_is_left_to_its_last_bit_and_learned_all_the_same(adapts: str, moving: set[str]) -> None:
    chosen = small(f"adapts: {adapts}, inner_optimizer: adam")
    params, support = first_task(chosen)
    after = adapted(chosen.method.inner, params, support, inner_steps=3, gradient=constant)[""]
    moved = {name.partition(".")[0] for name in after if not torch.equal(after[name], params[name])}
    assert moved == moving
    assert all(grad.any() for grad in chosen.method.meta_gradient(*inputs(chosen))[0].values())


def test_a_model_without_the_part_that_is_to_adapt_is_refused(maml: Maml) -> None:
    outcome = maml("train", "-c", "tiny.yaml", "--set", "algorithm.adapts=body", "--set", "model.hidden_sizes=[]")
    assert (outcome.code, "this model has no body apart from its other layers" in outcome.err) == (2, True)


def test_a_t_net_is_the_network_of_its_definition() -> None:
    # Layers y = T (W x + b), of which W and b descend; what is compared is T W and T b.
    chosen = small("preconditioner: t_net, inner_steps: 2, inner_lr: 0.1")
    params, support = first_task(chosen)
    params |= {name: value + 0.3 * drawn(*value.shape) for name, value in params.items() if "inner_map" in name}
    after = adapted(chosen.method.inner, params, support, inner_steps=2, gradient=constant)[""]
    transforms = [params[f"inner_map.layer{index}.weight.out"] for index in range(3)]
    own = [
        torch.linalg.solve(transforms[index], params[f"layer{index}.{kind}"]).requires_grad_()
        for index in range(3)
        for kind in ("weight", "bias")
    ]
    for _ in range(2):
        hidden = support.x
        for index, transform in enumerate(transforms):
            hidden = (hidden @ own[2 * index].T + own[2 * index + 1]) @ transform.T
            hidden = torch.tanh(hidden) if index < 2 else hidden
        loss = ((hidden - support.y) ** 2).mean()
        grads = torch.autograd.grad(loss, own)
        own = [(value - 0.1 * grad).detach().requires_grad_() for value, grad in zip(own, grads, strict=True)]
    for index, transform in enumerate(transforms):
        torch.testing.assert_close(after[f"layer{index}.weight"], transform @ own[2 * index], rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(after[f"layer{index}.bias"], transform @ own[2 * index + 1], rtol=1e-9, atol=1e-12)


def test_the_masks_of_an_mt_net_are_in_the_mean_a_t_net() -> None:
    # All masks of three outputs, each with its probability: the mean of T D T^T G.
    transform, grad, chances = drawn(3, 3), drawn(3, 2), [0.9, 0.2, 0.5]
    mean = torch.zeros(3, 2, dtype=torch.float64)
    for mask in itertools.product([0.0, 1.0], repeat=3):
        chance = math.prod(p if on else 1 - p for p, on in zip(chances, mask, strict=True))
        mean += chance * transform @ torch.diag(torch.tensor(mask, dtype=torch.float64)) @ transform.T @ grad
    scaled = transform * torch.tensor(chances, dtype=torch.float64).sqrt()
    mapped = learned_map("t_net")({"inner_map.w.out": scaled}, {"w": grad})
    torch.testing.assert_close(mapped["w"], mean)
    diagonal = torch.tensor([0.5, -2.0, 3.0], dtype=torch.float64)
    by_row = learned_map("diagonal")({"inner_map.w.out": diagonal}, {"w": grad})["w"]
    torch.testing.assert_close(
        by_row, learned_map("t_net")({"inner_map.w.out": torch.diag(diagonal)}, {"w": grad})["w"]
    )


@pytest.mark.parametrize("shape", [(), (4,), (4, 3), (4, 3, 2), (4, 3, 2, 5)])
def test_meta_curvature_is_a_kronecker_product_of_its_matrices(shape: tuple[int, ...]) -> None:
    maps, grad = init_maps({"w": shape}, "meta_curvature"), drawn(*shape)
    assert torch.equal(learned_map("meta_curvature")({n: v.double() for n, v in maps.items()}, {"w": grad})["w"], grad)
    moved = {name: drawn(*value.shape) for name, value in maps.items()}
    product = np.eye(1)
    for matrix in moved.values():
        product = np.kron(product, matrix.numpy())
    mapped = learned_map("meta_curvature")(moved, {"w": grad})["w"]
    np.testing.assert_allclose(mapped.numpy().flatten(), product @ grad.numpy().flatten(), rtol=1e-10)


def test_tensors_of_a_layer_share_a_map_where_they_have_as_many_outputs() -> None:
    shapes = {"a.weight": (4, 3), "a.bias": (4,), "a.other": (2, 2), "b.weight": (4, 4, 2), "scale": ()}
    found = {name: tuple(value.shape) for name, value in init_maps(shapes, "t_net").items()}
    sizes = {"a.weight": 4, "a.other": 2, "b.weight": 4, "scale": 1}
    assert found == {f"inner_map.{name}.out": (size, size) for name, size in sizes.items()}


@pytest.mark.parametrize("steps", [2, 5])
def test_weights_of_losses_go_in_a_straight_line_from_all_alike_to_the_last_alone(steps: int) -> None:
    for over in (Fraction(0), Fraction(1, 4), Fraction(2, 3), Fraction(1), Fraction(7, 2)):
        rest = 1 - min(over, Fraction(1))
        expected = [rest / steps] * (steps - 1) + [1 - rest * (steps - 1) / steps]
        found = loss_weights(torch.tensor(float(over), dtype=torch.float64), steps).tolist()
        assert found == pytest.approx(list(map(float, expected)), abs=1e-15)
        assert sum(expected) == 1


def trained(experiment: Experiment, steps: int, state: TrainState) -> Tensor:
    """Train some steps more as `maml train` does, in one program; returns the last loss whose gradient was taken."""
    update = planned_update(experiment, state, make_plan(experiment, CPU), CPU)
    for _ in range(steps):
        log, _ = update(experiment.stream().batch(state.step))
        state.step += 1
    return log.get("meta_loss", log["post_adapt_loss"])


def test_a_training_weighs_the_losses_by_how_far_it_is_and_then_is_plain_maml_bit_for_bit() -> None:
    annealed, off = small("per_step_losses: 3"), ("engine.compile=off",)
    state, plain = annealed.initial_state(CPU), [small(f"inner_steps: {steps}", *off) for steps in (1, 2, 3)]
    for alike in (1 / 3, 2 / 9, 1 / 9):
        tasks = annealed.stream().batch(state.step)
        each = [one.method.meta_gradient(state.params, tasks)[1]["post_adapt_loss"] for one in plain]
        expected = alike * each[0] + alike * each[1] + (1 - 2 * alike) * each[2]
        torch.testing.assert_close(trained(annealed, 1, state), expected)
    as_maml = annealed.initial_state(CPU)
    trained(annealed, 3, as_maml)
    trained(annealed, 3, state)
    trained(plain[2], 3, as_maml)
    assert torch.equal(state.flat, as_maml.flat)


@pytest.mark.parametrize(
    ("algorithm", "last"),
    [("per_step_losses: 4, first_order_steps: 2", "second"), ("per_step_losses: 2, order: first", "first")],
)
def test_a_training_begins_with_all_losses_in_first_order_and_ends_as_plain_maml(algorithm: str, last: str) -> None:
    method = small(algorithm).method
    params, tasks = inputs(small(algorithm))
    begins, begun = gradient_at(method, 0)(params, tasks)
    each = [small(f"order: first, inner_steps: {steps}").method.meta_gradient(params, tasks) for steps in (1, 2, 3)]
    for name, grad in begins.items():
        torch.testing.assert_close(grad, torch.stack([grads[name] for grads, _ in each]).mean(dim=0))
    losses = torch.stack([log["post_adapt_loss"] for _, log in each])
    torch.testing.assert_close(begun, {"post_adapt_loss": losses[-1], "meta_loss": losses.mean(dim=0)})
    ends, ended = gradient_at(method, 10**6)(params, tasks)
    plain, log = small(f"order: {last}").method.meta_gradient(params, tasks)
    assert all(torch.equal(ends[name], plain[name]) for name in plain)
    assert torch.equal(ended["meta_loss"], log["post_adapt_loss"])


@needs_compiler
def test_a_graph_of_a_training_follows_the_annealing_and_another_one_its_end(maml: Maml, folder: Path) -> None:
    # In a process of its own, since torch.compile does not trace the shape checks that are on in this one; and traced
    # as for training, with no guards, but not translated, which takes a minute and changes no value.
    traced = (
        "import torch; compiler = torch.compile\n"
        "def compile(function, *, options, **rest):\n"
        "    unguarded = {'guard_filter_fn': options['guard_filter_fn']}\n"
        "    return compiler(function, backend='eager', options=unguarded, **rest)\n"
        "torch.compile = compile\n"
        "from mamlcli.cli import main; main()\n"
    )
    (folder / "small.yaml").write_text(SMALL)
    algorithm = "algorithm={inner_steps: 2, inner_lr: 0.1, per_step_losses: 3}"
    chosen = ("-c", "small.yaml", "--set", algorithm, "--set", "outer.steps=5")
    assert maml("train", *chosen, "--out", "eager", "--set", "engine.compile=off").code == 0
    options = ("train", *chosen, "--out", "traced", "--set", "engine={compile: 'on', inner_update: dense}")
    done = subprocess.run([sys.executable, "-c", traced, *options], check=False, cwd=folder, capture_output=True)
    assert (done.returncode, done.stderr.count(b"compiling one graph")) == (0, 2), done.stderr
    for ours, theirs in zip(metrics(folder / "traced"), metrics(folder / "eager"), strict=True):
        assert (ours["meta_loss"] == ours["post_adapt_loss"]) == (ours["step"] > 3)
        assert {**ours, "diverged_at_step": 0} == pytest.approx({**theirs, "diverged_at_step": 0}, rel=1e-4)


def test_the_log_has_the_weighted_loss_beside_the_one_after_the_last_step(maml: Maml) -> None:
    options = (
        "--set",
        "algorithm={inner_steps: 3, inner_lr: 0.1, per_step_losses: 8}",
        "--set",
        "run.log_every_steps=4",
    )
    outcome = maml("train", "-c", "tiny.yaml", "--out", "run", *options)
    assert outcome.code == 0
    rows = metrics(Path("run"))
    assert all((row["meta_loss"] == row["post_adapt_loss"]) == (row["step"] > 8) for row in rows)
    assert maml("report", "run").code == 0
    assert maml("plot", "run").code == 0
    assert maml("eval", "run").code == 0


def test_cosines_of_orders_are_those_of_the_stretch_that_a_step_is_of(folder: Path) -> None:
    config = small("inner_lr: 0.05, first_order_steps: 4", "outer.steps=6", "run.log_every_steps=2").config
    cosines = compare_orders(config, out=folder / "both").cosines
    assert all((row["cosine"] == pytest.approx(1.0, abs=1e-6)) == (row["step"] < 4) for row in cosines)


@pytest.mark.parametrize(
    ("algorithm", "message"),
    [
        ("{inner_steps: 0, preconditioner: t_net}", "preconditioner needs inner_steps of at least 1"),
        ("{inner_steps: 1, per_step_losses: 5}", "per_step_losses needs inner_steps of at least 2"),
        ("{inner_steps: 0, first_order_steps: 5}", "first_order_steps needs inner_steps of at least 1"),
    ],
)
def test_keys_that_would_do_nothing_are_refused(algorithm: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(TINY, overrides=[f"algorithm={algorithm}"])


@pytest.mark.parametrize(
    ("algorithm", "title"),
    [
        ("preconditioner: diagonal", "second-order diagonal MT-net"),
        ("adapts: head, preconditioner: meta_curvature", "second-order ANIL, Meta-Curvature"),
        ("learned_inner_lr: parameter, preconditioner: t_net", "second-order T-net, a learned rate per parameter"),
        ("per_step_losses: 3, first_order_steps: 4", "second-order MAML, per-step losses, a first-order start"),
        ("first_order_steps: 4, order: first", "first-order MAML"),
        (VARIANTS["MAML++"], "second-order MAML++"),
    ],
)
def test_a_combination_is_called_by_what_it_combines(algorithm: str, title: str) -> None:
    assert small(algorithm).method.title == title
