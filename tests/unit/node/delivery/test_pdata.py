"""The PDUs of a C-STORE request hold the command and the file, fragment by fragment, for any peer's PDU length."""

import struct
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.filereader import read_dataset
from pynetdicom.pdu import P_DATA_TF

from node.delivery.pdata import encode_command, encode_data_set, encode_store_command, fragment_bytes
from node.errors import DestinationDown


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


@given(size=st.integers(1, 5000), max_pdu=st.integers(8, 600))
def test_data_set_is_cut_for_the_peer_and_comes_together_again(size: int, max_pdu: int) -> None:
    content = bytes(index % 256 for index in range(size))
    blocks = encode_data_set(BytesIO(content), size, context_id=5, fragment=fragment_bytes(max_pdu))
    stream = b"".join(blocks)
    assert all(len(pdu) - 6 <= max_pdu for pdu in read_pdus(stream))
    fragments = read_fragments(stream)
    assert b"".join(data for *_, data in fragments) == content
    assert [control for _, control, _ in fragments] == [0] * (len(fragments) - 1) + [2]
    assert all(len(data) % 2 == 0 for *_, data in fragments[:-1])
    assert {context for context, *_ in fragments} == {5}


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
        list(encode_data_set(BytesIO(b"1234"), 6, context_id=1, fragment=100))
