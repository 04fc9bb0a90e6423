"""From settings to how long Studies stay."""

from datetime import timedelta

import pytest

from node.domain.retention import KeepUntil
from node.errors import SettingsInvalid
from node.settings.loading import load_settings
from node.settings.whole import Settings
from node.site import retention_terms


def settings(**keys: str) -> Settings:
    return load_settings(None, {f"RADNODE__RETENTION__{key.upper()}": value for key, value in keys.items()})


def test_as_shipped_nothing_ever_goes() -> None:
    terms = retention_terms(settings())
    assert (terms.studies, terms.high_percent, terms.proof.keep_until) == (None, None, KeepUntil.COMMITTED)


def test_days_and_percents_are_taken_as_they_are() -> None:
    terms = retention_terms(
        settings(studies_days="1.5", results_days="30", keep_until="sent", high_percent="85", low_percent="70")
    )
    assert (terms.studies, terms.results) == (timedelta(days=1.5), timedelta(days=30))
    assert (terms.high_percent, terms.low_percent, terms.proof.keep_until) == (85.0, 70.0, KeepUntil.SENT)


@pytest.mark.parametrize(
    "keys",
    [{"studies_days": "-1"}, {"high_percent": "100"}, {"high_percent": "70"}, {"keep_until": "whenever"}],
)
def test_what_makes_no_sense_is_refused(keys: dict[str, str]) -> None:
    with pytest.raises(SettingsInvalid, match="retention"):
        settings(**keys)
