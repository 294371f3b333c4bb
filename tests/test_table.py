"""Tasks from a file: their splits, their scale, and which rows are support and query."""

import csv
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mamlcli import parse_config
from mamlcli.compute.plan import make_plan
from mamlcli.errors import ConfigError
from mamlcli.experiment import Experiment, make_experiment
from mamlcli.tasks.family import Request, TaskFamily, of_seed
from mamlcli.tasks.numbers import SPLITS, Numbers, Split, visits
from mamlcli.tasks.samples import Samples, Task, present_squared_error, present_squared_errors
from mamlcli.tasks.stream import TaskList

CPU = torch.device("cpu")
Rows = list[tuple[Any, ...]]


def unequal_rows(num_tasks: int = 20, *, seed: int = 0) -> Rows:
    """Tasks of 6 to 11 rows: name, two inputs, two targets."""
    numbers = np.random.default_rng(seed)
    rows: Rows = []
    for task in range(num_tasks):
        slope = numbers.normal()
        for _ in range(6 + task % 6):
            a, b = numbers.normal(size=2)
            rows.append((f"t{task}", a, 10 + 3 * b, slope * a + b, 100 + 7 * a))
    return rows


def written(path: Path, rows: Rows, header: Sequence[str] = ("name", "a", "b", "y", "z")) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def experiment(path: Path, more: str = "", rest: str = "", *, seeds: str = "[0, 7]") -> Experiment:
    keys = f"family: table, path: {path}, task: name, inputs: [a, b], target: [y, z], support_shots: 3, query_shots: 4"
    return make_experiment(
        parse_config(
            f"{{name: t, seeds: {seeds}, device: cpu, tasks: {{{keys}{more}}}, model: {{hidden_sizes: [6], "
            f"activation: tanh}}, outer: {{steps: 8, meta_batch_size: 5}}{rest}}}"
        )
    )


@pytest.fixture
def unequal(tmp_path: Path) -> Experiment:
    return experiment(written(tmp_path / "t.csv", unequal_rows()))


def tasks_of(family: TaskFamily, split: Split, request: Request, *, seed: int = 0, count: int | None = None) -> Task:
    return TaskList(family, seed, split).tasks(0, count or len(family.names[split]), request)


def without_gaps(samples: Samples) -> Samples:
    there = ~samples.y.isnan().any(dim=-1)
    return Samples(samples.x[there], samples.y[there])


def one_by_one(tasks: Task) -> list[Task]:
    """The tasks of one seed, (B, ...), each without what fills it up."""
    every = zip(*(part.unbind() for side in tasks for part in side), strict=True)
    return [Task(Samples(*parts[:2]), without_gaps(Samples(*parts[2:]))) for parts in every]


def equal(one: Task, other: Task) -> bool:
    pairs = zip((*one.support, *one.query), (*other.support, *other.query), strict=True)
    return all(torch.equal(a.nan_to_num(99.0), b.nan_to_num(99.0)) for a, b in pairs)


def test_tasks_of_unequal_size_in_a_batch_have_the_meta_gradient_of_tasks_one_by_one(unequal: Experiment) -> None:
    params = {name: value.double() for name, value in unequal.initial_state(CPU).params.items()}
    batch = unequal.stream().batch(0).map(torch.Tensor.double)
    assert batch.query.y.isnan().any()
    grads, log = unequal.method.meta_gradient(params, batch)
    for seed in range(2):
        ours = {name: value[seed : seed + 1] for name, value in params.items()}
        alone = [
            unequal.method.meta_gradient(ours, task.map(lambda part: part[None, None]))
            for task in one_by_one(batch.map(lambda part, seed=seed: part[seed]))  # type: ignore[misc]
        ]
        for name, value in grads.items():
            mean = torch.stack([one[0][name][0] for one in alone]).mean(dim=0)
            assert torch.allclose(value[seed], mean, rtol=1e-12, atol=1e-14)
        losses = torch.stack([one[1]["post_adapt_loss"][0] for one in alone])
        assert torch.allclose(log["post_adapt_loss"][seed], losses.mean(), rtol=1e-12)


