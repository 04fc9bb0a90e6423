"""The benchmark's ledger with very many Studies, written table by table: what a node holds after years.

No node writes so. It stands here, because only this room speaks SQL.
"""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import JSON, Connection, Index, Table, inspect, select

from node.domain.decision import Outcome
from node.domain.job import JobState, Priority
from node.domain.result import DeliveryState
from node.domain.study import SeriesState
from node.errors import Broken, WrongState
from node.ledger.catalogue import study_keys
from node.ledger.engine import Desk, Engine
from node.ledger.placement import derive_places, join_modalities, words_of
from node.ledger.schema import (
    EPOCH,
    UtcTime,
    decisions,
    deliveries,
    instances,
    jobs,
    series,
    series_entries,
    studies,
    study_entries,
    tokens,
    users,
    worklist,
    worklist_words,
)
from node.ledger.worklist import Mark

TABLES = (
    studies, series, instances, study_entries, series_entries, decisions, jobs, deliveries, worklist, worklist_words,
)  # fmt: skip
GROUP = 20_000
# So long ago the first of them came.
YEARS = 3
FAMILIES, GIVEN = 4000, 300
# Names are not spread evenly: the most common one has some percent of all.
COMMON = 0.02
CHECKED = 300
PIPELINES = {"CT": "lung_nodules", "MR": "brain_tumour", "DX": "chest_xray"}
MIXTURES = (("CT",), ("MR",), ("DX",), ("CT", "PT"), ("MG",), ("US",), ("XA",), ("NM",), ("CR",), ("CT", "NM"))
SHARES = (34, 22, 24, 4, 5, 6, 2, 1, 1, 1)
PRIORITIES, PRIORITY_SHARES = tuple(Priority), (2, 8, 85, 5)
PERCENT = 100
# Of a hundred Studies with a Pipeline for them, by what became of them; the youngest are under way.
FINDINGS, FAILED, UNDETERMINED, UNMATCHED = 20, 1, 2, 25
RECENT = 200
# What is there of each Series of a Study that is still coming in.
OPEN_INSTANCES = 40
# As many rules are asked of each Study as a node ships with.
RULES = ("CT chest", "MR brain", "DX chest")
Row = dict[str, Any]
Note = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One Study of the crowd, as it is searched, and where it stands."""

    study_instance_uid: str
    patient_id: str
    accession_number: str
    family: str
    given: str
    mark: Mark


@dataclass(frozen=True, slots=True, kw_only=True)
class _Person:
    name: str
    number: str


def require_empty(engine: Engine) -> None:
    """Return where a database may be filled: it has none of our tables, or no Study, user and token in them.

    Raises
    ------
    WrongState
        If it is somebody's ledger; nothing was changed.
    """
    with engine.connect() as connection:
        there = set(inspect(connection).get_table_names())
        for table in (studies, users, tokens):
            if table.name in there and connection.execute(select(1).select_from(table).limit(1)).first() is not None:
                raise WrongState(
                    f"the database has rows in its table {table.name}: it is the ledger of a node, and stays as it is; "
                    "name an empty database"
                )


def fill(engine: Engine, *, studies_wanted: int, now: datetime, note: Note) -> None:
    """Write so many Studies into an empty ledger, the last of them at `now`; what was kept of some is checked.

    Raises
    ------
    Broken
        If a row of the worklist is not what a node would have written.
    """
    chance = random.Random(studies_wanted)  # noqa: S311 the same Studies each time, no secrets
    with engine.begin() as connection, _without_indexes(connection):
        for begin in range(0, studies_wanted, GROUP):
            note(f"writing Studies, {begin:,} of {studies_wanted:,}")
            rows: dict[str, list[Row]] = {table.name: [] for table in TABLES}
            for number in range(begin, min(begin + GROUP, studies_wanted)):
                _add_study(rows, chance, number, studies_wanted, now)
            for table in TABLES:
                _write(connection, table, rows[table.name])
        note("making indexes")
    if engine.dialect.name != "sqlite":
        # As its own daemon does sooner or later, or in the midst of the pages; of a file nobody gathers statistics.
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM (ANALYZE)")
    check(engine, chance)


def find_member(engine: Engine, number: int) -> Member:
    """Return the Study of this number, from 1, the oldest, on."""
    uid = _uid(number)
    same = study_entries.c.study_instance_uid == worklist.c.study_instance_uid
    wanted = select(worklist, study_entries).join(study_entries, same).where(worklist.c.study_instance_uid == uid)
    with Desk(engine).reading() as connection:
        row = connection.execute(wanted).one()
    family, given = row.patient_name.strip("^").split("^")
    return Member(
        study_instance_uid=uid,
        patient_id=row.patient_id,
        accession_number=row.accession_number,
        family=family,
        given=given,
        mark=Mark(priority=row.priority, opened_at=row.opened_at, place_id=row.place_id),
    )


def _uid(number: int) -> str:
    return f"1.2.826.0.1.3680043.9.{number:09d}.1"


def check(engine: Engine, chance: random.Random) -> None:
    """Compare rows of the worklist with what is derived from scratch.

    Raises
    ------
    Broken
        If they differ.
    """
    with Desk(engine).reading() as connection:
        last = connection.execute(
            select(worklist.c.place_id).order_by(worklist.c.place_id.desc()).limit(1)
        ).scalar_one()
        chosen = select(worklist).where(worklist.c.place_id.in_([chance.randint(1, last) for _ in range(CHECKED)]))
        kept = {row["study_instance_uid"]: dict(row) for row in connection.execute(chosen).mappings()}
        derived = derive_places(connection, list(kept))
    for uid, row in kept.items():
        del row["place_id"]
        if row != derived[uid]:
            raise Broken(f"{uid}: {row} is kept, {derived[uid]} is derived")


@contextmanager
def _without_indexes(connection: Connection) -> Iterator[None]:
    """Make the indexes of what is written when all is written: thus it takes minutes."""
    indexes: Sequence[Index] = [index for table in TABLES for index in table.indexes]
    for index in indexes:
        index.drop(connection)
    yield
    for index in indexes:
        index.create(connection)


def _write(connection: Connection, table: Table, rows: list[Row]) -> None:
    if not rows:
        return
    names = list(rows[0])
    encode = [_encoder(table.c[name].type) for name in names]
    values = [tuple(write(row[name]) for name, write in zip(names, encode, strict=True)) for row in rows]
    cursor = connection.connection.cursor()
    if connection.dialect.name == "sqlite":
        places = ", ".join("?" * len(names))
        cursor.executemany(f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({places})", values)  # noqa: S608 names of ours
        return
    with cursor.copy(f"COPY {table.name} ({', '.join(names)}) FROM STDIN") as copy:
        for one in values:
            copy.write_row(one)


def _encoder(kind: Any) -> Callable[[Any], Any]:
    if isinstance(kind, UtcTime):
        return lambda value: None if value is None else (value - EPOCH) // timedelta(microseconds=1)
    if isinstance(kind, JSON):
        return json.dumps
    return lambda value: value


def _add_study(rows: dict[str, list[Row]], chance: random.Random, number: int, total: int, now: datetime) -> None:
    uid = _uid(number + 1)
    # As in a hospital: most days alike, the last Study a moment ago.
    opened_at = now - timedelta(days=365 * YEARS) * ((total - 1 - number) / total)
    modalities = chance.choices(MIXTURES, SHARES)[0]
    person = _person(chance)
    attributes = {
        "StudyDate": f"{opened_at:%Y%m%d}",
        "PatientName": person.name,
        "PatientID": person.number,
        "PatientSex": chance.choice("FM"),
        "PatientAge": f"{chance.randint(1, 95):03d}Y",
        "AccessionNumber": f"A{number:09d}",
        "StudyDescription": f"{modalities[0]} {chance.choice(('chest', 'head', 'abdomen', 'knee', 'spine'))}",
    }
    keys = study_keys(attributes)
    fate = _fate(chance, modalities, is_recent=number >= total - RECENT)
    of_study = {"study_instance_uid": uid}
    times = {"first_instance_at": opened_at, "changed_at": opened_at}
    state = SeriesState.OPEN if fate == "open" else SeriesState.ROUTED
    rows["studies"].append({**of_study, "state": state.value, "reason": "quiet", "revision": 1, **times})
    rows["study_entries"].append({**of_study, **keys, "attributes": attributes})
    for place, modality in enumerate(modalities, 1):
        one = {**of_study, "series_instance_uid": f"{uid}.{place}"}
        rows["series"].append({**one, "state": state.value, "reason": "quiet", "last_instance_at": opened_at})
        entry = {"study_date": keys["study_date"], "modality": modality, "attributes": {"Modality": modality}}
        rows["series_entries"].append({**one, **entry})
    if fate == "open":
        rows["instances"] += _open_instances(uid, len(modalities), opened_at, attributes)
    else:
        rows["decisions"] += [{**of_study, **one, "decided_at": opened_at} for one in _decisions(fate)]
    priority = Priority.ROUTINE
    if fate in JOB_FATES:
        priority = chance.choices(PRIORITIES, PRIORITY_SHARES)[0]
        _add_job(rows, of_study, number, (fate, priority, PIPELINES[modalities[0]]), opened_at)
    _place(rows, number, fate, {**of_study, "priority": int(priority), "opened_at": opened_at}, modalities, keys)


JOB_FATES = frozenset({"findings", "nothing", "failed", "refused", "waiting"})


def _person(chance: random.Random) -> _Person:
    """Return one of many people; few names are common, most are rare."""
    family = 0 if chance.random() < COMMON else int(FAMILIES * chance.random() ** 2)
    return _Person(
        name=f"{_syllables(family)}^{_syllables(FAMILIES + chance.randrange(GIVEN))}".title(),
        number=f"P{chance.randrange(10**8):08d}",
    )


def _syllables(number: int) -> str:
    """Return a word of its own for each number."""
    said = ""
    for _ in range(4):
        number, rest = divmod(number, 20)
        said += (
            "ba",
            "ce",
            "di",
            "fo",
            "gu",
            "ha",
            "je",
            "ki",
            "lo",
            "mu",
            "na",
            "pe",
            "ri",
            "so",
            "tu",
            "va",
            "we",
            "xi",
            "yo",
            "zu",
        )[rest]
    return said


def _fate(chance: random.Random, modalities: Sequence[str], *, is_recent: bool) -> str:
    rolled = chance.randrange(PERCENT)
    if is_recent and rolled < UNMATCHED:
        return "waiting" if modalities[0] in PIPELINES else "open"
    if modalities[0] not in PIPELINES:
        return "undetermined" if rolled < UNDETERMINED else "unmatched"
    if rolled < FAILED:
        return "failed"
    if rolled < 2 * FAILED:
        return "refused"
    return "findings" if rolled < FINDINGS else "nothing"


def _decisions(fate: str) -> list[Row]:
    """Return what each rule concluded; the first one tells what became of the Study."""
    first = {"unmatched": Outcome.NO_MATCH, "undetermined": Outcome.UNDETERMINED}.get(fate, Outcome.MATCH)
    outcomes = (first, *[Outcome.NO_MATCH] * (len(RULES) - 1))
    said = {"clause": "modality = CT", "found": "CT", "reason": "Because.", "inputs": {}, "trace": []}
    return [
        {"revision": 1, "rule": rule, "outcome": outcome.value, **said}
        for rule, outcome in zip(RULES, outcomes, strict=True)
    ]


def _open_instances(uid: str, series_count: int, received_at: datetime, attributes: Row) -> list[Row]:
    """Return what an open Study is shown by: what has come of each of its Series so far."""
    return [
        {
            "sop_instance_uid": f"{uid}.{place}.{number}", "study_instance_uid": uid,
            "series_instance_uid": f"{uid}.{place}", "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
            "transfer_syntax_uid": "1.2.840.10008.1.2.1", "attributes": attributes, "path": f"{uid}.{place}.{number}",
            "size_bytes": 526_000, "digest": "0" * 64, "association_id": "bench", "calling_aet": "BENCH",
            "received_at": received_at,
        }
        for place in range(1, series_count + 1)
        for number in range(1, OPEN_INSTANCES + 1)
    ]  # fmt: skip


def _add_job(
    rows: dict[str, list[Row]], of_study: Row, number: int, what: tuple[str, Priority, str], opened_at: datetime
) -> None:
    fate, priority, pipeline = what
    job_id = f"{number:032x}"
    state = {"failed": JobState.CANCELED, "waiting": JobState.SCHEDULED}.get(fate, JobState.COMPLETED)
    seen = {"label": "Nodule 1", "presence": "present", "confidence": 0.9, "measurements": {"long_axis_mm": 8.4}}
    is_over = state is not JobState.SCHEDULED
    rows["jobs"].append({
        **of_study, "job_id": job_id, "pipeline": pipeline, "model": "model", "model_version": "1.0.0",
        "content": job_id, "rule": "a rule", "priority": int(priority),
        "inputs": {"image": f"{of_study['study_instance_uid']}.1"}, "deliver_to": ["pacs"], "is_shadow": False,
        "state": state.value, "accepted_at": opened_at, "not_before": opened_at, "attempts": 1, "fence": 1,
        "reason_code": "slice-missing" if fate == "failed" else None,
        "reason_text": "a slice is missing" if fate == "failed" else None,
        "findings": [{**seen, "site": None}] if fate in ("findings", "refused") else [],
        "seconds": {"infer": 1.0}, "notes": [], "finished_at": opened_at + timedelta(seconds=9) if is_over else None,
    })  # fmt: skip
    if state is JobState.COMPLETED:
        for kind, sent in enumerate((DeliveryState.COMMITTED, DeliveryState.COMMITTED)):
            found = DeliveryState.REFUSED if fate == "refused" else sent
            uid = f"2.25.{number}.{kind}"
            rows["deliveries"].append({
                **of_study, "destination": "pacs", "sop_instance_uid": uid,
                "sop_class_uid": "1.2.840.10008.5.1.4.1.1.66.4", "transfer_syntax_uid": "1.2.840.10008.1.2.1",
                "path": f"results/{uid}.dcm", "job_id": job_id,
                "state": found.value, "attempts": 1, "not_before": opened_at,
                "reason_code": "destination-refused" if fate == "refused" else None,
                "reason_text": "it was refused" if fate == "refused" else None,
                "created_at": opened_at, "changed_at": opened_at, "doubts": 0,
            })  # fmt: skip


def _place(
    rows: dict[str, list[Row]], number: int, fate: str, place: Row, modalities: Sequence[str], keys: dict[str, str]
) -> None:
    words = words_of(keys)
    rows["worklist"].append({
        "place_id": number + 1, **place, "modalities": join_modalities(modalities),
        "has_findings": fate in ("findings", "refused"), "needs_person": fate in ("failed", "refused", "undetermined"),
        "is_unmatched": fate == "unmatched", "is_pending": fate in ("open", "waiting"), "words": " ".join(words),
    })  # fmt: skip
    rows["worklist_words"] += [{"word": word, "place_id": number + 1} for word in words]
