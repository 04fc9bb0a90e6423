"""Numbers with units as rules write them: ``<= 3 mm``, ``> 20``, ``1 .. 3 mm``."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from node.errors import RuleInvalid

NUMBER = r"[-+]?\d+(?:\.\d+)?"
COMPARISON = re.compile(rf"(?P<sign><=|>=|<|>|==?|≤|≥)?\s*(?P<number>{NUMBER})\s*(?P<unit>[^\d\s.].*)?\Z")
RANGE = re.compile(rf"(?P<low>{NUMBER})\s*\.\.\s*(?P<high>{NUMBER})\s*(?P<unit>[^\d\s.].*)?\Z")
SIGNS = MappingProxyType({"": "=", "==": "=", "≤": "<=", "≥": ">="})


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """What is measured, and how exactly.

    Attributes
    ----------
    unit
        Unit in which values are compared; empty for a plain number.
    factors
        Each unit that may be written, and what one of it is in `unit`.
    tolerance
        Differences up to this count as none, in `unit`.
    floor
        The least value that can occur, in `unit`; None without one.
    is_whole
        True when only whole numbers occur.
    """

    unit: str
    factors: Mapping[str, float]
    tolerance: float = 0.0
    floor: float | None = 0.0
    is_whole: bool = False

    def show(self, number: float) -> str:
        """Return `number` with its unit, four digits at most behind the point."""
        return f"{round(number, 4):.7g} {self.unit}".rstrip()


# Positions are written with two or three decimals: what differs by less than 0.01 mm is the same.
MILLIMETRES = Quantity(unit="mm", factors=MappingProxyType({"mm": 1.0, "cm": 10.0}), tolerance=0.01)
MILLISECONDS = Quantity(unit="ms", factors=MappingProxyType({"ms": 1.0, "s": 1000.0}), tolerance=0.01)
KILOVOLTS = Quantity(unit="kV", factors=MappingProxyType({"kV": 1.0, "kVp": 1.0}), tolerance=0.01)
DEGREES = Quantity(unit="deg", factors=MappingProxyType({"deg": 1.0, "°": 1.0}), tolerance=0.01, floor=None)
YEARS = Quantity(
    unit="years",
    factors=MappingProxyType(
        {"years": 1.0, "year": 1.0, "y": 1.0, "months": 1 / 12, "weeks": 7 / 365.25, "days": 1 / 365.25}
    ),
    tolerance=1e-6,
)
DIFFUSION = Quantity(unit="s/mm2", factors=MappingProxyType({"s/mm2": 1.0, "s/mm²": 1.0}), tolerance=0.01)
PERCENT = Quantity(unit="%", factors=MappingProxyType({"%": 1.0}), tolerance=0.01)
COUNT = Quantity(unit="", factors=MappingProxyType({"": 1.0}), is_whole=True)
SLICES = Quantity(unit="", factors=MappingProxyType({"": 1.0, "slices": 1.0}), is_whole=True)
PIXELS = Quantity(unit="", factors=MappingProxyType({"": 1.0, "pixels": 1.0}), is_whole=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The numbers for which a comparison holds; a bound that is None is open.

    Attributes
    ----------
    is_strict
        True for ``<`` and ``>``: the bound itself does not belong.
    """

    low: float | None
    high: float | None
    is_strict: bool
    tolerance: float

    def holds(self, number: float) -> bool:
        """Tell whether `number` lies within; the bounds are as exact as the measurement."""
        edge = -self.tolerance if self.is_strict else self.tolerance
        if self.low is not None and not self._reaches(number - self.low, edge):
            return False
        return self.high is None or self._reaches(self.high - number, edge)

    def _reaches(self, distance: float, edge: float) -> bool:
        return distance > -edge if self.is_strict else distance >= -edge


def parse_span(raw: str | float, quantity: Quantity) -> tuple[Span, str]:
    """Return the numbers that `raw` allows, and the comparison as a person reads it.

    Raises
    ------
    RuleInvalid
        If `raw` is no comparison, its unit is another one, or no value can meet it.
    """
    text = f"{raw:g}" if isinstance(raw, int | float) else raw.strip()
    if match := RANGE.match(text):
        factor = _factor(match["unit"], quantity, text)
        low, high = float(match["low"]) * factor, float(match["high"]) * factor
        span = Span(low=low, high=high, is_strict=False, tolerance=quantity.tolerance)
        words = f"{quantity.show(low).removesuffix(quantity.unit).strip()} .. {quantity.show(high)}"
    elif match := COMPARISON.match(text):
        bound = float(match["number"]) * _factor(match["unit"], quantity, text)
        sign = SIGNS.get(match["sign"] or "", match["sign"])
        span = _span_of(sign, bound, quantity)
        words = f"{sign} {quantity.show(bound)}"
    else:
        raise RuleInvalid(f"{text!r} is no comparison; write {_example(quantity)}")
    _check_possible(span, quantity, text)
    return span, words


def _span_of(sign: str, bound: float, quantity: Quantity) -> Span:
    return Span(
        low=bound if sign in {"=", ">", ">="} else None,
        high=bound if sign in {"=", "<", "<="} else None,
        is_strict=sign in {"<", ">"},
        tolerance=quantity.tolerance,
    )


def _factor(unit: str | None, quantity: Quantity, text: str) -> float:
    written = (unit or "").strip()
    if written in quantity.factors:
        return quantity.factors[written]
    if not written:
        raise RuleInvalid(f"{text!r} has no unit; write {_example(quantity)}")
    known = ", ".join(name for name in quantity.factors if name) or "none"
    raise RuleInvalid(f"{text!r} has the unit {written!r}, known here: {known}; write {_example(quantity)}")


def _example(quantity: Quantity) -> str:
    end = f" {quantity.unit}".rstrip()
    return f"'<= 3{end}', '> 20{end}' or '1 .. 3{end}'"


def _check_possible(span: Span, quantity: Quantity, text: str) -> None:
    low, high = span.low, span.high
    if low is not None and high is not None and low > high:
        raise RuleInvalid(f"{text!r} holds for no number: its first bound is above its second")
    floor = quantity.floor
    if floor is not None and high is not None and (high < floor or (span.is_strict and high <= floor)):
        raise RuleInvalid(f"{text!r} holds for no value that occurs; the least is {quantity.show(floor)}")
    if quantity.is_whole and low is not None and high is not None and math.ceil(low) > math.floor(high):
        raise RuleInvalid(f"{text!r} holds for no whole number")
