"""The page of one run: how it stands, what came out, its figures, and where all of it comes from."""

from collections.abc import Sequence
from typing import Any

from mamlcli.drawing import losses, losses_of_orders
from mamlcli.pages.again import again_blocks, command, plugin_options, sessions_of
from mamlcli.pages.blocks import Block, Code, Column, Details, Facts, Page, Picture, Section, Table, Text, Tone
from mamlcli.pages.cells import count, duration, moment, number, word
from mamlcli.pages.compared import comparison_blocks
from mamlcli.pages.compared_runs import compared_blocks
from mamlcli.pages.evaluated import evaluation_blocks, short_result
from mamlcli.pages.provenance import config_blocks, data_blocks, file_blocks, provenance_blocks, seeds_tile
from mamlcli.pages.reproduction import reproduction_blocks, reproduction_tiles
from mamlcli.pages.swept import sweep_blocks
from mamlcli.runs.contents import Contents, Plot
from mamlcli.types import ORDERS

# The figures that are looked at first, in this order; others follow by name.
_FIRST = ("differences", "adaptation", "fits", "loss", "learning", "curves", "sweep")
_WORDS: dict[str, tuple[str, Tone]] = {
    "done": ("done", "good"),
    "created": ("not begun", "plain"),
    "interrupted": ("interrupted", "plain"),
    "stopped": ("stopped", "plain"),
    "diverged": ("diverged", "bad"),
    "failed": ("failed", "bad"),
}


def run_page(contents: Contents, written: str) -> Page:
    """The page of a run of any kind, finished or not; `written` is said at its foot."""
    return Page(title(contents), run_blocks(contents), badge(contents), written, ended=not contents.is_held)


def title(contents: Contents) -> str:
    """What a run is called."""
    if contents.kind == "reproduce":
        return "Reproduction"
    if contents.compared is not None:
        return f"{' and '.join(run['run'] for run in contents.compared.runs)}, compared"
    name = str(contents.info.get("name") or contents.path.name)
    if contents.kind == "sweep":
        return f"{name}: a sweep"
    return f"{name}: first against second order" if contents.kind == "compare-orders" else name


def badge(contents: Contents) -> Text:
    """How a run stands, in a word or two."""
    if contents.reproduction is not None and contents.reproduction.fast:
        return Text("a fast run: no number means anything", "bad")
    status = contents.info.get("status") or ("done" if contents.reproduction else "running")
    if status == "running":
        return Text("running", "busy") if contents.is_held else Text("killed: its process is gone", "bad")
    return Text(*_WORDS.get(status, (str(status), "plain")))


def run_blocks(contents: Contents) -> list[Block]:
    """What stands under the title of a run."""
    blocks: list[Block] = [Facts(tiles(contents), are_tiles=True)]
    blocks += [Text(problem, "bad") for problem in contents.problems]
    plots = plots_of(contents)
    sections: dict[str, Sequence[Block]] = {
        "Results": _results(contents),
        "Figures": [picture(plot) for plot in plots],
        "Training": _training(contents),
        "How to run it again": again_blocks(contents),
        "Config": config_blocks(contents),
        "Where it comes from": provenance_blocks(contents),
        "Data": data_blocks(contents.tasks) if contents.tasks else [],
        "Files": file_blocks(contents),
    }
    return [*blocks, *(Section(name, inside) for name, inside in sections.items() if inside)]


def tiles(contents: Contents) -> list[tuple[str, str]]:
    """What is looked for first."""
    info, sessions = contents.info, sessions_of(contents)
    found = [("Run folder", str(contents.path))]
    if "method" in info:
        found.append(("Method", str(info["method"])))
    if contents.config is not None:
        config = contents.config
        found += [("Tasks", config.tasks.family)]
        found += [("Meta-updates", _progress(contents))] if contents.kind != "sweep" else []
    if seeds := info.get("seeds") or (list(contents.reproduction.seeds) if contents.reproduction else []):
        found.append(("Seeds", seeds_tile(seeds)))
    if contents.reproduction is not None:
        found += reproduction_tiles(contents.reproduction)
    if own := contents.evaluations.get("."):
        found.append(short_result(own))
    clock = [row["wall_s"] for row in contents.metrics if isinstance(row.get("wall_s"), int | float)]
    if clock:
        found.append(("Training time", duration(max(clock))))
    if sessions:
        last = sessions[-1]
        found.append(("Computed on", f"{last.get('device')}, {count(int(last.get('threads') or 1), 'thread')}"))
        git = last.get("git")
        found.append(
            ("Commit", f"{git['commit'][:9]}{' + changes' * bool(git.get('dirty'))}" if git else "no repository")
        )
    return [*found, ("Started", moment(info.get("started")))]


def _progress(contents: Contents) -> str:
    assert contents.config is not None
    steps = contents.config.outer.steps
    reached = last_step(contents)
    if reached >= steps:
        return f"{steps:,}"
    return f"{reached:,} of {steps:,}"


