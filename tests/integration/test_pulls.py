"""A person or program asks for Studies of a PACS: what is answered, put into the queue, paused and recorded."""

import json
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from node.audit.inspection import read_records
from node.cli.main import app
from node.clock import utc_now
from node.domain.account import Right
from node.domain.fetch import Ending, Fetched, FetchReason, FetchState
from node.ledger.fetches import FetchFilter, FetchLedger
from node.ledger.pages import PageAsked
from tests.counting_archive import CountingArchive
from tests.ledgers import STUDY, Books, copy_ledger
from tests.peers import wait_until
from tests.websites import Website, website

QUERY = f"StudyInstanceUID={STUDY}"


@pytest.fixture
def archive() -> Iterator[CountingArchive]:
    with CountingArchive(series={f"{STUDY}.1": ("CT", 3)}) as running:
        yield running


def settings_for(archive: CountingArchive) -> dict[str, str]:
    pacs = f'transport = "cstore", aet = "PACS", host = "127.0.0.1", port = {archive.port}'
    shut = 'aet = "CT1", ask = "shut", hours = "00:00..00:00"'
    return {
        "RADNODE__DESTINATIONS": f"{{ pacs = {{ {pacs} }}, shut = {{ {pacs} }} }}",
        "RADNODE__SOURCES": f"{{ ct1 = {{ {shut} }} }}",
    }


@pytest.fixture
def queue(archive: CountingArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FetchLedger]:
    url = copy_ledger(tmp_path)
    for name, value in settings_for(archive).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RADNODE__NODE__DATA_DIR", str(tmp_path))
    monkeypatch.setenv("RADNODE__LEDGER__URL", url)
    books = Books(url)
    yield FetchLedger(books.engine)
    books.close()


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["pull", *words])


def pulled(*words: str) -> dict[str, Any]:
    answer = run("--from", "pacs", "--query", QUERY, "--json", *words)
    assert answer.exit_code == 0, answer.output
    told: dict[str, Any] = json.loads(answer.stdout)
    return told


def test_what_there_is_is_shown_and_not_fetched(queue: FetchLedger) -> None:
    (study,) = pulled("--dry-run")["studies"]
    assert (study["study_instance_uid"], study["instances"]) == (STUDY, 3)
    assert STUDY in run("--from", "pacs", "--query", QUERY, "--dry-run").stdout
    assert not queue.count_states()


def test_an_order_is_in_the_queue_and_in_the_trail(queue: FetchLedger, tmp_path: Path) -> None:
    order = pulled("--no-wait")["order"]
    (fetch,) = queue.fetches_for(FetchReason.PULL, order)
    assert (fetch.order.source, fetch.order.instances, fetch.state) == ("pacs", 3, FetchState.SCHEDULED)
    (told,) = [record for record in read_records(tmp_path / "audit") if record.kind == "pull-ordered"]
    assert told.facts["destination"] == "pacs"
    listed = json.loads(run("list", "--json").stdout)
    assert [source["fetches"] for source in listed["sources"]] == [{"SCHEDULED": 1}, {}]
    assert "SCHEDULED" in run("list").stdout
    assert "1 Studies" in run("cancel", order).stdout
    assert queue.fetches_for(FetchReason.PULL, order)[0].state is FetchState.CANCELED


@pytest.mark.parametrize(("state", "code"), [(FetchState.COMPLETED, 0), (FetchState.CANCELED, 1)])
def test_an_order_is_followed_to_its_end(state: FetchState, code: int, queue: FetchLedger) -> None:
    def fetch() -> None:
        begun = wait_until(lambda: queue.claim("pacs", reasons=tuple(FetchReason), now=utc_now()), what="an order")
        ending = Ending(state=state, fetched=Fetched(expected=3, done=2), reason_code="why", reason_text="because")
        queue.end(begun, ending, now=utc_now())

    fetching = Thread(target=fetch)
    fetching.start()
    answer = run("--from", "pacs", "--query", QUERY)
    fetching.join()
    assert answer.exit_code == code, answer.output
    assert f"{1 - code} of 1 Studies are here, 2 Instances came" in answer.stdout
    assert "why: because" in answer.stdout


