"""Two nodes that both believe to lead: every station at work twice at once, and nothing is done twice."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from threading import Barrier

import pytest

from node.clock import utc_now
from node.dispatch import BrokerPatience, Dispatch
from node.domain.completeness import Evidence, Terms
from node.domain.job import JobID, JobState
from node.domain.lane import Call
from node.domain.result import DeliveryState
from node.domain.study import InstanceFacts
from node.domain.uids import StudyUID
from node.ledger.bell import BellLedger
from node.ledger.jobs import RetryPolicy
from node.ledger.leadership import Leadership, open_leadership
from node.models import SHIPPED_MODELS, find_model
from node.routing import Routing
from node.rules.grammar import parse_rules
from node.scheduler import Belt, Sharing
from tests.ledgers import Books, assemble, copy_ledger, make_facts, make_outcome, make_result
from tests.peers import wait_until

pytestmark = pytest.mark.usefixtures("database")
STUDIES = tuple(StudyUID(f"1.2.{number}") for number in range(10, 22))
INSTANCES = 4
RULE = {"name": "all CT", "when": {"modality": "CT"}, "run": ["lung_nodules"], "inputs": {"ct": [{"modality": "CT"}]}}
LEASE_S = 60.0
ENDS = Terms(heeded=frozenset({Evidence.ASSOCIATION_END}), after_association_s=0.0, while_open_s=3600.0)


class Bells:
    """A bell that counts."""

    def __init__(self) -> None:
        self.rung: Counter[JobID] = Counter()

    def ring(self, calls: Sequence[Call]) -> None:
        self.rung.update(call.job_id for call in calls)

    def unheard(self) -> frozenset[JobID]:
        return frozenset(self.rung)

    def kept_memory(self) -> bool:
        return True

    def begin_memory(self) -> None:
        """There is none."""


class Half:
    """One of the nodes: its own connections, its own stations, the same ledger."""

    def __init__(self, url: str, name: str) -> None:
        self.books, self.name, self.bells = Books(url), name, Bells()
        models = {"lung_nodules": find_model("ct-nodules", (SHIPPED_MODELS,))}
        rules = parse_rules([RULE], pipelines=models, destinations={"pacs": None})
        patience = BrokerPatience(resend_s=30.0, ageing_s=600.0)
        policy = RetryPolicy(max_attempts=3, pause_s=0.0)
        story = BellLedger(self.books.engine)
        self.stations = {
            "assembly": assemble(self.books, ENDS).tick,
            "routing": Routing(self.books.studies, rules, models).tick,
            "dispatch": Dispatch(self.books.jobs, self.bells, story=story, policy=policy, patience=patience).tick,
            "work": self._work,
            "delivery": self._deliver,
        }
        self.claimed: Counter[JobID] = Counter()

    def tick(self) -> None:
        for tick in self.stations.values():
            tick(utc_now())

    def _work(self, now: datetime) -> None:
        """Answer every Job that is to be had, as workers do."""
        for bell in self.books.jobs.bells_to_ring(now, rung_before=now + timedelta(days=1)):
            job = self.books.jobs.claim_job(bell.job_id, owner=self.name, lease_s=LEASE_S, now=now)
            if job is not None:
                self.claimed[job.job_id] += 1
                number = int(job.order.study_instance_uid.rpartition(".")[2])
                self.books.jobs.finish_job(job, make_outcome(make_result(job, number=number)), now=now)

    def _deliver(self, now: datetime) -> None:
        """Say of everything that is due that it was taken, as couriers do."""
        for delivery in self.books.deliveries.due_deliveries("pacs", now, 100):
            self.books.deliveries.record_sent(delivery, now=now, reason_code=None, reason_text=None)


def at_once(*deeds: Callable[[], None]) -> None:
    """Do all of them, beginning at the same moment; fail with the first error of any."""
    start = Barrier(len(deeds))

    def do(deed: Callable[[], None]) -> None:
        start.wait()
        deed()

    with ThreadPoolExecutor(len(deeds)) as pool:
        for done in [pool.submit(do, deed) for deed in deeds]:
            done.result()


def facts(study: str, number: int, *, node: str) -> InstanceFacts:
    return make_facts(number, study=study, association=f"{node}.{study}", received_at=utc_now())


def test_every_station_twice_at_once_does_everything_once(tmp_path: Path) -> None:
    """Half of each Study comes to each node, and the answers of a Study follow from both halves together."""
    url = copy_ledger(tmp_path)
    first, second = Half(url, "first"), Half(url, "second")

    def receive(half: Half, parity: int) -> None:
        for uid in STUDIES:
            for number in range(parity, INSTANCES, 2):
                half.books.instances.record_arrivals([facts(uid, number, node=half.name)], [])

    def end(half: Half) -> None:
        for uid in STUDIES:
            half.books.instances.end_association(f"{half.name}.{uid}", utc_now())

    def tick(half: Half) -> None:
        for _ in range(5):
            half.tick()

    at_once(lambda: receive(first, 0), lambda: receive(second, 1), lambda: tick(first), lambda: tick(second))
    assert {story.state for story in first.books.view.list_studies(99)} == {"OPEN"}
    at_once(lambda: end(first), lambda: end(second))
    at_once(lambda: tick(first), lambda: tick(second), lambda: tick(first), lambda: tick(second))
    for uid in STUDIES:
        story = first.books.view.study_story(uid)
        assert (story.state, [job.state for job in story.jobs]) == ("ROUTED", [JobState.COMPLETED])
        assert [(one.state, one.attempts) for one in story.deliveries] == [(DeliveryState.SENT, 1)]
        kinds = Counter(event.kind for event in story.events)
        assert {kinds[kind] for kind in ("study-opened", "study-settled", "study-routed", "job-scheduled")} == {1}
        assert {kinds[kind] for kind in ("job-started", "job-completed", "delivery-sent")} == {1}
    assert set((first.claimed + second.claimed).values()) == {1}
    first.books.close()
    second.books.close()


class Turns:
    """A station that says who ticks it, and whether somebody else did at the same time."""

    def __init__(self) -> None:
        self.by: list[str] = []
        self._inside: list[str] = []
        self.met: list[tuple[str, ...]] = []

    def tick(self, name: str) -> None:
        self._inside.append(name)
        if len(set(self._inside)) > 1:
            self.met.append(tuple(self._inside))
        self.by.append(name)
        self._inside.remove(name)


def test_the_belts_of_one_node_turn_and_those_of_another_one_follow_when_it_ends(tmp_path: Path) -> None:
    turns, sweep = Turns(), timedelta(seconds=0.02)
    with ExitStack() as stack:

        def join(name: str) -> tuple[Belt, Leadership]:
            books = Books(copy_ledger(tmp_path))
            stack.callback(books.close)
            leadership = open_leadership(books.engine)
            belt = Belt(
                name,
                {"station": lambda now: turns.tick(name)},
                utc_now,
                sharing=Sharing(leads=leadership.is_ours, sweep=sweep),
            )
            stack.callback(leadership.resign)
            stack.callback(belt.stop)
            belt.start()
            return belt, leadership

        first, its_leadership = join("first")
        wait_until(lambda: "first" in turns.by, what="a turn of the first")
        join("second")
        seen = len(turns.by)
        wait_until(lambda: len(turns.by) > seen + 10, what="more turns")
        assert set(turns.by) == {"first"}
        first.stop()
        its_leadership.resign()
        wait_until(lambda: "second" in turns.by, what="a turn of the second")
    assert turns.by == sorted(turns.by)
    assert not turns.met
