"""Runs cases against a node, and finds what it did wrong: it ended, hung, broke inside, or kept other than it said."""

import json
import re
import socket
import struct
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from itertools import groupby
from pathlib import Path
from time import monotonic, sleep

import psutil
import pydicom
from sqlalchemy import select

from node.ledger.schema import instances
from tests.footprint import Witness
from tests.fuzz.cases import SHARED_ROOT, Case, Kind, Maker
from tests.node_process import NodeProcess
from tests.pdus import ECHO_RSP, STORE_RSP, Accepted, Answer, Closed, Rejected, Response, Wire, echo, wire_to

# Within which the node answers, or closes the connection, whatever came.
HANG_S = 10.0
BATCH = 2000
# Cases that follow each other over one Association, as long as none of them ends it.
TOGETHER = 32
# Of our own C-ECHO; no case has it, and no damage is likely to make it.
ECHO_ID = 0xE4C7
TOO_MANY = Rejected(2, 3, 2)
TRIES_S = 20.0
PAUSE_S = 0.02
COMMIT_LIMIT_S = 30.0
# What Python itself keeps after so many messages: caches, and arenas that it does not give back.
MEMORY_LIMIT_BYTES = 64 * 2**20
# What pydicom raises where it cannot read.
UNREADABLE = (AttributeError, EOFError, LookupError, OSError, RuntimeError, TypeError, ValueError, struct.error)
FAULT_LEVELS = frozenset({"ERROR", "CRITICAL"})
CASE_TITLE = re.compile(r"CASE(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that the node did wrong.

    Attributes
    ----------
    first, count
        Which cases it may have been, to be run again.
    """

    first: int
    count: int
    text: str


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of a run.

    Attributes
    ----------
    answers
        How often each answer came, by kind of case.
    """

    cases: int = 0
    seconds: float = 0.0
    kept: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)


