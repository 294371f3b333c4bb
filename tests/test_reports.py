"""Every report fits into 80 columns, whatever names, paths and numbers it is of."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mamlcli
from mamlcli.cli.comparison_report import comparison_report
from mamlcli.cli.doctor_report import doctor_report
from mamlcli.cli.gradient_report import gradient_report
from mamlcli.cli.prediction_report import predict_report
from mamlcli.cli.reports import eval_report, train_report
from mamlcli.cli.reproduction_report import reproduction_report, rows_report
from mamlcli.cli.tables import format_table, located
from mamlcli.commands.check_grads import check_grads
from mamlcli.commands.doctor import doctor
from mamlcli.commands.reproduction_rows import load_rows
from mamlcli.config.file import parse_config
from mamlcli.results import Comparison, EvalResult, GradientReport, PredictResult, Reproduction, TrainResult
from tests.conftest import TINY, Maml

NAME = "a-name-of-sixty-four-letters-which-is-as-many-as-there-can-be.yz"
CONFIG = parse_config(TINY.replace("name: tiny", f"name: {NAME}"))
HUGE = -1.234e38  # as large as float32 has them


def too_long(report: str) -> list[str]:
    """Lines of more than 80 columns, but for those that hold a path or a command alone."""
    long = [line for line in report.splitlines() if len(line) > 80]
    return [line for line in long if " " in line.removeprefix("maml eval ")]


def enlarged(value: Any) -> Any:
    """The same with numbers that take much room."""
    if isinstance(value, dict):
        return {name: enlarged(one) for name, one in value.items()}
    if isinstance(value, list):
        return [enlarged(one) for one in value]
    return HUGE if isinstance(value, float) else value


@pytest.fixture(scope="module", autouse=True)
def _no_figures() -> Iterator[None]:
    """Figures take most of the time, and are only named here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "mamlcli.runs.folder.RunFolder.save_figure", lambda self, stem, _: self.write_text(f"{stem}.png", "")
        )
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("of-a-folder-whose-name-alone-is-so-long-that-no-line-has-room-for-it")


@pytest.fixture(scope="module")
def trained(home: Path) -> TrainResult:
    return mamlcli.train(CONFIG, out=home / "run")


def test_what_training_and_its_evaluation_say_fits(trained: TrainResult, home: Path) -> None:
    assert len(NAME) == 64
    rows = [row | {"diverged_at_step": 54321} for row in enlarged(trained.metrics)]
    assert not too_long(train_report(trained.model_copy(update={"metrics": rows, "wall_s": 123456.7})))
    evaluated: EvalResult = mamlcli.evaluate(trained.run, overrides=("evaluation.tasks=5",), out=home / "tested")
    assert not too_long(eval_report(evaluated))
    rows = [row | {"diverged_at_step": 54321, "num_diverged_seeds": 1} for row in enlarged(evaluated.results)]
    assert not too_long(eval_report(evaluated.model_copy(update={"results": rows})))
    assert f"\n{trained.run}\n" in train_report(trained)


def test_a_comparison_fits(home: Path) -> None:
    result: Comparison = mamlcli.compare_orders(CONFIG, out=home / "orders")
    assert not too_long(comparison_report(result, CONFIG))
    fields = {"results": enlarged(result.results), "evaluations": enlarged(result.evaluations)}
    assert not too_long(comparison_report(result.model_copy(update=fields), CONFIG))


def test_checks_fit() -> None:
    report: GradientReport = check_grads(CONFIG)
    assert not too_long(gradient_report(report, CONFIG))
    failed = {
        "name": "fused meta-update in float32, 33 task(s)",
        "compared_with": "the plain one in float32 (failed: a reason that takes quite some room to be told)",
        "relative_error": None,
        "tolerance": 1.4e-6,
        "verdict": "says nothing here",
        "passed": True,
    }
    wide = report.model_copy(update={"checks": [*report.checks, failed], "info": enlarged(report.info)})
    said = gradient_report(wide, CONFIG)
    assert not too_long(said)
    assert re.search(r"says nothing here  fused meta-update in float32, 33 task\(s\) +inf +1.4e-06\n", said)


def test_predictions_fit(trained: TrainResult, home: Path) -> None:
    rows = "".join(f"{'task' * 20},{x},{x}\n" for x in range(3))
    (home / "own.csv").write_text(f"task,x,y\n{rows}")
    result: PredictResult = mamlcli.predict(trained.run, support=home / "own.csv", query=home / "own.csv")
    assert not too_long(predict_report(result))
    assert not too_long(predict_report(result.model_copy(update={"out": home / "own.csv", "predictions": None})))


def test_a_reproduction_and_the_list_of_its_rows_fit(maml: Maml) -> None:
    assert not too_long(rows_report(load_rows([])))
    assert maml("reproduce", "zero", "--fast", "--out", "back", "-q").code == 0
    found = Reproduction.model_validate_json(Path("back/reproduction.json").read_text())
    wide = {"relation": "at_least", "published": 0.835, "published_ci95": 0.155, "mean": 123.4, "ci95": 12.3}
    long = {"row": "maml-alpha-0.001-torch-init", "verdict": "inconclusive", "num_diverged": 1234}
    rows = [*found.results, found.results[0] | long | wide]
    pair = {"row": "maml-alpha-0.001-torch-init", "beside": "maml-alpha-0.001", "shots": 10, "inner_steps": 10}
    pair |= {"difference": -123.456, "ci95": 123.456, "ci90": 1.0, "margin": 12.3, "verdict": "inconclusive"}
    said = reproduction_report(found.model_copy(update={"results": rows, "pairs": [pair]}))
    assert not too_long(said)
    assert "maml-alpha-0.001-torch-init" in said


def test_what_the_doctor_says_is_one_screen() -> None:
    found = doctor(CONFIG)
    said = doctor_report(found)
    assert not too_long(said)
    assert len(said.splitlines()) <= 24


def test_text_is_wrapped_where_a_table_is_too_wide_and_numbers_never_are() -> None:
    rows = [{"text": "some words of a sentence", "one": 1.23456e100, "other": 1}]
    assert format_table(rows, left=("text",), width=30) == "\n".join(
        [
            "text                one  other",
            "-----------  ----------  -----",
            "some words   1.235e+100      1",
            "of a",
            "sentence",
        ]
    )
    assert max(map(len, format_table(rows, left=("text",), width=10).splitlines())) > 17
    assert located("run", "x" * 67) == f"run          {'x' * 67}"
    assert located("run", "x" * 68) == f"run\n{'x' * 68}"
