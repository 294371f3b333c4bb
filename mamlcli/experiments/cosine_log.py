"""How far first and second order agree in direction, along a training."""

import torch

from mamlcli.evaluation import finite_or_none
from mamlcli.experiments.session import Session
from mamlcli.experiments.setup import make_loss_fn, make_meta_gradient, make_stream
from mamlcli.runs.folder import RunFolder
from mamlcli.types import Order, Params, Row

ORDERS: tuple[Order, Order] = ("first", "second")


class CosineLog:
    """The cosine between both meta-gradients along the second-order run, on the tasks of its next step."""

    def __init__(self, folder: RunFolder, session: Session) -> None:
        self.log = RunFolder(folder.path)
        self.session = session
        self.log.trim_metrics(lambda row: row["step"] <= session.state.step)
        self.rows = self.log.read_metrics()
        loss_fn = make_loss_fn(session.config.model)
        algorithm = session.config.algorithm
        self.gradients = {
            order: make_meta_gradient(loss_fn, algorithm.model_copy(update={"order": order})) for order in ORDERS
        }
        self.stream = make_stream(session.config)

    def measure(self, step: int) -> None:
        """Add a row for each seed."""
        tasks = self.stream.batch(step, self.session.device)
        first, second = (self._flat(self.gradients[order](self.session.state.params, tasks)[0]) for order in ORDERS)
        cosines = torch.nn.functional.cosine_similarity(first, second, dim=1).tolist()
        rows: list[Row] = [
            {"step": step, "seed": seed, "cosine": finite_or_none(cosine)}
            for seed, cosine in zip(self.session.config.seeds, cosines, strict=True)
        ]
        self.log.append_metrics(rows)
        self.rows += rows

    @staticmethod
    def _flat(grads: Params) -> torch.Tensor:
        return torch.cat([grad.flatten(1) for grad in grads.values()], dim=1).double()
