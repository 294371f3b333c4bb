"""Mixtures of families: whose tasks they are, what is known of their losses, and the results of each family."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jsonschema import Draft202012Validator
from scipy import stats

import mamlcli
from mamlcli import Config, FunctionTasksSection, TaskFamily, dump_config, parse_config
from mamlcli.config.reference import config_schema
from mamlcli.config.yaml_text import read_yaml
from mamlcli.errors import ConfigError, UsageError
from mamlcli.experiment import make_experiment
from mamlcli.meta_test.kinds import rows_by_kind
from mamlcli.registry import build
from mamlcli.results import EvalResult
from mamlcli.tasks.damped_oscillator import DampedOscillatorTasks
from mamlcli.tasks.family import Request
from mamlcli.tasks.linear import LinearTasks
from mamlcli.tasks.mixture import Member, MixtureTasks, mixture
from mamlcli.tasks.samples import Samples
from mamlcli.tasks.stream import TaskList
from mamlcli.tasks.surface import SurfaceTasks
from tests.conftest import Maml
from tests.test_runs import Listener

THREE = """
name: mixed
seeds: [0, 1]
device: cpu
tasks:
  family: mixture
  noise_std: 0.1
  families:
  - {family: sinusoid, weight: 2}
  - {family: linear, slope: [1, 2]}
  - {family: sinusoid, frequency: [3, 4]}
