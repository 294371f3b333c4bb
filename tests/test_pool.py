"""A pool: meta-training that sees the same tasks again and again, through ever new samples."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mamlcli import parse_config
from mamlcli.errors import ConfigError
from mamlcli.tasks.family import Curves, Request
from mamlcli.tasks.numbers import Split
from mamlcli.tasks.sinusoid import SinusoidTasks, sinusoid
from mamlcli.tasks.stream import TaskList, TaskStream
from tests.conftest import TINY, Maml
from tests.same_run import assert_same_run
from tests.test_tasks import equal, sinusoids

CONFIG = SinusoidTasks(frequency=(0.5, 2.0), noise_std=0.3, corrupted_slots=1)
REQUEST = Request(support_shots=3, query_shots=2)


def tasks(pool: int | None, split: Split = "meta-train", *, told: bool = False, seed: int = 5) -> TaskList:
    return TaskList(sinusoid(CONFIG.model_copy(update={"pool": pool, "oracle_inputs": told})), seed, split)


def told(pool: int | None, first: int, count: int, seed: int = 5) -> torch.Tensor:
    """The amplitude, phase and frequency of tasks, as an oracle sees them."""
    return tasks(pool, told=True, seed=seed).tasks(first, count, REQUEST).query.x[:, 0, 1:]


def curves(pool: int | None, first: int, count: int) -> Curves:
    drawn = tasks(pool).family.curves
    assert drawn is not None
    return drawn(tasks(pool).numbers(first, count), 9)


@pytest.mark.parametrize("pool", [1, 4, 7])
def test_each_round_sees_every_task_of_the_pool_once_and_rounds_differ_in_their_order(pool: int) -> None:
    own = [tuple(row) for row in told(None, 0, pool).tolist()]
    rounds = [[tuple(row) for row in told(pool, start, pool).tolist()] for start in range(0, 40 * pool, pool)]
    assert all(sorted(one) == sorted(own) for one in rounds)
    assert (len({tuple(one) for one in rounds}) > 1) == (pool > 1)


def test_every_seed_has_a_pool_of_its_own() -> None:
    one, other = (set(told(6, 0, 60, seed).flatten().tolist()) for seed in (5, 6))
    assert len(one) == len(other) == 18
    assert not one & other


def test_inputs_and_noise_are_those_of_the_place_and_the_function_is_that_of_the_pool() -> None:
    pooled, endless = (tasks(pool).tasks(1000, 50, REQUEST) for pool in (7, None))
    assert torch.equal(pooled.support.x, endless.support.x)
    assert torch.equal(pooled.query.x, endless.query.x)
    # y = f(x) + noise, with the noise of the endless list and the function that the oracle is told.
    functions = sinusoids(CONFIG, tasks(None), 1000, 50)
    noise = endless.query.y.double() - functions.at(endless.query.x)
    amplitude, phase, frequency = told(7, 1000, 50).double().T.reshape(3, 50, 1, 1)
    expected = amplitude * torch.sin(frequency * pooled.query.x.double() - phase) + noise
    torch.testing.assert_close(pooled.query.y.double(), expected, atol=1e-5, rtol=0)
    # A corrupted target says as little as it did.
    assert torch.equal(pooled.support.y[:, 0], endless.support.y[:, 0])


def test_a_task_is_seen_through_new_samples_at_each_visit() -> None:
    seen = tasks(1).tasks(0, 50, REQUEST)
    assert len(set(seen.query.x.flatten().tolist())) == seen.query.x.numel()
    assert len({tuple(row) for row in told(1, 0, 50).tolist()}) == 1


@settings(max_examples=30, deadline=None)
@given(
    pool=st.sampled_from([1, 3, 100, 20_000]),
    first=st.integers(0, 10**9),
    cuts=st.lists(st.integers(1, 30), min_size=1, max_size=5),
)
def test_any_cut_of_the_list_gives_the_same_tasks(pool: int, first: int, cuts: list[int]) -> None:
    listed = tasks(pool)
    whole = listed.tasks(first, sum(cuts), REQUEST)
    starts = [first + sum(cuts[:index]) for index in range(len(cuts))]
    pieces = [listed.tasks(start, count, REQUEST) for start, count in zip(starts, cuts, strict=True)]
    joined = [torch.cat([piece[side][part] for piece in pieces]) for side in (0, 1) for part in (0, 1)]
    assert all(torch.equal(a, b) for a, b in zip(joined, [*whole.support, *whole.query], strict=True))


@pytest.mark.parametrize("pool", [3, 2**14 + 1])
def test_a_long_piece_is_its_tasks_one_by_one(pool: int) -> None:
    # It goes over the ends of what is looked up at a time.
    first, count = 2**14 - 20, 2**15
    many = told(pool, first, count)
    for place in (0, 19, 20, 21, 22, 2**14 + 19, 2**14 + 20, 2**14 + 22, count - 1):
        assert torch.equal(many[place], told(pool, first + place, 1)[0])


def test_seeds_side_by_side_get_the_tasks_of_each_seed_alone() -> None:
    both, alone = (TaskStream(tasks(4).family, seeds, 3, REQUEST).batch(9) for seeds in ((0, 5), (5,)))
    assert equal(both.map(lambda part: part[1]), alone.map(lambda part: part[0]))


@pytest.mark.parametrize("split", ["meta-validation", "meta-test"])
def test_no_other_split_has_a_pool(split: Split) -> None:
    pooled, endless = (tasks(pool, split).tasks(3, 40, REQUEST) for pool in (2, None))
    assert equal(pooled, endless)


def test_a_pool_that_is_never_gone_through_is_a_shuffle_of_the_endless_list() -> None:
    own, seen = told(None, 0, 30_000), told(30_000, 0, 30_000)
    assert Counter(seen[:, 0].tolist()) == Counter(own[:, 0].tolist())
    correlation = np.corrcoef(own[:, 0].numpy(), seen[:, 0].numpy())[0, 1]
    assert abs(correlation) < 4 / np.sqrt(30_000)


def test_curves_are_the_functions_of_the_pool() -> None:
    amplitude, phase, frequency = told(3, 8, 20).double().T.reshape(3, 20, 1, 1)
    drawn = curves(3, 8, 20)
    expected = amplitude * torch.sin(frequency * drawn.x.view(1, -1, 1) - phase)
    torch.testing.assert_close(drawn.y, expected, atol=1e-5, rtol=0)


def test_a_run_resumes_bit_for_bit_and_is_not_gone_on_with_another_pool(maml: Maml, folder: Path) -> None:
    (folder / "c.yaml").write_text(TINY + "tasks: {pool: 4}\n")
    assert maml("train", "-c", "c.yaml", "--out", "whole").code == 0
    assert maml("train", "-c", "c.yaml", "--out", "parts", "--set", "outer.steps=5").code == 0
    refused = maml("train", "--resume", "parts", "--set", "outer.steps=12", "--set", "tasks.pool=5")
    assert refused.code == 2
    assert "tasks.pool: 4 in the run, 5 now" in refused.err
    assert maml("train", "--resume", "parts", "--set", "outer.steps=12").code == 0
    assert_same_run(folder / "whole", folder / "parts")


@pytest.mark.parametrize(
    ("pool", "message"),
    [("0", "greater than or equal to 1"), ("1.5", "valid integer"), ("1000001", "less than or equal to 1000000")],
)
def test_a_pool_that_cannot_be_is_refused_at_its_key(pool: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"tasks.pool: must be .*{message}"):
        parse_config("name: a", overrides=[f"tasks.pool={pool}"])
