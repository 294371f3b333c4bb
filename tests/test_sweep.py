"""A sweep: each member is the run that it would be alone, ranked on tasks that none learns from or is tested on."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import mamlcli as m
import mamlcli.commands.evaluate
import mamlcli.commands.stacks
import mamlcli.commands.train
from mamlcli import Config, parse_config
from mamlcli.cli.axes import split_axes
from mamlcli.compute.plan import make_plan, planned_update
from mamlcli.config.axes import Axes, members_of
from mamlcli.errors import DeviceError, DivergedError, InterruptedRunError, UsageError
from mamlcli.experiment import Experiment, make_experiment
from mamlcli.interrupts import StopRequest
from mamlcli.memory.estimate import training_estimate
from mamlcli.meta_test.ranking import ranked
from mamlcli.meta_test.validation import validation_loss
from mamlcli.registry import entries
from mamlcli.reporting import Silent
from mamlcli.runs.checkpoints import list_checkpoints, load_checkpoint
from mamlcli.stacking import program_of, stacked
from mamlcli.tasks.samples import Task
from mamlcli.training import Rule, Stack, TrainState, init_state, stack_states, train_stack
from tests.conftest import Maml, needs_compiler
from tests.same_run import assert_same_run, metrics

CPU = torch.device("cpu")
AXES: Axes = {"algorithm.inner_lr": [0.003, 0.1], "outer.lr": [0.001, 0.01]}
# What each row of a program has of its own, at once.
DIFFERING = (
    ("algorithm.inner_lr=0.003", "outer.lr=0.01", "outer.schedule=cosine"),
    ("algorithm.inner_lr=0.1", "outer.lr=0.001", "outer.max_grad_norm=0.5", "tasks.noise_std=0.3"),
    ("algorithm.inner_lr=0.03", "outer.lr=0.003", "outer.max_grad_norm=2"),
)


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw nothing: of a grid of runs, that is most of the time."""
    monkeypatch.setattr(mamlcli.commands.stacks, "draw_training", lambda *_: None)
    for name in ("draw_adaptation", "draw_fits"):
        monkeypatch.setattr(mamlcli.commands.evaluate, name, lambda *_: None)
    monkeypatch.setattr(mamlcli.commands.train, "draw_training", lambda *_: None)


def differing(config: Config, *overrides: str) -> list[Experiment]:
    found = [parse_config(m.dump_config(config), overrides=[*overrides, *own]) for own in DIFFERING]
    assert len({program_of(one) for one in found}) == 1
    return [make_experiment(one) for one in found]


def state_of(experiment: Experiment) -> TrainState:
    seeds = [{name: value.double() for name, value in seed.items()} for seed in experiment.initial_params()]
    outer = experiment.config.outer
    return init_state(seeds, optimizer=outer.optimizer, lr=outer.lr, device=CPU)


def trained(experiment: Experiment, states: list[TrainState]) -> str:
    """Train some steps in double precision; returns the form in which that was computed."""
    members: Sequence[Experiment] = experiment.members or (experiment,)
    state: TrainState | Stack = stack_states(states) if len(states) > 1 else states[0]
    plan = make_plan(experiment, CPU)
    rules = [Rule(one.config.seeds, lambda _, lr=one.config.outer.lr: lr, "stop") for one in members]  # type: ignore[misc]
    blocks = (block.map(Tensor.double) for block in experiment.stream().blocks(0, 6))

    def ended(_: int, error: DivergedError) -> None:
        raise error

    steps = train_stack(
        state,
        blocks,
        planned_update(experiment, state, plan, CPU),
        experiment.pre_adapt_loss,
        rules,
        is_logged=lambda _: False,
        ended=ended,
    )
    for _ in steps:
        pass
    return plan.form


