"""A-ASSOCIATE-RQ: read with limits, judged, and written anew with nothing in it that pynetdicom stumbles over.

What PS3.8 tells a receiver to pass over is left out: unknown items and sub-items, and those of the user information of
which the node makes no use. What is no A-ASSOCIATE-RQ by PS3.8 is aborted (invalid PDU parameter value).

Presentation Contexts are chosen here too: pynetdicom takes 20 ms of a processor for the 128 that dcmtk's storescu
proposes. It is shown those that it serves itself, and its A-ASSOCIATE-AC is completed on the way out.

References: DICOM PS3.8 9.3.1, 9.3.2 and annex D; PS3.7 D.3.3.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from struct import Struct, pack

from node.dimse.command import PDU_HEADER
from node.dimse.contexts import (
    IMPLICIT,
    NO_ABSTRACT_SYNTAX,
    STORAGE_COMMITMENT,
    VERIFICATION,
    Choice,
    choose,
    known_names,
)
from node.errors import NotDicom

A_ASSOCIATE_RQ = 0x01
A_ASSOCIATE_AC = 0x02
APPLICATION_CONTEXT_NAME = b"1.2.840.10008.3.1.1.1"
VERSION_1 = 0x0001
APPLICATION_CONTEXT, PRESENTATION_CONTEXT, ABSTRACT_SYNTAX, TRANSFER_SYNTAX = 0x10, 0x20, 0x30, 0x40
CONTEXT_ANSWER = 0x21
USER_INFORMATION, MAXIMUM_LENGTH, ROLE_SELECTION = 0x50, 0x51, 0x54
# Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 table 9-21).
NO_REASON_GIVEN = (1, 1, 1)
APPLICATION_CONTEXT_NOT_SUPPORTED = (1, 1, 2)
CALLING_AET_NOT_RECOGNIZED = (1, 1, 3)
CALLED_AET_NOT_RECOGNIZED = (1, 1, 7)
PROTOCOL_VERSION_NOT_SUPPORTED = (1, 2, 2)
LOCAL_LIMIT_EXCEEDED = (2, 3, 2)
# Reason of an A-ABORT by the provider (PS3.8 table 9-26).
INVALID_PARAMETER_VALUE = 6
# A P-DATA-TF with one fragment of two bytes: its header counts six (PS3.8 9.3.5.1, annex E.2).
MIN_PDU_BYTES = 8

_FIXED = Struct(">BxIHxx16s16s32x")
_ITEM = Struct(">BxH")
_MAXIMUM_LENGTH = Struct(">I")
# Presentation Context ID and three reserved bytes.
CONTEXT_HEAD_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """An A-ASSOCIATE-RJ.

    Attributes
    ----------
    answer
        Result, source and reason, as in PS3.8 table 9-21.
    outcome
        What it is about, the same for all of its kind; for the log.
    text
        What was expected and what a person can do.
    """

    answer: tuple[int, int, int]
    outcome: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Abortion:
    """An A-ABORT by the service provider.

    Attributes
    ----------
    reason
        As in PS3.8 table 9-26.
    outcome, text
        As in `Rejection`.
    """

    reason: int
    outcome: str
    text: str


Refusal = Rejection | Abortion


@dataclass(frozen=True, slots=True, kw_only=True)
class HouseRules:
    """Who may ask for an Association.

    Attributes
    ----------
    aet
        Our AE title, which must be called.
    calling_aets
        AE titles that may call; empty = any.
    reporting_aets
        AE titles that may report what they hold (Storage Commitment).
    """

    aet: str
    calling_aets: frozenset[str] = frozenset()
    reporting_aets: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What becomes of an A-ASSOCIATE-RQ.

    Attributes
    ----------
    encoded
        An A-ASSOCIATE-RQ for pynetdicom: of the Presentation Contexts only those that it serves itself.
    refusal
        None when the Association may be negotiated.
    choices
        Presentation Context ID to what becomes of it.
    role
        The answer to the requestor's wish to be the SCP of Storage Commitment, a sub-item; empty where it has none.
    """

    encoded: bytes
    refusal: Refusal | None
    choices: Mapping[int, Choice] = field(default_factory=dict)
    role: bytes = b""


