"""The identity of a question, and what overtakes what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.domain.job import Priority, digest_inputs, digest_versions, is_content
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


def test_a_question_about_versions_is_another_for_each_of_them() -> None:
    one, other = uids(1, 2)
    first, second = {"ct": [(one, "a"), (other, "b")]}, {"ct": [(other, "b"), (one, "c")]}
    by_uid, by_version = digest_inputs({"ct": [one, other]}), digest_versions(first)
    assert by_version not in (by_uid, digest_versions(second))
    assert (is_content(by_uid, first), is_content(by_uid, second)) == (True, True)
    assert (is_content(by_version, first), is_content(by_version, second)) == (True, False)
    assert not is_content(by_uid, {"ct": first["ct"][:1]})


def test_the_urgent_overtakes() -> None:
    assert sorted(Priority, reverse=True) == [Priority.LOW, Priority.ROUTINE, Priority.HIGH, Priority.STAT]
    assert [Priority.from_word(p.word) for p in Priority] == list(Priority)
    with pytest.raises(KeyError):
        Priority.from_word("urgent")
