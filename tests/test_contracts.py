"""What holds for every family, model and method that is registered, and every kind of inner rate: one table of them.

Whoever registers another one adds it here, and it is proven.
"""

from pathlib import Path

import pytest
import torch

from mamlcli import Config, parse_config
from mamlcli.compute.chunks import in_chunks
from mamlcli.experiment import Experiment, make_experiment
from mamlcli.methods.inner_loops import constant
from mamlcli.methods.meta_gradients import adapted
from mamlcli.proofs.checks import left_out
from mamlcli.proofs.differences import slope_check
from mamlcli.registry import CHOICES, entries
from mamlcli.tasks.samples import Task
from mamlcli.types import Params
from tests.conftest import ROOT, Maml
from tests.same_run import assert_same_run

CPU = torch.device("cpu")

# Every entry of the registry by a config that chooses it, small and smooth; and what else changes a computation.
TABLE = {
    "sinusoid": "tasks: {family: sinusoid, frequency: [0.8, 1.2], noise_std: 0.1, corrupted_slots: 1}",
    "damped_oscillator": "tasks: {family: damped_oscillator, noise_std: 0.1, pool: 7, oracle_inputs: true}",
    "dose_response": "tasks: {family: dose_response, baseline: [0.0, 1.0], hill: [0.5, 3.0], pool: 1}",
    "linear": "tasks: {family: linear, oracle_inputs: true}",
    "quadratic": "tasks: {family: quadratic, pool: 3}",
    "cubic": "tasks: {family: cubic, noise_std: 0.1}",
    "absolute_value": "tasks: {family: absolute_value, corrupted_slots: 2}",
    "tanh": "tasks: {family: tanh, amplitude: [1.0, 3.0]}",
    "sawtooth": "tasks: {family: sawtooth, noise_std: 0.1}",
    "harmonic": "tasks: {family: harmonic, overtone_amplitude: [0.0, 1.0]}",
    "surface": "tasks: {family: surface, first_square: [0.1, 0.3], second_square: [-0.3, 0.1]}",
    "ripple": "tasks: {family: ripple, noise_std: 0.1, oracle_inputs: true}",
    "mixture": "tasks: {family: mixture, inputs: 2, pool: 7, oracle_inputs: true, families: [{family: sinusoid}, "
    "{family: ripple, weight: 0.5}]}",
    "table": f"tasks: {{family: table, path: {ROOT}/configs/data/elnino.csv, task: year, inputs: month, "
    "target: temperature}",
    "mlp": "model: {name: mlp, hidden_sizes: [6, 5], activation: tanh}",
    "maml": "algorithm: {name: maml, inner_steps: 2, inner_lr: 0.05}",
    "joint": "algorithm: {name: joint}",
    "averaged": "algorithm: {name: averaged, models: 7}\ntasks: {pool: 7}",
    "averaged, towards the mean": "algorithm: {name: averaged, models: 5, penalty: mean, strength: 0.1}\n"
    "tasks: {pool: 5}",
    "chain": "algorithm: {name: chain, inner_steps: 2, inner_lr: 0.05, unlabelled_inputs: 4}",
    "reptile": "algorithm: {name: reptile, inner_steps: 3, inner_lr: 0.02, inner_optimizer: adam}",
    "reptile, SGD on all samples": "algorithm: {name: reptile, inner_steps: 3, inner_optimizer: sgd, samples: all}",
    "cavia": "algorithm: {name: cavia, inner_steps: 2, inner_lr: 0.5, context_size: 3}",
    "imaml": "algorithm: {name: imaml, inner_steps: 3, inner_lr: 0.05}",
    "hessian_free": "algorithm: {name: hessian_free, inner_steps: 2, inner_lr: 0.05, difference_step: 0.1}",
    "ANIL": "algorithm: {adapts: head, inner_steps: 2, inner_lr: 0.05}",
    "BOIL": "algorithm: {adapts: body, inner_steps: 2, inner_lr: 0.05}",
    "ANIL, a rate per tensor": "algorithm: {adapts: head, learned_inner_lr: tensor, inner_steps: 2, inner_lr: 0.05}",
    "maml, inner momentum": "algorithm: {inner_optimizer: momentum, inner_steps: 3, inner_lr: 0.02}",
    "maml, inner Adam": "algorithm: {inner_optimizer: adam, inner_steps: 3, inner_lr: 0.02}",
    "Meta-Curvature": "algorithm: {preconditioner: meta_curvature, inner_steps: 2, inner_lr: 0.05}",
    "T-net, inner momentum": "algorithm: {preconditioner: t_net, inner_optimizer: momentum, inner_steps: 2}",
    "BOIL, MT-net, a rate per tensor": "algorithm: {adapts: body, preconditioner: diagonal, learned_inner_lr: tensor}",
    "MAML++": "algorithm: {inner_steps: 3, inner_lr: 0.05, learned_inner_lr: tensor_and_step, per_step_losses: 6, "
    "first_order_steps: 2}",
    "maml, a rate per tensor": "algorithm: {learned_inner_lr: tensor, inner_steps: 2, inner_lr: 0.05}",
    "maml, a rate per step": "algorithm: {learned_inner_lr: tensor_and_step, inner_steps: 2, inner_lr: 0.05}",
    "maml, a rate per parameter": "algorithm: {learned_inner_lr: parameter, inner_lr_init: [0.01, 0.1]}",
}
COMMON = """
name: contract
seeds: [0, 4]
device: cpu
outer: {steps: 8, meta_batch_size: 5}
evaluation: {tasks: 4, shots: [10], inner_steps: 2, query_shots: 6}
run: {log_every_steps: 2, checkpoint_every_steps: 3}
"""


