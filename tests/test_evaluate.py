"""Evaluation of runs and checkpoints."""

import csv
import hashlib
import json
import re
import signal
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

import mamlcli
from mamlcli import Config
from mamlcli.errors import CheckpointError, ConfigError, DivergedError, InterruptedRunError, RunFolderError
from mamlcli.experiment import make_experiment
from mamlcli.interrupts import SIGNALS, StopRequest
from mamlcli.meta_test.measure import meta_test_tasks
from mamlcli.runs.checkpoints import load_checkpoint
from mamlcli.tasks.samples import Task
from tests.conftest import Maml
from tests.test_runs import InterruptAt, Listener


@pytest.fixture
def run(tiny: Config, tmp_path: Path) -> Path:
    return mamlcli.train(tiny, out=tmp_path / "run").run


def test_tables_and_figures_are_written(run: Path) -> None:
    result = mamlcli.evaluate(run)
    written = json.loads((run / "evaluation.json").read_text())
    with (run / "evaluation.csv").open() as file:
        table = list(csv.DictReader(file))
    # 3 seeds' rows ("all" is one), 2 shots, steps 0 to 3.
    assert len(written["results"]) == len(table) == len(result.results) == 3 * 2 * 4
    assert written["schema"] == "mamlcli.eval/1"
    assert written["query"] == {"points": 9, "sampling": "uniform in [-5, 5]", "test_seed": 0, "scaled": False}
    assert {row["interval"] for row in table} == {"over tasks", "over seeds and tasks"}
    assert float(table[0]["mean"]) == result.results[0]["mean"]
    for stem in ("adaptation", "fits"):
        assert all((run / f"{stem}.{suffix}").stat().st_size > 0 for suffix in ("png", "svg", "csv"))


def test_meta_test_tasks_depend_on_the_test_seed_alone(tiny: Config) -> None:
    other = tiny.model_copy(
        update={"seeds": (7,), "algorithm": tiny.algorithm.model_copy(update={"order": "first", "inner_steps": 3})}
    )
    reseeded = tiny.model_copy(update={"evaluation": tiny.evaluation.model_copy(update={"seed": 1})})

    def tasks_of(config: Config, shots: int) -> Task:
        return meta_test_tasks(make_experiment(config), shots)

    tasks = tasks_of(tiny, 5)
    assert torch.equal(tasks.query.y, tasks_of(other, 5).query.y)
    assert torch.equal(tasks.query.y, tasks_of(tiny, 3).query.y)
    assert not torch.equal(tasks.query.y, tasks_of(reseeded, 5).query.y)


def test_before_adaptation_every_number_of_shots_scores_the_same(run: Path) -> None:
    rows = [row for row in mamlcli.evaluate(run).results if row["inner_steps"] == 0 and row["seed"] == "all"]
    assert rows[0]["mean"] == rows[1]["mean"]


@pytest.mark.parametrize("inner_lr", [0.01, 0.07])
def test_a_meta_test_adapts_by_the_learning_rate_of_the_config(tiny: Config, tmp_path: Path, inner_lr: float) -> None:
    config = tiny.model_copy(update={"algorithm": tiny.algorithm.model_copy(update={"inner_lr": inner_lr})})
    trained = mamlcli.train(config, out=tmp_path / "run")
    rows = mamlcli.evaluate(trained.run).results
    params = load_checkpoint(trained.run / "checkpoints" / "step-12.pt").params
    tasks = meta_test_tasks(make_experiment(config), 5)
    # The textbook: torch.nn and torch.optim.SGD, one task at a time.
    losses = torch.zeros(7, 4)
    for task in range(7):
        network = torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        for parameter, value in zip(network.parameters(), params.values(), strict=True):
            parameter.data.copy_(value[1])
        optimizer = torch.optim.SGD(network.parameters(), lr=inner_lr)
        for step in range(4):
            with torch.no_grad():
                losses[task, step] = (network(tasks.query.x[task]) - tasks.query.y[task]).square().mean()
            optimizer.zero_grad()
            torch.autograd.backward((network(tasks.support.x[task]) - tasks.support.y[task]).square().mean())
            optimizer.step()
    found = {row["inner_steps"]: row["mean"] for row in rows if (row["seed"], row["shots"]) == (1, 5)}
    assert found == pytest.approx(dict(enumerate(losses.mean(dim=0).tolist())), rel=1e-4)


def test_a_checkpoint_file_is_evaluated_beside_its_run(run: Path, tmp_path: Path) -> None:
    result = mamlcli.evaluate(run / "checkpoints" / "step-5.pt")
    assert result.step == 5
    assert result.run == run / "evaluation-step-5"
    stray = tmp_path / "stray.pt"
    stray.write_bytes((run / "checkpoints" / "step-5.pt").read_bytes())
    assert mamlcli.evaluate(stray).results == result.results
    assert (tmp_path / "evaluation-stray" / "evaluation.json").exists()


