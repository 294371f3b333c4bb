"""`python -m mamlcli`: the same as the command `maml`."""

from mamlcli.cli import main

main()