@pytest.fixture(params=TABLE, scope="module")
def text(request: pytest.FixtureRequest) -> str:
    smooth = "" if TABLE[request.param].startswith("model") else "model: {hidden_sizes: [6], activation: tanh}\n"
    return COMMON + smooth + TABLE[request.param]


@pytest.fixture
def config(text: str) -> Config:
    return parse_config(text)


@pytest.fixture
def experiment(config: Config) -> Experiment:
    return make_experiment(config)


def inputs(experiment: Experiment) -> tuple[Params, Task]:
    """Initial parameters and the first meta-batch, in float64."""
    params = {name: value.double() for name, value in experiment.initial_state(CPU).params.items()}
    return params, experiment.stream().batch(0).map(torch.Tensor.double)


def test_whatever_is_registered_stands_in_this_table() -> None:
    assert {name for kind in CHOICES for name in entries(kind)} <= TABLE.keys()


def test_the_meta_gradient_is_the_slope_of_its_loss_or_says_why_it_is_none(experiment: Experiment) -> None:
    gradient, reason = experiment.method.meta_gradient, experiment.method.no_slope
    verdict = slope_check(gradient, *inputs(experiment), mistaken=left_out(gradient)).verdict
    assert verdict == ("holds" if reason is None else "fails")
    assert reason is None or len(reason.split()) > 5


@pytest.mark.parametrize("size", [1, 2, 4])
def test_chunks_of_tasks_give_the_meta_gradient_of_the_whole(experiment: Experiment, size: int) -> None:
    gradient = experiment.method.meta_gradient
    params, tasks = inputs(experiment)
    torch.testing.assert_close(
        in_chunks(gradient, size)(params, tasks), gradient(params, tasks), rtol=1e-11, atol=1e-13
    )


def test_the_order_of_tasks_and_of_samples_changes_nothing_but_rounding(experiment: Experiment) -> None:
    gradient = experiment.method.meta_gradient
    params, tasks = inputs(experiment)
    shuffled = tasks.map(lambda part: part[:, [3, 0, 4, 2, 1]])
    torch.testing.assert_close(gradient(params, shuffled), gradient(params, tasks), rtol=1e-11, atol=1e-13)
    query = shuffled.query._replace(x=shuffled.query.x.flip(2), y=shuffled.query.y.flip(2))
    flipped = shuffled._replace(query=query)
    torch.testing.assert_close(gradient(params, flipped), gradient(params, tasks), rtol=1e-11, atol=1e-13)


def test_a_seed_alone_has_the_meta_gradient_that_it_has_among_others(experiment: Experiment) -> None:
    gradient = experiment.method.meta_gradient
    params, tasks = inputs(experiment)
    both, _ = gradient(params, tasks)
    alone, _ = gradient({name: value[1:] for name, value in params.items()}, tasks.map(lambda part: part[1:]))
    for name, value in alone.items():
        torch.testing.assert_close(value[0], both[name][1], rtol=1e-11, atol=1e-13)


def test_meta_parameters_follow_from_the_seed_and_differ_between_seeds(experiment: Experiment) -> None:
    method = experiment.method
    one, again, other = method.init(3), method.init(3), method.init(5)
    assert list(one) == list(again) == list(other)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)
    assert sum(value.numel() for value in one.values()) >= method.num_params


def test_without_a_step_nothing_is_adapted_and_with_one_something_is(experiment: Experiment) -> None:
    params, tasks = inputs(experiment)
    one = {name: value[0] for name, value in params.items()}
    support, other = tasks.map(lambda part: part[0, 0]).support, tasks.map(lambda part: part[0, 1]).support
    inner = experiment.method.inner
    none, some = (adapted(inner, one, support, inner_steps=steps, gradient=constant) for steps in (0, 1))
    assert list(none) == list(some)
    elsewhere = adapted(inner, one, other, inner_steps=0, gradient=constant)
    for name, predictor in none.items():
        assert all(torch.equal(predictor[key], elsewhere[name][key]) for key in predictor)
        assert any(not torch.equal(predictor[key], some[name][key]) for key in predictor)


def test_a_run_resumes_bit_for_bit_and_is_evaluated(
    maml: Maml, folder: Path, text: str, experiment: Experiment
) -> None:
    (folder / "c.yaml").write_text(text)
    assert maml("train", "-c", "c.yaml", "--out", "whole").code == 0
    assert maml("train", "-c", "c.yaml", "--out", "parts", "--set", "outer.steps=5").code == 0
    assert maml("train", "--resume", "parts", "--set", "outer.steps=8").code == 0
    assert_same_run(folder / "whole", folder / "parts")
    outcome = maml("eval", "whole")
    assert outcome.code == 0
    drawn = {path.stem for path in (folder / "whole").glob("*.png")}
    assert drawn >= {"loss", "adaptation"}
    assert ("fits" in drawn) == (experiment.family.curves is not None)
