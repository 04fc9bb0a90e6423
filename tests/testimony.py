"""What a modality was told, held against what a node has: nothing that was acknowledged is missing, nothing is torn.

`tests.modality_process` writes it down.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from pydicom import dcmread

from node.header.part10 import read_part10
from tests.ledgers import NOTE
from tests.postgresql import run_sql


@dataclass(slots=True)
class Told:
    """What is known of one Instance.

    Attributes
    ----------
    sent
        SHA-256 of each data set that was ever begun.
    may_count
        Those of which one must count: the last that was acknowledged, or a later one.
    """

    sent: set[str] = field(default_factory=set)
    may_count: set[str] = field(default_factory=set)
    is_acknowledged: bool = False


@dataclass(slots=True)
class Testimony:
    """Everything that the Associations of one modality noted."""

    instances: dict[str, Told]
    kept: int
    refused: list[str]

    def without_row(self, data_dir: Path) -> set[str]:
        """Return the Instances that were acknowledged and have no row."""
        return {uid for uid, told in self.instances.items() if told.is_acknowledged} - rows(data_dir).keys()


def count_kept(folder: Path) -> int:
    """Return how often a modality was told Success."""
    return sum(book.read_bytes().count(b"kept ") for book in folder.glob("*.txt"))


def read_testimony(folder: Path) -> Testimony:
    """Return what a modality has noted so far."""
    instances: dict[str, Told] = defaultdict(Told)
    kept, refused = 0, []
    for book in sorted(folder.glob("*.txt")):
        for kind, uid, said in (line.split() for line in book.read_text().splitlines()):
            told = instances[uid]
            match kind:
                case "sent":
                    told.sent.add(said)
                    told.may_count.add(said)
                case "kept":
                    told.may_count, told.is_acknowledged = {said}, True
                    kept += 1
                case _:
                    refused.append(said)
    return Testimony(dict(instances), kept, refused)


def prove_kept(testimony: Testimony, data_dir: Path) -> None:
    """Fail unless store and ledger of a stopped node hold what was acknowledged, and nothing that was not sent."""
    files = dict(stored(data_dir / "store"))
    torn = {path: uid for path, (uid, digest) in files.items() if digest not in testimony.instances[uid].sent}
    assert not torn, torn
    counting = rows(data_dir)
    strange = counting.keys() - testimony.instances.keys()
    assert not strange, strange
    without_row = testimony.without_row(data_dir)
    assert not without_row, f"{len(without_row)} of {testimony.kept} acknowledged: {sorted(without_row)[:5]}"
    without_file = {uid: path for uid, path in counting.items() if path not in files}
    assert not without_file, without_file
    other = {
        uid: path
        for uid, path in counting.items()
        if files[path][0] != uid or files[path][1] not in testimony.instances[uid].may_count
    }
    assert not other, (
        f"{len(other)} of {testimony.kept} acknowledged, another version counts: {list(other.items())[:5]}"
    )


def stored(store: Path) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield each file that readers can see: its path, SOP Instance UID and the SHA-256 of its data set."""
    for path in (store / "instances").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            uid = str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)
            digest = sha256(memoryview(content)[read_part10(content).data_set_offset :]).hexdigest()
            yield path.relative_to(store).as_posix(), (uid, digest)


def rows(data_dir: Path) -> dict[str, str]:
    """Return the path of the version that counts, by SOP Instance UID."""
    question, note = "SELECT sop_instance_uid, path FROM instances", data_dir.parent / NOTE
    if note.exists():
        return dict(run_sql(note.read_text(), question))
    with closing(sqlite3.connect(data_dir / "ledger.sqlite")) as connection:
        return dict(connection.execute(question))
