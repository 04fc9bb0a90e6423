"""Faults inside an Association: PDUs, PDVs and Command Sets that lie, and messages that nobody offered to take."""

import struct
from dataclasses import replace

import pytest

from tests.instances import CT_IMAGE_STORAGE, INSTANCE, ct_slice, encode
from tests.node_process import NodeProcess
from tests.pdus import (
    COMMAND,
    DATA,
    ECHO_ID,
    ECHO_RSP,
    HAS_DATA_SET,
    IMPLICIT_ID,
    LAST,
    NO_DATA_SET,
    RELEASE_RP,
    RELEASE_RQ,
    STORAGE_ID,
    STORE_RQ,
    STORE_RSP,
    VERIFICATION,
    Aborted,
    Answer,
    Closed,
    Pdu,
    Released,
    Response,
    abort,
    associate_rq,
    associated,
    command_set,
    echo,
    echo_rq,
    element,
    message,
    p_data,
    pdu,
    pdv,
    short,
    store_rq,
)

WHOLE = encode(ct_slice())
COMMAND_OF_STORE = p_data(pdv(STORAGE_ID, COMMAND | LAST, store_rq()))
MAX_PDU_BYTES = 131072
MAX_COMMAND_BYTES = 16 * 1024
UNEXPECTED = Aborted(2, 0)
UNRECOGNIZED = 0x0211
MR_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.4"


def command(*elements: bytes) -> bytes:
    """Return a message without a data set, whose Command Set consists of these elements."""
    return message(STORAGE_ID, command_set(*elements))


def request(command_field: int, *elements: bytes) -> bytes:
    """Return a request of any kind, without a data set."""
    head = (element(0x0002, CT_IMAGE_STORAGE.encode()), short(0x0100, command_field), short(0x0110, 9))
    return command(*head, short(0x0800, NO_DATA_SET), *elements)


