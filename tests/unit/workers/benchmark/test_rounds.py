"""Subjects are measured in turn, and only what was done in a round counts."""

import time
from collections.abc import Callable

from workers.benchmark.rounds import Measurement, Subject, measure_in_turn

# Long enough for the clock of the process, on any machine.
SPENT_S = 0.02


def note(log: list[str], name: str, size: int | None) -> Callable[[], int | None]:
    def run() -> int | None:
        log.append(name)
        return size

    return run


def spend() -> None:
    end = time.process_time() + SPENT_S
    while time.process_time() < end:
        pass


def test_subjects_take_turns_and_the_first_round_does_not_count() -> None:
    log: list[str] = []
    subjects = [Subject(name="a", run=note(log, "a", 7)), Subject(name="b", run=note(log, "b", None))]
    measured = measure_in_turn(subjects, rounds=3)
    assert log == ["a", "b"] * 4
    assert {name: len(one.seconds) for name, one in measured.items()} == {"a": 3, "b": 3}
    assert (measured["a"].size_bytes, measured["b"].size_bytes) == (7, None)


def test_seconds_are_those_of_the_processor_not_of_the_wall() -> None:
    busy = Subject(name="busy", run=spend)
    idle = Subject(name="idle", run=lambda: time.sleep(2 * SPENT_S))
    measured = measure_in_turn([busy, idle], rounds=1)
    assert min(measured["busy"].seconds) >= SPENT_S
    assert max(measured["idle"].seconds) < SPENT_S


def test_a_measurement_is_told_by_its_shortest_and_its_middle_round() -> None:
    told = Measurement(name="a", seconds=(0.5, 0.1, 0.25001), size_bytes=9).as_json()
    assert told == {"name": "a", "min_s": 0.1, "median_s": 0.25, "size_bytes": 9}
