"""RIS and HIS send orders over MLLP on real connections: taken once, answered when durable, refused with the place."""

import logging
import ssl
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from hl7apy.core import Message
from hl7apy.parser import parse_message
from hl7apy.validation import Validator

from node.clock import utc_now
from node.domain.imaging_order import OrderState
from node.domain.job import Priority
from node.errors import LedgerBusy, Misconfigured
from node.hl7.listener import Listener, Terms
from node.hl7.order_desk import OrderDesk
from node.ledger.imaging_orders import OrderLedger, Told
from node.networks import Network
from node.tls import TlsIdentity, server_context
from tests.certificates import Authority
from tests.hl7_messages import Client, client, code_of, omi, orm
from tests.ledgers import Books, copy_ledger
from tests.peers import wait_until


class Station:
    """A listener on a ledger."""

    def __init__(self, folder: Path) -> None:
        self.books = Books(copy_ledger(folder))
        self.orders = OrderLedger(self.books.engine)
        self.wakes = 0
        self.fails = False
        self.desk = OrderDesk(self.record, committed=self.wake, clock=utc_now)
        self._listeners: list[Listener] = []

    def record(self, orders: object, digest: str) -> None:
        if self.fails:
            raise LedgerBusy("the ledger is locked")
        assert isinstance(orders, tuple)
        self.orders.record(Told(orders=orders, digest=digest), now=utc_now())

    def wake(self) -> None:
        self.wakes += 1

    def listen(
        self,
        *,
        max_connections: int = 4,
        max_bytes: int = 100_000,
        message_s: float = 30.0,
        networks: tuple[Network, ...] = (),
        tls: ssl.SSLContext | None = None,
    ) -> int:
        """Start a listener and return its port."""
        terms = Terms(
            bind="127.0.0.1", port=0, networks=networks, max_connections=max_connections, max_bytes=max_bytes,
            message_s=message_s,
        )  # fmt: skip
        listener = Listener(terms, self.desk, tls=tls)
        self._listeners.append(listener)
        return listener.start()[1]

    def close(self) -> None:
        for listener in self._listeners:
            listener.stop()
        self.books.close()


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    running = Station(tmp_path)
    yield running
    running.close()


def validated(answer: str) -> Message:
    """Return an answer after HL7's own structures were asked about it."""
    message = parse_message(answer, find_groups=False)
    assert Validator.validate(message)
    return message


def test_an_order_is_taken_and_the_answer_is_valid(station: Station) -> None:
    with client(station.listen()) as sender:
        answer = sender.ask(omi())
    message = validated(answer)
    assert code_of(answer) == "AA|M1"
    assert (message.msh.msh_5.value, message.msh.msh_6.value) == ("RIS", "HOSP")
    (order,) = station.orders.list_orders(10)
    assert (order.accession_number, order.priority, station.wakes) == ("A1", Priority.STAT, 1)


def test_an_order_is_changed_and_canceled_and_what_is_not_said_stays(station: Station) -> None:
    changed = omi(control="XO", priority="R", control_id="M5").replace("|7^Who^Doctor|", "||")
    with client(station.listen()) as sender:
        for message in (omi(), changed, omi(control="CA", priority="", control_id="M6")):
            assert code_of(sender.ask(message)).startswith("AA|")
    (order,) = station.orders.list_orders(10)
    assert (order.state, order.priority, order.requested_by) == (OrderState.CANCELED, Priority.ROUTINE, "Doctor Who")


def test_a_message_that_comes_again_is_acknowledged_and_changes_nothing(station: Station) -> None:
    with client(station.listen()) as sender:
        answers = [sender.ask(one) for one in (omi(), omi(control="CA", control_id="M7"), omi())]
        assert [code_of(one) for one in answers] == ["AA|M1", "AA|M7", "AA|M1"]
        (order,) = station.orders.list_orders(10)
        assert order.state is OrderState.CANCELED
        # A sender that counts from the beginning again says something new by an old number.
        sender.ask(omi(placer="PL8"))
    assert len(station.orders.list_orders(10)) == 2


def test_enhanced_mode_is_answered_as_it_is_asked_for(station: Station) -> None:
    def enhanced(commit: str, application: str, control_id: str) -> str:
        asked = f"|2.5.1|||{commit}|{application}||"
        return omi(control_id=control_id).replace("|2.5.1||||||", asked)

    with client(station.listen()) as sender:
        assert code_of(sender.ask(enhanced("AL", "NE", "E1"))) == "CA|E1"
        both = sender.ask(enhanced("AL", "AL", "E2")), sender.receive()
        assert [code_of(one) for one in both] == ["CA|E2", "AA|E2"]
        for answer in both:
            validated(answer)
        sender.send(enhanced("NE", "NE", "E3"))
        refused = sender.ask(enhanced("ER", "ER", "E4").replace("ORC|NW", "ORC|ZZ"))
        assert [code_of(refused), code_of(sender.receive())] == ["CE|E4", "AE|E4"]


