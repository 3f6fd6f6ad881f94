"""What several kinds of faults do to a run."""

import os
import signal

from laboratory import STEPS, Fault, Start, Strike


def sends(number: signal.Signals) -> Strike:
    """A signal of the process to itself."""
    return lambda operations: os.kill(os.getpid(), number)


def interrupt(fault: Fault) -> None:
    """A run that was killed at some point after its first state."""
    step = fault.random.randint(4, STEPS)
    fault.note(f"is killed at step {step}")
    fault.train(Start(at_step=step, strike=sends(signal.SIGKILL)))