def test_a_source_is_paused_and_resumed(queue: FetchLedger) -> None:
    assert run("pause", "pacs", "--reason", "backup").exit_code == 0
    assert run("pause", "pacs").exit_code == 2
    assert "backup" in run("list").stdout
    waiting = run("--from", "pacs", "--query", QUERY)
    assert waiting.exit_code == 0
    assert "pacs is paused" in waiting.stdout
    assert run("resume", "pacs").exit_code == 0
    assert run("resume", "pacs").exit_code == 2


def test_outside_of_its_hours_an_order_waits(queue: FetchLedger) -> None:
    answer = run("--from", "ct1", "--query", QUERY)
    assert answer.exit_code == 0, answer.output
    assert "shut is fetched from at 00:00 (hours)" in answer.stdout
    assert "outside of hours" in run("list").stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--from", "pacs"), "--query"),
        (("--from", "nobody", "--query", QUERY), "pacs, shut"),
        (("--from", "pacs", "--query", "PatientName=*"), "everything would come"),
        (("--from", "pacs", "--query", "Foo=1"), "--query: Studies are not asked for by Foo"),
        (("pause", "nobody"), "pacs, shut"),
        (("cancel", "99"), "order 99 is not in the ledger; see `radnode pull list`"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(words: tuple[str, ...], said: str, queue: FetchLedger) -> None:
    answer = run(*words)
    assert answer.exit_code == 2
    assert said in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


def order(site: Website, path: str, body: object) -> tuple[int, Any]:
    headers = {"Content-Type": "application/json"}
    response, content = site.ask("POST", f"/api/v1{path}", body=json.dumps(body).encode(), headers=headers)
    return response.status, json.loads(content)


def test_the_api_does_what_the_command_line_does(archive: CountingArchive, tmp_path: Path) -> None:
    with website(tmp_path, settings_for(archive), rights=frozenset(Right)) as site:
        asked = {"source": "pacs", "query": {"StudyInstanceUID": STUDY}}
        status, shown = order(site, "/pulls", {**asked, "dry_run": True})
        assert (status, shown["order"], shown["studies"][0]["instances"]) == (200, None, 3)
        _, ordered = order(site, "/pulls", asked)
        page = json.loads(site.ask("GET", f"/api/v1/pulls?on_behalf={ordered['order']}")[1])
        assert [(one["state"], one["instances"]) for one in page["items"]] == [("SCHEDULED", 3)]
        assert order(site, f"/pulls/{ordered['order']}/cancel", None) == (200, {"count": 1})
        assert order(site, "/pull-sources/pacs/pause", {"reason": "backup"})[1]["reason"] == "backup"
        assert order(site, "/pull-sources/pacs/pause", {})[0] == 409
        assert order(site, "/pull-sources/pacs/resume", None)[1]["paused_at"] is None
        sources = json.loads(site.ask("GET", "/api/v1/pull-sources")[1])["items"]
        assert [(one["name"], one["is_open"], one["not_fetched"]) for one in sources] == [
            ("pacs", True, 1), ("shut", False, 0),
        ]  # fmt: skip
        assert order(site, "/pulls", {**asked, "source": "nobody"})[0] == 404
        refused = order(site, "/pulls", {**asked, "query": {"PixelData": "1"}})
        assert (refused[0], refused[1]["code"]) == (400, "query-refused")
        kinds = [event.kind for event in site.told if event.kind.startswith("pull")]
        assert kinds == ["pull-ordered", "pull-paused", "pull-resumed"]
        queue = FetchLedger(site.services.engine)
        assert len(queue.list_fetches(FetchFilter(), PageAsked(limit=10)).rows) == 1
