"""How to run it again: commands to paste."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mamlcli.config.shipped import shipped_rows
from mamlcli.pages.blocks import Block, Code, Details, Text
from mamlcli.runs.contents import Contents

PROGRAM = "maml "
"""What every command of ours begins with."""


def command(*words: object) -> str:
    """A command of ours as a shell reads it.

    >>> command("eval", "my run")
    "maml eval 'my run'"
    """
    return PROGRAM + shlex.join(map(str, words))


def plugin_options(info: dict[str, Any]) -> list[str]:
    """The options that bring the plugins of a run."""
    plugins = info.get("plugins", [])
    names = [str(one["name"]) for one in plugins if isinstance(one, dict) and "name" in one]
    return [word for name in names for word in ("--plugin", name)]


def again_blocks(contents: Contents) -> list[Block]:
    """What makes the same run, from its config; with which code; and what goes on with it."""
    path, info = contents.path, contents.info
    if contents.reproduction is not None or contents.kind == "reproduce":
        return _reproduced(contents)
    if contents.kind == "compare":
        return _compared(contents)
    config, options = path / "config.yaml", plugin_options(info)
    if contents.kind == "sweep":
        return [*_swept(contents, options), *_code(contents)]
    blocks: list[Block] = [
        Text("The same experiment from its start, in a new folder; its config holds every setting:"),
        Code(command(contents.kind, "--config", config, *options)),
    ]
    if contents.info.get("status") not in ("done", "created") and not contents.is_held:
        blocks += [
            Text("Go on from its newest checkpoint:"),
            Code(command(contents.kind, "--resume", path, *_config_of_comparison(contents), *options)),
        ]
    if contents.kind == "train":
        blocks += [Text("Its meta-test:"), Code(command("eval", path, *options))]
    return [*blocks, *_code(contents), *_python(contents)]


def _config_of_comparison(contents: Contents) -> list[str]:
    return [] if contents.kind == "train" else ["--config", str(contents.path / "config.yaml")]


def _reproduced(contents: Contents) -> list[Block]:
    result = contents.reproduction
    if result is None:
        if contents.is_held:
            return []
        said = Text("Go on with it where it was interrupted; the folder says with which rows:")
        return [said, Code(command("reproduce", "--resume", contents.path)), *_code(contents)]
    rows = dict.fromkeys(row["row"] for row in result.results)
    if not rows.keys() <= shipped_rows().keys():  # where a user's own lies is in the command as it was typed alone
        return [Text("The command as it was typed stands below, with the files of its rows."), *_code(contents)]
    words: list[object] = [*rows, "--seeds", ",".join(map(str, result.seeds)), *["--fast"] * result.fast]
    return [
        Text("The same rows from their start, in a new folder:"),
        Code(command("reproduce", *words)),
        *_code(contents),
    ]


def _swept(contents: Contents, options: Sequence[str]) -> list[Block]:
    axes = contents.info.get("axes")
    blocks: list[Block] = []
    if isinstance(axes, dict):  # members that a program chose one by one make no command
        words = [word for key, each in axes.items() for word in ("--set", f"{key}={','.join(map(_in_words, each))}")]
        again = command("sweep", "--config", contents.path / "config.yaml", *words, *options)
        blocks += [Text("The same sweep from its start, in a new folder:"), Code(again)]
    if contents.info.get("status") != "done" and not contents.is_held:
        blocks += [Text("Go on where it was saved:"), Code(command("sweep", "--resume", contents.path, *options))]
    if contents.sweep is not None and contents.sweep.winner_run is not None:
        best = contents.path / "runs" / str(contents.sweep.winner) / "config.yaml"
        blocks += [Text("The winner, with more seeds:"), Code(command("train", "--config", best, "--seeds", "0-9"))]
    return blocks


def _in_words(value: Any) -> str:
    """A value as `--set` reads it."""
    return value if isinstance(value, str) and "," not in value else json.dumps(value)


def _compared(contents: Contents) -> list[Block]:
    """What goes on with a comparison of runs: its folder says what is compared."""
    words = [Text("Measure it again, or go on with it where it was interrupted; the folder says what is compared:")]
    resumed = Code(command("compare", "--resume", contents.path, *plugin_options(contents.info)))
    return [*words, resumed, *_code(contents)]


def _code(contents: Contents) -> list[Block]:
    """The versions that the numbers are of."""
    sessions = sessions_of(contents)
    if not sessions:
        return []
    last = sessions[-1]
    versions = last.get("versions") or {}
    lines = []
    git = last.get("git") or {}
    if git.get("commit"):
        dirty = "  # and changes that were not committed" if git.get("dirty") else ""
        lines.append(shlex.join(["git", "checkout", str(git["commit"])]) + dirty)
    pinned = [f"{name}=={version}" for name, version in versions.items() if name not in ("python", "mamlcli")]
    if pinned:
        lines.append(shlex.join(["python", "-m", "pip", "install", *pinned]))
    python = f" with Python {versions['python']}" if "python" in versions else ""
    said = Text(f"The code and the packages that it ran{python}:")
    return [Details("With the same versions", [said, Code("\n".join(lines))])] if lines else []


def sessions_of(contents: Contents) -> Sequence[dict[str, Any]]:
    """The processes that worked on a run, or on the runs inside."""
    own: list[dict[str, Any]] = list(contents.info.get("sessions", []))
    return own or [session for part in contents.parts.values() for session in part.info.get("sessions", [])]


def _python(contents: Contents) -> list[Block]:
    function = contents.kind.replace("-", "_")
    plugins = plugin_options(contents.info)[1::2]
    lines = [
        "import mamlcli",
        "",
        *([f"mamlcli.load_plugins({plugins!r})"] if plugins else []),
        f"config = mamlcli.load_config({_quoted(contents.path / 'config.yaml')})",
        f"result = mamlcli.{function}(config)",
    ]
    if contents.kind == "train":
        lines.append("mamlcli.evaluate(result.run)")
    return [Details("From Python", [Code("\n".join(lines), "python")])]


def _quoted(path: Path) -> str:
    return repr(str(path))
