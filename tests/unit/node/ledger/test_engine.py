"""Opening the ledger: what is durable, what is refused, and what a failure means."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, insert, text
from sqlalchemy.exc import IntegrityError

from node.domain.retraction import RejectionReason, RetractionOrder
from node.errors import LedgerBusy, LedgerUnusable
from node.ledger.engine import Desk, migrate, open_engine
from node.ledger.retractions import RetractionLedger
from node.ledger.schema import metadata, studies
from tests.ledgers import NOON, STUDY, Books, at, copy_ledger, make_facts, make_outcome, make_result

CANARY = "Canary^Patient"


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    opened = Books(copy_ledger(tmp_path))
    yield opened
    opened.close()


def open_at(path: Path) -> None:
    engine = open_engine(f"sqlite:///{path}", busy_timeout_s=1.0)
    try:
        migrate(engine)
    finally:
        engine.dispose()


def test_migrations_make_exactly_the_schema(tmp_path: Path) -> None:
    migrated = open_engine(copy_ledger(tmp_path), busy_timeout_s=1.0)
    made = create_engine(f"sqlite:///{tmp_path / 'made.sqlite'}")
    metadata.create_all(made)
    question = text("SELECT type, name, tbl_name FROM sqlite_master WHERE tbl_name <> 'alembic_version' ORDER BY 1, 2")
    with migrated.connect() as one, made.connect() as other:
        assert list(one.execute(question)) == list(other.execute(question))
        for table in metadata.tables:
            columns = text(f"SELECT name, type, \"notnull\", pk FROM pragma_table_info('{table}') ORDER BY name")
            assert list(one.execute(columns)) == list(other.execute(columns))
    migrated.dispose()
    made.dispose()


def test_migrating_again_changes_nothing(tmp_path: Path) -> None:
    url = copy_ledger(tmp_path)
    books = Books(url)
    books.instances.record_instance(make_facts())
    migrate(books.engine)
    assert books.view.study_story(STUDY).state == "OPEN"
    books.close()


def test_what_an_earlier_version_wrote_is_kept(tmp_path: Path) -> None:
    books = Books(copy_ledger(tmp_path))
    job = books.claim(books.add_job())
    books.jobs.finish_job(job, make_outcome(make_result(job)), now=at(1))
    with books.engine.begin() as connection:
        for added in (
            "jobs DROP notes",
            "jobs DROP threshold",
            "results DROP is_substitute",
            "results DROP retracted_at",
            "results DROP purged_at",
            "deliveries DROP seen_at",
            "instances RENAME COLUMN digest TO sha256",
        ):
            connection.execute(text(f"ALTER TABLE {added}"))
        for table in ("retractions", "capabilities", "purges"):
            connection.execute(text(f"DROP TABLE {table}"))
        connection.execute(text("DROP INDEX ix_results_study_instance_uid"))
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    migrate(books.engine)
    after = books.find(job)
    assert (after.notes, after.threshold, len(after.findings)) == ((), None, 1)
    (result,) = books.jobs.results_of(job.job_id)
    assert (result.is_substitute, result.retracted_at) == (False, None)
    RetractionLedger(books.engine).order_retraction(
        result.sop_instance_uid,
        RetractionOrder(reason=RejectionReason.QUALITY, comment="", struck=(), ordered_by="reader"),
        now=at(2),
    )
    assert len(RetractionLedger(books.engine).pending_retractions()) == 1
    books.close()


def test_a_commit_is_on_disk_before_it_returns(books: Books) -> None:
    with books.engine.connect() as connection:
        pragmas = [connection.execute(text(f"PRAGMA {name}")).scalar_one() for name in ("journal_mode", "synchronous")]
        assert pragmas == ["wal", 2]
        assert connection.execute(text("PRAGMA foreign_keys")).scalar_one() == 1


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    copy_ledger(tmp_path)
    path = tmp_path / "ledger.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(LedgerUnusable, match=r"schema 9999.*newer radnode"):
        open_at(path)


def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"not a database, whatever its name says" * 100)
    before = path.read_bytes()
    with pytest.raises(LedgerUnusable, match="restore the file"):
        open_at(path)
    assert path.read_bytes() == before


def test_a_ledger_without_its_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnusable, match="rights"):
        open_at(tmp_path / "absent" / "ledger.sqlite")


@pytest.mark.parametrize("url", ["nonsense", "oracle9://host/x", "mysql://host/x"])
def test_a_url_that_names_no_database_here_is_refused(url: str) -> None:
    with pytest.raises(LedgerUnusable, match=r"ledger\.url"):
        open_engine(url, busy_timeout_s=1.0)


def test_pages_that_are_damaged_later_need_a_person(tmp_path: Path) -> None:
    url = copy_ledger(tmp_path)
    path = tmp_path / "ledger.sqlite"
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(bytes(content))
    books = Books(url)
    with pytest.raises(LedgerUnusable, match="restore"):
        books.view.list_studies(1)
    with pytest.raises(LedgerUnusable, match="restore"):
        books.instances.record_instance(make_facts())
    books.close()


def test_a_ledger_that_stays_locked_is_busy(tmp_path: Path) -> None:
    url = copy_ledger(tmp_path)
    patient, hurried = Books(url), Books(url, busy_timeout_s=0.01)
    with patient.instances.writing(), pytest.raises(LedgerBusy):
        hurried.instances.record_instance(make_facts())
    assert hurried.instances.record_instance(make_facts()) == "new"
    patient.close()
    hurried.close()


def test_readers_do_not_wait_for_a_writer_and_see_nothing_half_done(tmp_path: Path) -> None:
    url = copy_ledger(tmp_path)
    writer, reader = Books(url), Books(url, busy_timeout_s=0.01)
    writer.instances.record_instance(make_facts(1))
    with writer.instances.writing() as connection:
        connection.execute(studies.update().values(state="SETTLED"))
        assert reader.view.study_story(STUDY).state == "OPEN"
    assert reader.view.study_story(STUDY).state == "SETTLED"
    writer.close()
    reader.close()


def test_more_threads_than_connections_is_busy_not_broken(tmp_path: Path) -> None:
    engine = create_engine(copy_ledger(tmp_path), pool_size=1, max_overflow=0, pool_timeout=0.01)
    desk = Desk(engine)
    with desk.writing(), pytest.raises(LedgerBusy), desk.writing():
        pass
    with desk.reading() as connection:
        connection.execute(text("SELECT 1"))
        with pytest.raises(LedgerBusy), desk.reading():
            pass
    engine.dispose()


def test_a_transaction_that_raises_is_undone(books: Books) -> None:
    values = {"state": "OPEN", "reason": "", "revision": 1, "first_instance_at": NOON, "changed_at": NOON}

    def write_and_break() -> None:
        with books.instances.writing() as connection:
            connection.execute(insert(studies).values(study_instance_uid="1.2", **values))
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        write_and_break()
    assert books.view.list_studies(9) == ()


def test_no_error_of_the_ledger_quotes_a_patient(books: Books) -> None:
    books.instances.record_instance(make_facts(PatientName=CANARY))
    row = {"state": CANARY, "reason": CANARY, "revision": 1, "first_instance_at": NOON, "changed_at": NOON}
    with pytest.raises(IntegrityError) as caught, books.instances.writing() as connection:
        connection.execute(insert(studies).values(study_instance_uid=STUDY, **row))
    assert CANARY not in str(caught.value)
