"""Whether two runs are equal bit for bit; shared by the tests and the soak."""

import json
from pathlib import Path
from typing import Any

import torch

from mamlcli.best import Best
from mamlcli.runs.checkpoints import list_checkpoints, load_checkpoint


def metrics(run: Path) -> list[dict[str, Any]]:
    """The rows of a run, wall times aside."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "wall_s"} for row in rows]


def assert_same_run(one: Path, other: Path) -> None:
    """Weights, the best ones, optimiser state and metrics are equal bit for bit."""
    assert metrics(one) == metrics(other)
    newest = [load_checkpoint(list_checkpoints(run / "checkpoints")[0]) for run in (one, other)]
    assert newest[0].step == newest[1].step
    assert newest[0].updates == newest[1].updates
    assert newest[0].params.keys() == newest[1].params.keys()
    for name, theta in newest[0].params.items():
        assert torch.equal(theta, newest[1].params[name])
    assert_same_best(newest[0].best, newest[1].best)
    states = [checkpoint.optimizer["state"] for checkpoint in newest]
    assert states[0].keys() == states[1].keys()
    for index, state in states[0].items():
        assert state.keys() == states[1][index].keys()
        assert all(torch.equal(value, states[1][index][key]) for key, value in state.items())


def assert_same_best(one: Best | None, other: Best | None) -> None:
    """What the meta-validation losses say is equal bit for bit."""
    assert (one is None) == (other is None)
    if one is not None and other is not None:
        assert one.at == other.at
        assert all(torch.equal(theta, other.params[name]) for name, theta in one.params.items())
        assert all(torch.equal(*pair) for pair in zip(one[1:4], other[1:4], strict=True))
