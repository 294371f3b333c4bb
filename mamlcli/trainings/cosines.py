"""How far first and second order agree in direction, along a training."""

from collections.abc import Mapping

import torch

from mamlcli.methods.method import gradient_at
from mamlcli.rows import CosineRow
from mamlcli.runs.folder import RunFolder
from mamlcli.training import flat_per_seed, frozen_seeds
from mamlcli.trainings.training import Training
from mamlcli.types import ORDERS, Order, finite_or_none


class CosineLog:
    """The cosine between both meta-gradients along the second-order run, on the tasks of its next step."""

    def __init__(self, folder: RunFolder, trainings: Mapping[Order, Training]) -> None:
        training = trainings["second"]
        self.log = folder.cosines
        self.training = training
        self.log.trim(lambda row: row["step"] <= training.state.step)
        self.rows: list[CosineRow] = self.log.read()  # type: ignore[assignment]
        self.methods = [trainings[order].experiment.method for order in ORDERS]
        self.stream = training.experiment.stream()

    def measure(self, step: int) -> None:
        """Add a row for each seed."""
        training = self.training
        tasks = self.stream.batch(step, training.device)
        first, second = (
            flat_per_seed(gradient_at(method, step)(training.state.params, tasks)[0]).double()
            for method in self.methods
        )
        cosines = torch.nn.functional.cosine_similarity(first, second, dim=1).tolist()
        frozen = frozen_seeds(training.state, training.config.seeds)
        rows: list[CosineRow] = [
            {
                "step": step,
                "seed": seed,
                "cosine": finite_or_none(cosine),
                "diverged_at_step": frozen.get(seed),
            }
            for seed, cosine in zip(training.config.seeds, cosines, strict=True)
        ]
        self.log.append(rows)
        self.rows += rows
