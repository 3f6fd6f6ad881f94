"""How a CPU's memory is asked for."""

import os


def ask_for_huge_pages() -> None:
    """Let torch ask Linux for 2 MiB pages for its large tensors; to be called before the first tensor is made.

    A training step frees all its activations, blocks above 32 MiB go back to the kernel, and in the next step each page
    of them is cleared and mapped anew: 10 to 14 % of Model 4's time with pages of 4 KiB. It is torch's own switch
    (c10/core/impl/alloc_cpu.cpp) and does nothing where the kernel has no such pages. Whoever has set it is heard.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
