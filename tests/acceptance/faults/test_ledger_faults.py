"""The ledger lost, damaged, locked, read-only, old, new; and Studies that go: each on the remains of a real node.

One node answers four radiographs and delivers them; each test gets a copy of what it left, and the same PACS.
"""

import json
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from os import utime
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from pydicom import Dataset

from node.audit.inspection import read_records
from node.domain.job import JobState
from node.domain.result import DeliveryState, ResultKind
from node.domain.uids import StudyUID
from node.ledger.engine import MIGRATIONS, open_engine
from node.ledger.views import StudyStory
from node.lock import FolderLock
from node.rehearsal.modality import send
from node.rehearsal.pacs import SimulatedPacs
from tests.ledgers import Books
from tests.node_process import QUICK, Launch, NodeProcess, destination_table, run_radnode
from tests.peers import wait_until
from tests.phantoms import small_chest_xray
from tests.volumes import unwritable

pytestmark = pytest.mark.needs("sqlite")
STUDIES = tuple(f"1.2.826.0.1.3680043.10.543.{number}" for number in range(1, 5))
SERVE = Launch(verb="serve")
USAGE = 2
PAGE_BYTES = 4096
LIMIT_S = 60.0


@pytest.fixture(autouse=True)
def _unharmed() -> None:
    """Each test here ends its node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What a stopped node has left, and the PACS that it sent to."""

    folder: Path
    settings: str
    pacs: SimulatedPacs

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def ledger(self) -> Path:
        return self.data_dir / "ledger.sqlite"

    @property
    def file(self) -> Path:
        return self.folder / "settings.toml"

    def node(self, *, launch: Launch = SERVE, more: str = "") -> NodeProcess:
        return NodeProcess(self.folder, self.settings + more, launch=launch)

    def sent(self) -> Counter[str]:
        """Return how often the PACS was sent each object."""
        return Counter(one.sop_instance_uid for one in self.pacs.record.received)

    def stories(self) -> list[StudyStory]:
        with closing(Books(f"sqlite:///{self.ledger}")) as books:
            return [books.view.study_story(StudyUID(uid)) for uid in STUDIES]


def films() -> list[Dataset]:
    """Return one radiograph, as if of four Studies."""
    made: list[Dataset] = []
    for uid in STUDIES:
        ds = deepcopy(small_chest_xray(with_opacity=True).dataset)
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = uid, f"{uid}.1", f"{uid}.1.1"
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        made.append(ds)
    return made


def is_delivered(story: StudyStory) -> bool:
    sent = [delivery.state.has_arrived for delivery in story.deliveries]
    return bool(sent) and all(sent) and story.is_finished


