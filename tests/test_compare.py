"""`maml compare`: runs of any methods on the same meta-test tasks, paired by seed and task."""

import json
import math
import shutil
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import ttest_rel

import mamlcli
from mamlcli import Config, parse_config
from mamlcli.cli.compared_report import compared_report
from mamlcli.commands.compare import compare
from mamlcli.errors import CheckpointError, InterruptedRunError, UsageError
from mamlcli.experiment import make_experiment
from mamlcli.figures.methods import method_color, method_styles
from mamlcli.interrupts import StopRequest
from mamlcli.meta_test.measure import meta_test_tasks
from mamlcli.proofs.reference import module_outputs
from mamlcli.results import ComparedRuns
from mamlcli.rows import PairedRow
from mamlcli.runs.checkpoints import list_checkpoints, load_checkpoint
from tests import finite_worlds
from tests.conftest import TINY, Maml

SECOND = parse_config(TINY, overrides=("name=second", "seeds=[0, 1]"))
# Another learning rate, more seeds in another order, and another meta-test.
JOINT = parse_config(
    TINY,
    overrides=(
        *("name=joint", "seeds=[2, 1, 0]", "algorithm.name=joint", "algorithm.inner_lr=0.05"),
        *("evaluation.tasks=5", "evaluation.shots=[4]", "tasks.amplitude=[1.0, 2.0]"),
    ),
)
# Almost the same run as the first: what the tasks have in common is nearly all there is.
NEAR = SECOND.model_copy(update={"name": "near", "outer": SECOND.outer.model_copy(update={"lr": 0.0011})})


