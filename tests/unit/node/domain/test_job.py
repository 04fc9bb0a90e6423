"""The identity of a question, and what overtakes what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.domain.job import Priority, digest_inputs
from node.domain.uids import InstanceUID


def uids(*numbers: int) -> list[InstanceUID]:
    return [InstanceUID(f"1.2.{number}") for number in numbers]


@given(st.permutations([1, 2, 3, 4]), st.permutations([5, 6]))
def test_content_does_not_depend_on_the_order_of_arrival(ct: list[int], t1: list[int]) -> None:
    asked = digest_inputs({"ct": uids(1, 2, 3, 4), "t1": uids(5, 6)})
    assert digest_inputs({"t1": uids(*t1), "ct": uids(*ct)}) == asked


@pytest.mark.parametrize(
    "other",
    [
        {"ct": uids(1, 2, 3)},
        {"ct": uids(1)},
        {"t1": uids(1, 2)},
        {"ct": uids(1), "t1": uids(2)},
        {"ct": uids(12)},
        {},
    ],
)
def test_other_instances_or_roles_are_another_content(other: dict[str, list[InstanceUID]]) -> None:
    assert digest_inputs(other) != digest_inputs({"ct": uids(1, 2)})


def test_the_urgent_overtakes() -> None:
    assert sorted(Priority, reverse=True) == [Priority.LOW, Priority.ROUTINE, Priority.HIGH, Priority.STAT]
    assert [Priority.from_word(p.word) for p in Priority] == list(Priority)
    with pytest.raises(KeyError):
        Priority.from_word("urgent")
