"""Joint training, oracle inputs and learned inner learning rates, against PyTorch's own training and closed forms."""

import json
from pathlib import Path

import pytest
import torch

from mamlcli import Config, parse_config
from mamlcli.errors import ConfigError
from mamlcli.experiment import make_experiment
from mamlcli.methods.inner_loops import gradient_descent, init_rates, learned_rate, through
from mamlcli.methods.meta_gradients import adapted, unrolled
from mamlcli.runs.checkpoints import list_checkpoints, load_checkpoint
from mamlcli.runs.drawings import read_drawing
from mamlcli.tasks.family import Request, TaskFamily
from mamlcli.tasks.samples import Samples, Task
from mamlcli.tasks.sinusoid import SinusoidTasks, sinusoid
from mamlcli.tasks.stream import TaskList
from mamlcli.types import Order, Params
from tests.conftest import TINY, Maml
from tests.same_run import assert_same_run
from tests.test_tasks import PLAIN, sinusoids

KINDS = ["tensor", "tensor_and_step", "parameter"]


def oracle(frequency: tuple[float, float] = (1.0, 1.0)) -> TaskFamily:
    return sinusoid(SinusoidTasks(frequency=frequency, oracle_inputs=True))


def test_joint_training_is_supervised_learning_on_all_samples() -> None:
    experiment = make_experiment(parse_config(TINY, overrides=["algorithm.name=joint"]))
    state, tasks = experiment.initial_state(torch.device("cpu")), experiment.stream().batch(0)
    grads, log = experiment.method.meta_gradient(state.params, tasks)
    for seed in range(2):
        module = torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        for parameter, value in zip(module.parameters(), state.params.values(), strict=True):
            parameter.data.copy_(value[seed])
        x, y = (torch.cat([side[part][seed].flatten() for side in tasks]).unsqueeze(-1) for part in (0, 1))
        loss = torch.nn.functional.mse_loss(module(x), y)
        torch.autograd.backward(loss)
        torch.testing.assert_close(log["post_adapt_loss"][seed], loss.detach())
        for parameter, grad in zip(module.parameters(), grads.values(), strict=True):
            torch.testing.assert_close(grad[seed], parameter.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("override", "name"),
    [
        ("algorithm.order=first", "first-order MAML"),
        ("algorithm.name=joint", "joint training"),
        ("algorithm.inner_steps=0", "MAML without inner steps"),
        ("algorithm.learned_inner_lr=tensor", "second-order MAML, a learned rate per tensor"),
        ("algorithm.learned_inner_lr=parameter", "second-order Meta-SGD"),
        ("algorithm={name: chain, order: first}", "first-order chain"),
    ],
)
def test_a_method_is_called_by_its_name_and_has_an_order_only_where_there_is_one(
    maml: Maml, override: str, name: str
) -> None:
    options = ("--set", override, "--set", "evaluation.shots=[10]")  # of a chain as many as its support shots
    outcome = maml("train", "-c", "tiny.yaml", "--out", "run", *options)
    assert outcome.code == 0
    assert read_drawing(Path("run/loss.figure.json")).labels["title"] == f"tiny: {name}, 2 seeds"
    assert f"{name}, dense, not compiled: 12 steps are too few" in outcome.err
    assert ("order" in outcome.err) == ("order" in name)


def test_an_oracle_is_told_the_function_behind_every_input() -> None:
    family = oracle(frequency=(0.5, 2.0))
    task = TaskList(family, 0, "meta-train").tasks(3, 6, Request(support_shots=4, query_shots=5))
    for samples in task:
        assert samples.x.shape[-1] == family.num_inputs == 4
        x, amplitude, phase, frequency = samples.x.unbind(-1)
        torch.testing.assert_close(
            amplitude * torch.sin(frequency * x - phase), samples.y[..., 0], rtol=1e-4, atol=1e-5
        )
    assert oracle().num_inputs == 3  # a frequency that is always the same tells nothing


