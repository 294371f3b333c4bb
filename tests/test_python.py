"""The Python API as a program and a notebook meet it: typed names, help, and nothing done behind their back."""

import ast
import asyncio
import inspect
import json
import os
import pkgutil
import pydoc
import re
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pytest
import torch
from mypy import api

import mamlcli as m
from mamlcli import Config
from mamlcli.errors import UsageError
from mamlcli.training import scheduled_lr
from mamlcli.types import Row
from tests.conftest import ROOT, TINY
from tests.same_run import assert_same_run

PACKAGE = Path(m.__file__).parent
PROGRAM = """
import mamlcli as m

def listen(logged: m.LoggedStep) -> None:
    logged.step.bit_length()

config: m.Config = m.load_config("quickstart")
run: m.TrainResult = m.train(config, on_step=listen)
last: m.RunLike = run
table: m.Table = m.evaluate(last).table()
m.load(run).metrics().groupby("seed")
table.to_pandas()["mean"].mean()
m.__version__.split(".")
"""
QUERY, SUPPORT = "task,x\na,0.5\nb,1\n", "task,x,y\na,-1,0.2\na,1,0.4\nb,0,1\n"


class Made(NamedTuple):
    """What some tests look at, and none changes."""

    run: m.TrainResult
    orders: m.Comparison
    checks: m.GradientReport
    support: Path
    query: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A run, a comparison of the same config, its checks, and tasks in two files."""
    config, folder = m.parse_config(TINY), tmp_path_factory.mktemp("made")
    (folder / "support.csv").write_text(SUPPORT)
    (folder / "query.csv").write_text(QUERY)
    run, orders = m.train(config, out=folder / "run"), m.compare_orders(config, out=folder / "orders")
    return Made(run, orders, m.check_grads(config), folder / "support.csv", folder / "query.csv")


def test_a_typo_of_a_public_name_fails_mypy_and_what_is_right_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM + "m.trian(config)\nm.evaluate(run).tabel()\nm.evaluate(config)\n")
    options = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache")]
    monkeypatch.setenv("MYPYPATH", str(PACKAGE.parent))
    said, _, code = api.run([*options, str(program)])
    wrong = [line.rpartition("  ")[2] for line in said.splitlines() if ": error: " in line]
    assert (code, wrong) == (1, ["[attr-defined]", "[attr-defined]", "[arg-type]"]), said
    assert 'Module has no attribute "trian"' in said


def test_what_type_checkers_read_is_what_there_is() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    read = {
        alias.asname: f"{node.module}.{alias.name}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert read == {name: f"mamlcli.{home}.{name}" for name, home in m._HOMES.items()}
    # A module of that name would hide it once it is imported.
    assert not {module.name for module in pkgutil.iter_modules(m.__path__)} & set(m.__all__)


def test_dir_and_help_show_every_public_name() -> None:
    assert {name for name in dir(m) if not name.startswith("__")} == set(m.__all__)
    help_text = pydoc.plain(pydoc.render_doc(m))
    overview = help_text[: help_text.index("PACKAGE CONTENTS")]
    for name in m.__all__:
        assert name in re.findall(r"\w+", overview), name
        value = getattr(m, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert (value.__doc__ or "none").splitlines()[0] in help_text, name
    assert "Train an experiment and write its run folder." in help_text


def test_a_name_that_is_not_there_is_refused_with_the_one_that_was_meant() -> None:
    code = "import mamlcli as m\nm.trian"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd="/").stderr
    assert "module 'mamlcli' has no attribute 'trian'. Did you mean: 'train'?" in said


class Surroundings(NamedTuple):
    """What a program may have set, and no call may change."""

    signals: list[Any]
    threads: int
    dtype: torch.dtype
    grad: bool
    smallest: float
    random: str
    warned: list[Any]
    folder: str
    environment: dict[str, str]
    style: str
    errors: str
    hook: Any


def surroundings(known: Sequence[Any] = ()) -> Surroundings:
    """What is set; of filters of warnings those that were known, since packages add some where they are imported."""
    state = np.random.get_state(legacy=False)  # noqa: NPY002
    return Surroundings(
        signals=[signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)],
        threads=torch.get_num_threads(),
        dtype=torch.get_default_dtype(),
        grad=torch.is_grad_enabled(),
        smallest=torch.tensor(1e-40).mul(1).item(),
        random=repr((state, torch.random.get_rng_state().tolist())),
        warned=[one for one in warnings.filters if one in known] if known else list(warnings.filters),
        folder=str(Path.cwd()),
        environment=dict(os.environ),
        style=repr(mpl.rcParams),
        errors=repr(np.geterr()),
        hook=sys.excepthook,
    )


@contextmanager
def left_alone(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Whether what is inside says nothing and leaves everything as it was, on two threads in double precision."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    capfd.readouterr()
    try:
        before = surroundings()
        yield
        after = surroundings(before.warned)
    finally:
        torch.set_num_threads(threads)
    for name, one in before._asdict().items():
        assert getattr(after, name) == one, name
    assert capfd.readouterr() == ("", "")


def test_no_call_prints_exits_or_changes_what_is_around_it(
    made: Made, tiny: Config, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    del folder
    run, support, query = made.run, made.support, made.query
    calls: dict[str, Callable[[], object]] = {
        "train": lambda: m.train(tiny, out="other"),
        "resume": lambda: m.train(tiny, out="other", resume=True),
        "evaluate": lambda: m.evaluate(run, out="evaluated"),
        "compare": lambda: m.compare(run, made.orders.runs["first"], out="compared"),
        "compare_orders": lambda: m.compare_orders(tiny, out="orders"),
        "check_grads": lambda: m.check_grads(tiny),
        "predict": lambda: m.predict(run, support=support, query=query, plot="fit.png"),
        "load": lambda: m.load(run).adapt([0, 1, 2], [1, 2, 3])([3.0]),
        "metrics": lambda: m.load(run).metrics(),
        "reproduce": lambda: m.reproduce(["zero"], fast=True, out="published"),
    }
    for call in calls.values():
        with left_alone(capfd):
            call()


def test_no_signal_is_handled_while_a_program_hears_of_steps(tiny: Config, folder: Path) -> None:
    before, heard = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)], []

    def listen(logged: m.LoggedStep) -> None:
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
        heard.append((logged.step, [row["seed"] for row in logged.rows]))

    m.train(tiny, out=folder / "run", on_step=listen)
    assert heard == [(step, [0, 1]) for step in (1, 4, 8, 12)]


def test_an_interrupt_from_who_hears_of_steps_is_saved_and_continued_to_the_same_bits(
    made: Made, tiny: Config, folder: Path
) -> None:
    def press(logged: m.LoggedStep) -> None:
        if logged.step == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        m.train(tiny, out=folder / "run", on_step=press)
    assert status(folder / "run") == ("interrupted", 8)
    assert m.train(tiny, out=folder / "run", resume=True).from_step == 8
    assert_same_run(made.run.run, folder / "run")


def test_an_interrupt_within_a_step_leaves_a_run_that_is_continued_to_the_same_bits(
    made: Made, tiny: Config, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = press_at(monkeypatch, at_step=8)
    with pytest.raises(KeyboardInterrupt):
        m.train(tiny, out=folder / "run")
    let_go()
    assert status(folder / "run")[0] == "interrupted"
    assert m.train(tiny, out=folder / "run", resume=True).from_step == 5  # run.checkpoint_every_steps
    assert_same_run(made.run.run, folder / "run")


def press_at(monkeypatch: pytest.MonkeyPatch, *, at_step: int) -> Callable[[], None]:
    """Press Ctrl-C in the middle of a meta-update; returns what lets go of it."""

    def press(lr: float, schedule: Any, step: int, num_steps: int) -> float:
        if step == at_step:
            raise KeyboardInterrupt
        return scheduled_lr(lr, schedule, step, num_steps)

    monkeypatch.setattr("mamlcli.trainings.rhythm.scheduled_lr", press)
    return monkeypatch.undo


def test_an_interrupt_of_a_comparison_leaves_both_orders_to_be_continued(
    made: Made, tiny: Config, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = press_at(monkeypatch, at_step=8)
    with pytest.raises(KeyboardInterrupt) as kept:  # a notebook keeps the traceback, and so what it was in
        m.compare_orders(tiny, out=folder / "orders")
    let_go()
    assert {status(folder / "orders" / order)[0] for order in ("first", "second")} == {"interrupted", "stopped"}
    assert status(folder / "orders")[0] == "interrupted"
    del kept
    assert m.compare_orders(tiny, out=folder / "orders", resume=True).results == made.orders.results


def status(run: Path) -> tuple[str, int]:
    info = json.loads((run / "run.json").read_text())
    return info["status"], info["outer_steps"]


def test_what_a_program_raises_of_its_own_comes_out_and_the_run_is_saved(tiny: Config, folder: Path) -> None:
    class EnoughError(Exception):
        pass

    def listen(logged: m.LoggedStep) -> None:
        if logged.step >= 4:
            raise EnoughError

    with pytest.raises(EnoughError):
        m.train(tiny, out=folder / "run", on_step=listen)
    assert status(folder / "run") == ("stopped", 4)
    assert m.load(folder / "run").checkpoint.step == 4


def test_a_program_stops_early_by_asking(tiny: Config, folder: Path) -> None:
    stop = m.StopRequest()

    def listen(logged: m.LoggedStep) -> None:
        if logged.step == 4:
            stop.ask()

    with pytest.raises(m.InterruptedRunError, match="interrupted and saved at step 4 of 12"):
        m.train(tiny, out=folder / "run", on_step=listen, stop=stop)
    assert m.load(folder / "run").checkpoint.step == 4


def test_it_trains_in_a_thread_and_inside_a_running_event_loop(tiny: Config, folder: Path) -> None:
    found: dict[str, m.TrainResult] = {}
    thread = threading.Thread(target=lambda: found.update(thread=m.train(tiny, out=folder / "thread")))
    thread.start()
    thread.join()

    async def cell() -> None:
        found["loop"] = m.train(tiny, out=folder / "loop")

    asyncio.run(cell())
    assert_same_run(found["thread"].run, found["loop"].run)


def test_a_run_is_named_by_its_folder_or_by_what_trained_it(
    made: Made, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = made.run
    same: list[m.RunLike] = [run, run.run, str(run.run), run.run / "checkpoints" / "step-12.pt"]
    said = [m.load(named).adapt([-1, 1], [0.2, 0.4])([0.5])[0] for named in same]
    assert len(set(said)) == 1
    predicted = m.predict(run, support=made.support, query=made.query)
    assert predicted.table()[0]["y"] == pytest.approx(said[0], rel=1e-6)
    assert m.evaluate(run, out=folder / "evaluated").checkpoint == run.run / "checkpoints" / "step-12.pt"
    (folder / "outputs").symlink_to(run.run.parent)
    monkeypatch.chdir(folder)
    assert m.load().run is not None


def test_what_is_no_run_is_refused_in_the_words_of_a_program(made: Made, tiny: Config) -> None:
    with pytest.raises(UsageError, match=r"what train returned, or None for the one that finished last; got Config"):
        m.evaluate(tiny)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"pass its runs\['first'\] or its runs\['second'\]"):
        m.load(made.orders)  # type: ignore[arg-type]
    assert m.load(made.orders.runs["second"]).seeds == (0, 1)


def rows_of(run: Path) -> list[Row]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_metrics_are_a_frame_with_numeric_seeds(made: Made, tmp_path: Path) -> None:
    run = shutil.copytree(made.run.run, tmp_path / "run")
    lines = (run / "metrics.jsonl").read_text().splitlines()
    row = json.loads(lines[-1]) | {"pre_adapt_loss": None}
    (run / "metrics.jsonl").write_text("\n".join([*lines[:-1], json.dumps(row)]) + "\n")
    frame = m.load(run).metrics()
    assert {str(frame[name].dtype) for name in ("seed", "step")} == {"int64"}
    assert {str(frame[name].dtype) for name in ("pre_adapt_loss", "grad_norm", "diverged_at_step")} == {"float64"}
    assert np.isnan(frame["pre_adapt_loss"].iloc[-1])
    rows = rows_of(run)
    expected = np.mean([row["post_adapt_loss"] for row in rows if row["seed"] == 1])
    assert frame.groupby("seed")["post_adapt_loss"].mean()[1] == pytest.approx(expected)


def test_metrics_are_a_table_where_pandas_is_not_there(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    table = m.load(made.run).metrics()
    assert isinstance(table, m.Table)
    assert list(table) == rows_of(made.run.run)
    with pytest.raises(UsageError, match=r"pip install 'mamlcli\[pandas\]'"):
        table.to_pandas()


def test_a_checkpoint_by_itself_has_no_metrics(made: Made) -> None:
    with pytest.raises(UsageError, match="load the folder of its run"):
        m.load(made.run.run / "checkpoints" / "step-12.pt").metrics()


def test_the_tables_of_results_are_their_rows(made: Made, tmp_path: Path) -> None:
    assert [(row["seed"], row["step"]) for row in made.run.table()] == [(0, 12), (1, 12)]
    assert [row["difference"] for row in made.orders.table()] == [row["difference"] for row in made.orders.results]
    assert {row["verdict"] for row in made.checks.table()} <= {"holds", "says nothing here"}
    out = tmp_path / "said.csv"
    with pytest.raises(UsageError, match=r"said\.csv: read them there"):
        m.predict(made.run, support=made.support, query=made.query, out=out).table()
    rows = m.predict(made.run, support=made.support, query=made.query).table()
    assert list(rows.columns) == out.read_text().splitlines()[0].split(",")


def test_a_meta_test_is_a_table_over_seeds_or_of_each(made: Made, tmp_path: Path) -> None:
    found = m.evaluate(made.run, out=tmp_path / "evaluated")
    over = found.table()
    assert over.columns == ("shots", "inner_steps", "mean", "ci95", "median", "num_diverged")
    assert [(row["shots"], row["inner_steps"]) for row in over] == [(k, n) for k in (3, 5) for n in range(4)]
    frame = found.table(seeds=True).to_pandas()
    assert str(frame["seed"].dtype) == "int64"
    mean = frame.groupby(["shots", "inner_steps"])["mean"].mean()
    assert mean.to_list() == pytest.approx([row["mean"] for row in over])
    assert not found.baselines()
    assert found._repr_html_().count("<img") == 2


def test_a_result_shows_its_table_and_its_figures_in_a_notebook(made: Made, tmp_path: Path) -> None:
    shown = made.run._repr_html_()
    assert shown.count('<img src="data:image/png;base64,iVBOR') == 1
    assert "<th>post_adapt_loss</th>" in shown
    lost = made.run.model_copy(update={"figure": tmp_path / "loss.png"})
    assert f"figure: {tmp_path / 'loss.png'}" in lost._repr_html_()
    assert "metrics=<2 rows>" in repr(made.run)
    assert made.orders._repr_html_().count("<img") == 4
    predicted = m.predict(made.run, support=made.support, query=made.query)
    published = m.reproduce(["zero"], fast=True, out=tmp_path / "published")
    for other in (made.checks, predicted, published):
        assert other._repr_html_().count("<table>") == 1


def test_text_from_elsewhere_is_no_html() -> None:
    table = m.Table([{"<b>": "<script>alert(1)</script>"}])
    assert "<script>" not in table._repr_html_()
    assert "<b>" not in table._repr_html_()
    assert m.Table(())._repr_html_().count("<td>") == 0
    assert str(m.Table(())) == "no rows"


def test_a_long_table_is_cut_in_a_notebook_and_says_so() -> None:
    shown = m.Table({"n": number} for number in range(100))._repr_html_()
    assert shown.count("<td>") == 60
    assert "and 40 more rows" in shown


def test_a_table_is_a_sequence_of_dicts() -> None:
    table = m.Table([{"a": 1}, {"a": 2, "b": None}, {"b": 0.5}])
    assert table[1] == {"a": 2, "b": None}
    assert list(table[1:]) == [{"a": 2, "b": None}, {"b": 0.5}]
    assert table == m.Table(list(table))
    assert str(table).splitlines()[-1].split() == ["n/a", "0.5000"]
    frame = table.to_pandas()
    assert frame["a"].isna().to_list() == [False, False, True]
