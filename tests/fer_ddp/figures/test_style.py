"""What holds for every figure: how it is laid out, and how it is saved."""

import os
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from fer_ddp.errors import RunError
from fer_ddp.figures.confusion_matrix import plot_confusion_matrix
from fer_ddp.figures.learning_curves import plot_learning_curves
from fer_ddp.figures.per_class import plot_per_class
from fer_ddp.figures.style import save_figure
from fer_ddp.figures.worst_errors import plot_worst_errors

LINES = [{"epoch": epoch, "lr": 0.001, "train": {"loss": 1 / epoch, "accuracy": 0.5}} for epoch in (1, 2)]
MEASURES = {"angry": {"precision": 0.5, "recall": 0.25, "f1": 0.1, "support": 4}}
NONE, ONE = np.zeros(3, int), np.ones(3, int)
FIGURES: dict[str, Callable[[], Figure]] = {
    "curves": lambda: plot_learning_curves(LINES),
    "confusion": lambda: plot_confusion_matrix([[8, 2], [1, 19]], ["angry", "happy"]),
    "per_class": lambda: plot_per_class(MEASURES),
    "errors": lambda: plot_worst_errors(
        np.zeros((3, 1, 4, 4), np.uint8), NONE, ONE, np.full(3, 0.9), ["angry", "happy"], keys=["a", "b", "c"]
    ),
}


def png_of(figure: Figure, folder: Path) -> bytes:
    save_figure(figure, folder / "figure.png")
    return (folder / "figure.png").read_bytes()


def test_a_long_title_is_broken_and_stays_inside_the_figure() -> None:
    figure = plot_confusion_matrix(
        [[8, 2], [1, 19]], ["angry", "happy"], subject="a job " + "with a very long name " * 6
    )
    figure.draw_without_rendering()
    headline, detail = (text.get_window_extent() for text in figure.texts)
    assert "\n" in figure.texts[0].get_text()
    assert headline.x1 < figure.bbox.x1
    assert headline.y0 > detail.y1 - 0.5


def test_a_dollar_in_a_class_name_is_no_formula(tmp_path: Path) -> None:
    figure = plot_confusion_matrix([[1, 0], [0, 1]], ["$\\frac$", "b"], subject="$\\x$")
    png_of(figure, tmp_path)
    assert figure.axes[0].get_xticklabels()[0].get_parse_math() is False


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES.keys())
def test_two_saves_of_a_figure_and_a_second_drawing_give_the_same_bytes(
    draw: Callable[[], Figure], tmp_path: Path
) -> None:
    figure = draw()
    assert png_of(figure, tmp_path) == png_of(figure, tmp_path) == png_of(draw(), tmp_path)


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES.keys())
def test_panels_stand_at_round_numbers_since_the_layouts_last_digits_differ_from_process_to_process(
    draw: Callable[[], Figure], tmp_path: Path
) -> None:
    figure = draw()
    png_of(figure, tmp_path)
    places = np.array([axes.get_position(original=True).bounds for axes in figure.axes])
    np.testing.assert_allclose(places, places.round(6), rtol=0, atol=1e-15)


def test_the_users_matplotlib_settings_change_nothing(tmp_path: Path) -> None:
    plain = png_of(plot_per_class(MEASURES), tmp_path)
    with matplotlib.rc_context({"font.size": 30, "savefig.transparent": True, "axes.facecolor": "red"}):
        assert png_of(plot_per_class(MEASURES), tmp_path) == plain
        assert matplotlib.rcParams["font.size"] == 30


def test_a_saved_png_holds_pixels_and_resolution_and_no_software_or_date(tmp_path: Path) -> None:
    content = png_of(plot_per_class(MEASURES), tmp_path / "figures")
    chunks, place = [], 8
    while place < len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        chunks.append(content[place + 4 : place + 8].decode())
        place += 12 + length
    assert (content[:8], list(dict.fromkeys(chunks))) == (b"\x89PNG\r\n\x1a\n", ["IHDR", "pHYs", "IDAT", "IEND"])
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["figure.png"]


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "figures").write_text("a file, not a folder")
    path = tmp_path / "figures" / "curves.png"
    with pytest.raises(RunError, match=f"^{re.escape(str(path))}: cannot be written: File exists$"):
        save_figure(plot_learning_curves([]), path)


def test_matplotlib_comes_with_the_first_drawing_and_pyplot_never() -> None:
    program = (
        "import sys, fer_ddp.figures.learning_curves as figures\n"
        "before = 'matplotlib' in sys.modules\n"
        "figures.plot_learning_curves([])\n"
        "print(before, 'matplotlib' in sys.modules, 'matplotlib.pyplot' in sys.modules, 'torch' in sys.modules)\n"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said == "False True False False\n"


def test_settings_of_matplotlibs_in_the_working_folder_and_in_the_environment_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "matplotlibrc")  # whoever opens it waits
    script = (
        "import fer_ddp.figures.style as style; from pathlib import Path; "
        "figure = style.in_our_style(style.new_figure)(2.0, 2.0, 'headline', 'detail'); "
        "style.save_figure(figure, Path('a.png'))"
    )
    environment = os.environ | {"MPLBACKEND": "nonsense", "PYTHONPATH": str(Path(__file__).parents[3])}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True, timeout=30)
    assert (tmp_path / "a.png").stat().st_size > 0
