"""Faults of Destinations: down, busy, silent, lost half-way, and our own files; RELIABILITY's "PACS".

Couriers, ledger, sockets and peers are real; only the clock is handed in, so that half an hour of outage passes in
seconds; `make outage` lets a day pass. Whole nodes meet these faults in `radnode rehearse --faults`.
"""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from node.domain.result import DeliveryState
from node.errors import LedgerBusy
from node.peers.parcel import UNREADABLE_TRIES
from node.peers.patience import Patience
from node.peers.peer import DestinationSpec
from node.peers.status import DOUBTFUL_TRIES, UNPROCESSED_TRIES
from tests.couriers import Office
from tests.ledgers import Books
from tests.objects import data_set_bytes
from tests.peers import Storescp, free_port
from tests.scripted_scp import LOCAL_LIMIT_EXCEEDED, Odd, Scp

OUTAGE = timedelta(hours=float(os.environ.get("RADNODE_OUTAGE_HOURS", "0.5")))
# Promised: 10 s until the Destination is found; what it takes to send comes on top.
FOUND_WITHIN = timedelta(seconds=10)
NIGHT = timedelta(hours=6)
LIMIT_S = 120.0
# Silence that counts as failure, where a PACS is silent; a busy machine answers sooner.
SILENCE_S = 1.5


@pytest.fixture(autouse=True)
def _unharmed() -> None:
    """What is harmed here is no receiver."""


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    opened = Office(tmp_path)
    yield opened
    opened.books.close()


# Down


@pytest.mark.needs("storescp")
def test_500_results_wait_for_a_pacs_that_is_down_and_arrive_without_a_hand(office: Office, tmp_path: Path) -> None:
    port = free_port()
    spec = DestinationSpec(name="pacs", transport="cstore", aet="STORESCP", host="127.0.0.1", port=port)
    hand = office.hire(spec)
    office.order(50)
    began = office.clock.now
    for step in range(1, 9):
        hand.work(until=began + OUTAGE * step / 8)
        office.order(25)
    # One Study found out; since then, a connection a step, and no object.
    assert hand.calls == len(hand.knocks) + 1
    assert hand.calls <= OUTAGE / timedelta(seconds=6) + 5
    assert (office.states(), office.attempts()) == ({"PENDING"}, {0})
    returned = office.clock.now
    with Storescp(tmp_path, port=port) as pacs:
        hand.work()
    assert hand.knocks[-1] - returned <= FOUND_WITHIN
    assert hand.knocks[-1] == office.clock.now
    assert (office.states(), office.attempts()) == ({"SENT"}, {1})
    sent = {data_set_bytes(path) for path in office.store.rglob("*.dcm")}
    assert {data_set_bytes(path) for path in pacs.files()} == sent
    assert len(pacs.files()) == len(sent) == 500


@pytest.mark.parametrize("fault", ["port closed", "no Association granted", "hangs up at once"])
def test_first_result_leaves_within_ten_seconds_after_an_outage_of_two_minutes(fault: str, office: Office) -> None:
    scp = Scp()
    office.order(3)
    hand = office.hire(scp.spec())
    returns = office.clock.now + timedelta(minutes=2)
    with outage(fault, scp) as connections:
        hand.work(until=returns)
    assert scp.requests == 0
    assert len(connections) in {0, hand.calls}
    with scp.running():
        hand.work(holds=lambda: not scp.requests)
        assert office.clock.now - returns <= FOUND_WITHIN
        hand.work()
    assert (office.states(), office.attempts(), scp.requests) == ({"SENT"}, {1}, 6)


@contextmanager
def outage(fault: str, scp: Scp) -> Iterator[list[str]]:
    """Let a PACS be down in one of several ways; give its connections, where it takes any."""
    if fault == "port closed":
        yield []
    elif fault == "no Association granted":
        scp.reject = LOCAL_LIMIT_EXCEEDED
        with scp.running():
            yield []
        scp.reject = None
        scp.silence.clear()
    else:
        with hanging_up(scp.port) as connections:
            yield connections


@contextmanager
def hanging_up(port: int) -> Iterator[list[str]]:
    """Close every connection as soon as it is taken, as whoever stands before a PACS that is away; give who came."""
    came: list[str] = []
    with socket.create_server(("127.0.0.1", port)) as listener:

        def take() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    connection.close()
                    came.append("somebody")

        taking = threading.Thread(target=take)
        taking.start()
        yield came
        listener.shutdown(socket.SHUT_RDWR)
        taking.join()