def judge_request(encoded: bytes, rules: HouseRules) -> Verdict:
    """Return what becomes of an A-ASSOCIATE-RQ; AE titles are judged before anything behind them is looked at.

    Parameters
    ----------
    encoded
        The whole PDU.
    """
    if len(encoded) < _FIXED.size:
        return Verdict(encoded=_write(b"", b"", {}, 0), refusal=_invalid("it is cut"))
    _, _, version, called, calling = _FIXED.unpack_from(encoded)
    called, calling = _plain(called), _plain(calling)
    refusal: Refusal | None = _judge_version(version) or _judge_titles(called, calling, rules)
    if refusal is None:
        try:
            return _judge_items(encoded[_FIXED.size :], called, calling, rules)
        except NotDicom as exc:
            refusal = _invalid(str(exc))
    return Verdict(encoded=_write(called, calling, {}, 0), refusal=refusal)


def write_choices(encoded: bytes, choices: Mapping[int, Choice], role: bytes = b"") -> bytes:
    """Return an A-ASSOCIATE-AC of pynetdicom's with the answer to every proposed Presentation Context.

    Parameters
    ----------
    role
        Sub-item that goes with the user information; empty for none.

    References
    ----------
    DICOM PS3.8 9.3.3.2, PS3.7 D.3.3.4.2
    """
    answers = b"".join(_write_answer(context_id, choice) for context_id, choice in choices.items())
    own = [
        (kind, body + role if kind == USER_INFORMATION else body)
        for kind, body in _items(encoded[_FIXED.size :])
        if kind != CONTEXT_ANSWER
    ]
    before = b"".join(_item(kind, body) for kind, body in own if kind == APPLICATION_CONTEXT)
    after = b"".join(_item(kind, body) for kind, body in own if kind != APPLICATION_CONTEXT)
    body = before + answers + after
    length = _FIXED.size - PDU_HEADER.size + len(body)
    return PDU_HEADER.pack(A_ASSOCIATE_AC, length) + encoded[PDU_HEADER.size : _FIXED.size] + body


def too_many(caller: str) -> Rejection:
    """Return the rejection of an Association more than there may be at a time."""
    return Rejection(
        answer=LOCAL_LIMIT_EXCEEDED,
        outcome="local limit exceeded",
        text=f"{caller} asked for one more than node.max_associations or node.max_associations_per_peer; raise them",
    )


def _judge_version(version: int) -> Rejection | None:
    # The other bits are those of later versions, which a requestor may know too.
    if version & VERSION_1:
        return None
    return Rejection(
        answer=PROTOCOL_VERSION_NOT_SUPPORTED,
        outcome="protocol version not supported",
        text=f"protocol version {version:04X}H lacks bit 0; only version 1 of the protocol is spoken here",
    )


def _judge_titles(called: bytes, calling: bytes, rules: HouseRules) -> Rejection | None:
    shown = _shown(calling)
    if called != rules.aet.strip().encode():
        return Rejection(
            answer=CALLED_AET_NOT_RECOGNIZED,
            outcome="called AE title not recognized",
            text=f"{shown} called {_shown(called)}, this node is {rules.aet}; correct its settings",
        )
    if not _is_title(calling):
        text = f"{shown} is no AE title (1-16 characters of ASCII, no backslash); correct its settings"
    elif rules.calling_aets and calling.decode() not in rules.calling_aets:
        text = f"{shown} is not in security.calling_aets; add it there if it may send"
    else:
        return None
    return Rejection(answer=CALLING_AET_NOT_RECOGNIZED, outcome="calling AE title not recognized", text=text)


