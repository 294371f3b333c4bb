"""`maml doctor`: what works is tried, and what is broken is found."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mamlcli.devices import double_backward_error
from mamlcli.results import Doctor
from tests.conftest import Maml, needs_compiler


def test_it_says_what_there_is_and_what_auto_chooses(maml: Maml) -> None:
    outcome = maml("doctor", "--config", "tiny.yaml")
    assert outcome.code == 0
    for said in ("torch", "cores", "cuda", "disk", "config      tiny: cpu, 1 thread", "everything works"):
        assert said in outcome.out


@needs_compiler
def test_the_kernel_is_found_and_compared(maml: Maml) -> None:
    found = Doctor.model_validate_json(maml("doctor", "--json", "-q").out)
    assert found.kernel["works"]
    assert found.kernel["path"] is not None
    assert found.kernel["num_bytes"] == Path(found.kernel["path"]).stat().st_size
    assert found.choice is not None
    assert found.choice["config"] == "quickstart"


def test_a_double_backward_is_compared_with_its_closed_form(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, grad = torch.device("cpu"), torch.autograd.grad
    assert double_backward_error(cpu) < 1e-6

    def detached(*arguments: Any, **options: Any) -> tuple[torch.Tensor, ...]:
        return tuple(one.detach() for one in grad(*arguments, **options))

    monkeypatch.setattr("torch.autograd.grad", detached)
    assert double_backward_error(cpu) > 0.05


def test_a_device_that_computes_wrong_second_derivatives_is_broken(maml: Maml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mamlcli.commands.doctor.double_backward_error", lambda _: 0.1)
    outcome = maml("doctor", "-c", "tiny.yaml")
    assert outcome.code == 1
    assert "fails              cpu differentiates twice wrongly, or not at all" in outcome.out
    assert outcome.out.endswith("not everything works\n")


def test_a_kernel_that_computes_something_else_is_broken(maml: Maml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mamlcli.commands.doctor.built", lambda: Path(__file__))
    monkeypatch.setattr("mamlcli.commands.doctor._kernel_error", lambda: (0.5, ""))
    outcome = maml("doctor", "-c", "tiny.yaml", "--json")
    assert outcome.code == 1
    assert "another gradient than torch" in json.loads(outcome.out)["problems"][0]


def test_a_device_that_is_not_there_is_a_problem_of_the_config(maml: Maml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    outcome = maml("doctor", "-c", "tiny.yaml", "--set", "device=cuda")
    assert outcome.code == 1
    assert "tiny: device cuda is not available here" in outcome.out
