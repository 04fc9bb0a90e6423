"""How a Destination is asked whether it holds what it took: what may be said, and what follows from it."""

from typing import Any

import pytest

from node.destinations import confirmation_terms, destination_spec
from node.domain.confirmation import ConfirmBy
from node.errors import SettingsInvalid
from node.receiver import listener_settings
from node.settings.loading import load_settings
from node.settings.whole import Settings
from node.site import retention_terms

PACS = {"transport": "cstore", "aet": "PACS", "host": "192.0.2.7", "port": 104}
WEB = {"transport": "stow", "url": "http://192.0.2.7/dicom-web"}
FOLDER = {"transport": "folder", "url": "results"}
RIS = {"transport": "hl7", "host": "192.0.2.7", "port": 2575}
HIS = {"transport": "fhir", "url": "https://192.0.2.7/fhir"}


def settings_with(**destinations: dict[str, Any]) -> Settings:
    text = ", ".join(
        f"{name} = {{ {', '.join(f'{key} = {value!r}' for key, value in table.items())} }}"
        for name, table in destinations.items()
    )
    return load_settings(None, {"RADNODE__DESTINATIONS": f"{{ {text} }}"})


def test_a_destination_is_asked_in_the_best_way_unless_told_otherwise() -> None:
    settings = settings_with(pacs=PACS)
    assert destination_spec(settings, "pacs").confirm is ConfirmBy.AUTO
    terms = confirmation_terms(settings, "pacs")
    assert (terms.confirm, terms.after.total_seconds(), terms.wait.total_seconds(), terms.tries) == (
        ConfirmBy.AUTO,
        10.0,
        3600.0,
        5,
    )


@pytest.mark.parametrize(
    ("table", "confirm"),
    [
        (WEB, "commitment"),
        (FOLDER, "commitment"),
        (FOLDER, "query"),
        (PACS, "sometimes"),
        (RIS, "query"),
        (HIS, "commitment"),
    ],
)
def test_a_way_that_a_transport_has_not_is_refused(table: dict[str, Any], confirm: str) -> None:
    with pytest.raises(SettingsInvalid, match="confirm"):
        settings_with(other={**table, "confirm": confirm})


def test_who_may_report_follows_from_the_destinations() -> None:
    settings = settings_with(
        pacs=PACS,
        other={**PACS, "aet": "OTHER", "confirm": "commitment"},
        asked={**PACS, "aet": "ASKED", "confirm": "query"},
        silent={**PACS, "aet": "SILENT", "confirm": "none"},
        web=WEB,
        folder=FOLDER,
        ris=RIS,
        his=HIS,
    )
    assert listener_settings(settings).reporting_aets == ("PACS", "OTHER")
    assert retention_terms(settings).proof.confirming == {"pacs", "other", "asked", "web"}
