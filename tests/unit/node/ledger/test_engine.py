"""Opening the ledger: what is durable, what is refused, and what a failure means."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, insert, inspect, text
from sqlalchemy.exc import IntegrityError

from node.domain.retraction import RejectionReason, RetractionOrder
from node.errors import LedgerBusy, LedgerUnusable
from node.ledger.engine import MIGRATIONS, Desk, migrate, newest_schema, open_engine, schema_of
from node.ledger.retractions import RetractionLedger
from node.ledger.schema import metadata, studies
from tests.ledgers import NOON, STUDY, Books, at, copy_ledger, make_facts, make_outcome, make_result

CANARY = "Canary^Patient"
only_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
only_postgresql = pytest.mark.parametrize(
    "database", [pytest.param("postgresql", marks=pytest.mark.needs("postgres"))], indirect=True
)


def open_at(path: Path) -> None:
    engine = open_engine(f"sqlite:///{path}", busy_timeout_s=1.0)
    try:
        migrate(engine)
    finally:
        engine.dispose()


def test_migrations_make_exactly_the_schema(tmp_path: Path) -> None:
    for name in ("migrated", "made"):
        (tmp_path / name).mkdir()
    migrated = open_engine(copy_ledger(tmp_path / "migrated"), busy_timeout_s=5.0)
    made = open_engine(copy_ledger(tmp_path / "made"), busy_timeout_s=5.0)
    with made.begin() as connection:
        for table in (*metadata.tables, "alembic_version"):
            connection.execute(text(f"DROP TABLE {table}" + (" CASCADE" if made.dialect.name == "postgresql" else "")))
    metadata.create_all(made)
    assert describe(migrated) == describe(made)
    migrated.dispose()
    made.dispose()


def test_file_of_the_newest_migration_names_its_schema(tmp_path: Path) -> None:
    migrated = open_engine(copy_ledger(tmp_path), busy_timeout_s=5.0)
    assert schema_of(migrated) == newest_schema()
    migrated.dispose()
    for path in (MIGRATIONS / "versions").glob("v*.py"):
        assert f'\nrevision = "{path.name[1:5]}"\n' in path.read_text()


def describe(engine: Engine) -> dict[str, Any]:
    """Return the tables of a ledger, with what a migration might forget: server defaults aside, which it may need."""
    looker, described = inspect(engine), {}
    for table in set(looker.get_table_names()) - {"alembic_version"}:
        columns, indexes = looker.get_columns(table), looker.get_indexes(table)
        described[table] = {
            "columns": sorted((one["name"], str(one["type"]), one["nullable"]) for one in columns),
            "key": looker.get_pk_constraint(table),
            "indexes": sorted((str(one["name"]), *one["column_names"], one["unique"]) for one in indexes),
            "unique": sorted((str(one["name"]), one["column_names"]) for one in looker.get_unique_constraints(table)),
            "foreign": sorted(
                (one["constrained_columns"], one["referred_table"], one["referred_columns"])
                for one in looker.get_foreign_keys(table)
            ),
        }
    return described


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
        connection.execute(text("DROP INDEX ix_jobs_unheard"))
        connection.execute(text("DROP INDEX ix_jobs_prior_study_instance_uid"))
        for added in (
            "jobs DROP notes",
            "jobs DROP threshold",
            "jobs DROP is_shadow",
            "jobs DROP heard_at",
            "jobs DROP outdated_at",
            "instances DROP says",
            "jobs DROP prior_study_instance_uid",
            "results DROP is_substitute",
            "results DROP retracted_at",
            "results DROP purged_at",
            "results DROP attributes",
            "deliveries DROP seen_at",
            "deliveries DROP doubts",
            "instances RENAME COLUMN digest TO sha256",
        ):
            connection.execute(text(f"ALTER TABLE {added}"))
        for table in (
            "retractions", "capabilities", "purges", "confirmations", "alarms", "tallies",
            "switches", "study_entries", "series_entries", "reviews", "worklist", "worklist_words",
            "orders", "order_messages", "sessions", "links", "users", "tokens", "login_failures",
            "expectations", "notices", "pauses",
            "workitems", "subscriptions", "workitem_events",
            "priors", "prior_searches",
            "fetches", "pull_sources",
        ):  # fmt: skip
            connection.execute(text(f"DROP TABLE {table}"))
        for index in (
            "results_study_instance_uid",
            "jobs_pipeline_state_accepted_at",
            "decisions_outcome_decided_at",
            "jobs_state_finished_at",
            "jobs_accepted_at_job_id",
            "results_created_at_sop_instance_uid",
            "deliveries_destination_state_created_at",
            "deliveries_destination_state_changed_at",
            "events_kind_event_id",
        ):
            connection.execute(text(f"DROP INDEX ix_{index}"))
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


@only_sqlite
def test_a_commit_is_on_disk_before_it_returns(books: Books) -> None:
    with books.engine.connect() as connection:
        pragmas = [connection.execute(text(f"PRAGMA {name}")).scalar_one() for name in ("journal_mode", "synchronous")]
        assert pragmas == ["wal", 2]
        assert connection.execute(text("PRAGMA foreign_keys")).scalar_one() == 1


@only_sqlite
def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    copy_ledger(tmp_path)
    path = tmp_path / "ledger.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(LedgerUnusable, match=r"schema 9999.*newer radnode"):
        open_at(path)


@only_sqlite
def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"not a database, whatever its name says" * 100)
    before = path.read_bytes()
    with pytest.raises(LedgerUnusable, match="restore the file"):
        open_at(path)
    assert path.read_bytes() == before


@only_sqlite
def test_a_ledger_without_its_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnusable, match="rights"):
        open_at(tmp_path / "absent" / "ledger.sqlite")


@only_sqlite
@pytest.mark.parametrize("url", ["nonsense", "oracle9://host/x", "mysql://host/x"])
def test_a_url_that_names_no_database_here_is_refused(url: str) -> None:
    with pytest.raises(LedgerUnusable, match=r"ledger\.url"):
        open_engine(url, busy_timeout_s=1.0)


@only_sqlite
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
