"""What the ledger knows of a Destination: probes replace, answers teach, another address is another peer."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.domain.capability import LABEL_MAP, WRITTEN_FORMS, Capability, Form
from node.ledger.capabilities import CapabilityLedger
from tests.ledgers import NOON, Books, at, copy_ledger

PACS, ADDRESS = "pacs", "cstore PACS@host:104"
SEG, SR = WRITTEN_FORMS["SEG"], WRITTEN_FORMS["SR"]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[CapabilityLedger]:
    books = Books(copy_ledger(tmp_path))
    yield CapabilityLedger(books.engine)
    books.close()


def seen(*accepted: Form, refused: tuple[Form, ...] = (), second: float = 0, address: str = ADDRESS) -> Capability:
    return Capability(
        destination=PACS,
        address=address,
        accepted=frozenset(accepted),
        refused=frozenset(refused),
        asked_at=at(second),
    )


def probe(ledger: CapabilityLedger, capability: Capability, *, by_hand: bool = False) -> None:
    ledger.record_probe(capability, forgets_answers=by_hand)


def answer(ledger: CapabilityLedger, form: Form, *, is_taken: bool) -> None:
    ledger.record_answer(PACS, ADDRESS, form, is_taken=is_taken)


def takes(ledger: CapabilityLedger, form: Form) -> bool | None:
    found = ledger.find_capability(PACS, ADDRESS)
    return None if found is None else found.takes(form)


def test_what_was_seen_is_read_again_as_it_was(ledger: CapabilityLedger) -> None:
    assert ledger.find_capability(PACS, ADDRESS) is None
    probe(ledger, seen(SEG, SR, refused=(LABEL_MAP,)))
    assert ledger.find_capability(PACS, ADDRESS) == seen(SEG, SR, refused=(LABEL_MAP,))


def test_another_address_is_another_peer(ledger: CapabilityLedger) -> None:
    probe(ledger, seen(SEG))
    assert ledger.find_capability(PACS, "cstore PACS@other:104") is None
    probe(ledger, seen(SR, address="cstore PACS@other:104"))
    assert ledger.find_capability(PACS, ADDRESS) is None


def test_a_later_probe_takes_the_place_of_the_earlier(ledger: CapabilityLedger) -> None:
    probe(ledger, seen(SEG, refused=(SR,)))
    probe(ledger, seen(SR, refused=(SEG,), second=60))
    assert ledger.find_capability(PACS, ADDRESS) == seen(SR, refused=(SEG,), second=60)


@pytest.mark.parametrize("is_probed_before", [True, False])
def test_refused_object_outlives_the_daily_probe(ledger: CapabilityLedger, *, is_probed_before: bool) -> None:
    if is_probed_before:
        probe(ledger, seen(LABEL_MAP))
    answer(ledger, LABEL_MAP, is_taken=False)
    assert takes(ledger, LABEL_MAP) is False
    probe(ledger, seen(LABEL_MAP))
    assert takes(ledger, LABEL_MAP) is False
    probe(ledger, seen(LABEL_MAP), by_hand=True)
    assert takes(ledger, LABEL_MAP) is True


def test_object_that_is_taken_after_all_ends_a_refusal(ledger: CapabilityLedger) -> None:
    probe(ledger, seen(SEG))
    answer(ledger, SEG, is_taken=False)
    answer(ledger, SEG, is_taken=True)
    probe(ledger, seen(SEG))
    assert takes(ledger, SEG) is True


def test_answers_alone_teach_where_nothing_was_probed(ledger: CapabilityLedger) -> None:
    answer(ledger, SEG, is_taken=True)
    answer(ledger, LABEL_MAP, is_taken=False)
    assert [takes(ledger, form) for form in (SEG, LABEL_MAP, SR)] == [True, False, None]
    found = ledger.find_capability(PACS, ADDRESS)
    assert found is not None
    assert found.asked_at is None


def test_answer_is_no_probe(ledger: CapabilityLedger) -> None:
    probe(ledger, seen(SEG))
    answer(ledger, SR, is_taken=True)
    found = ledger.find_capability(PACS, ADDRESS)
    assert found is not None
    assert found.asked_at == NOON


def test_all_take_only_when_each_is_known_to(ledger: CapabilityLedger) -> None:
    probe(ledger, seen(LABEL_MAP))
    assert ledger.all_take({}, LABEL_MAP)
    assert ledger.all_take({PACS: ADDRESS}, LABEL_MAP)
    assert not ledger.all_take({PACS: "cstore PACS@moved:104"}, LABEL_MAP)
    assert not ledger.all_take({PACS: ADDRESS, "archive": "stow http://archive"}, LABEL_MAP)
    ledger.record_answer("archive", "stow http://archive", LABEL_MAP, is_taken=True)
    assert ledger.all_take({PACS: ADDRESS, "archive": "stow http://archive"}, LABEL_MAP)
    answer(ledger, LABEL_MAP, is_taken=False)
    assert not ledger.all_take({PACS: ADDRESS}, LABEL_MAP)
