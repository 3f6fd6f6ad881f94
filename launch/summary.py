"""The report of an array, when its last member has ended."""

from pathlib import Path

from launch.array_folder import ArrayFolder


def write_summary(folder: Path) -> Path:
    """Write ``report.html``, ``.md`` and ``.csv`` of the array's finished runs into its ``folder``; the page's path.

    Raises RunError if no run is finished.
    """
    from fer_ddp.report import write_report  # torch takes seconds

    runs = [run for run in ArrayFolder(folder).runs.values() if run.is_dir()]
    return write_report(runs, folder / "report.html").page
