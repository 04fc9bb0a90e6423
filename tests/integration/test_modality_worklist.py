"""A Modality Worklist that we did not write is asked for the order of a Study that came without one."""

import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from pynetdicom import AE

from node.domain.imaging_order import OrderOrigin
from node.domain.job import Priority
from node.errors import DestinationDown, Misconfigured
from node.ledger.imaging_orders import OrderLedger, Told
from node.peers.peer import DestinationSpec
from node.pulling.order_seeker import PAUSES, OrderSeeker, Surroundings
from node.pulling.worklist_query import AskWorklist, open_worklist
from tests.ledgers import NOON, STUDY, Books, at, make_facts
from tests.peers import Program, free_port, require_program, wait_until

AET = "RISWL"
ENTRY = """
(0008,0005) CS [ISO_IR 100]
(0008,0050) SH [{number}]
(0010,0010) PN [Doe^J\u00e4ne]
(0010,0020) LO [{patient}]
(0020,000d) UI [{uid}]
(0032,1032) PN [Who^Doctor]
(0032,1033) LO [Notfall \u00c4]
(0032,1060) LO [CT Sch\u00e4del]
(0032,1064) SQ (Sequence with undefined length)
(fffe,e000) na (Item with undefined length)
(0008,0100) SH [CTSK]
(0008,0102) SH [99LOCAL]
(0008,0104) LO [CT skull]
(fffe,e00d) na (ItemDelimitationItem)
(fffe,e0dd) na (SequenceDelimitationItem)
(0040,0100) SQ (Sequence with undefined length)
(fffe,e000) na (Item with undefined length)
(0008,0060) CS [CT]
(0040,0001) AE [CT1]
(0040,0002) DA [20250114]
(0040,0003) TM [121500]
(fffe,e00d) na (ItemDelimitationItem)
(fffe,e0dd) na (SequenceDelimitationItem)
(0040,1001) SH [{procedure}]
(0040,1003) SH [{priority}]
(0040,2016) LO [PL{procedure}]
(0040,2017) LO [FI{procedure}]
"""

pytestmark = pytest.mark.needs("wlmscpfs")


@pytest.fixture(scope="module")
def worklist(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DestinationSpec]:
    folder = tmp_path_factory.mktemp("worklist")
    entries = folder / AET
    entries.mkdir()
    (entries / "lockfile").touch()
    for number, patient, uid, procedure, priority in (
        ("A1", "P1", "1.2.840.77.1", "RP1", "STAT"),
        ("A1", "P1", "1.2.840.77.1", "RP2", "LOW"),
        ("A2", "P1", "1.2.840.77.2", "RP3", "HIGH"),
        ("A3", "P9", STUDY, "RP4", "MEDIUM"),
    ):
        dump = entries / f"{procedure}.dump"
        filled = ENTRY.format(number=number, patient=patient, uid=uid, procedure=procedure, priority=priority)
        dump.write_bytes(filled.encode("latin-1"))
        command = [require_program("dump2dcm"), "-q", str(dump), str(entries / f"{procedure}.wl")]
        subprocess.run(command, check=True, capture_output=True)
    port = free_port()
    program = Program([require_program("wlmscpfs"), "-dfr", "-dfp", str(folder), str(port)], folder)
    program.start()
    spec = DestinationSpec(name="ris", transport="cstore", aet=AET, host="127.0.0.1", port=port, timeout_s=30.0)
    wait_until(lambda: _answers(spec), what="wlmscpfs")
    yield spec
    program.stop()


def _answers(spec: DestinationSpec) -> bool | None:
    try:
        with open_worklist(spec):
            return True
    except DestinationDown:
        return None


class Seeker:
    """A seeker on a ledger, with a clock that the test sets."""

    def __init__(self, books: Books, spec: DestinationSpec) -> None:
        self.orders = OrderLedger(books.engine)
        self.now, self.wakes, self.asked = NOON, 0, 0
        self.station = OrderSeeker(
            peer=spec.name,
            surroundings=Surroundings(
                unordered=self.orders.unordered_studies,
                open_worklist=partial(self._open, spec),
                record=lambda orders: self.orders.record(Told(orders=tuple(orders)), now=self.now),
                committed=self._wake,
                clock=lambda: self.now,
                chance=lambda: 0.0,
            ),
        )

    def tick(self, second: float = 0.0) -> float | None:
        """Tick at a second after noon; return at which second it is to be called next."""
        self.now = at(second)
        due = self.station.tick(self.now)
        return None if due is None else (due - NOON).total_seconds()

    def _open(self, spec: DestinationSpec) -> AbstractContextManager[AskWorklist]:
        self.asked += 1
        return open_worklist(spec)

    def _wake(self) -> None:
        self.wakes += 1


def test_the_order_is_found_by_number_and_patient(books: Books, worklist: DestinationSpec) -> None:
    books.instances.record_instance(make_facts(AccessionNumber="A1", PatientID="P1"))
    seeker = Seeker(books, worklist)
    seeker.tick()
    orders = books.view.study_story(STUDY).orders
    assert [order.priority for order in orders] == [Priority.STAT, Priority.LOW]
    order = orders[0]
    assert (order.origin, order.source, order.accession_number) == (OrderOrigin.WORKLIST, "ris", "A1")
    assert (order.procedure_codes, order.procedure_text) == (("99LOCAL:CTSK",), "CT Schädel")
    assert (order.requested_by, order.requesting_service) == ("Who Doctor", "Notfall Ä")
    assert (order.placer_order_number, order.filler_order_number) == ("PLRP1", "FIRP1")
    assert order.scheduled_at is not None
    assert seeker.wakes == 1
    # It has its order now, and nobody is asked again.
    assert seeker.tick(3600) is None
    assert seeker.asked == 1


def test_the_order_is_found_by_study_where_the_images_have_no_number(books: Books, worklist: DestinationSpec) -> None:
    books.instances.record_instance(make_facts())
    Seeker(books, worklist).tick()
    (order,) = books.view.study_story(STUDY).orders
    assert (order.accession_number, order.priority) == ("A3", Priority.ROUTINE)


def test_a_study_that_is_on_no_worklist_is_asked_about_a_few_times(books: Books, worklist: DestinationSpec) -> None:
    books.instances.record_instance(make_facts(study="1.2.4", AccessionNumber="A1", PatientID="P2"))
    seeker, second = Seeker(books, worklist), 0.0
    for pause in (*PAUSES, None):
        due = seeker.tick(second)
        if pause is not None:
            assert due == second + pause / timedelta(seconds=1)
            second = due
    assert seeker.tick(second + 3600) is None
    assert (seeker.asked, seeker.wakes) == (len(PAUSES) + 1, 0)


def test_a_worklist_that_is_down_is_asked_again(books: Books, worklist: DestinationSpec) -> None:
    books.instances.record_instance(make_facts(AccessionNumber="A1", PatientID="P1"))
    seeker = Seeker(books, replace(worklist, port=free_port()))
    due = seeker.tick()
    assert due is not None
    assert due > 0
    assert seeker.orders.list_orders(5) == []


def test_a_peer_that_is_no_worklist_is_told_of() -> None:
    archive = AE("RISWL")
    archive.add_supported_context("1.2.840.10008.1.1")
    server = archive.start_server(("127.0.0.1", 0), block=False)
    assert server is not None
    try:
        port = server.server_address[1]
        spec = DestinationSpec(name="ris", transport="cstore", aet=AET, host="127.0.0.1", port=port)
        with pytest.raises(Misconfigured, match="Modality Worklist"), open_worklist(spec):
            pass
    finally:
        server.shutdown()
