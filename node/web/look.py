"""How a Frame is to be shown to people (PS3.18 8.3.5): what a request says, and hands to the pool."""

from dataclasses import dataclass
from typing import Any

JPEG, PNG = "image/jpeg", "image/png"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Which values are shown between black and white.

    Attributes
    ----------
    center, width
        In the unit of the Modality LUT's output; width > 0.
    function
        VOI LUT Function (0028,1056).
    """

    center: float
    width: float
    function: str = "LINEAR"


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewport:
    """Into what the picture must fit, and which part of it is shown.

    Attributes
    ----------
    width, height
        Pixels of the picture that comes out, at most; it keeps its proportions.
    x, y, region_width, region_height
        Part of the Frame, pixels; a negative size mirrors it, None reaches to the border.
    """

    width: int
    height: int
    x: float = 0.0
    y: float = 0.0
    region_width: float | None = None
    region_height: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How a Frame is to be shown; without a window, the Instance's own."""

    media_type: str
    window: Window | None = None
    viewport: Viewport | None = None
    quality: int = 90


def read_look(told: dict[str, Any]) -> Look:
    """Return the Look of its fields in JSON."""
    window, viewport = told.pop("window"), told.pop("viewport")
    return Look(
        window=None if window is None else Window(**window),
        viewport=None if viewport is None else Viewport(**viewport),
        **told,
    )