def test_an_oracle_sees_the_points_of_the_same_tasks() -> None:
    plain, told = (
        TaskList(family, 7, "meta-test").tasks(0, 5, Request(support_shots=4, query_shots=3))
        for family in (sinusoid(PLAIN), oracle())
    )
    for one, other in zip(plain, told, strict=True):
        assert torch.equal(one.x, other.x[..., :1])
        assert torch.equal(one.y, other.y)


def test_a_grid_is_even_with_both_ends_and_measures_the_same_functions() -> None:
    tasks = TaskList(sinusoid(PLAIN), 0, "meta-test")
    drawn = tasks.tasks(0, 5, Request(support_shots=4, query_shots=11))
    even = tasks.tasks(0, 5, Request(support_shots=4, query_shots=11, query_grid=True))
    assert torch.equal(drawn.support.x, even.support.x)
    assert even.query.x[3].flatten().tolist() == [-5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5]
    functions = sinusoids(PLAIN, tasks, 0, 5)
    torch.testing.assert_close(even.query.y.double(), functions.at(even.query.x[:1]), atol=1e-6, rtol=0)


def quadratic(params: Params, samples: Samples) -> torch.Tensor:
    return params["theta"].square().sum() / 2 + 0 * samples.x.sum()


def quadratic_inputs(rates: torch.Tensor) -> tuple[Params, Task]:
    samples = Samples(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1))
    return {"theta": torch.tensor([[3.0, -1.0]]), "inner_lr.theta": rates[None]}, Task(samples, samples)


@pytest.mark.parametrize("order", ["first", "second"])
def test_the_gradient_of_rates_has_its_closed_form_on_a_quadratic(order: Order) -> None:
    # theta_n = theta (1 - a_0) (1 - a_1) and L = theta_n^2 / 2, so dL/da_0 = -theta_n theta (1 - a_1), and with the
    # inner gradients as constants, dL/da_0 = -theta_n theta and dL/da_1 = -theta_n theta (1 - a_0) in both.
    params, tasks = quadratic_inputs(torch.tensor([0.1, 0.3]))
    inner = gradient_descent(quadratic, learned_rate("tensor_and_step"))
    grads, _ = unrolled(inner, quadratic, inner_steps=2, order=order)(params, tasks)
    product = 9.0 * 0.9 * 0.7 + 1.0 * 0.9 * 0.7  # theta_n theta, summed over both entries
    first = -product * (0.7 if order == "second" else 1.0)
    torch.testing.assert_close(grads["inner_lr.theta"], torch.tensor([[first, -product * 0.9]]))


def test_a_step_beyond_training_takes_the_rates_of_the_last_one() -> None:
    theta, samples = {"theta": torch.tensor([1.0])}, Samples(torch.zeros(1, 1), torch.zeros(1, 1))
    params = theta | {"inner_lr.theta": torch.tensor([0.5, 0.2])}
    inner = gradient_descent(quadratic, learned_rate("tensor_and_step"))
    after_four = adapted(inner, params, samples, inner_steps=4, gradient=through)[""]
    assert after_four["theta"].item() == pytest.approx(0.5 * 0.8 * 0.8 * 0.8)
    assert inner.step(params, inner.start(params), samples, 1, through).theta["theta"].item() == pytest.approx(0.8)


def test_rates_are_drawn_apart_from_the_weights_and_from_other_seeds() -> None:
    theta = {"w": torch.zeros(300)}
    drawn = [init_rates(theta, "parameter", interval=(0.0, 1.0), inner_steps=1, seed=seed) for seed in (0, 1)]
    weights = torch.empty(300).uniform_(0.0, 1.0, generator=torch.Generator().manual_seed(0))
    together = torch.stack([drawn[0]["inner_lr.w"], drawn[1]["inner_lr.w"], weights])
    assert (torch.corrcoef(together) - torch.eye(3)).abs().max() < 0.25  # four standard errors


