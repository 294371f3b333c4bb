"""Predictions of a trained run for tasks of a user's own: beside loops written out, in the user's unit."""

import csv
import dataclasses
import json
import math
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import mamlcli
from mamlcli import registry
from mamlcli.errors import CheckpointError, ConfigError, InterruptedRunError, RunFolderError, UsageError
from mamlcli.figures.predictions import predictions_figure
from mamlcli.interrupts import SIGNALS, StopRequest
from mamlcli.proofs.maps import textbook_map
from mamlcli.results import PredictResult
from mamlcli.runs.checkpoints import load_checkpoint
from mamlcli.section import FunctionTasksSection
from mamlcli.tasks.family import Columns, TaskFamily, Units, function_family
from tests.conftest import Maml
from tests.test_contracts import COMMON, TABLE
from tests.test_runs import Listener

RNG = np.random.default_rng(0)
# K is what the contracts train with, since a chain adapts to no other.
X, Y, X_NEW = (RNG.uniform(-3, 3, size) for size in (10, 10, 13))
SMOOTH = "model: {hidden_sizes: [6], activation: tanh}\n"
METHODS = {name: text for name, text in TABLE.items() if text.startswith("algorithm")}
UNITS = Units(x_mean=(2000.0, -1.0), x_scale=(50.0, 0.1), y_mean=(300.0, 0.0), y_scale=(20.0, 1e-3))
COLUMNS = Columns("site", ("year", "depth"), ("kelvin", "salt"))


class OceanTasks(FunctionTasksSection):
    """Two inputs and two targets, in units that no model should see."""

    family: Literal["ocean"] = "ocean"


def ocean(config: OceanTasks) -> TaskFamily:
    """Build the family."""
    waves = function_family(
        lambda x, level: torch.cat([(x + level).sin().sum(-1, keepdim=True), x[..., :1] * level], dim=-1),
        {"level": (0.5, 1.5)},
        config,
        num_inputs=2,
        num_outputs=2,
    )
    return waves._replace(columns=COLUMNS, units=UNITS)


def recalled_ocean(config: OceanTasks, record: Mapping[str, Any]) -> TaskFamily:
    """Without its data."""
    assert isinstance(record, Mapping)
    return ocean(config)._replace(names={"meta-train": ("atlantic",)})


@pytest.fixture(scope="module")
def with_ocean() -> Iterator[None]:
    """Another family is registered, and afterwards none is."""
    entries = registry._ENTRIES["tasks"]
    registry.register_family(OceanTasks, recall=recalled_ocean)(ocean)
    yield
    del entries["ocean"]


@pytest.fixture(scope="module")
def sinusoids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three seeds."""
    config = mamlcli.parse_config(COMMON + SMOOTH + "tasks: {support_shots: 5}", overrides=["seeds=[0, 4, 2]"])
    return mamlcli.train(config, out=tmp_path_factory.mktemp("runs") / "run").run


@pytest.fixture(scope="module")
def ocean_run(with_ocean: None, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001
    text = COMMON + SMOOTH + "tasks: {family: ocean}\nalgorithm: {inner_steps: 2, inner_lr: 0.05}"
    return mamlcli.train(mamlcli.parse_config(text), out=tmp_path_factory.mktemp("runs") / "run").run


def checkpoint_of(run: Path) -> dict[str, Tensor]:
    return load_checkpoint(run / "checkpoints" / "step-8.pt").params


def network(params: Mapping[str, Tensor], prefix: str = "") -> nn.Sequential:
    """The tanh MLP of one seed as torch has it, with the parameters called `<prefix>layer<i>...`."""
    layers: list[nn.Module] = []
    for index in range(sum(name.startswith(f"{prefix}layer") for name in params) // 2):
        weight, bias = (params[f"{prefix}layer{index}.{kind}"] for kind in ("weight", "bias"))
        linear = nn.Linear(weight.shape[1], weight.shape[0])
        linear.weight.data, linear.bias.data = weight.clone(), bias.clone()
        layers += [linear, nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def descended(
    model: nn.Sequential,
    x: Tensor,
    y: Tensor,
    optimizer: torch.optim.Optimizer,
    steps: int,
    changed: Callable[[int], None] = lambda _: None,
) -> nn.Sequential:
    """The textbook: torch.optim on the mean squared error; what is done to gradients before a step comes last."""
    for step in range(steps):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()  # type: ignore[no-untyped-call]
        changed(step)
        optimizer.step()
    return model


def sgd(model: nn.Module, lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr)


def turned(settings: dict[str, Any], tensors: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser of torch.optim that a method steps with, of what it adapts; learned rates are in the gradients."""
    lr, moving = settings["inner_lr"], {"head": tensors[-2:], "body": tensors[:-2]}
    lr = 1.0 if settings.get("learned_inner_lr") else lr
    chosen = moving.get(settings.get("adapts", "all"), tensors)
    rule = settings.get("inner_optimizer", "sgd")
    if rule == "adam":
        return torch.optim.Adam(chosen, lr=lr)
    return torch.optim.SGD(chosen, lr=lr, momentum=settings["inner_momentum"] if rule == "momentum" else 0.0)


