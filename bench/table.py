"""The results: rows, the table that is printed or put into a page, and the JSON."""

import os
import platform
import statistics
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from fer_ddp.hardware import processor_flags, processor_name
from fer_ddp.runs.environment import code_version
from shards.parallel import usable_cpus

PACKAGES = ("torch", "torchvision", "numpy", "pandas", "pillow", "webdataset", "kornia")
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One stage. ``ours`` and ``peer`` are medians in ``unit``."""

    stage: str
    against: str
    unit: str
    ours: float
    peer: float | None = None
    ratio: float | None = None
    """How many times as fast ours is; for memory, how many times the data's size."""
    at_least: float | None = None
    note: str = ""
    ours_seconds: tuple[float, ...] = ()
    peer_seconds: tuple[float, ...] = ()


Result = Row | str
"""A row, or a message about what was left out."""


def compare(
    stage: str, against: str, images: int, ours: list[float], peer: list[float], at_least: float, note: str = ""
) -> Row:
    """A row in images a second, from the seconds that both sides took for ``images``."""
    our_median, peer_median = statistics.median(ours), statistics.median(peer)
    return Row(
        stage=stage,
        against=against,
        unit="images/s",
        ours=images / our_median,
        peer=images / peer_median,
        ratio=peer_median / our_median,
        at_least=at_least,
        note=note,
        ours_seconds=tuple(ours),
        peer_seconds=tuple(peer),
    )


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "cpu": _processor(),
        "cpus": usable_cpus(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
        "load_at_start": round(os.getloadavg()[0], 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "commit": code_version()["commit"],
    }


def _processor() -> str:
    known = {"avx512_bf16": "AVX-512 with bf16", "avx512f": "AVX-512", "avx2": "AVX2"}
    widest = [name for flag, name in known.items() if flag in processor_flags()][:1]
    return processor_name() + "".join(f" ({name})" for name in widest)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def to_json(results: list[Result], **more: Any) -> dict[str, Any]:
    rows = [asdict(result) for result in results if isinstance(result, Row)]
    return more | {"rows": rows, "left_out": [result for result in results if isinstance(result, str)]}


def markdown(results: dict[str, Any]) -> str:
    """The machine in a line, the table, the notes."""
    where = results["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in where["versions"].items())
    commit = (where["commit"] or "unknown")[:10] + ("+" if (where["commit"] or "").endswith("+") else "")
    device = f"{where['gpu']}, " if where["gpu"] else ""
    lines = [
        f"{device}{where['cpu']}, {where['cpus']} CPUs, {where['threads']} threads (load {where['load_at_start']} at "
        f"the start), {where['system']}, Python {where['python']}, {versions}, commit {commit}. "
        f"Data: {results['data']}. Sizes: {results['sizes']['name']}, medians of {results['sizes']['repeats']}.",
        "",
        "| stage | against | ours | peer | ratio | at least |",
        "|---|---|---:|---:|---:|---:|",
        *(_line(row) for row in results["rows"]),
        "",
        *(f"- {row['stage']}: {row['note']}." for row in results["rows"] if row["note"]),
        *(f"- {message}." for message in results["left_out"]),
    ]
    return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    ratio, least = row["ratio"], row["at_least"]
    target = "" if least is None else f"{least:g}" + (" (missed)" if ratio < least else "")
    return (
        f"| {row['stage']} | {row['against']} | {_number(row['ours'])} {row['unit']} | "
        f"{'' if row['peer'] is None else _number(row['peer']) + ' ' + row['unit']} | "
        f"{'' if ratio is None else f'{ratio:.2f}'} | {target} |"
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def put_into(page: Path, table: str) -> None:
    """Replace the text between the page's two marks. Raises ValueError for a page without them."""
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page}: has no line {BEGIN} with {END} below it; put them where the table is to be")
    page.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}", encoding="utf-8")
