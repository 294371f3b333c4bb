"""The rows of `maml check-grads` that compare the kernel in float32: faults of it alone are caught, rounding is not."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mamlcli import Config, load_config, parse_config
from mamlcli.commands.check_grads import check_grads
from mamlcli.commands.reproduction_rows import load_rows
from mamlcli.compute.fused import library
from mamlcli.compute.plan import kernel_obstacles
from mamlcli.experiment import make_experiment
from mamlcli.float32_checks import float32_checks, rounding_tolerance, smooth_tasks
from mamlcli.methods.inner_loops import constant_rate, gradient_descent
from mamlcli.methods.meta_gradients import unrolled
from mamlcli.proofs.checks import Check
from mamlcli.tasks.samples import Samples, Task
from tests.conftest import ROOT, Maml, needs_compiler

CPU = torch.device("cpu")

# Faults of the float32 kernel; the float64 one stays as it is.
_KEPT = "const Lanes kept = mask ? lanes : Lanes{};"
_LEFT_OUT = (
    "Lanes kept = mask ? lanes : Lanes{}; if (sizeof(T) == 4) for (int i = 0; i < width; i++) if (%s) kept[i] = 0;"
)
FAULTS = {
    "the upper half of the lanes left out": (_KEPT, _LEFT_OUT % "i >= width / 2"),
    "the lower half of the lanes left out": (_KEPT, _LEFT_OUT % "i < width / 2"),
    "every other lane left out": (_KEPT, _LEFT_OUT % "i % 2 == 1"),
    "alpha off by a thousandth": (
        "T(problem.inner_lr[seed])",
        "T(problem.inner_lr[seed] * (sizeof(T) == 4 ? 1.001 : 1))",
    ),
    "learned rates off by a hundredth": (
        "Lanes{} - learned[i]",
        "Lanes{} - learned[i] * T(sizeof(T) == 4 ? 1.01 : 1)",
    ),
    "the mean over tasks a sum": (
        "const T share = T(1) / problem.tasks;",
        "const T share = sizeof(T) == 4 ? T(1) : T(1) / problem.tasks;",
    ),
}

ODD_SIZES = {
    "one task of one seed": ["seeds=[4]", "outer.meta_batch_size=1"],
    "a task more than lanes": ["seeds=[0]", "outer.meta_batch_size=17"],
    "two seeds in a vector": ["seeds=[0, 1]", "outer.meta_batch_size=5", "algorithm.order=first"],
    "three seeds of seven": ["seeds=[2, 3, 7]", "outer.meta_batch_size=7", "algorithm.inner_steps=5"],
    "ten inner steps": ["seeds=[0]", "outer.meta_batch_size=33", "algorithm.inner_steps=10"],
    "no hidden layer": ["seeds=[0]", "outer.meta_batch_size=3", "model.hidden_sizes=[]"],
    "the original initialisation": ["model.init=truncated_normal", "outer.meta_batch_size=2"],
    "odd layers and shots": ["model.hidden_sizes=[9, 7, 5]", "tasks.support_shots=3", "tasks.query_shots=11"],
}


def shipped() -> dict[str, Config]:
    """The configs of the repository that train with the kernel, one of those that it computes the same for."""
    configs = {path.stem: load_config(path) for path in sorted((ROOT / "configs").glob("*.yaml"))}
    configs |= {name: row.config for name, row in load_rows([]).items()}
    fused = {name: config for name, config in configs.items() if not kernel_obstacles(make_experiment(config), CPU)}
    names = {(c.seeds, c.tasks, c.model, c.algorithm, c.outer.meta_batch_size): name for name, c in fused.items()}
    return {name: fused[name] for name in names.values()}


def shows(config: Config, fault: str) -> bool:
    """Whether a fault would change what is computed, and is worth trying: those of lanes once for each plain config."""
    descent = make_experiment(config).method.descent
    assert descent is not None
    if fault == "learned rates off by a hundredth":
        return descent.rates is not None
    if descent.is_plain and descent.inner_steps > 0:
        return True
    return fault == "the mean over tasks a sum" and config.outer.meta_batch_size > 1


CONFIGS = shipped() | {name: parse_config("name: x", overrides=changes) for name, changes in ODD_SIZES.items()}


@pytest.fixture(scope="session")
def planted_sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for changed sources and the libraries built of them, each of which is built once."""
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture
def plant(planted_sources: Path, unload: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let the kernel be one with a fault."""

    def planted(fault: str) -> None:
        unload()
        right, wrong = FAULTS[fault]
        folder, changed = planted_sources / fault.replace(" ", "-"), 0
        folder.mkdir(exist_ok=True)
        for source in (library._SOURCE, *library._HEADERS):
            text = source.read_text("utf-8")
            changed += text.count(right)
            (folder / source.name).write_text(text.replace(right, wrong), "utf-8")
        assert changed == 1
        monkeypatch.setenv("XDG_CACHE_HOME", str(planted_sources))
        monkeypatch.setattr(library, "_SOURCE", folder / library._SOURCE.name)
        monkeypatch.setattr(library, "_HEADERS", [folder / header.name for header in library._HEADERS])

    return planted


def rows_of(name: str) -> list[Check]:
    config = CONFIGS[name]
    engine = config.engine.model_copy(update={"compile": "on"})  # for configs that are too short to earn it back
    return float32_checks(config.model_copy(update={"engine": engine}))


@needs_compiler
@pytest.mark.parametrize("name", CONFIGS)
def test_the_kernel_is_within_half_of_the_tolerance(name: str) -> None:
    for row in rows_of(name):
        assert row.verdict == "holds"
        assert row.relative_error < row.tolerance / 2
        assert row.tolerance < 1e-5


@needs_compiler
@pytest.mark.parametrize(
    ("name", "fault"), [(name, fault) for name in CONFIGS for fault in FAULTS if shows(CONFIGS[name], fault)]
)
def test_a_fault_of_the_float32_kernel_alone_is_caught(plant: Callable[[str], None], name: str, fault: str) -> None:
    plant(fault)
    failed = [row for row in rows_of(name) if row.verdict == "fails"]
    assert failed
    # Least of all shows a thousandth of an alpha of 0.001 at weights of 0.01: 2.3 times the tolerance.
    assert max(row.relative_error / row.tolerance for row in failed) > 2
    assert all("float32" in row.name for row in failed)


@needs_compiler
def test_what_double_precision_cannot_see_fails_the_command(maml: Maml, plant: Callable[[str], None]) -> None:
    plant("alpha off by a thousandth")
    outcome = maml("check-grads", "-c", "tiny.yaml", "--set", "engine.compile=on", "--json")
    assert outcome.code == 1
    verdicts = {row["name"]: row["verdict"] for row in json.loads(outcome.out)["checks"]}
    assert {name for name, verdict in verdicts.items() if verdict == "fails"} == {
        "fused meta-update in float32, 3 task(s)",
        "fused meta-update in float32, 17 task(s)",
    }
    assert verdicts["fused meta-update"] == "holds"


def test_where_the_kernel_does_not_train_there_is_no_row_of_it(tiny: Config) -> None:
    assert not [check for check in check_grads(tiny).checks if "float32" in check["name"]]


@pytest.mark.parametrize("num_terms", [10, 100, 1000])
def test_the_tolerance_holds_for_sums_in_another_order_and_sees_a_term_left_out(num_terms: int) -> None:
    # 300 sums: pairwise as NumPy does them, one term after the other, and in float64.
    terms = np.random.default_rng(0).normal(size=(300, num_terms)).astype(np.float32)
    exact = terms.astype(np.float64).sum(axis=1)
    pairwise, in_a_row = terms.sum(axis=1), np.cumsum(terms, axis=1, dtype=np.float32)[:, -1]

    def error(sums: np.ndarray) -> float:
        return float(np.linalg.norm(sums - exact) / np.linalg.norm(exact))

    tolerance = rounding_tolerance(error(pairwise), num_terms)
    assert 0 < error(in_a_row) < tolerance < 10 * max(error(in_a_row), error(pairwise)) + 1e-6
    assert error(in_a_row - terms[:, 0]) > 1000 * tolerance


def test_of_tasks_only_those_are_taken_whose_activations_are_not_about_to_change_sides(tiny: Config) -> None:
    # A unit relu(x - 1) has its kink at 1: x is there in the tasks 1 and 3 of the first batch.
    params = {
        "layer0.weight": torch.ones(1, 1, 1),
        "layer0.bias": -torch.ones(1, 1),
        "layer1.weight": torch.ones(1, 1, 1),
        "layer1.bias": torch.zeros(1, 1),
    }

    def batch(*inputs: float) -> Task:
        x = torch.tensor(inputs).view(1, -1, 1, 1)
        return Task(Samples(x, x + 2), Samples(x, x + 2))

    loss_fn = make_experiment(tiny).loss_fn
    gradient = unrolled(gradient_descent(loss_fn, constant_rate(0.0)), loss_fn, inner_steps=0, order="first")
    batches = [batch(2.0, 1.0 + 1e-6, 3.0, 1.0), batch(4.0, 5.0, 6.0, 7.0), batch(0.5, 0.5, 0.5, 0.5)]
    chosen = smooth_tasks(gradient, params, batches, 4)
    assert chosen.query.x.flatten().tolist() == [2.0, 3.0, 4.0, 5.0]
    assert torch.equal(chosen.support.y, chosen.support.x + 2)
    fewer = smooth_tasks(gradient, params, batches[:1], 4)
    assert fewer.query.x.flatten().tolist() == [2.0, 3.0]
    with pytest.raises(RuntimeError, match="in each an activation is about to change sides"):
        smooth_tasks(gradient, params, [batch(1.0, 1.0)], 2)
