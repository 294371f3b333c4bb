"""What a user may see go wrong; each kind knows the exit code of the command that meets it."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple


class Remedy(NamedTuple):
    """What to do about an error, in the words of each who may have caused it."""

    python: str
    """What a program passes or calls, like `pass resume=True to continue it`."""
    command_line: str
    """What a person types, like `use --resume to continue it`."""


class MamlError(Exception):
    """Base of every error that is the world's or the user's doing, not a bug.

    As a text it speaks to a program; `command_line` says the same to a person at a terminal. After a message of
    several lines the remedy is a line of its own.
    """

    exit_code: ClassVar[int] = 1
    status: ClassVar[str] = "failed"
    """What run.json says of a run that it ended."""

    def __init__(self, message: str, remedy: Remedy | None = None) -> None:
        super().__init__()
        self._say(message, remedy)

    def _say(self, message: str, remedy: Remedy | None) -> None:
        before = message + ("\n" if "\n" in message else " " if message.endswith("?") else "; ")
        self.message, self.remedy = message, remedy
        self.args = (message if remedy is None else before + remedy.python,)
        self.command_line = message if remedy is None else before + remedy.command_line

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel between processes as it is: what each kind is made from is not what it says."""
        return _again, (type(self), self.args, vars(self))

    def say_more(self, lines: Sequence[str], remedy: Remedy) -> None:
        """Add what only who called knows: lines after the message, and what to do."""
        self._say("\n".join([self.message, *lines]), remedy)


def _again(kind: type[MamlError], args: tuple[object, ...], held: Mapping[str, object]) -> MamlError:
    """An error that another process has raised."""
    error = kind.__new__(kind)
    error.args = args
    vars(error).update(held)
    return error


class UsageError(MamlError, ValueError):
    """An option, an argument or a combination of them cannot be used."""

    exit_code = 2


class ConfigError(UsageError):
    """A config cannot be used; `problems` holds one line for each thing that is wrong."""

    def __init__(
        self, problems: Sequence[str], remedy: Remedy | None = None, *, has_foreign_keys: bool = False
    ) -> None:
        """Describe what is wrong.

        Args:
            problems: One line for each thing.
            remedy: What to do about them, where their lines do not say it.
            has_foreign_keys: Whether a key is one of another family, model or method, as in what a version wrote whose
                methods all had the same keys.
        """
        super().__init__("\n".join(problems), remedy)
        self.problems = tuple(problems)
        self.has_foreign_keys = has_foreign_keys


class DataError(UsageError):
    """A file of data cannot be used; `problems` holds one line for each thing that is wrong."""

    def __init__(self, problems: Sequence[str], remedy: Remedy | None = None) -> None:
        """Describe what is wrong.

        Args:
            problems: One line for each thing, with its place.
            remedy: What to do about them.
        """
        super().__init__("\n".join(problems), remedy)
        self.problems = tuple(problems)


class RunFolderError(MamlError, FileExistsError):
    """A folder exists already, or another process is using it."""

    exit_code = 3


class CheckpointError(MamlError, ValueError):
    """A run or a checkpoint cannot be trusted, or does not fit."""

    exit_code = 4


class DivergedError(MamlError, ArithmeticError):
    """A loss or a meta-gradient is not finite; the update that it would have fed was not made."""

    exit_code = 5
    status = "diverged"


class DeviceError(MamlError, RuntimeError):
    """A device is not there, cannot do what is asked, or is out of memory."""

    exit_code = 6


class LostRankError(MamlError):
    """Another process of the same launcher has ended, or cannot be reached; what it had to say is its own error."""


class InterruptedRunError(MamlError):
    """A signal ended the work after everything was saved."""

    status = "interrupted"

    def __init__(self, signal_number: int, message: str, remedy: Remedy | None = None) -> None:
        super().__init__(message, remedy)
        self.signal_number = signal_number

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """130 for SIGINT, 143 for SIGTERM, as shells count."""
        return 128 + self.signal_number
