"""torchrun without its own traceback: ``python -m launch.quiet_torchrun`` takes torchrun's arguments."""

import sys

from fer_ddp import distributed

if __name__ == "__main__":
    sys.exit(distributed.torchrun(sys.argv[1:]))
