"""The errors a user meets. Each message is one whole sentence: what was wrong, where, what would be right."""

from shards.errors import UserError
from shards.errors import os_error_message as os_error_message


class JobError(UserError):
    """The command or the job is wrong; nothing was started."""

    exit_status = 2


class RunError(UserError):
    """The work itself failed."""

    exit_status = 1


class Interrupted(UserError):
    """A signal asked the run to stop; its state is saved and the same command resumes it."""

    exit_status = 75
