"""The colours of all figures and of the report's page: Okabe and Ito's, which colour-blind readers tell apart."""

BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
SKY_BLUE, ORANGE = "#56B4E9", "#E69F00"
"""For lines and text on a dark ground, where `BLUE` and `VERMILION` are too dark."""
INK, QUIET, FAINT = "#1F2328", "#59636E", "#D8DEE4"
"""Text, secondary text, grid lines."""

OF_SPLIT = {"train": VERMILION, "val": BLUE, "test": GREEN}
