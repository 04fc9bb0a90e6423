"""A PACS that takes objects and loses them is found out: it is asked, and what it lost is sent again, once."""

from collections.abc import Iterator

import pytest

from node.domain.uids import StudyUID
from node.ledger.views import StudyStory
from node.rehearsal.pacs import Misbehavior, SimulatedPacs
from tests.instances import STUDY, ct_slice, encode
from tests.node_process import Launch, NodeProcess, run_radnode
from tests.pdus import STORAGE_ID, Response, Wire, associated, message, store_rq

KEPT, LOST = 1, 2
SETTINGS = """
[assembly]
quiet_seconds = 0.2

[delivery]
first_retry_seconds = 0.5
confirm_after_seconds = 0.5
confirm_minutes = 0.1

[[rules]]
name = "everything"
forward = ["pacs", "archive", "shelf"]
[rules.when]
modality = "CT"
"""
DESTINATION = (
    '\n[destinations.{name}]\ntransport = "cstore"\naet = "{peer.aet}"\nhost = "{peer.host}"\nport = {peer.port}\n'
)


@pytest.fixture(autouse=True)
def _unharmed() -> None:
    """What is harmed here is no receiver."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[NodeProcess, SimulatedPacs, SimulatedPacs]]:
    """Return a node whose PACS reports what it holds, whose archive can only be asked, and both lost what they took."""
    folder = tmp_path_factory.mktemp("node")
    shelf = f'\n[destinations.shelf]\ntransport = "folder"\nurl = "{folder / "shelf"}"\n'
    with (
        SimulatedPacs(tmp_path_factory.mktemp("pacs"), aet="PACS") as pacs,
        SimulatedPacs(tmp_path_factory.mktemp("archive"), aet="ARCHIVE") as archive,
    ):
        peers = {"pacs": pacs.peer, "archive": archive.peer}
        tables = "".join(DESTINATION.format(name=name, peer=peer) for name, peer in peers.items())
        with NodeProcess(folder, SETTINGS + tables + shelf, launch=Launch(verb="serve")) as running:
            pacs.offer_commitment(running.peer)
            # Who was never seen to find anything is not believed that something is lost.
            with associated(running.peer) as wire:
                assert store(wire, "1.2.3.4.9").status == 0
                wire.release()
            running.wait_for_study(STUDY, lambda story: is_proven(story, KEPT))
            for one in (pacs, archive):
                one.change(Misbehavior(lost_count=LOST))
            with associated(running.peer) as wire:
                for number in range(1, LOST + 1):
                    assert store(wire, f"1.2.3.4.{number}").status == 0
                wire.release()
            running.wait_for_study(STUDY, lambda story: is_proven(story, KEPT + LOST))
            yield running, pacs, archive


def store(wire: Wire, uid: str) -> Response:
    encoded = encode(ct_slice(sop_instance_uid=uid))
    wire.send(message(STORAGE_ID, store_rq(1, sop_instance_uid=uid), encoded))
    answer = wire.answer()
    assert isinstance(answer, Response)
    return answer


def is_proven(story: StudyStory, count: int) -> bool:
    states = sorted(delivery.state.value for delivery in story.deliveries)
    return states == ["COMMITTED"] * 2 * count + ["SENT"] * count


def test_what_was_lost_is_sent_again_once_and_then_proven(
    site: tuple[NodeProcess, SimulatedPacs, SimulatedPacs],
) -> None:
    _, pacs, archive = site
    for one in (pacs, archive):
        assert len(one.record.received) == KEPT + LOST
        assert one.record.requests == KEPT + 2 * LOST
    assert pacs.record.commitment_requests >= 2
    # What is reported late on a busy machine is asked by query there as well.
    assert archive.record.commitment_requests == 0
    # One found at once; of the others four looks found nothing, and the fifth did.
    assert archive.record.queries >= 6


def test_the_time_line_tells_of_loss_and_proof(site: tuple[NodeProcess, SimulatedPacs, SimulatedPacs]) -> None:
    node, _, _ = site
    events = [event for event in node.view.study_story(StudyUID(STUDY)).events if event.kind.startswith("delivery-")]
    kinds = [event.kind for event in events]
    assert (kinds.count("delivery-lost"), kinds.count("delivery-committed")) == (2 * LOST, 2 * (KEPT + LOST))
    assert not any(event.is_alarm for event in events)
    assert {text.rsplit(": ")[-1] for text in (e.text for e in events if e.kind == "delivery-committed")} == {
        "Storage Commitment",
        "C-FIND",
    }


def test_the_doctor_tells_how_each_destination_proves_what_it_holds(
    site: tuple[NodeProcess, SimulatedPacs, SimulatedPacs],
) -> None:
    node, _, _ = site
    told = run_radnode("doctor", "--settings", node.file, "--json").stdout
    for words in (
        "proves what it holds by Storage Commitment or C-FIND",
        "proves what it holds by C-FIND",
        "nothing beyond",
    ):
        assert words in told