def _judge_items(encoded: bytes, called: bytes, calling: bytes, rules: HouseRules) -> Verdict:
    """Return what follows from everything behind the fixed fields.

    Raises
    ------
    NotDicom
        If they do not keep to PS3.8 9.3.2.
    """
    names: list[bytes] = []
    context_ids: list[int] = []
    choices: dict[int, Choice] = {}
    lengths: list[int] = []
    role = b""
    for kind, body in _items(encoded):
        if kind == APPLICATION_CONTEXT:
            names.append(_name(body))
        elif kind == PRESENTATION_CONTEXT:
            context_ids.append(body[0] if body else 0)
            choices[context_ids[-1]] = _permit(_read_proposal(body), calling, rules)
        elif kind == USER_INFORMATION:
            lengths += _read_max_lengths(body)
            role = role or _answer_role(body)
    _check_ids(context_ids)
    if not any(choice.is_accepted and choice.abstract_syntax_uid == STORAGE_COMMITMENT for choice in choices.values()):
        role = b""
    # What comes twice counts once.
    max_length = lengths[0] if lengths else 0
    refusal: Refusal | None = None
    if names[:1] != [APPLICATION_CONTEXT_NAME]:
        refusal = _unknown_context_name(_shown(calling))
    elif 0 < max_length < MIN_PDU_BYTES:
        refusal = _too_short(_shown(calling), max_length)
    encoded = _write(called, calling, choices, max_length)
    return Verdict(encoded=encoded, refusal=refusal, choices=choices, role=role)


def _permit(choice: Choice, calling: bytes, rules: HouseRules) -> Choice:
    """Return what becomes of a Presentation Context that not everybody may have."""
    if choice.abstract_syntax_uid != STORAGE_COMMITMENT or calling.decode("latin-1") in rules.reporting_aets:
        return choice
    return Choice(result=NO_ABSTRACT_SYNTAX, abstract_syntax_uid="", transfer_syntax_uid=IMPLICIT)


def _answer_role(user_information: bytes) -> bytes:
    """Return the answer to a proposal to be SCP of Storage Commitment: SCP it may be, SCU it is not to be.

    References
    ----------
    DICOM PS3.7 D.3.3.4
    """
    name = STORAGE_COMMITMENT.encode()
    head = len(name).to_bytes(2) + name
    for kind, value in _items(user_information):
        if kind == ROLE_SELECTION and value.startswith(head) and len(value) == len(head) + 2:
            return _item(ROLE_SELECTION, head + bytes((0, value[-1] & 1)))
    return b""


def _unknown_context_name(caller: str) -> Rejection:
    return Rejection(
        answer=APPLICATION_CONTEXT_NOT_SUPPORTED,
        outcome="application context name not supported",
        text=f"{caller} asked for another application context than DICOM's",
    )


def _too_short(caller: str, max_length: int) -> Rejection:
    return Rejection(
        answer=NO_REASON_GIVEN,
        outcome="maximum length too short",
        text=f"{caller} takes PDUs of {max_length} bytes, and no answer fits in fewer than {MIN_PDU_BYTES}",
    )


def _invalid(why: str) -> Abortion:
    return Abortion(reason=INVALID_PARAMETER_VALUE, outcome="invalid A-ASSOCIATE-RQ", text=f"A-ASSOCIATE-RQ: {why}")