def last_step(contents: Contents) -> int:
    """The last step that a run tells of: of a comparison, of the order that is behind."""
    if contents.parts:
        return min(last_step(part) for part in contents.parts.values())
    logged: list[int] = [row["step"] for row in contents.metrics[-1:]]
    return max([int(contents.info.get("outer_steps", 0)), *logged])


def _results(contents: Contents) -> list[Block]:
    if contents.reproduction is not None:
        return reproduction_blocks(contents.reproduction)
    if contents.compared is not None:
        return compared_blocks(contents.compared)
    if contents.comparison is not None:
        return comparison_blocks(contents.comparison)
    if contents.sweep is not None:
        return sweep_blocks(contents.sweep)
    if contents.kind != "train":
        return [Text("There are no results yet: they are written when all of it is trained.")]
    blocks: list[Block] = []
    for folder, result in contents.evaluations.items():
        inside = evaluation_blocks(result)
        what = "What training began with" if result.start == "random-init" else "Another evaluation"
        blocks += inside if folder == "." else [Details(f"{what}: {folder}", inside)]
    if "." in contents.evaluations:
        return blocks
    missing = "It has not been evaluated yet. This makes the tables and figures of its meta-test:"
    if contents.is_held:
        missing = "Results come with the meta-test, once it is trained:"
    return [Text(missing), Code(command("eval", contents.path, *plugin_options(contents.info))), *blocks]


def plots_of(contents: Contents) -> list[Plot]:
    """The figures of a run, with those of its metrics so far; first those that are looked at first."""
    plots = {plot.stem: plot for plot in contents.plots}
    name = str(contents.info.get("name", ""))
    if contents.kind == "train" and contents.metrics and (contents.is_held or "loss" not in plots):
        drawing = losses(name, contents.info.get("method"), contents.metrics)
        plots["loss"] = Plot("loss", drawing, plots["loss"].png if "loss" in plots else None)
    metrics = {order: contents.parts[order].metrics for order in ORDERS if order in contents.parts}
    if "learning" not in plots and metrics and all(metrics.values()):
        plots["learning"] = Plot("learning", losses_of_orders(name, metrics), None)
    first = [plots.pop(stem) for stem in _FIRST if stem in plots]
    return [*first, *plots.values()]


def picture(plot: Plot) -> Picture:
    """A figure of a run, described by its title."""
    labels = {} if plot.drawing is None else plot.drawing.labels
    lines: Any = labels.get("title", plot.stem)
    said = lines if isinstance(lines, str) else "; ".join(map(str, lines))
    return Picture(plot.stem, f"Figure: {said}", plot.drawing, plot.png)


def _training(contents: Contents) -> list[Block]:
    """The losses of the last logged step, and how much longer it takes."""
    if contents.parts:
        order = " order" * (contents.kind == "compare-orders")
        return [
            Section(f"{name.capitalize() if order else name}{order}", _training(part), badge(part))
            for name, part in contents.parts.items()
        ]
    if not contents.metrics:
        nothing = contents.kind in ("compare", "reproduce", "sweep")
        return [] if nothing else [Text("No step has been logged yet.")]
    step = contents.metrics[-1]["step"]
    rows = [row for row in contents.metrics if row["step"] == step]
    blocks: list[Block] = [_last_losses(rows)]
    if contents.is_held and (left := _seconds_left(contents)) is not None:
        blocks.insert(0, Text(f"Step {step:,} is logged; about {duration(left)} of training are left.", "busy"))
    frozen = {row["seed"]: row["diverged_at_step"] for row in rows if row.get("diverged_at_step") is not None}
    return [*blocks, *(Text(f"Seed {seed} diverged at step {at:,}.", "bad") for seed, at in frozen.items())]


def _last_losses(rows: Sequence[dict[str, Any]]) -> Table:
    names = {
        "pre_adapt_loss": "before adaptation",
        "post_adapt_loss": "after adaptation",
        "meta_loss": "meta-loss",
        "meta_validation_loss": "meta-validation",
        "grad_norm": "norm of the meta-gradient",
    }
    there = [name for name in names if any(name in row for row in rows)]
    lines = [[word(row.get("seed")), *(number(row.get(name)) for name in there)] for row in rows]
    caption = f"Query loss of the last logged meta-batch, step {rows[0]['step']:,}"
    return Table([Column("seed"), *(Column(names[name]) for name in there)], lines, caption)


def _seconds_left(contents: Contents) -> float | None:
    """How long the rest takes, if it goes on as since the first logged step."""
    if contents.config is None:
        return None
    first, last = contents.metrics[0], contents.metrics[-1]
    steps = last["step"] - first["step"]
    if steps <= 0 or not all(isinstance(row.get("wall_s"), int | float) for row in (first, last)):
        return None
    pace = float(last["wall_s"] - first["wall_s"]) / float(steps)
    return pace * max(0, contents.config.outer.steps - int(last["step"]))
