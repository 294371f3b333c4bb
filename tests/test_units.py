"""Results in the unit of each target, beside baselines: what `mamlcli.evaluate` says of tasks that have names."""

import csv
import json
import os
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

import mamlcli
from mamlcli import Config, parse_config
from mamlcli.baselines.network import PooledNetwork, train_pooled
from mamlcli.cli.reports import eval_report
from mamlcli.errors import InterruptedRunError
from mamlcli.experiment import Experiment, make_experiment
from mamlcli.interrupts import SIGNALS, StopRequest
from mamlcli.meta_test.described import describe
from mamlcli.meta_test.units import Errors, World, summarise_verdicts, unit_rows, worst_rows
from mamlcli.ranks import Ranks
from mamlcli.reporting import Silent
from mamlcli.results import EvalResult
from mamlcli.rows import UnitRow
from mamlcli.runs.checkpoints import load_checkpoint
from mamlcli.threads import Threads
from tests import finite_worlds
from tests.test_runs import Listener

METHOD = "second-order MAML"


@pytest.fixture(autouse=True)
def _worlds(monkeypatch: pytest.MonkeyPatch) -> None:
    finite_worlds.register(monkeypatch)


def evaluated(folder: Path, *overrides: str) -> tuple[EvalResult, Config]:
    config = parse_config(finite_worlds.CONFIG, overrides=overrides)
    return mamlcli.evaluate(mamlcli.train(config, out=folder / "run").run), config


def rows_of(result: EvalResult, who: str, shots: int = 5, steps: int | None = None, target: str = "yield") -> UnitRow:
    assert result.units is not None
    wanted = (who, shots, steps, target)
    (row,) = [row for row in result.units if (row["who"], row["shots"], row["inner_steps"], row["target"]) == wanted]
    return row


def own_errors(
    config: Config, params: dict[str, torch.Tensor], place: int, tasks: range, shots: int, steps: int
) -> NDArray[np.float64]:
    """Squared errors (tasks, targets) in the targets' units: torch.nn on a task, without padding."""
    rows = finite_worlds.Rows(config.tasks)  # type: ignore[arg-type]
    means, scales = (np.array(one) for one in finite_worlds.Y_UNITS[rows.y[0].shape[1]])
    found = []
    for task in tasks:
        x, y = (torch.from_numpy(part[task]).float() for part in (rows.x, rows.y))
        network = torch.nn.Sequential(torch.nn.Linear(x.shape[1], 8), torch.nn.ReLU(), torch.nn.Linear(8, y.shape[1]))
        for parameter, value in zip(network.parameters(), params.values(), strict=True):
            parameter.data.copy_(value[place])
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
        for _ in range(steps):
            optimizer.zero_grad()
            there = ~y[:shots].isnan()
            torch.autograd.backward((network(x[:shots]) - y[:shots])[there].square().mean())
            optimizer.step()
        with torch.no_grad():
            said = network(x[shots:]).double().numpy() * scales + means
        found.append(np.nanmean(np.square(said - (y[shots:].double().numpy() * scales + means)), axis=0))
    return np.array(found)


def own_means(config: Config, tasks: range, shots: int) -> NDArray[np.float64]:
    """The same of the mean over all rows of the first 18 tasks."""
    rows = finite_worlds.Rows(config.tasks)  # type: ignore[arg-type]
    scales = np.array(finite_worlds.Y_UNITS[rows.y[0].shape[1]][1])
    mean = np.nanmean(np.concatenate(rows.y[:18]), axis=0)
    return np.array([np.nanmean(np.square((mean - rows.y[task][shots:]) * scales), axis=0) for task in tasks])


def test_errors_are_in_the_unit_of_each_target_over_the_rows_that_are_there(tmp_path: Path) -> None:
    result, config = evaluated(tmp_path, "seeds=[3]", "tasks.num_targets=2", "tasks.num_inputs=2", "tasks.missing=true")
    params = load_checkpoint(tmp_path / "run" / "checkpoints" / "step-30.pt").params
    for shots, steps in ((5, 0), (5, 2), (3, 1)):
        expected = own_errors(config, params, 0, range(24, 30), shots, steps)
        pooled = own_means(config, range(24, 30), shots)
        for index, target in enumerate(("yield", "loss")):
            row = rows_of(result, METHOD, shots, steps, target)
            values = expected[:, index]
            low, high = stats.t.interval(0.95, 5, values.mean(), stats.sem(values))
            assert row["mse"] == pytest.approx(values.mean(), rel=1e-4)
            assert row["ci95"] == pytest.approx((high - low) / 2, rel=1e-3)
            assert row["rmse"] == pytest.approx(np.sqrt(values.mean()), rel=1e-4)
            assert row["rmse_low"] == pytest.approx(np.sqrt(max(low, 0)), rel=1e-3)
            assert row["rmse_high"] == pytest.approx(np.sqrt(high), rel=1e-3)
            assert row["fraction"] == pytest.approx(values.mean() / pooled[:, index].mean(), rel=1e-4)
            assert (row["num_tasks"], row["num_diverged"], row["verdict"]) == (6, 0, None)


