"""First against second order as a paired experiment."""

import json
import signal
from pathlib import Path

import pytest
import torch

import mamlcli
from mamlcli import Config, parse_config
from mamlcli.cli.comparison_report import comparison_report
from mamlcli.cli.tables import with_interval
from mamlcli.errors import InterruptedRunError
from mamlcli.experiment import in_order, make_experiment
from mamlcli.interrupts import SIGNALS, StopRequest
from mamlcli.measure import peak_memory_bytes
from mamlcli.proofs.reference import Textbook, loop_meta_gradient, module_outputs
from mamlcli.results import Comparison
from mamlcli.runs.checkpoints import list_checkpoints, load_checkpoint
from mamlcli.tasks.samples import Samples
from mamlcli.training import flat_per_seed
from mamlcli.types import ORDERS, Params
from tests import finite_worlds
from tests.conftest import TINY, Maml
from tests.same_run import assert_same_run, metrics
from tests.test_runs import InterruptAt


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return mamlcli.compare_orders(parse_config(TINY), out=tmp_path_factory.mktemp("compared") / "comparison")


def test_each_order_is_the_run_that_train_makes(comparison: Comparison, tiny: Config, tmp_path: Path) -> None:
    # So both have the same initial parameters and the same tasks: those of the seed.
    for order, run in comparison.runs.items():
        alone = mamlcli.train(in_order(tiny, order), out=tmp_path / order).run
        assert f"order: {order}" in (run / "config.yaml").read_text()
        assert_same_run(run, alone)


def test_both_orders_begin_with_the_same_losses(comparison: Comparison) -> None:
    first, second = ([row for row in metrics(run) if row["step"] == 1] for run in comparison.runs.values())
    assert [row["post_adapt_loss"] for row in first] == [row["post_adapt_loss"] for row in second]


def number(value: float | None) -> float:
    assert value is not None
    return value


def test_results_are_the_differences_of_the_evaluations(comparison: Comparison) -> None:
    assert len(comparison.results) == 2 * 4
    for row in comparison.results:
        means = {
            order: next(
                number(one["mean"])
                for one in comparison.evaluations[order]
                if one["seed"] == "all" and (one["shots"], one["inner_steps"]) == (row["shots"], row["inner_steps"])
            )
            for order in ("first", "second")
        }
        assert row["first"] == pytest.approx(means["first"])
        assert row["difference"] == pytest.approx(means["first"] - means["second"], abs=1e-9)
        assert number(row["low"]) <= number(row["difference"]) <= number(row["high"])


@pytest.mark.parametrize("override", [{"inner_steps": 0}, {"inner_lr": 0.0}])
def test_without_inner_steps_or_rate_every_difference_is_exactly_zero(
    tiny: Config, tmp_path: Path, override: dict[str, float]
) -> None:
    config = tiny.model_copy(update={"algorithm": tiny.algorithm.model_copy(update=override)})
    result = mamlcli.compare_orders(config, out=tmp_path / "comparison")
    assert {row[name] for row in result.results for name in ("difference", "low", "high")} == {0.0}
    newest = [load_checkpoint(list_checkpoints(run / "checkpoints")[0]).params for run in result.runs.values()]
    assert all(torch.equal(newest[0][name], newest[1][name]) for name in newest[0])
    assert [row["cosine"] for row in result.cosines] == pytest.approx([1.0] * len(result.cosines))


def test_the_folder_holds_tables_and_figures(comparison: Comparison) -> None:
    written = json.loads((comparison.run / "comparison.json").read_text())
    assert written["schema"] == "mamlcli.compare-orders/1"
    assert set(written) >= {"results", "cost", "runs", "cosines", "evaluations"}
    assert all(written["cost"][order]["ms_per_step"] > 0 for order in ("first", "second"))
    for stem in ("learning", "adaptation", "cosine"):
        assert all((comparison.run / f"{stem}.{suffix}").stat().st_size > 0 for suffix in ("png", "svg", "csv"))


def test_second_order_holds_more_memory(comparison: Comparison) -> None:
    cost = comparison.cost
    assert cost["second"]["peak_memory_bytes"] > cost["first"]["peak_memory_bytes"] > 0


