"""How far first and second order agree in direction, along a training."""

import torch

from mamlcli.meta_test.losses import finite_or_none
from mamlcli.runs.folder import RunFolder
from mamlcli.setup import make_plain_gradient, make_stream, with_order
from mamlcli.training import flat_per_seed, frozen_seeds
from mamlcli.trainings.training import Session
from mamlcli.types import ORDERS, Row


class CosineLog:
    """The cosine between both meta-gradients along the second-order run, on the tasks of its next step."""

    def __init__(self, folder: RunFolder, session: Session) -> None:
        self.log = folder
        self.session = session
        self.log.trim_metrics(lambda row: row["step"] <= session.state.step)
        self.rows = self.log.read_metrics()
        self.gradients = {order: make_plain_gradient(with_order(session.config, order)) for order in ORDERS}
        self.stream = make_stream(session.config)

    def measure(self, step: int) -> None:
        """Add a row for each seed."""
        tasks = self.stream.batch(step, self.session.device)
        params = self.session.state.params
        first, second = (flat_per_seed(self.gradients[order](params, tasks)[0]).double() for order in ORDERS)
        cosines = torch.nn.functional.cosine_similarity(first, second, dim=1).tolist()
        frozen = frozen_seeds(self.session.state, self.session.config.seeds)
        rows: list[Row] = [
            {
                "step": step,
                "seed": seed,
                "cosine": finite_or_none(cosine),
                "diverged_at_step": frozen.get(seed),
            }
            for seed, cosine in zip(self.session.config.seeds, cosines, strict=True)
        ]
        self.log.append_metrics(rows)
        self.rows += rows
