"""A file from the internet: in pieces if need be, and what came so far is kept."""

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

from node.errors import FileUnreadable, Misconfigured, ModelInvalid, ModelUnreachable

PIECE_BYTES = 1024 * 1024
SILENT_S = 60.0
# Cuts in a row after which something new came each time; a person who runs the command again goes on from there.
TRIES = 5
PARTIAL_CONTENT, RANGE_NOT_SATISFIABLE = 206, 416

# Called with bytes that are here and bytes in all, None where nobody said.
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """What is known of a file that is on its way.

    Attributes
    ----------
    tag
        ETag or Last-Modified, by which the server knows whether it is still the same file.
    total_bytes
        As the server announced.
    """

    url: str
    tag: str = ""
    total_bytes: int | None = None
    is_whole: bool = False


class Download:
    """One file on its way to a folder, where it stays until somebody takes it away.

    Parameters
    ----------
    place
        Folder of this file alone.
    max_bytes
        What it may have at most.
    """

    def __init__(self, url: str, place: Path, *, max_bytes: int, progress: Progress = lambda _here, _all: None) -> None:
        if urlsplit(url).scheme not in {"http", "https"}:
            raise Misconfigured(f"{url} is no URL of a file; it begins with https:// (or http://)")
        self._state = _State(url=url)
        self._place = place
        self._max_bytes = max_bytes
        self._progress = progress

    @property
    def path(self) -> Path:
        """Where the file is, or what of it came so far."""
        return self._place / "file"

    def fetch(self) -> Path:
        """Return the file when it is here to its end, of the length that the server announced.

        Raises
        ------
        ModelUnreachable
            If it is not to be had now; what came so far is kept.
        ModelInvalid
            If it is longer than it may be; nothing is kept.
        FileUnreadable
            If it cannot be written.
        """
        self._remember()
        for attempt in range(TRIES):
            if self._state.is_whole:
                return self.path
            before = self._size()
            try:
                self._fetch_rest()
            except (urllib.error.URLError, HTTPException, ssl.SSLError, TimeoutError, ConnectionError) as exc:
                if attempt + 1 == TRIES or self._size() <= before:
                    raise self._unreachable(exc) from exc
            except OSError as exc:
                raise FileUnreadable(f"{self._place} cannot be written ({exc.strerror}); make room there") from exc
        if not self._state.is_whole:
            raise ModelUnreachable(f"{self._host} cuts the file each time; run the command again to go on")
        return self.path

    def forget(self) -> None:
        """Remove what came."""
        for path in (self.path, self._note):
            path.unlink(missing_ok=True)
        self._state = _State(url=self._state.url)

    @property
    def _note(self) -> Path:
        return self._place / "state.json"

    @property
    def _host(self) -> str:
        return urlsplit(self._state.url).hostname or self._state.url

    def _size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def _remember(self) -> None:
        """Take up what an earlier command left, if it is of the same URL."""
        try:
            self._place.mkdir(parents=True, exist_ok=True)
            known = _State(**json.loads(self._note.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            self.forget()
            return
        except OSError as exc:
            raise FileUnreadable(f"{self._place} cannot be used ({exc.strerror}); correct its rights") from exc
        if known.url != self._state.url or (known.is_whole and known.total_bytes != self._size()):
            self.forget()
        else:
            self._state = known

    def _fetch_rest(self) -> None:
        here = self._size()
        request = urllib.request.Request(self._state.url, headers={"Accept-Encoding": "identity"})  # noqa: S310 checked in __init__
        if here and self._state.tag:
            request.add_header("Range", f"bytes={here}-")
            # Without it the end of a new file could be put behind the beginning of an old one.
            request.add_header("If-Range", self._state.tag)
        try:
            answer = urllib.request.urlopen(request, timeout=SILENT_S)  # noqa: S310 checked in __init__
        except urllib.error.HTTPError as exc:
            if exc.code != RANGE_NOT_SATISFIABLE:
                raise
            exc.close()
            self.forget()
            return
        with answer:
            self._take(answer, here)

    def _take(self, answer: HTTPResponse, here: int) -> None:
        start = _first_byte(answer) if answer.status == PARTIAL_CONTENT else 0
        if start not in {0, here}:
            self.forget()
            raise HTTPException(f"bytes from {start} where those from {here} were asked for")
        length = answer.headers.get("Content-Length", "")
        total = start + int(length) if length.isdigit() else None
        self._check_size(total or start)
        self._note_state(replace(self._state, tag=_tag_of(answer), total_bytes=total))
        with self.path.open("ab" if start else "wb") as file:
            while piece := answer.read(PIECE_BYTES):
                self._check_size(file.tell() + len(piece))
                file.write(piece)
                self._progress(file.tell(), total)
        size = self._size()
        if total is not None and size < total:
            raise HTTPException(f"cut after {size} of {total} bytes")
        self._note_state(replace(self._state, total_bytes=size, is_whole=True))

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            self.forget()
            raise ModelInvalid(
                f"{self._host} sends more than the {self._max_bytes} bytes that this model may have; it is another "
                "file: nothing of it is kept"
            )

    def _note_state(self, state: _State) -> None:
        self._state = state
        self._note.write_text(json.dumps(asdict(state)), encoding="utf-8")

    def _unreachable(self, error: Exception) -> ModelUnreachable:
        if isinstance(error, urllib.error.HTTPError):
            said = f"HTTP {error.code}"
        else:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            said = f"{type(reason).__name__}: {reason}"
        kept = self._size()
        rest = f"; {kept} bytes are kept, the same command goes on from there" if kept else ""
        return ModelUnreachable(
            f"{self._host} does not give the file ({said}){rest}. Look at the network and its proxy, or bring the file "
            "and give --mirror DIR"
        )


def _tag_of(answer: HTTPResponse) -> str:
    tag = str(answer.headers.get("ETag") or "")
    # A weak one does not promise the same bytes (RFC 9110 8.8.1).
    return str(answer.headers.get("Last-Modified") or "") if not tag or tag.startswith("W/") else tag


def _first_byte(answer: HTTPResponse) -> int:
    """Return where a part begins, as Content-Range says; -1 where that says nothing."""
    unit, _, rest = str(answer.headers.get("Content-Range") or "").partition(" ")
    first = rest.partition("-")[0]
    return int(first) if unit == "bytes" and first.isdigit() else -1
