"""`python -m mamlcli`: the same as the command `maml`."""

from mamlcli.cli import main

if __name__ == "__main__":
    main()