def test_two_destinations_of_which_one_is_down_have_nothing_to_do_with_each_other(office: Office) -> None:
    down, up = Scp(), Scp()
    office.order(2, destination="pacs")
    office.order(2, destination="archive")
    hands = [office.hire(down.spec()), office.hire(replace(up.spec(), name="archive"))]
    with up.running():
        for hand in hands:
            hand.call()
    assert (office.states("pacs"), office.states("archive")) == ({"PENDING"}, {"SENT"})
    assert (up.requests, down.requests) == (4, 0)


# There, and takes nothing, or not all


def test_pacs_without_room_is_sent_one_object_a_step_and_has_all_when_there_is_room(office: Office) -> None:
    office.order(20)
    scp = Scp(lambda *_: 0xA700)
    hand = office.hire(scp.spec())
    with scp.running():
        hand.work(until=office.clock.now + NIGHT)
        # Two found out; the steps grow to 300 s.
        assert scp.requests == hand.calls + 1 <= NIGHT / timedelta(seconds=300) + 12
        assert hand.knocks == []
        assert office.states() == {"PENDING"}
        scp.answer = lambda *_: 0
        hand.work()
    assert (office.states(), len(scp.stored), len({*scp.stored})) == ({"SENT"}, 40, 40)


@pytest.mark.parametrize("status", [0x0110, 0xC000])
def test_nothing_is_given_up_where_the_pacs_fails_with_everything_for_a_night(office: Office, status: int) -> None:
    office.order(5)
    scp = Scp(lambda *_: status)
    hand = office.hire(scp.spec())
    with scp.running():
        hand.work(until=office.clock.now + NIGHT)
        assert office.states() == {"PENDING"}
        scp.answer = lambda *_: 0
        hand.work()
    assert (office.states(), len(scp.stored)) == ({"SENT"}, 10)


@pytest.mark.parametrize(("status", "tries"), [(0x0110, UNPROCESSED_TRIES), (0xC000, DOUBTFUL_TRIES)])
def test_object_that_fails_where_others_are_taken_is_refused_after_its_tries(
    office: Office, status: int, tries: int
) -> None:
    """An outage before does not count, and neither does one in between."""
    first, *others = office.order(3)
    scp = Scp()
    hand = office.hire(scp.spec())
    hand.work(until=office.clock.now + timedelta(minutes=30))
    scp.answer = lambda number, _: status if number in {1, *range(7, 99)} else 0
    with scp.running():
        hand.work(holds=lambda: scp.requests < 8)
    hand.work(until=office.clock.now + timedelta(minutes=30))
    scp.silence.clear()
    with scp.running():
        hand.work()
    refused = [d for d in office.deliveries() if d.state is DeliveryState.REFUSED]
    assert [(d.sop_instance_uid, d.attempts, d.reason_code) for d in refused] == [(first, tries, "destination-refused")]
    assert sorted(scp.stored) == sorted(others)


def test_warning_is_sent_and_never_again(office: Office) -> None:
    office.order(2)
    with Scp(lambda *_: 0xB000).running() as scp:
        hand = office.hire(scp.spec())
        hand.work()
        assert hand.call() is None
    assert {(d.state.value, d.reason_code) for d in office.deliveries()} == {("SENT", "sent-with-warning")}
    assert scp.requests == 4


@pytest.mark.parametrize("how", [Odd.NO_STATUS, Odd.SILENCE, Odd.ABORT, Odd.CLOSE])
def test_only_what_has_no_answer_is_sent_again(office: Office, how: Odd) -> None:
    """After three objects the PACS fails, with whatever comes, until it is restarted."""
    office.order(2, each=5)
    scp = Scp(lambda number, _: 0 if number <= 3 else how)
    hand = office.hire(replace(scp.spec(), timeout_s=SILENCE_S))
    with scp.running():
        hand.work(holds=lambda: scp.requests < 5)
        assert (scp.requests, len(scp.stored)) == (5, 3)
        scp.answer = lambda *_: 0
        hand.work()
    assert (office.states(), len(scp.stored), len({*scp.stored})) == ({"SENT"}, 10, 10)
    assert sum(d.attempts for d in office.deliveries()) == scp.requests == 12


