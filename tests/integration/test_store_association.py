"""One sender, one socket, no threads: each response is its own, and nothing that was acknowledged is sent again."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from os import truncate
from pathlib import Path
from socket import IPPROTO_TCP, TCP_NODELAY, socketpair

import pytest
from pydicom.uid import UID, ImplicitVRLittleEndian

from node.delivery.transport import open_transport
from node.errors import DestinationDown, LedgerBusy
from node.peers.association import StoreAssociation
from node.peers.carriage import carry
from node.peers.parcel import Fate, Outcome, Parcel
from node.peers.part10 import read_file_head
from node.peers.peer import Peer
from node.peers.upper_layer import UpperLayer
from tests.objects import CT, SR, data_set_bytes, parcel_of, write_object
from tests.pdus import RELEASE_RP, RELEASE_RQ, item
from tests.peers import Storescp, wait_until
from tests.scripted_scp import Answer, Odd, Scp

SHORT_S = 1.0
LIMIT_S = 20.0


@pytest.fixture(scope="module")
def parcels(tmp_path_factory: pytest.TempPathFactory) -> list[Parcel]:
    folder = tmp_path_factory.mktemp("in")
    return [parcel_of(write_object(folder, str(number)), number) for number in range(12)]


class Reports:
    """What a transport told, by SOP Instance UID."""

    def __init__(self) -> None:
        self.outcomes: list[tuple[str, Outcome]] = []

    def __call__(self, parcel: Parcel, outcome: Outcome) -> None:
        self.outcomes.append((parcel.sop_instance_uid, outcome))

    def uids(self, fate: Fate) -> list[str]:
        return sorted(uid for uid, outcome in self.outcomes if outcome.fate is fate)


def send(scp: Scp, parcels: Sequence[Parcel], *, associations: int = 1, timeout_s: float = LIMIT_S) -> Reports:
    reports = Reports()
    spec = replace(scp.spec(), associations=associations, timeout_s=timeout_s)
    open_transport(spec).send(parcels, reports)
    return reports


def uids(parcels: Sequence[Parcel]) -> list[str]:
    return sorted(parcel.sop_instance_uid for parcel in parcels)


def odd_at(number: int, how: Odd) -> Answer:
    """Answer one C-STORE wrongly, the others with Success."""
    return lambda n, _: how if n == number else 0


@pytest.mark.needs("storescp")
def test_sender_has_its_response_without_a_thread_and_without_nagle(tmp_path: Path, parcels: list[Parcel]) -> None:
    parcel = parcels[0]
    with Storescp(tmp_path) as scp:
        before = threading.enumerate()
        peer = Peer(aet=scp.aet, host="127.0.0.1", port=scp.port)
        with StoreAssociation(peer, [(CT, parcel.transfer_syntax_uid)]) as assoc:
            assert assoc.store(parcel.path, read_file_head(parcel.path)) == Outcome.sent()
            assert threading.enumerate() == before
            assert assoc._layer._connection.getsockopt(IPPROTO_TCP, TCP_NODELAY) != 0


@pytest.mark.parametrize("how", [Odd.NO_STATUS, Odd.ABORT, Odd.CLOSE, Odd.RELEASE, Odd.WRONG_MESSAGE, Odd.DATA_SET])
def test_wrong_answer_is_a_failure_of_one_object_and_the_next_goes_on_anew(how: Odd, parcels: list[Parcel]) -> None:
    with Scp(odd_at(2, how)).running() as scp:
        reports = send(scp, parcels[:4])
    fates = [outcome.fate for _, outcome in reports.outcomes]
    assert fates == [Fate.SENT, Fate.RETRY, Fate.SENT, Fate.SENT]
    assert reports.outcomes[1][1].code == "destination-down"
    assert (scp.associations, scp.released) == (2, 1)


def test_answer_that_comes_byte_by_byte_is_no_answer(parcels: list[Parcel]) -> None:
    with Scp(lambda *_: Odd.DRIBBLE).running() as scp, pytest.raises(DestinationDown, match="no response within 1 s"):
        send(scp, parcels[:2], timeout_s=SHORT_S)


def test_unknown_items_in_the_acceptance_are_passed_over(parcels: list[Parcel]) -> None:
    with Scp(user_items=(item(0x5F, b"unknown"), item(0x99, b"item"))).running() as scp:
        assert send(scp, parcels[:1]).uids(Fate.SENT) == uids(parcels[:1])


def test_peer_that_announces_no_maximum_length_has_none(tmp_path: Path) -> None:
    parcel = parcel_of(write_object(tmp_path, "large", pixel_bytes=3_000_000))
    with Scp(max_pdu=None).running() as scp:
        assert send(scp, [parcel]).uids(Fate.SENT) == [parcel.sop_instance_uid]
    assert scp.data_sets == [data_set_bytes(parcel.path)]


@pytest.mark.parametrize("max_pdu", [16, 4096, 16382, 131072])
def test_bytes_arrive_as_they_are_in_pdus_of_any_length(tmp_path: Path, max_pdu: int) -> None:
    size = 30_000 if max_pdu == 16 else 2_000_002
    sent = [parcel_of(write_object(tmp_path, str(add), pixel_bytes=size + add)) for add in (0, 2, 4)]
    with Scp(max_pdu=max_pdu).running() as scp:
        assert send(scp, sent).uids(Fate.SENT) == uids(sent)
    assert scp.data_sets == [data_set_bytes(parcel.path) for parcel in sent]


def test_transfer_syntax_that_was_not_offered_is_no_acceptance(parcels: list[Parcel]) -> None:
    with Scp(chosen=ImplicitVRLittleEndian).running() as scp:
        (_, outcome) = send(scp, parcels[:1]).outcomes[0]
    assert (outcome.fate, outcome.code) == (Fate.REFUSED, "sop-class-not-supported")
    assert scp.requests == 0


def test_file_that_became_shorter_is_taken_back(tmp_path: Path) -> None:
    path = write_object(tmp_path, "shrinks", pixel_bytes=2_000_000)
    head = read_file_head(path)
    truncate(path, 1_500_000)
    with Scp().running() as scp:
        peer = Peer(aet="SCP", host="127.0.0.1", port=scp.port)
        with StoreAssociation(peer, [(CT, head.transfer_syntax_uid)]) as assoc:
            outcome = assoc.store(path, head)
            assert not assoc.is_sound
        wait_until(lambda: scp.aborted, what="the Association is aborted")
    assert (outcome.fate, outcome.code) == (Fate.REFUSED, "file-unreadable")
    assert scp.requests == 0


def test_disk_that_fails_is_not_the_peers_fault_and_the_next_goes_on_anew(tmp_path: Path) -> None:
    """Two in a row that cannot be read would be a peer that is down, were they counted against it."""
    good = [parcel_of(write_object(tmp_path, str(number), pixel_bytes=2_000_000), number) for number in range(4)]
    files = [(parcel.path, read_file_head(parcel.path)) for parcel in good]
    # Its beginning can be read, and nothing else: /proc/self/mem has no page there, and says EIO.
    for place in (1, 2):
        files[place] = (Path("/proc/self/mem"), files[place][1])
    outcomes: list[Outcome] = []
    with Scp().running() as scp:
        peer = Peer(aet="SCP", host="127.0.0.1", port=scp.port)
        carry(peer, files, lambda _, outcome: outcomes.append(outcome))
        wait_until(lambda: scp.aborted == 2, what="both Associations are aborted")
    assert [(outcome.fate, outcome.code) for outcome in outcomes] == [
        (Fate.SENT, None),
        (Fate.RETRY, "file-unreadable"),
        (Fate.RETRY, "file-unreadable"),
        (Fate.SENT, None),
    ]
    assert (scp.associations, len(scp.stored)) == (3, 2)


def test_peer_that_asks_for_a_release_for_ever_is_left() -> None:
    ours, theirs = socketpair()
    with theirs:
        theirs.sendall(RELEASE_RQ * 1000)
        UpperLayer(ours, timeout_s=LIMIT_S).release()
        received = theirs.recv(len(RELEASE_RQ) * 1000)
    assert received == RELEASE_RQ + RELEASE_RP


def test_peer_that_asks_for_a_release_at_the_same_time_gets_its_consent(parcels: list[Parcel]) -> None:
    with Scp(releases_as_well=True).running() as scp:
        send(scp, parcels[:1])
        wait_until(lambda: scp.consents == 1, what="the peer has our consent")


# Several Associations


def test_associations_send_side_by_side_and_each_object_once(parcels: list[Parcel]) -> None:
    together = threading.Barrier(3)

    def answer(number: int, _: UID) -> int:
        if number <= 3:
            together.wait(LIMIT_S)
        return 0

    with Scp(answer).running() as scp:
        reports = send(scp, parcels, associations=3)
    assert scp.associations == 3
    assert reports.uids(Fate.SENT) == sorted(scp.stored) == uids(parcels)


def test_peer_that_grants_one_association_gets_everything_on_it(parcels: list[Parcel]) -> None:
    with Scp(most=1).running() as scp:
        reports = send(scp, parcels, associations=4)
    assert reports.uids(Fate.SENT) == sorted(scp.stored) == uids(parcels)


def test_object_that_breaks_one_association_does_not_keep_the_others(parcels: list[Parcel]) -> None:
    with Scp(odd_at(5, Odd.ABORT)).running() as scp:
        reports = send(scp, parcels, associations=3)
    assert len(reports.uids(Fate.RETRY)) == 1
    assert reports.uids(Fate.SENT) == sorted(scp.stored)
    assert len(reports.outcomes) == len(parcels)


@pytest.mark.parametrize("associations", [1, 4])
def test_whatever_was_acknowledged_is_reported_when_the_destination_fails(
    associations: int, parcels: list[Parcel]
) -> None:
    """What is not reported is sent again: an acknowledged object must not be among it."""
    reports = Reports()
    with Scp(lambda number, _: 0 if number <= 5 else Odd.CLOSE).running() as scp:
        transport = open_transport(replace(scp.spec(), associations=associations))
        with pytest.raises(DestinationDown):
            transport.send(parcels, reports)
        assert reports.uids(Fate.SENT) == sorted(scp.stored)
        scp.answer = lambda *_: 0
        waiting = [parcel for parcel in parcels if parcel.sop_instance_uid not in scp.stored]
        transport.send(waiting, reports)
    assert sorted(scp.stored) == uids(parcels)


def test_destination_that_is_down_is_down_on_every_association(parcels: list[Parcel]) -> None:
    with pytest.raises(DestinationDown, match="no connection"):
        send(Scp(), parcels, associations=4)


def test_error_of_the_ledger_ends_every_association(parcels: list[Parcel]) -> None:
    def fail(parcel: Parcel, outcome: Outcome) -> None:
        raise LedgerBusy("locked")

    with Scp().running() as scp, pytest.raises(LedgerBusy):
        open_transport(replace(scp.spec(), associations=3)).send(parcels, fail)
    assert len(scp.stored) <= 3


def test_forms_of_a_study_are_proposed_on_every_association(tmp_path: Path) -> None:
    mixed = [
        parcel_of(write_object(tmp_path, f"{sop_class_uid}-{number}", sop_class_uid=sop_class_uid))
        for sop_class_uid in (CT, SR)
        for number in range(4)
    ]
    with Scp(refused=(SR,)).running() as scp:
        reports = send(scp, mixed, associations=2)
    assert (len(reports.uids(Fate.SENT)), len(reports.uids(Fate.REFUSED))) == (4, 4)
