"""The crowd of the benchmark is what a node would have written, and every page of it is served."""

from pathlib import Path

import pytest

from node.benchmark.rounds import order_of
from node.benchmark.worklist import TARGET_MS, describe_rows, measure, targets
from node.clock import utc_now
from node.errors import WrongState
from node.ledger.logins import LoginLedger
from tests.ledgers import Books, copy_ledger, make_facts


def test_pages_of_a_crowd_are_measured(tmp_path: Path) -> None:
    """`radnode bench worklist` takes a million."""
    rows = measure(
        f"sqlite:///{tmp_path / 'ledger.sqlite'}", studies=600, rounds=1, folder=tmp_path, note=lambda _: None
    )
    assert len(rows) == 18
    assert all(row.p50_ms <= row.p95_ms <= row.max_ms for row in rows)
    assert len(describe_rows(rows).splitlines()) == 2 + len(rows)
    (target,) = targets(rows)
    assert (target.at_most, target.measured) == (TARGET_MS, max(row.p95_ms for row in rows))
    books = Books(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    assert LoginLedger(books.engine).list_tokens() == ()
    books.close()


def test_the_ledger_of_a_node_is_left_as_it_is(tmp_path: Path) -> None:
    url = copy_ledger(tmp_path)
    books = Books(url)
    books.instances.record_instance(make_facts(received_at=utc_now()))
    with pytest.raises(WrongState, match="table studies"):
        measure(url, studies=600, rounds=1, folder=tmp_path, note=lambda _: None)
    assert len(books.view.list_studies(limit=9)) == 1
    books.close()


def test_the_order_of_turns_moves_on_from_round_to_round() -> None:
    assert ["".join(order_of("abc", number)) for number in range(4)] == ["abc", "bca", "cab", "abc"]