def changing(settings: dict[str, Any], params: dict[str, Tensor], model: nn.Module) -> Callable[[int], None]:
    """What a method does to the gradients of a step: a learned map, learned rates, a pull to where it began."""
    mapped = textbook_map(settings.get("preconditioner"))
    names = [name for name in params if name.startswith("layer")]

    def changed(step: int) -> None:
        tensors = dict(zip(names, model.parameters(), strict=True))
        grads = mapped(params, {name: own.grad for name, own in tensors.items() if own.grad is not None})
        for name, tensor in tensors.items():
            grad, rate = grads[name], params.get(f"inner_lr.{name}")
            if rate is not None:
                grad = grad * (rate if rate.shape == grad.shape else rate[min(step, len(rate) - 1)])
            tensor.grad = grad + settings.get("proximal_strength", 0.0) * (tensor.detach() - params[name])

    return changed


def in_context(settings: dict[str, Any], params: dict[str, Tensor], x: Tensor, y: Tensor, steps: int) -> nn.Sequential:
    """The network with the context that has adapted in its first bias, where it is the same."""
    weight = params.pop("context.weight")
    phi = torch.zeros(weight.shape[1], requires_grad=True)
    model = network(params)
    first, rest = model[0], model[1:]
    assert isinstance(first, nn.Linear)
    for _ in range(steps):
        (grad,) = torch.autograd.grad(nn.functional.mse_loss(rest(first(x) + weight @ phi), y), phi)
        phi = (phi - settings["inner_lr"] * grad).detach().requires_grad_()
    first.bias.data += (weight @ phi).detach()
    return model


def column(values: NDArray[np.float64]) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float32).reshape(len(values), -1)


def by_hand(config: mamlcli.Config, params: dict[str, Tensor], steps: int) -> NDArray[np.float32]:
    """What one seed predicts at X_NEW, written out for each method."""
    x, y, x_new = column(X), column(Y), column(X_NEW)
    settings = config.algorithm.model_dump()
    lr = settings["inner_lr"]
    if settings["name"] == "chain":
        teacher = network(params, "teacher.")
        for _ in range(steps):
            errors = (teacher(x) - y).square().mean(dim=1)
            grads = torch.autograd.grad((params["slot_weights"] * errors).mean(), list(teacher.parameters()))
            for parameter, grad in zip(teacher.parameters(), grads, strict=True):
                parameter.data -= lr * grad
        # 13 inputs are asked for and 4 wanted without a target: evenly, both ends among them.
        unlabelled = x_new[[0, 4, 8, 12]]
        student = network(params, "student.")
        model = descended(student, unlabelled, teacher(unlabelled).detach(), sgd(student, lr), steps)
    elif "context_size" in settings:
        model = in_context(settings, params, x, y, steps)
    else:
        if "models" in settings:
            params = {name: value.mean(dim=0) for name, value in params.items()}
        begun = network(params)
        optimizer = turned(settings, list(begun.parameters()))
        model = descended(begun, x, y, optimizer, steps, changing(settings, params, begun))
    said: NDArray[np.float32] = model(x_new)[:, 0].detach().numpy()
    return said


def test_the_methods_of_this_file_are_all_that_are_registered() -> None:
    chosen = {mamlcli.parse_config(COMMON + text).algorithm.name for text in METHODS.values()}
    assert chosen == set(registry.entries("algorithm"))