class Made(NamedTuple):
    second: Path
    joint: Path
    near: Path
    result: ComparedRuns


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Three runs, and the last two compared with the first."""
    folder = tmp_path_factory.mktemp("compared")
    second, joint, near = (mamlcli.train(config, out=folder / config.name).run for config in (SECOND, JOINT, NEAR))
    return Made(second, joint, near, compare(second, joint, near, out=folder / "comparison"))


def textbook_losses(run: Path, shots: int, steps: int) -> NDArray[np.float64]:
    """The loss of each seed and task as the first run is tested: one by one, by hand, in double precision."""
    checkpoint = load_checkpoint(list_checkpoints(run / "checkpoints")[0])
    tasks = meta_test_tasks(make_experiment(SECOND), shots).map(torch.Tensor.double)
    predict, rate = module_outputs([1, 8, 1], "relu"), checkpoint.config.algorithm.model_dump()["inner_lr"]

    def loss(params: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return ((predict(params, x) - y) ** 2).mean()

    found = np.empty((len(SECOND.seeds), SECOND.evaluation.tasks))
    for row, task in product(range(found.shape[0]), range(found.shape[1])):
        place = checkpoint.config.seeds.index(SECOND.seeds[row])
        params = {name: value[place].double().requires_grad_() for name, value in checkpoint.params.items()}
        for _ in range(steps):
            level = loss(params, tasks.support.x[task], tasks.support.y[task])
            stepped = zip(params.items(), torch.autograd.grad(level, list(params.values())), strict=True)
            params = {name: (value - rate * by).detach().requires_grad_() for (name, value), by in stepped}
        found[row, task] = loss(params, tasks.query.x[task], tasks.query.y[task]).item()
    return found


def row_of(result: ComparedRuns, run: str, shots: int, steps: int) -> PairedRow:
    (row,) = [row for row in result.results if (row["run"], row["shots"], row["inner_steps"]) == (run, shots, steps)]
    return row


def half(row: PairedRow) -> float:
    assert row["high"] is not None
    assert row["low"] is not None
    return (row["high"] - row["low"]) / 2


@pytest.mark.parametrize(("shots", "steps"), [(3, 0), (5, 3)])
def test_rows_are_those_of_losses_computed_by_hand_on_the_seeds_in_common(made: Made, shots: int, steps: int) -> None:
    first, second = (textbook_losses(run, shots, steps) for run in (made.second, made.joint))
    row = row_of(made.result, "joint", shots, steps)
    assert row["mean"] == pytest.approx(second.mean(), rel=1e-4)
    assert row["median"] == pytest.approx(np.median(second), rel=1e-4)
    assert row["difference"] == pytest.approx((second - first).mean(), rel=1e-4, abs=1e-5)
    assert row_of(made.result, "second", shots, steps)["mean"] == pytest.approx(first.mean(), rel=1e-4)


def test_with_one_seed_the_interval_is_that_of_a_paired_t_test(made: Made, tmp_path: Path) -> None:
    config = SECOND.model_copy(update={"name": "alone", "seeds": (1,)})
    alone = mamlcli.train(config, out=tmp_path / "alone").run
    result = compare(made.second, alone, made.joint, baseline=alone, out=tmp_path / "c")
    assert (result.baseline, result.seeds) == ("alone", (1,))
    ours, theirs = (textbook_losses(run, 5, 2)[1] for run in (made.joint, made.second))
    expected = ttest_rel(ours, theirs).confidence_interval(0.95)
    row = row_of(result, "joint", 5, 2)
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high), rel=1e-3)
    assert result.interval == "over tasks of one seed; nothing is known of other seeds"
    # Seed 1 of two seeds is seed 1 alone.
    assert row_of(result, "second", 5, 2)["difference"] == pytest.approx(0.0, abs=1e-6)


def test_pairing_finds_a_difference_that_unpaired_intervals_hide(made: Made) -> None:
    one, other = row_of(made.result, "second", 5, 3), row_of(made.result, "near", 5, 3)
    assert other["ci95"] is not None
    assert one["ci95"] is not None
    assert half(other) < 0.2 * math.hypot(other["ci95"], one["ci95"])


def test_what_is_tested_otherwise_is_tested_again_and_said(made: Made, tmp_path: Path) -> None:
    joint = made.result.runs[1]
    assert joint["tested_otherwise"] == ["tasks.amplitude=[1.0, 2.0]", "evaluation.tasks=5", "evaluation.shots=[4]"]
    assert made.result.runs[0]["tested_otherwise"] == made.result.runs[2]["tested_otherwise"] == []
    said = "joint was tested again, as second is: its own meta-test has tasks.amplitude=[1.0, 2.0]"
    assert any(note.startswith(said) for note in made.result.notes)
    settings = ("evaluation.tasks=7", "evaluation.shots=[3, 5]", "tasks.amplitude=[0.1, 5.0]")
    alone = mamlcli.evaluate(made.joint, overrides=settings, out=tmp_path / "e").results
    of_both = [row["mean"] for row in alone if (row["shots"], row["inner_steps"]) == (5, 3) and row["seed"] in (0, 1)]
    assert row_of(made.result, "joint", 5, 3)["mean"] == pytest.approx(np.mean(np.array(of_both, dtype=float)))


def test_only_seeds_that_all_have_are_paired_and_the_others_named(made: Made) -> None:
    assert made.result.seeds == (0, 1)
    assert [run["seeds_left_out"] for run in made.result.runs] == [(), (2,), ()]
    assert "joint: left out, since not all runs have them: seeds 2" in made.result.notes
    assert all((run["ms_per_step"] or 0) > 0 and (run["peak_memory_bytes"] or 0) > 0 for run in made.result.runs)


def test_times_that_hold_the_work_of_other_runs_are_named(made: Made, tmp_path: Path) -> None:
    moments = {"one": ("09:00", "10:00", 0), "two": ("09:59", "11:00", 0), "three": ("11:00", "12:00", 5)}
    for name, (begun, ended, beside) in moments.items():
        shutil.copytree(made.second, tmp_path / name)
        info = json.loads((tmp_path / name / "run.json").read_text())
        info["sessions"][-1] |= {"started": f"2026-01-01T{begun}", "ended": f"2026-01-01T{ended}", "beside": beside}
        (tmp_path / name / "run.json").write_text(json.dumps(info))
    notes = compare(*(tmp_path / name for name in moments), out=tmp_path / "c").notes
    assert notes[-2:] == [
        "the time of three is that of a program that trained 5 other runs too",
        "trained at the same time, which their times hold: one, two",
    ]


def test_statements_follow_the_margin(made: Made, tmp_path: Path) -> None:
    for margin, expected in ((1e9, {"equivalent"}), (0.0, {"better", "worse", "inconclusive"})):
        result = compare(made.second, made.joint, margin=margin, out=tmp_path / f"{margin}")
        assert {row["statement"] for row in result.results if row["run"] == "joint"} <= expected
        assert {row["statement"] for row in result.results if row["run"] == "second"} == {None}


def test_a_run_that_does_not_stay_finite_is_diverged_and_counted(made: Made, tmp_path: Path) -> None:
    result = compare(made.second, made.near, overrides=["algorithm.inner_lr=1e30"], out=tmp_path / "c")
    row = row_of(result, "near", 5, 3)
    assert (row["mean"], row["difference"], row["statement"], row["num_diverged"]) == (None, None, "diverged", 14)
    assert len(result.figures) == 2


def test_seeds_that_were_frozen_in_training_are_named(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = "mamlcli.runs.checkpoints.Checkpoint.frozen"
    monkeypatch.setattr(frozen, property(lambda one: {1: 6} if one.config.name == "near" else {}))
    result = compare(made.second, made.near, out=tmp_path / "c")
    assert [run["seeds_diverged"] for run in result.runs] == [(), (1,)]
    assert "near: diverged in training, and counted with the parameters they kept: seeds 1" in result.notes


def test_where_seeds_leave_out_different_tasks_each_task_is_paired_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    finite_worlds.register(monkeypatch)
    common = ("seeds=[0, 1, 2]", "tasks.folds=3", "evaluation.tasks=30", "outer.steps=3")
    runs = [
        mamlcli.train(parse_config(finite_worlds.CONFIG, overrides=(*common, *more)), out=tmp_path / more[0]).run
        for more in (("name=one",), ("name=other", "algorithm.order=first"))
    ]
    result = compare(*runs, out=tmp_path / "c")
    assert (result.tasks, result.interval) == (30, "over tasks of one seed; nothing is known of other seeds")
    same = compare(runs[1], runs[0], out=tmp_path / "turned")
    for row, turned in zip(result.results, same.results, strict=True):
        if row["difference"] is not None and turned["difference"] is not None:
            assert row["difference"] == pytest.approx(-turned["difference"])
    other = parse_config(finite_worlds.CONFIG, overrides=(*common, "name=more", "tasks.num_tasks=33"))
    with pytest.raises(UsageError, match=r"different tasks.*\n  tasks\.num_tasks: 30 in one, 33 in more"):
        compare(runs[0], mamlcli.train(other, out=tmp_path / "more").run)


def test_what_cannot_be_compared_is_refused_before_anything_is_written(
    made: Made, maml: Maml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY)
    (tmp_path / "seven.yaml").write_text(TINY.replace("seeds: [0, 1]", "seeds: [7]"))
    (tmp_path / "doses.yaml").write_text(TINY.replace("name: tiny", "name: doses\ntasks: {family: dose_response}"))
    run = made.second
    refused: list[tuple[tuple[object, ...], int, str]] = [
        ((run,), 2, "one run alone cannot be compared; name another: maml compare RUN RUN"),
        ((run, run), 2, "is named twice: a run does not differ from itself"),
        ((run, "nowhere"), 4, "nowhere: no such run folder"),
        ((run, "tiny.yaml"), 2, "tiny.yaml is an experiment, not a run: maml compare --configs ... trains"),
        ((run, "quickstart"), 2, "quickstart is an experiment, not a run"),
        ((run, made.result.run), 4, "not a folder of maml train"),
        ((run, made.near, "--seeds", "1"), 2, "seeds are of what is trained"),
        ((run, made.near, "--set", "outer.lr=1"), 2, "cannot change what was trained"),
        ((run, made.near, "--baseline", "nowhere"), 4, "nowhere: no such run folder"),
        (("--configs",), 2, "name the experiments"),
        (("--configs", run), 2, "is a folder; after --configs stand experiments"),
        (("--configs", "tiny.yaml", "doses.yaml"), 2, "  tasks.family: sinusoid in tiny, dose_response in doses"),
        (("--configs", "tiny.yaml", "seven.yaml"), 2, "no seed is common to all runs"),
        ((), 2, "nothing to compare; name two runs"),
        (("--resume", made.result.run, "--margin", "0.1"), 2, "is in the folder of the comparison"),
        ((run, made.near, "--resume", made.result.run), 2, "is a comparison of something else"),
        (("--resume", run), 4, "not a folder of maml compare"),
        ((run, made.near, "--out", run), 3, "exists already; name a new folder"),
    ]
    for options, code, said in refused:
        outcome = maml("compare", *options)
        assert outcome.code == code, options
        assert said in outcome.err, options
    assert {path.name for path in tmp_path.iterdir()} == {"tiny.yaml", "seven.yaml", "doses.yaml"}
    # A folder that is called like an experiment that comes along does not hide it.
    (tmp_path / "quickstart").mkdir()
    outcome = maml("compare", "--configs", "quickstart", "doses.yaml")
    assert "tasks.family: sinusoid in quickstart, dose_response in doses" in outcome.err


def test_experiments_are_trained_and_a_comparison_is_gone_on_with_by_its_folder_alone(
    maml: Maml, folder: Path, tiny: Config
) -> None:
    (folder / "other.yaml").write_text(TINY + "algorithm: {order: first}\n")
    stop = StopRequest()
    stop.ask()
    configs = {"one": tiny, "other": tiny.model_copy(update={"algorithm": tiny.algorithm.in_order("first")})}
    with pytest.raises(InterruptedRunError, match="pass out='c' and resume=True") as stopped:
        compare(configs=configs, seeds=[0, 1], out="c", stop=stop)
    assert stopped.value.command_line.endswith("to go on: maml compare --resume c")
    assert json.loads((folder / "c" / "run.json").read_text())["status"] == "interrupted"
    assert "go on:     maml compare --resume c" in maml("runs", "show", "c").out
    found = maml("compare", "--resume", "c", "--json")
    result = ComparedRuns.model_validate_json(found.out)
    assert [run["path"] for run in result.runs] == [Path("c/runs/one"), Path("c/runs/other")]
    assert [run["outer_steps"] for run in result.runs] == [12, 12]
    made = (folder / "c" / "runs" / "one" / "metrics.jsonl").stat().st_mtime_ns
    again = maml("compare", "--resume", "c", "-q")
    assert (again.code, (folder / "c" / "runs" / "one" / "metrics.jsonl").stat().st_mtime_ns) == (0, made)
    written = json.loads((folder / "c" / "comparison.json").read_text())
    assert written["results"] == json.loads(found.out)["results"]
    assert maml("report", "c").code == 0
    where = (folder / "c" / "report.md").read_text().partition("## Where it comes from")[2]
    assert [line for line in where.splitlines() if line.startswith("### ")] == [
        *(f"### Process {number} of 3" for number in (1, 2, 3)),
        "### one",
        "### other",
    ]
    # Trained by itself, it is the same run.
    alone = mamlcli.train(tiny, out="alone").run
    assert row_of(compare("c/runs/one", alone), "alone", 5, 3)["difference"] == 0.0


def test_a_comparison_goes_on_without_what_could_not_be_trained_while_two_are_left(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reasons = {"failing": "seed 0 diverged"}
    monkeypatch.setattr("mamlcli.commands.compare.train_side_by_side", lambda *_, **__: reasons)
    failing = {"failing": SECOND}
    result = compare(made.second, made.near, configs=failing, out=tmp_path / "c")
    assert "failing is missing, since it could not be trained: seed 0 diverged" in result.notes
    assert [run["run"] for run in result.runs] == ["second", "near"]
    with pytest.raises(CheckpointError, match="these could not be trained:\n  failing: seed 0 diverged"):
        compare(made.second, configs=failing, out=tmp_path / "d")


def test_a_terminal_and_a_report_show_it(made: Made, maml: Maml) -> None:
    said = compared_report(made.result)
    assert [line for line in said.splitlines() if len(line) > 80 and str(made.result.run) not in line] == []
    assert "K = 3\nsteps  run " in said
    assert "joint   joint training" in said
    assert maml("report", made.result.run).code == 0
    page = (made.result.run / "report.md").read_text()
    assert "second and joint and near, compared" in page
    assert f"maml compare --resume {made.result.run}" in page
    assert {path.stem for path in made.result.figures} == {"adaptation", "differences"}
    assert mamlcli.plot(made.result, "differences").axes
    assert "comparison" in maml("runs", "ls", made.result.run).out
    assert made.result.table()[0]["run"] == "second"
    assert "<img" in made.result._repr_html_()


def test_a_method_has_its_colour_whatever_stands_beside_it() -> None:
    titles = ["joint training", "second-order MAML", "first-order MAML", "a method of one's own"]
    for chosen in (titles, titles[1:], titles[::-1]):
        assert [style.color for style in method_styles(chosen)] == list(map(method_color, chosen))
    alike = method_styles(["second-order MAML"] * 8)
    assert len({(style.marker, style.dashes) for style in alike}) == 8
    assert len({style.color for style in alike[:3]}) == 3
