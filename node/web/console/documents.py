"""Documents that come with radnode, for pages: where they lie, and their Markdown as HTML."""

import re
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from markupsafe import Markup, escape

BESIDE_PACKAGE = Path(__file__).resolve().parents[3] / "docs"
INSTALLED = Path(sys.prefix) / "share" / "radnode" / "docs"
HEADING = re.compile(r"(#{1,5}) (.*)")
ITEM = re.compile(r"(?:[-*]|\d+\.) (.*)")
RULER = re.compile(r"\|[\s:|-]*-[\s:|-]*\|\Z")
INLINE = re.compile(r"`(?P<code>[^`]+)`|\*\*(?P<strong>[^*]+)\*\*|\[(?P<link>[^\]]+)\]\([^)]*\)")
FENCE = "```"
# The title of a page is its own; those of a document stand below it.
HEADING_OFFSET, LAST_HEADING = 1, 5


def read_document(name: str) -> str | None:
    """Return the text of a document, such as ``models/ct-nodules.md``; None where this installation lacks it."""
    for folder in (BESIDE_PACKAGE, INSTALLED):
        path = folder / name
        if path.is_file():
            return path.read_text(encoding="utf-8")
    return None


def to_html(text: str) -> Markup:
    """Return Markdown as our documents use it: headings, paragraphs, lists, tables, fenced code; links are their text.

    Everything else is text, escaped.
    """
    return Markup("\n").join(_blocks(text.splitlines()))


def _blocks(lines: Sequence[str]) -> Iterator[Markup]:
    block: list[str] = []
    in_fence = False
    for line in [*lines, ""]:
        if line.startswith(FENCE):
            if in_fence:
                yield Markup("<pre>{}</pre>").format("\n".join(block))
            else:
                yield from _paragraphs(block)
            in_fence, block = not in_fence, []
        elif in_fence or line.strip():
            block.append(line)
        else:
            yield from _paragraphs(block)
            block = []


def _paragraphs(block: Sequence[str]) -> Iterator[Markup]:
    """Yield what stands between two empty lines, which may be of several kinds."""
    for kind, group in groupby(_joined(block), key=_kind_of):
        lines = list(group)
        match kind:
            case "heading":
                yield from map(_heading, lines)
            case "table":
                yield _table(lines)
            case "list":
                items = (Markup("<li>{}</li>").format(_inline(_item(line))) for line in lines)
                yield Markup("<ul>{}</ul>").format(Markup("").join(items))
            case _:
                yield Markup("<p>{}</p>").format(_inline(" ".join(line.strip() for line in lines)))


def _joined(block: Sequence[str]) -> list[str]:
    """Return the lines of a block, those that go on with an item of a list together with it."""
    joined: list[str] = []
    for line in block:
        if joined and line.startswith("  ") and _kind_of(joined[-1]) == "list":
            joined[-1] += f" {line.strip()}"
        else:
            joined.append(line)
    return joined


def _kind_of(line: str) -> str:
    if HEADING.match(line):
        return "heading"
    if line.startswith("|"):
        return "table"
    return "list" if ITEM.match(line.strip()) else "text"


def _item(line: str) -> str:
    found = ITEM.match(line.strip())
    return found[1] if found else line


def _heading(line: str) -> Markup:
    found = HEADING.match(line)
    marks, text = found.groups() if found else ("#", line)
    level = min(len(marks) + HEADING_OFFSET, LAST_HEADING)
    return Markup("<h{}>{}</h{}>").format(level, _inline(text), level)


def _table(lines: Sequence[str]) -> Markup:
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines if not RULER.match(line)]
    # Above a ruler stand the heads; empty ones say that the first column tells what the others are about.
    heads, body = (rows[0], rows[1:]) if len(lines) > 1 and RULER.match(lines[1]) else ([], rows)
    head = Markup("<thead>{}</thead>").format(_row(heads, "th")) if any(heads) else Markup("")
    return Markup('<div class="scroll" tabindex="0"><table>{}{}</table></div>').format(
        head, Markup("<tbody>{}</tbody>").format(Markup("").join(_row(row, "td") for row in body))
    )


def _row(cells: Sequence[str], tag: str) -> Markup:
    made = (Markup("<{0}>{1}</{0}>").format(tag, _inline(cell)) for cell in cells)
    return Markup("<tr>{}</tr>").format(Markup("").join(made))


def _inline(text: str) -> Markup:
    made, at = Markup(""), 0
    for found in INLINE.finditer(text):
        made += escape(text[at : found.start()])
        if found["code"]:
            made += Markup("<code>{}</code>").format(found["code"])
        elif found["strong"]:
            made += Markup("<strong>{}</strong>").format(_inline(found["strong"]))
        else:
            made += _inline(found["link"])
        at = found.end()
    return made + escape(text[at:])
