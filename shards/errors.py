"""The errors a user meets: each message is one sentence, and commands print it without a traceback."""


class UserError(Exception):
    """What was wrong, where (file, row, key) and what would be right, in one sentence without a full stop.

    ``exit_status`` is the status that a command ends with: 1 the work failed, 2 the command or the job is wrong,
    75 interrupted with the state saved.
    """

    exit_status: int = 1


class DataError(UserError):
    """Data or a path that cannot be used; ``exit_status`` is 2 where the command itself is wrong, else 1."""

    def __init__(self, message: str, *, exit_status: int = 1) -> None:
        super().__init__(message)
        self.exit_status = exit_status


def os_error_message(error: OSError) -> str:
    """The file, if the error has one (that of a closed terminal has none), and the operating system's reason."""
    return f"{f'{error.filename}: ' if error.filename else ''}{error.strerror or error}"
