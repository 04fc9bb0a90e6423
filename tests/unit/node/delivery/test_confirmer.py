"""The confirmer asks in the best way there is, waits, asks otherwise, and in the end tells a person."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from node.delivery.confirmer import TICK_LIMIT
from node.delivery.inquiry import TakeReport, Way
from node.domain.confirmation import CommitmentReport, ConfirmBy, Unproven
from node.errors import DestinationBusy, DestinationDown
from tests.ledgers import STUDY, make_facts
from tests.proofs import AFTER_S, TRIES, WAIT_S, Proving

# After how long something is looked for again that a query did not find.
LOOKS_S = (3 * AFTER_S, WAIT_S / 6, WAIT_S)
HOUR_S = 3600.0
BOTH = (Way.COMMITMENT, Way.FIND)


@dataclass
class Scripted:
    """A Destination that says what the test wants."""

    ways: tuple[Way, ...] = BOTH
    held: frozenset[str] = frozenset()
    takes_requests: bool = True
    is_down: bool = False
    is_busy: bool = False
    # Questions over which it ends the conversation.
    breaks_over: frozenset[Way] = frozenset()
    requests: list[tuple[str, int]] = field(default_factory=list)
    queries: list[int] = field(default_factory=list)
    opened: int = 0
    # What it reports when it is listened to.
    says: CommitmentReport | None = None
    take_report: TakeReport | None = None

    @contextmanager
    def open(self, take_report: TakeReport) -> Iterator["Scripted"]:
        self.opened += 1
        if self.is_down:
            raise DestinationDown("nobody is there")
        self.take_report = take_report
        yield self

    def request(self, transaction_uid: str, objects: Sequence[Unproven]) -> bool:
        self.requests.append((transaction_uid, len(objects)))
        self._break(Way.COMMITMENT)
        return self.takes_requests

    def find(self, objects: Sequence[Unproven], count_sent: Callable[[str], int]) -> frozenset[str]:
        self.queries.append(len(objects))
        self._break(Way.FIND)
        if self.is_busy:
            raise DestinationBusy("not now")
        return self.held

    def _break(self, way: Way) -> None:
        if way in self.breaks_over:
            raise DestinationDown("ended the Association instead of answering")

    def listen(self, within_s: float) -> bool:
        if self.says is not None and self.take_report is not None:
            self.take_report(self.says)
            self.says = None
            return True
        return False


@dataclass
class Bench:
    """The station, its ledger with two objects that were taken at noon, and the Destination."""

    proving: Proving
    peer: Scripted
    uids: frozenset[str]

    def tick(self, second: float) -> float | None:
        next_at = self.proving.tick(second)
        return None if next_at is None else (next_at - self.proving.now).total_seconds() + second

    @property
    def states(self) -> list[str]:
        return self.proving.states


@pytest.fixture
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    peer = Scripted()
    confirm = getattr(request, "param", ConfirmBy.AUTO)
    proving = Proving(tmp_path, peer.open, confirm=confirm)
    found = [make_facts(1), make_facts(2, series=2)]
    for facts in found:
        proving.books.instances.record_instance(facts)
        proving.order(facts)
    proving.note_sent()
    yield Bench(proving=proving, peer=peer, uids=frozenset(facts.sop_instance_uid for facts in found))
    proving.close()


def follow(bench: Bench, at_s: float) -> float:
    """Call the station each time that it asks for it, until nothing is left to be asked; return when that was."""
    again_at = bench.tick(at_s)
    while again_at is not None:
        assert bench.peer.opened < 30
        at_s, again_at = again_at, bench.tick(again_at)
    return at_s


def with_setting(confirm: ConfirmBy) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("bench", [confirm], indirect=True)


def test_nobody_is_asked_before_it_is_time(bench: Bench) -> None:
    assert bench.tick(AFTER_S - 1) == AFTER_S
    assert bench.peer.opened == 0


def test_storage_commitment_comes_first_with_one_transaction_a_study(bench: Bench) -> None:
    assert bench.tick(AFTER_S) == AFTER_S + WAIT_S
    assert [count for _, count in bench.peer.requests] == [2]
    assert (bench.peer.queries, bench.states) == ([], ["SENT", "SENT"])


def test_what_left_a_moment_later_is_asked_about_in_the_same_transaction(bench: Bench) -> None:
    for number, second in ((3, AFTER_S / 4), (4, AFTER_S * 0.9)):
        facts = make_facts(number)
        bench.proving.books.instances.record_instance(facts)
        bench.proving.order(facts)
        bench.proving.note_sent(second)
    bench.tick(AFTER_S - 1)
    assert bench.peer.opened == 0
    assert bench.tick(AFTER_S) == AFTER_S * 1.9
    assert [count for _, count in bench.peer.requests] == [3]


def test_a_report_in_the_same_conversation_is_committed(bench: Bench) -> None:
    bench.peer.takes_requests = True
    asked: list[str] = []

    def report(transaction_uid: str, objects: Sequence[Unproven]) -> bool:
        asked.append(transaction_uid)
        bench.peer.says = CommitmentReport(transaction_uid=transaction_uid, held=bench.uids)
        return True

    bench.peer.request = report  # type: ignore[method-assign]  # the test's own double
    assert bench.tick(AFTER_S) is None
    assert bench.states == ["COMMITTED", "COMMITTED"]


def test_a_report_that_is_late_leads_to_a_query(bench: Bench) -> None:
    bench.tick(AFTER_S)
    bench.peer.held = bench.uids
    assert bench.tick(AFTER_S + WAIT_S) is None
    # One query a Series.
    assert (bench.peer.queries, bench.states) == ([1, 1], ["COMMITTED", "COMMITTED"])


@with_setting(ConfirmBy.COMMITMENT)
def test_without_a_query_the_same_transaction_is_asked_again_and_then_a_person_is_told(bench: Bench) -> None:
    bench.peer.ways = (Way.COMMITMENT,)
    for question in range(TRIES):
        bench.tick(AFTER_S + question * WAIT_S)
    assert [count for _, count in bench.peer.requests] == [2, 2]
    assert len({uid for uid, _ in bench.peer.requests}) == 1
    assert bench.tick(AFTER_S + TRIES * WAIT_S) is None
    assert len(bench.peer.requests) == TRIES
    assert bench.states == ["SENT", "SENT"]
    assert list(bench.proving.events(study=STUDY))[-2:] == [
        ("delivery-unconfirmed", True),
        ("delivery-unconfirmed", False),
    ]


def test_a_request_that_is_refused_leads_to_a_query_at_once(bench: Bench) -> None:
    bench.peer.takes_requests, bench.peer.held = False, bench.uids
    bench.tick(AFTER_S)
    assert bench.states == ["COMMITTED", "COMMITTED"]


def test_what_a_query_misses_is_looked_for_again_before_it_is_sent_again(bench: Bench) -> None:
    bench.peer.ways, bench.peer.held = (Way.FIND,), frozenset(sorted(bench.uids)[:1])
    at_s = AFTER_S
    for pause_s in LOOKS_S:
        assert bench.tick(at_s) == at_s + pause_s
        assert bench.states == ["COMMITTED", "SENT"]
        at_s += pause_s
    bench.tick(at_s)
    assert bench.states == ["COMMITTED", "PENDING"]
    assert (bench.proving.deliveries[1].reason_code, bench.proving.questions) == ("not-held", [(0, 3, 1)])
    assert bench.proving.wakes == 1


def test_a_query_that_never_found_anything_proves_no_loss(bench: Bench) -> None:
    bench.peer.ways = (Way.FIND,)
    at_s = follow(bench, AFTER_S)
    assert bench.states == ["SENT", "SENT"]
    assert {delivery.reason_code for delivery in bench.proving.deliveries} == {"unconfirmed"}
    assert [told for _, told in bench.proving.events(study=STUDY)].count(True) == 1
    assert (bench.proving.wakes, at_s) == (0, AFTER_S + sum(LOOKS_S) + TRIES * WAIT_S)


def test_a_kind_that_is_never_listed_is_not_lost(bench: Bench) -> None:
    listed = make_facts(3)
    bench.proving.books.instances.record_instance(listed)
    bench.proving.order(replace(listed, sop_class_uid="1.2.3"))
    bench.proving.note_sent()
    bench.peer.ways, bench.peer.held = (Way.FIND,), frozenset({listed.sop_instance_uid})
    follow(bench, AFTER_S)
    assert bench.states == ["SENT", "SENT", "COMMITTED"]


def test_what_a_way_found_is_known_after_a_restart(bench: Bench) -> None:
    bench.peer.ways, bench.peer.held = (Way.FIND,), frozenset(sorted(bench.uids)[:1])
    bench.tick(AFTER_S)
    bench.proving.hire()
    at_s = AFTER_S
    for pause_s in LOOKS_S:
        at_s += pause_s
        bench.tick(at_s)
    assert bench.states == ["COMMITTED", "PENDING"]


def test_what_is_found_at_the_second_look_was_not_lost(bench: Bench) -> None:
    bench.peer.ways = (Way.FIND,)
    bench.tick(AFTER_S)
    bench.peer.held = bench.uids
    bench.tick(4 * AFTER_S)
    assert bench.states == ["COMMITTED", "COMMITTED"]
    assert bench.proving.wakes == 0


def test_a_query_that_is_not_answered_is_asked_again_and_then_a_person_is_told(bench: Bench) -> None:
    bench.peer.ways, bench.peer.is_busy = (Way.FIND,), True
    for question in range(TRIES):
        assert bench.tick(AFTER_S + question * WAIT_S) == AFTER_S + (question + 1) * WAIT_S
    bench.tick(AFTER_S + TRIES * WAIT_S)
    assert bench.peer.queries == [1, 1] * TRIES
    assert {delivery.reason_code for delivery in bench.proving.deliveries} == {"unconfirmed"}


def test_a_destination_that_is_down_is_called_with_growing_pauses_and_no_question_is_lost(bench: Bench) -> None:
    bench.peer.is_down = True
    assert bench.tick(10.0) == 14.0
    assert bench.tick(12.0) == 14.0
    assert bench.tick(14.0) == 22.0
    assert (bench.peer.opened, bench.proving.questions) == (2, [(0, 0, 0)] * 2)
    bench.peer.is_down, bench.peer.ways, bench.peer.held = False, (Way.FIND,), bench.uids
    bench.tick(22.0)
    assert bench.states == ["COMMITTED", "COMMITTED"]


def test_a_clock_that_is_set_back_does_not_stretch_a_pause(bench: Bench) -> None:
    bench.peer.is_down = True
    bench.tick(7200.0)
    bench.peer.is_down = False
    bench.tick(AFTER_S)
    assert bench.peer.requests


def test_a_destination_that_offers_nothing_is_not_asked_any_more(bench: Bench) -> None:
    bench.peer.ways = ()
    assert bench.tick(AFTER_S) is None
    assert (bench.proving.questions, bench.states) == ([], ["SENT", "SENT"])


@with_setting(ConfirmBy.QUERY)
def test_a_way_that_is_wanted_and_not_offered_needs_a_person(bench: Bench) -> None:
    bench.peer.ways = ()
    for question in range(TRIES + 1):
        bench.tick(AFTER_S + question * WAIT_S)
    assert ("delivery-unconfirmed", True) in bench.proving.events(study=STUDY)


def test_a_destination_that_aborts_over_a_question_is_asked_otherwise(bench: Bench) -> None:
    bench.peer.breaks_over, bench.peer.held = frozenset({Way.COMMITMENT}), bench.uids
    first, second = bench.tick(AFTER_S), bench.tick(AFTER_S + 4.0)
    assert (first, second) == (AFTER_S + 4.0, AFTER_S + 12.0)
    assert (bench.proving.questions, bench.peer.queries) == ([(0, 0, 0)] * 2, [])
    bench.tick(AFTER_S + 12.0)
    assert bench.states == ["COMMITTED", "COMMITTED"]


def test_a_destination_that_aborts_over_every_question_is_left_alone(bench: Bench) -> None:
    bench.peer.breaks_over = frozenset(BOTH)
    at_s = follow(bench, AFTER_S)
    # Two aborts over each way, and one look at what it offers, an hour apart; then a person is told.
    assert bench.peer.opened <= 5 * TRIES
    assert at_s >= AFTER_S + TRIES * HOUR_S
    assert {delivery.reason_code for delivery in bench.proving.deliveries} == {"unconfirmed"}


def test_a_short_hang_leaves_every_object_to_be_asked_about(bench: Bench) -> None:
    bench.peer.breaks_over = frozenset(BOTH)
    at_s = AFTER_S
    while at_s < HOUR_S:
        again_at = bench.tick(at_s)
        assert again_at is not None
        at_s = again_at
    assert bench.states == ["SENT", "SENT"]
    bench.peer.breaks_over, bench.peer.held = frozenset(), bench.uids
    bench.tick(at_s)
    assert bench.states == ["COMMITTED", "COMMITTED"]


def test_an_offer_of_nothing_after_a_break_is_not_believed_at_once(bench: Bench) -> None:
    bench.peer.breaks_over = frozenset({Way.COMMITMENT})
    again_at = bench.tick(AFTER_S)
    assert again_at is not None
    bench.peer.ways = ()
    assert bench.tick(again_at) == AFTER_S + HOUR_S
    assert bench.tick(AFTER_S + HOUR_S) is None
    assert bench.proving.questions == []


def test_who_aborts_after_its_answer_is_not_down(bench: Bench) -> None:
    def abort(_: float) -> bool:
        raise DestinationDown("ended the Association instead of answering")

    bench.peer.listen = abort  # type: ignore[method-assign,assignment]  # the test's own double
    assert bench.tick(AFTER_S) == AFTER_S + WAIT_S
    assert bench.proving.questions == [(1, 0, 0)] * 2


def test_a_long_conversation_ends_between_two_studies(bench: Bench) -> None:
    for number in (3, 4):
        facts = make_facts(number, study=f"{STUDY}{number}")
        bench.proving.books.instances.record_instance(facts)
        bench.proving.order(facts)
    bench.proving.note_sent()

    def find(objects: Sequence[Unproven], _: Callable[[str], int]) -> frozenset[str]:
        bench.peer.queries.append(len(objects))
        bench.proving.now += TICK_LIMIT
        return frozenset(one.sop_instance_uid for one in objects)

    bench.peer.ways, bench.peer.find = (Way.FIND,), find  # type: ignore[method-assign,assignment]  # the test's own double
    for done in range(1, 5):
        bench.tick(done * AFTER_S)
        assert len(bench.peer.queries) == done
    assert bench.states == ["COMMITTED"] * 4


def test_who_aborted_once_is_trusted_again_after_an_answer(bench: Bench) -> None:
    bench.peer.breaks_over = frozenset({Way.FIND})
    bench.peer.ways = (Way.FIND,)
    again_at = bench.tick(AFTER_S)
    assert again_at is not None
    bench.peer.breaks_over, bench.peer.held = frozenset(), bench.uids
    bench.tick(again_at)
    assert bench.states == ["COMMITTED", "COMMITTED"]


@with_setting(ConfirmBy.NONE)
def test_a_destination_that_is_not_to_be_asked_is_not_called(bench: Bench) -> None:
    assert bench.tick(0.0) is None
    assert (bench.peer.opened, bench.proving.questions, bench.states) == (0, [], ["SENT", "SENT"])


def test_what_was_lost_goes_again_while_the_destination_cannot_be_asked(bench: Bench) -> None:
    bench.peer.is_down = True
    bench.tick(AFTER_S)
    for delivery in bench.proving.deliveries:
        bench.proving.ledger.record_missing([delivery.delivery_id], by="C-FIND", now=bench.proving.now)
    bench.tick(AFTER_S + 1)
    assert (bench.peer.opened, bench.states) == (1, ["PENDING", "PENDING"])