def test_the_run_that_finished_last_is_the_default_and_is_named(tiny: Config, folder: Path) -> None:
    first, second = mamlcli.train(tiny).run, mamlcli.train(tiny).run
    assert first.is_relative_to("outputs/tiny")
    assert mamlcli.evaluate().run == second
    mamlcli.train(tiny, out=first, resume=True)
    listener = Listener()
    assert mamlcli.evaluate(reporter=listener).run == first
    assert f"evaluating the run that finished last: {first}" in listener.notes
    assert folder.exists()


@pytest.mark.parametrize("name", ["a.old-one", "a.tmp"])
def test_a_run_is_found_whatever_its_experiment_is_called(tiny: Config, folder: Path, name: str) -> None:
    run = mamlcli.train(tiny.model_copy(update={"name": name})).run
    assert mamlcli.evaluate().run == run
    mamlcli.train(tiny, out=run, overwrite=True).run.rename(folder / "elsewhere")
    with pytest.raises(CheckpointError, match="no run found"):  # the one that was moved aside is not meant
        mamlcli.evaluate()


def test_what_stands_inside_a_comparison_is_not_the_latest_run(tiny: Config, folder: Path) -> None:
    run = mamlcli.train(tiny).run
    both = mamlcli.compare_orders(tiny).run
    assert mamlcli.evaluate().run == run
    assert mamlcli.evaluate(both / "second").run == both / "second"
    assert folder.exists()


def test_a_run_that_diverged_or_was_interrupted_is_not_the_latest_run(tiny: Config, folder: Path) -> None:
    run = mamlcli.train(tiny).run
    wild = tiny.model_copy(update={"outer": tiny.outer.model_copy(update={"lr": 1e30, "steps": 40})})
    with pytest.raises(DivergedError):
        mamlcli.train(wild)
    with pytest.raises(InterruptedRunError):
        mamlcli.train(tiny, reporter=InterruptAt(8, signal.SIGTERM), stop=StopRequest(SIGNALS))
    assert mamlcli.evaluate().run == run
    assert folder.exists()


def test_with_no_finished_run_it_is_said_what_there_is_and_how_to_go_on(maml: Maml, tiny: Config) -> None:
    assert "no run found in outputs/" in maml("eval").err
    both = mamlcli.compare_orders(tiny).run
    with pytest.raises(InterruptedRunError):
        mamlcli.train(tiny, reporter=InterruptAt(8, signal.SIGTERM), stop=StopRequest(SIGNALS))
    (begun,) = (path.parent for path in Path("outputs").glob("tiny/*/run.json") if path.parent != both)
    with pytest.raises(CheckpointError) as caught:
        mamlcli.evaluate()
    lines = str(caught.value).splitlines()
    assert lines[0] == "no run in outputs/ has finished; there are:"
    assert set(lines[1:3]) == {f"  {begun}: interrupted at step 8", f"  {both}: of compare-orders, with runs inside"}
    assert lines[3] == "name the one to evaluate, or finish one: mamlcli.train(config, out=..., resume=True)"
    outcome = maml("eval")
    assert outcome.code == 4
    assert "name the one to evaluate, or finish one: maml train --resume RUN" in outcome.err
    assert maml("train", "--resume", begun).code == 0
    assert maml("eval", "--json").code == 0


