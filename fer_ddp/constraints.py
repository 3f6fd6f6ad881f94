"""Ranges of a job's fields beside pydantic's own, such as PositiveInt; pydantic checks them when a job is loaded."""

import os
from typing import Annotated

from pydantic import AfterValidator, Field

PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
UserPath = Annotated[str, Field(min_length=1), AfterValidator(os.path.expanduser)]
"""A path in which ``~`` is the home folder."""
OpenFraction = Annotated[float, Field(gt=0, lt=1)]