@needs_compiler
@pytest.mark.parametrize(
    ("form", "overrides"),
    [
        ("fused", ("engine.compile=on",)),
        ("fused", ("engine.compile=on", "algorithm.order=first", "algorithm.inner_steps=3")),
        ("dense", ("engine.compile=off", "algorithm.inner_steps=2")),
        ("dense", ("engine.compile=off", "engine.task_chunk=2")),
        ("dense", ("outer.optimizer=rmsprop",)),
        ("dense", ("outer.optimizer=sgd", "algorithm.order=first")),
        ("dense", ("algorithm.learned_inner_lr=tensor_and_step",)),
        ("dense", ("algorithm.inner_steps=2", "algorithm.per_step_losses=4", "algorithm.first_order_steps=2")),
        ("dense", ("algorithm.inner_steps=2", "algorithm.inner_optimizer=adam", "algorithm.adapts=head")),
        ("low_rank", ("engine.inner_update=low_rank", "engine.compile=off", "algorithm.inner_steps=2")),
    ],
)
def test_rows_of_one_program_are_the_runs_that_they_would_be_alone(
    tiny: Config, form: str, overrides: tuple[str, ...]
) -> None:
    experiments = differing(tiny, *overrides)
    alone, together = ([state_of(one) for one in experiments] for _ in range(2))
    for experiment, state in zip(experiments, alone, strict=True):
        assert trained(experiment, [state]) == form
    assert trained(stacked(experiments), together) == form
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one.flat, other.flat, rtol=1e-11, atol=1e-13)
        held, stacked_held = (state.optimizer.state[state.flat] for state in (one, other))
        torch.testing.assert_close(held, stacked_held, rtol=1e-10, atol=1e-13)
        assert one.updates.tolist() == other.updates.tolist() == [6, 6]


