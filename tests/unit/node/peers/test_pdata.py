"""The PDUs of a C-STORE request hold the command and the file, fragment by fragment, for any peer's PDU length."""

import struct
from io import BytesIO
from itertools import pairwise
from tempfile import TemporaryFile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.filereader import read_dataset
from pynetdicom.pdu import P_DATA_TF

from node.errors import DestinationDown, NotDicom
from node.peers.command import encode_store_command, read_response
from node.peers.pdata import CommandDecoder, DataSetEncoder, _without, encode_command, fragment_bytes
from tests.pdus import COMMAND, LAST, STORE_RSP, command_set, element, pdv, short

RESPONSE = command_set(short(0x0100, STORE_RSP), short(0x0120, 7), short(0x0800, 0x0101), short(0x0900, 0xB000))


def read_pdus(stream: bytes) -> list[bytes]:
    """Return the PDUs in a stream, as PS3.8 9.3.1 cuts them."""
    pdus = []
    while stream:
        (length,) = struct.unpack(">I", stream[2:6])
        assert len(stream) >= 6 + length
        pdus.append(stream[: 6 + length])
        stream = stream[6 + length :]
    return pdus


def read_fragments(stream: bytes) -> list[tuple[int, int, bytes]]:
    """Return context, control header and data of each PDV, as pynetdicom decodes them."""
    found = []
    for encoded in read_pdus(stream):
        pdu = P_DATA_TF()
        pdu.decode(encoded)
        for item in pdu.presentation_data_value_items:
            value = item.presentation_data_value or b""
            found.append((item.presentation_context_id or 0, value[0], value[1:]))
    return found


def encode_file(encoder: DataSetEncoder, content: bytes, *, start: int, end: int) -> bytes:
    with TemporaryFile() as file:
        file.write(content)
        file.flush()
        return b"".join(map(bytes, encoder.blocks(file.fileno(), start=start, end=end, context_id=5)))


@given(size=st.integers(1, 5000), before=st.integers(0, 300), max_pdu=st.integers(8, 600))
def test_data_set_is_cut_for_the_peer_and_comes_together_again(size: int, before: int, max_pdu: int) -> None:
    content = bytes(index % 251 for index in range(before + size))
    stream = encode_file(DataSetEncoder(fragment_bytes(max_pdu)), content, start=before, end=before + size)
    assert all(len(pdu) - 6 <= max_pdu for pdu in read_pdus(stream))
    fragments = read_fragments(stream)
    assert b"".join(data for *_, data in fragments) == content[before:]
    assert [control for _, control, _ in fragments] == [0] * (len(fragments) - 1) + [2]
    assert all(len(data) % 2 == 0 for *_, data in fragments[:-1])
    assert {context for context, *_ in fragments} == {5}


@pytest.mark.parametrize("max_pdu", [0, 16384, 131072, 262144])
@pytest.mark.parametrize("size", [1, 262138, 524288, 3_000_000])
def test_blocks_of_a_long_data_set_come_together_again(size: int, max_pdu: int) -> None:
    content = bytes(range(251)) * (size // 251 + 1)
    encoder = DataSetEncoder(fragment_bytes(max_pdu))
    for _ in range(2):
        fragments = read_fragments(encode_file(encoder, content, start=0, end=size))
        assert b"".join(data for *_, data in fragments) == content[:size]
        assert [control for _, control, _ in fragments] == [0] * (len(fragments) - 1) + [2]


@pytest.mark.parametrize("max_pdu", [0, 16, 64, 16384])
def test_command_set_reads_back_as_c_store_request(max_pdu: int) -> None:
    command = encode_store_command(message_id=7, sop_class_uid="1.2.840.10008.5.1.4.1.1.66.4", sop_instance_uid="1.23")
    stream = encode_command(command, context_id=3, fragment=fragment_bytes(max_pdu))
    fragments = read_fragments(stream)
    assert [control for _, control, _ in fragments] == [1] * (len(fragments) - 1) + [3]
    joined = b"".join(data for *_, data in fragments)
    ds = read_dataset(BytesIO(joined), is_implicit_VR=True, is_little_endian=True)
    assert (ds.CommandField, ds.MessageID, ds.Priority) == (0x0001, 7, 0)
    assert (ds.AffectedSOPClassUID, ds.AffectedSOPInstanceUID) == ("1.2.840.10008.5.1.4.1.1.66.4", "1.23")
    assert ds.CommandDataSetType != 0x0101
    assert ds.CommandGroupLength == len(joined) - 12


@pytest.mark.parametrize("max_pdu", [1, 6, 7])
def test_peer_whose_pdus_hold_nothing_is_told_from_one_without_limit(max_pdu: int) -> None:
    assert fragment_bytes(0) > 100_000
    with pytest.raises(DestinationDown, match=f"{max_pdu} bytes"):
        fragment_bytes(max_pdu)


def test_file_that_became_shorter_is_no_complete_message() -> None:
    with pytest.raises(EOFError):
        encode_file(DataSetEncoder(100), b"1234", start=0, end=6)


@given(lengths=st.lists(st.integers(1, 9), min_size=1), data=st.data())
def test_reading_goes_on_where_a_file_system_stopped(lengths: list[int], data: st.DataObject) -> None:
    content = bytes(index % 251 for index in range(sum(lengths)))
    whole = memoryview(content)
    ends = [sum(lengths[: place + 1]) for place in range(len(lengths))]
    rooms = [whole[end - length : end] for end, length in zip(ends, lengths, strict=True)]
    count = data.draw(st.integers(1, len(content) - 1)) if len(content) > 1 else 0
    assert b"".join(_without(rooms, count)) == content[count:]


@given(cuts=st.lists(st.integers(1, len(RESPONSE) - 1), unique=True, max_size=5), in_one=st.booleans())
def test_response_is_put_together_from_any_fragments(cuts: list[int], in_one: bool) -> None:
    places = [0, *sorted(cuts), len(RESPONSE)]
    pieces = [RESPONSE[begin:end] for begin, end in pairwise(places)]
    pdvs = [pdv(1, COMMAND | (LAST if piece is pieces[-1] else 0), piece) for piece in pieces]
    decoder = CommandDecoder()
    for body in [b"".join(pdvs)] if in_one else pdvs:
        assert not decoder.is_complete
        decoder.feed(body)
    response = read_response(decoder.command)
    assert decoder.is_complete
    assert (response.command_field, response.message_id, response.status) == (STORE_RSP, 7, 0xB000)


@pytest.mark.parametrize(
    "body",
    [
        b"\0\0\0",
        pdv(1, COMMAND | LAST, RESPONSE, length=1),
        pdv(1, COMMAND | LAST, RESPONSE, length=len(RESPONSE) + 3),
        pdv(1, LAST, RESPONSE),
        pdv(1, COMMAND | LAST, RESPONSE) + pdv(1, COMMAND | LAST, RESPONSE),
        pdv(1, COMMAND, bytes(20_000)),
    ],
)
def test_damaged_response_is_refused(body: bytes) -> None:
    with pytest.raises(NotDicom):
        CommandDecoder().feed(body)


@pytest.mark.parametrize("encoded", [RESPONSE[:-1], RESPONSE + b"\0", element(0x0010, b"12", group=8)])
def test_damaged_command_set_is_refused(encoded: bytes) -> None:
    with pytest.raises(NotDicom):
        read_response(encoded)


def test_response_without_status_is_told_from_success() -> None:
    assert read_response(command_set(short(0x0100, STORE_RSP))).status is None