def test_baselines_are_compared_task_by_task_with_as_many_inner_steps(tmp_path: Path) -> None:
    result, config = evaluated(tmp_path, "seeds=[3]")
    params = load_checkpoint(tmp_path / "run" / "checkpoints" / "step-30.pt").params
    begun = {name: value[None] for name, value in make_experiment(config).model.init(3).items()}
    tasks, random = range(24, 30), "random initialisation, fine-tuned"
    method = {steps: own_errors(config, params, 0, tasks, 5, steps)[:, 0] for steps in (1, 2)}
    start = {steps: own_errors(config, begun, 0, tasks, 5, steps)[:, 0] for steps in (1, 2)}
    pooled = own_means(config, tasks, 5)[:, 0]
    for row, differences in (
        (rows_of(result, random, steps=1), start[1] - method[1]),
        (rows_of(result, random, steps=2), start[2] - method[2]),
        (rows_of(result, "pooled mean"), pooled - method[2]),
    ):
        low, high = stats.t.interval(0.95, 5, differences.mean(), stats.sem(differences))
        assert row["difference"] == pytest.approx(differences.mean(), rel=1e-3)
        assert row["difference_ci95"] == pytest.approx((high - low) / 2, rel=1e-3)
        assert row["verdict"] == ("better" if low > 0 else "worse" if high < 0 else "not told apart")
    assert rows_of(result, "pooled mean")["fraction"] == 1


