"""Data that several processes have one copy of: read once on a machine, and the same to the last bit."""

import gc
import pickle
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

import mamlcli.tabular
from mamlcli import Config, load_config, parse_config, registry, sharing
from mamlcli.commands.sweep_grid import grid_of
from mamlcli.experiment import make_experiment
from mamlcli.interrupts import StopRequest
from mamlcli.ranks import Ranks
from mamlcli.section import TasksSection
from mamlcli.sharing import shared_on_machine
from mamlcli.tasks.family import TaskFamily
from mamlcli.tasks.names import named
from tests.launched import BOUND_S, ends, free_port
from tests.same_run import assert_same_run
from tests.test_table import unequal_rows, written
from tests.zygote import Command, Zygote

CONFIG = """
name: shared
seeds: [0, 1, 2]
device: cpu
tasks: {family: table, path: t.csv, task: name, inputs: [a, b], target: [y, z], support_shots: 3, query_shots: 4}
model: {hidden_sizes: [6], activation: tanh}
outer: {steps: 12, meta_batch_size: 4}
evaluation: {inner_steps: 2, every_steps: 4}
run: {log_every_steps: 4, checkpoint_every_steps: 5}
engine: {threads: 1, compile: off}
parallel: {shard: seeds}
"""
FOLDS = ("--set", "tasks.split={folds: 3}")
FIRST = ("--set", "tasks.support=first", "--set", "tasks.scale=none")

Together = Callable[..., list[Command]]
Fault = tuple[str, dict[str, Any]]


@pytest.fixture
def data(folder: Path) -> Path:
    """The data of own.yaml."""
    (folder / "own.yaml").write_text(CONFIG)
    return written(folder / "t.csv", unequal_rows(40))


@pytest.fixture
def together(zygote: Zygote, folder: Path, data: Path) -> Together:  # noqa: ARG001
    """Start a training in processes, each on a machine by its number; they tell what they read and map."""

    def start(machines: str, *words: str, faults: Mapping[int, Fault] | None = None) -> list[Command]:
        launched = {"WORLD_SIZE": str(len(machines)), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        found = []
        for rank, machine in enumerate(machines):
            fault, values = (faults or {}).get(rank, ("tell_of_tables", {"prefix": str(folder / str(rank))}))
            own = launched | {"RANK": str(rank), "GROUP_RANK": machine} if len(machines) > 1 else {}
            words = ("-c", "own.yaml", "--out", f"run-{machines}", *words)
            found.append(zygote.start(folder, "train", *words, fault=fault, environment=own, **values))
        return found

    return start


def readers(folder: Path) -> list[int]:
    """Which of the processes have read the file since this was asked last, each as often as it did."""
    told = sorted(folder.glob("*.read"))
    found = [int(path.stem) for path in told for _ in path.read_text().splitlines()]
    for path in told:
        path.unlink()
    return found


def mappings(folder: Path, rank: int) -> list[str]:
    """What the system says of each file that a process shares with others."""
    parts = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", (folder / f"{rank}.memory").read_text(), flags=re.MULTILINE)
    return [part for part in parts if "/mamlcli-" in part.partition("\n")[0]]


@pytest.mark.parametrize("words", [(), FOLDS, FIRST], ids=["random", "folds", "first"])
def test_one_process_reads_and_all_train_what_a_single_one_does_bit_for_bit(
    together: Together, folder: Path, words: tuple[str, ...]
) -> None:
    for machines in ("0", "00", "0000"):
        ends(together(machines, *words), 0)
        assert readers(folder) == [0]
        assert_same_run(folder / "run-0", folder / f"run-{machines}")


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="what is mapped is looked up in /proc")
def test_the_arrays_of_all_are_one_file_without_a_name_of_which_nobody_has_pages_of_its_own(
    together: Together, folder: Path
) -> None:
    ends(together("00", *FOLDS), 0)
    found = [mappings(folder, rank) for rank in (0, 1)]
    assert [len(one) for one in found] == [1, 1]
    lines = [one[0].splitlines()[0].split() for one in found]
    assert lines[0][3:] == lines[1][3:]  # the device, the inode and the name
    assert lines[0][-1] == "(deleted)"
    for one in found:
        assert re.search(r"^Anonymous: +0 kB", one[0], re.MULTILINE)
        assert not re.search(r"^Rss: +0 kB", one[0], re.MULTILINE)