def test_the_losses_of_samples_that_are_there_are_those_of_numpy() -> None:
    said, wanted = torch.randn(5, 2, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)
    wanted[1, 0] = wanted[4] = torch.nan
    expected = np.nanmean((said.numpy() - wanted.numpy()) ** 2)
    assert present_squared_error(said, wanted).item() == pytest.approx(expected, rel=1e-14)
    assert present_squared_errors(said, wanted).mean().item() == pytest.approx(expected, rel=1e-14)
    assert present_squared_errors(said, wanted)[4] == 0


def test_support_and_query_are_different_rows_of_one_task_and_together_all_of_it(tmp_path: Path) -> None:
    rows = unequal_rows()
    family = experiment(written(tmp_path / "t.csv", rows), ", scale: none").family
    for split in SPLITS:
        names, tasks = family.names[split], tasks_of(family, split, Request(3, 1000))
        if split == "meta-train":  # in an order of its own
            there = {tuple(map(float, np.array(row[1:3], dtype=np.float32))): row[0] for row in rows}
            names = [there[tuple(x[0].tolist())] for x in tasks.support.x]
            assert sorted(names) == sorted(family.names[split])
        for name, task in zip(names, one_by_one(tasks), strict=True):
            found = torch.cat([torch.cat(task.support, dim=1), torch.cat(task.query, dim=1)])
            expected = np.array([row[1:] for row in rows if row[0] == name], dtype=np.float32)
            assert sorted(found.tolist()) == sorted(expected.tolist())


@pytest.mark.parametrize("split", SPLITS)
def test_a_smaller_k_is_a_part_of_a_larger_one_and_query_rows_are_from_the_other_end(
    unequal: Experiment, split: Split
) -> None:
    small, large = (tasks_of(unequal.family, split, Request(shots, 2)) for shots in (2, 4))
    assert torch.equal(small.support.x, large.support.x[:, :2])
    assert equal(Task(small.query, small.query), Task(large.query, large.query))


@pytest.mark.parametrize("split", SPLITS)
def test_the_order_of_rows_and_columns_in_the_file_changes_nothing(tmp_path: Path, split: Split) -> None:
    rows = unequal_rows()
    mixed = [(row[3], row[0], row[4], row[2], row[1]) for row in random.Random(1).sample(rows, len(rows))]
    paths = written(tmp_path / "a.csv", rows), written(tmp_path / "b.csv", mixed, ("y", "name", "z", "b", "a"))
    one, other = (experiment(path).family for path in paths)
    assert one.names == other.names
    assert one.units == other.units
    assert equal(*(tasks_of(family, split, Request(3, 4)) for family in (one, other)))


def test_a_task_more_in_the_file_leaves_the_support_rows_of_the_others(tmp_path: Path) -> None:
    rows = unequal_rows(8)
    more = [("new", 0.1 * index, 1.0, 2.0, 0.3) for index in range(7)]
    split_of = {name: SPLITS[index % 3] for index, name in enumerate(sorted({row[0] for row in [*rows, *more]}))}
    header = ("name", "a", "b", "y", "z", "part")
    one, other = (
        experiment(
            written(tmp_path / f"{len(part)}.csv", [(*row, split_of[row[0]]) for row in part], header),
            ", split: part, scale: none",
        ).family
        for part in (rows, [*more, *rows])
    )
    before, after = (
        dict(
            zip(family.names["meta-test"], tasks_of(family, "meta-test", Request(3, 3)).support.x.tolist(), strict=True)
        )
        for family in (one, other)
    )
    assert before == {name: after[name] for name in before}


def test_blocks_of_any_size_hold_the_same_tasks(unequal: Experiment) -> None:
    endless = TaskList(unequal.family, 3, "meta-train")
    whole = endless.tasks(0, 50, Request(3, 4))
    parts = [endless.tasks(first, count, Request(3, 4)) for first, count in ((0, 1), (1, 13), (14, 36))]
    joined = Task(*(Samples(*map(torch.cat, zip(*side, strict=True))) for side in zip(*parts, strict=True)))
    assert equal(whole, joined)


