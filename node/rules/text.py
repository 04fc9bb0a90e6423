"""Texts of headers and rules in one form: without case, accents and separators."""

import re
import unicodedata

import regex

# A dot or a comma between digits belongs to the number (`2.0`); `+` and `*` carry meaning (`T1 +C`, `T2*`).
SEPARATORS = re.compile(r"[\s_\-/\\^;:|()\[\]{}='\"]+|(?<!\d)[.,]|[.,](?!\d)")
# LO and SH hold 64 characters at most; what is longer is no description and is not worth a slow pattern.
MAX_TEXT = 256
MAX_SHOWN = 80


def normalize(text: str) -> str:
    """Return `text` without case and accents, separators as one space: ``Schädel_T1-post`` is ``schadel t1 post``."""
    return " ".join(SEPARATORS.sub(" ", strip_accents(text[:MAX_TEXT]).casefold()).split())


def strip_accents(text: str) -> str:
    """Return `text` with every letter in its plain form; characters without one stay."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return unicodedata.normalize("NFC", bare)


def compile_pattern(source: str) -> regex.Pattern[str]:
    """Compile a pattern that is searched in normalized text.

    The pattern is bared of accents, and ``_`` and ``-`` outside of brackets become spaces, since no normalized text
    holds them: ``T1-post`` finds ``t1 post``.

    Raises
    ------
    regex.error
        If `source` is no regular expression.
    """
    return regex.compile(_bare_separators(strip_accents(source)), regex.IGNORECASE)


def shorten(text: str) -> str:
    """Return `text` on one line, at most 80 characters, for people."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[:MAX_TEXT]).split())
    return line if len(line) <= MAX_SHOWN else line[: MAX_SHOWN - 1] + "…"


def _bare_separators(source: str) -> str:
    out: list[str] = []
    in_brackets = escaped = False
    for c in source:
        if not in_brackets and c in "_-" and not _opens_flags(out):
            out.append(" ")
        else:
            out.append(c)
        if escaped:
            escaped = False
        elif c == "\\":
            escaped = True
        elif c == "[" and not in_brackets:
            in_brackets = True
        elif c == "]":
            in_brackets = False
    return "".join(out)


def _opens_flags(out: list[str]) -> bool:
    # `(?-i:...)` and named groups `(?P<a_b>...)`: there the character is grammar, not text.
    head = "".join(out[-16:])
    return re.search(r"\(\?(?:[aimsux]*|P[<=]\w*)\Z", head) is not None
