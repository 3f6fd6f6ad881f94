"""What `forking` starts ends and prints as a real process of Python does."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from forking import fork, run_forked

ENDS = {
    "ends": "",
    "exits with 3": "sys.exit(3)",
    "exits with a message": "sys.exit('no')",
    "raises": "raise ValueError('no')",
    "is killed": "os.kill(os.getpid(), 9)",
    "exits at once": "os._exit(75)",
    "has something to do at its end": "import atexit; atexit.register(print, 'last')",
}
PROGRAM = "import os, sys\nprint(sys.argv[1:], __name__, os.getcwd(), flush=True)\nprint('warning', file=sys.stderr)\n"


@pytest.mark.parametrize("end", ENDS)
def test_a_forked_program_ends_and_prints_as_a_real_one(tmp_path: Path, end: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM + ENDS[end])
    real = subprocess.run(
        [sys.executable, str(program), "a", "b c"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    forked = run_forked(1, str(program), "a", "b c", cwd=tmp_path)
    assert (forked.returncode, forked.stdout) == (real.returncode, real.stdout)
    assert forked.stderr.splitlines()[:1] + forked.stderr.splitlines()[-1:] == (
        real.stderr.splitlines()[:1] + real.stderr.splitlines()[-1:]  # a traceback has other lines between them
    )


def test_a_rank_that_fails_ends_the_others_and_a_signal_ends_all(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys, time\nfrom pathlib import Path\nPath(os.environ['RANK']).touch()\n"
        "while len(list(Path().glob('[0-9]'))) < 3: time.sleep(0.01)\n"
        "if os.environ['RANK'] == sys.argv[1]: sys.exit(3)\ntime.sleep(100)"
    )
    assert run_forked(3, str(program), "1", timeout=60, cwd=tmp_path).returncode == 1
    process = fork([str(program), "none"], ranks=2, cwd=tmp_path)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 1