BROKEN: dict[str, bytes] = {
    "second A-ASSOCIATE-RQ": associate_rq(),
    "A-ASSOCIATE-AC to the acceptor": bytes([2]) + associate_rq()[1:],
    "A-ASSOCIATE-RJ to the acceptor": pdu(Pdu.ASSOCIATE_RJ, b"\0\1\1\1"),
    "A-RELEASE-RP that nobody asked for": RELEASE_RP,
    "PDU of a reserved type": pdu(8, bytes(100)),
    "HTTP inside an Association": b"GET / HTTP/1.1\r\nHost: node\r\n\r\n",
    "PDU longer than announced": pdu(Pdu.P_DATA, bytes(64), length=MAX_PDU_BYTES + 1),
    "PDU of 4 GiB": pdu(Pdu.P_DATA, bytes(64), length=2**32 - 1),
    "PDU without a PDV": p_data(),
    "PDV longer than its PDU": p_data(pdv(STORAGE_ID, COMMAND | LAST, bytes(14), length=4000)),
    "PDV shorter than its header": p_data(pdv(STORAGE_ID, COMMAND | LAST, length=1)),
    "PDV of length 0": p_data(pdv(STORAGE_ID, COMMAND | LAST, length=0)),
    "rest of the PDU too short for a PDV": p_data(pdv(STORAGE_ID, COMMAND, b"ab") + bytes(3)),
    "release with a length that lies": pdu(Pdu.RELEASE_RQ, bytes(4), length=2**31),
    "context that was not proposed": message(99, store_rq(), WHOLE),
    "even context id": message(2, store_rq(), WHOLE),
    "data set without a command": p_data(pdv(STORAGE_ID, DATA | LAST, WHOLE)),
    "command inside a data set": COMMAND_OF_STORE + p_data(pdv(STORAGE_ID, DATA, WHOLE[:50])) + COMMAND_OF_STORE,
    "data set in another context than its command": COMMAND_OF_STORE + p_data(pdv(IMPLICIT_ID, DATA | LAST, WHOLE)),
    "two messages interleaved over two contexts": COMMAND_OF_STORE
    + p_data(pdv(STORAGE_ID, DATA, WHOLE[:50]))
    + p_data(pdv(IMPLICIT_ID, COMMAND | LAST, store_rq(2))),
    "response that nobody asked for": request(STORE_RSP, short(0x0120, 9), short(0x0900, 0)),
    "command without a Command Field": command(short(0x0110, 1), short(0x0800, NO_DATA_SET)),
    "command without a Message ID": command(short(0x0100, STORE_RQ), short(0x0800, HAS_DATA_SET)),
    "command without a Data Set Type": command(short(0x0100, STORE_RQ), short(0x0110, 1)),
    "command of another group": message(STORAGE_ID, element(0x0002, b"1.2", group=8)),
    "command with an element twice": command(short(0x0100, STORE_RQ), short(0x0100, STORE_RQ)),
    "command whose element is longer than all": message(STORAGE_ID, element(0x0002, b"1.2", length=2**31)),
    "command cut inside an element": message(STORAGE_ID, store_rq()[:-7]),
    "command of odd length values": command(
        short(0x0100, STORE_RQ), element(0x0110, b"\1", length=1), short(0x0800, HAS_DATA_SET)
    ),
    "empty command": message(STORAGE_ID, b""),
    "endless command": message(STORAGE_ID, bytes(MAX_COMMAND_BYTES + 1)),
    "endless data set of a message that is no C-STORE": message(
        ECHO_ID,
        command_set(
            element(0x0002, VERIFICATION.encode()), short(0x0100, 0x0030), short(0x0110, 1), short(0x0800, HAS_DATA_SET)
        ),
        bytes(200_000),
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_association_is_aborted(node: NodeProcess, fault: str) -> None:
    """One A-ABORT, then the connection is closed; the Association beside it goes on."""
    with associated(node.peer) as good, associated(node.peer) as bad:
        bad.send(BROKEN[fault])
        assert bad.answers(limit_s=5.0) == [UNEXPECTED, Closed()]
        good.send(echo(5))
        assert good.answer() == Response(ECHO_RSP, 5, 0)
        good.release()


def one_byte_fragments(content: bytes, kind: int) -> bytes:
    """Return a P-DATA-TF with a PDV for each byte."""
    last = len(content) - 1
    pdvs = [pdv(STORAGE_ID, kind | (LAST if at == last else 0), content[at : at + 1]) for at in range(len(content))]
    return p_data(*pdvs)


STORED = Response(STORE_RSP, 1, 0)
ECHOED = Response(ECHO_RSP, 2, 0)
ANSWERED: dict[str, tuple[bytes, list[Answer]]] = {
    "echo": (echo(1), [Response(ECHO_RSP, 1, 0)]),
    "thousands of PDVs of one byte": (
        one_byte_fragments(store_rq(), COMMAND) + one_byte_fragments(WHOLE, DATA),
        [STORED],
    ),
    "PDVs without a fragment": (
        p_data(*[pdv(STORAGE_ID, COMMAND)] * 2000)
        + COMMAND_OF_STORE
        + p_data(*[pdv(STORAGE_ID, DATA)] * 2000)
        + p_data(pdv(STORAGE_ID, DATA, WHOLE), pdv(STORAGE_ID, DATA | LAST)),
        [STORED],
    ),
    "command set with unknown elements": (
        message(
            STORAGE_ID,
            command_set(
                element(0x0002, CT_IMAGE_STORAGE.encode()),
                short(0x0100, STORE_RQ),
                short(0x0110, 1),
                short(0x0800, HAS_DATA_SET),
                element(0x1000, INSTANCE.encode()),
                element(0x4711, b"whatever"),
            ),
            WHOLE,
        ),
        [STORED],
    ),
    "command set whose group length lies": (
        message(STORAGE_ID, element(0, struct.pack("<I", 2**31)) + store_rq()[12:], WHOLE),
        [STORED],
    ),
    "C-STORE without a data set": (
        message(STORAGE_ID, store_rq(data_set_type=NO_DATA_SET)),
        [Response(STORE_RSP, 1, 0xC000, "not-dicom")],
    ),
    "C-STORE of another SOP Class than its context": (
        message(STORAGE_ID, store_rq(sop_class_uid=MR_IMAGE_STORAGE), WHOLE),
        [Response(STORE_RSP, 1, 0xA900, "uid-mismatch")],
    ),
    "C-STORE in the context of C-ECHO": (message(ECHO_ID, store_rq(), WHOLE), [Response(STORE_RSP, 1, UNRECOGNIZED)]),
    "C-ECHO in a storage context": (message(STORAGE_ID, echo_rq()), [Response(ECHO_RSP, 1, UNRECOGNIZED)]),
    "unknown command": (request(0x0ABC), [Response(0x8ABC, 9, UNRECOGNIZED)]),
    "C-FIND in a storage context": (request(0x0020), [Response(0x8020, 9, UNRECOGNIZED)]),
    "N-CREATE in a storage context": (request(0x0140), [Response(0x8140, 9, UNRECOGNIZED)]),
    "flood of N-EVENT-REPORT": (request(0x0100) * 300, [Response(0x8100, 9, UNRECOGNIZED)] * 300),
    "C-CANCEL of nothing": (
        command(short(0x0100, 0x0FFF), short(0x0120, 1), short(0x0800, NO_DATA_SET)) * 50,
        [],
    ),
    "pipelined C-STORE": (
        b"".join(message(STORAGE_ID, store_rq(number), WHOLE) for number in range(50)),
        [Response(STORE_RSP, number, 0) for number in range(50)],
    ),
    "shell text as SOP Instance UID": (
        message(STORAGE_ID, store_rq(sop_instance_uid="$(id);`id`/../../x"), WHOLE),
        [Response(STORE_RSP, 1, 0x0117, "bad-identifier")],
    ),
}


def without_words(answer: Answer) -> Answer:
    """Return an answer with nothing of its Error Comment but the code in front."""
    return replace(answer, comment=answer.comment.split(":")[0]) if isinstance(answer, Response) else answer


@pytest.mark.parametrize("fault", ANSWERED)
def test_association_goes_on(node: NodeProcess, fault: str) -> None:
    """Exactly these answers, and the next request is served."""
    sent, expected = ANSWERED[fault]
    with associated(node.peer) as wire:
        wire.send(sent, message(ECHO_ID, echo_rq(2)))
        assert [without_words(wire.answer()) for _ in (*expected, ECHOED)] == [*expected, ECHOED]
        wire.release()


def test_release_mid_message_is_answered_and_nothing_is_kept(node: NodeProcess) -> None:
    with associated(node.peer) as wire:
        wire.send(COMMAND_OF_STORE, p_data(pdv(STORAGE_ID, DATA, WHOLE[:50])), RELEASE_RQ)
        assert wire.answers(limit_s=5.0) == [Released(), Closed()]


def test_abort_mid_message_is_the_end(node: NodeProcess) -> None:
    with associated(node.peer) as wire:
        wire.send(COMMAND_OF_STORE, p_data(pdv(STORAGE_ID, DATA, WHOLE[:50])), abort())
        assert wire.answers(limit_s=5.0) == [Closed()]
