"""The meta-validation loss along a training, the parameters where it was least, and what is evaluated by them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import mamlcli
from mamlcli import Config, parse_config
from mamlcli.best import Best, choose, measured
from mamlcli.commands import evaluate as evaluating
from mamlcli.compute.plan import make_plan
from mamlcli.config.changes import refused_changes
from mamlcli.errors import CheckpointError, ConfigError, InterruptedRunError, UsageError
from mamlcli.experiment import Experiment, make_experiment
from mamlcli.figures.drawing import Drawing
from mamlcli.interrupts import StopRequest
from mamlcli.measure import peak_memory_bytes
from mamlcli.memory.estimate import training_estimate
from mamlcli.meta_test.measure import meta_test_tasks
from mamlcli.meta_test.validation import validation_loss
from mamlcli.runs.checkpoints import list_checkpoints, load_checkpoint
from mamlcli.runs.folder import open_run
from mamlcli.tasks.family import Request
from mamlcli.tasks.samples import Samples
from mamlcli.tasks.sinusoid import SinusoidTasks
from mamlcli.tasks.stream import TaskList
from tests.conftest import Maml
from tests.same_run import assert_same_run, metrics
from tests.test_faults_checkpoint import seal
from tests.test_faults_divergence import poisoned as poisoned
from tests.test_runs import Listener

CPU = torch.device("cpu")
# Measured after 5, 10, 15, 20 and 22 updates; so fast that the newest parameters are not the best.
MEASURED = """
name: measured
seeds: [0, 1, 2]
device: cpu
model: {hidden_sizes: [8]}
algorithm: {inner_steps: 2}
outer: {steps: 22, meta_batch_size: 3, lr: 0.05}
evaluation: {tasks: 7, query_shots: 9, shots: [3, 5], inner_steps: 3, every_steps: 5}
run: {log_every_steps: 4, checkpoint_every_steps: 5, keep_checkpoints: 9, keep: best}
"""


def config(*overrides: str) -> Config:
    return parse_config(MEASURED, overrides=overrides)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mamlcli.train(config(), out=tmp_path_factory.mktemp("measured") / "run").run


def newest(run: Path) -> Path:
    return list_checkpoints(run / "checkpoints")[0]


def least(run: Path) -> dict[Any, tuple[float, int]]:
    """Of each seed the least loss of its rows, and the first step that has it."""
    rows: list[dict[str, Any]] = [row for row in metrics(run) if "meta_validation_loss" in row]
    return {
        seed: min((row["meta_validation_loss"], row["step"]) for row in rows if row["seed"] == seed)
        for seed in {row["seed"] for row in rows}
    }


def by_hand(chosen: Experiment, params: dict[str, torch.Tensor], seed: int, inner_lr: float, steps: int) -> float:
    """The mean query loss of one seed, task by task in double precision."""
    settings, losses = chosen.config, []

    def loss_fn(theta: dict[str, torch.Tensor], samples: Samples) -> torch.Tensor:
        return torch.nn.functional.mse_loss(chosen.model.predict(theta, samples.x), samples.y)

    request = Request(settings.tasks.support_shots, settings.evaluation.query_shots)
    drawn = TaskList(chosen.family, settings.evaluation.seed, "meta-validation")
    for task in range(settings.evaluation.tasks):
        one = drawn.tasks(task, 1, request).map(lambda part: part[0].double())
        theta = {name: value[seed].double() for name, value in params.items()}
        adapted = mamlcli.adapt(loss_fn, theta, one.support, inner_lr=inner_lr, inner_steps=steps, order="first")
        losses.append(loss_fn(adapted, one.query).item())
    return float(np.mean(losses))


@pytest.mark.parametrize(
    ("overrides", "inner_lr", "steps"),
    [((), 0.01, 2), (("algorithm.inner_lr=0.05", "evaluation.seed=4"), 0.05, 2), (("algorithm={name: joint}",), 0, 0)],
)
def test_the_loss_is_that_of_a_loop_over_fixed_tasks(
    tmp_path: Path, overrides: tuple[str, ...], inner_lr: float, steps: int
) -> None:
    run = mamlcli.train(config(*overrides), out=tmp_path / "run").run
    chosen, rows = make_experiment(config(*overrides)), metrics(run)
    for step in (5, 22):
        params = load_checkpoint(run / "checkpoints" / f"step-{step}.pt").params
        for index, seed in enumerate(chosen.config.seeds):
            (found,) = (row["meta_validation_loss"] for row in rows if (row["step"], row["seed"]) == (step, seed))
            assert found == pytest.approx(by_hand(chosen, params, index, inner_lr, steps), rel=1e-5)


def test_it_is_measured_every_so_many_steps_and_at_the_last_and_those_are_logged(run: Path) -> None:
    rows = metrics(run)
    assert {row["step"] for row in rows} == {1, 4, 5, 8, 10, 12, 15, 16, 20, 22}
    assert {row["step"] for row in rows if "meta_validation_loss" in row} == {5, 10, 15, 20, 22}


def test_measuring_changes_no_bit_of_a_training(run: Path, tmp_path: Path) -> None:
    plain = mamlcli.train(config("evaluation.every_steps=null", "run.keep=newest"), out=tmp_path / "plain").run
    theirs = [row for row in metrics(run) if row["step"] in {1, 4, 8, 12, 16, 20, 22}]
    assert metrics(plain) == [
        {name: value for name, value in row.items() if name != "meta_validation_loss"} for row in theirs
    ]
    one, other = load_checkpoint(newest(run)), load_checkpoint(newest(plain))
    assert all(torch.equal(theta, other.params[name]) for name, theta in one.params.items())
    assert other.best is None
    for key, value in one.optimizer["state"][0].items():
        assert torch.equal(value, other.optimizer["state"][0][key])


def test_the_best_are_the_parameters_at_the_step_that_the_rows_name(run: Path) -> None:
    expected, chosen = least(run), load_checkpoint(newest(run)).chosen("best")
    assert len({step for _, step in expected.values()}) > 1
    assert min(step for _, step in expected.values()) < 22
    assert list(zip(chosen.losses, chosen.steps, strict=True)) == [expected[seed] for seed in range(3)]
    for seed, step in enumerate(chosen.steps):
        then = load_checkpoint(run / "checkpoints" / f"step-{step}.pt").params
        assert all(torch.equal(theta[seed], then[name][seed]) for name, theta in chosen.params.items())


def test_a_training_says_where_each_seed_was_best(maml: Maml, folder: Path, run: Path) -> None:
    (folder / "measured.yaml").write_text(MEASURED)
    said = maml("train", "-c", "measured.yaml", "--out", "run").out
    expected = ", ".join(f"seed {seed} at step {step}" for seed, (_, step) in sorted(least(run).items()))
    assert f"least meta-validation loss: {expected} " in " ".join(said.split())
    assert "step 22" not in maml("eval", "run").out.splitlines()[0].replace(expected, "")
    assert mamlcli.train(config("run.keep=newest"), out="other").best is None


def test_an_evaluation_takes_the_best_and_says_so(run: Path, tmp_path: Path) -> None:
    listener = Listener()
    result = mamlcli.evaluate(run, reporter=listener)
    expected = [{"seed": seed, "step": step, "meta_validation_loss": loss} for seed, (loss, step) in least(run).items()]
    assert result.protocol["parameters"] == "best"
    assert result.protocol["parameter_steps"] == expected
    words = ", ".join(f"seed {one['seed']} at step {one['step']}" for one in expected)
    assert f"evaluating each seed where its meta-validation loss was least: {words}" in listener.notes
    assert json.loads((run / "evaluation.json").read_text())["protocol"]["parameters"] == "best"
    for seed, (_, step) in least(run).items():
        alone = mamlcli.evaluate(
            run / "checkpoints" / f"step-{step}.pt", overrides=("run.keep=newest",), out=tmp_path / f"{seed}"
        )
        assert [row for row in result.results if row["seed"] == seed] == [
            row for row in alone.results if row["seed"] == seed
        ]


def test_the_newest_are_evaluated_into_a_folder_of_their_own(run: Path) -> None:
    result = mamlcli.evaluate(run, overrides=("run.keep=newest",))
    assert result.run == run / "evaluations" / "run.keep=newest"
    assert result.protocol["parameters"] == "newest"
    assert [one["step"] for one in result.protocol["parameter_steps"]] == [22, 22, 22]
    assert result.results != mamlcli.evaluate(run).results


def test_a_run_that_keeps_the_newest_can_be_evaluated_by_the_best(run: Path, tmp_path: Path) -> None:
    other = mamlcli.train(config("run.keep=newest"), out=tmp_path / "run").run
    assert mamlcli.evaluate(other).protocol["parameters"] == "newest"
    assert mamlcli.evaluate(other, overrides=("run.keep=best",)).results == mamlcli.evaluate(run).results


def test_parameters_that_training_began_with_have_no_best(run: Path) -> None:
    assert mamlcli.evaluate(run, random_init=True).protocol["parameters"] == "initial"
    with pytest.raises(UsageError, match=r"run\.keep would change nothing"):
        mamlcli.evaluate(run, overrides=("run.keep=newest",), random_init=True)


def test_before_the_first_measurement_the_newest_are_evaluated_and_it_is_said(tmp_path: Path) -> None:
    run = mamlcli.train(config("run.checkpoint_every_steps=3", "run.keep_checkpoints=99"), out=tmp_path / "run").run
    listener = Listener()
    result = mamlcli.evaluate(run / "checkpoints" / "step-3.pt", reporter=listener)
    assert result.protocol["parameters"] == "newest"
    assert "no meta-validation loss was measured yet: evaluating the newest parameters" in listener.notes


def test_a_comparison_tests_both_orders_where_each_was_best(tmp_path: Path) -> None:
    result = mamlcli.compare_orders(config(), out=tmp_path / "both")
    assert result.parameters == "best"
    for order, rows in result.evaluations.items():
        assert [(one["meta_validation_loss"], one["step"]) for one in result.parameter_steps[order]] == [
            value for _, value in sorted(least(result.runs[order]).items())
        ]
        assert rows == mamlcli.evaluate(result.runs[order]).results


def test_the_best_without_a_loss_to_tell_it_is_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match=r"run\.keep: best needs(.|\n)*set evaluation\.every_steps"):
        config("evaluation.every_steps=null")


def test_a_family_may_give_both_as_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    fitting = {"evaluation.every_steps": 3, "run.keep": "best"}
    monkeypatch.setattr(SinusoidTasks, "defaults", lambda *_: fitting)
    found = parse_config("name: x")
    assert (found.evaluation.every_steps, found.run.keep) == (3, "best")
    assert parse_config(mamlcli.dump_config(found)) == found


@pytest.mark.parametrize("override", ["evaluation.every_steps=6", "evaluation.every_steps=null"])
def test_how_often_it_is_measured_stays_as_it_is(run: Path, override: str) -> None:
    other = config(override, "run.keep=newest")
    assert refused_changes(config("run.keep=newest"), other, "resume")
    assert refused_changes(config("run.keep=newest"), other, "evaluate")
    with pytest.raises(UsageError, match=r"evaluation\.every_steps: 5 in the run"):
        mamlcli.evaluate(run, overrides=(override, "run.keep=newest"))


@pytest.mark.parametrize("key", ["tasks=9", "seed=1", "query_shots=5", "grid=5"])
def test_on_what_it_is_measured_stays_as_it_is_in_a_training_alone(run: Path, key: str) -> None:
    own, other = config(), config(f"evaluation.{key}")
    assert not refused_changes(own, other, "evaluate")
    unmeasured = ("evaluation.every_steps=null", "run.keep=newest")
    assert not refused_changes(config(*unmeasured), config(*unmeasured, f"evaluation.{key}"), "resume")
    said = rf"evaluation\.{key.partition('=')[0]}: (.|\n)*evaluation\.\* \(not evaluation\.every_steps, evaluation\.ta"
    with pytest.raises(UsageError, match=said):
        mamlcli.train(other, out=run, resume=True)


def test_a_run_may_be_evaluated_otherwise_from_a_resumed_training_on(tmp_path: Path) -> None:
    run = mamlcli.train(config(), out=tmp_path / "run").run
    mamlcli.train(config("run.keep=newest", "evaluation.shots=[2]"), out=run, resume=True)
    assert mamlcli.evaluate(run).protocol["parameters"] == "newest"


def test_a_run_that_grows_has_the_best_of_one_that_was_long_from_the_start(run: Path, tmp_path: Path) -> None:
    # A long run measures neither, and logs the first of them.
    for steps in (12, 13):
        grown = mamlcli.train(config(f"outer.steps={steps}"), out=tmp_path / f"grown-{steps}").run
        assert steps in {step for _, step in least(grown).values()}
        assert_same_run(run, mamlcli.train(config(), out=grown, resume=True).run)


def test_a_finished_run_that_is_resumed_stays_as_it_is(run: Path) -> None:
    before = newest(run).read_bytes()
    assert mamlcli.train(config(), out=run, resume=True).best == mamlcli.train(config(), out=run, resume=True).best
    assert newest(run).read_bytes() == before


@pytest.mark.parametrize("at", [10, 22])
def test_a_signal_while_it_is_measured_loses_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    def interrupted(chosen: Experiment, params: Any, device: torch.device, stop: StopRequest) -> torch.Tensor | None:
        state = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])["step"]
        stop.signal_number = 15 if state == {10: 8, 22: 20}[at] else None
        return validation_loss(chosen, params, device, stop)

    monkeypatch.setattr("mamlcli.trainings.validation.validation_loss", interrupted)
    with pytest.raises(InterruptedRunError, match=f"interrupted and saved at step {at}"):
        mamlcli.train(config(), out=tmp_path / "run")
    best = load_checkpoint(newest(tmp_path / "run")).best
    assert best is not None
    assert best.at < at
    monkeypatch.undo()
    assert_same_run(run, mamlcli.train(config(), out=tmp_path / "run", resume=True).run)


def test_it_stops_between_tasks_when_a_signal_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, stop, drawn = make_experiment(config()), StopRequest(), list[int]()

    def draws(*arguments: Any) -> Any:
        drawn.append(arguments[2])
        stop.signal_number = 2
        return meta_test_tasks(*arguments)

    monkeypatch.setattr("mamlcli.meta_test.measure.tasks_at_a_time", lambda *_: 2)
    monkeypatch.setattr("mamlcli.meta_test.measure.meta_test_tasks", draws)
    assert validation_loss(chosen, chosen.initial_state(CPU).params, CPU, stop) is None
    assert drawn == [0]


def test_in_parts_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = make_experiment(config())
    params = chosen.initial_state(CPU).params
    whole = validation_loss(chosen, params, CPU, StopRequest())
    monkeypatch.setattr("mamlcli.meta_test.measure.tasks_at_a_time", lambda *_: 3)
    torch.testing.assert_close(validation_loss(chosen, params, CPU, StopRequest()), whole, rtol=1e-6, atol=0)


def finite(chosen: Experiment, counts: dict[str, int]) -> Experiment:
    names: dict[Any, list[str]] = {
        split: [f"task {index}" for index in range(count)] for split, count in counts.items()
    }
    return chosen._replace(family=chosen.family._replace(names=names))


def test_a_finite_split_is_measured_to_its_end_and_no_further() -> None:
    chosen = finite(make_experiment(config()), {"meta-validation": 4, "meta-test": 99})
    assert (chosen.num_test_tasks("meta-validation"), chosen.num_test_tasks("meta-test")) == (4, 7)
    endless = make_experiment(config("evaluation.tasks=4"))
    params = endless.initial_state(CPU).params
    ours, theirs = (validation_loss(one, params, CPU, StopRequest()) for one in (chosen, endless))
    assert ours is not None
    assert theirs is not None
    assert torch.equal(ours, theirs)


def test_a_meta_test_of_a_finite_split_says_how_many_tasks_there_are(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluating, "make_experiment", lambda one: finite(make_experiment(one), {"meta-test": 4}))
    result = mamlcli.evaluate(run, out=tmp_path / "finite")
    monkeypatch.undo()
    assert result.tasks == 4
    fewer = mamlcli.evaluate(run, overrides=("evaluation.tasks=4",), out=tmp_path / "fewer")
    assert result.results == fewer.results


def test_validation_tasks_are_those_of_a_split_of_their_own() -> None:
    chosen = make_experiment(config())
    inputs = [meta_test_tasks(chosen, 5, split=split).query.x for split in ("meta-validation", "meta-test")]
    assert not torch.equal(*inputs)
    assert torch.equal(inputs[0], meta_test_tasks(chosen, 5, split="meta-validation").query.x)


def taken(*losses: list[float], alive: list[list[bool]] | None = None, irregular: int = 0) -> Best:
    """What is known after so many steps whose parameters are the number of the step."""
    best, num_seeds = None, len(losses[0])
    for step, found in enumerate(losses, start=1):
        here = torch.tensor(alive[step - 1] if alive else [True] * num_seeds)
        params = {"w": torch.full((num_seeds, 2, 1), float(step)), "b": torch.full((num_seeds,), float(step))}
        numbers = torch.tensor(found, dtype=torch.float64)
        best = measured(best, params, numbers, step, here, regular=step != irregular)
    assert best is not None
    return best


def test_the_first_of_equal_losses_counts_and_none_that_is_not_finite() -> None:
    nan, inf = float("nan"), float("inf")
    best = taken([2.0, nan, nan], [1.0, inf, 3.0], [1.0, inf, nan])
    assert best.step.tolist() == [2, 0, 2]
    assert best.loss.tolist() == [1.0, inf, 3.0]
    newest = {"w": torch.full((3, 2, 1), 9.0), "b": torch.full((3,), 9.0)}
    chosen = choose("best", newest, best, 4, torch.tensor([4, 4, 4]))
    assert chosen.steps == (2, 4, 2)  # where it was never finite, the newest
    assert chosen.losses == (1.0, None, 3.0)
    assert chosen.params["b"].tolist() == [2.0, 9.0, 2.0]
    assert chosen.params["w"][:, 1, 0].tolist() == [2.0, 9.0, 2.0]


def test_a_seed_that_has_diverged_keeps_its_best() -> None:
    best = taken([2.0, 2.0], [1.0, 1.0], alive=[[True, True], [True, False]])
    assert best.step.tolist() == [2, 1]
    newest = {"w": torch.full((2, 2, 1), 2.0), "b": torch.full((2,), 2.0)}
    assert choose("best", newest, best, 2, torch.tensor([2, 1])).steps == (2, 1)


def test_an_irregular_last_step_counts_there_and_is_forgotten_later() -> None:
    best = taken([2.0, 2.0], [3.0, 1.0], irregular=2)
    newest = {"w": torch.full((2, 2, 1), 2.0), "b": torch.full((2,), 2.0)}
    assert choose("best", newest, best, 2, torch.tensor([2, 2])).steps == (1, 2)
    assert choose("best", newest, best, 3, torch.tensor([3, 3])).steps == (1, 1)


@pytest.mark.usefixtures("poisoned")
def test_a_frozen_seed_of_a_run_is_evaluated_by_what_it_had_before(tmp_path: Path) -> None:
    frozen = config("outer.on_divergence=freeze", "evaluation.every_steps=2", "run.checkpoint_every_steps=1")
    run = mamlcli.train(frozen, out=tmp_path / "run").run
    rows = [row for row in metrics(run) if row["seed"] == 1 and "meta_validation_loss" in row]
    alive = [(row["meta_validation_loss"], row["step"]) for row in rows if row["diverged_at_step"] is None]
    assert [step for _, step in alive] == [2, 4]
    chosen = load_checkpoint(newest(run)).chosen("best")
    assert (chosen.losses[1], chosen.steps[1]) == min(alive)


def rewritten(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)
    return seal(path, path.read_bytes())


def copy_of(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("evaluation*")))


def test_a_checkpoint_of_an_earlier_version_has_no_best_and_can_be_used(tiny: Config, tmp_path: Path) -> None:
    whole = mamlcli.train(tiny, out=tmp_path / "whole").run
    run = mamlcli.train(tiny, out=tmp_path / "run").run
    for path in list_checkpoints(run / "checkpoints"):
        rewritten(path, lambda content: content.pop("best"))
    (run / "checkpoints" / "step-12.pt").unlink()
    assert load_checkpoint(newest(run)).best is None
    assert mamlcli.evaluate(run).protocol["parameters"] == "newest"
    assert_same_run(whole, mamlcli.train(tiny, out=run, resume=True).run)


NOT_A_BEST: dict[str, Callable[[dict[str, Any]], object]] = {
    "none": lambda best: best.clear(),
    "a loss that is no number": lambda best: best["loss"].__setitem__(0, float("nan")),
    "a loss that is text": lambda best: best["loss"].__setitem__(0, "small"),
    "fewer seeds": lambda best: best["step"].pop(),
    "a step that was not made": lambda best: best["step"].__setitem__(0, 25),
    "a step that was not measured": lambda best: best["step"].__setitem__(0, 4),
    "a huge step": lambda best: best["step"].__setitem__(0, 10**40),
    "a measurement to come": lambda best: best.update(at=23),
    "no newest": lambda best: best.update(newest=None),
    "another key": lambda best: best.update(more=1),
}


@pytest.mark.parametrize("name", NOT_A_BEST)
def test_what_cannot_be_the_best_is_refused(run: Path, tmp_path: Path, name: str) -> None:
    path = newest(copy_of(run, tmp_path))
    rewritten(path, lambda content: NOT_A_BEST[name](content["best"]))
    with pytest.raises(CheckpointError, match="of its best parameters"):
        load_checkpoint(path)


NOT_PARAMETERS: dict[str, Callable[[dict[str, torch.Tensor], str], object]] = {
    "not finite": lambda params, name: params[name].fill_(torch.inf),
    "other names": lambda params, name: params.update(other=params.pop(name)),
    "another shape": lambda params, name: params.update({name: torch.zeros(3, 2)}),
    "another dtype": lambda params, name: params.update({name: params[name].double()}),
    "no tensors": lambda params, name: params.update({name: 1}),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("wrong", NOT_PARAMETERS)
def test_best_parameters_that_do_not_fit_are_refused(run: Path, tmp_path: Path, wrong: str) -> None:
    other = copy_of(run, tmp_path)
    for path in list_checkpoints(other / "checkpoints")[1:]:
        path.unlink()

    def change(content: dict[str, Any]) -> None:
        params = content["best"]["params"]
        NOT_PARAMETERS[wrong](params, next(iter(params)))

    rewritten(newest(other), change)
    with pytest.raises(CheckpointError, match="the best parameters are"):
        mamlcli.evaluate(newest(other), out=tmp_path / "out")
    listener = Listener()
    with pytest.raises(CheckpointError):
        mamlcli.train(config(), out=other, resume=True, reporter=listener)
    assert "the best parameters are" in "".join(listener.notes)


def test_the_figure_shows_what_the_rows_say(run: Path) -> None:
    rows = open_run(run).metrics.read()
    figure = Drawing("loss", rows, {"title": "x"}).drawn()
    expected: dict[int, list[float]] = {}
    for row in rows:
        if "meta_validation_loss" in row:
            expected.setdefault(row["step"], []).append(row["meta_validation_loss"])
    steps, losses = drawn(figure, "meta-validation, after adaptation")
    assert steps == list(expected)
    assert losses == pytest.approx([np.mean(values) for values in expected.values()])
    steps, losses = drawn(figure, "star: least meta-validation loss of each seed")
    assert list(zip(losses, steps, strict=True)) == [value for _, value in sorted(least(run).items())]


def drawn(figure: Figure, label: str) -> tuple[list[float], list[float]]:
    """The points of a line, by its name in the legend."""
    (line,) = (line for line in figure.axes[0].lines if line.get_label() == label)
    x, y = (np.asarray(values, dtype=np.float64).tolist() for values in line.get_data())
    return x, y


def test_a_seed_without_a_finite_loss_has_no_star_and_a_frozen_one_keeps_its_own() -> None:
    rows = [
        {"step": step, "seed": seed, "pre_adapt_loss": 2.0, "post_adapt_loss": 1.0, "meta_validation_loss": loss}
        | {"diverged_at_step": 2 if seed == 1 and step > 1 else None}
        for step, losses in ((1, (3.0, 2.0, None)), (2, (1.0, 1.0, None)))
        for seed, loss in enumerate(losses)
    ]
    stars = drawn(Drawing("loss", rows, {"title": ""}).drawn(), "star: least meta-validation loss of each seed")
    assert stars == ([2.0, 1.0], [1.0, 2.0])


def test_without_the_loss_the_figure_stays_as_it_was(run: Path) -> None:
    rows = [row for row in open_run(run).metrics.read() if "meta_validation_loss" not in row]
    labels = [str(line.get_label()) for line in Drawing("loss", rows, {"title": "x"}).drawn().axes[0].lines]
    assert not [label for label in labels if "validation" in label or "star" in label]


@pytest.mark.parametrize(
    "overrides", [("evaluation.tasks=600",), ("evaluation={tasks: 300, grid: 500}", "tasks.support_shots=50")]
)
def test_the_estimate_of_measuring_it_is_within_a_factor_of_two_of_its_tensors(overrides: tuple[str, ...]) -> None:
    chosen = make_experiment(parse_config(MEASURED, overrides=[*overrides, "evaluation.every_steps=5"]))
    parts = training_estimate(chosen, make_plan(chosen, CPU)).parts
    params = chosen.initial_state(CPU).params
    peak = peak_memory_bytes(lambda: validation_loss(chosen, params, CPU, StopRequest()), CPU)
    estimate = sum(part.num_bytes for part in parts if "meta-validation" in part.name or "one meta-step" in part.name)
    assert peak / 2 < estimate < 2 * peak
    best = next(part for part in parts if part.name == "the best parameters so far")
    assert best.num_bytes == sum(theta.nbytes for theta in params.values())
