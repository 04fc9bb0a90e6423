"""One case: what is sent, made from the seed of the run and the number of the case, so that it can be repeated."""

import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from tests.fuzz.mutations import damage, shuffle_parts
from tests.fuzz.templates import Template
from tests.instances import CT_IMAGE_STORAGE, EXPLICIT, IMPLICIT
from tests.pdus import (
    APPLICATION_CONTEXT,
    COMMAND,
    DATA,
    ECHO_ID,
    HAS_DATA_SET,
    IMPLEMENTATION,
    LAST,
    RELEASE_RQ,
    STORAGE_ID,
    STORE_RQ,
    VERIFICATION,
    Item,
    Pdu,
    abort,
    ae_title,
    associate_rq,
    echo,
    echo_rq,
    element,
    item,
    message,
    p_data,
    pdu,
    pdv,
    proposal,
    short,
    store_rq,
)

# Cases that share UIDs with others: versions, clashes, the same again.
SHARED_PERCENT = 5
SHARED_UIDS = 20
# About as large as a Study is.
CASES_OF_A_STUDY = 500
SHARED_ROOT = "1.2.826.0.1.1."
LAST_MESSAGE_ID = 0x8000


class Kind(Enum):
    """What is damaged."""

    REQUEST = auto()  # an A-ASSOCIATE-RQ
    STREAM = auto()  # what follows it: the PDUs of a whole conversation
    COMMAND = auto()  # a Command Set, in sound PDUs
    DATA_SET = auto()  # a data set, in sound PDUs and behind a sound Command Set


