"""LABELMAP is written where settings ask for it and every Destination of the Job is known to take it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.domain.capability import LABEL_MAP
from node.domain.result import OptionalResult, SegmentationForm
from node.ledger.capabilities import CapabilityLedger
from node.settings.loading import load_settings
from node.settings.peers import DestinationSettings
from node.settings.whole import Settings
from tests.ledgers import Books, copy_ledger, make_order
from workers.wishes import SiteWishes

BINARY, LABELMAP = SegmentationForm.BINARY, SegmentationForm.LABELMAP
DESTINATIONS = {
    "pacs": DestinationSettings(transport="cstore", aet="PACS", host="host", port=104),
    "archive": DestinationSettings(transport="stow", url="http://archive/dicom-web"),
    "ris": DestinationSettings(transport="hl7", host="host", port=2575),
}


@pytest.fixture
def capabilities(tmp_path: Path) -> Iterator[CapabilityLedger]:
    books = Books(copy_ledger(tmp_path))
    yield CapabilityLedger(books.engine)
    books.close()


def site(form: SegmentationForm) -> Settings:
    settings = load_settings(None, {})
    changed = {"segmentation": form, "optional_results": (OptionalResult.KEY_OBJECTS,)}
    pipelines = {name: entry.model_copy(update=changed) for name, entry in settings.pipelines.items()}
    return settings.model_copy(update={"pipelines": pipelines, "destinations": DESTINATIONS})


def learn(capabilities: CapabilityLedger, name: str, *, takes_label_map: bool = True) -> None:
    capabilities.record_answer(name, DESTINATIONS[name].address, LABEL_MAP, is_taken=takes_label_map)


def chosen(capabilities: CapabilityLedger, *deliver_to: str, form: SegmentationForm = LABELMAP) -> SegmentationForm:
    wishes = SiteWishes(site(form), capabilities)(make_order(deliver_to=deliver_to))
    assert wishes.optional == {OptionalResult.KEY_OBJECTS}
    return wishes.segmentation


def test_label_map_needs_every_destination_of_the_job(capabilities: CapabilityLedger) -> None:
    assert chosen(capabilities, "pacs") is BINARY
    learn(capabilities, "pacs")
    assert chosen(capabilities, "pacs") is LABELMAP
    assert chosen(capabilities, "pacs", "archive") is BINARY
    learn(capabilities, "archive", takes_label_map=False)
    assert chosen(capabilities, "pacs", "archive") is BINARY
    learn(capabilities, "archive")
    assert chosen(capabilities, "pacs", "archive") is LABELMAP


def test_who_is_told_by_messages_takes_no_segments_and_has_no_say(capabilities: CapabilityLedger) -> None:
    learn(capabilities, "pacs")
    assert chosen(capabilities, "pacs", "ris") is LABELMAP


def test_binary_is_written_where_settings_ask_for_it(capabilities: CapabilityLedger) -> None:
    learn(capabilities, "pacs")
    assert chosen(capabilities, "pacs", form=BINARY) is BINARY
    assert chosen(capabilities, form=BINARY) is BINARY


def test_job_without_a_destination_may_write_a_label_map(capabilities: CapabilityLedger) -> None:
    assert chosen(capabilities) is LABELMAP


def test_destination_that_moved_or_left_the_settings_is_not_known(capabilities: CapabilityLedger) -> None:
    learn(capabilities, "pacs")
    moved = {"pacs": DESTINATIONS["pacs"].model_copy(update={"port": 105})}
    for destinations in (moved, {}):
        settings = site(LABELMAP).model_copy(update={"destinations": destinations})
        wishes = SiteWishes(settings, capabilities)(make_order(deliver_to=("pacs",)))
        assert wishes.segmentation is BINARY