@pytest.mark.parametrize("kind", KINDS)
def test_rates_start_where_the_config_says(kind: str) -> None:
    theta = {"w": torch.zeros(50, 20), "b": torch.zeros(50)}
    rates = init_rates(theta, kind, interval=(0.005, 0.1), inner_steps=3, seed=0)  # type: ignore[arg-type]
    shapes = {"tensor": [(1,), (1,)], "tensor_and_step": [(3,), (3,)], "parameter": [(50, 20), (50,)]}
    assert [tuple(value.shape) for value in rates.values()] == shapes[kind]
    values = torch.cat([value.flatten() for value in rates.values()])
    assert values.min() >= 0.005
    assert values.max() <= 0.1
    if kind == "parameter":
        assert values.mean().item() == pytest.approx(0.0525, abs=0.004)  # five standard errors


@pytest.mark.parametrize("kind", KINDS)
def test_learned_rates_are_trained_saved_restored_and_plotted(maml: Maml, folder: Path, kind: str) -> None:
    options = ("-c", "tiny.yaml", "--set", f"algorithm.learned_inner_lr={kind}", "--set", "algorithm.inner_steps=2")
    assert maml("train", *options, "--out", "whole").code == 0
    assert maml("train", *options, "--out", "parts").code == 0
    newest = list_checkpoints(folder / "parts" / "checkpoints")[0]
    rates = {name: value for name, value in load_checkpoint(newest).params.items() if name.startswith("inner_lr.")}
    assert rates
    assert all((value != 0.01).any() for value in rates.values())
    newest.unlink()
    assert maml("train", *options, "--out", "parts", "--resume", "auto").code == 0
    assert_same_run(folder / "whole", folder / "parts")
    assert (folder / "whole" / "inner_lr.png").exists()
    assert maml("eval", "whole").code == 0


@pytest.mark.parametrize("overrides", [["algorithm.name=joint"], ["tasks.oracle_inputs=true"]])
def test_every_method_trains_resumes_and_is_evaluated(maml: Maml, overrides: list[str]) -> None:
    options = [part for override in overrides for part in ("--set", override)]
    assert maml("train", "-c", "tiny.yaml", *options, "--out", "run").code == 0
    assert maml("train", "--resume", "run", "--set", "outer.steps=15").code == 0
    outcome = maml("eval", "run", "--grid", 50, "--json")
    assert outcome.code == 0
    assert json.loads(outcome.out)["query"]["points"] == 50
    assert "even grid" in json.loads(outcome.out)["query"]["sampling"]


def test_the_random_initialisation_is_evaluated_as_a_baseline(maml: Maml, folder: Path, tiny: Config) -> None:
    maml("train", "-c", "tiny.yaml", "--out", "run")
    outcome = maml("eval", "run", "--random-init", "--json")
    assert outcome.code == 0
    result = json.loads(outcome.out)
    assert result["start"] == "random-init"
    assert (folder / "run" / "evaluation-random-init" / "evaluation.csv").exists()
    experiment = make_experiment(tiny)
    task = TaskList(experiment.family, 0, "meta-test").tasks(0, 7, Request(support_shots=3, query_shots=9))
    first_seed = experiment.initial_params()[0]
    losses = [experiment.loss_fn(first_seed, Samples(*query)) for query in zip(*task.query, strict=True)]
    row = next(row for row in result["results"] if (row["seed"], row["shots"], row["inner_steps"]) == (0, 3, 0))
    assert row["mean"] == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["algorithm.inner_lr_init=[0, 1]"], "inner_lr_init needs learned_inner_lr"),
        (
            ["algorithm.name=joint", "algorithm.learned_inner_lr=tensor"],
            "`learned_inner_lr` is a key of maml; this is joint",
        ),
        (["algorithm.inner_steps=0", "algorithm.learned_inner_lr=tensor"], "inner_steps of at least 1"),
    ],
)
def test_keys_that_do_not_fit_together_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config("name: x", overrides=overrides)
