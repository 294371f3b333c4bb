"""The command `maml` and its subcommands."""

from typing import Annotated

import typer

from mamlcli.cli.help import App, ConfigCommand, Group
from mamlcli.cli.subcommands.check_grads import check_grads
from mamlcli.cli.subcommands.compare import compare
from mamlcli.cli.subcommands.compare_orders import compare_orders
from mamlcli.cli.subcommands.configs import configs
from mamlcli.cli.subcommands.doctor import doctor
from mamlcli.cli.subcommands.evaluate import evaluate
from mamlcli.cli.subcommands.plot import plot
from mamlcli.cli.subcommands.predict import predict
from mamlcli.cli.subcommands.report import report
from mamlcli.cli.subcommands.reproduce import reproduce
from mamlcli.cli.subcommands.runs import runs
from mamlcli.cli.subcommands.sweep import sweep
from mamlcli.cli.subcommands.train import train
from mamlcli.cli.subcommands.watch import watch

app = App(
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"mamlcli {version('mamlcli')}")
        raise typer.Exit


@app.callback()
def maml(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """MAML experiments on few-shot regression: many seeds at once, first and second order.

    Exit codes: 0 done, 1 a bug or a check that fails, 2 usage or config, 3 the
    folder exists, is in use or cannot be written, 4 a run or checkpoint that
    cannot be trusted, 5 diverged, 6 device or memory, 130 and 143 interrupted
    after saving.
    """


app.command(cls=ConfigCommand)(train)
app.command(cls=ConfigCommand)(sweep)
app.command(name="eval")(evaluate)
app.command()(predict)
app.command()(plot)
app.command()(report)
app.command()(watch)
app.command()(compare)
app.command(cls=ConfigCommand)(compare_orders)
app.command(cls=ConfigCommand)(check_grads)
app.command()(reproduce)
app.add_group(configs, "configs")
app.add_group(runs, "runs")
app.command()(doctor)