def test_an_interrupted_comparison_saves_both_orders_and_continues_bit_for_bit(tiny: Config, tmp_path: Path) -> None:
    whole = mamlcli.compare_orders(tiny, out=tmp_path / "whole")
    with pytest.raises(InterruptedRunError, match="both orders are saved") as stopped:
        mamlcli.compare_orders(
            tiny, out=tmp_path / "parts", reporter=InterruptAt(8, signal.SIGTERM), stop=StopRequest(SIGNALS)
        )
    saved = tmp_path / "parts"
    assert f"  figure       {saved / 'learning.png'}\n" in str(stopped.value)
    command = f"to go on: maml compare-orders --config {saved / 'config.yaml'} --resume {saved}"
    assert stopped.value.command_line.endswith(command)
    parts = mamlcli.compare_orders(tiny, out=saved, resume=True)
    for order in whole.runs:
        assert_same_run(whole.runs[order], parts.runs[order])
    assert parts.results == whole.results
    assert parts.cosines == whole.cosines


def test_peak_memory_counts_what_is_held_at_once() -> None:
    def computation() -> torch.Tensor:
        one = torch.empty(1000, 1000)  # 4 MB
        other = one + 1  # 8 MB in all
        del one
        return (other * 2).sum()  # 8 MB again

    assert peak_memory_bytes(computation, torch.device("cpu")) == pytest.approx(8e6, rel=0.01)


def test_cosines_are_those_of_both_orders_on_the_tasks_of_the_next_step(tiny: Config, tmp_path: Path) -> None:
    changes = {"algorithm": {"inner_lr": 0.1, "inner_steps": 2}, "run": {"checkpoint_every_steps": 4}}
    config = tiny.model_copy(
        update={name: getattr(tiny, name).model_copy(update=values) for name, values in changes.items()}
    )
    result = mamlcli.compare_orders(config, out=tmp_path / "comparison")
    # The textbook: one task at a time, torch.nn, plain autograd, in float64.
    predict = module_outputs([1, 8, 1], "relu")

    def loss_fn(params: Params, samples: Samples) -> torch.Tensor:
        return ((predict(params, samples.x) - samples.y) ** 2).mean()

    expected = {}
    for path in list_checkpoints(result.runs["second"] / "checkpoints"):
        checkpoint = load_checkpoint(path)
        tasks = make_experiment(config).stream().batch(checkpoint.step).map(torch.Tensor.double)
        params = {name: value.double() for name, value in checkpoint.params.items()}
        textbook = Textbook(loss_fn, rates=lambda *_: 0.1, inner_steps=2)
        first, second = (flat_per_seed(loop_meta_gradient(textbook, params, tasks, order=order)[0]) for order in ORDERS)
        for seed in config.seeds:
            between = first[seed] @ second[seed] / (first[seed].norm() * second[seed].norm())
            expected[checkpoint.step, seed] = between.item()
    found = {(row["step"], row["seed"]): row["cosine"] for row in result.cosines if row["step"] > 1}
    assert found == pytest.approx(expected, abs=1e-5)
    assert {step for step, _ in found} == {4, 8, 12}
    assert max(cosine or 1.0 for cosine in found.values()) < 1 - 1e-3  # far from that of a gradient with itself


def test_joint_training_has_no_order_to_compare(maml: Maml) -> None:
    outcome = maml("compare-orders", "-c", "tiny.yaml", "--set", "algorithm.name=joint")
    assert outcome.code == 2
    assert "no order to compare" in outcome.err


def test_where_seeds_leave_out_different_tasks_a_repetition_is_what_a_seed_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    finite_worlds.register(monkeypatch)
    overrides = ("seeds=[0, 1, 2]", "tasks.folds=3", "evaluation.tasks=30", "outer.steps=3")
    config = parse_config(finite_worlds.CONFIG, overrides=overrides)
    result = mamlcli.compare_orders(config, out=tmp_path / "c")
    assert result.interval == (
        "95% interval of the paired difference, over tasks of one seed; nothing is known of other seeds"
    )
    own = next(row for row in result.evaluations["first"] if row["seed"] == 0 and row["inner_steps"] == 1)
    assert with_interval(own["mean"], own["ci95"]) in comparison_report(result, config)
