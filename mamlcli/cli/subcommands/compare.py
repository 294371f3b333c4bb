"""`maml compare`."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mamlcli.cli.completion import complete_compared, complete_run
from mamlcli.cli.options import JobsOption, JsonOption, OutOption, PluginOption, QuietOption, ResumeOption, SetOption
from mamlcli.cli.shared import overrides_of, resume_folder, show
from mamlcli.config.shipped import shipped_configs
from mamlcli.errors import UsageError
from mamlcli.escaping import shorten, visible
from mamlcli.plugins import load_plugins

if TYPE_CHECKING:
    from mamlcli.config.experiment import Config
    from mamlcli.config.file import Override


def compare(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN",
            help="Run folders or checkpoint files; with --configs experiments: YAML files, or ones that come along.",
            autocompletion=complete_compared,
        ),
    ] = None,
    configs: Annotated[
        bool, typer.Option("--configs", help="The arguments are experiments: train what is not trained yet.")
    ] = False,
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            metavar="RUN",
            help="What the others are compared with; the first when left out.",
            autocompletion=complete_run,
        ),
    ] = None,
    margin: Annotated[
        float,
        typer.Option("--margin", metavar="X", help="What does not matter, as a part of the baseline's loss.", min=0),
    ] = 0.05,
    seeds: Annotated[
        str | None, typer.Option("--seeds", metavar="LIST", help="With --configs: seeds of all, 0-9 or 0,3,7.")
    ] = None,
    set_: SetOption = None,
    jobs: JobsOption = None,
    out: OutOption = None,
    resume: ResumeOption = None,
    plugin: PluginOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Compare runs of any methods on the same tasks: paired differences with their intervals, time and memory."""
    load_plugins(plugin or [])
    out = resume_folder(resume, out)
    from mamlcli.cli.progress import Progress

    with Progress(quiet=quiet) as progress:
        from mamlcli.cli.compared_report import compared_report
        from mamlcli.commands.compare import compare as run_compare
        from mamlcli.config.file import parse_seeds
        from mamlcli.interrupts import SIGNALS, StopRequest

        overrides = overrides_of(set_, None, None)
        named = _experiments(runs or [], overrides) if configs else {}
        result = run_compare(
            *([] if configs else _runs(runs or [])),
            configs=named,
            seeds=None if seeds is None else parse_seeds(seeds, "--seeds"),
            baseline=_baseline(baseline, runs or [], list(named)),
            overrides=[] if configs else overrides,
            margin=margin,
            jobs=jobs,
            out=out,
            resume=resume is not None,
            reporter=progress,
            stop=StopRequest(SIGNALS),
        )
    show(result.as_json(), compared_report(result), as_json=as_json)


def _runs(words: Sequence[str]) -> list[str]:
    """Runs as they were named, none of which is an experiment."""
    for word in words:
        path = Path(word)
        if (not path.exists() and word in shipped_configs()) or path.suffix in (".yaml", ".yml"):
            shown = visible(shorten(word))
            raise UsageError(f"{shown} is an experiment, not a run: maml compare --configs ... trains what is missing")
    return list(words)


def _experiments(words: Sequence[str], overrides: "Sequence[Override]") -> "dict[str, Config]":
    """Experiments by what each is called: its name, or where two have the same the names of their files."""
    from mamlcli.config.file import load_config

    if not words:
        raise UsageError("--configs: name the experiments: maml compare --configs A.yaml B.yaml")
    # A folder may well be called as the experiment that it came from: `--out quickstart`.
    if folder := next((word for word in words if Path(word).is_dir() and word not in shipped_configs()), None):
        raise UsageError(f"{visible(shorten(folder))} is a folder; after --configs stand experiments")
    found = [load_config(word, overrides) for word in words]
    names = [config.name for config in found]
    if len(set(names)) < len(names):
        names = [(re.sub(r"[^A-Za-z0-9._-]", "-", Path(word).stem).lstrip("._-") or "run")[:60] for word in words]
    if len(set(names)) < len(names):
        names = [f"{name}-{names[: index + 1].count(name)}" for index, name in enumerate(names)]
    return dict(zip(names, found, strict=True))


def _baseline(baseline: str | None, words: Sequence[str], names: Sequence[str]) -> str | None:
    """The baseline by the name that its experiment has here, where it is said by its file."""
    return names[words.index(baseline)] if names and baseline in words else baseline
