"""A process that has torch loaded and forks commands on request, each a real process in a fraction of a second.

A fault is a function of `tests.injections` that runs in the child before the command.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parent.parent
# A command that a failed test has forgotten ends by itself.
_LONGEST_S = 120


class Zygote:
    """Starts commands and waits for them."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()

    def start(
        self,
        cwd: Path,
        *arguments: object,
        fault: str | None = None,
        environment: Mapping[str, str] | None = None,
        **values: object,
    ) -> "Command":
        """Start `maml` with these arguments in a folder, with a fault of `tests.injections` if one is named.

        The environment is added to that of the tests.
        """
        log = cwd / f".command-{time.monotonic_ns()}"
        request: dict[str, Any] = {"arguments": [str(one) for one in arguments], "cwd": str(cwd), "log": str(log)}
        request |= {"fault": fault, "values": values, "environment": dict(environment or {})}
        return Command(self, self.ask(request), log)

    def ask(self, request: Mapping[str, Any]) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


class Command:
    """A command that runs or has ended."""

    def __init__(self, zygote: Zygote, pid: int, log: Path) -> None:
        self.zygote, self.pid, self.log = zygote, pid, log
        self.code: int | None = None

    def signal(self, number: int) -> None:
        """Send it a signal; it is not reaped before `wait`, so its id is its own."""
        os.kill(self.pid, number)

    def wait(self, within_s: float = 60, *, of_work: bool = False) -> int | None:
        """Its exit code, -9 for one that was killed, or None if it still runs after some seconds.

        With `of_work` they are seconds that it computes, which a busy machine makes no fewer.
        """
        if self.code is None:
            self.code = self.zygote.ask({"wait": self.pid, "within_s": within_s, "of_work": of_work})
        return self.code

    @property
    def out(self) -> str:
        return self._read(".out")

    @property
    def err(self) -> str:
        return self._read(".err")

    def _read(self, suffix: str) -> str:
        path = self.log.with_suffix(suffix)
        return path.read_text() if path.exists() else ""  # it opens them itself, once it runs


def _wait(pid: int, within_s: float, of_work: bool) -> int | None:
    until, worked = time.monotonic() + (_LONGEST_S if of_work else within_s), _worked_s(pid)
    while time.monotonic() < until and not (of_work and _worked_s(pid) - worked > within_s):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


def _worked_s(pid: int) -> float:
    """Seconds that a process has computed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def _run(request: Mapping[str, Any]) -> None:
    """Become the command; in the child."""
    signal.alarm(_LONGEST_S)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    for number, suffix in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(request["log"] + suffix, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.chdir(request["cwd"])
    os.environ.update(request["environment"])
    sys.argv = ["maml", *request["arguments"]]
    from mamlcli.cli import main
    from tests import injections

    if request["fault"]:
        getattr(injections, request["fault"])(**request["values"])
    main()


def _child(request: Mapping[str, Any]) -> None:
    import traceback

    code = 1
    try:
        _run(request)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _warm_up() -> None:
    """Load what torch and matplotlib load at first use; no thread is left that a fork would lose."""
    import io

    import torch
    from matplotlib.figure import Figure

    import mamlcli
    from mamlcli.commands.train import dry_run

    torch.set_num_threads(1)
    dry_run(mamlcli.parse_config("{name: warm, device: cpu, model: {hidden_sizes: [2]}}"))
    for suffix in ("png", "svg"):
        figure = Figure()
        figure.subplots().set_title("warm")
        figure.savefig(io.BytesIO(), format=suffix)


def serve() -> None:
    """Answer requests, a line of JSON each, until there are no more."""

    _warm_up()
    replies = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            reply = _wait(request["wait"], request["within_s"], request["of_work"])
        elif (reply := os.fork()) == 0:
            _child(request)
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    serve()