# Two thirds are data sets: they are what a patient's images hang on, and leave the Association whole.
SHARE = {Kind.REQUEST: 8, Kind.STREAM: 12, Kind.COMMAND: 15, Kind.DATA_SET: 65}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is sent, and what must have been kept if it is acknowledged.

    Attributes
    ----------
    request
        The A-ASSOCIATE-RQ; empty where an Association is shared.
    sent
        What follows.
    template
        Which data set it began with.
    sop_instance_uid, data_set
        What is stored if the answer is Success; empty where nobody can know.
    """

    number: int
    kind: Kind
    template: int
    sent: bytes
    request: bytes = b""
    sop_instance_uid: str = ""
    data_set: bytes = b""


class Maker:
    """Makes the cases of one run.

    Parameters
    ----------
    seed
        Of the run.
    """

    def __init__(self, seed: int, templates: Sequence[Template]) -> None:
        self._seed = seed
        self._templates = templates
        self._others = [part for template in templates for part in template.elements]

    def case(self, number: int) -> Case:
        """Return the case of this number, always the same."""
        chance = random.Random(f"{self._seed}/{number}")
        kind = chance.choices(list(SHARE), list(SHARE.values()))[0]
        # Neighbours share an Association, so they have the template in common.
        template = random.Random(f"{self._seed}/template/{number // 32}").randrange(len(self._templates))
        make = {
            Kind.REQUEST: self._request,
            Kind.STREAM: self._stream,
            Kind.COMMAND: self._command,
            Kind.DATA_SET: self._data_set,
        }[kind]
        return make(number, template, chance)

    def proposals(self, template: int) -> tuple[bytes, ...]:
        """Return the Presentation Contexts of an Association for this template."""
        found = self._templates[template]
        return (
            proposal(STORAGE_ID, found.sop_class_uid, found.transfer_syntax_uid),
            proposal(ECHO_ID, VERIFICATION, IMPLICIT),
        )

    def request(self, template: int, number: int) -> bytes:
        """Return a sound A-ASSOCIATE-RQ; its AE title tells the log which case it was."""
        return associate_rq(proposals=self.proposals(template), calling=f"CASE{number}")

    def _request(self, number: int, template: int, chance: random.Random) -> Case:
        return Case(
            number=number,
            kind=Kind.REQUEST,
            template=template,
            request=_damaged_request(chance, self.proposals(template), f"CASE{number}"),
            sent=echo(1) + RELEASE_RQ,
        )

    def _stream(self, number: int, template: int, chance: random.Random) -> Case:
        # Nobody can know which version of a UID that others share is kept.
        found, uid = self._templates[template], self._own_uid(number)
        data_set = found.encoded(b"".join(found.parts(uid, self._study_uid(number))))
        pdus = _conversation(store_rq(1, sop_class_uid=found.sop_class_uid, sop_instance_uid=uid), data_set, chance)
        foreign = [associate_rq(), RELEASE_RQ, abort(), pdu(chance.randrange(256), bytes(4)), p_data()]
        pdus = shuffle_parts(pdus, chance, others=foreign)
        sent = b"".join(pdus)
        if chance.random() < 0.5:
            sent = damage(sent, chance, others=(data_set, *foreign))
        return Case(
            number=number,
            kind=Kind.STREAM,
            template=template,
            request=self.request(template, number),
            sent=sent,
        )

    def _command(self, number: int, template: int, chance: random.Random) -> Case:
        found, uid = self._templates[template], self._uid(number, chance)
        data_set = found.encoded(b"".join(found.parts(uid, self._study_uid(number))))
        elements = [
            element(0x0002, found.sop_class_uid.encode()),
            short(
                0x0100,
                chance.choice((STORE_RQ, STORE_RQ, STORE_RQ, 0x0020, 0x0140, 0x8001, 0x0FFF, chance.getrandbits(16))),
            ),
            short(0x0110, number % LAST_MESSAGE_ID),
            short(0x0700, chance.choice((0, 1, 2, 0xFFFF))),
            short(0x0800, HAS_DATA_SET),
            element(0x1000, uid.encode()),
        ]
        elements = shuffle_parts(elements, chance, others=(element(0x0600, b"ELSE"), element(8, b"", group=8)))
        body = b"".join(elements)
        command = element(0x0000, struct.pack("<I", len(body))) + body
        if chance.random() < 0.4:
            command = damage(command, chance, others=(data_set, echo_rq()))
        return Case(
            number=number,
            kind=Kind.COMMAND,
            template=template,
            sent=message(STORAGE_ID, command, data_set),
            sop_instance_uid=uid,
            data_set=data_set,
        )

    def _data_set(self, number: int, template: int, chance: random.Random) -> Case:
        found, uid = self._templates[template], self._uid(number, chance)
        parts = found.parts(uid, self._study_uid(number))
        if chance.random() < 0.6:
            parts = shuffle_parts(parts, chance, others=self._others)
        content = b"".join(parts)
        if chance.random() < 0.6:
            content = damage(content, chance, others=self._others)
        data_set = found.encoded(content)
        if found.encoded(b"") and chance.random() < 0.3:
            data_set = damage(data_set, chance, others=self._others)
        request = store_rq(number % LAST_MESSAGE_ID, sop_class_uid=found.sop_class_uid, sop_instance_uid=uid)
        return Case(
            number=number,
            kind=Kind.DATA_SET,
            template=template,
            sent=message(STORAGE_ID, request, data_set),
            sop_instance_uid=uid,
            data_set=data_set,
        )

    def _uid(self, number: int, chance: random.Random) -> str:
        if chance.randrange(100) < SHARED_PERCENT:
            return f"{SHARED_ROOT}{self._seed}.{chance.randrange(SHARED_UIDS)}"
        return self._own_uid(number)

    def _study_uid(self, number: int) -> str:
        return f"1.2.826.0.1.3.{self._seed}.{number // CASES_OF_A_STUDY}"

    def _own_uid(self, number: int) -> str:
        return f"1.2.826.0.1.2.{self._seed}.{number}"


def _conversation(command: bytes, data_set: bytes, chance: random.Random) -> list[bytes]:
    """Return the PDUs of a C-STORE between two C-ECHOs, cut into PDVs and PDUs in one way of many."""
    pdvs = [*_pdvs(COMMAND, command, chance), *_pdvs(DATA, data_set, chance)]
    joined = []
    while pdvs:
        count = chance.randint(1, 3)
        joined.append(p_data(*pdvs[:count]))
        del pdvs[:count]
    return [echo(7), *joined, echo(8), RELEASE_RQ]


def _pdvs(kind: int, content: bytes, chance: random.Random) -> list[bytes]:
    size = chance.choice((16, 100, len(content), len(content)))
    pieces = [content[begin : begin + size] for begin in range(0, len(content), size)]
    control = [kind] * (len(pieces) - 1) + [kind | LAST]
    if chance.random() < 0.2:
        control[chance.randrange(len(control))] = chance.randrange(256)
    return [pdv(STORAGE_ID, bits, piece) for bits, piece in zip(control, pieces, strict=True)]


def _damaged_request(chance: random.Random, proposals: Sequence[bytes], calling: str) -> bytes:
    user_items = [
        item(Item.MAXIMUM_LENGTH, struct.pack(">I", chance.choice((0, 1, 7, 16384, 2**32 - 1)))),
        IMPLEMENTATION,
        item(Item.ASYNCHRONOUS_WINDOW, struct.pack(">HH", 1, 1)),
        item(Item.ROLE_SELECTION, struct.pack(">H", len(CT_IMAGE_STORAGE)) + CT_IMAGE_STORAGE.encode() + b"\1\0"),
        item(Item.USER_IDENTITY, b"\1\0" + struct.pack(">H", 4) + b"user" + bytes(2)),
    ]
    unknown = [item(chance.randrange(256), chance.randbytes(chance.randrange(20))), *proposals]
    if chance.random() < 0.5:
        user_items = shuffle_parts(user_items, chance, others=unknown)
    items = [
        item(Item.APPLICATION_CONTEXT, APPLICATION_CONTEXT.encode()),
        *proposals,
        proposal(9, CT_IMAGE_STORAGE, EXPLICIT, IMPLICIT),
        item(Item.USER_INFORMATION, b"".join(user_items)),
    ]
    if chance.random() < 0.6:
        items = shuffle_parts(items, chance, others=unknown)
    head = struct.pack(">HH", 1, 0) + ae_title("RADNODE") + ae_title(calling) + bytes(32)
    request = pdu(Pdu.ASSOCIATE_RQ, head + b"".join(items))
    return damage(request, chance, others=(request, *unknown)) if chance.random() < 0.6 else request
