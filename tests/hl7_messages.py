"""HL7 v2 messages with orders, written by hand after the examples of the standard, and a client that sends them."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

START, END = b"\x0b", b"\x1c\r"
LIMIT_S = 60.0


def omi(*, control: str = "NW", priority: str = "S", control_id: str = "M1", **fields: str) -> str:
    """Return an OMI^O23 of version 2.5.1; `fields` replace accession, uid, patient, version, placer and charset."""
    accession, uid = fields.get("accession", "A1"), fields.get("uid", "")
    patient, version = fields.get("patient", "P1"), fields.get("version", "2.5.1")
    placer, charset = fields.get("placer", "PL1"), fields.get("charset", "UNICODE UTF-8")
    return "\r".join((
        f"MSH|^~\\&|RIS|HOSP|RADNODE|RAD|20250114120000+0100||OMI^O23^OMI_O23|{control_id}|P|{version}||||||{charset}",
        f"PID|1||{patient}^^^HOSP^MR||Doe^Jane^^^^^L||19600101|F",
        "PV1|1|I|4N^401^1",
        f"ORC|{control}|{placer}^RIS|FI1^RIS||||||20250114115900|||7^Who^Doctor|||||EM^Emergency Medicine",
        f"TQ1|1||||||20250114121500||{priority}^Stat^HL70485",
        f"OBR|1|{placer}^RIS|FI1^RIS|CTCH^CT chest \\T\\ abdomen^99LOCAL",
        f"IPC|{accession}|RP1|{uid}|SPS1|CT",
    )) + "\r"  # fmt: skip


def orm(*, control: str = "NW", priority: str = "R", control_id: str = "M2") -> str:
    """Return an ORM^O01 of version 2.3 as IHE's Scheduled Workflow has it, with the Study in ZDS."""
    return "\r".join((
        f"MSH|^~\\&|RIS|HOSP|RADNODE|RAD|20250114120000||ORM^O01|{control_id}|P|2.3",
        "PID|1||P2^^^HOSP||Roe^Rick",
        f"ORC|{control}|PL2|FI2||SC||1^once^^20250115080000^^{priority}|",
        "OBR|1|PL2|FI2|24627-2^CT Chest^LN||||||||||||5^Asker^An||A2|RP2",
        "ZDS|1.2.840.99.7^RIS^Application^DICOM",
    )) + "\r"  # fmt: skip


class Client:
    """A sender on a real connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._came = b""

    def send(self, message: bytes | str) -> None:
        """Send one message between its signs."""
        encoded = message.encode() if isinstance(message, str) else message
        self.connection.sendall(START + encoded + END)

    def receive(self) -> str:
        """Return the next message that comes; empty where the connection ends first."""
        while END not in self._came:
            content = self.connection.recv(65_536)
            if not content:
                return ""
            self._came += content
        message, _, self._came = self._came.partition(END)
        assert message.startswith(START)
        return message.removeprefix(START).decode("utf-8")

    def ask(self, message: bytes | str) -> str:
        """Send one message and return what is answered."""
        self.send(message)
        return self.receive()


@contextmanager
def client(port: int) -> Iterator[Client]:
    """Give a sender that is connected to a port of this machine."""
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S) as connection:
        yield Client(connection)


def code_of(answer: str) -> str:
    """Return the acknowledgment code (MSA-1) and the control id (MSA-2) of an answer."""
    return next(line for line in answer.split("\r") if line.startswith("MSA"))[4:].split("|ERR")[0]