def test_slow_pacs_is_waited_for_and_asked_once(office: Office) -> None:
    office.order(2)
    pause = threading.Event()

    def answer_late(*_: object) -> int:
        pause.wait(0.3)
        return 0

    with Scp(answer_late).running() as scp:
        office.hire(scp.spec()).work()
    assert (office.states(), office.attempts(), scp.requests) == ({"SENT"}, {1}, 4)


def test_smallest_pdus_carry_the_same_bytes(office: Office) -> None:
    office.order(1)
    with Scp(max_pdu=16).running() as scp:
        office.hire(scp.spec()).work()
    assert scp.data_sets == [data_set_bytes(office.store / d.path) for d in reversed(office.deliveries())]


def test_destination_is_sent_no_more_than_it_may_be(office: Office) -> None:
    office.order(10)
    began = office.clock.now
    with Scp().running() as scp:
        office.hire(scp.spec(), patience=Patience(per_minute=30)).work()
    assert office.states() == {"SENT"}
    # Five at once, and 15 more at 30 a minute.
    assert office.clock.now - began == pytest.approx(timedelta(seconds=30), abs=timedelta(seconds=0.1))


# What is ours


def test_what_was_acknowledged_while_the_ledger_is_locked_is_not_sent_again(tmp_path: Path) -> None:
    office = Office(tmp_path, busy_timeout_s=0.05)
    office.order(2, each=3)
    other = Books(office.url)
    with Scp().running() as scp:
        hand = office.hire(scp.spec())
        with other.deliveries.writing():
            for _ in range(3):
                with pytest.raises(LedgerBusy):
                    hand.call()
        hand.work()
    assert (office.states(), office.attempts(), scp.requests) == ({"SENT"}, {1}, 6)
    other.close()
    office.books.close()


@pytest.mark.parametrize("fault", ["absent", "cannot be read"])
def test_file_of_ours_that_cannot_be_read_is_set_aside_and_told(office: Office, fault: str) -> None:
    """However many there are, the PACS is not taken for down, and has all the others."""
    uids = office.order(4)
    for delivery in office.deliveries():
        if delivery.sop_instance_uid in uids[:4]:
            (office.store / delivery.path).unlink()
            if fault == "cannot be read":
                (office.store / delivery.path).mkdir()
    with Scp().running() as scp:
        hand = office.hire(scp.spec())
        hand.work()
    assert sorted(scp.stored) == sorted(uids[4:])
    refused = [d for d in office.deliveries() if d.state is DeliveryState.REFUSED]
    assert {d.sop_instance_uid for d in refused} == {*uids[:4]}
    assert {(d.reason_code, d.attempts) for d in refused} == {("file-unreadable", UNREADABLE_TRIES)}
    assert hand.knocks == []
    events = office.books.view.list_events(limit=99)
    assert [event.kind for event in events if event.is_alarm] == ["delivery-refused"] * 4


# STOW-RS


class WebPacs:
    """A STOW-RS service that answers each request with the status of the moment."""

    def __init__(self) -> None:
        self.status = 503
        self.searches = 0
        self.bodies: list[bytes] = []

    @contextmanager
    def running(self) -> Iterator[DestinationSpec]:
        """Serve, and give how it is reached."""
        pacs = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                pacs.searches += 1
                self._answer(pacs.status)

            def do_POST(self) -> None:
                pacs.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self._answer(pacs.status)

            def _answer(self, status: int) -> None:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Stay quiet."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/dicom-web"
            yield DestinationSpec(name="pacs", transport="stow", url=url)
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def test_stow_service_that_is_down_is_asked_and_not_sent_to(office: Office) -> None:
    office.order(10)
    web = WebPacs()
    with web.running() as spec:
        hand = office.hire(spec)
        returns = office.clock.now + timedelta(minutes=10)
        hand.work(until=returns)
        assert len(web.bodies) == 1
        assert web.searches == len(hand.knocks) == hand.calls - 1
        web.status = 200
        hand.work()
    assert hand.knocks[-1] - returns <= FOUND_WITHIN
    assert (office.states(), office.attempts()) == ({"SENT"}, {1})
    assert sum(body.count(b"DICM") for body in web.bodies[1:]) == 20


def test_stow_service_that_fails_with_everything_for_a_night_has_all_in_the_morning(office: Office) -> None:
    office.order(2)
    web = WebPacs()
    web.status = 500
    with web.running() as spec:
        hand = office.hire(spec)
        hand.work(until=office.clock.now + NIGHT)
        assert office.states() == {"PENDING"}
        web.status = 200
        hand.work()
    assert office.states() == {"SENT"}
