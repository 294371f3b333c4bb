"""A run in MLflow: a file store of its own, and no server."""

from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from mamlcli.trackers.destination import About, Place

# As many as a batch takes.
_MOST_PARAMS = 100
_STATUS = {"done": "FINISHED", "interrupted": "KILLED", "stopped": "KILLED"}
_OWN_TAG, _NOTE = "mlflow.", "mlflow.note.content"


class MLflow:
    """One run of one experiment.

    Points cannot be taken back, so that each time there is a new run; the one before is marked as deleted, and what
    was noted beside it is kept.
    """

    def __init__(self, about: About) -> None:
        uri = about.folder.as_uri()
        client = self.client = MlflowClient(tracking_uri=uri)
        experiment = client.get_experiment_by_name(about.experiment)
        tags: dict[str, str] = {}
        for before in client.search_runs([experiment.experiment_id]) if experiment else []:
            own = before.data.tags.items()
            tags |= {name: value for name, value in own if name == _NOTE or not name.startswith(_OWN_TAG)}
            client.delete_run(before.info.run_id)
        if experiment and not experiment.artifact_location.startswith(uri):
            # The folder was moved, and the store would keep files where it was.
            client.rename_experiment(experiment.experiment_id, f"{about.experiment} at {experiment.artifact_location}")
            client.delete_experiment(experiment.experiment_id)
            experiment = None
        experiment_id = experiment.experiment_id if experiment else client.create_experiment(about.experiment)
        start = round(about.started * 1e3)
        self.run_id = client.create_run(experiment_id, start, tags, run_name=about.run).info.run_id
        params = [Param(name, str(value)) for name, value in about.config.items()]
        for first in range(0, len(params), _MOST_PARAMS):
            client.log_batch(self.run_id, params=params[first : first + _MOST_PARAMS])
        client.log_text(self.run_id, about.yaml, "config.yaml")

    def scalars(self, place: Place, values: dict[str, float]) -> None:
        """Add a point to the chart of each name."""
        milliseconds = round(place.time * 1e3)
        points = [Metric(name, value, milliseconds, place.step) for name, value in values.items()]
        self.client.log_batch(self.run_id, metrics=points)

    def figure(self, place: Place, path: Path) -> None:  # noqa: ARG002
        """Keep a PNG file among the run's artifacts."""
        self.client.log_artifact(self.run_id, str(path), "figures")

    def close(self, *, status: str) -> None:
        """Say how the run ended."""
        self.client.set_terminated(self.run_id, _STATUS.get(status, "FAILED"))