model: {hidden_sizes: [8]}
outer: {steps: 12, meta_batch_size: 3}
evaluation: {tasks: 9, query_shots: 9, shots: [3, 5], inner_steps: 2}
run: {log_every_steps: 4, checkpoint_every_steps: 5}
"""
TWO_INPUTS = "name: a\ntasks: {family: mixture, inputs: 2, families: [{family: linear}, {family: surface}]}"


def tasks_of(config: Config) -> MixtureTasks:
    assert isinstance(config.tasks, MixtureTasks)
    return config.tasks


def built(section: FunctionTasksSection) -> TaskFamily:
    family: TaskFamily = build("tasks", section)
    return family


def kinds_of(family: TaskFamily, listed: TaskList, first: int, count: int) -> Any:
    assert family.kinds is not None
    return family.kinds.of(listed.numbers(first, count))


@pytest.mark.parametrize("more", [[], ["tasks.pool=50"], ["tasks.corrupted_slots=2"]])
@pytest.mark.parametrize("split", ["meta-train", "meta-test"])
def test_a_task_is_what_its_own_family_draws_at_its_place_to_the_last_bit(more: list[str], split: Any) -> None:
    config = tasks_of(parse_config(THREE, overrides=more))
    family, request = built(config), Request(4, 6, unlabelled_inputs=2)
    listed = TaskList(family, 3, split)
    mixed, kinds = listed.tasks(7, 90, request), kinds_of(family, listed, 7, 90)
    for index, member in enumerate(config.families):
        own = TaskList(built(member.tasks), 3, split).tasks(7, 90, request)
        places = torch.from_numpy(np.flatnonzero(kinds == index))
        assert len(places) > 9
        for one, other in zip((*mixed.support, *mixed.query), (*own.support, *own.query), strict=True):
            torch.testing.assert_close(one[places], other[places], rtol=0, atol=0, equal_nan=True)


def test_a_task_does_not_depend_on_how_many_are_drawn_nor_on_how_many_samples() -> None:
    listed = TaskList(built(tasks_of(parse_config(THREE))), 3, "meta-train")
    whole, part = listed.tasks(0, 40, Request(9, 6)), listed.tasks(13, 5, Request(4, 6))
    assert torch.equal(whole.query.y[13:18], part.query.y)
    assert torch.equal(whole.support.y[13:18, :4], part.support.y)


def test_families_come_as_often_as_they_weigh_and_as_the_same_in_every_order_of_a_pool() -> None:
    config = tasks_of(parse_config(THREE))
    family = built(config)
    kinds = kinds_of(family, TaskList(family, 0, "meta-train"), 0, 40_000)
    assert stats.chisquare(np.bincount(kinds), [20_000, 10_000, 10_000]).pvalue > 1e-3
    assert family.kinds is not None
    assert family.kinds.names == ("sinusoid 1", "linear", "sinusoid 2")
    pool = built(config.model_copy(update={"pool": 9}))
    rounds = kinds_of(pool, TaskList(pool, 0, "meta-train"), 0, 90).reshape(10, 9)
    assert all(Counter(one) == Counter(kinds[:9]) for one in rounds.tolist())
    assert len({tuple(one) for one in rounds.tolist()}) > 1
    fresh = kinds_of(pool, TaskList(pool, 0, "meta-test"), 0, 90)
    assert np.array_equal(fresh, kinds_of(family, TaskList(family, 0, "meta-test"), 0, 90))


@pytest.mark.parametrize("grid", [False, True])
def test_a_family_of_fewer_inputs_sees_others_that_are_always_one(grid: bool) -> None:
    family = built(tasks_of(parse_config(TWO_INPUTS)))
    listed = TaskList(family, 3, "meta-test")
    query, kinds = listed.tasks(0, 400, Request(1, 9, query_grid=grid)).query, kinds_of(family, listed, 0, 400)
    lines, surfaces = (Samples(*(part[torch.from_numpy(kinds == kind)] for part in query)) for kind in (0, 1))
    assert family.num_inputs == 2
    assert family.curves is None
    assert (lines.x[..., 1] == 1).all()
    if grid:
        assert lines.x[0, :, 0].tolist() == pytest.approx(np.linspace(-5, 5, 9).tolist())
        assert surfaces.x[0].tolist() == [[a, b] for a in (-5.0, 0.0, 5.0) for b in (-5.0, 0.0, 5.0)]
    else:
        assert surfaces.x[..., 1].std() == pytest.approx(10 / 12**0.5, rel=0.05)
    # A line is one of x1, and a surface is linear in both squares: nothing is left of a fit to either.
    for samples, powers in ((lines, (lines.x[..., :1], lines.x[..., 1:])), (surfaces, (surfaces.x**2,))):
        features = torch.cat(powers, dim=-1).double()
        y = samples.y.double()
        fitted = torch.linalg.lstsq(features, y).solution
        torch.testing.assert_close(features @ fitted, y, atol=1e-4, rtol=1e-5)


def test_an_oracle_is_told_the_family_of_a_task_and_its_parameters() -> None:
    config = parse_config(
        THREE, overrides=["tasks.oracle_inputs=true", "tasks.noise_std=0", "tasks.families.1.intercept=[3,3]"]
    )
    family = built(tasks_of(config))
    x, y = TaskList(family, 3, "meta-test").tasks(0, 100, Request(2, 5)).query
    # x; a sinusoid, its amplitude and phase; a line, its slope; a sinusoid, its amplitude, phase and frequency.
    assert family.num_inputs == 1 + 3 + 2 + 4
    at, a, amplitude, phase, b, slope, c, other, shift, frequency = x.double().unbind(dim=-1)
    assert ((a + b + c) == 1).all()
    expected = a * amplitude * (at - phase).sin() + b * (slope * at + 3) + c * other * (frequency * at - shift).sin()
    torch.testing.assert_close(y[..., 0].double(), expected, atol=1e-4, rtol=1e-4)
    for chosen, told in ((a, (amplitude, phase)), (b, (slope,)), (c, (other, shift, frequency))):
        assert all((one[chosen == 0] == 0).all() for one in told)


def test_what_is_known_of_one_input_is_what_twenty_thousand_tasks_say() -> None:
    family = built(tasks_of(parse_config(THREE)))
    for grid in (None, 21):
        found = family.bounds(grid)
        y = TaskList(family, 3, "meta-test").tasks(0, 20_000, Request(1, 21, query_grid=grid is not None)).query.y
        zero = y.double().square().mean(dim=(1, 2)).numpy()
        assert abs(zero.mean() - found["zero predictor"]) < 4 * stats.sem(zero)
    single = (y - y.mean(dim=0)).double().square().mean(dim=(1, 2)).numpy()
    assert abs(single.mean() - found["best single function"]) < 4 * stats.sem(single)


@pytest.mark.parametrize("grid", [None, 9, 121])
def test_one_function_tells_families_apart_where_their_inputs_differ_and_only_there(grid: int | None) -> None:
    lines = LinearTasks(slope=(2.0, 2.0), intercept=(1.0, 1.0))
    surfaces = SurfaceTasks(first_square=(1.0, 1.0), second_square=(0.0, 1.0))
    config = MixtureTasks(families=(Member(weight=3.0, tasks=lines), surfaces), inputs=2)  # type: ignore[arg-type]
    found = built(config).bounds(grid)["best single function"]
    # Of lines nothing is left, and of surfaces Var[b] E[x2^4] = 125 / 12 where inputs are uniform.
    if grid is None:
        assert found == pytest.approx(125 / 12 / 4, rel=1e-9)
        return
    side = np.linspace(-5, 5, round(grid**0.5))
    at = {(one, 1.0): [(0.75 / grid, 2 * one + 1, 0.0)] for one in np.linspace(-5, 5, grid).tolist()}
    for one in side.tolist():
        for other in side.tolist():
            said = (0.25 / grid, one**2 + other**2 / 2, other**4 / 12)
            at.setdefault((one, other), []).append(said)
    # At each input the mean of all that meet there, and what is left around it. 11 x 11 nodes have x2 = 1, 3 x 3 none.
    expected = 0.0
    for meeting in at.values():
        mass = sum(weight for weight, _, _ in meeting)
        mean = sum(weight * value for weight, value, _ in meeting) / mass
        expected += sum(weight * ((value - mean) ** 2 + spread) for weight, value, spread in meeting)
    assert (max(map(len, at.values())) > 1) == (grid == 121)
    assert found == pytest.approx(expected, rel=1e-9)


def test_nothing_is_said_of_losses_where_it_is_not_known_of_a_family() -> None:
    config = tasks_of(parse_config(THREE))

    def without(section: FunctionTasksSection) -> TaskFamily:
        family = built(section)
        return family._replace(moments=None) if isinstance(section, LinearTasks) else family

    assert mixture(config, without).bounds(None) == {}
    with pytest.raises(UsageError, match=r"tasks\.families\[0\]: sinusoid has 2 inputs, and the mixture 1"):
        mixture(config, lambda section: built(section)._replace(num_inputs=2))
    with pytest.raises(UsageError, match="as many outputs and the same loss"):
        mixture(config, lambda section: built(section)._replace(num_outputs=1 + isinstance(section, LinearTasks)))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{family: table}", "10:14: tasks.families[2].family: a table has samples of its own, and a mixture is of"),
        ("{family: mixture}", "10:14: tasks.families[2].family: a mixture stands in no other one"),
        ("{weight: 1}", "10:5: tasks.families[2].family: this key is required and missing; add 'family: ...'"),
        ("{family: lineer}", "tasks.families[2].family: there is no family 'lineer'; did you mean 'linear'?"),
        ("linear", "10:5: tasks.families[2]: must be a mapping of keys to values, got the text 'linear'"),
        ("{family: linear, slop: [1, 2]}", "10:22: tasks.families[2].slop: unknown key; did you mean 'tasks.fam"),
        ("{family: linear, wieght: 2}", "unknown key; did you mean 'tasks.families[2].weight'?"),
        ("{family: linear, zzz: 2}", "unknown key; known here: weight, family, slope, intercept"),
        ("{family: linear, phase: [0, 1]}", "tasks.families[2].phase: `phase` is a key of sinusoid, "),
        ("{family: linear, slope: [2, 1]}", "tasks.families[2].slope: must be [low, high] with low <= high"),
        ("{family: linear, weight: 0}", "tasks.families[2].weight: must be greater than 0, got 0"),
        ("{family: linear, noise_std: 0.2}", "say it once, as tasks.noise_std"),
        ("{family: ripple}", "ripple has 2 inputs, and the mixture 1: set tasks.inputs: 2, where families of fewer"),
        ("{family: damped_oscillator}", "damped_oscillator cannot have the x of the mixture: must hold no negative"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_family_is_said_at_its_entry(entry: str, message: str) -> None:
    text = THREE.replace("- {family: sinusoid, frequency: [3, 4]}", f"- {entry}").lstrip()
    with pytest.raises(ConfigError) as caught:
        parse_config(text, source="x.yaml")
    assert message in str(caught.value).replace("x.yaml:", "")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tasks.families.1.slope=[2,1]", "tasks.families[1].slope: must be [low, high]"),
        ("tasks.families[1].slop=[1,2]", "did you mean 'tasks.families[1].slope'?"),
        ("tasks.families.1={family: ripple}", "tasks.families[1].family: ripple has 2 inputs"),
        ("tasks.families.3.slope=[1,2]", "tasks.families holds 3 entries, which are counted from 0"),
        ("tasks.families.slope=[1,2]", "tasks.families holds 3 entries, which are counted from 0"),
        ("tasks.noise_std.3=1", "tasks.noise_std holds a value, not keys"),
        ("tasks.families=[]", "tasks.families: must have at least 1 item"),
    ],
)
def test_a_family_is_set_by_its_number_and_what_is_wrong_names_what_was_set(override: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_config(THREE, overrides=[override])
    assert str(caught.value).startswith(f"override {override}: tasks.")
    assert message in str(caught.value)


def test_a_mixture_reads_back_as_it_was_and_its_keys_are_those_of_every_family() -> None:
    config = parse_config(THREE, overrides=["tasks.families.1.slope=[4,5]", "tasks.noise_std=0.3", "tasks.x=[-1,1]"])
    assert parse_config(dump_config(config)) == config
    for member in tasks_of(config).families:
        assert (member.tasks.noise_std, member.tasks.x) == (0.3, (-1.0, 1.0))
    again = parse_config(dump_config(config), overrides=["tasks.noise_std=0.5", "tasks.families.2.weight=7"])
    assert tasks_of(again).families[0].tasks.noise_std == 0.5
    assert [member.weight for member in tasks_of(again).families] == [2.0, 1.0, 7.0]
    assert isinstance(tasks_of(again).families[1].tasks, LinearTasks)
    times = MixtureTasks(x=(0.0, 9.0), families=(DampedOscillatorTasks(), LinearTasks()))  # type: ignore[arg-type]
    assert {member.tasks.x for member in times.families} == {(0.0, 9.0)}
    with pytest.raises(ValueError, match="must be the section of a family"):
        MixtureTasks(families=({"family": "linear"},))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("entry", "is_right"),
    [
        ("{family: linear}", True),
        ("{family: linear, weight: 2, slope: [0, 1]}", True),
        ("{weight: 2}", False),
        ("{family: linear, phase: [0, 1]}", False),
        ("{family: linear, weight: 0}", False),
        ("{family: mixture, families: [{family: linear}]}", False),
        ("{family: table}", False),
    ],
)
def test_the_schema_of_a_config_knows_what_may_stand_in_a_mixture(entry: str, is_right: bool) -> None:
    text = f"name: a\ntasks: {{family: mixture, families: [{{family: sinusoid}}, {entry}]}}"
    assert (not list(Draft202012Validator(config_schema()).iter_errors(read_yaml(text, "x").data))) == is_right


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> EvalResult:
    """Of a run on three families."""
    path = tmp_path_factory.mktemp("runs") / "run"
    mamlcli.train(parse_config(THREE), out=path)
    return mamlcli.evaluate(path)


@pytest.fixture
def run(result: EvalResult) -> Path:
    return result.run


def test_results_of_each_family_are_those_of_its_tasks_and_add_up_to_those_of_all(result: EvalResult) -> None:
    run = result.run
    assert result.kinds is not None
    written = json.loads((run / "evaluation.json").read_text())
    assert written["kinds"] == json.loads(json.dumps(result.kinds))
    with (run / "kinds.csv").open() as file:
        assert [float(row["mean"]) for row in csv.DictReader(file)] == [row["mean"] for row in result.kinds]
    experiment = make_experiment(parse_config(THREE))
    kinds = kinds_of(experiment.family, TaskList(experiment.family, 0, "meta-test"), 0, 9)
    counts = {row["kind"]: row["num_tasks"] for row in result.kinds}
    assert counts == dict(zip(("sinusoid 1", "linear", "sinusoid 2"), np.bincount(kinds).tolist(), strict=True))
    for row in result.results:
        own = [one for one in result.kinds if all(one[key] == row[key] for key in ("seed", "shots", "inner_steps"))]
        assert len(own) == 3
        total = sum(one["num_tasks"] * (one["mean"] or 0.0) for one in own)
        assert total / 9 == pytest.approx(row["mean"], rel=1e-6)
        assert sum(one["num_diverged"] for one in own) == row["num_diverged"]
    shown = result.by_kind()
    assert list(shown[0])[:4] == ["kind", "num_tasks", "shots", "inner_steps"]
    assert len(shown) == 3 * 2 * 3


def test_a_family_of_one_task_or_none_says_so_much() -> None:
    config = parse_config(THREE, overrides=["evaluation.tasks=4", "tasks.families.2.weight=1e-6"])
    experiment = make_experiment(config)
    kinds = kinds_of(experiment.family, TaskList(experiment.family, 0, "meta-test"), 0, 4)
    rows = rows_by_kind(experiment, {5: {"": torch.ones(2, 4, 3)}}, {})
    assert {row["kind"] for row in rows} == {("sinusoid 1", "linear")[kind] for kind in kinds}
    assert all(row["mean"] == 1 for row in rows)
    assert all(row["ci95"] is None for row in rows if row["num_tasks"] == 1)
    plain = make_experiment(parse_config(THREE, overrides=["tasks={family: linear}"]))
    assert rows_by_kind(plain, {5: {"": torch.ones(2, 9, 3)}}, {}) == []


def test_the_command_and_the_page_show_each_family_and_fits_draws_a_task_of_each(maml: Maml, run: Path) -> None:
    out = maml("eval", run, "--out", "again").out
    assert max(map(len, out.splitlines())) <= 80
    table = out.split("query loss by kind of task")[1].splitlines()
    assert [line.split()[0] for line in table if line.startswith(("sinusoid", "linear"))] == ["sinusoid"] * 2 + [
        "linear"
    ] * 2 + ["sinusoid"] * 2
    with (run / "fits.csv").open() as file:
        drawn = {row["task"] for row in csv.DictReader(file)}
    assert {name.partition(" (")[2].rstrip(")") for name in drawn} == {"sinusoid 1", "linear", "sinusoid 2"}
    page = mamlcli.report(run)
    assert "Query loss by kind of task" in page.markdown.read_text()
    assert "sinusoid 2" in page.html.read_text()


def test_a_run_is_tested_on_other_families_in_a_folder_whose_name_is_one(run: Path) -> None:
    result = mamlcli.evaluate(run, overrides=["tasks.families=[{family: tanh}]"])
    assert result.run.parent == run / "evaluations"
    assert result.run.name.startswith("tasks.families=family=tanh,weight=1.0,")
    assert not set('"{}[]:') & set(result.run.name)
    assert {row["kind"] for row in result.kinds or ()} == {"tanh"}


def test_two_inputs_are_predicted_from_x1_and_x2_and_have_no_figure_of_fits(maml: Maml, folder: Path) -> None:
    (folder / "two.yaml").write_text(THREE.replace("family: mixture", "family: mixture\n  inputs: 2"))
    listener = Listener()
    mamlcli.train(mamlcli.load_config("two.yaml"), out="run")
    mamlcli.evaluate("run", reporter=listener)
    assert "no figure of fits: these tasks are no functions of one input" in listener.notes
    (folder / "support.csv").write_text("task,x1,x2,y\na,1,1,2\na,2,1,3\n")
    (folder / "query.csv").write_text("task,x1,x2\na,1.5,1\n")
    printed = json.loads(maml("predict", "run", "--support", "support.csv", "--query", "query.csv", "--json").out)
    assert printed["predictions"][0]["inputs"] == {"x1": 1.5, "x2": 1.0}
