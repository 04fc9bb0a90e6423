"""Texts in one form: case, accents and separators do not decide."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.rules.text import MAX_SHOWN, MAX_TEXT, compile_pattern, normalize, shorten


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("T1_POST-Gd", "t1 post gd"),
        ("Schädel nativ", "schadel nativ"),
        ("Crâne / encéphale", "crane encephale"),
        ("B Ax T1 +C", "b ax t1 +c"),
        ("t2* gre", "t2* gre"),
        ("Thorax  2.0  B31f", "thorax 2.0 b31f"),
        ("C.A.P.", "c a p"),
        ("B Ax Flair(10000 TR)", "b ax flair 10000 tr"),
        ("  ", ""),
    ],
)
def test_normal_form(text: str, form: str) -> None:
    assert normalize(text) == form


@given(st.text(max_size=MAX_TEXT // 20))
def test_normalizing_twice_changes_nothing(text: str) -> None:
    assert normalize(normalize(text)) == normalize(text)


@given(st.text())
def test_what_is_shown_is_one_short_line(text: str) -> None:
    shown = shorten(text)
    assert len(shown) <= MAX_SHOWN
    assert shown.isprintable()


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("t1-post", "T1_POST"),
        ("t1_post", "t1 post"),
        ("schädel", "SCHADEL"),
        (r"\bt1\b", "AX_T1_TSE"),
        ("b[1-3]0", "B30s"),
        ("(?P<the_name>flair)", "FLAIR_reg"),
        ("(?-i:flair)", "FLAIR"),
    ],
)
def test_a_pattern_finds_what_a_person_means(pattern: str, text: str) -> None:
    assert compile_pattern(pattern).search(normalize(text))
