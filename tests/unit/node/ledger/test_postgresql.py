"""What holds on PostgreSQL only: whose mistake an error is, what is durable, and who is thrown out."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DataError, ProgrammingError

from node.domain.job import Priority
from node.errors import LedgerBusy
from node.ledger.engine import Engine, open_engine
from node.ledger.registrar import Registrar
from node.ledger.schema import instances, studies, worklist
from node.ledger.worklist import Show, Wanted, WorklistLedger
from tests.ledgers import NOON, STUDY, Books, copy_ledger, make_facts
from tests.peers import wait_until
from tests.postgresql import run_sql

pytestmark = pytest.mark.parametrize(
    "database", [pytest.param("postgresql", marks=pytest.mark.needs("postgres"))], indirect=True
)
END_OTHERS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'radnode'"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return copy_ledger(tmp_path)


@pytest.fixture
def books(url: str) -> Iterator[Books]:
    opened = Books(url)
    yield opened
    opened.close()


def ask(engine: Engine, statement: str) -> object:
    with engine.connect() as connection:
        return connection.execute(text(statement)).scalar_one()


def set_default(url: str, setting: str) -> None:
    """Set what sessions of the database of `url` begin with."""
    server, _, name = url.rpartition("/")
    run_sql(f"{server}/postgres", f"ALTER DATABASE {name} SET {setting}")


def test_a_commit_is_on_disk_before_it_returns_though_the_server_would_not_wait(url: str) -> None:
    set_default(url, "synchronous_commit = off")
    engine = open_engine(url, busy_timeout_s=5.0)
    assert ask(engine, "SHOW synchronous_commit") == "on"
    engine.dispose()
    set_default(url, "synchronous_commit = remote_apply")
    engine = open_engine(url, busy_timeout_s=5.0)
    assert ask(engine, "SHOW synchronous_commit") == "remote_apply"
    engine.dispose()


def test_any_name_of_postgresql_opens_it_and_options_of_the_site_count(url: str) -> None:
    plain = url.replace("postgresql+psycopg://", "postgresql://")
    engine = open_engine(f"{plain}?options=-c%20statement_timeout%3D7s", busy_timeout_s=2.5)
    assert ask(engine, "SHOW statement_timeout") == "7s"
    assert ask(engine, "SHOW lock_timeout") == "2500ms"
    assert ask(engine, "SHOW idle_in_transaction_session_timeout") == "30s"
    engine.dispose()


def test_a_view_is_of_one_moment_though_others_commit_meanwhile(url: str, books: Books) -> None:
    books.instances.record_instance(make_facts())
    other = Books(url)
    with books.view.reading() as connection:
        before = connection.execute(text("SELECT state FROM studies")).scalar_one()
        with other.instances.writing() as writing:
            writing.execute(studies.update().values(state="SETTLED"))
        assert connection.execute(text("SELECT state FROM studies")).scalar_one() == before
    assert books.view.study_story(STUDY).state == "SETTLED"
    other.close()


def test_a_view_cannot_write(books: Books) -> None:
    with pytest.raises(LedgerBusy, match="ReadOnly"), books.view.reading() as connection:
        connection.execute(studies.delete())


def test_sessions_that_are_ended_are_busy_and_the_next_ones_serve(url: str, books: Books) -> None:
    def write_twice() -> None:
        with books.instances.writing() as connection:
            connection.execute(studies.delete())
            run_sql(url, END_OTHERS)
            connection.execute(studies.delete())

    with pytest.raises(LedgerBusy):
        write_twice()
    run_sql(url, END_OTHERS)
    assert books.instances.record_instance(make_facts()) == "new"
    run_sql(url, END_OTHERS)
    assert books.instances.known(make_facts().sop_instance_uid) is not None


def test_a_server_that_became_read_only_keeps_rows_waiting_and_loses_none(url: str, books: Books) -> None:
    """As after a failover to a standby: it is no fault of the rows, which must not be given up."""
    registrar = Registrar(books.instances, lambda: None)
    set_default(url, "default_transaction_read_only = on")
    run_sql(url, END_OTHERS)
    with pytest.raises(LedgerBusy, match="ReadOnlySqlTransaction"):
        books.instances.record_instance(make_facts(99))
    registrar.start()
    for number in range(3):
        registrar.record_instance(make_facts(number))
    set_default(url, "default_transaction_read_only = off")
    run_sql(url, END_OTHERS)
    wait_until(lambda: len(books.instances.known_paths()) == 3, what="rows of all three")
    registrar.stop()


def test_a_value_that_no_column_takes_is_the_fault_of_its_row(books: Books) -> None:
    books.instances.record_instance(make_facts())
    with pytest.raises(DataError), books.instances.writing() as connection:
        connection.execute(studies.update().values(state="x" * 17))


@pytest.mark.parametrize("odd", [{"a": 1}, 7, None, ["x"]])
def test_a_value_of_another_type_is_never_taken_for_a_ledger_that_is_busy(books: Books, odd: Any) -> None:
    """A message of the broker may hold anything; to try it again would never end."""
    with suppress(ProgrammingError, DataError):
        books.jobs.claim_job(odd, owner="worker", lease_s=60.0, now=NOON)


def test_rights_that_were_withdrawn_keep_rows_waiting(url: str, books: Books) -> None:
    run_sql(url, "ALTER TABLE studies RENAME TO elsewhere")
    with pytest.raises(LedgerBusy, match="UndefinedTable"):
        books.instances.record_instance(make_facts())
    run_sql(url, "ALTER TABLE elsewhere RENAME TO studies")
    assert books.instances.record_instance(make_facts()) == "new"


@pytest.mark.parametrize("words", ["\x00", "a\x00b", "\ud800", "Δοκιμή\U0001f600"])
def test_any_text_of_a_header_is_kept(books: Books, words: str) -> None:
    books.instances.record_instance(make_facts(SeriesDescription=words))
    with books.view.reading() as connection:
        assert connection.execute(select(instances.c.attributes)).scalar_one()["SeriesDescription"] == words


def test_a_thread_after_another_needs_one_connection(url: str, books: Books) -> None:
    for number in range(3):
        books.instances.record_instance(make_facts(number))
    assert books.instances.known(make_facts(1).sop_instance_uid) is not None
    mine = "datname = current_database() AND application_name = 'radnode'"
    assert run_sql(url, f"SELECT count(*) FROM pg_stat_activity WHERE {mine}") == [(1,)]


def test_the_worklist_is_never_read_whole_for_what_no_study_is(url: str, books: Books) -> None:
    """Half of the Studies are CT, half are not matched, none is both; the server expects every fourth to be."""
    kept = {"has_findings": False, "needs_person": False, "is_pending": False, "words": ""}
    rows = [
        {
            **kept,
            "study_instance_uid": f"2.25.{number}",
            "priority": Priority.ROUTINE,
            "opened_at": NOON,
            "modalities": ("CT", "US")[number % 2],
            "is_unmatched": bool(number % 2),
        }
        for number in range(20_000)
    ]
    with books.engine.begin() as connection:
        connection.execute(insert(worklist), rows)
    run_sql(url, "ANALYZE worklist")
    read_whole = "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'worklist'"
    before = run_sql(url, read_whole)
    sheet = WorklistLedger(books.engine).read_sheet(Wanted(modalities=("CT",)), after=None, limit=1)
    assert (sheet.counts[Show.UNMATCHED], sheet.counts[Show.ALL]) == (0, 1001)
    # What a session has read is told when it ends.
    books.close()
    assert run_sql(url, read_whole) == before