@pytest.mark.parametrize("method", METHODS)
def test_every_seed_predicts_as_a_loop_written_out_for_its_method(method: str, tmp_path: Path) -> None:
    config = mamlcli.parse_config(COMMON + SMOOTH + METHODS[method])
    params = checkpoint_of(mamlcli.train(config, out=tmp_path / "run").run)
    predict = mamlcli.load(tmp_path / "run").adapt(X, Y, steps=3)
    said = predict.per_seed(X_NEW)
    for seed in range(2):
        one = {name: value[seed] for name, value in params.items()}
        np.testing.assert_allclose(said[seed], by_hand(config, one, 3), rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(predict(X_NEW), said.mean(axis=0))
    np.testing.assert_allclose(predict.spread(X_NEW), abs(said[0] - said[1]) / math.sqrt(2))


def test_units_of_the_user_go_in_and_come_out(ocean_run: Path) -> None:
    model = mamlcli.load(ocean_run)
    assert model.columns == COLUMNS
    rng = np.random.default_rng(1)
    x, x_new = (rng.uniform(-2, 2, (count, 2)) * (50.0, 0.1) + (2000.0, -1.0) for count in (7, 4))
    y = rng.uniform(-2, 2, (7, 2)) * (20.0, 1e-3) + (300.0, 0.0)
    said = model.adapt(x, y, steps=4).per_seed(x_new)
    assert said.shape == (2, 4, 2)
    for seed in range(2):
        one = {name: value[seed] for name, value in checkpoint_of(ocean_run).items()}
        small, small_y, small_new = (
            column((values - mean) / scale)
            for values, mean, scale in (
                (x, (2000.0, -1.0), (50.0, 0.1)),
                (y, (300.0, 0.0), (20.0, 1e-3)),
                (x_new, (2000.0, -1.0), (50.0, 0.1)),
            )
        )
        begun = network(one)
        adapted = descended(begun, small, small_y, sgd(begun, 0.05), 4)(small_new).detach().double().numpy()
        np.testing.assert_allclose(said[seed], adapted * (20.0, 1e-3) + (300.0, 0.0), rtol=1e-4, atol=1e-8)


def test_the_data_of_a_run_need_not_be_at_hand(ocean_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: OceanTasks) -> TaskFamily:
        raise FileNotFoundError

    monkeypatch.setitem(registry._ENTRIES["tasks"], "ocean", registry.Entry(OceanTasks, gone, recalled_ocean))
    assert mamlcli.load(ocean_run).columns == COLUMNS


def test_what_is_given_is_what_comes_back(sinusoids: Path) -> None:
    model = mamlcli.load(sinusoids)
    x, y, x_new = X[:5], Y[:5], X_NEW[:4]
    plain = model.adapt(x, y)
    expected = plain(x_new)
    assert isinstance(expected, np.ndarray)
    assert (expected.shape, expected.dtype) == ((4,), np.float64)
    assert plain.per_seed(x_new).shape == (3, 4)
    assert plain.spread(x_new).shape == (4,)
    tall = model.adapt(x[:, None], y[:, None])
    assert (tall(x_new[:, None]).shape, tall(x_new).shape) == ((4, 1), (4, 1))
    assert tall.per_seed(x_new).shape == (3, 4, 1)
    np.testing.assert_array_equal(tall(x_new)[:, 0], expected)
    np.testing.assert_array_equal(model.adapt(x.tolist(), y.tolist())(x_new.tolist()), expected)
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        said = plain(torch.tensor(x_new, dtype=dtype))
        assert isinstance(said, Tensor)
        assert (said.dtype, said.requires_grad) == (dtype, False)
    assert plain(x_new.astype(np.float16)).dtype == np.float16
    assert plain(torch.tensor([1, 2])).dtype == torch.float64
    needs = torch.tensor(x, requires_grad=True)
    np.testing.assert_array_equal(model.adapt(needs, torch.tensor(y))(x_new), expected)


def test_what_an_oracle_is_told_are_inputs_too(tmp_path: Path) -> None:
    config = mamlcli.parse_config(COMMON + "tasks: {oracle_inputs: true}")
    model = mamlcli.load(mamlcli.train(config, out=tmp_path / "run").run)
    count = len(model.columns.inputs)
    assert model.columns.inputs == ("x1", "x2", "x3", "x4")[:count]
    assert count > 1
    assert model.adapt(np.ones((10, count)), Y)(np.ones((3, count))).shape == (3,)


def test_steps_are_those_of_meta_training_where_none_are_named(tmp_path: Path, sinusoids: Path) -> None:
    model = mamlcli.load(sinusoids)
    x, y = X[:5], Y[:5]
    assert model.default_steps == 1
    np.testing.assert_array_equal(model.adapt(x, y)(X_NEW), model.adapt(x, y, steps=np.int64(1))(X_NEW))
    begun = model.adapt(x, y, steps=0).per_seed(X_NEW)
    one = {name: value[1] for name, value in checkpoint_of(sinusoids).items()}
    np.testing.assert_allclose(begun[1], network(one)(column(X_NEW))[:, 0].detach(), rtol=1e-5, atol=1e-6)
    joint = mamlcli.parse_config(COMMON + "algorithm: {name: joint}")
    # Where nothing adapts in training, as many as a meta-test measures.
    assert mamlcli.load(mamlcli.train(joint, out=tmp_path / "joint").run).default_steps == 2


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X, Y[:9], "x and y must have as many rows, got 10 and 9"),
        (X.reshape(5, 2), Y[:5], r"x must be of shape \(rows,\) or \(rows, 1\), a column for 'x'; got \(5, 2\)"),
        (1.0, Y, r"x must be of shape .*; got \(\)"),
        ([], [], "x holds no rows"),
        (np.where(np.arange(10) == 3, np.nan, X), Y, "x must be finite; row 3, 'x' is nan"),
        (X, np.where(np.arange(10) == 4, np.inf, Y), "y must be finite; row 4, 'y' is inf"),
        ([1.0, [2.0]], [1.0, 2.0], "x must be an array of real numbers, got list"),
        (["a"], [1.0], "x must be an array of real numbers"),
        (X * 1j, Y, "x must be an array of real numbers"),
        (torch.ones(3, dtype=torch.bool), Y[:3], "x must be an array of real numbers, got a tensor of torch.bool"),
        (X * 1e300, Y, "an input is too large for float32"),
    ],
)
def test_arrays_that_cannot_be_adapted_to_are_refused(sinusoids: Path, x: Any, y: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        mamlcli.load(sinusoids).adapt(x, y)


@pytest.mark.parametrize("steps", [-1, 1.5, True, "3"])
def test_steps_are_a_whole_number(sinusoids: Path, steps: Any) -> None:
    with pytest.raises(UsageError, match="steps must be a whole number from 0 on"):
        mamlcli.load(sinusoids).adapt(X, Y, steps=steps)


def test_inputs_to_predict_are_checked_too(sinusoids: Path) -> None:
    predict = mamlcli.load(sinusoids).adapt(X, Y)
    for x_new, message in (([], "x_new holds no rows"), ([[1.0, 2.0]], "x_new must be of shape"), ([np.nan], "finite")):
        with pytest.raises(UsageError, match=message):
            predict(x_new)


def test_predictions_that_are_not_finite_are_an_error_that_names_the_seeds(sinusoids: Path) -> None:
    predict = mamlcli.load(sinusoids, overrides=["algorithm.inner_lr=1e20"]).adapt(X, Y, steps=40)
    with pytest.raises(UsageError, match="predictions of seed 0, 4, 2 are not finite after 40 inner steps; pass a"):
        predict(X_NEW)


def test_what_does_not_fit_into_the_type_that_was_given_is_an_error(ocean_run: Path) -> None:
    x = np.array([[2000.0, -1.0]])
    predict = mamlcli.load(ocean_run).adapt(x, np.array([[1e9, 0.0]]), steps=0)
    assert predict(x.astype(np.float16)).dtype == np.float16
    far = mamlcli.load(ocean_run).adapt(x, np.array([[1e9, 0.0]]), steps=2)
    with pytest.raises(UsageError, match="predictions do not fit into float16; pass x_new as float64"):
        far(x.astype(np.float16))


def test_the_spread_of_one_seed_is_not_known(tmp_path: Path) -> None:
    config = mamlcli.parse_config(COMMON, overrides=["seeds=[3]"])
    predict = mamlcli.load(mamlcli.train(config, out=tmp_path / "run").run).adapt(X, Y)
    assert predict(X_NEW).shape == (13,)
    with pytest.raises(UsageError, match="the spread over seeds needs several"):
        predict.spread(X_NEW)


def test_a_chain_adapts_to_as_many_samples_as_it_was_trained_with(tmp_path: Path) -> None:
    config = mamlcli.parse_config(COMMON + TABLE["chain"])
    model = mamlcli.load(mamlcli.train(config, out=tmp_path / "run").run)
    with pytest.raises(UsageError, match="adapts to as many support samples of a task as it was trained with, 10; got"):
        model.adapt(X[:9], Y[:9])
    # It wants four inputs without a target: fewer that are asked for are taken again and again.
    assert np.isfinite(model.adapt(X, Y)(X_NEW[:3])).all()


def test_what_says_nothing_of_own_tasks_is_refused(sinusoids: Path) -> None:
    assert mamlcli.load(sinusoids, overrides=["algorithm.inner_lr=0.02", "device=cpu"]).seeds == (0, 4, 2)
    for override in ("evaluation.tasks=9", "tasks.x=[0.0, 1.0]"):
        with pytest.raises(UsageError, match="a prediction is about tasks of your own"):
            mamlcli.load(sinusoids, overrides=[override])
    with pytest.raises(UsageError, match="cannot change what was trained"):
        mamlcli.load(sinusoids, overrides=["outer.lr=1.0"])
    with pytest.raises(ConfigError, match="override device=tpu"):
        mamlcli.load(sinusoids, overrides=["device=tpu"])


def test_a_checkpoint_file_is_loaded_like_its_run_and_nothing_else_is(sinusoids: Path, tmp_path: Path) -> None:
    by_file = mamlcli.load(sinusoids / "checkpoints" / "step-8.pt")
    np.testing.assert_array_equal(by_file.adapt(X, Y)(X_NEW), mamlcli.load(sinusoids).adapt(X, Y)(X_NEW))
    with pytest.raises(CheckpointError):
        mamlcli.load(tmp_path)
    assert by_file.checkpoint.params == {}


def test_the_api_prints_nothing_and_shows_itself_in_a_line(
    sinusoids: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sinusoids.parent)
    model = mamlcli.load("run")
    predict = model.adapt(X, Y)
    predict(X_NEW)
    assert repr(model) == "TrainedModel(second-order MAML, run/checkpoints/step-8.pt, seeds [0, 4, 2])"
    assert repr(predict) == f"Predictor({model!r}, K = 10, 1 steps)"
    assert capfd.readouterr() == ("", "")


# The command.


@pytest.fixture
def files(sinusoids: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with `run`, and tasks b (5 samples) and a (3): rows of both mixed in the query file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").symlink_to(sinusoids)
    rows = [f"{name},{x},{y},left alone" for name, x, y in zip("bababbab"[:8], X[:8], Y[:8], strict=True)]
    (tmp_path / "s.csv").write_text("\n".join(["task,x,y,note", *rows]) + "\n")
    rows = [f"{x},{name}" for name, x in zip("aabba", X_NEW[:5], strict=True)]
    (tmp_path / "q.csv").write_text("\n".join(["x,task", *rows]) + "\n")
    return tmp_path


FILES = ("run", "--support", "s.csv", "--query", "q.csv")


def expected_of_files() -> NDArray[np.float64]:
    """(rows of q.csv, seeds), by the Python interface."""
    said = np.empty((5, 3))
    for name in "ab":
        own = np.array([letter == name for letter in "bababbab"])
        asked = np.array([letter == name for letter in "aabba"])
        said[asked] = mamlcli.load("run").adapt(X[:8][own], Y[:8][own], steps=2).per_seed(X_NEW[:5][asked]).T
    return said


def test_the_table_has_the_rows_of_the_query_file_in_their_order(maml: Maml, files: Path) -> None:
    outcome = maml("predict", *FILES, "--steps", "2", "--out", "p.csv")
    assert (outcome.code, outcome.err) == (0, "")
    assert "predictions  p.csv" in outcome.out
    with (files / "p.csv").open() as file:
        table = list(csv.reader(file))
    assert table[0] == ["task", "x", "y", "y_sd", "y_seed0", "y_seed4", "y_seed2"]
    assert [row[0] for row in table[1:]] == list("aabba")
    numbers, expected = np.array([row[1:] for row in table[1:]], dtype=np.float64), expected_of_files()
    np.testing.assert_array_equal(numbers[:, 0], X_NEW[:5])
    np.testing.assert_allclose(numbers[:, 1], expected.mean(axis=1))
    np.testing.assert_allclose(numbers[:, 2], expected.std(axis=1, ddof=1))
    np.testing.assert_allclose(numbers[:, 3:], expected, rtol=1e-6)


def test_json_has_all_rows_and_what_they_come_from(maml: Maml, files: Path) -> None:
    outcome = maml("predict", *FILES, "--steps", "2", "--json")
    result = PredictResult.model_validate_json(outcome.out)
    assert result.predictions is not None
    seeds = [row["targets"]["y"]["per_seed"] for row in result.predictions]
    np.testing.assert_allclose(seeds, expected_of_files(), rtol=1e-6)
    assert (result.predictions[0]["task"], result.predictions[0]["inputs"]) == ("a", {"x": X_NEW[0]})
    assert (result.tasks, result.inner_steps, result.outer_steps, result.out, result.figure) == (2, 2, 8, None, None)
    assert (result.support["rows"], result.query["rows"]) == (8, 5)
    by_file = json.loads(maml("predict", *FILES, "--json", "--out", files / "p.csv").out)
    assert by_file["predictions"] is None
    assert maml("predict", *FILES, "--steps", "2", "--json").out == outcome.out


def test_a_person_sees_the_first_rows_in_80_columns(maml: Maml, files: Path) -> None:
    names = ["a" * 60 if row % 2 else "b" for row in range(30)]
    (files / "s.csv").write_text("task,x,y\n" + f"{'a' * 60},0,1\nb,0,1\n")
    (files / "q.csv").write_text("task,x\n" + "".join(f"{name},{row}\n" for row, name in enumerate(names)))
    outcome = maml("predict", *FILES)
    lines = outcome.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "30 predictions for 2 tasks: 3 seeds, 1 inner step; checkpoint at step 8"
    assert lines[2].split()[:4] == ["task", "x", "y", "y_sd"]
    assert len(lines) == 2 + 2 + 20 + 1
    assert lines[-1].startswith("and 10 more rows")


def test_files_without_a_column_for_the_task_hold_one(maml: Maml, files: Path) -> None:
    (files / "s.csv").write_text("x;y\n" + "".join(f"{x};{y}\n" for x, y in zip(X, Y, strict=True)))
    (files / "q.csv").write_text("x\n0.5\n1.5\n")
    outcome = maml("predict", *FILES, "--delimiter", ";", "--json")
    rows = PredictResult.model_validate_json(outcome.out).predictions
    assert rows is not None
    assert [row["task"] for row in rows] == ["", ""]
    expected = mamlcli.load("run").adapt(X, Y)([0.5, 1.5])
    np.testing.assert_allclose([row["targets"]["y"]["mean"] for row in rows], expected)
    assert "task" not in maml("predict", *FILES, "--delimiter", ";").out.splitlines()[2]


def test_two_inputs_and_two_targets_are_columns_by_their_names(maml: Maml, files: Path, ocean_run: Path) -> None:
    (files / "s.csv").write_text("site,salt,kelvin,year,depth\natlantic,0.001,290,1990,-1.1\nbaltic,0,280,2010,-0.9\n")
    (files / "q.csv").write_text("year,site,depth\n2000,atlantic,-1\n2005,baltic,-1\n2001,atlantic,-1.05\n")
    outcome = maml("predict", ocean_run, *FILES[1:], "--out", "p.csv", "--plot", "fit.png")
    assert outcome.code == 0
    with (files / "p.csv").open() as file:
        table = list(csv.DictReader(file))
    parts = [part + end for part in ("kelvin", "salt") for end in ("", "_sd", "_seed0", "_seed4")]
    assert list(table[0]) == ["site", "year", "depth", *parts]
    predict = mamlcli.load(ocean_run).adapt([[1990, -1.1]], [[290, 0.001]])
    expected = predict([[2000, -1.0], [2001, -1.05]])
    found = [[float(row["kelvin"]), float(row["salt"])] for row in table if row["site"] == "atlantic"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert "no figure: a curve is drawn against one input, and these tasks have year, depth" in outcome.err
    assert "the run was trained on task 'atlantic'" in outcome.err
    assert not (files / "fit.png").exists()


def test_one_seed_has_no_spread(maml: Maml, files: Path) -> None:
    config = mamlcli.parse_config(COMMON, overrides=["seeds=[3]"])
    run = mamlcli.train(config, out=files / "one").run
    assert maml("predict", run, *FILES[1:], "--out", "p.csv").code == 0
    with (files / "p.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert all(row["y_sd"] == "" and row["y"] == row["y_seed3"] for row in rows)
    outcome = maml("predict", run, *FILES[1:])
    assert outcome.out.splitlines()[2].split() == ["task", "x", "y"]
    printed = json.loads(maml("predict", run, *FILES[1:], "--json").out)
    assert printed["predictions"][0]["targets"]["y"]["sd"] is None


@pytest.mark.parametrize(
    ("support", "query", "message"),
    [
        ("task,x\na,1\n", None, "s.csv"),
        ("task,x,y\n", None, "s.csv"),
        ("", None, "s.csv"),
        (None, "task,z\na,1\n", "q.csv"),
        (None, "task,x\n", "q.csv"),
        (None, "task,x\na,one\n", "q.csv:2:2"),
        (None, "task,x\na,nan\n", "q.csv:2:2"),
        (None, "task,x\na,1\nc,1\nd,1\n", "q.csv:3: s.csv has no samples to adapt to of tasks 'c', 'd'"),
        (None, "x\n1\n", "q.csv: it has no column 'task', and s.csv has"),
        ("x,y\n1,2\n", None, "s.csv: it has no column 'task', and q.csv has"),
    ],
)
def test_tables_that_cannot_be_used_are_refused_with_their_place(
    maml: Maml, files: Path, support: str | None, query: str | None, message: str
) -> None:
    for name, text in (("s.csv", support), ("q.csv", query)):
        if text is not None:
            (files / name).write_text(text)
    outcome = maml("predict", *FILES, "--out", "p.csv")
    assert outcome.code == 2
    assert message in outcome.err
    assert not (files / "p.csv").exists()


def test_another_number_of_samples_is_refused_before_anything_is_computed(maml: Maml, files: Path) -> None:
    config = mamlcli.parse_config(COMMON + TABLE["chain"])
    run = mamlcli.train(config, out=files / "chain").run
    outcome = maml("predict", run, *FILES[1:])
    assert outcome.code == 2
    assert "task 'a': a second-order chain adapts to as many support samples of a task" in outcome.err


def test_a_task_that_nothing_is_asked_of_is_noted(maml: Maml, files: Path) -> None:
    (files / "q.csv").write_text("task,x\nb,1\n")
    outcome = maml("predict", *FILES)
    assert (outcome.code, outcome.err) == (0, "q.csv asks nothing of task 'a'\n")


def test_a_diverged_task_is_named_with_what_to_do(maml: Maml, files: Path) -> None:  # noqa: ARG001
    outcome = maml("predict", *FILES, "--steps", "40", "--set", "algorithm.inner_lr=1e20")
    assert outcome.code == 2
    said = "maml: task 'a': predictions of seed 0, 4, 2 are not finite after 40 inner steps; use fewer: --steps N\n"
    assert outcome.err == said


def test_nothing_is_replaced_unasked_and_nothing_that_is_read(maml: Maml, files: Path) -> None:
    (files / "p.csv").write_text("mine")
    (files / "fit.svg").write_text("mine")
    for option, name in (("--out", "p.csv"), ("--plot", "fit.svg")):
        outcome = maml("predict", *FILES, option, name)
        assert (outcome.code, outcome.err) == (3, f"maml: {name} exists already; use --overwrite to replace it\n")
    with pytest.raises(RunFolderError, match="pass overwrite=True to replace it"):
        mamlcli.predict("run", support="s.csv", query="q.csv", out="p.csv")
    assert maml("predict", *FILES, "--out", "p.csv", "--plot", "fit.svg", "--overwrite").code == 0
    assert (files / "p.csv").read_text().startswith("task,x,y,y_sd")
    assert "<svg" in (files / "fit.svg").read_text()
    for options, code, message in (
        (("--out", "q.csv", "--overwrite"), 2, "q.csv is read: name another file"),
        (("--out", "nowhere/p.csv"), 3, "there is no folder nowhere"),
        (("--out", "run", "--overwrite"), 3, "run is no file"),
        (("--plot", "fit.jpg"), 2, "fit.jpg: a figure's name ends with .png, .svg, .pdf"),
        (("--plot", "a.png", "--out", "./a.png"), 2, "is to hold both"),
    ):
        outcome = maml("predict", *FILES, *options)
        assert outcome.code == code, outcome.err
        assert message in outcome.err


def test_a_signal_ends_it_before_anything_is_written(files: Path) -> None:
    class Interrupts(Listener):
        def note(self, message: str) -> None:
            super().note(message)
            os.kill(os.getpid(), signal.SIGTERM)

    (files / "q.csv").write_text("task,x\nb,1\n")  # so that there is something to note
    with pytest.raises(InterruptedRunError, match="before anything was written") as error:
        mamlcli.predict(
            "run", support="s.csv", query="q.csv", out="p.csv", reporter=Interrupts(), stop=StopRequest(SIGNALS)
        )
    assert error.value.exit_code == 143
    assert not (files / "p.csv").exists()


def test_many_rows_go_into_a_file_and_are_computed_in_parts(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = mamlcli.predict("run", support="s.csv", query="q.csv").predictions
    assert whole is not None
    monkeypatch.setattr("mamlcli.commands.predict._MOST_ROWS", 4)
    monkeypatch.setattr("mamlcli.trained.adapting._NUMBERS_AT_A_TIME", 1)  # a row at a time
    monkeypatch.setattr("mamlcli.trained.tables._ROWS_AT_A_TIME", 2)
    with pytest.raises(UsageError, match=r"q\.csv: 5 rows are predicted into a file; name it with out="):
        mamlcli.predict("run", support="s.csv", query="q.csv")
    mamlcli.predict("run", support="s.csv", query="q.csv", out="p.csv")
    with (files / "p.csv").open() as file:
        means = [float(row["y"]) for row in csv.DictReader(file)]
    np.testing.assert_allclose(means, [row["targets"]["y"]["mean"] for row in whole], rtol=1e-5)


def test_a_seed_that_diverged_in_training_is_named(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    model = mamlcli.load("run")
    frozen = dataclasses.replace(model, checkpoint=model.checkpoint._replace(updates=[8, 3, 8]))
    monkeypatch.setattr("mamlcli.commands.predict.load", lambda *_, **__: frozen)
    said = ["warning: seed 4 diverged in training at step 4, and predicts with what it kept"]
    assert mamlcli.predict("run", support="s.csv", query="q.csv").notes == said


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_a_figure_is_drawn_in_the_kind_that_its_name_says(files: Path, suffix: str) -> None:
    for name in ("one", "two"):
        result = mamlcli.predict("run", support="s.csv", query="q.csv", plot=f"{name}.{suffix}")
        assert result.figure == Path(f"{name}.{suffix}")
    begins = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix]
    assert (files / f"one.{suffix}").read_bytes().startswith(begins)


def lines_of(tasks: list[str], targets: list[str]) -> list[dict[str, Any]]:
    return [
        {"target": target, "task": task, "curve": curve, "x": x, "mean": x + shift, "low": x - 1, "high": x + 2}
        for target in targets
        for task in tasks
        for shift, curve in enumerate(("before adaptation", "after 2 inner steps"))
        for x in (0.0, 1.0)
    ]


@pytest.mark.parametrize(("tasks", "targets"), [(1, 1), (4, 1), (5, 1), (9, 1), (4, 2), (1, 3)])
def test_a_figure_has_a_panel_for_each_task_and_target(tasks: int, targets: int) -> None:
    names, what = [f"t{index}" for index in range(tasks)], [f"y{index}" for index in range(targets)]
    points = [{"target": target, "task": "t0", "x": 0.5, "y": 0.25} for target in what]
    rows = [*lines_of(names, what), *points]
    figure = predictions_figure(rows, title="t", x_label="age", task_label="child", seeds=(0, 1))
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert len(panels) == tasks * targets
    assert [axes.get_title() for axes in panels[:tasks]] == [f"child t{index}" for index in range(tasks)]
    before, after, support = panels[0].lines
    assert (before.get_label(), np.asarray(before.get_ydata()).tolist()) == ("before adaptation", [0.0, 1.0])
    assert (after.get_label(), np.asarray(after.get_ydata()).tolist()) == ("after 2 inner steps", [1.0, 2.0])
    assert np.asarray(support.get_xydata())[0].tolist() == [0.5, 0.25]
    assert {axes.get_ylabel() for axes in panels} - {""} == set(what)
    assert panels[-1].get_xlabel() == "age"
    legend = figure.legends[0]
    said = [text.get_text() for text in legend.get_texts()]
    assert said == ["before adaptation", "after 2 inner steps", "support samples", "shaded: range of the 2 seeds"]
    assert legend.get_title().get_text() == "lines: mean of 2 seeds"


def test_the_figure_of_one_seed_shades_nothing() -> None:
    figure = predictions_figure(lines_of(["a"], ["y"]), title="t", x_label="x", task_label="task", seeds=(7,))
    assert not figure.axes[0].collections
    assert figure.legends[0].get_title().get_text() == "lines: seed 7"
