"""How long a message between ranks takes: a start, a time for each hop, and the bytes at the link's rate."""

from dataclasses import dataclass

_NCCL = "NCCL's own latency model, src/graph/tuning.cc, ring, protocol LL (ring is what its gathers always take)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """What joins the ranks; all of them are taken to be joined alike."""

    name: str
    start_us: float
    """To begin a collective, microseconds."""
    hop_us: float
    """To hand a small message from one rank to the next, microseconds."""
    gigabytes_per_second: float
    """What a rank sends, and at the same time receives, 10^9 bytes a second."""
    overlaps: bool
    """Whether gradients can travel while the backward pass computes; not where a rank's processor moves them itself."""
    source: str

    def gather_seconds(self, ranks: int, size: int) -> float:
        """A ring all-gather of ``size`` bytes from each of ``ranks``."""
        hops = ranks - 1
        return self._seconds(hops, hops * size)

    def reduce_seconds(self, ranks: int, size: int) -> float:
        """A ring all-reduce of ``size`` bytes: a reduce-scatter, then an all-gather."""
        hops = 2 * (ranks - 1)
        return self._seconds(hops, hops / ranks * size)

    def _seconds(self, hops: int, size: float) -> float:
        if hops == 0:
            return 0.0
        return (self.start_us + hops * self.hop_us) * 1e-6 + size / (self.gigabytes_per_second * 1e9)


LINKS = {
    link.name: link
    for link in (
        Link(
            name="nvlink",
            start_us=6.6,
            hop_us=0.6,
            gigabytes_per_second=370,
            overlaps=True,
            source=f"H100, NVLink 4: {_NCCL}; of the 450 GB/s of the line NCCL gets 370 (github.com/NVIDIA/nccl-tests, "
            f"issue 212, a maintainer's word)",
        ),
        Link(
            name="infiniband",
            start_us=6.6,
            hop_us=2.7,
            gigabytes_per_second=48,
            overlaps=True,
            source=f"NDR, one 400 Gb/s port a GPU: {_NCCL}; 12 of 12.5 GB/s for each 100 Gb/s (NCCL, src/graph/topo.h)",
        ),
        Link(
            name="ethernet",
            start_us=6.6,
            hop_us=17.8,
            gigabytes_per_second=1.9,
            overlaps=True,
            source="25 Gb/s, TCP, one port a GPU: 17.8 us from kernel to kernel without a switch (github.com/F-Stack/"
            "f-stack, issue 540); NCCL over TCP gets 60 % of the line (github.com/NVIDIA/nccl, issue 209)",
        ),
    )
}
