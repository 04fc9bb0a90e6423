"""What the stages of a Job take: each moment once, wherever in the code it is noted."""

from collections.abc import Iterator

import pytest

from workers.stopwatch import Stopwatch, stage


class Elapsed:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def work(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def elapsed() -> Elapsed:
    return Elapsed()


@pytest.fixture
def watch(elapsed: Elapsed) -> Iterator[Stopwatch]:
    with Stopwatch(elapsed_s=elapsed) as running:
        yield running


def test_parts_and_the_rest_of_a_stage_add_up_to_it(watch: Stopwatch, elapsed: Elapsed) -> None:
    elapsed.work(9.0)
    with stage("infer"):
        elapsed.work(1.0)
        with stage("network"):
            elapsed.work(4.0)
        elapsed.work(0.5)
        with stage("network"):
            elapsed.work(2.0)
    elapsed.work(9.0)
    assert watch.seconds == {"infer": 1.5, "infer.network": 6.0}


def test_a_part_inside_a_part_counts_once_and_for_itself(watch: Stopwatch, elapsed: Elapsed) -> None:
    with stage("infer"), stage("network"):
        elapsed.work(1.0)
        with stage("turn"):
            elapsed.work(3.0)
        elapsed.work(1.0)
    assert watch.seconds == {"infer": 0.0, "infer.network": 2.0, "infer.turn": 3.0}


def test_a_stage_that_fails_counts_until_it_failed(watch: Stopwatch, elapsed: Elapsed) -> None:
    def read() -> None:
        elapsed.work(2.0)
        raise ValueError("damaged")

    with stage("prepare"), pytest.raises(ValueError, match="damaged"):
        stage("read")(read)()
    with stage("encode"):
        elapsed.work(1.0)
    assert watch.seconds == {"prepare": 0.0, "prepare.read": 2.0, "encode": 1.0}


def test_what_is_noted_without_a_stopwatch_or_after_it_goes_nowhere(elapsed: Elapsed) -> None:
    with stage("read"):
        elapsed.work(1.0)
    with Stopwatch(elapsed_s=elapsed) as one:
        pass
    with stage("read"):
        elapsed.work(1.0)
    assert one.seconds == {}


def test_a_function_may_be_a_stage(watch: Stopwatch, elapsed: Elapsed) -> None:
    @stage("network")
    def ask() -> str:
        elapsed.work(1.0)
        return "answer"

    with stage("infer"):
        assert (ask(), ask()) == ("answer", "answer")
    assert watch.seconds == {"infer": 0.0, "infer.network": 2.0}