def test_what_is_wrong_is_refused_with_its_place_and_nothing_is_lost(station: Station) -> None:
    with client(station.listen()) as sender:
        answer = sender.ask(omi().replace("IPC|A1|RP1||", "IPC|A1|RP1|1.2.x|"))
        assert code_of(answer) == "AE|M1"
        error = validated(answer).err
        assert (error.err_2.value, error.err_3.err_3_1.value, error.err_4.value) == ("IPC^1^3", "102", "E")
        old = sender.ask(orm().replace("ORC|NW", "ORC|ZZ"))
        assert "ERR|ORC^1^1^103&" in old
        assert code_of(old).startswith("AE|M2|")
        assert code_of(sender.ask(omi().replace("OMI^O23^OMI_O23", "ADT^A08"))) == "AR|M1"
        assert station.orders.list_orders(10) == []
        # The same connection goes on.
        assert code_of(sender.ask(omi())) == "AA|M1"


def test_what_the_ledger_does_not_take_is_rejected_and_may_come_again(station: Station) -> None:
    station.fails = True
    with client(station.listen()) as sender:
        answer = sender.ask(omi())
        assert code_of(answer) == "AR|M1"
        assert "|207^" in answer
        station.fails = False
        assert code_of(sender.ask(omi())) == "AA|M1"
    assert len(station.orders.list_orders(10)) == 1


def test_messages_in_pieces_and_many_at_once_are_found(station: Station) -> None:
    first, second = (b"\x0b" + omi(control_id=one, placer=one).encode() + b"\x1c\r" for one in ("N1", "N2"))
    with client(station.listen()) as sender:
        for byte in first:
            sender.connection.sendall(bytes([byte]))
        sender.connection.sendall(b"\r\n" + second + first)
        assert [code_of(sender.receive()) for _ in range(3)] == ["AA|N1", "AA|N2", "AA|N1"]


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x0bMSH|^~\\&|\x0bMSH",
        b"\x0bMSH|" + b"x" * 200_000,
        b"\x0b\x1c\r",
        b"\x0b\xff\xfe\x00\x1c\r",
    ],
    ids=["no begin", "begin in begin", "too long", "empty", "garbage"],
)
def test_what_is_no_message_is_rejected(station: Station, sent: bytes) -> None:
    with client(station.listen()) as sender:
        sender.connection.sendall(sent)
        answer = sender.receive()
        assert code_of(answer).startswith("AR|")
        # There is no control id that MSA-2 could name; all else is as it must be.
        validated(answer.replace("MSA|AR|", "MSA|AR|0"))


def test_a_message_that_does_not_end_is_given_up(station: Station) -> None:
    with client(station.listen(message_s=0.2)) as sender:
        sender.connection.sendall(b"\x0bMSH|^~")
        assert code_of(sender.receive()).startswith("AR|")
        assert sender.receive() == ""


def test_with_too_many_connections_the_one_silent_longest_ends(station: Station) -> None:
    port = station.listen(max_connections=2)
    with client(port) as first, client(port) as second:
        assert code_of(first.ask(omi())) == "AA|M1"
        assert code_of(second.ask(omi())) == "AA|M1"
        with client(port) as third:
            assert first.receive() == ""
            assert code_of(third.ask(omi())) == "AA|M1"
            assert code_of(second.ask(omi())) == "AA|M1"


def test_who_is_not_listed_is_not_heard(station: Station) -> None:
    from_elsewhere = IPv4Network("10.0.0.0/8")
    with client(station.listen(networks=(from_elsewhere,))) as sender:
        assert _is_ended(sender)


def test_a_listener_that_the_network_reaches_needs_a_list(station: Station) -> None:
    terms = Terms(bind="0.0.0.0", port=0, networks=(), max_connections=1, max_bytes=1024, message_s=1.0)
    with pytest.raises(Misconfigured, match=r"hl7\.allowed_networks"):
        Listener(terms, station.desk, tls=None).start()


@pytest.mark.needs("openssl")
def test_orders_come_by_tls(station: Station, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    ours, theirs = authority.sign("node"), authority.sign("ris")
    identity = TlsIdentity(certificate=ours.certificate, key=ours.key, ca=authority.certificate, where="hl7.tls")
    port = station.listen(tls=server_context(identity))
    context = ssl.create_default_context(cafile=str(authority.certificate))
    context.load_cert_chain(theirs.certificate, theirs.key)
    with client(port) as plain:
        plain.send(omi())
        assert _is_ended(plain)
    with client(port) as sender, context.wrap_socket(sender.connection, server_hostname="localhost") as secured:
        assert code_of(Client(secured).ask(omi())) == "AA|M1"


def test_nothing_of_a_patient_is_logged(station: Station, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with client(station.listen()) as sender:
        sender.ask(omi(patient="SECRET1").replace("Doe^Jane", "SECRET2^Jane"))
        sender.ask(omi(patient="SECRET1").replace("IPC|A1", "IPC|SECRET3").replace("ORC|NW", "ORC|SECRET4"))
    wait_until(lambda: any(one.getMessage() == "message refused" for one in caplog.records), what="the refusal")
    told = "".join(f"{one.getMessage()} {vars(one)}" for one in caplog.records if one.name.startswith("node"))
    assert "message taken" in told
    assert "SECRET" not in told


def _is_ended(sender: Client) -> bool:
    try:
        return sender.receive() == ""
    except (ConnectionError, AssertionError):
        # An alert of TLS is no message.
        return True
