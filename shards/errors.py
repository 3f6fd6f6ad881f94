"""The one exception that this package raises for a mistake that is not its own."""


class DataError(Exception):
    """Data or a path that cannot be used. The message is one whole sentence for the user.

    ``exit_status`` is 2 where the command is wrong (a path that does not exist, an option that makes no sense)
    and 1 where the command was right and the data cannot be used.
    """

    def __init__(self, message: str, *, exit_status: int = 1) -> None:
        super().__init__(message)
        self.exit_status = exit_status