class Campaign:
    """One run of cases against one node.

    Parameters
    ----------
    connections
        How many are open at a time.
    """

    def __init__(self, node: NodeProcess, maker: Maker, *, connections: int) -> None:
        self._node = node
        self._maker = maker
        self._connections = connections
        self._outcome = Outcome()
        # Every version that was acknowledged, and by which case.
        self._acknowledged: dict[str, dict[bytes, int]] = {}
        self._log_bytes = 0

    def run(self, first: int, count: int) -> Outcome:
        """Return what became of the cases from `first` on."""
        witness = self._warm_up(first)
        before = memory_bytes(self._node.process)
        pids = self._pids()
        begun = monotonic()
        with ThreadPoolExecutor(self._connections) as senders:
            for begin in range(first, first + count, BATCH):
                numbers = range(begin, min(begin + BATCH, first + count))
                list(senders.map(self._run_together, _parts(numbers)))
                self._outcome.cases += len(numbers)
                self._check_batch(numbers, pids)
                pids = self._pids()
        self._outcome.seconds = monotonic() - begun
        witness.look()
        after = memory_bytes(self._node.process)
        if after - before > MEMORY_LIMIT_BYTES:
            self._find(range(first, first + count), f"memory grew from {before} to {after} bytes")
        return self._outcome

    def _warm_up(self, first: int) -> Witness:
        """Let all be opened and imported that is opened but once; cases before `first` are good enough for that."""
        with ThreadPoolExecutor(self._connections) as senders:
            list(senders.map(self._run_together, _parts(range(first, first + BATCH // 4))))
        self._outcome = Outcome()
        return Witness(self._node)

    def _run_together(self, numbers: Sequence[int]) -> None:
        """Run neighbours, over one Association where they leave it whole."""
        with _Line(self._node, self._maker) as line:
            for number in numbers:
                case = self._maker.case(number)
                try:
                    answers = line.run(case)
                except TimeoutError:
                    line.hang_up()
                    self._find((number,), f"{case.kind.name}: neither an answer nor an end within {HANG_S:g} s")
                    continue
                self._count(case, answers)

    def _count(self, case: Case, answers: Sequence[Answer]) -> None:
        for answer in answers:
            self._outcome.answers[f"{case.kind.name} {_name(answer)}"] += 1
        stored = [a for a in answers if isinstance(a, Response) and a.command_field == STORE_RSP]
        if case.kind is Kind.DATA_SET and len(stored) != 1:
            self._find((case.number,), f"a sound C-STORE request was answered {answers}")
        if case.data_set and any(answer.status == 0x0000 for answer in stored):
            self._acknowledged.setdefault(case.sop_instance_uid, {})[case.data_set] = case.number

    def _check_batch(self, numbers: Sequence[int], pids: frozenset[int]) -> None:
        if self._pids() != pids:
            self._find(numbers, "a process of the node ended")
        self._check_echo(numbers)
        self._check_log(numbers)
        self._check_kept()

    def _check_echo(self, numbers: Sequence[int]) -> None:
        with suppress(OSError), _Line(self._node, self._maker) as line:
            line.open(0, numbers[0])
            if line.ask() == Response(ECHO_RSP, ECHO_ID, 0x0000):
                return
        self._find(numbers, f"no answer to a C-ECHO within {HANG_S:g} s")

    def _check_log(self, numbers: Sequence[int]) -> None:
        """Find what the log tells of faults of our own; each once, however often it happened."""
        cases: dict[object, int] = {}
        faults: dict[str, list[object]] = {}
        for line in self._new_log():
            told = json.loads(line)
            association = told.pop("association", None)
            if title := CASE_TITLE.fullmatch(str(told.get("calling_aet"))):
                cases[association] = int(title[1])
            if told["level"] in FAULT_LEVELS or "traceback" in told:
                del told["at"]
                faults.setdefault(json.dumps(told), []).append(association)
        for text, associations in faults.items():
            known = [cases[association] for association in associations if association in cases]
            where = range(known[0], known[0] + TOGETHER) if known else numbers
            self._find(where, f"{len(associations)} x {text}")

    def _check_kept(self) -> None:
        """See that what was acknowledged in this batch is in the store, and that others can read it."""
        rows = self._rows(frozenset(self._acknowledged))
        for uid, versions in self._acknowledged.items():
            number = max(versions.values())
            row = rows.get(uid)
            if row is None:
                self._find((number,), f"{uid} was acknowledged and has no row")
                continue
            path, study, series = row
            wrong = judge(self._node.folder / "data" / "store" / path, versions, (study, series, uid))
            if wrong:
                self._find((number,), f"{uid} was acknowledged, and {wrong}")
        self._outcome.kept += len(self._acknowledged)
        # Those that cases share are sent again later.
        self._acknowledged = {uid: found for uid, found in self._acknowledged.items() if uid.startswith(SHARED_ROOT)}

    def _rows(self, uids: frozenset[str]) -> dict[str, tuple[str, str, str]]:
        deadline = monotonic() + COMMIT_LIMIT_S
        columns = (
            instances.c.sop_instance_uid,
            instances.c.path,
            instances.c.study_instance_uid,
            instances.c.series_instance_uid,
        )
        while True:
            with self._node.view.reading() as connection:
                rows = {row[0]: (row[1], row[2], row[3]) for row in connection.execute(select(*columns))}
            if uids <= rows.keys() or monotonic() > deadline:
                return rows
            sleep(PAUSE_S)

    def _new_log(self) -> Iterator[str]:
        with (self._node.folder / "node.log").open("rb") as log:
            log.seek(self._log_bytes)
            for line in log:
                self._log_bytes += len(line)
                yield line.decode()

    def _pids(self) -> frozenset[int]:
        return frozenset(process.pid for process in (self._node.process, *self._node.process.children(recursive=True)))

    def _find(self, numbers: Sequence[int], text: str) -> None:
        self._outcome.findings.append(Finding(first=numbers[0], count=len(numbers), text=text))


class _Line:
    """A connection for several cases, opened where the case before has ended it."""

    def __init__(self, node: NodeProcess, maker: Maker) -> None:
        self._node = node
        self._maker = maker
        self._wire: Wire | None = None

    def __enter__(self) -> "_Line":
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()

    def run(self, case: Case) -> list[Answer]:
        """Return every answer to `case`."""
        if case.request:
            return self._run_alone(case)
        wire = self._wire or self.open(case.template, case.number)
        wire.send(case.sent)
        if case.kind is Kind.DATA_SET:
            answers = [wire.answer(HANG_S)]
        else:
            wire.send(echo(ECHO_ID))
            answers = list(_until_echo(wire))
        if not isinstance(answers[-1], Response):
            self.hang_up()
        return answers

    def open(self, template: int, number: int) -> Wire:
        """Return a new Association for this template."""
        deadline = monotonic() + TRIES_S
        while True:
            self.hang_up()
            self._wire = _connect(self._node)
            self._wire.send(self._maker.request(template, number))
            answer = self._wire.answer(HANG_S)
            if isinstance(answer, Accepted):
                return self._wire
            if answer != TOO_MANY or monotonic() > deadline:
                raise ConnectionError(f"a sound A-ASSOCIATE-RQ was answered {answer}")
            sleep(PAUSE_S)

    def ask(self) -> Answer:
        """Return the answer to a C-ECHO."""
        assert self._wire is not None
        self._wire.send(echo(ECHO_ID))
        return self._wire.answer(HANG_S)

    def hang_up(self) -> None:
        """Close the connection, if there is one."""
        if self._wire is not None:
            self._wire.connection.close()
            self._wire = None

    def _run_alone(self, case: Case) -> list[Answer]:
        with wire_to(self._node.peer) as wire:
            wire.send(case.request)
            if case.kind is Kind.STREAM:
                wire.answer(HANG_S)
            wire.send(case.sent)
            with suppress(OSError):
                wire.half_close()
            return wire.answers(HANG_S)


def memory_bytes(node: psutil.Process) -> int:
    """Return what the node's processes hold in memory of their own."""
    return sum(process.memory_full_info().uss for process in (node, *node.children(recursive=True)))


def _connect(node: NodeProcess) -> Wire:
    return Wire(socket.create_connection((node.peer.host, node.peer.port), timeout=HANG_S))


def _until_echo(wire: Wire) -> Iterator[Answer]:
    while True:
        answer = wire.answer(HANG_S)
        yield answer
        # A damaged command may be a C-ECHO too, but not this one.
        if not isinstance(answer, Response) or (answer.command_field, answer.message_id) == (ECHO_RSP, ECHO_ID):
            return


def _parts(numbers: range) -> list[Sequence[int]]:
    """Return the numbers of those cases that share an Association."""
    return [list(group) for _, group in groupby(numbers, lambda number: number // TOGETHER)]


def judge(path: Path, versions: dict[bytes, int], uids: tuple[str, str, str]) -> str:
    """Return what is wrong with a file that the store keeps; "" for nothing."""
    content = path.read_bytes()
    if not any(content.endswith(version) for version in versions):
        return f"{path.name} holds other bytes"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = pydicom.dcmread(BytesIO(content))
            found = (str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID), str(ds.SOPInstanceUID))
    except UNREADABLE as exc:
        return f"pydicom cannot read {path.name}: {type(exc).__name__}: {exc}"
    return "" if found == uids else f"pydicom reads {found} in {path.name}"


def _name(answer: Answer) -> str:
    match answer:
        case Response(status=status):
            return f"{status:04X}"
        case Closed():
            return "closed"
        case _:
            return type(answer).__name__.lower()
