"""The trail as people and programs read it: its records, and the proof that the chain is whole."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from node.audit.record import NOTHING_BEFORE, Record, parse_record
from node.audit.trail import DAMAGE, UNFINISHED_END, describe_rest, trail_files


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was found.

    Attributes
    ----------
    records
        Whole records up to the end, or to the first broken place.
    first, last
        Sequence numbers; 0 where there is no record.
    last_digest
        Digest of the last record: kept elsewhere, it proves later that nothing before was changed or cut off.
    told_damages
        Unfinished lines of stopped writers that the record after them tells of.
    unfinished_bytes
        Of a line at the very end that no record tells of yet.
    broken
        The first broken place in words, None when the chain is whole.
    """

    records: int = 0
    first: int = 0
    last: int = 0
    last_digest: str = NOTHING_BEFORE
    told_damages: int = 0
    unfinished_bytes: int = 0
    broken: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing, changed or in another place between the first and the last record."""
        return self.broken is None


def read_records(folder: Path) -> Iterator[Record]:
    """Yield every whole record, oldest first, whether or not the chain holds."""
    for path in trail_files(folder):
        for line in _lines(path):
            record = parse_record(line)
            if record is not None:
                yield record


def newest_records(folder: Path) -> Iterator[Record]:
    """Yield every whole record, newest first, one file in memory at a time."""
    for path in reversed(trail_files(folder)):
        found = (parse_record(line) for line in path.read_bytes().splitlines(keepends=True))
        yield from reversed([record for record in found if record is not None])


def prove_trail(folder: Path, *, newest_files: int | None = None, holds: str | None = None) -> Proof:
    """Return whether the chain is whole; the node may write meanwhile.

    Parameters
    ----------
    newest_files
        Look at so many files only; None: at all. Files before the first one looked at may lie elsewhere.
    holds
        Digest of a record that must be in the chain.
    """
    files = trail_files(folder)
    prover = _Prover(holds)
    for path in files[-newest_files:] if newest_files is not None else files:
        if not prover.read(path):
            break
    return prover.conclude()


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        for line in file:
            yield line
            if not line.endswith(b"\n"):
                # The end of the file, so far; what somebody writes meanwhile is another line only by chance.
                return


class _Prover:
    """Follows the chain record by record."""

    def __init__(self, holds: str | None) -> None:
        self._proof = Proof()
        self._holds = holds
        # Bytes that are no record, where they stand, waiting for the record that tells of them.
        self._rest = b""
        self._rest_place = ""

    def read(self, path: Path) -> bool:
        """Return False at the first broken place."""
        for number, line in enumerate(_lines(path), 1):
            place = f"{path.name}, line {number}"
            record = parse_record(line)
            if record is None:
                self._rest_place = self._rest_place or place
                self._rest += line
            elif not self._take(record, place):
                return False
        return True

    def conclude(self) -> Proof:
        """Return what was found, once everything was read."""
        if self._proof.broken is None and self._rest:
            if self._rest.endswith(b"\n"):
                self._break(self._rest_place, "is no record, or was changed")
            else:
                self._proof = replace(self._proof, unfinished_bytes=len(self._rest))
        if self._proof.broken is None and self._holds is not None:
            self._break(f"no record with the digest {self._holds}", "is in the chain; its end was cut off or replaced")
        return self._proof

    def _take(self, record: Record, place: str) -> bool:
        if self._rest and not self._is_told(record):
            return self._break(self._rest_place, "is no record, or was changed")
        proof = self._proof
        if proof.records and record.sequence != proof.last + 1:
            return self._break(place, f"is record {record.sequence} where {proof.last + 1} is expected")
        if proof.records and record.previous != proof.last_digest:
            return self._break(place, f"does not follow record {proof.last}: that one was replaced")
        if not proof.records and (record.sequence == 1) != (record.previous == NOTHING_BEFORE):
            return self._break(place, "is called the first record and is not")
        self._proof = replace(
            proof,
            records=proof.records + 1,
            first=proof.first or record.sequence,
            last=record.sequence,
            last_digest=record.digest,
            told_damages=proof.told_damages + bool(self._rest),
        )
        self._rest, self._rest_place = b"", ""
        if record.digest == self._holds:
            self._holds = None
        return True

    def _is_told(self, record: Record) -> bool:
        """Return whether `record` tells that the bytes before it were left by a stopped writer."""
        facts = describe_rest(self._rest.removesuffix(UNFINISHED_END))
        told = {name: record.facts.get(name) for name in facts}
        return record.kind == DAMAGE and facts["unfinished"] is True and told == facts

    def _break(self, place: str, why: str) -> bool:
        self._proof = replace(self._proof, broken=f"{place} {why}")
        return False