def test_meta_training_goes_through_all_its_tasks_again_and_again_in_new_orders() -> None:
    keys = np.arange(7, dtype=np.uint64)
    rounds = visits(Numbers(0, "meta-train", 0, 70), keys).reshape(10, 7)
    assert all(sorted(one) == list(range(7)) for one in rounds.tolist())
    assert len({tuple(one) for one in rounds.tolist()}) > 5
    assert visits(Numbers(0, "meta-train", 5, 20), keys).tolist() == rounds.ravel()[5:25].tolist()
    assert visits(Numbers(1, "meta-train", 0, 70), keys).tolist() != rounds.ravel().tolist()


def test_every_row_of_a_task_is_as_often_support_as_another(tmp_path: Path) -> None:
    rows: Rows = [("only", float(index), 0.1 * index, 1.0 * index, 2.0 * index) for index in range(6)]
    rows += [(f"t{task}", *(task + 0.1 * index for _ in range(4))) for task in range(4) for index in range(6)]
    header = ("name", "a", "b", "y", "z", "part")
    part = {
        "only": "meta-train",
        "t0": "meta-validation",
        "t1": "meta-validation",
        "t2": "meta-test",
        "t3": "meta-test",
    }
    path = written(tmp_path / "t.csv", [(*row, part[row[0]]) for row in rows], header)
    family = experiment(path, ", split: part, scale: none").family
    first = TaskList(family, 0, "meta-train").tasks(0, 3000, Request(3, 3)).support.x[:, :, 0]
    counts = np.bincount(first.flatten().int().numpy(), minlength=6)
    assert abs(counts - 1500).max() < 5 * np.sqrt(1500)  # five standard deviations of a binomial with 3000 and 1/2


def test_the_first_rows_along_an_input_are_the_support_set_where_that_is_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", unequal_rows())
    family = experiment(path, ", support: first").family
    for split in SPLITS:
        for task in one_by_one(tasks_of(family, split, Request(3, 100))):
            assert task.support.x[:, 0].diff().min() >= 0
            assert task.support.x[:, 0].max() <= task.query.x[:, 0].min()


def test_the_scale_is_that_of_the_meta_train_rows_alone_and_is_undone_exactly(tmp_path: Path) -> None:
    rows = unequal_rows()
    family = experiment(written(tmp_path / "t.csv", rows)).family
    train = np.array([row[1:] for row in rows if row[0] in family.names["meta-train"]])
    units = family.units
    assert units is not None
    assert np.allclose([*units.x_mean, *units.y_mean], train.mean(axis=0), rtol=1e-13)
    assert np.allclose([*units.x_scale, *units.y_scale], train.std(axis=0), rtol=1e-13)
    plain = experiment(tmp_path / "t.csv", ", scale: none").family
    scaled, bare = (tasks_of(one, "meta-test", Request(3, 4)) for one in (family, plain))
    back = scaled.query.y.double() * torch.tensor(units.y_scale) + torch.tensor(units.y_mean)
    assert torch.allclose(back, bare.query.y.double(), rtol=1e-5, equal_nan=True)


