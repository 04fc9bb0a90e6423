"""Spans of time are read as people write them, and nothing else is."""

from datetime import timedelta

import pytest

from node.cli.spans import parse_span


@pytest.mark.parametrize(
    ("text", "span"), [("30d", timedelta(days=30)), ("12h", timedelta(hours=12)), ("5m", timedelta(minutes=5))]
)
def test_days_hours_and_minutes(text: str, span: timedelta) -> None:
    assert parse_span(text) == span


@pytest.mark.parametrize("text", ["", "7", "d", "-3d", "1.5h", "7 d", "9999999999d"])
def test_what_is_no_span_is_none(text: str) -> None:
    assert parse_span(text) is None
