"""A sweep in parts: processes with the same line and another number train it together, and nothing of it twice."""

import json
import signal
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import mamlcli as m
import mamlcli.commands.stacks
import mamlcli.commands.sweep_part
from mamlcli import Config, parse_config
from mamlcli.commands.sweep_grid import grid_of
from mamlcli.commands.sweep_part import stacks_to_train
from mamlcli.config.axes import Axes, members_of
from mamlcli.errors import InterruptedRunError, RunFolderError, UsageError
from mamlcli.interrupts import StopRequest
from mamlcli.runs.folder import RunFolder
from mamlcli.runs.folder import create_run as make_run
from tests.conftest import Maml, needs_compiler
from tests.same_run import assert_same_run
from tests.test_sweep import AXES, Stopping
from tests.zygote import Zygote

RATES = ("--set", "outer.lr=0.001,0.01,0.003")
LINE = ("sweep", "-c", "tiny.yaml", *RATES, "--set", "model.hidden_sizes=[8],[6]", "--out", "grid", "--resume", "auto")


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw nothing: of a grid of runs, that is most of the time."""
    monkeypatch.setattr(mamlcli.commands.stacks, "draw_training", lambda *_: None)


def sessions(grid: Path) -> dict[str, int]:
    """How often each member was worked on."""
    return {run.name: len(json.loads((run / "run.json").read_text())["sessions"]) for run in (grid / "runs").iterdir()}


def status(run: Path) -> object:
    return json.loads((run / "run.json").read_text())["status"]


@pytest.mark.parametrize(
    ("axes", "count", "sizes"),
    [
        ({"outer.lr": [1, 2, 3, 4, 5]}, 1, [[5]]),
        ({"outer.lr": [1, 2, 3, 4, 5]}, 3, [[1], [2], [2]]),
        ({"outer.lr": [1, 2, 3, 4, 5]}, 5, [[1]] * 5),
        ({"outer.lr": [1, 2, 3], "model.hidden_sizes": [[4], [5], [6]]}, 1, [[3, 3, 3]]),
        ({"outer.lr": [1, 2, 3], "model.hidden_sizes": [[4], [5], [6]]}, 2, [[3, 3], [3]]),
        ({"outer.lr": [1, 2, 3], "model.hidden_sizes": [[4], [5], [6]]}, 3, [[3]] * 3),
        ({"outer.lr": [1, 2, 3], "model.hidden_sizes": [[4], [5], [6]]}, 4, [[1], [2], [3], [3]]),
        ({"outer.lr": [1, 2, 3], "model.hidden_sizes": [[4], [5], [6]]}, 9, [[1]] * 9),
        # Three rates of one program, and of the other method each a program of its own.
        ({"algorithm.name": ["maml", "reptile"], "algorithm.inner_lr": [0.1, 0.2, 0.3]}, 2, [[3], [1, 1, 1]]),
        ({"algorithm.name": ["maml", "reptile"], "algorithm.inner_lr": [0.1, 0.2, 0.3]}, 3, [[3], [1, 1], [1]]),
        ({"algorithm.name": ["maml", "reptile"], "algorithm.inner_lr": [0.1, 0.2, 0.3]}, 5, [[1], [2], [1], [1], [1]]),
    ],
)
def test_parts_have_about_as_many_members_and_cut_a_program_only_where_they_must(
    tiny: Config, axes: Axes, count: int, sizes: list[list[int]]
) -> None:
    grid = grid_of(tiny, axes)
    parts = [stacks_to_train(grid, (number, count)) for number in range(1, count + 1)]
    assert [[len(stack) for stack in part.values()] for part in parts] == sizes
    names = [member.name for part in parts for stack in part.values() for member in stack]
    assert sorted(names) == sorted(member.name for member in grid.members)
    for part in parts:
        for name, stack in part.items():
            number, of = map(int, name.split("/"))
            assert list(stacks_to_train(grid, (number, of)).values()) == [stack]


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("compiled", ["off", pytest.param("on", marks=needs_compiler)])
def test_members_of_parts_are_those_of_a_sweep_in_one_go_bit_for_bit(
    tiny: Config, tmp_path: Path, compiled: str, count: int
) -> None:
    config = parse_config(m.dump_config(tiny), overrides=[f"engine.compile={compiled}", "evaluation.every_steps=4"])
    whole = m.sweep(config, AXES, out=tmp_path / "whole", test=False)
    for number in range(count, 0, -1):
        part = m.sweep(config, AXES, out=tmp_path / "grid", resume=True, part=(number, count))
        assert part.winner is None
        assert {(row["rank"], row["status"]) for row in part.results} == {(None, "done")}
    for member in members_of(config, AXES):
        assert_same_run(tmp_path / "whole" / "runs" / member.name, tmp_path / "grid" / "runs" / member.name)
    assert set(sessions(tmp_path / "grid").values()) == {1}
    ranked = m.sweep(config, AXES, out=tmp_path / "grid", resume=True, test=False)
    assert ranked.results == whole.results
    assert set(sessions(tmp_path / "grid").values()) == {1}


def test_processes_that_begin_at_once_with_one_line_train_all_members(
    zygote: Zygote, folder: Path, maml: Maml, tiny: Config
) -> None:
    parts = [
        zygote.start(folder, *LINE, "--part", f"{number}/3", fault="wait_for", path=str(folder / "start"))
        for number in (1, 2, 3)
    ]
    (folder / "start").touch()
    assert [part.wait() for part in parts] == [0, 0, 0], [part.err for part in parts]
    assert not list(folder.glob(".grid*"))
    assert len(sessions(folder / "grid")) == 6
    assert set(sessions(folder / "grid").values()) == {1}
    for size in (8, 6):
        config = parse_config(m.dump_config(tiny), overrides=[f"model.hidden_sizes=[{size}]"])
        m.sweep(config, {"outer.lr": [0.001, 0.01, 0.003]}, out=f"alone-{size}", test=False)
        for lr in ("0.001", "0.01", "0.003"):
            together = folder / "grid/runs" / f"lr={lr}_hidden_sizes={size}"
            assert_same_run(folder / f"alone-{size}" / "runs" / f"lr={lr}", together)
    ranked = maml("sweep", "--resume", "grid", "--pick", "best")
    assert ranked.code == 0, ranked.err
    assert set(sessions(folder / "grid").values()) == {1}
    compared = maml("compare", *sorted((folder / "grid" / "runs").iterdir()), "--json")
    assert compared.code == 0, compared.err
    assert len(json.loads(compared.out)["runs"]) == 6


def test_the_same_line_again_trains_nothing_twice(maml: Maml) -> None:
    first = maml(*LINE, "--part", "1/2")
    assert first.code == 0, first.err
    assert "part 1/2 is trained, 3 of 6 members; 3 are left to other parts" in " ".join(first.out.split())
    assert "to rank all  maml sweep --resume grid" in first.out
    assert max(map(len, first.out.splitlines())) <= 80
    before = {path: path.stat().st_mtime_ns for path in Path("grid").rglob("*") if path.is_file()}
    again = json.loads(maml(*LINE, "--part", "1/2", "--json").out)
    assert {path: path.stat().st_mtime_ns for path in Path("grid").rglob("*") if path.is_file()} == before
    assert [row["status"] for row in again["results"]] == ["done"] * 3
    last = maml("sweep", "--resume", "grid", "--part", "2/2")  # what else is to be said is in the folder
    assert "all are trained now, and can be ranked" in " ".join(last.out.split())


def test_a_part_that_was_stopped_goes_on_by_the_same_line(zygote: Zygote, folder: Path) -> None:
    long = ("--set", "outer.steps=2000", "--set", "run.checkpoint_every_steps=1000", "--set", "engine.compile=off")
    line = ("sweep", "-c", "tiny.yaml", *RATES, *long, "--resume", "auto")
    stopped = zygote.start(folder, *line, "--out", "grid", "--part", "1/2")
    while len(list((folder / "grid").glob("runs/*/metrics.jsonl"))) == 0:
        assert stopped.wait(0.01) is None, stopped.err
    stopped.signal(signal.SIGTERM)
    assert stopped.wait() == 143, stopped.err
    assert "to go on: maml sweep --part 1/2 --resume grid" in " ".join(stopped.err.split())
    assert status(folder / "grid" / "runs" / "lr=0.001") == "interrupted"
    again = zygote.start(folder, *line, "--out", "grid", "--part", "1/2")
    assert again.wait() == 0, again.err
    assert "continuing 1 runs" in again.err
    whole = zygote.start(folder, *line, "--out", "whole", "--part", "1/2")
    assert whole.wait() == 0, whole.err
    assert_same_run(folder / "whole" / "runs" / "lr=0.001", folder / "grid" / "runs" / "lr=0.001")


@pytest.mark.parametrize("compiled", ["off", pytest.param("on", marks=needs_compiler)])
def test_a_sweep_goes_on_bit_for_bit_where_its_parts_were_stopped_at_different_steps(
    tiny: Config, tmp_path: Path, compiled: str
) -> None:
    config = parse_config(m.dump_config(tiny), overrides=["run.keep_checkpoints=1", f"engine.compile={compiled}"])
    whole = m.sweep(config, AXES, out=tmp_path / "whole", test=False)
    for number, at in ((1, 4), (2, 8)):
        stop = StopRequest()
        with pytest.raises(InterruptedRunError, match=rf"saved at step {at} of 12; .* part=\({number}, 3\)"):
            m.sweep(
                config,
                AXES,
                out=tmp_path / "grid",
                resume=True,
                part=(number, 3),
                stop=stop,
                reporter=Stopping(stop, at),
            )
    ranked = m.sweep(config, AXES, out=tmp_path / "grid", resume=True, test=False)
    assert ranked.results == whole.results
    for member in members_of(config, AXES):
        assert_same_run(tmp_path / "whole" / "runs" / member.name, tmp_path / "grid" / "runs" / member.name)


def test_who_comes_second_finds_the_folder_of_who_was_faster(
    tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_late(path: Path, config: Config, info: dict[str, Any], held: ExitStack) -> RunFolder:
        with ExitStack() as of_the_other:
            make_run(path, config, info, of_the_other)
        return make_run(path, config, info, held)

    monkeypatch.setattr(mamlcli.commands.sweep_part, "create_run", too_late)
    assert len(m.sweep(tiny, AXES, out=tmp_path / "grid", resume=True, part=(1, 2)).results) == 2
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="cannot make it"):
        m.sweep(tiny, AXES, out=tmp_path / "file" / "grid", resume=True, part=(1, 2))


def test_a_list_says_how_a_sweep_in_parts_stands(maml: Maml) -> None:
    def listed() -> tuple[str, int]:
        (row,) = json.loads(maml("runs", "ls", ".", "--json").out)["runs"]
        return row["status"], row["outer_steps"]

    assert maml(*LINE, "--part", "1/2").code == 0
    assert listed() == ("unranked", 0)
    assert maml("runs", "ls", ".", "--status", "unranked").out.count("sweep") == 1
    with RunFolder(Path("grid/runs/lr=0.001_hidden_sizes=8")).locked():
        assert listed() == ("running", 0)
    assert maml(*LINE, "--part", "2/2").code == 0
    assert listed() == ("unranked", 12)
    assert maml("runs", "show", "grid").code == 0
    assert maml("report", "grid").code == 0
    assert "There are no results yet" in Path("grid/report.md").read_text()
    assert maml("sweep", "--resume", "grid").code == 0
    assert listed() == ("done", 12)


def test_members_that_others_train_are_not_ranked_without_them(maml: Maml) -> None:
    assert maml(*LINE, "--part", "1/2").code == 0
    info = RunFolder(Path("grid/runs/lr=0.01_hidden_sizes=8")).read_info()
    RunFolder(Path("grid/runs/lr=0.01_hidden_sizes=8")).write_info(info | {"status": "running"})
    with RunFolder(Path("grid/runs/lr=0.01_hidden_sizes=8")).locked():
        early, twice = maml("sweep", "--resume", "grid"), maml(*LINE, "--part", "1/2")
    assert (early.code, twice.code) == (3, 3)
    assert "other processes are training 1 of its members (lr=0.01_hidden_sizes=8)" in " ".join(early.err.split())
    assert "another process is working in this folder" in twice.err
    assert status(Path("grid")) == "unranked"


def test_a_part_of_several_programs_trains_each_in_a_process_and_fails_with_what_one_says(
    maml: Maml, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[Sequence[str]] = []

    def in_this_process(jobs: Mapping[str, Any], *_: object, **__: object) -> dict[str, str]:
        commands.extend(job.words for job in jobs.values())
        first, *others = jobs
        assert maml(*jobs[first].words).code == 0
        assert jobs[first].is_done()
        return dict.fromkeys(others, "out of memory")

    monkeypatch.setattr(mamlcli.commands.stacks, "run_side_by_side", in_this_process)
    words = ("sweep", "-c", "tiny.yaml", "--set", "outer.lr=0.001,0.01", "--set", "model.hidden_sizes=[8],[6],[4]")
    outcome = maml(*words, "--out", "grid", "--resume", "auto", "--part", "1/2")
    assert outcome.code == 4
    assert "2 members of part 1/2 were not trained" in outcome.err
    assert "lr=0.001_hidden_sizes=4: out of memory" in outcome.err
    start = ["sweep", "--resume", "grid", "--part"]
    assert [words[:5] for words in commands] == [[*start, "1/3"], [*start, "3/3"]]
    assert sessions(Path("grid")) == {"lr=0.001_hidden_sizes=8": 1, "lr=0.01_hidden_sizes=8": 1}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--part", "3/2"), "part 3/2: there are parts 1 to 2"),
        (("--part", "0/2"), "part: must be a whole number from 1 on, got 0"),
        (("--part", "1/7"), "part 1/7: the sweep has 6 members, and no more parts than those"),
        (("--part", "/16"), "--part /16: write I/N: --part 2/16 is the second of sixteen parts"),
        (("--part", "1/2", "--pick", "best"), "a part is not ranked, so nothing can be picked of it"),
        (("--part", "1/2", "--overwrite"), "use --out DIR --resume auto"),
    ],
)
def test_a_part_that_cannot_be_one_is_refused_before_anything_is_made(
    maml: Maml, more: tuple[str, ...], said: str
) -> None:
    outcome = maml(*LINE, *more)
    assert outcome.code == 2
    assert said in " ".join(outcome.err.split())
    assert not Path("grid").exists()


def test_parts_are_of_one_sweep_in_one_folder(maml: Maml, tiny: Config) -> None:
    new = maml("sweep", "-c", "tiny.yaml", *RATES, "--out", "grid", "--part", "1/2")
    assert (new.code, Path("grid").exists()) == (2, False)
    assert "are trained into one folder, which the first of them makes; use --out DIR" in " ".join(new.err.split())
    assert maml(*LINE, "--part", "1/6").code == 0
    other = maml(*LINE, "--set", "outer.max_grad_norm=1,2", "--part", "2/6")
    assert other.code == 2
    assert "cannot be resumed as another sweep" in other.err
    Path("mine").mkdir()
    assert maml(*LINE[:-3], "mine", "--resume", "auto", "--part", "1/2").code == 4
    for wrong in ("1/2", (1,), (1, 2.0)):
        with pytest.raises(UsageError, match="part: must be"):
            m.sweep(tiny, AXES, out="grid", resume=True, part=wrong)  # type: ignore[arg-type]
