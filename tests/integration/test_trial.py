"""An edit of the rules is tried beside the node, on what routing would do; whatever it asks, the node goes on."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from node.domain.switch import Mode, Switch
from node.errors import RuleInvalid
from node.ledger.switches import SwitchLedger
from node.settings.loading import load_settings
from node.settings.whole import Settings
from node.trial import Limits, Trial, try_edit
from tests.ledgers import NOON, Books, copy_ledger, make_facts

RULE = '[[rules]]\nname = "CT"\nwhen = {{ description = "{description}" }}\nrun = ["lung_nodules"]\n'
# An hour is as good as never here.
PATIENT = Limits(seconds=60.0, around_s=3600.0)


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """Return a node that knows one CT Series."""
    url = copy_ledger(tmp_path)
    books = Books(url)
    books.instances.record_instance(make_facts(SeriesDescription="a" * 60 + " b"))
    yield load_settings(None, {"RADNODE__NODE__DATA_DIR": str(tmp_path), "RADNODE__LEDGER__URL": url})
    books.close()


def run(settings: Settings, description: str, limits: Limits = PATIENT) -> Trial:
    return try_edit(RULE.format(description=description), settings, since=NOON - timedelta(days=1), limits=limits)


def test_what_an_edit_starts_is_what_routing_would_order(settings: Settings) -> None:
    found = run(settings, "a+ b")
    assert (found.studies, found.found.tried, found.found.started) == (1, 1, {"lung_nodules": 1})
    books = Books(settings.ledger_url)
    wanted = Switch(pipeline="lung_nodules", mode=Mode.OFF, changed_by="kim", changed_at=NOON, reason="")
    SwitchLedger(books.engine).switch_pipeline(wanted)
    books.close()
    off = run(settings, "a+ b")
    assert (off.found.tried, off.found.differences) == (1, ())


def test_a_trial_that_takes_too_long_is_ended_and_told(settings: Settings) -> None:
    with pytest.raises(RuleInvalid, match=r"the trial was ended"):
        run(settings, "a+ b", Limits(seconds=0.0, around_s=0.01))


def test_a_pattern_that_tries_ways_without_end_starts_nothing(settings: Settings) -> None:
    found = run(settings, "^(a|aa)+c")
    assert (found.found.tried, found.found.started) == (1, {})
