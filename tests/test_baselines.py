"""Baselines of tasks of a user's own, each against the same written in another way."""

import warnings
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from mamlcli import parse_config
from mamlcli.baselines.gaussian_process import gaussian_process
from mamlcli.baselines.network import adapted_like, train_pooled
from mamlcli.baselines.predictors import Fit, own_mean, pooled_mean
from mamlcli.baselines.ridge import STRENGTHS, Line, drawn_towards, fit_line, ridge, split_rows
from mamlcli.baselines.rows import packed, training_rows
from mamlcli.errors import InterruptedRunError
from mamlcli.experiment import Experiment, make_experiment
from mamlcli.groups import groups
from mamlcli.reporting import Silent
from mamlcli.tasks.samples import Samples
from tests import finite_worlds

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _worlds(monkeypatch: pytest.MonkeyPatch) -> None:
    finite_worlds.register(monkeypatch)


def nothing() -> None:
    pass


def process() -> Fit:
    fit = gaussian_process(nothing)
    assert fit is not None
    return fit


FITS: dict[str, Callable[[], Fit]] = {
    "pooled mean": lambda: pooled_mean,
    "own mean": lambda: own_mean,
    "ridge": lambda: ridge,
    "process": process,
}


def samples_of(num_tasks: int, rows: int, *, features: int = 1, outputs: int = 1, seed: int = 0) -> Samples:
    """Lines about a common one, with noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num_tasks, rows, features))
    weights = 1 + 0.4 * rng.normal(size=(num_tasks, features, outputs))
    y = x @ weights + 0.3 * rng.normal(size=(num_tasks, 1, outputs)) + 0.2 * rng.normal(size=(num_tasks, rows, outputs))
    return Samples(torch.from_numpy(x), torch.from_numpy(y))


def padded(samples: Samples, more: int) -> Samples:
    """With rows that are not there, whose inputs are far off."""
    x = torch.cat([samples.x, torch.full((len(samples.x), more, samples.x.shape[2]), 1e3).double()], dim=1)
    y = torch.cat([samples.y, torch.full((len(samples.y), more, samples.y.shape[2]), torch.nan).double()], dim=1)
    return Samples(x, y)


def gaps(samples: Samples) -> Samples:
    """With targets missing here and there, and none at all of the first target in the first task."""
    there = torch.from_numpy(np.random.default_rng(5).random(samples.y.shape) > 0.3)
    there[0, :, 0] = False
    return Samples(samples.x, samples.y.where(there, torch.nan))


@pytest.mark.parametrize("name", FITS)
def test_rows_that_are_not_there_change_nothing(name: str) -> None:
    train, support, query = samples_of(12, 9, outputs=2), samples_of(4, 5, outputs=2, seed=1), samples_of(4, 6, seed=2)
    fit = FITS[name]()
    plain = fit(train, 5)(support, query.x)
    assert plain.shape == (1, 4, 6, 2)
    filled = fit(packed(padded(train, 7)), 5)(padded(support, 3), query.x)
    torch.testing.assert_close(filled, plain, rtol=1e-9, atol=1e-9)


def test_rows_are_packed_in_their_order() -> None:
    samples = gaps(samples_of(5, 6, outputs=2))
    found = packed(Samples(samples.x.flip(1), samples.y.flip(1)))
    for task in range(5):
        kept = ~samples.y[task].isnan().all(dim=1)
        count = int(kept.sum())
        assert torch.equal(found.x[task, :count], samples.x[task][kept].flip(0))
        assert bool(found.y[task, count:].isnan().all())


def test_means_are_those_of_the_rows_that_are_there() -> None:
    train, support, query_x = gaps(samples_of(6, 7, outputs=2)), gaps(samples_of(3, 4, outputs=2)), torch.zeros(3, 5, 1)
    pooled = [
        float(np.mean([float(value) for value in train.y[:, :, target].flatten() if not value.isnan()]))
        for target in range(2)
    ]
    said = pooled_mean(train, 4)(support, query_x.double())
    np.testing.assert_allclose(said.numpy(), np.broadcast_to(pooled, (1, 3, 5, 2)), rtol=1e-12)
    own = own_mean(train, 4)(support, query_x.double())
    for task, target in product(range(3), range(2)):
        there = [float(value) for value in support.y[task, :, target] if not value.isnan()]
        expected = np.mean(there) if there else pooled[target]
        np.testing.assert_allclose(own[0, task, :, target].numpy(), expected, rtol=1e-12)
    assert bool(support.y[0, :, 0].isnan().all())


def design(line: Line, x: torch.Tensor) -> NDArray[np.float64]:
    standardised = (x.numpy() - line.mean.numpy()) / line.scale.numpy()
    return np.concatenate([np.ones((len(x), 1)), standardised], axis=1)


@pytest.mark.parametrize("features", [1, 2])
def test_ridge_is_least_squares_with_a_row_for_each_strength(features: int) -> None:
    train = gaps(samples_of(10, 8, features=features, outputs=2))
    support, query = gaps(samples_of(4, 5, features=features, outputs=2, seed=1)), samples_of(4, 6, features=features)
    line, said = fit_line(train, 5), ridge(train, 5)(support, query.x)
    np.testing.assert_allclose(line.mean, train.x.reshape(-1, features)[~train.y.isnan().all(-1).ravel()].mean(dim=0))
    for task, target in product(range(4), range(2)):
        there = ~train.y[:, :, target].isnan()
        rows = np.concatenate([design(line, x[kept]) for x, kept in zip(train.x, there, strict=True)])
        pooled = np.linalg.lstsq(rows, train.y[:, :, target][there].numpy())[0]
        kept, root = ~support.y[task, :, target].isnan(), np.sqrt(line.strengths[target].numpy())
        stacked = np.concatenate([design(line, support.x[task][kept]), np.diag(root)])
        targets = np.concatenate([support.y[task, :, target][kept].numpy(), root * pooled])
        expected = design(line, query.x[task]) @ np.linalg.lstsq(stacked, targets)[0]
        np.testing.assert_allclose(said[0, task, :, target], expected, rtol=1e-7, atol=1e-9)


def test_a_line_drawn_to_the_pooled_one_is_the_best_linear_prediction_of_random_slopes() -> None:
    rng = np.random.default_rng(3)
    terms, y, centre = rng.normal(size=(4, 3)), rng.normal(size=4), rng.normal(size=3)
    variance, spread = 0.3, np.diag([0.7, 0.2, 0.2])
    cov = terms @ spread @ terms.T + variance * np.eye(4)
    expected = centre + spread @ terms.T @ np.linalg.solve(cov, y - terms @ centre)
    gram, moment = torch.from_numpy(terms.T @ terms), torch.from_numpy(terms.T @ y)
    strengths = torch.from_numpy(variance / np.diag(spread))
    found = drawn_towards(torch.from_numpy(centre)[None], gram[None, None], moment[None, None], strengths[None])
    np.testing.assert_allclose(found[0, 0], expected, rtol=1e-10)


def test_the_strengths_are_those_that_predict_left_out_rows_of_meta_train_tasks_best() -> None:
    train = packed(gaps(samples_of(7, 6)))
    line = fit_line(train, 4)
    there = ~train.y[:, :, 0].isnan().numpy()
    best: tuple[float, tuple[float, float]] = (np.inf, (0.0, 0.0))
    for strengths in product(STRENGTHS, STRENGTHS):
        total = 0.0
        for chosen in split_rows(torch.from_numpy(there), 4):
            errors = []
            for task in range(7):
                support, left = chosen[task].numpy(), there[task] & ~chosen[task].numpy()
                assert support.sum() == max(0, min(4, there[task].sum() - 1))
                if not left.any():
                    continue
                others = [other for other in range(7) if other != task]
                rows = np.concatenate([design(line, train.x[other])[there[other]] for other in others])
                values = np.concatenate([train.y[other, :, 0].numpy()[there[other]] for other in others])
                centre, root = np.linalg.lstsq(rows, values)[0], np.sqrt(strengths)
                own, y = design(line, train.x[task]), train.y[task, :, 0].numpy()
                stacked = np.concatenate([own[support], np.diag(root)])
                weights = np.linalg.lstsq(stacked, np.concatenate([y[support], root * centre]))[0]
                errors.append(float(np.square(own[left] @ weights - y[left]).mean()))
            total += float(np.mean(errors))
        best = min(best, (total, strengths))
    assert tuple(line.strengths[0].tolist()) == best[1]


def test_tasks_that_are_all_alike_are_drawn_to_one_line_and_others_are_not() -> None:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(40, 8, 1)))
    noise = torch.from_numpy(rng.normal(size=(40, 8, 1)))
    slopes, levels = (torch.from_numpy(rng.normal(size=(40, 1, 1))) for _ in range(2))
    alike = fit_line(Samples(x, 2 * x + 1 + noise), 4)
    assert alike.strengths.min() >= 10
    unlike = fit_line(Samples(x, 5 * slopes * x + 5 * levels + 0.01 * noise), 4)
    assert unlike.strengths.max() <= 0.1
    levels_alone = fit_line(Samples(x, levels + x + 0.5 * noise), 4)
    assert levels_alone.strengths[0, 0] < 1 < levels_alone.strengths[0, 1]


@pytest.mark.parametrize("rows", [1, 2])
def test_ridge_is_there_with_hardly_any_rows(rows: int) -> None:
    said = ridge(samples_of(1, rows, features=3), 5)(samples_of(2, 1, features=3), samples_of(2, 4, features=3).x)
    assert bool(said.isfinite().all())


@pytest.mark.parametrize("features", [1, 2])
def test_a_gaussian_process_is_that_of_scikit_learn_on_the_rows_that_are_there(features: int) -> None:
    support, query = gaps(samples_of(3, 6, features=features, outputs=2)), samples_of(3, 4, features=features)
    train = samples_of(5, 6, features=features, outputs=2)
    said = process()(train, 6)(support, query.x)
    for task, target in product(range(3), range(2)):
        kept = ~support.y[task, :, target].isnan()
        if not kept.any():
            np.testing.assert_allclose(said[0, task, :, target], float(train.y[:, :, target].mean()))
            continue
        kernel = ConstantKernel(1.0, (1e-3, 1e3)) * RBF([1.0] * features, (1e-2, 1e3)) + WhiteKernel(0.1, (1e-6, 10))
        own = GaussianProcessRegressor(kernel, normalize_y=True, n_restarts_optimizer=1, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            own.fit(support.x[task][kept].numpy(), support.y[task, :, target][kept].numpy())
        np.testing.assert_allclose(said[0, task, :, target], own.predict(query.x[task].numpy()), rtol=1e-6, atol=1e-9)


def test_a_gaussian_process_can_be_stopped_between_tasks() -> None:
    def stop() -> None:
        raise InterruptedRunError(2, "stopped")

    fit = gaussian_process(stop)
    assert fit is not None
    with pytest.raises(InterruptedRunError):
        fit(samples_of(2, 3), 3)(samples_of(2, 3), samples_of(2, 3).x)


def experiment(*overrides: str, validated: bool = True) -> Experiment:
    made = make_experiment(parse_config(finite_worlds.CONFIG, overrides=overrides))
    names = {split: names for split, names in made.family.names.items() if validated or split != "meta-validation"}
    return made._replace(family=made.family._replace(names=names))


def test_the_rows_to_learn_from_are_each_meta_train_tasks_own_once() -> None:
    made = experiment("tasks.missing=true", "tasks.num_targets=2")
    (group,) = groups(made)
    rows, world = training_rows(group), finite_worlds.Rows(made.config.tasks)  # type: ignore[arg-type]
    assert rows.y.shape[0] == 18
    expected = [values[~np.isnan(values)] for values in world.y[:18]]
    found = [values[~values.isnan()].numpy() for values in rows.y]
    np.testing.assert_allclose(np.sort(np.concatenate(found)), np.sort(np.concatenate(expected)), rtol=1e-6)


def textbook(made: Experiment, seed: int) -> list[torch.nn.Sequential]:
    """The networks of one seed after each step: torch.nn and torch.optim, a row at a time weighed as its task says."""
    network = torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    for parameter, value in zip(network.parameters(), made.model.init(seed).values(), strict=True):
        parameter.data.copy_(value)
    optimizer, found = torch.optim.Adam(network.parameters(), lr=made.config.outer.lr), []
    place = made.config.seeds.index(seed)
    for step in range(made.config.outer.steps):
        (support_x, support_y), (query_x, query_y) = made.stream().batch(step).map(lambda part: part[place])
        x, y = torch.cat([support_x, query_x], dim=1), torch.cat([support_y, query_y], dim=1)
        losses = []
        for task in range(len(x)):
            kept = ~y[task, :, 0].isnan()
            losses.append((network(x[task][kept]) - y[task][kept]).square().mean())
        optimizer.zero_grad()
        torch.autograd.backward(torch.stack(losses).mean())
        optimizer.step()
        copy = torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        copy.load_state_dict(network.state_dict())
        found.append(copy)
    return found


def test_the_pooled_network_is_trained_as_the_textbook_says() -> None:
    made = experiment(validated=False)
    found = train_pooled(made, CPU, nothing, Silent())
    assert found.note is None
    for place, seed in enumerate(made.config.seeds):
        for value, expected in zip(found.params.values(), textbook(made, seed)[-1].parameters(), strict=True):
            torch.testing.assert_close(value[place], expected.detach(), rtol=1e-4, atol=1e-5)


def test_the_pooled_network_is_the_logged_one_that_says_the_meta_validation_tasks_best() -> None:
    made = experiment("outer.lr=0.3", "outer.steps=40")
    found, world = train_pooled(made, CPU, nothing, Silent()), finite_worlds.Rows(made.config.tasks)  # type: ignore[arg-type]
    chosen = set()
    for place, seed in enumerate(made.config.seeds):
        walked, losses = textbook(made, seed), {}
        for step in (1, 10, 20, 30, 40):
            with torch.no_grad():
                said = [walked[step - 1](torch.from_numpy(x).float()).numpy() for x in world.x[18:24]]
            losses[step] = np.mean([np.square(a - b).mean() for a, b in zip(said, world.y[18:24], strict=True)])
        best = min(losses, key=lambda step: losses[step])
        chosen.add(best)
        for value, expected in zip(found.params.values(), walked[best - 1].parameters(), strict=True):
            torch.testing.assert_close(value[place], expected.detach(), rtol=1e-3, atol=1e-4)
    assert chosen != {40}


def test_a_pooled_network_that_diverges_is_said_and_stays_finite() -> None:
    found = train_pooled(experiment("outer.lr=1e30", validated=False), CPU, nothing, Silent())
    assert found.note is not None
    assert "in training seed 0 diverged at step" in found.note
    assert all(bool(value.isfinite().all()) for value in found.params.values())


def test_training_the_pooled_network_can_be_stopped() -> None:
    def stop() -> None:
        raise InterruptedRunError(2, "stopped")

    with pytest.raises(InterruptedRunError):
        train_pooled(experiment(), CPU, stop, Silent())


def test_a_network_takes_the_place_of_the_models_weights_alone() -> None:
    begun = {"weight": torch.zeros(1), "inner_lr.weight": torch.ones(1)}
    tuned = adapted_like(begun, {"weight": torch.full((1,), 2.0)})
    assert tuned is not None
    assert {name: value.item() for name, value in tuned.items()} == {"weight": 2.0, "inner_lr.weight": 1.0}
    assert adapted_like({"teacher.weight": torch.zeros(1)}, {"weight": torch.ones(1)}) is None
