"""The worklist as HTML: what its rows say, what its URL asks, and the errors that people see."""

import re
from collections.abc import Iterator, Mapping
from html import unescape
from http.client import HTTPConnection
from pathlib import Path

import pytest

from node.web.audience import MAX_OF_ONE
from tests.ledgers import Books
from tests.websites import Website, website
from tests.worklists import HOSTILE, arrive, fill, uid_of

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
AGE = 5
CELL = re.compile(r"<td role=\"cell\".*?</td>", re.DOTALL)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Website]:
    with website(tmp_path_factory.mktemp("site")) as running:
        books = Books(running.services.settings.ledger_url)
        fill(books)
        yield running
        books.close()


def read(site: Website, path: str = "/", *, status: int = 200) -> str:
    """Return a page."""
    response, body = site.ask("GET", path, headers=HTML)
    assert response.status == status
    assert response.getheader("Content-Security-Policy", "").startswith("default-src 'self'")
    return body.decode()


def row(html: str, number: int) -> str:
    """Return the text of the row of a Study, cells with bars between, but for its age, which grows."""
    (found,) = re.findall(rf'<tr class="row" role="row" id="s-{re.escape(uid_of(number))}">(.*?)</tr>', html, re.DOTALL)
    cells = [re.sub(r"<[^>]+>", " ", cell) for cell in CELL.findall(found)]
    assert re.search(r"\d+ (s|min|h|days)", cells.pop(AGE))
    return " | ".join(" ".join(unescape(cell).split()) for cell in cells)


def listed(html: str) -> list[int]:
    """Return the numbers of the Studies that are listed, in order."""
    return [int(uid.rpartition(".")[2]) for uid in re.findall(r'id="s-([0-9.]+)"', html)]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (1, "Stat | Phantom, Anna PH-0001 · 68 y F | CT Chest with contrast A-1 | Sent to pacs"
            " | 2 nodules, largest 8.4 mm AI, unverified | 8.9 s"),
        (2, "Sent to pacs | No findings AI, unverified · lung_nodules | 8.9 s"),
        (3, "Canceled lung_nodules: slice-missing | No result: 2 gaps of 5.0 mm; a slice is missing"
            " lung_nodules | none"),
        (4, "No match 0 of 1 rules | No result: no rule for this Study | none"),
        (5, "No name PH-0005 · 68 y F | CT Chest with contrast A-5 | Undetermined 1 of 1 rules lack a value"
            " | No result: Slice thickness is absent. | none"),
        (6, "Open 1 Instance so far | Waiting for more Instances | pending"),
        (7, "Scheduled lung_nodules waits for a worker | Not ready yet: lung_nodules | pending"),
    ],
)  # fmt: skip
def test_a_row_says_how_the_study_stands_and_why(site: Website, number: int, said: str) -> None:
    assert said in row(read(site), number)


def test_flow_names_how_many_studies_need_a_person(site: Website) -> None:
    html = read(site, "/flow")
    assert "<h1>The belt moves. 2 Studies need a person.</h1>" in html
    assert listed(read(site, unescape(re.findall(r'<a href="([^"]+)">See them</a>', html)[0]))) == [3, 5]


def test_studies_stand_by_priority_then_by_age(site: Website) -> None:
    html = read(site)
    assert listed(html) == [1, 3, 7, 6, 2, 4, 5]
    groups = [
        " ".join(re.sub(r"<[^>]+>", " ", one).split()) for one in re.findall(r'scope="rowgroup">(.*?)</th>', html)
    ]
    assert groups == ["Stat 1", "High 2 · oldest without result 22 min", "Routine 4 · oldest without result 1 min"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("show=findings", [1]), ("show=person", [3, 5]), ("show=no-match", [4]), ("modality=MR", [4]),
        ("period=7d", [1, 3, 7, 6, 2, 4, 5, 8]), ("modality=CT&show=no-match", []), ("q=phantom", [1, 6, 4]),
        ("q=ph-0007", [7]), ("q=A-5", [5]), (f"q={uid_of(2)}", [2]), ("q=gustav+phantom", [6]), ("q=%00%25", []),
    ],
)  # fmt: skip
def test_the_url_says_what_is_listed(site: Website, query: str, found: list[int]) -> None:
    html = read(site, f"/?{query}")
    assert listed(html) == found
    assert ("No Study matches" in html) == (not found)