def test_every_baseline_has_its_rows_and_they_are_written(tmp_path: Path) -> None:
    result, _ = evaluated(tmp_path)
    assert result.units is not None
    names = ["pooled mean", "task's own mean", "ridge per task", "Gaussian process"]
    expected = [(METHOD, 0), (METHOD, 1), (METHOD, 2), *((name, None) for name in names), ("pooled network", 0)]
    expected += [
        (name, step) for name in ("pooled network, fine-tuned", "random initialisation, fine-tuned") for step in (1, 2)
    ]
    for shots in (3, 5):
        assert [(row["who"], row["inner_steps"]) for row in result.units if row["shots"] == shots] == expected
    with (result.run / "baselines.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [float(row["mse"]) for row in table] == [row["mse"] for row in result.units]
    written = json.loads((result.run / "evaluation.json").read_text())
    assert (written["units"], written["worst"], written["summary"]) == (result.units, result.worst, result.summary)
    assert EvalResult.model_validate(result.as_json(), strict=False).units == result.units


def test_a_method_that_loses_says_so_by_the_name_of_what_is_better(tmp_path: Path) -> None:
    # Lines, and a network that has learned next to nothing.
    result, _ = evaluated(tmp_path, "seeds=[0]", "tasks.num_tasks=100", "evaluation.tasks=20", "outer.lr=1e-6")
    assert result.summary is not None
    worse = result.summary.split("better than")[0].split("not told")[0]
    assert worse.startswith(f"after 2 inner steps {METHOD} is worse than")
    assert "ridge per task" in worse
    assert rows_of(result, "ridge per task")["verdict"] == "worse"
    assert result.summary.split(".")[0] in " ".join(eval_report(result).split())


def world_of(names: int, targets: tuple[str, ...] = ("y",), scales: Any = ((1.0,),)) -> World:
    return World(tuple(f"t{index}" for index in range(names)), targets, np.array(scales), 100.0, "ours", "pooled mean")


def errors_of(shots: int, **of: Any) -> Errors:
    """Errors from (seeds, tasks) of one target, under names with _ for a space; a number ends the name for steps."""
    named: dict[tuple[str, int | None], NDArray[np.float64] | None] = {}
    for name, values in of.items():
        *words, last = name.split("_")
        steps = int(last) if last.isdigit() else None
        who = " ".join(words if steps is not None else [*words, last])
        named[who, steps] = None if values is None else np.array(values, dtype=np.float64)[:, :, None]
    first = next(value for value in named.values() if value is not None)
    return Errors(shots, np.ones(first.shape, dtype=np.bool_), named, {})


def test_a_sentence_names_where_a_baseline_is_better_and_which_are_beaten_everywhere() -> None:
    easy, hard = [[1.0, 1.1, 0.9, 1.0]], [[2.0, 2.2, 1.9, 2.1]]
    unclear = [[0.5, 2.0, 0.4, 1.2]]
    world = world_of(4)
    small = errors_of(5, ours_0=hard, ours_1=hard, pooled_mean=easy, other_mean=[[9, 9, 8, 9]], process=hard)
    large = errors_of(9, ours_0=hard, ours_1=easy, pooled_mean=hard, other_mean=[[9, 9, 8, 9]], process=unclear)
    rows = [row for one in (small, large) for row in unit_rows(world, one)]
    assert summarise_verdicts(world, rows) == (
        "after 1 inner step ours is worse than pooled mean (K = 5); better than other mean; "
        "and not told apart from process"
    )


def test_several_seeds_are_crossed_with_tasks_and_a_baseline_without_a_seed_is_one_sample() -> None:
    rng = np.random.default_rng(0)
    ours, mean = rng.gamma(2.0, size=(3, 8)), rng.gamma(3.0, size=(1, 8))
    world = world_of(8, scales=np.full((3, 1), 2.0))
    method, pooled = unit_rows(world, errors_of(5, ours_0=ours, pooled_mean=mean))
    assert method["mse"] == pytest.approx(4 * ours.mean())
    assert method["fraction"] == pytest.approx(ours.mean() / mean.mean())
    low, high = stats.t.interval(0.95, 7, 4 * mean.mean(), stats.sem(4 * mean[0]))
    assert pooled["ci95"] == pytest.approx((high - low) / 2)
    # The paired difference, from mean squares written out.
    table = 4 * (mean - ours)
    seeds, tasks = table.mean(axis=1), table.mean(axis=0)
    left = table - seeds[:, None] - tasks + table.mean()
    of_seeds, of_tasks, rest = 8 * seeds.var(ddof=1), 3 * tasks.var(ddof=1), np.square(left).sum() / 14
    more = max(of_tasks - rest, 0)
    t_seeds, t_tasks = stats.t.ppf(0.975, 2), stats.t.ppf(0.975, 7)
    quantile = (t_seeds * of_seeds + t_tasks * more) / (of_seeds + more)
    assert pooled["difference_ci95"] == pytest.approx(quantile * np.sqrt((of_seeds + more) / 24))


def test_a_task_that_some_seeds_leave_out_counts_once_with_their_mean() -> None:
    there = np.array([[True, True, False, False], [False, True, True, False]])[:, :, None]
    ours = np.array([[1.0, 2.0, np.nan, np.nan], [7.0, 4.0, 5.0, 9.0]])[:, :, None]
    mean = np.array([[4.0, 4.0, 4.0, 4.0]])[:, :, None]
    world = world_of(4, scales=((1.0,), (2.0,)))
    errors = Errors(5, there, {("ours", 0): ours, ("pooled mean", None): mean}, {})
    method, pooled = unit_rows(world, errors)
    # Task by task: seed 0 alone; both, in units of their own; seed 1 alone; none.
    expected, reference = np.array([1.0, (2 + 4 * 4) / 2, 4 * 5]), np.array([4.0, (4 + 16) / 2, 16.0])
    assert method["mse"] == pytest.approx(expected.mean())
    assert method["num_tasks"] == 3
    assert method["fraction"] == pytest.approx(expected.mean() / reference.mean())
    differences = reference - expected
    low, high = stats.t.interval(0.95, 2, differences.mean(), stats.sem(differences))
    assert (pooled["difference"], pooled["difference_ci95"]) == pytest.approx((differences.mean(), (high - low) / 2))
    assert [row["name"] for row in worst_rows(world, errors, 5)] == ["t2", "t1", "t0"]


def test_folds_test_every_task_once_by_the_seed_that_left_it_out(tmp_path: Path) -> None:
    overrides = ("seeds=[2, 0, 1, 4]", "tasks.folds=3", "evaluation.tasks=30", "tasks.query_shots=3")
    config = parse_config(finite_worlds.CONFIG, overrides=overrides)
    run = mamlcli.train(config, out=tmp_path / "run").run
    params, rows = load_checkpoint(run / "checkpoints" / "step-30.pt").params, finite_worlds.Rows(config.tasks)  # type: ignore[arg-type]
    with StopRequest() as stop, Threads(1, 1, Silent().note) as threads:
        found = describe(make_experiment(config), params, torch.device("cpu"), Ranks(stop), threads, Silent())
    errors, means = np.empty(30), np.empty(30)
    for fold, places in {0: [1], 1: [2, 3], 2: [0]}.items():
        # Each fold has a scale of its own, and learns from what it neither tests nor validates on.
        tasks, scale = range(fold, 30, 3), 1.0 + fold
        of_seeds = [own_errors(config, params, place, tasks, 5, 2)[:, 0] for place in places]
        errors[fold::3] = np.mean(of_seeds, axis=0) * scale**2
        mean = np.concatenate(rows.y[(fold + 2) % 3 :: 3]).mean()
        means[fold::3] = [np.square((mean - rows.y[task][5:]) * 8 * scale).mean() for task in tasks]
    low, high = stats.t.interval(0.95, 29, errors.mean(), stats.sem(errors))
    (row,) = [one for one in found.units if (one["who"], one["shots"], one["inner_steps"]) == (METHOD, 5, 2)]
    assert (row["mse"], row["ci95"]) == pytest.approx((errors.mean(), (high - low) / 2), rel=1e-3)
    assert all(row["num_tasks"] == 30 for row in found.units)
    pooled = {row["who"]: row for row in found.units if row["shots"] == 5}["pooled mean"]
    assert pooled["mse"] == pytest.approx(means.mean(), rel=1e-4)


def test_the_worst_tasks_are_named_with_the_worst_first(tmp_path: Path) -> None:
    result, config = evaluated(tmp_path, "seeds=[3]", "tasks.num_tasks=75", "evaluation.tasks=15")
    params = load_checkpoint(tmp_path / "run" / "checkpoints" / "step-30.pt").params
    errors = own_errors(config, params, 0, range(60, 75), 5, 2)[:, 0]
    assert result.worst is not None
    order = np.argsort(-errors)[:10]
    assert [row["name"] for row in result.worst] == [f"task {60 + task:03d}" for task in order]
    assert [row["rmse"] for row in result.worst] == pytest.approx(np.sqrt(errors[order]), rel=1e-4)
    with (result.run / "worst-tasks.csv").open() as file:
        assert [row["name"] for row in csv.DictReader(file)] == [row["name"] for row in result.worst]


def test_the_worst_tasks_of_a_target_are_in_the_order_of_their_errors_where_each_seed_has_a_scale_of_its_own() -> None:
    there = np.array([[True, False], [False, True]])[:, :, None]
    ours, mean = np.array([[5.0, np.nan], [np.nan, 4.0]])[:, :, None], np.full((1, 2, 1), 9.0)
    errors = Errors(5, there, {("ours", 0): ours, ("pooled mean", None): mean}, {})
    worst = worst_rows(world_of(2, scales=((1.0,), (2.0,))), errors, 5)
    # t0 has the larger error in the unit of a model, and the smaller one in that of the target.
    assert [(row["name"], row["rmse"]) for row in worst] == [("t1", 4.0), ("t0", np.sqrt(5.0))]


def test_what_diverged_is_counted_loses_and_is_the_worst() -> None:
    ours = [[1.0, np.inf, 200.0, np.nan]]
    errors = errors_of(5, ours_0=ours, pooled_mean=[[1.0, 1.0, 1.0, 1.0]], none=None)
    method, pooled, none = unit_rows(world_of(4), errors)
    assert (method["mse"], method["fraction"], method["num_diverged"]) == (None, None, 3)
    assert (pooled["verdict"], pooled["difference"]) == ("worse", None)
    assert (none["mse"], none["verdict"]) == (None, None)
    worst = worst_rows(world_of(4), errors, 3)
    assert [(row["name"], row["rmse"]) for row in worst] == [("t1", None), ("t3", None), ("t2", np.sqrt(200.0))]


def test_without_scikit_learn_its_row_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mamlcli.baselines.gaussian_process.find_spec", lambda _: None)
    result, _ = evaluated(tmp_path)
    row = rows_of(result, "Gaussian process")
    assert (row["mse"], row["verdict"], row["note"]) == (None, None, "pip install 'mamlcli[gp]'")
    assert "Gaussian process: pip install 'mamlcli[gp]'" in eval_report(result)


def test_a_method_that_adapts_no_plain_copy_of_the_model_has_its_other_baselines(tmp_path: Path) -> None:
    result, _ = evaluated(tmp_path, "algorithm.name=chain", "evaluation.shots=[5]")
    tuned = rows_of(result, "pooled network, fine-tuned", steps=2)
    assert tuned["mse"] is None
    assert tuned["note"] == "second-order chain adapts no plain copy of the model"
    assert rows_of(result, "pooled network", steps=0)["mse"] is not None
    assert rows_of(result, "random initialisation, fine-tuned", steps=2)["mse"] is not None


def test_a_pooled_network_that_diverged_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wild(experiment: Experiment, *rest: Any) -> PooledNetwork:
        outer = experiment.config.outer.model_copy(update={"lr": 1e30})
        return train_pooled(experiment._replace(config=experiment.config.model_copy(update={"outer": outer})), *rest)

    monkeypatch.setattr("mamlcli.meta_test.described.train_pooled", wild)
    result, _ = evaluated(tmp_path)
    for name, steps in (("pooled network", 0), ("pooled network, fine-tuned", 2)):
        note = rows_of(result, name, steps=steps)["note"]
        assert note is not None
        assert note.startswith("in training seed 0 diverged at step 2, seed 1 diverged at step")
    assert "pooled network: in training seed 0 diverged" in eval_report(result)


class StopAt(Listener):
    """Sends itself a signal when it hears of something."""

    def __init__(self, start: str) -> None:
        super().__init__()
        self.start = start

    def note(self, message: str) -> None:
        super().note(message)
        if message.startswith(self.start):
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("start", ["training the pooled network", "measuring the baselines"])
def test_baselines_can_be_interrupted_and_nothing_is_written(tmp_path: Path, start: str) -> None:
    run = mamlcli.train(parse_config(finite_worlds.CONFIG), out=tmp_path / "run").run
    with pytest.raises(InterruptedRunError, match="nothing was written"):
        mamlcli.evaluate(run, reporter=StopAt(start), stop=StopRequest(SIGNALS))
    assert not (run / "evaluation.json").exists()


def test_other_families_and_initial_parameters_are_evaluated_as_before(tiny: Config, tmp_path: Path) -> None:
    result = mamlcli.evaluate(mamlcli.train(tiny, out=tmp_path / "tiny").run)
    assert not {"units", "worst", "summary"} & result.as_json().keys()
    assert not (result.run / "baselines.csv").exists()
    run = mamlcli.train(parse_config(finite_worlds.CONFIG), out=tmp_path / "run").run
    assert mamlcli.evaluate(run, random_init=True).units is None


def test_the_report_fits_eighty_columns_whatever_the_numbers(tmp_path: Path) -> None:
    result, _ = evaluated(tmp_path, "tasks.num_targets=2", "algorithm.learned_inner_lr=tensor_and_step")
    assert result.units is not None
    short: dict[str, Any] = {"run": Path("run"), "figures": []}
    numbers = ("rmse", "rmse_low", "rmse_high", "fraction")
    wide = [
        row | dict.fromkeys(numbers, 1.23456e-17) | {"target": "a long name of a column " * 3} for row in result.units
    ]
    worst = [row | {"name": "n" * 99, "target": "t" * 99, "rmse": 1.2345e20} for row in result.worst or []]
    huge = result.model_copy(update={"units": wide, "worst": worst, **short})
    for one in (result.model_copy(update=short), huge):
        lines = eval_report(one).split("in the unit of each target")[1].splitlines()
        assert max(map(len, lines)) <= 80
        assert any("fine-tuned" in line and "told apart" in line for line in lines)


def test_many_tables_leave_the_smaller_k_to_the_file(tmp_path: Path) -> None:
    result, _ = evaluated(tmp_path, "tasks.num_targets=2", "evaluation.shots=[1, 2, 3, 4]")
    titles = [line for line in eval_report(result).splitlines() if ", K = " in line and "tasks:" in line]
    assert [title.split(",")[:2] for title in titles] == [["yield", " K = 4"], ["loss", " K = 4"]]
    assert all(one != other for one, other in pairwise(titles))
