"""Who takes Results back over HTTP: one process writes for all orders, and none is forgotten when it cannot start."""

from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from threading import Event

import pytest

from node.audit.message import AuditEvent
from node.domain.retraction import MAX_COMMENT, RejectionReason, RetractionOrder
from node.domain.uids import InstanceUID
from node.errors import AuditFull, NotFound, RequestMalformed
from node.ledger.retractions import RetractionLedger
from node.settings.loading import load_settings
from node.web.retraction import Retractor
from tests.ledgers import Books, at, copy_ledger, make_outcome, make_result

LIMIT_S = 60
RESULT = InstanceUID("2.25.1")


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    opened = Books(copy_ledger(tmp_path))
    opened.add_job()
    job = opened.claim(opened.only_job(), now=at(10))
    opened.jobs.finish_job(job, make_outcome(make_result(job)), now=at(20))
    yield opened
    opened.close()


class Writer(Retractor):
    """Starts no process: says that it was asked to, and ends when it is let."""

    def __init__(self, books: Books, record: Callable[[AuditEvent], None], *, fails: bool = False) -> None:
        ledger = RetractionLedger(books.engine)
        super().__init__(load_settings(None, {}), ledger, books.view, record=record, clock=lambda: at(30))
        self.began: SimpleQueue[int] = SimpleQueue()
        self.may_end, self.fails = Event(), fails

    def write(self) -> int:
        """Return as a process would, or raise as where none can be started."""
        self.began.put(1)
        if self.fails:
            raise OSError
        assert self.may_end.wait(LIMIT_S)
        return 0


def order(**changes: str) -> RetractionOrder:
    values = {"comment": "", "ordered_by": "rita", **changes}
    return RetractionOrder(reason=RejectionReason.QUALITY, struck=(), **values)


def again(writer: Writer) -> None:
    """Ask for a process, as one more order does."""
    writer._ask_worker()


def test_what_is_ordered_while_one_writes_is_written_by_one_more(books: Books) -> None:
    told: list[AuditEvent] = []
    writer = Writer(books, told.append)
    assert writer.retract(RESULT, order()).order.ordered_by == "rita"
    writer.began.get(timeout=LIMIT_S)
    for _ in range(5):
        again(writer)
    writer.may_end.set()
    writer.began.get(timeout=LIMIT_S)
    assert [event.kind for event in told] == ["results-retracted"]
    # The five began one, and the next begins another.
    again(writer)
    writer.began.get(timeout=LIMIT_S)
    assert writer.began.empty()


def test_a_process_that_cannot_start_keeps_none_from_the_next_order(
    books: Books, caplog: pytest.LogCaptureFixture
) -> None:
    writer = Writer(books, lambda _event: None, fails=True)
    writer.retract(RESULT, order())
    writer.began.get(timeout=LIMIT_S)
    writer.fails = False
    writer.may_end.set()
    again(writer)
    writer.began.get(timeout=LIMIT_S)
    assert "retraction not written" in caplog.text


def test_others_are_told_also_where_the_trail_cannot_be_written(books: Books) -> None:
    def refuse(_event: AuditEvent) -> None:
        raise AuditFull("no room")

    writer = Writer(books, refuse)
    writer.may_end.set()
    with pytest.raises(AuditFull):
        writer.retract(RESULT, order())
    writer.began.get(timeout=LIMIT_S)


@pytest.mark.parametrize("comment", ["x" * (MAX_COMMENT + 1), "a\0b", "two\nlines"])
def test_a_comment_that_no_note_can_have_takes_nothing_back(books: Books, comment: str) -> None:
    writer = Writer(books, lambda _event: None)
    with pytest.raises(RequestMalformed, match="comment"):
        writer.retract(RESULT, order(comment=comment))
    with pytest.raises(NotFound):
        writer.retract(InstanceUID("9.9"), order(comment="x" * MAX_COMMENT))
    assert RetractionLedger(books.engine).pending_retractions() == ()
    assert writer.began.empty()
