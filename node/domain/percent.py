"""Certainties and thresholds in per cent, as every page, picture and terminal tells them."""

WHOLE = 100


def certainty(confidence: float) -> str:
    """Return a probability (0..1) in per cent; no model is certain."""
    rounded = round(confidence * WHOLE)
    return "> 99 %" if rounded >= WHOLE else "< 1 %" if rounded <= 0 else f"{rounded} %"


def percent(threshold: float) -> str:
    """Return a threshold (0..1) in per cent, with the digits that it was set with."""
    return f"{WHOLE * threshold:.4g} %"
