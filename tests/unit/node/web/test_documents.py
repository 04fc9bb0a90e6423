"""Documents as HTML: what they hold stays, and what is hostile is text."""

import pytest

from node.settings.loading import load_settings
from node.web.console.documents import read_document, to_html
from node.web.console.flow import share_of
from node.web.console.settings import list_settings, tell_value
from node.web.console.sparkline import draw_line


@pytest.mark.parametrize("name", ["conformance.md", "models/ct-nodules.md", "models/mr-tumour.md"])
def test_a_document_of_ours_is_there_and_becomes_html(name: str) -> None:
    text = read_document(name)
    assert text is not None
    html = to_html(text)
    assert html.count("<h2>") == 1
    for mark in ("\n# ", "\n| --", "**", "```"):
        assert mark not in html
    for tag in ("p", "ul", "li", "table", "tr", "td", "th", "code", "strong", "pre", "h2", "h3", "h4", "div"):
        assert html.count(f"<{tag}>") + html.count(f"<{tag} ") == html.count(f"</{tag}>"), tag


def test_a_document_that_is_absent_is_none() -> None:
    assert read_document("models/nothing.md") is None


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("# A & B", "<h2>A &amp; B</h2>"),
        ("one\ntwo", "<p>one two</p>"),
        ("- a\n  b\n- `c`", "<ul><li>a b</li><li><code>c</code></li></ul>"),
        ("1. a", "<ul><li>a</li></ul>"),
        ("**a `b`** [c](d.md)", "<p><strong>a <code>b</code></strong> c</p>"),
        ("```\n<b>\n\n# no head\n```", "<pre>&lt;b&gt;\n\n# no head</pre>"),
        ("<script>alert(1)</script>", "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>"),
        ("[<b>](javascript:alert(1))", "<p>&lt;b&gt;)</p>"),
    ],
)
def test_markdown_becomes_html(text: str, html: str) -> None:
    assert to_html(text) == html


def test_a_table_has_its_heads_and_rows() -> None:
    html = to_html("| a | b |\n| --- | --- |\n| 1 | `2` |")
    assert "<thead><tr><th>a</th><th>b</th></tr></thead>" in html
    assert "<tbody><tr><td>1</td><td><code>2</code></td></tr></tbody>" in html
    assert "<thead>" not in to_html("| | |\n| --- | --- |\n| 1 | 2 |")


def test_a_line_goes_from_left_to_right_with_zero_at_the_bottom() -> None:
    assert draw_line([0, 2, 1]) == "M0.0 26.0 L50.0 2.0 L100.0 14.0"
    assert draw_line([0, 0]) == "M0.0 26.0 L100.0 26.0"
    assert draw_line([3]) == ""


@pytest.mark.parametrize(
    ("count", "share", "value"), [(0, 0.95, None), (1, 0.95, 1.0), (20, 0.95, 19.0), (100, 0.95, 95.0), (3, 0.5, 2.0)]
)
def test_a_share_is_the_value_that_so_many_do_not_exceed(count: int, share: float, value: float | None) -> None:
    assert share_of([float(number) for number in range(1, count + 1)], share) == value


def test_settings_are_told_without_secrets() -> None:
    destinations = '{ "pacs.one" = { transport = "stow", url = "https://kim:hush@pacs.example/dicom-web" } }'
    settings = load_settings(None, {"RADNODE__DESTINATIONS": destinations, "RADNODE__BROKER__URL": "redis://:hush@b/0"})
    told = {line.key: line for section in list_settings(settings) for line in section.lines}
    assert "hush" not in str(told)
    assert told["destinations.pacs.one.url"].value == "https://pacs.example/dicom-web"
    assert (told["broker.url"].value, told["broker.url"].is_secret) == ("hidden", True)
    assert (told["ledger.url"].value, told["ledger.url"].is_default) == ("not set", True)
    assert told["rules"].value == f"{len(settings.rules)} rules, see Rules"


@pytest.mark.parametrize(
    ("value", "words"),
    [(None, "none"), (True, "true"), ([], "none"), (["a", 1.5], "a, 1.5"), ([{"a": "x"}], "{ a = x }"), ("", "")],
)
def test_a_value_is_told_for_people(value: object, words: str) -> None:
    assert tell_value(value) == words
