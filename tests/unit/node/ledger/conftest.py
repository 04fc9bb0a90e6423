"""Each test of the ledger runs on SQLite and on PostgreSQL."""

import pytest


@pytest.fixture(autouse=True)
def _on_both(database: str) -> None:
    """Make ledgers in either of them."""