def test_filters_carry_their_counts_and_what_else_was_chosen(site: Website) -> None:
    html = read(site, "/?show=findings&period=7d")
    links = dict(re.findall(r'<a href="([^"]+)"[^>]*>([^<]+)</a>', html[html.index('id="shows"') :]))
    assert links["/?period=7d"] == "All 8"
    assert links["/?show=person&amp;period=7d"] == "Needs a person 2"


def test_a_hostile_name_is_text(site: Website) -> None:
    html = read(site)
    assert HOSTILE.partition("^")[0] not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;, {{7*7}}" in html
    assert "49" not in row(html, 3).partition("|")[2].partition("|")[0]


@pytest.mark.parametrize(
    "query", ["show=none", "modality=XX", "period=1y", "after=1.2", "after=x.y.z", f"q={'x' * 200}"]
)
def test_what_no_page_asks_is_refused_with_a_page(site: Website, query: str) -> None:
    html = read(site, f"/?{query}", status=400)
    assert "request-malformed" in html
    assert "Go to the worklist" in html


def test_errors_are_pages_for_people_and_problems_for_programs(site: Website) -> None:
    assert "not-found" in read(site, "/nowhere", status=404)
    for path, headers in (("/nowhere", {}), ("/dicom-web/nowhere", HTML)):
        response, _body = site.ask("GET", path, headers=headers)
        assert (response.status, response.getheader("Content-Type")) == (404, "application/problem+json")


def test_pages_follow_each_other(tmp_path: Path) -> None:
    with website(tmp_path) as site:
        assert "radnode demo --keep" in read(site)
        books = Books(site.services.settings.ledger_url)
        for number in range(60):
            arrive(books, number, "Phantom^Anna", minutes=number)
        books.close()
        first = read(site)
        (more,) = re.findall(r'<a href="([^"]+)" rel="next">', first)
        second = read(site, unescape(more))
        assert listed(first) + listed(second) == list(range(60))
        assert 'rel="next"' not in second


def open_stream(site: Website, headers: Mapping[str, str] | None = None) -> HTTPConnection:
    """Ask for the stream of changes."""
    connection = HTTPConnection("127.0.0.1", site.port, timeout=30)
    connection.request("GET", "/live", headers=dict(headers or {}))
    return connection


def test_a_stream_tells_that_something_changed_and_nothing_of_what(site: Website) -> None:
    connection = open_stream(site)
    response = connection.getresponse()
    assert response.getheader("Content-Type", "").startswith("text/event-stream")
    assert (response.readline(), response.readline(), response.readline()) == (b"event: hello\n", b"data:\n", b"\n")
    books = Books(site.services.settings.ledger_url)
    arrive(books, 9, "Canary^Patient", minutes=5 * 24 * 60)
    assert (response.readline(), response.readline()) == (b"event: changed\n", b"data:\n")
    books.close()
    connection.close()


def test_streams_end_when_the_server_does_and_too_many_are_refused(tmp_path: Path) -> None:
    with website(tmp_path) as site:
        audience = site.services.audience
        visitors = [site.log_in()[0] for _ in range(audience.max_listeners // MAX_OF_ONE)]
        held = [open_stream(site, visitor) for visitor in visitors[1:] for _ in range(MAX_OF_ONE)]
        answers = [connection.getresponse() for connection in held]
        for answer in answers:
            assert answer.readline() == b"event: hello\n"
        # Who has many leaves room for others.
        assert site.ask("GET", "/live", headers=visitors[1])[0].status == 503
        more = [open_stream(site, visitors[0]) for _ in range(MAX_OF_ONE)]
        assert [connection.getresponse().status for connection in more] == [200] * MAX_OF_ONE
        assert site.ask("GET", "/live")[0].status == 503
        audience.close()
        assert all(answer.read().endswith(b"\n\n") for answer in answers)
        for connection in (*held, *more):
            connection.close()
