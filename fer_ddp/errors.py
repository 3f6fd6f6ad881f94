"""The errors a user meets. Each message is one whole sentence: what was wrong, where, what would be right."""

from shards.errors import UserError


class JobError(UserError):
    """The command or the job is wrong; nothing was started."""

    exit_status = 2


class RunError(UserError):
    """The work itself failed."""

    exit_status = 1


class Interrupted(UserError):
    """A signal asked the run to stop; its state is saved and the same command resumes it."""

    exit_status = 75


def os_error_message(error: OSError) -> str:
    """The file, if the error has one (that of a closed terminal has none), and the operating system's reason."""
    return f"{f'{error.filename}: ' if error.filename else ''}{error.strerror or error}"
