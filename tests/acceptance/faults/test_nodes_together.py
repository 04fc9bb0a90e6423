"""Two nodes on one PostgreSQL, one store and one broker; either is killed, and so is what they share.

The nodes are started as a user starts them, and so is their worker; it answers phantoms with a real Pipeline.
"""

import json
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import psycopg
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import UID

from node.domain.job import JobState
from node.domain.result import DeliveryState
from node.ledger.views import StudyStory
from node.rehearsal.modality import send
from node.rehearsal.pacs import SimulatedPacs
from tests.brokers import Server
from tests.node_process import QUICK, Launch, NodeProcess, destination_table, plain_environment
from tests.peers import Program, wait_until
from tests.phantoms import small_chest_ct, small_chest_xray
from tests.postgresql import Postgres, ask, session

pytestmark = pytest.mark.needs("postgres")
ROOT = Path(__file__).resolve().parents[3]
LIMIT_S = 120.0
SLOTS = 60
SERVE = Launch(verb="serve")


@pytest.fixture(autouse=True)
def _unharmed() -> None:
    """What is harmed here is no receiver."""


@dataclass
class Site:
    """Two nodes, what they share, and the PACS behind them."""

    postgres: Postgres
    nodes: tuple[NodeProcess, NodeProcess]
    pacs: SimulatedPacs
    sent: int = 0

    def leader(self) -> NodeProcess:
        """Return the node that took the lead last."""
        times = {node: taken_at(node) for node in self.nodes}
        return max(self.nodes, key=lambda node: times[node])

    def other(self, node: NodeProcess) -> NodeProcess:
        first, second = self.nodes
        return second if node is first else first

    def film(self) -> Dataset:
        """Return a film of a Study that nobody has seen."""
        self.sent += 1
        ds = deepcopy(small_chest_xray(with_opacity=True).dataset)
        ds.StudyInstanceUID = f"1.2.826.0.1.3680043.10.543.8.{self.sent}"
        ds.SeriesInstanceUID = f"{ds.StudyInstanceUID}.1"
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = UID(f"{ds.StudyInstanceUID}.1.1")
        return ds

    def is_answered_once(self, node: NodeProcess, uid: str) -> StudyStory:
        """Return the story of a Study as soon as everything about it is over; fail unless it was answered once."""
        story = node.wait_for_study(uid, is_over, limit_s=LIMIT_S)
        assert [job.state for job in story.jobs] == [JobState.COMPLETED], [job.reason_text for job in story.jobs]
        assert {one.state for one in story.deliveries} <= {DeliveryState.SENT, DeliveryState.COMMITTED}
        here = [dcmread(one.path) for one in self.pacs.record.received if one.study_instance_uid == uid]
        kinds = Counter(str(ds.Modality) for ds in here)
        assert set(kinds.values()) == {1}, kinds
        assert {str(ds.SOPInstanceUID) for ds in here} == {one.sop_instance_uid for one in story.deliveries}
        return story


def taken_at(node: NodeProcess) -> str:
    """Return when a node took the lead last; empty where it never did."""
    lines = [line for line in (node.folder / "node.log").read_text().splitlines() if '"leadership taken"' in line]
    return str(json.loads(lines[-1])["at"]) if lines else ""


def is_over(story: StudyStory) -> bool:
    return bool(story.jobs) and story.is_finished


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with ExitStack() as stack:
        postgres = stack.enter_context(Postgres("-c", f"max_connections={SLOTS}"))
        postgres.execute("CREATE DATABASE shared")
        broker = Server("valkey", folder)
        stack.callback(broker.stop)
        broker.start()
        pacs = stack.enter_context(SimulatedPacs(folder / "pacs"))
        shared = (
            f'url = "{folder / "store"}"\n[ledger]\nurl = "{postgres.url("shared")}"\n'
            f'[broker]\nurl = "{broker.url}"\n{QUICK}{destination_table(pacs.peer)}'
        )
        nodes = []
        for name in ("first", "second"):
            (folder / name).mkdir()
            nodes.append(stack.enter_context(NodeProcess(folder / name, shared, launch=SERVE)))
        command = [sys.executable, "-m", "node", "worker", "--settings", str(nodes[0].file)]
        worker = Program(command, folder, environment=plain_environment())
        stack.callback(worker.stop)
        worker.start()
        yield Site(postgres=postgres, nodes=(nodes[0], nodes[1]), pacs=pacs)


def send_all(datasets: Sequence[Dataset], node: NodeProcess) -> None:
    report = send(datasets, node.peer)
    assert not report.failed, report.failed
    assert report.sent == len(datasets)


