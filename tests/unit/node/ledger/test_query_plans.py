"""How SQLite reads what grows for ever: by the Study, or by the time, that is asked for, and never all of it."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from node.domain.retention import KeepUntil, Proof
from node.ledger.engine import migrate, open_engine
from node.ledger.flow import FlowLedger
from node.ledger.retention import RetentionLedger
from node.ledger.stages import StageLedger
from node.ledger.traffic import TrafficLedger
from tests.ledgers import NOON, Books, at, make_outcome, make_result

Ask = Callable[[Engine], object]


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    """Return a ledger in a file, wherever the others are: the plans are those of SQLite."""
    url = f"sqlite:///{tmp_path}/ledger.sqlite"
    engine = open_engine(url, busy_timeout_s=5.0)
    migrate(engine)
    engine.dispose()
    opened = Books(url)
    job = opened.claim(opened.add_job())
    opened.jobs.finish_job(job, make_outcome(make_result(job)), now=at(1))
    yield opened
    opened.close()


def plans_of(books: Books, ask: Callable[[], object]) -> list[str]:
    """Return how SQLite looks for the rows of each statement that is executed, line by line."""
    told: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        told.append((statement, parameters))

    event.listen(books.engine, "before_cursor_execute", note)
    ask()
    event.remove(books.engine, "before_cursor_execute", note)
    lines: list[str] = []
    with books.engine.connect() as connection:
        for statement, parameters in told:
            if statement.startswith(("SELECT", "UPDATE", "DELETE")):
                lines += [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
    return lines


def place(books: Books) -> None:
    (delivery,) = books.view.list_deliveries(destination=None, state=None, limit=9)
    books.deliveries.record_refused(delivery, now=at(2), reason_code="gave-up", reason_text="why")


def test_the_place_of_a_study_is_derived_from_its_own_deliveries(books: Books) -> None:
    plans = plans_of(books, lambda: place(books))
    of_other = [line for line in plans if "deliveries AS other" in line or " other " in line]
    assert of_other
    assert all("study_instance_uid" in line for line in of_other), of_other


def test_whether_a_study_may_go_is_asked_of_its_own_deliveries(books: Books) -> None:
    ledger = RetentionLedger(books.engine)
    proof = Proof(keep_until=KeepUntil.COMMITTED, confirming=frozenset({"pacs"}))
    plans = plans_of(books, lambda: ledger.candidates(proof, before=NOON, results_before=NOON, limit=9))
    of_deliveries = [line for line in plans if " deliveries" in line or " other " in line]
    assert of_deliveries
    assert all("destination" not in line for line in of_deliveries), of_deliveries


@pytest.mark.parametrize(
    "ask",
    [
        lambda engine: FlowLedger(engine).read_passages(NOON, part=timedelta(hours=1), parts=24),
        lambda engine: StageLedger(engine).recent_seconds(NOON),
    ],
)
def test_what_happened_of_late_is_read_by_its_time(books: Books, ask: Ask) -> None:
    of_events = [line for line in plans_of(books, lambda: ask(books.engine)) if " events " in line]
    assert of_events
    assert not any("kind" in line for line in of_events), of_events
    assert any("ix_events_at" in line and "at>" in line for line in of_events), of_events


def test_what_waits_for_a_destination_is_read_from_its_oldest(books: Books) -> None:
    plans = plans_of(books, lambda: TrafficLedger(books.engine).list_open("pacs"))
    assert plans
    assert all("ix_deliveries_destination_state_created_at" in line for line in plans), plans