def means(path: Path) -> list[float]:
    return [row["mean"] for row in json.loads((path / "evaluation.json").read_text())["results"]]


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["tasks.amplitude=[5,10]"], "tasks.amplitude=5.0,10.0"),
        (["algorithm.inner_lr=0.1"], "algorithm.inner_lr=0.1"),
        (["evaluation.grid=20"], "evaluation.grid=20"),
        (["evaluation.grid=20", "algorithm.inner_lr=0.1"], "algorithm.inner_lr=0.1_evaluation.grid=20"),
        (["algorithm.inner_lr=1e-5", "evaluation.shots=[4]"], "algorithm.inner_lr=1e-05_evaluation.shots=4"),
    ],
)
def test_an_evaluation_under_other_settings_has_a_folder_that_names_them(
    run: Path, overrides: list[str], name: str
) -> None:
    mamlcli.evaluate(run)
    before = {path: path.read_bytes() for path in run.iterdir() if path.is_file()}
    for again in (overrides, overrides[::-1]):
        result = mamlcli.evaluate(run, overrides=again)
        assert result.run == run / "evaluations" / name
        assert json.loads((result.run / "evaluation.json").read_text())["protocol"]["overrides"] == again
    assert means(result.run) != means(run)
    assert {path: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
    assert [path.name for path in (run / "evaluations").iterdir()] == [name]


def test_overrides_that_repeat_what_the_run_says_are_its_own_evaluation(run: Path) -> None:
    own = ("evaluation.tasks=7", "tasks.amplitude=[0.1, 5]", "device=cpu", "engine.threads=1")
    result = mamlcli.evaluate(run, overrides=own)
    assert result.run == run
    assert result.protocol["overrides"] == list(own)


def test_settings_too_long_for_a_name_end_in_a_hash_that_tells_them_apart(run: Path) -> None:
    shots = [list(range(1, 100)), [*range(1, 99), 100]]
    folders = {mamlcli.evaluate(run, overrides=(f"evaluation.shots={one}",)).run for one in shots}
    assert len(folders) == 2
    assert all(len(folder.name) <= 100 and folder.name.startswith("evaluation.shots=1,2,3") for folder in folders)


def test_every_start_and_file_has_evaluations_of_its_own(run: Path, tmp_path: Path) -> None:
    stray = tmp_path / "stray.pt"
    stray.write_bytes((run / "checkpoints" / "step-5.pt").read_bytes())
    for target, random_init, home in (
        (run, True, run / "evaluation-random-init"),
        (run / "checkpoints" / "step-5.pt", False, run / "evaluation-step-5"),
        (stray, False, tmp_path / "evaluation-stray"),
        (stray, True, tmp_path / "evaluation-stray-random-init"),
    ):
        plain = mamlcli.evaluate(target, random_init=random_init)
        before = (home / "evaluation.json").read_bytes()
        other = mamlcli.evaluate(target, overrides=("evaluation.grid=20",), random_init=random_init)
        assert (plain.run, other.run) == (home, home / "evaluations" / "evaluation.grid=20")
        assert (home / "evaluation.json").read_bytes() == before
    assert not (run / "evaluation.json").exists()


@pytest.mark.parametrize("random_init", [False, True])
def test_an_evaluation_says_what_was_tested_and_how(tiny: Config, run: Path, random_init: bool) -> None:
    result = mamlcli.evaluate(run, overrides=("tasks.amplitude=[5,10]", "evaluation.seed=3"), random_init=random_init)
    written = json.loads((result.run / "evaluation.json").read_text())
    protocol, newest = written["protocol"], run / "checkpoints" / "step-12.pt"
    expected = tiny.model_dump(mode="json")
    expected["tasks"]["amplitude"] = [5.0, 10.0]
    expected["evaluation"]["seed"] = 3
    assert protocol["config"] == {section: expected[section] for section in ("tasks", "algorithm", "evaluation")}
    assert protocol["overrides"] == ["tasks.amplitude=[5,10]", "evaluation.seed=3"]
    assert protocol["checkpoint_sha256"] == hashlib.sha256(newest.read_bytes()).hexdigest()
    assert (written["checkpoint"], protocol["checkpoint_step"]) == (str(newest), 12)
    assert protocol["test_seed"] == written["query"]["test_seed"] == 3
    assert protocol["versions"]["torch"] == version("torch")
    assert abs((datetime.now(UTC) - datetime.fromisoformat(protocol["date"])).total_seconds()) < 3600


def test_overrides_change_the_protocol(run: Path, tmp_path: Path) -> None:
    result = mamlcli.evaluate(run, overrides=("evaluation.tasks=3", "evaluation.inner_steps=5"), out=tmp_path / "other")
    assert result.tasks == 3
    assert max(row["inner_steps"] for row in result.results) == 5
    assert not (run / "evaluation.json").exists()
    with pytest.raises(ConfigError, match=r"evaluation\.tusks: unknown key; did you mean 'evaluation\.tasks'"):
        mamlcli.evaluate(run, overrides=("evaluation.tusks=3",))


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.pt").write_text("hello")
    for target, message in (
        (tmp_path / "none", "no such run folder"),
        (tmp_path / "empty", "not a run"),
        (tmp_path / "text.pt", "not a checkpoint"),
    ):
        with pytest.raises(CheckpointError, match=message):
            mamlcli.evaluate(target)


def test_a_checkpoint_of_another_architecture_or_experiment_is_refused(tiny: Config, run: Path, tmp_path: Path) -> None:
    for name, section, change, message in (
        ("wide", "model", {"hidden_sizes": (9,)}, r"model.hidden_sizes: \(9,\) in the run, \(8,\) now"),
        ("tanh", "model", {"activation": "tanh"}, "model.activation: tanh in the run, relu now"),
    ):
        other = tiny.model_copy(update={section: getattr(tiny, section).model_copy(update=change)})
        foreign = mamlcli.train(other, out=tmp_path / name).run / "checkpoints" / "step-12.pt"
        for suffix in ("", ".sha256"):
            copy = run / "checkpoints" / f"step-99.pt{suffix}"
            copy.write_bytes(foreign.with_name(foreign.name + suffix).read_bytes())
        listener = Listener()
        assert mamlcli.evaluate(run, reporter=listener).step == 12
        assert any(re.search(message, note) for note in listener.notes)


def test_a_checkpoint_of_a_run_whose_hash_is_missing_is_not_trusted(run: Path) -> None:
    (run / "checkpoints" / "step-12.pt.sha256").unlink()
    listener = Listener()
    assert mamlcli.evaluate(run, reporter=listener).step == 10
    assert any("step-12.pt.sha256 is missing" in note for note in listener.notes)


def test_an_existing_folder_is_not_written_into(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="exists already"):
        mamlcli.evaluate(run, out=tmp_path)
