"""The tool that compares two checkouts sees a moved number, and none where there is none."""

import json
from pathlib import Path

import torch

from tests.conftest import Maml
from tests.same_numbers.compare import case_differences


def test_two_runs_of_one_config_are_the_same_and_those_of_another_seed_moved(maml: Maml, folder: Path) -> None:
    for name, seeds in (("one", "0-1"), ("same", "0-1"), ("other", "0,2")):
        maml("train", "-c", "tiny.yaml", "--out", name, "--seeds", seeds)
        maml("eval", name)
    assert case_differences(folder / "one", folder / "same") == []
    moved = case_differences(folder / "one", folder / "other")
    assert {line.partition(".")[0].partition(":")[0] for line in moved} == {"checkpoint", "evaluation", "metrics"}


def test_the_last_bit_of_a_parameter_and_a_field_that_is_gone_are_seen(maml: Maml, folder: Path) -> None:
    for name in ("one", "other"):
        maml("train", "-c", "tiny.yaml", "--out", name)
    path = folder / "other" / "checkpoints" / "step-12.pt"
    content = torch.load(path, weights_only=True)
    bias = content["params"]["layer0.bias"]
    bias[0, 0] = torch.nextafter(bias[0, 0], torch.tensor(9.0))
    torch.save(content, path)
    rows = [json.loads(line) for line in (folder / "other" / "metrics.jsonl").read_text().splitlines()]
    del rows[-1]["grad_norm"]
    (folder / "other" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    moved = case_differences(folder / "one", folder / "other")
    assert moved == [f"metrics.jsonl[{len(rows) - 1}].grad_norm is gone", "checkpoint: params.layer0.bias differs"]
