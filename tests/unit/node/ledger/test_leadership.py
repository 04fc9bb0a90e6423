"""One node of a ledger leads; another one does as soon as that one resigns, or its session ends."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Barrier, Event, Thread

import pytest

from node.errors import LedgerBusy
from node.ledger.engine import open_engine
from node.ledger.leadership import Leadership, open_leadership
from tests.ledgers import copy_ledger
from tests.peers import wait_until
from tests.postgresql import run_sql

DEADLINE_S = 20.0
only_postgresql = pytest.mark.parametrize(
    "database", [pytest.param("postgresql", marks=pytest.mark.needs("postgres"))], indirect=True
)

Join = Callable[[], Leadership]


@pytest.fixture
def join(tmp_path: Path) -> Iterator[Join]:
    """Return what makes one more node of the ledger."""
    with ExitStack() as stack:

        def make() -> Leadership:
            engine = open_engine(copy_ledger(tmp_path), busy_timeout_s=5.0)
            stack.callback(engine.dispose)
            leadership = open_leadership(engine)
            stack.callback(leadership.resign)
            return leadership

        yield make


def test_one_leads_until_it_resigns(join: Join) -> None:
    first, second = join(), join()
    assert [first.is_ours(), second.is_ours(), first.is_ours(), second.is_ours()] == [True, False, True, False]
    first.resign()
    assert [second.is_ours(), first.is_ours(), second.is_ours()] == [True, False, True]


def test_whoever_asks_of_a_node_that_leads_is_told_so(join: Join) -> None:
    """However many belts ask at the same moment, and for the first time."""
    belts, told = 8, []
    for _ in range(25):
        leadership, together = join(), Barrier(belts)

        def ask(leadership: Leadership = leadership, together: Barrier = together) -> None:
            together.wait()
            told.append(leadership.is_ours())

        threads = [Thread(target=ask) for _ in range(belts)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        leadership.resign()
    assert told == [True] * 25 * belts


def test_who_resigns_twice_or_never_led_harms_nobody(join: Join) -> None:
    first, second = join(), join()
    assert first.is_ours()
    second.resign()
    second.resign()
    assert (first.is_ours(), second.is_ours()) == (True, False)


def test_only_one_is_alone_at_a_time(join: Join) -> None:
    first, second = join(), join()
    entered, order = Event(), []

    def enter() -> None:
        with second.alone():
            order.append("second")
            entered.set()

    thread = Thread(target=enter)
    with first.alone():
        thread.start()
        # Not long enough to prove that it waits; too short a wait can only let the test pass.
        assert not entered.wait(0.2)
        order.append("first")
    assert entered.wait(DEADLINE_S)
    thread.join()
    assert order == ["first", "second"]


def test_to_be_alone_is_not_to_lead(join: Join) -> None:
    first, second = join(), join()
    with first.alone():
        assert second.is_ours()


@only_postgresql
def test_a_leader_whose_session_was_ended_says_so_once_and_another_leads(tmp_path: Path, join: Join) -> None:
    first, second = join(), join()
    assert first.is_ours()
    holder = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"
    assert run_sql(copy_ledger(tmp_path), f"SELECT pg_terminate_backend(pid) FROM ({holder}) h") == [(True,)]
    assert wait_until(second.is_ours, what="another leader")
    with pytest.raises(LedgerBusy):
        first.is_ours()
    assert not first.is_ours()


@only_postgresql
def test_a_leader_that_falls_silent_is_forgotten_by_the_server(tmp_path: Path, join: Join) -> None:
    """Which a process does that was stopped; its session is ended by the server after a minute."""
    first = join()
    assert first.is_ours()
    # A session tells its own settings only; so the one that leads is asked.
    session = first._session  # type: ignore[attr-defined]
    assert session.exec_driver_sql("SHOW idle_session_timeout").scalar_one() == "1min"
