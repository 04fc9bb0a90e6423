"""One object that fails says little of a Destination, several say much, and one that is taken turns the tables."""

from node.delivery.health import Health
from node.errors import DestinationBusy, DestinationDown, DestinationRefused
from node.peers.parcel import Outcome

LOST = Outcome.retry(DestinationDown("no response"))
BUSY = Outcome.retry(DestinationBusy("status A700H"))
DOUBTFUL = Outcome.retry(DestinationRefused("status C000H"), tries=5)
OURS = Outcome.unreadable("1.2.3", OSError(5, "Input/output error"))
TAKEN = Outcome.sent()
REFUSED = Outcome.refused(DestinationRefused("status A900H"))


def judge(*answers: tuple[int, Outcome]) -> tuple[Health, list[str | None]]:
    """Return who remembers these answers, and the code of what followed from each."""
    health = Health("pacs")
    verdicts = [health.judge(number, outcome) for number, outcome in answers]
    return health, [None if error is None else error.code for error in verdicts]


def test_one_object_that_fails_again_and_again_is_not_the_destination() -> None:
    for outcome in (LOST, BUSY, DOUBTFUL):
        health, codes = judge((1, outcome), (1, outcome), (1, outcome))
        assert codes == [None] * 3
        assert not health.excuses(1)


def test_two_objects_in_a_row_are() -> None:
    assert judge((1, LOST), (2, LOST))[1] == [None, "destination-down"]
    for outcome in (BUSY, DOUBTFUL):
        health, codes = judge((1, outcome), (2, outcome), (1, outcome))
        assert codes == [None, "destination-busy", "destination-busy"]
        assert health.excuses(1)
        assert health.excuses(2)


def test_what_failed_before_one_was_taken_is_at_fault_itself() -> None:
    health, codes = judge((1, DOUBTFUL), (9, TAKEN), (2, DOUBTFUL), (9, TAKEN), (1, DOUBTFUL), (2, DOUBTFUL), (1, LOST))
    assert codes == [None] * 7
    assert not health.excuses(1)
    # Others may fail with the Destination all the same.
    assert health.judge(3, DOUBTFUL) is None
    assert isinstance(health.judge(4, DOUBTFUL), DestinationBusy)


def test_a_refusal_shows_that_somebody_is_there_and_not_that_anything_is_taken() -> None:
    assert judge((1, LOST), (2, REFUSED), (3, LOST))[1] == [None] * 3
    assert judge((1, BUSY), (2, REFUSED), (3, BUSY))[1] == [None, None, "destination-busy"]


def test_our_own_files_say_nothing_of_a_destination() -> None:
    health, codes = judge((1, OURS), (2, OURS), (3, OURS))
    assert codes == [None] * 3
    assert not health.excuses(3)


def test_a_suspect_that_ended_otherwise_is_forgotten() -> None:
    health, _ = judge((1, BUSY), (9, TAKEN))
    assert health.suspects == {1}
    health.forget([1])
    assert health.suspects == frozenset()
    assert judge((1, BUSY), (2, BUSY))[1][-1] == "destination-busy"


def test_what_was_settled_is_forgotten() -> None:
    health, _ = judge((1, BUSY), (2, BUSY), (2, TAKEN), (1, TAKEN))
    assert health.judge(1, BUSY) is None
    assert isinstance(health.judge(2, BUSY), DestinationBusy)