def test_study_over_two_nodes_and_both_their_receivers_is_one_job_and_one_result_set(site: Site) -> None:
    """By two Associations to each node, out of order."""
    datasets = small_chest_ct().datasets
    quarters = [list(reversed(datasets[number::4])) for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(send_all, part, site.nodes[number % 2]) for number, part in enumerate(quarters)]
        for one in done:
            one.result()
    story = site.is_answered_once(site.nodes[0], str(datasets[0].StudyInstanceUID))
    assert sum(line.instances for line in story.series) == len(datasets)
    associations = site.postgres.execute("SELECT DISTINCT association_id FROM receptions", database="shared")
    assert len(associations) == len(quarters)
    assert len({identifier.partition(".")[0] for (identifier,) in associations}) == len(site.nodes)


@pytest.mark.thorough
def test_one_node_leads_and_the_other_one_does_after_it_is_killed(site: Site) -> None:
    """What the killed one had acknowledged is answered by the other one; back again, it leaves the lead to that one."""
    leader = site.leader()
    other = site.other(leader)
    film = site.film()
    send_all([film], leader)
    leader.kill()
    wait_until(lambda: taken_at(other) > taken_at(leader), what="another leader", limit_s=30.0)
    late = site.film()
    send_all([late], other)
    site.is_answered_once(other, str(late.StudyInstanceUID))
    led = taken_at(leader)
    leader.start()
    site.is_answered_once(other, str(film.StudyInstanceUID))
    both = [site.film(), site.film()]
    for one, node in zip(both, site.nodes, strict=True):
        send_all([one], node)
    for one in both:
        site.is_answered_once(other, str(one.StudyInstanceUID))
    assert taken_at(leader) == led


def test_leader_that_is_stopped_in_its_tracks_leaves_everything_to_the_other_one_and_does_nothing_twice(
    site: Site,
) -> None:
    """As a machine that sleeps: its session is ended here at once, where the server would after a minute."""
    leader = site.leader()
    other = site.other(leader)
    leader.process.send_signal(signal.SIGSTOP)
    try:
        holders = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"
        wait_until(
            lambda: site.postgres.execute(f"SELECT pg_terminate_backend(pid) FROM ({holders}) held"),
            what="the session of the leader",
        )
        wait_until(lambda: taken_at(other) > taken_at(leader), what="another leader", limit_s=30.0)
        film = site.film()
        send_all([film], other)
        site.is_answered_once(other, str(film.StudyInstanceUID))
    finally:
        leader.process.send_signal(signal.SIGCONT)
    wait_until(lambda: '"leadership lost"' in (leader.folder / "node.log").read_text(), what="that it knows")
    again = site.film()
    send_all([again], leader)
    site.is_answered_once(other, str(again.StudyInstanceUID))
    assert site.leader() is other


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_postgresql_that_ends_under_load_loses_nothing_and_all_heals(site: Site, end: str) -> None:
    """Both nodes go on to acknowledge, since the bytes are safe; rows and answers follow when it is there again."""
    films = [site.film() for _ in range(12)]
    begun = Event()

    def send_slowly(part: Sequence[Dataset], node: NodeProcess) -> None:
        for ds in part:
            send_all([ds], node)
            begun.set()

    with ThreadPoolExecutor(2) as pool:
        done = [pool.submit(send_slowly, films[number::2], node) for number, node in enumerate(site.nodes)]
        assert begun.wait(LIMIT_S)
        getattr(site.postgres, end)()
        site.postgres.start()
        for one in done:
            one.result()
    for ds in films:
        site.is_answered_once(site.nodes[0], str(ds.StudyInstanceUID))


def test_server_without_a_free_connection_keeps_senders_waiting_and_loses_nothing(site: Site) -> None:
    """Who holds a connection loses it, and others take all there are, until they give them back."""
    films = [site.film(), site.film()]
    with ExitStack() as others, ThreadPoolExecutor(2) as pool:
        first = others.enter_context(session(site.postgres.url("postgres")))
        fill(site, others)
        ask(first, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'shared'")
        fill(site, others)
        known = refusals(site)
        done = [pool.submit(send_all, [film], node) for film, node in zip(films, site.nodes, strict=True)]
        wait_until(lambda: refusals(site) > known, what="a refusal of the server")
        others.close()
        for one in done:
            one.result()
    for film in films:
        site.is_answered_once(site.nodes[0], str(film.StudyInstanceUID))


def fill(site: Site, others: ExitStack) -> None:
    """Take every free slot of the server."""
    with suppress(psycopg.OperationalError):
        while True:
            others.enter_context(session(site.postgres.url("postgres")))


def refusals(site: Site) -> int:
    """Return how often the server said that it has no slot."""
    return (site.postgres.folder / "server.log").read_text(errors="replace").count("too many clients")