@pytest.fixture(scope="module")
def remains(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return what a node has left that answered and delivered everything."""
    folder = tmp_path_factory.mktemp("remains")
    with SimulatedPacs(folder / "pacs") as pacs:
        # Nobody waits here for what the PACS is asked later.
        settings = QUICK + destination_table(pacs.peer) + 'confirm = "none"\n'
        (folder / "node").mkdir()
        with NodeProcess(folder / "node", settings) as node:
            assert not send(films(), node.peer).failed
            for uid in STUDIES:
                node.wait_for_study(uid, is_delivered)
        with closing(sqlite3.connect(folder / "node" / "data" / "ledger.sqlite")) as connection:
            # The view of this process has kept the node from moving everything into the one file.
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        yield Site(folder=folder / "node", settings=settings, pacs=pacs)


@pytest.fixture
def site(remains: Site, tmp_path: Path) -> Site:
    """Return a copy of the remains, which the test may spoil."""
    copy = tmp_path / "site"
    shutil.copytree(remains.data_dir, copy / "data", ignore=shutil.ignore_patterns("*-wal", "*-shm", "broker"))
    made = Site(folder=copy, settings=remains.settings, pacs=remains.pacs)
    made.node()
    return made


def prove_restored(site: Site) -> None:
    """Fail unless a node on `site` knows what it answered, and asks and sends nothing again."""
    before = site.sent()
    with site.node() as node:
        for uid in STUDIES:
            story = node.wait_for_study(uid, lambda story: story.state == "ROUTED")
            assert [job.state for job in story.jobs] == [JobState.COMPLETED]
            assert is_delivered(story), story.deliveries
            assert story.jobs[0].findings
    assert site.sent() == before
    done = run_radnode("ledger", "check", "--settings", site.file, limit_s=LIMIT_S)
    assert (done.returncode, "Everything is there." in done.stdout) == (0, True), done.stdout


def test_ledger_that_is_lost_asks_and_sends_nothing_again(site: Site) -> None:
    site.ledger.unlink()
    prove_restored(site)


def spoil_pages(ledger: Path) -> None:
    """Overwrite the second half of the ledger, where rows are."""
    content = ledger.read_bytes()
    middle = len(content) // (2 * PAGE_BYTES) * PAGE_BYTES
    ledger.write_bytes(content[:middle] + b"\xff" * (len(content) - middle))


def spoil_head(ledger: Path) -> None:
    """Overwrite what lies near the beginning, where the tables of the first migrations have their roots."""
    with ledger.open("r+b") as file:
        file.seek(2 * PAGE_BYTES)
        file.write(b"\xff" * 20000)


def replace_file(ledger: Path) -> None:
    ledger.write_bytes(b"no database " * 1000)


@pytest.mark.parametrize("harm", [spoil_head, spoil_pages, replace_file])
def test_ledger_that_is_damaged_is_refused_and_made_anew_by_the_command_it_names(
    site: Site, harm: Callable[[Path], None]
) -> None:
    harm(site.ledger)
    damaged = site.ledger.read_bytes()
    done = run_radnode("serve", "--settings", site.file, limit_s=LIMIT_S)
    assert (done.returncode, "radnode ledger rebuild" in done.stderr) == (USAGE, True), done.stderr
    assert site.ledger.read_bytes() == damaged
    done = run_radnode("ledger", "rebuild", "--json", "--settings", site.file, limit_s=LIMIT_S)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert Path(told["aside"]).read_bytes() == damaged
    answers = told["restored"]["answers"]
    assert (told["restored"]["instances"], answers["jobs"], answers["pending"]) == (len(STUDIES), len(STUDIES), 0)
    assert {one.state for story in site.stories() for one in story.deliveries} == {DeliveryState.SENT}


@pytest.mark.thorough
def test_result_of_which_nothing_proves_that_it_was_sent_goes_again_with_the_same_bytes(site: Site) -> None:
    site.ledger.unlink()
    shutil.rmtree(site.data_dir / "audit")
    before, held = site.sent(), contents(site.pacs)
    with site.node() as node:
        for uid in STUDIES:
            node.wait_for_study(uid, is_delivered)
    assert {uid: count - before[uid] for uid, count in site.sent().items()} == dict.fromkeys(before, 1)
    assert contents(site.pacs) == held


def contents(pacs: SimulatedPacs) -> dict[str, bytes]:
    return {one.sop_instance_uid: one.path.read_bytes() for one in pacs.record.received}


def test_rebuild_is_refused_beside_a_node_and_where_nothing_is_wrong(site: Site) -> None:
    done = run_radnode("ledger", "rebuild", "--settings", site.file, limit_s=LIMIT_S)
    assert (done.returncode, "nothing is wrong" in done.stderr) == (USAGE, True)
    lock = FolderLock(site.data_dir)
    lock.hold()
    try:
        done = run_radnode("ledger", "rebuild", "--anyway", "--settings", site.file, limit_s=LIMIT_S)
    finally:
        lock.let_go()
    assert (done.returncode, "belongs to a running node" in done.stderr) == (USAGE, True)
    assert not list(site.data_dir.glob("*damaged*"))


def test_rows_without_their_files_are_found(site: Site) -> None:
    for file in (site.data_dir / "store" / "instances").rglob("*.dcm"):
        file.unlink()
        break
    done = run_radnode("ledger", "check", "--settings", site.file, limit_s=LIMIT_S)
    assert (done.returncode, "file is missing" in done.stdout) == (1, True)


@pytest.mark.thorough
def test_ledger_of_a_newer_version_is_refused_and_left_alone(site: Site) -> None:
    with closing(sqlite3.connect(site.ledger)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    before = site.ledger.read_bytes()
    for words in (("up",), ("ledger", "rebuild")):
        done = run_radnode(*words, "--settings", site.file, limit_s=LIMIT_S)
        assert (done.returncode, "run the newer radnode" in done.stderr) == (USAGE, True), done.stderr
    assert site.ledger.read_bytes() == before


def test_ledger_that_is_read_only_at_the_start_is_refused_with_the_remedy(site: Site) -> None:
    with unwritable(site.ledger):
        done = run_radnode("serve", "--settings", site.file, limit_s=LIMIT_S)
    assert (done.returncode, "check rights and space" in done.stderr) == (USAGE, True), done.stderr


def test_ledger_that_is_locked_at_the_start_is_refused_with_the_remedy(site: Site) -> None:
    site.file.write_text(site.file.read_text() + "[ledger]\nbusy_timeout_s = 0.5\n")
    with closing(sqlite3.connect(site.ledger, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        done = run_radnode("serve", "--settings", site.file, limit_s=LIMIT_S)
    assert (done.returncode, "who else holds it locked" in done.stderr) == (USAGE, True), done.stderr


def answers_of(site: Site) -> dict[str, tuple[str, str, bool]]:
    """Return of each Result its Job, its digest, and whether it was taken back."""
    with closing(sqlite3.connect(site.ledger)) as connection:
        found = connection.execute("SELECT sop_instance_uid, job_id, sha256, retracted_at FROM results")
        return {uid: (job_id, sha256, at is not None) for uid, job_id, sha256, at in found}


def take_back(site: Site, uid: str) -> None:
    """Retract the answer of a Study by a person's order, as far as what its own worker writes down."""
    (result, *_) = [uid for uid, kind in results_of(site, uid) if kind == "SR"]
    words = ("results", "retract", result, "--reason", "patient-safety")
    done = run_radnode(*words, "--settings", site.file)
    assert done.returncode == 0, done.stderr + done.stdout


def results_of(site: Site, uid: str) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(site.ledger)) as connection:
        found = connection.execute("SELECT sop_instance_uid, kind FROM results WHERE study_instance_uid = ?", (uid,))
        return found.fetchall()


