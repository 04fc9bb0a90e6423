"""What every test may ask for: programs and data by name, skipped where absent and failed where CI=true."""

import os
from pathlib import Path

import pytest

from tests.peers import absent, require_program

DATA = "data"
DATA_VARIABLE = "RADNODE_TEST_DATA"
DATA_BESIDE_THE_CHECKOUT = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip or fail a test that is marked ``needs(peer)`` when the peer is absent."""
    for marker in item.iter_markers("needs"):
        for peer in marker.args:
            if peer == DATA:
                require_data()
            else:
                require_program(peer)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder of real images; without it the test is skipped, or failed where CI=true."""
    return require_data()


def require_data() -> Path:
    """Return the folder that ``RADNODE_TEST_DATA`` names, else the one beside the checkout."""
    named = os.environ.get(DATA_VARIABLE)
    folder = Path(named) if named else DATA_BESIDE_THE_CHECKOUT
    if not folder.is_dir():
        absent(f"the folder of test data is absent ({folder}; {DATA_VARIABLE} names another)")
    return folder
