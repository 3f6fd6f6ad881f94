"""A stop signal at a chosen step, for a training in the test's own process."""


class FlagAt:
    """In place of `distributed.StopConsensus`: a stop signal after so many steps."""

    def __init__(self, step: int) -> None:
        self._left = step

    def ask(self, stop: bool, save: bool = False) -> tuple[bool, bool]:
        self._left -= 1
        return self._left == 0, save
