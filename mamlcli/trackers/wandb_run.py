"""A run in Weights & Biases, offline: a folder that `wandb sync` can send, and `wandb leet` shows where it is.

An offline run cannot be continued, so that each time there is a new one of the same id; the one before is deleted, as
two of them would replace each other where they are sent.
"""

import os
import shutil
from pathlib import Path

import wandb

from mamlcli.trackers.destination import About, Place


class WeightsAndBiases:
    """One offline run, with all that is there by itself switched off: console, system, code and usage."""

    def __init__(self, about: About) -> None:
        folder = about.folder
        before = list(folder.glob(f"offline-run-*-{about.run_id}"))
        folder.mkdir(parents=True, exist_ok=True)
        settings = wandb.Settings(
            mode="offline",
            root_dir=str(folder.parent),
            console="off",
            silent=True,
            save_code=False,
            disable_git=True,
            disable_job_creation=True,
            symlink=False,
            x_disable_meta=True,
            x_disable_stats=True,
            x_disable_machine_info=True,
        )
        project = os.environ.get("WANDB_PROJECT", about.experiment)
        self.run = wandb.init(project=project, id=about.run_id, name=about.run, config=about.config, settings=settings)
        for path in before:
            shutil.rmtree(path)
        # Rows in the order of their steps are no matter of course: charts go by these columns.
        self.run.define_metric("*", step_metric="outer_step")
        self.run.define_metric("evaluation/*", step_metric="inner_steps")

    def scalars(self, place: Place, values: dict[str, float]) -> None:
        """Add a row: a point to the chart of each name."""
        self.run.log({place.axis: place.step, **values})

    def figure(self, place: Place, path: Path) -> None:
        """Add a PNG file."""
        self.run.log({place.axis: place.step, f"figures/{path.stem}": wandb.Image(str(path))})

    def close(self, *, status: str) -> None:
        """End the run, and the process of wandb's that writes it."""
        self.run.finish(exit_code=int(status != "done"))
        wandb.teardown()