def test_splits_are_by_task_of_the_sizes_asked_for_and_hold_each_task_once(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", unequal_rows())
    family = experiment(path, ", split: {meta_train: 0.5, meta_validation: 0.2, meta_test: 0.3}").family
    assert [len(family.names[split]) for split in SPLITS] == [10, 4, 6]
    assert sorted(name for split in SPLITS for name in family.names[split]) == sorted(f"t{n}" for n in range(20))


def test_folds_leave_each_task_out_once_and_scale_by_what_is_left(tmp_path: Path) -> None:
    chosen = experiment(written(tmp_path / "t.csv", unequal_rows()), ", split: {folds: 4}", seeds="[0, 1, 2, 3]")
    views = [of_seed(chosen.family, seed) for seed in range(4)]
    assert sorted(name for view in views for name in view.names["meta-test"]) == sorted(
        chosen.family.names["meta-test"]
    )
    assert views[1].names["meta-test"] == views[0].names["meta-validation"]
    assert len({view.units for view in views}) == 4
    batch = chosen.stream().batch(0)
    alone = TaskList(views[2], 2, "meta-train").tasks(0, 5, Request(3, 4))
    assert equal(batch.map(lambda part: part[2]), alone)


def test_without_seeds_there_is_one_for_each_fold_and_too_few_are_refused(tmp_path: Path) -> None:
    keys = f"family: table, path: {tmp_path / 't.csv'}, task: t, inputs: a, target: b, split: {{folds: 4}}"
    assert parse_config(f"{{name: t, tasks: {{{keys}}}}}").seeds == (0, 1, 2, 3)
    with pytest.raises(ConfigError, match=r"of the 4 folds needs as many seeds: set seeds: \[0, 1, 2, 3\]"):
        parse_config(f"{{name: t, seeds: [0, 1], tasks: {{{keys}}}}}")


def test_what_a_table_is_tested_by_follows_from_it_where_nothing_is_said(tmp_path: Path) -> None:
    keys = f"family: table, path: {tmp_path / 't.csv'}, task: t, inputs: a, target: b, support_shots: 4"
    config = parse_config(f"{{name: t, tasks: {{{keys}}}, outer: {{steps: 100}}}}")
    assert config.evaluation.shots == (4,)
    assert parse_config(f"{{name: t, tasks: {{{keys}}}, evaluation: {{shots: [2]}}}}").evaluation.shots == (2,)


def test_a_file_is_found_from_the_folder_of_its_config(tmp_path: Path) -> None:
    config = parse_config(
        "{name: t, tasks: {family: table, path: d/t.csv, task: t, inputs: a, target: b}}", folder=tmp_path
    )
    assert config.tasks.path == str(tmp_path / "d" / "t.csv")  # type: ignore[attr-defined]


def rewritten(change: Callable[[Rows], Rows], more: str = "") -> Callable[[Path], Experiment]:
    return lambda path: experiment(written(path, change(unequal_rows())), more)


def labelled(word: Callable[[int], str]) -> Callable[[Path], Experiment]:
    rows = [(*row, word(int(str(row[0])[1:]))) for row in unequal_rows()]
    header = ("name", "a", "b", "y", "z", "part")
    return lambda path: experiment(written(path, rows, header), ", split: part")


@pytest.mark.parametrize(
    ("build", "lines"),
    [
        (
            rewritten(lambda rows: [("lone", 1.0, 2.0, 3.0, 4.0), *rows]),
            [
                ":2: task 'lone' has 1 row, and needs 3 for its support set and one to measure on",
                "tasks.min_rows: drop",
            ],
        ),
        (
            rewritten(lambda rows: [(index, *row[1:]) for index, row in enumerate(rows)]),
            ["every row is a task of its own: is 'name' the column that names the task?"],
        ),
        (
            rewritten(lambda rows: [*rows, rows[3]]),
            [":168: the same row as in line 5", "tasks.duplicates: keep"],
        ),
        (
            rewritten(lambda rows: [(*row[:4], 5.0) for row in rows]),
            ["column 'z' is the same in every row of the meta-train tasks", "leave it out"],
        ),
        (
            rewritten(lambda rows: [row for row in rows if row[0] in ("t0", "t1")]),
            ["of 2 tasks none is left for meta-train", "bring more tasks"],
        ),
        (
            rewritten(lambda rows: [("t", *row[1:]) for row in rows]),
            ["of 1 task none is left for meta-train", "is 'name' the column that names the task?"],
        ),
        (
            lambda path: experiment(written(path, unequal_rows(4)), ", split: {folds: 5}", seeds=str(list(range(5)))),
            ["none is left for", "take fewer by tasks.split.folds, or bring more tasks"],
        ),
        (
            labelled(lambda index: ("meta-train", "meta-test")[index % 2]),
            ["of 20 tasks none is left for meta-validation", "column 'part' says which"],
        ),
        (
            labelled(lambda index: ("meta-train", "meta-validation", "meta-test", "holdout")[index % 4]),
            [":23:6: 'part' says 'holdout'", "it must say meta-train, meta-validation, meta-test"],
        ),
        (
            lambda path: experiment(path.with_name("none.csv")),
            ["none.csv: there is no such file; tasks.path says where it is"],
        ),
    ],
)
def test_what_is_wrong_with_tasks_is_said_with_its_place_and_a_remedy(
    tmp_path: Path, build: Callable[[Path], Experiment], lines: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        build(tmp_path / "t.csv")
    for line in lines:
        assert line in str(caught.value)


def test_short_tasks_are_left_out_where_that_is_asked_for_and_counted(tmp_path: Path) -> None:
    rows = [("lone", 1.0, 2.0, 3.0, 4.0), *unequal_rows()]
    family = experiment(written(tmp_path / "t.csv", rows), ", min_rows: drop").family
    assert "lone" not in {name for names in family.names.values() for name in names}
    assert family.record["dropped"] == 1
    assert family.note == "1 task of fewer than 4 rows left out"


def test_what_a_table_cannot_be_tested_by_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", unequal_rows())
    with pytest.raises(
        ValueError, match=r"evaluation.shots: 6 .* the shortest task, which has 6: set evaluation.shots: \[3\]"
    ):
        experiment(path, rest=", evaluation: {shots: [3, 6]}")
    with pytest.raises(ValueError, match=r"evaluation\.grid: 10"):
        experiment(path, rest=", evaluation: {grid: 10}")


@pytest.mark.parametrize(
    ("query_shots", "rows_of_task", "said"),
    [(4, 6, True), (2, 6, False), (4, 8, False)],
)
def test_low_rank_is_kept_from_tasks_by_the_samples_that_some_lack(
    tmp_path: Path, query_shots: int, rows_of_task: int, said: bool
) -> None:
    numbers = np.random.default_rng(0)
    rows: Rows = [(f"t{task}", *numbers.normal(size=4)) for task in range(9) for _ in range(rows_of_task + (task == 4))]
    path = written(tmp_path / "t.csv", rows)
    keys = f"family: table, path: {path}, task: name, inputs: [a, b], target: [y, z], support_shots: 3"
    text = f"{{name: t, device: cpu, tasks: {{{keys}, query_shots: {query_shots}}}, engine: {{compile: 'on'}}}}"
    assert (
        "tasks of unequal size" in " ".join(make_plan(make_experiment(parse_config(text)), CPU).passed_over)
    ) is said


def test_a_sinusoid_in_a_file_has_the_meta_gradient_of_the_family(tmp_path: Path) -> None:
    base = "name: s\nseeds: [0]\ndevice: cpu\nmodel: {hidden_sizes: [8]}\nouter: {meta_batch_size: 6}\n"
    sinusoids = make_experiment(parse_config(base + "tasks: {support_shots: 5, query_shots: 7}"))
    drawn = TaskList(sinusoids.family, 0, "meta-train").tasks(0, 30, Request(5, 7))
    both = (torch.cat(parts, dim=1).squeeze(-1).tolist() for parts in zip(*drawn, strict=True))
    rows: Rows = [
        (f"s{index}", x, y)
        for index, (xs, ys) in enumerate(zip(*both, strict=True))
        for x, y in zip(xs, ys, strict=True)
    ]
    path = written(tmp_path / "s.csv", random.Random(0).sample(rows, len(rows)), ("t", "x", "y"))
    keys = f"family: table, path: {path}, task: t, inputs: x, target: y, scale: none, support_shots: 5, query_shots: 7"
    table = make_experiment(parse_config(base + f"tasks: {{{keys}}}"))
    batch = table.stream().batch(0)
    target_at = {x: y for _, x, y in rows}

    def original(x: torch.Tensor) -> torch.Tensor:
        """What the family says at these inputs."""
        return torch.tensor([target_at[one] for one in x.flatten().tolist()]).view(x.shape)

    as_drawn = Task(*(Samples(side.x, original(side.x)) for side in batch))
    params = sinusoids.initial_state(CPU).params
    ours, theirs = table.method.meta_gradient(params, batch)[0], sinusoids.method.meta_gradient(params, as_drawn)[0]
    for name, gradient in theirs.items():
        assert torch.allclose(ours[name], gradient, rtol=1e-5, atol=1e-7)
