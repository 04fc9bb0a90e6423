"""Real ledgers in SQLite files, or on a PostgreSQL: migrated once a test run, copied for each test; and their rows."""

import os
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import psycopg
from sqlalchemy import Engine, make_url

from node.assembly import Assembly
from node.domain.codes import NODULE
from node.domain.completeness import Terms
from node.domain.decision import Clause, Decision, Outcome
from node.domain.finding import Finding
from node.domain.job import Job, JobID, JobOrder, Priority, digest_inputs
from node.domain.result import Result, ResultKind
from node.domain.retention import KeepUntil, Proof, PurgeOrder
from node.domain.study import InstanceFacts
from node.domain.uids import InstanceUID, SeriesUID, StudyUID
from node.ledger.deliveries import DeliveryLedger
from node.ledger.engine import migrate, open_engine
from node.ledger.expectations import ExpectationLedger
from node.ledger.instances import InstanceLedger
from node.ledger.interventions import Interventions
from node.ledger.jobs import JobLedger, JobOutcome
from node.ledger.pauses import PauseLedger
from node.ledger.retention import RetentionLedger
from node.ledger.schema import metadata
from node.ledger.studies import StudyLedger
from node.ledger.views import LedgerView
from node.models import ModelCard
from tests.postgresql import ask, run_sql, session

# The server on which copies are made; absent: they are SQLite files.
SERVER_VARIABLE = "RADNODE_TEST_POSTGRES"
# In the folder of a test, what its copy on the server is.
NOTE = "ledger.url"
COPY, EMPTY = "copy_", "empty_"
VERSION = "SELECT version_num FROM alembic_version"
NOON = datetime(2025, 1, 14, 12, tzinfo=UTC)
STUDY = StudyUID("1.2.3")
CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
SEG_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
EXPLICIT = "1.2.840.10008.1.2.1"


def at(seconds: float) -> datetime:
    """Return the instant so many seconds after noon."""
    return NOON + timedelta(seconds=seconds)


@cache
def _migrated_file() -> Path:
    path = Path(tempfile.mkdtemp(prefix="radnode-test-")) / "ledger.sqlite"
    _migrate(f"sqlite:///{path}")
    return path


@cache
def _migrated_database(server: str) -> str:
    name = "migrated"
    run_sql(server, f"CREATE DATABASE {name}")
    _migrate(_name_database(server, name))
    return name


def _migrate(url: str) -> None:
    engine = open_engine(url, busy_timeout_s=5.0)
    migrate(engine)
    engine.dispose()


def copy_ledger(folder: Path) -> str:
    """Return the URL of the ledger of `folder`, which is fresh at first."""
    server = os.environ.get(SERVER_VARIABLE)
    if server is not None:
        return _copy_database(folder / NOTE, server)
    path = folder / "ledger.sqlite"
    if not path.exists():
        shutil.copyfile(_migrated_file(), path)
    return f"sqlite:///{path}"


def _copy_database(note: Path, server: str) -> str:
    if not note.exists():
        prototype, name = _migrated_database(server), COPY + uuid4().hex
        with session(server) as connection:
            found = ask(connection, f"SELECT datname FROM pg_database WHERE starts_with(datname, '{EMPTY}') LIMIT 1")
            if found:
                ask(connection, f"ALTER DATABASE {found[0][0]} RENAME TO {name}")
            else:
                ask(connection, f"CREATE DATABASE {name} TEMPLATE {prototype} STRATEGY FILE_COPY")
        note.write_text(_name_database(server, name))
    return note.read_text()