@pytest.mark.parametrize("name", list(entries("algorithm")))
def test_a_method_computes_with_what_a_row_is_given_as_with_its_own_key(name: str) -> None:
    text = f"name: a\nseeds: [0]\nalgorithm: {{name: {name}}}\nmodel: {{hidden_sizes: [6]}}\n"
    base = parse_config(text + "evaluation: {shots: [10]}")
    keys = [key for key in base.algorithm.row_keys if isinstance(getattr(base.algorithm, key), float)]
    for key in keys:
        configs = [parse_config(m.dump_config(base), overrides=[f"algorithm.{key}={value}"]) for value in (0.02, 0.3)]
        experiments = [make_experiment(config) for config in configs]
        whole = stacked(experiments)
        params = {name: value.double() for name, value in whole.initial_state(CPU).params.items()}
        tasks = whole.stream().batch(0).map(Tensor.double)
        together, _ = whole.method.meta_gradient(params, tasks)
        for row, experiment in enumerate(experiments):
            own = {name: value[row : row + 1] for name, value in params.items()}
            alone, _ = experiment.method.meta_gradient(own, tasks.map(lambda part, row=row: part[row : row + 1]))  # type: ignore[misc]
            for part, gradient in alone.items():
                torch.testing.assert_close(together[part][row : row + 1], gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("no_figures")
def test_the_members_of_a_sweep_are_the_runs_of_their_configs(tiny: Config, tmp_path: Path) -> None:
    axes: Axes = {"algorithm.inner_lr": [0.003, 0.1], "outer.max_grad_norm": [None, 0.5], "tasks.noise_std": [0.3]}
    found = m.sweep(tiny, axes, out=tmp_path / "grid")
    assert len(found.results) == 4
    for member in members_of(tiny, axes):
        alone = m.train(member.config, out=tmp_path / member.name).run
        together = tmp_path / "grid" / "runs" / member.name
        assert m.load_config(together / "config.yaml") == member.config
        newest = [load_checkpoint(list_checkpoints(run / "checkpoints")[0]) for run in (alone, together)]
        for name, theta in newest[0].params.items():  # in single precision, as test_training compares seeds
            torch.testing.assert_close(theta, newest[1].params[name], rtol=1e-4, atol=1e-6)
        for one, other in zip(metrics(alone), metrics(together), strict=True):
            rounded = {name: value if value is None else pytest.approx(value, rel=1e-3) for name, value in one.items()}
            assert other == rounded


@pytest.mark.usefixtures("no_figures")
def test_members_are_ranked_on_meta_validation_tasks_and_the_winner_alone_is_tested(
    tiny: Config, tmp_path: Path
) -> None:
    found = m.sweep(tiny, AXES, out=tmp_path / "grid", pick="best")
    runs = {member.name: tmp_path / "grid" / "runs" / member.name for member in members_of(tiny, AXES)}
    expected = {}
    for member in members_of(tiny, AXES):
        params = load_checkpoint(list_checkpoints(runs[member.name] / "checkpoints")[0]).params
        losses = validation_loss(make_experiment(member.config), params, CPU, StopRequest())
        assert losses is not None
        expected[member.name] = float(losses.mean())
    assert {row["member"]: row["mean"] for row in found.results} == pytest.approx(expected)
    assert [row["member"] for row in found.results] == sorted(expected, key=expected.__getitem__)
    assert [row["rank"] for row in found.results] == [1, 2, 3, 4]
    assert found.winner == found.results[0]["member"]
    assert found.winner_run == runs[found.winner]
    own = m.evaluate(runs[found.winner])
    assert found.test_tasks == own.tasks == 7
    assert found.winner_test == [row for row in own.results if row["seed"] == "all"]
    assert found.picked is not None
    assert m.load_config(found.picked) == m.load_config(runs[found.winner] / "config.yaml")


def test_the_interval_beside_the_winner_is_that_of_paired_differences() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(5, 2, (1, 400))
    losses = {"a": hard + 0.1 + rng.normal(0, 0.05, (3, 400)), "b": hard + rng.normal(0, 0.05, (3, 400))}
    found = ranked(losses)
    assert list(found) == ["b", "a"]
    second = found["a"]
    assert second.difference == pytest.approx(0.1, abs=0.02)
    # Tasks differ by far more than members: unpaired, nothing could be said.
    assert second.statement == "worse"
    assert second.ci95 is not None
    assert second.ci95 > 0.15


class Stopping(Silent):
    """Asks to stop once a step is reported."""

    def __init__(self, stop: StopRequest, at: int) -> None:
        self.stop, self.at = stop, at

    def step(self, step: int, *_: object) -> None:
        if step >= self.at:
            self.stop.ask()


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("compiled", ["on", "off"])
@needs_compiler
def test_a_sweep_goes_on_bit_for_bit_beside_a_member_that_diverges(tiny: Config, tmp_path: Path, compiled: str) -> None:
    config = parse_config(m.dump_config(tiny), overrides=[f"engine.compile={compiled}", "run.keep_checkpoints=1"])
    axes = {"outer.lr": [1e30, 0.001, 0.01]}
    whole = m.sweep(config, axes, out=tmp_path / "whole")
    stop = StopRequest()
    with pytest.raises(InterruptedRunError, match="interrupted and saved at step 8 of 12"):
        m.sweep(config, axes, out=tmp_path / "parts", stop=stop, reporter=Stopping(stop, 8))
    states = {
        run.name: json.loads((run / "run.json").read_text())["status"] for run in (tmp_path / "parts/runs").iterdir()
    }
    assert states == {"lr=1e+30": "diverged", "lr=0.001": "interrupted", "lr=0.01": "interrupted"}
    resumed = m.sweep(config, axes, out=tmp_path / "parts", resume=True)
    for name in ("lr=0.001", "lr=0.01"):
        assert_same_run(tmp_path / "whole" / "runs" / name, tmp_path / "parts" / "runs" / name)
    assert metrics(tmp_path / "whole/runs/lr=1e+30") == metrics(tmp_path / "parts/runs/lr=1e+30")
    assert [row["mean"] for row in resumed.results] == [row["mean"] for row in whole.results]
    last = resumed.results[-1]
    assert (last["member"], last["rank"], last["status"], last["mean"]) == ("lr=1e+30", None, "diverged", None)


@pytest.mark.usefixtures("no_figures")
def test_after_a_kill_between_two_saves_members_go_on_from_the_step_that_all_have(tiny: Config, tmp_path: Path) -> None:
    axes = {"outer.lr": [0.001, 0.01]}
    m.sweep(tiny, axes, out=tmp_path / "whole")
    stop = StopRequest()
    with pytest.raises(InterruptedRunError):
        m.sweep(tiny, axes, out=tmp_path / "parts", stop=stop, reporter=Stopping(stop, 8))
    lost = tmp_path / "parts/runs/lr=0.01/checkpoints"
    (lost / "step-8.pt").unlink()
    (lost / "step-8.pt.sha256").unlink()
    m.sweep(tiny, axes, out=tmp_path / "parts", resume=True)
    for name in ("lr=0.001", "lr=0.01"):
        assert_same_run(tmp_path / "whole" / "runs" / name, tmp_path / "parts" / "runs" / name)


def test_a_sweep_of_which_every_member_diverges_says_so(maml: Maml) -> None:
    outcome = maml("sweep", "-c", "tiny.yaml", "--set", "outer.lr=1e30,2e30", "--out", "grid")
    assert outcome.code == 5
    assert "all 2 members diverged" in outcome.err
    assert "lr=1e+30: the loss is not finite for seed" in outcome.err
    assert json.loads(Path("grid/run.json").read_text())["status"] == "diverged"


@pytest.mark.usefixtures("no_figures")
def test_what_cannot_be_a_row_of_the_same_program_goes_to_processes(
    maml: Maml, tiny: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commands: list[Sequence[str]] = []

    def in_this_process(jobs: Mapping[str, Any], *_: object, **__: object) -> dict[str, str]:
        for job in jobs.values():
            commands.append(job.words)
            outcome = maml(*job.words)
            assert outcome.code == 0
            assert json.loads(outcome.out)["winner"] is None
            assert job.is_done()
            assert job.made() == 12
        return {}

    monkeypatch.setattr(mamlcli.commands.stacks, "run_side_by_side", in_this_process)
    axes: Axes = {"outer.lr": [0.001, 0.01], "model.hidden_sizes": [[8], [6, 6]], "algorithm.name": ["maml", "joint"]}
    found = m.sweep(tiny, axes, out="grid")
    assert found.adaptation() == "K = 10, the inner steps of each"  # joint training makes none
    assert [words[:5] for words in commands] == [
        ["sweep", "--resume", "grid", "--part", f"{n}/4"] for n in (1, 2, 3, 4)
    ]
    assert [axis["stacked"] for axis in found.axes] == [True, False, False]
    assert len(found.results) == 8
    for member in members_of(tiny, axes)[:2]:
        alone = m.train(member.config, out=tmp_path / "alone" / member.name).run
        params = [
            load_checkpoint(list_checkpoints(run / "checkpoints")[0]).params
            for run in (alone, Path("grid/runs") / member.name)
        ]
        for name, theta in params[0].items():
            torch.testing.assert_close(theta, params[1][name], rtol=1e-4, atol=1e-6)


def test_a_sweep_is_resumed_listed_reported_and_drawn_like_other_folders(maml: Maml) -> None:
    done = maml("sweep", "-c", "tiny.yaml", "--set", "outer.lr=0.001,0.01", "--out", "grid", "--pick", "best")
    assert done.code == 0
    assert max(map(len, done.out.splitlines())) <= 80
    assert "next: maml train --config grid/best.yaml" in done.out
    before = {path: path.stat().st_mtime_ns for path in Path("grid/runs").rglob("*.pt")}
    again = json.loads(maml("sweep", "--resume", "grid", "--json", "-q").out)
    assert before == {path: path.stat().st_mtime_ns for path in Path("grid/runs").rglob("*.pt")}
    assert again["winner"] in done.out
    assert [row["kind"] for row in json.loads(maml("runs", "ls", ".", "--json").out)["runs"]] == ["sweep"]
    assert maml("report", "grid").code == 0
    page = Path("grid/report.md").read_text()
    assert f"The winner, {again['winner']}" in page
    assert "Process 2 of 2" in page
    assert "Computed on: cpu" in page
    assert maml("plot", "grid", "--what", "sweep", "--format", "pdf").code == 0
    other = maml("sweep", "--resume", "grid", "--set", "outer.lr=0.001,0.02")
    assert other.code == 2
    assert "cannot be resumed as another sweep" in other.err


def test_members_that_were_killed_after_their_last_save_have_no_checkpoint_too_many_once_resumed(maml: Maml) -> None:
    swept = ("--set", "outer.lr=0.001,0.01", "--set", "run.keep_checkpoints=1")
    assert maml("sweep", "-c", "tiny.yaml", *swept, "--out", "grid").code == 0
    folders = [path / "checkpoints" for path in Path("grid/runs").iterdir()]
    for folder in folders:
        for end in ("pt", "pt.sha256"):
            (folder / f"step-10.{end}").write_bytes((folder / f"step-12.{end}").read_bytes())
        info = folder.parent / "run.json"
        info.write_text(json.dumps(json.loads(info.read_text()) | {"status": "running"}))
    assert maml("sweep", "--resume", "grid").code == 0
    for folder in folders:
        assert {path.name for path in folder.iterdir()} == {"step-12.pt", "step-12.pt.sha256"}


def test_a_comma_in_brackets_or_quotation_marks_makes_no_axis() -> None:
    settings, axes = split_axes(
        ["evaluation.shots=[5,10]", "tasks.x=[-5, 5],[-2, 2]", "tasks.file='a,b.csv'", "outer.max_grad_norm=null,10"]
    )
    assert settings == ["evaluation.shots=[5,10]", "tasks.file='a,b.csv'"]
    assert axes == {"tasks.x": [[-5, 5], [-2, 2]], "outer.max_grad_norm": [None, 10]}


@pytest.mark.parametrize(
    ("set_", "said"),
    [
        ((), "a sweep needs an axis, a key with several values; use --set outer.lr=0.001,0.0003"),
        (("outer.rate=1,2",), "axis outer.rate=1: outer.rate: unknown key"),
        (("outer.lr=0.1,fast",), "axis outer.lr=fast: outer.lr"),
        (("outer.lr=0.1,,0.2",), "a value is missing between two commas"),
        (("outer.lr=0.1,0.1",), "outer.lr: an axis has each value once"),
        (("outer.lr=1,2", "outer.lr=3,4"), "outer.lr is an axis already"),
        (("seeds=0,1",), "seeds is no axis: it says how runs are named, tested or computed"),
        (("evaluation.tasks=5,6",), "evaluation.tasks is no axis"),
        ((f"outer.lr={','.join(map(str, range(1, 1002)))}",), "1,001 members; a sweep has at most 1,000"),
        (
            (
                "tasks.noise_std=0,1",
                f"outer.lr=1,{'1' * 30}",
                f"outer.max_grad_norm=1,{'1' * 30}",
                f"algorithm.inner_lr=1,{'1' * 30}",
            ),
            "letters of at most 120",
        ),
    ],
)
def test_an_axis_that_cannot_be_one_is_said_with_the_remedy(maml: Maml, set_: tuple[str, ...], said: str) -> None:
    outcome = maml("sweep", "-c", "tiny.yaml", "--out", "grid", *(word for one in set_ for word in ("--set", one)))
    assert outcome.code == 2
    assert said in " ".join(outcome.err.split())
    assert not Path("grid").exists()


def test_what_follows_from_a_key_follows_from_each_value_of_its_axis(tiny: Config) -> None:
    plain = parse_config("name: a")
    with_pool = members_of(plain, {"tasks.pool": [None, 16]})
    assert [member.config.run.keep for member in with_pool] == ["newest", "best"]
    assert [member.name for member in with_pool] == ["pool=null", "pool=16"]
    assert members_of(tiny, {"outer.lr": [0.5]})[0].config == parse_config(
        m.dump_config(tiny), overrides=["outer.lr=0.5"]
    )


def test_members_can_be_named_one_by_one_where_they_make_no_grid(tiny: Config, tmp_path: Path) -> None:
    points = [{"outer.lr": 0.002, "algorithm.inner_lr": 0.02}, {"outer.lr": 0.0123, "algorithm.inner_lr": 0.1}]
    found = m.sweep(tiny, points, out=tmp_path / "search", test=False)
    assert sorted((row["values"] for row in found.results), key=lambda values: values["outer.lr"]) == points
    assert found.winner_run is not None
    assert found.winner_test == []
    again = m.sweep(tiny, points, out=tmp_path / "search", resume=True, test=False)
    assert again.results == found.results
    assert m.report(found).html.exists()
    with pytest.raises(UsageError, match="it is of 2 points, and not of 1 points"):
        m.sweep(tiny, points[:1], out=tmp_path / "search", resume=True)
    for wrong, said in (
        ([], "a list of values by key"),
        ([{"outer.lr": 1}, {}], "the same keys"),
        (points[:1] * 2, "same"),
    ):
        with pytest.raises(UsageError, match=said):
            members_of(tiny, wrong)


def test_a_stack_that_does_not_fit_is_refused_before_anything_is_made(
    tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = parse_config(m.dump_config(tiny), overrides=["model.hidden_sizes=[64]"])
    one, other = (members_of(wide, {"outer.lr": values}) for values in ([0.001], np.linspace(0.001, 0.01, 40).tolist()))
    plans = [stacked([make_experiment(member.config) for member in members]) for members in (one, other)]
    needed = [training_estimate(whole, make_plan(whole, CPU)).total() for whole in plans]
    assert needed[1] > 10 * needed[0]
    monkeypatch.setattr("mamlcli.memory_check.free_memory", lambda: sum(needed) // 2)
    with pytest.raises(DeviceError, match="training"):
        m.sweep(wide, {"outer.lr": [member.values["outer.lr"] for member in other]}, out=tmp_path / "grid")
    assert not (tmp_path / "grid").exists()


def test_a_pick_that_is_not_there_is_refused(tiny: Config, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no member is called so"):
        m.sweep(tiny, AXES, out=tmp_path / "grid", pick="worst")


def test_rows_with_the_same_family_and_seed_have_the_same_tasks(tiny: Config) -> None:
    noisy = parse_config(m.dump_config(tiny), overrides=["tasks.noise_std=0.5"])
    experiments = [make_experiment(config) for config in (tiny, noisy)]
    batch: Task = stacked(experiments).stream().batch(3)
    for number, experiment in enumerate(experiments):
        own = experiment.stream().batch(3)
        for rows, expected in zip((*batch.support, *batch.query), (*own.support, *own.query), strict=True):
            assert torch.equal(rows[2 * number : 2 * number + 2], expected)