def copy_of(ledger: Path) -> Path:
    """Return a copy made as operators are told to make it."""
    copy = ledger.with_name("copy.sqlite")
    with closing(sqlite3.connect(ledger)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


def put_back(copy: Path, ledger: Path) -> None:
    for name in ("ledger.sqlite-wal", "ledger.sqlite-shm"):
        ledger.with_name(name).unlink(missing_ok=True)
    copy.replace(ledger)


@pytest.mark.thorough
def test_older_copy_of_the_ledger_revives_nothing_that_was_taken_back_and_asks_nothing_again(site: Site) -> None:
    """A copy of a ledger knows neither the retraction that came after it, nor what was answered since."""
    copy = copy_of(site.ledger)
    forget(copy, STUDIES[1])
    with site.node(launch=Launch(verb="up")) as node:
        take_back(site, STUDIES[0])
        node.wait_for_study(STUDIES[0], lambda story: is_noted(story) and is_delivered(story))
    before, sent = answers_of(site), site.sent()
    put_back(copy, site.ledger)
    with site.node() as node:
        for uid in STUDIES:
            node.wait_for_study(uid, lambda story: story.state == "ROUTED" and is_delivered(story))
    assert answers_of(site) == before
    assert site.sent() == sent
    assert "ledger-was-older" in run_radnode("events", "--json", "--settings", site.file).stdout
    site.ledger.unlink()
    with site.node() as node:
        node.wait_for_study(STUDIES[0], lambda story: story.state == "ROUTED")
    assert answers_of(site) == before


def is_noted(story: StudyStory) -> bool:
    return any(result.kind is ResultKind.REJECTION_NOTE for result in story.results)


def forget(ledger: Path, uid: str) -> None:
    """Make a copy older: the Study had not come yet."""
    with closing(sqlite3.connect(ledger)) as connection:
        for table in ("deliveries", "results", "jobs", "decisions", "receptions", "instances", "series", "studies"):
            connection.execute(f"DELETE FROM {table} WHERE study_instance_uid = ?", (uid,))
        for table in ("events", "study_entries", "series_entries", "worklist"):
            connection.execute(f"DELETE FROM {table} WHERE study_instance_uid = ?", (uid,))
        connection.commit()


def test_ledger_that_is_lost_after_one_question_was_answered_twice_is_made_anew(site: Site) -> None:
    """So a node was left by earlier versions, on which an older copy was put back."""
    earlier = file_earlier_answer(site)
    site.ledger.unlink()
    prove_restored(site)
    assert earlier not in {job_id for job_id, _, _ in answers_of(site).values()}
    assert "answered-twice" in run_radnode("events", "--json", "--settings", site.file).stdout


def file_earlier_answer(site: Site) -> str:
    """Return the Job of an answer to a question that has a later one."""
    card = next((site.data_dir / "store" / "results").rglob("*.json"))
    told = json.loads(card.read_text())
    told["job"] |= {"job_id": "0" * 36, "finished_at": "2026-01-01T00:00:00+00:00"}
    told["results"] = [row | {"job_id": "0" * 36} for row in told["results"]]
    card.with_name("0" * 36 + "-1.json").write_text(json.dumps(told))
    return "0" * 36


def test_rebuild_that_fails_leaves_the_ledger_that_was_there(site: Site) -> None:
    spoil_head(site.ledger)
    damaged = site.ledger.read_bytes()
    # What comes back from the trash meets a file where its folder was.
    (site.data_dir / "store" / ".trash" / "one" / "results" / "1.2").mkdir(parents=True)
    (site.data_dir / "store" / ".trash" / "one" / "results" / "1.2" / "gone.json").touch()
    in_the_way = site.data_dir / "store" / "results" / "1.2"
    in_the_way.touch()
    done = run_radnode("ledger", "rebuild", "--settings", site.file, limit_s=LIMIT_S)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert site.ledger.read_bytes() == damaged
    done = run_radnode("ledger", "check", "--settings", site.file, limit_s=LIMIT_S)
    assert done.returncode in (1, USAGE)
    assert "Everything is there" not in done.stdout
    in_the_way.unlink()
    done = run_radnode("ledger", "rebuild", "--settings", site.file, limit_s=LIMIT_S)
    assert done.returncode == 0, done.stderr
    assert all(story.jobs[0].findings for story in site.stories())
    assert not (site.data_dir / "ledger.rebuilding").exists()


def test_check_tells_what_the_store_holds_and_the_ledger_does_not_know(site: Site) -> None:
    forget(site.ledger, STUDIES[1])
    done = run_radnode("ledger", "check", "--settings", site.file, limit_s=LIMIT_S)
    assert (done.returncode, "not in the ledger" in done.stdout) == (1, True), done.stdout


def spoil_results(ledger: Path) -> None:
    """Overwrite a page that nobody reads who only opens the ledger."""
    with closing(sqlite3.connect(ledger)) as connection:
        found = connection.execute("SELECT rootpage FROM sqlite_master WHERE type = 'table' AND name = 'results'")
        (page,) = found.fetchone()
    with ledger.open("r+b") as file:
        file.seek((page - 1) * PAGE_BYTES)
        file.write(b"\xff" * PAGE_BYTES)


@pytest.mark.parametrize("harm", [spoil_results, spoil_head])
def test_doctor_finds_a_ledger_that_is_damaged(site: Site, harm: Callable[[Path], None]) -> None:
    harm(site.ledger)
    done = run_radnode("doctor", "--json", "--settings", site.file, limit_s=LIMIT_S)
    assert done.returncode == 1, done.stderr
    (found,) = [check for check in json.loads(done.stdout) if check["name"] == "ledger"]
    assert (found["is_right"], "ledger-damaged" in found["said"]) == (False, True), found


def is_gone(store: Path, uid: str) -> bool:
    """Return whether nothing in the store bears the name of a Study; what goes while one looks is not gone yet."""
    try:
        return not list(store.rglob(f"*{uid}*"))
    except FileNotFoundError:
        return False


@pytest.mark.thorough
def test_study_that_was_purged_is_gone_and_answered_no_second_time_when_it_comes_again(site: Site) -> None:
    uid = STUDIES[0]
    purge = ("studies", "purge", uid, "--reason", "for the test", "--settings", site.file)
    done = run_radnode(*purge)
    assert (done.returncode, "less than 10 minutes ago" in done.stdout) == (1, True), done.stdout
    an_hour_ago = (datetime.now(UTC) - timedelta(hours=1)).timestamp()
    for file in (site.data_dir / "store" / "instances").rglob("*.dcm"):
        utime(file, (an_hour_ago, an_hour_ago))
    assert run_radnode(*purge).returncode == 0
    before = site.sent()
    with site.node() as node:
        store = site.data_dir / "store"
        wait_until(lambda: is_gone(store, uid), what="a Study that is gone", limit_s=60.0)
        wait_until(lambda: not list((store / ".trash").iterdir()), what="an empty trash", limit_s=60.0)
        assert not send(films()[:1], node.peer).failed
        story = node.wait_for_study(uid, lambda story: story.state == "ROUTED")
        assert {"study-purged", "job-known"} <= {event.kind for event in story.events}
        assert [job.state for job in story.jobs] == [JobState.COMPLETED]
    assert site.sent() == before
    (record,) = [one for one in read_records(site.data_dir / "audit") if one.kind == "study-purged"]
    assert record.text.endswith(f"of Study {uid} were removed: for the test")


def test_upgrade_with_open_jobs_in_every_state_goes_on_to_completion(site: Site) -> None:
    """Waiting and rung, running by a worker that ended, answered and not delivered, still being received."""
    known = {uid for story in site.stories() for uid in (result.sop_instance_uid for result in story.results)}
    step_back(site.ledger)
    before, held = site.sent(), contents(site.pacs)
    with site.node(launch=Launch(verb="up")) as node:
        for uid in STUDIES:
            story = node.wait_for_study(uid, is_delivered)
            assert [job.state for job in story.jobs] == [JobState.COMPLETED]
    assert {uid for uid, count in site.sent().items() if count > before[uid]} <= known
    again = {uid: content for uid, content in contents(site.pacs).items() if uid in held}
    # The Study that was still being received had no Job yet: its answer is of another time.
    changed = {
        one.study_instance_uid
        for one in site.pacs.record.received
        if again[one.sop_instance_uid] != held[one.sop_instance_uid]
    }
    assert changed <= {STUDIES[3]}


def step_back(ledger: Path) -> None:
    """Replace a ledger by one of the first schema with the same rows, in the middle of its work."""
    head = ledger.with_name("head.sqlite")
    ledger.rename(head)
    engine = open_engine(f"sqlite:///{ledger}", busy_timeout_s=5.0)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    engine.dispose()
    with closing(sqlite3.connect(ledger, isolation_level=None)) as connection:
        connection.execute(f"ATTACH '{head}' AS head")
        for table in (
            "studies",
            "series",
            "instances",
            "receptions",
            "decisions",
            "jobs",
            "results",
            "deliveries",
            "events",
        ):
            old = [row[1] for row in connection.execute(f"PRAGMA main.table_info({table})")]
            new = ["digest" if column == "sha256" and table == "instances" else column for column in old]
            connection.execute(f"INSERT INTO {table} ({', '.join(old)}) SELECT {', '.join(new)} FROM head.{table}")
        unfinish(connection)
    head.unlink()


def unfinish(connection: sqlite3.Connection) -> None:
    """Take back what became of each Study, one in each state."""
    waiting, running, undelivered, arriving = STUDIES
    for uid in (waiting, running, arriving):
        connection.execute("DELETE FROM deliveries WHERE study_instance_uid = ?", (uid,))
        connection.execute("DELETE FROM results WHERE study_instance_uid = ?", (uid,))
    open_job = "findings = '[]', seconds = '{}', finished_at = NULL, reason_code = NULL, model_sha256 = NULL"
    rung = f"UPDATE jobs SET state = 'SCHEDULED', enqueued_at = accepted_at, attempts = 0, {open_job}"
    connection.execute(f"{rung} WHERE study_instance_uid = ?", (waiting,))
    leased = "state = 'IN PROGRESS', lease_owner = 'gone', lease_expires_at = accepted_at, attempts = 1"
    connection.execute(f"UPDATE jobs SET {leased}, {open_job} WHERE study_instance_uid = ?", (running,))
    connection.execute(
        "UPDATE deliveries SET state = 'PENDING', attempts = 2, reason_code = 'destination-down' "
        "WHERE study_instance_uid = ?",
        (undelivered,),
    )
    for table in ("jobs", "decisions"):
        connection.execute(f"DELETE FROM {table} WHERE study_instance_uid = ?", (arriving,))
    connection.execute("UPDATE studies SET state = 'OPEN' WHERE study_instance_uid = ?", (arriving,))
    connection.execute("UPDATE series SET state = 'OPEN' WHERE study_instance_uid = ?", (arriving,))
    connection.execute("UPDATE receptions SET ended_at = NULL WHERE study_instance_uid = ?", (arriving,))