def test_on_each_machine_one_process_reads_and_one_that_is_alone_there_maps_nothing(
    together: Together, folder: Path
) -> None:
    ends(together("0"), 0)
    assert readers(folder) == [0]
    ends(together("0010"), 0)
    assert readers(folder) == [0, 2]
    assert_same_run(folder / "run-0", folder / "run-0010")
    if (folder / "2.memory").exists():
        assert [len(mappings(folder, rank)) for rank in range(4)] == [1, 1, 0, 1]


@pytest.mark.parametrize("first_alone", [False, True])
def test_an_experiment_that_is_made_again_together_or_alone_is_made_of_what_is_held(
    together: Together, folder: Path, first_alone: bool
) -> None:
    def fault(rank: int) -> Fault:
        return "makes_it_again", {"prefix": str(folder / str(rank)), "first_alone": first_alone}

    ends(together("00", faults={rank: fault(rank) for rank in (0, 1)}), 0)
    assert readers(folder) == [0]


@pytest.mark.parametrize("is_there", [True, False])
def test_a_file_that_cannot_be_used_ends_all_as_it_ends_one(together: Together, data: Path, is_there: bool) -> None:
    if is_there:
        data.write_text(data.read_text() + "t0,oops,1,2,3\n")
    else:
        data.unlink()
    alone = ends(together("0"), 2)
    assert str(data) in alone
    assert ends(together("000"), 2) == alone
    assert not Path("run-000").exists()


def test_a_file_that_cannot_be_used_on_one_machine_ends_all(together: Together) -> None:
    said = ends(together("011", faults={1: ("wrong_data", {"message": "t.csv:7:2: it is wrong here"})}), 2)
    assert said.count("t.csv:7:2: it is wrong here") == 1
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("rank", "fault", "reason", "reading"),
    [
        (0, "no_room_to_share", "No space left on device", [1, 2]),
        (0, "cannot_map", "Cannot allocate memory", []),
        (1, "cannot_map", "Cannot allocate memory", [0]),
    ],
)
def test_where_processes_cannot_share_each_reads_for_itself_and_it_is_said_once(
    together: Together, folder: Path, rank: int, fault: str, reason: str, reading: list[int]
) -> None:
    ends(together("0"), 0)
    assert readers(folder) == [0]
    said = ends(together("000", faults={rank: (fault, {})}), 0)
    note = f"warning: each process reads and holds the data of the tasks for itself: {reason}"
    assert said.count(note) == 1
    assert readers(folder) == reading  # beside the one with the fault, which does not tell
    assert_same_run(folder / "run-0", folder / "run-000")