def _items(encoded: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and body of each item, or sub-item of one item."""
    at = 0
    while at < len(encoded):
        if at + _ITEM.size > len(encoded):
            raise NotDicom("an item is cut")
        kind, length = _ITEM.unpack_from(encoded, at)
        at += _ITEM.size
        if at + length > len(encoded):
            raise NotDicom(f"the length of an item of type {kind:02X}H goes beyond its end")
        yield kind, encoded[at : at + length]
        at += length


def _read_proposal(body: bytes) -> Choice:
    if len(body) < CONTEXT_HEAD_BYTES:
        raise NotDicom("a Presentation Context is cut")
    found: dict[int, list[bytes]] = {ABSTRACT_SYNTAX: [], TRANSFER_SYNTAX: []}
    for kind, name in _items(body[CONTEXT_HEAD_BYTES:]):
        if kind in found:
            found[kind].append(_name(name))
    if len(found[ABSTRACT_SYNTAX]) != 1 or not found[TRANSFER_SYNTAX]:
        raise NotDicom(f"Presentation Context {body[0]} has not one abstract and a transfer syntax")
    # A proposal has room for 13,000 names; those that nobody knows must not fill the memory of `choose`.
    known = [name for name in dict.fromkeys(found[TRANSFER_SYNTAX]) if name in known_names()]
    abstract_syntax = found[ABSTRACT_SYNTAX][0]
    return choose(abstract_syntax if abstract_syntax in known_names() else b"", tuple(known))


def _read_max_lengths(body: bytes) -> list[int]:
    """Return the longest P-DATA-TF that the requestor takes, bytes; 0 = any."""
    lengths = [value for kind, value in _items(body) if kind == MAXIMUM_LENGTH]
    if any(len(value) != _MAXIMUM_LENGTH.size for value in lengths):
        raise NotDicom("the maximum length has not four bytes")
    return [int.from_bytes(value) for value in lengths]


def _check_ids(context_ids: Sequence[int]) -> None:
    # This limits their number too: 128 numbers up to 255 are odd.
    if not context_ids:
        raise NotDicom("it proposes no Presentation Context")
    if any(number % 2 == 0 for number in context_ids):
        raise NotDicom("a Presentation Context ID is even")
    if len(set(context_ids)) < len(context_ids):
        raise NotDicom("a Presentation Context ID comes twice")


def _name(body: bytes) -> bytes:
    return body.strip(b"\0 ")


def _plain(title: bytes) -> bytes:
    """Return an AE title without what is not significant; some pad with zero bytes."""
    return title.rstrip(b"\0").strip(b" ")


def _is_title(title: bytes) -> bool:
    return bool(title) and title.isascii() and title.decode("latin-1").isprintable() and b"\\" not in title


def _shown(title: bytes) -> str:
    text = title.decode("ascii", "replace")
    return "".join(sign if " " <= sign <= "~" else "?" for sign in text) or "an unnamed peer"


def _write(called: bytes, calling: bytes, choices: Mapping[int, Choice], max_length: int) -> bytes:
    items = [_item(APPLICATION_CONTEXT, APPLICATION_CONTEXT_NAME)]
    items += [
        _write_proposal(context_id, choice)
        for context_id, choice in choices.items()
        if choice.is_accepted and choice.abstract_syntax_uid == VERIFICATION
    ]
    # Fragments are of even length (PS3.8 annex E), so an odd limit leaves one byte empty.
    even = max_length - max_length % 2
    items.append(_item(USER_INFORMATION, _item(MAXIMUM_LENGTH, _MAXIMUM_LENGTH.pack(even))))
    body = b"".join(items)
    length = _FIXED.size - PDU_HEADER.size + len(body)
    return _FIXED.pack(A_ASSOCIATE_RQ, length, VERSION_1, _sixteen(called), _sixteen(calling)) + body


def _write_proposal(context_id: int, choice: Choice) -> bytes:
    abstract_syntax = _item(ABSTRACT_SYNTAX, choice.abstract_syntax_uid.encode())
    transfer_syntax = _item(TRANSFER_SYNTAX, choice.transfer_syntax_uid.encode())
    return _item(PRESENTATION_CONTEXT, pack(">B3x", context_id) + abstract_syntax + transfer_syntax)


def _write_answer(context_id: int, choice: Choice) -> bytes:
    transfer_syntax = _item(TRANSFER_SYNTAX, choice.transfer_syntax_uid.encode())
    return _item(CONTEXT_ANSWER, pack(">BxBx", context_id, choice.result) + transfer_syntax)


def _item(kind: int, body: bytes) -> bytes:
    return _ITEM.pack(kind, len(body)) + body


def _sixteen(title: bytes) -> bytes:
    # pynetdicom takes nothing else; who has no proper title is refused.
    return (title if _is_title(title) else b"?").ljust(16)