def clear_copies(server: str) -> None:
    """Empty every copy on a server for the next test, which costs less than making one; whoever may be connected."""
    with session(server) as connection:
        for (name,) in ask(connection, f"SELECT datname FROM pg_database WHERE starts_with(datname, '{COPY}')"):
            ask(connection, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
            ask(connection, f"ALTER DATABASE {name} RESET ALL")
            if _clear(_name_database(server, name), server):
                ask(connection, f"ALTER DATABASE {name} RENAME TO {EMPTY}{uuid4().hex}")
            else:
                ask(connection, f"DROP DATABASE {name} WITH (FORCE)")


def _clear(url: str, server: str) -> bool:
    """Return whether the copy is as it was made; False: a test has left it without a table, or in another version."""
    try:
        run_sql(url, f"TRUNCATE {', '.join(metadata.tables)} RESTART IDENTITY; {_first_rows(server)}")
        return run_sql(url, VERSION) == run_sql(_name_database(server, _migrated_database(server)), VERSION)
    except psycopg.ProgrammingError:
        return False


@cache
def _first_rows(server: str) -> str:
    """Return the statements that make the rows which the migrations have made."""
    prototype, found = _name_database(server, _migrated_database(server)), []
    for table in metadata.tables:
        ((rows,),) = run_sql(prototype, f"SELECT json_agg(t)::text FROM {table} t")
        if rows is not None:
            quoted = rows.replace("'", "''")
            found.append(f"INSERT INTO {table} SELECT * FROM json_populate_recordset(NULL::{table}, '{quoted}');")
    return "".join(found)


def _name_database(server: str, name: str) -> str:
    return make_url(server).set(database=name).render_as_string(hide_password=False)


def assemble(books: "Books", terms: Terms) -> Assembly:
    """Return the assembly station on a ledger."""
    return Assembly(books.expectations, books.studies, PauseLedger(books.engine), terms)


class Books:
    """Every room of one ledger."""

    def __init__(self, url: str, *, busy_timeout_s: float = 20.0) -> None:
        self.engine: Engine = open_engine(url, busy_timeout_s=busy_timeout_s)
        self.instances = InstanceLedger(self.engine)
        self.studies = StudyLedger(self.engine)
        self.expectations = ExpectationLedger(self.engine)
        self.jobs = JobLedger(self.engine)
        self.interventions = Interventions(self.engine)
        self.deliveries = DeliveryLedger(self.engine)
        self.view = LedgerView(self.engine)

    def close(self) -> None:
        """Let go of the file."""
        self.engine.dispose()

    def settle(self, *, study: StudyUID = STUDY, now: datetime = NOON) -> None:
        """Settle every open Series of `study`."""
        for one in self.studies.open_series():
            if one.study_instance_uid == study:
                self.studies.settle_series(one, reason="test", now=now)

    def route(self, *orders: JobOrder, study: StudyUID = STUDY, now: datetime = NOON) -> None:
        """Settle `study` and route it with these orders."""
        self.settle(study=study, now=now)
        facts = self.studies.study_facts(study)
        self.studies.record_routing(facts, decisions=(), orders=orders, forwards=(), now=now)

    def add_job(self, **changes: Any) -> Job:
        """Take in one Instance and order one Job on it."""
        order = make_order(**changes)
        self.instances.record_instance(make_facts(study=order.study_instance_uid))
        self.route(order, study=order.study_instance_uid)
        return self.only_job(study=order.study_instance_uid)

    def claim(self, job: Job, *, now: datetime = NOON, owner: str = "worker") -> Job:
        """Claim `job` for 60 s."""
        claimed = self.jobs.claim_job(job.job_id, owner=owner, lease_s=60.0, now=now)
        assert claimed is not None
        return claimed

    def only_job(self, *, study: StudyUID = STUDY) -> Job:
        """Return the one Job of `study`."""
        (job,) = self.view.study_story(study).jobs
        return job

    def give_up(self, *, study: StudyUID = STUDY, now: datetime = NOON) -> None:
        """Purge `study` with its Results, whatever is proven."""
        order = PurgeOrder(study_instance_uid=study, ordered_by="keeper", reason="test", is_forced=True)
        retention = RetentionLedger(self.engine)
        retention.finish_purge(retention.begin_purge(order, Proof(keep_until=KeepUntil.FINISHED), now=now), now=now)

    def find(self, job: Job) -> Job:
        """Return `job` as the ledger knows it now."""
        return self.view.find_job(job.job_id)

    def kinds(self, *, study: StudyUID = STUDY) -> list[str]:
        """Return the kinds of every event on the time line of `study`."""
        return [event.kind for event in self.view.study_story(study).events]


def make_facts(
    number: int = 1,
    *,
    study: str = STUDY,
    series: int = 1,
    association: str = "a1",
    digest: str | None = None,
    received_at: datetime = NOON,
    **attributes: Any,
) -> InstanceFacts:
    """Return the Instance ``<study>.<series>.<number>``."""
    uid = f"{study}.{series}.{number}"
    return InstanceFacts(
        study_instance_uid=StudyUID(study),
        series_instance_uid=SeriesUID(f"{study}.{series}"),
        sop_instance_uid=InstanceUID(uid),
        sop_class_uid=CT_IMAGE_STORAGE,
        transfer_syntax_uid=EXPLICIT,
        attributes=MappingProxyType({"Modality": "CT", "InstanceNumber": float(number), **attributes}),
        path=f"instances/{uid}.dcm",
        size_bytes=1000,
        digest=digest or f"digest of {uid}",
        pixel_data_offset=800,
        association_id=association,
        calling_aet="MODALITY",
        received_at=received_at,
    )


def make_order(
    *,
    study: str = STUDY,
    numbers: tuple[int, ...] = (1,),
    series: int = 1,
    pipeline: str = "lung_nodules",
    priority: Priority = Priority.ROUTINE,
    deliver_to: tuple[str, ...] = ("pacs",),
    version: str = "1.0.0",
) -> JobOrder:
    """Return an order on Instances `numbers` of one Series of `study`."""
    return JobOrder(
        study_instance_uid=StudyUID(study),
        pipeline=pipeline,
        model="model",
        model_version=version,
        rule="a rule",
        priority=priority,
        inputs={"ct": SeriesUID(f"{study}.{series}")},
        content=digest_inputs({"ct": [InstanceUID(f"{study}.{series}.{n}") for n in numbers]}),
        deliver_to=deliver_to,
    )


def make_result(job: Job, *, kind: ResultKind = ResultKind.SEG, number: int = 1) -> Result:
    """Return a Result of `job`."""
    uid = f"2.25.{number}"
    return Result(
        job_id=job.job_id,
        kind=kind,
        study_instance_uid=job.order.study_instance_uid,
        series_instance_uid=SeriesUID(f"{uid}.1"),
        sop_instance_uid=InstanceUID(uid),
        sop_class_uid=SEG_STORAGE,
        transfer_syntax_uid=EXPLICIT,
        path=f"results/{uid}.dcm",
        size_bytes=10,
        sha256="digest",
    )


def make_outcome(*results: Result) -> JobOutcome:
    """Return what a worker hands in."""
    return JobOutcome(
        findings=[Finding(label="Nodule 1", code=NODULE, center_mm=(1.0, 2.0, 3.0)).as_json()],
        seconds={"prepare": 0.1, "infer": 0.2, "encode": 0.3},
        model_sha256="weights",
        results=results,
    )


def make_card(*, pipeline: str = "lung_nodules") -> ModelCard:
    """Return what is known of a model that reads one CT Series."""
    return ModelCard(
        name="model",
        version="1.0.0",
        pipeline=pipeline,
        licence="MIT",
        intended_use="tests",
        notice="For tests.",
        series_offset=1,
        weights=Path("weights"),
        weights_sha256="",
        required_roles=("ct",),
        optional_roles=(),
        numbers={},
    )


def make_decision(*, rule: str = "a rule", outcome: Outcome = Outcome.MATCH) -> Decision:
    """Return a Decision on `STUDY` with one clause."""
    clause = Clause(text="modality = CT", outcome=outcome, found="CT", series_instance_uid=SeriesUID(f"{STUDY}.1"))
    return Decision(
        study_instance_uid=STUDY,
        rule=rule,
        outcome=outcome,
        clause=clause.text,
        found=clause.found,
        reason="Because.",
        inputs={"ct": SeriesUID(f"{STUDY}.1")},
        trace=(clause,),
    )


def unknown_job() -> JobID:
    """Return the id of no Job."""
    return JobID("00000000-0000-0000-0000-000000000000")