def test_a_process_that_is_killed_while_it_reads_ends_the_others(together: Together, data: Path) -> None:
    commands = together("00", faults={0: ("killed_as_it_reads", {})})
    del data
    assert [command.wait(BOUND_S) for command in commands] == [-9, 1]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What is read in this process."""
    found: list[object] = []
    read = mamlcli.tabular.read_table

    def told(*arguments: Any, **options: Any) -> mamlcli.tabular.Table:
        found.append(arguments[0])
        return read(*arguments, **options)

    monkeypatch.setattr(mamlcli.tabular, "read_table", told)
    return found


def test_a_single_process_makes_its_own_and_writes_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sharing, "tempfile")
    made = object()
    assert shared_on_machine(lambda: made, Ranks(StopRequest()), print) is made


def test_a_file_is_not_read_again_while_an_experiment_holds_it_unless_it_has_changed(
    data: Path, reads: list[object]
) -> None:
    def config() -> Config:
        return load_config("own.yaml")

    first = make_experiment(config())
    second = make_experiment(config().model_copy(update={"seeds": (7,)}))
    assert (len(reads), second.data) == (1, first.data)
    make_experiment(load_config("own.yaml", overrides=["tasks.support_shots=4"]))
    assert len(reads) == 2
    written(data, unequal_rows(41))
    third = make_experiment(config())
    assert len(reads) == 3
    assert [len(one.family.names["meta-train"]) for one in (first, third)] == [24, 25]
    del first, second
    make_experiment(config())
    assert len(reads) == 3
    del third
    gc.collect()
    make_experiment(config())
    assert len(reads) == 4


def test_the_members_of_a_sweep_have_one_table(data: Path, reads: list[object]) -> None:
    del data
    grid = grid_of(load_config("own.yaml"), {"outer.lr": [0.1, 0.2, 0.3]})
    assert len(reads) == 1
    assert len({id(one.data) for one in grid.experiments.values()}) == 1


def test_a_value_comes_back_from_its_file_as_it_was() -> None:
    once = np.arange(7, dtype=np.uint64)
    value: dict[str, Any] = {
        "numbers": np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32),
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "strided": np.arange(10)[::3],
        "none": np.empty((0, 2)),
        "twice": (once, once),
        "plain": ["a", None, 0.1, {"b": (1, 2)}],
        "names": named(["a", "b"]),
    }
    with ExitStack() as held:
        offer = sharing._offered(value, held)
        assert offer.path is not None
        assert all(start % 64 == 0 for start, _ in offer.places)
        found = sharing._mapped(offer)
    assert not Path(offer.path).exists()
    for name in ("numbers", "columns", "strided", "none"):
        assert found[name].dtype == value[name].dtype
        assert np.array_equal(found[name], value[name])
    assert found["twice"][0] is found["twice"][1]
    assert np.array_equal(found["twice"][0], once)
    assert (found["plain"], found["names"]) == (value["plain"], value["names"])
    with ExitStack() as held:
        assert sharing._mapped(sharing._offered({"no": "arrays"}, held)) == {"no": "arrays"}


def test_a_file_that_cannot_be_deleted_while_it_is_mapped_is_deleted_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, at_end = tmp_path / "mapped", list[tuple[Callable[[str], None], str]]()
    path.touch()
    monkeypatch.setattr("atexit.register", lambda *call: at_end.append(call))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("another process uses it")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refuse)
        sharing._forget(str(path))
        [(call, name)] = at_end
        call(name)  # another process still has it
    assert path.exists()
    call(name)
    assert not path.exists()


def test_names_in_arrays_are_those_that_were_given() -> None:
    texts = ("", "one", "zwölf", "一", "\udc80", "t" * 200)
    names = named(texts)
    assert (len(names), list(names), names == texts, names != texts) == (6, list(texts), True, False)
    assert [names[-1], names[2], names[np.arange(6)[3]]] == [texts[-1], texts[2], texts[3]]
    assert names[1:5:2] == texts[1:5:2]
    assert names.some(np.array([4, 1])).some(np.array([1])) == ("one",)
    assert (names == texts[:-1], names == ("x", *texts[1:]), names == 3) == (False, False, False)
    assert pickle.loads(pickle.dumps(names.some(np.array([3])))) == ["一"]
    with pytest.raises(IndexError):
        names[6]
    assert named(()) == ()


class SheetTasks(TasksSection):
    """A family of a plugin that reads."""

    family: Literal["sheet"] = "sheet"


def test_a_family_of_ones_own_can_say_what_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[object] = []

    def sheet(config: SheetTasks, data: Mapping[str, Any]) -> TaskFamily:
        built.append((config.support_shots, data))
        return make_experiment(parse_config("name: a")).family

    monkeypatch.setattr(registry, "_ENTRIES", {kind: dict(found) for kind, found in registry._ENTRIES.items()})
    registry.register_family(SheetTasks, read=lambda config: {"shots": config.support_shots})(sheet)
    chosen = make_experiment(parse_config("{name: a, tasks: {family: sheet, support_shots: 6}}"))
    assert built == [(6, {"shots": 6})]
    assert chosen.data is not None
    registry.build("tasks", SheetTasks())
    assert built[1:] == [(10, {"shots": 10})]
