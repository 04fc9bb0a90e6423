"""Numbers with units in rules."""

import operator

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from node.errors import RuleInvalid
from node.rules.quantity import COUNT, DEGREES, MILLIMETRES, MILLISECONDS, SLICES, YEARS, Quantity, parse_span

OPERATORS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "=": operator.eq}
whole = st.integers(min_value=1, max_value=10**6)
hundredths = st.integers(min_value=1, max_value=10**6).map(lambda n: n / 100)


@given(st.sampled_from(sorted(OPERATORS)), whole, whole)
def test_whole_numbers_compare_as_in_arithmetic(sign: str, bound: int, number: int) -> None:
    span, words = parse_span(f"{sign} {bound}", COUNT)
    assert span.holds(number) is OPERATORS[sign](number, bound)
    assert words == f"{sign} {bound}"


@given(st.sampled_from(sorted(OPERATORS)), hundredths, hundredths)
def test_lengths_compare_as_in_arithmetic_beyond_the_tolerance(sign: str, bound: float, number: float) -> None:
    assume(abs(bound - number) > 2 * MILLIMETRES.tolerance)
    span, _ = parse_span(f"{sign} {bound:.2f} mm", MILLIMETRES)
    assert span.holds(number) is OPERATORS[sign](number, bound)


@given(st.sampled_from([("<=", ">"), (">=", "<")]), hundredths, st.floats(min_value=-0.05, max_value=0.05))
def test_a_comparison_and_its_opposite_never_agree(signs: tuple[str, str], bound: float, off: float) -> None:
    one, other = (parse_span(f"{sign} {bound:.2f} mm", MILLIMETRES)[0] for sign in signs)
    assert one.holds(bound + off) is not other.holds(bound + off)


@given(hundredths, hundredths, hundredths)
def test_a_range_is_both_of_its_bounds(first: float, second: float, number: float) -> None:
    low, high = sorted((first, second))
    span, _ = parse_span(f"{low:.2f} .. {high:.2f} mm", MILLIMETRES)
    at_least, at_most = (parse_span(f"{s} {b:.2f} mm", MILLIMETRES)[0] for s, b in ((">=", low), ("<=", high)))
    assert span.holds(number) is (at_least.holds(number) and at_most.holds(number))


def test_the_last_decimal_of_a_position_does_not_decide() -> None:
    span, _ = parse_span("<= 3 mm", MILLIMETRES)
    assert span.holds(3.0004)
    assert not span.holds(3.1)


@pytest.mark.parametrize(
    ("raw", "quantity", "holds", "fails"),
    [
        ("<= 0.3 cm", MILLIMETRES, 3.0, 3.2),
        ("1..3 mm", MILLIMETRES, 1.0, 0.5),
        ("≥ 2.2 s", MILLISECONDS, 2200.0, 2000.0),
        (">= 18 years", YEARS, 18.0, 17.5),
        ("< 6 months", YEARS, 0.25, 0.75),
        ("-10 .. 10 deg", DEGREES, -10.0, 11.0),
        (">= 20 slices", SLICES, 20, 19),
        (512, COUNT, 512.0, 511.0),
    ],
)
def test_units_are_converted(raw: str | int, quantity: Quantity, holds: float, fails: float) -> None:
    span, _ = parse_span(raw, quantity)
    assert span.holds(holds)
    assert not span.holds(fails)


@pytest.mark.parametrize(
    ("raw", "quantity", "message"),
    [
        ("<= 3 ms", MILLIMETRES, "unit 'ms'"),
        ("<= 3", MILLIMETRES, "no unit"),
        (3, MILLIMETRES, "no unit"),
        ("<= 3 mm", COUNT, "unit 'mm'"),
        ("thin", MILLIMETRES, "no comparison"),
        ("<= mm", MILLIMETRES, "no comparison"),
        ("3 .. 1 mm", MILLIMETRES, "first bound is above"),
        ("< 0 mm", MILLIMETRES, "least is 0 mm"),
        ("<= -1", COUNT, "least is 0"),
        ("= 2.5", COUNT, "no whole number"),
        ("2.1 .. 2.9", COUNT, "no whole number"),
        ("nan", COUNT, "no comparison"),
        (float("inf"), COUNT, "no comparison"),
        ("!= 3 mm", MILLIMETRES, "no comparison"),
    ],
)
def test_what_can_never_hold_is_refused(raw: str | float, quantity: Quantity, message: str) -> None:
    with pytest.raises(RuleInvalid, match=message):
        parse_span(raw, quantity)
